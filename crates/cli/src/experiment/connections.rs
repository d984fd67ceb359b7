//! Many connections, one after the other: what their TLS agreed on, and the PSNs that were exchanged inside it.

use super::document::{Certificate, Connection, PsnPair, Psns, Refusal, Spread};
use super::meeting::{Meeting, told};
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::SessionInfo;
use secure_rdma::certs::{CertificateInfo, Kind, Name, Store};
use secure_rdma::control::SealPolicy;
use std::net::IpAddr;

/// Equal parts of the 24 bits.
const BINS: usize = 32;

/// Opens and closes so many sessions.
pub(super) async fn connections(
    device: &DeviceSelector,
    address: IpAddr,
    count: usize,
) -> Result<(Connection, Psns), String> {
    let meeting = Meeting::start(device, device, address, SealPolicy::Required).await?;
    let (mut pairs, mut agreed, mut setups) = (Vec::new(), 0, Vec::new());
    let mut first: Option<SessionInfo> = None;
    for _ in 0..count {
        let pair = meeting.open().await?;
        let (client, server) = (pair.client.info(), pair.server.info());
        let psns = |client: u32, server: u32| PsnPair { client, server };
        let seen = psns(client.own.psn.get().get(), client.remote.psn.get().get());
        agreed += usize::from(seen == psns(server.remote.psn.get().get(), server.own.psn.get().get()));
        pairs.push(seen);
        setups.push(client.setup.as_secs_f64() * 1e3);
        first.get_or_insert_with(|| client.clone());
        pair.close().await?;
    }
    let (Some(info), Some(setup_ms)) = (first, Spread::of(setups)) else {
        return Err("no session was opened".into());
    };
    let connection = Connection {
        version: info.tls.version.into(),
        suite: info.tls.suite.clone(),
        group: info.tls.group.clone(),
        seal: info.sealed.name().into(),
        path_mtu: info.path_mtu.bytes(),
        setup_ms,
        certificates: meeting.certificates()?.into_iter().map(certificate).collect(),
        refusals: refusals(&meeting, device).await?,
    };
    Ok((connection, psns(pairs, agreed)))
}

fn certificate(info: CertificateInfo) -> Certificate {
    let kind = match info.kind {
        Some(Kind::Authority) => "CA",
        Some(Kind::Server) => "server",
        Some(Kind::Client) => "client",
        Some(Kind::Agent) => "agent",
        None => "other",
    };
    Certificate {
        kind: kind.into(),
        subject: info.subject,
        issuer: info.issuer,
        names: info.names,
        not_before: info.not_before.to_string(),
        not_after: info.not_after.to_string(),
        fingerprint: info.fingerprint.to_string(),
    }
}

/// Attempts to connect that must not succeed.
async fn refusals(meeting: &Meeting, device: &DeviceSelector) -> Result<Vec<Refusal>, String> {
    let elsewhere = tempfile::tempdir().map_err(|error| format!("making a temporary directory: {error}"))?;
    let other = Store::open(elsewhere.path()).map_err(told)?;
    let wrong: Name = "another-host.invalid".parse().map_err(told)?;
    let names = [meeting.name().clone()];
    let stranger = other.ensure_account(&names).map_err(told)?;
    let device = Device::open(device).map_err(told)?;
    let (own, account) = (meeting.store(), meeting.account()?);
    let mut refusals = Vec::new();
    for (attempt, trusted, identity, name) in [
        ("a client that trusts another CA", &other, account.clone(), meeting.name()),
        ("a client that asks for another name", own, account, &wrong),
        ("a client without a certificate", own, None, meeting.name()),
        ("a client with another CA's certificate", own, stranger, meeting.name()),
    ] {
        let result = meeting.attempt(device.clone(), trusted, identity, name).await?;
        let (refused, reason) = match result {
            Ok(_) => (false, "it was let in".to_owned()),
            Err(error) => (true, told(error)),
        };
        refusals.push(Refusal { attempt: attempt.into(), refused, reason });
    }
    Ok(refusals)
}

/// What there is to say of them.
#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn psns(pairs: Vec<PsnPair>, agreed: usize) -> Psns {
    let all: Vec<u32> = pairs.iter().flat_map(|pair| [pair.client, pair.server]).collect();
    let mut bins = vec![0u32; BINS];
    let mut ones = vec![0u32; 24];
    for psn in &all {
        let bin = (*psn as usize * BINS) >> 24;
        if let Some(count) = bins.get_mut(bin) {
            *count += 1;
        }
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += (psn >> bit) & 1;
        }
    }
    let expected = all.len() as f64 / BINS as f64;
    let chi_square = bins.iter().map(|found| (f64::from(*found) - expected).powi(2) / expected).sum();
    let distinct = all.iter().collect::<std::collections::HashSet<_>>().len();
    Psns { pairs, agreed, bins, chi_square, ones, distinct }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psns_are_counted_by_the_part_of_the_24_bits_and_by_bit() {
        let pair = |client, server| PsnPair { client, server };
        let found = psns(vec![pair(0, 0xff_ffff), pair(0x80_0000, 0x80_0000)], 2);
        assert_eq!((found.bins[0], found.bins[16], found.bins[31]), (1, 2, 1));
        assert_eq!((found.ones[0], found.ones[23]), (1, 3));
        assert_eq!((found.count(), found.distinct, found.uses_all_bits()), (4, 3, true));
        // (1 - 1/8)² + (2 - 1/8)² + (1 - 1/8)² and 29 times (1/8)², over 1/8.
        assert!((found.chi_square - 44.).abs() < 1e-9, "{}", found.chi_square);
        assert!(!psns(vec![pair(0, 0x7f_ffff)], 1).uses_all_bits());
    }
}
