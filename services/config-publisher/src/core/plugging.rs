// SPDX-License-Identifier: Apache-2.0
//! Ports that hosts claim and release: placed and taken away by the same
//! commits and pushes as by documents.

use std::time::Duration;

use dvs_schemas::v1::{
    Activity, ClaimOutcome, ClaimReply, ClaimRequest, Position, Presence, ReleaseOutcome,
    ReleaseReply, ReleaseRequest, V1, Yield,
};
use dvs_schemas::{Epoch, HostName, PortId, Problem, ProblemCode, Revision, Timestamp};

use super::sending::Asker;
use super::{Out, Publisher};
use crate::admission::{self, Claimed, Ending};
use crate::changes::ChangeSet;
use crate::claims::Waiting;
use crate::events::{Effect, Reply};

/// The shortest time there is between two timestamps.
const INSTANT: Duration = Duration::from_millis(1);

impl Publisher {
    pub(super) fn claim(
        &mut self,
        now: Timestamp,
        mut request: ClaimRequest,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        let (host, port) = (request.host.clone(), request.port.clone());
        // Of any length, and of now: a claim that waits has none of them.
        let positions = std::mem::take(&mut request.positions);
        if let Err(problem) = self.heed(&host, &positions) {
            self.claims.withdraw(&port, &host);
            return Err(problem);
        }
        self.claims.heard_again(&port, &host);
        let outcome = match admission::claim(&self.config, &self.fleet, &request) {
            Err(problem) => {
                if self.config.port(&port).is_none() {
                    self.claims.await_port(request);
                }
                return Err(problem);
            }
            Ok(Claimed::Granted(changes)) => {
                self.grant(now, &request, &changes, out)?;
                let (epoch, revision) = self.placement(&port);
                ClaimOutcome::Granted { epoch, revision }
            }
            Ok(Claimed::Waits { holder, epoch }) => {
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
            session: _,
            port,
            epoch,
            to,
            positions,
        } = request;
        if epoch.is_some() {
            self.heed(host, positions)?;
        }
        let ending = epoch.map(|epoch| Ending {
            host: host.clone(),
            port: port.clone(),
            epoch,
        });
        let outcome = match ending {
            Some(_) if to.as_ref().is_some_and(|to| !self.is_next(port, to)) => {
                ReleaseOutcome::Kept
            }
            None if self.claims.withdraw(port, host) => ReleaseOutcome::Withdrawn,
            None => ReleaseOutcome::Nothing,
            Some(ending) if self.end(now, &ending, out)? => ReleaseOutcome::Released {
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

    /// Whether a host's word of its ports counts. One that follows another
    /// history wires what that says, whatever is committed here: a port that it
    /// gives back may be wired there again at once.
    fn heed(&mut self, host: &HostName, positions: &[Position]) -> Result<(), Problem> {
        let ledger = self.history.as_of(self.config.revision());
        let Some(diverged) = self.fleet.says(host, positions, ledger) else {
            return Ok(());
        };
        let message = format!("{diverged}, so its word changes no placement");
        Err(Problem::new(ProblemCode::Conflict, message)
            .at("host")
            .allow(
                "a host that follows this publisher's ledger; dvsctl store continue --dry-run \
                 shows what making it hold there means",
            ))
    }

    /// Whether the host would get the port, were it released.
    fn is_next(&self, port: &PortId, host: &HostName) -> bool {
        let next = self.claims.waiting(port);
        next.is_some_and(|next| {
            next.claim.host == *host && self.fleet.follows_instead(host).is_none()
        })
    }

    /// Ends a placement; false if it is over already.
    fn end(&mut self, now: Timestamp, ending: &Ending, out: &mut Out) -> Result<bool, Problem> {
        let nowhere = admission::release(&self.config, &self.fleet, ending, None)?;
        if nowhere.is_empty() {
            return Ok(false);
        }
        if self.hand_on(now, ending, out).is_none() {
            self.replace(now, &nowhere, out)?;
        }
        let Ending { host, port, .. } = ending;
        let placed = self.config.port(port);
        match placed.and_then(|placed| placed.value.document.host.as_ref()) {
            Some(to) => tracing::info!(%host, %port, %to, "given up, and placed where it waits"),
            None => tracing::info!(%host, %port, "unplugged, and on no host now"),
        }
        Ok(true)
    }

    /// Releases a port to the host whose claim waits; none if nothing waits
    /// that can be granted.
    ///
    /// A claim that can't be granted waits no more: its host repeats it for as
    /// long as the port is plugged in there, and hears the reason then.
    fn hand_on(&mut self, now: Timestamp, ending: &Ending, out: &mut Out) -> Option<()> {
        let claim = self.next(now, &ending.port)?;
        let moved = admission::release(&self.config, &self.fleet, ending, Some(&claim));
        let granted = moved.and_then(|changes| self.replace(now, &changes, out));
        granted
            .map_err(|problem| not_granted(&claim, &problem))
            .ok()
    }

    /// Takes the claim whose turn it is. That of an absent host is over: nobody
    /// knows whether anything is still plugged in there, and it claims anew when
    /// it is back. So is that of a host that follows another history.
    fn next(&mut self, now: Timestamp, port: &PortId) -> Option<ClaimRequest> {
        // Whoever claims right now is there.
        let is_new = self.claims.waiting(port)?.heard == now;
        let claim = self.claims.take(port)?;
        (is_new || !self.is_away(now, &claim)).then_some(claim)
    }

    fn is_away(&self, now: Timestamp, claim: &ClaimRequest) -> bool {
        let ClaimRequest { host, port, .. } = claim;
        if let Some(diverged) = self.fleet.follows_instead(host) {
            tracing::warn!(%port, %host, %diverged, "the claim that waited is over");
            return true;
        }
        match self.fleet.presence(host, now) {
            Presence::Present | Presence::Unknown | Presence::Never => false,
            Presence::Absent => {
                tracing::warn!(%port, %host, "the claim that waited is over: its host is absent");
                true
            }
        }
    }

    /// Gives ports to those whose claims wait: ports of dead holders, and those
    /// that are nowhere by now, whoever brought that about. A dead holder is
    /// told to remove its virtual port as after any move, should it come back;
    /// one that lives is told who waits. What was claimed before its port was
    /// made is claimed now.
    pub(super) fn take_over(&mut self, now: Timestamp, out: &mut Out) {
        while let Some(claim) = self.claims.now_possible() {
            self.claim_again(now, claim, out);
        }
        while let Some(waiting) = self.claims.overdue(now) {
            let waiting = waiting.clone();
            let port = waiting.claim.port.clone();
            match self.standing(&waiting) {
                Standing::Nowhere => self.hand_out(now, &port, out),
                Standing::Held { placement, dead } if dead.is_some_and(|dead| dead <= now) => {
                    let host = &placement.host;
                    if self.hand_on(now, &placement, out).is_some() {
                        tracing::warn!(%port, %host, "taken over: its host is absent for long, and another one has it plugged in");
                    }
                }
                Standing::Held { placement, dead } => {
                    // Whatever it would give back, it stays there.
                    if self.fleet.follows_instead(&placement.host).is_none() {
                        ask_to_yield(now, waiting, placement, out);
                    }
                    // Whatever comes later, a sign of life, a placement or a
                    // connection, lets its holder live for as long from then.
                    let latest = now.after(self.settings.take_over.max(INSTANT));
                    let look = dead.map_or(latest, |dead| dead.min(latest));
                    self.claims.look_at(&port, look);
                }
            }
        }
    }

    /// Makes a claim whose port did not exist before; nobody waits for an answer.
    /// If it is refused its host hears why when it claims again.
    fn claim_again(&mut self, now: Timestamp, claim: ClaimRequest, out: &mut Out) {
        let claim = ClaimRequest {
            // Whatever placement it named was of an earlier port of this name.
            epoch: None,
            ..claim
        };
        if self.is_away(now, &claim) {
            return;
        }
        match admission::claim(&self.config, &self.fleet, &claim) {
            Err(problem) => not_granted(&claim, &problem),
            Ok(Claimed::Granted(changes)) => {
                if let Err(problem) = self.grant(now, &claim, &changes, out) {
                    not_granted(&claim, &problem);
                }
            }
            Ok(Claimed::Waits { .. }) => self.claims.wait(now, claim),
        }
    }

    /// Gives a port that is nowhere to the host whose claim waits, if that can
    /// be.
    fn hand_out(&mut self, now: Timestamp, port: &PortId, out: &mut Out) {
        let Some(claim) = self.next(now, port) else {
            return;
        };
        // If it named one, that was the placement which is over now.
        let claim = ClaimRequest {
            epoch: None,
            ..claim
        };
        let granted = match admission::claim(&self.config, &self.fleet, &claim) {
            Ok(Claimed::Granted(changes)) => self.grant(now, &claim, &changes, out),
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
        let placement = Ending {
            host,
            port: port.clone(),
            epoch,
        };
        // A machine that is stopped needs no port: the one that does may live
        // on a host that only the bus has lost.
        let is_wanted = waiting.claim.machine.activity != Activity::Stopped;
        // A host that follows another history would have the port again as soon
        // as it is back, and is told nothing.
        let may_end = self.fleet.follows_instead(&placement.host).is_none();
        let dead = silent.filter(|_| is_wanted && may_end).map(|silent| {
            let since = silent.max(waiting.passed_over.unwrap_or_default());
            since.after(self.settings.take_over)
        });
        Standing::Held { placement, dead }
    }

    fn is_on(&self, port: &PortId, host: &HostName) -> bool {
        let entry = self.config.port(port);
        entry.is_some_and(|entry| entry.value.document.host.as_ref() == Some(host))
    }

    /// Places a port where it is plugged in.
    fn grant(
        &mut self,
        now: Timestamp,
        claim: &ClaimRequest,
        changes: &ChangeSet,
        out: &mut Out,
    ) -> Result<(), Problem> {
        self.replace(now, changes, out)?;
        if !changes.is_empty() {
            let ClaimRequest { host, port, .. } = claim;
            let (epoch, _) = self.placement(port);
            tracing::info!(%host, %port, %epoch, "plugged in, and placed there");
        }
        Ok(())
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

/// Tells the holder of a port who waits for it. Lost or not: it is told again
/// whenever the claim is repeated or looked at.
fn ask_to_yield(now: Timestamp, waiting: Waiting, placement: Ending, out: &mut Out) {
    let Ending { host, port, epoch } = placement;
    let since = waiting.since.max(waiting.passed_over.unwrap_or_default());
    let waited_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
    let request = Yield {
        v: V1,
        port,
        epoch,
        to: waiting.claim.host,
        machine: waiting.claim.machine,
        waited_ms,
    };
    out.effect(Effect::Yield { host, request });
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
        placement: Ending,
        /// When its host counts as dead, if it does without further signs.
        dead: Option<Timestamp>,
    },
}
