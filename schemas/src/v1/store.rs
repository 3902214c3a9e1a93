// SPDX-License-Identifier: Apache-2.0
//! Which ledger numbers revisions, and whether what a host has is of it.
//!
//! A ledger that was restored from a backup numbers other commits with the same
//! revisions, under the same identity. So each start of the publisher that
//! commits something is a run with an identity of its own, and messages name
//! the newest runs: a host and the publisher see by a revision and the run that
//! numbered it whether they speak of the same commit.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Deadline, PushSummary, V1, Wait};
use crate::ids::{HostName, Revision, StoreId};

/// Runs that a message names. A host that missed more of them since it heard
/// of the publisher last is judged by its revision alone; eight restarts with
/// commits in between are more than one outage has, and 250 bytes.
pub const RUNS_NAMED: usize = 8;

/// From one start of the publisher to its end, as far as it made commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Drawn at the start.
    pub id: Uuid,
    /// Its first commit; all later ones are its own, up to the next run's.
    pub since: Revision,
}

/// What a ledger's revisions descend from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lineage {
    /// The newest runs of the publisher, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// Stores that this one replaces by an operator's word: hosts that follow
    /// one of them take a full state of this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub continues: Vec<StoreId>,
}

/// The newest commit that a host knows of, and who numbered it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Position {
    /// The ledger.
    pub store: StoreId,
    /// The run; none if no message named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// The commit.
    pub revision: Revision,
}

/// How a position relates to a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is a commit of the ledger, as far as can be known.
    Same,
    /// It is of a ledger that this one replaces.
    Replaced,
    /// It is of another history.
    Diverged(Divergence),
}

/// Why a position is of another history than a ledger.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// The ledger has not got that far: it fell back, as by a backup.
    Ahead,
    /// The ledger numbered another commit so: it fell back and went on.
    OtherCommits,
    /// It is of a store that was made later.
    LaterStore,
    /// It is of a store that was made earlier, and not replaced by this one.
    EarlierStore,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "commits that this ledger does not have",
            Self::OtherCommits => "other commits of the same numbers",
            Self::LaterStore => "a later store",
            Self::EarlierStore => "an earlier store that this one does not continue",
        })
    }
}

impl Lineage {
    /// Whether a position is one of the ledger `store` with this lineage, of
    /// which `newest` is the newest commit, if that is known.
    #[must_use]
    pub fn relation(
        &self,
        store: StoreId,
        newest: Option<Revision>,
        position: &Position,
    ) -> Relation {
        let Position {
            store: of,
            run,
            revision,
        } = *position;
        if of != store {
            return if self.continues.contains(&of) {
                Relation::Replaced
            } else if of > store {
                Relation::Diverged(Divergence::LaterStore)
            } else {
                Relation::Diverged(Divergence::EarlierStore)
            };
        }
        if newest.is_some_and(|newest| revision > newest) {
            return Relation::Diverged(Divergence::Ahead);
        }
        let Some(run) = run else {
            return Relation::Same;
        };
        let mut end = None;
        for named in &self.runs {
            if named.id == run {
                return match end {
                    Some(end) if revision >= end => Relation::Diverged(Divergence::OtherCommits),
                    Some(_) | None => Relation::Same,
                };
            }
            end = Some(named.since);
        }
        match end {
            Some(first) if revision >= first => Relation::Diverged(Divergence::OtherCommits),
            // Of a run before those that are named, or of none.
            Some(_) | None => Relation::Same,
        }
    }

    /// The run that numbered a commit, if it is among those named.
    #[must_use]
    pub fn run_of(&self, revision: Revision) -> Option<Uuid> {
        let runs = self.runs.iter();
        let mut before = runs.filter(|run| run.since <= revision);
        before.next().map(|run| run.id)
    }
}

/// A host that follows another history than the publisher's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diverged {
    /// What it knows of.
    pub position: Position,
    /// How that is another.
    pub why: Divergence,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position:
                Position {
                    store,
                    run: _,
                    revision,
                },
            why,
        } = self;
        write!(
            f,
            "the host follows {why} (revision {revision} of store {store})"
        )
    }
}

/// Make this publisher's configuration hold on hosts that follow another
/// history: an operator's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContinueRequest {
    /// Only say what would happen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Whether the reply waits for the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// How long it waits at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Deadline>,
}

/// Reply to [`ContinueRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContinueReply {
    /// Version of the message.
    pub v: V1,
    /// True if nothing was done.
    pub dry_run: bool,
    /// The store as whose revisions the configuration goes on; not yet made if
    /// nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
    /// The commit: above everything that any host told of.
    pub revision: Revision,
    /// The stores that it replaces.
    pub continues: Vec<StoreId>,
    /// Hosts that get full states.
    pub hosts: u64,
    /// Objects that the configuration has, and which replace what the hosts
    /// have.
    pub objects: u64,
    /// Ports of these that are on no host: whoever has one wired takes it away.
    #[serde(default)]
    pub nowhere: u64,
    /// Hosts that follow another history.
    pub diverged: u64,
    /// The first of them, by name.
    pub examples: Vec<DivergedHost>,
    /// How it went, if it was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<PushSummary>,
}

/// A host and what it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DivergedHost {
    /// The host.
    pub host: HostName,
    /// What it follows.
    pub diverged: Diverged,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(number: u128) -> StoreId {
        StoreId(Uuid::from_u128(number))
    }

    fn at(of: u128, run: u128, revision: u64) -> Position {
        Position {
            store: store(of),
            run: (run > 0).then(|| Uuid::from_u128(run)),
            revision: Revision(revision),
        }
    }

    #[test]
    fn a_position_is_of_a_ledger_only_if_one_of_its_runs_numbered_it() {
        let run = |id, since| Run {
            id: Uuid::from_u128(id),
            since: Revision(since),
        };
        let lineage = Lineage {
            runs: vec![run(3, 9), run(2, 6)],
            continues: vec![store(4)],
        };
        let diverged = Relation::Diverged;
        let cases = [
            (at(5, 3, 9), Relation::Same),
            (at(5, 3, 10), Relation::Same),
            (at(5, 2, 8), Relation::Same),
            // Of a run that is not named any more.
            (at(5, 1, 5), Relation::Same),
            (at(5, 0, 8), Relation::Same),
            // The ledger was at 8 when it was copied, and the copy went on.
            (at(5, 2, 9), diverged(Divergence::OtherCommits)),
            // The ledger was at 5 when it was restored.
            (at(5, 1, 6), diverged(Divergence::OtherCommits)),
            (at(5, 7, 10), diverged(Divergence::OtherCommits)),
            (at(5, 3, 11), diverged(Divergence::Ahead)),
            (at(5, 0, 11), diverged(Divergence::Ahead)),
            (at(4, 1, 99), Relation::Replaced),
            (at(3, 1, 2), diverged(Divergence::EarlierStore)),
            (at(6, 1, 2), diverged(Divergence::LaterStore)),
        ];
        for (position, expected) in cases {
            let found = lineage.relation(store(5), Some(Revision(10)), &position);
            assert_eq!(found, expected, "{position:?}");
        }
    }
}
