//! Whether the data path is sealed, as users choose it.

use crate::harness::Server;

#[test]
fn required_against_off_is_refused_at_both_ends_which_say_what_to_do() {
    let server = Server::start(&[]);
    let client = server.client(&["--seal", "off", "--exec", "send secret"]);
    let ended =
        client.end().failed(1, &["the peer requires it to be sealed", "start this side without --seal off"]);
    assert_eq!(ended.out, [""; 0]);
    server.program.says("start the peer without --seal off");
    server.serves();

    let server = Server::start(&["--seal", "off"]);
    server.program.says("data path: NOT sealed");
    let client = server.client(&["--exec", "send secret"]);
    let ended =
        client.end().failed(1, &["this side requires it to be sealed", "start the peer without --seal off"]);
    assert_eq!(ended.out, [""; 0]);
    server.program.says("refused 127.0.0.1:");
}

#[test]
fn what_both_take_is_what_they_have_and_both_say_it() {
    for (at_server, at_client, sealed) in [
        ("optional", "optional", true),
        ("optional", "required", true),
        ("required", "optional", true),
        ("packets", "optional", true),
        ("required", "packets", true),
        ("optional", "off", false),
        ("off", "optional", false),
        ("off", "off", false),
    ] {
        let server = Server::start(&["--seal", at_server]);
        let lines = "send hello\nwrite some data\nread 9\nadd 5\nstats\nquit\n";
        let mut client = server.client(&["--seal", at_client]);
        for line in lines.lines() {
            client.type_line(line);
        }
        let ended = client.end().succeeded();
        assert_eq!(ended.out[..4], ["hello", "9 bytes written", "some data", "0 + 5 = 5"]);
        let said = if sealed { "data path: sealed, TLS13_" } else { "data path: NOT sealed" };
        assert!(ended.err.contains(said), "{at_server}, {at_client}: {ended:?}");
        assert!(ended.out.iter().any(|line| line.starts_with(said)), "{at_server}, {at_client}: {ended:?}");
        let arrival = server.program.says("client 1: arrived");
        assert!(
            arrival.ends_with(if sealed { "data path: sealed by packets" } else { "data path: NOT sealed" }),
            "{arrival}"
        );
    }
}

#[test]
fn counters_can_be_withheld_and_the_client_says_what_to_do() {
    let server = Server::start(&["--counters", "off"]);
    let line = server.program.says("data path: ");
    assert_eq!(line, "data path: sealed");
    let ended = server.client_with("write some data\nread\nadd 5\n");
    let ended = ended.failed(1, &["no counters", "--counters on", "data path: sealed, TLS13_"]);
    assert!(!ended.err.contains("NOT sealed"), "{ended:?}");
    assert_eq!(ended.out, ["9 bytes written", "some data"]);
    server.program.says("client 1: left");
}
