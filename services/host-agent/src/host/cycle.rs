// SPDX-License-Identifier: Apache-2.0
//! Bringing the datapath to what is held: read it, plan, apply, plan again.
//! One call to the datapath is under way at most; what comes meanwhile waits
//! for the next plan, so a slow datapath skips states instead of queueing them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dvs_ledger::Decision;
use dvs_schemas::{PortId, SwitchName, Timestamp};

use super::messages::HostEffect;
use super::switch::Hearing;
use super::waiter::{Failures, Question, Stage, Verdict, Waiter};
use super::{Effect, HostCore, held_port};
use crate::backoff::Backoff;
use crate::datapath::{
    Applied, Bridge, DatapathError, NotApplied, Part, Picture, Step, StepFailure,
};
use crate::plan::{Parts, plan};

/// Between tries of a datapath that fails while nobody asks: the host has to
/// get there alone when the bus is gone.
const FAILED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

/// Where the cycle is.
#[derive(Debug)]
enum Phase {
    /// The datapath may be other than thought; it is read at the retry.
    Unread,
    /// It is being read.
    Reading,
    /// It is known, and nothing is under way.
    Idle,
    /// These steps are under way.
    Applying(Arc<[Step]>),
}

/// The cycle of one host.
#[derive(Debug)]
pub(super) struct Cycle {
    phase: Phase,
    /// Whether the picture of the datapath is, as far as anybody knows, what is
    /// there.
    known: bool,
    /// Number of the newest apply.
    number: u64,
    /// Failed calls in a row.
    attempt: u32,
    /// When to try again.
    retry: Option<Timestamp>,
    /// Whether something happened since the last plan.
    stale: bool,
    /// Whether what is being read or changed was disturbed meanwhile.
    disturbed: bool,
    waiters: Vec<Waiter>,
}

impl Cycle {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Unread,
            known: false,
            number: 0,
            attempt: 0,
            retry: Some(Timestamp(0)),
            stale: false,
            disturbed: false,
            waiters: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn is_unknown(&self) -> bool {
        !self.known
    }

    pub(super) fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// The state held changed, or somebody asks. A datapath that could not be
    /// read is tried at once: whoever asks is told how it stands now.
    pub(super) fn wants_plan(&mut self, now: Timestamp, waiter: Option<Waiter>) {
        self.stale = true;
        self.waiters.extend(waiter);
        if let Phase::Unread = self.phase {
            self.retry = Some(now);
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let patience = self
            .waiters
            .iter()
            .filter(|waiter| self.is_idle() && waiter.stage == Stage::Plan)
            .map(|waiter| waiter.patience);
        self.retry.into_iter().chain(patience).min()
    }

    /// True if the datapath is to be read now.
    pub(super) fn wake(&mut self, now: Timestamp) -> bool {
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
        }
        self.stale = true;
        let read = matches!(self.phase, Phase::Unread);
        if read {
            self.phase = Phase::Reading;
        }
        read
    }

    /// Somebody else wrote to the datapath, or it is there again. True if it is
    /// to be read now.
    pub(super) fn disturbed(&mut self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Unread => {
                self.retry = Some(now);
                false
            }
            Phase::Reading | Phase::Applying(_) => {
                self.disturbed = true;
                false
            }
            Phase::Idle => {
                self.phase = Phase::Reading;
                true
            }
        }
    }

    /// A step was written: that counts for those who wait for it.
    pub(super) fn count_write(&mut self, step: &Step) {
        for waiter in &mut self.waiters {
            if waiter.stage == Stage::Apply
                && step.switch == waiter.switch
                && waiter.scope.covers(&step.write.part())
            {
                waiter.writes += 1;
            }
        }
    }

    /// Nobody asks any more.
    pub(super) fn forget_askers(&mut self) {
        self.waiters.clear();
    }

    /// Nothing of the last apply was carried out, so all is as it was before the
    /// plan.
    pub(super) fn plans_again(&mut self) {
        self.stale = true;
        for waiter in &mut self.waiters {
            if waiter.stage == Stage::Apply {
                waiter.stage = Stage::Plan;
            }
        }
    }

    fn try_again(&mut self, now: Timestamp, chance: &mut fastrand::Rng) {
        self.attempt = self.attempt.saturating_add(1);
        self.retry = Some(now.after(FAILED.wait(self.attempt, chance)));
    }
}

impl HostCore {
    /// The datapath was read, or not.
    pub(super) fn read(
        &mut self,
        now: Timestamp,
        picture: Result<Picture, DatapathError>,
        out: &mut Decision<Effect>,
    ) {
        if !matches!(self.cycle.phase, Phase::Reading) {
            return;
        }
        if std::mem::take(&mut self.cycle.disturbed) {
            self.effect(HostEffect::Read, out);
            return;
        }
        match picture {
            Err(error) => {
                self.cycle.phase = Phase::Unread;
                self.cycle.known = false;
                self.cycle.try_again(now, &mut self.chance);
                self.fail_all(&error, out);
                self.greeting.looked(now, false);
            }
            Ok(picture) => {
                let strays = |name: &&SwitchName| {
                    !self.switches.contains_key(*name) && !self.there.contains_key(*name)
                };
                // What is in force no more nobody would ask about.
                let fails = |(name, bridge): (&SwitchName, &Bridge)| {
                    let switch = self.switches.get(name);
                    !bridge.is_whole(&Part::Bridge) && switch.is_some_and(|s| !s.dirty.bridge)
                };
                let news = picture.keys().any(|name| strays(&name)) || picture.iter().any(fails);
                self.there = picture;
                for (name, switch) in &mut self.switches {
                    switch.dirty = Parts::all(&switch.held, self.there.get(name));
                }
                self.cycle.phase = Phase::Idle;
                self.cycle.known = true;
                self.cycle.retry = None;
                self.cycle.stale = true;
                self.greeting.looked(now, news);
                self.tell_ended(now, None);
                self.plugging.read(now);
            }
        }
    }

    /// Plans if there is reason to, and begins the next apply. Of a host that is
    /// another agent's only what cut it off is undone; the rest stays owed.
    pub(super) fn advance(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        let refused = self.standing.is_refused();
        if (refused && !self.rollback.is_rolling_back())
            || !self.cycle.is_idle()
            || !std::mem::take(&mut self.cycle.stale)
        {
            return;
        }
        self.cycle.retry = None;
        self.look_at_mirrors(now);
        let switches = &self.switches;
        let held = |port: &PortId| held_port(switches, port).is_some();
        self.plugging.holds(now, held, &mut self.chance);
        let mut steps = Vec::new();
        let mut clean = Vec::new();
        for (name, switch) in &mut self.switches {
            switch.planned = switch.admitted;
            let there = self.there.get(name);
            switch
                .named_out
                .retain(|port| there.is_some_and(|bridge| bridge.ports.contains_key(port)));
            if !switch.dirty.is_empty() {
                let dirty = std::mem::take(&mut switch.dirty);
                let stays = self.rollback.stays(name, &switch.held);
                let may_remove = switch.may_remove();
                let mut plan = plan(name, &switch.held, there, &dirty, may_remove, &stays);
                clean.extend(clean_ports(name, dirty, &plan.steps));
                if refused {
                    let rollback = &self.rollback;
                    let owed = plan.steps.extract_if(.., |step| !rollback.undoes(step));
                    let owed = owed.map(|step| step.write.part());
                    owed.for_each(|part| switch.dirty.insert(part));
                }
                switch.dirty.ports.extend(plan.stuck.keys().cloned());
                switch.stuck = plan.stuck;
                if !plan.steps.is_empty() {
                    steps.extend(plan.steps);
                    continue;
                }
            }
            let is_whole =
                switch.stuck.is_empty() && !self.rollback.is_rolled_back(name, &switch.held);
            if is_whole && !refused {
                switch.observed = switch.planned;
            }
        }
        self.begins(now, &steps, out);
        for (switch, port) in clean {
            self.tell(now, &switch, &port);
        }
        self.consult(now, &steps);
        if steps.is_empty() {
            self.cycle.attempt = 0;
        } else {
            let steps: Arc<[Step]> = steps.into();
            self.cycle.number += 1;
            self.cycle.phase = Phase::Applying(steps.clone());
            let effect = HostEffect::Apply {
                number: self.cycle.number,
                steps,
                guarded: self.rollback.guarded().clone(),
            };
            self.effect(effect, out);
        }
        self.answer(out);
    }

    /// Holds a new plan against what the askers wait for.
    fn consult(&mut self, now: Timestamp, steps: &[Step]) {
        for waiter in &mut self.cycle.waiters {
            if waiter.stage != Stage::Plan {
                continue;
            }
            let covered = |step: &&Step| {
                step.switch == waiter.switch && waiter.scope.covers(&step.write.part())
            };
            if steps.iter().any(|step| covered(&step)) {
                waiter.stage = Stage::Apply;
            } else if let Some(switch) = self.switches.get(&waiter.switch) {
                let rolled_back = self.rollback.why(&waiter.switch, &switch.held);
                waiter.judge(now, None, &switch.stuck, rolled_back);
            }
        }
    }

    /// An apply is over.
    pub(super) fn applied(
        &mut self,
        now: Timestamp,
        number: u64,
        Applied {
            steps: outcome,
            ended,
        }: Applied,
        out: &mut Decision<Effect>,
    ) {
        // Whatever became of the steps, and whoever waits for them.
        for (switch, of) in ended {
            self.telling.settled(now, &switch, of, &mut self.chance);
        }
        if number != self.cycle.number {
            return;
        }
        let steps = match std::mem::replace(&mut self.cycle.phase, Phase::Idle) {
            Phase::Applying(steps) => steps,
            other @ (Phase::Unread | Phase::Reading | Phase::Idle) => {
                self.cycle.phase = other;
                return;
            }
        };
        let failures = match outcome {
            Ok(results) => self.take_results(now, &steps, results, out),
            Err(NotApplied::Unguarded(ports)) if self.holds_back(&steps, ports.clone()) => {
                if std::mem::take(&mut self.cycle.disturbed) && self.cycle.disturbed(now) {
                    self.effect(HostEffect::Read, out);
                }
                return;
            }
            Err(error @ (NotApplied::Unguarded(_) | NotApplied::Unknown(_))) => {
                // Nobody knows which of the steps were carried out.
                self.cycle.known = false;
                failed_wholly(&steps, &error)
            }
        };
        if failures.is_empty() {
            self.cycle.attempt = 0;
        } else {
            // What failed may have failed because something else is there than
            // was thought; so the next try looks first.
            self.cycle.phase = Phase::Unread;
            self.cycle.try_again(now, &mut self.chance);
        }
        for step in steps.iter() {
            let Some(switch) = self.switches.get_mut(&step.switch) else {
                continue;
            };
            match failures.get(&step.switch) {
                Some(failures) => {
                    let part = step.write.part();
                    if failures.parts.contains_key(&part) {
                        switch.dirty.insert(part);
                    }
                }
                None if switch.stuck.is_empty()
                    && !self.rollback.is_rolled_back(&step.switch, &switch.held) =>
                {
                    switch.observed = switch.planned;
                }
                None => {}
            }
        }
        self.tried(now, &steps, &failures, out);
        self.conclude(now, &failures);
        if std::mem::take(&mut self.cycle.disturbed) && self.cycle.disturbed(now) {
            self.effect(HostEffect::Read, out);
        }
        self.answer(out);
    }

    /// Gives the askers that waited for an apply their verdict.
    fn conclude(&mut self, now: Timestamp, failures: &BTreeMap<SwitchName, Failures>) {
        for waiter in &mut self.cycle.waiters {
            if waiter.stage == Stage::Apply
                && let Some(switch) = self.switches.get(&waiter.switch)
            {
                let rolled_back = self.rollback.why(&waiter.switch, &switch.held);
                let failures = failures.get(&waiter.switch);
                waiter.judge(now, failures, &switch.stuck, rolled_back);
            }
        }
    }

    /// Fails all askers: the datapath can't be reached.
    fn fail_all(&mut self, error: &DatapathError, out: &mut Decision<Effect>) {
        for waiter in &mut self.cycle.waiters {
            if waiter.stage == Stage::Plan {
                waiter.stage = Stage::Over(Verdict::failed(error.to_string()));
            }
        }
        self.answer(out);
    }

    /// The switch's subject is heard now: who waited for that is answered.
    pub(super) fn answer_heard(&mut self, switch: &SwitchName, out: &mut Decision<Effect>) {
        for waiter in &mut self.cycle.waiters {
            if waiter.switch == *switch
                && let Stage::Hearing(verdict) = &waiter.stage
            {
                waiter.stage = Stage::Over(verdict.clone());
            }
        }
        self.answer(out);
    }

    /// Answers the askers whose verdict is there.
    fn answer(&mut self, out: &mut Decision<Effect>) {
        let is_over = |waiter: &mut Waiter| matches!(waiter.stage, Stage::Over(_));
        let over: Vec<Waiter> = self.cycle.waiters.extract_if(.., is_over).collect();
        for mut waiter in over {
            let Stage::Over(verdict) = std::mem::replace(&mut waiter.stage, Stage::Plan) else {
                continue;
            };
            let switch = self.switches.get(&waiter.switch);
            let unheard = switch.is_some_and(|s| s.wants_hearing() && s.hearing != Hearing::Yes);
            if waiter.question == (Question::Clobber { full: true })
                && matches!(verdict, Verdict::Applied(_))
                && unheard
            {
                waiter.stage = Stage::Hearing(verdict);
                self.cycle.waiters.push(waiter);
                continue;
            }
            let answer = self
                .standing
                .session()
                .map(|session| waiter.answer((&self.host, session), switch, verdict.clone()));
            if let Some(switch) = self.switches.get_mut(&waiter.switch)
                && let Question::Clobber { full } = waiter.question
            {
                switch.failed = match verdict {
                    // A part says nothing of what failed before, and for which
                    // the host is in the queue still.
                    Verdict::Applied(_) => switch.failed && !full,
                    Verdict::Failed { .. } => true,
                };
            }
            let asker = waiter.asker;
            if let Some(answer) = answer {
                self.effect(HostEffect::Answer { asker, answer }, out);
            }
        }
    }
}

/// The ports that were looked at and need nothing.
fn clean_ports(
    switch: &SwitchName,
    dirty: Parts,
    steps: &[Step],
) -> impl Iterator<Item = (SwitchName, PortId)> {
    let written: BTreeSet<Part> = steps.iter().map(|step| step.write.part()).collect();
    let ports = dirty.ports.into_iter();
    let clean = ports.filter(move |port| !written.contains(&Part::Port(port.clone())));
    clean.map(|port| (switch.clone(), port))
}

fn failed_wholly(steps: &[Step], error: &NotApplied) -> BTreeMap<SwitchName, Failures> {
    let mut failures: BTreeMap<SwitchName, Failures> = BTreeMap::new();
    for step in steps {
        let failure = StepFailure::new(None, error.to_string());
        let of_switch = failures.entry(step.switch.clone()).or_default();
        of_switch.parts.insert(step.write.part(), failure);
    }
    failures
}
