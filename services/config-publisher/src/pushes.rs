// SPDX-License-Identifier: Apache-2.0
//! Pushes under way: from a record to calls, and from the calls' ends to what
//! is retry's. An outcome costs a search among the hosts of its call and no
//! allocation, unless the host failed.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dvs_schemas::v1::{
    Clobber, FinalState, HostOutcome, HostVerdict, Position, PushSummary, Remove, RemovedPort,
    RepushKey, RipKey,
};
use dvs_schemas::{HostName, Hosts, Revision, SwitchDoc, SwitchName, Timestamp};

use crate::events::{Answer, Call, Outcome};
use crate::fleet::{Fleet, Host};
use crate::history::AsOf;
use crate::record::{Owed, Record};
use crate::render::{Parts, View, members};
pub(crate) use judge::FOREIGN;
use judge::{Lagging, judge};

/// Hosts that a summary names at most.
const NAMED: usize = 1_000;

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    /// Parts of a switch.
    Parts,
    /// The whole of a switch as of a revision.
    Whole(Revision),
    /// Ports that are to go.
    Removal(Arc<Remove>),
}

/// A call under way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flight {
    switch: SwitchName,
    about: About,
    /// Ascending.
    hosts: Arc<[HostName]>,
    /// By place in `hosts`.
    ended: Vec<bool>,
}

/// Why a host lags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The commit that it lags behind.
    pub revision: Revision,
    /// How the call ended.
    pub verdict: HostVerdict,
    /// In words.
    pub why: String,
}

/// A host that has applied the whole of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Host and switch.
    pub key: RepushKey,
    /// The revision of the whole.
    pub revision: Revision,
}

/// A push under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The newest commit that caused it.
    revision: Revision,
    flights: Vec<Flight>,
    open: usize,
    /// Pushes that are not acknowledged.
    pub repush: BTreeMap<RepushKey, Lag>,
    /// Removals that are not acknowledged.
    pub rip: BTreeMap<RipKey, Lag>,
    /// Wholes that are.
    pub settled: Vec<Settled>,
    /// Hosts that will never come back.
    pub forgotten: BTreeMap<HostName, Revision>,
}

/// A push and the messages that start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The push.
    pub push: Push,
    /// Its messages.
    pub calls: Vec<Call>,
    /// Hosts that are not waited for, as they are away.
    pub away: usize,
}

/// A push in the making.
struct Builder<'a> {
    view: View<'a>,
    roster: Option<&'a Arc<[HostName]>>,
    now: Timestamp,
    begun: Begun,
}

/// Starts what a record owes, as things are now. `roster` are the names of all
/// hosts, if none is away.
#[must_use]
pub fn begin(
    view: View<'_>,
    record: &Record,
    roster: Option<&Arc<[HostName]>>,
    now: Timestamp,
) -> Begun {
    let push = Push {
        revision: record.revision,
        flights: Vec::new(),
        open: 0,
        repush: BTreeMap::new(),
        rip: BTreeMap::new(),
        settled: Vec::new(),
        forgotten: record.forgotten.clone(),
    };
    let mut builder = Builder {
        view,
        roster,
        now,
        begun: Begun {
            push,
            calls: Vec::new(),
            away: 0,
        },
    };
    for (switch, owed) in &record.switches {
        builder.globals(switch, owed);
        builder.ports(switch, owed);
        builder.removals(switch, owed);
        builder.wholes(switch, owed);
    }
    let push = &builder.begun.push;
    builder.begun.away = push.repush.len() + push.rip.len();
    builder.begun
}

impl Builder<'_> {
    fn globals(&mut self, switch: &SwitchName, owed: &Owed) {
        if !owed.to_all() {
            return;
        }
        let parts = Parts {
            settings: owed.settings,
            globals: &owed.globals,
            placed: None,
        };
        let entry = self.view.config.switch(switch);
        let clobber = self.view.partial(switch, &parts);
        let (Some(entry), Some(clobber)) = (entry, clobber) else {
            return;
        };
        let doc = &entry.value;
        let everyone = doc.hosts == Hosts::All && owed.whole.is_empty();
        let hosts = match self.roster {
            Some(roster) if everyone => roster.clone(),
            Some(_) | None => self.waited(switch, doc, owed),
        };
        if !hosts.is_empty() {
            self.fan_out(switch, About::Parts, clobber, hosts);
        }
    }

    /// The hosts that a message to all is waited for from; those that are away
    /// lag at once.
    fn waited(&mut self, switch: &SwitchName, doc: &SwitchDoc, owed: &Owed) -> Arc<[HostName]> {
        let mut waited = Vec::new();
        for (name, host) in members(doc, self.view.fleet) {
            if owed.whole.contains(name) {
                continue;
            }
            match Host::barred(host, self.now) {
                None => waited.push(name.clone()),
                Some(why) => self.lags(name, switch, why),
            }
        }
        waited.into()
    }

    fn ports(&mut self, switch: &SwitchName, owed: &Owed) {
        for (host, ports) in &owed.ports {
            // What all hosts get, this one gets too.
            let parts = Parts {
                settings: false,
                globals: &BTreeSet::new(),
                placed: Some((host, ports)),
            };
            let Some(clobber) = self.view.partial(switch, &parts) else {
                continue;
            };
            match self.barred(host) {
                None => self.clobber(switch, About::Parts, clobber, host),
                Some(why) => self.lags(host, switch, why),
            }
        }
    }

    fn removals(&mut self, switch: &SwitchName, owed: &Owed) {
        for (host, ports) in &owed.removals {
            let Some(remove) = self.view.removal(switch, host, ports) else {
                continue;
            };
            if let Some((verdict, why)) = self.barred(host) {
                // Forgotten meanwhile.
                if !self.view.expects(switch, host) {
                    continue;
                }
                for RemovedPort { port, revision } in remove.ports {
                    let key = RipKey {
                        host: host.clone(),
                        switch: switch.clone(),
                        port,
                    };
                    let lag = Lag {
                        revision,
                        verdict,
                        why: why.clone(),
                    };
                    self.begun.push.rip.insert(key, lag);
                }
                continue;
            }
            let remove = Arc::new(remove);
            let about = About::Removal(remove.clone());
            self.fly(switch, about, [host.clone()].into());
            self.begun.calls.push(Call::Remove {
                host: host.clone(),
                remove,
            });
        }
    }

    fn wholes(&mut self, switch: &SwitchName, owed: &Owed) {
        if owed.whole.is_empty() {
            return;
        }
        let about = About::Whole(self.view.revision);
        let globals = self.view.globals(switch);
        let mut to_forget = Vec::new();
        for host in &owed.whole {
            let clobber = Clobber {
                insist: owed.insist.contains(host),
                ..self.view.whole(switch, host, globals.as_ref())
            };
            let nothing = clobber.state == FinalState::Absent;
            let never = !self.view.fleet.knows(host);
            match self.barred(host) {
                // A host that never was has nothing to take away.
                Some(_) if nothing && never => self.settles(host, switch),
                Some(why) => self.lags(host, switch, why),
                None if globals.is_none() => to_forget.push(host.clone()),
                None => self.clobber(switch, about.clone(), clobber, host),
            }
        }
        if !to_forget.is_empty() {
            let clobber = self.view.absent(switch);
            self.fan_out(switch, about, clobber, to_forget.into());
        }
    }

    /// Why nothing is sent to a host, and how that counts.
    fn barred(&self, host: &HostName) -> Option<(HostVerdict, String)> {
        Host::barred(self.view.fleet.get(host), self.now)
    }

    fn lags(
        &mut self,
        host: &HostName,
        switch: &SwitchName,
        (verdict, why): (HostVerdict, String),
    ) {
        let lag = Lag {
            revision: self.begun.push.revision,
            verdict,
            why,
        };
        self.begun.push.repush.insert(key(host, switch), lag);
    }

    fn settles(&mut self, host: &HostName, switch: &SwitchName) {
        self.begun.push.settled.push(Settled {
            key: key(host, switch),
            revision: self.view.revision,
        });
    }

    fn fan_out(
        &mut self,
        switch: &SwitchName,
        about: About,
        clobber: Clobber,
        hosts: Arc<[HostName]>,
    ) {
        self.fly(switch, about, hosts.clone());
        self.begun.calls.push(Call::FanOut {
            clobber: Arc::new(clobber),
            hosts,
        });
    }

    fn clobber(&mut self, switch: &SwitchName, about: About, clobber: Clobber, host: &HostName) {
        self.fly(switch, about, [host.clone()].into());
        self.begun.calls.push(Call::Clobber {
            host: host.clone(),
            clobber: Arc::new(clobber),
        });
    }

    fn fly(&mut self, switch: &SwitchName, about: About, hosts: Arc<[HostName]>) {
        self.begun.push.open += hosts.len();
        self.begun.push.flights.push(Flight {
            switch: switch.clone(),
            about,
            ended: vec![false; hosts.len()],
            hosts,
        });
    }
}

/// Where an answer shows a host to be.
fn position(answer: &Answer) -> Option<Position> {
    match answer {
        Answer::Applied(report) => report.position,
        Answer::Removed(report) => report.position,
        Answer::Planned(_)
        | Answer::Foreign
        | Answer::Unreadable(_)
        | Answer::TimedOut
        | Answer::NoResponder
        | Answer::NotSent(_) => None,
    }
}

fn key(host: &HostName, switch: &SwitchName) -> RepushKey {
    RepushKey {
        host: host.clone(),
        switch: switch.clone(),
    }
}

impl Push {
    /// True if every call has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Answers that are still to come.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.open
    }

    /// Hosts whose acknowledgement of the whole of a switch is still to come.
    pub fn getting_whole<'a>(
        &'a self,
        switch: &'a SwitchName,
    ) -> impl Iterator<Item = &'a HostName> {
        let whole =
            |flight: &&Flight| flight.switch == *switch && matches!(flight.about, About::Whole(_));
        self.flights.iter().filter(whole).flat_map(|flight| {
            let hosts = flight.hosts.iter().zip(&flight.ended);
            hosts.filter(|(_, ended)| !**ended).map(|(host, _)| host)
        })
    }

    /// Takes in the end of a call; the second end of the same call, or the end
    /// of one that never was, changes nothing.
    pub fn end(&mut self, outcome: Outcome, fleet: &mut Fleet, ledger: AsOf<'_>, now: Timestamp) {
        let Outcome { host, call, answer } = outcome;
        let Some(flight) = self.flights.get_mut(call) else {
            return;
        };
        let Ok(place) = flight.hosts.binary_search(&host) else {
            return;
        };
        if std::mem::replace(&mut flight.ended[place], true) {
            return;
        }
        self.open -= 1;
        if let Answer::Applied(report) = &answer
            && report.switch == flight.switch
        {
            let told = (report.observed, report.position);
            fleet.applied(now, &host, &flight.switch, told, ledger);
        }
        // One that knows nothing of the switch has nothing to tell of it.
        if let Answer::Removed(report) = &answer
            && report.switch == flight.switch
            && report.observed > Revision::ZERO
        {
            let told = (report.observed, report.position);
            fleet.applied(now, &host, &flight.switch, told, ledger);
        }
        let switch = &flight.switch;
        let diverged = fleet.answers(&host, position(&answer), ledger);
        let verdict = match diverged {
            // Whatever it did, it has not what this ledger says.
            Some(diverged) => Err(Lagging::diverged(&diverged)),
            None => judge(answer, flight),
        };
        match (&flight.about, verdict) {
            (About::Parts | About::Removal(_), Ok(())) => {}
            (About::Whole(revision), Ok(())) => self.settled.push(Settled {
                key: key(&host, switch),
                revision: *revision,
            }),
            (About::Parts | About::Whole(_), Err(lagging)) => {
                let lag = lagging.behind(self.revision);
                self.repush.insert(key(&host, switch), lag);
            }
            (About::Removal(remove), Err(lagging)) => {
                for removed in &remove.ports {
                    if lagging
                        .ports
                        .as_ref()
                        .is_none_or(|p| p.contains(&removed.port))
                    {
                        let key = RipKey {
                            host: host.clone(),
                            switch: switch.clone(),
                            port: removed.port.clone(),
                        };
                        self.rip.insert(key, lagging.behind(removed.revision));
                    }
                }
            }
        }
    }

    /// Leaves to retry nothing of these hosts.
    pub fn leave_out(&mut self, hosts: &BTreeSet<HostName>) {
        self.repush.retain(|key, _| !hosts.contains(&key.host));
        self.rip.retain(|key, _| !hosts.contains(&key.host));
        self.settled
            .retain(|settled| !hosts.contains(&settled.key.host));
    }

    /// How it stands, host by host.
    #[must_use]
    pub fn summary(&self) -> PushSummary {
        let mut hosts: BTreeMap<&HostName, (HostVerdict, Option<&str>)> = BTreeMap::new();
        let mut note = |host, verdict, why| {
            let known = hosts.entry(host).or_insert((verdict, why));
            if verdict < known.0 {
                *known = (verdict, why);
            }
        };
        for flight in &self.flights {
            for (host, ended) in flight.hosts.iter().zip(&flight.ended) {
                if *ended {
                    note(host, HostVerdict::Applied, None);
                } else {
                    note(host, HostVerdict::Pending, Some("no answer yet"));
                }
            }
        }
        for (key, lag) in &self.repush {
            note(&key.host, lag.verdict, Some(lag.why.as_str()));
        }
        for (key, lag) in &self.rip {
            note(&key.host, lag.verdict, Some(lag.why.as_str()));
        }
        summarize(&hosts)
    }
}

fn summarize(hosts: &BTreeMap<&HostName, (HostVerdict, Option<&str>)>) -> PushSummary {
    let applied = |verdict: &HostVerdict| *verdict == HostVerdict::Applied;
    let done = hosts.values().filter(|(verdict, _)| applied(verdict));
    let done = done.count();
    let mut shown: Vec<_> = hosts.iter().collect();
    if shown.len() > NAMED {
        shown.retain(|(_, (verdict, _))| !applied(verdict));
    }
    shown.sort_by_key(|(host, (verdict, _))| (*verdict, **host));
    let outcomes = shown.into_iter().take(NAMED);
    let outcomes = outcomes.map(|(host, (verdict, why))| HostOutcome {
        host: (*host).clone(),
        outcome: *verdict,
        why: why.map(str::to_owned),
    });
    PushSummary {
        hosts: hosts.len() as u64,
        applied: done as u64,
        outcomes: outcomes.collect(),
    }
}
