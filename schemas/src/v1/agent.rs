// SPDX-License-Identifier: Apache-2.0
//! What hosts are asked, and what they answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Lineage, Position, V1};
use crate::address::MacAddr;
use crate::documents::{MirrorDestination, MirrorSource, Teaming};
use crate::ids::{
    Epoch, HostName, MirrorName, PortGroupName, PortId, Revision, SessionId, StoreId, SwitchName,
    UplinkName, VnicId,
};
use crate::policy::Policy;
use crate::telling::RuntimeSettings;
use crate::vlan::{Mtu, PrivateVlans};

/// Final state of one switch for hosts to make true. Idempotent; safe under
/// loss, repetition, reordering and delay, because every object carries the
/// revision that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clobber {
    /// Version of the message.
    pub v: V1,
    /// The ledger that the revisions belong to.
    pub store: StoreId,
    /// What they descend from.
    #[serde(default)]
    pub lineage: Lineage,
    /// The switch that all of this is about.
    pub switch: SwitchName,
    /// The store's revision when this was rendered: no object below is newer.
    pub revision: Revision,
    /// Whether an operator wants tried again what the host has rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insist: bool,
    /// What is to be true.
    pub state: FinalState,
}

/// What is to be true of a switch on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// Everything that the host shall have of the switch. What it has besides,
    /// at this revision or an older one, is to go.
    Full {
        /// The switch itself.
        settings: Versioned<SwitchState>,
        /// All its groups and mirror sessions, and the host's own ports.
        objects: SwitchObjects,
    },
    /// The host is not part of the switch: nothing of it is to stay.
    Absent,
    /// The objects named here, and no word of any other.
    Partial {
        /// The switch itself, if it is concerned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Versioned<SwitchState>>,
        /// Groups, mirror sessions and ports with their final state.
        objects: SwitchObjects,
        /// Groups and mirror sessions that are no more. Ports go by
        /// [`Remove`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        removed: Vec<Removed>,
    },
}

/// A value and the revision that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versioned<T> {
    /// The commit that made it so.
    pub revision: Revision,
    /// The value.
    pub value: T,
}

/// Objects of one switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchObjects {
    /// Port groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Versioned<PortGroupState>>,
    /// Mirror sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Versioned<MirrorState>>,
    /// Ports. In a partial state each comes with its group and the switch's
    /// settings, so that the host can always merge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Versioned<PortState>>,
}

/// A switch's own settings, as hosts need them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SwitchState {
    /// Largest frame payload in bytes.
    pub mtu: Mtu,
    /// Physical interfaces that carry the switch's traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<UplinkName>,
    /// How the uplinks share the traffic.
    #[serde(default)]
    pub teaming: Teaming,
    /// Private VLANs.
    #[serde(default, skip_serializing_if = "PrivateVlans::is_empty")]
    pub private_vlans: PrivateVlans,
    /// How runtime state is told.
    #[serde(default, skip_serializing_if = "RuntimeSettings::is_default")]
    pub runtime: RuntimeSettings,
    /// The switch's default policy.
    pub policy: Policy,
}

/// A port group, as hosts need it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortGroupState {
    /// Its name.
    pub name: PortGroupName,
    /// Its layer of policy.
    pub policy: Policy,
}

/// A mirror session, as hosts need it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct MirrorState {
    /// Its name.
    pub name: MirrorName,
    /// Which frames are copied.
    pub source: MirrorSource,
    /// Where the copies go.
    pub destination: MirrorDestination,
}

/// A DVPort, as its host needs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortState {
    /// Its name.
    pub id: PortId,
    /// Its placement's fence.
    pub epoch: Epoch,
    /// Its group.
    pub group: PortGroupName,
    /// The connected vNIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnic: Option<VnicId>,
    /// The vNIC's configured MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// What it overrides.
    pub policy: Policy,
}

/// A group or mirror session that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The object.
    pub object: GlobalKey,
    /// The commit that removed it.
    pub revision: Revision,
}

/// Names a global object within its switch.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GlobalKey {
    /// A port group.
    Group(PortGroupName),
    /// A mirror session.
    Mirror(MirrorName),
}

/// A host's answer to a clobber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyReport {
    /// Version of the message.
    pub v: V1,
    /// Who answers.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// The switch concerned.
    pub switch: SwitchName,
    /// The newest revision of the switch that the host has applied, which may
    /// be newer than the one asked for.
    pub observed: Revision,
    /// The newest commit that it knows of, if it knows the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// How it went.
    pub outcome: ApplyOutcome,
}

/// How a clobber went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyOutcome {
    /// What was asked for is true and durable.
    Applied {
        /// Writes to the datapath that it took; 0 if it was true already.
        writes: u32,
    },
    /// Not all of it is true.
    Failed {
        /// The reason, if it concerns the whole.
        message: String,
        /// The ports that failed, with their reasons.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ports: Vec<PortFailure>,
    },
}

/// Why one port is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortFailure {
    /// The port.
    pub port: PortId,
    /// The policy field that could not be made true, if one in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the datapath said.
    pub message: String,
}

/// Remove virtual ports that no DVPort needs on this host any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remove {
    /// Version of the message.
    pub v: V1,
    /// The ledger that the revisions belong to.
    pub store: StoreId,
    /// What they descend from.
    #[serde(default)]
    pub lineage: Lineage,
    /// The switch of the ports.
    pub switch: SwitchName,
    /// The ports.
    pub ports: Vec<RemovedPort>,
}

/// A port that is to be on a host no more.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct RemovedPort {
    /// The port.
    pub port: PortId,
    /// The commit that took it away. A host that holds a newer state of the
    /// port keeps it.
    pub revision: Revision,
}

/// A host's answer to [`Remove`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoveReport {
    /// Version of the message.
    pub v: V1,
    /// Who answers.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// The switch concerned.
    pub switch: SwitchName,
    /// The newest revision that it has applied of the switch.
    #[serde(default)]
    pub observed: Revision,
    /// The newest commit that it knows of, if it knows the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// How it went.
    pub outcome: RemoveOutcome,
}

/// How a removal went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemoveOutcome {
    /// None of the ports is there, but for those that a newer state keeps.
    Removed,
    /// Some are still there.
    Failed {
        /// What the datapath said, per port.
        ports: Vec<PortFailure>,
    },
}

/// What a clobber would change on one host; the answer to the plan verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Version of the message.
    pub v: V1,
    /// Who answers.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// The switch concerned.
    pub switch: SwitchName,
    /// What would happen.
    pub outcome: PlanOutcome,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanOutcome {
    /// These changes, in this order; none if the host is there already.
    Changes(Vec<Change>),
    /// The host would refuse it.
    Refused {
        /// Why.
        message: String,
    },
}

/// One change to a datapath, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What changes, like `port web-1` or `switch`.
    pub object: String,
    /// The field, like `vlan`; none if the object comes or goes as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it is; none if it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it would be; none if it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
