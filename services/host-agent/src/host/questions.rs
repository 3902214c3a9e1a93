// SPDX-License-Identifier: Apache-2.0
//! Questions that change nothing: what would a clobber do, and what does the
//! datapath say now; and counters that were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use dvs_ledger::Decision;
use dvs_schemas::v1::{
    Clobber, CountersOf, Fetch, Fetched, FinalState, Link, Live, LiveReply, Plan, PlanOutcome,
    PortRuntime, V1,
};
use dvs_schemas::{
    PortId, Problem, ProblemCode, RuntimeClass, RuntimeField, SessionId, SwitchName, Timestamp,
};

use super::admission::admitted_copy;
use super::messages::{Answer, Asker, HostEffect, LivePicture, RuntimeEvent};
use super::room::Room;
use super::switch::Switch;
use super::{Effect, HostCore};
use crate::changes::changes;
use crate::datapath::{DatapathError, Part};
use crate::plan::{MayRemove, Parts, plan};

/// What was found of one port; on its way from one switch to another it may be
/// there twice.
#[derive(Debug, Default)]
struct Found {
    states: Vec<PortRuntime>,
    counters: Vec<CountersOf>,
}

impl HostCore {
    /// What would a clobber change?
    pub(super) fn dry_run(&self, message: &Clobber, asker: Arc<Asker>, out: &mut Decision<Effect>) {
        let answer = |session| {
            Answer::Plan(Plan {
                v: V1,
                host: self.host.clone(),
                session,
                switch: message.switch.clone(),
                outcome: self.plan_outcome(message),
            })
        };
        self.reply(asker, answer, out);
    }

    fn plan_outcome(&self, message: &Clobber) -> PlanOutcome {
        let refused = |message: String| PlanOutcome::Refused { message };
        if self.cycle.is_unknown() {
            return refused("the datapath of this host is not read yet; ask again".to_owned());
        }
        let name = &message.switch;
        let switch = self.switches.get(name);
        let there = self.there.get(name);
        if let Err(refusal) = self.takes_part(name, message.store, &message.lineage) {
            return refused(refusal.to_string());
        }
        let held = match admitted_copy(switch.map(|switch| &switch.held), message) {
            Ok((held, _)) => held,
            Err(refusal) => return refused(refusal.to_string()),
        };
        let nothing = std::collections::BTreeSet::new();
        let may_remove = match (&message.state, switch) {
            (FinalState::Full { .. } | FinalState::Absent, _) => MayRemove::Anything,
            (FinalState::Partial { .. }, Some(switch)) => switch.may_remove(),
            (FinalState::Partial { .. }, None) => MayRemove::Only(&nothing),
        };
        let parts = Parts::all(&held, there);
        let stays = self.rollback.stays(name, &held);
        let planned = plan(name, &held, there, &parts, may_remove, &stays);
        match planned.stuck.first_key_value() {
            Some((port, why)) => refused(format!("port {port}: {why}")),
            None => PlanOutcome::Changes(planned.steps.iter().flat_map(changes).collect()),
        }
    }

    /// The datapath was read for somebody.
    pub(super) fn live_read(
        &mut self,
        now: Timestamp,
        asker: Arc<Asker>,
        question: &Live,
        outcome: Result<LivePicture, DatapathError>,
        out: &mut Decision<Effect>,
    ) {
        let Some(session) = self.standing.session() else {
            return;
        };
        let answer = match outcome {
            Ok(live) => self.live(now, session, question, live),
            Err(error) => Answer::Problem(
                Problem::new(ProblemCode::Unavailable, error.to_string())
                    .of(format_args!("host {}", self.host)),
            ),
        };
        self.effect(HostEffect::Answer { asker, answer }, out);
    }

    fn live(
        &mut self,
        now: Timestamp,
        session: SessionId,
        question: &Live,
        live: LivePicture,
    ) -> Answer {
        let LivePicture { picture, counters } = live;
        self.telling.read(&counters);
        let mut found: BTreeMap<PortId, Found> = BTreeMap::new();
        for (name, there) in &picture {
            let Some(switch) = self.switches.get(name) else {
                continue;
            };
            for id in there.ports.keys().filter(|id| question.wants(id)) {
                let newest = self.telling.newest(id);
                let Some(mut state) = switch.runtime(name, there, id, newest) else {
                    continue;
                };
                // What is held may be ahead of what is there.
                if let Some(newest) = newest {
                    state.group = newest.group.clone();
                    state.revision = newest.revision;
                }
                found.entry(id.clone()).or_default().states.push(state);
            }
        }
        if let (Some(port), true) = (&question.port, found.is_empty()) {
            let failing = Part::Port(port.clone());
            let fails = picture.values().any(|there| !there.is_whole(&failing));
            let (code, what) = if fails {
                (ProblemCode::Unavailable, "has never been as it is to be")
            } else {
                (ProblemCode::NotFound, "is not")
            };
            let why = format!("port {port} {what} on host {}", self.host);
            return Answer::Problem(Problem::new(code, why).at("port"));
        }
        for (_, of) in counters {
            let found = found.entry(of.port.clone()).or_default();
            found.counters.push(of);
        }
        let mut page = self.page(now, session, found);
        if question.port.is_none() && question.after.is_none() {
            page.conditions = Some(self.conditions.list());
        }
        for state in &page.ports {
            self.telling.shown(now, state, &mut self.chance);
        }
        Answer::Live(page)
    }

    /// The ports found, as far as one message has room for them.
    fn page(
        &self,
        now: Timestamp,
        session: SessionId,
        found: BTreeMap<PortId, Found>,
    ) -> LiveReply {
        let mut reply = LiveReply {
            v: V1,
            host: self.host.clone(),
            session,
            at: now,
            ports: Vec::new(),
            counters: Vec::new(),
            totals: Vec::new(),
            conditions: None,
            next: None,
        };
        let mut room = Room::new();
        let mut last = None;
        for (port, found) in found {
            if !room.take(&(&found.states, &found.counters)) {
                reply.next = last;
                break;
            }
            reply.ports.extend(found.states);
            reply.counters.extend(found.counters);
            last = Some(port);
        }
        reply
    }

    /// Says what a notice was about.
    pub(super) fn fetched(&self, question: &Fetch, asker: Arc<Asker>, out: &mut Decision<Effect>) {
        let Fetch {
            v: V1,
            session,
            seq,
        } = question;
        let event = self.telling.under_way(*session, *seq);
        let answer = match event.map(|event| &**event) {
            Some(RuntimeEvent::Changed(event)) => Answer::Fetched(Fetched::Changed(event.clone())),
            Some(RuntimeEvent::Settled(event)) => Answer::Fetched(Fetched::Settled(event.clone())),
            Some(RuntimeEvent::Conditions(event)) => {
                Answer::Fetched(Fetched::Conditions(event.clone()))
            }
            Some(RuntimeEvent::Notice(_)) | None => Answer::Problem(
                Problem::new(
                    ProblemCode::NotFound,
                    format!("event {seq} is not under way on host {}", self.host),
                )
                .at("seq")
                .allow("the event of the newest notice that is not acknowledged"),
            ),
        };
        self.effect(HostEffect::Answer { asker, answer }, out);
    }

    /// Counters were read, or not.
    pub(super) fn counted(
        &mut self,
        now: Timestamp,
        counted: Result<Vec<(SwitchName, CountersOf)>, DatapathError>,
    ) {
        let Ok(counted) = counted else {
            self.telling.not_counted(now);
            return;
        };
        let there = &self.there;
        let down = |switch: &SwitchName, port: &PortId| {
            there
                .get(switch)
                .and_then(|bridge| bridge.ports.get(port))
                .is_none_or(|plugged| plugged.link == Link::Down)
        };
        let switches = &self.switches;
        let class = |switch: &SwitchName| {
            let settings = switches.get(switch).map(Switch::runtime_settings);
            settings.map_or(RuntimeClass::Busy, |settings| {
                settings.class(RuntimeField::Counters)
            })
        };
        self.telling
            .looked(now, counted, down, class, &mut self.chance);
    }
}
