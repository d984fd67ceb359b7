//! `secure-rdma ls`.

use super::connection::{connect, remote, unless_interrupted, with_link};
use crate::args::LsArgs;
use crate::failure::Failure;
use crate::output;
use secure_rdma::certs::Timestamp;
use secure_rdma_files::{Entry, FilesClient, FilesError, Kind, shown};
use serde::Serialize;

/// An entry, for programs.
#[derive(Debug, Serialize)]
struct Row {
    /// As it is shown: what isn't plain text is escaped.
    name: String,
    kind: String,
    size: u64,
    modified: i64,
    executable: bool,
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        Self {
            name: shown(entry.name()),
            kind: entry.kind.to_string(),
            size: entry.size,
            modified: entry.modified,
            executable: entry.executable,
        }
    }
}

pub(crate) fn run(args: LsArgs) -> Result<(), Failure> {
    let path = remote(&args.path)?;
    with_link(args.at, async |link, mut interruption| {
        let work = async {
            let mut client = connect(&link).await?;
            let entry = client.stat(&path).await?;
            let mut rows: Vec<Row> = Vec::new();
            let mut told = Ok(());
            if entry.kind == Kind::Directory {
                list(&mut client, &path, |entry| match (args.json, &told) {
                    (true, _) => rows.push(entry.into()),
                    (false, Ok(())) => told = line(entry),
                    (false, Err(_)) => {}
                })
                .await?;
            } else if args.json {
                rows.push((&entry).into());
            } else {
                told = line(&entry);
            }
            client.close().await?;
            told?;
            if args.json { output::json(&rows) } else { Ok(()) }
        };
        unless_interrupted(&mut interruption, work).await
    })
}

/// Each page in the order of its names; a folder of any size is shown without being kept.
async fn list(
    client: &mut FilesClient,
    path: &secure_rdma_files::FilePath,
    mut tell: impl FnMut(&Entry),
) -> Result<(), FilesError> {
    client
        .list(path, |mut page| {
            page.sort_by(|one, other| one.name().cmp(other.name()));
            page.iter().for_each(&mut tell);
            Ok(())
        })
        .await
}

fn line(entry: &Entry) -> Result<(), Failure> {
    let modified = Timestamp::from_unix(u64::try_from(entry.modified).unwrap_or(0));
    let name = shown(entry.name());
    let mark = match (entry.kind, entry.executable) {
        (Kind::Directory, _) => "/",
        (Kind::File, true) => "*",
        _ => "",
    };
    output::line(format_args!("{:<7} {:>15}  {modified}  {name}{mark}", entry.kind, entry.size))
}
