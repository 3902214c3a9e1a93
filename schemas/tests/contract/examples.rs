// SPDX-License-Identifier: Apache-2.0
//! Requests as people write them, against the schemas and against the reader:
//! both take the good ones, and each bad one is refused at its place.

use dvs_schemas::v1::{ApplyRequest, DeleteRequest};
use serde_json::{Value, json};

use crate::published::schemas;

fn fits(schema: &str, value: &Value) -> bool {
    jsonschema::validator_for(&schemas()[schema])
        .unwrap()
        .is_valid(value)
}

fn read(value: &Value) -> Result<ApplyRequest, String> {
    ApplyRequest::decode(value.to_string().as_bytes())
        .map(|(_, request)| request)
        .map_err(|problem| problem.to_string())
}

/// One document of each kind, using every field.
fn documents() -> [(&'static str, Value); 4] {
    let policy = json!({
        "vlan": { "trunk": { "vlans": [7, "100-199"], "native": 9 } },
        "security": {
            "promiscuous": "reject",
            "mac_changes": "accept",
            "forged_transmits": "reject",
            "reserved_multicast": "accept",
            "allowed_addresses": ["10.0.0.5", "10.1.0.0/24", "fd00::/64"],
        },
        "shaping": {
            "ingress": { "average_kbps": 1000, "peak_kbps": 2000, "burst_kib": 64 },
            "egress": "unlimited",
        },
        "blocked": false,
    });
    [
        (
            "Switch",
            json!({
                "kind": "Switch", "name": "prod", "hosts": ["h1", "h2"], "mtu": 9000,
                "uplinks": ["eth0", "eth1"], "teaming": "lacp",
                "private_vlans": [{ "primary": 500, "isolated": 501, "communities": [502, 503] }],
                "policy": policy,
            }),
        ),
        (
            "PortGroup",
            json!({
                "kind": "PortGroup", "name": "web", "switch": "prod", "policy": policy,
                "overridable": ["vlan", "security.promiscuous", "shaping.egress"],
            }),
        ),
        (
            "Port",
            json!({
                "kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h1",
                "vnic": "vm-1/eth0", "mac": "52:54:00:12:34:56", "policy": policy,
            }),
        ),
        (
            "MirrorSession",
            json!({
                "kind": "MirrorSession", "name": "tap", "switch": "prod",
                "source": { "ports": [{ "port": "web-1", "direction": "ingress" }], "vlans": [7] },
                "destination": { "vlan": 900 },
            }),
        ),
    ]
}

#[test]
fn every_shape_of_a_request_is_taken() {
    for (kind, document) in documents() {
        assert!(fits(kind, &document), "{kind}");
        assert!(fits("Document", &document), "{kind}");
        let mut with_options = document.clone();
        with_options["wait"] = json!("applied");
        with_options["timeout"] = json!("30s");
        with_options["if_revision"] = json!(7);
        with_options["v"] = json!(1);
        assert!(!fits(kind, &with_options), "options are the request's");
        let shapes = [
            document.clone(),
            with_options,
            json!([document]),
            json!({ "documents": [document] }),
            json!({ "v": 1, "documents": [document], "dry_run": true }),
        ];
        for shape in shapes {
            assert!(fits("ApplyRequest", &shape), "{shape:#}");
            assert_eq!(read(&shape).map(|r| r.documents.len()), Ok(1), "{shape:#}");
            assert!(fits(
                "ApplyRequest",
                &serde_json::to_value(read(&shape)).unwrap()["Ok"]
            ));
        }
    }
}

#[test]
fn a_delete_takes_references_and_whole_documents() {
    for (_, document) in documents() {
        for shape in [
            document.clone(),
            json!([document]),
            json!({ "objects": [document] }),
        ] {
            assert!(fits("DeleteRequest", &shape), "{shape:#}");
            let read = DeleteRequest::decode(shape.to_string().as_bytes());
            assert!(read.is_ok(), "{shape:#}");
        }
    }
    assert!(fits(
        "DeleteRequest",
        &json!({ "kind": "Port", "name": "web-1" })
    ));
    assert!(!fits(
        "DeleteRequest",
        &json!({ "kind": "Host", "name": "h1" })
    ));
}

/// A change of the example documents that makes one bad: which, where, what,
/// and the field that the reader names.
type Spoiler = (usize, &'static str, Value, &'static str);

fn spoilers() -> Vec<Spoiler> {
    vec![
        (0, "/kind", json!("Swich"), "kind"),
        (0, "/name", json!("a.b"), "name"),
        (0, "/name", json!("a b"), "name"),
        (0, "/name", json!("*"), "name"),
        (0, "/name", json!(">"), "name"),
        (0, "/hosts", json!(["all"]), "hosts[0]"),
        (0, "/mtu", json!(100), "mtu"),
        (0, "/colour", json!("red"), "colour"),
        (0, "/uplinks/0", json!("a/b"), "uplinks[0]"),
        (
            1,
            "/policy/vlan",
            json!({ "access": 0 }),
            "policy.vlan.access",
        ),
        (
            1,
            "/policy/vlan",
            json!({ "access": 4095 }),
            "policy.vlan.access",
        ),
        (
            1,
            "/policy/vlan",
            json!({ "access": 5000 }),
            "policy.vlan.access",
        ),
        (1, "/policy/vlan", json!({ "acess": 5 }), "policy.vlan"),
        (
            1,
            "/policy/vlan/trunk/vlans",
            json!([]),
            "policy.vlan.trunk.vlans",
        ),
        (
            1,
            "/policy/shaping/ingress/average_kbps",
            json!(0),
            "policy.shaping.ingress",
        ),
        (
            1,
            "/policy/shaping/egress",
            json!("fast"),
            "policy.shaping.egress",
        ),
        (
            1,
            "/policy/security/promiscuous",
            json!("maybe"),
            "policy.security.promiscuous",
        ),
        (1, "/overridable", json!(["mtu"]), "overridable[0]"),
        (2, "/mac", json!("53:54:00:12:34:56"), "mac"),
        (2, "/vnic", json!(""), "vnic"),
        (3, "/destination", json!({}), "destination"),
    ]
}

#[test]
fn bad_documents_are_refused_by_schema_and_reader() {
    for (index, place, value, field) in spoilers() {
        let (kind, mut document) = documents()[index].clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            _ => parent[name] = value,
        }
        assert!(
            !fits(kind, &document),
            "{kind} {place}: the schema takes it"
        );
        assert!(
            !fits("ApplyRequest", &document),
            "{kind} {place}: the schema takes it"
        );
        let problem = ApplyRequest::decode(document.to_string().as_bytes()).unwrap_err();
        let named = problem.field.clone().unwrap_or_default();
        assert!(
            named.starts_with(field),
            "{kind} {place}: {named:?} {problem}"
        );
    }
}

/// What a schema of this draft can't say, the reader refuses all the same.
#[test]
fn the_reader_knows_what_schemas_cannot_say() {
    for (index, place, value) in [
        (
            0,
            "/private_vlans",
            json!([{ "primary": 5, "isolated": 5 }]),
        ),
        (1, "/policy/vlan/trunk/vlans", json!(["200-100"])),
        (1, "/policy/vlan/trunk/vlans", json!(["100-200", 150])),
        (1, "/policy/shaping/ingress/peak_kbps", json!(1)),
        (
            1,
            "/policy/security/allowed_addresses",
            json!(["10.0.0.300"]),
        ),
    ] {
        let (_, mut document) = documents()[index].clone();
        *document.pointer_mut(place).unwrap() = value;
        assert!(read(&document).is_err(), "{place}");
    }
}
