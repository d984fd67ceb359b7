//! Counters, shown when a process ends.

use crate::{backend, settings};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Once;

/// Has them shown when this process ends by itself, or one that is forked off and opens a device.
pub(crate) fn show_at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `show` has no argument and returns nothing, and the library is never unloaded while programs use it.
        unsafe { libc::atexit(show) };
    });
}

extern "C" fn show() {
    crate::boundary::guard((), || {
        let devices = settings::devices();
        let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
        for backend in backend::opened() {
            let mut lines = format!(
                "== {} at {}: process {}, {}\n",
                devices.name(backend.index()),
                backend.interface().address,
                std::process::id(),
                program.trim_end()
            );
            for (name, count) in backend.counters().into_iter().filter(|(_, count)| *count > 0) {
                let _ = writeln!(lines, "{name} {count}");
            }
            // In one piece, so that other processes' stand before it or behind it.
            let _ = std::io::stderr().write_all(lines.as_bytes());
        }
    });
}
