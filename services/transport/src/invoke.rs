// SPDX-License-Identifier: Apache-2.0
//! The network transport component: takes a batch, returns at once, invokes all
//! hosts in parallel, and hands back how each call ended.
//!
//! IO only; [`crate::mux`] decides which reply ends which call. Two tasks: one
//! owns the mux and reads replies, the other publishes, so a full connection
//! never keeps replies from being read. [`Invoking`] tells of their end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use dvs_schemas::ids::HostName;
use dvs_schemas::subjects::{self, EVERY_HOST};
use futures_util::StreamExt;
use futures_util::stream::ReadyChunks;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Outbound};
use crate::error::BusError;
use crate::mux::{Asked, BatchId, CallResult, Mux, Outcome, Speaker, Token};

/// Batches that may wait for a task: one change makes one batch, so this is
/// some seconds of changes that come faster than they leave. Past it, batches
/// end as not sent, and retry has them.
const BATCHES: usize = 1_024;

/// Replies handled between two looks at everything else. The runtime lets a
/// task take 128 messages before others have their turn; more never come.
const CHUNK: usize = 128;

/// Calls to make in parallel, and how long to wait for them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Counted from [`Transport::send`]; what has no answer by then ends as
    /// [`CallResult::TimedOut`].
    pub deadline: Duration,
    /// The calls, in the order in which they are sent.
    pub calls: Vec<Call>,
}

/// One message.
#[derive(Debug, Clone)]
pub enum Call {
    /// One message that many hosts get and each answers. Sending costs the
    /// same for any number of hosts.
    FanOut {
        /// The subject that the hosts listen to.
        subject: String,
        /// The message.
        payload: Bytes,
        /// Whose answers are waited for; a host named twice counts once.
        hosts: Arc<[HostName]>,
    },
    /// A message to one host.
    Direct {
        /// Whose answer is waited for.
        host: HostName,
        /// The host's subject.
        subject: String,
        /// The message.
        payload: Bytes,
    },
}

/// How the calls of one batch end, as they end: each host of each call exactly
/// once, then the end of the stream. Dropping it forgets the batch.
#[derive(Debug)]
pub struct Outcomes {
    receiver: mpsc::UnboundedReceiver<Vec<Outcome>>,
}

impl Outcomes {
    /// The outcomes that arrived together; none when every host has its own.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Outcome>> {
        self.receiver.recv().await
    }

    /// All outcomes, when the last one is there.
    pub async fn all(mut self) -> Vec<Outcome> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend(chunk);
        }
        all
    }
}

/// Where outcomes go. Unbounded, as the reader of replies must never wait for
/// a slow asker; the batch itself is the bound, one outcome per host.
type OutcomeSender = mpsc::UnboundedSender<Vec<Outcome>>;

/// The asker's end of the component; clones share it. Batches under way are
/// finished after the last clone is gone.
#[derive(Debug, Clone)]
pub struct Transport {
    batches: mpsc::Sender<Sent>,
}

#[derive(Debug)]
struct Sent {
    calls: Vec<Call>,
    deadline: Instant,
    outcomes: OutcomeSender,
}

impl Transport {
    /// Starts the component on a connection. `instance` names this asker in
    /// reply subjects: one token, used by nobody else.
    ///
    /// # Errors
    /// The subscription to the replies is refused.
    pub async fn start(bus: Bus, instance: &str) -> Result<(Self, Invoking), BusError> {
        // No round trip: this connection's first push follows its subscription
        // on the same wire, at each reconnect too.
        let subject = subjects::replies_to(instance);
        let replies = bus
            .client()
            .subscribe(subject.clone())
            .await
            .map_err(|error| BusError::Refused {
                subject,
                reason: error.to_string(),
            })?;
        let (batches, sent) = mpsc::channel(BATCHES);
        let (publishes, to_publish) = mpsc::channel(BATCHES);
        let (failed, failures) = mpsc::channel(CHUNK);
        let mut tasks = JoinSet::new();
        tasks.spawn(publish_all(bus.clone(), to_publish, failed));
        let invoker = Invoker {
            bus,
            instance: instance.to_owned(),
            mux: Mux::default(),
            askers: HashMap::new(),
            publishes,
            ignored: 0,
        };
        tasks.spawn(invoker.run(sent, replies.ready_chunks(CHUNK), failures));
        Ok((Self { batches }, Invoking { tasks }))
    }

    /// Makes the calls. Returns at once; the outcomes come as they come.
    #[must_use]
    pub fn send(&self, batch: Batch) -> Outcomes {
        let Batch { deadline, calls } = batch;
        let (outcomes, receiver) = mpsc::unbounded_channel();
        let sent = Sent {
            calls,
            deadline: Instant::now() + deadline,
            outcomes,
        };
        if let Err(error) = self.batches.try_send(sent) {
            let (sent, reason) = match error {
                mpsc::error::TrySendError::Full(sent) => (sent, "too many pushes wait already"),
                mpsc::error::TrySendError::Closed(sent) => (sent, "the service is stopping"),
            };
            refuse(sent, reason);
        }
        Outcomes { receiver }
    }
}

/// The component at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Invoking {
    tasks: JoinSet<()>,
}

impl Invoking {
    /// Watches over the component until `stop`; what is under way then goes on
    /// unwatched, until the last clone of [`Transport`] is gone and the last
    /// batch has ended.
    ///
    /// # Errors
    /// A task panicked. Nothing is invoked any more: the service must be
    /// started anew.
    pub async fn watch(mut self, stop: CancellationToken) -> Result<(), JoinError> {
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended?;
            }
            Ok(())
        };
        let outcome = stop.run_until_cancelled(ended).await;
        if outcome.is_none() {
            self.tasks.detach_all();
        }
        outcome.unwrap_or(Ok(()))
    }
}

/// Ends a batch that didn't even start, through a mux so that it ends as any
/// other does.
fn refuse(sent: Sent, reason: &str) {
    let mut mux = Mux::default();
    let (_, tokens) = mux.begin(sent.calls.iter().map(asked), sent.deadline.into_std());
    for token in tokens {
        mux.not_sent(token, reason);
    }
    for delivery in mux.deliveries() {
        // The asker holds the receiving end this very moment.
        let _kept = sent.outcomes.send(delivery.outcomes);
    }
}

fn asked(call: &Call) -> Asked {
    match call {
        Call::FanOut { hosts, .. } => Asked::Many(hosts.clone()),
        Call::Direct { host, .. } => Asked::One(host.clone()),
    }
}

/// A message on its way to the connection.
#[derive(Debug)]
struct Publish {
    token: Token,
    message: Outbound,
}

/// The publishes of one batch.
#[derive(Debug)]
struct Publishes {
    deadline: Instant,
    publishes: Vec<Publish>,
}

#[derive(Debug)]
struct Failure {
    token: Token,
    reason: String,
}

struct Invoker {
    bus: Bus,
    instance: String,
    mux: Mux,
    askers: HashMap<BatchId, OutcomeSender>,
    publishes: mpsc::Sender<Publishes>,
    /// What of the mux's ignored replies is in the bus's counters.
    ignored: u64,
}

impl Invoker {
    /// Runs until nobody can send any more and the last batch has ended. Every
    /// arm is cancel-safe: a stream's next chunk, a channel's next message, a
    /// sleep.
    async fn run(
        mut self,
        mut sent: mpsc::Receiver<Sent>,
        mut replies: ReadyChunks<Subscriber>,
        mut failures: mpsc::Receiver<Failure>,
    ) {
        let mut accepting = true;
        let mut listening = true;
        while accepting || !self.mux.is_empty() {
            let deadline = self.mux.next_deadline().map(Instant::from_std);
            tokio::select! {
                chunk = replies.next(), if listening => match chunk {
                    Some(messages) => messages.into_iter().for_each(|message| self.on_reply(message)),
                    // The connection is closed for good; deadlines end the rest.
                    None => listening = false,
                },
                batch = sent.recv(), if accepting => match batch {
                    Some(batch) => self.begin(batch),
                    None => accepting = false,
                },
                Some(Failure { token, reason }) = failures.recv() => self.mux.not_sent(token, &reason),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.mux.expire(Instant::now().into_std());
                }
            }
            self.deliver();
        }
    }

    fn begin(&mut self, sent: Sent) {
        let Sent {
            calls,
            deadline,
            outcomes,
        } = sent;
        let (batch, tokens) = self.mux.begin(calls.iter().map(asked), deadline.into_std());
        self.askers.insert(batch, outcomes);
        let publishes = calls
            .into_iter()
            .zip(&tokens)
            .filter_map(|(call, token)| self.publish(call, *token));
        let publishes = Publishes {
            deadline,
            publishes: publishes.collect(),
        };
        if self.publishes.try_send(publishes).is_err() {
            for token in tokens {
                self.mux.not_sent(token, "too many pushes wait already");
            }
        }
    }

    /// The message of a call; none for a fan-out that no host is to answer.
    fn publish(&self, call: Call, token: Token) -> Option<Publish> {
        let (speaker, subject, payload) = match &call {
            Call::FanOut { hosts, .. } if hosts.is_empty() => return None,
            Call::FanOut {
                subject,
                payload,
                hosts: _,
            } => (EVERY_HOST, subject, payload),
            Call::Direct {
                host,
                subject,
                payload,
            } => (host.as_str(), subject, payload),
        };
        let mut message = Outbound::new(subject.as_str(), payload.clone());
        message.reply = Some(Subject::from(subjects::reply(
            speaker,
            &self.instance,
            &token.0.to_string(),
        )));
        Some(Publish { token, message })
    }

    fn on_reply(&mut self, message: Message) {
        // The subscription lets nothing else in but tokens that are no number.
        let Some(parts) = subjects::parse_reply(&message.subject) else {
            return;
        };
        let token = Token(parts.token.parse().unwrap_or(u64::MAX));
        let speaker = if parts.host == EVERY_HOST {
            Speaker::All
        } else {
            Speaker::Host(parts.host)
        };
        let result = if message.status == Some(StatusCode::NO_RESPONDERS) {
            CallResult::NoResponder
        } else {
            CallResult::Answered(message.payload)
        };
        self.mux.reply(token, speaker, result);
    }

    fn deliver(&mut self) {
        for delivery in self.mux.deliveries() {
            let Some(asker) = self.askers.get(&delivery.batch) else {
                continue;
            };
            let gone = !delivery.outcomes.is_empty() && asker.send(delivery.outcomes).is_err();
            if gone {
                self.mux.cancel(delivery.batch);
            }
            if gone || delivery.ended {
                self.askers.remove(&delivery.batch);
            }
        }
        let ignored = self.mux.ignored().total();
        if ignored > self.ignored {
            self.bus.counters().ignored(ignored - self.ignored);
            self.ignored = ignored;
        }
    }
}

/// Hands messages to the connection one after the other; the connection's own
/// queue pipelines them. A message whose batch is over is not sent: it would
/// only arrive late.
async fn publish_all(
    bus: Bus,
    mut batches: mpsc::Receiver<Publishes>,
    failed: mpsc::Sender<Failure>,
) {
    while let Some(Publishes {
        deadline,
        publishes,
    }) = batches.recv().await
    {
        for Publish { token, message } in publishes {
            let Err(error) = bus.send_until(message, deadline).await else {
                continue;
            };
            if failed
                .send(Failure {
                    token,
                    reason: error.to_string(),
                })
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::NatsServer;
    use crate::{Identity, connect};

    #[tokio::test]
    async fn the_death_of_a_task_is_told_and_ends_the_rest() {
        let server = NatsServer::start().unwrap();
        let bus = connect(&server.args(), Identity::service("publisher"))
            .await
            .unwrap();
        let (transport, mut invoking) = Transport::start(bus, "pub7").await.unwrap();
        invoking.tasks.spawn(async { panic!("a fault") });
        let stop = CancellationToken::new();
        assert!(invoking.watch(stop).await.unwrap_err().is_panic());
        transport.batches.closed().await;
    }
}
