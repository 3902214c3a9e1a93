// SPDX-License-Identifier: Apache-2.0
//! Two machines of one name, seed by seed: a clone with an empty disk or a
//! copied one comes beside a host; either of them freezes, thaws, dies and
//! comes back, and the publisher with them. What counts as applied is what the
//! host's agent has; who is there and well stays the host's agent; and no port
//! of it is released or placed by the other one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::{Epoch, PortId, SessionId, Timestamp};
use dvs_tests::simulation::laws;
use dvs_tests::simulation::operators::Operators;
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::wishes::Wish;
use dvs_tests::simulation::world::{Place, Plug, World};
use serde_json::{Value, json};

/// Seeds per run; `DVS_SEEDS=10000` for a night, `DVS_SEED=7` for one, with
/// `DVS_TRACE=1` to see what happens in it.
const SEEDS: u64 = 40;
/// What happens per seed.
const HAPPENINGS: usize = 40;
/// Ports whose machines are on the host of two names.
const PORTS: usize = 3;
/// Simulated time within which a host whose namesake has gone is itself: it
/// counts as absent for 15 s, says hello twice a minute, and a claim that waits
/// is repeated once.
const HEALED: Duration = Duration::from_secs(200);
/// How long after its trouble an agent may still lose its host: a question that
/// it was asked then may be answered late.
const LATE: Duration = Duration::from_secs(5);

fn port(number: usize) -> PortId {
    format!("p{number}").parse().unwrap()
}

fn site(vlan: u64) -> Wish {
    let mut documents = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod",
               "policy": {"vlan": {"access": vlan}}}),
    ];
    documents.extend((0..PORTS).map(|number| -> Value {
        json!({"kind": "Port", "name": port(number), "switch": "prod", "group": "web"})
    }));
    Wish::Apply(documents)
}

/// One seed's world, and what its laws need to know of the past.
struct Life {
    seed: u64,
    random: fastrand::Rng,
    world: World,
    operators: Operators,
    /// The machines of one name, the clone last.
    twins: Vec<usize>,
    /// Where the publisher had the ports of the host in the step before.
    placed: BTreeMap<PortId, Epoch>,
    /// The session of the host's agent in the step before.
    session: Option<SessionId>,
    /// When each twin was last frozen, down or off the bus.
    trouble: BTreeMap<usize, Timestamp>,
    /// Sessions that the host's agent had.
    sessions: u64,
}

impl Life {
    fn hold(&self, law: Result<(), String>) {
        law.unwrap_or_else(|broken| {
            panic!("DVS_SEED={} at {}: {broken}", self.seed, self.world.now)
        });
    }

    fn run(&mut self, within: Duration) {
        let until = self.world.now.after(within);
        while self.world.step(until) {
            let laws = self.look();
            self.hold(laws);
            self.hold(laws::what_counts_as_applied_is_there(&self.world));
        }
    }

    fn is_well(&self, twin: usize) -> bool {
        let machine = &self.world.hosts[twin];
        machine.connected && !machine.frozen && machine.agent.runs()
    }

    fn look(&mut self) -> Result<(), String> {
        let now = self.world.now;
        for twin in self.twins.clone() {
            if !self.is_well(twin) {
                self.trouble.insert(twin, now);
            }
        }
        let name = self.world.hosts[0].name.clone();
        let Some(session) = self.world.session(&name) else {
            return Ok(());
        };
        let agent_of = |session| {
            let mut twins = self.twins.iter().copied();
            twins.find(|twin| self.world.hosts[*twin].session() == Some(session))
        };
        // Who is there and well stays the host's agent.
        if let Some(before) = self.session.filter(|before| *before != session) {
            if session < before {
                return Err(format!("session {before} was followed by {session}"));
            }
            let was = agent_of(before);
            let in_trouble = |twin| {
                let last = self.trouble.get(&twin);
                last.is_some_and(|last| now <= last.after(LATE))
            };
            if let Some(was) = was.filter(|was| !in_trouble(*was)) {
                return Err(format!(
                    "machine {was} is there in session {before}, and {session} was begun"
                ));
            }
            self.sessions += 1;
        }
        let holds: Vec<usize> = self
            .twins
            .iter()
            .copied()
            .filter(|twin| self.world.hosts[*twin].session() == Some(session))
            .collect();
        if holds.len() > 1 {
            return Err(format!("machines {holds:?} are in session {session}"));
        }
        // What ends a placement is the host's agent, for want of a plug.
        let mut placed = BTreeMap::new();
        let publisher = self.world.publisher.core().unwrap();
        for id in (0..PORTS).map(port) {
            let entry = publisher.config().port(&id).map(|entry| &entry.value);
            if let Some(entry) = entry.filter(|port| port.document.host.as_ref() == Some(&name)) {
                placed.insert(id, entry.epoch);
            }
        }
        for (id, epoch) in &self.placed {
            let agent = agent_of(session);
            let is_plugged = agent.is_some_and(|twin| {
                let plugged = &self.world.hosts[twin].plugged;
                plugged.iter().any(|plug| plug.port == *id)
            });
            if placed.get(id) != Some(epoch) && is_plugged {
                return Err(format!(
                    "port {id} is plugged in where the host's agent is, and its epoch {epoch} ended"
                ));
            }
        }
        self.placed = placed;
        self.session = Some(session);
        Ok(())
    }

    fn happens(&mut self, vlan: u64) {
        let twin = self.twins[self.random.usize(0..self.twins.len())];
        match self.random.u8(0..8) {
            0..=1 if self.world.hosts[twin].frozen => {
                let anew = self.random.bool();
                self.world.thaw(twin, anew);
            }
            // What comes to an agent that stands still is not in order.
            0..=1 if self.world.hosts[twin].connected => self.world.freeze(twin),
            2 => self.world.cut(Place::Publisher),
            3 if !self.world.hosts[twin].frozen => self.world.cut(Place::Host(twin)),
            4 if !self.world.hosts[twin].frozen => {
                let ms = self.random.u64(100..40_000);
                self.world.isolate(twin, ms);
            }
            5 if self.twins.len() == 1 => {
                let with_disk = self.random.bool();
                self.twins.push(self.world.copy_host(0, with_disk));
            }
            6 if self.operators.idle() => self.operators.ask(&mut self.world, site(vlan)),
            _ => {}
        }
    }
}

fn live(seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    // Questions come in time; what else is wrong is that there are two.
    let weather = Weather {
        delay: [5, 40][random.usize(0..2)],
        repeat: [0.0, 0.1][random.usize(0..2)],
        ..Weather::FAIR
    };
    let mut life = Life {
        seed,
        random,
        world: World::new(seed, Weather::FAIR),
        operators: Operators::default(),
        twins: vec![0],
        placed: BTreeMap::new(),
        session: None,
        trouble: BTreeMap::new(),
        sessions: 0,
    };
    life.run(Duration::from_secs(5));
    life.operators.ask(&mut life.world, site(10));
    for number in 0..PORTS {
        let plug = Plug {
            switch: "prod".parse().unwrap(),
            vnic: None,
            port: port(number),
        };
        life.world.plug(0, &plug);
    }
    while !life.operators.listen(&mut life.world) {
        life.run(Duration::from_millis(100));
    }
    life.run(Duration::from_secs(90));
    assert_eq!(
        life.placed.len(),
        PORTS,
        "DVS_SEED={seed}: nothing is placed"
    );

    life.world.set_weather(weather);
    for happening in 0..HAPPENINGS {
        life.happens(100 + happening as u64);
        let pause = [300, 3_000, 30_000][life.random.usize(0..3)];
        let pause = life.random.u64(10..pause);
        life.run(Duration::from_millis(pause));
        life.operators.listen(&mut life.world);
    }

    life.world.set_weather(Weather::FAIR);
    if life.world.hosts[0].frozen {
        life.world.thaw(0, false);
    }
    for twin in life.twins.split_off(1) {
        life.world.stop(twin);
    }
    while !life.operators.listen(&mut life.world) {
        life.run(Duration::from_millis(100));
    }
    life.run(HEALED);
    let machine = &life.world.hosts[0];
    let (session, own) = (life.world.session(&machine.name), machine.session());
    assert_eq!(
        session, own,
        "DVS_SEED={seed}: the host is not itself again"
    );
    assert_eq!(
        life.placed.len(),
        PORTS,
        "DVS_SEED={seed}: ports are elsewhere"
    );
    let picture = machine.datapath.picture();
    let wired: Vec<_> = picture.values().flat_map(|bridge| &bridge.ports).collect();
    let wired = wired.into_iter();
    let wired: BTreeMap<_, _> = wired
        .map(|(id, port)| (id.clone(), port.port.epoch))
        .collect();
    assert_eq!(wired, life.placed, "DVS_SEED={seed}: not wired as placed");
    life.sessions
}

/// This half's seeds. Two tests, so that they share the machine's cores.
fn the_laws_hold(half: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let all = match number("DVS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DVS_SEEDS").unwrap_or(SEEDS),
    };
    let sessions: Vec<u64> = all.filter(|seed| seed % 2 == half).map(live).collect();
    if sessions.len() >= 20 {
        // Agents did follow each other, or the laws were never tried.
        assert!(sessions.iter().sum::<u64>() > 3 * sessions.len() as u64);
    }
}

#[test]
fn one_agent_is_the_host_s_at_a_time_first_half() {
    the_laws_hold(0);
}

#[test]
fn one_agent_is_the_host_s_at_a_time_second_half() {
    the_laws_hold(1);
}
