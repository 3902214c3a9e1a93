// SPDX-License-Identifier: Apache-2.0
//! When a try that failed is repeated: exponential, with full jitter, capped.
//! Jitter over the whole window spreads hosts that failed together; the cap
//! bounds how long a host stays out of sync after it can be reached again.

use std::time::Duration;

use dvs_schemas::Timestamp;
use fastrand::Rng;

/// How the windows grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The window after the first try.
    pub base: Duration,
    /// The largest window.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The window after so many tries: within it lies the next one.
    #[must_use]
    pub fn window(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Windows and the chance by which a moment in them is chosen.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) backoff: Backoff,
    pub(crate) rng: Rng,
}

impl Pace {
    /// When the next try is due after so many of them.
    pub(crate) fn next(&mut self, now: Timestamp, attempts: u32) -> Timestamp {
        let window = self.backoff.window(attempts).as_millis();
        let millis = self.rng.u64(0..=u64::try_from(window).unwrap_or(u64::MAX));
        now.after(Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, Pace, Timestamp};
    use proptest::prelude::*;

    #[test]
    fn windows_double_up_to_the_cap() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(10),
        };
        let windows = [0, 1, 2, 3, 4, 5, 6, 33, u32::MAX].map(|n| backoff.window(n).as_secs());
        assert_eq!(windows, [1, 1, 2, 4, 8, 10, 10, 10, 10]);
    }

    proptest! {
        #[test]
        fn the_next_try_lies_in_the_window(
            base in 0_u64..10_000, cap in 0_u64..1_000_000, attempts: u32, seed: u64, now in 0..1_u64 << 40,
        ) {
            let backoff = Backoff {
                base: Duration::from_millis(base),
                cap: Duration::from_millis(cap),
            };
            let mut pace = Pace { backoff, rng: fastrand::Rng::with_seed(seed) };
            let now = Timestamp(now);
            let next = pace.next(now, attempts);
            prop_assert!(now <= next && next <= now.after(backoff.window(attempts)));
            prop_assert!(backoff.window(attempts) <= backoff.cap);
        }
    }
}
