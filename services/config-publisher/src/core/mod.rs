// SPDX-License-Identifier: Apache-2.0
//! The publisher as one state: requests, hosts' answers and the time in;
//! ledger writes, pushes and replies out.

mod arriving;
mod change;
mod diverging;
mod forgetting;
mod plugging;
mod sending;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::{Core, Decision, Ledger};
use dvs_schemas::codec::REQUEST_MAX;
use dvs_schemas::v1::{Deadline, Hello, Options, Wait};
use dvs_schemas::{Document, HostName, ObjectKey, Problem, StoreId, Timestamp};
use fastrand::Rng;
use uuid::Uuid;

use crate::admission;
use crate::claims::Claims;
use crate::config::Config;
use crate::events::{Effect, Event, Reply, ReplyToken, Request};
use crate::farewell::Farewell;
use crate::fleet::Fleet;
use crate::handover::Courier;
use crate::history::History;
use crate::ledger::HOSTS;
use crate::load::{LoadError, Loaded, load};
use crate::outbox::Outbox;
use crate::query::{self, page_bytes};
use crate::record::PushId;
use crate::render::View;
use crate::replies::Waits;

use sending::UnderWay;

type Out = Decision<Effect>;

/// What the publisher is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long hosts have to answer a push.
    pub push_timeout: Duration,
    /// How long the holder of a port may be absent before a host that has the
    /// port plugged in gets it.
    pub take_over: Duration,
    /// Bytes that one message may have, until [`Event::Connected`] says what
    /// the bus takes.
    pub max_payload: usize,
    /// Answers of hosts that may be awaited when one more push begins. Whatever
    /// is owed meanwhile waits.
    pub awaited: usize,
    /// Identity of this run of the publisher, drawn anew at each start.
    pub run: Uuid,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            push_timeout: Duration::from_secs(5),
            take_over: Duration::from_secs(60),
            max_payload: REQUEST_MAX,
            // Ten thousand hosts may be at one push and most of the way through
            // the one before. An answer that is awaited takes some 200 bytes,
            // so that is 5 MB.
            awaited: 16_384,
            run: Uuid::nil(),
            seed: 0,
        }
    }
}

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    history: History,
    settings: Settings,
    config: Config,
    fleet: Fleet,
    claims: Claims,
    /// Hellos that wait for the word of the agent that is there.
    arriving: BTreeMap<HostName, Vec<(ReplyToken, Hello)>>,
    /// Records in the ledger.
    records: usize,
    outbox: Outbox,
    pushes: BTreeMap<PushId, UnderWay>,
    /// Answers that `pushes` wait for.
    awaited: usize,
    next_push: PushId,
    courier: Courier,
    farewell: Farewell,
    waits: Waits,
    /// When hosts that follow another history are to be named.
    report: Option<Timestamp>,
    rng: Rng,
    away: u64,
}

impl Publisher {
    /// The publisher as its ledger has it.
    ///
    /// # Errors
    /// An entry of the ledger is not what this version writes.
    pub fn load(ledger: &Ledger, settings: Settings) -> Result<Self, LoadError> {
        let Loaded {
            history,
            config,
            fleet,
            pending,
        } = load(ledger, settings.run)?;
        let newest = pending.last_key_value();
        let next_push = newest.map_or(PushId(0), |(PushId(id), _)| PushId(id + 1));
        let rng = Rng::with_seed(settings.seed);
        Ok(Self {
            courier: Courier::new(history.store()),
            history,
            settings,
            config,
            fleet,
            claims: Claims::default(),
            arriving: BTreeMap::new(),
            records: pending.len(),
            outbox: Outbox::load(pending),
            awaited: 0,
            pushes: BTreeMap::new(),
            next_push,
            farewell: Farewell::new(),
            waits: Waits::default(),
            report: None,
            rng,
            away: 0,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The identity of the ledger, as hosts know it.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.history.store()
    }

    /// The hosts.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Pushes that are not over, or not handed over for as long as a restart
    /// would repeat them.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.records
    }

    /// Calls since the start that were not made, as their hosts were away.
    #[must_use]
    pub fn away(&self) -> u64 {
        self.away
    }

    /// What messages are made from, now.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            history: &self.history,
            revision: self.config.revision(),
            config: &self.config,
            fleet: &self.fleet,
        }
    }

    fn room(&self) -> usize {
        page_bytes(self.settings.max_payload)
    }

    fn next_push(&mut self) -> PushId {
        let push = self.next_push;
        self.next_push = PushId(push.0 + 1);
        push
    }

    fn request(&mut self, now: Timestamp, to: ReplyToken, request: Request, out: &mut Out) {
        let room = self.room();
        let result = match request {
            Request::Apply(request) => {
                let options = request.options;
                let admitted = admission::apply(
                    &self.config,
                    &self.fleet,
                    &request.documents,
                    options.if_revision,
                );
                let named = request.documents.iter().map(Document::key).collect();
                admitted.and_then(|changes| self.change(now, to, &changes, named, &options, out))
            }
            Request::Delete(request) => {
                let options = request.options;
                let admitted =
                    admission::delete(&self.config, &request.objects, options.if_revision);
                // Nothing of it is left to ask hosts for.
                let named = BTreeSet::new();
                admitted.and_then(|changes| self.change(now, to, &changes, named, &options, out))
            }
            Request::Connect(request) => {
                let options = options(request.wait, request.timeout);
                let named = BTreeSet::from([ObjectKey::Port(request.port.clone())]);
                admission::connect(&self.config, &self.fleet, &request)
                    .and_then(|changes| self.change(now, to, &changes, named, &options, out))
            }
            Request::Move(request) => {
                let options = options(request.wait, request.timeout);
                let named = BTreeSet::from([ObjectKey::Port(request.port.clone())]);
                admission::relocate(&self.config, &self.fleet, &request, now)
                    .and_then(|changes| self.change(now, to, &changes, named, &options, out))
            }
            Request::Disconnect(request) => self.disconnect(now, &request, out),
            Request::Claim(request) => {
                let (host, port) = (request.host.clone(), request.port.clone());
                let claimed = self.is_of_agent(&host, request.session);
                let claimed = claimed.and_then(|()| self.claim(now, request, out));
                claimed.inspect_err(
                    |problem| tracing::info!(%host, %port, %problem, "a claim was refused"),
                )
            }
            Request::Release(request) => {
                let (host, port) = (&request.host, &request.port);
                let released = self.is_of_agent(host, request.session);
                let released = released.and_then(|()| self.let_go(now, &request, out));
                released.inspect_err(
                    |problem| tracing::info!(%host, %port, %problem, "a release was refused"),
                )
            }
            Request::Get(request) => query::objects(&self.config, &request, room)
                .map(|reply| Some(Reply::Objects(reply))),
            Request::Placements(request) => {
                let reply = query::placements(&self.config, &request);
                Ok(Some(Reply::Placements(reply)))
            }
            Request::Forget(request) => self.forget_host(now, &request, out),
            Request::Hosts(request) => query::hosts(&self.config, &self.fleet, &request, now, room)
                .map(|reply| Some(Reply::Hosts(reply))),
            Request::Render(request) => self
                .view()
                .answer(&request)
                .map(|reply| Some(Reply::Rendered(reply))),
            Request::Resync(request) => self.resync(now, to, &request, out),
            Request::Continue(request) => self.go_on(now, to, &request, out),
            Request::Hello(hello) => self.arrive(now, to, hello, out),
        };
        match result {
            Ok(Some(reply)) => answer(out, to, Ok(reply)),
            Ok(None) => {} // held
            Err(problem) => answer(out, to, Err(problem)),
        }
    }

    /// Stores what changed of hosts, with all else that an event brings.
    fn save_hosts(&mut self, out: &mut Out) {
        for (host, entry) in self.fleet.take_unsaved() {
            out.writes.put(HOSTS, host.as_str(), &entry);
        }
    }

    fn connected(&mut self, now: Timestamp, max_payload: usize, out: &mut Out) {
        // Nobody reads what is larger, whatever the bus takes.
        self.settings.max_payload = max_payload.min(REQUEST_MAX);
        self.fleet.listen(now);
        self.launch(now, out);
        self.courier.hurry(now);
        self.farewell.hurry(now);
        self.hand_over(now, out);
    }
}

fn options(wait: Option<Wait>, timeout: Option<Deadline>) -> Options {
    Options {
        wait,
        timeout,
        ..Options::default()
    }
}

fn answer(out: &mut Out, to: ReplyToken, result: Result<Reply, Problem>) {
    let result = Box::new(result);
    out.effect(Effect::Reply { to, result });
}

impl Core for Publisher {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event, out: &mut Out) {
        match event {
            Event::Request { to, request } => self.request(now, to, request, out),
            Event::Heartbeat(heartbeat) => self.heartbeat(now, &heartbeat, out),
            Event::Outcomes { push, outcomes } => self.outcomes(now, push, outcomes, out),
            Event::Identified {
                host,
                session,
                is_there,
            } => self.identified(now, &host, session, &is_there, out),
            Event::HandedOver { number, result } => self.handed_over(now, number, &result, out),
            Event::CollectorTold { number, result } => {
                self.collector_told(now, number, &result, out);
            }
            Event::Connected { max_payload } => self.connected(now, max_payload, out),
            Event::Disconnected => self.fleet.stop_listening(now),
        }
        self.save_hosts(out);
        self.notice_diverged(now);
        self.take_over(now, out);
    }

    fn due(&self) -> Option<Timestamp> {
        let bounds = [
            self.waits.due(),
            self.courier.due(),
            self.farewell.due(),
            self.claims.due(),
            self.report,
        ];
        bounds.into_iter().flatten().min()
    }

    fn wake(&mut self, now: Timestamp, out: &mut Out) {
        while let Some(push) = self.waits.overdue(now) {
            self.release(now, push, out);
            self.outbox.join(push);
        }
        self.report_diverged(now, out);
        self.take_over(now, out);
        self.hand_over(now, out);
    }
}
