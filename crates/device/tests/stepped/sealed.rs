//! Queue pairs whose packets are sealed by ESP, and whoever would like to read, change, repeat or forge them.

use crate::dissect::{Dissected, dissect, have_tshark};
use crate::world::{Attacker, End, Seen, Weather, World};
use crate::{A, B, C, D};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Aeth, Bth, Headers, NakCode, Opcode, Operation, Syndrome};
use rocev2::work::{AtomicOperation, SendOperation};
use rocev2::{Psn, Qpn};
use rocev2_device::esp::replay::{DEFAULT_WINDOW, ReplayWindow};
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi};
use rocev2_device::link::put_icrc;
use rocev2_device::{DeviceError, Receiver, SecurityAssociation};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const INNER: Inner = Inner { source_port: 4791, checksum: None };

/// A pattern that is easily found in a capture.
const PATTERN: [u8; 16] = *b"SECRET RDMA DATA";

fn key(number: u8) -> Key {
    Key::new(Algorithm::Aes256Gcm, &[number; 36]).unwrap()
}

/// Keys by SPI, as whoever is above has them.
type Keys = HashMap<Spi, u8>;

/// Two sealed ends, and what keeps their keys.
struct Sealed {
    ends: [End; 2],
    associations: [SecurityAssociation; 2],
    keys: Keys,
    /// For whom packets are sealed.
    receiver: Receiver,
}

impl Sealed {
    /// Packets of both are numbered from `first` on.
    fn new(world: &World, addresses: [[u8; 4]; 2], memory: u32, first: u64) -> Self {
        Self::for_receiver(world, addresses, memory, first, Receiver::Embedded)
    }

    fn for_receiver(
        world: &World,
        addresses: [[u8; 4]; 2],
        memory: u32,
        first: u64,
        receiver: Receiver,
    ) -> Self {
        let ends = world.unconnected(addresses[0], addresses[1], memory);
        let associations = [0, 1].map(|at| ends[at].device.security_association());
        let mut sealed = Self { ends, associations, keys: Keys::new(), receiver };
        sealed.rekey(first, u64::MAX);
        let Self { ends: [a, b], associations, .. } = &sealed;
        a.queue_pair.seal_by(&associations[0]).unwrap();
        b.queue_pair.seal_by(&associations[1]).unwrap();
        a.connect(b);
        b.connect(a);
        sealed
    }

    /// Gives both directions new keys, and lets both ends still take what the old ones have sealed.
    fn rekey(&mut self, first: u64, end: u64) {
        let spis = [0, 1].map(|at| self.associations[at].allocate_spi().unwrap());
        for (at, spi) in spis.into_iter().enumerate() {
            let number = u8::try_from(self.keys.len()).unwrap();
            self.keys.insert(spi, number);
            let window = ReplayWindow::after(DEFAULT_WINDOW, first - 1);
            self.associations[at].install_inbound(Inbound::with_window(spi, key(number), window)).unwrap();
            let out = Outbound::with_numbers(spi, key(number), INNER, first, end);
            self.associations[1 - at].install_outbound(out, self.receiver);
        }
    }

    /// Releases all SPIs but the newest.
    fn release_old(&self) {
        for association in &self.associations {
            let inbound = association.inbound();
            for old in &inbound[..inbound.len() - 1] {
                association.release(old.spi);
            }
        }
    }

    fn refused(&self, name: &str) -> u64 {
        self.ends.iter().map(|end| end.counter(name)).sum()
    }

    /// What was refused on account of ESP, by reason.
    fn refusals(&self) -> Vec<(&'static str, u64)> {
        let rows = self.ends.iter().flat_map(|end| end.device.counters());
        let refused = |name: &str| name.starts_with("esp_") && name != "esp_rekeyed";
        rows.filter(|(name, count)| refused(name) && *count > 0).collect()
    }
}

/// Every kind of operation once, from `a` to `b`.
fn all_operations(world: &World, a: &End, b: &End) {
    let done = [a.done(), b.done()];
    let text = PATTERN.repeat(1024);
    a.write(0, &text);
    b.post_recv(16_384);
    a.post(SendOperation::Send, 16_384);
    world.run(|| [a.done(), b.done()] == [done[0] + 1, done[1] + 1]);
    assert_eq!(b.read(0, text.len()), text);
    let mut remote = b.memory();
    remote.va += 32_768;
    a.post(SendOperation::Write(remote), 16_384);
    world.run(|| a.done() == done[0] + 2);
    assert_eq!(b.read(32_768, text.len()), text);
    let mine = vec![0x77; 16_384];
    b.write(32_768, &mine);
    a.post(SendOperation::Read(remote), 16_384);
    world.run(|| a.done() == done[0] + 3);
    assert_eq!(a.read(0, mine.len()), mine);
    b.write(0, &40_u64.to_ne_bytes());
    let add = AtomicOperation::FetchAdd { add: 2 };
    a.post(SendOperation::Atomic(b.memory(), add), 8);
    world.run(|| a.done() == done[0] + 4);
    assert_eq!((a.read(0, 8), b.read(0, 8)), (40_u64.to_ne_bytes().to_vec(), 42_u64.to_ne_bytes().to_vec()));
    // A receive request too late: an RNR NAK.
    a.post(SendOperation::Send, 64);
    world.steps(10);
    b.post_recv(64);
    world.run(|| [a.done(), b.done()] == [done[0] + 5, done[1] + 2]);
}

/// The packet in a sealed datagram, BTH through ICRC: what only who has the key sees.
fn open(keys: &Keys, seen: &Seen) -> Vec<u8> {
    let spi = Spi::of(&seen.bytes).unwrap();
    let low = u64::from(u32::from_be_bytes(seen.bytes[4..8].try_into().unwrap()));
    let high = u64::from_be_bytes(seen.bytes[8..16].try_into().unwrap()) & !u64::from(u32::MAX);
    let window = ReplayWindow::after(64, (high | low) - 1);
    let mut into = Inbound::with_window(spi, key(keys[&spi]), window);
    into.open(&mut seen.bytes.clone()).unwrap().packet.to_vec()
}

/// A plain datagram of that packet, with its ICRC as a strict receiver wants it.
fn in_clear(mut packet: Vec<u8>, from: std::net::SocketAddr, to: std::net::SocketAddr) -> Vec<u8> {
    let pseudo_header = PseudoHeader::new(from, to).unwrap();
    put_icrc(&mut packet, |packet| pseudo_header.icrc(0, packet));
    packet
}

#[test]
fn everything_that_leaves_is_sealed_and_shows_nothing() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    world.record();
    all_operations(&world, a, b);
    all_operations(&world, b, a);
    let wire = world.recorded();
    assert!(wire.len() > 30, "{}", wire.len());
    for seen in &wire {
        assert!(Spi::is_sealed(seen.bytes[0]), "{:x?} in clear", &seen.bytes[..12]);
        assert!(!seen.bytes.windows(PATTERN.len()).any(|bytes| bytes == PATTERN));
        let packet = open(&sealed.keys, seen);
        assert!(rocev2::wire::Packet::parse(&packet[..packet.len() - 4]).is_ok());
    }
    assert_eq!(sealed.refusals(), []);
    let [inbound] = sealed.associations[1].inbound()[..] else { panic!("one SA") };
    assert_eq!(inbound.packets, wire.iter().filter(|seen| seen.to == b.socket()).count() as u64);
}

#[test]
fn tshark_opens_every_datagram_to_the_packet_that_it_is() {
    if !have_tshark() {
        return;
    }
    // In both halves of the number's first 32 bits, and beyond.
    let world = World::new(&[A, B]);
    let mut sealed = Sealed::new(&world, [A, B], 65_536, (1 << 32) - 20);
    world.record();
    all_operations(&world, &sealed.ends[0], &sealed.ends[1]);
    sealed.rekey(1, u64::MAX);
    all_operations(&world, &sealed.ends[1], &sealed.ends[0]);
    let recorded = world.recorded();
    let dissected = dissect(&recorded, sealed.keys.iter().map(|(spi, number)| (spi, [*number; 36])));
    assert_eq!(dissected.len(), recorded.len());
    for (seen, dissected) in recorded.iter().zip(dissected) {
        let packet = open(&sealed.keys, seen);
        let to = sealed.ends.iter().find(|end| end.socket() == seen.to).unwrap().queue_pair.qpn().get();
        assert_eq!(dissected, Some(Dissected { opcode: packet[0], qpn: to }), "{:x?}", &packet[..12]);
    }
}

#[test]
fn no_number_of_a_key_is_ever_used_for_two_packets() {
    for (first, receiver) in
        [(1, Receiver::Embedded), ((1 << 32) - 60, Receiver::Embedded), (1, Receiver::Kernel)]
    {
        let world = World::new(&[A, B]);
        let mut sealed = Sealed::for_receiver(&world, [A, B], 65_536, first, receiver);
        world.record();
        let weather = Weather { seed: first + 5, lost: 50, twice: 50, overtaken: 100 };
        world.set_weather(weather);
        // What has no room leaves later, as it was sealed.
        world.set_rate(A, Some(20_000));
        for round in 0..12 {
            all_operations(&world, &sealed.ends[0], &sealed.ends[1]);
            if round % 3 == 2 {
                sealed.rekey(first, u64::MAX);
            }
        }
        let mut used: HashMap<(Spi, Vec<u8>), Vec<u8>> = HashMap::new();
        let wire = world.recorded();
        for Seen { bytes, .. } in &wire {
            let number = (Spi::of(bytes).unwrap(), bytes[4..16].to_vec());
            if let Some(before) = used.insert(number, bytes.clone()) {
                assert_eq!(before, *bytes, "two packets with one number");
            }
        }
        assert_eq!(used.len(), wire.len(), "what is sent again has a number of its own");
        assert!(sealed.ends[0].retransmitted() > 0, "nothing was lost");
        let reasons: Vec<_> = sealed.refusals().into_iter().map(|(name, _)| name).collect();
        assert!(reasons.iter().all(|name| *name == "esp_replayed"), "{reasons:?}");
    }
}

/// A datagram leaves with another identification than its ICRC was computed for, here each of a run but the first.
#[test]
fn a_kernel_gets_the_icrc_that_it_checks_also_where_segmentation_offload_fails() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::for_receiver(&world, [A, B], 65_536, 1, Receiver::Kernel);
    world.record();
    all_operations(&world, &sealed.ends[0], &sealed.ends[1]);
    let recorded = world.recorded();
    for seen in &recorded {
        let [from, to] = [seen.from, seen.to].map(|socket| (socket.ip(), 4791).into());
        let packet = open(&sealed.keys, seen);
        let verified = PseudoHeader::new(from, to).unwrap().verify(0, &packet).unwrap();
        assert_eq!(verified.id, Some(0));
    }
    let most =
        recorded.iter().map(|seen| u32::from_be_bytes(seen.bytes[4..8].try_into().unwrap())).max().unwrap();
    assert!(
        u64::from(most) > recorded.iter().filter(|seen| seen.to == sealed.ends[1].socket()).count() as u64
    );
}

#[test]
fn keys_change_under_traffic_and_what_was_under_way_arrives() {
    let world = World::new(&[A, B]);
    let mut sealed = Sealed::new(&world, [A, B], 1 << 20, 1);
    let remote = sealed.ends[1].memory();
    world.set_rate(A, Some(64 << 10));
    for round in 1..=40 {
        sealed.ends[0].post(SendOperation::Write(remote), 1 << 20);
        for _ in 0..3 {
            world.steps(3);
            sealed.rekey(1, u64::MAX);
        }
        world.run(|| sealed.ends[0].done() == round);
        sealed.release_old();
    }
    assert_eq!((sealed.ends[0].retransmitted(), sealed.refusals()), (0, vec![]));
}

/// The strongest forgeries that don't take the key: every packet in clear, with all of its numbers and its ICRC
/// right, before the genuine one arrives.
#[test]
fn packets_in_clear_change_nothing_however_right_they_are() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    let forged = Arc::new(Mutex::new(0_u64));
    let (keys, count) = (sealed.keys.clone(), Arc::clone(&forged));
    let attacker: Attacker = Box::new(move |seen| {
        let mut packet = open(&keys, seen);
        let at = packet.len() - 5;
        // An ACK becomes a NAK, data other data.
        if packet.len() == 20 {
            packet[12] = 0x62;
        } else {
            packet[at] ^= 0xff;
        }
        *count.lock().unwrap() += 1;
        vec![in_clear(packet, seen.from, seen.to)]
    });
    world.attack(attacker);
    all_operations(&world, a, b);
    all_operations(&world, b, a);
    // And what isn't on the wire by itself: a CNP, and a NAK that ends a connection.
    let forged_more = |headers: Headers, to: &End, from: &End| {
        let mut packet = vec![0; 64];
        let len = headers.frame(&mut packet, 0).unwrap().len;
        packet.truncate(len + 4);
        let bytes = in_clear(packet, from.socket(), to.socket());
        *forged.lock().unwrap() += 1;
        world.inject(&Seen { from: from.socket(), to: to.socket(), bytes });
    };
    for psn in 0..32 {
        let bth = |opcode| Bth::new(opcode, b.queue_pair.qpn(), Psn::truncate(psn));
        forged_more(Headers::new(bth(Opcode::Cnp)), b, a);
        let mut nak = Headers::new(bth(Opcode::rc(Operation::Acknowledge)));
        nak.aeth = Some(Aeth { syndrome: Syndrome::Nak(NakCode::RemoteAccess), msn: psn });
        forged_more(nak, b, a);
    }
    all_operations(&world, a, b);
    let forged = *forged.lock().unwrap();
    assert_eq!(sealed.refusals().iter().map(|row| row.0).collect::<Vec<_>>(), ["esp_clear", "esp_clear"]);
    assert_eq!(sealed.refused("esp_clear"), forged);
    assert_eq!(
        (a.retransmitted(), b.retransmitted()),
        (2, 1),
        "what had no receive request, and nothing else"
    );
}

#[test]
fn changed_and_repeated_packets_change_nothing_and_are_counted() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    let numbers = Arc::new(Mutex::new([0_u64; 2]));
    let (count, mut before) = (Arc::clone(&numbers), HashMap::new());
    let attacker: Attacker = Box::new(move |seen| {
        let mut changed = seen.bytes.clone();
        let [forged, repeated] = &mut *count.lock().unwrap();
        let at = 16 + usize::try_from(*forged).unwrap() * 7 % (changed.len() - 16);
        changed[at] ^= 1 << (*forged % 8);
        *forged += 1;
        let mut all = vec![changed];
        if let Some(old) = before.insert(seen.to, seen.bytes.clone()) {
            all.push(old);
            *repeated += 1;
        }
        all
    });
    world.attack(attacker);
    all_operations(&world, a, b);
    all_operations(&world, b, a);
    let [forged, repeated] = *numbers.lock().unwrap();
    assert_eq!(sealed.refused("esp_not_authentic"), forged);
    assert_eq!(sealed.refused("esp_replayed"), repeated);
    assert_eq!(sealed.refusals().len(), 4, "{:?}", sealed.refusals());
    assert_eq!(
        (a.retransmitted(), b.retransmitted()),
        (1, 1),
        "what had no receive request, and nothing else"
    );
}

#[test]
fn a_recording_is_worth_nothing_after_a_rekey_or_in_a_new_session() {
    let world = World::new(&[A, B, C, D]);
    let mut sealed = Sealed::new(&world, [A, B], 65_536, 1);
    world.record();
    all_operations(&world, &sealed.ends[0], &sealed.ends[1]);
    let recording = world.recorded();
    recording.iter().for_each(|seen| world.inject(seen));
    assert_eq!(sealed.refused("esp_replayed"), recording.len() as u64);
    sealed.rekey(1, u64::MAX);
    sealed.release_old();
    recording.iter().for_each(|seen| world.inject(seen));
    assert_eq!(sealed.refused("esp_unknown_spi"), recording.len() as u64);
    all_operations(&world, &sealed.ends[0], &sealed.ends[1]);
    // Relabelled for another session of the same two devices, and with its SPI.
    let spi = sealed.associations[1].inbound()[0].spi;
    let to_b: Vec<_> = recording.into_iter().filter(|seen| seen.to == sealed.ends[1].socket()).collect();
    let refused = || sealed.refused("esp_not_authentic") + sealed.refused("esp_replayed");
    let before = refused();
    for seen in &to_b {
        let mut seen = seen.clone();
        seen.bytes[..4].copy_from_slice(&spi.number().to_be_bytes());
        // Its numbers are behind by now, or unused: neither helps.
        world.inject(&seen);
    }
    assert_eq!(refused() - before, to_b.len() as u64);
    all_operations(&world, &sealed.ends[1], &sealed.ends[0]);
}

#[test]
fn what_one_association_has_sealed_no_other_queue_pair_takes() {
    let world = World::new(&[A, B, C]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    // A second client of b's device, with keys of its own, and a third one in clear.
    let device = Arc::clone(&b.device);
    let [plain, _peer] = world.pair_on(&device, B, C, 65_536);
    let own = device.security_association();
    let spi = own.allocate_spi().unwrap();
    own.install_inbound(Inbound::new(spi, key(200), DEFAULT_WINDOW)).unwrap();
    let out = Arc::new(Outbound::new(spi, key(200), INNER));
    let seal = |qpn: Qpn| {
        let mut bth = Bth::new(Opcode::rc(Operation::SendOnly), qpn, Psn::truncate(0));
        bth.ack_req = true;
        let headroom = rocev2_device::esp::layout::HEADROOM;
        let mut bytes = vec![0; 84];
        let len = Headers::new(bth).frame(&mut bytes[headroom..], 0).unwrap().len + 4;
        bytes.truncate(rocev2_device::esp::layout::sealed_len(len));
        out.sealer().seal(&mut bytes, len).unwrap();
        Seen { from: a.socket(), to: b.socket(), bytes }
    };
    b.post_recv(64);
    plain.post_recv(64);
    world.record();
    world.inject(&seal(b.queue_pair.qpn()));
    assert_eq!(b.counter("esp_other_association"), 1);
    world.inject(&seal(plain.queue_pair.qpn()));
    assert_eq!(b.counter("esp_sealed"), 1);
    let nobody = Qpn::truncate(b.queue_pair.qpn().get() ^ plain.queue_pair.qpn().get() ^ 0x55_5555);
    world.inject(&seal(nobody));
    assert_eq!(b.counter("unknown_queue_pair"), 1);
    assert_eq!((b.done(), plain.done()), (0, 0));
    assert!(world.recorded().is_empty(), "something was answered");
}

#[test]
fn nothing_that_isnt_esp_is_taken_for_it_and_nothing_is_answered() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    let [spi] = sealed.associations[1].inbound()[..] else { panic!("one SA") };
    world.record();
    let spi = spi.spi.number().to_be_bytes();
    for len in 1..100 {
        let bytes: Vec<u8> = spi.into_iter().chain([0; 100]).take(len).collect();
        world.inject(&Seen { from: a.socket(), to: b.socket(), bytes });
        world.inject(&Seen { from: a.socket(), to: b.socket(), bytes: vec![0xc5; len] });
    }
    let all: u64 = sealed.refusals().iter().map(|(_, count)| count).sum();
    assert_eq!(all, 2 * 99, "{:?}", sealed.refusals());
    assert!(world.recorded().is_empty(), "something was answered");
    all_operations(&world, a, b);
}

#[test]
fn a_run_of_a_write_has_one_length() {
    let world = World::new(&[A, B]);
    let sealed = Sealed::new(&world, [A, B], 65_536, 1);
    let [a, b] = &sealed.ends;
    // Enough for the window to open.
    for round in 1..=3 {
        world.record();
        a.post(SendOperation::Write(b.memory()), 60 << 10);
        world.run(|| a.done() == round);
    }
    let lengths: Vec<_> =
        world.recorded().iter().filter(|seen| seen.to == b.socket()).map(|seen| seen.bytes.len()).collect();
    assert_eq!(
        lengths, [4176; 15],
        "the first packet has an address more than the others, the last may have an immediate"
    );
}

#[test]
fn a_queue_pair_whose_numbers_are_used_up_falls_silent() {
    let world = World::new(&[A, B]);
    let mut sealed = Sealed::new(&world, [A, B], 65_536, 1);
    sealed.rekey(1, 6);
    let [a, b] = &sealed.ends;
    world.record();
    a.post(SendOperation::Write(b.memory()), 65_536);
    world.run(|| a.failed() == 1);
    let sent = world.recorded().into_iter().filter(|seen| seen.to == b.socket()).count();
    assert_eq!(sent, 5, "it has five numbers");
    assert!(a.counter("esp_not_sent") > 0);
}

#[test]
fn a_queue_pair_is_sealed_before_it_receives_and_by_its_own_device_or_not_at_all() {
    let world = World::new(&[A, B]);
    let [a, b] = world.pair(A, B, 64);
    let own = a.device.security_association();
    assert!(matches!(a.queue_pair.seal_by(&own), Err(DeviceError::SealedLate(_))));
    let [c, _] = world.unconnected(A, B, 64);
    assert!(matches!(c.queue_pair.seal_by(&own), Err(DeviceError::OtherDevice)));
    let own = c.device.security_association();
    c.queue_pair.seal_by(&own).unwrap();
    assert!(matches!(c.try_connect(&b), Err(DeviceError::NoSa)), "there is nothing to seal with");
    let foreign = b.device.security_association().allocate_spi().unwrap();
    let taken = own.allocate_spi().unwrap();
    own.install_inbound(Inbound::new(taken, key(1), 64)).unwrap();
    for spi in [foreign, taken] {
        assert!(own.install_inbound(Inbound::new(spi, key(1), 64)).is_err(), "{spi:?}");
    }
    own.release(taken);
    assert!(own.install_inbound(Inbound::new(taken, key(2), 64)).is_err(), "it was released");
}
