//! The transports, proved in virtual time: no clock, no sleep, no thread; every random decision comes from a seed.
//!
//! `RC_SEEDS` sets how many seeds each randomised proof takes, and `RC_SEED` runs a single one, as a failure names it.
//!
//! | module | what it holds |
//! |---|---|
//! | `rng`, `memory`, `world`, `workload` | seeds; memory in safe Rust; two hosts, two links; checked work for them |
//! | `driven` | a queue pair with its receive queue |
//! | `lone` | one queue pair and a peer whose packets are written by hand |
//! | `shared`, `windows` | shared receive queues; memory windows and other local operations |
//! | `uc`, `ud`, `attributes` | the unreliable transports; which attributes each transition takes |
//! | `xrc`, `dissected` | the extended reliable connection; what tshark reads in its packets |
//! | the others | the proofs of the reliable connection |

mod driven;
mod lone;
mod memory;
mod rng;
mod workload;
mod world;

mod asking;
mod attributes;
mod bursts;
mod congestion;
mod dissected;
mod errors;
mod hostile;
mod large;
mod liveness;
mod operations;
mod shared;
mod states;
mod uc;
mod ud;
mod windows;
mod wire;
mod workloads;
mod xrc;
