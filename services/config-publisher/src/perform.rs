// SPDX-License-Identifier: Apache-2.0
//! Effects to IO. What takes time runs in tasks of its own, whose results come
//! back as events.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, Clobber, Identified, Identify, PutReply, ReleaseOutcome,
    ReleaseReply, RepushKey, RetryPut, RipKey, RuntimeForgetReply, RuntimeForgetRequest, V1, Yield,
};
use dvs_schemas::{HostName, Problem, SessionId};
use dvs_transport::{Batch, Bus, CallResult, Transport};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Waiting, abandoned};
use crate::events::{Answer, Call, Effect, Event, Outcome, PushId, Reply};
use crate::metrics::Pushes;

/// How long another service may take to make durable what it is told. That is one commit; what
/// takes longer is a service that waits for its disk or the bus.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an agent may take to say that it is there, while another one waits
/// to be the host's. It answers from memory.
const IDENTIFY: Duration = Duration::from_secs(1);

/// Calls that one task writes and follows. A push of thousands of full states
/// is written by all cores at once, and its first messages leave while the last
/// are still being written.
const TOGETHER: usize = 256;

/// What carries effects out.
#[derive(Debug, Clone)]
pub struct Performer {
    /// The connection.
    pub bus: Bus,
    /// The way to the hosts.
    pub transport: Transport,
    /// Requests to be answered.
    pub waiting: Waiting,
    /// Where results go.
    pub inbox: mpsc::Sender<Event>,
    /// Counts pushes.
    pub pushes: Pushes,
}

impl Performer {
    /// Carries out effects, in order, until there are no more. `ended` brings
    /// why the loop ended, if that was an error.
    pub async fn run(
        self,
        mut effects: mpsc::Receiver<Vec<Effect>>,
        ended: oneshot::Receiver<Option<String>>,
    ) {
        while let Some(batch) = effects.recv().await {
            for effect in batch {
                match effect {
                    Effect::Push {
                        push,
                        calls,
                        within,
                    } => self.push(push, calls, within),
                    Effect::Reply { to, result } => {
                        note(&result);
                        self.waiting.reply(to, *result).await;
                    }
                    Effect::Committed { to } => self.waiting.committed(to),
                    Effect::HandOver { number, put } => {
                        tokio::spawn(self.clone().hand_over(number, put));
                    }
                    Effect::Yield { host, request } => self.ask_to_yield(&host, &request).await,
                    Effect::Identify { host, session } => {
                        tokio::spawn(self.clone().identify(host, session));
                    }
                    Effect::TellCollector { number, request } => {
                        tokio::spawn(self.clone().tell_collector(number, request));
                    }
                }
            }
        }
        // Whoever ended says why, unless it died of it.
        let why = ended.await.ok().flatten();
        let abandoned = |progress| abandoned(progress, why.as_deref());
        self.waiting.abandon(abandoned).await;
    }

    /// Tells a holder who waits for its port.
    async fn ask_to_yield(&self, host: &HostName, request: &Yield) {
        let subject = subjects::agent(host, AgentVerb::Yield);
        if let Err(error) = self.bus.publish(subject, written(request)).await {
            tracing::debug!(%host, %error, "not told who waits; that is repeated");
        }
    }

    /// Asks whether the agent of a session is there. Whatever happens comes back,
    /// or whoever says hello would wait.
    async fn identify(self, host: HostName, session: SessionId) {
        let is_there = caught(self.is_there(&host, session)).await;
        // As above.
        let event = Event::Identified {
            host,
            session,
            is_there,
        };
        let _ = self.inbox.send(event).await;
    }

    async fn is_there(&self, host: &HostName, session: SessionId) -> Result<bool, String> {
        let call = dvs_transport::Call::Direct {
            host: host.clone(),
            subject: subjects::agent(host, AgentVerb::Identify),
            payload: written(&Identify { v: V1, session }),
        };
        let mut outcomes = self.transport.send(Batch {
            deadline: IDENTIFY,
            calls: vec![call],
        });
        let ended = outcomes.next().await.into_iter().flatten().next();
        match ended.map(|ended| ended.result) {
            Some(CallResult::Answered(payload)) => {
                let answer: Identified = codec::decode_answer(&payload)
                    .map_err(|problem| format!("its answer can't be read: {problem}"))?;
                Ok(answer.session == session)
            }
            Some(CallResult::TimedOut | CallResult::NoResponder) => Ok(false),
            Some(CallResult::NotSent(why)) => Err(why),
            None => Err("config-publisher stops".to_owned()),
        }
    }

    /// Makes the calls of a push, many at a time.
    fn push(&self, push: PushId, calls: Vec<Call>, within: Duration) {
        self.pushes.began();
        let mut calls = calls.into_iter();
        let mut first = 0;
        loop {
            let some: Vec<Call> = calls.by_ref().take(TOGETHER).collect();
            let count = some.len();
            if count == 0 {
                return;
            }
            tokio::spawn(self.clone().call(push, first, some, within));
            first += count;
        }
    }

    /// Makes calls, of which the first is number `first` of its push, and
    /// brings their ends back: all of them, or the push would never be over.
    async fn call(self, push: PushId, first: usize, calls: Vec<Call>, within: Duration) {
        let asked: Vec<Arc<[HostName]>> = calls.iter().map(hosts).collect();
        let made = caught(self.make(push, first, calls, within)).await;
        if let Err(why) = made {
            // Those that have ended stay as they ended.
            let asked = asked.iter().enumerate();
            let outcomes = asked.flat_map(|(call, hosts)| {
                let answer = Answer::NotSent(why.clone());
                hosts.iter().map(move |host| Outcome {
                    host: host.clone(),
                    call: first + call,
                    answer: answer.clone(),
                })
            });
            let outcomes = outcomes.collect();
            // Nobody takes it: the service stops, and its ledger has the push.
            let _ = self.inbox.send(Event::Outcomes { push, outcomes }).await;
        }
    }

    async fn make(
        &self,
        push: PushId,
        first: usize,
        calls: Vec<Call>,
        within: Duration,
    ) -> Result<(), String> {
        let began = Instant::now();
        let kinds: Vec<Kind> = calls.iter().map(kind).collect();
        let mut outcomes = self.transport.send(Batch {
            deadline: within,
            calls: encoded(calls),
        });
        while let Some(chunk) = outcomes.next().await {
            let took = began.elapsed();
            let ended = chunk.into_iter().map(|ended| {
                let answer = match ended.result {
                    CallResult::Answered(payload) => answer(kinds.get(ended.call), &payload),
                    CallResult::TimedOut => Answer::TimedOut,
                    CallResult::NoResponder => Answer::NoResponder,
                    CallResult::NotSent(why) => Answer::NotSent(why),
                };
                self.pushes.ended(&answer, took);
                Outcome {
                    host: ended.host,
                    call: first + ended.call,
                    answer,
                }
            });
            let outcomes = ended.collect();
            // As above.
            if self
                .inbox
                .send(Event::Outcomes { push, outcomes })
                .await
                .is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// Gives entries to retry. Whatever happens comes back, or nothing would
    /// ever be handed over again.
    async fn hand_over(self, number: u64, put: RetryPut) {
        let result = caught(ask(&self.bus, subjects::RETRY_PUT, "retry", &put)).await;
        log_hand_over(&put, &result);
        // As above.
        let _ = self.inbox.send(Event::HandedOver { number, result }).await;
    }

    /// Tells the collector of forgotten hosts. As above.
    async fn tell_collector(self, number: u64, request: RuntimeForgetRequest) {
        let asked = ask(
            &self.bus,
            subjects::RUNTIME_FORGET,
            "the collector",
            &request,
        );
        let result: Result<RuntimeForgetReply, String> = caught(asked).await;
        let hosts = request.hosts.len();
        match &result {
            Ok(reply) => {
                let ports = reply.ports;
                tracing::info!(hosts, ports, "told the collector which hosts are forgotten");
            }
            Err(error) => {
                tracing::warn!(
                    hosts,
                    error,
                    "the collector doesn't know yet which hosts are forgotten"
                );
            }
        }
        let event = Event::CollectorTold { number, result };
        let _ = self.inbox.send(event).await;
    }
}

/// How work ends, also where it panics.
async fn caught<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err("config-publisher failed on it; its log says where".to_owned()))
}

/// Entries of one hand-over that are logged one by one. The retry queues list
/// them all.
const LOGGED: usize = 20;

fn log_hand_over(put: &RetryPut, result: &Result<PutReply, String>) {
    let (repush, rip, settled) = (put.repush.len(), put.rip.len(), put.settled.len());
    match result {
        Ok(_) if repush + rip > 0 => {
            tracing::info!(repush, rip, settled, "handed over to retry");
        }
        Ok(_) => tracing::debug!(settled, "told retry which hosts are in sync"),
        Err(error) => {
            tracing::warn!(repush, rip, settled, error, "retry did not take over");
            return;
        }
    }
    for missed in put.repush.iter().take(LOGGED) {
        let RepushKey { host, switch } = &missed.key;
        let (revision, why) = (missed.revision.0, missed.error.as_str());
        tracing::info!(%host, %switch, revision, why, "out of sync");
    }
    for missed in put.rip.iter().take(LOGGED) {
        let RipKey { host, switch, port } = &missed.key;
        let (revision, why) = (missed.revision.0, missed.error.as_str());
        tracing::info!(%host, %switch, %port, revision, why, "port not removed");
    }
}

fn note(result: &Result<Reply, Problem>) {
    match result {
        Ok(Reply::Applied(reply)) if !reply.changed.is_empty() => {
            let changed = reply.changed.len() as u64 + reply.left_out;
            tracing::info!(revision = reply.revision.0, changed, "changed");
        }
        Ok(Reply::Claimed(ClaimReply {
            v: _,
            host,
            port,
            outcome,
        })) => match outcome {
            ClaimOutcome::Granted { epoch, revision } => {
                tracing::info!(%host, %port, %epoch, revision = revision.0, "port granted");
            }
            ClaimOutcome::Waits { holder, epoch } => {
                tracing::info!(%host, %port, %holder, %epoch, "a claim waits");
            }
        },
        Ok(Reply::Released(ReleaseReply {
            v: _,
            host,
            port,
            outcome,
        })) => match outcome {
            ReleaseOutcome::Released { revision } => {
                tracing::info!(%host, %port, revision = revision.0, "port released");
            }
            ReleaseOutcome::Withdrawn => tracing::info!(%host, %port, "a claim waits no more"),
            ReleaseOutcome::Kept => {
                tracing::info!(%host, %port, "a port is kept: who waited for it does so no more")
            }
            ReleaseOutcome::Nothing => tracing::debug!(%host, %port, "nothing to release"),
        },
        Ok(_) => {}
        Err(problem) => tracing::debug!(%problem, "a request was refused"),
    }
}

/// Which answer a call gets.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Clobber,
    Remove,
    Plan,
}

fn hosts(call: &Call) -> Arc<[HostName]> {
    match call {
        Call::FanOut { hosts, .. } => hosts.clone(),
        Call::Clobber { host, .. } | Call::Remove { host, .. } | Call::Plan { host, .. } => {
            [host.clone()].into()
        }
    }
}

fn kind(call: &Call) -> Kind {
    match call {
        Call::FanOut { .. } | Call::Clobber { .. } => Kind::Clobber,
        Call::Remove { .. } => Kind::Remove,
        Call::Plan { .. } => Kind::Plan,
    }
}

/// Writes the calls' messages; those that share one share its bytes.
fn encoded(calls: Vec<Call>) -> Vec<dvs_transport::Call> {
    let mut last: Option<(Arc<Clobber>, Bytes)> = None;
    let mut shared = |clobber: Arc<Clobber>| match &last {
        Some((known, bytes)) if Arc::ptr_eq(known, &clobber) => bytes.clone(),
        Some(_) | None => {
            let bytes = written(&*clobber);
            last = Some((clobber, bytes.clone()));
            bytes
        }
    };
    let direct = |host: HostName, verb, payload| dvs_transport::Call::Direct {
        subject: subjects::agent(&host, verb),
        host,
        payload,
    };
    let calls = calls.into_iter().map(|call| match call {
        Call::FanOut { clobber, hosts } => dvs_transport::Call::FanOut {
            subject: subjects::switch_clobber(&clobber.switch),
            payload: shared(clobber),
            hosts,
        },
        Call::Clobber { host, clobber } => direct(host, AgentVerb::Clobber, shared(clobber)),
        Call::Plan { host, clobber } => direct(host, AgentVerb::Plan, shared(clobber)),
        Call::Remove { host, remove } => direct(host, AgentVerb::Remove, written(&*remove)),
    });
    calls.collect()
}

/// A message that can't be written leaves as an empty one: the host says that
/// it can't be read.
fn written<T: Serialize>(message: &T) -> Bytes {
    codec::encode(Format::MessagePack, message).unwrap_or_else(|error| {
        tracing::error!(%error, "a push can't be written");
        Bytes::new()
    })
}

fn answer(kind: Option<&Kind>, payload: &[u8]) -> Answer {
    let read = match kind {
        Some(Kind::Clobber) => codec::decode_answer(payload).map(Answer::Applied),
        Some(Kind::Remove) => codec::decode_answer(payload).map(Answer::Removed),
        Some(Kind::Plan) => codec::decode_answer(payload).map(Answer::Planned),
        None => Ok(Answer::Unreadable("it was not asked".to_owned())),
    };
    read.unwrap_or_else(|problem| Answer::Unreadable(problem.to_string()))
}

/// Asks another service, named `who`.
async fn ask<T: DeserializeOwned>(
    bus: &Bus,
    subject: &'static str,
    who: &str,
    question: &impl Serialize,
) -> Result<T, String> {
    let payload = codec::encode(Format::MessagePack, question);
    let payload = payload.map_err(|error| error.to_string())?;
    let reply = bus
        .request(subject, payload, HAND_OVER_TIMEOUT)
        .await
        .map_err(|error| error.to_string())?;
    codec::decode_answer(&reply.payload).map_err(|problem| format!("{who}: {problem}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::caught;

    #[tokio::test]
    async fn what_panics_comes_back_as_an_error() {
        let ended = caught::<()>(async { panic!("on purpose") }).await;
        assert!(ended.is_err());
        assert_eq!(caught(async { Ok(1) }).await, Ok(1));
    }
}
