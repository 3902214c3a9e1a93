// SPDX-License-Identifier: Apache-2.0
//! What hosts tell of their ports: into the store, and into the history.

use dvs_ledger::{Decision, Writes};
use dvs_schemas::v1::{
    Changed, CountersOf, EventAck, EventNotice, Fetch, Fetched, PastEvent, PortGone, PortRuntime,
    Settled, Telling, ToldBy, V1,
};
use dvs_schemas::{Epoch, HostName, PortId, Problem, ProblemCode, Timestamp};

use super::doubting::{Part, Word};
use super::{Asked, Collector};
use crate::events::{Answer, Effect, Question, ReplyBody, ReplyToken};
use crate::hosts::Place;
use crate::record::{Stamp, Standing, Told};

/// How something was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    ByEvent,
    /// By an event that came before, or will come again, or came after its session
    /// was over.
    Repeated,
    BySnapshot,
    /// By the publisher, as the host was forgotten.
    Forgotten,
}

impl How {
    fn of(part: Part) -> Self {
        match part {
            Part::Certain => Self::Repeated,
            Part::Rest => Self::ByEvent,
        }
    }
}

impl Collector {
    pub(super) fn changed(
        &mut self,
        heard: Timestamp,
        event: Changed,
        part: Part,
        writes: &mut Writes,
    ) -> EventAck {
        let Changed {
            v: V1,
            host,
            session,
            seq,
            at,
            ports,
            gone,
        } = event;
        match self.place(&host, session, seq, part, writes) {
            Place::New => {
                let how = How::of(part);
                let by = Stamp {
                    host,
                    session,
                    seq,
                    at,
                    heard,
                };
                for state in ports {
                    self.here(&by, how, state, writes);
                }
                for gone in &gone {
                    self.gone(&by, how, gone, writes);
                }
            }
            // Either it is in the store, or a snapshot says what became of it.
            Place::Covered | Place::Past => {}
        }
        EventAck { v: V1, seq }
    }

    pub(super) fn settled(
        &mut self,
        heard: Timestamp,
        event: Settled,
        part: Part,
        writes: &mut Writes,
    ) -> EventAck {
        let Settled {
            v: V1,
            host,
            session,
            seq,
            at,
            counters,
        } = event;
        // Even those of a session that is over: they may be the last of a placement
        // that ended, which no snapshot has any more.
        let how = match self.place(&host, session, seq, part, writes) {
            Place::New => How::of(part),
            Place::Covered | Place::Past => How::Repeated,
        };
        let by = Stamp {
            host,
            session,
            seq,
            at,
            heard,
        };
        for of in &counters {
            self.count(&by, how, of, writes);
        }
        EventAck { v: V1, seq }
    }

    /// Fetches what a host gave notice of; acknowledged when it is there. At
    /// once if it is there already.
    pub(super) fn notice(
        &mut self,
        notice: EventNotice,
        reply: ReplyToken,
        out: &mut Decision<Effect>,
    ) -> Option<EventAck> {
        let EventNotice {
            v: V1,
            host,
            session,
            seq,
            at: _,
            ports: _,
        } = notice;
        // Of a session that is over, counters may be the last of a placement.
        let present = self
            .hosts
            .get(&host)
            .filter(|known| !known.is_past(session));
        if present.is_some_and(|known| known.has(session, seq)) {
            return Some(EventAck { v: V1, seq });
        }
        let question = Question::Fetch(Fetch {
            v: V1,
            session,
            seq,
        });
        let asked = Asked::Fetch {
            host: host.clone(),
            seq,
            reply,
        };
        self.ask(host, question, asked, out);
        None
    }

    /// Takes in what was fetched, as if the host had pushed it.
    pub(super) fn fetched(
        &mut self,
        now: Timestamp,
        host: &HostName,
        seq: u64,
        reply: ReplyToken,
        answer: Answer,
        out: &mut Decision<Effect>,
    ) {
        let why = match answer {
            Answer::Fetched(Fetched::Changed(event)) if event.host == *host && event.seq == seq => {
                return self.hear(now, Word::Changed { event, reply }, out);
            }
            Answer::Fetched(Fetched::Settled(event)) if event.host == *host && event.seq == seq => {
                return self.hear(now, Word::Settled { event, reply }, out);
            }
            Answer::Fetched(Fetched::Conditions(event))
                if event.host == *host && event.seq == seq =>
            {
                let ack = self.conditions_event(now, event, &mut out.writes);
                return out.effect(Effect::Reply {
                    to: reply,
                    result: Ok(ReplyBody::Ack(ack)),
                });
            }
            answer @ (Answer::Fetched(_)
            | Answer::Live(_)
            | Answer::Put(_)
            | Answer::Placements(_)
            | Answer::Refused(_)
            | Answer::TimedOut
            | Answer::NoResponder
            | Answer::NotSent(_)) => answer.why(),
        };
        let message = format!("event {seq} of host {host} could not be fetched: {why}");
        let problem =
            Problem::new(ProblemCode::Unavailable, message).allow("the same notice again");
        out.effect(Effect::Reply {
            to: reply,
            result: Err(problem),
        });
    }

    pub(super) fn here(&mut self, by: &Stamp, how: How, state: PortRuntime, writes: &mut Writes) {
        let (port, epoch) = (state.port.clone(), state.epoch);
        self.stale.clear(&by.host, &port, epoch);
        // It should go from there now.
        if let Some((host, switch, standing)) = self.store.standing(&port)
            && host != by.host
            && standing != epoch
        {
            let (host, epoch) = if standing < epoch {
                (host, standing)
            } else {
                (by.host.clone(), epoch)
            };
            self.stale
                .suspect(by.heard, host, port.clone(), switch, epoch);
        }
        let telling = Telling::State(state.clone());
        let told = Told {
            by: by.clone(),
            value: Standing::Here(state),
        };
        let news = self.store.tell(&port, epoch, told, writes);
        self.remember(by, how, news, &port, epoch, telling, writes);
    }

    pub(super) fn gone(&mut self, by: &Stamp, how: How, gone: &PortGone, writes: &mut Writes) {
        let PortGone { port, epoch } = gone;
        self.stale.clear(&by.host, port, *epoch);
        let told = Told {
            by: by.clone(),
            value: Standing::Gone,
        };
        let news = self.store.tell(port, *epoch, told, writes);
        self.remember(by, how, news, port, *epoch, Telling::Gone, writes);
    }

    pub(super) fn count(&mut self, by: &Stamp, how: How, of: &CountersOf, writes: &mut Writes) {
        let CountersOf {
            port,
            epoch,
            counters,
        } = of;
        let told = Told {
            by: by.clone(),
            value: *counters,
        };
        let news = self.store.count(port, *epoch, told, writes);
        let telling = Telling::Counters(*counters);
        self.remember(by, how, news, port, *epoch, telling, writes);
    }

    /// Keeps what was told for whoever debugs. What says nothing new is kept
    /// only if a host thought that it does.
    #[expect(
        clippy::too_many_arguments,
        reason = "one telling, taken apart already"
    )]
    fn remember(
        &mut self,
        by: &Stamp,
        how: How,
        news: bool,
        port: &PortId,
        epoch: Epoch,
        told: Telling,
        writes: &mut Writes,
    ) {
        let by_whom = match how {
            How::ByEvent => ToldBy::Event,
            How::Repeated if news => ToldBy::Event,
            How::BySnapshot if news => ToldBy::Snapshot,
            How::Forgotten => ToldBy::Forgotten,
            How::Repeated | How::BySnapshot => return,
        };
        let host = &by.host;
        if !news && let Some(more) = self.late_lines.line(by.heard, host) {
            tracing::info!(%host, %port, %epoch, more, "reported what is over or known; nothing changes");
        }
        let event = PastEvent {
            heard: by.heard,
            at: by.at,
            host: by.host.clone(),
            epoch,
            by: by_whom,
            news,
            told,
        };
        self.history.note(port, event, writes);
    }
}
