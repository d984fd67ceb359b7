//! Every transport, and shared receive queues, between devices over real sockets.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod datagrams;
mod end;
mod multicast;
mod sealed_datagrams;
mod shared;
mod unreliable;
mod xrc;

use end::{End, fresh};
use rocev2::wire::Transport;
use std::net::{IpAddr, Ipv6Addr};

/// A connection over IPv4, and one over IPv6.
fn pairs(transport: Transport) -> [[End; 2]; 2] {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    [[fresh(), fresh()], [v6, v6]].map(|addresses| {
        let ends = addresses.map(|address| End::new(transport, address));
        ends[0].connect(&ends[1]);
        ends[1].connect(&ends[0]);
        ends
    })
}
