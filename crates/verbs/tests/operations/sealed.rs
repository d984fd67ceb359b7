//! Queue pairs whose packets are sealed by ESP: between embedded devices, and between one and Soft-RoCE behind the
//! kernel's IPsec, both re-keyed while they are used.

use crate::common::{End, PATIENCE, Place, Setup, connect_prepared, pattern, places};
use rdma_verbs::esp::replay::DEFAULT_WINDOW;
use rdma_verbs::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi};
use rdma_verbs::{Error, QueuePair, Receiver, RecvRequest, SecurityAssociation, SendRequest, Status};
use secure_rdma_xfrm::{Association, Encapsulation, Kernel, Pair, Ports};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const LEN: u32 = 300_000;

/// Key and salt.
type Material = [u8; 36];

/// How one end seals.
enum Seal {
    Embedded(SecurityAssociation),
    Kernel(InKernel),
}

/// The kernel's IPsec in front of Soft-RoCE.
struct InKernel {
    kernel: Kernel,
    association: Association,
    encapsulation: Encapsulation,
    ports: Ports,
}

impl InKernel {
    fn new(own: &End, peer: &End) -> Self {
        let [own, other] = [own, peer].map(|end| end.gid.address.expect("RoCE"));
        let kernel = Kernel::open().expect("the right to set up IPsec");
        kernel.sweep().expect("swept");
        let encapsulation = Encapsulation::open(own).expect("a UDP socket");
        let ports = Ports { own: encapsulation.port(), peer: peer.gid.udp_port.expect("bound") };
        let pair = Pair::new(own, other).expect("two hosts");
        let association = Association::open(&kernel, pair).expect("no policy between them");
        Self { kernel, association, encapsulation, ports }
    }

    fn install(&mut self, out: bool, spi: Spi, material: &Material) {
        let Self { kernel, association, ports, .. } = self;
        let material = secure_rdma_xfrm::Material::new(material).expect("32 bytes and salt");
        let install = if out { Association::install_outbound } else { Association::install_inbound };
        install(association, kernel, spi.number(), *ports, &material)
            .expect("the kernel has ESP and AES-GCM");
    }
}

impl Seal {
    fn new(own: &End, peer: &End) -> Self {
        if own.place.is_embedded() {
            Self::Embedded(own.device.security_association().expect("the embedded device seals"))
        } else {
            assert!(matches!(own.device.security_association(), Err(Error::Unsupported { .. })));
            Self::Kernel(InKernel::new(own, peer))
        }
    }

    fn spi(&mut self) -> Spi {
        match self {
            Self::Embedded(association) => association.allocate_spi().expect("an SPI"),
            Self::Kernel(InKernel { kernel, association, .. }) => {
                Spi::new(association.allocate_spi(kernel).expect("an SPI")).expect("not reserved")
            }
        }
    }

    fn install_inbound(&mut self, spi: Spi, material: &Material) {
        match self {
            Self::Embedded(association) => {
                association
                    .install_inbound(Inbound::new(spi, key(material), DEFAULT_WINDOW))
                    .expect("allocated");
            }
            Self::Kernel(kernel) => kernel.install(false, spi, material),
        }
    }

    fn install_outbound(&mut self, spi: Spi, material: &Material, source_port: u16, receiver: Receiver) {
        match self {
            Self::Embedded(association) => {
                let inner = Inner { source_port, checksum: None };
                association.install_outbound(Outbound::new(spi, key(material), inner), receiver);
            }
            Self::Kernel(kernel) => kernel.install(true, spi, material),
        }
    }

    /// Where packets to it are opened, if that isn't where the device takes them.
    fn port(&self) -> Option<u16> {
        match self {
            Self::Embedded(_) => None,
            Self::Kernel(kernel) => Some(kernel.encapsulation.port()),
        }
    }

    /// Takes no more packets under an old key.
    fn release_inbound(&mut self, old: Spi) {
        if let Self::Kernel(InKernel { kernel, association, .. }) = self {
            assert!(association.packets(kernel, old.number()).expect("the kernel counts") > 0);
            association.release(kernel, old.number()).expect("released");
        }
    }

    fn receiver(&self) -> Receiver {
        match self {
            Self::Embedded(_) => Receiver::Embedded,
            Self::Kernel(_) => Receiver::Kernel,
        }
    }
}

fn key(material: &Material) -> Key {
    Key::new(Algorithm::Aes256Gcm, material).expect("32 bytes and salt")
}

/// New keys in both directions; returns the SPIs of what arrives at each.
fn rekey(seals: &mut [Seal; 2], ports: [u16; 2], number: u8) -> [Spi; 2] {
    [0, 1].map(|to| {
        let [first, second] = seals;
        let (into, out) = if to == 0 { (first, second) } else { (second, first) };
        let material = [number, 0x10 + u8::from(to == 0)].repeat(18).try_into().expect("36 bytes");
        let spi = into.spi();
        into.install_inbound(spi, &material);
        out.install_outbound(spi, &material, ports[1 - to], into.receiver());
        spi
    })
}

fn counter(end: &End, name: &str) -> u64 {
    end.device.counters().into_iter().find(|row| row.0 == name).map_or(0, |row| row.1)
}

/// A message, a write, a read and an atomic from `a` to `b`.
fn use_it(a: &mut End, b: &mut End, round: u8) {
    let data = pattern(LEN as usize, round);
    let slice = b.memory.slice(0, LEN).expect("free");
    b.qp().post_recv(RecvRequest::new([slice])).expect("posted");
    let mut slice = a.memory.slice(0, LEN).expect("free");
    slice.fill(&data).expect("it fits");
    a.qp().post_send(SendRequest::send([slice])).expect("posted");
    let mut got = vec![0; LEN as usize];
    b.done().slice().expect("one").read(0, &mut got).expect("inside");
    assert!(got == data, "round {round}");
    let remote = b.memory.remote().range(1 << 20, LEN.into()).expect("inside");
    let slice = core::mem::take(&mut a.done().slices).pop().expect("one");
    a.qp().post_send(SendRequest::write([slice], remote)).expect("posted");
    drop(a.done());
    b.memory.read(1 << 20, &mut got).expect("inside");
    assert!(got == data, "round {round}");
    let slice = a.memory.slice(1 << 20, LEN).expect("free");
    a.qp().post_send(SendRequest::read([slice], remote)).expect("posted");
    a.done().slice().expect("one").read(0, &mut got).expect("inside");
    assert!(got == data, "round {round}");
}

#[test]
fn everything_is_sealed_between_any_two_devices_of_which_one_is_embedded_also_while_keys_change() {
    let [first, second] = places();
    let kernels = [&first, &second].into_iter().filter(|place| !Place::is_embedded(place)).count();
    if kernels == 2 {
        return;
    }
    for v6 in [false, true] {
        seal_everything(v6);
    }
}

fn seal_everything(v6: bool) {
    let mut sealed = None;
    let setup = Setup { v6, ..Setup::default() };
    let (mut a, mut b) = connect_prepared(&setup, |ends, endpoints| {
        let [(a, qp_a), (b, qp_b)] = ends;
        let ports = [a, b].map(|end| end.gid.udp_port.expect("RoCE"));
        let mut seals = [Seal::new(a, b), Seal::new(b, a)];
        let spis = rekey(&mut seals, ports, 0);
        for ((seal, qp), endpoint) in seals.iter().zip([qp_a, qp_b]).zip(endpoints) {
            endpoint.udp_port = seal.port().or(endpoint.udp_port);
            if let Seal::Embedded(association) = seal {
                seal_by(qp, association);
            }
        }
        sealed = Some((seals, ports, spis));
    });
    let (mut seals, ports, mut spis) = sealed.expect("prepared");
    use_it(&mut a, &mut b, 1);
    use_it(&mut b, &mut a, 2);
    for number in 1..=3 {
        let old = spis;
        spis = rekey(&mut seals, ports, number);
        use_it(&mut a, &mut b, 10 + number);
        use_it(&mut b, &mut a, 20 + number);
        // All is acknowledged: nothing under the old keys is on its way.
        seals.iter_mut().zip(old).for_each(|(seal, old)| seal.release_inbound(old));
    }
    for (end, seal) in [&a, &b].into_iter().zip(&seals) {
        if let Seal::Embedded(association) = seal {
            let inbound = association.inbound();
            assert_eq!(inbound.len(), 4);
            assert!(inbound.iter().all(|sa| sa.packets > 0), "{inbound:?}");
            assert_eq!(counter(end, "gso_runs") > 0, cfg!(not(feature = "portable")));
            for name in
                ["esp_clear", "esp_not_authentic", "esp_unknown_spi", "esp_not_sent", "gso_distrusted"]
            {
                assert_eq!(counter(end, name), 0, "{name}: {:?}", end.device.counters());
            }
        }
    }
    // Of two, at most one is the kernel's.
    match seals {
        [Seal::Kernel(kernel), _] => end_under_a_live_queue_pair(kernel, [&mut a, &mut b], v6),
        [_, Seal::Kernel(kernel)] => end_under_a_live_queue_pair(kernel, [&mut b, &mut a], v6),
        _ => {}
    }
}

/// What a queue pair sends when the association has ended before it: where that only blocks, the kernel drops it, and
/// the queue pair ends. Where it was closed, the kernel sends it in clear: so nobody may close that early. The embedded
/// end takes none of it.
fn end_under_a_live_queue_pair(in_kernel: InKernel, [sender, receiver]: [&mut End; 2], closed: bool) {
    let InKernel { kernel, mut association, encapsulation: _open, .. } = in_kernel;
    let blocked = blocked_packets();
    association.block(&kernel).expect("blocked");
    assert!(kernel.states().expect("listed").is_empty());
    let association = if closed {
        association.close(&kernel).expect("closed");
        assert!(kernel.policies().expect("listed").is_empty());
        None
    } else {
        Some(association)
    };
    let slice = receiver.memory.slice(0, 64).expect("free");
    receiver.qp().post_recv(RecvRequest::new([slice])).expect("posted");
    let slice = sender.memory.slice(0, 64).expect("free");
    sender.qp().post_send(SendRequest::send([slice])).expect("posted");
    match association {
        Some(association) => {
            assert_ne!(sender.next().status, Status::Success);
            assert!(blocked_packets() > blocked);
            assert_eq!(counter(receiver, "esp_clear"), 0);
            association.close(&kernel).expect("closed");
        }
        None => wait_for("packet in clear", || counter(receiver, "esp_clear") > 0),
    }
}

/// Packets that the kernel's policies have dropped on their way out.
fn blocked_packets() -> u64 {
    let counters = fs::read_to_string("/proc/net/xfrm_stat").expect("the kernel counts");
    let row = counters.lines().find_map(|line| line.strip_prefix("XfrmOutPolBlock"));
    row.and_then(|value| value.trim().parse().ok()).expect("a number")
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn seal_by<T: rdma_verbs::Connected>(
    qp: &QueuePair<rdma_verbs::Reset, T>,
    association: &SecurityAssociation,
) {
    qp.seal_by(association).expect("the device's own");
}
