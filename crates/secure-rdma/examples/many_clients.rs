//! Many clients at once, each with a region of the server's memory that no other reaches.

use secure_rdma::certs::{Kind, Store, Validity};
use secure_rdma::{Client, ClientAuth, ClientTrust, Server, ServerOptions, SessionError};
use std::error::Error;
use std::sync::Arc;
use tokio::task::JoinSet;

const CLIENTS: u64 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (store, name) = (Store::open("state")?, "localhost".parse()?);
    let identity = store.ensure_server(std::slice::from_ref(&name))?;
    let clients = ClientAuth::Required(ClientTrust::new(store.authority()?));
    let options = ServerOptions::default().max_clients(64).region_len(64 << 10);
    let server = Server::builder(identity, clients).options(options).bind("127.0.0.1:0").await?;
    let port = server.local_addr().port();

    // Each client has a certificate, and a name, of its own.
    let mut running = JoinSet::new();
    for number in 0..CLIENTS {
        let file = format!("worker-{number}");
        store.issue(&file, &[format!("{file}.example").parse()?], Kind::Client, Validity::days(1))?;
        let client = Client::builder(store.authority()?).identity(store.identity(&file)?).build()?;
        let name = Arc::new(secure_rdma::Name::clone(&name));
        running.spawn(async move {
            let mut session = client.connect("127.0.0.1", port, &name).await?;
            // All write to the same place, and each finds what it has written itself.
            session.write(0, &number.to_be_bytes()).await?;
            session.send(b"done").await?;
            assert_eq!(session.read(0, 8).await?, number.to_be_bytes());
            session.close().await
        });
    }
    let mut serving = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut session = server.accept().await;
        serving.spawn(async move {
            session.recv().await?;
            let written = session.read_local(0, 8).await?;
            let line = format!("{} wrote {}", session.info().tls.peer_names, written[7]);
            while session.recv().await?.is_some() {}
            session.close().await?;
            Ok::<_, SessionError>(line)
        });
    }
    for result in running.join_all().await {
        result?;
    }
    let mut lines = serving.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}
