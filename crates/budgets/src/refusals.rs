//! Sealed datagrams that a whole device takes and refuses: what an attacker without the key makes it do.

use crate::count::counted;
use rocev2::{Mtu, Qpn, Time, UDP_PORT};
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi, layout};
use rocev2_device::host::{Interface, InterfacesError, Platform};
use rocev2_device::link::{
    BindError, Interest, Link, LinkCounters, Received, Reseal, RxBatch, Sent, TxBatch,
};
use rocev2_device::{Config, Device, Engine, Host, Progress, Ready, SecurityAssociation};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), UDP_PORT);
const INNER: Inner = Inner { source_port: UDP_PORT, checksum: None };

/// What the device runs on.
#[derive(Clone, Default)]
struct Wire(Arc<State>);

#[derive(Default)]
struct State {
    /// What waits at the device's address.
    waiting: Mutex<Option<Vec<u8>>>,
    /// What its link is reported as.
    token: AtomicU64,
}

impl Host for Wire {
    fn now(&self) -> Time {
        Time::ZERO
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0x77);
        Ok(())
    }

    fn set_alarm(&self, _: Option<Time>) {}
}

impl Platform for Wire {
    fn interfaces(&self) -> Result<Vec<Interface>, InterfacesError> {
        Ok(vec![Interface { name: "wire".into(), index: 1, address: OWN, mtu: 9000 }])
    }

    fn bind(&self, local: SocketAddr, token: u64) -> Result<Box<dyn Link>, BindError> {
        self.0.token.store(token, Ordering::Relaxed);
        Ok(Box::new(WireLink { wire: self.clone(), local, counters: LinkCounters::default() }))
    }
}

struct WireLink {
    wire: Wire,
    local: SocketAddr,
    counters: LinkCounters,
}

impl Link for WireLink {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, batch: &mut TxBatch, _: &mut Reseal<'_>) -> Sent {
        batch.drain(|_| None)
    }

    fn recv(&self, batch: &mut RxBatch) -> Received {
        let mut waiting = self.wire.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        batch.fill_each(|buffer| {
            let bytes = waiting.take()?;
            buffer.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            Some((bytes.len(), PEER))
        })
    }

    fn watch(&self, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn room(&self, _: SocketAddr, _: Qpn) -> Option<usize> {
        None
    }

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

/// A device with an SA, and datagrams for it.
struct Victim {
    wire: Wire,
    device: Device,
    engine: Arc<Engine>,
    progress: Progress,
    _association: SecurityAssociation,
    spi: Spi,
}

fn key() -> Key {
    Key::new(Algorithm::Aes256Gcm, &[0x42; 36]).expect("the right length")
}

impl Victim {
    fn new() -> Self {
        let wire = Wire::default();
        let (device, engine) = Device::stepped(Config::default(), Arc::new(wire.clone())).expect("a device");
        let index = device.gid_index(OWN).expect("its address");
        device.bind_gid(index).expect("its port");
        let association = device.security_association();
        let spi = association.allocate_spi().expect("an SPI");
        association.install_inbound(Inbound::new(spi, key(), DEFAULT_WINDOW)).expect("its first SA");
        Self { wire, device, engine, progress: Progress::default(), _association: association, spi }
    }

    /// A datagram that is authentic: as many bytes as 4,096 of a WRITE take.
    fn genuine(&self) -> Vec<u8> {
        let len = 12 + Mtu::B4096.bytes() as usize + 4;
        let mut datagram = vec![0x5a; layout::sealed_len(len)];
        Outbound::new(self.spi, key(), INNER).sealer().seal(&mut datagram, len).expect("sealed");
        datagram
    }

    fn arrives(&mut self, datagram: &[u8]) {
        *self.wire.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(datagram.to_vec());
    }

    fn take(&mut self) {
        let token = self.wire.0.token.load(Ordering::Relaxed);
        let ready = Ready { token, readable: true, writable: false };
        self.progress.step(&self.engine, &[ready]);
    }

    fn counted(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|row| row.0 == name).map_or(0, |row| row.1)
    }

    /// Takes `datagram` so many times; each is refused for that reason.
    fn refuses(mut self, times: u64, datagram: &[u8], reason: &str) {
        let before = self.counted(reason);
        for _ in 0..times {
            self.arrives(datagram);
            counted(|| self.take());
        }
        assert_eq!(self.counted(reason) - before, times, "each is refused");
    }
}

/// By an SPI that nobody has.
pub(crate) fn unknown_spi(times: u64) {
    let victim = Victim::new();
    let mut datagram = victim.genuine();
    datagram[3] ^= 1;
    victim.refuses(times, &datagram, "esp_unknown_spi");
}

/// A number that was taken.
pub(crate) fn replayed(times: u64) {
    let mut victim = Victim::new();
    let datagram = victim.genuine();
    victim.arrives(&datagram);
    victim.take();
    victim.refuses(times, &datagram, "esp_replayed");
}

/// Everything right but the tag.
pub(crate) fn forged(times: u64) {
    let victim = Victim::new();
    let mut datagram = victim.genuine();
    if let Some(last) = datagram.last_mut() {
        *last ^= 1;
    }
    victim.refuses(times, &datagram, "esp_not_authentic");
}
