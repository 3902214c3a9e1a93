// SPDX-License-Identifier: Apache-2.0
//! Machines that start, stop and move while programs die, hosts are started
//! anew and messages get lost: a port has one owner per epoch, a reserved port
//! is its vNIC's, a host that lives keeps what is plugged in there, totals only
//! grow; and in the end every port is where its machine is.
#![allow(clippy::unwrap_used)]

mod diverging;
mod keeping;
mod migrating;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config_publisher::events::Request;
use dvs_schemas::v1::{ConnectRequest, DisconnectRequest, MoveRequest};
use dvs_schemas::{Epoch, HostName, PortId, Timestamp, VnicId};
use dvs_tests::simulation::laws::{self, Totals};
use dvs_tests::simulation::operators::Operators;
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::wishes::Wish;
use dvs_tests::simulation::world::{HOSTS, Place, Plug, Question, Told, World};
use serde_json::{Value, json};

/// Seeds per run; `DVS_SEEDS=10000` for a night, `DVS_SEED=7` for one, with
/// `DVS_TRACE=1` to see what happens in it.
const SEEDS: u64 = 120;
/// What happens to machines per seed.
const HAPPENINGS: usize = 60;
const PORTS: usize = 4;
/// Simulated time within which everything is where it belongs: a claim that
/// waits is repeated once a minute, a holder that died is taken over after one
/// and a half, and ports that went are looked for twice.
const HEALED: Duration = Duration::from_secs(400);
/// Longer than a message is on its way, repeated or not, and than a plug takes
/// to be told to an agent.
const HEARD: Duration = Duration::from_secs(1);
/// For so long a host takes what comes after its machine went for the grant of
/// a claim that was late on its way, and gives it back.
const LATE: Duration = Duration::from_secs(60);

fn weather(random: &mut fastrand::Rng) -> Weather {
    Weather {
        loss: [0.0, 0.05, 0.2][random.usize(0..3)],
        repeat: [0.0, 0.1, 0.5][random.usize(0..3)],
        delay: [5, 100, 900][random.usize(0..3)],
        cuts: [0.0, 0.0, 0.01][random.usize(0..3)],
        reboots: [0.0, 0.3][random.usize(0..2)],
        refusals: [0.0, 0.2][random.usize(0..2)],
    }
}

fn port(number: usize) -> PortId {
    format!("p{number}").parse().unwrap()
}

fn site() -> Wish {
    let mut documents = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod"}),
    ];
    documents.extend((0..PORTS).map(|number| -> Value {
        json!({"kind": "Port", "name": port(number), "switch": "prod", "group": "web"})
    }));
    Wish::Apply(documents)
}

/// Where a port is, and whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    host: Option<HostName>,
    vnic: Option<VnicId>,
    epoch: Epoch,
}

/// A port on a host.
type There = (PortId, HostName);

/// Where an operator moved a port, and when that was last asked for, or
/// answered.
struct Moved {
    to: HostName,
    at: Timestamp,
}

/// One seed's world, and what its laws need to know of the past.
struct Life {
    seed: u64,
    random: fastrand::Rng,
    world: World,
    totals: Totals,
    /// What the publisher had last.
    seen: BTreeMap<PortId, Seen>,
    /// The operator's request under way.
    asked: Option<(u64, Request)>,
    /// Ports that an operator disconnected since they were connected.
    disconnected: BTreeSet<PortId>,
    /// Where operators moved ports last, until a machine has them there, or
    /// they went.
    moved: BTreeMap<PortId, Moved>,
    /// Machines that came to a host, when, and in which life of its agent.
    came: BTreeMap<There, (Timestamp, u64)>,
    /// Machines that went from a host, when. What their host has to say of that
    /// is late while it is down, or off the bus.
    went: BTreeMap<There, Timestamp>,
    /// Ports whose machine went from their host, or whose vNIC is another one,
    /// since they were placed there.
    loose: BTreeSet<There>,
    /// Ports whose host was down, or off the bus, since they were placed there.
    harmed: BTreeSet<There>,
    /// Lives of the hosts' agents when they were looked at last.
    lives: BTreeMap<HostName, u64>,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            world: World::new(seed, Weather::FAIR),
            totals: Totals::default(),
            seen: BTreeMap::new(),
            asked: None,
            disconnected: BTreeSet::new(),
            moved: BTreeMap::new(),
            came: BTreeMap::new(),
            went: BTreeMap::new(),
            loose: BTreeSet::new(),
            harmed: BTreeSet::new(),
            lives: BTreeMap::new(),
        }
    }

    fn hold(&self, law: Result<(), String>) {
        law.unwrap_or_else(|broken| {
            panic!("DVS_SEED={} at {}: {broken}", self.seed, self.world.now)
        });
    }

    fn run(&mut self, within: Duration) {
        let until = self.world.now.after(within);
        while self.world.step(until) {
            self.hold(laws::one_owner_per_epoch(&self.world));
            let totals = self.totals.hold(&self.world);
            self.hold(totals);
            let kept = self.ports_are_kept();
            self.hold(kept);
            self.moves_are_over();
        }
    }

    /// Whether a machine of the port is on the host.
    fn plugs(&self, host: usize, port: &PortId) -> bool {
        let plugged = &self.world.hosts[host].plugged;
        plugged.iter().any(|plug| plug.port == *port)
    }

    /// Takes the answer to the operator's request, or asks again.
    fn listen(&mut self) {
        let Some((token, request)) = self.asked.take() else {
            return;
        };
        match self.world.told.remove(&token) {
            None => self.asked = Some((token, request)),
            Some(Told::Silence) => self.ask(request),
            // It has done what it does. A move counts from the moment that it
            // was asked for.
            Some(Told::Published(_)) => match request {
                Request::Disconnect(of) => drop(self.disconnected.remove(&of.port)),
                Request::Move(of) => self.moves(&of),
                _ => {}
            },
            Some(Told::Acted(_)) => unreachable!("nobody acts on queues"),
        }
    }

    fn ask(&mut self, request: Request) {
        match &request {
            // It may be carried out without an answer.
            Request::Move(of) => self.moves(of),
            Request::Disconnect(of) => drop(self.disconnected.insert(of.port.clone())),
            _ => {}
        }
        let token = self.world.ask(Question::Publisher(request.clone()));
        self.asked = Some((token, request));
    }

    fn moves(&mut self, of: &MoveRequest) {
        let moved = Moved {
            to: of.host.clone(),
            at: self.world.now,
        };
        self.moved.insert(of.port.clone(), moved);
    }

    fn any_vnic(&mut self, port: &PortId) -> VnicId {
        let whose = ["vm", "vm", "vm", "rival"][self.random.usize(0..4)];
        format!("{whose}-{port}").parse().unwrap()
    }

    fn operate(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let id = port(self.random.usize(0..PORTS));
        let host = self.world.hosts[self.random.usize(0..HOSTS)].name.clone();
        let request = match self.random.u8(0..6) {
            0..=1 => Request::Move(MoveRequest {
                port: id,
                host,
                from: None,
                force: true,
                wait: None,
                timeout: None,
            }),
            2..=4 => Request::Connect(ConnectRequest {
                vnic: self.any_vnic(&id),
                port: id,
                host: None,
                mac: None,
                switch: None,
                group: None,
                wait: None,
                timeout: None,
            }),
            _ => Request::Disconnect(DisconnectRequest {
                port: id,
                vnic: None,
            }),
        };
        self.ask(request);
    }

    /// A machine starts, stops or moves.
    fn power(&mut self) {
        let id = port(self.random.usize(0..PORTS));
        let there: Vec<usize> = (0..HOSTS).filter(|host| self.plugs(*host, &id)).collect();
        match (there.as_slice(), self.random.u8(0..3)) {
            // It stops; or, where it is on two hosts, its migration is over.
            ([host, ..], 0) | ([host, _, ..], _) => self.unplug(*host, &id),
            ([], _) | ([_], _) => {
                let host = self.random.usize(0..HOSTS);
                if !there.contains(&host) {
                    let plug = Plug {
                        switch: "prod".parse().unwrap(),
                        vnic: self.random.bool().then(|| self.any_vnic(&id)),
                        port: id,
                    };
                    let machine = &self.world.hosts[host];
                    let there = (plug.port.clone(), machine.name.clone());
                    self.came
                        .insert(there, (self.world.now, machine.agent.life));
                    self.world.plug(host, &plug);
                }
            }
        }
    }

    fn unplug(&mut self, host: usize, port: &PortId) {
        let name = self.world.hosts[host].name.clone();
        let there = (port.clone(), name);
        self.went.insert(there.clone(), self.world.now);
        self.loose.insert(there);
        let plugged = self.world.hosts[host].plugged.clone();
        for plug in plugged.iter().filter(|plug| plug.port == *port) {
            self.world.unplug(host, plug);
        }
    }
}

fn live(seed: u64) -> (u64, u64) {
    let mut life = Life::new(seed);
    let mut operators = Operators::default();
    life.run(Duration::from_secs(5));
    operators.ask(&mut life.world, site());
    while !operators.listen(&mut life.world) {
        life.run(Duration::from_millis(100));
    }
    life.run(Duration::from_secs(5));

    let weather = weather(&mut life.random);
    life.world.set_weather(weather);
    let longest_pause = [100, 1_000, 8_000][life.random.usize(0..3)];
    for _ in 0..HAPPENINGS {
        life.listen();
        match life.random.u8(0..13) {
            0..=6 => life.power(),
            7..=9 => life.operate(),
            10 if weather.loss > 0.0 => {
                let (host, ms) = (life.random.usize(0..HOSTS), life.random.u64(100..90_000));
                life.world.isolate(host, ms);
            }
            10 => {}
            11 if weather.cuts > 0.0 => {
                let host = life.random.usize(0..HOSTS);
                life.world.cut(Place::Host(host));
            }
            12 if weather.refusals > 0.0 => {
                let (host, ms) = (life.random.usize(0..HOSTS), life.random.u64(100..30_000));
                life.world.hide_datapath(host, ms);
            }
            _ => {}
        }
        life.world.pass_frames();
        let pause = Duration::from_millis(life.random.u64(1..longest_pause));
        life.run(pause);
    }

    life.world.set_weather(Weather::FAIR);
    while life.asked.is_some() {
        life.run(Duration::from_millis(100));
        life.listen();
    }
    life.run(HEALED);
    let well = life.everything_is_where_it_belongs();
    life.hold(well);
    life.hold(laws::every_frame_counts(&life.world));
    life.hold(laws::the_collector_knows(&life.world));
    let placed = life.seen.values().filter(|seen| seen.host.is_some());
    (placed.count() as u64, life.world.cuts)
}

/// This half's seeds. Two tests, so that they share the machine's cores.
fn seeds(half: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let all = match number("DVS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DVS_SEEDS").unwrap_or(SEEDS),
    };
    all.filter(|seed| seed % 2 == half).collect()
}

fn the_rules_hold(half: u64) {
    let seeds = seeds(half);
    let (mut placed, mut cuts) = (0, 0);
    for seed in &seeds {
        let (some, more) = live(*seed);
        placed += some;
        cuts += more;
    }
    if seeds.len() >= 50 {
        // Ports were somewhere, and programs died: else nothing was tried.
        assert!(placed > seeds.len() as u64, "{placed} ports were placed");
        assert!(cuts > seeds.len() as u64, "{cuts} programs died");
    }
}

#[test]
fn ports_follow_their_machines_whatever_happens_first_half() {
    the_rules_hold(0);
}

#[test]
fn ports_follow_their_machines_whatever_happens_second_half() {
    the_rules_hold(1);
}
