//! The record of what the private CA has issued: a certificate's file may be gone or hold another one by now, and
//! what isn't known can't be revoked.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{self, Named, Secrecy};
use super::{CertificateInfo, CertsError, Fingerprint, Kind, Serial, Timestamp};

/// Its file.
pub(super) const FILE: &str = "issued.jsonl";

/// The most bytes of it: some hundred thousand certificates.
const MAX_FILE: u64 = 64 << 20;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueRecord {
    /// Its number.
    pub serial: Serial,
    /// What it is for.
    pub kind: Kind,
    /// The name under which it was issued: of its files, which may hold another one by now, or of a bundle's.
    pub file: String,
    /// Whom it is for.
    pub names: Vec<String>,
    /// When it was issued.
    pub issued: Timestamp,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// The SHA-256 of its DER.
    pub fingerprint: Fingerprint,
}

/// What is known of what a CA has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issues {
    /// Its certificates in the order in which they were issued.
    pub records: Vec<IssueRecord>,
    /// Whether these are all: the record was begun with the CA. Versions of this program before it kept none.
    pub complete: bool,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    issued: u64,
    kind: LineKind,
    file: String,
    names: Vec<String>,
    serial: String,
    not_before: u64,
    not_after: u64,
    fingerprint: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineKind {
    Ca,
    Server,
    Client,
    Agent,
}

impl IssueRecord {
    /// Of a certificate that is issued now under the name `file`.
    pub(super) fn new(file: &str, kind: Kind, info: &CertificateInfo) -> Self {
        Self {
            serial: info.serial.clone(),
            kind,
            file: file.into(),
            names: info.names.clone(),
            issued: Timestamp::now(),
            not_before: info.not_before,
            not_after: info.not_after,
            fingerprint: info.fingerprint,
        }
    }

    /// Whether a user who says `name` means it: by the name of its file, or one that it is for.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.file == name || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Puts `record` at the end of the file in `dir`. Only under the lock.
pub(super) fn append(dir: &Path, record: &IssueRecord) -> Result<(), CertsError> {
    let line = Line {
        issued: record.issued.as_unix(),
        kind: match record.kind {
            Kind::Authority => LineKind::Ca,
            Kind::Server => LineKind::Server,
            Kind::Client => LineKind::Client,
            Kind::Agent => LineKind::Agent,
        },
        file: record.file.clone(),
        names: record.names.clone(),
        serial: record.serial.to_string(),
        not_before: record.not_before.as_unix(),
        not_after: record.not_after.as_unix(),
        fingerprint: record.fingerprint.to_string(),
    };
    let text = serde_json::to_string(&line).map_err(|error| CertsError::Make(error.to_string()))?;
    append_line(dir, FILE, &text)
}

/// What the file in `dir` says of the CA with the fingerprint `authority`.
pub(super) fn read(dir: &Path, authority: &Fingerprint) -> Result<Issues, CertsError> {
    let path = dir.join(FILE);
    let bytes = files::read_limited(&path, Secrecy::Public, Named::Here, MAX_FILE)?;
    let text = String::from_utf8_lossy(bytes.as_deref().map_or(&[][..], |bytes| bytes));
    // What is behind the last line's end is part of a line, whose certificate was never made.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut records = Vec::new();
    for (line, number) in whole.lines().zip(1..) {
        let record = parse(line);
        records.push(record.map_err(|reason| CertsError::Index {
            path: path.clone(),
            line: number,
            reason,
        })?);
    }
    let begun_with_it =
        |record: &IssueRecord| record.kind == Kind::Authority && record.fingerprint == *authority;
    Ok(Issues { complete: records.iter().any(begun_with_it), records })
}

fn parse(line: &str) -> Result<IssueRecord, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    Ok(IssueRecord {
        serial: line.serial.parse().map_err(|error| format!("{error}"))?,
        kind: match line.kind {
            LineKind::Ca => Kind::Authority,
            LineKind::Server => Kind::Server,
            LineKind::Client => Kind::Client,
            LineKind::Agent => Kind::Agent,
        },
        file: line.file,
        names: line.names,
        issued: Timestamp::from_unix(line.issued),
        not_before: Timestamp::from_unix(line.not_before),
        not_after: Timestamp::from_unix(line.not_after),
        fingerprint: line.fingerprint.parse().map_err(|error| format!("{error}"))?,
    })
}

/// The most bytes that a line of a record has.
const LINE: u64 = 64 << 10;

/// Puts a line at the end of the record `dir/name`, made if it isn't there, so that it stays also after a power
/// failure. What is behind the last whole line is what is left of a process that ended in the middle. Only under
/// the lock.
fn append_line(dir: &Path, name: &str, line: &str) -> Result<(), CertsError> {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let (mut file, found) =
        files::open(&path, &mut options, Named::Here)?.ok_or_else(|| CertsError::missing(&path))?;
    let mut append = || {
        let from = found.len().saturating_sub(LINE);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        (&mut file).take(LINE).read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
        file.set_len(from + whole)?;
        file.seek(SeekFrom::Start(from + whole))?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    append().map_err(|source| CertsError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn record(file: &str, kind: Kind) -> IssueRecord {
        let at = Timestamp::from_unix(1_000_000);
        IssueRecord {
            serial: "serial:40ab".parse().unwrap(),
            kind,
            file: file.into(),
            names: vec!["a.example".into(), "10.0.0.1".into()],
            issued: at,
            not_before: at,
            not_after: at,
            fingerprint: Fingerprint::of(file.as_bytes()),
        }
    }

    #[test]
    fn records_are_read_back_in_their_order_and_half_a_line_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Fingerprint::of(b"ca");
        let read = || read(dir.path(), &ca).unwrap();
        assert_eq!(read(), Issues { records: vec![], complete: false });
        let [one, ca_own, two] =
            [record("one", Kind::Client), record("ca", Kind::Authority), record("two", Kind::Server)];
        append(dir.path(), &one).unwrap();
        assert_eq!(read(), Issues { records: vec![one.clone()], complete: false });
        append(dir.path(), &ca_own).unwrap();
        // The process ended in the middle of a line.
        let file = dir.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], b"{\"issued\":17"].concat()).unwrap();
        assert_eq!(read(), Issues { records: vec![one.clone(), ca_own.clone()], complete: true });
        append(dir.path(), &two).unwrap();
        assert_eq!(read(), Issues { records: vec![one, ca_own, two], complete: true });
        assert!(fs::read(&file).unwrap().starts_with(&whole), "it was only appended to");
    }

    #[test]
    fn a_record_that_was_tampered_with_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &record("one", Kind::Client)).unwrap();
        let file = dir.path().join(FILE);
        let good = fs::read_to_string(&file).unwrap();
        for bad in ["\n\n", "{}\n", "é\n", &good.replace("40ab", "xy"), &good.replace("sha256", "md5")] {
            fs::write(&file, format!("{good}{bad}")).unwrap();
            let error = read(dir.path(), &Fingerprint::of(b"")).unwrap_err();
            assert!(matches!(error, CertsError::Index { line: 2, .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_certificate_is_meant_by_its_file_or_a_name_of_its_own() {
        let record = record("w-7", Kind::Client);
        for (name, meant) in [
            ("w-7", true),
            ("A.example", true),
            ("10.0.0.1", true),
            ("w", false),
            ("example", false),
            ("", false),
        ] {
            assert_eq!(record.is_called(name), meant, "{name}");
        }
    }
}
