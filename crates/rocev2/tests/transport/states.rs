//! The states: which transitions there are, what each state takes, draining, fences, and the events that
//! states give rise to.

use super::lone::{ACK, Lone, OWN, PEER, RQ, SQ, small};
use super::memory::Rights;
use super::rng::Rng;
use super::world::{Options, transitions};
use rocev2::transport::DropReason;
use rocev2::wire::{Bth, Headers, Opcode, Operation as O, Transport};
use rocev2::work::{
    AsyncEvent, InitAttributes, MAX_MESSAGE, MAX_RD_ATOMIC, ModifyError, PeerRights, PostError, RecvRequest,
    SendOperation, SendRequest, State, Status, Transition,
};
use rocev2::{Psn, Qpn};

const STATES: [State; 6] = [
    State::Reset,
    State::Init,
    State::ReadyToReceive,
    State::ReadyToSend,
    State::SendQueueDrain,
    State::Error,
];

/// Every transition, with the states that allow it: those of `qp_state_table` in Linux's verbs.c for RC that
/// this crate has.
fn all_transitions() -> [(Transition, &'static [State]); 7] {
    use State::{Error, Init, ReadyToReceive, ReadyToSend, Reset, SendQueueDrain};
    let [init, receive, send] = transitions(&small(), PEER, SQ, RQ);
    [
        (Transition::Reset, &STATES),
        (init, &[Reset, Init]),
        (receive, &[Init]),
        (send, &[ReadyToReceive]),
        (Transition::Drain, &[ReadyToSend]),
        (Transition::Resume, &[SendQueueDrain]),
        (Transition::Error, &[Init, ReadyToReceive, ReadyToSend, SendQueueDrain, Error]),
    ]
}

#[test]
fn each_state_allows_its_transitions_and_refuses_the_others_unchanged() {
    for from in STATES {
        for (transition, allowed) in all_transitions() {
            let mut lone = Lone::in_state(from, &small());
            let before = lone.qp.snapshot();
            let result = lone.qp.modify(transition);
            if allowed.contains(&from) {
                assert_eq!(result, Ok(()), "{from} by {transition:?}");
                assert_eq!(lone.qp.state(), transition.target());
            } else {
                let to = transition.target();
                assert_eq!(result, Err(ModifyError::Transition { from, to }), "{from} by {transition:?}");
                assert_eq!(lone.qp.snapshot(), before);
            }
        }
    }
}

#[test]
fn an_attribute_out_of_its_range_is_refused_by_name_and_nothing_changes() {
    type Change = (&'static str, u8, fn(&mut Options, u8));
    let receive: [Change; 2] = [
        ("max_dest_rd_atomic", MAX_RD_ATOMIC, |options, value| options.rd_atomic = value),
        ("min_rnr_timer", 31, |options, value| options.min_rnr_timer = value),
    ];
    let send: [Change; 4] = [
        ("timeout", 31, |options, value| options.timeout = value),
        ("retry_count", 7, |options, value| options.retry_count = value),
        ("rnr_retry", 7, |options, value| options.rnr_retry = value),
        ("max_rd_atomic", MAX_RD_ATOMIC, |options, value| options.rd_atomic = value),
    ];
    let cases = receive.map(|change| (State::Init, 1, change)).into_iter();
    for (from, step, (name, max, change)) in
        cases.chain(send.map(|change| (State::ReadyToReceive, 2, change)))
    {
        for value in [0, max, max + 1, u8::MAX] {
            let mut lone = Lone::in_state(from, &small());
            let before = lone.qp.snapshot();
            let mut options = small();
            change(&mut options, value);
            let result = lone.qp.modify(transitions(&options, PEER, SQ, RQ)[step]);
            if value <= max {
                assert_eq!(result, Ok(()), "{name} = {value}");
            } else {
                assert_eq!(result, Err(ModifyError::Attribute { name, value, max }));
                assert_eq!(lone.qp.snapshot(), before);
            }
        }
    }
}

#[test]
fn a_query_tells_what_was_set() {
    let mut lone = Lone::in_state(State::Init, &small());
    assert_eq!(lone.qp.snapshot().rights, small().rights);
    let rights = PeerRights { read: true, ..PeerRights::default() };
    lone.qp.modify(Transition::Init(InitAttributes { rights })).expect("INIT to INIT");
    assert_eq!(lone.qp.snapshot().rights, rights);
    let [_, receive, send] = transitions(&small(), PEER, SQ, RQ);
    for transition in [receive, send] {
        lone.qp.modify(transition).expect("the usual transitions");
    }
    let snapshot = lone.qp.snapshot();
    assert_eq!(snapshot.receive.map(Transition::ReadyToReceive), Some(receive));
    assert_eq!(snapshot.send.map(Transition::ReadyToSend), Some(send));
    assert_eq!(snapshot.state, State::ReadyToSend);
    assert!(!format!("{:?}", *lone.qp).to_lowercase().contains("psn"), "PSNs stay out of logs");
}

#[test]
fn each_state_takes_the_requests_that_belong_to_it() {
    for state in STATES {
        let mut lone = Lone::in_state(state, &small());
        let sends = lone.try_post(0, SendOperation::Send, 1, false);
        let receives = lone.qp.post_recv(RecvRequest { id: 1, buffers: Vec::new(), len: 0 });
        let sends_taken = matches!(state, State::ReadyToSend | State::SendQueueDrain | State::Error);
        assert_eq!(sends, if sends_taken { Ok(()) } else { Err(PostError::State(state)) });
        let receives_taken = state != State::Reset;
        assert_eq!(receives, if receives_taken { Ok(()) } else { Err(PostError::State(state)) });
        let sent = lone.sent_brief();
        assert_eq!(sent, if state == State::ReadyToSend { vec![(O::SendOnly, 0)] } else { vec![] });
        let outcome = lone.outcome();
        if state == State::Error {
            assert_eq!(outcome, [(0, Status::Flushed), (1, Status::Flushed)], "without signal, too");
        } else {
            assert_eq!(outcome, []);
        }
    }
}

#[test]
fn malformed_requests_are_not_taken() {
    let mut lone = Lone::new(&small());
    let mut post = |operation, len| {
        let request = SendRequest {
            id: 0,
            operation,
            buffers: Vec::new(),
            len,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        lone.qp.post_send(request)
    };
    assert_eq!(
        post(SendOperation::Send, MAX_MESSAGE + 1),
        Err(PostError::TooLong(u64::from(MAX_MESSAGE) + 1))
    );
    assert_eq!(post(SendOperation::Read(Lone::REMOTE), u32::MAX), Err(PostError::TooLong(u32::MAX.into())));
    assert_eq!(post(SendOperation::Read(Lone::REMOTE), MAX_MESSAGE), Ok(()));
    for len in [0, 4, 7, 9, 16] {
        assert_eq!(post(Lone::fetch_add(), len), Err(PostError::AtomicLength(len)));
    }
}

#[test]
fn queues_take_as_many_requests_as_they_were_made_for() {
    let mut options = small();
    (options.limits.max_send_requests, options.max_recv_requests) = (3, 2);
    let mut lone = Lone::new(&options);
    for id in 0..3 {
        lone.post(id, SendOperation::Send, 1);
    }
    assert_eq!(lone.try_post(3, SendOperation::Send, 1, true), Err(PostError::QueueFull(3)));
    for id in 0..2 {
        lone.post_recv(id, 600);
    }
    let one_more = |lone: &mut Lone| lone.qp.post_recv(RecvRequest { id: 9, buffers: Vec::new(), len: 0 });
    assert_eq!(one_more(&mut lone), Err(PostError::QueueFull(2)));
    assert_eq!(lone.sent().len(), 3);
    assert_eq!(
        lone.try_post(3, SendOperation::Send, 1, true),
        Err(PostError::QueueFull(3)),
        "sent isn't done"
    );
    assert_eq!(lone.ack(0), Ok(()));
    assert_eq!(lone.try_post(3, SendOperation::Send, 1, true), Ok(()));
    assert_eq!(lone.handle(&Lone::request(O::SendFirst, 0), &[0; 256]), Ok(()));
    assert_eq!(lone.qp.recv_outstanding(), 2, "what is being filled counts");
    assert_eq!(one_more(&mut lone), Err(PostError::QueueFull(2)));
}

#[test]
fn each_state_takes_the_packets_that_belong_to_it() {
    for state in STATES {
        let mut lone = Lone::in_state(state, &small());
        let write = Lone::request_with(O::WriteOnly, 0, lone.reth(0, 4));
        let receives = matches!(state, State::ReadyToReceive | State::ReadyToSend | State::SendQueueDrain);
        assert_eq!(lone.handle(&write, &[1; 4]), if receives { Ok(()) } else { Err(DropReason::State) });
        assert_eq!(lone.sent().len(), usize::from(receives), "{state}");
        assert_eq!(lone.ram.tally().written, if receives { 4 } else { 0 });
        let answer = match state {
            State::ReadyToSend | State::SendQueueDrain => DropReason::GhostResponse,
            _ => DropReason::State,
        };
        assert_eq!(lone.ack(0), Err(answer));
    }
}

#[test]
fn packets_of_other_transports_change_nothing() {
    let mut lone = Lone::new(&small());
    let opcode = Opcode::Known { transport: Transport::Uc, operation: O::SendOnly };
    let headers = Headers::new(Bth::new(opcode, OWN, RQ));
    assert_eq!(lone.handle(&headers, &[1; 4]), Err(DropReason::Transport));
    assert_eq!((lone.sent(), lone.qp.state()), (vec![], State::ReadyToSend));
}

#[test]
fn communication_is_established_once_and_only_before_ready_to_send() {
    let mut lone = Lone::in_state(State::ReadyToReceive, &small());
    let write = |number| Lone::request_with(O::WriteOnly, number, Lone::new(&small()).reth(0, 0));
    assert_eq!(lone.handle(&write(1), &[]), Err(DropReason::OutOfSequence));
    assert_eq!(lone.events, [], "a guessed PSN establishes nothing");
    for number in 0..3 {
        assert_eq!(lone.handle(&write(number), &[]), Ok(()));
        assert_eq!(lone.events, [AsyncEvent::CommunicationEstablished]);
    }
    let mut lone = Lone::new(&small());
    assert_eq!(lone.handle(&write(0), &[]), Ok(()));
    assert_eq!(lone.events, []);
}

#[test]
fn a_drained_queue_finishes_what_it_began_says_so_and_goes_on_when_told() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 600);
    lone.post(1, SendOperation::Send, 1);
    assert_eq!(lone.next_sent().map(|out| out.number), Some(0));
    lone.qp.modify(Transition::Drain).expect("RTS to SQD");
    lone.post(2, SendOperation::Send, 1);
    assert_eq!(lone.sent_brief(), [(O::SendMiddle, 1), (O::SendLast, 2)], "the rest of what had begun");
    assert_eq!(lone.events, []);
    // What is lost on the way is still repeated.
    assert!(lone.time_out());
    assert_eq!(lone.sent_brief(), [(O::SendFirst, 0)]);
    assert_eq!(lone.ack(2), Ok(()));
    assert_eq!(
        (lone.outcome(), &lone.events[..]),
        (vec![(0, Status::Success)], &[AsyncEvent::SendQueueDrained][..])
    );
    assert_eq!((lone.sent(), lone.qp.poll_timeout()), (vec![], None));
    // The peer is served meanwhile.
    let write = Lone::request_with(O::WriteOnly, 0, lone.reth(0, 4));
    assert_eq!(lone.handle(&write, &[1; 4]), Ok(()));
    assert_eq!(lone.sent_brief(), [(O::Acknowledge, 0)]);
    lone.qp.modify(Transition::Resume).expect("SQD to RTS");
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 3), (O::SendOnly, 4)]);
    assert_eq!(lone.ack(4), Ok(()));
    assert_eq!(lone.outcome(), [(1, Status::Success), (2, Status::Success)]);
    assert_eq!(lone.events, [AsyncEvent::SendQueueDrained], "told once");
    // An idle queue has drained at once, each time.
    lone.qp.modify(Transition::Drain).expect("RTS to SQD");
    assert_eq!((lone.sent(), lone.events.len()), (vec![], 2));
}

#[test]
fn a_fence_waits_for_reads_and_atomics_and_for_nothing_else() {
    let mut lone = Lone::new(&small());
    let fenced = |lone: &mut Lone, id| {
        let request = SendRequest {
            id,
            operation: SendOperation::Send,
            buffers: vec![lone.slice(0, 1)],
            len: 1,
            signaled: true,
            solicited: false,
            fence: true,
            destination: None,
        };
        lone.qp.post_send(request).expect("there is room");
    };
    lone.post(0, SendOperation::Send, 1);
    fenced(&mut lone, 1);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 0), (O::SendOnly, 1)], "a SEND under way holds up nothing");
    lone.post(2, SendOperation::Read(Lone::REMOTE), 300);
    lone.post(3, Lone::fetch_add(), 8);
    fenced(&mut lone, 4);
    lone.post(5, SendOperation::Send, 1);
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 2), (O::FetchAdd, 4)]);
    let respond = |lone: &mut Lone, operation, number, payload: &[u8]| {
        assert_eq!(lone.handle(&Lone::response(operation, number, ACK), payload), Ok(()));
    };
    respond(&mut lone, O::ReadResponseFirst, 2, &[0; 256]);
    respond(&mut lone, O::ReadResponseLast, 3, &[0; 44]);
    assert_eq!(lone.sent(), [], "the atomic is still under way");
    respond(&mut lone, O::AtomicAcknowledge, 4, &[]);
    assert_eq!(lone.sent_brief(), [(O::SendOnly, 5), (O::SendOnly, 6)]);
}

#[test]
fn the_peers_solicited_bit_shows_in_the_completion() {
    for solicited in [false, true] {
        let mut lone = Lone::new(&small());
        lone.post_recv(0, 64);
        let mut send = Lone::request(O::SendOnlyImm, 0);
        send.bth.solicited = solicited;
        assert_eq!(lone.handle(&send, &[1, 2, 3]), Ok(()));
        let done = lone.done[0];
        assert_eq!((done.solicited, done.immediate, done.len), (solicited, Some(7), 3));
    }
}

#[test]
fn reset_forgets_everything_and_the_queue_pair_can_be_used_again() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 600);
    lone.post_recv(1, 64);
    assert_eq!(lone.sent().len(), 3);
    let read = Lone::request_with(O::ReadRequest, 0, lone.reth(0, 4096));
    assert_eq!(lone.handle(&read, &[]), Ok(()));
    lone.qp.modify(Transition::Reset).expect("any state to RESET");
    assert_eq!(lone.qp.snapshot(), Lone::in_state(State::Reset, &small()).qp.snapshot());
    assert_eq!((lone.sent(), lone.outcome(), lone.qp.poll_timeout()), (vec![], vec![], None));
    let again = Options { mtu: rocev2::Mtu::B512, ..small() };
    for transition in transitions(&again, Qpn::truncate(PEER.get()), Psn::truncate(SQ.get()), RQ) {
        lone.qp.modify(transition).expect("the usual transitions");
    }
    lone.post(7, SendOperation::Send, 600);
    assert_eq!(lone.sent_brief(), [(O::SendFirst, 0), (O::SendLast, 1)]);
    assert_eq!(lone.ack(1), Ok(()));
    assert_eq!(lone.outcome(), [(7, Status::Success)]);
}

#[test]
fn the_application_may_end_a_queue_pair_at_any_moment() {
    for state in [State::Init, State::ReadyToReceive, State::ReadyToSend, State::SendQueueDrain] {
        let mut lone = Lone::in_state(state, &small());
        lone.post_recv(1, 64);
        lone.qp.modify(Transition::Error).expect("any state but RESET to ERR");
        lone.qp.modify(Transition::Error).expect("ERR to ERR");
        assert_eq!(lone.sent(), []);
        assert_eq!((lone.outcome(), &lone.events[..]), (vec![(1, Status::Flushed)], &[][..]));
    }
}

#[test]
fn a_send_gathers_and_a_receive_scatters_over_several_buffers() {
    let mut lone = Lone::new(&small());
    let other = lone.ram.register(&mut Rng::new(5), 0, Rng::new(6).bytes(1000), Rights::LOCAL);
    let whole = super::memory::Slice { region: other, offset: 0, len: 1000 };
    let parts =
        [lone.slice(10, 3), super::memory::Slice { len: 700, ..whole }, lone.slice(50, 0), lone.slice(7, 90)];
    let bytes: Vec<u8> = parts.iter().flat_map(|&part| lone.ram.bytes(part)).collect();
    let request = SendRequest {
        id: 0,
        operation: SendOperation::Send,
        buffers: parts.to_vec(),
        len: 793,
        signaled: true,
        solicited: false,
        fence: false,
        destination: None,
    };
    lone.qp.post_send(request).expect("there is room");
    let sent: Vec<u8> = lone.sent().into_iter().flat_map(|out| out.payload).collect();
    assert_eq!(sent, bytes);
    let places = vec![lone.slice(1000, 1), lone.slice(2000, 400), lone.slice(3000, 500)];
    lone.qp.post_recv(RecvRequest { id: 0, buffers: places, len: 901 }).expect("there is room");
    for (number, chunk) in (0..).zip(bytes.chunks(256)) {
        let operation = [O::SendFirst, O::SendMiddle, O::SendMiddle, O::SendLast][number];
        let number = i32::try_from(number).expect("few");
        assert_eq!(lone.handle(&Lone::request(operation, number), chunk), Ok(()));
    }
    let arrived =
        [lone.slice(1000, 1), lone.slice(2000, 400), lone.slice(3000, 392)].map(|s| lone.ram.bytes(s));
    assert_eq!(arrived.concat(), bytes);
}
