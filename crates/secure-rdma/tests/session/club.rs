//! A server that lets in only whom it knows.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::world::{World, client, messages};
use secure_rdma::certs::{Identity, Kind, Revoke, Store, Validity};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::{ClientAuth, ClientTrust};
use secure_rdma::{Client, Reloaded, Session, SessionError};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// The CA of the clients, its revocation list, and the list of those that are allowed.
pub(crate) struct Club {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Club {
    /// Nobody is on its list yet, and nobody revoked.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("club")).unwrap();
        store.ensure_authority().unwrap();
        store.revoke(&[], 1).unwrap();
        Self { _dir: dir, store }
    }

    /// A member: `NAME.example`.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let names = [format!("{name}.example").parse().unwrap()];
        self.store.issue(name, &names, Kind::Client, Validity::days(1)).unwrap();
        self.store.identity(name).unwrap()
    }

    /// Makes the list: names, their operations, and more lines of each.
    pub(crate) fn allow(&self, entries: &[(&str, &str, &str)]) {
        let mut text = String::new();
        for (name, operations, more) in entries {
            let operations: Vec<_> =
                operations.split(' ').map(|operation| format!("{operation:?}")).collect();
            let operations = operations.join(", ");
            write!(
                text,
                "[[client]]\nidentity = \"dns:{name}.example\"\noperations = [{operations}]\n{more}\n\n"
            )
            .unwrap();
        }
        fs::write(self.list(), text).unwrap();
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.store.dir().join("allow.toml")
    }

    pub(crate) fn revoke(&self, name: &str) {
        self.store.revoke(&[Revoke::File(self.store.certificate_file(name))], 1).unwrap();
    }

    /// What its server asks of clients.
    pub(crate) fn auth(&self) -> ClientAuth {
        let trust = ClientTrust::new(self.store.certificate_file("ca"));
        ClientAuth::Required(trust.revocations(self.store.certificate_file("crl")).allowed(self.list()))
    }

    /// Its server. Clients may have a sealed data path, or an open one, in which a hostile one can do more.
    pub(crate) async fn world(&self) -> World {
        let options = messages().seal(SealPolicy::Optional);
        World::with("127.0.0.1", options, options, |config| {
            config.client_auth = self.auth();
            config.options.max_clients = 16;
        })
        .await
    }

    pub(crate) fn client(&self, world: &World, name: &str, seal: SealPolicy) -> Client {
        let options = messages().seal(seal);
        client(&world.dir, Some(self.identity(name)), options)
    }

    /// Both ends of a session of that member's.
    pub(crate) async fn session(
        &self,
        world: &mut World,
        name: &str,
        seal: SealPolicy,
    ) -> (Session, Session) {
        world.client = self.client(world, name, seal);
        world.session().await
    }

    /// Has the server read everything again.
    pub(crate) fn reload(&self, world: &World) -> Result<Reloaded, SessionError> {
        let names = ["localhost".parse().unwrap()];
        let identity = Store::open(&world.dir).unwrap().current_server(&names).unwrap();
        world.server.reload(&identity, &self.auth())
    }
}
