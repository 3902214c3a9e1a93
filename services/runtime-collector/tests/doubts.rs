// SPDX-License-Identifier: Apache-2.0
//! Hosts that tell of ports which they may not hold: the publisher's word comes
//! before theirs.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::v1::{
    Changed, EventAck, EventNotice, Fetched, LiveReply, PortRuntime, RuntimeRecord, Settled, V1,
};
use dvs_schemas::{Problem, ProblemCode};
use harness::{
    Publisher, World, changed, counters, gone, host, live_reply, placement, port, question,
    session, settled, state,
};
use runtime_collector::{Answer, DOUBTED, Event, ReplyBody, ReplyToken, Settings};

type Replies = Vec<Result<ReplyBody, Problem>>;

/// `web-1` is on h1, in epoch 5, and told of.
fn held() -> World {
    let mut world = World::new();
    for name in ["h1", "h2"] {
        let ask = world.heartbeat(name, 1, 0).unwrap();
        world.answer(ask, Answer::Live(live_reply(name, vec![], vec![])));
    }
    world.changed(changed("h1", 1, 1, vec![state("web-1", 5, 8)]));
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 5, 50)]));
    world.publisher = Publisher::Has(vec![placement("web-1", 5, Some("h1"))]);
    assert_eq!(world.doubts, 0);
    world
}

fn ack(seq: u64) -> Replies {
    vec![Ok(ReplyBody::Ack(EventAck { v: V1, seq }))]
}

/// h2 says that it has `web-1` and has counted, in one way.
type Way = fn(&mut World, u64) -> Replies;

fn of_changed(event: Changed) -> Event {
    let reply = ReplyToken(0);
    Event::Changed { event, reply }
}

fn of_settled(event: Settled) -> Event {
    let reply = ReplyToken(0);
    Event::Settled { event, reply }
}

fn here(epoch: u64) -> Changed {
    changed("h2", 1, 1, vec![state("web-1", epoch, 9)])
}

fn fetched(world: &mut World, event: Fetched) -> Replies {
    assert_eq!(world.notice("h2", 1, 1, &["web-1"]), []);
    let (ask, ..) = world.fetches.pop().unwrap();
    let answer = Answer::Fetched(event);
    world.turn([Event::Answered { ask, answer }])
}

const EVENTS: [(&str, Way); 5] = [
    ("here", |world, epoch| world.turn([of_changed(here(epoch))])),
    ("gone", |world, epoch| {
        world.turn([of_changed(Changed {
            gone: vec![gone("web-1", epoch)],
            ..changed("h2", 1, 1, vec![])
        })])
    }),
    ("counters", |world, epoch| {
        let of = vec![counters("web-1", epoch, 7)];
        world.turn([of_settled(settled("h2", 1, 1, of))])
    }),
    ("fetched here", |world, epoch| {
        fetched(world, Fetched::Changed(here(epoch)))
    }),
    ("fetched counters", |world, epoch| {
        let of = vec![counters("web-1", epoch, 7)];
        fetched(world, Fetched::Settled(settled("h2", 1, 1, of)))
    }),
];

/// h2's snapshot says so.
fn snapshot(world: &mut World, page: LiveReply) {
    assert_eq!(world.heartbeat("h2", 1, 9), None);
    let ask = world.heartbeat("h2", 1, 9).unwrap();
    assert_eq!(world.answer(ask, Answer::Live(page)), []);
}

fn page(epoch: u64) -> LiveReply {
    let here = vec![state("web-1", epoch, 9), state("web-2", 3, 9)];
    live_reply("h2", here, vec![counters("web-1", epoch, 7)])
}

fn shown(world: &mut World) -> (RuntimeRecord, Vec<String>) {
    (world.get("web-1").unwrap(), world.history("web-1"))
}

#[test]
fn a_placement_that_never_was_changes_nothing_however_it_is_told() {
    // Newer than the publisher's; and the publisher's, but another's.
    let cases = [
        (9, placement("web-1", 5, Some("h1"))),
        (u64::MAX, placement("web-1", 5, None)),
        (7, placement("web-1", 7, Some("h1"))),
        (7, placement("web-1", 7, None)),
    ];
    for (epoch, at) in cases {
        for (how, tell) in EVENTS {
            let mut world = held();
            world.publisher = Publisher::Has(vec![at.clone()]);
            let before = shown(&mut world);
            assert_eq!(tell(&mut world, epoch), ack(1), "{how}");
            assert_eq!(world.doubts, 1, "{how}");
            assert_eq!(shown(&mut world), before, "{how}");
            world.crash();
            assert_eq!(shown(&mut world), before, "{how}");
            // It is there, and not told again.
            assert_eq!(world.heartbeat("h2", 1, 1), None);
            assert_eq!(world.heartbeat("h2", 1, 1), None, "{how}");
        }
        let mut world = held();
        world.publisher = Publisher::Has(vec![at]);
        let before = shown(&mut world);
        snapshot(&mut world, page(epoch));
        assert_eq!(shown(&mut world), before);
        // The rest of the page is as good as ever.
        assert_eq!(
            world.get("web-2").unwrap().state,
            Some(state("web-2", 3, 9))
        );
        assert_eq!(world.doubts, 1);
        assert_eq!(world.heartbeat("h2", 1, 9), None, "the gap is filled");
    }
}

#[test]
fn a_placement_that_is_or_was_is_taken_as_if_nobody_had_doubted_it() {
    let cases = [
        vec![placement("web-1", 7, Some("h2"))],
        // It has gone on since.
        vec![placement("web-1", 9, Some("h3"))],
        vec![placement("web-1", 9, None)],
        // It was deleted.
        vec![],
    ];
    for at in cases {
        for (how, tell) in EVENTS {
            let mut world = held();
            world.publisher = Publisher::Has(at.clone());
            assert_eq!(tell(&mut world, 7), ack(1), "{how}");
            assert_eq!(world.doubts, 1, "{how}");
            let (record, _) = shown(&mut world);
            assert_eq!(record.host, host("h2"), "{how}");
            let counted = if how.ends_with("counters") { 57 } else { 50 };
            let total = counters("web-1", 7, counted).counters;
            assert_eq!(record.total, Some(total), "{how}");
            // From then on it is known.
            world.changed(changed("h2", 1, 2, vec![state("web-1", 7, 10)]));
            assert_eq!(world.doubts, 1, "{how}");
        }
        let mut world = held();
        world.publisher = Publisher::Has(at);
        snapshot(&mut world, page(7));
        let (record, _) = shown(&mut world);
        assert_eq!(record.state, Some(state("web-1", 7, 9)));
        let total = counters("web-1", 7, 57).counters;
        assert_eq!(record.total, Some(total));
    }
}

#[test]
fn of_one_event_what_is_so_is_taken_and_what_is_not_is_left_out() {
    let mut world = held();
    world.changed(changed("h1", 1, 3, vec![state("web-2", 5, 8)]));
    world.publisher = Publisher::Has(vec![
        placement("web-1", 7, Some("h2")),
        placement("web-2", 5, Some("h1")),
    ]);
    let before = world.get("web-2");
    let here: Vec<PortRuntime> = ["web-1", "web-2", "web-3"]
        .map(|name| state(name, 7, 8))
        .into();
    world.changed(changed("h2", 1, 1, here));
    assert_eq!(world.get("web-2"), before);
    for name in ["web-1", "web-3"] {
        assert_eq!(world.get(name).unwrap().state, Some(state(name, 7, 8)));
    }
    assert_eq!(world.doubts, 1, "one question for all");
}

#[test]
fn the_first_sight_of_a_port_and_what_is_no_newer_than_known_need_no_publisher() {
    let mut world = held();
    world.publisher = Publisher::Silent;
    world.changed(changed("h2", 1, 1, vec![state("web-2", 9, 8)]));
    world.changed(changed("h1", 1, 3, vec![state("web-1", 5, 10)]));
    world.changed(changed("h2", 1, 2, vec![state("web-1", 4, 8)]));
    world.settled(settled("h2", 1, 3, vec![counters("web-1", 4, 7)]));
    assert_eq!(world.doubts, 0);
    let total = counters("web-1", 7, 57).counters;
    assert_eq!(world.get("web-1").unwrap().total, Some(total));
}

#[test]
fn the_host_that_held_a_port_last_is_believed_no_more_than_others() {
    let mut world = held();
    world.changed(Changed {
        gone: vec![gone("web-1", 5)],
        ..changed("h1", 1, 3, vec![])
    });
    world.publisher = Publisher::Has(vec![placement("web-1", 6, None)]);
    let before = shown(&mut world);
    world.changed(changed("h1", 1, 4, vec![state("web-1", 1_000_000, 8)]));
    assert_eq!(shown(&mut world), before);
    // It gets the port again.
    world.publisher = Publisher::Has(vec![placement("web-1", 8, Some("h1"))]);
    world.changed(changed("h1", 1, 5, vec![state("web-1", 8, 8)]));
    assert_eq!(shown(&mut world).0.state, Some(state("web-1", 8, 8)));
}

#[test]
fn without_the_publisher_nothing_in_doubt_is_stored_and_the_event_is_told_again() {
    let answers = [
        Answer::TimedOut,
        Answer::NoResponder,
        Answer::NotSent("the bus is away".to_owned()),
        Answer::Refused("no".to_owned()),
        Answer::Live(page(7)),
    ];
    for answer in answers {
        for (how, tell) in EVENTS {
            let mut world = held();
            let before = shown(&mut world);
            world.publisher = Publisher::Silent;
            assert_eq!(tell(&mut world, 7), [], "{how}");
            let (ask, ports) = world.unanswered.pop().unwrap();
            assert_eq!(ports, [port("web-1")]);
            let answer = answer.clone();
            let replies = world.turn([Event::Answered { ask, answer }]);
            let problem = replies[0].clone().unwrap_err();
            assert_eq!(problem.code, ProblemCode::Unavailable, "{how}");
            assert!(problem.message.contains("event 1 of host h2"), "{problem}");
            assert_eq!(shown(&mut world), before, "{how}");
            world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("h2"))]);
            assert_eq!(tell(&mut world, 7), ack(1), "{how}");
            assert_ne!(shown(&mut world), before, "{how}");
        }
        let mut world = held();
        let before = shown(&mut world);
        world.publisher = Publisher::Silent;
        snapshot(&mut world, page(7));
        let (ask, _) = world.unanswered.pop().unwrap();
        world.turn([Event::Answered { ask, answer }]);
        assert_eq!(shown(&mut world), before);
        world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("h2"))]);
        snapshot(&mut world, page(7));
        assert_ne!(shown(&mut world), before);
    }
}

#[test]
fn an_event_that_is_told_again_while_it_waits_is_taken_once() {
    let mut world = held();
    world.publisher = Publisher::Silent;
    let of = || of_settled(settled("h2", 1, 1, vec![counters("web-1", 7, 7)]));
    assert_eq!(world.turn([of()]), []);
    let again = world.turn([of()]).remove(0).unwrap_err();
    assert_eq!(again.code, ProblemCode::Unavailable);
    assert_eq!(world.doubts, 1);
    world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("h2"))]);
    assert_eq!(world.placements(), ack(1));
    assert_eq!(world.turn([of()]), ack(1));
    let total = counters("web-1", 7, 57).counters;
    assert_eq!(world.get("web-1").unwrap().total, Some(total));
    // A crash leaves nobody waiting.
    world.publisher = Publisher::Silent;
    let back = || of_changed(changed("h1", 1, 3, vec![state("web-1", 9, 8)]));
    assert_eq!(world.turn([back()]), []);
    world.crash();
    world.publisher = Publisher::Has(vec![placement("web-1", 9, Some("h1"))]);
    assert_eq!(world.turn([back()]), ack(3));
}

#[test]
fn events_that_wait_are_bounded_and_each_host_gets_its_own_in() {
    let mut world = held();
    let hosts: Vec<String> = (0..DOUBTED + 10).map(|n| format!("x{n}")).collect();
    let tell = |world: &mut World, name: &str| {
        world.turn([of_changed(changed(name, 1, 1, vec![state("web-1", 7, 8)]))])
    };
    world.publisher = Publisher::Silent;
    let told: Vec<Replies> = hosts.iter().map(|name| tell(&mut world, name)).collect();
    let refused: Vec<Replies> = told.into_iter().filter(|told| !told.is_empty()).collect();
    assert_eq!((world.unanswered.len(), refused.len()), (DOUBTED, 10));
    for refused in refused {
        let code = refused[0].clone().unwrap_err().code;
        assert_eq!(code, ProblemCode::Unavailable);
    }
    world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("x3"))]);
    assert_eq!(world.placements().len(), DOUBTED);
    for name in &hosts[DOUBTED..] {
        assert_eq!(tell(&mut world, name), ack(1));
    }
    assert_eq!(world.get("web-1").unwrap().host, host("x3"));
}

/// h2 says something of `web-2`, of which nobody has told yet, and of `web-1`.
fn also_in_doubt(world: &mut World, counted: bool) -> Replies {
    let event = if counted {
        let of = vec![counters("web-1", 7, 7), counters("web-2", 3, 9)];
        of_settled(settled("h2", 1, 1, of))
    } else {
        let here = vec![state("web-1", 7, 8), state("web-2", 3, 8)];
        of_changed(changed("h2", 1, 1, here))
    };
    world.turn([event])
}

#[test]
fn what_is_in_no_doubt_is_known_at_once_and_the_rest_once_it_is_judged() {
    for (so, counted) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = held();
        world.publisher = Publisher::Silent;
        let before = shown(&mut world);
        // Told, told again while it waits, and once more after a crash.
        assert_eq!(also_in_doubt(&mut world, counted), []);
        let again = also_in_doubt(&mut world, counted);
        let code = again[0].clone().unwrap_err().code;
        assert_eq!(code, ProblemCode::Unavailable);
        world.crash();
        assert_eq!(also_in_doubt(&mut world, counted), []);
        assert_eq!(world.unanswered[0].1, [port("web-1")]);
        assert_eq!(shown(&mut world), before, "that is in doubt");
        let known = world.get("web-2").unwrap();
        let packets = known.total.map(|total| total.ingress_packets);
        let what = (known.state.clone(), packets);
        let told = if counted {
            (None, Some(9))
        } else {
            (Some(state("web-2", 3, 8)), None)
        };
        assert_eq!(what, told);
        let at = if so { "h2" } else { "h1" };
        world.publisher = Publisher::Has(vec![placement("web-1", 7, Some(at))]);
        assert_eq!(world.placements(), ack(1));
        assert_eq!(world.get("web-2").unwrap(), known);
        assert_eq!(shown(&mut world) != before, so);
        let packets = if so && counted { 57 } else { 50 };
        let total = world.get("web-1").unwrap().total;
        assert_eq!(total, Some(counters("web-1", 7, packets).counters));
        assert_eq!(world.history("web-2").len(), 1, "it is told once");
        assert_eq!(also_in_doubt(&mut world, counted), ack(1));
        assert_eq!(world.get("web-2").unwrap(), known);
    }
}

#[test]
fn an_event_of_which_a_part_is_known_still_leaves_a_gap() {
    let mut world = held();
    world.publisher = Publisher::Silent;
    assert_eq!(also_in_doubt(&mut world, false), []);
    assert_eq!(world.heartbeat("h2", 1, 1), None);
    let ask = world.heartbeat("h2", 1, 1);
    assert!(ask.is_some(), "a snapshot fills it, if the event got lost");
}

#[test]
fn of_a_page_what_is_in_no_doubt_is_known_at_once_and_the_next_page_waits() {
    let mut world = held();
    world.changed(changed("h2", 1, 1, vec![state("web-0", 3, 8)]));
    world.publisher = Publisher::Silent;
    let first = LiveReply {
        next: Some(port("web-3")),
        ..page(7)
    };
    snapshot(&mut world, first);
    let known = [world.get("web-0"), world.get("web-2")].map(|of| of.unwrap().state);
    assert_eq!(known, [None, Some(state("web-2", 3, 9))]);
    assert_eq!(world.asked.len(), 0);
    world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("h2"))]);
    assert_eq!(world.placements(), []);
    let (ask, (_, asked)) = world.asked.first_key_value().unwrap();
    assert_eq!(*asked, question(None, Some("web-3")));
    let last = live_reply("h2", vec![], vec![]);
    assert_eq!(world.answer(*ask, Answer::Live(last)), []);
    let known = ["web-1", "web-2"].map(|name| world.get(name).unwrap().state);
    let here = [state("web-1", 7, 9), state("web-2", 3, 9)];
    assert_eq!(known, here.map(Some));
}

/// A host that is started anew can't say how a port is there that it can't make
/// what it is to be; what that counts it says.
#[test]
fn a_port_of_which_a_snapshot_has_the_counters_alone_is_not_gone() {
    for counted in [true, false] {
        let mut world = held();
        world.changed(changed("h2", 1, 1, vec![state("web-3", 4, 8)]));
        let counters = counted.then(|| counters("web-3", 4, 7));
        snapshot(
            &mut world,
            live_reply("h2", vec![], Vec::from_iter(counters)),
        );
        let known = world.get("web-3").unwrap().state;
        assert_eq!(known, counted.then(|| state("web-3", 4, 8)));
    }
}

#[test]
fn a_port_that_a_snapshot_has_in_a_placement_that_never_was_is_not_gone_for_that() {
    for waits in [false, true] {
        let mut world = held();
        world.changed(changed("h2", 1, 1, vec![state("web-3", 4, 8)]));
        world.publisher = Publisher::Has(vec![placement("web-3", 4, Some("h2"))]);
        let before = world.get("web-3");
        let page = live_reply("h2", vec![state("web-3", 9, 9)], vec![]);
        let publisher = std::mem::replace(&mut world.publisher, Publisher::Silent);
        if !waits {
            world.publisher = publisher;
            snapshot(&mut world, page);
        } else {
            snapshot(&mut world, page);
            assert_eq!(world.get("web-3"), before);
            world.publisher = publisher;
            assert_eq!(world.placements(), []);
        }
        assert_eq!(world.doubts, 1);
        assert_eq!(world.get("web-3"), before);
    }
}

#[test]
fn what_waits_is_judged_though_the_record_ended_that_it_was_newer_than() {
    let mut world = held();
    world.changed(Changed {
        gone: vec![gone("web-1", 5)],
        ..changed("h1", 1, 3, vec![])
    });
    world.publisher = Publisher::Silent;
    assert_eq!(world.turn([of_changed(here(9))]), []);
    world.pass(2 * Settings::default().keep_gone);
    assert!(world.get("web-1").is_err());
    world.publisher = Publisher::Has(vec![placement("web-1", 5, Some("h1"))]);
    assert_eq!(world.placements(), ack(1));
    assert!(world.get("web-1").is_err());
}

#[test]
fn a_notice_that_is_told_again_while_its_event_waits_is_not_taken_twice() {
    let mut world = held();
    world.publisher = Publisher::Silent;
    assert_eq!(fetched(&mut world, Fetched::Changed(here(7))), []);
    let again = fetched(&mut world, Fetched::Changed(here(7)));
    assert_eq!(again[0].clone().unwrap_err().code, ProblemCode::Unavailable);
    world.publisher = Publisher::Has(vec![placement("web-1", 7, Some("h2"))]);
    assert_eq!(world.placements(), ack(1));
    let notice = EventNotice {
        v: V1,
        host: host("h2"),
        session: session(1),
        seq: 1,
        at: dvs_schemas::Timestamp(1),
        ports: vec![port("web-1")],
    };
    let reply = ReplyToken(0);
    assert_eq!(world.turn([Event::Notice { notice, reply }]), ack(1));
    let told = world.history("web-1");
    let of_h2 = told.iter().filter(|told| told.contains(" h2 in 7"));
    assert_eq!(of_h2.count(), 1, "{told:?}");
}
