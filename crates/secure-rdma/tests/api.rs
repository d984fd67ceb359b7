//! The interface as its users meet it: from where identities and trust may come, what tasks may own, and what errors
//! tell.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use secure_rdma::allow::{AllowedClient, ClientIdentity};
use secure_rdma::certs::{Kind, Revoke, Store, Validity};
use secure_rdma::{
    Access, AllowError, AllowList, Authorities, Client, ClientAuth, ClientBuilder, ClientTrust, Device,
    Identity, Name, RecvHalf, Report, RevocationLists, SendHalf, Server, ServerBuilder, ServerOptions,
    Session, SessionError, SessionErrorKind, SessionOptions, Timeouts, Trust,
};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A private CA, and a server's and a client's certificate.
struct Site {
    _dir: TempDir,
    store: Store,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        store.ensure_server(&[name()]).unwrap();
        store.issue("client", &["client.example".parse().unwrap()], Kind::Client, Validity::days(1)).unwrap();
        Self { _dir: dir, store }
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.store.dir().join(file)).unwrap()
    }

    fn authority(&self) -> CertificateDer<'static> {
        self.store.authority().unwrap()
    }

    fn chain(&self, file: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(&self.read(&format!("{file}.pem"))).map(Result::unwrap).collect()
    }

    fn key(&self, file: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(&self.read(&format!("{file}-key.pem"))).unwrap()
    }

    /// One identity, from everything that it can come from.
    fn identities(&self, file: &str) -> Vec<Identity> {
        let (certificate, key) = (self.read(&format!("{file}.pem")), self.read(&format!("{file}-key.pem")));
        let together = [certificate.clone(), key.clone()].concat();
        let signer = any_supported_type(&self.key(file)).unwrap();
        vec![
            self.store.identity(file).unwrap(),
            Identity::from_pem(&certificate, &key).unwrap(),
            Identity::from_pem(&together, &together).unwrap(),
            Identity::from_der(self.chain(file), self.key(file)).unwrap(),
            Identity::from_signer(self.chain(file), signer).unwrap(),
        ]
    }

    /// One CA, in every form that it can be given.
    fn authorities(&self) -> Vec<Authorities> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority()).unwrap();
        vec![
            self.store.certificate_file("ca").into(),
            Authorities::Pem(self.read("ca.pem")),
            self.authority().into(),
            vec![self.authority()].into(),
            Arc::new(roots).into(),
        ]
    }
}

fn name() -> Name {
    "localhost".parse().unwrap()
}

fn device() -> Arc<Device> {
    Device::open(&"embedded".parse().unwrap()).unwrap()
}

async fn bind(server: ServerBuilder) -> Server {
    server.device(device()).bind("127.0.0.1:0").await.unwrap()
}

async fn connect(client: ClientBuilder, server: &Server) -> Result<Session, SessionError> {
    client.device(device()).connect("127.0.0.1", server.local_addr().port(), &name()).await
}

#[tokio::test]
async fn identities_and_authorities_are_the_same_from_wherever_they_come() {
    let site = Site::new();
    let [servers, clients] = ["server", "client"].map(|file| site.identities(file));
    for ((server, client), authorities) in servers.into_iter().zip(clients).zip(site.authorities()) {
        let server = bind(Server::builder(server, ClientAuth::Required(authorities.clone().into()))).await;
        let client = Client::builder(authorities).identity(client);
        let (client, served) = tokio::join!(connect(client, &server), server.accept());
        assert_eq!(served.info().tls.peer_names.to_string(), "dns:client.example");
        drop(client.unwrap());
    }
}

#[tokio::test]
async fn revocation_lists_are_the_same_from_wherever_they_come() {
    let site = Site::new();
    let revoked = site.store.identity("client").unwrap();
    site.store.revoke(&[Revoke::File(site.store.certificate_file("client"))], 1).unwrap();
    let pem = site.read("crl.pem");
    let lists: Vec<CertificateRevocationListDer<'static>> =
        CertificateRevocationListDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
    for lists in [site.store.certificate_file("crl").into(), RevocationLists::Bytes(pem), lists.into()] {
        let trust = ClientTrust::new(site.authority()).revocations(lists);
        let identity = site.store.identity("server").unwrap();
        let server = bind(Server::builder(identity, ClientAuth::Required(trust))).await;
        let error =
            connect(Client::builder(site.authority()).identity(revoked.clone()), &server).await.unwrap_err();
        assert!(error.is_refused(), "{}", Report::new(&error));
    }
}

#[test]
fn what_does_not_belong_together_is_no_identity() {
    let site = Site::new();
    let mismatched = [
        Identity::from_pem(&site.read("client.pem"), &site.read("server-key.pem")),
        Identity::from_der(site.chain("client"), site.key("server")),
        Identity::from_signer(site.chain("client"), any_supported_type(&site.key("server")).unwrap()),
        Identity::from_der(Vec::new(), site.key("server")),
        Identity::from_pem(b"", &site.read("server-key.pem")),
    ];
    for (at, identity) in mismatched.into_iter().enumerate() {
        assert!(identity.is_err(), "{at}");
    }
    // A server's certificate vouches for nobody.
    for authorities in
        [Authorities::Pem(site.read("client.pem")), site.chain("client").into(), Vec::new().into()]
    {
        assert!(Client::builder(authorities).device(device()).build().is_err());
    }
}

#[tokio::test]
async fn a_list_of_allowed_clients_may_be_put_together_by_a_program() {
    let site = Site::new();
    let client = |name: &str| ClientIdentity::Name(format!("dns:{name}").parse().unwrap());
    let entry = AllowedClient::new(client("client.example"), Access::READ | Access::WRITE).region(4096);
    let list = AllowList::new([entry.clone(), AllowedClient::new(client("b"), Access::SEND)]).unwrap();
    let trust = ClientTrust::new(site.authority()).allowed(list);
    let server = Server::builder(site.store.identity("server").unwrap(), ClientAuth::Required(trust));
    let server = bind(server).await;
    let client = Client::builder(site.authority()).identity(site.store.identity("client").unwrap());
    let (session, _served) = tokio::join!(connect(client, &server), server.accept());
    let mut session = session.unwrap();
    assert_eq!(session.data_len(), 4096);
    session.write(0, b"written").await.unwrap();
    let error = session.send(b"not allowed").await.unwrap_err();
    assert!(matches!(error, SessionError::NotAllowed { operation: "send" }) && error.is_refused(), "{error}");

    let twice = AllowList::new([entry.clone(), entry.clone()]);
    let nothing = AllowedClient::new(entry.identity.clone(), Access::NONE);
    for wrong in [twice, AllowList::new([]), AllowList::new([nothing]), AllowList::new([entry.region(0)])] {
        assert!(matches!(wrong, Err(AllowError::Wrong { line: None, .. })), "{wrong:?}");
    }
}

#[tokio::test]
async fn several_tasks_may_accept_and_each_gets_another_session() {
    let site = Site::new();
    let server =
        Arc::new(bind(Server::builder(site.store.identity("server").unwrap(), ClientAuth::Off)).await);
    let accepting = [(); 3].map(|()| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let mut session = server.accept().await;
            let message = session.recv().await.unwrap().unwrap();
            (session, message)
        })
    });
    // Who is refused is no reason to stop.
    let other = Site::new();
    connect(Client::builder(other.authority()), &server).await.unwrap_err();
    let client = Client::builder(Trust::State(site.store.dir().into())).device(device()).build().unwrap();
    let mut sessions = Vec::new();
    for number in 0..3 {
        let mut session = client.connect("127.0.0.1", server.local_addr().port(), &name()).await.unwrap();
        session.send(&[number]).await.unwrap();
        sessions.push(session);
    }
    let (mut received, mut served) = (Vec::new(), Vec::new());
    for task in accepting {
        let (session, message) = task.await.unwrap();
        received.push(message[0]);
        served.push(session);
    }
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2]);
}

#[tokio::test]
async fn errors_have_a_kind_and_their_causes() {
    let site = Site::new();
    let client = || Client::builder(site.authority()).device(device());
    let quick = SessionOptions::default().timeouts(Timeouts::DEFAULT.step(Duration::from_millis(200)));

    // Longer than a part of a name may be: no server has to be asked, which may take its time or not be there.
    let error = client().connect(&"a".repeat(64), 1, &name()).await.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Unreachable, "{error}");
    assert!(error.source().unwrap().is::<Arc<std::io::Error>>());
    assert!(Report::new(&error).to_string().len() > error.to_string().len() + 2);

    // Somebody listens and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let error = client().options(quick).connect("127.0.0.1", port, &name()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");

    // Somebody has the port, so that nobody else does, and doesn't listen.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = deaf.local_addr().unwrap().port();
    let error = client().connect("127.0.0.1", port, &name()).await.unwrap_err();
    assert!(error.is_unreachable() && matches!(error, SessionError::Connect { .. }), "{error}");

    // Another CA's server.
    let identity = site.store.identity("server").unwrap();
    let server = bind(Server::builder(identity.clone(), ClientAuth::Off)).await;
    let other = Site::new();
    let error = connect(Client::builder(other.authority()), &server).await.unwrap_err();
    assert!(error.is_refused(), "{error}");

    // The address is taken.
    let error = Server::builder(identity, ClientAuth::Off).bind(server.local_addr()).await.unwrap_err();
    assert!(error.kind() == SessionErrorKind::System && error.source().is_some(), "{error}");

    // What can't be, and then a server that goes.
    let (session, served) = tokio::join!(connect(client(), &server), server.accept());
    let mut session = session.unwrap();
    assert!(session.read(session.data_len(), 1).await.unwrap_err().is_invalid_input());
    session.write(0, b"still there").await.unwrap();
    drop(served);
    let error = session.ended().await.unwrap();
    assert!(error.is_closed(), "{}", Report::new(&error));
}

#[tokio::test]
async fn time_limits_are_options() {
    let site = Site::new();
    let options = ServerOptions::default().first_byte(Duration::from_millis(100));
    let identity = site.store.identity("server").unwrap();
    let server = bind(Server::builder(identity, ClientAuth::Off).options(options)).await;
    let _silent = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    let secure_rdma::Arrival::Refused { error, .. } = server.next().await else { panic!() };
    assert!(matches!(error, SessionError::NoHello(limit) if limit == Duration::from_millis(100)), "{error}");
    assert!(error.is_timeout());
}

/// What tasks own, and what they share.
const _: () = {
    const fn owned<T: Send + 'static>() {}
    const fn shared<T: Send + Sync + 'static>() {}
    owned::<Session>();
    shared::<SendHalf>();
    shared::<RecvHalf>();
    shared::<Server>();
    shared::<Client>();
    shared::<ServerBuilder>();
    shared::<ClientBuilder>();
    shared::<Identity>();
    shared::<SessionError>();
};
