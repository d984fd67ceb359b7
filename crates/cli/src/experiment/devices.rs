//! The devices of this machine, as this program and as rdma-core's own programs show them.

use super::command::{Runner, is_installed, own_line};
use super::document::{Device, Gid, Kind, Part, Tool};
use serde::Deserialize;
use std::path::Path;

/// What `secure-rdma devices --json` prints.
#[derive(Debug, Deserialize)]
struct Listed {
    devices: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    gids: Vec<Gid>,
}

/// The devices that this program can use.
pub(super) async fn devices(runner: &mut Runner) -> Result<Vec<Device>, String> {
    let listed: Listed = runner.json(&["devices", "--json"]).await?;
    let device = |entry: Entry| Device {
        usable: entry.error.is_none(),
        description: entry.description.or(entry.error).unwrap_or_default(),
        name: entry.name,
        gids: entry.gids,
    };
    Ok(listed.devices.into_iter().map(device).collect())
}

/// What the original's commands print here, and what they print on the embedded device.
pub(super) async fn tools(runner: &mut Runner, address: &str) -> Vec<Tool> {
    let mut tools = Vec::new();
    for program in ["ibv_devices", "ibv_devinfo"] {
        let own = ["run", "--address", address, "--", program];
        if !is_installed(program) {
            let missing = format!("{program} isn't installed (Debian, Ubuntu: ibverbs-utils)");
            for command in [program.to_owned(), own_line(&own)] {
                tools.push(Tool { command, output: Part::NotRun(missing.clone()) });
            }
            continue;
        }
        // Where there is no device it says so and fails: that is its answer, and no failure of the experiment.
        let output = runner.other(program, &[]).await.unwrap_or_else(|said| said);
        tools.push(Tool { command: program.to_owned(), output: Part::Measured(output) });
        let output = runner.own(&own).await.into();
        tools.push(Tool { command: own_line(&own), output });
    }
    tools
}

/// Which platform a device is.
pub(super) fn kind(name: &str) -> Kind {
    if name.starts_with("embedded") {
        return Kind::Embedded;
    }
    // Only a device above another interface has that file: Soft-RoCE, whatever its name is.
    let parent = Path::new("/sys/class/infiniband").join(name).join("parent");
    if name.starts_with("rxe") || parent.exists() { Kind::SoftRoce } else { Kind::Hardware }
}
