// SPDX-License-Identifier: Apache-2.0
//! Events that are fetched: the store is as if they had been pushed.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::ProblemCode;
use dvs_schemas::v1::{Changed, EventAck, Fetch, Fetched, V1};
use harness::{World, begun, changed, counters, gone, host, session, settled, state};
use runtime_collector::{Answer, ReplyBody};

/// Gives notice of an event and lets it be fetched.
fn fetch(world: &mut World, seq: u64, event: Fetched) {
    assert_eq!(world.notice("h1", 1, seq, &["web-1"]), []);
    let (ask, from, question) = world.fetches.pop().unwrap();
    let expected = Fetch {
        v: V1,
        session: session(1),
        seq,
    };
    assert_eq!((from, question), (host("h1"), expected));
    let replies = answer(world, ask, Answer::Fetched(event));
    assert_eq!(replies, [Ok(ReplyBody::Ack(EventAck { v: V1, seq }))]);
}

fn answer(
    world: &mut World,
    ask: runtime_collector::AskId,
    answer: Answer,
) -> Vec<Result<ReplyBody, dvs_schemas::Problem>> {
    world.turn([runtime_collector::Event::Answered { ask, answer }])
}

#[test]
fn what_is_fetched_is_stored_as_if_it_had_been_pushed() {
    let events = || {
        [
            Fetched::Changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)])),
            Fetched::Settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)])),
            Fetched::Changed(Changed {
                gone: vec![gone("web-1", 3)],
                ..changed("h1", 1, 3, vec![])
            }),
        ]
    };
    let (mut pushed, mut fetched) = (begun(), begun());
    for (seq, event) in (1..).zip(events()) {
        match event.clone() {
            Fetched::Changed(event) => pushed.changed(event),
            Fetched::Settled(event) => pushed.settled(event),
            Fetched::Conditions(event) => pushed.conditions(event),
        }
        fetch(&mut fetched, seq, event);
        assert_eq!(fetched.get("web-1"), pushed.get("web-1"));
        assert_eq!(fetched.history("web-1"), pushed.history("web-1"));
    }
    // There is no gap either.
    assert_eq!(fetched.heartbeat("h1", 1, 3), None);
    assert_eq!(fetched.heartbeat("h1", 1, 3), None);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    let ack = EventAck { v: V1, seq: 1 };
    assert_eq!(
        world.notice("h1", 1, 1, &["web-1"]),
        [Ok(ReplyBody::Ack(ack))]
    );
    assert_eq!(world.fetches, []);
}

#[test]
fn the_last_counters_of_a_session_that_is_over_are_fetched_as_they_are_taken_when_pushed() {
    let last = || settled("h1", 1, 2, vec![counters("web-1", 3, 50)]);
    let (mut pushed, mut fetched) = (begun(), begun());
    for world in [&mut pushed, &mut fetched] {
        world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
        world.heartbeat("h1", 2, 0).unwrap();
    }
    pushed.settled(last());
    fetch(&mut fetched, 2, Fetched::Settled(last()));
    assert_eq!(fetched.get("web-1"), pushed.get("web-1"));
    let counted = fetched.get("web-1").unwrap().counters;
    assert_eq!(counted, Some(counters("web-1", 3, 50).counters));
}

#[test]
fn what_could_not_be_fetched_is_not_acknowledged() {
    let wrong = Fetched::Changed(changed("h1", 1, 2, vec![state("web-1", 3, 7)]));
    let of_another = Fetched::Changed(changed("h2", 1, 1, vec![state("web-1", 3, 7)]));
    for bad in [
        Answer::TimedOut,
        Answer::NoResponder,
        Answer::NotSent("the bus is away".to_owned()),
        Answer::Refused("event 1 is not under way".to_owned()),
        Answer::Fetched(wrong),
        Answer::Fetched(of_another),
    ] {
        let mut world = begun();
        world.notice("h1", 1, 1, &["web-1"]);
        let (ask, ..) = world.fetches.pop().unwrap();
        let replies = answer(&mut world, ask, bad);
        let problem = replies[0].clone().unwrap_err();
        assert_eq!(problem.code, ProblemCode::Unavailable);
        assert!(
            problem
                .message
                .starts_with("event 1 of host h1 could not be fetched")
        );
        assert!(world.get("web-1").is_err(), "nothing is stored");
        // The host repeats it.
        fetch(
            &mut world,
            1,
            Fetched::Changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)])),
        );
    }
}

#[test]
fn a_notice_that_dies_with_the_collector_is_repeated_by_the_host_and_lost_to_nobody() {
    let mut world = begun();
    world.notice("h1", 1, 1, &["web-1"]);
    world.crash();
    fetch(
        &mut world,
        1,
        Fetched::Changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)])),
    );
    assert!(world.get("web-1").is_ok());
}
