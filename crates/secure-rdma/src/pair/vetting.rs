//! Whether a peer may have keys.

use super::{PAIR_ALPN, PairError, PairOptions};
use crate::certs::{Clock, Fingerprint, Name, SubjectName};
use crate::control::Access;
use crate::tls::{ClientAuth, ClientTls, ClientTrust, Rules, ServerTls, Shown, Trust};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that handshakes go by, as the files say now.
#[derive(Debug)]
pub(super) struct PairRules {
    pub(super) client: ClientTls,
    pub(super) server: ServerTls,
    /// The certificate that it shows.
    pub(super) own_certificate: Fingerprint,
    options: PairOptions,
}

impl PairRules {
    /// Reads the files. No revocation list may be older than those of `before`.
    pub(super) fn load(options: &PairOptions, before: Option<&Self>) -> Result<Self, PairError> {
        let PairOptions { store, names, revocations, .. } = options;
        let identity = store.current_agent(names)?;
        let mut trust = ClientTrust::new(store.authority()?).remembered(store.revocations_seen());
        let trusted = Trust::from(store.authority()?);
        let mut client = ClientTls::new(trusted, Some(identity.clone())).map_err(Arc::new)?;
        if let Some(lists) = revocations {
            trust = trust.revocations(lists.clone());
            let remembered = store.revocations_seen();
            client = client.with_revocations(lists.clone(), Some(&remembered)).map_err(Arc::new)?;
        }
        #[cfg(feature = "toml")]
        if let Some(list) = &options.allowed {
            trust = trust.allowed(list.clone());
        }
        let editions = before.map(|before| before.server.rules().vetting.editions().clone());
        let clients = ClientAuth::Required(trust);
        let (editions, clock) = (editions.unwrap_or_default(), Clock::default());
        let rules = Rules::of_protocol(PAIR_ALPN, &identity, &clients, &editions, clock).map_err(Arc::new)?;
        let server = ServerTls::with(rules);
        Ok(Self {
            client: client.protocol(PAIR_ALPN),
            server,
            own_certificate: identity.fingerprint(),
            options: options.clone(),
        })
    }

    /// The name that the certificate of a device's agent has to have.
    pub(super) fn expected(&self, address: IpAddr) -> Name {
        self.options.peers.name(address).cloned().unwrap_or_else(|| address.into())
    }

    /// Whether who has shown this may have keys as the device at `address`, whichever side began: its certificate is
    /// an agent's by the CA and isn't revoked, it carries the address, and it is on the list, if there is one.
    pub(super) fn vet(&self, shown: &Shown, address: IpAddr) -> Result<(), PairError> {
        let rules = self.server.rules();
        rules.vetting.check(shown).map_err(Arc::new)?;
        let expected = self.expected(address);
        let name = match expected.ip() {
            Some(address) => SubjectName::Ip(address),
            None => SubjectName::Dns(expected.to_string()),
        };
        let names = || shown.names.clone();
        if !shown.names.names().contains(&name) {
            return Err(PairError::Address { address, expected: name.to_string(), names: names() });
        }
        let Some(list) = &rules.vetting.allowed else { return Ok(()) };
        let entry = shown.fingerprint.as_ref().and_then(|own| list.find(&shown.names, own));
        match entry {
            None => Err(PairError::NotListed { names: names() }),
            Some(entry) if entry.operations != Access::ALL => {
                Err(PairError::Limited { names: names(), operations: entry.operations.to_string() })
            }
            Some(_) => Ok(()),
        }
    }
}
