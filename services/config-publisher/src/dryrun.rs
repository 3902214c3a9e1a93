// SPDX-License-Identifier: Apache-2.0
//! What a change would do, asked of the hosts: each is sent the state that it
//! would get, as a question. Nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dvs_schemas::v1::{Clobber, DryRunReply, FinalState, HostPlan, PlanOutcome};
use dvs_schemas::{HostName, SwitchName, Timestamp};

use crate::events::{Answer, Call, Outcome};
use crate::fleet::Host;
use crate::pushes::FOREIGN;
use crate::query::Page;
use crate::record::{Owed, Record};
use crate::render::{Parts, View, members};

/// A dry run under way.
#[derive(Debug, Clone)]
pub struct DryRun {
    reply: DryRunReply,
    /// By call; none once it has ended.
    asked: Vec<Option<(HostName, SwitchName)>>,
    open: usize,
    hosts: BTreeSet<HostName>,
    /// What is not "nothing".
    plans: BTreeMap<(HostName, SwitchName), HostPlan>,
}

/// Asks the hosts what they would do. `view` shows the configuration as it
/// would be, and `record` what that would owe the hosts.
#[must_use]
pub fn begin(
    view: View<'_>,
    record: &Record,
    reply: DryRunReply,
    now: Timestamp,
) -> (DryRun, Vec<Call>) {
    let mut asking = Asking {
        view,
        now,
        run: DryRun {
            reply,
            asked: Vec::new(),
            open: 0,
            hosts: BTreeSet::new(),
            plans: BTreeMap::new(),
        },
        calls: Vec::new(),
    };
    for (switch, owed) in &record.switches {
        asking.switch(switch, owed);
    }
    (asking.run, asking.calls)
}

struct Asking<'a> {
    view: View<'a>,
    now: Timestamp,
    run: DryRun,
    calls: Vec<Call>,
}

impl Asking<'_> {
    /// Each host of the switch is asked once, with all that concerns it. What
    /// a removal would do, only a whole can ask.
    fn switch(&mut self, switch: &SwitchName, owed: &Owed) {
        let globals = self.view.globals(switch);
        let wholes: BTreeSet<_> = owed.whole.iter().chain(owed.removals.keys()).collect();
        for host in &wholes {
            let clobber = self.view.whole(switch, host, globals.as_ref());
            self.ask(switch, host, Arc::new(clobber));
        }
        let parts = Parts {
            settings: owed.settings,
            globals: &owed.globals,
            placed: None,
        };
        for (host, ports) in &owed.ports {
            let placed = Some((host, ports));
            let clobber = self.view.partial(switch, &Parts { placed, ..parts });
            if let Some(clobber) = clobber.filter(|_| !wholes.contains(host)) {
                self.ask(switch, host, Arc::new(clobber));
            }
        }
        let Some(entry) = self.view.config.switch(switch) else {
            return;
        };
        if !owed.to_all() {
            return;
        }
        if let Some(clobber) = self.view.partial(switch, &parts).map(Arc::new) {
            for (host, _) in members(&entry.value, self.view.fleet) {
                if !wholes.contains(host) && !owed.ports.contains_key(host) {
                    self.ask(switch, host, clobber.clone());
                }
            }
        }
    }

    fn ask(&mut self, switch: &SwitchName, host: &HostName, clobber: Arc<Clobber>) {
        let known = self.view.fleet.get(host);
        if known.is_none() && clobber.state == FinalState::Absent {
            return; // nothing was ever there
        }
        self.run.hosts.insert(host.clone());
        match Host::barred(known, self.now) {
            Some((_, why)) => self.run.fails(host, switch, why),
            None => {
                self.run.open += 1;
                self.run.asked.push(Some((host.clone(), switch.clone())));
                self.calls.push(Call::Plan {
                    host: host.clone(),
                    clobber,
                });
            }
        }
    }
}

impl DryRun {
    /// True if every host has answered.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Takes in the end of a call.
    pub fn end(&mut self, outcome: Outcome) {
        let Outcome { host, call, answer } = outcome;
        let Some(asked) = self.asked.get_mut(call) else {
            return;
        };
        let Some((_, switch)) = asked.take_if(|(asked, _)| *asked == host) else {
            return;
        };
        self.open -= 1;
        match answer {
            Answer::Planned(plan) => match plan.outcome {
                PlanOutcome::Changes(changes) if changes.is_empty() => {}
                PlanOutcome::Changes(changes) => {
                    let plan = HostPlan {
                        host: host.clone(),
                        switch: switch.clone(),
                        changes,
                        error: None,
                    };
                    self.plans.insert((host, switch), plan);
                }
                PlanOutcome::Refused { message } => {
                    self.fails(
                        &host,
                        &switch,
                        format!("the host would refuse it: {message}"),
                    );
                }
            },
            Answer::Applied(_) | Answer::Removed(_) => {
                self.fails(&host, &switch, "answered with another message".to_owned());
            }
            Answer::Unreadable(why) => {
                self.fails(&host, &switch, format!("its answer can't be read: {why}"));
            }
            Answer::Foreign => self.fails(&host, &switch, FOREIGN.to_owned()),
            Answer::TimedOut => self.fails(&host, &switch, "no answer in time".to_owned()),
            Answer::NoResponder => {
                self.fails(&host, &switch, "nobody listens for the host".to_owned());
            }
            Answer::NotSent(why) => self.fails(&host, &switch, format!("not asked: {why}")),
        }
    }

    fn fails(&mut self, host: &HostName, switch: &SwitchName, why: String) {
        let plan = HostPlan {
            host: host.clone(),
            switch: switch.clone(),
            changes: Vec::new(),
            error: Some(why),
        };
        self.plans.insert((host.clone(), switch.clone()), plan);
    }

    /// The reply; hosts that have not answered are named.
    #[must_use]
    pub fn finish(mut self, room: usize) -> DryRunReply {
        for (host, switch) in std::mem::take(&mut self.asked).into_iter().flatten() {
            self.fails(&host, &switch, "no answer yet".to_owned());
        }
        let concerned: BTreeSet<_> = self.plans.keys().map(|(host, _)| host).collect();
        let unchanged = (self.hosts.len() - concerned.len()) as u64;
        let mut page = Page::new(room / 2);
        let mut reply = self.reply;
        reply.hosts = self.hosts.len() as u64;
        reply.unchanged = unchanged;
        for plan in self.plans.into_values() {
            if page.takes(&plan) {
                reply.plans.push(plan);
            } else {
                reply.left_out += 1;
            }
        }
        reply
    }
}
