// SPDX-License-Identifier: Apache-2.0
//! Subjects to events. What can't be read is refused here; the rest waits in a
//! table for the core's reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Message, Subject};
use bytes::Bytes;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, EventVerb};
use dvs_schemas::v1::{Changed, Heartbeat, Settled};
use dvs_schemas::{HostName, Problem, ProblemCode};
use dvs_transport::endpoint::{self, Description, Requests, Responder, Service};
use dvs_transport::{Bus, BusError};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, ReplyBody, ReplyToken};
use crate::metrics::Heard;

/// What this service can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The stored state of a port.
    Get,
    /// Stored states.
    List,
    /// The state on the host.
    Live,
}

const ENDPOINTS: [(Endpoint, &str, &str); 3] = [
    (
        Endpoint::Get,
        subjects::RUNTIME_GET,
        "A port's state as it was last told",
    ),
    (
        Endpoint::List,
        subjects::RUNTIME_LIST,
        "Ports' states as they were last told, filtered and paged",
    ),
    (
        Endpoint::Live,
        subjects::RUNTIME_LIVE,
        "Ports' states read from their host now",
    ),
];

const EVENTS: [(EventVerb, &str); 3] = [
    (EventVerb::Changed, subjects::EVENT_CHANGED),
    (EventVerb::Settled, subjects::EVENT_SETTLED),
    (EventVerb::Heartbeat, subjects::EVENT_HEARTBEATS),
];

/// Puts the service on the bus.
///
/// # Errors
/// The connection is closed already.
pub async fn start(bus: &Bus) -> Result<(Service, Requests<Endpoint>), BusError> {
    let description = Description {
        name: "runtime-collector".to_owned(),
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

/// The events of all hosts, as they come.
pub type Events = BoxStream<'static, (EventVerb, Message)>;

/// Subscribes to the hosts' events. What is told before the server knows of it
/// is told again, as nobody acknowledged it.
///
/// # Errors
/// The connection is closed already.
pub async fn listen(bus: &Bus) -> Result<Events, BusError> {
    let mut streams = Vec::new();
    for (verb, subject) in EVENTS {
        let messages = bus.client().subscribe(subject).await;
        let messages = messages.map_err(|error| BusError::Refused {
            subject: subject.to_owned(),
            reason: error.to_string(),
        })?;
        streams.push(messages.map(move |message| (verb, message)));
    }
    Ok(select_all(streams).boxed())
}

/// What the core has and has not answered yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    bus: Bus,
    table: Arc<Mutex<Table>>,
}

/// Bounded by the inbox and by the live reads that operators make: each entry
/// is there, in the turn that is going on, or with a host for a bounded time.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    askers: HashMap<ReplyToken, Asker>,
}

#[derive(Debug)]
enum Asker {
    /// Of the service.
    Request(Responder),
    /// A host that told something; it may not want to know.
    Event {
        reply: Option<Subject>,
        format: Format,
    },
}

impl Waiting {
    /// An empty table for a connection.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        Self {
            bus,
            table: Arc::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after any panic between two of its changes.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, asker: Asker) -> ReplyToken {
        let mut table = self.table();
        let token = ReplyToken(table.next);
        table.next += 1;
        table.askers.insert(token, asker);
        token
    }

    /// Sends the core's reply, in the format of what it answers.
    pub(crate) async fn reply(&self, to: ReplyToken, result: Result<ReplyBody, Problem>) {
        let asker = self.table().askers.remove(&to);
        let sent = match asker {
            None => return,
            Some(Asker::Request(responder)) => {
                let format = responder.format;
                let body = result.and_then(|body| encode(format, &body));
                responder.respond(body).await
            }
            Some(Asker::Event { reply: None, .. }) => return,
            Some(Asker::Event {
                reply: Some(reply),
                format,
            }) => {
                let body = result.and_then(|body| encode(format, &body));
                let body = body.unwrap_or_else(|problem| codec::encode_problem(format, &problem));
                self.bus.publish(reply, body).await
            }
        };
        // A host tells again; others run into their timeout.
        if let Err(error) = sent {
            tracing::warn!(%error, "a reply was not sent");
        }
    }
}

fn encode(format: Format, body: &ReplyBody) -> Result<Bytes, Problem> {
    match body {
        ReplyBody::Ack(reply) => codec::encode(format, reply),
        ReplyBody::Record(reply) => codec::encode(format, reply),
        ReplyBody::List(reply) => codec::encode(format, reply),
        ReplyBody::Live(reply) => codec::encode(format, reply),
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
        let reply = waiting.add(Asker::Request(responder));
        let refused = match read_request(endpoint, &payload, budget, reply) {
            Ok(event) => inbox.send(event).await.err().map(|_| stopping()),
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

fn stopping() -> Problem {
    let text = "runtime-collector is stopping";
    Problem::new(ProblemCode::Unavailable, text).allow("repeat later")
}

fn read_request(
    endpoint: Endpoint,
    payload: &[u8],
    budget: usize,
    reply: ReplyToken,
) -> Result<Event, Problem> {
    Ok(match endpoint {
        Endpoint::Get => Event::Get {
            request: codec::decode(payload)?.1,
            reply,
        },
        Endpoint::List => Event::List {
            request: codec::decode(payload)?.1,
            budget,
            reply,
        },
        Endpoint::Live => Event::Live {
            request: codec::decode(payload)?.1,
            reply,
        },
    })
}

/// Hands the hosts' events to the core until `stop`. What is on its way then
/// is told again to whoever comes next.
pub async fn hear(
    mut events: Events,
    waiting: Waiting,
    inbox: mpsc::Sender<Event>,
    heard: Heard,
    stop: CancellationToken,
) {
    while let Some(Some((verb, message))) = stop.run_until_cancelled(events.next()).await {
        let asker = Asker::Event {
            reply: message.reply,
            format: Format::of(&message.payload).unwrap_or(Format::Json),
        };
        let event = match read_event(verb, &message.subject, &message.payload) {
            Ok(Told::Changed(event)) => Event::Changed {
                event,
                reply: waiting.add(asker),
            },
            Ok(Told::Settled(event)) => Event::Settled {
                event,
                reply: waiting.add(asker),
            },
            Ok(Told::Heartbeat(heartbeat)) => Event::Heartbeat(heartbeat),
            Err(problem) => {
                heard.refused();
                tracing::warn!(subject = %message.subject, %problem, "an event was refused");
                waiting.reply(waiting.add(asker), Err(problem)).await;
                continue;
            }
        };
        heard.heard(verb);
        if inbox.send(event).await.is_err() {
            return;
        }
    }
}

/// What a host tells.
#[derive(Debug)]
enum Told {
    Changed(Changed),
    Settled(Settled),
    Heartbeat(Heartbeat),
}

/// Reads an event. Its subject proves who tells it, so it must not tell it of
/// another host.
fn read_event(verb: EventVerb, subject: &str, payload: &[u8]) -> Result<Told, Problem> {
    let proven = subjects::parse_event_host(subject).ok_or_else(|| {
        Problem::invalid(format!("{subject} names no host"))
            .allow("dvs.v1.event.<host>.changed, .settled or .heartbeat")
    })?;
    let told = match verb {
        EventVerb::Changed => Told::Changed(codec::decode(payload)?.1),
        EventVerb::Settled => Told::Settled(codec::decode(payload)?.1),
        EventVerb::Heartbeat => Told::Heartbeat(codec::decode(payload)?.1),
    };
    let (host, numbered) = match &told {
        Told::Changed(event) => (&event.host, event.seq > 0),
        Told::Settled(event) => (&event.host, event.seq > 0),
        // Names the newest event: 0 before the first.
        Told::Heartbeat(heartbeat) => (&heartbeat.host, true),
    };
    of_its_own(&proven, host)?;
    if !numbered {
        return Err(Problem::invalid("events are numbered from 1")
            .at("seq")
            .allow("1 or more"));
    }
    Ok(told)
}

fn of_its_own(proven: &HostName, named: &HostName) -> Result<(), Problem> {
    if proven == named {
        return Ok(());
    }
    Err(
        Problem::invalid(format!("host {proven} tells an event of host {named}"))
            .at("host")
            .allow(format!("{proven}, the host of the subject")),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn changed(host: &str, seq: u64) -> String {
        format!(
            r#"{{"v":1,"host":"{host}","session":"00000000-0000-0000-0000-000000000001",
                "seq":{seq},"at":"2026-01-01T00:00:00Z"}}"#
        )
    }

    #[test]
    fn a_host_speaks_of_itself_only() {
        let read =
            |subject, host| read_event(EventVerb::Changed, subject, changed(host, 1).as_bytes());
        assert!(read("dvs.v1.event.h1.changed", "h1").is_ok());
        let problem = read("dvs.v1.event.h1.changed", "h2").unwrap_err();
        assert_eq!(problem.message, "host h1 tells an event of host h2");
        assert!(read("dvs.v1.event.all.changed", "h1").is_err());
    }

    #[test]
    fn events_are_numbered_from_1() {
        let text = changed("h1", 0);
        let read = read_event(
            EventVerb::Changed,
            "dvs.v1.event.h1.changed",
            text.as_bytes(),
        );
        assert_eq!(read.unwrap_err().field.as_deref(), Some("seq"));
    }
}
