// SPDX-License-Identifier: Apache-2.0
//! Conditions that follow from what the database and the bridges are like.

use dvs_schemas::PortId;
use dvs_schemas::v1::{ConditionKind, ConditionTarget};

use super::Task;
use super::rules::rule_drift;
use crate::datapath::ovs::rows::Difference;
use crate::datapath::ovs::unusable::Unusable;

impl Task {
    /// Tells which interfaces can't be what they say.
    pub(super) fn tell_of_unusable(&self) {
        let unusable = self.unusable.iter().map(|(interface, unusable)| {
            let Unusable { switch, port, why } = unusable;
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port: port.clone(),
                interface: Some(interface.clone()),
                ..ConditionTarget::default()
            };
            (on, why.to_string())
        });
        self.notices
            .conditions(ConditionKind::InterfaceUnusable, unusable.collect());
    }

    /// Tells on which ports nothing is plugged in.
    pub(super) fn tell_of_missing_plugs(&self) {
        let missing = self.intent.iter().flat_map(|(switch, wish)| {
            let plugs = self.plugs.get(switch);
            let has_plug = move |port: &PortId| plugs.is_some_and(|plugs| plugs.contains_key(port));
            let without = wish.ports.keys().filter(move |port| !has_plug(port));
            without.map(move |port| {
                let on = ConditionTarget {
                    switch: Some(switch.clone()),
                    port: Some(port.clone()),
                    ..ConditionTarget::default()
                };
                let why = format!(
                    "no interface of switch {switch}'s bridge says that it is port {port}: plug \
                     one in with external_ids:iface-id={port}, or place the port elsewhere"
                );
                (on, why)
            })
        });
        self.notices
            .conditions(ConditionKind::NothingPluggedIn, missing.collect());
    }

    /// Tells what others changed and nothing has undone.
    pub(super) fn tell_of_what_drifts(&self) {
        let rules = self.bridges.left().map(|(switch, altered)| {
            let (bridge, _) = self.config.bridge(switch);
            rule_drift(switch, bridge.as_str(), altered.clone())
        });
        let stays = self.reported.stays().iter().cloned().chain(rules);
        let stands = stays.map(|difference: Difference| difference.stands());
        self.notices
            .conditions(ConditionKind::Drift, stands.collect());
    }
}
