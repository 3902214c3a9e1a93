// SPDX-License-Identifier: Apache-2.0
//! What becomes of what a host told that is forgotten.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::v1::Fetched;
use dvs_schemas::v1::{RollupBy, RollupKey, RuntimeRecord, RuntimeRollupRequest};
use harness::{
    Publisher, World, begun, changed, counters, host, live_reply, placement, settled, state,
};
use runtime_collector::{Answer, Event, ReplyToken};

/// Host h1 has web-1 in epoch 3 and web-2 in epoch 4, and has counted.
fn world() -> World {
    let mut world = begun();
    let ports = vec![state("web-1", 3, 2), state("web-2", 4, 2)];
    world.changed(changed("h1", 1, 1, ports));
    let counted = vec![counters("web-1", 3, 30), counters("web-2", 4, 40)];
    world.settled(settled("h1", 1, 2, counted));
    world
}

fn hosts(world: &mut World) -> Vec<RollupKey> {
    let request = RuntimeRollupRequest {
        by: RollupBy::Host,
        switch: None,
        group: None,
        host: None,
        after: None,
    };
    let rows = world.rollup(request, 1 << 20).unwrap().rows;
    rows.into_iter().map(|row| row.key).collect()
}

/// Whether the port is there, and its packets over all placements.
fn short(record: &RuntimeRecord) -> (bool, Option<u64>) {
    let total = record.total.map(|total| total.ingress_packets);
    (record.state.is_some(), total)
}

#[test]
fn the_ports_of_a_forgotten_host_are_gone_and_keep_their_totals() {
    let mut world = world();
    assert_eq!(world.forget("h1", 7), 2);
    for _ in 0..2 {
        assert_eq!(short(&world.get("web-1").unwrap()), (false, Some(30)));
        assert_eq!(short(&world.get("web-2").unwrap()), (false, Some(40)));
        assert_eq!(hosts(&mut world), []);
        assert_eq!(world.core.hosts(), 0);
        assert_eq!(
            world.history("web-1").last().unwrap(),
            "9000 h1 in 3 (forgotten): gone"
        );
        // The same after a restart, and when the word comes again.
        world.crash();
        assert_eq!(world.forget("h1", 7), 0);
    }
}

#[test]
fn what_a_later_life_of_the_host_told_stays() {
    let mut world = world();
    world.changed(changed("h1", 2, 1, vec![state("web-1", 8, 2)]));
    assert_eq!(world.forget("h1", 7), 1);
    assert!(world.get("web-1").unwrap().state.is_some());
    assert!(world.get("web-2").unwrap().state.is_none());
    assert_eq!(hosts(&mut world), [RollupKey::Host(host("h1"))]);
    // Its run is the same still: what it tells next is newer.
    world.changed(changed("h1", 2, 2, vec![state("web-1", 8, 3)]));
    let link = world.get("web-1").unwrap().state.unwrap().link;
    assert_eq!(link, state("web-1", 8, 3).link);
}

#[test]
fn a_forgotten_host_that_comes_back_is_heard_of_what_it_gets_then() {
    let mut world = world();
    world.forget("h1", 7);
    // With what it had when it fell silent: that is over.
    let ask = world.heartbeat("h1", 2, 0).unwrap();
    let had = live_reply("h1", vec![state("web-1", 3, 2)], vec![]);
    world.answer(ask, Answer::Live(had));
    assert!(world.get("web-1").unwrap().state.is_none());
    // And what it counted late still is its own.
    world.settled(settled("h1", 2, 1, vec![counters("web-1", 3, 33)]));
    assert_eq!(short(&world.get("web-1").unwrap()), (false, Some(33)));
    world.changed(changed("h1", 2, 2, vec![state("web-1", 9, 2)]));
    assert!(world.get("web-1").unwrap().state.is_some());
    assert_eq!(hosts(&mut world), [RollupKey::Host(host("h1"))]);
}

#[test]
fn what_another_host_told_stays() {
    let mut world = world();
    world.changed(changed("h2", 1, 1, vec![state("web-1", 5, 2)]));
    assert_eq!(world.forget("h1", 7), 1);
    assert_eq!(hosts(&mut world), [RollupKey::Host(host("h2"))]);
    assert_eq!(world.get("web-1").unwrap().host, host("h2"));
}

/// h2 says that it has web-1, newer than h1 did, in one way; it waits for the
/// publisher.
type Way = fn(&mut World);

const WAYS: [(&str, Way); 3] = [
    ("event", |world| {
        let (reply, event) = (
            ReplyToken(0),
            changed("h2", 1, 1, vec![state("web-1", 5, 2)]),
        );
        assert_eq!(world.turn([Event::Changed { event, reply }]), []);
    }),
    ("fetched", |world| {
        assert_eq!(world.notice("h2", 1, 1, &["web-1"]), []);
        let (ask, ..) = world.fetches.pop().unwrap();
        let event = Fetched::Changed(changed("h2", 1, 1, vec![state("web-1", 5, 2)]));
        let answer = Answer::Fetched(event);
        assert_eq!(world.turn([Event::Answered { ask, answer }]), []);
    }),
    ("counters", |world| {
        let (reply, event) = (
            ReplyToken(0),
            settled("h2", 1, 1, vec![counters("web-1", 5, 7)]),
        );
        assert_eq!(world.turn([Event::Settled { event, reply }]), []);
    }),
];

#[test]
fn what_waits_for_the_publisher_revives_nothing_of_a_host_that_was_forgotten_meanwhile() {
    for (how, tell) in WAYS {
        let mut world = world();
        world.publisher = Publisher::Silent;
        tell(&mut world);
        world.forget("h2", 7);
        // The commit that forgot it took the port from it.
        world.publisher = Publisher::Has(vec![placement("web-1", 7, None)]);
        assert_eq!(world.placements().len(), 1, "{how}");
        let counted = if how == "counters" { 37 } else { 30 };
        for _ in 0..2 {
            let record = world.get("web-1").unwrap();
            assert_eq!(short(&record), (false, Some(counted)), "{how}");
            assert_eq!(record.host, host("h2"), "{how}");
            let last = world.history("web-1").pop().unwrap();
            assert_eq!(last, "9000 h2 in 5 (forgotten): gone", "{how}");
            assert_eq!(hosts(&mut world), [RollupKey::Host(host("h1"))], "{how}");
            assert_eq!(world.core.hosts(), 1, "{how}");
            world.crash();
        }
    }
}

#[test]
fn a_fetch_under_way_revives_nothing_of_a_host_that_was_forgotten_meanwhile() {
    let mut world = world();
    assert_eq!(world.notice("h2", 1, 1, &["web-9"]), []);
    world.forget("h2", 7);
    let (ask, ..) = world.fetches.pop().unwrap();
    let event = Fetched::Changed(changed("h2", 1, 1, vec![state("web-9", 5, 2)]));
    let answer = Answer::Fetched(event);
    assert_eq!(world.turn([Event::Answered { ask, answer }]).len(), 1);
    assert!(world.get("web-9").unwrap().state.is_none());
    assert_eq!(world.core.hosts(), 1);
}

#[test]
fn of_a_later_life_of_the_host_what_waits_is_taken_as_ever() {
    let mut world = world();
    world.publisher = Publisher::Silent;
    let (reply, event) = (
        ReplyToken(0),
        changed("h2", 1, 1, vec![state("web-1", 9, 2)]),
    );
    assert_eq!(world.turn([Event::Changed { event, reply }]), []);
    world.forget("h2", 7);
    world.publisher = Publisher::Has(vec![placement("web-1", 9, Some("h2"))]);
    assert_eq!(world.placements().len(), 1);
    assert_eq!(
        world.get("web-1").unwrap().state,
        Some(state("web-1", 9, 2))
    );
    assert_eq!(world.core.hosts(), 2);
    // The word that it was forgotten is over: what it tells next counts.
    world.changed(changed("h2", 1, 2, vec![state("web-8", 6, 2)]));
    assert!(world.get("web-8").unwrap().state.is_some());
}
