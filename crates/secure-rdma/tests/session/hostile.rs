//! A client that ignores what it is told: it posts whatever it likes to a queue pair of its own.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, device};
use rdma_verbs::{
    Access, CompletionQueue, Gid, MemoryRegion, OwnPsn, Peer, PeerPsn, PeerRights, QueuePair,
    QueuePairLimits, ReadyToSend, ReceiveOptions, RemoteRegion, SendOptions, SendRequest, Slice, Status,
};
use secure_rdma::certs::Identity;
use secure_rdma::control::{
    ControlChannel, Endpoint, ErrorKind, Hello, Record, Redacted, Region, Role, SealPolicy, Text, VERSION,
};
use secure_rdma::tls::{ClientTls, Trust};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection whose TLS handshake is done, and nothing else.
pub(crate) struct Secured {
    address: IpAddr,
    control: ControlChannel<TlsStream<TcpStream>>,
}

/// The same after the whole bootstrap.
pub(crate) struct Hostile {
    qp: QueuePair<ReadyToSend>,
    queue: Arc<CompletionQueue>,
    memory: MemoryRegion,
    /// What the server has told it.
    pub(crate) region: Region,
    control: ControlChannel<TlsStream<TcpStream>>,
}

impl Secured {
    pub(crate) async fn connect(world: &World, identity: Identity) -> Self {
        let tls = ClientTls::new(Trust::State(world.dir.clone()), Some(identity)).unwrap();
        let stream = TcpStream::connect(world.server.local_addr()).await.unwrap();
        let address = stream.local_addr().unwrap().ip();
        let secured = tls.connect(stream, &"localhost".parse().unwrap(), PATIENCE).await.unwrap();
        Self { address, control: ControlChannel::new(secured.stream) }
    }

    /// What the server says why it comes to nothing.
    pub(crate) async fn told(&mut self) -> (Option<ErrorKind>, String) {
        told(&mut self.control).await
    }

    async fn next(&mut self) -> Record {
        self.control.recv_within(PATIENCE).await.unwrap()
    }

    async fn say(&mut self, record: Record) {
        self.control.send_within(&record, PATIENCE).await.unwrap();
    }

    /// Goes on to an open session.
    pub(crate) async fn open(self) -> Hostile {
        let mut opened = self.open_but_for_the_last_word().await;
        opened.control.send_within(&Record::Ready, PATIENCE).await.unwrap();
        opened
    }

    /// Goes on until both queue pairs can be used, and the server waits for the client to say that it is ready.
    pub(crate) async fn open_but_for_the_last_word(mut self) -> Hostile {
        let device = device();
        let gid = device.gid_for(self.address).unwrap();
        let domain = device.protection_domain().unwrap();
        let queue = device.completion_queue(64, None).unwrap();
        let limits =
            QueuePairLimits { max_send_requests: 8, max_recv_requests: 8, max_sge: 1, max_inline: 0 };
        let memory = domain.register(4096, Access::LOCAL_WRITE).unwrap();
        let qp = domain.queue_pair(&queue, &queue, limits).unwrap().init(PeerRights::default()).unwrap();
        let psn = OwnPsn::random().unwrap();
        let hello = Hello {
            version: VERSION,
            role: Role::Client,
            seal: SealPolicy::Off,
            max_message: 1 << 20,
            heartbeat_ms: 5000,
            software: Text::lossy("hostile"),
        };
        self.say(Record::Hello(hello)).await;
        let Record::Hello(_) = self.next().await else { panic!("no hello") };
        let own = Endpoint {
            qpn: qp.qpn(),
            psn: Redacted::new(psn.get()),
            gid: match gid.address {
                Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
                Some(IpAddr::V6(v6)) => v6.octets(),
                None => gid.gid.to_bytes(),
            },
            udp_port: NonZeroU16::new(gid.udp_port.unwrap_or(rdma_verbs::UDP_PORT)).unwrap(),
            mtu: gid.mtu,
            max_rd_atomic: 1,
            recv_depth: 1,
            recv_size: 4096,
            min_rnr_timer: 4,
            ack_timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            lid: None,
        };
        self.say(Record::Endpoint(own)).await;
        let Record::Endpoint(server) = self.next().await else { panic!("no endpoint") };
        let Record::Region(region) = self.next().await else { panic!("no region") };
        let Record::Ready = self.next().await else { panic!("not ready") };
        let peer = Peer {
            qpn: server.qpn,
            psn: PeerPsn::new(server.psn.expose()),
            gid: Gid::from(server.gid),
            udp_port: Some(server.udp_port.get()),
            lid: None,
        };
        let receive = ReceiveOptions {
            gid_index: gid.index,
            path_mtu: server.mtu.min(gid.mtu),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 4,
        };
        // Soft-RoCE would go on for ever with 7 retries.
        let send = SendOptions { timeout: 10, retry_count: 2, rnr_retry: 7, max_rd_atomic: 1 };
        let qp = qp.ready_to_receive(&peer, &receive).unwrap().ready_to_send(psn, &send).unwrap();
        Hostile { qp, queue, memory, region, control: self.control }
    }
}

/// The next error that comes.
async fn told(control: &mut ControlChannel<TlsStream<TcpStream>>) -> (Option<ErrorKind>, String) {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Record::Error { code, text } = control.recv_within(PATIENCE).await.unwrap() {
                break (code.kind(), text.to_string());
            }
        }
    })
    .await
    .unwrap()
}

impl Hostile {
    /// A client that knows the rules and doesn't keep to them.
    pub(crate) async fn connect(world: &World, identity: Identity) -> Self {
        Secured::connect(world, identity).await.open().await
    }

    /// A request to the region that was given to it.
    pub(crate) fn ranged(
        &self,
        offset: u64,
        len: u32,
        request: impl FnOnce(Slice, rdma_verbs::RemoteRange) -> SendRequest,
    ) -> SendRequest {
        let Region { addr, len: size, .. } = self.region;
        let remote = RemoteRegion { addr, rkey: self.region.rkey.expose(), len: size };
        request(self.memory.slice(0, len).unwrap(), remote.range(offset, len.into()).unwrap())
    }

    /// A message, as the library sends one in clear.
    pub(crate) fn message(&self, text: &[u8]) -> SendRequest {
        let mut slice = self.memory.slice(0, 4096).unwrap();
        slice.fill(text).unwrap();
        SendRequest::send([slice]).immediate(1)
    }

    /// What the server says why it is over.
    pub(crate) async fn told(&mut self) -> (Option<ErrorKind>, String) {
        told(&mut self.control).await
    }

    /// Posts it, and what comes of it.
    pub(crate) async fn post(&mut self, request: SendRequest) -> Status {
        self.qp.post_send(request).unwrap();
        let mut done = Vec::new();
        tokio::time::timeout(PATIENCE, async {
            while self.queue.poll(&mut done, 1).unwrap() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        done.pop().unwrap().status
    }
}
