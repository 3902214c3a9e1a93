// SPDX-License-Identifier: Apache-2.0
//! The final state that a host holds of a switch, with what it needs to judge
//! messages that come late, twice or out of order.

use std::collections::BTreeMap;
use std::fmt;

use dvs_schemas::v1::{
    GlobalKey, MirrorState, PortGroupState, PortState, Position, Run, SwitchState, Versioned,
};
use dvs_schemas::{Epoch, MirrorName, PortGroupName, PortId, Revision, StoreId};
use serde::{Deserialize, Serialize};

/// An object of a switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Object {
    /// A port group.
    Group(PortGroupName),
    /// A mirror session.
    Mirror(MirrorName),
    /// A DVPort.
    Port(PortId),
}

impl Object {
    /// Its name, unique within its kind and switch.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Group(name) => name.as_str(),
            Self::Mirror(name) => name.as_str(),
            Self::Port(name) => name.as_str(),
        }
    }
}

impl From<&GlobalKey> for Object {
    fn from(key: &GlobalKey) -> Self {
        match key {
            GlobalKey::Group(name) => Self::Group(name.clone()),
            GlobalKey::Mirror(name) => Self::Mirror(name.clone()),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "port group {name}"),
            Self::Mirror(name) => write!(f, "mirror session {name}"),
            Self::Port(name) => write!(f, "port {name}"),
        }
    }
}

/// What is held of one switch. Also kept when nothing is left of the switch:
/// the floor is what late messages are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSwitch {
    /// The ledger that the revisions belong to.
    pub store: StoreId,
    /// The run of the publisher that is followed, as far as messages named it.
    pub run: Option<Run>,
    /// Revision of the newest full state admitted; 0 before the first. What is
    /// not held and not newer than this has been deleted meanwhile.
    pub floor: Revision,
    /// The switch itself; none if the host is no part of it, or only knows
    /// pieces so far.
    pub settings: Option<Versioned<SwitchState>>,
    /// Its port groups.
    pub groups: BTreeMap<PortGroupName, Versioned<PortGroupState>>,
    /// Its mirror sessions.
    pub mirrors: BTreeMap<MirrorName, Versioned<MirrorState>>,
    /// Its ports on this host.
    pub ports: BTreeMap<PortId, Versioned<PortState>>,
    /// Objects that were removed one by one since the floor, and when. None of
    /// them is held, and each full state lets go of those it has seen, so they
    /// last until then.
    pub tombstones: BTreeMap<Object, Revision>,
}

impl HeldSwitch {
    /// Nothing is known of the switch yet.
    #[must_use]
    pub fn blank(store: StoreId) -> Self {
        Self {
            store,
            run: None,
            floor: Revision::ZERO,
            settings: None,
            groups: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            ports: BTreeMap::new(),
            tombstones: BTreeMap::new(),
        }
    }

    /// True if nothing of the switch is to be on the host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_none()
            && self.groups.is_empty()
            && self.mirrors.is_empty()
            && self.ports.is_empty()
    }

    /// The newest commit that left a trace here.
    #[must_use]
    pub fn newest(&self) -> Revision {
        let Self {
            store: _,
            run,
            floor,
            settings,
            groups,
            mirrors,
            ports,
            tombstones,
        } = self;
        settings
            .iter()
            .map(|settings| settings.revision)
            .chain(groups.values().map(|group| group.revision))
            .chain(mirrors.values().map(|mirror| mirror.revision))
            .chain(ports.values().map(|port| port.revision))
            .chain(tombstones.values().copied())
            .chain(run.map(|run| run.since))
            .fold(*floor, Revision::max)
    }

    /// True if a port that was here is where it was: its second epoch is that
    /// which all placements got when the store replaced the one that numbered the
    /// first. As far as can be known: the commit which did that is the first of
    /// its run, and of later runs it is not.
    #[must_use]
    pub fn took_over(&self, before: Epoch, after: Epoch) -> bool {
        let replaced = Epoch::of(self.store, Revision::ZERO);
        let run = self.run.map(|run| Epoch::of(self.store, run.since));
        before < replaced && run == Some(after)
    }

    /// Where the host is in the publisher's history.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            store: self.store,
            run: self.run.map(|run| run.id),
            revision: self.newest(),
        }
    }
}
