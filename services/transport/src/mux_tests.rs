// SPDX-License-Identifier: Apache-2.0
//! What must hold of the mux under any order, repetition and loss of replies.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn host(n: u8) -> HostName {
    format!("h{n}").parse().unwrap()
}

fn hosts(names: &[u8]) -> Arc<[HostName]> {
    names.iter().map(|n| host(*n)).collect()
}

fn answered(text: &'static str) -> CallResult {
    CallResult::Answered(Bytes::from_static(text.as_bytes()))
}

fn outcome(n: u8, call: usize, result: CallResult) -> Outcome {
    Outcome {
        host: host(n),
        call,
        result,
    }
}

#[test]
fn a_fan_out_ends_with_its_last_host() {
    let now = Instant::now();
    let mut mux = Mux::default();
    let (batch, tokens) = mux.begin(
        [Asked::Many(hosts(&[1, 2, 2]))],
        now + Duration::from_secs(1),
    );
    mux.reply(tokens[0], Speaker::Host("h2"), answered("a"));
    let first = Delivery {
        batch,
        outcomes: vec![outcome(2, 0, answered("a"))],
        ended: false,
    };
    assert_eq!(mux.deliveries(), [first]);
    mux.reply(tokens[0], Speaker::Host("h1"), answered("b"));
    let last = Delivery {
        batch,
        outcomes: vec![outcome(1, 0, answered("b"))],
        ended: true,
    };
    assert_eq!(mux.deliveries(), [last]);
    assert!(mux.is_empty());
    assert_eq!(mux.next_deadline(), None);
}

#[test]
fn a_batch_that_asks_nobody_ends_at_once() {
    let mut mux = Mux::default();
    for calls in [vec![], vec![Asked::Many(hosts(&[]))]] {
        let (batch, _) = mux.begin(calls, Instant::now());
        assert_eq!(
            mux.deliveries(),
            [Delivery {
                batch,
                outcomes: vec![],
                ended: true
            }]
        );
        assert!(mux.is_empty());
    }
}

#[test]
fn the_server_speaks_for_all_hosts_that_have_not_spoken() {
    let mut mux = Mux::default();
    let (batch, tokens) = mux.begin([Asked::Many(hosts(&[1, 2]))], Instant::now());
    mux.reply(tokens[0], Speaker::Host("h1"), answered("a"));
    mux.reply(tokens[0], Speaker::All, CallResult::NoResponder);
    let outcomes = vec![
        outcome(1, 0, answered("a")),
        outcome(2, 0, CallResult::NoResponder),
    ];
    assert_eq!(
        mux.deliveries(),
        [Delivery {
            batch,
            outcomes,
            ended: true
        }]
    );
}

#[test]
fn late_duplicate_and_foreign_replies_are_counted_and_change_nothing() {
    let now = Instant::now();
    let mut mux = Mux::default();
    let calls = [
        Asked::One(host(1)),
        Asked::Many(hosts(&[1, 2])),
        Asked::One(host(3)),
    ];
    let (batch, tokens) = mux.begin(calls, now);
    mux.reply(
        tokens[0],
        Speaker::Host("h2"),
        answered("another host's word"),
    );
    mux.reply(tokens[0], Speaker::All, CallResult::NoResponder);
    mux.reply(tokens[1], Speaker::Host("h3"), answered("not asked"));
    mux.reply(Token(99), Speaker::Host("h1"), answered("never was"));
    mux.reply(tokens[1], Speaker::Host("h1"), answered("a"));
    mux.reply(tokens[1], Speaker::Host("h1"), answered("b"));
    mux.reply(tokens[2], Speaker::Host("h3"), answered("c"));
    mux.reply(tokens[2], Speaker::Host("h3"), answered("d"));
    let outcomes = vec![outcome(1, 1, answered("a")), outcome(3, 2, answered("c"))];
    assert_eq!(
        mux.deliveries(),
        [Delivery {
            batch,
            outcomes,
            ended: false
        }]
    );
    assert_eq!(
        mux.ignored(),
        Ignored {
            late: 1,
            duplicate: 1,
            foreign: 4
        }
    );
}

#[test]
fn deadlines_end_their_own_batch_only() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut mux = Mux::default();
    let (second, _) = mux.begin([Asked::One(host(2))], later);
    let (first, _) = mux.begin([Asked::One(host(1))], now);
    mux.expire(now);
    let timed_out = |batch, n| Delivery {
        batch,
        outcomes: vec![outcome(n, 0, CallResult::TimedOut)],
        ended: true,
    };
    assert_eq!(mux.deliveries(), [timed_out(first, 1)]);
    assert_eq!(mux.next_deadline(), Some(later));
    mux.expire(later);
    assert_eq!(mux.deliveries(), [timed_out(second, 2)]);
}

/// Something that can happen to a mux; numbers are taken modulo what exists.
#[derive(Debug, Clone)]
enum Step {
    Begin {
        calls: Vec<Vec<u8>>,
        direct: bool,
        within: u64,
    },
    Reply {
        token: u64,
        host: u8,
    },
    Unheard {
        token: u64,
    },
    NotSent {
        token: u64,
    },
    Pass {
        millis: u64,
    },
    Cancel {
        batch: usize,
    },
    Deliver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (prop::collection::vec(prop::collection::vec(0..6_u8, 0..5), 0..4), any::<bool>(), 0..40_u64)
            .prop_map(|(calls, direct, within)| Step::Begin { calls, direct, within }),
        20 => (0..24_u64, 0..7_u8).prop_map(|(token, host)| Step::Reply { token, host }),
        1 => (0..24_u64).prop_map(|token| Step::Unheard { token }),
        1 => (0..24_u64).prop_map(|token| Step::NotSent { token }),
        2 => (0..10_u64).prop_map(|millis| Step::Pass { millis }),
        1 => any::<usize>().prop_map(|batch| Step::Cancel { batch }),
        4 => Just(Step::Deliver),
    ]
}

/// Runs the steps beside a model: who was asked, and who has ended.
#[derive(Default)]
struct Run {
    mux: Mux,
    asked: BTreeMap<BatchId, BTreeSet<(usize, HostName)>>,
    heard: BTreeMap<BatchId, BTreeSet<(usize, HostName)>>,
    ended: BTreeSet<BatchId>,
    cancelled: BTreeSet<BatchId>,
}

impl Run {
    fn begin(&mut self, calls: &[Vec<u8>], direct: bool, deadline: Instant) {
        let calls: Vec<Asked> = if direct {
            calls
                .iter()
                .flatten()
                .map(|n| Asked::One(host(*n)))
                .collect()
        } else {
            calls
                .iter()
                .map(|names| Asked::Many(hosts(names)))
                .collect()
        };
        let mut pairs = BTreeSet::new();
        for (call, asked) in calls.iter().enumerate() {
            match asked {
                Asked::One(host) => drop(pairs.insert((call, host.clone()))),
                Asked::Many(hosts) => pairs.extend(hosts.iter().map(|host| (call, host.clone()))),
            }
        }
        let count = calls.len();
        let (batch, tokens) = self.mux.begin(calls, deadline);
        assert_eq!(tokens.len(), count);
        self.asked.insert(batch, pairs);
    }

    fn deliver(&mut self) {
        for Delivery {
            batch,
            outcomes,
            ended,
        } in self.mux.deliveries()
        {
            assert!(!self.ended.contains(&batch), "outcomes after the end");
            assert!(
                !self.cancelled.contains(&batch),
                "outcomes after the cancel"
            );
            let heard = self.heard.entry(batch).or_default();
            for Outcome {
                host,
                call,
                result: _,
            } in outcomes
            {
                assert!(
                    self.asked[&batch].contains(&(call, host.clone())),
                    "an outcome nobody asked for"
                );
                assert!(heard.insert((call, host)), "two outcomes for one host");
            }
            assert_eq!(
                ended,
                *heard == self.asked[&batch],
                "the end is where the last host is"
            );
            if ended {
                self.ended.insert(batch);
            }
        }
    }

    fn step(&mut self, step: Step, now: &mut Instant) {
        match step {
            Step::Begin {
                calls,
                direct,
                within,
            } => {
                self.begin(&calls, direct, *now + Duration::from_millis(within));
            }
            Step::Reply { token, host } => {
                self.mux.reply(
                    Token(token),
                    Speaker::Host(&format!("h{host}")),
                    answered("x"),
                );
            }
            Step::Unheard { token } => {
                self.mux
                    .reply(Token(token), Speaker::All, CallResult::NoResponder)
            }
            Step::NotSent { token } => self.mux.not_sent(Token(token), "the bus is away"),
            Step::Pass { millis } => {
                *now += Duration::from_millis(millis);
                self.mux.expire(*now);
                assert!(
                    self.mux
                        .next_deadline()
                        .is_none_or(|deadline| deadline > *now)
                );
            }
            Step::Cancel { batch } => {
                let known: Vec<_> = self.asked.keys().copied().collect();
                if let Some(batch) = known.get(batch % known.len().max(1)).copied()
                    && !self.ended.contains(&batch)
                {
                    self.mux.cancel(batch);
                    self.cancelled.insert(batch);
                }
            }
            Step::Deliver => self.deliver(),
        }
    }
}

proptest! {
    #[test]
    fn every_host_of_a_batch_ends_in_exactly_one_outcome(steps in prop::collection::vec(step(), 0..120)) {
        let mut now = Instant::now();
        let mut run = Run::default();
        for step in steps {
            run.step(step, &mut now);
        }
        run.mux.expire(now + Duration::from_secs(1));
        run.deliver();
        let open: BTreeSet<_> = run.asked.keys().copied().collect();
        prop_assert_eq!(&open - &run.cancelled, run.ended);
        prop_assert!(run.mux.holds_nothing(), "something was left behind");
    }
}
