//! Logs, to standard error.

use crate::args::LogFormat;
use crate::output::StandardError;
use tracing_subscriber::EnvFilter;

/// The crates whose logs are about this project.
const OWN: [&str; 5] = ["secure_rdma_cli", "secure_rdma", "rdma_verbs", "rocev2_device", "rocev2"];

/// Starts logging: warnings, and with `verbose` everything down to the debug level. The variable `RUST_LOG`
/// overrides both.
pub(crate) fn start(verbose: bool) {
    start_as(verbose, LogFormat::Text);
}

/// The same, in this format.
pub(crate) fn start_as(verbose: bool, format: LogFormat) {
    let level = if verbose { "debug" } else { "warn" };
    let own = OWN.map(|name| format!("{name}={level}")).join(",");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,{own}")));
    // Fails only if logging has started already.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| StandardError);
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}
