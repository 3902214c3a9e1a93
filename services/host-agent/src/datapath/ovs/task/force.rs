// SPDX-License-Identifier: Apache-2.0
//! What is written and not in force: Open vSwitch has taken rows and rules, and
//! no frame passes all the same; or nobody can know, as it is away.

use std::collections::BTreeMap;

use dvs_ovsdb::Datum;
use dvs_schemas::SwitchName;
use dvs_schemas::v1::{ConditionKind, ConditionTarget};

use super::Task;
use crate::datapath::ovs::config::DatapathKind;
use crate::datapath::ovs::rows::Place;
use crate::datapath::ovs::view::{self, View};
use crate::datapath::{ConditionsNow, Notice, Part, StepFailure};

/// Why no frame passes any bridge of this Open vSwitch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Standstill {
    /// It was told to wait for rules after its start. While it runs it heeds
    /// the word only when that goes.
    #[error(
        "Open vSwitch is told to forward nothing after its start until rules are restored; take \
         that back with ovs-vsctl remove Open_vSwitch . other_config flow-restore-wait"
    )]
    RestoreWait,
}

impl Standstill {
    pub(super) fn of(view: &View<'_>) -> Option<Self> {
        let root = view.row(view::ROOT, view.root()?)?;
        let config = root.get("other_config").into_iter();
        let mut config = config.flat_map(Datum::map_strings);
        config
            .any(|pair| pair == ("flow-restore-wait", "true"))
            .then_some(Self::RestoreWait)
    }

    /// Nothing else that fails matters as much.
    pub(super) fn comes_first(self, failures: &mut BTreeMap<Place, StepFailure>, place: Place) {
        let others = failures.remove(&place).into_iter().flat_map(|mut failure| {
            let others = std::mem::take(&mut failure.others);
            std::iter::once(failure).chain(others)
        });
        let failure = StepFailure {
            others: others.collect(),
            ..StepFailure::new(None, self.to_string())
        };
        failures.insert(place, failure);
    }
}

impl Task {
    /// Tells which switches are not as they are said to be, and has the host
    /// look again when that has changed. Of an agent that starts these are the
    /// switches of its ledger, until somebody can say otherwise.
    pub(super) fn tell_of_what_is_in_force(&mut self) {
        let mut all = ConditionsNow::new();
        let intent = match self.loaded {
            true => &self.intent,
            false => &self.ledger,
        };
        for switch in intent.keys() {
            let why = if self.database.is_none() {
                Some(self.no_database())
            } else if let Some(standstill) = &self.standstill {
                Some(standstill.to_string())
            } else if self.bridges.is_away(switch) {
                self.failure(switch, &Part::Bridge)
                    .map(|why| why.to_string())
            } else if !self.forwarded {
                let (bridge, _) = self.config.bridge(switch);
                Some(format!(
                    "bridge {bridge} has not been given its rules since the agent started; is \
                     ovs-vswitchd running?"
                ))
            } else {
                None
            };
            if let Some(why) = why {
                let on = ConditionTarget {
                    switch: Some(switch.clone()),
                    ..ConditionTarget::default()
                };
                all.insert(on, why);
            }
        }
        let away = self.bridges.away().cloned();
        if self.away != away {
            self.away = away;
            self.notices.tell(Notice::Disturbed);
        }
        self.notices.conditions(ConditionKind::NotInForce, all);
    }

    fn no_database(&self) -> String {
        match &self.unreached {
            Some(why) => {
                format!("the database of Open vSwitch is away: {why}; is ovsdb-server running?")
            }
            None => format!(
                "the database of Open vSwitch at {} has not answered yet; is ovsdb-server running?",
                self.config.database.endpoint
            ),
        }
    }

    /// Why some bridge can't be reached, if one can't.
    pub(super) fn away(&self) -> Option<String> {
        let switch = self.bridges.away()?;
        let failure = self.failure(switch, &Part::Bridge)?;
        Some(format!("switch {switch}: {failure}"))
    }

    /// Why a bridge that can't be reached is in the database alone: its switch
    /// has gone through that and has no such datapath.
    pub(super) fn no_bridge(&self, switch: &SwitchName) -> Option<StepFailure> {
        if self.bridges.away() != Some(switch) {
            return None;
        }
        let view = View::new(self.database.as_ref()?.cache());
        let root = view.row(view::ROOT, view.root()?)?;
        let gone_through = root.integer("cur_cfg") >= root.integer("next_cfg");
        let (bridge, _) = self.config.bridge(switch);
        let row = view.row(view::BRIDGE, view.bridge(bridge.as_str())?)?;
        if !gone_through || row.str("datapath_id").is_some() {
            return None;
        }
        let local = view.interface(bridge.as_str());
        let local = local.and_then(|uuid| view.row(view::INTERFACE, uuid));
        let error = local.and_then(|row| row.str("error"));
        let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
        let kind = self.config.kind.column();
        let remedy = match self.config.kind {
            DatapathKind::System => {
                "load the kernel's module openvswitch, or forward in user space with \
                 --ovs-datapath netdev"
            }
            DatapathKind::Netdev => "the log of ovs-vswitchd says why",
        };
        let message = format!(
            "ovs-vswitchd can't make bridge {bridge} with a datapath of type {kind}{error}; {remedy}"
        );
        Some(StepFailure::new(None, message))
    }
}
