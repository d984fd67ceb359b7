//! `secure-rdma certs`.

use crate::args::{CertsArgs, CertsCommand, CertsInitArgs, CertsIssueArgs, CertsRevokeArgs, CertsShowArgs};
use crate::failure::Failure;
use crate::trust::ensure_own;
use crate::{logging, output};
use secure_rdma::certs::{
    CertificateInfo, CertsError, IssueRecord, Issues, Kind, Revoke, Serial, Store, Timestamp, Validity,
    host_names,
};
use serde::Serialize;
use std::path::PathBuf;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    directory: PathBuf,
    certificates: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<Issued>,
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
            show(args, &store, store.show()?, Some(issues(&store)?))
        }
    }
}

fn init(args: &CertsInitArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let mut names = host_names()?;
    names.extend(args.names.iter().cloned());
    ensure_own(&store, &names)?;
    show(&args.show, &store, store.show()?, None)
}

fn issue(args: &CertsIssueArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let kind = match (args.client, args.agent) {
        (true, _) => Kind::Client,
        (false, true) => Kind::Agent,
        (false, false) => Kind::Server,
    };
    let file =
        args.file.clone().unwrap_or_else(|| args.names.first().map(ToString::to_string).unwrap_or_default());
    let validity = Validity::days(args.days);
    let is_new = matches!(store.authority(), Err(CertsError::NoAuthority { .. }));
    let issued = match &args.bundle {
        Some(bundle) => store.issue_bundle(&file, &args.names, validity, bundle)?,
        None => store.issue(&file, &args.names, kind, validity)?,
    };
    if is_new {
        output::note(format_args!("made a NEW private CA in {}", store.dir().display()));
    }
    show(&args.show, &store, vec![issued.certificate], None)?;
    if !args.show.json {
        let what = if args.bundle.is_some() {
            "for --identity, to be kept secret"
        } else {
            "its key, to be kept secret"
        };
        output::line(format_args!("{what}: {}", issued.key.display()))?;
    }
    if !issued.earlier.is_empty() {
        let serials: Vec<String> = issued.earlier.iter().map(|record| record.serial.to_string()).collect();
        output::note(format_args!(
            "still good, and issued as {file} before: {}; secure-rdma certs revoke revokes them by these numbers",
            serials.join(", ")
        ));
    }
    Ok(())
}

/// What `revoke --json` prints.
#[derive(Debug, Serialize)]
struct RevocationList {
    file: PathBuf,
    revoked: Vec<String>,
    /// Those that weren't on the list before.
    added: Vec<String>,
    this_update: String,
    next_update: String,
}

fn revoke(args: &CertsRevokeArgs) -> Result<(), Failure> {
    let store = args.show.certs.store()?;
    let what = args.certificates.iter().map(|text| which(text)).collect::<Result<Vec<_>, _>>()?;
    let list = store.revoke(&what, args.days)?;
    let texts = |serials: &[Serial]| serials.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (revoked, added) = (texts(&list.revoked), texts(&list.added));
    let (this_update, next_update) = (list.this_update.to_string(), list.next_update.to_string());
    if args.show.json {
        return output::json(&RevocationList { file: list.file, revoked, added, this_update, next_update });
    }
    output::line(format_args!("{}: revoked certificates: {}", list.file.display(), revoked.len()))?;
    revoked.iter().try_for_each(|serial| {
        let new = if added.contains(serial) { ", now" } else { "" };
        output::line(format_args!("  {serial}{new}"))
    })?;
    output::line(format_args!("  good until {next_update}; renew it before: secure-rdma certs revoke"))
}

/// The certificate that the user means.
fn which(text: &str) -> Result<Revoke, Failure> {
    if text.starts_with("serial:") {
        return text
            .parse()
            .map(Revoke::Serial)
            .map_err(|error| Failure::Usage(format!("{text:?}: {error}")));
    }
    let is_path = text.contains('/') || text.ends_with(".pem");
    Ok(if is_path { Revoke::File(text.into()) } else { Revoke::Name(text.into()) })
}

/// What is known of what the CA has issued.
#[derive(Debug, Serialize)]
struct Issued {
    /// Whether these are all.
    complete: bool,
    certificates: Vec<IssuedEntry>,
}

#[derive(Debug, Serialize)]
struct IssuedEntry {
    /// The name under which it was issued.
    name: String,
    kind: &'static str,
    names: Vec<String>,
    serial: String,
    issued: String,
    not_before: String,
    not_after: String,
    /// `valid`, `ended`, or `revoked`, by the CA's own list.
    state: &'static str,
    fingerprint: String,
}

fn issues(store: &Store) -> Result<Issued, Failure> {
    let Issues { records, complete } = store.issues()?;
    let serials: Vec<Serial> = records.iter().map(|record| record.serial.clone()).collect();
    let now = Timestamp::now();
    let entry = |(record, revoked): (IssueRecord, bool)| IssuedEntry {
        state: match revoked {
            true => "revoked",
            false if record.not_after < now => "ended",
            false => "valid",
        },
        kind: kind_name(Some(record.kind)),
        name: record.file,
        names: record.names,
        serial: record.serial.to_string(),
        issued: record.issued.to_string(),
        not_before: record.not_before.to_string(),
        not_after: record.not_after.to_string(),
        fingerprint: record.fingerprint.to_string(),
    };
    let certificates = records.into_iter().zip(store.revoked(&serials)?).map(entry).collect();
    Ok(Issued { complete, certificates })
}

fn kind_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Authority) => "ca",
        Some(Kind::Server) => "server",
        Some(Kind::Client) => "client",
        Some(Kind::Agent) => "agent",
        None => "other",
    }
}

fn show(
    args: &CertsShowArgs,
    store: &Store,
    found: Vec<CertificateInfo>,
    issued: Option<Issued>,
) -> Result<(), Failure> {
    let certificates: Vec<Entry> = found.into_iter().map(entry).collect();
    if args.json {
        return output::json(&Document { directory: store.dir().into(), certificates, issued });
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
    })?;
    issued.map_or(Ok(()), |issued| list(&issued))
}

/// A line for each certificate that the CA has issued.
fn list(issued: &Issued) -> Result<(), Failure> {
    output::line(format_args!("issued by this CA:"))?;
    issued.certificates.iter().try_for_each(|entry| {
        let IssuedEntry { name, kind, names, serial, issued, not_after, state, .. } = entry;
        let names = names.join(", ");
        output::line(format_args!(
            "  {serial} {state}: {name}, {kind}, issued {issued}, until {not_after}; for {names}"
        ))
    })?;
    if !issued.complete {
        output::line(format_args!(
            "  what was issued before this record was begun isn't known: such certificates are revoked by their \
             files or serial numbers"
        ))?;
    }
    Ok(())
}

fn entry(info: CertificateInfo) -> Entry {
    let now = Timestamp::now();
    Entry {
        kind: kind_name(info.kind),
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
