// SPDX-License-Identifier: Apache-2.0
//! Rules that somebody else changes: told, and undone if that is the policy.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::SwitchName;
use tokio::time::{Instant, sleep_until};

use super::Task;
use super::database::chain;
use crate::backoff::Backoff;
use crate::datapath::ovs::config::DriftPolicy;
use crate::datapath::ovs::forwarding::Altered;
use crate::datapath::ovs::rows::Difference;
use crate::datapath::{Notice, Part};

/// Between two looks at the rules of a bridge that somebody keeps changing: a
/// controller that fights the agent must not keep it from all else.
const FOUGHT: Backoff = Backoff {
    base: Duration::from_millis(200),
    cap: Duration::from_secs(10),
};

/// After so long without a change the next one is looked at at once.
const CALM: Duration = Duration::from_secs(30);

/// When the rules of bridges are looked at. One entry per bridge whose rules
/// were ever changed by somebody else.
#[derive(Debug, Default)]
pub(super) struct Reviews(BTreeMap<SwitchName, Review>);

#[derive(Debug)]
struct Review {
    /// True if there is something to look at.
    asked: bool,
    /// Not before that.
    not_before: Instant,
    /// Looks in a row with less than [`CALM`] between them.
    looks: u32,
}

impl Reviews {
    /// Somebody changed something.
    pub(super) fn ask(&mut self, switch: SwitchName) {
        let never = || Review {
            asked: false,
            not_before: Instant::now(),
            looks: 0,
        };
        self.0.entry(switch).or_insert_with(never).asked = true;
    }

    /// Waits until it is time to look at a bridge. Cancel-safe.
    pub(super) async fn due(&self) -> SwitchName {
        let asked = self.0.iter().filter(|(_, review)| review.asked);
        let Some((switch, review)) = asked.min_by_key(|(_, review)| review.not_before) else {
            return std::future::pending().await;
        };
        sleep_until(review.not_before).await;
        switch.clone()
    }

    /// It is looked at now.
    fn begin(&mut self, switch: &SwitchName, chance: &mut fastrand::Rng) {
        let Some(review) = self.0.get_mut(switch) else {
            return;
        };
        let now = Instant::now();
        review.asked = false;
        review.looks = match now.checked_duration_since(review.not_before) {
            Some(calm) if calm >= CALM => 1,
            Some(_) | None => review.looks.saturating_add(1),
        };
        review.not_before = now + FOUGHT.wait(review.looks, chance);
    }
}

/// What somebody else made of a bridge's rules, in the form in which drift of
/// rows is told.
pub(super) fn rule_drift(switch: &SwitchName, bridge: &str, altered: Altered) -> Difference {
    let Altered { wanted, found } = altered;
    Difference {
        place: (switch.clone(), Part::Bridge),
        row: format!("Bridge {bridge}"),
        column: Some("flow"),
        wanted,
        found,
    }
}

impl Task {
    /// Looks at the rules of a bridge that somebody else changed.
    pub(super) async fn review(&mut self, switch: &SwitchName) {
        self.reviews.begin(switch, &mut fastrand::Rng::new());
        let policy = self.config.drift;
        let altered = match self.bridges.review(switch, policy).await {
            Ok(Some(altered)) => altered,
            Ok(None) => return self.tell_of_what_drifts(),
            Err(error) => return self.rules_unknown(switch, &error),
        };
        let repaired = match policy {
            DriftPolicy::Report => false,
            DriftPolicy::Repair => {
                self.forward_all().await;
                let right = self.bridges.is_right(switch);
                if !right {
                    // Who planned with them has to look again.
                    self.notices.tell(Notice::Disturbed);
                }
                if self.bridges.away().is_some() {
                    self.try_again();
                }
                right
            }
        };
        let (bridge, _) = self.config.bridge(switch);
        let drift = rule_drift(switch, bridge.as_str(), altered);
        self.counts.drifts.inc();
        self.notices.tell(drift.told(repaired));
        self.tell_of_what_drifts();
    }

    /// The switch of a bridge can't be spoken with any more.
    pub(super) fn rules_unknown(&mut self, switch: &SwitchName, error: &dyn std::error::Error) {
        let error = chain(error);
        tracing::warn!(%switch, error, "the bridge's switch is away");
        self.bridges.forget(switch);
        self.tell_of_what_drifts();
        self.try_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody changes rules each millisecond, for a minute.
    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_changing_rules_does_not_keep_the_agent_busy() {
        let switch: SwitchName = "prod".parse().expect("a name");
        let mut chance = fastrand::Rng::with_seed(1);
        let mut reviews = Reviews::default();
        let began = Instant::now();
        let mut looks = Vec::new();
        while began.elapsed() < Duration::from_secs(60) {
            reviews.ask(switch.clone());
            let next = tokio::time::timeout(Duration::from_millis(1), reviews.due());
            if next.await.is_ok() {
                reviews.begin(&switch, &mut chance);
                looks.push(began.elapsed());
            }
        }
        assert_eq!(looks.first(), Some(&Duration::ZERO), "the first at once");
        assert!(looks.len() < 20, "{looks:?}");
        let last = looks.last().expect("a look");
        assert!(*last > Duration::from_secs(45), "and never no more");
        // Once that has ended, the next one is looked at at once again.
        tokio::time::advance(Duration::from_secs(60)).await;
        reviews.ask(switch.clone());
        let at = Instant::now();
        assert_eq!(reviews.due().await, switch);
        assert_eq!(at.elapsed(), Duration::ZERO);
        reviews.begin(&switch, &mut chance);
        reviews.ask(switch);
        reviews.due().await;
        assert!(at.elapsed() < Duration::from_millis(201));
    }
}
