// SPDX-License-Identifier: Apache-2.0
//! The policy that a port has in the end: switch default ← port group ← port,
//! field by field. Hosts merge, so that a push carries each layer once however
//! many ports it concerns.

use std::fmt;

use dvs_schemas::{
    AddressList, Policy, PolicyField, PrivateVlans, Security, Shaping, ShapingLimit, Trunk,
    Verdict, Vlan, VlanId, VlanRole,
};

/// Policy with nothing left to inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// VLAN tags.
    pub vlan: EffectiveVlan,
    /// May the vNIC see frames that are addressed to others?
    pub promiscuous: Verdict,
    /// May the vNIC receive on another MAC address than its configured one?
    pub mac_changes: Verdict,
    /// May the vNIC send from another MAC address than its configured one?
    pub forged_transmits: Verdict,
    /// May the vNIC send and receive frames to reserved group addresses?
    pub reserved_multicast: Verdict,
    /// Source addresses that the vNIC may use.
    pub allowed_addresses: AddressList,
    /// Rate limit from the vNIC into the switch.
    pub ingress: ShapingLimit,
    /// Rate limit from the switch to the vNIC.
    pub egress: ShapingLimit,
    /// True: no frame passes.
    pub blocked: bool,
}

/// [`Vlan`] with the role that the switch gives a private VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectiveVlan {
    /// Frames pass without a tag.
    Untagged,
    /// All frames belong to this VLAN.
    Access(VlanId),
    /// Tagged frames of these VLANs pass.
    Trunk(Trunk),
    /// The port belongs to a private VLAN (RFC 5517).
    Private {
        /// The VLAN.
        vlan: VlanId,
        /// What it is within its private VLAN.
        role: VlanRole,
        /// The primary VLAN it belongs to.
        primary: VlanId,
    },
}

impl EffectivePolicy {
    /// The same as users write it, with nothing left to inherit.
    #[must_use]
    pub fn written(&self) -> Policy {
        let Self {
            vlan,
            promiscuous,
            mac_changes,
            forged_transmits,
            reserved_multicast,
            allowed_addresses,
            ingress,
            egress,
            blocked,
        } = self;
        Policy {
            vlan: Some(vlan.configured()),
            security: Security {
                promiscuous: Some(*promiscuous),
                mac_changes: Some(*mac_changes),
                forged_transmits: Some(*forged_transmits),
                reserved_multicast: Some(*reserved_multicast),
                allowed_addresses: Some(allowed_addresses.clone()),
            },
            shaping: Shaping {
                ingress: Some(*ingress),
                egress: Some(*egress),
            },
            blocked: Some(*blocked),
        }
    }
}

impl EffectiveVlan {
    /// True if a port sends frames of this VLAN, tagged or not.
    #[must_use]
    pub fn sends_in(&self, wanted: VlanId) -> bool {
        match self {
            Self::Untagged => false,
            Self::Access(vlan) | Self::Private { vlan, .. } => *vlan == wanted,
            Self::Trunk(Trunk { vlans, native }) => {
                let mut ranges = vlans.ranges().iter();
                *native == Some(wanted)
                    || ranges.any(|range| range.first() <= wanted && wanted <= range.last())
            }
        }
    }

    /// True if a port gets frames of this VLAN, tagged or not, by the switch's
    /// private VLANs (RFC 5517, section 3).
    #[must_use]
    pub fn receives_in(&self, wanted: VlanId, private: &PrivateVlans) -> bool {
        match self {
            Self::Untagged | Self::Access(_) | Self::Trunk(_) => self.sends_in(wanted),
            Self::Private {
                vlan,
                role,
                primary,
            } => match role {
                VlanRole::Promiscuous => {
                    let mut members = private.roles().filter(|(_, _, of)| of == primary);
                    members.any(|(member, _, _)| member == wanted)
                }
                VlanRole::Isolated => wanted == *primary,
                VlanRole::Community => wanted == *primary || wanted == *vlan,
            },
        }
    }

    /// The same as users write it.
    #[must_use]
    pub fn configured(&self) -> Vlan {
        match self {
            Self::Untagged => Vlan::Untagged,
            Self::Access(vlan) => Vlan::Access(*vlan),
            Self::Trunk(trunk) => Vlan::Trunk(trunk.clone()),
            Self::Private { vlan, .. } => Vlan::Private(*vlan),
        }
    }
}

impl fmt::Display for EffectiveVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private {
                vlan,
                role,
                primary,
            } => {
                let role = match role {
                    VlanRole::Promiscuous => "promiscuous",
                    VlanRole::Isolated => "isolated",
                    VlanRole::Community => "community",
                };
                write!(f, "private {vlan} ({role} of {primary})")
            }
            other @ (Self::Untagged | Self::Access(_) | Self::Trunk(_)) => {
                fmt::Display::fmt(&other.configured(), f)
            }
        }
    }
}

/// The layers say something that the switch has no meaning for. It passes as
/// soon as the missing part arrives; until then the port stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("private VLAN {0} has no role in the private_vlans of the switch that this host holds")]
pub struct NoRole(pub VlanId);

impl NoRole {
    /// The field that can't be made true.
    pub const FIELD: PolicyField = PolicyField::Vlan;
}

/// Merges the three layers; `private_vlans` are those of the switch.
///
/// # Errors
/// [`NoRole`].
pub fn merge(
    switch: &Policy,
    group: &Policy,
    port: &Policy,
    private_vlans: &PrivateVlans,
) -> Result<EffectivePolicy, NoRole> {
    // A new field doesn't compile until it is here, and then below.
    let Policy {
        vlan: _,
        security:
            Security {
                promiscuous: _,
                mac_changes: _,
                forged_transmits: _,
                reserved_multicast: _,
                allowed_addresses: _,
            },
        shaping: Shaping {
            ingress: _,
            egress: _,
        },
        blocked: _,
    } = switch;
    let layers = [port, group, switch];
    Ok(EffectivePolicy {
        vlan: effective_vlan(first(layers, |layer| layer.vlan.as_ref()), private_vlans)?,
        promiscuous: first(layers, |layer| layer.security.promiscuous).unwrap_or(Verdict::Reject),
        mac_changes: first(layers, |layer| layer.security.mac_changes).unwrap_or(Verdict::Accept),
        forged_transmits: first(layers, |layer| layer.security.forged_transmits)
            .unwrap_or(Verdict::Accept),
        reserved_multicast: first(layers, |layer| layer.security.reserved_multicast)
            .unwrap_or(Verdict::Reject),
        allowed_addresses: first(layers, |layer| layer.security.allowed_addresses.as_ref())
            .cloned()
            .unwrap_or(AddressList::Any),
        ingress: first(layers, |layer| layer.shaping.ingress).unwrap_or(ShapingLimit::Unlimited),
        egress: first(layers, |layer| layer.shaping.egress).unwrap_or(ShapingLimit::Unlimited),
        blocked: first(layers, |layer| layer.blocked).unwrap_or(false),
    })
}

fn first<'a, T>(layers: [&'a Policy; 3], field: impl Fn(&'a Policy) -> Option<T>) -> Option<T> {
    layers.into_iter().find_map(field)
}

fn effective_vlan(
    vlan: Option<&Vlan>,
    private_vlans: &PrivateVlans,
) -> Result<EffectiveVlan, NoRole> {
    Ok(match vlan {
        None | Some(Vlan::Untagged) => EffectiveVlan::Untagged,
        Some(Vlan::Access(vlan)) => EffectiveVlan::Access(*vlan),
        Some(Vlan::Trunk(trunk)) => EffectiveVlan::Trunk(trunk.clone()),
        Some(Vlan::Private(vlan)) => {
            let (role, primary) = private_vlans.role_of(*vlan).ok_or(NoRole(*vlan))?;
            EffectiveVlan::Private {
                vlan: *vlan,
                role,
                primary,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dvs_schemas::arbitrary;
    use proptest::prelude::*;
    use serde_json::Value;

    /// Lays one tree over another, leaf by leaf: the model that merging is
    /// held against knows no field names.
    fn lay_over(below: &mut Value, above: Value, path: &str) {
        // These are one field each, however they are written.
        let whole = matches!(path, "/vlan" | "/shaping/ingress" | "/shaping/egress");
        match (below, above) {
            (Value::Object(below), Value::Object(above)) if !whole => {
                for (key, value) in above {
                    let path = format!("{path}/{key}");
                    lay_over(below.entry(key).or_insert(Value::Null), value, &path);
                }
            }
            (below, above) => *below = above,
        }
    }

    fn tree(policy: &Policy) -> Value {
        serde_json::to_value(policy).unwrap()
    }

    proptest! {
        #[test]
        fn each_field_comes_from_the_uppermost_layer_that_sets_it(
            switch in arbitrary::policy(),
            group in arbitrary::policy(),
            port in arbitrary::policy(),
            private_vlans in arbitrary::private_vlans(),
        ) {
            let mut model = tree(&switch);
            lay_over(&mut model, tree(&group), "");
            lay_over(&mut model, tree(&port), "");
            let model: Policy = serde_json::from_value(model).unwrap();
            let nothing = Policy::default();
            prop_assert_eq!(
                merge(&switch, &group, &port, &private_vlans),
                merge(&model, &nothing, &nothing, &private_vlans)
            );
        }

        #[test]
        fn a_private_vlan_carries_the_role_that_the_switch_gives_it(
            private_vlans in arbitrary::private_vlans(),
            vlan in arbitrary::vlan_id(),
        ) {
            let nothing = Policy::default();
            let policy = Policy { vlan: Some(Vlan::Private(vlan)), ..Policy::default() };
            let merged = merge(&policy, &nothing, &nothing, &private_vlans);
            let expected = private_vlans
                .role_of(vlan)
                .map(|(role, primary)| EffectiveVlan::Private { vlan, role, primary })
                .ok_or(NoRole(vlan));
            prop_assert_eq!(merged.map(|policy| policy.vlan), expected);
        }
    }

    #[test]
    fn what_no_layer_says_has_the_documented_default() {
        let nothing = Policy::default();
        let expected = EffectivePolicy {
            vlan: EffectiveVlan::Untagged,
            promiscuous: Verdict::Reject,
            mac_changes: Verdict::Accept,
            forged_transmits: Verdict::Accept,
            reserved_multicast: Verdict::Reject,
            allowed_addresses: AddressList::Any,
            ingress: ShapingLimit::Unlimited,
            egress: ShapingLimit::Unlimited,
            blocked: false,
        };
        assert_eq!(
            merge(&nothing, &nothing, &nothing, &PrivateVlans::default()),
            Ok(expected)
        );
    }
}
