//! One UDP socket, set up so that a strict RoCEv2 receiver accepts what it sends.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rocev2::{Qpn, UDP_PORT};
use rustix::net::sockopt;

use self::receivers::Receivers;
use self::sys::SocketOption;
use super::Sent;
use super::bind::{self, BindError};
use super::capture::Capture;
use super::counters::{LinkCounters, SendFailure, add};
use super::rx::{BATCHES, Batch, Received, RxBatch};
use super::tx::{Marking, Outgoing, Reseal, TxBatch};

mod diagnosis;
mod receivers;
pub(crate) mod sys;

/// A UDP socket, bound to one local address and never connected.
///
/// The ICRC covers parts of the IP header that a UDP socket doesn't choose. What makes them known in advance
/// (Linux; a test pins it down): the socket isn't connected and has IP_MTU_DISCOVER at PROBE. Then "don't
/// fragment" is set, and the IPv4 identification is 0, or with segmentation offload the datagram's index in
/// its system call. PROBE also means that forged ICMP messages can't shrink what may be sent.
///
/// It may be shared by threads. It doesn't block: wait for it with `poll` or `epoll`.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Whether the system can segment.
    can_gso: bool,
    gso: AtomicBool,
    counters: LinkCounters,
    capture: Option<Capture>,
    receivers: Receivers,
}

/// What became of one system call.
enum Called {
    /// The system took it, or it failed and was counted.
    Done,
    /// There is no room.
    Full,
    /// The system doesn't take these datagrams together: perhaps one by one. Not counted as unsent.
    NotTogether,
}

impl Socket {
    /// A socket at that address and port; port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let address = bind::unicast(address)?;
        let socket = open(address)?;
        bind::to(&socket, address)?;
        Self::set_up(socket.into(), address, None)
    }

    /// A socket of a [group](crate::host::group), which is bound already; all of the group's, by slot.
    ///
    /// # Errors
    /// It can't be set up.
    #[cfg_attr(feature = "portable", expect(dead_code, reason = "the portable socket stands in its place"))]
    pub(crate) fn adopt(
        socket: UdpSocket,
        address: SocketAddr,
        group: Arc<[OwnedFd]>,
    ) -> Result<Self, BindError> {
        Self::set_up(socket, address, Some(group))
    }

    pub(crate) fn set_up(
        socket: UdpSocket,
        address: SocketAddr,
        group: Option<Arc<[OwnedFd]>>,
    ) -> Result<Self, BindError> {
        let failed = |what| move |source| BindError::System { what, address, source };
        let local = socket.local_addr().map_err(failed("reading the UDP socket's address"))?;
        // Non-blocking, IP_MTU_DISCOVER at PROBE, no IPv6 fragments, GRO.
        let state = UdpSocketState::new((&socket).into()).map_err(failed("setting up the UDP socket"))?;
        if state.may_fragment() {
            let source = io::ErrorKind::Unsupported.into();
            return Err(failed("setting \"don't fragment\", which the ICRC depends on,")(source));
        }
        Self::receive_bytes_only(&socket).map_err(failed("setting up the UDP socket"))?;
        let can_gso = state.max_gso_segments() > 1;
        Ok(Self {
            socket,
            state,
            local,
            can_gso,
            gso: AtomicBool::new(can_gso),
            counters: LinkCounters::default(),
            capture: None,
            receivers: Receivers::new(group),
        })
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

    /// Has what passes from now on written down.
    pub fn capture(&mut self, capture: Option<Capture>) {
        self.capture = capture;
    }

    /// Switches off what quinn-udp asks for beside the bytes: it is of no use here, since the socket has one
    /// address, and costs 0.3 µs a datagram, measured.
    fn receive_bytes_only(socket: &UdpSocket) -> io::Result<()> {
        SocketOption::TIMESTAMP.set(socket, false)?;
        if socket.local_addr()?.is_ipv4() {
            SocketOption::PACKET_INFO.set(socket, false)?;
            SocketOption::RECV_TOS.set(socket, false)
        } else {
            SocketOption::PACKET_INFO6.set(socket, false)?;
            SocketOption::RECV_TCLASS6.set(socket, false)
        }
    }

    /// The address and port it is bound to. Every datagram that it sends comes from there, and every one that
    /// it receives was sent there.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The sizes of the send and receive buffers as the system gives them, bookkeeping included, in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        Ok((sockopt::socket_send_buffer_size(&self.socket)?, sockopt::socket_recv_buffer_size(&self.socket)?))
    }

    /// How many bytes of its buffer the socket at `to` that receives for that queue pair has to spare, on this host;
    /// `None` if there is none, or the system doesn't tell.
    #[must_use]
    pub fn room(&self, to: SocketAddr, receiver: Qpn) -> Option<usize> {
        self.receivers.room(&self.socket, self.local, to, receiver)
    }

    /// How much of its send buffer the system uses for what hasn't left yet, and how large the buffer is, in bytes;
    /// `None` if the system doesn't tell.
    #[must_use]
    pub fn send_buffer(&self) -> Option<[usize; 2]> {
        let [used, size] = sys::send_buffer(&self.socket)?;
        Some([usize::try_from(used).ok()?, usize::try_from(size).ok()?])
    }

    /// Whether datagrams are handed to the system in runs.
    #[must_use]
    pub fn gso(&self) -> bool {
        self.gso.load(Ordering::Relaxed)
    }

    /// Switches segmentation offload; it stays off where the system has none. Off means one system call and
    /// IP identification 0 for each datagram: for a strict peer behind a network card that segments by itself
    /// and numbers the segments in its own way.
    pub fn set_gso(&self, on: bool) {
        self.gso.store(on && self.can_gso, Ordering::Relaxed);
    }

    /// What it has sent and received.
    #[must_use]
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// Receives once. Errors are counted, not reported: on a UDP socket they concern datagrams sent earlier.
    pub fn recv(&self, batch: &mut RxBatch) -> Received {
        let received = batch.fill(|buffers, batches| {
            if let [batch] = batches {
                let arrived =
                    buffers.next().and_then(|buffer| self.received(sys::receive(&self.socket, buffer)));
                return arrived.map(|arrived| *batch = arrived).into_iter().count();
            }
            let mut slices: [_; BATCHES] =
                core::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            let mut meta = [RecvMeta::default(); BATCHES];
            let count =
                self.received(self.state.recv((&self.socket).into(), &mut slices, &mut meta)).unwrap_or(0);
            for (batch, meta) in batches.iter_mut().zip(&meta[..count]) {
                *batch = Batch { len: meta.len, stride: meta.stride, from: meta.addr };
            }
            count
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

    fn received<T>(&self, result: io::Result<T>) -> Option<T> {
        let counter = match &result {
            Ok(_) => &self.counters.receive_calls,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // An error that a datagram sent earlier has caused; nothing says which.
            Err(_) => &self.counters.receive_errors,
        };
        add(counter, 1);
        result.ok()
    }

    /// Sends a batch, as far as there is room in the send buffer. What can't be sent for another reason is counted
    /// and forgotten, as if it had been lost on the way.
    pub fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent {
        batch.drain(|mut run| {
            let together = run.bytes.len() > run.segment && self.gso();
            if together {
                run.seal(true, reseal);
                match self.send_run(&run) {
                    Called::Done => return None,
                    Called::Full => return Some(0),
                    Called::NotTogether => {}
                }
            }
            self.send_each(&mut run, together, reseal)
        })
    }

    /// Sends a run's datagrams one by one; how many, if there wasn't room for all. `refused` says that the system
    /// refused to take them together.
    fn send_each(&self, run: &mut Outgoing<'_>, refused: bool, reseal: &mut Reseal<'_>) -> Option<usize> {
        run.seal(false, reseal);
        for (at, datagram) in run.bytes.chunks(run.segment).enumerate() {
            match super::uninterrupted(|| self.send_one(run, datagram)) {
                Ok(()) => {
                    self.sent(run, datagram);
                    // Where a full-sized datagram can't be sent by itself either, segmentation wasn't the reason.
                    if refused && at == 0 {
                        self.gso_fails();
                    }
                }
                Err(error) => {
                    if let Called::Full = self.failed(&error, 1) {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    fn send_one(&self, run: &Outgoing<'_>, datagram: &[u8]) -> io::Result<()> {
        if run.marking == Marking::default() {
            // Without quinn-udp's control message, which costs 0.2 µs, measured.
            self.socket.send_to(datagram, run.to).map(|_| ())
        } else {
            sys::send_marked(&self.socket, datagram, run.to, None, run.marking)
        }
    }

    /// Sends several datagrams by segmentation offload.
    fn send_run(&self, run: &Outgoing<'_>) -> Called {
        let send = || {
            if run.marking != Marking::default() {
                return sys::send_marked(&self.socket, run.bytes, run.to, Some(run.segment), run.marking);
            }
            let transmit = Transmit {
                destination: run.to,
                ecn: None,
                contents: run.bytes,
                segment_size: Some(run.segment),
                src_ip: None,
            };
            self.state.try_send((&self.socket).into(), &transmit)
        };
        match super::uninterrupted(send) {
            Ok(()) => {
                add(&self.counters.gso_runs, 1);
                self.sent(run, run.bytes);
                Called::Done
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO)) => {
                add(&self.counters.gso_refused, 1);
                Called::NotTogether
            }
            Err(error) => self.failed(&error, count(run, run.bytes)),
        }
    }

    /// Segmentation offload fails where the same datagrams pass one by one.
    fn gso_fails(&self) {
        if self.gso.swap(false, Ordering::Relaxed) {
            tracing::info!(local = %self.local, "the system refuses UDP segmentation offload; sending \
                datagrams one by one");
        }
    }

    /// Sends IPv4 datagrams without checksums, which the kernel doesn't segment.
    #[cfg(test)]
    pub(crate) fn send_without_checksum(&self) {
        SocketOption::NO_CHECK.set(&self.socket, true).expect("SO_NO_CHECK");
    }

    /// These bytes of a run have left by one call.
    fn sent(&self, run: &Outgoing<'_>, bytes: &[u8]) {
        add(&self.counters.send_calls, 1);
        add(&self.counters.bytes_sent, bytes.len() as u64);
        add(&self.counters.datagrams_sent, count(run, bytes));
        if let Some(capture) = &self.capture {
            capture.sent(self.local, run, bytes);
        }
    }

    fn failed(&self, error: &io::Error, datagrams: u64) -> Called {
        if error.kind() == io::ErrorKind::WouldBlock {
            add(&self.counters.send_blocked, 1);
            return Called::Full;
        }
        self.counters.not_sent(SendFailure::from(error), datagrams);
        Called::Done
    }
}

/// How many of a run's datagrams these bytes are.
fn count(run: &Outgoing<'_>, bytes: &[u8]) -> u64 {
    bytes.len().div_ceil(run.segment) as u64
}

/// A socket that takes what rxe sends, not bound yet.
pub(crate) fn open(address: SocketAddr) -> Result<socket2::Socket, BindError> {
    let failed = |what| move |source| BindError::System { what, address, source };
    let socket = bind::open(address)?;
    if address.is_ipv6() {
        SocketOption::NO_CHECK6_RX.set(&socket, true).map_err(failed("setting UDP_NO_CHECK6_RX"))?;
    }
    Ok(socket)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
