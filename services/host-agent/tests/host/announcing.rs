// SPDX-License-Identifier: Apache-2.0
//! Ports that a host was granted, announced to the network: when they come, and
//! not when an agent starts again.

use std::time::Duration;

use dvs_schemas::v1::Link;
use dvs_schemas::{Policy, PortId};
use host_agent::host::HostEvent;

use crate::history::Commit;
use crate::plugging::{answer, granted, plug, plugged, with_publisher};
use crate::rig::{Rig, id};
use crate::versions::one;

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
