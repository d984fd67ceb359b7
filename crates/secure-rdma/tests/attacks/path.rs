//! Sessions between two machines, with the attacker's in the middle.

use crate::lab::{Side, Skipped, options};
use crate::middle::Middle;
use crate::network::{CLIENT, Machine, Network, SERVER};
use crate::one_client;
use crate::world::{self, ServerConfig, World};
use rdma_verbs::Device;
use secure_rdma::certs::{Fingerprint, Identity};
use secure_rdma::tls::ClientAuth;
use secure_rdma::{Client, SealedBy, Session, SessionOptions};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// Drop it after its sessions: declare it before them.
pub(crate) struct Path {
    pub(crate) middle: Middle,
    world: Arc<Mutex<World>>,
    client: Arc<Client>,
    server_device: Arc<Device>,
    /// What runs on each machine.
    at_server: Runtime,
    at_client: Runtime,
    seal: SealedBy,
    /// What all clients show, if they have to.
    certificate: Option<Fingerprint>,
    _network: Network,
}

fn runtime(network: &Network, machine: Machine) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().on_thread_start(network.door(machine)).build().expect("a runtime")
}

impl Path {
    pub(crate) fn new(seal: SealedBy) -> Result<Self, Skipped> {
        Self::with(seal, options(seal))
    }

    /// With these options at both ends.
    pub(crate) fn with(seal: SealedBy, options: SessionOptions) -> Result<Self, Skipped> {
        Self::build(seal, options, None)
    }

    /// Clients have to show a certificate, and all of them have the same.
    pub(crate) fn of_one_client(seal: SealedBy) -> Result<Self, Skipped> {
        Self::build(seal, options(seal), Some(one_client::certificate()))
    }

    fn build(
        seal: SealedBy,
        options: SessionOptions,
        clients: Option<(ClientAuth, Identity)>,
    ) -> Result<Self, Skipped> {
        let network = Network::new().ok_or(Skipped)?;
        let middle = Middle::new(&network);
        let at_server = runtime(&network, Machine::Server);
        let at_client = runtime(&network, Machine::Client);
        let (auth, identity) = clients.unzip();
        let certificate = identity.as_ref().map(Identity::fingerprint);
        let ask = move |config: &mut ServerConfig| config.client_auth = auth.unwrap_or(ClientAuth::Off);
        let world = at_server.spawn(World::with(SERVER, options, options, ask));
        let world = at_server.block_on(world).expect("a server");
        let dir = world.dir.clone();
        let client = at_client.spawn(async move { world::client(&dir, identity, options) });
        let client = Arc::new(at_client.block_on(client).expect("a client"));
        let server_device = Arc::clone(&world.device);
        let world = Arc::new(Mutex::new(world));
        Ok(Self {
            middle,
            world,
            client,
            server_device,
            at_server,
            at_client,
            seal,
            certificate,
            _network: network,
        })
    }

    /// Both ends of a session.
    pub(crate) fn session(&self) -> (Session, Session) {
        let (world, client) = (Arc::clone(&self.world), Arc::clone(&self.client));
        let connected = self.at_client.spawn(async move {
            let (port, name) = (world.lock().await.server.local_addr().port(), "localhost".parse());
            client.connect(SERVER, port, &name.expect("a name")).await.expect("a session")
        });
        let world = Arc::clone(&self.world);
        let client = self.at_client.block_on(connected).expect("a client");
        let arrived = self.at_server.spawn(async move { world.lock().await.arrival().await });
        let server = self.at_server.block_on(arrived).expect("a server");
        assert_eq!(client.info().sealed, self.seal);
        assert_eq!(server.info().tls.peer_certificate_sha256, self.certificate);
        assert_eq!(client.info().own.address.ip().to_string(), CLIENT);
        // What the attacker reckons with.
        assert_eq!(client.info().path_mtu, rocev2::Mtu::B4096);
        (client, server)
    }

    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.at_client.block_on(what)
    }

    /// A counter of the server's device.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        world::counted(&self.device(Side::Server), name)
    }

    /// That side's device.
    pub(crate) fn device(&self, side: Side) -> Arc<Device> {
        match side {
            Side::Server => Arc::clone(&self.server_device),
            Side::Client => Arc::clone(self.client.device()),
        }
    }
}
