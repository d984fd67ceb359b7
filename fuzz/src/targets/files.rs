//! Messages of the protocol for files: what is read is written as what reads the same; and no path that is taken leads
//! out of its directory.

use secure_rdma_files::message::{
    Answer, MAX_REQUEST, Request, decode_answer, decode_greeting, decode_request, encode_answer,
    encode_greeting, encode_request,
};
use secure_rdma_files::{FilePath, MAX_PATH, shown};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

pub(super) fn run(bytes: &[u8]) {
    path(bytes);
    if let Ok((tag, request)) = decode_request(bytes) {
        assert!(bytes.len() <= MAX_REQUEST);
        match &request {
            Request::Stat { path: name }
            | Request::List { path: name }
            | Request::Open { path: name, .. }
            | Request::Create { path: name, .. }
            | Request::Store { path: name, .. }
            | Request::MakeDirectory { path: name } => path(name),
            _ => {}
        }
        let written = encode_request(tag, request.clone());
        assert_eq!(decode_request(&written), Ok((tag, request)));
        // The same behind a greeting.
        let hello = encode_greeting(tag);
        let greeting = &hello[..hello.len() - encode_request(tag, Request::Hello { version: 1 }).len()];
        assert_eq!(decode_greeting(&[greeting, bytes].concat()), decode_request(bytes));
    }
    if let Ok((tag, answer)) = decode_answer(bytes) {
        if let Answer::Refused(refusal) = &answer {
            assert!(
                refusal.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "a terminal would obey"
            );
        }
        if let Answer::Entries { entries, .. } = &answer {
            assert!(entries.len() <= bytes.len(), "each takes a byte at least");
        }
        assert_eq!(decode_answer(&encode_answer(tag, answer.clone())), Ok((tag, answer)));
    }
}

fn path(bytes: &[u8]) {
    let Ok(path) = FilePath::parse(bytes) else { return };
    assert!(bytes.len() <= MAX_PATH && !bytes.contains(&0));
    assert_eq!(path.as_bytes(), bytes);
    // By the rules of the system's own paths.
    let parts: Vec<_> = Path::new(OsStr::from_bytes(bytes)).components().collect();
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{path}");
    assert_eq!(path.is_root(), parts.is_empty());
    assert_eq!(path.ancestors().count(), parts.len());
    if let Some(name) = path.name() {
        assert_eq!(path.parent().join(name).as_ref(), Ok(&path));
        assert_eq!(path.strip(&path.parent()).map(|rest| rest.as_bytes().to_vec()), Some(name.to_vec()));
    }
    assert!(!shown(bytes).chars().any(char::is_control), "a terminal would obey");
}
