// SPDX-License-Identifier: Apache-2.0
//! The deciding code of the process: its hosts (one, or the replicas of a load
//! test) with one loop and one ledger, so that a push to all of them shares
//! one commit.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ledger::{Core, Decision, Ledger};
use dvs_schemas::{HostName, Timestamp};

use crate::host::{Effect, HostCore, HostEvent, HostSettings};
use crate::ledger::{self, LoadError};

/// All hosts of the process.
#[derive(Debug)]
pub struct Agent {
    hosts: BTreeMap<HostName, Scheduled>,
    timers: BTreeSet<(Timestamp, HostName)>,
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
        let mut held = ledger::load(ledger, hosts)?;
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mut agent = Self {
            hosts: BTreeMap::new(),
            timers: BTreeSet::new(),
        };
        for host in hosts {
            let held = held.remove(host).unwrap_or_default();
            let core = HostCore::new(host.clone(), settings.clone(), seeds.u64(..), held);
            let due = core.due();
            agent.timers.extend(due.map(|due| (due, host.clone())));
            agent.hosts.insert(host.clone(), Scheduled { core, due });
        }
        Ok(agent)
    }

    /// One host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&HostCore> {
        self.hosts.get(host).map(|scheduled| &scheduled.core)
    }

    fn reschedule(
        timers: &mut BTreeSet<(Timestamp, HostName)>,
        host: &HostName,
        scheduled: &mut Scheduled,
    ) {
        let due = scheduled.core.due();
        if due == scheduled.due {
            return;
        }
        if let Some(old) = scheduled.due {
            timers.remove(&(old, host.clone()));
        }
        timers.extend(due.map(|due| (due, host.clone())));
        scheduled.due = due;
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
        let Some(scheduled) = self.hosts.get_mut(&host) else {
            return;
        };
        scheduled.core.handle(now, event, out);
        Self::reschedule(&mut self.timers, &host, scheduled);
    }

    fn due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn wake(&mut self, now: Timestamp, out: &mut Decision<Self::Effect>) {
        while let Some((due, host)) = self.timers.pop_first() {
            if due > now {
                self.timers.insert((due, host));
                return;
            }
            let Some(scheduled) = self.hosts.get_mut(&host) else {
                continue;
            };
            scheduled.due = None;
            scheduled.core.wake(now, out);
            Self::reschedule(&mut self.timers, &host, scheduled);
        }
    }
}
