// SPDX-License-Identifier: Apache-2.0
//! What laws need to know of the past, as an onlooker sees it who hears every
//! message.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{RepushKey, RetryPut, RipKey, Settlement};
use dvs_schemas::{Revision, StoreId};
use retry::Commit;

use super::world::Place;

/// An onlooker.
#[derive(Debug, Default)]
pub struct Witness {
    /// Full states that hosts acknowledged to the publisher that runs.
    acknowledged: BTreeMap<RepushKey, Commit>,
    /// Those of them that the publisher has nothing left to say of, and retry
    /// heard of no failure since.
    settled: BTreeMap<RepushKey, Commit>,
    /// Those that retry may have entries of which the publisher knows nothing:
    /// a hand-over came again after it was over.
    stale: BTreeSet<RepushKey>,
    missed: Missed<RepushKey>,
    unremoved: Missed<RipKey>,
    causes: u64,
}

/// What retry took note of, with the store whose revision it is, until a host
/// has acknowledged what covers it.
#[derive(Debug)]
struct Missed<K>(BTreeMap<K, Commit>);

impl<K> Default for Missed<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Missed<K> {
    fn note(&mut self, key: &K, missed: Commit) {
        let newest = self.0.entry(key.clone()).or_insert(missed);
        *newest = missed.max(*newest);
    }

    fn cover(&mut self, about: impl Fn(&K) -> bool, covers: Commit) {
        self.0.retain(|key, missed| !about(key) || *missed > covers);
    }
}

impl Witness {
    /// The full state that a host has acknowledged, if retry should have no
    /// entry of it or before.
    #[must_use]
    pub fn settled(&self, key: &RepushKey) -> Option<Commit> {
        self.settled.get(key).copied()
    }

    /// Hosts that have missed something which no full state has covered since:
    /// retry should have an entry of each.
    pub fn missed(&self) -> impl Iterator<Item = (&RepushKey, Revision)> {
        let missed = self.missed.0.iter();
        missed.map(|(key, commit)| (key, commit.revision))
    }

    /// Ports that hosts were not seen to have removed: retry should have an
    /// entry of each.
    pub fn unremoved(&self) -> impl Iterator<Item = (&RipKey, Revision)> {
        let unremoved = self.unremoved.0.iter();
        unremoved.map(|(key, commit)| (key, commit.revision))
    }

    /// How often something has happened that hosts may be asked for: a
    /// request, a start, a hello, a connection that came or went.
    #[must_use]
    pub fn causes(&self) -> u64 {
        self.causes
    }

    pub(super) fn caused(&mut self) {
        self.causes += 1;
    }

    /// A host has told the publisher that it has the whole of a switch.
    pub(super) fn acknowledged(&mut self, key: RepushKey, commit: Commit) {
        if !self.stale.contains(&key) {
            let newest = self.acknowledged.entry(key).or_insert(commit);
            *newest = commit.max(*newest);
        }
    }

    /// The publisher owes nobody anything, and retry has all that it had for
    /// it.
    pub(super) fn publisher_done(&mut self) {
        for (key, commit) in std::mem::take(&mut self.acknowledged) {
            let newest = self.settled.entry(key).or_insert(commit);
            *newest = commit.max(*newest);
        }
    }

    /// Retry has no entries.
    pub(super) fn retry_done(&mut self) {
        self.stale.clear();
    }

    /// Retry is told of failures and of full states; `awaited` by the
    /// publisher, or a late copy of what is over.
    pub(super) fn put(&mut self, put: &RetryPut, awaited: bool) {
        let repush = put.repush.iter().map(|attempt| attempt.key.clone());
        let rip = put.rip.iter().map(|attempt| over(&attempt.key));
        for key in repush.chain(rip) {
            self.acknowledged.remove(&key);
            self.settled.remove(&key);
            if !awaited {
                self.stale.insert(key);
            }
        }
    }

    /// Retry was told that a host has the whole of a switch, and may have
    /// taken it.
    fn settle(&mut self, settlement: &Settlement, store: StoreId) {
        let Settlement {
            host,
            switch,
            revision,
        } = settlement.clone();
        self.covered(&RepushKey { host, switch }, Commit { store, revision });
    }

    /// Retry was told of failures and full states; `taken`: by the publisher
    /// with that store, and its power did not fail.
    pub(super) fn told(&mut self, put: &RetryPut, taken: bool) {
        let store = put.store;
        let of = |revision| Commit { store, revision };
        if taken {
            for attempt in &put.repush {
                self.missed.note(&attempt.key, of(attempt.revision));
            }
            for attempt in &put.rip {
                self.unremoved.note(&attempt.key, of(attempt.revision));
            }
        }
        for settlement in &put.settled {
            self.settle(settlement, store);
        }
    }

    /// A host told retry that it has the whole of a switch.
    pub(super) fn covered(&mut self, key: &RepushKey, commit: Commit) {
        self.missed.cover(|missed| missed == key, commit);
        self.unremoved.cover(|port| over(port) == *key, commit);
    }

    /// A host told retry that it has a port no more, or the publisher that it
    /// is to have it again.
    pub(super) fn removed(&mut self, key: &RipKey, commit: Commit) {
        self.unremoved.cover(|port| port == key, commit);
    }

    /// A program's power failed: what the publisher knew of acknowledgements
    /// may be gone.
    pub(super) fn fell(&mut self, place: Place) {
        self.caused();
        match place {
            Place::Publisher => self.acknowledged.clear(),
            Place::Retry | Place::Host(_) | Place::Collector => {}
        }
    }

    /// Revisions begin anew.
    pub(super) fn store_lost(&mut self) {
        self.acknowledged.clear();
        self.settled.clear();
        self.missed = Missed::default();
        self.unremoved = Missed::default();
    }
}

/// The host and switch that a removal is about.
#[must_use]
pub fn over(key: &RipKey) -> RepushKey {
    RepushKey {
        host: key.host.clone(),
        switch: key.switch.clone(),
    }
}
