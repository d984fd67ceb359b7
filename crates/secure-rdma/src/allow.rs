//! The list of allowed clients: who may come, and what each may do.
//!
//! A TOML file, one entry a client:
//!
//! ```toml
//! sessions = 4
//!
//! [[client]]
//! identity = "dns:worker-7.example"
//! operations = ["send", "write", "read", "atomic"]
//! region = "1M"
//! sessions = 16
//!
//! [[client]]
//! identity = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
//! operations = ["send"]
//! ```
//!
//! - `identity`: a name in the client's certificate (`dns:`, `ip:`, `uri:`, `email:`, see [`SubjectName`]),
//!   or the certificate's fingerprint. It has to be the same: nothing stands for several.
//! - `operations`: of `send` (messages to the server), `write` and `read` (of the client's region, one-sided)
//!   and `atomic` (its counters, if the server has them; a program of the client's own making reaches the
//!   whole of its region by atomics), one at least.
//! - `region`: how many bytes the client's region has; the server's usual number without, which is also the most.
//! - `sessions`: how many sessions it may have at a time; before all entries, what those may have that don't
//!   say so. Without either, the server's own limit for one identity.
//!
//! A client with several names has the first entry that fits one of them, by the order of the file.

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

use crate::certs::{self, Fingerprint, Named, Secrecy, SubjectName, SubjectNames};
use crate::control::Access;
use crate::size::Size;

/// Who a client is to the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// Whoever has a certificate with this name.
    Name(SubjectName),
    /// Whoever has this certificate.
    Certificate(Fingerprint),
}

impl ClientIdentity {
    fn fits(&self, names: &SubjectNames, fingerprint: &Fingerprint) -> bool {
        match self {
            Self::Name(name) => names.names().contains(name),
            Self::Certificate(certificate) => certificate == fingerprint,
        }
    }
}

impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Certificate(fingerprint) => fingerprint.fmt(f),
        }
    }
}

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedClient {
    /// Who it is.
    pub identity: ClientIdentity,
    /// What it may do.
    pub operations: Access,
    /// How many bytes its region has; the server's usual number without.
    pub region: Option<u64>,
    /// How many sessions it may have at a time; the server's usual number without.
    pub sessions: Option<usize>,
    /// The line that says so.
    line: usize,
}

/// The clients that are let in. See the [module](self) for its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    path: PathBuf,
    clients: Vec<AllowedClient>,
}

/// Why a list of allowed clients can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowError {
    /// Its file can't be read.
    #[error("the list of allowed clients: {0}")]
    Read(#[from] certs::CertsError),
    /// It isn't one.
    #[error("the list of allowed clients {path}{at}: {reason}", path = path.display(), at = place(*line))]
    Wrong {
        /// Its file.
        path: PathBuf,
        /// The line that is wrong, if it is one.
        line: Option<usize>,
        /// What was found and what is needed.
        reason: String,
    },
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

impl AllowList {
    /// The list in the file `path`.
    ///
    /// # Errors
    /// If it can't be read, or anything in it isn't understood.
    pub fn load(path: &Path) -> Result<Self, AllowError> {
        let bytes = certs::read_existing(path, Secrecy::Public, Named::ByUser)?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, AllowError> {
        let wrong = |line, reason: String| AllowError::Wrong { path: path.into(), line, reason };
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = line_of(bytes, error.valid_up_to());
                return Err(wrong(Some(line), "it is not text in UTF-8".into()));
            }
        };
        let at = |span: Range<usize>| line_of(bytes, span.start);
        let file: File =
            toml::from_str(text).map_err(|error| wrong(error.span().map(at), error.message().to_owned()))?;
        let mut clients = Vec::with_capacity(file.client.len());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for Entry { identity, operations, region, sessions } in file.client {
            let line = at(identity.span());
            let identity = identity.into_inner().0;
            if let Some(first) = seen.insert(identity.to_string(), line) {
                return Err(wrong(Some(line), format!("{identity} is there already, in line {first}")));
            }
            let here = |reason: String| wrong(Some(at(operations.span())), reason);
            let mut allowed = Access::NONE;
            for &Operation(operation) in operations.get_ref() {
                if allowed.allows(operation) {
                    return Err(here(format!("{operation} is there twice")));
                }
                allowed = allowed | operation;
            }
            if allowed == Access::NONE {
                return Err(here("a client that may do nothing: leave it out, or name operations".into()));
            }
            let region = match region {
                Some(region) if allowed == Access::SEND => {
                    let reason = "a client that may only send needs no region: leave it out".into();
                    return Err(wrong(Some(at(region.span())), reason));
                }
                region => region.map(|region| region.into_inner().0),
            };
            let sessions = sessions.or(file.sessions).map(NonZeroUsize::get);
            clients.push(AllowedClient { identity, operations: allowed, region, sessions, line });
        }
        if clients.is_empty() {
            let reason =
                "nobody is on it, so nobody could connect: it needs entries that begin with [[client]]"
                    .into();
            return Err(wrong(None, reason));
        }
        Ok(Self { path: path.into(), clients })
    }

    /// Checks that no client's region is longer than `limit` bytes.
    pub(crate) fn check_regions(&self, limit: u64) -> Result<(), AllowError> {
        match self.clients.iter().find_map(|client| Some((client, client.region.filter(|&len| len > limit)?)))
        {
            None => Ok(()),
            Some((client, len)) => Err(AllowError::Wrong {
                path: self.path.clone(),
                line: Some(client.line),
                reason: format!(
                    "{} has a region of {len} bytes; the server gives {limit} at most: raise its --region, \
                     or lower this",
                    client.identity
                ),
            }),
        }
    }

    /// Everybody on it, in its order.
    #[must_use]
    pub fn clients(&self) -> &[AllowedClient] {
        &self.clients
    }

    /// What the client with that certificate may do; `None` if it isn't on the list.
    #[must_use]
    pub fn find(&self, names: &SubjectNames, fingerprint: &Fingerprint) -> Option<&AllowedClient> {
        self.clients.iter().find(|client| client.identity.fits(names, fingerprint))
    }
}

/// The number of the line that the byte `at` is in, from 1 on.
fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// The file as TOML has it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sessions: Option<NonZeroUsize>,
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    identity: Spanned<Who>,
    operations: Spanned<Vec<Operation>>,
    region: Option<Spanned<Bytes>>,
    sessions: Option<NonZeroUsize>,
}

struct Who(ClientIdentity);

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with("sha256:") {
            let refuse =
                |_| de::Error::custom("a certificate's fingerprint is sha256: and 64 hexadecimal digits");
            return text.parse().map(|found| Self(ClientIdentity::Certificate(found))).map_err(refuse);
        }
        let found = text.parse().map_err(|error| {
            de::Error::custom(format!("{error}; or it is a certificate's fingerprint, sha256: and 64 digits"))
        })?;
        Ok(Self(ClientIdentity::Name(found)))
    }
}

#[derive(Clone, Copy)]
struct Operation(Access);

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Access::NAMES.into_iter().find(|(_, name)| *name == text);
        found.map(|(operation, _)| Self(operation)).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            de::Error::custom(format!("{text:?} is no operation: there are send, write, read and atomic"))
        })
    }
}

/// A number of bytes, as text or as a number.
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sized;

        impl Visitor<'_> for Sized {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size from 1 on, such as 4096, \"64K\" or \"1M\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bytes, E> {
                let size = u64::try_from(number).ok().filter(|&bytes| bytes > 0);
                size.map(Bytes).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                let size = text.parse().map(|Size(bytes)| Bytes(bytes));
                size.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Sized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(text: &str) -> Result<AllowList, AllowError> {
        AllowList::parse(Path::new("allow.toml"), text.as_bytes())
    }

    fn entry(identity: &str, operations: &str, more: &str) -> String {
        format!("[[client]]\nidentity = \"{identity}\"\noperations = [{operations}]\n{more}\n")
    }

    #[test]
    fn entries_say_who_may_do_what() {
        let text = [
            entry("dns:Worker-7.example", r#""send", "write", "read", "atomic""#, "region = \"64K\""),
            entry("uri:spiffe://example/reader", r#""read""#, "region = 4096"),
            entry(FINGERPRINT, r#""send""#, "# whatever it is called"),
            entry("ip:10.0.0.7", r#""write""#, ""),
        ];
        let list = parse(&text.concat()).unwrap();
        let found: Vec<_> = list
            .clients()
            .iter()
            .map(|client| (client.identity.to_string(), client.operations.to_string(), client.region))
            .collect();
        let expected = [
            ("dns:worker-7.example", "send, write, read, atomic", Some(65536)),
            ("uri:spiffe://example/reader", "read", Some(4096)),
            (FINGERPRINT, "send", None),
            ("ip:10.0.0.7", "write", None),
        ];
        assert_eq!(found, expected.map(|(who, what, len)| (who.to_owned(), what.to_owned(), len)));
    }

    #[test]
    fn an_entry_says_how_many_sessions_its_client_may_have_or_the_file_does() {
        let sessions = |text: &str| -> Vec<_> {
            parse(text).unwrap().clients().iter().map(|client| client.sessions).collect()
        };
        let entries = entry("dns:a", r#""send""#, "sessions = 7") + &entry("dns:b", r#""send""#, "");
        assert_eq!(sessions(&entries), [Some(7), None]);
        assert_eq!(sessions(&("sessions = 2\n".to_owned() + &entries)), [Some(7), Some(2)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let good = entry("dns:a", r#""send""#, "");
        for (text, line, words) in [
            (
                entry("dns:a", "\"send\"", "").replace("[[client]]", "[[clients]]"),
                Some(1),
                "unknown field `clients`",
            ),
            (good.clone() + "opertions = []", Some(5), "unknown field `opertions`"),
            (good.clone() + &entry("dns:b", "", ""), Some(7), "may do nothing"),
            (good.clone() + &entry("dns:b", r#""send", "sned""#, ""), Some(7), "\"sned\" is no operation"),
            (good.clone() + &entry("dns:b", r#""send", "send""#, ""), Some(7), "send is there twice"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = \"0\""), Some(8), "from 1 on"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = 0"), Some(8), "from 1 on"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = -1"), Some(8), "from 1 on"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = \"1X\""), Some(8), "from 1 on"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = true"), Some(8), "a size from 1 on"),
            (good.clone() + &entry("dns:b", r#""read""#, "region = \"99999999999G\""), Some(8), "from 1 on"),
            (good.clone() + &entry("dns:b", r#""send""#, "region = \"1M\""), Some(8), "needs no region"),
            (good.clone() + &entry("dns:A.", r#""read""#, ""), Some(6), "dns:a is there already, in line 2"),
            (good.clone() + &entry("dns:*.example", r#""read""#, ""), Some(6), "no wildcards"),
            (good.clone() + &entry("worker", r#""read""#, ""), Some(6), "begins with its kind"),
            (good.clone() + &entry("sha256:12", r#""read""#, ""), Some(6), "64 hexadecimal digits"),
            (good.clone() + &entry("dns:b", r#""send""#, "sessions = 0"), Some(8), "nonzero"),
            (good.clone() + &entry("dns:b", r#""send""#, "sessions = \"4\""), Some(8), "invalid type"),
            ("sessions = -1\n".to_owned() + &good, Some(1), "nonzero"),
            (good.clone() + "[[client]]\nidentity = \"dns:b\"\n", Some(5), "missing field `operations`"),
            (good.clone() + "[[client]]\noperations = [\"send\"]\n", Some(5), "missing field `identity`"),
            (good.clone() + "[[client]\n", Some(5), ""),
            (good.clone() + "[[client]]\nidentity = \"dns:b\"\nidentity = \"dns:c\"\n", Some(7), "duplicate"),
            ("client = 7".into(), Some(1), "invalid type"),
            (String::new(), None, "nobody is on it"),
            ("# nobody\n".into(), None, "nobody is on it"),
        ] {
            match parse(&text) {
                Err(AllowError::Wrong { line: found, reason, .. }) => {
                    assert_eq!(found, line, "{text}\n{reason}");
                    assert!(reason.contains(words), "{text}\n{reason}");
                }
                other => panic!("{text}\n{other:?}"),
            }
        }
    }

    #[test]
    fn a_client_has_the_first_entry_that_is_exactly_one_of_its_names_or_its_certificate() {
        let names = ["a.example", "b.example"].map(String::from);
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let (names, own) = (SubjectNames::of(certificate.der()), Fingerprint::of(certificate.der()));
        let [a, b, c] =
            [("dns:a.example", "read"), ("dns:b.example", "write"), (own.to_string().as_str(), "send")]
                .map(|(who, what)| entry(who, &format!("{what:?}"), ""));
        let others = ["dns:example", "dns:x.a.example", "uri:dns:a.example", FINGERPRINT]
            .map(|who| entry(who, "\"atomic\"", ""))
            .concat();
        for (text, expected) in [
            ([&*others, &a, &b, &c].concat(), Some(Access::READ)),
            ([&*others, &b, &a, &c].concat(), Some(Access::WRITE)),
            ([&*others, &c, &b, &a].concat(), Some(Access::SEND)),
            (others.clone(), None),
        ] {
            let list = parse(&text).unwrap();
            assert_eq!(list.find(&names, &own).map(|client| client.operations), expected, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let error = AllowList::parse(Path::new("allow.toml"), b"# a\n\xff").unwrap_err().to_string();
        assert_eq!(error, "the list of allowed clients allow.toml, line 2: it is not text in UTF-8");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = AllowList::load(Path::new("/nonexistent/allow.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/allow.toml"), "{error}");
    }

    #[test]
    fn a_region_beyond_the_servers_is_refused() {
        let list = parse(&entry("dns:a", r#""read""#, "region = \"2M\"")).unwrap();
        list.check_regions(2 << 20).unwrap();
        let error = list.check_regions(1 << 20).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("2097152") && error.contains("--region"),
            "{error}"
        );
    }
}
