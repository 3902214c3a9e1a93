// SPDX-License-Identifier: Apache-2.0
//! Messages against the state held: what of a message is news, what has been
//! overtaken, and what can't be. Judged object by object, so that any order
//! and repetition of the same messages ends in the same state.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{
    Clobber, FinalState, Remove, Removed, SwitchObjects, SwitchState, Versioned,
};
use dvs_schemas::{PortId, Revision, StoreId, SwitchName};

use crate::held::{HeldSwitch, Object};
use crate::refusal::Refusal;
use crate::sender::{Sender, follow, sender};

/// What became of an object that a message changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// It is held now, and was not before.
    Came,
    /// It is another than before.
    Changed,
    /// It is the same under a newer revision.
    Renumbered,
    /// It is held no more.
    Went,
}

/// What a message changed in the state held; nothing, if it was overtaken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Store, floor or settings.
    pub switch: bool,
    /// The switch's settings, if they changed.
    pub settings: Option<Touch>,
    /// Objects, in the order of the message.
    pub objects: Vec<(Object, Touch)>,
    /// Tombstones that came or went.
    pub tombstones: Vec<Object>,
}

impl Touched {
    /// True if the state held is what it was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            switch,
            settings,
            objects,
            tombstones,
        } = self;
        !switch && settings.is_none() && objects.is_empty() && tombstones.is_empty()
    }
}

/// Admits a clobber. `held` is what is held of the message's switch; for the
/// first message, [`HeldSwitch::blank`] of its store.
///
/// # Errors
/// [`Refusal`]; then nothing of the message was taken.
pub fn clobber(held: &mut HeldSwitch, message: &Clobber) -> Result<Touched, Refusal> {
    let Clobber {
        v: _,
        store,
        lineage,
        switch,
        revision,
        insist: _,
        state,
    } = message;
    let mut touched = Touched::default();
    match sender(held, switch, *store, lineage, *revision)? {
        Sender::Followed => {}
        Sender::Replacing => {
            if let FinalState::Partial { .. } = state {
                return Err(replacing(switch, *store, held.store));
            }
            start_over(held, *store, &mut touched);
        }
    }
    let before = held.run;
    match state {
        // An older full state than the newest is overtaken as a whole.
        FinalState::Full { .. } | FinalState::Absent if *revision < held.floor => {}
        FinalState::Full { settings, objects } => {
            check(held, switch, Some(settings), objects)?;
            raise(held, *revision, &Named::of(objects), &mut touched);
            // What it names was there at its revision, however old.
            take_settings(held, settings, Revision::ZERO, &mut touched);
            take_objects(held, objects, Revision::ZERO, &mut touched);
        }
        FinalState::Absent => {
            raise(held, *revision, &Named::default(), &mut touched);
            let old = |settings: &mut Versioned<SwitchState>| settings.revision <= *revision;
            if held.settings.take_if(old).is_some() {
                touched.switch = true;
                touched.settings = Some(Touch::Went);
            }
        }
        FinalState::Partial {
            settings,
            objects,
            removed,
        } => {
            // Messages with ports are for their host alone and bring along what
            // the ports need; only those without go to whoever still listens.
            let to_all = objects.ports.is_empty();
            if to_all && held.settings.is_none() && *revision > held.floor {
                return Err(Refusal::NotAMember {
                    switch: switch.clone(),
                });
            }
            check(held, switch, settings.as_ref(), objects)?;
            let floor = held.floor;
            if let Some(settings) = settings {
                take_settings(held, settings, floor, &mut touched);
            }
            take_objects(held, objects, floor, &mut touched);
            for Removed { object, revision } in removed {
                bury(held, object.into(), *revision, &mut touched);
            }
        }
    }
    follow(held, lineage, *revision);
    touched.switch |= held.run != before;
    Ok(touched)
}

/// Follows another store: nothing held can be compared with what comes, so all
/// of it goes.
fn start_over(held: &mut HeldSwitch, store: StoreId, touched: &mut Touched) {
    clear(held, Revision(u64::MAX), &Named::default(), touched);
    touched.settings = held.settings.is_some().then_some(Touch::Went);
    touched.switch = true;
    *held = HeldSwitch::blank(store);
}

/// Admits a removal of ports. Ports that a newer state keeps are left out of
/// the second value.
///
/// # Errors
/// [`Refusal`]; then nothing of the message was taken.
pub fn remove(
    held: &mut HeldSwitch,
    message: &Remove,
) -> Result<(Touched, BTreeSet<PortId>), Refusal> {
    let Remove {
        v: _,
        store,
        lineage,
        switch,
        ports,
    } = message;
    let newest = ports.iter().map(|port| port.revision).max();
    let newest = newest.unwrap_or_default();
    match sender(held, switch, *store, lineage, newest)? {
        Sender::Followed => {}
        Sender::Replacing => return Err(replacing(switch, *store, held.store)),
    }
    let before = held.run;
    let mut touched = Touched::default();
    let mut going = BTreeSet::new();
    for port in ports {
        bury(
            held,
            Object::Port(port.port.clone()),
            port.revision,
            &mut touched,
        );
        if !held.ports.contains_key(&port.port) {
            going.insert(port.port.clone());
        }
    }
    follow(held, lineage, newest);
    touched.switch |= held.run != before;
    Ok((touched, going))
}

fn replacing(switch: &SwitchName, store: StoreId, held: StoreId) -> Refusal {
    Refusal::ReplacingStore {
        switch: switch.clone(),
        store,
        held,
    }
}

/// The objects that a full state names.
#[derive(Debug, Default)]
struct Named<'a> {
    groups: BTreeSet<&'a str>,
    mirrors: BTreeSet<&'a str>,
    ports: BTreeSet<&'a str>,
}

impl<'a> Named<'a> {
    fn of(objects: &'a SwitchObjects) -> Self {
        let SwitchObjects {
            groups,
            mirrors,
            ports,
        } = objects;
        Self {
            groups: groups.iter().map(|g| g.value.name.as_str()).collect(),
            mirrors: mirrors.iter().map(|m| m.value.name.as_str()).collect(),
            ports: ports.iter().map(|p| p.value.id.as_str()).collect(),
        }
    }
}

/// Nothing of the message may contradict what is held under the same revision.
fn check(
    held: &HeldSwitch,
    switch: &SwitchName,
    settings: Option<&Versioned<SwitchState>>,
    objects: &SwitchObjects,
) -> Result<(), Refusal> {
    let conflict = |object: String, revision| Refusal::Conflict {
        switch: switch.clone(),
        object,
        revision,
    };
    if let (Some(new), Some(old)) = (settings, &held.settings)
        && contradicts(old, new)
    {
        return Err(conflict("settings".to_owned(), new.revision));
    }
    let SwitchObjects {
        groups,
        mirrors,
        ports,
    } = objects;
    for new in groups {
        if differs(&held.groups, new.value.name.as_str(), new) {
            let object = Object::Group(new.value.name.clone());
            return Err(conflict(object.to_string(), new.revision));
        }
    }
    for new in mirrors {
        if differs(&held.mirrors, new.value.name.as_str(), new) {
            let object = Object::Mirror(new.value.name.clone());
            return Err(conflict(object.to_string(), new.revision));
        }
    }
    for new in ports {
        if differs(&held.ports, new.value.id.as_str(), new) {
            let object = Object::Port(new.value.id.clone());
            return Err(conflict(object.to_string(), new.revision));
        }
    }
    Ok(())
}

fn contradicts<T: PartialEq>(old: &Versioned<T>, new: &Versioned<T>) -> bool {
    old.revision == new.revision && old.value != new.value
}

fn differs<K: Ord + std::borrow::Borrow<str>, T: PartialEq>(
    held: &BTreeMap<K, Versioned<T>>,
    name: &str,
    new: &Versioned<T>,
) -> bool {
    held.get(name).is_some_and(|old| contradicts(old, new))
}

/// Raises the floor for a full state: what is held, not newer and not named in
/// it goes, and tombstones that it has seen are needed no more.
fn raise(held: &mut HeldSwitch, floor: Revision, named: &Named<'_>, touched: &mut Touched) {
    touched.switch |= floor != held.floor;
    held.floor = floor;
    clear(held, floor, named, touched);
}

/// Drops objects and tombstones of up to `revision`, but for the objects named.
fn clear(held: &mut HeldSwitch, revision: Revision, named: &Named<'_>, touched: &mut Touched) {
    let HeldSwitch {
        store: _,
        run: _,
        floor: _,
        settings: _,
        groups,
        mirrors,
        ports,
        tombstones,
    } = held;
    let gone = &mut touched.objects;
    drop_old(groups, revision, &named.groups, gone, Object::Group);
    drop_old(mirrors, revision, &named.mirrors, gone, Object::Mirror);
    drop_old(ports, revision, &named.ports, gone, Object::Port);
    tombstones.retain(|object, removed| {
        let keep = *removed > revision;
        if !keep {
            touched.tombstones.push(object.clone());
        }
        keep
    });
}

fn drop_old<K: Clone + Ord + std::borrow::Borrow<str>, T>(
    held: &mut BTreeMap<K, Versioned<T>>,
    revision: Revision,
    named: &BTreeSet<&str>,
    gone: &mut Vec<(Object, Touch)>,
    object: impl Fn(K) -> Object,
) {
    held.retain(|key, value| {
        let keep = value.revision > revision || named.contains(key.borrow());
        if !keep {
            gone.push((object(key.clone()), Touch::Went));
        }
        keep
    });
}

fn take_settings(
    held: &mut HeldSwitch,
    new: &Versioned<SwitchState>,
    floor: Revision,
    touched: &mut Touched,
) {
    let touch = match &held.settings {
        Some(old) if old.revision >= new.revision => return,
        Some(old) if old.value == new.value => Touch::Renumbered,
        Some(_) => Touch::Changed,
        None if new.revision <= floor => return,
        None => Touch::Came,
    };
    held.settings = Some(new.clone());
    touched.switch = true;
    touched.settings = Some(touch);
}

fn take_objects(
    held: &mut HeldSwitch,
    objects: &SwitchObjects,
    floor: Revision,
    touched: &mut Touched,
) {
    let HeldSwitch {
        store: _,
        run: _,
        floor: _,
        settings: _,
        groups: held_groups,
        mirrors: held_mirrors,
        ports: held_ports,
        tombstones,
    } = held;
    let SwitchObjects {
        groups,
        mirrors,
        ports,
    } = objects;
    let mut bar = Bar {
        floor,
        tombstones,
        touched,
    };
    for new in groups {
        let name = &new.value.name;
        bar.take(held_groups, name, new, Object::Group);
    }
    for new in mirrors {
        let name = &new.value.name;
        bar.take(held_mirrors, name, new, Object::Mirror);
    }
    for new in ports {
        let id = &new.value.id;
        bar.take(held_ports, id, new, Object::Port);
    }
}

/// What an object that is not held must be newer than to be taken.
struct Bar<'a> {
    floor: Revision,
    tombstones: &'a mut BTreeMap<Object, Revision>,
    touched: &'a mut Touched,
}

impl Bar<'_> {
    fn take<K: Clone + Ord, T: Clone + PartialEq>(
        &mut self,
        held: &mut BTreeMap<K, Versioned<T>>,
        key: &K,
        new: &Versioned<T>,
        object: impl Fn(K) -> Object,
    ) {
        if let Some(old) = held.get_mut(key) {
            if old.revision < new.revision {
                let touch = if old.value == new.value {
                    Touch::Renumbered
                } else {
                    Touch::Changed
                };
                old.clone_from(new);
                self.touched.objects.push((object(key.clone()), touch));
            }
            return;
        }
        if new.revision <= self.floor {
            return;
        }
        let object = object(key.clone());
        if let Some(removed) = self.tombstones.get(&object) {
            if *removed >= new.revision {
                return;
            }
            self.tombstones.remove(&object);
            self.touched.tombstones.push(object.clone());
        }
        held.insert(key.clone(), new.clone());
        self.touched.objects.push((object, Touch::Came));
    }
}

/// Removes an object unless a newer state keeps it: its own, or a full state
/// of the same commit or later that still had it.
fn bury(held: &mut HeldSwitch, object: Object, revision: Revision, touched: &mut Touched) {
    let at = match &object {
        Object::Group(name) => held.groups.get(name).map(|held| held.revision),
        Object::Mirror(name) => held.mirrors.get(name).map(|held| held.revision),
        Object::Port(name) => held.ports.get(name).map(|held| held.revision),
    };
    // At or below the floor, the floor says the same already.
    if revision <= held.floor || at.is_some_and(|at| at >= revision) {
        return;
    }
    if at.is_some() {
        match &object {
            Object::Group(name) => drop(held.groups.remove(name)),
            Object::Mirror(name) => drop(held.mirrors.remove(name)),
            Object::Port(name) => drop(held.ports.remove(name)),
        }
        touched.objects.push((object.clone(), Touch::Went));
    }
    let newest = held.tombstones.entry(object.clone()).or_default();
    if *newest < revision {
        *newest = revision;
        touched.tombstones.push(object);
    }
}
