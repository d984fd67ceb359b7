//! Where the experiment runs.

use super::document::Machine;
use std::fs;
use std::thread::available_parallelism;

/// What the kernel says of this machine.
pub(super) fn machine() -> Machine {
    let name = rustix::system::uname();
    let part = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Machine {
        processor: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(|| part(name.machine())),
        processors: available_parallelism().map_or(1, Into::into),
        memory: field("/proc/meminfo", "MemTotal", ':')
            .map_or_else(|| "unknown".to_owned(), |text| size(&text)),
        load: fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split(' ').next().map(str::to_owned))
            .unwrap_or_else(|| "unknown".to_owned()),
        kernel: format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine())),
        system: field("/etc/os-release", "PRETTY_NAME", '=')
            .map_or_else(|| "unknown".to_owned(), |text| text.trim_matches('"').to_owned()),
    }
}

/// The first value of that name in a file of lines `name: value`.
fn field(path: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(separator));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// `16384000 kB` in MiB.
fn size(text: &str) -> String {
    let kib = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    kib.map_or_else(|| text.to_owned(), |kib| format!("{} MiB", kib / 1024))
}
