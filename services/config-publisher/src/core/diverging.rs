// SPDX-License-Identifier: Apache-2.0
//! Hosts that follow another history than this ledger: it was restored from a
//! backup, lost, or is another publisher's. Nothing is sent to them and nothing
//! counts as applied there, until an operator says that this one is to hold.

use std::collections::BTreeSet;
use std::time::Duration;

use dvs_schemas::v1::{ContinueReply, ContinueRequest, DivergedHost, Position, V1, Wait};
use dvs_schemas::{
    Epoch, HostName, Problem, ProblemCode, Revision, StoreId, SwitchName, Timestamp,
};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::changes::{Change, ChangeSet, Object, Placed};
use crate::events::{Reply, ReplyToken};
use crate::history::later_than;
use crate::record::Record;
use crate::render::{is_member, members};
use crate::replies::{self, Held};

/// How long it is waited for others before the first such host is logged: by
/// then each has sent a heartbeat, of which there is one in 10 s by default.
const GATHER: Duration = Duration::from_secs(15);

/// Hosts that are named at most, in the log and in replies. The list of hosts
/// has them all.
const NAMED: usize = 20;

/// Highest revision that is counted on from: readers of JSON keep numbers up to
/// it exactly, and no ledger makes as many commits as are left above it.
const HIGHEST: u64 = 1 << 53;

impl Publisher {
    /// Hosts were found to follow another history: they are named a little
    /// later, all at once.
    pub(super) fn notice_diverged(&mut self, now: Timestamp) {
        if self.report.is_none() && self.fleet.has_news() {
            self.report = Some(now.after(GATHER));
        }
    }

    /// Names those hosts, and makes each an entry of the re-push queue.
    pub(super) fn report_diverged(&mut self, now: Timestamp, out: &mut Out) {
        if self.report.take_if(|due| *due <= now).is_none() {
            return;
        }
        let news = self.fleet.take_news();
        if news.is_empty() {
            return;
        }
        let names: Vec<&str> = news.iter().take(NAMED).map(HostName::as_str).collect();
        let found = self.fleet.diverged();
        let follows = found.filter(|(host, _)| news.contains(*host));
        let follows = follows.map(|(_, diverged)| diverged.to_string()).next();
        tracing::error!(
            hosts = news.len(),
            names = names.join(", "),
            store = %self.history.store(),
            revision = self.config.revision().0,
            "hosts follow another history than this ledger ({}): nothing is pushed to them; if \
             this ledger fell back, put the newer one back, or dvsctl store continue makes this \
             configuration hold there",
            follows.unwrap_or_default(),
        );
        let mut pairs = Vec::new();
        for host in &news {
            let mine = self.config.switches().iter();
            let mine = mine.filter(|(_, entry)| is_member(&entry.value, &self.fleet, host));
            pairs.extend(mine.map(|(switch, _)| (switch.clone(), host.clone())));
        }
        let record = Record::whole(self.config.revision(), pairs);
        if !record.is_empty() {
            self.owe(now, record, Asker::Leaves, out);
        }
    }

    /// An operator says that this configuration is to hold everywhere. It goes
    /// on as a store of its own, above all that any host knows of.
    pub(super) fn go_on(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        request: &ContinueRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let ContinueRequest {
            dry_run,
            wait,
            timeout,
        } = request;
        let elsewhere: BTreeSet<Position> = self.fleet.elsewhere().collect();
        self.may_go_on(&elsewhere)?;
        let wait = *wait == Some(Wait::Applied) && !dry_run;
        if wait {
            self.waits.room()?;
        }
        let known = elsewhere.iter().map(|position| position.revision);
        let newest = known.fold(self.config.revision(), Revision::max);
        let revision = (newest.0 < HIGHEST).then(|| newest.next());
        let revision = revision.ok_or_else(|| nothing_later(&format!("revision {newest}")))?;
        let mine = self.history.store();
        let others = elsewhere.iter().map(|position| position.store);
        let others: BTreeSet<StoreId> = others.filter(|store| *store != mine).collect();
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        let replaced = others.iter().copied().chain([mine]);
        let store = later_than(replaced, now.0, &random);
        let newest = others.iter().copied().fold(mine, StoreId::max);
        let store = store.ok_or_else(|| nothing_later(&format!("store {newest}")))?;
        let pairs = self.everything();
        let hosts: BTreeSet<&HostName> = pairs.iter().map(|(_, host)| host).collect();
        let examples = self.fleet.diverged().take(NAMED);
        let examples = examples.map(|(host, diverged)| DivergedHost {
            host: host.clone(),
            diverged: diverged.clone(),
        });
        let mut reply = ContinueReply {
            v: V1,
            dry_run: *dry_run,
            store: None,
            revision,
            continues: others.iter().copied().chain([mine]).collect(),
            hosts: hosts.len() as u64,
            objects: self.config.objects() as u64,
            nowhere: self.config.nowhere() as u64,
            diverged: self.fleet.diverged().count() as u64,
            examples: examples.collect(),
            applied: None,
        };
        if *dry_run {
            return Ok(Some(Reply::Continued(reply)));
        }
        reply.store = Some(store);
        tracing::warn!(
            %store, revision = revision.0, diverged = reply.diverged, replaced = %mine,
            "this configuration replaces what hosts follow, by an operator's word"
        );
        self.history.go_on(store, others, revision, &mut out.writes);
        self.config.set_store(store);
        self.courier.go_on(store);
        self.renumber(now, revision, out);
        self.fleet.review(self.history.as_of(revision));
        let record = Record::whole(revision, pairs);
        record.want(&mut self.config, &self.fleet, &mut out.writes);
        if record.is_empty() {
            reply.applied = wait.then(replies::nobody);
        } else if wait {
            let until = now.after(timeout.unwrap_or_default().get());
            let held = Box::new(Held::Continue(reply));
            self.owe(now, record, Asker::Waits { to, until, held }, out);
            return Ok(None);
        } else {
            self.owe(now, record, Asker::Leaves, out);
        }
        Ok(Some(Reply::Continued(reply)))
    }

    fn may_go_on(&self, elsewhere: &BTreeSet<Position>) -> Result<(), Problem> {
        let refused =
            |message, allowed| Problem::new(ProblemCode::Conflict, message).allow(allowed);
        if elsewhere.is_empty() {
            return Err(refused(
                "every host that was heard of follows this publisher's ledger: there is nothing \
                 to continue",
                "a look at the list of hosts; one that is away is heard of when it is back",
            ));
        }
        if self.config.revision() == Revision::ZERO {
            return Err(refused(
                "this publisher's ledger is empty: every host would lose all of its ports",
                "putting the ledger back from a backup, or applying the configuration first",
            ));
        }
        Ok(())
    }

    /// Every switch on every host that is part of it, or that has it all the
    /// same.
    fn everything(&self) -> BTreeSet<(SwitchName, HostName)> {
        let mut pairs = BTreeSet::new();
        for (switch, entry) in self.config.switches() {
            let hosts = members(&entry.value, &self.fleet).map(|(host, _)| host);
            pairs.extend(hosts.map(|host| (switch.clone(), host.clone())));
        }
        for (name, host) in self.fleet.hosts() {
            let there = host.switches();
            pairs.extend(there.map(|switch| (switch.clone(), name.clone())));
        }
        pairs
    }

    /// Places every port anew where it is: no placement of another history is
    /// later.
    fn renumber(&mut self, now: Timestamp, revision: Revision, out: &mut Out) {
        let epoch = Epoch::of(self.history.store(), revision);
        let ports = self.config.ports().values();
        let placed = ports.filter(|port| port.value.epoch > Epoch::default());
        let changes = placed.map(|port| {
            let before = &port.value;
            let after = Placed {
                document: before.document.clone(),
                epoch,
            };
            Change::Update {
                before: Object::Port(before.clone()),
                since: port.revision,
                after: Object::Port(after),
            }
        });
        let changes = ChangeSet(changes.collect());
        self.config.carry_out(&changes, revision);
        // What other histories deleted is not known.
        self.config.set_deleted(revision);
        self.number(revision, &mut out.writes);
        self.claims.settle(now, &changes);
        self.write(&changes, revision, &mut out.writes);
    }
}

/// What a host reports leaves no number above it.
fn nothing_later(reported: &str) -> Problem {
    Problem::new(
        ProblemCode::Conflict,
        format!("no store can be later than what a host reports: {reported}"),
    )
    .allow(
        "dvsctl get hosts names the host; stop its agent, dvsctl forget it, and give the agent an \
         empty data folder before it starts again",
    )
}
