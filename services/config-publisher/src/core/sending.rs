// SPDX-License-Identifier: Apache-2.0
//! From what is owed to pushes, and from their ends to retry or to the end of
//! the record.

use std::collections::BTreeSet;

use dvs_schemas::v1::{PushSummary, PutReply, RuntimeForgetReply};
use dvs_schemas::{HostName, Timestamp};

use super::{Out, Publisher, answer};
use crate::events::{Effect, Outcome, ReplyToken};
use crate::ledger::{PENDING, pending};
use crate::outbox::Parcel;
use crate::pushes::{Begun, Push, begin};
use crate::record::{Owed, PushId, Record};
use crate::replies::{self, Held};

/// A push under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    push: Push,
    /// The records that it is for.
    records: BTreeSet<PushId>,
    /// Hosts that were forgotten since it began.
    gone: BTreeSet<HostName>,
}

/// Whether a reply depends on how the push goes.
#[derive(Debug)]
pub(super) enum Asker {
    /// It does.
    Waits {
        /// Who waits.
        to: ReplyToken,
        /// Until when at the latest.
        until: Timestamp,
        /// The reply, as far as it is known.
        held: Box<Held>,
    },
    /// It does not.
    Leaves,
}

impl Publisher {
    /// Writes a record down, which is not empty, and pushes it as soon as hosts
    /// are not too busy.
    pub(super) fn owe(
        &mut self,
        now: Timestamp,
        record: Record,
        asker: Asker,
        out: &mut Out,
    ) -> PushId {
        let push = self.next_push();
        out.writes.put(PENDING, pending(push), &record);
        self.records += 1;
        match asker {
            Asker::Waits { to, until, held } => {
                self.waits.hold(push, to, until, *held);
                out.effect(Effect::Committed { to });
                self.outbox.put_alone(push, record);
            }
            Asker::Leaves => self.outbox.put(push, record),
        }
        self.launch(now, out);
        push
    }

    /// Whether a record's push is yet to begin, or not over.
    pub(super) fn is_on_its_way(&self, record: PushId) -> bool {
        self.outbox.holds(record)
            || self.pushes.contains_key(&record)
            || self
                .pushes
                .values()
                .any(|under_way| under_way.records.contains(&record))
    }

    /// Starts pushes as long as hosts are not too busy.
    pub(super) fn launch(&mut self, now: Timestamp, out: &mut Out) {
        while self.awaited <= self.settings.awaited
            && let Some(parcel) = self.outbox.take()
        {
            let push = parcel.push;
            self.send(now, parcel, out);
            self.finish_if_over(now, push, out);
        }
    }

    fn send(&mut self, now: Timestamp, parcel: Parcel, out: &mut Out) {
        let Parcel {
            push: id,
            records,
            mut owed,
        } = parcel;
        self.reach(&mut owed);
        let to_all = owed.switches.values().any(Owed::to_all);
        let roster = if to_all { self.fleet.muster(now) } else { None };
        let Begun { push, calls, away } = begin(self.view(), &owed, roster.as_ref(), now);
        self.away += away as u64;
        self.awaited += push.awaited();
        for under_way in self.pushes.values_mut() {
            under_way.gone.extend(push.forgotten.keys().cloned());
        }
        let gone = BTreeSet::new();
        self.pushes.insert(
            id,
            UnderWay {
                push,
                records,
                gone,
            },
        );
        if !calls.is_empty() {
            out.effect(Effect::Push {
                push: id,
                calls,
                within: self.settings.push_timeout,
            });
        }
    }

    /// A host that is still to acknowledge the whole of a switch may not hear
    /// the messages to all of that switch yet: what they would tell it, it gets
    /// as the whole once more.
    fn reach(&self, owed: &mut Record) {
        for (switch, owed) in &mut owed.switches {
            if !owed.to_all() {
                continue;
            }
            let under_way = self.pushes.values();
            let deaf = under_way.flat_map(|under_way| under_way.push.getting_whole(switch));
            let whole = deaf.cloned().collect();
            owed.join(Owed {
                whole,
                ..Owed::default()
            });
        }
    }

    pub(super) fn outcomes(
        &mut self,
        now: Timestamp,
        push: PushId,
        outcomes: Vec<Outcome>,
        out: &mut Out,
    ) {
        let fleet = &mut self.fleet;
        let outcomes: Vec<_> = outcomes.into_iter().map(|end| fleet.sift(end)).collect();
        if let Some(UnderWay { push: state, .. }) = self.pushes.get_mut(&push) {
            self.awaited -= state.awaited();
            for outcome in outcomes {
                let ledger = self.history.as_of(self.config.revision());
                state.end(outcome, &mut self.fleet, ledger, now);
            }
            self.awaited += state.awaited();
            self.finish_if_over(now, push, out);
            self.launch(now, out);
        } else if let Some(run) = self.waits.dry_run(push) {
            for outcome in outcomes {
                run.end(outcome);
            }
            if run.is_over() {
                self.release(now, push, out);
            }
        }
    }

    /// Ends a push of which every call has ended: its records go, or wait for
    /// retry.
    fn finish_if_over(&mut self, now: Timestamp, push: PushId, out: &mut Out) {
        let over = |under_way: &UnderWay| under_way.push.is_over();
        if !self.pushes.get(&push).is_some_and(over) {
            return;
        }
        self.release(now, push, out);
        if let Some(UnderWay {
            push: mut state,
            records,
            gone,
        }) = self.pushes.remove(&push)
        {
            // Retry has been told to forget them, and would try for ever.
            state.leave_out(&gone);
            self.farewell.take(&records, &state.forgotten);
            let done = self.courier.take(records, &state);
            self.forget_records(done, out);
        }
        self.hand_over(now, out);
    }

    fn forget_records(&mut self, done: impl IntoIterator<Item = PushId>, out: &mut Out) {
        for record in done {
            out.writes.delete(PENDING, pending(record));
            self.records -= 1;
        }
    }

    /// Lets a held reply go, with how things stand.
    pub(super) fn release(&mut self, now: Timestamp, push: PushId, out: &mut Out) {
        if let Some((to, held)) = self.waits.release(push) {
            let reply = held.finish(|| self.summary(now, push), self.room());
            answer(out, to, Ok(reply));
        }
    }

    fn summary(&self, now: Timestamp, push: PushId) -> PushSummary {
        if let Some(under_way) = self.pushes.get(&push) {
            return under_way.push.summary();
        }
        match self.outbox.alone(push) {
            // How it would stand if it began now.
            Some(record) => begin(self.view(), record, None, now).push.summary(),
            None => replies::nobody(),
        }
    }

    pub(super) fn hand_over(&mut self, now: Timestamp, out: &mut Out) {
        if let Some((number, put)) = self.courier.next(now, self.settings.max_payload) {
            out.effect(Effect::HandOver { number, put });
        }
        let farewell = &mut self.farewell;
        if let Some((number, request)) =
            farewell.next(now, self.history.store(), self.settings.max_payload)
        {
            out.effect(Effect::TellCollector { number, request });
        }
    }

    pub(super) fn handed_over(
        &mut self,
        now: Timestamp,
        number: u64,
        result: &Result<PutReply, String>,
        out: &mut Out,
    ) {
        match result {
            Ok(_) => {
                let mut done = self.courier.acknowledged(number, now);
                done.retain(|record| !self.farewell.holds(*record));
                self.forget_records(done, out);
            }
            Err(_) => self.courier.failed(number, now, &mut self.rng),
        }
        self.hand_over(now, out);
    }

    pub(super) fn collector_told(
        &mut self,
        now: Timestamp,
        number: u64,
        result: &Result<RuntimeForgetReply, String>,
        out: &mut Out,
    ) {
        match result {
            Ok(_) => {
                let mut done = self.farewell.acknowledged(number, now);
                done.retain(|record| !self.courier.holds(*record));
                self.forget_records(done, out);
            }
            Err(_) => self.farewell.failed(number, now, &mut self.rng),
        }
        self.hand_over(now, out);
    }
}
