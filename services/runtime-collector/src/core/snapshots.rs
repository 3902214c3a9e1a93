// SPDX-License-Identifier: Apache-2.0
//! Gaps that heartbeats show, filled from snapshots: what a host has, page by
//! page.

use std::collections::BTreeSet;

use dvs_ledger::{Decision, Writes};
use dvs_schemas::v1::{
    ConditionList, CountersOf, Heartbeat, Live, LiveReply, PortGone, PortRuntime, V1,
};
use dvs_schemas::{HostName, PortId, Timestamp};

use super::doubting::{Part, Word};
use super::telling::How;
use super::{Asked, Collector};
use crate::events::{Answer, Effect, Question};
use crate::hosts::Wanted;
use crate::record::Stamp;

/// Most snapshots that are waited for at once. After the loss of the bus all
/// hosts need one within a heartbeat; pages of 64 KiB each then take 16 MiB at
/// most, and who finds no place asks at its next heartbeat.
pub const SNAPSHOTS: usize = 256;

impl Collector {
    pub(super) fn heartbeat(&mut self, heartbeat: &Heartbeat, out: &mut Decision<Effect>) {
        let Heartbeat {
            v: V1,
            host: name,
            session,
            seq,
            interval_ms: _,
            last: _,
            observed: _,
            positions: _,
        } = heartbeat;
        let full = self.snapshots >= SNAPSHOTS;
        let host = self.host(name, *session);
        let wanted = host.heartbeat(*session, *seq);
        host.write(name, &mut out.writes);
        let Some(wanted) = wanted.filter(|_| !full) else {
            return;
        };
        host.asked();
        self.snapshots += 1;
        self.ask_for_page(name.clone(), wanted, None, out);
    }

    fn ask_for_page(
        &mut self,
        host: HostName,
        wanted: Wanted,
        after: Option<PortId>,
        out: &mut Decision<Effect>,
    ) {
        let request = Question::Live(Live {
            v: V1,
            port: None,
            after: after.clone(),
        });
        let asked = Asked::Snapshot {
            host: host.clone(),
            wanted,
            after,
        };
        self.ask(host, request, asked, out);
    }

    /// A page of what a host has came, or did not.
    pub(super) fn snapshot(
        &mut self,
        now: Timestamp,
        name: &HostName,
        wanted: Wanted,
        after: Option<PortId>,
        answer: Answer,
        out: &mut Decision<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        let page = match answer {
            // Pages that don't get on would be asked for without end.
            Answer::Live(reply)
                if reply.host == *name
                    && reply.session == wanted.session
                    && (reply.next.is_none() || reply.next > after) =>
            {
                reply
            }
            // The gap stays, and the next heartbeat asks again.
            Answer::Live(_)
            | Answer::Fetched(_)
            | Answer::Put(_)
            | Answer::Placements(_)
            | Answer::Refused(_)
            | Answer::TimedOut
            | Answer::NoResponder
            | Answer::NotSent(_) => return host.not_answered(),
        };
        // A host that can't say how a port is there still counts for it.
        let states = page.ports.iter().map(|state| &state.port);
        let counted = page.counters.iter().map(|of| &of.port);
        let found = states.chain(counted).cloned();
        let word = Word::Page {
            host: name.clone(),
            wanted,
            after,
            found: found.collect(),
            page,
        };
        self.hear(now, word, out);
    }

    /// Stores a page of what a host has, as if its newest event had told it,
    /// and asks for the next one once all of it is there.
    pub(super) fn page(
        &mut self,
        now: Timestamp,
        name: &HostName,
        wanted: Wanted,
        page: Page,
        part: Part,
        out: &mut Decision<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(name) else {
            return;
        };
        let upto = page.upto.clone();
        match part {
            Part::Certain if host.is_of_present_session(wanted) => {
                self.store_page(now, name, wanted, page, &mut out.writes);
            }
            Part::Certain => {}
            Part::Rest if host.is_of_present_session(wanted) => {
                if upto.is_none() {
                    host.answered(wanted);
                    host.write(name, &mut out.writes);
                }
                self.store_page(now, name, wanted, page, &mut out.writes);
                if upto.is_some() {
                    self.snapshots += 1;
                    self.ask_for_page(name.clone(), wanted, upto, out);
                }
            }
            Part::Rest => host.not_answered(),
        }
    }

    fn store_page(
        &mut self,
        heard: Timestamp,
        name: &HostName,
        wanted: Wanted,
        page: Page,
        writes: &mut Writes,
    ) {
        let by = Stamp {
            host: name.clone(),
            session: wanted.session,
            seq: wanted.seq,
            at: page.at,
            heard,
        };
        for (port, epoch) in self.store.here(name) {
            if page.covers(&port) && !page.found.contains(&port) {
                self.gone(&by, How::BySnapshot, &PortGone { port, epoch }, writes);
            }
        }
        for state in page.ports {
            self.here(&by, How::BySnapshot, state, writes);
        }
        for of in &page.counters {
            self.count(&by, How::BySnapshot, of, writes);
        }
        if let Some(list) = page.conditions {
            self.conditions_of_snapshot(heard, name, wanted, list, writes);
        }
    }
}

/// A page of what a host has: of the ports after one, up to another.
#[derive(Debug)]
pub(super) struct Page {
    at: Timestamp,
    after: Option<PortId>,
    upto: Option<PortId>,
    /// All that are there. Of one that is left out below what is known stays.
    found: BTreeSet<PortId>,
    ports: Vec<PortRuntime>,
    counters: Vec<CountersOf>,
    conditions: Option<ConditionList>,
}

impl Page {
    pub(super) fn new(after: Option<PortId>, reply: LiveReply, found: BTreeSet<PortId>) -> Self {
        let LiveReply {
            v: V1,
            host: _,
            session: _,
            at,
            ports,
            counters,
            totals: _,
            conditions,
            next: upto,
        } = reply;
        Self {
            at,
            after,
            upto,
            found,
            ports,
            counters,
            conditions,
        }
    }

    fn covers(&self, port: &PortId) -> bool {
        self.after.as_ref().is_none_or(|after| port > after)
            && self.upto.as_ref().is_none_or(|upto| port <= upto)
    }
}
