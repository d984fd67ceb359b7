//! A session that moves files: requests and answers one by one.

use crate::chunk::{MAX_CHUNK, PAGE};
use crate::error::FilesError;
use crate::listing::Entry;
use crate::message::{
    Answer, Request, Tag, Terms, VERSION, decode_answer, encode_greeting, encode_request, is_greeting,
};
use crate::path::{FilePath, shown};
use crate::refusal::{Refusal, RefusalCode};
use secure_rdma::{Buffers, SealedBy, Session, SessionInfo};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long an answer may take: the server's disks may be slow, and others may be before this client.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Files under way at a time: small ones take their round trips beside each other.
const FILES: u16 = 8;

/// How long to wait before a file that somebody else moves is asked for again, and how often. A server notices a client
/// whose connection was cut within 15 s, by its heartbeat.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(250);
pub(super) const BUSY_TRIES: u32 = 120;

/// A session that moves files.
#[derive(Debug)]
pub struct FilesClient {
    pub(super) session: Session,
    pub(super) terms: Terms,
    next_tag: Tag,
    /// When the server has said something last, or was asked while it owed nothing.
    pub(super) heard: Instant,
}

impl FilesClient {
    /// Buffers for a session that moves files: a chunk takes one request.
    pub const BUFFERS: Buffers = Buffers { one_sided: MAX_CHUNK, ..Buffers::DEFAULT };

    /// Asks the server of `session` for its files.
    ///
    /// # Errors
    /// It offers none, not to this client, or speaks another version.
    pub async fn open(mut session: Session) -> Result<Self, FilesError> {
        session.send(&encode_greeting(0)).await?;
        let message = timeout(ANSWER_LIMIT, session.recv()).await;
        let message = message.map_err(|_| FilesError::TimedOut(ANSWER_LIMIT))??;
        let message = message.ok_or(FilesError::Protocol("it leaves instead of answering"))?;
        let answer = match is_greeting(&message) {
            // A server that knows nothing of files sends back what it gets.
            true => Answer::Refused(Refusal::not_offered()),
            false => decode_answer(&message)?.1,
        };
        match answer {
            Answer::Welcome(terms) => {
                check(&terms, &session)?;
                Ok(Self { session, terms, next_tag: 1, heard: Instant::now() })
            }
            Answer::Refused(refusal) => {
                // The refusal says more than how leaving went.
                let _ = session.close().await;
                Err(FilesError::NotServed(refusal))
            }
            _ => Err(FilesError::Protocol("its first answer is to something else")),
        }
    }

    /// What is known of the session.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        self.session.info()
    }

    /// Whether files may be put there.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.terms.writable
    }

    /// What is at `path` there.
    ///
    /// # Errors
    /// Nothing is, or the session is over.
    pub async fn stat(&mut self, path: &FilePath) -> Result<Entry, FilesError> {
        match self.call(path, Request::Stat { path: wire(path) }).await? {
            Answer::Entry(entry) => Ok(entry),
            _ => Err(UNASKED),
        }
    }

    /// What is in the folder `path` there, page by page, in the server's order: `take` gets the pages. Each name is
    /// one that a file here may have.
    ///
    /// # Errors
    /// It isn't a folder, `take` has had enough, or the session is over.
    pub async fn list(
        &mut self,
        path: &FilePath,
        mut take: impl FnMut(Vec<Entry>) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let mut answer = self.call(path, Request::List { path: wire(path) }).await?;
        loop {
            let Answer::Entries { entries, more } = answer else { return Err(UNASKED) };
            if more && entries.is_empty() {
                return Err(FilesError::Protocol("a page of a listing is empty, and not the last"));
            }
            for entry in &entries {
                // With what a peer calls a file nothing is done here before it is known to be one name.
                FilePath::root()
                    .join(entry.name())
                    .map_err(|source| FilesError::Name { name: shown(entry.name()), source })?;
            }
            take(entries)?;
            if !more {
                return Ok(());
            }
            answer = self.call(path, Request::More).await?;
        }
    }

    /// Has a folder at `path` there; the one that it is in has to be there.
    ///
    /// # Errors
    /// It can't be made, or the session is over.
    pub async fn make_directory(&mut self, path: &FilePath) -> Result<(), FilesError> {
        match self.call(path, Request::MakeDirectory { path: wire(path) }).await? {
            Answer::Done => Ok(()),
            _ => Err(UNASKED),
        }
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The server didn't take part.
    pub async fn close(self) -> Result<(), FilesError> {
        Ok(self.session.close().await?)
    }

    /// Asks, and waits for the answer; nothing else is under way.
    async fn call(&mut self, path: &FilePath, request: Request) -> Result<Answer, FilesError> {
        let asked = self.ask(request).await?;
        self.heard = Instant::now();
        let message = timeout(ANSWER_LIMIT, self.session.recv()).await;
        let message = message.map_err(|_| FilesError::TimedOut(ANSWER_LIMIT))??;
        let (tag, answer) = self.read(message)?;
        match answer {
            _ if tag != asked => Err(UNASKED),
            Answer::Refused(source) => Err(FilesError::Refused { path: path.clone(), source }),
            answer => Ok(answer),
        }
    }

    pub(super) async fn ask(&mut self, request: Request) -> Result<Tag, FilesError> {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        self.session.post_send(&encode_request(tag, request)).await?;
        Ok(tag)
    }

    pub(super) fn read(&mut self, message: Option<Vec<u8>>) -> Result<(Tag, Answer), FilesError> {
        self.heard = Instant::now();
        let message = message.ok_or(FilesError::Session(secure_rdma::SessionError::Closed))?;
        Ok(decode_answer(&message)?)
    }

    /// Where a window begins in the region.
    pub(super) fn window(&self, window: u16) -> u64 {
        u64::from(window) * u64::from(self.terms.chunk)
    }

    /// Files under way at a time.
    pub(super) fn files(&self) -> usize {
        self.terms.files.min(FILES).into()
    }

    /// Whether whole pages have to be written.
    pub(super) fn writes_pages(&self) -> bool {
        self.session.info().sealed == SealedBy::Messages
    }
}

/// The server has answered what it wasn't asked.
pub(super) const UNASKED: FilesError = FilesError::Protocol("it answers what it wasn't asked");

/// That what a server offers makes sense.
fn check(terms: &Terms, session: &Session) -> Result<(), FilesError> {
    let Terms { version, chunk, windows, files, .. } = *terms;
    if version != VERSION {
        let text = format!("it speaks version {version} of the protocol for files, this client {VERSION}");
        return Err(FilesError::NotServed(Refusal::new(RefusalCode::Version, &text)));
    }
    let fits = u64::from(chunk) * u64::from(windows) <= session.data_len();
    let sizes = (PAGE..=MAX_CHUNK).contains(&chunk) && chunk % PAGE == 0 && windows > 0 && files > 0;
    if fits && sizes { Ok(()) } else { Err(FilesError::Protocol("its terms make no sense")) }
}

pub(super) fn wire(path: &FilePath) -> minicbor::bytes::ByteVec {
    path.as_bytes().to_vec().into()
}

/// Whether a file that was refused so is to be asked for again.
pub(super) fn is_busy(refusal: &Refusal) -> bool {
    matches!(refusal.code(), RefusalCode::Busy | RefusalCode::TooMany)
}
