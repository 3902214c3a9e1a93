// SPDX-License-Identifier: Apache-2.0
//! What carries a switch's frames to the host, and a change of it of which
//! nobody knows yet whether the host can be reached with it.

use std::time::Duration;

use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::{SwitchState, Versioned};
use dvs_schemas::{Mtu, Revision, StoreId, UplinkName};
use serde::{Deserialize, Serialize};

use crate::datapath::BridgeSettings;
use crate::held::HeldSwitch;

/// What carries a switch's frames to the host and away from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkSettings {
    /// Largest frame payload.
    pub mtu: Mtu,
    /// The uplinks.
    pub uplinks: Vec<UplinkName>,
    /// How they share the traffic.
    pub teaming: Teaming,
}

impl UplinkSettings {
    /// Those of a switch's settings.
    #[must_use]
    pub fn of(settings: &SwitchState) -> Self {
        Self {
            mtu: settings.mtu,
            uplinks: settings.uplinks.clone(),
            teaming: settings.teaming,
        }
    }

    /// Those that a bridge has.
    #[must_use]
    pub fn of_bridge(settings: &BridgeSettings) -> Self {
        Self {
            mtu: settings.mtu,
            uplinks: settings.uplinks.clone(),
            teaming: settings.teaming,
        }
    }

    /// The first difference, for people.
    fn difference(&self, after: &Self) -> String {
        let list = |uplinks: &[UplinkName]| {
            let names: Vec<&str> = uplinks.iter().map(UplinkName::as_str).collect();
            format!("[{}]", names.join(", "))
        };
        if self.uplinks != after.uplinks {
            let (before, after) = (list(&self.uplinks), list(&after.uplinks));
            format!("uplinks changed from {before} to {after}")
        } else if self.mtu != after.mtu {
            format!("mtu changed from {} to {}", self.mtu.get(), after.mtu.get())
        } else {
            let word = |teaming| match teaming {
                Teaming::ActiveBackup => "active-backup",
                Teaming::BalanceSlb => "balance-slb",
                Teaming::Lacp => "lacp",
            };
            let (before, after) = (word(self.teaming), word(after.teaming));
            format!("teaming changed from {before} to {after}")
        }
    }
}

/// A change of a switch's uplinks that nobody knows to be good, as the ledger
/// has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The ledger that the revision belongs to.
    pub store: StoreId,
    /// The revision of the switch that asks for it.
    pub revision: Revision,
    /// The last uplinks with which the bus was heard.
    pub before: UplinkSettings,
    /// What is asked for.
    pub after: UplinkSettings,
    /// How long the bus was away, if that is why it was rolled back.
    pub rolled_back: Option<Duration>,
}

impl Change {
    /// True if this is what the state held asks for.
    #[must_use]
    pub fn is_of(&self, held: &HeldSwitch) -> bool {
        let revision = |settings: &Versioned<SwitchState>| settings.revision;
        let asked = held.settings.as_ref().map(revision);
        (held.store, asked) == (self.store, Some(self.revision))
    }

    /// Why this is not made true, if it was rolled back and is what the state
    /// held asks for.
    #[must_use]
    pub fn refusal(&self, held: &HeldSwitch) -> Option<String> {
        let away = self.rolled_back.filter(|_| self.is_of(held))?;
        Some(format!(
            "rolled back: the bus was not reached for {} after {}; apply a newer revision of the \
             switch, or have it tried again with dvsctl resync",
            humantime::format_duration(away),
            self.before.difference(&self.after)
        ))
    }
}
