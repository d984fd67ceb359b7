//! What the demo shows: a table, or a JSON document.

use super::client::{Outcome, Participant};
use super::server::{Guest, Guests};
use crate::failure::Failure;
use crate::output;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use secure_rdma::{SealedBy, SessionInfo};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The device that the clients used, and the demo's own server.
    device: String,
    /// How the data path was sealed: `packets`, `messages` or `none`; the least of all clients'.
    seal: &'static str,
    /// Whether what was sent, written and read was sealed.
    sealed: bool,
    /// Whether the server has given all of them counters.
    counters: bool,
    /// Whether the counters of fetch-add and compare-swap were: only where packets are.
    counters_sealed: bool,
    /// What every client's handshake agreed on.
    tls: Option<Tls>,
    /// Sessions that the demo's own server had after every client's work and before the first attack; null with
    /// `--connect`.
    at_once: Option<usize>,
    clients: Vec<Entry>,
    /// From the first step to the last.
    seconds: f64,
    /// What was wrong that no client's entry tells.
    problems: Vec<String>,
    /// Whether everything was as it has to be.
    pub(super) ok: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tls {
    version: String,
    suite: String,
    group: String,
}

/// One client. What it has no session to say of is null.
#[derive(Debug, Serialize)]
struct Entry {
    id: u32,
    /// The first PSN that the client sends.
    client_psn: Option<u32>,
    /// The first PSN that the server sends to it.
    server_psn: Option<u32>,
    client_qpn: Option<u32>,
    server_qpn: Option<u32>,
    path_mtu: Option<u32>,
    ops: Ops,
    /// From the TCP connection to both queue pairs being ready.
    setup_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Ops {
    send: Cell,
    write: Cell,
    read: Cell,
    fetch_add: Cell,
    compare_swap: Cell,
    foreign_region: Cell,
}

impl Ops {
    fn all(&self) -> [&Cell; 6] {
        [&self.send, &self.write, &self.read, &self.fetch_add, &self.compare_swap, &self.foreign_region]
    }
}

/// What came of an operation, as one string: a word where it is as it has to be, or `failed: ` and the reason.
#[derive(Debug)]
struct Cell {
    good: &'static str,
    outcome: Outcome,
}

impl Cell {
    fn text(&self) -> String {
        match &self.outcome {
            Ok(()) => self.good.into(),
            Err(reason) => format!("failed: {reason}"),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl Report {
    /// Compares what the clients say with what the server saw, if it is the demo's own.
    pub(super) fn new(
        device: &str,
        asked: u32,
        clients: &[Participant],
        at_once: Option<usize>,
        guests: Option<&Guests>,
        took: Duration,
    ) -> Self {
        let infos = || clients.iter().filter_map(Participant::info);
        let tls: Option<Tls> = infos().next().map(tls);
        let mut problems: Vec<String> = clients
            .iter()
            .filter_map(|client| {
                disagreement(client, guests?).map(|what| format!("client {}: {what}", client.id()))
            })
            .collect();
        if infos().any(|info| Some(self::tls(info)) != tls) {
            problems.push("the clients' TLS sessions differ in version, suite or group".into());
        }
        if clients.len() != asked as usize {
            problems.push(format!(
                "{} of {asked} clients are missing: a bug in secure-rdma",
                asked as usize - clients.len()
            ));
        }
        let counters = clients.iter().all(Participant::has_counters);
        let clients: Vec<Entry> = clients.iter().map(|client| entry(client, guests)).collect();
        let ok = problems.is_empty() && clients.iter().all(Entry::is_good);
        let least = [SealedBy::Nothing, SealedBy::Messages, SealedBy::Packets]
            .into_iter()
            .find(|by| infos().any(|info| info.sealed == *by))
            .unwrap_or(SealedBy::Nothing);
        Self {
            device: device.into(),
            seal: least.name(),
            sealed: least.is_sealed(),
            counters,
            counters_sealed: least.seals_counters(),
            tls,
            at_once,
            clients,
            seconds: took.as_secs_f64(),
            problems,
            ok,
        }
    }

    /// Prints it for a person.
    pub(super) fn print(&self) -> Result<(), Failure> {
        output::line(format_args!("device: {}", self.device))?;
        if let Some(Tls { version, suite, group }) = &self.tls {
            output::line(format_args!("control channel: {version}, {suite}, {group}"))?;
        }
        match &self.tls {
            Some(Tls { suite, .. }) if self.counters_sealed => output::line(format_args!(
                "data path: sealed, {suite}, by {}; counters (fetch-add, compare-swap) too",
                self.seal
            ))?,
            Some(Tls { suite, .. }) if self.sealed => output::line(format_args!(
                "data path: sealed, {suite}, by {}; counters (fetch-add, compare-swap): {}",
                self.seal,
                if self.counters { "NOT sealed" } else { "none" }
            ))?,
            _ => output::line(format_args!("data path: NOT sealed"))?,
        }
        output::line(format_args!("{}", self.table()))?;
        for entry in &self.clients {
            for (what, cell) in HEADINGS.iter().zip(entry.ops.all()) {
                if let Err(reason) = &cell.outcome {
                    output::line(format_args!("client {}: {what} failed: {reason}", entry.id))?;
                }
            }
        }
        self.problems.iter().try_for_each(|problem| output::line(format_args!("{problem}")))?;
        let good = self.clients.iter().filter(|client| client.is_good()).count();
        output::line(format_args!(
            "{} clients at once: {good} of them did everything, {} attacks on foreign regions refused; {:.2} s; {}",
            self.clients.len(),
            2 * self.clients.iter().filter(|client| client.ops.foreign_region.outcome.is_ok()).count(),
            self.seconds,
            if self.ok { "ok" } else { "FAILED" }
        ))
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        let mut header = ["client", "client PSN", "server PSN", "client QPN", "server QPN"].to_vec();
        header.extend(HEADINGS);
        header.push("setup ms");
        // One word above the other: 100 columns will do.
        table.set_header(header.iter().map(|heading| heading.replace([' ', '-'], "\n")));
        for entry in &self.clients {
            let hex = |number: Option<u32>| {
                number.map_or_else(|| "-".to_owned(), |number| format!("{number:#08x}"))
            };
            let mut row = vec![
                entry.id.to_string(),
                hex(entry.client_psn),
                hex(entry.server_psn),
                hex(entry.client_qpn),
                hex(entry.server_qpn),
            ];
            row.extend(
                entry
                    .ops
                    .all()
                    .map(|cell| if cell.outcome.is_ok() { cell.good.into() } else { "FAILED".into() }),
            );
            row.push(entry.setup_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}")));
            table.add_row(row);
        }
        for at in [0, 11] {
            if let Some(column) = table.column_mut(at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// The operations, in the order of [`Ops::all`].
const HEADINGS: [&str; 6] = ["send", "write", "read", "fetch-add", "compare-swap", "foreign region"];

impl Entry {
    fn is_good(&self) -> bool {
        self.ops.all().iter().all(|cell| cell.outcome.is_ok())
    }
}

fn tls(info: &SessionInfo) -> Tls {
    let tls = &info.tls;
    Tls { version: tls.version.into(), suite: tls.suite.clone(), group: tls.group.clone() }
}

fn entry(client: &Participant, guests: Option<&Guests>) -> Entry {
    let info = client.info();
    let outcomes = client.outcomes().clone();
    let ok = |outcome| Cell { good: "ok", outcome };
    let counted = |outcome| Cell { good: if client.has_counters() { "ok" } else { "withheld" }, outcome };
    Entry {
        id: client.id(),
        client_psn: info.map(|info| info.own.psn.get().get()),
        server_psn: info.map(|info| info.remote.psn.get().get()),
        client_qpn: info.map(|info| info.own.qpn.get()),
        server_qpn: info.map(|info| info.remote.qpn.get()),
        path_mtu: info.map(|info| info.path_mtu.bytes()),
        ops: Ops {
            send: ok(outcomes.send),
            write: ok(outcomes.write),
            read: ok(outcomes.read),
            fetch_add: counted(outcomes.fetch_add),
            compare_swap: counted(outcomes.compare_swap),
            foreign_region: Cell {
                good: "refused",
                outcome: outcomes
                    .foreign_region
                    .and_then(|()| guests.map_or(Ok(()), |guests| refused(client, guests))),
            },
        },
        setup_ms: info.map(|info| info.setup.as_secs_f64() * 1e3),
    }
}

/// Whether the server's queue pairs, too, say that they refused this client's attacks, where the device
/// counts for each of them.
fn refused(client: &Participant, guests: &Guests) -> Outcome {
    let refused = |key| guests.get(key).is_some_and(|guest: &Guest| guest.naks != Some(0));
    if client.attacks().iter().all(|attack| refused(&attack.key)) {
        Ok(())
    } else {
        Err("the server's queue pair did not refuse it".into())
    }
}

/// What the two sides of a client's session disagree on: each side's own numbers have to be the other's remote ones.
fn disagreement(client: &Participant, guests: &Guests) -> Option<String> {
    let info = client.info()?;
    let Some(Guest { info: seen, .. }) = guests.get(&(info.own.address, info.own.qpn)) else {
        return Some("the server knows nothing of its session".into());
    };
    let pairs = [
        ("the client's PSN", info.own.psn.get().get(), seen.remote.psn.get().get()),
        ("the server's PSN", info.remote.psn.get().get(), seen.own.psn.get().get()),
        ("the client's QPN", info.own.qpn.get(), seen.remote.qpn.get()),
        ("the server's QPN", info.remote.qpn.get(), seen.own.qpn.get()),
        ("the path MTU", info.path_mtu.bytes(), seen.path_mtu.bytes()),
    ];
    let (what, here, there) = pairs.into_iter().find(|(_, here, there)| here != there)?;
    Some(format!("{what} is {here:#x} to the client and {there:#x} to the server"))
}
