// SPDX-License-Identifier: Apache-2.0
//! How hosts make themselves known, and what is known of them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Diverged, Position, V1};
use crate::ids::{HostName, Revision, SessionId, SwitchName};
use crate::time::Timestamp;

/// A host came, or came back: after each connection to the bus, repeated until
/// the full state of every switch named in the reply has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Version of the message.
    pub v: V1,
    /// Who.
    pub host: HostName,
    /// Identity of this run of the agent.
    pub agent: Uuid,
    /// The last session that it was in, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The agent's version.
    pub version: String,
    /// The machine or container that it runs on, for people.
    pub node: String,
    /// Where the bus sees it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What forwards its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<HostDatapath>,
    /// What it holds.
    #[serde(default)]
    pub observed: Vec<Observed>,
    /// The newest commits that it knows of, one of each store and run.
    #[serde(default)]
    pub positions: Vec<Position>,
}

/// What forwards a host's packets.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HostDatapath {
    /// Open vSwitch.
    OpenVswitch,
    /// Nothing: a datapath in the agent's memory stands for one.
    Emulated,
}

/// Reply to a hello: the agent is the host's from now on, and full states
/// follow, one clobber per switch. An agent that is not is told
/// [`ProblemCode::Namesake`](crate::ProblemCode::Namesake) instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HelloReply {
    /// Version of the message.
    pub v: V1,
    /// The session that the agent is in, and speaks in from now on.
    pub session: SessionId,
    /// The switches that the host is part of, and those that it holds but is
    /// no more part of: the full state of each follows.
    pub switches: Vec<SwitchName>,
}

/// The newest revision that a host has applied, per switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// The switch.
    pub switch: SwitchName,
    /// The revision.
    pub revision: Revision,
}

/// A host lives. The only thing on the bus when nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Version of the message.
    pub v: V1,
    /// Who.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// Number of the newest runtime event of this run of the agent; 0 before
    /// the first. A gap tells the collector that it missed one.
    pub seq: u64,
    /// When the next heartbeat is due, in ms; three missed mean absent.
    pub interval_ms: u64,
    /// Whether it is the last one, since the agent stops: nobody has to be asked
    /// whether it lives before another one is the host's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// What it has applied.
    #[serde(default)]
    pub observed: Vec<Observed>,
    /// The newest commits that it knows of, one of each store and run.
    #[serde(default)]
    pub positions: Vec<Position>,
}

/// Whether the agent that is in this session is there. Only that one answers;
/// one whose session is an earlier one is told by it that its time is over, and
/// says hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identify {
    /// Version of the message.
    pub v: V1,
    /// The session.
    pub session: SessionId,
}

/// Answer to [`Identify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identified {
    /// Version of the message.
    pub v: V1,
    /// Who.
    pub host: HostName,
    /// The session that it is in.
    pub session: SessionId,
}

/// Hosts wanted; all filters must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostListRequest {
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only hosts of this switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<HostName>,
}

/// A page of hosts, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostListReply {
    /// Version of the message.
    pub v: V1,
    /// The newest commit.
    pub revision: Revision,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<HostName>,
}

/// A host will never come back. Refused while it is there, or while a switch
/// names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The host.
    pub host: HostName,
}

/// Reply to [`ForgetRequest`]: the host is forgotten, and nothing is owed to
/// it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForgetReply {
    /// Version of the message.
    pub v: V1,
    /// The host.
    pub host: HostName,
    /// The commit.
    pub revision: Revision,
    /// Ports that were on it, and are on no host now.
    pub ports: u64,
    /// What the operator should know though the request is carried out: ports that
    /// a host may still have wired, or that wait for a plug. One text each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// Its name.
    pub host: HostName,
    /// Whether it is there.
    pub presence: Presence,
    /// When it was last heard of, since the publisher runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// The session of its agent: what is said in any other counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The machine or container that its agent runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where the bus saw its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What forwards its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<HostDatapath>,
    /// What it follows instead of this publisher's ledger. Nothing of the
    /// ledger counts as applied there, and nothing is pushed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Diverged>,
    /// Other agents that want to be this host, and are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namesakes: Vec<Namesake>,
    /// The switches that it is part of.
    pub switches: Vec<SwitchOnHost>,
}

/// An agent that calls itself as a host does whose agent is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Namesake {
    /// Identity of this run of the agent.
    pub agent: Uuid,
    /// The machine or container that it runs on.
    pub node: String,
    /// Where the bus saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The last session that it was in, if it was ever the host's agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When it last said hello.
    pub heard: Timestamp,
}

/// Whether a host is there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Its heartbeats come.
    Present,
    /// Three heartbeats are missing, or none came for three minutes after the
    /// publisher's start.
    Absent,
    /// Not heard of since the publisher started, and it may still come.
    Unknown,
    /// Named by a switch, but it never said hello.
    Never,
}

/// A switch on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchOnHost {
    /// The switch.
    pub switch: SwitchName,
    /// The newest commit that concerns the host.
    pub wanted: Revision,
    /// The newest commit that it has applied, if that is known and the host
    /// follows this publisher's ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Revision>,
    /// DVPorts placed there.
    pub ports: u64,
}
