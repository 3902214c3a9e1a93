// SPDX-License-Identifier: Apache-2.0
//! Version 1 of the messages. Frozen once released: a change of meaning or
//! shape becomes `v2` beside it, with the conversion there. The checked-in
//! JSON Schemas prove that nothing moved.

mod agent;
mod conditions;
mod config;
mod counters;
mod drift;
mod hosts;
mod ports;
mod retry;
mod runtime;
mod shapes;
mod store;

pub use agent::{
    ApplyOutcome, ApplyReport, Change, Clobber, FinalState, GlobalKey, MirrorState, Plan,
    PlanOutcome, PortFailure, PortGroupState, PortState, Remove, RemoveOutcome, RemoveReport,
    Removed, RemovedPort, SwitchObjects, SwitchState, Versioned,
};
pub use conditions::{
    Condition, ConditionKind, ConditionList, ConditionTarget, ConditionsOfHost, HostConditions,
    RuntimeConditionsReply, RuntimeConditionsRequest,
};
pub use config::{
    ApplyReply, ApplyRequest, Changed as ChangedObject, DOCUMENTS_MAX, Deadline, DeleteRequest,
    DisconnectReply, DisconnectRequest, DryRunReply, GetReply, GetRequest, HostOutcome, HostPlan,
    HostVerdict, Item, ObjectRef, Operation, Options, PushSummary, RenderReply, RenderRequest,
    ResyncReply, ResyncRequest, Wait,
};
pub use counters::{Counters, CountersOf};
pub use drift::Drift;
pub use hosts::{
    ForgetReply, ForgetRequest, Heartbeat, Hello, HelloReply, HostDatapath, HostListReply,
    HostListRequest, HostStatus, Identified, Identify, Namesake, Observed, Presence, SwitchOnHost,
};
pub use ports::{
    Activity, ClaimOutcome, ClaimReply, ClaimRequest, ConnectRequest, Machine, MoveRequest,
    Placement, PlacementsReply, PlacementsRequest, ReleaseOutcome, ReleaseReply, ReleaseRequest,
    Yield,
};
pub use retry::{
    Attempt, EntrySelection, EntryState, Forgotten, PutReply, Queue, RepushEntry, RepushKey,
    RetryListReply, RetryListRequest, RetryPut, RipEntry, RipKey, SelectionReply, Settlement,
};
pub use runtime::{
    Changed, EventAck, EventNotice, Fetch, Fetched, Link, Live, LiveReply, LiveRequest, PastEvent,
    PortGone, PortRuntime, Rollup, RollupBy, RollupKey, RuntimeForgetReply, RuntimeForgetRequest,
    RuntimeGetRequest, RuntimeHistoryReply, RuntimeHistoryRequest, RuntimeListReply,
    RuntimeListRequest, RuntimeRecord, RuntimeRollupReply, RuntimeRollupRequest, Settled, Telling,
    ToldBy,
};
pub use store::{
    ContinueReply, ContinueRequest, Diverged, DivergedHost, Divergence, Lineage, Position,
    RUNS_NAMED, Relation, Run,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version of an envelope: always 1 in this module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match u64::deserialize(d)? {
            1 => Ok(Self),
            other => Err(de::Error::custom(format_args!(
                "message version {other} is not known here; allowed: 1"
            ))),
        }
    }
}

impl JsonSchema for V1 {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "V1".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1, "description": "Version of the message." })
    }
}
