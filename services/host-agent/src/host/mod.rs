// SPDX-License-Identifier: Apache-2.0
//! The deciding code for one host.
//!
//! Level-triggered: messages change the state held at once, in any number and
//! order; the [`cycle`] then brings the datapath there, one apply at a time.
//! The rest follows from what is held and what is there: which subjects are
//! heard, what is told, who is answered.

mod admission;
mod announcing;
mod conditions;
mod counting;
mod cycle;
mod drifting;
mod greeting;
mod guarding;
mod looking;
mod messages;
mod mirroring;
mod outcome;
mod pacing;
mod plug;
mod plugging;
mod questions;
mod remembering;
mod rollback;
mod room;
mod standing;
mod switch;
mod telling;
mod trial;
mod waiter;
mod yielding;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dvs_ledger::Decision;
use dvs_schemas::v1::{
    ClaimRequest, ConditionKind, ConditionList, Heartbeat, HostDatapath, Link, ReleaseRequest,
};
use dvs_schemas::{HostName, PortId, SessionId, SwitchName, TellMode, Timestamp};
use uuid::Uuid;

use crate::datapath::{Notice, Picture};
use crate::ledger::Kept;
pub(crate) use admission::WAITERS_MAX;
use announcing::{Announcing, Due};
use conditions::Conditions;
use cycle::Cycle;
use drifting::Drifting;
use greeting::Greeting;
use plug::Plugged;
use plugging::{Ask, Plugging};
use rollback::Rollback;
use standing::Standing;
use switch::{Hearing, Switch, held_port, is_there};
use telling::Telling;

pub use messages::{Answer, AskFailure, Asker, HostEffect, HostEvent, LivePicture, RuntimeEvent};

/// What a host and its core decided, with the host that it is about.
pub type Effect = (HostName, HostEffect);

/// Settings that all hosts of a process share.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Identity of this run of the agent.
    pub agent: Uuid,
    /// The machine or container, for people.
    pub node: String,
    /// What forwards its packets, for people.
    pub datapath: HostDatapath,
    /// Between two heartbeats, at most.
    pub heartbeat: Duration,
    /// How long counters must stand still to count as settled.
    pub quiet: Duration,
    /// How long the bus may be away after a change of uplinks; none if they
    /// stay whatever comes of it.
    pub rollback_after: Option<Duration>,
    /// How events are told, unless a switch says that they are to be fetched.
    pub mode: TellMode,
}

/// The deciding code for one host.
#[derive(Debug)]
pub struct HostCore {
    host: HostName,
    settings: HostSettings,
    chance: fastrand::Rng,
    switches: BTreeMap<SwitchName, Switch>,
    /// The datapath as last read and changed since.
    there: Picture,
    cycle: Cycle,
    drifting: Drifting,
    standing: Standing,
    greeting: Greeting,
    telling: Telling,
    plugging: Plugging,
    announcing: Announcing,
    conditions: Conditions,
    rollback: Rollback,
}

impl HostCore {
    /// A host as its ledger has it; it wakes at once, to read the datapath.
    #[must_use]
    pub fn new(host: HostName, settings: HostSettings, seed: u64, kept: Kept) -> Self {
        let Kept {
            switches,
            counters,
            plugs,
            changes,
        } = kept;
        Self {
            chance: fastrand::Rng::with_seed(seed),
            switches: switches
                .into_iter()
                .map(|(name, held)| (name, Switch::new(held)))
                .collect(),
            there: Picture::new(),
            cycle: Cycle::new(),
            drifting: Drifting::default(),
            standing: Standing::new(),
            greeting: Greeting::new(settings.heartbeat),
            telling: Telling::new(host.clone(), settings.quiet, counters),
            plugging: Plugging::new(host.clone(), plugs),
            announcing: Announcing::default(),
            conditions: Conditions::new(host.clone()),
            rollback: Rollback::new(settings.rollback_after, changes),
            host,
            settings,
        }
    }

    /// What is held, by switch.
    pub fn held(&self) -> impl Iterator<Item = (&SwitchName, &crate::held::HeldSwitch)> {
        self.switches
            .iter()
            .map(|(name, switch)| (name, &switch.held))
    }

    /// What is wrong on the host, as far as it is reported.
    #[must_use]
    pub fn conditions(&self) -> ConditionList {
        self.conditions.list()
    }

    /// The datapath as the core sees it.
    #[must_use]
    pub fn there(&self) -> &Picture {
        &self.there
    }

    /// The session that it is in; none while it is not its host's agent, as far
    /// as it knows.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.standing.session()
    }

    /// True if nothing is left to do to the datapath.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        self.cycle.is_idle() && self.switches.values().all(|s| s.dirty.is_empty())
    }

    /// True if the publisher answered this connection's hello, and the full
    /// state of every switch that it named has arrived.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.greeting.is_known()
    }

    /// Decides on one event.
    pub fn handle(&mut self, now: Timestamp, event: HostEvent, out: &mut Decision<Effect>) {
        self.admit(now, event, out);
        self.advance(now, out);
        self.look_at_claims(now);
        self.recovered(now);
        self.telling.write(&mut out.writes);
        self.plugging.write(&mut out.writes);
        self.rollback.write(&self.host, &mut out.writes);
    }

    fn take(&mut self, now: Timestamp, event: HostEvent, out: &mut Decision<Effect>) {
        match event {
            HostEvent::Connected => {
                self.rollback.hears(now, true);
                self.connected(now, out);
            }
            HostEvent::Disconnected => self.greeting.disconnected(),
            HostEvent::Stopping => self.stopping(out),
            HostEvent::Identify { message, asker } => self.identify(now, message, asker, out),
            HostEvent::Subscribed(switch) => self.subscribed(&switch, out),
            HostEvent::Clobber { message, asker } => self.clobber(now, &message, asker, out),
            HostEvent::Remove { message, asker } => self.remove(now, &message, asker, out),
            HostEvent::Plan { message, asker } => self.dry_run(&message, asker, out),
            HostEvent::Live { message, asker } => {
                let question = message;
                self.effect(HostEffect::ReadLive { asker, question }, out);
            }
            HostEvent::Fetch { message, asker } => self.fetched(&message, asker, out),
            HostEvent::Yield(request) => {
                let held = held_port(&self.switches, &request.port);
                self.plugging.sought(now, &request, held);
            }
            HostEvent::Read(picture) => self.read(now, picture, out),
            HostEvent::Applied { number, applied } => self.applied(now, number, applied, out),
            HostEvent::Counted(counted) => self.counted(now, counted),
            HostEvent::LiveRead {
                asker,
                question,
                outcome,
            } => self.live_read(now, asker, &question, outcome, out),
            HostEvent::Probed(heard) => self.rollback.answered(now, heard),
            HostEvent::Noticed(notice) => self.noticed(now, notice, out),
            HostEvent::Greeted(answer) => self.greeted(now, answer, out),
            HostEvent::Claimed { port, outcome } => {
                if let Err(AskFailure::Namesake(_)) = &outcome {
                    self.superseded(now);
                }
                self.plugging.claimed(now, &port, outcome, &mut self.chance);
            }
            HostEvent::Released { asked, outcome } => {
                if let Err(AskFailure::Namesake(_)) = &outcome {
                    self.superseded(now);
                }
                let held = held_port(&self.switches, &asked.port);
                self.plugging
                    .released(now, &asked, held, outcome, &mut self.chance);
            }
            HostEvent::Acknowledged { seq, outcome } => {
                let (switches, there) = (&self.switches, &self.there);
                let is_there = |port: &PortId, epoch| is_there(switches, there, port, epoch);
                self.telling
                    .answered(now, seq, outcome.ok(), is_there, &mut self.chance);
            }
        }
    }

    /// Whether what is due to be said can be said.
    fn speaks(&self) -> bool {
        self.greeting.is_online() && self.standing.session().is_some()
    }

    /// When [`Self::wake`] is wanted next.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let speaks = self.speaks();
        [
            self.cycle.due(),
            self.rollback.due(),
            self.greeting.due(),
            self.telling.due(speaks),
            self.plugging.due().filter(|_| speaks),
            self.conditions.due(),
            self.announcing.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due by now.
    pub fn wake(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        if self.cycle.wake(now) {
            self.effect(HostEffect::Read, out);
        }
        self.guard(now, out);
        self.advance(now, out);
        let sending = self.greeting.wake(now, &mut self.chance);
        if sending.hello {
            self.effect(HostEffect::Hello(self.hello()), out);
        }
        if let (true, Some(session)) = (sending.heartbeat, self.standing.session()) {
            let heartbeat = self.heartbeat(session);
            self.effect(HostEffect::Heartbeat(heartbeat), out);
        }
        let ports = self.telling.look(now);
        if !ports.is_empty() {
            self.effect(HostEffect::Count(ports), out);
        }
        self.telling.over(now, &mut self.chance);
        let was_in_force = !self.conditions.has(ConditionKind::NotInForce);
        if self.conditions.wake(now) {
            self.tell_conditions(now);
            self.look_at_mirrors(now);
        }
        if was_in_force && self.conditions.has(ConditionKind::NotInForce) {
            // Nobody asks about what was applied long ago: the full states that
            // follow are answered by what is so.
            self.greeting.again(now);
        }
        self.announce(now, out);
        self.find_missing(now, out);
        if let (true, Some(session)) = (self.speaks(), self.standing.session()) {
            self.speak(now, session, out);
        }
        self.plugging.write(&mut out.writes);
        self.rollback.write(&self.host, &mut out.writes);
    }

    /// Announces what came, as far as it is here still and may speak.
    fn announce(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        let due = self.announcing.wake(now).into_iter();
        let here = due.filter(|Due { key, epoch }| {
            let bridge = self.there.get(&key.0);
            let plugged = bridge.and_then(|bridge| bridge.ports.get(&key.1));
            plugged
                .is_some_and(|plugged| plugged.port.epoch == *epoch && !plugged.port.policy.blocked)
        });
        let ports: Vec<_> = here.map(|Due { key, epoch: _ }| key).collect();
        if !ports.is_empty() && !self.standing.is_refused() {
            self.effect(HostEffect::Announce(ports), out);
        }
    }

    /// Says and asks what is due by now.
    fn speak(&mut self, now: Timestamp, session: SessionId, out: &mut Decision<Effect>) {
        if let Some(event) = self.telling.send(now) {
            let event = match self.mode() {
                TellMode::Push => event,
                TellMode::Notify => Arc::new(RuntimeEvent::Notice(event.notice())),
            };
            self.effect(HostEffect::Tell(event), out);
        }
        let switches = &self.switches;
        for ask in self
            .plugging
            .wake(now, session, |port| held_port(switches, port))
        {
            let positions = self.positions();
            let effect = match ask {
                Ask::Claim(claim) => HostEffect::Claim(ClaimRequest { positions, ..claim }),
                Ask::Release(release) => HostEffect::Release(ReleaseRequest {
                    positions,
                    ..release
                }),
            };
            self.effect(effect, out);
        }
    }

    /// The agent stops: who comes next on this host need not wait.
    fn stopping(&mut self, out: &mut Decision<Effect>) {
        if let (true, Some(session)) = (self.speaks(), self.standing.session()) {
            let last = true;
            let heartbeat = Heartbeat {
                last,
                ..self.heartbeat(session)
            };
            self.effect(HostEffect::Heartbeat(heartbeat), out);
        }
        self.greeting.disconnected();
    }

    fn effect(&self, effect: HostEffect, out: &mut Decision<Effect>) {
        out.effect((self.host.clone(), effect));
    }

    fn connected(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        self.greeting.connected(now, &mut self.chance);
        self.telling.connected(now, &mut self.chance);
        self.plugging.connected(now);
        let names: Vec<SwitchName> = self.switches.keys().cloned().collect();
        for name in names {
            self.hear(&name, out);
        }
    }

    /// Begins or ends hearing a switch's subject, as what is held wants it.
    fn hear(&mut self, name: &SwitchName, out: &mut Decision<Effect>) {
        let Some(switch) = self.switches.get_mut(name) else {
            return;
        };
        let effect = match (switch.wants_hearing(), switch.hearing) {
            (true, Hearing::No) => {
                switch.hearing = Hearing::Asked;
                HostEffect::Subscribe(name.clone())
            }
            (false, Hearing::Asked | Hearing::Yes) => {
                switch.hearing = Hearing::No;
                HostEffect::Unsubscribe(name.clone())
            }
            (true, Hearing::Asked | Hearing::Yes) | (false, Hearing::No) => return,
        };
        self.effect(effect, out);
    }

    fn subscribed(&mut self, name: &SwitchName, out: &mut Decision<Effect>) {
        let Some(switch) = self.switches.get_mut(name) else {
            return;
        };
        // The wish may have been taken back meanwhile.
        if switch.hearing == Hearing::Asked {
            switch.hearing = Hearing::Yes;
            self.answer_heard(name, out);
        }
    }

    fn noticed(&mut self, now: Timestamp, notice: Notice, out: &mut Decision<Effect>) {
        match notice {
            Notice::Link { switch, port, link } => {
                let plugged = self
                    .there
                    .get_mut(&switch)
                    .and_then(|bridge| bridge.ports.get_mut(&port));
                if let Some(plugged) = plugged {
                    plugged.link = link;
                    let key = (switch.clone(), port.clone());
                    self.announcing.link(now, &key, link);
                    self.tell(now, &switch, &port);
                    if link == Link::Down {
                        self.effect(HostEffect::Count(vec![(switch, port)]), out);
                    }
                }
            }
            Notice::Busy { switch, port } => self.telling.busy(now, switch, port),
            Notice::Plugged {
                switch,
                port,
                vnic,
                mac,
                machine,
            } => {
                let plugged = Plugged { vnic, mac };
                let held = self.switches.get(&switch);
                let held = held.and_then(|switch| switch.held.ports.get(&port));
                let held = held.map(|held| &held.value);
                let epoch = held.map(|held| held.epoch);
                let came = self
                    .plugging
                    .plugged(now, port.clone(), plugged, machine, held);
                if let (true, Some(epoch)) = (came, epoch) {
                    let bridge = self.there.get(&switch);
                    let link = bridge.and_then(|bridge| bridge.ports.get(&port));
                    let link = link.map_or(Link::Down, |plugged| plugged.link);
                    self.announcing.came(now, (switch, port), epoch, link);
                }
            }
            Notice::Machine {
                switch: _,
                port,
                machine,
            } => {
                let held = held_port(&self.switches, &port);
                self.plugging.machine(now, &port, machine, held);
            }
            Notice::Conditions { kind, now: all } => {
                if self.conditions.set(now, kind, all) {
                    self.tell_conditions(now);
                    self.follow_plugs(now, kind);
                }
            }
            // It may have been on the bridge of another switch than the port's.
            Notice::Unplugged {
                switch,
                port,
                interface,
                why,
            } => {
                let host = &self.host;
                tracing::info!(%host, %switch, %port, interface, %why, "unplugged");
                self.unplugged(now, port, out);
            }
            Notice::Drift(drift) => self.drifted(now, drift, out),
            Notice::Disturbed => {
                self.all_may_have_counted(now);
                if self.cycle.disturbed(now) {
                    self.effect(HostEffect::Read, out);
                }
            }
        }
    }

    /// What ports have counted while the datapath was away nobody has told, and
    /// nobody will where no more frames come.
    fn all_may_have_counted(&mut self, now: Timestamp) {
        for (switch, bridge) in &self.there {
            for (port, plugged) in &bridge.ports {
                let epoch = plugged.port.epoch;
                self.telling.may_be_busy(now, switch, port, epoch);
            }
        }
    }

    /// The interface of a port went.
    fn unplugged(&mut self, now: Timestamp, port: PortId, out: &mut Decision<Effect>) {
        let mut switches = self.switches.iter();
        let holder = switches.find_map(|(name, switch)| {
            let held = switch.held.ports.get(&port)?;
            Some((name.clone(), held.value.epoch))
        });
        let epoch = holder.as_ref().map(|(_, epoch)| *epoch);
        self.plugging.unplugged(now, port.clone(), epoch);
        if let Some((switch, _)) = holder {
            // Nothing waits for what it came to.
            self.telling.busy(now, switch.clone(), port.clone());
            self.effect(HostEffect::Count(vec![(switch, port)]), out);
        }
    }

    /// Interfaces went while the agent was not there.
    fn find_missing(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        for port in self.plugging.missing(now) {
            let host = &self.host;
            tracing::info!(%host, %port, "unplugged while the agent was not there");
            self.unplugged(now, port, out);
        }
    }

    /// Takes in which claims wait or are refused.
    fn look_at_claims(&mut self, now: Timestamp) {
        let mut changed = false;
        for (kind, all) in self.plugging.conditions() {
            changed |= self.conditions.set(now, kind, all);
        }
        if changed {
            self.tell_conditions(now);
        }
    }

    fn tell_conditions(&mut self, now: Timestamp) {
        let list = self.conditions.list();
        self.telling.conditions(now, list, &mut self.chance);
    }

    /// Tells what placements of a port, or of all, came to that are over.
    fn tell_ended(&mut self, now: Timestamp, port: Option<&PortId>) {
        let (switches, there) = (&self.switches, &self.there);
        let is_there = |port: &PortId, epoch| is_there(switches, there, port, epoch);
        self.telling.ended(now, port, is_there, &mut self.chance);
    }

    /// Tells the states of a port, if they are not what was told last.
    fn tell(&mut self, now: Timestamp, switch: &SwitchName, port: &PortId) {
        self.tell_ended(now, Some(port));
        let held = self.switches.get(switch);
        let Some((held, there)) = held.zip(self.there.get(switch)) else {
            return;
        };
        if let Some(state) = held.runtime(switch, there, port, self.telling.newest(port)) {
            let settings = held.runtime_settings();
            self.telling.port(now, state, settings, &mut self.chance);
        }
    }

    /// How events are told: one of any switch's, or of several.
    fn mode(&self) -> TellMode {
        let notify = |switch: &Switch| switch.runtime_settings().mode == TellMode::Notify;
        if self.switches.values().any(notify) {
            TellMode::Notify
        } else {
            self.settings.mode
        }
    }
}
