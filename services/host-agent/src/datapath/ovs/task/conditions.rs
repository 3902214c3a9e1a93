// SPDX-License-Identifier: Apache-2.0
//! Conditions that follow from what the database and the bridges are like.

use std::collections::BTreeSet;

use dvs_ovsdb::Datum;
use dvs_schemas::PortId;
use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use uuid::Uuid;

use super::Task;
use super::rules::rule_drift;
use crate::datapath::ovs::rows::{Difference, RowPlan, Spoilt};
use crate::datapath::ovs::unusable::{Unread, Unusable};
use crate::datapath::ovs::view::{self, View};
use crate::datapath::{ConditionsNow, Part};

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

    /// Tells which words can't be read and count as not said.
    pub(super) fn tell_of_unread_words(&self) {
        let said = self.unread.iter().map(|unread| {
            let Unread {
                switch,
                port,
                interface,
                word,
                why,
            } = unread;
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port: Some(port.clone()),
                interface: Some(interface.clone()),
                field: Some((*word).to_owned()),
                ..ConditionTarget::default()
            };
            (
                on,
                format!("{word} can't be read and counts as not said: {why}"),
            )
        });
        let marks = self.spoilt.iter().map(|spoilt| {
            let Spoilt {
                place: (switch, part),
                interface,
                mark,
                why,
            } = spoilt;
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port: match part {
                    Part::Port(port) => Some(port.clone()),
                    Part::Bridge | Part::Mirror(_) => None,
                },
                interface: Some(interface.clone()),
                field: Some(format!("external_ids:{mark}")),
                ..ConditionTarget::default()
            };
            (on, why.clone())
        });
        let mut now = ConditionsNow::new();
        for (on, why) in said.chain(marks) {
            let entry = now.entry(on).or_default();
            if !entry.is_empty() {
                entry.push_str("; ");
            }
            entry.push_str(&why);
        }
        self.notices.conditions(ConditionKind::UnreadableWord, now);
    }

    /// Tells on which ports nothing is plugged in. Of an interface that says
    /// the port and can't be it that is said already.
    pub(super) fn tell_of_missing_plugs(&self) {
        let said: BTreeSet<_> = self
            .unusable
            .values()
            .filter_map(|unusable| Some((&unusable.switch, unusable.port.as_ref()?)))
            .collect();
        let said = &said;
        let missing = self.intent.iter().flat_map(|(switch, wish)| {
            let plugs = self.plugs.get(switch);
            let has_plug = move |port: &PortId| plugs.is_some_and(|plugs| plugs.contains_key(port));
            let is_missing =
                move |port: &&PortId| !has_plug(port) && !said.contains(&(switch, *port));
            let without = wish.ports.keys().filter(is_missing);
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

    /// Tells which uplinks are to be aggregated and hear no partner. Nothing
    /// that could be written mends that, so the host's settings are in force
    /// all the same; it is as if the link were down.
    pub(super) fn tell_of_link_aggregation(&self, view: &View<'_>) {
        let mut alone = ConditionsNow::new();
        for (switch, wish) in &self.intent {
            match wish.settings.teaming {
                Teaming::Lacp => {}
                Teaming::ActiveBackup | Teaming::BalanceSlb => continue,
            }
            let (bridge, _) = self.config.bridge(switch);
            for uplink in &wish.settings.uplinks {
                let name = self.config.uplink(switch, uplink);
                let interface = view.interface(&name);
                let ours = |uuid: &Uuid| view.bridge_with(*uuid) == Some(&*bridge.of_uplinks());
                let row = interface.filter(ours);
                let row = row.and_then(|uuid| view.row(view::INTERFACE, uuid));
                let Some(row) = row else {
                    continue;
                };
                let hears = row.get(view::LACP_PARTNER).and_then(Datum::as_bool);
                if hears == Some(true) {
                    continue;
                }
                let on = ConditionTarget {
                    switch: Some(switch.clone()),
                    interface: Some(name.clone()),
                    field: Some("teaming".to_owned()),
                    ..ConditionTarget::default()
                };
                let why = format!(
                    "uplink {uplink} of switch {switch} hears no partner by LACP on interface \
                     {name}, so it carries no frames: check that its port of the physical switch \
                     is in an active link aggregation, or set teaming to active_backup"
                );
                alone.insert(on, why);
            }
        }
        self.notices
            .conditions(ConditionKind::LinkAggregation, alone);
    }

    /// Tells what others say that the policies of ports speak of, as a plan has
    /// found it.
    pub(super) fn tell_of_others_settings(&mut self, plan: &RowPlan) {
        self.spoilt.clone_from(&plan.spoilt);
        self.tell_of_unread_words();
        let all = plan.foreign.iter().map(|setting| {
            let (switch, part) = &setting.place;
            let port = match part {
                Part::Port(port) => Some(port.clone()),
                Part::Bridge | Part::Mirror(_) => None,
            };
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port,
                interface: Some(setting.interface.clone()),
                field: Some(setting.column.clone()),
                ..ConditionTarget::default()
            };
            (on, setting.message())
        });
        self.notices
            .conditions(ConditionKind::ForeignSettings, all.collect());
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
