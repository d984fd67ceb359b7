//! What a seed decides before anything happens.

mod trust;

pub(crate) use trust::{EDITIONS, Room, Rules, Window, Windows};

use crate::liar::Lie;
use crate::pki::SERVERS;
use crate::wire::Death;
use netem::{Corrupt, LinkConfig, Loss, Reorder};
use secure_rdma::control::SealPolicy;
use simulator::{Rng, Timing};
use trust::IDENTITIES;

/// Nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// A whole run. Machines are numbered: servers first, then clients.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: Vec<ServerPlan>,
    pub(crate) clients: Vec<ClientPlan>,
    /// Between machines, both ways.
    pub(crate) link: LinkConfig,
    /// When certificates are valid.
    pub(crate) windows: Windows,
    /// By machine: how many milliseconds its clock is ahead.
    pub(crate) clocks: Vec<i64>,
    /// By time.
    pub(crate) disturbances: Vec<(u64, Disturbance)>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) timing: Timing,
    pub(crate) seal: SealPolicy,
    /// It lies to whoever comes.
    pub(crate) lies: Option<Lie>,
    /// Milliseconds that it takes for a message.
    pub(crate) pace_ms: u64,
    /// And beside that, for the first one.
    pub(crate) nap_ms: u64,
    /// How much it has for its clients.
    pub(crate) room: Room,
    /// It lets anybody in, without a certificate.
    pub(crate) open: bool,
    /// For how many seconds its revocation list is good, if it has one.
    pub(crate) list_lasts: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) timing: Timing,
    /// Whose certificate it shows.
    pub(crate) identity: usize,
    pub(crate) sessions: Vec<SessionPlan>,
}

/// One session.
#[derive(Clone, Debug)]
pub(crate) struct SessionPlan {
    pub(crate) server: usize,
    /// When it begins, in milliseconds.
    pub(crate) begins_ms: u64,
    pub(crate) seal: SealPolicy,
    /// Whether packets may be sealed.
    pub(crate) packets: bool,
    pub(crate) heartbeat_ms: u64,
    /// Packets after which there is a new key.
    pub(crate) key_records: u64,
    pub(crate) operations: Vec<Operation>,
    pub(crate) end: Ending,
    /// The server says goodbye when it has taken so many messages.
    pub(crate) server_leaves: Option<usize>,
    pub(crate) lies: Option<Lie>,
    /// How often it is tried to open it.
    pub(crate) tries: usize,
    /// Where an operation has failed, the client says goodbye all the same.
    pub(crate) insists: bool,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// Sends so many messages of so many bytes at a time.
    Send {
        count: usize,
        len: usize,
    },
    /// Sends them, and goes on before they have arrived.
    Post {
        count: usize,
        len: usize,
    },
    /// Sends one that the server sends back.
    Echo {
        len: usize,
    },
    Write {
        at: usize,
        len: usize,
    },
    /// Writes, and goes on before it is done.
    PostWrite {
        at: usize,
        len: usize,
    },
    Read {
        at: usize,
        len: usize,
    },
    Add {
        counter: usize,
        add: u64,
    },
    /// With the value that is there, or with another.
    Swap {
        counter: usize,
        fits: bool,
        swap: u64,
    },
    Pause {
        ms: u64,
    },
}

/// How a client ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    /// Without a goodbye.
    Drop,
}

/// What happens to machines and links.
#[derive(Clone, Debug)]
pub(crate) enum Disturbance {
    /// Its process is gone.
    Crash {
        machine: usize,
        death: Death,
    },
    Start {
        machine: usize,
    },
    /// It does nothing for so long.
    Stall {
        machine: usize,
        ns: u64,
    },
    /// Packets, control connections or both don't get through.
    Part {
        from: usize,
        to: usize,
        packets: bool,
        streams: bool,
        cut: bool,
    },
    /// A server lets a client in no more, or again.
    Rules {
        server: usize,
        absent: Vec<usize>,
    },
    /// A server shows another certificate.
    Renew {
        server: usize,
    },
    /// A server has a revocation list that has a client's certificate, and that is good for so many seconds.
    Revoke {
        server: usize,
        certificate: (usize, usize),
        lasts: i64,
    },
    /// A server has a list that is good for so many seconds from now on, or fewer than none: it has ended.
    List {
        server: usize,
        lasts: i64,
    },
    /// A client has a new certificate, and the key of that.
    Reissue {
        identity: usize,
    },
    /// A machine's system refuses memory for regions: the lowest bit is the next allocation's.
    Memory {
        machine: usize,
        refused: u64,
    },
    /// A machine's clock is set: to so many milliseconds before or after what it should show.
    Clock {
        machine: usize,
        ahead_ms: i64,
    },
}

/// Bytes of a region's data.
pub(crate) const REGION: usize = 24 << 10;

/// Counters that are used.
pub(crate) const COUNTERS: usize = 4;

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        // In some seeds nothing happens but what a session survives.
        let calm = rng.percent(30);
        let servers = rng.between(1, SERVERS as u64);
        let clients = rng.between(1, 5);
        let servers: Vec<_> = (0..servers).map(|_| ServerPlan::draw(rng, calm)).collect();
        let clients: Vec<_> = (0..clients).map(|_| ClientPlan::draw(rng, servers.len(), calm)).collect();
        let windows = Windows::draw(rng, calm);
        let clocks = (0..servers.len() + clients.len()).map(|_| trust::skew(rng)).collect();
        let mut plan = Self { link: link(rng), windows, clocks, servers, clients, disturbances: Vec::new() };
        if !calm {
            for _ in 0..rng.between(1, 8) {
                plan.disturb(rng);
            }
            plan.disturbances.sort_by_key(|(at, _)| *at);
        }
        plan
    }

    pub(crate) fn machines(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    fn disturb(&mut self, rng: &mut Rng) {
        // At any time, or while a session is being opened.
        let at = match rng.percent(50) {
            true => rng.between(1, 3_000) * MS,
            false => {
                let sessions: Vec<_> = self.clients.iter().flat_map(|client| &client.sessions).collect();
                sessions[rng.index(sessions.len())].begins_ms * MS + rng.below(30 * MS)
            }
        };
        let machine = rng.index(self.machines());
        let server = rng.index(self.servers.len());
        let client = self.servers.len() + rng.index(self.clients.len());
        let mut add = |at, disturbance| self.disturbances.push((at, disturbance));
        match rng.below(18) {
            0..=2 => {
                let again = rng.percent(70).then(|| rng.between(1, 2_000) * MS);
                let death = rng.pick(&[Death::Reset, Death::Closed, Death::Silent]);
                add(at, Disturbance::Crash { machine, death });
                if let Some(after) = again {
                    add(at + after, Disturbance::Start { machine });
                }
            }
            3 | 4 => {
                let ms = rng.pick(&[5, 100, 700, 3_000, 10_000]);
                add(at, Disturbance::Stall { machine, ns: rng.between(1, ms) * MS });
            }
            5..=7 => {
                let ms = rng.pick(&[20, 300, 2_000, 12_000]);
                let end = at + rng.between(1, ms) * MS;
                let (packets, streams) = rng.pick(&[(true, true), (true, false), (false, true)]);
                let ways = rng.pick(&[[true, true], [true, false], [false, true]]);
                for ([from, to], _) in
                    [[server, client], [client, server]].into_iter().zip(ways).filter(|(_, way)| *way)
                {
                    add(at, Disturbance::Part { from, to, packets, streams, cut: true });
                    add(end, Disturbance::Part { from, to, packets, streams, cut: false });
                }
            }
            8 => {
                let absent = vec![rng.index(IDENTITIES)];
                add(at, Disturbance::Rules { server, absent });
                if rng.percent(60) {
                    add(at + rng.between(1, 2_000) * MS, Disturbance::Rules { server, absent: Vec::new() });
                }
            }
            9 => add(at, Disturbance::Renew { server }),
            10 | 11 => {
                let identity = rng.index(IDENTITIES);
                // Its first one, and then as a rule it gets another.
                let (certificate, lasts) = ((identity, rng.pick(&[0, 0, 0, 1])), lasts(rng));
                add(at, Disturbance::Revoke { server, certificate, lasts });
                if rng.percent(60) {
                    add(at + rng.between(1, 2_000) * MS, Disturbance::Reissue { identity });
                }
            }
            12 => {
                let lasts = if rng.percent(20) { -5 } else { lasts(rng) };
                add(at, Disturbance::List { server, lasts });
            }
            13 => add(at, Disturbance::Reissue { identity: rng.index(IDENTITIES) }),
            14 | 15 => {
                // Some of the next ones, or all of so many.
                let refused = if rng.percent(50) { rng.next() } else { (1 << rng.between(1, 12)) - 1 };
                add(at, Disturbance::Memory { machine: rng.pick(&[machine, server, server]), refused });
            }
            _ => {
                let machine = rng.pick(&[machine, server, server]);
                let ahead_ms = rng.between(0, 60_000).cast_signed() - 30_000;
                add(at, Disturbance::Clock { machine, ahead_ms });
                if rng.percent(60) {
                    let right = Disturbance::Clock { machine, ahead_ms: 0 };
                    add(at + rng.between(1, 4_000) * MS, right);
                }
            }
        }
    }
}

impl ServerPlan {
    /// What it goes by at first, but for when its revocation list ends.
    pub(crate) fn rules(&self) -> Rules {
        Rules { open: self.open, quota: self.room.quota, ..Rules::usual() }
    }

    fn draw(rng: &mut Rng, calm: bool) -> Self {
        Self {
            timing: timing(rng),
            seal: rng.pick(&[SealPolicy::Required, SealPolicy::Optional]),
            lies: (!calm && rng.percent(8)).then(|| Lie::draw(rng)),
            pace_ms: rng.pick(&[0, 0, 1, 10]),
            nap_ms: rng.pick(&[0, 0, 200]),
            room: Room::draw(rng),
            open: rng.percent(12),
            list_lasts: rng.percent(30).then(|| if calm { 86_400 } else { lasts(rng) }),
        }
    }
}

impl ClientPlan {
    pub(crate) fn draw(rng: &mut Rng, servers: usize, calm: bool) -> Self {
        let sessions = rng.between(1, 3);
        Self {
            timing: timing(rng),
            identity: rng.index(IDENTITIES),
            sessions: (0..sessions).map(|_| SessionPlan::draw(rng, servers, calm)).collect(),
        }
    }
}

impl SessionPlan {
    fn draw(rng: &mut Rng, servers: usize, calm: bool) -> Self {
        let operations = rng.between(0, 20);
        Self {
            server: rng.index(servers),
            begins_ms: rng.between(1, 1_500),
            seal: rng.pick(&[SealPolicy::Required, SealPolicy::Optional, SealPolicy::Optional]),
            packets: rng.percent(60),
            heartbeat_ms: rng.pick(&[100, 200, 500]),
            key_records: rng.pick(&[20, 500, 1 << 20]),
            operations: (0..operations).map(|_| Operation::draw(rng)).collect(),
            server_leaves: (!calm && rng.percent(8)).then(|| rng.index(6)),
            end: if !calm && rng.percent(12) { Ending::Drop } else { Ending::Close },
            lies: (!calm && rng.percent(15)).then(|| Lie::draw(rng)),
            tries: if calm || rng.percent(70) { 20 } else { 1 },
            insists: rng.percent(50),
        }
    }
}

/// For how many seconds a revocation list is good.
fn lasts(rng: &mut Rng) -> i64 {
    if rng.percent(50) { 86_400 } else { rng.between(1, 8).cast_signed() }
}

impl Operation {
    fn draw(rng: &mut Rng) -> Self {
        let len = rng.pick(&[1, 64, 1_000, 4_096, 9_000, 20_000]);
        let len = rng.index(len) + 1;
        let at = rng.index(REGION - len);
        let counter = rng.index(COUNTERS);
        match rng.below(10) {
            0 => Self::Send { count: 1 + rng.index(6), len },
            1 => Self::Post { count: 1 + rng.index(6), len },
            2 => Self::Echo { len },
            3 => Self::Write { at, len },
            4 => Self::Read { at, len },
            5 => Self::Add { counter, add: rng.next() },
            6 => Self::PostWrite { at, len },
            7 => Self::Swap { counter, fits: rng.percent(50), swap: rng.next() },
            _ => Self::Pause { ms: rng.between(1, 700) },
        }
    }
}

fn timing(rng: &mut Rng) -> Timing {
    Timing {
        step_ns: rng.pick(&[1_000, 20_000]),
        yield_ns: rng.pick(&[20_000, 100_000]),
        wake_ns: rng.pick(&[0, 2_000, 50_000]),
    }
}

fn link(rng: &mut Rng) -> LinkConfig {
    let of = |rng: &mut Rng, most: f64| if rng.percent(50) { most } else { 0.0 };
    LinkConfig {
        latency_ns: rng.between(10_000, 1_000_000),
        jitter_ns: rng.below(200_000),
        bandwidth_bits_per_s: Some(rng.pick(&[100_000_000, 1_000_000_000, 10_000_000_000])),
        queue_bytes: Some(1 << 20),
        loss: Loss::Bernoulli(of(rng, 0.02)),
        reorder: Reorder { probability: of(rng, 0.05), extra_delay_ns: 300_000 },
        duplicate: of(rng, 0.02),
        corrupt: Corrupt { probability: of(rng, 0.01), max_bits: 3 },
    }
}
