//! What takes part.

use crate::clock::Clock;
use crate::contenders::{quic, roce_socket, session, tcp, tls, udp, verbs as plain};
use crate::credentials::Credentials;
use crate::ends::Place;
use crate::failure::Failure;
use crate::figure::Figure;
use crate::sample::Sample;
use rdma_verbs::DeviceSelector;
use std::sync::Arc;

/// Something that moves bytes from one end to the other.
pub(crate) trait Contender {
    /// Its name in all results.
    fn name(&self) -> &str;

    /// What can be measured of it.
    fn figures(&self) -> Vec<Figure>;

    /// Measures one of these once, with new connections and ends, for as long as `clock` says.
    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure>;
}

/// All of them: those that are always there, and libibverbs' devices that can be used.
pub(crate) fn all(credentials: &Arc<Credentials>) -> Vec<Box<dyn Contender>> {
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(udp::Udp),
        Box::new(roce_socket::RoceSocket::Plain),
        Box::new(roce_socket::RoceSocket::Sealed),
        Box::new(roce_socket::RoceSocket::Esp),
        Box::new(tcp::Tcp),
        Box::new(tls::Tls::new(credentials)),
        Box::new(quic::Quic::as_it_comes(credentials)),
        Box::new(quic::Quic::with_large_packets(credentials)),
    ];
    for device in rdma_verbs::devices().into_iter().rev() {
        let name = match &device {
            DeviceSelector::Named { name, .. } if rdma_verbs::Device::open(&device).is_ok() => name.clone(),
            DeviceSelector::Embedded { .. } => "embedded".to_owned(),
            // Without an active port, say.
            _ => continue,
        };
        contenders.push(Box::new(plain::Verbs::new(&name, &device)));
        contenders.push(Box::new(session::Sealed::new(&name, &device, credentials)));
    }
    contenders
}
