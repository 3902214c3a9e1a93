// SPDX-License-Identifier: Apache-2.0
//! The deciding code: events of hosts and requests in; ledger writes,
//! acknowledgements, replies and questions to hosts out.
//!
//! Every question comes back as exactly one [`Event::Answered`].

mod conditions;
mod doubting;
mod forgetting;
mod reaping;
mod snapshots;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::{Core, Decision, Ledger, LoadError, Writes};
use dvs_schemas::v1::{
    ConditionList, Live, LiveRequest, RuntimeGetRequest, RuntimeHistoryReply,
    RuntimeHistoryRequest, RuntimeRecord, V1,
};
use dvs_schemas::{Epoch, HostName, PortId, Problem, SessionId, Timestamp};

use crate::conditions::Conditions;
use crate::events::{Answer, AskId, Effect, Event, Question, ReplyBody, ReplyToken};
use crate::history::History;
use crate::hosts::{Host, Known, Place, Wanted};
use crate::ledger::HOSTS;
use crate::live::{never_heard, passed_through, unknown};
use crate::repeats::Repeats;
use crate::stale::{Stale, Suspect};
use crate::store::Store;
use crate::{list, rollup};
pub use doubting::DOUBTED;
use doubting::{Part, Word};
pub use snapshots::SNAPSHOTS;

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a host may take to answer.
    pub live_timeout: Duration,
    /// How long what is known of a port that is gone is kept, its totals
    /// among it: ports come back, and those of a switch that is being rebuilt
    /// take their time.
    pub keep_gone: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            live_timeout: Duration::from_secs(5),
            keep_gone: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// Why a host, or another service, was asked.
#[derive(Debug)]
enum Asked {
    /// To fill a gap; for what follows a port, if pages came before.
    Snapshot {
        host: HostName,
        wanted: Wanted,
        after: Option<PortId>,
    },
    /// As it gave notice of an event.
    Fetch {
        host: HostName,
        seq: u64,
        reply: ReplyToken,
    },
    /// Whether a virtual port is still there.
    SecondLook { host: HostName, port: PortId },
    /// Nothing: retry was given one that is.
    Rip {
        host: HostName,
        port: PortId,
        suspect: Suspect,
    },
    /// The publisher: where the ports are that a host spoke of.
    Placements(Word),
    /// For somebody else.
    PassThrough {
        host: HostName,
        port: Option<PortId>,
        reply: ReplyToken,
    },
}

/// The stored states, the hosts, and the questions under way.
#[derive(Debug)]
pub struct Collector {
    settings: Settings,
    store: Store,
    history: History,
    conditions: Conditions,
    stale: Stale,
    hosts: BTreeMap<HostName, Host>,
    asked: BTreeMap<AskId, Asked>,
    snapshots: usize,
    /// The hosts that have an event waiting for the publisher's word.
    doubted: BTreeSet<HostName>,
    /// Hosts that were forgotten, up to which placement, while something that
    /// they said was under way; for as long as it is.
    forgotten: BTreeMap<HostName, Epoch>,
    /// Log lines about late news, and about placements that never were.
    late_lines: Repeats<HostName>,
    false_lines: Repeats<HostName>,
    next_ask: u64,
}

impl Collector {
    /// The state as the ledger has it.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn load(ledger: &Ledger, settings: Settings) -> Result<Self, LoadError> {
        let hosts = ledger.load::<(HostName, Known)>(HOSTS)?;
        let hosts = hosts
            .into_iter()
            .map(|(_, (name, known))| (name, Host::from_known(known)));
        Ok(Self {
            settings,
            store: Store::load(ledger, settings.keep_gone)?,
            history: History::load(ledger)?,
            conditions: Conditions::load(ledger)?,
            stale: Stale::default(),
            hosts: hosts.collect(),
            asked: BTreeMap::new(),
            snapshots: 0,
            doubted: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            late_lines: Repeats::default(),
            false_lines: Repeats::default(),
            next_ask: 0,
        })
    }

    /// What is known of a port.
    #[must_use]
    pub fn record(&self, port: &PortId) -> Option<RuntimeRecord> {
        self.store.show(port)
    }

    /// What is wrong on a host, as it said last.
    #[must_use]
    pub fn conditions_of(&self, host: &HostName) -> ConditionList {
        self.conditions.of(host)
    }

    /// Ports that something is known of.
    #[must_use]
    pub fn ports(&self) -> usize {
        self.store.len()
    }

    /// Hosts that were heard.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Places an event among its host's; writes how far they came.
    fn place(
        &mut self,
        name: &HostName,
        session: SessionId,
        seq: u64,
        part: Part,
        writes: &mut Writes,
    ) -> Place {
        let host = self.host(name, session);
        let place = match part {
            Part::Certain => host.sight(session, seq),
            Part::Rest => host.event(session, seq),
        };
        host.write(name, writes);
        place
    }

    fn host(&mut self, name: &HostName, session: SessionId) -> &mut Host {
        self.hosts
            .entry(name.clone())
            .or_insert_with(|| Host::first(session))
    }

    fn ask(&mut self, host: HostName, request: Question, asked: Asked, out: &mut Decision<Effect>) {
        let ask = self.next_ask(asked);
        out.effect(Effect::Ask {
            ask,
            host,
            request,
            timeout: self.settings.live_timeout,
        });
    }

    fn next_ask(&mut self, asked: Asked) -> AskId {
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.asked.insert(ask, asked);
        ask
    }

    fn live(
        &mut self,
        request: LiveRequest,
        reply: ReplyToken,
        out: &mut Decision<Effect>,
    ) -> Result<(), Problem> {
        let LiveRequest { port, host, after } = request;
        if port.is_some() && after.is_some() {
            return Err(Problem::invalid("one port has no pages")
                .at("after")
                .allow("after without port"));
        }
        let host = match (host, &port) {
            (Some(host), _) => host,
            (None, Some(port)) => self.store.show(port).ok_or_else(|| unknown(port))?.host,
            (None, None) => {
                return Err(
                    Problem::invalid("the request names neither a port nor a host")
                        .allow("port, host or both"),
                );
            }
        };
        let asked = Asked::PassThrough {
            host: host.clone(),
            port: port.clone(),
            reply,
        };
        let request = Question::Live(Live { v: V1, port, after });
        self.ask(host, request, asked, out);
        Ok(())
    }

    fn answered(&mut self, now: Timestamp, ask: AskId, answer: Answer, out: &mut Decision<Effect>) {
        match self.asked.remove(&ask) {
            Some(Asked::Snapshot {
                host,
                wanted,
                after,
            }) => {
                self.snapshots -= 1;
                self.snapshot(now, &host, wanted, after, answer, out);
                self.forget_again(now, &host, &mut out.writes);
            }
            Some(Asked::Fetch { host, seq, reply }) => {
                self.fetched(now, &host, seq, reply, answer, out);
                self.forget_again(now, &host, &mut out.writes);
            }
            Some(Asked::Placements(word)) => {
                let host = word.host().clone();
                self.placements(now, word, answer, out);
                self.forget_again(now, &host, &mut out.writes);
            }
            Some(Asked::SecondLook { host, port }) => {
                self.second_look(now, host, port, answer, out);
            }
            Some(Asked::Rip {
                host,
                port,
                suspect,
            }) => match answer {
                Answer::Put(_) => {}
                Answer::Live(_)
                | Answer::Fetched(_)
                | Answer::Placements(_)
                | Answer::Refused(_)
                | Answer::TimedOut
                | Answer::NoResponder
                | Answer::NotSent(_) => self.stale.again(now, host, port, suspect),
            },
            Some(Asked::PassThrough { host, port, reply }) => {
                let known = self.hosts.get(&host);
                let is_foreign = |session| known.is_some_and(|known| known.is_past(session));
                let mut result = if answer.is_silence() && known.is_none() {
                    Err(never_heard(&host))
                } else {
                    let timeout = self.settings.live_timeout;
                    passed_through(&host, port.as_ref(), answer, is_foreign, timeout)
                };
                if let Ok(live) = &mut result {
                    let read = live.counters.iter();
                    live.totals = read.map(|of| self.store.total_with(of)).collect();
                }
                out.effect(Effect::Reply {
                    to: reply,
                    result: result.map(ReplyBody::Live),
                });
            }
            None => {}
        }
    }
}

impl Core for Collector {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event, out: &mut Decision<Effect>) {
        let (to, result) = match event {
            Event::Changed { event, reply } => {
                return self.hear(now, Word::Changed { event, reply }, out);
            }
            Event::Settled { event, reply } => {
                return self.hear(now, Word::Settled { event, reply }, out);
            }
            Event::Notice { notice, reply } => match self.notice(notice, reply, out) {
                Some(ack) => (reply, Ok(ReplyBody::Ack(ack))),
                None => return,
            },
            Event::Conditions { event, reply } => {
                let ack = self.conditions_event(now, event, &mut out.writes);
                (reply, Ok(ReplyBody::Ack(ack)))
            }
            Event::Heartbeat(heartbeat) => {
                self.look_twice(now, &heartbeat.host, out);
                return self.heartbeat(&heartbeat, out);
            }
            Event::Get { request, reply } => {
                let RuntimeGetRequest { port } = request;
                let record = self.store.show(&port).ok_or_else(|| unknown(&port));
                (reply, record.map(Box::new).map(ReplyBody::Record))
            }
            Event::List {
                request,
                budget,
                reply,
            } => {
                let page = list::page(&request, budget, &self.store);
                (reply, Ok(ReplyBody::List(page)))
            }
            Event::History { request, reply } => {
                let RuntimeHistoryRequest { port } = request;
                let events = self.history.of(&port);
                let history = if events.is_empty() && self.store.show(&port).is_none() {
                    Err(unknown(&port))
                } else {
                    Ok(ReplyBody::History(RuntimeHistoryReply {
                        v: V1,
                        port,
                        events,
                    }))
                };
                (reply, history)
            }
            Event::Rollup {
                request,
                budget,
                reply,
            } => {
                let page = rollup::page(&request, budget, &self.store);
                (reply, page.map(ReplyBody::Rollup))
            }
            Event::ListConditions {
                request,
                budget,
                reply,
            } => {
                let page = self.conditions.page(&request, budget);
                (reply, Ok(ReplyBody::Conditions(page)))
            }
            Event::Forget { request, reply } => {
                let forgotten = self.forget(now, request, &mut out.writes);
                (reply, Ok(ReplyBody::Forgotten(forgotten)))
            }
            Event::Live { request, reply } => match self.live(request, reply, out) {
                Ok(()) => return,
                Err(problem) => (reply, Err(problem)),
            },
            Event::Answered { ask, answer } => return self.answered(now, ask, answer, out),
        };
        out.effect(Effect::Reply { to, result });
    }

    /// Only ends of records come by time alone: questions have their bounds,
    /// and hosts their heartbeats.
    fn due(&self) -> Option<Timestamp> {
        self.store.next_end()
    }

    fn wake(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        for port in self.store.end(now, &mut out.writes) {
            self.history.forget(&port, &mut out.writes);
        }
    }
}
