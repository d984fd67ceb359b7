//! Real handshakes, good and bad, over memory and over loopback TCP.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ServerConfig};
use secure_rdma::Report;
use secure_rdma::certs::{
    CertsError, Clock, Fingerprint, Identity, Kind, Name, Revoke, Store, Timestamp, Validity,
};
use secure_rdma::control::{ControlChannel, ControlError, Fragments, Record};
use secure_rdma::tls::{ALPN, ClientAuth, ClientTls, ClientTrust, Peer, Secured, ServerTls, TlsError, Trust};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const LIMIT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A state directory with a CA.
struct Site {
    store: Store,
    _dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        store.ensure_authority().unwrap();
        Self { store, _dir: dir }
    }

    fn identity(&self, names: &[&str], kind: Kind, validity: Validity) -> Identity {
        let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
        self.store.issue("test", &names, kind, validity).unwrap();
        self.store.identity("test").unwrap()
    }

    fn server_identity(&self) -> Identity {
        self.identity(&["localhost", "127.0.0.1", "::1"], Kind::Server, Validity::days(1))
    }

    fn server(&self) -> ServerTls {
        ServerTls::new(&self.server_identity(), &ClientAuth::Off).unwrap()
    }

    fn server_of(&self, names: &[&str], validity: Validity) -> ServerTls {
        ServerTls::new(&self.identity(names, Kind::Server, validity), &ClientAuth::Off).unwrap()
    }

    fn client(&self) -> ClientTls {
        ClientTls::new(Trust::State(self.store.dir().into()), None).unwrap()
    }

    fn client_with(&self, identity: Identity) -> ClientTls {
        ClientTls::new(Trust::State(self.store.dir().into()), Some(identity)).unwrap()
    }

    fn pinning(&self) -> ClientTls {
        ClientTls::new(Trust::Pin(self.store.authority_fingerprint().unwrap()), None).unwrap()
    }

    fn ca_file(&self) -> PathBuf {
        self.store.dir().join("ca.pem")
    }

    /// The private key in a file of the store.
    fn key(&self, file: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.store.dir().join(file)).unwrap()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

type Outcome = Result<Secured<DuplexStream>, TlsError>;

/// Both sides of a handshake.
async fn handshake(client: &ClientTls, server: &ServerTls, to: &str) -> (Outcome, Outcome) {
    let (ours, theirs) = duplex(64 * 1024);
    let to = name(to);
    tokio::join!(client.connect(ours, &to, LIMIT), server.accept(theirs, LIMIT))
}

/// The client's error, and the server's.
async fn refusal(client: &ClientTls, server: &ServerTls, to: &str) -> (TlsError, TlsError) {
    let (client, server) = handshake(client, server, to).await;
    (client.unwrap_err(), server.unwrap_err())
}

fn assert_says(error: &TlsError, parts: &[&str]) {
    let text = Report::new(error).to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// A server that does whatever it is told to, with rustls alone.
fn any_server(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>, alpn: &[&[u8]]) -> TlsAcceptor {
    // Not checked to belong together, on purpose.
    let certified = CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(key).unwrap());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// What `client` says to such a server.
async fn against(client: &ClientTls, server: TlsAcceptor, to: &str) -> Outcome {
    let (ours, theirs) = duplex(64 * 1024);
    let to = name(to);
    let (outcome, _) = tokio::join!(client.connect(ours, &to, LIMIT), server.accept(theirs));
    outcome
}

/// A client that does whatever it is told to, with rustls alone.
fn any_client(
    site: &Site,
    alpn: &[&[u8]],
    groups: &[&'static dyn rustls::crypto::SupportedKxGroup],
) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(site.store.authority().unwrap()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = groups.to_vec();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// What `server` says to bytes; the connection stays open behind them.
async fn server_given(server: &ServerTls, bytes: &[u8]) -> TlsError {
    let (mut raw, theirs) = duplex(64 * 1024);
    raw.write_all(bytes).await.unwrap();
    server.accept(theirs, LIMIT).await.unwrap_err()
}

/// What `client` says to bytes in answer to its hello; the connection stays open behind them.
async fn client_given(client: &ClientTls, bytes: &[u8]) -> TlsError {
    let (ours, mut raw) = duplex(64 * 1024);
    raw.write_all(bytes).await.unwrap();
    client.connect(ours, &name("localhost"), LIMIT).await.unwrap_err()
}

// Good handshakes.

#[tokio::test]
async fn every_way_to_trust_the_ca_leads_to_tls_1_3_with_post_quantum_key_exchange() {
    let site = Site::new();
    let (identity, trusts) = (
        site.server_identity(),
        [
            Trust::State(site.store.dir().into()),
            Trust::from(site.ca_file()),
            Trust::Pin(site.store.authority_fingerprint().unwrap()),
        ],
    );
    let server = ServerTls::new(&identity, &ClientAuth::Off).unwrap();
    for trust in trusts {
        let client = ClientTls::new(trust, None).unwrap();
        for to in ["localhost", "LOCALHOST.", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let (client, server) = handshake(&client, &server, to).await;
            let (client, server) = (client.unwrap(), server.unwrap());
            for negotiated in [&client.negotiated, &server.negotiated] {
                assert_eq!(negotiated.version, "TLSv1.3");
                assert_eq!(negotiated.suite, "TLS13_AES_256_GCM_SHA384");
                assert_eq!(negotiated.group, "X25519MLKEM768");
            }
            assert_eq!(client.negotiated.peer_certificate_sha256, Some(identity.fingerprint()));
            assert_eq!(server.negotiated.peer_certificate_sha256, None);
        }
    }
}

#[tokio::test]
async fn records_pass_through_tls_and_both_ends_export_the_same_keys() {
    let site = Site::new();
    let (client, server) = handshake(&site.client(), &site.server(), "localhost").await;
    let (client, server) = (client.unwrap().stream, server.unwrap().stream);
    let export = |connection: &rustls::CommonState, export: &dyn Fn([u8; 32]) -> [u8; 32]| {
        assert_eq!(connection.alpn_protocol(), Some(ALPN));
        export([0; 32])
    };
    let label = b"EXPORTER-test";
    let ours = match &client {
        tokio_rustls::TlsStream::Client(stream) => export(stream.get_ref().1, &|out| {
            stream.get_ref().1.export_keying_material(out, label, Some(b"c")).unwrap()
        }),
        tokio_rustls::TlsStream::Server(_) => panic!("a client's stream"),
    };
    let theirs = match &server {
        tokio_rustls::TlsStream::Server(stream) => export(stream.get_ref().1, &|out| {
            stream.get_ref().1.export_keying_material(out, label, Some(b"c")).unwrap()
        }),
        tokio_rustls::TlsStream::Client(_) => panic!("a server's stream"),
    };
    assert_eq!(ours, theirs);
    assert_ne!(ours, [0; 32]);

    let (mut client, mut server) = (ControlChannel::new(client), ControlChannel::new(server));
    client.send(&Record::Ping { n: 42 }).await.unwrap();
    assert_eq!(server.recv_within(LIMIT).await.unwrap(), Record::Ping { n: 42 });
    server.send(&Record::Pong { n: 42 }).await.unwrap();
    assert_eq!(client.recv_within(LIMIT).await.unwrap(), Record::Pong { n: 42 });
    client.shutdown_within(LIMIT).await.unwrap();
    assert!(matches!(server.recv_within(LIMIT).await, Err(ControlError::Closed)));
}

#[tokio::test]
async fn a_connection_cut_without_a_closing_alert_is_told_from_an_orderly_end() {
    let site = Site::new();
    let (client, server) = handshake(&site.client(), &site.server(), "localhost").await;
    let mut server = ControlChannel::new(server.unwrap().stream);
    // Dropped as by a killed process: without close_notify.
    drop(client.unwrap());
    assert!(matches!(server.recv_within(LIMIT).await, Err(ControlError::BrokenOff)));
}

#[tokio::test]
async fn a_forged_byte_ends_the_control_channel() {
    let site = Site::new();
    let (near, mut near_wire) = duplex(64 * 1024);
    let (far, mut far_wire) = duplex(64 * 1024);
    let (client, server) = (site.client(), site.server());
    let to = name("localhost");
    // Someone on the path passes everything on, until told to change a byte.
    let (change, mut changing) = tokio::sync::oneshot::channel::<()>();
    let path = tokio::spawn(async move {
        let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        let mut forge = false;
        loop {
            tokio::select! {
                biased;
                _ = &mut changing, if !forge => forge = true,
                Ok(count @ 1..) = near_wire.read(&mut up) => {
                    if forge {
                        up[count - 1] ^= 1;
                    }
                    far_wire.write_all(&up[..count]).await.unwrap();
                }
                Ok(count @ 1..) = far_wire.read(&mut down) => near_wire.write_all(&down[..count]).await.unwrap(),
                else => return,
            }
        }
    });
    let (client, server) = tokio::join!(client.connect(near, &to, LIMIT), server.accept(far, LIMIT));
    let mut client = ControlChannel::new(client.unwrap().stream);
    let mut server = ControlChannel::new(server.unwrap().stream);
    client.send(&Record::Ready).await.unwrap();
    assert_eq!(server.recv_within(LIMIT).await.unwrap(), Record::Ready);
    change.send(()).unwrap();
    client.send(&Record::Bye(Fragments::default())).await.unwrap();
    let error = server.recv_within(LIMIT).await.unwrap_err();
    assert!(matches!(&error, ControlError::Io(io) if io.kind() == ErrorKind::InvalidData), "{error}");
    path.abort();
}

#[tokio::test]
async fn every_handshake_is_a_full_one() {
    let site = Site::new();
    let (client, server) = (site.client(), site.server());
    for _ in 0..3 {
        let (ours, theirs) = handshake(&client, &server, "localhost").await;
        let (mut ours, mut theirs) = (ours.unwrap().stream, theirs.unwrap().stream);
        // Read once, so that a ticket would have come.
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        ours.read_u8().await.unwrap();
        assert_eq!(ours.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(theirs.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_peer_without_ml_kem_gets_a_classical_group() {
    let site = Site::new();
    let (ours, theirs) = duplex(64 * 1024);
    let client = any_client(&site, &[ALPN], &[aws_lc_rs::kx_group::X25519]);
    let server = site.server();
    let (client, server) =
        tokio::join!(client.connect("localhost".try_into().unwrap(), ours), server.accept(theirs, LIMIT));
    client.unwrap();
    assert_eq!(server.unwrap().negotiated.group, "X25519");
}

#[tokio::test]
async fn a_server_goes_over_to_a_new_certificate_without_a_restart() {
    let site = Site::new();
    let server = site.server();
    let (old, _) = handshake(&site.client(), &server, "localhost").await;
    let renewed = site.server_identity();
    server.renew(&renewed).unwrap();
    let (new, _) = handshake(&site.client(), &server, "localhost").await;
    let new = new.unwrap().negotiated.peer_certificate_sha256;
    assert_eq!(new, Some(renewed.fingerprint()));
    assert_ne!(new, old.unwrap().negotiated.peer_certificate_sha256);
}

// Certificates that aren't the server's.

#[tokio::test]
async fn a_server_of_another_ca_is_refused_whatever_the_way_of_trusting() {
    let (site, other) = (Site::new(), Site::new());
    let server = other.server();
    for trust in [Trust::State(site.store.dir().into()), Trust::from(site.ca_file())] {
        let trusted = trust.to_string();
        let (ours, theirs) = refusal(&ClientTls::new(trust, None).unwrap(), &server, "localhost").await;
        assert!(matches!(ours, TlsError::NotTrusted { peer: Peer::Server, .. }), "{ours:?}");
        let issuer = other.store.show().unwrap().remove(0).subject;
        assert_says(&ours, &[&issuer, &trusted, "would be trusted"]);
        assert!(matches!(theirs, TlsError::Refused { alert: AlertDescription::UnknownCA, .. }), "{theirs:?}");
        assert_says(&theirs, &["the client refused", "doesn't trust this server's CA"]);
    }
    let (ours, _) = refusal(&site.pinning(), &server, "localhost").await;
    assert!(matches!(ours, TlsError::NotTrusted { .. }), "{ours:?}");
    let (pinned, sent) =
        (site.store.authority_fingerprint().unwrap(), other.store.authority_fingerprint().unwrap());
    assert_says(&ours, &[&pinned.to_string(), "prints at its start"]);
    assert!(
        !ours.to_string().contains(&sent.to_string()),
        "the error offers an attacker's fingerprint for copying"
    );
}

#[tokio::test]
async fn a_pinned_ca_that_anyone_can_send_along_vouches_for_nobody() {
    let (site, attacker) = (Site::new(), Site::new());
    let authority = site.store.authority().unwrap();
    // The attacker's own certificate, with the pinned CA's behind it, alone and with the attacker's CA.
    let identity = attacker.server_identity();
    let [leaf, attacker_ca] = identity.chain() else { panic!("a chain of two") };
    for chain in
        [vec![leaf.clone(), authority.clone()], vec![leaf.clone(), attacker_ca.clone(), authority.clone()]]
    {
        let server = any_server(chain, &attacker.key("test-key.pem"), &[ALPN]);
        let error = against(&site.pinning(), server, "localhost").await.unwrap_err();
        assert!(matches!(error, TlsError::NotTrusted { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_ca_of_the_same_name_with_another_key_is_not_trusted() {
    let site = Site::new();
    let authority = site.store.authority().unwrap();
    // A certificate that claims the trusted CA for its issuer, signed by another key.
    let (forger_key, leaf_key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let forger = rcgen::Issuer::from_ca_cert_der(&authority, forger_key).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = params.signed_by(&leaf_key, &forger).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    for client in [site.client(), site.pinning()] {
        let server = any_server(vec![leaf.clone(), authority.clone()], &key, &[ALPN]);
        let error = against(&client, server, "localhost").await.unwrap_err();
        assert!(matches!(error, TlsError::NotTrusted { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_copied_certificate_without_its_key_is_refused() {
    let (site, attacker) = (Site::new(), Site::new());
    attacker.server_identity();
    let chain = site.server_identity().chain().to_vec();
    for client in [site.client(), site.pinning()] {
        let server = any_server(chain.clone(), &attacker.key("test-key.pem"), &[ALPN]);
        let error = against(&client, server, "localhost").await.unwrap_err();
        assert!(matches!(error, TlsError::BadCertificate { peer: Peer::Server, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_certificate_can_not_vouch_for_another_not_even_when_it_is_pinned() {
    let site = Site::new();
    let holder = site.server_identity();
    let holder_key = rcgen::KeyPair::try_from(&site.key("test-key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&holder.chain()[0], holder_key).unwrap();
    let evil_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["bank.example".into()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let evil = params.signed_by(&evil_key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(evil_key.serialize_der()).unwrap();
    let chain = [&[evil][..], holder.chain()].concat();

    let pinned_leaf = ClientTls::new(Trust::Pin(holder.fingerprint()), None).unwrap();
    for client in [site.client(), site.pinning(), pinned_leaf] {
        let error =
            against(&client, any_server(chain.clone(), &key, &[ALPN]), "bank.example").await.unwrap_err();
        assert!(
            matches!(error, TlsError::NotTrusted { .. } | TlsError::BadCertificate { .. }),
            "{client:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_pin_of_the_servers_own_certificate_says_what_to_pin() {
    let site = Site::new();
    let identity = site.server_identity();
    let server = ServerTls::new(&identity, &ClientAuth::Off).unwrap();
    let client = ClientTls::new(Trust::Pin(identity.fingerprint()), None).unwrap();
    let (error, _) = refusal(&client, &server, "localhost").await;
    assert!(matches!(error, TlsError::NotTrusted { .. }), "{error:?}");
    assert_says(&error, &["the server's own certificate", "give that of its CA"]);
}

#[tokio::test]
async fn a_wrong_name_is_refused_and_the_right_ones_are_listed() {
    let site = Site::new();
    let server = site.server();
    for client in [site.client(), site.pinning()] {
        for to in ["other.example", "10.0.0.1", "::2"] {
            let (ours, theirs) = refusal(&client, &server, to).await;
            let TlsError::WrongName { expected, presented } = &ours else { panic!("{ours:?}") };
            assert_eq!(
                (expected.as_str(), &presented[..]),
                (to, &["localhost", "127.0.0.1", "::1"].map(String::from)[..])
            );
            assert_says(&ours, &[to, "localhost, 127.0.0.1, ::1"]);
            assert_says(&theirs, &["not for the name that it connects to"]);
        }
    }
}

#[tokio::test]
async fn an_address_in_the_certificate_is_no_dns_name_and_the_reverse() {
    let site = Site::new();
    let only_name = site.server_of(&["localhost"], Validity::days(1));
    assert!(matches!(refusal(&site.client(), &only_name, "127.0.0.1").await.0, TlsError::WrongName { .. }));
    let only_address = site.server_of(&["127.0.0.1"], Validity::days(1));
    assert!(matches!(
        refusal(&site.client(), &only_address, "localhost").await.0,
        TlsError::WrongName { .. }
    ));
    // Nor does a parent domain's certificate serve for a child.
    let parent = site.server_of(&["example.com"], Validity::days(1));
    assert!(matches!(refusal(&site.client(), &parent, "a.example.com").await.0, TlsError::WrongName { .. }));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let site = Site::new();
    let now = Timestamp::now();
    let validity = Validity { not_before: now.minus(DAY * 2), not_after: now.minus(DAY) };
    let server = site.server_of(&["localhost"], validity);
    for client in [site.client(), site.pinning()] {
        let (ours, theirs) = refusal(&client, &server, "localhost").await;
        assert!(
            matches!(ours, TlsError::Expired { not_after, .. } if not_after == validity.not_after),
            "{ours:?}"
        );
        assert_says(&ours, &[&format!("ended on {}", validity.not_after), "start the server again"]);
        assert_says(&theirs, &["has ended, or not begun"]);
    }
}

#[tokio::test]
async fn a_certificate_of_tomorrow_is_refused_with_its_date() {
    let site = Site::new();
    let now = Timestamp::now();
    let validity = Validity { not_before: now.plus(DAY), not_after: now.plus(DAY * 2) };
    let server = site.server_of(&["localhost"], validity);
    let (ours, _) = refusal(&site.client(), &server, "localhost").await;
    assert!(
        matches!(ours, TlsError::NotYetValid { not_before, .. } if not_before == validity.not_before),
        "{ours:?}"
    );
    assert_says(&ours, &[&format!("begins on {}", validity.not_before), "clocks"]);
}

/// A clock that is ahead of the system's by as many seconds as a test says.
fn clock(ahead: &Arc<AtomicU64>) -> Clock {
    let ahead = Arc::clone(ahead);
    Clock::new(move || Timestamp::now().plus(Duration::from_secs(ahead.load(Ordering::Relaxed))))
}

#[tokio::test]
async fn certificates_cas_and_revocation_lists_have_ended_when_the_clock_says_so_that_a_side_was_given() {
    let site = Site::new();
    let member = site.identity(&["c"], Kind::Client, Validity::days(1));
    let identity = site.server_identity();
    let (at_server, at_client) = (Arc::default(), Arc::default());
    let auth = ClientAuth::Required(site.ca_file().into());
    let server = ServerTls::with_clock(&identity, &auth, clock(&at_server)).unwrap();
    let trust = || Trust::State(site.store.dir().into());
    let client = || ClientTls::with_clock(trust(), Some(member.clone()), clock(&at_client)).map_err(Box::new);
    let (known, (two_days, long)) = (client().unwrap(), (2 * DAY.as_secs(), 20 * 365 * DAY.as_secs()));

    let (ours, theirs) = handshake(&known, &server, "localhost").await;
    assert!(ours.is_ok() && theirs.is_ok());
    at_server.store(two_days, Ordering::Relaxed);
    let (ours, theirs) = handshake(&known, &server, "localhost").await;
    assert_says(&theirs.unwrap_err(), &["the client's certificate ended on"]);
    assert_says(&late_error(ours).await, &["the server refused", "has ended"]);
    // A list that is good for a day, to the system's clock too.
    site.store.revoke(&[], 1).unwrap();
    let listed = ClientTrust::new(site.ca_file()).revocations(site.store.dir().join("crl.pem"));
    let listed = ClientAuth::Required(listed);
    assert!(server.reload(&identity, &listed).is_err());

    at_server.store(0, Ordering::Relaxed);
    server.reload(&identity, &listed).unwrap();
    at_client.store(two_days, Ordering::Relaxed);
    let (ours, _) = refusal(&known, &server, "localhost").await;
    assert!(matches!(ours, TlsError::Expired { .. }), "{ours:?}");
    assert!(client().unwrap().with_revocations(site.store.dir().join("crl.pem"), None).is_err());

    at_client.store(long, Ordering::Relaxed);
    assert_says(&client().unwrap_err(), &["ended on"]);
    at_server.store(long, Ordering::Relaxed);
    assert!(server.reload(&identity, &auth).is_err());
}

#[tokio::test]
async fn an_expired_ca_is_not_trusted_for_being_pinned() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&leaf_key, &issuer)
        .unwrap();
    let chain = vec![leaf.der().clone(), authority.der().clone()];
    let server = any_server(chain, &PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap(), &[ALPN]);
    let client = ClientTls::new(Trust::Pin(Fingerprint::of(authority.der())), None).unwrap();
    let error = against(&client, server, "localhost").await.unwrap_err();
    assert!(matches!(error, TlsError::Expired { .. }), "{error:?}");
    assert_says(&error, &["2020-01-01"]);
}

#[tokio::test]
async fn a_client_certificate_does_not_make_a_server() {
    let site = Site::new();
    let identity = site.identity(&["localhost"], Kind::Client, Validity::days(1));
    let server = ServerTls::new(&identity, &ClientAuth::Off).unwrap();
    let (ours, _) = refusal(&site.client(), &server, "localhost").await;
    assert!(matches!(ours, TlsError::WrongPurpose { peer: Peer::Server }), "{ours:?}");
}

#[tokio::test]
async fn what_is_no_ca_can_not_be_trusted() {
    let site = Site::new();
    site.server_identity();
    let leaf = site.store.dir().join("test.pem");
    let error = ClientTls::new(Trust::from(leaf), None).unwrap_err();
    assert_says(&error, &["test.pem", "is not a CA"]);
    let key = site.store.dir().join("ca-key.pem");
    assert_says(&ClientTls::new(Trust::from(key), None).unwrap_err(), &["is not a certificate"]);
    let absent = site.store.dir().join("absent.pem");
    assert_says(
        &ClientTls::new(Trust::from(absent.clone()), None).unwrap_err(),
        &["can't read", "absent.pem"],
    );
    assert_says(&ClientTls::new(Trust::State(absent), None).unwrap_err(), &["there is no CA in"]);
}

// Certificates of clients.

/// What the client reads first, if the server refused it after the client was done.
async fn late_error(client: Outcome) -> TlsError {
    let mut stream = client.unwrap().stream;
    let error = stream.read_u8().await.unwrap_err();
    TlsError::from_io(error, Peer::Server)
}

#[tokio::test]
async fn a_server_knows_its_clients_by_their_certificates_if_it_asks() {
    let site = Site::new();
    let identity = site.identity(&["client-7"], Kind::Client, Validity::days(1));
    let fingerprint = Some(identity.fingerprint());
    let (with, without) = (site.client_with(identity), site.client());
    let server_identity = site.server_identity();
    for (auth, seen_with, seen_without) in [
        (ClientAuth::Off, Some(None), Some(None)),
        (ClientAuth::Optional(site.ca_file().into()), Some(fingerprint), Some(None)),
        (ClientAuth::Required(site.ca_file().into()), Some(fingerprint), None),
    ] {
        let server = ServerTls::new(&server_identity, &auth).unwrap();
        for (client, seen) in [(&with, seen_with), (&without, seen_without)] {
            let (ours, theirs) = handshake(client, &server, "localhost").await;
            match seen {
                Some(seen) => {
                    assert_eq!(theirs.unwrap().negotiated.peer_certificate_sha256, seen, "{auth:?}");
                }
                None => {
                    let theirs = theirs.unwrap_err();
                    assert!(matches!(theirs, TlsError::NoClientCertificate), "{theirs:?}");
                    let ours = late_error(ours).await;
                    assert!(
                        matches!(
                            ours,
                            TlsError::Refused { alert: AlertDescription::CertificateRequired, .. }
                        ),
                        "{ours:?}"
                    );
                    assert_says(&ours, &["requires a client certificate"]);
                }
            }
        }
    }
}

#[tokio::test]
async fn bad_client_certificates_are_refused_on_both_sides_with_the_reason() {
    let (site, other) = (Site::new(), Site::new());
    let now = Timestamp::now();
    let past = Validity { not_before: now.minus(DAY * 2), not_after: now.minus(DAY) };
    let server_identity = site.server_identity();
    for auth in [ClientAuth::Optional(site.ca_file().into()), ClientAuth::Required(site.ca_file().into())] {
        let server = ServerTls::new(&server_identity, &auth).unwrap();
        for (identity, ours_says, theirs_says) in [
            (
                other.identity(&["c"], Kind::Client, Validity::days(1)),
                "doesn't trust the CA",
                "not by a CA that is trusted",
            ),
            (site.identity(&["c"], Kind::Client, past), "has ended", "the client's certificate ended on"),
            (
                site.identity(&["c"], Kind::Server, Validity::days(1)),
                "not issued for a client",
                "not issued for a client",
            ),
        ] {
            let (ours, theirs) = handshake(&site.client_with(identity), &server, "localhost").await;
            assert_says(&theirs.unwrap_err(), &[theirs_says]);
            assert_says(&late_error(ours).await, &["the server refused", ours_says]);
        }
    }
}

/// The older list is good by itself: signed, and not ended.
#[test]
fn a_revocation_list_is_not_rolled_back_by_a_reload_nor_by_a_restart() {
    let site = Site::new();
    let store = &site.store;
    let path = store.dir().join("distributed.pem");
    let list = || {
        store.revoke(&[], 1).unwrap();
        std::fs::read(store.certificate_file("crl")).unwrap()
    };
    let (old, new) = (list(), list());
    let put = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    let auth = |remembered: bool| {
        let trust = ClientTrust::new(site.ca_file()).revocations(path.clone());
        ClientAuth::Required(if remembered { trust.remembered(store.revocations_seen()) } else { trust })
    };
    let is_rolled_back = |result: Result<(), TlsError>| {
        matches!(result, Err(TlsError::Certificates(CertsError::RevocationsRolledBack { .. })))
    };
    let identity = site.server_identity();
    for remembered in [false, true] {
        put(&new);
        let server = ServerTls::new(&identity, &auth(remembered)).unwrap();
        put(&old);
        assert!(is_rolled_back(server.reload(&identity, &auth(remembered))), "{remembered}");
        // Also when nobody was asked for a certificate meanwhile.
        server.reload(&identity, &ClientAuth::Off).unwrap();
        assert!(is_rolled_back(server.reload(&identity, &auth(remembered))), "{remembered}");
        put(&new);
        server.reload(&identity, &auth(remembered)).unwrap();
        drop(server);
        put(&old);
        let restarted = ServerTls::new(&identity, &auth(remembered)).map(drop);
        assert_eq!(is_rolled_back(restarted), remembered);
    }
    // A client, too.
    assert!(site.client().with_revocations(path.as_path(), None).is_ok());
    let client = site.client().with_revocations(path.as_path(), Some(&store.revocations_seen())).map(drop);
    assert!(is_rolled_back(client));
}

/// What a server asks of clients whose CA is `site`'s and has this revocation list.
fn checking(site: &Site, list: &Path) -> ClientAuth {
    ClientAuth::Required(ClientTrust::new(site.ca_file()).revocations(list))
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_holder_told() {
    let site = Site::new();
    let (server_identity, list) = (site.server_identity(), site.store.dir().join("crl.pem"));
    let revoked = site.identity(&["c"], Kind::Client, Validity::days(1));
    site.store.revoke(&[Revoke::File(site.store.certificate_file("test"))], 1).unwrap();
    let good = site.identity(&["c"], Kind::Client, Validity::days(1));
    let server = ServerTls::new(&server_identity, &checking(&site, &list)).unwrap();
    let (ours, theirs) = handshake(&site.client_with(revoked), &server, "localhost").await;
    assert_says(&theirs.unwrap_err(), &["the client's certificate has been revoked"]);
    assert_says(&late_error(ours).await, &["the server refused", "has been revoked"]);
    let (ours, theirs) = handshake(&site.client_with(good), &server, "localhost").await;
    assert!(ours.is_ok() && theirs.is_ok());

    // The same the other way round.
    let client = || site.client().with_revocations(list.as_path(), None).unwrap();
    let server = ServerTls::new(&server_identity, &ClientAuth::Off).unwrap();
    let (ours, theirs) = handshake(&client(), &server, "localhost").await;
    assert!(ours.is_ok() && theirs.is_ok());
    let server_identity = site.server_identity();
    site.store.revoke(&[Revoke::File(site.store.certificate_file("test"))], 1).unwrap();
    let server = ServerTls::new(&server_identity, &ClientAuth::Off).unwrap();
    for client in [client(), site.pinning().with_revocations(list.as_path(), None).unwrap()] {
        let (ours, theirs) = refusal(&client, &server, "localhost").await;
        assert!(matches!(ours, TlsError::Revoked { peer: Peer::Server }), "{ours}");
        assert_says(&theirs, &["this server's certificate has been revoked"]);
    }
}

/// A CA below the one that is trusted, and no list of it: whether its certificates are revoked nobody knows.
#[tokio::test]
async fn a_certificate_that_no_list_tells_of_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    for site in [&site, &other] {
        site.store.revoke(&[], 1).unwrap();
    }
    let list = other.store.dir().join("crl.pem");
    // With a pin it isn't known beforehand whose list it should be.
    let client = site.pinning().with_revocations(list.as_path(), None).unwrap();
    let (ours, _) = refusal(&client, &site.server(), "localhost").await;
    assert!(matches!(ours, TlsError::RevocationUnknown { peer: Peer::Server }), "{ours}");
    assert_says(&ours, &["revoked isn't known"]);
    // Where it is known, it is an error of this side's.
    assert!(site.client().with_revocations(list.as_path(), None).is_err());
    assert!(ServerTls::new(&site.server_identity(), &checking(&site, &list)).is_err());
}

#[tokio::test]
async fn a_server_reloads_all_or_nothing() {
    let site = Site::new();
    let list = site.store.dir().join("crl.pem");
    site.store.revoke(&[], 1).unwrap();
    let first = site.server_identity();
    let server = ServerTls::new(&first, &checking(&site, &list)).unwrap();
    let identity = site.identity(&["c"], Kind::Client, Validity::days(1));
    site.store.revoke(&[Revoke::File(site.store.certificate_file("test"))], 1).unwrap();
    let client = site.client_with(identity);
    let good = std::fs::read(&list).unwrap();
    std::fs::write(&list, &good[..100]).unwrap();
    let second = site.server_identity();
    assert!(server.reload(&second, &checking(&site, &list)).is_err());
    let (ours, theirs) = handshake(&client, &server, "localhost").await;
    assert!(theirs.is_ok());
    assert_eq!(ours.unwrap().negotiated.peer_certificate_sha256, Some(first.fingerprint()));
    std::fs::write(&list, good).unwrap();
    server.reload(&second, &checking(&site, &list)).unwrap();
    let (ours, theirs) = handshake(&client, &server, "localhost").await;
    assert!(matches!(theirs, Err(TlsError::Revoked { peer: Peer::Client })));
    assert_eq!(ours.unwrap().negotiated.peer_certificate_sha256, Some(second.fingerprint()));
}

#[tokio::test]
async fn both_sides_know_the_names_in_each_others_certificates() {
    let site = Site::new();
    let identity = site.identity(&["client-7", "10.0.0.7"], Kind::Client, Validity::days(1));
    let server =
        ServerTls::new(&site.server_identity(), &ClientAuth::Optional(site.ca_file().into())).unwrap();
    let (ours, theirs) = handshake(&site.client_with(identity), &server, "localhost").await;
    assert_eq!(theirs.unwrap().negotiated.peer_names.to_string(), "dns:client-7, ip:10.0.0.7");
    let names = ours.unwrap().negotiated.peer_names;
    assert_eq!(names.to_string(), "dns:localhost, ip:127.0.0.1, ip:::1");
    let (_, theirs) = handshake(&site.client(), &server, "localhost").await;
    assert!(theirs.unwrap().negotiated.peer_names.names().is_empty());
}

#[tokio::test]
async fn a_refused_client_that_is_still_sending_is_not_reset_before_it_can_read_why() {
    let site = Site::new();
    let server =
        ServerTls::new(&site.server_identity(), &ClientAuth::Required(site.ca_file().into())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The server keeps the connection for a short time only. Time stands still as long as a task is ready, so that no
    // machine is too slow.
    tokio::time::pause();
    let _ready = tokio::spawn(async {
        loop {
            yield_now().await;
        }
    });
    let accept = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        server.accept(io, LIMIT).await.map(drop)
    });
    let io = TcpStream::connect(address).await.unwrap();
    let mut stream = site.client().connect(io, &name("localhost"), LIMIT).await.unwrap().stream;
    for _ in 0..4 {
        stream.write_all(&[0; 1000]).await.unwrap();
        stream.flush().await.unwrap();
        // Meanwhile the server has many turns.
        for _ in 0..100 {
            yield_now().await;
        }
    }
    let error = TlsError::from_io(stream.read_u8().await.unwrap_err(), Peer::Server);
    assert!(
        matches!(error, TlsError::Refused { alert: AlertDescription::CertificateRequired, .. }),
        "{error:?}"
    );
    drop(stream);
    assert!(matches!(accept.await.unwrap(), Err(TlsError::NoClientCertificate)));
}

// Peers that speak something else.

/// A TLS 1.2 client's hello: no supported_versions extension.
fn tls12_client_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut hello = vec![3, 3];
    hello.extend([0x42; 32]); // random
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session, ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    handshake_record(1, &hello)
}

/// A TLS 1.2 server's hello.
fn tls12_server_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([0x42; 32]);
    hello.extend([0, 0xc0, 0x2b, 0]);
    handshake_record(2, &hello)
}

fn handshake_record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 3, 3];
    record.extend((length + 4).to_be_bytes());
    record.extend([kind, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn a_tls_1_2_peer_is_refused_as_such() {
    let site = Site::new();
    let error = server_given(&site.server(), &tls12_client_hello()).await;
    assert!(matches!(error, TlsError::Version { peer: Peer::Client }), "{error:?}");
    assert_says(&error, &["the client doesn't speak TLS 1.3"]);

    let error = client_given(&site.client(), &tls12_server_hello()).await;
    assert!(matches!(error, TlsError::Version { peer: Peer::Server }), "{error:?}");
    // As a real TLS 1.2 server answers: with the alert protocol_version.
    let error = client_given(&site.client(), &[0x15, 3, 3, 0, 2, 2, 70]).await;
    assert!(matches!(error, TlsError::Refused { alert: AlertDescription::ProtocolVersion, .. }), "{error:?}");
    assert_says(&error, &["doesn't speak TLS 1.3"]);
}

#[tokio::test]
async fn a_tls_1_2_client_is_sent_an_alert_that_it_understands() {
    let site = Site::new();
    let (mut raw, theirs) = duplex(64 * 1024);
    raw.write_all(&tls12_client_hello()).await.unwrap();
    let server = site.server();
    let (outcome, answer) = tokio::join!(server.accept(theirs, LIMIT), async {
        let mut answer = Vec::new();
        raw.read_to_end(&mut answer).await.unwrap();
        answer
    });
    outcome.unwrap_err();
    assert_eq!((answer[0], &answer[5..]), (0x15, &[2, 70][..]), "a fatal alert protocol_version");
}

#[tokio::test]
async fn plain_text_and_garbage_are_refused_as_no_tls() {
    let site = Site::new();
    let (client, server) = (site.client(), site.server());
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0; 64],
        &[0xff; 64],
        &[0x16, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff],
        &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[0x16, 3, 1, 0, 0],
    ] {
        let error = server_given(&server, bytes).await;
        assert!(
            matches!(error, TlsError::NotTls { peer: Peer::Client, .. } | TlsError::Failed { .. }),
            "{bytes:x?}: {error:?}"
        );
        let error = client_given(&client, bytes).await;
        assert!(
            matches!(error, TlsError::NotTls { peer: Peer::Server, .. } | TlsError::Failed { .. }),
            "{bytes:x?}: {error:?}"
        );
    }
    assert_says(
        &server_given(&server, b"GET / HTTP/1.1\r\n\r\n").await,
        &["the client sent what is not TLS"],
    );
    assert_says(&client_given(&client, b"220 mail ESMTP\r\n").await, &["the server sent what is not TLS"]);
    // And it goes on serving.
    handshake(&client, &server, "localhost").await.1.unwrap();
}

#[tokio::test]
async fn tls_for_another_protocol_or_for_none_is_refused_on_both_sides() {
    let site = Site::new();
    let server = site.server();
    let groups = aws_lc_rs::DEFAULT_KX_GROUPS;
    for alpn in [&[][..], &[&b"h2"[..]], &[&b"secure-rdma/2"[..], b"http/1.1"]] {
        let (ours, theirs) = duplex(64 * 1024);
        let client = any_client(&site, alpn, groups);
        let (_, outcome) =
            tokio::join!(client.connect("localhost".try_into().unwrap(), ours), server.accept(theirs, LIMIT));
        let error = outcome.unwrap_err();
        assert!(matches!(error, TlsError::Protocol { peer: Peer::Client }), "{alpn:?}: {error:?}");

        let identity = site.server_identity();
        let other = any_server(identity.chain().to_vec(), &site.key("test-key.pem"), alpn);
        let error = against(&site.client(), other, "localhost").await.unwrap_err();
        match (&error, alpn) {
            (TlsError::Protocol { peer: Peer::Server }, []) => {}
            (TlsError::Refused { alert: AlertDescription::NoApplicationProtocol, .. }, [_, ..]) => {}
            _ => panic!("{alpn:?}: {error:?}"),
        }
        assert_says(&error, &["secure-rdma/1"]);
    }
}

// Peers that stop.

/// The first bytes that a client sends.
async fn client_hello(site: &Site) -> Vec<u8> {
    let (ours, mut raw) = duplex(64 * 1024);
    let client = site.client();
    let connecting =
        tokio::spawn(async move { client.connect(ours, &name("localhost"), LIMIT).await.map(drop) });
    let mut hello = vec![0; 64 * 1024];
    let count = raw.read(&mut hello).await.unwrap();
    connecting.abort();
    hello.truncate(count);
    hello
}

#[tokio::test]
async fn a_client_that_leaves_at_any_byte_of_its_hello_is_said_to_have_left() {
    let site = Site::new();
    let (server, hello) = (site.server(), client_hello(&site).await);
    assert!(hello.len() > 1200, "no ML-KEM key in {} bytes", hello.len());
    for end in 0..=hello.len() {
        let (mut raw, theirs) = duplex(64 * 1024);
        raw.write_all(&hello[..end]).await.unwrap();
        drop(raw);
        let error = server.accept(theirs, LIMIT).await.unwrap_err();
        assert!(matches!(error, TlsError::Closed { peer: Peer::Client }), "after {end} bytes: {error:?}");
    }
}

#[tokio::test]
async fn a_damaged_hello_never_passes_and_never_panics() {
    let site = Site::new();
    let (server, hello) = (site.server(), client_hello(&site).await);
    for at in 0..hello.len() {
        let mut bytes = hello.clone();
        bytes[at] ^= 1 << (at % 8);
        let (mut raw, theirs) = duplex(64 * 1024);
        raw.write_all(&bytes).await.unwrap();
        // Some changes (the random) matter only later: then the server waits for more, and finds that the
        // client has left.
        drop(raw);
        server.accept(theirs, LIMIT).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_server_that_leaves_in_the_middle_is_said_to_have_left() {
    let site = Site::new();
    let client = site.client();
    for taken in [0, 1, 500] {
        let (ours, mut raw) = duplex(64 * 1024);
        let to = name("localhost");
        let (outcome, ()) = tokio::join!(client.connect(ours, &to, LIMIT), async move {
            raw.read_exact(&mut vec![0; taken]).await.unwrap();
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, TlsError::Closed { peer: Peer::Server }), "{error:?}");
        assert_says(&error, &["the server closed the connection before the TLS handshake was done"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_waited_for_no_longer_than_allowed() {
    let site = Site::new();
    let limit = Duration::from_secs(3);
    let start = Instant::now();
    let (_raw, theirs) = duplex(64);
    let error = site.server().accept(theirs, limit).await.unwrap_err();
    assert!(matches!(error, TlsError::TimedOut { peer: Peer::Client, .. }), "{error:?}");
    assert_eq!(start.elapsed(), limit);

    let (ours, _raw) = duplex(64 * 1024);
    let error = site.client().connect(ours, &name("localhost"), limit).await.unwrap_err();
    assert_says(&error, &["handshake with the server was not done in 3s"]);
    assert_eq!(start.elapsed(), limit * 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_its_hello_gains_no_time() {
    let site = Site::new();
    let hello = {
        let (ours, mut raw) = duplex(64 * 1024);
        let client = site.client();
        let _ = timeout(Duration::from_millis(1), client.connect(ours, &name("localhost"), LIMIT)).await;
        let mut hello = Vec::new();
        raw.read_to_end(&mut hello).await.unwrap();
        hello
    };
    let (mut raw, theirs) = duplex(64 * 1024);
    let trickling = tokio::spawn(async move {
        for byte in hello {
            if raw.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let start = Instant::now();
    let error = site.server().accept(theirs, Duration::from_secs(4)).await.unwrap_err();
    assert!(matches!(error, TlsError::TimedOut { .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 4);
    trickling.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_goes_on_sending_is_not_listened_to_for_long() {
    let site = Site::new();
    let (mut raw, theirs) = duplex(1024);
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        while raw.write_all(&[0; 1000]).await.is_ok() {
            sent += 1000;
        }
        sent
    });
    let start = Instant::now();
    site.server().accept(theirs, LIMIT).await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_millis(500));
    assert!(flood.await.unwrap() <= 80_000);
}
