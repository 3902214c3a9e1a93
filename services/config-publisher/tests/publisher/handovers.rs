// SPDX-License-Identifier: Apache-2.0
//! Hosts that did not acknowledge become retry's, and only then is the change
//! done.

use std::time::Duration;

use config_publisher::events::{Effect, Event, Request};
use dvs_schemas::Revision;
use dvs_schemas::v1::{Attempt, PutReply, RepushKey, RipKey, Settlement, V1};

use crate::desk::{Desk, Manner, SITE, hello, name, web};

fn repush(host: &str, revision: u64, error: &str) -> Attempt<RepushKey> {
    Attempt {
        key: RepushKey {
            host: name(host),
            switch: name("prod"),
        },
        revision: Revision(revision),
        error: error.to_owned(),
    }
}

#[test]
fn a_failed_push_is_handed_over_before_its_record_goes() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.put.clear();
    desk.manner("h1", Manner::Fails);
    desk.manner("h3", Manner::Gone);
    desk.retry = false;
    desk.apply(&web(200));
    assert_eq!(desk.records(), 1);
    // Retry stays away for long: the hand-over is repeated, the record stays.
    desk.pass(Duration::from_secs(120));
    assert_eq!((desk.records(), desk.put.len()), (1, 0));
    desk.retry = true;
    desk.pass(Duration::from_secs(10));
    assert_eq!(desk.records(), 0);
    let gone = "nobody listens for the host: its agent or its connection is down";
    let expected = vec![
        repush("h1", 2, "the datapath is broken"),
        repush("h3", 2, gone),
    ];
    assert_eq!(desk.put[0].repush, expected);
    assert_eq!((desk.put[0].rip.len(), desk.put[0].settled.len()), (0, 0));
    desk.pass(Duration::from_secs(120));
    assert_eq!(desk.put.len(), 1, "once acknowledged, never again");
}

#[test]
fn a_failed_removal_is_handed_over_by_port() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.put.clear();
    desk.manner("h1", Manner::Silent);
    desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
    let expected = Attempt {
        key: RipKey {
            host: name("h1"),
            switch: name("prod"),
            port: name("web-1"),
        },
        revision: Revision(2),
        error: "no answer in time".to_owned(),
    };
    assert_eq!(desk.put[0].rip, [expected]);
    assert_eq!((desk.put[0].repush.len(), desk.records()), (0, 0));
}

#[test]
fn while_retry_is_away_many_changes_merge_into_one_entry_per_host() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.put.clear();
    desk.manner("h2", Manner::Silent);
    desk.retry = false;
    for vlan in 200..250 {
        desk.apply(&web(vlan));
    }
    assert_eq!(desk.records(), 50);
    desk.retry = true;
    desk.pass(Duration::from_secs(30));
    let entries: Vec<_> = desk.put.iter().flat_map(|put| &put.repush).collect();
    assert!(entries.len() <= 2, "{entries:?}");
    assert_eq!(entries.last().unwrap().revision, Revision(51));
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_full_state_that_arrived_settles_what_retry_may_have() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.put.clear();
    desk.hello("h1");
    assert_eq!(
        desk.put.len(),
        0,
        "retry has nothing of ours: it was told so"
    );
    desk.manner("h1", Manner::Silent);
    desk.apply(&web(200));
    desk.manner("h1", Manner::Applies);
    desk.put.clear();
    desk.ask(Request::Hello(hello("h1", 2))).unwrap();
    let settled = Settlement {
        host: name("h1"),
        switch: name("prod"),
        revision: Revision(2),
    };
    assert_eq!(desk.put[0].settled, std::slice::from_ref(&settled));
    // After a restart it is not known what retry has.
    desk.restart();
    desk.work();
    desk.put.clear();
    desk.hello("h1");
    assert_eq!(desk.put[0].settled, [settled]);
}

#[test]
fn a_host_that_fails_after_it_was_in_sync_is_not_taken_for_settled() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.restart();
    desk.work();
    desk.put.clear();
    // Both are under way to retry at once: the settlement, then the failure.
    desk.retry = false;
    desk.hello("h1");
    desk.manner("h1", Manner::Fails);
    desk.apply(&web(200));
    desk.retry = true;
    desk.pass(Duration::from_secs(30));
    let last = desk.put.last().unwrap();
    assert_eq!(last.repush, [repush("h1", 2, "the datapath is broken")]);
    assert_eq!(desk.records(), 0);
}

const WEB_1_ON_H2: &str =
    r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h2"}"#;

fn settled(desk: &Desk) -> Vec<Settlement> {
    let puts = desk.put.iter();
    puts.flat_map(|put| put.settled.iter().cloned()).collect()
}

fn settlement(host: &str, revision: u64) -> Settlement {
    Settlement {
        host: name(host),
        switch: name("prod"),
        revision: Revision(revision),
    }
}

#[test]
fn a_full_state_settles_a_removal_that_retry_has() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.hello("h1");
    // All of h1 is acknowledged, then one removal alone is not.
    desk.manner("h1", Manner::Fails);
    desk.apply(WEB_1_ON_H2);
    assert_eq!(desk.put.last().unwrap().rip.len(), 1);
    desk.manner("h1", Manner::Applies);
    desk.put.clear();
    desk.ask(Request::Hello(hello("h1", 2))).unwrap();
    assert_eq!(settled(&desk), [settlement("h1", 2)]);
}

#[test]
fn what_was_missed_after_a_settlement_in_one_hand_over_can_be_settled_later() {
    for missed in [web(200), WEB_1_ON_H2.to_owned()] {
        let mut desk = Desk::of(2);
        desk.apply(SITE);
        desk.restart();
        desk.put.clear();
        // The first hand-over is under way while the other two are queued.
        desk.retry = false;
        desk.hello("h2");
        desk.hello("h1");
        desk.manner("h1", Manner::Fails);
        desk.apply(&missed);
        desk.retry = true;
        desk.pass(Duration::from_secs(30));
        let last = desk.put.last().unwrap();
        assert_eq!(last.settled, [settlement("h1", 1)]);
        assert_eq!((last.repush.len() + last.rip.len(), desk.records()), (1, 0));
        desk.manner("h1", Manner::Applies);
        desk.put.clear();
        desk.ask(Request::Hello(hello("h1", 2))).unwrap();
        assert_eq!(settled(&desk), [settlement("h1", 2)]);
    }
}

/// An older full state that arrives late settles nothing newer.
#[test]
fn what_was_missed_is_settled_by_a_full_state_of_then_or_later_only() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.put.clear();
    desk.send(Request::Hello(hello("h1", 2)));
    let under_way: Vec<Effect> = desk.undone.drain(..).collect();
    desk.manner("h1", Manner::Fails);
    desk.apply(&web(200));
    assert_eq!(
        desk.put.last().unwrap().repush,
        [repush("h1", 2, "the datapath is broken")]
    );
    desk.manner("h1", Manner::Applies);
    desk.undone.extend(under_way);
    desk.work();
    desk.put.clear();
    desk.ask(Request::Hello(hello("h1", 3))).unwrap();
    assert_eq!(settled(&desk), [settlement("h1", 2)]);
}

#[test]
fn absent_hosts_are_not_waited_for() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h1", "h9"]}"#);
    let never = "absent: the host is not known, as it said no hello or was forgotten";
    let entries: Vec<_> = desk.put.iter().flat_map(|put| put.repush.clone()).collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (entries[0].key.host.as_str(), entries[0].error.as_str()),
        ("h9", never)
    );
    desk.put.clear();
    // h2's heartbeats stop.
    desk.heartbeat("h1");
    desk.heartbeat("h2");
    desk.pass(Duration::from_secs(31));
    desk.heartbeat("h1");
    desk.calls.clear();
    desk.manner("h2", Manner::Fails);
    desk.apply(&web(200));
    let expected = repush("h2", 3, "absent: it missed 3 heartbeats");
    assert_eq!(desk.put[0].repush, [expected]);
    // Whoever speaks again is waited for again.
    desk.heartbeat("h2");
    desk.put.clear();
    desk.apply(&web(201));
    assert_eq!(
        desk.put[0].repush,
        [repush("h2", 4, "the datapath is broken")]
    );
}

#[test]
fn absent_hosts_miss_nothing_that_does_not_concern_them() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.put.clear();
    desk.heartbeat("h2");
    desk.pass(Duration::from_secs(31));
    desk.heartbeat("h1");
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "policy": {"blocked": true}}"#,
    );
    assert_eq!(desk.put, []);
}

#[test]
fn who_is_known_to_be_there_is_asked_anew_when_hosts_come_and_go() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let asked = |desk: &mut Desk, vlan| {
        desk.calls.clear();
        desk.apply(&web(vlan));
        desk.calls
            .iter()
            .flat_map(crate::desk::hosts_of)
            .map(|h| h.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut desk, 200), ["h1", "h2"]);
    desk.hello("h3");
    assert_eq!(asked(&mut desk, 201), ["h1", "h2", "h3"]);
    // From here on h2 says that it speaks every 10 s instead of every 60 s.
    desk.heartbeat("h2");
    desk.pass(Duration::from_secs(31));
    assert_eq!(asked(&mut desk, 202), ["h1", "h3"]);
    desk.heartbeat("h2");
    assert_eq!(asked(&mut desk, 203), ["h1", "h2", "h3"]);
}

#[test]
fn a_hand_over_of_many_hosts_is_cut_into_messages_that_fit() {
    let mut desk = Desk::with(config_publisher::core::Settings {
        max_payload: 16_384,
        ..config_publisher::core::Settings::default()
    });
    for number in 0..500 {
        desk.hello(&format!("host-{number}"));
        desk.manner(&format!("host-{number}"), Manner::Silent);
    }
    desk.apply(r#"{"kind": "Switch", "name": "prod"}"#);
    let sizes = desk
        .put
        .iter()
        .map(|put| serde_json::to_vec(put).unwrap().len());
    assert!(sizes.max().unwrap() < 16_384);
    let entries: usize = desk.put.iter().map(|put| put.repush.len()).sum();
    assert_eq!((entries, desk.records()), (500, 0));
    assert!(desk.put.len() > 2);
}

#[test]
fn only_the_acknowledgement_of_the_hand_over_under_way_counts() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.manner("h1", Manner::Silent);
    let (_, request) = dvs_schemas::v1::ApplyRequest::decode(web(200).as_bytes()).unwrap();
    desk.send(Request::Apply(request));
    let Some(Effect::Push { push, calls, .. }) = desk.undone.pop_front() else {
        panic!("no push");
    };
    assert_eq!(calls.len(), 1);
    desk.hear(Event::Outcomes {
        push,
        outcomes: vec![config_publisher::events::Outcome {
            host: name("h1"),
            call: 0,
            answer: config_publisher::events::Answer::TimedOut,
        }],
    });
    let Some(Effect::HandOver { number, .. }) = desk.undone.pop_front() else {
        panic!("no hand-over");
    };
    let result = Ok(PutReply { v: V1, entries: 1 });
    for stray in [number + 1, number + 7] {
        desk.hear(Event::HandedOver {
            number: stray,
            result: result.clone(),
        });
        assert_eq!(desk.records(), 1);
    }
    desk.hear(Event::HandedOver { number, result });
    assert_eq!(desk.records(), 0);
}
