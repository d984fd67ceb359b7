//! A server that sends every message back: `server [ADDRESS]`.
//!
//! Its certificates, and those of this account's clients, are in the account's state directory, where the program
//! `secure-rdma` and the example `client` find them too.

use secure_rdma::certs::{Store, host_names};
use secure_rdma::{ClientAuth, Report, Server, ServerOptions, Session, SessionError};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("[::]:4433".into());
    let store = Store::open(Store::default_dir()?)?;
    let names = host_names()?;
    let identity = store.ensure_server(&names)?;
    store.ensure_account(&names[..1])?;
    // Whoever has a certificate by this account's CA may come.
    let clients = ClientAuth::Required(store.authority()?.into());
    let options = ServerOptions::default().max_clients(64).region_len(1 << 20);
    let server = Server::builder(identity, clients).options(options).bind(address).await?;
    println!("listening on {}", server.local_addr());
    loop {
        let session = server.accept().await;
        println!("{} is {}", session.info().peer, session.info().tls.peer_names);
        tokio::spawn(async move {
            if let Err(error) = echo(session).await {
                eprintln!("{}", Report::new(&error));
            }
        });
    }
}

async fn echo(mut session: Session) -> Result<(), SessionError> {
    while let Some(message) = session.recv().await? {
        session.send(&message).await?;
    }
    session.close().await
}
