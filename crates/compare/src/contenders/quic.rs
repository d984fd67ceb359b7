//! QUIC, by quinn: one stream in each direction.

use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::credentials::{Credentials, NAME};
use crate::ends::{self, Meeting, Place};
use crate::failure::Failure;
use crate::figure::{Figure, LARGE, LOSSY, Op, SMALL, TINY};
use crate::runtime;
use crate::sample::Sample;
use core::future::Future;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

/// Bytes that may be under way: as much as a socket's buffer takes, so that it isn't flow control that is measured.
const WINDOW: u32 = 4 << 20;

/// Payload of a datagram: that of a full packet of the largest path MTU of RoCE.
const LARGE_PACKET: u16 = 4096;

/// The most that QUIC lets an end take in a datagram.
const MAX_PAYLOAD: u16 = 65_527;

pub(crate) struct Quic {
    name: &'static str,
    /// Bytes of a datagram, where quinn is told them.
    packet: Option<u16>,
    credentials: Arc<Credentials>,
}

impl Quic {
    /// With packets as quinn chooses them, which on any network is what fits the Internet's 1500 bytes.
    pub(crate) fn as_it_comes(credentials: &Arc<Credentials>) -> Self {
        Self { name: "quic", packet: None, credentials: Arc::clone(credentials) }
    }

    /// With packets as large as RoCE's, for networks where it is known that they pass.
    pub(crate) fn with_large_packets(credentials: &Arc<Credentials>) -> Self {
        Self { name: "quic-4096", packet: Some(LARGE_PACKET), credentials: Arc::clone(credentials) }
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        config.stream_receive_window(VarInt::from_u32(WINDOW));
        config.receive_window(VarInt::from_u32(WINDOW)).send_window(WINDOW.into());
        if let Some(packet) = self.packet {
            config.initial_mtu(packet).min_mtu(packet);
        }
        Arc::new(config)
    }

    /// An endpoint, of a server if it is given what a server needs. Only within tokio.
    fn endpoint(&self, host: IpAddr, server: Option<ServerConfig>) -> Result<Endpoint, Failure> {
        let socket = UdpSocket::bind((host, 0))?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(WINDOW as usize)?;
        options.set_send_buffer_size(WINDOW as usize)?;
        let mut config = EndpointConfig::default();
        if self.packet.is_some() {
            config.max_udp_payload_size(MAX_PAYLOAD)?;
        }
        Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
    }

    fn server(&self, host: IpAddr) -> Result<Endpoint, Failure> {
        let crypto = QuicServerConfig::try_from(self.credentials.server()?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(self.transport());
        self.endpoint(host, Some(config))
    }

    fn client(&self, host: IpAddr) -> Result<(Endpoint, ClientConfig), Failure> {
        let crypto = QuicClientConfig::try_from(self.credentials.client()?)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport());
        Ok((self.endpoint(host, None)?, config))
    }

    /// The server's end of a connection: `entertain` is given the only one.
    fn serve<T>(
        &self,
        meeting: &Meeting<SocketAddr>,
        entertain: impl AsyncFnOnce(Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime::block_on(async {
            let endpoint = self.server(meeting.host())?;
            meeting.tell(endpoint.local_addr()?);
            let incoming = endpoint.accept().await.ok_or("the endpoint is closed")?;
            entertain(incoming.await?).await
        })
    }

    /// The client's.
    fn connect<T>(
        &self,
        meeting: &Meeting<SocketAddr>,
        talk: impl AsyncFnOnce(Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime::block_on(async {
            let (endpoint, config) = self.client(meeting.host())?;
            talk(endpoint.connect_with(config, meeting.hear()?, NAME)?.await?).await
        })
    }

    fn send(&self, size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<SocketAddr>| {
            self.serve(&meeting, async |connection| {
                let mut meter = Meter::new(clock, size);
                let taking = async {
                    let mut stream = connection.accept_uni().await?;
                    while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
                        meter.arrived(chunk.bytes.len());
                    }
                    Ok(())
                };
                until(clock, taking).await?;
                meter.sample()
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            self.connect(&meeting, async |connection| {
                let mut stream = connection.open_uni().await?;
                let message = vec![0x5a; size];
                clock.start();
                let giving = async {
                    loop {
                        stream.write_all(&message).await?;
                    }
                };
                until(clock, giving).await
            })
        };
        Ok(ends::run(place, server, client)?.0)
    }

    fn round_trip(&self, size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<SocketAddr>| {
            self.serve(&meeting, async |connection| {
                let mut message = vec![0; size];
                let echoing = async {
                    let (mut to, mut from) = connection.accept_bi().await?;
                    loop {
                        from.read_exact(&mut message).await?;
                        to.write_all(&message).await?;
                    }
                };
                until(clock, echoing).await
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            self.connect(&meeting, async |connection| {
                let (mut to, mut from) = connection.open_bi().await?;
                let mut message = vec![0x5a; size];
                let mut watch = Stopwatch::new(clock);
                clock.start();
                let asking = async {
                    loop {
                        let begun = Instant::now();
                        to.write_all(&message).await?;
                        from.read_exact(&mut message).await?;
                        watch.back(begun);
                    }
                };
                until(clock, asking).await?;
                watch.sample()
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }
}

/// Does that until time is up: then the other end may be gone without a word.
async fn until(clock: &Clock, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = work => if clock.over() { Ok(()) } else { result },
        () = clock.out() => Ok(()),
    }
}

impl Contender for Quic {
    fn name(&self) -> &str {
        self.name
    }

    fn figures(&self) -> Vec<Figure> {
        let bandwidth = Figure::each(Op::Send, &LARGE).chain([Figure::new(Op::LossSend, LOSSY)]);
        if self.packet.is_some() {
            return bandwidth.collect();
        }
        let rate = Figure::new(Op::Rate { queue_pairs: 1 }, TINY);
        bandwidth.chain(Figure::each(Op::RoundTripAwait, &SMALL)).chain([rate]).collect()
    }

    fn run(&self, Figure { op, size }: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match op {
            Op::RoundTripAwait => self.round_trip(size, clock, place),
            _ => self.send(size, clock, place),
        }
    }
}
