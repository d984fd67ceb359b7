//! The contenders, one a file.

pub(crate) mod quic;
pub(crate) mod roce_socket;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod verbs;
