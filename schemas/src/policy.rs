// SPDX-License-Identifier: Apache-2.0
//! The policy of a port: what a switch gives by default, a port group refines
//! and a port may override, field by field. A field left out is inherited;
//! the host merges the three.

use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::address::AddressList;
use crate::vlan::Vlan;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One layer of policy. What is left out is inherited from the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// VLAN tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// What a vNIC may claim to be and may see.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Rate limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shaping: Shaping,
    /// True: the port passes no frame in either direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
}

/// What a vNIC may claim to be and may see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// May the vNIC see frames that are addressed to others?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promiscuous: Option<Verdict>,
    /// May the vNIC receive on another MAC address than its configured one?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_changes: Option<Verdict>,
    /// May the vNIC send from another MAC address than its configured one?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forged_transmits: Option<Verdict>,
    /// May the vNIC send and receive frames to the reserved group addresses of
    /// IEEE 802.1Q (spanning tree, LACP, EAPOL, LLDP, PAUSE) and to their like
    /// of Cisco and Extreme? They pass between the ports of one host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_multicast: Option<Verdict>,
    /// Source addresses that the vNIC may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_addresses: Option<AddressList>,
}

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is dropped.
    Reject,
}

/// Rate limits, seen from the switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shaping {
    /// From the vNIC into the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<ShapingLimit>,
    /// From the switch to the vNIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<ShapingLimit>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShapingLimit {
    /// As fast as the datapath can; undoes an inherited limit.
    Unlimited,
    /// A token bucket.
    Rate(Rate),
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, try_from = "UncheckedRate")]
pub struct Rate {
    /// Long-term rate in kbit/s (1,000 bit/s). A host says which rates and bursts
    /// it can't hold, and holds to the nearest.
    pub average_kbps: NonZeroU32,
    /// Highest rate during a burst in kbit/s; not below the average.
    pub peak_kbps: NonZeroU32,
    /// Bytes that may pass above the average rate, in KiB (1,024 bytes).
    pub burst_kib: NonZeroU32,
}

// A rate before its fields are held against each other. Its documentation is
// that of the JSON Schema.
/// A token bucket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rate")]
struct UncheckedRate {
    /// Long-term rate in kbit/s (1,000 bit/s). A host says which rates and bursts
    /// it can't hold, and holds to the nearest.
    average_kbps: NonZeroU32,
    /// Highest rate during a burst in kbit/s; not below the average.
    peak_kbps: NonZeroU32,
    /// Bytes that may pass above the average rate, in KiB (1,024 bytes).
    burst_kib: NonZeroU32,
}

impl TryFrom<UncheckedRate> for Rate {
    type Error = String;
    fn try_from(rate: UncheckedRate) -> Result<Self, String> {
        let UncheckedRate {
            average_kbps,
            peak_kbps,
            burst_kib,
        } = rate;
        if peak_kbps < average_kbps {
            return Err(format!(
                "peak_kbps {peak_kbps} is below average_kbps {average_kbps}; allowed: {average_kbps} or more"
            ));
        }
        Ok(Self {
            average_kbps,
            peak_kbps,
            burst_kib,
        })
    }
}

impl fmt::Display for ShapingLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Rate(rate) => write!(
                f,
                "{} kbit/s, peak {} kbit/s, burst {} KiB",
                rate.average_kbps, rate.peak_kbps, rate.burst_kib
            ),
        }
    }
}

impl Serialize for ShapingLimit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => s.serialize_str("unlimited"),
            Self::Rate(rate) => rate.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for ShapingLimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct WordOrRate;
        impl<'de> de::Visitor<'de> for WordOrRate {
            type Value = ShapingLimit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"unlimited\" or a rate with average_kbps, peak_kbps and burst_kib")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ShapingLimit, E> {
                if text == "unlimited" {
                    Ok(ShapingLimit::Unlimited)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ShapingLimit, A::Error> {
                Rate::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(ShapingLimit::Rate)
            }
        }
        d.deserialize_any(WordOrRate)
    }
}

impl JsonSchema for ShapingLimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ShapingLimit".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<Rate>();
        json_schema!({ "oneOf": [{ "const": "unlimited" }, rate] })
    }
}

/// Which way a frame goes, seen from the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the vNIC into the switch.
    Ingress,
    /// From the switch to the vNIC.
    Egress,
    /// Either way.
    #[default]
    Both,
}

/// The fields of a policy, as units of inheritance and of permission to
/// override.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum PolicyField {
    /// [`Policy::vlan`].
    #[serde(rename = "vlan")]
    Vlan,
    /// [`Security::promiscuous`].
    #[serde(rename = "security.promiscuous")]
    Promiscuous,
    /// [`Security::mac_changes`].
    #[serde(rename = "security.mac_changes")]
    MacChanges,
    /// [`Security::forged_transmits`].
    #[serde(rename = "security.forged_transmits")]
    ForgedTransmits,
    /// [`Security::reserved_multicast`].
    #[serde(rename = "security.reserved_multicast")]
    ReservedMulticast,
    /// [`Security::allowed_addresses`].
    #[serde(rename = "security.allowed_addresses")]
    AllowedAddresses,
    /// [`Shaping::ingress`].
    #[serde(rename = "shaping.ingress")]
    ShapingIngress,
    /// [`Shaping::egress`].
    #[serde(rename = "shaping.egress")]
    ShapingEgress,
    /// [`Policy::blocked`].
    #[serde(rename = "blocked")]
    Blocked,
}

impl PolicyField {
    /// Every field.
    pub const ALL: [Self; 9] = [
        Self::Vlan,
        Self::Promiscuous,
        Self::MacChanges,
        Self::ForgedTransmits,
        Self::ReservedMulticast,
        Self::AllowedAddresses,
        Self::ShapingIngress,
        Self::ShapingEgress,
        Self::Blocked,
    ];

    /// The path of the field below `policy`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Vlan => "vlan",
            Self::Promiscuous => "security.promiscuous",
            Self::MacChanges => "security.mac_changes",
            Self::ForgedTransmits => "security.forged_transmits",
            Self::ReservedMulticast => "security.reserved_multicast",
            Self::AllowedAddresses => "security.allowed_addresses",
            Self::ShapingIngress => "shaping.ingress",
            Self::ShapingEgress => "shaping.egress",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for PolicyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.path())
    }
}

impl Policy {
    /// The fields that this layer sets itself.
    pub fn set_fields(&self) -> impl Iterator<Item = PolicyField> + '_ {
        PolicyField::ALL
            .into_iter()
            .filter(|field| self.sets(*field))
    }

    /// True if this layer sets the field itself.
    #[must_use]
    pub fn sets(&self, field: PolicyField) -> bool {
        // Destructured, so that a new field doesn't compile until it is here.
        let Self {
            vlan,
            security:
                Security {
                    promiscuous,
                    mac_changes,
                    forged_transmits,
                    reserved_multicast,
                    allowed_addresses,
                },
            shaping: Shaping { ingress, egress },
            blocked,
        } = self;
        match field {
            PolicyField::Vlan => vlan.is_some(),
            PolicyField::Promiscuous => promiscuous.is_some(),
            PolicyField::MacChanges => mac_changes.is_some(),
            PolicyField::ForgedTransmits => forged_transmits.is_some(),
            PolicyField::ReservedMulticast => reserved_multicast.is_some(),
            PolicyField::AllowedAddresses => allowed_addresses.is_some(),
            PolicyField::ShapingIngress => ingress.is_some(),
            PolicyField::ShapingEgress => egress.is_some(),
            PolicyField::Blocked => blocked.is_some(),
        }
    }
}
