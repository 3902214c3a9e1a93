// SPDX-License-Identifier: Apache-2.0
//! What laws need to know of the past, as an onlooker sees it who hears every
//! message.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::Revision;
use dvs_schemas::v1::{RepushKey, RetryPut, RipKey};

use super::world::Place;

/// An onlooker.
#[derive(Debug, Default)]
pub struct Witness {
    /// Full states that hosts acknowledged to the publisher that runs.
    acknowledged: BTreeMap<RepushKey, Revision>,
    /// Those of them that the publisher has nothing left to say of, and retry
    /// heard of no failure since.
    settled: BTreeMap<RepushKey, Revision>,
    /// Those that retry may have entries of which the publisher knows nothing:
    /// a hand-over came again after it was over.
    stale: BTreeSet<RepushKey>,
    causes: u64,
}

impl Witness {
    /// The full state that a host has acknowledged, if retry should have no
    /// entry of it or before.
    #[must_use]
    pub fn settled(&self, key: &RepushKey) -> Option<Revision> {
        self.settled.get(key).copied()
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
    pub(super) fn acknowledged(&mut self, key: RepushKey, revision: Revision) {
        if !self.stale.contains(&key) {
            let newest = self.acknowledged.entry(key).or_default();
            *newest = revision.max(*newest);
        }
    }

    /// The publisher owes nobody anything, and retry has all that it had for
    /// it.
    pub(super) fn publisher_done(&mut self) {
        for (key, revision) in std::mem::take(&mut self.acknowledged) {
            let newest = self.settled.entry(key).or_default();
            *newest = revision.max(*newest);
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

    /// A program's power failed: what the publisher knew of acknowledgements
    /// may be gone.
    pub(super) fn fell(&mut self, place: Place) {
        self.caused();
        match place {
            Place::Publisher => self.acknowledged.clear(),
            Place::Retry | Place::Host(_) => {}
        }
    }

    /// Revisions begin anew.
    pub(super) fn store_lost(&mut self) {
        self.acknowledged.clear();
        self.settled.clear();
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
