//! Why a file can't be had, at either side.

use minicbor::{Decode, Encode};
use rustix::io::Errno;
use secure_rdma::control::Text;
use std::fmt;
use std::io;

/// Characters of the longest explanation that is sent.
const MAX_TEXT: usize = 256;

/// What kind of reason there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum RefusalCode {
    /// No file can have that name, or it leads out of the directory.
    #[n(0)]
    Name,
    /// There is no such file.
    #[n(1)]
    NotFound,
    /// A folder, where a file is needed.
    #[n(2)]
    IsDirectory,
    /// No folder, where one is needed.
    #[n(3)]
    NotADirectory,
    /// A symbolic link, here or on the way: none is followed.
    #[n(4)]
    Link,
    /// Neither a file nor a folder: a FIFO, a socket or a device.
    #[n(5)]
    Special,
    /// The system doesn't let this process.
    #[n(6)]
    Denied,
    /// The server doesn't let this client: its list of allowed clients.
    #[n(7)]
    NotAllowed,
    /// The server takes no files.
    #[n(8)]
    ReadOnly,
    /// Another transfer of the same file is under way.
    #[n(9)]
    Busy,
    /// Larger than the server takes.
    #[n(10)]
    TooLarge,
    /// The disk is full.
    #[n(11)]
    NoSpace,
    /// The file was changed while it was read.
    #[n(12)]
    Changed,
    /// What has come isn't what its hash is of.
    #[n(13)]
    Damaged,
    /// More files at a time than the server has open for a client.
    #[n(14)]
    TooMany,
    /// What was asked for makes no sense.
    #[n(15)]
    BadRequest,
    /// The two sides speak different versions of the protocol.
    #[n(16)]
    Version,
    /// The memory that this client has on the server is too small.
    #[n(17)]
    NoRegion,
    /// The server offers no files.
    #[n(18)]
    NotOffered,
    /// Something else that the system says.
    #[n(19)]
    System,
}

/// Why a file can't be had: what kind of reason it is, and words for people.
#[derive(Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    #[n(0)]
    code: RefusalCode,
    #[n(1)]
    text: Text<MAX_TEXT>,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, text: &str) -> Self {
        Self { code, text: Text::lossy(text) }
    }

    /// That a server has no files.
    pub(crate) fn not_offered() -> Self {
        Self::new(RefusalCode::NotOffered, "it offers no files: start it with --files DIR")
    }

    /// That two files of a batch are to have one name.
    #[must_use]
    pub fn twice() -> Self {
        Self::new(RefusalCode::Name, "two of the files are to have this name: move them one by one")
    }

    /// What kind of reason it is.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        self.code
    }

    /// What the system says about `what` was tried.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        let code = error.raw_os_error().map(Errno::from_raw_os_error).map_or(RefusalCode::System, code_of);
        let text = match code {
            RefusalCode::NotFound => "there is no such file".to_owned(),
            RefusalCode::Link => "it is a symbolic link, or behind one, and none is followed".to_owned(),
            RefusalCode::Denied => format!("{what}: the file's permissions don't allow it"),
            RefusalCode::NoSpace => {
                format!("{what}: no space is left; what has come is kept for a resumption")
            }
            _ => format!("{what}: {error}"),
        };
        Self::new(code, &text)
    }

    pub(crate) fn errno(what: &str) -> impl Fn(Errno) -> Self + '_ {
        move |error| Self::system(what, &error.into())
    }

    pub(crate) fn io(what: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::system(what, &error)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.text)
    }
}

fn code_of(error: Errno) -> RefusalCode {
    match error {
        Errno::NOENT => RefusalCode::NotFound,
        Errno::NOTDIR => RefusalCode::NotADirectory,
        Errno::ISDIR => RefusalCode::IsDirectory,
        Errno::LOOP => RefusalCode::Link,
        // Resolution left the directory, by a mount or a race with somebody who moves folders.
        Errno::XDEV => RefusalCode::Name,
        Errno::NXIO => RefusalCode::Special,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => RefusalCode::Denied,
        Errno::NOSPC | Errno::DQUOT => RefusalCode::NoSpace,
        Errno::FBIG => RefusalCode::TooLarge,
        Errno::NAMETOOLONG => RefusalCode::Name,
        _ => RefusalCode::System,
    }
}
