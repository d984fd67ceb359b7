//! What the engine needs of the system that it runs on.

use rocev2::Time;
use std::io;

/// The system that a device's engine runs on, or a test's own.
pub trait Host: Send + Sync {
    /// The time.
    fn now(&self) -> Time;

    /// Random bytes that nobody can foresee.
    ///
    /// # Errors
    /// The system has none.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// The slot that the numbers of queue pairs name, where several processes share the port.
    fn slot(&self) -> Option<u8> {
        None
    }

    /// Has the next step be made at `at` (at once, where that has passed) instead of at the time that was set
    /// before. It is also made when a link is ready.
    fn set_alarm(&self, at: Option<Time>);
}

/// Something that others wait for.
pub trait Signal: Send + Sync {
    /// Raises it once more.
    fn raise(&self);

    /// Takes back what was raised, once or all of it, as it was made; whether there was something.
    fn lower(&self) -> bool;
}
