// SPDX-License-Identifier: Apache-2.0
//! How a host becomes known, and what it hears.

use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::Revision;
use dvs_schemas::v1::{HelloReply, Observed, V1};
use host_agent::datapath::{Behaviour, Emulated};
use host_agent::host::HostEvent;

use crate::history::Commit;
use crate::rig::{HEARTBEAT, Rig, id};
use crate::versions::{access, one, site};

fn answered(rig: &mut Rig, switches: &[&str]) {
    rig.event(HostEvent::Greeted(Ok(HelloReply {
        v: V1,
        session: crate::rig::SESSION,
        switches: switches.iter().map(|name| id(name)).collect(),
    })));
}

fn connect(rig: &mut Rig) {
    rig.event(HostEvent::Connected);
    rig.wake();
}

#[test]
fn hello_is_repeated_until_it_is_answered_and_the_full_states_came() {
    let (mut rig, publisher) = (Rig::new(), site());
    connect(&mut rig);
    assert_eq!(rig.hellos.len(), 1);
    rig.event(HostEvent::Greeted(Err(crate::plugging::unheard())));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.hellos.len(), 2);
    answered(&mut rig, &["prod"]);
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.hellos.len(), 2, "the full state has its time");
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.hellos.len(), 3);
    answered(&mut rig, &["prod"]);
    rig.send(&publisher.full());
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.hellos.len(), 3);
}

#[test]
fn a_full_state_may_overtake_the_answer_to_the_hello() {
    let (mut rig, publisher) = (Rig::new(), site());
    connect(&mut rig);
    rig.send(&publisher.full());
    answered(&mut rig, &["prod"]);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.hellos.len(), 1);
}

#[test]
fn each_connection_says_hello_and_tells_what_is_held() {
    let (mut rig, publisher) = (Rig::new(), site());
    connect(&mut rig);
    rig.send(&publisher.full());
    answered(&mut rig, &["prod"]);
    rig.event(HostEvent::Disconnected);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.hellos.len(), 1, "nothing is said into the void");
    connect(&mut rig);
    let observed = |rig: &Rig| rig.hellos.last().unwrap().observed.clone();
    let expected = vec![Observed {
        switch: id("prod"),
        revision: publisher.revision,
    }];
    assert_eq!(observed(&rig), expected);
    let agent = rig.hellos[0].agent;
    rig.restart();
    connect(&mut rig);
    assert_eq!(observed(&rig), expected);
    assert_ne!(rig.hellos.last().unwrap().agent, agent);
}

/// A ledger was lost; the bridge stands. The publisher learns of it by the
/// hello, and says that it goes.
#[test]
fn a_switch_that_only_the_datapath_knows_is_told_of() {
    let (mut first, mut publisher) = (Rig::new(), site());
    first.send(&publisher.full());
    let datapath = Emulated::standing(Behaviour::default(), 1, first.datapath.picture());
    let mut rig = Rig::on(Arc::new(datapath));
    connect(&mut rig);
    let expected = Observed {
        switch: id("prod"),
        revision: Revision::ZERO,
    };
    assert_eq!(rig.hellos[0].observed, [expected]);
    answered(&mut rig, &["prod"]);
    publisher.commit(&Commit::Member(false));
    rig.send(&publisher.full());
    assert!(rig.datapath.picture().is_empty());
    rig.event(HostEvent::Disconnected);
    connect(&mut rig);
    assert_eq!(rig.hellos[1].observed, []);
}

#[test]
fn observed_stays_behind_what_is_not_true() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let before = publisher.revision;
    let behaviour = Behaviour {
        failing: [(id("p1"), dvs_schemas::PolicyField::Vlan)].into(),
        ..Behaviour::default()
    };
    rig.datapath.behave(behaviour);
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    let observed = |rig: &mut Rig| {
        rig.event(HostEvent::Disconnected);
        connect(rig);
        rig.hellos.last().unwrap().observed[0].revision
    };
    assert_eq!(observed(&mut rig), before);
    rig.datapath.behave(Behaviour::default());
    rig.pass(Duration::from_secs(60));
    assert_eq!(observed(&mut rig), publisher.revision);
}

#[test]
fn a_full_state_is_acknowledged_once_the_switch_is_heard() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.hold_subscriptions = true;
    let asked = rig.send(&publisher.full());
    assert_eq!(rig.answer(asked), None);
    assert_eq!(rig.datapath.writes(), 3, "applied it is already");
    rig.hold_subscriptions = false;
    rig.settle();
    assert!(rig.answer(asked).is_some());
    assert!(rig.subscribed.contains("prod"));
    rig.send(&one(publisher.commit(&Commit::Member(false))));
    assert!(rig.subscribed.is_empty());
}

#[test]
fn a_restarted_host_hears_its_switches_again() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    rig.restart();
    assert!(rig.subscribed.is_empty());
    connect(&mut rig);
    assert!(rig.subscribed.contains("prod"));
}

#[test]
fn heartbeats_come_early_never_late_and_only_on_the_bus() {
    let mut rig = Rig::new();
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.heartbeats, []);
    connect(&mut rig);
    let began = rig.now;
    rig.pass(HEARTBEAT);
    assert!(!rig.heartbeats.is_empty());
    rig.pass(HEARTBEAT * 100);
    let beats = u32::try_from(rig.heartbeats.len()).unwrap();
    let fair = (rig.now.since(began).as_millis() / HEARTBEAT.as_millis()) as u32;
    assert!(
        (fair..=fair * 10 / 9 + 2).contains(&beats),
        "{beats} of {fair}"
    );
    assert_eq!(rig.heartbeats[0].interval_ms, 10_000);
    rig.event(HostEvent::Disconnected);
    rig.pass(HEARTBEAT * 10);
    assert_eq!(rig.heartbeats.len(), beats as usize);
}
