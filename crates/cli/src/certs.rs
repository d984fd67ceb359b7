//! `secure-rdma certs`.

use crate::args::{CertsArgs, CertsCommand, CertsInitArgs, CertsIssueArgs, CertsRevokeArgs, CertsShowArgs};
use crate::failure::Failure;
use crate::{logging, output};
use secure_rdma::certs::{CertificateInfo, Kind, Revoke, Store, Timestamp, Validity, host_names};
use serde::Serialize;
use std::path::PathBuf;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    directory: PathBuf,
    certificates: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    file: PathBuf,
    /// `ca`, `server`, `client` or `other`.
    kind: &'static str,
    subject: String,
    issuer: String,
    names: Vec<String>,
    /// Who it is to a server's allow-list.
    identities: Vec<String>,
    serial: String,
    not_before: String,
    not_after: String,
    /// Whether its time has begun and not ended.
    valid_now: bool,
    fingerprint: String,
}

pub(crate) fn run(args: &CertsArgs) -> Result<(), Failure> {
    logging::start(false);
    match &args.command {
        CertsCommand::Init(args) => init(args),
        CertsCommand::Issue(args) => issue(args),
        CertsCommand::Revoke(args) => revoke(args),
        CertsCommand::Show(args) => {
            let store = args.certs.store()?;
            // Asked for, because a directory without a CA should say so.
            store.authority()?;
            show(args, &store, store.show()?)
        }
    }
}

fn init(args: &CertsInitArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let mut names = host_names()?;
    names.extend(args.names.iter().cloned());
    store.ensure_server(&names)?;
    show(&args.show, &store, store.show()?)
}

fn issue(args: &CertsIssueArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let kind = if args.client { Kind::Client } else { Kind::Server };
    let file =
        args.file.clone().unwrap_or_else(|| args.names.first().map(ToString::to_string).unwrap_or_default());
    let issued = store.issue(&file, &args.names, kind, Validity::days(args.days))?;
    show(&args.show, &store, vec![issued.certificate])?;
    if !args.show.json {
        output::line(format_args!("its key, to be kept secret: {}", issued.key.display()))?;
    }
    Ok(())
}

/// What `revoke --json` prints.
#[derive(Debug, Serialize)]
struct RevocationList {
    file: PathBuf,
    revoked: Vec<String>,
    this_update: String,
    next_update: String,
}

fn revoke(args: &CertsRevokeArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let what = args.certificates.iter().map(|text| which(&store, text)).collect::<Result<Vec<_>, _>>()?;
    let list = store.revoke(&what, args.days)?;
    let revoked: Vec<String> = list.revoked.iter().map(ToString::to_string).collect();
    let (this_update, next_update) = (list.this_update.to_string(), list.next_update.to_string());
    if args.show.json {
        return output::json(&RevocationList { file: list.file, revoked, this_update, next_update });
    }
    output::line(format_args!("{}: revoked certificates: {}", list.file.display(), revoked.len()))?;
    revoked.iter().try_for_each(|serial| output::line(format_args!("  {serial}")))?;
    output::line(format_args!("  good until {next_update}; renew it before: secure-rdma certs revoke"))
}

/// The certificate that the user means.
fn which(store: &Store, text: &str) -> Result<Revoke, Failure> {
    if text.starts_with("serial:") {
        return text
            .parse()
            .map(Revoke::Serial)
            .map_err(|error| Failure::Usage(format!("{text:?}: {error}")));
    }
    let is_path = text.contains('/') || text.ends_with(".pem");
    Ok(Revoke::File(if is_path { PathBuf::from(text) } else { store.certificate_file(text) }))
}

fn show(args: &CertsShowArgs, store: &Store, found: Vec<CertificateInfo>) -> Result<(), Failure> {
    let certificates: Vec<Entry> = found.into_iter().map(entry).collect();
    if args.json {
        return output::json(&Document { directory: store.dir().into(), certificates });
    }
    certificates.iter().try_for_each(|certificate| {
        let Entry { file, kind, subject, issuer, names, identities, .. } = certificate;
        let Entry { serial, not_before, not_after, valid_now, fingerprint, .. } = certificate;
        output::line(format_args!("{}: {kind}, {subject}, issued by {issuer}", file.display()))?;
        if !names.is_empty() {
            output::line(format_args!("  for {}", names.join(", ")))?;
        }
        if *kind == "client" {
            output::line(format_args!("  to an allow-list {}", identities.join(", ")))?;
        }
        let now = if *valid_now { "" } else { "; NOT valid now" };
        output::line(format_args!("  from {not_before} to {not_after}{now}"))?;
        output::line(format_args!("  {serial}"))?;
        output::line(format_args!("  {fingerprint}"))
    })
}

fn entry(info: CertificateInfo) -> Entry {
    let now = Timestamp::now();
    Entry {
        kind: match info.kind {
            Some(Kind::Authority) => "ca",
            Some(Kind::Server) => "server",
            Some(Kind::Client) => "client",
            None => "other",
        },
        valid_now: info.not_before <= now && now <= info.not_after,
        not_before: info.not_before.to_string(),
        not_after: info.not_after.to_string(),
        fingerprint: info.fingerprint.to_string(),
        serial: info.serial.to_string(),
        identities: info.subject_names.names().iter().map(ToString::to_string).collect(),
        file: info.file,
        subject: info.subject,
        issuer: info.issuer,
        names: info.names,
    }
}
