//! `secure-rdma bench`: every operation and measure between two processes, for a moment; what is reported,
//! not how fast anything is.

use crate::harness::{Program, SECURE_RDMA, State, secure_rdma, text};
use serde_json::Value;

const EMBEDDED: [&str; 2] = ["--device", "embedded"];

/// Runs a benchmark that succeeds.
#[track_caller]
fn bench(line: &str) -> Vec<String> {
    let words: Vec<_> = ["bench"].into_iter().chain(line.split(' ')).chain(EMBEDDED).collect();
    secure_rdma(&words).succeeded().out
}

/// The same with JSON.
#[track_caller]
fn report(line: &str) -> Value {
    serde_json::from_str(&bench(&format!("{line} --json")).join("\n")).unwrap()
}

/// Its only result.
#[track_caller]
fn result(report: &Value) -> Value {
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 1, "{report}");
    results[0].clone()
}

#[test]
fn every_operation_is_measured_both_ways_sealed_where_it_can_be() {
    for (operation, size) in [("send", 4096), ("write", 4096), ("read", 4096), ("atomic", 8)] {
        for seal in ["on", "off"] {
            if (operation, seal) == ("atomic", "on") {
                continue;
            }
            let line = |measure| format!("{operation} {measure} -s {size} -n 50 --seal {seal}");

            let bandwidth = report(&line("bw"));
            assert_eq!(bandwidth["operation"], operation, "{bandwidth}");
            assert_eq!(bandwidth["measure"], "bw", "{bandwidth}");
            assert_eq!(bandwidth["sealed"], seal == "on", "{bandwidth}");
            assert_eq!(bandwidth["suite"].is_string(), seal == "on", "{bandwidth}");
            let row = result(&bandwidth);
            assert_eq!((row["bytes"].as_u64(), row["iterations"].as_u64()), (Some(size), Some(50)), "{row}");
            let number = |key: &str| row[key].as_f64().filter(|number| *number > 0.).unwrap();
            let [average, peak, rate] = ["bw_average_gbps", "bw_peak_gbps", "msg_rate_mpps"].map(number);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let expected = rate * size as f64 * 8e-3;
            assert!((average / expected - 1.).abs() < 1e-9 && peak >= average, "{row}");

            let latency = report(&line("lat"));
            assert_eq!(latency["measure"], "lat", "{latency}");
            let row = result(&latency);
            assert_eq!((row["bytes"].as_u64(), row["iterations"].as_u64()), (Some(size), Some(50)), "{row}");
            let number = |key: &str| row[key].as_f64().unwrap();
            let ascending = ["t_min_us", "t_typical_us", "p99_us", "p999_us"].map(number);
            assert!(ascending[0] > 0. && ascending.is_sorted(), "{row}");
            // A histogram keeps four digits.
            assert!(number("t_max_us") >= number("p999_us") * 0.999, "{row}");
            assert!((number("t_min_us")..=number("t_max_us")).contains(&number("t_avg_us")), "{row}");
            assert!(number("t_stdev_us") >= 0., "{row}");
        }
    }
}

#[test]
fn the_table_has_perftests_columns_and_a_row_for_each_size() {
    let out = bench("write bw -a -n 4 -t 2 --seal off");
    assert!(out[0].starts_with("write bw, device embedded") && out[0].ends_with("NOT sealed"), "{out:?}");
    assert_eq!(out[1], " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]");
    let rows: Vec<Vec<&str>> = out[2..].iter().map(|row| row.split_whitespace().collect()).collect();
    let sizes: Vec<u64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(sizes, (1..=23).map(|power| 1 << power).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.len() == 5 && row[1] == "4"), "{out:?}");

    for operation in ["send", "write"] {
        let out = bench(&format!("{operation} bw -a -n 6 -t 3"));
        assert_eq!(out.len(), 2 + 23, "{out:?}");
    }
    let out = bench("send lat -n 20");
    assert!(out[0].contains("data path: sealed, TLS13_"), "{out:?}");
    let columns: Vec<_> = out[1].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(
        columns,
        [
            "#bytes #iterations",
            "t_min[usec]",
            "t_max[usec]",
            "t_typical[usec]",
            "t_avg[usec]",
            "t_stdev[usec]",
            "99% percentile[usec]",
            "99.9% percentile[usec]"
        ]
    );
    assert_eq!(out[2].split_whitespace().count(), 9, "{out:?}");
}

#[test]
fn queue_pairs_depth_mtu_inline_and_both_ways_are_as_asked_for() {
    let many = report("send bw -s 1000 -n 200 -q 4 -t 8 -m 512 --seal off");
    assert_eq!((&many["queue_pairs"], &many["path_mtu"]), (&4.into(), &512.into()), "{many}");
    let row = result(&many);
    assert_eq!((&row["iterations"], &row["depth"]), (&800.into(), &8.into()), "{row}");

    for operation in ["send", "write", "read", "atomic"] {
        let both = report(&format!("{operation} bw -n 100 -b --seal off"));
        assert_eq!(both["bidirectional"], true, "{both}");
        assert_eq!(result(&both)["iterations"], 200, "both sides' together: {both}");
    }
    for line in ["send bw", "write bw", "send lat", "write lat"] {
        let inline = report(&format!("{line} -s 64 -I 64 -n 100 --seal off"));
        assert_eq!(
            (&inline["inline"], &result(&inline)["iterations"]),
            (&64.into(), &100.into()),
            "{inline}"
        );
    }
    for operation in ["send", "write", "read"] {
        let sessions = report(&format!("{operation} bw -s 4096 -q 3 -n 20 -t 6"));
        let row = result(&sessions);
        assert_eq!((&row["iterations"], &row["depth"]), (&60.into(), &6.into()), "{sessions}");
        let usual = report(&format!("{operation} bw -s 4096 -n 300"));
        let row = result(&usual);
        assert_eq!((&row["iterations"], &row["depth"]), (&300.into(), &128.into()), "{usual}");
    }
    for seal in ["on", "off"] {
        let timed = report(&format!("write bw -s 4096 -D 0.1 --seal {seal}"));
        assert!(result(&timed)["iterations"].as_u64().unwrap() > 0, "{timed}");
    }
}

#[test]
fn a_picture_is_drawn() {
    let state = State::new();
    let file = state.path().with_extension("svg");
    bench(&format!("write bw -s 64 -n 10 --seal off --plot {}", text(&file)));
    let picture = std::fs::read_to_string(&file).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("write bandwidth, in clear"), "{picture:.200}");
    let nowhere = ["bench", "send", "lat", "-n", "5", "--plot", "/nonexistent/x.svg"];
    let words: Vec<_> = nowhere.into_iter().chain(EMBEDDED).collect();
    secure_rdma(&words).failed(1, &["/nonexistent/x.svg"]);
}

#[test]
fn a_server_elsewhere_is_believed_only_if_it_is_trusted_and_serves_one_after_the_other() {
    let state = State::new();
    let certs = state.path();
    let listen = ["bench", "server", "--listen", "127.0.0.1:0", "--region", "64K", "--certs", text(&certs)];
    let server = Program::start(SECURE_RDMA, &listen.into_iter().chain(EMBEDDED).collect::<Vec<_>>());
    let line = server.says("listening on ");
    let place = line.split([' ', ',']).nth(2).unwrap().to_owned();
    let pin = server.says("CA fingerprint: ").replace("CA fingerprint: ", "");
    let run = |line: &str, trust: &[&str]| {
        let words = line.split(' ').chain([place.as_str(), "localhost"]).chain(trust.iter().copied());
        secure_rdma(&["bench"].into_iter().chain(words).chain(EMBEDDED).collect::<Vec<_>>())
    };
    let stranger = State::new();
    run("write bw -n 5", &["--certs", text(&stranger.path())]).failed(1, &["CA"]);
    run("write bw -n 5", &["--pin", &pin]).failed(1, &["requires a client certificate"]);
    let bundle = certs.join("worker");
    let issue = ["certs", "issue", "w", "--client", "--bundle", text(&bundle), "--certs", text(&certs)];
    secure_rdma(&issue).succeeded();
    run("write bw -n 5 --seal off", &["--identity", text(&bundle)]).succeeded();
    run("send lat -n 5", &["--identity", text(&bundle)]).succeeded();
    server.says("write bw, 65536 bytes, 1 queue pairs in clear");
    server.says("sent back 5 sealed messages");
    for seal in ["on", "off"] {
        let line = format!("write bw -s 128K -n 5 --seal {seal}");
        run(&line, &["--certs", text(&certs)]).failed(2, &["--region", "65536"]);
    }
    run("read lat -n 5", &["--identity", text(&bundle)]).succeeded();
}

#[test]
fn a_server_that_is_killed_in_the_middle_ends_the_benchmark() {
    let state = State::new();
    let certs = state.path();
    for line in
        ["send bw -D 600 --seal off", "write lat -D 600 --seal off", "write bw -D 600", "send bw -D 600"]
    {
        let listen = ["bench", "server", "--listen", "127.0.0.1:0", "--certs", text(&certs)];
        let server = Program::start(SECURE_RDMA, &listen.into_iter().chain(EMBEDDED).collect::<Vec<_>>());
        let said = server.says("listening on ");
        let place = said.split([' ', ',']).nth(2).unwrap();
        let words = line.split(' ').chain([place, "localhost", "--certs", text(&certs)]);
        let client = Program::start(
            SECURE_RDMA,
            &["bench"].into_iter().chain(words).chain(EMBEDDED).collect::<Vec<_>>(),
        );
        client.says("#bytes");
        server.signal(rustix::process::Signal::KILL);
        client.ends().failed(1, &["error: "]);
    }
}

#[test]
fn wrong_usage_of_a_benchmark_exits_with_2() {
    for (line, word) in [
        ("", "Usage"),
        ("swap bw", "swap"),
        ("write", "MEASURE"),
        ("write speed", "speed"),
        ("write bw -s 0", "64K"),
        ("write bw -s 1G --seal off", "256 MiB"),
        ("write bw -n 0", "--iters"),
        ("write bw -n 5 -D 1", "cannot be used with"),
        ("write bw -a -s 64", "cannot be used with"),
        ("write bw -D 0", "seconds"),
        ("write bw -q 0", "-q"),
        ("write bw -t 0 --seal off", "-t"),
        ("write bw -m 1500 --seal off", "1024"),
        ("write bw -I 4000 --seal off", "1024"),
        ("atomic bw --seal on", "sealed"),
        ("read lat -q 2 --seal off", "-q"),
        ("send bw -b", "--seal off"),
        ("send bw -t 2000", "1024"),
        ("read bw -t 2000", "1024"),
        ("send bw nowhere:port", "nowhere:port"),
        ("server --region 1G", "256M"),
    ] {
        let words = ["bench"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
        let words: Vec<_> = match line {
            "" => words.collect(),
            _ => words.chain(EMBEDDED).collect(),
        };
        let ended = secure_rdma(&words).failed(2, &[word]);
        assert!(ended.out.is_empty(), "{line}: {ended:?}");
    }
}
