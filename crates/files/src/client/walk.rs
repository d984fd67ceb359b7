//! What is in folders, and in those in them.

use super::connection::FilesClient;
use crate::error::FilesError;
use crate::listing::{Entry, Kind};
use crate::path::{FilePath, shown};
use crate::root::Root;
use std::collections::VecDeque;

/// Files and folders that are moved at once.
const MOST: usize = 500_000;

/// Bytes of all their paths.
const MOST_BYTES: usize = 128 << 20;

/// What is in a folder and in those below it. Paths begin with the folder's own.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Folders, each behind the one that it is in.
    pub directories: Vec<FilePath>,
    /// Files, and how many bytes each has.
    pub files: Vec<(FilePath, u64)>,
    /// What isn't moved: links, FIFOs, sockets and devices.
    pub left_out: Vec<(FilePath, Kind)>,
    count: usize,
    bytes: usize,
}

impl Found {
    /// Adds what is in `directory`; folders also to those that are still to be looked into.
    fn add(
        &mut self,
        directory: &FilePath,
        entries: Vec<Entry>,
        next: &mut VecDeque<FilePath>,
    ) -> Result<(), FilesError> {
        for entry in entries {
            let path = directory
                .join(entry.name())
                .map_err(|source| FilesError::Name { name: shown(entry.name()), source })?;
            self.count += 1;
            self.bytes += path.as_bytes().len();
            if self.count > MOST || self.bytes > MOST_BYTES {
                return Err(FilesError::TooMany { path: directory.clone(), limit: MOST });
            }
            match entry.kind {
                Kind::File => self.files.push((path, entry.size)),
                Kind::Directory => {
                    self.directories.push(path.clone());
                    next.push_back(path);
                }
                kind => self.left_out.push((path, kind)),
            }
        }
        Ok(())
    }
}

impl FilesClient {
    /// What is in the folder `path` there, and below it.
    ///
    /// # Errors
    /// A folder can't be listed, there is too much in it, or the session is over.
    pub async fn find(&mut self, path: &FilePath) -> Result<Found, FilesError> {
        let (mut found, mut next) = (Found::default(), VecDeque::from([path.clone()]));
        while let Some(directory) = next.pop_front() {
            let (found, next) = (&mut found, &mut next);
            self.list(&directory, |entries| found.add(&directory, entries, next)).await?;
        }
        Ok(found)
    }
}

/// What is in the folder `path` below `root` here, and below it. It may wait for a disk.
///
/// # Errors
/// A folder can't be listed, or there is too much in it.
pub fn find_local(root: &Root, path: &FilePath) -> Result<Found, FilesError> {
    let (mut found, mut next) = (Found::default(), VecDeque::from([path.clone()]));
    while let Some(directory) = next.pop_front() {
        let local = |source| FilesError::Local { path: directory.clone(), source };
        for entry in root.list(&directory).map_err(local)? {
            found.add(&directory, vec![entry.map_err(local)?], &mut next)?;
        }
    }
    Ok(found)
}
