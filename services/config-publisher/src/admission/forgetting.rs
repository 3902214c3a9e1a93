// SPDX-License-Identifier: Apache-2.0
//! Hosts that will never come back.

use dvs_schemas::v1::{ForgetRequest, Presence};
use dvs_schemas::{Hosts, Problem, ProblemCode, Timestamp};

use crate::changes::{Change, ChangeSet, Object};
use crate::config::Config;
use crate::fleet::{Fleet, Host};

/// What forgetting a host changes: its ports are on no host. Connections stay.
///
/// # Errors
/// Nothing is known of the host, it is there or may be, or a switch names it.
pub fn forget(
    config: &Config,
    fleet: &Fleet,
    request: &ForgetRequest,
    now: Timestamp,
) -> Result<ChangeSet, Problem> {
    let ForgetRequest { host } = request;
    let known = fleet.get(host);
    let placed = config.switches().keys().filter_map(|switch| {
        let on = config.on_host(switch, host)?;
        Some(on.ports.iter())
    });
    let ports: Vec<_> = placed.flatten().collect();
    if let Some(switch) = config.switches().values().find(|switch| {
        let hosts = &switch.value.hosts;
        matches!(hosts, Hosts::Only(hosts) if hosts.contains(host))
    }) {
        let name = &switch.value.name;
        return Err(
            conflict(format!("switch {name} names host {host}")).allow(format!(
                "a host that is in no switch's hosts; apply switch {name} without it first"
            )),
        );
    }
    match Host::presence(known, now) {
        Presence::Present => {
            return Err(conflict(format!("host {host} is there"))
                .allow("a host that is absent; stop its agent first"));
        }
        Presence::Unknown => {
            return Err(conflict(format!(
                "whether host {host} is there is not known yet, \
                 as config-publisher or its connection has just come back"
            ))
            .allow("a host that is absent; dvsctl get hosts tells within three minutes"));
        }
        Presence::Never if ports.is_empty() => {
            return Err(
                Problem::new(ProblemCode::NotFound, format!("there is no host {host}"))
                    .at("host")
                    .allow("a host that dvsctl get hosts shows"),
            );
        }
        Presence::Never | Presence::Absent => {}
    }
    let epoch = config.next_epoch();
    let nowhere = ports.into_iter().filter_map(|port| {
        let entry = config.port(port)?;
        let mut after = entry.value.clone();
        after.document.host = None;
        after.epoch = epoch;
        Some(Change::Update {
            before: Object::Port(entry.value.clone()),
            since: entry.revision,
            after: Object::Port(after),
        })
    });
    Ok(ChangeSet(nowhere.collect()))
}

fn conflict(message: String) -> Problem {
    Problem::new(ProblemCode::Conflict, message).at("host")
}
