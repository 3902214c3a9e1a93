// SPDX-License-Identifier: Apache-2.0
//! What operators ask for at random: mostly what can be carried out, and
//! always some that will be refused, which is part of it.

use dvs_schemas::v1::{EntrySelection, Queue};
use dvs_schemas::{HostName, ObjectKey};
use fastrand::Rng;
use retry::Action;
use serde_json::{Value, json};

use super::model::{Model, key, switch_of};
use super::start::host_name;
use super::world::HOSTS;

/// One spans all hosts, the other a list that changes.
const SWITCHES: [&str; 2] = ["prod", "lab"];
const GROUPS: u8 = 3;
const PORTS: u8 = 8;
const VNICS: u8 = 3;

/// A request of an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Apply these documents.
    Apply(Vec<Value>),
    /// Say what applying them would do.
    TryOut(Vec<Value>),
    /// Apply everything to a publisher that lost its store.
    Restore(Vec<Value>),
    /// Make what the publisher has hold on hosts that follow another history.
    Continue,
    /// Delete the objects of these documents.
    Delete(Vec<Value>),
    /// End a port's connection.
    Disconnect(Value),
    /// Push full states.
    Resync(Value),
    /// Act on what is to be repeated.
    Act(Action, EntrySelection),
}

impl Wish {
    /// The documents that everything begins with.
    #[must_use]
    pub fn first() -> Self {
        Self::Apply(vec![
            json!({"kind": "Switch", "name": "prod"}),
            json!({"kind": "Switch", "name": "lab", "hosts": ["h1", "h2"]}),
            json!({"kind": "PortGroup", "name": "g1", "switch": "prod",
                "policy": {"vlan": {"access": 10}}, "overridable": ["vlan", "blocked"]}),
            json!({"kind": "PortGroup", "name": "g1", "switch": "lab",
                "policy": {"vlan": {"access": 20}}, "overridable": ["vlan", "blocked"]}),
        ])
    }

    /// Retry tries all of a queue, parked or not.
    #[must_use]
    pub fn everything_now(queue: Queue) -> Self {
        Self::Act(
            Action::Kick,
            EntrySelection {
                queue: Some(queue),
                ..EntrySelection::default()
            },
        )
    }

    /// The next request. `buried` is what was last deleted with its switch.
    #[must_use]
    pub fn next(model: &Model, buried: &[Value], random: &mut Rng) -> Self {
        Wishing { model, random }.next(buried)
    }
}

struct Wishing<'a> {
    model: &'a Model,
    random: &'a mut Rng,
}

fn pick<T: Clone>(random: &mut Rng, from: &[T]) -> Option<T> {
    random.choice(from).cloned()
}

fn any_host(random: &mut Rng) -> HostName {
    host_name(random.usize(0..HOSTS))
}

impl Wishing<'_> {
    fn next(&mut self, buried: &[Value]) -> Wish {
        let missing = SWITCHES
            .into_iter()
            .find(|switch| self.model.switch(switch).is_none());
        if let Some(switch) = missing
            && self.random.bool()
        {
            return self.remake(switch, buried);
        }
        match self.random.u8(0..43) {
            0..=1 => Wish::Apply(vec![self.settings()]),
            2..=5 => self.hosts(),
            6..=9 => Wish::Apply(vec![self.group()]),
            10..=18 => Wish::Apply(vec![self.port()]),
            19..=21 => self.several(),
            22..=24 => Wish::Apply(vec![self.mirror()]),
            25 => Wish::TryOut(vec![self.port()]),
            26..=29 => self.delete_port(),
            30 => self.delete_group(),
            31 => self.delete_mirror(),
            32..=33 => self.delete_switch(),
            34..=35 => Wish::Disconnect(json!({"port": self.port_name()})),
            36..=38 => self.resync(),
            _ => self.act(),
        }
    }

    fn vlan(&mut self) -> Value {
        json!({"access": self.random.u16(1..=4094)})
    }

    fn switch(&mut self) -> &'static str {
        SWITCHES[self.random.usize(0..SWITCHES.len())]
    }

    fn port_name(&mut self) -> String {
        format!("p{}", self.random.u8(1..=PORTS))
    }

    fn group_name(&mut self) -> String {
        format!("g{}", self.random.u8(1..=GROUPS))
    }

    /// A switch with other settings, on the same hosts.
    fn settings(&mut self) -> Value {
        let name = self.switch();
        let mut switch = json!({"kind": "Switch", "name": name,
            "mtu": self.random.u16(1_500..=9_000)});
        let hosts = self.model.switch(name).and_then(|old| old.get("hosts"));
        match hosts {
            Some(hosts) => switch["hosts"] = hosts.clone(),
            None if name == "lab" => switch["hosts"] = self.some_hosts(),
            None => {}
        }
        switch
    }

    fn some_hosts(&mut self) -> Value {
        let random = &mut *self.random;
        let hosts = (0..HOSTS).filter(|_| random.bool()).map(host_name);
        json!(hosts.collect::<Vec<_>>())
    }

    /// Other hosts for a switch; its ports mostly move along.
    fn hosts(&mut self) -> Wish {
        let hosts = match self.random.u8(0..8) {
            0 => json!("all"),
            _ => self.some_hosts(),
        };
        let mut switch = self.settings();
        switch["name"] = json!("lab");
        switch["hosts"] = hosts.clone();
        let mut documents = vec![switch];
        let listed = hosts.as_array().cloned().unwrap_or_default();
        for port in self.model.of("Port", Some("lab")) {
            if port["host"].is_null() || hosts == "all" || listed.contains(&port["host"]) {
                continue;
            }
            if let (Some(host), true) = (pick(self.random, &listed), self.random.u8(0..8) > 0) {
                let mut port = port.clone();
                port["host"] = host;
                documents.push(port);
            }
        }
        Wish::Apply(documents)
    }

    fn group(&mut self) -> Value {
        json!({"kind": "PortGroup", "name": self.group_name(), "switch": self.switch(),
            "policy": {"vlan": self.vlan()}, "overridable": ["vlan", "blocked"]})
    }

    /// A port that is new, or differs in group, host, vNIC or policy.
    fn port(&mut self) -> Value {
        let name = self.port_name();
        let known = name
            .parse()
            .ok()
            .and_then(|name| self.model.get(&ObjectKey::Port(name)));
        let switch = match known {
            Some(port) if self.random.u8(0..20) > 0 => {
                port["switch"].as_str().unwrap_or_default().to_owned()
            }
            Some(_) | None => self.switch().to_owned(),
        };
        let groups: Vec<Value> = self
            .model
            .of("PortGroup", Some(&switch))
            .map(|group| group["name"].clone())
            .collect();
        let group = pick(self.random, &groups).unwrap_or_else(|| json!(self.group_name()));
        let mut policy = json!({});
        if self.random.bool() {
            policy["vlan"] = self.vlan();
        }
        if self.random.u8(0..4) == 0 {
            policy["blocked"] = json!(true);
        }
        let mut port = json!({"kind": "Port", "name": name, "switch": switch, "group": group,
            "policy": policy});
        let members: Vec<HostName> = (0..HOSTS)
            .map(host_name)
            .filter(|host| self.model.spans(&switch, host))
            .collect();
        match self.random.u8(0..10) {
            0 => {}
            1 => port["host"] = json!(any_host(self.random)),
            _ => {
                if let Some(host) = pick(self.random, &members) {
                    port["host"] = json!(host);
                }
            }
        }
        if self.random.u8(0..3) == 0 {
            port["vnic"] = json!(format!("vm{}", self.random.u8(1..=VNICS)));
        }
        port
    }

    /// Several ports and the group of some of them.
    fn several(&mut self) -> Wish {
        let mut documents: Vec<Value> = (0..4).map(|_| self.port()).collect();
        documents.sort_by_key(|port| port["name"].to_string());
        documents.dedup_by_key(|port| port["name"].to_string());
        documents.push(self.group());
        Wish::Apply(documents)
    }

    fn mirror(&mut self) -> Value {
        let switch = self.switch();
        let mut ports: Vec<Value> = self
            .model
            .of("Port", Some(switch))
            .map(|port| port["name"].clone())
            .collect();
        self.random.shuffle(&mut ports);
        let destination = match (self.random.bool(), ports.pop()) {
            (true, Some(port)) => json!({"port": port}),
            (true, None) | (false, _) => json!({"vlan": self.random.u16(1..=100)}),
        };
        ports.truncate(self.random.usize(1..=3));
        let ports: Vec<Value> = ports
            .into_iter()
            .map(|port| json!({"port": port, "direction": "ingress"}))
            .collect();
        let mut source = json!({"ports": ports});
        if ports.is_empty() || self.random.u8(0..4) == 0 {
            source["vlans"] = json!([self.random.u16(101..=4094)]);
        }
        json!({"kind": "MirrorSession", "name": format!("m{}", self.random.u8(1..=2)),
            "switch": switch, "source": source, "destination": destination})
    }

    /// A port and, mostly, the sessions that name it.
    fn delete_port(&mut self) -> Wish {
        let name = self.port_name();
        let mut going = Vec::new();
        if self.random.u8(0..4) > 0 {
            let named = |session: &&Value| session.to_string().contains(&format!("\"{name}\""));
            going.extend(self.model.of("MirrorSession", None).filter(named).cloned());
        }
        going.push(json!({"kind": "Port", "name": name}));
        Wish::Delete(going)
    }

    /// A group and, mostly, its ports.
    fn delete_group(&mut self) -> Wish {
        let (switch, name) = (self.switch(), self.group_name());
        let group = json!({"kind": "PortGroup", "switch": switch, "name": name});
        let is_there = self.model.get(&key(&group)).is_some();
        let mut going = vec![group];
        if is_there && self.random.u8(0..4) > 0 {
            let sessions = self.model.of("MirrorSession", Some(switch));
            let ports = self.model.of("Port", Some(switch));
            going.extend(sessions.cloned());
            going.extend(ports.filter(|port| port["group"] == json!(name)).cloned());
        }
        Wish::Delete(going)
    }

    fn delete_mirror(&mut self) -> Wish {
        let name = format!("m{}", self.random.u8(1..=2));
        Wish::Delete(vec![
            json!({"kind": "MirrorSession", "switch": self.switch(),
            "name": name}),
        ])
    }

    /// A switch with all that it has.
    fn delete_switch(&mut self) -> Wish {
        let switch = self.switch();
        let all = self.model.documents().map(|(_, document)| document);
        let its: Vec<Value> = all
            .filter(|document| switch_of(document) == switch)
            .cloned()
            .collect();
        if its.is_empty() {
            return Wish::Apply(vec![self.settings()]);
        }
        Wish::Delete(its)
    }

    /// A switch that is not there: as it was with all that it had, or blank.
    fn remake(&mut self, switch: &str, buried: &[Value]) -> Wish {
        let fits = |document: &&Value| {
            let taken = || self.model.get(&key(document)).is_some();
            switch_of(document) == switch && !taken()
        };
        let again: Vec<Value> = buried.iter().filter(fits).cloned().collect();
        if !again.is_empty() && self.random.u8(0..4) > 0 {
            return Wish::Apply(again);
        }
        let mut blank = json!({"kind": "Switch", "name": switch});
        if switch == "lab" {
            blank["hosts"] = self.some_hosts();
        }
        Wish::Apply(vec![blank])
    }

    fn resync(&mut self) -> Wish {
        let mut of = json!({});
        if self.random.bool() {
            of["host"] = json!(any_host(self.random));
        }
        if self.random.bool() {
            of["switch"] = json!(self.switch());
        }
        Wish::Resync(of)
    }

    /// Entries of a host are tried at once, or rest until somebody says so.
    fn act(&mut self) -> Wish {
        let action = if self.random.bool() {
            Action::Kick
        } else {
            Action::Park
        };
        let host = Some(any_host(self.random));
        Wish::Act(
            action,
            EntrySelection {
                host,
                ..EntrySelection::default()
            },
        )
    }
}
