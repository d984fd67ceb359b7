//! The program's side.

use super::privileges;
use super::protocol::{Answer, Incoming, Request, VERSION, receive, send};
use crate::owner::Program;
use crate::{Encapsulation, Error, Material, Ports};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the helper may take: it asks the kernel, which answers at once, but for the first time, when it loads
/// modules.
const PATIENCE: Duration = Duration::from_secs(60);

/// A helper that runs. It ends with this process.
pub struct Helper {
    socket: Mutex<OwnedFd>,
    /// While it is open, nobody removes what is set up, though the helper is killed.
    _program: Program,
}

impl Helper {
    /// Starts `command`, whose standard input becomes the socket that it is to serve ([`serve`](super::serve)), and
    /// gives up the right to set up states and policies: to be called before other threads are started, since they
    /// would keep it.
    ///
    /// # Errors
    /// The process can't be started, has no right either, or the kernel has no IPsec.
    pub fn start(mut command: Command) -> Result<Arc<Self>, Error> {
        const WHAT: &str = "starting the helper";
        let kind = SocketType::SEQPACKET;
        let (own, helpers) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(Error::kernel(WHAT))?;
        set_socket_timeout(&own, Timeout::Recv, Some(PATIENCE)).map_err(Error::kernel(WHAT))?;
        command.stdin(helpers).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        // What a terminal tells its processes isn't for the helper, which ends last.
        command.process_group(0).current_dir("/");
        command.spawn().map_err(Error::kernel(WHAT))?;
        // With its end of the socket, so that it shows when the helper is gone.
        drop(command);
        privileges::give_up_right().map_err(Error::kernel("giving up the right to set up IPsec"))?;
        let socket = Mutex::new(own);
        match ask(&socket, &Request::Hello { version: VERSION })? {
            Answer::Hello { version: VERSION, reqid } => {
                let program = Program::of(reqid).map_err(Error::kernel(WHAT))?;
                Ok(Arc::new(Self { socket, _program: program }))
            }
            _ => Err(Error::Helper("the helper speaks another version".into())),
        }
    }

    /// Whether the kernel has ESP and AES-GCM. It loads their modules now, which may take some seconds, and not while
    /// the first session waits for it.
    ///
    /// # Errors
    /// It hasn't, or refuses.
    pub fn check(&self) -> Result<(), Error> {
        self.done(&Request::Check)
    }

    /// Begins to seal between an address of this host and a peer: from now on nothing of RoCEv2 comes or goes between
    /// them, until there are keys.
    ///
    /// # Errors
    /// The addresses aren't such, there is a policy between them already, or the kernel refused.
    pub fn open(self: &Arc<Self>, own: IpAddr, peer: IpAddr) -> Result<Sealing, Error> {
        self.open_at(&Arc::new(Encapsulation::open(own)?), peer)
    }

    /// The same, from that socket's address, and with packets taken there.
    ///
    /// # Errors
    /// As above.
    pub fn open_at(
        self: &Arc<Self>,
        encapsulation: &Arc<Encapsulation>,
        peer: IpAddr,
    ) -> Result<Sealing, Error> {
        let association = self.number(&Request::Open { own: encapsulation.address(), peer })?;
        Ok(Sealing { helper: Arc::clone(self), association, encapsulation: Arc::clone(encapsulation) })
    }

    fn number<N: TryFrom<u64>>(&self, request: &Request) -> Result<N, Error> {
        let malformed = Error::Malformed { what: "asking the helper for a number" };
        match ask(&self.socket, request)? {
            Answer::Number { number } => number.try_into().map_err(|_| malformed),
            _ => Err(malformed),
        }
    }

    fn done(&self, request: &Request) -> Result<(), Error> {
        match ask(&self.socket, request)? {
            Answer::Done => Ok(()),
            _ => Err(Error::Malformed { what: "asking the helper" }),
        }
    }
}

fn ask(socket: &Mutex<OwnedFd>, request: &Request) -> Result<Answer, Error> {
    const WHAT: &str = "asking the helper for IPsec";
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    match send(&*socket, request).and_then(|()| receive(&*socket)) {
        Ok(Incoming::Message(Answer::Refused { reason })) => Err(Error::Helper(reason)),
        Ok(Incoming::Message(answer)) => Ok(answer),
        Ok(Incoming::Malformed) => Err(Error::Malformed { what: WHAT }),
        Ok(Incoming::End) | Err(Errno::PIPE | Errno::CONNRESET) => {
            Err(Error::Helper("the helper that sets up IPsec has ended".into()))
        }
        Err(errno) => Err(Error::kernel(WHAT)(errno)),
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").finish_non_exhaustive()
    }
}

/// RoCEv2 between two addresses, sealed by the kernel. When this is dropped it isn't any more, and may be sent in clear
/// again: so a queue pair that it was for has to be gone by then. Where the process is killed, the helper sees to that.
///
/// Each call asks the helper, and waits for its answer, which takes some 100 µs.
#[derive(Debug)]
pub struct Sealing {
    helper: Arc<Helper>,
    association: u32,
    encapsulation: Arc<Encapsulation>,
}

impl Sealing {
    /// The UDP port of this host to which the peer sends sealed packets.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.encapsulation.port()
    }

    /// An SPI by which packets will be taken, once it has a key, which has to be within 30 s.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn allocate_spi(&self) -> Result<u32, Error> {
        self.helper.number(&Request::AllocateSpi { association: self.association })
    }

    /// Takes packets under a key, from the peer's UDP port, by an SPI that was allocated.
    ///
    /// # Errors
    /// There is no such SPI any more, or the kernel refused.
    pub fn install_inbound(&self, spi: u32, peer_port: u16, material: Material) -> Result<(), Error> {
        let (association, ports) = (self.association, self.ports(peer_port));
        self.helper.done(&Request::InstallInbound { association, spi, ports, material })
    }

    /// Seals under a key, for the SPI by which the peer takes it at that UDP port, and no longer under the one before.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn install_outbound(&self, spi: u32, peer_port: u16, material: Material) -> Result<(), Error> {
        let (association, ports) = (self.association, self.ports(peer_port));
        self.helper.done(&Request::InstallOutbound { association, spi, ports, material })
    }

    /// How many packets have been taken by an SPI.
    ///
    /// # Errors
    /// There is no such SPI any more.
    pub fn packets(&self, spi: u32) -> Result<u64, Error> {
        self.helper.number(&Request::Packets { association: self.association, spi })
    }

    /// Takes no more packets by an SPI.
    ///
    /// # Errors
    /// There is no such SPI, or the kernel refused.
    pub fn release(&self, spi: u32) -> Result<(), Error> {
        self.helper.done(&Request::Release { association: self.association, spi })
    }

    /// Has nothing more come or go between the two addresses, until there are keys again.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn block(&self) -> Result<(), Error> {
        self.helper.done(&Request::Block { association: self.association })
    }

    fn ports(&self, peer: u16) -> Ports {
        Ports { own: self.port(), peer }
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        // Where the helper is gone, all stays sealed or blocked until the next one sweeps.
        let _ = self.helper.done(&Request::Close { association: self.association });
    }
}
