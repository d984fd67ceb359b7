//! Who may come, and what each may do: a server that goes by a list, and keeps to it whatever a client's program does.
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

use crate::club::Club;
use crate::hostile::{Hostile, Secured};
use crate::world::{REGION, World, bytes};
use rdma_verbs::{RemoteRegion, SendRequest, Status};
use secure_rdma::control::SealPolicy::{Off, Optional, Required};
use secure_rdma::control::{Access, ErrorKind};
use secure_rdma::tls::TlsError;
use secure_rdma::{Arrival, Report, Session, SessionError, SessionOptions};
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: &str = "send write read atomic";

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// A session works as well as ever.
async fn goes_on(client: &mut Session, server: &mut Session) {
    let (sent, received) = tokio::join!(client.send(b"still here"), server.recv());
    sent.unwrap();
    assert_eq!(received.unwrap().unwrap(), b"still here");
    client.write(0, b"here too").await.unwrap();
    assert_eq!(client.read(0, 8).await.unwrap(), b"here too");
}

/// Both ends of a session that has been used, unless it was over by then.
async fn used(world: &World) -> Option<(Session, Session)> {
    let (Ok(mut client), Arrival::Session(mut server)) = (world.connect().await, world.server.next().await)
    else {
        return None;
    };
    let used = tokio::join!(client.send(b"used"), server.recv());
    matches!(used, (Ok(()), Ok(Some(_)))).then_some((client, *server))
}

/// A session was ended by the server's new rules, for `reason`, which both sides know.
async fn is_withdrawn(client: &mut Session, server: &mut Session, reason: &str) {
    let here = within(server.recv()).await.unwrap_err();
    assert!(
        matches!(here, SessionError::Withdrawn(_)) && Report::new(&here).to_string().contains(reason),
        "{here}"
    );
    let again = server.send(b"more").await.unwrap_err();
    assert_eq!(again.to_string(), here.to_string());
    let there = within(client.ended()).await.expect("not an orderly end");
    assert!(
        matches!(&there, SessionError::Peer { code, .. } if code.kind() == Some(ErrorKind::NotAllowed)),
        "{there}"
    );
    assert!(there.to_string().contains(reason), "{there}");
}

/// What a client is told that isn't let in, and what its server knows.
async fn is_refused(world: &mut World, reason: &str) {
    let (here, there) = (world.connect().await.unwrap_err(), world.server.next().await);
    assert!(
        matches!(&here, SessionError::Peer { code, .. } if code.kind() == Some(ErrorKind::NotAllowed)),
        "{here}"
    );
    let Arrival::Refused { error: there, .. } = there else { panic!("{there:?}") };
    for error in [Report::new(&here).to_string(), there.to_string()] {
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn both_sides_know_who_the_client_is_and_what_it_may_do() {
    let club = Club::new();
    club.allow(&[("all", ALL, ""), ("some", "read send", "region = \"64K\"")]);
    let mut world = club.world().await;
    for (name, allowed, len) in
        [("all", Access::ALL, REGION), ("some", Access::READ | Access::SEND, 64 << 10)]
    {
        let (client, server) = club.session(&mut world, name, Off).await;
        assert_eq!((client.info().allowed, server.info().allowed), (allowed, allowed));
        assert_eq!((client.data_len(), server.data_len()), (len, len));
        assert_eq!(server.info().tls.peer_names.to_string(), format!("dns:{name}.example"));
        assert!(server.info().tls.peer_certificate_sha256.is_some());
        assert_eq!(client.counters(), if name == "all" { 8 } else { 0 });
    }
}

#[tokio::test]
async fn who_is_not_on_the_list_is_refused_and_both_sides_know_why() {
    let club = Club::new();
    club.allow(&[("all", ALL, "")]);
    let mut world = club.world().await;
    world.client = club.client(&world, "stranger", Required);
    is_refused(
        &mut world,
        "not on the list of allowed clients: its certificate has dns:stranger.example; sha256:",
    )
    .await;
    let (mut client, mut server) = club.session(&mut world, "all", Required).await;
    goes_on(&mut client, &mut server).await;
}

#[tokio::test]
async fn an_operation_that_is_withheld_is_refused_before_anything_is_sent() {
    for (allowed, seal) in [("write", Off), ("read", Required), ("send", Required), ("atomic", Off)] {
        let club = Club::new();
        club.allow(&[("one", allowed, "")]);
        let mut world = club.world().await;
        let (mut client, mut server) = club.session(&mut world, "one", seal).await;
        let page = bytes(4096);
        let outcomes = [
            ("send", client.send(b"a").await),
            ("write", client.write(0, &page).await),
            ("read", client.read(0, 1).await.map(drop)),
            ("atomic", client.fetch_add(0, 1).await.map(drop)),
        ];
        for (operation, outcome) in outcomes {
            match outcome {
                Ok(()) => assert_eq!(operation, allowed),
                Err(SessionError::NotAllowed { operation: named }) => {
                    assert_eq!(operation, named);
                    assert_ne!(operation, allowed);
                }
                Err(SessionError::NoCounters) => assert_ne!(allowed, "atomic"),
                Err(error) => panic!("{operation}: {error}"),
            }
        }
        // The session hasn't suffered, and the server may send in any case.
        let (sent, received) = tokio::join!(server.send(b"to you"), client.recv());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), b"to you");
    }
}

/// What is in the rest of a sealed slot is known without reading only as long as it wasn't written.
#[tokio::test]
async fn a_client_that_may_not_read_writes_a_part_of_a_sealed_slot_once_and_whole_ones_always() {
    let club = Club::new();
    club.allow(&[("writer", "write", "")]);
    let mut world = club.world().await;
    let (mut client, mut server) = club.session(&mut world, "writer", Required).await;
    client.write(10, b"a part").await.unwrap();
    assert_eq!(server.read_local(8, 10).await.unwrap(), b"\0\0a part\0\0");
    let error = client.write(0, b"another").await.unwrap_err();
    assert!(matches!(error, SessionError::PartOfSlot), "{error}");
    for seed in 0..3 {
        let page = vec![seed; 8192];
        client.write(0, &page).await.unwrap();
        assert_eq!(server.read_local(0, 8192).await.unwrap(), page);
    }
}

/// The client's library isn't asked: these requests are posted to a queue pair by hand.
#[tokio::test]
async fn withheld_one_sided_operations_are_refused_by_the_servers_device_and_cost_nobody_else_anything() {
    let club = Club::new();
    club.allow(&[
        ("other", ALL, ""),
        ("all", ALL, ""),
        ("writes", "write", ""),
        ("reads", "read", ""),
        ("sends", "send", ""),
    ]);
    let mut world = club.world().await;
    let (mut other, mut at_other) = club.session(&mut world, "other", Required).await;
    type Request = fn(&Hostile) -> SendRequest;
    let write: Request = |client| client.ranged(0, 8, |slice, range| SendRequest::write([slice], range));
    let read: Request = |client| client.ranged(0, 8, |slice, range| SendRequest::read([slice], range));
    let add: Request = |client| client.ranged(0, 8, |slice, range| SendRequest::fetch_add(slice, range, 1));
    let count: Request =
        |client| client.counted(|counters| counters, |slice, range| SendRequest::fetch_add(slice, range, 1));
    // The counters' key, the data's address.
    let count_over_data: Request = |client| {
        client.counted(
            |counters| RemoteRegion { addr: client.region.addr, ..counters },
            |slice, range| SendRequest::fetch_add(slice, range, 1),
        )
    };
    let write_counters: Request =
        |client| client.counted(|counters| counters, |slice, range| SendRequest::write([slice], range));
    let read_counters: Request =
        |client| client.counted(|counters| counters, |slice, range| SendRequest::read([slice], range));
    // The data's key, the counters' address.
    let write_past_data: Request = |client| {
        client.counted(
            |counters| RemoteRegion { rkey: client.region.rkey.expose(), ..counters },
            |slice, range| SendRequest::write([slice], range),
        )
    };
    let swap: Request =
        |client| client.ranged(0, 8, |slice, range| SendRequest::compare_swap(slice, range, 0, 1));
    for (name, request, allowed) in [
        ("all", write, true),
        ("all", read, true),
        // What atomics may reach lies elsewhere.
        ("all", add, false),
        ("all", swap, false),
        ("all", count, true),
        ("all", count_over_data, false),
        ("all", write_counters, false),
        ("all", read_counters, false),
        ("all", write_past_data, false),
        ("writes", write, true),
        ("writes", read, false),
        ("writes", add, false),
        ("writes", swap, false),
        ("reads", write, false),
        ("reads", read, true),
        ("reads", add, false),
        ("sends", write, false),
        ("sends", read, false),
        ("sends", swap, false),
    ] {
        let mut client = Hostile::connect(&world, club.identity(name)).await;
        let server = world.arrival().await;
        let region = server.region().unwrap();
        // Whoever neither reads nor writes has a byte of it.
        let len = usize::try_from(region.remote().len.min(8)).unwrap();
        region.write(0, &[7; 8][..len]).unwrap();
        assert_eq!(server.counter_region().is_some(), name == "all");
        let status = client.post(request(&client)).await;
        let refused = [Status::RemoteAccess, Status::RemoteInvalidRequest].contains(&status);
        assert_eq!((status == Status::Success, refused), (allowed, !allowed), "{name}: {status}");
        let mut found = vec![0; len];
        region.read(0, &mut found).unwrap();
        assert!(allowed || found == [7; 8][..len], "{name}: the region has changed");
        goes_on(&mut other, &mut at_other).await;
    }
}

#[tokio::test]
async fn a_message_of_a_client_that_may_not_send_is_not_delivered_and_ends_its_session() {
    let club = Club::new();
    club.allow(&[("other", ALL, ""), ("quiet", "write read atomic", "")]);
    let mut world = club.world().await;
    let (mut other, mut at_other) = club.session(&mut world, "other", Required).await;
    let mut client = Hostile::connect(&world, club.identity("quiet")).await;
    let mut server = world.arrival().await;
    assert_eq!(client.post(client.message(b"psst")).await, Status::Success, "it has arrived there");
    for _ in 0..2 {
        let error = within(server.recv()).await.unwrap_err();
        assert!(matches!(error, SessionError::Overstepped { .. }), "{error}");
    }
    let told = client.told().await;
    assert_eq!(told.0, Some(ErrorKind::NotAllowed));
    assert!(told.1.contains("sent a message"), "{}", told.1);
    goes_on(&mut other, &mut at_other).await;
}

#[tokio::test]
async fn new_rules_end_the_sessions_that_they_do_not_allow_and_no_others() {
    let club = Club::new();
    let entries = [
        ("good", ALL, ""),
        ("revoked", ALL, ""),
        ("unlisted", ALL, ""),
        ("less", ALL, ""),
        ("smaller", ALL, ""),
    ];
    club.allow(&entries);
    let mut world = club.world().await;
    let mut sessions = Vec::new();
    for (name, ..) in entries {
        sessions.push(club.session(&mut world, name, Required).await);
    }
    club.revoke("revoked");
    club.allow(&[
        ("good", ALL, ""),
        ("revoked", ALL, ""),
        ("less", "send read atomic", ""),
        ("smaller", ALL, "region = \"512K\""),
    ]);
    assert_eq!(club.reload(&world).unwrap().ended, 4);
    let reasons = [
        None,
        Some("the client's certificate has been revoked"),
        Some("not on the list of allowed clients"),
        Some("may do less now"),
        Some("a region of 524288 bytes"),
    ];
    for ((client, server), reason) in sessions.iter_mut().zip(reasons) {
        match reason {
            None => goes_on(client, server).await,
            Some(reason) => is_withdrawn(client, server, reason).await,
        }
    }
    // Nobody is told twice, and who is allowed more goes on with what it has.
    club.allow(&[("good", ALL, ""), ("less", ALL, "")]);
    assert_eq!(club.reload(&world).unwrap().ended, 0);
    let [(client, server), ..] = &mut sessions[..] else { panic!() };
    goes_on(client, server).await;
    // The new rules are those of new connections.
    world.client = club.client(&world, "unlisted", Required);
    is_refused(&mut world, "not on the list").await;
    let (mut client, mut server) = club.session(&mut world, "less", Required).await;
    goes_on(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_revoked_client_is_refused_and_told() {
    let club = Club::new();
    club.allow(&[("a", ALL, ""), ("b", ALL, "")]);
    let mut world = club.world().await;
    world.client = club.client(&world, "a", Required);
    club.revoke("a");
    club.reload(&world).unwrap();
    let error = world.connect().await.unwrap_err();
    assert!(
        Report::new(&error).to_string().contains("this client's certificate has been revoked"),
        "{error}"
    );
    let Arrival::Refused { error, .. } = world.server.next().await else { panic!("let in") };
    assert!(
        matches!(&error, SessionError::Tls(error) if matches!(**error, TlsError::Revoked { .. })),
        "{error}"
    );
    let (mut client, mut server) = club.session(&mut world, "b", Required).await;
    goes_on(&mut client, &mut server).await;
}

#[tokio::test]
async fn files_that_are_wrong_change_nothing() {
    let club = Club::new();
    club.allow(&[("good", ALL, ""), ("another", ALL, "")]);
    let mut world = club.world().await;
    let (mut client, mut server) = club.session(&mut world, "good", Required).await;
    let good = fs::read(club.list()).unwrap();
    // This alone would end the session.
    club.revoke("good");
    for (wrong, words) in [
        (b"[[client]]\nidentity = \"dns:a\"\n".to_vec(), "line 1"),
        (good[..good.len() - 10].to_vec(), "line"),
        (Vec::new(), "nobody is on it"),
        (
            [&good[..], b"[[client]]\nidentity = \"dns:a\"\noperations = [\"read\"]\nregion = \"1G\"\n"]
                .concat(),
            "gives 1048576 at most",
        ),
    ] {
        fs::write(club.list(), wrong).unwrap();
        let error = Report::new(&club.reload(&world).unwrap_err()).to_string();
        assert!(error.contains(words) && error.contains("allow.toml"), "{error}");
        goes_on(&mut client, &mut server).await;
    }
    fs::remove_file(club.list()).unwrap();
    let error = Report::new(&club.reload(&world).unwrap_err()).to_string();
    assert!(error.contains("allow.toml"), "{error}");
    goes_on(&mut client, &mut server).await;
    // The old rules are those of new connections too.
    let (mut second, mut at_second) = club.session(&mut world, "another", Required).await;
    goes_on(&mut second, &mut at_second).await;
    fs::write(club.list(), good).unwrap();
    assert_eq!(club.reload(&world).unwrap().ended, 1);
    is_withdrawn(&mut client, &mut server, "has been revoked").await;
    goes_on(&mut second, &mut at_second).await;
}

/// The rules change between a client's handshake and its session: before its first word, or before its last,
/// when its queue pair can be used already.
#[tokio::test]
async fn a_client_that_is_just_being_let_in_by_old_rules_is_turned_away() {
    let club = Club::new();
    club.allow(&[("slow", ALL, ""), ("other", ALL, "")]);
    let mut world = club.world().await;
    let (mut other, mut at_other) = club.session(&mut world, "other", Required).await;
    for last_word in [false, true] {
        let secured = Secured::connect(&world, club.identity("slow")).await;
        let told = if last_word {
            let mut client = secured.open_but_for_the_last_word().await;
            let write =
                |client: &Hostile| client.ranged(0, 8, |slice, range| SendRequest::write([slice], range));
            assert_eq!(client.post(write(&client)).await, Status::Success);
            club.revoke("slow");
            assert_eq!(club.reload(&world).unwrap().ended, 0, "it isn't a session yet");
            let told = client.told().await;
            assert_ne!(client.post(write(&client)).await, Status::Success);
            told
        } else {
            let mut secured = secured;
            // The server has finished the handshake when another client, which came later, is let in.
            let (mut later, mut at_later) = club.session(&mut world, "other", Required).await;
            goes_on(&mut later, &mut at_later).await;
            club.revoke("slow");
            club.reload(&world).unwrap();
            secured.told().await
        };
        assert_eq!(told.0, Some(ErrorKind::NotAllowed));
        assert!(told.1.contains("has been revoked"), "{}", told.1);
        let Arrival::Refused { error, .. } = world.server.next().await else { panic!("let in") };
        assert!(matches!(error, SessionError::Withdrawn(_)), "{error}");
        goes_on(&mut other, &mut at_other).await;
    }
}

/// The server's program does nothing with the session: a client that doesn't care what it is told could go on writing.
#[tokio::test]
async fn a_session_that_nobody_looks_at_ends_at_once_too() {
    let club = Club::new();
    club.allow(&[("a", ALL, "")]);
    let mut world = club.world().await;
    let mut client = Hostile::connect(&world, club.identity("a")).await;
    let server = world.arrival().await;
    let region = server.region().unwrap();
    let write = |client: &Hostile| client.ranged(0, 8, |slice, range| SendRequest::write([slice], range));
    assert_eq!(client.post(write(&client)).await, Status::Success);
    club.revoke("a");
    assert_eq!(club.reload(&world).unwrap().ended, 1);
    region.write(0, &[7; 8]).unwrap();
    assert_ne!(client.post(write(&client)).await, Status::Success);
    let mut found = [0; 8];
    region.read(0, &mut found).unwrap();
    assert_eq!(found, [7; 8]);
}

#[tokio::test]
async fn a_session_ends_with_its_clients_certificate_without_new_rules_and_others_go_on() {
    use secure_rdma::certs::{Kind, Store, Timestamp, Validity};
    let club = Club::new();
    club.allow(&[("brief", ALL, ""), ("long", ALL, "")]);
    let mut world = club.world().await;
    let store = Store::open(club.list().parent().unwrap()).unwrap();
    let mut lasting = Duration::from_secs(3);
    let (mut client, mut server, end) = loop {
        let now = Timestamp::now();
        let validity = Validity { not_before: now.minus(PATIENCE), not_after: now.plus(lasting) };
        store.issue("brief", &["brief.example".parse().unwrap()], Kind::Client, validity).unwrap();
        let identity = store.identity("brief").unwrap();
        world.client = crate::world::client(&world.dir, Some(identity), SessionOptions::default());
        match used(&world).await {
            Some((client, server)) => break (client, server, validity.not_after),
            // On a machine so slow that it had ended by then.
            None => {
                assert!(Timestamp::now() >= validity.not_after, "no session by a certificate that is valid");
            }
        }
        lasting *= 3;
        assert!(lasting < PATIENCE, "no session before its certificate ends");
    };
    let (mut other, mut others) = club.session(&mut world, "long", Off).await;
    is_withdrawn(&mut client, &mut server, "the client's certificate ended on").await;
    assert!(Timestamp::now() >= end);
    goes_on(&mut other, &mut others).await;
}

#[tokio::test]
async fn a_server_that_lets_sessions_last_for_so_long_ends_those_that_do() {
    let club = Club::new();
    club.allow(&[("one", ALL, "")]);
    let options = SessionOptions::default().seal(Optional);
    let mut age = Duration::from_secs(2);
    let (_world, mut client, mut server) = loop {
        let mut world = World::with("127.0.0.1", options, options, |config| {
            config.client_auth = club.auth();
            config.options.max_session_age = Some(age);
        })
        .await;
        world.client = club.client(&world, "one", Off);
        match used(&world).await {
            Some((client, server)) => break (world, client, server),
            // On a machine so slow that its time was over by then.
            None => age *= 4,
        }
        assert!(age < PATIENCE, "no session");
    };
    let here = within(server.recv()).await.unwrap_err();
    assert!(matches!(here, SessionError::Retired(_)), "{here}");
    let there = within(client.ended()).await.expect("not an orderly end");
    assert!(there.to_string().contains(&format!("sessions here last for {age:?} at most")), "{there}");
}

/// Neither is judged by what it couldn't read: the old rules are good for the sessions that are open.
#[tokio::test]
async fn a_server_that_turns_clients_away_says_why_until_it_has_new_rules() {
    let club = Club::new();
    club.allow(&[("one", ALL, "")]);
    let mut world = club.world().await;
    let (mut client, mut server) = club.session(&mut world, "one", Off).await;
    world.server.turn_away();
    is_refused(&mut world, "lets no new client in").await;
    goes_on(&mut client, &mut server).await;
    assert_eq!(club.reload(&world).unwrap().ended, 0);
    world.session().await;
}

#[tokio::test]
async fn an_entry_says_how_many_sessions_its_client_may_have() {
    let club = Club::new();
    club.allow(&[("one", ALL, "sessions = 1"), ("two", ALL, "sessions = 2")]);
    let mut world = club.world().await;
    let (one, one_here) = club.session(&mut world, "one", Required).await;
    let refused = world.connect().await.unwrap_err();
    assert!(refused.to_string().contains("dns:one.example has 1 sessions"), "{refused}");
    let Arrival::Refused { error, .. } = world.server.next().await else { panic!() };
    assert!(matches!(error, SessionError::Quota { max: 1, .. }), "{error}");
    let _two = [club.session(&mut world, "two", Required).await, world.session().await];
    assert!(world.connect().await.unwrap_err().to_string().contains("has 2 sessions"));
    let Arrival::Refused { .. } = world.server.next().await else { panic!() };
    // Another certificate with the same name is the same client.
    drop((one, one_here));
    let _again = club.session(&mut world, "one", Required).await;
    world.client = club.client(&world, "one", Required);
    assert!(world.connect().await.unwrap_err().to_string().contains("has 1 sessions"));
}
