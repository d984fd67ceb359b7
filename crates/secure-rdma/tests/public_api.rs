//! What is public, listed in `public-api.txt`: whoever changes it sees it, and so does whoever reviews the change.
//!
//! It is read off the source, signature by signature, by file: cargo-public-api says more, but needs a nightly rustdoc,
//! whose format changes with each version. To write the list anew: `PUBLIC_API=write cargo test -p secure-rdma --test
//! public_api`.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The public items of a file, each in one line: what others can name, with all that its signature says.
fn items(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Inside a public enum, whose variants and their fields are public too.
    let mut variants = false;
    let mut lines = source.lines().take_while(|line| *line != "#[cfg(test)]");
    while let Some(line) = lines.next() {
        let text = line.trim();
        if text.starts_with("#[") && !text.ends_with(']') {
            // An attribute of several lines: what an error says.
            lines.by_ref().find(|line| line.trim().ends_with(")]"));
            continue;
        }
        if line == "}" {
            variants = false;
        }
        let is_item = text.starts_with("pub ");
        let is_part = variants && !text.is_empty() && !text.starts_with(['/', '#', '}', ')']);
        let is_impl = line.starts_with("impl") && !line.contains(" fmt::");
        if !(is_item || is_part || is_impl) {
            continue;
        }
        let mut item = text.to_owned();
        // To the end of the signature.
        while !item.ends_with(['{', ';', ',', '}']) && (is_item || is_impl)
            || (item.ends_with(',')
                && item.contains('(')
                && item.matches('(').count() > item.matches(')').count())
        {
            let Some(next) = lines.next() else { break };
            write!(item, " {}", next.trim()).unwrap();
        }
        variants |= is_item && item.starts_with("pub enum") && item.ends_with('{');
        found.push(item.trim_end_matches(['{', ',', ';', ' ']).to_owned());
    }
    found
}

#[test]
fn what_is_public_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    sources(&root.join("src"), &mut paths);
    paths.sort();
    let mut list = String::new();
    for path in paths {
        let items = items(&fs::read_to_string(&path).unwrap());
        if items.iter().any(|item| item.starts_with("pub ")) {
            writeln!(list, "{}", path.strip_prefix(root).unwrap().display()).unwrap();
            items.iter().for_each(|item| writeln!(list, "    {item}").unwrap());
        }
    }
    let file = root.join("public-api.txt");
    if std::env::var("PUBLIC_API").is_ok_and(|value| value == "write") {
        fs::write(&file, &list).unwrap();
    }
    let listed = fs::read_to_string(&file).unwrap();
    let gone: Vec<_> = listed.lines().filter(|line| !list.lines().any(|other| other == *line)).collect();
    let new: Vec<_> = list.lines().filter(|line| !listed.lines().any(|other| other == *line)).collect();
    assert!(
        listed == list,
        "public-api.txt isn't what is public; gone: {gone:#?}; new: {new:#?}; if it should be so: PUBLIC_API=write \
         cargo test -p secure-rdma --test public_api"
    );
}
