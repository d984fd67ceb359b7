//! TCP, in clear.

use super::stream;
use crate::clock::Clock;
use crate::contender::Contender;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, LOSSY, Op, SMALL, TINY};
use crate::sample::Sample;
use std::net::{SocketAddr, TcpListener, TcpStream};

pub(crate) struct Tcp;

/// What a byte stream is asked for.
pub(super) fn figures() -> Vec<Figure> {
    let bandwidth = Figure::each(Op::Send, &LARGE).chain([Figure::new(Op::LossSend, LOSSY)]);
    let rate = Figure::new(Op::Rate { queue_pairs: 1 }, TINY);
    bandwidth.chain(Figure::each(Op::RoundTrip, &SMALL)).chain([rate]).collect()
}

impl Contender for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn figures(&self) -> Vec<Figure> {
        figures()
    }

    fn run(&self, Figure { op, size }: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        if op == Op::RoundTrip {
            let server = |meeting| stream::echo(unblocked(accept(&meeting)?)?, size, clock);
            let client = |meeting| stream::ping(unblocked(connect(&meeting)?)?, size, clock);
            return Ok(ends::run(place, server, client)?.1);
        }
        let server = |meeting| stream::take(accept(&meeting)?, size, clock);
        let client = |meeting| stream::give(connect(&meeting)?, size, clock);
        Ok(ends::run(place, server, client)?.0)
    }
}

/// The server's end of a connection.
pub(super) fn accept(meeting: &Meeting<SocketAddr>) -> Result<TcpStream, Failure> {
    let listener = TcpListener::bind((meeting.host(), 0)).during("listening on TCP")?;
    meeting.tell(listener.local_addr()?);
    let (stream, _) = listener.accept().during("accepting a TCP connection")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The client's.
pub(super) fn connect(meeting: &Meeting<SocketAddr>) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(meeting.hear()?).during("connecting by TCP")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn unblocked(stream: TcpStream) -> Result<TcpStream, Failure> {
    stream.set_nonblocking(true)?;
    Ok(stream)
}
