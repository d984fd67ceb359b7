//! Answers that an attacker off the path makes up while a connection is busy: they need no exact PSN.

use crate::esp;
use crate::lab::{BOTH, message, within};
use crate::middle::{Caught, Way};
use crate::packets::answer;
use crate::path::Path;
use rocev2::wire::{Aeth, NakCode, Syndrome};
use secure_rdma::SealedBy;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Requests under way when the forged answer comes, each of one packet.
const UNDER_WAY: u32 = 8;

/// Whether a NAK with a PSN that is `at` from that of the oldest request under way ends the connection. All
/// else is as the peer would have it: what it has completed (its MSN) is known, one message.
fn ends(seal: SealedBy, at: i32) -> Option<bool> {
    let path = Path::new(seal).ok()?;
    let (mut client, mut server) = path.session();
    path.run(async {
        within(client.send(b"first")).await.unwrap();
        assert_eq!(message(&mut server).await, b"first");
    });
    let info = client.info().clone();
    let oldest = info.own.psn.get().plus(1);
    let psn = if at < 0 { oldest.minus(at.unsigned_abs()) } else { oldest.plus(at.unsigned_abs()) };
    let forged = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&forged);
    let mut held = BTreeSet::new();
    path.middle.rule(move |caught, out| {
        if done.load(Ordering::Acquire) || !caught.is_send_to_server() {
            out.push(caught);
            return;
        }
        held.insert(caught.psn().get());
        if held.len() == UNDER_WAY as usize {
            let mut headers = answer(&info, psn, Syndrome::Nak(NakCode::InvalidRequest));
            headers.aeth = headers.aeth.map(|aeth| Aeth { msn: 1, ..aeth });
            out.push(Caught { way: Way::ToClient, headers, payload: Vec::new() });
            done.store(true, Ordering::Release);
        }
    });
    let over = path.run(async {
        for _ in 0..UNDER_WAY {
            within(client.post_send(b"under way")).await.unwrap();
        }
        // What was withheld is sent again, and is let pass now; before that the forged answer has come.
        within(client.send(b"last")).await.is_err()
    });
    assert!(forged.load(Ordering::Acquire));
    Some(over)
}

/// A line of the page's third table.
pub(crate) fn line() -> Option<&'static [String; 4]> {
    static LINE: OnceLock<Option<[String; 4]>> = OnceLock::new();
    LINE.get_or_init(play).as_ref()
}

fn play() -> Option<[String; 4]> {
    let under_way = i32::try_from(UNDER_WAY).unwrap();
    for seal in BOTH {
        for (at, taken) in
            [(-1, false), (0, true), (under_way / 2, true), (under_way - 1, true), (under_way, false)]
        {
            assert_eq!(ends(seal, at)?, taken, "{seal:?}, {at}");
        }
    }
    esp::naks_while_busy(&Path::new(SealedBy::Packets).ok()?, UNDER_WAY);
    Some([
        "a NAK that is fatal, with the MSN that the peer would send".into(),
        UNDER_WAY.to_string(),
        "the first, one in the middle, the last: the connection ends. None before the first, or behind the last"
            .into(),
        "2^24 / requests under way: 39,000 packets with a window of 2 MiB in packets of 4 KiB, **extrapolated**; \
         after some 80 messages the MSN has to be guessed too"
            .into(),
    ])
}

#[test]
fn while_requests_are_under_way_an_answer_to_any_of_them_is_believed() {
    line();
}
