// SPDX-License-Identifier: Apache-2.0
//! What steps came to: taken into the picture of what is there, told, and
//! announced where a port is new.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ledger::Decision;
use dvs_schemas::v1::Link;
use dvs_schemas::{PortId, SwitchName, Timestamp};

use super::messages::HostEffect;
use super::waiter::Failures;
use super::{Effect, HostCore};
use crate::datapath::{Behind, Bridge, Done, Extent, Part, PluggedPort, Step, StepFailure, Write};

impl HostCore {
    /// Takes in what became of steps, and answers what failed.
    pub(super) fn take_results(
        &mut self,
        now: Timestamp,
        steps: &[Step],
        results: Vec<Result<Done, StepFailure>>,
        out: &mut Decision<Effect>,
    ) -> BTreeMap<SwitchName, Failures> {
        let mut failures: BTreeMap<SwitchName, Failures> = BTreeMap::new();
        let mut results = results.into_iter();
        let mut mirrors_moved = BTreeSet::new();
        for step in steps {
            // A datapath that answers too little has not done the rest.
            let result = results.next().unwrap_or_else(|| {
                let message = "the datapath gave no answer for this step";
                Err(StepFailure::new(None, message))
            });
            self.changed(
                step,
                match &result {
                    Ok(done) => done.behind,
                    Err(failure) => failure.behind,
                },
            );
            match result {
                Ok(done) => {
                    match done.extent {
                        Extent::Written => self.cycle.count_write(step),
                        Extent::Kept => {}
                    }
                    if let Part::Mirror(_) = step.write.part() {
                        mirrors_moved.insert(&step.switch);
                    }
                    self.carried_out(now, step, done, out);
                }
                Err(failure) => {
                    let of_switch = failures.entry(step.switch.clone()).or_default();
                    of_switch.parts.insert(step.write.part(), failure);
                }
            }
        }
        for switch in mirrors_moved {
            let ports = self.there.get(switch).map(|bridge| bridge.ports.keys());
            let ports: Vec<PortId> = ports.into_iter().flatten().cloned().collect();
            for port in ports {
                self.tell(now, switch, &port);
            }
        }
        failures
    }

    /// A step was carried out, wholly or in part, or not: what can't have cut the
    /// host off is on trial no more.
    fn changed(&mut self, Step { switch, write }: &Step, behind: Behind) {
        match (behind, write) {
            (Behind::Machine, Write::SetPort { port, from, .. }) => {
                self.rollback.spared((switch, port), from.as_deref());
            }
            (Behind::Machine, Write::RemovePort { port, from }) => {
                self.rollback.spared((switch, port), Some(from));
            }
            (Behind::Host, _)
            | (
                Behind::Machine,
                Write::SetBridge { .. }
                | Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemoveBridge { .. },
            ) => {}
        }
    }

    /// Takes a step into the picture of what is there, and tells of it.
    fn carried_out(
        &mut self,
        now: Timestamp,
        Step { switch, write }: &Step,
        Done {
            link,
            behind: _,
            extent: _,
        }: Done,
        out: &mut Decision<Effect>,
    ) {
        if let Write::SetBridge { to, .. } = write {
            self.there
                .entry(switch.clone())
                .and_modify(|bridge| bridge.settings = to.clone())
                .or_insert_with(|| Bridge {
                    settings: to.clone(),
                    ports: BTreeMap::new(),
                    mirrors: BTreeMap::new(),
                    failing: BTreeSet::new(),
                })
                .failing
                .remove(&Part::Bridge);
            return;
        }
        let Some(bridge) = self.there.get_mut(switch) else {
            return;
        };
        bridge.failing.remove(&write.part());
        match write {
            Write::SetBridge { .. } => {}
            Write::SetPort { port, from, to } => {
                let before = from.as_deref().filter(|from| from.epoch == to.epoch);
                self.plugging
                    .came(now, port, to.epoch, before, to.vnic.as_ref());
                let stayed = from.as_deref().is_some_and(|from| {
                    let of = self.switches.get(switch);
                    of.is_some_and(|of| of.held.took_over(from.epoch, to.epoch))
                        && (&from.vnic, from.mac) == (&to.vnic, to.mac)
                });
                if before.is_none() && !stayed && self.plugging.is_plugged(port) {
                    let link = link.unwrap_or(Link::Down);
                    let key = (switch.clone(), port.clone());
                    self.announcing.came(now, key, to.epoch, link);
                }
                let plugged = PluggedPort {
                    port: to.clone(),
                    link: link.unwrap_or(Link::Down),
                };
                let was = bridge.ports.insert(port.clone(), plugged);
                if was.is_some_and(|was| was.link == Link::Up) && link == Some(Link::Down) {
                    let port = (switch.clone(), port.clone());
                    self.effect(HostEffect::Count(vec![port]), out);
                }
                self.tell(now, switch, port);
            }
            Write::RemovePort { port, from } => {
                bridge.ports.remove(port);
                self.announcing.went(&(switch.clone(), port.clone()));
                self.telling
                    .gone(now, switch, port, from.epoch, &mut self.chance);
                self.tell_ended(now, Some(port));
            }
            Write::SetMirror { mirror, to, .. } => {
                bridge.mirrors.insert(mirror.clone(), to.clone());
            }
            Write::RemoveMirror { mirror, .. } => {
                bridge.mirrors.remove(mirror);
            }
            Write::RemoveBridge { .. } => {
                self.there.remove(switch);
            }
        }
    }
}
