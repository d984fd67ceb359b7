//! When tcpdump has written all packets.

use crate::process::{Process, wait_until};
use rustix::process::Signal;
use std::time::Duration;

/// Ends tcpdump once it has written all packets that the kernel has for it: on a busy machine it may be seconds behind,
/// and what it hasn't taken when it is asked to end is lost. What it has said.
#[track_caller]
pub(crate) fn end(tcpdump: Process, limit: Duration) -> String {
    let whole = wait_until(limit, || {
        let before = reports(&tcpdump).len();
        tcpdump.signal(Signal::USR1);
        let mut last = None;
        wait_until(limit, || {
            last = reports(&tcpdump).into_iter().nth(before);
            last.is_some()
        });
        last.is_some_and(|[captured, received, dropped]| captured + dropped >= received)
    });
    assert!(whole.is_some(), "there is no end of packets: {}", tcpdump.err());
    tcpdump.signal(Signal::INT);
    tcpdump.end_within(limit).succeeded().err
}

/// What it has said on SIGUSR1: how many packets were captured, received by the filter, and dropped by the kernel.
fn reports(tcpdump: &Process) -> Vec<[u64; 3]> {
    let said = tcpdump.err();
    // The last line may be half of one.
    let lines = said.split_inclusive('\n').filter(|line| line.ends_with("by kernel\n"));
    let numbers = |line: &str| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<_>>();
    lines.filter_map(|line| numbers(line).try_into().ok()).collect()
}
