// SPDX-License-Identifier: Apache-2.0
//! Full states: to hosts that say hello, and to whom an operator names.

use std::collections::BTreeSet;

use dvs_schemas::v1::{Heartbeat, Hello, HelloReply, ResyncReply, ResyncRequest, V1, Wait};
use dvs_schemas::{HostName, Problem, ProblemCode, Revision, SessionId, SwitchName, Timestamp};
use uuid::Uuid;

use super::sending::Asker;
use super::{Out, Publisher};
use crate::events::{Reply, ReplyToken};
use crate::record::Record;
use crate::render::{is_member, members};
use crate::replies::{self, Held};

impl Publisher {
    pub(super) fn resync(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        request: &ResyncRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let ResyncRequest {
            host,
            switch,
            wait,
            timeout,
        } = request;
        let wait = *wait == Some(Wait::Applied);
        if wait {
            self.waits.room()?;
        }
        let pairs = self.pairs(host.as_ref(), switch.as_ref())?;
        let hosts: BTreeSet<&HostName> = pairs.iter().map(|(_, host)| host).collect();
        let revision = self.config.revision();
        let mut reply = ResyncReply {
            v: V1,
            revision,
            hosts: hosts.len() as u64,
            applied: None,
        };
        let record = Record::insisting(revision, pairs);
        if record.is_empty() {
            reply.applied = wait.then(replies::nobody);
            return Ok(Some(Reply::Resynced(reply)));
        }
        if wait {
            let until = now.after(timeout.unwrap_or_default().get());
            let held = Box::new(Held::Resync(reply));
            self.owe(now, record, Asker::Waits { to, until, held }, out);
            return Ok(None);
        }
        self.owe(now, record, Asker::Leaves, out);
        Ok(Some(Reply::Resynced(reply)))
    }

    /// Switches and their hosts, as far as they are asked for.
    fn pairs(
        &self,
        host: Option<&HostName>,
        switch: Option<&SwitchName>,
    ) -> Result<Vec<(SwitchName, HostName)>, Problem> {
        let missing = |message: String, field| {
            Err(Problem::new(ProblemCode::NotFound, message)
                .at(field)
                .allow("what dvsctl get hosts shows"))
        };
        if let Some(switch) = switch
            && self.config.switch(switch).is_none()
        {
            return missing(format!("there is no switch {switch}"), "switch");
        }
        let mut pairs = Vec::new();
        for (name, entry) in self.config.switches() {
            if switch.is_some_and(|switch| switch != name) {
                continue;
            }
            match host {
                Some(host) if is_member(&entry.value, &self.fleet, host) => {
                    pairs.push((name.clone(), host.clone()));
                }
                Some(_) => {}
                None => pairs.extend(
                    members(&entry.value, &self.fleet)
                        .map(|(host, _)| (name.clone(), host.clone())),
                ),
            }
        }
        match host {
            Some(host) if pairs.is_empty() => {
                missing(format!("host {host} is on no such switch"), "host")
            }
            Some(_) | None => Ok(pairs),
        }
    }

    /// A host lives. One that said hello to a ledger which was lost has no
    /// reason to say it again, so its heartbeat counts as a hello as far as it
    /// goes. A ledger that nothing was applied to yet only learns of the host:
    /// it can't say that what the host has is to go.
    pub(super) fn heartbeat(&mut self, now: Timestamp, heartbeat: &Heartbeat, out: &mut Out) {
        let Heartbeat {
            v,
            host,
            session,
            seq: _,
            interval_ms: _,
            last,
            observed,
            positions,
        } = heartbeat;
        if !self.counts(heartbeat, out) {
            return;
        }
        if self.fleet.is_stranger(host, *session) {
            let known = self.fleet.get(host);
            let known = known.map(|host| host.entry.clone()).unwrap_or_default();
            let hello = Hello {
                v: *v,
                host: host.clone(),
                agent: Uuid::nil(),
                session: Some(*session),
                version: known.version,
                node: known.node,
                address: known.address,
                datapath: known.datapath,
                observed: observed.clone(),
                positions: positions.clone(),
            };
            if self.config.revision() == Revision::ZERO {
                self.greet(now, &hello, None, *session);
            } else {
                self.welcome(now, &hello, None, *session, out);
            }
        }
        let ledger = self.history.as_of(self.config.revision());
        self.fleet.hear(now, heartbeat, ledger);
        if *last {
            // What is plugged in there has nobody who would wire it.
            self.claims.forget(host);
        }
    }

    fn greet(&mut self, now: Timestamp, hello: &Hello, agent: Option<Uuid>, session: SessionId) {
        let ledger = self.history.as_of(self.config.revision());
        self.fleet.greet(now, hello, agent, session, ledger);
    }

    /// Takes an agent in as the host's, in this session; none: it said hello to
    /// another ledger.
    pub(super) fn welcome(
        &mut self,
        now: Timestamp,
        hello: &Hello,
        agent: Option<Uuid>,
        session: SessionId,
        out: &mut Out,
    ) -> HelloReply {
        self.greet(now, hello, agent, session);
        let held = hello.observed.iter().map(|observed| &observed.switch);
        let mine = self.config.switches().iter();
        let mine = mine.filter(|(_, entry)| is_member(&entry.value, &self.fleet, &hello.host));
        let switches: BTreeSet<SwitchName> =
            mine.map(|(name, _)| name).chain(held).cloned().collect();
        let greeting = self.fleet.greeting(&hello.host, session);
        if greeting.is_none() {
            // Another run of the agent: it claims what is plugged in by now.
            self.claims.forget(&hello.host);
        }
        if !greeting.is_some_and(|record| self.is_on_its_way(record)) {
            let pairs = switches.iter().map(|s| (s.clone(), hello.host.clone()));
            let record = Record::whole(self.config.revision(), pairs);
            if !record.is_empty() {
                let record = self.owe(now, record, Asker::Leaves, out);
                self.fleet.greeted_by(&hello.host, session, record);
            }
        }
        HelloReply {
            v: V1,
            session,
            switches: switches.into_iter().collect(),
        }
    }
}
