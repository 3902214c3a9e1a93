// SPDX-License-Identifier: Apache-2.0
//! One switch on one host: the state held, which parts of it the datapath may
//! not have yet, and how far it is known to be true.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{Clobber, FinalState, GlobalKey, MirrorState, PortRuntime, PortState};
use dvs_schemas::{
    Epoch, MirrorDestination, MirrorName, MirrorPort, PortGroupName, PortId, Revision,
    RuntimeSettings, SwitchName, TellMode,
};

use crate::admit::{Touch, Touched};
use crate::datapath::{Bridge, Part, Picture};
use crate::held::{HeldSwitch, Object};
use crate::plan::{MayRemove, Parts, Stuck};

/// Whether the switch's subject is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// No.
    No,
    /// Asked for.
    Asked,
    /// Yes.
    Yes,
}

/// One switch on one host.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) held: HeldSwitch,
    /// Parts that have to be planned; what failed or is stuck stays in.
    pub(super) dirty: Parts,
    /// Why parts can't be planned, as of the last plan.
    pub(super) stuck: BTreeMap<PortId, Stuck>,
    /// Whether the newest full state was seen in this run of the agent.
    pub(super) full_seen: bool,
    /// Ports that removals named in this run and that are not held.
    pub(super) named_out: BTreeSet<PortId>,
    pub(super) hearing: Hearing,
    /// Whether somebody was told since that it could not be made true.
    pub(super) failed: bool,
    /// Newest revision among the messages admitted.
    pub(super) admitted: Revision,
    /// What `admitted` was when the last plan was made.
    pub(super) planned: Revision,
    /// What `planned` was when all of it was last true.
    pub(super) observed: Revision,
}

/// What an asker wants to know about.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// All of the switch.
    Switch,
    /// These parts.
    Parts(Parts),
}

impl Scope {
    pub(super) fn covers(&self, part: &Part) -> bool {
        match self {
            Self::Switch => true,
            Self::Parts(parts) => parts.contains(part),
        }
    }
}

impl Switch {
    pub(super) fn new(held: HeldSwitch) -> Self {
        Self {
            admitted: held.newest(),
            held,
            dirty: Parts::default(),
            stuck: BTreeMap::new(),
            full_seen: false,
            named_out: BTreeSet::new(),
            hearing: Hearing::No,
            failed: false,
            planned: Revision::ZERO,
            observed: Revision::ZERO,
        }
    }

    /// A message of that revision was admitted. What was sent once more though
    /// nothing of it is new leaves no trace, and takes the host no further than
    /// it is: what it says to have applied is a commit that it knows of.
    pub(super) fn took_in(&mut self, revision: Revision) {
        let known = revision.min(self.held.newest());
        self.admitted = self.admitted.max(known);
    }

    /// How runtime state is told.
    pub(super) fn runtime_settings(&self) -> &RuntimeSettings {
        const NATURAL: &RuntimeSettings = &RuntimeSettings {
            mode: TellMode::Push,
            classes: BTreeMap::new(),
        };
        let settings = self.held.settings.as_ref();
        settings.map_or(NATURAL, |settings| &settings.value.runtime)
    }

    pub(super) fn may_remove(&self) -> MayRemove<'_> {
        if self.full_seen {
            MayRemove::Anything
        } else {
            MayRemove::Only(&self.named_out)
        }
    }

    /// Whether the subject of the switch concerns this host.
    pub(super) fn wants_hearing(&self) -> bool {
        !self.held.is_empty()
    }

    /// The parts that a message's traces may have made untrue.
    pub(super) fn marks(&self, there: Option<&Bridge>, touched: &Touched) -> Parts {
        let mut parts = match touched.settings {
            Some(Touch::Came | Touch::Changed | Touch::Went) => Parts::all(&self.held, there),
            Some(Touch::Renumbered) | None => Parts::default(),
        };
        // What went is held no more, and may be there only when the apply that
        // is under way is over: it is marked by name.
        let mut ports_moved = false;
        for (object, touch) in &touched.objects {
            match (object, touch) {
                // Told to nobody and written nowhere.
                (Object::Group(_) | Object::Mirror(_), Touch::Renumbered) => {}
                (Object::Group(group), Touch::Came | Touch::Changed | Touch::Went) => {
                    parts.ports.extend(self.ports_of(group).cloned());
                }
                (Object::Mirror(mirror), Touch::Came | Touch::Changed | Touch::Went) => {
                    parts.mirrors.insert(mirror.clone());
                }
                (Object::Port(port), touch) => {
                    parts.ports.insert(port.clone());
                    ports_moved |= matches!(touch, Touch::Came | Touch::Went);
                }
            }
        }
        if ports_moved {
            // Mirror sessions have only ports of this host as their ends.
            parts.mirrors.extend(all_mirrors(&self.held, there));
            // Ports that outlive the word that nothing is to stay keep the
            // bridge; it goes with the last of them.
            parts.bridge |= self.held.settings.is_none();
        }
        parts
    }

    /// Mirror sessions that copy frames of these ports, or to them. They are
    /// part of what a removal of the ports is about: nobody else asks.
    pub(super) fn sessions_with(
        &self,
        there: Option<&Bridge>,
        ports: &BTreeSet<PortId>,
    ) -> BTreeSet<MirrorName> {
        let held = self.held.mirrors.iter().filter(|(_, session)| {
            let MirrorState {
                name: _,
                source,
                destination,
            } = &session.value;
            touches(&source.ports, destination, ports)
        });
        let there = there.into_iter().flat_map(|bridge| &bridge.mirrors);
        let there = there
            .filter(|(_, mirror)| touches(&mirror.ports, &mirror.destination, ports))
            .map(|(name, _)| name);
        held.map(|(name, _)| name).chain(there).cloned().collect()
    }

    fn ports_of<'a>(&'a self, group: &'a PortGroupName) -> impl Iterator<Item = &'a PortId> {
        self.held
            .ports
            .iter()
            .filter(move |(_, port)| port.value.group == *group)
            .map(|(port, _)| port)
    }

    /// What the sender of a clobber asks about; `marks` is what its message
    /// changed, which a repeated one no longer does. Where ports are sent,
    /// groups and settings come along as what they need, and are asked about
    /// only as far as they were news: a port that fails for itself must not
    /// make pushes of other ports fail. Without a bridge nothing is in force,
    /// so a missing one is asked about by everybody.
    pub(super) fn scope(&self, message: &Clobber, marks: &Parts, there: Option<&Bridge>) -> Scope {
        let FinalState::Partial {
            settings,
            objects,
            removed,
        } = &message.state
        else {
            return Scope::Switch;
        };
        let mut parts = marks.clone();
        parts.bridge |= there.is_none();
        parts.mirrors.extend(removed.iter().filter_map(|removed| {
            match &removed.object {
                GlobalKey::Mirror(name) => Some(name.clone()),
                // Its ports left it before, each by a word of its own.
                GlobalKey::Group(_) => None,
            }
        }));
        let mirrors = objects.mirrors.iter();
        parts.mirrors.extend(mirrors.map(|m| m.value.name.clone()));
        if !objects.ports.is_empty() {
            let ports = objects.ports.iter();
            parts.ports.extend(ports.map(|p| p.value.id.clone()));
            return Scope::Parts(parts);
        }
        if settings.is_some() {
            return Scope::Switch;
        }
        for group in &objects.groups {
            parts
                .ports
                .extend(self.ports_of(&group.value.name).cloned());
        }
        Scope::Parts(parts)
    }

    /// The rare states of a port as they are there; none if it is not held or
    /// not there. What could not be made true wholly is as it was `told` last,
    /// but for its link, which everybody sees.
    pub(super) fn runtime(
        &self,
        switch: &SwitchName,
        there: &Bridge,
        port: &PortId,
        told: Option<&PortRuntime>,
    ) -> Option<PortRuntime> {
        let held = self.held.ports.get(port)?;
        let plugged = there.ports.get(port)?;
        if !there.is_whole(&Part::Port(port.clone())) {
            let told = told.filter(|told| told.epoch == plugged.port.epoch)?;
            return Some(PortRuntime {
                link: plugged.link,
                ..told.clone()
            });
        }
        let copies = |mirror: &crate::datapath::Mirror| {
            mirror.ports.iter().any(|source| source.port == *port)
        };
        Some(PortRuntime {
            port: port.clone(),
            switch: switch.clone(),
            group: held.value.group.clone(),
            epoch: plugged.port.epoch,
            revision: held.revision,
            link: plugged.link,
            vlan: plugged.port.policy.vlan.configured(),
            blocked: plugged.port.policy.blocked,
            mirrored: there
                .mirrors
                .iter()
                .filter(|(_, mirror)| copies(mirror))
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }
}

/// Whether a placement is the host's, or is still to be taken away.
pub(super) fn is_there(
    switches: &BTreeMap<SwitchName, Switch>,
    there: &Picture,
    port: &PortId,
    epoch: Epoch,
) -> bool {
    let held = switches.values().filter_map(|switch| {
        let held = switch.held.ports.get(port)?;
        Some(held.value.epoch)
    });
    let plugged = there.values().filter_map(|bridge| {
        let plugged = bridge.ports.get(port)?;
        Some(plugged.port.epoch)
    });
    held.chain(plugged).any(|of| of == epoch)
}

/// A port, if the host holds it.
pub(super) fn held_port<'a>(
    switches: &'a BTreeMap<SwitchName, Switch>,
    port: &PortId,
) -> Option<&'a PortState> {
    let held = switches.values();
    let mut held = held.filter_map(|switch| switch.held.ports.get(port));
    held.next().map(|held| &held.value)
}

fn touches(
    sources: &[MirrorPort],
    destination: &MirrorDestination,
    ports: &BTreeSet<PortId>,
) -> bool {
    let to = match destination {
        MirrorDestination::Port(port) => ports.contains(port),
        MirrorDestination::Vlan(_) => false,
    };
    to || sources.iter().any(|source| ports.contains(&source.port))
}

fn all_mirrors<'a>(
    held: &'a HeldSwitch,
    there: Option<&'a Bridge>,
) -> impl Iterator<Item = MirrorName> + 'a {
    let there = there.into_iter().flat_map(|bridge| bridge.mirrors.keys());
    held.mirrors.keys().chain(there).cloned()
}
