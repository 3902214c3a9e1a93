// SPDX-License-Identifier: Apache-2.0
//! What goes into the core and what comes out: typed messages, no bytes.

use std::time::Duration;

use dvs_schemas::v1::{
    Changed, EventAck, EventNotice, Fetch, Fetched, Heartbeat, HostConditions, Live, LiveReply,
    LiveRequest, PlacementsReply, PlacementsRequest, PutReply, RetryPut, RuntimeConditionsReply,
    RuntimeConditionsRequest, RuntimeForgetReply, RuntimeForgetRequest, RuntimeGetRequest,
    RuntimeHistoryReply, RuntimeHistoryRequest, RuntimeListReply, RuntimeListRequest,
    RuntimeRecord, RuntimeRollupReply, RuntimeRollupRequest, Settled,
};
use dvs_schemas::{HostName, Problem};
pub use dvs_transport::endpoint::ReplyToken;
use serde::Serialize;

/// Names a question to a host or a service. Never used twice by one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What happens to the core. The host of an event is the one that its subject
/// names.
#[derive(Debug, Clone)]
pub enum Event {
    /// Rare states changed.
    Changed {
        /// The event.
        event: Changed,
        /// Where the acknowledgement goes.
        reply: ReplyToken,
    },
    /// Busy states settled.
    Settled {
        /// The event.
        event: Settled,
        /// Where the acknowledgement goes.
        reply: ReplyToken,
    },
    /// What is wrong on a host is another by now.
    Conditions {
        /// The event.
        event: HostConditions,
        /// Where the acknowledgement goes.
        reply: ReplyToken,
    },
    /// Something changed, and is to be fetched.
    Notice {
        /// The notice.
        notice: EventNotice,
        /// Where the acknowledgement goes.
        reply: ReplyToken,
    },
    /// A host lives.
    Heartbeat(Heartbeat),
    /// The stored state of a port is wanted.
    Get {
        /// The request.
        request: RuntimeGetRequest,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// Stored states are wanted.
    List {
        /// The request.
        request: RuntimeListRequest,
        /// Bytes that the page may have.
        budget: usize,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// What was told of a port is wanted.
    History {
        /// The request.
        request: RuntimeHistoryRequest,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// Sums over ports are wanted.
    Rollup {
        /// The request.
        request: RuntimeRollupRequest,
        /// Bytes that the page may have.
        budget: usize,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// What is wrong on hosts is wanted.
    ListConditions {
        /// The request.
        request: RuntimeConditionsRequest,
        /// Bytes that the page may have.
        budget: usize,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// The state on the host is wanted.
    Live {
        /// The request.
        request: LiveRequest,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// Hosts will never come back.
    Forget {
        /// The request.
        request: RuntimeForgetRequest,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// A question to a host or a service ended.
    Answered {
        /// The question.
        ask: AskId,
        /// How.
        answer: Answer,
    },
}

/// What a host is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What the datapath says now.
    Live(Live),
    /// What a notice was about.
    Fetch(Fetch),
}

/// How a question to a host or a service ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The host's answer to a read.
    Live(LiveReply),
    /// The host's answer to a fetch.
    Fetched(Fetched),
    /// Retry's answer: it is durable there.
    Put(PutReply),
    /// The publisher's answer.
    Placements(PlacementsReply),
    /// Who was asked refused, or said something that is no answer.
    Refused(String),
    /// Nothing came in time.
    TimedOut,
    /// Nobody is there who could answer.
    NoResponder,
    /// The question did not leave, and why; services: or nothing came back.
    NotSent(String),
}

impl Answer {
    /// True if whoever was asked said nothing.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut | Self::NoResponder => true,
            Self::Live(_)
            | Self::Fetched(_)
            | Self::Put(_)
            | Self::Placements(_)
            | Self::Refused(_)
            | Self::NotSent(_) => false,
        }
    }

    /// Why it is not the answer that was waited for.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Live(_) | Self::Fetched(_) | Self::Put(_) | Self::Placements(_) => {
                "it answered another question".to_owned()
            }
            Self::Refused(why) | Self::NotSent(why) => why,
            Self::TimedOut => "no answer in time".to_owned(),
            Self::NoResponder => "nobody listens for it".to_owned(),
        }
    }
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A request or event is answered.
    Reply {
        /// Which.
        to: ReplyToken,
        /// With what.
        result: Result<ReplyBody, Problem>,
    },
    /// A host is asked; comes back as [`Event::Answered`].
    Ask {
        /// The question.
        ask: AskId,
        /// The host.
        host: HostName,
        /// What it is asked.
        request: Question,
        /// How long it may take.
        timeout: Duration,
    },
    /// Retry is given a removal; comes back as [`Event::Answered`].
    Rip {
        /// The question.
        ask: AskId,
        /// What it is given.
        put: RetryPut,
    },
    /// The publisher is asked where ports are; comes back as
    /// [`Event::Answered`].
    Placements {
        /// The question.
        ask: AskId,
        /// The ports.
        request: PlacementsRequest,
    },
}

/// What a request or event is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReplyBody {
    /// To an event: it is durable.
    Ack(EventAck),
    /// To a get.
    Record(Box<RuntimeRecord>),
    /// To a list.
    List(RuntimeListReply),
    /// To a history.
    History(RuntimeHistoryReply),
    /// To sums.
    Rollup(RuntimeRollupReply),
    /// To a live request.
    Live(LiveReply),
    /// To a question for conditions.
    Conditions(RuntimeConditionsReply),
    /// To a word that hosts will never come back: it is durable.
    Forgotten(RuntimeForgetReply),
}
