//! A connected rsocket without memory, queue pair or clock: which WRITE may go where, what a peer's messages change,
//! and when it is to be told of room. What is received from a peer is checked against what the peer was allowed.
//!
//! Each side has a ring of send buffer, and a ring of receive buffer whose halves the peer is given in turn. A half is
//! given anew once the program has taken all of it.

use crate::wire::{ConnectData, Iomap, Message, Order, Sge, TARGETS};
use std::collections::VecDeque;

/// Send requests that are kept for messages that need no credit: credits, and the end.
pub const CONTROLS: u16 = 4;

/// Room in the send buffer below which nothing more is sent.
const LOW_WATER: u32 = 2048;

/// What a connected rsocket has room for.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Requests to send, [`CONTROLS`] of them for messages that need no credit.
    pub send_requests: u16,
    /// Receive requests: messages that the peer may have sent and this side's program not taken.
    pub recv_requests: u16,
    /// Bytes of the send buffer: at least 2048.
    pub send_len: u32,
    /// Bytes of the receive buffer: even, and not 0.
    pub recv_len: u32,
}

/// A part of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Piece {
    /// Its first byte.
    pub at: u32,
    /// Its bytes.
    pub len: u32,
}

/// A WRITE whose data is in the send buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// Its data: the second part is empty unless it goes over the ring's end.
    pub pieces: [Piece; 2],
    /// Where it goes.
    pub addr: u64,
    /// The region's remote key.
    pub key: u32,
    /// What goes with it; a direct one says nothing.
    pub message: Option<Message>,
}

impl Write {
    /// Its bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is none without data")]
    pub fn len(&self) -> u32 {
        self.pieces[0].len + self.pieces[1].len
    }
}

/// A message that needs no credit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// What goes with it.
    pub message: Message,
    /// What it writes into the peer's target list, and where: address and key.
    pub target: Option<([u8; Sge::LEN], u64, u32)>,
}

/// How a stream has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Both sides know.
    Disconnected,
    /// The connection broke.
    Broken,
    /// The peer has done what it wasn't allowed.
    Violated,
}

/// A connected rsocket.
#[derive(Debug)]
pub struct Stream {
    sizes: Sizes,
    peer: ConnectData,
    is_readable: bool,
    is_writable: bool,
    ended: Option<Ended>,

    /// Messages that were sent, and up to which number the peer receives them.
    sent: u16,
    allowed: u16,
    requests: u16,
    controls: u16,
    /// Of the send buffer: where the next byte goes, and how many are free.
    send_at: u32,
    send_free: u32,
    /// What is left of the peer's receive buffer, and which entry of the target list has the next one.
    target: Sge,
    next_target: u32,
    /// Entries of the target list that the peer has written, and that weren't looked at.
    targets: u32,

    /// Messages with data of which bytes are left.
    messages: VecDeque<u32>,
    /// Messages whose data was taken, and with which number the peer is told.
    taken: u16,
    tell_at: u16,
    /// Of the receive buffer: where the next byte is, how many are there, how many were taken and not given anew, and
    /// which half is given next.
    recv_at: u32,
    available: u32,
    recv_taken: u32,
    give_at: u32,
    /// Bytes that the peer may still send.
    open: u32,
    /// Which entry of the peer's target list is written next.
    remote_target: u32,
}

impl Stream {
    /// A connection with a peer that has sent `peer`.
    pub fn new(sizes: Sizes, peer: ConnectData) -> Self {
        let half = sizes.recv_len / 2;
        Self {
            sizes,
            peer,
            is_readable: true,
            is_writable: true,
            ended: None,
            sent: 0,
            allowed: peer.credits,
            requests: sizes.send_requests.saturating_sub(CONTROLS),
            controls: CONTROLS,
            send_at: 0,
            send_free: sizes.send_len,
            target: peer.data,
            next_target: 1,
            targets: 0,
            messages: VecDeque::new(),
            taken: 0,
            tell_at: sizes.recv_requests / 2,
            recv_at: 0,
            available: 0,
            // The first half was given with the connection, the second one is free.
            recv_taken: half,
            give_at: half,
            open: half,
            remote_target: 1,
        }
    }

    /// Whether the peer may still send.
    pub fn is_readable(&self) -> bool {
        self.is_readable && self.ended.is_none()
    }

    /// Whether this side may still send, once there is room.
    pub fn is_writable(&self) -> bool {
        self.is_writable && self.ended.is_none()
    }

    /// How it has ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Ends it, unless it has ended.
    pub fn end(&mut self, how: Ended) {
        self.ended.get_or_insert(how);
    }

    /// Which entry of this side's target list to look at: the peer's receive buffer is used up, and it has given
    /// another one. No other entry is looked at, since the peer may be writing it.
    pub fn wants_target(&self) -> Option<u32> {
        (self.target.length == 0 && self.targets > 0).then_some(self.next_target)
    }

    /// What stands in that entry.
    pub fn retarget(&mut self, target: Sge) {
        if self.wants_target().is_some() {
            self.target = target;
            self.next_target = (self.next_target + 1) % TARGETS;
            self.targets -= 1;
        }
    }

    /// Whether data may be sent now.
    pub fn can_send(&self) -> bool {
        self.is_writable() && self.can_write() && self.target.length != 0
    }

    /// Whether there is room for a WRITE: at this side, and for its message at the peer.
    pub fn can_write(&self) -> bool {
        self.requests != 0 && self.send_free >= LOW_WATER && self.sent != self.allowed
    }

    /// A WRITE of at most `len` bytes to the peer's receive buffer; `None` unless data [may be sent](Self::can_send).
    pub fn send(&mut self, len: u32) -> Option<Write> {
        if !self.can_send() {
            return None;
        }
        let len = len.min(self.send_free).min(self.target.length);
        let Sge { addr, key, .. } = self.target;
        self.target.addr = addr.wrapping_add(len.into());
        self.target.length -= len;
        self.sent = self.sent.wrapping_add(1);
        Some(Write { pieces: self.reserve(len), addr, key, message: Some(Message::Data(len)) })
    }

    /// A WRITE of at most `len` bytes to a buffer that the peer's program has mapped; `None` unless there is
    /// [room](Self::can_write).
    pub fn send_direct(&mut self, len: u32, addr: u64, key: u32) -> Option<Write> {
        self.can_write().then(|| {
            let len = len.min(self.send_free);
            Write { pieces: self.reserve(len), addr, key, message: None }
        })
    }

    /// A WRITE of an entry of the peer's list of mapped buffers; `None` if there is no such entry, or no
    /// [room](Self::can_write).
    pub fn send_iomap(&mut self, index: u16) -> Option<Write> {
        if index >= self.peer.iomaps || !self.can_write() {
            return None;
        }
        self.sent = self.sent.wrapping_add(1);
        let targets = u64::from(self.peer.targets.length) * u64::from(Sge::BYTES);
        let before = targets + u64::from(index) * u64::from(Iomap::BYTES);
        Some(Write {
            pieces: self.reserve(Iomap::BYTES),
            addr: self.peer.targets.addr.wrapping_add(before),
            key: self.peer.targets.key,
            message: Some(Message::Iomap(index.into())),
        })
    }

    fn reserve(&mut self, len: u32) -> [Piece; 2] {
        self.requests -= 1;
        self.send_free -= len;
        let first = len.min(self.sizes.send_len - self.send_at);
        let pieces = [Piece { at: self.send_at, len: first }, Piece { at: 0, len: len - first }];
        self.send_at = if pieces[1].len == 0 { self.send_at + first } else { pieces[1].len };
        if self.send_at == self.sizes.send_len {
            self.send_at = 0;
        }
        pieces
    }

    /// A WRITE of so many bytes of send buffer has left: each one that was made, once.
    pub fn sent(&mut self, len: u32) {
        self.requests = self.requests.saturating_add(1);
        self.send_free = self.send_free.saturating_add(len).min(self.sizes.send_len);
    }

    /// A message that needs no credit has left: each one that was made, once.
    pub fn controlled(&mut self, message: Message) {
        self.controls = self.controls.saturating_add(1);
        if message == Message::Disconnect {
            self.end(Ended::Disconnected);
        }
    }

    /// Whether all that was sent has left.
    pub fn is_all_sent(&self) -> bool {
        self.requests == self.sizes.send_requests.saturating_sub(CONTROLS) && self.controls == CONTROLS
    }

    /// What a peer's message changes that came with a WRITE of so many bytes.
    pub fn receive(&mut self, word: u32, written: u32) {
        match Message::decode(word) {
            Some(Message::Data(len))
                if len <= self.open && self.messages.len() < self.sizes.recv_requests.into() =>
            {
                self.open -= len;
                self.available += len;
                self.messages.push_back(len);
            }
            Some(Message::Credits(upto)) => {
                // The number has 16 bits, whatever was added to it.
                let [.., high, low] = upto.to_be_bytes();
                self.allowed = u16::from_be_bytes([high, low]);
                if written > 0 {
                    self.targets = (self.targets + 1).min(TARGETS);
                }
            }
            Some(Message::Iomap(_) | Message::Keepalive) => {}
            Some(Message::Disconnect) => self.end(Ended::Disconnected),
            Some(Message::Shutdown) => {
                self.is_readable = false;
                if !self.is_writable {
                    self.end(Ended::Disconnected);
                }
            }
            Some(Message::Data(_)) | None => self.end(Ended::Violated),
        }
    }

    /// Bytes that were received and not taken.
    pub fn available(&self) -> u32 {
        self.available
    }

    /// Where up to `most` bytes are, behind `skip` of those that are available; the piece is empty if there are none.
    pub fn look(&self, skip: u32, most: u32) -> Piece {
        let left = self.available.saturating_sub(skip);
        let at = (self.recv_at + skip.min(self.available)) % self.sizes.recv_len;
        Piece { at, len: most.min(left).min(self.sizes.recv_len - at) }
    }

    /// The program has taken so many of the bytes that are available.
    pub fn take(&mut self, len: u32) {
        let len = len.min(self.available);
        self.available -= len;
        self.recv_at = (self.recv_at + len) % self.sizes.recv_len;
        self.recv_taken += len;
        let mut left = len;
        while let Some(first) = self.messages.front_mut() {
            if *first > left {
                *first -= left;
                break;
            }
            left -= *first;
            self.messages.pop_front();
            self.taken = self.taken.wrapping_add(1);
        }
    }

    /// What the peer is to be told of room, if it is time. `buffer` is this side's receive buffer.
    pub fn credits(&mut self, buffer: Sge) -> Option<Control> {
        let half = self.sizes.recv_len / 2;
        let has_half = self.recv_taken >= half;
        // As numbers of 16 bits: at it, or behind it.
        let is_late = self.taken.wrapping_sub(self.tell_at) < 1 << 15;
        if self.ended.is_some() || self.controls == 0 || !(has_half || is_late) {
            return None;
        }
        self.controls -= 1;
        self.tell_at = self.taken.wrapping_add(self.sizes.recv_requests / 2);
        let upto = u32::from(self.taken) + u32::from(self.sizes.recv_requests);
        let target = has_half.then(|| {
            let given = Sge { addr: buffer.addr.wrapping_add(self.give_at.into()), length: half, ..buffer };
            let list = self.peer.targets;
            let addr = list.addr.wrapping_add(u64::from(self.remote_target) * Sge::LEN as u64);
            self.recv_taken -= half;
            self.open += half;
            self.give_at = if self.give_at == 0 { half } else { 0 };
            self.remote_target = (self.remote_target + 1) % list.length.max(1);
            (given.encode(self.peer.order), addr, list.key)
        });
        Some(Control { message: Message::Credits(upto), target })
    }

    /// Ends one direction or both. What the peer is to be told of it is the next
    /// [`farewell`](Self::farewell).
    pub fn shut_down(&mut self, reading: bool, writing: bool) -> Option<Message> {
        let before = (self.is_readable, self.is_writable);
        self.is_readable &= !reading;
        self.is_writable &= !writing;
        match (self.is_readable, self.is_writable) {
            now if self.ended.is_some() || now == before => None,
            (false, false) => Some(Message::Disconnect),
            (true, false) => Some(Message::Shutdown),
            _ => None,
        }
    }

    /// Takes room for a message that needs no credit, if there is some.
    pub fn farewell(&mut self, message: Message) -> Option<Control> {
        self.controls = self.controls.checked_sub(1)?;
        Some(Control { message, target: None })
    }

    /// The peer's order of bytes.
    pub fn order(&self) -> Order {
        self.peer.order
    }

    /// The entries of the peer's list of mapped buffers.
    pub fn iomaps(&self) -> u16 {
        self.peer.iomaps
    }
}

#[cfg(test)]
mod tests;
