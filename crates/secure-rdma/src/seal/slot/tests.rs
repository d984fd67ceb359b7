//! Sealed slots, and what is done to them in memory and on the way.

use super::*;
use crate::seal::testing::{clients, pair, session, small};
use crate::seal::{Limits, SessionKeys, Suite};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::HashSet;

fn sides(suite: Suite, layout: Layout) -> (Slots, Slots) {
    let (client, server) = pair(suite, Limits::DEFAULT, Some(layout));
    (client.slots.unwrap(), server.slots.unwrap())
}

fn seal(slots: &mut Slots, slot: u32, fill: u8) -> Vec<u8> {
    let mut sealed = vec![0; slots.layout().stride()];
    slots.seal(slot, &vec![fill; slots.layout().payload()], &mut sealed).unwrap();
    sealed
}

/// What `sealed` says, in one byte, when it is read once.
fn open(slots: &mut Slots, slot: u32, sealed: &[u8]) -> Result<u8, SealError> {
    let mut out = vec![0xee; slots.layout().payload()];
    let result = slots.open(slot, sealed, &mut out, &mut Attempts::once());
    if result.is_err() {
        assert!(out.iter().all(|byte| [0, 0xee].contains(byte)), "nothing of a refused slot comes out");
    }
    result.map(|()| {
        assert!(out.iter().all(|byte| *byte == out[0]));
        out[0]
    })
}

fn zeros(layout: Layout) -> Vec<u8> {
    vec![0; layout.stride()]
}

/// All that `slots` has to tell, in one manifest.
fn told(slots: &mut Slots) -> Vec<u8> {
    assert!(slots.has_pending());
    let mut manifest = vec![0; 100 * MANIFEST_ENTRY];
    let len = slots.announce(&mut manifest);
    assert!(!slots.has_pending());
    manifest.truncate(len);
    manifest
}

#[test]
fn both_sides_read_what_either_wrote() {
    for suite in Suite::ALL {
        for payload in [64, 4096, 1 << 16] {
            let format = Format { payload, ..small().format() };
            let layout = Layout::for_capacity(8 * u64::from(payload), format).unwrap();
            let (mut client, mut server) = sides(suite, layout);
            assert_eq!(open(&mut client, 7, &zeros(layout)), Ok(0), "never written");
            let by_client = seal(&mut client, 7, 1);
            assert_eq!(open(&mut client, 7, &by_client), Ok(1));
            assert_eq!(open(&mut server, 7, &by_client), Ok(1));
            let by_server = seal(&mut server, 7, 2);
            assert_eq!(open(&mut server, 7, &by_server), Ok(2));
            assert_eq!(open(&mut client, 7, &by_server), Ok(2));
            assert_eq!(open(&mut client, 7, &by_server), Ok(2), "as often as one likes");
            let again = seal(&mut client, 7, 3);
            assert_eq!(open(&mut server, 7, &again), Ok(3));
        }
    }
}

/// Slots that are sealed together are the same, bit by bit, as those that are sealed one after the other; so
/// is what is told.
#[test]
fn a_run_is_sealed_as_its_slots_would_be() {
    for suite in Suite::ALL {
        for (first, count) in [(0, 1), (2, 3), (1, 7), (0, 8)] {
            let layout = small();
            let (payload, stride) = (layout.payload(), layout.stride());
            let (mut together, mut reader) = sides(suite, layout);
            let (mut singly, _) = sides(suite, layout);
            // A key for every four numbers: the run begins and ends in the middle of one's.
            for slots in [&mut together, &mut singly] {
                seal(slots, 5, 1);
            }
            for round in 0..3_u8 {
                let fills = (10 * round..).take(count);
                let texts: Vec<u8> = fills.clone().flat_map(|fill| vec![fill; payload]).collect();
                let (mut run, mut slots) = (vec![0; count * stride], vec![0; count * stride]);
                together.seal_run(first, &texts, &mut run).unwrap();
                for ((slot, text), sealed) in
                    (first..).zip(texts.chunks(payload)).zip(slots.chunks_mut(stride))
                {
                    singly.seal(slot, text, sealed).unwrap();
                }
                assert_eq!(run, slots);
                for ((slot, fill), sealed) in (first..).zip(fills).zip(run.chunks(stride)) {
                    assert_eq!(open(&mut reader, slot, sealed), Ok(fill));
                }
            }
            assert_eq!(told(&mut together), told(&mut singly));
            assert_eq!(together.newest(first), singly.newest(first));
            assert_eq!(together.clock, singly.clock);
        }
    }
}

#[test]
fn a_run_that_cannot_be_sealed_uses_no_number() {
    let (mut client, mut server) = sides(Suite::Aes128Gcm, clients());
    let (payload, stride) = (client.layout().payload(), client.layout().stride());
    let slots = client.layout().slots();
    let mut seal_run =
        |first, text: usize, sealed: usize| client.seal_run(first, &vec![0; text], &mut vec![0; sealed]);
    assert_eq!(seal_run(6, 3 * payload, 3 * stride), Err(SealError::NoSuchSlot { slot: slots, slots }));
    assert_eq!(seal_run(9, payload, stride), Err(SealError::NoSuchSlot { slot: 9, slots }));
    for (text, sealed) in [(2 * payload, stride), (payload + 1, stride), (payload, 2 * stride), (0, stride)] {
        assert!(matches!(seal_run(0, text, sealed), Err(SealError::Size { .. })), "{text}, {sealed}");
    }
    assert_eq!(seal_run(0, 0, 0), Ok(()));
    assert_eq!((client.clock, client.has_pending()), (0, false));
    let refused = server.seal_run(0, &vec![0; payload], &mut vec![0; stride]);
    assert_eq!(refused, Err(SealError::NotWriter));
    // The last number is one that there is, and the one behind it isn't.
    client.clock = (1 << 63) - 3;
    assert_eq!(
        client.seal_run(0, &vec![0; 3 * payload], &mut vec![0; 3 * stride]),
        Err(SealError::Exhausted)
    );
}

#[test]
fn every_bit_of_a_slot_counts() {
    for suite in Suite::ALL {
        let sealed = seal(&mut sides(suite, small()).0, 3, 9);
        for (name, good) in [("sealed", sealed), ("never written", zeros(small()))] {
            assert!(open(&mut sides(suite, small()).1, 3, &good).is_ok());
            for bit in 0..good.len() * 8 {
                let mut forged = good.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                for slots in [&mut sides(suite, small()).0, &mut sides(suite, small()).1] {
                    assert_eq!(
                        open(slots, 3, &forged),
                        Err(SealError::Slot { slot: 3 }),
                        "{name}: bit {bit}"
                    );
                    assert_eq!(open(slots, 3, &good), Err(SealError::Slot { slot: 3 }), "it has ended");
                    let mut out = zeros(small());
                    assert_eq!(slots.seal(3, &[0; 64], &mut out), Err(SealError::Slot { slot: 3 }));
                }
            }
        }
    }
}

#[test]
fn a_slot_moved_elsewhere_is_refused() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    let sealed = seal(&mut client, 2, 1);
    assert_eq!(open(&mut server, 3, &sealed), Err(SealError::Slot { slot: 3 }), "another slot");
    let message = {
        let (mut client, _) = pair(Suite::Aes256Gcm, Limits::DEFAULT, None);
        let mut record = vec![0; 64 + 24];
        client.sealer.seal(true, &[1; 68], &mut record).unwrap();
        record
    };
    assert!(open(&mut sides(Suite::Aes256Gcm, small()).1, 2, &message).is_err(), "a message is no slot");
    for suite in Suite::ALL {
        let other =
            SessionKeys::from_secret(&session(suite, 1), Role::Server, Limits::DEFAULT, Some(small()));
        assert!(open(&mut other.unwrap().slots.unwrap(), 2, &sealed).is_err(), "another session or region");
    }
}

#[test]
fn one_authors_slot_is_not_taken_for_the_others() {
    let (mut client, _) = sides(Suite::Aes128Gcm, small());
    let mut sealed = seal(&mut client, 0, 1);
    sealed[64 + TAG] ^= 0x80;
    assert_eq!(open(&mut sides(Suite::Aes128Gcm, small()).1, 0, &sealed), Err(SealError::Slot { slot: 0 }));
    assert_eq!(open(&mut client, 0, &sealed), Err(SealError::Slot { slot: 0 }));
}

#[test]
fn a_slot_rolled_back_is_noticed_by_its_writer() {
    let history = |client: &mut Slots| (1..=6).map(|fill| seal(client, 5, fill)).collect::<Vec<_>>();
    let (mut client, _) = sides(Suite::Aes256Gcm, small());
    let sealed = history(&mut client);
    assert_eq!(open(&mut client, 5, &sealed[5]), Ok(6));
    // Across a change of keys too: there is one every four.
    for older in sealed[..5].iter().chain([&zeros(small())]) {
        let (mut client, _) = sides(Suite::Aes256Gcm, small());
        assert_eq!(history(&mut client), sealed);
        assert_eq!(open(&mut client, 5, older), Err(SealError::RolledBack { slot: 5 }));
        assert_eq!(open(&mut client, 5, &sealed[5]), Err(SealError::RolledBack { slot: 5 }), "it has ended");
    }
}

#[test]
fn a_slot_rolled_back_is_noticed_by_whoever_has_read_the_newer_one() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    let [old, new] = [1, 2].map(|fill| seal(&mut client, 5, fill));
    assert_eq!(open(&mut server, 5, &old), Ok(1), "it can't know that there is a newer one");
    assert_eq!(open(&mut server, 5, &new), Ok(2));
    assert_eq!(open(&mut server, 5, &old), Err(SealError::RolledBack { slot: 5 }));
    let (_, mut server) = sides(Suite::Aes256Gcm, small());
    assert_eq!(open(&mut server, 5, &new), Ok(2));
    assert_eq!(open(&mut server, 5, &zeros(small())), Err(SealError::RolledBack { slot: 5 }));
}

#[test]
fn a_reader_who_was_told_of_the_newest_stamp_takes_nothing_older() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    assert_eq!(client.newest(5), None);
    let [old, new] = [1, 2].map(|fill| seal(&mut client, 5, fill));
    let manifest = told(&mut client);
    server.apply(&manifest).unwrap();
    assert_eq!(server.newest(5), client.newest(5));
    assert_eq!(open(&mut server, 5, &new), Ok(2));
    for older in [old.clone(), zeros(small())] {
        let (_, mut server) = sides(Suite::Aes256Gcm, small());
        server.apply(&manifest).unwrap();
        assert_eq!(open(&mut server, 5, &older), Err(SealError::Withheld { slot: 5 }));
        assert_eq!(open(&mut server, 5, &new), Err(SealError::Withheld { slot: 5 }), "it has ended");
        assert_eq!(server.apply(&manifest), Err(SealError::Withheld { slot: 5 }), "it has ended");
    }
    // What was seen is no older than what is there: it was withheld, not rolled back.
    let (_, mut server) = sides(Suite::Aes256Gcm, small());
    assert_eq!(open(&mut server, 5, &old), Ok(1));
    server.apply(&manifest).unwrap();
    assert_eq!(open(&mut server, 5, &old), Err(SealError::Withheld { slot: 5 }));
}

#[test]
fn where_the_client_alone_writes_no_slot_of_the_servers_is_taken() {
    let (_, mut writing) = sides(Suite::Aes256Gcm, small());
    // With the right keys: those don't depend on the layout here.
    let sealed = seal(&mut writing, 5, 1);
    let (mut client, mut server) = sides(Suite::Aes256Gcm, clients());
    assert_eq!(server.seal(5, &[0; 64], &mut zeros(small())), Err(SealError::NotWriter));
    let manifest = told(&mut writing);
    let error = SealError::Manifest(ManifestError::NotWriter);
    assert_eq!(sides(Suite::Aes256Gcm, clients()).0.apply(&manifest), Err(error));
    assert_eq!(open(&mut server, 5, &sealed), Err(SealError::Slot { slot: 5 }));
    assert_eq!(open(&mut client, 5, &sealed), Err(SealError::Slot { slot: 5 }));
    let (mut client, mut server) = sides(Suite::Aes256Gcm, clients());
    let sealed = seal(&mut client, 5, 2);
    assert_eq!(open(&mut server, 5, &sealed), Ok(2));
    assert_eq!(open(&mut client, 5, &sealed), Ok(2));
}

#[test]
fn what_was_told_counts_no_more_when_something_newer_was_seen_or_written() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    seal(&mut client, 5, 1);
    let manifest = told(&mut client);
    let newer = seal(&mut client, 5, 2);
    // It comes late: the reader knows better.
    assert_eq!(open(&mut server, 5, &newer), Ok(2));
    server.apply(&manifest).unwrap();
    assert_eq!(server.newest(5), Some(2));
    assert_eq!(open(&mut server, 5, &newer), Ok(2));
    // ReceivedWrites, and then written over with a higher number by the one who was told.
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    seal(&mut client, 5, 1);
    server.apply(&told(&mut client)).unwrap();
    let own = seal(&mut server, 5, 3);
    assert_eq!(server.newest(5), Some(1 << 63 | 2));
    assert_eq!(open(&mut server, 5, &own), Ok(3));
    assert_eq!(open(&mut client, 5, &own), Ok(3));
}

#[test]
fn a_slot_that_was_read_before_it_was_told_of_is_outdated_until_it_is_read_again() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    let old = seal(&mut client, 5, 1);
    assert_eq!(open(&mut server, 5, &old), Ok(1));
    server.apply(&told(&mut client)).unwrap();
    assert_eq!(server.outdated(0), None, "it has what it was told of");
    for slot in [2, 3] {
        assert_eq!(open(&mut server, slot, &zeros(small())), Ok(0));
    }
    assert_eq!(server.outdated(0), None, "it wasn't told of anything there");
    let new = [2, 4, 5].map(|slot| seal(&mut client, slot, 7));
    server.apply(&told(&mut client)).unwrap();
    // Of slot 4 it has never read anything.
    assert_eq!(
        [0, 2, 3, 5, 6].map(|first| server.outdated(first)),
        [Some(2), Some(2), Some(5), Some(5), None]
    );
    assert_eq!(open(&mut server, 2, &new[0]), Ok(7));
    assert_eq!(server.outdated(0), Some(5));
    assert_eq!(open(&mut server, 5, &new[2]), Ok(7));
    assert_eq!(server.outdated(0), None);
}

#[test]
fn of_what_was_told_a_slot_that_is_newer_is_taken() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, clients());
    seal(&mut client, 5, 1);
    let manifest = told(&mut client);
    let newer = seal(&mut client, 5, 2);
    server.apply(&manifest).unwrap();
    assert_eq!(open(&mut server, 5, &newer), Ok(2));
    assert_eq!(open(&mut server, 4, &zeros(clients())), Ok(0), "nothing was said of it");
}

#[test]
fn ones_own_note_that_comes_back_is_refused() {
    let (mut client, _) = sides(Suite::Aes256Gcm, small());
    seal(&mut client, 5, 1);
    let error = SealError::Manifest(ManifestError::Stamp { first: 5, stamp: 1 });
    let manifest = told(&mut client);
    assert_eq!(client.apply(&manifest), Err(error.clone()));
    assert_eq!(client.seal(5, &[0; 64], &mut zeros(small())), Err(error), "it has ended");
}

#[test]
fn what_the_peer_wrote_before_ones_own_write_is_no_news() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    let theirs = seal(&mut server, 1, 1);
    assert_eq!(open(&mut client, 1, &theirs), Ok(1));
    seal(&mut client, 1, 2);
    assert_eq!(open(&mut client, 1, &theirs), Err(SealError::RolledBack { slot: 1 }));
    // Both wrote without having seen the other's: nobody can say which was first, so it isn't taken.
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    seal(&mut client, 1, 1);
    let theirs = seal(&mut server, 1, 2);
    assert_eq!(open(&mut client, 1, &theirs), Err(SealError::RolledBack { slot: 1 }));
}

#[test]
fn a_slot_read_while_it_was_written_is_read_again() {
    let (mut client, mut server) = sides(Suite::ChaCha20Poly1305, small());
    let [old, new] = [1, 2].map(|fill| seal(&mut client, 4, fill));
    let mut out = [0; 64];
    for (from, to) in [(&old, &new), (&zeros(small()), &new), (&new, &old)] {
        for cut in 1..old.len() {
            let torn = [&to[..cut], &from[cut..]].concat();
            if torn == *from || torn == *to {
                continue;
            }
            let mut attempts = Attempts::again(1);
            let torn = server.open(4, &torn, &mut out, &mut attempts);
            assert_eq!(torn, Err(SealError::Torn { slot: 4 }), "cut at {cut}");
            assert_eq!(out, [0; 64]);
            server.open(4, &new, &mut out, &mut attempts).unwrap();
            assert_eq!(out, [2; 64]);
        }
    }
}

#[test]
fn a_forged_slot_is_read_again_only_so_often() {
    let (mut client, mut server) = sides(Suite::Aes128Gcm, small());
    let mut forged = seal(&mut client, 4, 1);
    forged[0] ^= 1;
    let (mut out, mut attempts) = ([0; 64], Attempts::again(3));
    for _ in 0..3 {
        assert_eq!(server.open(4, &forged, &mut out, &mut attempts), Err(SealError::Torn { slot: 4 }));
    }
    assert_eq!(server.open(4, &forged, &mut out, &mut attempts), Err(SealError::Slot { slot: 4 }));
    assert_eq!(open(&mut server, 0, &zeros(small())), Err(SealError::Slot { slot: 4 }));
}

#[test]
fn tries_at_forging_are_limited_even_if_each_is_followed_by_a_right_slot() {
    let (mut client, mut server) = sides(Suite::Aes128Gcm, small());
    let good = seal(&mut client, 4, 1);
    let mut forged = good.clone();
    forged[0] ^= 1;
    let mut out = [0; 64];
    // So many were damaged before.
    server.damage = DAMAGE_LIMIT - 100;
    for _ in 0..100 {
        let mut attempts = Attempts::again(8);
        assert_eq!(server.open(4, &forged, &mut out, &mut attempts), Err(SealError::Torn { slot: 4 }));
        server.open(4, &good, &mut out, &mut attempts).unwrap();
    }
    let last = server.open(4, &forged, &mut out, &mut Attempts::again(8));
    assert_eq!(last, Err(SealError::Slot { slot: 4 }));
}

#[test]
fn no_number_is_used_twice_and_keys_change_every_few() {
    let (mut client, mut server) = sides(Suite::Aes128Gcm, small());
    let mut numbers = HashSet::new();
    let mut memory = vec![zeros(small()); 8];
    let mut expected = [0; 8];
    for round in 0..10_000_u32 {
        let slot = (round * 5) % 8;
        let fill = round.to_le_bytes()[0];
        let (writer, reader) =
            if round % 3 == 0 { (&mut server, &mut client) } else { (&mut client, &mut server) };
        // Who writes has read what is there, as one who changes a part of a slot does.
        assert_eq!(open(writer, slot, &memory[slot as usize]), Ok(expected[slot as usize]));
        memory[slot as usize] = seal(writer, slot, fill);
        expected[slot as usize] = fill;
        let stamp = memory[slot as usize][64 + TAG..].to_vec();
        assert!(numbers.insert(stamp), "one author, one number");
        assert_eq!(open(reader, slot, &memory[slot as usize]), Ok(fill));
    }
    assert!(client.clock > 9_000, "{}", client.clock);
    // The other slots are of epochs long gone, and can be read.
    for slot in 0..8 {
        assert_eq!(open(&mut client, slot, &memory[slot as usize]), Ok(expected[slot as usize]));
    }
}

#[test]
fn numbers_end_without_beginning_again() {
    let (mut client, mut server) = sides(Suite::Aes256Gcm, small());
    client.clock = (1 << 63) - 2;
    let last = seal(&mut client, 0, 1);
    assert_eq!(open(&mut server, 0, &last), Ok(1));
    for slots in [&mut client, &mut server] {
        let mut sealed = zeros(small());
        assert_eq!(slots.seal(0, &[0; 64], &mut sealed), Err(SealError::Exhausted));
        assert_eq!(sealed, zeros(small()));
    }
}

#[test]
fn a_mistake_of_the_callers_ends_nothing() {
    let (mut client, _) = sides(Suite::Aes256Gcm, small());
    let mut sealed = zeros(small());
    let none = SealError::NoSuchSlot { slot: 8, slots: 8 };
    assert_eq!(client.seal(8, &[0; 64], &mut sealed), Err(none.clone()));
    assert_eq!(client.open(8, &sealed, &mut [0; 64], &mut Attempts::once()), Err(none));
    let size = |expected, found| Err(SealError::Size { expected, found });
    assert_eq!(client.seal(0, &[0; 63], &mut sealed), size(64, 63));
    assert_eq!(client.seal(0, &[0; 64], &mut sealed[1..]), size(88, 87));
    assert_eq!(client.open(0, &sealed[1..], &mut [0; 64], &mut Attempts::once()), size(88, 87));
    assert_eq!(client.open(0, &sealed, &mut [0; 65], &mut Attempts::once()), size(64, 65));
    assert_eq!(open(&mut client, 0, &sealed), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Memory in an attacker's hands: it may put any bytes that were ever there anywhere, or others. The
    /// client, who alone writes, gets what it last wrote, or an error.
    #[test]
    fn the_writer_reads_what_it_wrote_last_or_nothing(
        suite in proptest::sample::select(&Suite::ALL[..]),
        steps in vec((0_u8..5, 0_u32..8, any::<Index>(), any::<u8>()), 1..60),
    ) {
        let (mut client, _) = sides(suite, clients());
        let mut memory = vec![zeros(small()); 8];
        let mut past = vec![zeros(small())];
        let mut expected = [0; 8];
        for (what, slot, index, byte) in steps {
            let at = slot as usize;
            match what {
                0 | 1 => {
                    let Ok(()) = client.check(slot, 64, 88) else { break };
                    memory[at] = seal(&mut client, slot, byte);
                    past.push(memory[at].clone());
                    expected[at] = byte;
                }
                2 => memory[at] = index.get(&past).clone(),
                3 => memory[at][index.index(88)] ^= byte,
                _ => match open(&mut client, slot, &memory[at]) {
                    Ok(found) => prop_assert_eq!(found, expected[at]),
                    Err(_) => break,
                },
            }
        }
    }

    #[test]
    fn junk_is_refused(junk in vec(any::<u8>(), 88)) {
        prop_assert!(open(&mut sides(Suite::Aes128Gcm, small()).0, 0, &junk).is_err());
    }
}
