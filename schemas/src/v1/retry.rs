// SPDX-License-Identifier: Apache-2.0
//! The durable queues: what is put in, and how they are shown and worked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::V1;
use crate::ids::{HostName, PortId, Revision, StoreId, SwitchName};
use crate::time::Timestamp;

/// What the publisher hands over after a push: the pushes and removals that
/// were not acknowledged, and the full states that were. Acknowledged after
/// the commit; may be repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPut {
    /// Version of the message.
    pub v: V1,
    /// The publisher's ledger, whose revisions these are. A publisher that
    /// names none counts as working on the earliest.
    #[serde(default)]
    pub store: StoreId,
    /// Pushes to repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repush: Vec<Attempt<RepushKey>>,
    /// Removals to repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rip: Vec<Attempt<RipKey>>,
    /// Full states that hosts have applied: older entries are done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settlement>,
    /// Hosts that will never come back: older entries are of no use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<Forgotten>,
}

/// A call to a host that was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt<K> {
    /// What it was about.
    #[serde(flatten)]
    pub key: K,
    /// The commit that caused it.
    pub revision: Revision,
    /// What went wrong.
    pub error: String,
}

/// A re-push entry's identity: a dead host costs one entry per switch, however
/// many changes it misses.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct RepushKey {
    /// The host.
    pub host: HostName,
    /// The switch.
    pub switch: SwitchName,
}

/// A rip entry's identity.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct RipKey {
    /// The host.
    pub host: HostName,
    /// The switch that the port belonged to.
    pub switch: SwitchName,
    /// The port whose virtual port is to go.
    pub port: PortId,
}

/// A host has applied the full state of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settlement {
    /// The host.
    pub host: HostName,
    /// The switch.
    pub switch: SwitchName,
    /// The revision at which the full state was rendered.
    pub revision: Revision,
}

/// A host that will never come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// The host.
    pub host: HostName,
    /// The commit that forgot it. What a queue has of this commit or a later
    /// one is kept: it is of a host that came back all the same.
    pub revision: Revision,
}

/// Reply to [`RetryPut`]: all of it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutReply {
    /// Version of the message.
    pub v: V1,
    /// Entries in both queues now.
    pub entries: u64,
}

/// Which queue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// Hosts that are out of sync.
    Repush,
    /// Virtual ports that are to go.
    Rip,
}

/// Entries wanted; all filters must match. An empty object lists both queues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryListRequest {
    /// Only this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only this switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryListReply {
    /// Version of the message.
    pub v: V1,
    /// The time at which this was true.
    pub now: Timestamp,
    /// Re-push entries in all, before filters.
    pub repush_total: u64,
    /// Rip entries in all, before filters.
    pub rip_total: u64,
    /// Hosts that are out of sync, by host and switch.
    pub out_of_sync: Vec<RepushEntry>,
    /// Virtual ports that are to go, by host and port.
    pub rip: Vec<RipEntry>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A host that is out of sync with a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepushEntry {
    /// The host and the switch.
    #[serde(flatten)]
    pub key: RepushKey,
    /// How it stands.
    #[serde(flatten)]
    pub state: EntryState,
}

/// A virtual port that is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RipEntry {
    /// The host, the switch and the port.
    #[serde(flatten)]
    pub key: RipKey,
    /// How it stands.
    #[serde(flatten)]
    pub state: EntryState,
}

/// How an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryState {
    /// The newest commit that the host is known to miss.
    pub revision: Revision,
    /// When the entry was made.
    pub since: Timestamp,
    /// Tries so far, the first push included.
    pub attempts: u32,
    /// What went wrong last.
    pub last_error: String,
    /// Why the host was not tried since, if so; what it said itself is above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_tried: Option<String>,
    /// When it is tried next; none while it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

/// Entries to act on; all filters must match. At least one must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntrySelection {
    /// Only this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only this switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// Only this port's rip entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
}

/// Reply to a selection: how many entries it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelectionReply {
    /// Version of the message.
    pub v: V1,
    /// Entries that were acted on.
    pub entries: u64,
}
