// SPDX-License-Identifier: Apache-2.0
//! Ports that hosts claim and release: placed and taken away by the same
//! commits and pushes as by documents.

use std::time::Duration;

use dvs_schemas::v1::{
    ClaimOutcome, ClaimReply, ClaimRequest, ReleaseOutcome, ReleaseReply, ReleaseRequest, V1,
};
use dvs_schemas::{Epoch, HostName, PortId, Problem, Revision, Timestamp};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::admission::{self, Claimed};
use crate::changes::ChangeSet;
use crate::claims::Waiting;
use crate::events::Reply;

/// The shortest time there is between two timestamps.
const INSTANT: Duration = Duration::from_millis(1);

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
                self.claims.wait(now, request);
                // Who holds it may be long dead.
                self.take_over(now, out);
                if self.is_on(&port, &host) {
                    let (epoch, revision) = self.placement(&port);
                    ClaimOutcome::Granted { epoch, revision }
                } else {
                    ClaimOutcome::Waits { holder, epoch }
                }
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
    /// that can be granted. The host may be absent by now: it may be back, and
    /// if not, whoever has the port plugged in takes it over in turn.
    ///
    /// A claim that can't be granted waits no more: its host repeats it for as
    /// long as the port is plugged in there, and hears the reason then.
    fn hand_on(&mut self, now: Timestamp, request: &ReleaseRequest, out: &mut Out) -> Option<()> {
        let claim = self.claims.take(&request.port)?;
        let moved = admission::release(&self.config, &self.fleet, request, Some(&claim));
        let granted = moved.and_then(|changes| self.replace(now, &changes, out));
        granted
            .map_err(|problem| not_granted(&claim, &problem))
            .ok()
    }

    /// Gives ports to those whose claims wait: ports of dead holders, and those
    /// that are nowhere by now, whoever brought that about. A dead holder is
    /// told to remove its virtual port as after any move, should it come back.
    pub(super) fn take_over(&mut self, now: Timestamp, out: &mut Out) {
        while let Some(waiting) = self.claims.overdue(now) {
            let port = waiting.claim.port.clone();
            match self.standing(waiting) {
                Standing::Nowhere => self.hand_out(now, &port, out),
                Standing::Held { placement, dead } if dead.is_some_and(|dead| dead <= now) => {
                    let host = &placement.host;
                    if self.hand_on(now, &placement, out).is_some() {
                        tracing::warn!(%port, %host, "taken over: its host is absent for long, and another one has it plugged in");
                    }
                }
                Standing::Held { placement: _, dead } => {
                    // Whatever comes later, a sign of life, a placement or a
                    // connection, lets its holder live for as long from then.
                    let latest = now.after(self.settings.take_over.max(INSTANT));
                    let look = dead.map_or(latest, |dead| dead.min(latest));
                    self.claims.look_at(&port, look);
                }
            }
        }
    }

    /// Gives a port that is nowhere to the host whose claim waits, if that can
    /// be.
    fn hand_out(&mut self, now: Timestamp, port: &PortId, out: &mut Out) {
        let Some(claim) = self.claims.take(port) else {
            return;
        };
        // If it named one, that was the placement which is over now.
        let claim = ClaimRequest {
            epoch: None,
            ..claim
        };
        let granted = match admission::claim(&self.config, &self.fleet, &claim) {
            Ok(Claimed::Granted(changes)) => self.replace(now, &changes, out),
            Ok(Claimed::Waits { .. }) => Ok(()),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = granted {
            not_granted(&claim, &problem);
        }
    }

    /// How it stands with the port that a claim waits for. A host that never
    /// was there is silent from the claim on.
    fn standing(&self, waiting: &Waiting) -> Standing {
        let port = &waiting.claim.port;
        let placed = self.config.port(port).map(|entry| &entry.value);
        let held = placed.and_then(|placed| Some((placed.document.host.clone()?, placed.epoch)));
        let Some((host, epoch)) = held else {
            return Standing::Nowhere;
        };
        let silent = if self.fleet.knows(&host) {
            self.fleet.waited_until(&host)
        } else {
            Some(waiting.since)
        };
        let placement = ReleaseRequest {
            v: V1,
            host,
            port: port.clone(),
            epoch: Some(epoch),
        };
        let dead = silent.map(|silent| {
            let since = silent.max(waiting.passed_over.unwrap_or_default());
            since.after(self.settings.take_over)
        });
        Standing::Held { placement, dead }
    }

    fn is_on(&self, port: &PortId, host: &HostName) -> bool {
        let entry = self.config.port(port);
        entry.is_some_and(|entry| entry.value.document.host.as_ref() == Some(host))
    }

    fn replace(
        &mut self,
        now: Timestamp,
        changes: &ChangeSet,
        out: &mut Out,
    ) -> Result<(), Problem> {
        let record = self.make(now, changes, out)?;
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

fn not_granted(claim: &ClaimRequest, problem: &Problem) {
    let ClaimRequest { host, port, .. } = claim;
    tracing::warn!(%port, %host, %problem, "the claim that waited can't be granted");
}

/// How it stands with a port that is waited for.
enum Standing {
    /// On no host.
    Nowhere,
    /// On another host.
    Held {
        /// The placement that is to end.
        placement: ReleaseRequest,
        /// When its host counts as dead, if it does without further signs.
        dead: Option<Timestamp>,
    },
}
