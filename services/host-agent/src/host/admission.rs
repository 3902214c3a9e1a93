// SPDX-License-Identifier: Apache-2.0
//! Messages that change what is held: admitted, written, marked for the next
//! plan, and their askers put on the list.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use dvs_ledger::Decision;
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Clobber, FinalState, Lineage, PortFailure, Position, Remove,
    RemoveOutcome, RemoveReport, V1,
};
use dvs_schemas::{Revision, StoreId, SwitchName, Timestamp};

use super::messages::{Answer, Asker};
use super::switch::{Scope, Switch};
use super::waiter::{Question, Stage, Waiter};
use super::{Effect, HostCore};
use crate::admit::{self, Touched};
use crate::held::HeldSwitch;
use crate::ledger;
use crate::plan::Parts;
use crate::refusal::Refusal;
use crate::sender::newcomer;

/// How long an asker waits for what its message lacks: the parts of one commit
/// travel as several messages, which arrive within milliseconds of each other.
const PATIENCE: Duration = Duration::from_millis(500);

/// Askers that may wait on one host. A publisher sends a host one message per
/// commit and waits a few seconds for it: beyond some hundred a second the
/// datapath is the bottleneck, and saying so is better than queueing.
pub(crate) const WAITERS_MAX: usize = 1_024;

impl HostCore {
    /// Final state came.
    pub(super) fn clobber(
        &mut self,
        now: Timestamp,
        message: &Clobber,
        asker: Option<Arc<Asker>>,
        out: &mut Decision<Effect>,
    ) {
        self.rollback.hears(now, false);
        let name = &message.switch;
        if let Err(refusal) = self.takes_part(name, message.store, &message.lineage) {
            return self.refuse(asker, name, &refusal, out);
        }
        let (switch, fresh) = entry(&mut self.switches, name, message.store);
        let store = switch.held.store;
        let mut touched = match admit::clobber(&mut switch.held, message) {
            Ok(touched) => touched,
            Err(refusal) => {
                if fresh {
                    self.switches.remove(name);
                }
                return self.refuse(asker, name, &refusal, out);
            }
        };
        if switch.held.store != store {
            switch.admitted = Revision::ZERO;
            switch.observed = Revision::ZERO;
            let held = &switch.held;
            for (port, state) in &held.ports {
                let took_over = |before, after| held.took_over(before, after);
                self.plugging
                    .renumbered(now, port, state.value.epoch, took_over);
            }
        }
        touched.switch |= fresh;
        ledger::write(&self.host, name, &switch.held, &touched, &mut out.writes);
        switch.took_in(message.revision);

        let there = self.there.get(name);
        let full = !matches!(message.state, FinalState::Partial { .. });
        // An overtaken one says nothing about what is there beside.
        let first_full = full && !switch.full_seen && message.revision >= switch.held.floor;
        let mut marks = switch.marks(there, &touched);
        if first_full {
            switch.full_seen = true;
            marks.extend(Parts::all(&switch.held, there));
        }
        let scope = switch.scope(message, &marks, there);
        switch.dirty.extend(marks);
        if full {
            self.greeting.arrived(name);
        }
        let mut again = match message.insist {
            true => self.rollback.try_again(name),
            false => Vec::new(),
        };
        again.extend(self.rollback.admitted(name, &switch.held));
        for port in again {
            match port {
                Some(port) => drop(switch.dirty.ports.insert(port)),
                None => switch.dirty.extend(Parts::all(&switch.held, there)),
            }
        }
        self.hear(name, out);
        self.enlist(now, asker, name, Question::Clobber { full }, scope, out);
    }

    /// Ports are to go.
    pub(super) fn remove(
        &mut self,
        now: Timestamp,
        message: &Remove,
        asker: Option<Arc<Asker>>,
        out: &mut Decision<Effect>,
    ) {
        let name = &message.switch;
        if let Err(refusal) = self.takes_part(name, message.store, &message.lineage) {
            return self.refuse_removal(asker, message, &refusal, out);
        }
        let (switch, fresh) = entry(&mut self.switches, name, message.store);
        let (mut touched, going) = match admit::remove(&mut switch.held, message) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse_removal(asker, message, &refusal, out),
        };
        touched.switch |= fresh;
        ledger::write(&self.host, name, &switch.held, &touched, &mut out.writes);
        for port in &message.ports {
            switch.took_in(port.revision);
        }
        let there = self.there.get(name);
        let parts = Parts {
            mirrors: switch.sessions_with(there, &going),
            ports: going,
            ..Parts::default()
        };
        switch.dirty.extend(switch.marks(there, &touched));
        switch.dirty.extend(parts.clone());
        switch.named_out.extend(parts.ports.iter().cloned());
        let scope = Scope::Parts(parts);
        self.hear(name, out);
        self.enlist(now, asker, name, Question::Remove, scope, out);
    }

    /// Whether the host may have to do with a switch of that store, if it
    /// knows nothing of it.
    pub(super) fn takes_part(
        &self,
        switch: &SwitchName,
        store: StoreId,
        lineage: &Lineage,
    ) -> Result<(), Refusal> {
        if self.switches.contains_key(switch) {
            return Ok(());
        }
        let followed = self.switches.values().map(|switch| switch.held.store);
        newcomer(followed, switch, store, lineage)
    }

    /// The newest commit that is known of a switch, or else of any: that shows
    /// which history the host follows.
    fn position(&self, switch: &SwitchName) -> Option<Position> {
        let of = self.switches.get(switch);
        let of = of.map(|switch| switch.held.position());
        of.or_else(|| self.positions().pop())
    }

    fn enlist(
        &mut self,
        now: Timestamp,
        asker: Option<Arc<Asker>>,
        switch: &SwitchName,
        question: Question,
        scope: Scope,
        out: &mut Decision<Effect>,
    ) {
        let waiter = asker.map(|asker| Waiter {
            asker,
            switch: switch.clone(),
            question,
            scope,
            patience: now.after(PATIENCE),
            writes: 0,
            stage: Stage::Plan,
        });
        let full = self.cycle.waiters() >= WAITERS_MAX;
        let (waiter, refused) = if full { (None, waiter) } else { (waiter, None) };
        self.cycle.wants_plan(now, waiter);
        if let Some(waiter) = refused {
            let of = self.switches.get(switch);
            let verdict = super::waiter::Verdict::failed(format!(
                "{WAITERS_MAX} messages wait for the datapath of this host; it will get there, \
                 ask again later"
            ));
            let asker = waiter.asker.clone();
            let answer = |session| waiter.answer((&self.host, session), of, verdict);
            self.reply(asker, answer, out);
        }
    }

    fn refuse(
        &self,
        asker: Option<Arc<Asker>>,
        switch: &SwitchName,
        refusal: &Refusal,
        out: &mut Decision<Effect>,
    ) {
        let Some(asker) = asker else { return };
        let of = self.switches.get(switch);
        let answer = |session| {
            Answer::Apply(ApplyReport {
                v: V1,
                host: self.host.clone(),
                session,
                switch: switch.clone(),
                observed: of.map(|switch| switch.observed).unwrap_or_default(),
                position: self.position(switch),
                outcome: ApplyOutcome::Failed {
                    message: refusal.to_string(),
                    ports: Vec::new(),
                },
            })
        };
        self.reply(asker, answer, out);
    }

    fn refuse_removal(
        &self,
        asker: Option<Arc<Asker>>,
        message: &Remove,
        refusal: &Refusal,
        out: &mut Decision<Effect>,
    ) {
        let Some(asker) = asker else { return };
        let failure = |port: &dvs_schemas::v1::RemovedPort| PortFailure {
            port: port.port.clone(),
            field: None,
            message: refusal.to_string(),
        };
        let answer = |session| {
            Answer::Remove(RemoveReport {
                v: V1,
                host: self.host.clone(),
                session,
                switch: message.switch.clone(),
                observed: self
                    .switches
                    .get(&message.switch)
                    .map(|switch| switch.observed)
                    .unwrap_or_default(),
                position: self.position(&message.switch),
                outcome: RemoveOutcome::Failed {
                    ports: message.ports.iter().map(failure).collect(),
                },
            })
        };
        self.reply(asker, answer, out);
    }
}

/// The switch, and whether nothing was known of it before.
fn entry<'a>(
    switches: &'a mut std::collections::BTreeMap<SwitchName, Switch>,
    name: &SwitchName,
    store: StoreId,
) -> (&'a mut Switch, bool) {
    match switches.entry(name.clone()) {
        Entry::Occupied(entry) => (entry.into_mut(), false),
        Entry::Vacant(entry) => (entry.insert(Switch::new(HeldSwitch::blank(store))), true),
    }
}

/// What a message would change in a copy of what is held.
pub(super) fn admitted_copy(
    held: Option<&HeldSwitch>,
    message: &Clobber,
) -> Result<(HeldSwitch, Touched), Refusal> {
    let blank = || HeldSwitch::blank(message.store);
    let mut held = held.cloned().unwrap_or_else(blank);
    let touched = admit::clobber(&mut held, message)?;
    Ok((held, touched))
}
