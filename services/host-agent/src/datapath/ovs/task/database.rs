// SPDX-License-Identifier: Apache-2.0
//! The database's side: what is written there, and what others write.

use std::collections::{BTreeMap, BTreeSet};

use dvs_ovsdb::{RowChange, Session, SessionError};
use dvs_schemas::v1::Link;
use dvs_schemas::{PortId, SwitchName};

use super::Task;
use super::commit::Meets;
use super::drift::Outcome;
use crate::datapath::ovs::config::DriftPolicy;
use crate::datapath::ovs::network::HostNetwork;
use crate::datapath::ovs::rows::{self, Difference, Inputs, RowPlan, Ruled, Scope, takes_anything};
use crate::datapath::ovs::view::{self, View};
use crate::datapath::ovs::wiring;
use crate::datapath::{DatapathError, Notice, Part};

/// Plans in a row until nothing differs: a bridge comes with the first, what
/// needs its row with the second; a third would find nothing.
const ROUNDS: usize = 3;

type Key = (SwitchName, PortId);

impl Task {
    /// Connects to the database, with all of it read. The first time what is
    /// marked there is what is to be, until somebody says otherwise.
    pub(super) async fn connect(&mut self) -> Result<(), DatapathError> {
        let session = Session::open(&self.config.database)
            .await
            .map_err(|error| unread(chain(&error)))?;
        self.counts.sessions.inc();
        tracing::info!(endpoint = %self.config.database.endpoint, "the database is read");
        if self.loaded {
            // What happened meanwhile is unknown to whoever has read before.
            self.notices.tell(Notice::Disturbed);
        } else {
            self.load(session.cache());
        }
        self.database = Some(session);
        self.unreached = None;
        if !self.forwarded {
            self.tell_of_what_is_in_force();
        }
        self.settle().await
    }

    /// The database is away; what is to be stays known. Returns what to say to
    /// whoever waited for it.
    pub(super) fn lost(&mut self, error: &SessionError) -> String {
        let endpoint = &self.config.database.endpoint;
        let error = chain(error);
        tracing::warn!(%endpoint, error, "the database of Open vSwitch is away");
        let said = format!("{endpoint} is lost: {error}");
        self.database = None;
        self.unreached = Some(said.clone());
        self.notices.tell(Notice::Disturbed);
        self.try_again();
        said
    }

    pub(super) fn owned(&mut self) {
        let plugs = self.plugs.iter().flat_map(|(switch, plugs)| {
            plugs
                .iter()
                .map(|(port, plug)| (plug.interface, (switch.clone(), port.clone())))
        });
        self.owners = plugs.collect();
    }

    /// Looks which interfaces are there now, and answers which came or went.
    pub(super) fn look(&mut self) -> BTreeSet<Key> {
        let Some(database) = &self.database else {
            return BTreeSet::new();
        };
        let view = View::new(database.cache());
        let found = wiring::find(&self.intent, &self.config, &view, &self.plugs);
        let plugs = &found.plugs;
        let mut moved = BTreeSet::new();
        for (switch, wish) in &self.intent {
            let before = self.plugs.get(switch);
            let after = plugs.get(switch);
            for port in wish.ports.keys() {
                let key = (switch.clone(), port.clone());
                let was = before.and_then(|plugs| plugs.get(port));
                let is = after.and_then(|plugs| plugs.get(port));
                let same = was.map(|plug| plug.interface) == is.map(|plug| plug.interface);
                let counts_on = was.zip(is).is_some_and(|(was, is)| is.is_device_of(was));
                if !counts_on && was.is_some() {
                    self.tallies.unplugged(&key);
                }
                if is.is_some() && !self.tallies.is_plugged(&key) {
                    self.tallies.plugged(key.clone());
                }
                let link = |plug: Option<&wiring::Plug>| plug.map_or(Link::Down, |plug| plug.link);
                if link(was) != link(is) {
                    self.notices.tell(Notice::Link {
                        switch: switch.clone(),
                        port: port.clone(),
                        link: link(is),
                    });
                }
                let number = |plug: Option<&wiring::Plug>| plug.and_then(|plug| plug.ofport);
                if !same || number(was) != number(is) {
                    moved.insert(key);
                }
            }
        }
        moved.extend(found.stale.values().cloned());
        let leaving = &self.leaving;
        let goes = |switch: &SwitchName| leaving.contains_key(&(switch.clone(), Part::Bridge));
        let wired = (&self.config, &self.intent, &found.plugs);
        self.memory.look(wired, &view, goes);
        self.found(found);
        self.owned();
        moved
    }

    /// What of the host's own traffic passes its devices, if one of them is to
    /// be taken; else nobody asks.
    fn network(&self) -> HostNetwork {
        let view = self
            .database
            .as_ref()
            .map(|database| View::new(database.cache()));
        let takes = |view| takes_anything(&self.intent, &self.config, &view, &self.memory);
        if view.is_some_and(takes) {
            HostNetwork::read()
        } else {
            HostNetwork::Known(BTreeMap::new())
        }
    }

    fn plan(&self, scope: &Scope, network: &HostNetwork) -> Option<RowPlan> {
        let view = View::new(self.database.as_ref()?.cache());
        let ruled = if self.stale.is_empty() {
            Ruled::new()
        } else {
            self.bridges.numbers()
        };
        Some(rows::plan(&Inputs {
            intent: &self.intent,
            tallies: &self.tallies,
            config: &self.config,
            view: &view,
            plugs: &self.plugs,
            stale: &self.stale,
            ruled: &ruled,
            going: &self.going,
            memory: &self.memory,
            network,
            scope,
        }))
    }

    /// Waits until all that others wrote by now is known.
    pub(super) async fn catch_up(&mut self) -> Result<(), String> {
        let Some(database) = &mut self.database else {
            return Ok(());
        };
        if let Err(error) = database.catch_up().await {
            return Err(self.lost(&error));
        }
        self.take_changes().await;
        Ok(())
    }

    /// Takes in one by one what has come by now. Before each look at the whole,
    /// which sees that a link is down or an interface gone but not what it had
    /// counted.
    pub(super) async fn take_changes(&mut self) {
        let changes = self.database.as_mut().map(Session::take_changes);
        self.take_in(changes.unwrap_or_default()).await;
    }

    async fn take_in(&mut self, changes: Vec<RowChange>) {
        let mut down = Vec::new();
        for change in changes {
            self.unsettled |= self.is_structural(&change, &mut down);
        }
        // What goes down may go away next.
        self.read_now(&down).await;
    }

    /// Writes the whole delta: somebody asked for it.
    pub(super) async fn write(&mut self, scope: &Scope) -> Result<(), DatapathError> {
        self.catch_up_with_sent().await.map_err(unchanged)?;
        let network = self.network();
        for _ in 0..ROUNDS {
            self.look();
            self.read_unread().await;
            let Some(plan) = self.plan(scope, &network) else {
                return Err(unread("the database of Open vSwitch is away".to_owned()));
            };
            self.tell_of_others_settings(&plan);
            self.failures = plan.refused;
            if plan.transaction.is_empty() {
                break;
            }
            let meets = Meets::of(&plan.differences, &self.intent);
            self.commit((plan.transaction, plan.rewired), meets).await?;
            if meets == Meets::Nothing {
                // No row has come that others would need.
                break;
            }
        }
        self.judge().await.map_err(unread)
    }

    /// Follows what others wrote: what they plugged is taken in, what they
    /// changed of ours is told, and undone if that is the policy.
    pub(super) async fn settle(&mut self) -> Result<(), DatapathError> {
        // Here, as what it writes itself has to be followed, too.
        self.unsettled = false;
        let network = self.network();
        for _ in 0..ROUNDS {
            let mut moved = self.look();
            self.read_unread().await;
            moved.extend(self.tallies.renewed());
            let Some(plan) = self.plan(&Scope::All, &network) else {
                return Err(unread("the database of Open vSwitch is away".to_owned()));
            };
            let follows = |difference: &Difference| match &difference.place {
                (switch, Part::Port(port)) => moved.contains(&(switch.clone(), port.clone())),
                // Its rows follow its ports.
                (switch, Part::Mirror(_)) => moved.iter().any(|(of, _)| of == switch),
                (_, Part::Bridge) => false,
            };
            let meets = Meets::of(&plan.differences, &self.intent);
            let differences = plan.differences.iter().cloned();
            let (follows, drift): (Vec<_>, Vec<_>) = differences.partition(follows);
            let plan = match self.config.drift {
                DriftPolicy::Repair => Some(plan),
                DriftPolicy::Report => {
                    let places = follows.into_iter().map(|difference| difference.place);
                    self.plan(&Scope::Only(places.collect()), &network)
                }
            };
            let Some(plan) = plan else {
                return Err(unread("the database of Open vSwitch is away".to_owned()));
            };
            self.tell_of_others_settings(&plan);
            let RowPlan {
                transaction,
                refused,
                rewired,
                ..
            } = plan;
            self.failures = refused;
            if transaction.is_empty() {
                self.report(drift, false);
                break;
            }
            let written = self.commit((transaction, rewired), meets).await;
            let repairs = self.config.drift == DriftPolicy::Repair;
            self.report(drift, repairs && written.is_ok());
            written?;
            if meets == Meets::Nothing {
                break;
            }
        }
        self.judge().await.map_err(unread)
    }

    fn report(&mut self, drift: Vec<Difference>, repaired: bool) {
        let outcome = match (repaired, self.sent) {
            (true, _) => Outcome::Undone,
            (false, None) => Outcome::Stays,
            (false, Some(_)) => Outcome::Pending,
        };
        for telling in self.reported.take(drift, outcome, self.config.drift) {
            if telling.is_new {
                self.counts.drifts.inc();
            }
            self.notices.tell(telling.difference.told(telling.repaired));
        }
        self.tell_of_what_drifts();
    }

    /// Others wrote, or Open vSwitch did.
    pub(super) async fn changed(&mut self, changes: Vec<RowChange>) {
        self.take_in(changes).await;
        if !self.unsettled {
            return;
        }
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "what others changed can't be followed");
            self.notices.tell(Notice::Disturbed);
        }
        self.forward_all().await;
        if self.bridges.away().is_some() {
            self.try_again();
        }
    }

    /// Takes in what concerns one interface alone. True if there is more to a
    /// change than that.
    /// Ports that went down are added to `down`.
    fn is_structural(&mut self, change: &RowChange, down: &mut Vec<Key>) -> bool {
        let owner = match &*change.table {
            view::INTERFACE => self.owners.get(&change.uuid).cloned(),
            _ => None,
        };
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            if let (Some(key), Some(old)) = (owner, &change.old) {
                // Nobody can ask it any more.
                if let Some(last) = view::statistics(old) {
                    self.tallies.seen(&key, &last);
                }
            }
            return true;
        };
        let differs = |column: &str| old.get(column) != new.get(column);
        let own = |columns: &[&str]| {
            new.iter()
                .filter(|(column, _)| differs(column))
                .all(|(column, _)| columns.contains(&&**column))
        };
        match &*change.table {
            view::ROOT => !own(&["next_cfg", "cur_cfg"]),
            view::INTERFACE => {
                if let Some(key) = owner {
                    if differs(view::STATISTICS) {
                        self.busy(&key);
                    }
                    if let Some(link) = view::link(new)
                        && self.link(&key, link)
                    {
                        self.link_of_machine(&key, link);
                        if link == Link::Down {
                            down.push(key);
                        }
                    }
                }
                !own(&[view::STATISTICS, view::LINK_STATE, view::ADMIN_STATE])
            }
            _ => true,
        }
    }

    fn busy(&mut self, key: &Key) {
        let (switch, port) = key;
        let wanted = self
            .intent
            .get(switch)
            .is_some_and(|wish| wish.ports.contains_key(port));
        if wanted && self.moved.insert(key.clone()) {
            self.notices.tell(Notice::Busy {
                switch: switch.clone(),
                port: port.clone(),
            });
        }
    }

    /// True if that is news.
    fn link(&mut self, (switch, port): &Key, link: Link) -> bool {
        let plug = self
            .plugs
            .get_mut(switch)
            .and_then(|plugs| plugs.get_mut(port));
        let Some(plug) = plug.filter(|plug| plug.link != link) else {
            return false;
        };
        plug.link = link;
        self.notices.tell(Notice::Link {
            switch: switch.clone(),
            port: port.clone(),
            link,
        });
        true
    }
}

/// Nobody knows what is there.
pub(super) fn unread(reason: String) -> DatapathError {
    DatapathError {
        doing: "read",
        reason,
    }
}

/// What is there was not changed, as far as anybody knows.
pub(super) fn unchanged(reason: String) -> DatapathError {
    DatapathError {
        doing: "changed",
        reason,
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
