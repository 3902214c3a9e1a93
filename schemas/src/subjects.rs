// SPDX-License-Identifier: Apache-2.0
//! Where messages travel. All subjects of the product are written here and
//! nowhere else, but for the permissions in `ops/nats/nats-server.conf`.

use std::fmt;

use crate::ids::{HostName, SwitchName};

/// Documents in: [`crate::v1::ApplyRequest`].
pub const CONFIG_APPLY: &str = "dvs.v1.config.apply";
/// Names of objects to delete: [`crate::v1::DeleteRequest`].
pub const CONFIG_DELETE: &str = "dvs.v1.config.delete";
/// Objects out, filtered and paged: [`crate::v1::GetRequest`].
pub const CONFIG_GET: &str = "dvs.v1.config.get";
/// A host's current final state, for retry: [`crate::v1::RenderRequest`].
pub const CONFIG_RENDER: &str = "dvs.v1.config.render";
/// Full state to hosts on request: [`crate::v1::ResyncRequest`].
pub const CONFIG_RESYNC: &str = "dvs.v1.config.resync";
/// A port was plugged into a host: [`crate::v1::ClaimRequest`].
pub const PORT_CLAIM: &str = "dvs.v1.port.claim";
/// A port is plugged no more: [`crate::v1::ReleaseRequest`].
pub const PORT_RELEASE: &str = "dvs.v1.port.release";
/// Connects a vNIC to a port: [`crate::v1::ConnectRequest`].
pub const PORT_CONNECT: &str = "dvs.v1.port.connect";
/// Places a port on another host: [`crate::v1::MoveRequest`].
pub const PORT_MOVE: &str = "dvs.v1.port.move";
/// Ends the connection of a vNIC: [`crate::v1::DisconnectRequest`].
pub const PORT_DISCONNECT: &str = "dvs.v1.port.disconnect";
/// Where ports are by the configuration, for the collector:
/// [`crate::v1::PlacementsRequest`].
pub const PORT_PLACEMENTS: &str = "dvs.v1.port.placements";
/// A host is there: [`crate::v1::Hello`].
pub const HOST_HELLO: &str = "dvs.v1.host.hello";
/// A host will never come back: [`crate::v1::ForgetRequest`].
pub const HOST_FORGET: &str = "dvs.v1.host.forget";
/// Hosts, their revisions and presence: [`crate::v1::HostListRequest`].
pub const HOST_LIST: &str = "dvs.v1.host.list";

/// This publisher's configuration is to hold on hosts that follow another
/// history: [`crate::v1::ContinueRequest`].
pub const STORE_CONTINUE: &str = "dvs.v1.store.continue";

/// Entries into the queues: [`crate::v1::RetryPut`].
pub const RETRY_PUT: &str = "dvs.v1.retry.put";
/// The queues' entries: [`crate::v1::RetryListRequest`].
pub const RETRY_LIST: &str = "dvs.v1.retry.list";
/// Try entries now: [`crate::v1::EntrySelection`].
pub const RETRY_KICK: &str = "dvs.v1.retry.kick";
/// Stop trying entries, keep them visible: [`crate::v1::EntrySelection`].
pub const RETRY_PARK: &str = "dvs.v1.retry.park";
/// Drop entries: [`crate::v1::EntrySelection`].
pub const RETRY_CANCEL: &str = "dvs.v1.retry.cancel";

/// Stored runtime state of one port: [`crate::v1::RuntimeGetRequest`].
pub const RUNTIME_GET: &str = "dvs.v1.runtime.get";
/// Stored runtime state of many ports: [`crate::v1::RuntimeListRequest`].
pub const RUNTIME_LIST: &str = "dvs.v1.runtime.list";
/// What was told of a port: [`crate::v1::RuntimeHistoryRequest`].
pub const RUNTIME_HISTORY: &str = "dvs.v1.runtime.history";
/// Sums over ports: [`crate::v1::RuntimeRollupRequest`].
pub const RUNTIME_ROLLUP: &str = "dvs.v1.runtime.rollup";
/// What is wrong on hosts: [`crate::v1::RuntimeConditionsRequest`].
pub const RUNTIME_CONDITIONS: &str = "dvs.v1.runtime.conditions";
/// Hosts will never come back: [`crate::v1::RuntimeForgetRequest`].
pub const RUNTIME_FORGET: &str = "dvs.v1.runtime.forget";
/// Runtime state read from the host now: [`crate::v1::LiveRequest`].
pub const RUNTIME_LIVE: &str = "dvs.v1.runtime.live";

/// All heartbeats.
pub const EVENT_HEARTBEATS: &str = "dvs.v1.event.*.heartbeat";
/// All changed events.
pub const EVENT_CHANGED: &str = "dvs.v1.event.*.changed";
/// All settled events.
pub const EVENT_SETTLED: &str = "dvs.v1.event.*.settled";
/// All conditions events.
pub const EVENT_CONDITIONS: &str = "dvs.v1.event.*.conditions";
/// All notices of events that are to be fetched.
pub const EVENT_NOTICES: &str = "dvs.v1.event.*.notice";

/// The fan-out of a switch's global state.
#[must_use]
pub fn switch_clobber(switch: &SwitchName) -> String {
    format!("dvs.v1.switch.{switch}.clobber")
}

/// What one host can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentVerb {
    /// Make a final state true: [`crate::v1::Clobber`].
    Clobber,
    /// Remove virtual ports: [`crate::v1::Remove`].
    Remove,
    /// Say what a clobber would change: [`crate::v1::Clobber`].
    Plan,
    /// Read runtime state from the datapath: [`crate::v1::Live`].
    Live,
    /// Say what a notice was about: [`crate::v1::Fetch`].
    Fetch,
    /// Let go of a port once its machine has stopped: [`crate::v1::Yield`].
    Yield,
    /// Say whether the agent of a session is there: [`crate::v1::Identify`].
    Identify,
}

impl AgentVerb {
    /// Every verb.
    pub const ALL: [Self; 7] = [
        Self::Clobber,
        Self::Remove,
        Self::Plan,
        Self::Live,
        Self::Fetch,
        Self::Yield,
        Self::Identify,
    ];
}

impl fmt::Display for AgentVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clobber => "clobber",
            Self::Remove => "remove",
            Self::Plan => "plan",
            Self::Live => "live",
            Self::Fetch => "fetch",
            Self::Yield => "yield",
            Self::Identify => "identify",
        })
    }
}

/// A request to one host.
#[must_use]
pub fn agent(host: &HostName, verb: AgentVerb) -> String {
    format!("dvs.v1.agent.{host}.{verb}")
}

/// What a host tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventVerb {
    /// A rare state changed: [`crate::v1::Changed`].
    Changed,
    /// A busy state stopped changing: [`crate::v1::Settled`].
    Settled,
    /// What is wrong on the host is another by now: [`crate::v1::HostConditions`].
    Conditions,
    /// Something changed and is to be fetched: [`crate::v1::EventNotice`].
    Notice,
    /// The host lives: [`crate::v1::Heartbeat`].
    Heartbeat,
}

impl fmt::Display for EventVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Settled => "settled",
            Self::Conditions => "conditions",
            Self::Notice => "notice",
            Self::Heartbeat => "heartbeat",
        })
    }
}

/// An event of a host.
#[must_use]
pub fn event(host: &HostName, verb: EventVerb) -> String {
    format!("dvs.v1.event.{host}.{verb}")
}

/// Where a host tells of changes that somebody else made to its datapath:
/// [`crate::v1::Drift`].
#[must_use]
pub fn drift(host: &HostName) -> String {
    format!("dvs.v1.event.{host}.drift")
}

/// Stands in the host's place of a reply subject that every host is given.
pub const EVERY_HOST: &str = "all";

/// Where a host answers: the subject proves who does.
#[must_use]
pub fn reply(host: &str, instance: &str, token: &str) -> String {
    format!("dvs.v1.reply.{host}.{instance}.{token}")
}

/// Everything that is answered to one asker.
#[must_use]
pub fn replies_to(instance: &str) -> String {
    format!("dvs.v1.reply.*.{instance}.*")
}

/// The parts of a reply subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyParts<'a> {
    /// Who answers, or [`EVERY_HOST`].
    pub host: &'a str,
    /// Who asked.
    pub instance: &'a str,
    /// What was asked.
    pub token: &'a str,
}

/// Takes a reply subject apart; `None` if it is none.
#[must_use]
pub fn parse_reply(subject: &str) -> Option<ReplyParts<'_>> {
    let mut tokens = subject.strip_prefix("dvs.v1.reply.")?.split('.');
    let parts = ReplyParts {
        host: tokens.next()?,
        instance: tokens.next()?,
        token: tokens.next()?,
    };
    tokens.next().is_none().then_some(parts)
}

/// The host of an event's subject; `None` if it is no event of a host.
#[must_use]
pub fn parse_event_host(subject: &str) -> Option<HostName> {
    subject
        .strip_prefix("dvs.v1.event.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}
