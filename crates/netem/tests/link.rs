//! What a link promises, each promise seen from outside. Every run has a fixed seed: a test passes always or never.

use std::collections::HashSet;

use netem::{Corrupt, Counters, Link, LinkConfig, Loss, Reorder};

/// Enough packets for a frequency to be within one percentage point of its probability.
const MANY: u64 = 100_000;
/// The time between two packets in [`run`].
const GAP_NS: u64 = 1_000;

const PERFECT: LinkConfig = LinkConfig {
    latency_ns: 0,
    jitter_ns: 0,
    bandwidth_bits_per_s: None,
    queue_bytes: None,
    loss: Loss::None,
    reorder: Reorder { probability: 0.0, extra_delay_ns: 0 },
    duplicate: 0.0,
    corrupt: Corrupt { probability: 0.0, max_bits: 1 },
};

/// Everything at once.
const ROUGH: LinkConfig = LinkConfig {
    latency_ns: 10_000,
    jitter_ns: 3_000,
    bandwidth_bits_per_s: Some(100_000_000),
    queue_bytes: Some(400),
    loss: Loss::GilbertElliott { good_to_bad: 0.05, bad_to_good: 0.3, loss_good: 0.01, loss_bad: 0.5 },
    reorder: Reorder { probability: 0.1, extra_delay_ns: 5_000 },
    duplicate: 0.1,
    corrupt: Corrupt { probability: 0.1, max_bits: 8 },
};

/// A packet that says its number beside 16 zero bytes.
type Numbered = (u64, Vec<u8>);

/// A delivery: when, which, what.
type Delivery = (u64, u64, Vec<u8>);

/// Sends `count` packets, one each [`GAP_NS`], receives everything at its time, and says what came and what
/// the link counted.
fn run(config: LinkConfig, seed: u64, count: u64) -> (Vec<Delivery>, Counters) {
    let mut link: Link<Numbered> = Link::new(config, seed);
    let mut deliveries = Vec::new();
    let mut sent = 0;
    while sent < count || link.in_flight() > 0 {
        let sending = sent * GAP_NS;
        match link.next_delivery() {
            Some(at) if sent == count || at < sending => {
                let (number, bytes) = link.recv(at).expect("next_delivery said that something arrives then");
                deliveries.push((at, number, bytes));
            }
            _ => {
                link.send(sending, (sent, vec![0; 16]));
                sent += 1;
            }
        }
    }
    (deliveries, link.counters())
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.1).collect()
}

#[track_caller]
fn assert_near(measured: f64, expected: f64, tolerance: f64) {
    assert!(
        (measured - expected).abs() <= tolerance,
        "measured {measured}, expected {expected} ± {tolerance}"
    );
}

fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let first = run(ROUGH, 42, 2_000);
    assert_eq!(first, run(ROUGH, 42, 2_000));
    assert_ne!(first, run(ROUGH, 43, 2_000));
}

#[test]
fn a_seed_gives_the_run_that_it_always_gave() {
    let config = LinkConfig { loss: Loss::Bernoulli(0.5), ..PERFECT };
    let (deliveries, _) = run(config, 1, 16);
    assert_eq!(numbers(&deliveries), [2, 5, 8, 9, 11]);
}

#[test]
fn a_perfect_link_delivers_everything_at_once_unchanged_and_in_order() {
    let (deliveries, counters) = run(LinkConfig::default(), 1, 1_000);
    let expected: Vec<Delivery> = (0..1_000).map(|number| (number * GAP_NS, number, vec![0; 16])).collect();
    assert_eq!(deliveries, expected);
    assert_eq!(counters, Counters { sent: 1_000, delivered: 1_000, ..Counters::default() });
}

#[test]
fn packets_that_arrive_at_the_same_time_come_in_the_order_of_sending() {
    let mut link = Link::new(LinkConfig { latency_ns: 5, ..PERFECT }, 1);
    for byte in 0..=255 {
        link.send(0, vec![byte]);
    }
    assert_eq!(link.recv(4), None);
    assert!((0..=255).all(|byte| link.recv(5) == Some(vec![byte])));
    assert_eq!(link.in_flight(), 0);
}

#[test]
fn jitter_is_uniform_and_keeps_the_order() {
    // Spread so far apart that no packet waits for its predecessor: the delays are what was drawn.
    let config = LinkConfig { latency_ns: 100, jitter_ns: 9, ..PERFECT };
    let (deliveries, _) = run(config, 5, MANY);
    let mut seen = [0_u64; 10];
    for (at, number, _) in &deliveries {
        seen[usize::try_from(at - number * GAP_NS - 100).unwrap()] += 1;
    }
    for count in seen {
        assert_near(fraction(count, MANY), 0.1, 0.01);
    }

    // A jitter of many gaps.
    let (deliveries, counters) = run(LinkConfig { jitter_ns: 50 * GAP_NS, ..PERFECT }, 5, MANY);
    assert_eq!(numbers(&deliveries), (0..MANY).collect::<Vec<_>>());
    assert_eq!(counters.reordered, 0);
}

#[test]
fn bandwidth_spaces_packets_by_their_length() {
    // 8 Gb/s: one byte a nanosecond.
    let config = LinkConfig { latency_ns: 1_000, bandwidth_bits_per_s: Some(8_000_000_000), ..PERFECT };
    let mut link = Link::new(config, 1);
    for len in [100, 1, 0, 4_000] {
        link.send(50, vec![0; len]);
    }
    let mut arrivals = Vec::new();
    while let Some(at) = link.next_delivery() {
        arrivals.push((at, link.recv(at).unwrap().len()));
    }
    assert_eq!(arrivals, [(1_150, 100), (1_151, 1), (1_151, 0), (5_151, 4_000)]);

    // After a pause the link is idle: nothing is owed from before, nothing saved up.
    link.send(1_000_000, vec![0; 10]);
    assert_eq!(link.next_delivery(), Some(1_001_010));
}

#[test]
fn a_transmission_time_is_rounded_up_and_never_overflows() {
    let mut link = Link::new(LinkConfig { bandwidth_bits_per_s: Some(3_000_000_000), ..PERFECT }, 1);
    link.send(0, vec![0]);
    assert_eq!(link.next_delivery(), Some(3), "8 bits at 3 a nanosecond");

    let mut link =
        Link::new(LinkConfig { bandwidth_bits_per_s: Some(1), latency_ns: u64::MAX, ..PERFECT }, 1);
    link.send(u64::MAX, vec![0; 100_000]);
    assert_eq!(link.next_delivery(), Some(u64::MAX));
}

#[test]
fn a_full_queue_drops_the_packet_that_comes_last() {
    let config = LinkConfig { bandwidth_bits_per_s: Some(8_000_000_000), queue_bytes: Some(300), ..PERFECT };
    let mut link = Link::new(config, 1);
    for byte in 0..4 {
        link.send(0, vec![byte; 100]);
    }
    assert_eq!(link.counters().dropped_by_queue, 1, "three fit exactly");
    link.send(99, vec![4; 1]);
    assert_eq!(link.counters().dropped_by_queue, 2, "the first is still under transmission");
    link.send(100, vec![5; 100]);
    assert_eq!(link.counters().dropped_by_queue, 2, "it has left");

    let received: Vec<u8> = std::iter::from_fn(|| link.recv(1_000)).map(|bytes| bytes[0]).collect();
    assert_eq!(received, [0, 1, 2, 5]);
}

#[test]
fn an_idle_link_takes_a_packet_larger_than_its_queue() {
    let config = LinkConfig { bandwidth_bits_per_s: Some(8_000_000_000), queue_bytes: Some(10), ..PERFECT };
    let mut link = Link::new(config, 1);
    link.send(0, vec![0; 1_000]);
    link.send(1, vec![0; 1]);
    assert_eq!(link.counters().dropped_by_queue, 1);
    assert_eq!(link.recv(1_000).map(|bytes| bytes.len()), Some(1_000));
}

#[test]
fn a_lost_packet_has_used_its_share_of_the_bandwidth() {
    let config =
        LinkConfig { bandwidth_bits_per_s: Some(8_000_000_000), loss: Loss::Bernoulli(1.0), ..PERFECT };
    let mut link = Link::new(config, 1);
    link.send(0, vec![0; 1_000]);
    link.set_config(LinkConfig { loss: Loss::None, ..config });
    link.send(0, vec![0; 1_000]);
    assert_eq!(link.next_delivery(), Some(2_000));
}

#[test]
fn bernoulli_loses_the_stated_fraction_and_each_packet_independently() {
    for (seed, p) in [(1, 0.001), (2, 0.05), (3, 0.2), (4, 0.9)] {
        let (deliveries, counters) = run(LinkConfig { loss: Loss::Bernoulli(p), ..PERFECT }, seed, MANY);
        assert_eq!(counters.lost + counters.delivered, MANY);
        assert_near(fraction(counters.lost, MANY), p, 0.005);
        // Two neighbours are both lost with probability p².
        let lost = lost_numbers(&deliveries);
        let pairs = lost.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
        assert_near(pairs as f64 / MANY as f64, p * p, 0.005);
    }
}

#[test]
fn probability_zero_is_never_and_one_is_always() {
    let never = LinkConfig { loss: Loss::Bernoulli(0.0), ..PERFECT };
    assert_eq!(run(never, 1, MANY).1.lost, 0);
    let always = LinkConfig { loss: Loss::Bernoulli(1.0), ..PERFECT };
    assert_eq!(run(always, 1, MANY).1.lost, MANY);
    let all = LinkConfig { duplicate: 1.0, corrupt: Corrupt { probability: 1.0, max_bits: 1 }, ..PERFECT };
    let (_, counters) = run(all, 1, MANY);
    assert_eq!((counters.duplicated, counters.corrupted), (MANY, 2 * MANY));
}

#[test]
fn gilbert_elliott_loses_the_stated_fraction_in_bursts_of_the_stated_length() {
    let (good_to_bad, bad_to_good) = (0.02, 0.25);
    let chain = |loss_good, loss_bad| Loss::GilbertElliott { good_to_bad, bad_to_good, loss_good, loss_bad };
    let bad = good_to_bad / (good_to_bad + bad_to_good);

    // Every packet in the bad state is lost and no other one: the losses show the chain itself.
    let (deliveries, counters) = run(LinkConfig { loss: chain(0.0, 1.0), ..PERFECT }, 8, MANY);
    assert_near(fraction(counters.lost, MANY), bad, 0.005);
    let lost = lost_numbers(&deliveries);
    let bursts = 1 + lost.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    assert_near(lost.len() as f64 / bursts as f64, 1.0 / bad_to_good, 0.2);

    let (_, counters) = run(LinkConfig { loss: chain(0.01, 0.6), ..PERFECT }, 9, MANY);
    assert_near(fraction(counters.lost, MANY), (1.0 - bad) * 0.01 + bad * 0.6, 0.005);
}

/// The numbers below [`MANY`] that weren't delivered.
fn lost_numbers(deliveries: &[Delivery]) -> Vec<u64> {
    let delivered: HashSet<u64> = numbers(deliveries).into_iter().collect();
    (0..MANY).filter(|number| !delivered.contains(number)).collect()
}

#[test]
fn duplicates_come_as_often_as_stated_and_equal_the_original() {
    let (deliveries, counters) = run(LinkConfig { duplicate: 0.07, latency_ns: 3, ..PERFECT }, 11, MANY);
    assert_near(fraction(counters.duplicated, MANY), 0.07, 0.005);
    let twice = deliveries.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert_eq!(twice, counters.duplicated);
    let mut once = numbers(&deliveries);
    once.dedup();
    assert_eq!(once, (0..MANY).collect::<Vec<_>>());
}

#[test]
fn reordering_holds_back_the_stated_fraction() {
    let reorder = Reorder { probability: 0.03, extra_delay_ns: 2 * GAP_NS + GAP_NS / 2 };
    let (deliveries, counters) = run(LinkConfig { reorder, ..PERFECT }, 13, MANY);
    let late =
        deliveries.iter().filter(|(at, number, _)| *at == number * GAP_NS + reorder.extra_delay_ns).count();
    assert_near(late as f64 / MANY as f64, 0.03, 0.005);
    let punctual = deliveries.iter().filter(|(at, number, _)| *at == number * GAP_NS).count();
    assert_eq!(late + punctual, deliveries.len());
    assert!(counters.reordered > 0);
}

#[test]
fn the_reordered_counter_is_what_a_receiver_sees() {
    // No copies: a receiver couldn't tell one from its original.
    let (deliveries, counters) = run(LinkConfig { duplicate: 0.0, ..ROUGH }, 14, MANY);
    let mut highest = 0;
    let mut overtaken = 0;
    for number in numbers(&deliveries) {
        overtaken += u64::from(number < highest);
        highest = highest.max(number);
    }
    assert!(overtaken > 0);
    assert_eq!(counters.reordered, overtaken);
}

#[test]
fn corruption_flips_one_to_max_bits_anywhere_as_often_as_stated() {
    let corrupt = Corrupt { probability: 0.5, max_bits: 4 };
    let (deliveries, counters) = run(LinkConfig { corrupt, ..PERFECT }, 17, MANY);
    assert_near(fraction(counters.corrupted, MANY), 0.5, 0.005);

    let mut flips = [0_u64; 5];
    let mut positions = [0_u64; 128];
    for (_, _, bytes) in &deliveries {
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
        flips[usize::try_from(ones).unwrap()] += 1;
        for (position, count) in positions.iter_mut().enumerate() {
            *count += u64::from(bytes[position / 8] >> (position % 8) & 1);
        }
    }
    assert_eq!(
        flips[0],
        MANY - counters.corrupted,
        "what counts as corrupted is different from what was sent"
    );
    for count in &flips[1..] {
        assert_near(fraction(*count, counters.corrupted), 0.25, 0.01);
    }
    // 2.5 bits of 128 on average.
    for count in positions {
        assert_near(fraction(count, counters.corrupted), 2.5 / 128.0, 0.003);
    }
}

#[test]
fn corruption_flips_no_bit_twice_and_needs_a_bit_to_flip() {
    let corrupt = Corrupt { probability: 1.0, max_bits: u32::MAX };
    let mut link = Link::new(LinkConfig { corrupt, ..PERFECT }, 19);
    for _ in 0..1_000 {
        link.send(0, vec![0]);
        link.send(0, vec![]);
    }
    assert_eq!(link.counters().corrupted, 1_000);
    while let (Some(short), Some(empty)) = (link.recv(0), link.recv(0)) {
        assert_ne!(short, [0]);
        assert_eq!(empty, []);
    }
}

#[test]
fn corruption_of_a_copy_leaves_the_other_copy_alone() {
    let corrupt = Corrupt { probability: 0.5, max_bits: 1 };
    let (deliveries, counters) = run(LinkConfig { corrupt, duplicate: 1.0, ..PERFECT }, 23, MANY);
    let different = deliveries.chunks(2).filter(|copies| copies[0].2 != copies[1].2).count();
    // Of two copies exactly one is damaged half of the time, both a quarter of it, and then almost always in
    // different bits.
    assert_near(different as f64 / MANY as f64, 0.5 + 0.25 * 127.0 / 128.0, 0.01);
    assert_eq!(counters.delivered, 2 * MANY);
}

#[test]
fn which_packets_are_lost_does_not_depend_on_the_other_settings() {
    let loss = Loss::Bernoulli(0.1);
    let (alone, _) = run(LinkConfig { loss, ..PERFECT }, 29, MANY);
    let (together, counters) = run(LinkConfig { loss, queue_bytes: None, ..ROUGH }, 29, MANY);
    assert!(counters.duplicated > 0 && counters.corrupted > 0 && counters.reordered > 0);
    assert_eq!(lost_numbers(&alone), lost_numbers(&together));
}

#[test]
fn the_counters_add_up_at_every_moment() {
    let mut link = Link::new(ROUGH, 31);
    for now in 0..20_000_u64 {
        link.send(now * 2_000, vec![0; usize::try_from(now % 60).unwrap()]);
        if now % 3 == 0 {
            let _ = link.recv(now * 2_000);
        }
        let Counters { sent, delivered, lost, dropped_by_queue, duplicated, .. } = link.counters();
        assert_eq!(sent + duplicated, delivered + lost + dropped_by_queue + link.in_flight() as u64);
    }
    let Counters { lost, dropped_by_queue, reordered, duplicated, corrupted, .. } = link.counters();
    assert!([lost, dropped_by_queue, reordered, duplicated, corrupted].iter().all(|count| *count > 0));
}

#[test]
fn a_new_configuration_leaves_what_is_under_way_alone() {
    let mut link = Link::new(LinkConfig { latency_ns: 1_000, ..PERFECT }, 37);
    link.send(0, b"before".to_vec());
    link.set_config(LinkConfig { latency_ns: 10, ..PERFECT });
    link.send(0, b"after".to_vec());
    assert_eq!(link.next_delivery(), Some(1_000));
    assert_eq!(link.recv(1_000), Some(b"before".to_vec()), "a shorter latency doesn't reorder either");
    assert_eq!(link.recv(1_000), Some(b"after".to_vec()));
}

#[test]
#[should_panic(expected = "duplicate = 1.5 is no probability")]
fn a_probability_above_one_is_refused() {
    let _link: Link = Link::new(LinkConfig { duplicate: 1.5, ..PERFECT }, 1);
}

#[test]
#[should_panic(expected = "loss.loss_bad = NaN is no probability")]
fn a_probability_that_is_no_number_is_refused() {
    let loss =
        Loss::GilbertElliott { good_to_bad: 0.1, bad_to_good: 0.1, loss_good: 0.0, loss_bad: f64::NAN };
    let _link: Link = Link::new(LinkConfig { loss, ..PERFECT }, 1);
}

#[test]
#[should_panic(expected = "corrupt.max_bits is 0")]
fn damage_without_a_flipped_bit_is_refused() {
    let _link: Link =
        Link::new(LinkConfig { corrupt: Corrupt { probability: 0.1, max_bits: 0 }, ..PERFECT }, 1);
}

#[test]
#[should_panic(expected = "bandwidth_bits_per_s is 0")]
fn a_bandwidth_of_nothing_is_refused() {
    let mut link: Link = Link::new(PERFECT, 1);
    link.set_config(LinkConfig { bandwidth_bits_per_s: Some(0), ..PERFECT });
}
