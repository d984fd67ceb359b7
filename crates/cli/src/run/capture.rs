//! `--capture`: the file that processes append to.

use super::devices::Seen;
use crate::failure::Failure;
use rocev2_device::link::Capture;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Begins the file anew, for this user alone: what passes may be anybody's business.
pub(super) fn begin(path: &Path, devices: &[Seen]) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::Other(format!("{}: {error}", path.display()));
    let path = std::path::absolute(path).map_err(failed)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let beginning = Capture::beginning(devices.iter().map(|device| device.name.as_str()));
    file.and_then(|mut file| file.write_all(&beginning)).map_err(failed)?;
    Ok(path)
}
