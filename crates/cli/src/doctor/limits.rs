//! The kernel's version, and what it lets a process have.

use super::finding::Finding;
use super::system::System;
use rustix::process::{Resource, getrlimit};

/// The first versions with UDP_SEGMENT and with UDP_GRO.
const SEGMENTATION: (u32, u32) = (4, 18);
const COALESCING: (u32, u32) = (5, 0);

/// What the embedded device's sockets ask for.
const BUFFER: u64 = 4 << 20;

/// Memory that a device of libibverbs locks for a few sessions: regions and buffers.
const LOCKED: u64 = 64 << 20;

/// What a server takes with its default limits: two for each client and for each unfinished handshake, and its own.
const DESCRIPTORS: u64 = 2 * 1024 + 2 * 512 + 128;

pub(super) fn kernel(system: &System) -> Finding {
    const CHECK: &str = "kernel";
    let release = system.read("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let Some(version) = numbers.next().flatten().zip(numbers.next().flatten()) else {
        let cost = "what it can do isn't known";
        return Finding::costs(CHECK, format!("{release:?}"), cost, "use Linux, 5.0 or later");
    };
    if version < SEGMENTATION {
        let cost =
            "it has no UDP segmentation offload: a system call for each packet that is sent or received";
        return Finding::costs(CHECK, release, cost, "use Linux 5.0 or later");
    }
    if version < COALESCING {
        let cost = "it doesn't coalesce UDP packets: each that is received takes a system call";
        return Finding::costs(CHECK, release, cost, "use Linux 5.0 or later");
    }
    Finding::ok(CHECK, release)
}

pub(super) fn locked_memory() -> Finding {
    const CHECK: &str = "locked memory";
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED => Finding::costs(
            CHECK,
            format!("{limit} bytes at most"),
            "devices of libibverbs can't register more memory than that; the embedded device locks none",
            "ulimit -l unlimited (memlock in /etc/security/limits.conf, LimitMEMLOCK=infinity of a systemd unit)",
        ),
        Some(limit) => Finding::ok(CHECK, format!("{limit} bytes at most")),
        None => Finding::ok(CHECK, "no limit"),
    }
}

pub(super) fn descriptors() -> Finding {
    const CHECK: &str = "file descriptors";
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < DESCRIPTORS => Finding::costs(
            CHECK,
            format!("{limit} at most"),
            format!(
                "a server with the default limits takes {DESCRIPTORS}: it has to be given fewer --max-clients"
            ),
            format!("ulimit -Hn {DESCRIPTORS} (LimitNOFILE= of a systemd unit)"),
        ),
        Some(limit) => Finding::ok(CHECK, format!("{limit} at most")),
        None => Finding::ok(CHECK, "no limit"),
    }
}

pub(super) fn socket_buffers(system: &System) -> Finding {
    const CHECK: &str = "socket buffers";
    let limit = |name| system.number(&format!("proc/sys/net/core/{name}"));
    let (Some(receive), Some(send)) = (limit("rmem_max"), limit("wmem_max")) else {
        let remedy = "mount /proc";
        return Finding::costs(CHECK, "the kernel doesn't tell its limits", "they may be too small", remedy);
    };
    let found = format!("{receive} bytes to receive, {send} to send at most");
    if receive.min(send) >= BUFFER {
        return Finding::ok(CHECK, found);
    }
    let cost = "bursts overflow the embedded device's buffers, and what is lost is sent again";
    let remedy = format!("sysctl -w net.core.rmem_max={BUFFER} net.core.wmem_max={BUFFER}");
    Finding::costs(CHECK, found, cost, remedy)
}
