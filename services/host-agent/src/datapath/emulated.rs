// SPDX-License-Identifier: Apache-2.0
//! A datapath in memory, with latency and failures that can be set: for
//! trying out, for load, and for tests, which may keep it standing across
//! restarts of the agent as a real bridge would.

mod devices;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::devices::Interfaces;
use self::state::State;
use super::notices::Notices;
use super::{
    Applied, Datapath, DatapathError, NotApplied, Notice, Picture, Ports, Pulled, Remembered, Step,
};
use dvs_schemas::v1::{Counters, CountersOf, Link, Machine};
use dvs_schemas::{MirrorName, PolicyField, PortId, SwitchName, VnicId};

pub use self::devices::{Device, Mishap};

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
                interfaces: Interfaces::of(&picture),
                picture,
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

    /// Changes how it behaves from now on. Who could not reach it is told that
    /// it is there again, and nothing of what happened meanwhile.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.behaviour, behaviour);
        let is_back = before.gone.is_some() && state.behaviour.gone.is_none();
        drop(state);
        if is_back {
            self.notices.tell(Notice::Disturbed);
        }
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

    /// Frames come to a port. Whether they pass: where no port is, or nothing is
    /// plugged in, they don't, and nobody counts them.
    pub fn traffic(&self, switch: &SwitchName, port: &PortId, more: &Counters) -> bool {
        let mut state = self.state();
        let key = (switch.clone(), port.clone());
        let reachable = state.behaviour.gone.is_none();
        if !state.has_port(&key) || !state.interfaces.pass(&key, more) {
            return false;
        }
        let is_first = state.interfaces.moves(&key, reachable);
        drop(state);
        if is_first {
            self.tell_busy(switch, port);
        }
        true
    }

    fn tell_busy(&self, switch: &SwitchName, port: &PortId) {
        self.notices.tell(Notice::Busy {
            switch: switch.clone(),
            port: port.clone(),
        });
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

    /// A device is plugged in that says a port, as when its VM starts here.
    /// Frames pass once the port is set. What had the port before is gone.
    pub fn plug(&self, switch: &SwitchName, port: &PortId, vnic: Option<VnicId>, device: Device) {
        let mut state = self.state();
        let key = (switch.clone(), port.clone());
        let is_wanted = state.has_port(&key);
        let reachable = state.behaviour.gone.is_none();
        state
            .interfaces
            .plug(&key, vnic.clone(), device, is_wanted, reachable);
        let is_seen = state.interfaces.are_attended();
        drop(state);
        if is_seen {
            self.tell_plugged(key, vnic);
        }
    }

    fn tell_plugged(&self, (switch, port): (SwitchName, PortId), vnic: Option<VnicId>) {
        self.notices.tell(Notice::Plugged {
            switch,
            port,
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

    /// The device is unplugged, as when its VM goes. It may be plugged in again,
    /// here or elsewhere, and has counted on.
    pub fn unplug(&self, switch: &SwitchName, port: &PortId) -> Option<Device> {
        let mut state = self.state();
        let reachable = state.behaviour.gone.is_none();
        let key = (switch.clone(), port.clone());
        let device = state.interfaces.unplug(&key, reachable);
        let is_seen = state.interfaces.are_attended();
        drop(state);
        if is_seen {
            self.link(switch, port, Link::Down);
            self.notices.tell(Notice::Unplugged {
                switch: switch.clone(),
                port: port.clone(),
                interface: port.to_string(),
                why: Pulled::Off,
            });
        }
        device
    }

    /// Something happens to the interface of a port.
    pub fn befall(&self, switch: &SwitchName, port: &PortId, mishap: Mishap) {
        let mut state = self.state();
        let reachable = state.behaviour.gone.is_none();
        let key = (switch.clone(), port.clone());
        let is_wanted = state.has_port(&key);
        let shows = state.interfaces.befall(&key, mishap);
        let is_first = is_wanted && shows && state.interfaces.moves(&key, reachable);
        drop(state);
        if is_first {
            self.tell_busy(switch, port);
        }
    }

    /// What passed through ports and nobody can know any more: it was not read
    /// before its device went, or not told before the agent did.
    #[must_use]
    pub fn lost(&self) -> BTreeMap<PortId, Counters> {
        self.state().interfaces.lost().clone()
    }

    /// What the present placements of ports came to, as an onlooker knows it who
    /// sees every frame, but for what is [`Self::lost`].
    #[must_use]
    pub fn seen(&self) -> Vec<CountersOf> {
        let state = self.state();
        let ports = state.picture.iter().flat_map(|(switch, bridge)| {
            let ports = bridge.ports.iter();
            ports.map(move |(port, plugged)| ((switch.clone(), port.clone()), plugged))
        });
        let seen = ports.map(|(key, plugged)| CountersOf {
            counters: state.interfaces.seen(&key),
            port: key.1,
            epoch: plugged.port.epoch,
        });
        seen.collect()
    }

    /// [`Datapath::read`] without its latency.
    ///
    /// # Errors
    /// As behaviour says.
    pub fn read_now(&self) -> Result<Picture, DatapathError> {
        let mut state = self.state();
        state.reachable("read")?;
        state.interfaces.read_unread();
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
        let counted = ports.into_iter().filter_map(|key| {
            let epoch = state.picture.get(&key.0)?.ports.get(&key.1)?.port.epoch;
            let counters = state.interfaces.count(&key);
            let (switch, port) = key;
            let of = CountersOf {
                port,
                epoch,
                counters,
            };
            Some((switch, of))
        });
        Ok(counted.collect())
    }

    /// The agent goes: until [`Self::resume_now`] nobody follows what happens.
    pub fn leave(&self) {
        self.state().interfaces.leave();
    }

    /// [`Datapath::resume`]. An agent that starts knows what it says, and what is
    /// marked here.
    pub fn resume_now(&self, known: Vec<(SwitchName, CountersOf)>) {
        let mut state = self.state();
        let State {
            interfaces,
            picture,
            behaviour,
            ..
        } = &mut *state;
        let plugged = interfaces.resume(picture, known, behaviour.gone.is_none());
        drop(state);
        for (key, vnic) in plugged {
            self.tell_plugged(key, vnic);
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
