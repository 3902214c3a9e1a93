// SPDX-License-Identifier: Apache-2.0
//! The records of all ports, and which of them a host told last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dvs_ledger::{Ledger, LoadError, Writes};
use dvs_schemas::v1::{Counters, RuntimeRecord};
use dvs_schemas::{Epoch, HostName, PortId};
use serde::{Deserialize, Serialize};

use crate::ledger::PORTS;
use crate::record::{Record, Standing, Told};

/// The records of all ports.
#[derive(Debug, Default)]
pub(crate) struct Store {
    records: BTreeMap<PortId, Record>,
    /// Ports by the host that told last of them.
    by_host: BTreeMap<HostName, BTreeSet<PortId>>,
}

/// A record as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    port: PortId,
    record: Record,
}

impl Store {
    pub(crate) fn load(ledger: &Ledger) -> Result<Self, LoadError> {
        let mut store = Self::default();
        for (_, Stored { port, record }) in ledger.load::<Stored>(PORTS)? {
            store.index(&port, None, &record);
            store.records.insert(port, record);
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
        let record = self.records.get(port);
        let before = record.and_then(|record| Some(record.told_by()?.host.clone()));
        let mut record = record.cloned().unwrap_or_else(|| Record::new(epoch));
        if !change(&mut record) {
            return;
        }
        self.index(port, before.as_ref(), &record);
        let stored = Stored {
            port: port.clone(),
            record,
        };
        writes.put(PORTS, port.as_str(), &stored);
        self.records.insert(stored.port, stored.record);
    }

    fn index(&mut self, port: &PortId, before: Option<&HostName>, record: &Record) {
        let now = record.told_by().map(|by| &by.host);
        if before == now {
            return;
        }
        if let Some(host) = before
            && let Some(ports) = self.by_host.get_mut(host)
        {
            ports.remove(port);
            if ports.is_empty() {
                self.by_host.remove(host);
            }
        }
        if let Some(host) = now {
            let ports = self.by_host.entry(host.clone()).or_default();
            ports.insert(port.clone());
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
