//! A client of the example `server` on the same account: `client HOST PORT NAME MESSAGE...`, where `NAME` is what the
//! server's certificate has to say.

use secure_rdma::certs::Store;
use secure_rdma::{Client, SessionOptions, Timeouts, Trust};
use std::error::Error;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(host), Some(port), Some(name)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("client HOST PORT NAME MESSAGE...".into());
    };
    let store = Store::open(Store::default_dir()?)?;
    let identity = store.account_identity()?.ok_or("start the server first: it makes the certificates")?;
    let options = SessionOptions::default().timeouts(Timeouts::DEFAULT.connect(Duration::from_secs(3)));
    let client = Client::builder(Trust::State(store.dir().into())).identity(identity).options(options);
    let session = client.connect(&host, port.parse()?, &name.parse()?).await?;
    println!("sealed: {}, device {}", session.info().sealed, session.info().device);

    // One task sends while another receives.
    let (mut sender, mut receiver) = session.split();
    let messages: Vec<String> = arguments.collect();
    let count = messages.len();
    let receiving = tokio::spawn(async move {
        for _ in 0..count {
            let Some(message) = receiver.recv().await? else { break };
            println!("{}", String::from_utf8_lossy(&message));
        }
        Ok::<_, secure_rdma::SessionError>(receiver)
    });
    for message in &messages {
        sender.send(message.as_bytes()).await?;
    }
    let receiver = receiving.await??;
    Ok(sender.reunite(receiver)?.close().await?)
}
