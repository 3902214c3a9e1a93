// SPDX-License-Identifier: Apache-2.0
//! Hosts: their hello, their presence, and what they are known to have.

use std::time::Duration;

use config_publisher::events::{Call, Event, Reply, Request};
use dvs_schemas::v1::{
    FinalState, Heartbeat, HostListRequest, HostStatus, Observed, Presence, SwitchOnHost, V1,
};
use dvs_schemas::{Revision, SessionId};

use crate::desk::{Desk, SITE, hello, hosts_of, name, pushes, web};

fn list(desk: &mut Desk, request: HostListRequest) -> Vec<HostStatus> {
    match desk.ask(Request::Hosts(request)) {
        Ok(Reply::Hosts(reply)) => reply.hosts,
        other => panic!("{other:?}"),
    }
}

fn status(desk: &mut Desk, host: &str) -> HostStatus {
    let request = HostListRequest {
        host: Some(name(host)),
        ..HostListRequest::default()
    };
    list(desk, request).remove(0)
}

/// Of h1.
fn heartbeat(observed: Vec<Observed>) -> Heartbeat {
    Heartbeat {
        v: V1,
        host: name("h1"),
        session: SessionId(1),
        seq: 0,
        interval_ms: 1_000,
        last: false,
        observed,
        positions: Vec::new(),
    }
}

#[test]
fn a_hello_is_durable_and_is_answered_with_the_switches_whose_state_follows() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h1"]}"#);
    let mut greeting = hello("h2", 1);
    greeting.observed = vec![Observed {
        switch: name("old"),
        revision: Revision(7),
    }];
    let reply = desk.ask(Request::Hello(greeting)).unwrap();
    assert_eq!(
        reply,
        Reply::Hello(dvs_schemas::v1::HelloReply {
            v: V1,
            session: SessionId(1),
            switches: vec![name("old"), name("prod")],
        })
    );
    assert_eq!(
        desk.revision(),
        Revision(2),
        "a hello is no change of the configuration"
    );
    desk.restart();
    assert_eq!(status(&mut desk, "h2").presence, Presence::Unknown);
}

#[test]
fn a_repeated_hello_starts_no_second_push_while_the_first_is_under_way() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.send(Request::Hello(hello("h1", 5)));
    desk.send(Request::Hello(hello("h1", 5)));
    assert_eq!(pushes(&desk.undone).len(), 1);
    // Another run of the agent knows nothing of what the first was sent.
    desk.send(Request::Hello(hello("h1", 6)));
    assert_eq!(pushes(&desk.undone).len(), 2);
    desk.work();
    desk.send(Request::Hello(hello("h1", 6)));
    assert_eq!(pushes(&desk.undone).len(), 1, "it is asked for again");
}

#[test]
fn a_hello_that_nothing_is_known_of_is_written_once() {
    let mut desk = Desk::new();
    desk.hello("h1");
    let before = desk.tables();
    desk.hello("h1");
    assert_eq!(desk.tables(), before);
    let mut newer = hello("h1", 1);
    newer.version = "0.2.0".to_owned();
    desk.ask(Request::Hello(newer)).unwrap();
    assert_ne!(desk.tables(), before);
}

#[test]
fn presence_follows_the_heartbeats() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h9"]}"#);
    assert_eq!(status(&mut desk, "h1").presence, Presence::Present);
    assert_eq!(status(&mut desk, "h9").presence, Presence::Never);
    desk.heartbeat("h1");
    desk.pass(Duration::from_secs(30));
    assert_eq!(status(&mut desk, "h1").presence, Presence::Present);
    desk.pass(Duration::from_millis(1));
    assert_eq!(status(&mut desk, "h1").presence, Presence::Absent);
    desk.heartbeat("h1");
    assert_eq!(status(&mut desk, "h1").presence, Presence::Present);
}

#[test]
fn a_ledger_that_was_lost_knows_its_hosts_by_their_heartbeats() {
    let mut desk = Desk::new();
    // Of the ledger before.
    let observed = vec![Observed {
        switch: name("old"),
        revision: Revision(500),
    }];
    let beat = |desk: &mut Desk| -> Vec<Call> {
        desk.hear(Event::Heartbeat(heartbeat(observed.clone())));
        desk.work();
        std::mem::take(&mut desk.calls)
    };
    let restored = [
        r#"{"kind": "Switch", "name": "prod"}"#,
        r#"{"kind": "PortGroup", "name": "web", "switch": "prod"}"#,
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1"}"#,
    ];
    let restored = format!("[{}]", restored.join(","));
    desk.try_apply(&restored).unwrap_err();
    // An empty ledger can't say that what is there is to go.
    assert_eq!(beat(&mut desk), []);
    let status = status(&mut desk, "h1");
    assert_eq!(status.presence, Presence::Present);
    assert_eq!((status.node, status.version), (None, None));
    desk.restart();
    desk.apply(&restored);
    desk.calls.clear();
    // What was not applied again goes, and nothing is told twice.
    let told = beat(&mut desk);
    let whole = |call: &Call| match call {
        Call::FanOut { clobber, .. } | Call::Clobber { clobber, .. } => {
            let whole = !matches!(clobber.state, FinalState::Partial { .. });
            whole.then(|| clobber.switch.to_string())
        }
        Call::Remove { .. } | Call::Plan { .. } => None,
    };
    let switches: Vec<_> = told.iter().filter_map(whole).collect();
    assert_eq!(switches, ["old", "prod"]);
    assert_eq!(beat(&mut desk), []);
}

#[test]
fn a_host_that_stays_silent_after_a_start_is_absent_in_the_end() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.restart();
    desk.pass(Duration::from_secs(180));
    let unknown = status(&mut desk, "h1").presence;
    assert_eq!(unknown, Presence::Unknown, "it may still come");
    desk.heartbeat("h2");
    desk.pass(Duration::from_millis(1));
    assert_eq!(status(&mut desk, "h1").presence, Presence::Absent);
    assert_eq!(status(&mut desk, "h2").presence, Presence::Present);
    // It is not waited for, and is retry's at once.
    desk.calls.clear();
    desk.put.clear();
    desk.apply(&web(200));
    let asked: Vec<_> = desk.calls.iter().flat_map(hosts_of).collect();
    assert_eq!(asked, [name("h2")]);
    assert_eq!(
        desk.put[0].repush[0].error,
        "absent: not heard of since config-publisher started"
    );
    // The bus that comes and goes changes nothing of it.
    desk.hear(Event::Disconnected);
    assert_eq!(status(&mut desk, "h1").presence, Presence::Absent);
    desk.pass(Duration::from_secs(3_600));
    assert_eq!(status(&mut desk, "h2").presence, Presence::Unknown);
    desk.hear(Event::Connected {
        max_payload: 1_000_000,
    });
    assert_eq!(status(&mut desk, "h1").presence, Presence::Absent);
    desk.heartbeat("h1");
    assert_eq!(status(&mut desk, "h1").presence, Presence::Present);
}

#[test]
fn a_host_is_in_sync_when_it_has_observed_what_is_wanted() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let on = |wanted, observed, ports| SwitchOnHost {
        switch: name("prod"),
        wanted: Revision(wanted),
        observed: Some(Revision(observed)),
        ports,
    };
    assert_eq!(status(&mut desk, "h1").switches, [on(1, 1, 1)]);
    // A port of h1 concerns h1 alone.
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "policy": {"blocked": true}}"#,
    );
    assert_eq!(status(&mut desk, "h1").switches, [on(2, 2, 1)]);
    assert_eq!(status(&mut desk, "h2").switches, [on(1, 1, 0)]);
    desk.manner("h1", crate::desk::Manner::Silent);
    desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
    desk.apply(&web(200));
    assert_eq!(status(&mut desk, "h1").switches, [on(4, 2, 0)]);
    assert_eq!(status(&mut desk, "h2").switches, [on(4, 4, 0)]);
    // What is wanted outlives the publisher, deletions included.
    let wanted = |desk: &mut Desk| -> Vec<_> {
        let hosts = list(desk, HostListRequest::default());
        hosts.iter().map(|h| h.switches[0].wanted).collect()
    };
    let before = wanted(&mut desk);
    desk.restart();
    assert_eq!(wanted(&mut desk), before);
    desk.hear(Event::Heartbeat(heartbeat(vec![Observed {
        switch: name("prod"),
        revision: Revision(4),
    }])));
    assert_eq!(status(&mut desk, "h1").switches, [on(4, 4, 0)]);
}

#[test]
fn a_heartbeat_that_left_before_an_answer_does_not_take_it_back() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.apply(&web(200));
    let observed = |desk: &mut Desk| status(desk, "h1").switches[0].observed;
    let told = |at| Observed {
        switch: name("prod"),
        revision: Revision(at),
    };
    // Also the first word of the switch may be an answer.
    for before in [vec![told(1)], Vec::new()] {
        desk.ask(Request::Hello(hello("h1", 1))).unwrap();
        desk.hear(Event::Heartbeat(heartbeat(before)));
        assert_eq!(observed(&mut desk), Some(Revision(2)));
        // What it says after that is what it has: it may have lost its disk.
        desk.hear(Event::Heartbeat(heartbeat(vec![told(1)])));
        assert_eq!(observed(&mut desk), Some(Revision(1)));
    }
}

#[test]
fn a_new_host_of_a_switch_on_all_hosts_wants_what_the_others_want() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.hello("h2");
    let switches = status(&mut desk, "h2").switches;
    assert_eq!(
        (switches[0].wanted, switches[0].observed),
        (Revision(1), Some(Revision(1)))
    );
}
