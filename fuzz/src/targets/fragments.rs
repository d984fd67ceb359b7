//! Sealed messages in the hands of whoever is on their way: it delivers what it likes, as often as it likes,
//! changed as it likes. The receiver opens what the sender sealed next, and nothing else; after its first
//! refusal nothing at all.

use super::keys::{pair, small};
use crate::input::Input;
use secure_rdma::seal::{Fragment, MessageOpener, MessageSealer, OVERHEAD, Suite, Writers};

/// Fragments that are sealed and delivered.
const STEPS: usize = 200;

struct Sealed {
    last: bool,
    manifest: bool,
    plaintext: Vec<u8>,
    record: Vec<u8>,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let suite = input.pick(&Suite::ALL);
    let [client, server] = pair(suite, small(Writers::Client), bytes);
    let [_, twin] = pair(suite, small(Writers::Client), bytes);
    let (mut sealer, mut reflecting) = (client.sealer, server.sealer);
    let mut receiver = Receiver { openers: [server.opener, twin.opener], opened: 0, failed: false };
    let mut sent: Vec<Sealed> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let record = match input.u8() % 8 {
            0..=2 => {
                let (mark, text) = (input.u8(), input.piece());
                sent.push(seal(&mut sealer, mark, text));
                continue;
            }
            3 | 4 => sent.get(receiver.opened).map(|next| next.record.clone()),
            5 => Some(input.piece().to_vec()),
            6 => Some(seal(&mut reflecting, input.u8(), input.piece()).record),
            _ => {
                let at = usize::from(input.u8()) % sent.len().max(1);
                sent.get(at).map(|any| tampered(any.record.clone(), &mut input))
            }
        };
        if let Some(record) = record {
            receiver.take(&record, &sent);
        }
    }
}

/// Seals a fragment: a message's last one if `mark` is odd, a manifest if it is a multiple of 4.
fn seal(sealer: &mut MessageSealer, mark: u8, text: &[u8]) -> Sealed {
    let (last, manifest) = (mark % 2 == 1, mark != 0 && mark.is_multiple_of(4));
    let mut record = vec![0; text.len() + OVERHEAD];
    let count = sealer.count();
    if manifest {
        record[MessageOpener::TEXT_AT..][..text.len()].copy_from_slice(text);
        sealer.seal_manifest(&mut record).expect("sealed");
    } else {
        sealer.seal(last, text, &mut record).expect("sealed");
    }
    assert_eq!(sealer.count(), count + 1);
    assert_eq!(record.first_chunk().map(|header| MessageOpener::claims_manifest(*header)), Some(manifest));
    Sealed { last, manifest, plaintext: text.to_vec(), record }
}

fn tampered(mut record: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    let at = usize::from(input.u8()) % record.len();
    match input.u8() % 4 {
        0 => record[at] ^= input.u8(),
        1 => record.truncate(at),
        2 => record.extend(input.piece()),
        _ => {
            let bytes = input.piece();
            record.iter_mut().skip(at).zip(bytes).for_each(|(there, byte)| *there = *byte);
        }
    }
    record
}

struct Receiver {
    /// One opens into another buffer, one where the fragment stands.
    openers: [MessageOpener; 2],
    opened: usize,
    failed: bool,
}

impl Receiver {
    fn take(&mut self, record: &[u8], sent: &[Sealed]) {
        let next = sent.get(self.opened).filter(|next| !self.failed && next.record == record);
        let [beside, in_place] = &mut self.openers;

        let mut out = vec![0xee; record.len().saturating_sub(OVERHEAD)];
        let mut copy = record.to_vec();
        let parts = |fragment: Fragment<'_>| (fragment.last, fragment.manifest, fragment.bytes.to_vec());
        let first = beside.open(record, &mut out).map(parts);
        let second = in_place.open_in_place(&mut copy).map(parts);
        assert_eq!(first, second);
        match (next, first) {
            (Some(Sealed { last, manifest, plaintext, .. }), Ok(fragment)) => {
                assert_eq!(fragment, (*last, *manifest, plaintext.clone()));
                self.opened += 1;
            }
            (None, Err(error)) => {
                assert!(!error.to_string().is_empty());
                assert!(out.iter().all(|byte| [0, 0xee].contains(byte)), "nothing of it comes out");
                self.failed = true;
            }
            (next, result) => panic!("genuine: {}, opened: {result:?}", next.is_some()),
        }
        assert_eq!(self.openers.each_ref().map(MessageOpener::count), [self.opened as u64; 2]);
    }
}
