// SPDX-License-Identifier: Apache-2.0
//! The publisher falls back to a backup while machines come and go: hosts that
//! got further follow another history, and have no say in where ports are, also
//! when one of them is silent for long, and the publisher is started anew.

use std::time::Duration;

use dvs_tests::simulation::operators::Operators;
use dvs_tests::simulation::placements::Placements;
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::world::{HOSTS, Place};

use super::{Life, seeds, site};

/// What happens to machines before and after the publisher falls back.
const HAPPENINGS: usize = 25;

/// In milliseconds: longer than a host may be silent after a start before
/// another one takes its port over, which is three minutes and one.
const SILENT: u64 = 300_000;

/// Longer than anything is on its way.
const QUIET: Duration = Duration::from_secs(5);

impl Life {
    fn run_held(&mut self, within: Duration, placements: &mut Placements) {
        let until = self.world.now.after(within);
        while self.world.step(until) {
            let kept = placements.hold(&self.world);
            self.hold(kept);
        }
    }

    /// A host that follows another history falls silent, and the publisher, which
    /// has heard that, starts anew.
    fn fall_silent(&mut self) {
        let publisher = self.world.publisher.core();
        let diverged = publisher.and_then(|core| core.fleet().diverged().next());
        let name = diverged.map(|(name, _)| name.clone());
        let mut hosts = self.world.hosts.iter();
        if let Some(host) = hosts.position(|machine| Some(&machine.name) == name.as_ref()) {
            self.world.isolate(host, SILENT);
            self.world.cut(Place::Publisher);
        }
    }
}

/// Returns how many hosts followed another history in the end.
fn fall_back(seed: u64) -> usize {
    let mut life = Life::new(seed);
    let mut operators = Operators::default();
    let mut placements = Placements::default();
    life.run_held(QUIET, &mut placements);
    operators.ask(&mut life.world, site());
    while !operators.listen(&mut life.world) {
        life.run_held(Duration::from_millis(100), &mut placements);
    }
    let mut copy = None;
    // The later, the more hosts follow this ledger still, and wait for ports of
    // the others.
    let copied = life.random.usize(HAPPENINGS / 2..HAPPENINGS);
    for happening in 0..2 * HAPPENINGS {
        if happening == copied {
            life.run_held(QUIET, &mut placements);
            copy = Some(life.world.publisher.copy());
        }
        if happening == HAPPENINGS
            && let Some(copy) = &copy
        {
            life.world.set_weather(Weather::FAIR);
            life.run_held(QUIET, &mut placements);
            life.world.put_back_store(copy);
            placements.forget();
            life.run_held(QUIET, &mut placements);
            life.world.set_weather(Weather {
                loss: 0.1,
                repeat: 0.2,
                delay: 300,
                ..Weather::FAIR
            });
            life.fall_silent();
        }
        match life.random.u8(0..8) {
            0..=5 => life.power(),
            6 => {
                let (host, ms) = (life.random.usize(0..HOSTS), life.random.u64(100..90_000));
                life.world.isolate(host, ms);
            }
            _ => life.world.cut(Place::Publisher),
        }
        let pause = Duration::from_millis(life.random.u64(1..20_000));
        life.run_held(pause, &mut placements);
    }
    life.world.set_weather(Weather::FAIR);
    life.run_held(Duration::from_secs(400), &mut placements);
    let publisher = life.world.publisher.core().unwrap();
    publisher.fleet().diverged().count()
}

#[test]
fn a_host_of_another_history_has_no_say_in_where_ports_are() {
    let all = [0, 1].into_iter().flat_map(seeds);
    let diverged: Vec<usize> = all.take(40).map(fall_back).collect();
    if diverged.len() == 40 {
        // Else nothing was tried.
        assert!(
            diverged.iter().filter(|hosts| **hosts > 0).count() > 10,
            "{diverged:?}"
        );
    }
}
