// SPDX-License-Identifier: Apache-2.0
//! Effects to IO. What takes time runs in tasks of its own, whose results come
//! back as events; every flight's leg comes back exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dvs_schemas::HostName;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::{RenderReply, RenderRequest};
use dvs_transport::endpoint::Waiting;
use dvs_transport::{Batch, Bus, Call, CallResult, Outcomes, Transport};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::core::{Effect, Event};
use crate::key::{Answer, HostCall};
use crate::metrics::Tries;
use crate::queue::FlightId;

/// How long the publisher may take to render. It does so from memory; what
/// takes longer is a publisher that waits for its disk or the bus.
const RENDER_TIMEOUT: Duration = Duration::from_secs(5);

/// What carries effects out.
#[derive(Debug)]
pub struct Performer {
    /// The connection.
    pub bus: Bus,
    /// The way to the hosts.
    pub transport: Transport,
    /// Requests to be answered.
    pub waiting: Waiting,
    /// Where results go.
    pub inbox: mpsc::Sender<Event>,
    /// Counts how tries end.
    pub tries: Tries,
}

/// Which answer a call gets.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Clobber,
    Remove,
}

impl Performer {
    /// Carries out effects, in order, until there are no more. What is under
    /// way then is dropped: the ledger has its entries.
    ///
    /// # Errors
    /// A task panicked; its flight would never come back.
    pub async fn run(self, mut effects: mpsc::Receiver<Vec<Effect>>) -> Result<(), JoinError> {
        let mut tasks = JoinSet::new();
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                batch = effects.recv() => match batch {
                    Some(batch) => self.perform(batch, &mut tasks).await,
                    None => return Ok(()),
                },
                Some(ended) = tasks.join_next() => ended?,
            }
        }
    }

    async fn perform(&self, effects: Vec<Effect>, tasks: &mut JoinSet<()>) {
        let mut calls: BTreeMap<Duration, Vec<(FlightId, HostName, HostCall)>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Reply { to, result } => self.waiting.reply(to, result).await,
                Effect::Note(note) => note.log(),
                Effect::Render { flight, request } => self.render(flight, request, tasks),
                Effect::Call {
                    flight,
                    host,
                    call,
                    timeout,
                } => calls.entry(timeout).or_default().push((flight, host, call)),
            }
        }
        for (timeout, calls) in calls {
            self.call(timeout, calls, tasks);
        }
    }

    fn render(&self, flight: FlightId, request: RenderRequest, tasks: &mut JoinSet<()>) {
        let (bus, inbox, tries) = (self.bus.clone(), self.inbox.clone(), self.tries.clone());
        tasks.spawn(async move {
            let result = ask_publisher(&bus, &request).await;
            if result.is_err() {
                tries.not_rendered();
            }
            // Nobody takes it: the service stops, and its ledger has the entry.
            let _ = inbox.send(Event::Rendered { flight, result }).await;
        });
    }

    /// Sends the calls of one turn as one batch.
    fn call(
        &self,
        timeout: Duration,
        calls: Vec<(FlightId, HostName, HostCall)>,
        tasks: &mut JoinSet<()>,
    ) {
        let (asked, calls) = calls
            .into_iter()
            .map(|(flight, host, call)| {
                let (kind, verb, payload) = match &call {
                    HostCall::Clobber(clobber) => (
                        Kind::Clobber,
                        AgentVerb::Clobber,
                        codec::encode(Format::MessagePack, clobber),
                    ),
                    HostCall::Remove(remove) => (
                        Kind::Remove,
                        AgentVerb::Remove,
                        codec::encode(Format::MessagePack, remove),
                    ),
                };
                // A message that can't be written leaves as an empty one; the
                // host says that it can't be read.
                let payload = payload.unwrap_or_else(|error| {
                    tracing::error!(%host, %error, "a call can't be written");
                    Bytes::new()
                });
                let subject = subjects::agent(&host, verb);
                let call = Call::Direct {
                    host,
                    subject,
                    payload,
                };
                ((flight, kind), call)
            })
            .unzip();
        let outcomes = self.transport.send(Batch {
            deadline: timeout,
            calls,
        });
        tasks.spawn(collect(
            asked,
            outcomes,
            self.inbox.clone(),
            self.tries.clone(),
        ));
    }
}

/// Brings the outcomes of a batch back.
async fn collect(
    asked: Vec<(FlightId, Kind)>,
    mut outcomes: Outcomes,
    inbox: mpsc::Sender<Event>,
    tries: Tries,
) {
    while let Some(chunk) = outcomes.next().await {
        for outcome in chunk {
            let Some((flight, kind)) = asked.get(outcome.call).copied() else {
                continue;
            };
            let answer = match outcome.result {
                CallResult::Answered(payload) => match kind {
                    Kind::Clobber => answer(&payload, Answer::Clobber),
                    Kind::Remove => answer(&payload, Answer::Remove),
                },
                CallResult::TimedOut => Answer::TimedOut,
                CallResult::NoResponder => Answer::NoResponder,
                CallResult::NotSent(why) => Answer::NotSent(why),
            };
            tries.ended(&answer);
            if inbox
                .send(Event::Answered { flight, answer })
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn answer<T: DeserializeOwned>(payload: &[u8], of: impl Fn(T) -> Answer) -> Answer {
    match codec::decode_answer(payload) {
        Ok(report) => of(report),
        Err(problem) => Answer::Unreadable(problem.to_string()),
    }
}

async fn ask_publisher(bus: &Bus, request: &RenderRequest) -> Result<RenderReply, String> {
    let payload = codec::encode(Format::MessagePack, request).map_err(|error| error.to_string())?;
    let reply = bus
        .request(subjects::CONFIG_RENDER, payload, RENDER_TIMEOUT)
        .await
        .map_err(|error| format!("config-publisher was not reached: {error}"))?;
    codec::decode_answer(&reply.payload)
        .map_err(|problem| format!("config-publisher said: {problem}"))
}
