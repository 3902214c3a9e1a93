// SPDX-License-Identifier: Apache-2.0
//! Nothing is deleted that something else needs, unless that goes with it.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::{
    MirrorDestination, MirrorSessionDoc, ObjectKey, PortGroupName, PortId, Problem, ProblemCode,
    SwitchName,
};

use super::absent;
use super::rules::some;
use crate::config::Config;

/// Checks that the objects exist and that nothing which stays needs them.
///
/// # Errors
/// The place of the first that can't go, and why.
pub(super) fn check(config: &Config, keys: &[ObjectKey]) -> Result<(), (usize, Problem)> {
    let going = Going {
        config,
        keys: keys.iter().collect(),
    };
    // Per switch, found at the first of its ports: which stay in sessions.
    let mut mirrored: BTreeMap<&SwitchName, BTreeMap<PortId, Vec<ObjectKey>>> = BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        let needed_by = match key {
            ObjectKey::Switch(name) => config.switch(name).map(|_| going.staying_in(name)),
            ObjectKey::PortGroup(switch, name) => config
                .group(switch, name)
                .map(|_| going.staying_of(switch, name)),
            ObjectKey::Port(id) => config.port(id).map(|entry| {
                let switch = &entry.value.document.switch;
                let mirrored = mirrored.entry(switch);
                let mirrored = mirrored.or_insert_with(|| going.mirrored_in(switch));
                mirrored.get(id).cloned().unwrap_or_default()
            }),
            ObjectKey::MirrorSession(switch, name) => {
                config.mirror(switch, name).map(|_| Vec::new())
            }
        };
        match needed_by {
            None => return Err((at, absent(key).at("name"))),
            Some(users) if !users.is_empty() => return Err((at, needed(key, &users))),
            Some(_) => {}
        }
    }
    Ok(())
}

fn needed(key: &ObjectKey, users: &[ObjectKey]) -> Problem {
    let (verb, thing) = match users {
        [_] => ("needs", "object"),
        [] | [_, _, ..] => ("need", "objects"),
    };
    let message = format!("{} {thing} {verb} {key}: {}", users.len(), some(users));
    Problem::new(ProblemCode::Conflict, message)
        .at("name")
        .allow("deletion together with all that needs it, in one request")
}

struct Going<'a> {
    config: &'a Config,
    keys: BTreeSet<&'a ObjectKey>,
}

impl Going<'_> {
    fn stays(&self, key: &ObjectKey) -> bool {
        !self.keys.contains(key)
    }

    /// What stays of a switch.
    fn staying_in(&self, switch: &SwitchName) -> Vec<ObjectKey> {
        let groups = self.config.groups(switch);
        let groups = groups.map(|e| ObjectKey::PortGroup(switch.clone(), e.value.name.clone()));
        let ports = self.config.ports_on(switch);
        let ports = ports.map(|id| ObjectKey::Port(id.clone()));
        let mirrors = self.config.mirrors(switch);
        let mirrors =
            mirrors.map(|e| ObjectKey::MirrorSession(switch.clone(), e.value.name.clone()));
        let all = groups.chain(ports).chain(mirrors);
        all.filter(|key| self.stays(key)).collect()
    }

    /// What stays of a group.
    fn staying_of(&self, switch: &SwitchName, group: &PortGroupName) -> Vec<ObjectKey> {
        let ports = self.config.ports_of(switch, group);
        let ports = ports.map(|id| ObjectKey::Port(id.clone()));
        ports.filter(|key| self.stays(key)).collect()
    }

    /// The ports that sessions of a switch name, with the sessions that stay.
    fn mirrored_in(&self, switch: &SwitchName) -> BTreeMap<PortId, Vec<ObjectKey>> {
        let mut users: BTreeMap<PortId, Vec<ObjectKey>> = BTreeMap::new();
        for entry in self.config.mirrors(switch) {
            let session = &entry.value;
            let key = ObjectKey::MirrorSession(switch.clone(), session.name.clone());
            if !self.stays(&key) {
                continue;
            }
            for port in ports_in(session) {
                users.entry(port).or_default().push(key.clone());
            }
        }
        users
    }
}

fn ports_in(session: &MirrorSessionDoc) -> BTreeSet<PortId> {
    let sources = session
        .source
        .ports
        .iter()
        .map(|source| source.port.clone());
    let destination = match &session.destination {
        MirrorDestination::Port(port) => Some(port.clone()),
        MirrorDestination::Vlan(_) => None,
    };
    sources.chain(destination).collect()
}
