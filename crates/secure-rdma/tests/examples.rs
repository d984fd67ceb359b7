//! The examples, run as a user would: each in an empty directory. `cargo test` builds them first; this file alone
//! takes those that are there (`cargo build -p secure-rdma --examples`).
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// An empty home, which is the working directory too.
fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn example(name: &str, home: &Path) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples").join(name);
    assert!(path.exists(), "{} isn't built: cargo build -p secure-rdma --examples", path.display());
    let mut command = Command::new(path);
    command.current_dir(home).env("HOME", home).env_remove("XDG_STATE_HOME");
    command
}

/// What an example says that succeeds.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(name: &str) -> String {
    said(&mut example(name, home().path()))
}

#[test]
fn the_readmes_example_is_the_one_that_is_run() {
    assert_eq!(run("hello"), "Some(Ok(\"look there\"))\nOk(\"hello\")\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("../../README.md")).unwrap();
    let source = std::fs::read_to_string(root.join("examples/hello.rs")).unwrap();
    let (_, source) = source.split_once("\n\n").unwrap();
    assert!(readme.contains(&format!("```rust\n{source}```\n")), "README.md doesn't show examples/hello.rs");
}

#[test]
fn one_sided() {
    let said = run("one_sided");
    let expected = "a region of 1048576 bytes and 8 counters\nOk(\"one\")\n0 1 2 3 4 5 6 7 \n5\n10\n7\n";
    assert_eq!(said, expected);
}

#[test]
fn many_clients() {
    let said = run("many_clients");
    let mut expected: Vec<_> = (0..16).map(|n| format!("dns:worker-{n}.example wrote {n}")).collect();
    expected.sort();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn custom_certificates() {
    let said = run("custom_certificates");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "writer.example: written");
    assert!(lines[1].starts_with("reader.example: the server doesn't allow this client"), "{said}");
    assert!(lines[2].contains("stranger.example: ") && lines[2].contains("not on the list"), "{said}");
}

#[test]
fn key_value() {
    assert_eq!(run("key_value"), "Some(\"another value\")\nSome(\"value 99\")\nNone\n");
}

#[test]
fn send_file() {
    let home = home();
    let bytes: Vec<u8> = (0..251_u8).cycle().take(3_000_001).collect();
    std::fs::write(home.path().join("file"), &bytes).unwrap();
    let said = said(example("send_file", home.path()).args(["file", "copy"]));
    assert_eq!(said, "3000001 bytes, verified\n");
    assert!(std::fs::read(home.path().join("copy")).unwrap() == bytes);
}

#[test]
fn grpc() {
    assert_eq!(run("grpc"), "storage: Serving\nnetwork: NotFound\n");
}

#[test]
fn http() {
    let expected: String = [0, 1, 3_000_000].map(|len| format!("{len} bytes for /upload\n")).concat();
    assert_eq!(run("http"), expected);
}

#[test]
fn multiplexed() {
    assert_eq!(run("multiplexed"), "1000000 bytes\n2000000 bytes\n3000000 bytes\n4000000 bytes\n");
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn server_and_client() {
    let home = home();
    let mut server = example("server", home.path());
    let mut server = Running(server.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let listening = lines.next().unwrap().unwrap();
    let port = listening.rsplit(':').next().unwrap();
    let said = said(example("client", home.path()).args(["127.0.0.1", port, "localhost", "one", "two"]));
    let lines_of_client: Vec<_> = said.lines().collect();
    assert!(lines_of_client[0].starts_with("sealed: packets, device "), "{said}");
    assert_eq!(lines_of_client[1..], ["one", "two"]);
    assert!(lines.next().unwrap().unwrap().ends_with(" is dns:localhost"));
}
