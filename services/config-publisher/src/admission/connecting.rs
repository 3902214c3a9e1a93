// SPDX-License-Identifier: Apache-2.0
//! Connections between vNICs and ports, and the hosts that ports are placed on:
//! by the same rules as documents, but for one port, and never over somebody
//! else's connection.

use dvs_schemas::documents::Binding;
use dvs_schemas::v1::{ConnectRequest, DisconnectRequest, MoveRequest};
use dvs_schemas::{Document, ObjectKey, Policy, PortDoc, Problem, ProblemCode, Timestamp, VnicId};

use super::{absent, apply, deletion};
use crate::changes::{Change, ChangeSet, Object};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::warnings::unreachable;

/// What connecting a vNIC changes.
///
/// # Errors
/// There is no such port and none can be made, another vNIC is connected to it,
/// the vNIC to another port, or the port can't be on that host.
pub fn connect(
    config: &Config,
    fleet: &Fleet,
    request: &ConnectRequest,
) -> Result<ChangeSet, Problem> {
    let ConnectRequest {
        port,
        vnic,
        host,
        mac,
        switch: _,
        group: _,
        wait: _,
        timeout: _,
    } = request;
    let mut document = match config.port(port) {
        Some(entry) => entry.value.document.clone(),
        None => made(config, request)?,
    };
    document.vnic = Some(vnic.clone());
    document.mac = mac.or(document.mac);
    if host.is_some() {
        document.host.clone_from(host);
    }
    apply(config, fleet, &[Document::Port(document)], None)
}

/// A port that comes with its connection.
fn made(config: &Config, request: &ConnectRequest) -> Result<PortDoc, Problem> {
    let of = ObjectKey::Port(request.port.clone());
    let (Some(switch), Some(group)) = (&request.switch, &request.group) else {
        return Err(absent(&of)
            .of(&of)
            .at("port")
            .allow("a port that is there, or a new one with switch and an ephemeral group"));
    };
    let binding = config.group(switch, group).map(|entry| entry.value.binding);
    if binding == Some(Binding::Static) {
        let message = format!("ports of group {group} don't come with a connection");
        return Err(Problem::new(ProblemCode::Conflict, message)
            .of(&of)
            .at("group")
            .allow("a port that is there, or a group with binding: ephemeral"));
    }
    Ok(PortDoc {
        name: request.port.clone(),
        switch: switch.clone(),
        group: group.clone(),
        host: None,
        vnic: None,
        mac: None,
        policy: Policy::default(),
    })
}

/// What placing a port on another host changes.
///
/// # Errors
/// There is no such port, it is not where it was thought to be, it can't be on
/// that host, or the host can't be told now.
pub fn relocate(
    config: &Config,
    fleet: &Fleet,
    request: &MoveRequest,
    now: Timestamp,
) -> Result<ChangeSet, Problem> {
    let MoveRequest {
        port,
        host,
        from,
        force,
        wait: _,
        timeout: _,
    } = request;
    let of = ObjectKey::Port(port.clone());
    let Some(entry) = config.port(port) else {
        return Err(absent(&of).of(&of).at("port"));
    };
    let mut document = entry.value.document.clone();
    if from.is_some() && *from != document.host {
        let message = match &document.host {
            Some(holder) => format!("the port is on host {holder}"),
            None => "the port is on no host".to_owned(),
        };
        let allowed = document.host.as_ref().map(ToString::to_string);
        return Err(Problem::new(ProblemCode::Conflict, message)
            .of(&of)
            .at("from")
            .allow(allowed.map_or_else(
                || "no from".to_owned(),
                |holder| format!("{holder}, or no from"),
            )));
    }
    document.host = Some(host.clone());
    let changes = apply(config, fleet, &[Document::Port(document)], None)?;
    // It would take the port from where its machine runs, for nothing.
    if !force
        && !changes.is_empty()
        && let Some(why) = unreachable(fleet, host, now)
    {
        let message = format!(
            "host {host} is told nothing for now ({why}): the port would pass no frames there"
        );
        return Err(Problem::new(ProblemCode::Conflict, message)
            .of(&of)
            .at("host")
            .allow(
                "a host that is present and follows this ledger, as dvsctl get hosts shows; or \
                 force (dvsctl move --force)",
            ));
    }
    Ok(changes)
}

/// What ending a connection changes, and the vNIC that was connected. A port of
/// an ephemeral group goes with it.
///
/// # Errors
/// There is no such port, another vNIC is connected, or something needs a port
/// that would go.
pub fn disconnect(
    config: &Config,
    request: &DisconnectRequest,
) -> Result<(ChangeSet, Option<VnicId>), Problem> {
    let DisconnectRequest { port, vnic } = request;
    let of = ObjectKey::Port(port.clone());
    let Some(entry) = config.port(port) else {
        return Err(absent(&of).of(&of).at("port"));
    };
    let Some(connected) = &entry.value.document.vnic else {
        return Ok((ChangeSet::default(), None));
    };
    if let Some(expected) = vnic
        && expected != connected
    {
        let message = format!("vNIC {connected} is connected, not {expected}");
        return Err(Problem::new(ProblemCode::Conflict, message)
            .of(&of)
            .at("vnic")
            .allow(format!("{connected}, or leave vnic out")));
    }
    let document = &entry.value.document;
    let group = config.group(&document.switch, &document.group);
    let change = match group.map_or(Binding::Static, |group| group.value.binding) {
        Binding::Static => {
            let mut after = entry.value.clone();
            after.document.vnic = None;
            Change::Update {
                before: Object::Port(entry.value.clone()),
                since: entry.revision,
                after: Object::Port(after),
            }
        }
        Binding::Ephemeral => {
            deletion::check(config, std::slice::from_ref(&of))
                .map_err(|(_, problem)| problem.of(&of).at("port"))?;
            Change::Delete {
                before: Object::Port(entry.value.clone()),
                since: entry.revision,
            }
        }
    };
    Ok((ChangeSet(vec![change]), Some(connected.clone())))
}
