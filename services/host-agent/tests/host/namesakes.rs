// SPDX-License-Identifier: Apache-2.0
//! Whether the agent is its host's, and what it does while another one is.

use std::time::Duration;

use dvs_schemas::SessionId;
use dvs_schemas::v1::{Heartbeat, HelloReply, Identified, Identify, V1};
use host_agent::datapath::{Notice, Pulled};
use host_agent::host::{Answer, AskFailure, HostEvent};

use crate::history::Commit;
use crate::plugging::plug;
use crate::rig::{Rig, id};
use crate::versions::{access, one, site};

const LONG: Duration = Duration::from_secs(600);

fn refuse(rig: &mut Rig) {
    let why = "another agent is host h1".to_owned();
    rig.event(HostEvent::Greeted(Err(AskFailure::Namesake(why))));
}

fn accept(rig: &mut Rig, session: u64) {
    rig.event(HostEvent::Greeted(Ok(HelloReply {
        v: V1,
        session: SessionId(session),
        switches: Vec::new(),
    })));
    rig.wake();
}

/// What the host has said and done so far.
fn said(rig: &Rig) -> [u64; 7] {
    let counts = [
        rig.answers.len(),
        rig.heartbeats.len(),
        rig.told.len(),
        rig.claims.len(),
        rig.releases.len(),
        rig.announced.len(),
    ];
    let [a, b, c, d, e, f] = counts.map(|count| count as u64);
    [a, b, c, d, e, f, rig.datapath.writes()]
}

#[test]
fn a_refused_agent_says_and_changes_nothing_until_it_is_its_host_s() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(Duration::from_secs(30));
    rig.event(HostEvent::Disconnected);
    rig.event(HostEvent::Connected);
    rig.wake();
    refuse(&mut rig);
    let (before, there) = (said(&rig), rig.datapath.picture());
    let hellos = rig.hellos.len();
    plug(&mut rig, "p7", None);
    let changed = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    let asked = rig.send(&changed);
    rig.send(&publisher.full());
    rig.event(HostEvent::Noticed(Notice::Unplugged {
        switch: id("prod"),
        port: id("p1"),
        interface: "tap-p1".to_owned(),
        why: Pulled::Off,
    }));
    for _ in 0..20 {
        rig.pass(Duration::from_secs(30));
        refuse(&mut rig);
    }
    assert_eq!(said(&rig), before);
    assert_eq!(rig.datapath.picture(), there, "what is wired stays so");
    assert_eq!(rig.answer(asked), None);
    assert!(
        (10..=60).contains(&(rig.hellos.len() - hellos)),
        "{}",
        rig.hellos.len()
    );

    accept(&mut rig, 2);
    let asked = rig.send(&publisher.full());
    match rig.answer(asked) {
        Some(Answer::Apply(report)) => assert_eq!(report.session, SessionId(2)),
        other => panic!("{other:?}"),
    }
    rig.pass(LONG);
    let sessions = rig.claims.iter().map(|claim| claim.session);
    assert_eq!(sessions.collect::<Vec<_>>()[0], SessionId(2));
    assert_eq!(rig.heartbeats.last().unwrap().session, SessionId(2));
}

#[test]
fn what_is_asked_before_the_hello_is_answered_waits_for_that() {
    let (mut rig, mut publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let changed = one(publisher.commit(&Commit::Group(id("g1"), access(20))));
    rig.start_again();
    rig.event(HostEvent::Connected);
    let asked = rig.send(&changed);
    rig.pass(LONG);
    assert_eq!(rig.answer(asked), None);
    assert_eq!(
        rig.heartbeats,
        [],
        "nothing is said by who may be a namesake"
    );
    accept(&mut rig, 2);
    match rig.answer(asked) {
        Some(Answer::Apply(report)) => {
            assert_eq!(
                (report.session, report.observed),
                (SessionId(2), publisher.revision)
            );
        }
        other => panic!("{other:?}"),
    }

    rig.start_again();
    rig.event(HostEvent::Connected);
    let asked = rig.send(&publisher.full());
    refuse(&mut rig);
    rig.pass(LONG);
    accept(&mut rig, 3);
    assert_eq!(rig.answer(asked), None, "another agent has answered it");
}

fn identify(rig: &mut Rig, session: u64) -> Option<Answer> {
    rig.ask(|asker| HostEvent::Identify {
        message: Identify {
            v: V1,
            session: SessionId(session),
        },
        asker: Some(asker),
    })
}

#[test]
fn only_the_agent_of_a_session_says_that_it_is_there() {
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    let here = Answer::Identified(Identified {
        v: V1,
        host: id("h1"),
        session: SessionId(1),
    });
    assert_eq!(identify(&mut rig, 1), Some(here));
    assert_eq!(identify(&mut rig, 0), None);
    refuse(&mut rig);
    assert_eq!(identify(&mut rig, 1), None);
    rig.start_again();
    rig.event(HostEvent::Connected);
    assert_eq!(identify(&mut rig, 1), None);
}

/// Of two that say hello at once, one is asked for before it knows.
#[test]
fn who_is_asked_for_before_the_hello_is_answered_says_so_then() {
    for is_refused in [false, true] {
        let mut rig = Rig::new();
        rig.start_again();
        rig.event(HostEvent::Connected);
        rig.wake();
        if is_refused {
            refuse(&mut rig);
        }
        assert_eq!(identify(&mut rig, 2), None);
        accept(&mut rig, 2);
        assert!(matches!(
            rig.answers.last(),
            Some((_, Answer::Identified(_)))
        ));
    }
}

#[test]
fn an_agent_whose_session_is_over_says_hello_and_nothing_else() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.wake();
    accept(&mut rig, 1);
    rig.send(&publisher.full());
    rig.pass(LONG);
    let hellos = rig.hellos.len();
    assert_eq!(identify(&mut rig, 2), None);
    let before = said(&rig);
    rig.wake();
    assert_eq!(rig.hellos.len(), hellos + 1, "at once");
    assert_eq!(rig.hellos.last().unwrap().session, Some(SessionId(1)));
    plug(&mut rig, "p7", None);
    rig.pass(LONG);
    assert_eq!(said(&rig), before);
}

#[test]
fn a_claim_that_a_namesake_made_brings_its_agent_to_say_hello() {
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    rig.wake();
    accept(&mut rig, 1);
    plug(&mut rig, "p7", None);
    let hellos = rig.hellos.len();
    rig.event(HostEvent::Claimed {
        port: id("p7"),
        outcome: Err(AskFailure::Namesake("another agent is host h1".to_owned())),
    });
    rig.wake();
    assert_eq!(rig.hellos.len(), hellos + 1);
    assert_eq!(rig.core().session(), None);
}

#[test]
fn what_is_under_way_is_told_in_the_present_session() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.event(HostEvent::Connected);
    rig.send(&publisher.full());
    rig.pass(Duration::from_secs(2));
    let first = rig.told.last().unwrap().notice();
    assert_eq!(first.session, SessionId(1));
    accept(&mut rig, 2);
    rig.event(HostEvent::Acknowledged {
        seq: first.seq,
        outcome: Err(AskFailure::MaybeDone("no answer".to_owned())),
    });
    rig.pass(LONG);
    let again = rig.told.last().unwrap().notice();
    assert_eq!((again.session, again.seq), (SessionId(2), first.seq));
}

#[test]
fn an_agent_that_stops_says_so() {
    let mut rig = Rig::new();
    rig.event(HostEvent::Connected);
    let before = rig.heartbeats.len();
    rig.event(HostEvent::Stopping);
    let said: Vec<&Heartbeat> = rig.heartbeats[before..].iter().collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].last);
    rig.pass(LONG);
    assert_eq!(rig.heartbeats.len(), before + 1, "and nothing more");
}

#[test]
fn a_ledger_of_another_host_is_not_begun_anew_and_the_way_on_is_named() {
    let (mut rig, publisher) = (Rig::new(), site());
    rig.send(&publisher.full());
    let refused = rig.load_as("host-7").unwrap_err().to_string();
    for says in [
        "ledger of host h1",
        "this agent is host-7",
        "--host h1",
        "move the ledger away",
    ] {
        assert!(refused.contains(says), "{refused}");
    }
    assert!(rig.load_as("h1").is_ok());
    assert!(
        Rig::new().load_as("host-7").is_ok(),
        "an empty one is anybody's"
    );
}
