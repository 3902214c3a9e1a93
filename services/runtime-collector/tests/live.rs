// SPDX-License-Identifier: Apache-2.0
//! Questions for what a host has now, past the store.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::ProblemCode;
use dvs_schemas::v1::{LiveReply, LiveRequest};
use harness::{
    World, begun, changed, counters, host, live_reply, port, question, session, settled, state,
};
use runtime_collector::Answer;

#[test]
fn a_live_read_goes_past_the_store_and_leaves_it_as_it_was() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    let before = world.list();
    let now = live_reply(
        "h1",
        vec![state("web-1", 3, 9)],
        vec![counters("web-1", 3, 99)],
    );
    let of_port = LiveRequest {
        port: Some(port("web-1")),
        ..LiveRequest::default()
    };
    let (asked, reply) = world.live(of_port, Answer::Live(now.clone()));
    assert_eq!(asked, Some((host("h1"), question(Some("web-1"), None))));
    let now = LiveReply {
        totals: vec![counters("web-1", 3, 99)],
        ..now
    };
    assert_eq!(reply, Ok(now.clone()));
    let page = LiveReply {
        next: Some(port("web-1")),
        ..now
    };
    for after in [None, Some("web-0")] {
        let of_host = LiveRequest {
            host: Some(host("h1")),
            after: after.map(port),
            ..LiveRequest::default()
        };
        let (asked, reply) = world.live(of_host, Answer::Live(page.clone()));
        assert_eq!(asked, Some((host("h1"), question(None, after))));
        assert_eq!(reply, Ok(page.clone()));
    }
    assert_eq!(world.list(), before);
    world.crash();
    assert_eq!(world.list(), before);
}

#[test]
fn a_live_read_that_cannot_be_says_why() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    let of = |name: &str| LiveRequest {
        port: Some(port(name)),
        ..LiveRequest::default()
    };
    let of_and_after = LiveRequest {
        after: Some(port("web-0")),
        ..of("web-1")
    };
    let none = live_reply("h1", vec![], vec![]);
    let cases = [
        (
            LiveRequest::default(),
            Answer::TimedOut,
            ProblemCode::Invalid,
            "neither a port nor a host",
        ),
        (
            of_and_after,
            Answer::TimedOut,
            ProblemCode::Invalid,
            "one port has no pages",
        ),
        (
            of("web-9"),
            Answer::TimedOut,
            ProblemCode::NotFound,
            "no host has told of port web-9",
        ),
        (
            LiveRequest {
                host: Some(host("nohost")),
                ..LiveRequest::default()
            },
            Answer::NoResponder,
            ProblemCode::NotFound,
            "no host nohost was ever heard here, and nobody answers by that name",
        ),
        (
            of("web-1"),
            Answer::Live(LiveReply {
                session: session(2),
                ..none
            }),
            ProblemCode::NotFound,
            "host h1 does not have port web-1 now",
        ),
        (
            of("web-1"),
            Answer::TimedOut,
            ProblemCode::Unavailable,
            "host h1: no answer within 5s",
        ),
        (
            of("web-1"),
            Answer::NoResponder,
            ProblemCode::Unavailable,
            "host h1: nobody listens",
        ),
        (
            of("web-1"),
            Answer::NotSent("offline".to_owned()),
            ProblemCode::Unavailable,
            "host h1: offline",
        ),
        (
            of("web-1"),
            Answer::Refused("busy".to_owned()),
            ProblemCode::Unavailable,
            "host h1: busy",
        ),
    ];
    world.heartbeat("h1", 2, 0);
    let of_the_one_before = live_reply("h1", vec![state("web-1", 3, 9)], vec![]);
    let namesake = (
        of("web-1"),
        Answer::Live(of_the_one_before),
        ProblemCode::Unavailable,
        "an agent answered that is not this host's",
    );
    for (request, answer, code, text) in cases.into_iter().chain([namesake]) {
        let (_, reply) = world.live(request, answer);
        let problem = reply.unwrap_err();
        assert_eq!(problem.code, code);
        assert!(problem.message.contains(text), "{problem}");
    }
}

#[test]
fn a_live_reads_totals_are_those_of_all_placements_and_stored_nowhere() {
    let mut world = begun();
    world.settled(settled("h2", 1, 1, vec![counters("web-1", 1, 100)]));
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 10)]));
    let before = world.list();
    let total = |world: &mut World, packets| {
        let now = live_reply(
            "h1",
            vec![state("web-1", 3, 7)],
            vec![counters("web-1", 3, packets)],
        );
        let of_port = LiveRequest {
            port: Some(port("web-1")),
            ..LiveRequest::default()
        };
        let (_, reply) = world.live(of_port, Answer::Live(now));
        reply.unwrap().totals
    };
    assert_eq!(total(&mut world, 25), [counters("web-1", 3, 125)]);
    // A host whose counters began anew: never less than was settled.
    assert_eq!(total(&mut world, 4), [counters("web-1", 3, 110)]);
    assert_eq!(world.list(), before);
}
