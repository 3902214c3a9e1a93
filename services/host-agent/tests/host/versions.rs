// SPDX-License-Identifier: Apache-2.0
//! Old, repeated and contradicting messages; and nothing removed on half a
//! picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use dvs_schemas::v1::{
    ApplyOutcome, Clobber, FinalState, Position, RemoveOutcome, Run, SwitchState, Versioned,
};
use dvs_schemas::{Policy, PortId, Revision, Vlan, VlanId};
use host_agent::datapath::{Behaviour, Emulated};
use uuid::Uuid;

use crate::history::{Commit, Message, Publisher, private_vlans, store};
use crate::rig::{Rig, id};

pub(crate) fn settings(mtu: u16) -> SwitchState {
    SwitchState {
        mtu: serde_json::from_str(&mtu.to_string()).unwrap(),
        uplinks: Vec::new(),
        teaming: Default::default(),
        private_vlans: private_vlans(),
        runtime: Default::default(),
        policy: Policy::default(),
    }
}

pub(crate) fn access(vlan: u16) -> Policy {
    Policy {
        vlan: Some(Vlan::Access(VlanId::try_from(vlan).unwrap())),
        ..Policy::default()
    }
}

/// A switch with a group and ports p1, p2 in it.
pub(crate) fn site() -> Publisher {
    let mut publisher = Publisher::new(5);
    for commit in [
        Commit::Settings(settings(1500)),
        Commit::Group(id("g1"), access(10)),
        Commit::Port(id("p1"), id("g1"), Policy::default()),
        Commit::Port(id("p2"), id("g1"), Policy::default()),
    ] {
        assert_eq!(publisher.commit(&commit).len(), 1);
    }
    publisher
}

pub(crate) fn one(messages: Vec<Message>) -> Clobber {
    match messages.as_slice() {
        [Message::Clobber(clobber)] => (**clobber).clone(),
        other => panic!("{other:?}"),
    }
}

fn vlan_of(rig: &Rig, port: &str) -> Option<Vlan> {
    let picture = rig.datapath.picture();
    let port: PortId = id(port);
    let plugged = picture.get("prod")?.ports.get(&port)?;
    Some(plugged.port.policy.vlan.configured())
}

fn failure(outcome: ApplyOutcome) -> String {
    match outcome {
        ApplyOutcome::Failed { message, .. } => message,
        ApplyOutcome::Applied { .. } => panic!("applied"),
    }
}

#[test]
fn an_older_object_is_skipped_and_acknowledged() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let old = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let new = one(publisher.commit(&Commit::Group(id("g1"), access(30))));
    let asked = rig.send(&new);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    let asked = rig.send(&old);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
    assert_eq!(vlan_of(&rig, "p1"), access(30).vlan);
}

#[test]
fn the_same_revision_with_other_content_is_an_error_and_takes_nothing() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let before = rig.held("prod");
    let mut twin = publisher.clone();
    let mine = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let asked = rig.send(&mine);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    let held = rig.held("prod");
    assert_ne!(held, before);
    let mut other = one(twin.commit(&Commit::Group(id("g1"), access(21))));
    if let FinalState::Partial { objects, .. } = &mut other.state {
        // What is fine for itself is not taken either.
        objects.mirrors.push(Versioned {
            revision: Revision(99),
            value: serde_json::from_str(
                r#"{"name": "m", "source": {"vlans": [7]}, "destination": {"vlan": 8}}"#,
            )
            .unwrap(),
        });
    }
    let asked = rig.send(&other);
    let message = failure(rig.outcome(asked));
    assert!(message.contains("port group g1"), "{message}");
    assert!(message.contains("revision 5"), "{message}");
    assert_eq!(rig.held("prod"), held);
    assert_eq!(vlan_of(&rig, "p1"), access(20).vlan);
}

#[test]
fn a_message_of_an_earlier_store_is_refused() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let held = rig.held("prod");
    let mut earlier = publisher.full();
    earlier.store = store(4);
    earlier.revision = Revision(900);
    let asked = rig.send(&earlier);
    assert!(failure(rig.outcome(asked)).contains("store continue"));
    assert_eq!(rig.held("prod"), held);
}

#[test]
fn another_store_is_followed_by_an_operators_word_alone() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let (held, there) = (rig.held("prod"), rig.datapath.picture());

    // A publisher that lost its volume, and one of another site.
    let mut anew = Publisher::new(6);
    anew.commit(&Commit::Settings(settings(1300)));
    let elsewhere = Clobber {
        switch: id("lab"),
        ..anew.full()
    };
    let absent = Clobber {
        state: FinalState::Absent,
        ..anew.full()
    };
    for message in [anew.full(), absent, elsewhere] {
        let asked = rig.send(&message);
        let failure = failure(rig.outcome(asked));
        assert!(failure.contains("store continue"), "{failure}");
        assert_eq!(rig.position(asked), Some(position(5, None, 4)));
    }
    assert_eq!((rig.held("prod"), rig.held("lab")), (held, None));
    assert_eq!(rig.datapath.picture(), there);

    anew.lineage.continues = vec![store(5)];
    let asked = rig.send(&anew.full());
    assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
    assert_eq!(rig.held("prod"), Some(anew.held()));
}

fn position(of: u128, run: Option<u128>, revision: u64) -> Position {
    Position {
        store: store(of),
        run: run.map(Uuid::from_u128),
        revision: Revision(revision),
    }
}

/// The publisher's ledger is a copy of before revision 5, and went on.
#[test]
fn other_commits_of_the_same_numbers_are_refused_and_shown() {
    let run = |number, since| Run {
        id: Uuid::from_u128(number),
        since: Revision(since),
    };
    let (mut rig, mut publisher) = (Rig::new(), site());
    publisher.lineage.runs = vec![run(1, 1)];
    let mut copy = publisher.clone();
    rig.send(&publisher.full());
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.restart();
    let held = rig.held("prod");
    assert_eq!(
        rig.core().held().next().unwrap().1.position(),
        position(5, Some(1), 5)
    );

    copy.lineage.runs.insert(0, run(2, 5));
    let port = one(copy.commit(&Commit::Port(id("p9"), id("g1"), access(9))));
    let next = one(copy.commit(&Commit::Settings(settings(9000))));
    for message in [port, next, copy.full()] {
        let asked = rig.send(&message);
        let failure = failure(rig.outcome(asked));
        assert!(failure.contains("store continue"), "{failure}");
        assert_eq!(rig.position(asked), Some(position(5, Some(1), 5)));
    }
    let Some(Message::Remove(gone)) = copy.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&gone);
    assert!(matches!(rig.removal(asked), RemoveOutcome::Failed { .. }));
    assert_eq!(rig.held("prod"), held);

    // A publisher that only started anew is followed, and so is what it sent
    // before that and comes late.
    let late = one(publisher
        .clone()
        .commit(&Commit::Group(id("g3"), access(30))));
    publisher.commit(&Commit::Group(id("g4"), access(40)));
    publisher.lineage.runs.insert(0, run(3, 7));
    let push = one(publisher.commit(&Commit::Group(id("g5"), access(50))));
    for message in [push, late] {
        let asked = rig.send(&message);
        assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
    }
    assert_eq!(
        rig.core().held().next().unwrap().1.position(),
        position(5, Some(3), 7)
    );
}

#[test]
fn a_replacing_store_is_followed_from_its_full_state_on() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    for _ in 0..10 {
        publisher.commit(&Commit::Settings(settings(9000)));
    }
    rig.send(&publisher.full());
    let held = rig.held("prod");

    let mut anew = Publisher::new(6);
    anew.lineage.continues = vec![publisher.store];
    anew.commit(&Commit::Settings(settings(1300)));
    let change = one(anew.commit(&Commit::Settings(settings(1400))));
    let asked = rig.send(&change);
    assert!(failure(rig.outcome(asked)).contains("full state needed"));
    assert_eq!(rig.held("prod"), held);

    let asked = rig.send(&anew.full());
    assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
    assert_eq!(rig.held("prod"), Some(anew.held()));
    assert_eq!(vlan_of(&rig, "p1"), None);
    rig.restart();
    assert_eq!(rig.held("prod"), Some(anew.held()));

    let asked = rig.send(&publisher.full());
    assert!(failure(rig.outcome(asked)).contains("store continue"));
}

#[test]
fn a_removal_never_beats_a_newer_state() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let Some(Message::Remove(gone)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let back = one(publisher.commit(&Commit::Port(id("p1"), id("g1"), access(7))));
    rig.send(&back);
    let asked = rig.send_remove(&gone);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
    assert_eq!(vlan_of(&rig, "p1"), access(7).vlan);
    assert_eq!(rig.held("prod").unwrap().tombstones, BTreeMap::new());
}

#[test]
fn a_removed_port_does_not_come_back_by_a_late_message() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let late = one(publisher.commit(&Commit::Port(id("p1"), id("g1"), access(7))));
    let removal = publisher.commit(&Commit::NoPort(id("p1")));
    let Some(Message::Remove(gone)) = removal.first() else {
        panic!("no removal");
    };
    rig.send_remove(gone);
    let asked = rig.send(&late);
    assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
    assert_eq!(vlan_of(&rig, "p1"), None);
}

#[test]
fn tombstones_end_with_the_full_state_that_has_seen_them() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    for n in 0..50 {
        let port: PortId = id(&format!("x{n}"));
        publisher.commit(&Commit::Port(port.clone(), id("g1"), access(7)));
        for message in publisher.commit(&Commit::NoPort(port)) {
            if let Message::Remove(remove) = message {
                rig.send_remove(&remove);
            }
        }
    }
    assert_eq!(rig.held("prod").unwrap().tombstones.len(), 50);
    rig.send(&publisher.full());
    assert_eq!(rig.held("prod").unwrap().tombstones, BTreeMap::new());
    rig.restart();
    assert_eq!(rig.held("prod").unwrap().tombstones, BTreeMap::new());
}

/// A ledger that lost its ports in front of a datapath that has them.
#[test]
fn nothing_unknown_is_removed_before_the_first_full_state() {
    let (mut first, mut publisher) = (Rig::new(), site());
    first.send(&publisher.full());
    let datapath = Arc::new(Emulated::standing(
        Behaviour::default(),
        1,
        first.datapath.picture(),
    ));
    let mut rig = Rig::on(datapath);
    let there = rig.datapath.picture();
    let push = one(publisher.commit(&Commit::Group(id("g2"), access(20))));
    rig.send(&push);
    assert_eq!(rig.datapath.picture(), there);

    // A removal names its port, so it may go.
    let Some(Message::Remove(gone)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    let asked = rig.send_remove(&gone);
    assert_eq!(rig.removal(asked), RemoveOutcome::Removed);
    assert_eq!(
        (vlan_of(&rig, "p1"), vlan_of(&rig, "p2")),
        (None, access(10).vlan)
    );

    // The full state doesn't name p2, so it may go too.
    publisher.commit(&Commit::NoPort(id("p2")));
    rig.send(&publisher.full());
    assert_eq!(vlan_of(&rig, "p2"), None);
    assert!(rig.datapath.picture().contains_key("prod"));
}

#[test]
fn an_overtaken_full_state_is_no_full_state_of_this_run() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let early = publisher.full();
    publisher.commit(&Commit::Group(id("g1"), access(20)));
    rig.send(&publisher.full());
    // p3 is in the datapath and nobody knows of it.
    rig.datapath.disturb(|picture| {
        let bridge = picture.get_mut("prod").unwrap();
        let plugged = bridge.ports["p1"].clone();
        bridge.ports.insert(id("p3"), plugged);
    });
    rig.restart();
    rig.send(&early);
    assert!(vlan_of(&rig, "p3").is_some());
    rig.send(&publisher.full());
    assert_eq!(vlan_of(&rig, "p3"), None);
}

#[test]
fn absent_takes_everything_but_what_is_newer() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let away = one(publisher.commit(&Commit::Member(false)));
    let asked = rig.send(&away);
    assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
    assert_eq!(rig.datapath.picture(), BTreeMap::new());
    let held = rig.held("prod").unwrap();
    assert!(held.is_empty());
    assert_eq!(held.floor, publisher.revision);
    // Later messages of before don't bring it back.
    let asked = rig.send(&site().full());
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 0 });
    assert_eq!(rig.datapath.picture(), BTreeMap::new());
}

#[test]
fn a_full_state_keeps_what_is_newer_than_itself() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let full = publisher.full();
    let newer = one(publisher.commit(&Commit::Port(id("p9"), id("g1"), access(9))));
    rig.send(&newer);
    rig.send(&full);
    assert_eq!(vlan_of(&rig, "p9"), access(9).vlan);
    assert_eq!(vlan_of(&rig, "p1"), access(10).vlan);
}

#[test]
fn a_port_brings_along_what_it_needs_of_a_switch_never_heard_of() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let placed = one(publisher.commit(&Commit::Port(id("p9"), id("g1"), access(9))));
    let asked = rig.send(&placed);
    assert_eq!(rig.outcome(asked), ApplyOutcome::Applied { writes: 2 });
    let held = rig.held("prod").unwrap();
    assert_eq!(held.settings, publisher.settings);
    assert_eq!(vlan_of(&rig, "p9"), access(9).vlan);
}

#[test]
fn a_change_for_all_of_a_switch_that_the_host_is_no_part_of_is_refused() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let never_heard_of = one(publisher.commit(&Commit::Settings(settings(1400))));
    let asked = rig.send(&never_heard_of);
    assert!(failure(rig.outcome(asked)).contains("full state needed"));
    assert_eq!(rig.held("prod"), None);
    assert_eq!(rig.commits, Vec::<usize>::new());

    rig.send(&publisher.full());
    let left = one(publisher.commit(&Commit::Member(false)));
    rig.send(&left);
    let (held, commits) = (rig.held("prod"), rig.commits.len());
    let mut on_its_way = never_heard_of;
    on_its_way.revision = left.revision.next();
    if let FinalState::Partial {
        settings: Some(settings),
        ..
    } = &mut on_its_way.state
    {
        settings.revision = on_its_way.revision;
    }
    let asked = rig.send(&on_its_way);
    assert!(failure(rig.outcome(asked)).contains("full state needed"));
    assert_eq!(rig.held("prod"), held);
    assert_eq!(rig.commits.len(), commits);
    assert_eq!(rig.datapath.picture(), Default::default());
    assert_eq!(rig.subscribed, Default::default());
}
