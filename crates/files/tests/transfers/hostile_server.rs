//! Servers that don't keep to the protocol.

use crate::world::{CHUNK, World, partials, path};
use secure_rdma::Session;
use secure_rdma_files::message::{
    Answer, Request, Terms, VERSION, decode_greeting, decode_request, encode_answer,
};
use secure_rdma_files::{
    Batch, Entry, FilePath, FilesClient, FilesError, Outcome, Pace, RefusalCode, Root, Transfer,
};
use std::fs;
use std::sync::Arc;
use tokio::task::JoinHandle;

const TERMS: Terms =
    Terms { version: VERSION, chunk: 256 << 10, windows: 4, files: 8, readable: true, writable: true };

/// Answers as `answer` says, until the client is gone.
fn serve(
    mut session: Session,
    terms: Terms,
    mut answer: impl FnMut(Request) -> Answer + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Ok(Some(greeting)) = session.recv().await else { return };
        let (tag, _) = decode_greeting(&greeting).unwrap();
        session.send(&encode_answer(tag, Answer::Welcome(terms))).await.unwrap();
        while let Ok(Some(message)) = session.recv().await {
            let (tag, request) = decode_request(&message).unwrap();
            if session.send(&encode_answer(tag, answer(request))).await.is_err() {
                break;
            }
        }
        let _ = session.close().await;
    })
}

async fn client(
    world: &World,
    answer: impl FnMut(Request) -> Answer + Send + 'static,
) -> (FilesClient, JoinHandle<()>) {
    let (session, served) = world.session().await;
    let serving = serve(served, TERMS, answer);
    (FilesClient::open(session).await.unwrap(), serving)
}

/// Gets `x` from a server that answers so.
async fn get(
    world: &World,
    answer: impl FnMut(Request) -> Answer + Send + 'static,
) -> Result<Outcome, FilesError> {
    let (mut client, _serving) = client(world, answer).await;
    let root = Arc::new(Root::open(&world.here()).unwrap());
    let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
    let result = client.get(&root, &mut batch, &mut Pace::unlimited(), &()).await;
    assert!(!world.here().join("x").exists());
    assert_eq!(batch.waiting.len() + batch.outcomes.len(), 1);
    result.map(|()| batch.outcomes.remove(0))
}

fn protocol<T: std::fmt::Debug>(result: &Result<T, FilesError>) {
    assert!(matches!(result, Err(FilesError::Protocol(_))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_make_no_sense_are_not_gone_by() {
    let world = World::new().await;
    for terms in [
        Terms { chunk: 0, ..TERMS },
        Terms { chunk: 4095, ..TERMS },
        Terms { chunk: u32::MAX, ..TERMS },
        Terms { chunk: 512 << 10, ..TERMS },
        Terms { windows: 0, ..TERMS },
        // Behind the region's end.
        Terms { windows: 5, ..TERMS },
        Terms { windows: u16::MAX, ..TERMS },
        Terms { files: 0, ..TERMS },
    ] {
        let (session, served) = world.session().await;
        let _serving = serve(served, terms, |_| Answer::Done);
        protocol(&FilesClient::open(session).await);
    }
    let (session, served) = world.session().await;
    let _serving = serve(served, Terms { version: VERSION + 1, ..TERMS }, |_| Answer::Done);
    assert_eq!(FilesClient::open(session).await.unwrap_err().code(), Some(RefusalCode::Version));
}

/// An entry of that name, as another side's protocol would have it.
fn entry(name: &[u8]) -> Entry {
    let mut bytes = Vec::new();
    let mut encoder = minicbor::Encoder::new(&mut bytes);
    encoder.array(5).unwrap().bytes(name).unwrap().u8(0).unwrap().u8(1).unwrap().u8(0).unwrap();
    encoder.bool(false).unwrap();
    minicbor::decode(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_names_are_not_taken() {
    let world = World::new().await;
    for name in ["..", ".", "", "a/b", "/etc/passwd", "../../x", "a\0", ".secure-rdma-1.part"] {
        let (mut client, _serving) = client(&world, move |_| Answer::Entries {
            entries: vec![entry(b"good"), entry(name.as_bytes())],
            more: false,
        })
        .await;
        let error = client.find(&FilePath::root()).await.unwrap_err();
        assert_eq!(error.code(), Some(RefusalCode::Name), "{name:?}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_an_end_is_not_followed_for_ever() {
    let world = World::new().await;
    let (mut one, _serving) = client(&world, |_| Answer::Entries { entries: Vec::new(), more: true }).await;
    protocol(&one.find(&FilePath::root()).await);
    // Each folder has a folder in it.
    let (mut other, _served) = client(&world, |_| {
        let bytes = [0x85, 0x41, b'd', 1, 0, 0, 0xf4];
        Answer::Entries { entries: vec![minicbor::decode(&bytes).unwrap()], more: false }
    })
    .await;
    let error = other.find(&FilePath::root()).await.unwrap_err();
    assert_eq!(error.code(), Some(RefusalCode::Name), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_were_not_asked_for_end_it() {
    let world = World::new().await;
    for answer in [Answer::Same, Answer::Done, Answer::Differs, Answer::Created { file: 1, there: 0 }] {
        let told = answer.clone();
        protocol(&get(&world, move |_| told.clone()).await);
        let (mut client, _serving) = client(&world, move |_| answer.clone()).await;
        protocol(&client.stat(&path("x")).await);
    }
    let opened = |size| Answer::Opened { file: 1, size, executable: false };
    // "You have it already", of a chunk that isn't here: the file isn't whole then.
    let outcome = get(&world, move |request| match request {
        Request::Open { .. } => opened(5),
        Request::Read { .. } => Answer::Same,
        _ => Answer::Done,
    });
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.result.unwrap_err().code(), Some(RefusalCode::BadRequest));
    // Bytes that aren't what their hash is of, and too many or too few of them.
    for bytes in [None, Some(vec![1; 5]), Some(vec![0; 4]), Some(vec![0; CHUNK]), Some(Vec::new())] {
        let outcome = get(&world, move |request| match request {
            Request::Open { .. } => opened(5),
            Request::Read { .. } => {
                Answer::Chunk { digest: [7; 32].into(), bytes: bytes.clone().map(Into::into) }
            }
            _ => Answer::Done,
        });
        let outcome = outcome.await.unwrap();
        assert_eq!(outcome.result.unwrap_err().code(), Some(RefusalCode::Damaged));
    }
    // The same of a file that comes at once, with a hash of what it says, or of what came.
    for (bytes, hash) in [
        (None, [7; 32]),
        (Some(vec![1; 5]), [7; 32]),
        (Some(vec![0; 4]), *blake3::hash(&[0; 4]).as_bytes()),
        (Some(vec![0; 6]), *blake3::hash(&[0; 6]).as_bytes()),
        (Some(Vec::new()), *blake3::hash(&[]).as_bytes()),
    ] {
        let outcome = get(&world, move |_| Answer::Whole {
            size: 5,
            executable: false,
            digest: hash.into(),
            bytes: bytes.clone().map(Into::into),
        });
        let outcome = outcome.await.unwrap();
        assert_eq!(outcome.result.unwrap_err().code(), Some(RefusalCode::Damaged));
    }
    assert!(partials(&world.here()).len() <= 1);
    for size in [0, CHUNK as u64 + 1, u64::MAX] {
        let whole = Answer::Whole { size, executable: false, digest: [7; 32].into(), bytes: None };
        protocol(&get(&world, move |_| whole.clone()).await);
    }
    // A file that no disk has room for.
    let outcome = get(&world, move |request| match request {
        Request::Open { .. } => opened(u64::MAX),
        _ => Answer::Done,
    });
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.result.unwrap_err().code(), Some(RefusalCode::NoSpace));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_it_has_everything_gets_no_file_and_harms_none() {
    let world = World::new().await;
    // The second is handed over at once.
    let contents = [vec![7; CHUNK + 1], b"mine".to_vec()];
    for (content, there) in
        contents.iter().flat_map(|it| [0, it.len() as u64, u64::MAX].map(|there| (it, there)))
    {
        fs::write(world.here().join("x"), content).unwrap();
        let (mut client, _serving) = client(&world, move |request| match request {
            Request::Create { .. } => Answer::Created { file: 0, there },
            Request::Check { .. } => Answer::Same,
            _ => Answer::Done,
        })
        .await;
        let root = Arc::new(Root::open(&world.here()).unwrap());
        let mut batch = Batch::new([Transfer { from: path("x"), to: path("x") }]);
        client.put(&root, &mut batch, &mut Pace::unlimited(), &()).await.unwrap();
        // That it lies about its own disk is its own affair.
        batch.outcomes.remove(0).result.unwrap();
        assert!(fs::read(world.here().join("x")).unwrap() == *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_ends_it() {
    let world = World::new().await;
    for bytes in [vec![], vec![0xff; 20], vec![0x82, 1, 0x82, 2, 0x82, 0x9b, 0x7f, 0, 0, 0, 0, 0, 0, 0]] {
        let (session, mut served) = world.session().await;
        let serving = tokio::spawn(async move {
            served.recv().await.unwrap();
            // The client leaves as soon as it has it.
            let _ = served.send(&bytes).await;
            let _ = served.recv().await;
        });
        protocol(&FilesClient::open(session).await);
        serving.await.unwrap();
    }
}
