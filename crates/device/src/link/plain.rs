//! One plain UDP socket, as any system has it: a system call for each datagram.
//!
//! It can't choose what the ICRC covers of the IP header beside the addresses. Packets are sealed for IP identification
//! 0 and taken so, which two devices of this kind agree on. Linux sends that number; what another system sends a
//! network card or Soft-RoCE may refuse, over IPv4. Over IPv6 there is none.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use rocev2::{Qpn, UDP_PORT};

use super::Sent;
use super::bind::{self, BindError};
use super::capture::Capture;
use super::counters::{LinkCounters, SendFailure, add};
use super::rx::{Received, RxBatch};
use super::tx::{Reseal, TxBatch};

/// A UDP socket, bound to one local address. It may be shared by threads, and doesn't block.
///
/// What a path says of the IP header ([`Marking`](super::Marking)) isn't carried out.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    counters: LinkCounters,
    capture: Option<Capture>,
}

impl Socket {
    /// A socket at that address and port; port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let address = bind::unicast(address)?;
        let socket = bind::open(address)?;
        bind::to(&socket, address)?;
        Self::adopt(socket.into(), address)
    }

    /// A socket that is bound already.
    ///
    /// # Errors
    /// It can't be set up.
    pub(crate) fn adopt(socket: UdpSocket, address: SocketAddr) -> Result<Self, BindError> {
        let failed = |what| move |source| BindError::System { what, address, source };
        socket.set_nonblocking(true).map_err(failed("setting up the UDP socket"))?;
        let local = socket.local_addr().map_err(failed("reading the UDP socket's address"))?;
        Ok(Self { socket, local, counters: LinkCounters::default(), capture: None })
    }

    /// A socket at that address and UDP port 4791 if it is free there, otherwise at a port that the system chooses.
    ///
    /// # Errors
    /// [`BindError`], but not [`BindError::InUse`] unless all ports are.
    pub fn bind_preferred(address: IpAddr) -> Result<Self, BindError> {
        match Self::bind(SocketAddr::new(address, UDP_PORT)) {
            Err(BindError::InUse(_)) => Self::bind(SocketAddr::new(address, 0)),
            other => other,
        }
    }

    /// The address and port it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it has sent and received.
    #[must_use]
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// Has what passes from now on written down.
    pub fn capture(&mut self, capture: Option<Capture>) {
        self.capture = capture;
    }

    /// How many bytes a receiver has to spare: nobody knows.
    #[must_use]
    pub fn room(&self, _to: SocketAddr, _receiver: Qpn) -> Option<usize> {
        None
    }

    /// How much of its send buffer the system uses: any system tells nothing of it.
    #[must_use]
    pub fn send_buffer(&self) -> Option<[usize; 2]> {
        None
    }

    /// Receives once. Errors are counted, not reported: on a UDP socket they concern datagrams sent earlier.
    pub fn recv(&self, batch: &mut RxBatch) -> Received {
        let received = batch.fill_each(|buffer| match self.socket.recv_from(buffer) {
            Ok(arrived) => {
                add(&self.counters.receive_calls, 1);
                Some(arrived)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                add(&self.counters.receive_errors, 1);
                None
            }
        });
        if received.datagrams > 0 {
            add(&self.counters.datagrams_received, received.datagrams as u64);
            add(&self.counters.bytes_received, received.bytes as u64);
            if let Some(capture) = &self.capture {
                capture.received(self.local, batch.datagrams());
            }
        }
        received
    }

    /// Sends a batch, as far as there is room in the send buffer. What can't be sent for another reason is counted
    /// and forgotten, as if it had been lost on the way.
    pub fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        batch.drain(|mut run| {
            run.seal(false, reseal);
            for (at, datagram) in run.bytes.chunks(run.segment).enumerate() {
                match super::uninterrupted(|| self.socket.send_to(datagram, run.to)) {
                    Ok(_) => {
                        add(&self.counters.send_calls, 1);
                        add(&self.counters.bytes_sent, datagram.len() as u64);
                        add(&self.counters.datagrams_sent, 1);
                        if let Some(capture) = &self.capture {
                            capture.sent(self.local, &run, datagram);
                        }
                    }
                    Err(error) if is_full(&error) => {
                        add(&self.counters.send_blocked, 1);
                        return Some(at);
                    }
                    Err(error) => self.counters.not_sent(SendFailure::from(&error), 1),
                }
            }
            None
        })
    }
}

/// Whether the send buffer has no room.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::put_icrc;
    use super::super::testing::{fresh_loopback, loopbacks};
    use super::*;
    use std::time::{Duration, Instant};

    /// What arrives within a minute, up to `count` datagrams, with the places that they are said to have.
    fn receive(socket: &Socket, count: usize) -> Vec<(u16, Vec<u8>)> {
        let (mut batch, mut received) = (RxBatch::new(), Vec::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        while received.len() < count && Instant::now() < deadline {
            socket.recv(&mut batch);
            received.extend(batch.datagrams().map(|it| (it.index, it.bytes.to_vec())));
        }
        received
    }

    #[test]
    fn packets_of_a_run_leave_and_arrive_one_by_one() {
        for address in loopbacks() {
            let [from, to] = [(); 2].map(|()| Socket::bind((address, 0).into()).unwrap());
            let mut batch = TxBatch::new();
            for number in 0..20_u8 {
                batch.reserve()[..100].fill(number);
                batch.commit(100, to.local_addr(), |_, id| id.into());
            }
            assert_eq!(
                from.send(&mut batch, &mut |datagram, _, id| put_icrc(datagram, |_| id.into())),
                Sent::All
            );
            let received = receive(&to, 20);
            assert_eq!(received.len(), 20);
            for (number, (index, bytes)) in (0..).zip(received) {
                // Sealed for IP identification 0, and taken so.
                assert_eq!((index, &bytes[..100], &bytes[100..]), (0, &[number; 100][..], &[0; 4][..]));
            }
            assert_eq!(from.counters().rows()[0], ("datagrams_sent", 20));
        }
    }

    #[test]
    fn the_first_of_an_address_gets_4791_and_the_next_another_port() {
        let address = fresh_loopback();
        let first = Socket::bind_preferred(address).unwrap();
        assert_eq!(first.local_addr(), SocketAddr::new(address, 4791));
        assert_ne!(Socket::bind_preferred(address).unwrap().local_addr(), first.local_addr());
        assert!(matches!(Socket::bind(first.local_addr()), Err(BindError::InUse(_))));
        assert!(matches!(Socket::bind(([0; 4], 0).into()), Err(BindError::NotUnicast(_))));
    }
}
