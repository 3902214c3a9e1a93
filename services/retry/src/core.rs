// SPDX-License-Identifier: Apache-2.0
//! The deciding code: requests and the fate of tries in; ledger writes,
//! replies, questions to the publisher and calls to hosts out.
//!
//! A try is a flight in two legs: the publisher is asked for the current final
//! state, then the host is asked to make it true. Every effect of a leg must
//! come back as exactly one event; that frees its place in the air.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ledger::{Core, Decision, Ledger, LoadError, Writes};
use dvs_schemas::v1::{
    EntrySelection, Observed, PutReply, RenderReply, RenderRequest, RepushKey, RetryListReply,
    RetryListRequest, RetryPut, RipKey, SelectionReply, Settlement, V1,
};
use dvs_schemas::{HostName, Problem, SessionId, Timestamp};
pub use dvs_transport::endpoint::ReplyToken;
use fastrand::Rng;
use serde::Serialize;

use crate::backoff::{Backoff, Pace};
use crate::commit::Commit;
use crate::hearing::{Hearing, News};
use crate::key::{Answer, HostCall, Key, Rendering};
use crate::note::Note;
use crate::queue::{FlightId, Landing, Queue};
use crate::{ledger, list};

/// Most tries at once, over both queues. After the loss of a rack or a bus
/// thousands of entries are due within one window; this many keep a publisher
/// busy, while the full states under way (60 ports: some 20 kB each) stay
/// around 10 MB.
pub const IN_FLIGHT: usize = 512;

/// What may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// When tries are repeated.
    pub backoff: Backoff,
    /// How long a host may take to answer.
    pub push_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            push_timeout: Duration::from_secs(5),
        }
    }
}

/// What happens to the core.
#[derive(Debug, Clone)]
pub enum Event {
    /// Calls that were not acknowledged, and full states that were.
    Put {
        /// The request.
        request: RetryPut,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// The queues are to be shown.
    List {
        /// The request.
        request: RetryListRequest,
        /// Bytes that the page may have.
        budget: usize,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// A host lives.
    Heartbeat {
        /// The host.
        host: HostName,
        /// The session of the agent that says so.
        session: SessionId,
        /// When it says so again, at the latest.
        interval: Duration,
        /// What it has applied, by switch.
        observed: Vec<Observed>,
    },
    /// Entries are to be acted on.
    Act {
        /// What is to be done.
        action: Action,
        /// To which.
        selection: EntrySelection,
        /// Where the reply goes.
        reply: ReplyToken,
    },
    /// The publisher answered, or why it did not.
    Rendered {
        /// The flight.
        flight: FlightId,
        /// Its answer.
        result: Result<RenderReply, String>,
    },
    /// A call to a host ended.
    Answered {
        /// The flight.
        flight: FlightId,
        /// How.
        answer: Answer,
    },
}

/// What operators do to entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Try now, parked ones too.
    Kick,
    /// Don't try, but keep.
    Park,
    /// Drop.
    Cancel,
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A request is answered.
    Reply {
        /// Which.
        to: ReplyToken,
        /// With what.
        result: Result<ReplyBody, Problem>,
    },
    /// The publisher is to be asked; comes back as [`Event::Rendered`].
    Render {
        /// The flight.
        flight: FlightId,
        /// The question.
        request: RenderRequest,
    },
    /// A host is to be asked; comes back as [`Event::Answered`].
    Call {
        /// The flight.
        flight: FlightId,
        /// The host.
        host: HostName,
        /// What it is asked.
        call: HostCall,
        /// How long it may take.
        timeout: Duration,
    },
    /// To be logged.
    Note(Note),
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReplyBody {
    /// To a put.
    Put(PutReply),
    /// To a list.
    List(RetryListReply),
    /// To an action.
    Selection(SelectionReply),
}

/// A try under way.
#[derive(Debug)]
struct Flight {
    key: AnyKey,
    leg: Leg,
}

#[derive(Debug, Clone)]
enum AnyKey {
    Repush(RepushKey),
    Rip(RipKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    /// To the publisher.
    Rendering,
    /// To the host's agent of this session, with what covers all that was put up
    /// to this commit.
    Calling { session: SessionId, covers: Commit },
}

/// Both queues and the tries under way.
#[derive(Debug)]
pub struct Retry {
    settings: Settings,
    pace: Pace,
    repush: Queue<RepushKey>,
    rip: Queue<RipKey>,
    /// Those whose entry left them, too: they hold their place until they land.
    flights: BTreeMap<FlightId, Flight>,
    next_flight: u64,
    hearing: Hearing,
}

impl Retry {
    /// The queues as the ledger has them. What was being tried is due again.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn load(
        ledger: &Ledger,
        settings: Settings,
        rng: Rng,
        now: Timestamp,
    ) -> Result<Self, LoadError> {
        let latest = now.after(settings.backoff.cap);
        Ok(Self {
            settings,
            pace: Pace {
                backoff: settings.backoff,
                rng,
            },
            repush: Queue::load(ledger::load(ledger)?, latest),
            rip: Queue::load(ledger::load(ledger)?, latest),
            flights: BTreeMap::new(),
            next_flight: 0,
            hearing: Hearing::default(),
        })
    }

    /// Hosts and switches out of sync.
    #[must_use]
    pub fn repush_entries(&self) -> usize {
        self.repush.len()
    }

    /// Virtual ports that are to go.
    #[must_use]
    pub fn rip_entries(&self) -> usize {
        self.rip.len()
    }

    /// Hosts and switches out of sync, with the newest commit that each is
    /// known to miss.
    pub fn repush(&self) -> impl Iterator<Item = (&RepushKey, Commit)> {
        self.repush.commits()
    }

    /// Virtual ports that are to go, with the newest commit that took each
    /// away.
    pub fn rip(&self) -> impl Iterator<Item = (&RipKey, Commit)> {
        self.rip.commits()
    }

    /// Tries under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Hosts whose heartbeats are compared with the one before.
    #[must_use]
    pub fn listened_for(&self) -> usize {
        self.hearing.hosts()
    }

    fn put(&mut self, now: Timestamp, request: RetryPut, out: &mut Decision<Effect>) -> PutReply {
        let RetryPut {
            v: V1,
            store,
            repush,
            rip,
            settled,
            forgotten,
        } = request;
        for attempt in repush {
            self.repush.put(now, store, attempt, &mut self.pace, out);
        }
        for attempt in rip {
            self.rip.put(now, store, attempt, &mut self.pace, out);
        }
        // A full state has no port that was removed before it, so removals are
        // done with it as well.
        for settlement in &settled {
            self.repush.settle(store, settlement, out);
            self.rip.settle(store, settlement, out);
            self.stop_listening(&settlement.host);
        }
        for forgotten in &forgotten {
            self.repush.forget(store, forgotten, out);
            self.rip.forget(store, forgotten, out);
            self.stop_listening(&forgotten.host);
        }
        PutReply {
            v: V1,
            entries: (self.repush.len() + self.rip.len()) as u64,
        }
    }

    fn act(
        &mut self,
        now: Timestamp,
        action: Action,
        selection: &EntrySelection,
        out: &mut Decision<Effect>,
    ) -> Result<SelectionReply, Problem> {
        if *selection == EntrySelection::default() {
            return Err(Problem::invalid("the request selects nothing")
                .allow("at least one of queue, host, switch, port"));
        }
        let (repush, rip) = (&mut self.repush, &mut self.rip);
        let entries = match action {
            Action::Kick => {
                let writes = &mut out.writes;
                repush.kick(now, selection, writes) + rip.kick(now, selection, writes)
            }
            Action::Park => {
                repush.park(selection, &mut out.writes) + rip.park(selection, &mut out.writes)
            }
            Action::Cancel => {
                let entries = repush.cancel(selection, out) + rip.cancel(selection, out);
                let listens = |host: &HostName| repush.has(host) || rip.has(host);
                self.hearing.keep(listens);
                entries
            }
        };
        Ok(SelectionReply { v: V1, entries })
    }

    /// A host lives. What it missed is tried at once if it was silent, and so is
    /// what it missed of a switch of which it has applied something since: why
    /// it failed may be over.
    fn heartbeat(
        &mut self,
        now: Timestamp,
        host: &HostName,
        session: SessionId,
        interval: Duration,
        mut observed: Vec<Observed>,
        writes: &mut Writes,
    ) {
        let (repush, rip) = (&mut self.repush, &mut self.rip);
        if !(repush.has(host) || rip.has(host)) {
            return;
        }
        observed.retain(|of| repush.misses(host, &of.switch) || rip.misses(host, &of.switch));
        match self.hearing.heard(now, host, session, interval, observed) {
            News::None => {}
            News::Back => {
                repush.is_back(now, host, None, writes);
                rip.is_back(now, host, None, writes);
            }
            News::Applied(switches) => {
                for switch in &switches {
                    repush.is_back(now, host, Some(switch), writes);
                    rip.is_back(now, host, Some(switch), writes);
                }
            }
        }
    }

    /// Only hosts that have entries are listened for.
    fn stop_listening(&mut self, host: &HostName) {
        if !(self.repush.has(host) || self.rip.has(host)) {
            self.hearing.forget(host);
        }
    }

    fn rendered(
        &mut self,
        now: Timestamp,
        id: FlightId,
        result: Result<RenderReply, String>,
        out: &mut Decision<Effect>,
    ) {
        let Some(Flight {
            key,
            leg: Leg::Rendering,
        }) = self.flights.get(&id)
        else {
            return;
        };
        let (flying, rendering) = match key {
            AnyKey::Repush(key) => (self.repush.is_flying(key, id), rendering(key, result)),
            AnyKey::Rip(key) => (self.rip.is_flying(key, id), rendering(key, result)),
        };
        let landing = match rendering {
            Ok(Rendering::Call(call, session, covers)) if flying => {
                let host = match key {
                    AnyKey::Repush(key) => &key.host,
                    AnyKey::Rip(key) => &key.host,
                };
                self.hearing.in_session(host, session);
                self.call(id, call, Leg::Calling { session, covers }, out);
                return;
            }
            // Lands nowhere: the entry left its flight.
            Ok(Rendering::Call(..) | Rendering::Cancelled) => Landing::Cancelled,
            Err(error) => Landing::NotTried(error),
        };
        self.land(now, id, landing, out);
    }

    fn call(&mut self, id: FlightId, call: HostCall, leg: Leg, out: &mut Decision<Effect>) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        flight.leg = leg;
        out.effect(Effect::Call {
            flight: id,
            host: match &flight.key {
                AnyKey::Repush(key) => key.host.clone(),
                AnyKey::Rip(key) => key.host.clone(),
            },
            call,
            timeout: self.settings.push_timeout,
        });
    }

    fn answered(
        &mut self,
        now: Timestamp,
        id: FlightId,
        answer: Answer,
        out: &mut Decision<Effect>,
    ) {
        let Some(Flight {
            key,
            leg: Leg::Calling { session, covers },
        }) = self.flights.get(&id)
        else {
            return;
        };
        let (session, covers) = (*session, *covers);
        let verdict = match key {
            AnyKey::Repush(key) => {
                let verdict = key.verdict(answer, session);
                if verdict.is_ok() {
                    // As a settlement by the publisher: the host has none of
                    // the ports that were removed before.
                    let RepushKey { host, switch } = key.clone();
                    let applied = Settlement {
                        host,
                        switch,
                        revision: covers.revision,
                    };
                    self.rip.settle(covers.store, &applied, out);
                }
                verdict
            }
            AnyKey::Rip(key) => key.verdict(answer, session),
        };
        let landing = match verdict {
            Ok(()) => Landing::Done { covers },
            Err(error) => Landing::Failed(error),
        };
        self.land(now, id, landing, out);
    }

    fn land(&mut self, now: Timestamp, id: FlightId, landing: Landing, out: &mut Decision<Effect>) {
        let Some(Flight { key, leg: _ }) = self.flights.remove(&id) else {
            return;
        };
        let pace = &mut self.pace;
        let host = match key {
            AnyKey::Repush(key) => {
                self.repush.land(now, &key, id, landing, pace, out);
                key.host
            }
            AnyKey::Rip(key) => {
                self.rip.land(now, &key, id, landing, pace, out);
                key.host
            }
        };
        self.stop_listening(&host);
    }

    /// Starts the try that is due first in either queue, if one is due by now.
    fn launch(&mut self, now: Timestamp) -> Option<Effect> {
        let id = FlightId(self.next_flight);
        let rip_first = match (self.repush.due(), self.rip.due()) {
            (Some(repush), Some(rip)) => rip < repush,
            (repush, _) => repush.is_none(),
        };
        let (key, request) = if rip_first {
            let (key, revision) = self.rip.launch(now, id)?;
            let request = key.question(revision);
            (AnyKey::Rip(key), request)
        } else {
            let (key, revision) = self.repush.launch(now, id)?;
            let request = key.question(revision);
            (AnyKey::Repush(key), request)
        };
        self.next_flight += 1;
        let leg = Leg::Rendering;
        self.flights.insert(id, Flight { key, leg });
        Some(Effect::Render {
            flight: id,
            request,
        })
    }
}

fn rendering(key: &impl Key, result: Result<RenderReply, String>) -> Result<Rendering, String> {
    result.and_then(|reply| key.rendering(reply))
}

impl Core for Retry {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event, out: &mut Decision<Effect>) {
        let (to, result) = match event {
            Event::Put { request, reply } => {
                let put = self.put(now, request, out);
                (reply, Ok(ReplyBody::Put(put)))
            }
            Event::List {
                request,
                budget,
                reply,
            } => {
                let page = list::page(now, &request, budget, &self.repush, &self.rip);
                (reply, page.map(ReplyBody::List))
            }
            Event::Heartbeat {
                host,
                session,
                interval,
                observed,
            } => {
                let writes = &mut out.writes;
                return self.heartbeat(now, &host, session, interval, observed, writes);
            }
            Event::Act {
                action,
                selection,
                reply,
            } => {
                let acted = self.act(now, action, &selection, out);
                (reply, acted.map(ReplyBody::Selection))
            }
            Event::Rendered { flight, result } => return self.rendered(now, flight, result, out),
            Event::Answered { flight, answer } => return self.answered(now, flight, answer, out),
        };
        out.effect(Effect::Reply { to, result });
    }

    /// Nothing is due while the air is full; the next landing changes that.
    fn due(&self) -> Option<Timestamp> {
        if self.flights.len() >= IN_FLIGHT {
            return None;
        }
        [self.repush.due(), self.rip.due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn wake(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        while self.flights.len() < IN_FLIGHT {
            match self.launch(now) {
                Some(effect) => out.effect(effect),
                None => return,
            }
        }
    }
}
