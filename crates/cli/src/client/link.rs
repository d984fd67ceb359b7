//! What connects to the server, again where it has to.

use crate::output;
use crate::place::Place;
use secure_rdma::certs::Name;
use secure_rdma::control::Access;
use secure_rdma::{Client, SealedBy, Session, SessionError, SessionInfo};

/// What connects to the server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) name: Name,
    pub(super) verbose: bool,
}

impl Link {
    /// Opens a session, and says what it is.
    pub(super) async fn connect(&self) -> Result<Session, SessionError> {
        let session = self.client.connect(&self.place.host, self.place.port, &self.name).await?;
        greet(&session, &self.name, self.verbose);
        Ok(session)
    }
}

/// Says where one is. None of it is a result: it goes to standard error.
fn greet(session: &Session, name: &Name, verbose: bool) {
    let info = session.info();
    let SessionInfo { tls, own, remote, .. } = info;
    output::note(format_args!(
        "connected to {name} at {} ({}), device {}",
        info.peer, info.peer_software, info.device
    ));
    output::note(format_args!("control channel: {}, {}, {}", tls.version, tls.suite, tls.group));
    match (info.sealed, session.counters()) {
        (SealedBy::Messages, 1..) => {
            output::note(format_args!("data path: {}; counters (add, swap): NOT sealed", data_path(info)));
        }
        (SealedBy::Messages, 0) => {
            output::note(format_args!("data path: {}; counters (add, swap): none", data_path(info)));
        }
        (SealedBy::Packets, _) => {
            output::note(format_args!("data path: {}", data_path(info)));
        }
        (SealedBy::Nothing, _) => {
            output::note(format_args!(
                "data path: NOT sealed (what you send, write and read travels in clear)"
            ));
        }
    }
    if info.allowed != Access::ALL {
        output::note(format_args!(
            "allowed here: {}; a region of {} bytes",
            info.allowed,
            session.data_len()
        ));
    }
    if verbose {
        output::note(format_args!(
            "QPN {:#08x} here, {:#08x} there; PSN {:#08x} here, {:#08x} there; path MTU {}",
            own.qpn.get(),
            remote.qpn.get(),
            own.psn.get().get(),
            remote.psn.get().get(),
            info.path_mtu
        ));
        if let (Some(send), Some(receive)) = (info.queue_pair.send, info.queue_pair.receive) {
            output::note(format_args!(
                "the device has sq_psn {:#08x} to send with, rq_psn {:#08x} to receive with",
                send.sq_psn.get(),
                receive.rq_psn.get()
            ));
        }
    }
}

/// How the data path is sealed, if it is.
pub(super) fn data_path(info: &SessionInfo) -> String {
    match info.sealed {
        SealedBy::Nothing => "NOT sealed".into(),
        by => format!("sealed, {}, by {}", info.tls.suite, by.name()),
    }
}
