// SPDX-License-Identifier: Apache-2.0
//! Two agents of one name: one is the host's, and what the other one says counts
//! for nothing.

use std::time::Duration;

use config_publisher::events::{Answer, Effect, Event, Reply, Request};
use dvs_schemas::v1::{
    Heartbeat, Hello, HelloReply, HostListRequest, HostStatus, HostVerdict, RenderReply,
    RenderRequest, V1,
};
use dvs_schemas::{Problem, ProblemCode, Revision, SessionId};
use uuid::Uuid;

use crate::desk::{Desk, SITE, hello, name, pushes, web};
use crate::plugging::{claim, release};

/// The hello of an agent that is new: of no session, and on a node of its own.
fn newcomer(agent: u128) -> Hello {
    Hello {
        agent: Uuid::from_u128(agent),
        session: None,
        node: format!("node-{agent}"),
        address: Some([10, 0, 0, 9].into()),
        ..hello("h1", 0)
    }
}

fn beat(host: &str, session: SessionId) -> Event {
    Event::Heartbeat(Heartbeat {
        v: V1,
        host: name(host),
        session,
        seq: 0,
        interval_ms: 10_000,
        last: false,
        observed: Vec::new(),
        positions: Vec::new(),
    })
}

/// A site whose h1 is there, in this session.
fn site() -> (Desk, SessionId) {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.calls.clear();
    let session = desk.session(&name("h1"));
    desk.alive.insert((name("h1"), session));
    (desk, session)
}

fn greet(desk: &mut Desk, hello: Hello) -> Result<HelloReply, Problem> {
    match desk.ask(Request::Hello(hello))? {
        Reply::Hello(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn status(desk: &mut Desk) -> HostStatus {
    let request = HostListRequest {
        host: Some(name("h1")),
        ..HostListRequest::default()
    };
    match desk.ask(Request::Hosts(request)) {
        Ok(Reply::Hosts(mut reply)) => reply.hosts.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newcomer_is_refused_while_the_host_s_agent_is_there_and_told_of_it() {
    let (mut desk, session) = site();
    let refused = greet(&mut desk, newcomer(9)).unwrap_err();
    assert_eq!(refused.code, ProblemCode::Namesake);
    for says in ["host h1", "rack-1", &format!("session {session}"), "--host"] {
        assert!(refused.to_string().contains(says), "{refused}");
    }
    assert_eq!(desk.calls, [], "nothing is sent for it");
    let status = status(&mut desk);
    assert_eq!(status.session, Some(session));
    let [namesake] = &status.namesakes[..] else {
        panic!("{status:?}");
    };
    assert_eq!(
        (&*namesake.node, namesake.address, namesake.heard),
        ("node-9", Some([10, 0, 0, 9].into()), desk.now)
    );
}

#[test]
fn a_namesake_is_named_once_however_often_it_asks_and_forgotten_when_it_asks_no_more() {
    let (mut desk, _) = site();
    for _ in 0..5 {
        assert!(greet(&mut desk, newcomer(9)).is_err());
        desk.pass(Duration::from_secs(20));
        desk.heartbeat("h1");
    }
    assert_eq!(status(&mut desk).namesakes.len(), 1);
    for agent in 10..30 {
        assert!(greet(&mut desk, newcomer(agent)).is_err());
    }
    let named = status(&mut desk).namesakes;
    let named: Vec<&str> = named.iter().map(|of| of.node.as_str()).collect();
    assert_eq!(named, ["node-26", "node-27", "node-28", "node-29"]);
    desk.pass(Duration::from_secs(121));
    assert_eq!(status(&mut desk).namesakes, []);
}

#[test]
fn an_agent_that_does_not_answer_is_followed_by_the_one_that_says_hello() {
    let (mut desk, session) = site();
    assert!(greet(&mut desk, newcomer(9)).is_err());
    desk.alive.clear();
    let reply = greet(&mut desk, newcomer(9)).unwrap();
    assert_eq!(status(&mut desk).namesakes, [], "it is the host's by now");
    assert!(reply.session > session, "{} after {session}", reply.session);
    assert_eq!(status(&mut desk).node.as_deref(), Some("node-9"));
    // The one before thaws: its hello is a newcomer's by now.
    desk.alive.insert((name("h1"), reply.session));
    let refused = greet(&mut desk, hello("h1", session.0)).unwrap_err();
    assert_eq!(refused.code, ProblemCode::Namesake);
    let last = status(&mut desk).namesakes.remove(0).session;
    assert_eq!(last, Some(session));
}

#[test]
fn nobody_is_asked_where_the_agent_said_that_it_stops_or_is_absent() {
    let asks = |desk: &mut Desk| {
        let to = desk.send(Request::Hello(newcomer(9)));
        desk.reply(to).is_none()
    };
    let (mut desk, session) = site();
    assert!(asks(&mut desk));

    let (mut desk, _) = site();
    desk.hear(Event::Heartbeat(Heartbeat {
        v: V1,
        host: name("h1"),
        session,
        seq: 0,
        interval_ms: 10_000,
        last: true,
        observed: Vec::new(),
        positions: Vec::new(),
    }));
    assert!(!asks(&mut desk));

    let (mut desk, _) = site();
    desk.pass(Duration::from_secs(600));
    assert!(!asks(&mut desk));
}

#[test]
fn of_two_newcomers_one_becomes_the_host_s_agent() {
    let (mut desk, _) = site();
    desk.alive.clear();
    let both = [8, 9].map(|agent| desk.send(Request::Hello(newcomer(agent))));
    let asked = |desk: &Desk| {
        let asked = desk.undone.iter();
        let asked = asked.filter(|effect| matches!(effect, Effect::Identify { .. }));
        asked.count()
    };
    assert_eq!(asked(&desk), 1, "one question for both");
    let Some(Effect::Identify { host, session }) = desk.undone.pop_front() else {
        panic!("{:?}", desk.undone);
    };
    desk.hear(Event::Identified {
        host,
        session,
        is_there: Ok(false),
    });
    let first = desk.reply(both[0]).unwrap();
    let Ok(Reply::Hello(HelloReply { session, .. })) = first else {
        panic!("{first:?}");
    };
    desk.alive.insert((name("h1"), session));
    desk.work();
    let second = desk.reply(both[1]).unwrap().unwrap_err();
    assert_eq!(second.code, ProblemCode::Namesake);
}

#[test]
fn whether_somebody_is_there_that_could_not_be_asked_is_not_known() {
    let (mut desk, session) = site();
    let to = desk.send(Request::Hello(newcomer(9)));
    desk.undone.clear();
    desk.hear(Event::Identified {
        host: name("h1"),
        session,
        is_there: Err("the bus is away".to_owned()),
    });
    let refused = desk.reply(to).unwrap().unwrap_err();
    assert_eq!(refused.code, ProblemCode::Unavailable);
    assert_eq!(status(&mut desk).session, Some(session));
}

#[test]
fn a_session_outlives_the_publisher_and_every_later_one_is_larger() {
    let (mut desk, session) = site();
    desk.restart();
    assert!(greet(&mut desk, newcomer(9)).is_err());
    desk.alive.clear();
    let mut last = session;
    for agent in 10..20 {
        desk.restart();
        let reply = greet(&mut desk, newcomer(agent)).unwrap();
        assert!(reply.session > last);
        last = reply.session;
    }
}

/// What hosts answer that is sent a new VLAN, if h1's answer is of this session.
fn pushed(desk: &mut Desk, session: SessionId) -> (u64, Vec<(String, HostVerdict)>) {
    let request = format!(r#"{{"documents": [{}], "wait": "applied"}}"#, web(200));
    let (_, request) = dvs_schemas::v1::ApplyRequest::decode(request.as_bytes()).unwrap();
    let to = desk.send(Request::Apply(request));
    let Some((push, calls)) = pushes(&desk.undone).first().copied() else {
        panic!("{:?}", desk.undone);
    };
    let mut outcomes = desk.outcomes(calls);
    for outcome in &mut outcomes {
        if let (true, Answer::Applied(report)) = (outcome.host == name("h1"), &mut outcome.answer) {
            report.session = session;
        }
    }
    desk.undone.clear();
    desk.hear(Event::Outcomes { push, outcomes });
    match desk.reply(to) {
        Some(Ok(Reply::Applied(reply))) => {
            let summary = reply.applied.unwrap();
            let outcomes = summary.outcomes.iter();
            let outcomes = outcomes.map(|of| (of.host.to_string(), of.outcome));
            (summary.applied, outcomes.collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_of_another_session_is_no_acknowledgement() {
    let (mut desk, session) = site();
    let both = vec![
        ("h1".to_owned(), HostVerdict::Applied),
        ("h2".to_owned(), HostVerdict::Applied),
    ];
    assert_eq!(pushed(&mut desk, session), (2, both));
    for foreign in [SessionId(session.0 - 1), SessionId(session.0 + 1)] {
        let (mut desk, _) = site();
        let before = status(&mut desk).switches[0].observed;
        let (applied, outcomes) = pushed(&mut desk, foreign);
        assert_eq!(applied, 1);
        assert_eq!(outcomes[0], ("h1".to_owned(), HostVerdict::Failed));
        assert_eq!(status(&mut desk).switches[0].observed, before);
        desk.work();
        let missed: Vec<_> = desk.put.iter().flat_map(|put| &put.repush).collect();
        assert_eq!(missed.len(), 1, "{missed:?}");
    }
}

/// Its ledger is an earlier copy of the one that began the session.
#[test]
fn an_answer_in_a_later_session_counts_where_nobody_was_heard_since_the_start() {
    let (mut desk, session) = site();
    desk.restart();
    let later = SessionId(session.0 + 5);
    let both = ["h1", "h2"].map(|host| (host.to_owned(), HostVerdict::Applied));
    assert_eq!(pushed(&mut desk, later), (2, both.to_vec()));
    desk.restart();
    assert_eq!(desk.session(&name("h1")), later, "it is durable");
}

#[test]
fn a_heartbeat_of_a_session_that_is_over_is_no_sign_of_life_and_its_sender_is_told() {
    let (mut desk, session) = site();
    desk.alive.clear();
    let present = greet(&mut desk, newcomer(9)).unwrap().session;
    desk.pass(Duration::from_secs(600));
    let heard = status(&mut desk).heard;
    desk.hear(Event::Heartbeat(Heartbeat {
        v: V1,
        host: name("h1"),
        session,
        seq: 0,
        interval_ms: 10_000,
        last: false,
        observed: vec![dvs_schemas::v1::Observed {
            switch: name("prod"),
            revision: Revision(1_000),
        }],
        positions: Vec::new(),
    }));
    let identify = Effect::Identify {
        host: name("h1"),
        session: present,
    };
    assert_eq!(desk.undone.pop_front(), Some(identify));
    let after = status(&mut desk);
    assert_eq!(after.heard, heard);
    assert!(after.switches[0].observed < Some(Revision(1_000)));
}

#[test]
fn claims_and_releases_of_a_session_that_is_over_change_nothing() {
    let (mut desk, session) = site();
    desk.alive.clear();
    greet(&mut desk, newcomer(9)).unwrap();
    let before = desk.tables();
    let mut claims = claim("h1", "web-1");
    claims.session = session;
    let mut releases = release("h1", "web-1", Some(desk.epoch().0));
    releases.session = session;
    for request in [Request::Claim(claims), Request::Release(releases)] {
        let refused = desk.ask(request).unwrap_err();
        assert_eq!(refused.code, ProblemCode::Namesake);
    }
    assert_eq!(desk.tables(), before);
    // The host's own release is one.
    let mine = release("h1", "web-1", Some(desk.epoch().0));
    desk.ask(Request::Release(mine)).unwrap();
    assert_ne!(desk.tables(), before);
}

#[test]
fn retry_is_told_whose_answer_counts() {
    let (mut desk, session) = site();
    let state = RenderRequest::State {
        host: name("h1"),
        switch: name("prod"),
    };
    match desk.ask(Request::Render(state)) {
        Ok(Reply::Rendered(RenderReply::Clobber { session: of, .. })) => assert_eq!(of, session),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ledger_that_fell_back_has_the_later_session_go_on() {
    let (mut desk, session) = site();
    let later = SessionId(session.0 + 5);
    desk.hear(beat("h1", later));
    desk.work();
    assert_eq!(status(&mut desk).session, Some(later));
    assert_eq!(status(&mut desk).node.as_deref(), Some("rack-1"));
    desk.restart();
    assert_eq!(desk.session(&name("h1")), later, "it is durable");
    let reply = greet(&mut desk, hello("h1", later.0 + 1)).unwrap();
    assert_eq!(reply.session, SessionId(later.0 + 1));
}

/// Of a host that is known, and of one that is not.
#[test]
fn a_session_that_no_later_one_could_follow_is_refused_with_the_way_on() {
    for host in ["h1", "h9"] {
        let (mut desk, _) = site();
        desk.alive.clear();
        let says = |agent, session| Hello {
            host: name(host),
            session,
            ..newcomer(agent)
        };
        let last = SessionId(u64::MAX);
        let before = desk.tables();
        let refused = greet(&mut desk, says(9, Some(last))).unwrap_err();
        assert_eq!(refused.code, ProblemCode::Invalid);
        for part in [last.to_string().as_str(), "started anew"] {
            assert!(refused.to_string().contains(part), "{refused}");
        }
        desk.hear(beat(host, last));
        assert_eq!(desk.tables(), before);
        // One that is far off is believed, and others are later all the same.
        let far = SessionId(1 << 52);
        let mut sessions = vec![greet(&mut desk, says(9, Some(far))).unwrap().session];
        for agent in 10..13 {
            sessions.push(greet(&mut desk, says(agent, None)).unwrap().session);
        }
        assert_eq!(sessions[0], far);
        assert!(sessions.is_sorted_by(|a, b| a < b), "{sessions:?}");
        // It is the host's, so it is believed.
        let present = *sessions.last().unwrap();
        let again = greet(&mut desk, says(12, Some(present))).unwrap();
        assert_eq!(again.session, present);
    }
}
