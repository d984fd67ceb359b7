//! Noticing that files have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// File systems date changes by a clock that ticks this often at the slowest (100 Hz), with some room: what was
/// changed less than that ago may be changed once more without a trace.
const GRAIN: Duration = Duration::from_millis(50);

/// How often files are read before they count as never left alone: with a pause of a grain, a second.
const READINGS: u32 = 20;

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

    /// Has `read` read the files, and again as long as one of them changes meanwhile: what it returns comes from
    /// one moment, also where several files are read, and where they are written in place. What they were then
    /// is known from now on. It may block for a second: who writes for longer is [`FilesChanging`].
    ///
    /// # Errors
    /// As `read`; or [`FilesChanging`], after which every file's next look counts as a change.
    pub fn read_at_rest<T, E: From<FilesChanging>>(
        &mut self,
        mut read: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..READINGS {
            let before = self.marks();
            let result = read();
            if self.marks() == before && !before.values().any(|mark| is_fresh(mark.as_ref())) {
                self.known = before;
                self.unsettled = None;
                return result;
            }
            thread::sleep(GRAIN);
        }
        Err(FilesChanging.into())
    }

    fn marks(&self) -> BTreeMap<PathBuf, Mark> {
        self.known.keys().map(|path| (path.clone(), mark(path))).collect()
    }

    /// Whether a change has settled.
    fn look(&mut self) -> bool {
        let now = self.marks();
        if self.unsettled.as_ref() == Some(&now) {
            self.unsettled = None;
            self.known = now;
            return true;
        }
        self.unsettled = (now != self.known).then_some(now);
        false
    }
}

/// Files that were changed during each of many readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the files are being written: they changed while they were read, each of {READINGS} times")]
pub struct FilesChanging;

/// Whether a file with this mark was changed so little ago that the next change may leave the mark as it is.
fn is_fresh(mark: Option<&[i128; 7]>) -> bool {
    let Some(&[_, _, _, written, written_nsec, changed, changed_nsec]) = mark else { return false };
    let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return false };
    let ago = |seconds: i128, nsec: i128| now.as_nanos().cast_signed() - (seconds * 1_000_000_000 + nsec);
    let grain = GRAIN.as_nanos().cast_signed();
    // A date further in the future is another machine's clock, which tells nothing.
    [ago(written, written_nsec), ago(changed, changed_nsec)]
        .into_iter()
        .any(|ago| (-grain..grain).contains(&ago))
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

    fn whole(path: &PathBuf) -> Result<String, FilesChanging> {
        Ok(fs::read_to_string(path).unwrap_or_default())
    }

    #[test]
    fn files_that_change_while_they_are_read_are_read_again_until_they_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&one, "old").unwrap();
        fs::write(&two, "old").unwrap();
        let mut watch = FileWatch::new([one.clone(), two.clone()]);
        let mut readings = 0;
        let read = watch.read_at_rest(|| {
            readings += 1;
            let first = whole(&one)?;
            // Both are replaced between the reading of the first and of the second.
            if readings == 1 {
                fs::write(&one, "new").unwrap();
                fs::write(&two, "new").unwrap();
            }
            Ok::<_, FilesChanging>((first, whole(&two)?))
        });
        assert_eq!(read, Ok(("new".to_owned(), "new".to_owned())));
        assert!(readings > 1);
        // What was read isn't a change any more.
        assert!(!watch.look() && !watch.look());
    }

    #[test]
    fn an_error_that_half_a_file_makes_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "half").unwrap();
        let mut watch = FileWatch::new([file.clone()]);
        let mut readings = 0;
        let read = watch.read_at_rest(|| {
            readings += 1;
            let text = whole(&file)?;
            if readings == 1 {
                fs::write(&file, "half and half").unwrap();
            }
            if text.ends_with("and half") { Ok(text) } else { Err(FilesChanging) }
        });
        assert_eq!(read.as_deref(), Ok("half and half"));
    }

    /// The length stays, and the clock of the file system may not have gone on.
    #[test]
    fn what_was_written_a_moment_ago_is_not_taken_for_at_rest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut watch = FileWatch::new([file.clone()]);
        let mut readings = 0;
        fs::write(&file, "one").unwrap();
        let read = watch.read_at_rest(|| {
            readings += 1;
            let text = whole(&file)?;
            if readings == 1 {
                fs::write(&file, "two").unwrap();
            }
            Ok::<_, FilesChanging>(text)
        });
        assert_eq!(read.as_deref(), Ok("two"));
    }

    #[test]
    fn files_that_never_rest_are_an_error_and_still_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut watch = FileWatch::new([file.clone()]);
        let mut readings = 0_u32;
        let read = watch.read_at_rest(|| {
            readings += 1;
            fs::write(&file, "x".repeat(readings as usize)).unwrap();
            Ok::<_, FilesChanging>(())
        });
        assert_eq!((read, readings), (Err(FilesChanging), READINGS));
        assert!(!watch.look());
        assert!(watch.look());
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
