// SPDX-License-Identifier: Apache-2.0
//! One instance of a service per bus. Two with ledgers of their own would take
//! turns at the same requests, so the later one doesn't serve, and says who
//! does. Instances find each other by the discovery of NATS micro services
//! (`nats service info`), in whose metadata each says who it is.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::StatusCode;
use async_nats::service::PingResponse;
use bytes::Bytes;
use dvs_transport::{Bus, BusError, Outbound};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::STOP_LIMIT;

/// How long others have to answer who they are. They do at once; nobody is
/// waited for where nobody listens.
const ASK: Duration = Duration::from_secs(1);

/// How long a new instance waits for the one before it to stop, when a
/// supervisor starts the one before the other has ended.
const OVERLAP: Duration = STOP_LIMIT.saturating_mul(2);

/// How often a serving instance looks for others. Two that served on both
/// sides of a partition find each other within it.
const LOOK: Duration = Duration::from_secs(60);

/// This instance of a service.
#[derive(Debug, Clone)]
pub struct Instance {
    service: &'static str,
    card: Card,
}

/// What an instance says of itself. The one that is less serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Card {
    /// When it started, in ms since 1970.
    since: u64,
    id: String,
    node: String,
    store: String,
}

/// Another instance serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another {service} serves on this bus: on node {node}, since {since}, with store {store}; \
     stop it, or connect this one to a bus of its own"
)]
pub struct Taken {
    service: &'static str,
    node: String,
    since: String,
    store: String,
}

impl Card {
    fn read(metadata: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            since: metadata.get("since")?.parse().ok()?,
            id: metadata.get("instance")?.clone(),
            node: metadata.get("node")?.clone(),
            store: metadata.get("store")?.clone(),
        })
    }
}

impl Instance {
    /// An instance that starts now, with the identity of its ledger.
    #[must_use]
    pub fn new(service: &'static str, store: impl ToString) -> Self {
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            service,
            card: Card {
                since: since.map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
                id: Uuid::new_v4().to_string(),
                node: node.map_or_else(|_| "unknown".to_owned(), |node| node.trim().to_owned()),
                store: store.to_string(),
            },
        }
    }

    /// What the service says of itself to whoever asks.
    #[must_use]
    pub fn metadata(&self) -> HashMap<String, String> {
        let Card {
            since,
            id,
            node,
            store,
        } = self.card.clone();
        let pairs = [
            ("since", since.to_string()),
            ("instance", id),
            ("node", node),
            ("store", store),
        ];
        let pairs = pairs.into_iter();
        pairs.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Waits for the bus, and until no other instance serves on it.
    ///
    /// # Errors
    /// One does, and doesn't stop within twice [`STOP_LIMIT`].
    pub async fn alone(&self, bus: &Bus) -> Result<(), Taken> {
        let mut found: Option<Instant> = None;
        loop {
            // Of a bus that is away nobody can be asked.
            let _ = bus.connected().wait_for(|connected| *connected).await;
            match self.others(bus).await {
                Ok(others) => {
                    let Some(other) = others.into_iter().min() else {
                        return Ok(());
                    };
                    let taken = self.taken(other);
                    let since = *found.get_or_insert_with(|| {
                        let bound = OVERLAP;
                        tracing::warn!(%taken, ?bound, "waiting for the other to stop");
                        Instant::now()
                    });
                    if since.elapsed() > OVERLAP {
                        return Err(taken);
                    }
                }
                Err(error) => tracing::debug!(%error, "others can't be asked"),
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Looks for others whenever the bus is there anew, and now and then, until
    /// `stop`.
    ///
    /// # Errors
    /// Another one has served for longer; this one is to stop.
    pub async fn stays(self, bus: Bus, stop: CancellationToken) -> Result<(), Taken> {
        let mut connected = bus.connected();
        let mut named = None;
        loop {
            let found = self.others(&bus).await.unwrap_or_default();
            match found.into_iter().min() {
                Some(other) if other < self.card => return Err(self.taken(other)),
                Some(other) if named.as_ref() != Some(&other.id) => {
                    named = Some(other.id.clone());
                    let taken = self.taken(other);
                    tracing::error!(%taken, "it serves for less long, and is to stop by itself");
                }
                Some(_) | None => {}
            }
            let next_look = async {
                let lost = connected.wait_for(|connected| !*connected);
                // In time, or when the bus is there anew.
                if tokio::time::timeout(LOOK, lost).await.is_ok() {
                    let _ = connected.wait_for(|connected| *connected).await;
                }
            };
            if stop.run_until_cancelled(next_look).await.is_none() {
                return Ok(());
            }
        }
    }

    fn taken(&self, other: Card) -> Taken {
        let Card {
            since,
            id: _,
            node,
            store,
        } = other;
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(since));
        let since = since.map(|since| humantime::format_rfc3339_seconds(since).to_string());
        Taken {
            service: self.service,
            node,
            since: since.unwrap_or_else(|| "an unknown time".to_owned()),
            store,
        }
    }

    /// Other instances that serve on the bus.
    async fn others(&self, bus: &Bus) -> Result<Vec<Card>, BusError> {
        let inbox = bus.client().new_inbox();
        let mut answers = bus.subscribe(inbox.clone(), ASK).await?;
        let mut question = Outbound::new(format!("$SRV.PING.{}", self.service), Bytes::new());
        question.reply = Some(inbox.into());
        bus.send(question).await?;
        let mut others = Vec::new();
        let listening = async {
            while let Some(answer) = answers.next().await {
                if answer.status == Some(StatusCode::NO_RESPONDERS) {
                    return;
                }
                let card = serde_json::from_slice::<PingResponse>(&answer.payload);
                let card = card.ok().and_then(|answer| Card::read(&answer.metadata));
                others.extend(card.filter(|card| card.id != self.card.id));
            }
        };
        // Who has not answered by then is not there.
        let _ = tokio::time::timeout(ASK, listening).await;
        Ok(others)
    }
}
