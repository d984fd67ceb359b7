//! Both ends of a session, as README.md shows them.

use secure_rdma::{Client, ClientAuth, Server, certs::Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A private CA in the directory `state`, and what it has issued to a server and to this account's clients.
    let (store, names) = (Store::open("state")?, ["localhost".parse()?]);
    let identity = store.ensure_server(&names)?;
    let clients = ClientAuth::Required(store.authority()?.into());
    let server = Server::builder(identity, clients).bind("127.0.0.1:0").await?;

    let own = store.ensure_account(&names)?.ok_or("the CA's key is elsewhere")?;
    let client = Client::builder(store.authority()?).identity(own);
    let connect = client.connect("127.0.0.1", server.local_addr().port(), &names[0]);
    let (session, mut served) = tokio::join!(connect, server.accept());
    let mut session = session?;

    session.write(0, b"hello").await?; // sealed, into the server's memory: its program does nothing
    session.send(b"look there").await?; // sealed, a message
    println!("{:?}", served.recv().await?.map(String::from_utf8));
    println!("{:?}", String::from_utf8(served.read_local(0, 5).await?));
    let (client, server) = tokio::join!(session.close(), served.close());
    Ok(client.and(server)?)
}
