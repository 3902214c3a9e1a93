// SPDX-License-Identifier: Apache-2.0
//! Runtime events of one host: rare states once per change, counters once they
//! have settled. One event is under way at a time and repeated until it is
//! acknowledged; meanwhile the newest state of each port is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dvs_ledger::Writes;
use dvs_schemas::v1::{
    Changed, ConditionList, Counters, CountersOf, EventAck, HostConditions, PortGone, PortRuntime,
    Settled, V1,
};
use dvs_schemas::{
    Epoch, HostName, PortId, RuntimeClass, RuntimeSettings, SessionId, SwitchName, Timestamp,
};

use super::counting::Counting;
use super::looking::{Looking, Sight};
use super::messages::RuntimeEvent;
use super::pacing::Pacing;
use super::room::Room;
use crate::backoff::Backoff;

/// How long a change waits for others that go with it: what one apply changes
/// is one event, and 10,000 hosts that change together don't tell together.
/// Plus up to as much again, by chance.
const LINGER: Duration = Duration::from_millis(250);

/// Unacknowledged events: the newest states are kept, so nothing is lost by
/// asking a collector that is away for long only now and then.
const UNACKNOWLEDGED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

/// What goes first, if changes and settled counters both wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Changes,
    /// They have waited for a change already.
    Counters,
}

/// Runtime events of one host.
#[derive(Debug)]
pub(super) struct Telling {
    host: HostName,
    /// None until it is the host's agent.
    session: Option<SessionId>,
    /// Number of the newest event.
    seq: u64,
    /// The newest state of each port, told or to be told.
    told: BTreeMap<PortId, PortRuntime>,
    unsent: BTreeSet<PortId>,
    /// Ports that were shown otherwise than told, amid a change.
    shown: BTreeSet<PortId>,
    gone: BTreeMap<PortId, Epoch>,
    settled: BTreeMap<(PortId, Epoch), Counters>,
    /// All conditions as they are now, if that is not told.
    conditions: Option<ConditionList>,
    /// True if the newest event told of conditions: what else waits goes before
    /// others that have come since.
    told_conditions: bool,
    counting: Counting,
    /// What goes first, if both wait.
    first: First,
    /// The event under way.
    flight: Option<Arc<RuntimeEvent>>,
    /// Unacknowledged sendings of it.
    attempt: u32,
    /// When to send: the event under way once more, or the next one.
    due: Option<Timestamp>,
    looking: Looking,
    /// Changes that are told when they are over.
    pacing: Pacing,
}

impl Telling {
    pub(super) fn new(
        host: HostName,
        quiet: Duration,
        counted: Vec<(SwitchName, CountersOf)>,
    ) -> Self {
        Self {
            host,
            session: None,
            seq: 0,
            told: BTreeMap::new(),
            unsent: BTreeSet::new(),
            shown: BTreeSet::new(),
            gone: BTreeMap::new(),
            settled: BTreeMap::new(),
            conditions: None,
            told_conditions: false,
            counting: Counting::load(counted),
            first: First::Changes,
            flight: None,
            attempt: 0,
            due: None,
            looking: Looking::new(quiet),
            pacing: Pacing::new(quiet),
        }
    }

    /// From now on everything is told in this session, what is under way too.
    pub(super) fn begin(&mut self, session: SessionId) {
        if self.session.replace(session) != Some(session)
            && let Some(event) = &mut self.flight
        {
            *event = Arc::new(event.in_session(session));
        }
    }

    /// Number of the newest event; 0 before the first.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The newest state of a port.
    pub(super) fn newest(&self, port: &PortId) -> Option<&PortRuntime> {
        self.told.get(port)
    }

    /// A port is like this now.
    pub(super) fn port(
        &mut self,
        now: Timestamp,
        state: PortRuntime,
        settings: &RuntimeSettings,
        chance: &mut fastrand::Rng,
    ) {
        let told = self.told.get(&state.port);
        if let Some(state) = self.pacing.take(now, told, state, settings) {
            self.tell(now, state, chance);
        }
    }

    /// Tells what has stopped changing.
    pub(super) fn over(&mut self, now: Timestamp, chance: &mut fastrand::Rng) {
        for state in self.pacing.over(now) {
            self.tell(now, state, chance);
        }
    }

    fn tell(&mut self, now: Timestamp, state: PortRuntime, chance: &mut fastrand::Rng) {
        let shown = self.shown.remove(&state.port);
        if self.told.get(&state.port) == Some(&state) && !shown {
            return;
        }
        self.gone.remove(&state.port);
        self.unsent.insert(state.port.clone());
        self.told.insert(state.port.clone(), state);
        self.soon(now, chance);
    }

    /// Somebody was shown this of a port, and may keep it. If it is not what was
    /// told, what the port comes to is told even if that was told before.
    pub(super) fn shown(
        &mut self,
        now: Timestamp,
        state: &PortRuntime,
        chance: &mut fastrand::Rng,
    ) {
        let port = &state.port;
        if self.told.get(port).is_none_or(|told| told == state) {
            return;
        }
        if self.pacing.holds(port) {
            self.shown.insert(port.clone());
        } else {
            self.unsent.insert(port.clone());
            self.soon(now, chance);
        }
    }

    /// A placement of a port is over. If the port is here in a newer one, on
    /// another switch, that is what there is to tell.
    pub(super) fn gone(
        &mut self,
        now: Timestamp,
        switch: &SwitchName,
        port: &PortId,
        epoch: Epoch,
        chance: &mut fastrand::Rng,
    ) {
        self.looking.forget(&(switch.clone(), port.clone()));
        if self.told.get(port).is_some_and(|told| told.epoch > epoch) {
            return;
        }
        self.pacing.forget(port);
        self.unsent.remove(port);
        self.shown.remove(port);
        self.told.remove(port);
        self.gone.insert(port.clone(), epoch);
        self.soon(now, chance);
    }

    /// Counters of a port stopped changing.
    pub(super) fn settled(
        &mut self,
        now: Timestamp,
        switch: &SwitchName,
        of: CountersOf,
        chance: &mut fastrand::Rng,
    ) {
        self.counting.told(switch, &of);
        self.counting.settled(&of);
        self.owe(now, of, chance);
    }

    /// These are all conditions now.
    pub(super) fn conditions(
        &mut self,
        now: Timestamp,
        list: ConditionList,
        chance: &mut fastrand::Rng,
    ) {
        self.conditions = Some(list);
        self.soon(now, chance);
    }

    /// Somebody read these counters.
    pub(super) fn read(&mut self, counted: &[(SwitchName, CountersOf)]) {
        for (switch, of) in counted {
            self.counting.told(switch, of);
        }
    }

    /// What placements have come to, as far as anybody was told.
    pub(super) fn counters(&self) -> Vec<(SwitchName, CountersOf)> {
        self.counting.known()
    }

    /// Tells what placements of a port, or of all ports, came to that are over
    /// without a word: while the agent was not there, or before anything was
    /// made of them.
    pub(super) fn ended(
        &mut self,
        now: Timestamp,
        port: Option<&PortId>,
        is_there: impl Fn(&PortId, Epoch) -> bool,
        chance: &mut fastrand::Rng,
    ) {
        for of in self.counting.of(port) {
            let is_owed = self.settled.contains_key(&(of.port.clone(), of.epoch));
            if !is_owed && !is_there(&of.port, of.epoch) && !self.is_told_of(&of) {
                self.owe(now, of, chance);
            }
        }
        self.counting.forget(port, is_there);
    }

    /// Whether the event under way says it.
    fn is_told_of(&self, of: &CountersOf) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|event| event.counters().contains(of))
    }

    /// Writes what was counted.
    pub(super) fn write(&mut self, writes: &mut Writes) {
        self.counting.write(&self.host, writes);
    }

    fn owe(&mut self, now: Timestamp, of: CountersOf, chance: &mut fastrand::Rng) {
        let CountersOf {
            port,
            epoch,
            counters,
        } = of;
        self.settled.insert((port, epoch), counters);
        self.soon(now, chance);
    }

    /// Counters of a port began to move.
    pub(super) fn busy(&mut self, now: Timestamp, switch: SwitchName, port: PortId) {
        self.looking.moves(now, (switch, port));
    }

    /// Counters of a port may have moved unnoticed.
    pub(super) fn may_be_busy(
        &mut self,
        now: Timestamp,
        switch: &SwitchName,
        port: &PortId,
        epoch: Epoch,
    ) {
        let told = self.counting.newest(port, epoch);
        let key = (switch.clone(), port.clone());
        self.looking.may_have_moved(now, key, told);
    }

    /// Counters were read: what did not move since the last look has settled,
    /// and so has a port without a link. Where counters count as rare, they are
    /// told at each look.
    pub(super) fn looked(
        &mut self,
        now: Timestamp,
        counted: Vec<(SwitchName, CountersOf)>,
        down: impl Fn(&SwitchName, &PortId) -> bool,
        class: impl Fn(&SwitchName) -> RuntimeClass,
        chance: &mut fastrand::Rng,
    ) {
        for (switch, of) in counted {
            let is_down = down(&switch, &of.port);
            let at_each_look = match class(&switch) {
                RuntimeClass::Rare => true,
                RuntimeClass::Busy | RuntimeClass::Auto => false,
            };
            let key = (switch.clone(), of.port.clone());
            let is_news = match self.looking.seen(key, of.counters, is_down) {
                Sight::Moves => at_each_look,
                Sight::Settled => true,
                Sight::Unmoved => false,
            };
            // A datapath may take what was told for new once more.
            if is_news && !self.counting.has_settled(&of) {
                self.settled(now, &switch, of, chance);
            }
        }
        self.looking.look_again(now);
    }

    /// Counters could not be read; look again later.
    pub(super) fn not_counted(&mut self, now: Timestamp) {
        self.looking.look_again(now);
    }

    fn soon(&mut self, now: Timestamp, chance: &mut fastrand::Rng) {
        if self.due.is_none() && self.flight.is_none() {
            self.due = Some(now.after(LINGER.mul_f64(1.0 + chance.f64())));
        }
    }

    /// The bus is back: what was under way may have got lost with it.
    pub(super) fn connected(&mut self, now: Timestamp, chance: &mut fastrand::Rng) {
        self.attempt = 0;
        let waiting = self.flight.is_some() || self.has_more();
        self.due = waiting.then(|| now.after(LINGER.mul_f64(1.0 + chance.f64())));
    }

    fn has_more(&self) -> bool {
        self.has_others() || self.conditions.is_some()
    }

    /// Whether there is anything of ports to tell.
    fn has_others(&self) -> bool {
        !(self.unsent.is_empty() && self.gone.is_empty() && self.settled.is_empty())
    }

    /// An event was acknowledged, or not.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        seq: u64,
        acknowledged: Option<EventAck>,
        is_there: impl Fn(&PortId, Epoch) -> bool,
        chance: &mut fastrand::Rng,
    ) {
        let Some(flight) = self.flight.as_ref().filter(|event| event.seq() == seq) else {
            return;
        };
        if acknowledged.is_some_and(|ack| ack.seq == flight.seq()) {
            for of in flight.clone().counters() {
                let is_owed = self.settled.contains_key(&(of.port.clone(), of.epoch));
                if !is_owed && !is_there(&of.port, of.epoch) {
                    self.counting.end(&of.port, of.epoch);
                }
            }
            self.flight = None;
            self.attempt = 0;
            self.due = None;
            if self.has_more() {
                self.soon(now, chance);
            }
        } else {
            self.due = Some(now.after(UNACKNOWLEDGED.wait(self.attempt, chance)));
        }
    }

    pub(super) fn due(&self, online: bool) -> Option<Timestamp> {
        let send = self.due.filter(|_| online);
        let waiting = [send, self.looking.due(), self.pacing.due()];
        waiting.into_iter().flatten().min()
    }

    /// The ports whose counters are to be read now.
    pub(super) fn look(&mut self, now: Timestamp) -> Vec<(SwitchName, PortId)> {
        self.looking.look(now)
    }

    /// The event under way, if it is this one.
    pub(super) fn under_way(&self, session: SessionId, seq: u64) -> Option<&Arc<RuntimeEvent>> {
        let flight = self.flight.as_ref();
        flight.filter(|event| self.session == Some(session) && event.seq() == seq)
    }

    /// The event to be sent now.
    pub(super) fn send(&mut self, now: Timestamp) -> Option<Arc<RuntimeEvent>> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        if self.flight.is_none() {
            self.flight = self.next_event(now).map(Arc::new);
        }
        self.attempt = self.attempt.saturating_add(1);
        self.flight.clone()
    }

    fn next_event(&mut self, now: Timestamp) -> Option<RuntimeEvent> {
        if !self.has_more() {
            return None;
        }
        let session = self.session?;
        self.seq += 1;
        let others_first = self.told_conditions && self.has_others();
        self.told_conditions = !others_first && self.conditions.is_some();
        if let Some(list) = self.conditions.take_if(|_| !others_first) {
            return Some(RuntimeEvent::Conditions(HostConditions {
                v: V1,
                host: self.host.clone(),
                session,
                seq: self.seq,
                at: now,
                list,
            }));
        }
        let mut room = Room::new();
        let changes = !(self.unsent.is_empty() && self.gone.is_empty());
        let counters = !self.settled.is_empty();
        if counters && (!changes || self.first == First::Counters) {
            self.first = First::Changes;
            return Some(RuntimeEvent::Settled(Settled {
                v: V1,
                host: self.host.clone(),
                session,
                seq: self.seq,
                at: now,
                counters: self.settled_within(&mut room),
            }));
        }
        // A host that changes without a pause tells what it counted all the same.
        self.first = if counters {
            First::Counters
        } else {
            First::Changes
        };
        Some(RuntimeEvent::Changed(Changed {
            v: V1,
            host: self.host.clone(),
            session,
            seq: self.seq,
            at: now,
            gone: self.gone_within(&mut room),
            ports: self.unsent_within(&mut room),
        }))
    }

    fn settled_within(&mut self, room: &mut Room) -> Vec<CountersOf> {
        let mut taken = Vec::new();
        while let Some(next) = self.settled.first_entry() {
            let (port, epoch) = next.key().clone();
            let of = CountersOf {
                port,
                epoch,
                counters: *next.get(),
            };
            if !room.take(&of) {
                break;
            }
            next.remove();
            taken.push(of);
        }
        taken
    }

    fn gone_within(&mut self, room: &mut Room) -> Vec<PortGone> {
        let mut taken = Vec::new();
        while let Some(next) = self.gone.first_entry() {
            let gone = PortGone {
                port: next.key().clone(),
                epoch: *next.get(),
            };
            if !room.take(&gone) {
                break;
            }
            next.remove();
            taken.push(gone);
        }
        taken
    }

    fn unsent_within(&mut self, room: &mut Room) -> Vec<PortRuntime> {
        let mut taken = Vec::new();
        while let Some(next) = self.unsent.pop_first() {
            let Some(state) = self.told.get(&next) else {
                continue;
            };
            if !room.take(state) {
                self.unsent.insert(next);
                break;
            }
            taken.push(state.clone());
        }
        taken
    }
}
