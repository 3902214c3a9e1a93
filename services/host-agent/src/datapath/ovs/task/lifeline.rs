// SPDX-License-Identifier: Apache-2.0
//! Ports that the host itself lives behind: an address of its own, or a route,
//! is on their device. To take all frames from such a port is refused like an
//! uplink with an address: the bus may be reached that way, and nobody could
//! give it back.

use dvs_schemas::{MirrorDestination, PolicyField, PortId};

use super::Task;
use crate::datapath::ovs::intent::within;
use crate::datapath::ovs::network::{HostNetwork, InUse};
use crate::datapath::{Behind, Step, StepFailure, VirtualPort, Write};

impl Task {
    /// Of each step why it is not to be carried out, if it would cut off
    /// something of the host's own. Looks at the host's network only where a port
    /// is to lose its frames that has an interface.
    pub(super) fn what_cuts_off(&self, steps: &[Step]) -> Vec<Option<StepFailure>> {
        let mut network = None;
        let mut of_step = |step: &Step| {
            let (losing, field) = self.losing(step);
            losing.into_iter().find_map(|port| {
                let plug = self.plug(&step.switch, port)?;
                let in_use = lives_on(&mut network, &plug.name)?;
                let message = format!(
                    "{in_use}, by which the host lives behind port {port}, and would be cut off; \
                     move it to another device, or unplug the interface with ovs-vsctl del-port {}",
                    plug.name
                );
                Some(StepFailure::new(field, message))
            })
        };
        steps.iter().map(&mut of_step).collect()
    }

    /// Who is behind the port that each step changes. Looks at the host's
    /// network only where one changes that has an interface.
    pub(super) fn who_is_behind(&self, steps: &[Step]) -> Vec<Behind> {
        let mut network = None;
        let mut of_step = |step: &Step| {
            let changed = match &step.write {
                Write::SetPort { port, from, to } => {
                    let from = from.as_ref();
                    let changed = |from: &std::sync::Arc<VirtualPort>| {
                        (from.mac, &from.policy) != (to.mac, &to.policy)
                    };
                    from.is_some_and(changed).then_some(port)
                }
                Write::SetBridge { .. }
                | Write::SetMirror { .. }
                | Write::RemoveMirror { .. }
                | Write::RemovePort { .. }
                | Write::RemoveBridge { .. } => None,
            };
            let plug = changed.and_then(|port| self.plug(&step.switch, port));
            plug.map_or(Behind::Machine, |plug| who_is_on(&mut network, &plug.name))
        };
        steps.iter().map(&mut of_step).collect()
    }

    /// The ports that a step takes all frames from which they get by now, and the
    /// field that says so.
    fn losing<'s>(&'s self, step: &'s Step) -> (Vec<&'s PortId>, Option<&'static str>) {
        let Some(wish) = self.intent.get(&step.switch) else {
            return (Vec::new(), None);
        };
        let passes = |port: &PortId| {
            let port = wish.ports.get(port);
            port.is_some_and(|port| !port.policy.blocked)
        };
        let only = |port: &'s PortId| -> Vec<&'s PortId> {
            let passes = passes(port).then_some(port);
            passes.into_iter().collect()
        };
        match &step.write {
            Write::RemovePort { port, .. } => (only(port), None),
            Write::SetPort { port, to, .. } if to.policy.blocked => {
                (only(port), Some(PolicyField::Blocked.path()))
            }
            // What can't be checked here would be blocked as well.
            Write::SetPort { port, to, .. }
                if within(to, wish.settings.mtu, &self.abilities)
                    .0
                    .policy
                    .blocked =>
            {
                (only(port), None)
            }
            Write::RemoveBridge { .. } => {
                let ports = wish.ports.keys();
                (ports.filter(|port| passes(port)).collect(), None)
            }
            // A port that gets copies gets nothing else.
            Write::SetMirror { to, .. } => match &to.destination {
                MirrorDestination::Port(port) => (only(port), Some("destination.port")),
                MirrorDestination::Vlan(_) => (Vec::new(), None),
            },
            Write::SetPort { .. } | Write::SetBridge { .. } | Write::RemoveMirror { .. } => {
                (Vec::new(), None)
            }
        }
    }
}

/// What of the host's own is on a device, which is looked up in its network;
/// that is read when it is first asked for.
fn lives_on(network: &mut Option<HostNetwork>, device: &str) -> Option<InUse> {
    let network = network.get_or_insert_with(HostNetwork::read);
    match network.use_of(device)? {
        in_use @ (InUse::Address { .. } | InUse::Route { .. }) => Some(in_use),
        // Neither is a way of the host's own.
        InUse::Member { .. } | InUse::Unknown(_) => None,
    }
}

/// Who is on a device. Where that can't be seen it is taken to be the host: a
/// trial costs nothing as long as the bus is there.
fn who_is_on(network: &mut Option<HostNetwork>, device: &str) -> Behind {
    let network = network.get_or_insert_with(HostNetwork::read);
    match network.use_of(device) {
        Some(InUse::Address { .. } | InUse::Route { .. } | InUse::Unknown(_)) => Behind::Host,
        Some(InUse::Member { .. }) | None => Behind::Machine,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_host_may_be_behind_a_port_where_its_network_can_not_be_read() {
        let mut network = Some(HostNetwork::Unknown("no /sys".to_owned()));
        assert_eq!(who_is_on(&mut network, "tap1"), Behind::Host);
        let mut network = Some(HostNetwork::Known(BTreeMap::new()));
        assert_eq!(who_is_on(&mut network, "tap1"), Behind::Machine);
    }
}
