// SPDX-License-Identifier: Apache-2.0
//! What a change on trial must survive: other changes, failures in part, other
//! revisions of the same, and a namesake.

use dvs_schemas::v1::{ApplyOutcome, HelloReply, V1};
use dvs_schemas::{Policy, PortId, SessionId, SwitchName};
use host_agent::host::{AskFailure, HostEvent};
use proptest::prelude::*;

use crate::history::{Commit, Message, Publisher};
use crate::rig::{ROLLBACK, Rig, id};
use crate::rollback::{SECOND, behind_p1, change, failure_of_p1, joined, on, uplinks, vlan};
use crate::versions::{access, one};

/// What was rolled back is in force again, or is not said to be.
#[test]
fn a_newer_revision_of_the_same_settings_is_tried_again() {
    let (mut rig, mut publisher) = behind_p1();
    rig.mute = true;
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.pass(ROLLBACK);
    assert_eq!(vlan(&rig, "p1"), on(10));
    let asked = rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 1 });
    assert_eq!(vlan(&rig, "p1"), on(20));

    let (mut rig, mut publisher) = joined();
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth1"]);
    let again = change(&mut rig, &mut publisher, "eth2");
    assert_eq!(again, ApplyOutcome::Applied { writes: 1 });
    assert_eq!(uplinks(&rig), ["eth2"]);
}

#[test]
fn a_change_that_failed_in_part_is_on_trial_for_what_went_live() {
    let (mut rig, mut publisher) = behind_p1();
    rig.in_part = Some(id("p1"));
    rig.mute = true;
    let message = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    failure_of_p1(&mut rig, &message);
    assert_eq!(vlan(&rig, "p1"), on(20));
    rig.pass(ROLLBACK / 2);
    rig.in_part = None;
    rig.pass(ROLLBACK / 2);
    assert_eq!(vlan(&rig, "p1"), on(10));
}

/// The publisher gave the host to another agent, and then the bus went.
#[test]
fn a_refused_agent_rolls_back_and_changes_nothing_else() {
    for uplink in [false, true] {
        let (mut rig, mut publisher) = behind_p1();
        rig.mute = true;
        if uplink {
            change(&mut rig, &mut publisher, "eth2");
        } else {
            rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
        }
        let why = "another agent is host h1".to_owned();
        rig.event(HostEvent::Greeted(Err(AskFailure::Namesake(why))));
        rig.event(HostEvent::Disconnected);
        // Somebody else's doing waits until it is known whose the host is.
        rig.datapath.disturb(|picture| {
            let bridge = picture.get_mut(&id::<SwitchName>("prod")).unwrap();
            bridge.ports.remove(&id::<PortId>("p2"));
        });
        rig.notices();
        rig.pass(ROLLBACK);
        assert_eq!(
            (vlan(&rig, "p1"), uplinks(&rig)),
            (on(10), vec!["eth1".to_owned()])
        );
        let there = rig.datapath.picture()[&id::<SwitchName>("prod")].clone();
        assert!(!there.ports.contains_key(&id::<PortId>("p2")));
        rig.mute = false;
        rig.event(HostEvent::Connected);
        rig.event(HostEvent::Greeted(Ok(HelloReply {
            v: V1,
            session: SessionId(9),
            switches: Vec::new(),
        })));
        rig.wake();
        let there = rig.datapath.picture()[&id::<SwitchName>("prod")].clone();
        assert!(there.ports.contains_key(&id::<PortId>("p2")));
    }
}

/// A port that was set and removed while it was being set is known by name only.
#[test]
fn what_is_to_go_is_not_forgotten_at_a_roll_back() {
    let (mut rig, mut publisher) = joined();
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(ROLLBACK - SECOND);
    rig.hold_datapath = true;
    let port = Commit::Port(id("p9"), id("g1"), Policy::default());
    rig.send(&one(publisher.commit(&port)));
    for message in publisher.commit(&Commit::NoPort(id("p9"))) {
        match message {
            Message::Remove(message) => drop(rig.send_remove(&message)),
            Message::Clobber(_) => panic!("a removal"),
        }
    }
    rig.pass(SECOND);
    rig.hold_datapath = false;
    rig.wake();
    rig.pass(SECOND);
    assert_eq!(uplinks(&rig), ["eth1"]);
    let there = rig.datapath.picture()[&id::<SwitchName>("prod")].clone();
    assert!(!there.ports.contains_key(&id::<PortId>("p9")));
}

proptest! {
    /// Whoever was heard with what meanwhile: once the bus is away for good,
    /// each of two changes is back where it was within the bound of each and
    /// one more.
    #[test]
    fn all_that_is_on_trial_as_the_bus_goes_is_rolled_back(
        first in any::<bool>(),
        gap in 0..4_u64,
        heard in proptest::collection::vec((0..3_u64, any::<bool>()), 0..3),
    ) {
        let (mut rig, mut publisher) = behind_p1();
        let group = |publisher: &mut Publisher, rig: &mut Rig| {
            rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
        };
        if first {
            change(&mut rig, &mut publisher, "eth2");
        } else {
            group(&mut publisher, &mut rig);
        }
        rig.pass(SECOND * gap.try_into().unwrap());
        if first {
            group(&mut publisher, &mut rig);
        } else {
            change(&mut rig, &mut publisher, "eth2");
        }
        for (seconds, connects) in heard {
            rig.pass(SECOND * seconds.try_into().unwrap());
            if connects {
                rig.event(HostEvent::Connected);
            } else {
                rig.send(&publisher.full());
            }
        }
        rig.mute = true;
        rig.pass(ROLLBACK * 3);
        prop_assert_eq!(
            (vlan(&rig, "p1"), uplinks(&rig)),
            (on(10), vec!["eth1".to_owned()])
        );
    }
}
