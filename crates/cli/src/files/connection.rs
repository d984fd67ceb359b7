//! What the commands share: a link, a session that moves files, and paths.

use crate::args::files::FilesPlace;
use crate::failure::Failure;
use crate::link::{Greeting, Link, LinkBuilder};
use crate::logging;
use crate::runtime::{self, Interruption};
use secure_rdma_files::{FilePath, FilesClient, FilesError, Refusal, Root};
use std::path::Path;

/// Has `work` done with what connects to the server, unless the user has enough of it.
pub(super) fn with_link<F>(at: FilesPlace, work: impl FnOnce(Link, Interruption) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    logging::start(at.link.verbose);
    let name = at.server_name.as_ref();
    let link = LinkBuilder::new(&at.link, at.place, name, Greeting::Warning, FilesClient::BUFFERS)?;
    let runtime = runtime::start_current()?;
    let result = runtime.block_on(async { work(link.build()?, Interruption::watch()?).await });
    // A disk that doesn't answer isn't waited for.
    runtime.shutdown_background();
    result
}

/// A session that moves files.
pub(super) async fn connect(link: &Link) -> Result<FilesClient, Failure> {
    Ok(FilesClient::open(link.connect().await?).await?)
}

/// What `work` comes to, unless the user has enough of it before.
pub(super) async fn unless_interrupted<T>(
    interruption: &mut Interruption,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        () = interruption.arrived() => Err(Failure::interrupted()),
    }
}

/// A path on the server, as it was typed.
pub(super) fn remote(path: &Path) -> Result<FilePath, Failure> {
    FilePath::typed(path).map_err(named(path))
}

/// The directory at `path` here.
pub(super) fn local(path: &Path) -> Result<Root, Failure> {
    Root::open(path).map_err(named(path))
}

pub(super) fn named(path: &Path) -> impl FnOnce(Refusal) -> Failure + '_ {
    move |source| FilesError::Name { name: path.display().to_string(), source }.into()
}
