//! A connected rsocket whose peer says anything, and whose program does anything: it takes no more than it has given
//! room for, hands out no byte twice, and what it sends stays within its buffer and what the peer has allowed.

use rocev2_rsocket::Stream;
use rocev2_rsocket::stream::{Control, Ended, Sizes, Write};
use rocev2_rsocket::wire::{ConnectData, Iomap, Message, Order, Sge};
use std::collections::VecDeque;

use crate::input::Input;

const SIZES: Sizes = Sizes { send_requests: 9, recv_requests: 5, send_len: 4096, recv_len: 600 };

/// What has been sent and hasn't left.
enum Leaving {
    Write(Write),
    Control(Control),
}

/// What the stream must have done, by what it was told.
#[derive(Default)]
struct Model {
    leaving: VecDeque<Leaving>,
    /// Bytes that the peer was given room for, that it has sent, and that the program has taken.
    given: u64,
    received: u64,
    taken: u64,
}

impl Model {
    fn check(&self, stream: &Stream) {
        let available = u64::from(stream.available());
        assert!(self.received <= self.given, "more than there was room for");
        assert_eq!(available, self.received - self.taken);
        let piece = stream.look(0, u32::MAX);
        assert!(piece.at + piece.len <= SIZES.recv_len && u64::from(piece.len) <= available);
        let sending = self.leaving.iter().filter_map(|leaving| match leaving {
            Leaving::Write(write) => Some(write),
            Leaving::Control(_) => None,
        });
        let (mut count, mut used) = (0, 0);
        for write in sending {
            (count, used) = (count + 1, used + write.len());
            assert!(write.pieces.iter().all(|piece| piece.at + piece.len <= SIZES.send_len));
        }
        assert!(used <= SIZES.send_len, "a byte of the send buffer is used twice");
        assert!(count + 4 <= SIZES.send_requests && self.leaving.len() <= SIZES.send_requests.into());
        assert_eq!(stream.is_all_sent(), self.leaving.is_empty());
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Some(peer) = peer(&mut input) else { return };
    let mut stream = Stream::new(SIZES, peer);
    let mut model = Model { given: u64::from(SIZES.recv_len / 2), ..Model::default() };
    while !input.is_empty() {
        step(&mut input, &mut stream, &mut model);
        model.check(&stream);
    }
}

/// What a peer says of itself: what parses says the same when it is written again.
fn peer(input: &mut Input<'_>) -> Option<ConnectData> {
    let peer = ConnectData::decode(input.bytes(ConnectData::LEN))?;
    assert_eq!(ConnectData::decode(&peer.encode()), Some(peer));
    Some(peer)
}

fn step(input: &mut Input<'_>, stream: &mut Stream, model: &mut Model) {
    match input.u8() % 9 {
        0 => {
            let (word, written) = (input.u32(), input.u8());
            receive(stream, model, word, written.into());
        }
        1 => {
            let len = input.u8();
            receive(stream, model, Message::Data(len.into()).encode(), len.into());
        }
        2 => {
            let len = u32::from(input.u16());
            let could = stream.can_send();
            let write = stream.send(len);
            assert_eq!(write.is_some(), could);
            model.leaving.extend(write.map(Leaving::Write));
        }
        3 => model.leaving.extend(stream.send_direct(input.u16().into(), input.u64(), 7).map(Leaving::Write)),
        4 => {
            let entry = Iomap { offset: input.u64(), sge: Sge { addr: 1, key: 2, length: input.u32() } };
            assert_eq!(Iomap::decode(entry.encode(Order::HOST)), entry);
            model.leaving.extend(stream.send_iomap(input.u16() % 4).map(Leaving::Write));
        }
        5 => match model.leaving.pop_front() {
            Some(Leaving::Write(write)) => stream.sent(write.len()),
            Some(Leaving::Control(control)) => stream.controlled(control.message),
            None => {}
        },
        6 => {
            let len = u32::from(input.u16()).min(stream.available());
            stream.take(len);
            model.taken += u64::from(len);
        }
        7 => {
            while let Some(control) = stream.credits(Sge { addr: 0, key: 1, length: SIZES.recv_len }) {
                if control.target.is_some() {
                    model.given += u64::from(SIZES.recv_len / 2);
                }
                model.leaving.push_back(Leaving::Control(control));
            }
            if stream.wants_target().is_some() {
                stream.retarget(Sge { addr: input.u64(), key: 3, length: input.u32() });
            }
        }
        _ => {
            let (reading, writing) = (input.flag(), input.flag());
            let message = stream.shut_down(reading, writing);
            model.leaving.extend(message.and_then(|message| stream.farewell(message)).map(Leaving::Control));
        }
    }
}

fn receive(stream: &mut Stream, model: &mut Model, word: u32, written: u32) {
    let message = Message::decode(word);
    assert!(message.is_none_or(|message| message.encode() == word));
    let before = stream.available();
    let had_ended = stream.ended();
    stream.receive(word, written);
    let more = stream.available() - before;
    model.received += u64::from(more);
    match message {
        Some(Message::Data(len)) => {
            assert!(more == len || stream.ended() == had_ended.or(Some(Ended::Violated)));
        }
        _ => assert_eq!(more, 0),
    }
}
