//! Names of files below a directory that is offered, as a peer may give them.

use crate::refusal::{Refusal, RefusalCode};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Bytes of the longest path, its slashes included, as of Linux (PATH_MAX, without its end).
pub const MAX_PATH: usize = 4095;

/// Bytes of the longest name of a file, as of Linux' file systems (NAME_MAX).
pub const MAX_NAME: usize = 255;

/// How deep a path may be: names, one below the other.
pub const MAX_DEPTH: usize = 128;

/// What the name of a file begins with that isn't whole yet, and of which no other may be.
const PARTIAL_PREFIX: &str = ".secure-rdma-";

/// What it ends with.
const PARTIAL_SUFFIX: &str = ".part";

/// A path below a directory: names that are separated by slashes, none of them `.` or `..`. With none it is the
/// directory itself. The bytes are those of the file system, which may be UTF-8 or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FilePath(Vec<u8>);

impl FilePath {
    /// The directory itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path as a peer has sent it: it is taken as it is, or not at all.
    ///
    /// # Errors
    /// It leads out of the directory, or no file can have that name.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        let refuse = |why: &str| Err(Refusal::new(RefusalCode::Name, why));
        if bytes.len() > MAX_PATH {
            return refuse("the path is longer than 4095 bytes");
        }
        if bytes[0] == b'/' {
            return refuse(
                "the path is absolute: give it from the offered directory on, without a slash before it",
            );
        }
        if bytes.iter().filter(|byte| **byte == b'/').count() >= MAX_DEPTH {
            return refuse("the path is more than 128 names deep");
        }
        bytes.split(|byte| *byte == b'/').try_for_each(check_name)?;
        Ok(Self(bytes.to_vec()))
    }

    /// Reads a path as a user types it: `.` and slashes that say nothing are left out.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn typed(path: &Path) -> Result<Self, Refusal> {
        if path.is_absolute() {
            // With the words that it has for the peer's.
            return Self::parse(path.as_os_str().as_bytes());
        }
        let names = path.components().filter(|component| *component != Component::CurDir);
        let names: Vec<_> = names.map(|component| component.as_os_str().as_bytes()).collect();
        Self::parse(&names.join(&b'/'))
    }

    /// The file `name` in this directory.
    ///
    /// # Errors
    /// `name` isn't one name, or the path becomes too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, Refusal> {
        check_name(name)?;
        if self.is_root() {
            return Self::parse(name);
        }
        Self::parse(&[&self.0, name].join(&b'/'))
    }

    /// This path with `base` before it.
    ///
    /// # Errors
    /// It becomes too long.
    pub fn below(&self, base: &Self) -> Result<Self, Refusal> {
        match (base.is_root(), self.is_root()) {
            (true, _) => Ok(self.clone()),
            (_, true) => Ok(base.clone()),
            _ => Self::parse(&[base.0.as_slice(), self.0.as_slice()].join(&b'/')),
        }
    }

    /// What is left of this path behind `base`; `None` if it isn't below it.
    #[must_use]
    pub fn strip(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(base.0.as_slice())? {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }

    /// Whether it is the directory itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name; `None` of the directory itself.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.0.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// The directory that the file is in.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Self(self.0[..at].to_vec()),
            None => Self::root(),
        }
    }

    /// The directories on its way, the outermost one first, and itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain((!self.is_root()).then_some(self.0.len())).map(|end| Self(self.0[..end].to_vec()))
    }

    /// Its bytes, as [`parse`](Self::parse) takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the system takes it, from the directory on.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(if self.is_root() { OsStr::new(".") } else { OsStr::from_bytes(&self.0) })
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&shown(&self.0)) }
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `bytes` as text where a terminal can show them as they are, else escaped, as `b"…"` like in Rust and Python.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        _ => format!("b\"{}\"", bytes.escape_ascii()),
    }
}

/// Whether nothing in `text` moves the cursor, reorders what a person reads, or can't be seen.
fn is_plain(text: &str) -> bool {
    // What Rust escapes in a string, except quotes and backslashes.
    text.split(['\'', '"', '\\']).all(|part| part.escape_debug().eq(part.chars()))
}

/// Whether a file of that name is one that isn't whole yet.
pub(crate) fn is_partial(name: &[u8]) -> bool {
    name.starts_with(PARTIAL_PREFIX.as_bytes()) && name.ends_with(PARTIAL_SUFFIX.as_bytes())
}

/// The name that the file `name` has beside its place until it is whole: of one length, whatever `name`'s is.
pub(crate) fn partial_name(name: &[u8]) -> String {
    let hash = blake3::hash(name).to_hex();
    format!("{PARTIAL_PREFIX}{}{PARTIAL_SUFFIX}", &hash.as_str()[..32])
}

/// Checks that `name` is one name that a file can have.
fn check_name(name: &[u8]) -> Result<(), Refusal> {
    let why = match name {
        b"" => "a name in the path is empty",
        b"." => "the path holds \".\"",
        b".." => "the path holds \"..\", which leads out of the directory",
        _ if name.len() > MAX_NAME => "a name in the path is longer than 255 bytes",
        _ if name.contains(&0) => "the path holds a NUL",
        _ if name.contains(&b'/') => "a name holds a slash",
        _ if is_partial(name) => "such a name is a file's that isn't whole yet (.secure-rdma-*.part)",
        _ => return Ok(()),
    };
    Err(Refusal::new(RefusalCode::Name, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for path in [
            "..",
            "../../etc/passwd",
            "a/../../b",
            "a/..",
            "/etc/passwd",
            "/",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            "a\0b",
            ".secure-rdma-00.part",
            "a/.secure-rdma-.part/b",
        ] {
            assert_eq!(FilePath::parse(path.as_bytes()).unwrap_err().code(), RefusalCode::Name, "{path:?}");
        }
        assert!(FilePath::parse(&[b'a'; MAX_NAME + 1]).is_err());
        assert!(FilePath::parse(&vec![b'a'; MAX_PATH + 1]).is_err());
        assert!(FilePath::parse(&b"a/".repeat(MAX_DEPTH)[..2 * MAX_DEPTH - 1]).is_ok());
        assert!(FilePath::parse(&[&b"a/".repeat(MAX_DEPTH)[..], b"a"].concat()).is_err());
    }

    #[test]
    fn any_bytes_that_a_file_may_have_are_a_name() {
        for path in ["a", "a/b c", "…/世界", "..a", ".secure-rdma", "-rf", "C:\\x"] {
            assert_eq!(FilePath::parse(path.as_bytes()).unwrap().to_string(), path);
        }
        assert_eq!(FilePath::parse(b"\xff\x1b[2J").unwrap().to_string(), r#"b"\xff\x1b[2J""#);
    }

    #[test]
    fn what_a_user_types_is_tidied_and_leads_nowhere_else() {
        for (typed, path) in [("./a//b/", "a/b"), (".", "."), ("", "."), ("a", "a")] {
            assert_eq!(FilePath::typed(Path::new(typed)).unwrap().to_string(), path);
        }
        for typed in ["/a", "../a", "a/../b"] {
            assert!(FilePath::typed(Path::new(typed)).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_path_is_taken_apart_and_put_together() {
        let path = FilePath::parse(b"a/b/c").unwrap();
        assert_eq!(path.name(), Some(&b"c"[..]));
        assert_eq!(path.parent().to_string(), "a/b");
        assert_eq!(FilePath::parse(b"a").unwrap().parent(), FilePath::root());
        assert_eq!(FilePath::root().name(), None);
        let ways: Vec<_> = path.ancestors().map(|path| path.to_string()).collect();
        assert_eq!(ways, ["a", "a/b", "a/b/c"]);
        assert_eq!(path.below(&FilePath::parse(b"x").unwrap()).unwrap().to_string(), "x/a/b/c");
        assert_eq!(path.strip(&FilePath::parse(b"a").unwrap()).unwrap().to_string(), "b/c");
        assert_eq!(path.strip(&FilePath::parse(b"a/bb").unwrap()), None);
        assert_eq!(path.strip(&path), Some(FilePath::root()));
        assert_eq!(FilePath::root().join(b"x").unwrap().to_string(), "x");
        assert!(path.join(b"x/y").is_err() && path.join(b"..").is_err());
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for text in ["", "some data", "it's \"quoted\" \\ here", "Grüße, 世界"] {
            assert_eq!(shown(text.as_bytes()), text);
        }
        assert_eq!(shown(b"a\x1b[2J"), r#"b"a\x1b[2J""#);
        assert_eq!(shown(b"\0\xff\n\""), r#"b"\x00\xff\n\"""#);
        assert_eq!(shown("a\u{202e}b".as_bytes()), r#"b"a\xe2\x80\xaeb""#);
    }

    #[test]
    fn a_partial_files_name_fits_beside_the_longest_name() {
        let name = partial_name(&[b'x'; MAX_NAME]);
        assert!(is_partial(name.as_bytes()) && name.len() <= MAX_NAME);
        assert_ne!(partial_name(b"a"), partial_name(b"b"));
    }
}
