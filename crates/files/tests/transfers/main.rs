//! Whole transfers: a server that offers a directory, and clients, in one process, over the embedded device.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod hostile_client;
mod hostile_server;
mod names;
mod resumed;
mod round_trip;
mod world;
