// SPDX-License-Identifier: Apache-2.0
//! Time, the bus and the power: what happens next is drawn from the seed, and
//! everything that happens goes into the history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use config_publisher::core::Publisher;
use config_publisher::events as publisher;
use dvs_schemas::v1::{Clobber, EventAck, Heartbeat, PutReply, Remove, RetryPut, V1};
use dvs_schemas::{Format, HostName, Problem, Revision, SwitchName, Timestamp};
use host_agent::core::Agent;
use host_agent::datapath::{Behaviour, Emulated};
use host_agent::host::{Answer, Asker, HostEffect, HostEvent, LivePicture};
use retry::{Answer as RetryAnswer, FlightId, HostCall, Retry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::node::{Node, PowerCut};
use super::start;

/// Hosts of the simulated fleet.
pub const HOSTS: usize = 5;
/// How long a push, a re-push or a request waits.
const DEADLINE: Duration = Duration::from_millis(500);

/// How bad things are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Chance that a message is lost.
    pub loss: f64,
    /// Chance that a message arrives twice.
    pub repeat: f64,
    /// Longest delay of a message in ms; different ones make the order.
    pub delay: u64,
    /// Chance per turn of a node that its power fails.
    pub cuts: f64,
    /// Chance that a datapath refuses a step.
    pub refusals: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Self = Self {
        loss: 0.0,
        repeat: 0.0,
        delay: 5,
        cuts: 0.0,
        refusals: 0.0,
    };
}

/// A program of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// config-publisher.
    Publisher,
    /// retry.
    Retry,
    /// The host of this number.
    Host(usize),
}

/// A host with what outlives its agent: the datapath.
#[derive(Debug)]
pub struct Machine {
    /// Its name.
    pub name: HostName,
    /// Its agent.
    pub agent: Node<Agent>,
    /// Its datapath; a crash of the agent leaves it alone.
    pub datapath: Emulated,
    /// The switches whose subject it hears.
    pub hears: BTreeSet<SwitchName>,
    /// False while it is cut off from the bus.
    pub connected: bool,
}

/// Who waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Waiter {
    Push {
        push: publisher::PushId,
        call: usize,
        missing: BTreeSet<HostName>,
    },
    HandOver {
        number: u64,
    },
    Render {
        flight: FlightId,
    },
    Flight {
        flight: FlightId,
        host: HostName,
    },
    Hello {
        host: usize,
    },
    Tell {
        host: usize,
        seq: u64,
    },
    Operator,
}

impl Waiter {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Push { .. } | Self::HandOver { .. } => Some(Place::Publisher),
            Self::Render { .. } | Self::Flight { .. } => Some(Place::Retry),
            Self::Hello { host } | Self::Tell { host, .. } => Some(Place::Host(*host)),
            Self::Operator => None,
        }
    }
}

#[derive(Debug)]
struct Slot {
    waiter: Waiter,
    /// The asker's life; an answer to a life before finds nobody.
    life: u64,
}

/// What a host is asked.
#[derive(Debug, Clone)]
enum HostQuestion {
    Clobber(Box<Clobber>),
    Remove(Remove),
    Plan(Box<Clobber>),
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Item {
    /// A question to a host.
    ToHost {
        host: usize,
        question: HostQuestion,
        token: u64,
        /// A question on the host's own subject, which the bus answers itself
        /// when nobody listens.
        direct: bool,
    },
    /// A host's answer.
    FromHost {
        host: HostName,
        token: u64,
        answer: Answer,
    },
    /// A question to the publisher.
    ToPublisher {
        request: publisher::Request,
        token: u64,
    },
    /// The publisher's answer.
    FromPublisher {
        token: u64,
        result: Result<publisher::Reply, Problem>,
    },
    /// A hand-over.
    ToRetry { put: RetryPut, token: u64 },
    /// Retry's answer.
    FromRetry {
        token: u64,
        result: Result<PutReply, Problem>,
    },
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// Nobody listens for the host.
    NoResponder { host: HostName, token: u64 },
    /// The bound of a wait is over.
    Deadline { token: u64 },
    /// A datapath is done with something.
    Datapath {
        host: usize,
        life: u64,
        effect: HostEffect,
    },
    /// The collector's acknowledgement.
    Acknowledged { token: u64 },
    /// A switch's subject is heard from now on.
    Subscribed {
        host: usize,
        life: u64,
        switch: SwitchName,
    },
    /// A program starts again.
    Start(Place),
    /// The bus lets a host go, or has it back.
    Link { host: usize, up: bool },
}

/// What an operator's request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The answer.
    Answer(Box<Result<publisher::Reply, Problem>>),
    /// No answer came; it may have been carried out.
    Silence,
}

/// The whole.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// How bad things are.
    pub weather: Weather,
    /// The publisher.
    pub publisher: Node<Publisher>,
    /// The queues.
    pub retry: Node<Retry>,
    /// The hosts.
    pub hosts: Vec<Machine>,
    /// What operators were told, by token.
    pub told: BTreeMap<u64, Told>,
    /// Clobbers and removals that hosts were asked so far.
    pub asked: u64,
    /// Power cuts so far.
    pub cuts: u64,
    random: fastrand::Rng,
    queue: BTreeMap<(Timestamp, u64), Item>,
    sequence: u64,
    tokens: u64,
    slots: BTreeMap<u64, Slot>,
    /// Requests that a service has taken in: its reply token to the asker's.
    replies: BTreeMap<(Place, u64), u64>,
    history: DefaultHasher,
}

/// Through the wire and back: what a message can't say does not arrive.
fn wire<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let bytes = dvs_schemas::codec::encode(Format::MessagePack, message)
        .unwrap_or_else(|e| panic!("a message can't be written: {e:?}"));
    match dvs_schemas::codec::decode(&bytes) {
        Ok((_, message)) => message,
        Err(problem) => panic!("a message can't be read: {problem}"),
    }
}

impl World {
    /// A fleet on empty disks; everything starts within the first moments.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let hosts = (0..HOSTS)
            .map(|n| Machine {
                name: start::host_name(n),
                agent: Node::new(host_agent::ledger::SPEC),
                datapath: Emulated::new(Behaviour::default(), random.u64(..)),
                hears: BTreeSet::new(),
                connected: true,
            })
            .collect();
        let mut world = Self {
            now: Timestamp(1_000_000),
            weather,
            publisher: Node::new(config_publisher::ledger::SPEC),
            retry: Node::new(retry::SPEC),
            hosts,
            told: BTreeMap::new(),
            asked: 0,
            cuts: 0,
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            tokens: 0,
            slots: BTreeMap::new(),
            replies: BTreeMap::new(),
            history: DefaultHasher::new(),
        };
        let places = [Place::Publisher, Place::Retry]
            .into_iter()
            .chain((0..HOSTS).map(Place::Host));
        for place in places {
            world.later(50, Item::Start(place));
        }
        world.set_weather(weather);
        world
    }

    /// Changes how bad things are from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
        for machine in &self.hosts {
            machine.datapath.behave(Behaviour {
                failure_rate: weather.refusals,
                ..Behaviour::default()
            });
        }
    }

    /// A number that stands for everything that has happened.
    #[must_use]
    pub fn history(&self) -> u64 {
        self.history.clone().finish()
    }

    /// True if nothing is on its way but heartbeats and timers.
    #[must_use]
    pub fn nothing_under_way(&self) -> bool {
        self.slots.is_empty()
            && self
                .queue
                .values()
                .all(|item| matches!(item, Item::Heartbeat(_) | Item::Deadline { .. }))
    }

    /// Sends an operator's request; what comes of it is in [`Self::told`].
    pub fn ask(&mut self, request: publisher::Request) -> u64 {
        let token = self.open(Waiter::Operator, DEADLINE);
        self.send(Item::ToPublisher { request, token });
        token
    }

    /// Lets the power of a program fail.
    pub fn cut(&mut self, place: Place) {
        self.note(&("cut", place));
        match place {
            Place::Publisher => self.publisher.cut(&mut self.random),
            Place::Retry => self.retry.cut(&mut self.random),
            Place::Host(n) => self.hosts[n].agent.cut(&mut self.random),
        }
        self.fell(place);
    }

    /// Takes a host off the bus for a while.
    pub fn isolate(&mut self, host: usize, for_ms: u64) {
        self.at(0, Item::Link { host, up: false });
        self.at(for_ms, Item::Link { host, up: true });
    }

    /// The next thing happens. False if nothing will before `until`.
    pub fn step(&mut self, until: Timestamp) -> bool {
        let first = self.queue.first_key_value().map(|((at, _), _)| *at);
        let due = self.first_due();
        let wake = match (first, due) {
            (Some(at), Some((due, place))) if due <= at => Some((due, place)),
            (None, due) => due,
            (Some(_), _) => None,
        };
        if let Some((due, place)) = wake {
            if due > until {
                return false;
            }
            self.now = self.now.max(due);
            self.note(&("wake", place));
            self.turn(place, Vec::new());
            return true;
        }
        if first.is_none_or(|at| at > until) {
            return false;
        }
        let Some(((at, _), item)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        self.note(&item);
        self.happen(item);
        true
    }

    fn first_due(&self) -> Option<(Timestamp, Place)> {
        let hosts = self.hosts.iter().enumerate();
        [
            (self.publisher.due(), Place::Publisher),
            (self.retry.due(), Place::Retry),
        ]
        .into_iter()
        .chain(hosts.map(|(n, machine)| (machine.agent.due(), Place::Host(n))))
        .filter_map(|(due, place)| Some((due?, place)))
        .min()
    }

    fn note(&mut self, what: &impl Debug) {
        format!("{} {what:?}", self.now).hash(&mut self.history);
    }

    fn at(&mut self, ms: u64, item: Item) {
        self.sequence += 1;
        let at = self.now.after(Duration::from_millis(ms));
        self.queue.insert((at, self.sequence), item);
    }

    /// After a random time of at most `ms`.
    fn later(&mut self, ms: u64, item: Item) {
        let ms = self.random.u64(0..=ms);
        self.at(ms, item);
    }

    /// Over the bus: perhaps lost, perhaps twice, at some time.
    fn send(&mut self, item: Item) {
        // An operator's request repeated by the bus would undo later ones;
        // NATS does not repeat, and hosts and services must not care.
        let operators = matches!(&item, Item::ToPublisher { request, .. }
            if !matches!(request, publisher::Request::Hello(_) | publisher::Request::Render(_)));
        if self.random.f64() < self.weather.loss {
            return;
        }
        if !operators && self.random.f64() < self.weather.repeat {
            self.later(self.weather.delay, item.clone());
        }
        let delay = if operators {
            self.weather.delay.min(50)
        } else {
            self.weather.delay
        };
        self.later(delay, item);
    }

    fn open(&mut self, waiter: Waiter, within: Duration) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        let life = waiter.place().map_or(0, |place| self.life(place));
        self.slots.insert(token, Slot { waiter, life });
        let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.at(ms, Item::Deadline { token });
        token
    }

    fn life(&self, place: Place) -> u64 {
        match place {
            Place::Publisher => self.publisher.life,
            Place::Retry => self.retry.life,
            Place::Host(n) => self.hosts[n].agent.life,
        }
    }

    fn fell(&mut self, place: Place) {
        self.cuts += 1;
        self.slots
            .retain(|_, slot| slot.waiter.place() != Some(place));
        self.replies.retain(|(at, _), _| *at != place);
        if let Place::Host(n) = place {
            self.hosts[n].hears.clear();
        }
        self.later(400, Item::Start(place));
    }

    fn host_named(&self, name: &HostName) -> Option<usize> {
        self.hosts.iter().position(|machine| machine.name == *name)
    }
}

/// What happens.
impl World {
    fn happen(&mut self, item: Item) {
        match item {
            Item::ToHost {
                host,
                question,
                token,
                direct,
            } => self.host_is_asked(host, question, token, direct),
            Item::FromHost {
                host,
                token,
                answer,
            } => self.host_answers(&host, token, Some(answer)),
            Item::NoResponder { host, token } => self.host_answers(&host, token, None),
            Item::ToPublisher { request, token } => {
                self.tokens += 1;
                let to = self.tokens;
                self.replies.insert((Place::Publisher, to), token);
                let event = publisher::Event::Request {
                    to: publisher::ReplyToken(to),
                    request,
                };
                self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
            }
            Item::FromPublisher { token, result } => self.publisher_answers(token, result),
            Item::ToRetry { put, token } => {
                self.tokens += 1;
                let to = self.tokens;
                self.replies.insert((Place::Retry, to), token);
                let event = retry::Event::Put {
                    request: put,
                    reply: retry::ReplyToken(to),
                };
                self.turn(Place::Retry, vec![AnyEvent::Retry(event)]);
            }
            Item::FromRetry { token, result } => {
                self.end_hand_over(token, result.map_err(|problem| problem.to_string()));
            }
            Item::Heartbeat(heartbeat) => {
                let event = publisher::Event::Heartbeat(heartbeat);
                self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
            }
            Item::Deadline { token } => self.deadline(token),
            Item::Datapath { host, life, effect } => self.datapath(host, life, effect),
            Item::Acknowledged { token } => {
                if let Some(Slot {
                    waiter: Waiter::Tell { host, seq },
                    ..
                }) = self.slots.remove(&token)
                {
                    let outcome = Ok(EventAck { v: V1, seq });
                    self.turn_host(host, HostEvent::Acknowledged { seq, outcome });
                }
            }
            Item::Subscribed { host, life, switch } => {
                if self.hosts[host].agent.life == life && self.hosts[host].connected {
                    self.hosts[host].hears.insert(switch.clone());
                    self.turn_host(host, HostEvent::Subscribed(switch));
                }
            }
            Item::Start(place) => self.start(place),
            Item::Link { host, up } => {
                self.hosts[host].connected = up;
                self.turn_host(
                    host,
                    if up {
                        HostEvent::Connected
                    } else {
                        HostEvent::Disconnected
                    },
                );
            }
        }
    }

    fn start(&mut self, place: Place) {
        let now = self.now;
        let seed = self.random.u64(..);
        match place {
            Place::Publisher => {
                self.publisher
                    .start(|ledger| start::publisher(ledger, seed));
                let event = publisher::Event::Connected {
                    max_payload: 1_048_576,
                };
                self.turn(place, vec![AnyEvent::Publisher(event)]);
            }
            Place::Retry => {
                self.retry.start(|ledger| start::retry(ledger, seed, now));
                self.turn(place, Vec::new());
            }
            Place::Host(n) => {
                let name = self.hosts[n].name.clone();
                self.hosts[n]
                    .agent
                    .start(|ledger| start::agent(ledger, &name, seed));
                self.turn(place, Vec::new());
                if self.hosts[n].connected {
                    self.turn_host(n, HostEvent::Connected);
                }
            }
        }
    }

    fn host_is_asked(&mut self, host: usize, question: HostQuestion, token: u64, direct: bool) {
        let machine = &self.hosts[host];
        let listens = machine.agent.core().is_some() && machine.connected;
        if !listens {
            if direct {
                let host = machine.name.clone();
                self.send(Item::NoResponder { host, token });
            }
            return;
        }
        if let (false, HostQuestion::Clobber(clobber)) = (direct, &question)
            && !machine.hears.contains(&clobber.switch)
        {
            return;
        }
        let asker = Arc::new(Asker {
            instance: Arc::from("simulation"),
            token: Arc::from(token.to_string()),
            format: Format::MessagePack,
        });
        let event = match question {
            HostQuestion::Clobber(message) => {
                self.asked += 1;
                HostEvent::Clobber {
                    message: Arc::new(*message),
                    asker: Some(asker),
                }
            }
            HostQuestion::Remove(message) => {
                self.asked += 1;
                HostEvent::Remove {
                    message: Arc::new(message),
                    asker: Some(asker),
                }
            }
            HostQuestion::Plan(message) => HostEvent::Plan {
                message: Arc::new(*message),
                asker,
            },
        };
        self.turn_host(host, event);
    }

    fn host_answers(&mut self, host: &HostName, token: u64, answer: Option<Answer>) {
        let Some(slot) = self.slots.get_mut(&token) else {
            return;
        };
        match &mut slot.waiter {
            Waiter::Push {
                push,
                call,
                missing,
            } => {
                if !missing.remove(host) {
                    return;
                }
                let outcome = publisher::Outcome {
                    host: host.clone(),
                    call: *call,
                    answer: publisher_answer(answer),
                };
                let (push, over) = (*push, missing.is_empty());
                if over {
                    self.slots.remove(&token);
                }
                let event = publisher::Event::Outcomes {
                    push,
                    outcomes: vec![outcome],
                };
                self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
            }
            Waiter::Flight { flight, .. } => {
                let event = retry::Event::Answered {
                    flight: *flight,
                    answer: retry_answer(answer),
                };
                self.slots.remove(&token);
                self.turn(Place::Retry, vec![AnyEvent::Retry(event)]);
            }
            Waiter::HandOver { .. }
            | Waiter::Render { .. }
            | Waiter::Hello { .. }
            | Waiter::Tell { .. }
            | Waiter::Operator => {}
        }
    }

    fn publisher_answers(&mut self, token: u64, result: Result<publisher::Reply, Problem>) {
        let Some(slot) = self.slots.remove(&token) else {
            return;
        };
        match slot.waiter {
            Waiter::Operator => {
                self.told.insert(token, Told::Answer(Box::new(result)));
            }
            Waiter::Render { flight } => {
                let result = match result {
                    Ok(publisher::Reply::Rendered(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a render was answered by {other:?}"),
                    Err(problem) => Err(problem.to_string()),
                };
                let event = retry::Event::Rendered { flight, result };
                self.turn(Place::Retry, vec![AnyEvent::Retry(event)]);
            }
            Waiter::Hello { host } => {
                let result = match result {
                    Ok(publisher::Reply::Hello(reply)) => Ok(wire(&reply)),
                    Ok(other) => panic!("a hello was answered by {other:?}"),
                    Err(problem) => Err(problem.to_string()),
                };
                self.turn_host(host, HostEvent::Greeted(result));
            }
            Waiter::Push { .. }
            | Waiter::HandOver { .. }
            | Waiter::Flight { .. }
            | Waiter::Tell { .. } => {}
        }
    }

    fn end_hand_over(&mut self, token: u64, result: Result<PutReply, String>) {
        if let Some(Slot {
            waiter: Waiter::HandOver { number },
            ..
        }) = self.slots.remove(&token)
        {
            let event = publisher::Event::HandedOver { number, result };
            self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
        }
    }

    fn deadline(&mut self, token: u64) {
        let Some(slot) = self.slots.remove(&token) else {
            return;
        };
        if slot
            .waiter
            .place()
            .is_some_and(|place| self.life(place) != slot.life)
        {
            return;
        }
        let silence = "no answer in time".to_owned();
        match slot.waiter {
            Waiter::Push {
                push,
                call,
                missing,
            } => {
                let outcomes = missing
                    .into_iter()
                    .map(|host| publisher::Outcome {
                        host,
                        call,
                        answer: publisher::Answer::TimedOut,
                    })
                    .collect();
                let event = publisher::Event::Outcomes { push, outcomes };
                self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
            }
            Waiter::HandOver { number } => {
                let event = publisher::Event::HandedOver {
                    number,
                    result: Err(silence),
                };
                self.turn(Place::Publisher, vec![AnyEvent::Publisher(event)]);
            }
            Waiter::Render { flight } => {
                let event = retry::Event::Rendered {
                    flight,
                    result: Err(silence),
                };
                self.turn(Place::Retry, vec![AnyEvent::Retry(event)]);
            }
            Waiter::Flight { flight, .. } => {
                let event = retry::Event::Answered {
                    flight,
                    answer: RetryAnswer::TimedOut,
                };
                self.turn(Place::Retry, vec![AnyEvent::Retry(event)]);
            }
            Waiter::Hello { host } => self.turn_host(host, HostEvent::Greeted(Err(silence))),
            Waiter::Tell { host, seq } => self.turn_host(
                host,
                HostEvent::Acknowledged {
                    seq,
                    outcome: Err(silence),
                },
            ),
            Waiter::Operator => {
                self.told.insert(token, Told::Silence);
            }
        }
    }

    fn datapath(&mut self, host: usize, life: u64, effect: HostEffect) {
        let machine = &self.hosts[host];
        let event = match effect {
            HostEffect::Read => HostEvent::Read(machine.datapath.read_now()),
            // An apply whose agent died may still have reached the datapath.
            HostEffect::Apply { number, steps } => {
                if machine.agent.life != life && self.random.bool() {
                    return;
                }
                HostEvent::Applied {
                    number,
                    outcome: machine.datapath.apply_now(&steps),
                }
            }
            HostEffect::Count(ports) => HostEvent::Counted(machine.datapath.counters_now(ports)),
            HostEffect::ReadLive { asker, port } => HostEvent::LiveRead {
                asker,
                port,
                outcome: machine.datapath.read_now().map(|picture| LivePicture {
                    picture,
                    counters: Vec::new(),
                }),
            },
            other => panic!("{other:?} is nothing for a datapath"),
        };
        if self.hosts[host].agent.life == life {
            self.turn_host(host, event);
        }
    }
}

fn publisher_answer(answer: Option<Answer>) -> publisher::Answer {
    match answer {
        None => publisher::Answer::NoResponder,
        Some(Answer::Apply(report)) => publisher::Answer::Applied(wire(&report)),
        Some(Answer::Remove(report)) => publisher::Answer::Removed(wire(&report)),
        Some(Answer::Plan(plan)) => publisher::Answer::Planned(wire(&plan)),
        Some(Answer::Live(_)) => panic!("nobody asked for live state"),
        Some(Answer::Problem(problem)) => publisher::Answer::Unreadable(problem.to_string()),
    }
}

fn retry_answer(answer: Option<Answer>) -> RetryAnswer {
    match answer {
        None => RetryAnswer::NoResponder,
        Some(Answer::Apply(report)) => RetryAnswer::Clobber(wire(&report)),
        Some(Answer::Remove(report)) => RetryAnswer::Remove(wire(&report)),
        Some(Answer::Plan(_) | Answer::Live(_)) => panic!("retry asks for no such thing"),
        Some(Answer::Problem(problem)) => RetryAnswer::Unreadable(problem.to_string()),
    }
}

/// An event for some core.
enum AnyEvent {
    Publisher(publisher::Event),
    Retry(retry::Event),
    Host(HostEvent),
}

/// Turns, and what comes of them.
impl World {
    fn turn_host(&mut self, host: usize, event: HostEvent) {
        self.turn(Place::Host(host), vec![AnyEvent::Host(event)]);
    }

    fn turn(&mut self, place: Place, events: Vec<AnyEvent>) {
        let cut = (self.random.f64() < self.weather.cuts).then(|| {
            [
                PowerCut::BeforeCommit,
                PowerCut::DuringCommit,
                PowerCut::AfterCommit,
                PowerCut::AmongEffects,
            ][self.random.usize(0..4)]
        });
        let ran = self.runs(place);
        match place {
            Place::Publisher => {
                let events = events.into_iter().filter_map(|event| match event {
                    AnyEvent::Publisher(event) => Some(event),
                    AnyEvent::Retry(_) | AnyEvent::Host(_) => None,
                });
                let effects =
                    self.publisher
                        .turn(self.now, events.collect(), cut, &mut self.random);
                for effect in effects {
                    self.note(&effect);
                    self.publisher_wants(effect);
                }
            }
            Place::Retry => {
                let events = events.into_iter().filter_map(|event| match event {
                    AnyEvent::Retry(event) => Some(event),
                    AnyEvent::Publisher(_) | AnyEvent::Host(_) => None,
                });
                let effects = self
                    .retry
                    .turn(self.now, events.collect(), cut, &mut self.random);
                for effect in effects {
                    self.note(&effect);
                    self.retry_wants(effect);
                }
            }
            Place::Host(n) => {
                let name = self.hosts[n].name.clone();
                let events = events.into_iter().filter_map(|event| match event {
                    AnyEvent::Host(event) => Some((name.clone(), event)),
                    AnyEvent::Publisher(_) | AnyEvent::Retry(_) => None,
                });
                let effects =
                    self.hosts[n]
                        .agent
                        .turn(self.now, events.collect(), cut, &mut self.random);
                for effect in effects {
                    self.note(&effect);
                    self.host_wants(n, effect.1);
                }
            }
        }
        if ran && !self.runs(place) {
            self.note(&("power", place, cut));
            self.fell(place);
        }
    }

    fn runs(&self, place: Place) -> bool {
        match place {
            Place::Publisher => self.publisher.core().is_some(),
            Place::Retry => self.retry.core().is_some(),
            Place::Host(n) => self.hosts[n].agent.core().is_some(),
        }
    }

    fn publisher_wants(&mut self, effect: publisher::Effect) {
        match effect {
            publisher::Effect::Push {
                push,
                calls,
                within,
            } => {
                for (call, what) in calls.into_iter().enumerate() {
                    self.push(push, call, what, within);
                }
            }
            publisher::Effect::Reply { to, result } => {
                if let Some(token) = self.replies.remove(&(Place::Publisher, to.0)) {
                    self.send(Item::FromPublisher {
                        token,
                        result: *result,
                    });
                }
            }
            publisher::Effect::HandOver { number, put } => {
                let token = self.open(Waiter::HandOver { number }, DEADLINE);
                let put = wire(&put);
                self.send(Item::ToRetry { put, token });
            }
        }
    }

    fn push(
        &mut self,
        push: publisher::PushId,
        call: usize,
        what: publisher::Call,
        within: Duration,
    ) {
        let (hosts, question, direct): (Vec<HostName>, _, _) = match &what {
            publisher::Call::FanOut { clobber, hosts } => (
                hosts.to_vec(),
                HostQuestion::Clobber(Box::new(wire(&**clobber))),
                false,
            ),
            publisher::Call::Clobber { host, clobber } => (
                vec![host.clone()],
                HostQuestion::Clobber(Box::new(wire(&**clobber))),
                true,
            ),
            publisher::Call::Remove { host, remove } => (
                vec![host.clone()],
                HostQuestion::Remove(wire(&**remove)),
                true,
            ),
            publisher::Call::Plan { host, clobber } => (
                vec![host.clone()],
                HostQuestion::Plan(Box::new(wire(&**clobber))),
                true,
            ),
        };
        let missing = hosts.iter().cloned().collect();
        let token = self.open(
            Waiter::Push {
                push,
                call,
                missing,
            },
            within,
        );
        // A fan-out reaches whoever listens, awaited or not.
        let reached: Vec<usize> = if direct {
            hosts
                .iter()
                .filter_map(|host| self.host_named(host))
                .collect()
        } else {
            (0..HOSTS).collect()
        };
        for host in reached {
            self.send(Item::ToHost {
                host,
                question: question.clone(),
                token,
                direct,
            });
        }
    }

    fn retry_wants(&mut self, effect: retry::Effect) {
        match effect {
            retry::Effect::Reply { to, result } => {
                if let Some(token) = self.replies.remove(&(Place::Retry, to.0)) {
                    let result = result.map(|body| match body {
                        retry::ReplyBody::Put(reply) => wire(&reply),
                        other => panic!("a put was answered by {other:?}"),
                    });
                    self.send(Item::FromRetry { token, result });
                }
            }
            retry::Effect::Render { flight, request } => {
                let token = self.open(Waiter::Render { flight }, DEADLINE);
                let request = publisher::Request::Render(wire(&request));
                self.send(Item::ToPublisher { request, token });
            }
            retry::Effect::Call {
                flight,
                host,
                call,
                timeout,
            } => {
                let question = match call {
                    HostCall::Clobber(clobber) => HostQuestion::Clobber(wire(&clobber)),
                    HostCall::Remove(remove) => HostQuestion::Remove(wire(&remove)),
                };
                let number = self.host_named(&host);
                let token = self.open(Waiter::Flight { flight, host }, timeout);
                if let Some(host) = number {
                    self.send(Item::ToHost {
                        host,
                        question,
                        token,
                        direct: true,
                    });
                }
            }
        }
    }

    fn host_wants(&mut self, host: usize, effect: HostEffect) {
        let life = self.hosts[host].agent.life;
        match effect {
            HostEffect::Read
            | HostEffect::Apply { .. }
            | HostEffect::Count(_)
            | HostEffect::ReadLive { .. } => {
                self.later(20, Item::Datapath { host, life, effect });
            }
            HostEffect::Subscribe(switch) => {
                self.later(20, Item::Subscribed { host, life, switch });
            }
            HostEffect::Unsubscribe(switch) => {
                self.hosts[host].hears.remove(&switch);
            }
            HostEffect::Answer { asker, answer } => {
                if self.hosts[host].connected {
                    let token = asker.token.parse().unwrap_or_default();
                    let host = self.hosts[host].name.clone();
                    self.send(Item::FromHost {
                        host,
                        token,
                        answer,
                    });
                }
            }
            HostEffect::Hello(hello) => {
                let token = self.open(Waiter::Hello { host }, DEADLINE);
                if self.hosts[host].connected {
                    let request = publisher::Request::Hello(wire(&hello));
                    self.send(Item::ToPublisher { request, token });
                }
            }
            HostEffect::Heartbeat(heartbeat) => {
                if self.hosts[host].connected {
                    self.send(Item::Heartbeat(wire(&heartbeat)));
                }
            }
            HostEffect::Tell(event) => {
                let seq = event.seq();
                let token = self.open(Waiter::Tell { host, seq }, DEADLINE);
                if self.hosts[host].connected {
                    self.send(Item::Acknowledged { token });
                }
            }
        }
    }

    /// The newest commit of the running publisher.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.publisher.core().map(|core| core.config().revision())
    }
}
