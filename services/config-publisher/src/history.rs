// SPDX-License-Identifier: Apache-2.0
//! Who numbered the ledger's commits, and by that, whether a host speaks of
//! them: a ledger that was restored from a backup, copied or lost numbers other
//! commits alike.

use std::collections::BTreeSet;

use dvs_ledger::Writes;
use dvs_schemas::v1::{Diverged, Lineage, Position, RUNS_NAMED, Relation, Run};
use dvs_schemas::{Revision, StoreId};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use crate::ledger::STORE;

/// Runs that are kept. A host that was away for longer than so many starts of
/// the publisher is judged by its revision alone; at 24 bytes each they are one
/// small record.
const RUNS_KEPT: usize = 256;

/// Replaced stores that are kept; each is an operator's word. They travel with
/// each message, at 16 bytes each.
const CONTINUES_KEPT: usize = 64;

/// What is stored of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEntry {
    store: StoreId,
    lineage: Lineage,
}

/// Who numbered the commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    store: StoreId,
    /// All runs that are kept.
    lineage: Lineage,
    /// This run of the publisher.
    run: Uuid,
}

impl History {
    /// As the ledger has it, which was made as `made`; `run` is drawn anew at
    /// each start.
    #[must_use]
    pub fn load(made: StoreId, entry: Option<StoreEntry>, run: Uuid) -> Self {
        let StoreEntry { store, lineage } = entry.unwrap_or_else(|| StoreEntry {
            store: made,
            lineage: Lineage::default(),
        });
        Self {
            store,
            lineage,
            run,
        }
    }

    /// The ledger's identity.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// What messages name.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        let Lineage { runs, continues } = &self.lineage;
        Lineage {
            runs: runs.iter().take(RUNS_NAMED).copied().collect(),
            continues: continues.clone(),
        }
    }

    /// Up to its newest commit.
    #[must_use]
    pub fn as_of(&self, newest: Revision) -> AsOf<'_> {
        AsOf {
            history: self,
            newest,
        }
    }

    /// A commit is made; the first one of a run is noted.
    pub fn commits(&mut self, revision: Revision, writes: &mut Writes) {
        let newest = self.lineage.runs.first();
        if newest.is_some_and(|run| run.id == self.run) {
            return;
        }
        let run = Run {
            id: self.run,
            since: revision,
        };
        self.lineage.runs.insert(0, run);
        self.lineage.runs.truncate(RUNS_KEPT);
        self.write(writes);
    }

    /// Goes on as another store by a commit of `revision`; it replaces this one
    /// and others.
    pub fn go_on(
        &mut self,
        store: StoreId,
        replaced: BTreeSet<StoreId>,
        revision: Revision,
        writes: &mut Writes,
    ) {
        let Lineage { runs, continues } = &mut self.lineage;
        continues.insert(0, self.store);
        for other in replaced {
            if !continues.contains(&other) {
                continues.insert(0, other);
            }
        }
        continues.truncate(CONTINUES_KEPT);
        *runs = vec![Run {
            id: self.run,
            since: revision,
        }];
        self.store = store;
        self.write(writes);
    }

    fn write(&self, writes: &mut Writes) {
        let entry = StoreEntry {
            store: self.store,
            lineage: self.lineage.clone(),
        };
        writes.put(STORE, "", &entry);
    }
}

/// The ledger that hosts are to follow, as of now.
#[derive(Debug, Clone, Copy)]
pub struct AsOf<'a> {
    history: &'a History,
    newest: Revision,
}

impl AsOf<'_> {
    /// Whether a revision that comes with these positions is a number of the
    /// ledger: one of them is of its store, and as far at least. A host that
    /// goes over from a replaced store, or keeps a switch of it that is no more
    /// wanted there, has positions of both.
    #[must_use]
    pub fn numbers(&self, positions: &[Position], revision: Revision) -> bool {
        let store = self.history.store;
        let mut ours = positions.iter().filter(|position| position.store == store);
        positions.is_empty() || ours.any(|position| position.revision >= revision)
    }

    /// How a host's positions show that it follows another history; empty if
    /// it does not.
    #[must_use]
    pub fn diverged(&self, positions: &[Position]) -> Vec<Diverged> {
        let History {
            store,
            lineage,
            run: _,
        } = self.history;
        let diverged = |position: &Position| {
            let position = *position;
            match lineage.relation(*store, Some(self.newest), &position) {
                Relation::Same | Relation::Replaced => None,
                Relation::Diverged(why) => Some(Diverged { position, why }),
            }
        };
        positions.iter().filter_map(diverged).collect()
    }
}

/// The first millisecond since 1970 that an identity can't say: a UUID of
/// version 7 has 48 bits for it.
const NO_LATER: u64 = 1 << 48;

/// The identity of a store that is made at `now`, in milliseconds since 1970,
/// or later, so that it is later than all `others`, whatever the clocks were
/// by which those were made. None if no identity can be later.
#[must_use]
pub fn later_than(
    others: impl IntoIterator<Item = StoreId>,
    now: u64,
    random: &[u8; 10],
) -> Option<StoreId> {
    let newest = others.into_iter().map(StoreId::made).max();
    let made = newest.map_or(now, |newest| now.max(newest + 1));
    (made < NO_LATER)
        .then(|| StoreId(Builder::from_unix_timestamp_millis(made, random).into_uuid()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_store_is_later_than_one_of_a_clock_that_ran_ahead() {
        let now = 1_764_000_000_000;
        let later = |others: &[StoreId], now, random| {
            later_than(others.iter().copied(), now, &[random; 10]).unwrap()
        };
        let ahead = later(&[], 4_070_908_800_000, 0xff);
        let next = later(&[ahead], now, 0);
        assert!(next > ahead, "{next} and {ahead}");
        assert!(later(&[next], now, 0) > next);
        assert_eq!(later(&[], now, 0).made(), now);
    }
}
