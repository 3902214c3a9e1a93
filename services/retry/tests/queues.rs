// SPDX-License-Identifier: Apache-2.0
//! What the queues promise, one promise per test.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ledger::Core;
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, EntrySelection, EntryState, PortFailure, Queue, RenderReply,
    RetryPut, V1,
};
use dvs_schemas::{ProblemCode, Revision, SessionId, StoreId};
use harness::{
    AnyKey, Leg, SESSION, World, attempt, done, forgotten, put_of, repush, rip, settled,
};
use retry::{Action, Answer, End, Event, Fate, IN_FLIGHT, Note};

fn only(world: &mut World) -> EntryState {
    let mut all: Vec<_> = world.list().into_values().collect();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn host(name: &str) -> EntrySelection {
    EntrySelection {
        host: Some(name.parse().unwrap()),
        ..EntrySelection::default()
    }
}

fn on(queue: Queue) -> EntrySelection {
    EntrySelection {
        queue: Some(queue),
        ..EntrySelection::default()
    }
}

#[test]
fn a_put_is_listed_at_once_and_survives_a_crash() {
    let mut world = World::new(1);
    let now = world.now;
    let entries = world.put(RetryPut {
        repush: vec![attempt(repush("h1", "prod"), 7)],
        rip: vec![attempt(rip("h1", "prod", "web-1"), 6)],
        ..RetryPut::default()
    });
    assert_eq!(entries, 2);
    let listed = world.list();
    let expected = |revision: u64, next_try| EntryState {
        revision: Revision(revision),
        since: now,
        attempts: 1,
        last_error: format!("push {revision} failed"),
        not_tried: None,
        next_try,
    };
    let (pushed, ripped) = (
        AnyKey::Repush(repush("h1", "prod")),
        AnyKey::Rip(rip("h1", "prod", "web-1")),
    );
    let next = |key: &AnyKey| listed.get(key).and_then(|state| state.next_try);
    assert_eq!(
        listed,
        BTreeMap::from([
            (pushed.clone(), expected(7, next(&pushed))),
            (ripped.clone(), expected(6, next(&ripped))),
        ])
    );
    for try_at in [next(&pushed), next(&ripped)] {
        let try_at = try_at.unwrap();
        assert!(now <= try_at && try_at <= now.after(world.settings.backoff.base));
    }
    world.crash();
    assert_eq!(world.list(), listed);
}

#[test]
fn a_key_has_one_entry_and_a_repeated_put_counts_once() {
    let mut world = World::new(1);
    for revision in [5, 5, 9, 9, 7, 5] {
        world.put_repush("h1", revision);
    }
    let state = only(&mut world);
    assert_eq!(
        (state.revision, state.attempts, state.last_error.as_str()),
        (Revision(9), 2, "push 9 failed")
    );
}

#[test]
fn an_applied_full_state_ends_the_entry_for_good() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 8);
    world.apply(flight);
    assert_eq!(world.list(), BTreeMap::new());
    assert_eq!(world.core.due(), None);
    world.crash();
    assert_eq!(world.list(), BTreeMap::new());
}

/// Two agents of one name answer on the same subject.
#[test]
fn what_an_agent_in_another_session_has_done_ends_no_entry() {
    for key in [
        AnyKey::Repush(repush("h1", "prod")),
        AnyKey::Rip(rip("h1", "prod", "web-1")),
    ] {
        for other in [SESSION.0 - 1, SESSION.0 + 1] {
            let mut world = World::new(1);
            world.put(put_of(&key, 5));
            world.until_due();
            let flight = world.only_flight();
            world.render(flight, 8);
            let Leg::Call(call) = world.air[&flight].1.clone() else {
                panic!("not called")
            };
            let mut answer = done(&key, &call);
            match &mut answer {
                Answer::Clobber(report) => report.session = SessionId(other),
                Answer::Remove(report) => report.session = SessionId(other),
                unasked => panic!("{unasked:?}"),
            }
            world.answer(flight, answer);
            assert_eq!(
                only(&mut world).last_error,
                format!(
                    "an agent answered in session {other}, and the host's is in 7; see dvsctl \
                     describe host"
                )
            );
        }
    }
}

/// A publisher that lost its ledger numbers from 1 again.
#[test]
fn a_later_store_counts_more_than_any_revision_of_an_earlier_one() {
    let later = |mut put: RetryPut| {
        put.store = StoreId(uuid::Uuid::from_u128(1));
        put
    };
    let mut world = World::new(1);
    world.put_repush("h1", 9);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 9);
    world.put(later(put_of(&AnyKey::Repush(repush("h1", "prod")), 1)));
    assert_eq!(only(&mut world).revision, Revision(1));
    // What was sent before is of the earlier store.
    world.apply(flight);
    assert_eq!(only(&mut world).revision, Revision(1));
    world.put_repush("h1", 20);
    world.put(settled("h1", "prod", 20));
    world.crash();
    assert_eq!(only(&mut world).revision, Revision(1));
    world.put(later(settled("h1", "prod", 1)));
    assert_eq!(world.list(), BTreeMap::new());
}

#[test]
fn what_was_put_during_the_flight_ends_it_only_if_the_state_sent_covers_it() {
    for (meanwhile, stays) in [(5, false), (8, false), (9, true)] {
        let mut world = World::new(1);
        world.put_repush("h1", 5);
        world.until_due();
        let flight = world.only_flight();
        world.render(flight, 8);
        world.put_repush("h1", meanwhile);
        world.apply(flight);
        assert_eq!(!world.list().is_empty(), stays, "put {meanwhile}");
        world.crash();
        assert_eq!(!world.list().is_empty(), stays, "put {meanwhile}");
        if stays {
            assert!(world.until_due());
            let flight = world.only_flight();
            world.render(flight, 9);
            world.apply(flight);
            assert!(world.list().is_empty());
        }
    }
}

/// A publisher that lost its ledger numbers from 1 again.
#[test]
fn an_entry_of_an_earlier_store_ends_all_the_same() {
    let mut world = World::new(1);
    world.put_repush("h1", 1_000);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 2);
    world.apply(flight);
    assert!(world.list().is_empty());
}

#[test]
fn a_failed_try_waits_within_its_window_and_says_why() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    let failure = Answer::Clobber(ApplyReport {
        v: V1,
        host: "h1".parse().unwrap(),
        session: SESSION,
        switch: "prod".parse().unwrap(),
        observed: Revision(3),
        position: None,
        outcome: ApplyOutcome::Failed {
            message: "bridge is gone".to_owned(),
            ports: (1..=5)
                .map(|n| PortFailure {
                    port: format!("web-{n}").parse().unwrap(),
                    field: Some("vlan".to_owned()),
                    message: "no".to_owned(),
                })
                .collect(),
        },
    });
    let named = "bridge is gone; port web-1 vlan: no; port web-2 vlan: no; port web-3 vlan: no; \
                 and 2 more ports";
    let errors = [
        (failure, named),
        (Answer::TimedOut, "the host did not answer in time"),
        (
            Answer::NoResponder,
            "nobody listens for the host: its agent or its connection is down",
        ),
        (Answer::NotSent("no connection".to_owned()), "no connection"),
        (
            Answer::Unreadable("empty".to_owned()),
            "the host's answer is not readable: empty",
        ),
    ];
    for (tries, (answer, error)) in errors.into_iter().enumerate() {
        assert!(world.until_due());
        let flight = world.only_flight();
        world.render(flight, 8);
        world.answer(flight, answer);
        let state = only(&mut world);
        let attempts = u32::try_from(tries).unwrap() + 2;
        assert_eq!(
            (state.attempts, state.last_error.as_str()),
            (attempts, error)
        );
        let next = state.next_try.unwrap();
        let window = world.settings.backoff.window(attempts);
        assert!(world.now <= next && next <= world.now.after(window));
    }
}

#[test]
fn a_publisher_that_is_away_or_confused_costs_a_try_and_loses_nothing() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    let foreign = harness::rendered(
        &dvs_schemas::v1::RenderRequest::State {
            host: "h1".parse().unwrap(),
            switch: "other".parse().unwrap(),
        },
        8,
    );
    for result in [Err("nobody answers".to_owned()), Ok(foreign)] {
        assert!(world.until_due());
        let flight = world.only_flight();
        world.come_back(Event::Rendered { flight, result });
        assert!(world.air.is_empty(), "nothing is sent");
    }
    let state = only(&mut world);
    assert_eq!(state.attempts, 3);
    assert_eq!(state.last_error, "push 5 failed", "the host's own");
    assert_eq!(
        state.not_tried.as_deref(),
        Some("config-publisher rendered switch other where prod was asked for")
    );
}

#[test]
fn a_removal_that_is_not_wanted_any_more_is_forgotten_unless_a_newer_one_came() {
    for newer in [false, true] {
        let mut world = World::new(1);
        let key = AnyKey::Rip(rip("h1", "prod", "web-1"));
        world.put(put_of(&key, 5));
        world.until_due();
        let flight = world.only_flight();
        if newer {
            world.put(put_of(&key, 6));
        }
        world.come_back(Event::Rendered {
            flight,
            result: Ok(RenderReply::Cancelled {}),
        });
        assert!(world.air.is_empty());
        assert_eq!(!world.list().is_empty(), newer);
    }
}

#[test]
fn a_settlement_ends_what_it_covers_and_no_more() {
    let mut world = World::new(1);
    world.put(RetryPut {
        repush: vec![
            attempt(repush("h1", "prod"), 5),
            attempt(repush("h1", "lab"), 5),
            attempt(repush("h10", "prod"), 5),
        ],
        rip: vec![
            attempt(rip("h1", "prod", "old"), 4),
            attempt(rip("h1", "prod", "new"), 8),
        ],
        ..RetryPut::default()
    });
    world.put(settled("h1", "prod", 4));
    assert_eq!(world.list().len(), 4, "the re-push entry is newer");
    world.put(settled("h1", "prod", 7));
    let left: Vec<AnyKey> = world.list().into_keys().collect();
    let expected = [
        AnyKey::Repush(repush("h1", "lab")),
        AnyKey::Repush(repush("h10", "prod")),
        AnyKey::Rip(rip("h1", "prod", "new")),
    ];
    assert_eq!(left, expected);
    world.crash();
    assert_eq!(world.list().len(), 3);
}

#[test]
fn a_full_state_that_a_host_applied_ends_its_removals_up_to_there() {
    let mut world = World::new(1);
    world.put(RetryPut {
        repush: vec![attempt(repush("h1", "prod"), 5)],
        rip: vec![
            attempt(rip("h1", "prod", "old"), 4),
            attempt(rip("h1", "prod", "new"), 9),
            attempt(rip("h1", "lab", "other"), 4),
            attempt(rip("h2", "prod", "other"), 4),
        ],
        ..RetryPut::default()
    });
    world.act(Action::Park, on(Queue::Rip)).unwrap();
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 8);
    world.apply(flight);
    let left: Vec<AnyKey> = world.list().into_keys().collect();
    let expected = [
        AnyKey::Rip(rip("h1", "lab", "other")),
        AnyKey::Rip(rip("h1", "prod", "new")),
        AnyKey::Rip(rip("h2", "prod", "other")),
    ];
    assert_eq!(left, expected);
}

/// One line when it begins, one per try in vain, one when it ends.
#[test]
fn the_log_tells_the_life_of_every_entry() {
    let note = |port: Option<&str>, revision, attempts, fate| Note {
        host: "h1".parse().unwrap(),
        switch: "prod".parse().unwrap(),
        port: port.map(|port| port.parse().unwrap()),
        revision: Revision(revision),
        attempts,
        fate,
    };
    let failed = |revision| format!("push {revision} failed");
    let mut world = World::new(1);
    for revision in [5, 5, 9] {
        world.put_repush("h1", revision);
    }
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 9);
    world.answer(flight, Answer::TimedOut);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 9);
    world.apply(flight);
    let late = "the host did not answer in time".to_owned();
    assert_eq!(
        std::mem::take(&mut world.notes),
        [
            note(None, 5, 1, Fate::Begun(failed(5))),
            note(None, 9, 2, Fate::Failed(failed(9))),
            note(None, 9, 3, Fate::Failed(late)),
            note(None, 9, 3, Fate::Ended(End::Done)),
        ]
    );

    world.put(put_of(&AnyKey::Rip(rip("h1", "prod", "a")), 4));
    world.put(settled("h1", "prod", 4));
    world.put(put_of(&AnyKey::Rip(rip("h1", "prod", "b")), 5));
    world.act(Action::Cancel, host("h1")).unwrap();
    world.put(put_of(&AnyKey::Rip(rip("h1", "prod", "c")), 6));
    world.until_due();
    let flight = world.only_flight();
    let result = Ok(RenderReply::Cancelled {});
    world.come_back(Event::Rendered { flight, result });
    assert_eq!(
        world.notes,
        [
            note(Some("a"), 4, 1, Fate::Begun(failed(4))),
            note(Some("a"), 4, 1, Fate::Ended(End::Settled)),
            note(Some("b"), 5, 1, Fate::Begun(failed(5))),
            note(Some("b"), 5, 1, Fate::Ended(End::Cancelled)),
            note(Some("c"), 6, 1, Fate::Begun(failed(6))),
            note(Some("c"), 6, 1, Fate::Ended(End::Unwanted)),
        ]
    );
}

#[test]
fn an_answer_for_a_settled_entry_is_ignored() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 5);
    world.put(settled("h1", "prod", 6));
    world.put_repush("h1", 9);
    let entry = only(&mut world);
    world.apply(flight);
    assert_eq!(only(&mut world), entry);
}

#[test]
fn parked_entries_stay_visible_and_are_not_tried_until_kicked() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    world.put_repush("h2", 5);
    assert_eq!(world.act(Action::Park, host("h1")), Ok(1));
    world.crash();
    world.put_repush("h1", 9);
    world.advance(Duration::from_secs(3_600));
    let flight = world.only_flight();
    assert_eq!(world.air[&flight].0, AnyKey::Repush(repush("h2", "prod")));
    let parked = world
        .list()
        .remove(&AnyKey::Repush(repush("h1", "prod")))
        .unwrap();
    assert_eq!((parked.next_try, parked.revision), (None, Revision(9)));
    assert_eq!(world.act(Action::Kick, host("h1")), Ok(1));
    assert_eq!(world.air.len(), 2, "tried at once");
}

#[test]
fn parking_or_cancelling_in_flight_keeps_the_host_from_being_called() {
    for action in [Action::Park, Action::Cancel] {
        let mut world = World::new(1);
        world.put_repush("h1", 5);
        world.until_due();
        let flight = world.only_flight();
        assert_eq!(world.act(action, host("h1")), Ok(1));
        assert_eq!(world.core.in_flight(), 1, "it holds its place");
        world.render(flight, 8);
        assert_eq!(world.core.in_flight(), 0);
        assert!(world.air.is_empty());
        let left = usize::from(action == Action::Park);
        assert_eq!(world.list().len(), left);
    }
}

#[test]
fn a_selection_takes_what_matches_all_of_it() {
    let selections = [
        (r#"{"queue":"repush"}"#, 3),
        (r#"{"queue":"rip","host":"h1"}"#, 2),
        (r#"{"host":"h1"}"#, 4),
        (r#"{"switch":"prod"}"#, 4),
        (r#"{"host":"h1","switch":"lab"}"#, 1),
        (r#"{"port":"web-1"}"#, 1),
        (r#"{"queue":"repush","port":"web-1"}"#, 0),
        (r#"{"host":"h"}"#, 0),
    ];
    for (text, entries) in selections {
        let mut world = World::new(1);
        world.put(RetryPut {
            repush: vec![
                attempt(repush("h1", "prod"), 5),
                attempt(repush("h1", "lab"), 5),
                attempt(repush("h1-a", "prod"), 5),
            ],
            rip: vec![
                attempt(rip("h1", "prod", "web-1"), 5),
                attempt(rip("h1", "prod", "web-2"), 5),
            ],
            ..RetryPut::default()
        });
        let (_, selection) = dvs_schemas::codec::decode(text.as_bytes()).unwrap();
        assert_eq!(world.act(Action::Cancel, selection), Ok(entries), "{text}");
        assert_eq!(world.list().len(), 5 - usize::try_from(entries).unwrap());
    }
}

#[test]
fn a_selection_of_nothing_in_particular_is_refused() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    let problem = world
        .act(Action::Cancel, EntrySelection::default())
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::Invalid);
    assert_eq!(
        problem.allowed.as_deref(),
        Some("at least one of queue, host, switch, port")
    );
    assert_eq!(world.list().len(), 1);
}

#[test]
fn tries_at_once_are_bounded_and_all_get_their_turn() {
    let hosts = IN_FLIGHT + 100;
    let mut world = World::new(1);
    world.put(RetryPut {
        repush: (0..hosts)
            .map(|n| attempt(repush(&format!("h{n}"), "prod"), 5))
            .collect(),
        ..RetryPut::default()
    });
    world.advance(Duration::from_secs(2));
    assert_eq!(world.air.len(), IN_FLIGHT);
    assert_eq!(world.core.due(), None, "the loop does not spin");
    while let Some(flight) = world.air.keys().next().copied() {
        world.render(flight, 8);
        world.apply(flight);
        assert!(world.air.len() <= IN_FLIGHT);
    }
    assert_eq!(world.launches, hosts);
    assert!(world.list().is_empty());
}

#[test]
fn a_clock_that_was_ahead_delays_nobody_past_the_largest_window() {
    let mut world = World::new(1);
    let right = world.now;
    world.now = right.after(Duration::from_secs(86_400));
    world.put_repush("h1", 5);
    world.now = right;
    world.crash();
    let next = only(&mut world).next_try.unwrap();
    assert!(next <= right.after(world.settings.backoff.cap));
}

#[test]
fn a_forgotten_host_has_no_entries_but_those_of_a_later_life() {
    let mut world = World::new(1);
    for (host, revision) in [("h1", 3), ("h10", 3), ("h2", 3)] {
        world.put(put_of(&AnyKey::Repush(repush(host, "prod")), revision));
        world.put(put_of(&AnyKey::Repush(repush(host, "lab")), revision));
        world.put(put_of(&AnyKey::Rip(rip(host, "prod", "web-1")), revision));
    }
    let parked = EntrySelection {
        host: Some("h1".parse().unwrap()),
        ..EntrySelection::default()
    };
    world.act(Action::Park, parked).unwrap();
    // Came back in the moment in which it was forgotten.
    world.put(put_of(&AnyKey::Repush(repush("h1", "new")), 5));
    world.put(forgotten("h1", 5));
    world.put(forgotten("h2", 4));
    let stay = [
        AnyKey::Repush(repush("h1", "new")),
        AnyKey::Repush(repush("h10", "lab")),
        AnyKey::Repush(repush("h10", "prod")),
        AnyKey::Rip(rip("h10", "prod", "web-1")),
    ];
    let listed = |world: &mut World| world.list().into_keys().collect::<Vec<_>>();
    assert_eq!(listed(&mut world), stay);
    world.crash();
    assert_eq!(listed(&mut world), stay);
    // The word comes twice.
    world.put(forgotten("h1", 5));
    assert_eq!(listed(&mut world), stay);
}

#[test]
fn the_answer_of_a_forgotten_host_is_ignored() {
    let mut world = World::new(1);
    world.put_repush("h1", 3);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 3);
    world.put(forgotten("h1", 4));
    world.apply(flight);
    assert_eq!(world.list(), BTreeMap::new());
}
