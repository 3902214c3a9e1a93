// SPDX-License-Identifier: Apache-2.0
//! Claims that wait: for another host to release a port, or for a port to be
//! made. They are in memory only: hosts repeat them, seldom while they wait and
//! at once after a hello.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::v1::{Activity, ClaimRequest};
use dvs_schemas::{HostName, ObjectKey, PortId, Timestamp};

use crate::changes::{Change, ChangeSet, Object};

/// Most claims that wait for ports that do not exist: one for each host of a
/// large site, at some 300 bytes 5 MB in all. Claims beyond that are granted
/// when their hosts repeat them, within a minute.
const EARLY_MAX: usize = 16_384;

/// A claim that waits for a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What was asked.
    pub claim: ClaimRequest,
    /// Since when somebody waits for the port.
    pub since: Timestamp,
    /// When it was last claimed.
    pub heard: Timestamp,
    /// When somebody placed the port on yet another host, if they did.
    pub passed_over: Option<Timestamp>,
    /// When it is to be looked at next, and not before.
    look: Timestamp,
}

/// Claims that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// One per port, and of the store's ports only, so there are never more
    /// than ports. The newest counts: a VM that is moved on before its first
    /// move is over will not come to where it was going.
    waiting: BTreeMap<PortId, Waiting>,
    /// All of them, by when they are to be looked at: when a rack dies and its
    /// VMs start elsewhere, thousands wait, and not each event may look at all.
    looks: BTreeSet<(Timestamp, PortId)>,
    /// Claims of ports that do not exist yet, the newest per port.
    early: BTreeMap<PortId, ClaimRequest>,
    /// Those whose ports have been made since.
    awaited: Vec<ClaimRequest>,
}

impl Claims {
    /// Notes that a claim waits, in place of one that waits already. It is to be
    /// looked at right away. What the holder has let pass stays passed, or a
    /// claim that is repeated would keep a dead holder alive.
    ///
    /// A claim of a machine that is stopped takes no other host's turn: after a
    /// live migration the source's interface stays for a while, and its claim
    /// is newer than that of the next destination.
    pub fn wait(&mut self, now: Timestamp, claim: ClaimRequest) {
        let port = claim.port.clone();
        let before = self.waiting.get(&port);
        let is_others = before.is_some_and(|before| {
            before.claim.host != claim.host && before.claim.machine.activity != Activity::Stopped
        });
        if is_others && claim.machine.activity == Activity::Stopped {
            return;
        }
        let waiting = Waiting {
            claim,
            since: before.map_or(now, |before| before.since),
            heard: now,
            passed_over: before.and_then(|before| before.passed_over),
            look: now,
        };
        self.take(&port);
        self.looks.insert((now, port.clone()));
        self.waiting.insert(port, waiting);
    }

    /// When the first is to be looked at.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.looks.first().map(|(look, _)| *look)
    }

    /// One that is to be looked at by now.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<&Waiting> {
        let (look, port) = self.looks.first()?;
        (*look <= now).then(|| self.waiting.get(port)).flatten()
    }

    /// Looks at the claim that waits for a port again at that time.
    pub fn look_at(&mut self, port: &PortId, time: Timestamp) {
        if let Some(waiting) = self.waiting.get_mut(port) {
            self.looks.remove(&(waiting.look, port.clone()));
            waiting.look = time;
            self.looks.insert((time, port.clone()));
        }
    }

    /// Takes out the claim that waits for a port.
    pub fn take(&mut self, port: &PortId) -> Option<ClaimRequest> {
        let Waiting { claim, look, .. } = self.waiting.remove(port)?;
        self.looks.remove(&(look, port.clone()));
        Some(claim)
    }

    /// The claim that waits for a port.
    #[must_use]
    pub fn waiting(&self, port: &PortId) -> Option<&Waiting> {
        self.waiting.get(port)
    }

    /// Ends a host's wait for a port; false if it does not wait.
    pub fn withdraw(&mut self, port: &PortId, host: &HostName) -> bool {
        let was_early = self.heard_again(port, host);
        let waiting = self.waiting.get(port);
        let waited =
            waiting.is_some_and(|waiting| waiting.claim.host == *host) && self.take(port).is_some();
        was_early || waited
    }

    /// Forgets a host's claim of a port that does not exist: it claims anew, or
    /// no more. False if there is none.
    pub fn heard_again(&mut self, port: &PortId, host: &HostName) -> bool {
        let early = self.early.get(port);
        early.is_some_and(|claim| claim.host == *host) && self.early.remove(port).is_some()
    }

    /// Remembers a claim until its port is made.
    pub fn await_port(&mut self, claim: ClaimRequest) {
        if self.early.len() < EARLY_MAX || self.early.contains_key(&claim.port) {
            self.early.insert(claim.port.clone(), claim);
        }
    }

    /// Takes out a claim whose port has been made.
    pub fn now_possible(&mut self) -> Option<ClaimRequest> {
        self.awaited.pop()
    }

    /// Ends all waits of a host.
    pub fn forget(&mut self, host: &HostName) {
        self.early.retain(|_, claim| claim.host != *host);
        let looks = &mut self.looks;
        self.waiting.retain(|port, waiting| {
            let stays = waiting.claim.host != *host;
            if !stays {
                looks.remove(&(waiting.look, port.clone()));
            }
            stays
        });
    }

    /// Ends the waits for ports that are gone, or that are where they were
    /// waited for. A port that was placed elsewhere is that host's, there or
    /// not, before its silence counts; one that is nowhere now is free for who
    /// waits.
    pub fn settle(&mut self, now: Timestamp, changes: &ChangeSet) {
        if self.waiting.is_empty() && self.early.is_empty() {
            return; // as it mostly is
        }
        for change in &changes.0 {
            match (change, change.key()) {
                (Change::Delete { .. }, ObjectKey::Port(port)) => {
                    self.take(&port);
                }
                (Change::Create(after) | Change::Update { after, .. }, ObjectKey::Port(port)) => {
                    self.awaited.extend(self.early.remove(&port));
                    let Some(host) = host_of(after) else {
                        self.look_at(&port, now);
                        continue;
                    };
                    let moved = change.before().and_then(host_of) != Some(host);
                    self.withdraw(&port, host);
                    if let (true, Some(waiting)) = (moved, self.waiting.get_mut(&port)) {
                        waiting.passed_over = Some(now);
                        // The new holder is to hear of it.
                        self.look_at(&port, now);
                    }
                }
                (
                    _,
                    ObjectKey::Switch(_) | ObjectKey::PortGroup(..) | ObjectKey::MirrorSession(..),
                ) => {}
            }
        }
    }
}

/// The host that a port is on.
fn host_of(object: &Object) -> Option<&HostName> {
    match object {
        Object::Port(placed) => placed.document.host.as_ref(),
        Object::Switch(_) | Object::PortGroup(_) | Object::MirrorSession(_) => None,
    }
}
