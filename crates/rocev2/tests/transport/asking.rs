//! When a requester asks for an ACK, and what it makes of silence where it hasn't.

use super::lone::{ACK, Lone, OWN, Out, SEQUENCE_ERROR, small};
use super::world::Options;
use rocev2::Psn;
use rocev2::transport::{DropReason, Limits};
use rocev2::wire::{Bth, Headers, Opcode, Operation as O, Syndrome};
use rocev2::work::{SendOperation, State, Status, Transition};
use std::time::Duration;

/// Payload of a full packet.
const FULL: [u8; 256] = [7; 256];

/// A queue pair with room for so many send requests.
fn with_room_for(max_send_requests: usize) -> Lone {
    let options = Options::default();
    Lone::new(&Options { limits: Limits { max_send_requests, ..options.limits }, ..options })
}

/// Posts a short SEND whose completion isn't reported.
fn post_quietly(lone: &mut Lone, id: u64) {
    lone.try_post(id, SendOperation::Send, 64, false).expect("the request is taken");
}

/// Which of the packets ask for an ACK, by their numbers.
fn asking(sent: &[Out]) -> Vec<i32> {
    sent.iter().filter(|out| out.headers.bth.ack_req).map(|out| out.number).collect()
}

#[test]
fn only_what_is_reported_asks_for_an_ack() {
    let mut lone = with_room_for(64);
    for id in 0..5 {
        lone.try_post(id, SendOperation::Send, 64, id == 3).expect("the request is taken");
    }
    assert_eq!(asking(&lone.sent()), [3]);
    assert_eq!(lone.ack(3), Ok(()));
    assert_eq!(lone.outcome(), [(3, Status::Success)]);
    assert_eq!(lone.qp.snapshot().send_outstanding, 1);
}

#[test]
fn a_queue_that_fills_with_what_is_not_reported_asks_for_an_ack_in_time() {
    let mut lone = with_room_for(8);
    for id in 0..8 {
        post_quietly(&mut lone, id);
    }
    assert_eq!(asking(&lone.sent()), [3, 7]);
    assert_eq!(lone.ack(3), Ok(()));
    for id in 8..12 {
        post_quietly(&mut lone, id);
    }
    assert_eq!(asking(&lone.sent()), [11]);
    assert_eq!(lone.qp.snapshot().requester.retransmitted, 0);
}

#[test]
fn a_queue_of_one_asks_each_time() {
    let mut lone = with_room_for(1);
    for id in 0..3 {
        post_quietly(&mut lone, id);
        let number = i32::try_from(id).expect("a small number");
        assert_eq!(asking(&lone.sent()), [number]);
        assert_eq!(lone.ack(number), Ok(()));
    }
}

#[test]
fn a_slow_stream_of_what_is_not_reported_asks_before_silence_does() {
    let mut lone = with_room_for(1000);
    let mut asked = Vec::new();
    for id in 0..40 {
        post_quietly(&mut lone, id);
        let numbers = asking(&lone.sent());
        for &number in &numbers {
            assert_eq!(lone.ack(number), Ok(()));
        }
        asked.extend(numbers);
        lone.wait(Duration::from_micros(100));
        lone.qp.handle_timeout(lone.now);
    }
    assert_eq!(asked, [5, 11, 17, 23, 29, 35], "an ACK each 600 µs");
    assert_eq!(lone.qp.snapshot().requester.retransmitted, 0);
}

#[test]
fn silence_that_nobody_asked_to_end_is_no_loss() {
    let mut lone = with_room_for(64);
    for id in 0..3 {
        post_quietly(&mut lone, id);
    }
    assert_eq!(asking(&lone.sent()), []);
    assert!(lone.time_out());
    // One packet, sent again, asks for all.
    let again = lone.sent();
    assert_eq!((again.iter().map(|out| out.number).collect::<Vec<_>>(), asking(&again)), (vec![0], vec![0]));
    assert_eq!(lone.ack(2), Ok(()));
    assert_eq!(lone.sent(), []);
    assert_eq!((lone.qp.snapshot().requester.timeouts, lone.qp.losses()), (0, 0));
    assert_eq!(lone.qp.snapshot().send_outstanding, 0);
    assert_eq!(lone.qp.poll_timeout(), None, "nothing is awaited any more");
}

#[test]
fn what_was_lost_and_asked_for_nothing_is_sent_again() {
    let mut lone = with_room_for(64);
    for id in 0..3 {
        post_quietly(&mut lone, id);
    }
    assert_eq!(lone.sent().len(), 3);
    assert!(lone.time_out());
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0)]);
    // It alone arrives; the others were lost as well.
    assert_eq!((lone.qp.losses(), lone.ack(0)), (0, Ok(())));
    assert!(lone.qp.losses() > 0);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 1), (O::SendOnly, 2)]);
    assert!(lone.time_out());
    assert_eq!(lone.ack(2), Ok(()));
    assert_eq!(lone.qp.snapshot().send_outstanding, 0);
}

#[test]
fn a_peer_that_has_gone_is_noticed_where_nothing_was_asked() {
    let mut lone = with_room_for(64);
    post_quietly(&mut lone, 0);
    let begun = lone.now;
    assert_eq!(lone.sent().len(), 1);
    while lone.qp.state() == State::ReadyToSend {
        assert!(lone.time_out(), "it goes on asking");
        lone.sent();
    }
    assert_eq!(lone.outcome(), [(0, Status::RetryExceeded)]);
    assert!(lone.now.since(begun) < Duration::from_secs(60));
}

#[test]
fn an_ack_that_is_asked_for_has_all_its_time() {
    let mut lone = with_room_for(64);
    post_quietly(&mut lone, 0);
    lone.sent();
    let silence = lone.qp.poll_timeout().expect("it will ask");
    // Just before, something else asks.
    lone.now = silence;
    lone.post(1, SendOperation::Send, 64);
    assert_eq!(asking(&lone.sent()), [1]);
    lone.qp.handle_timeout(silence);
    assert_eq!(lone.sent(), [], "the answer can't have come yet");
    assert!(lone.qp.poll_timeout().is_some_and(|at| at > silence));
}

/// Of a slow stream over a path of 50 ms: how often each message was sent again.
fn repetitions(signaled: bool) -> Vec<u64> {
    let mut lone = with_room_for(64);
    let mut again = Vec::new();
    for id in 0..20 {
        let before = lone.qp.snapshot().requester.retransmitted;
        lone.try_post(id, SendOperation::Send, 64, signaled).expect("the request is taken");
        let mut answer = None;
        loop {
            if lone.sent().iter().any(|out| out.headers.bth.ack_req) {
                answer = answer.or(Some(lone.now + Duration::from_millis(50)));
            }
            match answer {
                Some(answer) if lone.qp.poll_timeout().is_none_or(|at| at >= answer) => {
                    lone.now = answer;
                    break;
                }
                _ => assert!(lone.time_out(), "it asks some time"),
            }
        }
        assert_eq!(lone.ack(i32::try_from(id).expect("a small number")), Ok(()));
        lone.wait(Duration::from_millis(500));
        again.push(lone.qp.snapshot().requester.retransmitted - before);
    }
    again
}

#[test]
fn the_round_trip_of_a_long_path_is_learnt_from_what_asks() {
    assert!(repetitions(true)[2..].iter().all(|&again| again == 0));
    assert!(
        repetitions(false)[2..].iter().all(|&again| again == 1),
        "once, to ask: {:?}",
        repetitions(false)
    );
}

#[test]
fn who_waits_for_the_window_has_asked() {
    let mut lone = Lone::new(&Options { rd_atomic: 1, ..Options::default() });
    lone.try_post(0, SendOperation::Write(Lone::REMOTE), 20_000, false).expect("the request is taken");
    // Its first piece takes all of the window.
    lone.post(1, SendOperation::Read(Lone::REMOTE), 1 << 19);
    assert_ne!(asking(&lone.sent()), []);
}

#[test]
fn who_waits_for_a_window_that_has_shrunk_has_asked() {
    let mut lone = Lone::new(&Options::default());
    for id in 0..20 {
        lone.try_post(id, SendOperation::Write(Lone::REMOTE), 1024, false).expect("the request is taken");
    }
    assert_eq!(asking(&lone.sent()), []);
    for _ in 0..2 {
        let congestion = Headers::new(Bth::new(Opcode::Cnp, OWN, Psn::truncate(0)));
        assert_eq!(lone.handle(&congestion, &[]), Ok(()));
    }
    lone.post(99, SendOperation::Send, 1024);
    assert_eq!(asking(&lone.sent()), [0]);
}

#[test]
fn who_drains_asks_when_all_has_left() {
    let mut lone = with_room_for(64);
    post_quietly(&mut lone, 0);
    assert_eq!(asking(&lone.sent()), []);
    lone.qp.modify(Transition::Drain).expect("it may drain");
    assert_eq!(asking(&lone.sent()), [0]);
    assert_eq!(lone.sent(), [], "once");
}

/// Two messages that ask for nothing, and one that does, since the last word of the peer is long ago.
fn asked_by_the_third(lone: &mut Lone) {
    post_quietly(lone, 0);
    post_quietly(lone, 1);
    assert_eq!(asking(&lone.sent()), []);
    lone.wait(Duration::from_micros(600));
    post_quietly(lone, 2);
    assert_eq!(asking(&lone.sent()), [2]);
}

#[test]
fn what_asked_before_a_loss_is_not_awaited_behind_it() {
    for refusal in [SEQUENCE_ERROR, Syndrome::RnrNak { timer: 1 }] {
        // 1 ms without an answer that was asked for ends the connection.
        let mut lone = Lone::new(&Options { timeout: 8, retry_count: 0, ..Options::default() });
        asked_by_the_third(&mut lone);
        assert_eq!(lone.nak(0, refusal), Ok(()));
        if refusal != SEQUENCE_ERROR {
            assert!(lone.time_out(), "it waits as long as the peer wants");
        }
        let again = lone.sent();
        assert_eq!((again.len(), asking(&again)), (3, vec![]), "{refusal:?}");
        assert!(lone.time_out());
        assert_eq!(asking(&lone.sent()), [0], "{refusal:?}");
        assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::ReadyToSend), "{refusal:?}");
        assert_eq!(lone.qp.snapshot().requester.timeouts, 0, "{refusal:?}");
    }
}

#[test]
fn a_message_behind_silence_leaves_at_once() {
    let mut lone = with_room_for(64);
    post_quietly(&mut lone, 0);
    lone.sent();
    assert!(lone.time_out());
    assert_eq!(asking(&lone.sent()), [0]);
    lone.post(1, SendOperation::Send, 64);
    assert_eq!(asking(&lone.sent()), [1]);
}

#[test]
fn a_read_that_is_about_to_be_sent_again_is_not_asked_for_otherwise() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Read(Lone::REMOTE), 1000);
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 0)]);
    // The first answer was lost; silence rings before the repetition has left.
    let second = Lone::response(O::ReadResponseMiddle, 1, ACK);
    assert_eq!(lone.handle(&second, &FULL), Err(DropReason::ResponseGap));
    assert!(lone.time_out());
    let again = lone.sent();
    assert_eq!(
        again.iter().map(|out| out.headers.reth.map(|reth| reth.len)).collect::<Vec<_>>(),
        [Some(1000)]
    );
}
