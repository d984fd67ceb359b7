//! The attack lab: every attack of SECURITY.md on real sessions, open and sealed, with raw packets.
//! docs/attacks.md is what came of it.
//!
//! | file | what it holds |
//! |---|---|
//! | `injection`, `atomics`, `ending`, `memory`, `messages`, `from_server`, `one_client`, `new_keys` | the attacks |
//! | `control`, `blind`, `busy` | those on the control channel, and by guessing |
//! | `exhaustion`, `amplification` | those on what others need |
//! | `esp` | the same on sessions whose packets are sealed |
//! | `packets` | forged packets |
//! | `network`, `middle`, `path` | sessions whose packets all go through the attacker's hands |
//! | `proxy` | the same for the control channel |
//! | `page` | docs/attacks.md |
#![expect(clippy::unwrap_used, reason = "clippy knows test functions, not their helpers")]

mod amplification;
mod atomics;
mod attack;
mod blind;
mod busy;
mod control;
mod ending;
mod esp;
mod exhaustion;
mod from_server;
mod injection;
mod lab;
mod memory;
mod messages;
mod middle;
mod network;
mod new_keys;
mod one_client;
mod packets;
mod page;
mod path;
mod proxy;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../session/world.rs"]
mod world;

use page::Part;

const PARTS: &[Part] = &[
    Part {
        title: "Packets in another's name",
        attacks: &[
            &injection::SEND,
            &injection::WRITE,
            &injection::WRITE_IMMEDIATE,
            &injection::ATOMIC,
            &atomics::COMPARE_SWAP,
            &atomics::ANSWERED,
            &injection::CNP,
            &atomics::RNR_NAK,
            &messages::MADE_UP,
            &messages::ELSEWHERE,
        ],
    },
    Part {
        title: "Ending a connection",
        attacks: &[&ending::WRONG_KEY, &ending::BAD_OPCODE, &ending::NAK, &ending::READ_LENGTH],
    },
    Part {
        title: "Reading and changing what is on the way",
        attacks: &[
            &messages::READ,
            &memory::COVERT,
            &messages::CHANGED,
            &memory::READ_CHANGED,
            &memory::READ_FORGED,
            &messages::REORDERED,
            &messages::LEFT_OUT,
            &messages::WRITE_LOST,
            &messages::WRITE_WITHHELD,
            &messages::WRITE_CUT_OFF,
            &messages::WRITE_MISSED,
            &messages::NOTE_CUT_OFF,
            &messages::CUT_OFF,
            &from_server::LEFT_OUT,
            &from_server::CUT_OFF,
            &new_keys::LEFT_OUT,
            &new_keys::EXCHANGED,
        ],
    },
    Part {
        title: "What was genuine once, or elsewhere",
        attacks: &[
            &messages::REPLAYED,
            &messages::OLD_KEYS,
            &messages::RESTAMPED,
            &messages::OLD_SESSION,
            &messages::ADDRESSED_ANEW,
            &messages::REFLECTED,
            &from_server::REFLECTED,
            &messages::SPLICED,
            &one_client::MESSAGE,
            &memory::ANOTHERS_SLOT,
            &one_client::SLOT,
            &memory::SPLICED,
            &memory::ROLLED_BACK,
            &memory::ROLLED_BACK_THERE,
            &memory::ZEROED,
            &memory::READ_REPLAYED,
        ],
    },
    Part {
        title: "Other clients",
        attacks: &[
            &memory::OTHERS,
            &memory::OUTSIDE,
            &exhaustion::PLACES,
            &exhaustion::HANDSHAKES,
            &exhaustion::FLOOD,
            &amplification::REPEATED,
            &amplification::TORN,
        ],
    },
    Part {
        title: "The control channel",
        attacks: &[
            &control::IMPERSONATION,
            &control::BIT,
            &control::REPLAY,
            &one_client::RECORDS,
            &control::TLS_1_2,
            &control::PROTOCOL,
            &control::OFFER,
            &control::UNSEALED,
            &control::NO_PACKETS,
        ],
    },
];

#[test]
fn the_page_in_the_docs_is_what_came_of_the_attacks() {
    page::compare(PARTS);
}
