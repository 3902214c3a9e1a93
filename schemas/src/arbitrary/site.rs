// SPDX-License-Identifier: Apache-2.0
//! Random configurations that hold together: every reference exists, every
//! override is allowed, every private VLAN has a role.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::str::FromStr;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    direction, documents::teaming, mac, mtu, policy, policy_fields, private_vlans, uplink, vlan_id,
};
use crate::address::MacAddr;
use crate::documents::{
    Binding, Document, Hosts, MirrorDestination, MirrorPort, MirrorSessionDoc, MirrorSource,
    PortDoc, PortGroupDoc, SwitchDoc,
};
use crate::ids::{HostName, PortId, SwitchName};
use crate::policy::{Direction, Policy, PolicyField};
use crate::telling::RuntimeSettings;
use crate::vlan::{PrivateVlans, Vlan, VlanId};

/// A configuration that the publisher accepts as a whole, from empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Every host that a switch or a port names.
    pub hosts: BTreeSet<HostName>,
    /// The documents, each after those that it needs.
    pub documents: Vec<Document>,
}

/// What is drawn for a port; numbers stand for things that are counted later.
#[derive(Debug, Clone)]
struct Draw {
    group: Index,
    host: Option<Index>,
    connected: bool,
    mac: Option<MacAddr>,
    policy: Policy,
}

fn draw() -> impl Strategy<Value = Draw> {
    (
        any::<Index>(),
        option::weighted(0.8, any::<Index>()),
        any::<bool>(),
        option::of(mac()),
        policy(),
    )
        .prop_map(|(group, host, connected, mac, policy)| Draw {
            group,
            host,
            connected,
            mac,
            policy,
        })
}

/// What is drawn for a mirroring session: sources, destination port, VLANs.
type MirrorDraw = (Vec<(Index, Direction)>, Option<Index>, BTreeSet<VlanId>);

fn numbered<T: FromStr<Err: Debug>>(prefix: &str, number: usize) -> T {
    format!("{prefix}{number}")
        .parse()
        .expect("a letter, digits and dashes are a name")
}

/// Makes the policy one that the switch can have: a private VLAN without a
/// role becomes an access VLAN.
fn fit_vlan(policy: &mut Policy, private_vlans: &PrivateVlans) {
    if let Some(Vlan::Private(vlan)) = policy.vlan
        && private_vlans.role_of(vlan).is_none()
    {
        policy.vlan = Some(match private_vlans.roles().next() {
            Some((member, _, _)) => Vlan::Private(member),
            None => Vlan::Access(vlan),
        });
    }
}

fn clear(policy: &mut Policy, field: PolicyField) {
    match field {
        PolicyField::Vlan => policy.vlan = None,
        PolicyField::Promiscuous => policy.security.promiscuous = None,
        PolicyField::MacChanges => policy.security.mac_changes = None,
        PolicyField::ForgedTransmits => policy.security.forged_transmits = None,
        PolicyField::ReservedMulticast => policy.security.reserved_multicast = None,
        PolicyField::AllowedAddresses => policy.security.allowed_addresses = None,
        PolicyField::ShapingIngress => policy.shaping.ingress = None,
        PolicyField::ShapingEgress => policy.shaping.egress = None,
        PolicyField::Blocked => policy.blocked = None,
    }
}

/// One switch with all that belongs to it.
fn switch(number: usize, hosts: Vec<HostName>) -> impl Strategy<Value = Vec<Document>> {
    let settings = (
        mtu(),
        vec(uplink(), 0..3),
        teaming(),
        private_vlans(),
        policy(),
    );
    let groups = vec((policy(), policy_fields()), 1..4);
    let ports = vec(draw(), 0..12);
    let mirrors = vec(
        (
            vec((any::<Index>(), direction()), 0..3),
            option::of(any::<Index>()),
            btree_set(vlan_id(), 1..3),
        ),
        0..3,
    );
    (settings, groups, ports, mirrors).prop_map(move |(settings, groups, ports, mirrors)| {
        let name: SwitchName = numbered("s", number);
        let (mtu, mut uplinks, teaming, private_vlans, mut policy) = settings;
        uplinks.sort();
        uplinks.dedup();
        fit_vlan(&mut policy, &private_vlans);
        let switch = SwitchDoc {
            name: name.clone(),
            hosts: Hosts::Only(hosts.iter().cloned().collect()),
            mtu,
            uplinks,
            teaming,
            private_vlans,
            runtime: RuntimeSettings::default(),
            policy,
        };
        let groups: Vec<PortGroupDoc> = groups
            .into_iter()
            .enumerate()
            .map(|(i, draw)| group(&switch, i, draw))
            .collect();
        let ports: Vec<PortDoc> = ports
            .into_iter()
            .enumerate()
            .map(|(i, draw)| port(&switch, i, draw, &groups, &hosts))
            .collect();
        let mirrors: Vec<MirrorSessionDoc> = mirrors
            .into_iter()
            .enumerate()
            .map(|(i, draw)| mirror(&name, i, draw, &ports))
            .collect();
        let mirrors = compatible(mirrors, &switch, &groups, &ports);
        std::iter::once(Document::Switch(switch))
            .chain(groups.into_iter().map(Document::PortGroup))
            .chain(ports.into_iter().map(Document::Port))
            .chain(mirrors.into_iter().map(Document::MirrorSession))
            .collect()
    })
}

fn group(
    switch: &SwitchDoc,
    number: usize,
    (mut policy, overridable): (Policy, BTreeSet<PolicyField>),
) -> PortGroupDoc {
    fit_vlan(&mut policy, &switch.private_vlans);
    PortGroupDoc {
        name: numbered("g", number),
        switch: switch.name.clone(),
        policy,
        overridable,
        binding: Binding::Static,
    }
}

fn port(
    switch: &SwitchDoc,
    number: usize,
    draw: Draw,
    groups: &[PortGroupDoc],
    hosts: &[HostName],
) -> PortDoc {
    let Draw {
        group,
        host,
        connected,
        mac,
        mut policy,
    } = draw;
    let group = group.get(groups);
    fit_vlan(&mut policy, &switch.private_vlans);
    for field in PolicyField::ALL {
        if !group.overridable.contains(&field) {
            clear(&mut policy, field);
        }
    }
    PortDoc {
        name: numbered(&format!("{}-p", switch.name), number),
        switch: switch.name.clone(),
        group: group.name.clone(),
        // A vNIC is connected on a host, so one without the other is none.
        vnic: (connected && host.is_some()).then(|| {
            format!("vm-{}-{number}/eth0", switch.name)
                .parse()
                .expect("printable, without spaces")
        }),
        host: host.map(|host| host.get(hosts).clone()),
        mac,
        policy,
    }
}

fn mirror(
    switch: &SwitchName,
    number: usize,
    draw: MirrorDraw,
    ports: &[PortDoc],
) -> MirrorSessionDoc {
    let (sources, destination, mut vlans) = draw;
    let destination = match destination {
        Some(index) if !ports.is_empty() => MirrorDestination::Port(index.get(ports).name.clone()),
        Some(_) | None => {
            MirrorDestination::Vlan(vlans.pop_first().expect("at least one VLAN is drawn"))
        }
    };
    let mut sources: Vec<MirrorPort> = sources
        .into_iter()
        .filter(|_| !ports.is_empty())
        .map(|(index, direction)| MirrorPort {
            port: index.get(ports).name.clone(),
            direction,
        })
        .filter(|source| MirrorDestination::Port(source.port.clone()) != destination)
        .collect();
    sources.sort_by(|a, b| a.port.cmp(&b.port));
    sources.dedup_by(|a, b| a.port == b.port);
    let mut vlans: Vec<VlanId> = vlans.into_iter().collect();
    if sources.is_empty() && vlans.is_empty() {
        // The only VLAN drawn is the destination: any other is a source.
        let other = if destination == MirrorDestination::Vlan(vlan(1)) {
            2
        } else {
            1
        };
        vlans.push(vlan(other));
    }
    MirrorSessionDoc {
        name: numbered("m", number),
        switch: switch.clone(),
        source: MirrorSource {
            ports: sources,
            vlans,
        },
        destination,
    }
}

/// The sessions that can be together: what copies go to is no source of any.
fn compatible(
    mut mirrors: Vec<MirrorSessionDoc>,
    switch: &SwitchDoc,
    groups: &[PortGroupDoc],
    ports: &[PortDoc],
) -> Vec<MirrorSessionDoc> {
    let sources = mirrors.iter().flat_map(|session| &session.source.ports);
    let sources: BTreeSet<PortId> = sources.map(|source| source.port.clone()).collect();
    let vlans = mirrors.iter().flat_map(|session| &session.source.vlans);
    let mut taken: BTreeSet<VlanId> = vlans.copied().collect();
    taken.extend(switch.private_vlans.roles().map(|(vlan, _, _)| vlan));
    let policies = ports.iter().map(|port| &port.policy);
    let policies = policies.chain(groups.iter().map(|group| &group.policy));
    for policy in policies.chain([&switch.policy]) {
        match &policy.vlan {
            None | Some(Vlan::Untagged | Vlan::Private(_)) => {}
            Some(Vlan::Access(vlan)) => drop(taken.insert(*vlan)),
            Some(Vlan::Trunk(trunk)) => {
                let ranges = trunk.vlans.ranges().iter();
                let numbers = ranges.flat_map(|range| range.first().get()..=range.last().get());
                taken.extend(numbers.map(vlan).chain(trunk.native));
            }
        }
    }
    let free = (1..=4094).map(vlan).find(|vlan| !taken.contains(vlan));
    mirrors.retain_mut(|session| match (&session.destination, free) {
        (MirrorDestination::Port(port), _) if !sources.contains(port) => true,
        (MirrorDestination::Port(_) | MirrorDestination::Vlan(_), Some(free)) => {
            session.destination = MirrorDestination::Vlan(free);
            true
        }
        (MirrorDestination::Port(_) | MirrorDestination::Vlan(_), None) => false,
    });
    mirrors
}

fn vlan(number: u16) -> VlanId {
    VlanId::try_from(number).expect("1 to 4094 are VLANs")
}

/// One or two switches on one to five hosts, with groups, ports (placed or
/// not, connected or not) and mirroring sessions.
pub fn site() -> impl Strategy<Value = Site> {
    (1..=5_usize, 1..=2_usize).prop_flat_map(|(hosts, switches)| {
        let hosts: Vec<HostName> = (1..=hosts).map(|n| numbered("h", n)).collect();
        let all = hosts.iter().cloned().collect::<BTreeSet<_>>();
        let switches: Vec<_> = (1..=switches)
            .map(|n| switch(n, hosts.clone()).boxed())
            .collect();
        switches.prop_map(move |switches| Site {
            hosts: all.clone(),
            documents: switches.into_iter().flatten().collect(),
        })
    })
}
