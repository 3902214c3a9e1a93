// SPDX-License-Identifier: Apache-2.0
//! Messages of hosts and to hosts.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::store::{lineage, position};
use super::{few, v1, words};
use crate::arbitrary::documents::{mirror_destination, mirror_source, runtime_settings, teaming};
use crate::arbitrary::{
    epoch, mac, mtu, name, policy, private_vlans, record, revision, session, store, uplink, vnic,
};
use crate::v1::{
    ApplyOutcome, ApplyReport, Change, Clobber, FinalState, GlobalKey, MirrorState, Plan,
    PlanOutcome, PortFailure, PortGroupState, PortState, Remove, RemoveOutcome, RemoveReport,
    Removed, RemovedPort, SwitchObjects, SwitchState, Versioned,
};

fn versioned<S: Strategy>(value: S) -> impl Strategy<Value = Versioned<S::Value>> {
    (revision(), value).prop_map(|(revision, value)| Versioned { revision, value })
}

record!(
    /// A switch as hosts need it.
    switch_state: SwitchState {
        mtu: mtu(),
        uplinks: vec(uplink(), 0..3),
        teaming: teaming(),
        private_vlans: private_vlans(),
        runtime: runtime_settings(),
        policy: policy(),
    }
);
record!(
    /// A port group as hosts need it.
    port_group_state: PortGroupState {
        name: name(),
        policy: policy(),
    }
);
record!(
    /// A mirror session as hosts need it.
    mirror_state: MirrorState {
        name: name(),
        source: mirror_source(),
        destination: mirror_destination(),
    }
);
record!(
    /// A port as its host needs it.
    port_state: PortState {
        id: name(),
        epoch: epoch(),
        group: name(),
        vnic: option::of(vnic()),
        mac: option::of(mac()),
        policy: policy(),
    }
);
record!(
    /// Objects of a switch; names may repeat.
    switch_objects: SwitchObjects {
        groups: few(versioned(port_group_state())),
        mirrors: few(versioned(mirror_state())),
        ports: few(versioned(port_state())),
    }
);

/// Any global object's name.
pub fn global_key() -> impl Strategy<Value = GlobalKey> {
    prop_oneof![
        name().prop_map(GlobalKey::Group),
        name().prop_map(GlobalKey::Mirror),
    ]
}

record!(
    /// A global object that is no more.
    removed: Removed {
        object: global_key(),
        revision: revision(),
    }
);

/// Any final state.
pub fn final_state() -> impl Strategy<Value = FinalState> {
    prop_oneof![
        3 => (versioned(switch_state()), switch_objects())
            .prop_map(|(settings, objects)| FinalState::Full { settings, objects }),
        1 => Just(FinalState::Absent),
        4 => (option::of(versioned(switch_state())), switch_objects(), few(removed())).prop_map(
            |(settings, objects, removed)| FinalState::Partial { settings, objects, removed }
        ),
    ]
}

record!(
    /// Any clobber.
    clobber: Clobber {
        v: v1(),
        store: store(),
        lineage: lineage(),
        switch: name(),
        revision: revision(),
        insist: any::<bool>(),
        state: final_state(),
    }
);
record!(
    /// Why a port failed.
    port_failure: PortFailure {
        port: name(),
        field: option::of(words()),
        message: words(),
    }
);

/// Any outcome of a clobber.
pub fn apply_outcome() -> impl Strategy<Value = ApplyOutcome> {
    prop_oneof![
        any::<u32>().prop_map(|writes| ApplyOutcome::Applied { writes }),
        (words(), few(port_failure()))
            .prop_map(|(message, ports)| ApplyOutcome::Failed { message, ports }),
    ]
}

record!(
    /// Any answer to a clobber.
    apply_report: ApplyReport {
        v: v1(),
        host: name(),
        session: session(),
        switch: name(),
        observed: revision(),
        position: option::of(position()),
        outcome: apply_outcome(),
    }
);
record!(
    /// A port that is to be on a host no more.
    removed_port: RemovedPort {
        port: name(),
        revision: revision(),
    }
);
record!(
    /// Any removal.
    remove: Remove {
        v: v1(),
        store: store(),
        lineage: lineage(),
        switch: name(),
        ports: few(removed_port()),
    }
);

/// Any outcome of a removal.
pub fn remove_outcome() -> impl Strategy<Value = RemoveOutcome> {
    prop_oneof![
        Just(RemoveOutcome::Removed),
        few(port_failure()).prop_map(|ports| RemoveOutcome::Failed { ports }),
    ]
}

record!(
    /// Any answer to a removal.
    remove_report: RemoveReport {
        v: v1(),
        host: name(),
        session: session(),
        switch: name(),
        observed: revision(),
        position: option::of(position()),
        outcome: remove_outcome(),
    }
);
record!(
    /// A change to a datapath.
    change: Change {
        object: words(),
        field: option::of(words()),
        from: option::of(words()),
        to: option::of(words()),
    }
);

/// Any outcome of the plan verb.
pub fn plan_outcome() -> impl Strategy<Value = PlanOutcome> {
    prop_oneof![
        few(change()).prop_map(PlanOutcome::Changes),
        words().prop_map(|message| PlanOutcome::Refused { message }),
    ]
}

record!(
    /// Any plan.
    plan: Plan {
        v: v1(),
        host: name(),
        session: session(),
        switch: name(),
        outcome: plan_outcome(),
    }
);
