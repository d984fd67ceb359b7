//! rsockets (rsocket(7)) without memory, queue pairs, clock or sockets: what two of them tell each other, and a
//! connected one's state. They are streams of bytes, whose data are RDMA WRITEs with immediate data into a ring of the
//! peer's.
//!
//! | module | what it holds |
//! |---|---|
//! | [`wire`] | private data, immediate data, and entries of lists, as rdma-core's `librdmacm/docs/rsocket` has them |
//! | [`stream`] | a connected one's state: what may be sent where, and what a peer's messages change |
#![forbid(unsafe_code)]

pub mod stream;
pub mod wire;

pub use stream::Stream;
