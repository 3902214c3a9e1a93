// SPDX-License-Identifier: Apache-2.0
//! What a publisher sends one host about one switch: a random history of
//! commits, and every message that follows from each.

use std::collections::BTreeMap;

use dvs_schemas::arbitrary;
use dvs_schemas::v1::{
    Clobber, FinalState, GlobalKey, Lineage, MirrorState, PortGroupState, PortState, Remove,
    Removed, RemovedPort, SwitchObjects, SwitchState, V1, Versioned,
};
use dvs_schemas::{
    Epoch, MirrorDestination, MirrorName, MirrorPort, MirrorSource, Policy, PortGroupName, PortId,
    PrivateVlans, Revision, StoreId, SwitchName, Vlan,
};
use host_agent::held::HeldSwitch;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use crate::rig::id;

/// A message to the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Clobber(Box<Clobber>),
    Remove(Remove),
}

/// One commit.
#[derive(Debug, Clone)]
pub(crate) enum Commit {
    Settings(SwitchState),
    Group(PortGroupName, Policy),
    NoGroup(PortGroupName),
    /// The port is on this host, in this group.
    Port(PortId, PortGroupName, Policy),
    /// The port is deleted, or on another host.
    NoPort(PortId),
    Mirror(MirrorName, PortId, PortId),
    NoMirror(MirrorName),
    /// The host leaves the switch, or joins it again.
    Member(bool),
    /// Somebody asks for a full state.
    Resync,
}

pub(crate) fn private_vlans() -> PrivateVlans {
    serde_json::from_str(r#"[{"primary": 100, "isolated": 101, "communities": [102]}]"#).unwrap()
}

fn policy() -> impl Strategy<Value = Policy> {
    arbitrary::policy().prop_map(|mut policy| {
        if let Some(Vlan::Private(vlan)) = &mut policy.vlan {
            *vlan = dvs_schemas::VlanId::try_from(100 + vlan.get() % 3).unwrap();
        }
        policy
    })
}

fn settings() -> impl Strategy<Value = SwitchState> {
    (arbitrary::mtu(), policy()).prop_map(|(mtu, policy)| SwitchState {
        mtu,
        uplinks: vec![id("eth0")],
        teaming: Default::default(),
        private_vlans: private_vlans(),
        runtime: Default::default(),
        policy,
    })
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>(
    names: &'static [&'static str],
) -> impl Strategy<Value = T> {
    select(names).prop_map(id)
}

const GROUPS: &[&str] = &["g1", "g2", "g3"];
const PORTS: &[&str] = &["p1", "p2", "p3", "p4"];
const MIRRORS: &[&str] = &["m1", "m2"];

fn commit() -> impl Strategy<Value = Commit> {
    prop_oneof![
        1 => settings().prop_map(Commit::Settings),
        4 => (name(GROUPS), policy()).prop_map(|(g, p)| Commit::Group(g, p)),
        1 => name(GROUPS).prop_map(Commit::NoGroup),
        6 => (name(PORTS), name(GROUPS), policy()).prop_map(|(p, g, o)| Commit::Port(p, g, o)),
        3 => name(PORTS).prop_map(Commit::NoPort),
        2 => (name(MIRRORS), name(PORTS), name(PORTS)).prop_map(|(m, a, b)| Commit::Mirror(m, a, b)),
        1 => name(MIRRORS).prop_map(Commit::NoMirror),
        1 => any::<bool>().prop_map(Commit::Member),
        1 => Just(Commit::Resync),
    ]
}

pub(crate) fn commits() -> impl Strategy<Value = Vec<Commit>> {
    (settings(), vec(commit(), 0..30)).prop_map(|(first, mut rest)| {
        rest.insert(0, Commit::Settings(first));
        rest
    })
}

pub(crate) fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

/// The publisher's side of one switch and one host.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    pub(crate) store: StoreId,
    pub(crate) lineage: Lineage,
    pub(crate) switch: SwitchName,
    pub(crate) revision: Revision,
    pub(crate) member: bool,
    pub(crate) settings: Option<Versioned<SwitchState>>,
    pub(crate) groups: BTreeMap<PortGroupName, Versioned<PortGroupState>>,
    pub(crate) mirrors: BTreeMap<MirrorName, Versioned<MirrorState>>,
    pub(crate) ports: BTreeMap<PortId, Versioned<PortState>>,
    epochs: BTreeMap<PortId, Epoch>,
}

impl Publisher {
    pub(crate) fn new(number: u128) -> Self {
        Self {
            store: store(number),
            lineage: Lineage::default(),
            switch: id("prod"),
            revision: Revision::ZERO,
            member: true,
            settings: None,
            groups: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            ports: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    /// All messages of a history.
    pub(crate) fn messages(&mut self, commits: &[Commit]) -> Vec<Message> {
        commits.iter().flat_map(|c| self.commit(c)).collect()
    }

    /// Makes a commit, unless it would be refused, and says what follows.
    pub(crate) fn commit(&mut self, commit: &Commit) -> Vec<Message> {
        let before = self.clone();
        self.revision = self.revision.next();
        let messages = self.change(commit);
        if messages.is_empty() && !matches!(commit, Commit::Member(_)) {
            *self = before;
        }
        messages
    }

    fn change(&mut self, commit: &Commit) -> Vec<Message> {
        let revision = self.revision;
        match commit {
            Commit::Settings(value) => {
                let old = self.settings.replace(Versioned {
                    revision,
                    value: value.clone(),
                });
                if old.is_none() {
                    return vec![Message::Clobber(self.full().into())];
                }
                self.global(self.settings.clone(), SwitchObjects::default(), Vec::new())
            }
            Commit::Group(name, policy) => {
                let group = Versioned {
                    revision,
                    value: PortGroupState {
                        name: name.clone(),
                        policy: policy.clone(),
                    },
                };
                self.groups.insert(name.clone(), group.clone());
                let objects = SwitchObjects {
                    groups: vec![group],
                    ..SwitchObjects::default()
                };
                self.global(None, objects, Vec::new())
            }
            Commit::NoGroup(name) => {
                let used = self.ports.values().any(|port| port.value.group == *name);
                if used || self.groups.remove(name).is_none() {
                    return Vec::new();
                }
                self.removed(GlobalKey::Group(name.clone()))
            }
            Commit::Port(port, group, policy) => self.place(port, group, policy),
            Commit::NoPort(port) => {
                if self.ports.remove(port).is_none() {
                    return Vec::new();
                }
                vec![self.remove(vec![port.clone()])]
            }
            Commit::Mirror(name, from, to) => {
                if from == to {
                    return Vec::new();
                }
                let mirror = Versioned {
                    revision,
                    value: MirrorState {
                        name: name.clone(),
                        source: MirrorSource {
                            ports: vec![MirrorPort {
                                port: from.clone(),
                                direction: Default::default(),
                            }],
                            vlans: Vec::new(),
                        },
                        destination: MirrorDestination::Port(to.clone()),
                    },
                };
                self.mirrors.insert(name.clone(), mirror.clone());
                let objects = SwitchObjects {
                    mirrors: vec![mirror],
                    ..SwitchObjects::default()
                };
                self.global(None, objects, Vec::new())
            }
            Commit::NoMirror(name) => {
                if self.mirrors.remove(name).is_none() {
                    return Vec::new();
                }
                self.removed(GlobalKey::Mirror(name.clone()))
            }
            Commit::Member(member) if *member == self.member => Vec::new(),
            Commit::Member(member) => {
                self.member = *member;
                self.ports.clear();
                vec![Message::Clobber(self.full().into())]
            }
            Commit::Resync => vec![Message::Clobber(self.full().into())],
        }
    }

    fn place(&mut self, port: &PortId, group: &PortGroupName, policy: &Policy) -> Vec<Message> {
        if !self.member || !self.groups.contains_key(group) {
            return Vec::new();
        }
        let epoch = self.epochs.entry(port.clone()).or_default();
        if !self.ports.contains_key(port) {
            *epoch = Epoch(epoch.0 + 1);
        }
        let placed = Versioned {
            revision: self.revision,
            value: PortState {
                id: port.clone(),
                epoch: *epoch,
                group: group.clone(),
                vnic: Some(id("vm-1/eth0")),
                mac: None,
                policy: policy.clone(),
            },
        };
        self.ports.insert(port.clone(), placed.clone());
        let objects = SwitchObjects {
            groups: vec![self.groups[group].clone()],
            mirrors: Vec::new(),
            ports: vec![placed],
        };
        vec![self.clobber(FinalState::Partial {
            settings: self.settings.clone(),
            objects,
            removed: Vec::new(),
        })]
    }

    fn clobber(&self, state: FinalState) -> Message {
        Message::Clobber(Box::new(Clobber {
            v: V1,
            store: self.store,
            lineage: self.lineage.clone(),
            switch: self.switch.clone(),
            revision: self.revision,
            insist: false,
            state,
        }))
    }

    /// A fan-out, which only members hear.
    fn global(
        &self,
        settings: Option<Versioned<SwitchState>>,
        objects: SwitchObjects,
        removed: Vec<Removed>,
    ) -> Vec<Message> {
        let message = self.clobber(FinalState::Partial {
            settings,
            objects,
            removed,
        });
        if self.member { vec![message] } else { vec![] }
    }

    fn removed(&self, object: GlobalKey) -> Vec<Message> {
        let removed = Removed {
            object,
            revision: self.revision,
        };
        self.global(None, SwitchObjects::default(), vec![removed])
    }

    fn remove(&self, ports: Vec<PortId>) -> Message {
        let removed = |port| RemovedPort {
            port,
            revision: self.revision,
        };
        Message::Remove(Remove {
            v: V1,
            store: self.store,
            lineage: self.lineage.clone(),
            switch: self.switch.clone(),
            ports: ports.into_iter().map(removed).collect(),
        })
    }

    /// The full state for the host, as of now.
    pub(crate) fn full(&self) -> Clobber {
        let state = match (&self.settings, self.member) {
            (Some(settings), true) => FinalState::Full {
                settings: settings.clone(),
                objects: SwitchObjects {
                    groups: self.groups.values().cloned().collect(),
                    mirrors: self.mirrors.values().cloned().collect(),
                    ports: self.ports.values().cloned().collect(),
                },
            },
            (Some(_) | None, _) => FinalState::Absent,
        };
        Clobber {
            v: V1,
            store: self.store,
            lineage: self.lineage.clone(),
            switch: self.switch.clone(),
            revision: self.revision,
            insist: false,
            state,
        }
    }

    /// What the host holds after the full state of now.
    pub(crate) fn held(&self) -> HeldSwitch {
        let blank = HeldSwitch {
            floor: self.revision,
            ..HeldSwitch::blank(self.store)
        };
        if !self.member {
            return blank;
        }
        HeldSwitch {
            settings: self.settings.clone(),
            groups: self.groups.clone(),
            mirrors: self.mirrors.clone(),
            ports: self.ports.clone(),
            ..blank
        }
    }
}
