// SPDX-License-Identifier: Apache-2.0
//! A core on a ledger in memory, with a publisher and hosts that answer what
//! the test says, when it says so.
#![allow(clippy::unwrap_used)]
// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ledger::{Core, InMemoryBackend, Ledger, turn};
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Attempt, Clobber, EntrySelection, EntryState, FinalState, Forgotten,
    Lineage, Remove, RemoveOutcome, RemoveReport, RemovedPort, RenderReply, RenderRequest,
    RepushKey, RetryListReply, RetryListRequest, RetryPut, RipKey, Settlement, V1,
};
use dvs_schemas::{Problem, Revision, SessionId, StoreId, Timestamp};
use retry::{
    Action, Answer, Effect, Event, FlightId, HostCall, Note, ReplyBody, ReplyToken, Retry, SPEC,
    Settings,
};

/// A key of either queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnyKey {
    Repush(RepushKey),
    Rip(RipKey),
}

/// Where a try is.
#[derive(Debug, Clone, PartialEq)]
pub enum Leg {
    Render(RenderRequest),
    Call(HostCall),
}

pub struct World {
    pub ledger: Ledger,
    pub core: Retry,
    pub settings: Settings,
    pub now: Timestamp,
    /// Effects that have not come back yet.
    pub air: BTreeMap<FlightId, (AnyKey, Leg)>,
    pub launches: usize,
    /// What the log says, in order.
    pub notes: Vec<Note>,
    seed: u64,
}

pub fn repush(host: &str, switch: &str) -> RepushKey {
    RepushKey {
        host: host.parse().unwrap(),
        switch: switch.parse().unwrap(),
    }
}

pub fn rip(host: &str, switch: &str, port: &str) -> RipKey {
    RipKey {
        host: host.parse().unwrap(),
        switch: switch.parse().unwrap(),
        port: port.parse().unwrap(),
    }
}

pub fn attempt<K>(key: K, revision: u64) -> Attempt<K> {
    Attempt {
        key,
        revision: Revision(revision),
        error: format!("push {revision} failed"),
    }
}

pub fn put_of(key: &AnyKey, revision: u64) -> RetryPut {
    let mut put = RetryPut::default();
    match key {
        AnyKey::Repush(key) => put.repush.push(attempt(key.clone(), revision)),
        AnyKey::Rip(key) => put.rip.push(attempt(key.clone(), revision)),
    }
    put
}

pub fn settled(host: &str, switch: &str, revision: u64) -> RetryPut {
    RetryPut {
        settled: vec![Settlement {
            host: host.parse().unwrap(),
            switch: switch.parse().unwrap(),
            revision: Revision(revision),
        }],
        ..RetryPut::default()
    }
}

pub fn forgotten(host: &str, revision: u64) -> RetryPut {
    RetryPut {
        forgotten: vec![Forgotten {
            host: host.parse().unwrap(),
            revision: Revision(revision),
        }],
        ..RetryPut::default()
    }
}

/// The session of every host's agent.
pub const SESSION: SessionId = SessionId(7);

/// What a publisher at this revision renders.
pub fn rendered(request: &RenderRequest, now: u64) -> RenderReply {
    let store = StoreId(uuid::Uuid::nil());
    match request {
        RenderRequest::State { switch, .. } => RenderReply::Clobber {
            session: SESSION,
            clobber: Box::new(Clobber {
                v: V1,
                store,
                lineage: Lineage::default(),
                switch: switch.clone(),
                revision: Revision(now),
                insist: false,
                state: FinalState::Absent,
            }),
        },
        RenderRequest::Removal { switch, port, .. } => RenderReply::Remove {
            session: SESSION,
            remove: Remove {
                v: V1,
                store,
                lineage: Lineage::default(),
                switch: switch.clone(),
                ports: vec![RemovedPort {
                    port: port.clone(),
                    revision: Revision(now),
                }],
            },
        },
    }
}

/// A host that did what it was asked.
pub fn done(key: &AnyKey, call: &HostCall) -> Answer {
    match (key, call) {
        (AnyKey::Repush(key), HostCall::Clobber(clobber)) => Answer::Clobber(ApplyReport {
            v: V1,
            host: key.host.clone(),
            session: SESSION,
            switch: key.switch.clone(),
            observed: clobber.revision,
            position: None,
            outcome: ApplyOutcome::Applied { writes: 1 },
        }),
        (AnyKey::Rip(key), HostCall::Remove(_)) => Answer::Remove(RemoveReport {
            v: V1,
            host: key.host.clone(),
            session: SESSION,
            switch: key.switch.clone(),
            observed: Revision(1),
            position: None,
            outcome: RemoveOutcome::Removed,
        }),
        crossed => panic!("a queue sent the other's call: {crossed:?}"),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let ledger = Ledger::on_backend(InMemoryBackend::new(), SPEC).unwrap();
        let settings = Settings::default();
        let now = Timestamp(1_000_000);
        let rng = fastrand::Rng::with_seed(seed);
        let core = Retry::load(&ledger, settings, rng, now).unwrap();
        Self {
            ledger,
            core,
            settings,
            now,
            air: BTreeMap::new(),
            launches: 0,
            notes: Vec::new(),
            seed,
        }
    }

    /// The process dies and starts again; what was in the air is lost.
    pub fn crash(&mut self) {
        self.seed += 1;
        let rng = fastrand::Rng::with_seed(self.seed);
        self.air.clear();
        self.core = Retry::load(&self.ledger, self.settings, rng, self.now).unwrap();
    }

    /// One turn; its tries go into the air, its replies come back.
    pub fn turn(
        &mut self,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Result<ReplyBody, Problem>> {
        let turned = turn(&mut self.core, &self.ledger, self.now, events).unwrap();
        let mut replies = Vec::new();
        for effect in turned.effects {
            match effect {
                Effect::Reply { to: _, result } => replies.push(result),
                Effect::Note(note) => self.notes.push(note),
                Effect::Render { flight, request } => {
                    let key = match &request {
                        RenderRequest::State { host, switch } => {
                            AnyKey::Repush(repush(host.as_str(), switch.as_str()))
                        }
                        RenderRequest::Removal {
                            host, switch, port, ..
                        } => AnyKey::Rip(rip(host.as_str(), switch.as_str(), port.as_str())),
                    };
                    self.launches += 1;
                    let before = self.air.insert(flight, (key, Leg::Render(request)));
                    assert_eq!(before, None, "a flight's name was used twice");
                }
                Effect::Call {
                    flight,
                    host,
                    call,
                    timeout,
                } => {
                    assert_eq!(timeout, self.settings.push_timeout);
                    let (key, leg) = self.air.remove(&flight).unwrap();
                    assert!(matches!(leg, Leg::Render(_)), "a call without a rendering");
                    assert_eq!(
                        host,
                        match &key {
                            AnyKey::Repush(key) => key.host.clone(),
                            AnyKey::Rip(key) => key.host.clone(),
                        }
                    );
                    self.air.insert(flight, (key, Leg::Call(call)));
                }
            }
        }
        replies
    }

    fn ask(&mut self, event: Event) -> Result<ReplyBody, Problem> {
        let mut replies = self.turn([event]);
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    pub fn put(&mut self, request: RetryPut) -> u64 {
        let reply = ReplyToken(0);
        match self.ask(Event::Put { request, reply }) {
            Ok(ReplyBody::Put(put)) => put.entries,
            other => panic!("{other:?}"),
        }
    }

    pub fn put_repush(&mut self, host: &str, revision: u64) {
        self.put(put_of(&AnyKey::Repush(repush(host, "prod")), revision));
    }

    pub fn act(&mut self, action: Action, selection: EntrySelection) -> Result<u64, Problem> {
        let reply = ReplyToken(0);
        self.ask(Event::Act {
            action,
            selection,
            reply,
        })
        .map(|body| match body {
            ReplyBody::Selection(reply) => reply.entries,
            ReplyBody::Put(_) | ReplyBody::List(_) => panic!("{body:?}"),
        })
    }

    pub fn page(
        &mut self,
        request: RetryListRequest,
        budget: usize,
    ) -> Result<RetryListReply, Problem> {
        let reply = ReplyToken(0);
        self.ask(Event::List {
            request,
            budget,
            reply,
        })
        .map(|body| match body {
            ReplyBody::List(page) => page,
            ReplyBody::Put(_) | ReplyBody::Selection(_) => panic!("{body:?}"),
        })
    }

    /// Everything in both queues.
    pub fn list(&mut self) -> BTreeMap<AnyKey, EntryState> {
        let page = self.page(RetryListRequest::default(), 1 << 20).unwrap();
        assert_eq!(page.next, None);
        let repush = page
            .out_of_sync
            .into_iter()
            .map(|e| (AnyKey::Repush(e.key), e.state));
        let rip = page.rip.into_iter().map(|e| (AnyKey::Rip(e.key), e.state));
        repush.chain(rip).collect()
    }

    /// Goes to when something is due, and does it; false if nothing is.
    pub fn until_due(&mut self) -> bool {
        let Some(due) = self.core.due() else {
            return false;
        };
        self.now = self.now.max(due);
        self.turn([]);
        true
    }

    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.turn([]);
    }

    /// The publisher answers the flight with the state at this revision.
    pub fn render(&mut self, flight: FlightId, revision: u64) {
        let (_, Leg::Render(request)) = self.air[&flight].clone() else {
            panic!("not asked")
        };
        self.come_back(Event::Rendered {
            flight,
            result: Ok(rendered(&request, revision)),
        });
    }

    /// The flight's leg ends; unless another follows, it has left the air.
    pub fn come_back(&mut self, event: Event) {
        let (Event::Rendered { flight, .. } | Event::Answered { flight, .. }) = &event else {
            panic!("{event:?}")
        };
        let flight = *flight;
        let before = self.air[&flight].clone();
        self.turn([event]);
        if self.air.get(&flight) == Some(&before) {
            self.air.remove(&flight);
        }
    }

    pub fn answer(&mut self, flight: FlightId, answer: Answer) {
        self.come_back(Event::Answered { flight, answer });
    }

    pub fn apply(&mut self, flight: FlightId) {
        let (key, Leg::Call(call)) = self.air[&flight].clone() else {
            panic!("not called")
        };
        self.answer(flight, done(&key, &call));
    }

    /// The one flight there is.
    pub fn only_flight(&self) -> FlightId {
        assert_eq!(self.air.len(), 1, "{:?}", self.air);
        *self.air.keys().next().unwrap()
    }
}
