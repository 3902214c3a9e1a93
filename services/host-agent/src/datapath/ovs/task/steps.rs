// SPDX-License-Identifier: Apache-2.0
//! Steps that are asked for: taken into what is to be, written, and answered by
//! what keeps each from being true.

use dvs_schemas::v1::{CountersOf, Link};
use dvs_schemas::{PortId, SwitchName};

use super::Task;
use super::database::unchanged;
use crate::datapath::ovs::config::DriftPolicy;
use crate::datapath::ovs::intent::take;
use crate::datapath::ovs::rows::Scope;
use crate::datapath::{
    Behind, DatapathError, Done, Extent, NotApplied, Part, Ports, Step, StepFailure, Write,
};

impl Task {
    /// Carries out steps as one delta, as far as it goes.
    pub(super) async fn apply(
        &mut self,
        steps: &[Step],
        guarded: &Ports,
    ) -> Result<Vec<Result<Done, StepFailure>>, NotApplied> {
        // Whatever stands in the way, what was asked for is not done.
        let error = |error: DatapathError| unchanged(error.reason);
        self.be_connected().await.map_err(error)?;
        // First, as it may end what interfaces counted that are gone by now.
        self.catch_up().await.map_err(unchanged)?;
        let refused = self.what_cuts_off(steps);
        let behind = self.who_is_behind(steps);
        let unguarded = unguarded(steps, &refused, &behind, guarded);
        if !unguarded.is_empty() {
            return Err(NotApplied::Unguarded(unguarded));
        }
        self.read_placements(steps).await;
        let able = self.abilities.clone();
        let taken = steps.iter().zip(&refused);
        let mut results: Vec<Result<Done, StepFailure>> = taken
            .map(|(step, refused)| match refused {
                Some(why) => Err(why.clone()),
                None => self.take(step),
            })
            .collect();
        let scope = self.scope(steps);
        self.write(&scope).await.map_err(error)?;
        self.forward_all().await;
        self.try_shaping(steps).await;
        if self.abilities != able {
            self.take_again(steps, &refused, &mut results);
            self.catch_up().await.map_err(unchanged)?;
            self.write(&scope).await.map_err(error)?;
            self.forward_all().await;
        }
        let steps = steps.iter().zip(&refused).zip(behind);
        for (((step, refused), behind), result) in steps.zip(&mut results) {
            let failure = self.failure(&step.switch, &step.write.part());
            let failure = failure.or_else(|| match step.write {
                Write::SetBridge { .. } => self.kept.get(&step.switch)?.failure(),
                Write::SetPort { .. }
                | Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemovePort { .. }
                | Write::RemoveBridge { .. } => None,
            });
            if let Some(failure) = failure {
                *result = Err(failure);
            } else if let Ok(done) = result
                && let Write::SetPort { port, .. } = &step.write
            {
                let plug = self.plug(&step.switch, port);
                done.link = Some(plug.map_or(Link::Down, |plug| plug.link));
                done.behind = behind;
            }
            if let Ok(done) = result {
                done.extent = self.extent(step);
            }
            match (&mut *result, refused) {
                (Ok(_), _) => self.has_left(step),
                // What can be done of it may be in force.
                (Err(failure), None) => failure.behind = behind,
                (Err(_), Some(_)) => {}
            }
        }
        Ok(results)
    }

    /// What may be written for some steps: where drift is only told, nothing
    /// besides but sessions of their switches, which follow ports.
    fn scope(&self, steps: &[Step]) -> Scope {
        let places = steps.iter().flat_map(|step| {
            let wish = self.intent.get(&step.switch);
            let sessions = wish.into_iter().flat_map(|wish| wish.mirrors.keys());
            let parts = sessions.cloned().map(Part::Mirror);
            let parts = parts.chain([step.write.part()]);
            parts.map(|part| (step.switch.clone(), part))
        });
        match self.config.drift {
            DriftPolicy::Repair => Scope::All,
            DriftPolicy::Report => Scope::Only(places.collect()),
        }
    }

    /// Takes a step into the intent, and ends what it ends.
    fn take(&mut self, step: &Step) -> Result<Done, StepFailure> {
        let ends = self.ends(step);
        match &step.write {
            Write::RemoveBridge { .. } => drop(self.going.insert(step.switch.clone())),
            Write::SetBridge { .. } => drop(self.going.remove(&step.switch)),
            Write::SetPort { .. }
            | Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemovePort { .. } => {}
        }
        self.leaves(step);
        let taken = take(&mut self.intent, step, &self.abilities);
        if let Some((key, epoch)) = ends {
            let counters = self.tallies.end(&key);
            let (switch, port) = key;
            if let Write::RemovePort { .. } = step.write {
                self.tallies.forget(&(switch.clone(), port.clone()));
            }
            let of = CountersOf {
                port,
                epoch,
                counters,
            };
            self.ended.push((switch, of));
        }
        if let Write::SetPort { port, .. } = &step.write {
            self.go_on(&(step.switch.clone(), port.clone()));
        }
        taken.map(|()| Done::default())
    }

    /// What can be done turned out to be less than thought.
    fn take_again(
        &mut self,
        steps: &[Step],
        refused: &[Option<StepFailure>],
        results: &mut [Result<Done, StepFailure>],
    ) {
        for ((step, refused), result) in steps.iter().zip(refused).zip(results) {
            if let (Write::SetPort { .. }, None) = (&step.write, refused)
                && let Err(failure) = take(&mut self.intent, step, &self.abilities)
            {
                *result = Err(failure);
            }
        }
    }

    /// The placement that a step ends.
    fn ends(
        &self,
        Step { switch, write }: &Step,
    ) -> Option<((SwitchName, PortId), dvs_schemas::Epoch)> {
        let (port, next) = match write {
            Write::SetPort { port, to, .. } => (port, Some(to.epoch)),
            Write::RemovePort { port, .. } => (port, None),
            Write::SetBridge { .. }
            | Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemoveBridge { .. } => return None,
        };
        let held = self.intent.get(switch)?.ports.get(port)?.epoch;
        (Some(held) != next).then(|| ((switch.clone(), port.clone()), held))
    }

    /// How far a step went that was carried out.
    fn extent(&self, Step { switch, write }: &Step) -> Extent {
        match write {
            Write::SetPort { port, .. } | Write::RemovePort { port, .. } => {
                match self.plug(switch, port) {
                    Some(_) => Extent::Written,
                    None => Extent::Kept,
                }
            }
            Write::SetBridge { .. }
            | Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemoveBridge { .. } => Extent::Written,
        }
    }
}

/// The ports that the host itself lives behind, and that are to be changed
/// without anybody to undo it.
fn unguarded(
    steps: &[Step],
    refused: &[Option<StepFailure>],
    behind: &[Behind],
    guarded: &Ports,
) -> Ports {
    let steps = steps.iter().zip(refused).zip(behind);
    let of_host = steps.filter_map(|((step, refused), behind)| match (refused, behind) {
        (None, Behind::Host) => match step.write.part() {
            Part::Port(port) => Some((step.switch.clone(), port)),
            Part::Bridge | Part::Mirror(_) => None,
        },
        (Some(_), Behind::Host) | (_, Behind::Machine) => None,
    });
    of_host.filter(|of| !guarded.contains(of)).collect()
}
