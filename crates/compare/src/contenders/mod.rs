//! The contenders, one a file, and all of them.

pub(crate) mod quic;
pub(crate) mod roce_socket;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod verbs;

use crate::contender::Contender;
use crate::credentials::Credentials;
use rdma_verbs::DeviceSelector;
use std::sync::Arc;

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
        contenders.push(Box::new(verbs::Verbs::new(&name, &device)));
        contenders.push(Box::new(session::Sealed::new(&name, &device, credentials)));
        contenders.push(Box::new(session::Stream::new(&name, &device, credentials)));
    }
    contenders
}
