//! What happens to the network.

use crate::network::{End, INTERFACE, Network};
use crate::process::{PATIENCE, Process, wait_until};
use std::thread;
use std::time::Duration;

/// How long what can't be counted lasts: long enough for many packets, and much less than a session's retries.
const SHORT: Duration = Duration::from_millis(500);

/// What a firewall drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// RoCEv2, UDP port 4791.
    DataPath,
    /// TLS, TCP port 4433.
    Control,
    Both,
}

/// Where a firewall looks at packets. What it drops as they leave is told to who sends them (`EPERM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Input,
    Output,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// An interface is down.
    Interface(End),
    /// An address is taken away.
    Address(End, Family),
    /// Packets are dropped there.
    Firewall(Traffic, &'static [(End, Hook)]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

const TO_SERVER: &[(End, Hook)] = &[(End::Server, Hook::Input)];
const TO_CLIENT: &[(End, Hook)] = &[(End::Client, Hook::Input)];
const BOTH_WAYS: &[(End, Hook)] = &[(End::Server, Hook::Input), (End::Client, Hook::Input)];
const FROM_SERVER: &[(End, Hook)] = &[(End::Server, Hook::Output)];
const FROM_CLIENT: &[(End, Hook)] = &[(End::Client, Hook::Output)];

pub(super) const FAULTS: [Fault; 17] = [
    Fault::Interface(End::Server),
    Fault::Interface(End::Client),
    Fault::Address(End::Server, Family::V4),
    Fault::Address(End::Client, Family::V4),
    Fault::Address(End::Server, Family::V6),
    Fault::Address(End::Client, Family::V6),
    Fault::Firewall(Traffic::DataPath, TO_SERVER),
    Fault::Firewall(Traffic::DataPath, TO_CLIENT),
    Fault::Firewall(Traffic::DataPath, BOTH_WAYS),
    Fault::Firewall(Traffic::Control, TO_SERVER),
    Fault::Firewall(Traffic::Control, TO_CLIENT),
    Fault::Firewall(Traffic::Control, BOTH_WAYS),
    Fault::Firewall(Traffic::Both, TO_SERVER),
    Fault::Firewall(Traffic::Both, TO_CLIENT),
    Fault::Firewall(Traffic::Both, BOTH_WAYS),
    Fault::Firewall(Traffic::Both, FROM_SERVER),
    Fault::Firewall(Traffic::Both, FROM_CLIENT),
];

impl Fault {
    /// The server's address, of the version of IP that this is about.
    pub(super) fn host(self) -> &'static str {
        match self {
            Self::Address(_, Family::V6) => End::Server.ipv6(),
            _ => End::Server.ipv4(),
        }
    }
}

/// A fault that lasts until this is dropped.
pub(super) struct Outage<'a> {
    network: &'a Network,
    fault: Fault,
}

impl<'a> Outage<'a> {
    pub(super) fn begin(network: &'a Network, fault: Fault) -> Self {
        match fault {
            Fault::Interface(end) => ip(network, end, &["link", "set", INTERFACE, "down"]),
            Fault::Address(end, family) => {
                ip(network, end, &["addr", "del", &prefix(end, family), "dev", INTERFACE]);
            }
            Fault::Firewall(traffic, places) => {
                for (end, hook) in places {
                    nft(network, *end, &rules(traffic, *hook));
                }
            }
        }
        Self { network, fault }
    }

    /// Waits until packets are lost by it: where nothing arrives nothing may be answered, either.
    #[track_caller]
    pub(super) fn is_felt(&self) {
        let Fault::Firewall(_, places) = self.fault else {
            thread::sleep(SHORT);
            return;
        };
        let felt = |end| self.network.packets(end, "outage", "dropped") > 0;
        // Of the control channel a heartbeat at least, in five seconds.
        let lost = wait_until(PATIENCE, || places.iter().any(|(end, _)| felt(*end)));
        assert!(lost.is_some(), "nothing was dropped");
    }
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        match self.fault {
            Fault::Interface(end) => ip(self.network, end, &["link", "set", INTERFACE, "up"]),
            Fault::Address(end, family) => {
                let mut arguments = vec!["addr", "add", "", "dev", INTERFACE];
                let prefix = prefix(end, family);
                arguments[2] = &prefix;
                if family == Family::V6 {
                    arguments.push("nodad");
                }
                ip(self.network, end, &arguments);
            }
            Fault::Firewall(_, places) => {
                for (end, _) in places {
                    nft(self.network, *end, "delete table inet outage");
                }
            }
        }
    }
}

fn prefix(end: End, family: Family) -> String {
    match family {
        Family::V4 => format!("{}/24", end.ipv4()),
        Family::V6 => format!("{}/64", end.ipv6()),
    }
}

/// In both directions: which of them it is, the place says.
fn rules(traffic: Traffic, hook: Hook) -> String {
    let data = "udp dport 4791 counter name dropped drop";
    let control = "tcp dport 4433 counter name dropped drop; tcp sport 4433 counter name dropped drop";
    let rules = match traffic {
        Traffic::DataPath => data.to_owned(),
        Traffic::Control => control.to_owned(),
        Traffic::Both => format!("{data}; {control}"),
    };
    let hook = match hook {
        Hook::Input => "input",
        Hook::Output => "output",
    };
    format!(
        "table inet outage {{
            counter dropped {{ }}
            chain there {{ type filter hook {hook} priority 0; {rules}; }}
        }}"
    )
}

fn ip(network: &Network, end: End, arguments: &[&str]) {
    Process::run(network.command(end, "ip").args(arguments), "").succeeded();
}

fn nft(network: &Network, end: End, rules: &str) {
    Process::run(network.command(end, "nft").args(["-f", "-"]), rules).succeeded();
}
