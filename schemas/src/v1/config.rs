// SPDX-License-Identifier: Apache-2.0
//! Configuration requests and their replies.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::V1;
use super::agent::{Change, Clobber, Remove};
use crate::codec::{Format, decode_tree, from_tree};
use crate::documents::{Document, Kind, ObjectKey};
use crate::ids::{Epoch, HostName, PortGroupName, PortId, Revision, SessionId, SwitchName, VnicId};
use crate::problem::Problem;

/// Most documents in one request: 10,000 hosts' worth of one port each, and
/// more than fit into 1 MiB when written tersely.
pub const DOCUMENTS_MAX: usize = 20_000;

/// What is asked besides the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// When to reply; default: as soon as the change is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Bound of the wait; default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Deadline>,
    /// True: ask the hosts what they would do, and write nothing anywhere.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// Refuse if any of the named objects was changed by a later commit, or may
    /// have been deleted by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<Revision>,
}

// serde's skip_serializing_if passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// When to reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// When the change is durable in the publisher's ledger.
    Committed,
    /// When every host has applied it, or the bound is over.
    Applied,
}

/// A bound on a wait, 1 ms to 5 min, written like `10s`, `500ms`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(Duration);

impl Deadline {
    /// The duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl std::str::FromStr for Deadline {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .ok()
            .filter(|d| (Duration::from_millis(1)..=Duration::from_secs(300)).contains(d))
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} is no bound; allowed: 1ms to 5m, written like 500ms, 10s, 2m")
            })
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl Serialize for Deadline {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string().replace(' ', ""))
    }
}

impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Deadline {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Deadline".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "1ms to 5m, like 500ms, 10s, 2m.", "examples": ["10s"] })
    }
}

/// Documents to make true, all or none.
///
/// Written as one document, as an array of them, or as an object with
/// `documents`; the options stand beside `kind` or beside `documents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApplyRequest {
    /// The documents.
    pub documents: Vec<Document>,
    /// What is asked besides.
    #[serde(flatten)]
    pub options: Options,
}

/// Names of objects to delete, all or none.
///
/// Written as one reference, as an array of them, or as an object with
/// `objects`; the options as with [`ApplyRequest`]. A whole document is a
/// reference too: only what names the object is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeleteRequest {
    /// The objects.
    pub objects: Vec<ObjectRef>,
    /// What is asked besides.
    #[serde(flatten)]
    pub options: Options,
}

/// Names an object in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its switch; needed for port groups and mirror sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
}

impl ObjectRef {
    /// The key.
    ///
    /// # Errors
    /// The name is none, or the switch is missing.
    pub fn key(&self) -> Result<ObjectKey, Problem> {
        let called = format!("{} {}", self.kind, self.name);
        let wrong =
            |e: crate::ids::InvalidName| Problem::invalid(e.to_string()).of(&called).at("name");
        let switch = || {
            self.switch.clone().ok_or_else(|| {
                Problem::invalid(format!("a {} is named together with its switch", self.kind))
                    .of(&called)
                    .at("switch")
                    .allow("the name of a switch")
            })
        };
        Ok(match self.kind {
            Kind::Switch => ObjectKey::Switch(self.name.parse().map_err(wrong)?),
            Kind::PortGroup => ObjectKey::PortGroup(switch()?, self.name.parse().map_err(wrong)?),
            Kind::Port => ObjectKey::Port(self.name.parse().map_err(wrong)?),
            Kind::MirrorSession => {
                ObjectKey::MirrorSession(switch()?, self.name.parse().map_err(wrong)?)
            }
        })
    }
}

impl From<&ObjectKey> for ObjectRef {
    fn from(key: &ObjectKey) -> Self {
        let (name, switch) = match key {
            ObjectKey::Switch(name) => (name.to_string(), None),
            ObjectKey::PortGroup(switch, name) => (name.to_string(), Some(switch.clone())),
            ObjectKey::Port(name) => (name.to_string(), None),
            ObjectKey::MirrorSession(switch, name) => (name.to_string(), Some(switch.clone())),
        };
        Self {
            kind: key.kind(),
            name,
            switch,
        }
    }
}

/// The names of [`Options`]' fields and the envelope's version, which stand
/// beside the content.
const BESIDE: [&str; 5] = ["v", "wait", "timeout", "dry_run", "if_revision"];

/// Takes a request of one, several or enveloped things apart: each thing with
/// its place for errors, and the options.
fn unwrap_envelope(tree: Value, list: &str) -> Result<(Vec<(String, Value)>, Options), Problem> {
    let numbered = |items: Vec<Value>, name: &str| {
        items
            .into_iter()
            .enumerate()
            .map(|(i, item)| (format!("{name}[{i}]"), item))
            .collect::<Vec<_>>()
    };
    let (things, options) = match tree {
        Value::Array(items) => (numbered(items, ""), Options::default()),
        Value::Object(mut fields) => {
            let mut beside = serde_json::Map::new();
            for name in BESIDE {
                if let Some(value) = fields.shift_remove(name) {
                    beside.insert(name.to_owned(), value);
                }
            }
            if let Some(version) = beside.shift_remove("v") {
                from_tree::<V1>(version).map_err(|p| p.at("v"))?;
            }
            let options = from_tree(Value::Object(beside))?;
            match fields.shift_remove(list) {
                Some(Value::Array(items)) => match fields.keys().next() {
                    None => (numbered(items, list), options),
                    Some(unknown) => {
                        return Err(Problem::invalid(format!("unknown field `{unknown}`"))
                            .at(unknown)
                            .allow(format!("{list}, {}", BESIDE.join(", "))));
                    }
                },
                Some(_) => {
                    return Err(Problem::invalid(format!("{list} must be an array")).at(list));
                }
                None => (vec![(String::new(), Value::Object(fields))], options),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(
                Problem::invalid("a request is an object or an array of objects").allow(format!(
                    "one object, [object, …] or {{\"{list}\": [object, …]}}"
                )),
            );
        }
    };
    if things.is_empty() {
        return Err(
            Problem::invalid(format!("the request names nothing in {list}")).allow("at least one"),
        );
    }
    if things.len() > DOCUMENTS_MAX {
        return Err(
            Problem::invalid(format!("the request has {} {list}", things.len()))
                .allow(format!("at most {DOCUMENTS_MAX}")),
        );
    }
    Ok((things, options))
}

/// Adds the thing's place among several to a problem of it.
fn placed(place: &str, problem: Problem) -> Problem {
    if place.is_empty() {
        return problem;
    }
    let document = match &problem.document {
        Some(named) => format!("{place} {named}"),
        None => place.to_owned(),
    };
    Problem {
        document: Some(document),
        ..problem
    }
}

impl ApplyRequest {
    /// Reads a request in either format and any of its shapes.
    ///
    /// # Errors
    /// Names the first document that can't be, its field and what is allowed.
    pub fn decode(bytes: &[u8]) -> Result<(Format, Self), Problem> {
        let (format, tree) = decode_tree(bytes)?;
        let (things, options) = unwrap_envelope(tree, "documents")?;
        let documents = things
            .into_iter()
            .map(|(place, tree)| Document::from_tree(tree).map_err(|p| placed(&place, p)))
            .collect::<Result<_, _>>()?;
        Ok((format, Self { documents, options }))
    }
}

impl DeleteRequest {
    /// Reads a request in either format and any of its shapes.
    ///
    /// # Errors
    /// As [`ApplyRequest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<(Format, Self), Problem> {
        let (format, tree) = decode_tree(bytes)?;
        let (things, options) = unwrap_envelope(tree, "objects")?;
        let objects = things
            .into_iter()
            .map(|(place, tree)| from_tree::<ObjectRef>(tree).map_err(|p| placed(&place, p)))
            .collect::<Result<_, _>>()?;
        Ok((format, Self { objects, options }))
    }
}

/// Reply to an apply or delete request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyReply {
    /// Version of the message.
    pub v: V1,
    /// The commit; the newest one there was if nothing changed.
    pub revision: Revision,
    /// What changed; empty if everything was so already.
    pub changed: Vec<Changed>,
    /// Changed objects that did not fit into the reply.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// How the push went, if the request waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<PushSummary>,
    /// What the operator should know though the request is carried out: ports that
    /// a host may still have wired, or that wait for a plug. One text each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One object that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// What was done to it.
    pub operation: Operation,
    /// Paths of the fields that changed; empty if it came or went as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// What a commit did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// It was not there.
    Created,
    /// It was there, and different.
    Updated,
    /// It is gone.
    Deleted,
}

/// How a push went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushSummary {
    /// Hosts concerned.
    pub hosts: u64,
    /// Hosts that have applied all of it.
    pub applied: u64,
    /// Every host with its outcome, those that lag first; beyond 1,000 hosts
    /// only those that lag, and at most 1,000 of them; always as many as fit
    /// into the message.
    pub outcomes: Vec<HostOutcome>,
}

/// One host's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostOutcome {
    /// The host.
    pub host: HostName,
    /// How it went.
    pub outcome: HostVerdict,
    /// Why it lags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How a push to a host went.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HostVerdict {
    /// The host answered that it failed.
    Failed,
    /// The host did not answer in time.
    TimedOut,
    /// Nobody listens for the host: its agent or its connection is down.
    NoResponder,
    /// No answer yet when the wait's bound was over.
    Pending,
    /// All of it is true there.
    Applied,
}

/// Reply to a request with `dry_run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DryRunReply {
    /// Version of the message.
    pub v: V1,
    /// Always true.
    pub dry_run: bool,
    /// The newest commit, which the plans start from.
    pub revision: Revision,
    /// What a commit would change.
    pub changed: Vec<Changed>,
    /// Hosts concerned.
    pub hosts: u64,
    /// Hosts that would change nothing.
    pub unchanged: u64,
    /// What each other host would do, or why it can't say.
    pub plans: Vec<HostPlan>,
    /// Plans that did not fit into the reply.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// What the operator should know though the request is carried out: ports that
    /// a host may still have wired, or that wait for a plug. One text each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What one host would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPlan {
    /// The host.
    pub host: HostName,
    /// The switch concerned.
    pub switch: SwitchName,
    /// Changes to its datapath.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Why the host can't say, or would refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Objects wanted; all filters must match. An empty object lists everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GetRequest {
    /// Only this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Only objects of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only this switch and what belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// Only ports of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<PortGroupName>,
    /// Only ports placed on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of objects, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetReply {
    /// Version of the message.
    pub v: V1,
    /// The newest commit.
    pub revision: Revision,
    /// The objects.
    pub items: Vec<Item>,
    /// Ask again with `after` set to this; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An object in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// The commit that last changed it.
    pub revision: Revision,
    /// For ports: the fence of their placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The object; a port's host and vNIC are the present ones.
    pub document: Document,
}

/// Retry's question for what a host shall have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RenderRequest {
    /// The full state of a switch on a host.
    State {
        /// The host.
        host: HostName,
        /// The switch.
        switch: SwitchName,
    },
    /// Whether a port is still to be removed from a host.
    Removal {
        /// The host.
        host: HostName,
        /// The switch that the port belonged to.
        switch: SwitchName,
        /// The port.
        port: PortId,
        /// The commit that took it away.
        revision: Revision,
    },
}

/// What a host shall have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RenderReply {
    /// Send this to the host's clobber.
    Clobber {
        /// The session whose answer counts.
        session: SessionId,
        /// The message.
        clobber: Box<Clobber>,
    },
    /// Send this to the host's remove.
    Remove {
        /// As above.
        session: SessionId,
        /// The message.
        remove: Remove,
    },
    /// The port belongs there again: forget the removal. With braces, so that
    /// it is written as a map as every message is, and not as a bare string.
    Cancelled {},
}

/// Push the full state again, whatever the hosts are thought to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResyncRequest {
    /// Only this host; none: every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Only this switch; none: every switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// When to reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Bound of the wait; default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Deadline>,
}

/// Reply to a resync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResyncReply {
    /// Version of the message.
    pub v: V1,
    /// The newest commit.
    pub revision: Revision,
    /// Hosts concerned.
    pub hosts: u64,
    /// How it went, if the request waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<PushSummary>,
}

/// Ends the connection between a port and its vNIC; the port stays where it
/// is placed and may be connected anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisconnectRequest {
    /// The port.
    pub port: PortId,
    /// Refuse if another vNIC is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnic: Option<VnicId>,
}

/// Reply to a disconnect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DisconnectReply {
    /// Version of the message.
    pub v: V1,
    /// The commit; the newest one there was if nothing was connected.
    pub revision: Revision,
    /// The vNIC that was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnic: Option<VnicId>,
}
