//! Messages of connection management: what parses is written back as the same bytes, with reserved bits cleared, and
//! reads the same again.

use rocev2_cm::ip::IpAddressing;
use rocev2_cm::wire::{MAD_LEN, Mad, Message};

/// Bytes of the header that mean something: all but status, what is class-specific, and what is reserved or modifies
/// the attribute.
const HEADER: [u8; 24] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0,
    0, 0, 0,
];

pub(super) fn run(bytes: &[u8]) {
    let mad = match Mad::parse(bytes) {
        Ok(mad) => mad,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.reason().is_empty());
            return;
        }
    };
    let out = mad.encode();
    assert_eq!(bytes.len(), MAD_LEN);
    for (at, (written, read)) in out.iter().zip(bytes).enumerate() {
        match HEADER.get(at) {
            Some(mask) => assert_eq!(*written, read & mask, "byte {at}"),
            None => assert_eq!(written & !read, 0, "byte {at} has bits that weren't there"),
        }
    }
    assert_eq!(Mad::parse(&out), Ok(mad));
    addressing(&mad.message);
}

/// IP addressing in front of private data, if there is some, is written back too.
fn addressing(message: &Message) {
    let private_data = match message {
        Message::Req(req) => req.private_data.0.as_slice(),
        Message::SidrReq(req) => &req.private_data.0,
        _ => return,
    };
    let Ok((addressing, rest)) = IpAddressing::parse(private_data) else { return };
    let bytes = addressing.encode().expect("one family");
    assert_eq!(bytes.len() + rest.len(), private_data.len());
    assert_eq!(IpAddressing::parse(&bytes), Ok((addressing, [].as_slice())));
}
