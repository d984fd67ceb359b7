//! The programs on networks that a test can build, break and listen to: network namespaces, packet loss, captures.
//!
//! These tests need root and tools that not every machine has; [`gate`] says which. Nothing here touches the
//! machine's own network beyond its loopback interface.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod capture;
mod captured_programs;
mod churn;
mod dissect;
mod gate;
mod idle;
mod loss;
mod memory;
mod network;
mod outages;
mod process;
mod recorded_keys;
mod rekeys;
mod sealed_management;
mod sealed_programs;
mod server;
mod sessions;
mod tcpdump;
mod whole_capture;
