//! Connecting to servers.

use crate::SessionError;
use crate::certs::{Identity, Name};
use crate::control::ControlChannel;
use crate::session::{Local, STEP_LIMIT, Session, SessionOptions, as_client};
use crate::tls::{ClientTls, Trust};
use rdma_verbs::Device;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// Whom a client trusts, who it is, and what it wants of its sessions.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who says who the server is.
    pub trust: Trust,
    /// This client's own certificate, for servers that ask for one.
    pub identity: Option<Identity>,
    /// What it wants of its sessions.
    pub options: SessionOptions,
}

/// A client: it opens sessions over one device.
#[derive(Debug)]
pub struct Client {
    device: Arc<Device>,
    tls: ClientTls,
    options: SessionOptions,
}

impl Client {
    /// A client that uses `device`.
    ///
    /// # Errors
    /// What is to be trusted can't be read.
    pub fn new(device: Arc<Device>, config: ClientConfig) -> Result<Self, SessionError> {
        let tls = ClientTls::new(config.trust, config.identity).map_err(Arc::new)?;
        Ok(Self { device, tls, options: config.options })
    }

    /// Checks servers' certificates against the revocation lists in the file `path` too, as
    /// [`ClientTls::with_revocations`] says.
    ///
    /// # Errors
    /// If the file can't be read or isn't that.
    pub fn with_revocations(mut self, path: &Path, remembered: Option<&Path>) -> Result<Self, SessionError> {
        self.tls = self.tls.with_revocations(path, remembered).map_err(Arc::new)?;
        Ok(self)
    }

    /// The device that it uses.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Opens a session with the server `server_name` at `host` and TCP port `port`.
    ///
    /// # Errors
    /// It can't be reached, isn't who it should be, or refuses.
    pub async fn connect(&self, host: &str, port: u16, server_name: &Name) -> Result<Session, SessionError> {
        // In a box: whoever spawns this moves it several times, and it is large.
        Box::pin(self.meet(host, port, server_name)).await
    }

    async fn meet(&self, host: &str, port: u16, server_name: &Name) -> Result<Session, SessionError> {
        let since = Instant::now();
        let (stream, peer) = reach(host, port).await?;
        let address =
            stream.local_addr().map_err(SessionError::system("reading the connection's own address"))?;
        // Records are small and each is waited for.
        stream.set_nodelay(true).map_err(SessionError::system("setting TCP_NODELAY"))?;
        let secured = self.tls.connect(stream, server_name, STEP_LIMIT).await.map_err(Arc::new)?;
        let local = Local {
            device: &self.device,
            options: self.options,
            address,
            peer,
            tls: secured.negotiated,
            client_certificate: secured.client_certificate,
            since,
        };
        as_client(ControlChannel::new(secured.stream), local).await
    }
}

/// A TCP connection to the first of the host's addresses that answers.
async fn reach(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), SessionError> {
    let unknown = |reason: String| SessionError::Resolve { host: host.to_owned(), reason };
    let addresses = match timeout(STEP_LIMIT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Err(_) => return Err(unknown(format!("no answer within {STEP_LIMIT:?}"))),
    };
    let mut last = unknown("it has no address".into());
    for address in addresses {
        let reason = match timeout(STEP_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {STEP_LIMIT:?}"),
        };
        last = SessionError::Connect { address, reason };
    }
    Err(last)
}
