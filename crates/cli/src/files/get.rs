//! `secure-rdma get`.

use super::connection::{local, remote, with_link};
use super::mover::{Work, carry_out};
use super::progress::Progress;
use super::summary::Summary;
use crate::args::TransferArgs;
use crate::failure::Failure;
use secure_rdma_files::{Batch, FilePath, FilesClient, FilesError, Kind, Pace, Refusal, Root, Transfer};
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) fn run(args: TransferArgs) -> Result<(), Failure> {
    let paths = args.paths.iter().map(|path| remote(path)).collect::<Result<Vec<_>, _>>()?;
    let root = Arc::new(local(&args.into)?);
    with_link(args.at, async |link, interruption| {
        let work = Getting { root, paths, plan: None, summary: Summary::default() };
        carry_out(link, &args.moving, interruption, work).await
    })
}

struct Getting {
    root: Arc<Root>,
    paths: Vec<FilePath>,
    /// What is to be had, when that is known, and how many bytes that are.
    plan: Option<(Batch, u64)>,
    summary: Summary,
}

impl Work for Getting {
    async fn go_on(&mut self, client: &mut FilesClient, pace: &mut Pace) -> Result<(), FilesError> {
        if self.plan.is_none() {
            let mut planning = Planning::default();
            for path in &self.paths {
                match planning.add(client, path, &self.root).await {
                    Err(error) if error.ends_session() => return Err(error),
                    Err(error) => planning.summary.failures.push(error),
                    Ok(()) => {}
                }
            }
            self.plan = Some((planning.batch, planning.bytes));
            self.summary = planning.summary;
        }
        let Some((batch, bytes)) = &mut self.plan else { return Ok(()) };
        let progress = Progress::start(*bytes);
        client.get(&self.root, batch, pace, &progress).await
    }

    fn summary(self) -> Summary {
        let outcomes = self.plan.map(|(batch, _)| batch.outcomes).unwrap_or_default();
        Summary { outcomes, ..self.summary }
    }
}

/// What is to be had, as far as it is known.
#[derive(Default)]
struct Planning {
    batch: Batch,
    bytes: u64,
    summary: Summary,
    /// Where something is to be already.
    taken: HashSet<FilePath>,
}

impl Planning {
    /// Adds what is at `path` there: itself under its name, or all that is in it.
    async fn add(
        &mut self,
        client: &mut FilesClient,
        path: &FilePath,
        root: &Arc<Root>,
    ) -> Result<(), FilesError> {
        let (entry, base) = (client.stat(path).await?, path.parent());
        match entry.kind {
            Kind::File => self.file(path.clone(), &base, entry.size),
            Kind::Directory => {
                let found = client.find(path).await?;
                let made =
                    found.directories.iter().chain([path]).map(|path| path.strip(&base).unwrap_or_default());
                let (root, made) = (Arc::clone(root), made.collect::<Vec<_>>());
                self.summary.directories += made.iter().filter(|path| !path.is_root()).count();
                let making = tokio::task::spawn_blocking(move || make(&root, &made));
                making.await.map_err(|_| FilesError::Protocol("a job here was lost"))??;
                for (path, size) in found.files {
                    self.file(path, &base, size)?;
                }
                self.summary.left_out.extend(found.left_out);
                Ok(())
            }
            // The server says why not.
            _ => self.file(path.clone(), &base, 0),
        }
    }

    fn file(&mut self, from: FilePath, base: &FilePath, size: u64) -> Result<(), FilesError> {
        let to = from.strip(base).unwrap_or_default();
        if !self.taken.insert(to.clone()) {
            let name = to.to_string();
            return Err(FilesError::Name { name, source: Refusal::twice() });
        }
        self.bytes = self.bytes.saturating_add(size);
        self.batch.waiting.push_back(Transfer { from, to });
        Ok(())
    }
}

fn make(root: &Root, directories: &[FilePath]) -> Result<(), FilesError> {
    directories.iter().try_for_each(|path| {
        root.make_directories(path).map_err(|source| FilesError::Local { path: path.clone(), source })
    })
}
