//! A UDP payload: the ICRC that is found right is the one that would be written, and one that was written is
//! found right.

use crate::input::Input;
use rocev2::icrc::{LEN, PseudoHeader};
use rocev2::wire::Bth;
use std::net::{IpAddr, SocketAddr};

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let v4 = input.flag();
    let mut end = || {
        let ip: IpAddr = if v4 { input.array::<4>().into() } else { input.array::<16>().into() };
        SocketAddr::new(ip, input.u16())
    };
    let (from, to) = (end(), end());
    let hint = input.u16();
    let datagram = input.rest();
    let Ok(path) = PseudoHeader::new(from, to) else {
        // An IPv6 address that stands for an IPv4 one.
        assert!(!v4);
        return;
    };
    let v4 = from.ip().to_canonical().is_ipv4();

    if let Ok(verified) = path.verify(hint, datagram) {
        let (packet, icrc) = datagram.split_last_chunk::<LEN>().expect("it has an ICRC");
        assert_eq!(verified.packet, packet);
        assert_eq!(verified.id.is_some(), v4, "IPv4 alone has an identification");
        assert_eq!(path.icrc(verified.id.unwrap_or(hint), packet).to_le_bytes(), *icrc);
        super::packet::run(packet);
    }

    let mut written = datagram.to_vec();
    let result = path.write(hint, &mut written);
    assert_eq!(result.is_ok(), datagram.len() >= Bth::LEN + LEN);
    if result.is_ok() {
        let verified = path.verify(hint, &written).expect("it was just written");
        assert_eq!(verified.id, v4.then_some(hint));
        // Sent with another identification than was guessed, it is solved for.
        if v4 && datagram.len() < 60_000 {
            let found = path.verify(hint.wrapping_add(1), &written).expect("it can be solved for");
            assert_eq!(found.id, Some(hint));
        }
        // Byte 4 may change on the way; beyond this length a change of one bit may look like another identification.
        let damaged = usize::from(hint) % (written.len() - LEN);
        written[damaged] ^= 1;
        let refused = path.verify(hint, &written).is_err();
        assert!(refused || damaged == 4 || written.len() > 4124, "byte {damaged} was changed");
    }
}
