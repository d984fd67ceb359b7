//! Processes, and where their peers' agents are listened for.

use crate::process::Process;
use crate::settings::Settings;
use rocev2_agent::pairs::protocol::{Event, MAX_LEN, Request, decode, encode};
use rocev2_agent::pairs::{Instance, KeyManager};
use rustix::io::Errno;
use secure_rdma::Report;
use secure_rdma::pair::{PairAgent, PairListener, Refusal};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// How long a process that has ended may still be in the way of one that begins: ends are told a moment late, and the
/// agent itself, as queue pair 1's owner, stays for another two seconds to tell peers.
const LEAVES: Duration = Duration::from_secs(5);

/// How often that is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// Why a process isn't served.
enum Unfit {
    /// Another one is in the way, which may be about to leave.
    Occupied(String),
    /// It can't be.
    Failed(String),
}

/// Agrees on keys for processes, on threads of its own that it starts for the first of them.
#[derive(Debug, Default)]
pub struct Keys {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
}

/// What the tasks of all processes share.
#[derive(Debug, Default)]
struct Shared {
    /// Processes that are connected.
    processes: AtomicUsize,
    /// The addresses that they are at. Held while one is being set up.
    nodes: AsyncMutex<HashMap<IpAddr, Arc<Node>>>,
}

/// An address with sealed processes.
#[derive(Debug)]
pub(crate) struct Node {
    settings: String,
    pub(crate) agent: Arc<PairAgent>,
    rekey_after: u64,
    processes: Mutex<HashMap<u8, Process>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Keys {
    /// Nobody is served yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl KeyManager for Keys {
    fn adopt(&mut self, process: OwnedFd) -> Result<(), Errno> {
        let number = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let runtime = match &mut self.runtime {
            Some(runtime) => runtime,
            none => {
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
                none.insert(runtime.map_err(number)?)
            }
        };
        // tokio has no sockets of this kind; receiving and sending is the same.
        let socket = StdUnixDatagram::from(process);
        socket.set_nonblocking(true).map_err(number)?;
        let socket = {
            let _guard = runtime.enter();
            UnixDatagram::from_std(socket).map_err(number)?
        };
        self.shared.processes.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            shared.serve(socket).await;
            shared.processes.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.shared.processes.load(Ordering::Relaxed) == 0
    }
}

impl Shared {
    /// Serves a process until it ends.
    async fn serve(&self, socket: UnixDatagram) {
        let Some(Request::Attach { own, settings }) = receive(&socket).await else { return };
        let (events, mut queue) = mpsc::unbounded_channel();
        let node = match self.enter(own, settings, &events).await {
            Ok(node) => node,
            Err(reason) => {
                let _ = send(&socket, &Event::Refused { reason }).await;
                return;
            }
        };
        let attached = Event::Attached { rekey_after: node.rekey_after, kernels: node.agent.kernels() };
        if send(&socket, &attached).await.is_ok() {
            loop {
                tokio::select! {
                    request = receive(&socket) => match request {
                        Some(request) => node.request(own, &request),
                        None => break,
                    },
                    Some(event) = queue.recv() => if send(&socket, &event).await.is_err() {
                        break;
                    },
                }
            }
        }
        self.leave(own, &node).await;
    }

    /// A process at that address is sealed from now on.
    async fn enter(
        &self,
        own: Instance,
        settings: String,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Arc<Node>, String> {
        let deadline = Instant::now() + LEAVES;
        loop {
            match self.try_enter(own, &settings, events).await {
                Ok(node) => return Ok(node),
                Err(Unfit::Occupied(_)) if Instant::now() < deadline => sleep(LOOK).await,
                Err(Unfit::Occupied(reason) | Unfit::Failed(reason)) => return Err(reason),
            }
        }
    }

    async fn try_enter(
        &self,
        own: Instance,
        settings: &str,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Arc<Node>, Unfit> {
        let mut nodes = self.nodes.lock().await;
        let node = match nodes.get(&own.address) {
            Some(node) if node.settings == settings => Arc::clone(node),
            Some(_) => {
                return Err(Unfit::Occupied(format!(
                    "another program at {} is sealed with other options (--certs, --crl, --allow, --peers, \
                     --seal-port): give the same, or end it",
                    own.address
                )));
            }
            None => {
                let node = Node::start(own.address, settings.to_owned()).await.map_err(Unfit::Failed)?;
                nodes.insert(own.address, Arc::clone(&node));
                node
            }
        };
        if node.processes().contains_key(&own.slot) {
            return Err(Unfit::Occupied(format!("{own} is another program's")));
        }
        let process = Process::new(own, &node.agent, events.clone());
        node.processes().insert(own.slot, process);
        Ok(node)
    }

    async fn leave(&self, own: Instance, node: &Arc<Node>) {
        let mut nodes = self.nodes.lock().await;
        let mut processes = node.processes();
        processes.remove(&own.slot);
        if processes.is_empty() {
            node.stop();
            nodes.remove(&own.address);
        }
    }
}

impl Node {
    async fn start(address: IpAddr, text: String) -> Result<Arc<Self>, String> {
        let settings = Settings::from_text(&text).map_err(|error| error.to_string())?;
        let (rekey_after, port) = (settings.rekey_after(), settings.port);
        let agent = tokio::task::spawn_blocking(move || {
            let options = settings.options(address).map_err(|error| Report::new(&error).to_string())?;
            PairAgent::new(options).map_err(|error| Report::new(&error).to_string())
        });
        let agent = agent.await.map_err(|error| error.to_string())??;
        let listener = agent.listen(SocketAddr::new(address, port)).await;
        let listener = listener.map_err(|error| Report::new(&error).to_string())?;
        let node = Arc::new(Self {
            settings: text,
            agent,
            rekey_after,
            processes: Mutex::default(),
            listening: Mutex::default(),
        });
        let listening = tokio::spawn(Arc::clone(&node).listen(listener));
        *node.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
        Ok(node)
    }

    /// Hands who asks for keys to the process that it asks for.
    async fn listen(self: Arc<Self>, mut listener: PairListener) {
        loop {
            let asked = listener.next().await;
            let slot = asked.own().slot;
            let refused = match self.processes().get_mut(&slot) {
                Some(process) => process.asked(asked),
                None => Err(Box::new(asked)),
            };
            if let Err(asked) = refused {
                tokio::spawn(asked.refuse(Refusal::NoDevice));
            }
        }
    }

    fn stop(&self) {
        if let Some(listening) = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            listening.abort();
        }
    }

    fn request(&self, own: Instance, request: &Request) {
        if let Some(process) = self.processes().get_mut(&own.slot) {
            process.request(request);
        }
    }

    fn processes(&self) -> MutexGuard<'_, HashMap<u8, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next request; `None` at the end, and for what is none.
async fn receive(socket: &UnixDatagram) -> Option<Request> {
    let mut bytes = vec![0; MAX_LEN];
    let len = socket.recv(&mut bytes).await.ok()?;
    bytes.get(..len).filter(|bytes| !bytes.is_empty()).and_then(decode)
}

async fn send(socket: &UnixDatagram, event: &Event) -> io::Result<()> {
    let bytes: Zeroizing<Vec<u8>> = encode(event)?;
    socket.send(&bytes).await.map(drop)
}
