// SPDX-License-Identifier: Apache-2.0
//! Rows of bridges: that of the switch, which forwards by rules alone, and
//! that of its uplinks, which forwards by itself and so can bond them.

use dvs_ovsdb::{Atom, Datum};
use dvs_schemas::SwitchName;
use uuid::Uuid;

use super::memory::Owned;
use super::mirrors::copies;
use super::replaced::Spoilt;
use super::takeover::Standing;
use super::uplinks::{carries_all, no_spanning_tree};
use super::{Draft, Place, Want, Wants, is, is_map, ours};
use crate::datapath::Part;
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks::{self, Before};
use crate::datapath::ovs::view::{BRIDGE, INTERFACE, MIRROR, PORT, QOS, QUEUE, ROOT};

/// The number of a patch in its bridge: the highest that Open vSwitch gives. It
/// counts up from 1 itself, so nobody else has that one.
pub(super) const PATCH_NUMBER: i64 = 0xfeff;

/// A bridge that is there, or will be with this transaction.
pub(super) enum BridgeRow {
    There(Uuid),
    New,
}

impl Draft<'_, '_> {
    /// The bridges of a switch. None if they can't be.
    pub(super) fn bridge(&mut self, switch: &SwitchName, wish: &Wish) -> Option<BridgeRow> {
        let config = self.config;
        let place = (switch.clone(), Part::Bridge);
        let (name, origin) = config.bridge(switch);
        // All that may keep it from being made is found before anything of it
        // is written.
        let members = self.choose(config, switch, &name, wish);
        let standing = match self.standing(switch, (&name, origin), &members) {
            Ok(standing) => standing,
            Err(why) => {
                self.refuse(place, None, why);
                return None;
            }
        };
        let patched = self.uplinks(config, &place, &name, wish, members);
        let before = self.before(switch, standing);
        let mut wants: Wants = vec![
            ("fail_mode", is("secure")),
            (
                "external_ids",
                Want::Ours(marks::of_bridge(switch, &wish.settings, before)),
            ),
        ];
        wants.extend(no_spanning_tree());
        let uuid = match standing {
            Standing::Nothing => {
                wants.push(("datapath_type", is(config.kind.column())));
                let local = self.local_port(&place, name.as_str());
                let patch =
                    patched.then(|| self.patch(&place, &name.patch_up(), &name.patch_down()));
                let ports = [local].into_iter().chain(patch).collect();
                self.new_bridge(&place, name.as_str(), wants, ports);
                return Some(BridgeRow::New);
            }
            Standing::Ours(uuid) | Standing::Foreign(uuid) => uuid,
        };
        // A bridge that was taken may leave the same unsaid.
        if self.kind_of(uuid) != Some(config.kind.column()) {
            wants.push(("datapath_type", is(config.kind.column())));
        }
        self.set(&place, BRIDGE, uuid, wants);
        self.kept.insert(uuid);
        match before {
            Before::Nothing | Before::Taken(_) => {}
            Before::Unknown => self.spoilt.push(Spoilt {
                why: of_unknown_past(name.as_str(), switch),
                place: place.clone(),
                interface: name.to_string(),
                mark: marks::TAKEN,
            }),
        }
        self.patched(
            &place,
            uuid,
            patched,
            (&name.patch_up(), &name.patch_down()),
        );
        Some(BridgeRow::There(uuid))
    }

    pub(super) fn new_bridge(
        &mut self,
        place: &Place,
        name: &str,
        mut wants: Wants,
        ports: Vec<Atom>,
    ) {
        wants.push(("name", is(name)));
        wants.push(("ports", Want::Has(ports)));
        let bridge = self.insert(place, BRIDGE, wants);
        if let Some(root) = self.view.root() {
            let wants = vec![("bridges", Want::Has(vec![bridge]))];
            self.set(place, ROOT, root, wants);
        }
    }

    /// The bridge's own interface, which every bridge has.
    pub(super) fn local_port(&mut self, place: &Place, name: &str) -> Atom {
        let wants = vec![("name", is(name)), ("type", is("internal"))];
        let interface = self.insert(place, INTERFACE, wants);
        let wants = vec![
            ("name", is(name)),
            ("interfaces", Want::Has(vec![interface])),
        ];
        self.insert(place, PORT, wants)
    }

    /// One end of the way between the two bridges.
    pub(super) fn patch(&mut self, place: &Place, name: &str, peer: &str) -> Atom {
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
    pub(super) fn patched(
        &mut self,
        place: &Place,
        bridge: Uuid,
        wanted: bool,
        (name, peer): (&str, &str),
    ) {
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
        let mut left = Vec::new();
        for (uuid, row) in self.view.table(BRIDGE) {
            let own = self.memory.bridge(self.config, *uuid, row);
            let (switch, before) = match own {
                Some(Owned { switch, before }) => (switch, Some(before)),
                None => match marks::uplinks_of(&ours(row, "external_ids")) {
                    Some(switch) => (switch, None),
                    None => continue,
                },
            };
            if !known(&switch) || self.kept.contains(uuid) {
                continue;
            }
            if before == Some(Before::Unknown) {
                let name = row.str("name").unwrap_or_default();
                let why = of_unknown_past(name, &switch);
                self.refuse((switch.clone(), Part::Bridge), None, why);
            }
            left.push(((switch, Part::Bridge), *uuid, before));
        }
        for (place, uuid, before) in left {
            // What is refused stays as it is until it can be.
            if !self.refused.contains_key(&place) {
                self.leave_bridge(&place, uuid, before);
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

    /// A bridge that somebody else made, or on which others have ports, stays
    /// without what is ours. That of uplinks was nothing before, for `before`
    /// is of a switch's own one.
    fn leave_bridge(&mut self, place: &Place, bridge: Uuid, before: Option<Before>) {
        let own = self
            .view
            .row(BRIDGE, bridge)
            .and_then(|row| row.str("name"));
        let taken = match before {
            None | Some(Before::Nothing) => None,
            Some(Before::Taken(mode)) => Some(mode),
            // It was refused.
            Some(Before::Unknown) => return,
        };
        let foreign = before.is_some()
            && (taken.is_some()
                || self.view.ports_of(bridge).any(|(_, port)| {
                    let name = port.str("name");
                    let patch = own.map(|own| format!("{own}-up"));
                    let copies = marks::copies_of(&ours(port, "external_ids"));
                    name != own && name != patch.as_deref() && copies.is_none()
                }));
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
                .is_some_and(|row| self.memory.has_mirror(mirror, row));
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
        // One that was made for the switch is its own again when it returns.
        let (switch, _) = place;
        let ids = match taken {
            None => marks::of_left_bridge(switch),
            Some(_) => marks::Ids::new(),
        };
        let mut wants = vec![("external_ids", Want::Ours(ids))];
        // With the mode Open vSwitch drops our rules, and forwards as it did.
        wants.extend(taken.map(|mode| ("fail_mode", Want::Is(mode.column()))));
        self.set(place, BRIDGE, bridge, wants);
    }
}

/// What is to be said of a bridge whose past nobody knows. To delete it could
/// take what is somebody else's; to have it forward by itself could join what
/// the switch keeps apart.
fn of_unknown_past(name: &str, switch: &SwitchName) -> String {
    format!(
        "bridge {name} doesn't say what it was before it was the switch's, so it stays and forwards \
         nothing when that goes, until somebody says so: with ovs-vsctl set Bridge {name} \
         external_ids:dvs-made-for={switch} if it was made for the switch and is to be deleted, or \
         with external_ids:dvs-taken=standalone (or unset, or secure) if it was there before and is \
         to have that fail_mode again"
    )
}
