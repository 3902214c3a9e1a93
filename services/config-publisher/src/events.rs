// SPDX-License-Identifier: Apache-2.0
//! What the core hears, and what it wants done. All messages are typed, so
//! that whoever drives the core decides how they travel.

use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::v1::{
    ApplyReply, ApplyReport, ApplyRequest, ClaimReply, ClaimRequest, Clobber, ConnectRequest,
    ContinueReply, ContinueRequest, DeleteRequest, DisconnectReply, DisconnectRequest, DryRunReply,
    ForgetReply, ForgetRequest, GetReply, GetRequest, Heartbeat, Hello, HelloReply, HostListReply,
    HostListRequest, MoveRequest, PlacementsReply, PlacementsRequest, Plan, PutReply, ReleaseReply,
    ReleaseRequest, Remove, RemoveReport, RenderReply, RenderRequest, ResyncReply, ResyncRequest,
    RetryPut, RuntimeForgetReply, RuntimeForgetRequest, Yield,
};
use dvs_schemas::{HostName, Problem, SessionId};
pub use dvs_transport::endpoint::ReplyToken;
use serde::Serialize;

pub use crate::record::PushId;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Make documents true.
    Apply(ApplyRequest),
    /// Delete objects.
    Delete(DeleteRequest),
    /// Show objects.
    Get(GetRequest),
    /// Say what a host shall have.
    Render(RenderRequest),
    /// Push full states.
    Resync(ResyncRequest),
    /// Go on above what hosts follow instead.
    Continue(ContinueRequest),
    /// Connect a vNIC.
    Connect(ConnectRequest),
    /// Place a port elsewhere.
    Move(MoveRequest),
    /// End a connection.
    Disconnect(DisconnectRequest),
    /// Be a port's host.
    Claim(ClaimRequest),
    /// Be a port's host no more.
    Release(ReleaseRequest),
    /// Say where ports are.
    Placements(PlacementsRequest),
    /// A host is there.
    Hello(Hello),
    /// A host will never come back.
    Forget(ForgetRequest),
    /// Show hosts.
    Hosts(HostListRequest),
}

/// What happens to the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks; to be answered by one [`Effect::Reply`].
    Request {
        /// Who waits.
        to: ReplyToken,
        /// What for.
        request: Request,
    },
    /// A host lives.
    Heartbeat(Heartbeat),
    /// Some calls of a push ended.
    Outcomes {
        /// The push.
        push: PushId,
        /// How they ended.
        outcomes: Vec<Outcome>,
    },
    /// A hand-over ended.
    HandedOver {
        /// Number of the hand-over.
        number: u64,
        /// Retry's answer, or why there is none.
        result: Result<PutReply, String>,
    },
    /// The collector was told, or not.
    CollectorTold {
        /// Number of the request.
        number: u64,
        /// Its answer, or why there is none.
        result: Result<RuntimeForgetReply, String>,
    },
    /// Whether the agent of a session is there.
    Identified {
        /// Its host.
        host: HostName,
        /// The session.
        session: SessionId,
        /// Whether it answered; the error says why it was not asked.
        is_there: Result<bool, String>,
    },
    /// The bus is there, or there again.
    Connected {
        /// Bytes that it takes in one message.
        max_payload: usize,
    },
    /// The bus is away.
    Disconnected,
}

/// How a call to one host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The host.
    pub host: HostName,
    /// Place of the call in its push, from 0.
    pub call: usize,
    /// How it ended.
    pub answer: Answer,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The host answered a clobber.
    Applied(ApplyReport),
    /// The host answered a removal.
    Removed(RemoveReport),
    /// The host answered what it would do.
    Planned(Plan),
    /// The host answered something that can't be read.
    Unreadable(String),
    /// No answer in time; the host may have done it.
    TimedOut,
    /// An agent answered that is not the host's, or is so no more.
    Foreign,
    /// Nobody listens for the host.
    NoResponder,
    /// The message never left, and why.
    NotSent(String),
}

/// A message to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// One clobber for all hosts of its switch.
    FanOut {
        /// The message.
        clobber: Arc<Clobber>,
        /// Whose answers are waited for, ascending.
        hosts: Arc<[HostName]>,
    },
    /// A clobber for one host.
    Clobber {
        /// The host.
        host: HostName,
        /// The message.
        clobber: Arc<Clobber>,
    },
    /// A removal for one host.
    Remove {
        /// The host.
        host: HostName,
        /// The message.
        remove: Arc<Remove>,
    },
    /// A question to one host: what would this clobber change?
    Plan {
        /// The host.
        host: HostName,
        /// The message.
        clobber: Arc<Clobber>,
    },
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To an apply, a delete, a connect or a move.
    Applied(ApplyReply),
    /// To the same with `dry_run`.
    DryRun(DryRunReply),
    /// To a get.
    Objects(GetReply),
    /// To a render.
    Rendered(RenderReply),
    /// To a resync.
    Resynced(ResyncReply),
    /// To a word to go on.
    Continued(ContinueReply),
    /// To a disconnect.
    Disconnected(DisconnectReply),
    /// To a claim.
    Claimed(ClaimReply),
    /// To a release.
    Released(ReleaseReply),
    /// To a question where ports are.
    Placements(PlacementsReply),
    /// To a hello.
    Hello(HelloReply),
    /// To a word that a host will never come back.
    Forgotten(ForgetReply),
    /// To a list of hosts.
    Hosts(HostListReply),
}

/// What the publisher wants done, after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make calls; their ends come back as [`Event::Outcomes`], each host of
    /// each call once.
    Push {
        /// Names the push.
        push: PushId,
        /// The calls.
        calls: Vec<Call>,
        /// How long to wait for answers.
        within: Duration,
    },
    /// Answer a request.
    Reply {
        /// Who waits.
        to: ReplyToken,
        /// The answer.
        result: Box<Result<Reply, Problem>>,
    },
    /// What a request asks for is durable by now; its answer waits for hosts.
    Committed {
        /// Who waits.
        to: ReplyToken,
    },
    /// Give entries to retry; its answer comes back as [`Event::HandedOver`].
    HandOver {
        /// Number of the hand-over.
        number: u64,
        /// The entries.
        put: RetryPut,
    },
    /// Tell the holder of a port who waits for it; nobody answers.
    Yield {
        /// The holder.
        host: HostName,
        /// Who waits, for what.
        request: Yield,
    },
    /// Ask whether the agent of a session is there, and tell others whose time is
    /// over that it is; comes back as [`Event::Identified`].
    Identify {
        /// Its host.
        host: HostName,
        /// The session.
        session: SessionId,
    },
    /// Tell the collector of forgotten hosts; its answer comes back as
    /// [`Event::CollectorTold`].
    TellCollector {
        /// Number of the request.
        number: u64,
        /// The hosts.
        request: RuntimeForgetRequest,
    },
}
