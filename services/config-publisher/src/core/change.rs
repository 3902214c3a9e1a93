// SPDX-License-Identifier: Apache-2.0
//! Changes: tried out in memory, written, and owed to the hosts; or only asked
//! about.

use std::collections::BTreeSet;

use dvs_ledger::Writes;
use dvs_schemas::v1::{DisconnectReply, DisconnectRequest, DryRunReply, Options, V1, Wait};
use dvs_schemas::{ObjectKey, Problem, Revision, SwitchName, Timestamp};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::changes::{Change, ChangeSet, Object};
use crate::config::Largest;
use crate::events::{Effect, Reply, ReplyToken};
use crate::ledger::{self, DELETED, REVISION, WANTED, within};
use crate::record::Record;
use crate::render::View;
use crate::replies::{self, Held};
use crate::{admission, dryrun, warnings};

impl Publisher {
    /// Does what an admitted request asks for; none if its reply is held. Where
    /// it waits for hosts it hears of all that the named objects concern: those
    /// that have them changed or not, as they say now.
    pub(super) fn change(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        changes: &ChangeSet,
        named: BTreeSet<ObjectKey>,
        options: &Options,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let wait = options.wait == Some(Wait::Applied);
        if options.dry_run || wait {
            self.waits.room()?;
        }
        let until = now.after(options.timeout.unwrap_or_default().get());
        if options.dry_run {
            return self.dry_run(now, to, changes, options, out);
        }
        let warnings = warnings::of(changes, &self.claims, &self.fleet, now);
        let mut record = self.make(now, changes, out)?;
        if wait {
            record.join(Record::asking(&self.config, &named));
        }
        let mut reply = replies::applied(self.config.revision(), changes, self.room() / 2);
        reply.warnings = warnings;
        if record.is_empty() {
            reply.applied = wait.then(replies::nobody);
            return Ok(Some(Reply::Applied(reply)));
        }
        if wait {
            let held = Box::new(Held::Apply(reply));
            self.owe(now, record, Asker::Waits { to, until, held }, out);
            return Ok(None);
        }
        self.owe(now, record, Asker::Leaves, out);
        Ok(Some(Reply::Applied(reply)))
    }

    pub(super) fn disconnect(
        &mut self,
        now: Timestamp,
        request: &DisconnectRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let (changes, vnic) = admission::disconnect(&self.config, request)?;
        let record = self.make(now, &changes, out)?;
        if !record.is_empty() {
            self.owe(now, record, Asker::Leaves, out);
        }
        Ok(Some(Reply::Disconnected(DisconnectReply {
            v: V1,
            revision: self.config.revision(),
            vnic,
        })))
    }

    /// Makes changes durable. Returns what they owe, which the same commit has
    /// to hold.
    pub(super) fn make(
        &mut self,
        now: Timestamp,
        changes: &ChangeSet,
        out: &mut Out,
    ) -> Result<Record, Problem> {
        if changes.is_empty() {
            return Ok(Record::default());
        }
        let revision = self.config.revision().next();
        self.try_out(changes, revision)?;
        self.number(revision, &mut out.writes);
        self.claims.settle(now, changes);
        self.write(changes, revision, &mut out.writes);
        let record = Record::of(revision, changes, &self.fleet);
        record.want(&mut self.config, &self.fleet, &mut out.writes);
        Ok(record)
    }

    /// Carries changes out in memory, unless a host's full state would become
    /// too large.
    fn try_out(&mut self, changes: &ChangeSet, revision: Revision) -> Result<(), Problem> {
        let switches: BTreeSet<&SwitchName> = changes.0.iter().map(Change::switch).collect();
        let before: Vec<(&SwitchName, Largest)> = switches
            .into_iter()
            .map(|switch| (switch, self.config.largest(switch)))
            .collect();
        self.config.carry_out(changes, revision);
        for (switch, before) in before {
            let after = self.config.largest(switch);
            let max = self.settings.max_payload;
            if let Err(problem) = admission::fits(changes, switch, &before, &after, max) {
                self.config.take_back(changes);
                return Err(problem);
            }
        }
        Ok(())
    }

    /// Numbers the commit that is being made.
    pub(super) fn number(&mut self, revision: Revision, writes: &mut Writes) {
        self.config.set_revision(revision);
        self.history.commits(revision, writes);
        writes.put(REVISION, "", &revision);
    }

    pub(super) fn write(&mut self, changes: &ChangeSet, revision: Revision, writes: &mut Writes) {
        for change in &changes.0 {
            match change.after() {
                Some(object) => ledger::put(writes, revision, object),
                None => {
                    ledger::delete(writes, &change.key());
                    self.config.set_deleted(revision);
                }
            }
            if let Change::Delete {
                before: Object::Switch(doc),
                ..
            } = change
            {
                self.forget(&doc.name, writes);
            }
        }
        if self.config.deleted() == revision {
            writes.put(REVISION, DELETED, &revision);
        }
    }

    /// Forgets what hosts wanted of a switch that is gone.
    fn forget(&mut self, switch: &SwitchName, writes: &mut Writes) {
        let hosts = self.config.hosts_of(switch);
        for (host, _) in hosts.filter(|(_, on)| on.wanted > Revision::ZERO) {
            writes.delete(WANTED, within(switch, host));
        }
        writes.delete(WANTED, switch.as_str());
        self.config.forget(switch);
    }

    fn dry_run(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        changes: &ChangeSet,
        options: &Options,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let bound = options.timeout.unwrap_or_default();
        let (changed, left_out) = replies::told(changes, self.room() / 2);
        let reply = DryRunReply {
            v: V1,
            dry_run: true,
            revision: self.config.revision(),
            changed,
            hosts: 0,
            unchanged: 0,
            plans: Vec::new(),
            left_out,
            warnings: warnings::of(changes, &self.claims, &self.fleet, now),
        };
        let revision = self.config.revision().next();
        self.try_out(changes, revision)?;
        let record = Record::of(revision, changes, &self.fleet);
        let view = View {
            revision,
            ..self.view()
        };
        let (run, calls) = dryrun::begin(view, &record, reply, now);
        self.config.take_back(changes);
        if run.is_over() {
            return Ok(Some(Reply::DryRun(run.finish(self.room()))));
        }
        let push = self.next_push();
        let until = now.after(bound.get());
        self.waits.hold(push, to, until, Held::DryRun(run));
        out.effect(Effect::Push {
            push,
            calls,
            within: self.settings.push_timeout.min(bound.get()),
        });
        Ok(None)
    }
}
