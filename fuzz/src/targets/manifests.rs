//! What a peer tells of its writes. A manifest that can be true says of each slot what a plain reading of it
//! says; any other is refused, and after it everything. What a writer tells, in manifests of any length, its
//! reader then knows.

use super::keys::{pair, small};
use crate::input::Input;
use secure_rdma::seal::{MANIFEST_ENTRY, SLOT_OVERHEAD, Slots, Suite, Writers};

const STEPS: usize = 200;
const SLOTS: u32 = 4;
const PAYLOAD: usize = 64;

/// The highest number of a stamp; above it is the mark of the server's.
const LAST: u64 = (1 << 63) - 1;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.flag() { made_up(&mut input) } else { told(&mut input) }
}

/// Manifests of any bytes.
fn made_up(input: &mut Input<'_>) {
    let [_, server] = pair(Suite::Aes128Gcm, small(Writers::Client), &[]);
    let mut reader = server.slots.expect("a region");
    let (mut known, mut highest) = ([None; SLOTS as usize], 0);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let manifest = input.piece();
        let expected = plain_reading(manifest, &mut known, &mut highest);
        match reader.apply(manifest) {
            Ok(()) => assert!(expected.is_some(), "{manifest:?}"),
            Err(error) => {
                assert!(expected.is_none(), "{manifest:?}: {error}");
                assert!(!error.to_string().is_empty());
                assert_eq!(reader.apply(manifest), Err(error), "after the first refusal nothing");
                break;
            }
        }
        for slot in 0..SLOTS {
            assert_eq!(reader.newest(slot), known[slot as usize]);
        }
        assert_eq!(reader.outdated(0), None, "it has read nothing");
    }
}

/// What a manifest says, slot by slot; `None` if it can't be true.
fn plain_reading(manifest: &[u8], known: &mut [Option<u64>], highest: &mut u64) -> Option<()> {
    if manifest.is_empty() || !manifest.len().is_multiple_of(MANIFEST_ENTRY) {
        return None;
    }
    for entry in manifest.chunks(MANIFEST_ENTRY) {
        let mut entry = Input::new(entry);
        let (first, count, number) = (entry.u32(), entry.u32(), entry.u64());
        let end = u64::from(first) + u64::from(count);
        if count == 0 || end > SLOTS.into() || number <= *highest || number > LAST - u64::from(count - 1) {
            return None;
        }
        for (slot, number) in (first..first + count).zip(number..) {
            known[slot as usize] = Some(number);
            *highest = number;
        }
    }
    Some(())
}

/// A writer and its reader.
fn told(input: &mut Input<'_>) {
    let [client, server] = pair(Suite::Aes128Gcm, small(Writers::Both), &[]);
    let [mut writer, mut reader] = [client, server].map(|keys| keys.slots.expect("a region"));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        if what < 0xc0 {
            write(&mut writer, u32::from(what) % SLOTS);
            continue;
        }
        let room = usize::from(what - 0xc0);
        let mut manifest = vec![0; room];
        let len = writer.announce(&mut manifest);
        assert!(len % MANIFEST_ENTRY == 0 && (len + MANIFEST_ENTRY > room || !writer.has_pending()));
        if len > 0 {
            reader.apply(&manifest[..len]).expect("what a writer tells is true");
        }
        for slot in 0..SLOTS {
            let (written, heard) = (writer.newest(slot), reader.newest(slot));
            assert!(heard == written || heard < written && writer.has_pending(), "slot {slot}: {heard:?}");
        }
    }
}

fn write(writer: &mut Slots, slot: u32) {
    writer.seal(slot, &[0; PAYLOAD], &mut [0; PAYLOAD + SLOT_OVERHEAD]).expect("sealed");
    assert!(writer.has_pending());
}
