//! `secure-rdma devices`.

use crate::args::DevicesArgs;
use crate::failure::Failure;
use crate::{logging, output};
use serde::Serialize;
use verbs::{Attributes, Device, DeviceInfo, DeviceSelector};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    devices: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    description: String,
    gids: Vec<Gid>,
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct Gid {
    index: usize,
    address: String,
    interface: String,
    mtu: u32,
}

#[derive(Debug, Serialize)]
struct Limits {
    queue_pairs: usize,
    work_requests: usize,
    scatter_gather_elements: usize,
    inline_bytes: usize,
    completion_queue_entries: usize,
    memory_regions: usize,
    message_bytes: u32,
    reads_and_atomics: u8,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<(), Failure> {
    logging::start(false);
    let devices = verbs::devices()?.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        return output::json(&Document { devices });
    }
    devices.iter().try_for_each(|device| show(device, args.verbose))
}

fn entry(info: DeviceInfo) -> Result<Entry, Failure> {
    let selector: DeviceSelector =
        info.name.parse().unwrap_or_else(|_| DeviceSelector::Named(info.name.clone()));
    let attributes = Device::open(&selector)?.attributes();
    let gids = info.gids.into_iter().map(|gid| Gid {
        index: gid.index,
        address: gid.address.to_string(),
        interface: gid.interface,
        mtu: gid.mtu.bytes(),
    });
    Ok(Entry {
        name: info.name,
        description: info.description,
        gids: gids.collect(),
        limits: limits(attributes),
    })
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
        reads_and_atomics: attributes.max_rd_atomic,
    }
}

fn show(device: &Entry, verbose: bool) -> Result<(), Failure> {
    output::line(format_args!("{}: {}", device.name, device.description))?;
    for Gid { index, address, interface, mtu } in &device.gids {
        output::line(format_args!("  GID {index}: {address} ({interface}), path MTU up to {mtu}"))?;
    }
    if verbose {
        let limits = &device.limits;
        for (what, limit) in [
            ("queue pairs", limits.queue_pairs as u64),
            ("work requests in a queue", limits.work_requests as u64),
            ("elements of a scatter/gather list", limits.scatter_gather_elements as u64),
            ("bytes of an inline request", limits.inline_bytes as u64),
            ("entries of a completion queue", limits.completion_queue_entries as u64),
            ("memory regions", limits.memory_regions as u64),
            ("bytes of a message", limits.message_bytes.into()),
            ("reads and atomics under way on a queue pair", limits.reads_and_atomics.into()),
        ] {
            output::line(format_args!("  {what}: at most {limit}"))?;
        }
    }
    Ok(())
}
