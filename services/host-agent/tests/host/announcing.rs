// SPDX-License-Identifier: Apache-2.0
//! Ports that a host was granted, announced to the network: when they come, and
//! not when an agent starts again, or is told again what it has.

use std::time::Duration;

use dvs_schemas::v1::{ApplyOutcome, Clobber, Lineage, Link, Run};
use dvs_schemas::{Epoch, Policy, PortId, StoreId, SwitchName};
use host_agent::host::HostEvent;
use uuid::Uuid;

use crate::history::Commit;
use crate::plugging::{answer, granted, plug, plugged, with_publisher};
use crate::rig::{Rig, id};
use crate::versions::{one, site};

const LONG: Duration = Duration::from_secs(60);

/// p7 is plugged in, granted, and comes with this policy, with its link up.
fn granted_with(policy: Policy) -> Rig {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", granted());
    let port = Commit::Port(id("p7"), id("g1"), policy);
    rig.send(&one(publisher.commit(&port)));
    rig.datapath.link(&id("prod"), &id("p7"), Link::Up);
    rig.notices();
    rig
}

#[test]
fn a_port_that_is_granted_is_announced_and_one_that_was_here_already_is_not() {
    let mut rig = granted_with(Policy::default());
    rig.pass(LONG);
    assert_eq!(rig.announced, vec![id::<PortId>("p7"); 7]);
    rig.announced.clear();
    // Again and again the same, and another start of the agent.
    rig.restart();
    rig.event(HostEvent::Connected);
    plug(&mut rig, "p7", None);
    rig.pass(LONG);
    assert_eq!(rig.announced, Vec::<PortId>::new());
}

#[test]
fn a_store_that_continues_another_has_nothing_announced_that_stayed_where_it_was() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    let before = StoreId(Uuid::from_u128(50 << 80));
    publisher.store = before;
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    plug(&mut rig, "p1", None);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    rig.pass(LONG);
    rig.announced.clear();
    // Full states of the same, and of an operator's word.
    rig.send(&publisher.full());
    let insists = Clobber {
        insist: true,
        ..publisher.full()
    };
    rig.send(&insists);
    // Every placement is a new one, in the store that replaces it.
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
    for port in publisher.ports.values_mut() {
        port.revision = next;
        port.value.epoch = Epoch::of(publisher.store, next);
    }
    for restarts in [false, true] {
        let asked = rig.send(&publisher.full());
        assert!(matches!(rig.outcome(asked), ApplyOutcome::Applied { .. }));
        if restarts {
            rig.restart();
        }
        rig.pass(LONG);
        assert_eq!(rig.announced, Vec::<PortId>::new());
    }
    let epochs = rig.datapath.picture();
    let p1 = &epochs[&id::<SwitchName>("prod")].ports[&id::<PortId>("p1")];
    assert_eq!(p1.port.epoch, Epoch::of(publisher.store, next));
    // One that went away and came back meanwhile has to be found again.
    let port = publisher.ports.get_mut("p1").unwrap();
    publisher.revision = publisher.revision.next();
    port.revision = publisher.revision;
    port.value.epoch = Epoch::of(publisher.store, publisher.revision);
    rig.send(&publisher.full());
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    rig.pass(LONG);
    assert_eq!(rig.announced, vec![id::<PortId>("p1"); 7]);
}

#[test]
fn what_is_plugged_in_where_its_port_is_already_is_announced() {
    let (mut rig, _) = plugged();
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    rig.pass(LONG);
    assert_eq!(rig.announced, vec![id::<PortId>("p1"); 7]);
}

#[test]
fn a_blocked_port_is_not_announced_nor_one_that_went() {
    let blocked = Policy {
        blocked: Some(true),
        ..Policy::default()
    };
    let mut rig = granted_with(blocked);
    rig.pass(LONG);
    assert_eq!(rig.announced, Vec::<PortId>::new());

    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p1", None);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    let last = publisher.commit(&Commit::NoPort(id("p1"))).pop();
    let Some(crate::history::Message::Remove(remove)) = last else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.announced.clear();
    rig.pass(LONG);
    assert_eq!(rig.announced, Vec::<PortId>::new());
}
