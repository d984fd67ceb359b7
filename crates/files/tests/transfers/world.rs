//! A server, a client, and a directory at each.

use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{Name, Store};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{Client, SealedBy, Server, ServerOptions, Session, SessionError, SessionOptions};
use secure_rdma_files::message::{Answer, Request, Tag, decode_answer, encode_greeting, encode_request};
use secure_rdma_files::{FilePath, FilesClient, Moved, Refusal, RefusalCode, Service, ServiceOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Bytes of a client's region, and of a chunk in it.
pub(crate) const REGION: u64 = 1 << 20;
pub(crate) const CHUNK: usize = 256 << 10;

pub(crate) struct World {
    dir: TempDir,
    pub(crate) server: Server,
    pub(crate) client: Client,
    name: Name,
}

/// A session that is being served: how that ended, and what was moved.
pub(crate) type Serving = JoinHandle<(Result<(), SessionError>, Moved)>;

/// Options that have the data path sealed like this.
pub(crate) fn sealed_by(by: SealedBy) -> SessionOptions {
    match by {
        SealedBy::Packets => SessionOptions::default(),
        SealedBy::Messages => SessionOptions::default().packets(None),
        SealedBy::Nothing => SessionOptions::default().seal(SealPolicy::Off),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(SealedBy::Packets).await
    }

    pub(crate) async fn with(by: SealedBy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for side in ["there", "here", "outside"] {
            fs::create_dir(dir.path().join(side)).unwrap();
        }
        fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        let state = dir.path().join("state");
        let name: Name = "localhost".parse().unwrap();
        let identity = Store::open(&state).unwrap().ensure_server(std::slice::from_ref(&name)).unwrap();
        let options = ServerOptions::default().region_len(REGION).session(sealed_by(by));
        let server = Server::builder(identity, ClientAuth::Off).device(device()).options(options);
        let server = server.bind("127.0.0.1:0").await.unwrap();
        let client = Client::builder(Trust::State(state)).device(device()).options(sealed_by(by));
        Self { dir, server, client: client.build().unwrap(), name }
    }

    /// The directory that is offered, the client's, and one that neither may reach.
    pub(crate) fn there(&self) -> PathBuf {
        self.dir.path().join("there")
    }

    pub(crate) fn here(&self) -> PathBuf {
        self.dir.path().join("here")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Both ends of a session.
    pub(crate) async fn session(&self) -> (Session, Session) {
        let port = self.server.local_addr().port();
        let connecting = self.client.connect("127.0.0.1", port, &self.name);
        let (client, server) = tokio::join!(connecting, self.server.accept());
        (client.unwrap(), server)
    }

    /// A client's end of a session that is being served.
    pub(crate) async fn served(&self, options: ServiceOptions) -> (Session, Serving) {
        let service = Service::open(&self.there(), options).unwrap();
        let (client, mut session) = self.session().await;
        let serving = tokio::spawn(async move {
            let mut moved = Moved::default();
            let Ok(Some(greeting)) = session.recv().await else { return (Ok(()), moved) };
            let served = service.serve(&mut session, &greeting, &mut moved).await;
            match &served {
                Ok(()) => drop(session.close().await),
                Err(error) => session.abort(error.clone()).await,
            }
            (served, moved)
        });
        (client, serving)
    }

    /// A client that moves files, for reading and writing.
    pub(crate) async fn files(&self) -> (FilesClient, Serving) {
        let (session, serving) = self.served(ServiceOptions::default().writable(true).keep_free(0)).await;
        (FilesClient::open(session).await.unwrap(), serving)
    }
}

fn device() -> Arc<Device> {
    Device::open(&"embedded".parse::<DeviceSelector>().unwrap()).unwrap()
}

/// A client that says what it likes.
pub(crate) struct Raw {
    pub(crate) session: Session,
    tag: Tag,
}

impl Raw {
    pub(crate) async fn greet(mut session: Session) -> Self {
        session.send(&encode_greeting(0)).await.unwrap();
        let welcome = session.recv().await.unwrap().unwrap();
        assert!(matches!(decode_answer(&welcome).unwrap(), (0, Answer::Welcome(_))));
        Self { session, tag: 0 }
    }

    pub(crate) async fn ask(&mut self, request: Request) -> Answer {
        self.tag += 1;
        self.session.send(&encode_request(self.tag, request)).await.unwrap();
        let answer = self.session.recv().await.unwrap().unwrap();
        let (tag, answer) = decode_answer(&answer).unwrap();
        assert_eq!(tag, self.tag);
        answer
    }

    pub(crate) async fn refused(&mut self, request: Request) -> Refusal {
        match self.ask(request.clone()).await {
            Answer::Refused(refusal) => refusal,
            answer => panic!("{request:?} was answered by {answer:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn is(refusal: &Refusal, code: RefusalCode) {
        assert_eq!(refusal.code(), code, "{refusal:?}");
    }
}

pub(crate) fn path(text: &str) -> FilePath {
    FilePath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..251u8).cycle().take(len).collect()
}

/// The partial files in a directory.
pub(crate) fn partials(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
}
