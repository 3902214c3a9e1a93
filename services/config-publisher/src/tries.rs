// SPDX-License-Identifier: Apache-2.0
//! A request to another service that is repeated until it is acknowledged: one
//! under way at a time, with growing pauses between failures.

use std::time::Duration;

use dvs_schemas::Timestamp;
use fastrand::Rng;

/// The first pause before a repetition, in ms; doubled each time.
const PAUSE: u64 = 200;

/// The longest pause, in ms: the other's absence delays what it is to hear by
/// no more than this once it is back.
const LONGEST_PAUSE: u64 = 10_000;

/// How far a request is.
#[derive(Debug, Clone)]
pub(crate) struct Tries {
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay(u64),
    NotBefore(Timestamp),
}

impl Tries {
    /// A request that was not made yet.
    pub(crate) fn not_before(time: Timestamp) -> Self {
        Self {
            failures: 0,
            state: State::NotBefore(time),
        }
    }

    /// Makes the request under this number; false if it is not its time.
    pub(crate) fn begin(&mut self, number: u64, now: Timestamp) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.state = State::UnderWay(number);
        }
        due
    }

    pub(crate) fn is_under_way(&self, number: u64) -> bool {
        self.state == State::UnderWay(number)
    }

    /// The request of this number was not acknowledged.
    pub(crate) fn failed(&mut self, number: u64, now: Timestamp, rng: &mut Rng) {
        if self.is_under_way(number) {
            let longest = PAUSE.saturating_mul(1 << self.failures.min(16));
            let pause = rng.u64(1..=longest.min(LONGEST_PAUSE));
            self.failures += 1;
            self.state = State::NotBefore(now.after(Duration::from_millis(pause)));
        }
    }

    /// The bus is back, and the other may be: no need to wait any longer.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        match self.state {
            State::NotBefore(_) => *self = Self::not_before(now),
            State::UnderWay(_) => {}
        }
    }

    /// When it is to be made, unless it is under way.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match self.state {
            State::NotBefore(time) => Some(time),
            State::UnderWay(_) => None,
        }
    }
}
