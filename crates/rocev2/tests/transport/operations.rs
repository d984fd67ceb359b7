//! Every operation, at every size and path MTU, over every kind of bad link: once, in order, bytes equal.

use super::workload::{Flow, Kind, Op, Receives, run};
use super::world::{Options, Receiving, World};
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use rocev2::{Mtu, Psn};
use std::time::Duration;

const QUIET: LinkConfig = LinkConfig {
    latency_ns: 10_000,
    jitter_ns: 0,
    bandwidth_bits_per_s: Some(10_000_000_000),
    queue_bytes: None,
    loss: Loss::None,
    reorder: Reorder { probability: 0.0, extra_delay_ns: 0 },
    duplicate: 0.0,
    corrupt: Corrupt { probability: 0.0, max_bits: 1 },
};

pub(crate) const LINKS: [(&str, LinkConfig); 8] = [
    ("a perfect link", QUIET),
    ("1 % loss", LinkConfig { loss: Loss::Bernoulli(0.01), ..QUIET }),
    ("5 % loss", LinkConfig { loss: Loss::Bernoulli(0.05), ..QUIET }),
    ("20 % loss", LinkConfig { loss: Loss::Bernoulli(0.2), ..QUIET }),
    (
        "reordering",
        LinkConfig {
            jitter_ns: 3_000,
            reorder: Reorder { probability: 0.05, extra_delay_ns: 30_000 },
            ..QUIET
        },
    ),
    ("duplication", LinkConfig { duplicate: 0.1, ..QUIET }),
    // Up to three bits: what a CRC-32 finds for certain in packets of this length.
    ("corruption", LinkConfig { corrupt: Corrupt { probability: 0.05, max_bits: 3 }, ..QUIET }),
    (
        "everything at once",
        LinkConfig {
            jitter_ns: 20_000,
            queue_bytes: Some(212_992),
            loss: Loss::GilbertElliott {
                good_to_bad: 0.01,
                bad_to_good: 0.3,
                loss_good: 0.005,
                loss_bad: 0.5,
            },
            reorder: Reorder { probability: 0.03, extra_delay_ns: 2_000_000 },
            duplicate: 0.03,
            corrupt: Corrupt { probability: 0.02, max_bits: 3 },
            ..QUIET
        },
    ),
];

/// Three messages in each direction at once, over two connections, one of which meets the end of the PSNs in
/// the middle of them.
fn prove(kind: Kind, len: u32, mtu: Mtu, link: (&str, LinkConfig), receiving: Receiving, seed: u64) {
    let label = format!("{kind:?} of {len} bytes, MTU {mtu}, {}, {receiving:?}, seed {seed}", link.0);
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(link.1, receiving, seed);
        let near_the_end = Some([0xff_fff0, 0xff_fffe].map(Psn::truncate));
        let pairs =
            [Options { mtu, ..Options::default() }, Options { mtu, psn: near_the_end, ..Options::default() }]
                .map(|options| world.connect(&options));
        let ops: Vec<Op> = (0..3).map(|index| Op { kind, len, signaled: index != 1 }).collect();
        let flows = pairs
            .into_iter()
            .flat_map(|pair| [(0, pair), (1, pair)])
            .map(|(from, pair)| Flow::new(&mut world, from, pair, &ops))
            .collect();
        run(&mut world, flows, Receives::Early);
    });
    if let Err(panic) = outcome {
        eprintln!("failed: {label}");
        std::panic::resume_unwind(panic);
    }
}

fn prove_all(kind: Kind) {
    let mut seed = 0;
    for mtu in Mtu::ALL {
        let full = mtu.bytes();
        let sizes: &[u32] = if kind.is_atomic() { &[8] } else { &[0, 1, full - 1, full, full + 1] };
        for link in LINKS {
            for &len in sizes {
                for receiving in [Receiving::Single, Receiving::Batch(Duration::from_micros(50))] {
                    prove(kind, len, mtu, link, receiving, seed);
                    seed += 1;
                }
            }
        }
    }
}

#[test]
fn sends_arrive_once_in_order_and_whole() {
    prove_all(Kind::Send);
}

#[test]
fn sends_with_immediate_arrive_once_in_order_and_whole() {
    prove_all(Kind::SendImmediate);
}

#[test]
fn sends_with_invalidate_arrive_once_in_order_and_whole_and_withdraw_the_key() {
    prove_all(Kind::SendInvalidate);
}

#[test]
fn writes_are_executed_once_in_order_and_whole() {
    prove_all(Kind::Write);
}

#[test]
fn writes_with_immediate_are_executed_once_in_order_and_whole() {
    prove_all(Kind::WriteImmediate);
}

#[test]
fn reads_bring_the_bytes_once_in_order_and_whole() {
    prove_all(Kind::Read);
}

#[test]
fn compare_swaps_are_executed_once_and_bring_the_original() {
    prove_all(Kind::CompareSwap);
}

#[test]
fn fetch_adds_are_executed_once_and_bring_the_original() {
    prove_all(Kind::FetchAdd);
}

#[test]
fn a_mebibyte_goes_through_every_kind_of_link() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_atomic()) {
        for (seed, link) in (0..).zip(LINKS) {
            for mtu in [Mtu::B256, Mtu::B4096] {
                prove(kind, 1 << 20, mtu, link, Receiving::Batch(Duration::from_micros(20)), seed);
            }
        }
    }
}
