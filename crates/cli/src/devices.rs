//! `secure-rdma devices`.

use crate::args::DevicesArgs;
use crate::failure::Failure;
use crate::{logging, output};
use rdma_verbs::{Attributes, Device, DeviceSelector, GidEntry};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    devices: Vec<Entry>,
}

/// One device: what it is, or why it can't be used.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum State {
    Usable {
        description: String,
        gids: Vec<Gid>,
        limits: Limits,
        /// What libibverbs tells beside that, by the names that `ibv_devinfo -v` has.
        details: BTreeMap<&'static str, String>,
        counters: BTreeMap<String, u64>,
    },
    Unusable {
        error: String,
    },
}

#[derive(Debug, Serialize)]
struct Gid {
    index: usize,
    gid: String,
    kind: String,
    address: Option<String>,
    interface: Option<String>,
    mtu: u32,
}

#[derive(Debug, Serialize)]
struct Limits {
    queue_pairs: usize,
    work_requests: usize,
    scatter_gather_elements: usize,
    /// Null where only making a queue pair tells.
    inline_bytes: Option<usize>,
    completion_queue_entries: usize,
    memory_regions: usize,
    message_bytes: u32,
    /// Of the peer, answered at a time.
    reads_and_atomics: u8,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    logging::start(false);
    let devices: Vec<_> = rdma_verbs::devices().iter().map(entry).collect();
    if args.json {
        return output::json(&Document { devices });
    }
    devices.iter().try_for_each(|device| show(device, args.verbose))
}

fn entry(selector: &DeviceSelector) -> Entry {
    let state = describe(selector).unwrap_or_else(|error| State::Unusable { error: error.to_string() });
    Entry { name: selector.to_string(), state }
}

fn describe(selector: &DeviceSelector) -> Result<State, rdma_verbs::Error> {
    let device = Device::open(selector)?;
    let counters = device.counters().into_iter().map(|(name, count)| (name.into_owned(), count));
    Ok(State::Usable {
        description: device.description().into_owned(),
        gids: device.gids().iter().map(gid).collect(),
        limits: limits(device.attributes()),
        details: device.facts()?.into_iter().collect(),
        counters: counters.collect(),
    })
}

fn gid(entry: &GidEntry) -> Gid {
    Gid {
        index: entry.index,
        gid: entry.gid.to_string(),
        kind: entry.kind.to_string(),
        address: entry.address.map(|address| address.to_string()),
        interface: entry.interface.clone(),
        mtu: entry.mtu.bytes(),
    }
}

fn limits(attributes: Attributes) -> Limits {
    Limits {
        queue_pairs: attributes.max_qp,
        work_requests: attributes.max_qp_wr,
        scatter_gather_elements: attributes.max_sge,
        inline_bytes: attributes.max_inline,
        completion_queue_entries: attributes.max_cqe,
        memory_regions: attributes.max_mr,
        message_bytes: attributes.max_message,
        reads_and_atomics: attributes.max_qp_rd_atom,
    }
}

fn show(device: &Entry, verbose: bool) -> Result<(), Failure> {
    let (description, gids, limits, details, counters) = match &device.state {
        State::Usable { description, gids, limits, details, counters } => {
            (description, gids, limits, details, counters)
        }
        State::Unusable { error } => {
            return output::line(format_args!("{}: can't be used: {error}", device.name));
        }
    };
    output::line(format_args!("{}: {description}", device.name))?;
    for Gid { index, gid, kind, address, interface, mtu } in gids {
        let address = address.as_ref().unwrap_or(gid);
        let interface = interface.as_deref().unwrap_or("no interface");
        output::line(format_args!("  GID {index}: {address} ({kind}, {interface}), path MTU up to {mtu}"))?;
    }
    if !verbose {
        return Ok(());
    }
    let inline = limits.inline_bytes.map(|bytes| bytes as u64);
    for (what, limit) in [
        ("queue pairs", Some(limits.queue_pairs as u64)),
        ("work requests in a queue", Some(limits.work_requests as u64)),
        ("elements of a scatter/gather list", Some(limits.scatter_gather_elements as u64)),
        ("bytes of an inline request", inline),
        ("entries of a completion queue", Some(limits.completion_queue_entries as u64)),
        ("memory regions", Some(limits.memory_regions as u64)),
        ("bytes of a message", Some(limits.message_bytes.into())),
        ("reads and atomics answered at a time on a queue pair", Some(limits.reads_and_atomics.into())),
    ] {
        match limit {
            Some(limit) => output::line(format_args!("  {what}: at most {limit}"))?,
            None => output::line(format_args!("  {what}: known when a queue pair is made"))?,
        }
    }
    for (name, value) in details {
        output::line(format_args!("  {name}: {value}"))?;
    }
    for (name, count) in counters.iter().filter(|(_, count)| **count > 0) {
        output::line(format_args!("  counter {name}: {count}"))?;
    }
    Ok(())
}
