//! Sessions of the product's own, sealed, over a device. Their operations are asynchronous: who waits for one
//! sleeps, unless the session was told to poll.

mod idle;
mod stream;

use super::tls::AT_A_TIME;
use super::verbs::lossy;
use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::credentials::Credentials;
use crate::ends::{self, Meeting, Place};
use crate::failure::Failure;
use crate::figure::{Figure, LARGE, Op, SMALL, TINY};
use crate::runtime;
use crate::sample::Sample;
pub(crate) use idle::serve;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::Identity;
use secure_rdma::tls::ClientAuth;
use secure_rdma::{
    Arrival, Buffers, Client, Server, ServerBuilder, ServerOptions, Session, SessionOptions, SessionQuota,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub(crate) use stream::Stream;
use tokio::task::JoinSet;

/// Bytes of the memory that each client has on its server.
const REGION: u64 = 1 << 20;

/// Buffers where lists of short messages are posted.
const FOR_LISTS: Buffers = Buffers { receives: 32, sends: 16, ..Buffers::DEFAULT };

/// Bytes that a session has under way at most: its buffers to send from.
const UNDER_WAY: usize = (Buffers::DEFAULT.sends as usize) << 16;

/// Short messages that are posted at a time.
const RATE_LIST: usize = 64;

/// How long one looks before one sleeps, where round trips are polled for.
const BUSY_POLL: Duration = Duration::from_millis(1);

pub(crate) struct Sealed {
    name: String,
    device: DeviceSelector,
    credentials: Arc<Credentials>,
}

impl Sealed {
    pub(crate) fn new(device_name: &str, device: &DeviceSelector, credentials: &Arc<Credentials>) -> Self {
        Self {
            name: format!("{device_name}-sealed"),
            device: device.clone(),
            credentials: Arc::clone(credentials),
        }
    }

    async fn bind(&self, host: IpAddr, options: SessionOptions) -> Result<Server, Failure> {
        let device = Device::open(&self.device)?;
        Ok(server(self.credentials.identity().clone(), device, REGION, options).bind((host, 0)).await?)
    }

    fn client(&self, options: SessionOptions) -> Result<Client, Failure> {
        let device = Device::open(&self.device)?;
        Ok(Client::builder(self.credentials.trust()).device(device).options(options).build()?)
    }

    /// The server, and its only client's session.
    async fn accept(
        &self,
        meeting: &Meeting<SocketAddr>,
        options: SessionOptions,
    ) -> Result<(Server, Session), Failure> {
        let server = self.bind(meeting.host(), options).await?;
        meeting.tell(server.local_addr());
        match server.next().await {
            Arrival::Session(session) => Ok((server, *session)),
            Arrival::Refused { error, .. } => Err(error.into()),
        }
    }

    /// The client's session, sealed.
    async fn open(&self, meeting: &Meeting<SocketAddr>, options: SessionOptions) -> Result<Session, Failure> {
        let address = meeting.hear()?;
        let client = self.client(options)?;
        let name = Credentials::name()?;
        let session = client.connect(&address.ip().to_string(), address.port(), &name).await?;
        if session.info().sealed.is_sealed() { Ok(session) } else { Err("the session isn't sealed".into()) }
    }

    /// The server's end of a session: `entertain` is given the only client.
    fn serve<T>(
        &self,
        meeting: &Meeting<SocketAddr>,
        options: SessionOptions,
        entertain: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime::block_on(async {
            let (_server, mut session) = self.accept(meeting, options).await?;
            let result = entertain(&mut session).await;
            // As long as the client needs it.
            session.ended().await;
            result
        })
    }

    /// The client's.
    fn connect<T>(
        &self,
        meeting: &Meeting<SocketAddr>,
        options: SessionOptions,
        talk: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        runtime::block_on(async { talk(&mut self.open(meeting, options).await?).await })
    }

    fn one_sided(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        let options = SessionOptions::default();
        let server = |meeting: Meeting<SocketAddr>| self.serve(&meeting, options, async |_| Ok(()));
        let client = |meeting: Meeting<SocketAddr>| {
            self.connect(&meeting, options, async |session| {
                let bytes = vec![0x5a; size];
                // What was never written can't be read.
                session.write(0, &bytes).await?;
                let mut meter = Meter::new(clock, size);
                // Of those that were posted, the last ones may be under way yet.
                let mut under_way = (UNDER_WAY / size).max(1);
                clock.start();
                loop {
                    let is_read = op == Op::Read;
                    if is_read {
                        session.post_read(0, size).await?;
                    } else {
                        session.post_write(0, &bytes).await?;
                    }
                    if under_way > 0 {
                        under_way -= 1;
                        continue;
                    }
                    if is_read {
                        drop(session.next_read().await?);
                    }
                    if !meter.arrived(size) {
                        return meter.sample();
                    }
                }
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }

    /// Messages, posted one by one or in lists of so many.
    fn send(&self, size: usize, list: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let buffers = if list > 1 { FOR_LISTS } else { Buffers::DEFAULT };
        let options = SessionOptions::default().buffers(buffers);
        let server = |meeting: Meeting<SocketAddr>| {
            self.serve(&meeting, options, async |session| {
                let mut meter = Meter::new(clock, size);
                loop {
                    match session.recv().await {
                        // Also when time is up: the client's last message needs somebody who takes it.
                        Ok(Some(message)) => drop(meter.arrived(message.len())),
                        Err(error) if !clock.over() => return Err(error.into()),
                        _ => return meter.sample(),
                    }
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            self.connect(&meeting, options, async |session| {
                let message = vec![0x5a; size];
                clock.start();
                while !clock.over() {
                    session.post_sends(std::iter::repeat_n(&message[..], list)).await?;
                }
                Ok(())
            })
        };
        Ok(ends::run(place, server, client)?.0)
    }

    fn round_trip(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        let busy_poll = if op == Op::RoundTrip { BUSY_POLL } else { Duration::ZERO };
        let options = SessionOptions::default().busy_poll(busy_poll);
        let server = |meeting: Meeting<SocketAddr>| {
            self.serve(&meeting, options, async |session| {
                loop {
                    match session.recv().await {
                        Ok(Some(message)) => session.post_send(&message).await?,
                        Ok(None) => return Ok(()),
                        Err(_) if clock.over() => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            self.connect(&meeting, options, async |session| {
                let message = vec![0x5a; size];
                let mut watch = Stopwatch::new(clock);
                clock.start();
                loop {
                    let begun = Instant::now();
                    session.post_send(&message).await?;
                    session.recv().await?.ok_or("the server has left")?;
                    if !watch.back(begun) {
                        return watch.sample();
                    }
                }
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }

    /// Sessions, each opened and left.
    fn sessions(&self, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<SocketAddr>| {
            runtime::block_on(async {
                let server = self.bind(meeting.host(), SessionOptions::default()).await?;
                meeting.tell(server.local_addr());
                let welcoming = async {
                    loop {
                        match server.next().await {
                            // Until the client has gone.
                            Arrival::Session(mut session) => {
                                tokio::spawn(async move { session.ended().await });
                            }
                            Arrival::Refused { error, .. } if !clock.over() => return Err(error.into()),
                            Arrival::Refused { .. } => {}
                        }
                    }
                };
                tokio::select! {
                    welcomed = welcoming => welcomed,
                    () = clock.out() => Ok(()),
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            let address = meeting.hear()?;
            runtime::block_on(async {
                let client = Arc::new(self.client(SessionOptions::default())?);
                let mut meter = Meter::new(clock, 1);
                let mut under_way = JoinSet::new();
                clock.start();
                loop {
                    while under_way.len() < AT_A_TIME {
                        let (client, name) = (Arc::clone(&client), Credentials::name()?);
                        let host = address.ip().to_string();
                        under_way.spawn(async move { client.connect(&host, address.port(), &name).await });
                    }
                    let connected = under_way.join_next().await;
                    if clock.over() {
                        return meter.connections();
                    }
                    drop(connected.transpose()?.transpose()?);
                    meter.arrived(1);
                }
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }
}

/// What a server of these sessions offers.
fn server(
    identity: Identity,
    device: Arc<Device>,
    region_len: u64,
    session: SessionOptions,
) -> ServerBuilder {
    let options = ServerOptions::default()
        .max_clients(4096)
        .quota(SessionQuota::UNLIMITED)
        .max_handshakes(256)
        .region_len(region_len)
        .session(session);
    Server::builder(identity, ClientAuth::Off).device(device).options(options)
}

impl Contender for Sealed {
    fn name(&self) -> &str {
        &self.name
    }

    fn figures(&self) -> Vec<Figure> {
        let bandwidth = [Op::Write, Op::Read, Op::Send].map(|op| Figure::each(op, &LARGE));
        let round_trips = [Op::RoundTrip, Op::RoundTripAwait].map(|op| Figure::each(op, &SMALL));
        let others = [
            Figure::new(Op::Rate { queue_pairs: 1 }, TINY),
            Figure::new(Op::Connect, 0),
            Figure::new(Op::IdleMemory, 0),
        ];
        let large = bandwidth.into_iter().flatten().chain(lossy(&self.device));
        large.chain(round_trips.into_iter().flatten()).chain(others).collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match figure.op {
            Op::Send => self.send(figure.size, 1, clock, place),
            Op::Rate { .. } => self.send(figure.size, RATE_LIST, clock, place),
            Op::RoundTripAwait | Op::RoundTrip => self.round_trip(figure, clock, place),
            Op::Connect => self.sessions(clock, place),
            Op::IdleMemory => idle::measure(&self.device, &self.credentials),
            _ => self.one_sided(figure, clock, place),
        }
    }
}
