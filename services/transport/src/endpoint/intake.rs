// SPDX-License-Identifier: Apache-2.0
//! Takes requests off the bus as they come, so that they wait here, where
//! their bytes are counted, and not in the subscriptions' queues, which count
//! messages only.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use dvs_schemas::problem::{Problem, ProblemCode};
use futures_util::stream::SelectAll;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::responder::{Counted, Responder};
use super::{Request, Tagged};
use crate::bus::Bus;
use crate::micro::Micro;

const MIB: usize = 1 << 20;

/// Bytes of the requests that a service holds, each from its arrival to its
/// answer: 32 of the largest there are (1 MiB), or the hello of each of 10,000
/// hosts three times over. What is more is told to come back later: a service
/// that took all there is would end for want of memory, and answer nobody.
const BUDGET: usize = 32 * MIB;

/// What a request counts for beside its payload: its subjects, and its places
/// in the queue and among those that wait for an answer.
const BESIDE: usize = 1_024;

/// How long requests that are already on the way are waited for at the stop.
const DRAIN: Duration = Duration::from_secs(1);

/// The taking half of a service.
pub(super) struct Intake<E> {
    bus: Bus,
    micro: Arc<Micro>,
    ids: Vec<E>,
    streams: SelectAll<Tagged<usize>>,
    room: Arc<Semaphore>,
    /// Unbounded: what is in it has its share of the budget.
    requests: mpsc::UnboundedSender<Request<E>>,
}

impl<E: Clone> Intake<E> {
    pub(super) fn new(
        bus: Bus,
        micro: Arc<Micro>,
        ids: Vec<E>,
        streams: SelectAll<Tagged<usize>>,
        requests: mpsc::UnboundedSender<Request<E>>,
    ) -> Self {
        Self {
            bus,
            micro,
            ids,
            streams,
            room: Arc::new(Semaphore::new(BUDGET)),
            requests,
        }
    }

    /// Runs until `stop` and the last request on the way, or until nobody
    /// takes requests any more, or the connection is closed. Waits for nothing
    /// else, or the subscriptions' queues would fill.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut until = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if until.is_none() => until = Some(self.drain().await),
                () = self.requests.closed() => return,
                message = self.streams.next() => match message {
                    Some((index, message)) => self.take(index, message),
                    None => return,
                },
                // A connection that is down ends no subscription.
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return,
            }
        }
    }

    async fn drain(&mut self) -> Instant {
        let until = Instant::now() + DRAIN;
        for stream in self.streams.iter_mut() {
            // Fails for a closed connection, whose streams end by themselves;
            // waits for nothing but a connection that is down.
            let _ = tokio::time::timeout_at(until, stream.subscriber.drain()).await;
        }
        until
    }

    fn take(&self, index: usize, message: Message) {
        let Some(endpoint) = self.ids.get(index).cloned() else {
            return;
        };
        let share = share(&self.room, message.payload.len());
        let busy = share.is_none();
        let counted = Counted {
            micro: self.micro.clone(),
            index,
            received: Instant::now(),
        };
        let responder = Responder::new(self.bus.clone(), &message, Some(counted), share);
        if busy {
            refuse(responder);
            return;
        }
        // Nobody takes it: the service is gone, as it would be a moment later.
        let _gone = self.requests.send(Request {
            endpoint,
            payload: message.payload,
            responder,
        });
    }
}

/// A request's part of the room, if there is as much. One that is larger than
/// all of it counts as all: whoever decodes it says what is wrong with it.
fn share(room: &Arc<Semaphore>, payload: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = payload.saturating_add(BESIDE).min(BUDGET);
    let bytes = u32::try_from(bytes).ok()?;
    room.clone().try_acquire_many_owned(bytes).ok()
}

/// Tells the asker, if the connection takes it at once; an asker who is not
/// told runs into its timeout.
fn refuse(responder: Responder) {
    let problem = Problem::new(
        ProblemCode::Unavailable,
        format!(
            "too much to do: {} MiB of requests wait already",
            BUDGET / MIB
        ),
    );
    let told = responder.respond(Err(problem.allow("repeat later")));
    let told = tokio::task::unconstrained(told).now_or_never();
    tracing::debug!(
        told = matches!(told, Some(Ok(()))),
        "a request found no room"
    );
}
