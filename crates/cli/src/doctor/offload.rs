//! Network interfaces' offloads, as the kernel tells of them (ethtool's netlink interface, Linux 5.8).

use super::finding::Finding;
use ethtool::{EthtoolAttr, EthtoolFeatureAttr, EthtoolFeatureBit, EthtoolHeader};
use futures_util::TryStreamExt;
use rocev2_device::host::Interface;
use std::collections::HashMap;
use std::io;

/// The interface cuts a run of packets up that the embedded device sends by one system call.
const SEGMENTATION: &str = "tx-udp-segmentation";
/// The kernel puts packets together that arrive, so that one system call takes several.
const COALESCING: &str = "rx-gro";

/// The features of an interface, by their names.
#[derive(Debug, Default)]
struct Features {
    active: Vec<String>,
    /// Those that were asked for. One that isn't active lacks something else that it needs.
    wanted: Vec<String>,
    changeable: Vec<String>,
}

/// The offloads of interfaces that have an address.
pub(super) fn check(interfaces: &[Interface]) -> Vec<Finding> {
    let features = match features() {
        Ok(features) => features,
        Err(error) => {
            let cost = "what interfaces do by themselves isn't known";
            return vec![Finding::costs("offload", error.to_string(), cost, "use Linux 5.8 or later")];
        }
    };
    let mut names: Vec<&str> = interfaces.iter().map(|interface| &*interface.name).collect();
    names.sort_unstable();
    names.dedup();
    let known = names.into_iter().filter_map(|name| Some((name, features.get(name)?)));
    known.flat_map(|(name, features)| [segmentation(name, features), coalescing(name, features)]).collect()
}

fn segmentation(name: &str, features: &Features) -> Finding {
    const CHECK: &str = "segmentation offload";
    let cost =
        "the kernel cuts what is sent into packets and hands each on: more of its time for the same data";
    // It is the interface that has to make the checksums then.
    features.judge(CHECK, name, SEGMENTATION, cost, [SEGMENTATION, "tx"])
}

fn coalescing(name: &str, features: &Features) -> Finding {
    const CHECK: &str = "receive offload";
    let cost =
        "each packet that arrives goes through the kernel by itself: more of its time for the same data";
    features.judge(CHECK, name, COALESCING, cost, ["gro", "rx"])
}

impl Features {
    /// What a feature's absence costs; `options` are ethtool's names for it and for what it needs.
    fn judge(
        &self,
        check: &'static str,
        name: &str,
        feature: &str,
        cost: &str,
        [own, needed]: [&str; 2],
    ) -> Finding {
        let has = |features: &[String]| features.iter().any(|other| other == feature);
        if has(&self.active) {
            return Finding::ok(check, format!("{name}: {feature} on"));
        }
        if !has(&self.changeable) {
            let remedy = "no command: another driver, or another network card, has it";
            return Finding::costs(check, format!("{name} has no {feature}"), cost, remedy);
        }
        let option = if has(&self.wanted) { needed } else { own };
        let remedy = format!("ethtool -K {name} {option} on");
        Finding::costs(check, format!("{name}: {feature} off"), cost, remedy)
    }
}

/// The features of each interface of this process' network namespace.
fn features() -> io::Result<HashMap<String, Features>> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let (connection, mut handle, _) = ethtool::new_connection()?;
        let connection = tokio::spawn(connection);
        let answers = handle.feature().get(None).execute().await.map_err(io::Error::other)?;
        let found = answers.map_ok(|answer| named(answer.payload.nlas)).try_collect::<Vec<_>>().await;
        connection.abort();
        Ok(found.map_err(io::Error::other)?.into_iter().flatten().collect())
    })
}

/// An interface's name and features.
fn named(attributes: Vec<EthtoolAttr>) -> Option<(String, Features)> {
    let on =
        |bits: Vec<EthtoolFeatureBit>| bits.into_iter().filter(|bit| bit.value).map(|bit| bit.name).collect();
    let (mut name, mut features) = (None, Features::default());
    for attribute in attributes {
        let EthtoolAttr::Feature(attribute) = attribute else { continue };
        match attribute {
            EthtoolFeatureAttr::Header(header) => {
                name = header.into_iter().find_map(|part| match part {
                    EthtoolHeader::DevName(name) => Some(name),
                    _ => None,
                });
            }
            EthtoolFeatureAttr::Wanted(bits) => features.wanted = on(bits),
            EthtoolFeatureAttr::Hw(bits) => features.changeable = on(bits),
            EthtoolFeatureAttr::Active(bits) => features.active = on(bits),
            _ => {}
        }
    }
    Some((name?, features))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_can_not_do_is_told_without_a_command() {
        let features = Features { active: vec![COALESCING.into()], ..Features::default() };
        let found = segmentation("eth0", &features);
        assert_eq!(found.found, "eth0 has no tx-udp-segmentation");
        assert!(found.cost.is_some() && found.remedy.is_some_and(|remedy| !remedy.contains("ethtool")));
        assert_eq!(coalescing("eth0", &features).cost, None);
    }
}
