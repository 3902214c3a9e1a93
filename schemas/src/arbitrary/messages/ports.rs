// SPDX-License-Identifier: Apache-2.0
//! How hosts ask for ports and give them back, and where ports are.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::store::position;
use super::{few, v1};
use crate::arbitrary::{deadline, epoch, mac, machine_id, name, record, revision, session, vnic};
use crate::v1::{
    Activity, ClaimOutcome, ClaimReply, ClaimRequest, ConnectRequest, Machine, MoveRequest,
    Placement, PlacementsReply, PlacementsRequest, ReleaseOutcome, ReleaseReply, ReleaseRequest,
    Wait, Yield,
};

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![Just(Wait::Committed), Just(Wait::Applied)]
}

record!(
    /// Any connect.
    connect_request: ConnectRequest {
        port: name(),
        vnic: vnic(),
        host: option::of(name()),
        mac: option::of(mac()),
        switch: option::of(name()),
        group: option::of(name()),
        wait: option::of(wait()),
        timeout: option::of(deadline()),
    }
);
record!(
    /// Any move.
    move_request: MoveRequest {
        port: name(),
        host: name(),
        from: option::of(name()),
        force: any::<bool>(),
        wait: option::of(wait()),
        timeout: option::of(deadline()),
    }
);
/// Any activity.
pub fn activity() -> impl Strategy<Value = Activity> {
    prop_oneof![
        Just(Activity::Stopped),
        Just(Activity::Unknown),
        Just(Activity::Running),
    ]
}

record!(
    /// Any machine.
    machine: Machine {
        id: option::of(machine_id()),
        activity: activity(),
    }
);
record!(
    /// Any word that somebody waits for a port.
    yield_request: Yield {
        v: v1(),
        port: name(),
        epoch: epoch(),
        to: name(),
        machine: machine(),
        waited_ms: any::<u64>(),
    }
);
record!(
    /// Any claim.
    claim_request: ClaimRequest {
        v: v1(),
        host: name(),
        session: session(),
        port: name(),
        vnic: option::of(vnic()),
        mac: option::of(mac()),
        epoch: option::of(epoch()),
        machine: machine(),
        positions: few(position()),
    }
);

/// Any outcome of a claim.
pub fn claim_outcome() -> impl Strategy<Value = ClaimOutcome> {
    prop_oneof![
        (epoch(), revision())
            .prop_map(|(epoch, revision)| ClaimOutcome::Granted { epoch, revision }),
        (name(), epoch()).prop_map(|(holder, epoch)| ClaimOutcome::Waits { holder, epoch }),
    ]
}

record!(
    /// Any reply to a claim.
    claim_reply: ClaimReply {
        v: v1(),
        host: name(),
        port: name(),
        outcome: claim_outcome(),
    }
);
record!(
    /// Any release.
    release_request: ReleaseRequest {
        v: v1(),
        host: name(),
        session: session(),
        port: name(),
        epoch: option::of(epoch()),
        to: option::of(name()),
        positions: few(position()),
    }
);

/// Any outcome of a release.
pub fn release_outcome() -> impl Strategy<Value = ReleaseOutcome> {
    prop_oneof![
        revision().prop_map(|revision| ReleaseOutcome::Released { revision }),
        Just(ReleaseOutcome::Withdrawn),
        Just(ReleaseOutcome::Kept),
        Just(ReleaseOutcome::Nothing),
    ]
}

record!(
    /// Any reply to a release.
    release_reply: ReleaseReply {
        v: v1(),
        host: name(),
        port: name(),
        outcome: release_outcome(),
    }
);
record!(
    /// Any question where ports are.
    placements_request: PlacementsRequest {
        v: v1(),
        ports: vec(name(), 0..4),
    }
);
record!(
    /// Any place of a port.
    placement: Placement {
        port: name(),
        epoch: epoch(),
        host: option::of(name()),
    }
);
record!(
    /// Any reply to the question where ports are.
    placements_reply: PlacementsReply {
        v: v1(),
        placements: vec(placement(), 0..4),
    }
);
