//! Such a session as a stream of bytes (`Session::into_stream`): what a program has of it that knows tokio's streams
//! only, beside TLS over TCP.

use super::{BUSY_POLL, Sealed};
use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::credentials::Credentials;
use crate::ends::{self, Meeting, Place};
use crate::failure::Failure;
use crate::figure::{Figure, LARGE, Op, SMALL};
use crate::runtime;
use crate::sample::Sample;
use rdma_verbs::DeviceSelector;
use secure_rdma::SessionOptions;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) struct Stream {
    name: String,
    sessions: Sealed,
}

impl Stream {
    pub(crate) fn new(device_name: &str, device: &DeviceSelector, credentials: &Arc<Credentials>) -> Self {
        let name = format!("{device_name}-stream");
        Self { name, sessions: Sealed::new(device_name, device, credentials) }
    }

    /// Messages, each written by a call of its own; the receiver reads what there is.
    fn send(&self, size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let options = SessionOptions::default();
        let server = |meeting: Meeting<SocketAddr>| {
            runtime::block_on(async {
                let (_server, session) = self.sessions.accept(&meeting, options).await?;
                let mut stream = session.into_stream();
                let mut buffer = vec![0; size];
                let mut meter = Meter::new(clock, size);
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => return meter.sample(),
                        Ok(bytes) if meter.arrived(bytes) => {}
                        Ok(_) => return meter.sample(),
                        // The other end has seen before this one that time was up.
                        Err(_) if clock.over() => return meter.sample(),
                        Err(error) => return Err(error.into()),
                    }
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            runtime::block_on(async {
                let mut stream = self.sessions.open(&meeting, options).await?.into_stream();
                let message = vec![0x5a; size];
                clock.start();
                while !clock.over() {
                    match stream.write_all(&message).await {
                        Err(error) if !clock.over() => return Err(error.into()),
                        _ => {}
                    }
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
            runtime::block_on(async {
                let (_server, session) = self.sessions.accept(&meeting, options).await?;
                let mut stream = session.into_stream();
                let mut message = vec![0; size];
                loop {
                    let echoed = async {
                        stream.read_exact(&mut message).await?;
                        stream.write_all(&message).await
                    };
                    match echoed.await {
                        Ok(()) => {}
                        Err(_) if clock.over() => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            runtime::block_on(async {
                let mut stream = self.sessions.open(&meeting, options).await?.into_stream();
                let mut message = vec![0x5a; size];
                let mut watch = Stopwatch::new(clock);
                clock.start();
                loop {
                    let begun = Instant::now();
                    stream.write_all(&message).await?;
                    stream.read_exact(&mut message).await?;
                    if !watch.back(begun) {
                        return watch.sample();
                    }
                }
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }
}

impl Contender for Stream {
    fn name(&self) -> &str {
        &self.name
    }

    fn figures(&self) -> Vec<Figure> {
        let round_trips = [Op::RoundTrip, Op::RoundTripAwait].map(|op| Figure::each(op, &SMALL));
        Figure::each(Op::Send, &LARGE).chain(round_trips.into_iter().flatten()).collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match figure.op {
            Op::Send => self.send(figure.size, clock, place),
            _ => self.round_trip(figure, clock, place),
        }
    }
}
