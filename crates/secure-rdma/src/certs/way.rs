//! The way to the state directory: who else could put another directory in its place.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::CertsError;

/// The most symbolic links on the way, as the kernel has it.
const MAX_LINKS: u32 = 40;

/// Whether the directory `path` exists; an error if anybody but this user and root could replace it, or what is
/// in it: as sshd's `StrictModes` looks at each directory on the way, and here at each symbolic link too.
///
/// Whoever passes can be used by its name afterwards: those who could change what the name stands for are
/// trusted anyway.
pub(super) fn is_there(path: &Path) -> Result<bool, CertsError> {
    let failed = |path: &Path, source| CertsError::Read { path: path.into(), source };
    let absolute = std::path::absolute(path).map_err(|error| failed(path, error))?;
    let owners = Owners::read();
    let mut here = PathBuf::from("/");
    let mut todo = Vec::new();
    push(&mut todo, &absolute);
    owners.check(&here, &fs::symlink_metadata(&here).map_err(|error| failed(&here, error))?)?;
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            // Of a way without links, since these were followed.
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let found = match fs::symlink_metadata(&next) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(&next, error)),
        };
        owners.check(&next, &found)?;
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(failed(&next, io::Error::other("too many symbolic links")));
            }
            let target = fs::read_link(&next).map_err(|error| failed(&next, error))?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            push(&mut todo, &target);
        } else if found.is_dir() {
            here = next;
        } else {
            return Err(CertsError::NotADirectory { path: next });
        }
    }
    // Where the sticky bit is set, others can't replace what isn't theirs, but can put something beside it.
    let found = fs::symlink_metadata(&here).map_err(|error| failed(&here, error))?;
    match found.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => Err(CertsError::DirectoryOpen { path: here, mode }),
        _ => Ok(true),
    }
}

/// Puts the parts of `path` on the pile, the first uppermost.
fn push(todo: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let parts: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
    todo.extend(parts.into_iter().rev());
}

/// Who may own what is on the way.
struct Owners {
    own: u32,
    /// Whom the owners look like that this user namespace doesn't know, the host's root being one of them, and
    /// whose files nobody in it can change.
    unknown: Option<u32>,
}

impl Owners {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let maps: Vec<String> = text("/proc/self/uid_map").split_whitespace().map(str::to_owned).collect();
        // Everybody is known in the first namespace, and where there are none.
        let everybody = maps.is_empty() || maps == ["0", "0", "4294967295"];
        let unknown = text("/proc/sys/kernel/overflowuid").trim().parse().ok().filter(|_| !everybody);
        Self { own: rustix::process::geteuid().as_raw(), unknown }
    }

    /// Refuses what belongs to somebody else, and a directory in which others can replace entries.
    fn check(&self, path: &Path, found: &Metadata) -> Result<(), CertsError> {
        let owner = found.uid();
        if owner != 0 && owner != self.own && Some(owner) != self.unknown {
            return Err(CertsError::DirectoryForeign { path: path.into(), owner });
        }
        // A link's own bits mean nothing.
        let mode = found.mode() & 0o7777;
        if !found.is_symlink() && mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Err(CertsError::DirectoryOpen { path: path.into(), mode });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_others_could_exchange_is_refused_whatever_lies_between() {
        let temp = tempfile::tempdir().unwrap();
        let (open, good) = (temp.path().join("open"), temp.path().join("good"));
        make(&open, 0o777);
        make(&open.join("state"), 0o700);
        make(&good, 0o755);
        make(&good.join("state"), 0o700);
        assert!(matches!(is_there(&good.join("state")), Ok(true)));
        assert!(matches!(is_there(&good.join("none/state")), Ok(false)));
        for path in [open.join("state"), open.join("none"), open.clone()] {
            let refused = is_there(&path).unwrap_err();
            assert!(matches!(&refused, CertsError::DirectoryOpen { path, .. } if *path == open), "{refused}");
        }
        // By way of a link to it, one in it, and one that leads back out of it.
        symlink(open.join("state"), good.join("link")).unwrap();
        symlink(good.join("state"), open.join("link")).unwrap();
        symlink(open.join("../good/state"), good.join("back")).unwrap();
        for path in [good.join("link"), open.join("link"), good.join("back")] {
            assert!(matches!(is_there(&path), Err(CertsError::DirectoryOpen { .. })), "{path:?}");
        }
        // As in /tmp: others can put something beside it, and nothing in its place.
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(is_there(&open.join("state")), Ok(true)));
        assert!(matches!(is_there(&open), Err(CertsError::DirectoryOpen { .. })));
        symlink(good.join("state"), good.join("fine")).unwrap();
        assert!(matches!(is_there(&good.join("fine")), Ok(true)));
    }

    #[test]
    fn links_without_end_and_files_are_no_directories() {
        let temp = tempfile::tempdir().unwrap();
        let (round, file) = (temp.path().join("round"), temp.path().join("file"));
        symlink(&round, &round).unwrap();
        fs::write(&file, "").unwrap();
        assert!(matches!(is_there(&round), Err(CertsError::Read { .. })));
        assert!(matches!(is_there(&file.join("state")), Err(CertsError::NotADirectory { .. })));
    }

    /// Only root can give things away.
    #[test]
    fn what_belongs_to_somebody_else_is_refused_links_too() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (foreign, link) = (temp.path().join("foreign"), temp.path().join("link"));
        make(&foreign, 0o755);
        make(&foreign.join("state"), 0o700);
        chown(&foreign, Some(4242), None).unwrap();
        let refused = is_there(&foreign.join("state")).unwrap_err();
        assert!(matches!(refused, CertsError::DirectoryForeign { owner: 4242, .. }), "{refused}");
        chown(&foreign, Some(0), None).unwrap();
        symlink(foreign.join("state"), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
        assert!(matches!(is_there(&link), Err(CertsError::DirectoryForeign { owner: 4242, .. })));
    }
}
