//! Every cause of failure: what each side's requests complete with, what goes over the wire, and what becomes
//! of the queue pairs.

use super::lone::{ACK, Lone, REGION, VA, small};
use super::memory::{Rights, Slice};
use super::rng::Rng;
use super::world::{Options, World};
use rocev2::transport::{DropReason, rc::rnr_delay};
use rocev2::wire::{Headers, NakCode, Operation as O, Reth, Syndrome};
use rocev2::work::{
    AsyncEvent, AtomicOperation, PeerRights, RecvRequest, RemoteAddress, SendOperation, SendRequest, State,
    Status,
};
use rocev2::{Mtu, Time};
use std::time::Duration;

const FULL: [u8; 256] = [0x5a; 256];

/// A request that the peer refuses.
struct Refused {
    cause: &'static str,
    operation: SendOperation,
    len: u32,
    options: Options,
    /// What the request completes with.
    status: Status,
    nak: NakCode,
    event: AsyncEvent,
    /// What the peer's first receive request completes with; it has 64 bytes.
    receive: Status,
    receive_rights: Rights,
}

/// The table; `there` is a region of 4096 bytes with all rights, `locked` one with none.
fn refused_requests(there: RemoteAddress, locked: RemoteAddress) -> Vec<Refused> {
    let access = |cause, operation| Refused {
        cause,
        operation,
        len: 8,
        options: small(),
        status: Status::RemoteAccess,
        nak: NakCode::RemoteAccess,
        event: AsyncEvent::AccessError,
        receive: Status::Flushed,
        receive_rights: Rights::LOCAL,
    };
    let invalid = |cause, operation| Refused {
        status: Status::RemoteInvalidRequest,
        nak: NakCode::InvalidRequest,
        event: AsyncEvent::RequestError,
        ..access(cause, operation)
    };
    let without = |change: fn(&mut PeerRights)| {
        let mut options = small();
        change(&mut options.rights);
        options
    };
    let add = AtomicOperation::FetchAdd { add: 1 };
    let unknown = RemoteAddress { rkey: there.rkey ^ 0x8000_0000, ..there };
    let at = |va| RemoteAddress { va, ..there };
    vec![
        access("WRITE, unknown key", SendOperation::Write(unknown)),
        Refused {
            receive: Status::RemoteAccess,
            ..access("WRITE with immediate, unknown key", SendOperation::WriteImmediate(unknown, 1))
        },
        Refused {
            len: 1000,
            ..access(
                "WRITE with immediate of several packets, unknown key",
                SendOperation::WriteImmediate(unknown, 1),
            )
        },
        access("READ, unknown key", SendOperation::Read(unknown)),
        access("atomic, unknown key", SendOperation::Atomic(unknown, add)),
        access("WRITE behind the region", SendOperation::Write(at(there.va + 4096 - 7))),
        access("READ behind the region", SendOperation::Read(at(there.va + 4096 - 7))),
        access("READ before the region", SendOperation::Read(at(there.va - 1))),
        access("atomic behind the region", SendOperation::Atomic(at(there.va + 4096), add)),
        access("WRITE around the end of all addresses", SendOperation::Write(at(u64::MAX - 3))),
        access("READ around the end of all addresses", SendOperation::Read(at(u64::MAX - 3))),
        access("WRITE, the region doesn't allow it", SendOperation::Write(locked)),
        access("READ, the region doesn't allow it", SendOperation::Read(locked)),
        access("atomic, the region doesn't allow it", SendOperation::Atomic(locked, add)),
        Refused {
            options: without(|rights| rights.write = false),
            ..invalid("WRITE, the queue pair doesn't allow it", SendOperation::Write(there))
        },
        Refused {
            options: without(|rights| rights.read = false),
            ..invalid("READ, the queue pair doesn't allow it", SendOperation::Read(there))
        },
        Refused {
            options: without(|rights| rights.atomic = false),
            ..invalid("atomic, the queue pair doesn't allow it", SendOperation::Atomic(there, add))
        },
        invalid("misaligned atomic", SendOperation::Atomic(at(there.va + 4), add)),
        Refused {
            len: 65,
            receive: Status::LocalLength,
            ..invalid("SEND longer than the receive request", SendOperation::Send)
        },
        Refused {
            len: 1000,
            receive: Status::LocalLength,
            ..invalid("SEND of several packets, longer than the receive request", SendOperation::Send)
        },
        Refused {
            status: Status::RemoteOperation,
            nak: NakCode::RemoteOperational,
            event: AsyncEvent::Fatal,
            receive: Status::LocalProtection,
            receive_rights: Rights::NONE,
            ..access("SEND into a buffer that may not be written", SendOperation::Send)
        },
        Refused {
            receive: Status::LocalQueuePairOperation,
            ..access("SEND with invalidate, unknown key", SendOperation::SendInvalidate(1))
        },
        Refused {
            receive: Status::LocalQueuePairOperation,
            ..access(
                "SEND with invalidate, not to be invalidated",
                SendOperation::SendInvalidate(locked.rkey),
            )
        },
    ]
}

/// A world with one connection, and the two regions at host 1 that [`refused_requests`] wants.
fn world_with_regions() -> (World, RemoteAddress, RemoteAddress) {
    let world = World::quiet(Duration::from_micros(10));
    let ram = &world.hosts[1].ram;
    let mut rng = Rng::new(0);
    let [there, locked] = [Rights { invalidate: false, ..Rights::ALL }, Rights::NONE].map(|rights| {
        let region = ram.register(&mut rng, 0x1_0000, vec![0; 4096], rights);
        RemoteAddress { va: 0x1_0000, rkey: ram.rkey(region) }
    });
    (world, there, locked)
}

#[test]
fn each_refused_request_ends_both_sides_as_its_cause_demands() {
    let (_, there, locked) = world_with_regions();
    for row in refused_requests(there, locked) {
        let (mut world, ..) = world_with_regions();
        let mut rng = Rng::new(1);
        let pair = world.connect(&row.options);
        world.trace = Some(Vec::new());
        let own = world.hosts[0].ram.register(&mut rng, 0, vec![1; 2000], Rights::LOCAL);
        let inbox = world.hosts[1].ram.register(&mut rng, 0, vec![0; 64], row.receive_rights);
        for id in [100, 101, 102] {
            let buffers = vec![Slice { region: inbox, offset: 0, len: 64 }];
            let request = RecvRequest { id, buffers, len: 64 };
            world.hosts[1].ends[pair].qp.post_recv(request).expect("the request is taken");
        }
        // Before the refused request one that works, without signal as all but number 2.
        for (id, operation, len) in [
            (0, SendOperation::Send, 0),
            (1, row.operation, row.len),
            (2, SendOperation::Send, 1),
            (3, SendOperation::Write(there), 1),
        ] {
            let buffers = vec![Slice { region: own, offset: 0, len: len as usize }];
            let signaled = id == 2;
            let request = SendRequest {
                id,
                operation,
                buffers,
                len,
                signaled,
                solicited: false,
                fence: false,
                destination: None,
            };
            world.hosts[0].ends[pair].qp.post_send(request).expect("the request is taken");
        }
        world.pump(0, pair);
        world.run(Duration::from_secs(1));

        let cause = row.cause;
        let outcome = |host: usize| {
            let end = &world.hosts[host].ends[pair];
            end.done.iter().map(|done| (done.id, done.status)).collect::<Vec<_>>()
        };
        let flushed = |id| (id, Status::Flushed);
        assert_eq!(outcome(0), [(1, row.status), flushed(2), flushed(3)], "{cause}: at the requester");
        let receives = [(100, Status::Success), (101, row.receive), flushed(102)];
        assert_eq!(outcome(1), receives, "{cause}: at the responder");
        assert_eq!([0, 1].map(|host| world.state(host, pair)), [State::Error; 2], "{cause}");
        assert_eq!(world.hosts[0].ends[pair].events, [], "{cause}: the requester's completions tell");
        assert_eq!(world.hosts[1].ends[pair].events, [row.event], "{cause}");
        let naks: Vec<_> = world
            .trace
            .iter()
            .flatten()
            .filter_map(|sent| sent.headers.aeth)
            .map(|aeth| aeth.syndrome)
            .filter(|&syndrome| syndrome != ACK)
            .collect();
        assert_eq!(naks, [Syndrome::Nak(row.nak)], "{cause}: on the wire");
        let tally = world.hosts[1].ram.tally();
        assert_eq!((tally.written, tally.read, tally.atomics, tally.invalidated), (0, 0, 0, 0), "{cause}");
    }
}

#[test]
fn a_refusal_that_was_lost_is_told_again() {
    let (mut world, there, _) = world_with_regions();
    let pair = world.connect(&small());
    let unknown = RemoteAddress { rkey: there.rkey ^ 0x8000_0000, ..there };
    let mut lost = 0;
    world.tap = Some(Box::new(move |sent| {
        let nak = sent.headers.aeth.is_some_and(|aeth| aeth.syndrome != ACK);
        lost += i32::from(nak);
        !nak || lost > 3
    }));
    let own = world.hosts[0].ram.register(&mut Rng::new(1), 0, vec![1; 2000], Rights::LOCAL);
    for (id, operation) in [(0, SendOperation::Write(there)), (1, SendOperation::Write(unknown))] {
        let buffers = vec![Slice { region: own, offset: 0, len: 600 }];
        let request = SendRequest {
            id,
            operation,
            buffers,
            len: 600,
            signaled: true,
            solicited: false,
            fence: false,
            destination: None,
        };
        world.hosts[0].ends[pair].qp.post_send(request).expect("the request is taken");
    }
    world.pump(0, pair);
    world.run(Duration::from_secs(10));
    let outcome: Vec<_> = world.hosts[0].ends[pair].done.iter().map(|done| (done.id, done.status)).collect();
    assert_eq!(outcome, [(0, Status::Success), (1, Status::RemoteAccess)], "and not RETRY_EXC_ERR");
    assert_eq!(world.hosts[1].ends[pair].events, [AsyncEvent::AccessError], "told again, not noticed again");
}

#[test]
fn a_queue_pair_that_its_own_side_ended_stays_silent() {
    let mut lone = Lone::in_state(State::Error, &small());
    let write = Lone::request_with(O::WriteOnly, 0, lone.reth(0, 4));
    assert_eq!(lone.handle(&write, &[0; 4]), Err(DropReason::State));
    assert_eq!(lone.sent(), []);
}

/// A packet by hand, with its payload.
type Raw = (Headers, Vec<u8>);

/// What the peer sends; the last packet is an invalid request.
fn refused_packets(rkey: u32) -> Vec<(&'static str, Vec<Raw>)> {
    let reth = |len| Reth { va: VA, rkey, len };
    let of = |operation, number, len: usize| (Lone::request(operation, number), FULL[..len].to_vec());
    let with = |operation, number, total, len: usize| {
        (Lone::request_with(operation, number, reth(total)), FULL[..len].to_vec())
    };
    let long = |operation, reth: Option<Reth>| {
        let mut headers = Lone::request(operation, 0);
        headers.reth = reth;
        (headers, vec![0; 257])
    };
    let read = |number, len| (Lone::request_with(O::ReadRequest, number, reth(len)), Vec::new());
    let mut table: Vec<(&str, Vec<Raw>)> = vec![
        ("WRITE ONLY shorter than its RETH says", vec![with(O::WriteOnly, 0, 100, 99)]),
        ("WRITE ONLY longer than its RETH says", vec![with(O::WriteOnly, 0, 100, 101)]),
        ("WRITE ONLY whose RETH says more than a packet", vec![with(O::WriteOnly, 0, 257, 256)]),
        ("WRITE ONLY longer than the MTU", vec![long(O::WriteOnly, Some(reth(257)))]),
        ("WRITE FIRST that isn't full", vec![with(O::WriteFirst, 0, 1000, 255)]),
        ("WRITE FIRST of a message of one packet", vec![with(O::WriteFirst, 0, 256, 256)]),
        ("WRITE FIRST of nothing", vec![with(O::WriteFirst, 0, 0, 256)]),
        ("WRITE FIRST of more than 2 GiB", vec![with(O::WriteFirst, 0, (1 << 31) + 1, 256)]),
        ("WRITE MIDDLE that isn't full", vec![with(O::WriteFirst, 0, 1000, 256), of(O::WriteMiddle, 1, 252)]),
        (
            "WRITE MIDDLE that fills the message",
            vec![with(O::WriteFirst, 0, 512, 256), of(O::WriteMiddle, 1, 256)],
        ),
        (
            "WRITE MIDDLE beyond the message",
            vec![with(O::WriteFirst, 0, 500, 256), of(O::WriteMiddle, 1, 256)],
        ),
        ("WRITE LAST too short", vec![with(O::WriteFirst, 0, 500, 256), of(O::WriteLast, 1, 243)]),
        ("WRITE LAST too long", vec![with(O::WriteFirst, 0, 500, 256), of(O::WriteLast, 1, 245)]),
        ("WRITE LAST too early", vec![with(O::WriteFirst, 0, 1000, 256), of(O::WriteLast, 1, 256)]),
        ("WRITE LAST of nothing", vec![with(O::WriteFirst, 0, 500, 256), of(O::WriteLast, 1, 0)]),
        ("SEND FIRST that isn't full", vec![of(O::SendFirst, 0, 200)]),
        ("SEND FIRST longer than the MTU", vec![long(O::SendFirst, None)]),
        ("SEND ONLY longer than the MTU", vec![long(O::SendOnly, None)]),
        ("SEND MIDDLE that isn't full", vec![of(O::SendFirst, 0, 256), of(O::SendMiddle, 1, 0)]),
        ("SEND LAST of nothing", vec![of(O::SendFirst, 0, 256), of(O::SendLast, 1, 0)]),
        ("READ of more than 2 GiB", vec![read(0, (1 << 31) + 1)]),
        ("READ of all that 32 bits can say", vec![read(0, u32::MAX)]),
        ("one READ too many", (0..17).map(|number| read(number, 1)).collect()),
    ];
    // Every way to break into a message, or to go on with one that never began.
    let continuing = [
        O::SendMiddle,
        O::SendLast,
        O::SendLastImm,
        O::SendLastInvalidate,
        O::WriteMiddle,
        O::WriteLast,
        O::WriteLastImm,
    ];
    let begun_send = of(O::SendFirst, 0, 256);
    let begun_write = with(O::WriteFirst, 0, 1000, 256);
    let any_start = [
        of(O::SendFirst, 1, 256),
        of(O::SendOnly, 1, 4),
        of(O::SendOnlyImm, 1, 4),
        of(O::SendOnlyInvalidate, 1, 4),
        with(O::WriteFirst, 1, 1000, 256),
        with(O::WriteOnly, 1, 4, 4),
        with(O::WriteOnlyImm, 1, 4, 4),
        read(1, 4),
        {
            let mut add = Lone::request(O::FetchAdd, 1);
            add.atomic = Some(rocev2::wire::AtomicEth { va: VA, rkey, swap_or_add: 1, compare: 0 });
            (add, Vec::new())
        },
    ];
    for packet in any_start {
        table.push(("a start within a SEND", vec![begun_send.clone(), packet.clone()]));
        table.push(("a start within a WRITE", vec![begun_write.clone(), packet]));
    }
    for operation in continuing {
        table.push(("a middle or end without a start", vec![of(operation, 0, 256)]));
        let other = if operation.is_send() { &begun_write } else { &begun_send };
        table.push(("a middle or end of another kind", vec![other.clone(), of(operation, 1, 256)]));
    }
    table
}

#[test]
fn each_malformed_request_is_refused_at_its_own_number_and_ends_the_connection() {
    let rkey = Lone::new(&small()).rkey();
    for (cause, packets) in refused_packets(rkey) {
        let mut lone = Lone::new(&small());
        lone.post_recv(1, 1 << 12);
        lone.post_recv(2, 1 << 12);
        lone.post(3, SendOperation::Send, 4);
        let count = packets.len();
        for (index, (headers, payload)) in packets.iter().enumerate() {
            let expected = if index + 1 == count { Err(DropReason::InvalidRequest) } else { Ok(()) };
            assert_eq!(lone.handle(headers, payload), expected, "{cause}");
        }
        assert_eq!(lone.qp.state(), State::Error, "{cause}");
        assert_eq!(lone.events, [AsyncEvent::RequestError], "{cause}");
        let flushed = [(3, Status::Flushed), (1, Status::Flushed), (2, Status::Flushed)];
        assert_eq!(lone.outcome(), flushed, "{cause}");
        let sent = lone.sent();
        let refused = sent.last().expect("a NAK");
        let number = i32::try_from(count - 1).expect("few");
        let nak = Some(Syndrome::Nak(NakCode::InvalidRequest));
        assert_eq!((refused.number, refused.syndrome()), (number, nak), "{cause}");
        assert_eq!(lone.qp.poll_timeout(), None, "{cause}");
    }
}

#[test]
fn answers_to_earlier_requests_leave_before_the_refusal() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 600);
    assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, reth), &[]), Ok(()));
    let unknown = Reth { rkey: 1, ..reth };
    assert_eq!(
        lone.handle(&Lone::request_with(O::ReadRequest, 3, unknown), &[]),
        Err(DropReason::RemoteAccess)
    );
    let sent: Vec<_> = lone.sent().iter().map(|out| (out.operation, out.number, out.syndrome())).collect();
    let nak = Some(Syndrome::Nak(NakCode::RemoteAccess));
    assert_eq!(
        sent,
        [
            (O::ReadResponseFirst, 0, Some(ACK)),
            (O::ReadResponseMiddle, 1, None),
            (O::ReadResponseLast, 2, Some(ACK)),
            (O::Acknowledge, 3, nak)
        ]
    );
}

#[test]
fn a_region_revoked_between_request_and_response_is_a_remote_access_error() {
    for already_sent in 0..3 {
        let mut lone = Lone::new(&small());
        lone.post_recv(9, 4);
        let reth = lone.reth(0, 256 * 3);
        assert_eq!(lone.handle(&Lone::request_with(O::ReadRequest, 0, reth), &[]), Ok(()));
        assert_eq!(lone.handle(&Lone::request(O::SendOnly, 3), &[]), Ok(()));
        for number in 0..already_sent {
            assert_eq!(lone.next_sent().map(|out| out.number), Some(number));
        }
        lone.ram.revoke(lone.region);
        let sent: Vec<_> = lone.sent().iter().map(|out| (out.number, out.syndrome())).collect();
        assert_eq!(
            sent,
            [(already_sent, Some(Syndrome::Nak(NakCode::RemoteAccess)))],
            "and nothing after it"
        );
        assert_eq!((lone.qp.state(), &lone.events[..]), (State::Error, &[AsyncEvent::AccessError][..]));
    }
}

#[test]
fn a_region_revoked_within_a_write_is_a_remote_access_error() {
    let mut lone = Lone::new(&small());
    let reth = lone.reth(0, 600);
    assert_eq!(lone.handle(&Lone::request_with(O::WriteFirst, 0, reth), &FULL), Ok(()));
    lone.ram.revoke(lone.region);
    assert_eq!(lone.handle(&Lone::request(O::WriteMiddle, 1), &FULL), Err(DropReason::RemoteAccess));
    let sent: Vec<_> = lone.sent().iter().map(|out| (out.number, out.syndrome())).collect();
    let nak = Some(Syndrome::Nak(NakCode::RemoteAccess));
    assert_eq!(sent.last(), Some(&(1, nak)));
    assert_eq!(lone.ram.tally().written, 256);
}

#[test]
fn each_nak_becomes_its_status_after_what_came_before_completed() {
    for (code, status) in [
        (NakCode::InvalidRequest, Status::RemoteInvalidRequest),
        (NakCode::RemoteAccess, Status::RemoteAccess),
        (NakCode::RemoteOperational, Status::RemoteOperation),
        (NakCode::InvalidRdRequest, Status::RemoteInvalidRequest),
    ] {
        let mut lone = Lone::new(&small());
        for id in 0..4 {
            lone.try_post(id, SendOperation::Send, 300, id == 0 || id == 3).expect("taken");
        }
        lone.post_recv(10, 4);
        assert_eq!(lone.sent().len(), 8);
        // The second packet of the second request.
        assert_eq!(lone.nak(3, Syndrome::Nak(code)), Ok(()));
        let flushed = |id| (id, Status::Flushed);
        assert_eq!(
            lone.outcome(),
            [(0, Status::Success), (1, status), flushed(2), flushed(3), flushed(10)],
            "requests without signal complete, too, when they fail"
        );
        assert_eq!((lone.qp.state(), &lone.events[..]), (State::Error, &[][..]));
        assert_eq!((lone.sent(), lone.qp.poll_timeout()), (vec![], None));
        assert_eq!(lone.ack(7), Err(DropReason::State));
    }
}

#[test]
fn a_refusal_behind_a_read_whose_responses_were_lost_waits_for_them() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Read(Lone::REMOTE), 300);
    lone.post(1, SendOperation::Send, 1);
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 0), (O::SendOnly, 2)]);
    let refused = Syndrome::Nak(NakCode::RemoteOperational);
    assert_eq!(lone.nak(2, refused), Err(DropReason::ResponseGap));
    assert_eq!(lone.sent_brief(), [(O::ReadRequest, 0), (O::SendOnly, 2)]);
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseFirst, 0, ACK), &FULL), Ok(()));
    assert_eq!(lone.handle(&Lone::response(O::ReadResponseLast, 1, ACK), &FULL[..44]), Ok(()));
    assert_eq!(lone.nak(2, refused), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success), (1, Status::RemoteOperation)]);
}

#[test]
fn an_answer_that_does_not_fit_its_request_is_a_bad_response() {
    let read_response =
        |operation, number, len: usize| (Lone::response(operation, number, ACK), FULL[..len].to_vec());
    let refusing = |operation| {
        let syndrome = Syndrome::Nak(NakCode::RemoteAccess);
        let len = if operation == O::AtomicAcknowledge { 0 } else { 256 };
        (Lone::response(operation, 0, syndrome), FULL[..len].to_vec())
    };
    let atomic_result = (Lone::response(O::AtomicAcknowledge, 0, ACK), Vec::new());
    let read = SendOperation::Read(Lone::REMOTE);
    let cases: Vec<(&str, SendOperation, u32, Raw)> = vec![
        ("too short", read, 600, read_response(O::ReadResponseFirst, 0, 255)),
        ("the end too early", read, 600, read_response(O::ReadResponseLast, 0, 256)),
        ("ONLY for the first of several", read, 600, read_response(O::ReadResponseOnly, 0, 256)),
        ("no end where it is due", read, 256, read_response(O::ReadResponseFirst, 0, 256)),
        ("no end where it is due", read, 256, read_response(O::ReadResponseMiddle, 0, 256)),
        ("too long", read, 10, read_response(O::ReadResponseOnly, 0, 11)),
        ("data for a READ of nothing", read, 0, read_response(O::ReadResponseOnly, 0, 1)),
        ("an atomic's result for a READ", read, 8, atomic_result.clone()),
        ("a READ's answer for an atomic", Lone::fetch_add(), 8, read_response(O::ReadResponseOnly, 0, 8)),
        ("data with a NAK", read, 600, refusing(O::ReadResponseFirst)),
        ("a result with a NAK", Lone::fetch_add(), 8, refusing(O::AtomicAcknowledge)),
    ];
    for (what, operation, len, (headers, payload)) in cases {
        let mut lone = Lone::new(&small());
        lone.post(0, operation, len);
        lone.post(1, SendOperation::Send, 1);
        assert_eq!(lone.sent().len(), 2, "{what}");
        let before = lone.ram.tally();
        assert_eq!(lone.handle(&headers, &payload), Err(DropReason::BadResponse), "{what}");
        assert_eq!(lone.outcome(), [(0, Status::BadResponse), (1, Status::Flushed)], "{what}");
        assert_eq!(lone.qp.state(), State::Error, "{what}");
        assert_eq!(lone.ram.tally(), before, "{what}: no byte was stored");
    }
}

#[test]
fn data_for_a_request_that_asked_for_none_changes_nothing() {
    let mut lone = Lone::new(&small());
    for id in 0..3 {
        lone.post(id, SendOperation::Send, 256);
    }
    lone.post(3, SendOperation::Read(Lone::REMOTE), 256);
    assert_eq!(lone.sent().len(), 4);
    for number in 0..3 {
        let data = Lone::response(O::ReadResponseOnly, number, ACK);
        assert_eq!(lone.handle(&data, &FULL), Err(DropReason::BadResponse));
        let result = Lone::response(O::AtomicAcknowledge, number, ACK);
        assert_eq!(lone.handle(&result, &[]), Err(DropReason::BadResponse));
    }
    assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::ReadyToSend), "nothing was acknowledged");
    assert_eq!(lone.qp.snapshot().send_outstanding, 4);
}

#[test]
fn ghost_and_stale_answers_change_nothing() {
    let mut lone = Lone::new(&small());
    lone.post(0, SendOperation::Send, 300);
    lone.post(1, SendOperation::Send, 1);
    assert_eq!(lone.sent().len(), 3);
    assert_eq!(lone.ack(1), Ok(()));
    assert_eq!(lone.outcome(), [(0, Status::Success)]);
    for ghost in [3, 4, 1000, (1 << 23) - 1] {
        assert_eq!(lone.ack(ghost), Err(DropReason::GhostResponse));
        assert_eq!(lone.nak(ghost, Syndrome::Nak(NakCode::RemoteAccess)), Err(DropReason::GhostResponse));
    }
    for stale in [1, 0, -1, -1000, -(1 << 22)] {
        assert_eq!(lone.ack(stale), Err(DropReason::StaleResponse));
        assert_eq!(lone.nak(stale, Syndrome::Nak(NakCode::RemoteAccess)), Err(DropReason::StaleResponse));
    }
    for reserved in [0x40, 0x65, 0x7f, 0x80, 0xff] {
        assert_eq!(lone.nak(2, Syndrome::Reserved(reserved)), Err(DropReason::BadResponse));
    }
    assert_eq!((lone.outcome(), lone.sent()), (vec![], vec![]));
    assert_eq!(lone.ack(2), Ok(()));
    assert_eq!(lone.outcome(), [(1, Status::Success)]);
}

#[test]
fn an_answer_before_anything_was_sent_is_a_ghost() {
    let mut lone = Lone::new(&small());
    assert_eq!(lone.ack(0), Err(DropReason::GhostResponse));
    assert_eq!(lone.ack(-1), Err(DropReason::StaleResponse));
    lone.post(0, SendOperation::Send, 1);
    assert_eq!(lone.ack(0), Err(DropReason::GhostResponse), "posted, and not sent yet");
    let data = Lone::response(O::ReadResponseOnly, 0, ACK);
    assert_eq!(lone.handle(&data, &[]), Err(DropReason::GhostResponse));
}

#[test]
fn rnr_retries_are_counted_reset_by_progress_and_without_end_for_7() {
    let rnr = Syndrome::RnrNak { timer: 1 };
    for retries in 0..=7 {
        let mut lone = Lone::new(&Options { rnr_retry: retries, ..small() });
        lone.post(0, SendOperation::Send, 512);
        let _ = lone.sent();
        let patience = if retries == 7 { 1000 } else { i32::from(retries) };
        for attempt in 0..patience {
            assert_eq!(lone.nak(0, rnr), Ok(()), "attempt {attempt}");
            assert_eq!(lone.outcome(), []);
            lone.wait(rnr_delay(1));
            assert!(lone.time_out());
            assert_eq!(lone.sent().len(), 2);
        }
        if retries == 7 {
            continue;
        }
        // One packet gets through: the count begins anew.
        assert_eq!(lone.ack(0), Ok(()));
        for _ in 0..patience {
            assert_eq!(lone.nak(1, rnr), Ok(()));
            assert!(lone.time_out());
            assert_eq!(lone.sent().len(), 1);
        }
        assert_eq!(lone.nak(1, rnr), Ok(()));
        assert_eq!(lone.outcome(), [(0, Status::RnrRetryExceeded)], "rnr_retry {retries}");
        assert_eq!((lone.qp.state(), lone.qp.poll_timeout()), (State::Error, None));
    }
}

#[test]
fn a_peer_that_vanishes_costs_the_oldest_request_and_flushes_the_rest() {
    let (mut world, there, _) = world_with_regions();
    let options = Options { timeout: 10, retry_count: 3, ..small() };
    let pair = world.connect(&options);
    world.tap = Some(Box::new(|sent| sent.at < Time::from_nanos(1_000_000)));
    let own = world.hosts[0].ram.register(&mut Rng::new(1), 0, vec![1; 1 << 16], Rights::LOCAL);
    let post = |world: &mut World, id| {
        let buffers = vec![Slice { region: own, offset: 0, len: 1000 }];
        let operation = SendOperation::Write(there);
        let signaled = id % 2 == 0;
        let request = SendRequest {
            id,
            operation,
            buffers,
            len: 1000,
            signaled,
            solicited: false,
            fence: false,
            destination: None,
        };
        world.hosts[0].ends[pair].qp.post_send(request).expect("the request is taken");
        world.pump(0, pair);
    };
    post(&mut world, 0);
    world.run_until(Time::from_nanos(2_000_000));
    for id in 1..5 {
        post(&mut world, id);
    }
    world.run(Duration::from_secs(60));
    let outcome: Vec<_> = world.hosts[0].ends[pair].done.iter().map(|done| (done.id, done.status)).collect();
    let flushed = |id| (id, Status::Flushed);
    let expected = [(0, Status::Success), (1, Status::RetryExceeded), flushed(2), flushed(3), flushed(4)];
    assert_eq!(outcome, expected);
    assert_eq!([0, 1].map(|host| world.state(host, pair)), [State::Error, State::ReadyToSend]);
    // 4.096 µs · 2^10 for each of four attempts.
    let patience = 4 * 4_194_304;
    assert_eq!(world.now, Time::from_nanos(2_000_000 + patience));
}

#[test]
fn a_buffer_that_went_away_fails_its_request_after_the_earlier_ones_completed() {
    let mut lone = Lone::new(&small());
    let gone = lone.ram.register(&mut Rng::new(3), 0, vec![0; 2000], Rights::LOCAL);
    lone.post(0, SendOperation::Send, 300);
    for id in [1, 2] {
        let buffers = vec![Slice { region: gone, offset: 0, len: 600 }];
        let operation = SendOperation::Write(Lone::REMOTE);
        let request = SendRequest {
            id,
            operation,
            buffers,
            len: 600,
            signaled: false,
            solicited: false,
            fence: false,
            destination: None,
        };
        lone.qp.post_send(request).expect("the request is taken");
    }
    // Two packets of the first request and one of the second leave; then the region goes away.
    let before: Vec<i32> = (0..3).filter_map(|_| lone.next_sent()).map(|out| out.number).collect();
    assert_eq!(before, [0, 1, 2]);
    lone.ram.revoke(gone);
    assert_eq!(lone.sent(), []);
    assert_eq!((lone.outcome(), lone.qp.state()), (vec![], State::ReadyToSend), "the first is under way");
    // Its packets are lost: it is repeated as if nothing had happened.
    assert!(lone.time_out());
    assert_eq!(lone.sent_brief(), [(O::SendFirst, 0)]);
    assert_eq!(lone.ack(1), Ok(()));
    assert_eq!(lone.sent(), []);
    let expected = [(0, Status::Success), (1, Status::LocalProtection), (2, Status::Flushed)];
    assert_eq!(lone.outcome(), expected);
    assert_eq!((lone.qp.state(), &lone.events[..]), (State::Error, &[][..]));
}

#[test]
fn a_place_for_an_answer_that_may_not_be_written_fails_its_request() {
    for operation in [SendOperation::Read(Lone::REMOTE), Lone::fetch_add()] {
        let mut lone = Lone::new(&small());
        let locked = lone.ram.register(&mut Rng::new(3), 0, vec![0; 2000], Rights::NONE);
        lone.post(0, SendOperation::Send, 1);
        let buffers = vec![Slice { region: locked, offset: 0, len: 8 }];
        let request = SendRequest {
            id: 1,
            operation,
            buffers,
            len: 8,
            signaled: false,
            solicited: false,
            fence: false,
            destination: None,
        };
        lone.qp.post_send(request).expect("the request is taken");
        lone.post(2, SendOperation::Send, 1);
        assert_eq!(lone.sent().len(), 3);
        let (kind, payload) = match operation {
            SendOperation::Read(_) => (O::ReadResponseOnly, &FULL[..8]),
            _ => (O::AtomicAcknowledge, &[][..]),
        };
        assert_eq!(lone.handle(&Lone::response(kind, 1, ACK), payload), Ok(()));
        let expected = [(0, Status::Success), (1, Status::LocalProtection), (2, Status::Flushed)];
        assert_eq!(lone.outcome(), expected);
        assert_eq!(lone.qp.state(), State::Error);
    }
}

#[test]
fn a_read_where_none_is_allowed_fails_in_its_turn() {
    for operation in [SendOperation::Read(Lone::REMOTE), Lone::fetch_add()] {
        let mut lone = Lone::new(&Options { rd_atomic: 0, ..small() });
        lone.post(0, SendOperation::Send, 1);
        lone.post(1, operation, 8);
        lone.post(2, SendOperation::Send, 1);
        assert_eq!(lone.sent_brief(), [(O::SendOnly, 0)]);
        assert_eq!(lone.outcome(), []);
        assert_eq!(lone.ack(0), Ok(()));
        assert_eq!(lone.sent(), []);
        let expected = [(0, Status::Success), (1, Status::LocalQueuePairOperation), (2, Status::Flushed)];
        assert_eq!(lone.outcome(), expected);
    }
    let mut lone = Lone::new(&Options { rd_atomic: 0, ..small() });
    let read = Lone::request_with(O::ReadRequest, 0, lone.reth(0, 1));
    assert_eq!(lone.handle(&read, &[]), Err(DropReason::InvalidRequest), "nor may the peer");
}

#[test]
fn what_is_left_is_flushed_in_order_the_receive_that_was_being_filled_first() {
    let mut lone = Lone::new(&small());
    for id in 0..5 {
        lone.try_post(id, SendOperation::Write(Lone::REMOTE), 700, id % 2 == 0).expect("taken");
    }
    for id in 10..14 {
        lone.post_recv(id, 1024);
    }
    assert_eq!(lone.sent().len(), 15);
    assert_eq!(lone.handle(&Lone::request(O::SendFirst, 0), &FULL), Ok(()));
    assert_eq!(lone.nak(0, Syndrome::Nak(NakCode::RemoteOperational)), Ok(()));
    let order: Vec<u64> = lone.done.iter().map(|done| done.id).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 10, 11, 12, 13]);
    assert!(lone.done[1..].iter().all(|done| done.status == Status::Flushed));
    let snapshot = lone.qp.snapshot();
    assert_eq!((snapshot.send_outstanding, lone.qp.recv_outstanding()), (0, 0));
}

#[test]
fn the_whole_mtu_range_refuses_a_first_packet_that_is_not_full() {
    for mtu in Mtu::ALL {
        let mut lone = Lone::new(&Options { mtu, ..Options::default() });
        lone.post_recv(0, REGION / 4);
        let full = vec![0; mtu.bytes() as usize];
        assert_eq!(lone.handle(&Lone::request(O::SendFirst, 0), &full), Ok(()));
        let short = &full[..full.len() - 4];
        assert_eq!(lone.handle(&Lone::request(O::SendMiddle, 1), short), Err(DropReason::InvalidRequest));
    }
}
