// SPDX-License-Identifier: Apache-2.0
//! What somebody else changed in a host's datapath.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::V1;
use crate::ids::{HostName, MirrorName, PortId, SessionId, SwitchName};
use crate::time::Timestamp;

/// Somebody else changed what is ours in a host's datapath. Told once, and
/// stored nowhere: for whoever listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// Version of the message.
    pub v: V1,
    /// Where.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// When it was seen.
    pub at: Timestamp,
    /// The switch concerned.
    pub switch: SwitchName,
    /// The port concerned, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortId>,
    /// The mirror session concerned, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorName>,
    /// What was changed, as the datapath calls it, like `Port tap3`.
    pub row: String,
    /// Its field, like `tag`; none for what is missing or too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What should be there.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it is undone; otherwise it stays until the next change of the
    /// port, session or switch.
    pub repaired: bool,
}
