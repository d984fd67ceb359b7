//! What sealing costs: the same operations in a session in clear and in a sealed one, by turns, over the
//! embedded device on loopback.
//!
//! ```text
//! cargo run --release -p secure-rdma --example sealing_cost
//! ```
//!
//! Rounds of both take turns: in clear, sealed, in clear, and so on. Figures are medians of the rounds; a
//! ratio is the median of those that two rounds following each other have, with the least and the most.
//! Figures depend on the machine and on what else it does; the ratios less so.

use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{Name, Store};
use secure_rdma::control::SealPolicy;
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{Client, Server, ServerOptions, Session, SessionOptions};
use std::error::Error;
use std::time::{Duration, Instant};

/// How often each is measured.
const ROUNDS: usize = 9;

/// How long an operation is repeated in a round.
const ROUND: Duration = Duration::from_millis(250);

/// Reads under way at a time, where there are several: with 16 slots each, as many as there are buffers.
const READS: usize = 8;

/// How long a thread looks for completions, where it does.
const BUSY_POLL: Duration = Duration::from_micros(200);

/// What is moved at a time.
const LARGE: usize = 64 << 10;
const SMALL: usize = 4096;

#[derive(Clone, Copy, PartialEq)]
enum What {
    Write,
    PostedWrites,
    Read,
    PostedReads,
    Send,
    PostedSends,
    PingPong,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pair = |seal, busy_poll| Pair::new(SessionOptions::default().seal(seal).busy_poll(busy_poll));
    let mut open = pair(SealPolicy::Off, Duration::ZERO).await?;
    let mut sealed = pair(SealPolicy::Required, Duration::ZERO).await?;
    let mut busy_open = pair(SealPolicy::Off, BUSY_POLL).await?;
    let mut busy_sealed = pair(SealPolicy::Required, BUSY_POLL).await?;
    println!("{:<24}{:>14}{:>14}   sealed / in clear (least-most)", "", "in clear", "sealed");
    for (name, what, busy) in [
        ("writes, several posted", What::PostedWrites, false),
        ("sends, several posted", What::PostedSends, false),
        ("reads, several posted", What::PostedReads, false),
        ("write, 64 KiB", What::Write, false),
        ("send, 64 KiB", What::Send, false),
        ("read, 64 KiB", What::Read, false),
        ("ping-pong, 4 KiB", What::PingPong, false),
        ("ping-pong, busy polling", What::PingPong, true),
    ] {
        let (open, sealed) = if busy { (&mut busy_open, &mut busy_sealed) } else { (&mut open, &mut sealed) };
        let mut rounds = [const { Vec::new() }; 3];
        // The first round is for warming up.
        for round in 0..=ROUNDS {
            let [open, sealed] = [open.time(what).await?, sealed.time(what).await?];
            if round > 0 {
                let ratio = if what == What::PingPong { sealed / open } else { open / sealed };
                for (values, value) in rounds.iter_mut().zip([open, sealed, ratio]) {
                    values.push(value);
                }
            }
        }
        let [open, sealed, ratio] = rounds.map(Spread::of);
        let shown = |seconds: f64| match what {
            What::PingPong => format!("{:.1} us", seconds * 1e6),
            _ => format!("{:.2} Gb/s", LARGE as f64 * 8e-9 / seconds),
        };
        let Spread { median, least, most } = ratio;
        let [open, sealed] = [open, sealed].map(|times| shown(times.median));
        println!("{name:<24}{open:>14}{sealed:>14}   {median:.2} ({least:.2}-{most:.2})");
    }
    Ok(())
}

/// How far values lie apart.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
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
        let device = || Device::open(&"embedded".parse::<DeviceSelector>()?).map_err(Box::<dyn Error>::from);
        let server = Server::builder(identity, ClientAuth::Off)
            .device(device()?)
            .options(ServerOptions::default().session(options))
            .bind("127.0.0.1:0")
            .await?;
        let address = server.local_addr();
        tokio::spawn(async move {
            let mut session = server.accept().await;
            while let Ok(Some(message)) = session.recv().await {
                if message.len() <= SMALL && session.post_send(&message).await.is_err() {
                    return;
                }
            }
        });
        let client = Client::builder(Trust::State(dir)).device(device()?).options(options);
        let client = client.connect("127.0.0.1", address.port(), &name).await?;
        Ok(Self { client, _state: state })
    }

    /// How many seconds one such operation takes on average.
    async fn time(&mut self, what: What) -> Result<f64, Box<dyn Error>> {
        let (large, small) = (vec![0x5a; LARGE], vec![0x5a; SMALL]);
        let (begin, mut times) = (Instant::now(), 0_usize);
        while begin.elapsed() < ROUND {
            match what {
                What::Write => self.client.write(0, &large).await?,
                What::PostedWrites => self.client.post_write(0, &large).await?,
                What::Read => drop(self.client.read(0, LARGE).await?),
                What::PostedReads => {
                    self.client.post_read(0, LARGE).await?;
                    // The first ones are taken when as many more were posted.
                    if times >= READS {
                        drop(self.client.next_read().await?);
                    }
                }
                What::Send => self.client.send(&large).await?,
                What::PostedSends => self.client.post_send(&large).await?,
                What::PingPong => {
                    self.client.post_send(&small).await?;
                    self.client.recv().await?;
                }
            }
            times += 1;
        }
        self.client.flush().await?;
        while self.client.next_read().await?.is_some() {}
        Ok(begin.elapsed().as_secs_f64() / times as f64)
    }
}
