//! What is in a folder.

use crate::path::is_partial;
use crate::refusal::{Refusal, RefusalCode};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// What something in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// A file with bytes.
    #[n(0)]
    File,
    /// A folder.
    #[n(1)]
    Directory,
    /// A symbolic link, which isn't followed.
    #[n(2)]
    Link,
    /// A FIFO, a socket or a device, which isn't opened.
    #[n(3)]
    Special,
}

impl Kind {
    pub(crate) fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            _ => Self::Special,
        }
    }

    /// That it is a file.
    pub(crate) fn file(self) -> Result<(), Refusal> {
        let (code, text) = match self {
            Self::File => return Ok(()),
            Self::Directory => (RefusalCode::IsDirectory, "it is a folder"),
            Self::Link => (RefusalCode::Link, "it is a symbolic link, and none is followed"),
            Self::Special => (RefusalCode::Special, "it is a FIFO, a socket or a device, and none is opened"),
        };
        Err(Refusal::new(code, text))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Directory => "folder",
            Self::Link => "link",
            Self::Special => "special",
        })
    }
}

/// A file or a folder, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    #[n(0)]
    name: ByteVec,
    /// What it is.
    #[n(1)]
    pub kind: Kind,
    /// Bytes of a file; of something else 0.
    #[n(2)]
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    #[n(3)]
    pub modified: i64,
    /// Whether its owner may execute it as a program.
    #[n(4)]
    pub executable: bool,
}

impl Entry {
    pub(crate) fn new(name: Vec<u8>, stat: &Stat) -> Self {
        let kind = Kind::of(stat);
        Self {
            name: name.into(),
            kind,
            size: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            modified: stat.st_mtime,
            executable: is_executable(stat),
        }
    }

    /// Its name in its folder; a peer's is any bytes. Empty of the offered directory itself.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

pub(crate) fn is_executable(stat: &Stat) -> bool {
    Kind::of(stat) == Kind::File && stat.st_mode & 0o100 != 0
}

/// A folder that is being listed, in the file system's order. Files that aren't whole yet are left out.
#[derive(Debug)]
pub struct Listing {
    dir: Dir,
    /// The same once more: `Dir` has its own position in it.
    fd: OwnedFd,
}

impl Listing {
    pub(crate) fn of(fd: OwnedFd) -> Result<Self, Refusal> {
        let dir = Dir::read_from(fd.as_fd()).map_err(Refusal::errno("reading the folder"))?;
        Ok(Self { dir, fd })
    }
}

impl Iterator for Listing {
    type Item = Result<Entry, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = match self.dir.next()? {
                Ok(found) => found,
                Err(error) => return Some(Err(Refusal::errno("reading the folder")(error))),
            };
            let name = found.file_name().to_bytes();
            if matches!(name, b"." | b"..") || is_partial(name) {
                continue;
            }
            match statat(&self.fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Some(Ok(Entry::new(name.to_vec(), &stat))),
                // It has gone since.
                Err(Errno::NOENT) => {}
                Err(error) => return Some(Err(Refusal::errno("looking at what is in the folder")(error))),
            }
        }
    }
}
