//! Sessions between a client on the embedded device and a server on the kernel's, with the attacker in the middle.

use crate::guest::SLOW;
use crate::middle::Middle;
use crate::network::{DEVICE, Machine, Network, SERVER};
use crate::rekeyed::helper;
use rdma_verbs::Device;
use rocev2::Mtu;
use secure_rdma::certs::{Name, Store};
use secure_rdma::control::SealPolicy::{Off, Required};
use secure_rdma::{
    Buffers, Client, ClientAuth, CounterPolicy, PacketPolicy, SealedBy, Server, ServerOptions, Session,
    SessionOptions,
};
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Drop it after its sessions: declare it before them.
pub(super) struct Path {
    pub(super) middle: Middle,
    server: Server,
    client: Arc<Client>,
    seal: SealedBy,
    _at_server: Runtime,
    at_client: Runtime,
    _state: TempDir,
}

/// Both ends of a session.
pub(super) struct Ends {
    pub(super) client: Session,
    pub(super) server: Session,
}

/// A packet is a fragment of a message.
const BUFFERS: Buffers = Buffers { size: 4096, ..Buffers::DEFAULT };

fn options(seal: SealedBy) -> SessionOptions {
    let options = SessionOptions::default();
    match seal {
        SealedBy::Nothing => options.packets(None).seal(Off).buffers(BUFFERS),
        SealedBy::Messages => options.packets(None).seal(Required).buffers(BUFFERS),
        SealedBy::Packets => options.packets(Some(PacketPolicy::Required)),
    }
}

fn name() -> Name {
    "localhost".parse().unwrap()
}

impl Path {
    pub(super) fn new(seal: SealedBy) -> Self {
        let middle = Middle::new(&Network);
        let state = TempDir::new().unwrap();
        let store = Store::open(state.path().join("state")).unwrap();
        let identity = store.ensure_server(&[name()]).unwrap();
        let clients = ClientAuth::Required(store.authority().unwrap().into());
        let (trust, own) = (store.authority().unwrap(), store.ensure_account(&[name()]).unwrap().unwrap());

        let at_server = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let at_client = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(Network.door(Machine::Client))
            .build()
            .unwrap();
        let server_options = ServerOptions::default()
            .first_byte(SLOW)
            .handshake(SLOW)
            .counters(CounterPolicy::On)
            .session(options(seal));
        let mut server = Server::builder(identity, clients)
            .device(Device::open(&DEVICE.parse().unwrap()).unwrap())
            .options(server_options);
        if seal == SealedBy::Packets {
            server = server.kernel(helper());
        }
        let server = at_server.block_on(server.bind((SERVER, 0))).unwrap();
        let client = at_client.spawn(async move {
            let embedded = Device::open(&"embedded".parse().unwrap()).unwrap();
            Client::builder(trust).identity(own).device(embedded).options(options(seal)).build().unwrap()
        });
        let client = at_client.block_on(client).unwrap();
        let client = Arc::new(client);
        Self { middle, server, client, seal, _at_server: at_server, at_client, _state: state }
    }

    pub(super) fn session(&self) -> Ends {
        self.run(self.another())
    }

    /// Both ends of one more.
    pub(super) async fn another(&self) -> Ends {
        let (client, port) = (Arc::clone(&self.client), self.server.local_addr().port());
        let connected =
            self.at_client.spawn(async move { client.connect(SERVER, port, &name()).await.unwrap() });
        let (client, server) = tokio::join!(connected, self.server.accept());
        let client = client.unwrap();
        assert_eq!((client.info().sealed, client.info().path_mtu), (self.seal, Mtu::B4096));
        assert_eq!(server.info().device, DEVICE);
        Ends { client, server }
    }

    pub(super) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.at_client.block_on(what)
    }
}

/// A counter of the kernel's device.
pub(super) fn counted(name: &str) -> u64 {
    let file = format!("/sys/class/infiniband/{DEVICE}/ports/1/hw_counters/{name}");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// What the kernel's IPsec has counted.
pub(super) fn dropped(reason: &str) -> u64 {
    let all = fs::read_to_string("/proc/net/xfrm_stat").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix(reason));
    line.unwrap().trim().parse().unwrap()
}
