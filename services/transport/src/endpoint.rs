// SPDX-License-Identifier: Apache-2.0
//! The edge of a service: a NATS micro service whose requests come out of one
//! stream, each naming its endpoint, to be answered once.
//!
//! The server need not be there at the start: subscriptions are made when it
//! is, and again after each reconnect.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::service::error::Error as LastError;
use async_nats::service::{Info, NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::problem::{Problem, ProblemCode};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Outbound};
use crate::error::BusError;
use crate::micro::{Micro, QUEUE_GROUP, Verb, endpoint_info};

/// How long requests that are already on the way are waited for at the stop.
const DRAIN: Duration = Duration::from_secs(1);

/// What headers and protocol take of a message beside its body: two headers,
/// of which one holds a message of at most [`HEADER_TEXT`] bytes.
const HEADROOM: usize = 512;

/// Longest text in the `Nats-Service-Error` header, in characters of up to
/// four bytes; the body has it whole.
const HEADER_TEXT: usize = 80;

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
    pub async fn start<E: Clone>(
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
            name,
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
        let requests = Requests {
            bus: bus.clone(),
            micro,
            ids: endpoints.into_iter().map(|endpoint| endpoint.id).collect(),
            streams: select_all(subscribers),
            stop: stop.clone(),
            draining_until: None,
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

/// The requests of a service, of all endpoints in turn. The queue of each is
/// the subscription's; its bound is that of the connection.
#[derive(Debug)]
pub struct Requests<E> {
    bus: Bus,
    micro: Arc<Micro>,
    ids: Vec<E>,
    streams: SelectAll<Tagged<usize>>,
    stop: CancellationToken,
    draining_until: Option<Instant>,
}

impl<E: Clone> Requests<E> {
    /// The next request; none when the service is stopped and the last request
    /// is out, or the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Request<E>> {
        loop {
            let until = self.draining_until;
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if until.is_none() => self.drain().await,
                request = self.streams.next() => {
                    let (index, message) = request?;
                    let id = self.ids.get(index)?.clone();
                    return Some(self.request(index, id, message));
                }
                // A connection that is down ends no subscription.
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return None,
            }
        }
    }

    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        for stream in self.streams.iter_mut() {
            // Fails for a closed connection, whose streams end by themselves;
            // waits for nothing but a connection that is down.
            let _ = tokio::time::timeout_at(until, stream.subscriber.drain()).await;
        }
        self.draining_until = Some(until);
    }

    fn request(&self, index: usize, endpoint: E, message: Message) -> Request<E> {
        Request {
            endpoint,
            // What is neither is refused by whoever decodes it, in words that
            // a person can read.
            format: Format::of(&message.payload).unwrap_or(Format::Json),
            payload: message.payload,
            edge: Edge {
                bus: self.bus.clone(),
                micro: self.micro.clone(),
                index,
                reply: message.reply,
                received: Instant::now(),
            },
        }
    }
}

/// One request, to be answered once.
#[derive(Debug)]
pub struct Request<E> {
    /// Which endpoint is asked.
    pub endpoint: E,
    /// The request as it came.
    pub payload: Bytes,
    /// The format it came in; the answer goes back in the same.
    pub format: Format,
    edge: Edge,
}

/// Where a request's answer goes and is counted.
#[derive(Debug)]
struct Edge {
    bus: Bus,
    micro: Arc<Micro>,
    index: usize,
    reply: Option<Subject>,
    received: Instant,
}

impl<E> Request<E> {
    /// Answers with bytes in the request's format, or with a problem. What
    /// doesn't fit the server's `max_payload` becomes a problem too.
    ///
    /// # Errors
    /// The answer could not be sent; the asker runs into its timeout.
    pub async fn respond(self, answer: Result<Bytes, Problem>) -> Result<(), BusError> {
        let Self {
            endpoint: _,
            payload: _,
            format,
            edge,
        } = self;
        edge.respond(format, answer).await
    }

    /// Answers with a value, written in the request's format, or with a problem.
    ///
    /// # Errors
    /// As [`Self::respond`].
    pub async fn respond_with<T: Serialize>(
        self,
        answer: Result<T, Problem>,
    ) -> Result<(), BusError> {
        let format = self.format;
        let encoded = answer.and_then(|value| {
            codec::encode(format, &value)
                .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))
        });
        self.respond(encoded).await
    }

    /// Splits off the answering half, for who reads the request here and
    /// answers it elsewhere.
    #[must_use]
    pub fn split(self) -> (E, Bytes, Responder) {
        let Self {
            endpoint,
            payload,
            format,
            edge,
        } = self;
        (endpoint, payload, Responder { format, edge })
    }
}

/// The answering half of a [`Request`].
#[derive(Debug)]
pub struct Responder {
    /// The format the answer goes in.
    pub format: Format,
    edge: Edge,
}

impl Responder {
    /// As [`Request::respond`].
    ///
    /// # Errors
    /// As [`Request::respond`].
    pub async fn respond(self, answer: Result<Bytes, Problem>) -> Result<(), BusError> {
        self.edge.respond(self.format, answer).await
    }
}

impl Edge {
    async fn respond(self, format: Format, answer: Result<Bytes, Problem>) -> Result<(), BusError> {
        let Self {
            bus,
            micro,
            index,
            reply,
            received,
        } = self;
        let max = bus.max_payload().saturating_sub(HEADROOM);
        let answer = answer.and_then(|body| {
            if body.len() <= max {
                Ok(body)
            } else {
                Err(too_large(body.len(), max))
            }
        });
        let error = answer.as_ref().err().map(|problem| LastError {
            code: problem.code.number().into(),
            status: header_text(problem),
        });
        micro.count(index, received.elapsed(), error.clone());
        // A request published without a reply subject wants no answer.
        let Some(reply) = reply else { return Ok(()) };
        let (body, headers) = match answer {
            Ok(body) => (body, None),
            Err(problem) => (fitting(format, &problem, max), error.map(error_headers)),
        };
        let mut message = Outbound::new(reply, body);
        message.headers = headers;
        bus.send(message).await
    }
}

fn too_large(size: usize, max: usize) -> Problem {
    Problem::new(
        ProblemCode::TooLarge,
        format!("the answer has {size} bytes and the server takes {max}"),
    )
    .allow("ask for less at a time, or raise max_payload of nats-server")
}

/// The problem's body; a problem that quotes a huge request is cut.
fn fitting(format: Format, problem: &Problem, max: usize) -> Bytes {
    let body = codec::encode_problem(format, problem);
    if body.len() <= max {
        return body;
    }
    codec::encode_problem(format, &Problem::new(problem.code, header_text(problem)))
}

fn error_headers(error: LastError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SERVICE_ERROR, error.status);
    headers.insert(NATS_SERVICE_ERROR_CODE, error.code.to_string());
    headers
}

/// One short line: a header can't hold line ends (the client library panics
/// at one), and a problem may quote any text.
fn header_text(problem: &Problem) -> String {
    problem
        .to_string()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(HEADER_TEXT)
        .collect()
}
