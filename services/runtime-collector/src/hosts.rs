// SPDX-License-Identifier: Apache-2.0
//! What is known of a host's events: which session of its agent speaks, up to
//! which event all of them came, and whether a snapshot is needed.
//!
//! Of sessions the later one is the larger one, as the publisher numbers them,
//! and one that is over never comes back: what is said in it counts for nothing,
//! but for what placements came to by then.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use dvs_ledger::Writes;
use dvs_schemas::{HostName, SessionId};
use serde::{Deserialize, Serialize};

use crate::ledger::HOSTS;

/// Most events that came ahead of a missing one and are remembered; more are
/// as good as missing, and a snapshot brings them.
const AHEAD_MAX: usize = 256;

/// What is known of a host, and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    session: SessionId,
    /// Every event of the session up to this one is in the store.
    upto: u64,
    /// Whether the session's beginning is: one before may have ended with
    /// something untold.
    begun: bool,
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
    /// Of the present session, and not there yet.
    New,
    /// Known already, or covered by a snapshot.
    Covered,
    /// Of a session that is over.
    Past,
}

/// A snapshot is wanted: it will cover the session up to this event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
}

impl Host {
    /// A host that is heard for the first time.
    pub(crate) fn first(session: SessionId) -> Self {
        let mut host = Self::from_known(Known {
            session,
            upto: 0,
            begun: false,
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

    /// Writes what the ledger lacks.
    pub(crate) fn write(&mut self, name: &HostName, writes: &mut Writes) {
        if std::mem::take(&mut self.unwritten) {
            writes.put(HOSTS, name.as_str(), &(name, &self.known));
        }
    }

    /// Whether an event is there, or will never be.
    pub(crate) fn has(&self, session: SessionId, seq: u64) -> bool {
        match session.cmp(&self.known.session) {
            Ordering::Less => true,
            Ordering::Equal => seq <= self.known.upto,
            Ordering::Greater => false,
        }
    }

    /// Places an event; afterwards it counts as there.
    pub(crate) fn event(&mut self, session: SessionId, seq: u64) -> Place {
        let place = self.sight(session, seq);
        match place {
            Place::New => {
                if seq == self.known.upto.saturating_add(1) || self.ahead.len() < AHEAD_MAX {
                    self.ahead.insert(seq);
                }
                self.catch_up();
            }
            Place::Covered | Place::Past => {}
        }
        place
    }

    /// Places an event that counts as missing still.
    pub(crate) fn sight(&mut self, session: SessionId, seq: u64) -> Place {
        if session < self.known.session {
            return Place::Past;
        }
        self.reach(session);
        if seq <= self.known.upto {
            return Place::Covered;
        }
        Place::New
    }

    /// A heartbeat named the newest event. Says whether a snapshot is wanted.
    pub(crate) fn heartbeat(&mut self, session: SessionId, seq: u64) -> Option<Wanted> {
        if session < self.known.session {
            return None;
        }
        self.reach(session);
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
        wanted.then_some(Wanted { session, seq })
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

    /// Whether a later session speaks for the host by now.
    pub(crate) fn is_past(&self, session: SessionId) -> bool {
        session < self.known.session
    }

    /// Whether what was asked for is of the session that speaks now. What is of
    /// one that is over meanwhile is of no use.
    pub(crate) fn is_of_present_session(&self, wanted: Wanted) -> bool {
        wanted.session == self.known.session
    }

    /// The snapshot of the present session came, all of it.
    pub(crate) fn answered(&mut self, wanted: Wanted) {
        self.gap = Gap::None;
        self.unwritten = true;
        self.known.begun = true;
        self.known.upto = self.known.upto.max(wanted.seq);
        self.catch_up();
    }

    /// Begins the session, unless it is the present one.
    fn reach(&mut self, session: SessionId) {
        if session == self.known.session {
            return;
        }
        self.unwritten = true;
        self.known = Known {
            session,
            upto: 0,
            begun: false,
        };
        self.ahead.clear();
        // What was asked of the session before is answered in vain.
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

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    /// A host whose session has begun, with a snapshot up to event 0.
    fn host() -> Host {
        let mut host = Host::first(A);
        let wanted = host.heartbeat(A, 0);
        assert_eq!(wanted, Some(Wanted { session: A, seq: 0 }));
        host.asked();
        host.answered(Wanted { session: A, seq: 0 });
        host
    }

    #[test]
    fn a_gap_is_believed_at_the_second_heartbeat_that_shows_it() {
        let mut host = host();
        host.event(A, 1);
        host.event(A, 3);
        assert_eq!(host.heartbeat(A, 3), None);
        assert_eq!(host.heartbeat(A, 4), Some(Wanted { session: A, seq: 4 }));
        host.asked();
        assert_eq!(host.heartbeat(A, 5), None, "one question at a time");
        host.answered(Wanted { session: A, seq: 4 });
        assert_eq!(host.event(A, 2), Place::Covered);
        assert_eq!(host.event(A, 5), Place::New);
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
    fn a_session_begins_with_a_snapshot_and_the_events_of_the_one_before_are_past() {
        let mut host = host();
        host.event(A, 1);
        assert_eq!(host.event(B, 1), Place::New);
        assert_eq!(host.event(A, 2), Place::Past);
        assert_eq!(host.heartbeat(B, 1), Some(Wanted { session: B, seq: 1 }));
    }

    #[test]
    fn a_snapshot_of_a_session_that_is_over_is_of_no_use() {
        let mut host = Host::first(A);
        let wanted = host.heartbeat(A, 0);
        host.asked();
        host.event(B, 1);
        assert_eq!(
            wanted.map(|wanted| host.is_of_present_session(wanted)),
            Some(false)
        );
        host.not_answered();
        assert!(host.heartbeat(B, 1).is_some());
    }

    #[test]
    fn a_session_that_is_over_never_comes_back_however_often_it_speaks() {
        let mut host = host();
        assert_eq!(host.event(B, 1), Place::New);
        let wanted = host.heartbeat(B, 1);
        assert_eq!(wanted, Some(Wanted { session: B, seq: 1 }));
        for seq in 0..3 {
            assert_eq!(host.heartbeat(A, seq), None);
            assert_eq!(host.event(A, seq), Place::Past);
        }
        assert!(host.is_of_present_session(Wanted { session: B, seq: 1 }));
        assert_eq!(host.event(B, 2), Place::New);
    }

    #[test]
    fn an_event_that_comes_after_its_session_is_past_though_nobody_heard_of_it() {
        let mut host = Host::first(B);
        assert_eq!(host.event(A, 1), Place::Past);
        assert_eq!(host.event(B, 1), Place::New);
    }

    proptest! {
        #[test]
        fn whatever_came_in_whatever_order_a_complete_session_has_no_gap(
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
