// SPDX-License-Identifier: Apache-2.0
//! Rules that somebody else changes: told, and undone if that is the policy.

use dvs_schemas::SwitchName;

use super::Task;
use super::database::chain;
use crate::datapath::ovs::config::DriftPolicy;
use crate::datapath::ovs::rows::Difference;
use crate::datapath::{Notice, Part};

impl Task {
    /// Somebody else changed rules of a bridge.
    pub(super) async fn rules_changed(&mut self, switch: &SwitchName) {
        let policy = self.config.drift;
        let altered = match self.bridges.review(switch, policy).await {
            Ok(Some(altered)) => altered,
            Ok(None) => return,
            Err(error) => return self.rules_unknown(switch, &error),
        };
        let repaired = match policy {
            DriftPolicy::Report => false,
            DriftPolicy::Repair => {
                self.forward_all().await;
                let right = self.bridges.is_right(switch);
                if !right {
                    // Who planned with them has to look again.
                    self.notices.tell(Notice::Disturbed);
                }
                if self.bridges.away().is_some() {
                    self.try_again();
                }
                right
            }
        };
        let (bridge, _) = self.config.bridge(switch);
        let drift = Difference {
            place: (switch.clone(), Part::Bridge),
            row: format!("Bridge {bridge}"),
            column: Some("flow"),
            wanted: altered.wanted,
            found: altered.found,
        };
        self.counts.drifts.inc();
        self.notices.tell(drift.told(repaired));
    }

    /// The switch of a bridge can't be spoken with any more.
    pub(super) fn rules_unknown(&mut self, switch: &SwitchName, error: &dyn std::error::Error) {
        let error = chain(error);
        tracing::warn!(%switch, error, "the bridge's switch is away");
        self.bridges.forget(switch);
        self.try_again();
    }
}
