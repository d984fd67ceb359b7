//! The experiment's report: its facts, and its page in a real browser.

use crate::browser::Browser;
use crate::harness::{Ended, Program, SECURE_RDMA, secure_rdma, text};
use crate::run::is_installed;
use html5ever::tendril::TendrilSink;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

/// How long the short run may take, which takes some seconds on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(300);

/// A short run, which all tests look at, and its directory. CI keeps what is there: the report and its pictures.
static REPORT: LazyLock<(PathBuf, Value)> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("experiment");
    let _ = fs::remove_dir_all(&dir);
    let mut command = Command::new(SECURE_RDMA);
    command.args(["experiment", "--quick", "--report", text(&dir)]);
    let ended = Program::spawn(&mut command).ends_within(LIMIT).succeeded();
    assert!(ended.out.last().unwrap().ends_with("; ok"), "{ended:?}");
    let document = serde_json::from_str(&fs::read_to_string(dir.join("experiment.json")).unwrap()).unwrap();
    (dir, document)
});

fn document() -> &'static Value {
    &REPORT.1
}

fn page() -> PathBuf {
    REPORT.0.join("experiment.html")
}

/// What a part came to, which must have been measured.
#[track_caller]
fn measured(part: &Value) -> &Value {
    assert_eq!(part["state"], "measured", "{part}");
    &part["value"]
}

#[test]
fn both_sides_have_the_same_random_psns_of_24_bits() {
    let psns = measured(&document()["psns"]);
    let pairs = psns["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), &psns["agreed"]), (64, &64.into()), "{psns}");
    let numbers: Vec<u64> =
        pairs.iter().flat_map(|pair| ["client", "server"].map(|side| pair[side].as_u64().unwrap())).collect();
    assert!(numbers.iter().all(|psn| *psn < 1 << 24), "{numbers:?}");
    // Of 128 random bits all are equal once in 2^127 runs.
    for bit in 0..24 {
        let ones = numbers.iter().filter(|psn| *psn >> bit & 1 == 1).count();
        assert_eq!(psns["ones"][bit], ones, "bit {bit}");
        assert!((1..128).contains(&ones), "bit {bit}: {ones}");
    }
    let bins: u64 = psns["bins"].as_array().unwrap().iter().map(|bin| bin.as_u64().unwrap()).sum();
    assert_eq!(bins, 128);
}

#[test]
fn ten_clients_were_connected_at_once_and_did_everything() {
    let clients = measured(&document()["clients"]);
    assert_eq!(clients["at_once"], 10);
    assert_ne!(clients["seal"], "none");
    let all = clients["clients"].as_array().unwrap();
    assert_eq!(all.len(), 10);
    for client in all {
        for operation in ["send", "write", "read", "fetch_add", "compare_swap"] {
            assert_eq!(client["ops"][operation], "ok", "{client}");
        }
        assert_eq!(client["ops"]["foreign_region"], "refused", "{client}");
    }
}

#[test]
fn tls_is_current_and_whoever_should_not_be_let_in_is_not() {
    let connection = measured(&document()["connection"]);
    assert_eq!(connection["version"], "TLSv1.3");
    assert_ne!(connection["seal"], "none");
    let kinds: Vec<_> = connection["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert!(["CA", "server", "client"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let refusals = connection["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 4);
    for refusal in refusals {
        assert_eq!(refusal["refused"], true, "{refusal}");
    }
}

#[test]
fn every_figure_was_measured_sealed_and_in_clear() {
    let document = document();
    let embedded = &document["platforms"][0];
    assert_eq!(embedded["kind"], "embedded");
    let measurement = measured(&embedded["result"]);
    assert_eq!((&measurement["bytes"], &measurement["messages"]), (&4096.into(), &200.into()));
    assert_eq!(
        (&measurement["sealed"]["seal"], &measurement["clear"]["seal"]),
        (&"packets".into(), &"none".into())
    );
    for path in ["sealed", "clear"] {
        let figures = &measurement[path];
        let median = |figure: &str| figures[figure]["median"].as_f64().unwrap();
        assert!(median("bandwidth_gbps") > 0. && median("iteration_us") > 0., "{figures}");
        let mbps = 2. * 8. * 4096. / median("iteration_us");
        assert!((figures["pingpong_mbps"].as_f64().unwrap() / mbps - 1.).abs() < 1e-9, "{figures}");
        for figure in ["bandwidth_gbps", "latency_us"] {
            let points = measured(&document["sizes"])[figure][path].as_array().unwrap();
            let sizes: Vec<_> = points.iter().map(|point| point["bytes"].as_u64().unwrap()).collect();
            assert_eq!(sizes, [64, 4096, 65_536]);
            assert!(points.iter().all(|point| point["value"].as_f64().unwrap() > 0.), "{points:?}");
        }
    }
    // What was run is shown.
    let commands = document["commands"].as_array().unwrap();
    for part in ["devices --json", "bench send lat -s 4096 -n 200 --seal on", "demo --clients 10"] {
        assert!(
            commands
                .iter()
                .any(|one| one["line"].as_str().unwrap().contains(part) && one["outcome"] == "done"),
            "{part}: {commands:?}"
        );
    }
}

#[test]
fn unchanged_programs_ran_in_clear_and_sealed() {
    if !is_installed("ibv_rc_pingpong", "ibverbs-utils") {
        return;
    }
    let pingpong = measured(&document()["pingpong"]);
    for path in ["clear", "sealed"] {
        assert!(measured(&pingpong[path])["mbps"].as_f64().unwrap() > 0., "{pingpong}");
    }
    let tools = document()["tools"].as_array().unwrap();
    let own =
        tools.iter().find(|tool| tool["command"].as_str().unwrap().ends_with("-- ibv_devinfo")).unwrap();
    let output = measured(&own["output"]).as_str().unwrap();
    assert!(output.contains("PORT_ACTIVE"), "{output}");
}

/// The number of times that something was found, of a session: in the data path and beside it.
fn found(wire: &Value, session: &str, what: &str) -> (u64, u64) {
    let findings = wire[session]["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["what"] == what).unwrap();
    (finding["data"].as_u64().unwrap(), finding["control"].as_u64().unwrap())
}

#[track_caller]
fn check_wire(wire: &Value) {
    // 40 times in each of 5 messages, sent and sent back, written and read.
    assert!(found(wire, "clear", "pattern").0 >= 4 * 5 * 40, "{wire}");
    for what in ["server_qpn", "client_qpn", "client_psn", "region"] {
        assert!(found(wire, "clear", what).0 > 0, "{what}: {wire}");
    }
    for what in ["pattern", "server_qpn", "client_qpn", "client_psn", "region"] {
        assert_eq!(found(wire, "sealed", what), (0, 0), "{what}: {wire}");
        assert_eq!(found(wire, "clear", what).1, 0, "{what}, inside TLS: {wire}");
    }
    assert_eq!(wire["sealed"]["seal"], "packets");
    // Both captures have all that was moved: 20 times 40 repetitions of 48 bytes.
    for session in ["sealed", "clear"] {
        assert!(wire[session]["bytes"].as_u64().unwrap() >= 20 * 40 * 48, "{session}: {wire}");
    }
    assert!(wire["sealed"]["control_bytes"].as_u64().unwrap() > 1000, "{wire}");
}

/// Whether this user may make a network of its own, in which it may capture.
fn may_unshare() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn an_attacker_finds_all_of_a_session_in_clear_and_nothing_of_a_sealed_one() {
    let wire = &document()["wire"];
    if wire["state"] == "not_run" {
        assert!(!may_unshare() && std::env::var("CI").is_err(), "{wire}");
        eprintln!("NOT PROVED: what an attacker on the path sees: this user can't capture: {wire}");
        return;
    }
    check_wire(measured(wire));
}

#[test]
fn who_may_not_capture_does_so_in_a_network_of_its_own() {
    if !is_installed("setpriv", "util-linux") {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_raw", SECURE_RDMA, "experiment", "--capture", "127.83.69.1"]);
    Program::spawn(&mut command).end().failed(1, &["no right to capture"]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_raw", SECURE_RDMA, "experiment", "--quick", "--json"]);
    let ended: Ended = Program::spawn(&mut command).ends_within(LIMIT).succeeded();
    let document: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let wire = &document["wire"];
    if !may_unshare() {
        assert_eq!(wire["state"], "not_run", "{wire}");
        eprintln!("NOT PROVED: capturing in a network of one's own, which this user can't make");
        return;
    }
    assert!(measured(wire)["how"].as_str().unwrap().contains("a network of its own"), "{wire}");
    check_wire(measured(wire));
}

#[test]
fn a_directory_that_cannot_be_written_is_said_before_anything_is_measured() {
    let ended = secure_rdma(&["experiment", "--report", "/dev/null/report"]);
    let ended = ended.failed(1, &["the report can't be written", "/dev/null/report", "--report"]);
    assert!(ended.out.is_empty() && !ended.err.contains("experiment: "), "{ended:?}");
    secure_rdma(&["experiment", "--device", "nosuch0"]).failed(1, &["nosuch0"]);
}

#[test]
fn markdown_and_its_plots_are_there() {
    let dir = &REPORT.0;
    let markdown = fs::read_to_string(dir.join("experiment.md")).unwrap();
    for name in ["iterations", "bandwidth", "latency", "psns"] {
        assert!(markdown.contains(&format!("]({name}.svg)")), "{name}");
        let plot = fs::read_to_string(dir.join(name).with_extension("svg")).unwrap();
        assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"), "{name}");
    }
    // No table has fallen apart: each row has its header's columns.
    let mut columns = None;
    for line in markdown.lines() {
        let cells = line.replace(r"\|", "").matches('|').count();
        columns = line.starts_with('|').then(|| *columns.get_or_insert(cells));
        assert!(columns.is_none_or(|columns| columns == cells), "{line}");
    }
}

/// Calls `visit` with every element's name and attributes.
fn elements(node: &Handle, visit: &mut impl FnMut(&str, &[(String, String)])) {
    if let NodeData::Element { name, attrs, .. } = &node.data {
        let attributes = attrs.borrow();
        let pair = |attribute: &html5ever::Attribute| {
            (attribute.name.local.to_string(), attribute.value.to_string())
        };
        visit(&name.local, &attributes.iter().map(pair).collect::<Vec<_>>());
    }
    node.children.borrow().iter().for_each(|child| elements(child, visit));
}

#[test]
fn the_page_is_well_formed_and_refers_to_nothing_outside() {
    let html = fs::read_to_string(page()).unwrap();
    let dom = parse_document(RcDom::default(), ParseOpts::default()).one(html.as_str());
    assert!(dom.errors.borrow().is_empty(), "{:?}", dom.errors.borrow());
    let mut plots = 0;
    elements(&dom.document, &mut |name, attributes| {
        assert!(!["script", "iframe", "object", "embed", "base", "form", "image"].contains(&name), "{name}");
        plots += usize::from(name == "svg");
        for (key, value) in attributes {
            assert!(!key.starts_with("on"), "{name} {key}");
            if ["href", "src", "srcset", "action", "data", "background", "poster"].contains(&key.as_str()) {
                assert!(value.starts_with('#') || value == "data:,", "{name} {key}={value}");
            }
        }
    });
    assert_eq!(plots, 4);
    for word in ["url(", "@import", "http://", "https://"] {
        let rest = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!rest.contains(word), "{word}");
    }
}

#[test]
fn a_browser_shows_the_page_on_desktops_and_phones_without_complaint() {
    if !is_installed("chromium", "chromium") {
        return;
    }
    let mut browser = Browser::start();
    for (name, width) in [("desktop", 1280), ("phone", 390), ("small-phone", 320)] {
        browser.open(&page(), width);
        let seen = browser.evaluate("document.documentElement.scrollWidth");
        let wide = browser.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg') \
             && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))",
        );
        assert!(seen.as_u64().unwrap() <= u64::from(width), "{name}: {seen} pixels wide: {wide}");
        assert_eq!(wide, serde_json::json!([]), "{name}");
        assert_eq!(browser.evaluate("innerWidth"), width);
        assert_eq!(browser.evaluate("document.querySelectorAll('section').length"), 9);
        fs::write(REPORT.0.join(name).with_extension("png"), browser.picture()).unwrap();
    }
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    let requests = browser.requests();
    assert!(requests.iter().filter(|url| url.starts_with("file://")).count() >= 3, "{requests:?}");
    let page = format!("file://{}", page().display());
    assert!(requests.iter().all(|url| *url == page || url.starts_with("data:")), "{requests:?}");
}
