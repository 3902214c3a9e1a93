// SPDX-License-Identifier: Apache-2.0
//! What placements have come to, as far as anybody was told. It is in the
//! ledger: after a start the datapath goes on from there, and what a placement
//! came to that is over is told until the collector has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use dvs_ledger::Writes;
use dvs_schemas::v1::{Counters, CountersOf};
use dvs_schemas::{Epoch, HostName, PortId, SwitchName};

use crate::ledger;

/// Of one host: its ports, and placements of which the collector doesn't have
/// the last word yet.
#[derive(Debug, Default)]
pub(super) struct Counting {
    kept: BTreeMap<(PortId, Epoch), (SwitchName, Counters)>,
    /// What the collector was told of them last, in this run.
    settled: BTreeMap<(PortId, Epoch), Counters>,
    /// What the ledger has otherwise.
    unwritten: BTreeSet<(PortId, Epoch)>,
}

impl Counting {
    /// As the ledger has it.
    pub(super) fn load(kept: Vec<(SwitchName, CountersOf)>) -> Self {
        let kept = kept.into_iter().map(|(switch, of)| {
            let CountersOf {
                port,
                epoch,
                counters,
            } = of;
            ((port, epoch), (switch, counters))
        });
        Self {
            kept: kept.collect(),
            settled: BTreeMap::new(),
            unwritten: BTreeSet::new(),
        }
    }

    /// All of it.
    pub(super) fn known(&self) -> Vec<(SwitchName, CountersOf)> {
        let kept = self.kept.iter();
        kept.map(|(key, (switch, counters))| (switch.clone(), of(key, *counters)))
            .collect()
    }

    /// Somebody is told this. What never counted needs no keeping.
    pub(super) fn told(&mut self, switch: &SwitchName, told: &CountersOf) {
        let CountersOf {
            port,
            epoch,
            counters,
        } = told;
        let key = (port.clone(), *epoch);
        let known = self.kept.get(&key).map(|(_, counters)| *counters);
        if known.unwrap_or_default() == *counters {
            return;
        }
        self.kept.insert(key.clone(), (switch.clone(), *counters));
        self.unwritten.insert(key);
    }

    /// What a placement had come to when somebody was told last.
    pub(super) fn newest(&self, port: &PortId, epoch: Epoch) -> Counters {
        let known = self.kept.get(&(port.clone(), epoch));
        known.map(|(_, counters)| *counters).unwrap_or_default()
    }

    /// The collector is told this.
    pub(super) fn settled(&mut self, told: &CountersOf) {
        let key = (told.port.clone(), told.epoch);
        self.settled.insert(key, told.counters);
    }

    /// Whether the collector was told just that last.
    pub(super) fn has_settled(&self, of: &CountersOf) -> bool {
        let key = (of.port.clone(), of.epoch);
        self.settled.get(&key) == Some(&of.counters)
    }

    /// Forgets what the collector was told of placements of a port, or of all,
    /// that are over and never counted: of them it gets no last word.
    pub(super) fn forget(
        &mut self,
        port: Option<&PortId>,
        is_there: impl Fn(&PortId, Epoch) -> bool,
    ) {
        let told = self.settled.range(all_of(port)).map(|(key, _)| key);
        let is_over =
            |key: &&(PortId, Epoch)| !self.kept.contains_key(*key) && !is_there(&key.0, key.1);
        let over: Vec<(PortId, Epoch)> = told.filter(is_over).cloned().collect();
        for key in over {
            self.settled.remove(&key);
        }
    }

    /// The collector has the last word of a placement.
    pub(super) fn end(&mut self, port: &PortId, epoch: Epoch) {
        let key = (port.clone(), epoch);
        self.settled.remove(&key);
        if self.kept.remove(&key).is_some() {
            self.unwritten.insert(key);
        }
    }

    /// Of placements of one port, or of all.
    pub(super) fn of(&self, port: Option<&PortId>) -> Vec<CountersOf> {
        let kept = self.kept.range(all_of(port));
        kept.map(|(key, (_, counters))| of(key, *counters))
            .collect()
    }

    /// Writes what the ledger has otherwise.
    pub(super) fn write(&mut self, host: &HostName, writes: &mut Writes) {
        for key in std::mem::take(&mut self.unwritten) {
            let kept = self.kept.get(&key);
            let kept = kept.map(|(switch, counters)| (switch.clone(), of(&key, *counters)));
            ledger::write_counters(host, &key.0, key.1, kept.as_ref(), writes);
        }
    }
}

/// The placements of one port, or all.
fn all_of(port: Option<&PortId>) -> impl RangeBounds<(PortId, Epoch)> {
    match port {
        Some(port) => (
            Bound::Included((port.clone(), Epoch(u64::MIN))),
            Bound::Included((port.clone(), Epoch(u64::MAX))),
        ),
        None => (Bound::Unbounded, Bound::Unbounded),
    }
}

fn of((port, epoch): &(PortId, Epoch), counters: Counters) -> CountersOf {
    CountersOf {
        port: port.clone(),
        epoch: *epoch,
        counters,
    }
}
