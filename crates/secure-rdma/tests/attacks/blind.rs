//! Blind injection: an attacker off the path tries all that a packet may be. It is told all but some bits of
//! the numbers, so that all that is left can be tried; how many it would take without being told is reckoned
//! from there.

use crate::esp;
use crate::lab::{BOTH, message, run, session, silence, within};
use crate::packets::{Injector, packet, reth};
use crate::world::counted;
use rocev2::wire::{Headers, Operation};
use rocev2::{Psn, Qpn};
use secure_rdma::SealedBy::{self, Messages, Nothing, Packets};
use secure_rdma::SessionError;
use secure_rdma::seal::SealError;
use std::sync::OnceLock;
use std::time::Duration;

/// So many packets are sent before it is looked whether they have arrived: the smallest receive buffers hold them.
const BATCH: usize = 32;

/// What the attacker doesn't know of a connection's numbers: so many low bits of each.
struct Unknown {
    psn: u32,
    qpn: u32,
}

impl Unknown {
    const fn bits(&self) -> u32 {
        self.psn + self.qpn
    }
}

/// A line of the page's second table.
pub(crate) struct Line {
    pub(crate) cells: [String; 5],
}

/// Sends one packet for each possibility: one is taken. Returns how many were counted as refused for one of
/// the `reasons`. The highest PSN goes first: after the right one, lower ones are duplicates, while a higher
/// one would be the next that is expected.
async fn sweep(seal: SealedBy, unknown: &Unknown, reasons: &[&str]) -> u64 {
    let (world, client, mut server) = session(seal).await;
    let info = client.info();
    let (to, device) = (info.remote.address, &world.device);
    let before: u64 = reasons.iter().map(|reason| counted(device, reason)).sum();
    let arrived = counted(device, "datagrams_received");
    let operation = if seal == Nothing { Operation::SendOnlyImm } else { Operation::SendOnly };
    let (psns, qpns) = (1_u32 << unknown.psn, 1_u32 << unknown.qpn);
    let guesses = (0..psns).rev().flat_map(|psn| (0..qpns).map(move |qpn| (psn, qpn)));
    let guesses: Vec<Headers> = guesses
        .map(|(psn, qpn)| {
            let psn = Psn::truncate(info.own.psn.get().get() & !(psns - 1) | psn);
            let qpn = Qpn::truncate(info.remote.qpn.get() & !(qpns - 1) | qpn);
            let mut headers = packet(operation, qpn, psn);
            headers.immediate = (seal == Nothing).then_some(1);
            headers
        })
        .collect();
    let injector = Injector::new();
    let mut sent = arrived;
    for batch in guesses.chunks(BATCH) {
        for headers in batch {
            injector.send(to, headers, b"forged");
        }
        sent += batch.len() as u64;
        within(async {
            while counted(device, "datagrams_received") < sent {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        })
        .await;
    }
    let refused = reasons.iter().map(|reason| counted(device, reason)).sum::<u64>() - before;
    match seal {
        Nothing => {
            assert_eq!(message(&mut server).await, b"forged");
            silence(&mut server).await;
        }
        Messages => {
            let error = within(server.recv()).await.unwrap_err();
            assert!(matches!(error, SessionError::Forged(SealError::Message { counter: 0 })), "{error}");
        }
        Packets => esp::unharmed(client, server).await,
    }
    refused
}

/// One wrong guess at the rkey, with everything else right.
async fn guess_key(seal: SealedBy) {
    let (world, mut client, mut server) = session(seal).await;
    let info = client.info();
    let mut region = client.remote_region().unwrap();
    region.rkey ^= 1;
    let mut headers = packet(Operation::WriteOnly, info.remote.qpn, info.own.psn.get());
    headers.reth = reth(&region, 0, 6);
    Injector::new().send(info.remote.address, &headers, b"forged");
    within(server.recv()).await.unwrap_err();
    within(client.send(b"more")).await.unwrap_err();
    assert_eq!(counted(&world.device, "remote_access"), 1);
}

pub(crate) fn lines() -> &'static [Line] {
    static LINES: OnceLock<Vec<Line>> = OnceLock::new();
    LINES.get_or_init(|| run(play()))
}

async fn play() -> Vec<Line> {
    const PSN: [&str; 2] = ["out_of_sequence", "duplicate_request"];
    const QPN: [&str; 1] = ["unknown_queue_pair"];
    let all = [PSN.as_slice(), &QPN].concat();
    let sweeps: [(&str, Unknown, &[&str], &str); 4] = [
        (
            "nothing: QPN and PSN are known (elsewhere QPNs count up, and PSNs begin with 0)",
            Unknown { psn: 0, qpn: 0 },
            &[],
            "1",
        ),
        (
            "the PSN (random on every device)",
            Unknown { psn: 10, qpn: 0 },
            &PSN,
            "2^23, **extrapolated** from 10 bits to 24",
        ),
        (
            "the QPN (random on the embedded device)",
            Unknown { psn: 0, qpn: 10 },
            &QPN,
            "2^23, **extrapolated** from 10 bits to 24",
        ),
        ("both", Unknown { psn: 5, qpn: 5 }, &all, "2^47, **extrapolated** from 10 bits to 48"),
    ];
    let mut lines = Vec::new();
    for (what, unknown, reasons, average) in sweeps {
        let guesses = 1_u64 << unknown.bits();
        for seal in BOTH {
            assert_eq!(sweep(seal, &unknown, reasons).await, guesses - 1, "{what}, {seal:?}");
        }
        // Not even the right one; and of those for no queue pair there are as many.
        let refused = sweep(Packets, &unknown, &["esp_clear", "unknown_queue_pair"]).await;
        assert_eq!(refused, guesses, "{what}");
        let counted = match reasons {
            [] => "–".to_owned(),
            _ => {
                let names: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
                format!("{} as {}", guesses - 1, names.join(", "))
            }
        };
        lines.push(Line { cells: [what.into(), guesses.to_string(), "1".into(), counted, average.into()] });
    }
    for seal in BOTH {
        guess_key(seal).await;
    }
    lines.push(Line {
        cells: [
            "the rkey (random on the embedded device), for a WRITE, READ or atomic".into(),
            "1".into(),
            "0".into(),
            "1 as `remote_access`; the connection has ended".into(),
            "2^31 connections, **extrapolated** from one guess a connection to 32 bits, and for each the \
             packets above"
                .into(),
        ],
    });
    lines
}

#[test]
fn of_all_guesses_at_a_connections_numbers_one_is_taken() {
    lines();
}
