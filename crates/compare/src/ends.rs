//! Two ends, each a thread on a core of its own, and how they tell each other where they are.
//!
//! Every contender is run in the same way: client and server are threads of this process, each tied to one of
//! the same two cores, with every thread that it starts (the embedded device's helper, tokio's). Processes
//! would make no difference to what is measured, since all data goes through the kernel's sockets and nothing
//! is shared between the two ends; but threads keep one clock, which both ends of a measurement read, and a
//! failure of one end is known to the other at once. What a process alone can show, the memory of a server,
//! is measured with a server that is one.

use crate::failure::{Failure, While};
use crate::network::{End, Network};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// How long an end waits for what the other has to tell it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The cores of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

impl Cores {
    /// The first two that this process may use; where there is but one, both ends share it.
    pub(crate) fn find() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None).during("asking which cores this process may use")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = cores.next().ok_or("this process may use no core")?;
        Ok(Self { server, client: cores.next().unwrap_or(server) })
    }
}

/// Where the two ends are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) cores: Cores,
    /// The network between them; without one it is the loopback interface.
    pub(crate) network: Option<&'a Network>,
}

impl Place<'_> {
    /// Moves this thread, and all that it will start, to one end's core and network; returns the end's address.
    fn take(&self, end: End) -> Result<IpAddr, Failure> {
        tie_to(match end {
            End::Server => self.cores.server,
            End::Client => self.cores.client,
        })?;
        self.network.map_or(Ok(Ipv4Addr::LOCALHOST.into()), |network| network.enter(end))
    }
}

/// Ties this thread, and all that it starts, to a core.
fn tie_to(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).during(format_args!("tying a thread to core {core}"))
}

/// One end's way to tell the other something, such as an address.
#[derive(Debug)]
pub(crate) struct Meeting<T> {
    host: IpAddr,
    to: Sender<T>,
    from: Receiver<T>,
}

impl<T> Meeting<T> {
    /// The address of this end.
    pub(crate) fn host(&self) -> IpAddr {
        self.host
    }

    /// Tells the other end.
    pub(crate) fn tell(&self, what: T) {
        // Where the other end is gone, its own error says why.
        let _ = self.to.send(what);
    }

    /// What the other end tells.
    pub(crate) fn hear(&self) -> Result<T, Failure> {
        self.from.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("the other end said nothing for {PATIENCE:?}").into(),
            RecvTimeoutError::Disconnected => GONE.into(),
        })
    }
}

const GONE: &str = "the other end has gone";

/// Runs both ends, each in its place, and returns what they return.
pub(crate) fn run<T: Send, S: Send, C: Send>(
    place: Place<'_>,
    server: impl FnOnce(Meeting<T>) -> Result<S, Failure> + Send,
    client: impl FnOnce(Meeting<T>) -> Result<C, Failure> + Send,
) -> Result<(S, C), Failure> {
    let ((to_client, from_server), (to_server, from_client)) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let host = place.take(End::Server)?;
            server(Meeting { host, to: to_client, from: from_client })
        });
        let client = scope.spawn(move || {
            let host = place.take(End::Client)?;
            client(Meeting { host, to: to_server, from: from_server })
        });
        let panicked = |_| Err("it panicked; this is a bug in compare".into());
        let (server, client) = (
            server.join().unwrap_or_else(panicked),
            client.join().unwrap_or_else(|_| Err("panicked".into())),
        );
        match (server, client) {
            (Ok(server), Ok(client)) => Ok((server, client)),
            // Of two failures, the one that isn't the other's.
            (Err(error), Err(other)) if error.to_string() == GONE => Err(format!("client: {other}").into()),
            (Err(error), _) => Err(format!("server: {error}").into()),
            (Ok(_), Err(error)) => Err(format!("client: {error}").into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_run_on_their_cores_and_hear_each_other() {
        let cores = Cores::find().unwrap();
        let here = || {
            let set = sched_getaffinity(None).unwrap();
            (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect::<Vec<_>>()
        };
        let end = |number: u32| {
            move |meeting: Meeting<u32>| {
                meeting.tell(number);
                Ok((meeting.hear()?, here(), thread::spawn(here).join().unwrap()))
            }
        };
        let (server, client) = run(Place { cores, network: None }, end(1), end(2)).unwrap();
        assert_eq!(server, (2, vec![cores.server], vec![cores.server]));
        assert_eq!(client, (1, vec![cores.client], vec![cores.client]));
    }

    #[test]
    fn the_end_that_failed_first_is_the_one_that_is_told_of() {
        let place = Place { cores: Cores::find().unwrap(), network: None };
        let waits = |meeting: Meeting<()>| meeting.hear();
        let fails = |_: Meeting<()>| -> Result<(), Failure> { Err("no luck".into()) };
        assert_eq!(run(place, waits, fails).unwrap_err().to_string(), "client: no luck");
        assert_eq!(run(place, fails, waits).unwrap_err().to_string(), "server: no luck");
    }
}
