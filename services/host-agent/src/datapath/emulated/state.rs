// SPDX-License-Identifier: Apache-2.0
//! What an emulated datapath has, and steps that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dvs_schemas::v1::{CountersOf, Link};
use dvs_schemas::{MirrorName, PortId, SwitchName};

use super::Behaviour;
use super::devices::{Interfaces, Key};
use crate::datapath::{
    Behind, Bridge, DatapathError, Done, Extent, Picture, PluggedPort, Step, StepFailure,
    VirtualPort, Write,
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) picture: Picture,
    pub(super) interfaces: Interfaces,
    pub(super) behaviour: Behaviour,
    pub(super) chance: fastrand::Rng,
    pub(super) writes: u64,
}

impl State {
    pub(super) fn has_port(&self, (switch, port): &Key) -> bool {
        let bridge = self.picture.get(switch);
        bridge.is_some_and(|bridge| bridge.ports.contains_key(port))
    }

    pub(super) fn reachable(&self, doing: &'static str) -> Result<(), DatapathError> {
        match &self.behaviour.gone {
            None => Ok(()),
            Some(reason) => Err(DatapathError {
                doing,
                reason: reason.clone(),
            }),
        }
    }

    /// What placements came to that this ends is added to `ended`.
    pub(super) fn carry_out(
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
    pub(super) fn of_host(&self, Step { switch, write }: &Step) -> Option<Key> {
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
        let key = (switch.clone(), port.clone());
        if let Some(before) = before
            && before.port.epoch != to.epoch
        {
            let counters = self.interfaces.end(&key);
            ended.push(of_placement(&key, before.port.epoch, counters));
        }
        self.interfaces.begin(&key, to.epoch);
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
            let key = (switch.clone(), port.clone());
            let counters = self.interfaces.end(&key);
            self.interfaces.forget(&key);
            ended.push(of_placement(&key, before.port.epoch, counters));
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
}

fn of_placement(
    (switch, port): &Key,
    epoch: dvs_schemas::Epoch,
    counters: dvs_schemas::v1::Counters,
) -> (SwitchName, CountersOf) {
    let of = CountersOf {
        port: port.clone(),
        epoch,
        counters,
    };
    (switch.clone(), of)
}

fn failed(message: impl Into<String>) -> StepFailure {
    StepFailure::new(None, message)
}
