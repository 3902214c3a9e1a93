// SPDX-License-Identifier: Apache-2.0
//! Claims that wait for another host to let go of a port. They are in memory
//! only: hosts claim again after each hello.

use std::collections::BTreeMap;

use dvs_schemas::v1::ClaimRequest;
use dvs_schemas::{HostName, ObjectKey, PortId};

use crate::changes::{Change, ChangeSet, Object};

/// Claims that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// One per port, and of the store's ports only, so there are never more
    /// than ports. The newest counts: a VM that is moved on before its first
    /// move is over will not come to where it was going.
    waiting: BTreeMap<PortId, ClaimRequest>,
}

impl Claims {
    /// Notes that a claim waits, in place of one that waits already.
    pub fn wait(&mut self, claim: ClaimRequest) {
        self.waiting.insert(claim.port.clone(), claim);
    }

    /// Takes out the claim that waits for a port.
    pub fn take(&mut self, port: &PortId) -> Option<ClaimRequest> {
        self.waiting.remove(port)
    }

    /// Ends a host's wait for a port; false if it does not wait.
    pub fn withdraw(&mut self, port: &PortId, host: &HostName) -> bool {
        let waits = self
            .waiting
            .get(port)
            .is_some_and(|claim| claim.host == *host);
        waits && self.waiting.remove(port).is_some()
    }

    /// Ends all waits of a host.
    pub fn forget(&mut self, host: &HostName) {
        self.waiting.retain(|_, claim| claim.host != *host);
    }

    /// Ends the waits for ports that are gone, or that are where they were
    /// waited for.
    pub fn settle(&mut self, changes: &ChangeSet) {
        if self.waiting.is_empty() {
            return; // as it mostly is
        }
        for change in &changes.0 {
            match (change, change.key()) {
                (Change::Delete { .. }, ObjectKey::Port(port)) => {
                    self.waiting.remove(&port);
                }
                (Change::Create(after) | Change::Update { after, .. }, ObjectKey::Port(port)) => {
                    if let Object::Port(placed) = after
                        && let Some(host) = &placed.document.host
                    {
                        self.withdraw(&port, host);
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
