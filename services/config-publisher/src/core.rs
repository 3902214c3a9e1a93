// SPDX-License-Identifier: Apache-2.0
//! The publisher as one state: requests, hosts' answers and the time in;
//! ledger writes, pushes and replies out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::{Core, Decision, Ledger};
use dvs_schemas::v1::{
    Deadline, DisconnectReply, DisconnectRequest, DryRunReply, Hello, HelloReply, Options,
    PutReply, ResyncReply, ResyncRequest, V1, Versioned, Wait,
};
use dvs_schemas::{
    HostName, ObjectKey, Problem, ProblemCode, Revision, StoreId, SwitchName, Timestamp,
};
use fastrand::Rng;

use crate::admission;
use crate::changes::{Change, ChangeSet, Object};
use crate::config::{Config, Largest};
use crate::dryrun;
use crate::events::{Effect, Event, Outcome, Reply, ReplyToken, Request};
use crate::fleet::{Fleet, Greeted};
use crate::handover::Courier;
use crate::ledger::{
    GROUPS, HOSTS, MIRRORS, PENDING, PORTS, PortEntry, REVISION, SWITCHES, WANTED, pending, within,
};
use crate::load::{LoadError, Loaded, load};
use crate::pushes::{Begun, Push, begin};
use crate::query::{self, page_bytes};
use crate::record::{PushId, Record};
use crate::render::{View, is_member, members};
use crate::replies::{self, Held, Waits};

type Out = Decision<Effect>;

/// What the publisher is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long hosts have to answer a push.
    pub push_timeout: Duration,
    /// Bytes that the bus takes in one message, until [`Event::Connected`]
    /// says it.
    pub max_payload: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            push_timeout: Duration::from_secs(5),
            max_payload: dvs_schemas::codec::REQUEST_MAX,
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

    /// Does what an admitted request asks for; none if its reply is held.
    fn change(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        changes: &ChangeSet,
        options: &Options,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let wait = options.wait == Some(Wait::Applied);
        if options.dry_run || wait {
            self.waits.room()?;
        }
        let until = now.after(options.timeout.unwrap_or_default().get());
        if options.dry_run {
            return self.dry_run(now, to, changes, options, out);
        }
        let push = self.make(now, changes, out)?;
        let mut reply = replies::applied(self.config.revision(), changes, self.room() / 2);
        match push {
            Some(push) if wait => {
                let held = Held::Apply(reply);
                self.waits.hold(push, to, until, held);
                self.finish_if_over(now, push, out);
                Ok(None)
            }
            Some(push) => {
                self.finish_if_over(now, push, out);
                Ok(Some(Reply::Applied(reply)))
            }
            None => {
                reply.applied = wait.then(replies::nobody);
                Ok(Some(Reply::Applied(reply)))
            }
        }
    }

    fn disconnect(
        &mut self,
        now: Timestamp,
        request: &DisconnectRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let (changes, vnic) = admission::disconnect(&self.config, request)?;
        if let Some(push) = self.make(now, &changes, out)? {
            self.finish_if_over(now, push, out);
        }
        Ok(Some(Reply::Disconnected(DisconnectReply {
            v: V1,
            revision: self.config.revision(),
            vnic,
        })))
    }

    /// Makes changes durable and starts their push; none if nothing is to be
    /// pushed. Whoever calls also calls [`Self::finish_if_over`].
    fn make(
        &mut self,
        now: Timestamp,
        changes: &ChangeSet,
        out: &mut Out,
    ) -> Result<Option<PushId>, Problem> {
        if changes.is_empty() {
            return Ok(None);
        }
        let revision = self.config.revision().next();
        self.try_out(changes, revision)?;
        self.config.set_revision(revision);
        self.write(changes, revision, out);
        let record = Record::of(revision, changes, &self.fleet);
        record.want(&mut self.config, &self.fleet, &mut out.writes);
        Ok(self.owe(now, record, out))
    }

    /// Carries changes out in memory, unless a host's full state would become
    /// too large.
    fn try_out(&mut self, changes: &ChangeSet, revision: Revision) -> Result<(), Problem> {
        let switches: BTreeSet<&SwitchName> = changes.0.iter().map(Change::switch).collect();
        let before: Vec<(&SwitchName, Largest)> = switches
            .into_iter()
            .map(|switch| (switch, self.config.largest(switch)))
            .collect();
        self.config.carry_out(changes, revision);
        for (switch, before) in before {
            let after = self.config.largest(switch);
            let max = self.settings.max_payload;
            if let Err(problem) = admission::fits(changes, switch, &before, &after, max) {
                self.config.take_back(changes);
                return Err(problem);
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: &ChangeSet, revision: Revision, out: &mut Out) {
        let writes = &mut out.writes;
        for change in &changes.0 {
            let Some(object) = change.after() else {
                let (table, key) = match change.key() {
                    ObjectKey::Switch(switch) => {
                        let hosts = self.config.hosts_of(&switch);
                        for (host, _) in hosts.filter(|(_, on)| on.wanted > Revision::ZERO) {
                            writes.delete(WANTED, within(&switch, host));
                        }
                        writes.delete(WANTED, switch.as_str());
                        self.config.forget(&switch);
                        (SWITCHES, switch.to_string())
                    }
                    ObjectKey::PortGroup(switch, name) => (GROUPS, within(&switch, &name)),
                    ObjectKey::Port(id) => (PORTS, id.to_string()),
                    ObjectKey::MirrorSession(switch, name) => (MIRRORS, within(&switch, &name)),
                };
                writes.delete(table, key);
                continue;
            };
            match object {
                Object::Switch(doc) => {
                    let key = doc.name.as_str();
                    writes.put(
                        SWITCHES,
                        key,
                        &Versioned {
                            revision,
                            value: doc,
                        },
                    );
                }
                Object::PortGroup(doc) => {
                    let key = within(&doc.switch, &doc.name);
                    writes.put(
                        GROUPS,
                        key,
                        &Versioned {
                            revision,
                            value: doc,
                        },
                    );
                }
                Object::MirrorSession(doc) => {
                    let key = within(&doc.switch, &doc.name);
                    writes.put(
                        MIRRORS,
                        key,
                        &Versioned {
                            revision,
                            value: doc,
                        },
                    );
                }
                Object::Port(port) => {
                    let entry = PortEntry {
                        revision,
                        epoch: port.epoch,
                        document: port.document.clone(),
                    };
                    writes.put(PORTS, entry.document.name.as_str(), &entry);
                }
            }
        }
        writes.put(REVISION, "", &revision);
    }

    /// Writes a record down and starts its push.
    fn owe(&mut self, now: Timestamp, record: Record, out: &mut Out) -> Option<PushId> {
        if record.is_empty() {
            return None;
        }
        let push = self.next_push();
        out.writes.put(PENDING, pending(push), &record);
        self.send(now, push, &record, out);
        Some(push)
    }

    fn send(&mut self, now: Timestamp, push: PushId, record: &Record, out: &mut Out) {
        let Begun {
            push: state,
            calls,
            away,
        } = begin(self.view(), record, now);
        self.away += away as u64;
        self.pushes.insert(push, state);
        if !calls.is_empty() {
            out.effect(Effect::Push {
                push,
                calls,
                within: self.settings.push_timeout,
            });
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
        self.settings.max_payload = max_payload;
        for (push, record) in std::mem::take(&mut self.unsent) {
            self.send(now, push, &record, out);
            self.finish_if_over(now, push, out);
        }
        self.courier.hurry(now);
        self.hand_over(now, out);
    }

    fn dry_run(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        changes: &ChangeSet,
        options: &Options,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let bound = options.timeout.unwrap_or_default();
        let (changed, left_out) = replies::told(changes, self.room() / 2);
        let reply = DryRunReply {
            v: V1,
            dry_run: true,
            revision: self.config.revision(),
            changed,
            hosts: 0,
            unchanged: 0,
            plans: Vec::new(),
            left_out,
        };
        let revision = self.config.revision().next();
        self.try_out(changes, revision)?;
        let record = Record::of(revision, changes, &self.fleet);
        let view = View {
            revision,
            ..self.view()
        };
        let (run, calls) = dryrun::begin(view, &record, reply, now);
        self.config.take_back(changes);
        if run.is_over() {
            return Ok(Some(Reply::DryRun(run.finish(self.room()))));
        }
        let push = self.next_push();
        let until = now.after(bound.get());
        self.waits.hold(push, to, until, Held::DryRun(run));
        out.effect(Effect::Push {
            push,
            calls,
            within: self.settings.push_timeout.min(bound.get()),
        });
        Ok(None)
    }

    fn resync(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        request: &ResyncRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let ResyncRequest {
            host,
            switch,
            wait,
            timeout,
        } = request;
        let wait = *wait == Some(Wait::Applied);
        if wait {
            self.waits.room()?;
        }
        let pairs = self.pairs(host.as_ref(), switch.as_ref())?;
        let hosts: BTreeSet<&HostName> = pairs.iter().map(|(_, host)| host).collect();
        let revision = self.config.revision();
        let mut reply = ResyncReply {
            v: V1,
            revision,
            hosts: hosts.len() as u64,
            applied: None,
        };
        let Some(push) = self.owe(now, Record::whole(revision, pairs), out) else {
            reply.applied = wait.then(replies::nobody);
            return Ok(Some(Reply::Resynced(reply)));
        };
        if wait {
            let until = now.after(timeout.map_or(Deadline::default(), |t| t).get());
            self.waits.hold(push, to, until, Held::Resync(reply));
            self.finish_if_over(now, push, out);
            return Ok(None);
        }
        self.finish_if_over(now, push, out);
        Ok(Some(Reply::Resynced(reply)))
    }

    /// Switches and their hosts, as far as they are asked for.
    fn pairs(
        &self,
        host: Option<&HostName>,
        switch: Option<&SwitchName>,
    ) -> Result<Vec<(SwitchName, HostName)>, Problem> {
        let missing = |message: String, field| {
            Err(Problem::new(ProblemCode::NotFound, message)
                .at(field)
                .allow("what dvs.v1.host.list shows"))
        };
        if let Some(switch) = switch
            && self.config.switch(switch).is_none()
        {
            return missing(format!("there is no switch {switch}"), "switch");
        }
        let mut pairs = Vec::new();
        for (name, entry) in self.config.switches() {
            if switch.is_some_and(|switch| switch != name) {
                continue;
            }
            match host {
                Some(host) if is_member(&entry.value, &self.fleet, host) => {
                    pairs.push((name.clone(), host.clone()));
                }
                Some(_) => {}
                None => pairs.extend(
                    members(&entry.value, &self.fleet)
                        .map(|(host, _)| (name.clone(), host.clone())),
                ),
            }
        }
        match host {
            Some(host) if pairs.is_empty() => {
                missing(format!("host {host} is on no such switch"), "host")
            }
            Some(_) | None => Ok(pairs),
        }
    }

    fn hello(&mut self, now: Timestamp, hello: &Hello, out: &mut Out) -> HelloReply {
        let greeted = self.fleet.greet(now, hello);
        if let Some(host) = self.fleet.get(&hello.host) {
            match greeted {
                Greeted::New | Greeted::Changed => {
                    out.writes.put(HOSTS, hello.host.as_str(), &host.entry);
                }
                Greeted::Known => {}
            }
        }
        let held = hello.observed.iter().map(|observed| &observed.switch);
        let mine = self.config.switches().iter();
        let mine = mine.filter(|(_, entry)| is_member(&entry.value, &self.fleet, &hello.host));
        let switches: BTreeSet<SwitchName> =
            mine.map(|(name, _)| name).chain(held).cloned().collect();
        let under_way = self.fleet.greeting(&hello.host, hello.session);
        if !under_way.is_some_and(|push| self.pushes.contains_key(&push)) {
            let pairs = switches.iter().map(|s| (s.clone(), hello.host.clone()));
            let record = Record::whole(self.config.revision(), pairs);
            if let Some(push) = self.owe(now, record, out) {
                self.fleet.greeted_by(&hello.host, hello.session, push);
                self.finish_if_over(now, push, out);
            }
        }
        HelloReply {
            v: V1,
            switches: switches.into_iter().collect(),
        }
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
