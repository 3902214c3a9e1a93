// SPDX-License-Identifier: Apache-2.0
//! Changes of uplinks that cut the host off from the bus, and so from everybody
//! who could take them back: the host does that itself.
//!
//! A change is *on trial* from when it is carried out until the bus is heard
//! again. If that takes longer than a bound, the uplinks become what they were,
//! and the change is *rolled back*: the same revision is refused until there is
//! a newer one, or an operator says that it is to be tried again. Both are
//! durable before anything of the change is carried out, so an agent that dies
//! in between goes on with the trial.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::Writes;
use dvs_schemas::{HostName, Revision, SwitchName, Timestamp};

use crate::datapath::BridgeSettings;
use crate::held::HeldSwitch;
use crate::ledger;
use crate::uplinks::{Change, UplinkSettings};

/// Longest wait for one answer of the bus. A connection that was lost in the
/// meantime is there again after that, and is asked anew.
const ANSWER: Duration = Duration::from_secs(5);

/// Between two questions that came to nothing at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its agent died on the way.
    Found,
    /// It is being carried out.
    Beginning,
    /// The bus is to be heard: asked from `ask` on, and heard by `until`.
    OnTrial { ask: Timestamp, until: Timestamp },
    /// It is being rolled back.
    RollingBack,
    /// It was rolled back.
    RolledBack,
}

#[derive(Debug)]
struct Trial {
    change: Change,
    stage: Stage,
    /// Whether all of it was carried out. As long as it is not, the rest may
    /// come at any time.
    whole: bool,
    /// Whether somebody was heard over the bus with it in force. Good enough
    /// to go back to, though what takes hold late may still come.
    heard: bool,
}

/// The changes of one host, one per switch at most.
#[derive(Debug)]
pub(super) struct Rollback {
    /// How long the bus may be away after a change; none if changes stay
    /// whatever comes of them.
    bound: Option<Duration>,
    trials: BTreeMap<SwitchName, Trial>,
    /// The bus was asked, and there is no answer yet.
    asked: bool,
    /// Entries of the ledger that are to be written.
    touched: BTreeSet<SwitchName>,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Ask the bus, and wait so long for the answer.
    pub(super) ask: Option<Duration>,
    /// Roll the uplinks of these switches back to before these revisions.
    pub(super) roll_back: Vec<(SwitchName, Revision)>,
}

impl Rollback {
    pub(super) fn new(bound: Option<Duration>, kept: Vec<(SwitchName, Change)>) -> Self {
        let trial = |(switch, change): (SwitchName, Change)| {
            let stage = match change.rolled_back {
                None => Stage::Found,
                Some(_) => Stage::RolledBack,
            };
            let trial = Trial {
                change,
                stage,
                whole: false,
                heard: false,
            };
            (switch, trial)
        };
        Self {
            bound,
            trials: kept.into_iter().map(trial).collect(),
            asked: false,
            touched: BTreeSet::new(),
        }
    }

    /// A bridge is about to change. Nothing is on trial that changes no uplink,
    /// nor what is changed while the bus is away: that can't have cut it off.
    pub(super) fn begins(
        &mut self,
        online: bool,
        switch: &SwitchName,
        held: &HeldSwitch,
        from: Option<&BridgeSettings>,
    ) {
        let Some(settings) = &held.settings else {
            return;
        };
        // Another try of what failed in part gets no more time.
        let known = self.trials.get(switch);
        if known.is_some_and(|trial| trial.change.is_of(held)) {
            return;
        }
        // What was good before the last change, if that isn't known to be.
        let last = self.trials.remove(switch).map(|trial| {
            let Change { before, after, .. } = trial.change;
            if trial.heard { after } else { before }
        });
        let after = UplinkSettings::of(&settings.value);
        let before = last.unwrap_or_else(|| match from {
            Some(from) => UplinkSettings::of_bridge(from),
            None => UplinkSettings {
                uplinks: Vec::new(),
                ..after.clone()
            },
        });
        self.touched.insert(switch.clone());
        if before == after || self.bound.is_none() || !online {
            return;
        }
        let change = Change {
            store: held.store,
            revision: settings.revision,
            before,
            after,
            rolled_back: None,
        };
        let trial = Trial {
            change,
            stage: Stage::Beginning,
            whole: false,
            heard: false,
        };
        self.trials.insert(switch.clone(), trial);
    }

    /// A change of a bridge was carried out, wholly or in part. True if that was
    /// to bring the bus back: whoever waits for a lost connection waits longer
    /// than for a new one.
    pub(super) fn carried_out(&mut self, now: Timestamp, switch: &SwitchName, whole: bool) -> bool {
        let bound = self.bound;
        let Some(trial) = self.trials.get_mut(switch) else {
            return false;
        };
        trial.whole = whole;
        match (trial.stage, bound) {
            (Stage::Beginning, Some(bound)) => {
                trial.stage = Stage::on_trial(now, bound);
                false
            }
            (Stage::RollingBack, _) => {
                trial.stage = Stage::RolledBack;
                true
            }
            (
                Stage::Beginning | Stage::Found | Stage::OnTrial { .. } | Stage::RolledBack,
                Some(_) | None,
            ) => false,
        }
    }

    /// A change is in force, without anything left to carry out.
    pub(super) fn in_force(&mut self, switch: &SwitchName) {
        if let Some(trial) = self.trials.get_mut(switch) {
            trial.whole = true;
        }
    }

    /// The bus was connected to, or somebody was heard over it. What is heard
    /// within a moment may have been said before the change.
    pub(super) fn hears(&mut self, now: Timestamp, connects: bool) {
        let Some(bound) = self.bound else {
            return;
        };
        for trial in self.trials.values_mut() {
            if let Stage::OnTrial { until, .. } = trial.stage {
                let settled = connects || now.after(bound) >= until.after(AGAIN);
                trial.heard |= trial.whole && settled;
            }
        }
    }

    /// When [`Self::wake`] is wanted next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = |trial: &Trial| match trial.stage {
            Stage::Found => Some(Timestamp(0)),
            Stage::OnTrial { ask, until } if !self.asked => Some(ask.min(until)),
            Stage::OnTrial { until, .. } => Some(until),
            Stage::Beginning | Stage::RollingBack | Stage::RolledBack => None,
        };
        self.trials.values().filter_map(due).min()
    }

    pub(super) fn wake(&mut self, now: Timestamp) -> Due {
        let mut due = Due::default();
        let mut over = Vec::new();
        for (switch, trial) in &mut self.trials {
            if trial.stage == Stage::Found {
                match self.bound {
                    Some(bound) => trial.stage = Stage::on_trial(now, bound),
                    None => over.push(switch.clone()),
                }
            }
            let Stage::OnTrial { ask, until } = trial.stage else {
                continue;
            };
            if until <= now {
                trial.stage = Stage::RollingBack;
                trial.change.rolled_back = self.bound;
                self.touched.insert(switch.clone());
                due.roll_back.push((switch.clone(), trial.change.revision));
            } else if ask <= now && !self.asked {
                let left = Duration::from_millis(until.0.saturating_sub(now.0));
                due.ask = Some(ANSWER.min(left));
            }
        }
        self.asked |= due.ask.is_some();
        for switch in over {
            self.drop(&switch);
        }
        due
    }

    /// The bus was asked and answered, or did not. What it was asked for before
    /// a change took hold says nothing of that.
    pub(super) fn answered(&mut self, now: Timestamp, heard: bool) {
        self.asked = false;
        let Some(bound) = self.bound else {
            return;
        };
        let mut good = Vec::new();
        for (switch, trial) in &mut self.trials {
            if let Stage::OnTrial { ask, until } = &mut trial.stage
                && *ask <= now
            {
                match (heard, trial.whole) {
                    (true, true) => good.push(switch.clone()),
                    (true, false) => trial.stage = Stage::on_trial(now, bound),
                    (false, true | false) => *ask = now.after(AGAIN).min(*until),
                }
            }
        }
        for switch in good {
            self.drop(&switch);
        }
    }

    /// The uplinks that stay, though the state held asks for others.
    pub(super) fn stays(&self, switch: &SwitchName, held: &HeldSwitch) -> Option<&UplinkSettings> {
        let change = &self.trials.get(switch)?.change;
        (change.rolled_back.is_some() && change.is_of(held)).then_some(&change.before)
    }

    /// Why the state held is not made true; none if it is.
    pub(super) fn why(&self, switch: &SwitchName, held: &HeldSwitch) -> Option<String> {
        self.trials.get(switch)?.change.refusal(held)
    }

    /// The state held is another now. A newer revision that asks for the same
    /// goes on with its trial; after a roll-back it is somebody's decision.
    pub(super) fn admitted(&mut self, switch: &SwitchName, held: &HeldSwitch) {
        let Some(trial) = self.trials.get_mut(switch) else {
            return;
        };
        let change = &mut trial.change;
        if change.is_of(held) {
            return;
        }
        match (&held.settings, change.rolled_back) {
            (Some(settings), None) if UplinkSettings::of(&settings.value) == change.after => {
                change.store = held.store;
                change.revision = settings.revision;
                self.touched.insert(switch.clone());
            }
            // The next change has its past to go by.
            (Some(_), None) => {}
            (Some(_), Some(_)) | (None, Some(_) | None) => self.drop(switch),
        }
    }

    /// An operator says that what was rolled back is to be tried again. True if
    /// there is such a change.
    pub(super) fn try_again(&mut self, switch: &SwitchName) -> bool {
        let rolled_back = |trial: &Trial| trial.change.rolled_back.is_some();
        let is = self.trials.get(switch).is_some_and(rolled_back);
        if is {
            self.drop(switch);
        }
        is
    }

    fn drop(&mut self, switch: &SwitchName) {
        self.trials.remove(switch);
        self.touched.insert(switch.clone());
    }

    /// Writes what became of changes.
    pub(super) fn write(&mut self, host: &HostName, writes: &mut Writes) {
        for switch in std::mem::take(&mut self.touched) {
            let change = self.trials.get(&switch).map(|trial| &trial.change);
            ledger::write_change(host, &switch, change, writes);
        }
    }
}

impl Stage {
    /// The bus is asked when a third of the bound is over: what takes hold
    /// late, like the first answer of a partner that never comes, must show.
    fn on_trial(now: Timestamp, bound: Duration) -> Self {
        Self::OnTrial {
            ask: now.after(bound / 3),
            until: now.after(bound),
        }
    }
}
