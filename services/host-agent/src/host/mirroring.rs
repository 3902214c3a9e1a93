// SPDX-License-Identifier: Apache-2.0
//! What mirror sessions say and can't do from here. Machines move whatever
//! copies them, and copies to a port don't leave its host; and nobody gets back
//! what was copied from it.

use std::collections::BTreeSet;

use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use dvs_schemas::{
    MirrorDestination, MirrorName, MirrorSource, PortId, SwitchName, Timestamp, VlanId,
};

use super::HostCore;
use crate::datapath::ConditionsNow;
use crate::held::HeldSwitch;
use crate::plan::wanted_port;

impl HostCore {
    /// Takes in which sources of sessions are here and are not copied.
    pub(super) fn look_at_mirrors(&mut self, now: Timestamp) {
        let switches = self.switches.iter();
        let all = switches.flat_map(|(name, switch)| {
            let held = &switch.held;
            let mut all = out_of_reach(name, held);
            all.extend(would_come_back(name, held));
            all.extend(to_nobody(name, held, |port| self.is_empty(name, port)));
            all.extend(into_blocked(name, held));
            all
        });
        let kind = ConditionKind::MirrorIncomplete;
        let all = all.collect();
        if self.conditions.set(now, kind, all) {
            self.tell_conditions(now);
        }
    }

    /// Looks again if conditions of this kind say where nothing is plugged in.
    pub(super) fn follow_plugs(&mut self, now: Timestamp, kind: ConditionKind) {
        match kind {
            ConditionKind::NothingPluggedIn | ConditionKind::InterfaceUnusable => {
                self.look_at_mirrors(now);
            }
            ConditionKind::ClaimWaits
            | ConditionKind::ClaimRefused
            | ConditionKind::UnreadableWord
            | ConditionKind::LinkAggregation
            | ConditionKind::NotInForce
            | ConditionKind::Drift
            | ConditionKind::ForeignSettings
            | ConditionKind::MirrorIncomplete => {}
        }
    }

    /// True if nothing is plugged in at a port, as long as it is reported: no
    /// interface says it, or none that does can be it.
    fn is_empty(&self, switch: &SwitchName, port: &PortId) -> bool {
        let reports = |kind| self.conditions.reports(kind, (switch, port));
        reports(ConditionKind::NothingPluggedIn)
            || (reports(ConditionKind::InterfaceUnusable) && !self.plugging.is_plugged(port))
    }
}

/// Sessions to a port of this host where nothing is plugged in.
fn to_nobody(
    switch: &SwitchName,
    held: &HeldSwitch,
    is_empty: impl Fn(&PortId) -> bool,
) -> ConditionsNow {
    let mut all = ConditionsNow::new();
    for (mirror, session) in &held.mirrors {
        let MirrorDestination::Port(port) = &session.value.destination else {
            continue;
        };
        if held.ports.contains_key(port) && is_empty(port) {
            let why = format!(
                "session {mirror} copies nothing: port {port}, where its copies are to go, has no \
                 interface; plug one in, or choose another destination"
            );
            all.insert(of_session(switch, mirror, Some(port.clone())), why);
        }
    }
    all
}

/// Sources that are ports of this host or VLANs of some, where the copies are to
/// go to a port that is not here.
fn out_of_reach(switch: &SwitchName, held: &HeldSwitch) -> ConditionsNow {
    let mut all = ConditionsNow::new();
    let is_here = |port: &PortId| held.ports.contains_key(port);
    for (mirror, session) in &held.mirrors {
        let MirrorDestination::Port(destination) = &session.value.destination else {
            continue;
        };
        if is_here(destination) {
            continue;
        }
        let MirrorSource { ports, vlans } = &session.value.source;
        let ports = ports.iter().map(|source| &source.port);
        let ports = ports.filter(|port| is_here(port)).map(|port| {
            let what = format!("port {port}");
            (Some(port.clone()), what)
        });
        let vlans = vlans.iter().filter(|vlan| sends_in(held, **vlan));
        let vlans: Vec<String> = vlans.map(ToString::to_string).collect();
        let vlans = match vlans.as_slice() {
            [] => None,
            several => Some((None, format!("VLAN {}", several.join(", ")))),
        };
        for (port, what) in ports.chain(vlans) {
            let on = of_session(switch, mirror, port);
            let why = format!(
                "session {mirror} copies nothing of {what} on this host: port {destination}, where \
                 its copies are to go, is not here; bring the two together, or give the session a \
                 destination VLAN, which takes copies to every host"
            );
            all.insert(on, why);
        }
    }
    all
}

/// vNICs of this host that send in a source VLAN of a session into a VLAN and
/// get copies themselves, as by a trunk that carries both.
fn would_come_back(switch: &SwitchName, held: &HeldSwitch) -> ConditionsNow {
    let mut all = ConditionsNow::new();
    let Some(settings) = &held.settings else {
        return all;
    };
    let private = &settings.value.private_vlans;
    let sessions = held.mirrors.iter();
    let sessions = sessions.map(|(name, session)| (name, &session.value));
    let into: BTreeSet<VlanId> = sessions
        .clone()
        .filter_map(|(_, session)| match session.destination {
            MirrorDestination::Vlan(vlan) => Some(vlan),
            MirrorDestination::Port(_) => None,
        })
        .collect();
    let of_vlans: Vec<_> = sessions
        .filter(|(_, session)| match session.destination {
            MirrorDestination::Vlan(_) => !session.source.vlans.is_empty(),
            MirrorDestination::Port(_) => false,
        })
        .collect();
    if of_vlans.is_empty() {
        return all;
    }
    for port in held.ports.keys() {
        let Ok(Some(wanted)) = wanted_port(held, port) else {
            continue;
        };
        let vlan = &wanted.policy.vlan;
        let mut back = into.iter().filter(|to| vlan.receives_in(**to, private));
        let Some(back) = back.next() else {
            continue;
        };
        for (mirror, session) in &of_vlans {
            let from = session.source.vlans.iter();
            let from = from.filter(|from| vlan.sends_in(**from));
            let from: Vec<String> = from.map(ToString::to_string).collect();
            if from.is_empty() {
                continue;
            }
            let why = format!(
                "session {mirror} copies nothing that port {port} sends in VLAN {}: the port is \
                 in VLAN {back} as well, which copies go into, and would get them back; take it \
                 out of that VLAN, or have copies go into another one",
                from.join(", ")
            );
            all.insert(of_session(switch, mirror, Some(port.clone())), why);
        }
    }
    all
}

/// Sessions to a port of this host that is blocked, or is as long as its rules
/// can't be checked.
fn into_blocked(switch: &SwitchName, held: &HeldSwitch) -> ConditionsNow {
    let mut all = ConditionsNow::new();
    for (mirror, session) in &held.mirrors {
        let MirrorDestination::Port(port) = &session.value.destination else {
            continue;
        };
        let Some(wanted) = wanted_port(held, port).ok().flatten() else {
            continue;
        };
        let (is, way) = if wanted.policy.blocked {
            ("blocked", "unblock it")
        } else if wanted.unchecked().next().is_some() {
            (
                "blocked until its vNIC has a MAC address",
                "set the port's mac",
            )
        } else {
            continue;
        };
        let why = format!(
            "session {mirror} copies nothing: port {port}, where its copies are to go, is {is}; \
             {way}, or choose another destination"
        );
        all.insert(of_session(switch, mirror, Some(port.clone())), why);
    }
    all
}

fn of_session(switch: &SwitchName, mirror: &MirrorName, port: Option<PortId>) -> ConditionTarget {
    ConditionTarget {
        switch: Some(switch.clone()),
        port,
        mirror: Some(mirror.clone()),
        ..ConditionTarget::default()
    }
}

/// True if a port of this host sends in a VLAN. What is not known of a port by
/// now comes with a message, which is a reason to look again.
fn sends_in(held: &HeldSwitch, vlan: VlanId) -> bool {
    let mut ports = held.ports.keys();
    ports.any(|port| match wanted_port(held, port) {
        Ok(Some(port)) => port.policy.vlan.sends_in(vlan),
        Ok(None) | Err(_) => false,
    })
}
