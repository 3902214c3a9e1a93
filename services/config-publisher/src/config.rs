// SPDX-License-Identifier: Apache-2.0
//! The configuration in memory: every object, and the indices that keep a
//! change's cost independent of how much there is. Changes are carried out
//! here and, for a dry run, taken back; whether they are allowed is decided in
//! [`crate::admission`].

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::codec::{Format, encode};
use dvs_schemas::{
    Epoch, HostName, MirrorName, MirrorSessionDoc, ObjectKey, PortGroupDoc, PortGroupName, PortId,
    Revision, StoreId, SwitchDoc, SwitchName, VnicId,
};
use serde::Serialize;

use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::render;

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The commit that last changed it.
    pub revision: Revision,
    /// The object.
    pub value: T,
    /// What it takes in a full state, in bytes.
    bytes: usize,
}

/// What a switch has on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnHost {
    /// The ports placed there.
    pub ports: BTreeSet<PortId>,
    /// The newest commit that concerned the host alone.
    pub wanted: Revision,
    /// What the ports take in a full state, in bytes.
    bytes: usize,
}

/// What is known of a switch beside its objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Index {
    /// Hosts with ports, or with a commit that concerned them.
    hosts: BTreeMap<HostName, OnHost>,
    /// `hosts` by the bytes of their ports; only those with ports.
    sizes: BTreeSet<(usize, HostName)>,
    /// Ports by group; only groups with ports.
    groups: BTreeMap<PortGroupName, BTreeSet<PortId>>,
    /// What settings, groups and mirror sessions take in a full state.
    bytes: usize,
    /// The newest commit that concerned all hosts.
    wanted: Revision,
}

/// The largest full state of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Largest {
    /// Bytes, as MessagePack, without the envelope.
    pub bytes: usize,
    /// The host that gets it; none if no port is placed.
    pub host: Option<HostName>,
}

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    store: StoreId,
    revision: Revision,
    deleted: Revision,
    switches: BTreeMap<SwitchName, Entry<SwitchDoc>>,
    groups: BTreeMap<SwitchName, BTreeMap<PortGroupName, Entry<PortGroupDoc>>>,
    mirrors: BTreeMap<SwitchName, BTreeMap<MirrorName, Entry<MirrorSessionDoc>>>,
    ports: BTreeMap<PortId, Entry<Placed>>,
    /// The port of each connected vNIC.
    vnics: BTreeMap<VnicId, PortId>,
    indices: BTreeMap<SwitchName, Index>,
}

/// What an object takes as MessagePack. What can't be written is found out by
/// the commit.
fn size_of<T: Serialize>(value: &T) -> usize {
    encode(Format::MessagePack, value).map_or(0, |bytes| bytes.len())
}

impl Config {
    /// Nothing yet, in this ledger.
    #[must_use]
    pub fn of(store: StoreId) -> Self {
        Self {
            store,
            ..Self::default()
        }
    }

    /// The epoch of what the next commit places, or takes off its host.
    #[must_use]
    pub fn next_epoch(&self) -> Epoch {
        Epoch::of(self.store, self.revision.next())
    }

    /// The next commits are of another ledger.
    pub(crate) fn set_store(&mut self, store: StoreId) {
        self.store = store;
    }

    /// The newest commit.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Sets the newest commit.
    pub(crate) fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    /// The newest commit that deleted something. What was deleted before it is
    /// not remembered one by one.
    #[must_use]
    pub fn deleted(&self) -> Revision {
        self.deleted
    }

    /// Sets the newest commit that deleted something.
    pub(crate) fn set_deleted(&mut self, revision: Revision) {
        self.deleted = revision;
    }

    /// A switch.
    #[must_use]
    pub fn switch(&self, name: &SwitchName) -> Option<&Entry<SwitchDoc>> {
        self.switches.get(name)
    }

    /// All switches.
    pub fn switches(&self) -> &BTreeMap<SwitchName, Entry<SwitchDoc>> {
        &self.switches
    }

    /// A port group.
    #[must_use]
    pub fn group(&self, switch: &SwitchName, name: &PortGroupName) -> Option<&Entry<PortGroupDoc>> {
        self.groups.get(switch)?.get(name)
    }

    /// The port groups of a switch.
    pub fn groups(&self, switch: &SwitchName) -> impl Iterator<Item = &Entry<PortGroupDoc>> {
        self.groups
            .get(switch)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// A mirror session.
    #[must_use]
    pub fn mirror(
        &self,
        switch: &SwitchName,
        name: &MirrorName,
    ) -> Option<&Entry<MirrorSessionDoc>> {
        self.mirrors.get(switch)?.get(name)
    }

    /// The mirror sessions of a switch.
    pub fn mirrors(&self, switch: &SwitchName) -> impl Iterator<Item = &Entry<MirrorSessionDoc>> {
        self.mirrors
            .get(switch)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// A port.
    #[must_use]
    pub fn port(&self, id: &PortId) -> Option<&Entry<Placed>> {
        self.ports.get(id)
    }

    /// The port that a vNIC is connected to.
    #[must_use]
    pub fn port_with(&self, vnic: &VnicId) -> Option<&PortId> {
        self.vnics.get(vnic)
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> usize {
        let groups = self.groups.values().map(BTreeMap::len);
        let mirrors = self.mirrors.values().map(BTreeMap::len);
        self.switches.len() + groups.chain(mirrors).sum::<usize>() + self.ports.len()
    }

    /// How many ports are on no host.
    #[must_use]
    pub fn nowhere(&self) -> usize {
        let ports = self.ports.values();
        ports
            .filter(|port| port.value.document.host.is_none())
            .count()
    }

    /// All ports.
    #[must_use]
    pub fn ports(&self) -> &BTreeMap<PortId, Entry<Placed>> {
        &self.ports
    }

    /// The ports of a group.
    pub fn ports_of(
        &self,
        switch: &SwitchName,
        group: &PortGroupName,
    ) -> impl Iterator<Item = &PortId> {
        let index = self.indices.get(switch);
        index
            .and_then(|index| index.groups.get(group))
            .into_iter()
            .flatten()
    }

    /// The ports of a switch, by group.
    pub fn ports_on(&self, switch: &SwitchName) -> impl Iterator<Item = &PortId> {
        let index = self.indices.get(switch);
        index
            .into_iter()
            .flat_map(|index| index.groups.values().flatten())
    }

    /// What a switch has on a host; none if nothing ever concerned it alone.
    #[must_use]
    pub fn on_host(&self, switch: &SwitchName, host: &HostName) -> Option<&OnHost> {
        self.indices.get(switch)?.hosts.get(host)
    }

    /// The hosts that something of a switch is or was placed on.
    pub fn hosts_of(&self, switch: &SwitchName) -> impl Iterator<Item = (&HostName, &OnHost)> {
        let index = self.indices.get(switch);
        index.into_iter().flat_map(|index| &index.hosts)
    }

    /// The newest commit that concerns a host of the switch.
    #[must_use]
    pub fn wanted(&self, switch: &SwitchName, host: &HostName) -> Revision {
        let Some(index) = self.indices.get(switch) else {
            return Revision::ZERO;
        };
        let alone = index.hosts.get(host).map_or(Revision::ZERO, |on| on.wanted);
        index.wanted.max(alone)
    }

    /// The largest full state of a switch.
    #[must_use]
    pub fn largest(&self, switch: &SwitchName) -> Largest {
        let index = self.indices.get(switch);
        let fullest = index.and_then(|index| index.sizes.last());
        Largest {
            bytes: index.map_or(0, |index| index.bytes) + fullest.map_or(0, |(bytes, _)| *bytes),
            host: fullest.map(|(_, host)| host.clone()),
        }
    }

    /// The commit that last changed an object; none if there is no such.
    #[must_use]
    pub fn revision_of(&self, key: &ObjectKey) -> Option<Revision> {
        match key {
            ObjectKey::Switch(name) => self.switch(name).map(|entry| entry.revision),
            ObjectKey::PortGroup(switch, name) => self.group(switch, name).map(|e| e.revision),
            ObjectKey::Port(id) => self.port(id).map(|entry| entry.revision),
            ObjectKey::MirrorSession(switch, name) => self.mirror(switch, name).map(|e| e.revision),
        }
    }

    /// An object and the commit that last changed it.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<(Revision, Object)> {
        match key {
            ObjectKey::Switch(name) => self
                .switch(name)
                .map(|e| (e.revision, Object::Switch(e.value.clone()))),
            ObjectKey::PortGroup(switch, name) => self
                .group(switch, name)
                .map(|e| (e.revision, Object::PortGroup(e.value.clone()))),
            ObjectKey::Port(id) => self
                .port(id)
                .map(|e| (e.revision, Object::Port(e.value.clone()))),
            ObjectKey::MirrorSession(switch, name) => self
                .mirror(switch, name)
                .map(|e| (e.revision, Object::MirrorSession(e.value.clone()))),
        }
    }

    /// Makes the changes, as of `revision`. The newest commit stays what it is.
    pub(crate) fn carry_out(&mut self, changes: &ChangeSet, revision: Revision) {
        for change in &changes.0 {
            match change {
                Change::Create(after) | Change::Update { after, .. } => {
                    self.put(revision, after.clone());
                }
                Change::Delete { before, .. } => self.take(before),
            }
        }
    }

    /// Undoes [`Self::carry_out`] of the same changes.
    pub(crate) fn take_back(&mut self, changes: &ChangeSet) {
        for change in changes.0.iter().rev() {
            match change {
                Change::Create(after) => self.take(after),
                Change::Update { before, since, .. } | Change::Delete { before, since } => {
                    self.put(*since, before.clone());
                }
            }
        }
    }

    /// Sets an object, whatever was there.
    pub(crate) fn put(&mut self, revision: Revision, object: Object) {
        match object {
            Object::Switch(value) => {
                let bytes = size_of(&render::settings_of(revision, &value));
                let index = self.indices.entry(value.name.clone()).or_default();
                let name = value.name.clone();
                let entry = Entry {
                    revision,
                    value,
                    bytes,
                };
                let replaced = self.switches.insert(name, entry);
                index.bytes = index.bytes + bytes - replaced.map_or(0, |old| old.bytes);
            }
            Object::PortGroup(value) => {
                let bytes = size_of(&render::group_of(revision, &value));
                let index = self.indices.entry(value.switch.clone()).or_default();
                let groups = self.groups.entry(value.switch.clone()).or_default();
                let name = value.name.clone();
                let entry = Entry {
                    revision,
                    value,
                    bytes,
                };
                let replaced = groups.insert(name, entry);
                index.bytes = index.bytes + bytes - replaced.map_or(0, |old| old.bytes);
            }
            Object::MirrorSession(value) => {
                let bytes = size_of(&render::mirror_of(revision, &value));
                let index = self.indices.entry(value.switch.clone()).or_default();
                let mirrors = self.mirrors.entry(value.switch.clone()).or_default();
                let name = value.name.clone();
                let entry = Entry {
                    revision,
                    value,
                    bytes,
                };
                let replaced = mirrors.insert(name, entry);
                index.bytes = index.bytes + bytes - replaced.map_or(0, |old| old.bytes);
            }
            Object::Port(value) => self.put_port(revision, value),
        }
    }

    fn put_port(&mut self, revision: Revision, value: Placed) {
        let bytes = size_of(&render::port_of(revision, &value));
        let id = value.document.name.clone();
        let entry = Entry {
            revision,
            value,
            bytes,
        };
        if let Some(old) = self.ports.remove(&id) {
            self.part(&old);
            self.indices
                .entry(old.value.document.switch.clone())
                .or_default()
                .take_port(&old);
        }
        self.indices
            .entry(entry.value.document.switch.clone())
            .or_default()
            .put_port(&entry);
        if let Some(vnic) = &entry.value.document.vnic {
            self.vnics.insert(vnic.clone(), id.clone());
        }
        self.ports.insert(id, entry);
    }

    /// Forgets which vNIC a port had, unless another has it by now.
    fn part(&mut self, entry: &Entry<Placed>) {
        let document = &entry.value.document;
        if let Some(vnic) = &document.vnic
            && self.vnics.get(vnic) == Some(&document.name)
        {
            self.vnics.remove(vnic);
        }
    }

    /// Removes an object; nothing happens if it is not there.
    fn take(&mut self, object: &Object) {
        match object {
            Object::Switch(doc) => {
                let taken = self.switches.remove(&doc.name);
                self.index_shrinks(&doc.name, taken.map_or(0, |entry| entry.bytes));
            }
            Object::PortGroup(doc) => {
                let taken = take_within(&mut self.groups, &doc.switch, &doc.name);
                self.index_shrinks(&doc.switch, taken);
            }
            Object::MirrorSession(doc) => {
                let taken = take_within(&mut self.mirrors, &doc.switch, &doc.name);
                self.index_shrinks(&doc.switch, taken);
            }
            Object::Port(port) => {
                let Some(entry) = self.ports.remove(&port.document.name) else {
                    return;
                };
                self.part(&entry);
                if let Some(index) = self.indices.get_mut(&entry.value.document.switch) {
                    index.take_port(&entry);
                    self.index_shrinks(&entry.value.document.switch, 0);
                }
            }
        }
    }

    fn index_shrinks(&mut self, switch: &SwitchName, bytes: usize) {
        if let Some(index) = self.indices.get_mut(switch) {
            index.bytes -= bytes;
            if *index == Index::default() {
                self.indices.remove(switch);
            }
        }
    }

    /// Forgets what was wanted of a switch that is gone.
    pub(crate) fn forget(&mut self, switch: &SwitchName) {
        self.indices.remove(switch);
    }

    /// Notes the newest commit that concerned all hosts of a switch.
    pub(crate) fn want(&mut self, switch: &SwitchName, revision: Revision) {
        self.indices.entry(switch.clone()).or_default().wanted = revision;
    }

    /// Notes the newest commit that concerned one host of a switch;
    /// [`Revision::ZERO`] forgets the host.
    pub(crate) fn want_on(&mut self, switch: &SwitchName, host: &HostName, revision: Revision) {
        let index = self.indices.entry(switch.clone()).or_default();
        index.hosts.entry(host.clone()).or_default().wanted = revision;
        index.prune(host);
    }
}

fn take_within<K: Ord, T>(
    all: &mut BTreeMap<SwitchName, BTreeMap<K, Entry<T>>>,
    switch: &SwitchName,
    name: &K,
) -> usize {
    let Some(of_switch) = all.get_mut(switch) else {
        return 0;
    };
    let taken = of_switch.remove(name).map_or(0, |entry| entry.bytes);
    if of_switch.is_empty() {
        all.remove(switch);
    }
    taken
}

impl Index {
    fn put_port(&mut self, entry: &Entry<Placed>) {
        let document = &entry.value.document;
        self.groups
            .entry(document.group.clone())
            .or_default()
            .insert(document.name.clone());
        if let Some(host) = &document.host {
            let on_host = self.hosts.entry(host.clone()).or_default();
            on_host.ports.insert(document.name.clone());
            let before = on_host.bytes;
            on_host.bytes += entry.bytes;
            let after = on_host.bytes;
            self.resize(host, before, after);
        }
    }

    fn take_port(&mut self, entry: &Entry<Placed>) {
        let document = &entry.value.document;
        if let Some(ports) = self.groups.get_mut(&document.group) {
            ports.remove(&document.name);
            if ports.is_empty() {
                self.groups.remove(&document.group);
            }
        }
        if let Some(host) = &document.host
            && let Some(on_host) = self.hosts.get_mut(host)
        {
            on_host.ports.remove(&document.name);
            let before = on_host.bytes;
            on_host.bytes -= entry.bytes;
            let after = on_host.bytes;
            self.resize(host, before, after);
            self.prune(host);
        }
    }

    fn resize(&mut self, host: &HostName, before: usize, after: usize) {
        self.sizes.remove(&(before, host.clone()));
        if after > 0 {
            self.sizes.insert((after, host.clone()));
        }
    }

    fn prune(&mut self, host: &HostName) {
        if self.hosts.get(host) == Some(&OnHost::default()) {
            self.hosts.remove(host);
        }
    }
}
