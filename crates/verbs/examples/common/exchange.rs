//! What the two ends tell each other over TCP before they are connected: the stock program's records.
//!
//! ```text
//!   client                            server
//!     │ ── client's address, 52 bytes ──► │  it connects its queue pair
//!     │ ◄── server's address, 52 bytes ── │
//!     │ ── "done\0" ────────────────────► │
//! ```
//!
//! An address is `LLLL:QQQQQQ:PPPPPP:G…G` and a zero byte: LID (0 on Ethernet), queue pair number, first PSN
//! and the 32 digits of the GID's bytes, in hexadecimal. The stock program takes each record with one `read`,
//! so each is written with one `write`.

use super::Failure;
use core::fmt;
use rdma_verbs::{Gid, Psn, Qpn};
use std::io::{Read, Write};
use std::net::Ipv6Addr;

const DONE: &[u8; 5] = b"done\0";

/// The address of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) lid: u16,
    pub(crate) qpn: Qpn,
    pub(crate) psn: Psn,
    pub(crate) gid: Gid,
}

impl Address {
    const LEN: usize = 52;

    fn to_record(self) -> String {
        let gid = u128::from_be_bytes(self.gid.to_bytes());
        format!("{:04x}:{:06x}:{:06x}:{gid:032x}\0", self.lid, self.qpn.get(), self.psn.get())
    }

    fn from_record(record: &[u8]) -> Option<Self> {
        let mut fields = str::from_utf8(record).ok()?.strip_suffix('\0')?.split(':');
        let mut field = |digits: usize| {
            let text = fields.next()?;
            // `from_str_radix` would also take a sign.
            let hexadecimal = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hexadecimal { u128::from_str_radix(text, 16).ok() } else { None }
        };
        let address = Self {
            lid: u16::try_from(field(4)?).ok()?,
            qpn: Qpn::new(u32::try_from(field(6)?).ok()?)?,
            psn: Psn::new(u32::try_from(field(6)?).ok()?)?,
            gid: Gid::from(field(32)?.to_be_bytes()),
        };
        fields.next().is_none().then_some(address)
    }

    /// Tells the peer.
    pub(crate) fn send(self, mut stream: impl Write) -> Result<(), Failure> {
        let sent = stream.write_all(self.to_record().as_bytes());
        sent.map_err(|error| format!("telling the peer this end's address: {error}").into())
    }

    /// What the peer tells.
    pub(crate) fn receive(mut stream: impl Read) -> Result<Self, Failure> {
        let mut record = [0; Self::LEN];
        stream.read_exact(&mut record).map_err(|error| {
            format!("the peer didn't tell its address; its own output may say why ({error})")
        })?;
        Self::from_record(&record).ok_or_else(|| {
            let text = record.escape_ascii();
            format!("what the peer sent is no address as ibv_rc_pingpong writes it: \"{text}\"").into()
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gid = Ipv6Addr::from(self.gid.to_bytes());
        let (lid, qpn, psn) = (self.lid, self.qpn.get(), self.psn.get());
        write!(f, "LID {lid:#06x}, QPN {qpn:#08x}, PSN {psn:#08x}, GID {gid}")
    }
}

/// Tells the server that its address was read.
pub(crate) fn send_done(mut stream: impl Write) -> Result<(), Failure> {
    stream.write_all(DONE).map_err(|error| format!("telling the server to go ahead: {error}").into())
}

/// Waits until the client has read the address.
pub(crate) fn receive_done(mut stream: impl Read) -> Result<(), Failure> {
    let mut record = [0; DONE.len()];
    match stream.read_exact(&mut record) {
        Ok(()) if record == *DONE => Ok(()),
        Ok(()) => Err(format!("instead of \"done\" the client sent \"{}\"", record.escape_ascii()).into()),
        Err(error) => Err(format!("the client didn't go ahead; its own output may say why ({error})").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the stock program wrote it: rdma-core 44, rxe at 10.77.0.1.
    const RECORD: &[u8; Address::LEN] = b"0000:000011:bd5dc8:00000000000000000000ffff0a4d0001\0";

    fn address() -> Address {
        Address {
            lid: 0,
            qpn: Qpn::truncate(0x11),
            psn: Psn::truncate(0xbd_5dc8),
            gid: Gid::from("::ffff:10.77.0.1".parse::<Ipv6Addr>().unwrap().octets()),
        }
    }

    #[test]
    fn an_address_is_written_and_read_as_the_stock_program_does() {
        let mut written = Vec::new();
        address().send(&mut written).unwrap();
        assert_eq!(written, RECORD);
        assert_eq!(Address::receive(&RECORD[..]).unwrap(), address());
        assert_eq!(address().to_string(), "LID 0x0000, QPN 0x000011, PSN 0xbd5dc8, GID ::ffff:10.77.0.1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for record in [
            &b"0000:000011:bd5dc8:00000000000000000000ffff0a4d0001"[..],
            b"0000:000011:bd5dc8:00000000000000000000ffff0a4d0001 ",
            b"0000:000011:bd5dc8:00000000000000000000ffff0a4d00g1\0",
            b"0000:+00011:bd5dc8:00000000000000000000ffff0a4d0001\0",
            b"000:0000011:bd5dc8:00000000000000000000ffff0a4d0001\0",
            b"0000:000011:bd5dc8:0000000000000000:000ffff0a4d0001\0",
            b"0000:000011:bd5dc8:00000000000000000000ffff0a4d00\xff\xff\0",
            &[0; Address::LEN],
        ] {
            assert!(Address::receive(record).is_err(), "{}", record.escape_ascii());
        }
    }
}
