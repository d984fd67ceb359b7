//! One session: what it has open, and what is carried out for it.

use super::shared::{Moved, Shared};
use crate::chunk::{Chunk, Digest, MAX_CHUNK, PAGE};
use crate::listing::{Entry, Listing};
use crate::message::{
    Answer, FileId, MAX_ENTRIES, MAX_PAGE, Malformed, OVERHEAD, Request, Tag, Terms, VERSION,
    decode_greeting, decode_request, encode_answer,
};
use crate::partial::Partial;
use crate::path::FilePath;
use crate::refusal::{Refusal, RefusalCode};
use crate::source::Source;
use secure_rdma::{Access, SealedBy, Session, SessionError};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Windows in a region, at most, and at least: so that several chunks are under way.
const WINDOWS: u64 = 16;
const FEWEST_WINDOWS: u64 = 4;

/// Bytes that are sent with an answer rather than left in a window, at most.
const EAGER: usize = 16 << 10;

/// Requests of one session that may be under way beside its windows and its files.
const SPARE_JOBS: usize = 4;

/// A file that is open.
#[derive(Debug)]
enum Open {
    Reading(Arc<Source>),
    Writing(Arc<Partial>),
}

/// Its place among those that may be open: the session's, and all sessions'.
type Seat = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// What a job has come to.
enum Done {
    Answer(Answer),
    Opened(Source, Seat),
    Created(Partial, Seat),
    Listed {
        page: Vec<Entry>,
        rest: Option<(Listing, Seat)>,
    },
    Read {
        window: u16,
        bytes: Vec<u8>,
        digest: Digest,
    },
    ReadWhole {
        source: Source,
        window: u16,
        bytes: Vec<u8>,
        digest: Digest,
    },
    Written(usize),
    WasRead,
    Committed,
    /// So many bytes were written, and the file is whole.
    Stored(usize),
}

type Job = (Tag, Result<Done, Refusal>);

pub(super) struct Guest<'a> {
    shared: Arc<Shared>,
    session: &'a mut Session,
    moved: &'a mut Moved,
    terms: Terms,
    /// Whether the region holds what is written there, and not what is sealed by its client.
    plain: bool,
    files: HashMap<FileId, (Open, Seat)>,
    next_file: FileId,
    /// Those that this session may still open.
    seats: Arc<Semaphore>,
    /// None while a page of it is being read.
    listing: Option<(Listing, Seat)>,
    jobs: JoinSet<Job>,
}

impl<'a> Guest<'a> {
    pub(super) fn new(shared: Arc<Shared>, session: &'a mut Session, moved: &'a mut Moved) -> Self {
        let info = session.info();
        let (chunk, windows) = divide(session.data_len(), info.peer_max_message);
        let allows = |right| info.allowed.allows(right | Access::SEND);
        let terms = Terms {
            version: VERSION,
            chunk,
            windows,
            files: shared.options.max_open_per_session,
            readable: allows(Access::READ),
            writable: shared.options.writable && allows(Access::WRITE),
        };
        Self {
            plain: info.sealed != SealedBy::Messages,
            shared,
            session,
            moved,
            terms,
            files: HashMap::new(),
            next_file: 0,
            seats: Arc::new(Semaphore::new(terms.files.into())),
            listing: None,
            jobs: JoinSet::new(),
        }
    }

    /// Serves it until it says goodbye.
    pub(super) async fn stay(mut self, greeting: &[u8]) -> Result<(), SessionError> {
        let (tag, hello) = decode_greeting(greeting).map_err(violation)?;
        let answer = match hello {
            Request::Hello { version } if version != VERSION => Answer::Refused(Refusal::new(
                RefusalCode::Version,
                &format!("it speaks version {VERSION} of the protocol for files, this client {version}"),
            )),
            Request::Hello { .. } if self.terms.chunk == 0 => Answer::Refused(Refusal::new(
                RefusalCode::NoRegion,
                "this client's region, or its longest message, is too small for files: the server's --region, or \
                 `region` in its list of allowed clients, needs 16K at least, and messages 64K",
            )),
            Request::Hello { .. } => Answer::Welcome(self.terms),
            _ => {
                return Err(SessionError::Protocol {
                    what: "a client for files doesn't begin with its version",
                });
            }
        };
        let welcome = matches!(answer, Answer::Welcome(_));
        self.answer(tag, answer).await?;
        if !welcome {
            // Until it leaves.
            while self.session.recv().await?.is_some() {}
            return Ok(());
        }
        let most = usize::from(self.terms.windows) + usize::from(self.terms.files) + SPARE_JOBS;
        let idle = self.shared.options.idle;
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some(job) = self.jobs.join_next() => self.finish(job).await?,
                message = self.session.recv(), if self.jobs.len() < most => {
                    let Some(message) = message? else { break };
                    asked = Instant::now();
                    let (tag, request) = decode_request(&message).map_err(violation)?;
                    if let Err(refusal) = self.begin(tag, request).await? {
                        self.refuse(tag, refusal).await?;
                    }
                }
                () = sleep_until(asked + idle), if self.jobs.is_empty() => {
                    return Err(SessionError::TimedOut { step: "waiting for a request for files", limit: idle });
                }
            }
        }
        Ok(())
    }

    /// Begins what is asked for.
    async fn begin(&mut self, tag: Tag, request: Request) -> Result<Result<(), Refusal>, SessionError> {
        // The session itself takes part in those that bring bytes.
        match request {
            Request::Write { file, chunk, window, digest } => {
                let (partial, chunk) = match self.to_write(file, chunk, window) {
                    Ok(found) => found,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                let bytes = self.session.read_local(self.window(window), chunk.len).await?;
                self.spawn(tag, move || {
                    partial.write(chunk, &bytes, &digest)?;
                    Ok(Done::Written(bytes.len()))
                });
            }
            Request::Store { path, size, executable, window, digest } => {
                let (path, chunk, seat) = match self.to_store(&path, size, window) {
                    Ok(found) => found,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                let bytes = self.session.read_local(self.window(window), chunk.len).await?;
                let (root, keep) = (Arc::clone(&self.shared.root), self.shared.options.keep_free);
                self.spawn(tag, move || {
                    let _seat = seat;
                    root.partial(&path, size, executable, keep)?.store(&bytes, &digest)?;
                    Ok(Done::Stored(bytes.len()))
                });
            }
            request => return Ok(self.start(tag, request)),
        }
        Ok(Ok(()))
    }

    fn start(&mut self, tag: Tag, request: Request) -> Result<(), Refusal> {
        let root = Arc::clone(&self.shared.root);
        match request {
            Request::Hello { .. } | Request::Write { .. } | Request::Store { .. } => {
                return Err(senseless("it has begun already"));
            }
            Request::Stat { path } => {
                self.may_read()?;
                let path = FilePath::parse(&path)?;
                self.spawn(tag, move || Ok(Done::Answer(Answer::Entry(root.entry(&path)?))));
            }
            Request::List { path } => {
                self.may_read()?;
                let path = FilePath::parse(&path)?;
                self.listing = None;
                let seat = self.seat()?;
                self.spawn(tag, move || page(root.list(&path)?, seat));
            }
            Request::More => {
                self.may_read()?;
                let (listing, seat) =
                    self.listing.take().ok_or_else(|| senseless("nothing is being listed"))?;
                self.spawn(tag, move || page(listing, seat));
            }
            Request::Open { path, window } => {
                self.may_read()?;
                window.map_or(Ok(()), |window| self.check_window(window))?;
                let (path, seat, whole) = (FilePath::parse(&path)?, self.seat()?, self.terms.chunk);
                self.spawn(tag, move || {
                    let source = root.source(&path)?;
                    match (window, Chunk::only(source.size(), whole)) {
                        (Some(window), Some(chunk)) => {
                            let (bytes, digest) = source.read(chunk)?;
                            source.check()?;
                            Ok(Done::ReadWhole { source, window, bytes, digest })
                        }
                        _ => Ok(Done::Opened(source, seat)),
                    }
                });
            }
            Request::Read { file, chunk, window, known } => {
                self.check_window(window)?;
                let Some((Open::Reading(source), _)) = self.files.get(&file) else { return Err(not_open()) };
                let source = Arc::clone(source);
                let chunk = self.chunk(source.size(), chunk)?;
                self.spawn(tag, move || {
                    let (bytes, digest) = source.read(chunk)?;
                    Ok(match known == Some(digest) {
                        true => Done::Answer(Answer::Same),
                        false => Done::Read { window, bytes, digest },
                    })
                });
            }
            Request::Close { file } => match self.files.remove(&file) {
                None => return Err(not_open()),
                Some((Open::Reading(source), seat)) => self.spawn(tag, move || {
                    let _seat = seat;
                    source.check()?;
                    Ok(Done::WasRead)
                }),
                Some((Open::Writing(partial), seat)) => self.spawn(tag, move || {
                    let _seat = seat;
                    partial.remove_if_empty();
                    Ok(Done::Answer(Answer::Done))
                }),
            },
            Request::Create { path, size, executable } => {
                let (path, seat) = self.to_create(&path, size)?;
                let keep = self.shared.options.keep_free;
                self.spawn(tag, move || {
                    Ok(Done::Created(root.partial(&path, size, executable, keep)?, seat))
                });
            }
            Request::Check { file, chunk, digest } => {
                let (partial, chunk) = self.to_write(file, chunk, 0)?;
                if chunk.offset + chunk.len as u64 > partial.there() {
                    // The last chunk of what is there is seldom whole.
                    self.spawn(tag, move || Ok(Done::Answer(Answer::Differs)));
                    return Ok(());
                }
                self.spawn(tag, move || {
                    let same = partial.digest(chunk)? == digest;
                    Ok(Done::Answer(if same { Answer::Same } else { Answer::Differs }))
                });
            }
            Request::Commit { file } => match self.files.remove(&file) {
                Some((Open::Writing(partial), seat)) => self.spawn(tag, move || {
                    let _seat = seat;
                    partial.commit()?;
                    Ok(Done::Committed)
                }),
                Some(open) => {
                    self.files.insert(file, open);
                    return Err(not_open());
                }
                None => return Err(not_open()),
            },
            Request::MakeDirectory { path } => {
                self.may_write()?;
                let path = FilePath::parse(&path)?;
                self.spawn(tag, move || {
                    root.make_directory(&path)?;
                    Ok(Done::Answer(Answer::Done))
                });
            }
        }
        Ok(())
    }

    /// Has a thread that may wait for a disk carry out `job`, when it is its turn.
    fn spawn(&mut self, tag: Tag, job: impl FnOnce() -> Result<Done, Refusal> + Send + 'static) {
        // For one client that it fails, the others go on.
        let job = move || (tag, catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Err(bug())));
        let disk = Arc::clone(&self.shared.disk);
        match Arc::clone(&disk).try_acquire_owned() {
            Ok(turn) => self.jobs.spawn_blocking(move || {
                let _turn = turn;
                job()
            }),
            Err(_) => self.jobs.spawn(async move {
                let turn = disk.acquire_owned().await;
                let done = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    job()
                });
                done.await.unwrap_or_else(|_| (tag, Err(bug())))
            }),
        };
    }

    /// Tells what a job has come to.
    async fn finish(&mut self, job: Result<Job, JoinError>) -> Result<(), SessionError> {
        // Nobody ends these tasks, and they don't panic.
        let Ok((tag, done)) = job else { return Err(SessionError::Protocol { what: "a job was lost" }) };
        let done = match done {
            Ok(done) => done,
            Err(refusal) => {
                return self.refuse(tag, refusal).await;
            }
        };
        let answer = match done {
            Done::Answer(answer) => answer,
            Done::Opened(source, seat) => {
                let (size, executable) = (source.size(), source.executable());
                let file = self.enter(Open::Reading(Arc::new(source)), seat);
                Answer::Opened { file, size, executable }
            }
            Done::Created(partial, seat) => {
                let there = partial.there();
                let file = self.enter(Open::Writing(Arc::new(partial)), seat);
                Answer::Created { file, there }
            }
            Done::Listed { page, rest } => {
                let more = rest.is_some();
                self.listing = rest;
                Answer::Entries { entries: page, more }
            }
            Done::Read { window, bytes, digest } => {
                self.moved.bytes_read += bytes.len() as u64;
                Answer::Chunk { digest, bytes: self.place(window, bytes)?.map(Into::into) }
            }
            Done::ReadWhole { source, window, bytes, digest } => {
                self.moved.bytes_read += bytes.len() as u64;
                self.moved.files_read += 1;
                let (size, executable) = (source.size(), source.executable());
                Answer::Whole { size, executable, digest, bytes: self.place(window, bytes)?.map(Into::into) }
            }
            Done::Written(len) => {
                self.moved.bytes_written += len as u64;
                Answer::Done
            }
            Done::WasRead => {
                self.moved.files_read += 1;
                Answer::Done
            }
            Done::Committed => {
                self.moved.files_written += 1;
                Answer::Done
            }
            Done::Stored(len) => {
                self.moved.bytes_written += len as u64;
                self.moved.files_written += 1;
                Answer::Done
            }
        };
        self.answer(tag, answer).await
    }

    /// Gives an open file its number.
    fn enter(&mut self, open: Open, seat: Seat) -> FileId {
        while self.files.contains_key(&self.next_file) {
            self.next_file = self.next_file.wrapping_add(1);
        }
        let file = self.next_file;
        self.next_file = file.wrapping_add(1);
        self.files.insert(file, (open, seat));
        file
    }

    /// Puts bytes where the client reads them; gives them back where the server can't, or where they are so few that
    /// sending them takes less than being asked for them.
    fn place(&self, window: u16, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, SessionError> {
        if !self.plain || bytes.len() <= EAGER {
            return Ok(Some(bytes));
        }
        let region = self.session.region().ok_or(SessionError::NoRegion)?;
        region.write(self.window(window), &bytes).map_err(|_| SessionError::NoRegion)?;
        Ok(None)
    }

    async fn answer(&mut self, tag: Tag, answer: Answer) -> Result<(), SessionError> {
        self.session.post_send(&encode_answer(tag, answer)).await
    }

    async fn refuse(&mut self, tag: Tag, refusal: Refusal) -> Result<(), SessionError> {
        self.moved.refused += 1;
        self.answer(tag, Answer::Refused(refusal)).await
    }

    /// Where a window begins in the region.
    fn window(&self, window: u16) -> u64 {
        u64::from(window) * u64::from(self.terms.chunk)
    }

    fn check_window(&self, window: u16) -> Result<(), Refusal> {
        if window < self.terms.windows { Ok(()) } else { Err(senseless("there is no such window")) }
    }

    fn chunk(&self, size: u64, index: u64) -> Result<Chunk, Refusal> {
        Chunk::of(size, self.terms.chunk, index).ok_or_else(|| senseless("the file has no such chunk"))
    }

    /// A file that is being written, and a chunk of it.
    fn to_write(&self, file: FileId, chunk: u64, window: u16) -> Result<(Arc<Partial>, Chunk), Refusal> {
        self.check_window(window)?;
        let Some((Open::Writing(partial), _)) = self.files.get(&file) else { return Err(not_open()) };
        Ok((Arc::clone(partial), self.chunk(partial.size(), chunk)?))
    }

    /// Where a file of `size` bytes may be written.
    fn to_create(&self, path: &[u8], size: u64) -> Result<(FilePath, Seat), Refusal> {
        self.may_write()?;
        let path = FilePath::parse(path)?;
        let most = self.shared.options.max_file;
        if size > most {
            let text = format!("it has {size} bytes, and the server takes files of {most} at most");
            return Err(Refusal::new(RefusalCode::TooLarge, &text));
        }
        Ok((path, self.seat()?))
    }

    /// Where a file may be written, all of which is in a window.
    fn to_store(&self, path: &[u8], size: u64, window: u16) -> Result<(FilePath, Chunk, Seat), Refusal> {
        self.check_window(window)?;
        let chunk = Chunk::only(size, self.terms.chunk).ok_or_else(|| senseless("it isn't one chunk"))?;
        let (path, seat) = self.to_create(path, size)?;
        Ok((path, chunk, seat))
    }

    fn seat(&self) -> Result<Seat, Refusal> {
        let take = |seats: &Arc<Semaphore>| Arc::clone(seats).try_acquire_owned();
        let own = take(&self.seats).map_err(|_| {
            Refusal::new(RefusalCode::TooMany, "this session has as many files open as it may")
        })?;
        let shared = take(&self.shared.open)
            .map_err(|_| Refusal::new(RefusalCode::Busy, "the server has as many files open as it may"))?;
        Ok((own, shared))
    }

    fn may_read(&self) -> Result<(), Refusal> {
        match self.terms.readable {
            true => Ok(()),
            false => Err(Refusal::new(
                RefusalCode::NotAllowed,
                "the list of allowed clients doesn't let this one read: `send` and `read` are needed",
            )),
        }
    }

    fn may_write(&self) -> Result<(), Refusal> {
        match (self.terms.writable, self.shared.options.writable) {
            (true, _) => Ok(()),
            (false, false) => Err(Refusal::new(
                RefusalCode::ReadOnly,
                "it offers its files for reading alone: --files-write lets clients put some there",
            )),
            (false, true) => Err(Refusal::new(
                RefusalCode::NotAllowed,
                "the list of allowed clients doesn't let this one write: `send` and `write` are needed",
            )),
        }
    }
}

/// The next page of a listing.
fn page(mut listing: Listing, seat: Seat) -> Result<Done, Refusal> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < MAX_ENTRIES && bytes < MAX_PAGE {
        match listing.next() {
            Some(entry) => {
                let entry = entry?;
                // With its numbers, of 9 bytes at most.
                bytes += entry.name().len() + 32;
                page.push(entry);
            }
            None => return Ok(Done::Listed { page, rest: None }),
        }
    }
    Ok(Done::Listed { page, rest: Some((listing, seat)) })
}

/// Bytes of a chunk and how many windows there are, in a region of `region` bytes, for a client that takes messages of
/// `message` bytes; zeros where that can't be.
fn divide(region: u64, message: u64) -> (u32, u16) {
    let most = region / FEWEST_WINDOWS;
    let whole = most.min(MAX_CHUNK.into()).min(message.saturating_sub(OVERHEAD.into()));
    let chunk = whole / u64::from(PAGE) * u64::from(PAGE);
    if chunk == 0 || message < (MAX_PAGE + OVERHEAD as usize) as u64 {
        return (0, 0);
    }
    // No more than MAX_CHUNK, and than WINDOWS.
    let windows = (region / chunk).min(WINDOWS);
    (u32::try_from(chunk).unwrap_or(MAX_CHUNK), u16::try_from(windows).unwrap_or(0))
}

fn senseless(why: &str) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, why)
}

fn not_open() -> Refusal {
    senseless("the file isn't open, or not for this")
}

fn bug() -> Refusal {
    Refusal::new(RefusalCode::System, "the server's job panicked; this is a bug in secure-rdma")
}

fn violation(_: Malformed) -> SessionError {
    SessionError::Protocol { what: "a client for files sends what isn't a request" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_the_region_and_chunks_fit_messages() {
        assert_eq!(divide(1 << 20, 1 << 20), (256 << 10, 4));
        assert_eq!(divide(4 << 20, 1 << 20), (MAX_CHUNK, 8));
        assert_eq!(divide(1 << 30, 1 << 20), (MAX_CHUNK, 16));
        assert_eq!(divide(65536, 1 << 20), (16384, 4));
        for (region, message) in [(0, 1 << 20), (16383, 1 << 20), (1 << 20, 0), (1 << 20, 4096)] {
            assert_eq!(divide(region, message), (0, 0));
        }
        for region in (0..4 << 20).step_by(4099) {
            for message in [40_000, 70_000, 1 << 20, u64::MAX] {
                let (chunk, windows) = divide(region, message);
                assert!(u64::from(chunk) * u64::from(windows) <= region);
                assert!(chunk == 0 || u64::from(chunk + OVERHEAD) <= message);
                assert!(chunk % PAGE == 0 && chunk <= MAX_CHUNK);
                assert!(chunk == 0 || windows >= 4);
            }
        }
    }
}
