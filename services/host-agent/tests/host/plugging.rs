// SPDX-License-Identifier: Apache-2.0
//! Ports that are plugged in and pulled: claimed when they are not the host's,
//! released when they go, and asked for again until somebody answers.

use std::time::Duration;

use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, ClaimRequest, Counters, CountersOf, EventAck, HelloReply, Link,
    Machine, ReleaseOutcome, ReleaseReply, ReleaseRequest, V1,
};
use dvs_schemas::{Epoch, MacAddr, Policy, PortId, Revision, SessionId, VnicId};
use host_agent::datapath::{Notice, Pulled};
use host_agent::host::{AskFailure, HostEvent, RuntimeEvent};

use crate::history::{Commit, Message, Publisher};
use crate::rig::{Rig, id};
use crate::versions::{one, site};

const SOON: Duration = Duration::from_secs(1);

pub(crate) fn plug(rig: &mut Rig, port: &str, mac: Option<MacAddr>) {
    plug_as(rig, port, None, mac);
}

pub(crate) fn plug_as(rig: &mut Rig, port: &str, vnic: Option<VnicId>, mac: Option<MacAddr>) {
    rig.event(HostEvent::Noticed(Notice::Plugged {
        switch: id("prod"),
        port: id(port),
        vnic,
        mac,
        machine: Machine::default(),
    }));
    rig.wake();
}

pub(crate) fn pull(rig: &mut Rig, port: &str) {
    rig.event(HostEvent::Noticed(Notice::Unplugged {
        switch: id("prod"),
        port: id(port),
        interface: format!("tap-{port}"),
        why: Pulled::Off,
    }));
    rig.wake();
}

pub(crate) fn claim(port: &str, mac: Option<MacAddr>) -> ClaimRequest {
    ClaimRequest {
        v: V1,
        host: id("h1"),
        session: SessionId(1),
        port: id(port),
        vnic: None,
        mac,
        epoch: None,
        machine: Machine::default(),
        positions: Vec::new(),
    }
}

pub(crate) fn release(port: &str, epoch: Option<Epoch>) -> ReleaseRequest {
    ReleaseRequest {
        v: V1,
        host: id("h1"),
        session: SessionId(1),
        port: id(port),
        epoch,
        to: None,
        positions: Vec::new(),
    }
}

pub(crate) fn answer(rig: &mut Rig, port: &str, outcome: ClaimOutcome) {
    let reply = ClaimReply {
        v: V1,
        host: id("h1"),
        port: id(port),
        outcome,
    };
    rig.event(HostEvent::Claimed {
        port: id(port),
        outcome: Ok(reply),
    });
}

/// What the publisher says where it does nothing.
pub(crate) fn refused(why: &str) -> AskFailure {
    AskFailure::NotDone(why.to_owned())
}

/// What there is to say where nobody answers.
pub(crate) fn unheard() -> AskFailure {
    AskFailure::MaybeDone("no answer".to_owned())
}

pub(crate) fn granted() -> ClaimOutcome {
    granted_in(Epoch(9))
}

pub(crate) fn granted_in(epoch: Epoch) -> ClaimOutcome {
    ClaimOutcome::Granted {
        epoch,
        revision: Revision(9),
    }
}

/// A connected host that holds p1 and p2, neither plugged in.
pub(crate) fn connected() -> Rig {
    with_publisher().0
}

pub(crate) fn with_publisher() -> (Rig, Publisher) {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(SOON);
    (rig, publisher)
}

/// A claim is granted, and the port comes.
pub(crate) fn grant(rig: &mut Rig, publisher: &mut Publisher, port: &str) {
    answer(rig, port, granted());
    let port = Commit::Port(id(port), id("g1"), Policy::default());
    rig.send(&one(publisher.commit(&port)));
}

#[test]
fn what_is_plugged_in_and_not_held_is_claimed_once() {
    let (mut rig, mut publisher) = with_publisher();
    let mac: MacAddr = id("52:54:00:00:00:07");
    plug(&mut rig, "p1", None);
    assert_eq!(rig.claims, [], "it is the host's already");
    plug(&mut rig, "p7", Some(mac));
    assert_eq!(rig.claims, [claim("p7", Some(mac))]);
    grant(&mut rig, &mut publisher, "p7");
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.claims.len(), 1);
}

#[test]
fn what_was_granted_and_is_pulled_before_it_came_is_released_in_its_epoch() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", granted());
    pull(&mut rig, "p7");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [release("p7", Some(Epoch(9)))]);
}

#[test]
fn what_was_granted_and_does_not_come_is_claimed_again() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", granted());
    rig.pass(Duration::from_secs(29));
    assert_eq!(rig.claims.len(), 1);
    // Somebody moved it before it was here.
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.claims, vec![claim("p7", None); 2]);
}

#[test]
fn a_claim_says_which_vnic_is_plugged_in_and_again_when_it_is_another() {
    let mut rig = connected();
    let (one, two): (VnicId, VnicId) = (id("vm-1/eth0"), id("vm-2/eth0"));
    let claim_as = |vnic: &VnicId| ClaimRequest {
        vnic: Some(vnic.clone()),
        ..claim("p7", None)
    };
    plug_as(&mut rig, "p7", Some(one.clone()), None);
    assert_eq!(rig.claims, [claim_as(&one)]);
    plug_as(&mut rig, "p7", Some(two.clone()), None);
    // The first claim may still be on its way, or wait.
    assert_eq!(rig.claims, [claim_as(&one)]);
    assert_eq!(rig.releases, [release("p7", None)]);
    nothing(&mut rig, "p7");
    rig.wake();
    assert_eq!(rig.claims, [claim_as(&one), claim_as(&two)]);
}

#[test]
fn what_is_held_is_given_back_and_claimed_for_a_vnic_that_it_is_not_connected_to() {
    let mut rig = connected();
    let held = rig.held("prod").unwrap().ports[&id::<PortId>("p1")].clone();
    plug_as(&mut rig, "p1", held.value.vnic, None);
    assert_eq!(rig.claims, []);
    let vnic = Some(id("vm-9/eth0"));
    plug_as(&mut rig, "p1", vnic.clone(), None);
    // Its own vNIC is not there any more.
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [release("p1", Some(held.value.epoch))]);
    assert_eq!(rig.claims, []);
    released(&mut rig, "p1");
    rig.wake();
    // That epoch is over, though the removal has not come yet.
    let claim = ClaimRequest {
        vnic,
        ..claim("p1", None)
    };
    assert_eq!(rig.claims, [claim]);
}

pub(crate) fn waits() -> ClaimOutcome {
    ClaimOutcome::Waits {
        holder: id("h2"),
        epoch: Epoch(3),
    }
}

#[test]
fn a_claim_that_waits_is_repeated_but_seldom() {
    let (mut rig, mut publisher) = with_publisher();
    plug(&mut rig, "p7", None);
    for asked in 1..=5 {
        assert_eq!(rig.claims, vec![claim("p7", None); asked]);
        answer(&mut rig, "p7", waits());
        rig.pass(Duration::from_secs(29));
        assert_eq!(rig.claims.len(), asked, "not soon");
        rig.pass(Duration::from_secs(31));
    }
    grant(&mut rig, &mut publisher, "p7");
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.claims.len(), 6);
}

#[test]
fn a_claim_that_waits_is_repeated_after_a_hello() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", waits());
    let switches = vec![id("prod")];
    rig.event(HostEvent::Disconnected);
    rig.event(HostEvent::Connected);
    rig.pass(SOON);
    assert_eq!(rig.claims.len(), 1);
    rig.event(HostEvent::Greeted(Ok(HelloReply {
        v: V1,
        session: crate::rig::SESSION,
        switches,
    })));
    rig.wake();
    assert_eq!(rig.claims, vec![claim("p7", None); 2]);
}

#[test]
fn what_waited_and_came_is_not_asked_for_again() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(SOON);
    plug(&mut rig, "p7", None);
    answer(&mut rig, "p7", waits());
    let port = Commit::Port(id("p7"), id("g1"), Policy::default());
    rig.send(&one(publisher.commit(&port)));
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.claims, [claim("p7", None)]);
}

#[test]
fn what_nobody_answers_or_what_is_refused_is_asked_again_but_never_often() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    for refusals in 1..=6 {
        assert_eq!(rig.claims.len(), refusals);
        let (port, outcome) = (id("p7"), Err(refused("there is no port p7")));
        rig.event(HostEvent::Claimed { port, outcome });
        rig.pass(Duration::from_millis(400));
        assert_eq!(rig.claims.len(), refusals, "not at once");
        rig.pass(Duration::from_secs(60));
    }
    // Pulled before anybody answered: there is only a turn to give back.
    pull(&mut rig, "p7");
    assert_eq!(rig.releases, [release("p7", None)]);
    let claims = rig.claims.len();
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.claims.len(), claims);
}

/// Answers what was told last as the collector does.
fn acknowledge(rig: &mut Rig) {
    let seq = rig.told.last().unwrap().seq();
    rig.event(HostEvent::Acknowledged {
        seq,
        outcome: Ok(EventAck { v: V1, seq }),
    });
    rig.wake();
}

/// A host of which nothing is left to tell, with p1 plugged in; and its epoch.
pub(crate) fn plugged() -> (Rig, Epoch) {
    let mut rig = connected();
    acknowledge(&mut rig);
    rig.told.clear();
    plug(&mut rig, "p1", None);
    let ports = rig.held("prod").unwrap().ports;
    let epoch = ports[&id::<PortId>("p1")].value.epoch;
    (rig, epoch)
}

#[test]
fn what_is_pulled_is_released_at_once_and_what_it_came_to_is_reported_by_its_epoch() {
    let (mut rig, epoch) = plugged();
    let counters = Counters {
        ingress_packets: 3,
        ingress_bytes: 300,
        ..Counters::default()
    };
    rig.datapath.traffic(&id("prod"), &id("p1"), &counters);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    pull(&mut rig, "p1");
    // No time has passed, and the collector has heard of nothing: a machine
    // may wait elsewhere.
    assert_eq!(rig.releases, [release("p1", Some(epoch))]);
    released(&mut rig, "p1");
    rig.pass(SOON);
    acknowledge(&mut rig);
    rig.pass(SOON);
    let settled = rig.told.last().unwrap().clone();
    let RuntimeEvent::Settled(settled) = &*settled else {
        panic!("{settled:?}");
    };
    let of = CountersOf {
        port: id("p1"),
        epoch,
        counters,
    };
    assert_eq!(settled.counters, [of]);
}

#[test]
fn what_is_plugged_in_again_before_its_release_stays() {
    let (mut rig, _) = plugged();
    rig.event(HostEvent::Disconnected);
    pull(&mut rig, "p1");
    plug(&mut rig, "p1", None);
    rig.event(HostEvent::Connected);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases, []);
    assert_eq!(rig.claims, []);
}

#[test]
fn what_is_plugged_in_again_amid_its_release_is_claimed_as_soon_as_that_is_over() {
    let (mut rig, epoch) = plugged();
    pull(&mut rig, "p1");
    plug(&mut rig, "p1", None);
    assert_eq!(rig.releases, [release("p1", Some(epoch))]);
    assert_eq!(rig.claims, []);
    released(&mut rig, "p1");
    rig.wake();
    // The removal has not come yet, and the placement is over all the same.
    assert_eq!(rig.claims, [claim("p1", None)]);
}

/// The publisher has taken the release of p1.
fn hear_released(rig: &mut Rig) {
    released(rig, "p1");
}

/// The publisher has taken the release of a port.
pub(crate) fn released(rig: &mut Rig, port: &str) {
    let outcome = ReleaseOutcome::Released {
        revision: Revision(20),
    };
    hear(rig, port, outcome);
}

/// The publisher knows of no claim of a port.
fn nothing(rig: &mut Rig, port: &str) {
    hear(rig, port, ReleaseOutcome::Nothing);
}

pub(crate) fn hear(rig: &mut Rig, port: &str, outcome: ReleaseOutcome) {
    let reply = ReleaseReply {
        v: V1,
        host: id("h1"),
        port: id(port),
        outcome,
    };
    let asked = rig.releases.last().unwrap().epoch;
    answered(rig, port, asked, Ok(reply));
}

/// The release of a port in an epoch was answered, or not.
pub(crate) fn answered(
    rig: &mut Rig,
    port: &str,
    epoch: Option<Epoch>,
    outcome: Result<ReleaseReply, AskFailure>,
) {
    let asked = release(port, epoch);
    rig.event(HostEvent::Released { asked, outcome });
}

/// The agent starts again, and is connected for a while.
fn restart(rig: &mut Rig, plugged: &[&str]) {
    rig.restart();
    rig.event(HostEvent::Connected);
    for port in plugged {
        plug(rig, port, None);
    }
    rig.pass(Duration::from_secs(10));
}

#[test]
fn what_was_pulled_while_the_agent_was_away_is_released() {
    let (mut rig, epoch) = plugged();
    restart(&mut rig, &[]);
    assert_eq!(rig.releases[0], release("p1", Some(epoch)));
    // Nobody heard it, so it is said again, after a start, too.
    rig.releases.clear();
    restart(&mut rig, &[]);
    assert_eq!(rig.releases[0], release("p1", Some(epoch)));
    hear_released(&mut rig);
    rig.pass(Duration::from_secs(61));
    rig.releases.clear();
    restart(&mut rig, &[]);
    assert_eq!((&rig.releases, &rig.claims), (&Vec::new(), &Vec::new()));
}

#[test]
fn what_is_still_plugged_in_after_a_start_or_never_was_is_not_released() {
    let (mut rig, _) = plugged();
    restart(&mut rig, &["p1"]);
    assert_eq!((&rig.releases, &rig.claims), (&Vec::new(), &Vec::new()));
}

#[test]
fn nothing_counts_as_pulled_before_the_datapath_was_read() {
    let (mut rig, epoch) = plugged();
    rig.hold_datapath = true;
    restart(&mut rig, &[]);
    assert_eq!(rig.releases, []);
    rig.hold_datapath = false;
    rig.settle();
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.releases[0], release("p1", Some(epoch)));
}

/// p9 comes to this host.
pub(crate) fn place(rig: &mut Rig, publisher: &mut Publisher) {
    let port = Commit::Port(id("p9"), id("g1"), Policy::default());
    rig.send(&one(publisher.commit(&port)));
}

#[test]
fn what_comes_by_a_late_claim_after_it_was_given_back_is_given_back_again() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    plug(&mut rig, "p9", None);
    pull(&mut rig, "p9");
    assert_eq!(rig.releases, [release("p9", None)]);
    nothing(&mut rig, "p9");
    // The claim was longer on its way than the word that it is over.
    place(&mut rig, &mut publisher);
    rig.wake();
    assert_eq!(rig.releases[1..], [release("p9", Some(Epoch(1)))]);
    released(&mut rig, "p9");
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p9"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(Duration::from_secs(61));
    // Whoever places it now knows what they do.
    place(&mut rig, &mut publisher);
    rig.pass(Duration::from_secs(61));
    assert_eq!(rig.releases.len(), 2);
}

#[test]
fn a_claim_that_nobody_knew_of_when_it_was_taken_back_is_taken_back_once_more() {
    let mut rig = connected();
    plug(&mut rig, "p9", None);
    pull(&mut rig, "p9");
    nothing(&mut rig, "p9");
    rig.pass(Duration::from_secs(5));
    nothing(&mut rig, "p9");
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases, [release("p9", None), release("p9", None)]);
}

#[test]
fn what_is_pulled_is_released_until_that_is_heard() {
    let (mut rig, epoch) = plugged();
    pull(&mut rig, "p1");
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases, [release("p1", Some(epoch))]);
    answered(&mut rig, "p1", Some(epoch), Err(unheard()));
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.releases.len(), 2);
    hear_released(&mut rig);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.releases.len(), 2);
}

#[test]
fn what_is_plugged_in_while_the_bus_is_away_is_claimed_when_it_is_back() {
    let mut rig = connected();
    rig.event(HostEvent::Disconnected);
    plug(&mut rig, "p7", None);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.claims, []);
    rig.event(HostEvent::Connected);
    rig.pass(SOON);
    assert_eq!(rig.claims, [claim("p7", None)]);
}

#[test]
fn an_answer_for_a_plug_that_was_pulled_and_put_in_again_decides_nothing() {
    let mut rig = connected();
    plug(&mut rig, "p7", None);
    pull(&mut rig, "p7");
    answer(&mut rig, "p7", granted());
    assert_eq!(rig.releases, [release("p7", None)]);
    plug(&mut rig, "p7", None);
    assert_eq!(rig.claims.len(), 2);
}
