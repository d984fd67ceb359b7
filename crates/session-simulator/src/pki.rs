//! Certificates for all seeds: made once, since keys aren't the seed's, and take their time.

use secure_rdma::allow::{AllowedClient, ClientIdentity};
use secure_rdma::certs::{Kind, Store, Validity};
use secure_rdma::control::Access;
use secure_rdma::tls::{ClientAuth, ClientTrust};
use secure_rdma::{AllowList, Identity, Name};
use std::sync::OnceLock;

/// Servers that there are at most, each with two certificates: it may be renewed.
pub(crate) const SERVERS: usize = 3;

/// Clients that there are at most.
pub(crate) const CLIENTS: usize = 8;

/// A private CA and what it has issued.
#[derive(Debug)]
pub(crate) struct Pki {
    _dir: tempfile::TempDir,
    pub(crate) store: Store,
    servers: Vec<[Identity; 2]>,
    clients: Vec<Identity>,
}

/// The certificates.
pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(Pki::new)
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().join("state")).expect("a store");
        let issue = |file: &str, name: &Name, kind| {
            store.issue(file, std::slice::from_ref(name), kind, Validity::days(1)).expect("issued");
            store.identity(file).expect("its key")
        };
        let servers = (0..SERVERS).map(|server| {
            let name = server_name(server);
            ["old", "new"].map(|age| issue(&format!("server-{server}-{age}"), &name, Kind::Server))
        });
        let servers = servers.collect();
        let clients = (0..CLIENTS).map(|client| {
            let name = client_name(client).parse().expect("a name");
            issue(&format!("client-{client}"), &name, Kind::Client)
        });
        let clients = clients.collect();
        Self { _dir: dir, store, servers, clients }
    }

    /// A server's certificate, the first one or the one that takes its place.
    pub(crate) fn server(&self, server: usize, renewed: bool) -> &Identity {
        &self.servers[server][usize::from(renewed)]
    }

    pub(crate) fn client(&self, client: usize) -> &Identity {
        &self.clients[client]
    }

    /// Lets in all clients but these.
    pub(crate) fn all_but(&self, absent: &[usize]) -> ClientAuth {
        let present = (0..CLIENTS).filter(|client| !absent.contains(client));
        let entries = present.map(|client| {
            let name = format!("dns:{}", client_name(client)).parse().expect("a name");
            AllowedClient::new(ClientIdentity::Name(name), Access::ALL).sessions(64)
        });
        let list = AllowList::new(entries).expect("a list");
        let authority = self.store.authority().expect("a CA");
        ClientAuth::Required(ClientTrust::new(authority).allowed(list))
    }
}

pub(crate) fn server_name(server: usize) -> Name {
    format!("server-{server}.example").parse().expect("a name")
}

fn client_name(client: usize) -> String {
    format!("client-{client}.example")
}
