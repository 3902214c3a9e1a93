// SPDX-License-Identifier: Apache-2.0
//! What a host was told to be gone, by the messages that it has taken: a
//! model of rule 2 that knows nothing of floors and tombstones.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{Clobber, FinalState, Remove, SwitchObjects};
use dvs_schemas::{Revision, StoreId, SwitchName};
use host_agent::held::{HeldSwitch, Object};

/// What one host has taken, by switch.
#[derive(Debug, Default)]
pub struct Taken(BTreeMap<SwitchName, OfSwitch>);

/// What was taken of one switch.
#[derive(Debug)]
struct OfSwitch {
    /// The latest store.
    store: StoreId,
    /// The newest full state's revision, and all that it named.
    full: Revision,
    named: BTreeSet<Object>,
    /// The newest message that it may have taken; what is older may have been
    /// overtaken by that.
    unsure: Revision,
    /// Objects that were removed one by one, and when last.
    removed: BTreeMap<Object, Revision>,
}

fn named(objects: &SwitchObjects) -> BTreeSet<Object> {
    let groups = objects.groups.iter();
    let mirrors = objects.mirrors.iter();
    let ports = objects.ports.iter();
    groups
        .map(|group| Object::Group(group.value.name.clone()))
        .chain(mirrors.map(|mirror| Object::Mirror(mirror.value.name.clone())))
        .chain(ports.map(|port| Object::Port(port.value.id.clone())))
        .collect()
}

impl OfSwitch {
    fn new(store: StoreId) -> Self {
        Self {
            store,
            full: Revision::ZERO,
            named: BTreeSet::new(),
            unsure: Revision::ZERO,
            removed: BTreeMap::new(),
        }
    }

    fn full(&mut self, revision: Revision, named: BTreeSet<Object>) {
        if self.full.max(self.unsure) <= revision {
            self.full = revision;
            self.named = named;
        }
    }

    fn removed(&mut self, object: Object, revision: Revision) {
        let newest = self.removed.entry(object).or_default();
        *newest = revision.max(*newest);
    }

    /// Why an object of that revision should not be held.
    fn gone(&self, object: &Object, revision: Revision) -> Option<String> {
        if revision <= self.full && !self.named.contains(object) {
            let full = self.full;
            return Some(format!("the full state of revision {full} did not have it"));
        }
        let removed = self.removed.get(object)?;
        (revision < *removed).then(|| format!("it was removed at revision {removed}"))
    }
}

impl Taken {
    /// What is known of a switch, if a message of that store counts for it:
    /// only full states lead from one store to a later one.
    fn of(&mut self, switch: &SwitchName, store: StoreId, full: bool) -> Option<&mut OfSwitch> {
        let known = self.0.entry(switch.clone());
        let known = known.or_insert_with(|| OfSwitch::new(store));
        if store > known.store && full {
            *known = OfSwitch::new(store);
        }
        (known.store == store).then_some(known)
    }

    pub(super) fn clobber(&mut self, message: &Clobber) {
        let full = !matches!(message.state, FinalState::Partial { .. });
        let Some(known) = self.of(&message.switch, message.store, full) else {
            return;
        };
        match &message.state {
            FinalState::Full { objects, .. } => known.full(message.revision, named(objects)),
            FinalState::Absent => known.full(message.revision, BTreeSet::new()),
            FinalState::Partial { removed, .. } => {
                for gone in removed {
                    known.removed((&gone.object).into(), gone.revision);
                }
            }
        }
    }

    /// The power failed as the message came: nobody knows whether it was taken.
    pub(super) fn unsure(&mut self, message: &Clobber) {
        let full = !matches!(message.state, FinalState::Partial { .. });
        if let Some(known) = self.of(&message.switch, message.store, full) {
            *known = OfSwitch {
                unsure: known.full.max(known.unsure).max(message.revision),
                ..OfSwitch::new(message.store)
            };
        }
    }

    pub(super) fn remove(&mut self, message: &Remove) {
        if let Some(known) = self.of(&message.switch, message.store, false) {
            for gone in &message.ports {
                known.removed(Object::Port(gone.port.clone()), gone.revision);
            }
        }
    }

    /// The first object that is held and should be gone, and why.
    pub(super) fn back(&self, switch: &SwitchName, held: &HeldSwitch) -> Option<(Object, String)> {
        let known = self
            .0
            .get(switch)
            .filter(|known| known.store == held.store)?;
        let groups = held.groups.iter();
        let mirrors = held.mirrors.iter();
        let ports = held.ports.iter();
        groups
            .map(|(name, group)| (Object::Group(name.clone()), group.revision))
            .chain(mirrors.map(|(name, mirror)| (Object::Mirror(name.clone()), mirror.revision)))
            .chain(ports.map(|(id, port)| (Object::Port(id.clone()), port.revision)))
            .find_map(|(object, revision)| {
                let why = known.gone(&object, revision)?;
                Some((object, why))
            })
    }
}
