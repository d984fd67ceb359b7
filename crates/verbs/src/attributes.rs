//! What devices can do.

/// The limits of a device (`struct ibv_device_attr`; of its port, `struct ibv_port_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Queue pairs at a time.
    pub max_qp: usize,
    /// Work requests outstanding in one queue.
    pub max_qp_wr: usize,
    /// Elements of a scatter/gather list.
    pub max_sge: usize,
    /// Bytes of an inline request; `None` where only making a queue pair tells.
    pub max_inline: Option<usize>,
    /// Entries of a completion queue.
    pub max_cqe: usize,
    /// Memory regions at a time.
    pub max_mr: usize,
    /// Bytes of a message.
    pub max_message: u32,
    /// Reads and atomics of one queue pair that the device answers at a time.
    pub max_qp_rd_atom: u8,
    /// Reads and atomics of one queue pair that it has under way at a time.
    pub max_qp_init_rd_atom: u8,
}
