//! How long a round trip takes over loopback, and how steadily: two devices in this process, each with its
//! threads tied to one core.
//!
//! `poll`: SENDs there and back, by programs that poll their completion queues. `memory`: WRITEs there and back, by
//! programs that look at their memory until the peer's write is there and poll nothing. `write-lat`: the same, but
//! each polls until its own write has completed before it looks at its memory, as perftest's `ib_write_lat` does.
//!
//! `cargo run --release -p rocev2-device --example round_trip -- [SECONDS]`
#![allow(clippy::unwrap_used, reason = "whoever measures sees the panic")]

use rocev2::wire::Transport;
use rocev2::work::{
    InitAttributes, PeerRights, ReceiveAttributes, RecvRequest, RemoteAddress, SendAttributes, SendOperation,
    SendRequest, Status, Transition,
};
use rocev2::{Mtu, Psn, Qpn};
use rocev2_device::memory::Access;
use rocev2_device::{
    Buffers, CompletionQueue, Config, Device, Element, Gid, MemoryRegion, PathAttributes, QueuePair,
    QueuePairOptions, WorkCompletion,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Poll,
    Memory,
    WriteLat,
}

/// Bytes of a message.
const LEN: u32 = 64;

/// Receive requests that are kept posted.
const POSTED: u64 = 4;

type Told = (Qpn, Gid, u16, RemoteAddress);

struct End {
    device: Device,
    queue: CompletionQueue,
    queue_pair: QueuePair,
    memory: MemoryRegion,
    peer: RemoteAddress,
    done: Vec<WorkCompletion>,
}

impl End {
    fn meet(core: usize, address: &str, to: &Sender<Told>, from: &Receiver<Told>) -> Self {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).unwrap();
        let device =
            Device::open(Config { address: Some(address.parse().unwrap()), ..Config::default() }).unwrap();
        let queue = device.completion_queue(1 << 16, None).unwrap();
        let domain = device.protection_domain();
        let memory = domain.register(4096, Access::LOCAL_WRITE | Access::REMOTE_WRITE).unwrap();
        let queue_pair = domain
            .queue_pair(QueuePairOptions {
                max_recv_requests: 64,
                ..QueuePairOptions::new(Transport::Rc, &queue, 1024)
            })
            .unwrap();
        let (gid, port) = device.bind_gid(0).unwrap();
        let region = memory.region();
        to.send((queue_pair.qpn(), gid, port, RemoteAddress { va: region.addr(), rkey: region.rkey() }))
            .unwrap();
        let (peer_qpn, peer_gid, peer_port, peer) = from.recv().unwrap();
        let rights = PeerRights { write: true, ..PeerRights::default() };
        queue_pair.modify(Transition::Init(InitAttributes { rights })).unwrap();
        let receive = ReceiveAttributes {
            path_mtu: Mtu::B1024,
            peer_qpn,
            rq_psn: Psn::default(),
            max_dest_rd_atomic: 1,
            min_rnr_timer: 1,
        };
        let path = PathAttributes { peer_port: Some(peer_port), ..PathAttributes::new(0, peer_gid) };
        queue_pair.ready_to_receive(receive, path).unwrap();
        let send = SendAttributes {
            sq_psn: Psn::default(),
            timeout: 14,
            retry_count: 7,
            rnr_retry: 7,
            max_rd_atomic: 1,
        };
        queue_pair.modify(Transition::ReadyToSend(send)).unwrap();
        let end = Self { device, queue, queue_pair, memory, peer, done: Vec::new() };
        (0..POSTED).for_each(|_| end.post_recv());
        to.send((peer_qpn, gid, port, peer)).unwrap();
        from.recv().unwrap();
        end
    }

    fn buffers(&self) -> Buffers {
        let region = Arc::clone(self.memory.region());
        let va = region.addr() + 2048;
        Buffers::List([Element::new(region, va, LEN)].into_iter().collect())
    }

    fn post_recv(&self) {
        let request = RecvRequest { id: 0, buffers: self.buffers(), len: LEN.into() };
        self.queue_pair.post_recv(request).unwrap();
    }

    fn post(&self, operation: SendOperation, bytes: &[u8; LEN as usize], signaled: bool) {
        let buffers = Buffers::Inline(bytes.iter().copied().collect());
        let request = SendRequest {
            id: 0,
            operation,
            destination: None,
            buffers,
            len: LEN,
            signaled,
            solicited: false,
            fence: false,
        };
        self.queue_pair.post_send(request).unwrap();
    }

    /// Polls until a completion of the wanted kind is there; false when time is up.
    fn poll(&mut self, recv: bool, over: &impl Fn() -> bool) -> bool {
        for poll in 1u32.. {
            self.done.clear();
            self.queue.poll(&mut self.done, 64).unwrap();
            assert!(self.done.iter().all(|it| it.completion.status == Status::Success), "{:?}", self.done);
            if self.done.iter().any(|it| it.completion.kind.is_recv() == recv) {
                return true;
            }
            if poll & 1023 == 0 && over() {
                break;
            }
        }
        false
    }

    /// One message there, number `count`.
    fn send(&mut self, pattern: Pattern, count: u64, over: &impl Fn() -> bool) {
        let mut bytes = [0; LEN as usize];
        bytes[LEN as usize - 8..].copy_from_slice(&count.to_ne_bytes());
        // Now and then one is signaled, so that the queue never fills.
        match pattern {
            Pattern::Poll => self.post(SendOperation::Send, &bytes, count.is_multiple_of(16)),
            Pattern::Memory => self.post(SendOperation::Write(self.peer), &bytes, count.is_multiple_of(512)),
            Pattern::WriteLat => {
                self.post(SendOperation::Write(self.peer), &bytes, true);
                self.poll(false, over);
            }
        }
    }

    /// Waits for message `count`; false when time is up.
    fn receive(&mut self, pattern: Pattern, count: u64, over: &impl Fn() -> bool) -> bool {
        if pattern == Pattern::Poll {
            let there = self.poll(true, over);
            if there {
                self.post_recv();
            }
            return there;
        }
        let region = self.memory.region();
        for look in 1u32.. {
            let mut bytes = [0; 8];
            region.read(region.addr() + u64::from(LEN) - 8, &mut bytes).unwrap();
            if u64::from_ne_bytes(bytes) == count {
                return true;
            }
            if look & 1023 == 0 && over() {
                break;
            }
            core::hint::spin_loop();
        }
        false
    }
}

fn run(pattern: Pattern, span: Duration) -> Vec<Duration> {
    let (to_server, from_client) = channel();
    let (to_client, from_server) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let server = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut end = End::meet(0, "127.91.0.1", &to_client, &from_client);
            let over = || stop.load(Ordering::Relaxed);
            for count in 1.. {
                if !end.receive(pattern, count, &over) {
                    return;
                }
                end.send(pattern, count, &over);
            }
        }
    });
    let client = thread::spawn(move || {
        let mut end = End::meet(1, "127.91.0.2", &to_server, &from_server);
        let mut times = Vec::with_capacity(1 << 20);
        let begun = Instant::now();
        let over = || begun.elapsed() > span + Duration::from_secs(1);
        for count in 1.. {
            let start = Instant::now();
            end.send(pattern, count, &over);
            assert!(end.receive(pattern, count, &over), "nothing comes back: {:?}", end.device.counters());
            if begun.elapsed() > span / 5 {
                times.push(start.elapsed());
            }
            if begun.elapsed() > span {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        times
    });
    let times = client.join().unwrap();
    server.join().unwrap();
    times
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(2.0, |seconds| seconds.parse().unwrap());
    println!("pattern    round trips  least µs  median µs  99 % µs  99.9 % µs");
    for pattern in [Pattern::Poll, Pattern::Memory, Pattern::WriteLat] {
        let mut times = run(pattern, Duration::from_secs_f64(seconds));
        times.sort_unstable();
        let at = |part: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = ((times.len() - 1) as f64 * part) as usize;
            times[index].as_secs_f64() * 1e6
        };
        println!(
            "{:<10} {:>11}  {:>8.1}  {:>9.1}  {:>7.1}  {:>9.1}",
            format!("{pattern:?}"),
            times.len(),
            at(0.0),
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
}
