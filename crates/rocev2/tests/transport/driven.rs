//! A queue pair with a receive queue of its own.

use rocev2::transport::{Context, DropReason, Limits, QueuePair, Source, Transmit, rc};
use rocev2::wire::Packet;
use rocev2::work::{Attributes, Memory, ModifyError, PostError, ReceiveQueue, RecvRequest, Transition};
use rocev2::{Srqn, Time};
use std::cell::RefCell;
use std::collections::HashMap;
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

/// The shared receive queues of an XRC domain, by number.
pub(crate) type XrcDomain<B> = Rc<RefCell<HashMap<Srqn, Shared<B>>>>;

pub(crate) struct Driven<M: Memory> {
    protocol: QueuePair<M>,
    receives: Shared<M::Buffers>,
    /// An XRC target's.
    domain: Option<XrcDomain<M::Buffers>>,
    /// The queue of the message that is arriving there.
    arriving: Option<(Srqn, Shared<M::Buffers>)>,
}

impl<M: Memory> Driven<M> {
    /// A queue pair of a reliable connection.
    pub(crate) fn new(limits: Limits, max_recv_requests: usize) -> Self {
        Self::with(QueuePair::Rc(rc::QueuePair::new(limits)), max_recv_requests)
    }

    pub(crate) fn with(protocol: QueuePair<M>, max_recv_requests: usize) -> Self {
        Self::sharing(protocol, Rc::new(RefCell::new(ReceiveQueue::new(max_recv_requests))))
    }

    /// A queue pair that takes its receive requests from a queue that others share.
    pub(crate) fn sharing(protocol: QueuePair<M>, receives: Shared<M::Buffers>) -> Self {
        Self { protocol, receives, domain: None, arriving: None }
    }

    /// An XRC target, whose messages take their receive requests from the queues of `domain`.
    pub(crate) fn xrc_target(domain: XrcDomain<M::Buffers>) -> Self {
        let target = QueuePair::Rc(rc::QueuePair::xrc_target());
        Self { domain: Some(domain), ..Self::with(target, 0) }
    }

    pub(crate) fn recv_outstanding(&self) -> usize {
        self.receives.borrow().outstanding()
    }

    pub(crate) fn modify(&mut self, transition: Transition) -> Result<(), ModifyError> {
        self.enter(None, |protocol, _, receives| protocol.modify(transition, receives))
    }

    pub(crate) fn set(&mut self, change: Attributes) -> Result<(), ModifyError> {
        self.enter(None, |protocol, _, receives| protocol.set_attributes(&change, receives))
    }

    pub(crate) fn post_recv(&mut self, request: RecvRequest<M::Buffers>) -> Result<(), PostError> {
        self.enter(None, |protocol, _, receives| protocol.post_recv(request, receives))
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
        self.enter(packet.headers.xrc_srq, |protocol, xrc_srq, receives| {
            protocol.handle_packet(now, from, packet, &mut Context { memory, receives, xrc_srq })
        })
    }

    pub(crate) fn poll_transmit(&mut self, now: Time, memory: &M, out: &mut [u8]) -> Option<Transmit> {
        self.enter(None, |protocol, xrc_srq, receives| {
            protocol.poll_transmit(now, &mut Context { memory, receives, xrc_srq }, out)
        })
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.enter(None, |protocol, _, receives| protocol.handle_timeout(now, receives));
    }

    /// Calls the protocol with the receive queue that the call is for: an XRC target's is that of the message that is
    /// arriving, or the one that a packet names.
    fn enter<T>(
        &mut self,
        named: Option<Srqn>,
        call: impl FnOnce(&mut QueuePair<M>, Option<Srqn>, &mut ReceiveQueue<M::Buffers>) -> T,
    ) -> T {
        let queue = self.arriving.take().or_else(|| {
            let number = named?;
            let queue = Rc::clone(self.domain.as_ref()?.borrow().get(&number)?);
            Some((number, queue))
        });
        let result = match &queue {
            Some((number, queue)) => call(&mut self.protocol, Some(*number), &mut queue.borrow_mut()),
            None => call(&mut self.protocol, None, &mut self.receives.borrow_mut()),
        };
        self.arriving = queue.filter(|_| self.protocol.message_arrives());
        result
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
