//! Names that would lead out of the directory, and what isn't a file.

use crate::world::{Raw, World, path};
use secure_rdma_files::message::{Answer, Request};
use secure_rdma_files::{Batch, FilePath, FilesClient, Pace, RefusalCode, Root, ServiceOptions, Transfer};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Every request that has a path.
fn with_path(path: &[u8]) -> [Request; 6] {
    let path = || path.to_vec().into();
    let digest = [0; 32].into();
    [
        Request::Stat { path: path() },
        Request::List { path: path() },
        Request::Open { path: path(), window: Some(0) },
        Request::Create { path: path(), size: 1, executable: false },
        Request::Store { path: path(), size: 1, executable: false, window: 0, digest },
        Request::MakeDirectory { path: path() },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_leads_out_of_the_directory() {
    let world = World::new().await;
    let (session, _serving) = world.served(ServiceOptions::default().writable(true)).await;
    let mut raw = Raw::greet(session).await;
    let absolute = world.outside().join("secret");
    for name in [
        "../outside/secret",
        "..",
        "../../../../../../etc/passwd",
        "a/../../outside/secret",
        "/etc/passwd",
        absolute.to_str().unwrap(),
        "./../outside",
        "a//b",
        "a\0b",
        ".",
        ".secure-rdma-0.part",
    ] {
        for request in with_path(name.as_bytes()) {
            Raw::is(&raw.refused(request).await, RefusalCode::Name);
        }
    }
    for name in [vec![b'x'; 256], b"a/".repeat(200)] {
        for request in with_path(&name) {
            Raw::is(&raw.refused(request).await, RefusalCode::Name);
        }
    }
    assert_eq!(fs::read_dir(world.there()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.outside()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_not_followed_and_only_files_are_opened() {
    let world = World::new().await;
    let there = world.there();
    fs::create_dir(there.join("folder")).unwrap();
    fs::write(there.join("file"), "a file").unwrap();
    symlink(world.outside().join("secret"), there.join("to a file")).unwrap();
    symlink(world.outside(), there.join("to a folder")).unwrap();
    symlink("folder", there.join("inside")).unwrap();
    symlink("file", there.join("beside")).unwrap();
    symlink("nowhere", there.join("dangling")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, there.join("fifo"), fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(there.join("socket")).unwrap();

    let (session, _serving) = world.served(ServiceOptions::default().writable(true).keep_free(0)).await;
    let mut raw = Raw::greet(session).await;
    let open = |name: &str| Request::Open { path: name.as_bytes().to_vec().into(), window: Some(0) };
    let create =
        |name: &str| Request::Create { path: name.as_bytes().to_vec().into(), size: 6, executable: false };
    // With the right hash, so that nothing else is in its way. The window holds zeros.
    let digest = (*blake3::hash(&[0; 6]).as_bytes()).into();
    let store = |name: &str| {
        let path = name.as_bytes().to_vec().into();
        Request::Store { path, size: 6, executable: false, window: 0, digest }
    };
    for (name, code) in [
        ("to a file", RefusalCode::Link),
        ("to a folder", RefusalCode::Link),
        ("to a folder/secret", RefusalCode::Link),
        ("inside", RefusalCode::Link),
        ("beside", RefusalCode::Link),
        ("dangling", RefusalCode::Link),
        ("fifo", RefusalCode::Special),
        ("socket", RefusalCode::Special),
        ("folder", RefusalCode::IsDirectory),
        ("", RefusalCode::IsDirectory),
        ("file/x", RefusalCode::NotADirectory),
        ("nothing", RefusalCode::NotFound),
    ] {
        Raw::is(&raw.refused(open(name)).await, code);
        // Where there is nothing, a file may be.
        if code != RefusalCode::NotFound {
            Raw::is(&raw.refused(create(name)).await, code);
            Raw::is(&raw.refused(store(name)).await, code);
        }
    }
    for name in ["to a folder", "inside", "file", "fifo"] {
        let refusal = raw.refused(Request::List { path: name.as_bytes().to_vec().into() }).await;
        assert!(matches!(refusal.code(), RefusalCode::Link | RefusalCode::NotADirectory), "{refusal:?}");
    }
    for name in ["to a folder/new", "inside/new", "dangling", "fifo"] {
        let path = name.as_bytes().to_vec().into();
        let refusal = raw.refused(Request::MakeDirectory { path }).await;
        assert!(matches!(refusal.code(), RefusalCode::Link | RefusalCode::NotADirectory), "{refusal:?}");
    }
    // A folder in whose place there is a file by the time the last byte has come.
    assert!(matches!(raw.ask(create("late")).await, Answer::Created { .. }));
    assert_eq!(fs::read_to_string(world.outside().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(world.outside()).unwrap().count(), 1);
    assert!(!there.join("nowhere").exists());
}

/// What a server names `link/…` goes nowhere else at the client either.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_at_the_client_is_not_followed_either() {
    let world = World::new().await;
    fs::create_dir(world.there().join("link")).unwrap();
    fs::write(world.there().join("link/secret"), "evil").unwrap();
    symlink(world.outside(), world.here().join("link")).unwrap();
    symlink(world.outside().join("secret"), world.here().join("file")).unwrap();
    let (session, _serving) = world.served(ServiceOptions::default()).await;
    let mut client = FilesClient::open(session).await.unwrap();
    let root = Arc::new(Root::open(&world.here()).unwrap());
    assert_eq!(root.make_directories(&path("link/new")).unwrap_err().code(), RefusalCode::Link);
    let to = |to| Transfer { from: path("link/secret"), to: path(to) };
    let mut batch = Batch::new([to("link/secret"), to("file")]);
    client.get(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
    for outcome in batch.outcomes {
        assert_eq!(outcome.result.unwrap_err().code(), Some(RefusalCode::Link));
    }
    assert_eq!(fs::read_to_string(world.outside().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(world.outside()).unwrap().count(), 1);
}

/// What isn't whole yet is neither listed nor given away, and no name makes it so.
#[tokio::test(flavor = "multi_thread")]
async fn partial_files_are_nobodys() {
    let world = World::new().await;
    let (mut client, serving) = world.files().await;
    client.make_directory(&path("folder")).await.unwrap();
    client.close().await.unwrap();
    serving.await.unwrap().0.unwrap();
    let (session, _serving) = world.served(ServiceOptions::default().writable(true).keep_free(0)).await;
    let mut raw = Raw::greet(session).await;
    let create = Request::Create { path: b"folder/x".to_vec().into(), size: 5, executable: false };
    assert!(matches!(raw.ask(create).await, Answer::Created { there: 0, .. }));
    let partial = crate::world::partials(&world.there().join("folder")).remove(0);
    let name = partial.file_name().unwrap().to_str().unwrap();
    let listed = raw.ask(Request::List { path: b"folder".to_vec().into() }).await;
    assert!(matches!(listed, Answer::Entries { entries, more: false } if entries.is_empty()));
    for request in with_path(format!("folder/{name}").as_bytes()) {
        Raw::is(&raw.refused(request).await, RefusalCode::Name);
    }
    assert!(FilePath::parse(name.as_bytes()).is_err());
}
