//! Connecting to servers.

use crate::SessionError;
use crate::certs::{Clock, Identity, Name, RevocationLists};
use crate::control::ControlChannel;
use crate::session::{Associations, Local, Session, SessionOptions, as_client};
use crate::tls::{ClientTls, Trust};
use crate::transport::Connection;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma_xfrm::helper::Helper;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// A client: it opens sessions over one device, as many as one likes.
#[derive(Debug)]
pub struct Client {
    device: Arc<Device>,
    kernel: Option<Arc<Helper>>,
    /// Those that its sessions share, where a kernel seals or opens packets.
    associations: Associations,
    tls: ClientTls,
    options: SessionOptions,
}

/// A client that isn't made yet: [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "a client is made by `build`, or by `connect` for one session"]
pub struct ClientBuilder {
    trust: Trust,
    identity: Option<Identity>,
    revocations: Option<(RevocationLists, Option<PathBuf>)>,
    device: Option<Arc<Device>>,
    kernel: Option<Arc<Helper>>,
    clock: Clock,
    options: SessionOptions,
}

impl ClientBuilder {
    /// Shows this certificate to servers that ask for one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Checks servers' certificates against these revocation lists too: there has to be one of each CA that is
    /// trusted, and none may have ended.
    pub fn revocations(mut self, lists: impl Into<RevocationLists>) -> Self {
        let remembered = self.revocations.and_then(|(_, remembered)| remembered);
        self.revocations = Some((lists.into(), remembered));
        self
    }

    /// Remembers in the file `path` which revocation lists were gone by, so that no older one is taken the next time
    /// either. Without revocation lists it does nothing.
    pub fn remember_revocations(mut self, path: impl Into<PathBuf>) -> Self {
        if let Some((_, remembered)) = &mut self.revocations {
            *remembered = Some(path.into());
        }
        self
    }

    /// Uses this device. Without, `libibverbs`' first device that may be used, or else the embedded one.
    pub fn device(mut self, device: Arc<Device>) -> Self {
        self.device = Some(device);
        self
    }

    /// Has the kernel seal packets by this helper, where they have to be
    /// ([`PacketPolicy::Required`](crate::control::PacketPolicy)) and the device, such as Soft-RoCE, can't. With
    /// each address it seals for the sessions of one client or server at a time, and what else is sent between the two
    /// addresses by UDP is lost.
    pub fn kernel(mut self, helper: Arc<Helper>) -> Self {
        self.kernel = Some(helper);
        self
    }

    /// Goes by this clock, instead of the system's, as to when certificates and revocation lists have ended.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Wants this of its sessions.
    pub fn options(mut self, options: SessionOptions) -> Self {
        self.options = options;
        self
    }

    /// The client. What is to be trusted is read now: a client that is to go by what files say later is made anew.
    ///
    /// # Errors
    /// What is to be trusted can't be read, or there is no device.
    pub fn build(self) -> Result<Client, SessionError> {
        let Self { trust, identity, revocations, device, kernel, clock, options } = self;
        let mut tls = ClientTls::with_clock(trust, identity, clock).map_err(Arc::new)?;
        if let Some((lists, remembered)) = revocations {
            tls = tls.with_revocations(lists, remembered.as_deref()).map_err(Arc::new)?;
        }
        let device = match device {
            Some(device) => device,
            None => Device::open(&DeviceSelector::Auto)?,
        };
        Ok(Client { device, kernel, associations: Associations::default(), tls, options })
    }

    /// One session: [`build`](Self::build), and then [`Client::connect`].
    ///
    /// # Errors
    /// As theirs.
    pub async fn connect(self, host: &str, port: u16, server_name: &Name) -> Result<Session, SessionError> {
        self.build()?.connect(host, port, server_name).await
    }
}

impl Client {
    /// A client that trusts `trust` to say who a server is.
    pub fn builder(trust: impl Into<Trust>) -> ClientBuilder {
        ClientBuilder {
            trust: trust.into(),
            identity: None,
            revocations: None,
            device: None,
            kernel: None,
            clock: Clock::default(),
            options: SessionOptions::default(),
        }
    }

    /// The device that it uses.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Opens a session with the server at `host` and TCP port `port`, whose certificate has to have the name
    /// `server_name`. Cancelling is safe; the server is left to notice.
    ///
    /// # Errors
    /// It can't be reached, isn't who it should be, or refuses.
    pub async fn connect(&self, host: &str, port: u16, server_name: &Name) -> Result<Session, SessionError> {
        // In a box: whoever spawns this moves it several times, and it is large.
        Box::pin(self.meet(host, port, server_name)).await
    }

    async fn meet(&self, host: &str, port: u16, server_name: &Name) -> Result<Session, SessionError> {
        let since = Instant::now();
        let (stream, peer) = reach(host, port, self.options.timeouts.connect).await?;
        self.open(stream, peer, server_name, since).await
    }

    /// Opens a session with the server at the other end of `stream`, which is at `peer`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    #[cfg(feature = "testing")]
    pub async fn connect_over<T: Connection>(
        &self,
        stream: T,
        peer: SocketAddr,
        server_name: &Name,
    ) -> Result<Session, SessionError> {
        Box::pin(self.open(stream, peer, server_name, Instant::now())).await
    }

    async fn open<T: Connection>(
        &self,
        stream: T,
        peer: SocketAddr,
        server_name: &Name,
        since: Instant,
    ) -> Result<Session, SessionError> {
        let address =
            stream.local_addr().map_err(SessionError::system("reading the connection's own address"))?;
        stream.prepare().map_err(SessionError::system("setting TCP_NODELAY"))?;
        let limit = self.options.timeouts.step;
        let secured = self.tls.connect(stream, server_name, limit).await.map_err(Arc::new)?;
        let local = Local {
            device: &self.device,
            options: self.options,
            kernel: self.kernel.as_ref(),
            associations: &self.associations,
            address,
            peer,
            tls: secured.negotiated,
            client_certificate: secured.client_certificate,
            since,
        };
        as_client(ControlChannel::new(secured.stream), local).await
    }
}

/// A TCP connection to the first of the host's addresses that answers, each within `limit`.
async fn reach(host: &str, port: u16, limit: Duration) -> Result<(TcpStream, SocketAddr), SessionError> {
    let unknown = |source| SessionError::Resolve { host: host.to_owned(), source: Arc::new(source) };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    let found = timeout(limit, lookup_host((host, port))).await;
    let addresses = found.unwrap_or_else(|_| Err(late())).map_err(unknown)?;
    let mut last = unknown(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        let connected = timeout(limit, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(late())) {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => last = SessionError::Connect { address, source: Arc::new(source) },
        }
    }
    Err(last)
}
