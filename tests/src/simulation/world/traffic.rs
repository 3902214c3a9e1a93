// SPDX-License-Identifier: Apache-2.0
//! What is on its way, and who waits for what of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config_publisher::events as publisher;
use dvs_schemas::v1::{
    Clobber, EntrySelection, EventAck, Fetch, FinalState, Heartbeat, Identify, Live,
    ReleaseRequest, Remove, RemovedPort, RenderRequest, RetryPut, Yield,
};
use dvs_schemas::{Format, HostName, PortId, Problem, Revision, SessionId, StoreId, SwitchName};
use host_agent::datapath::Notice;
use host_agent::host::{Answer, AskFailure, HostEffect, HostEvent, RuntimeEvent};
use retry::{Action, Answer as RetryAnswer, FlightId};
use runtime_collector::AskId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Place, Told, World};

/// How long a push, a re-push or a request waits.
pub(super) const DEADLINE: Duration = Duration::from_millis(500);

/// Who waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiter {
    Push {
        push: publisher::PushId,
        call: usize,
        missing: BTreeSet<HostName>,
        covers: Covers,
    },
    HandOver {
        number: u64,
    },
    Render {
        flight: FlightId,
        request: RenderRequest,
    },
    Flight {
        flight: FlightId,
        host: HostName,
        covers: Covers,
    },
    Hello {
        host: usize,
    },
    Tell {
        host: usize,
        seq: u64,
    },
    Claim {
        host: usize,
        port: PortId,
    },
    Release {
        host: usize,
        asked: ReleaseRequest,
    },
    Ask {
        ask: AskId,
        host: HostName,
    },
    Rip {
        ask: AskId,
    },
    Identify {
        host: HostName,
        session: SessionId,
    },
    Placements {
        ask: AskId,
    },
    Operator,
}

impl Waiter {
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Push { .. } | Self::HandOver { .. } | Self::Identify { .. } => {
                Some(Place::Publisher)
            }
            Self::Render { .. } | Self::Flight { .. } => Some(Place::Retry),
            Self::Hello { host }
            | Self::Tell { host, .. }
            | Self::Claim { host, .. }
            | Self::Release { host, .. } => Some(Place::Host(*host)),
            Self::Ask { .. } | Self::Rip { .. } | Self::Placements { .. } => Some(Place::Collector),
            Self::Operator => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) waiter: Waiter,
    /// The asker's life; an answer to a life before finds nobody.
    pub(super) life: u64,
}

/// What a host is asked.
#[derive(Debug, Clone)]
pub(super) enum HostQuestion {
    Clobber(Box<Clobber>),
    Remove(Remove),
    Plan(Box<Clobber>),
    Live(Live),
    Fetch(Fetch),
    Identify(Identify),
}

/// What a host has once it has done what it is asked, for retry's sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Covers {
    /// The whole of a switch, as of a revision of a store.
    Whole(SwitchName, StoreId, Revision),
    /// Ports of a switch no more, as of a store.
    Removals(SwitchName, StoreId, Vec<RemovedPort>),
    /// Something else.
    Less,
}

impl HostQuestion {
    pub(super) fn covers(&self) -> Covers {
        match self {
            Self::Clobber(clobber) => match clobber.state {
                FinalState::Full { .. } | FinalState::Absent => {
                    Covers::Whole(clobber.switch.clone(), clobber.store, clobber.revision)
                }
                FinalState::Partial { .. } => Covers::Less,
            },
            Self::Remove(remove) => {
                Covers::Removals(remove.switch.clone(), remove.store, remove.ports.clone())
            }
            Self::Plan(_) | Self::Live(_) | Self::Fetch(_) | Self::Identify(_) => Covers::Less,
        }
    }
}

/// What retry is asked.
#[derive(Debug, Clone)]
pub(super) enum RetryRequest {
    Put(RetryPut),
    Act(Action, EntrySelection),
}

/// What is on its way.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A question to a host.
    ToHost {
        host: usize,
        question: HostQuestion,
        token: u64,
        /// A question on the host's own subject, which the bus answers itself
        /// when nobody listens.
        direct: bool,
    },
    /// A host's answer.
    FromHost {
        host: HostName,
        token: u64,
        answer: Answer,
    },
    /// A question to the publisher.
    ToPublisher {
        request: publisher::Request,
        token: u64,
    },
    /// The publisher's answer.
    FromPublisher {
        token: u64,
        result: Result<publisher::Reply, Problem>,
    },
    /// A hand-over, or an operator's request.
    ToRetry { request: RetryRequest, token: u64 },
    /// Retry's answer.
    FromRetry {
        token: u64,
        result: Result<retry::ReplyBody, Problem>,
    },
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// A host is told that another one waits for its port.
    Yield { host: usize, request: Yield },
    /// Nobody listens for the host.
    NoResponder { host: HostName, token: u64 },
    /// The bound of a wait is over.
    Deadline { token: u64 },
    /// A datapath is done with something.
    Datapath {
        host: usize,
        life: u64,
        effect: HostEffect,
    },
    /// What a host tells the collector.
    ToCollector {
        event: Arc<RuntimeEvent>,
        token: u64,
    },
    /// The collector's acknowledgement.
    FromCollector {
        token: u64,
        result: Result<EventAck, Problem>,
    },
    /// A datapath has something to tell.
    Noticed {
        host: usize,
        life: u64,
        notice: Notice,
    },
    /// A switch's subject is heard from now on.
    Subscribed {
        host: usize,
        life: u64,
        switch: SwitchName,
    },
    /// A program starts again.
    Start(Place),
    /// The bus lets a host go, or has it back.
    Link { host: usize, up: bool },
    /// Whether a host's datapath can be reached.
    Reachable { host: usize, is: bool },
}

impl Item {
    /// Whether it is a claim or a release. Those of one host may be heard in
    /// another order than they were said in, but by moments only: they come by
    /// one connection.
    fn is_of_plugs(&self) -> bool {
        match self {
            Self::ToPublisher { request, .. } => matches!(
                request,
                publisher::Request::Claim(_) | publisher::Request::Release(_)
            ),
            _ => false,
        }
    }

    /// Whether it is an operator's request. One that the bus repeats or
    /// delays would undo later ones; NATS does not repeat, and a client that
    /// gave up has taken its request back.
    pub(super) fn is_operators(&self) -> bool {
        match self {
            Self::ToPublisher { request, .. } => match request {
                publisher::Request::Hello(_)
                | publisher::Request::Claim(_)
                | publisher::Request::Release(_)
                | publisher::Request::Placements(_)
                | publisher::Request::Render(_) => false,
                publisher::Request::Apply(_)
                | publisher::Request::Delete(_)
                | publisher::Request::Get(_)
                | publisher::Request::Resync(_)
                | publisher::Request::Continue(_)
                | publisher::Request::Connect(_)
                | publisher::Request::Move(_)
                | publisher::Request::Disconnect(_)
                | publisher::Request::Forget(_)
                | publisher::Request::Hosts(_) => true,
            },
            Self::ToRetry { request, .. } => match request {
                RetryRequest::Put(_) => false,
                RetryRequest::Act(..) => true,
            },
            Self::ToHost { .. }
            | Self::FromHost { .. }
            | Self::FromPublisher { .. }
            | Self::FromRetry { .. }
            | Self::Heartbeat(_)
            | Self::Yield { .. }
            | Self::NoResponder { .. }
            | Self::Deadline { .. }
            | Self::Datapath { .. }
            | Self::ToCollector { .. }
            | Self::FromCollector { .. }
            | Self::Noticed { .. }
            | Self::Subscribed { .. }
            | Self::Start(_)
            | Self::Link { .. }
            | Self::Reachable { .. } => false,
        }
    }
}

/// Through the wire and back: what a message can't say does not arrive.
pub(super) fn wire<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let bytes = dvs_schemas::codec::encode(Format::MessagePack, message)
        .unwrap_or_else(|e| panic!("a message can't be written: {e:?}"));
    match dvs_schemas::codec::decode(&bytes) {
        Ok((_, message)) => message,
        Err(problem) => panic!("a message can't be read: {problem}"),
    }
}

impl World {
    /// After a random time of at most `ms`.
    pub(super) fn later(&mut self, ms: u64, item: Item) {
        let ms = self.random.u64(0..=ms);
        self.at(ms, item);
    }

    /// Over the bus: perhaps lost, perhaps twice, at some time.
    pub(super) fn send(&mut self, item: Item) {
        let operators = item.is_operators() || item.is_of_plugs();
        if self.random.f64() < self.weather.loss {
            return;
        }
        if !operators && self.random.f64() < self.weather.repeat {
            // The copy may come when all else is over.
            self.later(self.weather.delay * 4, item.clone());
        }
        let delay = if operators {
            self.weather.delay.min(50)
        } else {
            self.weather.delay
        };
        self.later(delay, item);
    }

    pub(super) fn open(&mut self, waiter: Waiter, within: Duration) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        let life = waiter.place().map_or(0, |place| self.life(place));
        self.slots.insert(token, Slot { waiter, life });
        let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.at(ms, Item::Deadline { token });
        token
    }

    pub(super) fn deadline(&mut self, token: u64) {
        let Some(slot) = self.slots.remove(&token) else {
            return;
        };
        if slot
            .waiter
            .place()
            .is_some_and(|place| self.life(place) != slot.life)
        {
            return;
        }
        let silence = "no answer in time".to_owned();
        match slot.waiter {
            Waiter::Push {
                push,
                call,
                missing,
                covers: _,
            } => {
                let outcomes = missing
                    .into_iter()
                    .map(|host| publisher::Outcome {
                        host,
                        call,
                        answer: publisher::Answer::TimedOut,
                    })
                    .collect();
                let event = publisher::Event::Outcomes { push, outcomes };
                self.turn_publisher(Some(event));
            }
            Waiter::HandOver { number } => {
                let event = publisher::Event::HandedOver {
                    number,
                    result: Err(silence),
                };
                self.turn_publisher(Some(event));
            }
            Waiter::Render { flight, .. } => {
                let event = retry::Event::Rendered {
                    flight,
                    result: Err(silence),
                };
                self.turn_retry(Some(event));
            }
            Waiter::Flight { flight, .. } => {
                let event = retry::Event::Answered {
                    flight,
                    answer: RetryAnswer::TimedOut,
                };
                self.turn_retry(Some(event));
            }
            Waiter::Hello { host } => self.turn_host(
                host,
                Some(HostEvent::Greeted(Err(AskFailure::MaybeDone(silence)))),
            ),
            Waiter::Tell { host, seq } => self.turn_host(
                host,
                Some(HostEvent::Acknowledged {
                    seq,
                    outcome: Err(AskFailure::MaybeDone(silence)),
                }),
            ),
            Waiter::Claim { host, port } => {
                let outcome = Err(AskFailure::MaybeDone(silence));
                self.turn_host(host, Some(HostEvent::Claimed { port, outcome }));
            }
            Waiter::Release { host, asked } => {
                let outcome = Err(AskFailure::MaybeDone(silence));
                self.turn_host(host, Some(HostEvent::Released { asked, outcome }));
            }
            Waiter::Ask { ask, .. } | Waiter::Rip { ask } | Waiter::Placements { ask } => {
                let answer = runtime_collector::Answer::TimedOut;
                self.turn_collector(Some(runtime_collector::Event::Answered { ask, answer }));
            }
            Waiter::Identify { host, session } => {
                let event = publisher::Event::Identified {
                    host,
                    session,
                    is_there: Ok(false),
                };
                self.turn_publisher(Some(event));
            }
            Waiter::Operator => {
                self.told.insert(token, Told::Silence);
            }
        }
    }
}
