//! `secure-rdma put`.

use super::connection::{local, named, remote, with_link};
use super::mover::{Work, carry_out};
use super::progress::Progress;
use super::summary::Summary;
use crate::args::TransferArgs;
use crate::failure::Failure;
use secure_rdma_files::{
    Batch, FilePath, FilesClient, FilesError, Kind, Pace, Refusal, Root, Transfer, find_local,
};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) fn run(args: TransferArgs) -> Result<(), Failure> {
    let into = remote(&args.into)?;
    let mut work = Putting { directories: into.ancestors().collect(), ..Putting::default() };
    work.asked_for = work.directories.len();
    for path in &args.paths {
        work.add(path, &into)?;
    }
    with_link(args.at, async |link, interruption| carry_out(link, &args.moving, interruption, work).await)
}

/// Files of one directory here.
struct Group {
    root: Arc<Root>,
    batch: Batch,
}

#[derive(Default)]
struct Putting {
    groups: Vec<Group>,
    /// Which group files of a directory here are in.
    by_directory: HashMap<PathBuf, usize>,
    /// Folders there, each behind the one that it is in.
    directories: Vec<FilePath>,
    /// How many of these are on the way to `--into`.
    asked_for: usize,
    /// Where something is to be already.
    taken: HashSet<FilePath>,
    bytes: u64,
    summary: Summary,
}

impl Putting {
    /// Adds what is at `path` here: itself under its name, or all that is in it.
    fn add(&mut self, path: &Path, into: &FilePath) -> Result<(), Failure> {
        let symlink = path
            .symlink_metadata()
            .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
        if symlink.is_dir() {
            let root = Arc::new(local(path)?);
            // `.` and `..` have names, too; the system's root has none.
            let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let base = match whole.file_name() {
                Some(name) => into.join(name.as_bytes()).map_err(named(path))?,
                None => into.clone(),
            };
            let found = find_local(&root, &FilePath::root())?;
            if !base.is_root() {
                self.directories.push(base.clone());
            }
            let mut batch = Batch::default();
            for directory in &found.directories {
                self.directories.push(directory.below(&base).map_err(named(path))?);
            }
            for (from, size) in found.files {
                let to = self.place(from.below(&base).map_err(named(path))?)?;
                self.bytes = self.bytes.saturating_add(size);
                batch.waiting.push_back(Transfer { from, to });
            }
            self.summary.left_out.extend(found.left_out);
            self.groups.push(Group { root, batch });
            return Ok(());
        }
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(Failure::Usage(format!("{}: give a file or a folder", path.display())));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let root = Arc::new(local(parent)?);
        let from = FilePath::parse(name.as_bytes()).map_err(named(path))?;
        // Before anybody is asked: what isn't a file is told of now.
        let entry = root.entry(&from).map_err(named(path))?;
        if entry.kind != Kind::File {
            root.source(&from).map_err(named(path))?;
        }
        let to = self.place(into.join(name.as_bytes()).map_err(named(path))?)?;
        self.bytes = self.bytes.saturating_add(entry.size);
        let next = self.groups.len();
        let group = *self.by_directory.entry(parent.to_owned()).or_insert(next);
        if group == next {
            self.groups.push(Group { root, batch: Batch::default() });
        }
        self.groups[group].batch.waiting.push_back(Transfer { from, to });
        Ok(())
    }

    /// That nothing else is to be at `to`.
    fn place(&mut self, to: FilePath) -> Result<FilePath, Failure> {
        if self.taken.insert(to.clone()) {
            return Ok(to);
        }
        Err(FilesError::Name { name: to.to_string(), source: Refusal::twice() }.into())
    }
}

impl Work for Putting {
    async fn go_on(&mut self, client: &mut FilesClient, pace: &mut Pace) -> Result<(), FilesError> {
        for directory in &self.directories {
            client.make_directory(directory).await?;
        }
        let progress = Progress::start(self.bytes);
        for Group { root, batch } in &mut self.groups {
            client.put(root, batch, pace, &progress).await?;
        }
        Ok(())
    }

    fn summary(self) -> Summary {
        let outcomes = self.groups.into_iter().flat_map(|group| group.batch.outcomes).collect();
        let directories = self.directories.len() - self.asked_for;
        Summary { outcomes, directories, ..self.summary }
    }
}
