//! Sealing with keys from real TLS connections.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use secure_rdma::control::{Access, Role, SealPolicy};
use secure_rdma::seal::{
    Attempts, Context, Endpoint, Format, Layout, Limits, OVERHEAD, Region, SealError, SessionKeys, Suite,
    Writers,
};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

type Stream = TlsStream<DuplexStream>;

/// A handshake that can only come to `suite`: the client's end and the server's.
async fn handshake(suite: CipherSuite) -> (Stream, Stream) {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let provider = Arc::new(provider);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (ours, theirs) = duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name, ours),
        TlsAcceptor::from(Arc::new(server)).accept(theirs),
    );
    (client.unwrap().into(), server.unwrap().into())
}

fn context() -> Context {
    let end = |qpn, psn, host| Endpoint {
        qpn: rocev2::Qpn::new(qpn).unwrap(),
        psn: rocev2::Psn::new(psn).unwrap(),
        gid: std::net::Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped().octets(),
        udp_port: 4791,
        lid: 0,
    };
    let format = Format { writers: Writers::Both, ..Format::DEFAULT };
    let layout = Layout::for_capacity(1 << 16, format).unwrap();
    Context {
        version: 1,
        client_policy: SealPolicy::Required,
        server_policy: SealPolicy::Required,
        client: end(0x1234, 1, 1),
        server: end(0x5678, 2, 2),
        region: Some(Region {
            addr: 0,
            rkey: 1,
            len: layout.area_len(),
            layout,
            counters: None,
            access: Access::READ | Access::WRITE,
        }),
        client_certificate: None,
    }
}

async fn session(suite: CipherSuite) -> (SessionKeys, SessionKeys) {
    let (client, server) = handshake(suite).await;
    let keys = |tls: &Stream, own| SessionKeys::new(tls, &context(), own, Limits::DEFAULT).unwrap();
    (keys(&client, Role::Client), keys(&server, Role::Server))
}

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

#[tokio::test]
async fn the_two_ends_of_a_tls_connection_read_each_others_messages_and_slots() {
    for suite in SUITES {
        assert!(Suite::from_tls(suite).is_ok());
        let (mut client, mut server) = session(suite).await;
        let mut record = vec![0; 6 + OVERHEAD];
        client.sealer.seal(true, b"a word", &mut record).unwrap();
        assert!(!record.windows(6).any(|bytes| bytes == b"a word"));
        assert_eq!(server.opener.open_in_place(&mut record).unwrap().bytes, b"a word");
        server.sealer.seal(false, b"answer", &mut record).unwrap();
        assert_eq!(client.opener.open_in_place(&mut record).unwrap().bytes, b"answer");
        let (client, server) = (client.slots.as_mut().unwrap(), server.slots.as_mut().unwrap());
        let (mut memory, mut read) = (vec![0; client.layout().stride()], [0; 4096]);
        client.seal(3, &[7; 4096], &mut memory).unwrap();
        server.open(3, &memory, &mut read, &mut Attempts::once()).unwrap();
        assert_eq!(read, [7; 4096]);
        server.seal(3, &[8; 4096], &mut memory).unwrap();
        client.open(3, &memory, &mut read, &mut Attempts::once()).unwrap();
        assert_eq!(read, [8; 4096]);
    }
}

#[tokio::test]
async fn what_was_recorded_of_one_session_is_refused_in_another_with_the_same_context() {
    let (mut first, _) = session(SUITES[1]).await;
    let (_, mut second) = session(SUITES[1]).await;
    let mut record = vec![0; 6 + OVERHEAD];
    first.sealer.seal(true, b"a word", &mut record).unwrap();
    assert_eq!(second.opener.open_in_place(&mut record), Err(SealError::Message { counter: 0 }));
    let mut memory = vec![0; 4096 + 24];
    first.slots.unwrap().seal(0, &[7; 4096], &mut memory).unwrap();
    let mut read = [0; 4096];
    let refused = second.slots.unwrap().open(0, &memory, &mut read, &mut Attempts::once());
    assert_eq!(refused, Err(SealError::Slot { slot: 0 }));
    assert_eq!(read, [0; 4096]);
}
