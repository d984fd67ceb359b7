//! A server in this process, and sessions with it: certificates of a CA that nobody else will ever trust.

use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{CertificateInfo, Identity, Name, Store};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::ClientAuth;
use secure_rdma::{
    Client, Report, Server, ServerOptions, Session, SessionError, SessionOptions, SessionQuota, Timeouts,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// No session takes so long to open or to close, nor any step of that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both ends of sessions.
#[derive(Debug)]
pub(super) struct Meeting {
    server: Server,
    client: Client,
    store: Store,
    name: Name,
    host: String,
    _state: TempDir,
}

/// A session's two ends.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: Session,
    pub(super) server: Session,
}

/// For `map_err`.
pub(super) fn told(error: impl std::error::Error + 'static) -> String {
    Report::new(&error).to_string()
}

impl Meeting {
    /// A server at `address`, on the device `server`; its clients are on the device `client`.
    pub(super) async fn start(
        server: &DeviceSelector,
        client: &DeviceSelector,
        address: IpAddr,
        seal: SealPolicy,
    ) -> Result<Self, String> {
        let state = tempfile::tempdir().map_err(|error| format!("making a temporary directory: {error}"))?;
        let store = Store::open(state.path()).map_err(told)?;
        let name = Name::from(address);
        let names = [name.clone()];
        let identity = store.ensure_server(&names).map_err(told)?;
        let account = store.ensure_account(&names).map_err(told)?.ok_or("the CA's key is missing")?;
        let auth = ClientAuth::Required(store.certificate_file("ca").into());
        let timeouts = Timeouts::DEFAULT.connect(PATIENCE).step(PATIENCE);
        let session = || SessionOptions::default().seal(seal).timeouts(timeouts);
        // All of them are of one identity and one address.
        let options = ServerOptions::default().quota(SessionQuota::UNLIMITED);
        let options = options.first_byte(PATIENCE).handshake(PATIENCE).session(session());
        let device = Device::open(server).map_err(told)?;
        let server = Server::builder(identity, auth).device(device).options(options);
        let server = server.bind((address, 0)).await.map_err(told)?;
        let authority = store.authority().map_err(told)?;
        let device = Device::open(client).map_err(told)?;
        let client = Client::builder(authority).identity(account).device(device).options(session());
        let client = client.build().map_err(told)?;
        Ok(Self { server, client, store, name, host: address.to_string(), _state: state })
    }

    /// Opens a session.
    pub(super) async fn open(&self) -> Result<Pair, String> {
        let connect = async { self.client.connect(&self.host, self.port(), &self.name).await.map_err(told) };
        let accept = async { Ok(self.server.accept().await) };
        let both = async { tokio::try_join!(connect, accept) };
        let (client, server) =
            tokio::time::timeout(PATIENCE, both).await.map_err(|_| "a session took too long to open")??;
        Ok(Pair { client, server })
    }

    /// Tries to connect otherwise: as `identity`, trusting the CA of `trusted`, to a server of that name.
    pub(super) async fn attempt(
        &self,
        device: Arc<Device>,
        trusted: &Store,
        identity: Option<Identity>,
        name: &Name,
    ) -> Result<Result<Session, SessionError>, String> {
        let mut client = Client::builder(trusted.authority().map_err(told)?).device(device);
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        let connect = client.connect(&self.host, self.port(), name);
        // The server goes on; what it says of whom it refuses is for its log.
        let serve = async {
            loop {
                let _ = self.server.next().await;
            }
        };
        tokio::select! {
            result = tokio::time::timeout(PATIENCE, connect) => {
                result.map_err(|_| "an attempt to connect took too long".to_owned())
            }
            () = serve => Err("the server has ended".into()),
        }
    }

    /// This account's identity.
    pub(super) fn account(&self) -> Result<Option<Identity>, String> {
        self.store.account_identity().map_err(told)
    }

    /// The name in the server's certificate.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The certificates of both sides, and the CA's.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What these say.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateInfo>, String> {
        self.store.show().map_err(told)
    }

    /// The TCP port of the server.
    pub(super) fn port(&self) -> u16 {
        self.server.local_addr().port()
    }
}

impl Pair {
    /// Says goodbye, from both ends.
    pub(super) async fn close(self) -> Result<(), String> {
        let both = async { tokio::join!(self.client.close(), self.server.close()) };
        let (client, server) =
            tokio::time::timeout(PATIENCE, both).await.map_err(|_| "a session took too long to close")?;
        client.and(server).map_err(told)
    }
}
