//! Transfers that are broken off, and resumed; and files that change.

use crate::world::{CHUNK, World, bytes, partials, path};
use secure_rdma_files::{Batch, FilesError, Observer, Pace, RefusalCode, Root, Transfer};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Chunks of the file, and how many are moved before it is broken off.
const CHUNKS: usize = 40;
const BEFORE: usize = 8;

/// A pace at which the whole would take 20 s.
const SLOW: u64 = (CHUNKS * CHUNK / 20) as u64;

#[derive(Default)]
struct Enough {
    moved: AtomicU64,
    reached: Notify,
}

impl Observer for Enough {
    fn moved(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if moved >= (BEFORE * CHUNK) as u64 {
            self.reached.notify_one();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Get,
    Put,
}

/// A file's content, in which no two chunks are the same.
fn content() -> Vec<u8> {
    let mut content = bytes(CHUNKS * CHUNK - 5);
    for (number, chunk) in content.chunks_mut(CHUNK).enumerate() {
        chunk[0] = u8::try_from(number).unwrap();
    }
    content
}

/// Where the file comes from, and where it is to be.
fn sides(world: &World, way: Way) -> (PathBuf, PathBuf) {
    match way {
        Way::Get => (world.there(), world.here()),
        Way::Put => (world.here(), world.there()),
    }
}

/// Moves the file `x`, and says what became of it and how many bytes of files were moved by the server.
async fn whole(world: &World, way: Way) -> (Result<(), FilesError>, u64, u64) {
    let (mut client, serving) = world.files().await;
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
    let mut pace = Pace::unlimited();
    match way {
        Way::Get => client.get(&root, &mut batch, &mut pace, &()).await.unwrap(),
        Way::Put => client.put(&root, &mut batch, &mut pace, &()).await.unwrap(),
    }
    client.close().await.unwrap();
    let (served, moved) = serving.await.unwrap();
    served.unwrap();
    let outcome = batch.outcomes.remove(0);
    (outcome.result, outcome.resumed, moved.bytes_read + moved.bytes_written)
}

/// Moves a part of it; the client is gone then, without a word.
async fn part(world: &World, way: Way) {
    let (mut client, serving) = world.files().await;
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
    let (mut pace, enough) = (Pace::at_most(SLOW), Enough::default());
    let moving = async {
        match way {
            Way::Get => client.get(&root, &mut batch, &mut pace, &enough).await,
            Way::Put => client.put(&root, &mut batch, &mut pace, &enough).await,
        }
    };
    tokio::select! {
        result = moving => panic!("it was not broken off: {result:?}"),
        () = enough.reached.notified() => {}
    }
    drop(client);
    assert!(serving.await.unwrap().0.is_err(), "the client's end wasn't noticed");
}

async fn broken_off_and_resumed(way: Way, change: impl FnOnce(&PathBuf, &PathBuf) -> u64) {
    let world = World::new().await;
    let (from, to) = sides(&world, way);
    fs::write(from.join("x"), content()).unwrap();
    part(&world, way).await;
    assert!(!to.join("x").exists());
    let [partial] = &partials(&to)[..] else { panic!("no partial file") };
    let there = fs::metadata(partial).unwrap().len();
    assert!(there >= (BEFORE * CHUNK) as u64);
    // How many bytes of what is there aren't right any more.
    let wrong = change(partial, &from.join("x"));

    let (result, resumed, moved) = whole(&world, way).await;
    result.unwrap();
    assert_eq!(fs::read(to.join("x")).unwrap(), fs::read(from.join("x")).unwrap());
    let size = fs::metadata(from.join("x")).unwrap().len();
    // It didn't begin anew: what was there wasn't moved.
    assert_eq!(resumed + moved, size);
    assert!(resumed >= (BEFORE * CHUNK) as u64 - wrong, "{resumed} of {there}, {wrong} wrong");
    assert!(resumed <= there - wrong, "{resumed} of {there}, {wrong} wrong");
    assert!(partials(&to).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_got_again() {
    broken_off_and_resumed(Way::Get, |_, _| 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_put_again() {
    broken_off_and_resumed(Way::Put, |_, _| 0).await;
}

/// A bit of the third chunk, and the rest of it is as it was.
fn damage(partial: &PathBuf, _: &PathBuf) -> u64 {
    let file = File::options().read(true).write(true).open(partial).unwrap();
    let (at, mut byte) = (2 * CHUNK as u64 + 99, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    CHUNK as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partial_file_is_noticed_by_its_hash_and_got_anew() {
    broken_off_and_resumed(Way::Get, damage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partial_file_is_noticed_by_its_hash_and_put_anew() {
    broken_off_and_resumed(Way::Put, damage).await;
}

/// The file at its source is another one now, the first chunk of it, and shorter.
fn replace(_: &PathBuf, source: &PathBuf) -> u64 {
    let mut other = content();
    other[7] ^= 1;
    other.truncate((CHUNKS - 3) * CHUNK + 1);
    fs::write(source, other).unwrap();
    CHUNK as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_before_it_is_resumed_is_got_as_it_is_now() {
    broken_off_and_resumed(Way::Get, replace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_before_it_is_resumed_is_put_as_it_is_now() {
    broken_off_and_resumed(Way::Put, replace).await;
}

/// The partial file is longer than the file is now.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_that_is_too_long_is_cut() {
    for way in [Way::Get, Way::Put] {
        let world = World::new().await;
        let (from, to) = sides(&world, way);
        fs::write(from.join("x"), content()).unwrap();
        part(&world, way).await;
        fs::write(from.join("x"), &content()[..CHUNK + 7]).unwrap();
        whole(&world, way).await.0.unwrap();
        assert_eq!(fs::read(to.join("x")).unwrap(), &content()[..CHUNK + 7]);
    }
}

/// Appends to a file when the first chunk of it has been moved.
struct Writer(PathBuf);

impl Observer for Writer {
    fn moved(&self, _: u64) {
        File::options().append(true).open(&self.0).unwrap().write_all(b"more").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_moved_is_noticed() {
    for way in [Way::Get, Way::Put] {
        let world = World::new().await;
        let (from, to) = sides(&world, way);
        fs::write(from.join("x"), content()).unwrap();
        fs::write(from.join("y"), "y").unwrap();
        let (mut client, _serving) = world.files().await;
        let root = Arc::new(Root::open(&world.here()).unwrap());
        let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
        let (mut pace, writer) = (Pace::unlimited(), Writer(from.join("x")));
        match way {
            Way::Get => client.get(&root, &mut batch, &mut pace, &writer).await.unwrap(),
            Way::Put => client.put(&root, &mut batch, &mut pace, &writer).await.unwrap(),
        }
        let error = batch.outcomes[0].result.clone().unwrap_err();
        assert_eq!(error.code(), Some(RefusalCode::Changed), "{error:?}");
        assert!(!to.join("x").exists());
        // The session is as good as before, and when nobody writes any more the file is moved.
        let mut batch = Batch::new(["x", "y"].map(|name| Transfer { from: path(name), to: path(name) }));
        match way {
            Way::Get => client.get(&root, &mut batch, &mut pace, &()).await.unwrap(),
            Way::Put => client.put(&root, &mut batch, &mut pace, &()).await.unwrap(),
        }
        assert!(batch.outcomes.iter().all(|outcome| outcome.result.is_ok()), "{batch:?}");
        assert_eq!(fs::read(to.join("x")).unwrap(), fs::read(from.join("x")).unwrap());
    }
}

/// A session that ends gives back what it hasn't done.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_when_the_session_ends_is_waiting() {
    let world = World::new().await;
    fs::write(world.there().join("x"), content()).unwrap();
    fs::write(world.there().join("y"), "y").unwrap();
    let (mut client, serving) = world.files().await;
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new(["x", "y"].map(|name| Transfer { from: path(name), to: path(name) }));
    let (mut pace, enough) = (Pace::at_most(SLOW), Enough::default());
    let ending = async {
        enough.reached.notified().await;
        serving.abort();
    };
    let (result, ()) = tokio::join!(client.get(&root, &mut batch, &mut pace, &enough), ending);
    assert!(matches!(result, Err(FilesError::Session(_))), "{result:?}");
    assert_eq!(batch.waiting.len() + batch.outcomes.len(), 2);
    assert_eq!(batch.waiting[0].from, path("x"));
    let (mut client, _serving) = world.files().await;
    client.get(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
    assert!(batch.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert!(batch.outcomes.iter().any(|outcome| outcome.resumed >= (BEFORE * CHUNK) as u64));
    assert_eq!(fs::read(world.here().join("x")).unwrap(), content());
}
