//! The other side: a server that the user has started, or one that is started here, as a process of its own.

use super::request::Request;
use crate::args::bench::{LONGEST, MeasureArgs};
use crate::failure::Failure;
use crate::place::Place;
use crate::trust::server_name;
use rdma_verbs::Device;
use secure_rdma::certs::{Identity, Name, Store};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::Trust;
use secure_rdma::{Buffers, Client, Session, SessionOptions};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// How long a server that is started here may take until it listens.
const START: Duration = Duration::from_secs(30);

/// The name of a server here.
const HERE: &str = "localhost";

/// Where the other side is, and what opens sessions with it.
pub(crate) struct Pair {
    device: Arc<Device>,
    trust: Trust,
    identity: Option<Identity>,
    place: Place,
    name: Name,
    here: Option<Here>,
}

/// A server in a process of its own; when this is dropped, it ends.
struct Here {
    _process: Child,
    /// What it tells isn't of interest, but it has to be able to.
    _output: BufReader<ChildStdout>,
    state: TempDir,
}

impl Pair {
    pub(crate) async fn new(
        request: &Request,
        args: &MeasureArgs,
        device: &Arc<Device>,
    ) -> Result<Self, Failure> {
        let (place, name, here) = match &args.place {
            Some(place) => (place.clone(), server_name(args.server_name.as_ref(), place)?, None),
            None => {
                let (here, place) = Here::start(request, device).await?;
                let name = HERE.parse().map_err(|error| Failure::Other(format!("{HERE}: {error}")))?;
                (place, name, Some(here))
            }
        };
        let (trust, identity) = match &here {
            Some(here) => {
                let dir = here.state.path().join("certs");
                (Trust::State(dir.clone()), Store::open(dir)?.account_identity()?)
            }
            None => (args.trust.trust()?, args.trust.own()?),
        };
        Ok(Self { device: Arc::clone(device), trust, identity, place, name, here })
    }

    /// A session with it, which has these buffers.
    pub(crate) async fn open(&self, buffers: Buffers) -> Result<Session, Failure> {
        // What is told of queue pairs in clear is sealed too.
        let seal = SealPolicy::Required;
        let options = SessionOptions::default().seal(seal).max_message(LONGEST).buffers(buffers);
        let mut client =
            Client::builder(self.trust.clone()).device(Arc::clone(&self.device)).options(options);
        if let Some(identity) = self.identity.clone() {
            client = client.identity(identity);
        }
        Ok(client.connect(&self.place.host, self.place.port, &self.name).await?)
    }

    /// Everything has been measured.
    pub(crate) fn end(self) {
        drop(self.here);
    }
}

impl Here {
    async fn start(request: &Request, device: &Arc<Device>) -> Result<(Self, Place), Failure> {
        const WHAT: &str = "starting the other side";
        let state = TempDir::new().map_err(Failure::system("making a directory for certificates"))?;
        let program = std::env::current_exe().map_err(Failure::system("finding this program's own file"))?;
        let longest = request.sizes.iter().max().copied().unwrap_or(1);
        let mut command = Command::new(program);
        command.args(["bench", "server", "--listen", "127.0.0.1:0", "--until-input-ends"]);
        command.args(["--region", &longest.to_string(), "--device", &device.name().to_string()]);
        // It serves this process alone, which asks for no more than its user did.
        command.args(["--memory", "1024G", "--max-runs", "1024"]);
        command.arg("--certs").arg(state.path().join("certs"));
        // Its input ends with this process, however that ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().map_err(Failure::system(WHAT))?;
        let output = process.stdout.take().ok_or_else(|| Failure::Other(format!("{WHAT}: no output")))?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        let port = match tokio::time::timeout(START, output.read_line(&mut line)).await {
            Ok(Ok(_)) => line.strip_prefix("listening on 127.0.0.1:").and_then(|rest| {
                let (port, _) = rest.split_once(',')?;
                port.parse().ok()
            }),
            Ok(Err(error)) => return Err(Failure::System { what: WHAT, source: error }),
            Err(_) => return Err(Failure::Other(format!("{WHAT}: it isn't ready after {START:?}"))),
        };
        let Some(port) = port else {
            return Err(Failure::Other(format!("{WHAT}: it ended; what it said is above")));
        };
        let place = Place { host: "127.0.0.1".into(), port };
        Ok((Self { _process: process, _output: output, state }, place))
    }
}
