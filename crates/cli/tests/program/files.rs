//! `get`, `put` and `ls`, and processes that are killed in the middle of it.

use crate::harness::{
    Ended, PATIENCE, Program, SECURE_RDMA, SECURE_SERVER, Server, State, secure_rdma, text,
};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of a file that is broken off, and how many a second are moved then: it would take two minutes.
const SIZE: usize = 32 << 20;
const RATE: &str = "256K";

/// Bytes that have been moved when it is.
const BEFORE: u64 = 1 << 20;

struct Sides(TempDir);

impl Sides {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("there")).unwrap();
        fs::create_dir(dir.path().join("here")).unwrap();
        Self(dir)
    }

    fn there(&self) -> PathBuf {
        self.0.path().join("there")
    }

    fn here(&self) -> PathBuf {
        self.0.path().join("here")
    }

    fn serve(&self, more: &[&str]) -> Server {
        let there = self.there();
        Server::start_alone(&[&["--files", text(&there)], more].concat())
    }
}

/// The command with what it needs to connect.
fn command(server: &Server, name: &str, arguments: &[&str]) -> Program {
    let (place, certs) = (server.address.to_string(), server.state.path());
    let link = [name, &place, "--server-name", "localhost", "--certs", text(&certs)];
    Program::start(SECURE_RDMA, &[&link, arguments].concat())
}

#[track_caller]
fn done(server: &Server, name: &str, arguments: &[&str]) -> Ended {
    command(server, name, arguments).end()
}

/// A file of which no two pages are the same.
fn large(path: &Path) {
    let mut content = vec![0; SIZE];
    for (number, page) in content.chunks_mut(4096).enumerate() {
        page[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    }
    fs::write(path, content).unwrap();
}

/// How many bytes `json` says that there were already.
fn number(ended: &Ended, key: &str) -> u64 {
    let document: serde_json::Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    document[key].as_u64().unwrap()
}

/// Waits until so much of a file is in a directory, and says where.
fn wait_for_partial(dir: &Path) -> PathBuf {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let partial = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
            // Of the blocks that are there: pieces come in any order.
            path.extension().is_some_and(|end| end == "part")
                && fs::metadata(path).is_ok_and(|found| found.blocks() * 512 >= BEFORE)
        });
        if let Some(partial) = partial {
            return partial;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn folders_are_listed_got_and_put() {
    let sides = Sides::new();
    fs::create_dir_all(sides.there().join("folder/in it/empty")).unwrap();
    fs::write(sides.there().join("folder/größe 世界"), "some text").unwrap();
    fs::write(sides.there().join("folder/in it/nothing"), "").unwrap();
    symlink("/etc/passwd", sides.there().join("folder/link")).unwrap();
    let server = sides.serve(&["--files-write"]);
    server.program.says("to be read AND WRITTEN by every client");

    let listed = done(&server, "ls", &["folder"]).succeeded().out.join("\n");
    for line in ["größe 世界", "in it/", "link"] {
        assert!(listed.contains(line), "{listed}");
    }
    let here = sides.here();
    let ended = done(&server, "get", &["folder", "--into", text(&here)]).succeeded();
    assert!(ended.out[0].starts_with("2 files, 9 bytes, 0 of them there already; folders: 3"), "{ended:?}");
    assert!(ended.err.contains("left out: folder/link: link"), "{ended:?}");
    // No terminal, no bar.
    assert!(!ended.err.contains('\r') && !ended.err.contains('█'), "{ended:?}");
    assert_eq!(fs::read_to_string(here.join("folder/größe 世界")).unwrap(), "some text");
    assert_eq!(fs::read(here.join("folder/in it/nothing")).unwrap(), b"");
    assert!(here.join("folder/in it/empty").is_dir());

    let folder = here.join("folder");
    done(&server, "put", &[text(&folder), "--into", "new/deep"]).succeeded();
    let put = sides.there().join("new/deep/folder");
    assert_eq!(fs::read_to_string(put.join("größe 世界")).unwrap(), "some text");
    assert!(put.join("in it/empty").is_dir());
    server.program.says("client 3: left; ");
    // It still is a server for all else.
    server.serves();
}

#[test]
fn what_cannot_be_is_said_with_its_reason_and_harms_nothing() {
    let sides = Sides::new();
    fs::write(sides.there().join("x"), "x").unwrap();
    symlink("x", sides.there().join("link")).unwrap();
    let fifo = sides.there().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let server = sides.serve(&[]);
    server.program.says("to be read by every client");
    let here = sides.here();
    let into = ["--into", text(&here)];
    for (path, words) in [
        ("../../etc/passwd", "leads out of the directory"),
        ("/etc/passwd", "absolute"),
        ("link", "symbolic link"),
        ("fifo", "FIFO"),
        ("nothing", "no such file"),
    ] {
        done(&server, "get", &[&[path][..], &into].concat()).failed(1, &["error: ", path, words]);
    }
    // What is there is got all the same.
    done(&server, "get", &[&["nothing", "x"][..], &into].concat()).failed(1, &["no such file"]);
    assert_eq!(fs::read_to_string(here.join("x")).unwrap(), "x");
    assert_eq!(fs::read_dir(&here).unwrap().count(), 1);
    let x = here.join("x");
    done(&server, "put", &[text(&x), "--into", "new"]).failed(1, &["--files-write"]);
    done(&server, "put", &[text(&fifo)]).failed(1, &["FIFO"]);
    done(&server, "put", &["/nowhere/x"]).failed(1, &["/nowhere/x", "No such file"]);
    done(&server, "ls", &["x/y"]).failed(1, &["x/y", "isn't a folder"]);
    assert_eq!(fs::read_dir(sides.there()).unwrap().count(), 3);
}

#[test]
fn a_server_offers_no_files_unless_it_is_told_to() {
    let server = Server::start(&[]);
    for arguments in [["ls", "."], ["get", "x"]] {
        done(&server, arguments[0], &arguments[1..]).failed(1, &["offers no files", "--files DIR"]);
    }
    server.program.says("client 2: left; ");
    server.serves();
    let state = State::new();
    let certs = state.path();
    let wrong = |arguments: &[&str], code, words: &[&str]| {
        let all = [&["--listen", "127.0.0.1:0", "--certs", text(&certs)], arguments].concat();
        Program::start(SECURE_SERVER, &all).end().failed(code, words);
    };
    wrong(&["--files-write"], 2, &["--files-write needs --files"]);
    wrong(&["--files", "/nowhere/dir"], 1, &["--files /nowhere/dir", "no such file"]);
    wrong(&["--files", "/", "--region", "4K"], 2, &["--region 16K"]);
    secure_rdma(&["get", "127.0.0.1"]).failed(2, &["PATH"]);
}

#[test]
fn the_list_of_allowed_clients_says_who_may_read_and_write() {
    let sides = Sides::new();
    fs::write(sides.there().join("x"), "x").unwrap();
    let list = sides.0.path().join("allow.toml");
    let allow = |operations: &str| {
        let entry = format!("[[client]]\nidentity = \"dns:localhost\"\noperations = [{operations}]\n");
        fs::write(&list, entry).unwrap();
        sides.serve(&["--files-write", "--allow", text(&list)])
    };
    let here = sides.here();
    fs::write(here.join("y"), "y").unwrap();
    let y = here.join("y");
    let server = allow("\"send\", \"read\"");
    done(&server, "get", &["x", "--into", text(&here)]).succeeded();
    done(&server, "put", &[text(&y)]).failed(1, &["list of allowed clients", "`write`"]);
    let server = allow("\"send\", \"write\"");
    done(&server, "put", &[text(&y)]).succeeded();
    done(&server, "get", &["x", "--into", text(&here)]).failed(1, &["list of allowed clients", "`read`"]);
    assert_eq!(fs::read_to_string(sides.there().join("y")).unwrap(), "y");
}

/// Which side is killed.
#[derive(Clone, Copy)]
enum Killed {
    Client,
    Server,
}

/// Kills one side in the middle, and has another go on.
fn killed_and_resumed(name: &str, killed: Killed) {
    let sides = Sides::new();
    let (from, to) =
        if name == "get" { (sides.there(), sides.here()) } else { (sides.here(), sides.there()) };
    large(&from.join("x"));
    let mut server = sides.serve(&["--files-write"]);
    let (local, here) = (sides.here().join("x"), sides.here());
    let arguments: Vec<&str> =
        if name == "get" { vec!["x", "--into", text(&here)] } else { vec![text(&local)] };
    let slowly = [&arguments[..], &["--limit-rate", RATE]].concat();
    let client = command(&server, name, &slowly);
    let partial = wait_for_partial(&to);
    match killed {
        Killed::Client => {
            client.signal(Signal::KILL);
            server.program.says("client 1: lost: ");
        }
        Killed::Server => {
            server.program.signal(Signal::KILL);
            client.ends().failed(1, &["error: ", "the same command goes on"]);
            let Server { address, state, program } = server;
            drop(program);
            let there = sides.there();
            let options = ["--files", text(&there), "--files-write"];
            server = Server::start_in(state, &address.to_string(), &options);
        }
    }
    assert!(!to.join("x").exists() && partial.exists());
    let ended = done(&server, name, &[&arguments[..], &["--json"]].concat()).succeeded();
    assert_eq!(number(&ended, "bytes"), SIZE as u64);
    // It didn't begin anew. A page cache may round blocks up to a whole piece.
    let resumed = number(&ended, "resumed_bytes");
    assert!((BEFORE / 2..SIZE as u64).contains(&resumed), "{resumed}");
    assert!(fs::read(to.join("x")).unwrap() == fs::read(from.join("x")).unwrap());
    assert!(!partial.exists());
    let left = server.program.says(": left; ");
    let moved = SIZE as u64 - resumed;
    let words = if name == "get" {
        format!("files read: 1, {moved} bytes")
    } else {
        format!("written: 1, {moved} bytes")
    };
    assert!(left.contains(&words), "{left}");
}

#[test]
fn get_goes_on_when_its_client_was_killed() {
    killed_and_resumed("get", Killed::Client);
}

#[test]
fn get_goes_on_when_its_server_was_killed() {
    killed_and_resumed("get", Killed::Server);
}

#[test]
fn put_goes_on_when_its_client_was_killed() {
    killed_and_resumed("put", Killed::Client);
}

#[test]
fn put_goes_on_when_its_server_was_killed() {
    killed_and_resumed("put", Killed::Server);
}

#[test]
fn with_reconnect_it_goes_on_by_itself() {
    let sides = Sides::new();
    // It takes twelve seconds: so much that the server is killed before, and little enough to be waited for.
    let mut content = vec![7; 12 << 20];
    content[3 << 20] = 1;
    fs::write(sides.there().join("x"), &content).unwrap();
    let server = sides.serve(&[]);
    let here = sides.here();
    let client =
        command(&server, "get", &["x", "--into", text(&here), "--reconnect", "--json", "--limit-rate", "1M"]);
    wait_for_partial(&here);
    server.program.signal(Signal::KILL);
    let Server { address, state, program } = server;
    drop(program);
    client.warns("not connected: ");
    let there = sides.there();
    let _server = Server::start_in(state, &address.to_string(), &["--files", text(&there)]);
    client.warns("connected again, going on");
    let ended = client.end().succeeded();
    assert!(number(&ended, "resumed_bytes") > 0, "{ended:?}");
    assert!(fs::read(here.join("x")).unwrap() == content);
}

#[test]
fn what_no_disk_has_room_for_or_the_server_does_not_take_is_refused_before_it_comes() {
    let sides = Sides::new();
    let server = sides.serve(&["--files-write", "--files-max", "1048576G"]);
    let sparse = sides.here().join("sparse");
    // Half of what the system's file systems can have, none of it written.
    File::create(&sparse).unwrap().set_len(1 << 43).unwrap();
    done(&server, "put", &[text(&sparse)]).failed(1, &["the disk is too full", "bytes are needed"]);
    let server = sides.serve(&["--files-write", "--files-max", "1M"]);
    done(&server, "put", &[text(&sparse)]).failed(1, &["takes files of 1048576 at most"]);
    assert_eq!(fs::read_dir(sides.there()).unwrap().count(), 0);
}

/// Runs the script in a mount namespace of its own; `None` where there can be none, and nothing is proved.
fn with_own_mounts(script: &str, arguments: &[&str]) -> Option<Ended> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let may = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success());
    assert!(
        may || std::env::var("CI").as_deref() != Ok("true"),
        "no mount namespaces: CI must run this test"
    );
    if !may {
        eprintln!("skipped: no mount namespaces (unshare --user --mount)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-c", script, "sh"]).args(arguments);
    Some(Program::spawn(&mut command).end())
}

/// Two files that both have room, until the other has come, too.
#[test]
fn a_disk_that_gets_full_is_told_and_what_has_come_is_gone_on_with_when_there_is_room() {
    let sides = Sides::new();
    for name in ["a", "b"] {
        fs::write(sides.there().join(name), vec![name.as_bytes()[0]; 4 << 20]).unwrap();
    }
    let server = sides.serve(&[]);
    let (place, certs) = (server.address.to_string(), server.state.path());
    let script = "set -u
        mount -t tmpfs -o size=6m tmpfs \"$4\" || exit 9
        get() { \"$1\" get \"$2\" a b --server-name localhost --certs \"$3\" --into \"$4\"; }
        get \"$@\" && exit 8
        mount -o remount,size=12m \"$4\" || exit 9
        get \"$@\" || exit 7
        cmp \"$4/a\" \"$5/a\" && cmp \"$4/b\" \"$5/b\"";
    let (here, there) = (sides.here(), sides.there());
    let arguments = [SECURE_RDMA, place.as_str(), text(&certs), text(&here), text(&there)];
    let Some(ended) = with_own_mounts(script, &arguments) else { return };
    let ended = ended.succeeded();
    let full = ["no space is left; what has come is kept", "the disk is too full"];
    assert!(full.iter().any(|words| ended.err.contains(words)), "{ended:?}");
    assert!(ended.out.last().unwrap().starts_with("2 files, 8388608 bytes, "), "{ended:?}");
}

/// What was there before stays whole until the new one is.
#[test]
fn a_file_is_replaced_as_a_whole() {
    let sides = Sides::new();
    large(&sides.there().join("x"));
    fs::write(sides.here().join("x"), "before").unwrap();
    let server = sides.serve(&[]);
    let here = sides.here();
    let client = command(&server, "get", &["x", "--into", text(&here), "--limit-rate", RATE]);
    let partial = wait_for_partial(&here);
    assert_eq!(fs::read_to_string(here.join("x")).unwrap(), "before");
    client.signal(Signal::KILL);
    drop(client);
    // A bit of what is there goes over: that piece is got again.
    let mut file = File::options().write(true).open(&partial).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(b"damage").unwrap();
    let ended = done(&server, "get", &["x", "--into", text(&here), "--json"]).succeeded();
    let resumed = number(&ended, "resumed_bytes");
    assert!(resumed > 0 && resumed < SIZE as u64, "{resumed}");
    assert!(fs::read(here.join("x")).unwrap() == fs::read(sides.there().join("x")).unwrap());
}
