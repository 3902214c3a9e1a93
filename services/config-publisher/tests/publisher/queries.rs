// SPDX-License-Identifier: Apache-2.0
//! Objects shown, filtered and in pages; what retry is told.

use config_publisher::core::Settings;
use config_publisher::events::{Reply, Request};
use dvs_schemas::v1::{
    FinalState, GetReply, GetRequest, HostListRequest, Placement, PlacementsReply,
    PlacementsRequest, ReleaseRequest, RenderReply, RenderRequest, V1,
};
use dvs_schemas::{Epoch, Kind, ProblemCode, Revision, SessionId};

use crate::desk::{Desk, SITE, name};

fn get(desk: &mut Desk, request: GetRequest) -> GetReply {
    match desk.ask(Request::Get(request)) {
        Ok(Reply::Objects(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn keys(desk: &mut Desk, text: &str) -> Vec<String> {
    let request: GetRequest = serde_json::from_str(text).unwrap();
    let items = get(desk, request).items;
    items
        .iter()
        .map(|item| item.document.key().to_string())
        .collect()
}

fn desk() -> Desk {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.apply(
        r#"[{"kind": "Switch", "name": "lab"},
            {"kind": "PortGroup", "name": "web", "switch": "lab"},
            {"kind": "Port", "name": "lab-1", "switch": "lab", "group": "web", "host": "h2"},
            {"kind": "Port", "name": "a", "switch": "lab", "group": "web"},
            {"kind": "MirrorSession", "name": "tap", "switch": "lab",
             "source": {"vlans": [5]}, "destination": {"vlan": 6}}]"#,
    );
    desk
}

#[test]
fn every_filter_narrows() {
    let mut desk = desk();
    for (filter, expected) in [
        (
            "{}",
            &[
                "Switch lab",
                "Switch prod",
                "PortGroup lab/web",
                "PortGroup prod/web",
                "Port a",
                "Port lab-1",
                "Port web-1",
                "MirrorSession lab/tap",
            ][..],
        ),
        (r#"{"kind": "Switch"}"#, &["Switch lab", "Switch prod"]),
        (
            r#"{"switch": "prod"}"#,
            &["Switch prod", "PortGroup prod/web", "Port web-1"],
        ),
        (
            r#"{"name": "web"}"#,
            &["PortGroup lab/web", "PortGroup prod/web"],
        ),
        (r#"{"name": "web-1"}"#, &["Port web-1"]),
        (
            r#"{"group": "web"}"#,
            &["Port a", "Port lab-1", "Port web-1"],
        ),
        (
            r#"{"group": "web", "switch": "lab"}"#,
            &["Port a", "Port lab-1"],
        ),
        (r#"{"host": "h2"}"#, &["Port lab-1"]),
        (r#"{"host": "h2", "switch": "prod"}"#, &[]),
        (r#"{"kind": "MirrorSession"}"#, &["MirrorSession lab/tap"]),
        (r#"{"kind": "Switch", "host": "h2"}"#, &[]),
        (
            r#"{"after": "PortGroup prod/web"}"#,
            &[
                "Port a",
                "Port lab-1",
                "Port web-1",
                "MirrorSession lab/tap",
            ],
        ),
        (
            r#"{"after": "Port b", "kind": "Port"}"#,
            &["Port lab-1", "Port web-1"],
        ),
    ] {
        assert_eq!(keys(&mut desk, filter), expected, "{filter}");
    }
}

#[test]
fn a_port_is_shown_as_it_is_now() {
    let mut desk = desk();
    let request = GetRequest {
        kind: Some(Kind::Port),
        name: Some("web-1".to_owned()),
        ..GetRequest::default()
    };
    let item = get(&mut desk, request).items.remove(0);
    assert_eq!((item.revision, item.epoch), (Revision(1), Some(Epoch(1))));
}

#[test]
fn a_place_that_is_none_is_refused() {
    let mut desk = desk();
    for after in [
        "",
        "Port",
        "Port a.b",
        "Switch/x",
        "PortGroup web",
        "Nothing x",
    ] {
        let request = GetRequest {
            after: Some(after.to_owned()),
            ..GetRequest::default()
        };
        let problem = desk.ask(Request::Get(request)).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("after"));
    }
}

#[test]
fn pages_fit_into_a_message_and_together_are_everything() {
    let mut desk = Desk::with(Settings {
        max_payload: 8_192,
        ..Settings::default()
    });
    desk.apply(r#"[{"kind": "Switch", "name": "prod"}, {"kind": "PortGroup", "name": "web", "switch": "prod"}]"#);
    for number in 0..300 {
        desk.apply(&format!(
            r#"{{"kind": "Port", "name": "p-{number}", "switch": "prod", "group": "web"}}"#
        ));
        desk.hello(&format!("host-{number}"));
    }
    let (mut seen, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let reply = get(
            &mut desk,
            GetRequest {
                after,
                ..GetRequest::default()
            },
        );
        assert!(serde_json::to_vec(&reply).unwrap().len() < 8_192);
        seen.extend(reply.items.iter().map(|item| item.document.key()));
        pages += 1;
        after = reply.next;
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 3, "{pages}");
    assert_eq!(seen.len(), 302);
    assert!(seen.is_sorted());

    let (mut seen, mut after) = (0, None);
    loop {
        let request = HostListRequest {
            after,
            ..HostListRequest::default()
        };
        let Ok(Reply::Hosts(reply)) = desk.ask(Request::Hosts(request)) else {
            panic!("no hosts");
        };
        assert!(serde_json::to_vec(&reply).unwrap().len() < 8_192);
        seen += reply.hosts.len();
        after = reply.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 300);
}

#[test]
fn retry_is_told_what_a_host_shall_have_now() {
    let mut desk = desk();
    let mut render = |request| match desk.ask(Request::Render(request)) {
        Ok(Reply::Rendered(reply)) => reply,
        other => panic!("{other:?}"),
    };
    let state = |host, switch| RenderRequest::State {
        host: name(host),
        switch: name(switch),
    };
    let RenderReply::Clobber { clobber, .. } = render(state("h1", "prod")) else {
        panic!("no clobber");
    };
    assert_eq!(clobber.revision, Revision(2));
    assert!(matches!(&clobber.state, FinalState::Full { objects, .. } if objects.ports.len() == 1));
    let RenderReply::Clobber { clobber, .. } = render(state("h1", "nowhere")) else {
        panic!("no clobber");
    };
    assert_eq!(clobber.state, FinalState::Absent);
    let removal = |host| RenderRequest::Removal {
        host: name(host),
        switch: name("prod"),
        port: name("web-1"),
        revision: Revision(2),
    };
    assert_eq!(render(removal("h1")), RenderReply::Cancelled {});
    let RenderReply::Remove { remove, .. } = render(removal("h2")) else {
        panic!("no removal");
    };
    assert_eq!(remove.ports[0].revision, Revision(2));
}

/// Retry remembers what a ledger wanted that may be lost: the one after it must
/// not take from hosts what it never heard of.
#[test]
fn a_ledger_that_knows_no_better_has_nothing_removed() {
    let removal = |host| RenderRequest::Removal {
        host: name(host),
        switch: name("prod"),
        port: name("web-1"),
        revision: Revision(2),
    };
    let state = |host| RenderRequest::State {
        host: name(host),
        switch: name("prod"),
    };
    let mut desk = desk();
    for request in [state("h9"), removal("h9")] {
        let problem = desk.ask(Request::Render(request)).unwrap_err();
        assert_eq!(problem.code, ProblemCode::NotFound);
        assert!(problem.message.contains("h9"), "{problem}");
    }
    let mut empty = Desk::of(1);
    for request in [state("h1"), removal("h1")] {
        let problem = empty.ask(Request::Render(request)).unwrap_err();
        assert_eq!(problem.code, ProblemCode::Unavailable);
    }
}

#[test]
fn a_removal_of_an_earlier_store_does_not_outrank_what_is_placed_afterwards() {
    let mut desk = desk();
    let removal = RenderRequest::Removal {
        host: name("h1"),
        switch: name("prod"),
        port: name("web-2"),
        revision: Revision(500),
    };
    let Ok(Reply::Rendered(RenderReply::Remove { remove, .. })) =
        desk.ask(Request::Render(removal))
    else {
        panic!("no removal");
    };
    desk.apply(
        r#"{"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "h1"}"#,
    );
    let placed = desk.publisher.config().port(&name("web-2")).unwrap();
    assert!(remove.ports[0].revision < placed.revision, "{remove:?}");
}

#[test]
fn a_reply_names_as_much_as_fits_and_says_how_much_it_left_out() {
    let mut desk = Desk::with(Settings {
        max_payload: 8_192,
        ..Settings::default()
    });
    desk.apply(r#"[{"kind": "Switch", "name": "prod"}, {"kind": "PortGroup", "name": "web", "switch": "prod"}]"#);
    let ports: Vec<_> = (0..500)
        .map(|n| {
            format!(r#"{{"kind": "Port", "name": "p-{n}", "switch": "prod", "group": "web"}}"#)
        })
        .collect();
    let reply = desk.apply(&format!("[{}]", ports.join(",")));
    assert!(serde_json::to_vec(&reply).unwrap().len() < 8_192);
    assert_eq!(reply.changed.len() as u64 + reply.left_out, 500);
    assert!(reply.left_out > 0);
}

#[test]
fn a_port_is_where_its_newest_placement_is_and_of_others_nothing_is_said() {
    let mut desk = desk();
    let of = |desk: &mut Desk, ports: &[&str]| {
        let ports = ports.iter().map(|port| name(port)).collect();
        match desk.ask(Request::Placements(PlacementsRequest { v: V1, ports })) {
            Ok(Reply::Placements(PlacementsReply { v: V1, placements })) => placements,
            other => panic!("{other:?}"),
        }
    };
    let placement = |port, epoch, host: Option<&str>| Placement {
        port: name(port),
        epoch,
        host: host.map(name),
    };
    let placed = desk.epoch();
    let expected = [placement("lab-1", placed, Some("h2"))];
    assert_eq!(of(&mut desk, &["lab-1", "nobody", "a"]), expected);
    let release = ReleaseRequest {
        v: V1,
        host: name("h2"),
        session: SessionId::default(),
        port: name("lab-1"),
        epoch: Some(placed),
        to: None,
        positions: Vec::new(),
    };
    desk.ask(Request::Release(release)).unwrap();
    let released = desk.epoch();
    assert_eq!(
        of(&mut desk, &["lab-1"]),
        [placement("lab-1", released, None)]
    );
    desk.apply(
        r#"{"kind": "Port", "name": "lab-1", "switch": "lab", "group": "web", "host": "h1"}"#,
    );
    let moved = desk.epoch();
    let expected = [placement("lab-1", moved, Some("h1"))];
    assert_eq!(of(&mut desk, &["lab-1"]), expected);
    // Made anew, it has been nowhere.
    desk.delete(r#"{"kind": "Port", "name": "lab-1"}"#);
    desk.apply(r#"{"kind": "Port", "name": "lab-1", "switch": "lab", "group": "web"}"#);
    assert_eq!(of(&mut desk, &["lab-1"]), []);
}
