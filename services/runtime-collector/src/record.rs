// SPDX-License-Identifier: Apache-2.0
//! What is known of one port, and which of two tellings is the newer one. The
//! same tellings in any order, repeated or not, end in the same record.

use std::collections::BTreeMap;

use dvs_schemas::v1::{Counters, PortRuntime, RuntimeRecord};
use dvs_schemas::{Epoch, HostName, PortId, Timestamp};
use serde::{Deserialize, Serialize};

/// Who told something, and when in that host's own order. Clocks of hosts are
/// shown to people and decide nothing between tellings of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) host: HostName,
    /// Number of the agent's run, as the collector counts them.
    pub(crate) run: u64,
    /// Number of the event within the run. What was read from the host has
    /// that of the newest event before the reading.
    pub(crate) seq: u64,
    /// When the host saw it.
    pub(crate) at: Timestamp,
}

impl Stamp {
    fn supersedes(&self, other: &Self) -> bool {
        if self.host == other.host {
            (self.run, self.seq) > (other.run, other.seq)
        } else {
            // Two owners of one epoch should not be; any fixed order will do.
            (self.at, &self.host) > (other.at, &other.host)
        }
    }
}

/// A value and who told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told<T> {
    pub(crate) by: Stamp,
    pub(crate) value: T,
}

/// Whether the virtual port is there, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    Here(PortRuntime),
    Gone,
}

/// What is known of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The newest placement that was told of; what is older never shows.
    epoch: Epoch,
    /// How the port stands in it; none while only counters were told.
    standing: Option<Told<Standing>>,
    /// Of every placement, as a late report of an old host belongs to its own.
    counters: BTreeMap<Epoch, Told<Counters>>,
}

impl Record {
    /// A record of nothing but the placement.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            standing: None,
            counters: BTreeMap::new(),
        }
    }

    /// Takes a state in; true if it is news.
    pub(crate) fn tell(&mut self, epoch: Epoch, told: Told<Standing>) -> bool {
        let newer = match &self.standing {
            _ if epoch != self.epoch => epoch > self.epoch,
            Some(known) => told.by.supersedes(&known.by),
            None => true,
        };
        if newer {
            self.epoch = epoch;
            self.standing = Some(told);
        }
        newer
    }

    /// Takes counters in; true if they are news. Within a placement they only
    /// grow, so of each the largest is kept, whoever tells it again and when.
    pub(crate) fn count(&mut self, epoch: Epoch, told: Told<Counters>) -> bool {
        let newest = match self.counters.get(&epoch) {
            None => told,
            Some(known) => {
                let by = if told.by.supersedes(&known.by) {
                    told.by
                } else {
                    known.by.clone()
                };
                let merged = Told {
                    by,
                    value: largest(known.value, told.value),
                };
                if merged == *known {
                    return false;
                }
                merged
            }
        };
        self.counters.insert(epoch, newest);
        if epoch > self.epoch {
            self.epoch = epoch;
            self.standing = None;
        }
        true
    }

    /// Who told last of the newest placement.
    pub(crate) fn told_by(&self) -> Option<&Stamp> {
        let standing = self.standing.as_ref().map(|told| &told.by);
        let counters = self.counters.get(&self.epoch).map(|told| &told.by);
        match (standing, counters) {
            (Some(a), Some(b)) if b.supersedes(a) => Some(b),
            (Some(a), _) => Some(a),
            (None, b) => b,
        }
    }

    /// The newest placement.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The virtual port, if it is there.
    pub(crate) fn here(&self) -> Option<&PortRuntime> {
        match &self.standing.as_ref()?.value {
            Standing::Here(state) => Some(state),
            Standing::Gone => None,
        }
    }

    /// The record as it is shown; none if nothing was told yet.
    pub(crate) fn show(&self, port: &PortId) -> Option<RuntimeRecord> {
        let by = self.told_by()?;
        let counters = self.counters.get(&self.epoch);
        Some(RuntimeRecord {
            port: port.clone(),
            host: by.host.clone(),
            updated: by.at,
            state: self.here().cloned(),
            counters: counters.map(|told| told.value),
            settled: counters.map(|told| told.by.at),
        })
    }
}

/// Of each counter the larger one.
fn largest(a: Counters, b: Counters) -> Counters {
    Counters {
        ingress_packets: a.ingress_packets.max(b.ingress_packets),
        ingress_bytes: a.ingress_bytes.max(b.ingress_bytes),
        ingress_drops: a.ingress_drops.max(b.ingress_drops),
        ingress_errors: a.ingress_errors.max(b.ingress_errors),
        egress_packets: a.egress_packets.max(b.egress_packets),
        egress_bytes: a.egress_bytes.max(b.egress_bytes),
        egress_drops: a.egress_drops.max(b.egress_drops),
        egress_errors: a.egress_errors.max(b.egress_errors),
    }
}
