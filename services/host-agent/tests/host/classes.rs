// SPDX-License-Identifier: Apache-2.0
//! Fields that are told at each change, and fields that are told when they have
//! stopped changing, as the switch says; and events that are fetched.

use std::time::Duration;

use dvs_schemas::v1::{Counters, CountersOf, Fetched, Link, SwitchState, V1};
use dvs_schemas::{Epoch, ProblemCode, RuntimeClass, RuntimeField, RuntimeSettings, TellMode};
use host_agent::host::{Answer, HostEvent, RuntimeEvent};

use crate::history::{Commit, Publisher};
use crate::rig::{QUIET, Rig, id};

use crate::telling::{SOON, acknowledge, changed, settled, told, traffic};
use crate::versions::{one, settings};

/// Says how runtime state is told, as any change of the switch is said.
fn say(rig: &mut Rig, publisher: &mut Publisher, runtime: RuntimeSettings) {
    let settings = SwitchState {
        runtime,
        ..settings(1500)
    };
    let before = rig.datapath.writes();
    rig.send(&one(publisher.commit(&Commit::Settings(settings))));
    assert_eq!(
        rig.datapath.writes(),
        before,
        "the datapath has no such thing"
    );
}

fn classes(field: RuntimeField, class: RuntimeClass) -> RuntimeSettings {
    RuntimeSettings {
        classes: [(field, class)].into(),
        ..RuntimeSettings::default()
    }
}

/// Flaps p1's link so often, every second; leaves it up.
fn flap(rig: &mut Rig, times: usize) {
    for _ in 0..times {
        for link in [Link::Down, Link::Up] {
            rig.datapath.link(&id("prod"), &id("p1"), link);
            rig.notices();
            pass(rig, SOON);
        }
    }
}

/// So much time, in which the collector acknowledges.
fn pass(rig: &mut Rig, time: Duration) {
    let step = Duration::from_millis(500);
    let mut left = time;
    while !left.is_zero() {
        rig.pass(step.min(left));
        left = left.saturating_sub(step);
        if !rig.told.is_empty() {
            acknowledge(rig);
        }
    }
}

fn links(rig: &mut Rig) -> Vec<Link> {
    let told = std::mem::take(&mut rig.told);
    let changed = told.iter().filter_map(|event| match &**event {
        RuntimeEvent::Changed(event) => Some(event),
        RuntimeEvent::Settled(_) | RuntimeEvent::Conditions(_) | RuntimeEvent::Notice(_) => None,
    });
    changed
        .flat_map(|event| event.ports.iter().map(|port| port.link))
        .collect()
}

#[test]
fn a_user_makes_a_field_busy_and_rare_again_without_a_restart() {
    let (mut rig, mut publisher) = told();
    flap(&mut rig, 2);
    let each = [Link::Down, Link::Up, Link::Down, Link::Up];
    assert_eq!(links(&mut rig), each);

    say(
        &mut rig,
        &mut publisher,
        classes(RuntimeField::Link, RuntimeClass::Busy),
    );
    flap(&mut rig, 5);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    pass(&mut rig, QUIET - Duration::from_millis(1));
    assert_eq!(links(&mut rig), []);
    pass(&mut rig, SOON);
    assert_eq!(links(&mut rig), [Link::Down]);

    say(&mut rig, &mut publisher, RuntimeSettings::default());
    pass(&mut rig, SOON);
    rig.told.clear();
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    pass(&mut rig, SOON);
    assert_eq!(links(&mut rig), [Link::Up]);
}

#[test]
fn a_live_read_within_a_change_does_not_outlive_it() {
    let (mut rig, mut publisher) = told();
    say(
        &mut rig,
        &mut publisher,
        classes(RuntimeField::Link, RuntimeClass::Busy),
    );
    pass(&mut rig, SOON);
    rig.told.clear();
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    // The collector may store what it is shown here.
    rig.ask_live(None);
    rig.datapath.link(&id("prod"), &id("p1"), Link::Up);
    rig.notices();
    pass(&mut rig, QUIET + SOON);
    assert_eq!(links(&mut rig), [Link::Up]);
    flap(&mut rig, 2);
    pass(&mut rig, QUIET + SOON);
    assert_eq!(links(&mut rig), [], "to and fro is nothing");
}

#[test]
fn a_link_that_flaps_on_is_found_to_be_busy() {
    let (mut rig, mut publisher) = told();
    say(
        &mut rig,
        &mut publisher,
        classes(RuntimeField::Link, RuntimeClass::Auto),
    );
    flap(&mut rig, 20);
    assert!(links(&mut rig).len() <= 6, "of 40 changes");
    pass(&mut rig, QUIET + SOON);
    rig.told.clear();
    rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
    rig.notices();
    pass(&mut rig, QUIET + SOON);
    assert_eq!(links(&mut rig), [Link::Down], "the last one is told");
}

#[test]
fn counters_that_count_as_rare_are_told_as_long_as_they_move_and_once_more_never() {
    let (mut rig, mut publisher) = told();
    say(
        &mut rig,
        &mut publisher,
        classes(RuntimeField::Counters, RuntimeClass::Rare),
    );
    let mut said = Vec::new();
    for _ in 0..3 {
        traffic(&mut rig, "p1", 100);
        rig.pass(QUIET + SOON);
        let event = rig.told.pop().expect("told at each look");
        said.push(settled(&event).counters[0].counters.ingress_packets);
        rig.event(HostEvent::Acknowledged {
            seq: event.seq(),
            outcome: Ok(dvs_schemas::v1::EventAck {
                v: V1,
                seq: event.seq(),
            }),
        });
    }
    assert_eq!(said, [1, 2, 3]);
    rig.pass(QUIET * 10);
    assert!(rig.told.is_empty(), "{:?}", rig.told);
}

#[test]
fn counters_settle_however_often_another_link_goes_down() {
    let (mut rig, _) = told();
    traffic(&mut rig, "p2", 100);
    for _ in 0..15 {
        for link in [Link::Down, Link::Up] {
            rig.datapath.link(&id("prod"), &id("p1"), link);
            rig.notices();
            pass(&mut rig, SOON);
        }
    }
    let events = rig.told.iter().filter_map(|event| match &**event {
        RuntimeEvent::Settled(event) => Some(event),
        RuntimeEvent::Changed(_) | RuntimeEvent::Conditions(_) | RuntimeEvent::Notice(_) => None,
    });
    let counters = events.flat_map(|event| event.counters.iter());
    let of_p2: Vec<_> = counters.filter(|of| of.port == id("p2")).collect();
    let expected = CountersOf {
        port: id("p2"),
        epoch: Epoch(1),
        counters: Counters {
            ingress_packets: 1,
            ingress_bytes: 100,
            ..Counters::default()
        },
    };
    assert_eq!(of_p2, [&expected]);
}

#[test]
fn a_notice_carries_no_values_and_what_is_fetched_is_what_would_have_been_pushed() {
    let flapped = |mode| {
        let (mut rig, mut publisher) = told();
        say(
            &mut rig,
            &mut publisher,
            RuntimeSettings {
                mode,
                ..RuntimeSettings::default()
            },
        );
        rig.datapath.link(&id("prod"), &id("p1"), Link::Down);
        rig.notices();
        rig.pass(SOON);
        rig
    };
    let pushed = flapped(TellMode::Push);
    let pushed = changed(&pushed.told[0]).clone();

    let mut rig = flapped(TellMode::Notify);
    let notice = match &*rig.told[0] {
        RuntimeEvent::Notice(notice) => notice.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(notice.ports, [id("p1")]);
    assert_eq!((notice.seq, notice.at), (pushed.seq, pushed.at));
    let session = notice.session;
    assert_eq!(
        rig.fetch(session, notice.seq),
        Answer::Fetched(Fetched::Changed(pushed))
    );

    // Another event, or another run's, is not had.
    for (session, seq) in [(session, 7), (dvs_schemas::SessionId(0), notice.seq)] {
        match rig.fetch(session, seq) {
            Answer::Problem(problem) => assert_eq!(problem.code, ProblemCode::NotFound),
            other => panic!("{other:?}"),
        }
    }
    acknowledge(&mut rig);
    assert!(matches!(rig.fetch(session, notice.seq), Answer::Problem(_)));
}
