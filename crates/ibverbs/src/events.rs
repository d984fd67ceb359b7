//! Asynchronous events: from the device to the context that owns the object, and from there to the program.

use crate::backend::{AsyncEvent, Backend, DeviceEvent};
use crate::boundary::set_errno;
use crate::completion::Cq;
use crate::context::Context;
use crate::queue_pair::Qp;
use crate::shared_receive::Srq;
use libc::c_int;
use rdma_verbs_sys::{
    IBV_EVENT_COMM_EST, IBV_EVENT_CQ_ERR, IBV_EVENT_QP_ACCESS_ERR, IBV_EVENT_QP_FATAL,
    IBV_EVENT_QP_LAST_WQE_REACHED, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_SQ_DRAINED, IBV_EVENT_SRQ_LIMIT_REACHED,
    ibv_async_event, ibv_async_event_element, ibv_context, ibv_event_type,
};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Events that nobody has read are kept up to this number; then new ones are lost.
const KEPT: usize = 4096;

/// What an event is about, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Qp(usize),
    Cq(usize),
    Srq(usize),
}

/// Where an object's events go, and how many of them the program has and hasn't acknowledged.
pub(crate) struct Reporter {
    events: Arc<Events>,
    /// The device's place among those that the program sees.
    device: usize,
    unacknowledged: AtomicU32,
}

/// The events of a context that nobody has read yet, and a descriptor that is readable while there are some.
pub(crate) struct Events {
    fd: OwnedFd,
    waiting: Mutex<VecDeque<(Object, ibv_event_type)>>,
    /// Guards nothing but the waiting for acknowledgements.
    acknowledging: Mutex<()>,
    acknowledged: Condvar,
}

/// An XRC target may be several objects.
type Objects = HashMap<(usize, Name), Vec<(Object, Arc<Events>)>>;

/// The objects that devices' events can name, by the device and what it calls them.
static OBJECTS: Mutex<Option<Objects>> = Mutex::new(None);

/// What the device calls an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Qpn(u32),
    Queue(u64),
    SharedQueue(u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, events of `name` are `object`'s.
pub(crate) fn announce(name: Name, object: Object, context: &Context) -> Reporter {
    let (events, device) = (Arc::clone(&context.events), context.backend.index());
    let mut objects = lock(&OBJECTS);
    objects.get_or_insert_default().entry((device, name)).or_default().push((object, Arc::clone(&events)));
    drop(objects);
    Reporter { events, device, unacknowledged: AtomicU32::new(0) }
}

/// Starts the thread that hands a device's events out.
pub(crate) fn start(backend: Arc<Backend>) -> io::Result<()> {
    let run = move || loop {
        backend.wait_events(|event| deliver(backend.index(), event));
    };
    std::thread::Builder::new().name("rdma-events".into()).spawn(run).map(drop)
}

fn deliver(device: usize, event: DeviceEvent) {
    let (name, kind) = match event {
        DeviceEvent::CompletionQueueOverflow(number) => (Name::Queue(number), IBV_EVENT_CQ_ERR),
        DeviceEvent::SharedReceiveQueueLimit(number) => {
            (Name::SharedQueue(number), IBV_EVENT_SRQ_LIMIT_REACHED)
        }
        DeviceEvent::QueuePair(qpn, event) => {
            let kind = match event {
                AsyncEvent::CommunicationEstablished => IBV_EVENT_COMM_EST,
                AsyncEvent::SendQueueDrained => IBV_EVENT_SQ_DRAINED,
                AsyncEvent::AccessError => IBV_EVENT_QP_ACCESS_ERR,
                AsyncEvent::RequestError => IBV_EVENT_QP_REQ_ERR,
                AsyncEvent::Fatal => IBV_EVENT_QP_FATAL,
                AsyncEvent::LastWorkRequestReached => IBV_EVENT_QP_LAST_WQE_REACHED,
            };
            (Name::Qpn(qpn.get()), kind)
        }
    };
    // Held until the event is in its queue: `withdraw` finds it there, or it finds nobody.
    let objects = lock(&OBJECTS);
    for (object, events) in
        objects.as_ref().and_then(|objects| objects.get(&(device, name))).into_iter().flatten()
    {
        events.push(*object, kind);
    }
}

impl Reporter {
    /// Ends the reporting, drops what the program hasn't read, and waits until it has acknowledged what it has.
    pub(crate) fn withdraw(&self, name: Name, object: Object) {
        if let Some(objects) = lock(&OBJECTS).as_mut()
            && let Entry::Occupied(mut of_name) = objects.entry((self.device, name))
        {
            of_name.get_mut().retain(|(other, _)| *other != object);
            if of_name.get().is_empty() {
                of_name.remove();
            }
        }
        self.events.discard(object);
        let mut acknowledging = lock(&self.events.acknowledging);
        while self.unacknowledged.load(Ordering::Acquire) != 0 {
            let woken = self.events.acknowledged.wait(acknowledging);
            acknowledging = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self) {
        self.unacknowledged.fetch_add(1, Ordering::AcqRel);
    }

    fn acknowledge(&self) {
        let _acknowledging = lock(&self.events.acknowledging);
        let less = |count: u32| count.checked_sub(1);
        let _ = self.unacknowledged.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.events.acknowledged.notify_all();
    }
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        // Not O_NONBLOCK: ibv_get_async_event waits unless the program has set that itself.
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
        Ok(Self {
            fd,
            waiting: Mutex::default(),
            acknowledging: Mutex::default(),
            acknowledged: Condvar::new(),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn push(&self, object: Object, kind: ibv_event_type) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < KEPT {
            waiting.push_back((object, kind));
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    fn discard(&self, object: Object) {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.retain(|(of, _)| *of != object);
        for _ in waiting.len()..before {
            self.take_one();
        }
    }

    /// Nobody reads any more: whoever waits comes back.
    pub(crate) fn close(&self) {
        lock(&self.waiting).clear();
    }

    /// Takes one from what the descriptor counts; the lock on `waiting` is held, and there is one.
    fn take_one(&self) {
        if is_readable(self.fd(), 0) == Ok(true) {
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        }
    }

    /// The next event; waits for it unless the descriptor is `O_NONBLOCK`.
    fn next(&self) -> Result<(Object, ibv_event_type), c_int> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if let Some((object, kind)) = waiting.pop_front() {
                    self.take_one();
                    // SAFETY: whoever destroys the object discards its events first, under the same lock.
                    unsafe { reporter(object) }.read();
                    return Ok((object, kind));
                }
            }
            wait_readable(self.fd())?;
        }
    }
}

/// Whether `fd` is readable, or becomes so within `milliseconds` (-1: for ever).
fn is_readable(fd: RawFd, milliseconds: c_int) -> Result<bool, c_int> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which is ours.
    match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
        -1 => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        count => Ok(count > 0),
    }
}

/// Waits until `fd` is readable; `EAGAIN` at once if the program has made it `O_NONBLOCK` and it isn't.
pub(crate) fn wait_readable(fd: RawFd) -> Result<(), c_int> {
    // SAFETY: only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    let nonblocking = flags != -1 && flags & libc::O_NONBLOCK != 0;
    match is_readable(fd, if nonblocking { 0 } else { -1 })? {
        true => Ok(()),
        false => Err(libc::EAGAIN),
    }
}

/// The reporter of an event's object.
///
/// # Safety
/// The object must not have been destroyed.
unsafe fn reporter<'a>(object: Object) -> &'a Reporter {
    match object {
        // SAFETY: the caller says that it lives.
        Object::Qp(at) => unsafe { &(*std::ptr::with_exposed_provenance::<Qp>(at)).reporter },
        // SAFETY: as above.
        Object::Cq(at) => unsafe { &(*std::ptr::with_exposed_provenance::<Cq>(at)).reporter },
        // SAFETY: as above.
        Object::Srq(at) => unsafe { &(*std::ptr::with_exposed_provenance::<Srq>(at)).reporter },
    }
}

export! {
    "IBVERBS_1.1", -1,
    /// ibv_get_async_event(3).
    fn ibv_get_async_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int {
        // SAFETY: the program says that it is open.
        let events = unsafe { Context::of(context) }.events.clone();
        match events.next() {
            Ok((object, event_type)) => {
                let element = match object {
                    Object::Qp(at) => ibv_async_event_element { qp: std::ptr::with_exposed_provenance_mut(at) },
                    Object::Cq(at) => ibv_async_event_element { cq: std::ptr::with_exposed_provenance_mut(at) },
                    Object::Srq(at) => ibv_async_event_element { srq: std::ptr::with_exposed_provenance_mut(at) },
                };
                // SAFETY: the program gave a place for it.
                unsafe { event.write(ibv_async_event { element, event_type }) };
                0
            }
            Err(error) => {
                set_errno(error);
                -1
            }
        }
    }

    "IBVERBS_1.1", (),
    /// ibv_ack_async_event(3).
    fn ibv_ack_async_event(event: *mut ibv_async_event) {
        // SAFETY: the program gives back what ibv_get_async_event filled in; the type says which member is valid.
        let object = unsafe {
            match (*event).event_type {
                IBV_EVENT_CQ_ERR => Object::Cq((*event).element.cq.expose_provenance()),
                IBV_EVENT_SRQ_LIMIT_REACHED => Object::Srq((*event).element.srq.expose_provenance()),
                _ => Object::Qp((*event).element.qp.expose_provenance()),
            }
        };
        // SAFETY: destroying an object waits for its acknowledgements.
        unsafe { reporter(object) }.acknowledge();
    }
}
