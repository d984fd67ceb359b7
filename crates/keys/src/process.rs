//! One process: to which of its pairs a message belongs.

use crate::pair::{self, Input, Side};
use rdma_verbs::esp::Spi;
use rocev2_agent::pairs::Instance;
use rocev2_agent::pairs::protocol::{Event, Request};
use rocev2_device::host::group::SLOTS;
use secure_rdma::pair::{Asked, PairAgent};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A process whose packets are sealed. Its pairs end when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    own: Instance,
    agent: Arc<PairAgent>,
    events: mpsc::UnboundedSender<Event>,
    pairs: HashMap<Instance, mpsc::UnboundedSender<Input>>,
    /// Whose peers' pairs have these names.
    names: HashMap<u32, Instance>,
}

impl Process {
    pub(crate) fn new(own: Instance, agent: &Arc<PairAgent>, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { own, agent: Arc::clone(agent), events, pairs: HashMap::new(), names: HashMap::new() }
    }

    /// Does what the process says.
    pub(crate) fn request(&mut self, request: &Request) {
        match *request {
            // It has said that.
            Request::Attach { .. } => {}
            Request::Open { peer, spi } => {
                let Some(spi) = Spi::new(spi) else { return };
                self.names.retain(|_, other| *other != peer);
                self.names.insert(spi.number(), peer);
                let _ = self.pair(peer).send(Input::Opened(spi));
            }
            Request::Installed { pair, spi } => self.of(pair, spi, Input::Installed),
            Request::Rekey { pair, spi } => self.of(pair, spi, Input::Rekey),
            Request::Close { pair } => self.of(pair, pair, Input::Closed),
        }
    }

    /// Somebody asks for keys with this process.
    ///
    /// # Errors
    /// It isn't a device.
    pub(crate) fn asked(&mut self, asked: Asked) -> Result<(), Box<Asked>> {
        let peer = Instance { address: asked.peer().address, slot: asked.peer().slot };
        if usize::from(peer.slot) >= SLOTS || peer == self.own {
            return Err(Box::new(asked));
        }
        let _ = self.pair(peer).send(Input::Asked(Box::new(asked)));
        Ok(())
    }

    fn of(&self, name: u32, spi: u32, input: impl FnOnce(Spi) -> Input) {
        let pair = self.names.get(&name).and_then(|peer| self.pairs.get(peer));
        if let (Some(pair), Some(spi)) = (pair, Spi::new(spi)) {
            let _ = pair.send(input(spi));
        }
    }

    fn pair(&mut self, peer: Instance) -> &mpsc::UnboundedSender<Input> {
        let Self { own, agent, events, pairs, .. } = self;
        pairs.entry(peer).or_insert_with(|| {
            let (sender, inputs) = mpsc::unbounded_channel();
            let side = Side { own: *own, peer, agent: Arc::clone(agent), events: events.clone() };
            // In a box: it is large.
            tokio::spawn(Box::pin(pair::run(side, inputs)));
            sender
        })
    }
}
