// SPDX-License-Identifier: Apache-2.0
//! Subjects to events. What can't be read is refused here; the rest waits for
//! the core's reply.

use std::collections::HashMap;
use std::time::SystemTime;

use async_nats::Message;
use dvs_schemas::codec;
use dvs_schemas::subjects::{self, EventVerb};
use dvs_schemas::v1::{Changed, EventNotice, Heartbeat, HostConditions, Settled};
use dvs_schemas::{HostName, Problem};
use dvs_transport::endpoint::{
    self, Description, ReplyToken, Requests, Responder, Service, Waiting,
};
use dvs_transport::{Bus, BusError};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::Event;
use crate::metrics::Heard;
use crate::repeats::Repeats;

/// What this service can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The stored state of a port.
    Get,
    /// Stored states.
    List,
    /// What was told of a port.
    History,
    /// Sums over ports.
    Rollup,
    /// The state on the host.
    Live,
    /// What is wrong on hosts.
    Conditions,
    /// Hosts that will never come back.
    Forget,
}

const ENDPOINTS: [(Endpoint, &str, &str); 7] = [
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
        Endpoint::History,
        subjects::RUNTIME_HISTORY,
        "What was told of a port lately, and by whom",
    ),
    (
        Endpoint::Rollup,
        subjects::RUNTIME_ROLLUP,
        "Ports and their totals, summed up by switch, group or host",
    ),
    (
        Endpoint::Live,
        subjects::RUNTIME_LIVE,
        "Ports' states read from their host now",
    ),
    (
        Endpoint::Conditions,
        subjects::RUNTIME_CONDITIONS,
        "What is wrong on hosts, as each said last",
    ),
    (
        Endpoint::Forget,
        subjects::RUNTIME_FORGET,
        "Ends what hosts told that will never come back",
    ),
];

const EVENTS: [(EventVerb, &str); 5] = [
    (EventVerb::Changed, subjects::EVENT_CHANGED),
    (EventVerb::Settled, subjects::EVENT_SETTLED),
    (EventVerb::Conditions, subjects::EVENT_CONDITIONS),
    (EventVerb::Notice, subjects::EVENT_NOTICES),
    (EventVerb::Heartbeat, subjects::EVENT_HEARTBEATS),
];

/// Puts the service on the bus, with what it says of itself.
///
/// # Errors
/// The connection is closed already.
pub async fn start(
    bus: &Bus,
    metadata: HashMap<String, String>,
) -> Result<(Service, Requests<Endpoint>), BusError> {
    let description = Description {
        name: "runtime-collector".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
        metadata,
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

/// Turns requests into events until the service is stopped.
pub async fn run(
    requests: Requests<Endpoint>,
    bus: Bus,
    waiting: Waiting,
    inbox: mpsc::Sender<Event>,
) {
    let read = |endpoint, payload: &[u8], reply| {
        // A quarter of the largest message is left for what a page can't
        // foresee: headers, and a format that takes more than the one measured.
        let budget = bus.max_payload() / 4 * 3;
        read_request(endpoint, payload, budget, reply)
    };
    requests.feed(waiting, inbox, read).await;
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
        Endpoint::History => Event::History {
            request: codec::decode(payload)?.1,
            reply,
        },
        Endpoint::Rollup => Event::Rollup {
            request: codec::decode(payload)?.1,
            budget,
            reply,
        },
        Endpoint::Live => Event::Live {
            request: codec::decode(payload)?.1,
            reply,
        },
        Endpoint::Conditions => Event::ListConditions {
            request: codec::decode(payload)?.1,
            budget,
            reply,
        },
        Endpoint::Forget => Event::Forget {
            request: codec::decode(payload)?.1,
            reply,
        },
    })
}

/// Hands the hosts' events to the core until `stop`. What is on its way then
/// is told again to whoever comes next.
pub async fn hear(
    bus: Bus,
    mut events: Events,
    waiting: Waiting,
    inbox: mpsc::Sender<Event>,
    heard: Heard,
    stop: CancellationToken,
) {
    // By host, or by none for those whose subject names none.
    let mut refused = Repeats::default();
    while let Some(Some((verb, message))) = stop.run_until_cancelled(events.next()).await {
        let responder = Responder::to_message(&bus, &message);
        let event = match read_event(verb, &message.subject, &message.payload) {
            Ok(Told::Changed(event)) => Event::Changed {
                event,
                reply: waiting.add(responder),
            },
            Ok(Told::Settled(event)) => Event::Settled {
                event,
                reply: waiting.add(responder),
            },
            Ok(Told::Conditions(event)) => Event::Conditions {
                event,
                reply: waiting.add(responder),
            },
            Ok(Told::Notice(notice)) => Event::Notice {
                notice,
                reply: waiting.add(responder),
            },
            Ok(Told::Heartbeat(heartbeat)) => Event::Heartbeat(heartbeat),
            Err(problem) => {
                heard.refused();
                let sender = subjects::parse_event_host(&message.subject);
                if let Some(more) = refused.line(SystemTime::now().into(), &sender) {
                    tracing::warn!(subject = %message.subject, %problem, more, "an event was refused");
                }
                let to = waiting.add(responder);
                waiting.reply::<()>(to, Err(problem)).await;
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
    Conditions(HostConditions),
    Notice(EventNotice),
    Heartbeat(Heartbeat),
}

/// Reads an event. Its subject proves who tells it, so it must not tell it of
/// another host.
fn read_event(verb: EventVerb, subject: &str, payload: &[u8]) -> Result<Told, Problem> {
    let proven = subjects::parse_event_host(subject).ok_or_else(|| {
        Problem::invalid(format!("{subject} names no host"))
            .allow("dvs.v1.event.<host>.changed, .settled, .conditions, .notice or .heartbeat")
    })?;
    let told = match verb {
        EventVerb::Changed => Told::Changed(codec::decode(payload)?.1),
        EventVerb::Settled => Told::Settled(codec::decode(payload)?.1),
        EventVerb::Conditions => Told::Conditions(codec::decode(payload)?.1),
        EventVerb::Notice => Told::Notice(codec::decode(payload)?.1),
        EventVerb::Heartbeat => Told::Heartbeat(codec::decode(payload)?.1),
    };
    let (host, numbered) = match &told {
        Told::Changed(event) => (&event.host, event.seq > 0),
        Told::Settled(event) => (&event.host, event.seq > 0),
        Told::Conditions(event) => (&event.host, event.seq > 0),
        Told::Notice(notice) => (&notice.host, notice.seq > 0),
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
        format!(r#"{{"v":1,"host":"{host}","session":1,"seq":{seq},"at":"2026-01-01T00:00:00Z"}}"#)
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
