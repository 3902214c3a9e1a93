// SPDX-License-Identifier: Apache-2.0
//! Effects to IO. Hosts are asked through the transport, and how that ends
//! comes back as an event, exactly once per question.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dvs_schemas::HostName;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::Live;
use dvs_transport::endpoint::Waiting;
use dvs_transport::{Batch, Call, CallResult, Outcomes, Transport};
use tokio::sync::mpsc;

use crate::events::{Answer, AskId, Effect, Event};
use crate::metrics::Heard;

/// What carries effects out.
#[derive(Debug)]
pub struct Performer {
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
        let mut questions: BTreeMap<Duration, Vec<(AskId, HostName, Live)>> = BTreeMap::new();
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
            }
        }
        for (timeout, questions) in questions {
            self.ask(timeout, questions);
        }
    }

    /// Sends the questions of one turn as one batch.
    fn ask(&self, timeout: Duration, questions: Vec<(AskId, HostName, Live)>) {
        let (asked, calls) = questions
            .into_iter()
            .map(|(ask, host, request)| {
                // A message that can't be written leaves as an empty one; the
                // host says that it can't be read.
                let payload =
                    codec::encode(Format::MessagePack, &request).unwrap_or_else(|error| {
                        tracing::error!(%host, %error, "a question can't be written");
                        Bytes::new()
                    });
                let subject = subjects::agent(&host, AgentVerb::Live);
                let call = Call::Direct {
                    host,
                    subject,
                    payload,
                };
                (ask, call)
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
    asked: Vec<AskId>,
    mut outcomes: Outcomes,
    inbox: mpsc::Sender<Event>,
    heard: Heard,
) {
    while let Some(chunk) = outcomes.next().await {
        for outcome in chunk {
            let Some(ask) = asked.get(outcome.call).copied() else {
                continue;
            };
            let answer = match outcome.result {
                CallResult::Answered(payload) => read(&payload),
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

/// Reads an answer; where a problem came in its stead, that is the reason.
fn read(payload: &[u8]) -> Answer {
    match codec::decode_answer(payload) {
        Ok(reply) => Answer::Live(reply),
        Err(problem) => Answer::Refused(problem.to_string()),
    }
}
