// SPDX-License-Identifier: Apache-2.0
//! What a change on trial must survive: other changes, failures in part, other
//! revisions of the same, and a namesake.

use dvs_schemas::v1::{ApplyOutcome, HelloReply, V1};
use dvs_schemas::{Policy, PolicyField, PortId, SessionId, SwitchName};
use host_agent::datapath::Behaviour;
use host_agent::host::{AskFailure, HostEvent};
use proptest::prelude::*;

use crate::history::{Commit, Message, Publisher};
use crate::rig::{ROLLBACK, Rig, id};
use crate::rollback::{SECOND, behind_p1, change, failure_of_p1, joined, on, uplinks, vlan, with};
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

/// The bus was heard with what is in force: that it goes later says nothing of
/// the change.
#[test]
fn what_is_in_force_of_a_change_in_part_stays_once_the_bus_was_heard_with_it() {
    for restart in [false, true] {
        let (mut rig, mut publisher) = behind_p1();
        rig.in_part = Some(id("p1"));
        let message = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
        failure_of_p1(&mut rig, &message);
        rig.pass(ROLLBACK * 3);
        rig.mute = true;
        if restart {
            rig.restart();
        }
        rig.pass(ROLLBACK * 3);
        assert_eq!(vlan(&rig, "p1"), on(20));
    }
}

/// An answer of before says nothing of what takes hold later.
#[test]
fn the_rest_of_a_change_has_a_trial_of_its_own() {
    for heard_with_the_part in [false, true] {
        let (mut rig, mut publisher) = behind_p1();
        rig.in_part = Some(id("p1"));
        let message = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
        failure_of_p1(&mut rig, &message);
        rig.pass(if heard_with_the_part {
            ROLLBACK * 3
        } else {
            ROLLBACK / 3 - SECOND
        });
        rig.in_part = None;
        let asked = rig.send(&publisher.full());
        assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
        rig.pass(SECOND * 2);
        rig.mute = true;
        rig.pass(ROLLBACK);
        assert_eq!(vlan(&rig, "p1"), on(10));
    }
}

/// The switch was written, and nobody is left who was told so.
#[test]
fn a_change_whose_agent_dies_of_it_is_on_trial() {
    for uplink in [false, true] {
        let (mut rig, mut publisher) = behind_p1();
        rig.mute = true;
        rig.die_of_writes = true;
        let commit = match uplink {
            false => Commit::Group(id("g1"), access(20)),
            true => Commit::Settings(with("eth2")),
        };
        rig.send(&one(publisher.commit(&commit)));
        let cut_off = match uplink {
            false => (on(20), vec!["eth1".to_owned()]),
            true => (on(10), vec!["eth2".to_owned()]),
        };
        assert_eq!((vlan(&rig, "p1"), uplinks(&rig)), cut_off);
        // The bound counts from when there is somebody again.
        rig.pass(ROLLBACK - SECOND);
        assert_eq!((vlan(&rig, "p1"), uplinks(&rig)), cut_off);
        rig.pass(SECOND);
        let good = (on(10), vec!["eth1".to_owned()]);
        assert_eq!((vlan(&rig, "p1"), uplinks(&rig)), good);
    }
}

/// The switch was written, and the datapath says only that it failed.
#[test]
fn a_change_of_which_nobody_knows_whether_it_is_in_force_is_on_trial() {
    for uplink in [false, true] {
        let (mut rig, mut publisher) = behind_p1();
        rig.mute = true;
        rig.lose_results = true;
        let commit = match uplink {
            false => Commit::Group(id("g1"), access(20)),
            true => Commit::Settings(with("eth2")),
        };
        rig.send(&one(publisher.commit(&commit)));
        rig.lose_results = false;
        // It is carried out once more after a second or two.
        rig.pass(ROLLBACK + SECOND * 2);
        let good = (on(10), vec!["eth1".to_owned()]);
        assert_eq!((vlan(&rig, "p1"), uplinks(&rig)), good);
    }
}

/// The same change could cut off whoever comes back later, too.
#[test]
fn a_change_that_was_good_before_its_agent_died_is_not_on_trial() {
    let (mut rig, mut publisher) = behind_p1();
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.pass(ROLLBACK);
    rig.mute = true;
    rig.restart();
    rig.pass(ROLLBACK * 2);
    assert_eq!(vlan(&rig, "p1"), on(20));
}

/// What the datapath refuses has cut nobody off; nor has what it says of a
/// port that the host doesn't live behind any more.
#[test]
fn a_change_that_was_not_carried_out_is_not_on_trial() {
    let (mut rig, mut publisher) = behind_p1();
    let refusing = Behaviour {
        failing: [(id("p1"), PolicyField::Vlan)].into(),
        ..rig.datapath.behaviour()
    };
    rig.datapath.behave(refusing);
    rig.mute = true;
    let message = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    failure_of_p1(&mut rig, &message);
    assert_eq!(vlan(&rig, "p1"), on(10));
    rig.restart();
    rig.pass(ROLLBACK * 2);
    let failure = failure_of_p1(&mut rig, &publisher.full());
    assert!(!failure.contains("rolled back"), "{failure}");

    let (mut rig, mut publisher) = behind_p1();
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.pass(ROLLBACK);
    rig.datapath.behave(Behaviour::default());
    rig.mute = true;
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(30)))));
    rig.pass(ROLLBACK * 2);
    assert_eq!(vlan(&rig, "p1"), on(30));
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
