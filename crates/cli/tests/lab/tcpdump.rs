//! What passes at the client's end, by tcpdump.

use crate::network::{End, INTERFACE, Network};
use crate::process::{PATIENCE, Process};
use crate::whole_capture;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A running tcpdump.
pub(crate) struct Capture {
    process: Process,
    files: TempDir,
}

/// What it has captured.
pub(crate) struct Captured {
    files: TempDir,
    /// What it said at its end.
    said: String,
}

impl Capture {
    /// Captures the packets that `filter` (pcap-filter(7)) lets through, of each so many bytes; 0 means all.
    #[track_caller]
    pub(crate) fn start(network: &Network, bytes: u32, filter: &str) -> Self {
        let files = TempDir::new().unwrap();
        let mut command = network.command(End::Client, "tcpdump");
        command.args(["-i", INTERFACE, "--immediate-mode", "-U", "-B", "65536", "-Z", "root"]);
        command.args(["-s", &bytes.to_string(), "-w"]).arg(pcap(&files)).arg(filter);
        let process = Process::start(&mut command, "");
        process.wait_until("start of tcpdump", PATIENCE, |process| process.err().contains("listening on "));
        Self { process, files }
    }

    /// Waits until it has written all that there is.
    #[track_caller]
    pub(crate) fn end(self) -> Captured {
        Captured { said: whole_capture::end(self.process, PATIENCE), files: self.files }
    }
}

impl Captured {
    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        pcap(&self.files)
    }

    /// The same, of which nothing may be missing.
    #[track_caller]
    pub(crate) fn without_drops(self) -> Self {
        assert!(self.said.contains("\n0 packets dropped by kernel"), "{}", self.said);
        self
    }
}

fn pcap(files: &TempDir) -> PathBuf {
    Path::new(files.path()).join("pcap")
}
