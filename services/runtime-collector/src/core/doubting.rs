// SPDX-License-Identifier: Apache-2.0
//! Hosts that tell of a newer placement than is known of a port. Where a port
//! is only the publisher knows, so its word comes before the host's: such a
//! telling waits, and what was never so is left out. What is in no doubt is
//! taken at once, or it would be unknown for as long as the publisher is away.
//! The event isn't there for that: its host says it again.
//!
//! The first sight of a port is believed: a fleet that starts tells of all its
//! ports at once. Else placements are rare, and need the publisher anyway.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ledger::Decision;
use dvs_schemas::v1::{Changed, LiveReply, Placement, PlacementsRequest, Settled, V1};
use dvs_schemas::{Epoch, HostName, PortId, Problem, ProblemCode, Timestamp};

use super::snapshots::Page;
use super::{Asked, Collector};
use crate::events::{Answer, Effect, ReplyBody, ReplyToken};
use crate::hosts::Wanted;
use crate::store::Store;

/// Most events that wait for the publisher at once, one of each host: it has
/// one under way. Hosts fill an event to 64 KiB, so they take 16 MiB; who finds
/// no place tells it again. Pages wait in the places of their snapshots.
pub const DOUBTED: usize = 256;

/// What a host says of its ports.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Changed {
        event: Changed,
        reply: ReplyToken,
    },
    Settled {
        event: Settled,
        reply: ReplyToken,
    },
    /// A page of a snapshot, of the ports after one.
    Page {
        host: HostName,
        wanted: Wanted,
        after: Option<PortId>,
        page: LiveReply,
        /// The ports that it found, whatever is left out of it.
        found: BTreeSet<PortId>,
    },
}

/// Which part of a word is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What is in no doubt, ahead of the rest: the host says it again.
    Certain,
    /// All of it, or what is left: the host need not say it again.
    Rest,
}

impl Word {
    pub(super) fn host(&self) -> &HostName {
        match self {
            Self::Changed { event, .. } => &event.host,
            Self::Settled { event, .. } => &event.host,
            Self::Page { host, .. } => host,
        }
    }

    /// The ports that it speaks of, each time in which placement.
    fn tellings(&self) -> Vec<(&PortId, Epoch)> {
        match self {
            Self::Changed { event, .. } => {
                let here = event.ports.iter().map(|state| (&state.port, state.epoch));
                let gone = event.gone.iter().map(|gone| (&gone.port, gone.epoch));
                here.chain(gone).collect()
            }
            Self::Settled { event, .. } => {
                let counters = event.counters.iter();
                counters.map(|of| (&of.port, of.epoch)).collect()
            }
            Self::Page { page, .. } => {
                let here = page.ports.iter().map(|state| (&state.port, state.epoch));
                let counters = page.counters.iter().map(|of| (&of.port, of.epoch));
                here.chain(counters).collect()
            }
        }
    }

    /// Those of them that are in doubt: in a newer placement than is known.
    fn doubts(&self, store: &Store) -> BTreeSet<(PortId, Epoch)> {
        let newer = |port, epoch| store.epoch_of(port).is_some_and(|known| known < epoch);
        let tellings = self.tellings().into_iter();
        tellings
            .filter(|(port, epoch)| newer(port, *epoch))
            .map(|(port, epoch)| (port.clone(), epoch))
            .collect()
    }

    /// Leaves out all but what is to be kept.
    fn retain(&mut self, mut keep: impl FnMut(&PortId, Epoch) -> bool) {
        match self {
            Self::Changed { event, .. } => {
                event.ports.retain(|state| keep(&state.port, state.epoch));
                event.gone.retain(|gone| keep(&gone.port, gone.epoch));
            }
            Self::Settled { event, .. } => {
                event.counters.retain(|of| keep(&of.port, of.epoch));
            }
            Self::Page { page, .. } => {
                page.ports.retain(|state| keep(&state.port, state.epoch));
                page.counters.retain(|of| keep(&of.port, of.epoch));
            }
        }
    }
}

/// Whether a host may have held a port in an epoch, by where the port is now.
/// What is older than that, or of a port that was deleted meanwhile or is made
/// anew and nowhere yet, is late news: the commits before are not known any
/// more.
fn may_be_so(host: &HostName, epoch: Epoch, now: Option<&Placement>) -> bool {
    now.is_none_or(|now| {
        epoch < now.epoch || (epoch == now.epoch && now.host.as_ref() == Some(host))
    })
}

impl Collector {
    /// Takes in what a host says: at once, or what is in doubt of it once the
    /// publisher has answered.
    pub(super) fn hear(&mut self, now: Timestamp, mut word: Word, out: &mut Decision<Effect>) {
        if self.says_nothing(&word) {
            return self.take(now, word, Part::Rest, out);
        }
        let doubts = word.doubts(&self.store);
        if doubts.is_empty() {
            return self.take(now, word, Part::Rest, out);
        }
        let mut certain = word.clone();
        certain.retain(|port, epoch| !doubts.contains(&(port.clone(), epoch)));
        self.take(now, certain, Part::Certain, out);
        word.retain(|port, epoch| doubts.contains(&(port.clone(), epoch)));
        match &word {
            Word::Page { .. } => self.snapshots += 1,
            Word::Changed { .. } | Word::Settled { .. } => {
                let full = self.doubted.len() >= DOUBTED;
                if full || !self.doubted.insert(word.host().clone()) {
                    return self.put_off(word, "too much waits for the publisher already", out);
                }
            }
        }
        let ports: BTreeSet<PortId> = doubts.into_iter().map(|(port, _)| port).collect();
        let request = PlacementsRequest {
            v: V1,
            ports: ports.into_iter().collect(),
        };
        let ask = self.next_ask(Asked::Placements(word));
        out.effect(Effect::Placements { ask, request });
    }

    /// Whether it is acknowledged, and nothing of it is stored.
    fn says_nothing(&self, word: &Word) -> bool {
        match word {
            Word::Changed { event, .. } => {
                let known = self.hosts.get(&event.host);
                known.is_some_and(|known| known.has(event.session, event.seq))
            }
            Word::Settled { .. } | Word::Page { .. } => false,
        }
    }

    /// Takes in what a host said, but for what the publisher says was never so.
    pub(super) fn placements(
        &mut self,
        now: Timestamp,
        mut word: Word,
        answer: Answer,
        out: &mut Decision<Effect>,
    ) {
        match &word {
            Word::Page { .. } => self.snapshots -= 1,
            Word::Changed { .. } | Word::Settled { .. } => {
                self.doubted.remove(word.host());
            }
        }
        let reply = match answer {
            Answer::Placements(reply) => reply,
            answer @ (Answer::Live(_)
            | Answer::Fetched(_)
            | Answer::Put(_)
            | Answer::Refused(_)
            | Answer::TimedOut
            | Answer::NoResponder
            | Answer::NotSent(_)) => {
                let why = format!("the publisher can't be asked about it: {}", answer.why());
                return self.put_off(word, &why, out);
            }
        };
        let placements = reply.placements.iter();
        let placements: BTreeMap<_, _> = placements.map(|at| (&at.port, at)).collect();
        let host = word.host().clone();
        // Not only what is in doubt still: the answer is about all of it.
        let lines = &mut self.false_lines;
        word.retain(|port, epoch| {
            let so = may_be_so(&host, epoch, placements.get(port).copied());
            if !so && let Some(more) = lines.line(now, &host) {
                tracing::warn!(%host, %port, %epoch, more, "reported a placement that never was; nothing changes");
            }
            so
        });
        self.take(now, word, Part::Rest, out);
    }

    fn take(&mut self, now: Timestamp, word: Word, part: Part, out: &mut Decision<Effect>) {
        let (to, ack) = match word {
            Word::Changed { event, reply } => {
                (reply, self.changed(now, event, part, &mut out.writes))
            }
            Word::Settled { event, reply } => {
                (reply, self.settled(now, event, part, &mut out.writes))
            }
            Word::Page {
                host,
                wanted,
                after,
                page,
                found,
            } => {
                let page = Page::new(after, page, found);
                return self.page(now, &host, wanted, page, part, out);
            }
        };
        match part {
            Part::Certain => {}
            Part::Rest => out.effect(Effect::Reply {
                to,
                result: Ok(ReplyBody::Ack(ack)),
            }),
        }
    }

    /// Leaves it to the host to say it again: it repeats what is not
    /// acknowledged, and its next heartbeat shows a gap that stays.
    fn put_off(&mut self, word: Word, why: &str, out: &mut Decision<Effect>) {
        let (to, host, seq) = match word {
            Word::Changed { event, reply } => (reply, event.host, event.seq),
            Word::Settled { event, reply } => (reply, event.host, event.seq),
            Word::Page { host, .. } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.not_answered();
                }
                return;
            }
        };
        let message = format!("event {seq} of host {host} could not be taken: {why}");
        let problem = Problem::new(ProblemCode::Unavailable, message).allow("the same event again");
        out.effect(Effect::Reply {
            to,
            result: Err(problem),
        });
    }
}
