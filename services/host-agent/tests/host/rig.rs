// SPDX-License-Identifier: Apache-2.0
//! One host to play with: effects are carried out at once, in order, or held
//! back when a test wants to see between them.

use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use dvs_ledger::{InMemoryBackend, Ledger, StorageBackend, turn};
use dvs_schemas::v1::{
    ApplyOutcome, ClaimRequest, Clobber, Drift, Fetch, Heartbeat, Hello, HelloReply, Live,
    Observed, Position, ReleaseRequest, Remove, RemoveOutcome, V1,
};
use dvs_schemas::{Format, HostName, PortId, SessionId, SwitchName, TellMode, Timestamp};
use host_agent::core::Agent;
use host_agent::datapath::{
    Applied, Behaviour, Behind, DatapathError, Emulated, Notice, Part, Step, StepFailure,
};
use host_agent::held::HeldSwitch;
use host_agent::host::{
    Answer, Asker, HostCore, HostEffect, HostEvent, HostSettings, LivePicture, RuntimeEvent,
};
use host_agent::ledger::{LoadError, SPEC};
use uuid::Uuid;

pub(crate) fn id<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A redb backend that survives the ledger on top of it, as a disk does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<InMemoryBackend>);

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
}

pub(crate) const QUIET: Duration = Duration::from_secs(10);
pub(crate) const ROLLBACK: Duration = Duration::from_secs(30);
/// The session that the agent begins in.
pub(crate) const SESSION: SessionId = SessionId(1);
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

pub(crate) struct Rig {
    pub(crate) host: HostName,
    disk: Disk,
    ledger: Ledger,
    pub(crate) agent: Agent,
    pub(crate) datapath: Arc<Emulated>,
    pub(crate) now: Timestamp,
    runs: u128,
    asked: u64,
    /// Effects not carried out yet.
    pub(crate) todo: VecDeque<HostEffect>,
    /// True: applies and reads stay in `todo`.
    pub(crate) hold_datapath: bool,
    /// Applies are carried out, and nobody learns of which steps.
    pub(crate) lose_results: bool,
    /// The agent dies as soon as something was written.
    pub(crate) die_of_writes: bool,
    /// A port that the host lives behind: set, and said to have failed in part.
    pub(crate) in_part: Option<PortId>,
    /// True: the bus takes no subscription.
    pub(crate) hold_subscriptions: bool,
    /// True: the bus says nothing more.
    pub(crate) mute: bool,
    /// Connections that were given up.
    pub(crate) reconnects: usize,
    pub(crate) answers: Vec<(u64, Answer)>,
    pub(crate) subscribed: BTreeSet<SwitchName>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) told: Vec<Arc<RuntimeEvent>>,
    pub(crate) drifts: Vec<Drift>,
    pub(crate) announced: Vec<PortId>,
    /// Claims and releases, without where the host said to be.
    pub(crate) claims: Vec<ClaimRequest>,
    pub(crate) releases: Vec<ReleaseRequest>,
    /// Where it said to be with each of them.
    pub(crate) positions: Vec<Vec<Position>>,
    /// Entries written by each commit.
    pub(crate) commits: Vec<usize>,
}

/// What a host has applied is no further than the newest commit that it knows
/// of, or it would be of another history.
fn is_where_it_says(observed: &[Observed], positions: &[Position]) {
    let newest = positions.iter().map(|position| position.revision).max();
    for of in observed {
        assert!(
            of.revision <= newest.unwrap_or_default(),
            "{of:?} at {positions:?}"
        );
    }
}

fn load(ledger: &Ledger, host: &HostName, run: u128) -> Result<Agent, LoadError> {
    let settings = HostSettings {
        agent: Uuid::from_u128(run),
        node: "rig".to_owned(),
        datapath: dvs_schemas::v1::HostDatapath::Emulated,
        heartbeat: HEARTBEAT,
        quiet: QUIET,
        rollback_after: Some(ROLLBACK),
        mode: TellMode::Push,
    };
    Agent::load(ledger, &BTreeSet::from([host.clone()]), &settings, 7)
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(Emulated::new(Behaviour::default(), 1)))
    }

    pub(crate) fn on(datapath: Arc<Emulated>) -> Self {
        let host: HostName = id("h1");
        let disk = Disk::default();
        let ledger = Ledger::on_backend(disk.clone(), SPEC).unwrap();
        let agent = load(&ledger, &host, 1).unwrap();
        let mut rig = Self {
            host,
            disk,
            ledger,
            agent,
            datapath,
            now: Timestamp(1_000_000),
            runs: 1,
            asked: 0,
            todo: VecDeque::new(),
            hold_datapath: false,
            lose_results: false,
            die_of_writes: false,
            in_part: None,
            hold_subscriptions: false,
            mute: false,
            reconnects: 0,
            answers: Vec::new(),
            subscribed: BTreeSet::new(),
            hellos: Vec::new(),
            heartbeats: Vec::new(),
            told: Vec::new(),
            drifts: Vec::new(),
            announced: Vec::new(),
            claims: Vec::new(),
            releases: Vec::new(),
            positions: Vec::new(),
            commits: Vec::new(),
        };
        rig.begin();
        rig
    }

    /// The publisher has said that the agent is the host's, in the same session at
    /// each start.
    pub(crate) fn begin(&mut self) {
        let reply = HelloReply {
            v: V1,
            session: SESSION,
            switches: Vec::new(),
        };
        self.turn(vec![(self.host.clone(), HostEvent::Greeted(Ok(reply)))]);
        self.wake();
    }

    /// An agent of another host on the same disk.
    pub(crate) fn load_as(&self, host: &str) -> Result<Agent, LoadError> {
        load(&self.ledger, &id(host), 1)
    }

    /// The process dies, and starts again on the same disk and datapath. What
    /// was under way is lost.
    pub(crate) fn restart(&mut self) {
        self.start_again();
        self.begin();
    }

    /// The same, and the publisher has not said yet whose the host is.
    pub(crate) fn start_again(&mut self) {
        self.todo.clear();
        self.runs += 1;
        // The file is closed by the death of the process.
        self.ledger = Ledger::on_backend(Disk::default(), SPEC).unwrap();
        self.ledger = Ledger::on_backend(self.disk.clone(), SPEC).unwrap();
        self.agent = load(&self.ledger, &self.host, self.runs).unwrap();
        self.datapath.resume_now(self.core().counters());
        self.subscribed.clear();
        self.wake();
    }

    /// The whole host goes and comes back, on the same disk.
    pub(crate) fn reboot(&mut self) {
        self.datapath = Arc::new(Emulated::new(Behaviour::default(), 1));
        self.restart();
    }

    pub(crate) fn core(&self) -> &HostCore {
        self.agent.host(&self.host).unwrap()
    }

    pub(crate) fn held(&self, switch: &str) -> Option<HeldSwitch> {
        let name: SwitchName = id(switch);
        let mut held = self.core().held();
        held.find(|(held, _)| **held == name)
            .map(|(_, held)| held.clone())
    }

    /// Gives the core an event and carries out what it wants.
    pub(crate) fn event(&mut self, event: HostEvent) {
        self.turn(vec![(self.host.clone(), event)]);
        self.settle();
    }

    /// Lets what is due by now happen.
    pub(crate) fn wake(&mut self) {
        self.turn(Vec::new());
        self.settle();
    }

    /// Lets time pass, waking the core whenever it wants to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = dvs_ledger::Core::due(&self.agent).filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.wake();
        }
        self.now = until;
    }

    pub(crate) fn turn(&mut self, events: Vec<(HostName, HostEvent)>) {
        let turned = turn(&mut self.agent, &self.ledger, self.now, events).unwrap();
        if turned.writes > 0 {
            self.commits.push(turned.writes);
        }
        let effects = turned.effects.into_iter().map(|(_, effect)| effect);
        self.todo.extend(effects);
    }

    /// Carries out effects until nothing is left, but for those held back.
    pub(crate) fn settle(&mut self) {
        let mut held = VecDeque::new();
        while let Some(effect) = self.todo.pop_front() {
            if self.is_held(&effect) {
                held.push_back(effect);
                continue;
            }
            if let Some(event) = self.carry_out(effect) {
                self.turn(vec![(self.host.clone(), event)]);
            }
        }
        self.todo = held;
    }

    fn is_held(&self, effect: &HostEffect) -> bool {
        match effect {
            HostEffect::Read | HostEffect::Apply { .. } => self.hold_datapath,
            HostEffect::Probe(_) => self.mute,
            HostEffect::Subscribe(_) => self.hold_subscriptions,
            HostEffect::Count(_)
            | HostEffect::ReadLive { .. }
            | HostEffect::Unsubscribe(_)
            | HostEffect::Answer { .. }
            | HostEffect::Hello(_)
            | HostEffect::Heartbeat(_)
            | HostEffect::Claim(_)
            | HostEffect::Release(_)
            | HostEffect::Announce(_)
            | HostEffect::Drift(_)
            | HostEffect::Reconnect
            | HostEffect::Tell(_) => false,
        }
    }

    fn carry_out(&mut self, effect: HostEffect) -> Option<HostEvent> {
        match effect {
            HostEffect::Read => Some(HostEvent::Read(self.datapath.read_now())),
            HostEffect::Probe(_) => Some(HostEvent::Probed(true)),
            HostEffect::Reconnect => {
                self.reconnects += 1;
                None
            }
            HostEffect::Apply {
                number,
                steps,
                guarded,
            } => {
                let mut applied = self.datapath.apply_now(&steps, &guarded);
                self.fail_in_part(&steps, &mut applied);
                if self.lose_results && applied.steps.is_ok() {
                    let error = DatapathError {
                        doing: "changed",
                        reason: "the database is lost".to_owned(),
                    };
                    applied.steps = Err(error.into());
                }
                if self.die_of_writes && applied.steps.is_ok() {
                    self.die_of_writes = false;
                    self.start_again();
                    return None;
                }
                Some(HostEvent::Applied { number, applied })
            }
            HostEffect::Count(ports) => Some(HostEvent::Counted(self.datapath.counters_now(ports))),
            HostEffect::ReadLive { asker, question } => Some(HostEvent::LiveRead {
                asker,
                outcome: self.read_live(&question),
                question,
            }),
            HostEffect::Subscribe(switch) => {
                self.subscribed.insert(switch.clone());
                Some(HostEvent::Subscribed(switch))
            }
            HostEffect::Unsubscribe(switch) => {
                self.subscribed.remove(&switch);
                None
            }
            HostEffect::Answer { asker, answer } => {
                self.answers.push((asker.token.parse().unwrap(), answer));
                None
            }
            HostEffect::Hello(hello) => {
                is_where_it_says(&hello.observed, &hello.positions);
                self.hellos.push(hello);
                None
            }
            HostEffect::Heartbeat(heartbeat) => {
                is_where_it_says(&heartbeat.observed, &heartbeat.positions);
                self.heartbeats.push(heartbeat);
                None
            }
            HostEffect::Claim(claim) => {
                self.positions.push(claim.positions);
                self.claims.push(ClaimRequest {
                    positions: Vec::new(),
                    ..claim
                });
                None
            }
            HostEffect::Release(release) => {
                self.positions.push(release.positions);
                self.releases.push(ReleaseRequest {
                    positions: Vec::new(),
                    ..release
                });
                None
            }
            HostEffect::Announce(ports) => {
                self.announced
                    .extend(ports.into_iter().map(|(_, port)| port));
                None
            }
            HostEffect::Drift(drift) => {
                self.drifts.push(drift);
                None
            }
            HostEffect::Tell(event) => {
                self.told.push(event);
                None
            }
        }
    }

    fn fail_in_part(&self, steps: &[Step], applied: &mut Applied) {
        let (Some(port), Ok(results)) = (&self.in_part, &mut applied.steps) else {
            return;
        };
        let part = Part::Port(port.clone());
        for (step, result) in steps.iter().zip(results) {
            if step.write.part() == part {
                *result = Err(StepFailure {
                    behind: Behind::Host,
                    ..StepFailure::new(Some("shaping.egress"), "no such queue")
                });
                self.datapath.disturb(|picture| {
                    let bridge = picture.get_mut(&step.switch).unwrap();
                    bridge.failing.insert(part.clone());
                });
            }
        }
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

    fn asker(&mut self) -> Arc<Asker> {
        self.asked += 1;
        Arc::new(Asker {
            instance: "rig".into(),
            token: self.asked.to_string().into(),
            format: Format::Json,
        })
    }

    /// Sends a clobber; its answer will carry the returned number.
    pub(crate) fn send(&mut self, message: &Clobber) -> u64 {
        let event = HostEvent::Clobber {
            message: Arc::new(message.clone()),
            asker: Some(self.asker()),
        };
        self.event(event);
        self.asked
    }

    pub(crate) fn send_remove(&mut self, message: &Remove) -> u64 {
        let event = HostEvent::Remove {
            message: Arc::new(message.clone()),
            asker: Some(self.asker()),
        };
        self.event(event);
        self.asked
    }

    pub(crate) fn ask_plan(&mut self, message: &Clobber) -> Answer {
        let event = HostEvent::Plan {
            message: Arc::new(message.clone()),
            asker: self.asker(),
        };
        self.event(event);
        self.answer(self.asked).unwrap()
    }

    pub(crate) fn ask_live(&mut self, port: Option<&str>) -> Answer {
        self.ask_live_after(port, None)
    }

    pub(crate) fn ask_live_after(&mut self, port: Option<&str>, after: Option<PortId>) -> Answer {
        let event = HostEvent::Live {
            message: Live {
                v: V1,
                port: port.map(id),
                after,
            },
            asker: self.asker(),
        };
        self.event(event);
        self.answer(self.asked).unwrap()
    }

    /// Asks what a notice was about.
    pub(crate) fn fetch(&mut self, session: SessionId, seq: u64) -> Answer {
        let event = HostEvent::Fetch {
            message: Fetch {
                v: V1,
                session,
                seq,
            },
            asker: self.asker(),
        };
        self.event(event);
        self.answer(self.asked).unwrap()
    }

    /// Asks something, and returns the answer, if there is one at once.
    pub(crate) fn ask(&mut self, question: impl FnOnce(Arc<Asker>) -> HostEvent) -> Option<Answer> {
        let event = question(self.asker());
        self.event(event);
        self.answer(self.asked)
    }

    pub(crate) fn answer(&self, asked: u64) -> Option<Answer> {
        let mut answers = self.answers.iter().filter(|(token, _)| *token == asked);
        let answer = answers.next().map(|(_, answer)| answer.clone());
        assert!(answers.next().is_none(), "question {asked} answered twice");
        answer
    }

    /// Where the host was by its answer to a clobber.
    pub(crate) fn position(&self, asked: u64) -> Option<Position> {
        match self.answer(asked) {
            Some(Answer::Apply(report)) => report.position,
            other => panic!("{other:?}"),
        }
    }

    /// How a clobber went, which must be known by now.
    pub(crate) fn outcome(&self, asked: u64) -> ApplyOutcome {
        match self.answer(asked) {
            Some(Answer::Apply(report)) => report.outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn removal(&self, asked: u64) -> RemoveOutcome {
        match self.answer(asked) {
            Some(Answer::Remove(report)) => report.outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Gives the core what the datapath has to tell.
    pub(crate) fn notices(&mut self) {
        let mut notices: Vec<Notice> = Vec::new();
        let datapath = self.datapath.clone();
        while let Some(notice) = futures_util::FutureExt::now_or_never(
            host_agent::datapath::Datapath::next_notice(&*datapath),
        ) {
            notices.push(notice);
        }
        for notice in notices {
            self.event(HostEvent::Noticed(notice));
        }
    }
}
