// SPDX-License-Identifier: Apache-2.0
//! How long to wait before something is tried once more.

use std::time::Duration;

/// Doubling windows with jitter: a wait is between half of its window and the
/// whole, so that it is never nothing and hosts that began together drift
/// apart.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first window.
    pub base: Duration,
    /// The largest window.
    pub cap: Duration,
}

impl Backoff {
    /// The wait before attempt `attempt`, counted from 1, is made again.
    #[must_use]
    pub fn wait(self, attempt: u32, chance: &mut fastrand::Rng) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let window = self.base.saturating_mul(1 << doublings).min(self.cap);
        window.mul_f64(0.5 + chance.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_between_half_its_window_and_the_cap(attempt: u32, seed: u64) {
            let backoff = Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(30),
            };
            let wait = backoff.wait(attempt, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(wait >= Duration::from_millis(250), "{wait:?}");
            prop_assert!(wait <= backoff.cap, "{wait:?}");
        }
    }
}
