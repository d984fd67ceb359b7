//! What goes over the wire, as rxe sends and expects it.

use super::lone::{ACK, Lone, Out, RQ, SEQUENCE_ERROR, SQ, VA, small};
use super::world::{Options, Receiving, World};
use netem::LinkConfig;
use rocev2::transport::{DropReason, Limits, rc::rnr_delay};
use rocev2::wire::{NakCode, Operation as O, Reth, Syndrome};
use rocev2::work::{SendOperation, SendRequest, State, Status, Transition};
use rocev2::{Mtu, Psn};
use std::time::Duration;

const FULL: [u8; 256] = [0x5a; 256];

fn write() -> SendOperation {
    SendOperation::Write(Lone::REMOTE)
}

fn read() -> SendOperation {
    SendOperation::Read(Lone::REMOTE)
}

/// The numbers and operations of what was sent.
fn brief(sent: &[Out]) -> Vec<(O, i32)> {
    sent.iter().map(|out| (out.operation, out.number)).collect()
}

#[test]
fn each_messages_last_packet_asks_for_an_ack() {
    let mut lone = Lone::new(&small());
    lone.post(0, write(), 700);
    lone.post(1, SendOperation::Send, 0);
    let sent = lone.sent();
    assert_eq!(
        brief(&sent),
        [(O::WriteFirst, 0), (O::WriteMiddle, 1), (O::WriteLast, 2), (O::SendOnly, 3)],
        "a request's packets follow each other, and its numbers go on where the last one's end"
    );
    let asks: Vec<bool> = sent.iter().map(|out| out.headers.bth.ack_req).collect();
    assert_eq!(asks, [false, false, true, true]);
    assert_eq!(sent[0].headers.reth, Some(Reth { va: 0x7000, rkey: 0x5555, len: 700 }));
    assert!(sent[1..].iter().all(|out| out.headers.reth.is_none()));
    let lengths: Vec<usize> = sent.iter().map(|out| out.payload.len()).collect();
    assert_eq!(lengths, [256, 256, 188, 0]);
}

#[test]
fn a_long_message_asks_for_an_ack_twice_a_window_and_every_32_packets() {
    for (window, most) in [(72 << 10, 36), (10_000, 5), (8 << 20, 32)] {
        let limits = Limits { window, ..Options::default().limits };
        let mut lone = Lone::new(&Options { limits, ..small() });
        lone.post(0, SendOperation::Send, 1 << 20);
        let mut silent = 0;
        loop {
            let sent = lone.sent();
            for out in &sent {
                silent = if out.headers.bth.ack_req { 0 } else { silent + 1 };
                assert!(silent < most, "{silent} packets without AckReq, window {window}");
            }
            assert_eq!(silent, 0, "whoever waits asked before");
            let Some(last) = sent.last() else { break };
            assert_eq!(lone.ack(last.number), Ok(()));
        }
        assert_eq!(lone.outcome(), [(0, Status::Success)]);
    }
}

#[test]
fn first_middle_and_last_packets_carry_what_belongs_to_them() {
    let mut lone = Lone::new(&small());
    let remote = Lone::REMOTE;
    lone.post(0, SendOperation::SendImmediate(9), 257);
    lone.post(1, SendOperation::SendInvalidate(8), 257);
    lone.post(2, SendOperation::WriteImmediate(remote, 7), 257);
    lone.post(3, SendOperation::WriteImmediate(remote, 6), 1);
    lone.post(4, SendOperation::SendImmediate(5), 1);
    lone.post(5, SendOperation::SendInvalidate(4), 1);
    lone.post(6, write(), 0);
    let sent = lone.sent();
    let seen: Vec<_> =
        sent.iter().map(|out| (out.operation, out.headers.immediate, out.headers.invalidate)).collect();
    assert_eq!(
        seen,
        [
            (O::SendFirst, None, None),
            (O::SendLastImm, Some(9), None),
            (O::SendFirst, None, None),
            (O::SendLastInvalidate, None, Some(8)),
            (O::WriteFirst, None, None),
            (O::WriteLastImm, Some(7), None),
            (O::WriteOnlyImm, Some(6), None),
            (O::SendOnlyImm, Some(5), None),
            (O::SendOnlyInvalidate, None, Some(4)),
            (O::WriteOnly, None, None),
        ]
    );
    assert!(sent.iter().all(|out| out.headers.bth.mig_req && out.headers.bth.pkey == 0xffff));
}

#[test]
fn only_what_completes_a_receive_request_is_solicited() {
    let mut lone = Lone::new(&small());
    let remote = Lone::REMOTE;
    let operations = [
        SendOperation::Send,
        SendOperation::SendImmediate(1),
        SendOperation::SendInvalidate(1),
        SendOperation::Write(remote),
        SendOperation::WriteImmediate(remote, 1),
        SendOperation::Read(remote),
        Lone::fetch_add(),
    ];
    for (id, operation) in (0..).zip(operations) {
        let len = if matches!(operation, SendOperation::Atomic(..)) { 8 } else { 300 };
        let buffers = vec![lone.slice(0, len as usize)];
        let request = SendRequest {
            id,
            operation,
            buffers,
            len,
            signaled: true,
            solicited: true,
            fence: false,
            destination: None,
        };
        lone.qp.post_send(request).expect("there is room");
    }
    let solicited: Vec<O> =
        lone.sent().iter().filter(|out| out.headers.bth.solicited).map(|out| out.operation).collect();
    assert_eq!(solicited, [O::SendLast, O::SendLastImm, O::SendLastInvalidate, O::WriteLastImm]);
}

#[test]
fn a_read_takes_a_number_for_each_packet_of_its_answer() {
    let mut lone = Lone::new(&small());
    for (id, len) in [(0, 0), (1, 256), (2, 257), (3, 1024)] {
        lone.post(id, read(), len);
    }
    lone.post(4, Lone::fetch_add(), 8);
    lone.post(5, SendOperation::Send, 1);
    let expected = [
        (O::ReadRequest, 0),
        (O::ReadRequest, 1),
        (O::ReadRequest, 2),
        (O::ReadRequest, 4),
        (O::FetchAdd, 8),
        (O::SendOnly, 9),
    ];
    assert_eq!(lone.sent_brief(), expected);
}

#[test]
fn reads_and_atomics_under_way_keep_to_max_rd_atomic() {
    let mut lone = Lone::new(&Options { rd_atomic: 2, ..small() });
    for id in 0..4 {
        lone.post(id, Lone::fetch_add(), 8);
    }
    lone.post(4, read(), 256);
    assert_eq!(lone.sent_brief(), [(O::FetchAdd, 0), (O::FetchAdd, 1)]);
    let result = |number| Lone::response(O::AtomicAcknowledge, number, ACK);
    assert_eq!(lone.handle(&result(0), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::FetchAdd, 2)]);
    assert_eq!(lone.handle(&result(1), &[]), Ok(()));
    assert_eq!(lone.handle(&result(2), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::FetchAdd, 3), (O::ReadRequest, 4)]);
    assert_eq!(lone.ram.bytes(lone.slice(0, 8)), 77_u64.to_ne_bytes());
}

#[test]
fn a_long_read_is_asked_for_in_pieces_that_the_window_takes() {
    let limits = Limits { window: 20_000, ..Options::default().limits };
    let mut lone = Lone::new(&Options { limits, ..small() });
    lone.post(0, read(), 256 * 40);
    let sent = lone.sent();
    // Half a window each, of 1024 bytes a packet with what it costs beside its payload.
    assert_eq!(brief(&sent), [(O::ReadRequest, 0), (O::ReadRequest, 9)]);
    let pieces: Vec<Reth> = sent.iter().filter_map(|out| out.headers.reth).collect();
    let piece = |va, len| Reth { va, rkey: 0x5555, len };
    assert_eq!(pieces, [piece(0x7000, 9 * 256), piece(0x7000 + 9 * 256, 9 * 256)]);
}

#[test]
fn a_missing_response_is_asked_for_once_within_its_piece() {
    let limits = Limits { window: 20_000, ..Options::default().limits };
    let mut lone = Lone::new(&Options { limits, ..small() });
    lone.post(0, read(), 256 * 18);
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 0), (O::ReadRequest, 9)]);
    let middle = |number| Lone::response(O::ReadResponseMiddle, number, ACK);
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseFirst, 0, ACK), &FULL), Ok(()));
    assert_eq!(lone.handle(&middle(1), &FULL), Ok(()));
    // Number 2 is lost; all that follows it shows the same gap.
    for number in 3..8 {
        assert_eq!(lone.handle(&middle(number), &FULL), Err(DropReason::ResponseGap));
    }
    let again = lone.sent();
    let reths: Vec<_> = again.iter().map(|out| (out.number, out.headers.reth.expect("a READ"))).collect();
    let part = |from: u32, to: u32| Reth {
        va: 0x7000 + 256 * u64::from(from),
        rkey: 0x5555,
        len: 256 * (to - from),
    };
    assert_eq!(reths, [(2, part(2, 9))], "the rest of the first piece; the window was halved");
    assert_eq!(
        lone.handle(&Lone::response(O::ReadResponseLast, 8, ACK), &FULL),
        Err(DropReason::ResponseGap)
    );
    assert_eq!(lone.sent(), [], "asked once");
    // A strict peer begins its repetition with FIRST, rxe with MIDDLE: either will do.
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseFirst, 2, ACK), &FULL), Ok(()));
    for number in 3..8 {
        assert_eq!(lone.handle(&middle(number), &FULL), Ok(()));
    }
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseLast, 8, ACK), &FULL), Ok(()));
    let rest: Vec<_> = lone.sent().iter().map(|out| (out.number, out.headers.reth)).collect();
    assert_eq!(rest, [(9, Some(part(9, 18)))], "the second piece, as it was asked for first");
}

#[test]
fn an_ack_beyond_a_read_shows_that_its_responses_were_lost() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 1);
    lone.post(1, read(), 512);
    lone.post(2, SendOperation::Send, 1);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0), (O::ReadRequest, 1), (O::SendOnly, 3)]);
    assert_eq!(lone.ack(3), Err(DropReason::ResponseGap));
    assert_eq!(lone.outcome(), [(0, Status::Success)], "what comes before the READ is acknowledged");
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 1), (O::SendOnly, 3)]);
}

#[test]
fn a_batch_of_messages_is_acknowledged_by_one_ack() {
    let mut lone = Lone::new(&small());
    for number in 0..10 {
        lone.post_recv(0, 64);
        assert_eq!(lone.handle(&Lone::request(O::SendOnly, number), &[1]), Ok(()));
    }
    let sent = lone.sent();
    assert_eq!(brief(&sent), [(O::Acknowledge, 9)]);
    assert_eq!(sent[0].syndrome(), Some(ACK));
    assert_eq!(sent[0].headers.aeth.map(|aeth| aeth.msn), Some(10));
}

#[test]
fn a_packet_that_does_not_ask_gets_no_ack() {
    let mut lone = Lone::new(&small());
    lone.post_recv(0, 1024);
    let mut first = Lone::request(O::SendFirst, 0);
    first.bth.ack_req = false;
    assert_eq!(lone.handle(&first, &FULL), Ok(()));
    assert_eq!(lone.sent(), []);
    assert_eq!(lone.handle(&Lone::request(O::SendMiddle, 1), &FULL), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 1)], "one in the middle may ask");
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    let mut lone = Lone::new(&small());
    lone.post_recv(0, 64);
    lone.post_recv(1, 64);
    let mut add = Lone::request(O::FetchAdd, 3);
    add.atomic = Some(lone.atomic(0));
    let original = lone.ram.bytes(lone.slice(0, 8));
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, 0), &[]), Ok(()));
    let reth = lone.reth(512, 500);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 1, reth), &[]), Ok(()));
    assert_eq!(lone.handle(&add, &[]), Ok(()));
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, 4), &[]), Ok(()));
    let sent = lone.sent();
    assert_eq!(
        brief(&sent),
        [
            (O::Acknowledge, 0),
            (O::ReadResponseFirst, 1),
            (O::ReadResponseLast, 2),
            (O::AtomicAcknowledge, 3),
            (O::Acknowledge, 4),
        ]
    );
    let original = u64::from_ne_bytes(*original.first_chunk().expect("8 bytes"));
    assert_eq!(sent[3].headers.atomic_ack, Some(original), "the number itself, not its bytes");
    assert_eq!([&sent[1].payload[..], &sent[2].payload[..]].concat(), lone.ram.bytes(lone.slice(512, 500)));
}

#[test]
fn read_responses_carry_an_aeth_except_in_the_middle() {
    let mut lone = Lone::new(&small());
    let mut number = 0;
    for (len, expected) in [
        (0, &[O::ReadResponseOnly][..]),
        (256, &[O::ReadResponseOnly]),
        (257, &[O::ReadResponseFirst, O::ReadResponseLast]),
        (1000, &[O::ReadResponseFirst, O::ReadResponseMiddle, O::ReadResponseMiddle, O::ReadResponseLast]),
    ] {
        let reth = lone.reth(0, len);
        assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, number, reth), &[]), Ok(()));
        let sent = lone.sent();
        assert!(sent.iter().map(|out| out.operation).eq(expected.iter().copied()));
        for out in &sent {
            assert_eq!(out.headers.aeth.is_none(), out.operation == O::ReadResponseMiddle);
            assert_eq!(out.number, number);
            number += 1;
        }
        let payload: Vec<u8> = sent.iter().flat_map(|out| out.payload.clone()).collect();
        assert_eq!(payload, lone.ram.bytes(lone.slice(0, len as usize)));
    }
}

#[test]
fn the_msn_counts_messages_not_packets() {
    let mut lone = Lone::new(&small());
    let mut msn_after = |headers, payload: &[u8]| {
        assert_eq!(lone.handle(&headers, payload), Ok(()));
        let sent = lone.sent();
        sent.last().and_then(|out| out.headers.aeth).map(|aeth| aeth.msn)
    };
    let reth = |len| Reth { va: VA, rkey: Lone::new(&small()).rkey(), len };
    assert_eq!(msn_after(Lone::request_with(O::WriteFirst, 0, reth(600)), &FULL), Some(0));
    assert_eq!(msn_after(Lone::request(O::WriteMiddle, 1), &FULL), Some(0));
    assert_eq!(msn_after(Lone::request(O::WriteLast, 2), &[0; 88]), Some(1));
    assert_eq!(msn_after(Lone::request_with(O::ReadRequest, 3, reth(600)), &[]), Some(2));
    assert_eq!(msn_after(Lone::request_with(O::WriteOnly, 6, reth(0)), &[]), Some(3));
}

#[test]
fn a_gap_is_answered_by_one_nak_until_it_is_filled() {
    let mut lone = Lone::new(&small());
    let nothing = lone.reth(0, 0);
    let write = |number| Lone::request_with(O::WriteOnly, number, nothing);
    assert_eq!(lone.handle(&write(0), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0)]);
    for ahead in [2, 3, 4, 2, 1_000_000, (1 << 23) - 1] {
        assert_eq!(lone.handle(&write(ahead), &[]), Err(DropReason::OutOfSequence));
    }
    let sent = lone.sent();
    assert_eq!((sent.len(), sent[0].number, sent[0].syndrome()), (1, 1, Some(SEQUENCE_ERROR)));
    assert_eq!(lone.handle(&write(3), &[]), Err(DropReason::OutOfSequence));
    assert_eq!(lone.sent(), [], "told once");
    assert_eq!(lone.handle(&write(1), &[]), Ok(()));
    assert_eq!(lone.handle(&write(3), &[]), Err(DropReason::OutOfSequence));
    let sent = lone.sent();
    let seen: Vec<_> = sent.iter().map(|out| (out.number, out.syndrome())).collect();
    assert_eq!(seen, [(1, Some(ACK)), (2, Some(SEQUENCE_ERROR))], "the next gap gets its own");
}

#[test]
fn a_gap_that_closes_before_the_nak_leaves_gets_none() {
    let mut lone = Lone::new(&small());
    let nothing = lone.reth(0, 0);
    let write = |number| Lone::request_with(O::WriteOnly, number, nothing);
    assert_eq!(lone.handle(&write(1), &[]), Err(DropReason::OutOfSequence));
    assert_eq!(lone.handle(&write(0), &[]), Ok(()));
    assert_eq!(lone.handle(&write(1), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 1)]);
}

#[test]
fn a_nak_sends_again_from_its_number_and_acknowledges_what_comes_before() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 600);
    lone.post(1, SendOperation::Send, 600);
    let first = lone.sent();
    assert_eq!(first.len(), 6);
    assert_eq!(lone.nak(4, SEQUENCE_ERROR), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success)]);
    let again = lone.sent();
    assert_eq!(again, first[4..], "the same packets, byte for byte");
}

#[test]
fn duplicates_of_sends_and_writes_are_acknowledged_again_and_not_executed() {
    let mut lone = Lone::new(&small());
    lone.post_recv(0, 256);
    lone.post_recv(1, 256);
    let reth = lone.reth(0, 4);
    let write = Lone::request_with(O::WriteOnly, 0, reth);
    let send = Lone::request(O::SendOnly, 1);
    assert_eq!(lone.handle(&write, &[1; 4]), Ok(()));
    assert_eq!(lone.handle(&send, &[2; 4]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 1)]);
    let (contents, tally, done) = (lone.ram.contents(), lone.ram.tally(), lone.done.clone());
    for _ in 0..3 {
        assert_eq!(lone.handle(&write, &[3; 4]), Err(DropReason::Duplicate));
        assert_eq!(lone.handle(&send, &[4; 4]), Err(DropReason::Duplicate));
        assert_eq!(lone.sent_brief(), [(O::Acknowledge, 1)]);
    }
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, -(1 << 23) + 2), &[]), Err(DropReason::Duplicate));
    assert!(lone.ram.contents() == contents && lone.ram.tally() == tally && lone.done == done);
}

#[test]
fn a_duplicate_is_never_acknowledged_with_the_number_of_a_read_or_atomic() {
    // rxe's requester takes an ACK with the PSN of a READ for its answer, and completes it without data.
    let mut lone = Lone::new(&small());
    let write = Lone::request_with(O::WriteOnly, 0, lone.reth(0, 4));
    assert_eq!(lone.handle(&write, &[1; 4]), Ok(()));
    let reth = lone.reth(0, 4);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 1, reth), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0), (O::ReadResponseOnly, 1)]);
    assert_eq!(lone.handle(&write, &[1; 4]), Err(DropReason::Duplicate));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0)]);
    let mut add = Lone::request(O::FetchAdd, 2);
    add.atomic = Some(lone.atomic(0));
    assert_eq!(lone.handle(&add, &[]), Ok(()));
    assert_eq!(lone.handle(&write, &[1; 4]), Err(DropReason::Duplicate));
    assert_eq!(lone.sent_brief(), [(O::AtomicAcknowledge, 2)], "which acknowledges the WRITE, too");
}

#[test]
fn a_duplicate_read_is_answered_again_whole_or_in_part() {
    let mut lone = Lone::new(&small());
    let whole = lone.reth(0, 1000);
    let read = |number, reth| Lone::request_with(O::ReadRequest, number, reth);
    assert_eq!(lone.handle(&read(0, whole), &[]), Ok(()));
    let first = lone.sent();
    assert_eq!(first.len(), 4);
    assert_eq!(lone.handle(&read(0, whole), &[]), Err(DropReason::Duplicate));
    assert_eq!(lone.sent(), first);
    let mut expect = |number, reth, expected: &[(O, i32)]| {
        let result = lone.handle(&read(number, reth), &[]);
        let unknown = expected.is_empty();
        assert_eq!(result, Err(if unknown { DropReason::UnknownDuplicate } else { DropReason::Duplicate }));
        let sent = lone.sent();
        assert_eq!(brief(&sent), expected);
        let bytes: Vec<u8> = sent.iter().flat_map(|out| out.payload.clone()).collect();
        if !unknown {
            let start = usize::try_from(reth.va - VA).expect("small");
            assert_eq!(bytes, lone.ram.bytes(lone.slice(start, reth.len as usize)));
        }
    };
    let part = |from: u64, len| Reth { va: VA + from, len, ..whole };
    use O::{
        ReadResponseFirst as F, ReadResponseLast as L, ReadResponseMiddle as M, ReadResponseOnly as Only,
    };
    expect(1, part(256, 744), &[(F, 1), (M, 2), (L, 3)]);
    expect(3, part(768, 232), &[(Only, 3)]);
    expect(1, part(256, 512), &[(F, 1), (L, 2)]);
    // Outside the original range, or not at its place, or with another key: not known.
    expect(1, part(256, 745), &[]);
    expect(1, part(0, 744), &[]);
    expect(1, part(256, 100), &[]);
    expect(0, part(0, 1001), &[]);
    expect(0, part(0, 0), &[]);
    expect(-1, part(0, 1000), &[]);
    expect(0, Reth { rkey: whole.rkey ^ 1, ..whole }, &[]);
}

#[test]
fn a_read_asked_for_again_while_it_is_answered_is_repeated_once_behind_its_end() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 256 * 10);
    let read = Lone::request_with(O::ReadRequest, 0, reth);
    assert_eq!(lone.handle(&read, &[]), Ok(()));
    for number in 0..6 {
        assert_eq!(lone.next_sent().map(|out| out.number), Some(number));
    }
    let rest = |from: u32| {
        let rest = Reth { va: VA + u64::from(256 * from), len: 256 * (10 - from), ..reth };
        Lone::request_with(O::ReadRequest, i32::try_from(from).expect("small"), rest)
    };
    for from in [4, 3, 5, 3] {
        assert_eq!(lone.handle(&rest(from), &[]), Err(DropReason::Duplicate));
    }
    let sent: Vec<_> = lone.sent_brief();
    let numbers: Vec<_> = sent.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (6..10).chain(3..10).collect::<Vec<_>>(), "the earliest, once");
    assert_eq!((sent[4], sent[10]), ((O::ReadResponseFirst, 3), (O::ReadResponseLast, 9)));
    // What has not left yet is on its way anyhow; nor does a part that ends earlier cut it short.
    assert_eq!(lone.handle(&read, &[]), Err(DropReason::Duplicate));
    assert_eq!(lone.next_sent().map(|out| out.number), Some(0));
    assert_eq!(lone.handle(&rest(1), &[]), Err(DropReason::Duplicate));
    let part = Reth { len: 512, ..reth };
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, part), &[]), Err(DropReason::Duplicate));
    let numbers: Vec<_> = lone.sent_brief().iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (1..10).collect::<Vec<_>>());
}

#[test]
fn a_read_repeated_without_end_makes_no_packet_leave_more_often_than_a_patient_peer_would() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 256 * 32);
    let read = Lone::request_with(O::ReadRequest, 0, reth);
    assert_eq!(lone.handle(&read, &[]), Ok(()));
    let mut sent = [0; 32];
    for _ in 0..32 * 10 {
        let number = lone.next_sent().map(|out| usize::try_from(out.number).expect("from 0"));
        sent[number.expect("there is always more")] += 1;
        assert_eq!(lone.handle(&read, &[]), Err(DropReason::Duplicate));
    }
    assert_eq!(sent, [10; 32], "each time all of it, whatever was asked meanwhile");
}

#[test]
fn a_read_is_answered_again_only_so_often_and_the_connection_goes_on() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 256 * 4);
    let read = |number| Lone::request_with(O::ReadRequest, number, reth);
    let half = Reth { va: VA + 512, len: 512, ..reth };
    for begin in [0, 4] {
        assert_eq!(lone.handle(&read(begin), &[]), Ok(()));
        assert_eq!(lone.sent().len(), 4);
        // As often as 64 times the whole of it, by whatever parts.
        for _ in 0..60 {
            assert_eq!(lone.handle(&read(begin), &[]), Err(DropReason::Duplicate));
            assert_eq!(lone.sent().len(), 4);
        }
        for _ in 0..8 {
            let rest = Lone::request_with(O::ReadRequest, begin + 2, half);
            assert_eq!(lone.handle(&rest, &[]), Err(DropReason::Duplicate));
            assert_eq!(lone.sent().len(), 2);
        }
        for number in [begin, begin + 2] {
            let again =
                if number == begin { read(begin) } else { Lone::request_with(O::ReadRequest, number, half) };
            assert_eq!(lone.handle(&again, &[]), Err(DropReason::Repeated));
            assert_eq!(lone.sent(), []);
        }
    }
}

#[test]
fn read_responses_leave_as_far_as_they_are_allowed_and_hold_up_nothing_but_answers() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 256 * 10);
    lone.qp.allow_read_responses(700);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, reth), &[]), Ok(()));
    lone.post(0, SendOperation::Send, 4);
    let numbers = |lone: &mut Lone| lone.sent_brief().iter().map(|(_, number)| *number).collect::<Vec<_>>();
    assert!(!lone.qp.read_responses_wait());
    let sent = lone.sent_brief();
    let expected =
        [(O::ReadResponseFirst, 0), (O::ReadResponseMiddle, 1), (O::ReadResponseMiddle, 2), (O::SendOnly, 0)];
    assert_eq!(sent, expected);
    assert!(lone.qp.read_responses_wait());
    assert_eq!(numbers(&mut lone), [0; 0]);
    lone.qp.allow_read_responses(1);
    assert_eq!(numbers(&mut lone), [3]);
    lone.qp.allow_read_responses(u64::MAX);
    assert_eq!(numbers(&mut lone), (4..10).collect::<Vec<_>>());
    assert!(!lone.qp.read_responses_wait());
}

#[test]
fn a_duplicate_atomic_brings_the_saved_result_and_a_forgotten_one_nothing() {
    let mut lone = Lone::new(&Options { rd_atomic: 2, ..small() });
    let add = |number| {
        let mut headers = Lone::request(O::FetchAdd, number);
        headers.atomic = Some(Lone::new(&small()).atomic(8));
        headers
    };
    let word = |lone: &Lone| u64::from_ne_bytes(*lone.ram.bytes(lone.slice(8, 8)).first_chunk().expect("8"));
    let original = word(&lone);
    for number in 0..3 {
        assert_eq!(lone.handle(&add(number), &[]), Ok(()));
        assert_eq!(lone.sent_brief(), [(O::AtomicAcknowledge, number)]);
    }
    assert_eq!(lone.handle(&add(0), &[]), Err(DropReason::UnknownDuplicate));
    assert_eq!(lone.sent(), []);
    for number in [1, 2] {
        assert_eq!(lone.handle(&add(number), &[]), Err(DropReason::Duplicate));
        let sent = lone.sent();
        let past = u64::try_from(number).expect("small");
        assert_eq!(sent[0].headers.atomic_ack, Some(original.wrapping_add(past)));
    }
    assert_eq!(word(&lone), original.wrapping_add(3), "executed once each");
}

#[test]
fn an_rnr_nak_is_honoured_to_the_microsecond() {
    for timer in [0, 1, 5, 12, 31] {
        let mut lone = Lone::new(&small());
        lone.post(0, SendOperation::Send, 1);
        lone.post(1, SendOperation::Send, 1);
        let first = lone.sent();
        assert_eq!(lone.nak(0, Syndrome::RnrNak { timer }), Ok(()));
        assert_eq!(lone.qp.poll_timeout(), Some(lone.now + rnr_delay(timer)));
        assert_eq!(lone.nak(0, Syndrome::RnrNak { timer }), Err(DropReason::StaleResponse), "a copy of it");
        lone.wait(rnr_delay(timer) - Duration::from_nanos(1));
        lone.qp.handle_timeout(lone.now);
        assert_eq!(lone.sent(), []);
        assert!(lone.time_out());
        assert_eq!(lone.sent(), first);
    }
}

#[test]
fn a_send_without_receive_request_is_answered_by_an_rnr_nak_with_the_configured_timer() {
    let mut lone = Lone::new(&Options { min_rnr_timer: 17, ..small() });
    let send = |number| Lone::request(O::SendOnly, number);
    assert_eq!(lone.handle(&send(0), &[]), Err(DropReason::ReceiverNotReady));
    assert_eq!(lone.handle(&send(1), &[]), Err(DropReason::OutOfSequence));
    let sent = lone.sent();
    assert_eq!(brief(&sent), [(O::Acknowledge, 0)], "what follows is dropped in silence");
    assert_eq!(sent[0].syndrome(), Some(Syndrome::RnrNak { timer: 17 }));
    lone.post_recv(0, 0);
    assert_eq!(lone.handle(&send(0), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0)]);
}

#[test]
fn a_write_with_immediate_waits_with_its_last_packet_for_a_receive_request() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 300);
    assert_eq!(lone.handle(&Lone::request_with(O::WriteFirst, 0, reth), &FULL), Ok(()));
    let last = Lone::request(O::WriteLastImm, 1);
    for _ in 0..3 {
        assert_eq!(lone.handle(&last, &[9; 44]), Err(DropReason::ReceiverNotReady));
    }
    lone.post_recv(5, 0);
    assert_eq!(lone.handle(&last, &[9; 44]), Ok(()));
    assert_eq!(lone.ram.tally().written, 300);
    assert_eq!(lone.outcome(), [(5, Status::Success)]);
    // The same for one of a single packet.
    let only = Lone::request_with(O::WriteOnlyImm, 2, lone.reth(0, 4));
    assert_eq!(lone.handle(&only, &[1; 4]), Err(DropReason::ReceiverNotReady));
    lone.post_recv(6, 0);
    assert_eq!(lone.handle(&only, &[1; 4]), Ok(()));
    assert_eq!(lone.ram.tally().written, 304);
}

#[test]
fn reads_and_writes_of_nothing_need_no_key() {
    let mut lone = Lone::new(&small());
    let nothing = Reth { va: u64::MAX, rkey: 0xdead_beef, len: 0 };
    assert_eq!(lone.handle(&Lone::request_with(O::WriteOnly, 0, nothing), &[]), Ok(()));
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 1, nothing), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0), (O::ReadResponseOnly, 1)]);
}

#[test]
fn after_an_error_a_queue_pair_reads_no_memory_for_its_peer() {
    let mut lone = Lone::new(&small());
    lone.post_recv(0, 64);
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, 0), &[]), Ok(()));
    let reth = lone.reth(0, 2048);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 1, reth), &[]), Ok(()));
    lone.qp.modify(Transition::Error).expect("any state to ERR");
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0)], "what was done is still acknowledged");
    assert_eq!(lone.ram.tally().read, 0);
    // The same when its own side fails.
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 1);
    assert_eq!(lone.sent().len(), 1);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, reth), &[]), Ok(()));
    assert_eq!(lone.nak(0, Syndrome::Nak(NakCode::RemoteOperational)), Ok(()));
    assert_eq!(lone.sent(), []);
}

#[test]
fn a_read_repeated_after_its_region_went_ends_only_a_peer_that_needs_it() {
    let mut lone = Lone::new(&small());
    let read = Lone::request_with(O::ReadRequest, 0, lone.reth(0, 512));
    assert_eq!(lone.handle(&read, &[]), Ok(()));
    assert_eq!(lone.sent().len(), 2);
    lone.ram.revoke(lone.region);
    // A copy that the network made, or a peer that lost the answer: nobody can tell.
    assert_eq!(lone.handle(&read, &[]), Err(DropReason::Duplicate));
    let sent = lone.sent();
    assert_eq!(brief(&sent), [(O::Acknowledge, 0)]);
    assert_eq!(sent[0].syndrome(), Some(Syndrome::Nak(NakCode::RemoteAccess)));
    assert_eq!(lone.qp.state(), State::ReadyToSend);
    assert_eq!(lone.events, []);
    let nothing = lone.reth(0, 0);
    assert_eq!(lone.handle(&Lone::request_with(O::WriteOnly, 2, nothing), &[]), Ok(()), "it goes on");
}

#[test]
fn packets_of_a_message_that_wraps_have_numbers_that_wrap() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 256 * 5);
    let psns: Vec<u32> = lone.sent().iter().map(|out| out.headers.bth.psn.get()).collect();
    assert_eq!(psns, [0xff_fffe, 0xff_ffff, 0, 1, 2]);
    assert_eq!((SQ, RQ), (Psn::truncate(psns[0]), Psn::truncate(psns[0] - 1)));
}

#[test]
fn one_ack_answers_a_batch_that_was_drained_from_a_socket() {
    let count_acks = |receiving| {
        let link = LinkConfig {
            latency_ns: 10_000,
            bandwidth_bits_per_s: Some(1_000_000_000),
            ..LinkConfig::default()
        };
        let mut world = World::new(link, receiving, 0);
        let pair = world.connect(&Options { mtu: Mtu::B256, ..Options::default() });
        world.trace = Some(Vec::new());
        for id in 0..20 {
            let request = SendRequest {
                id,
                operation: SendOperation::Write(Lone::REMOTE),
                buffers: Vec::new(),
                len: 0,
                signaled: true,
                solicited: false,
                fence: false,
                destination: None,
            };
            world.hosts[0].ends[pair].qp.post_send(request).expect("there is room");
        }
        world.pump(0, pair);
        world.run(Duration::from_secs(1));
        assert_eq!(world.hosts[0].ends[pair].done.len(), 20);
        world.trace.iter().flatten().filter(|sent| sent.from == 1).count()
    };
    assert_eq!(count_acks(Receiving::Single), 20);
    assert_eq!(count_acks(Receiving::Batch(Duration::from_millis(1))), 1);
}

#[test]
fn a_lone_ack_lets_the_answer_go_first_but_does_not_wait_for_more_than_a_run_of_packets() {
    let mut lone = Lone::new(&small());
    for (posted, packets) in [(1_u8, 1), (40, 16)] {
        lone.restart(State::ReadyToSend, &small());
        lone.post_recv(0, 64);
        assert_eq!(lone.handle(&Lone::request(O::SendOnly, 0), &[1]), Ok(()));
        (0..posted).for_each(|id| lone.post(id.into(), SendOperation::Send, 1));
        let mut expected: Vec<_> = (0..posted).map(|number| (O::SendOnly, i32::from(number))).collect();
        expected.insert(packets, (O::Acknowledge, 0));
        assert_eq!(lone.sent_brief(), expected);
    }
}

#[test]
fn an_ack_waits_until_it_is_told_to_leave() {
    let mut lone = Lone::new(&small());
    for number in 0..2 {
        lone.post_recv(0, 64);
        assert_eq!(lone.handle(&Lone::request(O::SendOnly, number), &[1]), Ok(()));
    }
    lone.qp.let_ack_wait(true);
    assert_eq!(lone.sent(), []);
    lone.qp.let_ack_wait(false);
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 1)], "one for both");
}

#[test]
fn only_a_lone_ack_waits() {
    let mut lone = Lone::new(&small());
    lone.qp.let_ack_wait(true);
    lone.post_recv(0, 64);
    let reth = lone.reth(0, 8);
    assert_eq!(lone.handle(&Lone::request(O::SendOnly, 0), &[1]), Ok(()));
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 1, reth), &[]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0), (O::ReadResponseOnly, 1)]);
    assert!(lone.handle(&Lone::request(O::SendOnly, 9), &[1]).is_err());
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 2)], "a NAK");
    lone.post(0, SendOperation::Send, 1);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0)], "requests don't");
}
