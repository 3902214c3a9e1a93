// SPDX-License-Identifier: Apache-2.0
//! What the collector promises, one promise per test.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use dvs_ledger::Core;
use dvs_schemas::v1::{Changed, Link, LiveReply, RuntimeListRequest, RuntimeRecord};
use dvs_schemas::{ProblemCode, Timestamp};
use harness::{
    World, begun, changed, counters, gone, host, live_reply, port, question, session, settled,
    state,
};
use runtime_collector::{Answer, SNAPSHOTS};

#[test]
fn an_event_is_acknowledged_when_it_is_there_for_good() {
    let mut world = World::new();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)]));
    world.crash();
    let expected = RuntimeRecord {
        port: port("web-1"),
        host: host("h1"),
        updated: Timestamp(1_002),
        state: Some(state("web-1", 3, 7)),
        changed: Some(Timestamp(1_001)),
        counters: Some(counters("web-1", 3, 50).counters),
        settled: Some(Timestamp(1_002)),
        total: Some(counters("web-1", 3, 50).counters),
    };
    assert_eq!(world.get("web-1"), Ok(expected));
}

#[test]
fn of_an_older_placement_nothing_shows_but_its_part_of_the_total() {
    let mut world = World::new();
    world.changed(changed("h2", 1, 1, vec![state("web-1", 4, 8)]));
    world.settled(settled("h2", 1, 2, vec![counters("web-1", 4, 7)]));
    let now = world.get("web-1").unwrap();
    assert_eq!(now.total, now.counters);
    for _ in 0..2 {
        world.changed(changed("h1", 1, 9, vec![state("web-1", 3, 7)]));
        world.settled(settled("h1", 1, 10, vec![counters("web-1", 3, 50)]));
    }
    world.changed(Changed {
        gone: vec![gone("web-1", 3)],
        ..changed("h1", 1, 11, vec![])
    });
    world.crash();
    let expected = RuntimeRecord {
        total: Some(counters("web-1", 4, 57).counters),
        ..now
    };
    assert_eq!(world.get("web-1"), Ok(expected));
}

#[test]
fn a_port_that_is_gone_keeps_its_counters_and_does_not_come_back_by_a_late_event() {
    let mut world = World::new();
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)]));
    world.changed(Changed {
        gone: vec![gone("web-1", 3)],
        ..changed("h1", 1, 3, vec![])
    });
    let expected = RuntimeRecord {
        port: port("web-1"),
        host: host("h1"),
        updated: Timestamp(1_003),
        state: None,
        changed: Some(Timestamp(1_003)),
        counters: Some(counters("web-1", 3, 50).counters),
        settled: Some(Timestamp(1_002)),
        total: Some(counters("web-1", 3, 50).counters),
    };
    assert_eq!(world.get("web-1"), Ok(expected.clone()));
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    assert_eq!(world.get("web-1"), Ok(expected));
}

#[test]
fn what_is_known_of_a_port_ends_some_time_after_the_port_and_never_while_it_is_there() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let mut world = World::new();
    assert_eq!(world.core.due(), None);
    let ports = ["goes", "returns", "stays"].map(|name| state(name, 3, 7));
    world.changed(changed("h1", 1, 1, ports.to_vec()));
    world.pass(400 * DAY);
    assert_eq!(world.core.due(), None, "nothing is polled");
    world.changed(Changed {
        gone: vec![gone("goes", 3), gone("returns", 3)],
        ..changed("h1", 1, 2, vec![])
    });
    world.settled(settled("h1", 1, 3, vec![counters("goes", 3, 50)]));
    world.pass(10 * DAY);
    world.changed(changed("h2", 1, 1, vec![state("returns", 4, 8)]));
    world.crash();
    world.pass(19 * DAY);
    assert_eq!(world.list().len(), 3);
    world.pass(DAY);
    for _ in 0..2 {
        let ports: Vec<_> = world.list().into_iter().map(|r| r.port).collect();
        assert_eq!(ports, [port("returns"), port("stays")]);
        assert_eq!(world.core.due(), None);
        world.crash();
    }
}

#[test]
fn counters_of_a_new_placement_hide_the_state_of_the_old_one() {
    let mut world = World::new();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.settled(settled("h2", 1, 2, vec![counters("web-1", 4, 1)]));
    let record = world.get("web-1").unwrap();
    assert_eq!((record.host, record.state), (host("h2"), None));
    world.changed(changed("h2", 1, 1, vec![state("web-1", 4, 8)]));
    assert_eq!(
        world.get("web-1").unwrap().state,
        Some(state("web-1", 4, 8))
    );
}

#[test]
fn a_gap_is_filled_from_the_host() {
    let mut world = begun();
    world.changed(changed(
        "h1",
        1,
        1,
        vec![state("web-1", 3, 7), state("web-2", 3, 7)],
    ));
    // Events 2 and 3 get lost: web-1 changes, web-2 goes, web-3 comes.
    assert_eq!(
        world.heartbeat("h1", 1, 3),
        None,
        "they may be on their way"
    );
    let ask = world.heartbeat("h1", 1, 3).unwrap();
    assert_eq!(world.asked[&ask], (host("h1"), question(None, None)));
    let found = live_reply(
        "h1",
        vec![state("web-1", 3, 8), state("web-3", 1, 1)],
        vec![counters("web-3", 1, 5)],
    );
    assert_eq!(world.answer(ask, Answer::Live(found)), []);
    world.crash();
    let states: Vec<_> = world.list().into_iter().map(|r| r.state).collect();
    assert_eq!(
        states,
        [Some(state("web-1", 3, 8)), None, Some(state("web-3", 1, 1))]
    );
    let newest = world.list();
    world.changed(changed("h1", 1, 2, vec![state("web-1", 3, 6)]));
    assert_eq!(world.list(), newest, "the snapshot covers the late event");
    assert_eq!(world.heartbeat("h1", 1, 3), None);
    assert_eq!(
        world.heartbeat("h1", 1, 3),
        None,
        "a quiet host is left alone"
    );
}

#[test]
fn a_snapshot_may_take_pages_and_covers_when_the_last_one_is_there() {
    let mut world = begun();
    let ports = ["a", "b", "c", "d"].map(|name| state(name, 3, 7));
    world.changed(changed("h1", 1, 1, ports.to_vec()));
    // Lost: b changed, and d went.
    let first = LiveReply {
        next: Some(port("b")),
        ..live_reply("h1", vec![state("a", 3, 7), state("b", 3, 8)], vec![])
    };
    let last = live_reply("h1", vec![state("c", 3, 7)], vec![]);
    let after_b = (host("h1"), question(None, Some("b")));
    let stands = |world: &mut World| -> Vec<_> {
        let records = world.list().into_iter();
        records.map(|r| r.state.map(|s| s.revision.0)).collect()
    };
    world.heartbeat("h1", 1, 3);
    let ask = world.heartbeat("h1", 1, 3).unwrap();
    world.answer(ask, Answer::Live(first.clone()));
    // What the page doesn't speak of stays as it was.
    assert_eq!(stands(&mut world), [Some(7), Some(8), Some(7), Some(7)]);
    assert_eq!(world.heartbeat("h1", 1, 3), None, "one question at a time");
    let (ask, asked) = world.asked.pop_first().unwrap();
    assert_eq!(asked, after_b);
    world.asked.insert(ask, asked);
    world.answer(ask, Answer::TimedOut);
    assert_eq!(world.asked.len(), 0);

    // It begins anew.
    world.heartbeat("h1", 1, 3);
    let ask = world.heartbeat("h1", 1, 3).unwrap();
    assert_eq!(world.asked[&ask], (host("h1"), question(None, None)));
    world.answer(ask, Answer::Live(first));
    world.answer_all(|_, _| Answer::Live(last.clone()));
    world.crash();
    assert_eq!(stands(&mut world), [Some(7), Some(8), Some(7), None]);
    world.heartbeat("h1", 1, 3);
    assert_eq!(world.heartbeat("h1", 1, 3), None, "the gap is filled");
}

#[test]
fn pages_that_do_not_get_on_end() {
    let mut world = begun();
    world.heartbeat("h1", 1, 3);
    let ask = world.heartbeat("h1", 1, 3).unwrap();
    let page = LiveReply {
        next: Some(port("b")),
        ..live_reply("h1", vec![state("b", 3, 8)], vec![])
    };
    world.answer(ask, Answer::Live(page.clone()));
    world.answer_all(|_, _| Answer::Live(page.clone()));
    world.heartbeat("h1", 1, 3);
    let again = world.heartbeat("h1", 1, 3).unwrap();
    assert_eq!(world.asked[&again], (host("h1"), question(None, None)));
}

#[test]
fn a_known_host_is_left_alone_after_the_collectors_restart() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.crash();
    assert_eq!(world.heartbeat("h1", 1, 1), None);
    assert_eq!(world.heartbeat("h1", 1, 1), None);
}

#[test]
fn an_event_newer_than_the_snapshot_stays() {
    let mut world = begun();
    world.heartbeat("h1", 1, 2);
    let ask = world.heartbeat("h1", 1, 2).unwrap();
    world.changed(changed("h1", 1, 3, vec![state("web-1", 3, 9)]));
    let read_before = live_reply("h1", vec![state("web-1", 3, 8)], vec![]);
    world.answer(ask, Answer::Live(read_before));
    assert_eq!(
        world.get("web-1").unwrap().state,
        Some(state("web-1", 3, 9))
    );
}

#[test]
fn a_snapshot_that_fails_changes_nothing_and_is_asked_for_again() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    let before = world.list();
    let answers = [
        Answer::TimedOut,
        Answer::NoResponder,
        Answer::NotSent("no connection".to_owned()),
        Answer::Refused("confused".to_owned()),
        Answer::Live(live_reply("h2", vec![state("web-1", 9, 9)], vec![])),
    ];
    world.heartbeat("h1", 1, 2);
    let mut ask = world.heartbeat("h1", 1, 2).unwrap();
    for answer in answers {
        world.answer(ask, answer);
        assert_eq!(world.list(), before);
        world.heartbeat("h1", 1, 2);
        ask = world.heartbeat("h1", 1, 2).unwrap();
    }
}

#[test]
fn a_new_run_of_the_agent_begins_with_a_snapshot() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    let ask = world.heartbeat("h1", 2, 0).unwrap();
    let empty = LiveReply {
        session: session(2),
        ..live_reply("h1", vec![], vec![])
    };
    world.answer(ask, Answer::Live(empty));
    assert_eq!(world.get("web-1").unwrap().state, None);
    // The old run's last words arrive; only its counters still matter.
    world.changed(changed("h1", 1, 2, vec![state("web-1", 3, 8)]));
    world.settled(settled("h1", 1, 3, vec![counters("web-1", 3, 50)]));
    let record = world.get("web-1").unwrap();
    assert_eq!(record.state, None);
    assert_eq!(record.counters, Some(counters("web-1", 3, 50).counters));
}

#[test]
fn snapshots_at_once_are_bounded_and_every_host_gets_its_own() {
    let mut world = World::new();
    let mut hosts: Vec<String> = (0..SNAPSHOTS + 10).map(|n| format!("h{n}")).collect();
    for name in &hosts {
        world.heartbeat(name, 1, 0);
    }
    assert_eq!(world.asked.len(), SNAPSHOTS);
    let mut served = Vec::new();
    while !world.asked.is_empty() {
        for (ask, (host, _)) in world.asked.clone() {
            let reply = live_reply(host.as_str(), vec![], vec![]);
            world.answer(ask, Answer::Live(reply));
            served.push(host.to_string());
        }
        for name in &hosts {
            world.heartbeat(name, 1, 0);
        }
    }
    served.sort();
    hosts.sort();
    assert_eq!(served, hosts);
}

#[test]
fn a_port_that_nobody_told_of_is_not_found() {
    let problem = World::new().get("web-9").unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotFound);
    assert_eq!(problem.field.as_deref(), Some("port"));
}

#[test]
fn filters_and_pages_hold_every_match_once() {
    let mut world = World::new();
    for n in 0..200 {
        let from = format!("h{}", n % 3);
        let mut state = state(&format!("p{n}"), 1, n % 5);
        state.switch = ["prod", "lab"][usize::try_from(n % 2).unwrap()]
            .parse()
            .unwrap();
        world.changed(changed(&from, 1, n / 3 + 1, vec![state]));
    }
    world.changed(Changed {
        gone: vec![gone("p0", 1)],
        ..changed("h0", 1, 1_000, vec![])
    });
    let all = world.list();
    assert_eq!(all.len(), 200);
    type Filter = fn(&RuntimeRecord) -> bool;
    let cases: [(&str, Filter); 7] = [
        ("{}", |_| true),
        (r#"{"switch":"lab"}"#, |r| {
            r.state.as_ref().is_some_and(|s| s.switch.as_str() == "lab")
        }),
        (r#"{"host":"h1","link":"up"}"#, |r| {
            r.host.as_str() == "h1" && r.state.as_ref().is_some_and(|s| s.link == Link::Up)
        }),
        (r#"{"group":"db"}"#, |_| false),
        (r#"{"host":"h9"}"#, |_| false),
        (r#"{"stale_since":"1970-01-01T00:00:09Z"}"#, |_| false),
        (r#"{"stale_since":"1970-01-01T00:00:09.001Z"}"#, |_| true),
    ];
    for (text, filter) in cases {
        let (_, request) =
            dvs_schemas::codec::decode::<RuntimeListRequest>(text.as_bytes()).unwrap();
        let expected: Vec<_> = all.iter().filter(|r| filter(r)).cloned().collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let request = RuntimeListRequest {
                after,
                ..request.clone()
            };
            let page = world.page(request, 4_000);
            let size = dvs_schemas::codec::encode(dvs_schemas::Format::Json, &page).unwrap();
            assert!(size.len() <= 4_000);
            seen.extend(page.ports);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{text}");
    }
}

#[test]
fn what_is_stale_is_so_by_the_clock_here() {
    let mut world = World::new();
    world.changed(Changed {
        at: Timestamp(1 << 40),
        ..changed("h1", 1, 1, vec![state("web-1", 3, 7)])
    });
    world.pass(Duration::from_secs(10));
    let since = world.now;
    world.changed(changed("h2", 1, 1, vec![state("web-2", 3, 7)]));
    for _ in 0..2 {
        let request = RuntimeListRequest {
            stale_since: Some(since),
            ..RuntimeListRequest::default()
        };
        let page = world.page(request, 4_000);
        let ports: Vec<_> = page.ports.into_iter().map(|record| record.port).collect();
        assert_eq!(ports, [port("web-1")]);
        world.crash();
    }
}

#[test]
fn two_agents_that_call_themselves_alike_end_nothing() {
    let mut world = World::new();
    for n in 1..50 {
        for run in [1, 2] {
            if let Some(ask) = world.heartbeat("h1", run, n) {
                let reply = live_reply("h1", vec![state("web-1", 3, n)], vec![]);
                world.answer(ask, Answer::Live(reply));
            }
            world.changed(changed("h1", run, n, vec![state("web-1", 3, n)]));
        }
    }
    assert_eq!(world.list().len(), 1);
}

#[test]
fn a_host_that_does_not_hold_a_port_changes_nothing_of_it() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)]));
    let before = world.get("web-1");
    for epoch in [1, 2, 3] {
        world.changed(changed("h2", 1, epoch * 3, vec![state("web-1", epoch, 8)]));
        world.changed(Changed {
            gone: vec![gone("web-1", epoch)],
            ..changed("h2", 1, epoch * 3 + 1, vec![])
        });
    }
    world.settled(settled("h2", 1, 20, vec![counters("web-1", 3, 9_999)]));
    assert_eq!(world.get("web-1"), before);
    world.crash();
    assert_eq!(world.get("web-1"), before);
    // What it said is on record all the same.
    let told = world.history("web-1");
    assert_eq!(
        told.iter().filter(|told| told.ends_with("no news")).count(),
        7
    );
}
