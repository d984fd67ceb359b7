//! Ten clients at once: `secure-rdma demo`.

use super::command::Runner;
use super::document::{Client, Clients};
use serde::Deserialize;

/// As many as the original's server was laid out for.
pub(super) const CLIENTS: usize = 10;

/// What `secure-rdma demo --json` prints.
#[derive(Debug, Deserialize)]
struct Demo {
    at_once: Option<usize>,
    seal: String,
    seconds: f64,
    clients: Vec<Client>,
    problems: Vec<String>,
    ok: bool,
}

/// What they did, each on its own and all at the same time.
pub(super) async fn clients(runner: &mut Runner, device: &str) -> Result<Clients, String> {
    let count = CLIENTS.to_string();
    let demo: Demo = runner.json(&["demo", "--clients", &count, "--device", device, "--json"]).await?;
    if !demo.ok {
        return Err(demo.problems.join("; "));
    }
    let Demo { at_once, seal, seconds, clients, .. } = demo;
    Ok(Clients { at_once: at_once.ok_or("the server didn't count them")?, seal, seconds, clients })
}
