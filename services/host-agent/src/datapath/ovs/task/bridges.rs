// SPDX-License-Identifier: Apache-2.0
//! The sessions with all bridges, and the rules that they are given there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use dvs_openflow::SessionError;
use dvs_ovsdb::unixctl::{self, UnixctlError};
use dvs_schemas::SwitchName;
use prometheus_client::metrics::counter::Counter;
use tokio::time::timeout;

use super::database::chain;
use crate::datapath::StepFailure;
use crate::datapath::ovs::config::{BridgeName, DriftPolicy, OvsConfig};
use crate::datapath::ovs::forwarding::{Altered, Forwarding, ForwardingError, News, Wanted};
use crate::datapath::ovs::rows::Ruled;

/// Open vSwitch doesn't look through what it keeps more often than that.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// The bridges of a host, as their switches show them.
#[derive(Debug)]
pub(super) struct Bridges {
    run_dir: PathBuf,
    patience: Duration,
    changes: Counter,
    there: BTreeMap<SwitchName, Forwarding>,
    /// Bridges that don't forward as they are to, and why.
    unruled: BTreeMap<SwitchName, Unruled>,
}

/// What a switch is to forward by.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) switch: SwitchName,
    pub(super) bridge: BridgeName,
    pub(super) wanted: Wanted,
}

/// What has to take hold of frames whose like have passed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// Rules, and what the database says of ports.
    Rules,
    /// Mirrors besides.
    Mirrors,
}

/// Why a bridge doesn't forward as it is to.
#[derive(Debug, Clone, thiserror::Error)]
enum Unruled {
    /// Its switch can't be reached; it is tried again.
    #[error("the bridge can't be given its rules; is ovs-vswitchd running? {0}")]
    Away(String),
    /// Its switch doesn't take its rules; others may do.
    #[error("{0}")]
    Refused(String),
}

impl Bridges {
    pub(super) fn new(config: &OvsConfig, changes: Counter) -> Self {
        Self {
            run_dir: config.run_dir.clone(),
            patience: config.patience,
            changes,
            there: BTreeMap::new(),
            unruled: BTreeMap::new(),
        }
    }

    /// Gives every bridge its rules, and waits until those and what else was
    /// written have taken hold. Bridges without an order are left alone.
    pub(super) async fn become_these(&mut self, orders: Vec<Order>, written: Option<Hold>) {
        let ordered: BTreeSet<&SwitchName> = orders.iter().map(|order| &order.switch).collect();
        self.there.retain(|switch, _| ordered.contains(switch));
        self.unruled.retain(|switch, _| ordered.contains(switch));
        let mut hold = written;
        for order in orders {
            let switch = order.switch.clone();
            match self.become_this(order).await {
                Ok(changed) => {
                    if changed {
                        self.changes.inc();
                        hold = hold.max(Some(Hold::Rules));
                    }
                    self.unruled.remove(&switch);
                }
                Err(error) => {
                    let why = chain(&error);
                    let unruled = if error.is_refusal() {
                        Unruled::Refused(why)
                    } else {
                        self.there.remove(&switch);
                        Unruled::Away(why)
                    };
                    tracing::warn!(%switch, "{unruled}");
                    self.unruled.insert(switch, unruled);
                }
            }
        }
        if let Some(hold) = hold {
            self.take_hold(hold).await;
        }
    }

    /// Gives a bridge its rules. True if that was a change.
    async fn become_this(&mut self, order: Order) -> Result<bool, ForwardingError> {
        let Order {
            switch,
            bridge,
            wanted,
        } = order;
        let mut forwarding = match self.there.remove(&switch) {
            Some(forwarding) => forwarding,
            None => {
                let socket = self.run_dir.join(format!("{bridge}.mgmt"));
                Forwarding::open(&socket, self.control().as_deref(), self.patience).await?
            }
        };
        let changed = forwarding.become_this(wanted).await;
        self.there.insert(switch, forwarding);
        changed
    }

    /// Waits until no frame meets what was true before. Open vSwitch keeps what
    /// rules came to for frames of one kind, and looks through that a moment
    /// after rules change. It doesn't look at what mirrors changed, so after
    /// those all of it is thrown away.
    async fn take_hold(&mut self, hold: Hold) {
        let held = async {
            match hold {
                Hold::Rules => {}
                Hold::Mirrors => drop(self.command("revalidator/purge").await?),
            }
            // The end of a look that was under way by then, and the end of one
            // that has begun after that.
            self.looked_through().await?;
            self.looked_through().await
        };
        if let Err(error) = held.await {
            // It happens all the same, half a second later at most.
            tracing::debug!(error = chain(&error), "rules take hold unseen");
        }
    }

    /// Waits until the next look through what is kept has ended. By itself that
    /// comes twice a second.
    async fn looked_through(&mut self) -> Result<(), UnixctlError> {
        let Some(socket) = self.control() else {
            return Ok(());
        };
        let end = unixctl::send(&socket, "revalidator/wait", &[], self.patience).await?;
        // All bridges have one such keep, so any of them will do.
        if let Some(any) = self.there.values_mut().next()
            && let Err(error) = any.stir().await
        {
            tracing::debug!(error = chain(&error), "rules take hold later");
        }
        let mut end = pin!(end.answer());
        loop {
            match timeout(BETWEEN_LOOKS, &mut end).await {
                Ok(end) => return end.map(drop),
                // The answer lies there until something else happens, and any
                // command is something that happens.
                Err(_) => drop(self.command("version").await?),
            }
        }
    }

    /// Tells `ovs-vswitchd` to do something; none if it doesn't run.
    pub(super) async fn command(&self, command: &str) -> Result<Option<String>, UnixctlError> {
        self.question(command, &[]).await
    }

    /// Asks `ovs-vswitchd`; none if it doesn't run.
    pub(super) async fn question(
        &self,
        command: &str,
        arguments: &[&str],
    ) -> Result<Option<String>, UnixctlError> {
        match self.control() {
            Some(socket) => {
                let answer = unixctl::call(&socket, command, arguments, self.patience).await;
                answer.map(Some)
            }
            None => Ok(None),
        }
    }

    /// The control socket of `ovs-vswitchd`.
    fn control(&self) -> Option<PathBuf> {
        let pid = std::fs::read_to_string(self.run_dir.join("ovs-vswitchd.pid")).ok()?;
        let socket = format!("ovs-vswitchd.{}.ctl", pid.trim());
        Some(self.run_dir.join(socket))
    }

    /// A switch whose bridge can't be reached, if there is one.
    pub(super) fn away(&self) -> Option<&SwitchName> {
        let mut away = self.unruled.iter().filter(|(_, unruled)| match unruled {
            Unruled::Away(_) => true,
            Unruled::Refused(_) => false,
        });
        away.next().map(|(switch, _)| switch)
    }

    /// True if the bridge of a switch can't be reached.
    pub(super) fn is_away(&self, switch: &SwitchName) -> bool {
        match self.unruled.get(switch) {
            Some(Unruled::Away(_)) => true,
            Some(Unruled::Refused(_)) | None => false,
        }
    }

    /// What keeps a switch from forwarding as it is to.
    pub(super) fn failure(&self, switch: &SwitchName) -> Option<StepFailure> {
        let unruled = self.unruled.get(switch)?;
        Some(StepFailure::new(None, unruled.to_string()))
    }

    /// True if some bridge has no meters.
    pub(super) fn lack_meters(&self) -> bool {
        self.there.values().any(|bridge| !bridge.limits)
    }

    /// The bridge of a switch, if its switch can be spoken with.
    pub(super) fn of(&mut self, switch: &SwitchName) -> Option<&mut Forwarding> {
        self.there.get_mut(switch)
    }

    /// Numbers of ports that the rules of bridges name.
    pub(super) fn numbers(&self) -> Ruled {
        let there = self.there.iter();
        there
            .map(|(switch, bridge)| (switch.clone(), bridge.numbers()))
            .collect()
    }

    /// True if there is a session with a bridge.
    pub(super) fn answers(&self, switch: &SwitchName) -> bool {
        self.there.contains_key(switch)
    }

    /// Forgets the session with a bridge: it has ended.
    pub(super) fn forget(&mut self, switch: &SwitchName) {
        self.there.remove(switch);
    }

    /// Looks what somebody else made of the rules of a bridge.
    pub(super) async fn review(
        &mut self,
        switch: &SwitchName,
        policy: DriftPolicy,
    ) -> Result<Option<Altered>, ForwardingError> {
        match self.there.get_mut(switch) {
            Some(bridge) => bridge.review(policy).await,
            None => Ok(None),
        }
    }

    /// What others made of the rules of bridges, and nothing has undone.
    pub(super) fn left(&self) -> impl Iterator<Item = (&SwitchName, &Altered)> {
        let there = self.there.iter();
        there.filter_map(|(switch, bridge)| Some((switch, bridge.left()?)))
    }

    /// True if a bridge has the rules that it is to have.
    pub(super) fn is_right(&self, switch: &SwitchName) -> bool {
        self.there.get(switch).is_some_and(Forwarding::is_right)
    }

    /// Waits until a bridge tells something by itself, or its session ends.
    /// Cancel-safe.
    pub(super) async fn told(&mut self) -> (SwitchName, Result<News, SessionError>) {
        if self.there.is_empty() {
            return std::future::pending().await;
        }
        let all = self
            .there
            .iter_mut()
            .map(|(switch, bridge)| Box::pin(async move { (switch.clone(), bridge.told().await) }));
        futures_util::future::select_all(all).await.0
    }
}
