//! Everything at once, for a while: several connections of different path MTUs, both directions, every
//! operation, random sizes.
//!
//! On a clean link this is quick; `lab/jobs/soak` runs it over one that loses, reorders and duplicates.
//! `SECURE_RDMA_SEED` repeats or varies a run.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;
#[path = "soak/flow.rs"]
mod flow;
#[path = "soak/rng.rs"]
mod rng;

use common::{PATIENCE, Setup, connect_all};
use flow::Flow;
use rdma_verbs::{ConnectOptions, Mtu, State};
use rng::Rng;
use std::thread::yield_now;
use std::time::Instant;

/// Operations of each direction of each connection.
const OPERATIONS: u64 = 150;

const MTUS: [Mtu; 4] = [Mtu::B256, Mtu::B1024, Mtu::B4096, Mtu::B4096];

#[test]
fn everything_at_once_arrives_once_and_whole_over_ipv4() {
    soak(false);
}

#[test]
fn everything_at_once_arrives_once_and_whole_over_ipv6() {
    soak(true);
}

fn soak(v6: bool) {
    let seed = std::env::var("SECURE_RDMA_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    let mut rng = Rng::new(seed + u64::from(v6));
    // Under software emulation everything stands still now and then, for as long as a peer may usually be silent.
    let setups = MTUS.map(|mtu| {
        let connect = ConnectOptions { path_mtu: Some(mtu), timeout: 16, ..Setup::default().connect };
        Setup { v6, connect, memory: flow::MEMORY, ..Setup::default() }
    });
    let mut ends = Vec::new();
    for (a, b) in connect_all(&setups) {
        ends.extend([a, b]);
    }
    // Flow 2n is from an end 2n to its peer 2n + 1, and the next one is the way back.
    let regions: Vec<_> = ends.iter().map(|end| end.memory.remote()).collect();
    let flow = |from: usize| Flow::new(rng.fork(), MTUS[from / 2], OPERATIONS, regions[from ^ 1]);
    let mut flows: Vec<_> = (0..ends.len()).map(flow).collect();
    for (flow, end) in flows.iter_mut().zip(&mut ends) {
        flow.begin(end);
    }

    let mut progress = Instant::now();
    while !flows.iter().all(Flow::is_done) {
        for (at, flow) in flows.iter_mut().enumerate() {
            flow.post(&mut ends[at]);
        }
        let mut out = Vec::new();
        for at in 0..ends.len() {
            ends[at].queue.poll(&mut out, 64).expect("the queue works");
            for completion in out.drain(..) {
                progress = Instant::now();
                if completion.kind.is_recv() {
                    flows[at ^ 1].arrived(&mut ends[at], completion);
                } else {
                    flows[at].completed(&ends[at ^ 1], completion);
                }
            }
        }
        if progress.elapsed() > PATIENCE / 2 {
            let stuck: Vec<_> = flows.iter().zip(&ends).map(|(flow, end)| (flow, end.state())).collect();
            panic!("nothing has completed for {:?}: {stuck:#?}", PATIENCE / 2);
        }
        yield_now();
    }

    for (at, flow) in flows.iter().enumerate() {
        flow.check_memory(&ends[at ^ 1]);
        assert_eq!(ends[at].state(), State::ReadyToSend);
        let mut out = Vec::new();
        assert_eq!(ends[at].queue.poll(&mut out, 10).expect("the queue works"), 0, "{out:?}");
    }
}
