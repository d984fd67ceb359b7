//! The account's certificates, their ends, and the clock that they go by.

use super::finding::Finding;
use secure_rdma::Report;
use secure_rdma::certs::{CertificateInfo, Kind, Store, Timestamp};
use std::time::Duration;

/// How long before its end a certificate is worth a word.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn check(store: &Store) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let dir = store.dir().display();
    if !store.dir().is_dir() {
        return vec![Finding::ok(CHECK, format!("none yet: a server's first start makes them in {dir}"))];
    }
    let listed = match store.show() {
        Ok(listed) => listed,
        Err(error) => {
            let found = Report::new(&error).to_string();
            let remedy = format!("put right what is in {dir}, or name another directory by --certs DIR");
            return vec![Finding::broken(
                CHECK,
                found,
                "neither servers nor clients of this account work",
                remedy,
            )];
        }
    };
    let mut found: Vec<Finding> = listed.iter().map(ending).collect();
    found.extend(["server", "account"].into_iter().filter_map(|file| usable(store, file)));
    found.extend(clock(&listed));
    found
}

fn ending(certificate: &CertificateInfo) -> Finding {
    const CHECK: &str = "certificate";
    let CertificateInfo { file, not_after, kind, .. } = certificate;
    let found = format!("{}: until {not_after}", file.display());
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let remedy = match (kind, &*name) {
        (Some(Kind::Authority), _) => {
            "secure-rdma certs init --certs DIR, and tell clients the new fingerprint".into()
        }
        (_, "server" | "account") => "secure-rdma server replaces it at its start".to_owned(),
        _ => format!("secure-rdma certs issue {}", certificate.names.first().unwrap_or(&"NAME".into())),
    };
    let now = Timestamp::now();
    if *not_after < now {
        Finding::broken(CHECK, found, "it has ended: whoever shows it is refused", remedy)
    } else if *not_after < now.plus(SOON) {
        Finding::costs(CHECK, found, "it ends soon: whoever shows it then is refused", remedy)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// What is wrong with a certificate's key, if it is there.
fn usable(store: &Store, file: &str) -> Option<Finding> {
    if !store.certificate_file(file).exists() {
        return None;
    }
    let error = store.identity(file).err()?;
    let remedy = "secure-rdma server makes another where the old one is gone";
    let cost = "servers of this account don't start, or its clients are refused";
    Some(Finding::broken("key", Report::new(&error).to_string(), cost, remedy))
}

/// A clock that is behind what was made by it.
fn clock(listed: &[CertificateInfo]) -> Option<Finding> {
    let (now, latest) = (Timestamp::now(), listed.iter().map(|certificate| certificate.not_before).max()?);
    if latest <= now {
        return Some(Finding::ok("clock", now.to_string()));
    }
    let cost = format!("a certificate begins on {latest} only: until then whoever shows it is refused");
    Some(Finding::broken("clock", now.to_string(), cost, "timedatectl set-ntp true"))
}
