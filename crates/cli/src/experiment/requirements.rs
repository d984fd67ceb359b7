//! What the original was to show, what its evidence was, and ours.

use super::clients::CLIENTS;
use super::document::{
    Clients, Connection, Document, Kind, Original, Part, Psns, Requirement, Verdict, What, Wire,
};

/// What the original measured, on 11 August 2025.
pub(super) fn original() -> Original {
    Original {
        when: "11 August 2025".into(),
        machine: "AWS t3.large (2 vCPU), Ubuntu 20.04, kernel 5.15, Soft-RoCE (rxe0)".into(),
        mbps: 3593.57,
        iteration_us: 18.24,
        sample_psns: vec![0x78_b491, 0xa5_d6cd],
    }
}

/// The table, of what the document has so far.
pub(super) fn requirements(found: &Document) -> Vec<Requirement> {
    let line = |what: &str, original: &str, (verdict, evidence): (Verdict, String)| Requirement {
        what: what.into(),
        verdict,
        evidence,
        original: original.into(),
    };
    vec![
        line(
            "Several clients at once",
            "a server laid out for 10 clients",
            judge(&found.clients, clients_at_once),
        ),
        line(
            "PSNs exchanged in secret",
            "both exchanged over TLS 1.2 or later",
            both(&judge(&found.psns, psns_agree), &judge(&found.connection, tls_is_current)),
        ),
        line(
            "Certificates verified",
            "the server's certificate was not verified",
            judge(&found.connection, others_are_refused),
        ),
        line(
            "Random PSNs of 24 bits",
            "different ones in each run (0x78b491, 0xa5d6cd)",
            judge(&found.psns, psns_are_random),
        ),
        line(
            "RDMA operations through the secure session",
            "ibv_rc_pingpong between two shells; the secure program moved no benchmark data",
            judge(&found.clients, operations),
        ),
        line("Clients kept from each other's memory", "not tried", judge(&found.clients, foreign_regions)),
        line("Nothing to be read on the path", "not tried", judge(&found.wire, nothing_is_seen)),
        line(
            "Performance, measured",
            "3593.57 Mb/s, 18.24 µs an iteration, not through the secure program",
            performance(found),
        ),
        line("Real libraries, no mock", "built against libibverbs and librdmacm", unchanged(found)),
        line(
            "One program on every platform",
            "macOS (a mock), Soft-RoCE; hardware estimated",
            platforms(found),
        ),
    ]
}

type Judged = (Verdict, String);

fn judge<T>(part: &Part<T>, judge: impl FnOnce(&T) -> (bool, String)) -> Judged {
    match part {
        Part::Measured(value) => verdict(judge(value)),
        Part::NotRun(reason) => (Verdict::NotShown, format!("not run: {reason}")),
        Part::Failed(reason) => (Verdict::NotMet, format!("failed: {reason}")),
    }
}

fn verdict((met, evidence): (bool, String)) -> Judged {
    (if met { Verdict::Met } else { Verdict::NotMet }, evidence)
}

/// The worse verdict, and both pieces of evidence.
fn both(one: &Judged, other: &Judged) -> Judged {
    let worse = [Verdict::NotMet, Verdict::NotShown, Verdict::Met]
        .into_iter()
        .find(|verdict| [one.0, other.0].contains(verdict));
    (worse.unwrap_or(Verdict::NotShown), format!("{}; {}", one.1, other.1))
}

fn clients_at_once(found: &Clients) -> (bool, String) {
    let met = found.at_once == CLIENTS && found.clients.len() == CLIENTS;
    (met, format!("the server counted {} sessions before the first of {CLIENTS} clients left", found.at_once))
}

fn operations(found: &Clients) -> (bool, String) {
    let done = |client: &&super::document::Client| {
        let ops = &client.ops;
        [&ops.send, &ops.write, &ops.read, &ops.fetch_add, &ops.compare_swap].iter().all(|word| *word == "ok")
    };
    let count = found.clients.iter().filter(done).count();
    let evidence = format!(
        "send, write, read, fetch-add and compare-swap of {count} clients, every byte compared; sealed by {}",
        found.seal
    );
    (count == CLIENTS && found.seal != "none", evidence)
}

fn foreign_regions(found: &Clients) -> (bool, String) {
    let refused = found.clients.iter().filter(|client| client.ops.foreign_region == "refused").count();
    (refused == CLIENTS, format!("{} of {} attempts refused by the device", 2 * refused, 2 * CLIENTS))
}

fn psns_agree(found: &Psns) -> (bool, String) {
    let count = found.pairs.len();
    (
        found.agreed == count,
        format!("both sides had the same pair in {} of {count} connections", found.agreed),
    )
}

fn tls_is_current(found: &Connection) -> (bool, String) {
    let Connection { version, suite, group, .. } = found;
    (version == "TLSv1.3", format!("{version}, {suite}, {group}"))
}

fn others_are_refused(found: &Connection) -> (bool, String) {
    let refused = found.refusals.iter().filter(|refusal| refusal.refused).count();
    let evidence = format!(
        "{refused} of {} clients refused: another CA, another name, no certificate, another CA's certificate",
        found.refusals.len()
    );
    (refused == found.refusals.len() && refused > 0, evidence)
}

fn psns_are_random(found: &Psns) -> (bool, String) {
    let evidence = format!(
        "{} PSNs, {} of them distinct; each of the 24 bits was set in some and clear in others; \
         chi-square {:.1} over {} parts",
        found.count(),
        found.distinct,
        found.chi_square,
        found.bins.len()
    );
    (found.uses_all_bits(), evidence)
}

fn nothing_is_seen(found: &Wire) -> (bool, String) {
    let pattern = |capture: &super::document::Capture| {
        let findings = capture.findings.iter().filter(|finding| finding.what == What::Pattern);
        findings.map(|finding| finding.data + finding.control).sum::<usize>()
    };
    let (sealed, clear) = (pattern(&found.sealed), pattern(&found.clear));
    let hidden = found.sealed.findings.iter().all(|finding| finding.data + finding.control == 0);
    let evidence = format!(
        "what was sent is {clear} times in the capture of a session in clear, and {sealed} times in that of a \
         sealed one, where queue pairs, PSN, address and rkey can't be read either"
    );
    // A capture in which nothing is found of a session in clear proves nothing.
    (hidden && clear > 0, evidence)
}

fn performance(found: &Document) -> Judged {
    let measured = found.platforms.iter().find(|platform| platform.device.as_ref() == Some(&found.device));
    let platform = measured.or_else(|| found.platforms.first());
    let Some(platform) = platform else { return (Verdict::NotMet, "nothing was measured".into()) };
    judge(&platform.result, |measurement| {
        let sealed = &measurement.sealed;
        let evidence = format!(
            "through the sealed session itself: {:.0} Mb/s, {:.2} µs an iteration, one message at a time; \
             {:.1} Gb/s with many",
            sealed.pingpong_mbps, sealed.iteration_us.median, sealed.bandwidth_gbps.median
        );
        (sealed.seal != "none", evidence)
    })
}

fn unchanged(found: &Document) -> Judged {
    judge(&found.pingpong, |pingpong| match (&pingpong.clear, &pingpong.sealed) {
        (Part::Measured(clear), Part::Measured(sealed)) => {
            let evidence = format!(
                "libibverbs' own ibv_rc_pingpong, unchanged, on the embedded device: {:.0} Mb/s, sealed {:.0}",
                clear.mbps, sealed.mbps
            );
            (true, evidence)
        }
        (clear, sealed) => {
            let reason = clear.missing().or_else(|| sealed.missing());
            (false, format!("ibv_rc_pingpong: {}", reason.unwrap_or_default()))
        }
    })
}

fn platforms(found: &Document) -> Judged {
    let name = |kind| match kind {
        Kind::Embedded => "embedded",
        Kind::SoftRoce => "Soft-RoCE",
        Kind::Hardware => "hardware",
    };
    let failed = found.platforms.iter().any(|platform| platform.result.has_failed());
    let shown = |platform: &super::document::Platform| {
        let state = match &platform.result {
            Part::Measured(_) => "measured",
            Part::NotRun(_) => "not run",
            Part::Failed(_) => "FAILED",
        };
        format!("{} {state}", platform.device.as_deref().unwrap_or(name(platform.kind)))
    };
    let evidence = found.platforms.iter().map(shown).collect::<Vec<_>>().join(", ");
    let all = found.platforms.iter().all(|platform| platform.result.measured().is_some());
    let verdict = match (failed, all) {
        (true, _) => Verdict::NotMet,
        (false, true) => Verdict::Met,
        (false, false) => Verdict::NotShown,
    };
    (verdict, evidence)
}
