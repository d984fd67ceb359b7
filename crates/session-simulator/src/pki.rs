//! A private CA for all seeds, and what it issues for one: certificates and revocation lists, dated in virtual time.

use crate::plan::{EDITIONS, Rules, Window, Windows};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber,
};
use secure_rdma::allow::{AllowedClient, ClientIdentity};
use secure_rdma::certs::{Store, Timestamp};
use secure_rdma::control::Access;
use secure_rdma::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use secure_rdma::tls::{ClientAuth, ClientTrust};
use secure_rdma::{AllowList, Identity, Name};
use std::sync::OnceLock;
use std::time::Duration;
use time::OffsetDateTime;

/// Servers that there are at most.
pub(crate) const SERVERS: usize = 3;

/// Clients that there are at most.
pub(crate) const CLIENTS: usize = 8;

/// How far virtual time is ahead of the system's clock: what goes by that finds nothing valid.
const AHEAD: Duration = Duration::from_secs(5 * 365 * 86_400);

/// The CA, which is the product's own.
#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// When all runs begin, for whoever looks at a calendar.
    beginning: Timestamp,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().join("state")).expect("a store");
        let certificate = store.ensure_authority().expect("a CA");
        let key = std::fs::read_to_string(store.dir().join("ca-key.pem")).expect("its key");
        let key = KeyPair::from_pem(&key).expect("a key");
        let issuer = Issuer::from_ca_cert_der(&certificate, key).expect("a CA");
        Authority { certificate, issuer, beginning: Timestamp::now().plus(AHEAD) }
    })
}

/// The CA's certificate.
pub(crate) fn trusted() -> CertificateDer<'static> {
    authority().certificate.clone()
}

/// What a clock shows so many seconds after the beginning.
pub(crate) fn moment(second: i64) -> Timestamp {
    Timestamp::from_unix(authority().beginning.as_unix().saturating_add_signed(second))
}

fn date(second: i64) -> OffsetDateTime {
    let unix = i64::try_from(moment(second).as_unix()).expect("a date");
    OffsetDateTime::from_unix_timestamp(unix).expect("a date")
}

/// The certificates of a run.
#[derive(Debug)]
pub(crate) struct Certificates {
    servers: Vec<[Issued; EDITIONS]>,
    clients: Vec<[Issued; EDITIONS]>,
}

#[derive(Clone, Debug)]
struct Issued {
    identity: Identity,
    serial: SerialNumber,
}

impl Certificates {
    pub(crate) fn new(windows: &Windows) -> Self {
        let issue = |name: String, windows: &[Window; EDITIONS], usage: &ExtendedKeyUsagePurpose| {
            windows.map(|window| Issued::new(&name, window, usage))
        };
        let servers = windows.servers.iter().enumerate().map(|(server, windows)| {
            issue(server_name(server).to_string(), windows, &ExtendedKeyUsagePurpose::ServerAuth)
        });
        let clients = windows.clients.iter().enumerate().map(|(client, windows)| {
            issue(client_name(client), windows, &ExtendedKeyUsagePurpose::ClientAuth)
        });
        Self { servers: servers.collect(), clients: clients.collect() }
    }

    pub(crate) fn server(&self, server: usize, edition: usize) -> &Identity {
        &self.servers[server][edition].identity
    }

    pub(crate) fn client(&self, client: usize, edition: usize) -> &Identity {
        &self.clients[client][edition].identity
    }

    /// What a server asks of its clients; its revocation list, if it has one, is the CA's `number`th.
    pub(crate) fn asked(&self, rules: &Rules, number: u64) -> ClientAuth {
        if rules.open {
            return ClientAuth::Off;
        }
        let present = (0..CLIENTS).filter(|client| !rules.absent.contains(client));
        let entries = present.map(|client| {
            let name = format!("dns:{}", client_name(client)).parse().expect("a name");
            AllowedClient::new(ClientIdentity::Name(name), Access::ALL).sessions(rules.quota)
        });
        let mut trust = ClientTrust::new(trusted()).allowed(AllowList::new(entries).expect("a list"));
        if let Some(ends) = rules.list_ends {
            trust = trust.revocations(vec![self.list(&rules.revoked, ends, number)]);
        }
        ClientAuth::Required(trust)
    }

    fn list(
        &self,
        revoked: &[(usize, usize)],
        ends: i64,
        number: u64,
    ) -> CertificateRevocationListDer<'static> {
        let this_update = date(Window::LONG.from);
        let revoked = revoked.iter().map(|(client, edition)| RevokedCertParams {
            serial_number: self.clients[*client][*edition].serial.clone(),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update,
            next_update: date(ends),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&authority().issuer).expect("a list").der().clone()
    }
}

impl Issued {
    fn new(name: &str, window: Window, usage: &ExtendedKeyUsagePurpose) -> Self {
        let key = KeyPair::generate().expect("a key");
        let serial = SerialNumber::from_slice(&key.public_key_raw()[1..17]);
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage.clone()];
        params.serial_number = Some(serial.clone());
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(window.from), date(window.until));
        let certificate = params.signed_by(&key, &authority().issuer).expect("a certificate");
        let chain = vec![certificate.der().clone(), trusted()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Self { identity: Identity::from_der(chain, key.into()).expect("its key"), serial }
    }
}

pub(crate) fn server_name(server: usize) -> Name {
    format!("server-{server}.example").parse().expect("a name")
}

fn client_name(client: usize) -> String {
    format!("client-{client}.example")
}
