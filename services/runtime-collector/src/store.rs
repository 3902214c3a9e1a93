// SPDX-License-Identifier: Apache-2.0
//! The records of all ports, which of them a host told last, and when those of
//! ports that are gone end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use dvs_ledger::{Ledger, LoadError, Writes};
use dvs_schemas::v1::{Counters, CountersOf, RuntimeRecord};
use dvs_schemas::{Epoch, HostName, PortId, SwitchName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::PORTS;
use crate::record::{Record, Stamp, Standing, Told};

/// The records of all ports.
#[derive(Debug)]
pub(crate) struct Store {
    /// How long the record of a port that is gone is kept.
    keep_gone: Duration,
    records: BTreeMap<PortId, Record>,
    /// Ports by the host that told last of them.
    by_host: BTreeMap<HostName, BTreeSet<PortId>>,
    /// Ports that are gone, by the end of their records.
    ends: BTreeSet<(Timestamp, PortId)>,
}

/// A record as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    port: PortId,
    record: Record,
}

impl Store {
    pub(crate) fn load(ledger: &Ledger, keep_gone: Duration) -> Result<Self, LoadError> {
        let mut store = Self {
            keep_gone,
            records: BTreeMap::new(),
            by_host: BTreeMap::new(),
            ends: BTreeSet::new(),
        };
        for (_, Stored { port, record }) in ledger.load::<Stored>(PORTS)? {
            store.insert(port, record);
        }
        Ok(store)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes a port's state in; true if it is another than was known.
    pub(crate) fn tell(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        told: Told<Standing>,
        writes: &mut Writes,
    ) -> bool {
        let known = self.records.get(port);
        let again = known.is_some_and(|record| record.knows(epoch, &told.value));
        self.change(port, epoch, writes, |record| record.tell(epoch, told)) && !again
    }

    /// Takes a port's counters in; true if they are others than were known.
    pub(crate) fn count(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        told: Told<Counters>,
        writes: &mut Writes,
    ) -> bool {
        let counted = |store: &Self| store.records.get(port)?.counted(epoch);
        let before = counted(self);
        self.change(port, epoch, writes, |record| record.count(epoch, told))
            && counted(self) != before
    }

    /// Changes a record, and writes it if that was news; true if it was.
    fn change(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        writes: &mut Writes,
        change: impl FnOnce(&mut Record) -> bool,
    ) -> bool {
        let record = self.records.get(port).cloned();
        let mut record = record.unwrap_or_else(|| Record::new(epoch));
        if !change(&mut record) {
            return false;
        }
        self.remove(port);
        let stored = Stored {
            port: port.clone(),
            record,
        };
        writes.put(PORTS, port.as_str(), &stored);
        self.insert(stored.port, stored.record);
        true
    }

    fn insert(&mut self, port: PortId, record: Record) {
        if let Some(by) = record.told_by() {
            let ports = self.by_host.entry(by.host.clone()).or_default();
            ports.insert(port.clone());
        }
        let end = record.end(self.keep_gone);
        self.ends.extend(end.map(|end| (end, port.clone())));
        self.records.insert(port, record);
    }

    fn remove(&mut self, port: &PortId) {
        let Some(record) = self.records.remove(port) else {
            return;
        };
        if let Some(by) = record.told_by()
            && let Some(ports) = self.by_host.get_mut(&by.host)
        {
            ports.remove(port);
            if ports.is_empty() {
                self.by_host.remove(&by.host);
            }
        }
        if let Some(end) = record.end(self.keep_gone) {
            self.ends.remove(&(end, port.clone()));
        }
    }

    /// When the next record ends.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Ends the records that are due; says which.
    pub(crate) fn end(&mut self, now: Timestamp, writes: &mut Writes) -> Vec<PortId> {
        let mut ended = Vec::new();
        while let Some((end, port)) = self.ends.pop_first() {
            if end > now {
                self.ends.insert((end, port));
                break;
            }
            self.remove(&port);
            writes.delete(PORTS, port.as_str());
            ended.push(port);
        }
        ended
    }

    /// All records, by port.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The virtual ports that are on a host, with their placements.
    pub(crate) fn here(&self, host: &HostName) -> Vec<(PortId, Epoch)> {
        let ports = self.by_host.get(host).into_iter().flatten();
        ports
            .filter_map(|port| {
                let record = self.records.get(port)?;
                record.here()?;
                Some((port.clone(), record.epoch()))
            })
            .collect()
    }

    /// The ports that a host told last of, with the newest placement of each and
    /// its last word.
    pub(crate) fn told_by(&self, host: &HostName) -> Vec<(PortId, Epoch, Stamp)> {
        let ports = self.by_host.get(host).into_iter().flatten();
        ports
            .filter_map(|port| {
                let record = self.records.get(port)?;
                Some((port.clone(), record.epoch(), record.told_by()?.clone()))
            })
            .collect()
    }

    /// Whether it was told that the virtual port is no more.
    pub(crate) fn is_gone(&self, port: &PortId) -> bool {
        self.records.get(port).is_some_and(Record::is_gone)
    }

    /// Counters over all placements, had these been told; nothing is stored.
    pub(crate) fn total_with(&self, of: &CountersOf) -> CountersOf {
        let CountersOf {
            port,
            epoch,
            counters,
        } = of;
        let record = self.records.get(port);
        let total = record.map_or(*counters, |record| record.total_with(*epoch, *counters));
        CountersOf {
            port: port.clone(),
            epoch: *epoch,
            counters: total,
        }
    }

    /// The newest placement of a port that was told of.
    pub(crate) fn epoch_of(&self, port: &PortId) -> Option<Epoch> {
        self.records.get(port).map(Record::epoch)
    }

    /// The virtual port that was told of last, if it is there: on which host,
    /// of which switch and placement.
    pub(crate) fn standing(&self, port: &PortId) -> Option<(HostName, SwitchName, Epoch)> {
        let record = self.records.get(port)?;
        let state = record.here()?;
        let host = record.standing_by()?.host.clone();
        Some((host, state.switch.clone(), state.epoch))
    }

    /// What is shown of a port.
    pub(crate) fn show(&self, port: &PortId) -> Option<RuntimeRecord> {
        self.records.get(port)?.show(port)
    }

    /// What is known of all ports after one, by name; only of those that a host
    /// told last, if one is given.
    pub(crate) fn known<'a>(
        &'a self,
        host: Option<&HostName>,
        after: Option<&'a PortId>,
    ) -> Box<dyn Iterator<Item = (&'a PortId, &'a Record)> + 'a> {
        let from = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        match host {
            None => Box::new(self.records.range::<PortId, _>(from)),
            Some(host) => Box::new(
                self.by_host
                    .get(host)
                    .into_iter()
                    .flat_map(move |ports| ports.range::<PortId, _>(from))
                    .filter_map(|port| self.records.get_key_value(port)),
            ),
        }
    }
}
