// SPDX-License-Identifier: Apache-2.0
//! What must hold of each kind of object. Each check looks at the store as it
//! will be; objects that the same request names are checked by themselves.

use std::collections::BTreeSet;

use dvs_schemas::{
    HostName, Hosts, MacAddr, ObjectKey, Policy, PolicyField, PortDoc, PortGroupDoc, PortId,
    Problem, ProblemCode, SwitchDoc, SwitchName, Vlan,
};

use super::draft::Draft;
use super::mirroring;
use crate::changes::Object;
use crate::render::is_member;

/// Names that are shown where any of many would do.
const SOME: usize = 5;

/// A few names, and how many there are besides.
pub(super) fn some<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let mut text: Vec<String> = names.by_ref().take(SOME).map(|n| n.to_string()).collect();
    let more = names.count();
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    text.join(", ")
}

/// Checks an object that a request names.
pub(super) fn check(draft: &Draft<'_>, object: &Object) -> Result<(), Problem> {
    match object {
        Object::Switch(doc) => check_switch(draft, doc),
        Object::PortGroup(doc) => check_group(draft, doc),
        Object::Port(port) => check_port(draft, &port.document),
        Object::MirrorSession(doc) => mirroring::check_session(draft, doc),
    }
}

fn conflict(message: String) -> Problem {
    Problem::new(ProblemCode::Conflict, message)
}

/// A port's switch never changes.
pub(super) fn same_switch(before: &PortDoc, doc: &PortDoc) -> Result<(), Problem> {
    if before.switch == doc.switch {
        return Ok(());
    }
    let message = format!("port {} belongs to switch {}", doc.name, before.switch);
    Err(conflict(message)
        .at("switch")
        .allow(format!("{}, or delete the port first", before.switch)))
}

/// A port has one vNIC at a time.
pub(super) fn same_vnic(before: &PortDoc, doc: &PortDoc) -> Result<(), Problem> {
    match (&before.vnic, &doc.vnic) {
        (Some(connected), Some(wanted)) if connected != wanted => {
            let on = match &before.host {
                Some(host) => format!(" on host {host}"),
                None => String::new(),
            };
            let message = format!("vNIC {connected} is connected to the port{on}");
            Err(conflict(message).at("vnic").allow(format!(
                "{connected}, or disconnect it first (dvsctl disconnect)"
            )))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// A port that is configured for one MAC address is for no vNIC with another.
/// One that is not takes any, and keeps to none: were the address that a vNIC
/// comes with entered in the port, the next document without one would take it
/// out again.
pub(super) fn same_mac(before: &PortDoc, mac: Option<MacAddr>) -> Result<(), Problem> {
    match (before.mac, mac) {
        (Some(configured), Some(mac)) if configured != mac => {
            let message = format!("the port is configured for {configured}, not for {mac}");
            Err(conflict(message)
                .at("mac")
                .allow(format!("{configured}, or a document with mac: {mac}")))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn check_switch(draft: &Draft<'_>, doc: &SwitchDoc) -> Result<(), Problem> {
    let mut uplinks = BTreeSet::new();
    for (at, uplink) in doc.uplinks.iter().enumerate() {
        if !uplinks.insert(uplink) {
            return Err(Problem::invalid(format!("uplink {uplink} is named twice"))
                .at(format!("uplinks[{at}]"))
                .allow("each uplink once"));
        }
    }
    has_role(doc, &doc.policy)?;
    let Some(before) = draft.config.switch(&doc.name) else {
        return Ok(());
    };
    let before = &before.value;
    if before.private_vlans != doc.private_vlans {
        check_roles(draft, doc)?;
    }
    if before.hosts != doc.hosts {
        check_hosts(draft, doc)?;
    }
    Ok(())
}

/// A private VLAN must have a role in the switch.
fn has_role(switch: &SwitchDoc, policy: &Policy) -> Result<(), Problem> {
    let Some(Vlan::Private(vlan)) = policy.vlan else {
        return Ok(());
    };
    if switch.private_vlans.role_of(vlan).is_some() {
        return Ok(());
    }
    let message = format!(
        "VLAN {vlan} has no role in the private VLANs of switch {}",
        switch.name
    );
    let roles = switch.private_vlans.roles().map(|(vlan, _, _)| vlan);
    let roles = some(roles);
    Err(Problem::invalid(message)
        .at("policy.vlan.private")
        .allow(if roles.is_empty() {
            "none: the switch has no private_vlans".to_owned()
        } else {
            roles
        }))
}

/// Groups and ports of a switch must not lose the roles of their VLANs.
fn check_roles(draft: &Draft<'_>, doc: &SwitchDoc) -> Result<(), Problem> {
    let lost = |policy: &Policy| has_role(doc, policy).is_err();
    let refused = |user: ObjectKey, policy: &Policy| {
        let vlan = policy.vlan.as_ref().map(Vlan::to_string);
        let message = format!("{user} has VLAN {}", vlan.unwrap_or_default());
        Err(conflict(message)
            .at("private_vlans")
            .allow("private VLANs that keep the roles in use"))
    };
    for group in draft.config.groups(&doc.name) {
        let key = ObjectKey::PortGroup(doc.name.clone(), group.value.name.clone());
        if lost(&group.value.policy) && !draft.names(&key) {
            return refused(key, &group.value.policy);
        }
    }
    for id in draft.config.ports_on(&doc.name) {
        let key = ObjectKey::Port(id.clone());
        if let Some(entry) = draft.config.port(id)
            && lost(&entry.value.document.policy)
            && !draft.names(&key)
        {
            return refused(key, &entry.value.document.policy);
        }
    }
    Ok(())
}

/// No host may leave while ports are placed there.
fn check_hosts(draft: &Draft<'_>, doc: &SwitchDoc) -> Result<(), Problem> {
    for (host, on_host) in draft.config.hosts_of(&doc.name) {
        if is_member(doc, draft.fleet, host) {
            continue;
        }
        let stays = |id: &&PortId| {
            let port = draft.port(id);
            port.is_some_and(|port| port.document.host.as_ref() == Some(host))
        };
        let staying: Vec<_> = on_host.ports.iter().filter(stays).collect();
        if !staying.is_empty() {
            let message = format!(
                "host {host} would leave while {} of its ports are placed there: {}",
                staying.len(),
                some(staying)
            );
            return Err(conflict(message)
                .at("hosts")
                .allow(format!("hosts with {host}, or move or delete those ports")));
        }
    }
    Ok(())
}

/// The switch that an object belongs to.
pub(super) fn the_switch<'a>(
    draft: &'a Draft<'_>,
    name: &SwitchName,
) -> Result<&'a SwitchDoc, Problem> {
    draft.switch(name).ok_or_else(|| {
        let known = some(draft.config.switches().keys());
        Problem::new(ProblemCode::NotFound, format!("there is no switch {name}"))
            .at("switch")
            .allow(if known.is_empty() {
                "a switch of this or an earlier request; there is none yet".to_owned()
            } else {
                known
            })
    })
}

fn check_group(draft: &Draft<'_>, doc: &PortGroupDoc) -> Result<(), Problem> {
    let switch = the_switch(draft, &doc.switch)?;
    has_role(switch, &doc.policy)?;
    let Some(before) = draft.config.group(&doc.switch, &doc.name) else {
        return Ok(());
    };
    let forbidden: Vec<PolicyField> = before
        .value
        .overridable
        .difference(&doc.overridable)
        .copied()
        .collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    for id in draft.config.ports_of(&doc.switch, &doc.name) {
        let Some(entry) = draft.config.port(id) else {
            continue;
        };
        let policy = &entry.value.document.policy;
        let overridden = forbidden.iter().find(|field| policy.sets(**field));
        if let Some(field) = overridden
            && !draft.names(&ObjectKey::Port(id.clone()))
        {
            return Err(conflict(format!("port {id} overrides {field}"))
                .at("overridable")
                .allow(format!(
                    "a list with {field}, or take the override out of the port"
                )));
        }
    }
    Ok(())
}

fn check_port(draft: &Draft<'_>, doc: &PortDoc) -> Result<(), Problem> {
    let switch = the_switch(draft, &doc.switch)?;
    let Some(group) = draft.group(&doc.switch, &doc.group) else {
        let known = draft.config.groups(&doc.switch).map(|e| &e.value.name);
        let message = format!("switch {} has no port group {}", doc.switch, doc.group);
        let known = some(known);
        return Err(Problem::new(ProblemCode::NotFound, message)
            .at("group")
            .allow(if known.is_empty() {
                "a group of this or an earlier request; the switch has none yet".to_owned()
            } else {
                known
            }));
    };
    if let Some(field) = doc
        .policy
        .set_fields()
        .find(|field| !group.overridable.contains(field))
    {
        let message = format!("port group {} lets no port override {field}", group.name);
        let may = some(&group.overridable);
        return Err(Problem::invalid(message)
            .at(format!("policy.{field}"))
            .allow(if may.is_empty() {
                "no override: the group's overridable is empty".to_owned()
            } else {
                may
            }));
    }
    has_role(switch, &doc.policy)?;
    match (&doc.host, &doc.vnic) {
        (Some(host), _) if !is_member(switch, draft.fleet, host) => {
            Err(outside(draft, switch, host))
        }
        // Reserved: a port may be a vNIC's before that is plugged in anywhere,
        // and stays so when it is not any more.
        (Some(_) | None, _) => exclusive(draft, doc),
    }
}

/// A vNIC is connected to one port.
fn exclusive(draft: &Draft<'_>, doc: &PortDoc) -> Result<(), Problem> {
    let Some(vnic) = &doc.vnic else {
        return Ok(());
    };
    let Some(other) = draft.other_port(vnic, &doc.name) else {
        return Ok(());
    };
    Err(
        conflict(format!("vNIC {vnic} is connected to port {other}"))
            .at("vnic")
            .allow(format!(
                "another vNIC, or this one once it is disconnected from port {other} \
                 (dvsctl disconnect)"
            )),
    )
}

fn outside(draft: &Draft<'_>, switch: &SwitchDoc, host: &HostName) -> Problem {
    let (message, known) = match &switch.hosts {
        Hosts::All => (
            format!(
                "host {host} is outside switch {}: it is not known, as it said no hello or was \
                 forgotten",
                switch.name
            ),
            some(draft.fleet.names()),
        ),
        Hosts::Only(hosts) => (
            format!("host {host} is outside switch {}", switch.name),
            some(hosts),
        ),
    };
    Problem::invalid(message)
        .at("host")
        .allow(if known.is_empty() {
            "no host: the switch has none yet".to_owned()
        } else {
            known
        })
}
