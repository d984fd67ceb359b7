//! docs/attacks.md.

use crate::attack::Attack;
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
(`crates/secure-rdma/tests/attacks`), once with an open data path (`--seal off`) and once with a sealed one,
and this page is what came of it: the run fails if the page says anything else. On open sessions the attacks
work, as [ReDMArk](https://www.usenix.org/conference/usenixsecurity21/presentation/rothenberger) (Rothenberger
et al., USENIX Security 2021) found; a test whose attack didn't would prove nothing. Where something else than
sealing stands against an attack, it fails on both. Who can do what, and what nothing is done about, is in
[SECURITY.md](../SECURITY.md); how sealing works, in [sealing.md](sealing.md).

A1 to A6 are ReDMArk's attacks, and T1 to T3 its attackers: T1 is a client of the same server, T2 sends
packets with any source address but sees none, T3 is on the path, sees every packet and can drop, change and
repeat it. To play T3, the tests join two network namespaces by a third, whose program takes each packet from
the one and hands it on to the other, or doesn't. That takes root: elsewhere these lines aren't tested, and
the run says so. The other attacks run on the loopback interface, and “QPN, PSN” means that the attacker has
been told these numbers, as if it had seen or [guessed](#blind-injection) them.

A note or a quoted sentence is the error that the program at that end gets, word for word. Where there is a
note, the program at the other end gets the same after “the peer ended the session: ”. **In bold** is what
works on sealed sessions too.

“Sealed” are messages and slots here, as on every device that can't seal packets. **Where packets are sealed, an
attacker without the key does nothing at all** to what is delivered or to who is connected: other tests let every packet
be forged in clear with all of its numbers right (SENDs, WRITEs, atomics, READ responses, ACKs, NAKs, CNPs), change,
repeat and relabel every sealed one, replay recordings after new keys and into other sessions, and find nothing
delivered, nothing answered, nothing ended, and each of them counted by its reason
(`crates/device/tests/stepped/sealed.rs`, `crates/secure-rdma/tests/session/packets.rs`). T3 can still withhold packets.

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
delivered; a sealed one ends as with “a forged SEND” above.

| what the attacker has to guess | packets sent, all possibilities | taken | refused and counted | needed on average for all bits |
|---|---|---|---|---|
";

const BUSY: &str = "
## Blind answers

The same attacker while a connection is busy. A requester believes an acknowledgement, or a refusal, of any
request that is under way, so that its PSN need not be exact; only the QPN has to be right, and the address. The
tests withhold so many requests and try PSNs around them.

| forged | requests under way | PSNs that are taken | needed on average, the QPN known |
|---|---|---|---|
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
            let sealed = if outcome.sealed == outcome.open { "the same" } else { &outcome.sealed };
            format!("{start} {} | {} | {} | {sealed} |", attack.attacker, attack.knows, outcome.open)
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
            "\n## {title}\n\n| attack | attacker | what it has | open session | sealed session \
             |\n|---|---|---|---|---|\n"
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
