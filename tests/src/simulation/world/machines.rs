// SPDX-License-Identifier: Apache-2.0
//! The hosts: how questions reach them, what their agents want done, and the
//! answers' way back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config_publisher::core::Publisher;
use config_publisher::events as publisher;
use dvs_schemas::v1::{
    self, ApplyOutcome, Clobber, CountersOf, FinalState, Live, RemoveOutcome, RemovedPort,
    RepushKey, RipKey,
};
use dvs_schemas::{Format, HostName, PortId, SessionId, SwitchName};
use host_agent::core::Agent;
use host_agent::datapath::{Applied, Behaviour, DatapathError, Emulated};
use host_agent::host::{Answer, Asker, HostCore, HostEffect, HostEvent, LivePicture};
use host_agent::merge::EffectiveVlan;
use retry::{Answer as RetryAnswer, Commit};

use super::World;
use super::plugs::Plug;
use super::traffic::{Covers, DEADLINE, HostQuestion, Item, Waiter, wire};
use crate::simulation::node::Node;
use crate::simulation::start;
use crate::simulation::taken::Taken;

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
    /// The switches whose subject it has asked for, and does not hear yet.
    pub subscribes: BTreeSet<SwitchName>,
    /// What is plugged in.
    pub plugged: BTreeSet<Plug>,
    /// What the machines behind that do, as far as its datapath can tell.
    pub behind: BTreeMap<PortId, v1::Machine>,
    /// What its agent was told to be gone.
    pub taken: Taken,
    /// False while it is cut off from the bus.
    pub connected: bool,
    /// Whether its agent stands still.
    pub frozen: bool,
    /// Whether its agent was stopped for good.
    pub off: bool,
}

impl Machine {
    pub(super) fn new(number: usize, random: &mut fastrand::Rng) -> Self {
        Self {
            name: start::host_name(number),
            agent: Node::new(host_agent::ledger::SPEC),
            datapath: Emulated::new(Behaviour::default(), random.u64(..)),
            hears: BTreeSet::new(),
            subscribes: BTreeSet::new(),
            plugged: BTreeSet::new(),
            behind: BTreeMap::new(),
            taken: Taken::default(),
            connected: true,
            frozen: false,
            off: false,
        }
    }

    /// The whole host goes: its datapath is empty. What it had before.
    pub(super) fn reboot(&mut self, random: &mut fastrand::Rng) -> Emulated {
        // Machines die with their host.
        self.plugged.clear();
        self.behind.clear();
        let behaviour = self.datapath.behaviour();
        let empty = Emulated::new(behaviour, random.u64(..));
        std::mem::replace(&mut self.datapath, empty)
    }

    /// The session of its agent, as far as that knows.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.agent.core()?.host(&self.name)?.session()
    }

    /// The datapath goes on from what the agent knows that it has counted.
    pub(super) fn resume(&self) -> Vec<CountersOf> {
        let agent = self.agent.core();
        let host = agent.and_then(|agent| agent.host(&self.name));
        let known = host.map(HostCore::counters).unwrap_or_default();
        self.datapath.resume_now(known.clone());
        known.into_iter().map(|(_, of)| of).collect()
    }

    fn read_live(&self, question: &Live) -> Result<LivePicture, DatapathError> {
        let picture = self.datapath.read_now()?;
        let ports = picture.iter().flat_map(|(switch, bridge)| {
            let ports = bridge.ports.keys().filter(|port| question.wants(port));
            ports.map(|port| (switch.clone(), port.clone()))
        });
        let counters = self.datapath.counters_now(ports.collect())?;
        Ok(LivePicture { picture, counters })
    }

    /// Whether a message that came was refused for lack of something that it
    /// builds on.
    fn refused(&self, message: &Clobber) -> bool {
        let agent = self.agent.core();
        let host = agent.and_then(|agent| agent.host(&self.name));
        let has_settings = host
            .into_iter()
            .flat_map(HostCore::held)
            .any(|(switch, held)| *switch == message.switch && held.settings.is_some());
        matches!(message.state, FinalState::Partial { .. }) && !has_settings
    }
}

impl World {
    pub(super) fn host_is_asked(
        &mut self,
        host: usize,
        question: HostQuestion,
        token: u64,
        direct: bool,
    ) {
        let listens = |machine: &Machine| machine.agent.core().is_some() && machine.connected;
        let machine = &self.hosts[host];
        if !listens(machine) {
            let mut others = self.hosts.iter().filter(|other| other.name == machine.name);
            if direct && !others.any(listens) {
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
        let event = match question.clone() {
            HostQuestion::Clobber(message) => HostEvent::Clobber {
                message: Arc::new(*message),
                asker: Some(asker),
            },
            HostQuestion::Remove(message) => HostEvent::Remove {
                message: Arc::new(message),
                asker: Some(asker),
            },
            HostQuestion::Plan(message) => HostEvent::Plan {
                message: Arc::new(*message),
                asker,
            },
            HostQuestion::Live(message) => HostEvent::Live { message, asker },
            HostQuestion::Fetch(message) => HostEvent::Fetch { message, asker },
            HostQuestion::Identify(message) => HostEvent::Identify {
                message,
                asker: Some(asker),
            },
        };
        self.turn_host(host, Some(event));
        let machine = &mut self.hosts[host];
        let runs = machine.agent.runs();
        match question {
            HostQuestion::Clobber(message) => {
                self.asked += 1;
                // What it was asked before it knew whether it is its host's agent
                // may be taken in later, or never.
                if !runs || machine.session().is_none() {
                    machine.taken.unsure(&message);
                } else if !machine.refused(&message) {
                    machine.taken.clobber(&message);
                }
            }
            HostQuestion::Remove(message) => {
                self.asked += 1;
                if runs && machine.session().is_some() {
                    machine.taken.remove(&message);
                }
            }
            HostQuestion::Plan(_)
            | HostQuestion::Live(_)
            | HostQuestion::Fetch(_)
            | HostQuestion::Identify(_) => {}
        }
    }

    pub(super) fn host_answers(&mut self, host: &HostName, token: u64, answer: Option<Answer>) {
        let Some(slot) = self.slots.get_mut(&token) else {
            return;
        };
        match &mut slot.waiter {
            Waiter::Push {
                push,
                call,
                missing,
                covers,
            } => {
                if !missing.remove(host) {
                    return;
                }
                let fleet = self.publisher.core().map(Publisher::fleet);
                let present = fleet.and_then(|fleet| Some(fleet.get(host)?.session()));
                let done = done(answer.as_ref()) && said_in(answer.as_ref()) == present;
                let covers = covers.clone();
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
                self.turn_publisher(Some(event));
                if let Covers::Whole(switch, store, revision) = covers
                    && done
                    && self.publisher.runs()
                {
                    let host = host.clone();
                    let commit = Commit { store, revision };
                    self.witness
                        .acknowledged(RepushKey { host, switch }, commit);
                }
            }
            Waiter::Flight { flight, covers, .. } => {
                let (flight, covers) = (*flight, covers.clone());
                if done(answer.as_ref()) {
                    self.retry_hears(host, covers);
                }
                let answer = retry_answer(answer);
                self.slots.remove(&token);
                self.turn_retry(Some(retry::Event::Answered { flight, answer }));
            }
            Waiter::Ask { ask, .. } => {
                let ask = *ask;
                self.slots.remove(&token);
                let answer = collector_answer(answer);
                self.turn_collector(Some(runtime_collector::Event::Answered { ask, answer }));
            }
            Waiter::Identify { host: _, session } => {
                let session = *session;
                self.slots.remove(&token);
                let is_there = match answer {
                    Some(Answer::Identified(answer)) => answer.session == session,
                    Some(other) => panic!("{other:?} is no word of who is there"),
                    None => false,
                };
                let event = publisher::Event::Identified {
                    host: host.clone(),
                    session,
                    is_there: Ok(is_there),
                };
                self.turn_publisher(Some(event));
            }
            Waiter::HandOver { .. }
            | Waiter::Render { .. }
            | Waiter::Hello { .. }
            | Waiter::Tell { .. }
            | Waiter::Claim { .. }
            | Waiter::Release { .. }
            | Waiter::Rip { .. }
            | Waiter::Placements { .. }
            | Waiter::Operator => {}
        }
    }

    /// A host has done what retry asked.
    fn retry_hears(&mut self, host: &HostName, covers: Covers) {
        match covers {
            Covers::Whole(switch, store, revision) => {
                let host = host.clone();
                let key = RepushKey { host, switch };
                self.witness.covered(&key, Commit { store, revision });
            }
            Covers::Removals(switch, store, ports) => {
                for RemovedPort { port, revision } in ports {
                    let (host, switch) = (host.clone(), switch.clone());
                    let key = RipKey { host, switch, port };
                    self.witness.removed(&key, Commit { store, revision });
                }
            }
            Covers::Less => {}
        }
    }

    pub(super) fn host_wants(&mut self, host: usize, effect: HostEffect) {
        let life = self.hosts[host].agent.life;
        match effect {
            HostEffect::Read
            | HostEffect::Apply { .. }
            | HostEffect::Count(_)
            | HostEffect::ReadLive { .. }
            | HostEffect::Probe(_) => {
                self.later(20, Item::Datapath { host, life, effect });
            }
            HostEffect::Subscribe(switch) => {
                self.hosts[host].subscribes.insert(switch.clone());
                self.later(20, Item::Subscribed { host, life, switch });
            }
            HostEffect::Unsubscribe(switch) => {
                // In order: what was asked for before is not heard later.
                self.hosts[host].subscribes.remove(&switch);
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
                self.witness.caused();
                let token = self.open(Waiter::Hello { host }, DEADLINE);
                let request = publisher::Request::Hello(wire(&hello));
                self.ask_publisher(host, request, token);
            }
            HostEffect::Heartbeat(heartbeat) => {
                if self.hosts[host].connected {
                    self.send(Item::Heartbeat(wire(&heartbeat)));
                }
            }
            HostEffect::Claim(claim) => {
                let port = claim.port.clone();
                let token = self.open(Waiter::Claim { host, port }, DEADLINE);
                let request = publisher::Request::Claim(wire(&claim));
                self.ask_publisher(host, request, token);
            }
            HostEffect::Release(release) => {
                let asked = release.clone();
                let token = self.open(Waiter::Release { host, asked }, DEADLINE);
                let request = publisher::Request::Release(wire(&release));
                self.ask_publisher(host, request, token);
            }
            // Nobody else writes to an emulated datapath.
            // A new connection is made at once, of which nobody notices.
            HostEffect::Reconnect | HostEffect::Drift(_) | HostEffect::Announce(_) => {}
            HostEffect::Tell(event) => {
                let seq = event.seq();
                let token = self.open(Waiter::Tell { host, seq }, DEADLINE);
                if self.hosts[host].connected {
                    self.send(Item::ToCollector { event, token });
                }
            }
        }
    }

    fn ask_publisher(&mut self, host: usize, request: publisher::Request, token: u64) {
        if self.hosts[host].connected {
            self.send(Item::ToPublisher { request, token });
        }
    }

    /// A host whose way to the bus is a dead end is cut off at once, and hears of
    /// it later.
    fn follow_branch(&mut self, host: usize) {
        if !self.has_dead_ends() {
            return;
        }
        let dead_vlan = self.dead_vlan.map(EffectiveVlan::Access);
        let machine = &self.hosts[host];
        let of_host = machine.datapath.behaviour().of_host;
        let picture = machine.datapath.picture();
        let cut_off = picture.values().any(|bridge| {
            let mut uplinks = bridge.settings.uplinks.iter();
            let mut own = of_host.iter().filter_map(|port| bridge.ports.get(port));
            uplinks.any(|uplink| Some(uplink) == self.dead.as_ref())
                || own.any(|own| Some(&own.port.policy.vlan) == dead_vlan.as_ref())
        });
        let machine = &mut self.hosts[host];
        if machine.connected && cut_off {
            machine.connected = false;
            self.later(30_000, Item::Link { host, up: false });
        } else if !machine.connected && !cut_off {
            self.at(0, Item::Link { host, up: true });
        }
    }

    pub(super) fn datapath(&mut self, host: usize, life: u64, effect: HostEffect) {
        let machine = &self.hosts[host];
        let mut ends = Vec::new();
        let event = match effect {
            HostEffect::Read => HostEvent::Read(machine.datapath.read_now()),
            // An apply whose agent died may still have reached the datapath.
            HostEffect::Apply {
                number,
                steps,
                guarded,
            } => {
                if machine.agent.life != life && self.random.bool() {
                    return;
                }
                let torn = self.torn > 0.0 && self.random.f64() < self.torn;
                let applied = if torn {
                    let some = &steps[..self.random.usize(0..=steps.len())];
                    lost(machine.datapath.apply_now(some, &guarded))
                } else {
                    machine.datapath.apply_now(&steps, &guarded)
                };
                ends.clone_from(&applied.ended);
                HostEvent::Applied { number, applied }
            }
            HostEffect::Count(ports) => HostEvent::Counted(machine.datapath.counters_now(ports)),
            HostEffect::ReadLive { asker, question } => HostEvent::LiveRead {
                asker,
                outcome: machine.read_live(&question),
                question,
            },
            HostEffect::Probe(_) => HostEvent::Probed(machine.connected),
            other => panic!("{other:?} is nothing for a datapath"),
        };
        self.follow_branch(host);
        if self.hosts[host].agent.life == life {
            self.turn_host(host, Some(event));
        }
        let machine = &self.hosts[host];
        if machine.agent.life != life || !machine.agent.runs() {
            // The agent died before it knew: that is lost, but for what it has
            // told before.
            for (_, of) in ends {
                self.traffic.lose(&of.port, &of.counters);
            }
        }
    }
}

/// Nobody learns what came of each step.
fn lost(applied: Applied) -> Applied {
    let steps = applied.steps.and_then(|_| {
        let error = DatapathError {
            doing: "changed",
            reason: "its database is lost".to_owned(),
        };
        Err(error.into())
    });
    Applied { steps, ..applied }
}

/// The session in which a host says that it did something.
fn said_in(answer: Option<&Answer>) -> Option<SessionId> {
    match answer? {
        Answer::Apply(report) => Some(report.session),
        Answer::Remove(report) => Some(report.session),
        Answer::Plan(_)
        | Answer::Live(_)
        | Answer::Fetched(_)
        | Answer::Identified(_)
        | Answer::Problem(_) => None,
    }
}

/// Whether a host says that it did what it was asked.
fn done(answer: Option<&Answer>) -> bool {
    match answer {
        Some(Answer::Apply(report)) => match report.outcome {
            ApplyOutcome::Applied { .. } => true,
            ApplyOutcome::Failed { .. } => false,
        },
        Some(Answer::Remove(report)) => report.outcome == RemoveOutcome::Removed,
        Some(
            Answer::Plan(_)
            | Answer::Live(_)
            | Answer::Fetched(_)
            | Answer::Identified(_)
            | Answer::Problem(_),
        )
        | None => false,
    }
}

fn publisher_answer(answer: Option<Answer>) -> publisher::Answer {
    match answer {
        None => publisher::Answer::NoResponder,
        Some(Answer::Apply(report)) => publisher::Answer::Applied(wire(&report)),
        Some(Answer::Remove(report)) => publisher::Answer::Removed(wire(&report)),
        Some(Answer::Plan(plan)) => publisher::Answer::Planned(wire(&plan)),
        Some(Answer::Live(_) | Answer::Fetched(_) | Answer::Identified(_)) => {
            panic!("a push asks for no such thing")
        }
        Some(Answer::Problem(problem)) => publisher::Answer::Unreadable(problem.to_string()),
    }
}

fn collector_answer(answer: Option<Answer>) -> runtime_collector::Answer {
    use runtime_collector::Answer as Known;
    match answer {
        None => Known::NoResponder,
        Some(Answer::Live(live)) => Known::Live(wire(&live)),
        Some(Answer::Fetched(fetched)) => Known::Fetched(wire(&fetched)),
        Some(Answer::Problem(problem)) => Known::Refused(problem.to_string()),
        Some(Answer::Apply(_) | Answer::Remove(_) | Answer::Plan(_) | Answer::Identified(_)) => {
            panic!("the collector asks for no such thing")
        }
    }
}

fn retry_answer(answer: Option<Answer>) -> RetryAnswer {
    match answer {
        None => RetryAnswer::NoResponder,
        Some(Answer::Apply(report)) => RetryAnswer::Clobber(wire(&report)),
        Some(Answer::Remove(report)) => RetryAnswer::Remove(wire(&report)),
        Some(Answer::Plan(_) | Answer::Live(_) | Answer::Fetched(_) | Answer::Identified(_)) => {
            panic!("retry asks for no such thing")
        }
        Some(Answer::Problem(problem)) => RetryAnswer::Unreadable(problem.to_string()),
    }
}
