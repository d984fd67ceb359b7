//! Every input that is kept breaks nothing, and what would break is noticed.

use fuzz::{TARGETS, Target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_input_that_is_kept_breaks_nothing() {
    for target in TARGETS {
        let inputs = entries(&corpus().join(target.name));
        assert!(inputs.len() > 1, "{}: a corpus", target.name);
        for input in inputs {
            let bytes = std::fs::read(&input).expect("an input");
            // Where it panics, this is the last line.
            println!("cargo run -p fuzz -- {} {}", target.name, input.display());
            target.run(&bytes);
        }
    }
}

#[test]
fn there_is_a_corpus_for_each_target_and_none_without() {
    let names = |name: &Path| name.file_name().expect("a name").to_string_lossy().into_owned();
    let kept: BTreeSet<String> = entries(&corpus()).iter().map(|dir| names(dir)).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(kept, targets);
    assert_eq!(targets.len(), TARGETS.len(), "each has a name of its own");
}

/// A target that does as `try_out` says.
fn target(try_out: fn(&[u8])) -> Target {
    Target::new("a mistake", "what a mistake looks like", 1000, try_out)
}

#[test]
#[should_panic(expected = "bytes of memory at a time, allowed are 1256")]
fn memory_taken_by_a_peers_word_is_noticed() {
    let announced = |bytes: &[u8]| {
        let [length, ..] = bytes else { return };
        std::hint::black_box(Vec::<u8>::with_capacity(usize::from(*length) << 20));
    };
    target(announced).run(&[0, 0, 0, 0]);
    target(announced).run(&[200, 0, 0, 0]);
}

#[test]
#[should_panic(expected = "bytes of memory are left behind each time")]
fn memory_left_behind_is_noticed() {
    target(|bytes| std::mem::forget(std::hint::black_box(bytes.to_vec()))).run(&[0, 0, 0, 0]);
}

#[test]
fn memory_that_is_made_once_and_kept_is_no_leak() {
    static TABLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    target(|_| assert_eq!(TABLE.get_or_init(|| vec![1; 100]).len(), 100)).run(&[]);
    assert!(TABLE.get().is_some());
}
