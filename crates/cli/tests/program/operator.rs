//! What who runs a server sees of it, and how it is told what to do.

use crate::harness::{PATIENCE, Program, SECURE_SERVER, Server, State, secure_rdma, text};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// What the server at `address` answers to `request`; it closes the connection then.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"))
}

#[test]
fn metrics_say_who_is_there_and_what_became_of_the_others() {
    let server = Server::start(&["--metrics", "127.0.0.1:0"]);
    let line = server.program.says("metrics: http://");
    let address = line.trim_start_matches("metrics: http://").trim_end_matches("/metrics").parse().unwrap();
    let mut client = server.client(&[]);
    client.type_line("send hello");
    client.says("hello");
    drop(TcpStream::connect(server.address).unwrap());
    server.program.says("refused");
    let page = get(address, "/metrics");
    let has = |page: &str, line: &str| assert!(page.lines().any(|found| found == line), "{line}: {page}");
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("application/openmetrics-text"), "{page}");
    for line in [
        "secure_rdma_clients 1",
        "secure_rdma_handshakes_total{outcome=\"opened\"} 1",
        "secure_rdma_handshakes_total{outcome=\"tls_failed\"} 1",
        "secure_rdma_setup_seconds_count 1",
        "secure_rdma_device_total{counter=\"icrc\"} 0",
        "# EOF",
    ] {
        has(&page, line);
    }
    client.end().succeeded();
    server.program.says("client 1: left");
    let page = get(address, "/metrics");
    for line in [
        "secure_rdma_clients 0",
        "secure_rdma_departures_total{outcome=\"left\"} 1",
        "secure_rdma_messages_total 1",
        "secure_rdma_messages_bytes_total 5",
    ] {
        has(&page, line);
    }
    // Strangers get nothing else, and keep nobody from asking.
    assert!(get(address, "/etc/passwd").starts_with("HTTP/1.1 404"));
    assert!(
        ask(address, "POST /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 405")
    );
    assert!(ask(address, "\x16\x03\x01\r\n\r\n").starts_with("HTTP/1.1 400"));
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK"));
    drop(idle);
    server.serves();
}

#[test]
fn lines_for_programs_are_one_json_object_each() {
    let state = State::new();
    let certs = state.path();
    let arguments = ["--listen", "127.0.0.1:0", "--certs", text(&certs), "--log-format", "json"];
    let program = Program::start(SECURE_SERVER, &arguments);
    let listening: Value = serde_json::from_str(&program.says("\"listening\"")).unwrap();
    let address = listening["address"].as_str().unwrap().parse().unwrap();
    let server = Server { program, address, state };
    server.client_with("send hello\n").succeeded();
    server.program.says("\"left\"");
    server.program.signal(Signal::TERM);
    let ended = server.program.ends();
    let events: Vec<Value> = ended.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event =
        |name: &str| events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(event("arrived")["client"], 1);
    assert_eq!(event("arrived")["sealed"], true);
    assert_eq!(event("arrived")["seal"], "packets");
    assert_eq!(event("arrived")["counters"], 8);
    assert_eq!((&event("left")["outcome"], &event("left")["bytes"]), (&"left".into(), &5.into()));
    assert_eq!(event("ending")["clients"], 0);
    assert!(events.iter().all(|event| event["timestamp"].is_string() && event["message"].is_string()));
}

#[test]
fn a_file_says_what_the_command_line_could() {
    let state = State::new();
    let certs = state.path();
    secure_rdma(&["certs", "init", "--certs", text(&certs)]).succeeded();
    let file = certs.join("server.toml");
    let write = |lines: &str| {
        let text = format!("certs = {:?}\nlisten = \"127.0.0.1:0\"\n{lines}", certs.to_str().unwrap());
        fs::write(&file, text).unwrap();
    };
    let run = |more: &[&str]| Program::start(SECURE_SERVER, &[&["--config", text(&file)], more].concat());
    write("max-clients = 7\ncounters = false\nseal = \"optional\"\n");
    let ended = run(&["--check"]).end().succeeded();
    assert_eq!(ended.out, ["options, certificates and lists are right"]);
    let server = run(&[]);
    server.says("for at most 7 clients");
    server.says("data path: sealed, but for clients that have it off");
    // What is said at the command line goes before it; and the same by the long program's name.
    run(&["--max-clients", "8"]).says("for at most 8 clients");
    let config = ["server", "--config", text(&file), "--max-clients", "9"];
    Program::start(crate::harness::SECURE_RDMA, &config).says("for at most 9 clients");
    for (lines, words) in [
        ("max-clients = 7\nmax-client = 7\n", "line 4: there is no option \"max-client\""),
        ("region = \"1X\"\n", "line 3: "),
        ("seal = \"sometimes\"\n", "line 3: "),
        ("seal = \n", "line 3: "),
        (
            "client-auth = \"off\"\nallow = \"/nonexistent/allow.toml\"\n",
            "--allow needs --client-auth required",
        ),
    ] {
        write(lines);
        for more in [&[][..], &["--check"]] {
            run(more).ends().failed(2, &[words]);
        }
    }
    write("client-auth = \"required\"\nallow = \"/nonexistent/allow.toml\"\n");
    run(&["--check"]).ends().failed(1, &["/nonexistent/allow.toml"]);
    fs::remove_file(&file).unwrap();
    run(&[]).ends().failed(2, &["server.toml"]);
}

#[test]
fn a_server_that_is_asked_to_end_lets_its_clients_finish() {
    let server = Server::start(&["--drain", "600"]);
    let mut client = server.client(&[]);
    client.type_line("send before");
    client.says("before");
    server.program.signal(Signal::TERM);
    server.program.says("ending; 1 clients are connected");
    // Nobody else is let in, once the task that listens has ended.
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
        thread::sleep(Duration::from_millis(5));
    }
    server.client(&[]).end().failed(1, &["can't connect"]);
    client.type_line("send after");
    client.says("after");
    client.end().succeeded();
    server.program.ends().succeeded();
}

#[test]
fn a_server_that_is_asked_twice_to_end_ends() {
    let server = Server::start(&["--drain", "600"]);
    let mut client = server.client(&[]);
    client.type_line("send before");
    client.says("before");
    server.program.signal(Signal::TERM);
    server.program.says("ending; 1 clients are connected");
    server.program.signal(Signal::TERM);
    server.program.says("client 1: dismissed");
    server.program.ends().succeeded();
}

#[test]
fn the_service_manager_is_told_when_the_server_listens_and_when_it_ends() {
    let state = State::new();
    let certs = state.path();
    fs::create_dir_all(certs.parent().unwrap()).unwrap();
    let path = certs.parent().unwrap().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = std::process::Command::new(SECURE_SERVER);
    command.args(["--listen", "127.0.0.1:0", "--certs", text(&certs)]).env("NOTIFY_SOCKET", &path);
    let server = Program::spawn(&mut command);
    let heard = || {
        let mut bytes = [0; 4096];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    assert!(heard().contains("READY=1"));
    server.says("listening on");
    server.signal(Signal::TERM);
    assert!(heard().contains("STOPPING=1"));
    server.ends().succeeded();
}
