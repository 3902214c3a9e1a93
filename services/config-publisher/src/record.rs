// SPDX-License-Identifier: Apache-2.0
//! What a change still owes the hosts: one durable record per change, written
//! with the change itself and dropped when every host has acknowledged or is
//! retry's. It names what is to be pushed and never holds it, so that what
//! leaves is the present state, after a restart too.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ledger::Writes;
use dvs_schemas::v1::{GlobalKey, SwitchState, Versioned};
use dvs_schemas::{HostName, ObjectKey, PortId, Revision, SwitchDoc, SwitchName};
use serde::{Deserialize, Serialize};

use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::ledger::{WANTED, within};
use crate::render::{is_member, members, settings_of};

/// Names a push, and its record if it has one. Never used twice in the life of
/// a process, nor while a record of that name exists.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct PushId(pub u64);

/// What a change still owes the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The commit that caused it; the newest, of several records in one.
    pub revision: Revision,
    /// By switch.
    pub switches: BTreeMap<SwitchName, Owed>,
    /// Hosts that were forgotten, with the commit that did it. They are owed
    /// nothing, and retry and the collector are to know.
    #[serde(default)]
    pub forgotten: BTreeMap<HostName, Revision>,
}

/// What is owed to the hosts of one switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owed {
    /// The settings, to every host.
    pub settings: bool,
    /// Groups and mirror sessions, to every host.
    pub globals: BTreeSet<GlobalKey>,
    /// Ports, each to its host.
    pub ports: BTreeMap<HostName, BTreeSet<PortId>>,
    /// Removals of ports, each to the host that it was on, with the commit that
    /// took it away.
    pub removals: BTreeMap<HostName, BTreeMap<PortId, Revision>>,
    /// Hosts that are owed everything, or the word that nothing is to stay.
    /// They are in neither of the two above.
    pub whole: BTreeSet<HostName>,
    /// Those of them that are to try again what they have rolled back.
    pub insist: BTreeSet<HostName>,
}

impl Owed {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what is owed besides. A host that is owed everything needs no parts.
    pub(crate) fn join(&mut self, other: Self) {
        let Self {
            settings,
            globals,
            ports,
            removals,
            whole,
            insist,
        } = other;
        self.settings |= settings;
        self.globals.extend(globals);
        self.whole.extend(whole);
        self.insist.extend(insist);
        for (host, ids) in ports {
            self.ports.entry(host).or_default().extend(ids);
        }
        for (host, taken) in removals {
            let known = self.removals.entry(host).or_default();
            for (id, revision) in taken {
                let newest = known.entry(id).or_default();
                *newest = revision.max(*newest);
            }
        }
        let whole = &self.whole;
        self.ports.retain(|host, _| !whole.contains(host));
        self.removals.retain(|host, _| !whole.contains(host));
    }

    /// True if something is owed to every host of the switch.
    #[must_use]
    pub fn to_all(&self) -> bool {
        self.settings || !self.globals.is_empty()
    }
}

impl Record {
    /// True if nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.switches.is_empty() && self.forgotten.is_empty()
    }

    /// Whatever is owed to a host, it will never come for it.
    pub fn forget(&mut self, host: &HostName, revision: Revision) {
        self.revision = self.revision.max(revision);
        for owed in self.switches.values_mut() {
            owed.ports.remove(host);
            owed.removals.remove(host);
            owed.whole.remove(host);
            owed.insist.remove(host);
        }
        self.switches.retain(|_, owed| !owed.is_empty());
        self.forgotten.insert(host.clone(), revision);
    }

    /// A record that owes hosts the whole of switches.
    #[must_use]
    pub fn whole(
        revision: Revision,
        pairs: impl IntoIterator<Item = (SwitchName, HostName)>,
    ) -> Self {
        let mut switches: BTreeMap<SwitchName, Owed> = BTreeMap::new();
        for (switch, host) in pairs {
            switches.entry(switch).or_default().whole.insert(host);
        }
        Self {
            revision,
            switches,
            forgotten: BTreeMap::new(),
        }
    }

    /// The same, and the hosts try again what they have rolled back.
    #[must_use]
    pub fn insisting(
        revision: Revision,
        pairs: impl IntoIterator<Item = (SwitchName, HostName)>,
    ) -> Self {
        let mut record = Self::whole(revision, pairs);
        for owed in record.switches.values_mut() {
            owed.insist = owed.whole.clone();
        }
        record
    }

    /// Adds what another change owes. What is pushed is the present state of all
    /// that either names, so one push does for both.
    pub fn join(&mut self, other: Self) {
        let Self {
            revision,
            switches,
            forgotten,
        } = other;
        self.revision = self.revision.max(revision);
        for (switch, owed) in switches {
            self.switches.entry(switch).or_default().join(owed);
        }
        for (host, revision) in forgotten {
            let newest = self.forgotten.entry(host).or_default();
            *newest = revision.max(*newest);
        }
    }

    /// What changes owe, once they are carried out.
    #[must_use]
    pub fn of(revision: Revision, changes: &ChangeSet, fleet: &Fleet) -> Self {
        let mut owing = Owing {
            revision,
            switches: BTreeMap::new(),
            entire: BTreeSet::new(),
        };
        // Switches first: who is owed the whole needs no parts.
        for change in &changes.0 {
            owing.switch(change, fleet);
        }
        for change in &changes.0 {
            owing.part(change);
        }
        let mut switches = owing.switches;
        switches.retain(|_, owed| !owed.is_empty());
        Self {
            revision,
            switches,
            forgotten: BTreeMap::new(),
        }
    }

    /// A record that owes the objects, as they are, to every host that they
    /// concern. A host that has them already says so, and writes nothing.
    #[must_use]
    pub fn asking(config: &Config, objects: &BTreeSet<ObjectKey>) -> Self {
        let mut record = Self {
            revision: config.revision(),
            ..Self::default()
        };
        let found = objects.iter().filter_map(|key| config.object(key));
        for (_, object) in found {
            let owed = record.switches.entry(object.switch().clone()).or_default();
            match object {
                Object::Switch(_) => owed.settings = true,
                Object::PortGroup(doc) => {
                    owed.globals.insert(GlobalKey::Group(doc.name));
                }
                Object::MirrorSession(doc) => {
                    owed.globals.insert(GlobalKey::Mirror(doc.name));
                }
                Object::Port(Placed { document, .. }) => {
                    if let Some(host) = document.host {
                        owed.ports.entry(host).or_default().insert(document.name);
                    }
                }
            }
        }
        record.switches.retain(|_, owed| !owed.is_empty());
        record
    }

    /// Enters the commit as wanted by whom it concerns.
    pub(crate) fn want(&self, config: &mut Config, fleet: &Fleet, writes: &mut Writes) {
        for (switch, owed) in &self.switches {
            let Some(entry) = config.switch(switch) else {
                continue;
            };
            let of_all = owed.to_all();
            let stays = |host: &HostName| is_member(&entry.value, fleet, host);
            let (here, gone): (Vec<_>, Vec<_>) = owed.whole.iter().partition(|host| stays(host));
            if of_all {
                config.want(switch, self.revision);
                writes.put(WANTED, switch.as_str(), &self.revision);
            } else {
                let parts = owed.ports.keys().chain(owed.removals.keys());
                for host in parts.chain(here) {
                    config.want_on(switch, host, self.revision);
                    writes.put(WANTED, within(switch, host), &self.revision);
                }
            }
            for host in gone {
                config.want_on(switch, host, Revision::ZERO);
                writes.delete(WANTED, within(switch, host));
            }
        }
    }
}

/// A record in the making.
struct Owing {
    revision: Revision,
    switches: BTreeMap<SwitchName, Owed>,
    /// Switches that come or go: their hosts are owed the whole, or nothing.
    entire: BTreeSet<SwitchName>,
}

impl Owing {
    fn owed(&mut self, switch: &SwitchName) -> &mut Owed {
        self.switches.entry(switch.clone()).or_default()
    }

    fn switch(&mut self, change: &Change, fleet: &Fleet) {
        match (change.before(), change.after()) {
            (Some(Object::Switch(before)), Some(Object::Switch(after))) => {
                let owed = self.owed(&after.name);
                owed.settings = pushed(before) != pushed(after);
                if before.hosts != after.hosts {
                    let (before, after) = (names(before, fleet), names(after, fleet));
                    owed.whole = before.symmetric_difference(&after).cloned().collect();
                }
            }
            (None, Some(Object::Switch(created))) => {
                let owed = self.owed(&created.name);
                // For hosts that are there by the time the push leaves.
                owed.settings = true;
                owed.whole = names(created, fleet);
                self.entire.insert(created.name.clone());
            }
            (Some(Object::Switch(deleted)), None) => {
                let owed = self.owed(&deleted.name);
                owed.whole = names(deleted, fleet);
                self.entire.insert(deleted.name.clone());
            }
            (Some(_), _) | (_, Some(_)) | (None, None) => {}
        }
    }

    fn part(&mut self, change: &Change) {
        match (change.before(), change.after()) {
            (Some(Object::PortGroup(before)), Some(Object::PortGroup(after))) => {
                // Hosts don't see which fields are overridable.
                if before.policy != after.policy {
                    self.global(&after.switch, GlobalKey::Group(after.name.clone()));
                }
            }
            (Some(Object::PortGroup(doc)), None) | (None, Some(Object::PortGroup(doc))) => {
                self.global(&doc.switch, GlobalKey::Group(doc.name.clone()));
            }
            (Some(Object::MirrorSession(doc)), _) | (_, Some(Object::MirrorSession(doc))) => {
                self.global(&doc.switch, GlobalKey::Mirror(doc.name.clone()));
            }
            (Some(Object::Port(before)), Some(Object::Port(after))) => {
                self.port(Some(before), Some(after));
            }
            (None, Some(Object::Port(created))) => self.port(None, Some(created)),
            (Some(Object::Port(deleted)), None) => self.port(Some(deleted), None),
            (Some(_), _) | (_, Some(_)) | (None, None) => {}
        }
    }

    fn global(&mut self, switch: &SwitchName, key: GlobalKey) {
        if !self.entire.contains(switch) {
            self.owed(switch).globals.insert(key);
        }
    }

    fn port(&mut self, before: Option<&Placed>, after: Option<&Placed>) {
        let Some(Placed { document, .. }) = after.or(before) else {
            return;
        };
        let host = |port: Option<&Placed>| port.and_then(|port| port.document.host.clone());
        let (from, to) = (host(before), host(after));
        let revision = self.revision;
        let owed = self.owed(&document.switch);
        let left = from.filter(|from| to.as_ref() != Some(from));
        if let Some(left) = left.filter(|left| !owed.whole.contains(left)) {
            let ports = owed.removals.entry(left).or_default();
            ports.insert(document.name.clone(), revision);
        }
        if let Some(to) = to.filter(|to| !owed.whole.contains(to)) {
            let ports = owed.ports.entry(to).or_default();
            ports.insert(document.name.clone());
        }
    }
}

/// A switch as far as its hosts see it.
fn pushed(doc: &SwitchDoc) -> Versioned<SwitchState> {
    settings_of(Revision::ZERO, doc)
}

fn names(doc: &SwitchDoc, fleet: &Fleet) -> BTreeSet<HostName> {
    members(doc, fleet).map(|(name, _)| name.clone()).collect()
}
