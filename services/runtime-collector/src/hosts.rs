// SPDX-License-Identifier: Apache-2.0
//! What is known of a host's events: which run of its agent speaks, up to
//! which event all of them came, and whether a snapshot is needed.
//!
//! Runs are counted in the order in which they are first heard of, not by any
//! clock: hosts boot with wrong ones. A heartbeat of a run that was thought
//! over shows that it is not, and it becomes the newest; then a snapshot says
//! what is true, whatever came before.

use std::collections::BTreeSet;

use dvs_ledger::Writes;
use dvs_schemas::HostName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ledger::HOSTS;

/// Earlier runs that are remembered, so that their late events are known as
/// such. Events are late by seconds, an agent's restarts lie further apart.
const RUNS_REMEMBERED: usize = 8;

/// Most events that came ahead of a missing one and are remembered; more are
/// as good as missing, and a snapshot brings them.
const AHEAD_MAX: usize = 256;

/// One run of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) session: Uuid,
    /// From 1, in order of first sight.
    pub(crate) number: u64,
}

/// What is known of a host, and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    run: Run,
    /// Every event of the run up to this one is in the store.
    upto: u64,
    /// Whether the run's beginning is: a run before may have ended with
    /// something untold.
    begun: bool,
    /// Earlier runs, the latest last.
    before: Vec<Run>,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    known: Known,
    /// Whether the ledger has less than `known`.
    unwritten: bool,
    /// Events that came ahead of a missing one. After a restart they count as
    /// missing.
    ahead: BTreeSet<u64>,
    gap: Gap,
}

/// What is missing, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Nothing, as far as is known.
    None,
    /// A heartbeat named this event, and it or one before it isn't there. It
    /// may be on its way, so the next heartbeat decides.
    Suspected(u64),
    /// The host was asked.
    Asked,
}

/// What an event of a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Of the present run, and not there yet.
    New { run: u64 },
    /// Known already, or covered by a snapshot.
    Covered { run: u64 },
    /// Of a run that is over.
    Past { run: u64 },
}

/// A snapshot is wanted: it will cover the run up to this event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) run: u64,
    pub(crate) seq: u64,
}

impl Host {
    /// A host that is heard for the first time.
    pub(crate) fn first(session: Uuid) -> Self {
        let mut host = Self::from_known(Known {
            run: Run { session, number: 1 },
            upto: 0,
            begun: false,
            before: Vec::new(),
        });
        host.unwritten = true;
        host
    }

    pub(crate) fn from_known(known: Known) -> Self {
        Self {
            known,
            unwritten: false,
            ahead: BTreeSet::new(),
            gap: Gap::None,
        }
    }

    /// Writes what the ledger lacks. Stamps in the store name runs by number,
    /// so the number must be there no later than they are.
    pub(crate) fn write(&mut self, name: &HostName, writes: &mut Writes) {
        if std::mem::take(&mut self.unwritten) {
            writes.put(HOSTS, name.as_str(), &(name, &self.known));
        }
    }

    /// Whether an event is there, or will never be.
    pub(crate) fn has(&self, session: Uuid, seq: u64) -> bool {
        let over = self.known.before.iter().any(|run| run.session == session);
        over || (session == self.known.run.session && seq <= self.known.upto)
    }

    /// Places an event; afterwards it counts as there.
    pub(crate) fn event(&mut self, session: Uuid, seq: u64) -> Place {
        let place = self.sight(session, seq);
        match place {
            Place::New { .. } => {
                if seq == self.known.upto.saturating_add(1) || self.ahead.len() < AHEAD_MAX {
                    self.ahead.insert(seq);
                }
                self.catch_up();
            }
            Place::Covered { .. } | Place::Past { .. } => {}
        }
        place
    }

    /// Places an event that counts as missing still.
    pub(crate) fn sight(&mut self, session: Uuid, seq: u64) -> Place {
        if session != self.known.run.session {
            if let Some(run) = self.known.before.iter().find(|run| run.session == session) {
                return Place::Past { run: run.number };
            }
            self.begin(session);
        }
        let run = self.known.run.number;
        if seq <= self.known.upto {
            return Place::Covered { run };
        }
        Place::New { run }
    }

    /// A heartbeat named the newest event. Says whether a snapshot is wanted.
    pub(crate) fn heartbeat(&mut self, session: Uuid, seq: u64) -> Option<Wanted> {
        if session != self.known.run.session {
            self.begin(session);
        }
        let missing = seq > self.known.upto;
        let wanted = match self.gap {
            Gap::Asked => return None,
            Gap::None | Gap::Suspected(_) if !self.known.begun => true,
            Gap::Suspected(named) => missing && named > self.known.upto,
            Gap::None => false,
        };
        self.gap = if missing {
            Gap::Suspected(seq)
        } else {
            Gap::None
        };
        wanted.then_some(Wanted {
            run: self.known.run.number,
            seq,
        })
    }

    /// The snapshot was asked for.
    pub(crate) fn asked(&mut self) {
        self.gap = Gap::Asked;
    }

    /// Whether a snapshot is on its way: the host is there.
    pub(crate) fn is_asked(&self) -> bool {
        self.gap == Gap::Asked
    }

    /// No snapshot came; the next heartbeat may ask again.
    pub(crate) fn not_answered(&mut self) {
        self.gap = Gap::None;
    }

    /// Whether what was asked for is of the run that speaks now. What is of one
    /// that is over meanwhile is of no use.
    pub(crate) fn is_of_present_run(&self, wanted: Wanted) -> bool {
        wanted.run == self.known.run.number
    }

    /// The snapshot of the present run came, all of it.
    pub(crate) fn answered(&mut self, wanted: Wanted) {
        self.gap = Gap::None;
        self.unwritten = true;
        self.known.begun = true;
        self.known.upto = self.known.upto.max(wanted.seq);
        self.catch_up();
    }

    fn begin(&mut self, session: Uuid) {
        let number = self.known.run.number + 1;
        self.known.before.retain(|run| run.session != session);
        self.known.before.push(self.known.run);
        if self.known.before.len() > RUNS_REMEMBERED {
            self.known.before.remove(0);
        }
        self.unwritten = true;
        self.known.run = Run { session, number };
        self.known.upto = 0;
        self.known.begun = false;
        self.ahead.clear();
        // What was asked of the run before is answered in vain.
        if self.gap != Gap::Asked {
            self.gap = Gap::None;
        }
    }

    /// Moves `upto` over all that follows it without a gap.
    fn catch_up(&mut self) {
        while let Some(seq) = self.ahead.first().copied() {
            if seq > self.known.upto.saturating_add(1) {
                return;
            }
            self.ahead.pop_first();
            if seq > self.known.upto {
                self.known.upto = seq;
                self.unwritten = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    /// A host whose run has begun, with a snapshot up to event 0.
    fn host() -> Host {
        let mut host = Host::first(A);
        let wanted = host.heartbeat(A, 0);
        assert_eq!(wanted, Some(Wanted { run: 1, seq: 0 }));
        host.asked();
        host.answered(Wanted { run: 1, seq: 0 });
        host
    }

    #[test]
    fn a_gap_is_believed_at_the_second_heartbeat_that_shows_it() {
        let mut host = host();
        host.event(A, 1);
        host.event(A, 3);
        assert_eq!(host.heartbeat(A, 3), None);
        assert_eq!(host.heartbeat(A, 4), Some(Wanted { run: 1, seq: 4 }));
        host.asked();
        assert_eq!(host.heartbeat(A, 5), None, "one question at a time");
        host.answered(Wanted { run: 1, seq: 4 });
        assert_eq!(host.event(A, 2), Place::Covered { run: 1 });
        assert_eq!(host.event(A, 5), Place::New { run: 1 });
        assert_eq!(host.heartbeat(A, 5), None);
        assert_eq!(host.heartbeat(A, 5), None);
    }

    #[test]
    fn an_event_that_was_on_its_way_is_no_gap() {
        let mut host = host();
        assert_eq!(host.heartbeat(A, 1), None);
        host.event(A, 1);
        assert_eq!(host.heartbeat(A, 2), None);
        host.event(A, 2);
        assert_eq!(host.heartbeat(A, 2), None);
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again() {
        let mut host = Host::first(A);
        for _ in 0..3 {
            assert!(host.heartbeat(A, 0).is_some());
            host.asked();
            host.not_answered();
        }
    }

    #[test]
    fn a_new_run_begins_with_a_snapshot_and_the_old_ones_events_are_past() {
        let mut host = host();
        host.event(A, 1);
        assert_eq!(host.event(B, 1), Place::New { run: 2 });
        assert_eq!(host.event(A, 2), Place::Past { run: 1 });
        assert_eq!(host.heartbeat(B, 1), Some(Wanted { run: 2, seq: 1 }));
    }

    #[test]
    fn a_snapshot_of_a_run_that_is_over_is_of_no_use() {
        let mut host = Host::first(A);
        let wanted = host.heartbeat(A, 0);
        host.asked();
        host.event(B, 1);
        assert_eq!(
            wanted.map(|wanted| host.is_of_present_run(wanted)),
            Some(false)
        );
        host.not_answered();
        assert!(host.heartbeat(B, 1).is_some());
    }

    /// A late event of a run that was never heard of looks like a new run;
    /// the heartbeats of the real one put that right.
    #[test]
    fn a_run_that_goes_on_speaking_is_the_newest() {
        let mut host = host();
        host.event(B, 1);
        assert_eq!(host.heartbeat(A, 0), Some(Wanted { run: 3, seq: 0 }));
        assert_eq!(host.event(B, 2), Place::Past { run: 2 });
        assert_eq!(host.event(A, 1), Place::New { run: 3 });
    }

    proptest! {
        #[test]
        fn whatever_came_in_whatever_order_a_complete_run_has_no_gap(
            mut events in prop::collection::vec(1..60_u64, 0..120),
        ) {
            events.extend(1..60);
            let mut host = host();
            for seq in events {
                host.event(A, seq);
            }
            prop_assert_eq!(host.known.upto, 59);
            prop_assert_eq!(host.heartbeat(A, 59), None);
        }

        #[test]
        fn no_number_is_too_large(events in prop::collection::vec(any::<u64>(), 0..20), named: u64) {
            let mut host = host();
            for seq in events.into_iter().chain([u64::MAX]) {
                host.event(A, seq);
            }
            host.heartbeat(A, named);
            if let Some(wanted) = host.heartbeat(A, u64::MAX) {
                host.asked();
                host.answered(wanted);
            }
            host.event(A, u64::MAX);
        }
    }
}
