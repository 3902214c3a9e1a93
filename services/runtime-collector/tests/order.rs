// SPDX-License-Identifier: Apache-2.0
//! Histories of ports that change, move and go, told in any order: repeated,
//! with crashes in between, and with losses that heartbeats bring to light.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeMap;

use dvs_schemas::v1::{Changed, CountersOf, Live, LiveReply, PortRuntime};
use harness::{
    Publisher, World, changed, counters, gone, live_reply, placement, session, settled, state,
};
use proptest::prelude::*;
use runtime_collector::Answer;

const HOSTS: [&str; 2] = ["h0", "h1"];
const PORTS: [&str; 3] = ["p0", "p1", "p2"];

/// What happens to a port.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// It changes where it is; it comes if it is nowhere.
    Change { port: usize },
    /// It goes from where it is.
    Go { port: usize },
    /// It moves to the other host, whose agent sees it at once.
    Move { port: usize },
    /// Its counters settle.
    Settle { port: usize },
    /// A host's agent starts anew.
    Restart { host: usize },
}

fn happenings(restarts: u32) -> impl Strategy<Value = Vec<Happening>> {
    let port = 0..PORTS.len();
    let happening = prop_oneof![
        6 => port.clone().prop_map(|port| Happening::Change { port }),
        2 => port.clone().prop_map(|port| Happening::Go { port }),
        2 => port.clone().prop_map(|port| Happening::Move { port }),
        3 => port.prop_map(|port| Happening::Settle { port }),
        restarts => (0..HOSTS.len()).prop_map(|host| Happening::Restart { host }),
    ];
    prop::collection::vec(happening, 1..40)
}

#[derive(Debug, Clone)]
enum Message {
    Changed(Changed),
    Settled(dvs_schemas::v1::Settled),
}

/// What is true, and what the hosts said of it.
struct Truth {
    /// Per port: its owner, epoch, state if it is there, and its counters.
    ports: Vec<(usize, u64, Option<PortRuntime>, Option<CountersOf>)>,
    runs: Vec<(u64, u64)>,
    said: Vec<Message>,
    count: u64,
}

impl Truth {
    fn of(happenings: &[Happening]) -> Self {
        let mut truth = Self {
            ports: vec![(0, 1, None, None); PORTS.len()],
            runs: vec![(1, 0), (2, 0)],
            said: Vec::new(),
            count: 0,
        };
        for happening in happenings {
            truth.happen(*happening);
        }
        truth
    }

    fn say(&mut self, host: usize, ports: Vec<PortRuntime>, gone: Vec<dvs_schemas::v1::PortGone>) {
        let (run, seq) = &mut self.runs[host];
        *seq += 1;
        self.said.push(Message::Changed(Changed {
            gone,
            ..changed(HOSTS[host], *run, *seq, ports)
        }));
    }

    fn happen(&mut self, happening: Happening) {
        self.count += 1;
        let count = self.count;
        match happening {
            Happening::Change { port } => {
                let (host, epoch, ..) = self.ports[port];
                let state = state(PORTS[port], epoch, count);
                self.ports[port].2 = Some(state.clone());
                self.say(host, vec![state], vec![]);
            }
            Happening::Go { port } => {
                let (host, epoch, ref mut here, _) = self.ports[port];
                if here.take().is_some() {
                    self.say(host, vec![], vec![gone(PORTS[port], epoch)]);
                }
            }
            Happening::Move { port } => {
                let (from, epoch, here, _) = self.ports[port].clone();
                if here.is_some() {
                    self.say(from, vec![], vec![gone(PORTS[port], epoch)]);
                }
                let state = state(PORTS[port], epoch + 1, count);
                self.ports[port] = (1 - from, epoch + 1, Some(state.clone()), None);
                self.say(1 - from, vec![state], vec![]);
            }
            Happening::Settle { port } => {
                let (host, epoch, ref here, ref mut counted) = self.ports[port];
                if here.is_some() {
                    let of = counters(PORTS[port], epoch, count);
                    *counted = Some(of.clone());
                    let (run, seq) = &mut self.runs[host];
                    *seq += 1;
                    let event = settled(HOSTS[host], *run, *seq, vec![of]);
                    self.said.push(Message::Settled(event));
                }
            }
            Happening::Restart { host } => {
                let (run, seq) = &mut self.runs[host];
                (*run, *seq) = (*run + 2, 0);
            }
        }
    }

    /// What a host answers: one port on each page.
    fn snapshot(&self, host: usize, question: &Live) -> Answer {
        let mut here = (self.ports.iter()).filter(|(owner, _, state, _)| {
            let state = state.as_ref().filter(|state| question.wants(&state.port));
            *owner == host && state.is_some()
        });
        let page = here.next();
        let state = page.and_then(|(_, _, state, _)| state.clone());
        let counters = page.and_then(|(_, _, _, counted)| counted.clone());
        Answer::Live(LiveReply {
            session: session(self.runs[host].0),
            totals: Vec::new(),
            conditions: None,
            next: here
                .next()
                .and(state.as_ref().map(|state| state.port.clone())),
            ..live_reply(
                HOSTS[host],
                state.into_iter().collect(),
                counters.into_iter().collect(),
            )
        })
    }

    /// Where the ports are.
    fn publisher(&self) -> Publisher {
        let ports = PORTS.into_iter().zip(&self.ports);
        let at =
            ports.map(|(name, (owner, epoch, ..))| placement(name, *epoch, Some(HOSTS[*owner])));
        Publisher::Has(at.collect())
    }

    /// What must show; ports that never were are left out.
    fn states(&self) -> BTreeMap<String, PortRuntime> {
        let states = self
            .ports
            .iter()
            .filter_map(|(_, _, state, _)| state.clone());
        states
            .map(|state| (state.port.to_string(), state))
            .collect()
    }

    fn counters(&self) -> BTreeMap<String, CountersOf> {
        let counted = self
            .ports
            .iter()
            .filter_map(|(.., counted)| counted.clone());
        counted.map(|of| (of.port.to_string(), of)).collect()
    }
}

fn tell(world: &mut World, message: &Message) {
    match message.clone() {
        Message::Changed(event) => world.changed(event),
        Message::Settled(event) => world.settled(event),
    }
}

fn shown(world: &mut World) -> BTreeMap<String, PortRuntime> {
    let listed = world.list().into_iter().filter_map(|record| record.state);
    listed
        .map(|state| (state.port.to_string(), state))
        .collect()
}

/// Heartbeats until no host is asked any more.
fn heartbeats(world: &mut World, truth: &Truth) {
    for round in 0.. {
        let mut asked = false;
        for (host, (run, seq)) in truth.runs.iter().enumerate() {
            if world.heartbeat(HOSTS[host], *run, *seq).is_some() {
                asked = true;
                world.answer_all(|_, question| truth.snapshot(host, question));
            }
        }
        assert!(round < 4, "snapshots are asked for again and again");
        // The first heartbeat only raises a suspicion.
        if !asked && round >= 1 {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_and_repetition_ends_in_the_newest_state(
        happenings in happenings(0), order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        seed: u64, crash in any::<prop::sample::Index>(),
    ) {
        let truth = Truth::of(&happenings);
        let mut messages = truth.said.clone();
        if !truth.said.is_empty() {
            messages.extend(order.iter().map(|nth| nth.get(&truth.said).clone()));
        }
        fastrand::Rng::with_seed(seed).shuffle(&mut messages);
        let mut world = World::new();
        world.publisher = truth.publisher();
        let crash = if messages.is_empty() { 0 } else { crash.index(messages.len()) };
        for (nth, message) in messages.iter().enumerate() {
            tell(&mut world, message);
            if nth == crash {
                let before = world.list();
                world.crash();
                prop_assert_eq!(world.list(), before);
            }
        }
        prop_assert_eq!(shown(&mut world), truth.states());
        for (name, of) in truth.counters() {
            prop_assert_eq!(world.get(&name).unwrap().counters, Some(of.counters));
        }
    }

    #[test]
    fn what_was_lost_comes_back_by_heartbeats_and_nothing_else(
        happenings in happenings(2), kept: u64, seed: u64, crash in any::<prop::sample::Index>(),
    ) {
        let truth = Truth::of(&happenings);
        let mut messages: Vec<Message> = truth.said.iter().enumerate()
            .filter(|(nth, _)| kept >> (nth % 64) & 1 == 1)
            .map(|(_, message)| message.clone())
            .collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut messages);
        let mut world = World::new();
        world.publisher = truth.publisher();
        let crash = if messages.is_empty() { 0 } else { crash.index(messages.len()) };
        for (nth, message) in messages.iter().enumerate() {
            tell(&mut world, message);
            if nth == crash {
                world.crash();
            }
        }
        heartbeats(&mut world, &truth);
        prop_assert_eq!(shown(&mut world), truth.states());
        // Late words, even of a run that was never heard, change nothing for
        // longer than until the next heartbeats.
        for message in &truth.said {
            tell(&mut world, message);
        }
        heartbeats(&mut world, &truth);
        prop_assert_eq!(shown(&mut world), truth.states());
        for (name, of) in truth.counters() {
            prop_assert_eq!(world.get(&name).unwrap().counters, Some(of.counters));
        }
    }
}
