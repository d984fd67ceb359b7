//! The program as one runs it, for a very short time: what it reports, not how fast anything is.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

fn compare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compare")).args(arguments).output().unwrap()
}

fn list<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    report[key].as_array().unwrap()
}

#[test]
fn every_contender_has_every_figure_and_ratios_are_quotients_of_medians() {
    let directory = tempfile::tempdir().unwrap();
    let [json, svg] = ["report.json", "report.svg"].map(|name| directory.path().join(name));
    let output =
        compare(&["--seconds", "4", "--json", json.to_str().unwrap(), "--plot", svg.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();

    let key = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        (text("name"), text("op"), entry["size"].as_u64().unwrap())
    };
    let results = list(&report, "results");
    let have: BTreeSet<_> = results.iter().map(key).collect();
    assert_eq!(have.len(), results.len(), "each once");
    let mut expected = Vec::new();
    let mut expect = |name: &'static str, ops: &[&'static str], sizes: &[u64]| {
        expected.extend(ops.iter().flat_map(|op| sizes.iter().map(move |size| (name, *op, *size))));
    };
    let (large, small) = ([65536, 1 << 20], [64, 4096]);
    for name in
        ["udp-limit", "tcp", "tls", "quic", "quic-4096", "embedded", "embedded-sealed", "embedded-stream"]
    {
        expect(name, &["send"], &large);
    }
    for name in ["embedded", "embedded-sealed"] {
        expect(name, &["write", "read"], &large);
    }
    for name in ["udp-limit", "tcp", "tls", "embedded", "embedded-stream"] {
        expect(name, &["round-trip"], &small);
    }
    for name in ["udp-limit", "quic", "embedded", "embedded-sealed", "embedded-stream"] {
        expect(name, &["round-trip-await"], &small);
    }
    for name in ["udp-limit", "tcp", "tls", "quic", "embedded", "embedded-sealed"] {
        expect(name, &["rate"], &[64]);
    }
    expect("embedded", &["rate-16-queue-pairs"], &[64]);
    for name in ["tls", "embedded-sealed"] {
        expect(name, &["connect"], &[0]);
    }
    expect("embedded-sealed", &["idle-memory"], &[0]);
    if report["loss"]["percent"] == 1 {
        for name in ["udp-limit", "tcp", "tls", "quic", "quic-4096", "embedded", "embedded-sealed"] {
            expect(name, &["loss-send"], &[65536]);
        }
        for name in ["embedded", "embedded-sealed"] {
            expect(name, &["loss-write", "loss-read"], &[65536]);
        }
        assert!(report["loss"]["tcp_congestion_control"].is_string(), "{}", report["loss"]);
    } else {
        let message = format!("NOT PROVED: what compare measures where packets are lost: {}", report["loss"]);
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        eprintln!("{message}");
    }
    for (name, op, size) in expected {
        assert!(have.contains(&(name.into(), op.into(), size)), "{name}, {op}, {size} is missing");
    }

    for result in results {
        let number = |value: &Value| value.as_f64().filter(|number| *number > 0.).unwrap();
        let [least, median, most] = ["least", "median", "most"].map(|key| number(&result["spread"][key]));
        assert!(least <= median && median <= most, "{result}");
        let own = match result["unit"].as_str().unwrap() {
            "Gb/s" => &result["gbps"],
            "M/s" => &result["mops"],
            "µs" => &result["lat_us"]["p50"],
            "1/s" => &result["connections_per_second"],
            unit => {
                assert_eq!(unit, "bytes", "{result}");
                &result["bytes"]
            }
        };
        assert_eq!(number(own).to_bits(), median.to_bits(), "{result}");
    }

    let median = |of: &str| {
        let label = |result: &&Value| {
            let size = match result["size"].as_u64().unwrap() {
                0 => String::new(),
                size if size >= 1 << 20 => format!(" {} MiB", size >> 20),
                size if size >= 1 << 10 => format!(" {} KiB", size >> 10),
                size => format!(" {size} B"),
            };
            format!("{} {}{size}", result["name"].as_str().unwrap(), result["op"].as_str().unwrap()) == of
        };
        results.iter().find(label).unwrap()["spread"]["median"].as_f64().unwrap()
    };
    let ratios = report["ratios"].as_object().unwrap();
    assert!(ratios.len() > 30, "{ratios:?}");
    for (name, value) in ratios {
        let expected = match name.split_once(" / ") {
            Some((of, to)) => median(of) / median(to),
            None => median(name),
        };
        assert!((value.as_f64().unwrap() / expected - 1.).abs() < 1e-9, "{name}: {value}, not {expected}");
    }
    assert_eq!(list(&report, "goals").len(), ratios.len());
    assert_eq!(list(&report, "failed"), [] as [Value; 0]);

    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"), "{picture:.100}");
    assert!(picture.contains("embedded-sealed") && picture.contains("Bandwidth, 1 MiB"), "{picture:.300}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("embedded write 1 MiB / udp-limit send 1 MiB"), "{table}");
}

/// The program as somebody runs it who isn't root.
fn compare_as_nobody(arguments: &[&str]) -> Output {
    const NOBODY: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("compare");
    // Others may not be let into the directory where cargo puts it.
    std::fs::copy(env!("CARGO_BIN_EXE_compare"), &program).unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn who_may_make_no_network_is_told_what_is_not_measured_and_why() {
    let output = compare_as_nobody(&["--seconds", "0.3", "--only", "tcp", "--ops", "rate,loss"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("NOT MEASURED") && errors.contains("root"), "{errors}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("rate 64 B") && !table.contains("loss-send"), "{table}");

    let output = compare_as_nobody(&["--seconds", "0.3", "--only", "tcp", "--ops", "loss"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "nothing else was asked for: {errors}");
    assert!(errors.contains("NOT MEASURED") && errors.contains("root"), "{errors}");
}

#[test]
fn wrong_usage_is_told_what_there_is() {
    for (arguments, word) in [
        (&["--only", "carrier-pigeon"][..], "udp-limit"),
        (&["--ops", "swap"], "round-trip"),
        (&["--ops", "swap"], "loss-write"),
        (&["--only", "tcp", "--ops", "write"], "none of the contenders"),
        (&["--seconds", "0"], "0.1"),
        (&["--rounds", "4"], "5"),
        (&["--seconds", "many"], "0.1"),
    ] {
        let output = compare(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
}
