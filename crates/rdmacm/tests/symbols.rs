//! The built library exports what `symbols.txt` says, each symbol at its version node.
#![allow(unsafe_code, reason = "the loader's functions")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::ffi::CString;
use std::path::PathBuf;

/// Where cargo puts the library: beside the tests.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("librdmacm_rocev2.so")
}

fn listed() -> impl Iterator<Item = [&'static str; 3]> {
    let lines = include_str!("../symbols.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.try_into().unwrap()
    })
}

#[test]
fn each_symbol_is_there_at_its_node() {
    let path = CString::new(library().into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: loading it runs nothing but what Rust's standard library needs.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?} can't be loaded");
    for [node, name, _] in listed() {
        let (c_node, c_name) = (CString::new(node).unwrap(), CString::new(name).unwrap());
        // SAFETY: the handle is that of a library that is never unloaded.
        let found = unsafe { libc::dlvsym(handle, c_name.as_ptr(), c_node.as_ptr()) };
        assert!(!found.is_null(), "{name}@{node} is missing");
    }
    // SAFETY: as above.
    let found = unsafe { libc::dlvsym(handle, c"rdma_connect".as_ptr(), c"RDMACM_1.3".as_ptr()) };
    assert!(found.is_null(), "the version nodes mean nothing");
}

/// Debian 12's librdmacm has these 68.
#[test]
fn what_programs_need_is_done() {
    assert_eq!(listed().count(), 68);
    for [_, name, state] in listed() {
        assert_eq!(state, "done", "{name}");
    }
}
