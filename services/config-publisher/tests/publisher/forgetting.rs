// SPDX-License-Identifier: Apache-2.0
//! Hosts that will never come back: what becomes of their ports, of what is
//! owed to them, and what is refused.

use std::time::Duration;

use config_publisher::events::{Call, Reply, Request};
use dvs_schemas::v1::{
    ApplyRequest, ClaimOutcome, ForgetReply, ForgetRequest, Forgotten, HostListRequest, V1,
};
use dvs_schemas::{Epoch, HostName, Problem, ProblemCode, Revision};

use crate::desk::{Desk, Manner, SITE, name};
use crate::plugging::claim;

/// [`SITE`], where `web-1` is on h1, with three hosts, of which h1 has fallen
/// silent.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    silent(&mut desk, 600, &["h2", "h3"]);
    desk.put.clear();
    desk.calls.clear();
    desk
}

/// So much time, in which only these hosts live.
fn silent(desk: &mut Desk, seconds: u64, living: &[&str]) {
    for _ in 0..seconds / 10 {
        desk.pass(Duration::from_secs(10));
        for host in living {
            desk.heartbeat(host);
        }
    }
}

fn forget(desk: &mut Desk, host: &str) -> Result<ForgetReply, Problem> {
    let request = ForgetRequest { host: name(host) };
    match desk.ask(Request::Forget(request))? {
        Reply::Forgotten(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn hosts(desk: &mut Desk) -> Vec<HostName> {
    match desk.ask(Request::Hosts(HostListRequest::default())) {
        Ok(Reply::Hosts(reply)) => reply.hosts.into_iter().map(|host| host.host).collect(),
        other => panic!("{other:?}"),
    }
}

fn told(desk: &Desk) -> Vec<Forgotten> {
    let puts = desk.put.iter();
    puts.flat_map(|put| put.forgotten.iter().cloned()).collect()
}

fn word(host: &str, revision: u64) -> Forgotten {
    Forgotten {
        host: name(host),
        revision: Revision(revision),
    }
}

#[test]
fn the_ports_of_a_forgotten_host_are_free_and_nothing_is_owed_to_it() {
    let mut desk = desk();
    // Owed to h1 until now.
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
            "vnic": "vm-1/eth0", "policy": {"blocked": true}}"#,
    );
    assert_eq!(desk.put.iter().flat_map(|put| &put.repush).count(), 1);
    desk.put.clear();
    let reply = forget(&mut desk, "h1").unwrap();
    assert_eq!(
        reply,
        ForgetReply {
            v: V1,
            host: name("h1"),
            revision: Revision(3),
            ports: 1,
            warnings: vec![
                "web-1: host h1 is told nothing for now (the host is absent), so it may still \
                 have wired there what is taken from it"
                    .to_owned(),
            ],
        }
    );
    let placed = &desk.publisher.config().port(&name("web-1")).unwrap().value;
    assert_eq!(placed.document.host, None);
    assert_eq!(placed.epoch, Epoch(3));
    assert_eq!(
        placed.document.vnic,
        Some(name("vm-1/eth0")),
        "it is kept for its vNIC"
    );
    assert_eq!(told(&desk), [word("h1", 3)]);
    let owed = |desk: &Desk| {
        let puts = desk.put.iter();
        puts.map(|put| put.repush.len() + put.rip.len())
            .sum::<usize>()
    };
    assert_eq!(owed(&desk), 0);
    assert_eq!(hosts(&mut desk), [name("h2"), name("h3")]);
    assert_eq!(desk.records(), 0);
    // Nor is anything later, or after a restart.
    desk.restart();
    desk.work();
    desk.hello("h2");
    desk.hello("h3");
    desk.apply(&crate::desk::web(200));
    assert_eq!(owed(&desk), 0);
    assert_eq!(hosts(&mut desk), [name("h2"), name("h3")]);
}

#[test]
fn what_was_on_its_way_to_a_forgotten_host_is_not_left_to_retry() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.manner("h1", Manner::Silent);
    // Its end is heard only after h1 was forgotten.
    let (_, request) = ApplyRequest::decode(crate::desk::web(200).as_bytes()).unwrap();
    desk.send(Request::Apply(request));
    let on_its_way: Vec<_> = desk.undone.drain(..).collect();
    silent(&mut desk, 600, &["h2", "h3"]);
    forget(&mut desk, "h1").unwrap();
    assert_eq!(told(&desk), [word("h1", 3)]);
    desk.put.clear();
    desk.undone.extend(on_its_way);
    desk.work();
    let left = desk.put.iter().flat_map(|put| &put.repush);
    assert_eq!(left.count(), 0);
    assert_eq!(desk.records(), 0);
}

/// Before the time is over after which a dead holder's port is taken over, and
/// without another hello.
#[test]
fn a_port_of_a_forgotten_host_is_at_once_whose_claim_waits() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    for host in ["h1", "h2", "h3"] {
        desk.heartbeat(host);
    }
    silent(&mut desk, 40, &["h2", "h3"]);
    let waits = ClaimOutcome::Waits {
        holder: name("h1"),
        epoch: Epoch(1),
    };
    match desk.ask(Request::Claim(claim("h2", "web-1"))) {
        Ok(Reply::Claimed(reply)) => assert_eq!(reply.outcome, waits),
        other => panic!("{other:?}"),
    }
    desk.calls.clear();
    assert_eq!(forget(&mut desk, "h1").map(|reply| reply.ports), Ok(1));
    let placed = &desk.publisher.config().port(&name("web-1")).unwrap().value;
    let host = placed.document.host.as_ref().map(HostName::as_str);
    assert_eq!((host, placed.epoch), (Some("h2"), Epoch(3)));
    desk.work();
    let told = |call: &Call| matches!(call, Call::Clobber { host, .. } if *host == name("h2"));
    assert_eq!(desk.calls.iter().filter(|call| told(call)).count(), 1);
}

#[test]
fn retry_is_told_even_if_the_publisher_is_killed_before() {
    let mut desk = desk();
    desk.retry = false;
    forget(&mut desk, "h1").unwrap();
    assert_eq!((told(&desk), desk.records()), (Vec::new(), 1));
    desk.restart();
    desk.retry = true;
    desk.work();
    assert_eq!((told(&desk), desk.records()), (vec![word("h1", 2)], 0));
}

#[test]
fn the_record_stays_until_retry_and_the_collector_both_know() {
    for (retry, collector) in [(true, false), (false, true), (false, false)] {
        let mut desk = desk();
        (desk.retry, desk.collector) = (retry, collector);
        forget(&mut desk, "h1").unwrap();
        let heard = |desk: &Desk| (told(desk), desk.farewells.clone());
        let word = |knows: bool| if knows { vec![word("h1", 2)] } else { vec![] };
        // The one that is away is asked again, and the other one isn't.
        desk.pass(Duration::from_secs(60));
        let before = (word(retry), word(collector));
        assert_eq!((heard(&desk), desk.records()), (before.clone(), 1));
        (desk.retry, desk.collector) = (true, true);
        desk.pass(Duration::from_secs(60));
        let both = (word(true), word(true));
        assert_eq!((heard(&desk), desk.records()), (both, 0));
    }
}

#[test]
fn both_are_told_again_after_a_crash_before_either_has_acknowledged() {
    let mut desk = desk();
    (desk.retry, desk.collector) = (false, false);
    forget(&mut desk, "h1").unwrap();
    desk.restart();
    (desk.retry, desk.collector) = (true, true);
    desk.work();
    assert_eq!(told(&desk), [word("h1", 2)]);
    assert_eq!((desk.farewells.clone(), desk.records()), (told(&desk), 0));
}

#[test]
fn forgotten_again_before_the_collector_answers_it_hears_of_the_later_commit_too() {
    let mut desk = desk();
    desk.collector = false;
    forget(&mut desk, "h1").unwrap();
    desk.hello("h1");
    silent(&mut desk, 600, &["h2", "h3"]);
    forget(&mut desk, "h1").unwrap();
    assert_eq!(desk.records(), 2);
    desk.collector = true;
    desk.pass(Duration::from_secs(60));
    assert_eq!(
        (desk.farewells.clone(), desk.records()),
        (vec![word("h1", 3)], 0)
    );
}

#[test]
fn a_host_without_ports_is_forgotten_by_a_commit_too() {
    let mut desk = desk();
    forget(&mut desk, "h1").unwrap();
    silent(&mut desk, 600, &["h3"]);
    let reply = forget(&mut desk, "h2").unwrap();
    assert_eq!((reply.revision, reply.ports), (Revision(3), 0));
    assert_eq!(desk.revision(), Revision(3));
    desk.restart();
    assert_eq!(desk.revision(), Revision(3));
    assert_eq!(hosts(&mut desk), [name("h3")]);
}

#[test]
fn a_forgotten_host_that_comes_all_the_same_is_a_new_one() {
    let mut desk = desk();
    forget(&mut desk, "h1").unwrap();
    desk.calls.clear();
    desk.hello("h1");
    assert_eq!(hosts(&mut desk), [name("h1"), name("h2"), name("h3")]);
    assert_eq!(desk.calls.len(), 1, "it gets the full state");
    let held = desk.calls[0].clone();
    assert_eq!(crate::desk::hosts_of(&held), [name("h1")]);
}

#[test]
fn what_is_refused_and_changes_nothing() {
    let mut desk = desk();
    let before = desk.tables();
    let mut refused = |host: &str| {
        let problem = forget(&mut desk, host).unwrap_err();
        assert_eq!(desk.tables(), before);
        assert_eq!(problem.field.as_deref(), Some("host"));
        (problem.code, problem.message)
    };
    assert_eq!(
        refused("h2"),
        (ProblemCode::Conflict, "host h2 is there".to_owned())
    );
    assert_eq!(
        refused("h9"),
        (ProblemCode::NotFound, "there is no host h9".to_owned())
    );
    desk.apply(r#"{"kind": "Switch", "name": "prod", "hosts": ["h1", "h2", "h3"]}"#);
    let before = desk.tables();
    let problem = forget(&mut desk, "h1").unwrap_err();
    assert_eq!(problem.message, "switch prod names host h1");
    assert_eq!(desk.tables(), before);
    desk.restart();
    let problem = forget(&mut desk, "h2").unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict);
}
