// SPDX-License-Identifier: Apache-2.0
//! Which reply belongs to which call, and how each call ends: the pure half of
//! the network transport component.
//!
//! A batch is a set of calls; a call is one message, to one host or to many at
//! once. Whatever comes, in whatever order, late, twice or never: each host of
//! each call ends in exactly one [`Outcome`], at the batch's deadline at the
//! latest. Time is given, never read; nothing here waits or sends.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dvs_schemas::ids::HostName;

/// How the call to one host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The host.
    pub host: HostName,
    /// Place of the call in its batch, from 0.
    pub call: usize,
    /// How it ended.
    pub result: CallResult,
}

/// What is known of a call when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallResult {
    /// The host answered; the payload says what it did.
    Answered(Bytes),
    /// No answer by the deadline; the host may have done it.
    TimedOut,
    /// Nobody listened on the subject: the host wasn't there.
    NoResponder,
    /// The message never left, and why.
    NotSent(String),
}

/// Names one call in its reply subject. Never used twice by one [`Mux`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one batch. Never used twice by one [`Mux`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u64);

/// Whom a call asks.
#[derive(Debug, Clone)]
pub enum Asked {
    /// One host.
    One(HostName),
    /// All of these with one message; a host named twice counts once.
    Many(Arc<[HostName]>),
}

/// Who speaks in a reply, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker<'a> {
    /// A host.
    Host(&'a str),
    /// The server, for every host of a fan-out: nobody listens.
    All,
}

/// Outcomes of one batch that are ready to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The batch.
    pub batch: BatchId,
    /// Its next outcomes; empty only for a batch that asked nobody.
    pub outcomes: Vec<Outcome>,
    /// Nothing follows: every host has its outcome.
    pub ended: bool,
}

/// Replies that changed nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// To a call that had ended.
    pub late: u64,
    /// From a host that had its outcome.
    pub duplicate: u64,
    /// From a host that wasn't asked, or to a call that never was.
    pub foreign: u64,
}

impl Ignored {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            late,
            duplicate,
            foreign,
        } = *self;
        late + duplicate + foreign
    }
}

/// The calls under way.
#[derive(Debug, Default)]
pub struct Mux {
    next_token: u64,
    next_batch: u64,
    slots: HashMap<Token, Slot>,
    batches: HashMap<BatchId, Open>,
    deadlines: BTreeSet<(Instant, BatchId)>,
    /// Batches with news for [`Self::deliveries`], each once.
    news: Vec<BatchId>,
    ignored: Ignored,
}

#[derive(Debug)]
struct Open {
    deadline: Instant,
    tokens: Vec<Token>,
    /// Hosts without an outcome, over all calls.
    missing: usize,
    ready: Vec<Outcome>,
    in_news: bool,
}

#[derive(Debug)]
struct Slot {
    batch: BatchId,
    call: usize,
    asked: Waiting,
}

#[derive(Debug)]
enum Waiting {
    One(HostName),
    Many {
        hosts: HashMap<HostName, Heard>,
        missing: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    NotYet,
    Once,
}

impl Mux {
    /// Opens a batch: one token per call, in the order of the calls.
    pub fn begin(
        &mut self,
        calls: impl IntoIterator<Item = Asked>,
        deadline: Instant,
    ) -> (BatchId, Vec<Token>) {
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let mut tokens = Vec::new();
        let mut missing = 0;
        for (call, asked) in calls.into_iter().enumerate() {
            let token = Token(self.next_token);
            self.next_token += 1;
            tokens.push(token);
            let asked = match asked {
                Asked::One(host) => Waiting::One(host),
                Asked::Many(hosts) => {
                    let hosts: HashMap<_, _> = hosts
                        .iter()
                        .map(|host| (host.clone(), Heard::NotYet))
                        .collect();
                    Waiting::Many {
                        missing: hosts.len(),
                        hosts,
                    }
                }
            };
            let asks = match &asked {
                Waiting::One(_) => 1,
                Waiting::Many { missing, .. } => *missing,
            };
            missing += asks;
            // A fan-out to nobody has ended before it began.
            if asks > 0 {
                self.slots.insert(token, Slot { batch, call, asked });
            }
        }
        let open = Open {
            deadline,
            tokens: tokens.clone(),
            missing,
            ready: Vec::new(),
            in_news: missing == 0,
        };
        if missing == 0 {
            self.news.push(batch);
        }
        self.batches.insert(batch, open);
        self.deadlines.insert((deadline, batch));
        (batch, tokens)
    }

    /// Takes a reply: an answer of a host, or the server's word that nobody
    /// listens.
    pub fn reply(&mut self, token: Token, speaker: Speaker<'_>, result: CallResult) {
        let Some(slot) = self.slots.get_mut(&token) else {
            if token.0 < self.next_token {
                self.ignored.late += 1;
            } else {
                self.ignored.foreign += 1;
            }
            return;
        };
        let (batch, call) = (slot.batch, slot.call);
        match (&mut slot.asked, speaker) {
            (Waiting::One(host), Speaker::Host(name)) if host.as_str() == name => {
                let host = host.clone();
                self.slots.remove(&token);
                self.end(batch, [Outcome { host, call, result }]);
            }
            (Waiting::Many { hosts, missing }, Speaker::Host(name)) => match hosts.get_mut(name) {
                Some(heard @ Heard::NotYet) => {
                    *heard = Heard::Once;
                    *missing -= 1;
                    let last = *missing == 0;
                    // The key is taken rather than parsed anew from the reply.
                    let host = hosts.get_key_value(name).map(|(host, _)| host.clone());
                    if last {
                        self.slots.remove(&token);
                    }
                    self.end(batch, host.map(|host| Outcome { host, call, result }));
                }
                Some(Heard::Once) => self.ignored.duplicate += 1,
                None => self.ignored.foreign += 1,
            },
            (Waiting::Many { .. }, Speaker::All) if result == CallResult::NoResponder => {
                self.end_call(token, &result);
            }
            (Waiting::Many { .. }, Speaker::All)
            | (Waiting::One(_), Speaker::Host(_) | Speaker::All) => {
                self.ignored.foreign += 1;
            }
        }
    }

    /// Ends a call whose message did not leave. A call that has ended stays as
    /// it ended.
    pub fn not_sent(&mut self, token: Token, reason: &str) {
        self.end_call(token, &CallResult::NotSent(reason.to_owned()));
    }

    /// Forgets a batch whose outcomes nobody waits for any more.
    pub fn cancel(&mut self, batch: BatchId) {
        if let Some(open) = self.batches.remove(&batch) {
            self.deadlines.remove(&(open.deadline, batch));
            for token in open.tokens {
                self.slots.remove(&token);
            }
        }
    }

    /// Ends whatever is past its deadline.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, batch)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            let tokens = match self.batches.get(&batch) {
                Some(open) => open.tokens.clone(),
                None => Vec::new(),
            };
            for token in tokens {
                self.end_call(token, &CallResult::TimedOut);
            }
        }
    }

    /// When [`Self::expire`] is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the outcomes that came since the last time, by batch.
    pub fn deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(self.news.len());
        for batch in std::mem::take(&mut self.news) {
            // A cancelled batch has no news.
            let Some(open) = self.batches.get_mut(&batch) else {
                continue;
            };
            open.in_news = false;
            let outcomes = std::mem::take(&mut open.ready);
            let ended = open.missing == 0;
            if ended {
                let deadline = open.deadline;
                self.batches.remove(&batch);
                self.deadlines.remove(&(deadline, batch));
            }
            deliveries.push(Delivery {
                batch,
                outcomes,
                ended,
            });
        }
        deliveries
    }

    /// Whether no batch is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    #[cfg(test)]
    fn holds_nothing(&self) -> bool {
        let Self {
            next_token: _,
            next_batch: _,
            slots,
            batches,
            deadlines,
            news,
            ignored: _,
        } = self;
        slots.is_empty() && batches.is_empty() && deadlines.is_empty() && news.is_empty()
    }

    /// The replies ignored so far.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// Gives every host of the call that has no outcome this one.
    fn end_call(&mut self, token: Token, result: &CallResult) {
        let Some(Slot { batch, call, asked }) = self.slots.remove(&token) else {
            return;
        };
        let outcome = |host| Outcome {
            host,
            call,
            result: result.clone(),
        };
        match asked {
            Waiting::One(host) => self.end(batch, [outcome(host)]),
            Waiting::Many { hosts, .. } => {
                let unheard = hosts
                    .into_iter()
                    .filter(|(_, heard)| *heard == Heard::NotYet);
                self.end(batch, unheard.map(|(host, _)| outcome(host)));
            }
        }
    }

    fn end(&mut self, batch: BatchId, outcomes: impl IntoIterator<Item = Outcome>) {
        // A slot lives no longer than its batch.
        let Some(open) = self.batches.get_mut(&batch) else {
            return;
        };
        let before = open.ready.len();
        open.ready.extend(outcomes);
        open.missing -= open.ready.len() - before;
        if !open.in_news {
            open.in_news = true;
            self.news.push(batch);
        }
    }
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;
