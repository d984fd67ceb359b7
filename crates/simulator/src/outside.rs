//! The network, for simulations of what is built on devices: there programs and streams of bytes are stepped beside the
//! devices, and not everything that packets carry is the seed's.

use crate::network::{Egress, MachineState, Network};
use crate::platform;
use crate::rng::Rng;
use crate::trace::Trace;
use netem::LinkConfig;
use rocev2_device::host::Platform;
use std::sync::Arc;

impl Network {
    /// A network without machines. What happens is printed if `print` says so. The trace has nothing of what packets
    /// carry, which may be sealed with keys that aren't the seed's.
    #[must_use]
    pub fn without_machines(print: bool) -> Arc<Self> {
        let network = Self::new(Trace::new(print));
        network.lock().is_seeded = false;
        Arc::new(network)
    }

    /// Adds a machine, whose sockets hold so many bytes that have arrived; its number.
    pub fn add_machine(&self, random: Rng, receive_buffer: usize) -> usize {
        let mut state = self.lock();
        state.machines.push(MachineState {
            random,
            clock_offset: 0,
            alarm: None,
            refuse_watches: 0,
            refuse_allocations: 0,
            taken: Arc::default(),
            egress: Egress { capacity: None, ns_per_byte: 0, shut_until: 0 },
            receive_buffer,
            overflowed: 0,
            blocked: 0,
            watches_refused: 0,
        });
        state.machines.len() - 1
    }

    /// What a device of machine `number` runs on.
    #[must_use]
    pub fn platform(self: &Arc<Self>, number: usize) -> Arc<dyn Platform> {
        self.lock().machines[number].alarm = Some(0);
        Arc::new(platform::Machine { network: Arc::clone(self), number })
    }

    /// Puts a link there, in one direction.
    pub fn link(&self, from: usize, to: usize, config: LinkConfig, seed: u64) {
        self.lock().connect(from, to, config, seed);
    }

    /// Cuts a link, or heals it.
    pub fn cut(&self, from: usize, to: usize, cut: bool) {
        self.lock().cut(from, to, cut);
    }

    /// Closes all sockets of a machine, as the system does when a process is killed; its timer is gone as well.
    pub fn kill(&self, number: usize) {
        let mut state = self.lock();
        state.sockets.retain(|_, socket| socket.machine != number);
        state.machines[number].alarm = None;
    }

    /// Has a machine's system refuse memory for regions, from now on: the lowest bit of `which` is the next
    /// allocation's. With those that are still to come of what it was told before it does as then.
    pub fn refuse_memory(&self, machine: usize, which: u64) {
        self.lock().machines[machine].refuse_allocations |= which;
    }

    /// Whether it refuses none any more.
    #[must_use]
    pub fn has_memory(&self, machine: usize) -> bool {
        self.lock().machines[machine].refuse_allocations == 0
    }

    /// The time, in nanoseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.lock().now
    }

    /// Lets time go on, and what has arrived by then into its sockets.
    pub fn advance(&self, now: u64) {
        let mut state = self.lock();
        state.now = now;
        state.deliver();
    }

    /// How often devices have asked for the time: whoever has been at work has.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// Takes note of an event in the trace.
    pub fn note(&self, what: &'static str, values: &[(&'static str, u64)]) {
        self.lock().record(what, values);
    }

    /// Prints a line that is no event of its own, if lines are wanted.
    pub fn comment(&self, text: &str) {
        self.lock().trace.comment(text);
    }

    /// A hash of all that has happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.lock().trace.digest()
    }

    /// How many sockets machine `number` has.
    #[must_use]
    pub fn sockets(&self, number: usize) -> usize {
        self.lock().sockets.values().filter(|socket| socket.machine == number).count()
    }

    /// How many packets were sent.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.lock().packets
    }
}
