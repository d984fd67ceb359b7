//! Requests that wait for others to leave with, while much is in flight.

use super::lone::{Lone, small};
use super::world::Options;
use rocev2::transport::{Burst, Limits};
use rocev2::work::{SendOperation, Status};

/// Four packets of 256 bytes.
const BURST: Burst = Burst { bytes: 1400, packets: 64, mixes_headers: false };
const TOGETHER: usize = 4;

/// Messages of five packets, of which so many are in flight that others may wait: 35 packets, which count for a
/// kibibyte each.
const LONG: u32 = 5 * 256;
const MANY: u64 = 8;

fn idle() -> Lone {
    let options = small();
    Lone::new(&Options { limits: Limits { max_send_requests: 64, ..options.limits }, ..options })
}

/// A queue pair that has sent [`MANY`] messages.
fn busy() -> Lone {
    let mut lone = idle();
    for id in 0..MANY {
        lone.post(id, SendOperation::Send, LONG);
    }
    assert_eq!(bursts(&mut lone, BURST), [TOGETHER; 10]);
    lone
}

/// Sends as a device does: how many packets leave at a time.
fn bursts(lone: &mut Lone, burst: Burst) -> Vec<usize> {
    let mut bursts = Vec::new();
    loop {
        lone.qp.begins_burst(Some(burst));
        if lone.next_sent().is_none() {
            return bursts;
        }
        lone.qp.begins_burst(None);
        let others = std::iter::from_fn(|| lone.next_sent()).take(TOGETHER - 1).count();
        bursts.push(1 + others);
    }
}

#[test]
fn where_little_is_in_flight_nothing_waits() {
    let mut lone = idle();
    for id in 0..3 {
        lone.post(id, SendOperation::Send, LONG);
        assert_eq!(bursts(&mut lone, BURST), [4, 1]);
    }
}

#[test]
fn what_is_too_little_waits_for_more() {
    let mut lone = busy();
    for (id, expected) in [(8, vec![4]), (9, vec![4]), (10, vec![4]), (11, vec![4, 4]), (12, vec![4])] {
        lone.post(id, SendOperation::Send, LONG);
        assert_eq!(bursts(&mut lone, BURST), expected, "{id}");
    }
}

#[test]
fn what_waits_leaves_with_the_answer_after_which_little_is_in_flight() {
    let mut lone = busy();
    lone.post(8, SendOperation::Send, LONG);
    assert_eq!(bursts(&mut lone, BURST), [4]);
    assert_eq!(lone.ack(4), Ok(()));
    assert_eq!(bursts(&mut lone, BURST), [], "there are 39 packets in flight");
    assert_eq!(lone.ack(14), Ok(()));
    assert_eq!(bursts(&mut lone, BURST), [1], "there were 29");
    assert_eq!(lone.ack(44), Ok(()));
    assert_eq!(lone.outcome(), (0..=MANY).map(|id| (id, Status::Success)).collect::<Vec<_>>());
}

#[test]
fn what_waits_leaves_when_the_answer_does_not_come() {
    let mut lone = busy();
    lone.post(8, SendOperation::Send, LONG);
    assert_eq!(bursts(&mut lone, BURST), [4]);
    assert!(lone.time_out());
    assert_eq!(bursts(&mut lone, BURST), [1], "the first, to ask");
    let mut last = 0;
    while last < 44 {
        assert_eq!(lone.ack(last), Ok(()));
        let again: usize = bursts(&mut lone, BURST).iter().sum();
        assert!(again > 0, "nothing behind {last}");
        last += i32::try_from(again).expect("a small number");
    }
    assert_eq!(lone.ack(44), Ok(()));
    assert_eq!(lone.outcome().len(), 9);
}

#[test]
fn what_is_asked_for_and_what_cannot_leave_together_does_not_wait() {
    let mut lone = busy();
    lone.post(8, SendOperation::Write(Lone::REMOTE), 256);
    assert_eq!(bursts(&mut lone, BURST), [1]);
    let mixed = Burst { mixes_headers: true, ..BURST };
    lone.post(9, SendOperation::Write(Lone::REMOTE), 256);
    assert_eq!(bursts(&mut lone, mixed), []);
    assert_eq!(bursts(&mut lone, BURST), [1]);
    lone.post(10, SendOperation::Read(Lone::REMOTE), 256);
    assert_eq!(bursts(&mut lone, mixed), [1]);
}

#[test]
fn where_nothing_was_asked_nothing_waits() {
    let mut lone = idle();
    for id in 0..MANY {
        lone.try_post(id, SendOperation::Send, LONG, false).expect("the request is taken");
    }
    bursts(&mut lone, BURST);
    assert_eq!(lone.ack(31), Ok(()), "what was asked for on account of its bytes");
    for id in MANY..MANY + 4 {
        lone.try_post(id, SendOperation::Send, 256, false).expect("the request is taken");
        assert_eq!(bursts(&mut lone, BURST), [1]);
    }
}
