//! Sealed packets over real sockets: with segmentation offload, over both IP versions, re-keyed by another thread.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(dead_code, reason = "the common module has more than this test uses")]

mod common;

use common::End;
use rocev2::Mtu;
use rocev2::work::{RemoteAddress, SendOperation, Status};
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound};
use rocev2_device::memory::Access;
use rocev2_device::{Config, Device, Receiver, SecurityAssociation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// New keys for both directions; what the last three have sealed is still taken.
fn rekey([a, b]: [&SecurityAssociation; 2], number: u8) {
    for (out, into) in [(a, b), (b, a)] {
        let material = [number, u8::from(core::ptr::eq(out, a))].repeat(18);
        let key = || Key::new(Algorithm::Aes256Gcm, &material).unwrap();
        let spi = into.allocate_spi().unwrap();
        into.install_inbound(Inbound::new(spi, key(), DEFAULT_WINDOW)).unwrap();
        out.install_outbound(
            Outbound::new(spi, key(), Inner { source_port: 4791, checksum: None }),
            Receiver::Embedded,
        );
        let inbound = into.inbound();
        inbound[..inbound.len().saturating_sub(3)].iter().for_each(|old| into.release(old.spi));
    }
}

fn sealed_pair(address: &str) -> ([End; 2], [SecurityAssociation; 2]) {
    let address = address.parse().unwrap();
    let ends = [0, 1].map(|_| {
        let device = Arc::new(
            Device::open(Config { address: Some(address), port: Some(0), ..Config::default() }).unwrap(),
        );
        let gid_index = device.gid_index(address).unwrap();
        assert_eq!(device.gids()[gid_index].sealed_mtu, Some(Mtu::B4096));
        End::on(&device, gid_index, &Arc::new(device.protection_domain()))
    });
    let associations = [0, 1].map(|at| ends[at].device.security_association());
    rekey([&associations[0], &associations[1]], 0);
    for (end, association) in ends.iter().zip(&associations) {
        end.queue_pair.seal_by(association).unwrap();
    }
    (End::connected(ends), associations)
}

#[test]
fn long_writes_and_reads_arrive_in_runs_while_keys_change() {
    const LEN: u32 = 1 << 20;
    for address in ["127.0.0.1", "::1"] {
        let ([a, b], [first, second]) = sealed_pair(address);
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ;
        let [mine, theirs] = [&a, &b].map(|end| end.domain.register(LEN as usize, access).unwrap());
        let remote = RemoteAddress { va: theirs.region().addr(), rkey: theirs.region().rkey() };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=200 {
                    rekey([&first, &second], number);
                    std::thread::sleep(core::time::Duration::from_millis(1));
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            for round in 0..20_u8 {
                let text: Vec<u8> =
                    (0..LEN).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1] ^ round).collect();
                mine.region().write(mine.region().addr(), &text).unwrap();
                let list = || a.list(mine.region().lkey(), mine.region().addr(), LEN);
                a.send(SendOperation::Write(remote), list());
                assert_eq!(a.next(), Status::Success);
                mine.region().write(mine.region().addr(), &vec![0; LEN as usize]).unwrap();
                a.send(SendOperation::Read(remote), list());
                assert_eq!(a.next(), Status::Success);
                let mut back = vec![0; LEN as usize];
                mine.region().read(mine.region().addr(), &mut back).unwrap();
                assert!(back == text, "round {round} at {address}");
            }
            done.store(true, Ordering::Relaxed);
        });
        let count = |end: &End, name| end.counters().into_iter().find(|row| row.0 == name).unwrap().1;
        for end in [&a, &b] {
            let runs = count(end, "gso_runs") > 20;
            assert_eq!(runs, cfg!(not(feature = "portable")), "{:?}", end.counters());
            for name in ["esp_not_authentic", "esp_clear", "esp_not_sent", "esp_replayed", "esp_below_window"]
            {
                assert_eq!(count(end, name), 0, "{name}: {:?}", end.counters());
            }
        }
    }
}
