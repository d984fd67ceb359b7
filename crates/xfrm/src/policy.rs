//! Policies: what has to be sealed (`xfrm_userpolicy_info`, `linux/xfrm.h`).

use crate::address::{self, Direction, Pair};
use crate::wire::{Message, array_at, attributes, u16_at, u32_at};
use crate::{ROCE_PORT, state};
use std::net::IpAddr;

pub(crate) const NEW: u16 = 0x13;
pub(crate) const DELETE: u16 = 0x14;
pub(crate) const GET: u16 = 0x15;
pub(crate) const UPDATE: u16 = 0x19;

/// `XFRMA_TMPL`.
const TEMPLATE: u16 = 5;

/// `XFRM_POLICY_ALLOW`, `XFRM_POLICY_BLOCK`.
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

/// The priority, of which less is more: no other goes first.
const PRIORITY: u32 = 0;

/// Bytes of `xfrm_selector`, `xfrm_userpolicy_info`.
const SELECTOR: usize = 56;
const INFO: usize = 168;

/// UDP's protocol number.
const UDP: u8 = 17;

/// `XFRM_INF`.
const NO_LIMIT: u64 = u64::MAX;

/// Which packets something is for (`xfrm_selector`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selector([u8; SELECTOR]);

impl Selector {
    /// Every packet.
    pub(crate) const fn any() -> Self {
        Self([0; SELECTOR])
    }

    /// RoCEv2 that goes that way between the two addresses. Soft-RoCE names no port when it looks for a policy: so on
    /// the way out it is all UDP. On the way in it is UDP to RoCEv2's port, since otherwise it would be the
    /// encapsulating packets too.
    pub(crate) fn new(pair: &Pair, direction: Direction) -> Self {
        let (source, destination) = (pair.source(direction), pair.destination(direction));
        let mut bytes = [0; SELECTOR];
        bytes[..16].copy_from_slice(&address::to_wire(destination));
        bytes[16..32].copy_from_slice(&address::to_wire(source));
        if direction == Direction::In {
            bytes[32..34].copy_from_slice(&ROCE_PORT.to_be_bytes());
            bytes[34..36].fill(0xff);
        }
        bytes[40..42].copy_from_slice(&address::family(destination).to_ne_bytes());
        bytes[42..44].fill(address::prefix(destination));
        bytes[44] = UDP;
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; SELECTOR] {
        &self.0
    }

    fn family(&self) -> u16 {
        u16::from_ne_bytes([self.0[40], self.0[41]])
    }
}

/// A request that adds a policy (`NEW`: only where there is none for the same packets) or puts it in the place of
/// another (`UPDATE`, at once). It requires a state with `reqid`, or has the packets dropped; in either case it can be
/// known by `reqid`. It doesn't expire.
pub(crate) fn message(kind: u16, selector: &Selector, direction: u8, reqid: u32, block: bool) -> Message {
    let mut message = Message::new(kind);
    message.put(selector.bytes());
    lifetime(&mut message, NO_LIMIT);
    // What has been used: the kernel's.
    message.zeros(32);
    message.u32(PRIORITY).u32(0).u8(direction).u8(if block { BLOCK } else { ALLOW }).zeros(2 + 4);
    message.attribute(TEMPLATE, |message| {
        let Selector(bytes) = selector;
        message.put(&bytes[..16]).zeros(4).u8(state::ESP).zeros(3);
        message.u16(selector.family()).zeros(2).put(&bytes[16..32]).u32(reqid);
        // Transport mode, for all users, not optional; any algorithm that a state with `reqid` has.
        message.zeros(4).put([0xff; 12]);
    });
    message
}

/// A request that deletes the policy for these packets.
pub(crate) fn delete(selector: &Selector, direction: u8) -> Message {
    let mut message = Message::new(DELETE);
    message.put(selector.bytes()).zeros(4).u8(direction).zeros(3);
    message
}

/// `xfrm_lifetime_cfg`, with no limit but of packets.
pub(crate) fn lifetime(message: &mut Message, packets: u64) {
    message.u64(NO_LIMIT).u64(NO_LIMIT).u64(NO_LIMIT).u64(packets).zeros(4 * 8);
}

/// What the kernel tells of a policy with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    pub(crate) selector: Selector,
    pub(crate) direction: u8,
    /// Where the packets come from.
    pub source: IpAddr,
    /// Where they go to.
    pub destination: IpAddr,
    /// The request ID of the states that it requires.
    pub reqid: u32,
    /// Whether it drops them.
    pub blocks: bool,
}

impl PolicyStatus {
    /// It from a message's body, if it is one of IPv4 or IPv6 with a template.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (info, rest) = body.split_at_checked(INFO)?;
        let template = attributes(rest).find(|(kind, _)| *kind == TEMPLATE)?.1;
        let family = u16_at(info, 40)?;
        Some(Self {
            selector: Selector(array_at(info, 0)?),
            direction: *info.get(160)?,
            destination: address::from_wire(array_at(info, 0)?, family)?,
            source: address::from_wire(array_at(info, 16)?, family)?,
            reqid: u32_at(template, 44)?,
            blocks: *info.get(161)? == BLOCK,
        })
    }

    /// Whether it is for what leaves this host.
    #[must_use]
    pub const fn is_out(&self) -> bool {
        self.direction == Direction::Out as u8
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::owner::FIRST;

    /// What iproute2 6.1 sends for `ip xfrm policy add src 10.77.0.2/32 dst 10.77.0.1/32 proto udp dport 4791 dir in
    /// priority 0 tmpl src 10.77.0.2 dst 10.77.0.1 proto esp reqid 0x5ec01234 mode transport`, and for `ip xfrm policy
    /// update src 10.77.0.1/32 dst 10.77.0.2/32 proto udp dir out action block tmpl src 10.77.0.1 dst 10.77.0.2 proto
    /// esp reqid 0x5ec01234 mode transport`.
    const REQUIRED: &str = include_str!("../tests/vectors/policy.hex");
    const BLOCKED: &str = include_str!("../tests/vectors/block.hex");

    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    fn policy(direction: Direction, block: bool) -> Vec<u8> {
        let pair = Pair::new("10.77.0.1".parse().unwrap(), "10.77.0.2".parse().unwrap()).unwrap();
        let selector = Selector::new(&pair, direction);
        message(NEW, &selector, direction as u8, FIRST + 0x1234, block).body().to_vec()
    }

    #[test]
    fn policies_are_what_iproute2_sends() {
        assert_eq!(policy(Direction::In, false), bytes(REQUIRED));
        assert_eq!(policy(Direction::Out, true), bytes(BLOCKED));
    }

    #[test]
    fn a_policy_is_read_and_a_part_of_one_or_one_without_template_is_not() {
        let body = policy(Direction::Out, true);
        let policy = PolicyStatus::parse(&body).unwrap();
        assert!(policy.blocks && policy.is_out());
        assert_eq!(policy.reqid, FIRST + 0x1234);
        assert_eq!((policy.source.to_string(), policy.destination.to_string()).0, "10.77.0.1");
        for cut in 0..body.len() {
            assert_eq!(PolicyStatus::parse(&body[..cut]), None);
        }
    }

    #[test]
    fn the_request_to_delete_has_the_kernels_length() {
        let pair = Pair::new("fd77::1".parse().unwrap(), "fd77::2".parse().unwrap()).unwrap();
        assert_eq!(delete(&Selector::new(&pair, Direction::Out), 1).body().len(), 64);
    }
}
