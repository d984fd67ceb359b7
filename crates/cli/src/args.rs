//! Every argument of every command. Their comments are what `--help` prints.

pub(crate) mod bench;
pub(crate) mod files;

use crate::config;
use crate::failure::Failure;
use crate::place::Place;
use crate::size::Size;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rdma_verbs::DeviceSelector;
use secure_rdma::CounterPolicy;
use secure_rdma::certs::{Fingerprint, Name};
use secure_rdma::control::{PacketPolicy, SealPolicy};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

pub(crate) use bench::BenchArgs;
pub(crate) use files::{LsArgs, MoveArgs, TransferArgs};

/// RDMA between machines, set up inside TLS 1.3; with or without RDMA hardware.
#[derive(Debug, Parser)]
#[command(name = "secure-rdma", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct SecureRdma {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (the message says what to do), 2 wrong usage";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve clients: echo their messages, and lend each a memory region of its own
    Server(ServerArgs),
    /// Connect to a server, and send, write, read and add there
    Client(ClientArgs),
    /// Get files and folders from a server that offers a directory (`server --files`)
    #[command(
        mut_arg("paths", |arg| arg.help("Files and folders of the directory that the server offers; `.` is all of it")),
        mut_arg("into", |arg| arg.help("The folder here that they are to be in. Files of the same names are replaced"))
    )]
    Get(TransferArgs),
    /// Put files and folders on a server that takes them (`server --files --files-write`)
    #[command(
        mut_arg("paths", |arg| arg.help("Files and folders here")),
        mut_arg("into", |arg| arg.help(
            "The folder there that they are to be in, made if it isn't there. Files of the same names are replaced"
        ))
    )]
    Put(TransferArgs),
    /// List what is in a directory that a server offers (`server --files`)
    Ls(LsArgs),
    /// A server and many clients in this process, for real: everything is tried and checked
    Demo(DemoArgs),
    /// Measure bandwidth and latency between two machines, or two processes of this one
    Bench(BenchArgs),
    /// Do the original experiment anew on this machine's devices, and report what was found
    Experiment(ExperimentArgs),
    /// List the RDMA devices that can be used here
    Devices(DevicesArgs),
    /// Make and show certificates
    Certs(CertsArgs),
    /// Say what this machine offers, what that costs, and what to do
    Doctor(DoctorArgs),
    /// Print a shell's completions of this program
    Completions(CompletionsArgs),
    /// Write this program's manual pages into a directory
    Man(ManArgs),
    /// Run a verbs program that knows nothing of this one on the embedded device
    #[command(mut_args(|arg| match arg.get_id().as_str() {
        "peers" | "crl" | "allow" | "seal_port" => arg.requires("seal"),
        _ => arg,
    }))]
    Run(RunArgs),
    /// Seal what verbs programs on this host's RDMA devices exchange with those of `run --seal` elsewhere (--kernel)
    #[command(long_about = AGENT, mut_args(|arg| match arg.get_id().as_str() {
        "peers" | "certs" | "crl" | "allow" | "seal_port" => arg.requires("kernel"),
        _ => arg,
    }))]
    Agent(AgentArgs),
}

/// Serve clients: echo their messages, and lend each a memory region of its own.
#[derive(Debug, Parser)]
#[command(name = "secure_server", version, after_help = EXIT_CODES)]
pub(crate) struct SecureServer {
    #[command(flatten)]
    pub(crate) args: ServerArgs,
}

/// Connect to a server, and send, write, read and add there.
#[derive(Debug, Parser)]
#[command(name = "secure_client", version, after_help = EXIT_CODES)]
pub(crate) struct SecureClient {
    #[command(flatten)]
    pub(crate) args: ClientArgs,
}

/// What most commands take.
#[derive(Debug, Args)]
pub(crate) struct DeviceArg {
    /// RDMA device: auto (libibverbs' first with an active port, else embedded), a name that `secure-rdma
    /// devices` lists, with port and GID index if need be (mlx5_0:1:3), or embedded, embedded:ADDR,
    /// embedded:ADDR:PORT
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceSelector,
}

/// Whether the data path is sealed.
#[derive(Debug, Args)]
pub(crate) struct SealArg {
    /// Whether what is sent, written and read is sealed: encrypted and authenticated from end to end
    #[arg(long, value_name = "WHEN", default_value = "required")]
    pub(crate) seal: SealMode,
}

impl SealArg {
    pub(crate) fn policy(&self) -> SealPolicy {
        match self.seal {
            SealMode::Packets | SealMode::Required => SealPolicy::Required,
            SealMode::Optional => SealPolicy::Optional,
            SealMode::Off => SealPolicy::Off,
        }
    }

    pub(crate) fn packets(&self) -> PacketPolicy {
        if self.seal == SealMode::Packets { PacketPolicy::Required } else { PacketPolicy::Offered }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SealMode {
    /// Each packet sealed, or no session: by the embedded device, or by the kernel for its own (with CAP_NET_ADMIN; for
    /// one program at a time with each address, and no other UDP)
    Packets,
    /// Sealed, by packets where both sides' devices can, or no session
    Required,
    /// Sealed, unless the other side has it off
    Optional,
    /// In clear, unless the other side requires sealing: then no session
    Off,
}

/// Where certificates are.
#[derive(Debug, Args)]
pub(crate) struct CertsDir {
    /// Directory of certificates and keys [default: $XDG_STATE_HOME/secure-rdma, else ~/.local/state/secure-rdma]
    #[arg(long, value_name = "DIR")]
    pub(crate) certs: Option<PathBuf>,
}

/// Whom a client trusts.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Trust the CAs in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    pub(crate) ca: Option<PathBuf>,
    /// Trust the CA with this fingerprint, which the server prints at its start
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) pin: Option<Fingerprint>,
    /// Who this client is and whom it trusts: the file that `secure-rdma certs issue --bundle` has made. Without
    /// this and --cert, servers of this account are shown its own certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "key"])]
    pub(crate) identity: Option<PathBuf>,
    /// This client's own certificate, for servers that ask for one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) certs: CertsDir,
}

/// How a client connects.
#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Revocation lists (CRLs) of the CAs that are trusted, PEM or DER: a server whose certificate is on one,
    /// or on none that is current, is refused
    #[arg(long, value_name = "FILE")]
    pub(crate) crl: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) seal: SealArg,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Show the PSNs, and log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// What is asked of clients.
#[derive(Debug, Args)]
pub(crate) struct ClientAuthArgs {
    /// Whether clients need a certificate
    #[arg(long = "client-auth", value_name = "WHEN", default_value = "required")]
    pub(crate) mode: ClientAuthMode,
    /// CAs that issue clients' certificates, a PEM file [default: ca.pem in the directory of certificates]
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Have the kernel seal RoCEv2 between --address and each --peer. Needs CAP_NET_ADMIN
    #[arg(long, requires_all = ["address", "peer"])]
    pub(crate) kernel: bool,
    /// The address of this host whose RDMA device the programs use
    #[arg(long, value_name = "ADDR", requires = "kernel")]
    pub(crate) address: Option<IpAddr>,
    /// The addresses with which RoCEv2 is sealed or not spoken at all, with commas between
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "kernel")]
    pub(crate) peer: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
    /// Remove the blocks that agents have left which have ended, and nothing else. From then on RoCEv2 with their peers
    /// goes in clear
    #[arg(long, conflicts_with = "kernel")]
    pub(crate) lift: bool,
    /// The socket that programs of `run` find it by: `run` starts it with this
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["kernel", "lift"])]
    #[arg(required_unless_present_any = ["kernel", "lift"])]
    pub(crate) socket: Option<PathBuf>,
    /// Start it as a process of its own, which is nobody's child
    #[arg(long, hide = true, conflicts_with = "kernel")]
    pub(crate) detach: bool,
    /// Seconds without a program after which it ends
    #[arg(long, value_name = "SECONDS", default_value = "5", hide = true, conflicts_with = "kernel")]
    pub(crate) idle: u64,
}

const AGENT: &str = "\
Seal what verbs programs on this host's RDMA devices exchange with those of `run --seal` elsewhere.

With --kernel, RoCEv2 between --address and each --peer is blocked at once, and sealed by the kernel (IPsec: ESP in \
UDP) from the moment that the peer's agent has asked for keys, which it does when a program there names this host. \
All UDP to such a peer is: other UDP is lost. When this ends, however it does, RoCEv2 with these peers stays blocked, \
until it is started again or --lift says otherwise. Other peers are none of its business.";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the device that the program sees; where it sees several, they are numbered on (mlx5_0, mlx5_1)
    #[arg(long, value_name = "NAME", default_value = "rocev2_0")]
    pub(crate) device_name: String,
    /// How many devices the program sees, at the addresses in turn [default: one for each address]
    #[arg(long, value_name = "COUNT")]
    pub(crate) devices: Option<NonZeroUsize>,
    /// The addresses of this host that devices use, with commas between [default: the first that isn't loopback]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) address: Vec<IpAddr>,
    /// The largest path MTU: 256, 512, 1024, 2048 or 4096 [default: what fits the interface]
    #[arg(long, value_name = "MTU", value_parser = bench::mtu)]
    pub(crate) mtu: Option<rdma_verbs::Mtu>,
    /// Write what passes to this file (pcapng), with its headers, as each process sends and receives it
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,
    /// Show the devices' counters on standard error when a process ends by itself
    #[arg(long)]
    pub(crate) statistics: bool,
    #[command(flatten)]
    pub(crate) seal: SealRunArgs,
    /// Print what the environment needs, for launchers such as `mpirun -x`, and run nothing
    #[arg(long, conflicts_with = "command")]
    pub(crate) print_env: bool,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Whether and how a program's packets are sealed.
#[derive(Debug, Args)]
pub(crate) struct SealRunArgs {
    /// Seal every packet, by keys that this user's agent agrees on with the peer's by TLS, each with a certificate for
    /// the address that the programs name. What can't be sealed isn't sent
    #[arg(long)]
    pub(crate) seal: bool,
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
}

/// By what an agent agrees on keys with others.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// Where peers' agents listen, and what their certificates are for, where that isn't --seal-port and the address
    /// (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) peers: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) certs: CertsDir,
    /// Revocation lists (CRLs) of the CA, PEM or DER: a peer whose certificate is on one, or on none that is current,
    /// is refused
    #[arg(long, value_name = "FILE")]
    pub(crate) crl: Option<PathBuf>,
    /// Agree on keys only with the peers in this file (TOML), whose entries have to allow all operations
    #[arg(long, value_name = "FILE")]
    pub(crate) allow: Option<PathBuf>,
    /// The TCP port that agents listen on
    #[arg(long, value_name = "PORT", default_value_t = AGENT_PORT)]
    pub(crate) seal_port: NonZeroU16,
    /// Replace keys after so many packets
    #[arg(long, value_name = "PACKETS", hide = true)]
    pub(crate) rekey_after: Option<u64>,
}

/// The usual one.
const AGENT_PORT: NonZeroU16 = match NonZeroU16::new(secure_rdma::pair::AGENT_PORT) {
    Some(port) => port,
    None => NonZeroU16::MIN,
};

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// TCP address to listen on; port 0 takes a free one [default: port 4433 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Clients at a time
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) max_clients: NonZeroUsize,
    /// How many of these one identity may be, that is a client with a certificate; `sessions` in the list of
    /// allowed clients goes before it [default: a quarter of --max-clients, 4 at least; all for the server's own
    /// account]
    #[arg(long, value_name = "N")]
    pub(crate) max_clients_per_identity: Option<NonZeroUsize>,
    /// How many of these one address may be, without a certificate: an IPv4 address or an IPv6 /64, and twice
    /// as many a /48 [default: a quarter of --max-clients, 16 at least; all for loopback addresses]
    #[arg(long, value_name = "N")]
    pub(crate) max_clients_per_address: Option<NonZeroUsize>,
    /// TLS handshakes at a time, half of them of one address. Where there are more, the oldest of the address
    /// that has the most is closed. As many connections may be between TLS and a session
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) max_handshakes: NonZeroUsize,
    /// How long a client's TLS handshake may take, in seconds; two fifths of it are for the first byte. More helps
    /// where machines are slow or emulated, less where many connections come that say nothing
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) handshake_limit: u32,
    /// Bytes of memory that each client can write and read, such as 64K or 1M
    #[arg(long, value_name = "SIZE", default_value = "1M")]
    pub(crate) region: Size,
    /// Offer the files and folders of this directory to clients, for `ls` and `get`: to all that are let in, or to
    /// those that the list of allowed clients lets send and read. Symbolic links in it aren't followed
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
    /// Let clients `put` files and folders into that directory, too, and replace files there: those that may send
    /// and write
    #[arg(long)]
    pub(crate) files_write: bool,
    /// The largest file that clients may put
    #[arg(long, value_name = "SIZE", default_value = "1024G")]
    pub(crate) files_max: Size,
    /// Whether each client gets counters for `add` and `swap`: where messages are sealed and not packets, as on
    /// network cards, these travel in clear
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    pub(crate) counters: Counters,
    /// The longest message taken
    #[arg(long, value_name = "SIZE", default_value = "1M")]
    pub(crate) max_message: Size,
    #[command(flatten)]
    pub(crate) seal: SealArg,
    #[command(flatten)]
    pub(crate) certs: CertsDir,
    /// A further DNS name or IP address that clients know this server by; may be given several times
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<Name>,
    #[command(flatten)]
    pub(crate) client_auth: ClientAuthArgs,
    /// Revocation lists (CRLs) of these CAs, PEM or DER: a client whose certificate is on one, or on none
    /// that is current, is refused. With --client-auth required or optional; `secure-rdma certs revoke` makes
    /// the private CA's
    #[arg(long, value_name = "FILE")]
    pub(crate) crl: Option<PathBuf>,
    /// Let in only the clients in this file (TOML), each for the operations and with the region that stand
    /// there. With --client-auth required. All these files are read again when they change, and on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) allow: Option<PathBuf>,
    /// What happens to new clients while these files have changed and can't be read. Reading is tried again until
    /// it succeeds
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    pub(crate) on_reload_failure: OnReloadFailure,
    /// End sessions that have lasted for so many seconds; their clients may connect again, and show anew who they
    /// are. A session also ends with its client's certificate [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_session_age: Option<u64>,
    /// How long clients may stay after SIGTERM, in seconds: no more are let in, and those that are there go on
    /// until they leave. A second SIGTERM, or SIGINT, ends it
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) drain: u32,
    /// Answer Prometheus here, over HTTP: clients, handshakes by what became of them, what the device counts.
    /// Whoever reaches the address can read it
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// How the server's lines and its log are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Take options from this file (TOML; its keys are these options, without --). One that is given here goes
    /// before the file's; --name adds to them
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say whether options and the files that they name are right, and end
    #[arg(long)]
    pub(crate) check: bool,
    /// Show the PSNs of each client, and log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Counters {
    /// Where they are sealed, or nothing is
    Auto,
    /// Always, also in clear beside what is sealed
    On,
    /// Never
    Off,
}

impl Counters {
    /// What they are to the library.
    pub(crate) const fn policy(self) -> CounterPolicy {
        match self {
            Self::Auto => CounterPolicy::Auto,
            Self::On => CounterPolicy::On,
            Self::Off => CounterPolicy::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnReloadFailure {
    /// They are let in by what was read before
    Keep,
    /// They are turned away
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuthMode {
    /// Whoever reaches the port is a client
    Off,
    /// A client may show a certificate; a wrong one is refused
    Optional,
    /// Only clients with a certificate: this account's have one, others are given theirs by `certs issue`
    Required,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Where the server is: HOST or HOST:PORT; the port is 4433 otherwise. IPv6 addresses as ::1 or [::1]:4433
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) place: Place,
    /// The name that the server's certificate must carry [default: HOST]
    #[arg(value_name = "SERVER_NAME")]
    pub(crate) server_name: Option<Name>,
    #[command(flatten)]
    pub(crate) link: LinkArgs,
    /// Connect again, with the same identity, when the session has ended and another may do better: after pauses of up
    /// to 30 s, for as long as it takes. A line that was being carried out then is reported as unknown and not
    /// repeated; the region and the counters are new
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// A line to carry out instead of reading standard input; may be given several times
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub(crate) exec: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Clients, all connected at once
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// Only the clients, and these meet at a `secure-rdma server` that runs there, on this machine or another
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) connect: Option<Place>,
    /// The name that that server's certificate must carry [default: HOST]
    #[arg(long, value_name = "NAME", requires = "connect")]
    pub(crate) server_name: Option<Name>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) seal: SealArg,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// It takes about half a minute. Exit code 1 if something failed, or a requirement wasn't met.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// Write the report into this directory, made if it isn't there: experiment.html, one page with everything in
    /// it; experiment.md with its plots; experiment.json. Without it the Markdown goes to standard output
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// A few seconds, with less of everything: to see that it works, not for the figures
    #[arg(long)]
    pub(crate) quick: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON document: what experiment.json has
    #[arg(long)]
    pub(crate) json: bool,
    /// Log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Capture the two sessions of the experiment alone, with the server at this loopback address, and print JSON
    #[arg(long, value_name = "ADDR", hide = true)]
    pub(crate) capture: Option<std::net::Ipv4Addr>,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Show all that is known of the devices
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Try out, too, how large packets may be on the way to this host; may be given several times
    #[arg(long, value_name = "HOST")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) certs: CertsDir,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Look for the system's files below this directory, for tests
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) system: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to; made if it isn't there
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the private CA and the server's certificate, as the server's first start does
    Init(CertsInitArgs),
    /// Issue a certificate for the names given
    Issue(CertsIssueArgs),
    /// Show the certificates
    Show(CertsShowArgs),
    /// Revoke certificates that the private CA has issued, or renew its revocation list: crl.pem, for --crl
    Revoke(CertsRevokeArgs),
}

/// How the certificates are shown.
#[derive(Debug, Args)]
pub(crate) struct CertsShowArgs {
    #[command(flatten)]
    pub(crate) certs: CertsDir,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CertsInitArgs {
    /// Further DNS names and IP addresses of the server
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<Name>,
    #[command(flatten)]
    pub(crate) show: CertsShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CertsIssueArgs {
    /// The DNS names and IP addresses that the certificate is for
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<Name>,
    /// For a client that proves who it is; otherwise the certificate is a server's
    #[arg(long)]
    pub(crate) client: bool,
    /// For the agent of a host with these addresses, which has packets of programs sealed (`run --seal`): it is
    /// agent.pem, with agent-key.pem, in that host's directory, beside ca.pem
    #[arg(long, conflicts_with = "client")]
    pub(crate) agent: bool,
    /// The files' name: FILE.pem and FILE-key.pem [default: the first NAME]
    #[arg(long = "as", value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Put the certificate, its key and the CA's certificate into this one file, for --identity of a client, and
    /// the key nowhere else
    #[arg(long, value_name = "FILE", requires = "client")]
    pub(crate) bundle: Option<PathBuf>,
    /// How long the certificate is valid
    #[arg(long, value_name = "DAYS", default_value = "365", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) show: CertsShowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CertsRevokeArgs {
    /// Names: all that were issued for one, or as one, and haven't ended; or paths, or serial numbers
    /// (serial:HEX), for one certificate. With none the list is only renewed
    #[arg(value_name = "CERTIFICATE")]
    pub(crate) certificates: Vec<String>,
    /// How long the list is good: before that it has to be renewed, or whoever goes by it refuses everybody
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) show: CertsShowArgs,
}

impl SecureRdma {
    /// What the command line says, with what the file says that it names.
    pub(crate) fn read() -> Result<Self, Failure> {
        let args = Self::parse();
        let Command::Server(ServerArgs { config: Some(file), .. }) = &args.command else { return Ok(args) };
        let command = Self::command().mut_subcommand("server", |server| server.args_override_self(true));
        let mut server = command.get_subcommands().find(|command| command.get_name() == "server").cloned();
        let own = server.get_or_insert_default();
        let words = with_config(config::arguments(file, own)?, 2);
        Ok(Self::from_arg_matches(&command.get_matches_from(words)).unwrap_or_else(|error| error.exit()))
    }
}

impl SecureServer {
    /// The same.
    pub(crate) fn read() -> Result<Self, Failure> {
        let server = Self::parse();
        let Some(file) = &server.args.config else { return Ok(server) };
        let command = Self::command().args_override_self(true);
        let words = with_config(config::arguments(file, &command)?, 1);
        Ok(Self::from_arg_matches(&command.get_matches_from(words)).unwrap_or_else(|error| error.exit()))
    }
}

/// The command line with `more` behind its first `own` words: what comes later goes before it.
fn with_config(more: Vec<OsString>, own: usize) -> Vec<OsString> {
    let mut words: Vec<_> = std::env::args_os().collect();
    let at = own.min(words.len());
    words.splice(at..at, more);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_arguments_is_consistent() {
        SecureRdma::command().debug_assert();
        SecureServer::command().debug_assert();
        SecureClient::command().debug_assert();
    }

    #[test]
    fn the_short_programs_take_what_the_commands_take() {
        let arguments = |command: &clap::Command| -> Vec<String> {
            command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
        };
        let full = SecureRdma::command();
        for (short, name) in [(SecureServer::command(), "server"), (SecureClient::command(), "client")] {
            let command = full.find_subcommand(name).unwrap();
            assert_eq!(arguments(&short), arguments(command));
        }
    }

    #[test]
    fn two_ways_to_trust_and_half_an_identity_are_wrong_usage() {
        let pin = format!("sha256:{}", "0".repeat(64));
        for arguments in [
            vec!["secure_client", "host", "--ca", "ca.pem", "--pin", &pin],
            vec!["secure_client", "host", "--cert", "a.pem"],
            vec!["secure_client", "host", "--identity", "a", "--cert", "a.pem", "--key", "b.pem"],
            vec!["secure_client", "host", "--pin", "sha256:12"],
            vec!["secure_client", "host", "not a name"],
            vec!["secure_client"],
        ] {
            assert!(SecureClient::try_parse_from(&arguments).is_err(), "{arguments:?}");
        }
    }
}
