// SPDX-License-Identifier: Apache-2.0
//! What somebody else changed on the datapath is told to whoever listens, in the
//! agent's session. At a start it is found before there is one: it waits for the
//! answer to the hello.

use dvs_ledger::Decision;
use dvs_schemas::Timestamp;
use dvs_schemas::v1::{self, V1};

use super::messages::HostEffect;
use super::{Effect, HostCore};
use crate::datapath::{Drift, Part};

/// Changes that wait to be told, at some 300 bytes. What is found at a start
/// beyond that is counted only, as are the many rows of a host on which
/// somebody has written all.
const UNTOLD: usize = 256;

/// Changes by somebody else that were found, and when, before the agent was its
/// host's.
#[derive(Debug, Default)]
pub(super) struct Drifting {
    untold: Vec<(Timestamp, Drift)>,
}

impl HostCore {
    /// Somebody else changed what is ours.
    pub(super) fn drifted(&mut self, now: Timestamp, drift: Drift, out: &mut Decision<Effect>) {
        let Some(session) = self.standing.session() else {
            if self.drifting.untold.len() < UNTOLD {
                self.drifting.untold.push((now, drift));
            }
            return;
        };
        let Drift {
            switch,
            part,
            row,
            column,
            wanted,
            found,
            repaired,
        } = drift;
        let (port, mirror) = match part {
            Part::Bridge => (None, None),
            Part::Port(port) => (Some(port), None),
            Part::Mirror(mirror) => (None, Some(mirror)),
        };
        let drift = v1::Drift {
            v: V1,
            host: self.host.clone(),
            session,
            at: now,
            switch,
            port,
            mirror,
            row,
            column: column.map(str::to_owned),
            wanted,
            found,
            repaired,
        };
        self.effect(HostEffect::Drift(drift), out);
    }

    /// Tells what was found before the agent was its host's.
    pub(super) fn tell_drift(&mut self, out: &mut Decision<Effect>) {
        for (at, drift) in std::mem::take(&mut self.drifting.untold) {
            self.drifted(at, drift, out);
        }
    }
}
