//! By what a process wants to be sealed: `secure-rdma run` gives it to the process, and this one to the agent.

use rdma_verbs::esp::outbound::REKEY_AFTER;
use secure_rdma::certs::{CertsError, Name, Store};
use secure_rdma::pair::{AGENT_PORT, PairOptions, Peers, PeersError};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// By what a process wants to be sealed. Paths are absolute: the agent is in another directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The state directory with the CA and the agent's certificate.
    pub certs: PathBuf,
    /// Revocation lists, if peers are checked against any.
    pub crl: Option<PathBuf>,
    /// The list of who is allowed, if not all are.
    pub allow: Option<PathBuf>,
    /// The file of peers, if there is one.
    pub peers: Option<PathBuf>,
    /// The TCP port that the agent listens on, and others' do where the file of peers says nothing.
    pub port: u16,
    /// After how many packets a key is replaced, for tests; it can't be later than usual.
    pub rekey_after: Option<u64>,
}

/// Why settings can't be gone by.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They aren't settings.
    #[error("the settings of sealing aren't what this version of the agent understands: {0}")]
    Format(#[from] serde_json::Error),
    /// The state directory can't be used.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// The file of peers can't be used.
    #[error(transparent)]
    Peers(#[from] PeersError),
}

impl Settings {
    /// The usual ones, with what is in that state directory.
    #[must_use]
    pub fn new(certs: PathBuf) -> Self {
        Self { certs, crl: None, allow: None, peers: None, port: AGENT_PORT, rekey_after: None }
    }

    /// As a process is told them.
    ///
    /// # Errors
    /// A path isn't UTF-8.
    pub fn to_text(&self) -> Result<String, SettingsError> {
        Ok(serde_json::to_string(self)?)
    }

    /// What such a text says.
    ///
    /// # Errors
    /// It isn't one.
    pub fn from_text(text: &str) -> Result<Self, SettingsError> {
        Ok(serde_json::from_str(text)?)
    }

    /// What handshakes at `address` go by.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn options(&self, address: IpAddr) -> Result<PairOptions, SettingsError> {
        let peers = self.peers.as_deref().map(Peers::load).transpose()?.unwrap_or_default();
        Ok(PairOptions {
            store: Store::open(&self.certs)?,
            names: vec![Name::from(address)],
            revocations: self.crl.clone(),
            allowed: self.allow.clone(),
            peers,
            port: self.port,
        })
    }

    /// After how many packets a key is replaced.
    #[must_use]
    pub fn rekey_after(&self) -> u64 {
        self.rekey_after.map_or(REKEY_AFTER, |packets| packets.clamp(1, REKEY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_and_others_are_refused() {
        let settings = Settings { peers: Some("/p.toml".into()), ..Settings::new("/state".into()) };
        assert_eq!(Settings::from_text(&settings.to_text().unwrap()).unwrap(), settings);
        assert!(Settings::from_text("{\"certs\":\"/state\",\"port\":1,\"clear\":true}").is_err());
    }

    #[test]
    fn a_key_is_never_used_for_longer_than_usual() {
        let with = |rekey_after| Settings { rekey_after, ..Settings::new("/".into()) }.rekey_after();
        assert_eq!(
            [with(None), with(Some(u64::MAX)), with(Some(300)), with(Some(0))],
            [REKEY_AFTER, REKEY_AFTER, 300, 1]
        );
    }
}
