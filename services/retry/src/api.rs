// SPDX-License-Identifier: Apache-2.0
//! Subjects to events. What can't be read is refused here; the rest waits in a
//! table for the core's reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::{Problem, ProblemCode, subjects};
use dvs_transport::Bus;
use dvs_transport::endpoint::{self, Description, Requests, Responder, Service};
use tokio::sync::mpsc;

use crate::core::{Action, Event, ReplyBody, ReplyToken};

/// What this service can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Take entries in.
    Put,
    /// Show the queues.
    List,
    /// Do something to entries.
    Act(Action),
}

const ENDPOINTS: [(Endpoint, &str, &str); 5] = [
    (
        Endpoint::Put,
        subjects::RETRY_PUT,
        "Takes what hosts did not acknowledge into the queues",
    ),
    (
        Endpoint::List,
        subjects::RETRY_LIST,
        "Hosts that are out of sync, and virtual ports that are to go",
    ),
    (
        Endpoint::Act(Action::Kick),
        subjects::RETRY_KICK,
        "Tries entries now, parked ones too",
    ),
    (
        Endpoint::Act(Action::Park),
        subjects::RETRY_PARK,
        "Stops trying entries and keeps them visible",
    ),
    (
        Endpoint::Act(Action::Cancel),
        subjects::RETRY_CANCEL,
        "Drops entries",
    ),
];

/// Puts the service on the bus.
///
/// # Errors
/// The connection is closed already.
pub async fn start(bus: &Bus) -> Result<(Service, Requests<Endpoint>), dvs_transport::BusError> {
    let description = Description {
        name: "retry".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        metadata: HashMap::new(),
    };
    let endpoints = ENDPOINTS.map(|(id, subject, description)| endpoint::Endpoint {
        id,
        subject,
        description,
    });
    Service::start(bus, description, endpoints.into()).await
}

/// Requests that the core has and has not answered yet.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    table: Arc<Mutex<Table>>,
}

/// Bounded by the inbox: each waits there or in the turn that is going on.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    responders: HashMap<ReplyToken, Responder>,
}

impl Waiting {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after any panic between two of its changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, responder: Responder) -> ReplyToken {
        let mut table = self.table();
        let token = ReplyToken(table.next);
        table.next += 1;
        table.responders.insert(token, responder);
        token
    }

    fn take(&self, token: ReplyToken) -> Option<Responder> {
        self.table().responders.remove(&token)
    }

    /// Sends the core's reply, in the request's format.
    pub(crate) async fn reply(&self, to: ReplyToken, result: Result<ReplyBody, Problem>) {
        let Some(responder) = self.take(to) else {
            return;
        };
        let format = responder.format;
        respond(responder, result.and_then(|body| encode(format, &body))).await;
    }
}

async fn respond(responder: Responder, answer: Result<Bytes, Problem>) {
    if let Err(error) = responder.respond(answer).await {
        tracing::warn!(%error, "a reply was not sent");
    }
}

fn encode(format: Format, body: &ReplyBody) -> Result<Bytes, Problem> {
    match body {
        ReplyBody::Put(reply) => codec::encode(format, reply),
        ReplyBody::List(reply) => codec::encode(format, reply),
        ReplyBody::Selection(reply) => codec::encode(format, reply),
    }
    .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))
}

/// Turns requests into events until the service is stopped.
pub async fn run(
    mut requests: Requests<Endpoint>,
    bus: Bus,
    waiting: Waiting,
    inbox: mpsc::Sender<Event>,
) {
    while let Some(request) = requests.next().await {
        let endpoint::Request {
            endpoint,
            payload,
            responder,
        } = request;
        // A quarter of the largest message is left for what a page can't
        // foresee: headers, and a format that takes more than the one measured.
        let budget = bus.max_payload() / 4 * 3;
        let reply = waiting.add(responder);
        let refused = match read(endpoint, &payload, budget, reply) {
            Ok(event) => inbox.send(event).await.err().map(|_| {
                Problem::new(ProblemCode::Unavailable, "retry is stopping").allow("repeat later")
            }),
            Err(problem) => {
                tracing::debug!(%problem, ?endpoint, "a request was refused");
                Some(problem)
            }
        };
        if let Some(problem) = refused {
            waiting.reply(reply, Err(problem)).await;
        }
    }
}

fn read(
    endpoint: Endpoint,
    payload: &[u8],
    budget: usize,
    reply: ReplyToken,
) -> Result<Event, Problem> {
    Ok(match endpoint {
        Endpoint::Put => Event::Put {
            request: codec::decode(payload)?.1,
            reply,
        },
        Endpoint::List => Event::List {
            request: codec::decode(payload)?.1,
            budget,
            reply,
        },
        Endpoint::Act(action) => Event::Act {
            action,
            selection: codec::decode(payload)?.1,
            reply,
        },
    })
}
