// SPDX-License-Identifier: Apache-2.0
//! What ports count while their devices come and go, seed by seed: a device
//! outlives its plug and is plugged into another port, rows and devices are made
//! anew, the switch opens devices anew or counts from nothing, counters are
//! absent for a while, and agents, services and the bus go and come. A total
//! never exceeds what really passed, and is that once everything has settled.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use dvs_schemas::PortId;
use dvs_schemas::v1::Counters;
use dvs_tests::simulation::laws::{self, Totals};
use dvs_tests::simulation::operators::Operators;
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::wishes::Wish;
use dvs_tests::simulation::world::{Place, Plug, World};
use host_agent::datapath::{Device, Mishap};
use serde_json::{Value, json};

/// Seeds per run; `DVS_SEEDS=10000` for a night, `DVS_SEED=7` for one, with
/// `DVS_TRACE=1` to see what happens in it.
const SEEDS: u64 = 48;
/// What happens per seed.
const HAPPENINGS: usize = 60;
/// Hosts whose devices come and go.
const BUSY_HOSTS: usize = 3;
/// Ports whose devices those are.
const PORTS: usize = 4;
/// Longest time in ms for which a host is off the bus or its datapath away.
const AWAY: u64 = 20_000;
/// Simulated time within which everything is told: a collector that was away is
/// told again after a minute at most.
const HEALED: Duration = Duration::from_secs(200);

fn port(number: usize) -> PortId {
    format!("p{number}").parse().unwrap()
}

fn plug(number: usize) -> Plug {
    Plug {
        switch: "prod".parse().unwrap(),
        port: port(number),
        vnic: Some(format!("vm-{number}/eth0").parse().unwrap()),
    }
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

/// What may happen in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing by which a frame could stay unknown.
    Calm,
    /// All of it.
    Rough,
}

/// One seed's world.
struct Life {
    seed: u64,
    kind: Kind,
    random: fastrand::Rng,
    world: World,
    operators: Operators,
    totals: Totals,
    /// Devices of each host that are plugged in nowhere.
    shelves: Vec<Vec<Device>>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut life = Self {
            seed,
            kind: match seed % 3 {
                0 => Kind::Calm,
                _ => Kind::Rough,
            },
            random: fastrand::Rng::with_seed(seed),
            world: World::new(seed, Weather::FAIR),
            operators: Operators::default(),
            totals: Totals::default(),
            shelves: vec![Vec::new(); BUSY_HOSTS],
        };
        life.run(Duration::from_secs(5));
        life.ask(site(10));
        life.run(Duration::from_secs(5));
        life
    }

    fn hold(&self, law: Result<(), String>) {
        law.unwrap_or_else(|broken| {
            panic!("DVS_SEED={} at {}: {broken}", self.seed, self.world.now)
        });
    }

    fn run(&mut self, within: Duration) {
        let until = self.world.now.after(within);
        while self.world.step(until) {
            let totals = self.totals.hold(&self.world);
            self.hold(totals);
        }
        self.operators.listen(&mut self.world);
    }

    fn ask(&mut self, wish: Wish) {
        if self.operators.idle() {
            self.operators.ask(&mut self.world, wish);
        }
    }

    fn weather(&mut self) -> Weather {
        let rough = Weather {
            loss: [0.0, 0.05, 0.2][self.random.usize(0..3)],
            repeat: [0.0, 0.1, 0.5][self.random.usize(0..3)],
            delay: [5, 100, 900][self.random.usize(0..3)],
            cuts: [0.0, 0.002, 0.01][self.random.usize(0..3)],
            reboots: [0.0, 0.2][self.random.usize(0..2)],
            refusals: [0.0, 0.1][self.random.usize(0..2)],
        };
        match self.kind {
            Kind::Calm => Weather {
                cuts: 0.0,
                reboots: 0.0,
                ..rough
            },
            Kind::Rough => rough,
        }
    }

    /// A device that may be plugged in: one that was before, or a new one.
    fn device(&mut self, host: usize) -> Device {
        let shelf = &mut self.shelves[host];
        let mut device = match shelf.len() {
            0 => Device::default(),
            some => shelf.swap_remove(self.random.usize(0..some)),
        };
        if self.random.bool() {
            let more = self.random.u64(0..100);
            device.counts_elsewhere(&Counters::of_numbers([more; Counters::NUMBERS]));
        }
        device
    }

    /// Something that is plugged in on a host.
    fn plugged(&mut self, host: usize) -> Option<Plug> {
        let plugged = &self.world.hosts[host].plugged;
        let nth = self.random.usize(0..plugged.len().max(1));
        plugged.iter().nth(nth).cloned()
    }

    fn plug(&mut self, host: usize) {
        let plug = plug(self.random.usize(0..PORTS));
        if !self.world.hosts[host].plugged.contains(&plug) {
            let device = self.device(host);
            self.world.plug_device(host, &plug, device);
        }
    }

    fn unplug(&mut self, host: usize) {
        if let Some(plug) = self.plugged(host) {
            let device = self.world.unplug(host, &plug);
            self.shelves[host].extend(device);
        }
    }

    /// A device goes from one port to another at once.
    fn swap(&mut self, host: usize) {
        let Some(from) = self.plugged(host) else {
            return;
        };
        let to = plug(self.random.usize(0..PORTS));
        if let Some(device) = self.world.unplug(host, &from) {
            if self.world.hosts[host].plugged.contains(&to) {
                let before = self.world.replace_device(host, &to, device);
                self.shelves[host].extend(before);
            } else {
                self.world.plug_device(host, &to, device);
            }
        }
    }

    fn befalls(&mut self, host: usize, mishap: Mishap) {
        if let Some(plug) = self.plugged(host) {
            self.world.befall(host, &plug, mishap);
        }
    }

    /// The same to all interfaces of a host.
    fn befalls_all(&mut self, host: usize, mishap: Mishap) {
        for plug in self.world.hosts[host].plugged.clone() {
            self.world.befall(host, &plug, mishap);
        }
    }

    fn happens(&mut self, number: usize) {
        let host = self.random.usize(0..BUSY_HOSTS);
        let kinds = match self.kind {
            Kind::Calm => 13,
            Kind::Rough => 21,
        };
        match self.random.u8(0..kinds) {
            0..=2 => self.plug(host),
            3..=4 => self.unplug(host),
            5 => self.swap(host),
            6 => self.befalls(host, Mishap::RowAnew),
            7 => {
                if let Some(plug) = self.plugged(host) {
                    let device = self.device(host);
                    let before = self.world.replace_device(host, &plug, device);
                    self.shelves[host].extend(before);
                }
            }
            8 => {
                let services = [Place::Publisher, Place::Retry, Place::Collector];
                self.world.cut(services[self.random.usize(0..3)]);
            }
            9 => self.world.isolate(host, self.random.u64(100..AWAY)),
            10 => self.ask(site(100 + number as u64)),
            11 => {
                let number = self.random.usize(0..PORTS);
                let host = &self.world.hosts[self.random.usize(0..BUSY_HOSTS)].name;
                self.ask(Wish::Apply(vec![
                    json!({"kind": "Port", "name": port(number),
                    "switch": "prod", "group": "web", "host": host}),
                ]));
            }
            // Every port that is placed begins another placement where it is.
            12 => self.ask(Wish::Continue),
            13..=14 => self.world.cut(Place::Host(host)),
            15 => self.world.hide_datapath(host, self.random.u64(100..AWAY)),
            16 => self.befalls_all(host, Mishap::Silence),
            17 => self.befalls_all(host, Mishap::Answer),
            18 => self.befalls(host, Mishap::CountsAnew),
            19 => self.befalls_all(host, Mishap::CountsAnew),
            _ => self.befalls_all(host, Mishap::OpenedAnew),
        }
    }

    fn heal(&mut self) {
        self.run(Duration::from_millis(AWAY));
        self.world.set_weather(Weather::FAIR);
        for host in 0..BUSY_HOSTS {
            self.befalls_all(host, Mishap::Answer);
        }
        self.run(HEALED);
    }
}

/// Frames that passed in a seed.
fn live(seed: u64) -> u64 {
    let mut life = Life::new(seed);
    let weather = life.weather();
    life.world.set_weather(weather);
    for number in 0..HAPPENINGS {
        life.happens(number);
        let pause = [50, 2_000, 15_000][life.random.usize(0..3)];
        for _ in 0..life.random.usize(0..8) {
            life.world.pass_frames();
            let pause = Duration::from_millis(life.random.u64(0..pause));
            life.run(pause);
        }
    }
    life.heal();
    life.hold(laws::every_frame_counts(&life.world));
    let mut frames = 0;
    for (port, passed) in life.world.traffic.passed() {
        let lost = life.world.lost_of(port);
        if life.kind == Kind::Calm {
            // Drops of a row that is made anew nobody can read in time.
            assert_eq!(
                (lost.ingress_packets, lost.egress_packets),
                (0, 0),
                "DVS_SEED={seed}: {port}"
            );
        }
        frames += passed.ingress_packets;
    }
    frames
}

/// This half's seeds. Two tests, so that they share the machine's cores.
fn the_law_holds(half: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let all = match number("DVS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DVS_SEEDS").unwrap_or(SEEDS),
    };
    let frames: Vec<u64> = all.filter(|seed| seed % 2 == half).map(live).collect();
    if frames.len() >= 20 {
        // Frames did pass, or the law was never tried.
        assert!(frames.iter().sum::<u64>() > 100 * frames.len() as u64);
    }
}

#[test]
fn what_passed_is_counted_once_first_half() {
    the_law_holds(0);
}

#[test]
fn what_passed_is_counted_once_second_half() {
    the_law_holds(1);
}
