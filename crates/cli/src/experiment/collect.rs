//! The steps of the experiment, one after the other: they would disturb each other's figures.

use super::command::Runner;
use super::document::{Document, Part};
use super::speed::{self, Effort};
use super::{clients, connections, devices, machine, pingpong, requirements, wire};
use crate::args::ExperimentArgs;
use crate::failure::Failure;
use crate::output;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::Timestamp;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// Connections whose PSNs are looked at, and in the short run.
const CONNECTIONS: usize = 512;
const QUICK_CONNECTIONS: usize = 64;

/// Does all of it. A part that fails doesn't keep the others from being done.
pub(super) async fn collect(args: &ExperimentArgs) -> Result<Document, Failure> {
    let (begun, begin) = (Timestamp::now().to_string(), Instant::now());
    let device = Device::open(&args.device.device)?.name().to_string();
    let selector: DeviceSelector =
        device.parse().map_err(|error| Failure::Other(format!("the device's own name: {error}")))?;
    // Before anything here adds to its load.
    let machine = machine::machine();
    let mut runner = Runner::new()?;
    let address = loopback()?;
    let own = address.to_string();
    let (effort, count) =
        if args.quick { (Effort::QUICK, QUICK_CONNECTIONS) } else { (Effort::FULL, CONNECTIONS) };

    step("devices");
    let devices = devices::devices(&mut runner).await.map_err(Failure::Other)?;
    let tools = devices::tools(&mut runner, &own).await;
    step("messages of 4096 bytes, on each device");
    let platforms = speed::platforms(&mut runner, &devices, effort).await;
    step("throughput and latency over sizes");
    let sizes = speed::sizes(&mut runner, &device, effort).await.into();
    step("ibv_rc_pingpong, unchanged");
    let pingpong = pingpong::pingpong(&mut runner, &own).await;
    step("connections: TLS, certificates, PSNs");
    let (connection, psns) = match connections::connections(&selector, meeting_place(&selector), count).await
    {
        Ok((connection, psns)) => (Part::Measured(connection), Part::Measured(psns)),
        Err(reason) => (Part::Failed(reason.clone()), Part::Failed(reason)),
    };
    step("ten clients at once");
    let clients = clients::clients(&mut runner, &device).await.into();
    step("what an attacker on the path sees");
    let wire = wire::wire(&mut runner, &own).await;

    let mut document = Document {
        program: concat!("secure-rdma ", env!("CARGO_PKG_VERSION")).into(),
        begun,
        seconds: begin.elapsed().as_secs_f64(),
        quick: args.quick,
        optimised: !cfg!(debug_assertions),
        ok: false,
        machine,
        device,
        devices,
        tools,
        platforms,
        sizes,
        pingpong,
        connection,
        psns,
        clients,
        wire,
        requirements: Vec::new(),
        original: requirements::original(),
        commands: runner.into_commands(),
    };
    document.requirements = requirements::requirements(&document);
    document.ok = document.is_good();
    Ok(document)
}

fn step(what: &str) {
    output::note(format_args!("experiment: {what}"));
}

/// Where server and clients of this process meet.
fn meeting_place(device: &DeviceSelector) -> IpAddr {
    match device {
        DeviceSelector::Embedded { address: Some(address), .. } => *address,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

/// One of the loopback network's addresses, which other programs hardly use.
fn loopback() -> Result<Ipv4Addr, Failure> {
    let mut random = [0; 3];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Other(format!("drawing random numbers: {error}")))?;
    let [a, b, c] = random;
    Ok(Ipv4Addr::new(127, a | 0x80, b, c.clamp(1, 254)))
}
