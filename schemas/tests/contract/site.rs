// SPDX-License-Identifier: Apache-2.0
//! Generated configurations hold together, so that tests built on them find
//! faults in services and not in themselves.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::arbitrary::site;
use dvs_schemas::{
    Document, Hosts, MirrorDestination, ObjectKey, Policy, PolicyField, PortDoc, PortGroupDoc,
    SwitchDoc, Vlan,
};
use proptest::prelude::*;

fn has_role(switch: &SwitchDoc, policy: &Policy) -> bool {
    match &policy.vlan {
        Some(Vlan::Private(vlan)) => switch.private_vlans.role_of(*vlan).is_some(),
        Some(Vlan::Untagged | Vlan::Access(_) | Vlan::Trunk(_)) | None => true,
    }
}

proptest! {
    #[test]
    fn every_reference_exists_and_every_override_is_allowed(site in site()) {
        let mut switches: BTreeMap<_, SwitchDoc> = BTreeMap::new();
        let mut groups: BTreeMap<_, PortGroupDoc> = BTreeMap::new();
        let mut ports: BTreeMap<_, PortDoc> = BTreeMap::new();
        let mut keys: BTreeSet<ObjectKey> = BTreeSet::new();
        for document in site.documents {
            prop_assert!(keys.insert(document.key()), "twice: {}", document.key());
            match document {
                Document::Switch(doc) => {
                    prop_assert!(has_role(&doc, &doc.policy));
                    let Hosts::Only(hosts) = &doc.hosts else { panic!("hosts by name") };
                    prop_assert!(hosts.is_subset(&site.hosts));
                    switches.insert(doc.name.clone(), doc);
                }
                Document::PortGroup(doc) => {
                    prop_assert!(has_role(&switches[&doc.switch], &doc.policy));
                    groups.insert((doc.switch.clone(), doc.name.clone()), doc);
                }
                Document::Port(doc) => {
                    prop_assert!(has_role(&switches[&doc.switch], &doc.policy));
                    let group = &groups[&(doc.switch.clone(), doc.group.clone())];
                    let own: BTreeSet<PolicyField> = doc.policy.set_fields().collect();
                    prop_assert!(own.is_subset(&group.overridable));
                    prop_assert!(doc.host.iter().all(|host| site.hosts.contains(host)));
                    prop_assert!(doc.vnic.is_none() || doc.host.is_some());
                    ports.insert(doc.name.clone(), doc);
                }
                Document::MirrorSession(doc) => {
                    prop_assert!(switches.contains_key(&doc.switch));
                    prop_assert!(!doc.source.ports.is_empty() || !doc.source.vlans.is_empty());
                    for source in &doc.source.ports {
                        prop_assert_eq!(&ports[&source.port].switch, &doc.switch);
                    }
                    match &doc.destination {
                        MirrorDestination::Port(port) => {
                            prop_assert_eq!(&ports[port].switch, &doc.switch);
                            prop_assert!(doc.source.ports.iter().all(|s| s.port != *port));
                        }
                        MirrorDestination::Vlan(vlan) => {
                            prop_assert!(!doc.source.vlans.contains(vlan));
                        }
                    }
                }
            }
        }
    }
}
