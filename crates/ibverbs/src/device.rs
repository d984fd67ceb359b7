//! The list of devices, and what can be told of one that isn't open.

use crate::boundary::{null, set_errno};
use crate::{backend, settings};
use libc::{EINVAL, ENOSYS, c_char, c_int, size_t, ssize_t};
use rdma_verbs_sys::{__be64, IBV_NODE_CA, IBV_TRANSPORT_IB, ibv_device};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;

/// Zeros that stand behind each `ibv_device`: providers of hardware look there for their own (`verbs_device`).
const BEHIND: usize = 256;

/// A device, as programs hold it. It is made once and stays.
#[repr(C)]
pub(crate) struct Device {
    c: UnsafeCell<ibv_device>,
    _behind: [u8; BEHIND],
    /// Its place in the list.
    index: usize,
    guid: u64,
}

// SAFETY: programs may read it from any thread, and nobody writes what it was made with.
unsafe impl Sync for Device {}
// SAFETY: as above.
unsafe impl Send for Device {}

static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();

/// The GUID of a device with that address: an EUI-64 of a locally administered number, in which devices of one address
/// differ.
fn guid(index: usize, address: IpAddr) -> u64 {
    let low = match address {
        IpAddr::V4(v4) => u32::from(v4),
        // The interface's part of the address is what tells hosts apart.
        IpAddr::V6(v6) => {
            v6.segments()[4..].iter().fold(0, |sum, part| sum ^ u32::from(*part).rotate_left(sum & 16))
        }
    };
    let [a, b, c, d] = low.to_be_bytes();
    let index = u8::try_from(index).unwrap_or(u8::MAX);
    u64::from_be_bytes([0x02, 0x53, 0x52 ^ index, 0xff, 0xfe ^ a, b, c, d])
}

impl Device {
    fn new(index: usize, name: &str, address: IpAddr) -> Self {
        // SAFETY: an `ibv_device` is numbers and function pointers that may be null.
        let mut c: ibv_device = unsafe { std::mem::zeroed() };
        c.node_type = IBV_NODE_CA;
        c.transport_type = IBV_TRANSPORT_IB;
        write(&mut c.name, name);
        write(&mut c.dev_name, &format!("uverbs{index}"));
        write(&mut c.dev_path, &format!("/sys/class/infiniband_verbs/uverbs{index}"));
        write(&mut c.ibdev_path, &format!("/sys/class/infiniband/{name}"));
        Self { c: UnsafeCell::new(c), _behind: [0; BEHIND], index, guid: guid(index, address) }
    }

    /// The devices; none while this host hasn't the addresses that they use.
    pub(crate) fn all() -> &'static [Self] {
        if let Some(devices) = DEVICES.get() {
            return devices;
        }
        let asked = settings::devices();
        let device = |index| {
            let interface = backend::interface(asked.address(index))?;
            Some(Self::new(index, &asked.name(index), interface.address))
        };
        match (0..asked.count()).map(device).collect() {
            Some(devices) => DEVICES.get_or_init(|| devices),
            None => &[],
        }
    }

    /// Its place in the list.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Its GUID.
    pub(crate) fn guid(&self) -> u64 {
        self.guid
    }

    pub(crate) fn c(&self) -> *mut ibv_device {
        self.c.get()
    }

    /// The device that a program means.
    pub(crate) fn of(c: *mut ibv_device) -> Option<&'static Self> {
        DEVICES.get()?.iter().find(|device| device.c() == c)
    }
}

/// Writes `text` and a 0 into `place`, as much as fits.
pub(crate) fn write(place: &mut [c_char], text: &str) {
    let room = place.len().saturating_sub(1);
    let bytes = text.bytes().take(room).chain([0]);
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = c_char::from_ne_bytes([from]);
    }
}

export! {
    "IBVERBS_1.1", std::ptr::null_mut(),
    /// ibv_get_device_list(3).
    fn ibv_get_device_list(num_devices: *mut c_int) -> *mut *mut ibv_device {
        let devices = Device::all();
        // SAFETY: pointers of zeros, one more than devices; the program gives them back to ibv_free_device_list.
        let list: *mut *mut ibv_device =
            unsafe { libc::calloc(devices.len() + 1, size_of::<*mut ibv_device>()) }.cast();
        if list.is_null() {
            return null(libc::ENOMEM);
        }
        for (at, device) in devices.iter().enumerate() {
            // SAFETY: the list has room for each.
            unsafe { list.add(at).write(device.c()) };
        }
        if !num_devices.is_null() {
            // SAFETY: the program gave a place for the number.
            unsafe { num_devices.write(c_int::try_from(devices.len()).unwrap_or(c_int::MAX)) };
        }
        list
    }

    "IBVERBS_1.1", (),
    /// ibv_free_device_list(3).
    fn ibv_free_device_list(list: *mut *mut ibv_device) {
        // SAFETY: it came from ibv_get_device_list, which had it from calloc.
        unsafe { libc::free(list.cast()) };
    }

    "IBVERBS_1.1", std::ptr::null(),
    /// ibv_get_device_name(3).
    fn ibv_get_device_name(device: *mut ibv_device) -> *const c_char {
        // SAFETY: the program has it from the list, whose devices stay.
        unsafe { (&raw const (*device).name).cast() }
    }

    "IBVERBS_1.1", 0,
    /// ibv_get_device_guid(3): in network byte order.
    fn ibv_get_device_guid(device: *mut ibv_device) -> __be64 {
        Device::of(device).map_or(0, Device::guid).to_be()
    }

    "IBVERBS_1.9", -1,
    /// ibv_get_device_index(3).
    fn ibv_get_device_index(device: *mut ibv_device) -> c_int {
        Device::of(device).and_then(|device| c_int::try_from(device.index()).ok()).unwrap_or(-1)
    }

    "IBVERBS_1.0", std::ptr::null(),
    /// Where sysfs is mounted.
    fn ibv_get_sysfs_path() -> *const c_char {
        c"/sys".as_ptr()
    }

    "IBVERBS_1.0", -1,
    /// Reads the file `file` in the directory `dir` into `buf`, without the newline at its end; returns how many
    /// bytes it has.
    fn ibv_read_sysfs_file(dir: *const c_char, file: *const c_char, buf: *mut c_char, size: size_t) -> c_int {
        // SAFETY: the program gave two C strings.
        let (dir, file) = unsafe { (CStr::from_ptr(dir), CStr::from_ptr(file)) };
        let (Ok(dir), Ok(file)) = (dir.to_str(), file.to_str()) else {
            set_errno(EINVAL);
            return -1;
        };
        let mut bytes = match std::fs::read(Path::new(dir).join(file)) {
            Ok(bytes) => bytes,
            Err(error) => {
                set_errno(error.raw_os_error().unwrap_or(ENOSYS));
                return -1;
            }
        };
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let len = bytes.len().min(size);
        // SAFETY: the program has room for `size` bytes there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buf.cast(), len) };
        if len < size {
            // SAFETY: as above, and one byte of it is left.
            unsafe { buf.add(len).write(0) };
        }
        c_int::try_from(len as ssize_t).unwrap_or(-1)
    }
}
