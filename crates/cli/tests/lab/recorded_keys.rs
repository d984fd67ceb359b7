//! The keys of sealed programs, for tshark: an agent in this process, which notes each key that it hands to a program.

use rocev2_agent::pairs::KeyManager;
use rocev2_agent::pairs::protocol::{Event, MAX_LEN, decode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};
use secure_rdma_keys::Keys;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;

/// Keys by the SPIs of the packets that they open.
pub(crate) type Recorded = Arc<Mutex<Vec<(u32, Vec<u8>)>>>;

/// Agrees on keys as the agent does, and notes those that open what arrives.
pub(crate) struct Recorder {
    keys: Keys,
    recorded: Recorded,
}

impl Recorder {
    pub(crate) fn new(recorded: &Recorded) -> Self {
        Self { keys: Keys::new(), recorded: Arc::clone(recorded) }
    }
}

impl KeyManager for Recorder {
    fn adopt(&mut self, process: OwnedFd) -> Result<(), Errno> {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        self.keys.adopt(there)?;
        // The agent doesn't wait for processes; these threads do.
        rustix::io::ioctl_fionbio(&process, false)?;
        let (process, here) = (Arc::new(process), Arc::new(here));
        let said = (Arc::clone(&process), Arc::clone(&here));
        thread::spawn(move || pass_on(&said.0, &said.1, |_| {}));
        let recorded = Arc::clone(&self.recorded);
        thread::spawn(move || {
            pass_on(&here, &process, |message| {
                if let Some(Event::Inbound { spi, key, .. }) = decode(message) {
                    recorded.lock().unwrap().push((spi, key.bytes().to_vec()));
                }
            });
        });
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.keys.is_idle()
    }
}

/// Passes messages on, until there are no more.
fn pass_on(from: &OwnedFd, to: &OwnedFd, note: impl Fn(&[u8])) {
    let mut bytes = vec![0; MAX_LEN];
    loop {
        match recv(from, &mut bytes[..], RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok((len @ 1.., _)) => {
                note(&bytes[..len]);
                if send(to, &bytes[..len], SendFlags::NOSIGNAL).is_err() {
                    break;
                }
            }
            Ok(_) | Err(_) => break,
        }
    }
    let _ = shutdown(from, Shutdown::Both);
    let _ = shutdown(to, Shutdown::Both);
}
