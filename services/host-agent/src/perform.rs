// SPDX-License-Identifier: Apache-2.0
//! Effects to IO. What takes time runs in tasks of its own, whose results come
//! back as events: the loop that makes effects may wait for this end, so this
//! end never waits for the loop.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dvs_daemon::Condition;
use dvs_schemas::subjects::{self, EventVerb};
use dvs_schemas::v1::{ApplyOutcome, Drift, EventAck, Heartbeat, Hello, HelloReply, Live};
use dvs_schemas::{Format, HostName, PortId, Problem, ProblemCode, SwitchName, codec};
use dvs_transport::{Bus, BusError};
use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::api::{Event, Wish};
use crate::datapath::{Datapath, DatapathError, NotApplied, Ports, Step};
use crate::host::{
    Answer, AskFailure, Asker, Effect, HostEffect, HostEvent, LivePicture, RuntimeEvent,
    WAITERS_MAX,
};
use crate::metrics::Counts;
use crate::wire;

/// How long the publisher and the collector may take. Both answer from memory
/// after one commit; what takes longer waits for its disk or for the bus.
const ANSWER: Duration = Duration::from_secs(5);

/// Answers per host that may wait for the connection. Askers wait for some
/// seconds only, so what doesn't fit would be late anyway. A host whose
/// datapath was slow answers all that wait for it at once: so many more may
/// wait besides.
const ANSWERS_PER_HOST: usize = 16;

/// The most messages that leave between two looks at the queue.
const SENDING: usize = 256;

/// Events are text, for whoever runs `nats sub 'dvs.v1.event.>'` at night. They
/// are rare, and heartbeats are small.
const EVENTS: Format = Format::Json;

/// Something to send that nobody answers.
#[derive(Debug)]
enum Outgoing {
    Answer(HostName, Arc<Asker>, Answer),
    Heartbeat(Heartbeat),
    Drift(Drift),
}

/// A connection and the hosts on it, as the performer sees it.
#[derive(Debug, Clone)]
pub struct Line {
    bus: Bus,
    wishes: mpsc::UnboundedSender<Wish>,
    outgoing: mpsc::Sender<Outgoing>,
    counts: Counts,
}

/// What a line sends, in order; [`Outbox::run`] sends it.
#[derive(Debug)]
pub struct Outbox {
    bus: Bus,
    outgoing: mpsc::Receiver<Outgoing>,
}

impl Line {
    /// A line over a connection for so many hosts. Wishes are as many as the
    /// hosts have switches, so they need no bound of their own.
    #[must_use]
    pub fn new(
        bus: Bus,
        hosts: usize,
        counts: Counts,
    ) -> (Self, Outbox, mpsc::UnboundedReceiver<Wish>) {
        let (wishes, heard) = mpsc::unbounded_channel();
        let (outgoing, sent) = mpsc::channel(hosts.max(1) * ANSWERS_PER_HOST + WAITERS_MAX);
        let outbox = Outbox {
            bus: bus.clone(),
            outgoing: sent,
        };
        let line = Self {
            bus,
            wishes,
            outgoing,
            counts,
        };
        (line, outbox, heard)
    }

    /// The connection.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Answers a question with a problem.
    pub fn refuse(&self, host: HostName, asker: Arc<Asker>, problem: Problem) {
        self.send(Outgoing::Answer(host, asker, Answer::Problem(problem)));
    }

    fn send(&self, outgoing: Outgoing) {
        // A connection that doesn't move must not hold up the datapath: who
        // asked runs into its timeout and asks again.
        if self.outgoing.try_send(outgoing).is_err() {
            self.counts.dropped();
        }
    }

    fn wish(&self, wish: Wish) {
        // The other end is gone only when the process stops.
        let _ = self.wishes.send(wish);
    }
}

impl Outbox {
    /// Sends until all senders are gone and the queue is empty.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        while self.outgoing.recv_many(&mut batch, SENDING).await > 0 {
            let max = self.bus.max_payload();
            for outgoing in batch.drain(..) {
                let (subject, payload) = match outgoing {
                    Outgoing::Answer(host, asker, answer) => {
                        wire::answer(&host, &asker, &answer, max)
                    }
                    Outgoing::Heartbeat(beat) => {
                        let subject = subjects::event(&beat.host, EventVerb::Heartbeat);
                        match codec::encode(EVENTS, &beat) {
                            Ok(payload) => (subject, payload),
                            Err(error) => {
                                tracing::error!(%error, "a heartbeat can't be written");
                                continue;
                            }
                        }
                    }
                    Outgoing::Drift(drift) => {
                        let subject = subjects::drift(&drift.host);
                        match codec::encode(EVENTS, &drift) {
                            Ok(payload) => (subject, payload),
                            Err(error) => {
                                tracing::error!(%error, "a drift can't be written");
                                continue;
                            }
                        }
                    }
                };
                if let Err(error) = self.bus.publish(subject, payload).await {
                    tracing::debug!(%error, "not sent; who waits for it asks again");
                }
            }
        }
    }
}

/// One host's ways out.
#[derive(Debug)]
struct Station<D> {
    datapath: Arc<D>,
    line: Line,
}

/// The hosts for which something does not hold, and the condition that there
/// be none.
#[derive(Debug)]
struct Lacking {
    hosts: Mutex<BTreeSet<HostName>>,
    condition: Condition,
}

impl Lacking {
    /// Whether it holds for a host, or why not.
    fn note<T>(&self, host: &HostName, outcome: &Result<T, impl Display>) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => {
                if hosts.remove(host) && hosts.is_empty() {
                    self.condition.ok();
                }
            }
            Err(error) => {
                hosts.insert(host.clone());
                self.condition.no(format!("host {host}: {error}"));
            }
        }
    }
}

/// What carries effects out.
#[derive(Debug)]
pub struct Performer<D> {
    stations: HashMap<HostName, Station<D>>,
    inbox: mpsc::Sender<Event>,
    counts: Counts,
    /// Datapaths that could not be reached last, or never were.
    unread: Arc<Lacking>,
    /// Agents that are not their hosts'.
    refused: Arc<Lacking>,
}

/// What has to hold of every host of the process.
#[derive(Debug)]
pub struct Conditions {
    /// Its datapath was read.
    pub read: Condition,
    /// No other agent is known by its name.
    pub alone: Condition,
}

impl<D: Datapath> Performer<D> {
    /// A performer for hosts with their datapaths and lines.
    #[must_use]
    pub fn new(
        hosts: impl IntoIterator<Item = (HostName, Arc<D>, Line)>,
        inbox: mpsc::Sender<Event>,
        counts: Counts,
        Conditions { read, alone }: Conditions,
    ) -> Self {
        let station = |(host, datapath, line)| (host, Station { datapath, line });
        let stations: HashMap<_, _> = hosts.into_iter().map(station).collect();
        let unread = Lacking {
            hosts: Mutex::new(stations.keys().cloned().collect()),
            condition: read,
        };
        alone.ok();
        let refused = Lacking {
            hosts: Mutex::default(),
            condition: alone,
        };
        Self {
            stations,
            inbox,
            counts,
            unread: Arc::new(unread),
            refused: Arc::new(refused),
        }
    }

    /// Carries out effects, in order, until there are no more.
    ///
    /// # Errors
    /// Something panicked: what it was to end in never comes, so the host
    /// would wait for it without end.
    pub async fn run(self, mut effects: mpsc::Receiver<Vec<Effect>>) -> Result<(), JoinError> {
        let mut tasks = JoinSet::new();
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                batch = effects.recv() => {
                    let Some(batch) = batch else {
                        break;
                    };
                    self.perform_all(batch, &mut tasks);
                }
                Some(ended) = tasks.join_next() => ended?,
            }
        }
        // Nobody waits for these any more, but what they began may end.
        tasks.detach_all();
        Ok(())
    }

    fn perform_all(&self, batch: Vec<Effect>, tasks: &mut JoinSet<()>) {
        let mut ready = Vec::new();
        for (host, effect) in batch {
            self.perform(host, effect, &mut ready, tasks);
        }
        if !ready.is_empty() {
            let inbox = self.inbox.clone();
            tasks.spawn(async move {
                for event in ready {
                    if inbox.send(event).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    fn perform(
        &self,
        host: HostName,
        effect: HostEffect,
        ready: &mut Vec<Event>,
        tasks: &mut JoinSet<()>,
    ) {
        let Some(station) = self.stations.get(&host) else {
            return;
        };
        let datapath = || station.datapath.clone();
        let work: BoxFuture<'static, HostEvent> = match effect {
            HostEffect::Answer { asker, answer } => {
                log_failure(&answer);
                station.line.send(Outgoing::Answer(host, asker, answer));
                return;
            }
            HostEffect::Heartbeat(beat) => {
                station.line.send(Outgoing::Heartbeat(beat));
                return;
            }
            HostEffect::Drift(drift) => {
                log_drift(&drift);
                station.line.send(Outgoing::Drift(drift));
                return;
            }
            HostEffect::Subscribe(switch) => {
                station.line.wish(Wish::Hear(host, switch));
                return;
            }
            HostEffect::Unsubscribe(switch) => {
                station.line.wish(Wish::Leave(host, switch));
                return;
            }
            HostEffect::Read => read(host.clone(), datapath(), self.unread.clone()).boxed(),
            HostEffect::Apply {
                number,
                steps,
                guarded,
            } => {
                let (counts, unread) = (self.counts.clone(), self.unread.clone());
                let delta = (steps, guarded);
                apply((host.clone(), datapath()), counts, unread, number, delta).boxed()
            }
            HostEffect::Announce(ports) => {
                let datapath = datapath();
                tasks.spawn(async move { datapath.announce(ports).await });
                return;
            }
            HostEffect::Count(ports) => count(datapath(), ports).boxed(),
            HostEffect::ReadLive { asker, question } => live(datapath(), asker, question).boxed(),
            HostEffect::Probe(wait) => {
                let bus = station.line.bus.clone();
                let heard = async move { bus.round_trip(wait).await.is_ok() };
                heard.map(HostEvent::Probed).boxed()
            }
            HostEffect::Reconnect => {
                let client = station.line.bus.client().clone();
                tasks.spawn(async move {
                    if let Err(error) = client.force_reconnect().await {
                        tracing::debug!(%error, "the connection is lost anyway");
                    }
                });
                return;
            }
            HostEffect::Hello(hello) => {
                let bus = station.line.bus.clone();
                let address = bus.client().server_info().client_ip;
                let hello = Hello {
                    address: address.parse().ok(),
                    ..hello
                };
                let (host, refused) = (host.clone(), self.refused.clone());
                let subject = subjects::HOST_HELLO.to_owned();
                let answer = ask(bus, subject, Format::MessagePack, hello);
                let greeted = move |answer: Result<HelloReply, AskFailure>| {
                    match &answer {
                        Ok(_) | Err(AskFailure::Namesake(_)) => refused.note(&host, &answer),
                        Err(AskFailure::NotDone(_) | AskFailure::MaybeDone(_)) => {}
                    }
                    HostEvent::Greeted(answer)
                };
                answer.map(greeted).boxed()
            }
            HostEffect::Claim(claim) => {
                let (bus, port) = (station.line.bus.clone(), claim.port.clone());
                ask(
                    bus,
                    subjects::PORT_CLAIM.to_owned(),
                    Format::MessagePack,
                    claim,
                )
                .map(|outcome| HostEvent::Claimed { port, outcome })
                .boxed()
            }
            HostEffect::Release(release) => {
                let (bus, asked) = (station.line.bus.clone(), release.clone());
                ask(
                    bus,
                    subjects::PORT_RELEASE.to_owned(),
                    Format::MessagePack,
                    release,
                )
                .map(|outcome| HostEvent::Released { asked, outcome })
                .boxed()
            }
            HostEffect::Tell(event) => tell(station.line.bus.clone(), host.clone(), event).boxed(),
        };
        self.begin(host, work, ready, tasks);
    }

    /// Begins work. What is done at once, as with an emulated datapath without
    /// latency, shares one task with the rest of its batch.
    fn begin(
        &self,
        host: HostName,
        mut work: BoxFuture<'static, HostEvent>,
        ready: &mut Vec<Event>,
        tasks: &mut JoinSet<()>,
    ) {
        if let Some(event) = (&mut work).now_or_never() {
            ready.push((host, event));
            return;
        }
        let inbox = self.inbox.clone();
        tasks.spawn(async move {
            let event = work.await;
            // Nobody takes it: the process stops.
            let _ = inbox.send((host, event)).await;
        });
    }
}

/// Hands on what a datapath tells by itself, until nobody takes it any more.
pub async fn listen<D: Datapath>(host: HostName, datapath: Arc<D>, inbox: mpsc::Sender<Event>) {
    loop {
        let notice = tokio::select! {
            notice = datapath.next_notice() => notice,
            () = inbox.closed() => return,
        };
        let event = (host.clone(), HostEvent::Noticed(notice));
        if inbox.send(event).await.is_err() {
            return;
        }
    }
}

fn log_drift(drift: &Drift) {
    let Drift {
        v: _,
        host,
        session: _,
        at: _,
        switch,
        port,
        mirror,
        row,
        column,
        wanted,
        found,
        repaired,
    } = drift;
    tracing::warn!(
        %host, %switch, repaired, row, column, wanted, found,
        port = port.as_ref().map(tracing::field::display),
        mirror = mirror.as_ref().map(tracing::field::display),
        "changed by somebody else"
    );
}

fn log_failure(answer: &Answer) {
    if let Answer::Apply(report) = answer
        && let ApplyOutcome::Failed { message, ports } = &report.outcome
    {
        let (host, switch) = (&report.host, &report.switch);
        let first = ports
            .first()
            .map(|failure| (&failure.port, &failure.message));
        let (port, why) = first.unzip();
        tracing::warn!(
            %host, %switch, revision = %report.observed,
            port = port.map(tracing::field::display),
            why = why.map(tracing::field::display),
            "final state not reached: {message}"
        );
    }
}

async fn read<D: Datapath>(host: HostName, datapath: Arc<D>, unread: Arc<Lacking>) -> HostEvent {
    let picture = datapath.read().await;
    unread.note(&host, &picture);
    if let Err(error) = &picture {
        tracing::warn!(%host, %error, "read again in a while");
    }
    HostEvent::Read(picture)
}

async fn apply<D: Datapath>(
    (host, datapath): (HostName, Arc<D>),
    counts: Counts,
    unread: Arc<Lacking>,
    number: u64,
    (steps, guarded): (Arc<[Step]>, Ports),
) -> HostEvent {
    let applied = datapath.apply(steps, guarded).await;
    match &applied.steps {
        Ok(_) | Err(NotApplied::Unguarded(_)) => unread.note(&host, &Ok::<_, DatapathError>(())),
        Err(NotApplied::Unknown(error)) => unread.note(&host, &Err::<(), _>(error)),
    }
    counts.applied(&applied);
    HostEvent::Applied { number, applied }
}

async fn count<D: Datapath>(datapath: Arc<D>, ports: Vec<(SwitchName, PortId)>) -> HostEvent {
    HostEvent::Counted(datapath.counters(ports).await)
}

async fn live<D: Datapath>(datapath: Arc<D>, asker: Arc<Asker>, question: Live) -> HostEvent {
    let outcome = async {
        let picture = datapath.read().await?;
        let ports = picture.iter().flat_map(|(switch, bridge)| {
            let ports = bridge.ports.keys().filter(|id| question.wants(id));
            ports.map(|id| (switch.clone(), id.clone()))
        });
        let counters = datapath.counters(ports.collect()).await?;
        Ok(LivePicture { picture, counters })
    };
    let outcome = outcome.await;
    HostEvent::LiveRead {
        asker,
        question,
        outcome,
    }
}

async fn tell(bus: Bus, host: HostName, event: Arc<RuntimeEvent>) -> HostEvent {
    let seq = event.seq();
    let outcome: Result<EventAck, AskFailure> = match &*event {
        RuntimeEvent::Changed(changed) => {
            let subject = subjects::event(&host, EventVerb::Changed);
            ask(bus, subject, EVENTS, changed.clone()).await
        }
        RuntimeEvent::Settled(settled) => {
            let subject = subjects::event(&host, EventVerb::Settled);
            ask(bus, subject, EVENTS, settled.clone()).await
        }
        RuntimeEvent::Conditions(conditions) => {
            let subject = subjects::event(&host, EventVerb::Conditions);
            ask(bus, subject, EVENTS, conditions.clone()).await
        }
        RuntimeEvent::Notice(notice) => {
            let subject = subjects::event(&host, EventVerb::Notice);
            ask(bus, subject, EVENTS, notice.clone()).await
        }
    };
    HostEvent::Acknowledged { seq, outcome }
}

/// Asks a service; where a problem comes in place of the answer, that is why
/// there is none.
async fn ask<Q: Serialize, A: DeserializeOwned>(
    bus: Bus,
    subject: String,
    format: Format,
    question: Q,
) -> Result<A, AskFailure> {
    let not_done = |error: &dyn std::error::Error| AskFailure::NotDone(error.to_string());
    let answer = async {
        let payload = codec::encode(format, &question).map_err(|error| not_done(&error))?;
        let message = bus
            .request(subject.clone(), payload, ANSWER)
            .await
            .map_err(|error| match error {
                BusError::TooLarge { .. } => {
                    tracing::warn!(%error, "raise max_payload in the configuration of NATS");
                    not_done(&error)
                }
                BusError::Offline { .. }
                | BusError::Congested { .. }
                | BusError::Refused { .. }
                | BusError::NoResponder { .. } => not_done(&error),
                BusError::TimedOut { .. } => AskFailure::MaybeDone(error.to_string()),
            })?;
        codec::decode_answer(&message.payload).map_err(|problem| match problem.code {
            ProblemCode::Namesake => AskFailure::Namesake(problem.to_string()),
            ProblemCode::Invalid
            | ProblemCode::NotFound
            | ProblemCode::Conflict
            | ProblemCode::TooLarge
            | ProblemCode::Unavailable
            | ProblemCode::Internal => not_done(&problem),
        })
    };
    let answer = answer.await;
    if let Err(why) = &answer {
        tracing::debug!(subject, %why, "not answered; it is asked again");
    }
    answer
}
