// SPDX-License-Identifier: Apache-2.0
//! Transactions of the database, and rules that change meanwhile.

use std::time::Duration;

use dvs_ovsdb::{Cache, Session, TransactError, Transaction};
use tokio::time::Instant;
use uuid::Uuid;

use super::Task;
use super::bridges::Hold;
use super::database::{chain, unchanged};
use crate::datapath::ovs::intent::Intent;
use crate::datapath::ovs::rows::{Difference, Rewired, is_said_by_rules};
use crate::datapath::ovs::view::{self, View};
use crate::datapath::{DatapathError, Part};

impl Task {
    /// Carries out a transaction. Where frames don't meet what it writes the
    /// bridges get their rules meanwhile.
    pub(super) async fn commit(
        &mut self,
        (mut transaction, rewired): (Transaction, Rewired),
        meets: Meets,
    ) -> Result<(), DatapathError> {
        let orders = match meets {
            Meets::Rules | Meets::Mirrors => None,
            Meets::Nothing => self.orders(),
        };
        let Some(database) = &mut self.database else {
            return Err(unchanged("the database of Open vSwitch is away".to_owned()));
        };
        let Some(root) = View::new(database.cache()).root() else {
            let why = "the database has no row in table Open_vSwitch";
            return Err(unchanged(why.to_owned()));
        };
        transaction.bump_next_cfg(root);
        transaction.comment("dvswitch host-agent");
        self.counts.transactions.inc();
        let bridges = &mut self.bridges;
        let ruled = async {
            if let Some(orders) = orders {
                bridges.become_these(orders, None).await;
            }
        };
        let carried_out = carry_out(database, root, &transaction, self.config.patience);
        let (outcome, ()) = tokio::join!(carried_out, ruled);
        self.look_for_meters();
        match outcome {
            Ok(true) => {
                self.written = self.written.max(meets.hold());
                self.take_changes().await;
                self.look();
                self.memory.wrote(rewired);
                Ok(())
            }
            Ok(false) => {
                self.memory.wrote(rewired);
                let before = self.sent.and_then(|sent| sent.hold);
                self.sent = self.database.as_ref().map(|database| Sent {
                    number: number(database.cache(), root, "next_cfg"),
                    hold: meets.hold().max(before),
                });
                Err(unchanged(self.late()))
            }
            Err(TransactError::Session(error)) => Err(unchanged(self.lost(&error))),
            Err(refused @ TransactError::Refused { .. }) => Err(unchanged(chain(&refused))),
        }
    }

    /// Waits until `ovs-vswitchd` has carried out what it had not in time. The
    /// database has that already, so nothing of it is planned again.
    pub(super) async fn catch_up_with_sent(&mut self) -> Result<(), String> {
        let (Some(database), Some(sent)) = (&mut self.database, self.sent) else {
            return Ok(());
        };
        let Some(root) = View::new(database.cache()).root() else {
            return Ok(());
        };
        let deadline = Instant::now() + self.config.patience;
        let done = |cache: &Cache| {
            // A database that was made anew counts anew.
            let wanted = sent.number.min(number(cache, root, "next_cfg"));
            number(cache, root, "cur_cfg") >= wanted
        };
        match database.wait_until(deadline, done).await {
            Ok(true) => {
                self.sent = None;
                self.written = self.written.max(sent.hold);
                self.take_changes().await;
                self.look();
                Ok(())
            }
            Ok(false) => Err(self.late()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn late(&self) -> String {
        format!(
            "ovs-vswitchd has not carried out the change within {} s; is it running?",
            self.config.patience.as_secs()
        )
    }
}

/// A change that is in the database, and that `ovs-vswitchd` had not carried
/// out in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// What `cur_cfg` says once it has.
    number: i64,
    /// What has to take hold of it then.
    hold: Option<Hold>,
}

/// A counter of the database; 0 if it has none.
fn number(cache: &Cache, root: Uuid, column: &str) -> i64 {
    let row = cache.row(view::ROOT, root);
    row.and_then(|row| row.integer(column)).unwrap_or(0)
}

/// Carries out a transaction, and waits until `ovs-vswitchd` has done so, too.
/// False if it hasn't in time.
async fn carry_out(
    database: &mut Session,
    root: Uuid,
    transaction: &Transaction,
    patience: Duration,
) -> Result<bool, TransactError> {
    database.transact(transaction).await?;
    let wanted = number(database.cache(), root, "next_cfg");
    let done = |cache: &Cache| number(cache, root, "cur_cfg") >= wanted;
    let deadline = Instant::now() + patience;
    Ok(database.wait_until(deadline, done).await?)
}

/// How frames meet what is written into the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    /// They don't; the rules say it.
    Nothing,
    /// By what Open vSwitch does beside the rules.
    Rules,
    /// As mirrored frames, too.
    Mirrors,
}

impl Meets {
    /// How frames meet what differs.
    pub(super) fn of(differences: &[Difference], intent: &Intent) -> Self {
        let mirrors = differences
            .iter()
            .any(|difference| match difference.place.1 {
                Part::Mirror(_) => true,
                Part::Bridge | Part::Port(_) => false,
            });
        let by_rules = differences.iter().all(|difference| {
            let (switch, part) = &difference.place;
            let said = match part {
                Part::Port(_) => difference.column.is_some_and(is_said_by_rules),
                Part::Bridge | Part::Mirror(_) => false,
            };
            // A mirror goes by the VLANs of rows.
            let mirrored = intent
                .get(switch)
                .is_none_or(|wish| !wish.mirrors.is_empty());
            said && !mirrored
        });
        match (mirrors, by_rules) {
            (true, _) => Self::Mirrors,
            (false, true) => Self::Nothing,
            (false, false) => Self::Rules,
        }
    }

    /// What has to take hold of it.
    fn hold(self) -> Option<Hold> {
        match self {
            Self::Nothing => None,
            Self::Rules => Some(Hold::Rules),
            Self::Mirrors => Some(Hold::Mirrors),
        }
    }
}
