//! Every operation over real sockets, on whatever device there is.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;
#[path = "operations/sealed.rs"]
mod sealed;
#[path = "operations/transports.rs"]
mod transports;
#[path = "operations/windows.rs"]
mod windows;

use common::{PATIENCE, Setup, connect, connect_with, pattern};
use rdma_verbs::{
    Access, Arm, AsyncEvent, CompletionKind, ConnectOptions, Draining, Error, Event, Mtu, OwnPsn, PeerRights,
    PostReason, Psn, QueuePair, QueuePairLimits, RecvRequest, SendRequest, State, Status,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections whose packets carry so many bytes.
fn with_mtu(mtu: Mtu) -> ConnectOptions {
    ConnectOptions { path_mtu: Some(mtu), ..Setup::default().connect }
}

const SIZES: [u32; 8] = [0, 1, 63, 4095, 4096, 4097, 65_536, 1 << 20];

#[test]
fn sends_arrive_in_order_whole_and_with_their_immediates() {
    for mtu in Mtu::ALL {
        let (mut a, mut b) = connect(&Setup { connect: with_mtu(mtu), ..Setup::default() });
        for (id, len) in (0u8..).zip(SIZES) {
            let slice = b.memory.slice(0, 1 << 20).unwrap();
            b.qp().post_recv(RecvRequest::new([slice]).id(id.into())).unwrap();
            let data = pattern(len as usize, id);
            let mut slice = a.memory.slice(0, 1 << 20).unwrap();
            slice.fill(&data).unwrap();
            a.qp().post_send(SendRequest::send([slice]).immediate(u32::from(id) + 100).id(7)).unwrap();

            let mut got = b.done();
            assert_eq!((got.id, got.kind, got.len), (id.into(), CompletionKind::Recv, len));
            assert_eq!(got.immediate, Some(u32::from(id) + 100));
            let mut bytes = vec![0; len as usize];
            got.slice().unwrap().read(0, &mut bytes).unwrap();
            assert!(bytes == data, "{mtu:?}, {len} bytes");
            let sent = a.done();
            assert_eq!((sent.id, sent.kind, sent.slices.len()), (7, CompletionKind::Send, 1));
        }
    }
}

#[test]
fn writes_and_reads_move_the_bytes_and_wake_nobody() {
    for v6 in [false, true] {
        let (mut a, b) = connect(&Setup { v6, ..Setup::default() });
        for len in SIZES {
            let data = pattern(len as usize, 3);
            let remote = b.memory.remote().range(8192, len.into()).unwrap();
            let mut slice = a.memory.slice(0, 1 << 20).unwrap();
            slice.fill(&data).unwrap();
            a.qp().post_send(SendRequest::write([slice], remote)).unwrap();
            assert_eq!(a.done().kind, CompletionKind::Write);
            let mut bytes = vec![0; len as usize];
            b.memory.read(8192, &mut bytes).unwrap();
            assert!(bytes == data, "written, {len} bytes");

            let mut slice = a.memory.slice(2 << 20, 1 << 20).unwrap();
            slice.set_len(len).unwrap();
            a.qp().post_send(SendRequest::read([slice], remote)).unwrap();
            let mut done = a.done();
            assert_eq!((done.kind, done.len), (CompletionKind::Read, len));
            bytes.fill(0);
            done.slice().unwrap().read(0, &mut bytes).unwrap();
            assert!(bytes == data, "read back, {len} bytes");
        }
        let mut out = Vec::new();
        assert_eq!(b.queue.poll(&mut out, 10).unwrap(), 0, "the passive side completes nothing");
    }
}

#[test]
fn atomics_give_back_what_was_there() {
    let (mut a, b) = connect(&Setup::default());
    let counter = b.memory.remote().range(64, 8).unwrap();
    for (add, before) in [(5, 0), (7, 5), (u64::MAX, 12)] {
        let result = a.memory.slice(0, 8).unwrap();
        a.qp().post_send(SendRequest::fetch_add(result, counter, add)).unwrap();
        let mut word = [0; 8];
        a.done().slice().unwrap().read(0, &mut word).unwrap();
        assert_eq!(u64::from_ne_bytes(word), before);
    }
    for (compare, swap, before) in [(11, 99, 11), (11, 1, 99)] {
        let result = a.memory.slice(0, 8).unwrap();
        a.qp().post_send(SendRequest::compare_swap(result, counter, compare, swap)).unwrap();
        let mut word = [0; 8];
        a.done().slice().unwrap().read(0, &mut word).unwrap();
        assert_eq!(u64::from_ne_bytes(word), before);
    }
    let mut word = [0; 8];
    b.memory.read(64, &mut word).unwrap();
    assert_eq!(u64::from_ne_bytes(word), 99);
}

#[test]
fn a_write_with_immediate_takes_a_receive() {
    let (mut a, b) = connect(&Setup { receives: 1, ..Setup::default() });
    let remote = b.memory.remote().range(0, 5).unwrap();
    a.qp().post_send(SendRequest::write_inline(b"hello", remote).immediate(42)).unwrap();
    let got = b.done();
    assert_eq!((got.kind, got.len, got.immediate), (CompletionKind::RecvWriteImmediate, 5, Some(42)));
    let mut bytes = [0; 5];
    b.memory.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn a_request_gathers_from_and_scatters_to_several_slices() {
    let (mut a, mut b) = connect(&Setup::default());
    let into = [(0, 10), (100, 1), (200, 5000)].map(|(offset, len)| b.memory.slice(offset, len).unwrap());
    b.qp().post_recv(RecvRequest::new(into)).unwrap();
    let data = pattern(5000, 9);
    let from = [(0, &data[..2000]), (3000, &data[2000..])].map(|(offset, part)| {
        let mut slice = a.memory.slice(offset, 3000).unwrap();
        slice.fill(part).unwrap();
        slice
    });
    a.qp().post_send(SendRequest::send(from)).unwrap();
    let got = b.done();
    assert_eq!(got.slices.len(), 3);
    let mut bytes = vec![0; 5000];
    got.slices[0].read(0, &mut bytes[..10]).unwrap();
    got.slices[1].read(0, &mut bytes[10..11]).unwrap();
    got.slices[2].read(0, &mut bytes[11..]).unwrap();
    assert!(bytes == data);
}

#[test]
fn unsignaled_requests_give_their_slices_back_with_the_next_completion() {
    let (mut a, b) = connect(&Setup::default());
    let remote = b.memory.remote().range(0, 64).unwrap();
    for id in 0..3u64 {
        let slice = a.memory.slice(id * 64, 64).unwrap();
        let request = SendRequest::write([slice], remote).id(id);
        a.qp().post_send(if id < 2 { request.unsignaled() } else { request }).unwrap();
    }
    let done = a.done();
    assert_eq!(done.id, 2);
    assert_eq!(done.released.iter().map(|released| released.id).collect::<Vec<_>>(), [0, 1]);
    let mut out = Vec::new();
    assert_eq!(a.queue.poll(&mut out, 10).unwrap(), 0);
}

#[test]
fn requests_posted_together_arrive_in_order_and_one_that_is_refused_stops_the_list() {
    let (mut a, b) = connect(&Setup { receives: 64, ..Setup::default() });
    // A request that no queue pair takes is the 41st.
    let request = |number: u8| match number {
        40 => SendRequest::send([0, 8, 16, 24, 32].map(|offset| a.memory.slice(offset, 8).unwrap())),
        _ => SendRequest::send_inline(&[number; 60]).id(number.into()),
    };
    let requests: Vec<_> = (0..64).map(request).collect();
    let mut requests = requests.into_iter();
    let error = a.qp().post_send_list(&mut requests).unwrap_err();
    assert_eq!((error.reason, error.slices.len()), (PostReason::TooManySlices { count: 5, limit: 4 }, 5));
    assert_eq!(requests.len(), 23, "those after it weren't taken");
    a.qp().post_send_list(requests).unwrap();
    for number in (0..64).filter(|number| *number != 40) {
        let sent = a.done();
        assert_eq!((sent.id, sent.status), (number, Status::Success));
        let mut bytes = [0; 60];
        b.done().slice().unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(u64::from(bytes[0]), number);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    }
}

#[test]
fn a_list_longer_than_the_queue_stops_where_the_queue_is_full() {
    let (mut a, b) = connect(&Setup::default());
    if !a.place.is_embedded() {
        // Others are given one request after the other, and may have finished some before they are given the next.
        return;
    }
    let remote = b.memory.remote().range(0, 1).unwrap();
    let mut requests = (0..1000).map(|id| SendRequest::write_inline(b"x", remote).id(id));
    let error = a.qp().post_send_list(&mut requests).unwrap_err();
    assert!(error.to_string().contains("made for 256 work requests"), "{error}");
    assert_eq!(requests.count(), 1000 - 257);
    for id in 0..256 {
        assert_eq!(a.done().id, id);
    }
}

#[test]
fn a_foreign_key_is_refused_and_ends_the_connection() {
    let (mut a, b) = connect(&Setup::default());
    // A region of the same device and address space, but of another protection domain.
    let other = b.device.protection_domain().unwrap();
    let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
    let foreign = other.register(4096, access).unwrap();
    foreign.write(0, b"secret").unwrap();
    let mut slice = a.memory.slice(0, 6).unwrap();
    slice.fill(b"spoilt").unwrap();
    a.qp().post_send(SendRequest::write([slice], foreign.remote().range(0, 6).unwrap())).unwrap();
    let slice = a.memory.slice(64, 6).unwrap();
    a.qp().post_send(SendRequest::read([slice], foreign.remote().range(0, 6).unwrap())).unwrap();
    assert_eq!(a.next().status, Status::RemoteAccess);
    assert_eq!(a.next().status, Status::Flushed);
    let mut bytes = [0; 6];
    foreign.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"secret");
    assert_eq!(a.state(), State::Error);
    if b.place.is_embedded() {
        let refused = b.device.counters().into_iter().find(|(name, _)| *name == "remote_access").unwrap().1;
        assert_eq!(refused, 1);
    }
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    let options = ConnectOptions { timeout: 10, retry_count: 2, ..Setup::default().connect };
    let (mut a, b) = connect(&Setup { connect: options, ..Setup::default() });
    let remote = b.memory.remote().range(0, 1).unwrap();
    drop(b);
    a.qp().post_send(SendRequest::write_inline(b"x", remote)).unwrap();
    assert_eq!(a.next().status, Status::RetryExceeded);
}

#[test]
fn polling_needs_no_channel_and_no_helper() {
    let (mut a, mut b) = connect(&Setup { receives: 1, ..Setup::default() });
    for round in 0..200u64 {
        a.qp().post_send(SendRequest::send_inline(b"ping").id(round)).unwrap();
        let mut out = Vec::new();
        assert_eq!(b.queue.spin(&mut out, 1, PATIENCE).unwrap(), 1);
        let slice = out[0].slice().unwrap();
        assert_eq!(out[0].len, 4);
        b.qp().post_recv(RecvRequest::new([slice])).unwrap();
        out.clear();
        assert_eq!(a.queue.spin(&mut out, 1, PATIENCE).unwrap(), 1);
        assert_eq!((out[0].id, out[0].status), (round, Status::Success));
    }
}

#[test]
fn a_completion_queue_that_overflows_says_so() {
    let (mut a, b) = connect(&Setup { queue: 2, ..Setup::default() });
    let remote = b.memory.remote().range(0, 1).unwrap();
    // A device may make a queue larger than was asked for.
    let room = a.queue.capacity() as u64;
    for id in 0..room + 2 {
        a.qp().post_send(SendRequest::write_inline(b"x", remote).id(id)).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let number = loop {
        assert!(Instant::now() < deadline, "no event");
        // Nobody polls: the embedded device's helper thread takes the acknowledgements.
        match a.device.try_event() {
            Some(Event::CompletionQueueOverflow(number)) => break number,
            Some(other) => panic!("{other:?}"),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert_eq!(number, 0, "the device's first completion queue");
    let mut out = Vec::new();
    assert_eq!(a.queue.poll(&mut out, 100).unwrap() as u64, room, "what had room is there");
    let expected: Vec<_> = (0..room).map(|id| (id, Status::Success)).collect();
    assert_eq!(out.iter().map(|done| (done.id, done.status)).collect::<Vec<_>>(), expected);
    if a.place.is_embedded() {
        assert!(matches!(a.queue.poll(&mut out, 10), Err(Error::Overflow(_))));
        assert_eq!(a.state(), State::Error, "its queue pairs fail with it (IBA 11.2.8)");
    }
}

#[test]
fn a_query_tells_the_psns_that_were_agreed_on() {
    for psns in [[0x78_b491, 0xa5_d6cd], [0, 0xff_ffff], [0xff_ffff, 0]] {
        let psns = psns.map(|psn| OwnPsn::new(Psn::truncate(psn)));
        let (mut a, mut b) = connect_with(&Setup::default(), psns);
        for (end, own, peer) in [(&mut a, psns[0], psns[1]), (&mut b, psns[1], psns[0])] {
            let told = end.qp().query().unwrap();
            assert_eq!(told.state, State::ReadyToSend);
            let (send, receive) = (told.send.unwrap(), told.receive.unwrap());
            assert_eq!((send.sq_psn, receive.rq_psn), (own.get(), peer.get()));
            assert_eq!((send.timeout, send.retry_count, send.rnr_retry), (14, 7, 7));
            assert_eq!((receive.path_mtu, receive.min_rnr_timer), (Mtu::B4096, 1));
            assert!(told.rights.read && told.rights.write && told.rights.atomic);
        }
    }
}

#[test]
fn things_of_two_devices_are_not_put_together() {
    let (mut a, b) = connect(&Setup::default());
    let remote = b.memory.remote().range(0, 8).unwrap();
    // The peer's region is one of another device, even where both devices are of one kind; the embedded one
    // reaches it all the same, since it is memory of this process.
    let slice = b.memory.slice(0, 8).unwrap();
    let posted = a.qp().post_send(SendRequest::write([slice], remote));
    if !(a.place.is_embedded() && b.place.is_embedded()) {
        let error = posted.unwrap_err();
        assert_eq!((error.reason, error.slices.len()), (PostReason::OtherDevice, 1));
    }
    let domain = a.device.protection_domain().unwrap();
    let limits = Setup::default().limits;
    let built = QueuePair::builder(&domain, &b.queue).limits(limits).build();
    let error = built.unwrap_err().to_string();
    assert!(error.contains("belongs to another device"), "{error}");
}

#[test]
fn more_than_the_device_has_is_refused_with_its_limit() {
    let (a, _b) = connect(&Setup::default());
    let limits = a.device.attributes();
    let domain = a.device.protection_domain().unwrap();
    let more = |change: fn(&mut QueuePairLimits, usize), limit: usize| {
        let mut asked = Setup::default().limits;
        change(&mut asked, limit + 1);
        let built = QueuePair::builder(&domain, &a.queue).limits(asked).build();
        let error = built.unwrap_err().to_string();
        assert!(error.contains(&format!("the device has at most {limit}")), "{error}");
    };
    more(|asked, count| asked.max_send_requests = count, limits.max_qp_wr);
    more(|asked, count| asked.max_recv_requests = count, limits.max_qp_wr);
    more(|asked, count| asked.max_sge = count, limits.max_sge);
    let error = a.device.completion_queue(limits.max_cqe + 1, None).unwrap_err().to_string();
    assert!(error.contains(&format!("the device has at most {}", limits.max_cqe)), "{error}");
}

#[test]
fn what_does_not_fit_the_queue_pairs_limits_comes_back() {
    let (mut a, b) = connect(&Setup::default());
    let remote = b.memory.remote().range(0, 65).unwrap();
    let error = a.qp().post_send(SendRequest::write_inline(&[1; 65], remote)).unwrap_err();
    assert_eq!(error.reason, PostReason::InlineTooLong { len: 65, limit: 64 });
    let slices = [0, 8, 16, 24, 32].map(|offset| a.memory.slice(offset, 8).unwrap());
    let error = a.qp().post_send(SendRequest::send(slices)).unwrap_err();
    assert_eq!(error.reason, PostReason::TooManySlices { count: 5, limit: 4 });
    assert_eq!(error.slices.len(), 5);
}

#[test]
fn a_send_queue_drains_says_so_and_can_be_resumed() {
    let (mut a, b) = connect(&Setup::default());
    // From one packet to a thousand, so that the drain falls before, into and after what is sent and acknowledged.
    for len in (0..=20).map(|exponent| 1 << exponent) {
        let remote = b.memory.remote().range(0, u64::from(len)).unwrap();
        let slice = a.memory.slice(0, len).unwrap();
        let mut posted = 0..;
        a.qp().post_send(SendRequest::write([slice], remote).id(posted.next().unwrap())).unwrap();
        let mut qp = a.qp.take().unwrap().drain().unwrap();
        let mut wait = |qp: &mut QueuePair<Draining>| {
            let remote = b.memory.remote().range(1 << 20, 1).unwrap();
            qp.post_send(SendRequest::write_inline(b"w", remote).id(posted.next().unwrap())).unwrap();
        };
        wait(&mut qp);
        let deadline = Instant::now() + PATIENCE;
        for turn in 1_u32.. {
            assert!(Instant::now() < deadline, "no event for {len} bytes");
            match a.device.try_event() {
                Some(Event::QueuePair(qpn, AsyncEvent::SendQueueDrained)) if qpn == qp.qpn() => break,
                Some(other) => panic!("{other:?}"),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            // Soft-RoCE may tell only when something is posted (`drain` says so).
            if !a.place.is_embedded() && turn.is_multiple_of(20) {
                wait(&mut qp);
            }
        }
        a.qp = Some(qp.resume().unwrap());
        assert_eq!(a.state(), State::ReadyToSend);
        // Whether the first request had begun, and so was finished before, is the device's affair.
        let slice = a.memory.slice(1 << 20, len).unwrap();
        let last = posted.next().unwrap();
        a.qp().post_send(SendRequest::write([slice], remote).id(last)).unwrap();
        for id in 0..=last {
            assert_eq!(a.done().id, id);
        }
    }
}

#[test]
fn a_queue_armed_for_solicited_completions_sleeps_through_others() {
    let (mut a, b) = connect(&Setup { receives: 2, ..Setup::default() });
    let channel = b.queue.channel().unwrap();
    b.queue.arm(Arm::Solicited);
    a.qp().post_send(SendRequest::send_inline(b"quiet")).unwrap();
    assert_eq!(a.done().kind, CompletionKind::Send);
    assert_eq!(channel.try_event().unwrap(), None);
    a.qp().post_send(SendRequest::send_inline(b"loud").solicited()).unwrap();
    assert_eq!(channel.wait(Some(PATIENCE)).unwrap(), Some(0), "the device's first queue");
    let mut out = Vec::new();
    assert_eq!(b.queue.poll(&mut out, 10).unwrap(), 2);
}

#[test]
fn a_fenced_send_waits_for_the_read_before_it() {
    let (mut a, mut b) = connect(&Setup::default());
    let data = pattern(1 << 20, 5);
    b.memory.write(0, &data).unwrap();
    let into = b.memory.slice(2 << 20, 1 << 20).unwrap();
    b.qp().post_recv(RecvRequest::new([into])).unwrap();
    let slice = a.memory.slice(0, 1 << 20).unwrap();
    let remote = b.memory.remote().range(0, 1 << 20).unwrap();
    a.qp().post_send(SendRequest::read([slice], remote).id(1)).unwrap();
    a.qp().post_send(SendRequest::send_inline(b"after").fence().id(2)).unwrap();
    let mut read = a.done();
    assert_eq!((read.id, a.done().id), (1, 2));
    assert_eq!(b.done().len, 5);
    let mut bytes = vec![0; 1 << 20];
    read.slice().unwrap().read(0, &mut bytes).unwrap();
    assert!(bytes == data);
}

#[test]
fn addresses_of_a_zero_based_region_begin_at_zero() {
    let access = Setup::default().access | Access::ZERO_BASED;
    let (mut a, b) = connect(&Setup { access, ..Setup::default() });
    assert_eq!(b.memory.remote().addr, 0);
    let data = pattern(70_000, 6);
    let mut slice = a.memory.slice(4096, 70_000).unwrap();
    slice.fill(&data).unwrap();
    a.qp().post_send(SendRequest::write([slice], b.memory.remote().range(0, 70_000).unwrap())).unwrap();
    a.done();
    let mut bytes = vec![0; 70_000];
    b.memory.read(0, &mut bytes).unwrap();
    assert!(bytes == data);
}

#[test]
fn completions_of_a_queue_pair_that_is_gone_hide_no_others() {
    let (mut a, b) = connect(&Setup::default());
    let domain = a.device.protection_domain().unwrap();
    let limits = Setup::default().limits;
    let gone = QueuePair::builder(&domain, &a.queue).limits(limits).build().unwrap();
    let mut gone = gone.init(PeerRights::default()).unwrap();
    for _ in 0..100 {
        gone.post_recv(RecvRequest::new([])).unwrap();
    }
    gone.fail();
    drop(gone);
    let remote = b.memory.remote().range(0, 1).unwrap();
    a.qp().post_send(SendRequest::write_inline(b"x", remote).id(7)).unwrap();
    // One at a time: where those that are of no use to anybody counted, there would be a hundred times nothing.
    assert_eq!(a.done().id, 7);
}

/// Packets for a queue pair arrive while it is made ready for them, on a port whose completion queue another
/// thread polls.
#[test]
fn a_queue_pair_gets_ready_while_its_queue_is_polled_and_its_packets_arrive() {
    let setup = Setup::default();
    let (a, b) = connect(&setup);
    let (finished, waiting) = std::sync::mpsc::channel();
    let (queue, stop) = (Arc::clone(&a.queue), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let polling = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            queue.poll(&mut Vec::new(), 16).unwrap();
        }
    });
    // Threads of their own, so that this one can tell that they don't come to an end.
    let making = std::thread::spawn(move || {
        let domains = [&a, &b].map(|end| end.device.protection_domain().unwrap());
        for _ in 0..300 {
            let [own, peers] = [(&a, &domains[0]), (&b, &domains[1])].map(|(end, domain)| {
                let built = QueuePair::builder(domain, &end.queue).limits(setup.limits).build();
                built.unwrap().init(setup.rights).unwrap()
            });
            let at = peers.endpoint(&b.gid);
            let mut peers = peers.connect(&b.gid, &own.endpoint(&a.gid), &setup.connect).unwrap();
            for _ in 0..20 {
                peers.post_send(SendRequest::send_inline(b"early")).unwrap();
            }
            own.connect(&a.gid, &at, &setup.connect).unwrap();
        }
        finished.send(()).unwrap();
    });
    assert_eq!(waiting.recv_timeout(PATIENCE), Ok(()), "the threads wait for each other");
    stop.store(true, Ordering::Relaxed);
    making.join().unwrap();
    polling.join().unwrap();
}

/// What is outstanding is flushed, what comes later refused, and the peer's requests reach nothing any more.
#[test]
fn a_breaker_ends_a_connection_from_another_thread_and_outlives_it() {
    // Soft-RoCE takes 7 retries for as many as it takes (rxe: check_ack, retry_cnt).
    let options = ConnectOptions { timeout: 10, retry_count: 2, ..Setup::default().connect };
    let (mut a, mut b) = connect(&Setup { connect: options, receives: 1, ..Setup::default() });
    let breaker = b.qp().breaker();
    let again = breaker.clone();
    std::thread::spawn(move || breaker.fail()).join().unwrap();
    assert_eq!(b.next().status, Status::Flushed);
    assert_eq!(b.state(), State::Error);
    let (slice, target) = (a.memory.slice(0, 8).unwrap(), b.memory.remote().range(0, 8).unwrap());
    b.memory.write(0, b"in place").unwrap();
    a.qp().post_send(SendRequest::write([slice], target)).unwrap();
    assert_ne!(a.next().status, Status::Success);
    let mut found = [0; 8];
    b.memory.read(0, &mut found).unwrap();
    assert_eq!(&found, b"in place");
    drop(b);
    again.fail();
}
