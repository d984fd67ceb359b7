//! What client and server say to each other, in messages of a session: a client asks, the server answers, in any order.
//!
//! CBOR, in arrays. The peer's bytes are bounded before they are read, and what is read is no larger than they are.

use crate::chunk::Digest;
use crate::listing::Entry;
use crate::refusal::Refusal;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// The version of these messages.
pub const VERSION: u16 = 2;

/// What a client's first message begins with: nobody types it.
const GREETING: &[u8; 18] = b"\0secure-rdma-files";

/// Bytes of the longest request: a path, and numbers.
pub const MAX_REQUEST: usize = 8 << 10;

/// Bytes of the longest page of a listing: a name may take 255 of them, so that there is room for one in any.
pub(crate) const MAX_PAGE: usize = 32 << 10;

/// The names on a page, at most.
pub(crate) const MAX_ENTRIES: usize = 512;

/// Bytes that a message may have beside a chunk.
pub(crate) const OVERHEAD: u32 = 1 << 10;

/// The number of a request, which its answer has too; the client's choice.
pub type Tag = u32;

/// A file that the server has open; its choice.
pub type FileId = u32;

/// Bytes that aren't a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message isn't one of the protocol for files")]
pub struct Malformed;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// First of all.
    #[n(0)]
    Hello {
        /// [`VERSION`], the client's.
        #[n(0)]
        version: u16,
    },
    /// What is at `path`.
    #[n(1)]
    Stat {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
    },
    /// What is in the folder `path`, the first page of it. An earlier listing ends.
    #[n(2)]
    List {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
    },
    /// The next page.
    #[n(3)]
    More,
    /// A file to be read. One that is no longer than a chunk comes at once, and isn't open then.
    #[n(4)]
    Open {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
        /// The window for a file that comes at once; without it none does.
        #[n(1)]
        window: Option<u16>,
    },
    /// A chunk of it, into a window of the client's region if it isn't what the client has.
    #[n(5)]
    Read {
        /// The file.
        #[n(0)]
        file: FileId,
        /// Which chunk.
        #[n(1)]
        chunk: u64,
        /// Which window.
        #[n(2)]
        window: u16,
        /// The hash of what the client has.
        #[n(3)]
        known: Option<Digest>,
    },
    /// A file isn't needed any more. That it was read as a whole is only so if this is answered well.
    #[n(6)]
    Close {
        /// The file.
        #[n(0)]
        file: FileId,
    },
    /// A file to be written.
    #[n(7)]
    Create {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
        /// Bytes of it.
        #[n(1)]
        size: u64,
        /// Whether it is a program.
        #[n(2)]
        executable: bool,
    },
    /// Whether the server has a chunk already.
    #[n(8)]
    Check {
        /// The file.
        #[n(0)]
        file: FileId,
        /// Which chunk.
        #[n(1)]
        chunk: u64,
        /// The hash of what the client has.
        #[n(2)]
        digest: Digest,
    },
    /// A chunk is in a window of the client's region.
    #[n(9)]
    Write {
        /// The file.
        #[n(0)]
        file: FileId,
        /// Which chunk.
        #[n(1)]
        chunk: u64,
        /// Which window.
        #[n(2)]
        window: u16,
        /// Its hash.
        #[n(3)]
        digest: Digest,
    },
    /// A file that was written is whole.
    #[n(10)]
    Commit {
        /// The file.
        #[n(0)]
        file: FileId,
    },
    /// A folder to be made, if it isn't there.
    #[n(11)]
    MakeDirectory {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
    },
    /// A file that is no longer than a chunk, all of which is in a window of the client's region.
    #[n(12)]
    Store {
        /// The path, to be checked.
        #[n(0)]
        path: ByteVec,
        /// Bytes of it.
        #[n(1)]
        size: u64,
        /// Whether it is a program.
        #[n(2)]
        executable: bool,
        /// Which window.
        #[n(3)]
        window: u16,
        /// Its hash.
        #[n(4)]
        digest: Digest,
    },
}

/// What a server says to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Hello`.
    #[n(0)]
    Welcome(#[n(0)] Terms),
    /// To `Stat`.
    #[n(1)]
    Entry(#[n(0)] Entry),
    /// To `List` and `More`.
    #[n(2)]
    Entries {
        /// Some of them.
        #[n(0)]
        entries: Vec<Entry>,
        /// Whether there may be more.
        #[n(1)]
        more: bool,
    },
    /// To `Open`.
    #[n(3)]
    Opened {
        /// What it is called from now on.
        #[n(0)]
        file: FileId,
        /// Bytes of it.
        #[n(1)]
        size: u64,
        /// Whether it is a program.
        #[n(2)]
        executable: bool,
    },
    /// To `Read`: the chunk is in the window, or here.
    #[n(4)]
    Chunk {
        /// Its hash.
        #[n(0)]
        digest: Digest,
        /// The chunk, where regions can't be written by the server.
        #[n(1)]
        bytes: Option<ByteVec>,
    },
    /// To `Read` and `Check`: the client has it, or the server.
    #[n(5)]
    Same,
    /// To `Check`: the server hasn't.
    #[n(6)]
    Differs,
    /// To `Create`.
    #[n(7)]
    Created {
        /// What it is called from now on.
        #[n(0)]
        file: FileId,
        /// Bytes that are there already, whatever they are.
        #[n(1)]
        there: u64,
    },
    /// To `Close`, `Write`, `Commit`, `MakeDirectory` and `Store`.
    #[n(8)]
    Done,
    /// To any.
    #[n(9)]
    Refused(#[n(0)] Refusal),
    /// To `Open` with a window: the whole file is in it, or here, and it was as it is while it was read.
    #[n(10)]
    Whole {
        /// Bytes of it, as many as a chunk has at most, and not none.
        #[n(0)]
        size: u64,
        /// Whether it is a program.
        #[n(1)]
        executable: bool,
        /// Its hash.
        #[n(2)]
        digest: Digest,
        /// The file, where regions can't be written by the server.
        #[n(3)]
        bytes: Option<ByteVec>,
    },
}

/// What a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// [`VERSION`], the server's.
    #[n(0)]
    pub version: u16,
    /// Bytes of a chunk, and of a window.
    #[n(1)]
    pub chunk: u32,
    /// Windows in the client's region, from its beginning on.
    #[n(2)]
    pub windows: u16,
    /// Files that may be open at a time.
    #[n(3)]
    pub files: u16,
    /// Whether files may be read by this client.
    #[n(4)]
    pub readable: bool,
    /// Whether files may be written by this client.
    #[n(5)]
    pub writable: bool,
}

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
struct Envelope<T> {
    #[n(0)]
    tag: Tag,
    #[n(1)]
    content: T,
}

/// Whether a session's first message is a client's of this protocol.
#[must_use]
pub fn is_greeting(message: &[u8]) -> bool {
    message.starts_with(GREETING)
}

/// Encodes a client's first message.
#[must_use]
pub fn encode_greeting(tag: Tag) -> Vec<u8> {
    [&GREETING[..], &encode_request(tag, Request::Hello { version: VERSION })].concat()
}

/// Decodes a client's first message.
///
/// # Errors
/// It isn't one.
pub fn decode_greeting(message: &[u8]) -> Result<(Tag, Request), Malformed> {
    decode_request(message.strip_prefix(GREETING).ok_or(Malformed)?)
}

/// Encodes a request.
#[must_use]
pub fn encode_request(tag: Tag, request: Request) -> Vec<u8> {
    encode(tag, request)
}

/// Decodes a request of at most [`MAX_REQUEST`] bytes.
///
/// # Errors
/// It isn't one.
pub fn decode_request(message: &[u8]) -> Result<(Tag, Request), Malformed> {
    if message.len() > MAX_REQUEST {
        return Err(Malformed);
    }
    decode(message)
}

/// Encodes an answer.
#[must_use]
pub fn encode_answer(tag: Tag, answer: Answer) -> Vec<u8> {
    encode(tag, answer)
}

/// Decodes an answer. What bounds it is the longest message that the session takes.
///
/// # Errors
/// It isn't one.
pub fn decode_answer(message: &[u8]) -> Result<(Tag, Answer), Malformed> {
    decode(message)
}

fn encode<T: Encode<()>>(tag: Tag, content: T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Into memory nothing fails.
    let _ = minicbor::encode(Envelope { tag, content }, &mut bytes);
    bytes
}

fn decode<'b, T: Decode<'b, ()>>(message: &'b [u8]) -> Result<(Tag, T), Malformed> {
    let mut decoder = minicbor::Decoder::new(message);
    let Envelope { tag, content } = decoder.decode().map_err(|_| Malformed)?;
    if decoder.position() != message.len() {
        return Err(Malformed);
    }
    Ok((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::MAX_PATH;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let digest = [7; 32].into();
        let requests = [
            Request::Open { path: vec![b'a'; MAX_PATH].into(), window: Some(u16::MAX) },
            Request::Open { path: b"x".to_vec().into(), window: None },
            Request::Read { file: 1, chunk: u64::MAX, window: 3, known: Some(digest) },
            Request::Read { file: 1, chunk: 2, window: 3, known: None },
            Request::Create { path: b"x".to_vec().into(), size: 5, executable: true },
            Request::Store {
                path: vec![b'a'; MAX_PATH].into(),
                size: 5,
                executable: true,
                window: 3,
                digest,
            },
            Request::More,
        ];
        for request in requests {
            let bytes = encode_request(9, request.clone());
            assert!(bytes.len() <= MAX_REQUEST);
            assert_eq!(decode_request(&bytes), Ok((9, request)));
        }
        assert_eq!(decode_greeting(&encode_greeting(4)), Ok((4, Request::Hello { version: VERSION })));
        assert!(is_greeting(&encode_greeting(0)) && !is_greeting(b"hello"));
    }

    #[test]
    fn what_is_too_long_or_has_something_behind_it_is_no_message() {
        let mut bytes = encode_request(1, Request::More);
        bytes.push(0);
        assert_eq!(decode_request(&bytes), Err(Malformed));
        let long = encode_request(1, Request::Stat { path: vec![0; MAX_REQUEST].into() });
        assert_eq!(decode_request(&long), Err(Malformed));
        assert_eq!(decode_request(&[]), Err(Malformed));
        // A list of 2^60 entries that aren't there.
        let answer = [0x82, 0x01, 0x82, 0x02, 0x82, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode_answer(&answer), Err(Malformed));
    }
}
