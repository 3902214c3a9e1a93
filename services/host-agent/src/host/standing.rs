// SPDX-License-Identifier: Apache-2.0
//! Whether this agent is its host's, as the publisher says in its answer to the
//! hello. Two agents of one name are on the same subjects; the one that is the
//! host's answers there, and the other one says and changes nothing.

use std::sync::Arc;

use dvs_ledger::Decision;
use dvs_schemas::v1::{HelloReply, Identified, Identify, V1};
use dvs_schemas::{SessionId, Timestamp};

use super::messages::{Answer, AskFailure, Asker, HostEffect, HostEvent};
use super::{Effect, HostCore, held_port};

/// Questions that wait until it is known whether this agent is to answer. That
/// takes a second after a start; who asked waits for some seconds only, so what
/// comes beyond would be late anyway.
const WAITING: usize = 256;

/// Whether the agent is its host's.
#[derive(Debug)]
pub(super) struct Standing {
    stage: Stage,
    /// The last session that it was in.
    last: Option<SessionId>,
    /// Who was asked for last while it was in none: the answer to its hello may
    /// be on its way, and say that this is it.
    asked: Option<(Identify, Option<Arc<Asker>>)>,
}

#[derive(Debug)]
enum Stage {
    /// Nobody has said. What is asked meanwhile waits.
    Unknown(Vec<HostEvent>),
    /// It is, in this session.
    Accepted(SessionId),
    /// Another agent is. What is wired stays as it is.
    Refused,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Unknown(Vec::new()),
            last: None,
            asked: None,
        }
    }

    /// The session that it is in.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Accepted(session) => Some(session),
            Stage::Unknown(_) | Stage::Refused => None,
        }
    }

    /// The last session that it was in.
    pub(super) fn last(&self) -> Option<SessionId> {
        self.last
    }

    /// Whether another agent is its host's.
    pub(super) fn is_refused(&self) -> bool {
        match self.stage {
            Stage::Refused => true,
            Stage::Unknown(_) | Stage::Accepted(_) => false,
        }
    }

    /// What of an event is for this agent, and now.
    fn admit(&mut self, event: HostEvent) -> Option<HostEvent> {
        let is_asked = match &event {
            HostEvent::Clobber { .. }
            | HostEvent::Remove { .. }
            | HostEvent::Plan { .. }
            | HostEvent::Live { .. }
            | HostEvent::Fetch { .. }
            | HostEvent::Yield(_) => true,
            HostEvent::Connected
            | HostEvent::Disconnected
            | HostEvent::Stopping
            | HostEvent::Subscribed(_)
            | HostEvent::Identify { .. }
            | HostEvent::Read(_)
            | HostEvent::Applied { .. }
            | HostEvent::Counted(_)
            | HostEvent::LiveRead { .. }
            | HostEvent::Noticed(_)
            | HostEvent::Probed(_)
            | HostEvent::Greeted(_)
            | HostEvent::Claimed { .. }
            | HostEvent::Released { .. }
            | HostEvent::Acknowledged { .. } => false,
        };
        match &mut self.stage {
            Stage::Unknown(waiting) if is_asked => {
                if waiting.len() < WAITING {
                    waiting.push(event);
                }
                None
            }
            Stage::Refused if is_asked => None,
            Stage::Unknown(_) | Stage::Refused | Stage::Accepted(_) => Some(event),
        }
    }
}

impl HostCore {
    /// Takes an event in, unless it is to wait, or another agent's.
    pub(super) fn admit(&mut self, now: Timestamp, event: HostEvent, out: &mut Decision<Effect>) {
        if let Some(event) = self.standing.admit(event) {
            self.take(now, event, out);
        }
    }

    /// The hello was answered, or not.
    pub(super) fn greeted(
        &mut self,
        now: Timestamp,
        answer: Result<HelloReply, AskFailure>,
        out: &mut Decision<Effect>,
    ) {
        match &answer {
            Ok(reply) => self.accepted(now, reply.session, out),
            Err(AskFailure::Namesake(why)) => self.refused(why),
            Err(AskFailure::NotDone(_) | AskFailure::MaybeDone(_)) => {}
        }
        self.greeting.answered(now, answer.ok(), &mut self.chance);
    }

    fn accepted(&mut self, now: Timestamp, session: SessionId, out: &mut Decision<Effect>) {
        let waiting = match std::mem::replace(&mut self.standing.stage, Stage::Accepted(session)) {
            Stage::Unknown(waiting) => waiting,
            Stage::Accepted(_) => Vec::new(),
            Stage::Refused => {
                tracing::info!(host = %self.host, %session, "this agent is its host's now");
                // What was held back meanwhile.
                self.cycle.wants_plan(now, None);
                Vec::new()
            }
        };
        self.standing.last = Some(session);
        self.telling.begin(session);
        self.tell_drift(out);
        let switches = &self.switches;
        self.plugging
            .greeted(now, |port| held_port(switches, port).is_some());
        if let Some((message, asker)) = self.standing.asked.take() {
            self.identify(now, message, asker, out);
        }
        for event in waiting {
            self.admit(now, event, out);
        }
    }

    fn refused(&mut self, why: &str) {
        if !self.standing.is_refused() {
            tracing::error!(
                host = %self.host,
                "this agent takes in no configuration, and asks again: {why}"
            );
        }
        self.standing.stage = Stage::Refused;
        self.cycle.forget_askers();
    }

    /// Another agent became its host's while this one was silent; or the
    /// publisher doesn't know of this one any more. A hello brings it to light.
    pub(super) fn superseded(&mut self, now: Timestamp) {
        match self.standing.stage {
            Stage::Accepted(session) => {
                tracing::warn!(host = %self.host, %session, "its session is over; saying hello");
                self.standing.stage = Stage::Unknown(Vec::new());
                self.greeting.at_once(now);
            }
            Stage::Unknown(_) | Stage::Refused => {}
        }
    }

    /// Somebody asks for the agent of a session.
    pub(super) fn identify(
        &mut self,
        now: Timestamp,
        message: Identify,
        asker: Option<Arc<Asker>>,
        out: &mut Decision<Effect>,
    ) {
        let Some(present) = self.standing.session() else {
            self.standing.asked = Some((message, asker));
            return;
        };
        let Identify { v: V1, session } = message;
        if present < session {
            self.superseded(now);
        } else if let (true, Some(asker)) = (present == session, asker) {
            let answer = Answer::Identified(Identified {
                v: V1,
                host: self.host.clone(),
                session,
            });
            self.effect(HostEffect::Answer { asker, answer }, out);
        }
    }

    /// Answers a question in the present session. Without one another agent
    /// answers it.
    pub(super) fn reply(
        &self,
        asker: Arc<Asker>,
        answer: impl FnOnce(SessionId) -> Answer,
        out: &mut Decision<Effect>,
    ) {
        if let Some(session) = self.standing.session() {
            let answer = answer(session);
            self.effect(HostEffect::Answer { asker, answer }, out);
        }
    }
}
