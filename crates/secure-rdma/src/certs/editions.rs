//! The newest revocation list of each CA that was ever gone by. Lists are signed, and whoever brings them may bring
//! an older one: for as long as that hasn't ended, who was revoked since would be let in again.

use core::cmp::Ordering;
use core::fmt::{self, Write};
use std::collections::BTreeMap;
use std::path::Path;

use x509_parser::prelude::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use super::files::{self, Named, Secrecy};
use super::{CertsError, Fingerprint, Timestamp, info};

/// The extension that says for which of a CA's certificates a list is (RFC 5280, section 5.2.5).
const ISSUING_DISTRIBUTION_POINT: [u64; 4] = [2, 5, 29, 28];

/// When a list was made, and its number among its CA's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edition {
    this_update: Timestamp,
    /// RFC 5280, section 5.2.3: each is greater than the one before. Big-endian, without leading zeros.
    number: Option<Vec<u8>>,
}

impl Edition {
    pub(super) fn of(list: &CertificateRevocationList<'_>) -> Self {
        let number = list.crl_number().map(|number| {
            let bytes = number.to_bytes_be();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].to_vec()
        });
        Self { this_update: info::moment(list.last_update()), number }
    }

    /// Its number, so that numbers can be compared; without one comes before all others.
    fn rank(&self) -> Option<(usize, &[u8])> {
        self.number.as_deref().map(|bytes| (bytes.len(), bytes))
    }

    /// Which of two by one CA is the newer: by its date, which has seconds, and by its number.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.this_update.cmp(&other.this_update).then(self.rank().cmp(&other.rank()))
    }

    fn is_older_than(&self, other: &Self) -> bool {
        self.this_update < other.this_update || self.rank() < other.rank()
    }

    /// The later date and the higher number.
    fn newest(self, other: &Self) -> Self {
        let number = if self.rank() < other.rank() { other.number.clone() } else { self.number };
        Self { this_update: self.this_update.max(other.this_update), number }
    }

    fn digits(&self) -> String {
        let mut digits = String::new();
        match &self.number {
            None => digits.push('-'),
            Some(bytes) if bytes.is_empty() => digits.push_str("00"),
            Some(bytes) => bytes.iter().for_each(|byte| {
                // A string takes everything.
                let _ = write!(digits, "{byte:02x}");
            }),
        }
        digits
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} (hexadecimal), of {}", self.digits(), self.this_update)
    }
}

/// The newest lists, by whose they are and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Editions(BTreeMap<String, Edition>);

impl Editions {
    /// Whose list this is: the CA of that name and key, and the part of its certificates that it is for.
    pub(super) fn key(authority: &X509Certificate<'_>, list: &CertificateRevocationList<'_>) -> String {
        let part = list.extensions().iter().find(|extension| {
            extension.oid.iter().is_some_and(|numbers| numbers.eq(ISSUING_DISTRIBUTION_POINT))
        });
        let part = part.map_or(&[][..], |extension| extension.value);
        let bytes = [authority.subject().as_raw(), authority.public_key().raw, part].concat();
        Fingerprint::of(&bytes).to_string()
    }

    /// The newest that was used of that key, if `edition` is older.
    pub(super) fn newer_than(&self, key: &str, edition: &Edition) -> Option<&Edition> {
        self.0.get(key).filter(|used| edition.is_older_than(used))
    }

    /// Notes that a list is gone by.
    pub(super) fn note(&mut self, key: String, edition: Edition) {
        let newest = match self.0.get(&key) {
            Some(used) => edition.newest(used),
            None => edition,
        };
        self.0.insert(key, newest);
    }

    /// The newest of both.
    #[must_use]
    pub(crate) fn with(mut self, other: &Self) -> Self {
        for (key, edition) in &other.0 {
            self.note(key.clone(), edition.clone());
        }
        self
    }

    /// What the file `path` remembers; nothing if there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, CertsError> {
        let Some(bytes) = files::read(path, Secrecy::Public, Named::Here)? else {
            return Ok(Self::default());
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut editions = BTreeMap::new();
        for (line, number) in text.lines().zip(1_usize..) {
            let (key, edition) =
                parse(line).ok_or_else(|| CertsError::Editions { path: path.into(), line: number })?;
            editions.insert(key, edition);
        }
        Ok(Self(editions))
    }

    /// Has the file `path` remember these, and what it remembers already.
    pub(crate) fn remember(&self, path: &Path) -> Result<(), CertsError> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(CertsError::missing(path));
        };
        if Self::read(path)?.with(self) == Self::read(path)? {
            return Ok(());
        }
        files::create_directory(dir)?;
        let _lock = files::lock(dir)?;
        let all = self.clone().with(&Self::read(path)?);
        files::replace(dir, name, all.text().as_bytes(), Secrecy::Public)
    }

    fn text(&self) -> String {
        let line = |(key, edition): (&String, &Edition)| {
            format!("{key} {} {}\n", edition.digits(), edition.this_update.as_unix())
        };
        self.0.iter().map(line).collect()
    }
}

fn parse(line: &str) -> Option<(String, Edition)> {
    let mut words = line.split(' ');
    let key: Fingerprint = words.next()?.parse().ok()?;
    let number = match words.next()? {
        "-" => None,
        digits => {
            let fits =
                digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let bytes =
                (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
            let bytes: Vec<u8> = bytes.collect::<Option<_>>().filter(|_| fits)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        }
    };
    let this_update = Timestamp::from_unix(words.next()?.parse().ok()?);
    words.next().is_none().then(|| (key.to_string(), Edition { this_update, number }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edition(number: Option<&[u8]>, at: u64) -> Edition {
        Edition { this_update: Timestamp::from_unix(at), number: number.map(<[u8]>::to_vec) }
    }

    #[test]
    fn what_is_remembered_is_read_back_and_never_gets_older() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state/revocations-seen");
        let keys = ["a", "b", "c"].map(|text| Fingerprint::of(text.as_bytes()).to_string());
        let mut editions = Editions::default();
        for (key, edition) in
            keys.iter().zip([edition(Some(&[2, 0]), 100), edition(None, 50), edition(Some(&[]), 7)])
        {
            editions.note(key.clone(), edition);
        }
        editions.remember(&path).unwrap();
        assert_eq!(Editions::read(&path).unwrap(), editions);
        // Another process knew less.
        let mut older = Editions::default();
        older.note(keys[0].clone(), edition(Some(&[0xff]), 200));
        older.remember(&path).unwrap();
        let all = Editions::read(&path).unwrap();
        assert_eq!(all.0[&keys[0]], edition(Some(&[2, 0]), 200));
        for (older, number, at) in
            [(false, &[2, 0][..], 200), (false, &[2, 1], 300), (true, &[0xff], 300), (true, &[2, 0], 199)]
        {
            let edition = edition(Some(number), at);
            assert_eq!(all.newer_than(&keys[0], &edition).is_some(), older, "{edition}");
        }
        assert!(all.newer_than(&keys[0], &edition(None, 300)).is_some(), "the number is gone");
        assert!(all.newer_than(&keys[1], &edition(None, 50)).is_none());
        assert!(all.newer_than("sha256:", &edition(None, 0)).is_none());
    }

    #[test]
    fn a_memory_that_was_tampered_with_is_an_error_and_not_empty() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("seen");
        let key = Fingerprint::of(b"").to_string();
        for text in
            ["x", "\n", &format!("{key} 0 1\n"), &format!("{key} - 1 2\n"), &format!("{key} é 1"), &key]
        {
            std::fs::write(&path, text).unwrap();
            let error = Editions::read(&path).unwrap_err();
            assert!(matches!(error, CertsError::Editions { line: 1, .. }), "{text:?}");
        }
    }
}
