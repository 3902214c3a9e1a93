// SPDX-License-Identifier: Apache-2.0
//! What operators ask of a small fleet, one after the other, each request
//! repeated until it is answered; and the naive model of what should come of
//! it.

use std::collections::BTreeMap;

use config_publisher::events::{Reply, Request};
use dvs_schemas::ProblemCode;
use dvs_schemas::v1::{ApplyRequest, DeleteRequest};
use serde_json::{Value, json};

use super::start::host_name;
use super::world::{HOSTS, Told, World};

/// A request of an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Apply these documents.
    Apply(Vec<Value>),
    /// Delete this object.
    Delete(Value),
}

/// What the operators believe: the documents that were acknowledged.
#[derive(Debug, Default)]
pub struct Operators {
    /// By kind and name, as they were applied; a port's host is the one that
    /// was last named.
    pub model: BTreeMap<(String, String), Value>,
    /// The newest revision that was acknowledged.
    pub acknowledged: u64,
    /// Requests that were carried out, and those that were refused.
    pub done: (u64, u64),
    waiting: Option<(u64, Wish)>,
}

fn key(document: &Value) -> (String, String) {
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    (text("kind").to_owned(), text("name").to_owned())
}

fn vlan(random: &mut fastrand::Rng) -> Value {
    json!({"access": random.u16(1..=4094)})
}

fn group(random: &mut fastrand::Rng) -> Value {
    json!({"kind": "PortGroup", "name": format!("g{}", random.u8(1..=3)), "switch": "prod",
        "policy": {"vlan": vlan(random)}, "overridable": ["vlan", "blocked"]})
}

fn port(random: &mut fastrand::Rng) -> Value {
    let mut policy = json!({});
    if random.bool() {
        policy["vlan"] = vlan(random);
    }
    if random.u8(0..4) == 0 {
        policy["blocked"] = json!(true);
    }
    let mut port = json!({"kind": "Port", "name": format!("p{}", random.u8(1..=8)),
        "switch": "prod", "group": format!("g{}", random.u8(1..=3)), "policy": policy});
    if random.u8(0..5) > 0 {
        port["host"] = json!(host_name(random.usize(0..HOSTS)));
    }
    port
}

fn mirror(random: &mut fastrand::Rng) -> Value {
    json!({"kind": "MirrorSession", "name": "m", "switch": "prod",
        "source": {"ports": [{"port": format!("p{}", random.u8(1..=4))}]},
        "destination": {"vlan": random.u16(1..=4094)}})
}

fn switch(random: &mut fastrand::Rng) -> Value {
    json!({"kind": "Switch", "name": "prod", "mtu": random.u16(1_500..=9_000)})
}

/// The next request; some of them will be refused, which is part of it.
fn wish(random: &mut fastrand::Rng) -> Wish {
    match random.u8(0..20) {
        0 => Wish::Apply(vec![switch(random)]),
        1..=4 => Wish::Apply(vec![group(random)]),
        5..=11 => Wish::Apply(vec![port(random)]),
        12..=13 => {
            let mut all: Vec<Value> = (0..4).map(|_| port(random)).collect();
            all.sort_by_key(key);
            all.dedup_by_key(|document| key(document));
            all.push(group(random));
            Wish::Apply(all)
        }
        14 => Wish::Apply(vec![mirror(random)]),
        15..=17 => Wish::Delete(json!({"kind": "Port", "name": format!("p{}", random.u8(1..=8))})),
        18 => Wish::Delete(json!({"kind": "PortGroup", "switch": "prod",
            "name": format!("g{}", random.u8(1..=3))})),
        _ => Wish::Delete(json!({"kind": "MirrorSession", "switch": "prod", "name": "m"})),
    }
}

impl Operators {
    /// The documents that everything begins with.
    #[must_use]
    pub fn first() -> Wish {
        Wish::Apply(vec![
            json!({"kind": "Switch", "name": "prod"}),
            json!({"kind": "PortGroup", "name": "g1", "switch": "prod",
                "policy": {"vlan": {"access": 10}}, "overridable": ["vlan", "blocked"]}),
        ])
    }

    /// Takes the answer to what was asked, and asks on. False while an answer
    /// is awaited.
    ///
    /// # Panics
    /// The answer contradicts what was asked.
    pub fn go_on(&mut self, world: &mut World, next: impl FnOnce() -> Option<Wish>) -> bool {
        if let Some((token, wish)) = self.waiting.take() {
            match world.told.remove(&token) {
                None => {
                    self.waiting = Some((token, wish));
                    return false;
                }
                Some(Told::Silence) => {
                    self.ask(world, wish);
                    return false;
                }
                Some(Told::Answer(answer)) => self.told(wish, *answer),
            }
        }
        if let Some(wish) = next() {
            self.ask(world, wish);
        }
        true
    }

    /// True if no answer is awaited.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.waiting.is_none()
    }

    /// A random request.
    #[must_use]
    pub fn wish(random: &mut fastrand::Rng) -> Wish {
        wish(random)
    }

    fn ask(&mut self, world: &mut World, wish: Wish) {
        let request = match &wish {
            Wish::Apply(documents) => ApplyRequest::decode(json!(documents).to_string().as_bytes())
                .map(|(_, request)| Request::Apply(request)),
            Wish::Delete(object) => DeleteRequest::decode(object.to_string().as_bytes())
                .map(|(_, request)| Request::Delete(request)),
        };
        let request = request.unwrap_or_else(|problem| panic!("{wish:?}: {problem}"));
        self.waiting = Some((world.ask(request), wish));
    }

    fn told(&mut self, wish: Wish, answer: Result<Reply, dvs_schemas::Problem>) {
        let reply = match answer {
            Ok(Reply::Applied(reply)) => reply,
            Ok(other) => panic!("{wish:?} was answered by {other:?}"),
            Err(problem) => {
                // A delete whose answer was lost finds the object gone.
                if let (Wish::Delete(object), ProblemCode::NotFound) = (wish, problem.code) {
                    self.model.remove(&key(&object));
                }
                self.done.1 += 1;
                return;
            }
        };
        self.done.0 += 1;
        self.acknowledged = self.acknowledged.max(reply.revision.0);
        match wish {
            Wish::Apply(documents) => {
                for document in documents {
                    let key = key(&document);
                    let mut document = document;
                    if let (None, Some(before)) = (document.get("host"), self.model.get(&key))
                        && let Some(host) = before.get("host")
                    {
                        document["host"] = host.clone();
                    }
                    self.model.insert(key, document);
                }
            }
            Wish::Delete(object) => {
                self.model.remove(&key(&object));
            }
        }
    }
}
