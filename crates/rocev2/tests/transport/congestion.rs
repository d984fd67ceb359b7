//! Goodput through a bottleneck.

use super::memory::{Rights, Slice};
use super::rng::Rng;
use super::world::{Options, Receiving, World};
use netem::{LinkConfig, Loss};
use rocev2::transport::Limits;
use rocev2::wire::{Bth, Headers, Opcode, Packet};
use rocev2::work::{RemoteAddress, SendOperation, SendRequest, Status};
use rocev2::{Mtu, Psn, Time};
use std::time::Duration;

/// Linux's default socket buffer.
const QUEUE: u64 = 212_992;
/// A message.
const LEN: u32 = 64 << 10;

/// There and back.
const ROUND_TRIP: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Path {
    connections: usize,
    window: u64,
    loss: f64,
    read: bool,
    receiving: Receiving,
}

/// What came of a path's bottleneck of 1 Gb/s.
#[derive(Debug)]
struct Outcome {
    /// The share of its time that it carried payload which arrived for the first time.
    goodput: f64,
    /// How many packets it was given for each that the payload takes.
    effort: f64,
    /// The connection that fared worst, as a share of what each would have if all had the same.
    worst: f64,
}

const BITS_PER_S: u64 = 1_000_000_000;

/// Runs `path` for 100 ms, then measures 500 ms.
fn measure(path: Path) -> Outcome {
    let config = LinkConfig {
        latency_ns: u64::try_from(ROUND_TRIP.as_nanos() / 2).expect("short"),
        bandwidth_bits_per_s: Some(BITS_PER_S),
        queue_bytes: Some(QUEUE),
        loss: Loss::Bernoulli(path.loss),
        ..LinkConfig::default()
    };
    let mut world = World::new(config, path.receiving, 1);
    let mut rng = Rng::new(1);
    let own = world.hosts[0].ram.register(&mut rng, 0, vec![0; LEN as usize], Rights::ALL);
    let there = world.hosts[1].ram.register(&mut rng, 0, vec![0; LEN as usize], Rights::ALL);
    let remote = RemoteAddress { va: 0, rkey: world.hosts[1].ram.rkey(there) };
    let operation = if path.read { SendOperation::Read(remote) } else { SendOperation::Write(remote) };
    let post = |world: &mut World, pair: usize| {
        let buffers = vec![Slice { region: own, offset: 0, len: LEN as usize }];
        let request = SendRequest {
            id: 0,
            operation,
            buffers,
            len: LEN,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
        world.pump(0, pair);
    };
    let limits = Limits { window: path.window, ..Options::default().limits };
    for _ in 0..path.connections {
        let pair = world.connect(&Options { mtu: Mtu::B4096, limits, ..Options::default() });
        for _ in 0..8 {
            post(&mut world, pair);
        }
    }
    let mut messages = vec![0_u32; path.connections];
    let run_until = |world: &mut World, messages: &mut Vec<u32>, millis: u64| {
        let end = Time::ZERO + Duration::from_millis(millis);
        while world.next_event().is_some_and(|at| at < end) {
            world.step();
            for (_, pair) in core::mem::take(&mut world.touched) {
                for done in world.take_done(0, pair, |_| true) {
                    assert_eq!(done.status, Status::Success);
                    messages[pair] += 1;
                    post(world, pair);
                }
            }
        }
    };
    let data = usize::from(path.read);
    let arrived = |world: &World| {
        let (own, there) = (world.hosts[0].ram.tally(), world.hosts[1].ram.tally());
        if path.read { own.scattered } else { there.written }
    };
    run_until(&mut world, &mut messages, 100);
    let (bytes, packets) = (arrived(&world), world.links[data].counters().sent);
    messages.fill(0);
    run_until(&mut world, &mut messages, 600);
    let bytes = (arrived(&world) - bytes) as f64;
    let packets = (world.links[data].counters().sent - packets) as f64;
    let fair = messages.iter().sum::<u32>() as f64 / path.connections as f64;
    Outcome {
        goodput: bytes * 8.0 / (BITS_PER_S as f64 * 0.5),
        effort: packets * 4096.0 / bytes,
        worst: messages.iter().min().map_or(0.0, |&least| f64::from(least)) / fair,
    }
}

/// The share of the bottleneck that the connections' windows, payload alone, could fill.
fn possible(path: Path) -> f64 {
    let waits = match path.receiving {
        Receiving::Single => ROUND_TRIP,
        // Half an interval at either end.
        Receiving::Batch(interval) => ROUND_TRIP + interval,
    };
    let packets = path.window / (4096 + 768) * path.connections as u64;
    let transmission = 4096.0 * 8.0 / BITS_PER_S as f64;
    (packets as f64 * transmission / waits.as_secs_f64()).min(1.0)
}

/// One queue of 212,992 bytes, one to 16 connections: they use at least seven tenths of what the path or
/// their windows allow (who reads, six tenths: a piece is asked for when the window has room for all of it),
/// with at most three packets for two, and the worst off has a tenth of its share in half a second. 64 that
/// write can't have two packets each on the path; they still use six tenths of it, and none is given up for
/// dead.
#[test]
fn goodput_through_a_shared_queue_does_not_collapse() {
    for receiving in [Receiving::Single, Receiving::Batch(Duration::from_micros(100))] {
        for read in [false, true] {
            for window in [64 << 10, 160 << 10, 1 << 20] {
                let least = if read { 0.6 } else { 0.7 };
                for (connections, least, most) in
                    [(1, least, 1.5), (4, least, 1.5), (16, least, 1.5), (64, 0.6, 2.5)]
                {
                    if connections > 16 && read {
                        // Who reads brings its own queue; it is writers who crowd before a server's.
                        continue;
                    }
                    let path = Path { connections, window, loss: 0.0, read, receiving };
                    let outcome = measure(path);
                    println!("{path:?}: {outcome:.2?}");
                    assert!(outcome.goodput > least * possible(path), "{path:?}: {outcome:.2?}");
                    assert!(outcome.effort < most, "{path:?}: {outcome:.2?}");
                    assert!(connections > 16 || outcome.worst > 0.1, "{path:?}: {outcome:.2?}");
                }
            }
        }
    }
}

/// Goodput of one connection that writes, in percent of a bottleneck of 1 Gb/s with a round trip of 1 ms: for
/// each loss, with windows of 16 KiB, 64 KiB, 160 KiB and 1 MiB.
///
/// Without loss a window brings what it holds in a round trip (16 KiB 10 %, 64 KiB 43 %, less half a window's
/// wait for its ACK); the largest overruns the queue now and then. From 1 % on loss, and no window, sets the
/// pace, as with TCP.
const GOODPUT: [(f64, [f64; 4]); 6] = [
    (0.0, [9.5, 41.2, 99.6, 92.9]),
    (0.0001, [9.5, 41.2, 96.5, 93.2]),
    (0.001, [9.5, 39.2, 77.0, 80.8]),
    (0.01, [9.0, 27.8, 34.6, 34.5]),
    (0.05, [7.3, 12.4, 12.6, 12.6]),
    (0.2, [2.3, 2.4, 2.4, 2.4]),
];

#[test]
fn goodput_under_loss_is_as_the_table_says() {
    let measured = GOODPUT.map(|(loss, _)| {
        let windows = [16 << 10, 64 << 10, 160 << 10, 1 << 20];
        let paths = windows.map(|window| Path {
            connections: 1,
            window,
            loss,
            read: false,
            receiving: Receiving::Single,
        });
        (loss, paths.map(|path| (measure(path).goodput * 1000.0).round() / 10.0))
    });
    let close = |a: f64, b: f64| (a - b).abs() <= 0.5 + 0.15 * b;
    for ((loss, measured), (_, table)) in measured.iter().zip(&GOODPUT) {
        let fits = measured.iter().zip(table).all(|(&measured, &table)| close(measured, table));
        assert!(fits, "loss {loss}: {measured:?}, but the table has {table:?}");
    }
}

/// What a stream carries in 50 ms, over a link with a round trip of 30 µs, while congestion notifications come at
/// these intervals.
fn carried(interval: Option<Duration>) -> u64 {
    let mut world = World::quiet(Duration::from_micros(15));
    let pair = world.connect(&Options {
        mtu: Mtu::B4096,
        limits: Limits { window: 512 << 10, ..Options::default().limits },
        ..Options::default()
    });
    let mut rng = Rng::new(1);
    let own = world.hosts[0].ram.register(&mut rng, 0, vec![0; LEN as usize], Rights::ALL);
    let there = world.hosts[1].ram.register(&mut rng, 0, vec![0; LEN as usize], Rights::ALL);
    let remote = RemoteAddress { va: 0, rkey: world.hosts[1].ram.rkey(there) };
    let post = |world: &mut World| {
        let request = SendRequest {
            id: 0,
            operation: SendOperation::Write(remote),
            buffers: vec![Slice { region: own, offset: 0, len: LEN as usize }],
            len: LEN,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
        world.pump(0, pair);
    };
    for _ in 0..32 {
        post(&mut world);
    }
    let cnp = Headers::new(Bth::new(Opcode::Cnp, world.hosts[0].ends[pair].qpn, Psn::default()));
    let cnp = Packet { headers: cnp, payload: &[] };
    let mut next = interval.map(|interval| Time::ZERO + interval);
    let end = Time::ZERO + Duration::from_millis(50);
    while world.now < end {
        world.alarm = next;
        world.step();
        if let (Some(at), Some(interval)) = (next, interval)
            && at <= world.now
        {
            next = Some(at + interval);
            let host = &mut world.hosts[0];
            host.ends[pair].qp.handle_packet(world.now, &cnp, &host.ram).expect("it is taken");
        }
        for _ in world.take_done(0, pair, |_| true) {
            post(&mut world);
        }
    }
    world.hosts[1].ram.tally().written
}

#[test]
fn a_few_thousand_forged_congestion_notifications_a_second_leave_a_stream_most_of_its_rate() {
    let alone = carried(None);
    let forged = carried(Some(Duration::from_micros(200)));
    assert!(forged * 10 > alone * 7, "{forged} of {alone} bytes");
    // One that is asked for less all the time does send less.
    let asked = carried(Some(Duration::from_micros(10)));
    assert!(asked * 4 < alone, "{asked} of {alone} bytes");
}
