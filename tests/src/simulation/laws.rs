// SPDX-License-Identifier: Apache-2.0
//! The rules of `docs/design.md`, as questions to a world at any moment.

use std::collections::BTreeMap;

use dvs_schemas::{Epoch, HostName, PortId};
use host_agent::datapath::Picture;
use serde_json::{Value, json};

use super::workload::Operators;
use super::world::World;

/// Rule 1: what was acknowledged is durable; a crash can't take it back.
///
/// # Errors
/// Says what was lost.
pub fn nothing_acknowledged_is_lost(world: &World, operators: &Operators) -> Result<(), String> {
    match world.revision() {
        Some(revision) if revision.0 < operators.acknowledged => Err(format!(
            "revision {} was acknowledged, the publisher is at {revision}",
            operators.acknowledged
        )),
        Some(_) | None => Ok(()),
    }
}

/// Rule 6: no port has two owners in one epoch.
///
/// # Errors
/// Names port, epoch and both hosts.
pub fn one_owner_per_epoch(world: &World) -> Result<(), String> {
    let mut owners: BTreeMap<(PortId, Epoch), HostName> = BTreeMap::new();
    for machine in &world.hosts {
        for bridge in machine.datapath.picture().values() {
            for (id, plugged) in &bridge.ports {
                let claim = (id.clone(), plugged.port.epoch);
                if let Some(other) = owners.insert(claim, machine.name.clone()) {
                    return Err(format!(
                        "port {id} of epoch {} is on {other} and on {}",
                        plugged.port.epoch, machine.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Rule 4: where publisher and retry see nothing left to do, and nothing is
/// under way, every host has what it should have.
///
/// # Errors
/// Names the host that nobody would ever mend.
pub fn no_silent_divergence(world: &World, operators: &Operators) -> Result<(), String> {
    let (Some(publisher), Some(retry)) = (world.publisher.core(), world.retry.core()) else {
        return Ok(());
    };
    let settled = publisher.pending() == 0
        && retry.repush_entries() + retry.rip_entries() == 0
        && operators.idle()
        && world.nothing_under_way()
        && world.hosts.iter().all(|machine| {
            machine.connected && machine.agent.core().is_some_and(super::start::greeted)
        });
    if settled {
        converged(world, operators)
    } else {
        Ok(())
    }
}

/// Rule 5: one entry per host and switch, however many changes were missed.
///
/// # Errors
/// Says how many there are.
pub fn few_entries(world: &World) -> Result<(), String> {
    match world.retry.core().map(retry::Retry::repush_entries) {
        Some(entries) if entries > world.hosts.len() => Err(format!(
            "{entries} re-push entries for {} hosts and one switch",
            world.hosts.len()
        )),
        Some(_) | None => Ok(()),
    }
}

/// Every host's datapath is what the acknowledged documents say, merged here
/// in the most naive way.
///
/// # Errors
/// Shows both.
pub fn converged(world: &World, operators: &Operators) -> Result<(), String> {
    for machine in &world.hosts {
        let found = seen(&machine.datapath.picture());
        let wanted = wanted(operators, &machine.name);
        if found != wanted {
            return Err(format!(
                "{} has\n  {found}\nand should have\n  {wanted}",
                machine.name
            ));
        }
    }
    Ok(())
}

fn seen(picture: &Picture) -> Value {
    let bridges = picture.iter().map(|(switch, bridge)| {
        let ports = bridge.ports.iter().map(|(id, plugged)| {
            let policy = &plugged.port.policy;
            let port = json!({"vlan": policy.vlan.configured(), "blocked": policy.blocked});
            (id.to_string(), port)
        });
        let bridge = json!({"mtu": bridge.settings.mtu,
            "ports": ports.collect::<BTreeMap<_, _>>()});
        (switch.to_string(), bridge)
    });
    json!(bridges.collect::<BTreeMap<_, _>>())
}

fn wanted(operators: &Operators, host: &HostName) -> Value {
    let of_kind = |wanted: &'static str| {
        operators
            .model
            .iter()
            .filter(move |((kind, _), _)| kind == wanted)
            .map(|((_, name), document)| (name.clone(), document))
    };
    let groups: BTreeMap<String, &Value> = of_kind("PortGroup").collect();
    let ports = of_kind("Port")
        .filter(|(_, port)| port["host"] == json!(host))
        .map(|(name, port)| {
            let group = port["group"]
                .as_str()
                .and_then(|group| groups.get(group).copied())
                .unwrap_or(&Value::Null);
            let first = |field: &str, default: Value| {
                [port, group]
                    .into_iter()
                    .map(|layer| layer["policy"][field].clone())
                    .find(|value| !value.is_null())
                    .unwrap_or(default)
            };
            let port = json!({"vlan": first("vlan", json!("untagged")),
                "blocked": first("blocked", json!(false))});
            (name, port)
        })
        .collect::<BTreeMap<_, _>>();
    let bridges = of_kind("Switch").map(|(name, switch)| {
        let mtu = switch.get("mtu").cloned().unwrap_or(json!(1500));
        (name, json!({"mtu": mtu, "ports": ports}))
    });
    json!(bridges.collect::<BTreeMap<_, _>>())
}
