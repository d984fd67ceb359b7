//! How servers come to be.

use super::{Host, Server, ServerOptions, check_regions};
use crate::SessionError;
use crate::accepting::listen;
use crate::certs::{Clock, Editions, Identity};
use crate::tls::{ClientAuth, Rules, ServerTls};
use crate::transport::Listener;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma_xfrm::helper::Helper;
use std::sync::Arc;
use tokio::net::ToSocketAddrs;

/// A server that doesn't listen yet: [`Server::builder`].
#[derive(Clone, Debug)]
#[must_use = "a server listens from `bind` on"]
pub struct ServerBuilder {
    identity: Identity,
    client_auth: ClientAuth,
    device: Option<Arc<Device>>,
    kernel: Option<Arc<Helper>>,
    clock: Clock,
    options: ServerOptions,
}

impl ServerBuilder {
    pub(super) fn new(identity: Identity, client_auth: ClientAuth) -> Self {
        let (clock, options) = (Clock::default(), ServerOptions::default());
        Self { identity, client_auth, device: None, kernel: None, clock, options }
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

    /// Offers this, within these limits.
    pub fn options(mut self, options: ServerOptions) -> Self {
        self.options = options;
        self
    }

    /// Whether a server could start with these: the files that they name are read and checked.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), but for the address and the device.
    pub fn check(&self) -> Result<(), SessionError> {
        self.rules().map(drop)
    }

    /// Listens for clients by TCP at `address`, which is the first of several that can be had.
    ///
    /// # Errors
    /// The address can't be had, there is no device, or what is asked of clients can't be set up.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Server, SessionError> {
        let rules = self.rules()?;
        let listener = listen(address).await?;
        self.start(rules, listener)
    }

    /// Takes the clients that `listener` hands out. It needs a tokio runtime.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    #[cfg(feature = "testing")]
    pub fn serve(self, listener: impl Listener) -> Result<Server, SessionError> {
        let rules = self.rules()?;
        self.start(rules, listener)
    }

    fn start(self, rules: Rules, listener: impl Listener) -> Result<Server, SessionError> {
        let tls = ServerTls::with(rules);
        let device = match self.device {
            Some(device) => device,
            None => Device::open(&DeviceSelector::Auto)?,
        };
        Server::start(listener, Host::new(device, self.kernel, tls, self.options))
    }

    fn rules(&self) -> Result<Rules, SessionError> {
        let clock = self.clock.clone();
        let rules = Rules::load(&self.identity, &self.client_auth, &Editions::default(), clock);
        let rules = rules.map_err(Arc::new)?;
        check_regions(&rules, self.options.region_len)?;
        Ok(rules)
    }
}
