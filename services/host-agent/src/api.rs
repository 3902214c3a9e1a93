// SPDX-License-Identifier: Apache-2.0
//! Subjects to events, for the hosts of one connection: each host hears its
//! own subjects and those of its switches, on subscriptions of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use dvs_schemas::{HostName, SwitchName, subjects};
use futures_util::future::{AbortHandle, FutureExt};
use futures_util::stream::{Abortable, SelectAll};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::host::HostEvent;
use crate::perform::Line;
use crate::wire::{Incoming, Reader, Refused, Source};

/// How long a round trip or a subscription may take before it is tried again.
const WAIT: Duration = Duration::from_secs(5);

/// Messages taken in a row before wishes and the connection are looked at.
const CHUNK: usize = 256;

/// What a host wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A switch's fan-out.
    Hear(HostName, SwitchName),
    /// No more.
    Leave(HostName, SwitchName),
}

/// An event of a host.
pub type Event = (HostName, HostEvent);

type Route = (HostName, SwitchName);

/// A subscription whose messages carry their way in.
#[derive(Debug)]
struct Ear {
    way: Arc<(HostName, Source)>,
    subscriber: Subscriber,
}

impl Stream for Ear {
    type Item = (Arc<(HostName, Source)>, Message);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { way, subscriber } = &mut *self;
        subscriber
            .poll_next_unpin(cx)
            .map(|message| message.map(|message| (way.clone(), message)))
    }
}

/// What a round trip has proven.
#[derive(Debug)]
enum Proof {
    /// The own subjects are heard over the connection of that number.
    Own(u64),
    /// These switches are heard, by the subscriptions of those numbers.
    Switches(Vec<(Route, u64)>),
}

/// Hears for the hosts of one connection.
pub struct Ears {
    line: Line,
    hosts: Arc<[HostName]>,
    inbox: mpsc::Sender<Event>,
    wishes: mpsc::UnboundedReceiver<Wish>,
    reader: Reader,
    ears: SelectAll<Abortable<Ear>>,
    /// Switches heard, or about to be: by which subscription, and how to end it.
    switches: BTreeMap<Route, (u64, AbortHandle)>,
    /// Switches to be subscribed to when the connection stands.
    wanted: BTreeSet<Route>,
    /// Ends with the ears.
    proofs: JoinSet<Proof>,
    /// Number of the newest subscription.
    subscriptions: u64,
    /// Number of the newest connection.
    connections: u64,
    /// Whether the own subjects are subscribed to; the client renews them.
    has_own: bool,
    /// Whether the hosts were told that the bus is there.
    online: bool,
}

impl Ears {
    /// Ears for the hosts of a line; [`Ears::run`] hears with them.
    #[must_use]
    pub fn new(
        line: Line,
        hosts: Arc<[HostName]>,
        inbox: mpsc::Sender<Event>,
        wishes: mpsc::UnboundedReceiver<Wish>,
    ) -> Self {
        Self {
            line,
            hosts,
            inbox,
            wishes,
            reader: Reader::default(),
            ears: SelectAll::new(),
            switches: BTreeMap::new(),
            wanted: BTreeSet::new(),
            proofs: JoinSet::new(),
            subscriptions: 0,
            connections: 0,
            has_own: false,
            online: false,
        }
    }

    /// Hears until stopped, or until nobody takes events any more.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.hear()).await;
    }

    async fn hear(&mut self) {
        let mut connected = self.line.bus().connected();
        connected.mark_changed();
        // Every arm is cancel-safe; none keeps what it has not returned.
        loop {
            let goes_on = tokio::select! {
                changed = connected.changed() => {
                    let stands = *connected.borrow_and_update();
                    changed.is_ok() && self.connection(stands).await
                }
                Some(wish) = self.wishes.recv() => {
                    self.wish(wish);
                    // Wishes come in bursts, and share a round trip.
                    while let Ok(wish) = self.wishes.try_recv() {
                        self.wish(wish);
                    }
                    self.subscribe().await;
                    true
                }
                Some(proof) = self.proofs.join_next() => match proof {
                    Ok(proof) => self.proven(proof).await,
                    // It can't be cancelled, and it has nothing to panic at.
                    Err(_) => true,
                },
                Some((way, message)) = self.ears.next() => self.take(way, message).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn send(&self, host: &HostName, event: HostEvent) -> bool {
        self.inbox.send((host.clone(), event)).await.is_ok()
    }

    /// The connection came, or went, or both.
    async fn connection(&mut self, stands: bool) -> bool {
        self.connections += 1;
        if self.online {
            self.online = false;
            for host in self.hosts.iter() {
                if !self.send(host, HostEvent::Disconnected).await {
                    return false;
                }
            }
        }
        if stands {
            if !self.has_own {
                self.has_own = self.subscribe_own().await;
            }
            self.subscribe().await;
            self.prove(Proof::Own(self.connections));
        }
        true
    }

    async fn subscribe_own(&mut self) -> bool {
        for host in self.hosts.clone().iter() {
            // Every verb of the host.
            let subject = format!("dvs.v1.agent.{host}.*");
            let Some(subscriber) = self.subscriber(subject).await else {
                // What was subscribed to so far goes, and all comes again.
                self.ears.clear();
                return false;
            };
            self.add(host.clone(), Source::Own, subscriber);
        }
        true
    }

    /// A subscription that the server may not know yet; none if the connection
    /// is gone again.
    async fn subscriber(&self, subject: String) -> Option<Subscriber> {
        let subscribed = self.line.bus().client().subscribe(subject);
        tokio::time::timeout(WAIT, subscribed).await.ok()?.ok()
    }

    fn add(&mut self, host: HostName, source: Source, subscriber: Subscriber) -> AbortHandle {
        let way = Arc::new((host, source));
        let (ear, end) = futures_util::stream::abortable(Ear { way, subscriber });
        self.ears.push(ear);
        end
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Hear(host, switch) => {
                self.wanted.insert((host, switch));
            }
            Wish::Leave(host, switch) => {
                let route = (host, switch);
                self.wanted.remove(&route);
                if let Some((_, end)) = self.switches.remove(&route) {
                    end.abort();
                }
            }
        }
    }

    /// Subscribes to the switches wanted, as far as the connection allows.
    async fn subscribe(&mut self) {
        let mut unproven = Vec::new();
        while self.line.bus().is_connected()
            && let Some(route) = self.wanted.first().cloned()
        {
            let Some(subscriber) = self.subscriber(subjects::switch_clobber(&route.1)).await else {
                break;
            };
            self.wanted.remove(&route);
            let source = Source::Switch(route.1.clone());
            let end = self.add(route.0.clone(), source, subscriber);
            self.subscriptions += 1;
            let before = self
                .switches
                .insert(route.clone(), (self.subscriptions, end));
            if let Some((_, end)) = before {
                end.abort();
            }
            unproven.push((route, self.subscriptions));
        }
        if !unproven.is_empty() {
            self.prove(Proof::Switches(unproven));
        }
    }

    /// Makes sure that the server knows what was subscribed to. After a
    /// reconnect the client subscribes anew before it sends anything else, so
    /// any round trip will do.
    fn prove(&mut self, proof: Proof) {
        let bus = self.line.bus().clone();
        let trip = async move {
            let mut connected = bus.connected();
            loop {
                if bus.round_trip(WAIT).await.is_ok() {
                    return proof;
                }
                if !bus.is_connected() && connected.wait_for(|stands| *stands).await.is_err() {
                    // The connection is closed for good, and so is this end.
                    return std::future::pending().await;
                }
            }
        };
        self.proofs.spawn(trip);
    }

    async fn proven(&mut self, proof: Proof) -> bool {
        match proof {
            Proof::Own(connection) => {
                if connection == self.connections && self.has_own && !self.online {
                    self.online = true;
                    for host in self.hosts.iter() {
                        if !self.send(host, HostEvent::Connected).await {
                            return false;
                        }
                    }
                }
            }
            Proof::Switches(routes) => {
                for (route, subscription) in routes {
                    let heard = self.switches.get(&route);
                    if heard.is_some_and(|(current, _)| *current == subscription) {
                        let (host, switch) = route;
                        if !self.send(&host, HostEvent::Subscribed(switch)).await {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }

    /// Takes a message, and those that wait behind it.
    async fn take(&mut self, way: Arc<(HostName, Source)>, message: Message) -> bool {
        let mut next = Some((way, message));
        let mut taken = 0;
        while let Some((way, message)) = next {
            if !self.deliver(&way, message).await {
                return false;
            }
            taken += 1;
            next = if taken < CHUNK {
                // The loop polls again with a waker before it sleeps.
                self.ears.next().now_or_never().flatten()
            } else {
                None
            };
        }
        true
    }

    async fn deliver(&mut self, (host, source): &(HostName, Source), message: Message) -> bool {
        let message = Incoming {
            subject: message.subject,
            reply: message.reply,
            payload: message.payload,
        };
        match self.reader.read(source, message) {
            Ok(event) => self.send(host, event).await,
            Err(Refused { asker, problem }) => {
                tracing::warn!(%host, %problem, "a message was refused");
                if let Some(asker) = asker {
                    self.line.refuse(host.clone(), asker, problem);
                }
                true
            }
        }
    }
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears")
            .field("hosts", &self.hosts.len())
            .field("online", &self.online)
            .finish_non_exhaustive()
    }
}
