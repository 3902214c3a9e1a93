// SPDX-License-Identifier: Apache-2.0
//! The store as it will be: what a request names, over what there is.

use std::collections::BTreeMap;

use dvs_schemas::{
    MirrorSessionDoc, ObjectKey, PortGroupDoc, PortGroupName, PortId, SwitchDoc, SwitchName, VnicId,
};

use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::config::Config;
use crate::fleet::Fleet;

/// The store as it will be.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) config: &'a Config,
    pub(super) fleet: &'a Fleet,
    named: BTreeMap<ObjectKey, (usize, Object)>,
    /// The port of each vNIC that the request names, the first if it names two.
    vnics: BTreeMap<VnicId, PortId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(config: &'a Config, fleet: &'a Fleet) -> Self {
        Self {
            config,
            fleet,
            named: BTreeMap::new(),
            vnics: BTreeMap::new(),
        }
    }

    /// Adds what the request names at a place.
    pub(super) fn put(&mut self, at: usize, object: Object) {
        if let Object::Port(Placed { document, .. }) = &object
            && let Some(vnic) = &document.vnic
        {
            let port = self.vnics.entry(vnic.clone());
            port.or_insert_with(|| document.name.clone());
        }
        self.named.insert(object.key(), (at, object));
    }

    /// What the request names, with its places, in the order of the places.
    pub(super) fn named(&self) -> impl Iterator<Item = (usize, &Object)> {
        let mut list: Vec<_> = self.named.values().map(|(at, o)| (*at, o)).collect();
        list.sort_by_key(|(at, _)| *at);
        list.into_iter()
    }

    /// Whether the request names the object, so that it is checked by itself.
    pub(super) fn names(&self, key: &ObjectKey) -> bool {
        self.named.contains_key(key)
    }

    pub(super) fn switch(&self, name: &SwitchName) -> Option<&SwitchDoc> {
        match self.named.get(&ObjectKey::Switch(name.clone())) {
            Some((_, Object::Switch(doc))) => Some(doc),
            Some((_, Object::PortGroup(_) | Object::Port(_) | Object::MirrorSession(_))) | None => {
                self.config.switch(name).map(|entry| &entry.value)
            }
        }
    }

    pub(super) fn group(&self, switch: &SwitchName, name: &PortGroupName) -> Option<&PortGroupDoc> {
        let key = ObjectKey::PortGroup(switch.clone(), name.clone());
        match self.named.get(&key) {
            Some((_, Object::PortGroup(doc))) => Some(doc),
            Some((_, Object::Switch(_) | Object::Port(_) | Object::MirrorSession(_))) | None => {
                self.config.group(switch, name).map(|entry| &entry.value)
            }
        }
    }

    pub(super) fn port(&self, id: &PortId) -> Option<&Placed> {
        match self.named.get(&ObjectKey::Port(id.clone())) {
            Some((_, Object::Port(port))) => Some(port),
            Some((_, Object::Switch(_) | Object::PortGroup(_) | Object::MirrorSession(_)))
            | None => self.config.port(id).map(|entry| &entry.value),
        }
    }

    /// The mirror sessions of a switch.
    pub(super) fn mirrors(&self, switch: &SwitchName) -> impl Iterator<Item = &MirrorSessionDoc> {
        let named = self.named.values().filter_map(|(_, object)| match object {
            Object::MirrorSession(doc) => Some(doc),
            Object::Switch(_) | Object::PortGroup(_) | Object::Port(_) => None,
        });
        let named = named.filter(move |doc| doc.switch == *switch);
        let stays = |doc: &&MirrorSessionDoc| {
            let key = ObjectKey::MirrorSession(doc.switch.clone(), doc.name.clone());
            !self.names(&key)
        };
        let held = self.config.mirrors(switch).map(|entry| &entry.value);
        held.filter(stays).chain(named)
    }

    /// Another port that a vNIC is connected to, or would be.
    pub(super) fn other_port(&self, vnic: &VnicId, port: &PortId) -> Option<&PortId> {
        let named = self.vnics.get(vnic);
        let held = self.config.port_with(vnic);
        [named, held].into_iter().flatten().find(|of| *of != port)
    }

    /// What differs from the store. Keys sort by kind, in the order in which
    /// one kind needs the other.
    pub(super) fn changes(self) -> ChangeSet {
        let config = self.config;
        let differing =
            self.named
                .into_iter()
                .filter_map(|(key, (_, after))| match config.object(&key) {
                    None => Some(Change::Create(after)),
                    Some((_, before)) if before == after => None,
                    Some((since, before)) => Some(Change::Update {
                        before,
                        since,
                        after,
                    }),
                });
        ChangeSet(differing.collect())
    }
}
