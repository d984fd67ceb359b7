//! Sizes in bytes, as people write them.

pub(crate) use secure_rdma::Size;
