//! Mixed work on many connections at once, over links that a seed chose.

use super::memory::{Rights, Slice};
use super::operations::LINKS;
use super::rng::{Rng, seeds};
use super::workload::{Flow, Kind, Op, Receives, run};
use super::world::{Options, Receiving, World};
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use rocev2::transport::Limits;
use rocev2::work::{AtomicOperation, RemoteAddress, SendOperation, SendRequest};
use rocev2::{Mtu, Psn};
use std::time::Duration;

/// A link with a little of everything, more or less of it.
pub(crate) fn random_link(rng: &mut Rng) -> LinkConfig {
    let mut share = |most: u32| f64::from(rng.below(most * 10)) / 1000.0;
    let (loss, reorder, duplicate, corrupt) = (share(20), share(10), share(10), share(10));
    LinkConfig {
        latency_ns: rng.pick(&[0, 1_000, 20_000, 1_000_000, 40_000_000]),
        jitter_ns: rng.pick(&[0, 500, 100_000]),
        bandwidth_bits_per_s: rng.pick(&[None, Some(100_000_000), Some(10_000_000_000)]),
        queue_bytes: rng.pick(&[None, Some(30_000), Some(212_992)]),
        loss: Loss::Bernoulli(rng.pick(&[0.0, loss])),
        reorder: Reorder {
            probability: rng.pick(&[0.0, reorder]),
            extra_delay_ns: rng.pick(&[1_000, 100_000, 30_000_000]),
        },
        duplicate: rng.pick(&[0.0, duplicate]),
        corrupt: Corrupt { probability: rng.pick(&[0.0, corrupt]), max_bits: 3 },
    }
}

pub(crate) fn random_options(rng: &mut Rng) -> Options {
    let near_the_end = [0, 1].map(|_| Psn::truncate(0xff_ffff - rng.below(64)));
    Options {
        mtu: rng.pick(&Mtu::ALL),
        limits: Limits {
            max_send_requests: rng.pick(&[1, 2, 7, 64]),
            window: rng.pick(&[0, 10_000, 72 << 10, 160 << 10, 4 << 20]),
        },
        max_recv_requests: rng.pick(&[1, 2, 7, 64]),
        rd_atomic: rng.pick(&[1, 2, 4, 16, 128]),
        // Half a second: round trips of the slowest link, and some bad luck, must not end a connection.
        timeout: 17,
        min_rnr_timer: rng.pick(&[1, 5, 12]),
        psn: rng.pick(&[None, Some(near_the_end)]),
        ..Options::default()
    }
}

pub(crate) fn random_ops(rng: &mut Rng, mtu: Mtu, count: usize) -> Vec<Op> {
    let full = mtu.bytes();
    (0..count)
        .map(|_| {
            let around = full * rng.below(4) + rng.below(3);
            let anything = rng.below(16 * full);
            Op {
                kind: rng.pick(&Kind::ALL),
                len: rng.pick(&[0, 1, full, around.saturating_sub(1), anything]),
                signaled: rng.percent(60),
            }
        })
        .collect()
}

#[test]
fn random_work_over_random_links_is_done_once_in_order_and_whole() {
    for seed in seeds(300) {
        let outcome = std::panic::catch_unwind(|| {
            let mut rng = Rng::new(seed);
            let receiving = rng.pick(&[Receiving::Single, Receiving::Batch(Duration::from_micros(30))]);
            let mut world = World::new(random_link(&mut rng), receiving, seed);
            let mut flows = Vec::new();
            for _ in 0..1 + rng.below(4) {
                let options = random_options(&mut rng);
                let pair = world.connect(&options);
                for from in 0..2 {
                    let count = 1 + rng.index(40);
                    let ops = random_ops(&mut rng, options.mtu, count);
                    flows.push(Flow::new(&mut world, from, pair, &ops));
                }
            }
            let late = Receives::Late(Duration::from_micros(rng.pick(&[20, 1_000, 50_000])));
            run(&mut world, flows, rng.pick(&[Receives::Early, late]));
        });
        if let Err(panic) = outcome {
            eprintln!("failed: RC_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn fifty_connections_share_a_bad_link_in_both_directions() {
    for (seed, (name, link)) in (0..).zip(LINKS) {
        eprintln!("{name}, seed {seed}");
        let mut world = World::new(link, Receiving::Batch(Duration::from_micros(20)), seed);
        let mut rng = Rng::new(seed);
        let mut flows = Vec::new();
        for _ in 0..50 {
            let options = Options { psn: None, ..random_options(&mut rng) };
            let pair = world.connect(&options);
            for from in 0..2 {
                let ops = random_ops(&mut rng, options.mtu, 6);
                flows.push(Flow::new(&mut world, from, pair, &ops));
            }
        }
        run(&mut world, flows, Receives::Early);
    }
}

#[test]
fn a_counter_that_many_connections_add_to_counts_each_addition_once() {
    const PAIRS: usize = 20;
    const ADDITIONS: usize = 30;
    for (seed, (name, link)) in (0..).zip(LINKS) {
        eprintln!("{name}, seed {seed}");
        let mut world = World::new(link, Receiving::Batch(Duration::from_micros(20)), seed);
        let mut rng = Rng::new(seed);
        let counter = world.hosts[1].ram.register(&mut rng, 0x1000, vec![0; 8], Rights::ALL);
        let address = RemoteAddress { va: 0x1000, rkey: world.hosts[1].ram.rkey(counter) };
        let results = world.hosts[0].ram.register(&mut rng, 0, vec![0; 8 * PAIRS * ADDITIONS], Rights::LOCAL);
        for pair in 0..PAIRS {
            world.connect(&Options { mtu: Mtu::B256, ..Options::default() });
            for index in 0..ADDITIONS {
                let place = Slice { region: results, offset: 8 * (pair * ADDITIONS + index), len: 8 };
                let request = SendRequest {
                    id: index as u64,
                    operation: SendOperation::Atomic(address, AtomicOperation::FetchAdd { add: 1 }),
                    buffers: vec![place],
                    len: 8,
                    signaled: true,
                    solicited: false,
                    fence: false,
                    destination: None,
                };
                world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
            }
            world.pump(0, pair);
        }
        world.run(Duration::from_secs(60));
        let read = |host: usize, region, words: usize| {
            let bytes = world.hosts[host].ram.bytes(Slice { region, offset: 0, len: 8 * words });
            let words = bytes.chunks_exact(8).map(|word| word.first_chunk().expect("8 bytes"));
            words.map(|word| u64::from_ne_bytes(*word)).collect::<Vec<_>>()
        };
        assert_eq!(read(1, counter, 1), [(PAIRS * ADDITIONS) as u64]);
        let mut originals = read(0, results, PAIRS * ADDITIONS);
        assert!(
            originals.chunks(ADDITIONS).all(<[u64]>::is_sorted),
            "each connection's additions happen in its order"
        );
        originals.sort_unstable();
        assert!(originals.into_iter().eq(0..(PAIRS * ADDITIONS) as u64), "no addition was counted twice");
        for end in &world.hosts[0].ends {
            assert!(end.done.iter().map(|done| done.id).eq(0..ADDITIONS as u64));
        }
    }
}
