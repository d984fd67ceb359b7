//! A file that is read, piece by piece, and is to stay as it is meanwhile.

use crate::chunk::{Chunk, Digest, digest};
use crate::listing::{Kind, is_executable};
use crate::refusal::{Refusal, RefusalCode};
use rustix::buffer::spare_capacity;
use rustix::fs::{Stat, fstat};
use rustix::io::{Errno, pread};
use std::fs::File;

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Version {
    #[allow(
        clippy::useless_conversion,
        reason = "the fields' types differ from one architecture to the other"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec.into()),
            changed: (stat.st_ctime, stat.st_ctime_nsec.into()),
        }
    }
}

/// A file that is read.
#[derive(Debug)]
pub struct Source {
    file: File,
    version: Version,
    size: u64,
    executable: bool,
}

impl Source {
    pub(crate) fn of(file: File) -> Result<Self, Refusal> {
        let stat = fstat(&file).map_err(Refusal::errno("looking at it"))?;
        Kind::of(&stat).file()?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self { file, version: Version::of(&stat), size, executable: is_executable(&stat) })
    }

    /// Bytes of it, as of when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a program.
    #[must_use]
    pub const fn executable(&self) -> bool {
        self.executable
    }

    /// The bytes of `chunk`, and what their hash is.
    ///
    /// # Errors
    /// The file has become shorter, or can't be read.
    pub(crate) fn read(&self, chunk: Chunk) -> Result<(Vec<u8>, Digest), Refusal> {
        let mut bytes = Vec::with_capacity(chunk.len);
        while bytes.len() < chunk.len {
            // Room that was never filled needs no zeros first.
            let at = chunk.offset + bytes.len() as u64;
            match pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(changed()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Refusal::errno("reading it")(error)),
            }
        }
        bytes.truncate(chunk.len);
        let digest = digest(&bytes);
        Ok((bytes, digest))
    }

    /// That the file is as it was when it was opened.
    ///
    /// # Errors
    /// It isn't.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let stat = fstat(&self.file).map_err(Refusal::errno("looking at it"))?;
        if Version::of(&stat) == self.version { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Refusal {
    Refusal::new(
        RefusalCode::Changed,
        "it was changed while it was being read: try again when nobody writes to it",
    )
}
