//! Sealed messages, and what is done to them on the way.

use super::*;
use crate::seal::testing::{pair, session};
use crate::seal::{SessionKeys, Suite};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const FEW: Limits = Limits { records: 3, bytes: u64::MAX };

fn seal(sealer: &mut MessageSealer, last: bool, text: &[u8]) -> Vec<u8> {
    let mut record = vec![0; text.len() + OVERHEAD];
    sealer.seal(last, text, &mut record).unwrap();
    record
}

fn open(opener: &mut MessageOpener, record: &[u8]) -> Result<(bool, Vec<u8>), SealError> {
    let mut out = vec![0xee; record.len()];
    let result = opener.open(record, &mut out).map(|fragment| (fragment.last, fragment.bytes.to_vec()));
    if result.is_err() {
        assert!(out.iter().all(|byte| [0, 0xee].contains(byte)), "nothing of a refused fragment comes out");
    }
    result
}

/// A client's sealer and its server's opener.
fn path(suite: Suite, limits: Limits) -> (MessageSealer, MessageOpener) {
    let (client, server) = pair(suite, limits, None);
    (client.sealer, server.opener)
}

fn assert_ended(opener: &mut MessageOpener, counter: u64) {
    let error = Err(SealError::Message { counter });
    assert_eq!(open(opener, &[0; 64]), error);
    assert_eq!(opener.open_in_place(&mut [0; 64]).map(|_| ()), Err(SealError::Message { counter }));
    assert_eq!(opener.count(), counter);
}

#[test]
fn every_bit_of_a_fragment_counts() {
    for suite in Suite::ALL {
        for len in [0, 1, 16, 33, 257] {
            let text = vec![7; len];
            let record = seal(&mut path(suite, FEW).0, true, &text);
            assert_eq!(open(&mut path(suite, FEW).1, &record), Ok((true, text)));
            for bit in 0..record.len() * 8 {
                let mut forged = record.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                let (_, mut opener) = path(suite, FEW);
                assert_eq!(open(&mut opener, &forged), Err(SealError::Message { counter: 0 }), "bit {bit}");
                assert_eq!(
                    open(&mut opener, &record),
                    Err(SealError::Message { counter: 0 }),
                    "it has ended"
                );

                let (_, mut opener) = path(suite, FEW);
                assert!(opener.open_in_place(&mut forged).is_err(), "bit {bit}");
                assert_ended(&mut opener, 0);
            }
        }
    }
}

#[test]
fn a_fragment_of_another_length_is_refused() {
    for suite in Suite::ALL {
        let record = seal(&mut path(suite, FEW).0, false, b"twenty bytes of text");
        for len in 0..record.len() {
            assert!(open(&mut path(suite, FEW).1, &record[..len]).is_err(), "the first {len}");
            assert!(open(&mut path(suite, FEW).1, &record[record.len() - len..]).is_err(), "the last {len}");
            assert!(path(suite, FEW).1.open_in_place(&mut record[..len].to_vec()).is_err());
        }
        for more in 1..40 {
            let longer = [&record[..], &vec![0; more]].concat();
            assert!(open(&mut path(suite, FEW).1, &longer).is_err());
        }
    }
}

#[test]
fn replayed_reordered_and_left_out_fragments_are_refused() {
    let records: Vec<_> = {
        let (mut sealer, _) = path(Suite::Aes256Gcm, FEW);
        (0..8_u8).map(|at| seal(&mut sealer, true, &[at])).collect()
    };
    for good in 0..records.len() {
        for next in (0..records.len()).filter(|next| *next != good) {
            let (_, mut opener) = path(Suite::Aes256Gcm, FEW);
            for record in &records[..good] {
                open(&mut opener, record).unwrap();
            }
            let counter = good as u64;
            assert_eq!(open(&mut opener, &records[next]), Err(SealError::Message { counter }));
            assert_ended(&mut opener, counter);
        }
    }
}

#[test]
fn a_fragment_is_refused_by_its_own_sender_and_by_any_other_session() {
    for suite in Suite::ALL {
        let (mut client, _) = pair(suite, FEW, None);
        let record = seal(&mut client.sealer, true, b"mine");
        assert!(open(&mut client.opener, &record).is_err(), "reflected");
        for other in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let session = session(other, 1);
            let mut server = SessionKeys::from_secret(&session, Role::Server, FEW, None).unwrap();
            assert!(open(&mut server.opener, &record).is_err(), "another session's");
        }
    }
}

#[test]
fn a_key_of_another_epoch_is_refused_in_either_direction() {
    let (mut sealer, mut opener) = path(Suite::ChaCha20Poly1305, Limits { records: 1, bytes: u64::MAX });
    let first = seal(&mut sealer, true, b"0");
    let second = seal(&mut sealer, true, b"1");
    let third = seal(&mut sealer, true, b"2");
    assert_eq!(sealer.epoch(), 2);
    open(&mut opener, &first).unwrap();
    open(&mut opener, &second).unwrap();
    assert_eq!(opener.epoch(), 1);

    let with_header =
        |record: &[u8], epoch: u32| [&(LAST | epoch).to_be_bytes()[..], &record[HEADER..]].concat();
    for epoch in [0, 1, 3, 4, 1 << 30, (1 << 31) - 1] {
        // At the right place, but said to be of another epoch.
        let (mut chained, mut counter) = (path(Suite::ChaCha20Poly1305, FEW).1, 0);
        for record in [&first, &second] {
            open(&mut chained, record).unwrap();
            counter += 1;
        }
        assert_eq!(open(&mut chained, &with_header(&third, epoch)), Err(SealError::Message { counter }));
    }
    assert_eq!(open(&mut opener, &third), Ok((true, b"2".to_vec())));
}

/// A sealer of this code keeps to the limits; a broken peer's may not.
#[test]
fn a_peer_that_seals_more_with_one_key_than_any_side_may_is_refused() {
    let Limits { records, bytes } = Limits::DEFAULT;
    for spent in [Limits { records: records - 1, bytes: 0 }, Limits { records: 1, bytes: bytes - 4 }] {
        for keeps_to_it in [false, true] {
            let (mut sealer, mut opener) = path(Suite::Aes128Gcm, Limits::DEFAULT);
            open(&mut opener, &seal(&mut sealer, true, b"0123")).unwrap();
            (*opener.used(), *sealer.used()) = (spent, spent);
            open(&mut opener, &seal(&mut sealer, true, b"0123")).unwrap();
            if !keeps_to_it {
                *sealer.used() = Limits::NONE;
            }
            let record = seal(&mut sealer, true, b"0123");
            match keeps_to_it {
                true => assert_eq!(open(&mut opener, &record), Ok((true, b"0123".to_vec()))),
                false => {
                    let error = Err(SealError::Overused { epoch: 0 });
                    assert_eq!(open(&mut opener, &record), error);
                    assert_eq!(open(&mut opener, &record), error, "it has ended");
                    assert_eq!(opener.count(), 2);
                }
            }
        }
    }
}

#[test]
fn a_hundred_thousand_fragments_pass_through_a_key_change_every_few() {
    let (mut sealer, mut opener) = path(Suite::Aes128Gcm, Limits { records: 7, bytes: 300 });
    let mut record = [0; 100 + OVERHEAD];
    for number in 0..100_000_u32 {
        let len = (number % 101) as usize;
        let last = number % 3 == 0;
        let record = &mut record[..len + OVERHEAD];
        record[HEADER..HEADER + len].fill(number.to_le_bytes()[0]);
        sealer.seal_in_place(last, record).unwrap();
        let fragment = opener.open_in_place(record).unwrap();
        assert_eq!(fragment.last, last);
        assert_eq!(fragment.bytes, vec![number.to_le_bytes()[0]; len]);
    }
    assert_eq!((sealer.count(), opener.count()), (100_000, 100_000));
    assert_eq!(sealer.epoch(), opener.epoch());
    assert!(sealer.epoch() > 100_000 / 7, "{}", sealer.epoch());
}

fn seal_manifest(sealer: &mut MessageSealer, text: &[u8]) -> Vec<u8> {
    let mut record = [&[0; HEADER][..], text, &[0; TAG]].concat();
    sealer.seal_manifest(&mut record).unwrap();
    record
}

#[test]
fn a_note_is_counted_with_the_fragments_and_no_messages() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = path(suite, Limits { records: 1, bytes: u64::MAX });
        let records = [
            seal(&mut sealer, false, b"one"),
            seal_manifest(&mut sealer, b"noted"),
            seal(&mut sealer, true, b"two"),
        ];
        let expected = [(false, false, "one"), (false, true, "noted"), (true, false, "two")];
        for (record, (last, manifest, text)) in records.into_iter().zip(expected) {
            assert_eq!(MessageOpener::claims_manifest(*record.first_chunk().unwrap()), manifest);
            let mut out = [0; 10];
            let fragment = opener.open(&record, &mut out).unwrap();
            assert_eq!(
                (fragment.last, fragment.manifest, &*fragment.bytes),
                (last, manifest, text.as_bytes())
            );
        }
        assert_eq!((sealer.count(), opener.count()), (3, 3));
        assert_eq!((sealer.epoch(), opener.epoch()), (2, 2));
    }
}

#[test]
fn every_bit_of_a_note_counts_and_no_fragment_can_be_passed_off_as_one() {
    for suite in Suite::ALL {
        let manifest = seal_manifest(&mut path(suite, FEW).0, &[7; 32]);
        for bit in 0..manifest.len() * 8 {
            let mut forged = manifest.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let (_, mut opener) = path(suite, FEW);
            assert_eq!(open(&mut opener, &forged), Err(SealError::Message { counter: 0 }), "bit {bit}");
            let (_, mut opener) = path(suite, FEW);
            assert!(opener.open_in_place(&mut forged).is_err(), "bit {bit}");
            assert_ended(&mut opener, 0);
        }
        for (last, mark) in [(false, MANIFEST), (true, MANIFEST), (true, LAST | MANIFEST)] {
            let mut forged = seal(&mut path(suite, FEW).0, last, b"a message");
            forged[..HEADER].copy_from_slice(&mark.to_be_bytes());
            let (_, mut opener) = path(suite, FEW);
            assert_eq!(open(&mut opener, &forged), Err(SealError::Message { counter: 0 }));
        }
    }
}

#[test]
fn a_note_that_ends_a_message_is_refused_though_the_peer_sealed_it() {
    let (mut sealer, mut opener) = path(Suite::Aes256Gcm, FEW);
    let mut record = [0; 16 + OVERHEAD];
    let seal =
        |key: &Key, number, aad, text: &mut [u8], tag: &mut [u8]| key.seal_in_place(number, aad, text, tag);
    sealer.advance(LAST | MANIFEST, &mut record, seal).unwrap();
    assert_eq!(open(&mut opener, &record), Err(SealError::Message { counter: 0 }));
    assert_ended(&mut opener, 0);
}

#[test]
fn in_place_and_from_buffer_to_buffer_are_the_same() {
    for suite in Suite::ALL {
        let (mut one, _) = path(suite, FEW);
        let (mut other, mut opener) = path(suite, FEW);
        for len in 0..70 {
            let text = vec![len; len.into()];
            let record = seal(&mut one, len % 2 == 0, &text);
            let mut same = [&[0; HEADER][..], &text, &[0; TAG]].concat();
            other.seal_in_place(len % 2 == 0, &mut same).unwrap();
            assert_eq!(record, same);
            assert_eq!(open(&mut opener, &record), Ok((len % 2 == 0, text)));
        }
    }
}

#[test]
fn a_mistake_of_the_callers_ends_nothing() {
    let (mut sealer, mut opener) = path(Suite::Aes128Gcm, FEW);
    let size = |expected, found| Err(SealError::Size { expected, found });
    assert_eq!(sealer.seal(true, b"text", &mut [0; 23]), size(24, 23));
    assert_eq!(sealer.seal_in_place(true, &mut [0; 19]), size(20, 19));
    assert_eq!(sealer.count(), 0);
    let record = seal(&mut sealer, true, b"text");
    assert_eq!(opener.open(&record, &mut [0; 3]).map(|_| ()), size(4, 3));
    assert_eq!(open(&mut opener, &record), Ok((true, b"text".to_vec())));
}

#[test]
fn numbers_and_epochs_end_without_beginning_again() {
    let (mut sealer, _) = path(Suite::Aes128Gcm, FEW);
    *sealer.parts().1 = u64::MAX - 1;
    seal(&mut sealer, true, b"the last one");
    let mut record = [0; OVERHEAD];
    assert_eq!(sealer.seal(true, b"", &mut record), Err(SealError::Exhausted));
    assert_eq!(record, [0; OVERHEAD]);

    let (mut sealer, mut opener) = path(Suite::Aes128Gcm, Limits { records: 1, bytes: 1 });
    sealer.parts().0.set_epoch(u32::MAX >> 2);
    opener.parts().0.set_epoch(u32::MAX >> 2);
    let last = seal(&mut sealer, true, b"");
    assert_eq!(sealer.seal(true, b"", &mut record), Err(SealError::Exhausted));
    open(&mut opener, &last).unwrap();
    // An epoch after the last one can't be written: the bit above is a manifest's.
    assert!(open(&mut opener, &[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_arrives(
        suite in proptest::sample::select(&Suite::ALL[..]),
        fragments in vec((any::<bool>(), vec(any::<u8>(), 0..200)), 1..40),
        records in 1_u64..5,
        bytes in 1_u64..400,
    ) {
        let (mut sealer, mut opener) = path(suite, Limits { records, bytes });
        for (last, text) in fragments {
            let record = seal(&mut sealer, last, &text);
            prop_assert_eq!(open(&mut opener, &record), Ok((last, text)));
        }
        prop_assert_eq!(sealer.count(), opener.count());
    }

    #[test]
    fn whatever_is_done_on_the_way_is_noticed(
        suite in proptest::sample::select(&Suite::ALL[..]),
        texts in vec(vec(any::<u8>(), 0..40), 2..12),
        at in any::<Index>(),
        what in 0_u8..5,
        other in any::<Index>(),
        junk in vec(any::<u8>(), 0..80),
    ) {
        let (mut sealer, mut opener) = path(suite, FEW);
        let mut records: Vec<_> = texts.iter().map(|text| seal(&mut sealer, true, text)).collect();
        let (at, other) = (at.index(records.len()), other.index(records.len()));
        let sent = records.clone();
        match what {
            0 => records.swap(at, other),
            1 => records.insert(at, sent[other].clone()),
            2 => records.insert(at, junk),
            3 => drop(records.remove(at)),
            _ => records[at] = junk,
        }
        let mut arrived = Vec::new();
        let ended = records.iter().find_map(|record| match open(&mut opener, record) {
            Ok((_, text)) => { arrived.push(text); None }
            Err(error) => Some(error),
        });
        // Nothing but a beginning of what was sent, and unless all of it came, an error or a count that shows it.
        prop_assert_eq!(&arrived[..], &texts[..arrived.len()]);
        if records != sent {
            prop_assert!(ended.is_some() || opener.count() != sealer.count());
        }
    }

    #[test]
    fn junk_is_refused(junk in vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&mut path(Suite::Aes128Gcm, FEW).1, &junk).is_err());
    }
}
