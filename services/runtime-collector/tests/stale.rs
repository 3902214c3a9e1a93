// SPDX-License-Identifier: Apache-2.0
//! Virtual ports that should be gone: removed after two sightings, and never
//! against a newer placement.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use dvs_schemas::Revision;
use dvs_schemas::v1::{Changed, PortRuntime, PutReply, RipKey, V1};
use harness::{World, changed, gone, host, live_reply, port, question, state};
use runtime_collector::{Answer, AskId};

/// Longer than between the sightings.
const LATER: Duration = Duration::from_secs(61);

/// `web-1` went from h1, in epoch 3, to h2, in epoch 5. Both are known.
fn moved() -> World {
    let mut world = World::new();
    for name in ["h1", "h2"] {
        let ask = world.heartbeat(name, 1, 0).unwrap();
        world.answer(ask, Answer::Live(live_reply(name, vec![], vec![])));
    }
    world.changed(changed("h1", 1, 1, vec![state("web-1", 3, 2)]));
    world.changed(changed("h2", 1, 1, vec![state("web-1", 5, 2)]));
    world
}

/// What a host says.
type Word = fn(&mut World);

/// h1 lives; the question that follows.
fn look(world: &mut World, seq: u64) -> Option<AskId> {
    let ask = world.heartbeat("h1", 1, seq)?;
    assert_eq!(
        world.asked[&ask],
        (host("h1"), question(Some("web-1"), None))
    );
    Some(ask)
}

fn still_there() -> Answer {
    Answer::Live(live_reply("h1", vec![state("web-1", 3, 2)], vec![]))
}

#[test]
fn what_is_still_there_at_the_second_look_goes_to_the_rip_queue() {
    let mut world = moved();
    assert_eq!(look(&mut world, 1), None, "seen once");
    world.pass(LATER);
    let ask = look(&mut world, 1).unwrap();
    assert_eq!(look(&mut world, 1), None, "one question at a time");
    world.answer(ask, still_there());
    let (ask, put) = world.rips.pop().unwrap();
    let rip = &put.rip[0];
    let key = RipKey {
        host: host("h1"),
        switch: "prod".parse().unwrap(),
        port: port("web-1"),
    };
    assert_eq!((&rip.key, rip.revision), (&key, Revision(2)));
    assert_eq!((put.rip.len(), put.repush.len()), (1, 0));
    world.turn([runtime_collector::Event::Answered {
        ask,
        answer: Answer::Put(PutReply { v: V1, entries: 1 }),
    }]);
    // It is retry's now.
    world.pass(LATER * 10);
    assert_eq!(look(&mut world, 1), None);
}

#[test]
fn what_the_host_said_meanwhile_ends_the_suspicion() {
    let says: [(&str, Word); 2] = [
        ("gone", |world| {
            world.changed(Changed {
                gone: vec![gone("web-1", 3)],
                ..changed("h1", 1, 2, vec![])
            });
        }),
        ("moved back", |world| {
            world.changed(changed("h1", 1, 2, vec![state("web-1", 7, 2)]));
        }),
    ];
    for (what, says) in says {
        let mut world = moved();
        says(&mut world);
        world.pass(LATER);
        assert_eq!(look(&mut world, 2), None, "{what}");
    }
    // Also between question and answer.
    for (what, says) in says {
        let mut world = moved();
        world.pass(LATER);
        let ask = look(&mut world, 1).unwrap();
        says(&mut world);
        world.answer(ask, still_there());
        assert!(world.rips.is_empty(), "{what}");
    }
}

#[test]
fn what_is_not_there_at_the_second_look_is_forgotten() {
    let on_another_switch = PortRuntime {
        switch: "lab".parse().unwrap(),
        ..state("web-1", 3, 2)
    };
    for answer in [
        Answer::Live(live_reply("h1", vec![], vec![])),
        Answer::Live(live_reply("h1", vec![state("web-1", 9, 2)], vec![])),
        Answer::Live(live_reply("h1", vec![on_another_switch], vec![])),
        Answer::Refused("port web-1 is not on host h1".to_owned()),
    ] {
        let mut world = moved();
        world.pass(LATER);
        let ask = look(&mut world, 1).unwrap();
        world.answer(ask, answer);
        assert!(world.rips.is_empty());
        world.pass(LATER);
        assert_eq!(look(&mut world, 1), None);
    }
}

#[test]
fn a_look_or_a_hand_over_that_fails_is_made_again_later() {
    let mut world = moved();
    world.pass(LATER);
    let ask = look(&mut world, 1).unwrap();
    world.answer(ask, Answer::TimedOut);
    assert_eq!(look(&mut world, 1), None, "not at once");
    world.pass(LATER);
    let ask = look(&mut world, 1).unwrap();
    world.answer(ask, still_there());
    let (ask, put) = world.rips.pop().unwrap();
    world.turn([runtime_collector::Event::Answered {
        ask,
        answer: Answer::NotSent("the bus is away".to_owned()),
    }]);
    world.pass(LATER);
    let ask = look(&mut world, 1).unwrap();
    world.answer(ask, still_there());
    assert_eq!(world.rips.pop().unwrap().1, put);
}

#[test]
fn a_late_word_of_an_old_placement_is_a_first_sighting() {
    let mut world = moved();
    world.changed(Changed {
        gone: vec![gone("web-1", 3)],
        ..changed("h1", 1, 2, vec![])
    });
    world.changed(changed("h1", 1, 3, vec![state("web-1", 4, 2)]));
    world.pass(LATER);
    assert!(look(&mut world, 3).is_some());
}
