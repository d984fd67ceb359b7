//! RDMA connection management, sans-IO: what InfiniBand's communication manager says, without sockets, threads,
//! clocks or OS randomness.
//!
//! Programs that use librdmacm find each other by address and port; under that, each side's CM sends management
//! datagrams (MADs) to the other's queue pair 1, until both know the other's queue pair, PSN and limits. Here are
//! these messages and the state machines of both sides, as the Linux kernel's `ib_cm` and `rdma_cm` speak them over
//! RoCEv2.
//!
//! | module | what it holds |
//! |---|---|
//! | [`wire`] | the messages: bytes to structures and back |
//! | [`ip`] | addresses and ports: service IDs, and what stands in front of the private data |
//! | [`manager`] | the state machines, driven from outside |
//!
//! Two managers, one of which listens at a port; each datagram goes from queue pair 1 to queue pair 1:
//!
//! ```
//! use rocev2::{Mtu, Psn, Qpn, Time};
//! use rocev2_cm::manager::{Connect, LocalQueuePair, Patience, Route, Transport};
//! use rocev2_cm::wire::PrivateData;
//! use rocev2_cm::{Config, Event, Exponent, Gid, Manager, Path, ip};
//!
//! let now = Time::ZERO;
//! // These numbers have to be the operating system's random ones.
//! let mut numbers = 1..;
//! let random = Box::new(move || numbers.next().expect("endless"));
//! let mut client = Manager::new(Config::default(), random.clone());
//! let mut server = Manager::new(Config::default(), random);
//! let [here, there] = [1, 2].map(|host| Gid::from(std::net::IpAddr::from([192, 0, 2, host])));
//! let service_id = ip::Service { space: ip::PortSpace::Tcp, port: 7174 }.id();
//! server.listen(service_id, None, 8)?;
//!
//! let queue_pair = |qpn| LocalQueuePair {
//!     qpn: Qpn::truncate(qpn),
//!     starting_psn: Psn::truncate(0x12_3456), // random, too
//!     responder_resources: 1,
//!     initiator_depth: 1,
//!     rnr_retry_count: 7,
//!     srq: false,
//! };
//! let addressing = ip::IpAddressing { source: (here.to_ip(), 40_001).into(), destination: there.to_ip() };
//! client.connect(
//!     now,
//!     &Connect {
//!         path: Path { local: here, remote: there },
//!         service_id,
//!         transport: Transport::Rc,
//!         queue_pair: queue_pair(0x11),
//!         route: Route::new(Mtu::B1024),
//!         patience: Patience::default(),
//!         private_data: PrivateData::new(&addressing.encode()?)?,
//!     },
//! )?;
//! while let Some(transmit) = client.poll_transmit() {
//!     // The receiver's own address is the path's local one.
//!     server.handle(now, Path { local: there, remote: here }, &transmit.mad)?;
//! }
//! let Some(Event::ConnectRequest { id, request }) = server.poll_event() else { panic!("a request") };
//! assert_eq!(request.qpn, Qpn::truncate(0x11));
//! server.prepare(id, queue_pair(0x22))?;
//! let attributes = server.attributes(id).expect("both queue pairs are known");
//! assert_eq!(attributes.dest_qp_num, Qpn::truncate(0x11)); // for RTR and RTS; then
//! server.accept(now, id, queue_pair(0x22), Exponent::default(), PrivateData::default())?;
//! while let Some(transmit) = server.poll_transmit() {
//!     client.handle(now, Path { local: here, remote: there }, &transmit.mad)?;
//! }
//! assert!(matches!(client.poll_event(), Some(Event::ConnectResponse { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! "IBA" in the documentation is the *InfiniBand Architecture Specification, Volume 1*, release 1.4 or later.
#![forbid(unsafe_code)]

mod comm_id;
mod exponent;
mod gid;
pub mod ip;
pub mod manager;
pub mod wire;

pub use comm_id::CommId;
pub use exponent::Exponent;
pub use gid::Gid;
pub use manager::{Config, Event, Manager, Path, State, Transmit};

/// The queue key of queue pair 1, to which management datagrams are sent (IBA 3.5.4).
pub const GSI_QKEY: u32 = 0x8001_0000;
