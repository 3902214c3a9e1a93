// SPDX-License-Identifier: Apache-2.0
//! Random documents, each well-formed for itself; what they refer to need not
//! exist.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    direction, mac, mtu, name, policy, policy_fields, private_vlans, record, uplink, vlan_id, vnic,
};
use crate::documents::{
    Binding, Document, Hosts, MirrorDestination, MirrorPort, MirrorSessionDoc, MirrorSource,
    PortDoc, PortGroupDoc, SwitchDoc, Teaming,
};

/// All hosts, or some.
pub(super) fn hosts() -> impl Strategy<Value = Hosts> {
    prop_oneof![
        Just(Hosts::All),
        btree_set(name(), 0..4).prop_map(Hosts::Only),
    ]
}

pub(super) fn teaming() -> impl Strategy<Value = Teaming> {
    select(vec![
        Teaming::ActiveBackup,
        Teaming::BalanceSlb,
        Teaming::Lacp,
    ])
}

/// Any way to tell runtime state.
pub(super) fn runtime_settings() -> impl Strategy<Value = RuntimeSettings> {
    let field = select(vec![
        RuntimeField::Link,
        RuntimeField::Vlan,
        RuntimeField::Blocked,
        RuntimeField::Mirrored,
        RuntimeField::Counters,
    ]);
    let class = select(vec![
        RuntimeClass::Rare,
        RuntimeClass::Busy,
        RuntimeClass::Auto,
    ]);
    let mode = select(vec![TellMode::Push, TellMode::Notify]);
    let classes = proptest::collection::btree_map(field, class, 0..3);
    (mode, classes).prop_map(|(mode, classes)| RuntimeSettings { mode, classes })
}

use crate::telling::{RuntimeClass, RuntimeField, RuntimeSettings, TellMode};

record!(
    /// Any switch.
    switch_doc: SwitchDoc {
        name: name(),
        hosts: hosts(),
        mtu: mtu(),
        uplinks: vec(uplink(), 0..3),
        teaming: teaming(),
        private_vlans: private_vlans(),
        runtime: runtime_settings(),
        policy: policy(),
    }
);

record!(
    /// Any port group.
    port_group_doc: PortGroupDoc {
        name: name(),
        switch: name(),
        policy: policy(),
        overridable: policy_fields(),
        binding: select(vec![Binding::Static, Binding::Ephemeral]),
    }
);

record!(
    /// Any port.
    port_doc: PortDoc {
        name: name(),
        switch: name(),
        group: name(),
        host: option::of(name()),
        vnic: option::of(vnic()),
        mac: option::of(mac()),
        policy: policy(),
    }
);

record!(
    /// A port whose frames are copied.
    mirror_port: MirrorPort {
        port: name(),
        direction: direction(),
    }
);

record!(
    /// Frames to copy.
    mirror_source: MirrorSource {
        ports: vec(mirror_port(), 0..3),
        vlans: vec(vlan_id(), 0..3),
    }
);

pub(super) fn mirror_destination() -> impl Strategy<Value = MirrorDestination> {
    prop_oneof![
        name().prop_map(MirrorDestination::Port),
        vlan_id().prop_map(MirrorDestination::Vlan),
    ]
}

record!(
    /// Any mirroring session.
    mirror_session_doc: MirrorSessionDoc {
        name: name(),
        switch: name(),
        source: mirror_source(),
        destination: mirror_destination(),
    }
);

/// A document of any kind.
pub fn document() -> impl Strategy<Value = Document> {
    prop_oneof![
        switch_doc().prop_map(Document::Switch),
        port_group_doc().prop_map(Document::PortGroup),
        port_doc().prop_map(Document::Port),
        mirror_session_doc().prop_map(Document::MirrorSession),
    ]
}
