// SPDX-License-Identifier: Apache-2.0
//! Changes on trial: what the host does so that none cuts it off
//! from the bus for good; and that it says so when it is in force again.

use std::collections::BTreeMap;

use dvs_ledger::Decision;
use dvs_schemas::{Revision, SwitchName, Timestamp};

use super::messages::HostEffect;
use super::rollback::{Due, Subject};
use super::waiter::Failures;
use super::{Effect, HostCore};
use crate::datapath::{Part, Ports, Step, Write};
use crate::plan::Parts;

impl HostCore {
    /// Asks the bus about changes on trial, and rolls back what is over its
    /// bound.
    pub(super) fn guard(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        let Due { ask, roll_back } = self.rollback.wake(now);
        if let Some(wait) = ask {
            self.effect(HostEffect::Probe(wait), out);
        }
        for ((name, port), revision) in roll_back {
            let Some(switch) = self.switches.get_mut(&name) else {
                continue;
            };
            for (of, why) in self.rollback.why(&name, &switch.held) {
                if of == port {
                    tracing::error!(host = %self.host, switch = %name, "a change is {why}");
                }
            }
            switch.observed = switch.observed.min(Revision(revision.0.saturating_sub(1)));
            match port {
                Some(port) => drop(switch.dirty.ports.insert(port)),
                // Ports are in private VLANs by the bridge. What went meanwhile is
                // marked by name, and stays so.
                None => {
                    let all = Parts::all(&switch.held, self.there.get(&name));
                    switch.dirty.extend(all);
                }
            }
            self.cycle.wants_plan(now, None);
        }
    }

    /// Steps are about to be carried out. What is on trial and needs none is in
    /// force.
    pub(super) fn begins(&mut self, now: Timestamp, steps: &[Step], out: &mut Decision<Effect>) {
        let online = self.greeting.is_online();
        let subjects = self.rollback.subjects().cloned();
        let mut in_force: Vec<Subject> = subjects.collect();
        in_force.retain(|(name, port)| {
            let part = port.clone().map_or(Part::Bridge, Part::Port);
            let of = self.switches.get(name);
            let is_owed = of.is_some_and(|of| of.dirty.contains(&part));
            let changes = |step: &Step| step.switch == *name && step.write.part() == part;
            !is_owed && !steps.iter().any(changes)
        });
        let mut reconnects = false;
        for subject in in_force {
            reconnects |= self.rollback.carried_out(now, &subject, None);
        }
        if reconnects {
            self.effect(HostEffect::Reconnect, out);
        }
        for Step { switch, write } in steps {
            let Some(of) = self.switches.get(switch) else {
                continue;
            };
            match write {
                Write::SetBridge { from, .. } => {
                    let from = from.as_deref();
                    self.rollback.begins(online, switch, &of.held, from);
                }
                Write::SetPort {
                    port,
                    from: Some(from),
                    to,
                } => {
                    let (what, change) = ((switch, port), (&**from, &**to));
                    self.rollback.port_begins(online, what, &of.held, change);
                }
                Write::SetPort { from: None, .. }
                | Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemovePort { .. }
                | Write::RemoveBridge { .. } => {}
            }
        }
    }

    /// Nothing of an apply was carried out, as the host itself lives behind these
    /// ports: all of it is planned again at once, and guards them. False if they
    /// were guarded.
    pub(super) fn holds_back(&mut self, steps: &[Step], ports: Ports) -> bool {
        if !self.rollback.guards(ports) {
            return false;
        }
        for step in steps {
            if let Some(switch) = self.switches.get_mut(&step.switch) {
                switch.dirty.insert(step.write.part());
            }
        }
        self.cycle.plans_again();
        true
    }

    /// Steps were carried out, but for those that failed.
    pub(super) fn tried(
        &mut self,
        now: Timestamp,
        steps: &[Step],
        failures: &BTreeMap<SwitchName, Failures>,
        out: &mut Decision<Effect>,
    ) {
        let mut reconnects = false;
        for Step { switch, write } in steps {
            let port = match write {
                Write::SetBridge { .. } => None,
                Write::SetPort { port, .. } => Some(port.clone()),
                Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemovePort { .. }
                | Write::RemoveBridge { .. } => continue,
            };
            let failures = failures.get(switch);
            let rest = failures.and_then(|of| of.parts.get(&write.part()));
            let subject = (switch.clone(), port);
            reconnects |= self.rollback.carried_out(now, &subject, rest);
        }
        if reconnects {
            self.effect(HostEffect::Reconnect, out);
        }
    }

    /// What somebody was told to have failed may have come true without
    /// anybody asking again: the publisher hears of it by another hello.
    pub(super) fn recovered(&mut self, now: Timestamp) {
        if !self.cycle.is_idle() {
            return;
        }
        let mut recovered = false;
        for (name, switch) in &mut self.switches {
            let whole = switch.dirty.is_empty()
                && switch.stuck.is_empty()
                && !self.rollback.is_rolled_back(name, &switch.held);
            recovered |= whole && std::mem::take(&mut switch.failed);
        }
        if recovered {
            self.greeting.again(now);
        }
    }
}
