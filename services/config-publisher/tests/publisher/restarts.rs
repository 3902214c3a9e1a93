// SPDX-License-Identifier: Apache-2.0
//! Crashes: whatever was committed is pushed, whatever was not is as if it had
//! never been asked.

use config_publisher::events::{Call, Request};
use config_publisher::load::load;
use dvs_schemas::v1::{ApplyRequest, FinalState, Versioned};
use dvs_schemas::{Hosts, PortGroupDoc, Revision};

use crate::desk::{Desk, Manner, SITE, hosts_of, name, pushes, web};

#[test]
fn a_crash_between_commit_and_outcomes_repeats_the_push() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    let (_, request) = ApplyRequest::decode(web(200).as_bytes()).unwrap();
    desk.send(Request::Apply(request));
    desk.restart();
    let again = pushes(&desk.undone);
    assert_eq!(again.len(), 1);
    assert_eq!(
        hosts_of(&again[0].1[0]),
        [name("h1"), name("h2"), name("h3")]
    );
    desk.work();
    assert_eq!(desk.records(), 0);
    desk.restart();
    assert_eq!(pushes(&desk.undone), []);
}

#[test]
fn a_crash_before_the_hand_over_is_acknowledged_repeats_it() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    desk.put.clear();
    desk.manner("h2", Manner::Silent);
    desk.retry = false;
    desk.apply(&web(200));
    desk.restart();
    desk.retry = true;
    desk.work();
    assert_eq!(desk.put.len(), 1);
    assert_eq!(desk.put[0].repush[0].key.host, name("h2"));
    assert_eq!(desk.records(), 0);
}

#[test]
fn what_is_pushed_after_a_crash_is_the_state_of_then() {
    let mut desk = Desk::of(2);
    desk.apply(SITE);
    let send = |desk: &mut Desk, text: &str| {
        let (_, request) = ApplyRequest::decode(text.as_bytes()).unwrap();
        desk.send(Request::Apply(request));
    };
    let at = |host| {
        format!(
            r#"{{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "{host}"}}"#
        )
    };
    send(&mut desk, &web(200));
    send(&mut desk, &at("h2"));
    send(&mut desk, &at("h1"));
    send(&mut desk, &web(300));
    desk.restart();
    let mut removals = Vec::new();
    for (_, calls) in pushes(&desk.undone) {
        for call in calls {
            match call {
                Call::FanOut { clobber, .. } | Call::Clobber { clobber, .. } => {
                    assert_eq!(clobber.revision, Revision(5));
                    let FinalState::Partial { objects, .. } = &clobber.state else {
                        panic!("{clobber:?}");
                    };
                    for group in &objects.groups {
                        assert_eq!(group.revision, Revision(5), "only the newest web is sent");
                    }
                    for port in &objects.ports {
                        assert_eq!(port.revision, Revision(4));
                        assert_eq!(hosts_of(call), [name("h1")], "it is back there");
                    }
                }
                Call::Remove { host, .. } => removals.push(host.clone()),
                Call::Plan { .. } => panic!("{call:?}"),
            }
        }
    }
    assert_eq!(removals, [name("h2")], "h1 has it again");
    desk.work();
    assert_eq!(desk.records(), 0);
}

#[test]
fn pending_word_of_a_deleted_switch_becomes_its_state_if_it_is_there_again() {
    let mut desk = Desk::of(1);
    desk.apply(r#"{"kind": "Switch", "name": "lab", "hosts": ["h1"]}"#);
    let (_, request) =
        dvs_schemas::v1::DeleteRequest::decode(br#"{"kind": "Switch", "name": "lab"}"#).unwrap();
    desk.send(Request::Delete(request));
    let (_, request) =
        ApplyRequest::decode(br#"{"kind": "Switch", "name": "lab", "hosts": ["h1"]}"#).unwrap();
    desk.send(Request::Apply(request));
    desk.restart();
    for (_, calls) in pushes(&desk.undone) {
        for call in calls {
            let Call::Clobber { clobber, .. } = call else {
                panic!("{call:?}");
            };
            assert!(
                matches!(clobber.state, FinalState::Full { .. }),
                "{clobber:?}"
            );
        }
    }
}

#[test]
fn the_core_that_is_loaded_is_the_core_that_was() {
    let mut desk = Desk::of(3);
    desk.apply(SITE);
    desk.apply(
        r#"[{"kind": "Switch", "name": "lab", "hosts": ["h1", "h9"]},
            {"kind": "PortGroup", "name": "g", "switch": "lab"},
            {"kind": "Port", "name": "p", "switch": "lab", "group": "g", "host": "h1"},
            {"kind": "MirrorSession", "name": "m", "switch": "lab",
             "source": {"vlans": [5]}, "destination": {"vlan": 6}}]"#,
    );
    desk.apply(
        r#"{"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "h3"}"#,
    );
    let config = desk.publisher.config().clone();
    assert_eq!(
        load(&desk.ledger, uuid::Uuid::nil()).unwrap().config,
        config
    );
}

#[test]
fn a_ledger_with_an_entry_of_another_shape_is_refused() {
    let desk = Desk::of(1);
    let mut writes = dvs_ledger::Writes::default();
    let document = PortGroupDoc {
        name: name("web"),
        switch: name("prod"),
        policy: dvs_schemas::Policy::default(),
        overridable: std::collections::BTreeSet::new(),
        binding: dvs_schemas::documents::Binding::Static,
    };
    let entry = Versioned {
        revision: Revision(1),
        value: document,
    };
    writes.put(config_publisher::ledger::SWITCHES, "prod", &entry);
    desk.ledger.commit(&writes).unwrap();
    let error = load(&desk.ledger, uuid::Uuid::nil())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("switches") && error.contains("prod"),
        "{error}"
    );
}

#[test]
fn a_ledger_with_an_unreadable_key_is_refused() {
    for (table, key) in [
        (config_publisher::ledger::HOSTS, "a.b"),
        (config_publisher::ledger::WANTED, "prod/a b"),
        (config_publisher::ledger::PENDING, "1"),
    ] {
        let desk = Desk::of(1);
        let mut writes = dvs_ledger::Writes::default();
        let host = config_publisher::fleet::HostEntry::default();
        match table.0 {
            "hosts" => writes.put(table, key, &host),
            "wanted" => writes.put(table, key, &Revision(1)),
            _ => writes.put(table, key, &config_publisher::record::Record::default()),
        }
        desk.ledger.commit(&writes).unwrap();
        let error = load(&desk.ledger, uuid::Uuid::nil())
            .unwrap_err()
            .to_string();
        assert!(error.contains(table.0) && error.contains(key), "{error}");
    }
}

#[test]
fn hosts_of_a_switch_are_kept_as_they_were_named() {
    let mut desk = Desk::of(1);
    desk.apply(r#"{"kind": "Switch", "name": "none", "hosts": []}"#);
    desk.apply(r#"{"kind": "Switch", "name": "all"}"#);
    desk.restart();
    let hosts = |switch| {
        let config = desk.publisher.config();
        config.switch(&name(switch)).unwrap().value.hosts.clone()
    };
    assert_eq!(
        hosts("none"),
        Hosts::Only(std::collections::BTreeSet::new())
    );
    assert_eq!(hosts("all"), Hosts::All);
}
