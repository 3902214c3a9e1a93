// SPDX-License-Identifier: Apache-2.0
//! What should be, in the most naive way: the documents that were
//! acknowledged, and what each host is to have of them.

use std::collections::BTreeMap;

use dvs_schemas::v1::ObjectRef;
use dvs_schemas::{Epoch, HostName, ObjectKey, PortId};
use serde_json::{Value, json};

/// What operators believe to be stored.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// As they were applied; a port's host and vNIC are those that were last
    /// named.
    documents: BTreeMap<ObjectKey, Value>,
    /// Those of the commits that placed the ports.
    epochs: BTreeMap<PortId, Epoch>,
}

/// What names the object of a document.
pub(super) fn key(document: &Value) -> ObjectKey {
    serde_json::from_value::<ObjectRef>(document.clone())
        .map_err(|e| e.to_string())
        .and_then(|reference| reference.key().map_err(|problem| problem.to_string()))
        .unwrap_or_else(|e| panic!("{document} names nothing: {e}"))
}

/// The switch that a document is or belongs to.
pub(super) fn switch_of(document: &Value) -> &Value {
    let switch = &document["switch"];
    if switch.is_null() {
        &document["name"]
    } else {
        switch
    }
}

impl Model {
    /// All documents, those that others need first.
    pub fn documents(&self) -> impl Iterator<Item = (&ObjectKey, &Value)> {
        self.documents.iter()
    }

    /// Documents of a kind, of a switch or of all.
    pub(super) fn of<'a>(
        &'a self,
        kind: &'a str,
        switch: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Value> {
        let documents = self.documents.values();
        documents.filter(move |document| {
            document["kind"] == kind && switch.is_none_or(|switch| switch_of(document) == switch)
        })
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Value> {
        self.documents.get(key)
    }

    pub(super) fn switch(&self, name: &str) -> Option<&Value> {
        self.get(&ObjectKey::Switch(name.parse().ok()?))
    }

    /// Whether a switch spans a host.
    pub(super) fn spans(&self, switch: &str, host: &HostName) -> bool {
        self.switch(switch).is_some_and(|switch| {
            let hosts = &switch["hosts"];
            let listed = |list: &Vec<Value>| list.contains(&json!(host));
            hosts.is_null() || hosts == "all" || hosts.as_array().is_some_and(listed)
        })
    }

    /// Takes in documents that were acknowledged by a commit, or found to be
    /// so already.
    pub(super) fn apply(&mut self, documents: &[Value], commit: Epoch) {
        for document in documents {
            let key = key(document);
            let mut document = document.clone();
            let before = self.documents.get(&key);
            for field in ["host", "vnic"] {
                if let (None, Some(value)) = (
                    document.get(field),
                    before.and_then(|before| before.get(field)),
                ) {
                    document[field] = value.clone();
                }
            }
            let stays = before.map(|before| before.get("host")) == Some(document.get("host"));
            if let (ObjectKey::Port(port), false) = (&key, stays) {
                self.epochs.insert(port.clone(), commit);
            }
            self.documents.insert(key, document);
        }
    }

    pub(super) fn delete(&mut self, documents: &[Value]) {
        for document in documents {
            self.documents.remove(&key(document));
        }
    }

    pub(super) fn disconnect(&mut self, port: &PortId) {
        if let Some(Value::Object(port)) = self.documents.get_mut(&ObjectKey::Port(port.clone())) {
            port.remove("vnic");
        }
    }

    /// All of it was applied to another store, as one commit.
    pub(super) fn restored(&mut self, commit: Epoch) {
        for epoch in self.epochs.values_mut() {
            *epoch = commit;
        }
    }

    /// What a host is to have.
    pub(super) fn wanted(&self, host: &HostName) -> Value {
        let switches = self.of("Switch", None);
        let bridges = switches.filter_map(|switch| {
            let name = switch["name"].as_str()?;
            if !self.spans(name, host) {
                return None;
            }
            let mtu = switch.get("mtu").cloned().unwrap_or(json!(1500));
            let ports = self.ports(name, host);
            let mirrors = self.mirrors(name, &ports);
            let bridge = json!({"mtu": mtu, "ports": ports, "mirrors": mirrors});
            Some((name.to_owned(), bridge))
        });
        json!(bridges.collect::<BTreeMap<_, _>>())
    }

    fn ports(&self, switch: &str, host: &HostName) -> BTreeMap<String, Value> {
        let ports = self.of("Port", Some(switch));
        let here = ports.filter(|port| port["host"] == json!(host));
        here.map(|port| {
            let groups = &mut self.of("PortGroup", Some(switch));
            let group = groups.find(|group| group["name"] == port["group"]);
            let first = |field: &str, default: Value| {
                [Some(port), group]
                    .into_iter()
                    .flatten()
                    .map(|layer| layer["policy"][field].clone())
                    .find(|value| !value.is_null())
                    .unwrap_or(default)
            };
            let name = port["name"].as_str().unwrap_or_default();
            let epoch = name
                .parse()
                .ok()
                .and_then(|port: PortId| self.epochs.get(&port));
            let wanted = json!({
                "epoch": epoch,
                "vnic": port.get("vnic"),
                "vlan": first("vlan", json!("untagged")),
                "blocked": first("blocked", json!(false)),
            });
            (name.to_owned(), wanted)
        })
        .collect()
    }

    /// Sources are ports of the host; a port that copies go to is one, too. A
    /// VLAN that copies go to is one on every host.
    fn mirrors(&self, switch: &str, here: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let is_here = |port: &Value| port.as_str().is_some_and(|port| here.contains_key(port));
        let sessions = self.of("MirrorSession", Some(switch));
        sessions
            .filter_map(|session| {
                let copied = session["source"]["ports"].as_array().cloned();
                let mut copied = copied.unwrap_or_default();
                copied.retain(|source| is_here(&source["port"]));
                let vlans = session["source"].get("vlans").cloned().unwrap_or(json!([]));
                let to = &session["destination"];
                let nothing = copied.is_empty() && vlans == json!([]);
                let nowhere = |port| nothing || !is_here(port);
                if to.get("port").is_some_and(nowhere) {
                    return None;
                }
                let wanted = json!({"ports": copied, "vlans": vlans, "to": to});
                Some((session["name"].as_str()?.to_owned(), wanted))
            })
            .collect()
    }
}
