//! What some examples have in common: a server and a client in one process, with certificates made for them.

use secure_rdma::certs::Store;
use secure_rdma::{Client, ClientAuth, Server, Session};
use std::error::Error;

/// Both ends of a session.
pub(crate) struct Pair {
    pub(crate) client: Session,
    pub(crate) server: Session,
    /// Where further clients are let in.
    #[allow(dead_code, reason = "each example uses a part of it")]
    pub(crate) listener: Server,
}

impl Pair {
    /// A session over whichever device there is, with certificates in the directory `state`.
    pub(crate) async fn new() -> Result<Self, Box<dyn Error>> {
        let (store, names) = (Store::open("state")?, ["localhost".parse()?]);
        let clients = ClientAuth::Required(store.ensure_authority()?.into());
        let listener = Server::builder(store.ensure_server(&names)?, clients);
        let listener = listener.bind("127.0.0.1:0").await?;
        let identity = store.ensure_account(&names)?.ok_or("the CA's key is elsewhere")?;
        let connecting = Client::builder(store.authority()?).identity(identity);
        let connecting = connecting.connect("127.0.0.1", listener.local_addr().port(), &names[0]);
        let (client, server) = tokio::join!(connecting, listener.accept());
        Ok(Self { client: client?, server, listener })
    }
}
