//! The state machines of both sides, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bounds;
mod datagrams;
mod established;
mod hostile;
mod lossy;
mod lost;
mod not_listening_yet;
mod world;
