//! One end: what it takes to connect queue pairs as libibverbs' pingpong programs do.

use super::exchange::{self, Address};
use super::{Failure, Meeting, PORT};
use rdma_verbs::{ConnectOptions, Device, Endpoint, Gid, GidEntry, Mtu, Psn, Qpn};
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::sync::Arc;

/// One end, before it is connected.
pub(crate) struct End {
    pub(crate) device: Arc<Device>,
    /// Its queue pairs; on datagrams and connections one.
    pub(crate) queue_pairs: Vec<(Qpn, Psn)>,
    pub(crate) mtu: Mtu,
    /// The index of the local GID, if the user gave one.
    pub(crate) gid_idx: Option<usize>,
    /// Addresses that an end tells; what has no queue pair is zero.
    pub(crate) told: usize,
}

/// The stock programs' values.
pub(crate) fn options(mtu: Mtu) -> ConnectOptions {
    ConnectOptions { path_mtu: Some(mtu), max_rd_atomic: 1, ..ConnectOptions::default() }
}

/// This end's addresses and the GID that they name.
struct Local {
    addresses: Vec<Address>,
    gid: GidEntry,
}

impl End {
    /// Meets the peer and prints both addresses. `connect` is given the local GID and the peer's queue pairs, in
    /// order, and must have posted what the peer's first messages need when it returns.
    pub(crate) fn meet<C>(
        self,
        meeting: Meeting,
        out: &mut impl Write,
        connect: impl FnOnce(&GidEntry, &[Endpoint]) -> Result<C, Failure>,
    ) -> Result<(C, TcpStream), Failure> {
        let shown = self.queue_pairs.len();
        let mut tell = |gid: GidEntry| -> Result<Local, Failure> {
            let local = self.local(gid)?;
            for address in &local.addresses[..shown] {
                writeln!(out, "  local address:  {address}")?;
            }
            Ok(local)
        };
        // Told before the client comes, if it doesn't depend on the client.
        let chosen = self.chosen_gid()?.map(&mut tell).transpose()?;
        let server = meeting.is_server();
        let stream = meeting.stream()?;
        let local = match chosen {
            Some(local) => local,
            None => tell(self.device.gid_for(stream.local_addr()?.ip().to_canonical())?)?,
        };
        let send = || local.addresses.iter().try_for_each(|address| address.send(&stream));
        if !server {
            send()?;
        }
        let peers = (0..self.told).map(|_| Address::receive(&stream)).collect::<Result<Vec<_>, _>>()?;
        if !server {
            exchange::send_done(&stream)?;
        }
        for peer in &peers[..shown] {
            writeln!(out, "  remote address: {peer}")?;
        }
        let peers = peers[..shown].iter().map(|peer| self.endpoint(peer)).collect::<Result<Vec<_>, _>>()?;
        let connected = connect(&local.gid, &peers).map_err(|error| {
            let gid = peers.first().map_or(Ipv6Addr::UNSPECIFIED, |peer| peer.gid.to_bytes().into());
            format!("no connection to the peer's GID {gid}: {error}")
        })?;
        if server {
            // Only now may the client send.
            send()?;
            exchange::receive_done(&stream)?;
        }
        Ok((connected, stream))
    }

    /// The local GID, if it doesn't depend on the TCP connection.
    fn chosen_gid(&self) -> Result<Option<GidEntry>, Failure> {
        let gids = self.device.gids();
        match self.gid_idx {
            Some(index) => match gids.iter().find(|entry| entry.index == index) {
                Some(entry) => Ok(Some(entry.clone())),
                None => {
                    let have = gids.iter().map(|entry| format!("\n  {}: {entry}", entry.index));
                    Err(format!("there is no GID {index}; the device has{}", have.collect::<String>()).into())
                }
            },
            None if gids.len() == 1 => Ok(Some(gids[0].clone())),
            None => Ok(None),
        }
    }

    /// What to tell the peer if this end uses that GID.
    fn local(&self, gid: GidEntry) -> Result<Local, Failure> {
        // An embedded device's address is in use from here on: its port is known.
        let gid = match gid.address {
            Some(address) if gid.udp_port.is_none() => self.device.gid_for(address)?,
            _ => gid,
        };
        match (gid.address, gid.udp_port) {
            (_, Some(PORT)) | (None, _) | (_, None) => {}
            (Some(ip @ IpAddr::V6(_)), Some(port)) => {
                return Err(format!(
                    "the device got UDP port {port} of {ip}, since {PORT} is taken, and an IPv6 GID has no \
                     room to tell the peer so: stop what has {PORT} (ss -ulpn shows it), or give -d \
                     embedded:ADDR with another address"
                )
                .into());
            }
            (Some(ip @ IpAddr::V4(_)), Some(port)) => eprintln!(
                "The device got UDP port {port} of {ip}, since {PORT} is taken. The GID tells an embedded \
                 device so, but a kernel's or a network card's can't be the peer: they send to {PORT} \
                 alone."
            ),
        }
        let lid = gid.lid.unwrap_or(0);
        let own = self.queue_pairs.iter().map(|&(qpn, psn)| Address { lid, qpn, psn, gid: gid.gid });
        let none = Address { lid: 0, qpn: Qpn::truncate(0), psn: Psn::truncate(0), gid: Gid::from([0; 16]) };
        let addresses = own.chain(core::iter::repeat(none)).take(self.told).collect();
        Ok(Local { addresses, gid })
    }

    fn endpoint(&self, peer: &Address) -> Result<Endpoint, Failure> {
        let Address { lid, qpn, psn, gid } = *peer;
        if lid == 0 && gid.to_bytes() == [0; 16] {
            return Err("the peer told no GID, which RoCEv2 needs: give it its -g".into());
        }
        let lid = Some(lid).filter(|lid| *lid != 0);
        Ok(Endpoint { qpn, psn, gid, udp_port: None, lid, mtu: self.mtu, max_rd_atomic: 1 })
    }
}
