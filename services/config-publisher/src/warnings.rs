// SPDX-License-Identifier: Apache-2.0
//! Warnings in the reply to an operator who has placed a port, or taken it from a
//! host: nothing is refused for them.

use std::collections::BTreeMap;

use dvs_schemas::v1::{HostDatapath, Presence};
use dvs_schemas::{HostName, PortId, Timestamp};

use crate::changes::{Change, ChangeSet, Object};
use crate::claims::Claims;
use crate::fleet::{Fleet, Host};

/// Ports that one warning names; the rest is counted.
const NAMED: usize = 5;

/// Warnings of one reply, one per host and matter: what an operator reads. The
/// list of hosts shows the state of the rest.
const MOST: usize = 20;

/// What there is to say of a host, and of some of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    /// Ports left the host, which is not told of it for now.
    Left { host: HostName, why: String },
    /// Ports came to the host, which is not told of it for now.
    Came { host: HostName, why: String },
    /// Ports came to the host from another one, and nothing that is plugged in
    /// there waits for them. `heeded`: that one's claims count.
    Unplugged {
        host: HostName,
        from: HostName,
        heeded: bool,
    },
}

/// What is to be said of changes that are about to be made.
#[must_use]
pub fn of(changes: &ChangeSet, claims: &Claims, fleet: &Fleet, now: Timestamp) -> Vec<String> {
    let mut matters: BTreeMap<Matter, Vec<PortId>> = BTreeMap::new();
    for change in &changes.0 {
        let Some((port, from, to)) = placed(change).filter(|(_, from, to)| from != to) else {
            continue;
        };
        let mut note = |matter| matters.entry(matter).or_default().push(port.clone());
        if let Some(host) = from.clone()
            && let Some(why) = unreachable(fleet, &host, now)
        {
            note(Matter::Left { host, why });
        }
        let Some(host) = to else { continue };
        if let Some(why) = unreachable(fleet, &host, now) {
            note(Matter::Came { host, why });
        } else if let Some(from) = from
            && !waits(claims, fleet, &port, &host)
        {
            let heeded = fleet.follows_instead(&from).is_none();
            note(Matter::Unplugged { host, from, heeded });
        }
    }
    let left_out = matters.len().saturating_sub(MOST);
    let mut texts: Vec<String> = matters.into_iter().take(MOST).map(text).collect();
    if left_out > 0 {
        texts.push(format!(
            "and {left_out} more of the kind, of other hosts: dvsctl get hosts shows who is not \
             there, or follows another history"
        ));
    }
    texts
}

/// Why a host is told nothing for now; none if it is.
#[must_use]
pub fn unreachable(fleet: &Fleet, host: &HostName, now: Timestamp) -> Option<String> {
    if let Some(diverged) = fleet.follows_instead(host) {
        return Some(diverged.to_string());
    }
    match fleet.presence(host, now) {
        Presence::Present | Presence::Unknown => None,
        Presence::Absent => Some("the host is absent".to_owned()),
        Presence::Never => {
            Some("the host is not known, as it said no hello or was forgotten".to_owned())
        }
    }
}

/// The port that a change is about, where it was and where it will be.
fn placed(change: &Change) -> Option<(PortId, Option<HostName>, Option<HostName>)> {
    let port = |object: Option<&Object>| match object {
        Some(Object::Port(placed)) => Some(placed.document.clone()),
        Some(Object::Switch(_) | Object::PortGroup(_) | Object::MirrorSession(_)) | None => None,
    };
    let (before, after) = (port(change.before()), port(change.after()));
    let name = after.as_ref().or(before.as_ref())?.name.clone();
    let host = |document: Option<dvs_schemas::PortDoc>| document.and_then(|port| port.host);
    Some((name, host(before), host(after)))
}

/// Whether something is plugged in for the port at the host, or needs not be.
fn waits(claims: &Claims, fleet: &Fleet, port: &PortId, host: &HostName) -> bool {
    let datapath = fleet
        .get(host)
        .and_then(|Host { entry, .. }| entry.datapath);
    match datapath {
        // Whatever is placed there is wired.
        Some(HostDatapath::Emulated) => true,
        Some(HostDatapath::OpenVswitch) | None => {
            let waiting = claims.waiting(port);
            waiting.is_some_and(|waiting| waiting.claim.host == *host)
        }
    }
}

fn text((matter, ports): (Matter, Vec<PortId>)) -> String {
    let names: Vec<&str> = ports.iter().take(NAMED).map(PortId::as_str).collect();
    let mut names = names.join(", ");
    if let Some(rest) = ports.len().checked_sub(NAMED).filter(|rest| *rest > 0) {
        names.push_str(&format!(" and {rest} more"));
    }
    match matter {
        Matter::Left { host, why } => format!(
            "{names}: host {host} is told nothing for now ({why}), so it may still have wired \
             there what is taken from it"
        ),
        Matter::Came { host, why } => format!(
            "{names}: host {host} is told nothing for now ({why}), so nothing is wired there yet"
        ),
        Matter::Unplugged { host, from, heeded } => {
            let back = if heeded {
                "its port back after a minute"
            } else {
                "its port back by dvsctl move only, as that host's word changes no placement"
            };
            format!(
                "{names}: nothing that is plugged in at host {host} waits for it, so no frame \
                 passes until its vNIC is plugged in there; a machine that still runs on host \
                 {from} gets {back}"
            )
        }
    }
}
