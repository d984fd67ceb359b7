//! What a seed decides before anything happens: machines, links, connections, faults.

use crate::rng::Rng;
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use rocev2::wire::Transport;
use rocev2::{Mtu, Psn};

/// Nanoseconds.
pub(crate) const US: u64 = 1_000;
/// Nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// The longest message that a shared receive queue's requests have room for.
pub(crate) const SHARED_MESSAGE: usize = 3_000;

/// A whole run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Connections may fail: queue pairs are destroyed, regions deregistered, links cut for too long.
    pub(crate) harsh: bool,
    pub(crate) machines: Vec<MachinePlan>,
    /// By sender and receiver.
    pub(crate) links: Vec<Vec<LinkConfig>>,
    pub(crate) connections: Vec<ConnectionPlan>,
    /// By time.
    pub(crate) disturbances: Vec<(u64, Disturbance)>,
    /// Connections that may take the place of such that have ended.
    pub(crate) replacements: usize,
}

/// How fast an engine's thread is.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a step takes.
    pub step_ns: u64,
    /// How long other threads go first where it lets them.
    pub yield_ns: u64,
    /// How long it takes to wake up. Programs that poll may take meanwhile what it is woken for.
    pub wake_ns: u64,
}

/// A machine and its program.
#[derive(Debug)]
pub(crate) struct MachinePlan {
    pub(crate) clock_offset: u64,
    pub(crate) receive_buffer: usize,
    pub(crate) send_buffer: Option<u64>,
    pub(crate) ns_per_byte: u64,
    pub(crate) engine: Timing,
    /// How long the program takes from one look to the next.
    pub(crate) pace_ns: u64,
    /// It waits for a completion channel where nothing happens.
    pub(crate) waits: bool,
    /// Completions that it takes at a time.
    pub(crate) batch: usize,
    pub(crate) domains: usize,
    pub(crate) queues: usize,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionPlan {
    pub(crate) transport: Transport,
    pub(crate) machines: [usize; 2],
    pub(crate) mtu: Mtu,
    pub(crate) psn: [Psn; 2],
    pub(crate) timeout: u8,
    pub(crate) retry_count: u8,
    pub(crate) rnr_retry: u8,
    pub(crate) min_rnr_timer: u8,
    pub(crate) rd_atomic: u8,
    pub(crate) ends: [EndPlan; 2],
    pub(crate) max_message: usize,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndPlan {
    pub(crate) send_depth: usize,
    pub(crate) recv_depth: usize,
    /// It takes receive requests from its domain's shared receive queue.
    pub(crate) shares: bool,
    /// Send requests that the program posts.
    pub(crate) quota: u64,
    /// How often it forgets to post a receive request at its turn, in percent.
    pub(crate) late_receives: u64,
}

/// Something that happens to machines or objects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disturbance {
    Cut { from: usize, to: usize },
    Heal { from: usize, to: usize },
    Stall { machine: usize, ns: u64 },
    ShutEgress { machine: usize, ns: u64 },
    RefuseWatches { machine: usize, count: u32 },
    Drain { end: usize },
    Destroy { end: usize },
    SetToError { end: usize },
    Deregister { end: usize, inbox: bool },
    Deallocate { end: usize },
    Rekey { end: usize },
    Replay { count: usize },
    Overflow { machine: usize, queue: usize },
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let harsh = rng.percent(45);
        let count = rng.pick(&[2, 2, 2, 3, 3, 4]);
        let machines: Vec<_> = (0..count).map(|_| MachinePlan::draw(rng)).collect();
        let bad = rng.percent(75);
        let links = (0..count).map(|_| (0..count).map(|_| draw_link(rng, bad, harsh)).collect()).collect();
        let connections: Vec<_> =
            (0..rng.between(1, 3)).map(|_| ConnectionPlan::draw(rng, count, harsh)).collect();
        let mut plan = Self {
            harsh,
            machines,
            links,
            connections,
            disturbances: Vec::new(),
            replacements: rng.index(3),
        };
        for _ in 0..rng.below(5) {
            plan.disturb(rng, count);
        }
        plan.disturbances.sort_by_key(|(at, _)| *at);
        plan
    }

    fn disturb(&mut self, rng: &mut Rng, machines: usize) {
        // Most of the work is done in the first milliseconds.
        let at = rng.below(rng.clone().pick(&[200 * US, 2 * MS, 20 * MS]));
        // What a connection has to survive, and what it needn't.
        let short = rng.between(10 * US, 60 * MS);
        let ns = if self.harsh && rng.percent(50) { rng.between(MS, 1500 * MS) } else { short };
        let machine = rng.index(machines);
        let end = rng.index(self.connections.len() * 2);
        let gentle = 5;
        match rng.below(if self.harsh { 12 } else { gentle }) {
            0 => {
                let (from, to) = (machine, rng.index(machines));
                let both = rng.percent(50);
                for (from, to) in [(from, to), (to, from)].into_iter().take(1 + usize::from(both)) {
                    self.disturbances.push((at, Disturbance::Cut { from, to }));
                    self.disturbances.push((at + ns, Disturbance::Heal { from, to }));
                }
            }
            1 => self.disturbances.push((at, Disturbance::Stall { machine, ns })),
            2 => self.disturbances.push((at, Disturbance::ShutEgress { machine, ns })),
            3 => {
                let count = rng.pick(&[1, 2, 5]);
                self.disturbances.push((at, Disturbance::RefuseWatches { machine, count }));
            }
            4 => self.disturbances.push((at, Disturbance::Drain { end })),
            5 | 6 => self.disturbances.push((at, Disturbance::Destroy { end })),
            7 => self.disturbances.push((at, Disturbance::SetToError { end })),
            8 | 9 => {
                let inbox = rng.percent(30);
                self.disturbances.push((at, Disturbance::Deregister { end, inbox }));
            }
            _ => self.disturbances.push((at, Disturbance::Deallocate { end })),
        }
    }
}

impl MachinePlan {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            clock_offset: rng.pick(&[0, 1, 1 << 40]),
            receive_buffer: rng.pick(&[8_000, 60_000, 400_000]),
            send_buffer: rng.pick(&[None, None, Some(6_000), Some(40_000)]),
            ns_per_byte: rng.pick(&[1, 4, 40]),
            engine: Timing {
                step_ns: rng.pick(&[300, 1_000, 20_000]),
                yield_ns: rng.pick(&[3_000, 20_000, 60_000, 500_000]),
                wake_ns: rng.pick(&[0, 0, 2_000, 50_000]),
            },
            pace_ns: rng.pick(&[500, 3_000, 50_000, 700_000]),
            waits: rng.percent(50),
            batch: rng.pick(&[1, 4, 64]),
            domains: 1 + rng.index(2),
            queues: 1 + rng.index(2),
        }
    }
}

impl ConnectionPlan {
    pub(crate) fn draw(rng: &mut Rng, machines: usize, harsh: bool) -> Self {
        let first = rng.index(machines);
        // Now and then both ends are on one machine.
        let step = if rng.percent(10) { 0 } else { 1 + rng.index(machines - 1) };
        let near_the_wrap = |rng: &mut Rng| 0xff_ffff - u32::try_from(rng.below(40)).unwrap_or(0);
        let psn =
            |rng: &mut Rng| Psn::truncate(if rng.percent(40) { near_the_wrap(rng) } else { rng.word() });
        let max_message = rng.pick(&[60, 600, 600, 3_000, 3_000, 12_000]);
        let transport =
            rng.pick(&[Transport::Rc, Transport::Rc, Transport::Rc, Transport::Uc, Transport::Ud]);
        // A datagram is one packet.
        let max_message = if transport == Transport::Ud { max_message.min(3_000) } else { max_message };
        Self {
            transport,
            machines: [first, (first + step) % machines],
            mtu: rng.pick(&Mtu::ALL),
            psn: [psn(rng), psn(rng)],
            timeout: if harsh { rng.pick(&[8, 12, 14]) } else { 14 },
            retry_count: if harsh { rng.pick(&[1, 3, 7]) } else { 7 },
            rnr_retry: if harsh { rng.pick(&[3, 7, 7]) } else { 7 },
            min_rnr_timer: rng.pick(&[1, 5, 12]),
            rd_atomic: rng.pick(&[1, 2, 4, 16]),
            ends: [EndPlan::draw(rng, max_message), EndPlan::draw(rng, max_message)],
            max_message,
        }
    }
}

impl EndPlan {
    fn draw(rng: &mut Rng, max_message: usize) -> Self {
        Self {
            shares: max_message <= SHARED_MESSAGE && rng.percent(30),
            send_depth: rng.pick(&[1, 2, 4, 16]),
            recv_depth: rng.pick(&[1, 2, 4, 8]),
            quota: rng.between(0, 40),
            late_receives: rng.pick(&[0, 0, 30, 90]),
        }
    }
}

/// A link with a little of everything, more or less of it.
fn draw_link(rng: &mut Rng, bad: bool, harsh: bool) -> LinkConfig {
    let latency_ns = rng.pick(&[0, 1_000, 20_000, 200_000, 3_000_000]);
    let bandwidth = rng.pick(&[None, None, Some(100_000_000), Some(10_000_000_000)]);
    let queue_bytes = rng.pick(&[None, Some(15_000), Some(200_000)]);
    if !bad {
        return LinkConfig {
            latency_ns,
            bandwidth_bits_per_s: bandwidth,
            queue_bytes,
            ..LinkConfig::default()
        };
    }
    let mut share = |most: &[u64]| {
        let most = rng.pick(most);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let share = rng.below(most + 1) as f64 / 1000.0;
        share
    };
    // Where nothing may fail, so much gets through that all attempts together don't fail by chance.
    let (most, loss_bad, bad_to_good) = if harsh { (200, 0.9, 0.2) } else { (80, 0.5, 0.4) };
    let (loss, burst) = (share(&[0, 10, 50, most]), share(&[0, 0, 30]));
    let (reorder, duplicate, corrupt) = (share(&[0, 20, 200]), share(&[0, 20, 200]), share(&[0, 0, 20, 100]));
    let loss = if burst > 0.0 {
        Loss::GilbertElliott { good_to_bad: burst, bad_to_good, loss_good: loss / 10.0, loss_bad }
    } else {
        Loss::Bernoulli(loss)
    };
    LinkConfig {
        latency_ns,
        jitter_ns: rng.pick(&[0, 500, 100_000]),
        bandwidth_bits_per_s: bandwidth,
        queue_bytes,
        loss,
        reorder: Reorder { probability: reorder, extra_delay_ns: rng.pick(&[1_000, 100_000, 4_000_000]) },
        duplicate,
        corrupt: Corrupt { probability: corrupt, max_bits: 3 },
    }
}
