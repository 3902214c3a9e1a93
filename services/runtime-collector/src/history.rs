// SPDX-License-Identifier: Apache-2.0
//! What hosts told of ports lately, for whoever wants to know how a port came
//! to be as it is. It decides nothing.

use std::collections::{BTreeMap, VecDeque};

use dvs_ledger::{Ledger, LoadError, Writes};
use dvs_schemas::PortId;
use dvs_schemas::v1::PastEvent;
use serde::{Deserialize, Serialize};

use crate::ledger::HISTORY;

/// Tellings that are kept of one port: a day of a VM that is moved and rebooted
/// a few times.
pub(crate) const PER_PORT: usize = 16;

/// Tellings that are kept in all. One takes some 300 bytes, so that is 40 MB;
/// of 60,000 ports the two newest, and more of those that change.
const IN_ALL: usize = 131_072;

/// What hosts told lately.
#[derive(Debug, Default)]
pub(crate) struct History {
    kept: BTreeMap<PortId, VecDeque<(u64, PastEvent)>>,
    /// Whose telling each number is, the oldest first.
    order: BTreeMap<u64, PortId>,
    next: u64,
}

/// A telling as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    port: PortId,
    event: PastEvent,
}

impl History {
    pub(crate) fn load(ledger: &Ledger) -> Result<Self, LoadError> {
        let mut history = Self::default();
        for (key, Stored { port, event }) in ledger.load::<Stored>(HISTORY)? {
            // What can't be read as a number was not written by this service.
            if let Ok(number) = key.try_into().map(u64::from_be_bytes) {
                history.push(number, port, event);
            }
        }
        Ok(history)
    }

    fn push(&mut self, number: u64, port: PortId, event: PastEvent) {
        self.next = self.next.max(number.saturating_add(1));
        let of_port = self.kept.entry(port.clone()).or_default();
        of_port.push_back((number, event));
        self.order.insert(number, port);
    }

    /// Keeps a telling; the oldest of the port, or of all, goes for it.
    pub(crate) fn note(&mut self, port: &PortId, event: PastEvent, writes: &mut Writes) {
        let number = self.next;
        let stored = Stored {
            port: port.clone(),
            event,
        };
        writes.put(HISTORY, number.to_be_bytes(), &stored);
        self.push(number, stored.port, stored.event);
        let of_port = self.kept.get(port);
        if of_port.is_some_and(|of_port| of_port.len() > PER_PORT) {
            self.drop_oldest_of(port, writes);
        }
        if self.order.len() > IN_ALL
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = oldest.clone();
            self.drop_oldest_of(&oldest, writes);
        }
    }

    fn drop_oldest_of(&mut self, port: &PortId, writes: &mut Writes) {
        let Some(of_port) = self.kept.get_mut(port) else {
            return;
        };
        if let Some((number, _)) = of_port.pop_front() {
            self.order.remove(&number);
            writes.delete(HISTORY, number.to_be_bytes());
        }
        if of_port.is_empty() {
            self.kept.remove(port);
        }
    }

    /// Drops all of a port.
    pub(crate) fn forget(&mut self, port: &PortId, writes: &mut Writes) {
        for (number, _) in self.kept.remove(port).into_iter().flatten() {
            self.order.remove(&number);
            writes.delete(HISTORY, number.to_be_bytes());
        }
    }

    /// What was told of a port, the oldest first.
    pub(crate) fn of(&self, port: &PortId) -> Vec<PastEvent> {
        let of_port = self.kept.get(port).into_iter().flatten();
        of_port.map(|(_, event)| event.clone()).collect()
    }
}
