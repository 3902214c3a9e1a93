// SPDX-License-Identifier: Apache-2.0
//! Rows of virtual ports. Who plugged the interface owns its rows; ours are
//! the marks and the columns that the policy speaks of. Frames follow the rules
//! of the pipeline, not these VLAN columns: they say to people, and to mirrors
//! of a VLAN, what the rules do.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use dvs_ovsdb::{Atom, Datum};
use dvs_schemas::{PortId, Rate, ShapingLimit, SwitchName, VlanId};
use uuid::Uuid;

use super::{Draft, OnBridge, Place, Want, Wants, is, is_map, ours};
use crate::datapath::ovs::counters::Tallies;
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{INTERFACE, PORT, QOS, QUEUE};
use crate::datapath::{Part, VirtualPort};
use crate::merge::EffectiveVlan;

/// True for the columns of a port that say to people what the rules do, and
/// for what is asked of an interface as it comes.
pub(in crate::datapath::ovs) fn is_said_by_rules(column: &str) -> bool {
    [
        "vlan_mode",
        "tag",
        "trunks",
        "external_ids",
        "mtu_request",
        "ofport_request",
    ]
    .contains(&column)
}

impl Draft<'_, '_> {
    /// The ports of a switch, as far as their interfaces are there.
    pub(super) fn ports(
        &mut self,
        tallies: &Tallies,
        switch: &SwitchName,
        wish: &Wish,
        (bridge, plugs): OnBridge<'_>,
    ) {
        let mtu = i64::from(wish.settings.mtu.get());
        let mut wired = BTreeSet::new();
        for (id, spec) in &wish.ports {
            let Some(plug) = plugs.and_then(|plugs| plugs.get(id)) else {
                continue;
            };
            wired.insert(plug.port);
            // Until Open vSwitch has taken it in there is more to come.
            let Some(ofport) = plug.ofport else {
                continue;
            };
            let place = (switch.clone(), Part::Port(id.clone()));
            let ids = marks::of_port(id, spec, tallies.offset(switch, id));
            self.port(&place, id, spec, (plug.port, ids));
            let wants = vec![
                ("mtu_request", is(mtu)),
                // Rules name ports by their numbers, and a switch that restarts
                // gives them anew.
                ("ofport_request", is(i64::from(ofport))),
            ];
            self.set(&place, INTERFACE, plug.interface, wants);
        }
        let others: Vec<Uuid> = self
            .view
            .ports_of(bridge)
            .map(|(uuid, _)| uuid)
            .filter(|uuid| !wired.contains(uuid))
            .collect();
        for port in others {
            let row = self.view.row(PORT, port);
            if let Some(id) = row.and_then(|row| marks::port_of(&ours(row, "external_ids"))) {
                self.unmark_port(&(switch.clone(), Part::Port(id)), port);
            }
        }
    }

    fn port(
        &mut self,
        place: &Place,
        id: &PortId,
        spec: &VirtualPort,
        (port, ids): (Uuid, marks::Ids),
    ) {
        let mut wants = vlan(&spec.policy.vlan);
        wants.push(("external_ids", Want::Ours(ids)));
        let queueing = self.queueing(port);
        self.seen.insert(port);
        match (spec.policy.egress, queueing) {
            (ShapingLimit::Unlimited, None) => {}
            // Rows that nothing holds any more go with the leftovers.
            (ShapingLimit::Unlimited, Some(_)) => wants.push(("qos", is(Datum::empty()))),
            (ShapingLimit::Rate(rate), held) => {
                let qos = self.qos(place, id, rate, held);
                wants.push(("qos", Want::Is(Datum::set([qos]))));
            }
        }
        self.set(place, PORT, port, wants);
    }

    /// The queueing of a port that is ours.
    fn queueing(&self, port: Uuid) -> Option<Uuid> {
        let qos = self.view.row(PORT, port)?.uuids("qos").next()?;
        let row = self.view.row(QOS, qos)?;
        (!ours(row, "external_ids").is_empty()).then_some(qos)
    }

    /// What the port may receive: all of it at the peak, and in the long run at
    /// the average.
    fn qos(&mut self, place: &Place, id: &PortId, rate: Rate, held: Option<Uuid>) -> Atom {
        let Rate {
            average_kbps,
            peak_kbps,
            burst_kib,
        } = rate;
        let bits = |kbps: NonZeroU32| (u64::from(kbps.get()) * 1_000).to_string();
        let burst = (u64::from(burst_kib.get()) * 1_024 * 8).to_string();
        let (switch, _) = place;
        let ids = marks::of_queueing(switch, id);
        let queue_wants: Wants = vec![
            (
                "other_config",
                is_map([
                    ("min-rate", bits(average_kbps)),
                    ("max-rate", bits(average_kbps)),
                    ("burst", burst),
                ]),
            ),
            ("external_ids", Want::Ours(ids.clone())),
        ];
        let queue = held.and_then(|qos| {
            let queues = self.view.row(QOS, qos)?.get("queues")?.as_map()?;
            let queue = queues.get(&Atom::Integer(0))?.as_uuid()?;
            self.view.row(QUEUE, queue).map(|_| queue)
        });
        let queue = match queue {
            Some(uuid) => {
                self.kept.insert(uuid);
                self.set(place, QUEUE, uuid, queue_wants);
                Atom::Uuid(uuid)
            }
            None => self.insert(place, QUEUE, queue_wants),
        };
        let wants: Wants = vec![
            ("type", is("linux-htb")),
            ("other_config", is_map([("max-rate", bits(peak_kbps))])),
            ("queues", Want::Is(Datum::map([(Atom::Integer(0), queue)]))),
            ("external_ids", Want::Ours(ids)),
        ];
        match held {
            Some(uuid) => {
                self.kept.insert(uuid);
                self.set(place, QOS, uuid, wants);
                Atom::Uuid(uuid)
            }
            None => self.insert(place, QOS, wants),
        }
    }

    /// Takes what is ours off a port's row.
    pub(super) fn unmark_port(&mut self, place: &Place, port: Uuid) {
        let Some(row) = self.view.row(PORT, port) else {
            return;
        };
        if ours(row, "external_ids").is_empty() {
            return;
        }
        self.seen.insert(port);
        let mut wants = vlan(&EffectiveVlan::Untagged);
        if self.queueing(port).is_some() {
            wants.push(("qos", is(Datum::empty())));
        }
        wants.push(("external_ids", Want::Ours(marks::Ids::new())));
        let interface = self.view.only_interface(row).map(|(uuid, _)| uuid);
        self.set(place, PORT, port, wants);
        if let Some(interface) = interface {
            let wants = vec![
                ("mtu_request", is(Datum::empty())),
                ("ofport_request", is(Datum::empty())),
            ];
            self.set(place, INTERFACE, interface, wants);
        }
    }
}

fn vlan(vlan: &EffectiveVlan) -> Wants {
    let none = Datum::empty;
    let number = |vlan: VlanId| i64::from(vlan.get());
    let (tag, trunks, mode) = match vlan {
        EffectiveVlan::Untagged => (none(), none(), none()),
        EffectiveVlan::Access(vlan) | EffectiveVlan::Private { vlan, .. } => {
            (number(*vlan).into(), none(), "access".into())
        }
        EffectiveVlan::Trunk(trunk) => {
            let vlans = trunk
                .vlans
                .ranges()
                .iter()
                .flat_map(|range| (range.first().get()..=range.last().get()).map(i64::from));
            let all = Datum::set(vlans);
            match trunk.native {
                Some(native) => (number(native).into(), all, "native-untagged".into()),
                None => (none(), all, "trunk".into()),
            }
        }
    };
    vec![
        ("tag", Want::Is(tag)),
        ("trunks", Want::Is(trunks)),
        ("vlan_mode", Want::Is(mode)),
    ]
}
