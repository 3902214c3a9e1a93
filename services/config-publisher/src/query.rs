// SPDX-License-Identifier: Apache-2.0
//! Objects and hosts for people and programs, filtered and in pages that fit
//! into one message.

use std::collections::BTreeSet;
use std::ops::Bound;

use dvs_schemas::v1::{
    GetReply, GetRequest, HostListReply, HostListRequest, HostStatus, Item, Placement,
    PlacementsReply, PlacementsRequest, Presence, SwitchOnHost, V1,
};
use dvs_schemas::{
    Epoch, HostName, Kind, ObjectKey, PortId, Problem, ProblemCode, Revision, SwitchName, Timestamp,
};
use serde::Serialize;

use crate::changes::Object;
use crate::config::Config;
use crate::fleet::{Fleet, Host, HostEntry};
use crate::render::is_member;

/// The share of a message that a page may fill: the rest is for the envelope
/// and for a format that takes more than JSON does.
#[must_use]
pub fn page_bytes(max_payload: usize) -> usize {
    max_payload / 4 * 3
}

/// Room on a page; the first thing always has some.
#[derive(Debug)]
pub struct Page {
    room: usize,
    used: usize,
}

impl Page {
    /// A page of so many bytes.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { room, used: 0 }
    }

    /// Takes the room for one more thing; false if there is none.
    pub fn takes<T: Serialize>(&mut self, thing: &T) -> bool {
        // JSON is the longer of the two formats.
        let bytes = serde_json::to_vec(thing).map_or(0, |text| text.len() + 1);
        let fits = self.used == 0 || self.used + bytes <= self.room;
        if fits {
            self.used += bytes;
        }
        fits
    }
}

/// Objects that match.
///
/// # Errors
/// `after` is no place between two pages.
pub fn objects(config: &Config, request: &GetRequest, room: usize) -> Result<GetReply, Problem> {
    let after = match &request.after {
        None => None,
        Some(text) => Some(parse_key(text).ok_or_else(|| {
            Problem::invalid(format!("{text:?} is no place in the list"))
                .at("after")
                .allow("the next of an earlier reply")
        })?),
    };
    let mut page = Page::new(room);
    let mut reply = GetReply {
        v: V1,
        revision: config.revision(),
        items: Vec::new(),
        next: None,
    };
    let mut last = None;
    for key in matching(config, request, after.as_ref()) {
        let Some((revision, object)) = config.object(&key) else {
            continue;
        };
        let item = item(revision, &object);
        if !page.takes(&item) {
            reply.next = last;
            break;
        }
        last = Some(key.to_string());
        reply.items.push(item);
    }
    Ok(reply)
}

fn item(revision: Revision, object: &Object) -> Item {
    Item {
        revision,
        epoch: epoch(object),
        document: object.document(),
    }
}

fn epoch(object: &Object) -> Option<Epoch> {
    match object {
        Object::Port(port) => Some(port.epoch),
        Object::Switch(_) | Object::PortGroup(_) | Object::MirrorSession(_) => None,
    }
}

/// Reads what [`ObjectKey`] displays.
fn parse_key(text: &str) -> Option<ObjectKey> {
    let (kind, name) = text.split_once(' ')?;
    let kind = Kind::ALL.into_iter().find(|k| k.to_string() == kind)?;
    let within = || name.split_once('/');
    Some(match kind {
        Kind::Switch => ObjectKey::Switch(name.parse().ok()?),
        Kind::Port => ObjectKey::Port(name.parse().ok()?),
        Kind::PortGroup => {
            let (switch, name) = within()?;
            ObjectKey::PortGroup(switch.parse().ok()?, name.parse().ok()?)
        }
        Kind::MirrorSession => {
            let (switch, name) = within()?;
            ObjectKey::MirrorSession(switch.parse().ok()?, name.parse().ok()?)
        }
    })
}

/// The keys that match, ascending, after a place.
fn matching<'a>(
    config: &'a Config,
    request: &'a GetRequest,
    after: Option<&'a ObjectKey>,
) -> impl Iterator<Item = ObjectKey> + 'a {
    // Only ports have a group or a host.
    let of_ports = request.group.is_some() || request.host.is_some();
    let kinds = Kind::ALL.into_iter().filter(move |kind| {
        let wanted = request.kind.is_none_or(|wanted| wanted == *kind);
        wanted && (*kind == Kind::Port || !of_ports)
    });
    kinds
        .flat_map(move |kind| of_kind(config, request, kind, after))
        .filter(move |key| after.is_none_or(|after| key > after))
        .filter(move |key| matches(config, request, key))
}

fn of_kind<'a>(
    config: &'a Config,
    request: &'a GetRequest,
    kind: Kind,
    after: Option<&'a ObjectKey>,
) -> Box<dyn Iterator<Item = ObjectKey> + 'a> {
    let switches = config.switches().keys();
    let switches = switches.filter(|name| request.switch.as_ref().is_none_or(|s| s == *name));
    match kind {
        Kind::Switch => Box::new(switches.map(|name| ObjectKey::Switch(name.clone()))),
        Kind::PortGroup => Box::new(switches.flat_map(|switch| {
            let groups = config.groups(switch).map(|entry| entry.value.name.clone());
            groups.map(|name| ObjectKey::PortGroup(switch.clone(), name))
        })),
        Kind::MirrorSession => Box::new(switches.flat_map(|switch| {
            let mirrors = config.mirrors(switch).map(|entry| entry.value.name.clone());
            mirrors.map(|name| ObjectKey::MirrorSession(switch.clone(), name))
        })),
        Kind::Port => Box::new(ports(config, request, after).map(ObjectKey::Port)),
    }
}

/// The ports that may match, by whichever index leaves the fewest.
fn ports<'a>(
    config: &'a Config,
    request: &'a GetRequest,
    after: Option<&'a ObjectKey>,
) -> Box<dyn Iterator<Item = PortId> + 'a> {
    if let Some(name) = &request.name {
        return Box::new(name.parse().ok().into_iter());
    }
    let switches = config.switches().keys();
    if let Some(host) = &request.host {
        let there = switches.filter_map(|switch| config.on_host(switch, host));
        let ids: BTreeSet<PortId> = there.flat_map(|on| on.ports.iter().cloned()).collect();
        return Box::new(ids.into_iter());
    }
    if let Some(group) = &request.group {
        let ids = switches.flat_map(|switch| config.ports_of(switch, group).cloned());
        return Box::new(ids.collect::<BTreeSet<_>>().into_iter());
    }
    let from = match after {
        Some(ObjectKey::Port(id)) => Bound::Excluded(id),
        Some(ObjectKey::Switch(_) | ObjectKey::PortGroup(..) | ObjectKey::MirrorSession(..))
        | None => Bound::Unbounded,
    };
    let range = config.ports().range::<PortId, _>((from, Bound::Unbounded));
    Box::new(range.map(|(id, _)| id.clone()))
}

fn matches(config: &Config, request: &GetRequest, key: &ObjectKey) -> bool {
    let of_switch = |switch: &SwitchName| request.switch.as_ref().is_none_or(|s| s == switch);
    let named = |name: &str| request.name.as_ref().is_none_or(|n| n == name);
    match key {
        ObjectKey::Switch(name) => of_switch(name) && named(name.as_str()),
        ObjectKey::PortGroup(switch, name) => of_switch(switch) && named(name.as_str()),
        ObjectKey::MirrorSession(switch, name) => of_switch(switch) && named(name.as_str()),
        ObjectKey::Port(id) => config.port(id).is_some_and(|entry| {
            let document = &entry.value.document;
            of_switch(&document.switch)
                && named(id.as_str())
                && request.group.as_ref().is_none_or(|g| *g == document.group)
                && request
                    .host
                    .as_ref()
                    .is_none_or(|h| Some(h) == document.host.as_ref())
        }),
    }
}

/// Where ports are; of one that is not there, or was never placed, nothing is
/// said.
#[must_use]
pub fn placements(config: &Config, request: &PlacementsRequest) -> PlacementsReply {
    let PlacementsRequest { v: V1, ports } = request;
    let there = ports.iter().filter_map(|id| {
        let port = &config.port(id)?.value;
        (port.epoch > Epoch::default()).then(|| Placement {
            port: id.clone(),
            epoch: port.epoch,
            host: port.document.host.clone(),
        })
    });
    PlacementsReply {
        v: V1,
        placements: there.collect(),
    }
}

/// Hosts that match.
///
/// # Errors
/// There is no such switch.
pub fn hosts(
    config: &Config,
    fleet: &Fleet,
    request: &HostListRequest,
    now: Timestamp,
    room: usize,
) -> Result<HostListReply, Problem> {
    if let Some(switch) = &request.switch
        && config.switch(switch).is_none()
    {
        let message = format!("there is no switch {switch}");
        return Err(Problem::new(ProblemCode::NotFound, message)
            .at("switch")
            .allow("a switch that dvsctl get switches lists"));
    }
    let mut names: BTreeSet<&HostName> = match &request.host {
        Some(host) => BTreeSet::from([host]),
        None => everyone(config, fleet),
    };
    if let Some(after) = &request.after {
        names = names.split_off(after);
        names.remove(after);
    }
    let mut page = Page::new(room);
    let mut reply = HostListReply {
        v: V1,
        revision: config.revision(),
        hosts: Vec::new(),
        next: None,
    };
    for name in names {
        let status = status(config, fleet, name, now);
        let wanted = |on: &SwitchOnHost| request.switch.as_ref() == Some(&on.switch);
        if request.switch.is_some() && !status.switches.iter().any(wanted) {
            continue;
        }
        if status.presence == Presence::Never && status.switches.is_empty() {
            continue; // asked for by name, and nobody knows it
        }
        if !page.takes(&status) {
            reply.next = reply.hosts.last().map(|status| status.host.clone());
            break;
        }
        reply.hosts.push(status);
    }
    Ok(reply)
}

/// Hosts that said hello, and those that switches name.
fn everyone<'a>(config: &'a Config, fleet: &'a Fleet) -> BTreeSet<&'a HostName> {
    let switches = config.switches().values();
    let named = switches.flat_map(|entry| match &entry.value.hosts {
        dvs_schemas::Hosts::All => None,
        dvs_schemas::Hosts::Only(hosts) => Some(hosts),
    });
    fleet.names().chain(named.flatten()).collect()
}

fn status(config: &Config, fleet: &Fleet, name: &HostName, now: Timestamp) -> HostStatus {
    let host = fleet.get(name);
    let switches = config.switches().iter();
    let switches = switches.filter(|(_, entry)| is_member(&entry.value, fleet, name));
    let switches = switches.map(|(switch, _)| SwitchOnHost {
        switch: switch.clone(),
        wanted: config.wanted(switch, name),
        observed: host.and_then(|host| host.observed(switch)),
        ports: config
            .on_host(switch, name)
            .map_or(0, |on| on.ports.len() as u64),
    });
    // Nothing, as long as only heartbeats told of the host.
    let told = |text: fn(&HostEntry) -> &String| {
        let text = host.map(|host| text(&host.entry));
        text.filter(|text| !text.is_empty()).cloned()
    };
    HostStatus {
        host: name.clone(),
        presence: Host::presence(host, now),
        heard: host.and_then(Host::heard),
        session: host.map(Host::session),
        node: told(|entry| &entry.node),
        address: host.and_then(|host| host.entry.address),
        version: told(|entry| &entry.version),
        datapath: host.and_then(|host| host.entry.datapath),
        diverged: host.and_then(Host::diverged).cloned(),
        namesakes: host
            .into_iter()
            .flat_map(|host| host.namesakes(now))
            .cloned()
            .collect(),
        switches: switches.collect(),
    }
}
