//! How much a device holds.

use super::Engine;

/// How much a device holds at the moment. Everything goes back to 0 when its objects have been destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Queue pairs.
    pub queue_pairs: usize,
    /// Address handles.
    pub address_handles: usize,
    /// Deadlines that queue pairs have announced. That of a queue pair that was destroyed goes when it has passed.
    pub deadlines: usize,
    /// Queue pairs that wait for their turn to send.
    pub turns: usize,
    /// ACKs that wait for a program's answer.
    pub delayed_acks: usize,
    /// Memory regions.
    pub regions: usize,
    /// Memory windows.
    pub windows: usize,
    /// Indices of memory keys in use: two of each region, one of each window and of each bind to come.
    pub keys: usize,
}

impl Engine {
    /// What of it is the engine's.
    pub(crate) fn usage(&self) -> Usage {
        let ports = self.ports();
        Usage {
            queue_pairs: self.queue_pairs(),
            address_handles: self.shared.addresses.len(),
            deadlines: self.shared.deadlines.len(),
            turns: ports.iter().map(|port| port.turns_waiting()).sum(),
            delayed_acks: ports.iter().map(|port| port.acks_delayed()).sum(),
            ..Usage::default()
        }
    }
}
