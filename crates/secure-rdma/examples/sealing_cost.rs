//! What sealing costs: the same operations in a session in clear and in a sealed one, by turns, over the embedded device on loopback.
//!
//! ```text
//! cargo run --release -p secure-rdma --example sealing_cost
//! ```
//!
//! Figures depend on the machine and on what else it does; the ratios less so.

use secure_rdma::certs::{Name, Store};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{Arrival, Client, ClientConfig, Server, ServerConfig, Session, SessionOptions};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use verbs::{Device, DeviceSelector};

/// Each figure is the best of so many rounds.
const ROUNDS: usize = 5;

/// How long an operation is repeated in a round.
const ROUND: Duration = Duration::from_millis(400);

/// How long a thread looks for completions, where it does.
const BUSY_POLL: Duration = Duration::from_micros(200);

/// What is moved at a time.
const LARGE: usize = 64 << 10;
const SMALL: usize = 4096;

#[derive(Clone, Copy)]
enum What {
    Write,
    PostedWrites,
    Read,
    Send,
    PostedSends,
    PingPong,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pair = |seal, busy_poll| Pair::new(SessionOptions { seal, busy_poll, ..SessionOptions::default() });
    let mut open = pair(SealPolicy::Off, Duration::ZERO).await?;
    let mut sealed = pair(SealPolicy::Required, Duration::ZERO).await?;
    let mut busy_open = pair(SealPolicy::Off, BUSY_POLL).await?;
    let mut busy_sealed = pair(SealPolicy::Required, BUSY_POLL).await?;
    println!("{:<24}{:>14}{:>14}{:>18}", "", "in clear", "sealed", "sealed / in clear");
    for (name, what, busy) in [
        ("write, 64 KiB", What::Write, false),
        ("writes, several posted", What::PostedWrites, false),
        ("read, 64 KiB", What::Read, false),
        ("send, 64 KiB", What::Send, false),
        ("sends, several posted", What::PostedSends, false),
        ("ping-pong, 4 KiB", What::PingPong, false),
        ("ping-pong, busy polling", What::PingPong, true),
    ] {
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            let pairs = if busy { [&mut busy_open, &mut busy_sealed] } else { [&mut open, &mut sealed] };
            for (pair, best) in pairs.into_iter().zip(&mut best) {
                *best = (*best).min(pair.time(what).await?);
            }
        }
        let [clear, sealed] = best.map(|time| time.as_secs_f64());
        if matches!(what, What::PingPong) {
            let ratio = sealed / clear;
            println!("{name:<24}{:>11.1} us{:>11.1} us{ratio:>18.2}", clear * 1e6, sealed * 1e6);
        } else {
            let rate = |seconds: f64| LARGE as f64 * 8e-9 / seconds;
            println!("{name:<24}{:>9.2} Gb/s{:>9.2} Gb/s{:>18.2}", rate(clear), rate(sealed), clear / sealed);
        }
    }
    Ok(())
}

/// A session whose server echoes short messages and drops the others.
struct Pair {
    client: Session,
    _state: tempfile::TempDir,
}

impl Pair {
    async fn new(options: SessionOptions) -> Result<Self, Box<dyn Error>> {
        let state = tempfile::tempdir()?;
        let dir = state.path().join("state");
        let name: Name = "localhost".parse()?;
        let identity = Store::open(&dir)?.ensure_server(std::slice::from_ref(&name))?;
        let config = ServerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            max_clients: 1,
            max_handshakes: 1,
            region_len: 1 << 20,
            counters: false,
            client_auth: ClientAuth::Off,
            options,
        };
        let device = || Device::open(&"embedded".parse::<DeviceSelector>()?).map_err(Box::<dyn Error>::from);
        let mut server = Server::bind(device()?, &identity, config).await?;
        let address = server.local_addr();
        tokio::spawn(async move {
            let Arrival::Session(mut session) = server.next().await else { return };
            while let Ok(Some(message)) = session.recv().await {
                if message.len() <= SMALL && session.send(&message).await.is_err() {
                    return;
                }
            }
        });
        let client =
            Client::new(device()?, ClientConfig { trust: Trust::State(dir), identity: None, options })?;
        let client = client.connect("127.0.0.1", address.port(), &name).await?;
        Ok(Self { client, _state: state })
    }

    /// How long one such operation takes on average.
    async fn time(&mut self, what: What) -> Result<Duration, Box<dyn Error>> {
        let (large, small) = (vec![0x5a; LARGE], vec![0x5a; SMALL]);
        let (begin, mut times) = (Instant::now(), 0);
        while begin.elapsed() < ROUND {
            match what {
                What::Write => self.client.write(0, &large).await?,
                What::PostedWrites => self.client.post_write(0, &large).await?,
                What::Read => drop(self.client.read(0, LARGE).await?),
                What::Send => self.client.send(&large).await?,
                What::PostedSends => self.client.post_send(&large).await?,
                What::PingPong => {
                    self.client.send(&small).await?;
                    self.client.recv().await?;
                }
            }
            times += 1;
        }
        self.client.flush().await?;
        Ok(begin.elapsed() / times)
    }
}
