// SPDX-License-Identifier: Apache-2.0
//! The edge of a service: a NATS micro service whose requests come out of one
//! stream, each naming its endpoint, to be answered once.
//!
//! The server need not be there at the start: subscriptions are made when it
//! is, and again after each reconnect.

mod intake;
mod responder;
mod waiting;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::service::Info;
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::stream::{SelectAll, select_all};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::error::BusError;
use crate::micro::{Micro, QUEUE_GROUP, Verb, endpoint_info};

use intake::Intake;
pub use responder::Responder;
pub use waiting::{Progress, ReplyToken, Waiting};

/// A service, as `nats service ls` shows it.
#[derive(Debug, Clone)]
pub struct Description {
    /// Kind of service; `A-Za-z0-9_-`.
    pub name: String,
    /// Version of the program; semantic versioning.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// Anything else to show.
    pub metadata: HashMap<String, String>,
}

/// One thing a service can be asked.
#[derive(Debug, Clone)]
pub struct Endpoint<E> {
    /// What its requests are marked with: an enum's variant.
    pub id: E,
    /// Where it is asked.
    pub subject: &'static str,
    /// What it does, for people.
    pub description: &'static str,
}

/// A service that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Service {
    stop: CancellationToken,
}

impl Service {
    /// Subscribes to the endpoints and to what the micro service protocol asks.
    ///
    /// # Errors
    /// A subject that is none, or a connection that is closed already.
    pub async fn start<E: Clone + Send + 'static>(
        bus: &Bus,
        description: Description,
        endpoints: Vec<Endpoint<E>>,
    ) -> Result<(Self, Requests<E>), BusError> {
        let Description {
            name,
            version,
            description,
            metadata,
        } = description;
        let micro = Arc::new(Micro::new(Info {
            kind: String::new(),
            name: name.clone(),
            id: uuid::Uuid::new_v4().simple().to_string(),
            description,
            version,
            metadata,
            endpoints: endpoints
                .iter()
                .map(|e| endpoint_info(e.subject, e.description))
                .collect(),
        }));
        let mut subscribers = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let subscriber = bus
                .client()
                .queue_subscribe(endpoint.subject, QUEUE_GROUP.to_owned())
                .await;
            let subscriber = subscriber.map_err(|error| refused(endpoint.subject, &error))?;
            subscribers.push(Tagged {
                tag: index,
                subscriber,
            });
        }
        let verbs = subscribe_verbs(bus, &micro).await?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(answer_verbs(
            bus.clone(),
            micro.clone(),
            verbs,
        )));
        let (requests, taken) = mpsc::unbounded_channel();
        let ids = endpoints.into_iter().map(|endpoint| endpoint.id).collect();
        let streams = select_all(subscribers);
        tokio::spawn(Intake::new(bus.clone(), micro, ids, streams, requests).run(stop.clone()));
        let requests = Requests {
            service: name,
            taken,
        };
        Ok((Self { stop }, requests))
    }

    /// Takes the service off the bus: it is no longer listed, takes no new
    /// requests, and [`Requests::next`] ends after those that are on the way.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn refused(subject: &str, error: &async_nats::SubscribeError) -> BusError {
    BusError::Refused {
        subject: subject.to_owned(),
        reason: error.to_string(),
    }
}

async fn subscribe_verbs(bus: &Bus, micro: &Micro) -> Result<SelectAll<Tagged<Verb>>, BusError> {
    let mut verbs = Vec::new();
    for verb in Verb::ALL {
        for subject in micro.subjects(verb) {
            let subscriber = bus.client().subscribe(subject.clone()).await;
            let subscriber = subscriber.map_err(|error| refused(&subject, &error))?;
            verbs.push(Tagged {
                tag: verb,
                subscriber,
            });
        }
    }
    Ok(select_all(verbs))
}

async fn answer_verbs(bus: Bus, micro: Arc<Micro>, mut verbs: SelectAll<Tagged<Verb>>) {
    while let Some((verb, message)) = verbs.next().await {
        let Some(reply) = message.reply else { continue };
        match micro.answer(verb) {
            // An answer that can't be sent is one that is asked for again.
            Ok(answer) => drop(bus.publish(reply, answer).await),
            Err(error) => tracing::error!(%error, "service information can't be written"),
        }
    }
}

/// A subscription whose messages carry a mark.
#[derive(Debug)]
struct Tagged<T> {
    tag: T,
    subscriber: Subscriber,
}

impl<T: Copy + Unpin> Stream for Tagged<T> {
    type Item = (T, Message);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let tag = self.tag;
        self.subscriber
            .poll_next_unpin(cx)
            .map(|message| message.map(|message| (tag, message)))
    }
}

/// The requests of a service, of all endpoints, as they came.
#[derive(Debug)]
pub struct Requests<E> {
    service: String,
    taken: mpsc::UnboundedReceiver<Request<E>>,
}

impl<E> Requests<E> {
    /// The next request; none when the service is stopped and the last request
    /// is out, or the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Request<E>> {
        self.taken.recv().await
    }
}

/// One request, to be answered once.
#[derive(Debug)]
pub struct Request<E> {
    /// Which endpoint is asked.
    pub endpoint: E,
    /// The request as it came.
    pub payload: Bytes,
    /// Takes the answer.
    pub responder: Responder,
}
