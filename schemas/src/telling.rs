// SPDX-License-Identifier: Apache-2.0
//! How hosts tell the runtime state of a switch's ports: a part of the switch,
//! so that it reaches the hosts as all of it does, without restarts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How runtime state is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeSettings {
    /// Whether events carry what they tell.
    pub mode: TellMode,
    /// How often fields change. What is not named is as it is by nature:
    /// counters are busy, all else is rare.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<RuntimeField, RuntimeClass>,
}

/// Whether events carry what they tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TellMode {
    /// They do.
    #[default]
    Push,
    /// They say that something changed, and the collector fetches it.
    Notify,
}

/// A field of a port's runtime state.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeField {
    /// Whether it carries frames.
    Link,
    /// The effective VLAN.
    Vlan,
    /// Whether it is blocked.
    Blocked,
    /// The mirror sessions that copy its frames.
    Mirrored,
    /// The counters, all of them.
    Counters,
}

/// How often a field changes, and so when it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeClass {
    /// Rarely: told at each change. Counters that are rare are told at each
    /// look, as long as they move.
    Rare,
    /// Often: told when it has stopped changing.
    Busy,
    /// The agent finds out: rare, and busy while it changes too often for that.
    Auto,
}

impl RuntimeSettings {
    /// Whether all is as it is by nature.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The class of a field.
    #[must_use]
    pub fn class(&self, field: RuntimeField) -> RuntimeClass {
        let natural = match field {
            RuntimeField::Counters => RuntimeClass::Busy,
            RuntimeField::Link
            | RuntimeField::Vlan
            | RuntimeField::Blocked
            | RuntimeField::Mirrored => RuntimeClass::Rare,
        };
        self.classes.get(&field).copied().unwrap_or(natural)
    }
}
