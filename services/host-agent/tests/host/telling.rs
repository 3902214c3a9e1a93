// SPDX-License-Identifier: Apache-2.0
//! Runtime events: once per change, counters once they have settled, and
//! repeated until somebody has them.

use std::time::Duration;

use dvs_schemas::v1::{
    Changed, Clobber, Counters, CountersOf, Drift, EventAck, Link, PortGone, PortRuntime, Settled,
    V1,
};
use dvs_schemas::{Epoch, Format, Policy, Revision, Timestamp, codec};
use host_agent::datapath::{self, Notice, Part};
use host_agent::host::{Answer, HostEvent, RuntimeEvent};

use crate::history::{Commit, Message, Publisher};
use crate::rig::{QUIET, Rig, id};
use crate::versions::{access, one, settings, site};

/// Longer than any event lingers.
pub(crate) const SOON: Duration = Duration::from_secs(1);

pub(crate) fn changed(event: &RuntimeEvent) -> &Changed {
    match event {
        RuntimeEvent::Changed(changed) => changed,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn settled(event: &RuntimeEvent) -> &Settled {
    match event {
        RuntimeEvent::Settled(settled) => settled,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn acknowledge(rig: &mut Rig) {
    let seq = rig.told.last().unwrap().seq();
    rig.event(HostEvent::Acknowledged {
        seq,
        outcome: Ok(EventAck { v: V1, seq }),
    });
}

pub(crate) fn traffic(rig: &mut Rig, port: &str, bytes: u64) {
    let more = Counters {
        ingress_packets: 1,
        ingress_bytes: bytes,
        ..Counters::default()
    };
    rig.datapath.traffic(&id("prod"), &id(port), &more);
    rig.notices();
}

/// Somebody gave a port another VLAN: as the datapath says it, and as it is
/// told.
fn another_vlan(at: Timestamp) -> (HostEvent, Drift) {
    let noticed = datapath::Drift {
        switch: id("prod"),
        part: Part::Port(id("p1")),
        row: "Port tap1".to_owned(),
        column: Some("tag"),
        wanted: "10".to_owned(),
        found: "99".to_owned(),
        repaired: true,
    };
    let told = Drift {
        v: V1,
        host: id("h1"),
        session: crate::rig::SESSION,
        at,
        switch: id("prod"),
        port: Some(id("p1")),
        mirror: None,
        row: "Port tap1".to_owned(),
        column: Some("tag".to_owned()),
        wanted: "10".to_owned(),
        found: "99".to_owned(),
        repaired: true,
    };
    (HostEvent::Noticed(Notice::Drift(noticed)), told)
}

#[test]
fn what_somebody_else_changed_is_told_with_its_values() {
    let (mut rig, _) = told();
    let (noticed, told) = another_vlan(rig.now);
    rig.event(noticed);
    assert_eq!(rig.drifts, [told]);
}

#[test]
fn what_was_changed_while_the_agent_was_not_there_is_told_once_it_is_its_hosts() {
    let (mut rig, _) = told();
    rig.start_again();
    let (noticed, told) = another_vlan(rig.now);
    rig.event(noticed);
    assert_eq!(rig.drifts, []);
    rig.pass(SOON);
    rig.begin();
    assert_eq!(rig.drifts, [told]);
    rig.begin();
    assert_eq!(rig.drifts.len(), 1, "and once");
}

/// A connected host with the site, which has told of it.
pub(crate) fn told() -> (Rig, Publisher) {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(SOON);
    acknowledge(&mut rig);
    rig.told.clear();
    (rig, publisher)
}

#[test]
fn what_one_apply_changes_is_one_event() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(SOON);
    let port = |name: &str, revision| PortRuntime {
        port: id(name),
        switch: id("prod"),
        group: id("g1"),
        epoch: Epoch(1),
        revision: Revision(revision),
        link: Link::Up,
        vlan: access(10).vlan.unwrap(),
        blocked: false,
        mirrored: Vec::new(),
    };
    assert_eq!(rig.told.len(), 1);
    let event = changed(&rig.told[0]);
    assert_eq!(event.seq, 1);
    assert_eq!(event.ports, [port("p1", 3), port("p2", 4)]);
    assert_eq!(event.gone, []);
}

/// A host whose 80 ports have a trunk of 1,300 ranges each, more than a
/// message takes.
fn with_wide_ports() -> Rig {
    let ranges: Vec<String> = (0..1300)
        .map(|n| format!("\"{}-{}\"", n * 3 + 1, n * 3 + 2))
        .collect();
    let trunk = format!(
        r#"{{"vlan": {{"trunk": {{"vlans": [{}]}}}}}}"#,
        ranges.join(",")
    );
    let mut publisher = Publisher::new(5);
    publisher.commit(&Commit::Settings(settings(1500)));
    let trunk: Policy = serde_json::from_str(&trunk).unwrap();
    publisher.commit(&Commit::Group(id("g1"), trunk));
    for n in 0..80 {
        let port = id(&format!("p{n}"));
        publisher.commit(&Commit::Port(port, id("g1"), Policy::default()));
    }
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig
}

/// A message of these bytes also passes where `max_payload` is far below
/// nats-server's default.
fn passes(message: &impl serde::Serialize) {
    for format in [Format::Json, Format::MessagePack] {
        let size = codec::encode(format, message).unwrap().len();
        assert!(size <= codec::REQUEST_MAX / 8, "{size} bytes");
    }
}

#[test]
fn every_port_is_told_however_large_all_of_them_are() {
    let mut rig = with_wide_ports();
    let mut told = Vec::new();
    for n in 0.. {
        rig.pass(SOON);
        let Some(event) = rig.told.get(n).cloned() else {
            break;
        };
        passes(changed(&event));
        told.extend(changed(&event).ports.iter().map(|port| port.port.clone()));
        acknowledge(&mut rig);
    }
    told.sort();
    let picture = rig.datapath.picture();
    assert!(told.iter().eq(picture["prod"].ports.keys()), "{told:?}");
}

#[test]
fn pages_of_a_live_read_hold_every_port_once() {
    let mut rig = with_wide_ports();
    traffic(&mut rig, "p7", 100);
    let (mut ports, mut counters) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let Answer::Live(page) = rig.ask_live_after(None, after) else {
            panic!("no live state");
        };
        passes(&page);
        ports.extend(page.ports.into_iter().map(|state| state.port));
        counters.extend(page.counters.into_iter().map(|of| of.port));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let picture = rig.datapath.picture();
    assert!(ports.iter().eq(picture["prod"].ports.keys()), "{ports:?}");
    assert_eq!(counters, ports);
}

#[test]
fn an_event_is_repeated_as_it_is_until_it_is_acknowledged() {
    let (mut rig, mut publisher) = told();
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    rig.pass(SOON);
    let first = rig.told[0].clone();
    for _ in 0..3 {
        rig.event(HostEvent::Acknowledged {
            seq: first.seq(),
            outcome: Err(crate::plugging::unheard()),
        });
        rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(21)))));
        rig.pass(Duration::from_secs(60));
    }
    assert_eq!(rig.told.len(), 4);
    assert!(rig.told.iter().all(|event| *event == first));
    acknowledge(&mut rig);
    rig.pass(SOON);
    // Three changes came meanwhile: the last value is all that is left.
    assert_eq!(rig.told.len(), 5);
    let event = changed(&rig.told[4]);
    assert_eq!(event.seq, first.seq() + 1);
    let vlans: Vec<_> = event.ports.iter().map(|port| port.vlan.clone()).collect();
    assert_eq!(vlans, vec![access(21).vlan.unwrap(); 2]);
    acknowledge(&mut rig);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.told.len(), 5, "a quiet host says nothing");
}

#[test]
fn nothing_is_told_while_the_bus_is_away_and_all_of_it_after() {
    let (mut rig, mut publisher) = told();
    rig.event(HostEvent::Disconnected);
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.told.len(), 0);
    rig.event(HostEvent::Connected);
    rig.pass(SOON);
    let gone = PortGone {
        port: id("p1"),
        epoch: Epoch(1),
    };
    assert_eq!(changed(&rig.told[0]).gone, [gone]);
    // Its counters ended with it.
    acknowledge(&mut rig);
    rig.pass(SOON);
    assert_eq!(settled(&rig.told[1]).counters.len(), 1);
}

#[test]
fn a_link_that_goes_down_is_told_and_settles_the_counters() {
    let (mut rig, _) = told();
    traffic(&mut rig, "p1", 100);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    rig.pass(SOON);
    assert_eq!(changed(&rig.told[0]).ports[0].link, Link::Down);
    acknowledge(&mut rig);
    rig.pass(SOON);
    let expected = CountersOf {
        port: id("p1"),
        epoch: Epoch(1),
        counters: Counters {
            ingress_packets: 1,
            ingress_bytes: 100,
            ..Counters::default()
        },
    };
    assert_eq!(settled(&rig.told[1]).counters, [expected]);
}

#[test]
fn counters_that_have_settled_wait_for_one_change_however_many_follow() {
    let (mut rig, _) = told();
    traffic(&mut rig, "p1", 100);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    rig.pass(SOON);
    for link in [Link::Down, Link::Up, Link::Down] {
        // The next change is there before the last one is acknowledged.
        rig.datapath.link(&id("prod"), &id("p2"), link);
        rig.notices();
        acknowledge(&mut rig);
        rig.pass(SOON);
    }
    assert_eq!(changed(&rig.told[0]).ports[0].port, id("p1"));
    assert_eq!(settled(&rig.told[1]).counters[0].port, id("p1"));
    assert_eq!(changed(&rig.told[2]).ports[0].port, id("p2"));
}

#[test]
fn counters_are_told_when_they_stand_still_and_then_once() {
    let (mut rig, _) = told();
    for n in 0..20 {
        traffic(&mut rig, "p1", n);
        rig.pass(QUIET / 2);
    }
    assert_eq!(rig.told.len(), 0, "they move");
    rig.pass(QUIET * 3);
    assert_eq!(rig.told.len(), 1);
    assert_eq!(
        settled(&rig.told[0]).counters[0].counters.ingress_packets,
        20
    );
    acknowledge(&mut rig);
    rig.pass(Duration::from_secs(3600));
    assert_eq!(rig.told.len(), 1);
}

#[test]
fn a_new_epoch_begins_its_counters_anew_and_tells_those_of_the_old() {
    let (mut rig, mut publisher) = told();
    traffic(&mut rig, "p1", 100);
    publisher.commit(&Commit::NoPort(id("p1")));
    let back = one(publisher.commit(&Commit::Port(id("p1"), id("g1"), Policy::default())));
    // The removal got lost: the port changes its epoch where it is.
    rig.send(&back);
    rig.pass(SOON);
    assert_eq!(changed(&rig.told[0]).ports[0].epoch, Epoch(2));
    acknowledge(&mut rig);
    rig.pass(SOON);
    let of = &settled(&rig.told[1]).counters[0];
    assert_eq!((of.epoch, of.counters.ingress_bytes), (Epoch(1), 100));
    let Answer::Live(live) = rig.ask_live(Some("p1")) else {
        panic!("no live state");
    };
    assert_eq!(live.ports[0].epoch, Epoch(2));
}

#[test]
fn a_port_that_is_on_another_switch_by_now_is_not_told_as_gone() {
    let (mut rig, mut publisher) = told();
    // All of it waits for an apply, and is planned at once, lab first.
    rig.hold_datapath = true;
    rig.send(&one(publisher.commit(&Commit::Group(id("g1"), access(20)))));
    let Some(Message::Remove(remove)) = publisher.commit(&Commit::NoPort(id("p1"))).pop() else {
        panic!("no removal");
    };
    rig.send_remove(&remove);
    publisher.commit(&Commit::NoPort(id("p2")));
    publisher.commit(&Commit::Port(id("p1"), id("g1"), Policy::default()));
    rig.send(&Clobber {
        switch: id("lab"),
        ..publisher.full()
    });
    rig.hold_datapath = false;
    rig.settle();
    rig.pass(SOON);
    let events = rig.told.iter().map(|event| changed(event));
    let told: Vec<_> = events
        .flat_map(|event| {
            assert_eq!(event.gone, []);
            event.ports.iter()
        })
        .map(|port| (port.port.as_str(), port.switch.as_str(), port.epoch))
        .collect();
    assert_eq!(told, [("p1", "lab", Epoch(2)), ("p2", "prod", Epoch(1))]);
}

#[test]
fn mirroring_is_told_of_the_ports_it_copies() {
    let (mut rig, mut publisher) = told();
    rig.send(&one(publisher.commit(&Commit::Mirror(
        id("tap"),
        id("p1"),
        id("p2"),
    ))));
    rig.pass(SOON);
    let event = changed(&rig.told[0]);
    assert_eq!(event.ports.len(), 1);
    assert_eq!(event.ports[0].port, id("p1"));
    assert_eq!(event.ports[0].mirrored, [id("tap")]);
}

#[test]
fn a_change_by_somebody_else_is_repaired() {
    let (mut rig, _) = told();
    let picture = rig.datapath.picture();
    rig.datapath.disturb(|picture| {
        picture.get_mut("prod").unwrap().ports.remove("p1");
    });
    rig.notices();
    assert_eq!(rig.datapath.picture(), picture);
}

#[test]
fn a_live_read_shows_what_is_there_now_and_refuses_unknown_ports() {
    let (mut rig, _) = told();
    rig.datapath.link(&id("prod"), &id("p2"), Link::Down);
    let Answer::Live(live) = rig.ask_live(None) else {
        panic!("no live state");
    };
    let links: Vec<_> = live.ports.iter().map(|port| port.link).collect();
    assert_eq!(links, [Link::Up, Link::Down]);
    let Answer::Problem(problem) = rig.ask_live(Some("p7")) else {
        panic!("no problem");
    };
    assert_eq!(problem.to_string(), "port: port p7 is not on host h1");
}

#[test]
fn what_a_live_read_saw_and_no_notice_told_of_does_not_stay() {
    let (mut rig, _) = told();
    rig.datapath.link(&id("prod"), &id("p2"), Link::Down);
    rig.ask_live(None);
    rig.datapath.link(&id("prod"), &id("p2"), Link::Up);
    rig.pass(SOON);
    let event = changed(&rig.told[0]);
    let links: Vec<_> = event
        .ports
        .iter()
        .map(|port| (&port.port, port.link))
        .collect();
    assert_eq!(links, [(&id("p2"), Link::Up)]);
    acknowledge(&mut rig);
    rig.ask_live(None);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.told.len(), 1, "what was told already is told no more");
}

#[test]
fn a_new_run_tells_of_all_ports_once() {
    let (mut rig, _) = told();
    rig.restart();
    rig.event(HostEvent::Connected);
    rig.pass(SOON);
    let event = changed(&rig.told[0]);
    assert_eq!((event.seq, event.ports.len()), (1, 2));
    acknowledge(&mut rig);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.told.len(), 1);
}
