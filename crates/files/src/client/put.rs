//! Putting files: chunks are written into windows, one-sided, and the server takes them from there. A file that is no
//! longer than a chunk takes one request; a longer one is made, its chunks are handed over one by one, and it is
//! committed.

use super::batch::{Batch, Observer, Outcome, Transfer};
use super::connection::{ANSWER_LIMIT, BUSY_PAUSE, BUSY_TRIES, FilesClient, UNASKED, is_busy, wire};
use super::pace::Pace;
use super::piece::{Key, Piece};
use crate::chunk::{Chunk, Digest, PAGE};
use crate::error::FilesError;
use crate::message::{Answer, FileId, Request, Tag};
use crate::path::FilePath;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::source::Source;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// What an answer is awaited for.
enum Asked {
    Create(Key),
    /// Whether the server has this already.
    Check(Piece, Content),
    Write(Piece),
    /// All of a file.
    Store(Piece),
    Commit(Key),
    Close(Key),
}

/// What a chunk's bytes are, and their hash.
type Content = (Vec<u8>, Digest);

/// What a thread that may wait for a disk has done.
enum Done {
    /// It is time to ask for a file again.
    Again(Key),
    /// With all of the file, if it is no longer than a chunk.
    Opened(Key, Result<(Source, Option<Content>), Refusal>),
    Read(Piece, Result<Content, Refusal>),
    /// Whether the file is as it was when it was opened.
    Checked(Key, Result<(), Refusal>),
}

/// A file under way.
struct Active {
    transfer: Transfer,
    source: Option<Arc<Source>>,
    file: Option<FileId>,
    /// Bytes that the server has, whatever they are.
    there: u64,
    /// The next chunk, and how many there are.
    next: u64,
    count: u64,
    /// Chunks that have a window.
    flying: u64,
    resumed: u64,
    tries: u32,
    failed: Option<FilesError>,
    /// Whether all of its chunks are there, or it has failed.
    ending: bool,
}

struct Putter<'a> {
    client: &'a mut FilesClient,
    root: &'a Arc<Root>,
    pace: &'a mut Pace,
    observer: &'a dyn Observer,
    active: BTreeMap<Key, Active>,
    next_key: Key,
    asked: HashMap<Tag, Asked>,
    free: Vec<u16>,
    jobs: JoinSet<Done>,
}

impl FilesClient {
    /// Puts the files that are waiting in `batch`, from the directory `root`, into folders that have to be there.
    /// Several are under way at a time; one that fails is an outcome, and the others go on.
    ///
    /// # Errors
    /// The session is over; what isn't done is waiting again.
    pub async fn put(
        &mut self,
        root: &Arc<Root>,
        batch: &mut Batch,
        pace: &mut Pace,
        observer: &dyn Observer,
    ) -> Result<(), FilesError> {
        let mut putter = Putter {
            free: (0..self.terms.windows).rev().collect(),
            client: self,
            root,
            pace,
            observer,
            active: BTreeMap::new(),
            next_key: 0,
            asked: HashMap::new(),
            jobs: JoinSet::new(),
        };
        let result = putter.run(batch).await;
        while putter.jobs.join_next().await.is_some() {}
        for active in core::mem::take(&mut putter.active).into_values().rev() {
            batch.waiting.push_front(active.transfer);
        }
        result
    }
}

impl Putter<'_> {
    async fn run(&mut self, batch: &mut Batch) -> Result<(), FilesError> {
        loop {
            self.begin_files(batch);
            self.begin_chunks();
            if self.active.is_empty() {
                return Ok(());
            }
            self.step(batch).await?;
        }
    }

    fn begin_files(&mut self, batch: &mut Batch) {
        while self.active.len() < self.client.files() {
            let Some(transfer) = batch.waiting.pop_front() else { break };
            let key = self.next_key;
            self.next_key += 1;
            let (root, path) = (Arc::clone(self.root), transfer.from.clone());
            let active = Active {
                transfer,
                source: None,
                file: None,
                there: 0,
                next: 0,
                count: 0,
                flying: 0,
                resumed: 0,
                tries: 0,
                failed: None,
                ending: false,
            };
            self.active.insert(key, active);
            let whole = self.client.terms.chunk;
            self.jobs.spawn_blocking(move || Done::Opened(key, open(&root, &path, whole)));
        }
    }

    /// Gives free windows to chunks, and has these read.
    fn begin_chunks(&mut self) {
        while !self.free.is_empty() && self.pace.wait().is_none() {
            let ready = |active: &Active| {
                active.file.is_some() && active.failed.is_none() && active.next < active.count
            };
            let Some((key, active)) = self.active.iter_mut().find(|(_, active)| ready(active)) else { break };
            let Some(source) = &active.source else { break };
            let index = active.next;
            let Some(chunk) = Chunk::of(source.size(), self.client.terms.chunk, index) else { break };
            let Some(window) = self.free.pop() else { break };
            let piece = Piece { key: *key, index, chunk, window };
            active.next += 1;
            active.flying += 1;
            self.pace.spend(chunk.len);
            let source = Arc::clone(source);
            self.jobs.spawn_blocking(move || Done::Read(piece, source.read(chunk)));
        }
    }

    /// Waits for something, and deals with it.
    async fn step(&mut self, batch: &mut Batch) -> Result<(), FilesError> {
        let Self { client, jobs, asked, pace, .. } = self;
        let (owed, paused) = (!asked.is_empty(), pace.wait());
        tokio::select! {
            biased;
            message = client.session.recv() => {
                let (tag, answer) = client.read(message?)?;
                self.answered(tag, answer, batch).await
            }
            Some(done) = jobs.join_next() => {
                let done = done.map_err(|_| FilesError::Protocol("a job here was lost"))?;
                self.done(done, batch).await
            }
            () = sleep_until(paused.unwrap_or(client.heard)), if paused.is_some() => Ok(()),
            () = sleep_until(client.heard + ANSWER_LIMIT), if owed => Err(FilesError::TimedOut(ANSWER_LIMIT)),
        }
    }

    async fn create(&mut self, key: Key) -> Result<(), FilesError> {
        let Some(active) = self.active.get(&key) else { return Ok(()) };
        let Some(source) = &active.source else { return Ok(()) };
        let (size, executable) = (source.size(), source.executable());
        let request = Request::Create { path: wire(&active.transfer.to), size, executable };
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Create(key));
        Ok(())
    }

    /// Hands over a chunk in its window.
    async fn write(&mut self, piece: Piece, (bytes, digest): Content) -> Result<(), FilesError> {
        let Some(file) = self.active.get(&piece.key).and_then(|active| active.file) else { return Ok(()) };
        self.fill(piece.window, bytes).await?;
        let request = Request::Write { file, chunk: piece.index, window: piece.window, digest };
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Write(piece));
        Ok(())
    }

    /// Hands over all of a file in a window.
    async fn store(&mut self, piece: Piece, (bytes, digest): Content) -> Result<(), FilesError> {
        let Some(active) = self.active.get(&piece.key) else { return Ok(()) };
        let Some(source) = &active.source else { return Ok(()) };
        let request = Request::Store {
            path: wire(&active.transfer.to),
            size: source.size(),
            executable: source.executable(),
            window: piece.window,
            digest,
        };
        self.fill(piece.window, bytes).await?;
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Store(piece));
        Ok(())
    }

    /// Writes `bytes` into a window; whatever is asked afterwards finds them there.
    async fn fill(&mut self, window: u16, mut bytes: Vec<u8>) -> Result<(), FilesError> {
        if self.client.writes_pages() {
            // Of a part of a page the rest would be read before. A window is a multiple of pages.
            bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
        }
        let at = self.client.window(window);
        Ok(self.client.session.post_write(at, &bytes).await?)
    }

    async fn answered(&mut self, tag: Tag, answer: Answer, batch: &mut Batch) -> Result<(), FilesError> {
        match (self.asked.remove(&tag).ok_or(UNASKED)?, answer) {
            (Asked::Create(key), Answer::Created { file, there }) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.file = Some(file);
                active.there = there;
                self.end_if_over(key, batch).await
            }
            (Asked::Store(piece), Answer::Done) => {
                self.free.push(piece.window);
                self.observer.moved(piece.chunk.len as u64);
                self.report(piece.key, batch);
                Ok(())
            }
            (Asked::Store(piece), Answer::Refused(refusal)) => {
                self.free.push(piece.window);
                self.not_begun(piece.key, refusal, batch).await
            }
            (Asked::Create(key), Answer::Refused(refusal)) => self.not_begun(key, refusal, batch).await,
            (Asked::Commit(key) | Asked::Close(key), Answer::Refused(source)) => {
                // Whatever it was, it isn't open any more.
                if let Some(active) = self.active.get_mut(&key) {
                    active.file = None;
                    let path = active.transfer.to.clone();
                    active.failed.get_or_insert(FilesError::Refused { path, source });
                }
                self.end_if_over(key, batch).await
            }
            (Asked::Check(piece, ..), Answer::Same) => {
                if let Some(active) = self.active.get_mut(&piece.key) {
                    active.resumed += piece.chunk.len as u64;
                }
                self.over(piece, Ok(()), batch).await
            }
            (Asked::Check(piece, content), Answer::Differs) => self.write(piece, content).await,
            (Asked::Check(piece, ..) | Asked::Write(piece), Answer::Refused(source)) => {
                let path = self.active.get(&piece.key).map(|active| active.transfer.to.clone());
                let path = path.unwrap_or_default();
                self.over(piece, Err(FilesError::Refused { path, source }), batch).await
            }
            (Asked::Write(piece), Answer::Done) => self.over(piece, Ok(()), batch).await,
            (Asked::Commit(key) | Asked::Close(key), Answer::Done) => {
                self.report(key, batch);
                Ok(())
            }
            _ => Err(UNASKED),
        }
    }

    /// The server doesn't have a file be written, or not yet.
    async fn not_begun(&mut self, key: Key, refusal: Refusal, batch: &mut Batch) -> Result<(), FilesError> {
        let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
        active.tries += 1;
        if is_busy(&refusal) && active.tries <= BUSY_TRIES {
            self.jobs.spawn(async move {
                tokio::time::sleep(BUSY_PAUSE).await;
                Done::Again(key)
            });
            return Ok(());
        }
        let path = active.transfer.to.clone();
        active.failed.get_or_insert(FilesError::Refused { path, source: refusal });
        self.end_if_over(key, batch).await
    }

    async fn done(&mut self, done: Done, batch: &mut Batch) -> Result<(), FilesError> {
        match done {
            Done::Again(key) => self.create(key).await,
            Done::Opened(key, Ok((source, content))) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                let (size, whole) = (source.size(), self.client.terms.chunk);
                active.count = Chunk::count(size, whole);
                self.observer.begun(&active.transfer.from, size);
                active.source = Some(Arc::new(source));
                // Who may not write hears that from the server, and not from the device.
                let at_once = self.client.terms.writable && self.pace.wait().is_none();
                let window = if at_once { self.free.last().copied() } else { None };
                match (window, Chunk::only(size, whole), content) {
                    (Some(window), Some(chunk), Some(content)) => {
                        self.free.pop();
                        self.pace.spend(chunk.len);
                        self.store(Piece { key, index: 0, chunk, window }, content).await
                    }
                    _ => self.create(key).await,
                }
            }
            Done::Opened(key, Err(source)) => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.failed = Some(local(active, source));
                }
                self.end_if_over(key, batch).await
            }
            Done::Read(piece, Ok(content)) => {
                let Some(active) = self.active.get(&piece.key) else { return Ok(()) };
                let there = piece.chunk.offset + piece.chunk.len as u64 <= active.there;
                match active.file {
                    Some(file) if there => {
                        let request = Request::Check { file, chunk: piece.index, digest: content.1 };
                        let tag = self.client.ask(request).await?;
                        self.asked.insert(tag, Asked::Check(piece, content));
                        Ok(())
                    }
                    _ => self.write(piece, content).await,
                }
            }
            Done::Read(piece, Err(source)) => {
                let error = match self.active.get(&piece.key) {
                    Some(active) => local(active, source),
                    None => UNASKED,
                };
                self.over(piece, Err(error), batch).await
            }
            Done::Checked(key, result) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                if let Err(source) = result {
                    active.failed = Some(local(active, source));
                }
                let Some(file) = active.file else { return Ok(()) };
                let commits = active.failed.is_none();
                let request = if commits { Request::Commit { file } } else { Request::Close { file } };
                let tag = self.client.ask(request).await?;
                self.asked.insert(tag, if commits { Asked::Commit(key) } else { Asked::Close(key) });
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

    /// Ends a file of which all is there, or that has failed, when nothing of it is under way.
    async fn end_if_over(&mut self, key: Key, batch: &mut Batch) -> Result<(), FilesError> {
        let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
        let whole = active.file.is_some() && active.next == active.count;
        if active.flying > 0 || !(whole || active.failed.is_some()) {
            return Ok(());
        }
        match (active.file, active.source.clone()) {
            (Some(_), _) if active.ending => {}
            (Some(_), Some(source)) if active.failed.is_none() => {
                active.ending = true;
                self.jobs.spawn_blocking(move || Done::Checked(key, source.check()));
            }
            (Some(file), _) => {
                active.ending = true;
                let tag = self.client.ask(Request::Close { file }).await?;
                self.asked.insert(tag, Asked::Close(key));
            }
            (None, _) => self.report(key, batch),
        }
        Ok(())
    }

    fn report(&mut self, key: Key, batch: &mut Batch) {
        let Some(Active { transfer, source, resumed, failed, .. }) = self.active.remove(&key) else { return };
        let size = source.map_or(0, |source| source.size());
        let outcome = Outcome { transfer, size, resumed, result: failed.map_or(Ok(()), Err) };
        self.observer.done(&outcome);
        batch.outcomes.push(outcome);
    }
}

fn local(active: &Active, source: Refusal) -> FilesError {
    FilesError::Local { path: active.transfer.from.clone(), source }
}

/// Opens a file, and reads all of it if it is no longer than a chunk of `whole` bytes.
fn open(root: &Root, path: &FilePath, whole: u32) -> Result<(Source, Option<Content>), Refusal> {
    let source = root.source(path)?;
    let content = match Chunk::only(source.size(), whole) {
        Some(chunk) => {
            let content = source.read(chunk)?;
            source.check()?;
            Some(content)
        }
        None => None,
    };
    Ok((source, content))
}
