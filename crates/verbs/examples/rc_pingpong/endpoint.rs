//! Everything of the verbs that has to be there before the ends are connected, and what it takes to connect them.

use crate::args::Args;
use crate::exchange::Address;
use crate::{Failure, PORT, check};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use verbs::{
    Access, CompletionQueue, Device, GidEntry, Init, OwnPsn, Peer, PeerPsn, PeerRights, QueuePair,
    QueuePairLimits, ReadyToSend, ReceiveOptions, SendOptions, Slice,
};

/// The stock program's, but for the path MTU and the GID.
const MIN_RNR_TIMER: u8 = 12;
const SEND: SendOptions = SendOptions { timeout: 14, retry_count: 7, rnr_retry: 7, max_rd_atomic: 1 };

/// One end, before it is connected.
pub(crate) struct Endpoint {
    device: Arc<Device>,
    qp: QueuePair<Init>,
    queue: Arc<CompletionQueue>,
    buffers: Vec<Slice>,
    psn: OwnPsn,
}

/// One end, connected.
pub(crate) struct Connection {
    pub(crate) device: Arc<Device>,
    pub(crate) qp: QueuePair<ReadyToSend>,
    pub(crate) queue: Arc<CompletionQueue>,
    /// One more than there are receives to post. Each is as long as a message, and filled as the stock client fills its own.
    pub(crate) buffers: Vec<Slice>,
}

/// This end's address and where in the GID table it stands.
pub(crate) struct Local {
    pub(crate) address: Address,
    gid_index: usize,
}

impl Endpoint {
    pub(crate) fn open(args: &Args) -> Result<Self, Failure> {
        let device = Device::open(&args.device())?;
        let domain = device.protection_domain()?;
        let (size, depth) = (args.size, args.depth());
        let limit = device.attributes().max_message;
        if size > limit {
            return Err(format!("messages of {size} bytes: the device sends {limit} at most").into());
        }
        let channel = if args.events { Some(device.completion_channel()?) } else { None };
        let queue = device.completion_queue(depth as usize + 1, channel.as_ref())?;
        let limits = QueuePairLimits {
            max_send_requests: 1,
            max_recv_requests: depth as usize,
            max_sge: 1,
            max_inline: 0,
        };
        let qp = domain.queue_pair(&queue, &queue, limits)?.init(PeerRights::default())?;

        let count = u64::from(depth) + 1;
        let memory = usize::try_from(count * u64::from(size))?.max(1);
        let memory = domain.register(memory, Access::LOCAL_WRITE)?;
        let content = check::content(size as usize, args.chk);
        let buffer = |number| -> Result<Slice, Failure> {
            let mut slice = memory.slice(number * u64::from(size), size)?;
            slice.fill(&content)?;
            Ok(slice)
        };
        let buffers = (0..count).map(buffer).collect::<Result<_, _>>()?;
        Ok(Self { device, qp, queue, buffers, psn: OwnPsn::random()? })
    }

    /// The local GID, if it doesn't depend on the TCP connection.
    pub(crate) fn chosen_gid(&self, gid_idx: Option<usize>) -> Result<Option<GidEntry>, Failure> {
        let gids = self.device.gids();
        match gid_idx {
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
    pub(crate) fn local(&self, gid: GidEntry) -> Result<Local, Failure> {
        // An embedded device's address is in use from here on: its port is known.
        let gid = match gid.address {
            Some(address) if gid.udp_port.is_none() => self.device.gid_for(address)?,
            _ => gid,
        };
        match (gid.address, gid.udp_port) {
            (_, Some(PORT)) | (None, _) | (_, None) => {}
            (Some(ip @ IpAddr::V6(_)), Some(port)) => {
                return Err(format!(
                    "the device got UDP port {port} of {ip}, since {PORT} is taken, and an IPv6 GID has no room to tell \
                     the peer so: stop what has {PORT} (ss -ulpn shows it), or give -d embedded:ADDR with another address"
                )
                .into());
            }
            (Some(ip @ IpAddr::V4(_)), Some(port)) => eprintln!(
                "rc_pingpong: the device got UDP port {port} of {ip}, since {PORT} is taken. The GID tells an embedded device \
                 so, but a kernel's or a network card's can't be the peer: they send to {PORT} alone."
            ),
        }
        let lid = gid.lid.unwrap_or(0);
        let address = Address { lid, qpn: self.qp.qpn(), psn: self.psn.get(), gid: gid.gid };
        Ok(Local { address, gid_index: gid.index })
    }

    /// The GID to be reached at by a peer that reaches this host at `address`.
    pub(crate) fn gid_for(&self, address: IpAddr) -> Result<GidEntry, Failure> {
        Ok(self.device.gid_for(address)?)
    }

    /// Posts the receives and connects the queue pair.
    pub(crate) fn connect(self, args: &Args, local: &Local, peer: &Address) -> Result<Connection, Failure> {
        let Self { device, qp, queue, buffers, psn } = self;
        if peer.lid == 0 && peer.gid.to_bytes() == [0; 16] {
            return Err("the peer told no GID, which RoCEv2 needs: give it its -g".into());
        }
        let options = ReceiveOptions {
            gid_index: local.gid_index,
            path_mtu: args.mtu,
            max_dest_rd_atomic: 1,
            min_rnr_timer: MIN_RNR_TIMER,
        };
        let lid = Some(peer.lid).filter(|lid| *lid != 0);
        let to = Peer { qpn: peer.qpn, psn: PeerPsn::new(peer.psn), gid: peer.gid, udp_port: None, lid };
        let qp = qp.ready_to_receive(&to, &options).map_err(|error| {
            format!("no connection to the peer's GID {}: {error}", Ipv6Addr::from(peer.gid.to_bytes()))
        })?;
        let qp = qp.ready_to_send(psn, &SEND)?;
        Ok(Connection { device, qp, queue, buffers })
    }
}
