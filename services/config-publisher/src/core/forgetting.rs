// SPDX-License-Identifier: Apache-2.0
//! Hosts that will never come back: their ports are free, and nobody tries to
//! tell them anything any more. One that comes all the same is a new host.

use dvs_schemas::v1::{ForgetReply, ForgetRequest, V1};
use dvs_schemas::{HostName, Problem, Revision, SwitchName, Timestamp};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::events::Reply;
use crate::ledger::{HOSTS, WANTED, within};
use crate::{admission, warnings};

impl Publisher {
    pub(super) fn forget_host(
        &mut self,
        now: Timestamp,
        request: &ForgetRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let changes = admission::forget(&self.config, &self.fleet, request, now)?;
        let ForgetRequest { host } = request;
        let warnings = warnings::of(&changes, &self.claims, &self.fleet, now);
        let mut record = self.make(now, &changes, out)?;
        if changes.is_empty() {
            // A commit all the same: what is owed to the host before and after
            // it are different things, should it come back.
            let revision = self.config.revision().next();
            self.number(revision, &mut out.writes);
        }
        let revision = self.config.revision();
        self.erase(host, out);
        record.forget(host, revision);
        self.owe(now, record, Asker::Leaves, out);
        Ok(Some(Reply::Forgotten(ForgetReply {
            v: V1,
            host: host.clone(),
            revision,
            ports: changes.0.len() as u64,
            warnings,
        })))
    }

    fn erase(&mut self, host: &HostName, out: &mut Out) {
        self.fleet.forget(host);
        self.claims.forget(host);
        out.writes.delete(HOSTS, host.as_str());
        let switches: Vec<SwitchName> = self.config.switches().keys().cloned().collect();
        for switch in switches {
            self.config.want_on(&switch, host, Revision::ZERO);
            out.writes.delete(WANTED, within(&switch, host));
        }
    }
}
