// SPDX-License-Identifier: Apache-2.0
//! How this host's Open vSwitch is found and named: what differs from host to
//! host and is therefore no part of a switch's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dvs_daemon::Metrics;
use dvs_schemas::{InvalidName, PortId, SwitchName, UplinkName, VlanId};

/// Longest name of a bridge: Linux has 15 bytes for a device's name, and the
/// bridge of the uplinks is named after it with three more.
const LONGEST: usize = 12;

/// What the agent is told of its Open vSwitch.
#[derive(Debug, Clone)]
pub struct OvsConfig {
    /// The database and how it is reached.
    pub database: dvs_ovsdb::Options,
    /// Where `ovs-vswitchd` has its sockets, like `/run/openvswitch`.
    pub run_dir: PathBuf,
    /// What forwards below Open vSwitch.
    pub kind: DatapathKind,
    /// Bridges of switches that are not named after them. Such a bridge may
    /// stand already, made by somebody else.
    pub bridges: BTreeMap<SwitchName, BridgeName>,
    /// Interfaces of uplinks that are not named like them.
    pub uplinks: BTreeMap<(SwitchName, UplinkName), String>,
    /// Interfaces that are plugged by their names.
    pub patterns: Vec<PlugPattern>,
    /// What is done about somebody else's changes to what is ours.
    pub drift: DriftPolicy,
    /// How many addresses a bridge learns.
    pub learning: Learning,
    /// How long `ovs-vswitchd` may take to carry out a change.
    pub patience: Duration,
}

impl OvsConfig {
    /// What has to be in the database's copy.
    #[must_use]
    pub fn wanted() -> dvs_ovsdb::Wanted {
        super::view::wanted()
    }

    /// The bridge of a switch, and whether it was named for it.
    pub(super) fn bridge(&self, switch: &SwitchName) -> (BridgeName, Origin) {
        match self.bridges.get(switch) {
            Some(name) => (name.clone(), Origin::Given),
            None => (BridgeName::of(switch), Origin::Ours),
        }
    }

    /// The interface of an uplink.
    pub(super) fn uplink(&self, switch: &SwitchName, uplink: &UplinkName) -> String {
        let key = (switch.clone(), uplink.clone());
        let given = self.uplinks.get(&key).cloned();
        given.unwrap_or_else(|| uplink.to_string())
    }
}

/// Whether an operator named the bridge of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It follows from the switch's name: one that stands there and is not
    /// marked as ours is somebody else's.
    Ours,
    /// An operator says that it is the switch's.
    Given,
}

/// Most MAC addresses that a bridge learns. What comes beyond is forwarded and
/// not learnt: frames to it go to all of its VLAN that may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learning {
    /// From one port, in all of its VLANs.
    pub per_port: NonZeroU32,
    /// From the uplinks of one switch, in all VLANs.
    pub per_uplink: NonZeroU32,
}

impl Learning {
    /// Room for a guest that is a host with guests of its own; vSphere's highest
    /// is four times as much. A guest that sends from ever new addresses costs
    /// as many flows, and Open vSwitch counts them for each that is new.
    pub const PER_PORT: NonZeroU32 = NonZeroU32::new(1_024).expect("not zero");
    /// As many as Open vSwitch's own forwarding learns by default (its
    /// `mac-table-size`), and so as the bridge of the uplinks does.
    pub const PER_UPLINK: NonZeroU32 = NonZeroU32::new(8_192).expect("not zero");

    /// Shows the bounds among the metrics.
    pub fn show(self, metrics: &Metrics) {
        let Self {
            per_port,
            per_uplink,
        } = self;
        for (name, help, limit) in [
            (
                "dvs_mac_limit_port",
                "Most MAC addresses that are learnt from one port",
                per_port,
            ),
            (
                "dvs_mac_limit_uplink",
                "Most MAC addresses that are learnt from the uplinks of one switch",
                per_uplink,
            ),
        ] {
            let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
            metrics.gauge(name, help, move || limit);
        }
    }
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            per_port: Self::PER_PORT,
            per_uplink: Self::PER_UPLINK,
        }
    }
}

/// What forwards the frames of a bridge (`datapath_type` of ovs-vswitchd.conf.db(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DatapathKind {
    /// The kernel's module.
    System,
    /// Open vSwitch's own process, where the kernel has no module.
    Netdev,
}

impl DatapathKind {
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Netdev => "netdev",
        }
    }
}

/// What is done about somebody else's changes to what is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DriftPolicy {
    /// They are told and undone.
    Repair,
    /// They are told, and stay until the next change of that switch.
    Report,
}

/// The name of a bridge: 1 to 12 letters, digits, `-`, `_` or `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeName(String);

/// A name that no bridge of ours can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a bridge: allowed are 1 to {LONGEST} letters, digits, '-', '_', '.'")]
pub struct BadBridgeName(String);

impl BridgeName {
    /// `dvs-` and the switch's name, or a number that stands for a name that
    /// is too long for a device.
    #[must_use]
    pub fn of(switch: &SwitchName) -> Self {
        let plain = format!("dvs-{switch}");
        if plain.len() <= LONGEST {
            return Self(plain);
        }
        // FNV-1a, folded to the 8 digits that fit: it must stay the same on
        // every host and in every version.
        let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = switch.to_string().bytes().fold(0x811c_9dc5, fold);
        Self(format!("dvs-{hash:08x}"))
    }

    /// The bridge that carries the uplinks.
    pub(super) fn of_uplinks(&self) -> String {
        format!("{}-u", self.0)
    }

    /// The port with the uplinks, alone or bonded, on that bridge.
    pub(super) fn uplink_port(&self) -> String {
        format!("{}-ul", self.0)
    }

    /// The port on the switch's bridge that leads to the uplinks.
    pub(super) fn patch_up(&self) -> String {
        format!("{}-up", self.0)
    }

    /// Its other end.
    pub(super) fn patch_down(&self) -> String {
        format!("{}-dn", self.0)
    }

    /// The port by which copies for a VLAN leave the switch's bridge. As any
    /// patch it has no device, so its name may be longer than one's.
    pub(super) fn copies_out(&self, vlan: VlanId) -> String {
        format!("{}-co{vlan}", self.0)
    }

    /// Its other end, by which they enter the same bridge in that VLAN.
    pub(super) fn copies_in(&self, vlan: VlanId) -> String {
        format!("{}-ci{vlan}", self.0)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BridgeName {
    type Err = BadBridgeName;

    fn from_str(text: &str) -> Result<Self, BadBridgeName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let dots = text.bytes().all(|byte| byte == b'.');
        if dots || text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(BadBridgeName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which interfaces are plugged by their names, as Proxmox names them, and
/// which ports they are: `tap<vm>i<n>=vm-<vm>-<n>`. What stands in angle
/// brackets is one or more digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlugPattern {
    interface: Vec<Piece>,
    port: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number(String),
}

/// Not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern: allowed is INTERFACE=PORT where <name> stands for digits, like \
     'tap<vm>i<n>=vm-<vm>-<n>', each name once in INTERFACE and those in PORT among them"
)]
pub struct BadPattern(String);

impl PlugPattern {
    /// The port of an interface, if the pattern is for it. What it makes of the
    /// name may be no port's id.
    pub(super) fn port(&self, interface: &str) -> Option<Result<PortId, InvalidName>> {
        let mut rest = interface;
        let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
        for piece in &self.interface {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Piece::Number(name) => {
                    let end = rest.find(|c: char| !c.is_ascii_digit());
                    let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
                    if number.is_empty() {
                        return None;
                    }
                    numbers.insert(name, number);
                    rest = after;
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        let text = self.port.iter().map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Number(name) => numbers.get(name.as_str()).copied(),
        });
        Some(text.collect::<Option<String>>()?.parse())
    }
}

fn names(pieces: &[Piece]) -> Vec<&str> {
    let names = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(_) => None,
        Piece::Number(name) => Some(name.as_str()),
    });
    names.collect()
}

fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('<') {
            let (name, after) = after.split_once('>')?;
            if name.is_empty() {
                return None;
            }
            pieces.push(Piece::Number(name.to_owned()));
            rest = after;
        } else {
            let (text, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            pieces.push(Piece::Text(text.to_owned()));
            rest = after;
        }
    }
    (!pieces.is_empty()).then_some(pieces)
}

impl FromStr for PlugPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let parsed = || {
            let (interface, port) = text.split_once('=')?;
            let (interface, port) = (pieces(interface)?, pieces(port)?);
            let (known, used) = (names(&interface), names(&port));
            let once = BTreeSet::from_iter(&known).len() == known.len();
            let told = !known.is_empty() && used.iter().all(|name| known.contains(name));
            // Of two numbers side by side nobody knows where one ends.
            let apart = interface
                .windows(2)
                .all(|pair| !matches!(pair, [Piece::Number(_), Piece::Number(_)]));
            (once && told && apart).then_some(Self { interface, port })
        };
        parsed().ok_or_else(|| BadPattern(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_switch_has_a_bridge_that_linux_can_name(switch in arbitrary::name::<SwitchName>()) {
            let bridge = BridgeName::of(&switch);
            prop_assert_eq!(bridge.as_str().parse(), Ok(bridge.clone()));
            for name in [bridge.of_uplinks(), bridge.uplink_port(), bridge.patch_up(), bridge.patch_down()] {
                prop_assert!(name.len() <= 15, "{}", name);
            }
        }

        #[test]
        fn an_interface_of_proxmox_is_the_port_of_its_numbers(vm in 0..100_000_u32, n in 0..32_u8) {
            let pattern: PlugPattern = "tap<vm>i<n>=vm-<vm>-<n>".parse().unwrap();
            let port: PortId = format!("vm-{vm}-{n}").parse().unwrap();
            prop_assert_eq!(pattern.port(&format!("tap{vm}i{n}")), Some(Ok(port)));
            prop_assert_eq!(pattern.port(&format!("tap{vm}i{n}x")), None);
            prop_assert_eq!(pattern.port(&format!("fwpr{vm}p{n}")), None);
            prop_assert_eq!(pattern.port(&format!("tapi{n}")), None);
        }

        #[test]
        fn every_documented_pattern_is_of_its_hypervisors_interfaces_alone(
            vm in 0..100_000_u32, n in 0..32_u8,
        ) {
            let documented = [
                ("tap<vm>i<n>=vm-<vm>-<n>", format!("tap{vm}i{n}"), format!("vm-{vm}-{n}")),
                ("fwln<vm>o<n>=vm-<vm>-<n>", format!("fwln{vm}o{n}"), format!("vm-{vm}-{n}")),
                ("veth<vm>i<n>=vm-<vm>-<n>", format!("veth{vm}i{n}"), format!("vm-{vm}-{n}")),
                ("inc<vm>i<n>=inc-<vm>-<n>", format!("inc{vm}i{n}"), format!("inc-{vm}-{n}")),
                ("lxc<vm>i<n>=lxc-<vm>-<n>", format!("lxc{vm}i{n}"), format!("lxc-{vm}-{n}")),
            ];
            let page = include_str!("../../../../../docs/hypervisors.md");
            for (text, interface, port) in &documented {
                prop_assert!(page.contains(&format!("--plug '{text}'")), "{} is not documented", text);
                let pattern: PlugPattern = text.parse().unwrap();
                prop_assert!(interface.len() <= 15, "{}", interface);
                for (_, other, _) in &documented {
                    let own = (other == interface).then(|| Ok(port.parse::<PortId>().unwrap()));
                    prop_assert_eq!(pattern.port(other), own);
                }
                // What Proxmox has on the Linux bridge of its firewall, and names
                // that Incus draws.
                for stranger in [format!("fwbr{vm}i{n}"), format!("fwpr{vm}p{n}"), format!("fwln{vm}i{n}"), format!("veth{vm:08x}")] {
                    prop_assert_eq!(pattern.port(&stranger), None);
                }
            }
        }

        #[test]
        fn whatever_is_given_is_a_pattern_or_named(text in ".{0,20}") {
            match text.parse::<PlugPattern>() {
                Ok(pattern) => drop(pattern.port(&text)),
                Err(BadPattern(named)) => prop_assert_eq!(named, text),
            }
        }
    }

    #[test]
    fn a_pattern_that_can_not_be_meant_is_refused() {
        for text in [
            "",
            "tap",
            "=",
            "tap<vm>=",
            "=vm-1",
            "tap=vm",
            "t<a><b>=x",
            "t<a>i<a>=x",
            "t<a>=<b>",
            "t<=x",
            "t<>=x",
        ] {
            assert_eq!(
                text.parse::<PlugPattern>(),
                Err(BadPattern(text.to_owned()))
            );
        }
        assert!("t<a>i<b>=<a><b>".parse::<PlugPattern>().is_ok());
    }

    #[test]
    fn names_that_are_no_devices_are_refused() {
        for text in ["", ".", "..", "a b", "br/0", "a-name-of-thirteen"] {
            assert_eq!(
                text.parse::<BridgeName>(),
                Err(BadBridgeName(text.to_owned()))
            );
        }
    }
}
