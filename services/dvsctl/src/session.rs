// SPDX-License-Identifier: Apache-2.0
//! A connection for the length of one command: questions with their answers,
//! every one within a bound.

use std::time::Duration;

use async_nats::Message;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use dvs_schemas::codec::{decode, encode};
use dvs_schemas::problem::ProblemBody;
use dvs_schemas::{Format, Problem, ProblemCode};
use dvs_transport::{Bus, BusError, ConnectArgs, Identity, connect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Refusal};

/// Where the bus is and how long it may take: what a command needs to connect
/// once it knows that what it is going to ask makes sense.
#[derive(Debug, Clone, Copy)]
pub struct Connector<'a> {
    /// Where the bus is and who we are.
    pub args: &'a ConnectArgs,
    /// Bound of the connection and of each request.
    pub timeout: Duration,
}

impl Connector<'_> {
    /// Connects; a server that isn't there in time is a failure.
    ///
    /// # Errors
    /// [`Failure::Connect`].
    pub async fn open(self) -> Result<Session, Failure> {
        let bus = connect(self.args, Identity::operator("dvsctl")).await?;
        bus.reach(self.timeout).await?;
        Ok(Session {
            bus,
            timeout: self.timeout,
        })
    }
}

/// A connection and the bound of its requests.
#[derive(Debug)]
pub struct Session {
    bus: Bus,
    timeout: Duration,
}

impl Session {
    /// Asks, within the session's bound.
    ///
    /// # Errors
    /// [`Failure::Bus`], [`Failure::Refused`] or [`Failure::Answer`].
    pub async fn ask<Q, R>(&self, subject: &str, request: &Q) -> Result<R, Failure>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        self.ask_within(subject, request, self.timeout).await
    }

    /// Asks for what takes the service up to `patience` by itself, as waiting
    /// for hosts does.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_patiently<Q, R>(
        &self,
        subject: &str,
        request: &Q,
        patience: Duration,
    ) -> Result<R, Failure>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        self.ask_within(subject, request, self.timeout + patience)
            .await
    }

    /// Asks for what is, and changes nothing by that.
    ///
    /// # Errors
    /// As [`Self::ask`], and [`Failure::Unanswered`].
    pub async fn read<Q, R>(&self, subject: &str, request: &Q) -> Result<R, Failure>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        self.read_patiently(subject, request, Duration::ZERO).await
    }

    /// [`Self::read`] of what takes the service up to `patience` by itself.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_patiently<Q, R>(
        &self,
        subject: &str,
        request: &Q,
        patience: Duration,
    ) -> Result<R, Failure>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        let wait = self.timeout + patience;
        let answer = self.ask_within(subject, request, wait).await;
        answer.map_err(|failure| match failure {
            Failure::Bus {
                error: BusError::TimedOut { subject, waited },
                server_said,
            } => Failure::Unanswered {
                subject,
                waited,
                server_said,
            },
            other => other,
        })
    }

    /// Asks, within a bound.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_within<Q, R>(
        &self,
        subject: &str,
        request: &Q,
        wait: Duration,
    ) -> Result<R, Failure>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        let payload = encode(Format::MessagePack, request)
            .map_err(|error| Failure::Usage(crate::failure::chain(&error)))?;
        let message = self
            .bus
            .request(subject.to_owned(), payload, wait)
            .await
            .map_err(|error| Failure::Bus {
                error,
                server_said: self.bus.last_error(),
            })?;
        if let Some(problem) = problem(&message) {
            return Err(Failure::Refused(Box::new(Refusal {
                problem,
                place: None,
            })));
        }
        match decode(&message.payload) {
            Ok((_, reply)) => Ok(reply),
            Err(problem) => Err(Failure::Answer {
                subject: subject.to_owned(),
                problem: Box::new(problem),
            }),
        }
    }

    /// Reads page after page. `turn` takes a page and sets the request on the
    /// next one; it returns whether there is one.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn pages<Q, R>(
        &self,
        subject: &str,
        mut request: Q,
        mut turn: impl FnMut(&mut Q, R) -> bool,
    ) -> Result<(), Failure>
    where
        Q: Serialize + PartialEq + Clone,
        R: DeserializeOwned,
    {
        loop {
            let page = self.read(subject, &request).await?;
            let asked = request.clone();
            if !turn(&mut request, page) {
                return Ok(());
            }
            if request == asked {
                let problem = Problem::new(ProblemCode::Internal, "the same page comes again");
                return Err(Failure::Answer {
                    subject: subject.to_owned(),
                    problem: Box::new(problem),
                });
            }
        }
    }
}

/// The refusal that a message carries, if it does: the headers say that it is
/// one, the body has it whole.
fn problem(message: &Message) -> Option<Problem> {
    let headers = message.headers.as_ref()?;
    let text = headers.get(NATS_SERVICE_ERROR)?;
    if let Ok((_, body)) = decode::<ProblemBody>(&message.payload) {
        return Some(body.error);
    }
    let code = headers
        .get(NATS_SERVICE_ERROR_CODE)
        .map_or("unknown", |code| code.as_str());
    Some(Problem::new(
        ProblemCode::Internal,
        format!("{text} (code {code})"),
    ))
}
