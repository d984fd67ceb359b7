//! Peers that lie: they have good certificates, and say what isn't so, what isn't their turn, or nothing more.

use crate::limits::TIMEOUTS;
use crate::pki::{server_name, trusted};
use crate::process::Host;
use crate::wire::Stream;
use rdma_verbs::{Mtu, Psn, Qpn};
use secure_rdma::control::{
    Access, ControlChannel, Endpoint, Fragments, Hello, Record, Redacted, Region, Role, SealPolicy, Text,
    VERSION,
};
use secure_rdma::seal::Format;
use secure_rdma::tls::{ClientAuth, ClientTls, ServerTls};
use secure_rdma::{Connection, Identity, Listener};
use simulator::Rng;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// What a liar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Says nothing, not even to TLS.
    Mute,
    /// Sends bytes that are no TLS.
    Garbage,
    /// Speaks another version.
    Version,
    /// Says that it is the other side.
    Role,
    /// Names somebody else's address.
    Address,
    /// Says something else than what is its turn to say.
    Turn,
    /// Falls silent after its greeting.
    Silence,
    /// Hangs up there.
    HangUp,
    /// As a server, describes a region that isn't made of whole slots.
    Region,
    /// Comes to a session, and says goodbye for more fragments than it has sent.
    Miscount,
    /// Comes to a session, and says the last word without the first.
    LastWord,
    /// Comes to a session, and sends pings without end.
    Flood,
    /// Comes to a session, and says nothing more.
    Dead,
}

impl Lie {
    const ALL: [Self; 13] = [
        Self::Mute,
        Self::Garbage,
        Self::Version,
        Self::Role,
        Self::Address,
        Self::Turn,
        Self::Silence,
        Self::HangUp,
        Self::Region,
        Self::Miscount,
        Self::LastWord,
        Self::Flood,
        Self::Dead,
    ];

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        rng.pick(&Self::ALL)
    }
}

/// How long a liar keeps it up.
const PATIENCE: Duration = Duration::from_secs(8);

/// A liar in a client's place.
pub(crate) async fn as_client(mut stream: Stream, tls: &ClientTls, server: usize, lie: Lie) {
    let Ok(own) = stream.local_addr() else { return };
    if without_tls(&mut stream, lie).await {
        return;
    }
    let Ok(secured) = tls.connect(stream, &server_name(server), TIMEOUTS.step).await else { return };
    let _ = speak(ControlChannel::new(secured.stream), own.ip(), lie, Role::Client).await;
}

/// What a lying client shows.
pub(crate) fn client_tls(host: &Host, identity: Identity) -> ClientTls {
    ClientTls::with_clock(trusted().into(), Some(identity), host.clock.clone()).expect("a client")
}

/// A liar in a server's place, for all who come.
pub(crate) async fn as_server(host: Host, identity: Identity, asked: ClientAuth, lie: Lie) {
    let tls = ServerTls::with_clock(&identity, &asked, host.clock.clone()).expect("a server");
    let tls = Arc::new(tls);
    let listener = host.wires.listen(host.machine);
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let tls = Arc::clone(&tls);
        tokio::spawn(async move {
            let Ok(own) = stream.local_addr() else { return };
            if without_tls(&mut stream, lie).await {
                return;
            }
            let Ok(secured) = tls.accept(stream, TIMEOUTS.step).await else { return };
            let _ = speak(ControlChannel::new(secured.stream), own.ip(), lie, Role::Server).await;
        });
    }
}

/// What is done without TLS; whether that was all.
async fn without_tls(stream: &mut Stream, lie: Lie) -> bool {
    match lie {
        Lie::Mute => {}
        Lie::Garbage => {
            let _ = stream.write_all(&[0x47; 700]).await;
        }
        _ => return false,
    }
    tokio::time::sleep(PATIENCE).await;
    true
}

async fn speak<T: AsyncRead + AsyncWrite + Unpin>(
    mut channel: ControlChannel<T>,
    own: IpAddr,
    lie: Lie,
    role: Role,
) -> Result<(), secure_rdma::control::ControlError> {
    let limit = TIMEOUTS.step;
    if role == Role::Server {
        channel.recv_within(limit).await?;
        channel.recv_within(limit).await?;
    }
    let other = if role == Role::Client { Role::Server } else { Role::Client };
    let hello = Hello {
        version: if lie == Lie::Version { VERSION + 1 } else { VERSION },
        role: if lie == Lie::Role { other } else { role },
        // What no honest side seals itself, so that there are no keys to be had.
        seal: SealPolicy::Optional,
        max_message: 1 << 20,
        heartbeat_ms: 100,
        software: Text::lossy("liar"),
        packets: None,
    };
    channel.send_within(&Record::Hello(hello), limit).await?;
    match lie {
        Lie::Silence => tokio::time::sleep(PATIENCE).await,
        Lie::Turn => channel.send_within(&Record::Ready, limit).await?,
        _ => {}
    }
    if matches!(lie, Lie::HangUp | Lie::Silence) {
        return Ok(());
    }
    let named = if lie == Lie::Address { IpAddr::from([10, 0, 0, 99]) } else { own };
    channel.send_within(&Record::Endpoint(endpoint(named)), limit).await?;
    if role == Role::Server {
        channel.send_within(&Record::Region(region(lie)), limit).await?;
    } else {
        // Hello, Endpoint, Region, Ready.
        for _ in 0..4 {
            if let Record::Error { .. } = channel.recv_within(limit).await? {
                return Ok(());
            }
        }
    }
    channel.send_within(&Record::Ready, limit).await?;
    match lie {
        Lie::Miscount => {
            channel.send_within(&Record::Bye(Fragments { sent: 1_000_000, arrived: 0 }), limit).await?;
        }
        Lie::LastWord => channel.send_within(&Record::Fin, limit).await?,
        Lie::Flood => {
            for n in 0..1_000 {
                channel.send_within(&Record::Ping { n }, limit).await?;
            }
        }
        _ => {}
    }
    // Until the other side has enough of it.
    let listen = async { while channel.recv().await.is_ok() {} };
    let _ = tokio::time::timeout(PATIENCE, listen).await;
    Ok(())
}

fn endpoint(address: IpAddr) -> Endpoint {
    let gid = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Endpoint {
        qpn: Qpn::new(4711).expect("a number"),
        psn: Redacted::new(Psn::new(1).expect("a number")),
        gid,
        udp_port: NonZeroU16::new(4791).expect("a port"),
        mtu: Mtu::B1024,
        max_rd_atomic: 4,
        recv_depth: 4,
        recv_size: 8192,
        min_rnr_timer: 4,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
        spi: None,
        esp_port: None,
        joins: None,
    }
}

fn region(lie: Lie) -> Region {
    let len = 7 * u64::from(Format::DEFAULT.stride()) + u64::from(lie == Lie::Region);
    Region { addr: 1 << 20, rkey: Redacted::new(7), len, data_len: len, counters: None, access: Access::ALL }
}
