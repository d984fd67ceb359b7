//! What the example programs share: how two ends meet over TCP, tell each other their addresses and connect
//! their queue pairs, as libibverbs's ibv_rc_pingpong does it.

pub(crate) mod end;
pub(crate) mod exchange;
pub(crate) mod meeting;

pub(crate) use end::End;
pub(crate) use meeting::Meeting;

use rdma_verbs::{
    Device, DeviceSelector, Mtu, QueuePair, QueuePairCounters, ReadyToSend, Snapshot, Transport,
};
use std::time::Duration;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The UDP port to which kernels and network cards send.
const PORT: u16 = rocev2::UDP_PORT;

/// How long an end waits for a completion: a peer that is there answers sooner, an emulated one too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The `-m` of a command line.
pub(crate) fn path_mtu(text: &str) -> Result<Mtu, &'static str> {
    text.parse().ok().and_then(Mtu::from_bytes).ok_or("give 256, 512, 1024, 2048 or 4096")
}

/// The device with its port.
pub(crate) fn with_port(device: DeviceSelector, ib_port: u8) -> DeviceSelector {
    match device {
        DeviceSelector::Named { name, port: None, gid_index } => {
            DeviceSelector::Named { name, port: Some(ib_port), gid_index }
        }
        other => other,
    }
}

/// Says on standard error what went wrong on the way, if only for a while, and what the sockets did.
pub(crate) fn report<T: Transport>(device: &Device, qp: &QueuePair<ReadyToSend, T>) {
    // libibverbs' devices don't count for each queue pair.
    if let Ok(Snapshot { counters: Some(QueuePairCounters { requester, responder }), .. }) = qp.query() {
        eprintln!(
            "retransmitted {} packets, {} timeouts; {} NAKs and {} RNR NAKs taken, {} and {} sent",
            requester.retransmitted,
            requester.timeouts,
            requester.sequence_naks,
            requester.rnr_naks,
            responder.naks,
            responder.rnr_naks
        );
    }
    let counters = device.counters().into_iter().filter(|(_, count)| *count > 0);
    let counters: Vec<_> = counters.map(|(name, count)| format!("{name} {count}")).collect();
    eprintln!("device: {}", counters.join(", "));
}
