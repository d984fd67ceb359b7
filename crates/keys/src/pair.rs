//! One process and one of its peers.
//!
//! Whoever needs keys first begins: its agent connects to the peer's. Where both begin at the same time, the handshake
//! of the device that comes first (by its address, then its slot) goes on, and the other gives way. The one that gave
//! way may arrive when the pair has its keys already; it names the SPI that the pair was made with, and is refused. Any
//! other one is of a program, or an agent, that took the place of the peer's.

use rdma_verbs::esp::Spi;
use rocev2_agent::pairs::Instance;
use rocev2_agent::pairs::protocol::{Event, Material};
use secure_rdma::Report;
use secure_rdma::pair::{self, Asked, Heard, NextKey, Pair, PairAgent, PairError, Refusal};
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};

/// How long a process may take to answer: a program can't keep it from that, but the system can.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a handshake may take that this side's has given way to.
const CROSSED: Duration = Duration::from_secs(15);

/// How often it is looked whether the peer would still be let in: with the two seconds at most that what it sent is
/// taken for, ten in all.
const JUDGE: Duration = Duration::from_secs(8);

/// The most characters of a reason that a process is told.
const LONGEST_REASON: usize = 1000;

/// What happens to a pair.
#[derive(Debug)]
pub(crate) enum Input {
    /// The process wants keys, and takes its first packets by this SPI, which names them.
    Opened(Spi),
    /// The peer's agent wants keys.
    Asked(Box<Asked>),
    /// The process takes packets by this SPI.
    Installed(Spi),
    /// The peer needs another key; packets under it will be taken by this SPI.
    Rekey(Spi),
    /// The process doesn't want the keys of that name any more.
    Closed(Spi),
}

/// Whose pair it is.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) own: Instance,
    pub(crate) peer: Instance,
    pub(crate) agent: Arc<PairAgent>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

/// Has keys agreed on, again and again, until the process ends.
pub(crate) async fn run(side: Side, inputs: mpsc::UnboundedReceiver<Input>) {
    let mut task = Task { side, inputs, opened: None, asked: None };
    while let Some((name, agreed)) = task.agree().await {
        let result = match agreed {
            Ok(pair) => task.keep(name, pair).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Over::Process) => return,
            // The process knows.
            Ok(Over::Closed) => {}
            Err(error) => task.tell_end(name, &error),
        }
    }
}

struct Task {
    side: Side,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// The process waits for keys.
    opened: Option<Spi>,
    /// The peer does.
    asked: Option<Box<Asked>>,
}

/// How a pair's keys came to their end.
enum Over {
    /// The process has ended.
    Process,
    /// The process doesn't want them any more.
    Closed,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Pair, PairError>> + Send>>;

impl Task {
    /// Waits until somebody wants keys, and meets the peer's agent. The name that the process has given the keys, and
    /// the pair, whose first keys the process has; `None` when the process has ended.
    async fn agree(&mut self) -> Option<(Spi, Result<Pair, PairError>)> {
        let mut connecting: Option<Connecting> = None;
        let mut deadline: Option<Instant> = None;
        loop {
            match (self.opened, self.asked.take()) {
                (Some(spi), Some(asked)) => {
                    self.opened = None;
                    return Some((spi, self.respond(spi, *asked).await));
                }
                (Some(spi), None) if connecting.is_none() && deadline.is_none() => {
                    connecting = Some(self.connect(spi));
                }
                (None, Some(asked)) if deadline.is_none() => {
                    self.asked = Some(asked);
                    self.tell(Event::Wanted { peer: self.side.peer });
                    deadline = Some(Instant::now() + ANSWER);
                }
                (_, asked) => self.asked = asked,
            }
            let met = async {
                match &mut connecting {
                    Some(connecting) => connecting.await,
                    None => std::future::pending().await,
                }
            };
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                input = self.inputs.recv() => match input? {
                    Input::Opened(spi) => self.opened = Some(spi),
                    Input::Asked(asked) if connecting.is_some() && self.side.own < self.side.peer => {
                        tokio::spawn(asked.refuse(Refusal::Crossed));
                    }
                    Input::Asked(asked) => {
                        connecting = None;
                        self.asked = Some(asked);
                    }
                    Input::Closed(name) if self.opened == Some(name) => {
                        self.opened = None;
                        (connecting, deadline) = (None, None);
                    }
                    Input::Installed(_) | Input::Rekey(_) | Input::Closed(_) => {}
                },
                met = met => {
                    connecting = None;
                    match (met, self.opened) {
                        (Err(PairError::Refused(Refusal::Crossed)), _) => {
                            deadline = Some(Instant::now() + CROSSED);
                        }
                        (met, Some(spi)) => {
                            self.opened = None;
                            return Some((spi, match met {
                                Ok(pair) => self.begin(spi, pair).await,
                                Err(error) => Err(error),
                            }));
                        }
                        (_, None) => {}
                    }
                },
                () = late => {
                    deadline = None;
                    if let Some(asked) = self.asked.take() {
                        tokio::spawn(asked.refuse(Refusal::NotReady));
                    }
                    if let Some(spi) = self.opened.take() {
                        return Some((spi, Err(PairError::TimedOut(CROSSED))));
                    }
                },
            }
        }
    }

    fn connect(&self, spi: Spi) -> Connecting {
        let (agent, own, peer) = (Arc::clone(&self.side.agent), self.side.own, self.side.peer);
        let device = |Instance { address, slot }| pair::Instance { address, slot };
        Box::pin(async move { agent.connect(device(own), device(peer), spi).await })
    }

    /// The peer's agent has been met: gives the process its first keys.
    async fn begin(&mut self, name: Spi, mut pair: Pair) -> Result<Pair, PairError> {
        self.give_first_inbound(name, &mut pair).await?;
        self.give_outbound(name, pair.spi(), pair.esp_port(), pair.next_outbound()?);
        pair.ready().await?;
        Ok(pair)
    }

    /// The same where the peer's began.
    async fn respond(&mut self, name: Spi, asked: Asked) -> Result<Pair, PairError> {
        let mut pair = asked.accept(name, None)?;
        self.give_first_inbound(name, &mut pair).await?;
        pair.welcome(name, None).await?;
        self.give_outbound(name, pair.spi(), pair.esp_port(), pair.next_outbound()?);
        Ok(pair)
    }

    /// Gives the process the first key of what arrives, and waits until it takes packets under it.
    async fn give_first_inbound(&mut self, name: Spi, pair: &mut Pair) -> Result<(), PairError> {
        self.give_inbound(name, name, pair.next_inbound()?);
        let installed = async {
            loop {
                match self.inputs.recv().await {
                    Some(Input::Installed(installed)) if installed == name => return Ok(()),
                    Some(Input::Asked(asked)) => {
                        self.asked = unless_crossed(asked, pair).or(self.asked.take());
                    }
                    Some(Input::Opened(spi)) => self.opened = Some(spi),
                    Some(Input::Closed(_)) | None => return Err(PairError::Closed(None)),
                    Some(Input::Installed(_) | Input::Rekey(_)) => {}
                }
            }
        };
        timeout(ANSWER, installed).await.unwrap_or(Err(PairError::TimedOut(ANSWER)))
    }

    fn give_inbound(&self, name: Spi, spi: Spi, key: NextKey) {
        let key = Material::new(key.material);
        self.tell(Event::Inbound { pair: name.number(), spi: spi.number(), key });
    }

    fn give_outbound(&self, name: Spi, spi: Spi, esp_port: Option<NonZeroU16>, key: NextKey) {
        let key = Material::new(key.material);
        self.tell(Event::Outbound { pair: name.number(), spi: spi.number(), key, esp_port });
    }

    /// Sees to new keys for as long as both sides want any.
    async fn keep(&mut self, name: Spi, mut pair: Pair) -> Result<Over, PairError> {
        let mut judge = interval(JUDGE);
        judge.reset();
        // A key that the process has been given, and doesn't take packets under yet.
        let mut given: Option<(u64, Spi)> = None;
        loop {
            tokio::select! {
                heard = pair.next() => {
                    let Heard::Spi(spi) = heard?;
                    self.give_outbound(name, spi, pair.esp_port(), pair.next_outbound()?);
                }
                input = self.inputs.recv() => match input {
                    Some(Input::Rekey(spi)) if given.is_none() => {
                        let key = pair.next_inbound()?;
                        given = Some((key.epoch, spi));
                        self.give_inbound(name, spi, key);
                    }
                    Some(Input::Installed(spi)) => {
                        if let Some((epoch, _)) = given.take_if(|(_, given)| *given == spi) {
                            pair.tell_spi(epoch, spi).await?;
                        }
                    }
                    Some(Input::Asked(asked)) => {
                        if let Some(asked) = unless_crossed(asked, &pair) {
                            // What the peer had before is gone: its program, or its agent, is another one.
                            self.asked = Some(asked);
                            return Err(PairError::Closed(None));
                        }
                    }
                    Some(Input::Opened(spi)) => {
                        self.opened = Some(spi);
                        return Ok(Over::Closed);
                    }
                    Some(Input::Closed(closed)) if closed == name => return Ok(Over::Closed),
                    Some(Input::Rekey(_) | Input::Closed(_)) => {}
                    None => return Ok(Over::Process),
                },
                _ = judge.tick() => pair.judge().await?,
            }
        }
    }

    fn tell(&self, event: Event) {
        // Where the process has ended, this task ends soon.
        let _ = self.side.events.send(event);
    }

    fn tell_end(&self, name: Spi, error: &PairError) {
        let reason = Report::new(error).to_string().chars().take(LONGEST_REASON).collect();
        self.tell(Event::Ended { pair: name.number(), reason });
    }
}

/// Who asks for keys anew; whoever began when the pair did, and gave way, is refused.
fn unless_crossed(asked: Box<Asked>, pair: &Pair) -> Option<Box<Asked>> {
    if asked.spi() != pair.spi() {
        return Some(asked);
    }
    tokio::spawn(asked.refuse(Refusal::Crossed));
    None
}

#[cfg(test)]
mod tests;
