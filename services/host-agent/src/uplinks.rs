// SPDX-License-Identifier: Apache-2.0
//! What the way to the bus may go over, and a change of it of which nobody
//! knows yet whether the host can be reached with it.

use std::time::Duration;

use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::SwitchState;
use dvs_schemas::{
    MacAddr, Mtu, Policy, PolicyField, PortId, PrivateVlan, PrivateVlans, Revision, Security,
    Shaping, StoreId, UplinkName,
};
use serde::{Deserialize, Serialize};

use crate::datapath::{BridgeSettings, VirtualPort};
use crate::held::HeldSwitch;
use crate::merge::{NoRole, merge};

/// What carries a switch's frames to the host and away from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkSettings {
    /// Largest frame payload.
    pub mtu: Mtu,
    /// The uplinks.
    pub uplinks: Vec<UplinkName>,
    /// How they share the traffic.
    pub teaming: Teaming,
    /// Private VLANs, by which ports hear each other and the uplinks.
    pub private_vlans: PrivateVlans,
}

impl UplinkSettings {
    /// Those of a switch's settings.
    #[must_use]
    pub fn of(settings: &SwitchState) -> Self {
        Self {
            mtu: settings.mtu,
            uplinks: settings.uplinks.clone(),
            teaming: settings.teaming,
            private_vlans: settings.private_vlans.clone(),
        }
    }

    /// Those that a bridge has.
    #[must_use]
    pub fn of_bridge(settings: &BridgeSettings) -> Self {
        Self {
            mtu: settings.mtu,
            uplinks: settings.uplinks.clone(),
            teaming: settings.teaming,
            private_vlans: settings.private_vlans.clone(),
        }
    }

    /// The first difference, for people.
    fn difference(&self, after: &Self) -> String {
        let list = |uplinks: &[UplinkName]| {
            let names: Vec<&str> = uplinks.iter().map(UplinkName::as_str).collect();
            format!("[{}]", names.join(", "))
        };
        if self.uplinks != after.uplinks {
            let (before, after) = (list(&self.uplinks), list(&after.uplinks));
            format!("uplinks changed from {before} to {after}")
        } else if self.mtu != after.mtu {
            format!("mtu changed from {} to {}", self.mtu.get(), after.mtu.get())
        } else if self.teaming != after.teaming {
            let word = |teaming| match teaming {
                Teaming::ActiveBackup => "active-backup",
                Teaming::BalanceSlb => "balance-slb",
                Teaming::Lacp => "lacp",
            };
            let (before, after) = (word(self.teaming), word(after.teaming));
            format!("teaming changed from {before} to {after}")
        } else {
            let (before, after) = (self.private_vlans.entries(), after.private_vlans.entries());
            let only = |of: &[PrivateVlan], other: &[PrivateVlan]| {
                let only: Vec<_> = of.iter().filter(|entry| !other.contains(entry)).collect();
                json(&only)
            };
            let (before, after) = (only(before, after), only(after, before));
            format!("private_vlans changed from {before} to {after}")
        }
    }
}

/// How a port is set that the host itself lives behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSettings {
    /// Its configured MAC address.
    pub mac: Option<MacAddr>,
    /// Its policy, with nothing left to inherit.
    pub policy: Policy,
}

impl PortSettings {
    /// Those of a virtual port.
    #[must_use]
    pub fn of(port: &VirtualPort) -> Self {
        Self {
            mac: port.mac,
            policy: port.policy.written(),
        }
    }

    /// The virtual port that is wanted, with these settings in place of its own.
    ///
    /// # Errors
    /// [`NoRole`].
    pub fn in_place_of(
        &self,
        wanted: VirtualPort,
        private_vlans: &PrivateVlans,
    ) -> Result<VirtualPort, NoRole> {
        let nothing = Policy::default();
        Ok(VirtualPort {
            mac: self.mac,
            policy: merge(&self.policy, &nothing, &nothing, private_vlans)?,
            ..wanted
        })
    }

    fn difference(&self, port: &PortId, after: &Self) -> String {
        let fields = self.fields().into_iter().zip(after.fields());
        let changed = fields.filter(|((_, before), (_, after))| before != after);
        let mut message = String::new();
        for ((field, before), (_, after)) in changed {
            message += &match message.is_empty() {
                true => format!(
                    "{field} of port {port}, which the host lives behind, changed from {before} \
                     to {after}"
                ),
                false => format!(", {field} from {before} to {after}"),
            };
        }
        message
    }

    /// Each field by its path, and what it says.
    fn fields(&self) -> [(&'static str, String); 10] {
        let Self { mac, policy } = self;
        let Policy {
            vlan,
            security,
            shaping: Shaping { ingress, egress },
            blocked,
        } = policy;
        let Security {
            promiscuous,
            mac_changes,
            forged_transmits,
            reserved_multicast,
            allowed_addresses,
        } = security;
        let of = |field: PolicyField, says: String| (field.path(), says);
        [
            of(PolicyField::Vlan, json(vlan)),
            ("mac", json(mac)),
            of(PolicyField::Promiscuous, json(promiscuous)),
            of(PolicyField::MacChanges, json(mac_changes)),
            of(PolicyField::ForgedTransmits, json(forged_transmits)),
            of(PolicyField::ReservedMulticast, json(reserved_multicast)),
            of(PolicyField::AllowedAddresses, json(allowed_addresses)),
            of(PolicyField::ShapingIngress, json(ingress)),
            of(PolicyField::ShapingEgress, json(egress)),
            of(PolicyField::Blocked, json(blocked)),
        ]
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What a change is of, as it is before or after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// The bridge of a switch.
    Uplinks(UplinkSettings),
    /// A port of it.
    Port(PortId, PortSettings),
}

impl Setting {
    /// The port, if it is of one; else it is of the bridge.
    #[must_use]
    pub fn port(&self) -> Option<&PortId> {
        match self {
            Self::Uplinks(_) => None,
            Self::Port(port, _) => Some(port),
        }
    }

    fn difference(&self, after: &Self) -> String {
        match (self, after) {
            (Self::Uplinks(before), Self::Uplinks(after)) => before.difference(after),
            (Self::Port(port, before), Self::Port(_, after)) => before.difference(port, after),
            // A change is of one thing.
            (Self::Uplinks(_), Self::Port(..)) | (Self::Port(..), Self::Uplinks(_)) => {
                "it changed".to_owned()
            }
        }
    }
}

/// The newest revision of what a port's policy comes from.
#[must_use]
pub fn asked_by(held: &HeldSwitch, port: &PortId) -> Option<Revision> {
    let settings = held.settings.as_ref()?.revision;
    let port = held.ports.get(port)?;
    let group = held.groups.get(&port.value.group)?.revision;
    Some(port.revision.max(group).max(settings))
}

/// A change that nobody knows to be good, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The ledger that the revision belongs to.
    pub store: StoreId,
    /// The revision that asks for it.
    pub revision: Revision,
    /// The last settings with which the bus was heard.
    pub before: Setting,
    /// What is asked for.
    pub after: Setting,
    /// How long the bus was away, if that is why it was rolled back.
    pub rolled_back: Option<Duration>,
}

impl Change {
    /// True if this is what the state held asks for.
    #[must_use]
    pub fn is_of(&self, held: &HeldSwitch) -> bool {
        let asked = match &self.after {
            Setting::Uplinks(_) => held.settings.as_ref().map(|settings| settings.revision),
            Setting::Port(port, _) => asked_by(held, port),
        };
        (held.store, asked) == (self.store, Some(self.revision))
    }

    /// Why this is not made true, if it was rolled back and is what the state
    /// held asks for.
    #[must_use]
    pub fn refusal(&self, held: &HeldSwitch) -> Option<String> {
        let away = self.rolled_back.filter(|_| self.is_of(held))?;
        let newer = match &self.after {
            Setting::Uplinks(_) => "the switch",
            Setting::Port(..) => "the port",
        };
        Some(format!(
            "rolled back: apply a newer revision of {newer}, or have it tried again with dvsctl \
             resync; the bus was not reached for {} after {}",
            humantime::format_duration(away),
            self.before.difference(&self.after)
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_a_port_the_fields_alone_are_named_that_differ() {
        let settings = |policy: &str| PortSettings {
            mac: None,
            policy: serde_json::from_str(policy).unwrap(),
        };
        let before = settings(r#"{"vlan": {"access": 7}, "blocked": false}"#);
        let after = settings(
            r#"{"vlan": {"access": 7}, "blocked": true, "security": {"promiscuous": "accept"}}"#,
        );
        assert_eq!(
            before.difference(&"p1".parse().unwrap(), &after),
            "security.promiscuous of port p1, which the host lives behind, changed from null to \
             \"accept\", blocked from false to true"
        );
    }
}
