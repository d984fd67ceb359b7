//! The helper's side.

use super::privileges;
use super::protocol::{Answer, Incoming, Request, VERSION, receive, send};
use crate::owner::Kind;
use crate::{Association, Error, Kernel, Pair, Unfit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Associations at a time.
const ASSOCIATIONS: usize = 16 << 10;

/// How often what owners have left that are gone is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// As [`serve`], for a process whose queue pairs aren't those that are sealed: what it had set up is blocked when it is
/// gone, and stays so ([`Kind::Standing`]).
///
/// # Errors
/// As there.
pub fn serve_standing(socket: &OwnedFd) -> Result<(), Error> {
    serve_and_sweep(socket, Kind::Standing, SWEEP)
}

/// Serves the process that has made the socket pair of which `socket` is an end, until that is gone. Then, not before,
/// what it had set up is removed: where it only stops asking, all of that is blocked.
///
/// Signals that ask programs to end are the caller's to ignore.
///
/// # Errors
/// Rights can't be given up, or the kernel has no IPsec or refuses: the process is told why.
pub fn serve(socket: &OwnedFd) -> Result<(), Error> {
    serve_and_sweep(socket, Kind::Passing, SWEEP)
}

/// The same, with another time between sweeps.
fn serve_and_sweep(socket: &OwnedFd, kind: Kind, every: Duration) -> Result<(), Error> {
    const WHAT: &str = "beginning";
    let result = begin(socket, kind).and_then(|(kernel, process)| {
        let swept = Instant::now();
        let mut helper =
            Server { kernel, associations: BTreeMap::new(), next: 0, greeted: false, every, swept };
        helper.answer(socket, &process)?;
        helper.kernel.block_all()?;
        if helper.kernel.stands() {
            return Ok(());
        }
        wait_for(&process).map_err(Error::kernel(WHAT))?;
        helper.kernel.remove_all()
    });
    if let Err(error) = &result {
        let _ = send(socket, &Answer::Refused { reason: error.to_string() });
    }
    result
}

/// What it has, when it has given up the rest: what owners that are gone had set up is removed.
fn begin(socket: &OwnedFd, kind: Kind) -> Result<(Kernel, OwnedFd), Error> {
    let peer = socket_peercred(socket).map_err(Error::kernel("looking for the process that asks"))?;
    let process = pidfd_open(peer.pid, PidfdFlags::empty());
    let process = process.map_err(Error::kernel("watching the process that asks"))?;
    privileges::keep_only_right().map_err(Error::kernel("giving up rights"))?;
    let kernel = Kernel::open_of(kind)?;
    kernel.sweep()?;
    Ok((kernel, process))
}

fn wait_for(process: &OwnedFd) -> Result<(), Errno> {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    retry_on_intr(|| poll(&mut ended, None)).map(drop)
}

struct Server {
    kernel: Kernel,
    associations: BTreeMap<u32, Association>,
    next: u32,
    greeted: bool,
    /// How often it sweeps.
    every: Duration,
    /// When it has swept last.
    swept: Instant,
}

impl Server {
    /// Answers until nobody asks any more.
    fn answer(&mut self, socket: &OwnedFd, process: &OwnedFd) -> Result<(), Error> {
        const WHAT: &str = "being asked";
        loop {
            let mut ready = [PollFd::new(socket, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
            let left = self.every.saturating_sub(self.swept.elapsed());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            retry_on_intr(|| poll(&mut ready, Some(&left))).map_err(Error::kernel(WHAT))?;
            if !ready[1].revents().is_empty() {
                return Ok(());
            }
            if self.swept.elapsed() >= self.every {
                // What it can't remove now stays sealed or blocked until the next time.
                let _ = self.kernel.sweep();
                self.swept = Instant::now();
            }
            if ready[0].revents().is_empty() {
                continue;
            }
            let answer = match receive(socket.as_fd()).map_err(Error::kernel(WHAT))? {
                Incoming::End => return Ok(()),
                Incoming::Malformed => Answer::Refused { reason: "no request of this version".into() },
                Incoming::Message(request) => self
                    .carry_out(request)
                    .unwrap_or_else(|error| Answer::Refused { reason: error.to_string() }),
            };
            match send(socket.as_fd(), &answer) {
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                result => result.map_err(Error::kernel(WHAT))?,
            }
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<Answer, Error> {
        if !self.greeted && !matches!(request, Request::Hello { version: VERSION }) {
            return Err(Error::Request("the helper speaks another version"));
        }
        match request {
            Request::Hello { .. } => {
                self.greeted = true;
                return Ok(Answer::Hello { version: VERSION, reqid: self.kernel.reqid() });
            }
            Request::Check => self.kernel.probe(),
            Request::Open { own, peer } => return self.open(own, peer).map(number),
            Request::AllocateSpi { association } => {
                let (kernel, association) = self.association(association)?;
                return association.allocate_spi(kernel).map(number);
            }
            Request::InstallInbound { association, spi, ports, material } => {
                let (kernel, association) = self.association(association)?;
                association.install_inbound(kernel, spi, ports, &material)
            }
            Request::InstallOutbound { association, spi, ports, material } => {
                let (kernel, association) = self.association(association)?;
                association.install_outbound(kernel, spi, ports, &material)
            }
            Request::Packets { association, spi } => {
                let (kernel, association) = self.association(association)?;
                return association.packets(kernel, spi).map(number);
            }
            Request::Release { association, spi } => {
                let (kernel, association) = self.association(association)?;
                association.release(kernel, spi)
            }
            Request::Block { association } => {
                let (kernel, association) = self.association(association)?;
                association.block(kernel)
            }
            Request::Close { association } => match self.associations.remove(&association) {
                Some(association) => association.close(&self.kernel),
                None => Err(UNKNOWN),
            },
        }?;
        Ok(Answer::Done)
    }

    fn open(&mut self, own: IpAddr, peer: IpAddr) -> Result<u32, Error> {
        if self.associations.len() >= ASSOCIATIONS {
            return Err(Error::Request("too many associations"));
        }
        let pair = Pair::new(own, peer)?;
        // Nobody can have an address that isn't this host's bound.
        UdpSocket::bind((pair.own(), 0)).map_err(|_| Unfit::Foreign(pair.own()))?;
        if UdpSocket::bind((pair.peer(), 0)).is_ok() {
            return Err(Unfit::OwnHost(pair.peer()).into());
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.associations.insert(number, Association::open(&self.kernel, pair)?);
        Ok(number)
    }

    fn association(&mut self, number: u32) -> Result<(&Kernel, &mut Association), Error> {
        let association = self.associations.get_mut(&number).ok_or(UNKNOWN)?;
        Ok((&self.kernel, association))
    }
}

const UNKNOWN: Error = Error::Request("no such association");

fn number(number: impl Into<u64>) -> Answer {
    Answer::Number { number: number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Program;
    use nix::sched::{CloneFlags, unshare};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::process::Command;
    use std::thread;

    fn ask(socket: &OwnedFd, request: &Request) -> Answer {
        send(socket, request).unwrap();
        match receive(socket).unwrap() {
            Incoming::Message(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Whether this thread has a network namespace of its own now. Where nothing may be skipped it has.
    fn in_namespace() -> bool {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no network namespace: {errno}");
            eprintln!("skipped: no network namespace can be made: {errno}");
            return false;
        }
        for arguments in [&["link", "set", "lo", "up"][..], &["address", "add", "10.77.0.1/32", "dev", "lo"]]
        {
            assert!(Command::new("ip").args(arguments).status().unwrap().success());
        }
        true
    }

    fn sockets() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn what_a_gone_owner_has_left_is_swept_from_time_to_time() {
        if !in_namespace() {
            return;
        }
        let [own, peer, others] =
            ["10.77.0.1", "10.77.0.2", "10.77.0.3"].map(|address| address.parse().unwrap());
        let (asker, helpers) = sockets();
        thread::spawn(move || serve_and_sweep(&helpers, Kind::Passing, Duration::from_millis(10)));
        let greeting = ask(&asker, &Request::Hello { version: VERSION });
        assert!(matches!(greeting, Answer::Hello { .. }), "{greeting:?}");
        assert_eq!(ask(&asker, &Request::Open { own, peer: others }), number(0_u32));
        let (gone, watcher) = (Kernel::open().unwrap(), Kernel::open().unwrap());
        // An owner that is killed, and then its program.
        let program = Program::of(gone.reqid()).unwrap();
        let mut left = Association::open(&gone, Pair::new(own, peer).unwrap()).unwrap();
        left.allocate_spi(&gone).unwrap();
        let lefts = gone.reqid();
        let is_left = |reqid: u32| watcher.policies().unwrap().iter().any(|policy| policy.reqid == reqid);
        drop(gone);
        // The program lives.
        assert_eq!(watcher.sweep().unwrap(), 0);
        assert!(is_left(lefts));
        drop(program);
        while is_left(lefts) {
            thread::sleep(Duration::from_millis(5));
        }
        // The helper's own stays, and it goes on answering.
        let policies = watcher.policies().unwrap();
        assert_eq!(policies.len(), 2);
        assert!(matches!(ask(&asker, &Request::AllocateSpi { association: 0 }), Answer::Number { .. }));
    }

    #[test]
    fn for_a_process_that_only_stops_asking_all_is_blocked_as_long_as_it_lives() {
        if !in_namespace() {
            return;
        }
        let (own, helpers) = sockets();
        // The process that has made the sockets is this one.
        thread::spawn(move || serve(&helpers));
        let [own_address, peer] = ["10.77.0.1", "10.77.0.2"].map(|address| address.parse().unwrap());
        let open = Request::Open { own: own_address, peer };
        assert!(matches!(ask(&own, &open), Answer::Refused { .. }), "without a greeting");
        assert!(matches!(ask(&own, &Request::Hello { version: VERSION + 1 }), Answer::Refused { .. }));
        let greeting = ask(&own, &Request::Hello { version: VERSION });
        assert!(matches!(greeting, Answer::Hello { version: VERSION, .. }), "{greeting:?}");
        let foreign = Request::Open { own: "10.77.0.9".parse().unwrap(), peer };
        assert!(matches!(ask(&own, &foreign), Answer::Refused { .. }));
        assert_eq!(ask(&own, &open), number(0_u32));
        assert!(matches!(ask(&own, &Request::AllocateSpi { association: 1 }), Answer::Refused { .. }));
        assert!(matches!(ask(&own, &Request::AllocateSpi { association: 0 }), Answer::Number { .. }));
        drop(own);
        let kernel = Kernel::open().unwrap();
        // In the order in which the helper does it: when the states are gone, all is blocked.
        while !kernel.states().unwrap().is_empty() {
            thread::yield_now();
        }
        let policies = kernel.policies().unwrap();
        assert_eq!(policies.len(), 2);
        assert!(policies.iter().all(|policy| policy.blocks));
        assert_eq!(kernel.sweep().unwrap(), 0);
    }
}
