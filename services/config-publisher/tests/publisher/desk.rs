// SPDX-License-Identifier: Apache-2.0
//! A publisher, its ledger and the time, in the hands of a test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use config_publisher::core::{Publisher, Settings};
use config_publisher::events::{
    Answer, Call, Effect, Event, Outcome, PushId, Reply, ReplyToken, Request,
};
use config_publisher::fleet::{Host, HostEntry};
use config_publisher::history::StoreEntry;
use config_publisher::ledger::{HOSTS, SPEC, STORE};
use dvs_ledger::{Core, InMemoryBackend, Ledger, Table, turn};
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReply, ApplyReport, ApplyRequest, ClaimRequest, DeleteRequest, Forgotten,
    Heartbeat, Hello, HelloReply, Lineage, Plan, PlanOutcome, Position, PutReply, ReleaseRequest,
    RemoveOutcome, RemoveReport, RetryPut, RuntimeForgetReply, V1, Yield,
};
use dvs_schemas::{Epoch, HostName, Problem, Revision, SessionId, StoreId, SwitchName, Timestamp};
use serde_json::Value;
use uuid::Uuid;

/// What a host does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Applies it.
    Applies,
    /// Answers that it failed.
    Fails,
    /// Does not answer in time.
    Silent,
    /// Is not there.
    Gone,
}

/// All tables of a ledger.
pub(crate) type Tables = BTreeMap<&'static str, Vec<(Vec<u8>, Value)>>;

pub(crate) struct Desk {
    pub(crate) ledger: Ledger,
    pub(crate) publisher: Publisher,
    pub(crate) now: Timestamp,
    /// Hosts that don't just apply what they are sent.
    pub(crate) manners: BTreeMap<HostName, Manner>,
    /// Where hosts are by their answers, if not where the messages lead.
    pub(crate) positions: BTreeMap<HostName, Position>,
    /// Whether retry answers.
    pub(crate) retry: bool,
    /// What retry was given and acknowledged.
    pub(crate) put: Vec<RetryPut>,
    /// Whether the collector answers.
    pub(crate) collector: bool,
    /// Hosts that the collector was told of, and acknowledged.
    pub(crate) farewells: Vec<Forgotten>,
    /// Agents that answer when they are asked whether they are there.
    pub(crate) alive: BTreeSet<(HostName, SessionId)>,
    /// Every word to a holder that somebody waits.
    pub(crate) yields: Vec<(HostName, Yield)>,
    /// Every call that left.
    pub(crate) calls: Vec<Call>,
    pub(crate) settings: Settings,
    tokens: u64,
    replies: BTreeMap<ReplyToken, Result<Reply, Problem>>,
    /// Requests that are durable and whose answers wait for hosts.
    pub(crate) committed: Vec<ReplyToken>,
    /// Effects that nobody has carried out yet.
    pub(crate) undone: VecDeque<Effect>,
}

pub(crate) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        // Of no time, so epochs are plain revisions.
        let store = || StoreId(Uuid::from_u128(1));
        let ledger = Ledger::on_backend_as(InMemoryBackend::new(), SPEC, store).unwrap();
        let publisher = Publisher::load(&ledger, settings.clone()).unwrap();
        let mut desk = Self {
            ledger,
            publisher,
            now: Timestamp(1_000_000),
            manners: BTreeMap::new(),
            positions: BTreeMap::new(),
            retry: true,
            put: Vec::new(),
            collector: true,
            farewells: Vec::new(),
            alive: BTreeSet::new(),
            yields: Vec::new(),
            calls: Vec::new(),
            settings,
            tokens: 0,
            replies: BTreeMap::new(),
            committed: Vec::new(),
            undone: VecDeque::new(),
        };
        desk.connect();
        desk
    }

    /// A publisher with hosts h1 to h`hosts` that said hello.
    pub(crate) fn of(hosts: usize) -> Self {
        Self::of_with(hosts, Settings::default())
    }

    pub(crate) fn of_with(hosts: usize, settings: Settings) -> Self {
        let mut desk = Self::with(settings);
        for number in 1..=hosts {
            desk.hello(&format!("h{number}"));
        }
        desk.calls.clear();
        desk.put.clear();
        desk
    }

    fn connect(&mut self) {
        let max_payload = self.settings.max_payload;
        self.hear(Event::Connected { max_payload });
    }

    /// A crash and the start after it. What was on its way is lost.
    pub(crate) fn restart(&mut self) {
        self.undone.clear();
        self.replies.clear();
        self.publisher = Publisher::load(&self.ledger, self.settings.clone()).unwrap();
        self.connect();
    }

    /// One event, one commit; the effects wait in `undone`.
    pub(crate) fn hear(&mut self, event: Event) {
        let turned = turn(&mut self.publisher, &self.ledger, self.now, [event]).unwrap();
        self.take(turned.effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { to, result } => {
                    let twice = self.replies.insert(to, *result);
                    assert!(twice.is_none(), "{to:?} is answered twice");
                }
                Effect::Yield { host, request } => self.yields.push((host, request)),
                Effect::Committed { to } => {
                    assert!(
                        !self.replies.contains_key(&to),
                        "{to:?} is answered already"
                    );
                    self.committed.push(to);
                }
                Effect::Push { .. }
                | Effect::HandOver { .. }
                | Effect::TellCollector { .. }
                | Effect::Identify { .. } => {
                    self.undone.push_back(effect);
                }
            }
        }
    }

    /// Lets the time pass, waking the publisher whenever it is due.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        while let Some(due) = self.publisher.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let turned = turn(&mut self.publisher, &self.ledger, self.now, []).unwrap();
            self.take(turned.effects);
            self.work();
        }
        self.now = until;
    }

    /// Carries out all effects, and those that follow.
    pub(crate) fn work(&mut self) {
        while let Some(effect) = self.undone.pop_front() {
            match effect {
                Effect::Push { push, calls, .. } => {
                    let outcomes = self.outcomes(&calls);
                    self.calls.extend(calls);
                    self.hear(Event::Outcomes { push, outcomes });
                }
                Effect::HandOver { number, put } => {
                    let result = if self.retry {
                        self.put.push(put);
                        Ok(PutReply { v: V1, entries: 0 })
                    } else {
                        Err("nobody listens".to_owned())
                    };
                    self.hear(Event::HandedOver { number, result });
                    if !self.retry {
                        return; // the rest is for when time passes
                    }
                }
                Effect::TellCollector { number, request } => {
                    let result = if self.collector {
                        self.farewells.extend(request.hosts);
                        Ok(RuntimeForgetReply { v: V1, ports: 0 })
                    } else {
                        Err("nobody listens".to_owned())
                    };
                    self.hear(Event::CollectorTold { number, result });
                }
                Effect::Identify { host, session } => {
                    let is_there = Ok(self.alive.contains(&(host.clone(), session)));
                    self.hear(Event::Identified {
                        host,
                        session,
                        is_there,
                    });
                }
                Effect::Reply { .. } | Effect::Committed { .. } | Effect::Yield { .. } => {}
            }
        }
    }

    pub(crate) fn outcomes(&self, calls: &[Call]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (call, message) in calls.iter().enumerate() {
            for host in hosts_of(message) {
                outcomes.push(Outcome {
                    host: host.clone(),
                    call,
                    answer: self.answer(&host, message),
                });
            }
        }
        outcomes
    }

    /// The session of a host's agent.
    pub(crate) fn session(&self, host: &HostName) -> SessionId {
        let known = self.publisher.fleet().get(host);
        known.map_or(SessionId(1), Host::session)
    }

    pub(crate) fn answer(&self, host: &HostName, call: &Call) -> Answer {
        let manner = self.manners.get(host).copied().unwrap_or(Manner::Applies);
        match manner {
            Manner::Applies => {}
            Manner::Fails => return failed(host, self.session(host), call),
            Manner::Silent => return Answer::TimedOut,
            Manner::Gone => return Answer::NoResponder,
        }
        match call {
            Call::FanOut { clobber, .. } | Call::Clobber { clobber, .. } => {
                Answer::Applied(ApplyReport {
                    v: V1,
                    host: host.clone(),
                    session: self.session(host),
                    switch: clobber.switch.clone(),
                    observed: clobber.revision,
                    position: Some(self.positions.get(host).copied().unwrap_or_else(|| {
                        position(clobber.store, &clobber.lineage, clobber.revision)
                    })),
                    outcome: ApplyOutcome::Applied { writes: 1 },
                })
            }
            Call::Remove { remove, .. } => Answer::Removed(RemoveReport {
                v: V1,
                host: host.clone(),
                session: self.session(host),
                switch: remove.switch.clone(),
                observed: remove
                    .ports
                    .iter()
                    .map(|port| port.revision)
                    .max()
                    .unwrap_or_default(),
                position: None,
                outcome: RemoveOutcome::Removed,
            }),
            Call::Plan { clobber, .. } => Answer::Planned(Plan {
                v: V1,
                host: host.clone(),
                session: self.session(host),
                switch: clobber.switch.clone(),
                outcome: PlanOutcome::Changes(Vec::new()),
            }),
        }
    }

    /// Asks, and leaves everything undone.
    pub(crate) fn send(&mut self, request: Request) -> ReplyToken {
        self.tokens += 1;
        let to = ReplyToken(self.tokens);
        let mut request = request;
        match &mut request {
            // As long as a test says nothing else, it is the host's agent.
            Request::Claim(ClaimRequest { host, session, .. })
            | Request::Release(ReleaseRequest { host, session, .. })
                if *session == SessionId::default() =>
            {
                *session = self.session(host);
            }
            _ => {}
        }
        self.hear(Event::Request { to, request });
        to
    }

    /// What a request got, if it has an answer yet.
    pub(crate) fn reply(&mut self, to: ReplyToken) -> Option<Result<Reply, Problem>> {
        self.replies.remove(&to)
    }

    /// Asks, lets everything be carried out, and returns the answer.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Problem> {
        let to = self.send(request);
        self.work();
        self.reply(to).expect("no answer")
    }

    pub(crate) fn try_apply(&mut self, text: &str) -> Result<Reply, Problem> {
        let (_, request) = ApplyRequest::decode(text.as_bytes())?;
        self.ask(Request::Apply(request))
    }

    pub(crate) fn apply(&mut self, text: &str) -> ApplyReply {
        match self.try_apply(text) {
            Ok(Reply::Applied(reply)) => reply,
            other => panic!("{text}: {other:?}"),
        }
    }

    pub(crate) fn try_delete(&mut self, text: &str) -> Result<Reply, Problem> {
        let (_, request) = DeleteRequest::decode(text.as_bytes())?;
        self.ask(Request::Delete(request))
    }

    pub(crate) fn delete(&mut self, text: &str) -> ApplyReply {
        match self.try_delete(text) {
            Ok(Reply::Applied(reply)) => reply,
            other => panic!("{text}: {other:?}"),
        }
    }

    pub(crate) fn hello(&mut self, host: &str) -> HelloReply {
        match self.ask(Request::Hello(hello(host, 1))) {
            Ok(Reply::Hello(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn heartbeat(&mut self, host: &str) {
        self.beat(host, false);
    }

    /// The host's agent ends in order.
    pub(crate) fn farewell(&mut self, host: &str) {
        self.beat(host, true);
    }

    fn beat(&mut self, host: &str, last: bool) {
        self.hear(Event::Heartbeat(Heartbeat {
            v: V1,
            host: name(host),
            session: self.session(&name(host)),
            seq: 0,
            interval_ms: 10_000,
            last,
            observed: Vec::new(),
            positions: Vec::new(),
        }));
    }

    pub(crate) fn manner(&mut self, host: &str, manner: Manner) {
        self.manners.insert(name(host), manner);
    }

    /// Everything in the ledger.
    pub(crate) fn tables(&self) -> Tables {
        let table = |table: &Table| match *table {
            // Identities are bytes there, which JSON has none of.
            STORE => self.ledger.load::<StoreEntry>(STORE).map(|entries| {
                let entries = entries.into_iter();
                let text = |entry| serde_json::to_value(entry).unwrap();
                entries.map(|(key, entry)| (key, text(entry))).collect()
            }),
            HOSTS => self.ledger.load::<HostEntry>(HOSTS).map(|entries| {
                let entries = entries.into_iter();
                let text = |entry| serde_json::to_value(entry).unwrap();
                entries.map(|(key, entry)| (key, text(entry))).collect()
            }),
            other => self.ledger.load::<Value>(other),
        };
        let tables = SPEC.tables.iter();
        tables.map(|of| (of.0, table(of).unwrap())).collect()
    }

    /// Records in the ledger.
    pub(crate) fn records(&self) -> usize {
        self.tables()["pending"].len()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.publisher.config().revision()
    }

    /// What the last commit placed is in this.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::of(self.ledger.id(), self.revision())
    }
}

/// The hello of an agent that was in this session before, as far as it knows: a
/// publisher that knows of none, or of an earlier one, has it go on in it.
pub(crate) fn hello(host: &str, session: u64) -> Hello {
    Hello {
        v: V1,
        host: name(host),
        agent: Uuid::from_u128(session.into()),
        session: Some(SessionId(session)),
        version: "0.1.0".to_owned(),
        node: "rack-1".to_owned(),
        address: None,
        datapath: None,
        observed: Vec::new(),
        positions: Vec::new(),
    }
}

/// Where a host is after it has taken a message.
pub(crate) fn position(store: StoreId, lineage: &Lineage, revision: Revision) -> Position {
    Position {
        store,
        run: lineage.run_of(revision),
        revision,
    }
}

pub(crate) fn hosts_of(call: &Call) -> Vec<HostName> {
    match call {
        Call::FanOut { hosts, .. } => hosts.to_vec(),
        Call::Clobber { host, .. } | Call::Remove { host, .. } | Call::Plan { host, .. } => {
            vec![host.clone()]
        }
    }
}

fn failed(host: &HostName, session: SessionId, call: &Call) -> Answer {
    let report = |switch: &SwitchName| ApplyReport {
        v: V1,
        host: host.clone(),
        session,
        switch: switch.clone(),
        observed: Revision::ZERO,
        position: None,
        outcome: ApplyOutcome::Failed {
            message: "the datapath is broken".to_owned(),
            ports: Vec::new(),
        },
    };
    match call {
        Call::FanOut { clobber, .. } | Call::Clobber { clobber, .. } => {
            Answer::Applied(report(&clobber.switch))
        }
        Call::Remove { remove, .. } => Answer::Removed(RemoveReport {
            v: V1,
            host: host.clone(),
            session,
            switch: remove.switch.clone(),
            observed: Revision::ZERO,
            position: None,
            outcome: RemoveOutcome::Failed { ports: Vec::new() },
        }),
        Call::Plan { clobber, .. } => Answer::Planned(Plan {
            v: V1,
            host: host.clone(),
            session,
            switch: clobber.switch.clone(),
            outcome: PlanOutcome::Refused {
                message: "the datapath is broken".to_owned(),
            },
        }),
    }
}

/// Every push among effects.
pub(crate) fn pushes(effects: &VecDeque<Effect>) -> Vec<(PushId, &[Call])> {
    let pushes = effects.iter();
    pushes
        .filter_map(|effect| match effect {
            Effect::Push { push, calls, .. } => Some((*push, calls.as_slice())),
            Effect::Reply { .. }
            | Effect::Yield { .. }
            | Effect::Committed { .. }
            | Effect::HandOver { .. }
            | Effect::TellCollector { .. }
            | Effect::Identify { .. } => None,
        })
        .collect()
}

/// A switch `prod` on all hosts with a group `web` (VLAN 100, ports may
/// override `blocked`), and a port `web-1` on h1.
pub(crate) const SITE: &str = r#"[
    {"kind": "Switch", "name": "prod"},
    {"kind": "PortGroup", "name": "web", "switch": "prod",
     "policy": {"vlan": {"access": 100}}, "overridable": ["blocked"]},
    {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1"}
]"#;

/// The group `web` of [`SITE`] in another VLAN.
pub(crate) fn web(vlan: u16) -> String {
    format!(
        r#"{{"kind": "PortGroup", "name": "web", "switch": "prod",
            "policy": {{"vlan": {{"access": {vlan}}}}}, "overridable": ["blocked"]}}"#
    )
}
