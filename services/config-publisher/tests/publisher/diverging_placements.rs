// SPDX-License-Identifier: Apache-2.0
//! Ports on hosts that follow another history: such a host has wired what that
//! history says, so only an operator's word places its ports anew.

use std::time::Duration;

use config_publisher::events::{Event, Reply, Request};
use dvs_schemas::v1::{
    ApplyReply, ClaimRequest, ForgetRequest, Heartbeat, MoveRequest, Position, ReleaseRequest, V1,
};
use dvs_schemas::{HostName, Problem, ProblemCode, Revision};

use crate::desk::{Desk, SITE, name};
use crate::plugging::{claim, granted, release, waits};

/// [`SITE`] with `web-1` on h1 in epoch 1 and `web-2` nowhere; h1 is ahead of
/// the ledger, h2 and h3 follow it.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web"}"#);
    beats(&mut desk, 10, &["h1", "h2", "h3"]);
    desk.calls.clear();
    desk
}

/// Where h1 is.
fn ahead(desk: &Desk) -> Position {
    Position {
        store: desk.publisher.store(),
        run: None,
        revision: Revision(60),
    }
}

/// So many seconds, in which these hosts say where they are.
fn beats(desk: &mut Desk, seconds: u64, hosts: &[&str]) {
    for _ in 0..seconds / 10 {
        desk.pass(Duration::from_secs(10));
        for host in hosts {
            let ahead = ahead(desk);
            desk.hear(Event::Heartbeat(Heartbeat {
                v: V1,
                host: name(host),
                session: dvs_schemas::SessionId(1),
                seq: 0,
                interval_ms: 10_000,
                last: false,
                observed: Vec::new(),
                positions: (*host == "h1").then_some(ahead).into_iter().collect(),
            }));
            desk.work();
        }
    }
}

fn ahead_claims(desk: &Desk, port: &str) -> ClaimRequest {
    ClaimRequest {
        positions: vec![ahead(desk)],
        ..claim("h1", port)
    }
}

fn ahead_releases(desk: &Desk, epoch: Option<u64>) -> ReleaseRequest {
    ReleaseRequest {
        positions: vec![ahead(desk)],
        ..release("h1", "web-1", epoch)
    }
}

fn host_of(desk: &Desk, port: &str) -> Option<HostName> {
    let port = desk.publisher.config().port(&name(port)).unwrap();
    port.value.document.host.clone()
}

#[track_caller]
fn refused(desk: &mut Desk, request: Request) {
    let before = desk.revision();
    let problem: Problem = desk.ask(request).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict);
    assert!(problem.message.contains("revision 60"), "{problem}");
    assert_eq!(desk.revision(), before);
}

fn moves(host: &str, force: bool) -> Request {
    Request::Move(MoveRequest {
        port: name("web-1"),
        host: name(host),
        from: None,
        force,
        wait: None,
        timeout: None,
    })
}

#[track_caller]
fn done(answer: Result<Reply, Problem>) -> ApplyReply {
    match answer {
        Ok(Reply::Applied(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_claim_and_no_release_of_such_a_host_changes_a_placement() {
    let mut desk = desk();
    let requests = [
        Request::Release(ahead_releases(&desk, Some(1))),
        Request::Claim(ahead_claims(&desk, "web-2")),
        Request::Claim(ahead_claims(&desk, "web-1")),
    ];
    for request in requests {
        refused(&mut desk, request);
    }
    // Nor after a start.
    desk.restart();
    let request = Request::Release(ahead_releases(&desk, Some(1)));
    refused(&mut desk, request);
    assert_eq!(host_of(&desk, "web-1"), Some(name("h1")));
    // A word that takes a claim back ends no placement.
    desk.ask(Request::Release(ahead_releases(&desk, None)))
        .unwrap();
}

#[test]
fn nobody_gets_a_port_of_such_a_host_by_waiting_however_long_it_is_silent() {
    let mut desk = desk();
    let waiting = Request::Claim(claim("h2", "web-1"));
    let outcome = desk.ask(waiting.clone());
    assert!(
        matches!(&outcome, Ok(Reply::Claimed(reply)) if reply.outcome == waits("h1", 1)),
        "{outcome:?}"
    );
    // It is not asked for what its word can't give.
    assert_eq!(desk.yields, []);
    for _ in 0..20 {
        beats(&mut desk, 60, &["h2", "h3"]);
        desk.ask(waiting.clone()).unwrap();
        assert_eq!(host_of(&desk, "web-1"), Some(name("h1")));
    }
}

/// Nobody says after the start that it follows another history.
#[test]
fn nor_by_waiting_for_one_that_is_silent_since_before_the_publisher_was_started_anew() {
    let mut desk = desk();
    let waiting = Request::Claim(claim("h2", "web-1"));
    for _ in 0..2 {
        desk.restart();
        for _ in 0..10 {
            beats(&mut desk, 60, &["h2", "h3"]);
            desk.ask(waiting.clone()).unwrap();
            assert_eq!(host_of(&desk, "web-1"), Some(name("h1")));
        }
    }
    assert_eq!(desk.yields, []);
    // It is back at this ledger, and silent for as long: a dead holder as any.
    desk.heartbeat("h1");
    desk.restart();
    for _ in 0..10 {
        beats(&mut desk, 60, &["h2", "h3"]);
        desk.ask(waiting.clone()).unwrap();
    }
    assert_eq!(host_of(&desk, "web-1"), Some(name("h2")));
}

#[test]
fn a_claim_that_waits_is_over_once_its_host_follows_another_history() {
    let mut desk = desk();
    done(desk.ask(moves("h2", false)));
    // As far as it is known, it follows this ledger.
    desk.ask(Request::Claim(claim("h1", "web-1"))).unwrap();
    beats(&mut desk, 10, &["h1", "h2", "h3"]);
    let epoch = desk.epoch().0;
    desk.ask(Request::Release(release("h2", "web-1", Some(epoch))))
        .unwrap();
    assert_eq!(host_of(&desk, "web-1"), None);
}

#[test]
fn an_operators_word_moves_the_port_and_says_that_the_host_may_still_have_it() {
    let mut desk = desk();
    let reply = done(desk.ask(moves("h2", false)));
    assert_eq!(host_of(&desk, "web-1"), Some(name("h2")));
    let [left, unplugged] = reply.warnings.as_slice() else {
        panic!("{:?}", reply.warnings);
    };
    assert!(left.starts_with("web-1: host h1 is told nothing"), "{left}");
    assert!(left.contains("may still have wired"), "{left}");
    assert!(unplugged.contains("plugged in at host h2"), "{unplugged}");
    let back = "still runs on host h1 gets its port back by dvsctl move only";
    assert!(unplugged.contains(back), "{unplugged}");
    // A deletion takes it from there as well.
    let mut desk = self::desk();
    let reply = desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
    assert!(reply.warnings[0].contains("host h1"), "{reply:?}");
    // So does a host that is given up.
    let mut desk = self::desk();
    beats(&mut desk, 600, &["h2", "h3"]);
    let request = ForgetRequest { host: name("h1") };
    let Ok(Reply::Forgotten(reply)) = desk.ask(Request::Forget(request)) else {
        panic!("it is absent");
    };
    assert!(reply.warnings[0].contains("may still have wired"));
    assert_eq!(host_of(&desk, "web-1"), None);
}

#[test]
fn a_move_to_where_nobody_can_be_told_needs_force() {
    let mut desk = desk();
    done(desk.ask(moves("h2", false)));
    let problem = desk.ask(moves("h1", false)).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict);
    assert_eq!(problem.field.as_deref(), Some("host"));
    assert_eq!(host_of(&desk, "web-1"), Some(name("h2")));
    let reply = done(desk.ask(moves("h1", true)));
    assert!(reply.warnings[0].contains("nothing is wired there yet"));
    // Absent is as much out of reach.
    beats(&mut desk, 600, &["h1", "h3"]);
    for host in ["h2", "h9"] {
        let problem = desk.ask(moves(host, false)).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("host"), "{host}");
    }
    // Where it is already it stays, whoever is there.
    done(desk.ask(moves("h1", false)));
}

#[test]
fn a_move_to_where_the_vnic_waits_has_nothing_to_warn_of() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.ask(Request::Claim(claim("h2", "web-1"))).unwrap();
    assert_eq!(done(desk.ask(moves("h2", false))).warnings, [""; 0]);
    let outcome = desk.ask(Request::Claim(claim("h2", "web-1")));
    let epoch = desk.epoch().0;
    assert!(
        matches!(&outcome, Ok(Reply::Claimed(reply)) if reply.outcome == granted(epoch, 2)),
        "{outcome:?}"
    );
}
