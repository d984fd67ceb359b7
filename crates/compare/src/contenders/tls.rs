//! TLS 1.3 over TCP, by rustls.

use super::{stream, tcp};
use crate::clock::{Clock, Meter};
use crate::contender::Contender;
use crate::credentials::Credentials;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, Op};
use crate::runtime;
use crate::sample::Sample;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections that are set up at a time.
pub(super) const AT_A_TIME: usize = 4;

pub(crate) struct Tls {
    credentials: Arc<Credentials>,
}

impl Tls {
    pub(crate) fn new(credentials: &Arc<Credentials>) -> Self {
        Self { credentials: Arc::clone(credentials) }
    }

    fn accept(
        &self,
        meeting: &Meeting<SocketAddr>,
    ) -> Result<StreamOwned<ServerConnection, std::net::TcpStream>, Failure> {
        let connection = ServerConnection::new(Arc::new(self.credentials.server()?))?;
        let mut stream = StreamOwned::new(connection, tcp::accept(meeting)?);
        stream.conn.complete_io(&mut stream.sock).during("the server's handshake")?;
        Ok(stream)
    }

    fn connect(
        &self,
        meeting: &Meeting<SocketAddr>,
    ) -> Result<StreamOwned<ClientConnection, std::net::TcpStream>, Failure> {
        let config = Arc::new(self.credentials.client()?);
        let connection = ClientConnection::new(config, Credentials::server_name()?)?;
        let mut stream = StreamOwned::new(connection, tcp::connect(meeting)?);
        stream.conn.complete_io(&mut stream.sock).during("the client's handshake")?;
        Ok(stream)
    }

    /// Handshakes, with one byte behind each by which the client knows that the server has finished too.
    fn handshakes(&self, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<SocketAddr>| {
            let acceptor = TlsAcceptor::from(Arc::new(self.credentials.server()?));
            runtime::block_on(async {
                let listener = TcpListener::bind((meeting.host(), 0)).await?;
                meeting.tell(listener.local_addr()?);
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await?;
                        stream.set_nodelay(true)?;
                        let acceptor = acceptor.clone();
                        tokio::spawn(async move {
                            let mut stream = acceptor.accept(stream).await?;
                            stream.write_all(&[1]).await?;
                            // Until the client has gone.
                            stream.read_u8().await
                        });
                    }
                };
                tokio::select! {
                    accepted = accepting => accepted,
                    () = clock.out() => Ok(()),
                }
            })
        };
        let client = |meeting: Meeting<SocketAddr>| {
            let connector = TlsConnector::from(Arc::new(self.credentials.client()?));
            let (address, name) = (meeting.hear()?, Credentials::server_name()?);
            runtime::block_on(async {
                let mut meter = Meter::new(clock, 1);
                let mut under_way = JoinSet::new();
                clock.start();
                loop {
                    while under_way.len() < AT_A_TIME {
                        let (connector, name) = (connector.clone(), name.clone());
                        under_way.spawn(async move {
                            let stream = TcpStream::connect(address).await?;
                            stream.set_nodelay(true)?;
                            connector.connect(name, stream).await?.read_u8().await
                        });
                    }
                    let connected = under_way.join_next().await;
                    if clock.over() {
                        return meter.connections();
                    }
                    connected.transpose()?.transpose()?;
                    meter.arrived(1);
                }
            })
        };
        Ok(ends::run(place, server, client)?.1)
    }
}

impl Contender for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn figures(&self) -> Vec<Figure> {
        tcp::figures().into_iter().chain([Figure::new(Op::Connect, 0)]).collect()
    }

    fn run(&self, Figure { op, size }: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match op {
            Op::Connect => self.handshakes(clock, place),
            Op::RoundTrip => {
                let server = |meeting| {
                    let stream = self.accept(&meeting)?;
                    stream.sock.set_nonblocking(true)?;
                    stream::echo(stream, size, clock)
                };
                let client = |meeting| {
                    let stream = self.connect(&meeting)?;
                    stream.sock.set_nonblocking(true)?;
                    stream::ping(stream, size, clock)
                };
                Ok(ends::run(place, server, client)?.1)
            }
            _ => {
                let server = |meeting| stream::take(self.accept(&meeting)?, size, clock);
                let client = |meeting| stream::give(self.connect(&meeting)?, size, clock);
                Ok(ends::run(place, server, client)?.0)
            }
        }
    }
}
