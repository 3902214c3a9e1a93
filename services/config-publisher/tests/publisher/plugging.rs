// SPDX-License-Identifier: Apache-2.0
//! Ports that hosts claim and release: who gets them, what leaves for whom, and
//! what is refused.

use config_publisher::core::Settings;
use config_publisher::events::{Call, Reply, Request};
use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, ClaimRequest, DisconnectRequest, FinalState, Machine, ReleaseOutcome,
    ReleaseReply, ReleaseRequest, RemovedPort, V1,
};
use dvs_schemas::{Epoch, HostName, PortDoc, PortId, Problem, ProblemCode, Revision, SessionId};

use crate::desk::{Desk, Manner, SITE, hello, name};
use crate::log::logged;

/// [`SITE`], which is revision 1, with three hosts; `web-2` is on no host, and
/// `web-3` on h1 for one vNIC and one MAC address.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(
        r#"[
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web"},
        {"kind": "Port", "name": "web-3", "switch": "prod", "group": "web", "host": "h1",
         "vnic": "vm-3/eth0", "mac": "52:54:00:00:00:03"}
    ]"#,
    );
    desk.calls.clear();
    desk
}

pub(crate) fn claim(host: &str, port: &str) -> ClaimRequest {
    ClaimRequest {
        v: V1,
        host: name(host),
        session: SessionId::default(),
        port: name(port),
        vnic: None,
        mac: None,
        epoch: None,
        machine: Machine::default(),
        positions: Vec::new(),
    }
}

pub(crate) fn release(host: &str, port: &str, epoch: Option<u64>) -> ReleaseRequest {
    ReleaseRequest {
        v: V1,
        host: name(host),
        session: SessionId::default(),
        port: name(port),
        epoch: epoch.map(Epoch),
        to: None,
        positions: Vec::new(),
    }
}

/// What a claim that is not refused comes to.
#[track_caller]
pub(crate) fn claims(desk: &mut Desk, request: ClaimRequest) -> ClaimOutcome {
    let (host, port) = (request.host.clone(), request.port.clone());
    match desk.ask(Request::Claim(request)) {
        Ok(Reply::Claimed(reply)) => {
            let outcome = reply.outcome.clone();
            let v = V1;
            let whole = ClaimReply {
                v,
                host,
                port,
                outcome,
            };
            assert_eq!(reply, whole);
            reply.outcome
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn releases(desk: &mut Desk, request: ReleaseRequest) -> ReleaseOutcome {
    let (host, port) = (request.host.clone(), request.port.clone());
    match desk.ask(Request::Release(request)) {
        Ok(Reply::Released(reply)) => {
            let outcome = reply.outcome;
            let v = V1;
            let whole = ReleaseReply {
                v,
                host,
                port,
                outcome,
            };
            assert_eq!(reply, whole);
            outcome
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn granted(epoch: u64, revision: u64) -> ClaimOutcome {
    ClaimOutcome::Granted {
        epoch: Epoch(epoch),
        revision: Revision(revision),
    }
}

pub(crate) fn waits(holder: &str, epoch: u64) -> ClaimOutcome {
    ClaimOutcome::Waits {
        holder: name(holder),
        epoch: Epoch(epoch),
    }
}

pub(crate) fn released(revision: u64) -> ReleaseOutcome {
    ReleaseOutcome::Released {
        revision: Revision(revision),
    }
}

/// Where a port is, for which vNIC, and its fence.
pub(crate) fn port(desk: &Desk, port: &str) -> (Option<String>, Option<String>, u64) {
    let placed = &desk.publisher.config().port(&name(port)).unwrap().value;
    let PortDoc { host, vnic, .. } = placed.document.clone();
    let text = |host: HostName| host.to_string();
    let vnic = vnic.map(|vnic| vnic.to_string());
    (host.map(text), vnic, placed.epoch.0)
}

pub(crate) fn on(host: &str, epoch: u64) -> (Option<String>, Option<String>, u64) {
    (Some(host.to_owned()), None, epoch)
}

#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// A partial state with these ports and their epochs.
    Ports(HostName, Vec<(PortId, Epoch)>),
    Removed(HostName, Vec<RemovedPort>),
    Else,
}

/// What left for hosts since this was last asked.
fn sent(desk: &mut Desk) -> Vec<Sent> {
    let calls = std::mem::take(&mut desk.calls);
    let short = |call: &Call| match call {
        Call::Clobber { host, clobber } => match &clobber.state {
            FinalState::Partial { objects, .. } => {
                let ports = objects.ports.iter();
                let ports = ports.map(|port| (port.value.id.clone(), port.value.epoch));
                Sent::Ports(host.clone(), ports.collect())
            }
            FinalState::Full { .. } | FinalState::Absent => Sent::Else,
        },
        Call::Remove { host, remove } => Sent::Removed(host.clone(), remove.ports.clone()),
        Call::FanOut { .. } | Call::Plan { .. } => Sent::Else,
    };
    calls.iter().map(short).collect()
}

fn gets(host: &str, port: &str, epoch: u64) -> Sent {
    Sent::Ports(name(host), vec![(name(port), Epoch(epoch))])
}

fn loses(host: &str, port: &str, revision: u64) -> Sent {
    let revision = Revision(revision);
    let port = name(port);
    Sent::Removed(name(host), vec![RemovedPort { port, revision }])
}

#[test]
fn a_port_that_is_nowhere_is_placed_and_its_state_goes_to_the_host() {
    let mut desk = desk();
    let outcome = claims(&mut desk, claim("h2", "web-2"));
    assert_eq!(outcome, granted(3, 3));
    assert_eq!(port(&desk, "web-2"), on("h2", 3));
    assert_eq!(sent(&mut desk), [gets("h2", "web-2", 3)]);
    assert_eq!(desk.records(), 0);
}

#[test]
fn a_grant_is_durable_before_anything_leaves() {
    let mut desk = desk();
    desk.send(Request::Claim(claim("h2", "web-2")));
    assert_eq!((desk.records(), desk.calls.len()), (1, 0));
    desk.restart();
    assert_eq!(port(&desk, "web-2"), on("h2", 3));
    desk.work();
    assert_eq!(sent(&mut desk), [gets("h2", "web-2", 3)]);
}

#[test]
fn a_claim_of_what_is_there_already_changes_nothing_whatever_epoch_it_names() {
    let mut desk = desk();
    let before = desk.tables();
    for epoch in [None, Some(Epoch(1)), Some(Epoch(0)), Some(Epoch(9))] {
        let request = ClaimRequest {
            epoch,
            ..claim("h1", "web-1")
        };
        assert_eq!(claims(&mut desk, request), granted(1, 1));
    }
    assert_eq!(desk.tables(), before);
    assert_eq!(sent(&mut desk), []);
}

#[test]
fn a_port_without_a_connection_is_connected_to_the_vnic_that_comes() {
    let mut desk = desk();
    let request = |host, port, vnic| ClaimRequest {
        vnic: Some(name(vnic)),
        ..claim(host, port)
    };
    let (one, two) = ("vm-1/eth0", "vm-2/eth0");
    // Where it is placed already, the placement stays what it was.
    assert_eq!(
        claims(&mut desk, request("h1", "web-1", one)),
        granted(1, 3)
    );
    let connected = |host: &str, vnic: &str, epoch| (Some(host.into()), Some(vnic.into()), epoch);
    assert_eq!(port(&desk, "web-1"), connected("h1", one, 1));
    assert_eq!(
        claims(&mut desk, request("h2", "web-2", two)),
        granted(4, 4)
    );
    assert_eq!(port(&desk, "web-2"), connected("h2", two, 4));
}

#[test]
fn a_released_port_is_nowhere_and_stays_its_vnics() {
    let mut desk = desk();
    assert_eq!(
        releases(&mut desk, release("h1", "web-3", Some(2))),
        released(3)
    );
    let reserved = (None, Some("vm-3/eth0".to_owned()), 3);
    assert_eq!(port(&desk, "web-3"), reserved);
    assert_eq!(sent(&mut desk), [loses("h1", "web-3", 3)]);
    // Its document may still change; that it is connected is no hindrance.
    desk.apply(
        r#"{"kind": "Port", "name": "web-3", "switch": "prod", "group": "web",
            "vnic": "vm-3/eth0", "mac": "52:54:00:00:00:03", "policy": {"blocked": true}}"#,
    );
    assert_eq!(port(&desk, "web-3"), reserved);
    assert_eq!(sent(&mut desk), []);
    // It comes back on another host.
    assert_eq!(claims(&mut desk, claim("h3", "web-3")), granted(5, 5));
    assert_eq!(sent(&mut desk), [gets("h3", "web-3", 5)]);
}

#[test]
fn a_document_places_a_released_port_as_it_places_any_other() {
    let mut desk = desk();
    releases(&mut desk, release("h1", "web-1", Some(1)));
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1"}"#,
    );
    assert_eq!(port(&desk, "web-1"), on("h1", 4));
}

#[test]
fn what_the_old_host_does_not_remove_is_left_to_retry() {
    let mut desk = desk();
    desk.manner("h1", Manner::Silent);
    releases(&mut desk, release("h1", "web-1", Some(1)));
    let rips: Vec<_> = desk.put.iter().flat_map(|put| put.rip.clone()).collect();
    let named: Vec<_> = rips
        .iter()
        .map(|rip| (rip.key.port.as_str(), rip.revision.0))
        .collect();
    assert_eq!(named, [("web-1", 3)]);
}

#[test]
fn plugged_in_again_the_removal_that_has_not_left_yet_never_leaves() {
    let mut desk = Desk::of_with(
        3,
        Settings {
            awaited: 0,
            ..Settings::default()
        },
    );
    desk.apply(SITE);
    desk.calls.clear();
    // One push is under way, so that the next waits.
    desk.send(Request::Claim(ClaimRequest {
        vnic: Some(name("vm-1/eth0")),
        ..claim("h1", "web-1")
    }));
    desk.send(Request::Release(release("h1", "web-1", Some(1))));
    desk.send(Request::Claim(claim("h1", "web-1")));
    desk.work();
    assert_eq!(
        sent(&mut desk),
        [gets("h1", "web-1", 1), gets("h1", "web-1", 4)]
    );
}

#[test]
fn a_release_of_a_placement_that_is_over_ends_nothing() {
    let mut desk = desk();
    releases(&mut desk, release("h1", "web-1", Some(1)));
    claims(&mut desk, claim("h1", "web-1"));
    let before = desk.tables();
    for late in [
        release("h1", "web-1", Some(1)),
        release("h1", "web-1", None),
        release("h2", "web-1", Some(4)),
        release("h1", "web-9", Some(4)),
    ] {
        assert_eq!(releases(&mut desk, late), ReleaseOutcome::Nothing);
    }
    assert_eq!(desk.tables(), before);
}

#[test]
fn the_holder_keeps_the_port_and_whoever_waits_gets_it_with_the_release() {
    let mut desk = desk();
    let before = desk.tables();
    assert_eq!(claims(&mut desk, claim("h2", "web-1")), waits("h1", 1));
    assert_eq!(desk.tables(), before);
    assert_eq!(
        releases(&mut desk, release("h1", "web-1", Some(1))),
        released(3)
    );
    assert_eq!(port(&desk, "web-1"), on("h2", 3));
    let mut calls = sent(&mut desk);
    calls.sort_by_key(|sent| matches!(sent, Sent::Removed(..)));
    assert_eq!(calls, [gets("h2", "web-1", 3), loses("h1", "web-1", 3)]);
    // It waits for nothing more.
    releases(&mut desk, release("h2", "web-1", Some(3)));
    assert_eq!(port(&desk, "web-1"), (None, None, 4));
}

#[test]
fn of_two_that_wait_the_newest_gets_the_port() {
    let mut desk = desk();
    claims(&mut desk, claim("h3", "web-1"));
    claims(&mut desk, claim("h2", "web-1"));
    releases(&mut desk, release("h1", "web-1", Some(1)));
    assert_eq!(port(&desk, "web-1"), on("h2", 3));
}

/// A claim of h2 waits for web-1; then this happens, and h1 releases.
fn with_a_wait(then: impl FnOnce(&mut Desk)) -> (Option<String>, Option<String>, u64) {
    let mut desk = desk();
    desk.hello("h2");
    let request = ClaimRequest {
        vnic: Some(name("vm-1/eth0")),
        ..claim("h2", "web-1")
    };
    assert_eq!(claims(&mut desk, request), waits("h1", 1));
    then(&mut desk);
    let (_, _, epoch) = port(&desk, "web-1");
    let outcome = releases(&mut desk, release("h1", "web-1", Some(epoch)));
    assert_eq!(outcome, released(desk.revision().0));
    port(&desk, "web-1")
}

#[test]
fn what_ends_a_wait() {
    let waited = (Some("h2".to_owned()), Some("vm-1/eth0".to_owned()), 3);
    assert_eq!(with_a_wait(|_| {}), waited);
    // The same run of the agent repeats its hello.
    let again = with_a_wait(|desk| {
        desk.hello("h2");
    });
    assert_eq!(again, waited);

    let withdrawn = with_a_wait(|desk| {
        let outcome = releases(desk, release("h2", "web-1", None));
        assert_eq!(outcome, ReleaseOutcome::Withdrawn);
    });
    assert_eq!(withdrawn, (None, None, 3));
    let new_run = with_a_wait(|desk| {
        desk.ask(Request::Hello(hello("h2", 2))).unwrap();
    });
    assert_eq!(new_run, (None, None, 3));
    let ended = with_a_wait(|desk| desk.farewell("h2"));
    assert_eq!(ended, (None, None, 3));
    // It is in memory only, so hosts repeat what waits.
    assert_eq!(with_a_wait(Desk::restart), (None, None, 3));
    let outside = with_a_wait(|desk| {
        desk.apply(r#"{"kind": "Switch", "name": "prod", "hosts": ["h1", "h3"]}"#);
    });
    assert_eq!(outside, (None, None, 4));
    let other_vnic = with_a_wait(|desk| {
        let vnic = Some(name("vm-9/eth0"));
        let epoch = None;
        claims(
            desk,
            ClaimRequest {
                vnic,
                epoch,
                ..claim("h1", "web-1")
            },
        );
    });
    assert_eq!(other_vnic, (None, Some("vm-9/eth0".to_owned()), 4));
    let made_anew = with_a_wait(|desk| {
        desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
        desk.apply(SITE);
    });
    assert_eq!(made_anew, (None, None, 5));
}

#[test]
fn a_wait_that_ends_without_a_grant_is_logged_with_who_waited_and_why_and_asked_again_is_refused() {
    let mut desk = desk();
    let claim = ClaimRequest {
        mac: Some("52:54:00:00:00:02".parse().unwrap()),
        ..claim("h2", "web-1")
    };
    assert_eq!(claims(&mut desk, claim.clone()), waits("h1", 1));
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1",
            "mac": "52:54:00:00:00:01"}"#,
    );
    let ended = logged(|| {
        releases(&mut desk, release("h1", "web-1", Some(1)));
    });
    assert_eq!(port(&desk, "web-1"), (None, None, 4));
    let problem = desk.ask(Request::Claim(claim)).unwrap_err();
    let line = "WARN the claim that waited can't be granted port=web-1 host=h2 problem=";
    let [logged] = ended.as_slice() else {
        panic!("{ended:?}");
    };
    let why = logged.strip_prefix(line).expect(logged);
    assert!(why.contains(&problem.message), "{why}");
}

#[test]
fn a_claim_that_is_repeated_after_a_restart_waits_as_before() {
    let mut desk = desk();
    for _ in 0..2 {
        claims(&mut desk, claim("h2", "web-1"));
    }
    desk.restart();
    let before = desk.tables();
    for _ in 0..2 {
        assert_eq!(claims(&mut desk, claim("h2", "web-1")), waits("h1", 1));
    }
    assert_eq!(desk.tables(), before);
    releases(&mut desk, release("h1", "web-1", Some(1)));
    assert_eq!(port(&desk, "web-1"), on("h2", 3));
    // However often it was asked, it was one wait.
    releases(&mut desk, release("h2", "web-1", Some(3)));
    assert_eq!(port(&desk, "web-1"), (None, None, 4));
}

#[test]
fn a_move_by_document_goes_before_any_claim_and_may_be_what_the_claim_waits_for() {
    let mut desk = desk();
    let place = |desk: &mut Desk, host: &str| {
        desk.apply(&format!(
            r#"{{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "{host}"}}"#
        ));
    };
    claims(&mut desk, claim("h2", "web-1"));
    place(&mut desk, "h3");
    assert_eq!(port(&desk, "web-1"), on("h3", 3));
    // h2 waits on, for h3 now.
    releases(&mut desk, release("h3", "web-1", Some(3)));
    assert_eq!(port(&desk, "web-1"), on("h2", 4));

    claims(&mut desk, claim("h1", "web-1"));
    place(&mut desk, "h1");
    assert_eq!(port(&desk, "web-1"), on("h1", 5));
    releases(&mut desk, release("h1", "web-1", Some(5)));
    assert_eq!(port(&desk, "web-1"), (None, None, 6));
}

#[test]
fn a_claim_that_waits_and_would_not_fit_the_hosts_state_leaves_the_port_nowhere() {
    let mut desk = Desk::with(Settings {
        max_payload: 4_096,
        ..Settings::default()
    });
    desk.hello("h1");
    desk.hello("h2");
    desk.apply(SITE);
    claims(&mut desk, claim("h2", "web-1"));
    let fill = |desk: &mut Desk, n: usize| {
        desk.try_apply(&format!(
            r#"{{"kind": "Port", "name": "p-{n}", "switch": "prod", "group": "web", "host": "h2"}}"#
        ))
    };
    let mut placed = 0;
    while fill(&mut desk, placed).is_ok() {
        placed += 1;
    }
    assert!(placed > 10, "{placed}");
    let outcome = releases(&mut desk, release("h1", "web-1", Some(1)));
    assert_eq!(outcome, released(desk.revision().0));
    assert_eq!(port(&desk, "web-1"), (None, None, desk.revision().0));
    // Asked for directly, it is refused with the reason.
    let problem = desk.ask(Request::Claim(claim("h2", "web-1"))).unwrap_err();
    assert_eq!(
        (problem.code, problem.field.as_deref()),
        (ProblemCode::TooLarge, Some("host"))
    );
}

/// Refused, with no trace.
#[track_caller]
fn refused(request: ClaimRequest) -> Problem {
    let mut desk = desk();
    desk.apply(r#"{"kind": "Switch", "name": "prod", "hosts": ["h1", "h2"]}"#);
    let before = desk.tables();
    desk.calls.clear();
    let problem = desk.ask(Request::Claim(request)).unwrap_err();
    assert_eq!(desk.tables(), before);
    assert_eq!(sent(&mut desk), []);
    // Nor does it wait.
    releases(&mut desk, release("h1", "web-1", Some(1)));
    assert_eq!(port(&desk, "web-1").0, None);
    problem
}

#[test]
fn an_unknown_port() {
    assert_eq!(
        refused(claim("h2", "web-9")),
        Problem::new(ProblemCode::NotFound, "there is no Port web-9")
            .of("Port web-9")
            .at("port")
            .allow("what dvsctl get lists")
    );
}

#[test]
fn a_host_outside_the_switch() {
    for port in ["web-1", "web-2"] {
        assert_eq!(
            refused(claim("h3", port)),
            Problem::invalid("host h3 is outside switch prod")
                .of(format!("Port {port}"))
                .at("host")
                .allow("h1, h2")
        );
    }
}

#[test]
fn an_epoch_that_is_over() {
    let request = |epoch, port| ClaimRequest {
        epoch: Some(Epoch(epoch)),
        ..claim("h2", port)
    };
    let allowed = "a claim without an epoch, once the host has let go of the port";
    // 9 is of another store.
    for epoch in [0, 9] {
        let message =
            format!("host h2 holds the port in epoch {epoch} no more: host h1 holds it in epoch 1");
        assert_eq!(
            refused(request(epoch, "web-1")),
            Problem::new(ProblemCode::Conflict, message)
                .of("Port web-1")
                .at("epoch")
                .allow(allowed)
        );
    }
    let message = "host h2 holds the port in epoch 2 no more: it is on no host";
    assert_eq!(
        refused(request(2, "web-2")),
        Problem::new(ProblemCode::Conflict, message)
            .of("Port web-2")
            .at("epoch")
            .allow(allowed)
    );
}

#[test]
fn another_vnic_or_mac_address_than_the_ports() {
    let other = ClaimRequest {
        vnic: Some(name("vm-9/eth0")),
        ..claim("h2", "web-3")
    };
    let message = "vNIC vm-3/eth0 is connected to the port on host h1";
    assert_eq!(
        refused(other),
        Problem::new(ProblemCode::Conflict, message)
            .of("Port web-3")
            .at("vnic")
            .allow("vm-3/eth0, or disconnect it first (dvsctl disconnect)")
    );
    let other = ClaimRequest {
        mac: Some("52:54:00:00:00:09".parse().unwrap()),
        ..claim("h1", "web-3")
    };
    let message = "the port is configured for 52:54:00:00:00:03, not for 52:54:00:00:00:09";
    assert_eq!(
        refused(other),
        Problem::new(ProblemCode::Conflict, message)
            .of("Port web-3")
            .at("mac")
            .allow("52:54:00:00:00:03, or a document with mac: 52:54:00:00:00:09")
    );
}

#[test]
fn a_disconnected_port_takes_the_next_vnic() {
    let mut desk = desk();
    let disconnect = DisconnectRequest {
        port: name("web-3"),
        vnic: None,
    };
    desk.ask(Request::Disconnect(disconnect)).unwrap();
    let other = ClaimRequest {
        vnic: Some(name("vm-9/eth0")),
        mac: Some("52:54:00:00:00:03".parse().unwrap()),
        ..claim("h1", "web-3")
    };
    assert_eq!(claims(&mut desk, other), granted(2, 4));
}
