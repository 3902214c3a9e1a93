// SPDX-License-Identifier: Apache-2.0
//! Subjects to events. What can't be read is refused here; the rest waits for
//! the core's reply.

use std::collections::HashMap;

use dvs_schemas::codec;
use dvs_schemas::v1::{ApplyRequest, DeleteRequest, Heartbeat};
use dvs_schemas::{Problem, ProblemCode, subjects};
use dvs_transport::endpoint::Progress;
pub use dvs_transport::endpoint::Waiting;
use dvs_transport::endpoint::{self, Description, Requests, Service};
use dvs_transport::{Bus, BusError};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Request};

/// What this service can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Make documents true.
    Apply,
    /// Delete objects.
    Delete,
    /// Show objects.
    Get,
    /// Say what a host shall have.
    Render,
    /// Push full states.
    Resync,
    /// Go on above what hosts follow instead.
    Continue,
    /// Connect a vNIC.
    Connect,
    /// Place a port elsewhere.
    Move,
    /// End a connection.
    Disconnect,
    /// Be a port's host.
    Claim,
    /// Be a port's host no more.
    Release,
    /// Say where ports are.
    Placements,
    /// A host is there.
    Hello,
    /// A host will never come back.
    Forget,
    /// Show hosts.
    Hosts,
}

const ENDPOINTS: [(Endpoint, &str, &str); 15] = [
    (
        Endpoint::Apply,
        subjects::CONFIG_APPLY,
        "Makes documents true: Switch, PortGroup, Port, MirrorSession; all or none",
    ),
    (
        Endpoint::Delete,
        subjects::CONFIG_DELETE,
        "Deletes objects by kind and name; all or none",
    ),
    (
        Endpoint::Get,
        subjects::CONFIG_GET,
        "Objects, filtered by kind, name, switch, group and host",
    ),
    (
        Endpoint::Render,
        subjects::CONFIG_RENDER,
        "What a host shall have now of a switch",
    ),
    (
        Endpoint::Resync,
        subjects::CONFIG_RESYNC,
        "Pushes full states again, to all hosts or one",
    ),
    (
        Endpoint::Connect,
        subjects::PORT_CONNECT,
        "Connects a vNIC to a port, on the vNIC's host",
    ),
    (
        Endpoint::Move,
        subjects::PORT_MOVE,
        "Places a port on another host",
    ),
    (
        Endpoint::Disconnect,
        subjects::PORT_DISCONNECT,
        "Ends the connection of a vNIC with a port",
    ),
    (
        Endpoint::Claim,
        subjects::PORT_CLAIM,
        "A port was plugged into a host, which asks to be its host",
    ),
    (
        Endpoint::Release,
        subjects::PORT_RELEASE,
        "A port is plugged no more; its host gives it back",
    ),
    (
        Endpoint::Placements,
        subjects::PORT_PLACEMENTS,
        "Who holds ports, and in which epoch",
    ),
    (
        Endpoint::Hello,
        subjects::HOST_HELLO,
        "A host came; its full states follow",
    ),
    (
        Endpoint::Continue,
        subjects::STORE_CONTINUE,
        "Makes this configuration hold on hosts that follow another history",
    ),
    (
        Endpoint::Forget,
        subjects::HOST_FORGET,
        "A host will never come back: its ports are on no host, and nothing is owed to it",
    ),
    (
        Endpoint::Hosts,
        subjects::HOST_LIST,
        "Hosts, whether they are there, and what they have applied",
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
        name: "config-publisher".to_owned(),
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

/// To those that the core will not answer any more. `why`: what the service
/// stops for, if that is an error.
pub(crate) fn abandoned(progress: Progress, why: Option<&str>) -> Problem {
    let stops = why.map_or_else(
        || "config-publisher stops".to_owned(),
        |why| format!("config-publisher stops: {why}"),
    );
    let (message, allowed) = match progress {
        Progress::Open => (
            format!("not committed; {stops}"),
            "a look with dvsctl get when it is back, then the same again",
        ),
        Progress::Committed => (
            format!("committed, and pushed when config-publisher is back; {stops}"),
            "a look with dvsctl get all and dvsctl get hosts",
        ),
    };
    Problem::new(ProblemCode::Unavailable, message).allow(allowed)
}

/// Turns requests into events until the service is stopped.
pub async fn run(requests: Requests<Endpoint>, waiting: Waiting, inbox: mpsc::Sender<Event>) {
    let read = |endpoint, payload: &[u8], to| {
        let request = read(endpoint, payload)?;
        Ok(Event::Request { to, request })
    };
    requests.feed(waiting, inbox, read).await;
}

fn read(endpoint: Endpoint, payload: &[u8]) -> Result<Request, Problem> {
    Ok(match endpoint {
        Endpoint::Apply => Request::Apply(ApplyRequest::decode(payload)?.1),
        Endpoint::Delete => Request::Delete(DeleteRequest::decode(payload)?.1),
        Endpoint::Get => Request::Get(filters(payload)?),
        Endpoint::Render => Request::Render(codec::decode(payload)?.1),
        Endpoint::Resync => Request::Resync(filters(payload)?),
        Endpoint::Continue => Request::Continue(codec::decode(payload)?.1),
        Endpoint::Connect => Request::Connect(codec::decode(payload)?.1),
        Endpoint::Move => Request::Move(codec::decode(payload)?.1),
        Endpoint::Disconnect => Request::Disconnect(codec::decode(payload)?.1),
        Endpoint::Claim => Request::Claim(codec::decode(payload)?.1),
        Endpoint::Release => Request::Release(codec::decode(payload)?.1),
        Endpoint::Placements => Request::Placements(codec::decode(payload)?.1),
        Endpoint::Hello => Request::Hello(codec::decode(payload)?.1),
        Endpoint::Forget => Request::Forget(codec::decode(payload)?.1),
        Endpoint::Hosts => Request::Hosts(filters(payload)?),
    })
}

/// No payload asks for everything: `nats req dvs.v1.host.list ''`.
fn filters<T: Default + serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    if payload.is_empty() {
        return Ok(T::default());
    }
    Ok(codec::decode(payload)?.1)
}

/// Turns heartbeats into events until `stop`. One that can't be read, or that
/// speaks for another host than its subject, is dropped: the next one comes.
///
/// # Errors
/// The connection is closed already.
pub async fn hear(
    bus: Bus,
    inbox: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let subject = subjects::EVENT_HEARTBEATS;
    let heartbeats = bus.client().subscribe(subject).await;
    let mut heartbeats = heartbeats.map_err(|error| BusError::Refused {
        subject: subject.to_owned(),
        reason: error.to_string(),
    })?;
    while let Some(Some(message)) = stop.run_until_cancelled(heartbeats.next()).await {
        let host = subjects::parse_event_host(&message.subject);
        match codec::decode::<Heartbeat>(&message.payload) {
            Ok((_, heartbeat)) if Some(&heartbeat.host) == host.as_ref() => {
                if inbox.send(Event::Heartbeat(heartbeat)).await.is_err() {
                    break;
                }
            }
            Ok((_, heartbeat)) => {
                tracing::debug!(host = %heartbeat.host, subject = %message.subject, "a heartbeat of another host");
            }
            Err(problem) => {
                tracing::debug!(subject = %message.subject, %problem, "an unreadable heartbeat");
            }
        }
    }
    Ok(())
}

/// Tells the core whenever the bus comes and goes, until `stop`.
pub async fn watch(bus: Bus, inbox: mpsc::Sender<Event>, stop: CancellationToken) {
    let mut connected = bus.connected();
    let mut watching = async || -> Option<()> {
        loop {
            connected.wait_for(|connected| *connected).await.ok()?;
            let max_payload = bus.max_payload();
            inbox.send(Event::Connected { max_payload }).await.ok()?;
            connected.wait_for(|connected| !*connected).await.ok()?;
            inbox.send(Event::Disconnected).await.ok()?;
        }
    };
    stop.run_until_cancelled(watching()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_left_is_told_whether_it_was_committed_and_why_not() {
        let full = Some("the ledger can't be written: No space left on device");
        assert_eq!(
            abandoned(Progress::Open, full).message,
            "not committed; config-publisher stops: the ledger can't be written: \
             No space left on device"
        );
        assert_eq!(
            abandoned(Progress::Committed, None).message,
            "committed, and pushed when config-publisher is back; config-publisher stops"
        );
    }
}
