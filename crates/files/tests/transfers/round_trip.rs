//! Files and folders, there and back.

use crate::world::{CHUNK, World, bytes, partials, path};
use secure_rdma::SealedBy;
use secure_rdma_files::{
    Batch, Entry, FilePath, FilesError, Kind, Pace, RefusalCode, Root, ServiceOptions, Transfer, find_local,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// What is in a directory: folders, and files with their bytes and whether they are programs.
fn tree(dir: &Path) -> BTreeMap<Vec<u8>, Option<(Vec<u8>, bool)>> {
    let mut tree = BTreeMap::new();
    let mut next = vec![dir.to_owned()];
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let found = entry.unwrap().path();
            let name = found.strip_prefix(dir).unwrap().as_os_str().as_bytes().to_vec();
            if found.is_dir() {
                tree.insert(name, None);
                next.push(found);
            } else {
                let executable = fs::metadata(&found).unwrap().permissions().mode() & 0o100 != 0;
                tree.insert(name, Some((fs::read(&found).unwrap(), executable)));
            }
        }
    }
    tree
}

fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("one/two/three")).unwrap();
    fs::create_dir_all(dir.join("an empty folder/and one in it")).unwrap();
    for (name, len) in [
        ("empty", 0),
        ("one/byte", 1),
        ("one/page-1", 4095),
        ("one/page", 4096),
        ("one/page+1", 4097),
        ("one/two/chunk-1", CHUNK - 1),
        ("one/two/chunk", CHUNK),
        ("one/two/chunk+1", CHUNK + 1),
        ("one/two/three/many", 9 * CHUNK + 12_345),
        ("größe 世界 \u{202e}", 77),
        ("-rf *", 5),
    ] {
        fs::write(dir.join(name), bytes(len)).unwrap();
    }
    fs::write(dir.join(OsStr::from_bytes(b"not \xff UTF-8\n")), "x").unwrap();
    fs::write(dir.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(dir.join("program"), Permissions::from_mode(0o755)).unwrap();
    for number in 0..40 {
        fs::write(dir.join(format!("small {number}")), bytes(number)).unwrap();
    }
}

fn batch(files: &[(FilePath, u64)]) -> Batch {
    Batch::new(files.iter().map(|(path, _)| Transfer { from: path.clone(), to: path.clone() }))
}

async fn there_and_back(by: SealedBy) {
    let world = World::with(by).await;
    fill(&world.here());
    let (mut client, serving) = world.files().await;
    assert_eq!(client.info().sealed, by);

    let here = Arc::new(Root::open(&world.here()).unwrap());
    let found = find_local(&here, &FilePath::root()).unwrap();
    for directory in &found.directories {
        client.make_directory(directory).await.unwrap();
        // It may be there.
        client.make_directory(directory).await.unwrap();
    }
    let mut put = batch(&found.files);
    client.put(&here, &mut put, &mut Pace::unlimited(), &()).await.unwrap();
    for outcome in &put.outcomes {
        assert!(outcome.result.is_ok() && outcome.resumed == 0, "{outcome:?}");
    }
    assert_eq!(put.outcomes.len(), found.files.len());
    assert_eq!(tree(&world.there()), tree(&world.here()));

    let back = world.outside().join("back");
    fs::create_dir(&back).unwrap();
    let root = Arc::new(Root::open(&back).unwrap());
    let there = client.find(&FilePath::root()).await.unwrap();
    there.directories.iter().for_each(|path| root.make_directories(path).unwrap());
    let mut get = batch(&there.files);
    client.get(&root, &mut get, &mut Pace::unlimited(), &()).await.unwrap();
    assert!(get.outcomes.iter().all(|outcome| outcome.result.is_ok()), "{get:?}");
    assert_eq!(tree(&back), tree(&world.here()));
    assert!(partials(&back).is_empty() && partials(&world.there()).is_empty());

    client.close().await.unwrap();
    let (served, moved) = serving.await.unwrap();
    served.unwrap();
    let total: u64 = there.files.iter().map(|(_, size)| size).sum();
    assert_eq!((moved.bytes_read, moved.bytes_written), (total, total));
    assert_eq!((moved.files_read, moved.files_written), (there.files.len() as u64, there.files.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_there_and_back_sealed_by_packets() {
    there_and_back(SealedBy::Packets).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_there_and_back_sealed_by_messages() {
    there_and_back(SealedBy::Messages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_there_and_back_in_clear() {
    there_and_back(SealedBy::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_folder_is_listed_page_by_page() {
    let world = World::new().await;
    let names: Vec<String> = (0..3000).map(|number| format!("{number:0>200}")).collect();
    for name in &names {
        fs::write(world.there().join(name), "").unwrap();
    }
    let (mut client, _serving) = world.files().await;
    let (mut pages, mut found) = (0, Vec::new());
    let take = |page: Vec<Entry>| {
        pages += 1;
        assert!(page.iter().all(|entry| entry.kind == Kind::File));
        found.extend(page.into_iter().map(|entry| String::from_utf8(entry.name().to_vec()).unwrap()));
        Ok(())
    };
    client.list(&FilePath::root(), take).await.unwrap();
    found.sort();
    assert_eq!(found, names);
    assert!(pages > 10, "{pages}");
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_that_fails_does_not_keep_the_others() {
    let world = World::new().await;
    fs::write(world.there().join("a"), bytes(CHUNK)).unwrap();
    fs::write(world.there().join("c"), bytes(3)).unwrap();
    // What is here already is replaced.
    fs::write(world.here().join("c"), "before, and longer").unwrap();
    let (mut client, _serving) = world.files().await;
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new(["a", "b", "c"].map(|name| Transfer { from: path(name), to: path(name) }));
    client.get(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
    batch.outcomes.sort_by_key(|outcome| outcome.transfer.from.clone());
    let codes: Vec<_> = batch.outcomes.iter().map(|outcome| outcome.result.as_ref().err()).collect();
    assert!(matches!(codes[..], [None, Some(FilesError::Refused { .. }), None]), "{codes:?}");
    assert_eq!(codes[1].unwrap().code(), Some(RefusalCode::NotFound));
    assert_eq!(fs::read(world.here().join("c")).unwrap(), bytes(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_puts_the_same_file_at_once_takes_turns() {
    for size in [5 * CHUNK, CHUNK] {
        take_turns(size).await;
    }
}

async fn take_turns(size: usize) {
    let world = World::new().await;
    let contents = [vec![1; size], vec![2; size]];
    for (number, content) in contents.iter().enumerate() {
        fs::write(world.here().join(number.to_string()), content).unwrap();
    }
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let (mut one, _serving) = world.files().await;
    let (mut other, _served) = world.files().await;
    let to_x = |from| Batch::new([Transfer { from: path(from), to: path("x") }]);
    let (mut first, mut second) = (to_x("0"), to_x("1"));
    let (mut no, mut limit) = (Pace::unlimited(), Pace::unlimited());
    let both = tokio::join!(
        one.put(&root, &mut first, &mut no, &()),
        other.put(&root, &mut second, &mut limit, &())
    );
    both.0.unwrap();
    both.1.unwrap();
    for batch in [first, second] {
        batch.outcomes[0].result.clone().unwrap();
    }
    let found = fs::read(world.there().join("x")).unwrap();
    assert!(contents.contains(&found), "a mixture of both");
    assert!(partials(&world.there()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_offers_files_for_reading_takes_none() {
    let world = World::new().await;
    fs::write(world.here().join("x"), "x").unwrap();
    let (session, serving) = world.served(ServiceOptions::default()).await;
    let mut client = secure_rdma_files::FilesClient::open(session).await.unwrap();
    assert!(!client.is_writable());
    let error = client.make_directory(&path("new")).await.unwrap_err();
    assert_eq!(error.code(), Some(RefusalCode::ReadOnly));
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
    client.put(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
    assert_eq!(batch.outcomes[0].result.as_ref().unwrap_err().code(), Some(RefusalCode::ReadOnly));
    client.close().await.unwrap();
    assert_eq!(serving.await.unwrap().1.refused, 2);
    assert_eq!(fs::read_dir(world.there()).unwrap().count(), 0);
}
