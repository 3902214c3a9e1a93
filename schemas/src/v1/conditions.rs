// SPDX-License-Identifier: Apache-2.0
//! Conditions: what is wrong on a host for as long as it lasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::V1;
use crate::ids::{HostName, MirrorName, PortId, SessionId, SwitchName};
use crate::time::Timestamp;

/// What kind of thing is wrong.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// A vNIC is plugged in here, and its port is held by another host.
    ClaimWaits,
    /// A vNIC is plugged in here, and the publisher refuses it the port.
    ClaimRefused,
    /// An interface names a port and can't be its vNIC: it has no device, is a
    /// duplicate, or says something that can't be read.
    InterfaceUnusable,
    /// Something that can't be read, and so counts as not said.
    UnreadableWord,
    /// A port is placed here, and nothing is plugged in.
    NothingPluggedIn,
    /// Somebody else changed what is ours, and it stays so.
    Drift,
    /// Settings of others are in force beside ours, like QoS or policing.
    ForeignSettings,
    /// A bond has no partner that speaks LACP with it.
    LinkAggregation,
    /// A mirror session copies less than it says.
    MirrorIncomplete,
    /// What is written is not in force.
    NotInForce,
}

impl ConditionKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::ClaimWaits,
        Self::ClaimRefused,
        Self::InterfaceUnusable,
        Self::UnreadableWord,
        Self::NothingPluggedIn,
        Self::Drift,
        Self::ForeignSettings,
        Self::LinkAggregation,
        Self::MirrorIncomplete,
        Self::NotInForce,
    ];

    /// The kind in a few words, for tables and logs.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaimWaits => "claim waits",
            Self::ClaimRefused => "claim refused",
            Self::InterfaceUnusable => "interface unusable",
            Self::UnreadableWord => "word unreadable",
            Self::NothingPluggedIn => "nothing plugged in",
            Self::Drift => "drift",
            Self::ForeignSettings => "foreign settings",
            Self::LinkAggregation => "link aggregation down",
            Self::MirrorIncomplete => "mirror incomplete",
            Self::NotInForce => "not in force",
        }
    }
}

/// What a condition is about: all that is named here.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct ConditionTarget {
    /// The switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
    /// The mirror session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorName>,
    /// The interface, as the host calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The field or setting, as the datapath calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Something that is wrong on a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// What kind of thing.
    pub kind: ConditionKind,
    /// What it is about.
    pub on: ConditionTarget,
    /// What is wrong, and what to do about it.
    pub message: String,
    /// Since when, by the host's clock.
    pub since: Timestamp,
}

/// All that is wrong on a host, told whenever that changes: what was in the
/// event before and is not in this one is over. Acknowledged like
/// [`super::Changed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostConditions {
    /// Version of the message.
    pub v: V1,
    /// Who.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// Number of the event within the run, from 1.
    pub seq: u64,
    /// When it was seen.
    pub at: Timestamp,
    /// The conditions.
    pub list: ConditionList,
}

/// The conditions of a host at one time, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConditionList {
    /// The conditions, as far as one message has room for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Those beyond that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Conditions are wanted; all filters must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConditionsRequest {
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only what names this switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// Only what names this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
    /// Only this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ConditionKind>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<HostName>,
}

/// What is wrong on a host, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConditionsOfHost {
    /// The host.
    pub host: HostName,
    /// When the collector heard it.
    pub heard: Timestamp,
    /// The conditions that were asked for.
    pub list: ConditionList,
}

/// A page of conditions, by host; hosts without any are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeConditionsReply {
    /// Version of the message.
    pub v: V1,
    /// The hosts.
    pub hosts: Vec<ConditionsOfHost>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<HostName>,
}
