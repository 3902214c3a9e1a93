// SPDX-License-Identifier: Apache-2.0
//! The deciding code of the process: its hosts (one, or the replicas of a load
//! test) with one loop and one ledger, so that a push to all of them shares
//! one commit.

use std::collections::{BTreeSet, HashMap};

use dvs_ledger::{Core, Decision, Ledger};
use dvs_schemas::{HostName, Timestamp};

use crate::host::{Effect, HostCore, HostEvent, HostSettings};
use crate::ledger::{self, LoadError};

/// All hosts of the process.
#[derive(Debug)]
pub struct Agent {
    /// By name.
    hosts: Vec<Scheduled>,
    /// Where each host is among them. Only looked up, never walked, so its
    /// order decides nothing.
    places: HashMap<HostName, usize>,
    timers: BTreeSet<(Timestamp, usize)>,
}

#[derive(Debug)]
struct Scheduled {
    core: HostCore,
    /// The host's entry among the timers.
    due: Option<Timestamp>,
}

impl Agent {
    /// Loads the hosts from the ledger; all of them wake at once. `seed`
    /// decides the jitter.
    ///
    /// # Errors
    /// The ledger has entries that this version doesn't write.
    pub fn load(
        ledger: &Ledger,
        hosts: &BTreeSet<HostName>,
        settings: &HostSettings,
        seed: u64,
    ) -> Result<Self, LoadError> {
        let mut kept = ledger::load(ledger, hosts)?;
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mut agent = Self {
            hosts: Vec::new(),
            places: HashMap::new(),
            timers: BTreeSet::new(),
        };
        for (place, host) in hosts.iter().enumerate() {
            let kept = kept.remove(host).unwrap_or_default();
            let core = HostCore::new(host.clone(), settings.clone(), seeds.u64(..), kept);
            agent.hosts.push(Scheduled { core, due: None });
            agent.places.insert(host.clone(), place);
            agent.reschedule(place);
        }
        Ok(agent)
    }

    /// One host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&HostCore> {
        let place = self.places.get(host)?;
        self.hosts.get(*place).map(|scheduled| &scheduled.core)
    }

    /// Follows a host's own timer.
    fn reschedule(&mut self, place: usize) {
        let Some(scheduled) = self.hosts.get_mut(place) else {
            return;
        };
        let due = scheduled.core.due();
        if due == scheduled.due {
            return;
        }
        if let Some(old) = std::mem::replace(&mut scheduled.due, due) {
            self.timers.remove(&(old, place));
        }
        self.timers.extend(due.map(|due| (due, place)));
    }
}

impl Core for Agent {
    type Event = (HostName, HostEvent);
    type Effect = Effect;

    fn handle(
        &mut self,
        now: Timestamp,
        (host, event): Self::Event,
        out: &mut Decision<Self::Effect>,
    ) {
        // The edge lets only the process's own hosts in.
        let Some(place) = self.places.get(&host).copied() else {
            return;
        };
        if let Some(scheduled) = self.hosts.get_mut(place) {
            scheduled.core.handle(now, event, out);
        }
        self.reschedule(place);
    }

    fn due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn wake(&mut self, now: Timestamp, out: &mut Decision<Self::Effect>) {
        while let Some((due, place)) = self.timers.first().copied() {
            if due > now {
                return;
            }
            self.timers.pop_first();
            if let Some(scheduled) = self.hosts.get_mut(place) {
                scheduled.due = None;
                scheduled.core.wake(now, out);
            }
            self.reschedule(place);
        }
    }
}
