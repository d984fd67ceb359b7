//! The built library exports what `symbols.txt` says, each symbol at its version node.
#![allow(unsafe_code, reason = "the loader's functions")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::ffi::CString;
use std::path::PathBuf;

/// Where cargo puts the library: beside the tests.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().join("libibverbs_rocev2.so")
}

fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../symbols.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    })
}

#[test]
fn each_symbol_is_there_at_its_node() {
    let path = CString::new(library().into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: loading it runs nothing but what Rust's standard library needs.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?} can't be loaded");
    let mut count = 0;
    for (node, name) in listed() {
        let (c_node, c_name) = (CString::new(node).unwrap(), CString::new(name).unwrap());
        // SAFETY: the handle is that of a library that is never unloaded.
        let found = unsafe { libc::dlvsym(handle, c_name.as_ptr(), c_node.as_ptr()) };
        assert!(!found.is_null(), "{name}@{node} is missing");
        count += 1;
    }
    assert!(count > 140, "only {count} symbols are listed");
    let wrong = c"IBVERBS_1.5";
    // SAFETY: as above.
    let found = unsafe { libc::dlvsym(handle, c"ibv_open_device".as_ptr(), wrong.as_ptr()) };
    assert!(found.is_null(), "the version nodes mean nothing");
}

/// What no program could do without: Debian 12's own need these (66 of them, librdmacm's included).
#[test]
fn what_programs_need_is_done_or_refused_in_order() {
    let stubs: Vec<&str> = include_str!("../symbols.txt")
        .lines()
        .filter(|line| {
            !line.starts_with('#') && line.contains(" stub:") && !line.starts_with("IBVERBS_PRIVATE_")
        })
        .collect();
    assert_eq!(stubs, ["IBVERBS_1.1 ibv_register_driver stub:void"], "only providers may meet stubs");
}
