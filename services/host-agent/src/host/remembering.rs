// SPDX-License-Identifier: Apache-2.0
//! What a host that starts tells its datapath of the time before.

use std::collections::BTreeSet;

use dvs_schemas::SwitchName;
use dvs_schemas::v1::CountersOf;

use super::HostCore;
use crate::datapath::Remembered;
use crate::plan::{MayRemove, Parts, plan};

impl HostCore {
    /// What its placements have come to, as far as anybody was told; the
    /// datapath goes on from there.
    #[must_use]
    pub fn counters(&self) -> Vec<(SwitchName, CountersOf)> {
        self.telling.counters()
    }

    /// What the ledger says of the datapath.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let nothing = BTreeSet::new();
        let wanted = self.switches.iter().flat_map(|(name, switch)| {
            let held = &switch.held;
            let all = Parts::all(held, None);
            let stays = self.rollback.stays(name, held);
            plan(name, held, None, &all, MayRemove::Only(&nothing), &stays).steps
        });
        Remembered {
            counters: self.counters(),
            wanted: wanted.collect(),
        }
    }
}
