// SPDX-License-Identifier: Apache-2.0
//! Requests on their way through a core: typed and numbered going in, their
//! answers sent when the core has decided.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dvs_schemas::problem::{Problem, ProblemCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Request, Requests, Responder};

/// Names a request that waits for its answer. The request itself stays with
/// whoever took it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// Requests that a core has and has not answered yet; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    table: Arc<Mutex<Table>>,
}

/// Bounded as the requests are that a service holds.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    responders: HashMap<ReplyToken, Held>,
}

/// A request that waits.
#[derive(Debug)]
struct Held {
    responder: Responder,
    progress: Progress,
}

/// What came of a request that is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that anybody knows of.
    Open,
    /// What it asks for is durable; its answer waits for something else.
    Committed,
}

impl Waiting {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after any panic between two of its changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request wait.
    #[must_use]
    pub fn add(&self, responder: Responder) -> ReplyToken {
        let mut table = self.table();
        let token = ReplyToken(table.next);
        table.next += 1;
        let progress = Progress::Open;
        let held = Held {
            responder,
            progress,
        };
        table.responders.insert(token, held);
        token
    }

    /// Sends an answer; whoever asked runs into its timeout if that fails.
    pub async fn reply<T: Serialize>(&self, to: ReplyToken, answer: Result<T, Problem>) {
        let held = self.table().responders.remove(&to);
        if let Some(held) = held {
            respond(held.responder, answer).await;
        }
    }

    /// What a request asks for is durable, and its answer is to come.
    pub fn committed(&self, to: ReplyToken) {
        if let Some(held) = self.table().responders.get_mut(&to) {
            held.progress = Progress::Committed;
        }
    }

    /// Answers all that the core will not answer any more, by what came of
    /// them.
    pub async fn abandon(&self, problem: impl Fn(Progress) -> Problem) {
        let left = std::mem::take(&mut self.table().responders);
        for Held {
            responder,
            progress,
        } in left.into_values()
        {
            respond::<()>(responder, Err(problem(progress))).await;
        }
    }
}

async fn respond<T: Serialize>(responder: Responder, answer: Result<T, Problem>) {
    if let Err(error) = responder.respond_with(answer).await {
        tracing::warn!(%error, "a reply was not sent");
    }
}

impl<E: Copy + fmt::Debug> Requests<E> {
    /// Turns requests into events until the service is stopped. What can't be
    /// read is refused here; the rest waits for the core's reply.
    pub async fn feed<V>(
        mut self,
        waiting: Waiting,
        inbox: mpsc::Sender<V>,
        read: impl Fn(E, &[u8], ReplyToken) -> Result<V, Problem>,
    ) {
        while let Some(request) = self.next().await {
            let Request {
                endpoint,
                payload,
                responder,
            } = request;
            let to = waiting.add(responder);
            let refused = match read(endpoint, &payload, to) {
                Ok(event) => inbox.send(event).await.err().map(|_| self.stopping()),
                Err(problem) => {
                    tracing::debug!(%problem, ?endpoint, "a request was refused");
                    Some(problem)
                }
            };
            if let Some(problem) = refused {
                waiting.reply::<()>(to, Err(problem)).await;
            }
        }
    }

    fn stopping(&self) -> Problem {
        let text = format!("{} is stopping", self.service);
        Problem::new(ProblemCode::Unavailable, text).allow("repeat later")
    }
}
