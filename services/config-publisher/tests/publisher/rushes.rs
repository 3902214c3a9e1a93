// SPDX-License-Identifier: Apache-2.0
//! Changes that come faster than hosts answer: they wait, and go out together.

use std::time::Duration;

use config_publisher::core::Settings;
use config_publisher::events::{Answer, Call, Event, Outcome, PushId, Reply, ReplyToken, Request};
use dvs_schemas::Revision;
use dvs_schemas::v1::{ApplyRequest, FinalState, HostVerdict, PushSummary, Wait};

use crate::desk::{Desk, Manner, SITE, hello, hosts_of, name, pushes, web};

/// [`SITE`] on three hosts, where one push goes at a time. A push is under way
/// that nobody has answered.
fn busy() -> Desk {
    let settings = Settings {
        awaited: 0,
        ..Settings::default()
    };
    let mut desk = Desk::of_with(3, settings);
    desk.apply(SITE);
    desk.apply(&on("web-2", "h2"));
    desk.calls.clear();
    desk.put.clear();
    send(&mut desk, &web(150));
    assert_eq!(pushes(&desk.undone).len(), 1);
    desk
}

fn on(port: &str, host: &str) -> String {
    format!(
        r#"{{"kind": "Port", "name": "{port}", "switch": "prod", "group": "web", "host": "{host}"}}"#
    )
}

fn send(desk: &mut Desk, text: &str) {
    let (_, request) = ApplyRequest::decode(text.as_bytes()).unwrap();
    desk.send(Request::Apply(request));
}

fn wait_for(desk: &mut Desk, text: &str) -> ReplyToken {
    let (_, mut request) = ApplyRequest::decode(text.as_bytes()).unwrap();
    request.options.wait = Some(Wait::Applied);
    desk.send(Request::Apply(request))
}

fn summary(desk: &mut Desk, to: ReplyToken) -> Option<PushSummary> {
    match desk.reply(to)? {
        Ok(Reply::Applied(reply)) => reply.applied,
        other => panic!("{other:?}"),
    }
}

fn verdicts(summary: &PushSummary) -> Vec<(&str, HostVerdict)> {
    let outcomes = summary.outcomes.iter();
    outcomes
        .map(|outcome| (outcome.host.as_str(), outcome.outcome))
        .collect()
}

fn vlans(call: &Call) -> Vec<Revision> {
    match call {
        Call::FanOut { clobber, .. } | Call::Clobber { clobber, .. } => match &clobber.state {
            FinalState::Full { objects, .. } | FinalState::Partial { objects, .. } => {
                objects.groups.iter().map(|group| group.revision).collect()
            }
            FinalState::Absent => Vec::new(),
        },
        Call::Remove { .. } | Call::Plan { .. } => Vec::new(),
    }
}

#[test]
fn changes_that_nobody_waits_for_go_out_as_one() {
    let mut desk = busy();
    for vlan in 200..300 {
        send(&mut desk, &web(vlan));
    }
    assert_eq!(pushes(&desk.undone).len(), 1, "hosts are busy");
    assert_eq!((desk.records(), desk.publisher.pending()), (101, 101));
    desk.work();
    let sent: Vec<_> = desk
        .calls
        .iter()
        .map(|call| (hosts_of(call), vlans(call)))
        .collect();
    let all = vec![name("h1"), name("h2"), name("h3")];
    let expected = [(all.clone(), vec![Revision(3)]), (all, vec![Revision(103)])];
    assert_eq!(sent, expected);
    assert_eq!((desk.records(), desk.publisher.pending()), (0, 0));
}

#[test]
fn the_next_push_begins_with_the_last_answer_that_it_waited_for() {
    let mut desk = busy();
    send(&mut desk, &web(200));
    let first: PushId = pushes(&desk.undone)[0].0;
    for (host, begun) in [("h1", 1), ("h2", 1), ("h3", 2)] {
        let outcome = Outcome {
            host: name(host),
            call: 0,
            answer: Answer::TimedOut,
        };
        desk.hear(Event::Outcomes {
            push: first,
            outcomes: vec![outcome],
        });
        assert_eq!(pushes(&desk.undone).len(), begun, "after {host}");
    }
}

#[test]
fn whoever_waits_hears_of_his_own_hosts_alone() {
    let mut desk = busy();
    desk.manner("h2", Manner::Silent);
    let blocked = |port: &str, host| {
        on(port, host).replace(r#""kind""#, r#""policy": {"blocked": true}, "kind""#)
    };
    send(&mut desk, &web(200));
    let first = wait_for(&mut desk, &blocked("web-1", "h1"));
    let second = wait_for(&mut desk, &blocked("web-2", "h2"));
    send(&mut desk, &web(300));
    desk.work();
    let first = summary(&mut desk, first).unwrap();
    assert_eq!(verdicts(&first), [("h1", HostVerdict::Applied)]);
    let second = summary(&mut desk, second).unwrap();
    assert_eq!(verdicts(&second), [("h2", HostVerdict::TimedOut)]);
    // Two waited for, and all others in two more at most.
    assert!(desk.calls.len() <= 5, "{:?}", desk.calls);
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_wait_that_ends_before_its_push_begins_names_the_hosts() {
    let mut desk = busy();
    desk.heartbeat("h3"); // which says that it speaks every 10 s
    let to = wait_for(&mut desk, &web(200));
    let held = desk.undone.clone();
    desk.undone.clear();
    desk.pass(Duration::from_secs(40));
    let summary = summary(&mut desk, to).unwrap();
    assert_eq!((summary.hosts, summary.applied), (3, 0));
    let pending = ["h1", "h2", "h3"].map(|host| (host, HostVerdict::Pending));
    assert_eq!(verdicts(&summary), pending);
    // From now on it is one of many.
    send(&mut desk, &web(201));
    assert_eq!(desk.records(), 3);
    desk.undone = held;
    desk.calls.clear();
    desk.work();
    let sent: Vec<_> = desk.calls.iter().map(vlans).collect();
    assert_eq!(sent, [[Revision(3)], [Revision(5)]]);
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_removal_keeps_the_revision_that_took_the_port_away() {
    let mut desk = busy();
    send(&mut desk, &on("web-1", "h3"));
    send(&mut desk, &on("web-2", "h3"));
    send(&mut desk, &web(200));
    for host in ["h1", "h2", "h3"] {
        desk.manner(host, Manner::Silent);
    }
    desk.work();
    let removed: Vec<_> = desk
        .calls
        .iter()
        .filter_map(|call| match call {
            Call::Remove { remove, .. } => Some(remove.ports[0].revision),
            Call::FanOut { .. } | Call::Clobber { .. } | Call::Plan { .. } => None,
        })
        .collect();
    assert_eq!(removed, [Revision(4), Revision(5)]);
    let rip: Vec<_> = desk.put.iter().flat_map(|put| &put.rip).collect();
    let rip: Vec<_> = rip
        .iter()
        .map(|rip| (rip.key.port.as_str(), rip.revision))
        .collect();
    assert_eq!(rip, [("web-1", Revision(4)), ("web-2", Revision(5))]);
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_host_that_is_owed_everything_gets_it_once_and_no_parts() {
    let mut desk = busy();
    send(&mut desk, &on("web-1", "h3"));
    send(&mut desk, &on("web-3", "h1"));
    desk.send(Request::Hello(hello("h1", 7)));
    desk.send(Request::Hello(hello("h1", 7)));
    assert_eq!(desk.records(), 4, "the second hello asks for nothing new");
    desk.work();
    let to_h1: Vec<_> = desk.calls[1..]
        .iter()
        .filter(|call| hosts_of(call).contains(&name("h1")))
        .collect();
    let [Call::Clobber { clobber, .. }] = to_h1[..] else {
        panic!("{to_h1:?}");
    };
    assert!(matches!(&clobber.state, FinalState::Full { objects, .. } if objects.ports.len() == 1));
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_crash_loses_nothing_of_what_waits() {
    let mut desk = busy();
    send(&mut desk, &on("web-1", "h3"));
    wait_for(&mut desk, &on("web-2", "h3"));
    desk.restart();
    assert_eq!(pushes(&desk.undone).len(), 1, "all of it at once");
    assert_eq!(desk.publisher.pending(), 3);
    desk.work();
    let all: Vec<_> = desk.calls.iter().flat_map(hosts_of).collect();
    let expected = ["h1", "h2", "h3", "h3", "h1", "h2"].map(name);
    assert_eq!(all, expected, "the group, the ports, the removals");
    assert_eq!(desk.records(), 0);
}
