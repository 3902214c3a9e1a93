// SPDX-License-Identifier: Apache-2.0
//! Random histories of puts, settlements, tries, operators and crashes against
//! a model so naive that it is obviously right.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_schemas::v1::{EntrySelection, Queue, RenderReply, RetryPut};
use harness::{AnyKey, Leg, World, put_of, repush, rip, settled};
use proptest::prelude::*;
use retry::{Action, Answer, Event, FlightId, IN_FLIGHT};

#[derive(Debug, Clone)]
enum Step {
    Put { key: usize, revision: u64 },
    Settle { host: usize, revision: u64 },
    Later { millis: u64 },
    Render { nth: usize, ahead: u64 },
    Cancelled { nth: usize },
    NotRendered { nth: usize },
    Applied { nth: usize },
    Failed { nth: usize },
    Operate { action: Action, key: usize },
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..KEYS, 1..20_u64).prop_map(|(key, revision)| Step::Put { key, revision }),
        2 => (0..2_usize, 1..20_u64).prop_map(|(host, revision)| Step::Settle { host, revision }),
        6 => (0..3_000_u64).prop_map(|millis| Step::Later { millis }),
        6 => (any::<usize>(), 0..3_u64).prop_map(|(nth, ahead)| Step::Render { nth, ahead }),
        1 => any::<usize>().prop_map(|nth| Step::Cancelled { nth }),
        2 => any::<usize>().prop_map(|nth| Step::NotRendered { nth }),
        6 => any::<usize>().prop_map(|nth| Step::Applied { nth }),
        4 => any::<usize>().prop_map(|nth| Step::Failed { nth }),
        2 => (prop_oneof![Just(Action::Kick), Just(Action::Park), Just(Action::Cancel)], 0..KEYS)
            .prop_map(|(action, key)| Step::Operate { action, key }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..120)
}

const KEYS: usize = 6;

fn key(n: usize) -> AnyKey {
    let host = ["h0", "h1"][n % 2];
    match n / 2 {
        0 => AnyKey::Repush(repush(host, "prod")),
        1 => AnyKey::Rip(rip(host, "prod", "p1")),
        _ => AnyKey::Rip(rip(host, "prod", "p2")),
    }
}

fn host_of(key: &AnyKey) -> &str {
    match key {
        AnyKey::Repush(key) => key.host.as_str(),
        AnyKey::Rip(key) => key.host.as_str(),
    }
}

/// What must be in the queues: everything put and not covered since.
#[derive(Default)]
struct Model {
    entries: BTreeMap<AnyKey, Expected>,
}

struct Expected {
    newest: u64,
    parked: bool,
    /// The flight it is in, and the newest revision put since its start.
    flight: Option<(FlightId, u64)>,
}

impl Model {
    fn put(&mut self, key: AnyKey, revision: u64) {
        let entry = self.entries.entry(key).or_insert(Expected {
            newest: 0,
            parked: false,
            flight: None,
        });
        entry.newest = entry.newest.max(revision);
        if let Some((_, put)) = &mut entry.flight {
            *put = (*put).max(revision);
        }
    }

    /// A flight ended; it did what covers all up to `covers`, or nothing.
    fn land(&mut self, key: &AnyKey, id: FlightId, covers: Option<u64>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let Some((flight, put)) = entry.flight else {
            return;
        };
        if flight != id {
            return;
        }
        entry.flight = None;
        if covers.is_some_and(|covers| put <= covers) {
            self.entries.remove(key);
        }
    }
}

struct Run {
    world: World,
    model: Model,
    /// What the publisher has at least: everything that was put.
    revision: u64,
    sent: BTreeMap<FlightId, u64>,
    /// Flights that the model knows of.
    noted: BTreeSet<FlightId>,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            world: World::new(seed),
            model: Model::default(),
            revision: 0,
            sent: BTreeMap::new(),
            noted: BTreeSet::new(),
        }
    }

    fn nth(&self, nth: usize, calling: bool) -> Option<(FlightId, AnyKey)> {
        let legs: Vec<_> = self
            .world
            .air
            .iter()
            .filter(|(_, (_, leg))| matches!(leg, Leg::Call(_)) == calling)
            .map(|(id, (key, _))| (*id, key.clone()))
            .collect();
        (!legs.is_empty()).then(|| legs[nth % legs.len()].clone())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { key: n, revision } => {
                self.revision = self.revision.max(revision);
                self.model.put(key(n), revision);
                self.world.put(put_of(&key(n), revision));
            }
            Step::Settle { host, revision } => {
                let host = ["h0", "h1"][host];
                self.model
                    .entries
                    .retain(|key, entry| host_of(key) != host || entry.newest > revision);
                self.world.put(settled(host, "prod", revision));
            }
            Step::Later { millis } => self.world.advance(Duration::from_millis(millis)),
            Step::Render { nth, ahead } => {
                let Some((id, _)) = self.nth(nth, false) else {
                    return;
                };
                self.sent.insert(id, self.revision + ahead);
                self.world.render(id, self.revision + ahead);
            }
            Step::Cancelled { nth } => {
                let Some((flight, key)) = self.nth(nth, false) else {
                    return;
                };
                self.model.land(&key, flight, Some(0));
                let result = Ok(RenderReply::Cancelled {});
                self.world.come_back(Event::Rendered { flight, result });
            }
            Step::NotRendered { nth } => {
                let Some((flight, key)) = self.nth(nth, false) else {
                    return;
                };
                self.model.land(&key, flight, None);
                let result = Err("away".to_owned());
                self.world.come_back(Event::Rendered { flight, result });
            }
            Step::Applied { nth } => {
                let Some((id, key)) = self.nth(nth, true) else {
                    return;
                };
                let covers = self.sent[&id];
                self.model.land(&key, id, Some(covers));
                if let AnyKey::Repush(_) = key {
                    self.model.entries.retain(|other, entry| match other {
                        AnyKey::Repush(_) => true,
                        AnyKey::Rip(_) => host_of(other) != host_of(&key) || entry.newest > covers,
                    });
                }
                self.world.apply(id);
            }
            Step::Failed { nth } => {
                let Some((id, key)) = self.nth(nth, true) else {
                    return;
                };
                self.model.land(&key, id, None);
                self.world.answer(id, Answer::TimedOut);
            }
            Step::Operate { action, key: n } => self.operate(action, &key(n)),
            Step::Crash => {
                self.world.crash();
                self.sent.clear();
                self.noted.clear();
                for entry in self.model.entries.values_mut() {
                    entry.flight = None;
                }
            }
        }
        self.note_launches();
    }

    fn operate(&mut self, action: Action, key: &AnyKey) {
        let selection = match key {
            AnyKey::Repush(key) => EntrySelection {
                queue: Some(Queue::Repush),
                host: Some(key.host.clone()),
                switch: Some(key.switch.clone()),
                port: None,
            },
            AnyKey::Rip(key) => EntrySelection {
                queue: Some(Queue::Rip),
                host: Some(key.host.clone()),
                switch: Some(key.switch.clone()),
                port: Some(key.port.clone()),
            },
        };
        let expected = u64::from(self.model.entries.contains_key(key));
        match (action, self.model.entries.get_mut(key)) {
            (_, None) => {}
            (Action::Kick, Some(entry)) => entry.parked = false,
            (Action::Park, Some(entry)) => {
                entry.parked = true;
                entry.flight = None;
            }
            (Action::Cancel, Some(_)) => drop(self.model.entries.remove(key)),
        }
        assert_eq!(self.world.act(action, selection), Ok(expected));
    }

    /// New flights in the air belong to entries that may be tried.
    fn note_launches(&mut self) {
        for (id, (key, leg)) in &self.world.air {
            if !self.noted.insert(*id) {
                continue;
            }
            assert!(matches!(leg, Leg::Render(_)));
            let entry = self.model.entries.get_mut(key);
            let entry = entry.unwrap_or_else(|| panic!("{key:?} was tried without an entry"));
            assert!(!entry.parked, "{key:?} was tried while parked");
            assert_eq!(entry.flight, None, "{key:?} was tried twice at once");
            entry.flight = Some((*id, 0));
        }
    }

    fn check(&mut self) {
        let listed = self.world.list();
        self.note_launches();
        let expected: Vec<_> = self
            .model
            .entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.newest, entry.parked))
            .collect();
        let found: Vec<_> = listed
            .iter()
            .map(|(key, state)| (key.clone(), state.revision.0, state.next_try.is_none()))
            .collect();
        assert_eq!(found, expected);
        let latest = self.world.now.after(self.world.settings.backoff.cap);
        for state in listed.values() {
            assert!(state.attempts >= 1 && state.next_try.is_none_or(|next| next <= latest));
        }
        assert!(self.world.core.in_flight() <= IN_FLIGHT);
        assert_eq!(self.world.core.in_flight(), self.world.air.len());
    }

    /// When hosts and publisher answer, every entry that isn't parked ends.
    fn converge(&mut self) {
        let operator = EntrySelection {
            switch: Some("prod".parse().unwrap()),
            ..EntrySelection::default()
        };
        self.world.act(Action::Kick, operator).unwrap();
        for entry in self.model.entries.values_mut() {
            entry.parked = false;
        }
        self.note_launches();
        for _ in 0..20 * KEYS {
            if let Some((id, _)) = self.nth(0, false) {
                self.step(Step::Render { nth: 0, ahead: 0 });
                assert!(self.sent.contains_key(&id));
            } else if self.nth(0, true).is_some() {
                self.step(Step::Applied { nth: 0 });
            } else {
                self.step(Step::Later { millis: 1_000 });
            }
            self.check();
        }
        assert!(self.world.list().is_empty());
        assert_eq!(self.world.put(RetryPut::default()), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_queues_hold_what_was_put_and_not_done_since(seed: u64, steps in steps()) {
        let mut run = Run::new(seed >> 1);
        for step in steps {
            run.step(step);
            run.check();
        }
        run.converge();
    }

    #[test]
    fn the_same_events_and_times_give_the_same_decisions(seed in 0..u64::MAX / 2, steps in steps()) {
        let history = |steps: Vec<Step>| {
            let mut run = Run::new(seed);
            let mut seen = Vec::new();
            for step in steps {
                run.step(step);
                let listed = run.world.list();
                run.note_launches();
                seen.push((listed, run.world.air.clone()));
            }
            seen
        };
        prop_assert_eq!(history(steps.clone()), history(steps));
    }
}
