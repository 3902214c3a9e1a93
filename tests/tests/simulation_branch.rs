// SPDX-License-Identifier: Apache-2.0
//! Law of the simulation: a host that a change of uplinks, or of the port that
//! it lives behind itself, cuts off is back within the bound, whenever its agent
//! dies and whatever it learns of an apply, and stays out of sync until somebody
//! decides.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use config_publisher::events::Request;
use dvs_schemas::v1::ApplyRequest;
use dvs_schemas::{HostName, Timestamp};
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::world::{HOSTS, Question, World};
use host_agent::datapath::Bridge;
use host_agent::merge::EffectiveVlan;
use serde_json::{Value, json};

/// Seeds per run; `DVS_SEEDS=1000` for a night, `DVS_SEED=7` for one. Each is
/// some minutes of a fleet that is cut off again and again.
const SEEDS: u64 = 8;

/// How long hosts let a change cut them off.
const BOUND: Duration = Duration::from_secs(30);

/// What a datapath takes, and a start after a failure of the power; and another
/// try or two of what an apply left.
const SLACK: Duration = Duration::from_secs(5);

/// Since when each host is cut off, as far as its agent could do something.
struct CutOff([Option<Timestamp>; HOSTS]);

impl CutOff {
    /// Holds the law against the world.
    fn hold(&mut self, world: &World, lives: &mut [u64; HOSTS], seed: u64) {
        for (n, machine) in world.hosts.iter().enumerate() {
            let started = lives[n] != machine.agent.life || !machine.agent.runs();
            lives[n] = machine.agent.life;
            let since = &mut self.0[n];
            match (machine.connected, *since) {
                (true, _) => *since = None,
                (false, Some(began)) if !started => assert!(
                    world.now < began.after(BOUND + SLACK),
                    "seed {seed} at {}: host {n} is cut off since {began}",
                    world.now
                ),
                (false, Some(_) | None) => *since = Some(world.now),
            }
        }
    }
}

/// What hosts live on, and what of it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// The uplinks of the switch.
    Uplinks,
    /// The group of a port of each host's own.
    Port,
}

/// Where a change leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Good,
    Better,
    Dead,
}

impl Branch {
    /// Makes the world one whose hosts live on it.
    fn grow(self, world: &mut World) {
        match self {
            Self::Uplinks => world.dead = Some("dead".parse().unwrap()),
            Self::Port => {
                world.dead_vlan = Some(self.vlan(Way::Dead).try_into().unwrap());
                for host in 0..HOSTS {
                    world.lives_behind(host, own(host).parse().unwrap());
                }
            }
        }
    }

    fn vlan(self, way: Way) -> u16 {
        match way {
            Way::Good => 10,
            Way::Better => 11,
            Way::Dead => 666,
        }
    }

    fn change(self, way: Way) -> Request {
        let documents: Vec<Value> = match self {
            Self::Uplinks => {
                let uplink = match way {
                    Way::Good => "good",
                    Way::Better => "better",
                    Way::Dead => "dead",
                };
                vec![json!({"kind": "Switch", "name": "prod", "uplinks": [uplink]})]
            }
            Self::Port => {
                let group = json!({"kind": "PortGroup", "name": "hosts", "switch": "prod",
                    "policy": {"vlan": {"access": self.vlan(way)}}});
                let ports = (0..HOSTS).map(|host| {
                    json!({"kind": "Port", "name": own(host), "switch": "prod",
                        "group": "hosts", "host": format!("h{}", host + 1)})
                });
                let switch = json!({"kind": "Switch", "name": "prod"});
                [switch, group].into_iter().chain(ports).collect()
            }
        };
        let request = ApplyRequest::decode(json!(documents).to_string().as_bytes());
        Request::Apply(request.unwrap().1)
    }

    /// Whether a host has what leads nowhere.
    fn is_dead(self, bridge: &Bridge) -> bool {
        let vlan = EffectiveVlan::Access(self.vlan(Way::Dead).try_into().unwrap());
        match self {
            Self::Uplinks => bridge.settings.uplinks.contains(&"dead".parse().unwrap()),
            Self::Port => bridge
                .ports
                .values()
                .any(|own| own.port.policy.vlan == vlan),
        }
    }
}

/// The port that a host lives behind.
fn own(host: usize) -> String {
    format!("mgmt{host}")
}

fn live(branch: Branch, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed, Weather::FAIR);
    branch.grow(&mut world);
    world.rollback_after = Some(BOUND);
    let mut cut_off = CutOff([None; HOSTS]);
    let mut lives = [0; HOSTS];
    let mut run = |world: &mut World, time: Duration| {
        let until = world.now.after(time);
        while world.step(until) {
            cut_off.hold(world, &mut lives, seed);
        }
    };
    run(&mut world, Duration::from_secs(5));
    world.ask(Question::Publisher(branch.change(Way::Good)));
    run(&mut world, BOUND * 2);
    world.set_weather(Weather {
        delay: [5, 100, 900][random.usize(0..3)],
        cuts: [0.0, 0.005, 0.03][random.usize(0..3)],
        ..Weather::FAIR
    });
    world.torn = [0.0, 0.1, 0.3][random.usize(0..3)];
    for _ in 0..10 {
        let way = [Way::Good, Way::Better, Way::Dead][random.usize(0..3)];
        world.ask(Question::Publisher(branch.change(way)));
        run(&mut world, Duration::from_secs(random.u64(0..90)));
    }
    // What was rolled back is refused over and over, and cuts nobody off.
    world.set_weather(Weather::FAIR);
    world.torn = 0.0;
    // Whoever died last is there again, and hears the question.
    run(&mut world, SLACK);
    world.ask(Question::Publisher(branch.change(Way::Dead)));
    run(&mut world, BOUND * 3);
    // Who is out of sync, and what it has.
    let behind = |world: &World| -> Vec<String> {
        let entries = world.retry.core().unwrap().repush();
        let of = |host: &HostName| world.hosts.iter().find(|machine| machine.name == *host);
        let shown = entries.map(|(key, commit)| {
            let picture = of(&key.host).map(|machine| machine.datapath.picture());
            format!("{key:?} {commit:?} {picture:?}")
        });
        shown.collect()
    };
    for machine in &world.hosts {
        assert!(machine.connected, "seed {seed}");
        for bridge in machine.datapath.picture().values() {
            assert!(!branch.is_dead(bridge), "seed {seed}");
        }
    }
    assert_eq!(
        behind(&world).len(),
        HOSTS,
        "seed {seed}: hosts out of sync"
    );
    world.ask(Question::Publisher(branch.change(Way::Good)));
    run(&mut world, BOUND * 3);
    assert_eq!(
        behind(&world),
        Vec::<String>::new(),
        "seed {seed}: out of sync"
    );
}

fn all_seeds(branch: Branch) {
    match std::env::var("DVS_SEED") {
        Ok(seed) => live(branch, seed.parse().unwrap()),
        Err(_) => {
            let seeds = std::env::var("DVS_SEEDS");
            let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().unwrap());
            (0..seeds).for_each(|seed| live(branch, seed));
        }
    }
}

#[test]
fn a_host_that_a_change_of_uplinks_cuts_off_is_back_within_the_bound() {
    all_seeds(Branch::Uplinks);
}

#[test]
fn a_host_that_a_change_of_its_own_port_cuts_off_is_back_within_the_bound() {
    all_seeds(Branch::Port);
}
