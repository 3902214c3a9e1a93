// SPDX-License-Identifier: Apache-2.0
//! Ports that hosts claim as something is plugged in there, and release when it
//! is not any more. A claim places a port that is nowhere; it never takes one
//! from another host.

use dvs_schemas::v1::ClaimRequest;
use dvs_schemas::{Epoch, HostName, ObjectKey, PortDoc, PortId, Problem, ProblemCode};

use super::draft::Draft;
use super::{absent, rules};
use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::config::{Config, Entry};
use crate::fleet::Fleet;

/// A placement that is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Who holds the port.
    pub host: HostName,
    /// The port.
    pub port: PortId,
    /// Which of its placements.
    pub epoch: Epoch,
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The port is the host's once these are made; nothing if it is already.
    Granted(ChangeSet),
    /// Another host holds it.
    Waits {
        /// Who.
        holder: HostName,
        /// Since which placement.
        epoch: Epoch,
    },
}

/// What a claim comes to.
///
/// # Errors
/// There is no such port, the host is outside its switch, the epoch that it
/// names is over, or the port is another vNIC's.
pub fn claim(config: &Config, fleet: &Fleet, request: &ClaimRequest) -> Result<Claimed, Problem> {
    let of = ObjectKey::Port(request.port.clone());
    let Some(entry) = config.port(&request.port) else {
        return Err(absent(&of).of(&of).at("port"));
    };
    let port = &entry.value;
    let after = granted(config, fleet, port, request).map_err(|problem| problem.of(&of))?;
    let holder = port.document.host.as_ref();
    if holder == Some(&request.host) {
        return Ok(Claimed::Granted(update(entry, after)));
    }
    same_epoch(port, request).map_err(|problem| problem.of(&of))?;
    Ok(match holder {
        None => Claimed::Granted(update(entry, after)),
        Some(holder) => Claimed::Waits {
            holder: holder.clone(),
            epoch: port.epoch,
        },
    })
}

/// What a release changes: the port is nowhere, or at once on the host whose
/// claim waits, if that is given. Nothing if the placement is over already.
///
/// # Errors
/// The claim that waits can't be granted any more.
pub fn release(
    config: &Config,
    fleet: &Fleet,
    ending: &Ending,
    next: Option<&ClaimRequest>,
) -> Result<ChangeSet, Problem> {
    let Ending { host, port, epoch } = ending;
    let held = config.port(port).filter(|entry| {
        let Placed {
            document,
            epoch: present,
        } = &entry.value;
        document.host.as_ref() == Some(host) && present == epoch
    });
    let Some(entry) = held else {
        return Ok(ChangeSet::default());
    };
    let mut after = entry.value.clone();
    after.document.host = None;
    // So that what the host says of the placement later finds it over.
    after.epoch = config.next_epoch();
    if let Some(claim) = next {
        after = granted(config, fleet, &after, claim)?;
    }
    Ok(update(entry, after))
}

/// The port, were it the claiming host's.
fn granted(
    config: &Config,
    fleet: &Fleet,
    port: &Placed,
    request: &ClaimRequest,
) -> Result<Placed, Problem> {
    let ClaimRequest {
        v: _,
        host,
        session: _,
        port: _,
        vnic,
        mac,
        epoch: _,
        machine: _,
        positions: _,
    } = request;
    let before = &port.document;
    let document = PortDoc {
        host: Some(host.clone()),
        vnic: vnic.clone().or_else(|| before.vnic.clone()),
        ..before.clone()
    };
    let epoch = if document.host == before.host {
        port.epoch
    } else {
        config.next_epoch()
    };
    let mut draft = Draft::new(config, fleet);
    let placed = Placed { document, epoch };
    let object = Object::Port(placed.clone());
    draft.put(0, object.clone());
    rules::check(&draft, &object)?;
    rules::same_vnic(before, &placed.document)?;
    rules::same_mac(before, *mac)?;
    Ok(placed)
}

/// A host that names an epoch which is over has missed that it lost the port:
/// what it would do with a grant rests on what is not so any more.
fn same_epoch(port: &Placed, request: &ClaimRequest) -> Result<(), Problem> {
    let Some(epoch) = request.epoch.filter(|epoch| *epoch != port.epoch) else {
        return Ok(());
    };
    let now = match &port.document.host {
        Some(host) => format!("host {host} holds it in epoch {}", port.epoch),
        None => "it is on no host".to_owned(),
    };
    let message = format!(
        "host {} holds the port in epoch {epoch} no more: {now}",
        request.host
    );
    Err(Problem::new(ProblemCode::Conflict, message)
        .at("epoch")
        .allow("a claim without an epoch, once the host has let go of the port"))
}

fn update(entry: &Entry<Placed>, after: Placed) -> ChangeSet {
    if entry.value == after {
        return ChangeSet::default();
    }
    ChangeSet(vec![Change::Update {
        before: Object::Port(entry.value.clone()),
        since: entry.revision,
        after: Object::Port(after),
    }])
}
