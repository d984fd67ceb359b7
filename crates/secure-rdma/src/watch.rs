//! Noticing that files have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// What of a file changes when it is written, replaced, or made readable: device, inode, length, when it was
/// written, and when that or its rights changed (seconds, nanoseconds each). `None` if there is none.
type Mark = Option<[i128; 7]>;

/// Watches files by looking at them once a second: no matter which file system they are on, and whether they
/// are written in place, replaced by renaming, or reached by a symbolic link that is (as in a Kubernetes
/// secret).
#[derive(Debug)]
pub struct FileWatch {
    known: BTreeMap<PathBuf, Mark>,
    /// What was seen at the last look, if it differs from what is known.
    unsettled: Option<BTreeMap<PathBuf, Mark>>,
    /// When to look next: kept here, so that a wait that is cancelled often comes to it all the same.
    next: Option<Instant>,
}

impl FileWatch {
    /// Watches these files, which need not exist.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let known = paths
            .into_iter()
            .map(|path| {
                let mark = mark(&path);
                (path, mark)
            })
            .collect();
        Self { known, unsettled: None, next: None }
    }

    /// Waits until a file has changed, and then until none changes for as long as it takes to look twice: who
    /// is writing one, or several that belong together, should be done. Cancelling loses no change.
    pub async fn changed(&mut self) {
        loop {
            let next = *self.next.get_or_insert_with(|| Instant::now() + PERIOD);
            tokio::time::sleep_until(next).await;
            self.next = None;
            if self.look() {
                return;
            }
        }
    }

    /// Whether a change has settled.
    fn look(&mut self) -> bool {
        let now: BTreeMap<PathBuf, Mark> = self.known.keys().map(|path| (path.clone(), mark(path))).collect();
        if self.unsettled.as_ref() == Some(&now) {
            self.unsettled = None;
            self.known = now;
            return true;
        }
        self.unsettled = (now != self.known).then_some(now);
        false
    }
}

fn mark(path: &PathBuf) -> Mark {
    let found = fs::metadata(path).ok()?;
    let fields: [i128; 7] = [
        found.dev().into(),
        found.ino().into(),
        found.len().into(),
        found.mtime().into(),
        found.mtime_nsec().into(),
        found.ctime().into(),
        found.ctime_nsec().into(),
    ];
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_only_when_the_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, missing) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&file, "one").unwrap();
        let mut watch = FileWatch::new([file.clone(), missing.clone()]);
        assert!(!watch.look() && !watch.look());
        // Half of it, and then the rest.
        fs::write(&file, "two, ").unwrap();
        assert!(!watch.look());
        fs::write(&file, "two, three").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        assert!(!watch.look());
        // Replaced by another of the same length and date.
        let other = dir.path().join("other");
        fs::write(&other, "two, four.").unwrap();
        let date = fs::metadata(&file).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(date).unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        fs::write(&missing, "there").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        fs::remove_file(&missing).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_cancelled_again_and_again_comes_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut watch = FileWatch::new([file.clone()]);
        fs::write(&file, "one").unwrap();
        for _ in 0..100 {
            if tokio::time::timeout(PERIOD / 10, watch.changed()).await.is_ok() {
                return;
            }
        }
        panic!("the change was never noticed");
    }

    #[test]
    fn a_change_that_is_undone_at_once_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut watch = FileWatch::new([file.clone()]);
        fs::write(&file, "one").unwrap();
        assert!(!watch.look());
        fs::remove_file(&file).unwrap();
        assert!(!watch.look() && !watch.look());
    }
}
