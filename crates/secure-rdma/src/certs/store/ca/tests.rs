use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;
use std::thread;

use tempfile::TempDir;

use super::super::*;
use crate::certs::issue::{self, Authority};
use crate::certs::{Authorities, Issues, Kind, Revoke, Validity, revoke};

fn store() -> (TempDir, Store) {
    let temp = TempDir::new().unwrap();
    let store = Store::open(temp.path().join("deep/state")).unwrap();
    (temp, store)
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn usual() -> Vec<Name> {
    names(&["localhost", "127.0.0.1", "::1"])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Every file of the store but the lock, with its bytes.
fn contents(store: &Store) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(store.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|path| !path.ends_with(".lock"));
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Puts a server certificate there with other names or dates than `ensure_server` would give it.
fn put_server(store: &Store, names: &[Name], kind: Kind, validity: Validity) {
    store.issue("other", names, kind, validity).unwrap();
    for part in ["", "-key"] {
        let file = |name: &str| store.dir().join(format!("{name}{part}.pem"));
        fs::rename(file("other"), file("server")).unwrap();
    }
}

#[test]
fn the_first_call_makes_a_ca_and_a_server_certificate_that_only_the_user_can_touch() {
    let (_temp, store) = store();
    let identity = store.ensure_server(&usual()).unwrap();
    assert_eq!(mode(store.dir()), 0o700);
    for (file, expected) in [
        ("ca.pem", 0o644),
        ("server.pem", 0o644),
        ("ca-key.pem", 0o600),
        ("server-key.pem", 0o600),
        (".lock", 0o600),
    ] {
        assert_eq!(mode(&store.dir().join(file)) & !0o077, expected & !0o077, "{file}");
        assert_eq!(mode(&store.dir().join(file)) & 0o077 & !expected, 0, "{file}");
    }
    let files: Vec<_> =
        contents(&store).into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(files, ["ca-key.pem", "ca.pem", "issued.jsonl", "server-key.pem", "server.pem"]);

    let [ca, server] = &store.show().unwrap()[..] else { panic!("two certificates") };
    assert_eq!((ca.kind, server.kind), (Some(Kind::Authority), Some(Kind::Server)));
    assert_eq!((&ca.issuer, &server.issuer), (&ca.subject, &ca.subject));
    assert!(ca.subject.starts_with("CN=secure-rdma private CA "), "{}", ca.subject);
    assert_eq!(server.names, ["localhost", "127.0.0.1", "::1"]);
    assert_eq!(server.fingerprint, identity.fingerprint());
    assert_eq!(ca.fingerprint, store.authority_fingerprint().unwrap());
    let days = |info: &CertificateInfo| (info.not_after.as_unix() - Timestamp::now().as_unix() + 60) / 86_400;
    assert_eq!((days(ca), days(server)), (3653, 365));

    // The CA's certificate is behind the server's, where a client with a pin looks for it.
    assert_eq!(identity.chain().len(), 2);
    assert_eq!(Fingerprint::of(&identity.chain()[1]), ca.fingerprint);
}

#[test]
fn certificates_say_what_they_may_be_used_for_and_no_more() {
    use x509_parser::extensions::ParsedExtension;
    let (_temp, store) = store();
    let identity = store.ensure_server(&usual()).unwrap();
    let ca_der = store.authority().unwrap();
    let ca = files::parse(&ca_der).unwrap();
    let server = files::parse(&identity.chain()[0]).unwrap();

    let constraints = ca.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    // Bit 5 is keyCertSign, bit 6 cRLSign, bit 0 digitalSignature (RFC 5280, section 4.2.1.3).
    assert_eq!(ca.key_usage().unwrap().unwrap().value.flags, 1 << 5 | 1 << 6);
    assert_eq!(server.key_usage().unwrap().unwrap().value.flags, 1);
    let usage = server.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
    assert!(!server.is_ca());

    // The authority key identifier leads to the CA.
    let subject_id = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let authority_id = server.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    assert!(subject_id.is_some() && subject_id == authority_id);
}

#[test]
fn serial_numbers_are_positive_of_one_length_and_different() {
    let (_temp, store) = store();
    let mut seen = BTreeSet::new();
    for n in 0..8 {
        let issued = store.issue(&format!("c{n}"), &usual(), Kind::Client, Validity::days(1)).unwrap();
        let identity = store.identity(&format!("c{n}")).unwrap();
        let serial = files::parse(&identity.chain()[0]).unwrap().raw_serial().to_vec();
        assert!(serial.len() == 16 && (0x40..0x80).contains(&serial[0]), "{serial:x?} of {issued:?}");
        assert!(seen.insert(serial));
    }
}

#[test]
fn a_second_start_changes_nothing() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let before = contents(&store);
    let again = Store::open(store.dir()).unwrap().ensure_server(&usual()[..2]).unwrap();
    assert_eq!(contents(&store), before);
    assert_eq!(again.chain()[1], store.ensure_authority().unwrap());
}

#[test]
fn where_nothing_has_to_be_made_nothing_is_written() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    // Gone are the CA's key, which may be kept elsewhere, and the lock, which only writers need.
    fs::remove_file(store.dir().join("ca-key.pem")).unwrap();
    fs::remove_file(store.dir().join(".lock")).unwrap();
    store.ensure_server(&usual()).unwrap();
    assert!(!store.dir().join(".lock").exists());
}

#[test]
fn a_name_that_the_certificate_lacks_has_it_issued_anew_by_the_same_ca() {
    let (_temp, store) = store();
    let old = store.ensure_server(&usual()).unwrap();
    let more = [usual(), names(&["node1", "10.0.0.7", "fd00::7"])].concat();
    let new = store.ensure_server(&more).unwrap();
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(new.chain()[1], old.chain()[1]);
    let info = CertificateInfo::read(PathBuf::new(), &new.chain()[0]).unwrap();
    assert_eq!(info.names, more.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn a_certificate_that_has_ended_or_soon_will_or_has_not_begun_is_issued_anew() {
    let (_temp, store) = store();
    let now = Timestamp::now();
    let day = Duration::from_secs(86_400);
    for (not_before, not_after, good) in [
        (now.minus(day * 2), now.minus(day), false),
        (now.minus(day), now.plus(day * 29), false),
        (now.plus(day), now.plus(day * 100), false),
        (now.minus(day), now.plus(day * 31), true),
    ] {
        put_server(&store, &usual(), Kind::Server, Validity { not_before, not_after });
        let before = store.identity("server").unwrap().fingerprint();
        let after = store.ensure_server(&usual()).unwrap().fingerprint();
        assert_eq!(before == after, good, "{not_before} to {not_after}");
    }
}

#[test]
fn a_certificate_for_clients_is_not_taken_for_a_servers() {
    let (_temp, store) = store();
    put_server(&store, &usual(), Kind::Client, Validity::days(100));
    let before = store.identity("server").unwrap().fingerprint();
    assert_ne!(store.ensure_server(&usual()).unwrap().fingerprint(), before);
}

#[test]
fn a_server_certificate_of_a_ca_that_is_gone_is_issued_anew() {
    let (_temp, store) = store();
    let old = store.ensure_server(&usual()).unwrap();
    fs::remove_file(store.dir().join("ca.pem")).unwrap();
    fs::remove_file(store.dir().join("ca-key.pem")).unwrap();
    let new = store.ensure_server(&usual()).unwrap();
    assert_ne!(new.chain()[1], old.chain()[1]);
    assert_eq!(new.chain()[1], store.authority().unwrap());
}

#[test]
fn a_process_killed_between_any_two_files_leaves_a_store_that_heals() {
    // The files appear in this order; each prefix is what a kill can leave, with the next file's temporary
    // one beside it.
    let order = ["ca-key.pem", "ca.pem", "server-key.pem", "server.pem"];
    let (_temp, whole) = store();
    whole.ensure_server(&usual()).unwrap();
    for killed_after in 0..order.len() {
        let (_temp, partial) = store();
        files::create_directory(partial.dir()).unwrap();
        for file in &order[..killed_after] {
            fs::copy(whole.dir().join(file), partial.dir().join(file)).unwrap();
        }
        fs::write(partial.dir().join(format!(".{}.new", order[killed_after])), "half a fi").unwrap();
        let identity = partial.ensure_server(&usual()).unwrap();
        assert_eq!(identity.chain()[1], partial.authority().unwrap(), "killed after {killed_after}");
        let leftover = contents(&partial)
            .into_iter()
            .filter(|(path, _)| path.to_string_lossy().contains(".new"))
            .count();
        assert_eq!(leftover, 0, "killed after {killed_after}");
    }
}

#[test]
fn a_key_that_does_not_fit_the_certificate_is_replaced_with_it_for_a_server_and_refused_elsewhere() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    store.issue("client", &usual(), Kind::Client, Validity::days(1)).unwrap();
    fs::copy(store.dir().join("server-key.pem"), store.dir().join("client-key.pem")).unwrap();
    assert!(matches!(store.identity("client"), Err(CertsError::KeyMismatch { .. })));

    // As after a kill between the two renames of a renewal.
    store.issue("client", &usual(), Kind::Client, Validity::days(1)).unwrap();
    fs::copy(store.dir().join("client-key.pem"), store.dir().join("server-key.pem")).unwrap();
    store.ensure_server(&usual()).unwrap();
    store.identity("server").unwrap();
}

#[test]
fn a_ca_key_of_another_ca_is_refused() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    fs::copy(store.dir().join("server-key.pem"), store.dir().join("ca-key.pem")).unwrap();
    let error = store.issue("x", &usual(), Kind::Client, Validity::days(1)).unwrap_err();
    assert!(matches!(error, CertsError::KeyMismatch { .. }), "{error}");
}

#[test]
fn first_starts_that_race_agree_on_one_ca() {
    let (_temp, store) = store();
    let barrier = Barrier::new(8);
    let identities: Vec<Identity> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(store.dir()).unwrap();
                    barrier.wait();
                    store.ensure_server(&usual()).unwrap()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let authority = store.authority().unwrap();
    for identity in &identities {
        assert_eq!(identity.chain()[1], authority);
        assert_eq!(identity.fingerprint(), identities[0].fingerprint());
    }
}

#[test]
fn a_reader_never_finds_half_a_file_while_it_is_replaced() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..50 {
                store.issue("shared", &usual(), Kind::Client, Validity::days(1)).unwrap();
            }
        });
        let path = store.dir().join("shared.pem");
        while !writer.is_finished() {
            if let Some(pem) = files::read(&path, Secrecy::Public, Named::Here).unwrap() {
                assert_eq!(files::parse_certificates(&path, &pem).unwrap().len(), 2);
            }
        }
    });
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    for open in [0o640, 0o604, 0o660, 0o644] {
        for key in ["server-key.pem", "ca-key.pem"] {
            let path = store.dir().join(key);
            chmod(&path, open);
            let error = match key {
                "server-key.pem" => store.ensure_server(&usual()).unwrap_err(),
                _ => store.issue("x", &usual(), Kind::Client, Validity::days(1)).unwrap_err(),
            };
            assert!(matches!(error, CertsError::KeyOpen { mode, .. } if mode == open), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
            chmod(&path, 0o600);
        }
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_with_the_remedy() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    for open in [0o777, 0o770, 0o702, 0o1777] {
        chmod(store.dir(), open);
        let error = Store::open(store.dir()).unwrap_err();
        assert!(matches!(error, CertsError::DirectoryOpen { mode, .. } if mode == open), "{error}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    chmod(store.dir(), 0o755);
    Store::open(store.dir()).unwrap().ensure_server(&usual()).unwrap();
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    // Only root can give a directory away, and only root and its owner may use it then.
    if std::os::unix::fs::chown(store.dir(), Some(4242), None).is_ok() {
        let error = Store::open(store.dir()).unwrap_err();
        assert!(matches!(error, CertsError::DirectoryForeign { owner: 4242, .. }), "{error}");
    }
}

#[test]
fn what_is_not_a_directory_can_not_be_a_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Store::open(file.path()), Err(CertsError::NotADirectory { .. })));
    let below = file.path().join("below");
    let error = Store::open(&below).and_then(|store| store.ensure_server(&usual()).map(drop)).unwrap_err();
    assert!(matches!(&error, CertsError::NotADirectory { path } if path == file.path()), "{error}");
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    // Root may write anywhere but here.
    let store = Store::open("/proc/secure-rdma").unwrap();
    let error = store.ensure_server(&usual()).unwrap_err();
    assert!(matches!(error, CertsError::Write { .. }), "{error}");
    assert!(error.to_string().contains("can't write /proc/secure-rdma"), "{error}");
}

#[test]
fn what_is_not_a_certificate_or_key_is_refused_by_name() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let (certificate, key) = (store.dir().join("server.pem"), store.dir().join("server-key.pem"));
    let good = fs::read_to_string(&certificate).unwrap();
    let der_cut = "-----BEGIN CERTIFICATE-----\nMIIBAA==\n-----END CERTIFICATE-----\n";
    for bad in [
        "",
        "hello",
        "\0\u{1}",
        &good[..100],
        der_cut,
        &good.replace("MII", "!!!"),
        &fs::read_to_string(&key).unwrap(),
    ] {
        fs::write(&certificate, bad).unwrap();
        let error = store.ensure_server(&usual()).unwrap_err();
        assert!(matches!(error, CertsError::NotACertificate { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("server.pem"), "{error}");
    }
    fs::write(&certificate, &good).unwrap();
    let der_cut = "-----BEGIN PRIVATE KEY-----\nMIIBAA==\n-----END PRIVATE KEY-----\n";
    for bad in ["", "hello", &good, der_cut] {
        fs::write(&key, bad).unwrap();
        let error = store.ensure_server(&usual()).unwrap_err();
        assert!(matches!(error, CertsError::NotAKey { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("server-key.pem"), "{error}");
    }
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("long");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Authorities::File(path.clone()).load(Timestamp::now()).unwrap_err();
    assert!(matches!(error, CertsError::TooLong { .. }), "{error}");
    for device in ["/dev/zero", "/dev/stdin", "/tmp"] {
        let error = Authorities::from(Path::new(device)).load(Timestamp::now()).unwrap_err();
        assert!(matches!(error, CertsError::NotAFile { .. }), "{error}");
    }
}

/// To open a FIFO for reading takes until somebody opens it for writing.
#[test]
fn what_is_no_file_and_what_lies_elsewhere_is_refused_in_the_state_directory() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    store.revoke(&[], 1).unwrap();
    let use_all = || -> Result<(), CertsError> {
        store.ensure_server(&usual())?;
        store.revoke(&[], 1)?;
        store.issues().map(drop)
    };
    for file in ["ca.pem", "server.pem", "server-key.pem", "ca-key.pem", "crl.pem", "issued.jsonl", ".lock"] {
        let (path, away) = (store.dir().join(file), store.dir().join("away"));
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        let error = use_all().unwrap_err();
        assert!(matches!(&error, CertsError::Link { path: at } if *at == path), "{file}: {error}");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = use_all().unwrap_err();
        // Nobody reads it: to open it for writing alone fails.
        let refused = match &error {
            CertsError::NotAFile { path: at } | CertsError::Read { path: at, .. } => *at == path,
            _ => false,
        };
        assert!(refused, "{file}: {error}");
        fs::rename(&away, &path).unwrap();
        use_all().unwrap();
    }
}

/// Only root can give things away.
#[test]
fn a_key_that_somebody_else_has_made_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    std::os::unix::fs::chown(store.dir().join("server-key.pem"), Some(4242), None).unwrap();
    let error = store.ensure_server(&usual()).unwrap_err();
    assert!(matches!(error, CertsError::KeyForeign { owner: 4242, .. }), "{error}");
}

/// What others could exchange is not used, and nothing is made in it.
#[test]
fn a_directory_that_others_can_exchange_is_neither_used_nor_made() {
    let temp = TempDir::new().unwrap();
    let open = temp.path().join("open");
    fs::create_dir(&open).unwrap();
    chmod(&open, 0o777);
    let error = Store::open(open.join("state")).unwrap_err();
    assert!(matches!(error, CertsError::DirectoryOpen { mode: 0o777, .. }), "{error}");
    // It was made so after the store was opened.
    let store = Store::open(temp.path().join("later/state")).unwrap();
    fs::create_dir(temp.path().join("later")).unwrap();
    chmod(&temp.path().join("later"), 0o777);
    assert!(matches!(store.ensure_server(&usual()), Err(CertsError::DirectoryOpen { .. })));
    assert!(!store.dir().exists());
}

#[test]
fn the_accounts_clients_have_a_certificate_that_is_kept_renewed_and_replaced_when_revoked() {
    let (_temp, store) = store();
    assert!(store.account_identity().unwrap().is_none());
    assert!(!store.dir().exists());
    let identity = store.ensure_account(&names(&["host.example"])).unwrap().unwrap();
    let info = CertificateInfo::read(PathBuf::new(), identity.certificate()).unwrap();
    assert_eq!((info.kind, info.names), (Some(Kind::Client), vec!["host.example".to_owned()]));
    assert_eq!(mode(&store.dir().join("account-key.pem")), 0o600);
    let own = || store.account_identity().unwrap().unwrap().fingerprint();
    let ensure = || store.ensure_account(&names(&["other.example"])).unwrap().unwrap().fingerprint();
    assert_eq!((ensure(), own()), (identity.fingerprint(), identity.fingerprint()));

    // It is shown to nobody but servers that ask for its CA's.
    let shown = store.account_identity().unwrap().unwrap();
    let authority = store.authority().unwrap();
    let name = files::parse(&authority).unwrap().subject().as_raw().to_vec();
    assert!(shown.is_for(&[b"another", &name]) && !shown.is_for(&[b"another"]) && !shown.is_for(&[]));

    // Revoked.
    store.revoke(&[Revoke::Name("account".into())], 1).unwrap();
    let second = ensure();
    assert_ne!(second, identity.fingerprint());
    assert_eq!(own(), second);
    // It ends soon; but without the CA's key it is good for something still.
    let issuer =
        Authority::load(&store.certificate_file("ca"), &store.dir().join("ca-key.pem")).unwrap().unwrap();
    store.write(&issuer, "account", &usual(), Kind::Client, Validity::days(29)).unwrap();
    let soon = own();
    let key = store.dir().join("ca-key.pem");
    fs::rename(&key, store.dir().join("away")).unwrap();
    assert_eq!(ensure(), soon);
    fs::rename(store.dir().join("away"), &key).unwrap();
    assert_ne!(ensure(), soon);
    // A server's certificate is none.
    fs::copy(store.dir().join("ca.pem"), store.dir().join("account.pem")).unwrap();
    ensure();
    // Nothing to issue it with.
    for file in ["account.pem", "ca-key.pem"] {
        fs::remove_file(store.dir().join(file)).unwrap();
    }
    assert!(store.ensure_account(&usual()).unwrap().is_none());
}

#[test]
fn a_bundle_is_all_that_a_client_needs_and_the_only_place_of_its_key() {
    let (temp, store) = store();
    let path = temp.path().join("worker.pem");
    let issued = store.issue_bundle("worker", &names(&["worker.example"]), Validity::days(2), &path).unwrap();
    assert_eq!((issued.key.as_path(), mode(&path)), (path.as_path(), 0o600));
    let bundle = crate::certs::Bundle::load(&path).unwrap();
    assert_eq!(bundle.identity.fingerprint(), issued.certificate.fingerprint);
    assert_eq!(bundle.authorities, [store.authority().unwrap()]);
    assert_eq!(bundle.identity.chain().len(), 2);
    assert!(bundle.identity.is_for(&[]));
    assert!(!store.certificate_file("worker").exists());
    assert_eq!(store.issues().unwrap().records.last().unwrap().file, "worker");
    let revoked = store.revoke(&[Revoke::Name("worker".into())], 1).unwrap();
    assert_eq!(revoked.added, [issued.certificate.serial]);

    chmod(&path, 0o644);
    assert!(matches!(crate::certs::Bundle::load(&path), Err(CertsError::KeyOpen { .. })));
    for part in ["ca.pem", "server.pem"] {
        store.ensure_server(&usual()).unwrap();
        let bytes = fs::read(store.dir().join(part)).unwrap();
        fs::write(&path, bytes).unwrap();
        chmod(&path, 0o600);
        assert!(crate::certs::Bundle::load(&path).is_err(), "{part}: it has no key, or no certificate");
    }
}

#[test]
fn all_that_was_issued_is_known_and_revoking_a_name_revokes_all_of_it() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let now = Timestamp::now();
    let past = Validity {
        not_before: now.minus(Duration::from_secs(100)),
        not_after: now.minus(Duration::from_secs(50)),
    };
    let client = |file: &str, name: &str, validity| {
        store.issue(file, &names(&[name]), Kind::Client, validity).unwrap()
    };
    let ended = client("w", "worker.example", past);
    let first = client("w", "worker.example", Validity::days(1));
    let second = client("w", "worker.example", Validity::days(1));
    let other = client("v", "worker.example", Validity::days(1));
    let stranger = client("x", "x.example", Validity::days(1));
    assert!(ended.earlier.is_empty() && first.earlier.is_empty());
    assert_eq!(
        second.earlier.iter().map(|record| &record.serial).collect::<Vec<_>>(),
        [&first.certificate.serial]
    );

    let issues = store.issues().unwrap();
    assert!(issues.complete);
    let files: Vec<_> = issues.records.iter().map(|record| record.file.as_str()).collect();
    assert_eq!(files, ["ca", "server", "w", "w", "w", "v", "x"]);
    let kinds: Vec<_> = issues.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds[..3], [Kind::Authority, Kind::Server, Kind::Client]);
    assert_eq!(issues.records[3].serial, first.certificate.serial);
    assert_eq!(issues.records[3].fingerprint, first.certificate.fingerprint);

    let revoked = |name: &str| {
        let made = store.revoke(&[Revoke::Name(name.into())], 1).unwrap();
        made.added.into_iter().collect::<BTreeSet<_>>()
    };
    let serials = |issued: &[&Issued]| {
        issued.iter().map(|issued| issued.certificate.serial.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(revoked("w"), serials(&[&first, &second]));
    assert_eq!(revoked("Worker.Example"), serials(&[&other]));
    let serial = [stranger.certificate.serial, first.certificate.serial];
    assert_eq!(store.revoked(&serial).unwrap(), [false, true]);
    for nobody in ["nobody", "ca", "..", ""] {
        let refused = store.revoke(&[Revoke::Name(nobody.into())], 1);
        assert!(matches!(refused, Err(CertsError::NothingToRevoke { .. })), "{nobody}: {refused:?}");
    }
}

/// As it was left by versions that kept no record.
#[test]
fn without_a_record_a_name_means_the_certificate_in_its_file_and_the_record_says_that_it_has_gaps() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let old = store.issue("w", &usual(), Kind::Client, Validity::days(1)).unwrap();
    fs::remove_file(store.dir().join("issued.jsonl")).unwrap();
    assert_eq!(store.issues().unwrap(), Issues { records: vec![], complete: false });
    let new = store.issue("v", &usual(), Kind::Client, Validity::days(1)).unwrap();
    let issues = store.issues().unwrap();
    assert!(!issues.complete && issues.records.len() == 1);
    let made = store.revoke(&["w", "v"].map(|name| Revoke::Name(name.into())), 1).unwrap();
    let expected = [old, new].map(|issued| issued.certificate.serial);
    assert_eq!(made.added.into_iter().collect::<BTreeSet<_>>(), expected.into());
}

#[test]
fn a_server_whose_certificate_its_own_ca_has_revoked_gets_another() {
    let (_temp, store) = store();
    let old = store.ensure_server(&usual()).unwrap();
    store.revoke(&[Revoke::Name("server".into())], 1).unwrap();
    let new = store.ensure_server(&usual()).unwrap();
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(store.ensure_server(&usual()).unwrap().fingerprint(), new.fingerprint());
}

#[test]
fn an_older_revocation_list_than_one_that_was_used_is_refused() {
    let ((_temp, store), (_other_temp, other)) = (store(), store());
    for store in [&store, &other] {
        store.ensure_authority().unwrap();
    }
    let list = |store: &Store| {
        store.revoke(&[], 1).unwrap();
        fs::read(store.certificate_file("crl")).unwrap()
    };
    let (first, second, others) = (list(&store), list(&store), list(&other));
    let path = store.dir().join("lists");
    let load = |bytes: &[u8], used: &crate::certs::Used| {
        fs::write(&path, bytes).unwrap();
        let authorities = [store.authority().unwrap()];
        crate::certs::Revocations::load(&path.as_path().into(), &authorities, used, Timestamp::now())
    };
    let remembered = store.revocations_seen();
    let mut used = crate::certs::Used { remembered: remembered.clone(), ..Default::default() };
    used.editions = load(&first, &used).unwrap().editions;
    // The newest of several counts, and other CAs' lists don't.
    let both = [&first[..], &others, &second].concat();
    used.editions = load(&both, &used).unwrap().editions.with(&used.editions);
    for good in [&second, &both] {
        load(good, &used).unwrap();
    }
    for old in [first.clone(), [&others[..], &first].concat()] {
        let error = load(&old, &used).unwrap_err();
        assert!(matches!(error, CertsError::RevocationsRolledBack { .. }), "{error}");
        for words in ["number 01", "number 02", "revocations-seen"] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[test]
fn a_store_without_a_ca_is_left_as_it_is() {
    let (_temp, store) = store();
    let error = store.authority().unwrap_err();
    assert!(matches!(error, CertsError::NoAuthority { .. }));
    assert!(error.to_string().contains(&store.dir().display().to_string()), "{error}");
    assert!(!store.dir().exists(), "looking made a directory");
}

#[test]
fn a_leaf_or_an_ended_certificate_is_no_ca() {
    let (_temp, store) = store();
    store.issue("leaf", &names(&["leaf.example"]), Kind::Server, Validity::days(1)).unwrap();
    let error = Authorities::File(store.dir().join("leaf.pem")).load(Timestamp::now()).unwrap_err();
    assert!(
        matches!(&error, CertsError::NotAnAuthority { subject, .. } if subject == "CN=leaf.example"),
        "{error}"
    );

    let key = issue::new_key().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let ended = params.self_signed(&*key).unwrap().pem();
    fs::write(store.dir().join("ca.pem"), ended).unwrap();
    let error = store.ensure_server(&usual()).unwrap_err();
    assert!(error.to_string().contains("ended on 2020-01-02 00:00:00 UTC"), "{error}");
}

#[test]
fn without_the_cas_key_a_certificate_is_used_as_long_as_it_is_good_for_something() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    fs::remove_file(store.dir().join("ca-key.pem")).unwrap();
    let before = contents(&store);
    store.ensure_server(&[usual(), names(&["10.9.9.9"])].concat()).unwrap();
    assert_eq!(contents(&store), before);

    let error = store.ensure_server(&names(&["elsewhere.example"])).unwrap_err();
    assert!(
        matches!(&error, CertsError::NoAuthorityKey { reason, .. } if reason.contains("elsewhere.example")),
        "{error}"
    );
    let error = store.issue("x", &usual(), Kind::Client, Validity::days(1)).unwrap_err();
    assert!(matches!(error, CertsError::NoAuthorityKey { .. }), "{error}");
}

#[test]
fn issuing_gives_what_was_asked_for_and_replaces_what_was_there() {
    let (_temp, store) = store();
    let now = Timestamp::now();
    let validity = Validity {
        not_before: now.minus(Duration::from_secs(100)),
        not_after: now.minus(Duration::from_secs(50)),
    };
    let issued =
        store.issue("expired-1", &names(&["A.example", "10.0.0.1"]), Kind::Client, validity).unwrap();
    assert_eq!(issued.certificate.file, store.dir().join("expired-1.pem"));
    assert_eq!(issued.key, store.dir().join("expired-1-key.pem"));
    assert_eq!(mode(&issued.key), 0o600);
    let CertificateInfo { kind, subject, names: found, not_before, not_after, .. } =
        issued.certificate.clone();
    assert_eq!((kind, subject.as_str()), (Some(Kind::Client), "CN=a.example"));
    assert_eq!(found, ["a.example", "10.0.0.1"]);
    assert_eq!((not_before, not_after), (validity.not_before, validity.not_after));

    let again = store.issue("expired-1", &usual(), Kind::Server, Validity::days(1)).unwrap();
    assert_ne!(again.certificate.fingerprint, issued.certificate.fingerprint);
    assert_eq!(store.identity("expired-1").unwrap().fingerprint(), again.certificate.fingerprint);
}

#[test]
fn impossible_certificates_are_refused_and_leave_no_trace() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let before = contents(&store);
    let now = Timestamp::now();
    let issue = |names: &[Name], kind, not_before, not_after| {
        store.issue("x", names, kind, Validity { not_before, not_after }).unwrap_err()
    };
    let later = now.plus(Duration::from_secs(60));
    assert!(matches!(issue(&[], Kind::Client, now, later), CertsError::NoNames));
    assert!(matches!(issue(&usual(), Kind::Client, later, now), CertsError::Dates { .. }));
    assert!(matches!(issue(&usual(), Kind::Client, now, now), CertsError::Dates { .. }));
    assert!(matches!(issue(&usual(), Kind::Authority, now, later), CertsError::Make(_)));
    let error = issue(&usual(), Kind::Client, now, now.plus(Duration::from_secs(4000 * 86_400)));
    assert!(error.to_string().contains("the CA itself ends on"), "{error}");
    assert!(matches!(
        issue(&usual(), Kind::Client, now, Timestamp::from_unix(u64::MAX)),
        CertsError::Dates { .. }
    ));
    assert_eq!(contents(&store), before);
}

#[test]
fn names_that_would_leave_the_directory_or_hit_other_files_are_refused() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let long = "x".repeat(101);
    for file in [
        "", ".", "..", "a/b", "../a", "/a", ".hidden", "-x", "a b", "a\0", "a\n", "é", "ca", "server", "CA",
        "Server", "account", "ca-key", "x-key", "X-Key", "crl", "CRL", &long,
    ] {
        let refused = store.issue(file, &usual(), Kind::Client, Validity::days(1));
        assert!(matches!(refused, Err(CertsError::FileName(_))), "{file:?}");
    }
    for file in ["a", "node-1.example", "ca2", "key", "server_2", &"x".repeat(100)] {
        store.issue(file, &usual(), Kind::Client, Validity::days(1)).unwrap();
    }
}

#[test]
fn a_store_that_another_process_holds_is_waited_for() {
    let (_temp, store) = store();
    let lock = store.lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.ensure_server(&usual()).map(drop));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        assert!(store.authority().is_err(), "made without the lock");
        drop(lock);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn state_belongs_where_the_xdg_specification_says() {
    let dir = |state: Option<&'static str>, home: Option<&'static str>| {
        default_dir(move |name| {
            if name == "HOME" { home } else { state.filter(|_| name == "XDG_STATE_HOME") }.map(Into::into)
        })
    };
    assert_eq!(dir(Some("/s"), Some("/h")).unwrap(), Path::new("/s/secure-rdma"));
    assert_eq!(dir(None, Some("/h")).unwrap(), Path::new("/h/.local/state/secure-rdma"));
    // Relative paths there are invalid and ignored.
    assert_eq!(dir(Some("s"), Some("/h")).unwrap(), Path::new("/h/.local/state/secure-rdma"));
    assert!(matches!(dir(Some(""), None), Err(CertsError::NoHome)));
}

#[test]
fn neither_an_identity_nor_a_store_prints_a_key() {
    let (_temp, store) = store();
    let identity = store.ensure_server(&usual()).unwrap();
    let shown = format!("{identity:?} {store:?}");
    assert!(shown.starts_with("Identity(sha256:") && shown.len() < 250, "{shown}");
}

fn member(store: &Store, file: &str) -> PathBuf {
    store.issue(file, &names(&["client.example"]), Kind::Client, Validity::days(1)).unwrap().certificate.file
}

fn serial(path: &Path) -> Serial {
    let pem = files::read_existing(path, Secrecy::Public, Named::Here).unwrap();
    let certificate = files::parse_certificates(path, &pem).unwrap().swap_remove(0);
    CertificateInfo::read(path.into(), &certificate).unwrap().serial
}

/// What a client of `store`'s CA is told when its own list is the one that is checked.
fn load(store: &Store, file: &Path) -> Result<crate::certs::Revocations, CertsError> {
    crate::certs::Revocations::load(
        &file.into(),
        &[store.authority().unwrap()],
        &crate::certs::Used::default(),
        Timestamp::now(),
    )
}

#[test]
fn a_revocation_list_is_signed_dated_numbered_and_forgets_nobody() {
    use x509_parser::prelude::FromDer;
    use x509_parser::revocation_list::CertificateRevocationList;
    let (_temp, store) = store();
    store.ensure_authority().unwrap();
    let certificates = ["a", "b", "c"].map(|file| member(&store, file));
    let serials = certificates.each_ref().map(|path| serial(path));
    let [a, b, _] = certificates.map(Revoke::File);
    let steps = [
        (vec![], 10, vec![]),
        (vec![a.clone()], 20, vec![&serials[0]]),
        (vec![], 5, vec![&serials[0]]),
        (vec![b, a, Revoke::Serial(serials[2].clone())], 30, serials.iter().collect()),
    ];
    for ((revoke, days, expected), number) in steps.into_iter().zip(1_u8..) {
        let made = store.revoke(&revoke, days).unwrap();
        assert_eq!(made.file, store.dir().join("crl.pem"));
        let revoked: BTreeSet<_> = made.revoked.iter().collect();
        assert_eq!(revoked, expected.into_iter().collect());
        let seconds = made.next_update.as_unix() - Timestamp::now().as_unix();
        assert_eq!((seconds + 60) / 86_400, u64::from(days));
        assert_eq!(load(&store, &made.file).unwrap().next_update, Some(made.next_update));

        let pem = fs::read(&made.file).unwrap();
        let der = x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents;
        let list = CertificateRevocationList::from_der(&der).unwrap().1;
        assert_eq!(list.crl_number(), Some(&number.into()));
        let found: BTreeSet<_> =
            list.iter_revoked_certificates().map(|entry| Serial::new(entry.raw_serial())).collect();
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), revoked);
    }
    // It isn't taken for a certificate.
    assert_eq!(store.show().unwrap().len(), 4);
}

/// Else nobody would take it before that date, and whoever was revoked meanwhile would be let in.
#[test]
fn a_revocation_list_is_not_dated_before_the_one_that_a_clock_ahead_has_made() {
    let (_temp, store) = store();
    store.ensure_authority().unwrap();
    let key = store.dir().join("ca-key.pem");
    let issuer = Authority::load(&store.certificate_file("ca"), &key).unwrap().unwrap();
    let (file, now, day) = (store.certificate_file("crl"), Timestamp::now(), Duration::from_secs(86_400));
    let dates = [now.plus(day * 400), now.plus(day * 430)];
    let ahead = revoke::next_list(&issuer, &file, None, &BTreeSet::new(), dates).unwrap();
    assert_eq!(ahead.dates, dates);
    fs::write(&file, ahead.pem).unwrap();
    let authorities = [store.authority().unwrap()];
    let load = |used: &crate::certs::Used| {
        crate::certs::Revocations::load(&file.as_path().into(), &authorities, used, now)
    };
    let editions = load(&crate::certs::Used::default()).unwrap().editions;
    let made = store.revoke(&[Revoke::File(member(&store, "a"))], 30).unwrap();
    assert_eq!(made.this_update, dates[0]);
    // As many days as were asked for, and the hour that clocks may be behind.
    let hour = Duration::from_secs(3600);
    assert_eq!(made.next_update, made.this_update.plus(day * 30 + hour));
    load(&crate::certs::Used { editions, remembered: "".into() }).unwrap();
}

#[test]
fn what_can_not_be_revoked_is_refused_and_the_list_stays() {
    let ((_temp, store), (_other_temp, other)) = (store(), store());
    assert!(matches!(store.revoke(&[], 1), Err(CertsError::NoAuthority { .. })));
    assert!(!store.dir().exists());
    for store in [&store, &other] {
        store.ensure_authority().unwrap();
        store.revoke(&[], 1).unwrap();
    }
    let before = contents(&store);
    let foreign = member(&other, "a");
    for path in [foreign, store.dir().join("ca.pem")] {
        let refused = store.revoke(&[Revoke::File(path)], 1);
        assert!(matches!(refused, Err(CertsError::NotIssuedHere { .. })), "{refused:?}");
    }
    let missing = store.revoke(&[Revoke::File(store.certificate_file("nobody"))], 1).unwrap_err();
    assert!(missing.to_string().contains("nobody.pem"), "{missing}");
    assert_eq!(contents(&store), before);

    // Another CA's list, or half of one, isn't continued.
    let list = store.certificate_file("crl");
    let good = fs::read(&list).unwrap();
    fs::copy(other.certificate_file("crl"), &list).unwrap();
    assert!(matches!(store.revoke(&[], 1), Err(CertsError::RevocationsForged { .. })));
    fs::write(&list, &good[..good.len() / 2]).unwrap();
    assert!(matches!(store.revoke(&[], 1), Err(CertsError::NotRevocations { .. })));
    fs::write(&list, good.repeat(2)).unwrap();
    assert!(matches!(store.revoke(&[], 1), Err(CertsError::NotRevocations { .. })));
    fs::write(&list, good).unwrap();
    fs::remove_file(store.dir().join("ca-key.pem")).unwrap();
    assert!(matches!(store.revoke(&[], 1), Err(CertsError::NoRevocationKey { .. })));
}

/// A CA as it was made when there was no revocation.
#[test]
fn a_ca_that_may_not_sign_revocation_lists_says_so() {
    let (_temp, store) = store();
    files::create_directory(store.dir()).unwrap();
    let key = store.make_key("ca").unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    store.put("ca.pem", params.self_signed(&*key).unwrap().pem().as_bytes(), Secrecy::Public).unwrap();
    let error = store.revoke(&[], 1).unwrap_err();
    assert!(matches!(error, CertsError::CannotRevoke { .. }), "{error}");
}

#[test]
fn revocation_lists_that_are_wrong_are_refused_when_they_are_read() {
    let ((_temp, store), (_other_temp, other)) = (store(), store());
    for store in [&store, &other] {
        store.ensure_authority().unwrap();
        store.revoke(&[], 1).unwrap();
    }
    let good = fs::read(store.certificate_file("crl")).unwrap();
    let others = fs::read(other.certificate_file("crl")).unwrap();
    let der = |pem: &[u8]| x509_parser::pem::parse_x509_pem(pem).unwrap().1.contents;
    let file = store.dir().join("lists");
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        load(&store, &file)
    };
    // PEM or DER, one or several, in whatever order.
    for bytes in [
        good.clone(),
        der(&good),
        [&others[..], &good].concat(),
        [der(&good), der(&others)].concat(),
        [b"a comment\n", &good[..]].concat(),
    ] {
        assert!(!read(&bytes).unwrap().is_empty());
    }
    let mut forged = der(&good);
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&forged), Err(CertsError::RevocationsForged { .. })));
    assert!(matches!(read(&others), Err(CertsError::RevocationsMissing { .. })));
    for bytes in
        [&b""[..], b"nothing", &good[..good.len() - 40], &der(&good)[..100], &[der(&good), vec![0]].concat()]
    {
        assert!(matches!(read(bytes), Err(CertsError::NotRevocations { .. })), "{}", bytes.len());
    }
    fs::remove_file(&file).unwrap();
    let error = load(&store, &file).unwrap_err();
    assert!(crate::report::Report::new(&error).to_string().contains("lists: no such file"), "{error}");

    // One that has ended.
    let issuer =
        Authority::load(&store.certificate_file("ca"), &store.dir().join("ca-key.pem")).unwrap().unwrap();
    let now = Timestamp::now();
    let dates = [now.minus(Duration::from_secs(20)), now.minus(Duration::from_secs(10))];
    let ended = revoke::next_list(&issuer, &file, None, &BTreeSet::new(), dates).unwrap().pem;
    let error = read(&ended).unwrap_err();
    assert!(matches!(error, CertsError::RevocationsExpired { .. }), "{error}");
    assert!(error.to_string().contains("who has been revoked since nobody knows"), "{error}");
}

#[test]
fn a_server_certificate_that_is_just_being_replaced_is_left_alone() {
    let (_temp, store) = store();
    store.ensure_server(&usual()).unwrap();
    let good = store.current_server(&usual()).unwrap();
    member(&store, "other");
    // The certificate is there already, its key isn't.
    fs::copy(store.dir().join("other.pem"), store.dir().join("server.pem")).unwrap();
    let before = contents(&store);
    assert!(matches!(store.current_server(&usual()), Err(CertsError::KeyMismatch { .. })));
    fs::copy(store.dir().join("other-key.pem"), store.dir().join("server-key.pem")).unwrap();
    let error = store.current_server(&usual()).unwrap_err();
    assert!(matches!(error, CertsError::NotUsable { .. }), "a client's: {error}");
    fs::copy(store.dir().join("server-key.pem"), store.dir().join("other-key.pem")).unwrap();
    for (path, bytes) in before {
        fs::write(path, bytes).unwrap();
    }
    put_server(&store, &usual(), Kind::Server, Validity::days(1));
    let before = contents(&store);
    let renewed = store.current_server(&usual()).unwrap();
    assert_ne!(renewed.fingerprint(), good.fingerprint());
    assert_eq!(contents(&store), before, "it ends soon, and is used all the same");
}
