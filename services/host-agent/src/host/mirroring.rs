// SPDX-License-Identifier: Apache-2.0
//! What mirror sessions say and can't do from here. Machines move whatever
//! copies them, and copies to a port don't leave its host.

use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use dvs_schemas::{MirrorDestination, MirrorSource, PortId, SwitchName, Timestamp, VlanId};

use super::HostCore;
use crate::datapath::ConditionsNow;
use crate::held::HeldSwitch;
use crate::plan::wanted_port;

impl HostCore {
    /// Takes in which sources of sessions are here and are not copied.
    pub(super) fn look_at_mirrors(&mut self, now: Timestamp) {
        let switches = self.switches.iter();
        let all = switches.flat_map(|(name, switch)| out_of_reach(name, &switch.held));
        let kind = ConditionKind::MirrorIncomplete;
        if self.conditions.set(now, kind, all.collect()) {
            self.tell_conditions(now);
        }
    }
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
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port,
                mirror: Some(mirror.clone()),
                ..ConditionTarget::default()
            };
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

/// True if a port of this host sends in a VLAN. What is not known of a port by
/// now comes with a message, which is a reason to look again.
fn sends_in(held: &HeldSwitch, vlan: VlanId) -> bool {
    let mut ports = held.ports.keys();
    ports.any(|port| match wanted_port(held, port) {
        Ok(Some(port)) => port.policy.vlan.sends_in(vlan),
        Ok(None) | Err(_) => false,
    })
}
