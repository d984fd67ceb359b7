//! Putting files: chunks are written into windows, one-sided, and the server takes them from there.

use super::batch::{Batch, Observer, Outcome, Transfer};
use super::connection::{ANSWER_LIMIT, BUSY_PAUSE, BUSY_TRIES, FilesClient, UNASKED, is_busy, wire};
use super::pace::Pace;
use super::piece::{Key, Piece};
use crate::chunk::{Chunk, Digest, PAGE};
use crate::error::FilesError;
use crate::message::{Answer, FileId, Request, Tag};
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
    Check(Piece, Vec<u8>, Digest),
    Write(Piece),
    Commit(Key),
    Close(Key),
}

/// What a thread that may wait for a disk has done.
enum Done {
    /// It is time to ask for a file again.
    Again(Key),
    Opened(Key, Result<Source, Refusal>),
    Read(Piece, Result<(Vec<u8>, Digest), Refusal>),
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
            self.jobs.spawn_blocking(move || Done::Opened(key, root.source(&path)));
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

    /// Writes a chunk into its window, and tells the server.
    async fn write(&mut self, piece: Piece, mut bytes: Vec<u8>, digest: Digest) -> Result<(), FilesError> {
        let Some(file) = self.active.get(&piece.key).and_then(|active| active.file) else { return Ok(()) };
        if self.client.writes_pages() {
            // Of a part of a page the rest would be read before. A window is a multiple of pages.
            bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
        }
        let at = self.client.window(piece.window);
        self.client.session.post_write(at, &bytes).await?;
        let request = Request::Write { file, chunk: piece.index, window: piece.window, digest };
        let tag = self.client.ask(request).await?;
        self.asked.insert(tag, Asked::Write(piece));
        Ok(())
    }

    async fn answered(&mut self, tag: Tag, answer: Answer, batch: &mut Batch) -> Result<(), FilesError> {
        match (self.asked.remove(&tag).ok_or(UNASKED)?, answer) {
            (Asked::Create(key), Answer::Created { file, there }) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.file = Some(file);
                active.there = there;
                self.end_if_over(key, batch).await
            }
            (Asked::Create(key), Answer::Refused(refusal)) if is_busy(&refusal) && self.may_try(key) => {
                self.jobs.spawn(async move {
                    tokio::time::sleep(BUSY_PAUSE).await;
                    Done::Again(key)
                });
                Ok(())
            }
            (Asked::Create(key) | Asked::Commit(key) | Asked::Close(key), Answer::Refused(source)) => {
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
            (Asked::Check(piece, bytes, digest), Answer::Differs) => self.write(piece, bytes, digest).await,
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

    async fn done(&mut self, done: Done, batch: &mut Batch) -> Result<(), FilesError> {
        match done {
            Done::Again(key) => self.create(key).await,
            Done::Opened(key, Ok(source)) => {
                let Some(active) = self.active.get_mut(&key) else { return Ok(()) };
                active.count = Chunk::count(source.size(), self.client.terms.chunk);
                self.observer.begun(&active.transfer.from, source.size());
                active.source = Some(Arc::new(source));
                self.create(key).await
            }
            Done::Opened(key, Err(source)) => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.failed = Some(local(active, source));
                }
                self.end_if_over(key, batch).await
            }
            Done::Read(piece, Ok((bytes, digest))) => {
                let Some(active) = self.active.get(&piece.key) else { return Ok(()) };
                let there = piece.chunk.offset + piece.chunk.len as u64 <= active.there;
                match active.file {
                    Some(file) if there => {
                        let tag =
                            self.client.ask(Request::Check { file, chunk: piece.index, digest }).await?;
                        self.asked.insert(tag, Asked::Check(piece, bytes, digest));
                        Ok(())
                    }
                    _ => self.write(piece, bytes, digest).await,
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

    fn may_try(&mut self, key: Key) -> bool {
        let Some(active) = self.active.get_mut(&key) else { return false };
        active.tries += 1;
        active.tries <= BUSY_TRIES
    }
}

fn local(active: &Active, source: Refusal) -> FilesError {
    FilesError::Local { path: active.transfer.from.clone(), source }
}
