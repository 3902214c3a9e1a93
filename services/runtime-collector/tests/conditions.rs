// SPDX-License-Identifier: Apache-2.0
//! What is wrong on hosts: the newest word of each, over losses, restarts and
//! repetitions.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_schemas::Timestamp;
use dvs_schemas::v1::{
    Condition, ConditionKind, ConditionList, ConditionTarget, HostConditions, LiveReply,
    RuntimeConditionsRequest, V1,
};
use harness::{World, begun, host, live_reply, port, session};
use runtime_collector::Answer;

fn waits(of: &str) -> Condition {
    Condition {
        kind: ConditionKind::ClaimWaits,
        on: ConditionTarget {
            port: Some(port(of)),
            ..ConditionTarget::default()
        },
        message: "held by host h9".to_owned(),
        since: Timestamp(1),
    }
}

fn list(ports: &[&str]) -> ConditionList {
    ConditionList {
        conditions: ports.iter().map(|port| waits(port)).collect(),
        more: 0,
    }
}

fn event(from: &str, run: u64, seq: u64, ports: &[&str]) -> HostConditions {
    HostConditions {
        v: V1,
        host: host(from),
        session: session(run),
        seq,
        at: Timestamp(1_000 + seq),
        list: list(ports),
    }
}

/// The ports that wait, by host.
fn waiting(world: &mut World) -> Vec<(String, Vec<String>)> {
    let hosts = world.wrong(RuntimeConditionsRequest::default());
    let ports = |list: ConditionList| {
        let ports = list.conditions.into_iter().filter_map(|it| it.on.port);
        ports.map(|port| port.to_string()).collect()
    };
    let each = hosts.into_iter();
    each.map(|of| (of.host.to_string(), ports(of.list)))
        .collect()
}

fn on(host: &str, ports: &[&str]) -> Vec<(String, Vec<String>)> {
    let ports = ports.iter().map(|port| (*port).to_owned());
    vec![(host.to_owned(), ports.collect())]
}

#[test]
fn what_a_host_says_last_is_what_is_wrong_there() {
    let mut world = begun();
    world.conditions(event("h1", 1, 1, &["p1", "p2"]));
    assert_eq!(waiting(&mut world), on("h1", &["p1", "p2"]));
    world.conditions(event("h1", 1, 2, &["p2"]));
    world.conditions(event("h1", 1, 1, &["p1", "p2"]));
    assert_eq!(waiting(&mut world), on("h1", &["p2"]), "a repetition");
    world.crash();
    assert_eq!(waiting(&mut world), on("h1", &["p2"]), "it is durable");
    world.conditions(event("h1", 1, 3, &[]));
    assert_eq!(waiting(&mut world), []);
}

#[test]
fn an_event_that_got_lost_is_found_again_by_a_snapshot() {
    let mut world = begun();
    world.conditions(event("h1", 1, 1, &["p1"]));
    world.heartbeat("h1", 1, 2);
    let asked = world.heartbeat("h1", 1, 2).unwrap();
    world.answer(asked, Answer::Live(snapshot(&["p2"])));
    assert_eq!(waiting(&mut world), on("h1", &["p2"]));
    world.conditions(event("h1", 1, 2, &["p1"]));
    assert_eq!(waiting(&mut world), on("h1", &["p2"]), "it is late");
}

fn snapshot(ports: &[&str]) -> LiveReply {
    LiveReply {
        conditions: Some(list(ports)),
        ..live_reply("h1", Vec::new(), Vec::new())
    }
}

#[test]
fn a_new_run_of_an_agent_starts_from_what_is() {
    let mut world = begun();
    world.conditions(event("h1", 1, 1, &["p1"]));
    let asked = world.heartbeat("h1", 2, 0).unwrap();
    let of_the_new_run = LiveReply {
        session: session(2),
        ..snapshot(&[])
    };
    world.answer(asked, Answer::Live(of_the_new_run));
    assert_eq!(waiting(&mut world), []);
    world.conditions(event("h1", 1, 2, &["p1"]));
    assert_eq!(waiting(&mut world), [], "its run is over");
}

#[test]
fn a_forgotten_host_has_nothing_wrong() {
    let mut world = begun();
    world.conditions(event("h1", 1, 1, &["p1"]));
    world.forget("h1", 9);
    assert_eq!(waiting(&mut world), []);
    world.crash();
    assert_eq!(waiting(&mut world), []);
}

#[test]
fn a_port_is_asked_for_by_its_name() {
    let mut world = begun();
    world.conditions(event("h1", 1, 1, &["p1", "p2"]));
    world.conditions(event("h2", 1, 1, &["p2"]));
    let request = RuntimeConditionsRequest {
        port: Some(port("p1")),
        ..RuntimeConditionsRequest::default()
    };
    let found = world.wrong(request);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].list, list(&["p1"]));
}
