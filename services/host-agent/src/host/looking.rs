// SPDX-License-Identifier: Apache-2.0
//! Ports whose counters move, and when to look at them: nobody is told of
//! counters before they stand still.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::Counters;
use dvs_schemas::{PortId, SwitchName, Timestamp};

type Key = (SwitchName, PortId);

/// The ports that are looked at.
#[derive(Debug)]
pub(super) struct Looking {
    quiet: Duration,
    ports: BTreeMap<Key, Motion>,
    due: Option<Timestamp>,
}

/// What is known of a port's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    /// They move.
    Moves,
    /// They were this at the last look.
    Seen(Counters),
    /// They were this when somebody was told last, and may have moved unnoticed.
    Doubtful(Counters),
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The counters move.
    Moves,
    /// They have settled.
    Settled,
    /// They have not moved at all.
    Unmoved,
}

impl Looking {
    pub(super) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            ports: BTreeMap::new(),
            due: None,
        }
    }

    /// Counters of a port began to move.
    pub(super) fn moves(&mut self, now: Timestamp, key: Key) {
        let motion = self.ports.entry(key).or_insert(Motion::Moves);
        if let Motion::Doubtful(_) = motion {
            *motion = Motion::Moves;
        }
        self.look_again(now);
    }

    /// Counters of a port may have moved since somebody was told this.
    pub(super) fn may_have_moved(&mut self, now: Timestamp, key: Key, told: Counters) {
        self.ports.entry(key).or_insert(Motion::Doubtful(told));
        self.look_again(now);
    }

    /// The port is there no more.
    pub(super) fn forget(&mut self, key: &Key) {
        self.ports.remove(key);
    }

    /// Counters of a port were read. Without a link they have settled.
    pub(super) fn seen(&mut self, key: Key, counters: Counters, is_down: bool) -> Sight {
        let sight = match self.ports.get(&key) {
            Some(Motion::Doubtful(told)) if *told == counters => Sight::Unmoved,
            Some(Motion::Seen(before)) if *before == counters => Sight::Settled,
            Some(Motion::Moves | Motion::Seen(_) | Motion::Doubtful(_)) | None if is_down => {
                Sight::Settled
            }
            Some(Motion::Moves | Motion::Seen(_) | Motion::Doubtful(_)) | None => Sight::Moves,
        };
        match sight {
            Sight::Moves => drop(self.ports.insert(key, Motion::Seen(counters))),
            Sight::Settled | Sight::Unmoved => drop(self.ports.remove(&key)),
        }
        sight
    }

    /// A look that is due at some time comes then: counters of single ports are
    /// read in between, as often as their links go down.
    pub(super) fn look_again(&mut self, now: Timestamp) {
        self.due = match (self.due, self.ports.is_empty()) {
            (Some(due), false) => Some(due),
            (None, false) => Some(now.after(self.quiet)),
            (Some(_) | None, true) => None,
        };
    }

    /// When to look.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// The ports whose counters are to be read now.
    pub(super) fn look(&mut self, now: Timestamp) -> Vec<Key> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        self.ports.keys().cloned().collect()
    }
}
