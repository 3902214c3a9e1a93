// SPDX-License-Identifier: Apache-2.0
//! The answering half of a request: one answer, in the request's format, with
//! the headers and the counts of the micro service protocol.

use std::sync::Arc;

use async_nats::service::error::Error as LastError;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use dvs_schemas::codec::{self, Format};
use dvs_schemas::problem::{Problem, ProblemCode};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::bus::{Bus, Outbound};
use crate::error::BusError;
use crate::micro::Micro;

/// What headers and protocol take of a message beside its body and the text of
/// [`header_text`], in bytes: two names and a number.
const HEADROOM: usize = 192;

/// Longest text in the `Nats-Service-Error` header, in bytes. Problems have a
/// few hundred; only one that quotes a whole request is longer, and its body
/// has it whole.
const HEADER_TEXT: usize = 2048;

/// Answers one request, once.
#[derive(Debug)]
pub struct Responder {
    /// The format the answer goes in.
    pub format: Format,
    bus: Bus,
    reply: Option<async_nats::Subject>,
    /// None for what is no request of a service.
    counted: Option<Counted>,
    /// The request's part of what the service holds, given back with the
    /// answer; none if there was no room for it.
    share: Option<OwnedSemaphorePermit>,
}

/// Where a request is counted.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) micro: Arc<Micro>,
    pub(super) index: usize,
    pub(super) received: Instant,
}

impl Counted {
    fn count(self, error: Option<LastError>) {
        let Self {
            micro,
            index,
            received,
        } = self;
        micro.count(index, received.elapsed(), error);
    }
}

impl Responder {
    /// Answers a message that is no request of a service: an event whose
    /// sender wants to know what became of it.
    #[must_use]
    pub fn to_message(bus: &Bus, message: &Message) -> Self {
        Self::new(bus.clone(), message, None, None)
    }

    pub(super) fn new(
        bus: Bus,
        message: &Message,
        counted: Option<Counted>,
        share: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            // What is neither is refused by whoever decodes it, in words that
            // a person can read.
            format: Format::of(&message.payload).unwrap_or(Format::Json),
            bus,
            reply: message.reply.clone(),
            counted,
            share,
        }
    }

    /// Answers with bytes in the request's format, or with a problem. What
    /// doesn't fit the server's `max_payload` becomes a problem too.
    ///
    /// # Errors
    /// The answer could not be sent; the asker runs into its timeout.
    pub async fn respond(self, answer: Result<Bytes, Problem>) -> Result<(), BusError> {
        let Self {
            format,
            bus,
            reply,
            counted,
            share: _until_sent,
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
            // A server that takes next to nothing needs room for the body, too.
            status: header_text(problem, HEADER_TEXT.min(max / 4)),
        });
        if let Some(counted) = counted {
            counted.count(error.clone());
        }
        // A request published without a reply subject wants no answer.
        let Some(reply) = reply else { return Ok(()) };
        let (body, headers) = match answer {
            Ok(body) => (body, None),
            Err(problem) => {
                let text = error.as_ref().map_or(0, |error| error.status.len());
                let body = fitting(format, &problem, max.saturating_sub(text));
                (body, error.map(error_headers))
            }
        };
        let mut message = Outbound::new(reply, body);
        message.headers = headers;
        bus.send(message).await
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
    let short = Problem::new(problem.code, header_text(problem, max / 4));
    codec::encode_problem(format, &short)
}

fn error_headers(error: LastError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SERVICE_ERROR, error.status);
    headers.insert(NATS_SERVICE_ERROR_CODE, error.code.to_string());
    headers
}

/// One line of at most `max` bytes, and where it is cut a sign that it is: a
/// header can't hold line ends (the client library panics at one), and a problem
/// may quote any text.
fn header_text(problem: &Problem, max: usize) -> String {
    let text = problem.to_string().replace(char::is_control, " ");
    if text.len() <= max {
        return text;
    }
    let room = max.saturating_sub('…'.len_utf8());
    let fits = |(start, c): &(usize, char)| start + c.len_utf8() <= room;
    let cut = text.char_indices().take_while(fits).map(|(_, c)| c);
    cut.chain(['…']).collect()
}
