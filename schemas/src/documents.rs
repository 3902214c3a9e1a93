// SPDX-License-Identifier: Apache-2.0
//! What users write: one document per object, its whole final state. A field
//! left out has its default, whatever the object had before; the one
//! exception is where a port is placed (see [`PortDoc::host`]).

use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::address::MacAddr;
use crate::codec::from_tree;
use crate::ids::{HostName, MirrorName, PortGroupName, PortId, SwitchName, UplinkName, VnicId};
use crate::policy::{Direction, Policy, PolicyField};
use crate::problem::Problem;
use crate::telling::RuntimeSettings;
use crate::vlan::{Mtu, PrivateVlans, VlanId};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The kinds of objects.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// A distributed switch.
    Switch,
    /// A port group of a switch.
    PortGroup,
    /// A DVPort.
    Port,
    /// A mirroring session of a switch.
    MirrorSession,
}

impl Kind {
    /// Every kind, in the order in which one needs the other.
    pub const ALL: [Self; 4] = [
        Self::Switch,
        Self::PortGroup,
        Self::Port,
        Self::MirrorSession,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Switch => "Switch",
            Self::PortGroup => "PortGroup",
            Self::Port => "Port",
            Self::MirrorSession => "MirrorSession",
        })
    }
}

/// Names an object, uniquely in the store. Written `Switch prod`,
/// `PortGroup prod/web`, `Port web-1`, `MirrorSession prod/tap`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKey {
    /// A switch.
    Switch(SwitchName),
    /// A port group of a switch.
    PortGroup(SwitchName, PortGroupName),
    /// A DVPort.
    Port(PortId),
    /// A mirroring session of a switch.
    MirrorSession(SwitchName, MirrorName),
}

impl ObjectKey {
    /// The object's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Switch(_) => Kind::Switch,
            Self::PortGroup(..) => Kind::PortGroup,
            Self::Port(_) => Kind::Port,
            Self::MirrorSession(..) => Kind::MirrorSession,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Switch(name) => write!(f, "{kind} {name}"),
            Self::PortGroup(switch, name) => write!(f, "{kind} {switch}/{name}"),
            Self::Port(name) => write!(f, "{kind} {name}"),
            Self::MirrorSession(switch, name) => write!(f, "{kind} {switch}/{name}"),
        }
    }
}

/// The hosts that a switch spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Hosts {
    /// Every host that has ever said hello.
    #[default]
    All,
    /// These; a host may be named before it exists.
    Only(BTreeSet<HostName>),
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => s.serialize_str("all"),
            Self::Only(hosts) => s.collect_seq(hosts),
        }
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct AllOrList;
        impl<'de> de::Visitor<'de> for AllOrList {
            type Value = Hosts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or a list of host names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hosts, E> {
                if text == "all" {
                    Ok(Hosts::All)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Hosts, A::Error> {
                let mut hosts = BTreeSet::new();
                while let Some(host) = seq.next_element::<HostName>()? {
                    if let Some(twice) = hosts.replace(host) {
                        return Err(de::Error::custom(format_args!(
                            "host {twice} is named twice; name each host once"
                        )));
                    }
                }
                Ok(Hosts::Only(hosts))
            }
        }
        d.deserialize_any(AllOrList)
    }
}

impl JsonSchema for Hosts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hosts".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let host = generator.subschema_for::<HostName>();
        json_schema!({
            "description": "The hosts that a switch spans: \"all\" that ever said hello, or a list.",
            "oneOf": [
                { "const": "all" },
                { "type": "array", "items": host, "uniqueItems": true },
            ],
        })
    }
}

/// How several uplinks share the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Teaming {
    /// One carries all, the next takes over when it fails.
    #[default]
    ActiveBackup,
    /// By source MAC address and VLAN, rebalanced by load.
    BalanceSlb,
    /// Link aggregation with the physical switch (IEEE 802.1AX), by flow.
    Lacp,
}

/// A distributed switch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchDoc {
    /// Its name.
    pub name: SwitchName,
    /// The hosts that it spans.
    #[serde(default)]
    pub hosts: Hosts,
    /// Largest frame payload in bytes.
    #[serde(default)]
    pub mtu: Mtu,
    /// Physical interfaces of every host that carry the switch's traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<UplinkName>,
    /// How the uplinks share the traffic.
    #[serde(default, skip_serializing_if = "is_default")]
    pub teaming: Teaming,
    /// Private VLANs that policies may refer to.
    #[serde(default, skip_serializing_if = "PrivateVlans::is_empty")]
    pub private_vlans: PrivateVlans,
    /// How hosts tell the runtime state of its ports.
    #[serde(default, skip_serializing_if = "RuntimeSettings::is_default")]
    pub runtime: RuntimeSettings,
    /// What every port of the switch has unless its group or itself says
    /// otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
}

/// A named policy of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortGroupDoc {
    /// Its name, unique within the switch.
    pub name: PortGroupName,
    /// Its switch.
    pub switch: SwitchName,
    /// What the group's ports have unless a port says otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// The fields that its ports may override.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub overridable: BTreeSet<PolicyField>,
    /// Where its ports come from, and how long they stay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub binding: Binding,
}

/// Where the ports of a group come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// An operator makes and deletes them; vNICs come and go.
    #[default]
    Static,
    /// A port comes with the connection of a vNIC, if it isn't there yet, and
    /// is deleted as that ends.
    Ephemeral,
}

/// A DVPort.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortDoc {
    /// Its name, unique in the store.
    pub name: PortId,
    /// Its switch; fixed for the port's life.
    pub switch: SwitchName,
    /// Its port group.
    pub group: PortGroupName,
    /// The host to place it on. Left out: it stays where it is, since
    /// placement also changes by connecting and moving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The vNIC to connect. Left out: the connection stays as it is. Another
    /// one than the connected is refused until that is disconnected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnic: Option<VnicId>,
    /// The configured MAC address of the vNIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// What this port has different from its group, where the group allows it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
}

/// A mirroring session of a switch: copies of frames for an analyser.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSessionDoc {
    /// Its name, unique within the switch.
    pub name: MirrorName,
    /// Its switch.
    pub switch: SwitchName,
    /// Which frames are copied.
    pub source: MirrorSource,
    /// Where the copies go.
    pub destination: MirrorDestination,
}

/// Frames to copy: those of the ports and those of the VLANs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSource {
    /// Ports of the session's switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<MirrorPort>,
    /// VLANs whose frames are copied: into a VLAN as vNICs send them on any host,
    /// to a port as vNICs of that port's host send and get them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<VlanId>,
}

/// A port whose frames are copied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorPort {
    /// The port.
    pub port: PortId,
    /// Which of its frames.
    #[serde(default)]
    pub direction: Direction,
}

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MirrorDestination {
    /// Out of a port of the same switch, which gets nothing else then. Copies
    /// don't leave their host, so sources are to be on that port's.
    Port(PortId),
    /// Into a VLAN, on every host; analysers are ports in it. It is no source
    /// VLAN of any session, and no VLAN of a source port of a session into a VLAN.
    Vlan(VlanId),
}

/// An object as a user writes it; `kind` says which.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Document {
    /// A distributed switch.
    Switch(SwitchDoc),
    /// A port group.
    PortGroup(PortGroupDoc),
    /// A DVPort.
    Port(PortDoc),
    /// A mirroring session.
    MirrorSession(MirrorSessionDoc),
}

impl Document {
    /// The object that the document describes.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Switch(doc) => ObjectKey::Switch(doc.name.clone()),
            Self::PortGroup(doc) => ObjectKey::PortGroup(doc.switch.clone(), doc.name.clone()),
            Self::Port(doc) => ObjectKey::Port(doc.name.clone()),
            Self::MirrorSession(doc) => {
                ObjectKey::MirrorSession(doc.switch.clone(), doc.name.clone())
            }
        }
    }

    /// Reads a document from a tree.
    ///
    /// # Errors
    /// Names the document as far as it is known, the path of the field and
    /// what is allowed there.
    pub fn from_tree(tree: Value) -> Result<Self, Problem> {
        let Value::Object(mut fields) = tree else {
            return Err(Problem::invalid("a document must be an object with a kind")
                .allow("{\"kind\": \"Switch\", …}"));
        };
        let kind = match fields.shift_remove("kind") {
            Some(kind) => from_tree::<Kind>(kind).map_err(|p| p.at("kind"))?,
            None => {
                return Err(Problem::invalid("the document has no kind")
                    .at("kind")
                    .allow("Switch, PortGroup, Port, MirrorSession"));
            }
        };
        let called = match fields.get("name") {
            Some(Value::String(name)) => format!("{kind} {name}"),
            Some(_) | None => kind.to_string(),
        };
        let rest = Value::Object(fields);
        match kind {
            Kind::Switch => from_tree(rest).map(Self::Switch),
            Kind::PortGroup => from_tree(rest).map(Self::PortGroup),
            Kind::Port => from_tree(rest).map(Self::Port),
            Kind::MirrorSession => from_tree(rest).map(Self::MirrorSession),
        }
        .map_err(|problem| problem.of(called))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_tree(Value::deserialize(d)?).map_err(de::Error::custom)
    }
}
