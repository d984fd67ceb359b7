//! What controls congestion: the seam between recovery and a window.

/// How much may be under way, as a controller has it. Amounts are bytes, with what each packet costs beside
/// its payload.
pub(super) trait Congestion {
    /// The bytes that may be under way.
    fn window(&self) -> u64;

    /// The requester would have sent more.
    fn limited(&mut self);

    /// So many bytes were acknowledged.
    fn acknowledged(&mut self, bytes: u64);

    /// Something of a flight was lost. It is told once for each flight.
    fn lost(&mut self);

    /// The fabric asks for less. It is told once for each flight.
    fn congested(&mut self);

    /// What was under way at the last cut is acknowledged.
    fn cut_took_effect(&mut self);
}
