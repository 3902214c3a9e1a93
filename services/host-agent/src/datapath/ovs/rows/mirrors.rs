// SPDX-License-Identifier: Apache-2.0
//! Rows of mirror sessions. A row of Open vSwitch copies what comes from its
//! ports and is in its VLANs; a session copies what is either. So a session
//! with both has two rows; Open vSwitch sends one copy where two rows agree.
//!
//! Copies into a VLAN leave by a patch whose other end is on the same bridge:
//! there they enter as any frame of that VLAN, and the rules say who gets them.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ovsdb::{Atom, Datum, Row};
use dvs_schemas::{Direction, MirrorDestination, MirrorName, PortId, SwitchName, VlanId};
use uuid::Uuid;

use super::foreign::{Foreign, Standing};
use super::{Draft, OnBridge, Place, Want, Wants, is, is_map, ours};
use crate::datapath::ovs::config::BridgeName;
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{BRIDGE, INTERFACE, MIRROR, PORT, View};
use crate::datapath::{Mirror, Part};
use crate::merge::EffectiveVlan;

/// Where copies leave, by session.
type Outlets = BTreeMap<MirrorName, Atom>;

/// What the name of a session's row for VLANs ends with.
const OF_VLANS: &str = " (VLANs)";

/// The session of a row of this name, if it is named as one of ours.
pub(in crate::datapath::ovs) fn session_of(row: &str) -> Option<MirrorName> {
    row.strip_suffix(OF_VLANS).unwrap_or(row).parse().ok()
}

/// True if a row is as a session writes it: it has its VLANs, copies leave
/// where the session's do, and come from ports of it alone. `said` is the port
/// that a row of one says.
pub(in crate::datapath::ovs) fn is_written_for(
    row: &Row,
    session: &Mirror,
    (view, bridge): (&View<'_>, &BridgeName),
    said: impl Fn(&Row) -> Option<PortId>,
) -> bool {
    let of_vlans = row.str("name").is_some_and(|name| name.ends_with(OF_VLANS));
    let vlans = session.vlans.iter().map(|vlan| i64::from(vlan.get()));
    let vlans: BTreeSet<i64> = vlans.filter(|_| of_vlans).collect();
    let selected = row.get("select_vlan").into_iter();
    let selected: BTreeSet<i64> = selected.flat_map(Datum::integers).collect();
    let to = row.uuids("output_port").next();
    let leaves =
        to.and_then(|port| view.row(PORT, port))
            .is_some_and(|to| match &session.destination {
                MirrorDestination::Port(port) => said(to).as_ref() == Some(port),
                MirrorDestination::Vlan(vlan) => to.str("name") == Some(&bridge.copies_out(*vlan)),
            });
    let mut from = row
        .uuids("select_src_port")
        .chain(row.uuids("select_dst_port"));
    let of_session = |port: &PortId| session.ports.iter().any(|source| source.port == *port);
    let comes = of_vlans
        || from.all(|port| {
            let port = view.row(PORT, port).and_then(&said);
            port.as_ref().is_some_and(of_session)
        });
    let all = row.get("select_all").and_then(Datum::as_bool);
    all == Some(false) && selected == vlans && leaves && comes
}

/// VLANs that sessions copy into.
pub(in crate::datapath::ovs) fn copied_into(wish: &Wish) -> BTreeSet<VlanId> {
    let sessions = wish.mirrors.values();
    let vlans = sessions.filter_map(|session| match session.destination {
        MirrorDestination::Port(_) => None,
        MirrorDestination::Vlan(vlan) => Some(vlan),
    });
    vlans.collect()
}

impl<'v> Draft<'v, '_> {
    /// The sessions of a switch, as far as their ports are plugged.
    pub(super) fn mirrors(
        &mut self,
        (switch, own): (&SwitchName, &BridgeName),
        wish: &Wish,
        (bridge, plugs): OnBridge<'_>,
    ) {
        let row = self.view.row(BRIDGE, bridge);
        let held: Vec<Uuid> = row
            .into_iter()
            .flat_map(|row| row.uuids("mirrors"))
            .collect();
        let held = held.iter().filter_map(|uuid| {
            let row = self.view.row(MIRROR, *uuid)?;
            Some((row.str("name")?, *uuid, self.memory.has_mirror(*uuid, row)))
        });
        let (held, others): (Vec<_>, Vec<_>) = held.partition(|(_, _, is_ours)| *is_ours);
        let named = |rows: Vec<(&'v str, Uuid, bool)>| -> BTreeMap<&'v str, Uuid> {
            let rows = rows.into_iter();
            rows.map(|(name, uuid, _)| (name, uuid)).collect()
        };
        let (held, others) = (named(held), named(others));
        let outlets = self.outlets((switch, own), wish, bridge);
        let sources = Sources {
            wish,
            plugs: plugs
                .into_iter()
                .flatten()
                .map(|(port, plug)| (port, plug.port))
                .collect(),
        };
        let mut wanted = Vec::new();
        for (name, session) in &wish.mirrors {
            let place = (switch.clone(), Part::Mirror(name.clone()));
            if let Some(port) = sources.in_vlan_of_copies(session) {
                let message = format!(
                    "port {port} is in a VLAN that a session copies into, so it is not copied \
                     from into a VLAN; one of the two needs another VLAN"
                );
                self.refuse(place.clone(), Some("source.ports"), message);
            }
            let outlet = match &session.destination {
                MirrorDestination::Port(port) => sources.outlet(port).map(Atom::Uuid),
                MirrorDestination::Vlan(_) => outlets.get(name).cloned(),
            };
            let Some(outlet) = outlet else {
                continue;
            };
            let rows = sources.rows(name, session, &outlet);
            // Beside theirs nobody could tell the two apart.
            let taken = rows.iter().find_map(|(row_name, _)| {
                let theirs = others.get(row_name.as_str())?;
                (!held.contains_key(row_name.as_str())).then_some((row_name, theirs))
            });
            if let Some((row_name, theirs)) = taken {
                let bridge = own.as_str();
                let message = format!(
                    "mirror {row_name:?} on bridge {bridge} is somebody else's and stays as it is; \
                     take it off there with ovs-vsctl remove Bridge {bridge} mirrors {theirs}, or \
                     give the session another name"
                );
                self.refuse(place, None, message);
                continue;
            }
            for (row_name, mut wants) in rows {
                wants.push(("external_ids", Want::Ours(marks::of_mirror(name, session))));
                match held.get(row_name.as_str()) {
                    Some(uuid) => self.set(&place, MIRROR, *uuid, wants),
                    None => {
                        wants.push(("name", is(row_name.as_str())));
                        let row = self.insert(&place, MIRROR, wants);
                        let wants = vec![("mirrors", Want::Has(vec![row]))];
                        self.set(&place, BRIDGE, bridge, wants);
                    }
                }
                wanted.push(row_name);
            }
        }
        self.others_mirrors(switch, bridge);
        if let Some(uplinks) = self.view.bridge(&own.of_uplinks()) {
            self.others_mirrors(switch, uplinks);
        }
        for (row_name, uuid) in held {
            let row = self.view.row(MIRROR, uuid);
            let name = row.and_then(|row| marks::mirror_of(&ours(row, "external_ids")));
            if let Some(name) = name.or_else(|| session_of(row_name))
                && !wanted.iter().any(|wanted| wanted == row_name)
            {
                let place = (switch.clone(), Part::Mirror(name));
                self.detach(&place, (BRIDGE, bridge, "mirrors"), (MIRROR, uuid));
            }
        }
    }

    /// Notes mirrors of others on a bridge of ours.
    fn others_mirrors(&mut self, switch: &SwitchName, bridge: Uuid) {
        let view = self.view;
        let Some(row) = view.row(BRIDGE, bridge) else {
            return;
        };
        for uuid in row.uuids("mirrors") {
            let Some(mirror) = view.row(MIRROR, uuid) else {
                continue;
            };
            if self.memory.has_mirror(uuid, mirror) {
                continue;
            }
            let mut to = mirror.uuids("output_port");
            let to = to.find_map(|port| view.row(PORT, port)?.str("name"));
            let to = match (to, mirror.integer("output_vlan")) {
                (Some(port), _) => format!("to interface {port}"),
                (None, Some(vlan)) => format!("into VLAN {vlan}"),
                (None, None) => "nowhere".to_owned(),
            };
            self.foreign.push(Foreign {
                place: (switch.clone(), Part::Bridge),
                interface: row.str("name").unwrap_or_default().to_owned(),
                column: format!("mirror {}", mirror.str("name").unwrap_or_default()),
                value: to,
                standing: Standing::Beside(uuid),
            });
        }
    }

    /// The patches by which copies enter their VLANs again.
    fn outlets(
        &mut self,
        (switch, name): (&SwitchName, &BridgeName),
        wish: &Wish,
        bridge: Uuid,
    ) -> Outlets {
        let mut outlets = Outlets::new();
        let mut made: BTreeMap<VlanId, Atom> = BTreeMap::new();
        for (session, mirror) in &wish.mirrors {
            let MirrorDestination::Vlan(vlan) = mirror.destination else {
                continue;
            };
            let place = (switch.clone(), Part::Mirror(session.clone()));
            let outlet = match made.get(&vlan) {
                Some(outlet) => outlet.clone(),
                None => {
                    let (out, back) = (name.copies_out(vlan), name.copies_in(vlan));
                    self.copies_end(&place, bridge, vlan, (&back, &out));
                    self.copies_end(&place, bridge, vlan, (&out, &back))
                }
            };
            made.insert(vlan, outlet.clone());
            outlets.insert(session.clone(), outlet);
        }
        let left: Vec<(Uuid, VlanId)> = self.view.ports_of(bridge).filter_map(copies).collect();
        for (port, _) in left.iter().filter(|(_, vlan)| !made.contains_key(vlan)) {
            let place = self.scope.of_sessions(switch);
            self.detach(&place, (BRIDGE, bridge, "ports"), (PORT, *port));
        }
        outlets
    }

    /// One end of such a patch: as out of an access port frames leave it without
    /// a tag, whatever tag they had.
    fn copies_end(
        &mut self,
        place: &Place,
        bridge: Uuid,
        vlan: VlanId,
        (name, peer): (&str, &str),
    ) -> Atom {
        let port_wants: Wants = vec![
            ("tag", is(i64::from(vlan.get()))),
            ("vlan_mode", is("access")),
            ("external_ids", Want::Ours(marks::of_copies(vlan))),
        ];
        let wants: Wants = vec![
            ("type", is("patch")),
            ("options", is_map([("peer", peer.to_owned())])),
        ];
        if let Some(port) = self.view.port(name) {
            let row = self.view.row(PORT, port);
            if let Some((interface, _)) = row.and_then(|row| self.view.only_interface(row)) {
                self.set(place, INTERFACE, interface, wants);
            }
            self.set(place, PORT, port, port_wants);
            return Atom::Uuid(port);
        }
        let named = |mut wants: Wants| {
            wants.push(("name", is(name)));
            wants
        };
        let interface = self.insert(place, INTERFACE, named(wants));
        let mut port_wants = named(port_wants);
        port_wants.push(("interfaces", Want::Has(vec![interface])));
        let port = self.insert(place, PORT, port_wants);
        let wants = vec![("ports", Want::Has(vec![port.clone()]))];
        self.set(place, BRIDGE, bridge, wants);
        port
    }
}

/// The VLAN that a port lets copies into, if it is such.
pub(super) fn copies((port, row): (Uuid, &dvs_ovsdb::Row)) -> Option<(Uuid, VlanId)> {
    Some((port, marks::copies_of(&ours(row, "external_ids"))?))
}

/// What sessions copy from.
struct Sources<'v> {
    wish: &'v Wish,
    plugs: BTreeMap<&'v PortId, Uuid>,
}

impl Sources<'_> {
    /// Where copies to a port leave. Open vSwitch sends them past the rules, so
    /// they would come out of a blocked one as well.
    fn outlet(&self, port: &PortId) -> Option<Uuid> {
        let wish = self.wish.ports.get(port)?;
        let plug = self.plugs.get(port).copied();
        plug.filter(|_| !wish.policy.blocked)
    }

    /// The rows of a session, by name.
    fn rows(&self, name: &MirrorName, session: &Mirror, outlet: &Atom) -> Vec<(String, Wants)> {
        let none = Datum::empty;
        let of = |wanted: &dyn Fn(Direction) -> bool| -> Datum {
            let sources = session.ports.iter();
            let sources = sources.filter(|source| wanted(source.direction));
            let ports = sources.filter(|source| self.may_copy(session, &source.port));
            Datum::set(ports.filter_map(|source| self.plugs.get(&source.port).copied()))
        };
        let row = |from: Datum, to: Datum, vlans: Datum| -> Wants {
            vec![
                ("select_all", is(false)),
                ("select_src_port", Want::Is(from)),
                ("select_dst_port", Want::Is(to)),
                ("select_vlan", Want::Is(vlans)),
                ("output_port", Want::Is(Datum::set([outlet.clone()]))),
                ("output_vlan", Want::Is(none())),
            ]
        };
        // What the vNIC sends is what its port receives.
        let from = of(&|direction| matches!(direction, Direction::Ingress | Direction::Both));
        let to = of(&|direction| matches!(direction, Direction::Egress | Direction::Both));
        let (entering, leaving) = self.of_vlans(session);
        let of_ports = !from.is_empty() || !to.is_empty();
        let of_vlans = !entering.is_empty() || !leaving.is_empty();
        let mut rows = Vec::new();
        // Who starts anew learns from a row where copies go, also while there
        // are none.
        if of_ports || !of_vlans {
            rows.push((name.to_string(), row(from, to, none())));
        }
        if of_vlans {
            let vlans = session.vlans.iter().map(|vlan| i64::from(vlan.get()));
            let vlans = Datum::set(vlans.map(Atom::Integer));
            let (from, to) = (Datum::set(entering), Datum::set(leaving));
            rows.push((format!("{name}{OF_VLANS}"), row(from, to, vlans)));
        }
        rows
    }

    /// Where frames of a session's VLANs come from vNICs and go to them. Into a
    /// VLAN they are copied as they come: each does so once, and so gives one
    /// copy however many hosts it passes. To a port of this host goes also what
    /// others send to vNICs here, as nobody else copies that to it; Open vSwitch
    /// doesn't look at what comes by a patch.
    fn of_vlans(&self, session: &Mirror) -> (Vec<Uuid>, Vec<Uuid>) {
        let private = &self.wish.settings.private_vlans;
        let of = |is_of: &dyn Fn(&EffectiveVlan, VlanId) -> bool| -> Vec<Uuid> {
            let ports = self.wish.ports.iter().filter(|(id, port)| {
                let mut vlans = session.vlans.iter();
                vlans.any(|vlan| is_of(&port.policy.vlan, *vlan)) && self.may_copy(session, id)
            });
            ports
                .filter_map(|(id, _)| self.plugs.get(id).copied())
                .collect()
        };
        let entering = of(&|port, vlan| port.sends_in(vlan));
        let leaving = match session.destination {
            MirrorDestination::Vlan(_) => Vec::new(),
            MirrorDestination::Port(_) => of(&|port, vlan| port.receives_in(vlan, private)),
        };
        (entering, leaving)
    }

    /// False of a port that passes nothing, of one that gets copies and nothing
    /// else, and of one to which a copy in a VLAN would come back.
    fn may_copy(&self, session: &Mirror, id: &PortId) -> bool {
        let Some(port) = self.wish.ports.get(id) else {
            return false;
        };
        let circular = match session.destination {
            MirrorDestination::Port(_) => false,
            MirrorDestination::Vlan(_) => self.gets_copies(id),
        };
        !port.policy.blocked && !circular && !mirrored_to(self.wish).any(|to| to == id)
    }

    fn gets_copies(&self, id: &PortId) -> bool {
        let private = &self.wish.settings.private_vlans;
        let port = self.wish.ports.get(id);
        port.is_some_and(|port| {
            let mut into = copied_into(self.wish).into_iter();
            into.any(|vlan| port.policy.vlan.receives_in(vlan, private))
        })
    }

    /// A source port that a session into a VLAN can't copy, since it is in a
    /// VLAN of copies itself. The publisher admits none; while messages are
    /// under way it can be.
    fn in_vlan_of_copies<'s>(&self, session: &'s Mirror) -> Option<&'s PortId> {
        match session.destination {
            MirrorDestination::Port(_) => None,
            MirrorDestination::Vlan(_) => {
                let mut ports = session.ports.iter().map(|source| &source.port);
                ports.find(|port| self.gets_copies(port))
            }
        }
    }
}

/// The destinations of the sessions that copy to a port: they get copies and
/// nothing else.
pub(in crate::datapath::ovs) fn mirrored_to(wish: &Wish) -> impl Iterator<Item = &PortId> {
    wish.mirrors
        .values()
        .filter_map(|session| match &session.destination {
            MirrorDestination::Port(port) => Some(port),
            MirrorDestination::Vlan(_) => None,
        })
}
