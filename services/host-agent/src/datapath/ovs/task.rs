// SPDX-License-Identifier: Apache-2.0
//! The one owner of the connections to Open vSwitch. It answers calls, follows
//! what others do, and comes back after any of them was away.

mod bridges;
mod commit;
mod conditions;
mod database;
mod drift;
mod force;
mod judgement;
mod lifeline;
mod loading;
mod machines;
mod picture;
mod plugs;
mod ports;
mod rules;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dvs_daemon::Metrics;
use dvs_schemas::v1::CountersOf;
use dvs_schemas::{PortId, SwitchName};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use self::bridges::{Bridges, Hold};
use self::commit::Sent;
use self::database::unread;
use self::drift::Reported;
use self::force::Standstill;
use self::judgement::KeptMtus;
use self::machines::Machines;
use self::plugs::Shown;
use self::rules::Reviews;
use super::Call;
use super::config::OvsConfig;
use super::forwarding::News;
use super::intent::{Abilities, Intent};
use super::rows::{Memory, Place, Spoilt};
use super::unusable::{Unread, Unusable};
use super::wiring::{Plug, Plugs, Stale};
use crate::backoff::Backoff;
use crate::datapath::notices::Notices;
use crate::datapath::tally::Tallies;
use crate::datapath::{Applied, DatapathError, Notice, Part, Picture, StepFailure, Write};

/// Between tries to reach what is away. Short: while `ovs-vswitchd` starts no
/// frame passes.
const AWAY: Backoff = Backoff {
    base: Duration::from_millis(50),
    cap: Duration::from_secs(2),
};

/// What the task does, as numbers; clones share them.
#[derive(Debug, Clone, Default)]
pub struct OvsCounts {
    pub(super) transactions: Counter,
    pub(super) programmes: Counter,
    pub(super) drifts: Counter,
    pub(super) sessions: Counter,
}

impl OvsCounts {
    /// Transactions that were sent.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.get()
    }

    /// Times that the rules of a bridge were changed.
    #[must_use]
    pub fn programmes(&self) -> u64 {
        self.programmes.get()
    }

    /// Columns and rows that somebody else changed.
    #[must_use]
    pub fn drifts(&self) -> u64 {
        self.drifts.get()
    }

    /// Times that the database was read as a whole.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.get()
    }

    /// Counts that the metrics show.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        let Self {
            transactions,
            programmes,
            drifts,
            sessions,
        } = counts.clone();
        metrics.register(|registry| {
            registry.register(
                "dvs_ovsdb_transactions",
                "Transactions sent to the database of Open vSwitch",
                transactions,
            );
            registry.register(
                "dvs_openflow_changes",
                "Times that the rules of a bridge were changed",
                programmes,
            );
            registry.register(
                "dvs_drift",
                "Columns and rows that somebody else changed",
                drifts,
            );
            registry.register(
                "dvs_ovsdb_sessions",
                "Times that the database of Open vSwitch was read as a whole",
                sessions,
            );
        });
        counts
    }
}

/// The owner. All that it knows of what is to be is `intent`; all else is what
/// it knows of what is there.
pub(super) struct Task {
    config: OvsConfig,
    counts: OvsCounts,
    notices: Arc<Notices>,
    intent: Intent,
    /// Switches that are to go and may be there still.
    going: BTreeSet<SwitchName>,
    /// What left the intent and was not seen to leave rows and rules, by the
    /// writes that are to remove it.
    leaving: BTreeMap<Place, Write>,
    /// What the ledger said was to be, until the marks were read.
    ledger: Intent,
    /// False until the marks were read once: before that nobody knows what is
    /// to be, so nothing is taken away.
    loaded: bool,
    abilities: Abilities,
    /// True once a limit on what a port receives was seen to work.
    shapes: bool,
    tallies: Tallies,
    /// What placements of ports had come to when the agent said so last, until
    /// they are found or made here.
    told: BTreeMap<(SwitchName, PortId), CountersOf>,
    /// What placements came to that ended, until that is handed over.
    ended: Vec<(SwitchName, CountersOf)>,
    database: Option<dvs_ovsdb::Session>,
    /// Why the database is away, as far as it is known.
    unreached: Option<String>,
    bridges: Bridges,
    /// False until the bridges were given their rules once: before that nobody
    /// knows whether what is to be is in force.
    forwarded: bool,
    memory: Memory,
    plugs: Plugs,
    /// What was told of plugs.
    shown: BTreeMap<(SwitchName, PortId), Shown>,
    /// Interfaces that can't be the ports' that they say.
    unusable: BTreeMap<String, Unusable>,
    /// Words of interfaces that can't be read.
    unread: Vec<Unread>,
    /// Marks of which something can't be read.
    spoilt: Vec<Spoilt>,
    /// Interfaces whose device the switch is to open anew.
    stale: Stale,
    /// What is known of the machines behind those.
    machines: Machines,
    /// The port of each plugged interface.
    owners: BTreeMap<Uuid, (SwitchName, PortId)>,
    /// Ports whose counters moved since they were read.
    moved: BTreeSet<(SwitchName, PortId)>,
    /// More was changed than one interface alone, and nobody has settled it.
    unsettled: bool,
    reported: Reported,
    /// What keeps a part of the database from being as it is to be.
    failures: BTreeMap<Place, StepFailure>,
    /// Why no frame passes, though all is written.
    standstill: Option<Standstill>,
    /// A switch whose bridge can't be reached, as it was told last.
    away: Option<SwitchName>,
    /// Of switches whose MTU is not taken everywhere.
    kept: BTreeMap<SwitchName, KeptMtus>,
    /// What was written into the database and may not have taken hold yet.
    written: Option<Hold>,
    /// What was written there and not carried out in time.
    sent: Option<Sent>,
    /// When the rules of bridges are looked at.
    reviews: Reviews,
    attempt: u32,
    /// When to reach again for what is away.
    retry: Option<Instant>,
}

/// What happens to the task.
enum Happening {
    Call(Option<Call>),
    Changed(Result<Vec<dvs_ovsdb::RowChange>, dvs_ovsdb::SessionError>),
    Told(SwitchName, Result<News, dvs_openflow::SessionError>),
    Review(SwitchName),
    Retry,
}

impl Task {
    pub(super) fn new(config: OvsConfig, counts: OvsCounts, notices: Arc<Notices>) -> Self {
        Self {
            bridges: Bridges::new(&config, counts.programmes.clone()),
            config,
            counts,
            notices,
            intent: Intent::new(),
            going: BTreeSet::new(),
            leaving: BTreeMap::new(),
            ledger: Intent::new(),
            loaded: false,
            abilities: Abilities::default(),
            shapes: false,
            tallies: Tallies::default(),
            told: BTreeMap::new(),
            ended: Vec::new(),
            database: None,
            unreached: None,
            forwarded: false,
            memory: Memory::default(),
            plugs: Plugs::new(),
            shown: BTreeMap::new(),
            unusable: BTreeMap::new(),
            unread: Vec::new(),
            spoilt: Vec::new(),
            stale: Stale::new(),
            machines: Machines::default(),
            owners: BTreeMap::new(),
            moved: BTreeSet::new(),
            unsettled: false,
            reported: Reported::default(),
            failures: BTreeMap::new(),
            standstill: None,
            away: None,
            kept: BTreeMap::new(),
            written: None,
            sent: None,
            reviews: Reviews::default(),
            attempt: 0,
            // Whoever asks first makes it connect, so that what the agent knows
            // is known before.
            retry: None,
        }
    }

    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        loop {
            match self.next(&mut calls).await {
                Happening::Call(None) => return,
                Happening::Call(Some(call)) => {
                    self.answer(call).await;
                    // Whoever is woken by an answer waits for this thread: what
                    // comes next must not keep it.
                    tokio::task::yield_now().await;
                }
                Happening::Changed(Ok(changes)) => self.changed(changes).await,
                // Whoever asks next is told what comes of connecting again.
                Happening::Changed(Err(error)) => drop(self.lost(&error)),
                Happening::Told(switch, Ok(News::Rules)) => self.reviews.ask(switch),
                Happening::Told(switch, Ok(News::Speaks(port))) => self.speaks(&switch, port),
                Happening::Review(switch) => self.review(&switch).await,
                Happening::Told(switch, Err(error)) => self.rules_unknown(&switch, &error),
                Happening::Retry => {
                    self.retry = None;
                    self.reach().await;
                }
            }
        }
    }

    /// Does what is asked for.
    async fn answer(&mut self, call: Call) {
        // Nobody waits for an answer whose asker is gone.
        match call {
            Call::Resume(known) => self.remember(&known),
            Call::Announce(ports) => self.announce(ports).await,
            Call::Read(answer) => drop(answer.send(self.read().await)),
            Call::Apply(steps, guarded, answer) => {
                let steps = self.apply(&steps, &guarded).await;
                let ended = std::mem::take(&mut self.ended);
                drop(answer.send(Applied { steps, ended }));
            }
            Call::Counters(ports, answer) => drop(answer.send(self.counters(ports).await)),
        }
    }

    async fn next(&mut self, calls: &mut mpsc::Receiver<Call>) -> Happening {
        let Self {
            database,
            bridges,
            retry,
            unsettled,
            reviews,
            ..
        } = self;
        let changed = async {
            match database {
                Some(_) if *unsettled => Ok(Vec::new()),
                Some(database) => database.changed().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match retry {
                Some(due) => tokio::time::sleep_until(*due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            call = calls.recv() => Happening::Call(call),
            changed = changed => Happening::Changed(changed),
            (switch, news) = bridges.told() => Happening::Told(switch, news),
            switch = reviews.due() => Happening::Review(switch),
            () = due => Happening::Retry,
        }
    }

    fn try_again(&mut self) {
        if self.retry.is_none() {
            self.attempt = self.attempt.saturating_add(1);
            let wait = AWAY.wait(self.attempt, &mut fastrand::Rng::new());
            self.retry = Some(Instant::now() + wait);
        }
    }

    /// Reaches for what is away, and makes true there what is to be.
    async fn reach(&mut self) {
        let was_loaded = self.loaded;
        if let Err(error) = self.be_connected().await {
            tracing::debug!(%error, "not reached");
        }
        self.forward_all().await;
        if self.database.is_some() && self.bridges.away().is_none() {
            self.attempt = 0;
        } else {
            self.try_again();
        }
        if self.loaded && !was_loaded {
            // Whoever has asked before was told that it can't be read.
            self.notices.tell(Notice::Disturbed);
        }
    }

    /// Connects to the database, unless that is so. One that is away is reached
    /// for again, whether somebody asks or not.
    async fn be_connected(&mut self) -> Result<(), DatapathError> {
        if self.database.is_some() {
            return Ok(());
        }
        if !self.forwarded {
            // From now on it counts how long that takes.
            self.tell_of_what_is_in_force();
        }
        let connected = self.connect().await;
        if let (Err(error), None) = (&connected, &self.database) {
            self.unreached = Some(error.reason.clone());
            self.tell_of_what_is_in_force();
            self.try_again();
        }
        connected
    }

    async fn read(&mut self) -> Result<Picture, DatapathError> {
        let read = self.read_database().await;
        // A switch that doesn't answer is the reason of much that fails there.
        self.forward_all().await;
        let away = self.database.as_ref().and_then(|_| self.away());
        match (read, away) {
            (_, Some(why)) => {
                self.try_again();
                Err(unread(why))
            }
            (Err(error), None) => Err(error),
            (Ok(()), None) => Ok(self.picture()),
        }
    }

    async fn read_database(&mut self) -> Result<(), DatapathError> {
        self.be_connected().await?;
        self.catch_up().await.map_err(unread)?;
        self.catch_up_with_sent().await.map_err(unread)?;
        self.settle().await
    }

    /// What keeps a part from being true. Without its bridge nothing of a
    /// switch is; without one of its uplinks all else goes on.
    fn failure(&self, switch: &SwitchName, part: &Part) -> Option<StepFailure> {
        let of_rows = |part: &Part| self.failures.get(&(switch.clone(), part.clone())).cloned();
        of_rows(part)
            .or_else(|| self.no_bridge(switch))
            .or_else(|| self.bridges.failure(switch))
            .or_else(|| {
                let of_bridge = of_rows(&Part::Bridge);
                of_bridge.filter(|failure| {
                    *part == Part::Bridge || failure.field.as_deref() != Some("uplinks")
                })
            })
    }

    fn plug(&self, switch: &SwitchName, port: &PortId) -> Option<&Plug> {
        self.plugs.get(switch)?.get(port)
    }
}
