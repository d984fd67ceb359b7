//! A queue pair with a receive queue of its own.

use rocev2::Time;
use rocev2::transport::{Context, DropReason, Limits, QueuePair, Source, Transmit, rc};
use rocev2::wire::Packet;
use rocev2::work::{Attributes, Memory, ModifyError, PostError, ReceiveQueue, RecvRequest, Transition};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A connection looks at no packet's source.
pub(crate) const SOURCE: Source = Source {
    source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    traffic_class: None,
    hop_limit: None,
};

/// A receive queue that several queue pairs of a host may take from.
pub(crate) type Shared<B> = Rc<RefCell<ReceiveQueue<B>>>;

pub(crate) struct Driven<M: Memory> {
    protocol: QueuePair<M>,
    receives: Shared<M::Buffers>,
}

impl<M: Memory> Driven<M> {
    /// A queue pair of a reliable connection.
    pub(crate) fn new(limits: Limits, max_recv_requests: usize) -> Self {
        Self::with(QueuePair::Rc(rc::QueuePair::new(limits)), max_recv_requests)
    }

    pub(crate) fn with(protocol: QueuePair<M>, max_recv_requests: usize) -> Self {
        Self { protocol, receives: Rc::new(RefCell::new(ReceiveQueue::new(max_recv_requests))) }
    }

    /// A queue pair that takes its receive requests from a queue that others share.
    pub(crate) fn sharing(protocol: QueuePair<M>, receives: Shared<M::Buffers>) -> Self {
        Self { protocol, receives }
    }

    pub(crate) fn recv_outstanding(&self) -> usize {
        self.receives.borrow().outstanding()
    }

    pub(crate) fn modify(&mut self, transition: Transition) -> Result<(), ModifyError> {
        self.protocol.modify(transition, &mut self.receives.borrow_mut())
    }

    pub(crate) fn set(&mut self, change: Attributes) -> Result<(), ModifyError> {
        self.protocol.set_attributes(&change, &mut self.receives.borrow_mut())
    }

    pub(crate) fn post_recv(&mut self, request: RecvRequest<M::Buffers>) -> Result<(), PostError> {
        self.protocol.post_recv(request, &mut self.receives.borrow_mut())
    }

    pub(crate) fn handle_packet(
        &mut self,
        now: Time,
        packet: &Packet<'_>,
        memory: &M,
    ) -> Result<(), DropReason> {
        self.handle_packet_from(now, &SOURCE, packet, memory)
    }

    pub(crate) fn handle_packet_from(
        &mut self,
        now: Time,
        from: &Source,
        packet: &Packet<'_>,
        memory: &M,
    ) -> Result<(), DropReason> {
        let receives = &mut self.receives.borrow_mut();
        let mut cx = Context { memory, receives };
        self.protocol.handle_packet(now, from, packet, &mut cx)
    }

    pub(crate) fn poll_transmit(&mut self, now: Time, memory: &M, out: &mut [u8]) -> Option<Transmit> {
        let receives = &mut self.receives.borrow_mut();
        let mut cx = Context { memory, receives };
        self.protocol.poll_transmit(now, &mut cx, out)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.protocol.handle_timeout(now, &mut self.receives.borrow_mut());
    }
}

impl<M: Memory> Deref for Driven<M> {
    type Target = QueuePair<M>;

    fn deref(&self) -> &QueuePair<M> {
        &self.protocol
    }
}

impl<M: Memory> DerefMut for Driven<M> {
    fn deref_mut(&mut self) -> &mut QueuePair<M> {
        &mut self.protocol
    }
}
