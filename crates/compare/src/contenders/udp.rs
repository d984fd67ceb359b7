//! UDP with nothing above it: what the machine's sockets can do at most. Nothing is sent again, in order, or
//! held back for a slower receiver; only what arrived counts.

use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, LOSSY, Op, SMALL, TINY};
use crate::runtime;
use crate::sample::Sample;
use crate::spin::Spin;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Payload of a datagram: that of a full packet of the largest path MTU of RoCE.
const DATAGRAM: usize = 4096;

/// Datagrams in one system call: as many as fit 64 KiB with their headers.
const RUN: usize = 15;

/// Bytes of each of the socket's buffers, as the embedded device asks for them.
const BUFFER: usize = 4 << 20;

/// Batches that one system call receives.
const BATCHES: usize = 8;

/// An echo that hasn't come for so long was lost.
const LOST: Duration = Duration::from_millis(200);

pub(crate) struct Udp;

impl Contender for Udp {
    fn name(&self) -> &'static str {
        "udp-limit"
    }

    fn figures(&self) -> Vec<Figure> {
        let bandwidth = Figure::each(Op::Send, &LARGE);
        let polling = Figure::each(Op::RoundTrip, &SMALL);
        let waiting = Figure::each(Op::RoundTripAwait, &SMALL);
        let rate = Figure::new(Op::Rate { queue_pairs: 1 }, TINY);
        bandwidth
            .chain([Figure::new(Op::LossSend, LOSSY)])
            .chain(polling)
            .chain(waiting)
            .chain([rate])
            .collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let size = figure.size;
        match figure.op {
            Op::Send => bandwidth(size, clock, place),
            Op::RoundTrip => round_trip(size, clock, place),
            Op::RoundTripAwait => round_trip_await(size, clock, place),
            _ => rate(size, clock, place),
        }
    }
}

/// A socket connected to the other end's.
fn connected(meeting: &Meeting<SocketAddr>) -> Result<UdpSocket, Failure> {
    let socket = UdpSocket::bind((meeting.host(), 0)).during("binding a UDP socket")?;
    let options = socket2::SockRef::from(&socket);
    // The system gives what its limits allow.
    options.set_recv_buffer_size(BUFFER).during("setting a receive buffer's size")?;
    options.set_send_buffer_size(BUFFER).during("setting a send buffer's size")?;
    socket.set_nonblocking(true)?;
    meeting.tell(socket.local_addr()?);
    socket.connect(meeting.hear()?).during("connecting a UDP socket")?;
    Ok(socket)
}

/// Whether nothing can be had or sent just now: a peer that has gone already is no error.
fn is_vain(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::Interrupted)
}

/// A stream of full datagrams, as many in each system call as there may be.
fn bandwidth(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let state = UdpSocketState::new((&socket).into())?;
        let mut memory = vec![0; BATCHES << 16];
        let mut meta = [RecvMeta::default(); BATCHES];
        let (mut meter, mut spin) = (Meter::new(clock, size), Spin::default());
        loop {
            let mut free = memory.chunks_exact_mut(1 << 16);
            let mut buffers: [_; BATCHES] =
                core::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
            match state.recv((&socket).into(), &mut buffers, &mut meta) {
                Ok(batches) => {
                    spin = Spin::default();
                    let bytes = meta[..batches].iter().map(|meta| meta.len).sum();
                    if !meter.arrived(bytes) {
                        return meter.sample();
                    }
                }
                Err(error) if is_vain(&error) && !clock.over() => spin.pause(),
                Err(error) if is_vain(&error) => return meter.sample(),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let state = UdpSocketState::new((&socket).into())?;
        let run = RUN.min(state.max_gso_segments());
        let contents = vec![0x5a; run * DATAGRAM];
        let segment_size = (run > 1).then_some(DATAGRAM);
        let to = socket.peer_addr()?;
        let transmit =
            Transmit { destination: to, ecn: None, contents: &contents, segment_size, src_ip: None };
        clock.start();
        while !clock.over() {
            match state.try_send((&socket).into(), &transmit) {
                Ok(()) => {}
                Err(error) if is_vain(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    Ok(ends::run(place, server, client)?.0)
}

/// Short datagrams, one in each system call at both ends.
fn rate(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let mut datagram = vec![0; size];
        let mut meter = Meter::new(clock, size);
        while let Some(bytes) = receive(&socket, &mut datagram, clock)? {
            meter.arrived(bytes);
        }
        meter.sample()
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let datagram = vec![0x5a; size];
        clock.start();
        while !clock.over() {
            send(&socket, &datagram)?;
        }
        Ok(())
    };
    Ok(ends::run(place, server, client)?.0)
}

fn send(socket: &UdpSocket, datagram: &[u8]) -> Result<(), Failure> {
    match socket.send(datagram) {
        Ok(_) => Ok(()),
        Err(error) if is_vain(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The next datagram; `None` when time is up.
fn receive(socket: &UdpSocket, datagram: &mut [u8], clock: &Clock) -> Result<Option<usize>, Failure> {
    let mut spin = Spin::default();
    loop {
        match socket.recv(datagram) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if is_vain(&error) && !clock.over() => spin.pause(),
            Err(error) if is_vain(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// An echo, both ends looking all the time.
fn round_trip(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let mut datagram = vec![0; size];
        while receive(&socket, &mut datagram, clock)?.is_some() {
            send(&socket, &datagram)?;
        }
        Ok(())
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        let mut datagram = vec![0x5a; size];
        let mut watch = Stopwatch::new(clock);
        clock.start();
        loop {
            let begun = Instant::now();
            send(&socket, &datagram)?;
            let Some(_) = receive(&socket, &mut datagram, clock)? else { return watch.sample() };
            if !watch.back(begun) {
                return watch.sample();
            }
        }
    };
    Ok(ends::run(place, server, client)?.1)
}

/// An echo by tokio.
fn round_trip_await(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        runtime::block_on(async {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            let mut datagram = vec![0; size];
            while !clock.over() {
                if let Ok(Ok(bytes)) = tokio::time::timeout(LOST, socket.recv(&mut datagram)).await {
                    // A client that has gone already needs no echo.
                    let _ = socket.send(&datagram[..bytes]).await;
                }
            }
            Ok(())
        })
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let socket = connected(&meeting)?;
        runtime::block_on(async {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            let mut datagram = vec![0x5a; size];
            let mut watch = Stopwatch::new(clock);
            clock.start();
            loop {
                let begun = Instant::now();
                socket.send(&datagram).await?;
                // tokio's timer costs nothing that shows while there is nothing to fire.
                let back = match tokio::time::timeout(LOST, socket.recv(&mut datagram)).await {
                    Ok(received) => {
                        received?;
                        watch.back(begun)
                    }
                    Err(_) => !clock.over(),
                };
                if !back {
                    return watch.sample();
                }
            }
        })
    };
    Ok(ends::run(place, server, client)?.1)
}
