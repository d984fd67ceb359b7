//! docs/attacks.md.

use crate::attack::{Attack, Outcome};
use crate::blind;
use crate::busy;
use crate::lab::NOTES;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

const HEAD: &str = "\
# What attacks do

Each line is an attack that the tests carry out on real sessions over the embedded device
(`crates/secure-rdma/tests/attacks`), on each kind of session: an open one (`--seal off`), one whose messages and
slots are sealed, as on every device that can't seal packets, and one whose packets are sealed, as between embedded
devices by default (`--seal packets` takes nothing less). This page is what came of it: the run fails if the page says
anything else. On open sessions the attacks work, as
[ReDMArk](https://www.usenix.org/conference/usenixsecurity21/presentation/rothenberger) (Rothenberger et al., USENIX
Security 2021) found; a test whose attack didn't would prove nothing. Where something else than sealing stands against
an attack, it fails on all, and the line is no evidence for sealing. Who can do what, and what nothing is done about, is
in [SECURITY.md](../SECURITY.md); how sealing works, in [sealing.md](sealing.md).

A1 to A6 are ReDMArk's attacks, and T1 to T3 its attackers: T1 is a client of the same server, T2 sends
packets with any source address but sees none, T3 is on the path, sees every packet and can drop, change and
repeat it. To play T3, the tests join two network namespaces by a third, whose program takes each packet from
the one and hands it on to the other, or doesn't. That takes root: elsewhere these lines aren't tested, and
the run says so. The other attacks run on the loopback interface, and “QPN, PSN” means that the attacker has
been told these numbers, as if it had seen or [guessed](#blind-injection) them.

A note or a quoted sentence is the error that the program at that end gets, word for word. Where there is a
note, the program at the other end gets the same after “the peer ended the session: ”. **In bold** is what
works on sessions with sealed messages too.

**Where packets are sealed, an attacker without the key does nothing** to what is delivered or to who is connected. The
attacker is told what it can't see there, so that a packet that it forges is the one that is expected. After each attack
the tests look at every reason for which either device refused packets on account of ESP: the numbers are exactly those
of what was forged. Then they use the session for every operation, and end it in good order. What is left to T3 is to
withhold packets: for long enough, and the connection ends.

To write this page anew after a change, as root: `cargo test -p secure-rdma --test attacks the_page`, and copy
the file that it names.
";

const BLIND: &str = "
## Blind injection

How many packets it takes somebody off the path (T2) to have one taken, who is told all but some low bits of
the numbers and tries every possibility, in an idle session. Of each set exactly one is taken, whatever the
numbers are, so half as many are needed on average. The figures for all bits can't be run in a test and are
**extrapolated** from that. While data flows the PSN moves on, and a request takes up to twice as many; an
acknowledgement, or a refusal, takes far fewer (SECURITY.md). In an open session the packet that is taken is
delivered; one with sealed messages ends as with “a forged SEND” above. **Where packets are sealed none is taken**, the
right one included: what names the right QPN is counted as `esp_clear`.

| what the attacker has to guess | packets sent, all possibilities | taken | refused and counted | needed on average for all bits |
|---|---|---|---|---|
";

const BUSY: &str = "
## Blind answers

The same attacker while a connection is busy. A requester believes an acknowledgement, or a refusal, of any
request that is under way, so that its PSN need not be exact; only the QPN has to be right, and the address. The
tests withhold so many requests and try PSNs around them. Where packets are sealed none is taken (`esp_clear`).

| forged | requests under way | PSNs that are taken | needed on average, the QPN known |
|---|---|---|---|
";

const KERNEL: &str = "
## The kernel's device

The same against the Linux kernel's Soft-RoCE as the server's device, in a virtual machine, by an attacker between it
and a client on the embedded device: an open session, one whose messages are sealed, and one whose packets the kernel
seals (`--seal packets`). In clear the kernel's device is as defenceless as any. These lines are other tests', in
`crates/cli/tests/soft_roce/attacks` (`lab/run attacks`), which fail if they aren't here.

| attack | attacker | what it has | open session | sealed by messages | sealed by packets |
|---|---|---|---|---|---|
";

const PROGRAMS: &str = "
## Programs that nobody changed

The same for programs of `secure-rdma run`, whose connections by librdmacm begin with management datagrams to queue pair
1. These lines are other tests': `crates/keys/tests/management.rs`, `crates/cli/tests/program/sealed_cm.rs` and, as
root, `crates/cli/tests/lab/sealed_management.rs`. Their packets are sealed as those of the last column above.

| attack | attacker | what it has | `run` | `run --seal` |
|---|---|---|---|---|
| a request for a connection, from any address | T2, T3 | the port | the program is asked, and decides | nothing: neither taken nor answered |
| the same from a host whose agent has a certificate by another CA | a host | its own certificate | the program is asked, and decides | no keys, so no request leaves: `RDMA_CM_EVENT_UNREACHABLE` |
| a program in clear that takes the place of a sealed peer | a host | the address | connected | no keys, so nothing is sent: `RDMA_CM_EVENT_UNREACHABLE` |
| eavesdropping on management datagrams and data | T3 | every packet | every byte is in the packets | each packet is ESP, and not a byte of the data is in them; with the keys, tshark finds REQ, REP, RTU, DREQ and the data |
";

/// A part of the page.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    pub(crate) attacks: &'static [&'static Attack],
}

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/attacks.md")
}

/// The line of an attack. Of one that couldn't be played here, the page has the last word.
fn row(attack: &Attack, page: &str) -> String {
    let start = format!("| {} |", attack.name);
    match attack.play() {
        Ok(outcome) => {
            let Outcome { open, messages, packets } = outcome;
            let by_messages = if messages == open { "the same" } else { messages };
            let by_packets = if packets == messages { "the same" } else { packets };
            let Attack { attacker, knows, .. } = attack;
            format!("{start} {attacker} | {knows} | {open} | {by_messages} | {by_packets} |")
        }
        Err(_) => page.lines().find(|line| line.starts_with(&start)).unwrap_or(&start).to_owned(),
    }
}

/// The whole page.
fn markdown(parts: &[Part], before: &str) -> String {
    let mut page = HEAD.to_owned();
    for Part { title, attacks } in parts {
        write!(
            page,
            "\n## {title}\n\n| attack | attacker | what it has | open session | sealed by messages | sealed by packets \
             |\n|---|---|---|---|---|---|\n"
        )
        .expect("a string");
        for attack in *attacks {
            writeln!(page, "{}", row(attack, before)).expect("a string");
        }
    }
    page.push_str(BLIND);
    for line in blind::lines() {
        writeln!(page, "| {} |", line.cells.join(" | ")).expect("a string");
    }
    page.push_str(BUSY);
    // Where it can't be played, the page has the last word.
    match busy::line() {
        Some(cells) => writeln!(page, "| {} |", cells.join(" | ")).expect("a string"),
        None => page.extend(
            before.lines().filter(|line| line.starts_with("| a NAK that is fatal")).map(|l| format!("{l}\n")),
        ),
    }
    page.push_str(KERNEL);
    let behind = before.split_once("\n## The kernel's device\n").map_or("", |(_, behind)| behind);
    let rows = behind.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
    page.extend(rows.skip(1).map(|row| format!("{row}\n")));
    page.push_str(PROGRAMS);
    // Those of attacks that couldn't be played here are taken from the page, too.
    let mut notes: BTreeMap<_, _> =
        before.lines().filter_map(|line| line.strip_prefix("[^")?.split_once("]: ")).collect();
    let seen = NOTES.lock().expect("no panic");
    notes.extend(seen.iter().map(|(label, error)| (&**label, &**error)));
    notes.retain(|label, _| page.contains(&format!("[^{label}]")));
    for (label, error) in notes {
        write!(page, "\n[^{label}]: {error}\n").expect("a string");
    }
    page
}

/// Plays everything and compares the page with the one in the repository; leaves the new one where it can be
/// taken from.
pub(crate) fn compare(parts: &[Part]) {
    let committed = fs::read_to_string(committed()).unwrap_or_default();
    let page = markdown(parts, &committed);
    if page == committed {
        return;
    }
    let new = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("attacks.md");
    fs::write(&new, page).unwrap_or_else(|error| panic!("{}: {error}", new.display()));
    let new = new.display();
    panic!("docs/attacks.md isn't what came of the attacks; if it should be: cp {new} docs/attacks.md");
}
