// SPDX-License-Identifier: Apache-2.0
//! Reply slots of single requests: one wildcard inbox per connection, and a
//! slot that ends with whoever waits for it, so that requests that time out or
//! are cancelled leave nothing behind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, Subject};
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The inbox of one connection; its reader ends with it.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Arc<Slots>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Slots {
    /// Subject of the inbox with its last dot.
    prefix: String,
    next: AtomicU64,
    /// Bounded by the requests under way: each holds its one slot.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

impl Slots {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        // A map of senders is whole after any panic between two calls.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, message: Message) {
        let token = message
            .subject
            .strip_prefix(self.prefix.as_str())
            .and_then(|t| t.parse().ok());
        let slot = token.and_then(|token: u64| self.waiting().remove(&token));
        if let Some(slot) = slot {
            // Whoever waited may have gone in this moment; then nobody misses it.
            let _gone = slot.send(message);
        }
    }
}

impl Requests {
    /// Subscribes to an inbox of the client and reads it until dropped.
    pub(crate) async fn start(client: &Client) -> Self {
        let prefix = format!("{}.", client.new_inbox());
        let slots = Arc::new(Slots {
            prefix,
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        });
        let stop = CancellationToken::new();
        // Queued before any request is, so the server sees it first; after a
        // reconnect too. It fails only for a client that is closed already,
        // whose requests fail by themselves.
        if let Ok(mut inbox) = client.subscribe(format!("{}*", slots.prefix)).await {
            let (slots, stop) = (slots.clone(), stop.clone());
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                while let Some(message) = inbox.next().await {
                    slots.deliver(message);
                }
                // The client is closed: whoever still waits need not.
                slots.waiting().clear();
            }));
        }
        Self {
            slots,
            _stop: stop.drop_guard(),
        }
    }

    /// A slot for one reply.
    pub(crate) fn slot(&self) -> Slot {
        let token = self.slots.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.slots.waiting().insert(token, sender);
        Slot {
            slots: self.slots.clone(),
            token,
            reply,
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.slots.waiting().len()
    }
}

/// Waits for one reply; dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    token: u64,
    reply: oneshot::Receiver<Message>,
}

impl Slot {
    /// Where the reply must be sent.
    pub(crate) fn subject(&self) -> Subject {
        format!("{}{}", self.slots.prefix, self.token).into()
    }

    /// The reply; none when the connection is closed for good.
    pub(crate) async fn reply(mut self) -> Option<Message> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.waiting().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::NatsServer;
    use std::time::Duration;

    #[tokio::test]
    async fn a_slot_ends_with_whoever_waits_for_it() {
        let server = NatsServer::start().unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let requests = Requests::start(&client).await;
        let (first, second) = (requests.slot(), requests.slot());
        assert_eq!(requests.waiting(), 2);
        drop(first);
        assert_eq!(requests.waiting(), 1);
        let given_up = tokio::time::timeout(Duration::from_millis(1), second.reply()).await;
        assert!(given_up.is_err());
        assert_eq!(requests.waiting(), 0);
    }

    #[tokio::test]
    async fn each_reply_finds_its_own_slot() {
        let server = NatsServer::start().unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let requests = Requests::start(&client).await;
        let (first, second) = (requests.slot(), requests.slot());
        client
            .publish(second.subject(), "second".into())
            .await
            .unwrap();
        client
            .publish(first.subject(), "first".into())
            .await
            .unwrap();
        client
            .publish(first.subject(), "first again".into())
            .await
            .unwrap();
        assert_eq!(first.reply().await.unwrap().payload, "first");
        assert_eq!(second.reply().await.unwrap().payload, "second");
        assert_eq!(requests.waiting(), 0);
    }
}
