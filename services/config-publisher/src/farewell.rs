// SPDX-License-Identifier: Apache-2.0
//! Telling the collector which hosts were forgotten: nobody else would end what
//! they told of their ports. One request is under way at a time and is repeated
//! until it is acknowledged; of a host only the newest commit matters.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{Forgotten, RuntimeForgetRequest, V1};
use dvs_schemas::{HostName, Revision, StoreId, Timestamp};
use fastrand::Rng;

use crate::handover::ENTRY;
use crate::record::PushId;
use crate::tries::Tries;

/// What the name of a host has at most, in bytes.
const NAME: usize = 63;

/// A host that the collector is to forget.
#[derive(Debug, Clone, Default)]
struct Gone {
    /// The newest commit that forgot it.
    revision: Revision,
    /// Records that wait for it.
    records: BTreeSet<PushId>,
}

/// Tells the collector.
#[derive(Debug, Clone)]
pub struct Farewell {
    gone: BTreeMap<HostName, Gone>,
    /// What is under way, or was last.
    told: Vec<Forgotten>,
    tries: Tries,
    next_number: u64,
}

impl Farewell {
    /// Has nothing to tell yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            gone: BTreeMap::new(),
            told: Vec::new(),
            tries: Tries::not_before(Timestamp::default()),
            next_number: 0,
        }
    }

    /// Takes the hosts that a push which is over forgot, and its records, which
    /// wait for it.
    pub fn take(&mut self, records: &BTreeSet<PushId>, forgotten: &BTreeMap<HostName, Revision>) {
        for (host, revision) in forgotten {
            let gone = self.gone.entry(host.clone()).or_default();
            gone.revision = gone.revision.max(*revision);
            gone.records.extend(records);
        }
    }

    /// Whether a record waits for the collector.
    #[must_use]
    pub fn holds(&self, record: PushId) -> bool {
        let mut gone = self.gone.values();
        gone.any(|gone| gone.records.contains(&record))
    }

    /// The request to make now, if any.
    pub fn next(
        &mut self,
        now: Timestamp,
        store: StoreId,
        max_payload: usize,
    ) -> Option<(u64, RuntimeForgetRequest)> {
        let number = self.next_number;
        if self.gone.is_empty() || !self.tries.begin(number, now) {
            return None;
        }
        self.next_number += 1;
        let room = max_payload / 4 * 3;
        let some = self.gone.iter().take((room / (ENTRY + NAME)).max(1));
        let told = some.map(|(host, gone)| Forgotten {
            host: host.clone(),
            revision: gone.revision,
        });
        self.told = told.collect();
        let hosts = self.told.clone();
        let request = RuntimeForgetRequest {
            v: V1,
            store,
            hosts,
        };
        Some((number, request))
    }

    /// Takes the collector's acknowledgement; returns the records that don't
    /// wait for it any more.
    pub fn acknowledged(&mut self, number: u64, now: Timestamp) -> BTreeSet<PushId> {
        if !self.tries.is_under_way(number) {
            return BTreeSet::new();
        }
        self.tries = Tries::not_before(now);
        let mut done = BTreeSet::new();
        for Forgotten { host, revision } in std::mem::take(&mut self.told) {
            // It may have come back and been forgotten again meanwhile.
            let same = |gone: &Gone| gone.revision == revision;
            if self.gone.get(&host).is_some_and(same)
                && let Some(gone) = self.gone.remove(&host)
            {
                done.extend(gone.records);
            }
        }
        done.retain(|record| !self.holds(*record));
        done
    }

    /// Notes that the collector did not acknowledge.
    pub fn failed(&mut self, number: u64, now: Timestamp, rng: &mut Rng) {
        self.tries.failed(number, now, rng);
    }

    /// The bus is back, and the collector may be: no need to wait any longer.
    pub fn hurry(&mut self, now: Timestamp) {
        self.tries.hurry(now);
    }

    /// When [`Self::next`] has something, if that is known.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.gone.is_empty() {
            return None;
        }
        self.tries.due()
    }
}

impl Default for Farewell {
    fn default() -> Self {
        Self::new()
    }
}
