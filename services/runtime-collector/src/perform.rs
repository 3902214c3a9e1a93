// SPDX-License-Identifier: Apache-2.0
//! Effects to IO. Hosts are asked through the transport, services by plain
//! requests, and how that ends comes back as an event, exactly once per question.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dvs_schemas::HostName;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_transport::endpoint::Waiting;
use dvs_transport::{Batch, Bus, Call, CallResult, Outcomes, Transport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::events::{Answer, AskId, Effect, Event, Question};
use crate::metrics::Heard;

/// How long retry may take.
const RETRY: Duration = Duration::from_secs(5);

/// How long the publisher may take. Hosts wait longer for an acknowledgement,
/// so they are told why there is none.
const PUBLISHER: Duration = Duration::from_secs(2);

/// What carries effects out.
#[derive(Debug)]
pub struct Performer {
    /// The bus, for what services are asked.
    pub bus: Bus,
    /// The way to the hosts.
    pub transport: Transport,
    /// What is to be answered.
    pub waiting: Waiting,
    /// Where results go.
    pub inbox: mpsc::Sender<Event>,
    /// Counts how questions end.
    pub heard: Heard,
}

impl Performer {
    /// Carries out effects, in order, until there are no more.
    pub async fn run(self, mut effects: mpsc::Receiver<Vec<Effect>>) {
        while let Some(batch) = effects.recv().await {
            self.perform(batch).await;
        }
    }

    async fn perform(&self, effects: Vec<Effect>) {
        let mut questions: BTreeMap<Duration, Vec<(AskId, HostName, Question)>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Reply { to, result } => self.waiting.reply(to, result).await,
                Effect::Ask {
                    ask,
                    host,
                    request,
                    timeout,
                } => questions
                    .entry(timeout)
                    .or_default()
                    .push((ask, host, request)),
                Effect::Rip { ask, put } => {
                    let (bus, subject) = (self.bus.clone(), subjects::RETRY_PUT);
                    self.bring_back(ask, async move {
                        ask_service(&bus, subject, &put, RETRY, Answer::Put).await
                    });
                }
                Effect::Placements { ask, request } => {
                    let (bus, subject) = (self.bus.clone(), subjects::PORT_PLACEMENTS);
                    self.bring_back(ask, async move {
                        ask_service(&bus, subject, &request, PUBLISHER, Answer::Placements).await
                    });
                }
            }
        }
        for (timeout, questions) in questions {
            self.ask(timeout, questions);
        }
    }

    /// Brings a service's answer back when it is there.
    fn bring_back(&self, ask: AskId, answer: impl Future<Output = Answer> + Send + 'static) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            // A loop that has ended needs no answer.
            let _ = inbox.send(Event::Answered { ask, answer }).await;
        });
    }

    /// Sends the questions of one turn as one batch.
    fn ask(&self, timeout: Duration, questions: Vec<(AskId, HostName, Question)>) {
        let (asked, calls) = questions
            .into_iter()
            .map(|(ask, host, question)| {
                let (verb, payload) = match &question {
                    Question::Live(live) => (AgentVerb::Live, written(&host, live)),
                    Question::Fetch(fetch) => (AgentVerb::Fetch, written(&host, fetch)),
                };
                let subject = subjects::agent(&host, verb);
                let call = Call::Direct {
                    host,
                    subject,
                    payload,
                };
                ((ask, question), call)
            })
            .unzip();
        let outcomes = self.transport.send(Batch {
            deadline: timeout,
            calls,
        });
        let (inbox, heard) = (self.inbox.clone(), self.heard.clone());
        tokio::spawn(collect(asked, outcomes, inbox, heard));
    }
}

/// Brings the outcomes of a batch back.
async fn collect(
    asked: Vec<(AskId, Question)>,
    mut outcomes: Outcomes,
    inbox: mpsc::Sender<Event>,
    heard: Heard,
) {
    while let Some(chunk) = outcomes.next().await {
        for outcome in chunk {
            let Some((ask, question)) = asked.get(outcome.call) else {
                continue;
            };
            let ask = *ask;
            let answer = match outcome.result {
                CallResult::Answered(payload) => read(question, &payload),
                CallResult::TimedOut => Answer::TimedOut,
                CallResult::NoResponder => Answer::NoResponder,
                CallResult::NotSent(why) => Answer::NotSent(why),
            };
            heard.answered(&answer);
            tracing::debug!(host = %outcome.host, outcome = answer.word(), "asked a host");
            if inbox.send(Event::Answered { ask, answer }).await.is_err() {
                return;
            }
        }
    }
}

/// Asks a service.
async fn ask_service<R: DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    request: &impl Serialize,
    within: Duration,
    answered: impl FnOnce(R) -> Answer,
) -> Answer {
    let payload = match codec::encode(Format::MessagePack, request) {
        Ok(payload) => payload,
        Err(error) => return Answer::NotSent(error.to_string()),
    };
    let answer = match bus.request(subject.to_owned(), payload, within).await {
        Ok(message) => codec::decode_answer(&message.payload)
            .map_or_else(|problem| Answer::Refused(problem.to_string()), answered),
        Err(error) => Answer::NotSent(error.to_string()),
    };
    tracing::debug!(subject, outcome = answer.word(), "asked a service");
    answer
}

/// A message that can't be written leaves as an empty one; the host says that
/// it can't be read.
fn written(host: &HostName, question: &impl Serialize) -> Bytes {
    codec::encode(Format::MessagePack, question).unwrap_or_else(|error| {
        tracing::error!(%host, %error, "a question can't be written");
        Bytes::new()
    })
}

/// Reads an answer; where a problem came in its stead, that is the reason.
fn read(question: &Question, payload: &[u8]) -> Answer {
    let answer = match question {
        Question::Live(_) => codec::decode_answer(payload).map(Answer::Live),
        Question::Fetch(_) => codec::decode_answer(payload).map(Answer::Fetched),
    };
    answer.unwrap_or_else(|problem| Answer::Refused(problem.to_string()))
}
