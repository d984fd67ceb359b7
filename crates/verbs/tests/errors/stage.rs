//! Two ends, and what is seen of them.

use crate::common::{End, PATIENCE, Setup, connect, pattern};
use crate::fate::{Fate, Outcome};
use rdma_verbs::{
    AsyncEvent, Completion, Event, MemoryRegion, PostReason, RecvRequest, RemoteRange, RemoteRegion,
    SendRequest, State, Status,
};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of each end's region.
pub(crate) const REGION: usize = 32 << 10;

/// Requests that succeed, and receives, have the bytes up to here; those behind it must stay as they were.
const OPEN: u32 = 8 << 10;

/// Bytes of a receive request.
pub(crate) const RECEIVE: u32 = 64;

/// A receive's number; sends are counted from 0.
const FIRST_RECEIVE: u64 = 1000;

/// An end, and what it has told.
pub(crate) struct Watched {
    pub(crate) end: End,
    sends: Vec<Status>,
    receives: Vec<Status>,
    event: Option<AsyncEvent>,
    refuses: bool,
    sends_posted: u64,
    receives_posted: u64,
}

/// The requester and the responder.
pub(crate) struct Stage {
    pub(crate) a: Watched,
    /// `None` once its device is closed.
    pub(crate) b: Option<Watched>,
    /// Where the responder's region is.
    pub(crate) there: RemoteRegion,
    /// Regions that have to stay.
    pub(crate) others: Vec<MemoryRegion>,
}

impl Stage {
    pub(crate) fn new(setup: &Setup) -> Self {
        let (a, b) = connect(setup);
        let there = b.memory.remote();
        let ends = [a, b].map(|end| {
            end.memory.write(0, &pattern(REGION, 1)).expect("it fits");
            Watched {
                end,
                sends: Vec::new(),
                receives: Vec::new(),
                event: None,
                refuses: false,
                sends_posted: 0,
                receives_posted: 0,
            }
        });
        let [a, b] = ends;
        Self { a, b: Some(b), there, others: Vec::new() }
    }

    pub(crate) fn b(&mut self) -> &mut Watched {
        self.b.as_mut().expect("it is there")
    }

    /// Bytes of the responder's region that a request may change.
    pub(crate) fn open(&self) -> RemoteRange {
        self.there.range(0, 8).expect("inside")
    }

    /// `len` bytes at `offset` of the responder's region, inside or not.
    pub(crate) fn at(&self, offset: i64, len: u64) -> RemoteRange {
        let addr = self.there.addr.wrapping_add_signed(offset);
        RemoteRegion { addr, len, ..self.there }.range(0, len).expect("all of it")
    }

    /// Bytes behind the open ones, under a key that isn't known.
    pub(crate) fn unknown(&self) -> RemoteRange {
        let rkey = self.there.rkey ^ 0x8000_0000;
        RemoteRegion { rkey, ..self.there }.range(OPEN.into(), 8).expect("inside")
    }

    /// Waits until everything is as expected, or can't become so any more, and says how it is.
    pub(crate) fn settle(mut self, expected: &Outcome) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.look();
            if seen == *expected || Instant::now() > deadline {
                // What comes twice comes now.
                let seen = self.look();
                self.check_memory();
                return seen;
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn look(&mut self) -> Outcome {
        let responder = self.b.as_mut().map_or(Fate::GONE, Watched::look);
        Outcome { requester: self.a.look(), responder }
    }

    /// Nothing that was refused has changed anything.
    fn check_memory(&self) {
        let ends = [Some(&self.a), self.b.as_ref()];
        for region in ends.into_iter().flatten().map(|watched| &watched.end.memory).chain(&self.others) {
            let mut bytes = vec![0; REGION];
            region.read(0, &mut bytes).expect("inside");
            let closed = OPEN as usize..;
            assert!(bytes[closed.clone()] == pattern(REGION, 1)[closed], "what was refused was done");
        }
    }
}

impl Watched {
    /// Posts a send request; the numbers are counted here.
    pub(crate) fn post(&mut self, request: SendRequest) {
        let id = self.sends_posted;
        self.sends_posted += 1;
        if let Err(error) = self.end.qp().post_send(request.id(id)) {
            assert_eq!(error.reason, PostReason::Refused(libc::EINVAL));
            self.refuses = true;
        }
    }

    /// Posts receive requests of [`RECEIVE`] bytes.
    pub(crate) fn receive(&mut self, count: u64) {
        for _ in 0..count {
            let slice = self.end.memory.slice(1024 + self.receives_posted * u64::from(RECEIVE), RECEIVE);
            let request = RecvRequest::new([slice.expect("free")]).id(FIRST_RECEIVE + self.receives_posted);
            self.receives_posted += 1;
            self.end.qp().post_recv(request).expect("posted");
        }
    }

    /// Writes `remote`, from bytes that differ from those there.
    pub(crate) fn write(&mut self, remote: RemoteRange) {
        let request = self.writing(remote);
        self.post(request);
    }

    pub(crate) fn writing(&mut self, remote: RemoteRange) -> SendRequest {
        SendRequest::write([self.slice(remote)], remote)
    }

    pub(crate) fn read(&mut self, remote: RemoteRange) {
        let request = SendRequest::read([self.slice(remote)], remote);
        self.post(request);
    }

    pub(crate) fn add(&mut self, remote: RemoteRange) {
        let request = SendRequest::fetch_add(self.slice(remote), remote, 1);
        self.post(request);
    }

    /// A slice for the next request: open bytes, and as many of the closed ones as `remote` needs.
    fn slice(&self, remote: RemoteRange) -> rdma_verbs::Slice {
        let len = u32::try_from(remote.len()).expect("short");
        let place = if remote.len() <= 8 { self.sends_posted * 8 } else { OPEN.into() };
        self.end.memory.slice(place, len).expect("free")
    }

    /// Waits until the queue pair has failed and `receives` receive requests are flushed.
    pub(crate) fn wait_for_failure(&mut self, receives: usize) {
        self.wait(|watched| watched.receives.len() >= receives && watched.end.state() == State::Error);
    }

    /// Waits until this end's device has told `count` times more than before that a receive request was missing.
    pub(crate) fn wait_for_not_ready(&mut self, before: u64, count: u64) {
        self.wait(|watched| watched.not_ready() >= before + count);
    }

    /// How often this end's device told a requester that a receive request was missing.
    pub(crate) fn not_ready(&self) -> u64 {
        let names = ["receiver_not_ready", "send_rnr_err"];
        let counters = self.end.device.counters();
        counters.into_iter().find(|(name, _)| names.contains(&&**name)).expect("it is counted").1
    }

    fn wait(&mut self, mut until: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !until(self) {
            assert!(Instant::now() < deadline, "it doesn't come; seen: {}", self.look());
            self.look();
            sleep(Duration::from_micros(100));
        }
    }

    /// Takes what there is.
    fn look(&mut self) -> Fate {
        let mut out = Vec::new();
        self.end.queue.poll(&mut out, 100).expect("the queue works");
        for completion in out {
            self.note(&completion);
        }
        while let Some(event) = self.end.device.try_event() {
            match event {
                Event::QueuePair(_, event) if self.event.is_none() => self.event = Some(event),
                other => panic!("{other:?} after {:?}", self.event),
            }
        }
        let state = self.end.qp.is_some().then(|| self.end.state());
        Fate {
            refuses: self.refuses,
            sends: self.sends.clone(),
            receives: self.receives.clone(),
            state,
            event: self.event,
        }
    }

    fn note(&mut self, completion: &Completion) {
        let released = completion.released.iter().map(|released| (released.id, Status::Success));
        for (id, status) in released.chain([(completion.id, completion.status)]) {
            let (list, place) = match id.checked_sub(FIRST_RECEIVE) {
                Some(place) => (&mut self.receives, place),
                None => (&mut self.sends, id),
            };
            assert_eq!(place, list.len() as u64, "each once, and in order: {completion:?}");
            list.push(status);
        }
    }
}
