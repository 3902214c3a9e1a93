// SPDX-License-Identifier: Apache-2.0
//! A core on a ledger in memory, and values to feed it with.
#![allow(clippy::unwrap_used)]
// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ledger::{Core, InMemoryBackend, Ledger, turn};
use dvs_schemas::v1::{
    Changed, ConditionsOfHost, Counters, CountersOf, EventAck, EventNotice, Fetch, Forgotten,
    Heartbeat, HostConditions, Link, Live, LiveReply, LiveRequest, PastEvent, Placement,
    PlacementsReply, PortGone, PortRuntime, RetryPut, RuntimeConditionsRequest,
    RuntimeForgetRequest, RuntimeGetRequest, RuntimeHistoryRequest, RuntimeListReply,
    RuntimeListRequest, RuntimeRecord, RuntimeRollupReply, RuntimeRollupRequest, Settled, Telling,
    ToldBy, V1,
};
use dvs_schemas::{
    Epoch, HostName, PortId, Problem, Revision, SessionId, StoreId, Timestamp, Vlan,
};
use runtime_collector::{
    Answer, AskId, Collector, Effect, Event, Question, ReplyBody, ReplyToken, SPEC, Settings,
};

const REPLY: ReplyToken = ReplyToken(0);

pub struct World {
    pub now: Timestamp,
    pub ledger: Ledger,
    pub core: Collector,
    /// Questions that have not come back yet.
    pub asked: BTreeMap<AskId, (HostName, Live)>,
    /// Events that were asked for.
    pub fetches: Vec<(AskId, HostName, Fetch)>,
    /// Removals for retry.
    pub rips: Vec<(AskId, RetryPut)>,
    pub publisher: Publisher,
    /// What the publisher was asked and has not answered.
    pub unanswered: Vec<(AskId, Vec<PortId>)>,
    /// How often the publisher was asked.
    pub doubts: usize,
}

/// Who knows where the ports are.
pub enum Publisher {
    /// It answers at once: these are all ports that are there.
    Has(Vec<Placement>),
    /// It is away.
    Silent,
}

/// A port that is there in an epoch, held by a host or by none.
pub fn placement(name: &str, epoch: u64, by: Option<&str>) -> Placement {
    Placement {
        port: port(name),
        epoch: Epoch(epoch),
        host: by.map(host),
    }
}

pub fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub fn port(name: &str) -> PortId {
    name.parse().unwrap()
}

pub fn session(n: u64) -> SessionId {
    SessionId(n)
}

/// A port that is there; `revision` makes states different.
pub fn state(name: &str, epoch: u64, revision: u64) -> PortRuntime {
    PortRuntime {
        port: port(name),
        switch: "prod".parse().unwrap(),
        group: "web".parse().unwrap(),
        epoch: Epoch(epoch),
        revision: Revision(revision),
        link: if revision.is_multiple_of(2) {
            Link::Up
        } else {
            Link::Down
        },
        vlan: Vlan::Untagged,
        blocked: false,
        mirrored: Vec::new(),
    }
}

pub fn gone(name: &str, epoch: u64) -> PortGone {
    PortGone {
        port: port(name),
        epoch: Epoch(epoch),
    }
}

pub fn counters(name: &str, epoch: u64, packets: u64) -> CountersOf {
    CountersOf {
        port: port(name),
        epoch: Epoch(epoch),
        counters: Counters {
            ingress_packets: packets,
            ..Counters::default()
        },
    }
}

pub fn changed(from: &str, run: u64, seq: u64, ports: Vec<PortRuntime>) -> Changed {
    Changed {
        v: V1,
        host: host(from),
        session: session(run),
        seq,
        at: Timestamp(1_000 + seq),
        ports,
        gone: Vec::new(),
    }
}

pub fn settled(from: &str, run: u64, seq: u64, counters: Vec<CountersOf>) -> Settled {
    Settled {
        v: V1,
        host: host(from),
        session: session(run),
        seq,
        at: Timestamp(1_000 + seq),
        counters,
    }
}

pub fn heartbeat(from: &str, run: u64, seq: u64) -> Event {
    Event::Heartbeat(Heartbeat {
        v: V1,
        host: host(from),
        session: session(run),
        seq,
        interval_ms: 10_000,
        last: false,
        observed: Vec::new(),
        positions: Vec::new(),
    })
}

/// What the first run of a host answers.
pub fn live_reply(from: &str, ports: Vec<PortRuntime>, counters: Vec<CountersOf>) -> LiveReply {
    LiveReply {
        v: V1,
        host: host(from),
        session: session(1),
        at: Timestamp(5_000),
        ports,
        counters,
        totals: Vec::new(),
        conditions: None,
        next: None,
    }
}

pub fn question(of: Option<&str>, after: Option<&str>) -> Live {
    Live {
        v: V1,
        port: of.map(port),
        after: after.map(port),
    }
}

/// A run of host `h1` that begins with the snapshot of nothing.
pub fn begun() -> World {
    let mut world = World::new();
    let ask = world.heartbeat("h1", 1, 0).unwrap();
    world.answer(ask, Answer::Live(live_reply("h1", vec![], vec![])));
    world
}

impl World {
    pub fn new() -> Self {
        let ledger = Ledger::on_backend(InMemoryBackend::new(), SPEC).unwrap();
        let core = Collector::load(&ledger, Settings::default()).unwrap();
        Self {
            now: Timestamp(9_000),
            ledger,
            core,
            asked: BTreeMap::new(),
            fetches: Vec::new(),
            rips: Vec::new(),
            publisher: Publisher::Has(Vec::new()),
            unanswered: Vec::new(),
            doubts: 0,
        }
    }

    /// Lets time pass, waking the core whenever it wants to be woken.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.core.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            assert_eq!(self.turn([]), []);
        }
        self.now = until;
    }

    /// The process dies and starts again; its questions are lost.
    pub fn crash(&mut self) {
        self.asked.clear();
        self.fetches.clear();
        self.rips.clear();
        self.unanswered.clear();
        self.core = Collector::load(&self.ledger, Settings::default()).unwrap();
    }

    /// One turn; its questions are noted, its replies come back.
    pub fn turn(
        &mut self,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Result<ReplyBody, Problem>> {
        let turned = turn(&mut self.core, &self.ledger, self.now, events).unwrap();
        let mut replies = Vec::new();
        for effect in turned.effects {
            match effect {
                Effect::Reply { to: _, result } => replies.push(result),
                Effect::Ask {
                    ask, host, request, ..
                } => match request {
                    Question::Live(live) => {
                        let before = self.asked.insert(ask, (host, live));
                        assert_eq!(before, None, "a question's name was used twice");
                    }
                    Question::Fetch(fetch) => self.fetches.push((ask, host, fetch)),
                },
                Effect::Rip { ask, put } => self.rips.push((ask, put)),
                Effect::Placements { ask, request } => {
                    self.doubts += 1;
                    self.unanswered.push((ask, request.ports));
                }
            }
        }
        replies.extend(self.placements());
        replies
    }

    /// The publisher answers what it was asked, unless it is away.
    pub fn placements(&mut self) -> Vec<Result<ReplyBody, Problem>> {
        let Publisher::Has(placements) = &self.publisher else {
            return Vec::new();
        };
        let answers = self.unanswered.drain(..).map(|(ask, ports)| {
            let asked = placements.iter().filter(|at| ports.contains(&at.port));
            let placements = asked.cloned().collect();
            let answer = Answer::Placements(PlacementsReply { v: V1, placements });
            Event::Answered { ask, answer }
        });
        let answers: Vec<Event> = answers.collect();
        if answers.is_empty() {
            return Vec::new();
        }
        self.turn(answers)
    }

    fn one(&mut self, event: Event) -> Result<ReplyBody, Problem> {
        let mut replies = self.turn([event]);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn acked(&mut self, event: Event, seq: u64) {
        let ack = EventAck { v: V1, seq };
        assert_eq!(self.one(event), Ok(ReplyBody::Ack(ack)));
    }

    /// A notice; what it is answered with, if it is at once.
    pub fn notice(
        &mut self,
        from: &str,
        run: u64,
        seq: u64,
        about: &[&str],
    ) -> Vec<Result<ReplyBody, Problem>> {
        let notice = EventNotice {
            v: V1,
            host: host(from),
            session: session(run),
            seq,
            at: Timestamp(1_000 + seq),
            ports: about.iter().map(|name| port(name)).collect(),
        };
        self.turn([Event::Notice {
            notice,
            reply: REPLY,
        }])
    }

    pub fn changed(&mut self, event: Changed) {
        let seq = event.seq;
        self.acked(
            Event::Changed {
                event,
                reply: REPLY,
            },
            seq,
        );
    }

    pub fn settled(&mut self, event: Settled) {
        let seq = event.seq;
        self.acked(
            Event::Settled {
                event,
                reply: REPLY,
            },
            seq,
        );
    }

    /// Takes a conditions event in, and wants it acknowledged.
    pub fn conditions(&mut self, event: HostConditions) {
        let seq = event.seq;
        let reply = REPLY;
        self.acked(Event::Conditions { event, reply }, seq);
    }

    /// What is wrong, by a question.
    pub fn wrong(&mut self, request: RuntimeConditionsRequest) -> Vec<ConditionsOfHost> {
        let asked = Event::ListConditions {
            request,
            budget: 1 << 20,
            reply: REPLY,
        };
        match self.one(asked) {
            Ok(ReplyBody::Conditions(page)) => page.hosts,
            other => panic!("{other:?}"),
        }
    }

    /// A heartbeat, and the question that it led to.
    pub fn heartbeat(&mut self, from: &str, run: u64, seq: u64) -> Option<AskId> {
        let before: Vec<AskId> = self.asked.keys().copied().collect();
        assert_eq!(self.turn([heartbeat(from, run, seq)]), []);
        let mut new = self.asked.keys().filter(|ask| !before.contains(ask));
        new.next().copied()
    }

    pub fn answer(&mut self, ask: AskId, answer: Answer) -> Vec<Result<ReplyBody, Problem>> {
        self.asked.remove(&ask).unwrap();
        self.turn([Event::Answered { ask, answer }])
    }

    /// Answers all questions to hosts, and those that follow from the answers.
    pub fn answer_all(&mut self, answer: impl Fn(&HostName, &Live) -> Answer) {
        for asked in 0.. {
            let Some((ask, (host, question))) = self.asked.first_key_value() else {
                return;
            };
            assert!(asked < 1_000, "questions follow from answers without end");
            let (ask, answer) = (*ask, answer(host, question));
            assert_eq!(self.answer(ask, answer), []);
        }
    }

    /// Asks a host through the collector; what it is to be answered is given.
    pub fn live(
        &mut self,
        request: LiveRequest,
        answer: Answer,
    ) -> (Option<(HostName, Live)>, Result<LiveReply, Problem>) {
        let before: Vec<AskId> = self.asked.keys().copied().collect();
        let mut replies = self.turn([Event::Live {
            request,
            reply: REPLY,
        }]);
        let mut new = self.asked.keys().filter(|ask| !before.contains(ask));
        let asked = new.next().copied().map(|ask| {
            let question = self.asked[&ask].clone();
            replies = self.answer(ask, answer);
            question
        });
        assert_eq!(replies.len(), 1);
        let reply = replies.remove(0).map(|body| match body {
            ReplyBody::Live(reply) => reply,
            other => panic!("{other:?}"),
        });
        (asked, reply)
    }

    pub fn get(&mut self, name: &str) -> Result<RuntimeRecord, Problem> {
        let request = RuntimeGetRequest { port: port(name) };
        let got = self.one(Event::Get {
            request,
            reply: REPLY,
        });
        got.map(|body| match body {
            ReplyBody::Record(record) => *record,
            other => panic!("{other:?}"),
        })
    }

    /// What was told of a port lately, in short: when the host saw it, who and
    /// which placement, how it came, whether it was news, and what.
    pub fn history(&mut self, name: &str) -> Vec<String> {
        self.try_history(name).unwrap()
    }

    pub fn try_history(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        let request = RuntimeHistoryRequest { port: port(name) };
        let got = self.one(Event::History {
            request,
            reply: REPLY,
        });
        let reply = match got? {
            ReplyBody::History(reply) => reply,
            other => panic!("{other:?}"),
        };
        let short = |event: PastEvent| {
            let told = match event.told {
                Telling::State(state) => format!("{:?}", state.link).to_lowercase(),
                Telling::Gone => "gone".to_owned(),
                Telling::Counters(counters) => format!("{} packets", counters.ingress_packets),
            };
            let by = match event.by {
                ToldBy::Event => "",
                ToldBy::Snapshot => " (snapshot)",
                ToldBy::Forgotten => " (forgotten)",
            };
            let news = if event.news { "" } else { ", no news" };
            format!(
                "{} {} in {}{by}: {told}{news}",
                event.at.0, event.host, event.epoch
            )
        };
        Ok(reply.events.into_iter().map(short).collect())
    }

    /// A host will never come back, by that commit; how many ports are gone by
    /// this word.
    pub fn forget(&mut self, name: &str, revision: u64) -> u64 {
        let forgotten = Forgotten {
            host: host(name),
            revision: Revision(revision),
        };
        let request = RuntimeForgetRequest {
            v: V1,
            store: StoreId::default(),
            hosts: vec![forgotten],
        };
        match self.one(Event::Forget {
            request,
            reply: REPLY,
        }) {
            Ok(ReplyBody::Forgotten(reply)) => reply.ports,
            other => panic!("{other:?}"),
        }
    }

    pub fn rollup(
        &mut self,
        request: RuntimeRollupRequest,
        budget: usize,
    ) -> Result<RuntimeRollupReply, Problem> {
        let summed = self.one(Event::Rollup {
            request,
            budget,
            reply: REPLY,
        });
        summed.map(|body| match body {
            ReplyBody::Rollup(page) => page,
            other => panic!("{other:?}"),
        })
    }

    pub fn page(&mut self, request: RuntimeListRequest, budget: usize) -> RuntimeListReply {
        let listed = self.one(Event::List {
            request,
            budget,
            reply: REPLY,
        });
        match listed {
            Ok(ReplyBody::List(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    /// Everything in the store.
    pub fn list(&mut self) -> Vec<RuntimeRecord> {
        let page = self.page(RuntimeListRequest::default(), 1 << 20);
        assert_eq!(page.next, None);
        page.ports
    }
}
