//! Three machines: a client's, a server's, and between them the attacker's, which all their packets pass.
//! They are network namespaces; the attacker's forwards TCP in the kernel and takes UDP packets for itself.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) const SERVER: &str = "fd77:1::1";
pub(crate) const CLIENT: &str = "fd77:2::1";
/// The attacker's own, on the server's side.
pub(crate) const ATTACKER: &str = "fd77:1::ff";

/// `$1` is the namespaces' name, but for their last letter. The attacker's `s` leads to the server, its `c`
/// to the client. What is sent to their addresses by UDP is at home where it arrives there, so that a socket
/// may have it; and sockets may have addresses that aren't the attacker's own. Nobody has to be asked for
/// anyone's address, and all links are up, before the first packet: otherwise it would be lost.
const BUILD: &str = r#"
for end in s c m; do ip netns add $1$end; ip -n $1$end link set lo up; done
number=1
for end in s c; do
    ip -n $1$end link add net0 address 02:00:00:00:0$number:01 type veth \
        peer name $end address 02:00:00:00:0$number:ff netns $1m
    ip -n $1$end addr add fd77:$number::1/64 dev net0 nodad
    ip -n $1m addr add fd77:$number::ff/64 dev $end nodad
    ip -n $1$end link set net0 mtu 9000 up
    ip -n $1m link set $end mtu 9000 up
    ip -n $1$end neigh add fd77:$number::ff lladdr 02:00:00:00:0$number:ff dev net0
    ip -n $1m neigh add fd77:$number::1 lladdr 02:00:00:00:0$number:01 dev $end
    ip -n $1$end route add default via fd77:$number::ff
    ip -n $1m -6 rule add iif $end ipproto udp lookup 100
    ip -n $1m -6 route add local fd77:$number::1 dev lo table 100
    number=2
done
ip netns exec $1m sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind'
up() { timeout 10 sh -c 'until ip -n $0 -o link show $1 | grep -q "state UP"; do sleep 0.01; done' $1 $2; }
for end in s c; do up $1m $end; up $1$end net0; done
"#;

const REMOVE: &str = "for end in s c m; do ip netns del $1$end; done";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Machine {
    Server,
    Client,
    Attacker,
}

/// Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
}

impl Network {
    /// `None`, and a word on it, where this user can't have namespaces.
    ///
    /// # Panics
    ///
    /// With `CI=true` in the environment, if so: there, a test that isn't carried out has failed.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let tool = std::env::split_paths(&paths).any(|place| place.join("ip").is_file());
        if !tool || !rustix::process::geteuid().is_root() {
            static SAID: Once = Once::new();
            let message =
                "NOT PROVED: what an attacker on the path can do; missing here: root, or the program `ip`";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
            // Not `eprintln!`: the test harness hides what that prints in tests that pass.
            SAID.call_once(|| {
                let _ = writeln!(std::io::stderr(), "\n{message}\n");
            });
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Self { name: format!("secure-rdma-attack-{}-{number}-", std::process::id()) };
        let output = network.shell(BUILD);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(network)
    }

    fn shell(&self, script: &str) -> std::process::Output {
        Command::new("sh").args(["-euc", script, "sh", &self.name]).output().expect("sh")
    }

    /// What moves a thread to that machine, with all sockets that it will open.
    pub(crate) fn door(&self, machine: Machine) -> impl Fn() + Send + Sync + 'static {
        let letter = match machine {
            Machine::Server => 's',
            Machine::Client => 'c',
            Machine::Attacker => 'm',
        };
        let path = Path::new("/run/netns").join(format!("{}{letter}", self.name));
        let file = File::open(&path).expect("the namespace");
        move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace lets this thread in");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shell(REMOVE);
    }
}
