//! A way to the kernel's device that leads through an attacker's machine, as `lab/jobs/attacks` makes it: the device's
//! interface is in this network namespace, the client and the attacker have namespaces of their own.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;

pub(crate) const SERVER: &str = "fd77:1::1";
pub(crate) const CLIENT: &str = "fd77:2::1";
/// The attacker's own, on the server's side.
pub(crate) const ATTACKER: &str = "fd77:1::ff";

/// The Soft-RoCE device there.
pub(crate) const DEVICE: &str = "rxe_path";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Machine {
    Client,
    Attacker,
}

#[derive(Debug)]
pub(crate) struct Network;

impl Network {
    /// What moves a thread to that machine, with all sockets that it will open.
    #[allow(clippy::unused_self, reason = "the attacks on the embedded device have a network for each")]
    pub(crate) fn door(&self, machine: Machine) -> impl Fn() + Send + Sync + 'static {
        let name = match machine {
            Machine::Client => "attack-c",
            Machine::Attacker => "attack-m",
        };
        let file = File::open(format!("/run/netns/{name}")).unwrap();
        move || move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap()
    }
}
