// SPDX-License-Identifier: Apache-2.0
//! Machines that start, stop and move while programs die, hosts are started
//! anew and messages get lost: a port has one owner per epoch, a reserved port
//! is its vNIC's, a host that lives keeps what is plugged in there, totals only
//! grow; and in the end every port is where its machine is.
#![allow(clippy::unwrap_used)]

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

    /// Nobody takes a port from its vNIC, or from a host that lives and has it
    /// plugged in.
    fn ports_are_kept(&mut self) -> Result<(), String> {
        for (port, seen) in &self.seen {
            let Some(host) = &seen.host else { continue };
            let machine = self.world.hosts.iter().find(|of| of.name == *host).unwrap();
            let life = machine.agent.life;
            let lived = self.lives.get(host) == Some(&life) && machine.agent.runs();
            if !lived || !machine.connected {
                self.harmed.insert((port.clone(), host.clone()));
            }
            if !self.keeps(host, port, seen.vnic.as_ref()) {
                self.loose.insert((port.clone(), host.clone()));
            }
        }
        let now = self.world.now;
        for ((_, host), went) in &mut self.went {
            let machine = self.world.hosts.iter().find(|of| of.name == *host).unwrap();
            if !machine.agent.runs() || !machine.connected {
                *went = now;
            }
        }
        let lives = self.world.hosts.iter();
        self.lives = lives.map(|of| (of.name.clone(), of.agent.life)).collect();
        let Some(publisher) = self.world.publisher.core() else {
            return Ok(());
        };
        for number in 0..PORTS {
            let id = port(number);
            let Some(entry) = publisher.config().port(&id) else {
                continue;
            };
            let now = Seen {
                host: entry.value.document.host.clone(),
                vnic: entry.value.document.vnic.clone(),
                epoch: entry.value.epoch,
            };
            let before = self.seen.insert(id.clone(), now.clone());
            let before = before.unwrap_or_default();
            if before == now {
                continue;
            }
            if now.epoch < before.epoch {
                return Err(format!("{id} went from {before:?} to {now:?}"));
            }
            if before.vnic.is_some() && before.vnic != now.vnic && !self.disconnected.contains(&id)
            {
                return Err(format!("{id} was given away: from {before:?} to {now:?}"));
            }
            if before.host == now.host {
                continue;
            }
            if let Some(host) = before.host.clone() {
                let taken = (id.clone(), host.clone());
                let moved = self.moved.get(&id).map(|moved| &moved.to);
                let moved = now.host.is_some() && now.host.as_ref() == moved;
                if !moved && !self.loose.contains(&taken) && !self.harmed.contains(&taken) {
                    return Err(format!("{id} was taken from {host}: it is {now:?} now"));
                }
            }
            // What was before has nothing to say of the new placement, but that
            // it came after its machine had gone.
            if let Some(host) = now.host {
                let name = |index: &usize| self.world.hosts[*index].name == host;
                let index = (0..HOSTS).find(name).unwrap();
                let there = (id.clone(), host);
                self.harmed.remove(&there);
                let went = self.went.get(&there);
                let late = went.is_some_and(|went| self.world.now <= went.after(LATE));
                if self.plugs(index, &id) && !late {
                    self.loose.remove(&there);
                } else {
                    self.loose.insert(there);
                }
            }
        }
        Ok(())
    }

    /// Whether what is plugged in there may have the port.
    fn keeps(&self, host: &HostName, port: &PortId, connected: Option<&VnicId>) -> bool {
        let machines = &mut self.world.hosts.iter();
        let machine = machines.find(|machine| machine.name == *host).unwrap();
        let mut plugs = machine.plugged.iter().filter(|plug| plug.port == *port);
        plugs.all(|plug| {
            connected.is_none() || plug.vnic.is_none() || plug.vnic.as_ref() == connected
        })
    }

    /// Whether a machine of the port is on the host.
    fn plugs(&self, host: usize, port: &PortId) -> bool {
        let plugged = &self.world.hosts[host].plugged;
        plugged.iter().any(|plug| plug.port == *port)
    }

    /// What operators moved is their machines' once those are there and wired,
    /// and nobody's once it went. From then on no move excuses anything.
    fn moves_are_over(&mut self) {
        let now = self.world.now;
        let asked = match &self.asked {
            Some((_, Request::Move(of))) => Some(of.port.clone()),
            Some(_) | None => None,
        };
        let over = |port: &PortId, moved: &Moved| {
            let seen = &self.seen[port];
            if asked.as_ref() == Some(port) || now <= moved.at.after(HEARD) {
                return false;
            }
            if seen.host.as_ref() != Some(&moved.to) {
                return true;
            }
            let machine = &mut self.world.hosts.iter();
            let machine = machine.find(|of| of.name == moved.to).unwrap();
            let heard = self.came.get(&(port.clone(), moved.to.clone()));
            let heard = heard.is_some_and(|(came, life)| {
                machine.agent.runs() && machine.agent.life == *life && now > came.after(HEARD)
            });
            let picture = machine.datapath.picture();
            let mut wired = picture.values().filter_map(|bridge| bridge.ports.get(port));
            let wired = wired.any(|wired| wired.port.epoch == seen.epoch);
            let fits =
                |plug: &Plug| plug.port == *port && (plug.vnic.is_none() || plug.vnic == seen.vnic);
            heard && wired && machine.plugged.iter().any(fits)
        };
        let over: Vec<PortId> = self
            .moved
            .iter()
            .filter(|(port, moved)| over(port, moved))
            .map(|(port, _)| port.clone())
            .collect();
        for port in over {
            self.moved.remove(&port);
        }
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

    /// Every port is where its machine is, if that is somewhere: there alone,
    /// as the publisher has it, and wired in that epoch.
    fn everything_is_where_it_belongs(&self) -> Result<(), String> {
        let publisher = self.world.publisher.core().ok_or("no publisher runs")?;
        for number in 0..PORTS {
            let id = port(number);
            let entry = &publisher.config().port(&id).ok_or("a port is gone")?.value;
            let placed = entry.document.host.as_ref();
            let mut fits = BTreeSet::new();
            for machine in &self.world.hosts {
                let bridges = machine.datapath.picture();
                let mut wired = bridges.values().filter_map(|bridge| bridge.ports.get(&id));
                let wired = wired.next().map(|plugged| plugged.port.epoch);
                let wanted = (placed == Some(&machine.name)).then_some(entry.epoch);
                if wired != wanted {
                    return Err(format!(
                        "{} has {id} in epoch {wired:?}, and should have it in {wanted:?}",
                        machine.name
                    ));
                }
                let may = |plug: &&Plug| {
                    plug.port == id
                        && (plug.vnic.is_none()
                            || entry.document.vnic.is_none()
                            || plug.vnic == entry.document.vnic)
                };
                if machine.plugged.iter().any(|plug| may(&plug)) {
                    fits.insert(&machine.name);
                }
            }
            // Where an operator said that it is to be, it is.
            let moved = self.moved.get(&id).map(|moved| &moved.to);
            let by_operator = placed.is_some() && placed == moved;
            let is_well = match placed {
                None => fits.is_empty(),
                Some(host) => fits.contains(host) || by_operator,
            };
            if !is_well {
                return Err(format!("{id} is on {placed:?}, its machine is on {fits:?}"));
            }
        }
        Ok(())
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
