// SPDX-License-Identifier: Apache-2.0
//! Ports that a host was given for one vNIC, and that are another's by now:
//! given back, unless they were placed there for that one.

use std::time::Duration;

use dvs_schemas::v1::{FinalState, Lineage, ReleaseOutcome, ReleaseReply, Run, V1};
use dvs_schemas::{Epoch, Policy, PolicyField, StoreId, VnicId};
use host_agent::datapath::{Behaviour, Notice};
use host_agent::host::HostEvent;
use uuid::Uuid;

use crate::history::{Commit, Message, Publisher};
use crate::plugging::{
    answer, answered, claim, granted_in, place, plug, plug_as, pull, refused, release, released,
    unheard, waits, with_publisher,
};
use crate::rig::{Rig, id};
use crate::versions::{one, site};

/// p9 is here in its first placement, connected to a vNIC or to none.
fn connect(rig: &mut Rig, publisher: &mut Publisher, vnic: Option<&str>) {
    let port = Commit::Port(id("p9"), id("g1"), Policy::default());
    let mut message = one(publisher.commit(&port));
    if let FinalState::Partial { objects, .. } = &mut message.state {
        objects.ports[0].value.vnic = vnic.map(id::<VnicId>);
    }
    rig.send(&message);
    rig.wake();
}

fn refuse(rig: &mut Rig) {
    let (port, outcome) = (id("p9"), Err(refused("it is another vNIC's")));
    rig.event(HostEvent::Claimed { port, outcome });
}

#[test]
fn a_port_that_becomes_another_vnics_is_given_back_whatever_was_refused_meanwhile() {
    for nobodys in [true, false] {
        let (mut rig, mut publisher) = with_publisher();
        plug_as(&mut rig, "p9", Some(id("vm-9")), None);
        answer(&mut rig, "p9", waits());
        // It comes, and was disconnected before that, or is after.
        let first = if nobodys { None } else { Some("vm-9") };
        connect(&mut rig, &mut publisher, first);
        connect(&mut rig, &mut publisher, None);
        rig.pass(Duration::from_secs(60));
        refuse(&mut rig);
        assert_eq!(rig.releases, []);
        connect(&mut rig, &mut publisher, Some("vm-1/eth0"));
        rig.pass(Duration::from_secs(2));
        assert_eq!(rig.releases, [release("p9", Some(Epoch(1)))]);
    }
}

#[test]
fn what_waited_and_comes_for_another_vnic_is_given_back() {
    let (mut rig, mut publisher) = with_publisher();
    plug_as(&mut rig, "p9", Some(id("vm-9")), None);
    answer(&mut rig, "p9", waits());
    connect(&mut rig, &mut publisher, Some("vm-1/eth0"));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [release("p9", Some(Epoch(1)))]);
}

#[test]
fn what_is_placed_here_for_another_vnic_than_the_refused_one_stays() {
    let (mut rig, mut publisher) = with_publisher();
    plug_as(&mut rig, "p9", Some(id("vm-9")), None);
    refuse(&mut rig);
    connect(&mut rig, &mut publisher, Some("vm-1/eth0"));
    // A change of it comes while the next claim is under way.
    let claims = rig.claims.len();
    rig.pass(Duration::from_secs(60));
    assert!(rig.claims.len() > claims);
    let blocked = Policy {
        blocked: Some(true),
        ..Policy::default()
    };
    let port = Commit::Port(id("p9"), id("g1"), blocked);
    rig.send(&one(publisher.commit(&port)));
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases, []);
}

#[test]
fn what_went_before_it_could_be_wired_is_claimed_again() {
    let (mut rig, mut publisher) = with_publisher();
    let failing = [(id("p9"), PolicyField::Vlan)].into();
    rig.datapath.behave(Behaviour {
        failing,
        ..Behaviour::default()
    });
    place(&mut rig, &mut publisher);
    rig.wake();
    plug(&mut rig, "p9", None);
    assert_eq!(rig.claims, [], "it is the host's");
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p9"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.claims, [claim("p9", None)]);
}

/// Nobody can say what is there, so nothing is planned until that is over.
#[test]
fn what_went_while_the_datapath_was_out_of_reach_is_claimed_again_once_it_is_back() {
    let (mut rig, mut publisher) = with_publisher();
    place(&mut rig, &mut publisher);
    rig.wake();
    plug(&mut rig, "p9", None);
    rig.datapath.behave(Behaviour {
        gone: Some("it restarts".to_owned()),
        ..Behaviour::default()
    });
    rig.event(HostEvent::Noticed(Notice::Disturbed));
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p9"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.claims, []);
    rig.datapath.behave(Behaviour::default());
    rig.pass(Duration::from_secs(62));
    assert_eq!(rig.claims, [claim("p9", None)]);
}

#[test]
fn a_late_answer_does_not_end_the_release_of_what_came_meanwhile() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    plug(&mut rig, "p9", None);
    pull(&mut rig, "p9");
    // The publisher has answered this already: it knew of no claim that waits.
    assert_eq!(rig.releases, [release("p9", None)]);
    place(&mut rig, &mut publisher);
    rig.wake();
    assert_eq!(rig.releases[1..], [release("p9", Some(Epoch(1)))]);
    let nothing = ReleaseReply {
        v: V1,
        host: id("h1"),
        port: id("p9"),
        outcome: ReleaseOutcome::Nothing,
    };
    answered(&mut rig, "p9", None, Ok(nothing));
    // That the port is to go got lost.
    answered(&mut rig, "p9", Some(Epoch(1)), Err(unheard()));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases[2..], [release("p9", Some(Epoch(1)))]);
}

#[test]
fn what_is_placed_here_after_an_orderly_release_stays() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p9", None);
    answer(&mut rig, "p9", granted_in(Epoch(1)));
    place(&mut rig, &mut publisher);
    rig.wake();
    pull(&mut rig, "p9");
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.releases, [release("p9", Some(Epoch(1)))]);
    released(&mut rig, "p9");
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p9"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(Duration::from_secs(1));
    // An operator places it, and starts the machine later.
    place(&mut rig, &mut publisher);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases.len(), 1);
}

#[test]
fn what_comes_by_a_claim_that_nobody_answered_is_given_back_whatever_was_answered_since() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p9", None);
    let (port, outcome) = (id("p9"), Err(unheard()));
    rig.event(HostEvent::Claimed { port, outcome });
    rig.pass(Duration::from_secs(2));
    refuse(&mut rig);
    pull(&mut rig, "p9");
    assert_eq!(rig.releases, [release("p9", None)]);
    released(&mut rig, "p9");
    place(&mut rig, &mut publisher);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases[1..], [release("p9", Some(Epoch(1)))]);
}

#[test]
fn what_becomes_another_vnics_after_a_claim_that_nobody_answered_is_given_back() {
    let (mut rig, mut publisher) = with_publisher();
    plug_as(&mut rig, "p9", Some(id("vm-9")), None);
    let (port, outcome) = (id("p9"), Err(unheard()));
    rig.event(HostEvent::Claimed { port, outcome });
    connect(&mut rig, &mut publisher, Some("vm-1/eth0"));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [release("p9", Some(Epoch(1)))]);
}

#[test]
fn what_was_granted_and_comes_after_an_absence_in_which_the_vnic_went_is_given_back() {
    for first in [granted_in(Epoch(1)), waits()] {
        let (mut rig, mut publisher) = with_publisher();
        plug(&mut rig, "p9", None);
        answer(&mut rig, "p9", first);
        rig.pass(Duration::from_secs(61));
        // Asked once more, and the bus is away.
        assert_eq!(rig.claims.len(), 2);
        rig.event(HostEvent::Disconnected);
        let (port, outcome) = (id("p9"), Err(refused("no connection to NATS")));
        rig.event(HostEvent::Claimed { port, outcome });
        rig.pass(Duration::from_secs(600));
        pull(&mut rig, "p9");
        rig.pass(Duration::from_secs(600));
        rig.event(HostEvent::Connected);
        place(&mut rig, &mut publisher);
        rig.pass(Duration::from_secs(3));
        assert_eq!(rig.releases.last(), Some(&release("p9", Some(Epoch(1)))));
    }
}

#[test]
fn what_was_granted_for_a_vnic_that_went_before_it_came_is_given_back_after_another_one() {
    let (mut rig, mut publisher) = with_publisher();
    plug_as(&mut rig, "p9", Some(id("vm-9")), None);
    answer(&mut rig, "p9", granted_in(Epoch(1)));
    pull(&mut rig, "p9");
    plug_as(&mut rig, "p9", Some(id("rival")), None);
    refuse(&mut rig);
    pull(&mut rig, "p9");
    connect(&mut rig, &mut publisher, Some("vm-9"));
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.releases.last(), Some(&release("p9", Some(Epoch(1)))));
}

/// While a host has diverged its releases are refused.
#[test]
fn what_is_given_back_while_its_store_is_replaced_is_given_back_in_the_store_that_goes_on() {
    for amid_release in [false, true] {
        let (mut rig, mut publisher) = (Rig::new(), site());
        let before = StoreId(Uuid::from_u128(50 << 80));
        publisher.store = before;
        rig.event(HostEvent::Connected);
        rig.send(&publisher.full());
        plug(&mut rig, "p1", None);
        let ports = rig.held("prod").unwrap().ports;
        let old = ports[&id::<dvs_schemas::PortId>("p1")].value.epoch;
        pull(&mut rig, "p1");
        assert_eq!(rig.releases, [release("p1", Some(old))]);
        let refusal = || Err(refused("the host follows another store"));
        if !amid_release {
            answered(&mut rig, "p1", Some(old), refusal());
        }
        // Long after any claim might have come.
        rig.pass(Duration::from_secs(300));
        if !amid_release {
            answered(&mut rig, "p1", Some(old), refusal());
        }
        let next = publisher.revision.next();
        publisher.store = StoreId(Uuid::from_u128(90 << 80));
        publisher.revision = next;
        publisher.lineage = Lineage {
            runs: vec![Run {
                id: Uuid::from_u128(9),
                since: next,
            }],
            continues: vec![before],
        };
        let new = Epoch::of(publisher.store, next);
        for port in publisher.ports.values_mut() {
            port.revision = next;
            port.value.epoch = new;
        }
        rig.send(&publisher.full());
        if amid_release {
            answered(&mut rig, "p1", Some(old), refusal());
        }
        rig.pass(Duration::from_secs(2));
        assert_eq!(
            rig.releases.last(),
            Some(&release("p1", Some(new))),
            "amid its release: {amid_release}"
        );
    }
}
