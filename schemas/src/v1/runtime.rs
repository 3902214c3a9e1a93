// SPDX-License-Identifier: Apache-2.0
//! Runtime state of ports: events from the hosts, and what the collector
//! answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConditionList, Counters, CountersOf, Forgotten, HostConditions, V1};
use crate::ids::{
    Epoch, HostName, MirrorName, PortGroupName, PortId, Revision, SessionId, StoreId, SwitchName,
};
use crate::time::Timestamp;
use crate::vlan::Vlan;

/// Whether a virtual port is ready to carry frames.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The vNIC and the virtual port are ready.
    Up,
    /// They are not, or there is no vNIC.
    Down,
}

/// The rare states of a virtual port: sent once per change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortRuntime {
    /// The port.
    pub port: PortId,
    /// Its switch.
    pub switch: SwitchName,
    /// Its group.
    pub group: PortGroupName,
    /// The placement that this belongs to.
    pub epoch: Epoch,
    /// The revision of the port's own configuration that is applied.
    pub revision: Revision,
    /// Whether it carries frames.
    pub link: Link,
    /// Its effective VLAN.
    pub vlan: Vlan,
    /// Whether it is blocked.
    pub blocked: bool,
    /// Mirror sessions that copy its frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrored: Vec<MirrorName>,
}

/// A virtual port that is no more on its host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortGone {
    /// The port.
    pub port: PortId,
    /// The placement that ended.
    pub epoch: Epoch,
}

/// Rare states that changed on a host. A request: the collector acknowledges
/// after its commit, and the host repeats until it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
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
    /// Ports with their new state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRuntime>,
    /// Ports that are no more on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<PortGone>,
}

/// Busy states that stopped changing on a host; acknowledged like [`Changed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
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
    /// The counters.
    pub counters: Vec<CountersOf>,
}

/// Something changed on a host, and is to be fetched: told in the stead of
/// [`Changed`], [`Settled`] or [`HostConditions`], and acknowledged like them once it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventNotice {
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
    /// The ports that it is about.
    pub ports: Vec<PortId>,
}

/// The event of an [`EventNotice`] is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fetch {
    /// Version of the message.
    pub v: V1,
    /// The session in which it was told.
    pub session: SessionId,
    /// Its number.
    pub seq: u64,
}

/// The event as it would have been pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fetched {
    /// Rare states changed.
    Changed(Changed),
    /// Busy states stopped changing.
    Settled(Settled),
    /// What is wrong on the host is another by now.
    Conditions(HostConditions),
}

/// The collector has the event, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventAck {
    /// Version of the message.
    pub v: V1,
    /// Number of the event.
    pub seq: u64,
}

/// The stored runtime state of one port is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeGetRequest {
    /// The port.
    pub port: PortId,
}

/// Stored runtime states are wanted; all filters must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeListRequest {
    /// Only this switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// Only this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<PortGroupName>,
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only this link state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Only states not updated since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<PortId>,
}

/// What the collector has of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRecord {
    /// The port.
    pub port: PortId,
    /// The host that told it last.
    pub host: HostName,
    /// When that was: the newer of the two times below.
    pub updated: Timestamp,
    /// Its rare states; none once the virtual port is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PortRuntime>,
    /// When the states were told, or that the virtual port is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Counters of the newest epoch, as they last settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// When the counters settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
    /// Counters over all epochs, the newest included. They never go down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Counters>,
}

/// A page of runtime states, by port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeListReply {
    /// Version of the message.
    pub v: V1,
    /// The states.
    pub ports: Vec<RuntimeRecord>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PortId>,
}

/// What was told of a port is wanted, for debugging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeHistoryRequest {
    /// The port.
    pub port: PortId,
}

/// The newest tellings of a port, the oldest first. How many are kept is
/// bounded per port and in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeHistoryReply {
    /// Version of the message.
    pub v: V1,
    /// The port.
    pub port: PortId,
    /// What was told.
    pub events: Vec<PastEvent>,
}

/// Something that a host told of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PastEvent {
    /// When it came to the collector.
    pub heard: Timestamp,
    /// When the host saw it, by the host's clock.
    pub at: Timestamp,
    /// Who told it.
    pub host: HostName,
    /// The placement that it belongs to.
    pub epoch: Epoch,
    /// How it came.
    pub by: ToldBy,
    /// Whether it was news. What is older than what was known already is not,
    /// and changed nothing.
    pub news: bool,
    /// What was told.
    pub told: Telling,
}

/// How something came to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToldBy {
    /// By an event.
    Event,
    /// By a snapshot, as an event got lost or the agent was new.
    Snapshot,
    /// By nobody: the host was forgotten, and will never tell it.
    Forgotten,
}

/// What a host tells of a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// Its rare states.
    State(PortRuntime),
    /// The virtual port is no more.
    Gone,
    /// Its counters settled.
    Counters(Counters),
}

/// Sums over ports are wanted; all filters must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRollupRequest {
    /// One row for each of these.
    pub by: RollupBy,
    /// Only this switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// Only this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<PortGroupName>,
    /// Only this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RollupKey>,
}

/// What ports are summed up by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RollupBy {
    /// By switch.
    Switch,
    /// By port group.
    Group,
    /// By host.
    Host,
}

/// Names a row.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RollupKey {
    /// A switch.
    Switch(SwitchName),
    /// A group, within its switch.
    Group(SwitchName, PortGroupName),
    /// A host.
    Host(HostName),
}

/// Ports summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollup {
    /// What they have in common.
    pub key: RollupKey,
    /// Virtual ports that are there.
    pub ports: u64,
    /// Of them, those that carry frames: up and not blocked.
    pub up: u64,
    /// Of them, those without a link.
    pub down: u64,
    /// Of them, those that are blocked.
    pub blocked: u64,
    /// Their counters over all their placements.
    pub total: Counters,
    /// When the one of them was told of that was not told of for longest.
    pub oldest: Timestamp,
}

/// A page of sums, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeRollupReply {
    /// Version of the message.
    pub v: V1,
    /// The sums.
    pub rows: Vec<Rollup>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RollupKey>,
}

/// What the publisher tells the collector of hosts that will never come back:
/// their virtual ports are gone. Again and again the same word has one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeForgetRequest {
    /// Version of the message.
    pub v: V1,
    /// The ledger that the commits below are of.
    #[serde(default)]
    pub store: StoreId,
    /// The hosts. Placements are numbered by the commits that made them, so
    /// what is told of a later one than the commit here is of a host that came
    /// back all the same, and is kept.
    pub hosts: Vec<Forgotten>,
}

/// Reply to [`RuntimeForgetRequest`]: it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeForgetReply {
    /// Version of the message.
    pub v: V1,
    /// Virtual ports that are gone by this word.
    pub ports: u64,
}

/// Runtime state is wanted from a host now, past the store. One of the two
/// must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LiveRequest {
    /// This port, on the host that last told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
    /// All ports of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<PortId>,
}

/// The collector's question to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// Version of the message.
    pub v: V1,
    /// Only this port; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PortId>,
}

impl Live {
    /// Whether a port is asked for.
    #[must_use]
    pub fn wants(&self, port: &PortId) -> bool {
        self.port.as_ref().is_none_or(|only| only == port)
            && self.after.as_ref().is_none_or(|after| port > after)
    }
}

/// Runtime state as the host reads it now; a page of it, by port. Each page is
/// read when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveReply {
    /// Version of the message.
    pub v: V1,
    /// Who.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// When it was read.
    pub at: Timestamp,
    /// Rare states.
    pub ports: Vec<PortRuntime>,
    /// Counters of the present placements.
    pub counters: Vec<CountersOf>,
    /// The same with all earlier placements, as far as the collector knows
    /// them; a host by itself knows of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub totals: Vec<CountersOf>,
    /// What is wrong on the host; only on the first page of all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<ConditionList>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PortId>,
}
