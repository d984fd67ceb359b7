//! What the engine must not use: then whole devices run in virtual time, and the same way each time.

#![allow(clippy::unwrap_used, reason = "a panic is what a test fails by")]

use std::fs;
use std::path::Path;

/// Each with an example of how it would be used.
const FOREIGN: [(&str, &str); 16] = [
    ("std::thread", "std::thread::sleep(BUSY);"),
    ("thread::spawn", "thread::spawn(move || run())"),
    ("Instant", "let now = Instant::now();"),
    ("SystemTime", "use std::time::SystemTime;"),
    ("std::time", "use std::time::Duration;"),
    ("getrandom", "getrandom::fill(&mut bytes)?;"),
    ("rustix", "use rustix::event::epoll;"),
    ("libc", "libc::EAGAIN"),
    ("socket2", "socket2::Socket::new(domain, Type::DGRAM, None)"),
    ("quinn_udp", "use quinn_udp::UdpSocketState;"),
    ("UdpSocket", "use std::net::UdpSocket;"),
    ("std::os", "use std::os::fd::OwnedFd;"),
    ("std::fs", "std::fs::read(path)"),
    ("link::udp", "use crate::link::udp::Socket;"),
    ("crate::host", "use crate::host::Os;"),
    ("crate::api", "use crate::api::Device;"),
];

/// What code uses of it, but for comments and tests.
fn foreign(code: &str) -> Vec<&'static str> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let used = FOREIGN.into_iter().map(|(name, _)| name);
    used.filter(|name| lines.iter().any(|line| line.contains(name))).collect()
}

fn visit(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, each);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("models.rs")
        {
            each(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_engine_has_no_socket_thread_clock_or_randomness_of_its_own() {
    let mut files = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    visit(&folder, &mut |path, code| {
        files += 1;
        assert!(foreign(code).is_empty(), "{} uses {:?}", path.display(), foreign(code));
    });
    assert!(files > 10, "{files} files in {}", folder.display());
}

#[test]
fn memory_draws_its_keys_from_the_host_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/memory");
    visit(&folder, &mut |path, code| {
        assert!(!foreign(code).contains(&"getrandom"), "{} has randomness of its own", path.display());
    });
}

#[test]
fn each_of_them_would_be_found() {
    for (name, example) in FOREIGN {
        assert!(foreign(&format!("fn it() {{\n    {example}\n}}\n")).contains(&name), "{example}");
        assert!(foreign(&format!("// {example}\n")).is_empty());
        assert!(foreign(&format!("#[cfg(test)]\nmod tests {{ {example} }}\n")).is_empty());
    }
    assert!(foreign("use core::time::Duration;\nuse std::net::{IpAddr, SocketAddr};").is_empty());
}
