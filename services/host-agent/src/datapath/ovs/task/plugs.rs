// SPDX-License-Identifier: Apache-2.0
//! What is told of plugs: which came and went, and which can't be what they say.

use std::collections::BTreeMap;

use dvs_schemas::{PortId, SwitchName, VnicId};
use uuid::Uuid;

use super::Task;
use crate::datapath::ovs::unusable::WhyUnusable;
use crate::datapath::ovs::view;
use crate::datapath::ovs::wiring::{Found, Plug};
use crate::datapath::{Notice, Part, Pulled, StepFailure};

/// What was told of a plug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// Which vNIC it said that it is.
    vnic: Option<VnicId>,
    /// Its name.
    interface: String,
    /// Its row.
    row: Uuid,
}

impl Task {
    /// Takes in what was found.
    pub(super) fn found(&mut self, found: Found) {
        let Found {
            plugs,
            unusable,
            unread,
            stale,
        } = found;
        self.plugs = plugs;
        self.unusable = unusable;
        self.unread = unread;
        self.stale = stale;
        self.tell_of_plugs();
        self.tell_of_machines();
        self.tell_of_unusable();
        self.tell_of_unread_words();
        self.tell_of_missing_plugs();
    }

    /// True if there are plugs on bridges whose switches answer by now.
    pub(super) fn has_untold_plugs(&self) -> bool {
        self.plugs.iter().any(|(switch, plugs)| {
            let is_new = |port: &PortId| !self.shown.contains_key(&(switch.clone(), port.clone()));
            self.bridges.answers(switch) && plugs.keys().any(is_new)
        })
    }

    /// True of a port of a bridge that is not taken for the switch's by now. What
    /// is plugged in there nobody can say for certain, so what had the port
    /// keeps it.
    fn is_unclear(&self, (switch, port): &(SwitchName, PortId)) -> bool {
        let wish = self.intent.get(switch);
        let is_wanted = wish.is_some_and(|wish| wish.ports.contains_key(port));
        is_wanted && self.database.is_some() && !self.is_ruled(switch)
    }

    /// Tells which interfaces came and went, whether anybody wants them or not.
    /// One that says now that it is another vNIC came anew. Of a bridge whose
    /// switch doesn't answer none is told to have come: its rows may be of before
    /// the host lost its power.
    fn tell_of_plugs(&mut self) {
        let plugs = self.plugs.iter().flat_map(|(switch, plugs)| {
            let plugs = plugs.iter();
            plugs.map(move |(port, plug)| ((switch.clone(), port.clone()), plug))
        });
        let plugs: BTreeMap<(SwitchName, PortId), &Plug> = plugs.collect();
        for (key, plug) in &plugs {
            if let Some(shown) = self.shown.get_mut(key)
                && shown.vnic == plug.vnic
            {
                shown.interface.clone_from(&plug.name);
                shown.row = plug.interface;
                continue;
            }
            if !self.bridges.answers(&key.0) && !self.is_unclear(key) {
                continue;
            }
            let (switch, port) = key.clone();
            let machine = self.machines.of(key, plug);
            self.machines.tell(key, &machine);
            self.notices.tell(Notice::Plugged {
                switch,
                port,
                vnic: plug.vnic.clone(),
                mac: plug.mac,
                machine,
            });
            let shown = Shown {
                vnic: plug.vnic.clone(),
                interface: plug.name.clone(),
                row: plug.interface,
            };
            self.shown.insert(key.clone(), shown);
        }
        let shown = self.shown.keys();
        let gone: Vec<_> = shown
            .filter(|key| !plugs.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            let Some(shown) = self.shown.remove(&key) else {
                continue;
            };
            let why = self.pulled(&shown);
            let (switch, port) = key;
            // Another bridge has the port's interface now, and that was told.
            let is_elsewhere = |other: &SwitchName| {
                let other = (other.clone(), port.clone());
                self.shown.contains_key(&other)
            };
            if !self.plugs.keys().any(is_elsewhere) {
                self.notices.tell(Notice::Unplugged {
                    switch,
                    port,
                    interface: shown.interface,
                    why,
                });
            }
        }
    }

    /// What became of an interface that was told of.
    fn pulled(&self, Shown { interface, row, .. }: &Shown) -> Pulled {
        let database = self.database.as_ref();
        let there = database.and_then(|it| it.cache().row(view::INTERFACE, *row));
        match (there, self.unusable.get(interface)) {
            (None, _) => Pulled::Off,
            (Some(_), Some(unusable)) => Pulled::Unusable(unusable.why.to_string()),
            (Some(_), None) => Pulled::Renamed,
        }
    }

    /// Why wanted ports are not wired whose interfaces have no device.
    pub(super) fn without_device(&self) -> Vec<((SwitchName, Part), StepFailure)> {
        let missing = self.unusable.iter().filter_map(|(interface, unusable)| {
            let (WhyUnusable::NoDevice(why), Some(port)) = (&unusable.why, &unusable.port) else {
                return None;
            };
            let switch = &unusable.switch;
            let is_wanted = self.intent.get(switch)?.ports.contains_key(port);
            if !is_wanted || self.plug(switch, port).is_some() {
                return None;
            }
            let failure = StepFailure::new(None, format!("interface {interface}: {why}"));
            Some(((switch.clone(), Part::Port(port.clone())), failure))
        });
        missing.collect()
    }
}
