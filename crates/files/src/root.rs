//! A directory that nothing leads out of.
//!
//! The kernel resolves each path (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so that nobody who changes the
//! directory meanwhile can make it lead elsewhere.

use crate::listing::{Entry, Kind, Listing};
use crate::partial::Partial;
use crate::path::FilePath;
use crate::refusal::{Refusal, RefusalCode};
use crate::source::Source;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfs, fstat, fstatvfs, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the kernel is told of each path.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// How often a path is tried that somebody moves about (EAGAIN).
const TRIES: u32 = 16;

/// A directory, and what is below it. What it does may wait for a disk.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// The directory at `path`, which may be behind symbolic links.
    ///
    /// # Errors
    /// There is none, or it can't be opened.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            openat(CWD, path, flags, Mode::empty()).map_err(Refusal::errno("opening the directory"))?;
        let root = Self(root);
        // Now, not at the first file.
        root.at(&FilePath::root(), OFlags::PATH, Mode::empty())?;
        Ok(root)
    }

    /// What is at `path`.
    ///
    /// # Errors
    /// Nothing is, or it can't be reached.
    pub fn entry(&self, path: &FilePath) -> Result<Entry, Refusal> {
        let Some(name) = path.name() else {
            let stat = fstat(&self.0).map_err(Refusal::errno("looking at the directory"))?;
            return Ok(Entry::new(Vec::new(), &stat));
        };
        let parent = self.directory(&path.parent())?;
        let stat = statat(&parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Refusal::errno("looking at it"))?;
        Ok(Entry::new(name.to_vec(), &stat))
    }

    /// What is in the folder `path`.
    ///
    /// # Errors
    /// It isn't a folder, or can't be read.
    pub fn list(&self, path: &FilePath) -> Result<Listing, Refusal> {
        Listing::of(self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// The file at `path`, to be read.
    ///
    /// # Errors
    /// It isn't a file, or can't be read.
    pub fn source(&self, path: &FilePath) -> Result<Source, Refusal> {
        // Opening a device can have effects: what it is is looked at before.
        let stat =
            fstat(self.at(path, OFlags::PATH, Mode::empty())?).map_err(Refusal::errno("looking at it"))?;
        Kind::of(&stat).file()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Source::of(self.at(path, flags, Mode::empty())?.into())
    }

    /// What is there already of the file that is to be at `path`, to be written.
    ///
    /// # Errors
    /// Its folder isn't there, something else than a file is at `path`, another transfer of it is under way, the disk
    /// hasn't room for it and `keep` bytes more, or it can't be written.
    pub fn partial(
        &self,
        path: &FilePath,
        size: u64,
        executable: bool,
        keep: u64,
    ) -> Result<Partial, Refusal> {
        let name = path.name().ok_or_else(|| Refusal::new(RefusalCode::IsDirectory, "it is a folder"))?;
        let partial = Partial::open(self.directory(&path.parent())?, name, size, executable)?;
        match self.check_room(size - partial.there(), keep) {
            Ok(()) => Ok(partial),
            Err(refusal) => {
                partial.remove_if_empty();
                Err(refusal)
            }
        }
    }

    /// Has a folder at `path`, and those on its way.
    ///
    /// # Errors
    /// Something else is there, or it can't be made.
    pub fn make_directories(&self, path: &FilePath) -> Result<(), Refusal> {
        path.ancestors().try_for_each(|path| self.make_directory(&path))
    }

    /// Has a folder at `path`.
    ///
    /// # Errors
    /// Something else is there, or it can't be made.
    pub fn make_directory(&self, path: &FilePath) -> Result<(), Refusal> {
        let Some(name) = path.name() else { return Ok(()) };
        let parent = self.directory(&path.parent())?;
        match mkdirat(&parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.directory(path).map(drop),
            Err(error) => Err(Refusal::errno("making the folder")(error)),
        }
    }

    /// That so many more bytes can be written, and `keep` are left.
    ///
    /// # Errors
    /// The disk is too full.
    fn check_room(&self, bytes: u64, keep: u64) -> Result<(), Refusal> {
        let StatVfs { f_bavail, f_frsize, .. } =
            fstatvfs(&self.0).map_err(Refusal::errno("asking for the space that is left"))?;
        let free = f_bavail.saturating_mul(f_frsize);
        if bytes == 0 || bytes.saturating_add(keep) <= free {
            return Ok(());
        }
        let text = format!(
            "the disk is too full: {bytes} bytes are needed, {free} are free, {keep} of them kept free"
        );
        Err(Refusal::new(RefusalCode::NoSpace, &text))
    }

    fn directory(&self, path: &FilePath) -> Result<OwnedFd, Refusal> {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn at(&self, path: &FilePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Refusal> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 1..TRIES {
            match openat2(&self.0, path.as_path(), flags, mode, BENEATH) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS) => {
                    return Err(Refusal::new(
                        RefusalCode::System,
                        "this kernel has no openat2, which keeps names in the directory (Linux 5.6 or later is needed)",
                    ));
                }
                // A symbolic link in the last place, opened with O_DIRECTORY.
                Err(Errno::NOTDIR) => return Err(self.why_no_directory(path)),
                result => return result.map_err(Refusal::errno("opening it")),
            }
        }
        Err(Refusal::new(RefusalCode::Busy, "its folders are being moved about: try again"))
    }

    /// Whether a link is why `path` is no directory.
    fn why_no_directory(&self, path: &FilePath) -> Refusal {
        let found = openat2(&self.0, path.as_path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BENEATH);
        match found {
            Err(Errno::LOOP) => Refusal::errno("opening it")(Errno::LOOP),
            _ => Refusal::new(
                RefusalCode::NotADirectory,
                "it, or what should be a folder on its way, isn't a folder",
            ),
        }
    }
}
