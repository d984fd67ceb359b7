//! The original's own measurement, with the original's own program: libibverbs' ibv_rc_pingpong, unchanged, between
//! two processes on the embedded device.

use super::command::{Runner, is_installed, own_line};
use super::document::{Part, Pingpong, PingpongRun};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

const PROGRAM: &str = "ibv_rc_pingpong";

/// Servers of this kind don't say when they listen: how long its clients are started.
const START: Duration = Duration::from_secs(60);

/// What a client says that came too early.
const NOBODY_LISTENS: &str = "Couldn't connect";

/// How long a client that nobody answered waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs it in clear and sealed, on the device at `address`.
pub(super) async fn pingpong(runner: &mut Runner, address: &str) -> Part<Pingpong> {
    if !is_installed(PROGRAM) {
        return Part::NotRun(format!("{PROGRAM} isn't installed (Debian, Ubuntu: ibverbs-utils)"));
    }
    let clear = run(runner, address, &[]).await.into();
    let sealed = sealed(runner, address).await.into();
    Part::Measured(Pingpong { clear, sealed })
}

async fn sealed(runner: &mut Runner, address: &str) -> Result<PingpongRun, String> {
    let certs = runner.scratch().join("certs").display().to_string();
    // The agent issues its own certificate where the CA is.
    runner.own(&["certs", "init", "--certs", &certs]).await?;
    let port = free_port()?;
    run(runner, address, &["--seal", "--certs", &certs, "--seal-port", &port]).await
}

async fn run(runner: &mut Runner, address: &str, options: &[&str]) -> Result<PingpongRun, String> {
    let port = free_port()?;
    let program = ["--", PROGRAM, "-g", "0", "-s", "4096", "-n", "1000", "-p", &port];
    let server = [&["run", "--address", address], options, &program].concat();
    let client = [&server[..], &[address]].concat();
    let listening = runner.start_own(&server)?;
    let deadline = Instant::now() + START;
    let client_said = loop {
        let child = runner.start_own(&client)?;
        match runner.end(own_line(&client), child).await {
            Err(reason) if reason.contains(NOBODY_LISTENS) && Instant::now() < deadline => {
                runner.forget_last();
            }
            said => break said,
        }
        tokio::time::sleep(PAUSE).await;
    };
    if client_said.as_ref().is_err_and(|reason| reason.contains(NOBODY_LISTENS)) {
        return client_said.and(Err(format!("{PROGRAM}: no client got through in {} s", START.as_secs())));
    }
    let server_said = runner.end(own_line(&server), listening).await;
    // The two part without a word: who still waits for an acknowledgement then fails, although all has been moved.
    let output =
        client_said.or_else(|reason| server_said.map_err(|other| format!("{reason}; server: {other}")))?;
    read(&output).ok_or_else(|| format!("{PROGRAM} printed something else: {output}"))
}

/// A TCP port that is free at the moment.
fn free_port() -> Result<String, String> {
    let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port().to_string())
        .map_err(|error| format!("looking for a free port: {error}"))
}

/// `8192000 bytes in 0.02 seconds = 3593.57 Mbit/sec`, `1000 iters in 0.02 seconds = 18.24 usec/iter`.
fn read(output: &str) -> Option<PingpongRun> {
    let before = |unit: &str| {
        let words: Vec<_> = output.split_whitespace().collect();
        let at = words.iter().position(|word| *word == unit)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some(PingpongRun { mbps: before("Mbit/sec")?, iteration_us: before("usec/iter")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ibv_rc_pingpong_prints_is_read() {
        let output = "  local address:  LID 0x0000\n8192000 bytes in 0.02 seconds = 3593.57 Mbit/sec\n\
            1000 iters in 0.02 seconds = 18.24 usec/iter\n";
        assert_eq!(read(output), Some(PingpongRun { mbps: 3593.57, iteration_us: 18.24 }));
        assert_eq!(read("Failed to modify QP"), None);
    }
}
