// SPDX-License-Identifier: Apache-2.0
//! What is wrong is reported once, with what it is about, until it is over.

use std::time::Duration;

use dvs_schemas::v1::{
    Activity, ApplyOutcome, ClaimOutcome, Condition, ConditionKind, ConditionTarget, EventAck,
    FinalState, HelloReply, Machine, V1,
};
use dvs_schemas::{Epoch, Policy, VlanId};
use host_agent::datapath::{Behaviour, ConditionsNow, Notice};
use host_agent::host::{Answer, HostEvent, RuntimeEvent};
use serde_json::json;

use crate::history::{Commit, Publisher};
use crate::plugging::{answer, granted, plug, pull, refused, with_publisher};
use crate::rig::{Rig, id};
use crate::versions::{access, one};

/// Longer than anything waits for others that go with it.
const SOON: Duration = Duration::from_secs(1);

/// The lists that were reported, each acknowledged at once.
fn reports(rig: &mut Rig) -> Vec<Vec<Condition>> {
    let mut lists = Vec::new();
    loop {
        rig.pass(SOON);
        let told = std::mem::take(&mut rig.told);
        let Some(event) = told.last() else {
            return lists;
        };
        if let RuntimeEvent::Conditions(conditions) = &**event {
            lists.push(conditions.list.conditions.clone());
        }
        let seq = event.seq();
        rig.event(HostEvent::Acknowledged {
            seq,
            outcome: Ok(EventAck { v: V1, seq }),
        });
    }
}

fn kinds(list: &[Condition]) -> Vec<(ConditionKind, ConditionTarget)> {
    let each = list.iter();
    each.map(|condition| (condition.kind, condition.on.clone()))
        .collect()
}

fn of_port(port: &str) -> ConditionTarget {
    ConditionTarget {
        port: Some(id(port)),
        ..ConditionTarget::default()
    }
}

fn of_interface(name: &str) -> ConditionTarget {
    ConditionTarget {
        interface: Some(name.to_owned()),
        ..ConditionTarget::default()
    }
}

fn say(rig: &mut Rig, kind: ConditionKind, all: &[(ConditionTarget, &str)]) {
    let each = all.iter();
    let now: ConditionsNow = each
        .map(|(on, why)| (on.clone(), (*why).to_owned()))
        .collect();
    rig.event(HostEvent::Noticed(Notice::Conditions { kind, now }));
}

#[test]
fn a_claim_that_waits_is_a_condition_until_it_is_granted() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", waits());
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    assert_eq!(kinds(list), [(ConditionKind::ClaimWaits, of_port("p7"))]);
    assert!(list[0].message.contains("held by host h2"), "{list:?}");
    answer_again(&mut rig, waits());
    assert!(reports(&mut rig).is_empty(), "it is as it was");
    answer_again(&mut rig, granted());
    assert_eq!(reports(&mut rig), [[]]);
}

fn waits() -> ClaimOutcome {
    ClaimOutcome::Waits {
        holder: id("h2"),
        epoch: Epoch(3),
    }
}

/// The claim is repeated, and answered so.
fn answer_again(rig: &mut Rig, outcome: ClaimOutcome) {
    rig.claims.clear();
    rig.pass(Duration::from_secs(120));
    assert!(!rig.claims.is_empty());
    answer(rig, "p7", outcome);
}

#[test]
fn a_claim_that_is_refused_is_a_condition_until_its_vnic_goes() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    plug(&mut rig, "p7", None);
    rig.event(HostEvent::Claimed {
        port: id("p7"),
        outcome: Err(refused("there is no port p7")),
    });
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    assert_eq!(kinds(list), [(ConditionKind::ClaimRefused, of_port("p7"))]);
    assert!(list[0].message.contains("there is no port p7"), "{list:?}");
    pull(&mut rig, "p7");
    assert_eq!(reports(&mut rig), [[]]);
}

#[test]
fn what_the_datapath_says_is_reported_when_it_changes_and_since_when() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    let kind = ConditionKind::InterfaceUnusable;
    say(&mut rig, kind, &[(of_interface("tap1"), "no device")]);
    let since = rig.now;
    let first = reports(&mut rig);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0][0].since, since);
    say(&mut rig, kind, &[(of_interface("tap1"), "no device")]);
    assert!(reports(&mut rig).is_empty(), "the same is no news");
    let both = [
        (of_interface("tap1"), "no such name"),
        (of_interface("tap2"), "a duplicate"),
    ];
    say(&mut rig, kind, &both);
    let second = reports(&mut rig);
    assert_eq!(second[0].len(), 2);
    assert_eq!(second[0][0].since, since, "it lasts since then");
    say(&mut rig, kind, &[]);
    assert_eq!(reports(&mut rig), [[]]);
}

#[test]
fn a_port_without_a_plug_is_reported_when_that_lasts() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    let kind = ConditionKind::NothingPluggedIn;
    say(&mut rig, kind, &[(of_port("p1"), "plug something in")]);
    assert!(reports(&mut rig).is_empty(), "it may just be moving");
    say(&mut rig, kind, &[]);
    rig.pass(Duration::from_secs(60));
    assert!(reports(&mut rig).is_empty());
    say(&mut rig, kind, &[(of_port("p1"), "plug something in")]);
    let since = rig.now;
    rig.pass(Duration::from_secs(11));
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    assert_eq!(kinds(list), [(kind, of_port("p1"))]);
    assert_eq!(list[0].since, since);
}

#[test]
fn a_snapshot_has_all_that_is_wrong_and_a_new_run_begins_with_nothing() {
    let (mut rig, _) = with_publisher();
    let kind = ConditionKind::InterfaceUnusable;
    say(&mut rig, kind, &[(of_interface("tap1"), "no device")]);
    assert_eq!(snapshot(&mut rig), [(kind, of_interface("tap1"))]);
    rig.restart();
    assert_eq!(snapshot(&mut rig), []);
}

fn snapshot(rig: &mut Rig) -> Vec<(ConditionKind, ConditionTarget)> {
    let Answer::Live(reply) = rig.ask_live(None) else {
        panic!("no answer");
    };
    kinds(&reply.conditions.unwrap().conditions)
}

#[test]
fn a_session_that_can_t_reach_its_destination_port_is_a_condition_until_it_can() {
    let (mut rig, mut publisher) = with_publisher();
    reports(&mut rig);
    let session = Commit::Mirror(id("m1"), id("p1"), id("p9"));
    rig.send(&one(publisher.commit(&session)));
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    let on = ConditionTarget {
        switch: Some(id("prod")),
        mirror: Some(id("m1")),
        ..of_port("p1")
    };
    assert_eq!(kinds(list), [(ConditionKind::MirrorIncomplete, on)]);
    assert!(list[0].message.contains("port p9"), "{list:?}");
    let there = Commit::Port(id("p9"), id("g1"), Policy::default());
    rig.send(&one(publisher.commit(&there)));
    assert!(reports(&mut rig).contains(&Vec::new()), "it is over");
}

#[test]
fn a_vlan_of_which_a_session_copies_nothing_here_is_a_condition() {
    let (mut rig, mut publisher) = with_publisher();
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    reports(&mut rig);
    let session = Commit::Mirror(id("m1"), id("p8"), id("p9"));
    let mut push = one(publisher.commit(&session));
    if let FinalState::Partial { objects, .. } = &mut push.state {
        objects.mirrors[0].value.source.vlans = [20, 21]
            .map(|vlan| VlanId::try_from(vlan).unwrap())
            .to_vec();
    }
    rig.send(&push);
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    let on = ConditionTarget {
        switch: Some(id("prod")),
        mirror: Some(id("m1")),
        ..ConditionTarget::default()
    };
    assert_eq!(kinds(list), [(ConditionKind::MirrorIncomplete, on)]);
    assert!(
        list[0].message.contains("of VLAN 20 on this host"),
        "{list:?}"
    );
}

/// A session that copies VLAN 10 into VLAN 999, from port p3 as well, which has
/// a trunk of these VLANs.
fn with_trunk(vlans: &str) -> (Rig, Publisher) {
    let (mut rig, mut publisher) = with_publisher();
    let session = Commit::Mirror(id("m1"), id("p1"), id("p9"));
    publisher.commit(&session);
    let session = publisher.mirrors.get_mut("m1").unwrap();
    session.value.source = serde_json::from_value(json!({"vlans": [10]})).unwrap();
    session.value.destination = serde_json::from_value(json!({"vlan": 999})).unwrap();
    let policy = json!({"vlan": {"trunk": {"vlans": vlans.split(' ').collect::<Vec<_>>()}}});
    let policy = serde_json::from_value(policy).unwrap();
    publisher.commit(&Commit::Port(id("p3"), id("g1"), policy));
    reports(&mut rig);
    rig.send(&publisher.full());
    (rig, publisher)
}

#[test]
fn a_vnic_that_would_get_back_what_was_copied_from_it_is_a_condition() {
    let (mut rig, _) = with_trunk("10 999");
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    let on = ConditionTarget {
        switch: Some(id("prod")),
        mirror: Some(id("m1")),
        ..of_port("p3")
    };
    assert_eq!(kinds(list), [(ConditionKind::MirrorIncomplete, on)]);
    assert!(list[0].message.contains("VLAN 999"), "{list:?}");
    let (mut rig, _) = with_trunk("10 998");
    assert_eq!(reports(&mut rig), [] as [Vec<Condition>; 0]);
    let (mut rig, _) = with_trunk("11 999");
    assert_eq!(reports(&mut rig), [] as [Vec<Condition>; 0]);
}

#[test]
fn a_session_to_a_blocked_port_is_a_condition() {
    let (mut rig, mut publisher) = with_publisher();
    reports(&mut rig);
    let session = Commit::Mirror(id("m1"), id("p1"), id("p2"));
    rig.send(&one(publisher.commit(&session)));
    assert_eq!(reports(&mut rig), [] as [Vec<Condition>; 0]);
    let blocked = Policy {
        blocked: Some(true),
        ..Policy::default()
    };
    let port = Commit::Port(id("p2"), id("g1"), blocked);
    rig.send(&one(publisher.commit(&port)));
    let [list] = &reports(&mut rig)[..] else {
        panic!("one report");
    };
    let on = ConditionTarget {
        switch: Some(id("prod")),
        mirror: Some(id("m1")),
        ..of_port("p2")
    };
    assert_eq!(kinds(list), [(ConditionKind::MirrorIncomplete, on)]);
}

#[test]
fn a_session_to_a_port_where_nothing_is_plugged_in_is_a_condition_until_something_is() {
    let p2 = ConditionTarget {
        switch: Some(id("prod")),
        ..of_port("p2")
    };
    let on = ConditionTarget {
        mirror: Some(id("m1")),
        ..p2.clone()
    };
    for kind in [
        ConditionKind::NothingPluggedIn,
        ConditionKind::InterfaceUnusable,
    ] {
        let (mut rig, mut publisher) = with_publisher();
        let session = Commit::Mirror(id("m1"), id("p1"), id("p2"));
        rig.send(&one(publisher.commit(&session)));
        reports(&mut rig);
        say(&mut rig, kind, &[(p2.clone(), "no device")]);
        rig.pass(Duration::from_secs(11));
        let lists = reports(&mut rig);
        let list = lists.last().unwrap();
        let copies = (ConditionKind::MirrorIncomplete, on.clone());
        assert_eq!(kinds(list), [(kind, p2.clone()), copies]);
        let [_, incomplete] = &list[..] else {
            panic!("{list:?}");
        };
        assert!(incomplete.message.contains("has no interface"), "{list:?}");
        say(&mut rig, kind, &[]);
        assert_eq!(reports(&mut rig).last(), Some(&Vec::new()), "it is over");
        // Another interface that says the port, and has to wait, is no matter.
        plug(&mut rig, "p2", None);
        say(
            &mut rig,
            ConditionKind::InterfaceUnusable,
            &[(p2.clone(), "a duplicate")],
        );
        let lists = reports(&mut rig);
        let only = [(ConditionKind::InterfaceUnusable, p2.clone())];
        assert_eq!(kinds(lists.last().unwrap()), only);
    }
}

/// Its own policy lets it pass; that can't be checked.
#[test]
fn a_session_to_a_port_that_is_blocked_for_want_of_an_address_is_a_condition() {
    let (mut rig, mut publisher) = with_publisher();
    let session = Commit::Mirror(id("m1"), id("p1"), id("p2"));
    rig.send(&one(publisher.commit(&session)));
    assert_eq!(reports(&mut rig).concat(), []);
    let checked = json!({"security": {"forged_transmits": "reject"}});
    let checked = serde_json::from_value(checked).unwrap();
    let port = Commit::Port(id("p2"), id("g1"), checked);
    let mut message = one(publisher.commit(&port));
    rig.send(&message);
    let lists = reports(&mut rig);
    let list = lists.last().unwrap();
    let on = ConditionTarget {
        switch: Some(id("prod")),
        mirror: Some(id("m1")),
        ..of_port("p2")
    };
    assert_eq!(kinds(list), [(ConditionKind::MirrorIncomplete, on)]);
    assert!(list[0].message.contains("MAC address"), "{list:?}");
    // With one it gets its copies.
    message.revision = message.revision.next();
    if let FinalState::Partial { objects, .. } = &mut message.state {
        objects.ports[0].revision = message.revision;
        objects.ports[0].value.mac = Some(id("02:00:00:00:00:01"));
    }
    rig.send(&message);
    assert_eq!(reports(&mut rig).last(), Some(&Vec::new()));
}

#[test]
fn a_host_whose_datapath_is_away_for_long_says_hello_so_that_somebody_asks() {
    let (mut rig, publisher) = with_publisher();
    reports(&mut rig);
    let answer = HelloReply {
        v: V1,
        session: crate::rig::SESSION,
        switches: vec![id("prod")],
    };
    rig.event(HostEvent::Greeted(Ok(answer)));
    rig.send(&publisher.full());
    let hellos = rig.hellos.len();
    let behaviour = rig.datapath.behaviour();
    rig.datapath.behave(Behaviour {
        gone: Some("is it running?".to_owned()),
        ..behaviour.clone()
    });
    rig.event(HostEvent::Noticed(Notice::Disturbed));
    let on = ConditionTarget {
        switch: Some(id("prod")),
        ..ConditionTarget::default()
    };
    let kind = ConditionKind::NotInForce;
    say(&mut rig, kind, &[(on.clone(), "is it running?")]);
    rig.pass(Duration::from_secs(9));
    assert_eq!(rig.hellos.len(), hellos, "a restart is over by then");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.hellos.len(), hellos + 1);
    let asked = rig.send(&publisher.full());
    rig.pass(SOON);
    match rig.outcome(asked) {
        ApplyOutcome::Failed { message, .. } => assert!(message.contains("is it running?")),
        applied @ ApplyOutcome::Applied { .. } => panic!("{applied:?}"),
    }
    // What is there again is looked at at once.
    rig.datapath.behave(behaviour);
    rig.event(HostEvent::Noticed(Notice::Disturbed));
    rig.wake();
    assert!(rig.core().is_converged());
}

#[test]
fn a_condition_whose_words_change_all_the_time_keeps_nobody_from_being_told() {
    let (mut rig, mut publisher) = with_publisher();
    reports(&mut rig);
    let push = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    rig.send(&push);
    // Whatever is told, there is news of the condition meanwhile.
    for turn in 0..4 {
        let why = format!("{turn} others differ");
        say(
            &mut rig,
            ConditionKind::Drift,
            &[(of_interface("tap1"), &why)],
        );
        rig.pass(SOON);
        let Some(event) = std::mem::take(&mut rig.told).pop() else {
            panic!("nothing is told");
        };
        if let RuntimeEvent::Changed(changed) = &*event {
            assert!(!changed.ports.is_empty());
            return;
        }
        let why = format!("{turn} others differ, and more");
        say(
            &mut rig,
            ConditionKind::Drift,
            &[(of_interface("tap1"), &why)],
        );
        let seq = event.seq();
        rig.event(HostEvent::Acknowledged {
            seq,
            outcome: Ok(EventAck { v: V1, seq }),
        });
    }
    panic!("only conditions are told");
}

#[test]
fn of_more_than_a_message_has_room_for_something_of_each_kind_is_told_and_how_much_is_not() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    let names: Vec<String> = (0..1_000).map(|number| format!("tap{number}")).collect();
    let why = "changed by somebody; ".repeat(10);
    let many: Vec<_> = names
        .iter()
        .map(|name| (of_interface(name), why.as_str()))
        .collect();
    say(&mut rig, ConditionKind::InterfaceUnusable, &many);
    say(&mut rig, ConditionKind::Drift, &many);
    say(
        &mut rig,
        ConditionKind::MirrorIncomplete,
        &[(of_port("p1"), "no frame passes")],
    );
    let list = rig.core().conditions();
    let of = |kind| list.conditions.iter().filter(|it| it.kind == kind).count();
    assert_eq!(
        of(ConditionKind::MirrorIncomplete),
        1,
        "the last kind of all"
    );
    let (unusable, drift) = (
        of(ConditionKind::InterfaceUnusable),
        of(ConditionKind::Drift),
    );
    assert!(unusable > 100 && drift > 100, "{unusable}, {drift}");
    assert_eq!(
        unusable + drift + usize::try_from(list.more).unwrap(),
        2_000
    );
}

#[test]
fn what_has_stopped_here_waits_for_nothing_that_anybody_has_to_know() {
    let (mut rig, _) = with_publisher();
    reports(&mut rig);
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", waits());
    assert_eq!(reports(&mut rig).len(), 1);
    rig.event(HostEvent::Noticed(Notice::Machine {
        switch: id("prod"),
        port: id("p7"),
        machine: Machine {
            id: None,
            activity: Activity::Stopped,
        },
    }));
    assert_eq!(reports(&mut rig), [[]]);
}
