//! Where the TCP connection comes from.

use super::Failure;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;

/// How long the peer may take for its part of the TCP exchange.
const EXCHANGE: Duration = Duration::from_secs(30);

pub(crate) enum Meeting {
    Server(TcpListener),
    Client(TcpStream),
}

impl Meeting {
    /// Connects to `host`; without one, listens.
    pub(crate) fn new(host: Option<&str>, port: u16) -> Result<Self, Failure> {
        match host {
            Some(host) => match TcpStream::connect((host, port)) {
                Ok(stream) => Ok(Self::Client(stream)),
                Err(error) => Err(format!("connecting to {host}, port {port}: {error}").into()),
            },
            // The IPv6 socket takes IPv4 connections too.
            None => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .or_else(|error| match error.kind() {
                    ErrorKind::AddrInUse => Err(error),
                    _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
                })
                .map(Self::Server)
                .map_err(|error| format!("listening on TCP port {port}: {error}").into()),
        }
    }

    pub(super) fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    pub(super) fn stream(self) -> Result<TcpStream, Failure> {
        let stream = match self {
            Self::Server(listener) => listener.accept()?.0,
            Self::Client(stream) => stream,
        };
        stream.set_read_timeout(Some(EXCHANGE))?;
        stream.set_write_timeout(Some(EXCHANGE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Runs both ends of a program on this machine: `end` gets the server's address, if it is the client, and the meeting.
#[cfg(test)]
pub(crate) fn both_ends<T: Send>(address: &str, end: impl Fn(Option<&str>, Meeting) -> T + Sync) -> [T; 2] {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let end = &end;
        let waiting = scope.spawn(move || end(None, Meeting::Server(listener)));
        let client = end(Some(address), Meeting::Client(TcpStream::connect(server).unwrap()));
        [waiting.join().unwrap(), client]
    })
}
