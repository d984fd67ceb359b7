//! What an attacker on the path sees: a sealed session and one in clear are captured whole, and searched for what was
//! sent and for the numbers that reach into memory.
//!
//! A packet socket needs a right (`CAP_NET_RAW`) that most users lack. Where the kernel lets them have a network of
//! their own (`unshare`, user_namespaces(7)), they have it there; both ends run in it then.

use super::capture::Capture as Running;
use super::command::{Runner, is_installed};
use super::document::{Capture, Finding, Part, What, Wire};
use super::meeting::{Meeting, told};
use super::packet::{Packet, bth, hexdump, occurrences};
use rdma_verbs::{DeviceSelector, RemoteRegion};
use secure_rdma::SessionInfo;
use secure_rdma::control::SealPolicy;
use std::io::ErrorKind;
use std::net::Ipv4Addr;

/// What the process that captures ends with where it hasn't the right: the text stands in its last line.
const NOT_ALLOWED: &str = "no right to capture";

/// How often the pattern is in each message: so often that pieces of it are in each packet.
const REPEATED: usize = 40;

/// Messages that are sent and sent back, and pieces that are written and read.
const ROUNDS: u32 = 5;

/// Captures in a process of its own, here or in a network of its own.
pub(super) async fn wire(runner: &mut Runner, address: &str) -> Part<Wire> {
    let arguments = ["experiment", "--capture", address];
    let here = runner.json(&arguments).await;
    let reason = match here {
        Err(reason) if reason.contains(NOT_ALLOWED) => reason,
        here => return here.into(),
    };
    if !is_installed("unshare") || !is_installed("ip") {
        return Part::NotRun(format!("{reason}; unshare or ip, for a network of its own, isn't installed"));
    }
    let Some(program) = runner.program().to_str().map(str::to_owned) else {
        return Part::NotRun(format!("{reason}; and this program's path isn't UTF-8"));
    };
    let script = format!("ip link set lo up && exec \"$0\" experiment --capture {address}");
    let arguments = ["--user", "--map-root-user", "--net", "sh", "-c", &script, &program];
    match runner.other("unshare", &arguments).await {
        Ok(text) => match serde_json::from_str::<Wire>(&text) {
            Ok(mut wire) => {
                wire.how = format!("{} In a network of its own (unshare --user --net).", wire.how);
                Part::Measured(wire)
            }
            Err(error) => Part::Failed(format!("reading what it printed: {error}")),
        },
        Err(error) if error.contains("unshare: ") => Part::NotRun(format!(
            "{reason}, and none to make a network of its own ({error}): run it as root, or with CAP_NET_RAW"
        )),
        Err(error) => Part::Failed(error),
    }
}

/// Captures both sessions; the server is at `address`, one of the loopback network's.
pub(super) async fn capture(address: Ipv4Addr) -> Result<Wire, String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| format!("drawing random numbers: {error}"))?;
    let pattern = format!("known-to-whoever-looks-for-it-{:016x}. ", u64::from_be_bytes(random));
    let how = format!(
        "A packet socket on the loopback interface, for what goes to and comes from {address}, from the first packet \
         of the TCP connection to the last."
    );
    let sealed = session(address, SealPolicy::Required, &pattern).await?;
    let clear = session(address, SealPolicy::Off, &pattern).await?;
    Ok(Wire { how, sealed, clear })
}

async fn session(address: Ipv4Addr, seal: SealPolicy, pattern: &str) -> Result<Capture, String> {
    let running = Running::start(address).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => format!("{NOT_ALLOWED}: {error}"),
        _ => format!("capturing: {error}"),
    })?;
    let at = |address| DeviceSelector::Embedded { address, port: None };
    let meeting = Meeting::start(&at(Some(address.into())), &at(None), address.into(), seal).await?;
    let mut pair = meeting.open().await?;
    let (info, region) = (pair.client.info().clone(), pair.client.remote_region());
    let message = pattern.repeat(REPEATED);
    for _ in 0..ROUNDS {
        let (client, server) = (&mut pair.client, &mut pair.server);
        client.send(message.as_bytes()).await.map_err(told)?;
        let echoed = server.recv().await.map_err(told)?.ok_or("the client has left")?;
        server.send(&echoed).await.map_err(told)?;
        let back = client.recv().await.map_err(told)?.ok_or("the server has left")?;
        client.write(0, message.as_bytes()).await.map_err(told)?;
        let read = client.read(0, message.len()).await.map_err(told)?;
        if back != message.as_bytes() || read != message.as_bytes() {
            return Err("what came back differs from what was sent".into());
        }
    }
    pair.close().await?;
    let packets = tokio::task::spawn_blocking(|| running.end());
    let packets = packets.await.map_err(told)?.map_err(|error| format!("capturing: {error}"))?;
    Ok(search(&packets, pattern, &info, region))
}

fn search(packets: &[Vec<u8>], pattern: &str, info: &SessionInfo, region: Option<RemoteRegion>) -> Capture {
    let (mut data, mut control) = (Vec::new(), Vec::new());
    for packet in packets.iter().filter_map(|packet| Packet::parse(packet)) {
        match packet {
            Packet::Udp(payload) => data.push(payload),
            // A stream: what is looked for may lie across two of its packets.
            Packet::Tcp(payload) => control.extend(payload),
        }
    }
    let bytes = |what, value: String, pattern: &[u8]| Finding {
        what,
        value,
        data: data.iter().map(|payload| occurrences(payload, pattern)).sum(),
        control: occurrences(&control, pattern),
    };
    // The numbers of 24 bits are looked for where packets have them: anywhere else chance puts them.
    let header = |what, value: u32, is: &dyn Fn((u32, u32)) -> bool| Finding {
        what,
        value: format!("{value:#08x}"),
        data: data.iter().filter(|payload| bth(payload).is_some_and(is)).count(),
        control: 0,
    };
    let (server, client) = (info.remote.qpn.get(), info.own.qpn.get());
    let psn = info.own.psn.get().get();
    let text = pattern.trim_end();
    let mut findings = vec![
        bytes(What::Pattern, text.to_owned(), text.as_bytes()),
        header(What::ServerQpn, server, &|(qpn, _)| qpn == server),
        header(What::ClientQpn, client, &|(qpn, _)| qpn == client),
        header(What::ClientPsn, psn, &|found| found == (server, psn)),
    ];
    if let Some(RemoteRegion { addr, rkey, .. }) = region {
        let beside = [&addr.to_be_bytes()[..], &rkey.to_be_bytes()].concat();
        findings.push(bytes(What::Region, format!("{addr:#018x}, {rkey:#010x}"), &beside));
    }
    // Of packets as long as those with the pattern, the first that has it, or else simply the first.
    let long = || data.iter().filter(|payload| payload.len() >= pattern.len() * REPEATED / 2);
    let sample = long().find(|payload| occurrences(payload, text.as_bytes()) > 0).or_else(|| long().next());
    Capture {
        seal: info.sealed.name().into(),
        packets: data.len(),
        bytes: data.iter().map(|payload| payload.len()).sum(),
        control_bytes: control.len(),
        findings,
        sample: sample.map(|payload| hexdump(payload, 8)).unwrap_or_default(),
    }
}
