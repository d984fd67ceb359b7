//! Two machines and a cable: network namespaces joined by a veth pair.

use crate::process::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The two ends of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
}

impl End {
    pub(crate) const BOTH: [Self; 2] = [Self::Server, Self::Client];

    pub(crate) fn ipv4(self) -> &'static str {
        match self {
            Self::Server => "10.77.0.1",
            Self::Client => "10.77.0.2",
        }
    }

    /// A unique local address (RFC 4193).
    pub(crate) fn ipv6(self) -> &'static str {
        match self {
            Self::Server => "fd77:5ec::1",
            Self::Client => "fd77:5ec::2",
        }
    }
}

/// The name of the interface, in both namespaces.
pub(crate) const INTERFACE: &str = "veth";

/// Two namespaces, gone when this is dropped. The processes in them have to be dropped before.
#[derive(Debug)]
pub(crate) struct Network {
    number: u32,
}

/// What the firewall of one end has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) arrived: u64,
    pub(crate) dropped: u64,
}

impl Network {
    /// Two ends, whose interfaces have this MTU in bytes, and an IPv4 and an IPv6 address each.
    pub(crate) fn new(mtu: u32) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let network = Self { number: NUMBER.fetch_add(1, Ordering::Relaxed) };
        let [server, client] = End::BOTH.map(|end| network.namespace(end));
        for name in [&server, &client] {
            ip(&["netns", "add", name]);
        }
        let peer = ["type", "veth", "peer", "name", INTERFACE, "netns", &client];
        ip(&[["-n", &server, "link", "add", INTERFACE].as_slice(), &peer].concat());
        for end in End::BOTH {
            let name = network.namespace(end);
            ip(&["-n", &name, "addr", "add", &format!("{}/24", end.ipv4()), "dev", INTERFACE]);
            // Without duplicate address detection the address can be used at once.
            ip(&["-n", &name, "addr", "add", &format!("{}/64", end.ipv6()), "dev", INTERFACE, "nodad"]);
            ip(&["-n", &name, "link", "set", INTERFACE, "mtu", &mtu.to_string(), "up"]);
            ip(&["-n", &name, "link", "set", "lo", "up"]);
        }
        // No wait until the kernel calls the link running, which it may do a second late: a server that
        // starts now must serve.
        network
    }

    fn namespace(&self, end: End) -> String {
        format!("secure-rdma-{}-{}-{end:?}", std::process::id(), self.number)
    }

    /// A program at one end.
    pub(crate) fn command(&self, end: End, program: &str) -> Command {
        let mut command = Command::new("ip");
        // `ip` becomes the program: the process that is started is the program itself.
        command.args(["netns", "exec", &self.namespace(end), program]);
        command
    }

    /// Lets every datagram travel by itself, as on a real cable: a veth pair passes on up to 64 KiB of them
    /// in one piece.
    pub(crate) fn without_offloads(self) -> Self {
        for end in End::BOTH {
            let mut command = self.command(end, "ethtool");
            command.args([
                "-K",
                INTERFACE,
                "tso",
                "off",
                "gso",
                "off",
                "gro",
                "off",
                "tx-udp-segmentation",
                "off",
            ]);
            Process::run(&mut command, "").succeeded();
        }
        self
    }

    /// Drops 1 % of the UDP packets that arrive at each end.
    pub(crate) fn with_loss(self) -> Self {
        let rules = "table inet lab {
            counter arrived { }
            counter dropped { }
            chain input {
                type filter hook input priority 0;
                meta l4proto udp counter name arrived
                meta l4proto udp numgen random mod 100 < 1 counter name dropped drop
            }
        }";
        for end in End::BOTH {
            Process::run(self.command(end, "nft").args(["-f", "-"]), rules).succeeded();
        }
        self
    }

    /// What has arrived and what was dropped at one end.
    pub(crate) fn counted(&self, end: End) -> Counted {
        let packets = |counter| self.packets(end, "lab", counter);
        Counted { arrived: packets("arrived"), dropped: packets("dropped") }
    }

    /// What a counter of the firewall's has counted.
    pub(crate) fn packets(&self, end: End, table: &str, counter: &str) -> u64 {
        let mut command = self.command(end, "nft");
        let listed =
            Process::run(command.args(["-j", "list", "counter", "inet", table, counter]), "").succeeded();
        let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
        let entries = listed["nftables"].as_array().unwrap();
        entries.iter().find_map(|entry| entry["counter"]["packets"].as_u64()).unwrap()
    }

    /// Does something at one end, in this thread, which stays there, and in those that it starts.
    pub(crate) fn inside<T>(&self, end: End, what: impl FnOnce() -> T) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace(end))).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        what()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for end in End::BOTH {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(end)]).output();
        }
    }
}

#[track_caller]
fn ip(arguments: &[&str]) -> String {
    Process::run(Command::new("ip").args(arguments), "").succeeded().out
}
