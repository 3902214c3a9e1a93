// SPDX-License-Identifier: Apache-2.0
//! Subjects to events, for the hosts of one connection: each host hears its
//! own subjects and those of its switches, on subscriptions of its own.
//!
//! A host must not say hello, nor acknowledge a full state, before the server
//! knows what it listens to. No round trip is needed for that: the server
//! takes what one connection sends in order, the client writes it in the order
//! in which it was queued, and at a reconnect it renews all subscriptions
//! before it sends anything else. So what is subscribed to first is known
//! before what is said next.

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
use tokio_util::sync::CancellationToken;

use crate::host::HostEvent;
use crate::perform::Line;
use crate::wire::{Incoming, Reader, Refused, Source};

/// How long the connection may take to accept a subscription. A connection
/// that stands takes thousands in that time.
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

/// Hears for the hosts of one connection.
pub struct Ears {
    line: Line,
    hosts: Arc<[HostName]>,
    inbox: mpsc::Sender<Event>,
    wishes: mpsc::UnboundedReceiver<Wish>,
    reader: Reader,
    ears: SelectAll<Abortable<Ear>>,
    /// Switches heard, and how to end that.
    switches: BTreeMap<Route, AbortHandle>,
    /// Switches to be subscribed to when the connection stands.
    wanted: BTreeSet<Route>,
    /// Hosts whose own subjects are not subscribed to yet.
    deaf: Vec<HostName>,
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
            deaf: hosts.to_vec(),
            hosts,
            inbox,
            wishes,
            reader: Reader::default(),
            ears: SelectAll::new(),
            switches: BTreeMap::new(),
            wanted: BTreeSet::new(),
            online: false,
        }
    }

    /// Hears until stopped, or until nobody takes events any more.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.hear()).await;
        self.tell_all(&HostEvent::Stopping).await;
    }

    async fn hear(&mut self) {
        let mut connected = self.line.bus().connected();
        connected.mark_changed();
        let mut denied = self.line.bus().denied();
        // Every arm is cancel-safe; none keeps what it has not returned.
        loop {
            let goes_on = tokio::select! {
                changed = connected.changed() => {
                    let stands = *connected.borrow_and_update();
                    changed.is_ok() && self.connection(stands).await
                }
                changed = denied.changed() => {
                    denied.mark_unchanged();
                    // What is accepted again comes with a connection.
                    changed.is_ok() && (self.hears() || self.follow().await)
                }
                Some(wish) = self.wishes.recv() => {
                    self.wish(wish);
                    while let Ok(wish) = self.wishes.try_recv() {
                        self.wish(wish);
                    }
                    self.subscribe().await
                }
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
        if std::mem::take(&mut self.online) && !self.tell_all(&HostEvent::Disconnected).await {
            return false;
        }
        if !stands {
            return true;
        }
        self.subscribe_own().await;
        self.subscribe().await && self.follow().await
    }

    /// Tells the hosts whether the bus is there, if that is another by now.
    async fn follow(&mut self) -> bool {
        let online = self.hears();
        if std::mem::replace(&mut self.online, online) == online {
            return true;
        }
        let event = if online {
            HostEvent::Connected
        } else {
            HostEvent::Disconnected
        };
        self.tell_all(&event).await
    }

    /// Whether all that is said to the hosts is heard. Hosts that miss something
    /// must not pass for present: they come back with a connection on which the
    /// server refuses no subscription.
    fn hears(&self) -> bool {
        let bus = self.line.bus();
        bus.is_connected() && self.deaf.is_empty() && bus.denied().borrow().is_empty()
    }

    async fn tell_all(&self, event: &HostEvent) -> bool {
        for host in self.hosts.iter() {
            if !self.send(host, event.clone()).await {
                return false;
            }
        }
        true
    }

    async fn subscribe_own(&mut self) {
        while self.line.bus().is_connected()
            && let Some(host) = self.deaf.last().cloned()
        {
            // Every verb of the host.
            let subject = format!("dvs.v1.agent.{host}.*");
            if let Some(subscriber) = self.subscriber(subject).await {
                self.add(host, Source::Own, subscriber);
                self.deaf.pop();
            }
        }
    }

    /// A subscription that the server will know before anything sent from now
    /// on; none if the connection is gone again.
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
                if let Some(end) = self.switches.remove(&route) {
                    end.abort();
                }
            }
        }
    }

    /// Subscribes to the switches wanted, as far as the connection allows.
    async fn subscribe(&mut self) -> bool {
        while self.line.bus().is_connected()
            && let Some(route) = self.wanted.first().cloned()
        {
            let Some(subscriber) = self.subscriber(subjects::switch_clobber(&route.1)).await else {
                continue;
            };
            self.wanted.remove(&route);
            let (host, switch) = route.clone();
            let end = self.add(host.clone(), Source::Switch(switch.clone()), subscriber);
            if let Some(before) = self.switches.insert(route, end) {
                before.abort();
            }
            if !self.send(&host, HostEvent::Subscribed(switch)).await {
                return false;
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
