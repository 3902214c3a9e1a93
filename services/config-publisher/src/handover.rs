// SPDX-License-Identifier: Apache-2.0
//! Handing over to retry what hosts did not acknowledge. One request is under
//! way at a time and is repeated until it is acknowledged; what comes meanwhile
//! is merged by host and switch, so that of a retry service that is away for long
//! a change costs the number of its record and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dvs_schemas::v1::{Attempt, Forgotten, RepushKey, RetryPut, RipKey, Settlement, V1};
use dvs_schemas::{HostName, Revision, StoreId, Timestamp};
use fastrand::Rng;

use crate::pushes::Push;
use crate::record::PushId;
use crate::tries::Tries;

/// What the fields of one entry take beside their texts, in bytes.
pub(crate) const ENTRY: usize = 80;

/// Why something has to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missed {
    revision: Revision,
    error: String,
}

/// What is to be handed over, and the records that wait for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Load {
    repush: BTreeMap<RepushKey, Missed>,
    rip: BTreeMap<RipKey, Missed>,
    settled: BTreeMap<RepushKey, Revision>,
    forgotten: BTreeMap<HostName, Revision>,
    records: Vec<PushId>,
}

/// A load on its way.
#[derive(Debug, Clone)]
struct Sending {
    /// What is not acknowledged yet; the first is under way or about to be.
    puts: VecDeque<RetryPut>,
    /// Hosts and switches of which it brings no failures, and the full states
    /// that they have applied.
    settled: BTreeMap<RepushKey, Revision>,
    records: Vec<PushId>,
    tries: Tries,
}

/// Hands over to retry.
#[derive(Debug, Clone)]
pub struct Courier {
    /// The ledger whose revisions are handed over.
    store: StoreId,
    queued: Load,
    sending: Option<Sending>,
    next_number: u64,
    /// Hosts and switches of which retry is known to have no entry of ours.
    /// All others may have one, from before the last start.
    clean: BTreeSet<RepushKey>,
    /// The newest failures that were given to retry of hosts and switches that
    /// are not clean since: only a full state of then or later ends them.
    missed: BTreeMap<RepushKey, Revision>,
}

impl Courier {
    /// Has nothing to hand over yet.
    #[must_use]
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            queued: Load::default(),
            sending: None,
            next_number: 0,
            clean: BTreeSet::new(),
            missed: BTreeMap::new(),
        }
    }

    /// The ledger goes on as another.
    pub fn go_on(&mut self, store: StoreId) {
        self.store = store;
    }

    /// Takes what a push that is over left for retry, and the records that wait
    /// for it. Returns those that are done, as there is nothing to hand over.
    pub fn take(&mut self, records: BTreeSet<PushId>, push: &Push) -> BTreeSet<PushId> {
        let mut any = false;
        for settled in &push.settled {
            if !self.clean.contains(&settled.key) {
                any = true;
                self.queued.settle(&settled.key, settled.revision);
            }
        }
        for (key, lag) in &push.repush {
            any = true;
            self.miss(key, lag.revision);
            self.queued.miss(key, lag.revision, &lag.why);
        }
        for (key, lag) in &push.rip {
            any = true;
            self.miss(&over(key), lag.revision);
            let missed = Missed {
                revision: lag.revision,
                error: lag.why.clone(),
            };
            keep_newest(&mut self.queued.rip, key, missed);
        }
        for (host, revision) in &push.forgotten {
            any = true;
            self.missed.retain(|key, _| key.host != *host);
            self.queued.forget(host, *revision);
        }
        if !any {
            return records;
        }
        self.queued.records.extend(records);
        BTreeSet::new()
    }

    fn miss(&mut self, key: &RepushKey, revision: Revision) {
        self.clean.remove(key);
        let newest = self.missed.entry(key.clone()).or_default();
        *newest = revision.max(*newest);
    }

    /// The hand-over to make now, if any.
    pub fn next(&mut self, now: Timestamp, max_payload: usize) -> Option<(u64, RetryPut)> {
        if self.sending.is_none() && self.queued != Load::default() {
            let load = std::mem::take(&mut self.queued);
            self.sending = Some(load.sent(self.store, max_payload, now));
        }
        let sending = self.sending.as_mut()?;
        let number = self.next_number;
        if !sending.tries.begin(number, now) {
            return None;
        }
        self.next_number += 1;
        Some((number, sending.puts.front()?.clone()))
    }

    /// Takes retry's acknowledgement; returns the records that are done.
    pub fn acknowledged(&mut self, number: u64, now: Timestamp) -> Vec<PushId> {
        let under_way = self.sending.as_mut();
        let Some(sending) = under_way.filter(|sending| sending.tries.is_under_way(number)) else {
            return Vec::new();
        };
        sending.puts.pop_front();
        sending.tries = Tries::not_before(now);
        if !sending.puts.is_empty() {
            return Vec::new();
        }
        let Some(Sending {
            settled, records, ..
        }) = self.sending.take()
        else {
            return Vec::new();
        };
        // What came meanwhile follows.
        let follows = self.queued.missed();
        for (key, revision) in settled {
            let newest = self.missed.get(&key);
            if newest.is_none_or(|missed| *missed <= revision) && !follows.contains(&key) {
                self.missed.remove(&key);
                self.clean.insert(key);
            }
        }
        records
    }

    /// Notes that retry did not acknowledge.
    pub fn failed(&mut self, number: u64, now: Timestamp, rng: &mut Rng) {
        if let Some(sending) = &mut self.sending {
            sending.tries.failed(number, now, rng);
        }
    }

    /// The bus is back, and retry may be: no need to wait any longer.
    pub fn hurry(&mut self, now: Timestamp) {
        if let Some(sending) = &mut self.sending {
            sending.tries.hurry(now);
        }
    }

    /// When [`Self::next`] has something, if that is known.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.sending.as_ref()?.tries.due()
    }

    /// Whether a record waits for retry.
    #[must_use]
    pub fn holds(&self, record: PushId) -> bool {
        let sending = self.sending.iter().flat_map(|sending| &sending.records);
        let mut records = self.queued.records.iter().chain(sending);
        records.any(|waits| *waits == record)
    }
}

/// The host and switch that a removal is about.
fn over(key: &RipKey) -> RepushKey {
    RepushKey {
        host: key.host.clone(),
        switch: key.switch.clone(),
    }
}

fn keep_newest<K: Ord + Clone>(map: &mut BTreeMap<K, Missed>, key: &K, mut missed: Missed) {
    if let Some(known) = map.get(key) {
        missed.revision = missed.revision.max(known.revision);
    }
    map.insert(key.clone(), missed);
}

impl Load {
    /// The host has all of the switch as of `revision`.
    fn settle(&mut self, key: &RepushKey, revision: Revision) {
        if self
            .repush
            .get(key)
            .is_some_and(|missed| missed.revision <= revision)
        {
            self.repush.remove(key);
        }
        let known = self.settled.entry(key.clone()).or_insert(revision);
        *known = revision.max(*known);
    }

    /// The host did not acknowledge. Whatever it had acknowledged before that
    /// does not settle it.
    fn miss(&mut self, key: &RepushKey, revision: Revision, why: &str) {
        if self
            .settled
            .get(key)
            .is_some_and(|settled| revision <= *settled)
        {
            self.settled.remove(key);
        }
        let error = why.to_owned();
        keep_newest(&mut self.repush, key, Missed { revision, error });
    }

    /// The host will never come back: what it missed before is of no use.
    fn forget(&mut self, host: &HostName, revision: Revision) {
        let of_use = |of: &HostName, missed: &Missed| of != host || missed.revision >= revision;
        self.repush.retain(|key, missed| of_use(&key.host, missed));
        self.rip.retain(|key, missed| of_use(&key.host, missed));
        let known = self.forgotten.entry(host.clone()).or_default();
        *known = revision.max(*known);
    }

    /// Hosts and switches of which retry gets entries.
    fn missed(&self) -> BTreeSet<RepushKey> {
        let rip = self.rip.keys().map(over);
        self.repush.keys().cloned().chain(rip).collect()
    }

    /// The load as requests, each within what one message and one request may
    /// have.
    fn sent(self, store: StoreId, max_payload: usize, now: Timestamp) -> Sending {
        let missed = self.missed();
        let mut clean = self.settled.clone();
        clean.retain(|key, _| !missed.contains(key));
        let Self {
            repush,
            rip,
            settled,
            forgotten,
            records,
        } = self;
        let mut packing = Packing {
            room: max_payload / 4 * 3,
            used: 0,
            store,
            puts: VecDeque::from([empty(store)]),
        };
        for (key, Missed { revision, error }) in repush {
            let bytes = key.host.as_str().len() + key.switch.as_str().len() + error.len();
            packing.put(bytes).repush.push(Attempt {
                key,
                revision,
                error,
            });
        }
        for (key, Missed { revision, error }) in rip {
            let bytes = key.host.as_str().len() + key.switch.as_str().len();
            let bytes = bytes + key.port.as_str().len() + error.len();
            packing.put(bytes).rip.push(Attempt {
                key,
                revision,
                error,
            });
        }
        for (RepushKey { host, switch }, revision) in settled {
            let bytes = host.as_str().len() + switch.as_str().len();
            packing.put(bytes).settled.push(Settlement {
                host,
                switch,
                revision,
            });
        }
        for (host, revision) in forgotten {
            let bytes = host.as_str().len();
            let put = packing.put(bytes);
            put.forgotten.push(Forgotten { host, revision });
        }
        Sending {
            puts: packing.puts,
            settled: clean,
            records,
            tries: Tries::not_before(now),
        }
    }
}

fn empty(store: StoreId) -> RetryPut {
    RetryPut {
        v: V1,
        store,
        ..RetryPut::default()
    }
}

struct Packing {
    room: usize,
    used: usize,
    store: StoreId,
    puts: VecDeque<RetryPut>,
}

impl Packing {
    /// The request that an entry with texts of so many bytes goes into.
    fn put(&mut self, bytes: usize) -> &mut RetryPut {
        let bytes = bytes + ENTRY;
        if self.used > 0 && self.used + bytes > self.room {
            self.used = 0;
            self.puts.push_back(empty(self.store));
        }
        self.used += bytes;
        let last = self.puts.len() - 1;
        &mut self.puts[last]
    }
}
