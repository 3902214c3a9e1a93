// SPDX-License-Identifier: Apache-2.0
//! What mirror sessions say and can't do from here. Machines move whatever
//! copies them, and copies to a port don't leave its host.

use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use dvs_schemas::{MirrorDestination, PortId, SwitchName, Timestamp};

use super::HostCore;
use crate::datapath::ConditionsNow;
use crate::held::HeldSwitch;

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

/// Sources that are ports of this host, where the copies are to go to a port
/// that is not.
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
        let sources = session.value.source.ports.iter().map(|source| &source.port);
        for port in sources.filter(|port| is_here(port)) {
            let on = ConditionTarget {
                switch: Some(switch.clone()),
                port: Some(port.clone()),
                mirror: Some(mirror.clone()),
                ..ConditionTarget::default()
            };
            let why = format!(
                "session {mirror} copies nothing of port {port}: port {destination}, where its \
                 copies are to go, is not on this host; bring the two together, or give the \
                 session a destination VLAN, which takes copies to every host"
            );
            all.insert(on, why);
        }
    }
    all
}
