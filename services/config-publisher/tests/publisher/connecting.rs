// SPDX-License-Identifier: Apache-2.0
//! vNICs that are connected to ports, and ports that are moved: nobody's
//! connection is taken, and whoever comes second is told who is there.

use config_publisher::events::{Call, Reply, Request};
use dvs_schemas::v1::{
    ApplyReply, ConnectRequest, DisconnectRequest, FinalState, MoveRequest, Operation,
};
use dvs_schemas::{Epoch, HostName, PortId, Problem, ProblemCode};

use crate::desk::{Desk, SITE, name};

/// [`SITE`], which is revision 1, with three hosts, a second port and a group
/// whose ports come with their connections.
fn desk() -> Desk {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(
        r#"[
        {"kind": "PortGroup", "name": "scratch", "switch": "prod", "binding": "ephemeral"},
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web"}
    ]"#,
    );
    desk.calls.clear();
    desk
}

fn to(port: &str, vnic: &str, host: Option<&str>) -> ConnectRequest {
    ConnectRequest {
        port: name(port),
        vnic: name(vnic),
        host: host.map(name),
        mac: None,
        switch: None,
        group: None,
        wait: None,
        timeout: None,
    }
}

fn ephemeral(port: &str, vnic: &str, group: &str) -> ConnectRequest {
    ConnectRequest {
        switch: Some(name("prod")),
        group: Some(name(group)),
        ..to(port, vnic, Some("h1"))
    }
}

fn elsewhere(port: &str, host: &str, from: Option<&str>) -> MoveRequest {
    MoveRequest {
        port: name(port),
        host: name(host),
        force: false,
        from: from.map(name),
        wait: None,
        timeout: None,
    }
}

fn ask(desk: &mut Desk, request: Request) -> Result<ApplyReply, Problem> {
    desk.ask(request).map(|reply| match reply {
        Reply::Applied(reply) => reply,
        other => panic!("{other:?}"),
    })
}

fn connect(desk: &mut Desk, request: ConnectRequest) -> Result<ApplyReply, Problem> {
    ask(desk, Request::Connect(request))
}

fn disconnect(desk: &mut Desk, port: &str) {
    let request = DisconnectRequest {
        port: name(port),
        vnic: None,
    };
    desk.ask(Request::Disconnect(request)).unwrap();
}

/// Where a port is, for which vNIC, and its fence; none if it isn't there.
fn port(desk: &Desk, port: &str) -> Option<(Option<HostName>, Option<String>, Epoch)> {
    let placed = &desk.publisher.config().port(&name(port))?.value;
    let vnic = placed.document.vnic.as_ref().map(ToString::to_string);
    Some((placed.document.host.clone(), vnic, placed.epoch))
}

fn refused(result: Result<ApplyReply, Problem>) -> (ProblemCode, String, Option<String>) {
    let problem = result.unwrap_err();
    let field = problem.field.clone();
    (problem.code, problem.message, field)
}

#[test]
fn of_two_vnics_the_second_is_told_who_is_there_and_comes_in_after_a_disconnect() {
    let mut desk = desk();
    connect(&mut desk, to("web-2", "vm-1/eth0", Some("h2"))).unwrap();
    let connected = Some((Some(name("h2")), Some("vm-1/eth0".to_owned()), Epoch(3)));
    assert_eq!(port(&desk, "web-2"), connected);
    let second = to("web-2", "vm-2/eth0", Some("h3"));
    let expected = (
        ProblemCode::Conflict,
        "vNIC vm-1/eth0 is connected to the port on host h2".to_owned(),
        Some("vnic".to_owned()),
    );
    assert_eq!(refused(connect(&mut desk, second.clone())), expected);
    assert_eq!(port(&desk, "web-2"), connected);
    disconnect(&mut desk, "web-2");
    connect(&mut desk, second).unwrap();
    let connected = Some((Some(name("h3")), Some("vm-2/eth0".to_owned()), Epoch(5)));
    assert_eq!(port(&desk, "web-2"), connected);
}

#[test]
fn a_vnic_has_one_port_whoever_connects_it() {
    let mut desk = desk();
    connect(&mut desk, to("web-1", "vm-1/eth0", None)).unwrap();
    let expected = (
        ProblemCode::Conflict,
        "vNIC vm-1/eth0 is connected to port web-1".to_owned(),
        Some("vnic".to_owned()),
    );
    let again = to("web-2", "vm-1/eth0", Some("h2"));
    assert_eq!(refused(connect(&mut desk, again)), expected);
    let document = r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web",
        "host": "h2", "vnic": "vm-1/eth0"}"#;
    let problem = desk.try_apply(document).unwrap_err();
    assert_eq!((problem.code, problem.message), (expected.0, expected.1));
    // Nor two of one request.
    let two = r#"[
        {"kind": "Port", "name": "a", "switch": "prod", "group": "web", "host": "h1",
         "vnic": "vm-9/eth0"},
        {"kind": "Port", "name": "b", "switch": "prod", "group": "web", "host": "h1",
         "vnic": "vm-9/eth0"}
    ]"#;
    let problem = desk.try_apply(two).unwrap_err();
    assert_eq!(problem.message, "vNIC vm-9/eth0 is connected to port a");
    // Also after a restart, and not when the port is gone.
    desk.restart();
    assert!(desk.try_apply(document).is_err());
    desk.delete(r#"{"kind": "Port", "name": "web-1"}"#);
    desk.apply(document);
}

#[test]
fn connecting_what_is_connected_changes_nothing() {
    let mut desk = desk();
    let request = to("web-1", "vm-1/eth0", Some("h1"));
    let first = connect(&mut desk, request.clone()).unwrap();
    let before = desk.tables();
    desk.calls.clear();
    let second = connect(&mut desk, request).unwrap();
    assert_eq!((second.revision, second.changed), (first.revision, vec![]));
    assert_eq!(desk.tables(), before);
    assert!(desk.calls.is_empty());
}

#[test]
fn an_ephemeral_port_comes_and_goes_with_its_connection() {
    let mut desk = desk();
    let reply = connect(&mut desk, ephemeral("vm-7-0", "vm-7/eth0", "scratch")).unwrap();
    assert_eq!(reply.changed[0].operation, Operation::Created);
    let there = Some((Some(name("h1")), Some("vm-7/eth0".to_owned()), Epoch(3)));
    assert_eq!(port(&desk, "vm-7-0"), there);
    disconnect(&mut desk, "vm-7-0");
    assert_eq!(port(&desk, "vm-7-0"), None);
    // A static one stays.
    connect(&mut desk, to("web-1", "vm-1/eth0", None)).unwrap();
    disconnect(&mut desk, "web-1");
    assert_eq!(
        port(&desk, "web-1"),
        Some((Some(name("h1")), None, Epoch(1)))
    );
}

#[test]
fn only_an_ephemeral_group_makes_ports() {
    let mut desk = desk();
    let unknown = connect(&mut desk, to("vm-7-0", "vm-7/eth0", Some("h1")));
    assert_eq!(
        refused(unknown),
        (
            ProblemCode::NotFound,
            "there is no Port vm-7-0".to_owned(),
            Some("port".to_owned())
        )
    );
    let of_static = connect(&mut desk, ephemeral("vm-7-0", "vm-7/eth0", "web"));
    assert_eq!(
        refused(of_static),
        (
            ProblemCode::Conflict,
            "ports of group web don't come with a connection".to_owned(),
            Some("group".to_owned())
        )
    );
    let of_none = connect(&mut desk, ephemeral("vm-7-0", "vm-7/eth0", "nothing"));
    assert_eq!(
        refused(of_none),
        (
            ProblemCode::NotFound,
            "switch prod has no port group nothing".to_owned(),
            Some("group".to_owned())
        )
    );
}

#[test]
fn what_mirrors_need_is_not_deleted_by_a_disconnect() {
    let mut desk = desk();
    connect(&mut desk, ephemeral("vm-7-0", "vm-7/eth0", "scratch")).unwrap();
    desk.apply(
        r#"{"kind": "MirrorSession", "name": "m", "switch": "prod",
        "source": {"ports": [{"port": "web-1", "direction": "both"}]},
        "destination": {"port": "vm-7-0"}}"#,
    );
    let request = DisconnectRequest {
        port: name("vm-7-0"),
        vnic: None,
    };
    let problem = desk.ask(Request::Disconnect(request)).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict);
    assert!(port(&desk, "vm-7-0").is_some());
}

#[test]
fn a_moved_port_is_in_a_new_epoch_there_and_removed_here() {
    let mut desk = desk();
    ask(
        &mut desk,
        Request::Move(elsewhere("web-1", "h3", Some("h1"))),
    )
    .unwrap();
    assert_eq!(
        port(&desk, "web-1"),
        Some((Some(name("h3")), None, Epoch(3)))
    );
    let mut gets = Vec::new();
    let mut loses: Vec<(HostName, PortId)> = Vec::new();
    for call in std::mem::take(&mut desk.calls) {
        match call {
            Call::Clobber { host, clobber } => {
                let FinalState::Partial { objects, .. } = &clobber.state else {
                    panic!("{clobber:?}");
                };
                gets.push((host, objects.ports[0].value.epoch));
            }
            Call::Remove { host, remove } => {
                loses.push((host, remove.ports[0].port.clone()));
            }
            Call::FanOut { .. } | Call::Plan { .. } => panic!("{call:?}"),
        }
    }
    assert_eq!(gets, [(name("h3"), Epoch(3))]);
    assert_eq!(loses, [(name("h1"), name("web-1"))]);
    // To where it is nothing moves.
    let still = ask(&mut desk, Request::Move(elsewhere("web-1", "h3", None))).unwrap();
    assert_eq!(still.changed, []);
}

#[test]
fn a_move_from_where_the_port_is_not_any_more_is_refused() {
    let mut desk = desk();
    let late = ask(
        &mut desk,
        Request::Move(elsewhere("web-1", "h3", Some("h2"))),
    );
    assert_eq!(
        refused(late),
        (
            ProblemCode::Conflict,
            "the port is on host h1".to_owned(),
            Some("from".to_owned())
        )
    );
    let outside = ask(&mut desk, Request::Move(elsewhere("web-1", "h9", None)));
    let (code, message, field) = refused(outside);
    assert_eq!(
        (code, field.as_deref()),
        (ProblemCode::Invalid, Some("host"))
    );
    assert!(message.contains("h9 is outside switch prod"), "{message}");
    let unknown = ask(&mut desk, Request::Move(elsewhere("web-9", "h1", None)));
    assert_eq!(refused(unknown).0, ProblemCode::NotFound);
}

#[test]
fn a_port_is_reserved_for_a_vnic_before_that_is_plugged_in_anywhere() {
    let mut desk = desk();
    connect(&mut desk, to("web-2", "vm-2/eth0", None)).unwrap();
    let reserved = (None, Some("vm-2/eth0".to_owned()), Epoch(0));
    assert_eq!(port(&desk, "web-2"), Some(reserved));
    assert_eq!(desk.calls, [], "no host has anything to do with it");
    let (code, message, field) = refused(connect(&mut desk, to("web-2", "vm-9/eth0", Some("h1"))));
    assert_eq!(
        (code, field.as_deref()),
        (ProblemCode::Conflict, Some("vnic"))
    );
    assert!(message.contains("vm-2/eth0"), "{message}");
    // As written down and applied again.
    let document = r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "vnic": "vm-2/eth0"}"#;
    assert_eq!(desk.apply(document).changed, []);
}
