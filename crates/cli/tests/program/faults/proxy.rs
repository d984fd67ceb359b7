//! A TCP proxy that does something to one of its sides before it passes a certain piece of what they say: that is how a
//! process is met at a step of the protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

type Deed = Box<dyn FnOnce() + Send>;

/// What is done, and before how many pieces more.
struct Armed {
    left: usize,
    deed: Deed,
}

/// For one connection. What one side has written at once is mostly one piece here.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    armed: Arc<Mutex<Option<Armed>>>,
}

impl Proxy {
    /// In front of the server at `to`.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let armed = Arc::new(Mutex::new(None));
        let before = Arc::clone(&armed);
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(to).unwrap();
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (there, back) =
                ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
            for (from, to) in [there, back] {
                let armed = Arc::clone(&before);
                thread::spawn(move || pass(from, to, &armed));
            }
        });
        Self { address, armed }
    }

    /// Has `deed` done before the piece that follows so many others from now on.
    pub(crate) fn arm(&self, after: usize, deed: impl FnOnce() + Send + 'static) {
        *self.armed.lock().unwrap() = Some(Armed { left: after, deed: Box::new(deed) });
    }

    /// Whether it was done.
    pub(crate) fn is_done(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, armed: &Mutex<Option<Armed>>) {
    let mut piece = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        let due = {
            let mut armed = armed.lock().unwrap();
            match &mut *armed {
                Some(Armed { left: 0, .. }) => armed.take(),
                Some(waiting) => {
                    waiting.left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(Armed { deed, .. }) = due {
            deed();
        }
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
