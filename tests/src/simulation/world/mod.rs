// SPDX-License-Identifier: Apache-2.0
//! Time, the bus and the power: what happens next is drawn from the seed, and
//! everything that happens goes into the history.

mod collecting;
mod frames;
mod machines;
mod namesakes;
mod plugs;
mod publishing;
mod retrying;
mod traffic;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use config_publisher::core::Publisher;
use config_publisher::events as publisher;
use dvs_schemas::v1::{EntrySelection, SelectionReply};
use dvs_schemas::{PortId, Problem, Revision, Timestamp, UplinkName, VlanId};
use host_agent::datapath::Behaviour;
use host_agent::host::HostEvent;
use retry::{Action, Retry};
use runtime_collector::Collector;

pub use frames::Frames;
pub use machines::Machine;
pub use plugs::Plug;
use traffic::{DEADLINE, Item, RetryRequest, Slot, Waiter};

use super::node::Node;
use super::weather::Weather;
use super::witness::Witness;

/// Hosts of the simulated fleet.
pub const HOSTS: usize = 5;

/// A program of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// config-publisher.
    Publisher,
    /// retry.
    Retry,
    /// runtime-collector.
    Collector,
    /// The host of this number.
    Host(usize),
}

/// What an operator asks.
#[derive(Debug, Clone)]
pub enum Question {
    /// The publisher.
    Publisher(publisher::Request),
    /// Retry, to act on entries.
    Retry(Action, EntrySelection),
}

/// What an operator's request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The publisher's answer.
    Published(Box<Result<publisher::Reply, Problem>>),
    /// Retry's answer.
    Acted(Result<SelectionReply, Problem>),
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
    /// What is known of the ports.
    pub collector: Node<Collector>,
    /// The hosts.
    pub hosts: Vec<Machine>,
    /// What operators were told, by token.
    pub told: BTreeMap<u64, Told>,
    /// Clobbers and removals that hosts were asked so far.
    pub asked: u64,
    /// Power cuts so far.
    pub cuts: u64,
    /// What passed through the ports.
    pub traffic: Frames,
    /// What laws need to know of the past.
    pub witness: Witness,
    /// An uplink that leads nowhere: a host that has it is cut off.
    pub dead: Option<UplinkName>,
    /// A VLAN that leads nowhere: a host that lives behind a port in it is cut
    /// off.
    pub dead_vlan: Option<VlanId>,
    /// Chance that an apply fails as a whole once some of it is written.
    pub torn: f64,
    /// After how long hosts roll back what cut them off.
    pub rollback_after: Option<Duration>,
    /// The host that something happened to in the last step.
    turned: Option<usize>,
    random: fastrand::Rng,
    queue: BTreeMap<(Timestamp, u64), Item>,
    sequence: u64,
    tokens: u64,
    slots: BTreeMap<u64, Slot>,
    /// Requests that a service has taken in: its reply token to the asker's.
    replies: BTreeMap<(Place, u64), u64>,
    history: DefaultHasher,
    /// Whether the history is printed as it happens, for who looks for the
    /// cause of a broken law.
    aloud: bool,
}

impl World {
    /// A fleet on empty disks; everything starts within the first moments.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let hosts = (0..HOSTS).map(|n| Machine::new(n, &mut random)).collect();
        let mut world = Self {
            now: Timestamp(1_000_000),
            weather,
            publisher: Node::new(config_publisher::ledger::SPEC),
            retry: Node::new(retry::SPEC),
            collector: Node::new(runtime_collector::SPEC),
            hosts,
            told: BTreeMap::new(),
            asked: 0,
            cuts: 0,
            traffic: Frames::default(),
            witness: Witness::default(),
            dead: None,
            dead_vlan: None,
            torn: 0.0,
            rollback_after: None,
            turned: None,
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            tokens: 0,
            slots: BTreeMap::new(),
            replies: BTreeMap::new(),
            history: DefaultHasher::new(),
            aloud: std::env::var_os("DVS_TRACE").is_some(),
        };
        let places = [Place::Publisher, Place::Retry, Place::Collector]
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
            let Behaviour { of_host, .. } = machine.datapath.behaviour();
            machine.datapath.behave(Behaviour {
                failure_rate: weather.refusals,
                of_host,
                ..Behaviour::default()
            });
        }
    }

    /// A host lives behind a port of its own switch from now on.
    pub fn lives_behind(&mut self, host: usize, port: PortId) {
        let datapath = &self.hosts[host].datapath;
        datapath.behave(Behaviour {
            of_host: BTreeSet::from([port]),
            ..datapath.behaviour()
        });
    }

    fn has_dead_ends(&self) -> bool {
        self.dead.is_some() || self.dead_vlan.is_some()
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
    pub fn ask(&mut self, question: Question) -> u64 {
        let token = self.open(Waiter::Operator, DEADLINE);
        self.witness.caused();
        self.send(match question {
            Question::Publisher(request) => Item::ToPublisher { request, token },
            Question::Retry(action, selection) => Item::ToRetry {
                request: RetryRequest::Act(action, selection),
                token,
            },
        });
        token
    }

    /// Takes a host off the bus for a while.
    pub fn isolate(&mut self, host: usize, for_ms: u64) {
        self.at(0, Item::Link { host, up: false });
        self.at(for_ms, Item::Link { host, up: true });
    }

    /// A host's datapath can't be reached for a while.
    pub fn hide_datapath(&mut self, host: usize, for_ms: u64) {
        self.at(0, Item::Reachable { host, is: false });
        self.at(for_ms, Item::Reachable { host, is: true });
    }

    /// The next thing happens. False if nothing does until then, which is now.
    pub fn step(&mut self, until: Timestamp) -> bool {
        let first = self.queue.first_key_value().map(|((at, _), _)| *at);
        let due = self.first_due();
        let next = first.into_iter().chain(due.map(|(due, _)| due)).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        self.turned = None;
        match due {
            Some((due, place)) if due == next => {
                self.note(&("wake", place));
                self.wake(place);
            }
            Some(_) | None => {
                if let Some((_, item)) = self.queue.pop_first() {
                    self.note(&item);
                    self.happen(item);
                }
            }
        }
        self.look();
        true
    }

    /// Lets the witness see whether the services have anything left to do.
    fn look(&mut self) {
        let entries = |retry: &Retry| retry.repush_entries() + retry.rip_entries();
        if self.retry.core().is_some_and(|retry| entries(retry) == 0) {
            self.witness.retry_done();
        }
        if self
            .publisher
            .core()
            .is_some_and(|core| core.pending() == 0)
        {
            self.witness.publisher_done();
        }
    }

    fn first_due(&self) -> Option<(Timestamp, Place)> {
        let hosts = self.hosts.iter().enumerate();
        [
            (self.publisher.due(), Place::Publisher),
            (self.retry.due(), Place::Retry),
            (self.collector.due(), Place::Collector),
        ]
        .into_iter()
        .chain(
            hosts
                .filter(|(_, machine)| !machine.frozen)
                .map(|(n, machine)| (machine.agent.due(), Place::Host(n))),
        )
        .filter_map(|(due, place)| Some((due?, place)))
        .min()
    }

    pub(super) fn note(&mut self, what: &impl Debug) {
        let line = format!("{} {what:?}", self.now);
        if self.aloud {
            eprintln!("{line}");
        }
        line.hash(&mut self.history);
    }

    fn at(&mut self, ms: u64, item: Item) {
        self.sequence += 1;
        let at = self.now.after(Duration::from_millis(ms));
        self.queue.insert((at, self.sequence), item);
    }

    fn happen(&mut self, item: Item) {
        let Some(item) = self.waits(item) else {
            return;
        };
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
            Item::Yield { host, request } => {
                if self.hosts[host].connected {
                    self.turn_host(host, Some(HostEvent::Yield(request)));
                }
            }
            Item::NoResponder { host, token } => self.host_answers(&host, token, None),
            Item::ToPublisher { request, token } => {
                self.tokens += 1;
                let to = self.tokens;
                self.replies.insert((Place::Publisher, to), token);
                let event = publisher::Event::Request {
                    to: publisher::ReplyToken(to),
                    request,
                };
                self.turn_publisher(Some(event));
            }
            Item::FromPublisher { token, result } => self.publisher_answers(token, result),
            Item::ToRetry { request, token } => self.retry_is_asked(request, token),
            Item::FromRetry { token, result } => self.retry_answers(token, result),
            Item::Heartbeat(heartbeat) => {
                let event = runtime_collector::Event::Heartbeat(heartbeat.clone());
                self.turn_collector(Some(event));
                let event = retry::Event::Heartbeat {
                    host: heartbeat.host.clone(),
                    session: heartbeat.session,
                    interval: Duration::from_millis(heartbeat.interval_ms),
                    observed: heartbeat.observed.clone(),
                };
                self.turn_retry(Some(event));
                let event = publisher::Event::Heartbeat(heartbeat);
                self.turn_publisher(Some(event));
            }
            Item::Deadline { token } => self.deadline(token),
            Item::Datapath { host, life, effect } => self.datapath(host, life, effect),
            Item::ToCollector { event, token } => self.collector_is_told(&event, token),
            Item::FromCollector { token, result } => self.collector_answers(token, result),
            Item::Noticed { host, life, notice } => {
                if self.hosts[host].agent.life == life {
                    self.turn_host(host, Some(HostEvent::Noticed(notice)));
                }
            }
            Item::Subscribed { host, life, switch } => {
                let machine = &mut self.hosts[host];
                let lives = machine.agent.life == life && machine.connected;
                if lives && machine.subscribes.remove(&switch) {
                    machine.hears.insert(switch.clone());
                    self.turn_host(host, Some(HostEvent::Subscribed(switch)));
                }
            }
            Item::Start(place) => self.start(place),
            Item::Reachable { host, is } => {
                let datapath = &self.hosts[host].datapath;
                datapath.behave(Behaviour {
                    gone: (!is).then(|| "its database is away".to_owned()),
                    ..datapath.behaviour()
                });
                self.witness.caused();
            }
            // What it was to be told is over.
            Item::Link { host, up: false }
                if self.has_dead_ends() && self.hosts[host].connected => {}
            Item::Link { host, up } => {
                self.hosts[host].connected = up;
                self.witness.caused();
                // What was asked for while the bus went is asked for anew.
                let again = self.hosts[host].subscribes.clone();
                for switch in again.into_iter().filter(|_| up) {
                    let life = self.hosts[host].agent.life;
                    self.later(20, Item::Subscribed { host, life, switch });
                }
                let event = if up {
                    HostEvent::Connected
                } else {
                    HostEvent::Disconnected
                };
                self.turn_host(host, Some(event));
            }
        }
    }

    /// The host that something happened to in the last step.
    #[must_use]
    pub fn turned(&self) -> Option<usize> {
        self.turned
    }

    /// The newest commit of the running publisher.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.publisher.core().map(|core| core.config().revision())
    }
}
