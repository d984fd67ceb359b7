//! Asynchronous events.

use super::check;
use super::context::Context;
use crate::Event;
use core::mem::MaybeUninit;
use rdma_verbs_sys::{
    IBV_EVENT_COMM_EST, IBV_EVENT_CQ_ERR, IBV_EVENT_DEVICE_FATAL, IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR,
    IBV_EVENT_QP_ACCESS_ERR, IBV_EVENT_QP_FATAL, IBV_EVENT_QP_LAST_WQE_REACHED, IBV_EVENT_QP_REQ_ERR,
    IBV_EVENT_SQ_DRAINED, IBV_EVENT_SRQ_ERR, IBV_EVENT_SRQ_LIMIT_REACHED, ibv_async_event,
};
use rocev2::Qpn;
use rocev2::work::AsyncEvent;

impl Context {
    /// The next event, if there is one.
    pub(crate) fn try_event(&self) -> Option<Event> {
        let mut event = MaybeUninit::<ibv_async_event>::zeroed();
        // SAFETY: the context is open, and the library writes the event.
        check(unsafe { self.library.ibv_get_async_event(self.raw.as_ptr(), event.as_mut_ptr()) }).ok()?;
        // SAFETY: zeroed bytes are a value of this structure, and the library has filled it.
        let mut event = unsafe { event.assume_init() };
        let told = read(&event);
        // SAFETY: the event was got from the library and is acknowledged once.
        unsafe { self.library.ibv_ack_async_event(&raw mut event) };
        Some(told)
    }
}

/// What an event says. It isn't acknowledged yet: the object that it names can't have been destroyed.
fn read(event: &ibv_async_event) -> Event {
    let qpn = || {
        // SAFETY: for the types that ask for it the union holds a queue pair.
        let raw = unsafe { event.element.qp };
        // SAFETY: the queue pair exists until the event is acknowledged, and its number doesn't change.
        Qpn::truncate(unsafe { (*raw).qp_num })
    };
    let queue_pair = |what| Event::QueuePair(qpn(), what);
    let shared = || {
        // SAFETY: for the types that ask for it the union holds a shared receive queue.
        let raw = unsafe { event.element.srq };
        // SAFETY: the queue exists until the event is acknowledged, and what it was made with doesn't change.
        unsafe { (*raw).srq_context }.addr() as u64
    };
    // SAFETY: for port events the union holds a number; for others this isn't used. Any bytes are a number.
    let port = u8::try_from(unsafe { event.element.port_num }).unwrap_or(0);
    match event.event_type {
        IBV_EVENT_CQ_ERR => {
            // SAFETY: for this type the union holds a completion queue.
            let raw = unsafe { event.element.cq };
            // SAFETY: the queue exists until the event is acknowledged, and what it was made with doesn't change.
            let number = unsafe { (*raw).cq_context };
            Event::CompletionQueueOverflow(number.addr() as u64)
        }
        IBV_EVENT_SRQ_LIMIT_REACHED => Event::SharedReceiveQueueLimit(shared()),
        IBV_EVENT_SRQ_ERR => Event::SharedReceiveQueueFailed(shared()),
        IBV_EVENT_QP_LAST_WQE_REACHED => Event::LastReceiveTaken(qpn()),
        IBV_EVENT_QP_FATAL => queue_pair(AsyncEvent::Fatal),
        IBV_EVENT_QP_REQ_ERR => queue_pair(AsyncEvent::RequestError),
        IBV_EVENT_QP_ACCESS_ERR => queue_pair(AsyncEvent::AccessError),
        IBV_EVENT_COMM_EST => queue_pair(AsyncEvent::CommunicationEstablished),
        IBV_EVENT_SQ_DRAINED => queue_pair(AsyncEvent::SendQueueDrained),
        IBV_EVENT_PORT_ACTIVE => Event::Port { port, active: true },
        IBV_EVENT_PORT_ERR => Event::Port { port, active: false },
        IBV_EVENT_DEVICE_FATAL => Event::DeviceFatal,
        other => Event::Other(other),
    }
}
