//! Requests that wait for others to leave with, while much is in flight; and WRITEs whose packets can leave together.

use super::lone::{ACK, Lone, Out, SEQUENCE_ERROR, small};
use super::world::Options;
use rocev2::transport::{Burst, DropReason, Limits};
use rocev2::wire::{Aeth, Operation};
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
    lone.post(8, SendOperation::Write(Lone::REMOTE), 512);
    assert_eq!(bursts(&mut lone, BURST), [2], "its FIRST packet is longer");
    lone.post(9, SendOperation::Read(Lone::REMOTE), 256);
    assert_eq!(bursts(&mut lone, BURST), [1]);
    lone.post(10, SendOperation::Write(Lone::REMOTE), 512);
    assert_eq!(bursts(&mut lone, Burst { mixes_headers: true, ..BURST }), []);
    assert_eq!(bursts(&mut lone, BURST), [2]);
    let mut lone = busy();
    lone.post(8, SendOperation::Write(Lone::REMOTE), 256);
    assert_eq!(bursts(&mut lone, BURST), [], "it is as long as another one will be");
}

#[test]
fn a_program_that_waits_for_the_end_is_not_kept_waiting_again() {
    let mut lone = busy();
    let mut waited = Vec::new();
    for id in 8..40 {
        lone.post(id, SendOperation::Send, 256);
        let sent: usize = bursts(&mut lone, BURST).iter().sum();
        waited.push(sent == 0);
        let last = i32::try_from(id).expect("a small number") + 32;
        assert_eq!(lone.ack(last - 32), Ok(()));
        bursts(&mut lone, BURST);
    }
    assert_eq!(waited.iter().filter(|waited| **waited).count(), 2, "{waited:?}");
}

/// A packet's operation, the address and length in its RETH, and its payload's length.
type Written = (Operation, Option<(u64, u32)>, usize);

/// What [`Lone`] writes.
fn written(lone: &mut Lone) -> Vec<Written> {
    let place = |out: &Out| out.headers.reth.map(|reth| (reth.va - Lone::REMOTE.va, reth.len));
    lone.sent().iter().map(|out| (out.operation, place(out), out.payload.len())).collect()
}

#[test]
fn a_short_write_leaves_as_a_message_for_each_packet_and_ends_with_the_last() {
    let mut lone = idle();
    lone.qp.split_writes(600);
    // Not before the peer has taken one.
    lone.post(0, SendOperation::Write(Lone::REMOTE), 600);
    assert_eq!(lone.sent_brief()[0], (Operation::WriteFirst, 0));
    assert_eq!(lone.ack(2), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success)]);
    lone.post(1, SendOperation::Write(Lone::REMOTE), 600);
    let only = |at, len: u32| (Operation::WriteOnly, Some((at, len)), len as usize);
    assert_eq!(written(&mut lone), [only(0, 256), only(256, 256), only(512, 88)]);
    assert_eq!(lone.nak(4, SEQUENCE_ERROR), Ok(()));
    assert_eq!((lone.outcome(), written(&mut lone)), (vec![], vec![only(256, 256), only(512, 88)]));
    assert_eq!(lone.ack(5), Ok(()));
    assert_eq!(lone.outcome(), [(1, Status::Success)]);
}

#[test]
fn a_longer_write_and_one_with_an_immediate_stay_one_message() {
    let mut lone = idle();
    lone.qp.split_writes(600);
    lone.post(0, SendOperation::Write(Lone::REMOTE), 1024);
    lone.sent();
    assert_eq!(lone.ack(3), Ok(()));
    lone.post(1, SendOperation::Write(Lone::REMOTE), 601);
    let (first, rest) = (Some((0, 601)), None);
    assert_eq!(
        written(&mut lone),
        [
            (Operation::WriteFirst, first, 256),
            (Operation::WriteMiddle, rest, 256),
            (Operation::WriteLast, rest, 89)
        ]
    );
    // The peer's completion says how long it was.
    lone.post(2, SendOperation::WriteImmediate(Lone::REMOTE, 7), 257);
    assert_eq!(
        written(&mut lone),
        [(Operation::WriteFirst, Some((0, 257)), 256), (Operation::WriteLastImm, rest, 1)]
    );
}

#[test]
fn a_peer_that_counts_messages_counts_each_packet_of_a_split_write() {
    let mut lone = idle();
    lone.qp.split_writes(1024);
    let mut count: i32 = 0;
    let answer = |lone: &mut Lone, number: i32, msn: i32| {
        let mut headers = Lone::response(Operation::Acknowledge, number, ACK);
        headers.aeth = Some(Aeth { syndrome: ACK, msn: msn.cast_unsigned() });
        lone.handle(&headers, &[])
    };
    // Until the peer has taken it, it is one message.
    lone.post(0, SendOperation::Write(Lone::REMOTE), 1024);
    lone.sent();
    assert_eq!(answer(&mut lone, 3, 1), Ok(()));
    for id in 1..50 {
        lone.post(id, SendOperation::Write(Lone::REMOTE), 1024);
        lone.sent();
        // In two parts.
        for packets in [1, 3] {
            count += packets;
            assert_eq!(answer(&mut lone, count + 3, count + 1), Ok(()));
        }
    }
    lone.post(50, SendOperation::Write(Lone::REMOTE), 1024);
    lone.sent();
    // The next packet, and the message numbers that can't be true.
    for untrue in [count, count + 101] {
        assert_eq!(answer(&mut lone, count + 4, untrue), Err(DropReason::MessageNumber));
    }
    assert_eq!(answer(&mut lone, count + 7, count + 5), Ok(()));
    assert_eq!(lone.outcome().len(), 51);
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
