// SPDX-License-Identifier: Apache-2.0
//! Requests that are refused: whole, with the document, the field and what is
//! allowed, and nothing committed.

use config_publisher::core::Settings;
use config_publisher::events::{Reply, Request};
use dvs_schemas::codec::{Format, REQUEST_MAX, encode};
use dvs_schemas::v1::{DisconnectRequest, RenderRequest};
use dvs_schemas::{Problem, ProblemCode};

use crate::desk::{Desk, SITE, name};

/// A desk with [`SITE`], whose port is connected, and then some.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(
        r#"[
        {"kind": "Switch", "name": "lab", "hosts": ["h1", "h2"],
         "private_vlans": [{"primary": 10, "isolated": 11}]},
        {"kind": "PortGroup", "name": "iso", "switch": "lab", "policy": {"vlan": {"private": 11}}},
        {"kind": "Port", "name": "lab-1", "switch": "lab", "group": "iso", "host": "h2"},
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "h1",
         "vnic": "vm-2/eth0", "policy": {"blocked": true}},
        {"kind": "MirrorSession", "name": "tap", "switch": "prod",
         "source": {"ports": [{"port": "web-1"}]}, "destination": {"port": "web-2"}}
    ]"#,
    );
    desk
}

/// What every refusal must be: a problem with all its places, and no trace.
fn refused(desk: &mut Desk, by: impl FnOnce(&mut Desk) -> Problem) -> Problem {
    let (before, config) = (desk.tables(), desk.publisher.config().clone());
    let problem = by(desk);
    assert!(problem.document.is_some(), "{problem:?}");
    assert!(problem.field.is_some(), "{problem:?}");
    assert!(problem.to_string().contains("allowed: "), "{problem:?}");
    assert_eq!(desk.tables(), before, "{problem}");
    assert_eq!(*desk.publisher.config(), config, "{problem}");
    assert!(desk.undone.is_empty(), "{problem}: {:?}", desk.undone);
    problem
}

#[track_caller]
fn check(code: ProblemCode, place: (&str, &str), says: &[&str], problem: &Problem) {
    assert_eq!(problem.code, code, "{problem}");
    let found = (
        problem.document.as_deref().unwrap(),
        problem.field.as_deref().unwrap(),
    );
    assert_eq!(found, place, "{problem}");
    let text = problem.to_string();
    for word in says {
        assert!(text.contains(word), "{text} does not say {word}");
    }
}

#[track_caller]
fn apply(text: &str, code: ProblemCode, place: (&str, &str), says: &[&str]) {
    let problem = refused(&mut desk(), |desk| desk.try_apply(text).unwrap_err());
    check(code, place, says, &problem);
}

#[track_caller]
fn delete(text: &str, code: ProblemCode, place: (&str, &str), says: &[&str]) {
    let problem = refused(&mut desk(), |desk| desk.try_delete(text).unwrap_err());
    check(code, place, says, &problem);
}

use ProblemCode::{Conflict, Invalid, NotFound};

#[test]
fn a_group_of_an_unknown_switch() {
    apply(
        r#"{"kind": "PortGroup", "name": "web", "switch": "nowhere"}"#,
        NotFound,
        ("PortGroup nowhere/web", "switch"),
        &["there is no switch nowhere", "lab, prod"],
    );
}

#[test]
fn the_bad_document_among_good_ones_is_named_and_the_good_are_refused_too() {
    apply(
        r#"[{"kind": "PortGroup", "name": "db", "switch": "prod"},
            {"kind": "PortGroup", "name": "web", "switch": "nowhere"}]"#,
        NotFound,
        ("documents[1] PortGroup nowhere/web", "switch"),
        &[],
    );
}

#[test]
fn a_port_of_an_unknown_group() {
    apply(
        r#"{"kind": "Port", "name": "p", "switch": "lab", "group": "web"}"#,
        NotFound,
        ("Port p", "group"),
        &["switch lab has no port group web", "allowed: iso"],
    );
}

#[test]
fn a_port_on_a_host_outside_a_named_list() {
    apply(
        r#"{"kind": "Port", "name": "p", "switch": "lab", "group": "iso", "host": "h3"}"#,
        Invalid,
        ("Port p", "host"),
        &["host h3 is outside switch lab", "allowed: h1, h2"],
    );
}

#[test]
fn a_port_on_a_host_that_never_said_hello() {
    apply(
        r#"{"kind": "Port", "name": "p", "switch": "prod", "group": "web", "host": "h9"}"#,
        Invalid,
        ("Port p", "host"),
        &["said no hello or was forgotten", "allowed: h1, h2, h3"],
    );
}

#[test]
fn an_override_that_the_group_forbids() {
    apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
            "policy": {"vlan": {"access": 7}}}"#,
        Invalid,
        ("Port web-1", "policy.vlan"),
        &["lets no port override vlan", "allowed: blocked"],
    );
}

#[test]
fn a_group_that_would_forbid_what_a_port_overrides() {
    apply(
        r#"{"kind": "PortGroup", "name": "web", "switch": "prod"}"#,
        Conflict,
        ("PortGroup prod/web", "overridable"),
        &["port web-2 overrides blocked"],
    );
}

#[test]
fn a_private_vlan_without_a_role() {
    apply(
        r#"{"kind": "PortGroup", "name": "iso", "switch": "lab", "policy": {"vlan": {"private": 12}}}"#,
        Invalid,
        ("PortGroup lab/iso", "policy.vlan.private"),
        &["VLAN 12 has no role", "allowed: 10, 11"],
    );
    apply(
        r#"{"kind": "Switch", "name": "prod", "policy": {"vlan": {"private": 12}}}"#,
        Invalid,
        ("Switch prod", "policy.vlan.private"),
        &["the switch has no private_vlans"],
    );
}

#[test]
fn a_switch_that_takes_a_role_away_from_a_group() {
    apply(
        r#"{"kind": "Switch", "name": "lab", "hosts": ["h1", "h2"],
            "private_vlans": [{"primary": 10}]}"#,
        Conflict,
        ("Switch lab", "private_vlans"),
        &["PortGroup lab/iso has VLAN private 11"],
    );
}

#[test]
fn a_host_that_would_leave_with_ports_on_it() {
    apply(
        r#"{"kind": "Switch", "name": "lab", "hosts": ["h1"],
            "private_vlans": [{"primary": 10, "isolated": 11}]}"#,
        Conflict,
        ("Switch lab", "hosts"),
        &["host h2 would leave", "lab-1"],
    );
}

#[test]
fn an_uplink_named_twice() {
    apply(
        r#"{"kind": "Switch", "name": "prod", "uplinks": ["eth0", "eth1", "eth0"]}"#,
        Invalid,
        ("Switch prod", "uplinks[2]"),
        &["eth0 is named twice"],
    );
}

#[test]
fn a_port_that_would_change_its_switch() {
    apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "lab", "group": "iso"}"#,
        Conflict,
        ("Port web-1", "switch"),
        &["belongs to switch prod", "delete the port first"],
    );
}

#[test]
fn a_second_vnic_on_a_connected_port() {
    apply(
        r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web",
            "vnic": "vm-3/eth0", "policy": {"blocked": true}}"#,
        Conflict,
        ("Port web-2", "vnic"),
        &["vNIC vm-2/eth0", "on host h1", "dvsctl disconnect"],
    );
}

#[test]
fn mirror_sessions_that_copy_nothing_or_in_circles_or_from_elsewhere() {
    let session = |source: &str, destination: &str| {
        format!(
            r#"{{"kind": "MirrorSession", "name": "tap", "switch": "prod",
                "source": {source}, "destination": {destination}}}"#
        )
    };
    let place = |field| ("MirrorSession prod/tap", field);
    apply(
        &session("{}", r#"{"vlan": 9}"#),
        Invalid,
        place("source"),
        &["nothing to copy"],
    );
    apply(
        &session(r#"{"ports": [{"port": "web-9"}]}"#, r#"{"vlan": 9}"#),
        NotFound,
        place("source.ports[0].port"),
        &["there is no port web-9"],
    );
    apply(
        &session(r#"{"ports": [{"port": "web-1"}]}"#, r#"{"port": "lab-1"}"#),
        Invalid,
        place("destination.port"),
        &["port lab-1 belongs to switch lab"],
    );
    apply(
        &session(
            r#"{"ports": [{"port": "web-2"}, {"port": "web-1"}]}"#,
            r#"{"port": "web-1"}"#,
        ),
        Invalid,
        place("source.ports[1].port"),
        &["port web-1 is a source and the destination"],
    );
    apply(
        &session(r#"{"vlans": [8, 9]}"#, r#"{"vlan": 9}"#),
        Invalid,
        place("destination.vlan"),
        &["VLAN 9 is a source and the destination"],
    );
}

#[test]
fn one_object_in_two_documents() {
    apply(
        r#"[{"kind": "Switch", "name": "prod"}, {"kind": "Switch", "name": "prod", "mtu": 9000}]"#,
        Invalid,
        ("documents[1] Switch prod", "name"),
        &["named twice, first at documents[0]"],
    );
}

#[test]
fn a_lost_update() {
    apply(
        r#"{"kind": "PortGroup", "name": "iso", "switch": "lab", "if_revision": 1}"#,
        Conflict,
        ("PortGroup lab/iso", "if_revision"),
        &["changed at revision 2", "allowed: 2 or later"],
    );
    delete(
        r#"{"kind": "Port", "name": "lab-1", "if_revision": 1}"#,
        Conflict,
        ("Port lab-1", "if_revision"),
        &["changed at revision 2"],
    );
}

#[test]
fn an_update_as_of_a_revision_to_come() {
    apply(
        r#"{"kind": "PortGroup", "name": "iso", "switch": "lab", "if_revision": 3}"#,
        Invalid,
        ("PortGroup lab/iso", "if_revision"),
        &["the newest revision is 2", "allowed: 0 to 2"],
    );
}

#[test]
fn an_update_of_what_was_deleted_since_is_lost_too() {
    let mut desk = desk();
    let lab_1 = |bound: u64| {
        format!(
            r#"{{"kind": "Port", "name": "lab-1", "switch": "lab", "group": "iso",
                "if_revision": {bound}}}"#
        )
    };
    desk.delete(r#"{"kind": "Port", "name": "lab-1"}"#);
    desk.apply(r#"{"kind": "PortGroup", "name": "db", "switch": "prod"}"#);
    desk.restart();
    desk.work();
    for bound in [0, 2] {
        let problem = refused(&mut desk, |desk| desk.try_apply(&lab_1(bound)).unwrap_err());
        check(
            Conflict,
            ("Port lab-1", "if_revision"),
            &[
                "there is no Port lab-1",
                "at revision 3",
                "allowed: 3 or later",
            ],
            &problem,
        );
    }
    // Whoever has seen the deletion may make it anew.
    desk.apply(&lab_1(3));
}

#[test]
fn an_update_of_what_has_not_changed_since_is_not_lost() {
    let mut desk = desk();
    let reply =
        desk.apply(r#"{"kind": "PortGroup", "name": "db", "switch": "prod", "if_revision": 2}"#);
    assert_eq!(reply.changed.len(), 1);
    // web is of revision 1, whatever happened to others since.
    desk.apply(
        r#"{"kind": "PortGroup", "name": "web", "switch": "prod",
            "overridable": ["blocked", "vlan"], "if_revision": 1}"#,
    );
}

#[test]
fn what_others_need_is_not_deleted() {
    delete(
        r#"{"kind": "Switch", "name": "lab"}"#,
        Conflict,
        ("Switch lab", "name"),
        &[
            "2 objects need Switch lab",
            "PortGroup lab/iso",
            "Port lab-1",
        ],
    );
    delete(
        r#"{"kind": "PortGroup", "switch": "lab", "name": "iso"}"#,
        Conflict,
        ("PortGroup lab/iso", "name"),
        &["1 object needs PortGroup lab/iso: Port lab-1"],
    );
    delete(
        r#"[{"kind": "Port", "name": "lab-1"}, {"kind": "Port", "name": "web-1"}]"#,
        Conflict,
        ("objects[1] Port web-1", "name"),
        &["MirrorSession prod/tap"],
    );
}

#[test]
fn what_is_not_there_is_not_deleted() {
    delete(
        r#"{"kind": "Port", "name": "web-9"}"#,
        NotFound,
        ("Port web-9", "name"),
        &["there is no Port web-9"],
    );
    delete(
        r#"[{"kind": "Port", "name": "lab-1"}, {"kind": "Port", "name": "a.b"}]"#,
        Invalid,
        ("objects[1] Port a.b", "name"),
        &["allowed: 1 to 63"],
    );
}

#[test]
fn a_disconnect_of_another_vnic_or_port() {
    let ask = |port, vnic| {
        move |desk: &mut Desk| {
            let request = DisconnectRequest {
                port: name(port),
                vnic: Some(name(vnic)),
            };
            desk.ask(Request::Disconnect(request)).unwrap_err()
        }
    };
    let problem = refused(&mut desk(), ask("web-2", "vm-9/eth0"));
    check(Conflict, ("Port web-2", "vnic"), &["vm-2/eth0"], &problem);
    let problem = refused(&mut desk(), ask("web-9", "vm-9/eth0"));
    check(NotFound, ("Port web-9", "port"), &[], &problem);
}

#[test]
fn a_full_state_that_would_not_fit_one_message() {
    let mut desk = Desk::with(Settings {
        max_payload: 4_096,
        ..Settings::default()
    });
    desk.hello("h1");
    desk.hello("h2");
    desk.apply(SITE);
    let port = |n: usize, host: &str| {
        format!(
            r#"{{"kind": "Port", "name": "p-{n}", "switch": "prod", "group": "web", "host": "{host}"}}"#
        )
    };
    let many = |host| {
        let ports: Vec<String> = (0..100).map(|n| port(n, host)).collect();
        format!("[{}]", ports.join(","))
    };
    let problem = refused(&mut desk, |desk| desk.try_apply(&many("h2")).unwrap_err());
    check(
        ProblemCode::TooLarge,
        ("Port p-99", "host"),
        &["host h2's full state of switch prod", "4096 bytes"],
        &problem,
    );
    // As many as fit are taken, one by one, and then no more.
    let mut taken = 0;
    while desk.try_apply(&port(taken, "h2")).is_ok() {
        taken += 1;
    }
    assert!((10..100).contains(&taken), "{taken}");
    // Retry can have the fullest state too: as an answer, which a service
    // keeps 512 bytes free of for headers.
    let state = RenderRequest::State {
        host: name("h2"),
        switch: name("prod"),
    };
    let Ok(Reply::Rendered(reply)) = desk.ask(Request::Render(state)) else {
        panic!("no state");
    };
    let bytes = encode(Format::MessagePack, &reply).unwrap().len();
    assert!(bytes <= 4_096 - 512, "{bytes}");
    // What is full may still shrink, and others may grow.
    desk.delete(r#"{"kind": "Port", "name": "p-0"}"#);
    desk.apply(&port(200, "h1"));
}

#[test]
fn a_full_state_that_no_host_would_read_though_the_bus_takes_it() {
    let mut desk = Desk::with(Settings {
        max_payload: 8 * REQUEST_MAX,
        ..Settings::default()
    });
    desk.hello("h1");
    desk.apply(&SITE.replace("blocked", "vlan"));
    let vlans: Vec<String> = (1..4_094).step_by(2).map(|vlan| vlan.to_string()).collect();
    let ports = |from: usize| {
        let port = |n| {
            format!(
                r#"{{"kind": "Port", "name": "p-{n}", "switch": "prod", "group": "web",
                    "host": "h1", "policy": {{"vlan": {{"trunk": {{"vlans": [{}]}}}}}}}}"#,
                vlans.join(",")
            )
        };
        let ports: Vec<String> = (from..from + 50).map(port).collect();
        format!("[{}]", ports.join(","))
    };
    let mut from = 0;
    while desk.try_apply(&ports(from)).is_ok() {
        from += 50;
        assert!(from < 1_000, "no end");
    }
    let problem = refused(&mut desk, |desk| desk.try_apply(&ports(from)).unwrap_err());
    let port = format!("Port p-{}", from + 49);
    let limit = "allowed: 1048576 bytes";
    check(ProblemCode::TooLarge, (&port, "host"), &[limit], &problem);
}
