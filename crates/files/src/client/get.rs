//! Getting files: the server puts chunks into windows, and they are read from there, one-sided. A file that is no
//! longer than a chunk takes one request; a longer one is opened, its chunks are asked for one by one, and it is
//! closed.

use super::batch::{Batch, Observer, Outcome, Transfer};
use super::connection::{ANSWER_LIMIT, BUSY_PAUSE, BUSY_TRIES, FilesClient, UNASKED, is_busy, wire};
use super::pace::Pace;
use super::piece::{Key, Piece};
use crate::chunk::{Chunk, Digest};
use crate::error::FilesError;
use crate::message::{Answer, FileId, Request, Tag};
use crate::partial::Partial;
use crate::refusal::Refusal;
use crate::root::Root;
use minicbor::bytes::ByteVec;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// A thread has ended before its job.
const LOST: FilesError = FilesError::Protocol("a job here was lost");

/// What an answer is awaited for.
enum Asked {
    /// With a window for the case that the file comes at once.
    Open(Key, Option<u16>),
    Piece(Piece),
    Close(Key),
}

/// What has come in a window.
#[derive(Clone, Copy)]
enum Content {
    Chunk,
    /// A file, and whether it is a program.
    File {
        executable: bool,
    },
}

/// What a thread that may wait for a disk has done.
enum Done {
    /// It is time to ask for a file again.
    Again(Key),
    Prepared(Key, Result<Partial, Refusal>),
    /// The hash of what is there.
    Known(Piece, Result<Digest, Refusal>),
    /// With the buffer that it came in.
    Written(Piece, Result<(), Refusal>, Vec<u8>),
    Committed(Key, Result<(), Refusal>),
    /// All of a file that has come at once is there, under its own name.
    Stored(Piece, Result<(), Refusal>, Vec<u8>),
}

/// A file under way.
struct Active {
    transfer: Transfer,
    file: Option<FileId>,
    size: u64,
    partial: Option<Arc<Partial>>,
    /// The next chunk, and how many there are.
    next: u64,
    count: u64,
    /// Chunks that have a window.
    flying: u64,
    resumed: u64,
    tries: u32,
    failed: Option<FilesError>,
    /// Whether it was opened and all of its chunks are there, or it has failed.
    ending: bool,
}

struct Getter<'a> {
    client: &'a mut FilesClient,
    root: &'a Arc<Root>,
    pace: &'a mut Pace,
    observer: &'a dyn Observer,
    active: BTreeMap<Key, Active>,
    next_key: Key,
    asked: HashMap<Tag, Asked>,
    free: Vec<u16>,
    /// What is being read from windows, the oldest first.
    reading: VecDeque<(Piece, Digest, Content)>,
    /// Buffers to read into, no more than windows.
    buffers: Vec<Vec<u8>>,
    jobs: JoinSet<Done>,
}

impl FilesClient {
    /// Gets the files that are waiting in `batch`, into the directory `root`, whose folders have to be there. Several
    /// are under way at a time; one that fails is an outcome, and the others go on.
    ///
    /// # Errors
    /// The session is over; what isn't done is waiting again.
    pub async fn get(
        &mut self,
        root: &Arc<Root>,
        batch: &mut Batch,
        pace: &mut Pace,
        observer: &dyn Observer,
    ) -> Result<(), FilesError> {
        let mut getter = Getter {
            free: (0..self.terms.windows).rev().collect(),
            client: self,
            root,
            pace,
            observer,
            active: BTreeMap::new(),
            next_key: 0,
            asked: HashMap::new(),
            reading: VecDeque::new(),
            buffers: Vec::new(),
            jobs: JoinSet::new(),
        };
        let result = getter.run(batch).await;
        // Those that go on have the partial files locked.
        while getter.jobs.join_next().await.is_some() {}
        for active in core::mem::take(&mut getter.active).into_values().rev() {
            batch.waiting.push_front(active.transfer);
        }
        result
    }
}

impl Getter<'_> {
    async fn run(&mut self, batch: &mut Batch) -> Result<(), FilesError> {
        loop {
            self.begin_files(batch).await?;
            self.begin_chunks().await?;
            if self.active.is_empty() {
                return Ok(());
            }
            self.step(batch).await?;
        }
    }

    async fn begin_files(&mut self, batch: &mut Batch) -> Result<(), FilesError> {
        while self.active.len() < self.client.files() {
            let Some(transfer) = batch.waiting.pop_front() else { break };
            let key = self.next_key;
            self.next_key += 1;
            let active = Active {
                transfer,
                file: None,
                size: 0,
                partial: None,
                next: 0,
                count: 0,
                flying: 0,
                resumed: 0,
                tries: 0,
                failed: None,
                ending: false,
            };
            self.active.insert(key, active);
            self.open(key).await?;
        }
        Ok(())
    }

    async fn open(&mut self, key: Key) -> Result<(), FilesError> {
        let Some(active) = self.active.get(&key) else { return Ok(()) };
        let window = if self.pace.wait().is_none() { self.free.pop() } else { None };
        let request = Request::Open { path: wire(&active.transfer.from), window };
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Open(key, window));
        Ok(())
    }

    /// Gives free windows to chunks.
    async fn begin_chunks(&mut self) -> Result<(), FilesError> {
        while !self.free.is_empty() && self.pace.wait().is_none() {
            let ready = |active: &Active| {
                active.partial.is_some() && active.failed.is_none() && active.next < active.count
            };
            let Some((key, active)) = self.active.iter_mut().find(|(_, active)| ready(active)) else { break };
            let Some(partial) = &active.partial else { break };
            let index = active.next;
            let Some(chunk) = Chunk::of(active.size, self.client.terms.chunk, index) else { break };
            let Some(window) = self.free.pop() else { break };
            let piece = Piece { key: *key, index, chunk, window };
            active.next += 1;
            active.flying += 1;
            self.pace.spend(chunk.len);
            if chunk.offset + chunk.len as u64 <= partial.there() {
                let partial = Arc::clone(partial);
                self.jobs.spawn_blocking(move || Done::Known(piece, partial.digest(chunk)));
            } else {
                self.read(piece, None).await?;
            }
        }
        Ok(())
    }

    /// Asks for a chunk, unless it is what is there.
    async fn read(&mut self, piece: Piece, known: Option<Digest>) -> Result<(), FilesError> {
        let Some(file) = self.active.get(&piece.key).and_then(|active| active.file) else { return Ok(()) };
        let request = Request::Read { file, chunk: piece.index, window: piece.window, known };
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Piece(piece));
        Ok(())
    }

    /// Waits for something, and deals with it.
    async fn step(&mut self, batch: &mut Batch) -> Result<(), FilesError> {
        let Self { client, jobs, reading, asked, pace, .. } = self;
        if let Some((piece, digest, content)) = reading.front().copied() {
            // Answers that are there come first, so that several windows are being read.
            let answer = tokio::select! {
                biased;
                message = client.session.recv() => Some(client.read(message?)?),
                () = core::future::ready(()) => None,
            };
            if let Some((tag, answer)) = answer {
                return self.answered(tag, answer, batch).await;
            }
            // Files and windows that a job lets go meanwhile are used at once.
            let bytes = tokio::select! {
                biased;
                bytes = client.session.next_read() => bytes?,
                Some(done) = jobs.join_next() => {
                    let done = done.map_err(|_| LOST)?;
                    return self.done(done, batch).await;
                }
            };
            let bytes = bytes.ok_or(FilesError::Protocol("a read has brought nothing"))?;
            reading.pop_front();
            self.write(piece, digest, content, bytes);
            return Ok(());
        }
        let (owed, paused) = (!asked.is_empty(), pace.wait());
        tokio::select! {
            biased;
            message = client.session.recv() => {
                let (tag, answer) = client.read(message?)?;
                self.answered(tag, answer, batch).await
            }
            Some(done) = jobs.join_next() => {
                let done = done.map_err(|_| LOST)?;
                self.done(done, batch).await
            }
            () = sleep_until(paused.unwrap_or(client.heard)), if paused.is_some() => Ok(()),
            () = sleep_until(client.heard + ANSWER_LIMIT), if owed => Err(FilesError::TimedOut(ANSWER_LIMIT)),
        }
    }

    /// Writes what has come to the disk, in a thread that may wait for it.
    fn write(&mut self, piece: Piece, digest: Digest, content: Content, bytes: Vec<u8>) {
        let Some(active) = self.active.get(&piece.key) else { return };
        match content {
            Content::Chunk => {
                let Some(partial) = active.partial.clone() else { return };
                self.jobs.spawn_blocking(move || {
                    let result = partial.write(piece.chunk, &bytes, &digest);
                    Done::Written(piece, result, bytes)
                });
            }
            Content::File { executable } => {
                let (root, path, size) = (Arc::clone(self.root), active.transfer.to.clone(), active.size);
                self.jobs.spawn_blocking(move || {
                    let partial = prepare(|| root.partial(&path, size, executable, 0));
                    let result = partial.and_then(|partial| partial.store(&bytes, &digest));
                    Done::Stored(piece, result, bytes)
                });
            }
        }
    }

    /// Reads what the server has put into a window, unless it has come with the answer.
    async fn take(
        &mut self,
        piece: Piece,
        digest: Digest,
        content: Content,
        bytes: Option<ByteVec>,
    ) -> Result<(), FilesError> {
        match bytes {
            Some(bytes) => self.write(piece, digest, content, bytes.into()),
            None => {
                let at = self.client.window(piece.window);
                let mut buffer = self.buffers.pop().unwrap_or_default();
                buffer.resize(piece.chunk.len, 0);
                self.client.session.post_read_into(at, buffer).await?;
                self.reading.push_back((piece, digest, content));
            }
        }
        Ok(())
    }

    async fn answered(&mut self, tag: Tag, answer: Answer, batch: &mut Batch) -> Result<(), FilesError> {
        match (self.asked.remove(&tag).ok_or(UNASKED)?, answer) {
            (Asked::Open(key, window), Answer::Opened { file, size, executable }) => {
                self.free.extend(window);
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.file = Some(file);
                active.size = size;
                active.count = Chunk::count(size, self.client.terms.chunk);
                self.observer.begun(&active.transfer.from, size);
                let (root, path) = (Arc::clone(self.root), active.transfer.to.clone());
                self.jobs.spawn_blocking(move || {
                    Done::Prepared(key, prepare(|| root.partial(&path, size, executable, 0)))
                });
                Ok(())
            }
            (Asked::Open(key, Some(window)), Answer::Whole { size, executable, digest, bytes }) => {
                let chunk = Chunk::only(size, self.client.terms.chunk).ok_or(UNASKED)?;
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.size = size;
                self.pace.spend(chunk.len);
                self.observer.begun(&active.transfer.from, size);
                let piece = Piece { key, index: 0, chunk, window };
                self.take(piece, digest, Content::File { executable }, bytes).await
            }
            (Asked::Open(key, window), Answer::Refused(refusal))
                if is_busy(&refusal) && self.may_try(key) =>
            {
                self.free.extend(window);
                self.jobs.spawn(async move {
                    tokio::time::sleep(BUSY_PAUSE).await;
                    Done::Again(key)
                });
                Ok(())
            }
            (asked @ (Asked::Open(key, _) | Asked::Close(key)), Answer::Refused(source)) => {
                if let Asked::Open(_, window) = asked {
                    self.free.extend(window);
                }
                // Whatever it was, it isn't open any more.
                if let Some(active) = self.active.get_mut(&key) {
                    active.file = None;
                    let path = active.transfer.from.clone();
                    active.failed.get_or_insert(FilesError::Refused { path, source });
                }
                self.end_if_over(key, batch).await
            }
            (Asked::Piece(piece), Answer::Chunk { digest, bytes }) => {
                self.take(piece, digest, Content::Chunk, bytes).await
            }
            (Asked::Piece(piece), Answer::Same) => {
                if let Some(active) = self.active.get_mut(&piece.key) {
                    active.resumed += piece.chunk.len as u64;
                }
                self.over(piece, Ok(()), batch).await
            }
            (Asked::Piece(piece), Answer::Refused(source)) => {
                let path = self.active.get(&piece.key).map(|active| active.transfer.from.clone());
                let path = path.unwrap_or_default();
                self.over(piece, Err(FilesError::Refused { path, source }), batch).await
            }
            (Asked::Close(key), Answer::Done) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.file = None;
                match (&active.failed, active.partial.clone()) {
                    (None, Some(partial)) => {
                        self.jobs.spawn_blocking(move || Done::Committed(key, partial.commit()));
                    }
                    _ => self.report(key, batch),
                }
                Ok(())
            }
            _ => Err(UNASKED),
        }
    }

    async fn done(&mut self, done: Done, batch: &mut Batch) -> Result<(), FilesError> {
        match done {
            Done::Again(key) => self.open(key).await,
            Done::Prepared(key, result) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                match result {
                    Ok(partial) => active.partial = Some(Arc::new(partial)),
                    Err(source) => active.failed = Some(local(active, source)),
                }
                self.end_if_over(key, batch).await
            }
            Done::Known(piece, Ok(digest)) => self.read(piece, Some(digest)).await,
            // It may be had from the server.
            Done::Known(piece, Err(_)) => self.read(piece, None).await,
            Done::Written(piece, result, buffer) => {
                self.keep(buffer);
                let result = result.map_err(|source| match self.active.get(&piece.key) {
                    Some(active) => local(active, source),
                    None => UNASKED,
                });
                self.over(piece, result, batch).await
            }
            Done::Committed(key, result) => {
                if let (Some(active), Err(source)) = (self.active.get_mut(&key), result) {
                    active.failed = Some(local(active, source));
                }
                self.report(key, batch);
                Ok(())
            }
            Done::Stored(piece, result, buffer) => {
                self.keep(buffer);
                self.free.push(piece.window);
                let Some(active) = self.active.get_mut(&piece.key) else { return Ok(()) };
                match result {
                    Ok(()) => self.observer.moved(active.size),
                    Err(source) => active.failed = Some(local(active, source)),
                }
                self.report(piece.key, batch);
                Ok(())
            }
        }
    }

    /// A chunk needs its window no more.
    async fn over(
        &mut self,
        piece: Piece,
        result: Result<(), FilesError>,
        batch: &mut Batch,
    ) -> Result<(), FilesError> {
        self.free.push(piece.window);
        let Some(active) = self.active.get_mut(&piece.key) else { return Ok(()) };
        active.flying -= 1;
        match result {
            Ok(()) => self.observer.moved(piece.chunk.len as u64),
            Err(error) => drop(active.failed.get_or_insert(error)),
        }
        self.end_if_over(piece.key, batch).await
    }

    /// Closes a file of which all is there, or that has failed, when nothing of it is under way.
    async fn end_if_over(&mut self, key: Key, batch: &mut Batch) -> Result<(), FilesError> {
        let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
        let whole = active.partial.is_some() && active.next == active.count;
        if active.flying > 0 || !(whole || active.failed.is_some()) {
            return Ok(());
        }
        match active.file {
            Some(file) if !active.ending => {
                active.ending = true;
                let tag = self.client.ask(Request::Close { file }).await?;
                self.asked.insert(tag, Asked::Close(key));
            }
            Some(_) => {}
            None => self.report(key, batch),
        }
        Ok(())
    }

    /// Keeps a buffer for what is read next. What has come with an answer brings one that was never taken from here.
    fn keep(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < usize::from(self.client.terms.windows) {
            self.buffers.push(buffer);
        }
    }

    fn report(&mut self, key: Key, batch: &mut Batch) {
        let Some(Active { transfer, size, resumed, failed, .. }) = self.active.remove(&key) else { return };
        let result = failed.map_or(Ok(()), Err);
        let outcome = Outcome { transfer, size, resumed, result };
        self.observer.done(&outcome);
        batch.outcomes.push(outcome);
    }

    fn may_try(&mut self, key: Key) -> bool {
        let Some(active) = self.active.get_mut(&key) else { return false };
        active.tries += 1;
        active.tries <= BUSY_TRIES
    }
}

fn local(active: &Active, source: Refusal) -> FilesError {
    FilesError::Local { path: active.transfer.to.clone(), source }
}

/// Opens the partial file, which somebody else may still have.
fn prepare(open: impl Fn() -> Result<Partial, Refusal>) -> Result<Partial, Refusal> {
    for _ in 1..BUSY_TRIES {
        match open() {
            Err(refusal) if is_busy(&refusal) => thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
    open()
}
