//! One end: a queue pair and what it takes to connect it.

use super::exchange::{self, Address};
use super::{Failure, Meeting, PORT};
use rdma_verbs::{
    ConnectOptions, Connected, Device, Endpoint, GidEntry, Init, Mtu, QueuePair, Rc, ReadyToSend,
};
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::sync::Arc;

/// One end, before it is connected.
pub(crate) struct End<T: Connected = Rc> {
    device: Arc<Device>,
    qp: QueuePair<Init, T>,
    mtu: Mtu,
    gid_idx: Option<usize>,
}

/// This end's address and where in the GID table it stands.
struct Local {
    address: Address,
    gid: GidEntry,
}

impl<T: Connected> End<T> {
    /// `gid_idx` is the index of the local GID, if the user gave one.
    pub(crate) fn new(
        device: &Arc<Device>,
        qp: QueuePair<Init, T>,
        mtu: Mtu,
        gid_idx: Option<usize>,
    ) -> Self {
        Self { device: Arc::clone(device), qp, mtu, gid_idx }
    }

    /// Meets the peer and connects the queue pair; prints both addresses. `prepare` is called before the peer may send.
    pub(crate) fn meet(
        self,
        meeting: Meeting,
        out: &mut impl Write,
        prepare: impl FnOnce(&mut QueuePair<ReadyToSend, T>) -> Result<(), Failure>,
    ) -> Result<(QueuePair<ReadyToSend, T>, TcpStream), Failure> {
        let mut tell = |gid: GidEntry| -> Result<Local, Failure> {
            let local = self.local(gid)?;
            writeln!(out, "  local address:  {}", local.address)?;
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
        if !server {
            local.address.send(&stream)?;
        }
        let peer = Address::receive(&stream)?;
        if !server {
            exchange::send_done(&stream)?;
        }
        writeln!(out, "  remote address: {peer}")?;
        let address = local.address;
        let mut qp = self.connect(&local, &peer)?;
        prepare(&mut qp)?;
        if server {
            // Only now may the client send.
            address.send(&stream)?;
            exchange::receive_done(&stream)?;
        }
        Ok((qp, stream))
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
        let address = Address { lid, qpn: self.qp.qpn(), psn: self.qp.psn().get(), gid: gid.gid };
        Ok(Local { address, gid })
    }

    fn connect(self, local: &Local, peer: &Address) -> Result<QueuePair<ReadyToSend, T>, Failure> {
        if peer.lid == 0 && peer.gid.to_bytes() == [0; 16] {
            return Err("the peer told no GID, which RoCEv2 needs: give it its -g".into());
        }
        let lid = Some(peer.lid).filter(|lid| *lid != 0);
        let Address { qpn, psn, gid, .. } = *peer;
        let to = Endpoint { qpn, psn, gid, udp_port: None, lid, mtu: self.mtu, max_rd_atomic: 1 };
        let options = ConnectOptions { path_mtu: Some(self.mtu), max_rd_atomic: 1, ..Default::default() };
        self.qp.connect(&local.gid, &to, &options).map_err(|error| {
            let gid = Ipv6Addr::from(peer.gid.to_bytes());
            format!("no connection to the peer's GID {gid}: {error}").into()
        })
    }
}
