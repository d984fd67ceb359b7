//! `secure-rdma run`: verbs programs that know nothing of this project, on the embedded device.

use crate::harness::{Ended, PATIENCE, Program, SECURE_RDMA};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A run of `program` on the device at `address`, whose files are in `place`.
fn run(place: &TempDir, address: &str, program: &[&str]) -> Program {
    run_with(place, &["--address", address], program)
}

/// The same with these options.
fn run_with(place: &TempDir, options: &[&str], program: &[&str]) -> Program {
    let mut command = Command::new(SECURE_RDMA);
    command.env("XDG_RUNTIME_DIR", place.path());
    command.args(["run", "--device-name", "mlx5_7"]).args(options).arg("--").args(program);
    Program::spawn(&mut command)
}

/// Whether the program is there; where nothing may be skipped, it must be.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).any(|place| place.join(program).is_file());
    assert!(found || std::env::var("CI").is_err(), "{program} is missing: apt-get install {package}");
    if !found {
        eprintln!("skipped: {program} is missing (apt-get install {package})");
    }
    found
}

/// Runs a server and its client at one address; both must be done. What the client said.
fn pair(address: &str, arguments: &[&str]) -> Vec<String> {
    pair_in(&tempfile::tempdir().unwrap(), address, arguments)
}

fn pair_in(place: &TempDir, address: &str, arguments: &[&str]) -> Vec<String> {
    pair_of(|arguments| run(place, address, arguments), arguments, &[arguments, &[address]].concat()).out
}

/// Runs a server and its client; both must be done. How the client ended.
fn pair_of(run: impl Fn(&[&str]) -> Program, server: &[&str], client: &[&str]) -> Ended {
    let mut server = run(server);
    // Servers of this kind don't say when they listen: their clients are started until one gets through.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let ended = run(client).end();
        if ended.status.success() {
            server.end().succeeded();
            return ended;
        }
        let refused = ["Couldn't connect", "Connection refused"].iter().any(|word| ended.err.contains(word));
        assert!(refused || !server.has_ended(), "{ended:?}, {:?}", server.end());
        assert!(refused && std::time::Instant::now() < deadline, "{ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn the_program_becomes_the_process_with_its_arguments_and_exit_code() {
    let place = tempfile::tempdir().unwrap();
    let ended = run(&place, "127.83.84.11", &["sh", "-c", "echo \"$0 $1\"; exit 7", "a b", "--help"]).end();
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(ended.out, ["a b --help"]);
}

#[test]
fn what_cannot_be_run_gets_a_message_and_not_silence() {
    let place = tempfile::tempdir().unwrap();
    run(&place, "127.83.84.12", &["no-such-program-anywhere"]).end().failed(1, &["no such program in PATH"]);
    run(&place, "192.0.2.99", &["true"]).end().failed(1, &["192.0.2.99", "none of this host's addresses"]);
    // An ELF file without program headers: nothing loads libraries for it.
    let mut elf = fs::read("/proc/self/exe").unwrap();
    elf[56..58].fill(0);
    let path = place.path().join("static");
    fs::write(&path, &elf).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    run(&place, "127.83.84.12", &[path.to_str().unwrap()]).end().failed(1, &["linked statically"]);
    let usage = |options: &[&str], why: &str| {
        run_with(&place, options, &["true"]).end().failed(2, &[why]);
    };
    usage(&["--mtu", "1000"], "give 256, 512, 1024, 2048 or 4096");
    usage(&["--devices", "17"], "16 at most");
    usage(
        &["--devices", "1", "--address", "127.83.84.12,127.83.84.11"],
        "an address has one device at least",
    );
    usage(&["--devices", "2", "--seal"], "--seal has one device");
    let capture = place.path().join("nowhere/packets");
    let options = ["--address", "127.83.84.12", "--capture", capture.to_str().unwrap()];
    run_with(&place, &options, &["true"]).end().failed(1, &["nowhere/packets", "No such file"]);
    let mut command = Command::new(SECURE_RDMA);
    command.args(["run", "--device-name", "../x", "--", "true"]);
    Program::spawn(&mut command).end().failed(2, &["can't be a device's name"]);
}

#[test]
fn what_runs_with_another_users_rights_gets_a_message() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("true");
    fs::copy("/bin/true", &path).unwrap();
    let own = [rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()];
    // Only root gives a file away; where nobody is, the host's own `su` is such a program.
    let path = if std::os::unix::fs::chown(&path, Some(own[0] + 1), Some(own[1] + 1)).is_ok() {
        path
    } else {
        Path::new("/bin/su").to_owned()
    };
    let bits = fs::metadata(&path).unwrap().permissions().mode();
    for right in [0o4000, 0o2000] {
        if path.starts_with(place.path()) {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits & 0o777 | right)).unwrap();
        }
        let ended = run(&place, "127.83.84.24", &[path.to_str().unwrap()]).end();
        ended.failed(1, &["can't be run on the embedded device", "another user's rights"]);
    }
}

#[test]
fn the_largest_path_mtu_is_what_was_asked_for() {
    if !is_installed("ib_send_bw", "perftest") || !is_installed("ibv_devinfo", "ibverbs-utils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let options = ["--address", "127.83.84.25", "--mtu", "512"];
    let told = run_with(&place, &options, &["ibv_devinfo"]).end().succeeded().out.join("\n");
    assert!(told.contains("active_mtu:\t\t512 (2)"), "{told}");
    let program = ["ib_send_bw", "-F", "-n", "100", "-p", "18526"];
    let client = [&program[..], &["127.83.84.25"]].concat();
    let said = pair_of(|program| run_with(&place, &options, program), &program, &client).out.join("\n");
    assert!(said.contains("Mtu             : 512[B]"), "{said}");
}

#[test]
fn programs_see_several_devices_which_reach_each_other() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // Of two addresses, and two of one address.
    for (options, gids) in [
        (&["--address", "127.83.84.26,127.83.84.27"][..], ["7f53:541a", "7f53:541b"]),
        (&["--address", "127.83.84.26", "--devices", "2"], ["7f53:541a", "7f53:541a"]),
    ] {
        let listed = run_with(&place, options, &["ibv_devices"]).end().succeeded().out;
        let (first, second) = (&listed[2], &listed[3]);
        assert!(listed.len() == 4 && first.contains("mlx5_7") && second.contains("mlx5_8"), "{listed:?}");
        let guid = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        assert_ne!(guid(first), guid(second), "{listed:?}");
        let shown = "cd /; grep -H . /sys/class/infiniband/mlx5_[78]/ports/1/gids/0";
        let shown = run_with(&place, options, &["sh", "-c", shown]).end().succeeded().out;
        let expected: Vec<_> = ["mlx5_7", "mlx5_8"]
            .iter()
            .zip(gids)
            .map(|(name, gid)| {
                format!("/sys/class/infiniband/{name}/ports/1/gids/0:0000:0000:0000:0000:0000:ffff:{gid}")
            })
            .collect();
        assert_eq!(shown, expected);
        let common = ["ibv_rc_pingpong", "-g", "0", "-n", "100", "-e", "-p", "18528", "-d"];
        let server = [&common[..], &["mlx5_7"]].concat();
        let client = [&common[..], &["mlx5_8", "127.83.84.26"]].concat();
        let said = pair_of(|program| run_with(&place, options, program), &server, &client).out;
        assert!(said.iter().any(|line| line.contains("100 iters")), "{said:?}");
        for (name, gid) in [("local", gids[1]), ("remote", gids[0])] {
            let [high, low] =
                gid.split(':').map(|part| u32::from_str_radix(part, 16).unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{gid}")
            };
            let address = std::net::Ipv4Addr::from(high << 16 | low);
            let line = said.iter().find(|line| line.contains(&format!("{name} address"))).unwrap();
            assert!(line.ends_with(&format!("::ffff:{address}")), "{line}");
        }
    }
}

#[test]
fn counters_are_shown_when_a_process_has_ended() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.84.28");
    let options = ["--address", address, "--statistics"];
    let program = ["ibv_rc_pingpong", "-g", "0", "-n", "100", "-p", "18529"];
    let client = [&program[..], &[address]].concat();
    let ended = pair_of(|program| run_with(&place, &options, program), &program, &client);
    let said: Vec<_> = ended.err.lines().collect();
    assert!(said[0].starts_with("== mlx5_7 at 127.83.84.28: process "), "{said:?}");
    assert!(said[0].ends_with(", ibv_rc_pingpong"), "{said:?}");
    let count = |name: &str| {
        let line = said.iter().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap_or("0");
        line.parse::<u64>().unwrap()
    };
    // 100 messages each way and what acknowledges them.
    assert!(count("datagrams_sent") >= 100 && count("datagrams_received") >= 100, "{said:?}");
    // Nobody is told who doesn't ask.
    let ended = run(&place, address, &["ibv_devinfo"]).end().succeeded();
    assert_eq!(ended.err, "");
}

#[test]
fn a_launcher_is_told_the_environment() {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(SECURE_RDMA);
    command.env("XDG_RUNTIME_DIR", place.path()).args(["run", "--address", "127.83.84.13", "--print-env"]);
    let lines = Program::spawn(&mut command).end().succeeded().out;
    for name in [
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "SECURE_RDMA_DEVICE_NAME",
        "SECURE_RDMA_ADDRESS",
        "SECURE_RDMA_TREE",
        "SECURE_RDMA_AGENT",
        "SECURE_RDMA_AGENT_PROGRAM",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("export {name}='"))), "{name}: {lines:?}");
    }
    let script = format!("{}\nls /sys/class/infiniband", lines.join("\n"));
    let ended = Program::start("sh", &["-c", &script]).end().succeeded();
    assert_eq!(ended.out, ["rocev2_0"]);
}

#[test]
fn programs_find_the_device_in_sys_and_dev() {
    let place = tempfile::tempdir().unwrap();
    let read = |script: &str| run(&place, "127.83.84.14", &["sh", "-c", script]).end().succeeded().out;
    assert_eq!(read("ls /sys/class/infiniband"), ["mlx5_7"]);
    assert_eq!(
        read("cat /sys/class/infiniband/mlx5_7/ports/1/gids/0"),
        ["0000:0000:0000:0000:0000:ffff:7f53:540e"]
    );
    assert_eq!(read("cat /sys/class/infiniband_verbs/uverbs0/ibdev"), ["mlx5_7"]);
    assert_eq!(
        read("test -c /dev/infiniband/uverbs0 && test -w /dev/infiniband/uverbs0 && echo yes"),
        ["yes"]
    );
    // Everything else is as it is.
    assert_eq!(read("test -e /sys/class/net && cat /proc/self/comm"), ["cat"]);
}

#[test]
fn only_the_user_can_write_what_becomes_part_of_programs() {
    let place = tempfile::tempdir().unwrap();
    run(&place, "127.83.84.15", &["true"]).end().succeeded();
    let own = place.path().join("secure-rdma");
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    run(&place, "127.83.84.15", &["true"]).end().failed(1, &["nobody else can enter"]);
}

#[test]
fn ibv_devinfo_shows_the_device() {
    if !is_installed("ibv_devinfo", "ibverbs-utils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let listed = run(&place, "127.83.84.16", &["ibv_devices"]).end().succeeded().out;
    assert!(listed.iter().any(|line| line.contains("mlx5_7")), "{listed:?}");
    assert_eq!(listed.len(), 3, "the kernel's own devices aren't shown: {listed:?}");
    let told = run(&place, "127.83.84.16", &["ibv_devinfo", "-v"]).end().succeeded().out.join("\n");
    for word in ["mlx5_7", "PORT_ACTIVE", "Ethernet", "RoCE v2", "InfiniBand (0)"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn ibv_rc_pingpong_plays_polling_waiting_and_with_extended_requests() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    for options in [&[][..], &["-e"], &["-N"], &["-t"], &["-c", "-s", "65536", "-r", "100"], &["-m", "256"]] {
        let common = ["ibv_rc_pingpong", "-g", "0", "-n", "200", "-p", "18516"];
        let said = pair("127.83.84.1", &[&common[..], options].concat());
        assert!(said.iter().any(|line| line.contains("200 iters")), "{options:?}: {said:?}");
    }
}

#[test]
fn perftest_measures_reliable_connections() {
    if !is_installed("ib_write_bw", "perftest") {
        return;
    }
    let runs: [&[&str]; 12] = [
        &["ib_write_bw", "-n", "200"],
        &["ib_write_bw", "-n", "200", "-q", "4", "-s", "4096", "-b"],
        &["ib_send_bw", "-n", "200"],
        &["ib_send_bw", "-n", "200", "-e"],
        &["ib_send_bw", "-n", "200", "-I", "64", "-s", "64"],
        &["ib_read_bw", "-n", "200"],
        &["ib_atomic_bw", "-n", "200", "-A", "FETCH_AND_ADD"],
        &["ib_atomic_bw", "-n", "200", "-A", "CMP_AND_SWAP"],
        &["ib_write_lat", "-n", "200"],
        &["ib_send_lat", "-n", "200"],
        &["ib_read_lat", "-n", "200"],
        &["ib_atomic_lat", "-n", "200"],
    ];
    for run in runs {
        let said = pair("127.83.84.2", &[run, &["-F", "-p", "18517"]].concat());
        assert!(said.iter().any(|line| line.contains("#bytes")), "{run:?}: {said:?}");
    }
}

#[test]
fn programs_that_use_librdmacm_connect() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let address = "127.83.84.20";
    let rping = ["rping", "-a", address, "-p", "18521", "-C", "20", "-v"];
    let pairs: [[Vec<&str>; 2]; 4] = [
        [[&rping[..], &["-s"]].concat(), [&rping[..], &["-c"]].concat()],
        [vec!["rdma_server", "-p", "18522"], vec!["rdma_client", "-s", address, "-p", "18522"]],
        [vec!["ucmatose", "-b", address, "-c", "3"], vec!["ucmatose", "-s", address, "-c", "3"]],
        [vec!["udaddy", "-b", address], vec!["udaddy", "-s", address]],
    ];
    let place = tempfile::tempdir().unwrap();
    for [server, client] in pairs {
        let mut serves = run(&place, address, &server);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let ended = run(&place, address, &client).end();
            if ended.status.success() {
                break;
            }
            // The server may not listen yet. One that is gone has met this client, and it went wrong.
            assert!(!serves.has_ended(), "{client:?}: {ended:?} {:?}", serves.end());
            assert!(std::time::Instant::now() < deadline, "{client:?}: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        serves.end();
    }
}

#[test]
fn who_has_connected_with_a_program_that_is_killed_is_told() {
    if !is_installed("rping", "rdmacm-utils") {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.84.21");
    let rping = |options: &[&str]| {
        run(&place, address, &[&["rping", "-a", address, "-p", "18523", "-v"], options].concat())
    };
    let server = rping(&["-s", "-P"]);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !rping(&["-c", "-C", "1"]).end().status.success() {
        assert!(std::time::Instant::now() < deadline, "nobody serves");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let endless = || {
        let client = rping(&["-c", "-C", "100000000"]);
        client.says("rdma-ping-99:");
        client
    };
    let victim = endless();
    victim.signal(rustix::process::Signal::KILL);
    victim.end();
    // The first client's end, and the victim's.
    server.warns_times("DISCONNECT", 2);
    let left = endless();
    server.signal(rustix::process::Signal::KILL);
    server.end();
    assert!(left.end().err.contains("DISCONNECT"));
}

/// The agent that serves at the socket in `place`. It counts this as a use.
fn serving_agent(place: &TempDir) -> rustix::process::Pid {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(place.path().join("secure-rdma/agent")).unwrap()).unwrap();
    sockopt::socket_peercred(&socket).unwrap().pid
}

/// A process that is the agent whose socket is in `place`, or starts it, or has just found out that there is one.
fn agent(place: &TempDir) -> Option<rustix::process::Pid> {
    let socket = place.path().join("secure-rdma/agent");
    let found = fs::read_dir("/proc").unwrap().filter_map(Result::ok).find(|process| {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == socket.as_os_str().as_encoded_bytes())
    })?;
    rustix::process::Pid::from_raw(found.file_name().to_str()?.parse().ok()?)
}

#[track_caller]
fn wait_for(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it doesn't happen");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn programs_outlive_the_agent_and_each_other() {
    if !is_installed("ib_send_bw", "perftest") {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.84.3");
    // One that lasts, while others come, go and die.
    let lasting = ["ib_send_bw", "-F", "-D", "6", "-p", "18518"];
    let others = ["ib_write_bw", "-F", "-n", "100", "-p", "18519"];
    std::thread::scope(|scope| {
        let lasts = scope.spawn(|| pair_in(&place, address, &lasting));
        wait_for(|| agent(&place).is_some());
        pair_in(&place, address, &others);
        let first = serving_agent(&place);
        rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
        pair_in(&place, address, &others);
        assert_ne!(serving_agent(&place), first, "another agent serves");
        let victim = run(&place, address, &["ib_read_bw", "-F", "-p", "18520"]);
        victim.signal(rustix::process::Signal::KILL);
        victim.end();
        pair_in(&place, address, &others);
        assert!(lasts.join().unwrap().iter().any(|line| line.contains("#bytes")));
    });
    // Nobody uses it any more.
    wait_for(|| agent(&place).is_none());
}

/// Whether `program` has a slot of the agent's, which a thread of its own keeps.
fn has_slot(program: &Program) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", program.id())).into_iter().flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.into_iter().any(|name| name.trim() == "rdma-lease")
}

#[test]
fn a_program_that_finds_no_agent_starts_one() {
    if !is_installed("ibv_devinfo", "ibverbs-utils") {
        return;
    }
    let (place, address) = (tempfile::tempdir().unwrap(), "127.83.84.22");
    let mut command = Command::new(SECURE_RDMA);
    command.env("XDG_RUNTIME_DIR", place.path()).args(["run", "--address", address, "--print-env"]);
    let environment = Program::spawn(&mut command).end().succeeded().out.join("\n");
    // It also ends by itself, where a launcher takes its time.
    if let Some(agent) = agent(&place) {
        // Unless it has just done so.
        let _ = rustix::process::kill_process(agent, rustix::process::Signal::KILL);
    }
    let script = format!("{environment}\nexec ibv_devinfo");
    let ended = Program::start("sh", &["-c", &script]).end().succeeded();
    assert_eq!(ended.err, "", "it has gone on alone");
    // As a program that has a slot keeps one.
    let script = format!("{environment}\nexec ibv_rc_pingpong -g 0 -p 18524");
    let serves = Program::start("sh", &["-c", &script]);
    wait_for(|| has_slot(&serves));
    assert!(agent(&place).is_some());
}

#[test]
fn the_agent_has_no_descriptor_of_who_started_it() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("open");
    let script = "exec 3>\"$1\"; exec \"$0\" run --address 127.83.84.23 -- ibv_rc_pingpong -g 0 -p 18525";
    let mut command = Command::new("sh");
    command.env("XDG_RUNTIME_DIR", place.path()).args(["-c", script, SECURE_RDMA]).arg(&file);
    let serves = Program::spawn(&mut command);
    wait_for(|| has_slot(&serves));
    let holds = |process: String| {
        let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        open.filter_map(|open| fs::read_link(open.unwrap().path()).ok()).any(|open| open == file)
    };
    assert!(holds(serves.id().to_string()));
    assert!(!holds(serving_agent(&place).as_raw_nonzero().to_string()));
}

/// The path of a library as the loader has found it.
#[test]
fn the_library_is_ours_and_not_the_hosts() {
    if !is_installed("ibv_devices", "ibverbs-utils") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let listed =
        run(&place, "127.83.84.19", &["sh", "-c", "ldd $(command -v ibv_devices)"]).end().succeeded().out;
    let line = listed.iter().find(|line| line.contains("libibverbs.so.1")).unwrap();
    assert!(line.contains(Path::new(place.path()).to_str().unwrap()), "{line}");
}
