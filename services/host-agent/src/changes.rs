// SPDX-License-Identifier: Apache-2.0
//! A plan in words, for people who ask what would happen.

use std::fmt::Display;

use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::Change;
use dvs_schemas::{AddressList, Direction, MirrorDestination, PolicyField, Verdict};

use crate::datapath::{BridgeSettings, Mirror, Step, VirtualPort, Write};
use crate::merge::EffectivePolicy;

/// Field by field what a step changes; one line for what comes or goes as a
/// whole.
#[must_use]
pub fn changes(step: &Step) -> Vec<Change> {
    let switch = || format!("switch {}", step.switch);
    match &step.write {
        Write::SetBridge { from, to } => set(switch(), from.as_deref(), to, bridge_fields),
        Write::RemoveBridge { from } => vec![whole(switch(), Some(bridge_fields(from)), None)],
        Write::SetPort { port, from, to } => {
            set(format!("port {port}"), from.as_deref(), to, port_fields)
        }
        Write::RemovePort { port, from } => {
            vec![whole(format!("port {port}"), Some(port_fields(from)), None)]
        }
        Write::SetMirror { mirror, from, to } => set(
            format!("mirror {mirror}"),
            from.as_deref(),
            to,
            mirror_fields,
        ),
        Write::RemoveMirror { mirror, from } => {
            let fields = mirror_fields(from);
            vec![whole(format!("mirror {mirror}"), Some(fields), None)]
        }
    }
}

type Fields = Vec<(&'static str, String)>;

fn set<T>(object: String, from: Option<&T>, to: &T, fields: impl Fn(&T) -> Fields) -> Vec<Change> {
    let Some(from) = from else {
        return vec![whole(object, None, Some(fields(to)))];
    };
    fields(from)
        .into_iter()
        .zip(fields(to))
        .filter(|(from, to)| from != to)
        .map(|((field, from), (_, to))| Change {
            object: object.clone(),
            field: Some(field.to_owned()),
            from: Some(from),
            to: Some(to),
        })
        .collect()
}

fn whole(object: String, from: Option<Fields>, to: Option<Fields>) -> Change {
    let text = |fields: Fields| {
        let fields: Vec<String> = fields
            .into_iter()
            .map(|(field, value)| format!("{field}: {value}"))
            .collect();
        fields.join("; ")
    };
    Change {
        object,
        field: None,
        from: from.map(text),
        to: to.map(text),
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn optional<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn bridge_fields(settings: &BridgeSettings) -> Fields {
    let BridgeSettings {
        mtu,
        uplinks,
        teaming,
        private_vlans,
    } = settings;
    let teaming = match teaming {
        Teaming::ActiveBackup => "active_backup",
        Teaming::BalanceSlb => "balance_slb",
        Teaming::Lacp => "lacp",
    };
    let private_vlans = private_vlans.entries().iter().map(|entry| {
        format!(
            "{} (isolated {}, communities {})",
            entry.primary,
            optional(entry.isolated.as_ref()),
            list(&entry.communities)
        )
    });
    vec![
        ("mtu", mtu.get().to_string()),
        ("uplinks", list(uplinks)),
        ("teaming", teaming.to_owned()),
        ("private_vlans", list(private_vlans)),
    ]
}

fn port_fields(port: &VirtualPort) -> Fields {
    let VirtualPort {
        epoch,
        vnic,
        mac,
        policy:
            EffectivePolicy {
                vlan,
                promiscuous,
                mac_changes,
                forged_transmits,
                reserved_multicast,
                allowed_addresses,
                ingress,
                egress,
                blocked,
            },
    } = port;
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Reject => "reject".to_owned(),
    };
    let addresses = match allowed_addresses {
        AddressList::Any => "any".to_owned(),
        AddressList::Only(nets) => list(nets),
    };
    vec![
        ("epoch", epoch.to_string()),
        ("vnic", optional(vnic.as_ref())),
        ("mac", optional(mac.as_ref())),
        (PolicyField::Vlan.path(), vlan.to_string()),
        (PolicyField::Promiscuous.path(), verdict(promiscuous)),
        (PolicyField::MacChanges.path(), verdict(mac_changes)),
        (
            PolicyField::ForgedTransmits.path(),
            verdict(forged_transmits),
        ),
        (
            PolicyField::ReservedMulticast.path(),
            verdict(reserved_multicast),
        ),
        (PolicyField::AllowedAddresses.path(), addresses),
        (PolicyField::ShapingIngress.path(), ingress.to_string()),
        (PolicyField::ShapingEgress.path(), egress.to_string()),
        (PolicyField::Blocked.path(), blocked.to_string()),
    ]
}

fn mirror_fields(mirror: &Mirror) -> Fields {
    let Mirror {
        ports,
        vlans,
        destination,
    } = mirror;
    let ports = ports.iter().map(|source| {
        let direction = match source.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
            Direction::Both => "both",
        };
        format!("{} ({direction})", source.port)
    });
    let destination = match destination {
        MirrorDestination::Port(port) => format!("port {port}"),
        MirrorDestination::Vlan(vlan) => format!("VLAN {vlan}"),
    };
    vec![
        ("source.ports", list(ports)),
        ("source.vlans", list(vlans)),
        ("destination", destination),
    ]
}
