//! What is exchanged inside TLS until both queue pairs are ready to send.
//!
//! ```text
//!   client                                            server
//!   queue pair in INIT, receives posted
//!   Hello, Endpoint  ────────────────────────────────▶  versions and sealing policies agree
//!             ◀───────────────────────────────────────  Hello
//!   versions and sealing policies agree                 keys; queue pair INIT → RTR → RTS, receives posted
//!             ◀───────────────────────────────────────  Endpoint, Region, Ready
//!   keys; RTR → RTS
//!   Ready     ───────────────────────────────────────▶  session open
//!   session open
//! ```
//!
//! A session that joins the association of others has a Joined before each Ready.
//!
//! What stands in one line is one write: a wake-up of the other side less.
//!
//! Each side draws the PSN that it will send with (`sq_psn`) itself and tells it to the other, whose `rq_psn`
//! it becomes. The types [`OwnPsn`] and [`PeerPsn`] keep the two apart.
//!
//! The keys of a sealed data path come from TLS and from everything above: [`Context`], or where packets are
//! sealed, [`PacketContext`].

use super::association::Way;
use super::data::{DataPath, Parts, receives};
use super::keeper::Keeper;
use super::memory::{Buffers, COUNTERS, RD_ATOMIC, counters_access, peer_rights, region_access};
use super::packets::Wish;
use super::path::{self, ack_timeout, address_of};
use super::sharing::{Associations, Member, Offered, Proofs, Turn};
use super::{CounterPolicy, End, RegionLayout, SealedBy, Session, SessionInfo, SessionOptions, Timing};
use crate::SessionError;
use crate::admission::{Seat, Sessions, Source};
use crate::certs::Fingerprint;
use crate::control::{
    Access, ControlChannel, ControlError, Counters, Endpoint, Hello, Joins, Lid, Record, Redacted, Region,
    Role, Text, VERSION,
};
use crate::seal::{
    self, Context, Exporter, Format, Layout, PacketContext, PacketEnd, PacketKeys, PacketRegion, SessionKeys,
};
use crate::tls::{self, Negotiated, TlsError};
use rdma_verbs::{
    AsyncCompletionQueue, Device, Gid, GidEntry, Init, LocalMemory, MemoryRegion, OwnPsn, Peer, PeerPsn,
    PeerRights, ProtectionDomain, QueuePair, ReceiveOptions, RemoteRegion, SendOptions,
};
use secure_rdma_xfrm::helper::Helper;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// What this side calls itself.
const SOFTWARE: &str = concat!("secure-rdma ", env!("CARGO_PKG_VERSION"));

/// The delay that this side's RNR NAKs ask for: code 4, 40 µs. A receive buffer is soon posted again.
const RNR_TIMER: u8 = 4;

/// The local ACK timeout that the peer should use: code 18, 1.07 s. It is no measure of speed, since a
/// requester asks again as soon as its round trips suggest; it says how long a host may be too busy to
/// answer. A process that is gone shows on the control channel.
const ACK_TIMEOUT: u8 = 18;

/// The same for the clients of a server that may have so many at a time. A requester that hears nothing asks again
/// every eighth of it, one packet each time: all clients together ask no more than 20,000 times a second then, which a
/// server still answers. Asked oftener it would drop what they ask, and give up none of the load by that.
pub(crate) fn client_ack_timeout(max_clients: usize) -> u8 {
    match max_clients {
        0..=2_500 => ACK_TIMEOUT,
        2_501..=5_000 => ACK_TIMEOUT + 1,
        _ => ACK_TIMEOUT + 2,
    }
}

/// Eight timeouts without a sign of life, 8.6 s, end the connection.
const RETRY_COUNT: u8 = 7;

/// The peer may wait for receive buffers as long as it likes; the session's own limits end that.
const RNR_RETRY: u8 = 7;

/// What this side brings.
pub(crate) struct Local<'a> {
    pub(crate) device: &'a Arc<Device>,
    pub(crate) options: SessionOptions,
    /// What has the kernel seal packets for a device that can't.
    pub(crate) kernel: Option<&'a Arc<Helper>>,
    /// Those that its sessions share, where a kernel seals or opens packets.
    pub(crate) associations: &'a Associations,
    /// The two ends of the control connection.
    pub(crate) address: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Negotiated,
    /// The certificate that the client showed.
    pub(crate) client_certificate: Option<Fingerprint>,
    /// When the connection began.
    pub(crate) since: Instant,
}

/// What a server offers each client.
pub(crate) struct Offer {
    /// Bytes of the data area of its region.
    pub(crate) data_len: u64,
    /// What the client may do; atomic operations if `counters` says so too.
    pub(crate) allowed: Access,
    /// Where it has counters.
    pub(crate) counters: CounterPolicy,
    /// How long the client should wait for answers, as a code of the local ACK timeout.
    pub(crate) ack_timeout: u8,
    /// The seats for clients.
    pub(crate) sessions: Arc<Sessions>,
    /// Whom this client's is counted for.
    pub(crate) source: Source,
    /// How many of them its entry in the allow-list gives it, if it says so.
    pub(crate) quota: Option<usize>,
}

/// The client's part.
pub(crate) async fn as_client<T>(
    control: ControlChannel<T>,
    local: Local<'_>,
) -> Result<Session, SessionError>
where
    T: AsyncRead + AsyncWrite + Exporter + Unpin + Send + 'static,
{
    let mut steps = Steps { control, peer: tls::Peer::Server, limit: local.options.timeouts.step };
    // Of what the server answers, nothing changes what it is told of the queue pair.
    let Buffers { size, one_sided, .. } = local.options.buffers.in_range();
    let in_slots = one_sided.div_ceil(Format::DEFAULT.payload) * Format::DEFAULT.stride();
    let (wish, offered) = Wish::new(&local).await?;
    let prepared = Prepared::new(&local, PeerRights::default(), in_slots.max(size), offered)?;
    let own = prepared.endpoint();
    let records = [hello(Role::Client, local.options, wish), Record::Endpoint(own.clone())];
    steps.say("greeting the server", &records).await?;
    let hello = steps.hello(Role::Server).await?;
    let sealed = wish.agree(wished(&hello))?;
    let one_sided = if sealed == SealedBy::Messages { in_slots } else { one_sided };
    let endpoint = steps.endpoint(&local, &prepared.gid).await?;
    let offered = prepared.offered.filter(|_| sealed == SealedBy::Packets);
    let offered = offered.map(|offered| offered.agree(&local, &endpoint, Role::Client)).transpose()?;
    let prepared = Prepared { send_size: one_sided.max(size), offered, ..prepared };
    let region = match steps.next("waiting for the region").await? {
        Record::Region(region) => region,
        other => return Err(unexpected("waiting for the region", &other)),
    };
    let shown = match prepared.joins() {
        Some(Joins) => Some(steps.joined().await?),
        None => None,
    };
    steps.ready().await?;
    let slots = match sealed {
        SealedBy::Messages => Some(Layout::for_area(region.data_len, Format::DEFAULT).map_err(|_| {
            SessionError::Protocol { what: "a region that isn't made of whole sealed slots" }
        })?),
        SealedBy::Packets | SealedBy::Nothing => None,
    };
    let (client, server) = (&own, &endpoint);
    let agreed = Agreed { own: wish, peer: wished(&hello), client, server, region: &region, slots };
    let keys = agreed.keys(sealed, steps.control.get_ref(), &local, Role::Client)?;
    let proofs = prepared.proofs(&keys, Role::Client)?;
    if let Some((proofs, shown)) = proofs.as_ref().zip(shown) {
        proofs.check(shown)?;
    }
    let connected = prepared.connect(&local, &endpoint, &hello, keys, true)?;
    let joined = proofs.iter().map(Proofs::own);
    let records: Vec<_> = joined.chain([Record::Ready]).collect();
    steps.say("announcing the queue pair", &records).await?;
    Ok(connected.open(steps.control, &local, &hello, layout(&region, slots), None, None))
}

/// The server's part; where there is no offer for the client, it is told why, and so it is if the offer is
/// `withdrawn` before it has come to a session.
pub(crate) async fn as_server<T>(
    control: ControlChannel<T>,
    local: Local<'_>,
    offer: Result<Offer, SessionError>,
    withdrawn: impl Future<Output = SessionError>,
) -> Result<Session, SessionError>
where
    T: AsyncRead + AsyncWrite + Exporter + Unpin + Send + 'static,
{
    let mut steps = Steps { control, peer: tls::Peer::Client, limit: local.options.timeouts.step };
    let served = tokio::select! {
        biased;
        served = steps.serve(&local, offer) => served,
        reason = withdrawn => Err(reason),
    };
    match served {
        Ok(served) => Ok(served.connected.open(
            steps.control,
            &local,
            &served.hello,
            served.layout,
            Some(served.memory),
            Some(served.seat),
        )),
        Err(reason) => {
            if let Some((kind, text)) = reason.for_peer() {
                let record = Record::Error { code: kind.into(), text };
                let _ = steps.control.send_within(&record, steps.limit).await;
            }
            let _ = steps.control.shutdown_within(steps.limit).await;
            Err(reason)
        }
    }
}

/// What the server's part leads to.
struct Served {
    connected: Connected,
    hello: Hello,
    layout: RegionLayout,
    memory: Given,
    seat: Seat,
}

/// The memory that a server gives a client.
pub(super) struct Given {
    /// What it writes and reads.
    pub(super) data: MemoryRegion,
    /// Its counters.
    pub(super) counters: Option<MemoryRegion>,
}

/// The steps of a bootstrap, each with its time limit.
struct Steps<T> {
    control: ControlChannel<T>,
    peer: tls::Peer,
    limit: Duration,
}

impl<T: AsyncRead + AsyncWrite + Exporter + Unpin> Steps<T> {
    async fn serve(
        &mut self,
        local: &Local<'_>,
        offer: Result<Offer, SessionError>,
    ) -> Result<Served, SessionError> {
        let peer_hello = self.hello(Role::Client).await?;
        // Here, not before: a client reads why where it waits for this side's greeting.
        let offer = offer?;
        let seat = offer.sessions.take(offer.source, offer.quota)?;
        let (wish, offered) = Wish::new(local).await?;
        self.say("greeting the client", &[hello(Role::Server, local.options, wish)]).await?;
        // Not before this side has told its own: then both know what they can't agree on.
        let sealed = wish.agree(wished(&peer_hello))?;
        let gid = local.device.gid_for(local.address.ip().to_canonical())?;
        let mut endpoint = self.endpoint(local, &gid).await?;
        // This side is one of the many that ask, too.
        endpoint.ack_timeout = endpoint.ack_timeout.max(offer.ack_timeout);
        // A server sends messages only.
        let send_size = local.options.buffers.in_range().size;
        let offered = offered.filter(|_| sealed == SealedBy::Packets);
        let offered = offered.map(|offered| offered.agree(local, &endpoint, Role::Server)).transpose()?;
        let counted = offer.counters.offers(sealed);
        let allowed = if counted { offer.allowed } else { offer.allowed.without(Access::ATOMIC) };
        let prepared = Prepared::new(local, peer_rights(allowed), send_size, offered)?;
        let slots = match sealed {
            SealedBy::Messages => Some(Layout::for_capacity(offer.data_len, Format::DEFAULT)?),
            SealedBy::Packets | SealedBy::Nothing => None,
        };
        let data_len = slots.map_or(offer.data_len, |slots| slots.area_len());
        let len = usize::try_from(data_len).unwrap_or(usize::MAX);
        let data = prepared.domain.register(len, region_access(allowed))?;
        let counters = allowed
            .allows(Access::ATOMIC)
            .then(|| prepared.domain.register(COUNTERS, counters_access()))
            .transpose()?;
        let memory = Given { data, counters };
        let described = memory.describe(allowed);
        let own = Endpoint { ack_timeout: offer.ack_timeout, ..prepared.endpoint() };
        let (client, peer) = (&endpoint, wished(&peer_hello));
        let agreed = Agreed { own: wish, peer, client, server: &own, region: &described, slots };
        let keys = agreed.keys(sealed, self.control.get_ref(), local, Role::Server)?;
        let takes_messages = allowed.allows(Access::SEND);
        let proofs = prepared.proofs(&keys, Role::Server)?;
        let connected = prepared.connect(local, &endpoint, &peer_hello, keys, takes_messages)?;
        let layout = layout(&described, slots);
        // Nothing comes between them: one write, and one wake-up of the client.
        let described = [Record::Endpoint(own), Record::Region(described)].into_iter();
        let joined = proofs.iter().map(Proofs::own);
        let records: Vec<_> = described.chain(joined).chain([Record::Ready]).collect();
        self.say("describing the queue pair", &records).await?;
        if let Some(proofs) = &proofs {
            proofs.check(self.joined().await?)?;
        }
        self.ready().await?;
        Ok(Served { connected, hello: peer_hello, layout, memory, seat })
    }

    /// The next record; what the peer says of an error is an error.
    async fn next(&mut self, step: &'static str) -> Result<Record, SessionError> {
        match self.control.recv_within(self.limit).await {
            Ok(Record::Error { code, text }) => Err(SessionError::Peer { code, text }),
            Ok(record) => Ok(record),
            Err(error) => Err(self.failed(step, error)),
        }
    }

    async fn say(&mut self, step: &'static str, records: &[Record]) -> Result<(), SessionError> {
        match self.control.send_all_within(records, self.limit).await {
            Ok(()) => Ok(()),
            // Before it closed the connection the peer may have said why.
            Err(error @ ControlError::Io(_)) => match self.next(step).await {
                Err(reason @ (SessionError::Tls(_) | SessionError::Peer { .. })) => Err(reason),
                _ => Err(self.failed(step, error)),
            },
            Err(error) => Err(self.failed(step, error)),
        }
    }

    /// What a failure of the control channel means. TLS 1.3 lets a client finish its handshake before the
    /// server has judged the client's certificate: the verdict arrives here.
    fn failed(&self, step: &'static str, error: ControlError) -> SessionError {
        match error {
            ControlError::Io(error)
                if error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some() =>
            {
                SessionError::Tls(Arc::new(TlsError::from_io(error, self.peer)))
            }
            error => SessionError::control(step, self.limit)(error),
        }
    }

    async fn hello(&mut self, role: Role) -> Result<Hello, SessionError> {
        const STEP: &str = "waiting for the peer's greeting";
        let hello = match self.next(STEP).await? {
            Record::Hello(hello) if hello.role == role => hello,
            other => return Err(unexpected(STEP, &other)),
        };
        if hello.version != VERSION {
            return Err(SessionError::Version { own: VERSION, peer: hello.version });
        }
        Ok(hello)
    }

    async fn endpoint(&mut self, local: &Local<'_>, own: &GidEntry) -> Result<Endpoint, SessionError> {
        const STEP: &str = "waiting for the peer's queue pair";
        let endpoint = match self.next(STEP).await? {
            Record::Endpoint(endpoint) => endpoint,
            other => return Err(unexpected(STEP, &other)),
        };
        path::check(own, local.peer.ip(), &endpoint, rdma_verbs::is_own_address)?;
        Ok(endpoint)
    }

    /// What the peer shows, where the session joins others' association.
    async fn joined(&mut self) -> Result<[u8; 32], SessionError> {
        const STEP: &str = "waiting for the peer to join";
        match self.next(STEP).await? {
            Record::Joined { proof } => Ok(proof),
            other => Err(unexpected(STEP, &other)),
        }
    }

    async fn ready(&mut self) -> Result<(), SessionError> {
        const STEP: &str = "waiting for the peer to be ready";
        match self.next(STEP).await? {
            Record::Ready => Ok(()),
            other => Err(unexpected(STEP, &other)),
        }
    }
}

/// A queue pair in INIT that can receive, with everything that it needs.
struct Prepared {
    qp: QueuePair<Init>,
    psn: OwnPsn,
    gid: GidEntry,
    /// What may seal its packets.
    offered: Option<Offered>,
    domain: Arc<ProtectionDomain>,
    queue: AsyncCompletionQueue,
    memory: LocalMemory,
    buffers: Buffers,
    /// Bytes of each buffer to send from.
    send_size: u32,
    /// Reads and atomics under way at a time: of the peer, of this side.
    rd_atomic: [u8; 2],
}

impl Prepared {
    /// `offered` is what seals its packets, if they may be.
    fn new(
        local: &Local<'_>,
        rights: PeerRights,
        send_size: u32,
        offered: Option<Offered>,
    ) -> Result<Self, SessionError> {
        let device = local.device;
        let mut gid = device.gid_for(local.address.ip().to_canonical())?;
        if offered.is_some() {
            // Both sides compute the path MTU from what they tell each other, whatever comes of the offer.
            gid.mtu = gid.sealed_mtu.unwrap_or(gid.mtu);
        }
        let domain = device.protection_domain()?;
        let buffers = local.options.buffers.in_range();
        let limits = buffers.limits();
        let capacity = limits.max_send_requests + limits.max_recv_requests;
        let queue = device.async_completion_queue(capacity)?;
        let memory = domain.register_local(buffers.bytes(send_size))?;
        let mut qp = domain.queue_pair(queue.queue(), queue.queue(), limits)?.init(rights)?;
        for request in receives(&memory, buffers)? {
            qp.post_recv(request)?;
        }
        let psn = OwnPsn::random()?;
        let limits = device.attributes();
        let rd_atomic = [limits.max_qp_rd_atom, limits.max_qp_init_rd_atom].map(|limit| limit.min(RD_ATOMIC));
        Ok(Self { qp, psn, gid, offered, domain, queue, memory, buffers, send_size, rd_atomic })
    }

    /// What the peer needs to know of it.
    fn endpoint(&self) -> Endpoint {
        Endpoint {
            qpn: self.qp.qpn(),
            psn: Redacted::new(self.psn.get()),
            gid: gid_bytes(&self.gid),
            udp_port: udp_port(&self.gid),
            mtu: self.gid.mtu,
            max_rd_atomic: self.rd_atomic[0],
            recv_depth: self.buffers.receives,
            recv_size: self.buffers.size,
            min_rnr_timer: RNR_TIMER,
            ack_timeout: ACK_TIMEOUT,
            retry_count: RETRY_COUNT,
            rnr_retry: RNR_RETRY,
            lid: self.gid.lid.and_then(Lid::new),
            spi: self.offered.as_ref().map(Offered::spi),
            esp_port: self.offered.as_ref().and_then(Offered::esp_port),
            joins: self.joins(),
        }
    }

    /// Whether its packets are sealed by other sessions' association.
    fn joins(&self) -> Option<Joins> {
        self.offered.as_ref()?.joins()
    }

    /// What the two sides show of it then.
    fn proofs(&self, keys: &Keys, own: Role) -> Result<Option<Proofs>, SessionError> {
        match (&self.offered, keys) {
            (Some(offered), Keys::Packets(keys)) => offered.proofs(keys, own),
            _ => Ok(None),
        }
    }

    /// INIT → RTR → RTS.
    fn connect(
        self,
        local: &Local<'_>,
        endpoint: &Endpoint,
        hello: &Hello,
        keys: Keys,
        takes_messages: bool,
    ) -> Result<Connected, SessionError> {
        let remote = End {
            qpn: endpoint.qpn,
            psn: PeerPsn::new(endpoint.psn.expose()),
            address: SocketAddr::new(address_of(endpoint), endpoint.udp_port.get()),
        };
        let way = Way::new(udp_port(&self.gid), endpoint);
        let by_kernel = self.offered.as_ref().is_some_and(|offered| offered.esp_port().is_some());
        let peer = Peer {
            qpn: remote.qpn,
            psn: remote.psn,
            gid: Gid::from(endpoint.gid),
            // Where the kernel seals, it alone knows to which port.
            udp_port: Some(if by_kernel { rdma_verbs::UDP_PORT } else { way.peer_port }),
            lid: endpoint.lid.map(Lid::get),
        };
        let path_mtu = endpoint.mtu.min(self.gid.mtu);
        let receive = ReceiveOptions {
            gid_index: self.gid.index,
            path_mtu,
            max_dest_rd_atomic: self.rd_atomic[0],
            min_rnr_timer: RNR_TIMER,
        };
        let send = SendOptions {
            timeout: ack_timeout(endpoint.ack_timeout),
            retry_count: endpoint.retry_count,
            rnr_retry: endpoint.rnr_retry,
            max_rd_atomic: endpoint.max_rd_atomic.min(self.rd_atomic[1]),
        };
        let own = End {
            qpn: self.qp.qpn(),
            psn: self.psn,
            address: SocketAddr::new(
                IpAddr::from(gid_bytes(&self.gid)).to_canonical(),
                udp_port(&self.gid).get(),
            ),
        };
        let mut turn = None;
        let (sealed, keys, rekeying) = match keys {
            Keys::None => (SealedBy::Nothing, None, None),
            Keys::Messages(keys) => (SealedBy::Messages, Some(*keys), None),
            Keys::Packets(keys) => {
                let offered = self.offered.ok_or(SessionError::NoPackets { who: "this side" })?;
                let member;
                (member, turn) = offered.seal(local, endpoint, *keys, way, &self.qp)?;
                (SealedBy::Packets, None, Some(member))
            }
        };
        let qp = self.qp.ready_to_receive(&peer, &receive)?.ready_to_send(self.psn, &send)?;
        let queue_pair = qp.query()?;
        let data = DataPath::new(Parts {
            qp,
            queue: self.queue,
            memory: self.memory,
            buffers: self.buffers,
            send_size: self.send_size,
            fragment: endpoint.recv_size,
            message_limit: local.options.max_message,
            peer_limit: hello.max_message,
            keys,
            takes_messages,
            busy_poll: local.options.busy_poll,
            timeouts: local.options.timeouts,
        })?;
        Ok(Connected { data, own, remote, queue_pair, path_mtu, sealed, rekeying, _turn: turn })
    }
}

/// A queue pair in RTS.
struct Connected {
    data: DataPath,
    own: End<OwnPsn>,
    remote: End<PeerPsn>,
    queue_pair: rdma_verbs::Snapshot,
    path_mtu: rdma_verbs::Mtu,
    sealed: SealedBy,
    rekeying: Option<Member>,
    /// Until the peer has what it needs for the next session to join.
    _turn: Option<Turn>,
}

impl Connected {
    fn open<T>(
        self,
        control: ControlChannel<T>,
        local: &Local<'_>,
        hello: &Hello,
        layout: RegionLayout,
        memory: Option<Given>,
        seat: Option<Seat>,
    ) -> Session
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let timing = Timing {
            send_every: Duration::from_millis(hello.heartbeat_ms.into()),
            expect_every: Duration::from_millis(local.options.heartbeat_ms().into()),
            timeouts: local.options.timeouts,
        };
        Session {
            data: self.data,
            keeper: Keeper::start(control, timing, self.rekeying),
            info: SessionInfo {
                peer: local.peer,
                peer_software: hello.software.to_string(),
                tls: local.tls.clone(),
                sealed: self.sealed,
                device: local.device.name().to_string(),
                own: self.own,
                remote: self.remote,
                queue_pair: self.queue_pair,
                path_mtu: self.path_mtu,
                peer_max_message: hello.max_message,
                allowed: layout.allowed,
                setup: local.since.elapsed(),
            },
            layout,
            local: memory,
            abort_reason: Arc::default(),
            _seat: seat,
            registration: None,
        }
    }
}

fn hello(role: Role, options: SessionOptions, wish: Wish) -> Record {
    Record::Hello(Hello {
        version: VERSION,
        role,
        seal: options.seal,
        max_message: options.max_message.max(1),
        heartbeat_ms: options.heartbeat_ms(),
        software: Text::lossy(SOFTWARE),
        packets: wish.packets,
    })
}

/// What the peer wants of the data path.
fn wished(hello: &Hello) -> Wish {
    Wish { seal: hello.seal, packets: hello.packets }
}

impl Given {
    /// It as the peer is told of it, with what that may do.
    fn describe(&self, access: Access) -> Region {
        let RemoteRegion { addr, rkey, len } = self.data.remote();
        let counters = self.counters.as_ref().map(|counters| {
            let RemoteRegion { addr, rkey, len } = counters.remote();
            Counters { addr, rkey: Redacted::new(rkey), len }
        });
        Region { addr, rkey: Redacted::new(rkey), len, data_len: len, counters, access }
    }
}

/// How a region is divided.
fn layout(region: &Region, slots: Option<Layout>) -> RegionLayout {
    RegionLayout {
        region: RemoteRegion { addr: region.addr, rkey: region.rkey.expose(), len: region.len },
        data: slots.map_or(region.data_len, |slots| slots.capacity()),
        counters: region.counters.map(|counters| RemoteRegion {
            addr: counters.addr,
            rkey: counters.rkey.expose(),
            len: counters.len,
        }),
        allowed: region.access,
    }
}

/// What seals a data path.
enum Keys {
    None,
    Messages(Box<SessionKeys>),
    Packets(Box<PacketKeys>),
}

/// What both sides of a session agree on, as the records have it: if they differ in anything, they have different keys.
struct Agreed<'a> {
    own: Wish,
    peer: Wish,
    client: &'a Endpoint,
    server: &'a Endpoint,
    region: &'a Region,
    /// How the region is divided where slots are sealed.
    slots: Option<Layout>,
}

impl Agreed<'_> {
    fn keys(
        &self,
        sealed: SealedBy,
        tls: &impl Exporter,
        local: &Local<'_>,
        own: Role,
    ) -> Result<Keys, SessionError> {
        Ok(match (sealed, self.slots) {
            (SealedBy::Nothing, _) => Keys::None,
            (SealedBy::Messages, None) => return Err(SessionError::NoRegion),
            (SealedBy::Messages, Some(slots)) => {
                let context = self.context(slots, local, own);
                Keys::Messages(Box::new(SessionKeys::new(tls, &context, own, local.options.key_limits)?))
            }
            (SealedBy::Packets, _) => {
                let context = self.packet_context(local, own)?;
                Keys::Packets(Box::new(PacketKeys::new(tls, &context, own)?))
            }
        })
    }

    /// What the client wants, and the server.
    fn wishes(&self, own: Role) -> [Wish; 2] {
        match own {
            Role::Client => [self.own, self.peer],
            Role::Server => [self.peer, self.own],
        }
    }

    fn context(&self, slots: Layout, local: &Local<'_>, own: Role) -> Context {
        let [client, server] = self.wishes(own);
        let region = seal::Region {
            addr: self.region.addr,
            rkey: self.region.rkey.expose(),
            len: self.region.len,
            layout: slots,
            counters: self.region.counters,
            access: self.region.access,
        };
        Context {
            version: VERSION,
            client_policy: client.seal,
            server_policy: server.seal,
            client: sealed_end(self.client),
            server: sealed_end(self.server),
            region: Some(region),
            client_certificate: local.client_certificate,
        }
    }

    fn packet_context(&self, local: &Local<'_>, own: Role) -> Result<PacketContext, SessionError> {
        let end = |wish: Wish, endpoint: &Endpoint| match (wish.packets, endpoint.spi) {
            (Some(packets), Some(spi)) => {
                let mut end = sealed_end(endpoint);
                end.udp_port = endpoint.esp_port.map_or(end.udp_port, NonZeroU16::get);
                Ok(PacketEnd { policy: wish.seal, packets, endpoint: end, spi })
            }
            _ => Err(SessionError::Protocol {
                what: "a queue pair without SPI, though its packets are to be sealed",
            }),
        };
        let [client, server] = self.wishes(own);
        let Region { addr, rkey, len, data_len, counters, access } = self.region;
        Ok(PacketContext {
            version: VERSION,
            client: end(client, self.client)?,
            server: end(server, self.server)?,
            region: Some(PacketRegion {
                addr: *addr,
                rkey: rkey.expose(),
                len: *len,
                data_len: *data_len,
                counters: *counters,
                access: *access,
            }),
            client_certificate: local.client_certificate,
        })
    }
}

/// An end of the queue pair as its record has it. InfiniBand has no UDP ports.
fn sealed_end(endpoint: &Endpoint) -> seal::Endpoint {
    let Endpoint { qpn, gid, lid, .. } = *endpoint;
    let (udp_port, lid) = lid.map_or((endpoint.udp_port.get(), 0), |lid| (0, lid.get()));
    seal::Endpoint { qpn, psn: endpoint.psn.expose(), gid, udp_port, lid }
}

fn unexpected(step: &'static str, record: &Record) -> SessionError {
    SessionError::Unexpected { step, found: super::name(record) }
}

/// A GID as it is told: an IP address's plain form, since the UDP port is told apart from it.
fn gid_bytes(gid: &GidEntry) -> [u8; 16] {
    match gid.address {
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(v6)) => v6.octets(),
        None => gid.gid.to_bytes(),
    }
}

/// The UDP port that a GID receives on; where there is none (InfiniBand), the usual one stands for it.
fn udp_port(gid: &GidEntry) -> NonZeroU16 {
    const USUAL: NonZeroU16 = NonZeroU16::new(rdma_verbs::UDP_PORT).unwrap();
    gid.udp_port.and_then(NonZeroU16::new).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_together_ask_again_no_oftener_than_a_server_answers() {
        assert_eq!([1, 1024, 2500, 10_000].map(client_ack_timeout), [18, 18, 18, 20]);
        for clients in [1, 1024, 2500, 2501, 5000, 5001, 10_000] {
            // A requester asks 64 times in eight timeouts.
            let every = ack_timeout_duration(client_ack_timeout(clients)) / 8;
            let asked = Duration::from_secs(1).as_micros() * clients as u128 / every.as_micros();
            assert!(asked <= 20_000, "{clients}: {asked}");
        }
    }

    fn ack_timeout_duration(code: u8) -> Duration {
        Duration::from_nanos(4096 << code)
    }
}
