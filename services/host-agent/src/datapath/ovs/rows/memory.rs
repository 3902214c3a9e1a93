// SPDX-License-Identifier: Apache-2.0
//! What is known of rows beside what their marks say, for as long as the agent
//! runs: whose they are, and what was there before. Somebody may change a mark;
//! what it said is not lost with it, and it is written again.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ovsdb::Row;
use dvs_schemas::{PortId, SwitchName};
use uuid::Uuid;

use super::ours;
use super::replaced::Replaced;
use crate::datapath::ovs::config::{Origin, OvsConfig};
use crate::datapath::ovs::intent::Intent;
use crate::datapath::ovs::marks::{self, Before};
use crate::datapath::ovs::view::{BRIDGE, MIRROR, PORT, View};
use crate::datapath::ovs::wiring::Plugs;

/// What is known of rows that are ours, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::datapath::ovs) struct Memory {
    /// Bridges of switches.
    pub(in crate::datapath::ovs) bridges: BTreeMap<Uuid, Owned>,
    /// Bridges that had no mark when the agent started, and the name of one
    /// that its ledger says. They may have been the switch's.
    pub(in crate::datapath::ovs) doubtful: BTreeSet<Uuid>,
    /// Rows of ports.
    pub(in crate::datapath::ovs) ports: BTreeMap<Uuid, Wired>,
    /// Rows of mirror sessions.
    pub(in crate::datapath::ovs) mirrors: BTreeSet<Uuid>,
}

/// A bridge of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath::ovs) struct Owned {
    pub(in crate::datapath::ovs) switch: SwitchName,
    pub(in crate::datapath::ovs) before: Before,
}

/// The row of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath::ovs) struct Wired {
    pub(super) port: PortId,
    /// What its policy stands in for.
    pub(super) replaced: Replaced,
}

/// What a plan makes of rows of ports: those that are no more ours have none.
pub(in crate::datapath::ovs) type Rewired = BTreeMap<Uuid, Option<Wired>>;

impl Wired {
    /// The row of a port that is ours again, with what it remembers.
    pub(in crate::datapath::ovs) fn again(port: PortId, row: &Row) -> Self {
        let replaced = Replaced::of(row);
        Self { port, replaced }
    }
}

impl Memory {
    /// The switch that a bridge belongs to.
    pub(in crate::datapath::ovs) fn switch_of(
        &self,
        bridge: Uuid,
        row: &Row,
    ) -> Option<SwitchName> {
        let known = self.bridges.get(&bridge).map(|owned| owned.switch.clone());
        known.or_else(|| marks::switch_of(&ours(row, "external_ids")))
    }

    /// A bridge, if it belongs to a switch. What nobody knows of it, somebody
    /// may say by its marks.
    pub(in crate::datapath::ovs) fn bridge(
        &self,
        config: &OvsConfig,
        bridge: Uuid,
        row: &Row,
    ) -> Option<Owned> {
        let switch = self.switch_of(bridge, row)?;
        let known = self.bridges.get(&bridge).map(|owned| owned.before);
        let before = match known {
            Some(before @ (Before::Nothing | Before::Taken(_))) => before,
            Some(Before::Unknown) | None => before(config, &switch, row),
        };
        Some(Owned { switch, before })
    }

    /// True if the row of a mirror is a session's.
    pub(super) fn has_mirror(&self, mirror: Uuid, row: &Row) -> bool {
        self.mirrors.contains(&mirror) || !ours(row, "external_ids").is_empty()
    }

    /// What others said in columns of a port's row that its policy stands in
    /// for.
    pub(super) fn replaced(&self, port: Uuid, row: &Row) -> Replaced {
        let said = Replaced::of(row);
        match self.ports.get(&port) {
            Some(wired) => said.or(&wired.replaced),
            None => said,
        }
    }

    /// Takes in which rows are ours now; bridges that `goes` is true of are
    /// those of switches that are to go.
    pub(in crate::datapath::ovs) fn look(
        &mut self,
        (config, intent, plugs): (&OvsConfig, &Intent, &Plugs),
        view: &View<'_>,
        goes: impl Fn(&SwitchName) -> bool,
    ) {
        let bridges = view.table(BRIDGE).iter();
        let bridges = bridges.filter_map(|(uuid, row)| {
            let owned = self.bridge(config, *uuid, row)?;
            let counts = goes(&owned.switch) || intent.contains_key(&owned.switch);
            counts.then_some((*uuid, owned))
        });
        self.bridges = bridges.collect();
        let mirrors = view.table(MIRROR).iter();
        let mirrors = mirrors.filter(|(uuid, row)| self.has_mirror(**uuid, row));
        self.mirrors = mirrors.map(|(uuid, _)| *uuid).collect();
        // Rows of ports that are plugged no more are ours until that is written.
        self.ports.retain(|uuid, _| view.row(PORT, *uuid).is_some());
        for (switch, plugs) in plugs {
            let wish = intent.get(switch);
            for (port, plug) in plugs {
                let Some(row) = view.row(PORT, plug.port) else {
                    continue;
                };
                let known = self.ports.contains_key(&plug.port);
                let is_ours = known || !ours(row, "external_ids").is_empty();
                if is_ours && wish.is_some_and(|wish| wish.ports.contains_key(port)) {
                    let wired = Wired {
                        port: port.clone(),
                        replaced: self.replaced(plug.port, row),
                    };
                    self.ports.insert(plug.port, wired);
                }
            }
        }
    }

    /// Takes in what was written.
    pub(in crate::datapath::ovs) fn wrote(&mut self, ports: Rewired) {
        for (uuid, wired) in ports {
            match wired {
                Some(wired) => drop(self.ports.insert(uuid, wired)),
                None => drop(self.ports.remove(&uuid)),
            }
        }
    }
}

/// What a bridge was before it was a switch's, as far as it says so. Of one that
/// nobody named the agent takes none that others made.
pub(in crate::datapath::ovs) fn before(
    config: &OvsConfig,
    switch: &SwitchName,
    row: &Row,
) -> Before {
    let said = marks::before(&ours(row, "external_ids"), switch);
    match (said, config.bridge(switch)) {
        (Before::Unknown, (name, Origin::Ours)) if row.str("name") == Some(name.as_str()) => {
            Before::Nothing
        }
        (said, (_, Origin::Given | Origin::Ours)) => said,
    }
}
