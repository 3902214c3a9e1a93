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

use super::bridges::PATCH_NUMBER;
use super::foreign::Standing;
use super::memory::Wired;
use super::replaced::{Replaced, Spoilt};
use super::{Draft, OnBridge, Place, Ruled, Want, Wants, is, is_map, ours};
use crate::datapath::ovs::intent::Wish;
use crate::datapath::ovs::marks;
use crate::datapath::ovs::view::{INTERFACE, POLICING, POLICING_PACKETS, PORT, QOS, QUEUE};
use crate::datapath::ovs::wiring::{Plug, Stale};
use crate::datapath::tally::Tallies;
use crate::datapath::{Part, VirtualPort};
use crate::merge::EffectiveVlan;

/// The number of a device that is opened anew: of no interface, and of no rule.
/// They are taken from above, as Open vSwitch takes its own from below; the
/// highest is the patch's, also where there is none yet.
fn free_number(used: &BTreeSet<i64>) -> Option<i64> {
    (1..PATCH_NUMBER)
        .rev()
        .find(|number| !used.contains(number))
}

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
            let mut wants = vec![("mtu_request", is(mtu))];
            if !stale.contains_key(&plug.interface) {
                // Rules name ports by their numbers, and a switch that restarts
                // gives them anew.
                wants.push(("ofport_request", is(i64::from(ofport))));
            }
            wants.extend(self.port(&place, id, spec, (plug, ids)));
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
            let known = self.memory.ports.get(&port).map(|wired| wired.port.clone());
            let said = || marks::port_of(&ours(row?, "external_ids"));
            if let Some(id) = known.or_else(said) {
                self.unmark_port(&(switch.clone(), Part::Port(id)), port);
            }
        }
    }

    /// Has the switch open devices anew: of an interface that is to have another
    /// number it closes the one that it has, and opens what has that name now.
    /// In user space it would hold on to a device that is gone for good.
    pub(super) fn open_anew(
        &mut self,
        switch: &SwitchName,
        bridge: Uuid,
        (stale, ruled): (&Stale, &Ruled),
    ) {
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
        // Rules of a port that just went are for whoever has its number.
        used.extend(
            ruled
                .get(switch)
                .into_iter()
                .flatten()
                .map(|number| i64::from(*number)),
        );
        for (interface, row) in interfaces {
            let Some((_, port)) = stale.get(&interface).filter(|(of, _)| of == switch) else {
                continue;
            };
            let asked = row.integer("ofport_request");
            if asked.is_some() && asked != row.integer("ofport") {
                // Open vSwitch is at it.
                continue;
            }
            let Some(number) = free_number(&used) else {
                continue;
            };
            used.insert(number);
            let place = (switch.clone(), Part::Port(port.clone()));
            let wants = vec![("ofport_request", is(number))];
            self.set(&place, INTERFACE, interface, wants);
        }
    }

    /// Answers what the port's interface is to be like besides.
    fn port(
        &mut self,
        place: &Place,
        id: &PortId,
        spec: &VirtualPort,
        (plug, mut ids): (&Plug, marks::Ids),
    ) -> Wants {
        let Some(row) = self.view.row(PORT, plug.port) else {
            return Wants::new();
        };
        let before = self.memory.replaced(plug.port, row);
        let mut replaced = before.clone();
        let mut wants = vlan(&spec.policy.vlan);
        if !self.memory.ports.contains_key(&plug.port) && ours(row, "external_ids").is_empty() {
            // Until now they were whose the interface is, also where they say
            // what the policy does.
            for (column, _) in &wants {
                let theirs = row.get(column).filter(|theirs| !theirs.is_empty());
                if let Some(theirs) = theirs {
                    replaced.put(column, theirs.clone());
                }
            }
        }
        let queueing = self.queueing(plug.port);
        let theirs = row.get("qos").filter(|qos| !qos.is_empty());
        let theirs = theirs.filter(|_| queueing.is_none());
        self.seen.insert(plug.port);
        match (spec.policy.egress, queueing) {
            (ShapingLimit::Unlimited, None) => {
                drop(replaced.take("qos"));
                if let Some(theirs) = theirs {
                    self.foreign(place, row, ("qos", theirs), Standing::InForce);
                }
            }
            // Rows that nothing holds any more go with the leftovers.
            (ShapingLimit::Unlimited, Some(_)) => {
                wants.push(("qos", Want::Is(self.queueing_back(&mut replaced))));
            }
            (ShapingLimit::Rate(rate), held) => {
                if let Some(theirs) = theirs {
                    replaced.put("qos", theirs.clone());
                }
                let qos = self.qos(place, id, rate, held);
                wants.push(("qos", Want::Is(Datum::set([qos]))));
            }
        }
        let policing = self.policing(place, spec.policy.ingress, (row, plug), &mut replaced);
        self.all_replaced(place, row, (&before, &replaced), &wants);
        let spoilt = replaced.spoilt().into_iter().map(|why| Spoilt {
            place: place.clone(),
            interface: plug.name.clone(),
            mark: marks::REPLACED,
            why,
        });
        self.spoilt.extend(spoilt);
        ids.extend(replaced.mark());
        wants.push(("external_ids", Want::Ours(ids)));
        self.set(place, PORT, plug.port, wants);
        let port = id.clone();
        self.rewire(place, plug.port, Some(Wired { port, replaced }));
        policing
    }

    /// Whether the interface limits what the vNIC sends: not where the policy
    /// does.
    fn policing(
        &mut self,
        place: &Place,
        limit: ShapingLimit,
        (port, plug): (&Row, &Plug),
        replaced: &mut Replaced,
    ) -> Wants {
        let interface = self.view.row(INTERFACE, plug.interface);
        let mut wants = Wants::new();
        for column in [POLICING, POLICING_PACKETS] {
            let theirs = interface.and_then(|row| row.get(column));
            let theirs = theirs.filter(|rate| rate.as_integer() != Some(0));
            match (limit, theirs) {
                (ShapingLimit::Rate(_), theirs) => {
                    if let Some(theirs) = theirs {
                        replaced.put(column, theirs.clone());
                    }
                    wants.push((column, is(0_i64)));
                }
                (ShapingLimit::Unlimited, Some(theirs)) => {
                    drop(replaced.take(column));
                    self.foreign(place, port, (column, theirs), Standing::InForce);
                }
                (ShapingLimit::Unlimited, None) => {
                    let back = replaced.take(column);
                    wants.extend(back.map(|theirs| (column, Want::Is(theirs))));
                }
            }
        }
        wants
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

    /// Notes what is known of a port's row once it is written.
    fn rewire(&mut self, place: &Place, port: Uuid, wired: Option<Wired>) {
        if self.scope.holds(place) {
            self.rewired.insert(port, wired);
        }
    }

    /// Takes what is ours off a port's row.
    pub(super) fn unmark_port(&mut self, place: &Place, port: Uuid) {
        let Some(row) = self.view.row(PORT, port) else {
            return;
        };
        let known = self.memory.ports.contains_key(&port);
        if !known && ours(row, "external_ids").is_empty() {
            return;
        }
        self.seen.insert(port);
        self.rewire(place, port, None);
        let mut replaced = self.memory.replaced(port, row);
        let natural = vlan(&EffectiveVlan::Untagged).into_iter();
        let mut wants: Wants = natural
            .map(|(column, natural)| (column, replaced.take(column).map_or(natural, Want::Is)))
            .collect();
        if self.queueing(port).is_some() {
            wants.push(("qos", Want::Is(self.queueing_back(&mut replaced))));
        }
        wants.push(("external_ids", Want::Ours(marks::Ids::new())));
        let interface = self.view.only_interface(row).map(|(uuid, _)| uuid);
        self.set(place, PORT, port, wants);
        if let Some(interface) = interface {
            let mut wants = vec![
                ("mtu_request", is(Datum::empty())),
                ("ofport_request", is(Datum::empty())),
            ];
            for column in [POLICING, POLICING_PACKETS] {
                let back = replaced.take(column);
                wants.extend(back.map(|theirs| (column, Want::Is(theirs))));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_opened_anew_gets_no_number_of_a_patch_or_of_a_rule() {
        assert_eq!(free_number(&BTreeSet::new()), Some(PATCH_NUMBER - 1));
        let used = BTreeSet::from([PATCH_NUMBER, PATCH_NUMBER - 1, PATCH_NUMBER - 3]);
        assert_eq!(free_number(&used), Some(PATCH_NUMBER - 2));
        let all = (1..=PATCH_NUMBER).collect();
        assert_eq!(free_number(&all), None);
    }
}
