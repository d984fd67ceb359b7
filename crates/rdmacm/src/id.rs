//! Ids.

use crate::abi::{
    RDMA_PS_IPOIB, RDMA_PS_UDP, Zeroed, ibv_sa_path_rec, rdma_cm_event, rdma_cm_id, rdma_event_channel,
};
use crate::address;
use crate::boundary::result;
use crate::channel::Channel;
use crate::multicast::Group;
use crate::session::{call, device, done};
use libc::{EINVAL, EIO, c_int, c_void};
use rdma_verbs_sys::{IBV_QPT_RC, IBV_QPT_UD, ibv_gid, ibv_qp_init_attr};
use rocev2_agent::cm::protocol::{Addresses, Reply, Request};
use std::cell::UnsafeCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The default partition's key, in network byte order.
const PARTITION: u16 = 0xffff;

/// An id.
#[repr(C)]
pub(crate) struct Id {
    c: UnsafeCell<rdma_cm_id>,
    /// The agent's number for it.
    pub(crate) number: u32,
    private: Mutex<Private>,
    acknowledged: Condvar,
}

/// What the program doesn't see.
pub(crate) struct Private {
    /// It has a channel of its own, and calls wait for their events.
    pub(crate) sync: bool,
    /// Events that the program was given, and those that it is done with.
    reported: u64,
    completed: u64,
    /// The queue pair couldn't follow the peer's answer: what comes after that means nothing.
    pub(crate) connect_error: bool,
    pub(crate) responder_resources: u8,
    pub(crate) initiator_depth: u8,
    /// What queue pairs of requests are made with.
    pub(crate) qp_init_attr: Option<ibv_qp_init_attr>,
    /// What stands before the program's private data.
    pub(crate) connect: Vec<u8>,
    /// Multicast groups that it has joined.
    pub(crate) groups: Vec<Group>,
}

// SAFETY: the pointers in it are libibverbs' objects, which any thread may use, and the program's, which are only told.
unsafe impl Send for Private {}

/// The ids that there are.
#[derive(Default)]
struct Ids {
    /// Where they are, by the agent's numbers.
    by_number: HashMap<u32, usize>,
    /// Where there is one.
    places: HashSet<usize>,
}

static IDS: Mutex<Option<Ids>> = Mutex::new(None);

fn ids<R>(look: impl FnOnce(&mut Ids) -> R) -> R {
    look(IDS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

impl Id {
    /// The id that a program means; `EINVAL` if there is none. Programs do name ids that they have destroyed: perftest,
    /// when its peer doesn't listen yet.
    ///
    /// # Safety
    /// If there is one, it isn't destroyed as long as the reference is used.
    pub(crate) unsafe fn of<'a>(c: *mut rdma_cm_id) -> Result<&'a Self, c_int> {
        if ids(|ids| ids.places.contains(&c.addr())) {
            // SAFETY: it is the first field of ours, and the caller vouches for the rest.
            Ok(unsafe { Self::own(c) })
        } else {
            Err(EINVAL)
        }
    }

    /// The same for one that the library has got from itself.
    ///
    /// # Safety
    /// It must be one of ours that isn't destroyed.
    pub(crate) unsafe fn own<'a>(c: *mut rdma_cm_id) -> &'a Self {
        // SAFETY: it is the first field of ours.
        unsafe { &*c.cast() }
    }

    /// What the program sees.
    pub(crate) fn c(&self) -> *mut rdma_cm_id {
        self.c.get()
    }

    pub(crate) fn private(&self) -> MutexGuard<'_, Private> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is for datagrams.
    pub(crate) fn is_datagram(&self) -> bool {
        // SAFETY: it is set once.
        unsafe { (*self.c()).qp_type == IBV_QPT_UD }
    }

    /// A new id; without a channel it gets one of its own, and its calls wait.
    ///
    /// # Safety
    /// The channel is null, or one of ours that isn't destroyed.
    pub(crate) unsafe fn create(
        channel: *mut rdma_event_channel,
        context: *mut c_void,
        ps: u32,
        qp_type: u32,
    ) -> Result<*mut rdma_cm_id, c_int> {
        let sync = channel.is_null();
        let channel = if sync { Channel::create()? } else { channel };
        // SAFETY: the caller says so, or it was made now.
        let queue = unsafe { Channel::of(channel)? }.number;
        let made = match (u16::try_from(ps), u8::try_from(qp_type)) {
            (Ok(port_space), Ok(qp_type)) => {
                call(&Request::CreateId { channel: queue, port_space, qp_type }).map(|(reply, _)| reply)
            }
            _ => Err(EINVAL),
        };
        match made {
            Ok(Reply::Number(number)) => Ok(Self::add(number, channel, context, ps, qp_type, sync)),
            other => {
                if sync {
                    // SAFETY: it was made above.
                    unsafe { Channel::destroy(channel) };
                }
                Err(other.err().unwrap_or(EIO))
            }
        }
    }

    /// An id that the agent knows already.
    pub(crate) fn add(
        number: u32,
        channel: *mut rdma_event_channel,
        context: *mut c_void,
        ps: u32,
        qp_type: u32,
        sync: bool,
    ) -> *mut rdma_cm_id {
        let c = rdma_cm_id { channel, context, ps, qp_type, ..rdma_cm_id::zeroed() };
        let private = Private {
            sync,
            reported: 0,
            completed: 0,
            connect_error: false,
            responder_resources: 0,
            initiator_depth: 0,
            qp_init_attr: None,
            connect: Vec::new(),
            groups: Vec::new(),
        };
        let id = Self {
            c: UnsafeCell::new(c),
            number,
            private: Mutex::new(private),
            acknowledged: Condvar::new(),
        };
        let id = Box::into_raw(Box::new(id));
        ids(|ids| {
            ids.by_number.insert(number, id.expose_provenance());
            ids.places.insert(id.addr());
        });
        id.cast()
    }

    /// The id with that number, of which an event is about to be reported: it isn't freed before that is acknowledged.
    pub(crate) fn report<'a>(number: u32) -> Option<&'a Self> {
        ids(|ids| {
            let at = ids.by_number.get(&number)?;
            // SAFETY: whoever destroys it takes it out of the table first, and then waits.
            let id = unsafe { &*std::ptr::with_exposed_provenance::<Self>(*at) };
            id.private().reported += 1;
            Some(id)
        })
    }

    /// An event was acknowledged.
    pub(crate) fn complete(&self) {
        self.private().completed += 1;
        self.acknowledged.notify_all();
    }

    /// Waits until all events are acknowledged that were reported so far.
    pub(crate) fn wait_for_acknowledgements(&self) {
        let mut private = self.private();
        let reported = private.reported;
        while private.completed < reported {
            private = self.acknowledged.wait(private).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// # Safety
    /// Nobody uses it but who handles its events.
    pub(crate) unsafe fn destroy(c: *mut rdma_cm_id) -> Result<(), c_int> {
        // SAFETY: the caller says so.
        let id = unsafe { Self::of(c)? };
        ids(|ids| {
            ids.by_number.remove(&id.number);
            ids.places.remove(&c.addr());
        });
        // Should the agent be gone, so is its id.
        let _ = done(&Request::DestroyId { id: id.number });
        // SAFETY: a field of ours.
        let event: *mut rdma_cm_event = unsafe { std::mem::replace(&mut (*c).event, std::ptr::null_mut()) };
        if !event.is_null() {
            // SAFETY: a call that has waited left it there.
            unsafe { crate::event::acknowledge(event) };
        }
        id.wait_for_acknowledgements();
        // SAFETY: `add` made it, and nobody uses it.
        let id = unsafe { Box::from_raw(c.cast::<Self>()) };
        // SAFETY: fields of ours.
        let (channel, path) = unsafe { ((*c).channel, (*c).route.path_rec) };
        if !path.is_null() {
            // SAFETY: `set_path` made it.
            drop(unsafe { Box::from_raw(path) });
        }
        if id.private().sync {
            // SAFETY: it is the id's own.
            unsafe { Channel::destroy(channel) };
        }
        Ok(())
    }

    /// Writes its addresses where the program sees them, and the device once the id belongs to it.
    pub(crate) fn set_addresses(&self, addresses: Addresses) -> Result<(), c_int> {
        let c = self.c();
        let device = addresses.device.then(device).transpose()?;
        // SAFETY: the program doesn't touch them while a call or an event is under way.
        unsafe {
            let addr = &raw mut (*c).route.addr;
            if let Some(source) = addresses.source {
                (*addr).src_storage = address::storage(source);
                (*addr).ibaddr.sgid = ibv_gid { raw: address::gid(source) };
            }
            if let Some(destination) = addresses.destination {
                (*addr).dst_storage = address::storage(destination);
                (*addr).ibaddr.dgid = ibv_gid { raw: address::gid(destination) };
            }
            if let Some(device) = device
                && (*c).verbs.is_null()
            {
                (*c).verbs = device.verbs;
                (*c).port_num = 1;
                (*addr).ibaddr.pkey = PARTITION;
                if (*c).pd.is_null() {
                    (*c).pd = device.pd;
                }
            }
        }
        Ok(())
    }

    /// Describes the path to the peer, for programs that look at it.
    pub(crate) fn set_path(&self) -> Result<(), c_int> {
        const EXACTLY: u8 = 2;
        let mtu = device()?.mtu;
        let c = self.c();
        // SAFETY: as in `set_addresses`.
        unsafe {
            let route = &raw mut (*c).route;
            if (*route).path_rec.is_null() {
                (*route).path_rec = Box::into_raw(Box::new(ibv_sa_path_rec {
                    dgid: (*route).addr.ibaddr.dgid,
                    sgid: (*route).addr.ibaddr.sgid,
                    hop_limit: 64,
                    reversible: 1,
                    numb_path: 1,
                    pkey: PARTITION,
                    mtu_selector: EXACTLY,
                    mtu,
                    rate_selector: EXACTLY,
                    packet_life_time_selector: EXACTLY,
                    packet_life_time: 16,
                    ..ibv_sa_path_rec::zeroed()
                }));
                (*route).num_paths = 1;
            }
        }
        Ok(())
    }
}

export! {
    "RDMACM_1.0", -1,
    /// rdma_create_id(3).
    fn rdma_create_id(
        channel: *mut rdma_event_channel,
        id: *mut *mut rdma_cm_id,
        context: *mut c_void,
        ps: u32,
    ) -> c_int {
        let qp_type = if matches!(ps, RDMA_PS_IPOIB | RDMA_PS_UDP) { IBV_QPT_UD } else { IBV_QPT_RC };
        // SAFETY: the program gives a channel that exists, or none.
        result(unsafe { Id::create(channel, context, ps, qp_type) }.map(|made| {
            // SAFETY: and a place for the id.
            unsafe { id.write(made) };
        }))
    }

    "RDMACM_1.0", -1,
    /// rdma_destroy_id(3).
    fn rdma_destroy_id(id: *mut rdma_cm_id) -> c_int {
        // SAFETY: the program says that it is one, and no longer used.
        result(unsafe { Id::destroy(id) })
    }

    "RDMACM_1.0", 0,
    /// rdma_get_src_port(3).
    fn rdma_get_src_port(id: *mut rdma_cm_id) -> u16 {
        // SAFETY: an id of the program's; an address of ours.
        let read = unsafe {
            Id::of(id).and_then(|id| address::read((&raw const (*id.c()).route.addr.src_storage).cast()))
        };
        read.map_or(0, |address| address.port().to_be())
    }

    "RDMACM_1.0", 0,
    /// rdma_get_dst_port(3).
    fn rdma_get_dst_port(id: *mut rdma_cm_id) -> u16 {
        // SAFETY: an id of the program's; an address of ours.
        let read = unsafe {
            Id::of(id).and_then(|id| address::read((&raw const (*id.c()).route.addr.dst_storage).cast()))
        };
        read.map_or(0, |address| address.port().to_be())
    }
}
