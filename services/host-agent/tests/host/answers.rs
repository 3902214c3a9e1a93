// SPDX-License-Identifier: Apache-2.0
//! Who asked is answered once: when it is true and durable, or with what
//! failed, by port and field.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::v1::{
    ApplyOutcome, Change, Clobber, FinalState, GlobalKey, Link, PlanOutcome, PortFailure,
    RemoveOutcome, Removed, SwitchObjects, V1,
};
use dvs_schemas::{Policy, PolicyField, PortId, Revision};
use host_agent::datapath::{Behaviour, Emulated, Part};
use host_agent::host::{Answer, HostEffect, HostEvent};

use crate::history::{Commit, Message, Publisher};
use crate::rig::{Rig, id};
use crate::versions::{access, one, settings, site};

fn failing(ports: &[(&str, PolicyField)]) -> Behaviour {
    Behaviour {
        failing: ports
            .iter()
            .map(|(port, field)| (id(port), *field))
            .collect(),
        ..Behaviour::default()
    }
}

fn applied(rig: &Rig, asked: u64) -> bool {
    matches!(rig.outcome(asked), ApplyOutcome::Applied { .. })
}

#[test]
fn failing_ports_are_named_with_their_field_and_the_others_are_applied() {
    let behaviour = failing(&[("p1", PolicyField::ShapingIngress)]);
    let mut rig = Rig::on(Arc::new(Emulated::new(behaviour, 1)));
    let publisher = site();
    let asked = rig.send(&publisher.full());
    assert_eq!(
        rig.outcome(asked),
        ApplyOutcome::Failed {
            message: "1 port is not as it should be".to_owned(),
            ports: vec![PortFailure {
                port: id("p1"),
                field: Some("shaping.ingress".to_owned()),
                message: "not supported, as this emulation was told".to_owned(),
            }],
        }
    );
    let picture = rig.datapath.picture();
    let ports: Vec<&PortId> = picture["prod"].ports.keys().collect();
    assert_eq!(ports, [&id::<PortId>("p2")]);
}

#[test]
fn what_is_kept_for_a_plug_to_come_is_no_write() {
    let behaviour = Behaviour {
        empty: BTreeSet::from([id("p1")]),
        ..Behaviour::default()
    };
    let mut rig = Rig::on(Arc::new(Emulated::new(behaviour, 1)));
    let mut publisher = site();
    // The bridge and the other port.
    let asked = rig.send(&publisher.full());
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    let push = one(publisher.commit(&Commit::Port(id("p1"), id("g1"), access(77))));
    let asked = rig.send(&push);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
    assert_eq!(rig.datapath.writes(), 2);
}

#[test]
fn a_port_that_fails_for_itself_does_not_fail_pushes_of_other_ports() {
    let behaviour = failing(&[("p1", PolicyField::Vlan)]);
    let mut rig = Rig::on(Arc::new(Emulated::new(behaviour, 1)));
    let mut publisher = site();
    rig.send(&publisher.full());
    let push = one(publisher.commit(&Commit::Port(id("p2"), id("g1"), access(77))));
    let asked = rig.send(&push);
    assert!(applied(&rig, asked));
    // A push of the group concerns both.
    let push = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let asked = rig.send(&push);
    assert!(!applied(&rig, asked));
    // Its repetition changes nothing and is not true either.
    let asked = rig.send(&push);
    assert!(!applied(&rig, asked));
}

#[test]
fn nothing_is_applied_on_a_host_that_has_no_bridge() {
    let behaviour = Behaviour {
        failure_rate: 1.0,
        ..Behaviour::default()
    };
    let mut rig = Rig::on(Arc::new(Emulated::new(behaviour, 1)));
    let mut publisher = site();
    rig.send(&publisher.full());
    // Neither the group nor the session has anything to do with a port of this
    // host.
    let session = Commit::Mirror(id("m1"), id("p8"), id("p9"));
    for commit in [Commit::Group(id("g2"), access(20)), session] {
        let asked = rig.send(&one(publisher.commit(&commit)));
        assert!(!applied(&rig, asked), "{commit:?}");
    }
    rig.datapath.behave(Behaviour::default());
    let asked = rig.send(&one(publisher.commit(&Commit::Group(id("g2"), access(21)))));
    assert!(applied(&rig, asked));
}

#[test]
fn a_repeated_removal_of_a_session_is_applied_only_when_it_is_gone() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    publisher.commit(&Commit::Mirror(id("m1"), id("p1"), id("p2")));
    rig.send(&publisher.full());
    rig.datapath.behave(Behaviour {
        failing_mirrors: [id("m1")].into(),
        ..Behaviour::default()
    });
    let removal = one(publisher.commit(&Commit::NoMirror(id("m1"))));
    for _ in 0..2 {
        let asked = rig.send(&removal);
        assert!(!applied(&rig, asked));
    }
    rig.datapath.behave(Behaviour::default());
    let asked = rig.send(&removal);
    assert!(applied(&rig, asked));
}

#[test]
fn a_removal_is_over_only_when_no_session_copies_its_frames() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    publisher.commit(&Commit::Mirror(id("m1"), id("p1"), id("p2")));
    publisher.commit(&Commit::Mirror(id("m2"), id("p2"), id("p3")));
    rig.send(&publisher.full());
    rig.datapath.behave(Behaviour {
        failing_mirrors: [id("m1")].into(),
        ..Behaviour::default()
    });
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&remove);
    let failed = PortFailure {
        port: id("p1"),
        field: None,
        message: "mirror m1: not to be changed, as this emulation was told".to_owned(),
    };
    let failed = RemoveOutcome::Failed {
        ports: vec![failed],
    };
    assert_eq!(rig.removal(asked), failed);
    assert!(!rig.datapath.picture()["prod"].ports.contains_key("p1"));

    rig.datapath.behave(Behaviour {
        failing_mirrors: [id("m2")].into(),
        ..Behaviour::default()
    });
    let asked = rig.send_remove(&remove);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
    assert!(!rig.datapath.picture()["prod"].mirrors.contains_key("m1"));
}

#[test]
fn an_answer_leaves_only_when_the_datapath_is_done() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.hold_datapath = true;
    let asked = rig.send(&publisher.full());
    assert_eq!(rig.answer(asked), None);
    assert!(!rig.commits.is_empty(), "the commit comes before the apply");
    rig.hold_datapath = false;
    rig.settle();
    assert!(applied(&rig, asked));
}

/// Effects are returned by a turn only after its commit, so an answer in the
/// same turn as its message is durable.
#[test]
fn what_comes_during_an_apply_waits_for_the_next_one_and_is_answered_once() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.hold_datapath = true;
    let first = rig.send(&publisher.full());
    let pushes: Vec<Clobber> = (20..30)
        .map(|vlan| one(publisher.commit(&Commit::Group(id("g1"), access(vlan)))))
        .collect();
    let asked: Vec<u64> = pushes.iter().map(|push| rig.send(push)).collect();
    let under_way = |rig: &Rig| {
        let applies = rig.todo.iter();
        applies
            .filter(|effect| matches!(effect, HostEffect::Apply { .. }))
            .count()
    };
    assert_eq!(under_way(&rig), 1);
    rig.hold_datapath = false;
    rig.settle();
    assert!(applied(&rig, first));
    for asked in asked {
        assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    }
    // The full state's three writes, then one apply for all ten pushes.
    assert_eq!(rig.datapath.writes(), 3 + 2);
}

#[test]
fn a_datapath_that_does_not_answer_fails_what_was_under_way_and_is_read_again() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    rig.datapath.behave(Behaviour {
        gone: Some("it hangs".to_owned()),
        ..Behaviour::default()
    });
    let push = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let asked = rig.send(&push);
    let ApplyOutcome::Failed { ports, .. } = rig.outcome(asked) else {
        panic!("{:?}", rig.outcome(asked));
    };
    assert_eq!(ports.len(), 2);
    assert_eq!(ports[0].message, "the datapath can't be changed: it hangs");
    rig.datapath.behave(Behaviour::default());
    // Nobody asks; the host gets there by itself.
    rig.pass(Duration::from_secs(10));
    let asked = rig.send(&push);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
}

#[test]
fn a_removal_that_fails_names_its_port_and_is_repeated_alone() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    rig.datapath.behave(failing(&[("p1", PolicyField::Vlan)]));
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&remove);
    let RemoveOutcome::Failed { ports } = rig.removal(asked) else {
        panic!("{:?}", rig.removal(asked));
    };
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].port, id("p1"));
    rig.datapath.behave(Behaviour::default());
    rig.pass(Duration::from_secs(10));
    assert!(!rig.datapath.picture()["prod"].ports.contains_key("p1"));
    let asked = rig.send_remove(&remove);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
}

#[test]
fn what_is_there_in_an_unknown_shape_is_set_again_and_removed_by_a_step() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let breaks = |rig: &mut Rig| {
        let p1 = Part::Port(id("p1"));
        rig.datapath.disturb(|picture| {
            let bridge = picture.get_mut("prod").unwrap();
            bridge.failing.insert(p1);
        });
        rig.notices();
    };
    let before = rig.datapath.writes();
    breaks(&mut rig);
    assert_eq!(rig.datapath.writes() - before, 1, "it is set again");
    assert!(rig.datapath.picture()["prod"].failing.is_empty());

    let behaviour = failing(&[("p1", PolicyField::Vlan)]);
    rig.datapath.behave(behaviour);
    breaks(&mut rig);
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&remove);
    let RemoveOutcome::Failed { ports } = rig.removal(asked) else {
        panic!("{:?}", rig.removal(asked));
    };
    assert_eq!(ports[0].port, id("p1"));
    rig.datapath.behave(Behaviour::default());
    let asked = rig.send_remove(&remove);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
    assert!(!rig.datapath.picture()["prod"].ports.contains_key("p1"));
}

/// A snapshot that left it out would end what is known of it.
#[test]
fn a_port_that_is_there_in_an_unknown_shape_is_told_as_it_was_with_its_link() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    let states = |rig: &mut Rig, port: Option<&str>| match rig.ask_live(port) {
        Answer::Live(page) => page.ports,
        other => panic!("{other:?}"),
    };
    let before = states(&mut rig, None);
    assert_eq!(before[0].link, Link::Up);
    rig.datapath.behave(failing(&[("p1", PolicyField::Vlan)]));
    rig.datapath.disturb(|picture| {
        let bridge = picture.get_mut("prod").unwrap();
        bridge.failing.insert(Part::Port(id("p1")));
        bridge.ports.get_mut("p1").unwrap().link = Link::Down;
    });
    rig.notices();
    let mut expected = before.clone();
    expected[0].link = Link::Down;
    assert_eq!(states(&mut rig, None), expected);
    assert_eq!(states(&mut rig, Some("p1")), expected[..1]);
    // It fails from the first on: nobody can say how it is there.
    let port = Commit::Port(id("p9"), id("g1"), Policy::default());
    rig.datapath.behave(failing(&[("p9", PolicyField::Vlan)]));
    rig.send(&one(publisher.commit(&port)));
    rig.datapath.disturb(|picture| {
        let bridge = picture.get_mut("prod").unwrap();
        let as_p1 = bridge.ports["p1"].clone();
        bridge.ports.insert(id("p9"), as_p1);
        bridge.failing.insert(Part::Port(id("p9")));
    });
    rig.notices();
    let Answer::Problem(problem) = rig.ask_live(Some("p9")) else {
        panic!("an answer");
    };
    assert_eq!(
        problem.message,
        "port p9 has never been as it is to be on host h1"
    );
}

/// One commit moves a port to another group and deletes its old group; the
/// fan-out may overtake the port's own message.
#[test]
fn an_asker_waits_a_moment_for_what_travels_in_another_message() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    publisher.commit(&Commit::Group(id("g2"), access(20)));
    rig.send(&publisher.full());
    let removed = |revision: u64| Clobber {
        v: V1,
        store: publisher.store,
        lineage: publisher.lineage.clone(),
        switch: id("prod"),
        revision: Revision(revision),
        insist: false,
        state: FinalState::Partial {
            settings: publisher.settings.clone(),
            objects: SwitchObjects::default(),
            removed: vec![Removed {
                object: GlobalKey::Group(id("g1")),
                revision: Revision(revision),
            }],
        },
    };
    let fan_out = removed(8);
    let asked = rig.send(&fan_out);
    assert_eq!(rig.answer(asked), None);
    let mut moving = publisher.clone();
    for port in ["p1", "p2"] {
        let push = one(moving.commit(&Commit::Port(id(port), id("g2"), Policy::default())));
        rig.send(&push);
    }
    assert!(applied(&rig, asked));

    // If nothing comes, it is told why.
    let mut rig = Rig::new();
    rig.send(&site().full());
    let asked = rig.send(&fan_out);
    rig.pass(Duration::from_secs(1));
    let ApplyOutcome::Failed { ports, .. } = rig.outcome(asked) else {
        panic!("{:?}", rig.outcome(asked));
    };
    let named: Vec<(&str, Option<&str>)> = ports
        .iter()
        .map(|failure| (failure.port.as_str(), failure.field.as_deref()))
        .collect();
    assert_eq!(named, [("p1", Some("group")), ("p2", Some("group"))]);
}

#[test]
fn too_many_askers_are_told_so_and_their_messages_still_count() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.hold_datapath = true;
    rig.send(&publisher.full());
    let mut refused = 0;
    for n in 0..1_100_u16 {
        let push = one(publisher.commit(&Commit::Group(id("g1"), access(n + 1))));
        let asked = rig.send(&push);
        refused += u32::from(rig.answer(asked).is_some());
    }
    assert_eq!(refused, 1_100 + 1 - 1_024);
    rig.hold_datapath = false;
    rig.settle();
    let picture = rig.datapath.picture();
    let vlan = &picture["prod"].ports["p1"].port.policy.vlan;
    assert_eq!(Some(vlan.configured()), access(1_100).vlan);
}

#[test]
fn a_dry_run_says_field_by_field_and_changes_nothing() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let (held, commits) = (rig.held("prod"), rig.commits.len());
    let push = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let Answer::Plan(plan) = rig.ask_plan(&push) else {
        panic!("no plan");
    };
    let change = |port: &str| Change {
        object: format!("port {port}"),
        field: Some("vlan".to_owned()),
        from: Some("access 10".to_owned()),
        to: Some("access 20".to_owned()),
    };
    assert_eq!(
        plan.outcome,
        PlanOutcome::Changes(vec![change("p1"), change("p2")])
    );
    assert_eq!(rig.held("prod"), held);
    assert_eq!(rig.commits.len(), commits);
    assert_eq!(rig.datapath.writes(), 3);

    let Answer::Plan(plan) = rig.ask_plan(&site().full()) else {
        panic!("no plan");
    };
    assert_eq!(plan.outcome, PlanOutcome::Changes(Vec::new()));
}

#[test]
fn a_dry_run_for_a_host_that_is_to_join_shows_everything_that_comes() {
    let mut rig = Rig::new();
    let mut publisher = Publisher::new(1);
    publisher.commit(&Commit::Settings(settings(9000)));
    let Answer::Plan(plan) = rig.ask_plan(&publisher.full()) else {
        panic!("no plan");
    };
    let PlanOutcome::Changes(changes) = plan.outcome else {
        panic!("{plan:?}");
    };
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].object.as_str(), &changes[0].from),
        ("switch prod", &None)
    );
    let to = changes[0].to.as_deref().unwrap();
    assert!(to.starts_with("mtu: 9000; uplinks: none"), "{to}");
    assert_eq!(rig.datapath.picture(), BTreeMap::new());
}
