// SPDX-License-Identifier: Apache-2.0
//! A change of uplinks, or of a port that the host lives behind, that cuts it
//! off is rolled back within a bound, and stays so until somebody decides.

use std::collections::BTreeSet;
use std::time::Duration;

use dvs_schemas::v1::{ApplyOutcome, Clobber, HelloReply, SwitchState, V1};
use dvs_schemas::{Policy, PortId, SwitchName, UplinkName, Vlan};
use host_agent::datapath::Behaviour;
use host_agent::host::HostEvent;
use host_agent::merge::EffectiveVlan;
use proptest::prelude::*;

use crate::history::{Commit, Publisher, private_vlans};
use crate::rig::{ROLLBACK, Rig, id};
use crate::versions::{access, one, settings, site};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A host on the bus whose switch has uplink `eth1`, known to be good.
pub(crate) fn joined() -> (Rig, Publisher) {
    let mut publisher = site();
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    change(&mut rig, &mut publisher, "eth1");
    rig.pass(ROLLBACK * 2);
    assert_eq!(uplinks(&rig), ["eth1"]);
    (rig, publisher)
}

pub(crate) fn with(uplink: &str) -> SwitchState {
    SwitchState {
        uplinks: vec![id(uplink)],
        ..settings(1500)
    }
}

/// Says that the switch has another uplink; answers what became of it.
pub(crate) fn change(rig: &mut Rig, publisher: &mut Publisher, uplink: &str) -> ApplyOutcome {
    let message = one(publisher.commit(&Commit::Settings(with(uplink))));
    let asked = rig.send(&message);
    rig.outcome(asked)
}

/// What the bridge has.
pub(crate) fn uplinks(rig: &Rig) -> Vec<String> {
    let picture = rig.datapath.picture();
    let uplinks = &picture[&id::<SwitchName>("prod")].settings.uplinks;
    uplinks.iter().map(UplinkName::to_string).collect()
}

fn failure(rig: &mut Rig, message: &Clobber) -> String {
    let asked = rig.send(message);
    match rig.outcome(asked) {
        ApplyOutcome::Failed { message, .. } => message,
        ApplyOutcome::Applied { .. } => panic!("applied"),
    }
}

const REASON: &str = "rolled back: apply a newer revision of the switch, or have it tried again \
                      with dvsctl resync; the bus was not reached for 30s after uplinks changed \
                      from [eth1] to [eth2]";

#[test]
fn a_change_that_cuts_the_host_off_is_rolled_back_and_refused_until_somebody_decides() {
    let (mut rig, mut publisher) = joined();
    let before = rig.core().held().next().map(|(_, held)| held.newest());
    rig.mute = true;
    assert_eq!(
        change(&mut rig, &mut publisher, "eth2"),
        ApplyOutcome::Applied { writes: 1 }
    );
    rig.pass(ROLLBACK - SECOND);
    assert_eq!(uplinks(&rig), ["eth2"]);
    rig.pass(SECOND);
    assert_eq!(uplinks(&rig), ["eth1"]);
    assert_eq!(rig.reconnects, 1, "a new connection is not waited for");
    // Back on the bus the same revision is refused, and nothing is written.
    rig.mute = false;
    rig.event(HostEvent::Disconnected);
    rig.event(HostEvent::Connected);
    let writes = rig.datapath.writes();
    for _ in 0..3 {
        assert_eq!(failure(&mut rig, &publisher.full()), REASON);
        rig.pass(Duration::from_secs(600));
    }
    assert_eq!(rig.datapath.writes(), writes);
    let observed = rig.heartbeats.last().map(|beat| beat.observed[0].revision);
    assert_eq!(observed, before, "it is not in sync");
    // All else goes on.
    let group = publisher.commit(&Commit::Group(id("g1"), crate::versions::access(77)));
    for message in group.into_iter().map(|message| one(vec![message])) {
        let asked = rig.send(&message);
        assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    }
    // A newer revision is somebody's decision.
    let applied = change(&mut rig, &mut publisher, "eth3");
    assert_eq!(applied, ApplyOutcome::Applied { writes: 1 });
    rig.pass(ROLLBACK * 2);
    assert_eq!(uplinks(&rig), ["eth3"]);
}

#[test]
fn an_operators_word_has_it_tried_again() {
    let (mut rig, mut publisher) = joined();
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(ROLLBACK);
    let insisting = Clobber {
        insist: true,
        ..publisher.full()
    };
    let asked = rig.send(&insisting);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 1 });
    assert_eq!(uplinks(&rig), ["eth2"]);
    // And rolled back again, if it cuts the host off again.
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth1"]);
}

#[test]
fn an_agent_that_dies_on_trial_goes_on_with_it() {
    let (mut rig, mut publisher) = joined();
    rig.mute = true;
    rig.hold_datapath = true;
    // It dies with the change committed, and not carried out yet.
    let message = one(publisher.commit(&Commit::Settings(with("eth2"))));
    rig.send(&message);
    rig.hold_datapath = false;
    rig.restart();
    assert_eq!(uplinks(&rig), ["eth2"], "it is carried out from the ledger");
    rig.pass(ROLLBACK / 2);
    rig.restart();
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth1"]);
    // What was rolled back stays so over further lives.
    rig.mute = false;
    rig.restart();
    rig.event(HostEvent::Connected);
    assert_eq!(failure(&mut rig, &publisher.full()), REASON);
    assert_eq!(uplinks(&rig), ["eth1"]);
}

#[test]
fn what_is_changed_while_the_bus_is_away_can_not_have_cut_it_off() {
    let (mut rig, mut publisher) = joined();
    rig.event(HostEvent::Disconnected);
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(ROLLBACK * 10);
    assert_eq!(uplinks(&rig), ["eth2"]);
}

#[test]
fn changes_in_a_row_are_rolled_back_to_what_the_bus_was_heard_with() {
    let (mut rig, mut publisher) = joined();
    change(&mut rig, &mut publisher, "eth2");
    // The next one is heard with that in force, though it is still on trial.
    rig.pass(SECOND * 2);
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth3");
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth2"]);
    // What comes with the same breath says nothing of it.
    let (mut rig, mut publisher) = joined();
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    change(&mut rig, &mut publisher, "eth3");
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth1"]);
}

#[test]
fn an_agent_that_comes_back_on_trial_and_is_heard_confirms_what_is_in_force() {
    let (mut rig, mut publisher) = joined();
    change(&mut rig, &mut publisher, "eth2");
    rig.restart();
    rig.event(HostEvent::Connected);
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth3");
    rig.pass(ROLLBACK);
    assert_eq!(uplinks(&rig), ["eth2"]);
}

/// Whoever failed is in the queue; a part that is applied doesn't end that.
#[test]
fn a_host_that_takes_a_newer_revision_after_a_failure_says_hello() {
    let (mut rig, mut publisher) = joined();
    let answer = HelloReply {
        v: V1,
        session: crate::rig::SESSION,
        switches: vec![id("prod")],
    };
    rig.event(HostEvent::Greeted(Ok(answer)));
    rig.send(&publisher.full());
    rig.mute = true;
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(ROLLBACK);
    rig.mute = false;
    failure(&mut rig, &publisher.full());
    // Another part that is applied changes nothing about that.
    let group = one(publisher.commit(&Commit::Group(id("g1"), access(11))));
    rig.send(&group);
    let hellos = rig.hellos.len();
    rig.pass(SECOND);
    assert_eq!(rig.hellos.len(), hellos);
    change(&mut rig, &mut publisher, "eth3");
    rig.pass(SECOND);
    assert_eq!(rig.hellos.len(), hellos + 1);
}

/// What the host lives behind is port p1.
pub(crate) fn behind_p1() -> (Rig, Publisher) {
    let (rig, publisher) = joined();
    rig.datapath.behave(Behaviour {
        of_host: BTreeSet::from([id("p1")]),
        ..Behaviour::default()
    });
    (rig, publisher)
}

pub(crate) fn vlan(rig: &Rig, port: &str) -> EffectiveVlan {
    let picture = rig.datapath.picture();
    let ports = &picture[&id::<SwitchName>("prod")].ports;
    ports[&id::<PortId>(port)].port.policy.vlan.clone()
}

pub(crate) fn on(number: u16) -> EffectiveVlan {
    EffectiveVlan::Access(number.try_into().unwrap())
}

/// What a message is refused with for port p1.
pub(crate) fn failure_of_p1(rig: &mut Rig, message: &Clobber) -> String {
    let asked = rig.send(message);
    match rig.outcome(asked) {
        ApplyOutcome::Failed { ports, .. } => {
            let [p1] = &ports[..] else {
                panic!("{ports:?}");
            };
            assert_eq!(p1.port, id("p1"));
            p1.message.clone()
        }
        ApplyOutcome::Applied { .. } => panic!("applied"),
    }
}

#[test]
fn a_change_of_the_port_that_the_host_lives_behind_is_rolled_back_and_of_no_other() {
    let (mut rig, mut publisher) = behind_p1();
    rig.mute = true;
    let group = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let asked = rig.send(&group);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    rig.pass(ROLLBACK - SECOND);
    assert_eq!(vlan(&rig, "p1"), on(20));
    // The agent dies, and comes back to the same.
    rig.restart();
    rig.pass(ROLLBACK);
    assert_eq!((vlan(&rig, "p1"), vlan(&rig, "p2")), (on(10), on(20)));
    rig.mute = false;
    rig.event(HostEvent::Connected);
    let reason = "rolled back: apply a newer revision of the port, or have it tried again with \
                  dvsctl resync; the bus was not reached for 30s after vlan of port p1, which the \
                  host lives behind, changed from {\"access\":10} to {\"access\":20}";
    let writes = rig.datapath.writes();
    for _ in 0..3 {
        assert_eq!(failure_of_p1(&mut rig, &publisher.full()), reason);
        rig.pass(Duration::from_secs(600));
    }
    assert_eq!(rig.datapath.writes(), writes);
    let observed = rig.heartbeats.last().map(|beat| beat.observed[0].revision);
    assert!(observed < Some(publisher.revision), "it is not in sync");
    // All else goes on, and somebody decides.
    let other = Commit::Port(id("p3"), id("g1"), Policy::default());
    let asked = rig.send(&one(publisher.commit(&other)));
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 1 });
    let insisting = Clobber {
        insist: true,
        ..publisher.full()
    };
    let asked = rig.send(&insisting);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 1 });
    assert_eq!(vlan(&rig, "p1"), on(20));
    rig.pass(ROLLBACK * 2);
    assert_eq!(vlan(&rig, "p1"), on(20), "the bus is heard");
    let asked = rig.send(&publisher.full());
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
}

/// Each for itself they would go back to uplinks that nobody was ever heard by.
#[test]
fn of_changes_in_a_row_the_one_is_rolled_back_that_nobody_was_heard_with() {
    let (mut rig, mut publisher) = behind_p1();
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(SECOND * 2);
    let group = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    rig.send(&group);
    rig.mute = true;
    rig.pass(ROLLBACK + SECOND);
    assert_eq!(
        (vlan(&rig, "p1"), uplinks(&rig)),
        (on(10), vec!["eth2".to_owned()])
    );
    rig.mute = false;
    rig.pass(ROLLBACK * 3);
    assert_eq!(uplinks(&rig), ["eth2"]);
    // If that doesn't help, the other one goes as well.
    let (mut rig, mut publisher) = behind_p1();
    change(&mut rig, &mut publisher, "eth2");
    rig.pass(SECOND * 2);
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.mute = true;
    rig.pass(ROLLBACK * 2 + SECOND);
    assert_eq!(
        (vlan(&rig, "p1"), uplinks(&rig)),
        (on(10), vec!["eth1".to_owned()])
    );
}

#[test]
fn a_change_of_private_vlans_is_rolled_back_with_the_roles_of_ports() {
    let (mut rig, mut publisher) = behind_p1();
    let private = Policy {
        vlan: Some(Vlan::Private(102.try_into().unwrap())),
        ..Policy::default()
    };
    rig.send(&one(publisher.commit(&Commit::Port(
        id("p1"),
        id("g1"),
        private,
    ))));
    rig.pass(ROLLBACK * 2);
    let before = vlan(&rig, "p1");
    rig.mute = true;
    let settings = SwitchState {
        private_vlans: serde_json::from_str(r#"[{"primary": 100, "isolated": 102}]"#).unwrap(),
        ..with("eth1")
    };
    let message = one(publisher.commit(&Commit::Settings(settings)));
    rig.send(&message);
    assert_ne!(vlan(&rig, "p1"), before);
    rig.pass(ROLLBACK * 2);
    assert_eq!(vlan(&rig, "p1"), before);
    let there = rig.datapath.picture()[&id::<SwitchName>("prod")].clone();
    assert_eq!(there.settings.private_vlans, private_vlans());
    let asked = rig.send(&publisher.full());
    let ApplyOutcome::Failed { message, .. } = rig.outcome(asked) else {
        panic!("applied");
    };
    assert!(message.contains("private_vlans changed from"), "{message}");
}

proptest! {
    /// Whatever is changed when, and whenever the bus is there: once nothing
    /// has changed for the bound and the bus was away all that time, the
    /// uplinks are some with which it was heard.
    #[test]
    fn a_host_that_is_cut_off_has_uplinks_that_were_good_within_the_bound(
        steps in proptest::collection::vec((0..4_usize, 0..40_u64), 1..20),
    ) {
        let (mut rig, mut publisher) = joined();
        // The bus is heard by way of these alone.
        let good = ["eth0", "eth1"];
        let names = ["eth0", "eth1", "eth2", "eth3"];
        for (uplink, seconds) in steps {
            // Nobody is heard while it is away.
            if good.contains(&uplinks(&rig)[0].as_str()) {
                change(&mut rig, &mut publisher, names[uplink]);
            }
            for _ in 0..seconds {
                let there = uplinks(&rig);
                rig.mute = !good.contains(&there[0].as_str());
                rig.pass(SECOND);
            }
        }
        for _ in 0..=ROLLBACK.as_secs() {
            let there = uplinks(&rig);
            rig.mute = !good.contains(&there[0].as_str());
            rig.pass(SECOND);
        }
        let there = uplinks(&rig);
        prop_assert!(good.contains(&there[0].as_str()), "{:?}", there);
    }
}
