// SPDX-License-Identifier: Apache-2.0
//! Law of the simulation: a host that a change of uplinks cuts off is back
//! within the bound, whenever its power fails, and stays out of sync until
//! somebody decides.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use config_publisher::events::Request;
use dvs_schemas::v1::ApplyRequest;
use dvs_schemas::{HostName, Timestamp};
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::world::{HOSTS, Question, World};
use serde_json::{Value, json};

/// Seeds per run; `DVS_SEEDS=1000` for a night, `DVS_SEED=7` for one. Each is
/// some minutes of a fleet that is cut off again and again.
const SEEDS: u64 = 8;

/// How long hosts let a change cut them off.
const BOUND: Duration = Duration::from_secs(30);

/// What a datapath takes, and a start after a failure of the power.
const SLACK: Duration = Duration::from_secs(2);

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

fn switch(uplink: &str) -> Request {
    let document: Value = json!({"kind": "Switch", "name": "prod", "uplinks": [uplink]});
    let request = ApplyRequest::decode(json!([document]).to_string().as_bytes());
    Request::Apply(request.unwrap().1)
}

fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed, Weather::FAIR);
    world.dead = Some("dead".parse().unwrap());
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
    world.ask(Question::Publisher(switch("good")));
    run(&mut world, BOUND * 2);
    world.set_weather(Weather {
        delay: [5, 100, 900][random.usize(0..3)],
        cuts: [0.0, 0.005, 0.03][random.usize(0..3)],
        ..Weather::FAIR
    });
    for _ in 0..10 {
        let uplink = ["good", "better", "dead"][random.usize(0..3)];
        world.ask(Question::Publisher(switch(uplink)));
        run(&mut world, Duration::from_secs(random.u64(0..90)));
    }
    // What was rolled back is refused over and over, and cuts nobody off.
    world.set_weather(Weather::FAIR);
    world.ask(Question::Publisher(switch("dead")));
    run(&mut world, BOUND * 3);
    let dead = "dead".parse().unwrap();
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
            assert!(!bridge.settings.uplinks.contains(&dead), "seed {seed}");
        }
    }
    assert_eq!(
        behind(&world).len(),
        HOSTS,
        "seed {seed}: hosts out of sync"
    );
    world.ask(Question::Publisher(switch("good")));
    run(&mut world, BOUND * 3);
    assert_eq!(
        behind(&world),
        Vec::<String>::new(),
        "seed {seed}: out of sync"
    );
}

#[test]
fn a_host_that_a_change_cuts_off_is_back_within_the_bound() {
    match std::env::var("DVS_SEED") {
        Ok(seed) => live(seed.parse().unwrap()),
        Err(_) => {
            let seeds = std::env::var("DVS_SEEDS");
            let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().unwrap());
            (0..seeds).for_each(live);
        }
    }
}
