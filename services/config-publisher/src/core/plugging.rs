// SPDX-License-Identifier: Apache-2.0
//! Ports that hosts claim and release: placed and taken away by the same
//! commits and pushes as by documents.

use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, ClaimRequest, Presence, ReleaseOutcome, ReleaseReply, ReleaseRequest,
    V1,
};
use dvs_schemas::{Epoch, PortId, Problem, Revision, Timestamp};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::admission::{self, Claimed};
use crate::changes::ChangeSet;
use crate::events::Reply;

impl Publisher {
    pub(super) fn claim(
        &mut self,
        now: Timestamp,
        request: ClaimRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let (host, port) = (request.host.clone(), request.port.clone());
        let outcome = match admission::claim(&self.config, &self.fleet, &request)? {
            Claimed::Granted(changes) => {
                self.replace(now, &changes, out)?;
                let (epoch, revision) = self.placement(&port);
                ClaimOutcome::Granted { epoch, revision }
            }
            Claimed::Waits { holder, epoch } => {
                self.claims.wait(request);
                ClaimOutcome::Waits { holder, epoch }
            }
        };
        Ok(Some(Reply::Claimed(ClaimReply {
            v: V1,
            host,
            port,
            outcome,
        })))
    }

    /// Ends a placement, or the wait for one. Whose claim waits is the port's
    /// host from the same commit on, so nobody comes in between.
    pub(super) fn let_go(
        &mut self,
        now: Timestamp,
        request: &ReleaseRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let ReleaseRequest {
            v: _,
            host,
            port,
            epoch,
        } = request;
        let outcome = match epoch {
            None if self.claims.withdraw(port, host) => ReleaseOutcome::Withdrawn,
            None => ReleaseOutcome::Nothing,
            Some(_) if self.end(now, request, out)? => ReleaseOutcome::Released {
                revision: self.config.revision(),
            },
            Some(_) => ReleaseOutcome::Nothing,
        };
        Ok(Some(Reply::Released(ReleaseReply {
            v: V1,
            host: host.clone(),
            port: port.clone(),
            outcome,
        })))
    }

    /// Ends a placement; false if it is over already.
    fn end(
        &mut self,
        now: Timestamp,
        request: &ReleaseRequest,
        out: &mut Out,
    ) -> Result<bool, Problem> {
        let nowhere = admission::release(&self.config, &self.fleet, request, None)?;
        if nowhere.is_empty() {
            return Ok(false);
        }
        if self.hand_on(now, request, out).is_none() {
            self.replace(now, &nowhere, out)?;
        }
        Ok(true)
    }

    /// Releases a port to the host whose claim waits; none if nothing waits
    /// that can be granted. Whoever was away will claim again when it is back.
    fn hand_on(&mut self, now: Timestamp, request: &ReleaseRequest, out: &mut Out) -> Option<()> {
        let claim = self.claims.take(&request.port)?;
        if self.fleet.presence(&claim.host, now) == Presence::Absent {
            return None;
        }
        let moved = admission::release(&self.config, &self.fleet, request, Some(&claim));
        let granted = moved.and_then(|changes| self.replace(now, &changes, out));
        granted.ok()
    }

    fn replace(
        &mut self,
        now: Timestamp,
        changes: &ChangeSet,
        out: &mut Out,
    ) -> Result<(), Problem> {
        let record = self.make(changes, out)?;
        if !record.is_empty() {
            self.owe(now, record, Asker::Leaves, out);
        }
        Ok(())
    }

    fn placement(&self, port: &PortId) -> (Epoch, Revision) {
        let entry = self.config.port(port);
        entry.map_or_else(Default::default, |entry| {
            (entry.value.epoch, entry.revision)
        })
    }
}
