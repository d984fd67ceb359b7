//! This machine's kernel: policies, SPIs, and who removes them. States need ESP, which it may lack: `tests/esp.rs`.

#![allow(clippy::unwrap_used, reason = "tests and what they share")]

mod common;

use common::{OWN, PEER, helper, in_namespace, ip, policies, standing_helper, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use secure_rdma_xfrm::owner::{self, Kind};
use secure_rdma_xfrm::{Association, Error, Kernel, Pair};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn addresses() -> (IpAddr, IpAddr) {
    (OWN.parse().unwrap(), PEER.parse().unwrap())
}

fn pair() -> Pair {
    let (own, peer) = addresses();
    Pair::new(own, peer).unwrap()
}

/// What sending a datagram to the peer comes to.
fn send(own: &str, peer: &str) -> std::io::Result<usize> {
    UdpSocket::bind((own, 0)).unwrap().send_to(b"in clear", (peer, 4791))
}

#[test]
fn from_the_first_moment_to_the_last_what_is_not_sealed_is_dropped() {
    if !in_namespace() {
        return;
    }
    let kernel = Kernel::open().unwrap();
    for (own, peer, prefix) in [(OWN, PEER, 32), ("fd77::1", "fd77::2", 128)] {
        let pair = Pair::new(own.parse().unwrap(), peer.parse().unwrap()).unwrap();
        send(own, peer).unwrap();
        let mut association = Association::open(&kernel, pair).unwrap();
        let template = format!("reqid {} mode transport", kernel.reqid());
        let of = |from: &str, to: &str, rest: &str| {
            [
                format!("src {from}/{prefix} dst {to}/{prefix} proto udp {rest}"),
                format!("tmpl src {from} dst {to} proto esp {template}"),
            ]
        };
        let found = policies().join("\n");
        for part in of(own, peer, "").iter().chain(&of(peer, own, "dport 4791")) {
            assert!(found.contains(part.trim()), "no {part} in {found}");
        }
        assert_eq!(found.matches("action block").count(), 2, "{found}");
        assert_eq!(send(own, peer).unwrap_err().kind(), ErrorKind::PermissionDenied);
        // No key comes, and it is over.
        association.block(&kernel).unwrap();
        assert_eq!(send(own, peer).unwrap_err().kind(), ErrorKind::PermissionDenied);
        association.close(&kernel).unwrap();
        assert_eq!(policies(), [""; 0]);
        send(own, peer).unwrap();
    }
}

#[test]
fn nothing_but_udp_between_the_two_addresses_is_touched() {
    if !in_namespace() {
        return;
    }
    let kernel = Kernel::open().unwrap();
    let _association = Association::open(&kernel, pair()).unwrap();
    send(OWN, "10.77.0.3").unwrap();
    let listener = TcpListener::bind((OWN, 0)).unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
}

#[test]
fn where_there_is_a_policy_already_it_stays_as_it_is() {
    if !in_namespace() {
        return;
    }
    let (kernel, other) = (Kernel::open().unwrap(), Kernel::open().unwrap());
    let first = Association::open(&kernel, pair()).unwrap();
    let before = policies();
    assert!(matches!(Association::open(&other, pair()), Err(Error::Busy { .. })));
    assert_eq!(policies(), before);
    first.close(&kernel).unwrap();
    // The administrator's, of one direction alone.
    ip(&format!("xfrm policy add src {PEER} dst {OWN} proto udp dport 4791 dir in action allow"));
    let before = policies();
    assert!(matches!(Association::open(&other, pair()), Err(Error::Busy { .. })));
    assert_eq!(policies(), before);
}

#[test]
fn spis_are_of_the_owner_and_in_its_range_and_there_are_four_at_most() {
    if !in_namespace() {
        return;
    }
    let kernel = Kernel::open().unwrap();
    let mut association = Association::open(&kernel, pair()).unwrap();
    let spis = [(); 4].map(|()| association.allocate_spi(&kernel).unwrap());
    assert!(spis.iter().all(|spi| *spi >= 0xc000_0000));
    assert!(matches!(association.allocate_spi(&kernel), Err(Error::Request(_))));
    let states = kernel.states().unwrap();
    assert_eq!(states.len(), 4);
    for state in states {
        assert!(spis.contains(&state.spi) && state.is_esp());
        assert_eq!(
            (state.reqid, state.source, state.destination),
            (kernel.reqid(), pair().peer(), pair().own())
        );
        assert_eq!(association.packets(&kernel, state.spi).unwrap(), 0);
    }
    assert!(matches!(association.packets(&kernel, 0xc000_0000), Err(Error::Request(_))));
    association.release(&kernel, spis[0]).unwrap();
    assert_eq!(kernel.states().unwrap().len(), 3);
    // One that has expired meanwhile.
    ip(&format!("xfrm state delete src {PEER} dst {OWN} proto esp spi {:#x}", spis[1]));
    association.release(&kernel, spis[1]).unwrap();
    association.close(&kernel).unwrap();
    assert_eq!(kernel.states().unwrap(), []);
    assert_eq!(ip("xfrm state"), "");
}

#[test]
fn what_a_gone_owner_has_left_is_swept_and_nothing_else() {
    if !in_namespace() {
        return;
    }
    ip("xfrm policy add src 10.77.0.1 dst 10.77.0.9 proto udp dir out action block");
    let beyond = owner::FIRST + 0x1_0000;
    ip(&format!(
        "xfrm policy add src 10.77.0.1 dst 10.77.0.8 proto udp dir out tmpl src 10.77.0.1 dst 10.77.0.8 proto esp \
         reqid {beyond} mode transport"
    ));
    let others = policies();
    let (gone, lives) = (Kernel::open().unwrap(), Kernel::open().unwrap());
    let mut left = Association::open(&gone, pair()).unwrap();
    left.allocate_spi(&gone).unwrap();
    let third = Pair::new(pair().own(), "10.77.0.3".parse().unwrap()).unwrap();
    let mut kept = Association::open(&lives, third).unwrap();
    kept.allocate_spi(&lives).unwrap();
    let sweeper = Kernel::open().unwrap();
    // Both live.
    assert_eq!(sweeper.sweep().unwrap(), 0);
    assert_eq!((policies().len(), sweeper.states().unwrap().len()), (others.len() + 4, 2));
    drop((gone, left));
    assert_eq!(sweeper.sweep().unwrap(), 2);
    assert_eq!((policies().len(), sweeper.states().unwrap().len()), (others.len() + 2, 1));
    assert_eq!(sweeper.policies().unwrap().len(), 2);
    assert!(sweeper.policies().unwrap().iter().all(|policy| policy.reqid == lives.reqid()));
    kept.close(&lives).unwrap();
    assert_eq!(policies(), others);
}

#[test]
fn the_helper_does_what_it_is_asked_and_refuses_the_rest() {
    if !in_namespace() {
        return;
    }
    let helper = helper();
    let (own, peer) = addresses();
    let sealing = helper.open(own, peer).unwrap();
    assert_eq!(policies().len(), 2);
    assert!(sealing.allocate_spi().unwrap() >= 0xc000_0000);
    for (own, peer, reason) in [
        (OWN, PEER, "there is an IPsec policy"),
        (OWN, OWN, "this host's own address"),
        (OWN, "fd77::1", "different versions"),
        ("fd77::1", "fd77::1", "this host's own address"),
        (OWN, "127.0.0.1", "isn't the address of one host"),
        (OWN, "224.0.0.1", "isn't the address of one host"),
    ] {
        let error = helper.open(own.parse().unwrap(), peer.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains(reason), "{own}, {peer}: {error}");
    }
    assert!(sealing.packets(1).unwrap_err().to_string().contains("no such SPI"));
    assert_eq!(policies().len(), 2);
    drop(sealing);
    assert_eq!(policies(), [""; 0]);
    assert_eq!(ip("xfrm state"), "");
}

#[test]
fn whether_the_kernel_has_what_it_takes_is_found_out_and_nothing_is_left_of_it() {
    if !in_namespace() {
        return;
    }
    let helper = helper();
    match helper.check() {
        Ok(()) => {}
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("modprobe gcm") || error.contains("modprobe esp4"), "{error}");
        }
    }
    assert_eq!(ip("xfrm state"), "");
    assert_eq!(policies(), [""; 0]);
}

#[test]
fn the_helper_has_one_right_alone_and_the_program_has_it_no_more() {
    if !in_namespace() {
        return;
    }
    let program = std::thread::spawn(|| {
        let before = rights("thread-self");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "common::the_helper_that_tests_start", "--ignored", "--nocapture"]);
        let helper = secure_rdma_xfrm::helper::Helper::start(command).unwrap();
        (before, rights("thread-self"), Kernel::open().unwrap().policies().map(drop), helper)
    });
    let (before, after, listed, helper) = program.join().unwrap();
    const NET_ADMIN: u64 = 1 << 12;
    for (name, set) in &after {
        assert_eq!(set & NET_ADMIN, 0, "{name}");
        let of = before.iter().find(|row| row.0 == *name).unwrap().1;
        assert_eq!(*set, of & !NET_ADMIN, "{name}");
    }
    assert!(listed.is_err(), "IPsec can be read without the right");
    // Other tests of this process have helpers too, of which each has a thread of libtest's that gave up nothing.
    let children = children(std::process::id());
    let tasks = children.iter().map(|pid| format!("/proc/{}/task", pid.as_raw_nonzero()));
    let threads = tasks.flat_map(|path| fs::read_dir(path).into_iter().flatten());
    let restricted = threads.filter_map(|entry| {
        let path = entry.ok()?.path().join("status");
        let status = fs::read_to_string(path).ok()?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(String::from)
        };
        Some((field("CapEff:")?, field("CapPrm:")?, field("NoNewPrivs:")?, field("Uid:")?))
    });
    let restricted: Vec<_> = restricted.filter(|(_, _, no_new, _)| no_new == "1").collect();
    assert!(!restricted.is_empty());
    for (effective, permitted, _, uid) in restricted {
        assert_eq!((effective.as_str(), permitted.as_str()), ("0000000000001000", "0000000000001000"));
        assert!(uid.starts_with("65534"), "{uid}");
    }
    drop(helper);
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<Pid> {
    let parent = parent.to_string();
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let children = names.filter(|name| {
        let status = fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|pid| pid.trim() == parent))
    });
    children.filter_map(|name| Pid::from_raw(name.parse().ok()?)).collect()
}

/// The sets of rights of a thread: inheritable, permitted, effective, bounding, ambient.
fn rights(task: &str) -> Vec<(String, u64)> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).unwrap();
    let sets = status.lines().filter(|line| line.starts_with("Cap"));
    sets.map(|line| {
        let (name, set) = line.split_once(':').unwrap();
        (name.to_owned(), u64::from_str_radix(set.trim(), 16).unwrap())
    })
    .collect()
}

#[test]
fn a_program_that_is_killed_leaves_nothing() {
    if !in_namespace() {
        return;
    }
    let mut program = Program::start();
    assert_eq!(policies().len(), 2);
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    wait_for("the helper's last work", || policies().is_empty());
    assert_eq!(ip("xfrm state"), "");
}

#[test]
fn where_the_helper_is_killed_too_the_next_one_sweeps() {
    if !in_namespace() {
        return;
    }
    let mut program = Program::start();
    let [killed] = children(program.child.id()).try_into().expect("one child");
    kill_process(killed, Signal::KILL).unwrap();
    let status = format!("/proc/{}/status", killed.as_raw_nonzero());
    let is_zombie = || fs::read_to_string(&status).is_ok_and(|status| status.contains("State:\tZ"));
    wait_for("the helper's end", is_zombie);
    // Its program can't have anything done any more, and says why; all stays dropped.
    writeln!(program.child.stdin.as_mut().unwrap(), "ask").unwrap();
    let mut line = String::new();
    program.out.read_line(&mut line).unwrap();
    assert!(line.contains("the helper that sets up IPsec has ended"), "{line}");
    // It may still have queue pairs that send.
    drop(helper());
    assert_eq!(policies().len(), 2);
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert_eq!(policies().len(), 2);
    assert_eq!(send(OWN, PEER).unwrap_err().kind(), ErrorKind::PermissionDenied);
    let helper = helper();
    assert_eq!(policies(), [""; 0]);
    assert_eq!(ip("xfrm state"), "");
    drop(helper);
}

/// All that is left blocks, and is of one owner, who is another than `before`: that one's reqid.
#[track_caller]
fn blocked_by_another(kernel: &Kernel, before: Option<u32>) -> u32 {
    let found = kernel.policies().unwrap();
    assert_eq!(found.len(), 2);
    let reqid = found[0].reqid;
    assert!(found.iter().all(|policy| policy.blocks && policy.reqid == reqid));
    assert_ne!(Some(reqid), before);
    assert_eq!(send(OWN, PEER).unwrap_err().kind(), ErrorKind::PermissionDenied);
    reqid
}

#[test]
fn what_stands_blocks_until_another_takes_it_over_or_it_is_lifted() {
    if !in_namespace() {
        return;
    }
    let [first, second] = [(); 2].map(|()| Kernel::open_of(Kind::Standing).unwrap());
    let passing = Kernel::open().unwrap();
    let mut left = Association::open(&first, pair()).unwrap();
    left.allocate_spi(&first).unwrap();
    // While its owner lives, nobody takes it, and nobody lifts it.
    for other in [&second, &passing] {
        assert!(matches!(Association::open(other, pair()), Err(Error::Busy { .. })));
        assert_eq!((other.sweep().unwrap(), other.lift().unwrap()), (0, 0));
    }
    let reqid = blocked_by_another(&passing, None);
    drop((first, left));
    // What is swept of it are states.
    assert_eq!(passing.sweep().unwrap(), 0);
    assert_eq!(ip("xfrm state"), "");
    assert_eq!(blocked_by_another(&passing, None), reqid);
    assert!(matches!(Association::open(&passing, pair()), Err(Error::Busy { .. })));
    let taken = Association::open(&second, pair()).unwrap();
    let reqid = blocked_by_another(&passing, Some(reqid));
    // Its end is none.
    taken.close(&second).unwrap();
    assert_eq!(blocked_by_another(&passing, None), reqid);
    assert_eq!(passing.lift().unwrap(), 0);
    drop(second);
    assert_eq!(passing.lift().unwrap(), 2);
    assert_eq!(policies(), [""; 0]);
    send(OWN, PEER).unwrap();
}

#[test]
fn a_program_that_is_killed_and_whose_helper_stands_leaves_blocks() {
    if !in_namespace() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut program = Program::start_by(command.env(STANDS, "yes"));
    let kernel = Kernel::open().unwrap();
    let reqid = blocked_by_another(&kernel, None);
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    // It has blocked when it has removed the state, and is gone when somebody else can take its place.
    wait_for("the helper's last work", || kernel.states().unwrap().is_empty());
    assert_eq!(blocked_by_another(&kernel, None), reqid);
    let (own, peer) = addresses();
    let helper = standing_helper();
    wait_for("the next one's turn", || helper.open(own, peer).map(std::mem::forget).is_ok());
    blocked_by_another(&kernel, Some(reqid));
}

#[test]
fn the_right_alone_is_enough_for_a_user_who_is_not_root() {
    if !in_namespace() {
        return;
    }
    // Where that user can reach it.
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    for sets in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([sets, "-all,+net_admin"]);
    }
    let mut program = Program::start_by(command.arg("--").arg(copy));
    assert_eq!(policies().len(), 2);
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Uid:\t65534")), "{status}");
    assert!(status.contains("CapBnd:\t0000000000001000"), "{status}");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    wait_for("the helper's last work", || policies().is_empty());
}

/// In the environment of a program whose helper is to leave blocks behind.
const STANDS: &str = "XFRM_TEST_STANDS";

/// A program with a helper and an association.
struct Program {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start() -> Self {
        Self::start_by(&mut Command::new(std::env::current_exe().unwrap()))
    }

    /// By a command that becomes it, with the arguments that it is given.
    fn start_by(command: &mut Command) -> Self {
        let mut child = command
            .args(["--exact", "the_program_that_tests_kill", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.trim_end().ends_with("open") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended");
        }
        Self { child, out }
    }
}

#[test]
#[ignore = "other tests start it"]
fn the_program_that_tests_kill() {
    let helper = if std::env::var_os(STANDS).is_some() { standing_helper() } else { helper() };
    let (own, peer) = addresses();
    let sealing = helper.open(own, peer).unwrap();
    sealing.allocate_spi().unwrap();
    println!("open");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("{}", sealing.allocate_spi().unwrap_err());
    std::io::stdin().read_line(&mut line).unwrap();
}
