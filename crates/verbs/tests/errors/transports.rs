//! Ends of unreliable connections, for datagrams, and with a shared receive queue.
//!
//! What is dropped leaves no trace where no acknowledgement tells of it. So another message follows, which arrives: by
//! then the one before has been looked at.

use crate::common::{PATIENCE, places, wait_for_not_ready};
use crate::fate::{Fate, Outcome};
use rdma_verbs::{
    Access, CompletionQueue, ConnectOptions, Destination, Device, Event, GidEntry, MemoryRegion, PeerRights,
    ProtectionDomain, QueuePair, ReadyToSend, RecvRequest, RemoteRegion, SendRequest, Shared,
    SharedReceiveQueue, SharedReceiveQueueLimits, State, Status, Uc, Ud,
};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of a region, and of a receive request without the header before a datagram.
const REGION: usize = 16 << 10;
const RECEIVE: u32 = 64;
const GRH: u32 = 40;

/// What the message has in it that arrives, and the one that doesn't.
const GOOD: u8 = 2;
const BAD: u8 = 1;

/// How long a message takes at most to where Soft-RoCE's queue pair fails of it; elsewhere nothing depends on it.
const ARRIVED: Duration = Duration::from_millis(300);

/// An end, but for its queue pair, and what it has told.
struct Host {
    device: Arc<Device>,
    gid: GidEntry,
    domain: Arc<ProtectionDomain>,
    queue: Arc<CompletionQueue>,
    memory: MemoryRegion,
    fate: Fate,
}

impl Host {
    fn pair() -> [Self; 2] {
        places().map(|place| {
            let (device, gid) = place.open(false);
            let domain = device.protection_domain().expect("a domain");
            let queue = device.completion_queue(64, None).expect("a queue");
            let memory = domain.register(REGION, Access::LOCAL_WRITE | Access::REMOTE_WRITE).expect("memory");
            let fate =
                Fate { refuses: false, sends: Vec::new(), receives: Vec::new(), state: None, event: None };
            Self { device, gid, domain, queue, memory, fate }
        })
    }

    /// A request to send `len` bytes of `what`.
    fn bytes(&self, what: u8, len: u32) -> rdma_verbs::Slice {
        let mut slice = self.memory.slice(u64::from(what) * 4096, len).expect("free");
        slice.fill(&vec![what; len as usize]).expect("as long");
        slice
    }

    /// A receive request for [`RECEIVE`] bytes behind the header of a datagram, if there is one.
    fn receive(&self, place: u64, header: u32) -> RecvRequest {
        RecvRequest::new([self.memory.slice(3 * 4096 + place * 256, header + RECEIVE).expect("free")])
    }

    /// Nothing has been written where no receive request is.
    fn check_memory(&self) {
        let mut bytes = [1; 8];
        self.memory.read(0, &mut bytes).expect("inside");
        assert_eq!(bytes, [0; 8], "what was refused was done");
    }

    /// Takes what has completed.
    fn look(&mut self, header: u32) {
        let mut out = Vec::new();
        self.queue.poll(&mut out, 64).expect("the queue works");
        for mut completion in out {
            if !completion.kind.is_recv() {
                self.fate.sends.push(completion.status);
                continue;
            }
            self.fate.receives.push(completion.status);
            if completion.status == Status::Success {
                let mut byte = [0];
                completion.slice().expect("its buffer").read(header, &mut byte).expect("a byte");
                assert_eq!(byte, [GOOD], "what was to be dropped has arrived");
            }
        }
        while let Some(event) = self.device.try_event() {
            match event {
                Event::QueuePair(_, event) => self.fate.event = Some(event),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Waits until everything is as expected, or can't become so any more, and says how it is.
fn settle(mut hosts: [Host; 2], header: u32, states: impl Fn() -> [State; 2], expected: &Outcome) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (host, state) in hosts.iter_mut().zip(states()) {
            host.look(header);
            host.fate.state = Some(state);
        }
        let [requester, responder] = hosts.each_ref().map(|host| host.fate.clone());
        let seen = Outcome { requester, responder };
        if seen == *expected || Instant::now() > deadline {
            hosts[1].check_memory();
            return seen;
        }
        sleep(Duration::from_millis(1));
    }
}

fn unreliable(hosts: &[Host; 2]) -> [QueuePair<ReadyToSend, Uc>; 2] {
    let rights = PeerRights { write: true, ..PeerRights::default() };
    let [a, b] = hosts.each_ref().map(|host| {
        let built = QueuePair::builder(&host.domain, &host.queue).uc().build().expect("a queue pair");
        built.init(rights).expect("INIT")
    });
    let at = [a.endpoint(&hosts[0].gid), b.endpoint(&hosts[1].gid)];
    let options = ConnectOptions::default();
    let b = b.connect(&hosts[1].gid, &at[0], &options).expect("connected");
    [a.connect(&hosts[0].gid, &at[1], &options).expect("connected"), b]
}

/// A message over an unreliable connection that finds no receive request, and one that finds one.
pub(crate) fn unready(expected: &Outcome) -> Outcome {
    let hosts = Host::pair();
    let [mut a, mut b] = unreliable(&hosts);
    a.post_send(SendRequest::send([hosts[0].bytes(BAD, 1)])).expect("posted");
    wait_for_not_ready(&hosts[1].device);
    b.post_recv(hosts[1].receive(0, 0)).expect("posted");
    a.post_send(SendRequest::send([hosts[0].bytes(GOOD, 1)])).expect("posted");
    settle(hosts, 0, || [&a, &b].map(|qp| qp.query().expect("the device answers").state), expected)
}

/// A message over an unreliable connection that is longer than its receive request, and one that isn't.
pub(crate) fn too_long(expected: &Outcome) -> Outcome {
    let hosts = Host::pair();
    let [mut a, mut b] = unreliable(&hosts);
    for place in 0..2 {
        b.post_recv(hosts[1].receive(place, 0)).expect("posted");
    }
    for (what, len) in [(BAD, RECEIVE + 1), (GOOD, RECEIVE)] {
        a.post_send(SendRequest::send([hosts[0].bytes(what, len)])).expect("posted");
    }
    settle(hosts, 0, || [&a, &b].map(|qp| qp.query().expect("the device answers").state), expected)
}

/// A WRITE over an unreliable connection by a key that nobody knows, and a message.
pub(crate) fn unknown_key(expected: &Outcome) -> Outcome {
    let hosts = Host::pair();
    let [mut a, mut b] = unreliable(&hosts);
    b.post_recv(hosts[1].receive(0, 0)).expect("posted");
    let there = hosts[1].memory.remote();
    let remote = RemoteRegion { rkey: there.rkey ^ 0x8000_0000, ..there }.range(0, 8).expect("inside");
    a.post_send(SendRequest::write([hosts[0].bytes(BAD, 8)], remote)).expect("posted");
    a.post_send(SendRequest::send([hosts[0].bytes(GOOD, 1)])).expect("posted");
    settle(hosts, 0, || [&a, &b].map(|qp| qp.query().expect("the device answers").state), expected)
}

/// Two datagrams: the first has that many bytes and that key, the second one byte and the right key. The receive
/// requests, unless the first one isn't to find one, have 64 bytes and room for the header.
fn datagrams(wrong_key: bool, len: u32, late: bool, expected: &Outcome) -> Outcome {
    const QKEY: u32 = 0x1122_3344;
    let hosts = Host::pair();
    let [mut a, mut b] = hosts.each_ref().map(|host| -> QueuePair<ReadyToSend, Ud> {
        let built = QueuePair::builder(&host.domain, &host.queue).ud().build().expect("a queue pair");
        built.init(QKEY).expect("INIT").ready().expect("RTS")
    });
    let way = hosts[0].domain.address_handle(&hosts[0].gid, &b.endpoint(&hosts[1].gid)).expect("a way");
    let right = Destination { qpn: b.qpn(), qkey: QKEY };
    let first = if wrong_key { Destination { qkey: QKEY ^ 1, ..right } } else { right };
    if !late {
        b.post_recv(hosts[1].receive(0, GRH)).expect("posted");
    }
    a.post_send(SendRequest::datagram([hosts[0].bytes(BAD, len)], &way, first)).expect("posted");
    if late {
        wait_for_not_ready(&hosts[1].device);
    } else {
        sleep(ARRIVED);
    }
    b.post_recv(hosts[1].receive(1, GRH)).expect("posted");
    a.post_send(SendRequest::datagram([hosts[0].bytes(GOOD, 1)], &way, right)).expect("posted");
    settle(hosts, GRH, || [&a, &b].map(|qp| qp.query().expect("the device answers").state), expected)
}

pub(crate) fn wrong_key(expected: &Outcome) -> Outcome {
    datagrams(true, 1, false, expected)
}

pub(crate) fn long_datagram(expected: &Outcome) -> Outcome {
    datagrams(false, RECEIVE + 1, false, expected)
}

pub(crate) fn unready_for_datagram(expected: &Outcome) -> Outcome {
    datagrams(false, 1, true, expected)
}

/// A message for a shared receive queue that is empty, until a receive request comes, if it does.
fn shared(rnr_retry: u8, comes: bool, expected: &Outcome) -> Outcome {
    let hosts = Host::pair();
    let limits = SharedReceiveQueueLimits { max_requests: 4, max_sge: 1 };
    let shared: Arc<SharedReceiveQueue> =
        hosts[1].domain.shared_receive_queue(limits).expect("a shared receive queue");
    let build = |host: &Host| QueuePair::builder(&host.domain, &host.queue);
    let near = build(&hosts[0]).build().expect("a queue pair").init(PeerRights::default()).expect("INIT");
    let far = build(&hosts[1]).shared_receive_queue(&shared).build().expect("a queue pair");
    let far = far.init(PeerRights::default()).expect("INIT");
    let at = [near.endpoint(&hosts[0].gid), far.endpoint(&hosts[1].gid)];
    let options = ConnectOptions { rnr_retry, min_rnr_timer: 14, ..ConnectOptions::default() };
    let b: QueuePair<ReadyToSend, _, Shared> = far.connect(&hosts[1].gid, &at[0], &options).expect("RTS");
    let mut a = near.connect(&hosts[0].gid, &at[1], &options).expect("RTS");
    a.post_send(SendRequest::send([hosts[0].bytes(GOOD, 1)])).expect("posted");
    if comes {
        wait_for_not_ready(&hosts[1].device);
        shared.post_recv(hosts[1].receive(0, 0)).expect("posted");
    }
    let state =
        |state: Result<rdma_verbs::Snapshot, _>| state.map_err(drop).expect("the device answers").state;
    settle(hosts, 0, || [state(a.query()), state(b.query())], expected)
}

pub(crate) fn empty_queue(expected: &Outcome) -> Outcome {
    shared(0, false, expected)
}

pub(crate) fn late_queue(expected: &Outcome) -> Outcome {
    shared(7, true, expected)
}
