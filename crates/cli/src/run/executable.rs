//! The program to run: where it is, and whether libraries can be put under it.

use crate::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Enough of a file to know what it is: an ELF header, and more program headers than any linker writes.
const HEAD: usize = 64 << 10;

/// What kind of machine this program is built for, as ELF numbers them.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else {
    0
};

/// The program's file, looked for as a shell does.
pub(crate) fn find(program: &OsStr) -> Result<PathBuf, Failure> {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match path.metadata() {
            Err(error) => Err(Failure::Other(format!("{}: {error}", path.display()))),
            Ok(_) if is_executable(&path) => Ok(path),
            Ok(_) => Err(Failure::Other(format!("{}: not a file that can be executed", path.display()))),
        };
    }
    let places = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&places)
        .map(|place| place.join(program))
        .find(|path| is_executable(path))
        .ok_or_else(|| Failure::Other(format!("{}: no such program in PATH", program.to_string_lossy())))
}

/// Whether the loader would put the libraries under the program: it doesn't for those that have none, and for those
/// that run with more rights than their user.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let refused = |why: &str| {
        Err(Failure::Other(format!(
            "{} can't be run on the embedded device: it {why}, so no library can be put under it",
            path.display()
        )))
    };
    let found = path.metadata().map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let other_user = found.mode() & 0o4000 != 0 && found.uid() != user;
    let other_group = found.mode() & 0o2000 != 0 && found.gid() != group;
    if other_user || other_group {
        return refused("is set to run with another user's rights (setuid or setgid)");
    }
    let mut head = Vec::new();
    // A program may be executable and not readable; then nothing more is known of it.
    let Ok(file) = File::open(path) else { return Ok(()) };
    if file.take(HEAD as u64).read_to_end(&mut head).is_err() {
        return Ok(());
    }
    if let Some(interpreter) = interpreter(&head) {
        return if interpreter == path { Ok(()) } else { check(&interpreter) };
    }
    match kind(&head) {
        Kind::Dynamic | Kind::Unknown => Ok(()),
        Kind::Static => refused("is linked statically"),
        Kind::Foreign => refused("is built for another kind of machine"),
    }
}

/// The program that runs a script.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii().split(u8::is_ascii_whitespace).next().filter(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The loader gives it libraries.
    Dynamic,
    /// Nobody does.
    Static,
    /// Another architecture's.
    Foreign,
    /// No ELF file that could be read.
    Unknown,
}

/// What an ELF file's beginning says (System V ABI, "Object files"), little-endian and of 64 bits.
fn kind(head: &[u8]) -> Kind {
    const LOADER: u32 = 3; // PT_INTERP
    let bytes = |at: usize, len: usize| head.get(at..at.checked_add(len)?);
    let half = |at| bytes(at, 2).and_then(|b| Some(u16::from_le_bytes(b.try_into().ok()?)));
    let word = |at| bytes(at, 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?)));
    let long = |at| bytes(at, 8).and_then(|b| Some(u64::from_le_bytes(b.try_into().ok()?)));
    if !head.starts_with(b"\x7fELF") {
        return Kind::Unknown;
    }
    // Class 2: 64 bits. Data 1: little-endian.
    if bytes(4, 2) != Some(&[2, 1]) || half(18) != Some(MACHINE) {
        return Kind::Foreign;
    }
    let (Some(table), Some(size), Some(count)) = (long(32), half(54), half(56)) else { return Kind::Unknown };
    let Ok(table) = usize::try_from(table) else { return Kind::Unknown };
    for index in 0..usize::from(count) {
        match table.checked_add(index * usize::from(size)).and_then(word) {
            Some(LOADER) => return Kind::Dynamic,
            Some(_) => {}
            None => return Kind::Unknown,
        }
    }
    Kind::Static
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_dynamic_and_what_is_no_elf_file_is_unknown() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(kind(&own), Kind::Dynamic);
        for len in 0..64 {
            assert_ne!(kind(&own[..len]), Kind::Dynamic, "{len} bytes");
        }
        assert_eq!(kind(b""), Kind::Unknown);
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::Unknown);
    }

    #[test]
    fn a_program_without_a_loader_is_static_and_another_machines_foreign() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        assert_eq!(kind(&elf), Kind::Static, "no program headers");
        elf[18] ^= 1;
        assert_eq!(kind(&elf), Kind::Foreign);
        // Headers that lie far outside must not be followed.
        elf[18] ^= 1;
        elf[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        elf[56] = 1;
        assert_eq!(kind(&elf), Kind::Unknown);
    }

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(interpreter(b"#! /usr/bin/env python3\n"), Some("/usr/bin/env".into()));
        assert_eq!(interpreter(b"#!/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }
}
