//! A server and its clients in one process: for each test program that needs them.

use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{Identity, Name, Store};
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{
    Arrival, Client, CounterPolicy, Server, ServerOptions, Session, SessionError, SessionOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a handshake may take: no test is of that limit, and both sides of it may have one slow thread.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of each client's region.
pub(crate) const REGION: u64 = 1 << 20;

/// What a test may want otherwise of its server.
pub(crate) struct ServerConfig {
    pub(crate) client_auth: ClientAuth,
    pub(crate) options: ServerOptions,
}

/// A server's certificates and a client that trusts them.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    _state: tempfile::TempDir,
    /// The server's device.
    pub(crate) device: Arc<Device>,
    pub(crate) server: Server,
    pub(crate) client: Client,
    name: Name,
}

impl World {
    /// A server with these options, and a client with the usual ones.
    pub(crate) async fn new(address: &str, max_clients: usize, options: SessionOptions) -> Self {
        Self::with(address, options, SessionOptions::default(), |config| {
            config.options.max_clients = max_clients;
        })
        .await
    }

    /// A server and a client with these options each; what else is to be different on the server.
    pub(crate) async fn with(
        address: &str,
        at_server: SessionOptions,
        at_client: SessionOptions,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let dir = state.path().join("state");
        let name: Name = "localhost".parse().expect("a name");
        let identity = Store::open(&dir)
            .expect("a store")
            .ensure_server(std::slice::from_ref(&name))
            .expect("certificates");
        let options = ServerOptions::default()
            .max_clients(4)
            .max_handshakes(16)
            .first_byte(PATIENCE)
            .handshake(PATIENCE)
            .region_len(REGION)
            .counters(CounterPolicy::On)
            .session(at_server);
        let mut config = ServerConfig { client_auth: ClientAuth::Off, options };
        change(&mut config);
        let device = device();
        let server = Server::builder(identity, config.client_auth)
            .device(Arc::clone(&device))
            .options(config.options)
            .bind((address, 0))
            .await
            .expect("a server");
        let client = client(&dir, None, at_client);
        Self { _state: state, dir, device, server, client, name }
    }

    pub(crate) async fn connect(&self) -> Result<Session, SessionError> {
        let address = self.server.local_addr();
        self.client.connect(&address.ip().to_string(), address.port(), &self.name).await
    }

    pub(crate) async fn arrival(&mut self) -> Session {
        match self.server.next().await {
            Arrival::Session(session) => *session,
            Arrival::Refused { error, .. } => panic!("refused: {error}"),
        }
    }

    /// Both ends of a session.
    pub(crate) async fn session(&mut self) -> (Session, Session) {
        let client = self.connect().await.expect("a session");
        (client, self.arrival().await)
    }
}

pub(crate) fn device() -> Arc<Device> {
    let name = std::env::var("SECURE_RDMA_TEST_DEVICE").unwrap_or_else(|_| "embedded".into());
    let selector: DeviceSelector = name.parse().expect("a device's name");
    Device::open(&selector).expect("the device")
}

/// The usual options, but messages and slots are sealed also where packets could be.
pub(crate) fn messages() -> SessionOptions {
    SessionOptions::default().packets(None)
}

/// Whether the sessions' devices are embedded ones.
pub(crate) fn is_embedded() -> bool {
    std::env::var("SECURE_RDMA_TEST_DEVICE").map_or(true, |name| name.starts_with("embedded"))
}

/// A counter of a device.
pub(crate) fn counted(device: &Device, name: &str) -> u64 {
    let counters = device.counters();
    counters.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..253u8).cycle().take(len).collect()
}

/// A client that trusts the server whose state is in `dir`.
pub(crate) fn client(dir: &Path, identity: Option<Identity>, options: SessionOptions) -> Client {
    let builder = Client::builder(Trust::State(dir.to_path_buf())).device(device()).options(options);
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    builder.build().expect("a client")
}
