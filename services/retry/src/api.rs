// SPDX-License-Identifier: Apache-2.0
//! Subjects to events. What can't be read is refused here; the rest waits for
//! the core's reply.

use std::collections::HashMap;
use std::time::Duration;

use dvs_schemas::codec;
use dvs_schemas::v1::Heartbeat;
use dvs_schemas::{Problem, subjects};
use dvs_transport::endpoint::{self, Description, ReplyToken, Requests, Service, Waiting};
use dvs_transport::{Bus, BusError};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::{Action, Event};

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

/// Puts the service on the bus, with what it says of itself.
///
/// # Errors
/// The connection is closed already.
pub async fn start(
    bus: &Bus,
    metadata: HashMap<String, String>,
) -> Result<(Service, Requests<Endpoint>), BusError> {
    let description = Description {
        name: "retry".to_owned(),
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

/// Subscribes to the hosts' heartbeats. What can't be read, or speaks of another
/// host than its subject, is left out: the publisher tells of it.
///
/// # Errors
/// The connection is closed already.
pub async fn listen(bus: &Bus) -> Result<BoxStream<'static, Event>, BusError> {
    let subject = subjects::EVENT_HEARTBEATS;
    let messages = bus.client().subscribe(subject).await;
    let messages = messages.map_err(|error| BusError::Refused {
        subject: subject.to_owned(),
        reason: error.to_string(),
    })?;
    let heartbeats = messages.filter_map(async |message| {
        let host = subjects::parse_event_host(&message.subject)?;
        let (_, beat) = codec::decode::<Heartbeat>(&message.payload).ok()?;
        (beat.host == host).then_some(Event::Heartbeat {
            host,
            session: beat.session,
            interval: Duration::from_millis(beat.interval_ms),
            observed: beat.observed,
        })
    });
    Ok(heartbeats.boxed())
}

/// Hands heartbeats to the core until `stop`.
pub async fn hear(
    mut heartbeats: BoxStream<'static, Event>,
    inbox: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    while let Some(Some(heartbeat)) = stop.run_until_cancelled(heartbeats.next()).await {
        if inbox.send(heartbeat).await.is_err() {
            return;
        }
    }
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
        read(endpoint, payload, budget, reply)
    };
    requests.feed(waiting, inbox, read).await;
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
