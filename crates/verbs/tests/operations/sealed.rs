//! Queue pairs whose packets are sealed by ESP: between embedded devices, and between one and Soft-RoCE behind the
//! kernel's IPsec, both re-keyed while they are used.

use crate::common::{End, PATIENCE, Place, Setup, connect_prepared, pattern, places};
use rdma_verbs::esp::{
    Algorithm, Inbound, Inner, Key, NAT_TRAVERSAL_PORT, Outbound, Spi, replay::DEFAULT_WINDOW,
};
use rdma_verbs::{Error, QueuePair, Receiver, RecvRequest, SecurityAssociation, SendRequest};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LEN: u32 = 300_000;

/// Key and salt.
type Material = [u8; 36];

/// How one end seals.
enum Seal {
    Embedded(SecurityAssociation),
    Kernel(Kernel),
}

/// The kernel's IPsec in front of Soft-RoCE.
struct Kernel {
    own: String,
    peer: String,
    /// The UDP port of the embedded device that is the peer.
    peer_port: u16,
    states: u32,
    /// Has the encapsulation's socket open.
    socket: Child,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.socket.kill();
        let _ = self.socket.wait();
        for what in ["policy", "state"] {
            let _ = Command::new("ip").args(["xfrm", what, "flush"]).status();
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Kernel {
    fn new(own: &End, peer: &End) -> Self {
        const SOCKET: &str = "import socket, sys\n\
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            s.bind((sys.argv[1], 4500))\n\
            s.setsockopt(socket.IPPROTO_UDP, 100, 2)\n\
            print('open', flush=True)\n\
            sys.stdin.read()";
        let [own, other] = [own, peer].map(|end| end.gid.address.expect("RoCE").to_string());
        let mut socket = Command::new("/usr/bin/python3")
            .args(["-c", SOCKET, &own])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        socket.stdout.as_mut().expect("piped").read_exact(&mut [0; 5]).expect("the encapsulation's socket");
        for module in ["esp4", "xfrm_user", "gcm"] {
            let _ = Command::new("modprobe").arg(module).status();
        }
        let kernel =
            Self { peer_port: peer.gid.udp_port.expect("bound"), own, peer: other, states: 0, socket };
        kernel.seal(true);
        let Self { own, peer, .. } = &kernel;
        ip(&format!(
            "xfrm policy add src {peer} dst {own} proto udp dport 4791 dir in tmpl src {peer} dst {own} proto esp \
             reqid 77 mode transport"
        ));
        kernel
    }

    /// Has what leaves sealed, or no longer. rxe names no port when it looks for a policy.
    fn seal(&self, on: bool) {
        let Self { own, peer, .. } = self;
        let selector = format!("src {own} dst {peer} proto udp dir out");
        if on {
            ip(&format!(
                "xfrm policy add {selector} tmpl src {own} dst {peer} proto esp reqid 77 mode transport"
            ));
        } else {
            ip(&format!("xfrm policy delete {selector}"));
        }
    }

    /// Adds the state of one direction.
    fn install(&mut self, out: bool, spi: Spi, material: &Material) {
        self.states += 1;
        let material: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
        let (near, far) = ((&self.own, NAT_TRAVERSAL_PORT), (&self.peer, self.peer_port));
        let [(from, source), (to, destination)] = if out { [near, far] } else { [far, near] };
        ip(&format!(
            "xfrm state add src {from} dst {to} proto esp spi {:#x} reqid 77 mode transport \
             aead rfc4106(gcm(aes)) 0x{material} 128 replay-window 1024 flag esn \
             encap espinudp {source} {destination} 0.0.0.0",
            spi.number()
        ));
    }

    /// Deletes the state of the direction out.
    fn release_out(&self, spi: Spi) {
        ip(&format!(
            "xfrm state delete src {} dst {} proto esp spi {:#x}",
            self.own,
            self.peer,
            spi.number()
        ));
    }
}

impl Seal {
    fn new(own: &End, peer: &End) -> Self {
        if own.place.is_embedded() {
            Self::Embedded(own.device.security_association().expect("the embedded device seals"))
        } else {
            assert!(matches!(own.device.security_association(), Err(Error::Unsupported { .. })));
            Self::Kernel(Kernel::new(own, peer))
        }
    }

    fn spi(&self) -> Spi {
        match self {
            Self::Embedded(association) => association.allocate_spi().expect("an SPI"),
            Self::Kernel(kernel) => Spi::new(0x7000 + kernel.states).expect("not reserved"),
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

    /// Seals with the newest key alone.
    fn release_outbound(&self, old: Spi) {
        if let Self::Kernel(kernel) = self {
            kernel.release_out(old);
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
    let mut sealed = None;
    let (mut a, mut b) = connect_prepared(&Setup::default(), |ends, endpoints| {
        let [(a, qp_a), (b, qp_b)] = ends;
        let ports = [a, b].map(|end| end.gid.udp_port.expect("RoCE"));
        let mut seals = [Seal::new(a, b), Seal::new(b, a)];
        let spis = rekey(&mut seals, ports, 0);
        for ((seal, qp), endpoint) in seals.iter().zip([qp_a, qp_b]).zip(endpoints) {
            match seal {
                Seal::Embedded(association) => seal_by(qp, association),
                // Where the kernel opens packets.
                Seal::Kernel(_) => endpoint.udp_port = Some(NAT_TRAVERSAL_PORT),
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
        seals[0].release_outbound(old[1]);
        seals[1].release_outbound(old[0]);
        use_it(&mut a, &mut b, 10 + number);
        use_it(&mut b, &mut a, 20 + number);
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
    // The kernel falls back to clear where nobody tells it otherwise: the embedded end takes none of that.
    for (from, to) in [(0, 1), (1, 0)] {
        let Seal::Kernel(kernel) = &seals[from] else { continue };
        let [sender, receiver] = if to == 1 { [&mut a, &mut b] } else { [&mut b, &mut a] };
        kernel.seal(false);
        let slice = receiver.memory.slice(0, 64).expect("free");
        receiver.qp().post_recv(RecvRequest::new([slice])).expect("posted");
        let slice = sender.memory.slice(0, 64).expect("free");
        sender.qp().post_send(SendRequest::send([slice])).expect("posted");
        let deadline = Instant::now() + PATIENCE;
        while counter(receiver, "esp_clear") == 0 {
            assert!(Instant::now() < deadline, "{:?}", receiver.device.counters());
            thread::sleep(Duration::from_millis(1));
        }
        kernel.seal(true);
        drop(receiver.done());
        drop(sender.done());
    }
}

fn seal_by<T: rdma_verbs::Connected>(
    qp: &QueuePair<rdma_verbs::Reset, T>,
    association: &SecurityAssociation,
) {
    qp.seal_by(association).expect("the device's own");
}
