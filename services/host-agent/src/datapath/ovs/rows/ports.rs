// SPDX-License-Identifier: Apache-2.0
//! Rows of virtual ports. Who plugged the interface owns its rows; ours are
//! the marks and the columns that the policy speaks of. Frames follow the rules
//! of the pipeline, not these VLAN columns: they say to people, and to mirrors
//! of a VLAN, what the rules do.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use dvs_ovsdb::{Atom, Datum, Row};
use dvs_schemas::{PortId, Rate, ShapingLimit, SwitchName, VlanId};
use uuid::Uuid;

use super::{Draft, OnBridge, Place, Want, Wants, is, is_map, ours};
use crate::datapath::ovs::counters::Tallies;
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{INTERFACE, PORT, QOS, QUEUE};
use crate::datapath::ovs::wiring::Stale;
use crate::datapath::{Part, VirtualPort};
use crate::merge::EffectiveVlan;

/// Numbers of ports are below this (OFPP_MAX of OpenFlow 1.0, to which Open
/// vSwitch keeps). New ones are taken from above: Open vSwitch takes them from
/// below, so rules of a port that just went can't be for one of these.
const MAX_NUMBER: i64 = 0xff00;

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
        stale: &Stale,
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
            let ids = marks::of_port(id, spec, tallies.offset(switch, id), plug.opened);
            self.port(&place, id, spec, (plug.port, ids));
            let mut wants = vec![("mtu_request", is(mtu))];
            if !stale.contains_key(&plug.interface) {
                // Rules name ports by their numbers, and a switch that restarts
                // gives them anew.
                wants.push(("ofport_request", is(i64::from(ofport))));
            }
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

    /// Has the switch open devices anew: of an interface that is to have another
    /// number it closes the one that it has, and opens what has that name now.
    /// In user space it would hold on to a device that is gone for good.
    pub(super) fn open_anew(&mut self, switch: &SwitchName, bridge: Uuid, stale: &Stale) {
        let interfaces = self.view.ports_of(bridge).flat_map(|(_, port)| {
            let interfaces = port.uuids("interfaces");
            interfaces.filter_map(|uuid| Some((uuid, self.view.row(INTERFACE, uuid)?)))
        });
        let interfaces: Vec<_> = interfaces.collect();
        let used = |row: &Row| {
            let numbers = ["ofport", "ofport_request"].map(|column| row.integer(column));
            numbers.into_iter().flatten()
        };
        let mut used: BTreeSet<i64> = interfaces.iter().flat_map(|(_, row)| used(row)).collect();
        for (interface, row) in interfaces {
            let Some((_, port)) = stale.get(&interface).filter(|(of, _)| of == switch) else {
                continue;
            };
            let asked = row.integer("ofport_request");
            if asked.is_some() && asked != row.integer("ofport") {
                // Open vSwitch is at it.
                continue;
            }
            let Some(number) = (1..MAX_NUMBER).rev().find(|number| !used.contains(number)) else {
                continue;
            };
            used.insert(number);
            let place = (switch.clone(), Part::Port(port.clone()));
            let wants = vec![("ofport_request", is(number))];
            self.set(&place, INTERFACE, interface, wants);
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
