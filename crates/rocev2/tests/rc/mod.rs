//! | module | what it holds |
//! |---|---|
//! | `rng`, `memory`, `world`, `workload` | seeds; memory in safe Rust; two hosts, two links; checked work for them |
//! | `driven` | a queue pair with its receive queue |
//! | `lone` | one queue pair and a peer whose packets are written by hand |
//! | the others | the proofs |

mod driven;
mod lone;
mod memory;
mod rng;
mod workload;
mod world;

mod asking;
mod congestion;
mod errors;
mod hostile;
mod large;
mod liveness;
mod operations;
mod states;
mod wire;
mod workloads;
