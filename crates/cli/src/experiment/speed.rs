//! How fast sessions and queue pairs are: `secure-rdma bench`, in a process of its own.

use super::command::Runner;
use super::devices::kind;
use super::document::{Device, Figures, Kind, Lines, Measurement, Part, Platform, Point, Sizes, Spread};
use serde::Deserialize;

/// Bytes of the original's messages.
const BYTES: u32 = 4096;

/// How long it all takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Messages of the original's measurement.
    messages: u64,
    /// How often that is repeated.
    runs: usize,
    /// Sizes that are measured over: all of `bench -a` where `None`.
    sizes: Option<&'static [u32]>,
    /// Seconds for each size.
    seconds: &'static str,
}

impl Effort {
    /// As the original had it.
    pub(super) const FULL: Self = Self { messages: 1000, runs: 5, sizes: None, seconds: "0.1" };
    /// To see that everything works.
    pub(super) const QUICK: Self =
        Self { messages: 200, runs: 1, sizes: Some(&[64, 4096, 65_536]), seconds: "0.02" };
}

/// What `secure-rdma bench --json` prints.
#[derive(Debug, Deserialize)]
struct Bench {
    seal: String,
    results: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    bytes: u32,
    bw_average_gbps: Option<f64>,
    t_typical_us: Option<f64>,
    t_avg_us: Option<f64>,
}

/// A data path: whether it is sealed.
#[derive(Clone, Copy, Debug)]
enum Path {
    Sealed,
    Clear,
}

impl Path {
    fn option(self) -> &'static str {
        match self {
            Self::Sealed => "on",
            Self::Clear => "off",
        }
    }
}

/// The original's measurement on each platform.
pub(super) async fn platforms(runner: &mut Runner, devices: &[Device], effort: Effort) -> Vec<Platform> {
    let mut platforms = Vec::new();
    for platform in [Kind::Embedded, Kind::SoftRoce, Kind::Hardware] {
        let of_kind: Vec<_> = devices.iter().filter(|device| kind(&device.name) == platform).collect();
        if of_kind.is_empty() {
            let reason = match platform {
                Kind::Embedded => "there is no address that it could use",
                Kind::SoftRoce => {
                    "this machine has no Soft-RoCE device (rdma link add rxe0 type rxe netdev eth0)"
                }
                Kind::Hardware => "this machine has no RDMA network card",
            };
            let result = Part::NotRun(reason.to_owned());
            platforms.push(Platform { kind: platform, device: None, result });
        }
        for device in of_kind {
            let result = if device.usable {
                measure(runner, &device.name, effort).await.into()
            } else {
                Part::NotRun(format!("{} can't be used: {}", device.name, device.description))
            };
            platforms.push(Platform { kind: platform, device: Some(device.name.clone()), result });
        }
    }
    platforms
}

/// Messages of the original's size. The two paths take turns: what else this machine does meets both.
async fn measure(runner: &mut Runner, device: &str, effort: Effort) -> Result<Measurement, String> {
    let (bytes, messages) = (BYTES.to_string(), effort.messages.to_string());
    let mut paths = [(Path::Sealed, Vec::new(), Vec::new()), (Path::Clear, Vec::new(), Vec::new())];
    let mut seals = [String::new(), String::new()];
    for _ in 0..effort.runs {
        for ((path, bandwidths, iterations), seal) in paths.iter_mut().zip(&mut seals) {
            let what = ["-s", &bytes, "-n", &messages];
            let run = bench(runner, "bw", *path, device, &what).await?;
            let row = run.results.first().ok_or("it measured nothing")?;
            bandwidths.push(row.bw_average_gbps.ok_or("it told no bandwidth")?);
            let run = bench(runner, "lat", *path, device, &what).await?;
            let row = run.results.first().ok_or("it measured nothing")?;
            // A message there and one back.
            iterations.push(2. * row.t_avg_us.ok_or("it told no latency")?);
            *seal = run.seal;
        }
    }
    let [sealed, clear] = paths.map(|(_, bandwidths, iterations)| figures(bandwidths, iterations));
    let [seal, none] = seals;
    let sealed = Figures { seal, ..sealed.ok_or("nothing was measured")? };
    let clear = Figures { seal: none, ..clear.ok_or("nothing was measured")? };
    Ok(Measurement { bytes: BYTES, messages: effort.messages, sealed, clear })
}

fn figures(bandwidths: Vec<f64>, iterations: Vec<f64>) -> Option<Figures> {
    let iteration_us = Spread::of(iterations)?;
    Some(Figures {
        seal: String::new(),
        bandwidth_gbps: Spread::of(bandwidths)?,
        iteration_us,
        pingpong_mbps: f64::from(2 * 8 * BYTES) / iteration_us.median,
    })
}

/// Bandwidth and latency over the sizes of messages.
pub(super) async fn sizes(runner: &mut Runner, device: &str, effort: Effort) -> Result<Sizes, String> {
    let bandwidth_gbps = lines(runner, "bw", device, effort, |row| row.bw_average_gbps).await?;
    let latency_us = lines(runner, "lat", device, effort, |row| row.t_typical_us).await?;
    Ok(Sizes { bandwidth_gbps, latency_us })
}

async fn lines(
    runner: &mut Runner,
    measure: &str,
    device: &str,
    effort: Effort,
    figure: fn(&Row) -> Option<f64>,
) -> Result<Lines, String> {
    let sealed = line(runner, measure, Path::Sealed, device, effort, figure).await?;
    let clear = line(runner, measure, Path::Clear, device, effort, figure).await?;
    Ok(Lines { sealed, clear })
}

async fn line(
    runner: &mut Runner,
    measure: &str,
    path: Path,
    device: &str,
    effort: Effort,
    figure: fn(&Row) -> Option<f64>,
) -> Result<Vec<Point>, String> {
    let mut rows = Vec::new();
    match effort.sizes {
        None => rows = bench(runner, measure, path, device, &["-a", "-D", effort.seconds]).await?.results,
        Some(sizes) => {
            for size in sizes {
                let size = size.to_string();
                let what = ["-s", &size, "-D", effort.seconds];
                rows.extend(bench(runner, measure, path, device, &what).await?.results);
            }
        }
    }
    let point = |row: &Row| figure(row).map(|value| Point { bytes: row.bytes, value });
    rows.iter().map(point).collect::<Option<_>>().ok_or_else(|| "a figure is missing".to_owned())
}

async fn bench(
    runner: &mut Runner,
    measure: &str,
    path: Path,
    device: &str,
    what: &[&str],
) -> Result<Bench, String> {
    let mut arguments = vec!["bench", "send", measure];
    arguments.extend(what);
    arguments.extend(["--seal", path.option(), "--device", device, "--json"]);
    runner.json(&arguments).await
}
