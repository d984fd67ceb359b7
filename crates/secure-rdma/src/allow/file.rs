//! The list of allowed clients as a TOML file.

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::Range;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::{AllowError, AllowList, AllowedClient, ClientIdentity};
use crate::certs::{self, Named, Secrecy};
use crate::control::Access;
use crate::size::Size;

impl AllowList {
    /// The list in the file `path`.
    ///
    /// # Errors
    /// If it can't be read, or anything in it isn't understood.
    pub fn load(path: &Path) -> Result<Self, AllowError> {
        let bytes = certs::read_existing(path, Secrecy::Public, Named::ByUser)?;
        Self::parse(path, &bytes)
    }

    /// The list in this TOML text.
    ///
    /// # Errors
    /// If anything in it isn't understood.
    pub fn from_toml(text: &str) -> Result<Self, AllowError> {
        Self::parse(Path::new("that was given"), text.as_bytes())
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
        for Entry { identity, operations, region, sessions } in file.client {
            let line = at(identity.span());
            let identity = identity.into_inner().0;
            let here = |reason: String| wrong(Some(at(operations.span())), reason);
            let mut allowed = Access::NONE;
            for &Operation(operation) in operations.get_ref() {
                if allowed.allows(operation) {
                    return Err(here(format!("{operation} is there twice")));
                }
                allowed = allowed | operation;
            }
            let doubtful = region.as_ref().map_or_else(|| operations.span(), Spanned::span);
            let region = region.map(|region| region.into_inner().0);
            let sessions = sessions.or(file.sessions).map(NonZeroUsize::get);
            let client = AllowedClient { identity, operations: allowed, region, sessions, line: Some(line) };
            client.check().map_err(|reason| wrong(Some(at(doubtful)), reason.into()))?;
            clients.push(client);
        }
        if clients.is_empty() {
            let reason =
                "nobody is on it, so nobody could connect: it needs entries that begin with [[client]]";
            return Err(wrong(None, reason.into()));
        }
        Self::checked(path.into(), clients)
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
    use crate::certs::{Fingerprint, SubjectNames};

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
        let error = AllowList::load(Path::new("/nonexistent/allow.toml")).unwrap_err();
        let error = crate::report::Report::new(&error).to_string();
        assert!(error.contains("/nonexistent/allow.toml"), "{error}");
    }

    #[test]
    fn a_region_beyond_the_servers_is_refused() {
        let list = parse(&entry("dns:a", r#""read""#, "region = \"2M\"")).unwrap();
        list.check_regions(2 << 20).unwrap();
        let error = list.check_regions(1 << 20).unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("2097152") && error.contains("1048576"),
            "{error}"
        );
    }
}
