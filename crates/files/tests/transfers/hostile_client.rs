//! Clients that don't keep to the protocol.

use crate::world::{CHUNK, Raw, World, bytes, partials, path};
use secure_rdma::SessionError;
use secure_rdma_files::message::{Answer, FileId, Request, encode_greeting, encode_request};
use secure_rdma_files::{Batch, FilesClient, FilesError, Pace, RefusalCode, Root, ServiceOptions, Transfer};
use std::fs;
use std::sync::Arc;

fn create(name: &str, size: u64) -> Request {
    Request::Create { path: name.as_bytes().to_vec().into(), size, executable: false }
}

async fn opened(raw: &mut Raw, request: Request) -> FileId {
    match raw.ask(request).await {
        Answer::Opened { file, .. } | Answer::Created { file, .. } => file,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_requests_are_refused_one_by_one() {
    let world = World::new().await;
    fs::write(world.there().join("x"), bytes(CHUNK + 1)).unwrap();
    let (session, serving) = world.served(ServiceOptions::default().writable(true).keep_free(0)).await;
    let mut raw = Raw::greet(session).await;
    let reading = opened(&mut raw, Request::Open { path: b"x".to_vec().into(), window: None }).await;
    let writing = opened(&mut raw, create("y", 10)).await;
    let digest = [0; 32].into();
    let open = |window| Request::Open { path: b"x".to_vec().into(), window: Some(window) };
    let store = |name: &str, size, window| {
        let path = name.as_bytes().to_vec().into();
        Request::Store { path, size, executable: false, window, digest }
    };
    let read = |file, chunk, window| Request::Read { file, chunk, window, known: None };
    let write = |file, chunk, window| Request::Write { file, chunk, window, digest };
    for request in [
        Request::Hello { version: 1 },
        Request::More,
        read(reading, 2, 0),
        read(reading, u64::MAX, 0),
        read(reading, 0, 4),
        read(reading, 0, u16::MAX),
        read(writing, 0, 0),
        read(77, 0, 0),
        write(writing, 1, 0),
        write(writing, u64::MAX, 0),
        write(writing, 0, 4),
        write(reading, 0, 0),
        write(u32::MAX, 0, 0),
        open(4),
        open(u16::MAX),
        store("z", 1, 4),
        store("z", 1, u16::MAX),
        store("z", 0, 0),
        store("z", CHUNK as u64 + 1, 0),
        store("z", u64::MAX, 0),
        Request::Check { file: reading, chunk: 0, digest },
        Request::Check { file: writing, chunk: 1, digest },
        Request::Close { file: 99 },
        Request::Commit { file: 99 },
        Request::Commit { file: reading },
    ] {
        Raw::is(&raw.refused(request).await, RefusalCode::BadRequest);
    }
    // Bytes that aren't what their hash is of, and a file that isn't whole.
    Raw::is(&raw.refused(write(writing, 0, 0)).await, RefusalCode::Damaged);
    Raw::is(&raw.refused(store("z", 1, 0)).await, RefusalCode::Damaged);
    Raw::is(&raw.refused(store("../z", 1, 0)).await, RefusalCode::Name);
    Raw::is(&raw.refused(Request::Commit { file: writing }).await, RefusalCode::BadRequest);
    assert!(!world.there().join("y").exists() && !world.there().join("z").exists());
    assert_eq!(partials(&world.there()).len(), 1, "of what is being written alone");
    // It is as good as before.
    assert!(matches!(raw.ask(read(reading, 1, 3)).await, Answer::Chunk { .. }));
    assert_eq!(raw.ask(Request::Close { file: reading }).await, Answer::Done);
    raw.session.close().await.unwrap();
    let (served, moved) = serving.await.unwrap();
    served.unwrap();
    assert_eq!((moved.bytes_read, moved.files_read, moved.files_written), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_ends_the_session_and_no_other() {
    let world = World::new().await;
    fs::write(world.there().join("x"), "x").unwrap();
    let mut endless = encode_request(1, Request::More);
    endless.push(0);
    let messages: [Vec<u8>; 5] = [
        Vec::new(),
        vec![0xff; 100],
        endless,
        encode_request(1, Request::Stat { path: vec![b'x'; 100_000].into() }),
        // An array that announces 2^63 items.
        [&[0x9b, 0x80][..], &[0; 7]].concat(),
    ];
    for message in messages {
        let (session, serving) = world.served(ServiceOptions::default()).await;
        let mut raw = Raw::greet(session).await;
        // The server ends the session as soon as it has it.
        let _ = raw.session.send(&message).await;
        let (served, _) = serving.await.unwrap();
        assert!(matches!(served, Err(SessionError::Protocol { .. })), "{served:?}");
        assert!(raw.session.recv().await.is_err());
    }
    // A greeting that goes on otherwise.
    let (mut session, serving) = world.served(ServiceOptions::default()).await;
    let mut greeting = encode_greeting(0);
    greeting.truncate(greeting.len() - 1);
    let _ = session.send(&greeting).await;
    assert!(matches!(serving.await.unwrap().0, Err(SessionError::Protocol { .. })));
    let (mut client, _serving) = world.files().await;
    assert_eq!(client.stat(&path("x")).await.unwrap().size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_files_open_and_no_more() {
    let world = World::new().await;
    fs::write(world.there().join("x"), "x").unwrap();
    let options = ServiceOptions::default().max_open_per_session(3).max_open(4);
    let (session, _serving) = world.served(options).await;
    let mut raw = Raw::greet(session).await;
    let open = || Request::Open { path: b"x".to_vec().into(), window: None };
    let mut files = Vec::new();
    for _ in 0..3 {
        files.push(opened(&mut raw, open()).await);
    }
    Raw::is(&raw.refused(open()).await, RefusalCode::TooMany);
    Raw::is(&raw.refused(Request::List { path: Vec::new().into() }).await, RefusalCode::TooMany);
    assert_eq!(raw.ask(Request::Close { file: files[1] }).await, Answer::Done);
    // A listing that is at its end has none open.
    for _ in 0..5 {
        let listed = raw.ask(Request::List { path: Vec::new().into() }).await;
        assert!(matches!(listed, Answer::Entries { more: false, .. }), "{listed:?}");
    }
    opened(&mut raw, open()).await;
    // One that couldn't be opened has none.
    Raw::is(&raw.refused(open()).await, RefusalCode::TooMany);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_too_large_for_the_server_or_its_disk_are_refused_before_they_come() {
    let world = World::new().await;
    let options = ServiceOptions::default().writable(true).max_file(1000);
    let (session, _serving) = world.served(options).await;
    let mut raw = Raw::greet(session).await;
    Raw::is(&raw.refused(create("x", 1001)).await, RefusalCode::TooLarge);
    Raw::is(&raw.refused(create("x", u64::MAX)).await, RefusalCode::TooLarge);
    let store = |size| {
        let (path, digest) = (b"x".to_vec().into(), [0; 32].into());
        Request::Store { path, size, executable: false, window: 0, digest }
    };
    Raw::is(&raw.refused(store(1001)).await, RefusalCode::TooLarge);
    assert!(partials(&world.there()).is_empty());
    let options = ServiceOptions::default().writable(true).keep_free(u64::MAX / 2);
    let (session, _served) = world.served(options).await;
    let mut raw = Raw::greet(session).await;
    Raw::is(&raw.refused(create("x", 1)).await, RefusalCode::NoSpace);
    Raw::is(&raw.refused(store(1)).await, RefusalCode::NoSpace);
    // What takes no room may be there.
    assert!(matches!(raw.ask(create("x", 0)).await, Answer::Created { .. }));
}

/// Many requests whose answers nobody takes: the server waits with them, and serves others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_does_not_listen_costs_only_itself() {
    let world = World::new().await;
    fs::write(world.there().join("x"), bytes(8 * CHUNK)).unwrap();
    let (session, _serving) = world.served(ServiceOptions::default()).await;
    let mut raw = Raw::greet(session).await;
    let flood = async {
        for tag in 0.. {
            let list = Request::List { path: Vec::new().into() };
            if raw.session.post_send(&encode_request(tag, list)).await.is_err() {
                break;
            }
        }
    };
    let others = async {
        for _ in 0..3 {
            let (mut client, _serving) = world.files().await;
            let root = Arc::new(Root::open(&world.here()).unwrap());
            let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
            client.get(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
            batch.outcomes.remove(0).result.unwrap();
        }
    };
    tokio::select! {
        () = flood => panic!("the server has ended a session that asks for what it may"),
        () = others => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_asks_for_nothing_is_ended() {
    let world = World::new().await;
    let idle = std::time::Duration::from_millis(50);
    let (mut session, serving) = world.served(ServiceOptions::default().idle(idle)).await;
    // It may be over before this side has heard that it was welcome.
    let _ = session.send(&encode_greeting(0)).await;
    let (served, _) = serving.await.unwrap();
    assert!(matches!(served, Err(SessionError::TimedOut { .. })), "{served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_files_says_so() {
    let world = World::new().await;
    // One that knows of files, and one that sends back what it gets.
    for knows in [true, false] {
        let (session, mut served) = world.session().await;
        let serving = tokio::spawn(async move {
            let first = served.recv().await.unwrap().unwrap();
            let answer = if knows { secure_rdma_files::decline(&first).unwrap() } else { first };
            served.send(&answer).await.unwrap();
            assert!(served.recv().await.unwrap().is_none());
            served.close().await.unwrap();
        });
        let error = FilesClient::open(session).await.unwrap_err();
        assert!(matches!(error, FilesError::NotServed(_)));
        assert_eq!(error.code(), Some(RefusalCode::NotOffered));
        serving.await.unwrap();
    }
    assert_eq!(secure_rdma_files::decline(b"hello"), None);
}
