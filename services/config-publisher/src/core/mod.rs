// SPDX-License-Identifier: Apache-2.0
//! The publisher as one state: requests, hosts' answers and the time in;
//! ledger writes, pushes and replies out.

mod change;
mod whole;

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ledger::{Core, Decision, Ledger};
use dvs_schemas::codec::REQUEST_MAX;
use dvs_schemas::v1::PutReply;
use dvs_schemas::{Problem, StoreId, Timestamp};
use fastrand::Rng;

use crate::admission;
use crate::config::Config;
use crate::events::{Effect, Event, Outcome, Reply, ReplyToken, Request};
use crate::fleet::Fleet;
use crate::handover::Courier;
use crate::ledger::{PENDING, pending};
use crate::load::{LoadError, Loaded, load};
use crate::pushes::Push;
use crate::query::{self, page_bytes};
use crate::record::{PushId, Record};
use crate::render::View;
use crate::replies::{self, Waits};

type Out = Decision<Effect>;

/// What the publisher is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long hosts have to answer a push.
    pub push_timeout: Duration,
    /// Bytes that one message may have, until [`Event::Connected`] says what
    /// the bus takes.
    pub max_payload: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            push_timeout: Duration::from_secs(5),
            max_payload: REQUEST_MAX,
            seed: 0,
        }
    }
}

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    store: StoreId,
    settings: Settings,
    config: Config,
    fleet: Fleet,
    /// Records of before the start; they leave when the bus is there.
    unsent: BTreeMap<PushId, Record>,
    pushes: BTreeMap<PushId, Push>,
    next_push: PushId,
    courier: Courier,
    waits: Waits,
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
            config,
            fleet,
            pending,
        } = load(ledger)?;
        let newest = pending.last_key_value();
        let next_push = newest.map_or(PushId(0), |(PushId(id), _)| PushId(id + 1));
        let rng = Rng::with_seed(settings.seed);
        Ok(Self {
            store: ledger.id(),
            settings,
            config,
            fleet,
            unsent: pending,
            pushes: BTreeMap::new(),
            next_push,
            courier: Courier::default(),
            waits: Waits::default(),
            rng,
            away: 0,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
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
        self.pushes.len() + self.unsent.len() + self.courier.records()
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
            store: self.store,
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
                admitted.and_then(|changes| self.change(now, to, &changes, &options, out))
            }
            Request::Delete(request) => {
                let options = request.options;
                let admitted =
                    admission::delete(&self.config, &request.objects, options.if_revision);
                admitted.and_then(|changes| self.change(now, to, &changes, &options, out))
            }
            Request::Disconnect(request) => self.disconnect(now, &request, out),
            Request::Get(request) => query::objects(&self.config, &request, room)
                .map(|reply| Some(Reply::Objects(reply))),
            Request::Hosts(request) => query::hosts(&self.config, &self.fleet, &request, now, room)
                .map(|reply| Some(Reply::Hosts(reply))),
            Request::Render(request) => Ok(Some(Reply::Rendered(self.view().answer(&request)))),
            Request::Resync(request) => self.resync(now, to, &request, out),
            Request::Hello(hello) => Ok(Some(Reply::Hello(self.hello(now, &hello, out)))),
        };
        match result {
            Ok(Some(reply)) => answer(out, to, Ok(reply)),
            Ok(None) => {} // held
            Err(problem) => answer(out, to, Err(problem)),
        }
    }

    fn outcomes(&mut self, now: Timestamp, push: PushId, outcomes: Vec<Outcome>, out: &mut Out) {
        if let Some(state) = self.pushes.get_mut(&push) {
            for outcome in outcomes {
                state.end(outcome, &mut self.fleet, now);
            }
            self.finish_if_over(now, push, out);
        } else if let Some(run) = self.waits.dry_run(push) {
            for outcome in outcomes {
                run.end(outcome);
            }
            if run.is_over() {
                self.release(push, out);
            }
        }
    }

    /// Ends a push of which every call has ended: its record goes, or waits
    /// for retry.
    fn finish_if_over(&mut self, now: Timestamp, push: PushId, out: &mut Out) {
        if !self.pushes.get(&push).is_some_and(Push::is_over) {
            return;
        }
        self.release(push, out);
        if let Some(state) = self.pushes.remove(&push)
            && !self.courier.take(push, &state)
        {
            out.writes.delete(PENDING, pending(push));
        }
        self.hand_over(now, out);
    }

    /// Lets a held reply go, with how things stand.
    fn release(&mut self, push: PushId, out: &mut Out) {
        if let Some((to, held)) = self.waits.release(push) {
            let state = self.pushes.get(&push);
            let summary = || state.map_or_else(replies::nobody, Push::summary);
            let reply = held.finish(summary, self.room());
            answer(out, to, Ok(reply));
        }
    }

    fn hand_over(&mut self, now: Timestamp, out: &mut Out) {
        if let Some((number, put)) = self.courier.next(now, self.settings.max_payload) {
            out.effect(Effect::HandOver { number, put });
        }
    }

    fn handed_over(
        &mut self,
        now: Timestamp,
        number: u64,
        result: &Result<PutReply, String>,
        out: &mut Out,
    ) {
        match result {
            Ok(_) => {
                for push in self.courier.acknowledged(number, now) {
                    out.writes.delete(PENDING, pending(push));
                }
            }
            Err(_) => self.courier.failed(number, now, &mut self.rng),
        }
        self.hand_over(now, out);
    }

    fn connected(&mut self, now: Timestamp, max_payload: usize, out: &mut Out) {
        // Nobody reads what is larger, whatever the bus takes.
        self.settings.max_payload = max_payload.min(REQUEST_MAX);
        self.fleet.listen(now);
        for (push, record) in std::mem::take(&mut self.unsent) {
            self.send(now, push, &record, out);
            self.finish_if_over(now, push, out);
        }
        self.courier.hurry(now);
        self.hand_over(now, out);
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
            Event::Heartbeat(heartbeat) => self.fleet.hear(now, &heartbeat),
            Event::Outcomes { push, outcomes } => self.outcomes(now, push, outcomes, out),
            Event::HandedOver { number, result } => self.handed_over(now, number, &result, out),
            Event::Connected { max_payload } => self.connected(now, max_payload, out),
        }
    }

    fn due(&self) -> Option<Timestamp> {
        let bounds = [self.waits.due(), self.courier.due()];
        bounds.into_iter().flatten().min()
    }

    fn wake(&mut self, now: Timestamp, out: &mut Out) {
        while let Some(push) = self.waits.overdue(now) {
            self.release(push, out);
        }
        self.hand_over(now, out);
    }
}
