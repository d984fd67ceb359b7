//! What a process asks the agent, and what it answers: one packet each on a Unix socket, CBOR (RFC 8949), at most
//! [`MAX_LEN`] bytes. They are those of the kernel's `rdma_ucm`: a request, its answer, and events that are asked for.
//!
//! Both sides are one user's, who can do to either what the messages could; they are checked nevertheless.

use minicbor::{Decode, Encode};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a message.
pub const MAX_LEN: usize = 2048;

/// What a process wants.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// A queue of events. The answer brings a descriptor that is readable while there are some.
    #[n(0)]
    OpenChannel,
    /// Drops a queue of events that no id uses.
    #[n(1)]
    CloseChannel {
        /// The queue.
        #[n(0)]
        channel: u32,
    },
    /// Takes the next event.
    #[n(2)]
    GetEvent {
        /// From that queue.
        #[n(0)]
        channel: u32,
    },
    /// A new id.
    #[n(3)]
    CreateId {
        /// Where its events go.
        #[n(0)]
        channel: u32,
        /// `enum rdma_port_space`.
        #[n(1)]
        port_space: u16,
        /// `enum ibv_qp_type`: RC, UC or UD.
        #[n(2)]
        qp_type: u8,
    },
    /// Drops an id: its connection ends, its requests are refused, its events are forgotten.
    #[n(4)]
    DestroyId {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Gives an id a local address.
    #[n(5)]
    Bind {
        /// The id.
        #[n(0)]
        id: u32,
        /// The address; unspecified is any, port 0 one that is free.
        #[n(1)]
        address: SocketAddr,
    },
    /// Finds the way to a peer's address. An event follows.
    #[n(6)]
    ResolveAddress {
        /// The id.
        #[n(0)]
        id: u32,
        /// From there.
        #[n(1)]
        source: Option<SocketAddr>,
        /// To there.
        #[n(2)]
        destination: SocketAddr,
    },
    /// Finds the route. An event follows.
    #[n(7)]
    ResolveRoute {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Listens for requests.
    #[n(8)]
    Listen {
        /// The id.
        #[n(0)]
        id: u32,
        /// How many may wait; 0 is as many as possible.
        #[n(1)]
        backlog: u32,
    },
    /// Asks the peer for a connection, or which queue pair serves datagrams. An event follows.
    #[n(9)]
    Connect {
        /// The id.
        #[n(0)]
        id: u32,
        /// What to ask for.
        #[n(1)]
        params: Params,
    },
    /// What the connection's queue pair is to be given.
    #[n(10)]
    Attributes {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Accepts a request.
    #[n(11)]
    Accept {
        /// The id.
        #[n(0)]
        id: u32,
        /// With what.
        #[n(1)]
        params: Params,
    },
    /// The queue pair of an accepted connection is ready.
    #[n(12)]
    Establish {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Refuses a request, or an answer.
    #[n(13)]
    Reject {
        /// The id.
        #[n(0)]
        id: u32,
        /// For the peer's program.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        private_data: Vec<u8>,
    },
    /// Ends a connection.
    #[n(14)]
    Disconnect {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Has an id's events, those that wait included, go to another queue.
    #[n(15)]
    Migrate {
        /// The id.
        #[n(0)]
        id: u32,
        /// The queue.
        #[n(1)]
        channel: u32,
    },
    /// A message came before the connection was established: `IBV_EVENT_COMM_EST`.
    #[n(16)]
    CommunicationEstablished {
        /// The id.
        #[n(0)]
        id: u32,
    },
    /// Sets an option.
    #[n(17)]
    SetOption {
        /// The id.
        #[n(0)]
        id: u32,
        /// Which.
        #[n(1)]
        option: IdOption,
    },
    /// Joins a multicast group. An event follows.
    #[n(18)]
    JoinMulticast {
        /// The id.
        #[n(0)]
        id: u32,
        /// The group's address.
        #[n(1)]
        group: SocketAddr,
        /// The process's own name for it: of one that the id hasn't left, once.
        #[n(2)]
        cookie: u64,
    },
    /// Leaves it: an event that waits is forgotten.
    #[n(19)]
    LeaveMulticast {
        /// The id.
        #[n(0)]
        id: u32,
        /// The process's name for the group.
        #[n(1)]
        cookie: u64,
    },
}

/// An option of an id (`RDMA_OPTION_ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum IdOption {
    /// The packets' traffic class.
    #[n(0)]
    TypeOfService(#[n(0)] u8),
    /// Others may bind the same port.
    #[n(1)]
    ReuseAddress(#[n(0)] bool),
    /// IPv6 only. The device has one address, so this says nothing new.
    #[n(2)]
    FamilyOnly(#[n(0)] bool),
    /// The local ACK timeout, an exponent of 5 bits.
    #[n(3)]
    AckTimeout(#[n(0)] u8),
}

/// What a program says of its queue pair (`rdma_conn_param`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Params {
    /// The queue pair.
    #[n(0)]
    pub qpn: u32,
    /// READs and atomics that it can answer at a time.
    #[n(1)]
    pub responder_resources: u8,
    /// READs and atomics that it will have under way at a time.
    #[n(2)]
    pub initiator_depth: u8,
    /// How often what isn't acknowledged is repeated.
    #[n(3)]
    pub retry_count: u8,
    /// How often to try again where the queue pair isn't ready.
    #[n(4)]
    pub rnr_retry_count: u8,
    /// Whether it has a shared receive queue.
    #[n(5)]
    pub srq: bool,
    /// For the peer's program.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub private_data: Vec<u8>,
}

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It is done.
    #[n(0)]
    Done,
    /// It isn't: an error number.
    #[n(1)]
    Error(#[n(0)] i32),
    /// The number of the new queue of events, or id.
    #[n(2)]
    Number(#[n(0)] u32),
    /// The id's addresses now.
    #[n(3)]
    Addresses(#[n(0)] Addresses),
    /// The next event.
    #[n(4)]
    Event(#[n(0)] Box<CmEvent>),
    /// There is none.
    #[n(5)]
    NoEvent,
    /// For the queue pair.
    #[n(6)]
    Attributes(#[n(0)] Attributes),
}

/// An id's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Addresses {
    /// This side's.
    #[n(0)]
    pub source: Option<SocketAddr>,
    /// The peer's.
    #[n(1)]
    pub destination: Option<SocketAddr>,
    /// Whether the id belongs to the device: not if it is bound to any address.
    #[n(2)]
    pub device: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CmEvent {
    /// `enum rdma_cm_event_type`.
    #[n(0)]
    pub kind: u32,
    /// 0, a reason, or a negative error number.
    #[n(1)]
    pub status: i32,
    /// To which id: of a request, to the new one.
    #[n(2)]
    pub id: u32,
    /// Who listens, for a request.
    #[n(3)]
    pub listener: Option<u32>,
    /// The id's addresses.
    #[n(4)]
    pub addresses: Addresses,
    /// What the peer says of its queue pair, and to this side's program.
    #[n(5)]
    pub params: Params,
    /// Of datagrams: the queue key.
    #[n(6)]
    pub qkey: u32,
    /// Of a multicast group: which.
    #[n(7)]
    pub multicast: Option<Multicast>,
    /// For people: why nothing could be sent to the peer, where it would have to be sealed.
    #[n(8)]
    pub reason: Option<String>,
}

/// A multicast group that an id has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Multicast {
    /// The process's name for it.
    #[n(0)]
    pub cookie: u64,
    /// Its address as a GID.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub mgid: [u8; 16],
    /// The traffic class of packets to it.
    #[n(2)]
    pub traffic_class: u8,
}

/// What a queue pair is to be given, by `ibv_modify_qp`'s names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attributes {
    /// The peer's address as a GID.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub dgid: [u8; 16],
    /// The packets' traffic class.
    #[n(1)]
    pub traffic_class: u8,
    /// The packets' hop limit.
    #[n(2)]
    pub hop_limit: u8,
    /// The packets' flow label.
    #[n(3)]
    pub flow_label: u32,
    /// `enum ibv_mtu`.
    #[n(4)]
    pub path_mtu: u8,
    /// The peer's queue pair.
    #[n(5)]
    pub dest_qp_num: u32,
    /// The first PSN that is expected.
    #[n(6)]
    pub rq_psn: u32,
    /// READs and atomics to be answered at a time.
    #[n(7)]
    pub max_dest_rd_atomic: u8,
    /// The first PSN to send.
    #[n(8)]
    pub sq_psn: u32,
    /// The local ACK timeout.
    #[n(9)]
    pub timeout: u8,
    /// How often what isn't acknowledged is repeated.
    #[n(10)]
    pub retry_cnt: u8,
    /// How often to try again where the peer isn't ready.
    #[n(11)]
    pub rnr_retry: u8,
    /// READs and atomics under way at a time.
    #[n(12)]
    pub max_rd_atomic: u8,
}

/// Sends a message, with a descriptor if it has one.
///
/// # Errors
/// What the system says.
pub fn send<M: Encode<()>>(
    socket: impl AsFd,
    message: &M,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut bytes = Vec::with_capacity(128);
    minicbor::encode(message, &mut bytes).map_err(|_| Errno::INVAL)?;
    if bytes.len() > MAX_LEN {
        return Err(Errno::MSGSIZE);
    }
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let descriptor = descriptor.as_slice();
    if !descriptor.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptor)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a message with its descriptor. `None` at the end, and for what is no message.
///
/// # Errors
/// What the system says.
pub fn receive<M>(socket: impl AsFd) -> Result<Option<(M, Option<OwnedFd>)>, Errno>
where
    M: for<'b> Decode<'b, ()>,
{
    let mut bytes = [0; MAX_LEN];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let len = recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut found) = message {
            descriptor = found.next().or(descriptor);
        }
    }
    let message = bytes.get(..len).filter(|bytes| !bytes.is_empty());
    Ok(message.and_then(|bytes| minicbor::decode(bytes).ok()).map(|message| (message, descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn messages_survive_the_way_with_their_descriptor() {
        let (here, there) = pair();
        let params = Params { qpn: 0xff_fffe, private_data: vec![7; 196], ..Params::default() };
        let requests = [
            Request::OpenChannel,
            Request::ResolveAddress { id: 9, source: None, destination: "[2001:db8::1]:7".parse().unwrap() },
            Request::Accept { id: u32::MAX, params },
            Request::SetOption { id: 1, option: IdOption::AckTimeout(14) },
        ];
        for request in requests {
            send(&here, &request, Some(here.as_fd())).unwrap();
            let (received, descriptor) = receive::<Request>(&there).unwrap().unwrap();
            assert_eq!(received, request);
            assert!(descriptor.is_some());
        }
        assert_eq!(receive::<Request>(&there).unwrap_err(), Errno::AGAIN);
        drop(here);
        assert!(receive::<Request>(&there).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_none_and_what_is_too_long_isnt_sent() {
        let (here, there) = pair();
        for bytes in
            [&b"\xff"[..], b"\x82\x18\x63\x80", b"\x82\x0b\x82\x01\x87\x00\x00\x00\x00\x00\xf4\x5b\xff"]
        {
            rustix::io::write(&here, bytes).unwrap();
            assert!(receive::<Request>(&there).unwrap().is_none(), "{bytes:?}");
        }
        let long = Request::Reject { id: 1, private_data: vec![0; MAX_LEN] };
        assert_eq!(send(&here, &long, None), Err(Errno::MSGSIZE));
    }
}
