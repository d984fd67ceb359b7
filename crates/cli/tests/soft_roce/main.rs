//! The programs on the Linux kernel's Soft-RoCE, and between it and the embedded device.
//!
//! These tests run in the virtual machine that `lab/run` boots, one after another. They expect what
//! `lab/network.sh` makes there: the device `rxe0` on the near end of a cable whose far end is in the network
//! namespace `peer`.

#![allow(clippy::unwrap_used, reason = "tests, though cargo is told not to run them")]

mod attacks;
mod bad_input;
#[allow(dead_code, reason = "the lab's tests use all of it")]
#[path = "../lab/dissect.rs"]
mod dissect;
mod guest;
#[allow(dead_code, reason = "the attacks on the embedded device use all of it")]
#[path = "../../../secure-rdma/tests/attacks/middle.rs"]
mod middle;
mod network;
#[allow(dead_code, reason = "the attacks on the embedded device use all of it")]
#[path = "../../../secure-rdma/tests/attacks/packets.rs"]
mod packets;
#[allow(dead_code, reason = "the lab's tests use all of it")]
#[path = "../lab/process.rs"]
mod process;
mod rekeyed;
mod sealed;
mod sessions;
mod shared;
#[path = "../lab/whole_capture.rs"]
mod whole_capture;
mod wire;
