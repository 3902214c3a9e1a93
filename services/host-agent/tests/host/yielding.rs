// SPDX-License-Identifier: Apache-2.0
//! Ports that another host waits for: given to it once the machine has stopped
//! here, kept from all others, and never brought back by what is stopped.

use std::time::Duration;

use dvs_schemas::v1::{Activity, ClaimRequest, Machine, ReleaseOutcome, ReleaseRequest, V1, Yield};
use dvs_schemas::{Epoch, Policy, Revision};
use host_agent::datapath::Notice;
use host_agent::host::HostEvent;

use crate::history::{Commit, Message};
use crate::plugging::{
    answer, answered, claim, connected, hear, plug, plugged, pull, release, unheard, waits,
    with_publisher,
};
use crate::rig::{Rig, id};

const SOON: Duration = Duration::from_secs(1);
use Activity::{Running, Stopped, Unknown};

fn machine(name: &str, activity: Activity) -> Machine {
    Machine {
        id: Some(id(name)),
        activity,
    }
}

/// The machine behind a plug of this host.
fn behaves(rig: &mut Rig, port: &str, machine: Machine) {
    rig.event(HostEvent::Noticed(Notice::Machine {
        switch: id("prod"),
        port: id(port),
        machine,
    }));
    rig.wake();
}

fn sought(rig: &mut Rig, port: &str, epoch: Epoch, machine: Machine, waited: Duration) {
    rig.event(HostEvent::Yield(Yield {
        v: V1,
        port: id(port),
        epoch,
        to: id("h2"),
        machine,
        waited_ms: u64::try_from(waited.as_millis()).unwrap(),
    }));
    rig.wake();
}

fn now(rig: &mut Rig, port: &str, epoch: Epoch, machine: Machine) {
    sought(rig, port, epoch, machine, Duration::ZERO);
}

fn given(port: &str, epoch: Epoch) -> ReleaseRequest {
    ReleaseRequest {
        to: Some(id("h2")),
        ..release(port, Some(epoch))
    }
}

/// The publisher has given p1 to the other host, and it has left this one.
fn moved(rig: &mut Rig, publisher: &mut crate::history::Publisher) {
    let revision = Revision(20);
    hear(rig, "p1", ReleaseOutcome::Released { revision });
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
}

#[test]
fn a_port_goes_to_who_waits_when_its_machine_stops_or_has_stopped() {
    let (mut rig, epoch) = plugged();
    now(&mut rig, "p1", epoch, machine("b", Unknown));
    assert_eq!(rig.releases, []);
    behaves(&mut rig, "p1", machine("a", Stopped));
    assert_eq!(rig.releases, [given("p1", epoch)]);

    let (mut rig, epoch) = plugged();
    behaves(&mut rig, "p1", machine("a", Stopped));
    assert_eq!(rig.releases, [], "nobody waits, and it may start again");
    now(&mut rig, "p1", epoch, machine("b", Unknown));
    assert_eq!(rig.releases, [given("p1", epoch)]);
}

#[test]
fn a_port_goes_to_where_the_very_same_machine_runs() {
    let (mut rig, epoch) = plugged();
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("a", Unknown));
    assert_eq!(rig.releases, [], "it is silent until it has arrived");
    now(&mut rig, "p1", epoch, machine("a", Running));
    assert_eq!(rig.releases, [given("p1", epoch)]);
}

#[test]
fn another_machine_takes_no_port_by_talking_nor_does_one_that_is_stopped() {
    let (mut rig, epoch) = plugged();
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("b", Running));
    now(
        &mut rig,
        "p1",
        epoch,
        Machine {
            id: None,
            activity: Running,
        },
    );
    behaves(&mut rig, "p1", machine("a", Stopped));
    behaves(&mut rig, "p1", machine("a", Unknown));
    rig.releases.clear();
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("a", Stopped));
    behaves(&mut rig, "p1", machine("a", Stopped));
    assert_eq!(rig.releases, []);
}

#[test]
fn a_word_of_another_epoch_or_of_long_ago_says_nothing() {
    let (mut rig, epoch) = plugged();
    now(&mut rig, "p1", Epoch(epoch.0 + 1), machine("b", Running));
    behaves(&mut rig, "p1", machine("a", Stopped));
    assert_eq!(rig.releases, []);
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("b", Running));
    rig.pass(Duration::from_secs(91));
    behaves(&mut rig, "p1", machine("a", Stopped));
    assert_eq!(rig.releases, []);
}

#[test]
fn what_was_given_away_is_in_line_as_stopped_until_its_machine_is_heard_of_again() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p1", None);
    let epoch = rig.held("prod").unwrap().ports[&id::<dvs_schemas::PortId>("p1")]
        .value
        .epoch;
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("a", Running));
    moved(&mut rig, &mut publisher);
    rig.pass(SOON);
    let waiting = |activity| ClaimRequest {
        machine: machine("a", activity),
        ..claim("p1", None)
    };
    assert_eq!(rig.claims, [waiting(Stopped)]);
    answer(&mut rig, "p1", waits());
    // The migration is over, and then it comes back to this host.
    behaves(&mut rig, "p1", machine("a", Running));
    assert_eq!(rig.claims, [waiting(Stopped), waiting(Running)]);
}

/// The agent starts again, and finds the machine plugged in.
fn restart(rig: &mut Rig, machine: Machine) {
    rig.restart();
    rig.claims.clear();
    rig.event(HostEvent::Connected);
    rig.event(HostEvent::Noticed(Notice::Plugged {
        switch: id("prod"),
        port: id("p1"),
        vnic: None,
        mac: None,
        machine,
    }));
    rig.pass(SOON);
}

#[test]
fn what_was_given_away_is_in_line_as_stopped_after_a_start_of_the_agent_too() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p1", None);
    let epoch = rig.held("prod").unwrap().ports[&id::<dvs_schemas::PortId>("p1")]
        .value
        .epoch;
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("a", Running));
    moved(&mut rig, &mut publisher);
    let waiting = |activity| ClaimRequest {
        machine: machine("a", activity),
        ..claim("p1", None)
    };
    for _ in 0..2 {
        restart(&mut rig, machine("a", Unknown));
        assert_eq!(rig.claims, [waiting(Stopped)]);
    }
    // Heard of again, it is as any other.
    behaves(&mut rig, "p1", machine("a", Running));
    restart(&mut rig, machine("a", Unknown));
    assert_eq!(rig.claims, [waiting(Unknown)]);
}

#[test]
fn what_was_being_given_away_when_the_agent_died_is_in_line_as_stopped() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p1", None);
    let epoch = rig.held("prod").unwrap().ports[&id::<dvs_schemas::PortId>("p1")]
        .value
        .epoch;
    behaves(&mut rig, "p1", machine("a", Unknown));
    now(&mut rig, "p1", epoch, machine("a", Running));
    assert_eq!(rig.releases, [given("p1", epoch)]);
    // The publisher has heard it, and its answer and the removal come to nobody.
    restart(&mut rig, machine("a", Unknown));
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(SOON * 2);
    let expected = ClaimRequest {
        machine: machine("a", Stopped),
        ..claim("p1", None)
    };
    assert_eq!(rig.claims, [expected]);
}

#[test]
fn what_waits_says_at_once_that_its_machine_runs() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    // While the answer is on its way, and while it waits.
    behaves(&mut rig, "p7", machine("a", Unknown));
    answer(&mut rig, "p7", waits());
    rig.wake();
    behaves(&mut rig, "p7", machine("a", Running));
    answer(&mut rig, "p7", waits());
    rig.wake();
    let said: Vec<Machine> = rig
        .claims
        .iter()
        .map(|claim| claim.machine.clone())
        .collect();
    let expected = [
        Machine::default(),
        machine("a", Unknown),
        machine("a", Running),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_port_stays_if_nobody_waits_for_it_any_more() {
    let (mut rig, epoch) = plugged();
    behaves(&mut rig, "p1", machine("a", Stopped));
    now(&mut rig, "p1", epoch, machine("b", Unknown));
    hear(&mut rig, "p1", ReleaseOutcome::Kept);
    rig.pass(Duration::from_secs(600));
    assert_eq!((rig.releases.len(), rig.claims.len()), (1, 0));
    pull(&mut rig, "p1");
    assert_eq!(rig.releases[1], release("p1", Some(epoch)));
}

#[test]
fn what_nobody_answered_is_given_again_but_not_once_the_machine_runs_again() {
    let (mut rig, epoch) = plugged();
    behaves(&mut rig, "p1", machine("a", Stopped));
    now(&mut rig, "p1", epoch, machine("b", Unknown));
    answered_given(&mut rig, epoch);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [given("p1", epoch), given("p1", epoch)]);
    behaves(&mut rig, "p1", machine("a", Unknown));
    answered_given(&mut rig, epoch);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases.len(), 2);
}

fn answered_given(rig: &mut Rig, epoch: Epoch) {
    let asked = given("p1", epoch);
    rig.event(HostEvent::Released {
        asked,
        outcome: Err(unheard()),
    });
}

#[test]
fn nothing_counts_as_empty_before_the_datapath_has_told_what_is_plugged_in() {
    let long = Duration::from_secs(60);
    let mut rig = connected();
    let port = rig.held("prod").unwrap().ports[&id::<dvs_schemas::PortId>("p1")].clone();
    let epoch = port.value.epoch;
    // The machine came while the agent was not there.
    rig.hold_datapath = true;
    rig.restart();
    rig.event(HostEvent::Connected);
    sought(&mut rig, "p1", epoch, machine("b", Unknown), long);
    rig.pass(SOON);
    assert_eq!(rig.releases, [], "the datapath was not read");
    rig.hold_datapath = false;
    rig.settle();
    sought(&mut rig, "p1", epoch, machine("b", Unknown), long);
    rig.pass(SOON);
    assert_eq!(rig.releases, [], "it is telling what is plugged in");
    rig.pass(SOON * 2);
    sought(&mut rig, "p1", epoch, machine("b", Unknown), long);
    assert_eq!(rig.releases, [given("p1", epoch)]);
}

#[test]
fn what_is_placed_where_nothing_is_plugged_in_goes_to_who_has_waited_for_long() {
    let mut rig = connected();
    // By then the datapath has told what is plugged in.
    rig.pass(SOON * 2);
    let epoch = rig.held("prod").unwrap().ports[&id::<dvs_schemas::PortId>("p1")]
        .value
        .epoch;
    let minute = Duration::from_secs(60);
    sought(&mut rig, "p1", epoch, machine("a", Running), minute - SOON);
    sought(&mut rig, "p1", epoch, machine("a", Stopped), minute);
    assert_eq!(rig.releases, [], "its machine may be about to start");
    sought(&mut rig, "p1", epoch, machine("a", Unknown), minute);
    assert_eq!(rig.releases, [given("p1", epoch)]);
}

#[test]
fn a_claim_that_was_refused_may_be_granted_when_its_vnic_is_gone_and_is_given_back() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p9", None);
    let (port, outcome) = (
        id("p9"),
        Err(crate::plugging::refused("there is no port p9")),
    );
    rig.event(HostEvent::Claimed { port, outcome });
    pull(&mut rig, "p9");
    answered(&mut rig, "p9", None, Err(unheard()));
    // The port was made before the publisher heard that the vNIC went.
    let port = Commit::Port(id("p9"), id("g1"), Policy::default());
    rig.send(&crate::versions::one(publisher.commit(&port)));
    rig.wake();
    let last = rig.releases.last().unwrap();
    assert_eq!(*last, release("p9", Some(Epoch(1))));
}
