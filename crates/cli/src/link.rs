//! What connects to a server, for all commands that do.

use crate::args::LinkArgs;
use crate::failure::Failure;
use crate::kernel::Kernel;
use crate::output;
use crate::place::Place;
use crate::trust::server_name;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::Name;
use secure_rdma::control::Access;
use secure_rdma::{
    Buffers, Client, ClientBuilder, SealedBy, Session, SessionError, SessionInfo, SessionOptions,
};

/// What is said of a session that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Where one is, and what protects it.
    Full,
    /// That it isn't sealed, if it isn't.
    Warning,
}

/// A [`Link`] whose device isn't open yet: what is to be trusted has been read.
#[derive(Debug)]
pub(crate) struct LinkBuilder {
    client: ClientBuilder,
    device: DeviceSelector,
    kernel: Kernel,
    place: Place,
    name: Name,
    verbose: bool,
    greeting: Greeting,
}

impl LinkBuilder {
    /// What the arguments say. To be called before there is a second thread ([`Kernel::prepare`]).
    pub(crate) fn new(
        args: &LinkArgs,
        place: Place,
        name: Option<&Name>,
        greeting: Greeting,
        buffers: Buffers,
    ) -> Result<Self, Failure> {
        let name = server_name(name, &place)?;
        let (seal, packets) = (args.seal.policy(), args.seal.packets());
        let options = SessionOptions::default().seal(seal).packets(Some(packets)).buffers(buffers);
        let mut client = Client::builder(args.trust.trust()?).options(options);
        if let Some(identity) = args.trust.own()? {
            client = client.identity(identity);
        }
        if let Some(lists) = &args.crl {
            client = client.revocations(lists.as_path());
            if let Some(path) = args.trust.revocations_seen() {
                client = client.remember_revocations(path);
            }
        }
        let greeting = if args.verbose { Greeting::Full } else { greeting };
        let device = args.device.device.clone();
        let kernel = Kernel::prepare(&args.seal, &device);
        Ok(Self { client, device, kernel, place, name, verbose: args.verbose, greeting })
    }

    /// Opens the device, in a runtime.
    pub(crate) fn build(self) -> Result<Link, Failure> {
        let Self { client, device, kernel, place, name, verbose, greeting } = self;
        let device = Device::open(&device)?;
        let client = match kernel.for_device(&device)? {
            Some(helper) => client.kernel(helper),
            None => client,
        };
        let client = client.device(device).build()?;
        Ok(Link { client, place, name, verbose, greeting })
    }
}

/// What connects to the server.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    place: Place,
    name: Name,
    verbose: bool,
    greeting: Greeting,
}

impl Link {
    /// Opens a session, and says what it is.
    pub(crate) async fn connect(&self) -> Result<Session, SessionError> {
        let session = self.client.connect(&self.place.host, self.place.port, &self.name).await?;
        match self.greeting {
            Greeting::Full => greet(&session, &self.name, self.verbose),
            Greeting::Warning => warn_of_clear(session.info()),
        }
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
        (SealedBy::Nothing, _) => warn_of_clear(info),
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

/// Says so if nothing is sealed.
fn warn_of_clear(info: &SessionInfo) {
    if !info.sealed.is_sealed() {
        output::note(format_args!("data path: NOT sealed (what you send, write and read travels in clear)"));
    }
}

/// How the data path is sealed, if it is.
pub(crate) fn data_path(info: &SessionInfo) -> String {
    match info.sealed {
        SealedBy::Nothing => "NOT sealed".into(),
        by => format!("sealed, {}, by {}", info.tls.suite, by.name()),
    }
}
