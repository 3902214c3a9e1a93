// SPDX-License-Identifier: Apache-2.0
//! What is known of one port, and which of two tellings is the newer one. The
//! same tellings in any order, repeated or not, end in the same record.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::{Counters, PortRuntime, RuntimeRecord};
use dvs_schemas::{Epoch, HostName, PortId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// Placements whose counters are kept apart, so that a late report lands in its
/// own. A host repeats its report until it is acknowledged, so one is only
/// later than that if the port moved 16 times while its host was away.
pub(crate) const APART: usize = 16;

/// Who told something, and when in that host's own order. Clocks of hosts are
/// shown to people and decide nothing between tellings of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) host: HostName,
    /// The agent's session.
    pub(crate) session: SessionId,
    /// Number of the event within the session. What was read from the host has
    /// that of the newest event before the reading.
    pub(crate) seq: u64,
    /// When the host saw it.
    pub(crate) at: Timestamp,
    /// When it came here; decides nothing but how long a record is kept, and
    /// whether it counts as stale.
    /// Ledgers from before this field have none, so that is long ago.
    #[serde(default)]
    pub(crate) heard: Timestamp,
}

impl Stamp {
    /// Of two tellings of one epoch. An epoch has one host, which is the one
    /// that told of it first; nobody else's word counts.
    fn supersedes(&self, other: &Self) -> bool {
        self.host == other.host && (self.session, self.seq) > (other.session, other.seq)
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
    /// Of the newest placements that were counted, [`APART`] at most.
    counters: BTreeMap<Epoch, Told<Counters>>,
    /// Of those before, if there were more.
    #[serde(default)]
    closed: Option<Closed>,
}

/// Placements whose reports are no longer taken: which part of one is in the
/// sum already is not known any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// The newest of them.
    upto: Epoch,
    /// Their sum.
    counters: Counters,
}

impl Record {
    /// A record of nothing but the placement.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            standing: None,
            counters: BTreeMap::new(),
            closed: None,
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
        if self
            .closed
            .as_ref()
            .is_some_and(|closed| epoch <= closed.upto)
        {
            return false;
        }
        let newest = match self.counters.get(&epoch) {
            None => told,
            Some(known) if known.by.host != told.by.host => return false,
            Some(known) => {
                let by = if told.by.supersedes(&known.by) {
                    told.by
                } else {
                    known.by.clone()
                };
                let merged = Told {
                    by,
                    value: known.value.most(&told.value),
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
        self.close();
        true
    }

    /// Adds up the oldest placements that are one too many to keep apart. The
    /// newest is never among them.
    fn close(&mut self) {
        while self.counters.len() > APART
            && let Some((upto, told)) = self.counters.pop_first()
        {
            let before = self.closed.take().map(|closed| closed.counters);
            let counters = sum([before.unwrap_or_default(), told.value]);
            self.closed = Some(Closed { upto, counters });
        }
    }

    /// Counters over all placements: each report is in it once, by its
    /// placement, and a placement's counters only grow.
    pub(crate) fn total(&self) -> Option<Counters> {
        let closed = self.closed.iter().map(|closed| closed.counters);
        let apart = self.counters.values().map(|told| told.value);
        let mut all = closed.chain(apart).peekable();
        all.peek().is_some().then(|| sum(all))
    }

    /// The same, had this been told of a placement; nothing is stored.
    pub(crate) fn total_with(&self, epoch: Epoch, counters: Counters) -> Counters {
        let closed = self.closed.as_ref();
        let late = closed.is_some_and(|closed| epoch <= closed.upto);
        let others = self.counters.iter().filter(|(of, _)| **of != epoch);
        let others = others.map(|(_, told)| told.value);
        let known = self.counted(epoch).unwrap_or_default();
        let this = (!late).then(|| known.most(&counters));
        sum(closed
            .map(|closed| closed.counters)
            .into_iter()
            .chain(others)
            .chain(this))
    }

    /// Who told how the port stands.
    pub(crate) fn standing_by(&self) -> Option<&Stamp> {
        self.standing.as_ref().map(|told| &told.by)
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

    /// Whether that is known already.
    pub(crate) fn knows(&self, epoch: Epoch, standing: &Standing) -> bool {
        let known = self.standing.as_ref().map(|told| &told.value);
        epoch == self.epoch && known == Some(standing)
    }

    /// The counters of a placement that is kept apart.
    pub(crate) fn counted(&self, epoch: Epoch) -> Option<Counters> {
        self.counters.get(&epoch).map(|told| told.value)
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

    /// Whether it was told that the virtual port is no more.
    pub(crate) fn is_gone(&self) -> bool {
        let standing = self.standing.as_ref().map(|told| &told.value);
        standing == Some(&Standing::Gone)
    }

    /// When the record ends, if nothing more is heard: `keep` after the virtual
    /// port has gone. Not while it is there, however long that is.
    pub(crate) fn end(&self, keep: Duration) -> Option<Timestamp> {
        match self.here() {
            Some(_) => None,
            None => self.told_by().map(|by| by.heard.after(keep)),
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
            changed: self.standing.as_ref().map(|told| told.by.at),
            counters: counters.map(|told| told.value),
            settled: counters.map(|told| told.by.at),
            total: self.total(),
        })
    }
}

/// The counters added up. They stay at the highest number instead of wrapping.
fn sum(all: impl IntoIterator<Item = Counters>) -> Counters {
    let nothing = Counters::default();
    all.into_iter().fold(nothing, |sum, more| sum.plus(&more))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::{Format, codec};
    use proptest::prelude::*;

    /// A report of a placement; larger ones are later.
    fn report(record: &mut Record, epoch: u64, packets: u64) -> u64 {
        let told = Told {
            by: Stamp {
                host: format!("h{epoch}").parse().unwrap(),
                session: SessionId(1),
                seq: packets,
                at: Timestamp(packets),
                heard: Timestamp(packets),
            },
            value: Counters {
                ingress_packets: packets,
                ..Counters::default()
            },
        };
        record.count(Epoch(epoch), told);
        // As after a restart.
        let kept = codec::encode(Format::MessagePack, record).unwrap();
        *record = codec::decode(&kept).unwrap().1;
        total(record)
    }

    fn total(record: &Record) -> u64 {
        record.total().unwrap().ingress_packets
    }

    fn reports(epochs: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((1..=epochs, 0..1_000_u64), 1..50)
    }

    /// Each placement's newest report, once.
    fn true_total(reports: &[(u64, u64)]) -> u64 {
        let mut newest = BTreeMap::new();
        for (epoch, packets) in reports {
            let of = newest.entry(*epoch).or_insert(0);
            *of = u64::max(*of, *packets);
        }
        newest.values().sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_late_report_lands_in_its_own_placement_and_once(reports in reports(APART as u64)) {
            let mut record = Record::new(Epoch(1));
            for (nth, (epoch, packets)) in reports.iter().enumerate() {
                let total = report(&mut record, *epoch, *packets);
                prop_assert_eq!(total, true_total(&reports[..=nth]));
                prop_assert_eq!(report(&mut record, *epoch, *packets), total);
            }
        }

        #[test]
        fn a_total_never_goes_down_and_counts_nothing_twice_however_late_a_report_is(
            reports in reports(5 * APART as u64),
        ) {
            let mut record = Record::new(Epoch(1));
            let mut before = 0;
            for (nth, (epoch, packets)) in reports.iter().enumerate() {
                let total = report(&mut record, *epoch, *packets);
                prop_assert!((before..=true_total(&reports[..=nth])).contains(&total));
                before = total;
            }
        }
    }

    #[test]
    fn a_port_that_moves_on_and_on_keeps_its_total_and_its_record_stays_small() {
        let mut record = Record::new(Epoch(1));
        for epoch in 1..=100 {
            report(&mut record, epoch, 1);
            // The one before tells its last.
            let total = if epoch > 1 {
                report(&mut record, epoch - 1, 10)
            } else {
                total(&record)
            };
            assert_eq!(total, 10 * (epoch - 1) + 1);
            assert!(record.counters.len() <= APART);
        }
    }
}
