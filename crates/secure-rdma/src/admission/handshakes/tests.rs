//! Attackers who come again and again, in virtual time.

use super::*;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a server allows by default.
const PLACES: usize = 512;

/// How long a connection may be silent, and how long a handshake may take, as `server` has it.
const FIRST_BYTE: Duration = Duration::from_secs(2);
const HANDSHAKE: Duration = Duration::from_secs(5);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn v4(n: u32) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::from(n)))
}

fn v6(site: u16, net: u16) -> Source {
    Source::of(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, net, 0, 0, 0, 1)))
}

/// What happens at a moment of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Attack,
    Connect(usize),
    Speaks(u64),
    Ends(u64, Option<usize>),
}

/// A client of good faith, who tries again after its connection was closed.
struct Honest {
    source: Source,
    /// From the connection to its first byte, and from there to the end of its handshake.
    first: Duration,
    rest: Duration,
}

struct Attacker {
    every: Duration,
    sources: fn(u64) -> Source,
    /// After so long its connections send a byte, if ever.
    speaks: Option<Duration>,
}

/// For each honest client, how long it takes until it is in; they come one after the other, every 100 ms,
/// after the attack has gone on for 3 s.
fn admissions(attacker: &Attacker, honest: &[Honest]) -> Vec<Option<Duration>> {
    let start = |client: usize| ms(3000 + 100 * client as u64);
    let mut handshakes = Handshakes::new(Limits::of(PLACES));
    let mut events = BinaryHeap::from([Reverse((Duration::ZERO, Event::Attack))]);
    events.extend((0..honest.len()).map(|client| Reverse((start(client), Event::Connect(client)))));
    let mut admitted = vec![None; honest.len()];
    let mut attacks = 0;
    while let Some(Reverse((now, event))) = events.pop() {
        if now > Duration::from_secs(30) || admitted.iter().all(Option::is_some) {
            break;
        }
        let dropped = match event {
            Event::Attack => {
                let (number, dropped) = handshakes.admit(&(attacker.sources)(attacks), None);
                attacks += 1;
                events.push(Reverse((now + attacker.every, Event::Attack)));
                match attacker.speaks {
                    Some(after) => {
                        events.push(Reverse((now + after, Event::Speaks(number))));
                        events.push(Reverse((now + HANDSHAKE, Event::Ends(number, None))));
                    }
                    None => events.push(Reverse((now + FIRST_BYTE, Event::Ends(number, None)))),
                }
                dropped
            }
            Event::Connect(client) => {
                let Honest { source, first, rest } = &honest[client];
                let (number, dropped) = handshakes.admit(source, Some(client));
                events.push(Reverse((now + *first, Event::Speaks(number))));
                events.push(Reverse((now + *first + *rest, Event::Ends(number, Some(client)))));
                dropped
            }
            Event::Speaks(number) => {
                handshakes.spoken(number);
                Vec::new()
            }
            Event::Ends(number, client) => {
                if let (Some(_), Some(client)) = (handshakes.remove(number), client) {
                    admitted[client].get_or_insert(now - start(client));
                }
                Vec::new()
            }
        };
        for client in dropped.into_iter().flatten() {
            events.push(Reverse((now + ms(100), Event::Connect(client))));
        }
        assert!(handshakes.len() <= PLACES);
    }
    admitted
}

fn slowest(attacker: &Attacker, honest: &[Honest]) -> Option<Duration> {
    admissions(attacker, honest).into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Ten clients of one host, whose first bytes come after 200 ms and whose handshakes take a second in all.
fn far_clients(source: &Source) -> Vec<Honest> {
    (0..10).map(|_| Honest { source: source.clone(), first: ms(200), rest: ms(800) }).collect()
}

#[test]
fn a_host_with_500_idle_connections_a_second_delays_nobody_elsewhere() {
    let attacker = Attacker { every: ms(2), sources: |_| v4(1), speaks: None };
    assert_eq!(slowest(&attacker, &far_clients(&v4(2))), Some(ms(1000)));
    // Nor who is behind its address, as long as a first byte comes before 256 more connections.
    assert_eq!(slowest(&attacker, &far_clients(&v4(1))), Some(ms(1000)));
}

#[test]
fn nor_does_it_with_connections_that_speak_and_then_do_nothing() {
    let attacker = Attacker { every: ms(2), sources: |_| v4(1), speaks: Some(ms(1)) };
    assert_eq!(slowest(&attacker, &far_clients(&v4(2))), Some(ms(1000)));
    // Behind its address, who speaks and is done within 192 more connections gets in.
    let near = |_| Honest { source: v4(1), first: ms(20), rest: ms(200) };
    assert_eq!(slowest(&attacker, &(0..10).map(near).collect::<Vec<_>>()), Some(ms(220)));
}

#[test]
fn nor_does_it_ten_times_as_fast() {
    let attacker = Attacker { every: Duration::from_micros(200), sources: |_| v4(1), speaks: None };
    assert_eq!(slowest(&attacker, &far_clients(&v4(2))), Some(ms(1000)));
}

#[test]
fn addresses_of_one_ipv6_site_count_together() {
    // A new /64 for each connection.
    let sources = |n: u64| v6(1, u16::try_from(n % 65_536).unwrap());
    for speaks in [None, Some(ms(1))] {
        let attacker = Attacker { every: ms(2), sources, speaks };
        assert_eq!(slowest(&attacker, &far_clients(&v6(2, 0))), Some(ms(1000)));
        assert_eq!(slowest(&attacker, &far_clients(&v4(2))), Some(ms(1000)));
    }
}

#[test]
fn a_thousand_attacking_hosts_leave_those_in_who_speak_soon() {
    // 2000 a second: each has a connection or none, and a silent one lasts for 256 ms.
    let sources = |n: u64| v4(1000 + u32::try_from(n % 1000).unwrap());
    let attacker = Attacker { every: Duration::from_micros(500), sources, speaks: None };
    assert_eq!(slowest(&attacker, &far_clients(&v4(2))), Some(ms(1000)));
}

#[test]
fn a_burst_of_one_hosts_clients_has_half_of_the_places() {
    let mut handshakes = Handshakes::new(Limits::of(PLACES));
    let dropped: usize = (0..PLACES / 2).map(|_| handshakes.admit(&v4(1), ()).1.len()).sum();
    assert_eq!((dropped, handshakes.len()), (0, PLACES / 2));
    // One more, and the oldest of its own goes.
    let (_, dropped) = handshakes.admit(&v4(1), ());
    assert_eq!((dropped.len(), handshakes.len()), (1, PLACES / 2));
    // A site may have three quarters, if nobody else wants as many.
    let mut handshakes = Handshakes::new(Limits::of(PLACES));
    for net in 0..1000 {
        handshakes.admit(&v6(7, net), ());
    }
    assert_eq!(handshakes.len(), PLACES / 4 * 3);
}

#[test]
fn the_oldest_silent_handshake_of_the_most_numerous_source_goes_first() {
    let total = 4 * FEW;
    let mut handshakes = Handshakes::new(Limits { total, block: total, source: total });
    let mut admit = |source, numbers: core::ops::Range<usize>| -> Vec<u64> {
        numbers.map(|number| handshakes.admit(&v4(source), number).0).collect()
    };
    admit(1, 0..FEW);
    let many = admit(2, FEW..total);
    handshakes.spoken(many[0]);
    let mut goes = |source| handshakes.admit(&v4(source), usize::MAX).1;
    for gone in 1..=FEW {
        assert_eq!(goes(3), [FEW + gone]);
    }
    // Now nobody has twice as many as others, in steps of `FEW`: the oldest of all that are silent goes.
    assert_eq!(goes(4), [0]);
    assert!(handshakes.unfinished.contains_key(&many[0]));
}

#[test]
fn nothing_is_kept_of_who_has_left() {
    let mut handshakes = Handshakes::new(Limits::of(8));
    for round in 0..100 {
        let (number, _) = handshakes.admit(&v6(round, round), ());
        handshakes.spoken(number);
        handshakes.leave(number);
        handshakes.leave(number);
    }
    assert_eq!((handshakes.len(), handshakes.count.all(), handshakes.blocks.len()), (0, 0, 0));
    assert!(handshakes.shed().is_none());
}

#[test]
fn what_is_counted_is_what_is_there_whatever_happens() {
    // A long random walk against a plain recount.
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let limits = Limits { total: 40, block: 20, source: 10 };
    let mut handshakes = Handshakes::new(limits);
    let mut known = Vec::new();
    for _ in 0..5_000 {
        match random(4) {
            0 | 1 => {
                let source = v6(u16::try_from(random(4)).unwrap(), u16::try_from(random(4)).unwrap());
                let (number, _) = handshakes.admit(&source, ());
                assert!(handshakes.unfinished.contains_key(&number), "the newcomer is in");
                known.push(number);
            }
            2 if !known.is_empty() => {
                let at = random(known.len() as u64);
                handshakes.spoken(known[usize::try_from(at).unwrap()]);
            }
            _ if !known.is_empty() => {
                let at = random(known.len() as u64);
                handshakes.leave(known.swap_remove(usize::try_from(at).unwrap()));
            }
            _ => {}
        }
        assert!(handshakes.len() <= limits.total);
        let of = |matching: &dyn Fn(&Source) -> bool, progress| {
            let entries = handshakes.unfinished.values();
            entries.filter(|entry| matching(&entry.source) && entry.progress == progress).count()
        };
        let recount = |matching: &dyn Fn(&Source) -> bool| Count {
            silent: of(matching, Progress::Silent),
            spoken: of(matching, Progress::Spoken),
        };
        assert_eq!(handshakes.count, recount(&|_| true));
        for (block, group) in &handshakes.blocks {
            assert_eq!(group.count, recount(&|source| source.block() == *block));
            assert!(group.count.all() <= limits.block && group.count.all() > 0);
            for (source, members) in &group.sources {
                assert_eq!(members.count(), recount(&|other| other == source));
                assert!(members.count().all() <= limits.source && members.count().all() > 0);
            }
        }
    }
}
