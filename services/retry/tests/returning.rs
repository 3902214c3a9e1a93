// SPDX-License-Identifier: Apache-2.0
//! Hosts that come back are tried at once, and what they said themselves is
//! kept while nobody asks them.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use dvs_schemas::v1::{EntrySelection, EntryState, Observed};
use dvs_schemas::{Revision, SessionId};
use harness::{SESSION, World};
use retry::{Action, Answer, Event};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(10);

fn heartbeat(world: &mut World) {
    observes(world, 4);
}

/// The host lives, and has applied so much.
fn observes(world: &mut World, revision: u64) {
    said_in(world, SESSION, revision);
}

/// An agent of the host's name says so.
fn said_in(world: &mut World, session: SessionId, revision: u64) {
    let observed = Observed {
        switch: "prod".parse().unwrap(),
        revision: Revision(revision),
    };
    world.turn([Event::Heartbeat {
        host: "h1".parse().unwrap(),
        session,
        interval: BEAT,
        observed: vec![observed],
    }]);
}

/// The host doesn't answer for so many tries.
fn silent(world: &mut World, tries: usize) {
    for _ in 0..tries {
        assert!(world.until_due());
        let flight = world.only_flight();
        world.render(flight, 9);
        world.answer(flight, Answer::TimedOut);
    }
}

fn state(world: &mut World) -> EntryState {
    world.list().into_values().next().unwrap()
}

#[test]
fn a_host_whose_heartbeats_come_again_is_tried_at_once() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    silent(&mut world, 8);
    let next = state(&mut world).next_try.unwrap();
    assert!(next > world.now, "its turn is to come");
    heartbeat(&mut world);
    let flight = world.only_flight();
    world.render(flight, 9);
    world.apply(flight);
    assert!(world.list().is_empty());
}

#[test]
fn a_host_that_lives_and_fails_is_tried_at_its_turns() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    for second in 0..300 {
        if second % BEAT.as_secs() == 0 {
            heartbeat(&mut world);
        }
        world.advance(Duration::from_secs(1));
        if !world.air.is_empty() {
            let flight = world.only_flight();
            world.render(flight, 9);
            world.answer(flight, Answer::TimedOut);
        }
    }
    assert!(world.launches < 15, "{} in 30 heartbeats", world.launches);
}

/// It failed, and then a newer change did away with the reason.
#[test]
fn a_host_that_has_applied_something_newer_is_tried_at_once() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    for second in 0..200 {
        if second % BEAT.as_secs() == 0 {
            heartbeat(&mut world);
        }
        world.advance(Duration::from_secs(1));
        if !world.air.is_empty() {
            let flight = world.only_flight();
            world.render(flight, 5);
            world.answer(flight, Answer::TimedOut);
        }
    }
    heartbeat(&mut world);
    assert!(world.air.is_empty(), "nothing is new");
    observes(&mut world, 6);
    let flight = world.only_flight();
    world.render(flight, 9);
    world.apply(flight);
    assert!(world.list().is_empty());
}

/// A namesake whose time is over thaws, while the host's agent is away or fails.
#[test]
fn a_heartbeat_of_an_earlier_session_is_no_sign_of_life() {
    let earlier = SessionId(SESSION.0 - 1);
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    // Only the publisher has spoken of the present session.
    silent(&mut world, 8);
    said_in(&mut world, earlier, 9);
    assert!(world.air.is_empty(), "nobody is there");
    heartbeat(&mut world);
    let flight = world.only_flight();
    world.render(flight, 9);
    world.answer(flight, Answer::TimedOut);
    // Neither as one that was silent, nor as one that has applied more.
    said_in(&mut world, earlier, 9);
    assert!(world.air.is_empty(), "nothing is new");
    // A later one is the host's agent by now, as its own heartbeat says.
    said_in(&mut world, SessionId(SESSION.0 + 1), 6);
    let flight = world.only_flight();
    world.render(flight, 9);
    world.apply(flight);
    assert!(world.list().is_empty());
}

#[test]
fn a_host_is_listened_for_as_long_as_it_has_entries() {
    let mut world = World::new(1);
    for end in [None, Some(Action::Cancel)] {
        world.put_repush("h1", 5);
        heartbeat(&mut world);
        assert_eq!(world.core.listened_for(), 1);
        let flight = world.only_flight();
        world.render(flight, 9);
        match end {
            None => world.apply(flight),
            Some(action) => {
                let of_host = EntrySelection {
                    host: Some("h1".parse().unwrap()),
                    ..EntrySelection::default()
                };
                world.act(action, of_host).unwrap();
            }
        }
        assert_eq!(world.core.listened_for(), 0, "{end:?}");
    }
}

#[test]
fn what_was_parked_stays_parked() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    let host = Some("h1".parse().unwrap());
    let of_host = EntrySelection {
        host,
        ..EntrySelection::default()
    };
    world.act(Action::Park, of_host).unwrap();
    heartbeat(&mut world);
    assert!(world.air.is_empty());
    assert_eq!(state(&mut world).next_try, None);
}

/// A try that began a moment before may fail for that.
#[test]
fn a_try_that_was_under_way_is_repeated_soon() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    silent(&mut world, 8);
    world.until_due();
    let flight = world.only_flight();
    world.render(flight, 9);
    heartbeat(&mut world);
    world.answer(flight, Answer::TimedOut);
    let next = state(&mut world).next_try.unwrap();
    assert!(next <= world.now.after(world.settings.backoff.base));
}

#[test]
fn what_the_host_said_is_kept_while_the_publisher_is_away() {
    let mut world = World::new(1);
    world.put_repush("h1", 5);
    world.until_due();
    let flight = world.only_flight();
    let result = Err("config-publisher was not reached".to_owned());
    world.come_back(Event::Rendered { flight, result });
    let kept = state(&mut world);
    assert_eq!(kept.last_error, "push 5 failed");
    let away = Some("config-publisher was not reached");
    assert_eq!(kept.not_tried.as_deref(), away);
    world.crash();
    assert_eq!(state(&mut world).not_tried.as_deref(), away);
    silent(&mut world, 1);
    assert_eq!(state(&mut world).not_tried, None);
}
