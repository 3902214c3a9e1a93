// SPDX-License-Identifier: Apache-2.0
//! What was told of a port lately, and sums over ports.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use dvs_schemas::v1::{
    Changed, Counters, PortRuntime, Rollup, RollupBy, RollupKey, RuntimeRollupRequest,
};
use dvs_schemas::{ProblemCode, Timestamp};
use harness::{World, begun, changed, counters, gone, heartbeat, host, live_reply, settled, state};
use proptest::prelude::*;
use runtime_collector::Answer;

#[test]
fn a_ports_history_says_who_told_what_how_it_came_and_what_was_no_news() {
    let mut world = begun();
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 7)]));
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)]));
    // Told again, as the acknowledgement got lost.
    world.settled(settled("h1", 1, 2, vec![counters("web-1", 3, 50)]));
    world.changed(changed("h2", 1, 1, vec![state("web-1", 4, 8)]));
    // The old host, late.
    world.changed(Changed {
        gone: vec![gone("web-1", 3)],
        ..changed("h1", 1, 3, vec![])
    });
    let told = [
        "1001 h1 in 3: down",
        "1002 h1 in 3: 50 packets",
        "1001 h2 in 4: up",
        "1003 h1 in 3: gone, no news",
    ];
    assert_eq!(world.history("web-1"), told);
    world.crash();
    assert_eq!(world.history("web-1"), told);
    assert_eq!(world.history("web-1").len(), 4);
}

#[test]
fn a_snapshot_is_in_the_history_as_far_as_it_brought_news() {
    let mut world = begun();
    world.changed(changed(
        "h1",
        1,
        1,
        vec![state("web-1", 3, 7), state("web-2", 3, 7)],
    ));
    world.heartbeat("h1", 1, 3);
    world.turn([heartbeat("h1", 1, 3)]);
    world.answer_all(|_, _| {
        let ports = vec![state("web-1", 3, 8), state("web-2", 3, 7)];
        Answer::Live(live_reply("h1", ports, vec![counters("web-1", 3, 9)]))
    });
    assert_eq!(
        world.history("web-1"),
        [
            "1001 h1 in 3: down",
            "5000 h1 in 3 (snapshot): up",
            "5000 h1 in 3 (snapshot): 9 packets",
        ]
    );
    assert_eq!(world.history("web-2"), ["1001 h1 in 3: down"]);
}

#[test]
fn a_history_ends_with_its_record_and_an_unknown_port_has_none() {
    let mut world = begun();
    world.changed(Changed {
        gone: vec![gone("web-1", 3)],
        ..changed("h1", 1, 1, vec![])
    });
    assert_eq!(world.history("web-1").len(), 1);
    world.pass(Duration::from_secs(31 * 24 * 60 * 60));
    for _ in 0..2 {
        let problem = world.try_history("web-1").unwrap_err();
        assert_eq!(problem.code, ProblemCode::NotFound);
        world.crash();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_history_holds_the_newest_and_never_more_than_it_may(
        told in prop::collection::vec((0..3_usize, any::<bool>()), 1..120),
    ) {
        let names = ["a", "b", "c"];
        let mut world = begun();
        let mut expected: [Vec<String>; 3] = Default::default();
        for (seq, (which, crash)) in told.iter().enumerate() {
            let seq = seq as u64 + 1;
            world.settled(settled("h1", 1, seq, vec![counters(names[*which], 3, seq)]));
            expected[*which].push(format!("{} h1 in 3: {seq} packets", 1_000 + seq));
            if *crash {
                world.crash();
            }
        }
        for (name, all) in names.iter().zip(expected) {
            if !all.is_empty() {
                let newest = &all[all.len().saturating_sub(16)..];
                prop_assert_eq!(world.history(name), newest);
            }
        }
    }
}

fn by(by: RollupBy) -> RuntimeRollupRequest {
    RuntimeRollupRequest {
        by,
        switch: None,
        group: None,
        host: None,
        after: None,
    }
}

/// On h1: `a` up in prod/web, `b` down there, `c` up and blocked in lab/web;
/// on h2: `d` up in prod/db; `e` is gone.
fn site() -> World {
    let mut world = World::new();
    let of = |name: &str, revision, switch: &str, group: &str, blocked| PortRuntime {
        switch: switch.parse().unwrap(),
        group: group.parse().unwrap(),
        blocked,
        ..state(name, 1, revision)
    };
    world.changed(changed(
        "h1",
        1,
        1,
        vec![
            of("a", 2, "prod", "web", false),
            of("b", 1, "prod", "web", false),
            of("c", 2, "lab", "web", true),
        ],
    ));
    world.changed(Changed {
        gone: vec![gone("e", 1)],
        ..changed("h2", 1, 5, vec![of("d", 2, "prod", "db", false)])
    });
    world.settled(settled(
        "h1",
        1,
        2,
        vec![counters("a", 1, 10), counters("b", 1, 5)],
    ));
    // An earlier placement of `a` counts to where it is now.
    world.settled(settled("h2", 1, 6, vec![counters("a", 0, 100)]));
    world
}

fn row(key: RollupKey, sums: [u64; 4], packets: u64, oldest: u64) -> Rollup {
    let [ports, up, down, blocked] = sums;
    Rollup {
        key,
        ports,
        up,
        down,
        blocked,
        total: Counters {
            ingress_packets: packets,
            ..Counters::default()
        },
        oldest: Timestamp(oldest),
    }
}

#[test]
fn ports_are_summed_up_by_switch_group_and_host() {
    let mut world = site();
    let switch = |name: &str| RollupKey::Switch(name.parse().unwrap());
    let group =
        |switch: &str, name: &str| RollupKey::Group(switch.parse().unwrap(), name.parse().unwrap());
    let page = world.rollup(by(RollupBy::Switch), 1 << 20).unwrap();
    assert_eq!(
        page.rows,
        [
            row(switch("lab"), [1, 0, 0, 1], 0, 1_001),
            row(switch("prod"), [3, 2, 1, 0], 115, 1_002),
        ]
    );
    let page = world.rollup(by(RollupBy::Group), 1 << 20).unwrap();
    assert_eq!(
        page.rows,
        [
            row(group("lab", "web"), [1, 0, 0, 1], 0, 1_001),
            row(group("prod", "db"), [1, 1, 0, 0], 0, 1_005),
            row(group("prod", "web"), [2, 1, 1, 0], 115, 1_002),
        ]
    );
    let page = world.rollup(by(RollupBy::Host), 1 << 20).unwrap();
    assert_eq!(
        page.rows,
        [
            row(RollupKey::Host(host("h1")), [3, 1, 1, 1], 115, 1_001),
            row(RollupKey::Host(host("h2")), [1, 1, 0, 0], 0, 1_005),
        ]
    );
    let request = RuntimeRollupRequest {
        switch: Some("prod".parse().unwrap()),
        host: Some(host("h1")),
        ..by(RollupBy::Group)
    };
    let page = world.rollup(request, 1 << 20).unwrap();
    assert_eq!(
        page.rows,
        [row(group("prod", "web"), [2, 1, 1, 0], 115, 1_002)]
    );
}

#[test]
fn pages_of_sums_hold_every_row_once() {
    let mut world = site();
    for kind in [RollupBy::Switch, RollupBy::Group, RollupBy::Host] {
        let whole = world.rollup(by(kind), 1 << 20).unwrap();
        let mut rows = Vec::new();
        let mut request = by(kind);
        loop {
            let page = world.rollup(request.clone(), 1).unwrap();
            assert_eq!(page.rows.len(), 1);
            rows.extend(page.rows);
            request.after = page.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!(rows, whole.rows);
    }
    let request = RuntimeRollupRequest {
        after: Some(RollupKey::Host(host("h1"))),
        ..by(RollupBy::Switch)
    };
    let problem = world.rollup(request, 1 << 20).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("after"));
}
