//! All of it where the kernel seals: what comes in clear from the client's address is dropped before Soft-RoCE, and
//! what is sealed and was changed or repeated, too.

use super::path::{Path, dropped};
use super::requests::{add, send, to_server, write, wrong_key};
use super::{Ends, message, within};
use crate::guest::run;
use crate::middle::Caught;
use crate::network::{CLIENT, Machine, Network, SERVER};
use crate::packets::{answer, packet, request, reth};
use rocev2::wire::{NakCode, Operation, Syndrome};
use secure_rdma::{SealedBy, Session};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests and answers are forged with each PSN that the session may be at.
const PSNS: u32 = 8;

/// What the kernel counts packets as that it drops: those in clear, those that aren't authentic, and those again.
const IN_CLEAR: &str = "XfrmInTmplMismatch";
const NOT_AUTHENTIC: &str = "XfrmInStateProtoError";
const REPEATED: &str = "XfrmInStateSeqError";

/// One packet of each kind.
fn forge(client: &Session, server: &Session, behind: u32) -> Vec<Caught> {
    let info = client.info();
    let mut read = request(client, Operation::ReadRequest, behind);
    read.reth = reth(&client.remote_region().unwrap(), 0, 4000);
    let asked = server.info().own.psn.get().plus(behind);
    let mut forged = vec![
        send(client, info.remote.qpn, info.own.psn.get().plus(behind)),
        write(client, behind),
        wrong_key(client, behind),
        add(client, behind, 1),
        to_server(packet(Operation::SendLast, info.remote.qpn, info.own.psn.get().plus(behind)), b"forged"),
        to_server(read, b""),
    ];
    let answers = [Syndrome::Ack { credits: Syndrome::NO_CREDITS }, Syndrome::Nak(NakCode::InvalidRequest)];
    forged.extend(answers.map(|syndrome| to_server(answer(server.info(), asked, syndrome), b"")));
    forged
}

/// Waits until the kernel has dropped so many for that reason, and no more.
async fn drops(reason: &str, until: u64) {
    within(async {
        while dropped(reason) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(dropped(reason), until, "{reason}");
}

/// Every operation does what it did before, and both sides end in good order.
async fn unharmed(mut ends: Ends) {
    works(&mut ends).await;
    let Ends { client, mut server } = ends;
    let stays = async {
        assert!(server.recv().await.unwrap().is_none());
        server.close().await.unwrap();
    };
    let (left, ()) = within(async { tokio::join!(client.close(), stays) }).await;
    left.unwrap();
}

async fn works(Ends { client, server }: &mut Ends) {
    within(client.send(b"genuine")).await.unwrap();
    assert_eq!(message(server).await, b"genuine");
    within(server.send(b"genuine, too")).await.unwrap();
    assert_eq!(message(client).await, b"genuine, too");
    assert_eq!(within(client.read(0, 6)).await.unwrap(), [0; 6]);
    within(client.write(0, b"written")).await.unwrap();
    assert_eq!(within(server.read_local(0, 7)).await.unwrap(), b"written");
    // Nobody else has added anything.
    assert_eq!(within(client.fetch_add(1, 1)).await.unwrap(), 0);
}

#[test]
fn where_the_kernel_seals_nothing_that_is_forged_in_clear_reaches_the_device() {
    let path = Path::new(SealedBy::Packets);
    let ends = path.session();
    let before = dropped(IN_CLEAR);
    let mut sent = 0;
    for behind in 0..PSNS {
        for forged in forge(&ends.client, &ends.server, behind) {
            path.middle.send(&forged);
            sent += 1;
        }
    }
    path.run(async {
        drops(IN_CLEAR, before + sent).await;
        unharmed(ends).await;
    });
}

/// The UDP port at which the kernel takes what is sealed for the server.
fn port() -> u16 {
    let states = run("ip", &["xfrm", "state"]);
    let (_, state) = states.split_once(&format!("src {CLIENT} dst {SERVER}")).expect("its state");
    let (_, behind) = state.split_once(" dport ").expect("ESP in UDP");
    behind.split_whitespace().next().unwrap().parse().unwrap()
}

/// Has what is for that port taken at the attacker's machine, or not any more.
fn rule(verb: &str, port: u16) {
    let rule = format!("-n attack-m -6 rule {verb} iif c ipproto udp dport {port} lookup 100");
    run("ip", &rule.split(' ').collect::<Vec<_>>());
}

/// The attacker takes what is sealed for the kernel, until this is dropped: of each packet it sends on a copy of which
/// a bit is another, an old one with a number to come, the packet itself, and the packet again.
struct Meddler {
    port: u16,
    stop: Arc<AtomicBool>,
    packets: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Meddler {
    fn start() -> Self {
        let (door, port) = (Network.door(Machine::Attacker), port());
        let (stop, packets) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (Arc::clone(&stop), Arc::clone(&packets));
        let (tell, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            door();
            let taken = UdpSocket::bind((SERVER, port)).unwrap();
            taken.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let sender = UdpSocket::bind((CLIENT, 0)).unwrap();
            tell.send(()).unwrap();
            let (mut buffer, mut first) = (vec![0; 1 << 14], None);
            while !over.load(Ordering::Relaxed) {
                let Ok((len, _)) = taken.recv_from(&mut buffer) else { continue };
                let genuine = &buffer[..len];
                let mut changed = genuine.to_vec();
                *changed.last_mut().unwrap() ^= 1;
                let number = u32::from_be_bytes(genuine[4..8].try_into().unwrap());
                let mut old = first.get_or_insert_with(|| genuine.to_vec()).clone();
                old[4..8].copy_from_slice(&(number + 100_000).to_be_bytes());
                for packet in [&changed[..], &old, genuine, genuine] {
                    sender.send_to(packet, (SERVER, port)).unwrap();
                }
                count.fetch_add(1, Ordering::Release);
            }
        });
        bound.recv().unwrap();
        rule("add", port);
        Self { port, stop, packets, thread: Some(thread) }
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        rule("delete", self.port);
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn where_the_kernel_seals_what_is_changed_or_repeated_is_dropped() {
    let path = Path::new(SealedBy::Packets);
    let mut ends = path.session();
    let before = [NOT_AUTHENTIC, REPEATED].map(dropped);
    let meddler = Meddler::start();
    path.run(async {
        for round in 0..20_u8 {
            within(ends.client.send(&[round; 5000])).await.unwrap();
            assert_eq!(message(&mut ends.server).await, [round; 5000]);
        }
        works(&mut ends).await;
        let packets = || meddler.packets.load(Ordering::Acquire);
        assert!(packets() >= 40, "{}", packets());
        // The client may be sending still, such as an acknowledgement.
        let all_are_counted = || {
            let [not_authentic, repeated] = [NOT_AUTHENTIC, REPEATED].map(dropped);
            (not_authentic - before[0], repeated - before[1]) == (2 * packets(), packets())
        };
        within(async {
            while !all_are_counted() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    });
}
