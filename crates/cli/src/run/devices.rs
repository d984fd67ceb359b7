//! The devices that a program sees: their names, and the interfaces that they use.

use super::tree::{LONGEST_NAME, is_device_name};
use crate::args::RunArgs;
use crate::failure::Failure;
use rocev2::Mtu;
use rocev2_device::host::{Interface, interfaces};
use std::net::IpAddr;

/// The most devices that a program sees.
const MOST: usize = 16;

/// A device that a program sees.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// With the address that the device uses.
    pub(crate) interface: Interface,
}

/// The devices that were asked for: one for each address, or as many as `--devices` says, at the addresses in turn.
pub(crate) fn devices(args: &RunArgs) -> Result<Vec<Seen>, Failure> {
    let count = args.devices.map_or_else(|| args.address.len().max(1), usize::from);
    if !(args.address.len().max(1)..=MOST).contains(&count) {
        return Err(Failure::Usage(format!(
            "{count} devices at {} addresses: an address has one device at least, and there are {MOST} at most",
            args.address.len()
        )));
    }
    let found = interfaces().map_err(|error| Failure::Other(error.to_string()))?;
    let mut used = Vec::new();
    for address in &args.address {
        used.push(interface(&found, *address)?);
    }
    if used.is_empty() {
        let first = found.into_iter().next();
        used.push(first.ok_or_else(|| Failure::Other("this host has no network address".into()))?);
    }
    if let Some(asked) = args.mtu {
        used.iter().try_for_each(|interface| fits(asked, interface))?;
    }
    let names = names(&args.device_name, count);
    if let Some(name) = names.iter().find(|name| !is_device_name(name)) {
        return Err(Failure::Usage(format!(
            "{name:?} can't be a device's name: letters, digits, '_', '-' and '.' can be in one, at most \
             {LONGEST_NAME}, such as mlx5_0"
        )));
    }
    let used = used.into_iter().cycle();
    Ok(names.into_iter().zip(used).map(|(name, interface)| Seen { name, interface }).collect())
}

/// The interface with that address.
fn interface(found: &[Interface], address: IpAddr) -> Result<Interface, Failure> {
    // All of 127.0.0.0/8 is this host, though the interface names only one of them.
    let local =
        |other: IpAddr| address.is_ipv4() && address.is_loopback() && other.is_ipv4() && other.is_loopback();
    let own = found.iter().find(|interface| interface.address == address || local(interface.address));
    own.map(|interface| Interface { address, ..interface.clone() }).ok_or_else(|| {
        let have: Vec<String> = found.iter().map(|interface| interface.address.to_string()).collect();
        Failure::Other(format!("{address} is none of this host's addresses; it has: {}", have.join(", ")))
    })
}

/// Whether packets of that path MTU fit an interface.
fn fits(asked: Mtu, Interface { name, mtu, .. }: &Interface) -> Result<(), Failure> {
    match Mtu::for_interface(*mtu) {
        Some(largest) if asked > largest => Err(Failure::Other(format!(
            "a path MTU of {} doesn't fit {name}, which takes packets of {mtu} bytes: give {} or less",
            asked.bytes(),
            largest.bytes()
        ))),
        // Where not even the smallest fits, there is no device, whatever was asked for.
        _ => Ok(()),
    }
}

/// So many names, from the first one on: its number goes up, if it ends with one.
fn names(first: &str, count: usize) -> Vec<String> {
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let (stem, begin) = match first[stem.len()..].parse::<u16>() {
        Ok(number) => (stem.to_owned(), usize::from(number)),
        Err(_) => (format!("{first}_"), 0),
    };
    (0..count).map(|at| if at == 0 { first.to_owned() } else { format!("{stem}{}", begin + at) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_mtu_that_does_not_fit_is_refused_with_one_that_does() {
        let address = "192.0.2.7".parse().unwrap();
        let interface = Interface { name: "eth9".into(), index: 9, address, mtu: 1500 };
        assert!(fits(Mtu::B1024, &interface).is_ok());
        let Err(Failure::Other(why)) = fits(Mtu::B2048, &interface) else { panic!("it fits") };
        assert!(why.contains("eth9") && why.contains("give 1024 or less"), "{why}");
    }

    #[test]
    fn devices_are_numbered_on() {
        assert_eq!(names("mlx5_0", 3), ["mlx5_0", "mlx5_1", "mlx5_2"]);
        assert_eq!(names("mlx5_9", 2), ["mlx5_9", "mlx5_10"]);
        assert_eq!(names("card", 2), ["card", "card_1"]);
        assert_eq!(names("x99999", 2), ["x99999", "x99999_1"]);
        assert_eq!(names("007", 2), ["007", "8"]);
    }
}
