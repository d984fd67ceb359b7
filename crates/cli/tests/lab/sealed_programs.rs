//! Programs that nobody changed, on two hosts with an agent each, sealed: what is on the wire between them.

use crate::gate::{self, NETWORK, Need};
use crate::network::{End, Network};
use crate::process::{PATIENCE, Process, wait_until};
use crate::tcpdump::Capture;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SECURE_RDMA: &str = env!("CARGO_BIN_EXE_secure-rdma");

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Two hosts whose agents have certificates for their addresses by one CA. An agent stays in its network for a while.
pub(crate) struct Site {
    files: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { files: TempDir::new().unwrap() };
        let state = site.state(End::Server);
        let issue = |address: &str, file: &str| {
            let mut command = Command::new(SECURE_RDMA);
            command.args(["certs", "issue", "--agent", address, "--as", file, "--certs"]).arg(&state);
            Process::run(&mut command, "").succeeded();
        };
        issue(End::Client.ipv4(), "client");
        issue(End::Server.ipv4(), "server-agent");
        fs::create_dir(site.state(End::Client)).unwrap();
        let give = |file: &str, end: End, own: &str| {
            fs::copy(state.join(file), site.state(end).join(own)).unwrap();
        };
        for (end, file) in [(End::Server, "server-agent"), (End::Client, "client")] {
            give(&format!("{file}.pem"), end, "agent.pem");
            give(&format!("{file}-key.pem"), end, "agent-key.pem");
            fs::create_dir(site.path(end, "run")).unwrap();
        }
        give("ca.pem", End::Client, "ca.pem");
        site
    }

    pub(crate) fn path(&self, end: End, what: &str) -> PathBuf {
        self.files.path().join(format!("{end:?}-{what}"))
    }

    fn state(&self, end: End) -> PathBuf {
        self.path(end, "state")
    }

    pub(crate) fn command(&self, network: &Network, end: End, options: &[&str], program: &[&str]) -> Command {
        let mut command = network.command(end, SECURE_RDMA);
        command.env("XDG_RUNTIME_DIR", self.path(end, "run"));
        command.args(["run", "--address", end.ipv4()]).args(options).arg("--certs").arg(self.state(end));
        command.arg("--").args(program);
        command
    }

    /// Runs a program as a server and as its client; both must be done.
    #[track_caller]
    fn both(&self, network: &Network, options: &[&str], program: &[&str]) {
        let server = Process::start(&mut self.command(network, End::Server, options, program), "");
        let whole = [program, &[End::Server.ipv4()]].concat();
        let mut client = None;
        wait_until(PATIENCE, || {
            let mut command = self.command(network, End::Client, options, &whole);
            let ended = Process::start(&mut command, "").end_within(LIMIT);
            let connected = !ended.err.contains("Couldn't connect");
            client = Some(ended);
            connected
        })
        .unwrap();
        let (client, server) = (client.unwrap(), server.end_within(LIMIT));
        // libibverbs' own programs part without a word: where the network has lost the last acknowledgement, who waits
        // for it asks a peer that is gone, although all has been moved.
        let part_without_a_word = program[0].starts_with("ibv_");
        for (ended, other) in [(&client, &server), (&server, &client)] {
            let unanswered = ended.err.contains("transport retry counter exceeded") && other.status.success();
            assert!(ended.status.success() || part_without_a_word && unanswered, "{program:?}: {ended:?}");
        }
    }
}

/// The first 4 bytes of each UDP packet between the devices' ports, by who sent it, while `what` goes on.
#[track_caller]
fn capture(network: &Network, what: impl FnOnce()) -> HashMap<String, Vec<u32>> {
    let running = Capture::start(network, 96, "udp and port 4791");
    what();
    first_words(&running.end().path())
}

fn first_words(capture: &Path) -> HashMap<String, Vec<u32>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["--disable-protocol", "infiniband", "-T", "fields"]);
    command.args(["-E", "separator=|", "-e", "ip.src", "-e", "udp.payload"]);
    let ended = Process::start(&mut command, "").end_within(LIMIT).succeeded();
    let mut words: HashMap<String, Vec<u32>> = HashMap::new();
    for line in ended.out.lines() {
        let (source, payload) = line.split_once('|').unwrap();
        let word = u32::from_str_radix(&payload.replace(':', "")[..8], 16).unwrap();
        words.entry(source.to_owned()).or_default().push(word);
    }
    words
}

/// Whether a packet that begins so is plain RoCEv2: an opcode of IBA's, and version 0 of the transport header.
fn is_plain(word: u32) -> bool {
    word >> 24 < 0xc0 || word >> 16 & 0x0f == 0
}

#[track_caller]
fn no_packet_is_plain(program: &[&str], words: &HashMap<String, Vec<u32>>) {
    for end in End::BOTH {
        let of_end = words.get(end.ipv4()).unwrap_or_else(|| panic!("{program:?}: nothing from {end:?}"));
        let plain = of_end.iter().filter(|word| is_plain(**word)).count();
        assert_eq!(plain, 0, "{program:?}, {end:?}: of {} packets", of_end.len());
    }
}

#[test]
fn no_packet_between_two_hosts_is_in_clear_and_keys_change_under_traffic() {
    let tools = [
        Need::Tool("ethtool"),
        Need::Tool("nft"),
        Need::Tool("tcpdump"),
        Need::Tool("tshark"),
        Need::Tool("ib_write_bw"),
        Need::Tool("ibv_rc_pingpong"),
        Need::Tool("ibv_ud_pingpong"),
    ];
    let needs = [NETWORK.as_slice(), &tools].concat();
    if !gate::provides(&needs, "that unmodified programs' packets are sealed on the wire") {
        return;
    }
    let site = Site::new();
    // Of one key 16 times as many are sealed at most, in the seconds until it is looked at again.
    let sealed = ["--seal", "--rekey-after", "20000"];
    let pingpong = ["ibv_rc_pingpong", "-g", "0", "-n", "300", "-c", "-s", "8192", "-m", "1024"];
    let lossy = Network::new(1500).without_offloads().with_loss();
    for program in [&pingpong[..], &["ib_atomic_bw", "-x", "0", "-n", "200"]] {
        let words = capture(&lossy, || site.both(&lossy, &sealed, program));
        no_packet_is_plain(program, &words);
    }
    for program in ["ib_write_bw", "ib_read_bw"] {
        // What runs for seconds gets new keys, at least who sends the data. How many seconds is the machine's matter.
        let mut seconds = 4;
        loop {
            let run = [program, "-x", "0", "-D", &seconds.to_string(), "-s", "8192"];
            let words = capture(&lossy, || site.both(&lossy, &sealed, &run));
            no_packet_is_plain(&run, &words);
            let keys = |words: &Vec<u32>| words.iter().collect::<HashSet<_>>().len();
            let counts: Vec<_> = words.values().map(|words| (words.len(), keys(words))).collect();
            if counts.iter().any(|(_, keys)| *keys >= 2) {
                break;
            }
            seconds *= 2;
            assert!(seconds <= 32, "{run:?}: packets and keys {counts:?}");
        }
    }
    // Programs wait for ever for what unreliable transports lose.
    let (network, site) = (Network::new(1500).without_offloads(), Site::new());
    for name in ["ibv_uc_pingpong", "ibv_ud_pingpong"] {
        let program = [name, "-g", "0", "-n", "300", "-c", "-s", "1024"];
        let words = capture(&network, || site.both(&network, &sealed, &program));
        no_packet_is_plain(&program, &words);
    }
    // The same in clear is seen to be.
    let words = capture(&network, || site.both(&network, &[], &pingpong));
    for end in End::BOTH {
        assert!(words[end.ipv4()].iter().all(|word| is_plain(*word)), "{end:?}");
    }
}
