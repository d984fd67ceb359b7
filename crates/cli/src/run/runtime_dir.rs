//! The directory of this user's for what lives only as long as the machine runs.

use crate::failure::Failure;
use std::fs::{DirBuilder, symlink_metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory, made now if it wasn't there: `$XDG_RUNTIME_DIR/secure-rdma`, else `secure-rdma-UID` in the directory
/// for temporary files. Nobody else can have written there: what is in it becomes part of programs.
pub(crate) fn runtime_dir() -> Result<PathBuf, Failure> {
    let user = rustix::process::getuid().as_raw();
    let path = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
    {
        Some(path) if path.is_dir() => path.join("secure-rdma"),
        _ => std::env::temp_dir().join(format!("secure-rdma-{user}")),
    };
    make_private(&path)?;
    Ok(path)
}

/// Makes a directory of mode 0700, or finds that it is one, and this user's.
pub(crate) fn make_private(path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("{}: {error}", path.display()));
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = symlink_metadata(path).map_err(failed)?;
    let user = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(Failure::Other(format!(
            "{} isn't a directory of this user's that nobody else can enter (mode 0700); remove it, or set \
             XDG_RUNTIME_DIR",
            path.display()
        )));
    }
    Ok(())
}
