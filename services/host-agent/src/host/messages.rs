// SPDX-License-Identifier: Apache-2.0
//! What happens to a host, and what it wants done. Typed, not bytes, so that
//! tests and the simulator drive the core without a bus.

use std::sync::Arc;
use std::time::Duration;

use dvs_schemas::v1::{
    ApplyReport, Changed, ClaimReply, ClaimRequest, Clobber, CountersOf, Drift, EventAck,
    EventNotice, Fetch, Fetched, Heartbeat, Hello, HelloReply, HostConditions, Identified,
    Identify, Live, LiveReply, Plan, ReleaseReply, ReleaseRequest, Remove, RemoveReport, Settled,
    V1, Yield,
};
use dvs_schemas::{Format, PortId, Problem, SessionId, SwitchName};

use crate::datapath::{Applied, DatapathError, Notice, Picture, Ports, Step};

/// Who asked, and how it wants to be answered: the last two tokens of a
/// request's reply subject. The host puts its own name in front of them, so
/// this is all that needs keeping, and all replicas share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Which program.
    pub instance: Arc<str>,
    /// Which of its questions.
    pub token: Arc<str>,
    /// The format of the question, and so of the answer.
    pub format: Format,
}

/// Why a question came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskFailure {
    /// It was refused, or never arrived: nothing comes of it.
    #[error("{0}")]
    NotDone(String),
    /// Another agent is the host's: nothing comes of it, and the time of this one
    /// is over.
    #[error("{0}")]
    Namesake(String),
    /// Nobody answered in time: it may have been done all the same, or be yet.
    #[error("{0}")]
    MaybeDone(String),
}

/// What happens to a host.
#[derive(Debug, Clone)]
pub enum HostEvent {
    /// The bus is there, and hears the host's own subjects and those of the
    /// switches that it is subscribed to.
    Connected,
    /// The bus is gone.
    Disconnected,
    /// The agent stops, and says nothing more.
    Stopping,
    /// A switch's subject is heard by the time anything else is sent.
    Subscribed(SwitchName),
    /// Final state to be made true.
    Clobber {
        /// The message; replicas share it.
        message: Arc<Clobber>,
        /// Who wants to know how it went.
        asker: Option<Arc<Asker>>,
    },
    /// Virtual ports to be removed.
    Remove {
        /// The message.
        message: Arc<Remove>,
        /// Who wants to know how it went.
        asker: Option<Arc<Asker>>,
    },
    /// What would a clobber change?
    Plan {
        /// The clobber.
        message: Arc<Clobber>,
        /// Who asks.
        asker: Arc<Asker>,
    },
    /// What does the datapath say now?
    Live {
        /// The question.
        message: Live,
        /// Who asks.
        asker: Arc<Asker>,
    },
    /// What was a notice about?
    Fetch {
        /// The question.
        message: Fetch,
        /// Who asks.
        asker: Arc<Asker>,
    },
    /// Another host waits for a port that this one holds.
    Yield(Yield),
    /// Is the agent of a session there?
    Identify {
        /// The question.
        message: Identify,
        /// Who asks.
        asker: Option<Arc<Asker>>,
    },
    /// Answer to [`HostEffect::Read`].
    Read(Result<Picture, DatapathError>),
    /// Answer to [`HostEffect::Apply`].
    Applied {
        /// Number of the apply.
        number: u64,
        /// A result per step.
        applied: Applied,
    },
    /// Answer to [`HostEffect::Count`].
    Counted(Result<Vec<(SwitchName, CountersOf)>, DatapathError>),
    /// Answer to [`HostEffect::ReadLive`].
    LiveRead {
        /// Who asked.
        asker: Arc<Asker>,
        /// What was asked.
        question: Live,
        /// What is there.
        outcome: Result<LivePicture, DatapathError>,
    },
    /// The datapath tells something.
    Noticed(Notice),
    /// Answer to [`HostEffect::Probe`]: whether the bus was heard.
    Probed(bool),
    /// Answer to [`HostEffect::Hello`]; the error says why there is none.
    Greeted(Result<HelloReply, AskFailure>),
    /// Answer to [`HostEffect::Claim`].
    Claimed {
        /// The port.
        port: PortId,
        /// The answer.
        outcome: Result<ClaimReply, AskFailure>,
    },
    /// Answer to [`HostEffect::Release`]; the error says why there is none.
    Released {
        /// What was asked.
        asked: ReleaseRequest,
        /// The answer.
        outcome: Result<ReleaseReply, AskFailure>,
    },
    /// Answer to [`HostEffect::Tell`]; the error says why there is none.
    Acknowledged {
        /// Number of the event that was told.
        seq: u64,
        /// The answer.
        outcome: Result<EventAck, AskFailure>,
    },
}

/// The datapath and its counters, read at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePicture {
    /// Bridges, ports and links.
    pub picture: Picture,
    /// Counters of the ports asked for.
    pub counters: Vec<(SwitchName, CountersOf)>,
}

/// What a host wants done. Of reading and applying, one at a time.
#[derive(Debug, Clone)]
pub enum HostEffect {
    /// Read the datapath; ends in [`HostEvent::Read`].
    Read,
    /// Change the datapath; ends in [`HostEvent::Applied`].
    Apply {
        /// Number of the apply.
        number: u64,
        /// The steps.
        steps: Arc<[Step]>,
        /// Ports whose changes are undone if they cut the host off.
        guarded: Ports,
    },
    /// Read counters; ends in [`HostEvent::Counted`].
    Count(Vec<(SwitchName, PortId)>),
    /// Read the datapath for somebody; ends in [`HostEvent::LiveRead`].
    ReadLive {
        /// Who asks.
        asker: Arc<Asker>,
        /// What is asked.
        question: Live,
    },
    /// Announce ports to the network, as their vNICs would; nothing comes of it.
    Announce(Vec<(SwitchName, PortId)>),
    /// Hear a switch's subject, however long it takes; ends in
    /// [`HostEvent::Subscribed`].
    Subscribe(SwitchName),
    /// Hear it no more.
    Unsubscribe(SwitchName),
    /// Answer a question.
    Answer {
        /// Who asked.
        asker: Arc<Asker>,
        /// The answer.
        answer: Answer,
    },
    /// Ask the bus whether it is there, for so long; ends in
    /// [`HostEvent::Probed`].
    Probe(Duration),
    /// Give the connection up for a new one: the old one has been silent for
    /// long, and would be so for as long again.
    Reconnect,
    /// Say hello to the publisher; ends in [`HostEvent::Greeted`].
    Hello(Hello),
    /// Show that the host lives.
    Heartbeat(Heartbeat),
    /// Claim a port that is plugged in here; ends in [`HostEvent::Claimed`].
    Claim(ClaimRequest),
    /// Release a port that is plugged in no more; ends in
    /// [`HostEvent::Released`].
    Release(ReleaseRequest),
    /// Tell what somebody else changed; once, to whoever listens.
    Drift(Drift),
    /// Tell a runtime event; ends in [`HostEvent::Acknowledged`].
    Tell(Arc<RuntimeEvent>),
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a clobber.
    Apply(ApplyReport),
    /// To a removal.
    Remove(RemoveReport),
    /// To a dry run.
    Plan(Plan),
    /// To a live read.
    Live(LiveReply),
    /// To a fetch.
    Fetched(Fetched),
    /// To the question whether it is there.
    Identified(Identified),
    /// The question can't be answered.
    Problem(Problem),
}

/// A runtime event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// Rare states changed.
    Changed(Changed),
    /// Busy states stopped changing.
    Settled(Settled),
    /// What is wrong is another by now.
    Conditions(HostConditions),
    /// One of these, to be fetched.
    Notice(EventNotice),
}

impl RuntimeEvent {
    /// Its number.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Changed(event) => event.seq,
            Self::Settled(event) => event.seq,
            Self::Conditions(event) => event.seq,
            Self::Notice(event) => event.seq,
        }
    }

    /// The same, told in another session.
    #[must_use]
    pub fn in_session(&self, session: SessionId) -> Self {
        let mut event = self.clone();
        match &mut event {
            Self::Changed(event) => event.session = session,
            Self::Settled(event) => event.session = session,
            Self::Conditions(event) => event.session = session,
            Self::Notice(event) => event.session = session,
        }
        event
    }

    /// The event without what it tells.
    #[must_use]
    pub fn notice(&self) -> EventNotice {
        match self {
            Self::Changed(event) => {
                let there = event.ports.iter().map(|state| &state.port);
                let gone = event.gone.iter().map(|gone| &gone.port);
                EventNotice {
                    v: V1,
                    host: event.host.clone(),
                    session: event.session,
                    seq: event.seq,
                    at: event.at,
                    ports: there.chain(gone).cloned().collect(),
                }
            }
            Self::Settled(event) => EventNotice {
                v: V1,
                host: event.host.clone(),
                session: event.session,
                seq: event.seq,
                at: event.at,
                ports: event.counters.iter().map(|of| of.port.clone()).collect(),
            },
            Self::Conditions(event) => EventNotice {
                v: V1,
                host: event.host.clone(),
                session: event.session,
                seq: event.seq,
                at: event.at,
                ports: Vec::new(),
            },
            Self::Notice(notice) => notice.clone(),
        }
    }

    /// Counters that have settled, if it tells of such.
    #[must_use]
    pub fn counters(&self) -> &[CountersOf] {
        match self {
            Self::Settled(event) => &event.counters,
            Self::Changed(_) | Self::Conditions(_) | Self::Notice(_) => &[],
        }
    }
}
