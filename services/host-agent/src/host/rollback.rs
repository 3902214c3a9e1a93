// SPDX-License-Identifier: Apache-2.0
//! Changes of a bridge, or of a port that the host itself lives behind, that cut
//! it off from the bus, and so from everybody who could take them back: the host
//! does that itself.
//!
//! A change is *on trial* from when it is carried out until the bus is heard
//! again. If that takes longer than a bound, what changed becomes what it was,
//! and the change is *rolled back*: the same revision is refused until there is
//! a newer one, or an operator says that it is to be tried again. Both are
//! durable before anything of a change is carried out, so an agent that dies in
//! between goes on with the trial, for the whole bound from its start: as long
//! as it was away nobody could hear the bus. Whether the host lives behind a
//! port only the datapath can tell: it carries out nothing of a change of such a
//! port that isn't guarded, and names it, and from then on it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dvs_ledger::Writes;
use dvs_schemas::{HostName, PortId, Revision, SwitchName, Timestamp};

use super::trial::{Rest, Stage, Trial, wanted};
use crate::datapath::{BridgeSettings, Ports, Step, StepFailure, VirtualPort, Write};
use crate::held::HeldSwitch;
use crate::ledger;
use crate::plan::Stays;
use crate::uplinks::{Change, PortSettings, Setting, UplinkSettings, asked_by};

/// Longest wait for one answer of the bus. A connection that was lost in the
/// meantime is there again after that, and is asked anew.
const ANSWER: Duration = Duration::from_secs(5);

/// Between two questions that came to nothing at once.
const AGAIN: Duration = Duration::from_secs(1);

/// What changes: the bridge of a switch, or a port of it.
pub(super) type Subject = (SwitchName, Option<PortId>);

/// The changes of one host, one of each bridge and port at most.
#[derive(Debug)]
pub(super) struct Rollback {
    /// How long the bus may be away after a change; none if changes stay
    /// whatever comes of them.
    bound: Option<Duration>,
    trials: BTreeMap<Subject, Trial>,
    /// Ports that the host itself lives behind, as far as the datapath has said
    /// so: their changes are put on trial before they are carried out.
    guarded: Ports,
    /// The bus was asked, and there is no answer yet.
    asked: bool,
    /// Entries of the ledger that are to be written.
    touched: BTreeSet<Subject>,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Ask the bus, and wait so long for the answer.
    pub(super) ask: Option<Duration>,
    /// Roll these back to before these revisions.
    pub(super) roll_back: Vec<(Subject, Revision)>,
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
                rest: Some(Rest::Unsaid),
                heard: false,
            };
            ((switch, trial.change.after.port().cloned()), trial)
        };
        let trials: BTreeMap<Subject, Trial> = kept.into_iter().map(trial).collect();
        let of_port = |(switch, port): &Subject| Some((switch.clone(), port.clone()?));
        Self {
            bound,
            guarded: trials.keys().filter_map(of_port).collect(),
            trials,
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
        let after = UplinkSettings::of(&settings.value);
        let before = match from {
            Some(from) => UplinkSettings::of_bridge(from),
            None => UplinkSettings {
                uplinks: Vec::new(),
                ..after.clone()
            },
        };
        let change = Change {
            store: held.store,
            revision: settings.revision,
            before: Setting::Uplinks(before),
            after: Setting::Uplinks(after),
            rolled_back: None,
        };
        self.begin((switch.clone(), None), held, online, change);
    }

    /// A port is about to change, which the host lives behind if it is guarded.
    pub(super) fn port_begins(
        &mut self,
        online: bool,
        (switch, port): (&SwitchName, &PortId),
        held: &HeldSwitch,
        (from, to): (&VirtualPort, &VirtualPort),
    ) {
        if !self.guarded.contains(&(switch.clone(), port.clone())) {
            return;
        }
        let Some(revision) = asked_by(held, port) else {
            return;
        };
        let setting = |of| Setting::Port(port.clone(), PortSettings::of(of));
        let change = Change {
            store: held.store,
            revision,
            before: setting(from),
            after: setting(to),
            rolled_back: None,
        };
        self.begin((switch.clone(), Some(port.clone())), held, online, change);
    }

    /// Puts a change on trial, unless it is already, or needs none.
    fn begin(&mut self, subject: Subject, held: &HeldSwitch, online: bool, change: Change) {
        if let Some(trial) = self.trials.get_mut(&subject)
            && trial.change.is_of(held)
        {
            // Another try of what failed in part gets no more time. What the bus
            // was heard with is good to go back to.
            if trial.stage == Stage::InPart && online {
                if change.before != change.after {
                    trial.change.before = change.before;
                }
                trial.stage = Stage::Beginning;
                self.touched.insert(subject);
            }
            return;
        }
        // What was good before the last change, if that isn't known to be.
        let last = self.trials.remove(&subject).and_then(|trial| {
            let Change { before, after, .. } = trial.change;
            match trial.stage {
                Stage::InPart => None,
                Stage::Found
                | Stage::Beginning
                | Stage::OnTrial { .. }
                | Stage::RollingBack
                | Stage::RolledBack => Some(if trial.heard { after } else { before }),
            }
        });
        let before = last.unwrap_or(change.before);
        self.touched.insert(subject.clone());
        if before == change.after || self.bound.is_none() || !online {
            return;
        }
        let trial = Trial {
            change: Change { before, ..change },
            stage: Stage::Beginning,
            rest: Some(Rest::Unsaid),
            heard: false,
        };
        self.trials.insert(subject, trial);
    }

    /// Ports whose changes are undone if they cut the host off.
    pub(super) fn guarded(&self) -> &Ports {
        &self.guarded
    }

    /// The host lives behind these ports. False if that is no news.
    pub(super) fn guards(&mut self, ports: Ports) -> bool {
        let before = self.guarded.len();
        self.guarded.extend(ports);
        self.guarded.len() > before
    }

    /// Nothing of the host's own was changed: a machine is behind the port by
    /// now, or it stayed as it was. What was to be undone before is so still.
    pub(super) fn spared(
        &mut self,
        (switch, port): (&SwitchName, &PortId),
        stays: Option<&VirtualPort>,
    ) {
        self.guarded.remove(&(switch.clone(), port.clone()));
        let subject = (switch.clone(), Some(port.clone()));
        let Some(trial) = self.trials.get(&subject) else {
            return;
        };
        let stays = stays.map(PortSettings::of);
        let is_before = match &trial.change.before {
            Setting::Port(_, before) => stays.as_ref() == Some(before),
            Setting::Uplinks(_) => false,
        };
        if trial.stage == Stage::Beginning && is_before {
            self.drop(&subject);
        }
    }

    /// A change was carried out, but for the `rest`, or need not be. True if that
    /// was to bring the bus back: whoever waits for a lost connection waits
    /// longer than for a new one.
    pub(super) fn carried_out(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        rest: Option<&StepFailure>,
    ) -> bool {
        let bound = self.bound;
        let Some(trial) = self.trials.get_mut(subject) else {
            return false;
        };
        let rest = rest.cloned().map(Rest::Failed);
        let before = std::mem::replace(&mut trial.rest, rest);
        // Nothing more took hold than what the bus was heard with.
        let is_same = trial.rest.is_some() && trial.rest == before;
        match (trial.stage, bound) {
            (Stage::Beginning, Some(_)) if is_same => {
                trial.stage = Stage::InPart;
                self.touched.insert(subject.clone());
                false
            }
            (Stage::Beginning, Some(bound)) => {
                trial.stage = Stage::on_trial(now, bound);
                false
            }
            // What was heard, or is being asked, is of the part before. If nobody
            // answered with that there is no more time.
            (Stage::OnTrial { until, .. }, Some(bound)) if before.is_some() && !is_same => {
                let is_unasked = now.after(bound / 3 * 2) < until;
                trial.stage = if is_unasked {
                    Stage::on_trial(now, bound)
                } else {
                    let ask = now.after(AGAIN);
                    let until = until.max(ask.after(AGAIN));
                    Stage::OnTrial { ask, until }
                };
                false
            }
            // Its rest came while the bus was away.
            (Stage::InPart, _) if trial.rest.is_none() => {
                self.drop(subject);
                false
            }
            (Stage::RollingBack, _) => {
                trial.stage = Stage::RolledBack;
                true
            }
            (
                Stage::Beginning
                | Stage::Found
                | Stage::OnTrial { .. }
                | Stage::InPart
                | Stage::RolledBack,
                Some(_) | None,
            ) => false,
        }
    }

    /// What is on trial, or was rolled back.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.trials.keys()
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
                trial.heard |= trial.rest.is_none() && settled;
            }
        }
    }

    /// When [`Self::wake`] is wanted next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = |trial: &Trial| match trial.stage {
            Stage::Found => Some(Timestamp(0)),
            Stage::OnTrial { ask, until } if !self.asked => Some(ask.min(until)),
            Stage::OnTrial { until, .. } => Some(until),
            Stage::Beginning | Stage::InPart | Stage::RollingBack | Stage::RolledBack => None,
        };
        self.trials.values().filter_map(due).min()
    }

    /// What is to be done by now. Of changes in a row those are rolled back first
    /// that nobody was heard with; what somebody was heard with has another trial
    /// then.
    pub(super) fn wake(&mut self, now: Timestamp) -> Due {
        let mut due = Due::default();
        let mut over = Vec::new();
        let unheard = self.trials.values().filter(|trial| !trial.heard);
        let last = unheard.filter_map(|trial| match trial.stage {
            Stage::OnTrial { until, .. } => Some(until),
            Stage::Found
            | Stage::Beginning
            | Stage::InPart
            | Stage::RollingBack
            | Stage::RolledBack => None,
        });
        let last = last.max();
        for (subject, trial) in &mut self.trials {
            if trial.stage == Stage::Found {
                match self.bound {
                    Some(bound) => trial.stage = Stage::on_trial(now, bound),
                    None => over.push(subject.clone()),
                }
            }
            let Stage::OnTrial { ask, until } = trial.stage else {
                continue;
            };
            if until <= now
                && trial.heard
                && last.is_some_and(|last| until <= last)
                && let Some(bound) = self.bound
            {
                trial.stage = Stage::on_trial(now, bound);
            } else if until <= now {
                trial.stage = Stage::RollingBack;
                trial.change.rolled_back = self.bound;
                self.touched.insert(subject.clone());
                due.roll_back.push((subject.clone(), trial.change.revision));
            } else if ask <= now && !self.asked {
                let left = Duration::from_millis(until.0.saturating_sub(now.0));
                due.ask = Some(ANSWER.min(left));
            }
        }
        self.asked |= due.ask.is_some();
        if let (false, Some(bound)) = (due.roll_back.is_empty(), self.bound) {
            for trial in self.trials.values_mut().filter(|trial| trial.heard) {
                if let Stage::OnTrial { .. } = trial.stage {
                    trial.stage = Stage::on_trial(now, bound);
                }
            }
        }
        for subject in over {
            self.drop(&subject);
        }
        due
    }

    /// The bus was asked and answered, or did not. What it was asked for before
    /// a change took hold says nothing of that.
    pub(super) fn answered(&mut self, now: Timestamp, heard: bool) {
        self.asked = false;
        let mut good = Vec::new();
        for (subject, trial) in &mut self.trials {
            if let Stage::OnTrial { ask, until } = &mut trial.stage
                && *ask <= now
            {
                match (heard, &trial.rest) {
                    (true, None) => good.push(subject.clone()),
                    (true, Some(_)) => {
                        trial.stage = Stage::InPart;
                        self.touched.insert(subject.clone());
                    }
                    (false, None | Some(_)) => *ask = now.after(AGAIN).min(*until),
                }
            }
        }
        for subject in good {
            self.drop(&subject);
        }
    }

    /// True if something is being rolled back.
    pub(super) fn is_rolling_back(&self) -> bool {
        let mut trials = self.trials.values();
        trials.any(|trial| trial.stage == Stage::RollingBack)
    }

    /// True if a step does nothing but roll back.
    pub(super) fn undoes(&self, Step { switch, write }: &Step) -> bool {
        let is_rolling_back = |port: Option<&PortId>| {
            let trial = self.trials.get(&(switch.clone(), port.cloned()));
            trial.is_some_and(|trial| trial.stage == Stage::RollingBack)
        };
        match write {
            Write::SetBridge { from, .. } => from.is_some() && is_rolling_back(None),
            Write::SetPort { port, from, to } => from.as_ref().is_some_and(|from| {
                let mut by_role = VirtualPort::clone(from);
                by_role.policy.vlan = to.policy.vlan.clone();
                is_rolling_back(Some(port)) || (is_rolling_back(None) && by_role == **to)
            }),
            Write::SetMirror { .. }
            | Write::RemoveMirror { .. }
            | Write::RemovePort { .. }
            | Write::RemoveBridge { .. } => false,
        }
    }

    /// What stays, though the state held asks for something else.
    pub(super) fn stays(&self, switch: &SwitchName, held: &HeldSwitch) -> Stays<'_> {
        let mut stays = Stays::default();
        for Trial { change, .. } in self.rolled_back(switch, held) {
            match &change.before {
                Setting::Uplinks(uplinks) => stays.uplinks = Some(uplinks),
                Setting::Port(port, settings) => drop(stays.ports.insert(port, settings)),
            }
        }
        stays
    }

    /// True if something stays.
    pub(super) fn is_rolled_back(&self, switch: &SwitchName, held: &HeldSwitch) -> bool {
        self.rolled_back(switch, held).next().is_some()
    }

    /// Why the state held is not made true, by what isn't; of the bridge, or of
    /// a port.
    pub(super) fn why(
        &self,
        switch: &SwitchName,
        held: &HeldSwitch,
    ) -> Vec<(Option<PortId>, String)> {
        let rolled_back = self.rolled_back(switch, held);
        let why = rolled_back.filter_map(|Trial { change, .. }| {
            Some((change.after.port().cloned(), change.refusal(held)?))
        });
        why.collect()
    }

    fn rolled_back(&self, switch: &SwitchName, held: &HeldSwitch) -> impl Iterator<Item = &Trial> {
        let trials = self.of_switch(switch);
        trials.filter(|trial| trial.change.rolled_back.is_some() && trial.change.is_of(held))
    }

    fn of_switch(&self, switch: &SwitchName) -> impl Iterator<Item = &Trial> {
        let first = (switch.clone(), None);
        let from = self.trials.range(first..);
        from.take_while(move |((of, _), _)| of == switch)
            .map(|(_, trial)| trial)
    }

    /// The state held is another now. A newer revision that asks for the same
    /// goes on with its trial; after a roll-back it is somebody's decision. Answers
    /// what is to be tried again by that: the datapath has it no more, even where
    /// the same is asked for.
    pub(super) fn admitted(
        &mut self,
        switch: &SwitchName,
        held: &HeldSwitch,
    ) -> Vec<Option<PortId>> {
        let mut over = Vec::new();
        let mut again = Vec::new();
        for (subject, trial) in &mut self.trials {
            let change = &mut trial.change;
            if subject.0 != *switch || change.is_of(held) {
                continue;
            }
            match (wanted(&change.after, held), change.rolled_back) {
                (Some((wanted, revision)), None) if wanted == change.after => {
                    change.store = held.store;
                    change.revision = revision;
                    self.touched.insert(subject.clone());
                }
                // The next change has its past to go by.
                (Some(_), None) => {}
                (Some(_) | None, Some(_)) => {
                    again.push(subject.1.clone());
                    over.push(subject.clone());
                }
                (None, None) => over.push(subject.clone()),
            }
        }
        for subject in over {
            self.drop(&subject);
        }
        again
    }

    /// An operator says that what was rolled back is to be tried again. Answers
    /// what that is.
    pub(super) fn try_again(&mut self, switch: &SwitchName) -> Vec<Option<PortId>> {
        let trials = self.trials.iter();
        let again =
            trials.filter(|((of, _), trial)| of == switch && trial.change.rolled_back.is_some());
        let again: Vec<Subject> = again.map(|(subject, _)| subject.clone()).collect();
        for subject in &again {
            self.drop(subject);
        }
        again.into_iter().map(|(_, port)| port).collect()
    }

    fn drop(&mut self, subject: &Subject) {
        self.trials.remove(subject);
        self.touched.insert(subject.clone());
    }

    /// Writes what became of changes.
    pub(super) fn write(&mut self, host: &HostName, writes: &mut Writes) {
        for subject in std::mem::take(&mut self.touched) {
            // What is good so far has nothing to go back to after a start.
            let trial = self.trials.get(&subject);
            let trial = trial.filter(|trial| trial.stage != Stage::InPart);
            let change = trial.map(|trial| &trial.change);
            let (switch, port) = &subject;
            ledger::write_change(host, (switch, port.as_ref()), change, writes);
        }
    }
}
