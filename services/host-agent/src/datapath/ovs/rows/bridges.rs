// SPDX-License-Identifier: Apache-2.0
//! Rows of bridges: that of the switch, which forwards by rules alone, and
//! that of its uplinks, which forwards by itself and so can bond them.

use std::collections::BTreeMap;

use dvs_ovsdb::{Atom, Datum, Row};
use dvs_schemas::SwitchName;
use dvs_schemas::documents::Teaming;
use uuid::Uuid;

use super::mirrors::{copied_into, copies};
use super::{Draft, Place, Want, Wants, is, is_map, ours};
use crate::datapath::Part;
use crate::datapath::ovs::config::{BridgeName, Origin, OvsConfig};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{BRIDGE, INTERFACE, MIRROR, PORT, QOS, QUEUE, ROOT};

/// The number of a patch in its bridge: the highest that Open vSwitch gives. It
/// counts up from 1 itself, so nobody else has that one.
const PATCH_NUMBER: i64 = 0xfeff;

/// Bridges that are marked as a switch's, or were when somebody took the mark
/// away.
pub(in crate::datapath::ovs) type Known = BTreeMap<Uuid, SwitchName>;

/// The switch that a bridge belongs to.
pub(in crate::datapath::ovs) fn switch_of(
    known: &Known,
    bridge: Uuid,
    row: &Row,
) -> Option<SwitchName> {
    marks::switch_of(&ours(row, "external_ids")).or_else(|| known.get(&bridge).cloned())
}

/// A bridge that is there, or will be with this transaction.
pub(super) enum BridgeRow {
    There(Uuid),
    New,
}

impl Draft<'_, '_> {
    /// The bridges of a switch. None if they can't be.
    pub(super) fn bridge(
        &mut self,
        config: &OvsConfig,
        switch: &SwitchName,
        wish: &Wish,
    ) -> Option<BridgeRow> {
        let place = (switch.clone(), Part::Bridge);
        let (name, origin) = config.bridge(switch);
        let there = self.view.bridge(name.as_str());
        if !self.may_take(&place, &name, there, origin) {
            return None;
        }
        let patched = self.uplinks(config, &place, &name, wish);
        let ids = marks::of_bridge(switch, &wish.settings);
        let mut wants: Wants = vec![
            ("fail_mode", is("secure")),
            ("datapath_type", is(config.kind.column())),
            ("external_ids", Want::Ours(ids)),
        ];
        wants.extend(no_spanning_tree());
        let Some(uuid) = there else {
            let local = self.local_port(&place, name.as_str());
            let patch = patched.then(|| self.patch(&place, &name.patch_up(), &name.patch_down()));
            let ports = [local].into_iter().chain(patch).collect();
            self.new_bridge(&place, name.as_str(), wants, ports);
            return Some(BridgeRow::New);
        };
        self.set(&place, BRIDGE, uuid, wants);
        self.kept.insert(uuid);
        self.patched(
            &place,
            uuid,
            patched,
            (&name.patch_up(), &name.patch_down()),
        );
        Some(BridgeRow::There(uuid))
    }

    /// A bridge that stands there and isn't this switch's stays as it is.
    fn may_take(
        &mut self,
        place: &Place,
        name: &BridgeName,
        there: Option<Uuid>,
        origin: Origin,
    ) -> bool {
        let row = |uuid| self.view.row(BRIDGE, uuid).map(|row| (uuid, row));
        let Some((uuid, row)) = there.and_then(row) else {
            return true;
        };
        let (switch, _) = place;
        let message = match (switch_of(self.known, uuid, row), origin) {
            (Some(of), _) if of == *switch => return true,
            (None, Origin::Given) => return true,
            (Some(of), Origin::Given | Origin::Ours) => {
                format!(
                    "bridge {name} belongs to switch {of}; name another with --bridge {switch}=NAME"
                )
            }
            (None, Origin::Ours) => format!(
                "bridge {name} was made by somebody else; if it is to be the switch's, say so \
                 with --bridge {switch}={name}"
            ),
        };
        self.refuse(place.clone(), None, message);
        false
    }

    /// The bridge of the uplinks. True if there is one to be patched to.
    fn uplinks(
        &mut self,
        config: &OvsConfig,
        place: &Place,
        name: &BridgeName,
        wish: &Wish,
    ) -> bool {
        let (switch, _) = place;
        let bridge = name.of_uplinks();
        let there = self.view.bridge(&bridge);
        if wish.settings.uplinks.is_empty() {
            return false;
        }
        let mut interfaces = Vec::new();
        for uplink in &wish.settings.uplinks {
            let interface = config.uplink(switch, uplink);
            let with = self.view.interface(&interface);
            match with.and_then(|uuid| self.view.bridge_with(uuid)) {
                Some(with) if with != bridge => {
                    // The others go on without it.
                    let message = format!("interface {interface} is on bridge {with} already");
                    self.refuse(place.clone(), Some("uplinks"), message);
                }
                Some(_) | None => interfaces.push(interface),
            }
        }
        if interfaces.is_empty() {
            return false;
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

    fn new_bridge(&mut self, place: &Place, name: &str, mut wants: Wants, ports: Vec<Atom>) {
        wants.push(("name", is(name)));
        wants.push(("ports", Want::Has(ports)));
        let bridge = self.insert(place, BRIDGE, wants);
        if let Some(root) = self.view.root() {
            let wants = vec![("bridges", Want::Has(vec![bridge]))];
            self.set(place, ROOT, root, wants);
        }
    }

    /// The bridge's own interface, which every bridge has.
    fn local_port(&mut self, place: &Place, name: &str) -> Atom {
        let wants = vec![("name", is(name)), ("type", is("internal"))];
        let interface = self.insert(place, INTERFACE, wants);
        let wants = vec![
            ("name", is(name)),
            ("interfaces", Want::Has(vec![interface])),
        ];
        self.insert(place, PORT, wants)
    }

    /// One end of the way between the two bridges.
    fn patch(&mut self, place: &Place, name: &str, peer: &str) -> Atom {
        let wants = vec![
            ("name", is(name)),
            ("type", is("patch")),
            ("options", is_map([("peer", peer.to_owned())])),
            ("ofport_request", is(PATCH_NUMBER)),
        ];
        let interface = self.insert(place, INTERFACE, wants);
        let mut wants = carries_all();
        wants.push(("name", is(name)));
        wants.push(("interfaces", Want::Has(vec![interface])));
        self.insert(place, PORT, wants)
    }

    /// Sees to one end of the way on a bridge that is there.
    fn patched(&mut self, place: &Place, bridge: Uuid, wanted: bool, (name, peer): (&str, &str)) {
        match (self.view.port(name), wanted) {
            (None, true) => {
                let patch = self.patch(place, name, peer);
                self.set(
                    place,
                    BRIDGE,
                    bridge,
                    vec![("ports", Want::Has(vec![patch]))],
                );
            }
            (Some(port), true) => {
                let interface = self.view.row(PORT, port);
                let interface = interface.and_then(|row| self.view.only_interface(row));
                if let Some((uuid, _)) = interface {
                    let wants = vec![
                        ("type", is("patch")),
                        ("options", is_map([("peer", peer.to_owned())])),
                        ("ofport_request", is(PATCH_NUMBER)),
                    ];
                    self.set(place, INTERFACE, uuid, wants);
                }
                self.set(place, PORT, port, carries_all());
            }
            (Some(port), false) => self.detach(place, (BRIDGE, bridge, "ports"), (PORT, port)),
            (None, false) => {}
        }
    }

    /// Takes away what is ours and nobody wants any more, of switches that we
    /// know of: marks that nobody can read are nobody's to remove.
    pub(super) fn leftovers(&mut self, known: impl Fn(&SwitchName) -> bool) {
        for (uuid, row) in self.view.table(BRIDGE) {
            let ids = ours(row, "external_ids");
            let own = switch_of(self.known, *uuid, row);
            let is_switch = own.is_some();
            let Some(switch) = own.or_else(|| marks::uplinks_of(&ids)) else {
                continue;
            };
            if !known(&switch) {
                continue;
            }
            let place = (switch, Part::Bridge);
            // What is refused stays as it is until it can be.
            if !self.kept.contains(uuid) && !self.refused.contains_key(&place) {
                self.leave_bridge(&place, *uuid, is_switch);
            }
        }
        self.keep_limits();
        for table in [QOS, QUEUE] {
            for (uuid, row) in self.view.table(table) {
                if let Some((switch, port)) = marks::queueing_of(&ours(row, "external_ids"))
                    && known(&switch)
                    && !self.kept.contains(uuid)
                {
                    self.delete(&(switch, Part::Port(port)), table, *uuid);
                }
            }
        }
    }

    /// A row that another still names can't be deleted, and with it the whole
    /// delta would be refused. A port whose device is gone is one that stays
    /// as it is, and so is each of a bridge that can't be taken.
    fn keep_limits(&mut self) {
        for (port, row) in self.view.table(PORT) {
            if self.seen.contains(port) {
                continue;
            }
            for qos in row.uuids("qos") {
                self.kept.insert(qos);
                let queues = self.view.row(QOS, qos).and_then(|row| row.get("queues"));
                let queues = queues.and_then(Datum::as_map).into_iter().flatten();
                self.kept
                    .extend(queues.filter_map(|(_, queue)| queue.as_uuid()));
            }
        }
    }

    /// A bridge on which others have ports stays, without what is ours.
    fn leave_bridge(&mut self, place: &Place, bridge: Uuid, is_switch: bool) {
        let own = self
            .view
            .row(BRIDGE, bridge)
            .and_then(|row| row.str("name"));
        let foreign = is_switch
            && self.view.ports_of(bridge).any(|(_, port)| {
                let name = port.str("name");
                let patch = own.map(|own| format!("{own}-up"));
                let copies = marks::copies_of(&ours(port, "external_ids"));
                name != own && name != patch.as_deref() && copies.is_none()
            });
        let ports: Vec<Uuid> = self.view.ports_of(bridge).map(|(uuid, _)| uuid).collect();
        if !foreign {
            self.seen.extend(ports);
            if let Some(root) = self.view.root() {
                self.detach(place, (ROOT, root, "bridges"), (BRIDGE, bridge));
            }
            return;
        }
        for port in ports {
            self.unmark_port(place, port);
        }
        let row = self.view.row(BRIDGE, bridge);
        let mirrors: Vec<Uuid> = row
            .into_iter()
            .flat_map(|row| row.uuids("mirrors"))
            .collect();
        for mirror in mirrors {
            let ours_it_is = self
                .view
                .row(MIRROR, mirror)
                .is_some_and(|row| !ours(row, "external_ids").is_empty());
            if ours_it_is {
                self.detach(place, (BRIDGE, bridge, "mirrors"), (MIRROR, mirror));
            }
        }
        let copies: Vec<Uuid> = self
            .view
            .ports_of(bridge)
            .filter_map(copies)
            .map(|(port, _)| port)
            .collect();
        for port in copies {
            self.detach(place, (BRIDGE, bridge, "ports"), (PORT, port));
        }
        let patch = own.map(|own| format!("{own}-up"));
        if let Some(port) = patch.and_then(|patch| self.view.port(&patch)) {
            self.detach(place, (BRIDGE, bridge, "ports"), (PORT, port));
        }
        let wants = vec![("external_ids", Want::Ours(marks::Ids::new()))];
        self.set(place, BRIDGE, bridge, wants);
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
fn carries_all() -> Wants {
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
fn no_spanning_tree() -> Wants {
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
