// SPDX-License-Identifier: Apache-2.0
//! Counters over restarts: what was told is never told again as more or less,
//! and what a placement came to is told until the collector has it.

use dvs_schemas::Epoch;
use dvs_schemas::v1::{Counters, CountersOf, FinalState, RemoveOutcome};
use host_agent::datapath::{Behaviour, Mishap, Notice};
use host_agent::host::{Answer, HostEvent};

use crate::history::{Commit, Message, Publisher};
use crate::rig::{QUIET, Rig, id};
use crate::telling::{SOON, acknowledge, settled, told, traffic};
use crate::versions::one;

fn counted(port: &str, epoch: u64, packets: u64) -> CountersOf {
    CountersOf {
        port: id(port),
        epoch: Epoch(epoch),
        counters: Counters {
            ingress_packets: packets,
            ingress_bytes: packets * 100,
            ..Counters::default()
        },
    }
}

/// Lets the counters of a port settle.
fn settle(rig: &mut Rig, port: &str, packets: u64) {
    for _ in 0..packets {
        traffic(rig, port, 100);
    }
    rig.pass(3 * QUIET);
}

/// Connects after a restart, and has the collector acknowledge states until
/// counters are told, if any are. Those are not acknowledged.
fn told_first(rig: &mut Rig) -> Vec<CountersOf> {
    rig.told.clear();
    rig.event(HostEvent::Connected);
    loop {
        let before = rig.told.len();
        rig.pass(SOON);
        match rig.told.last().map(|event| event.counters().to_vec()) {
            Some(counters) if counters.is_empty() && rig.told.len() > before => acknowledge(rig),
            Some(counters) => return counters,
            None => return Vec::new(),
        }
    }
}

/// All counters that the host says it has now.
fn live(rig: &mut Rig) -> Vec<CountersOf> {
    match rig.ask_live(None) {
        Answer::Live(live) => live.counters,
        other => panic!("{other:?}"),
    }
}

/// A host that has told of five frames of p1, and the collector has them.
fn with_five() -> (Rig, Publisher) {
    let (mut rig, publisher) = told();
    settle(&mut rig, "p1", 5);
    assert_eq!(settled(&rig.told[0]).counters, [counted("p1", 1, 5)]);
    acknowledge(&mut rig);
    rig.told.clear();
    (rig, publisher)
}

#[test]
fn counters_go_on_from_what_was_told_when_the_host_is_started_anew() {
    let (mut rig, _) = with_five();
    rig.reboot();
    assert_eq!(told_first(&mut rig), []);
    assert_eq!(live(&mut rig), [counted("p1", 1, 5), counted("p2", 1, 0)]);
    settle(&mut rig, "p1", 2);
    assert_eq!(rig.told.last().unwrap().counters(), [counted("p1", 1, 7)]);
}

#[test]
fn counters_go_on_from_what_was_told_when_a_device_is_made_anew_without_the_agent() {
    let (mut rig, _) = with_five();
    rig.datapath
        .befall(&id("prod"), &id("p1"), Mishap::CountsAnew);
    traffic(&mut rig, "p1", 100);
    rig.restart();
    assert_eq!(live(&mut rig)[0], counted("p1", 1, 6));
}

#[test]
fn what_was_read_live_is_told_as_well() {
    let (mut rig, _) = told();
    traffic(&mut rig, "p1", 100);
    assert_eq!(live(&mut rig)[0], counted("p1", 1, 1));
    rig.reboot();
    assert_eq!(live(&mut rig)[0], counted("p1", 1, 1));
}

#[test]
fn counters_of_a_datapath_that_stands_are_not_counted_twice() {
    let (mut rig, _) = with_five();
    traffic(&mut rig, "p1", 100);
    for _ in 0..3 {
        rig.restart();
        assert_eq!(live(&mut rig)[0], counted("p1", 1, 6));
    }
}

/// Nobody tells that they move then, and no more frames come.
#[test]
fn what_passed_while_the_datapath_was_away_is_told_once_it_is_back() {
    let (mut rig, _) = with_five();
    rig.datapath.behave(Behaviour {
        gone: Some("away".to_owned()),
        ..Behaviour::default()
    });
    traffic(&mut rig, "p1", 100);
    rig.pass(3 * QUIET);
    assert_eq!(rig.told, []);
    rig.datapath.behave(Behaviour::default());
    rig.notices();
    rig.pass(3 * QUIET);
    assert_eq!(rig.told.last().unwrap().counters(), [counted("p1", 1, 6)]);
}

/// Takes p1 from the host.
fn remove(rig: &mut Rig, publisher: &mut Publisher) {
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&remove);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
}

#[test]
fn what_a_placement_came_to_is_told_after_restarts_until_it_is_acknowledged() {
    let (mut rig, mut publisher) = with_five();
    traffic(&mut rig, "p1", 100);
    remove(&mut rig, &mut publisher);
    for _ in 0..2 {
        rig.restart();
        assert_eq!(told_first(&mut rig), [counted("p1", 1, 6)]);
    }
    acknowledge(&mut rig);
    rig.restart();
    assert_eq!(told_first(&mut rig), []);
    assert_eq!(rig.core().counters(), []);
}

#[test]
fn what_a_placement_came_to_is_told_if_it_ended_while_the_agent_was_away() {
    let (mut rig, mut publisher) = with_five();
    rig.hold_datapath = true;
    rig.reboot();
    publisher.commit(&Commit::NoPort(id("p1")));
    rig.send(&publisher.full());
    rig.hold_datapath = false;
    rig.settle();
    // There was nothing of it to be removed.
    assert_eq!(told_first(&mut rig), [counted("p1", 1, 5)]);
}

#[test]
fn what_a_placement_came_to_is_told_though_nobody_knows_whether_it_was_removed() {
    let (mut rig, mut publisher) = with_five();
    traffic(&mut rig, "p1", 100);
    rig.lose_results = true;
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    // It dies before it tries again.
    rig.lose_results = false;
    rig.restart();
    assert_eq!(told_first(&mut rig), [counted("p1", 1, 6)]);
}

#[test]
fn what_never_counted_is_not_written() {
    let (mut rig, _) = told();
    let commits = rig.commits.len();
    live(&mut rig);
    assert_eq!(
        (rig.core().counters(), rig.commits.len()),
        (Vec::new(), commits)
    );
}

#[test]
fn what_has_settled_is_told_once_however_often_the_datapath_takes_it_for_new() {
    let (mut rig, _) = with_five();
    for _ in 0..3 {
        rig.event(HostEvent::Noticed(Notice::Busy {
            switch: id("prod"),
            port: id("p1"),
        }));
        rig.pass(3 * QUIET);
    }
    assert_eq!(rig.told, []);
    settle(&mut rig, "p1", 1);
    assert_eq!(settled(&rig.told[0]).counters, [counted("p1", 1, 6)]);
}

/// Where the datapath doesn't say what a placement came to as it ends, since
/// somebody else has taken it away.
#[test]
fn nothing_is_kept_of_a_placement_that_is_over_and_never_counted() {
    let (mut rig, mut publisher) = told();
    let settles = |rig: &mut Rig| {
        rig.told.clear();
        rig.event(HostEvent::Noticed(Notice::Busy {
            switch: id("prod"),
            port: id("p1"),
        }));
        let mut told = Vec::new();
        for _ in 0..6 {
            rig.pass(QUIET);
            if let Some(event) = rig.told.last().cloned() {
                told.extend(event.counters().to_vec());
                acknowledge(rig);
                rig.told.clear();
            }
        }
        told
    };
    assert_eq!(settles(&mut rig), [counted("p1", 1, 0)]);
    assert_eq!(settles(&mut rig), []);
    let before = rig.held("prod").unwrap().ports["p1"].value.clone();
    rig.datapath.disturb(|picture| {
        picture.get_mut("prod").unwrap().ports.remove("p1");
    });
    remove(&mut rig, &mut publisher);
    rig.notices();
    rig.pass(SOON);
    acknowledge(&mut rig);
    // The very same placement is as new.
    let port = Commit::Port(id("p1"), id("g1"), before.policy.clone());
    let mut message = one(publisher.commit(&port));
    if let FinalState::Partial { objects, .. } = &mut message.state {
        objects.ports[0].value.epoch = before.epoch;
    }
    rig.send(&message);
    assert_eq!(settles(&mut rig), [counted("p1", 1, 0)]);
}
