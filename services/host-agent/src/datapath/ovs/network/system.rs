// SPDX-License-Identifier: Apache-2.0
//! The host's network as Linux shows it: addresses by getifaddrs(3), routes in
//! /proc, and which device lies on which in /sys.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::{Device, HostNetwork};

/// Devices of this network namespace.
const DEVICES: &str = "/sys/class/net";
const ROUTES_V4: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";

/// Flags of a route (`linux/route.h`, `linux/ipv6_route.h`): it leads nowhere,
/// or to the host itself, whose addresses are known anyway.
const REJECT: u32 = 0x0200;
const LOCAL: u32 = 0x8000_0000;
const ANYCAST: u32 = 0x0010_0000;

type Devices = BTreeMap<String, Device>;

impl HostNetwork {
    /// Reads it. Takes some milliseconds where there are a thousand devices.
    pub(in crate::datapath::ovs) fn read() -> Self {
        let read = || {
            let mut devices = Devices::new();
            addresses(&mut devices)?;
            for (device, destination) in routes_v4(&text(ROUTES_V4)?) {
                let routes = &mut devices.entry(device).or_default().routes;
                routes.insert(destination);
            }
            for (device, destination) in routes_v6(&text(ROUTES_V6)?) {
                let routes = &mut devices.entry(device).or_default().routes;
                routes.insert(destination);
            }
            stacked(&mut devices)?;
            Ok(devices)
        };
        match read() {
            Ok(devices) => Self::Known(devices),
            Err(error) => Self::Unknown(error),
        }
    }
}

/// Every kernel has the file of a protocol that it has.
fn text(file: &str) -> Result<String, String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

fn addresses(devices: &mut Devices) -> Result<(), String> {
    let all = getifaddrs().map_err(|error| format!("getifaddrs: {error}"))?;
    for found in all {
        let device = devices.entry(found.interface_name).or_default();
        let address = found.address.as_ref().and_then(address);
        device.addresses.extend(address.filter(is_hosts));
    }
    Ok(())
}

fn address(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// True unless it is one that every device gets by itself.
fn is_hosts(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

/// Which device lies on which.
fn stacked(devices: &mut Devices) -> Result<(), String> {
    let error = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let root = Path::new(DEVICES);
    for entry in fs::read_dir(root).map_err(|found| error(root, found))? {
        let entry = entry.map_err(|found| error(root, found))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let links = match fs::read_dir(&path) {
            Ok(links) => links,
            // A file, or a device that is gone meanwhile.
            Err(_) => continue,
        };
        let device = devices.entry(name).or_default();
        for link in links.flatten() {
            let link = link.file_name();
            let upper = link.to_str().and_then(|link| link.strip_prefix("upper_"));
            device.upper.extend(upper.map(str::to_owned));
        }
        let controller = fs::read_link(path.join("master")).ok();
        let controller = controller.as_deref().and_then(Path::file_name);
        device.controller = controller.and_then(|name| Some(name.to_str()?.to_owned()));
    }
    Ok(())
}

/// Lines of /proc/net/route: device, destination, gateway, flags, three
/// counters, mask; numbers in hex, addresses in the byte order of the network.
fn routes_v4(text: &str) -> impl Iterator<Item = (String, IpNet)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next()?;
        let destination = hex(words.next()?)?;
        let flags = hex(words.nth(1)?)?;
        let mask = hex(words.nth(3)?)?;
        let address = |number: u32| Ipv4Addr::from(number.to_ne_bytes());
        let net = Ipv4Net::with_netmask(address(destination), address(mask)).ok()?;
        (flags & REJECT == 0).then(|| (device.to_owned(), net.into()))
    })
}

/// Lines of /proc/net/ipv6_route: destination, length of its prefix, the same
/// of the source, next hop, metric, two counters, flags, device; all in hex.
fn routes_v6(text: &str) -> impl Iterator<Item = (String, IpNet)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let address = Ipv6Addr::from(address);
        let length = u8::from_str_radix(words.next()?, 16).ok()?;
        let flags = hex(words.nth(6)?)?;
        let device = words.next()?;
        let net = Ipv6Net::new(address, length).ok()?;
        // Every device has these.
        let natural = address.is_unicast_link_local() || address.is_multicast();
        (flags & (REJECT | LOCAL | ANYCAST) == 0 && !natural)
            .then(|| (device.to_owned(), net.into()))
    })
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(routes: impl Iterator<Item = (String, IpNet)>) -> Vec<String> {
        routes
            .map(|(device, net)| format!("{device} {net}"))
            .collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_ipv4_are_read() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                    eth1\t00000000\t0109090A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth1\t0009090A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    *\t0000A8C0\t00000000\t0200\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(
            told(routes_v4(text)),
            ["eth1 0.0.0.0/0", "eth1 10.9.9.0/24"]
        );
    }

    #[test]
    fn routes_of_ipv6_are_read_without_those_that_every_device_has() {
        let zeros = "00000000000000000000000000000000";
        let line = |destination: &str, length: &str, flags: &str| {
            format!(
                "{destination} {length} {zeros} 00 {zeros} 00000400 00000001 00000000 {flags}     eth1\n"
            )
        };
        let text = [
            line(zeros, "00", "00000003"),
            line("20010db8000000000000000000000000", "40", "00000001"),
            line("fe800000000000000000000000000000", "40", "00000001"),
            line("ff000000000000000000000000000000", "08", "00000001"),
            line("20010db8000000000000000000000007", "80", "80000001"),
        ];
        let expected = ["eth1 ::/0", "eth1 2001:db8::/64"];
        assert_eq!(told(routes_v6(&text.concat())), expected);
    }

    #[test]
    fn the_network_of_this_machine_can_be_read() {
        match HostNetwork::read() {
            HostNetwork::Known(devices) => assert!(devices.contains_key("lo"), "{devices:?}"),
            HostNetwork::Unknown(why) => panic!("{why}"),
        }
    }
}
