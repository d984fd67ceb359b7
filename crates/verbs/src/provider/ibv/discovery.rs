//! The devices that libibverbs knows.

use super::made;
use core::ffi::CStr;
use core::ptr::NonNull;
use rdma_verbs_sys::{Library, ibv_device};
use std::io;

/// The list of devices; each stays valid as long as the list, and an open one beyond it.
pub(crate) struct List {
    library: &'static Library,
    raw: NonNull<*mut ibv_device>,
    len: usize,
}

impl List {
    /// Asks for it. A kernel without RDMA has no devices; that is no error.
    pub(crate) fn new(library: &'static Library) -> io::Result<Option<Self>> {
        let mut len = 0;
        // SAFETY: the library writes the number of devices to `len` and returns an array of as many pointers, or null.
        let list = unsafe { library.ibv_get_device_list(&raw mut len) };
        match made(list) {
            Ok(raw) => Ok(Some(Self { library, raw, len: usize::try_from(len).unwrap_or(0) })),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Each device with its name.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (NonNull<ibv_device>, String)> {
        (0..self.len).filter_map(|at| {
            // SAFETY: the array has `len` elements.
            let place = unsafe { self.raw.add(at) };
            // SAFETY: the array was filled by the library and lives as long as this list.
            let device = NonNull::new(unsafe { place.read() })?;
            // SAFETY: the device is one of a list that still exists.
            let name = unsafe { self.library.ibv_get_device_name(device.as_ptr()) };
            if name.is_null() {
                return None;
            }
            // SAFETY: a device's name is a string that ends with a zero byte and lives as long as the device.
            let name = unsafe { CStr::from_ptr(name) };
            Some((device, name.to_string_lossy().into_owned()))
        })
    }

    /// The devices' names, for an error message.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.devices().map(|(_, name)| name).collect();
        names.join(", ")
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list was made by this library and is freed once; open devices keep theirs.
        unsafe { self.library.ibv_free_device_list(self.raw.as_ptr()) };
    }
}

/// The names of all devices; none where there is no libibverbs or no RDMA in the kernel.
pub(crate) fn names() -> Vec<String> {
    let list = Library::get().ok().and_then(|library| List::new(library).ok().flatten());
    list.map(|list| list.devices().map(|(_, name)| name).collect()).unwrap_or_default()
}
