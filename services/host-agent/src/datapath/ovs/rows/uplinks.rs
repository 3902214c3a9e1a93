// SPDX-License-Identifier: Apache-2.0
//! The uplinks of a switch: which interfaces carry them, and the bridge that
//! they are on.

use dvs_ovsdb::{Atom, Datum};
use dvs_schemas::SwitchName;
use dvs_schemas::documents::Teaming;

use super::mirrors::copied_into;
use super::{Draft, Place, Want, Wants, is};
use crate::datapath::ovs::config::{BridgeName, OvsConfig};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{BRIDGE, INTERFACE, PORT};

/// The interfaces of a switch's uplinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Those that carry them.
    pub(super) interfaces: Vec<String>,
    /// Why others can't, and what to do about it.
    pub(super) refused: Vec<String>,
}

impl Draft<'_, '_> {
    /// Which interfaces may carry the uplinks of a switch.
    pub(super) fn choose(
        &self,
        config: &OvsConfig,
        switch: &SwitchName,
        name: &BridgeName,
        wish: &Wish,
    ) -> Members {
        let mut members = Members::default();
        let bridge = name.of_uplinks();
        if let Some(uuid) = self.view.bridge(&bridge)
            && !wish.settings.uplinks.is_empty()
            && !self.is_for_uplinks(uuid, switch, &name.patch_down())
        {
            members.refused.push(format!(
                "bridge {bridge}, where the uplinks are to be, was made by somebody else; delete \
                 it, or name another bridge with --bridge {switch}=NAME"
            ));
            return members;
        }
        for uplink in &wish.settings.uplinks {
            let interface = config.uplink(switch, uplink);
            let with = self.view.interface(&interface);
            match with.and_then(|uuid| self.view.bridge_with(uuid)) {
                Some(with) if with == bridge => members.interfaces.push(interface),
                Some(with) => members.refused.push(format!(
                    "interface {interface} is on bridge {with} already; take it off first, with \
                     ovs-vsctl del-port {with} {interface}"
                )),
                None => match self.network.use_of(&interface) {
                    None => members.interfaces.push(interface),
                    Some(in_use) => members.refused.push(format!(
                        "interface {interface} is not taken as an uplink: {in_use} and would be \
                         cut off; name another one with --uplink {switch}/{uplink}=INTERFACE, or \
                         move what is there first"
                    )),
                },
            }
        }
        members
    }

    /// The bridge of the uplinks. True if there is one to be patched to.
    pub(super) fn uplinks(
        &mut self,
        config: &OvsConfig,
        place: &Place,
        name: &BridgeName,
        wish: &Wish,
        Members {
            interfaces,
            refused,
        }: Members,
    ) -> bool {
        // The others go on without it.
        for why in refused {
            self.refuse(place.clone(), Some("uplinks"), why);
        }
        let (switch, _) = place;
        let bridge = name.of_uplinks();
        let there = self.view.bridge(&bridge);
        if wish.settings.uplinks.is_empty() {
            return false;
        }
        if interfaces.is_empty() {
            // What carries the traffic now does so until another can.
            return self.view.port(&name.patch_up()).is_some();
        }
        // Copies go everywhere: their senders are elsewhere, too.
        let flooded = copied_into(wish).into_iter();
        let flooded = Datum::set(flooded.map(|vlan| Atom::Integer(vlan.get().into())));
        let mut wants: Wants = vec![
            ("fail_mode", is("standalone")),
            ("datapath_type", is(config.kind.column())),
            ("external_ids", Want::Ours(marks::of_uplinks(switch))),
        ];
        wants.extend(no_spanning_tree());
        wants.extend(plain_forwarding());
        let flooded = ("flood_vlans", Want::Is(flooded));
        let mtu = i64::from(wish.settings.mtu.get());
        match there {
            None => {
                let local = self.local_port(place, &bridge);
                let patch = self.patch(place, &name.patch_down(), &name.patch_up());
                let uplink = self.uplink_port(place, name, wish, &interfaces, mtu);
                let wants = wants.into_iter().chain([flooded]).collect();
                self.new_bridge(place, &bridge, wants, vec![local, patch, uplink]);
            }
            Some(uuid) => {
                self.set(place, BRIDGE, uuid, wants);
                let of_sessions = self.scope.of_sessions(switch);
                self.set(&of_sessions, BRIDGE, uuid, vec![flooded]);
                self.kept.insert(uuid);
                self.patched(place, uuid, true, (&name.patch_down(), &name.patch_up()));
                match self.view.port(&name.uplink_port()) {
                    None => {
                        let port = self.uplink_port(place, name, wish, &interfaces, mtu);
                        self.set(place, BRIDGE, uuid, vec![("ports", Want::Has(vec![port]))]);
                    }
                    Some(port) => {
                        let members = self.members(place, &interfaces, mtu);
                        let mut wants = teaming(wish.settings.teaming, interfaces.len());
                        wants.push(("interfaces", Want::Is(Datum::set(members))));
                        self.set(place, PORT, port, wants);
                    }
                }
            }
        }
        true
    }

    fn uplink_port(
        &mut self,
        place: &Place,
        name: &BridgeName,
        wish: &Wish,
        interfaces: &[String],
        mtu: i64,
    ) -> Atom {
        let members = self.members(place, interfaces, mtu);
        let mut wants = teaming(wish.settings.teaming, interfaces.len());
        wants.push(("name", is(name.uplink_port())));
        wants.push(("interfaces", Want::Is(Datum::set(members))));
        self.insert(place, PORT, wants)
    }

    /// Rows of the physical interfaces.
    fn members(&mut self, place: &Place, interfaces: &[String], mtu: i64) -> Vec<Atom> {
        let mut members = Vec::new();
        for interface in interfaces {
            let wants = |name: Option<&str>| -> Wants {
                let name = name.map(|name| ("name", is(name)));
                name.into_iter().chain([("mtu_request", is(mtu))]).collect()
            };
            members.push(match self.view.interface(interface) {
                Some(uuid) => {
                    self.set(place, INTERFACE, uuid, wants(None));
                    Atom::Uuid(uuid)
                }
                None => self.insert(place, INTERFACE, wants(Some(interface))),
            });
        }
        members
    }
}

/// How several interfaces are one uplink.
fn teaming(teaming: Teaming, members: usize) -> Wants {
    let none = || Datum::empty();
    let (mode, lacp) = match teaming {
        Teaming::ActiveBackup => (Datum::from("active-backup"), none()),
        Teaming::BalanceSlb => (Datum::from("balance-slb"), none()),
        Teaming::Lacp => (Datum::from("balance-tcp"), Datum::from("active")),
    };
    // One interface alone has nothing to choose from.
    let mode = if members > 1 { mode } else { none() };
    // A wire that fails is noticed after three seconds instead of ninety.
    let time = ("lacp-time".to_owned(), "fast".to_owned());
    let mut wants = vec![("bond_mode", Want::Is(mode)), ("lacp", Want::Is(lacp))];
    wants.extend(ways());
    let pairs = marks::Ids::from([time, every_tag()]);
    wants.push(("other_config", Want::HasPairs(pairs)));
    wants
}

/// A port that carries every VLAN with its tag.
fn ways() -> Wants {
    let empty = || Want::Is(Datum::empty());
    vec![
        ("tag", empty()),
        ("trunks", empty()),
        ("vlan_mode", empty()),
    ]
}

/// A port between the bridges.
pub(super) fn carries_all() -> Wants {
    let mut wants = ways();
    let pairs = marks::Ids::from([every_tag()]);
    wants.push(("other_config", Want::HasPairs(pairs)));
    wants
}

/// Tags of VLAN 0 stay: a bridge that forwards by itself would take them off
/// otherwise, and with one that is the outer also what is beneath it.
fn every_tag() -> (String, String) {
    ("priority-tags".to_owned(), "always".to_owned())
}

/// A bridge whose ports no protocol closes. Loops can't be: all uplinks are
/// one port.
pub(super) fn no_spanning_tree() -> Wants {
    vec![("stp_enable", is(false)), ("rstp_enable", is(false))]
}

/// Of a bridge that forwards by itself: it forwards as a plain one, keeps frames
/// to reserved groups to itself, and learns what it forwards by.
fn plain_forwarding() -> Wants {
    let pairs = marks::Ids::from([("forward-bpdu".to_owned(), "false".to_owned())]);
    vec![
        ("mcast_snooping_enable", is(false)),
        ("other_config", Want::HasPairs(pairs)),
    ]
}
