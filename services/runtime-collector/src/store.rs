// SPDX-License-Identifier: Apache-2.0
//! The records of all ports, which of them a host told last, and when those of
//! ports that are gone end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use dvs_ledger::{Ledger, LoadError, Writes};
use dvs_schemas::v1::{Counters, RuntimeRecord};
use dvs_schemas::{Epoch, HostName, PortId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::PORTS;
use crate::record::{Record, Standing, Told};

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

    /// Takes a port's state in.
    pub(crate) fn tell(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        told: Told<Standing>,
        writes: &mut Writes,
    ) {
        self.change(port, epoch, writes, |record| record.tell(epoch, told));
    }

    /// Takes a port's counters in.
    pub(crate) fn count(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        told: Told<Counters>,
        writes: &mut Writes,
    ) {
        self.change(port, epoch, writes, |record| record.count(epoch, told));
    }

    /// Changes a record, and writes it if that was news.
    fn change(
        &mut self,
        port: &PortId,
        epoch: Epoch,
        writes: &mut Writes,
        change: impl FnOnce(&mut Record) -> bool,
    ) {
        let record = self.records.get(port).cloned();
        let mut record = record.unwrap_or_else(|| Record::new(epoch));
        if !change(&mut record) {
            return;
        }
        self.remove(port);
        let stored = Stored {
            port: port.clone(),
            record,
        };
        writes.put(PORTS, port.as_str(), &stored);
        self.insert(stored.port, stored.record);
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

    /// Ends the records that are due.
    pub(crate) fn end(&mut self, now: Timestamp, writes: &mut Writes) {
        while let Some((end, port)) = self.ends.pop_first() {
            if end > now {
                self.ends.insert((end, port));
                return;
            }
            self.remove(&port);
            writes.delete(PORTS, port.as_str());
        }
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

    /// What is shown of a port.
    pub(crate) fn show(&self, port: &PortId) -> Option<RuntimeRecord> {
        self.records.get(port)?.show(port)
    }

    /// What is shown of all ports after one, by name; only those that a host
    /// told last, if one is given.
    pub(crate) fn shown<'a>(
        &'a self,
        host: Option<&HostName>,
        after: Option<&'a PortId>,
    ) -> Box<dyn Iterator<Item = RuntimeRecord> + 'a> {
        let from = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        match host {
            None => Box::new(
                self.records
                    .range::<PortId, _>(from)
                    .filter_map(|(port, record)| record.show(port)),
            ),
            Some(host) => Box::new(
                self.by_host
                    .get(host)
                    .into_iter()
                    .flat_map(move |ports| ports.range::<PortId, _>(from))
                    .filter_map(|port| self.show(port)),
            ),
        }
    }
}
