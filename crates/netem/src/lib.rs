//! A link for tests, in virtual time: delay, bandwidth, a queue, loss, reordering, duplication and corruption.
//!
//! There is no clock, no thread and no randomness from outside. Time is a number of nanoseconds that the
//! caller passes in, and every random decision comes from the seed: the same calls on a link with the same
//! seed give the same run on every machine.
//!
//! A [`Link`] goes in one direction. Two of them make a path:
//!
//! ```
//! use netem::{Link, LinkConfig, Loss};
//!
//! let config = LinkConfig { latency_ns: 10_000, loss: Loss::Bernoulli(0.2), ..LinkConfig::default() };
//! let mut there = Link::new(config, 1);
//! let mut back = Link::new(config, 2);
//!
//! let (mut now, mut pings, mut pongs) = (0, 0, 0);
//! for _ in 0..100 {
//!     there.send(now, b"ping".to_vec());
//!     // Run until nothing is under way: always jump to the next moment at which something arrives.
//!     while let Some(next) = there.next_delivery().into_iter().chain(back.next_delivery()).min() {
//!         now = next;
//!         while let Some(_ping) = there.recv(now) {
//!             pings += 1;
//!             back.send(now, b"pong".to_vec());
//!         }
//!         while let Some(_pong) = back.recv(now) {
//!             pongs += 1;
//!         }
//!     }
//! }
//! assert!(pongs < pings && pings < 100);
//! assert_eq!(there.counters().lost, 100 - pings);
//! ```
//!
//! # What happens to a packet, in this order
//!
//! 1. **Queue.** If the link is still busy with earlier packets and their bytes leave no room, the packet is dropped.
//! 2. **Transmission** at the link's bandwidth. From here on the packet has used its share of the link.
//! 3. **Loss.**
//! 4. **Duplication.** From here on each copy has its own fate.
//! 5. **Corruption**: some bits are flipped.
//! 6. **Delay**: latency and jitter. Jitter alone never changes the order; **reordering** holds a packet back
//!    so that later ones overtake it.
//!
//! Which packets are lost and which are duplicated depends on the seed and on their number alone, not on the
//! link's other settings: in a failing run, turn the others off one by one to find the one that matters.
#![forbid(unsafe_code)]

mod config;
mod counters;
mod dice;
mod link;
mod packet;
mod transmitter;

pub use config::{Corrupt, LinkConfig, Loss, Reorder};
pub use counters::Counters;
pub use link::Link;
pub use packet::Packet;
