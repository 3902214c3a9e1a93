// SPDX-License-Identifier: Apache-2.0
//! Rows of mirror sessions. A row of Open vSwitch copies what comes from its
//! ports and is in its VLANs; a session copies what is either. So a session
//! with both has two rows; Open vSwitch sends one copy where two rows agree.

use std::collections::BTreeMap;

use dvs_ovsdb::{Atom, Datum};
use dvs_schemas::{Direction, MirrorDestination, MirrorName, PortId, SwitchName};
use uuid::Uuid;

use super::{Draft, OnBridge, Want, Wants, is, ours};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{BRIDGE, MIRROR};
use crate::datapath::ovs::wiring::Plug;
use crate::datapath::{Mirror, Part};

type OfPlugs<'p> = Option<&'p BTreeMap<PortId, Plug>>;

impl Draft<'_, '_> {
    /// The sessions of a switch, as far as their ports are plugged.
    pub(super) fn mirrors(
        &mut self,
        switch: &SwitchName,
        wish: &Wish,
        (bridge, plugs): OnBridge<'_>,
    ) {
        let row = self.view.row(BRIDGE, bridge);
        let held: Vec<Uuid> = row
            .into_iter()
            .flat_map(|row| row.uuids("mirrors"))
            .collect();
        let held: BTreeMap<&str, Uuid> = held
            .iter()
            .filter_map(|uuid| Some((self.view.row(MIRROR, *uuid)?.str("name")?, *uuid)))
            .collect();
        let mut wanted = Vec::new();
        for (name, session) in &wish.mirrors {
            let place = (switch.clone(), Part::Mirror(name.clone()));
            for (row_name, mut wants) in rows(name, session, plugs) {
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
        for (row_name, uuid) in held {
            let row = self.view.row(MIRROR, uuid);
            let name = row.and_then(|row| marks::mirror_of(&ours(row, "external_ids")));
            if let Some(name) = name
                && !wanted.iter().any(|wanted| wanted == row_name)
            {
                let place = (switch.clone(), Part::Mirror(name));
                self.detach(&place, (BRIDGE, bridge, "mirrors"), (MIRROR, uuid));
            }
        }
    }
}

/// The rows of a session, by name; none while nothing could be copied.
fn rows(name: &MirrorName, session: &Mirror, plugs: OfPlugs<'_>) -> Vec<(String, Wants)> {
    let plugged = |port: &PortId| {
        plugs
            .and_then(|plugs| plugs.get(port))
            .map(|plug| plug.port)
    };
    let none = Datum::empty;
    let (to_port, to_vlan) = match &session.destination {
        MirrorDestination::Port(port) => match plugged(port) {
            Some(port) => (Datum::from(port), none()),
            None => return Vec::new(),
        },
        MirrorDestination::Vlan(vlan) => (none(), Datum::from(i64::from(vlan.get()))),
    };
    let of = |wanted: &dyn Fn(Direction) -> bool| -> Datum {
        let sources = session
            .ports
            .iter()
            .filter(|source| wanted(source.direction));
        Datum::set(sources.filter_map(|source| plugged(&source.port)))
    };
    let row = |all: bool, from: Datum, to: Datum, vlans: Datum| -> Wants {
        vec![
            ("select_all", is(all)),
            ("select_src_port", Want::Is(from)),
            ("select_dst_port", Want::Is(to)),
            ("select_vlan", Want::Is(vlans)),
            ("output_port", Want::Is(to_port.clone())),
            ("output_vlan", Want::Is(to_vlan.clone())),
        ]
    };
    // What the vNIC sends is what its port receives.
    let from = of(&|direction| matches!(direction, Direction::Ingress | Direction::Both));
    let to = of(&|direction| matches!(direction, Direction::Egress | Direction::Both));
    let mut rows = Vec::new();
    // Who starts anew learns from the row that its destination gets copies and
    // nothing else, also while there are none.
    let kept = session.vlans.is_empty() && !to_port.is_empty();
    if !from.is_empty() || !to.is_empty() || kept {
        rows.push((name.to_string(), row(false, from, to, none())));
    }
    if !session.vlans.is_empty() {
        let vlans = session.vlans.iter().map(|vlan| i64::from(vlan.get()));
        let vlans = Datum::set(vlans.map(Atom::Integer));
        rows.push((format!("{name} (VLANs)"), row(true, none(), none(), vlans)));
    }
    rows
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
