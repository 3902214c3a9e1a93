// SPDX-License-Identifier: Apache-2.0
//! What a change sends to whom, and what the asker hears of it.

use std::sync::Arc;
use std::time::Duration;

use config_publisher::core::Settings;
use config_publisher::events::{Call, Event, Outcome, Reply, Request};
use dvs_schemas::v1::{
    ApplyReply, ApplyRequest, ChangedObject, Clobber, FinalState, GlobalKey, HostOutcome,
    HostVerdict, MoveRequest, ObjectRef, Operation, PushSummary, Removed, ResyncRequest, Wait,
};
use dvs_schemas::{Epoch, HostName, Kind, PortId, Revision};

use crate::desk::{Desk, Manner, SITE, hosts_of, name, pushes, web};

/// What was sent, in short: to whom, and what.
fn sent(desk: &mut Desk) -> Vec<(Vec<HostName>, Sent)> {
    let calls = std::mem::take(&mut desk.calls);
    calls
        .iter()
        .map(|call| (hosts_of(call), short(call)))
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    Full {
        at: u64,
        ports: Vec<PortId>,
    },
    Absent {
        at: u64,
    },
    Partial {
        at: u64,
        settings: bool,
        groups: Vec<String>,
        ports: Vec<(PortId, Epoch)>,
        removed: Vec<Removed>,
    },
    Remove(Vec<(PortId, u64)>),
}

fn short(call: &Call) -> Sent {
    match call {
        Call::FanOut { clobber, .. }
        | Call::Clobber { clobber, .. }
        | Call::Plan { clobber, .. } => short_clobber(clobber),
        Call::Remove { remove, .. } => {
            let ports = remove.ports.iter();
            Sent::Remove(ports.map(|p| (p.port.clone(), p.revision.0)).collect())
        }
    }
}

fn short_clobber(clobber: &Clobber) -> Sent {
    let at = clobber.revision.0;
    match &clobber.state {
        FinalState::Absent => Sent::Absent { at },
        FinalState::Full { objects, .. } => Sent::Full {
            at,
            ports: objects.ports.iter().map(|p| p.value.id.clone()).collect(),
        },
        FinalState::Partial {
            settings,
            objects,
            removed,
        } => Sent::Partial {
            at,
            settings: settings.is_some(),
            groups: objects
                .groups
                .iter()
                .map(|g| g.value.name.to_string())
                .collect(),
            ports: objects
                .ports
                .iter()
                .map(|p| (p.value.id.clone(), p.value.epoch))
                .collect(),
            removed: removed.clone(),
        },
    }
}

fn hosts<const N: usize>(names: [&str; N]) -> Vec<HostName> {
    names.into_iter().map(name).collect()
}

#[test]
fn a_new_switch_is_sent_whole_to_each_of_its_hosts() {
    let mut desk = Desk::of(2);
    let reply = desk.apply(SITE);
    let created = |kind, object: &str, switch: Option<&str>| ChangedObject {
        object: ObjectRef {
            kind,
            name: object.to_owned(),
            switch: switch.map(name),
        },
        operation: Operation::Created,
        fields: Vec::new(),
    };
    let changed = vec![
        created(Kind::Switch, "prod", None),
        created(Kind::PortGroup, "web", Some("prod")),
        created(Kind::Port, "web-1", None),
    ];
    assert_eq!((reply.revision, reply.changed), (Revision(1), changed));
    let full = |ports| Sent::Full { at: 1, ports };
    let expected = vec![
        (hosts(["h1"]), full(vec![name("web-1")])),
        (hosts(["h2"]), full(Vec::new())),
    ];
    assert_eq!(sent(&mut desk), expected);
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_changed_group_is_one_message_to_all_hosts() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    sent(&mut desk);
    let reply = desk.apply(&web(200));
    assert_eq!(reply.changed[0].fields, ["policy.vlan"]);
    let partial = Sent::Partial {
        at: 2,
        settings: false,
        groups: vec!["web".to_owned()],
        ports: Vec::new(),
        removed: Vec::new(),
    };
    assert_eq!(sent(&mut desk), [(hosts(["h1", "h2", "h3"]), partial)]);
}

#[test]
fn a_host_that_may_not_hear_messages_to_all_yet_gets_the_whole_again() {
    let mut desk = Desk::of(2);
    desk.send(waiting(SITE));
    let (push, calls) = pushes(&desk.undone)[0];
    let heard = Outcome {
        host: name("h1"),
        call: 0,
        answer: desk.answer(&name("h1"), &calls[0]),
    };
    desk.undone.clear();
    desk.hear(Event::Outcomes {
        push,
        outcomes: vec![heard],
    });
    desk.send(waiting(&web(200)));
    let calls: Vec<_> = pushes(&desk.undone)
        .into_iter()
        .flat_map(|(_, calls)| calls)
        .map(|call| (hosts_of(call), short(call)))
        .collect();
    let partial = Sent::Partial {
        at: 2,
        settings: false,
        groups: vec!["web".to_owned()],
        ports: Vec::new(),
        removed: Vec::new(),
    };
    let full = Sent::Full {
        at: 2,
        ports: Vec::new(),
    };
    assert_eq!(calls, [(hosts(["h1"]), partial), (hosts(["h2"]), full)]);
}

#[test]
fn a_change_that_hosts_do_not_see_is_pushed_to_nobody() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    let text = web(100).replace("[\"blocked\"]", "[\"blocked\", \"vlan\"]");
    let reply = desk.apply(&text);
    assert_eq!(reply.changed[0].fields, ["overridable"]);
    assert_eq!((reply.revision, sent(&mut desk)), (Revision(2), vec![]));
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_changed_port_goes_to_its_host_alone_with_what_it_needs() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    sent(&mut desk);
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
            "policy": {"blocked": true}}"#,
    );
    let partial = Sent::Partial {
        at: 2,
        settings: true,
        groups: vec!["web".to_owned()],
        ports: vec![(name("web-1"), Epoch(1))],
        removed: Vec::new(),
    };
    assert_eq!(sent(&mut desk), [(hosts(["h1"]), partial)]);
}

#[test]
fn a_port_s_message_has_what_it_needs_and_not_what_all_hosts_get() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    desk.apply(
        r#"[{"kind": "PortGroup", "name": "db", "switch": "prod"},
            {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "h2"}]"#,
    );
    let partial = |settings, group: &str, ports| Sent::Partial {
        at: 2,
        settings,
        groups: vec![group.to_owned()],
        ports,
        removed: Vec::new(),
    };
    let expected = [
        (hosts(["h1", "h2"]), partial(false, "db", vec![])),
        (
            hosts(["h2"]),
            partial(true, "web", vec![(name("web-2"), Epoch(2))]),
        ),
    ];
    assert_eq!(sent(&mut desk), expected);
}

#[test]
fn a_move_raises_the_epoch_and_removes_the_port_from_where_it_was() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    let reply = desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h2"}"#,
    );
    assert_eq!(reply.changed[0].fields, ["host"]);
    let partial = Sent::Partial {
        at: 2,
        settings: true,
        groups: vec!["web".to_owned()],
        ports: vec![(name("web-1"), Epoch(2))],
        removed: Vec::new(),
    };
    let expected = [
        (hosts(["h2"]), partial),
        (hosts(["h1"]), Sent::Remove(vec![(name("web-1"), 2)])),
    ];
    assert_eq!(sent(&mut desk), expected);
}

#[test]
fn placement_and_connection_stay_where_a_document_leaves_them_out() {
    let mut desk = Desk::of(1);
    desk.apply(SITE);
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "vnic": "vm-1/eth0"}"#,
    );
    let again = desk.apply(SITE);
    assert_eq!((again.revision, again.changed), (Revision(2), vec![]));
    let port = desk.publisher.config().port(&name("web-1")).unwrap();
    assert_eq!(port.value.document.host, Some(name("h1")));
    assert_eq!(port.value.document.vnic, Some(name("vm-1/eth0")));
    assert_eq!(port.value.epoch, Epoch(1));
}

#[test]
fn the_same_documents_again_commit_nothing() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    let before = desk.tables();
    let again = desk.apply(SITE);
    assert_eq!((again.revision, again.changed), (Revision(1), vec![]));
    assert_eq!((desk.tables(), sent(&mut desk)), (before, vec![]));
}

#[test]
fn deleted_groups_are_named_as_removed_and_deleted_ports_by_a_removal() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    let reply = desk.delete(
        r#"[{"kind": "PortGroup", "switch": "prod", "name": "web"}, {"kind": "Port", "name": "web-1"}]"#,
    );
    assert!(
        reply
            .changed
            .iter()
            .all(|c| c.operation == Operation::Deleted)
    );
    let partial = Sent::Partial {
        at: 2,
        settings: false,
        groups: Vec::new(),
        ports: Vec::new(),
        removed: vec![Removed {
            object: GlobalKey::Group(name("web")),
            revision: Revision(2),
        }],
    };
    let expected = [
        (hosts(["h1", "h2"]), partial),
        (hosts(["h1"]), Sent::Remove(vec![(name("web-1"), 2)])),
    ];
    assert_eq!(sent(&mut desk), expected);
}

#[test]
fn a_deleted_switch_is_one_message_that_nothing_is_to_stay() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    sent(&mut desk);
    desk.delete(
        r#"[{"kind": "Switch", "name": "prod"}, {"kind": "Port", "name": "web-1"},
            {"kind": "PortGroup", "switch": "prod", "name": "web"}]"#,
    );
    let expected = [(hosts(["h1", "h2"]), Sent::Absent { at: 2 })];
    assert_eq!(sent(&mut desk), expected);
    let left: Vec<_> = desk
        .tables()
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let left: Vec<_> = left.into_iter().map(|(table, _)| table).collect();
    assert_eq!(left, ["hosts", "revision", "store"]);
}

#[test]
fn hosts_that_join_get_the_whole_and_hosts_that_leave_the_word_of_it() {
    let mut desk = Desk::of(3);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h1", "h2"]}"#);
    sent(&mut desk);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h2", "h3"]}"#);
    let expected = [
        (hosts(["h1"]), Sent::Absent { at: 2 }),
        (
            hosts(["h3"]),
            Sent::Full {
                at: 2,
                ports: Vec::new(),
            },
        ),
    ];
    assert_eq!(sent(&mut desk), expected);
}

fn waiting(text: &str) -> Request {
    let (_, mut request) = ApplyRequest::decode(text.as_bytes()).unwrap();
    request.options.wait = Some(Wait::Applied);
    Request::Apply(request)
}

fn applied(reply: Result<Reply, dvs_schemas::Problem>) -> ApplyReply {
    match reply {
        Ok(Reply::Applied(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn outcome(host: &str, outcome: HostVerdict, why: Option<&str>) -> HostOutcome {
    HostOutcome {
        host: name(host),
        outcome,
        why: why.map(str::to_owned),
    }
}

#[test]
fn a_waiting_request_hears_of_each_host_and_those_that_lag_first() {
    let mut desk = Desk::of(4);
    desk.apply(SITE);
    desk.manner("h2", Manner::Silent);
    desk.manner("h3", Manner::Fails);
    let reply = applied(desk.ask(waiting(&web(200))));
    let expected = PushSummary {
        hosts: 4,
        applied: 2,
        outcomes: vec![
            outcome("h3", HostVerdict::Failed, Some("the datapath is broken")),
            outcome("h2", HostVerdict::TimedOut, Some("no answer in time")),
            outcome("h1", HostVerdict::Applied, None),
            outcome("h4", HostVerdict::Applied, None),
        ],
    };
    assert_eq!(reply.applied, Some(expected));
}

/// Hosts, those that have it, and who lags, as a reply tells them.
fn told(reply: &ApplyReply) -> (u64, u64, Vec<String>) {
    let summary = reply.applied.as_ref().unwrap();
    let outcomes = summary.outcomes.iter();
    let lags = outcomes.filter(|outcome| outcome.outcome != HostVerdict::Applied);
    let lags = lags.map(|outcome| outcome.host.to_string());
    (summary.hosts, summary.applied, lags.collect())
}

/// Whatever of it is so already: a host that has missed a change lags still
/// when the same is asked for again.
#[test]
fn who_waits_for_what_changes_nothing_hears_of_all_hosts_that_it_concerns() {
    let placed = r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web"}"#;
    let cases = [
        (web(200), 3),
        (r#"{"kind": "Switch", "name": "prod"}"#.to_owned(), 3),
        (placed.to_owned(), 1),
        (SITE.replace("100", "200"), 3),
    ];
    for (documents, concerned) in cases {
        let mut desk = Desk::of(3);
        desk.apply(SITE);
        for (host, manner) in [("h1", Manner::Silent), ("h3", Manner::Fails)] {
            desk.manner(host, manner);
        }
        desk.apply(&web(200));
        desk.calls.clear();
        let reply = applied(desk.ask(waiting(&documents)));
        assert_eq!((reply.revision, reply.changed.len()), (Revision(2), 0));
        let lags: &[&str] = if concerned == 1 {
            &["h1"]
        } else {
            &["h3", "h1"]
        };
        let lags: Vec<String> = lags.iter().map(ToString::to_string).collect();
        let applied_on = concerned - lags.len() as u64;
        assert_eq!(told(&reply), (concerned, applied_on, lags), "{documents}");
        for host in ["h1", "h3"] {
            desk.manner(host, Manner::Applies);
        }
        let reply = applied(desk.ask(waiting(&documents)));
        assert_eq!(told(&reply), (concerned, concerned, Vec::new()));
        // Who doesn't wait asks no host for what is so already.
        desk.calls.clear();
        desk.apply(&documents);
        assert_eq!(desk.calls, []);
    }
}

/// Nothing of the change is pushed: hosts don't see what ports may override.
#[test]
fn who_waits_for_what_hosts_do_not_see_hears_whether_they_have_the_rest() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.manner("h3", Manner::Gone);
    let reply = applied(desk.ask(waiting(&web(100).replace("blocked", "vlan"))));
    assert_eq!(reply.revision, Revision(2));
    assert_eq!(told(&reply), (3, 2, vec!["h3".to_owned()]));
}

#[test]
fn a_move_to_where_the_port_is_waits_for_its_host() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.manner("h1", Manner::Silent);
    let again = Request::Move(MoveRequest {
        port: name("web-1"),
        host: name("h1"),
        from: None,
        force: false,
        wait: Some(Wait::Applied),
        timeout: None,
    });
    let reply = applied(desk.ask(again));
    assert_eq!(told(&reply), (1, 0, vec!["h1".to_owned()]));
}

#[test]
fn a_request_that_waits_for_hosts_is_known_to_be_committed() {
    let mut desk = Desk::of(4);
    desk.apply(SITE);
    let waits = desk.send(waiting(&web(200)));
    assert!(desk.reply(waits).is_none());
    assert_eq!(desk.committed, [waits]);
}

#[test]
fn outcomes_of_many_hosts_fit_into_the_reply() {
    let mut desk = Desk::with(Settings {
        max_payload: 8_192,
        ..Settings::default()
    });
    for number in 0..300 {
        desk.hello(&format!("host-{number}"));
        desk.manner(&format!("host-{number}"), Manner::Gone);
    }
    desk.apply(r#"{"kind": "Switch", "name": "prod"}"#);
    let group = |n| format!(r#"{{"kind": "PortGroup", "name": "group-{n}", "switch": "prod"}}"#);
    let groups: Vec<String> = (0..100).map(group).collect();
    let reply = applied(desk.ask(waiting(&format!("[{}]", groups.join(",")))));
    assert!(serde_json::to_vec(&reply).unwrap().len() < 8_192);
    let summary = reply.applied.unwrap();
    assert_eq!((summary.hosts, summary.applied), (300, 0));
    assert!((1..300).contains(&summary.outcomes.len()));

    let resync = ResyncRequest {
        wait: Some(Wait::Applied),
        ..ResyncRequest::default()
    };
    let reply = desk.ask(Request::Resync(resync)).unwrap();
    let Reply::Resynced(reply) = reply else {
        panic!("{reply:?}");
    };
    assert!(serde_json::to_vec(&reply).unwrap().len() < 8_192);
    assert_eq!(reply.applied.unwrap().hosts, 300);
}

#[test]
fn a_wait_ends_with_its_bound_and_the_push_goes_on() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let to = desk.send(waiting(&web(200)));
    let push = pushes(&desk.undone)[0].0;
    desk.pass(Duration::from_millis(9_999));
    assert!(desk.reply(to).is_none());
    // One of the two answers just in time.
    let answered = Outcome {
        host: name("h1"),
        call: 0,
        answer: config_publisher::events::Answer::TimedOut,
    };
    desk.hear(Event::Outcomes {
        push,
        outcomes: vec![answered.clone(), answered],
    });
    desk.undone.retain(|_| false);
    desk.pass(Duration::from_millis(1));
    let summary = applied(desk.reply(to).unwrap()).applied.unwrap();
    let expected = [
        outcome("h1", HostVerdict::TimedOut, Some("no answer in time")),
        outcome("h2", HostVerdict::Pending, Some("no answer yet")),
    ];
    assert_eq!(summary.outcomes, expected);
    assert_eq!(desk.records(), 1, "the push is not over");
}

#[test]
fn a_reply_without_waiting_comes_before_any_outcome() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let (_, request) = ApplyRequest::decode(web(200).as_bytes()).unwrap();
    let to = desk.send(Request::Apply(request));
    assert_eq!(applied(desk.reply(to).unwrap()).applied, None);
    assert_eq!(desk.records(), 1);
}

#[test]
fn what_is_not_asked_and_what_comes_twice_changes_nothing() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.put.clear();
    let (_, request) = ApplyRequest::decode(web(200).as_bytes()).unwrap();
    desk.send(Request::Apply(request));
    let push = pushes(&desk.undone)[0].0;
    let ends = |host: &str, call| Outcome {
        host: name(host),
        call,
        answer: config_publisher::events::Answer::TimedOut,
    };
    for outcomes in [
        vec![ends("h9", 0)],
        vec![ends("h1", 7)],
        vec![ends("h1", 0); 5],
    ] {
        desk.hear(Event::Outcomes { push, outcomes });
    }
    assert_eq!(desk.records(), 1, "h2 has not answered");
    desk.hear(Event::Outcomes {
        push,
        outcomes: vec![ends("h2", 0)],
    });
    desk.undone
        .retain(|effect| pushes(&[effect.clone()].into()).is_empty());
    desk.work();
    assert_eq!((desk.put.len(), desk.records()), (1, 0));
}

#[test]
fn a_resync_sends_the_whole_to_whom_it_names() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h2"]}"#);
    let before = desk.tables();
    sent(&mut desk);
    let mut resync = |host: Option<&str>, switch: Option<&str>| {
        let request = ResyncRequest {
            host: host.map(name),
            switch: switch.map(name),
            wait: Some(Wait::Applied),
            timeout: None,
        };
        let reply = desk.ask(Request::Resync(request));
        let calls: Vec<_> = sent(&mut desk).into_iter().flat_map(|(h, _)| h).collect();
        (reply, calls)
    };
    let (reply, calls) = resync(None, None);
    assert_eq!(calls, hosts(["h2", "h1", "h2", "h3"]));
    assert!(
        matches!(reply, Ok(Reply::Resynced(r)) if r.hosts == 3 && r.applied.as_ref().unwrap().applied == 3)
    );
    assert_eq!(resync(Some("h2"), None).1, hosts(["h2", "h2"]));
    assert_eq!(resync(Some("h2"), Some("lab")).1, hosts(["h2"]));
    assert!(resync(Some("h1"), Some("lab")).0.is_err());
    assert!(resync(None, Some("nowhere")).0.is_err());
    assert_eq!(desk.tables(), before, "nothing of it stays");
}

#[test]
fn ten_thousand_hosts_cost_one_message_and_no_write_per_host() {
    let mut desk = Desk::new();
    for number in 0..10_000 {
        let hello = crate::desk::hello(&format!("host-{number}"), 1);
        desk.send(Request::Hello(hello));
    }
    desk.undone.clear();
    desk.restart();
    desk.apply(r#"{"kind": "Switch", "name": "prod"}"#);
    desk.apply(&web(100));
    desk.calls.clear();
    let (_, request) = ApplyRequest::decode(web(200).as_bytes()).unwrap();
    desk.send(Request::Apply(request));
    let record = desk.tables()["pending"].last().unwrap().1.clone();
    assert!(record.to_string().len() < 300, "{record}");
    desk.work();
    assert_eq!(desk.calls.len(), 1);
    assert!(matches!(&desk.calls[0], Call::FanOut { hosts, clobber }
        if hosts.len() == 10_000 && Arc::strong_count(clobber) == 1));
    assert_eq!(desk.records(), 0);
}
