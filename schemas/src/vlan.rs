// SPDX-License-Identifier: Apache-2.0
//! VLANs: the values that IEEE 802.1Q leaves to users, and how a port uses
//! them.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A VLAN identifier, 1 to 4094. IEEE 802.1Q keeps 0 for priority tags and
/// 4095 for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VlanId(u16);

/// A number or range that VLANs don't have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVlan {
    /// Outside 1 to 4094.
    #[error("VLAN {0} is outside the allowed 1 to 4094")]
    OutOfRange(i128),
    /// Not `100` or `100-199`.
    #[error("{0:?} is no VLAN range; allowed: a VLAN like 100 or a range like 100-199")]
    Unreadable(String),
    /// Last before first.
    #[error("VLAN range {first}-{last} is reversed; write {last}-{first}")]
    Reversed {
        /// The number on the left.
        first: u16,
        /// The number on the right.
        last: u16,
    },
    /// Two ranges share VLANs.
    #[error("VLAN ranges {0} and {1} overlap; each VLAN may be named once")]
    Overlap(VlanRange, VlanRange),
    /// A trunk of nothing.
    #[error("the list of VLANs is empty; name at least one VLAN, like [100, \"200-299\"]")]
    Empty,
}

impl VlanId {
    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = InvalidVlan;
    fn try_from(number: u16) -> Result<Self, InvalidVlan> {
        if (1..=4094).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidVlan::OutOfRange(number.into()))
        }
    }
}

fn vlan_from_integer(number: i128) -> Result<VlanId, InvalidVlan> {
    u16::try_from(number)
        .map_err(|_| InvalidVlan::OutOfRange(number))
        .and_then(VlanId::try_from)
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for VlanId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = VlanId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VLAN, 1 to 4094")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<VlanId, E> {
                vlan_from_integer(n.into()).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<VlanId, E> {
                vlan_from_integer(n.into()).map_err(E::custom)
            }
        }
        d.deserialize_any(Number)
    }
}

impl JsonSchema for VlanId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VlanId".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 4094, "description": "A VLAN identifier (IEEE 802.1Q)." })
    }
}

/// One VLAN, or all from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanRange {
    first: VlanId,
    last: VlanId,
}

impl VlanRange {
    /// The lowest VLAN of the range.
    #[must_use]
    pub fn first(self) -> VlanId {
        self.first
    }

    /// The highest VLAN of the range; not below the first.
    #[must_use]
    pub fn last(self) -> VlanId {
        self.last
    }
}

impl From<VlanId> for VlanRange {
    fn from(vlan: VlanId) -> Self {
        Self {
            first: vlan,
            last: vlan,
        }
    }
}

impl FromStr for VlanRange {
    type Err = InvalidVlan;
    fn from_str(text: &str) -> Result<Self, InvalidVlan> {
        let number = |part: &str| {
            part.trim()
                .parse::<u16>()
                .map_err(|_| InvalidVlan::Unreadable(text.chars().take(40).collect()))
                .and_then(VlanId::try_from)
        };
        match text.split_once('-') {
            None => number(text).map(Self::from),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first <= last {
                    Ok(Self { first, last })
                } else {
                    Err(InvalidVlan::Reversed {
                        first: first.get(),
                        last: last.get(),
                    })
                }
            }
        }
    }
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            fmt::Display::fmt(&self.first, f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for VlanRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            self.first.serialize(s)
        } else {
            s.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for VlanRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl de::Visitor<'_> for NumberOrText {
            type Value = VlanRange;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VLAN like 100 or a range like \"100-199\"")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<VlanRange, E> {
                vlan_from_integer(n.into())
                    .map(VlanRange::from)
                    .map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<VlanRange, E> {
                vlan_from_integer(n.into())
                    .map(VlanRange::from)
                    .map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<VlanRange, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(NumberOrText)
    }
}

impl JsonSchema for VlanRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VlanRange".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A VLAN, or a range of them written \"first-last\".",
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": 4094 },
                { "type": "string", "pattern": "^[0-9]{1,4}(-[0-9]{1,4})?$" },
            ],
        })
    }
}

/// A set of VLANs as disjoint ranges, ascending; never empty.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct VlanSet(Vec<VlanRange>);

impl VlanSet {
    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[VlanRange] {
        &self.0
    }
}

impl TryFrom<Vec<VlanRange>> for VlanSet {
    type Error = InvalidVlan;
    fn try_from(mut ranges: Vec<VlanRange>) -> Result<Self, InvalidVlan> {
        ranges.sort();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].last >= pair[1].first) {
            return Err(InvalidVlan::Overlap(pair[0], pair[1]));
        }
        if ranges.is_empty() {
            return Err(InvalidVlan::Empty);
        }
        Ok(Self(ranges))
    }
}

impl<'de> Deserialize<'de> for VlanSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let ranges = Vec::<VlanRange>::deserialize(d)?;
        Self::try_from(ranges).map_err(de::Error::custom)
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

impl JsonSchema for VlanSet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VlanSet".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let range = generator.subschema_for::<VlanRange>();
        json_schema!({ "type": "array", "items": range, "minItems": 1, "description": "Disjoint VLANs and ranges." })
    }
}

/// What a port does with VLAN tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vlan {
    /// Frames pass without a tag and none is added: the switch's own default,
    /// and how a group or a port undoes what it would inherit.
    Untagged,
    /// All frames belong to this VLAN; the vNIC sees no tag.
    Access(VlanId),
    /// Tagged frames of these VLANs pass.
    Trunk(Trunk),
    /// The port belongs to a private VLAN (RFC 5517): the switch's
    /// `private_vlans` say what role this VLAN has.
    Private(VlanId),
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untagged => f.write_str("untagged"),
            Self::Access(vlan) => write!(f, "access {vlan}"),
            Self::Trunk(Trunk { vlans, native }) => {
                write!(f, "trunk {vlans}")?;
                match native {
                    Some(native) => write!(f, " native {native}"),
                    None => Ok(()),
                }
            }
            Self::Private(vlan) => write!(f, "private {vlan}"),
        }
    }
}

/// VLANs that pass with their tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// VLANs that pass tagged.
    pub vlans: VlanSet,
    /// VLAN of the frames without a tag; none: such frames don't pass. It need
    /// not be among `vlans`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<VlanId>,
}

/// One private VLAN of a switch: a primary VLAN and its secondaries
/// (RFC 5517).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateVlan {
    /// The primary VLAN; its ports (routers, servers for all) are promiscuous.
    pub primary: VlanId,
    /// The VLAN whose ports reach promiscuous ports only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<VlanId>,
    /// VLANs whose ports reach each other and promiscuous ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<VlanId>,
}

/// What a VLAN is within a private VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VlanRole {
    /// Reaches every port of the private VLAN.
    Promiscuous,
    /// Reaches promiscuous ports.
    Isolated,
    /// Reaches its own community and promiscuous ports.
    Community,
}

/// The private VLANs of a switch. No VLAN has two roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct PrivateVlans(Vec<PrivateVlan>);

impl PrivateVlans {
    /// As written by the user.
    #[must_use]
    pub fn entries(&self) -> &[PrivateVlan] {
        &self.0
    }

    /// True if the switch has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every VLAN that has a role, with the primary it belongs to.
    pub fn roles(&self) -> impl Iterator<Item = (VlanId, VlanRole, VlanId)> + '_ {
        self.0.iter().flat_map(|entry| {
            let primary = entry.primary;
            std::iter::once((primary, VlanRole::Promiscuous, primary))
                .chain(entry.isolated.map(|v| (v, VlanRole::Isolated, primary)))
                .chain(
                    entry
                        .communities
                        .iter()
                        .map(move |v| (*v, VlanRole::Community, primary)),
                )
        })
    }

    /// The role of a VLAN and its primary, if it has one.
    #[must_use]
    pub fn role_of(&self, vlan: VlanId) -> Option<(VlanRole, VlanId)> {
        self.roles()
            .find(|(member, _, _)| *member == vlan)
            .map(|(_, role, primary)| (role, primary))
    }
}

impl<'de> Deserialize<'de> for PrivateVlans {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = Self(Vec::deserialize(d)?);
        let mut vlans: Vec<VlanId> = all.roles().map(|(vlan, _, _)| vlan).collect();
        vlans.sort();
        match vlans.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(de::Error::custom(format_args!(
                "VLAN {} is named twice; within the private VLANs of a switch a VLAN has one role",
                pair[0]
            ))),
            None => Ok(all),
        }
    }
}

/// Largest frame payload in bytes, 576 to 9216: from what every IPv4 host must
/// take (RFC 791) to the jumbo frames that switches commonly carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Mtu(u16);

/// The bytes that an [`Mtu`] may have.
const MTU: std::ops::RangeInclusive<u16> = 576..=9216;

impl Mtu {
    /// Bytes.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// The one that comes closest to what an interface has.
    #[must_use]
    pub fn nearest(bytes: i64) -> Self {
        let bytes = bytes.clamp((*MTU.start()).into(), (*MTU.end()).into());
        Self(u16::try_from(bytes).unwrap_or(*MTU.end()))
    }
}

impl Default for Mtu {
    /// Ethernet's own.
    fn default() -> Self {
        Self(1500)
    }
}

impl<'de> Deserialize<'de> for Mtu {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = i64::deserialize(d)?;
        u16::try_from(bytes)
            .ok()
            .filter(|bytes| MTU.contains(bytes))
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom(format_args!(
                    "MTU {bytes} is outside the allowed 576 to 9216 bytes"
                ))
            })
    }
}

impl JsonSchema for Mtu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mtu".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 576, "maximum": 9216, "description": "Largest frame payload in bytes." })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reserved_and_impossible_vlans_are_refused_by_number() {
        for bad in ["0", "4095", "5000", "-1", "70000"] {
            let error = serde_json::from_str::<VlanId>(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 4094"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_range_is_neither_reversed_nor_shared() {
        let parse = |text| serde_json::from_str::<VlanSet>(text).map_err(|e| e.to_string());
        assert!(parse(r#"["20-10"]"#).unwrap_err().contains("reversed"));
        assert!(parse(r#"["10-20", 20]"#).unwrap_err().contains("overlap"));
        assert!(parse("[]").unwrap_err().contains("empty"));
        assert_eq!(
            serde_json::to_string(&parse(r#"["30-40", 7, "9-9"]"#).unwrap()).unwrap(),
            r#"[7,9,"30-40"]"#
        );
    }
}
