// SPDX-License-Identifier: Apache-2.0
//! A change of uplinks that cuts the host off is rolled back within a bound,
//! and stays so until somebody decides.

use std::time::Duration;

use dvs_schemas::v1::{ApplyOutcome, Clobber, SwitchState};
use dvs_schemas::{SwitchName, UplinkName};
use host_agent::host::HostEvent;
use proptest::prelude::*;

use crate::history::{Commit, Publisher};
use crate::rig::{ROLLBACK, Rig, id};
use crate::versions::{one, settings, site};

const SECOND: Duration = Duration::from_secs(1);

/// A host on the bus whose switch has uplink `eth1`, known to be good.
fn joined() -> (Rig, Publisher) {
    let mut publisher = site();
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    change(&mut rig, &mut publisher, "eth1");
    rig.pass(ROLLBACK * 2);
    assert_eq!(uplinks(&rig), ["eth1"]);
    (rig, publisher)
}

fn with(uplink: &str) -> SwitchState {
    SwitchState {
        uplinks: vec![id(uplink)],
        ..settings(1500)
    }
}

/// Says that the switch has another uplink; answers what became of it.
fn change(rig: &mut Rig, publisher: &mut Publisher, uplink: &str) -> ApplyOutcome {
    let message = one(publisher.commit(&Commit::Settings(with(uplink))));
    let asked = rig.send(&message);
    rig.outcome(asked)
}

/// What the bridge has.
fn uplinks(rig: &Rig) -> Vec<String> {
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

const REASON: &str = "rolled back: the bus was not reached for 30s after uplinks changed from \
                      [eth1] to [eth2]; apply a newer revision of the switch, or have it tried \
                      again with dvsctl resync";

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
