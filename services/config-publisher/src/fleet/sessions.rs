// SPDX-License-Identifier: Apache-2.0
//! Which agent is a host's: one at a time, in sessions of which each is later
//! than the one before. Whoever else calls itself as the host does is a
//! namesake.

use std::time::Duration;

use dvs_schemas::v1::{Hello, Namesake, Presence};
use dvs_schemas::{HostName, SessionId, Timestamp};
use uuid::Uuid;

use super::{Fleet, Host, short};
use crate::events::{Answer, Outcome};

/// Namesakes that are remembered of a host: enough to see what is wrong.
const NAMESAKES: usize = 4;

/// How long a namesake is remembered. One that is refused says hello again
/// within half a minute.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Between two log lines about one namesake.
const LOGGED: Duration = Duration::from_secs(60);

/// Latest session that is believed of an agent. Sessions are milliseconds since
/// 1970, so that is some 140,000 years off; and as many as up to it are left above
/// it until 2^53, up to which readers of JSON keep numbers exactly.
const LATEST: SessionId = SessionId(1 << 52);

/// What an agent that says hello can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The host's agent, in this session.
    Welcome(SessionId),
    /// A namesake, if the agent that is in this session is there.
    Taken(SessionId),
    /// None: it can't have been in the session that it names.
    Unbelievable(SessionId),
}

/// A namesake, and when it was last logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    namesake: Namesake,
    logged: Timestamp,
}

impl Fleet {
    /// What an agent that says hello can be. One that was in a later session
    /// than any that is known was so by a ledger that was lost, or fell back.
    #[must_use]
    pub fn arrival(&self, now: Timestamp, hello: &Hello) -> Arrival {
        let named = hello.session;
        if let Some(session) = named.filter(|session| !self.believes(&hello.host, *session)) {
            return Arrival::Unbelievable(session);
        }
        let Some(host) = self.hosts.get(&hello.host) else {
            let first = || SessionId::default().next(now);
            return Arrival::Welcome(hello.session.unwrap_or_else(first));
        };
        let present = host.entry.session;
        match hello.session {
            Some(last) if last >= present => Arrival::Welcome(last),
            Some(_) | None if host.entry.agent == Some(hello.agent) => Arrival::Welcome(present),
            Some(_) | None if host.is_over(now) => Arrival::Welcome(present.next(now)),
            Some(_) | None => Arrival::Taken(present),
        }
    }

    /// Whether an agent of the host can be in this session. Else none could be
    /// numbered later than it.
    #[must_use]
    pub fn believes(&self, host: &HostName, session: SessionId) -> bool {
        let present = self.hosts.get(host).map_or(LATEST, Host::session);
        session <= present.max(LATEST)
    }

    /// Whether an answer in this session is of the host's agent. One in a later
    /// session than any that is known has it from a ledger that was lost, or of
    /// which this one is an earlier copy: it goes on in that, if nobody was heard
    /// of as the host since the start.
    fn counts(&mut self, name: &HostName, session: SessionId) -> bool {
        let Some(host) = self.hosts.get_mut(name) else {
            return true;
        };
        let is_later = session > host.entry.session && session <= LATEST;
        if is_later && host.heard().is_none() {
            host.entry.session = session;
            host.entry.agent = None;
            self.unsaved.insert(name.clone());
        }
        host.entry.session == session
    }

    /// The agent that is in this session has gone, or does not answer: the next
    /// one that says hello is the host's.
    pub fn end(&mut self, host: &HostName, session: SessionId) {
        if let Some(host) = self.hosts.get_mut(host)
            && host.entry.session == session
        {
            host.ended = true;
        }
    }

    /// Notes who is refused. True if that is to be logged.
    pub fn refuse(&mut self, now: Timestamp, hello: &Hello) -> bool {
        let Some(host) = self.hosts.get_mut(&hello.host) else {
            return false;
        };
        let namesake = Namesake {
            agent: hello.agent,
            node: short(&hello.node),
            address: hello.address,
            session: hello.session,
            heard: now,
        };
        let before = host
            .namesakes
            .extract_if(.., |known| known.namesake.agent == hello.agent)
            .next();
        let logged = before.map(|before| before.logged);
        let is_news = logged.is_none_or(|logged| now >= logged.after(LOGGED));
        if host.namesakes.len() == NAMESAKES {
            host.namesakes.remove(0);
        }
        host.namesakes.push(Known {
            namesake,
            logged: logged.filter(|_| !is_news).unwrap_or(now),
        });
        is_news
    }

    /// What of a call's end counts: the answer of an agent that is not the
    /// host's is none.
    #[must_use]
    pub fn sift(&mut self, outcome: Outcome) -> Outcome {
        let Outcome { host, call, answer } = outcome;
        let said = match &answer {
            Answer::Applied(report) => Some(report.session),
            Answer::Removed(report) => Some(report.session),
            Answer::Planned(plan) => Some(plan.session),
            Answer::Foreign
            | Answer::Unreadable(_)
            | Answer::TimedOut
            | Answer::NoResponder
            | Answer::NotSent(_) => None,
        };
        let is_foreign = said.is_some_and(|said| !self.counts(&host, said));
        let answer = if is_foreign { Answer::Foreign } else { answer };
        Outcome { host, call, answer }
    }
}

impl Host {
    /// The session of its agent.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.entry.session
    }

    /// An agent that was refused may be the host's by now.
    pub(super) fn accept(&mut self, agent: Option<Uuid>) {
        self.namesakes
            .retain(|known| Some(known.namesake.agent) != agent);
    }

    /// Whether nobody need ask if its agent lives.
    fn is_over(&self, now: Timestamp) -> bool {
        self.ended
            || match Self::presence(Some(self), now) {
                Presence::Absent => true,
                Presence::Present | Presence::Unknown | Presence::Never => false,
            }
    }

    /// Agents that want to be this host and are refused, the latest last.
    pub fn namesakes(&self, now: Timestamp) -> impl Iterator<Item = &Namesake> {
        let known = self.namesakes.iter().map(|known| &known.namesake);
        known.filter(move |namesake| now <= namesake.heard.after(REMEMBERED))
    }
}
