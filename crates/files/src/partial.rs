//! A file that isn't whole yet: it lies beside its place, under a name of its own, and gets its own name when it is.

use crate::chunk::{Chunk, Digest, digest};
use crate::listing::Kind;
use crate::path::partial_name;
use crate::refusal::{Refusal, RefusalCode};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, fsync, openat2, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// How often it is opened anew when somebody has just given it its own name.
const TRIES: u32 = 16;

/// What there is of a file, to be written. It stays when this is dropped, for a resumption.
#[derive(Debug)]
pub struct Partial {
    dir: OwnedFd,
    file: File,
    partial: String,
    name: OsString,
    size: u64,
    there: u64,
    /// The kernel lets one thread at a time write to a file, and has the others spin: they had better sleep.
    writing: Mutex<()>,
}

impl Partial {
    /// Opens it, or makes it, in the folder `dir`.
    pub(crate) fn open(dir: OwnedFd, name: &[u8], size: u64, executable: bool) -> Result<Self, Refusal> {
        let (partial, name) = (partial_name(name), OsString::from_vec(name.to_vec()));
        check_place(&dir, &name)?;
        // What the user's umask leaves of it.
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for _ in 0..TRIES {
            let file = match openat2(&dir, partial.as_str(), flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                file => file.map_err(Refusal::errno("making the file"))?,
            };
            let stat = fstat(&file).map_err(Refusal::errno("looking at the partial file"))?;
            if Kind::of(&stat) != Kind::File || stat.st_nlink > 1 {
                return Err(Refusal::new(
                    RefusalCode::Special,
                    &format!(
                        "its partial file, {partial} in the same folder, isn't a file of its own: remove it"
                    ),
                ));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::AGAIN) => {
                    return Err(Refusal::new(RefusalCode::Busy, "another transfer of it is under way"));
                }
                locked => locked.map_err(Refusal::errno("locking the partial file"))?,
            }
            // Whoever had it before may have given it its own name meanwhile.
            match statat(&dir, partial.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino) => {}
                _ => continue,
            }
            // As of now, under the lock.
            let stat = fstat(&file).map_err(Refusal::errno("looking at the partial file"))?;
            let there = u64::try_from(stat.st_size).unwrap_or(0).min(size);
            return Ok(Self { dir, file: file.into(), partial, name, size, there, writing: Mutex::new(()) });
        }
        Err(Refusal::new(RefusalCode::Busy, "other transfers of it are under way"))
    }

    /// Bytes of the file when it is whole.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes were there when it was opened. What they are is to be found out by their hashes.
    #[must_use]
    pub const fn there(&self) -> u64 {
        self.there
    }

    /// The hash of what is there of `chunk`.
    ///
    /// # Errors
    /// It isn't there, or can't be read.
    pub(crate) fn digest(&self, chunk: Chunk) -> Result<Digest, Refusal> {
        let mut bytes = vec![0; chunk.len];
        self.file.read_exact_at(&mut bytes, chunk.offset).map_err(Refusal::io("reading the partial file"))?;
        Ok(digest(&bytes))
    }

    /// Writes `chunk`, if `expected` is its hash.
    ///
    /// # Errors
    /// It isn't, or there is no room.
    pub(crate) fn write(&self, chunk: Chunk, bytes: &[u8], expected: &Digest) -> Result<(), Refusal> {
        if bytes.len() != chunk.len || digest(bytes) != *expected {
            return Err(Refusal::new(
                RefusalCode::Damaged,
                "what has come isn't what its hash is of: the peer, or memory, is faulty",
            ));
        }
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, chunk.offset).map_err(Refusal::io("writing the partial file"))
    }

    /// Has `bytes` be all of it, if `expected` is their hash, and gives it its own name.
    ///
    /// # Errors
    /// As of [`write`](Self::write) and [`commit`](Self::commit). An empty one isn't left behind.
    pub(crate) fn store(&self, bytes: &[u8], expected: &Digest) -> Result<(), Refusal> {
        let all = Chunk { offset: 0, len: usize::try_from(self.size).unwrap_or(usize::MAX) };
        self.write(all, bytes, expected).and_then(|()| self.commit()).inspect_err(|_| self.remove_if_empty())
    }

    /// Removes it if nothing has come.
    pub(crate) fn remove_if_empty(&self) {
        if fstat(&self.file).is_ok_and(|stat| stat.st_size == 0) {
            // It stays otherwise, and is empty: no harm.
            let _ = unlinkat(&self.dir, self.partial.as_str(), AtFlags::empty());
        }
    }

    /// Gives it its own name, in place of what has it, when it is on the disk.
    ///
    /// # Errors
    /// It isn't whole, or something else than a file has its name.
    pub(crate) fn commit(&self) -> Result<(), Refusal> {
        let stat = fstat(&self.file).map_err(Refusal::errno("looking at the partial file"))?;
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if len < self.size {
            return Err(Refusal::new(RefusalCode::BadRequest, "not all of it has come"));
        }
        if len > self.size {
            // A longer one was broken off.
            self.file.set_len(self.size).map_err(Refusal::io("shortening the partial file"))?;
        }
        self.file.sync_all().map_err(Refusal::io("writing the file to the disk"))?;
        check_place(&self.dir, &self.name)?;
        renameat(&self.dir, self.partial.as_str(), &self.dir, &self.name)
            .map_err(Refusal::errno("giving the file its name"))?;
        fsync(&self.dir).map_err(Refusal::errno("writing the folder to the disk"))
    }
}

/// That a file may be at `name`: nothing is, or a file, which it replaces.
fn check_place(dir: &OwnedFd, name: &OsStr) -> Result<(), Refusal> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Ok(stat) => Kind::of(&stat).file(),
        Err(error) => Err(Refusal::errno("looking at its place")(error)),
    }
}
