// SPDX-License-Identifier: Apache-2.0
//! The delta between the state held and the datapath, as steps. Pure: a plan
//! leaves who carries it out nothing to decide, and once it is carried out, the
//! next plan is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dvs_schemas::{MirrorDestination, MirrorName, PortId, PrivateVlans, SwitchName};

use crate::datapath::{Bridge, BridgeSettings, Mirror, Part, Step, VirtualPort, Write};
use crate::held::{HeldSwitch, Object};
use crate::merge::{NoRole, merge};
use crate::uplinks::{PortSettings, UplinkSettings};

/// Parts of a switch on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// The bridge itself.
    pub bridge: bool,
    /// Virtual ports.
    pub ports: BTreeSet<PortId>,
    /// Mirror sessions.
    pub mirrors: BTreeSet<MirrorName>,
}

impl Parts {
    /// Everything that is held, or there, or both.
    #[must_use]
    pub fn all(held: &HeldSwitch, there: Option<&Bridge>) -> Self {
        let ports = there.into_iter().flat_map(|bridge| bridge.ports.keys());
        let mirrors = there.into_iter().flat_map(|bridge| bridge.mirrors.keys());
        Self {
            bridge: true,
            ports: held.ports.keys().chain(ports).cloned().collect(),
            mirrors: held.mirrors.keys().chain(mirrors).cloned().collect(),
        }
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            bridge,
            ports,
            mirrors,
        } = self;
        !bridge && ports.is_empty() && mirrors.is_empty()
    }

    /// True if the part is among them.
    #[must_use]
    pub fn contains(&self, part: &Part) -> bool {
        match part {
            Part::Bridge => self.bridge,
            Part::Port(port) => self.ports.contains(port),
            Part::Mirror(mirror) => self.mirrors.contains(mirror),
        }
    }

    /// Adds one.
    pub fn insert(&mut self, part: Part) {
        match part {
            Part::Bridge => self.bridge = true,
            Part::Port(port) => drop(self.ports.insert(port)),
            Part::Mirror(mirror) => drop(self.mirrors.insert(mirror)),
        }
    }

    /// Adds others.
    pub fn extend(&mut self, other: Self) {
        let Self {
            bridge,
            ports,
            mirrors,
        } = other;
        self.bridge |= bridge;
        self.ports.extend(ports);
        self.mirrors.extend(mirrors);
    }
}

/// What may be removed that is not held. Without a full state seen in this run
/// of the agent, only what a message named explicitly.
#[derive(Debug, Clone, Copy)]
pub enum MayRemove<'a> {
    /// Whatever the state held doesn't name: a full state has been seen.
    Anything,
    /// These ports, and objects with a tombstone.
    Only(&'a BTreeSet<PortId>),
}

/// Why a part of the state held can't be made true by now. No try of the
/// datapath helps; the message that does is on its way, or the next full state
/// brings it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// The switch's settings are missing.
    #[error("the settings of the switch are not known to this host; a full state brings them")]
    NoSettings,
    /// The port's group is missing.
    #[error("port group {0} is not known to this host; a full state brings it")]
    NoGroup(dvs_schemas::PortGroupName),
    /// The private VLAN is missing.
    #[error(transparent)]
    NoRole(#[from] NoRole),
}

impl Stuck {
    /// The field that can't be made true, by its path.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoSettings => None,
            Self::NoGroup(_) => Some("group"),
            Self::NoRole(_) => Some(NoRole::FIELD.path()),
        }
    }
}

/// What stays in place of what is held, as changes of it were rolled back.
#[derive(Debug, Clone, Default)]
pub struct Stays<'a> {
    /// What the bridge has.
    pub uplinks: Option<&'a UplinkSettings>,
    /// How ports are set.
    pub ports: BTreeMap<&'a PortId, &'a PortSettings>,
}

/// What is to be done to one switch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SwitchPlan {
    /// Steps in the order in which they are to be carried out: what goes, from
    /// mirrors to ports, then what comes, from the bridge to mirrors, then the
    /// bridge, if it goes.
    pub steps: Vec<Step>,
    /// Ports that can't be planned.
    pub stuck: BTreeMap<PortId, Stuck>,
}

/// Plans the parts of a switch; every part, and the plan is the whole delta.
#[must_use]
pub fn plan(
    switch: &SwitchName,
    held: &HeldSwitch,
    there: Option<&Bridge>,
    parts: &Parts,
    may_remove: MayRemove<'_>,
    stays: &Stays<'_>,
) -> SwitchPlan {
    let planner = Planner {
        held,
        there,
        may_remove,
        stays,
    };
    let mut stuck = BTreeMap::new();
    let (mut going, mut coming) = (Vec::new(), Vec::new());
    going.extend(
        parts
            .mirrors
            .iter()
            .filter_map(|m| planner.remove_mirror(m)),
    );
    // Without its bridge nothing can come, whoever asked for it.
    if parts.bridge || there.is_none() {
        coming.extend(planner.set_bridge());
    }
    for port in &parts.ports {
        match planner.port(port) {
            Ok(Some(write @ Write::RemovePort { .. })) => going.push(write),
            Ok(Some(write)) => coming.push(write),
            Ok(None) => {}
            Err(why) => drop(stuck.insert(port.clone(), why)),
        }
    }
    coming.extend(parts.mirrors.iter().filter_map(|m| planner.set_mirror(m)));
    if parts.bridge {
        coming.extend(planner.remove_bridge());
    }
    let steps = going
        .into_iter()
        .chain(coming)
        .map(|write| Step {
            switch: switch.clone(),
            write,
        })
        .collect();
    SwitchPlan { steps, stuck }
}

/// What a port is to be, by the state held.
///
/// # Errors
/// The state held is not whole enough to say.
pub fn wanted_port(held: &HeldSwitch, port: &PortId) -> Result<Option<VirtualPort>, Stuck> {
    let settings = held.settings.as_ref();
    let private_vlans = settings.map(|settings| &settings.value.private_vlans);
    wanted_port_in(held, port, private_vlans)
}

/// What a port is to be, with these private VLANs in place of those held.
fn wanted_port_in(
    held: &HeldSwitch,
    port: &PortId,
    private_vlans: Option<&PrivateVlans>,
) -> Result<Option<VirtualPort>, Stuck> {
    let Some(port) = held.ports.get(port).map(|port| &port.value) else {
        return Ok(None);
    };
    let settings = held.settings.as_ref().ok_or(Stuck::NoSettings)?;
    let private_vlans = private_vlans.ok_or(Stuck::NoSettings)?;
    let group = held
        .groups
        .get(&port.group)
        .ok_or_else(|| Stuck::NoGroup(port.group.clone()))?;
    Ok(Some(VirtualPort {
        epoch: port.epoch,
        vnic: port.vnic.clone(),
        mac: port.mac,
        policy: merge(
            &settings.value.policy,
            &group.value.policy,
            &port.policy,
            private_vlans,
        )?,
    }))
}

/// What a mirror session is to be here: sources are ports of this host, and
/// copies go out of a port only where that port is. None if nothing of it is
/// left for this host; a VLAN of copies is one on every host, as copies come
/// from the others.
#[must_use]
pub fn wanted_mirror(held: &HeldSwitch, mirror: &MirrorName) -> Option<Mirror> {
    held.settings.as_ref()?;
    let session = &held.mirrors.get(mirror)?.value;
    if let MirrorDestination::Port(port) = &session.destination
        && !held.ports.contains_key(port)
    {
        return None;
    }
    let ports: Vec<_> = session
        .source
        .ports
        .iter()
        .filter(|source| held.ports.contains_key(&source.port))
        .cloned()
        .collect();
    let vlans = session.source.vlans.clone();
    match session.destination {
        MirrorDestination::Port(_) if ports.is_empty() && vlans.is_empty() => return None,
        MirrorDestination::Port(_) | MirrorDestination::Vlan(_) => {}
    }
    Some(Mirror {
        ports,
        vlans,
        destination: session.destination.clone(),
    })
}

struct Planner<'a> {
    held: &'a HeldSwitch,
    there: Option<&'a Bridge>,
    may_remove: MayRemove<'a>,
    stays: &'a Stays<'a>,
}

impl Planner<'_> {
    fn set_bridge(&self) -> Option<Write> {
        let settings = &self.held.settings.as_ref()?.value;
        let wanted = || UplinkSettings::of(settings);
        let UplinkSettings {
            mtu,
            uplinks,
            teaming,
            private_vlans,
        } = self.stays.uplinks.cloned().unwrap_or_else(wanted);
        let to = BridgeSettings {
            mtu,
            uplinks,
            teaming,
            private_vlans,
        };
        let from = self.there.map(|bridge| &bridge.settings);
        if from.is_some_and(|from| **from == to) && self.is_whole(&Part::Bridge) {
            return None;
        }
        Some(Write::SetBridge {
            from: from.cloned(),
            to: Arc::new(to),
        })
    }

    fn remove_bridge(&self) -> Option<Write> {
        let from = &self.there?.settings;
        let wanted = self.held.settings.is_some() || !self.held.ports.is_empty();
        match self.may_remove {
            MayRemove::Anything if !wanted => Some(Write::RemoveBridge { from: from.clone() }),
            MayRemove::Anything | MayRemove::Only(_) => None,
        }
    }

    fn port(&self, port: &PortId) -> Result<Option<Write>, Stuck> {
        let from = self
            .there
            .and_then(|bridge| bridge.ports.get(port))
            .map(|plugged| &plugged.port);
        Ok(match (self.wanted_port(port)?, from) {
            (Some(to), Some(from)) if **from == to && self.is_whole(&Part::Port(port.clone())) => {
                None
            }
            (Some(to), from) => Some(Write::SetPort {
                port: port.clone(),
                from: from.cloned(),
                to: Arc::new(to),
            }),
            (None, Some(from)) if self.may_remove_port(port) => Some(Write::RemovePort {
                port: port.clone(),
                from: from.clone(),
            }),
            (None, Some(_) | None) => None,
        })
    }

    /// What a port is to be, or what stays in place of that.
    fn wanted_port(&self, port: &PortId) -> Result<Option<VirtualPort>, Stuck> {
        let settings = self.held.settings.as_ref();
        let private_vlans = match self.stays.uplinks {
            Some(uplinks) => Some(&uplinks.private_vlans),
            None => settings.map(|settings| &settings.value.private_vlans),
        };
        let wanted = wanted_port_in(self.held, port, private_vlans)?;
        Ok(match (wanted, self.stays.ports.get(port), private_vlans) {
            (Some(wanted), Some(stays), Some(private_vlans)) => {
                Some(stays.in_place_of(wanted, private_vlans)?)
            }
            (wanted, _, _) => wanted,
        })
    }

    /// True if a part that is there is as it is said to be.
    fn is_whole(&self, part: &Part) -> bool {
        self.there.is_some_and(|bridge| bridge.is_whole(part))
    }

    fn may_remove_port(&self, port: &PortId) -> bool {
        match self.may_remove {
            MayRemove::Anything => true,
            MayRemove::Only(ports) => {
                ports.contains(port) || self.is_buried(&Object::Port(port.clone()))
            }
        }
    }

    fn is_buried(&self, object: &Object) -> bool {
        self.held.tombstones.contains_key(object)
    }

    fn set_mirror(&self, mirror: &MirrorName) -> Option<Write> {
        let to = wanted_mirror(self.held, mirror)?;
        let from = self.there.and_then(|bridge| bridge.mirrors.get(mirror));
        let whole = self.is_whole(&Part::Mirror(mirror.clone()));
        if from.is_some_and(|from| **from == to) && whole {
            return None;
        }
        Some(Write::SetMirror {
            mirror: mirror.clone(),
            from: from.cloned(),
            to: Arc::new(to),
        })
    }

    fn remove_mirror(&self, mirror: &MirrorName) -> Option<Write> {
        let from = self.there?.mirrors.get(mirror)?;
        let may = match self.may_remove {
            MayRemove::Anything => true,
            // A session that is held and has nothing to do here is known to
            // be gone from here.
            MayRemove::Only(_) => {
                self.held.settings.is_some() && self.held.mirrors.contains_key(mirror)
                    || self.is_buried(&Object::Mirror(mirror.clone()))
            }
        };
        (may && wanted_mirror(self.held, mirror).is_none()).then(|| Write::RemoveMirror {
            mirror: mirror.clone(),
            from: from.clone(),
        })
    }
}
