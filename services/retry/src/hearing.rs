// SPDX-License-Identifier: Apache-2.0
//! What heartbeats say of hosts that have entries: one that was silent is back,
//! one that failed has applied something since. What they missed is tried at
//! once then.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::v1::Observed;
use dvs_schemas::{HostName, Revision, SessionId, SwitchName, Timestamp};

/// So many heartbeats may fail to come before a host counts as silent, as for
/// the publisher.
const MISSED: u32 = 3;

/// When the hosts that have entries were heard last, and what they had applied
/// of the switches that those are of. A host is dropped with its last entry, so
/// these are never more than entries.
#[derive(Debug, Default)]
pub(crate) struct Hearing(BTreeMap<HostName, Heard>);

#[derive(Debug)]
struct Heard {
    /// The latest session that anybody spoke of: who is in an earlier one is the
    /// host's agent no more.
    session: SessionId,
    /// The newest heartbeat, if one came.
    beat: Option<Beat>,
}

#[derive(Debug)]
struct Beat {
    at: Timestamp,
    interval: Duration,
    observed: BTreeMap<SwitchName, Revision>,
}

/// What a heartbeat says that is new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing, or it is of a session that is over.
    None,
    /// The host was silent, or not heard since its first entry came.
    Back,
    /// It has applied something of these switches since the last heartbeat.
    Applied(Vec<SwitchName>),
}

impl Hearing {
    /// A host that has entries lives, and says so again after `interval`;
    /// `observed` of the switches that it has entries of.
    pub(crate) fn heard(
        &mut self,
        now: Timestamp,
        host: &HostName,
        session: SessionId,
        interval: Duration,
        observed: Vec<Observed>,
    ) -> News {
        let observed = observed.into_iter().map(|of| (of.switch, of.revision));
        let observed: BTreeMap<_, _> = observed.collect();
        let silent = |beat: &Beat| now > beat.at.after(beat.interval.saturating_mul(MISSED));
        let heard = self.host(host, session);
        if session < heard.session {
            return News::None;
        }
        heard.session = session;
        let news = match &heard.beat {
            None => News::Back,
            Some(before) if silent(before) => News::Back,
            Some(before) => {
                let more = observed.iter().filter(|(switch, revision)| {
                    let known = before.observed.get(*switch);
                    known.is_some_and(|known| known < *revision)
                });
                let more: Vec<_> = more.map(|(switch, _)| switch.clone()).collect();
                if more.is_empty() {
                    News::None
                } else {
                    News::Applied(more)
                }
            }
        };
        heard.beat = Some(Beat {
            at: now,
            interval,
            observed,
        });
        news
    }

    /// The publisher says in which session the agent of a host is that has
    /// entries.
    pub(crate) fn in_session(&mut self, host: &HostName, session: SessionId) {
        let heard = self.host(host, session);
        heard.session = heard.session.max(session);
    }

    fn host(&mut self, host: &HostName, session: SessionId) -> &mut Heard {
        let first = || Heard {
            session,
            beat: None,
        };
        self.0.entry(host.clone()).or_insert_with(first)
    }

    /// The host has no entries.
    pub(crate) fn forget(&mut self, host: &HostName) {
        self.0.remove(host);
    }

    /// Only these hosts have entries.
    pub(crate) fn keep(&mut self, has_entries: impl Fn(&HostName) -> bool) {
        self.0.retain(|host, _| has_entries(host));
    }

    /// Hosts that are kept.
    pub(crate) fn hosts(&self) -> usize {
        self.0.len()
    }
}
