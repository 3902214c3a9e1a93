// SPDX-License-Identifier: Apache-2.0
//! What of the host's own traffic passes its network devices: who makes one of
//! them a part of a switch cuts that off.

mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// The network devices of the host, as far as its own traffic passes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostNetwork {
    /// All of them, by name.
    Known(BTreeMap<String, Device>),
    /// They can't be read, and why.
    Unknown(String),
}

/// One network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// The host's addresses on it, without the link-local ones that every
    /// device has.
    addresses: BTreeSet<IpAddr>,
    /// Where routes through it lead.
    routes: BTreeSet<IpNet>,
    /// The bond or bridge that it is a member of.
    controller: Option<String>,
    /// Devices on top of it: VLANs, bonds, bridges, macvlans.
    upper: BTreeSet<String>,
}

/// Why a device can't be made a part of a switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InUse {
    /// It would cut an address off.
    #[error("the host's address {address} is on {device}")]
    Address {
        /// The device itself, or one on top of it.
        device: String,
        /// The first of its addresses.
        address: IpAddr,
    },
    /// It would cut a route off.
    #[error("the host's route to {destination} goes through {device}")]
    Route {
        /// The device itself, or one on top of it.
        device: String,
        /// Where the first of its routes leads.
        destination: IpNet,
    },
    /// The kernel gives its frames to another device.
    #[error("{device} is a member of {controller}")]
    Member {
        /// The device.
        device: String,
        /// The bond or bridge.
        controller: String,
    },
    /// Nobody knows.
    #[error("it can't be seen whether the host's own traffic passes it: {0}")]
    Unknown(String),
}

impl HostNetwork {
    /// Why a device must stay as it is; none if the host does nothing with it,
    /// or has no such device.
    pub(super) fn use_of(&self, name: &str) -> Option<InUse> {
        let devices = match self {
            Self::Known(devices) => devices,
            Self::Unknown(why) => return Some(InUse::Unknown(why.clone())),
        };
        let mut seen = BTreeSet::new();
        let mut above = vec![name];
        while let Some(name) = above.pop() {
            let Some((device, found)) = devices.get_key_value(name) else {
                continue;
            };
            if !seen.insert(device) {
                continue;
            }
            if let Some(in_use) = found.own_use(device) {
                return Some(in_use);
            }
            above.extend(found.upper.iter().map(String::as_str));
        }
        let controller = devices.get(name)?.controller.clone()?;
        // Where the kernel's Open vSwitch keeps the devices of its bridges.
        (controller != "ovs-system").then(|| InUse::Member {
            device: name.to_owned(),
            controller,
        })
    }
}

impl Device {
    fn own_use(&self, name: &str) -> Option<InUse> {
        let device = || name.to_owned();
        let address = self.addresses.first().map(|address| InUse::Address {
            device: device(),
            address: *address,
        });
        let route = || {
            self.routes.first().map(|destination| InUse::Route {
                device: device(),
                destination: *destination,
            })
        };
        address.or_else(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(devices: &[(&str, Device)]) -> HostNetwork {
        let devices = devices.iter().cloned();
        HostNetwork::Known(devices.map(|(name, of)| (name.to_owned(), of)).collect())
    }

    fn below(upper: &str) -> Device {
        Device {
            upper: BTreeSet::from([upper.to_owned()]),
            ..Device::default()
        }
    }

    fn with_address(address: &str) -> Device {
        Device {
            addresses: BTreeSet::from([address.parse().expect("an address")]),
            ..Device::default()
        }
    }

    #[test]
    fn an_address_is_found_however_many_devices_lie_between() {
        let network = network(&[
            ("eth1", below("bond0")),
            ("bond0", below("bond0.7")),
            ("bond0.7", below("br0")),
            ("br0", with_address("2001:db8::7")),
            ("eth2", Device::default()),
        ]);
        let found = network.use_of("eth1").expect("the address of br0");
        assert_eq!(
            found.to_string(),
            "the host's address 2001:db8::7 is on br0"
        );
        assert_eq!(network.use_of("eth2"), None);
        assert_eq!(network.use_of("eth3"), None, "there is no such device");
    }

    #[test]
    fn a_route_without_an_address_is_a_use_as_well() {
        let unnumbered = Device {
            routes: BTreeSet::from(["0.0.0.0/0".parse().expect("a prefix")]),
            ..Device::default()
        };
        let found = network(&[("eth1", unnumbered)]).use_of("eth1");
        let expected = "the host's route to 0.0.0.0/0 goes through eth1";
        assert_eq!(
            found.map(|found| found.to_string()).as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn a_member_of_another_device_is_in_use_and_one_of_open_vswitch_is_not() {
        let member_of = |controller: &str| Device {
            controller: Some(controller.to_owned()),
            ..below(controller)
        };
        let network = network(&[
            ("eth1", member_of("bond0")),
            ("eth2", member_of("ovs-system")),
        ]);
        let found = network.use_of("eth1").expect("a member");
        assert_eq!(found.to_string(), "eth1 is a member of bond0");
        assert_eq!(network.use_of("eth2"), None);
    }

    #[test]
    fn devices_that_lie_on_each_other_end_the_search() {
        let network = network(&[("veth1", below("veth2")), ("veth2", below("veth1"))]);
        assert_eq!(network.use_of("veth1"), None);
    }

    #[test]
    fn what_can_not_be_read_counts_as_in_use() {
        let network = HostNetwork::Unknown("no /sys".to_owned());
        assert_eq!(
            network.use_of("eth1"),
            Some(InUse::Unknown("no /sys".to_owned()))
        );
    }
}
