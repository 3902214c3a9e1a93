// SPDX-License-Identifier: Apache-2.0
//! One instance of a service per bus. Two with ledgers of their own would take
//! turns at the same requests, so the later one doesn't serve, and says who
//! does. One with another ledger never does: what the first has acknowledged
//! is in none but its own. Instances find each other by the discovery of NATS micro services
//! (`nats service info`), in whose metadata each says who it is.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::service::PingResponse;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use dvs_transport::endpoint::{Description, Endpoint, Service};
use dvs_transport::{Bus, BusError, Outbound};
use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::health::Health;
use crate::{Daemon, STOP_LIMIT};

/// How long others have to answer who they are. They do at once; nobody is
/// waited for where nobody listens.
const ASK: Duration = Duration::from_secs(1);

/// How long a new instance waits for the one before it to stop, when a
/// supervisor starts the one before the other has ended.
const OVERLAP: Duration = STOP_LIMIT.saturating_mul(2);

/// Header of a look that others are to follow: who looks. What follows has
/// none, or two would look for ever.
const LOOKER: &str = "Dvs-Looker";

/// Why an instance looks for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It is about to serve.
    Start,
    /// Its bus is there anew.
    Anew,
    /// Another one looks.
    Asked,
}

/// The first moment whose year has five digits, in ms since 1970: it can't be
/// written as a date.
const YEAR_10000: u64 = 253_402_300_800_000;

/// This instance of a service.
#[derive(Debug, Clone)]
pub struct Instance {
    service: &'static str,
    card: Card,
}

/// What an instance says of itself. The one that is less serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Card {
    stage: Stage,
    /// When it started, in ms since 1970.
    since: u64,
    id: String,
    node: String,
    store: String,
}

/// How far an instance is. One that serves precedes all that start, whatever
/// the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It takes requests.
    Serving,
    /// It is discoverable, and takes no requests yet.
    Starting,
}

/// Keeps an instance discoverable that is about to serve, until it is dropped:
/// that is when the service itself is on the bus.
#[derive(Debug)]
pub struct Claim {
    _listed: Service,
}

/// Another instance serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another {service} serves on this bus: on node {node}, since {since}, {stores}; stop it, or \
     connect this one to a bus of its own"
)]
pub struct Taken {
    service: &'static str,
    node: String,
    since: String,
    stores: Stores,
}

/// The store of another instance, beside this one's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stores {
    /// It is the same: that one runs still, or has a copy.
    Same(String),
    /// Another one.
    Other { other: String, mine: String },
}

impl fmt::Display for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(store) => write!(f, "with the same store {store}"),
            Self::Other { other, mine } => {
                write!(f, "with store {other}, while this one has store {mine}")
            }
        }
    }
}

impl Card {
    fn read(metadata: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            stage: match metadata.get("stage")?.as_str() {
                "serving" => Stage::Serving,
                "starting" => Stage::Starting,
                _ => return None,
            },
            since: metadata.get("since")?.parse().ok()?,
            id: metadata.get("instance")?.clone(),
            node: metadata.get("node")?.clone(),
            store: metadata.get("store")?.clone(),
        })
    }

    fn serving(&self) -> Self {
        Self {
            stage: Stage::Serving,
            ..self.clone()
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let Self {
            stage,
            since,
            id,
            node,
            store,
        } = self.clone();
        let stage = match stage {
            Stage::Serving => "serving",
            Stage::Starting => "starting",
        };
        let pairs = [
            ("stage", stage.to_owned()),
            ("since", since.to_string()),
            ("instance", id),
            ("node", node),
            ("store", store),
        ];
        let pairs = pairs.into_iter();
        pairs.map(|(key, value)| (key.to_owned(), value)).collect()
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
                stage: Stage::Starting,
                since: since.map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
                id: Uuid::new_v4().to_string(),
                node: node.map_or_else(|_| "unknown".to_owned(), |node| node.trim().to_owned()),
                store: store.to_string(),
            },
        }
    }

    /// What the service says of itself to whoever asks, once it serves.
    #[must_use]
    pub fn metadata(&self) -> HashMap<String, String> {
        self.card.serving().metadata()
    }

    /// Waits for the bus, and until this instance may serve on it: it becomes
    /// discoverable, so that of two that start at once each finds the other or
    /// is found, and asks who else is. None if the daemon's stop comes first.
    ///
    /// # Errors
    /// Another one serves or is about to, and has another store or doesn't stop
    /// within twice [`STOP_LIMIT`].
    pub async fn alone(&self, daemon: &Daemon, bus: &Bus) -> Result<Option<Claim>, Taken> {
        let stop = daemon.stop_token();
        stop.run_until_cancelled(self.contend(daemon.health(), bus))
            .await
            .transpose()
    }

    async fn contend(&self, health: &Health, bus: &Bus) -> Result<Claim, Taken> {
        let mut found: Option<Instant> = None;
        let mut claim = None;
        health.starting(&format!(
            "asking on the bus whether another {} serves",
            self.service
        ));
        loop {
            // Of a bus that is away nobody can be asked.
            let _ = bus.connected().wait_for(|connected| *connected).await;
            let (verdict, listed) = match self.try_claim(bus, claim.take()).await {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::debug!(%error, "others can't be asked");
                    tokio::time::sleep(ASK).await;
                    continue;
                }
            };
            let other = match verdict {
                Verdict::Alone => return Ok(listed),
                Verdict::Unheard => {
                    claim = Some(listed);
                    tokio::time::sleep(ASK).await;
                    continue;
                }
                Verdict::Precedes(other) => {
                    claim = Some(listed);
                    other
                }
                // Nor when that one has gone: this one knows nothing of what was
                // acknowledged until then.
                Verdict::Yields(other) if other.store != self.card.store => {
                    return Err(self.taken(other));
                }
                Verdict::Yields(other) => {
                    drop(listed);
                    other
                }
            };
            let taken = self.taken(other);
            health.starting(&format!("waiting for another instance to stop: {taken}"));
            let since = *found.get_or_insert_with(|| {
                let bound = OVERLAP;
                tracing::warn!(%taken, ?bound, "waiting for the other to stop");
                Instant::now()
            });
            if since.elapsed() > OVERLAP {
                return Err(taken);
            }
            if claim.is_none() {
                self.until_gone(bus).await;
            }
        }
    }

    /// Asks who else is there, being discoverable.
    async fn try_claim(
        &self,
        bus: &Bus,
        claim: Option<Claim>,
    ) -> Result<(Verdict, Claim), BusError> {
        let claim = match claim {
            Some(claim) => claim,
            None => self.list(bus).await?,
        };
        let answers = self.ask(bus, Why::Start).await?;
        Ok((verdict(&self.card, answers), claim))
    }

    /// Waits, without being discoverable, until nobody is there any more, for at
    /// most [`OVERLAP`].
    async fn until_gone(&self, bus: &Bus) {
        let gone = async {
            loop {
                tokio::time::sleep(ASK).await;
                let _ = bus.connected().wait_for(|connected| *connected).await;
                match self.ask(bus, Why::Start).await {
                    Ok(answers) if answers.is_empty() => return,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "others can't be asked"),
                }
            }
        };
        // Whoever is there then is found once more, and named.
        let _ = tokio::time::timeout(OVERLAP, gone).await;
    }

    /// Makes this instance discoverable as one that takes no requests yet.
    async fn list(&self, bus: &Bus) -> Result<Claim, BusError> {
        let description = Description {
            name: self.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "starts; takes no requests yet".to_owned(),
            metadata: self.card.metadata(),
        };
        let nothing_to_ask = Vec::<Endpoint<()>>::new();
        let (listed, _none) = Service::start(bus, description, nothing_to_ask).await?;
        Ok(Claim { _listed: listed })
    }

    /// Looks for others whenever the bus is there anew, and when another one
    /// looks, until `stop`. Nothing is polled: of two that meet, at least one has
    /// a bus that is there anew, and its look makes the other look.
    ///
    /// # Errors
    /// Another one has served for longer; this one is to stop.
    pub async fn stays(self, bus: Bus, stop: CancellationToken) -> Result<(), Taken> {
        let mut connected = bus.connected();
        let mut named = None;
        let me = self.card.serving();
        let asked = bus.client().subscribe(self.everybody()).await;
        let asked = asked.inspect_err(|error| tracing::warn!(%error, "others' looks go unheard"));
        let mut asked = futures_util::stream::iter(asked).flatten();
        let mut why = Why::Anew;
        loop {
            let found = self.ask(&bus, why).await.unwrap_or_default();
            // One that only starts gives way to this one by itself.
            let others = found.into_iter().filter(|card| match card.stage {
                Stage::Serving => card.id != self.card.id,
                Stage::Starting => false,
            });
            match others.min() {
                Some(other) if other < me => return Err(self.taken(other)),
                Some(other) if named.as_ref() != Some(&other.id) => {
                    named = Some(other.id.clone());
                    let taken = self.taken(other);
                    tracing::error!(%taken, "it serves for less long, and is to stop by itself");
                }
                Some(_) | None => {}
            }
            let anew = async {
                // Whoever looks for its absence misses one that was short.
                while connected.changed().await.is_ok() {
                    if *connected.borrow_and_update() {
                        return Why::Anew;
                    }
                }
                std::future::pending().await
            };
            let next_look = async {
                tokio::select! {
                    why = anew => why,
                    why = self.looked_for(&mut asked) => why,
                }
            };
            match stop.run_until_cancelled(next_look).await {
                Some(next) => why = next,
                None => return Ok(()),
            }
        }
    }

    /// Waits until another instance looks, as its bus is there anew.
    async fn looked_for(&self, asked: &mut (impl Stream<Item = Message> + Unpin)) -> Why {
        loop {
            let Some(question) = asked.next().await else {
                return std::future::pending().await;
            };
            let headers = question.headers.as_ref();
            let looker = headers.and_then(|headers| headers.get(LOOKER));
            if looker.is_some_and(|looker| looker.as_str() != self.card.id) {
                return Why::Asked;
            }
        }
    }

    fn everybody(&self) -> String {
        format!("$SRV.PING.{}", self.service)
    }

    fn taken(&self, other: Card) -> Taken {
        let Card {
            stage: _,
            since,
            id: _,
            node,
            store,
        } = other;
        let since = Some(since).filter(|since| *since < YEAR_10000);
        let since = since.and_then(|since| UNIX_EPOCH.checked_add(Duration::from_millis(since)));
        let since = since.map(|since| humantime::format_rfc3339_seconds(since).to_string());
        Taken {
            service: self.service,
            node,
            since: since.unwrap_or_else(|| "an unknown time".to_owned()),
            stores: if store == self.card.store {
                Stores::Same(store)
            } else {
                Stores::Other {
                    other: store,
                    mine: self.card.store.clone(),
                }
            },
        }
    }

    /// What the instances on the bus say of themselves, this one among them if
    /// it is discoverable.
    async fn ask(&self, bus: &Bus, why: Why) -> Result<Vec<Card>, BusError> {
        let inbox = bus.client().new_inbox();
        let mut answers = bus.subscribe(inbox.clone(), ASK).await?;
        let mut question = Outbound::new(self.everybody(), Bytes::new());
        question.reply = Some(inbox.into());
        if why == Why::Anew {
            let mut headers = HeaderMap::new();
            headers.insert(LOOKER, self.card.id.as_str());
            question.headers = Some(headers);
        }
        bus.send(question).await?;
        let mut cards = Vec::new();
        let listening = async {
            while let Some(answer) = answers.next().await {
                if answer.status == Some(StatusCode::NO_RESPONDERS) {
                    return;
                }
                let card = serde_json::from_slice::<PingResponse>(&answer.payload);
                cards.extend(card.ok().and_then(|answer| Card::read(&answer.metadata)));
            }
        };
        // Who has not answered by then is not there.
        let _ = tokio::time::timeout(ASK, listening).await;
        Ok(cards)
    }
}

/// Whether an instance that is discoverable may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Nobody else is there.
    Alone,
    /// It doesn't hear itself, so nobody else was asked: the bus went away.
    Unheard,
    /// This one starts as well and is later. It may have asked before this
    /// instance could be found, and serve; else it gives way.
    Precedes(Card),
    /// This one serves, or started earlier.
    Yields(Card),
}

fn verdict(me: &Card, answers: Vec<Card>) -> Verdict {
    let (mine, others): (Vec<Card>, Vec<Card>) =
        answers.into_iter().partition(|card| card.id == me.id);
    match others.into_iter().min() {
        Some(other) if other < *me => Verdict::Yields(other),
        Some(other) => Verdict::Precedes(other),
        None if mine.is_empty() => Verdict::Unheard,
        None => Verdict::Alone,
    }
}
