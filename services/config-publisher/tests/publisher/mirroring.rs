// SPDX-License-Identifier: Apache-2.0
//! Mirror sessions of a switch, together: no copy is copied again, no source
//! is cut off, and what can't be copied is refused, whatever the order.

use std::collections::{BTreeMap, BTreeSet};

use config_publisher::config::Config;
use dvs_schemas::{Document, MirrorDestination, ProblemCode, Vlan};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::desk::Desk;

/// Hosts and ports: one in each of VLANs 100 and 200, an analyser, and one
/// whose trunk carries everything.
const FLOOR: &str = r#"[
    {"kind": "Switch", "name": "prod"},
    {"kind": "PortGroup", "name": "any", "switch": "prod", "overridable": ["vlan"]},
    {"kind": "PortGroup", "name": "v100", "switch": "prod", "policy": {"vlan": {"access": 100}}},
    {"kind": "Port", "name": "a", "switch": "prod", "group": "v100", "host": "h1"},
    {"kind": "Port", "name": "b", "switch": "prod", "group": "any", "host": "h2",
     "policy": {"vlan": {"access": 200}}},
    {"kind": "Port", "name": "probe", "switch": "prod", "group": "any", "host": "h1"},
    {"kind": "Port", "name": "trunk", "switch": "prod", "group": "any", "host": "h1",
     "policy": {"vlan": {"trunk": {"vlans": ["1-4094"]}}}}
]"#;

fn desk() -> Desk {
    let mut desk = Desk::of(2);
    desk.apply(FLOOR);
    desk
}

fn session(name: &str, source: Value, destination: Value) -> Value {
    json!({"kind": "MirrorSession", "name": name, "switch": "prod",
        "source": source, "destination": destination})
}

fn vlans(name: &str, from: u16, to: u16) -> Value {
    session(name, json!({"vlans": [from]}), json!({"vlan": to}))
}

/// What a request is refused with: document, field and text.
#[track_caller]
fn refused(desk: &mut Desk, request: &Value) -> (String, String, String) {
    let before = desk.publisher.config().clone();
    let problem = desk.try_apply(&request.to_string()).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Conflict, "{problem}");
    assert_eq!(*desk.publisher.config(), before);
    let text = problem.to_string();
    let (document, field) = (problem.document, problem.field);
    (document.unwrap(), field.unwrap(), text)
}

#[test]
fn sessions_that_copy_in_a_circle_are_refused_in_every_order_with_the_chain() {
    let (a, b) = (vlans("a", 100, 200), vlans("b", 200, 100));
    let mut desk = desk();
    let (document, _, text) = refused(&mut desk, &json!([a, b]));
    assert!(document.starts_with("documents["), "{document}");
    for named in [
        "session a copies VLAN 100 into VLAN 200",
        "session b copies VLAN 200 into VLAN 100",
    ] {
        assert!(text.contains(named), "{text}");
    }
    refused(&mut desk, &json!([b, a]));
    desk.apply(&a.to_string());
    let (document, field, _) = refused(&mut desk, &b);
    assert_eq!(
        (&*document, &*field),
        ("MirrorSession prod/b", "destination.vlan")
    );
    desk.try_delete(r#"{"kind": "MirrorSession", "switch": "prod", "name": "a"}"#)
        .unwrap();
    desk.apply(&b.to_string());
    refused(&mut desk, &a);
    // Nor are copies copied on to a port: an analyser is in their VLAN.
    let on = session("on", json!({"vlans": [100]}), json!({"port": "probe"}));
    refused(&mut desk, &on);
}

#[test]
fn a_session_from_a_private_vlan_into_itself_is_refused_whatever_makes_it_one() {
    let private = json!({"kind": "Switch", "name": "prod",
        "private_vlans": [{"primary": 300, "isolated": 301, "communities": [302, 303]}]});
    let mut desk = desk();
    // By the session, in all directions.
    desk.apply(&private.to_string());
    for (from, to) in [(300, 301), (301, 300), (302, 300), (302, 303), (300, 302)] {
        let (document, _, text) = refused(&mut desk, &vlans("m", from, to));
        assert_eq!(document, "MirrorSession prod/m");
        let said = format!("VLAN {from} is of the same private VLAN as {to}");
        assert!(text.contains(&said), "{text}");
    }
    // By the switch, once the session is there.
    desk.apply(r#"{"kind": "Switch", "name": "prod"}"#);
    desk.apply(&vlans("m", 302, 300).to_string());
    let (document, field, _) = refused(&mut desk, &private);
    assert_eq!((&*document, &*field), ("Switch prod", "private_vlans"));
    // Out of a private VLAN or into one there is no circle; both together are
    // one, as it is one where copies come in.
    let gone = |desk: &mut Desk| {
        let m = r#"{"kind": "MirrorSession", "switch": "prod", "name": "m"}"#;
        desk.try_delete(m).unwrap();
    };
    gone(&mut desk);
    desk.apply(&private.to_string());
    desk.apply(&vlans("m", 302, 999).to_string());
    let (document, ..) = refused(&mut desk, &vlans("in", 100, 303));
    assert_eq!(document, "MirrorSession prod/in");
    gone(&mut desk);
    desk.apply(&vlans("m", 100, 303).to_string());
}

#[test]
fn a_source_port_in_a_vlan_of_copies_is_refused_whatever_brings_it_there() {
    let mut desk = desk();
    let to_999 = |name, port: &str| {
        session(
            name,
            json!({"ports": [{"port": port}]}),
            json!({"vlan": 999}),
        )
    };
    let (document, field, text) = refused(&mut desk, &to_999("t", "trunk"));
    assert_eq!(
        (&*document, &*field),
        ("MirrorSession prod/t", "source.ports[0].port")
    );
    assert!(text.contains("port trunk is in VLAN 999"), "{text}");
    desk.apply(&to_999("a", "a").to_string());
    desk.apply(&to_999("b", "b").to_string());
    // By the port, by its group, by the switch.
    let port = json!({"kind": "Port", "name": "b", "switch": "prod", "group": "any",
        "policy": {"vlan": {"access": 999}}});
    let (document, field, _) = refused(&mut desk, &port);
    assert_eq!((&*document, &*field), ("Port b", "policy.vlan"));
    let group = json!({"kind": "PortGroup", "name": "v100", "switch": "prod",
        "policy": {"vlan": {"access": 999}}});
    let (document, field, _) = refused(&mut desk, &group);
    assert_eq!(
        (&*document, &*field),
        ("PortGroup prod/v100", "policy.vlan")
    );
    desk.apply(
        r#"[{"kind": "Port", "name": "c", "switch": "prod", "group": "any"},
            {"kind": "MirrorSession", "name": "c", "switch": "prod",
             "source": {"ports": [{"port": "c"}]}, "destination": {"vlan": 999}}]"#,
    );
    let switch = json!({"kind": "Switch", "name": "prod", "policy": {"vlan": {"access": 999}}});
    let (document, field, _) = refused(&mut desk, &switch);
    assert_eq!((&*document, &*field), ("Switch prod", "policy.vlan"));
    // The analyser is in that VLAN, and is no source.
    let probe = json!({"kind": "Port", "name": "probe", "switch": "prod", "group": "any",
        "policy": {"vlan": {"access": 999}}});
    desk.apply(&probe.to_string());
}

#[test]
fn a_source_is_never_cut_off_as_the_destination_of_another_session() {
    let of = |name, from: &str, to: &str| {
        session(
            name,
            json!({"ports": [{"port": from}]}),
            json!({"port": to}),
        )
    };
    let mut desk = desk();
    desk.apply(&of("x", "a", "probe").to_string());
    let (document, field, text) = refused(&mut desk, &of("y", "probe", "trunk"));
    assert_eq!(
        (&*document, &*field),
        ("MirrorSession prod/y", "source.ports[0].port")
    );
    assert!(
        text.contains("session x copies port a to port probe"),
        "{text}"
    );
    let (_, field, _) = refused(&mut desk, &of("z", "trunk", "a"));
    assert_eq!(field, "destination.port");
}

#[test]
fn a_source_on_another_host_than_the_destination_port_is_refused_and_stays_where_it_moved() {
    let mut desk = desk();
    let to_probe = |port: &str| {
        session(
            "m",
            json!({"ports": [{"port": port}]}),
            json!({"port": "probe"}),
        )
    };
    let (document, field, text) = refused(&mut desk, &to_probe("b"));
    assert_eq!(
        (&*document, &*field),
        ("MirrorSession prod/m", "source.ports[0].port")
    );
    for named in [
        "port b is on host h2",
        "on host h1",
        "destination: {vlan: …}",
    ] {
        assert!(text.contains(named), "{text}");
    }
    desk.apply(&to_probe("a").to_string());
    // A machine may move, and what was admitted is applied again as it is.
    desk.apply(r#"{"kind": "Port", "name": "a", "switch": "prod", "group": "v100", "host": "h2"}"#);
    desk.try_apply(&to_probe("a").to_string()).unwrap();
    // So is an export of it, elsewhere.
    let config = desk.publisher.config();
    let all = all(config);
    let mut other = Desk::of(2);
    other.apply(&serde_json::to_string(&all).unwrap());
}

/// All objects, as documents.
fn all(config: &Config) -> Vec<Document> {
    let switches = config.switches().values();
    let switches: Vec<Document> = switches
        .map(|entry| Document::Switch(entry.value.clone()))
        .collect();
    let of = |name| {
        let groups = config
            .groups(name)
            .map(|e| Document::PortGroup(e.value.clone()));
        let mirrors = config
            .mirrors(name)
            .map(|e| Document::MirrorSession(e.value.clone()));
        groups.chain(mirrors)
    };
    let ports = config.ports().values();
    let ports = ports.map(|entry| Document::Port(entry.value.document.clone()));
    let rest: Vec<Document> = config.switches().keys().flat_map(of).collect();
    switches.into_iter().chain(rest).chain(ports).collect()
}

/// The VLANs into which a frame of each VLAN is copied, as a reader of the
/// documents would work it out.
fn copies(config: &Config) -> BTreeMap<u16, BTreeSet<u16>> {
    let prod = "prod".parse().unwrap();
    let mut copies: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for entry in config.mirrors(&prod) {
        let MirrorDestination::Vlan(to) = entry.value.destination else {
            continue;
        };
        let ports = entry.value.source.ports.iter();
        let ports = ports.map(|source| &config.port(&source.port).unwrap().value.document);
        let vlans = ports.flat_map(|port| match &port.policy.vlan {
            Some(Vlan::Access(vlan)) => vec![vlan.get()],
            Some(Vlan::Trunk(trunk)) => {
                let ranges = trunk.vlans.ranges().iter();
                ranges
                    .flat_map(|range| range.first().get()..=range.last().get())
                    .collect()
            }
            None | Some(Vlan::Untagged | Vlan::Private(_)) => Vec::new(),
        });
        let source = entry.value.source.vlans.iter().map(|vlan| vlan.get());
        for vlan in source.chain(vlans) {
            copies.entry(vlan).or_default().insert(to.get());
        }
    }
    copies
}

/// True if a frame that begins in a VLAN comes back into it.
fn comes_back(copies: &BTreeMap<u16, BTreeSet<u16>>, begin: u16) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![begin];
    while let Some(vlan) = next.pop() {
        for to in copies.get(&vlan).into_iter().flatten() {
            if *to == begin {
                return true;
            }
            if seen.insert(*to) {
                next.push(*to);
            }
        }
    }
    false
}

/// Sessions and ports of five VLANs, so that most would make a circle.
fn document() -> impl Strategy<Value = Value> {
    let vlan = || 1..=5_u16;
    let port = || (0..4_u8).prop_map(|number| format!("p{number}"));
    let destination = prop_oneof![
        3 => vlan().prop_map(|vlan| json!({"vlan": vlan})),
        1 => port().prop_map(|port| json!({"port": port})),
    ];
    let source = (
        proptest::collection::vec(port(), 0..2),
        proptest::collection::vec(vlan(), 0..2),
    );
    let session = (0..4_u8, source, destination).prop_map(|(name, (ports, vlans), to)| {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
        session(
            &format!("m{name}"),
            json!({"ports": ports, "vlans": vlans}),
            to,
        )
    });
    let policy = prop_oneof![
        vlan().prop_map(|vlan| json!({"access": vlan})),
        vlan().prop_map(|vlan| json!({"trunk": {"vlans": [format!("{vlan}-5")]}})),
    ];
    let port = (port(), policy).prop_map(|(name, vlan)| {
        json!({"kind": "Port", "name": name, "switch": "prod", "group": "any",
            "policy": {"vlan": vlan}})
    });
    prop_oneof![session, port]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_admitted_in_whatever_order_no_frame_goes_round(
        requests in proptest::collection::vec(
            proptest::collection::vec(document(), 1..4), 1..24,
        ),
    ) {
        let mut desk = Desk::of(1);
        desk.apply(
            r#"[{"kind": "Switch", "name": "prod"},
                {"kind": "PortGroup", "name": "any", "switch": "prod", "overridable": ["vlan"]},
                {"kind": "Port", "name": "p0", "switch": "prod", "group": "any"},
                {"kind": "Port", "name": "p1", "switch": "prod", "group": "any"},
                {"kind": "Port", "name": "p2", "switch": "prod", "group": "any"},
                {"kind": "Port", "name": "p3", "switch": "prod", "group": "any"}]"#,
        );
        for request in requests {
            // Refused or not.
            drop(desk.try_apply(&Value::from(request).to_string()));
            let config = desk.publisher.config();
            let copies = copies(config);
            for vlan in copies.keys() {
                prop_assert!(!comes_back(&copies, *vlan), "VLAN {vlan}: {copies:?}");
            }
            let prod = "prod".parse().unwrap();
            let cut_off: BTreeSet<_> = config
                .mirrors(&prod)
                .filter_map(|entry| match &entry.value.destination {
                    MirrorDestination::Port(port) => Some(port),
                    MirrorDestination::Vlan(_) => None,
                })
                .collect();
            for entry in config.mirrors(&prod) {
                for source in &entry.value.source.ports {
                    prop_assert!(!cut_off.contains(&source.port), "{}", source.port);
                }
            }
        }
    }
}
