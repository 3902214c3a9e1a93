// SPDX-License-Identifier: Apache-2.0
//! One connection to NATS as dvswitch uses it: every call ends in bounded time
//! and says what became of it.
//!
//! The client alone doesn't: while the server is away its `publish` first
//! accepts messages (and may send them much later), then blocks; its `request`
//! leaves its reply slot behind at every timeout.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, PublishError, Subject, Subscriber};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connect::{ConnectionState, PING_INTERVAL};
use crate::counters::BusCounters;
use crate::denied::{Denied, regain};
use crate::error::{BusError, Error};
use crate::request::Requests;

/// How long a message may wait for the connection to take it. The connection
/// takes 2,000 of the largest in well under a second; one that hasn't moved
/// for this long is stalled.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection; clones share it. It closes when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    state: Arc<ConnectionState>,
    requests: Requests,
    servers: String,
    probe: String,
    _stop: DropGuard,
}

/// Sets `connected` right where the client's event queue, full of slow
/// consumers, lost the event that would have. Only what was wrong twice is
/// corrected: the client raises the event a moment before its own state.
async fn keep_state(client: Client, state: Arc<ConnectionState>) {
    let mut wrong_before = false;
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        let stands = client.connection_state() == State::Connected;
        let wrong = *state.connected.borrow() != stands;
        if wrong && wrong_before {
            state.connected.send_replace(stands);
        }
        wrong_before = wrong;
    }
}

impl Bus {
    pub(crate) async fn start(
        client: Client,
        state: Arc<ConnectionState>,
        servers: String,
        probe: String,
    ) -> Self {
        let requests = Requests::start(&client).await;
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(keep_state(client.clone(), state.clone())),
        );
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(regain(client.clone(), state.clone())),
        );
        Self {
            inner: Arc::new(Inner {
                client,
                state,
                requests,
                servers,
                probe,
                _stop: stop.drop_guard(),
            }),
        }
    }

    /// The client itself, for what has no wrapper here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Whether the connection stands; changes are seen by `changed()`.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.inner.state.connected.subscribe()
    }

    /// The subscriptions that the server refuses on this connection. It is
    /// asked again, and the connection is made anew once it accepts.
    #[must_use]
    pub fn denied(&self) -> watch::Receiver<Denied> {
        self.inner.state.denied.subscribe()
    }

    /// Whether the connection stands right now, as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.inner.state.connected.borrow()
    }

    /// Waits for the connection, for tools that have nothing to do without it.
    ///
    /// # Errors
    /// [`Error::NotReached`] after `wait`, with the servers and the last error.
    pub async fn reach(&self, wait: Duration) -> Result<(), Error> {
        let mut connected = self.connected();
        match timeout(wait, connected.wait_for(|connected| *connected)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::NotReached {
                servers: self.inner.servers.clone(),
                waited: wait,
                last: self.last_error(),
            }),
        }
    }

    /// The servers, as people may see them.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.inner.servers
    }

    /// What the client last complained about since it last connected.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.inner
            .state
            .last_error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// The counters of this connection.
    #[must_use]
    pub fn counters(&self) -> &BusCounters {
        &self.inner.state.counters
    }

    /// Largest message (headers and payload, in bytes) that the server takes;
    /// follows the server over reconnects.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// Hands a message to the connection.
    ///
    /// # Errors
    /// Anything but [`BusError::TimedOut`] and [`BusError::NoResponder`]; the
    /// message was not sent. `Ok` does not say that anybody got it.
    pub async fn publish(
        &self,
        subject: impl Into<Subject>,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.send(Outbound::new(subject, payload)).await
    }

    /// [`Self::publish`] with everything a message may carry.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn send(&self, message: Outbound) -> Result<(), BusError> {
        self.send_until(message, Instant::now() + SEND_TIMEOUT)
            .await
    }

    /// [`Self::send`], given up at `deadline`.
    pub(crate) async fn send_until(
        &self,
        message: Outbound,
        deadline: Instant,
    ) -> Result<(), BusError> {
        let Outbound {
            subject,
            reply,
            headers,
            payload,
        } = message;
        if !self.is_connected() {
            return Err(BusError::Offline {
                subject: subject.to_string(),
            });
        }
        let started = Instant::now();
        let size = payload.len();
        let client = &self.inner.client;
        let sent = async {
            match (reply, headers) {
                (None, None) => client.publish(subject.clone(), payload).await,
                (Some(reply), None) => {
                    client
                        .publish_with_reply(subject.clone(), reply, payload)
                        .await
                }
                (None, Some(headers)) => {
                    client
                        .publish_with_headers(subject.clone(), headers, payload)
                        .await
                }
                (Some(reply), Some(headers)) => {
                    client
                        .publish_with_reply_and_headers(subject.clone(), reply, headers, payload)
                        .await
                }
            }
        };
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.refused(&subject, size, &error)),
            Err(_) => Err(BusError::Congested {
                subject: subject.to_string(),
                waited: started.elapsed(),
            }),
        }
    }

    fn refused(&self, subject: &Subject, size: usize, error: &PublishError) -> BusError {
        let subject = subject.to_string();
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge {
                subject,
                size,
                max: self.max_payload(),
            },
            PublishErrorKind::InvalidSubject | PublishErrorKind::Send => BusError::Refused {
                subject,
                reason: error.to_string(),
            },
        }
    }

    /// Asks one question and waits for the one answer, for at most `wait`.
    ///
    /// # Errors
    /// Any of [`BusError`]; only after [`BusError::TimedOut`] may the request
    /// have been carried out.
    pub async fn request(
        &self,
        subject: impl Into<Subject>,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Message, BusError> {
        let deadline = Instant::now() + wait;
        let mut outbound = Outbound::new(subject, payload);
        let subject = outbound.subject.clone();
        let slot = self.inner.requests.slot();
        outbound.reply = Some(slot.subject());
        self.send_until(outbound, deadline).await?;
        match timeout_at(deadline, slot.reply()).await {
            Ok(Some(message)) if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) => {
                Err(BusError::NoResponder {
                    subject: subject.to_string(),
                })
            }
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(BusError::Offline {
                subject: subject.to_string(),
            }),
            Err(_) => Err(BusError::TimedOut {
                subject: subject.to_string(),
                waited: wait,
            }),
        }
    }

    /// Proves that all that this connection sent so far has reached the server.
    ///
    /// # Errors
    /// [`BusError::TimedOut`] after `wait`, or what kept the proof from leaving.
    pub async fn round_trip(&self, wait: Duration) -> Result<(), BusError> {
        let probe = self.inner.probe.clone();
        match self.request(probe, Bytes::new(), wait).await {
            Ok(_) | Err(BusError::NoResponder { .. }) => Ok(()),
            Err(
                error @ (BusError::Offline { .. }
                | BusError::Congested { .. }
                | BusError::TooLarge { .. }
                | BusError::Refused { .. }
                | BusError::TimedOut { .. }),
            ) => Err(error),
        }
    }

    /// Subscribes, and returns only when the server knows it, so that nothing
    /// published from now on is missed. (The client's own `subscribe` returns
    /// when the wish is queued, and its `flush` is no round trip.) Afterwards
    /// the client renews the subscription at each reconnect.
    ///
    /// # Errors
    /// As [`Self::round_trip`]; nothing stays subscribed.
    pub async fn subscribe(
        &self,
        subject: impl Into<Subject>,
        wait: Duration,
    ) -> Result<Subscriber, BusError> {
        let subject = subject.into();
        let deadline = Instant::now() + wait;
        let subscriber = match timeout(wait, self.inner.client.subscribe(subject.clone())).await {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(error)) => {
                return Err(BusError::Refused {
                    subject: subject.to_string(),
                    reason: error.to_string(),
                });
            }
            Err(_) => {
                return Err(BusError::Congested {
                    subject: subject.to_string(),
                    waited: wait,
                });
            }
        };
        self.round_trip(deadline.saturating_duration_since(Instant::now()))
            .await?;
        Ok(subscriber)
    }

    /// Sends what is queued, then closes the connection; all subscriptions
    /// end. Gives up after `wait`: then the connection was down, and what was
    /// queued is lost.
    pub async fn close(&self, wait: Duration) {
        let closing = async {
            // The client's drain may drop what it hasn't written yet.
            let sent = self.round_trip(wait).await;
            if sent.is_ok() && self.inner.client.drain().await.is_ok() {
                self.inner.state.closed.cancelled().await;
            }
        };
        if timeout(wait, closing).await.is_err() {
            tracing::warn!(
                servers = self.servers(),
                "connection to NATS not closed in time"
            );
        }
    }
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Where to.
    pub subject: Subject,
    /// Where answers go.
    pub reply: Option<Subject>,
    /// Headers.
    pub headers: Option<HeaderMap>,
    /// The payload.
    pub payload: Bytes,
}

impl Outbound {
    /// A message with a payload and no more.
    #[must_use]
    pub fn new(subject: impl Into<Subject>, payload: Bytes) -> Self {
        Self {
            subject: subject.into(),
            reply: None,
            headers: None,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::NatsServer;
    use crate::{Identity, connect};

    #[tokio::test]
    async fn the_connection_closes_with_the_last_clone() {
        let server = NatsServer::start().unwrap();
        let bus = connect(&server.args(), Identity::service("retry"))
            .await
            .unwrap();
        bus.reach(SEND_TIMEOUT).await.unwrap();
        let closed = bus.inner.state.closed.clone();
        let clone = bus.clone();
        drop(bus);
        clone.round_trip(SEND_TIMEOUT).await.unwrap();
        drop(clone);
        closed.cancelled().await;
    }
}
