// SPDX-License-Identifier: Apache-2.0
//! A datapath in memory, with latency and failures that can be set: for
//! trying out, for load, and for tests, which may keep it standing across
//! restarts of the agent as a real bridge would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::notices::Notices;
use super::{
    Applied, Behind, Bridge, Datapath, DatapathError, Done, Extent, NotApplied, Notice, Picture,
    PluggedPort, Ports, Pulled, Remembered, Step, StepFailure, VirtualPort, Write,
};
use dvs_schemas::v1::{Counters, CountersOf, Link, Machine};
use dvs_schemas::{Epoch, MirrorName, PolicyField, PortId, SwitchName, VnicId};

/// How an emulated datapath behaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behaviour {
    /// How long each call takes.
    pub latency: Duration,
    /// Share of steps that fail, 0 to 1.
    pub failure_rate: f64,
    /// Ports that always fail, with the field to blame.
    pub failing: BTreeMap<PortId, PolicyField>,
    /// Ports where nothing is plugged in: what is set is kept, not written.
    pub empty: BTreeSet<PortId>,
    /// Mirror sessions that can't be changed.
    pub failing_mirrors: BTreeSet<MirrorName>,
    /// Ports that the host itself lives behind.
    pub of_host: BTreeSet<PortId>,
    /// Why every call fails as a whole, if it does.
    pub gone: Option<String>,
}

/// The datapath. Shared by handle; all calls are whole before the next.
#[derive(Debug)]
pub struct Emulated {
    state: Mutex<State>,
    notices: Notices,
}

#[derive(Debug)]
struct State {
    picture: Picture,
    /// Of every port in the picture.
    counters: BTreeMap<(SwitchName, PortId), Counters>,
    /// What placements had come to when the agent said so last, of ports that
    /// are not in the picture yet.
    known: BTreeMap<(SwitchName, PortId), CountersOf>,
    /// Ports whose counters moved since they were read.
    moved: BTreeSet<(SwitchName, PortId)>,
    behaviour: Behaviour,
    chance: fastrand::Rng,
    writes: u64,
}

impl Emulated {
    /// An empty datapath; `seed` decides which steps fail by chance.
    #[must_use]
    pub fn new(behaviour: Behaviour, seed: u64) -> Self {
        Self::standing(behaviour, seed, Picture::new())
    }

    /// A datapath that has something already.
    #[must_use]
    pub fn standing(behaviour: Behaviour, seed: u64, picture: Picture) -> Self {
        Self {
            state: Mutex::new(State {
                picture,
                counters: BTreeMap::new(),
                known: BTreeMap::new(),
                moved: BTreeSet::new(),
                behaviour,
                chance: fastrand::Rng::with_seed(seed),
                writes: 0,
            }),
            notices: Notices::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every method leaves the state whole, so a panic elsewhere while it
        // was locked did too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// How it behaves.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        self.state().behaviour.clone()
    }

    /// Steps that were carried out since the beginning.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// What it has.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.state().picture.clone()
    }

    /// Somebody else changes what it has.
    pub fn disturb(&self, change: impl FnOnce(&mut Picture)) {
        let mut state = self.state();
        change(&mut state.picture);
        drop(state);
        self.notices.tell(Notice::Disturbed);
    }

    /// Frames pass through a port; ports that are not there count nothing.
    pub fn traffic(&self, switch: &SwitchName, port: &PortId, more: &Counters) {
        let mut state = self.state();
        let there = state
            .picture
            .get(switch)
            .is_some_and(|bridge| bridge.ports.contains_key(port));
        if !there {
            return;
        }
        let key = (switch.clone(), port.clone());
        let counters = state.counters.entry(key.clone()).or_default();
        *counters = counters.plus(more);
        let first = state.moved.insert(key);
        drop(state);
        if first {
            self.notices.tell(Notice::Busy {
                switch: switch.clone(),
                port: port.clone(),
            });
        }
    }

    /// The vNIC of a port comes up or goes down by itself, as with its VM.
    pub fn link(&self, switch: &SwitchName, port: &PortId, link: Link) {
        let mut state = self.state();
        let Some(plugged) = state
            .picture
            .get_mut(switch)
            .and_then(|bridge| bridge.ports.get_mut(port))
        else {
            return;
        };
        plugged.link = link;
        drop(state);
        self.notices.tell(Notice::Link {
            switch: switch.clone(),
            port: port.clone(),
            link,
        });
    }

    /// A vNIC with a port's id is plugged in, as when its VM starts here. Frames
    /// pass once the port is set.
    pub fn plug(&self, switch: &SwitchName, port: &PortId, vnic: Option<VnicId>) {
        self.notices.tell(Notice::Plugged {
            switch: switch.clone(),
            port: port.clone(),
            vnic,
            mac: None,
            machine: Machine::default(),
        });
    }

    /// The machine behind a vNIC does something else by now.
    pub fn machine(&self, switch: &SwitchName, port: &PortId, machine: Machine) {
        self.notices.tell(Notice::Machine {
            switch: switch.clone(),
            port: port.clone(),
            machine,
        });
    }

    /// The vNIC is unplugged, as when its VM goes.
    pub fn unplug(&self, switch: &SwitchName, port: &PortId) {
        self.link(switch, port, Link::Down);
        self.notices.tell(Notice::Unplugged {
            switch: switch.clone(),
            port: port.clone(),
            interface: port.to_string(),
            why: Pulled::Off,
        });
    }

    /// [`Datapath::read`] without its latency.
    ///
    /// # Errors
    /// As behaviour says.
    pub fn read_now(&self) -> Result<Picture, DatapathError> {
        let state = self.state();
        state.reachable("read")?;
        Ok(state.picture.clone())
    }

    /// [`Datapath::apply`] without its latency.
    #[must_use]
    pub fn apply_now(&self, steps: &[Step], guarded: &Ports) -> Applied {
        let mut state = self.state();
        if let Err(error) = state.reachable("changed") {
            return error.into();
        }
        let of_host = steps.iter().filter_map(|step| state.of_host(step));
        let unguarded: Ports = of_host.filter(|of| !guarded.contains(of)).collect();
        if !unguarded.is_empty() {
            return Applied {
                steps: Err(NotApplied::Unguarded(unguarded)),
                ended: Vec::new(),
            };
        }
        let mut ended = Vec::new();
        let results = steps.iter().map(|step| state.carry_out(step, &mut ended));
        Applied {
            steps: Ok(results.collect()),
            ended,
        }
    }

    /// [`Datapath::counters`] without its latency.
    ///
    /// # Errors
    /// As behaviour says.
    pub fn counters_now(
        &self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> Result<Vec<(SwitchName, CountersOf)>, DatapathError> {
        let mut state = self.state();
        state.reachable("read")?;
        Ok(ports
            .into_iter()
            .filter_map(|key| {
                state.moved.remove(&key);
                let epoch = state.picture.get(&key.0)?.ports.get(&key.1)?.port.epoch;
                let counters = state.counters.get(&key).copied().unwrap_or_default();
                let (switch, port) = key;
                let of = CountersOf {
                    port,
                    epoch,
                    counters,
                };
                Some((switch, of))
            })
            .collect())
    }

    /// The device of a port is made anew: it has counted nothing yet.
    pub fn count_anew(&self, switch: &SwitchName, port: &PortId) {
        let key = (switch.clone(), port.clone());
        self.state().counters.remove(&key);
    }

    /// [`Datapath::resume`].
    pub fn resume_now(&self, known: Vec<(SwitchName, CountersOf)>) {
        let mut state = self.state();
        for (switch, of) in known {
            let bridge = state.picture.get(&switch);
            let plugged = bridge.and_then(|bridge| bridge.ports.get(&of.port));
            let epoch = plugged.map(|plugged| plugged.port.epoch);
            let key = (switch, of.port.clone());
            if epoch.is_none() {
                state.known.insert(key, of);
            } else if epoch == Some(of.epoch) {
                go_on(state.counters.entry(key).or_default(), &of.counters);
            }
        }
    }

    async fn latency(&self) {
        let latency = self.state().behaviour.latency;
        // Without latency a call is ready at once and needs no timer.
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

impl State {
    fn reachable(&self, doing: &'static str) -> Result<(), DatapathError> {
        match &self.behaviour.gone {
            None => Ok(()),
            Some(reason) => Err(DatapathError {
                doing,
                reason: reason.clone(),
            }),
        }
    }

    /// What placements came to that this ends is added to `ended`.
    fn carry_out(
        &mut self,
        Step { switch, write }: &Step,
        ended: &mut Vec<(SwitchName, CountersOf)>,
    ) -> Result<Done, StepFailure> {
        let rate = self.behaviour.failure_rate;
        if rate > 0.0 && self.chance.f64() < rate {
            return Err(failed(
                "failed by chance, as --emulated-failure-rate asks for",
            ));
        }
        let done = match write {
            Write::SetBridge { to, .. } => {
                self.picture
                    .entry(switch.clone())
                    .and_modify(|bridge| bridge.settings = to.clone())
                    .or_insert_with(|| Bridge {
                        settings: to.clone(),
                        ports: BTreeMap::new(),
                        mirrors: BTreeMap::new(),
                        failing: BTreeSet::new(),
                    });
                Done::default()
            }
            Write::SetPort { port, to, .. } => self.set_port(switch, port, to, ended)?,
            Write::RemovePort { port, .. } => self.remove_port(switch, port, ended)?,
            Write::SetMirror { mirror, to, .. } => {
                self.changeable(mirror)?;
                self.bridge(switch)?
                    .mirrors
                    .insert(mirror.clone(), to.clone());
                Done::default()
            }
            Write::RemoveMirror { mirror, .. } => {
                self.changeable(mirror)?;
                self.bridge(switch)?.mirrors.remove(mirror);
                Done::default()
            }
            Write::RemoveBridge { .. } => self.remove_bridge(switch)?,
        };
        if let Some(bridge) = self.picture.get_mut(switch) {
            bridge.failing.remove(&write.part());
        }
        match done.extent {
            Extent::Written => self.writes += 1,
            Extent::Kept => {}
        }
        Ok(done)
    }

    /// The port that a step changes, if the host itself lives behind it.
    fn of_host(&self, Step { switch, write }: &Step) -> Option<(SwitchName, PortId)> {
        match write {
            Write::SetPort {
                port,
                from: Some(from),
                to,
            } if (from.mac, &from.policy) != (to.mac, &to.policy) => {
                let of_host = self.behaviour.of_host.contains(port);
                of_host.then(|| (switch.clone(), port.clone()))
            }
            Write::SetPort { .. }
            | Write::SetBridge { .. }
            | Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemovePort { .. }
            | Write::RemoveBridge { .. } => None,
        }
    }

    fn bridge(&mut self, switch: &SwitchName) -> Result<&mut Bridge, StepFailure> {
        self.picture
            .get_mut(switch)
            .ok_or_else(|| failed(format!("there is no bridge for switch {switch}")))
    }

    fn supported(&self, port: &PortId) -> Result<(), StepFailure> {
        match self.behaviour.failing.get(port) {
            None => Ok(()),
            Some(field) => Err(StepFailure::new(
                Some(field.path()),
                "not supported, as this emulation was told",
            )),
        }
    }

    fn changeable(&self, mirror: &MirrorName) -> Result<(), StepFailure> {
        if self.behaviour.failing_mirrors.contains(mirror) {
            return Err(failed("not to be changed, as this emulation was told"));
        }
        Ok(())
    }

    fn set_port(
        &mut self,
        switch: &SwitchName,
        port: &PortId,
        to: &Arc<VirtualPort>,
        ended: &mut Vec<(SwitchName, CountersOf)>,
    ) -> Result<Done, StepFailure> {
        self.supported(port)?;
        let bridge = self.bridge(switch)?;
        let before = bridge.ports.get(port);
        let link = match (before, &to.vnic) {
            (_, None) => Link::Down,
            // The same vNIC stays as ready as it was.
            (Some(before), Some(_)) if before.port.vnic == to.vnic => before.link,
            (Some(_) | None, Some(_)) => Link::Up,
        };
        let plugged = PluggedPort {
            port: to.clone(),
            link,
        };
        let before = bridge.ports.insert(port.clone(), plugged);
        if let Some(before) = before
            && before.port.epoch != to.epoch
        {
            ended.push(self.end(switch, port, before.port.epoch));
        }
        let key = (switch.clone(), port.clone());
        if let Some(known) = self.known.remove(&key)
            && known.epoch == to.epoch
        {
            go_on(self.counters.entry(key).or_default(), &known.counters);
        }
        let behind = match self.behaviour.of_host.contains(port) {
            true => Behind::Host,
            false => Behind::Machine,
        };
        Ok(Done {
            link: Some(link),
            behind,
            extent: self.extent(port),
        })
    }

    fn remove_port(
        &mut self,
        switch: &SwitchName,
        port: &PortId,
        ended: &mut Vec<(SwitchName, CountersOf)>,
    ) -> Result<Done, StepFailure> {
        self.supported(port)?;
        if let Some(before) = self.bridge(switch)?.ports.remove(port) {
            ended.push(self.end(switch, port, before.port.epoch));
        }
        Ok(Done {
            extent: self.extent(port),
            ..Done::default()
        })
    }

    fn extent(&self, port: &PortId) -> Extent {
        if self.behaviour.empty.contains(port) {
            Extent::Kept
        } else {
            Extent::Written
        }
    }

    fn remove_bridge(&mut self, switch: &SwitchName) -> Result<Done, StepFailure> {
        let left = self.bridge(switch)?.ports.len();
        if left > 0 {
            return Err(failed(format!("the bridge still has {left} ports")));
        }
        self.picture.remove(switch);
        Ok(Done::default())
    }

    /// An epoch of a port is over.
    fn end(
        &mut self,
        switch: &SwitchName,
        port: &PortId,
        epoch: Epoch,
    ) -> (SwitchName, CountersOf) {
        let key = (switch.clone(), port.clone());
        self.moved.remove(&key);
        let of = CountersOf {
            port: port.clone(),
            epoch,
            counters: self.counters.remove(&key).unwrap_or_default(),
        };
        (switch.clone(), of)
    }
}

/// Makes counters go on from what they were known to be. Where they say less
/// they have begun anew since.
fn go_on(counters: &mut Counters, known: &Counters) {
    if !counters.have_reached(known) {
        *counters = counters.plus(known);
    }
}

fn failed(message: impl Into<String>) -> StepFailure {
    StepFailure::new(None, message)
}

impl Datapath for Emulated {
    async fn resume(&self, known: Remembered) {
        // What is to be it has in memory.
        let Remembered {
            counters,
            wanted: _,
        } = known;
        self.resume_now(counters);
    }

    async fn read(&self) -> Result<Picture, DatapathError> {
        self.latency().await;
        self.read_now()
    }

    async fn apply(&self, steps: Arc<[Step]>, guarded: Ports) -> Applied {
        self.latency().await;
        self.apply_now(&steps, &guarded)
    }

    async fn counters(
        &self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> Result<Vec<(SwitchName, CountersOf)>, DatapathError> {
        self.latency().await;
        self.counters_now(ports)
    }

    /// There is no network to hear of it.
    async fn announce(&self, _ports: Vec<(SwitchName, PortId)>) {}

    async fn next_notice(&self) -> Notice {
        self.notices.next().await
    }
}
