// SPDX-License-Identifier: Apache-2.0
//! How DVPorts are connected and moved: by operators and hypervisors, and by
//! the hosts, which ask for what is plugged into them and give back what is
//! plugged no more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Deadline, Position, V1, Wait};
use crate::address::MacAddr;
use crate::ids::{
    Epoch, HostName, MachineId, PortGroupName, PortId, Revision, SessionId, SwitchName, VnicId,
};

/// Connects a vNIC to a port, and places the port on the vNIC's host. A port
/// has one vNIC and a vNIC one port: whoever comes second is told who is there,
/// and has to disconnect it first. Connecting what is connected changes
/// nothing. Answered like an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// The port. One that is not there is made, if its switch and an ephemeral
    /// group are named as well.
    pub port: PortId,
    /// The vNIC.
    pub vnic: VnicId,
    /// The host where the vNIC is. Left out: the port stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The configured MAC address of the vNIC. Left out: it stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The switch of a port that is to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
    /// The group of a port that is to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<PortGroupName>,
    /// When to reply; default: as soon as the change is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Bound of the wait; default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Deadline>,
}

/// Places a port on another host, as when its VM moves there. The new host gets
/// the port's state, the old one a removal. Answered like an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The port.
    pub port: PortId,
    /// Where it goes.
    pub host: HostName,
    /// Refuse if the port is not on this host any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<HostName>,
    /// Place it there although nothing can be sent to that host now, as it is
    /// absent or follows another history: refused without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// When to reply; default: as soon as the change is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Bound of the wait; default 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Deadline>,
}

/// What the machine behind a vNIC does, as far as its host can tell.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It is stopped, or has gone elsewhere: the link is down, the hypervisor
    /// said so, or the host gave the port away for a machine that runs
    /// elsewhere.
    Stopped,
    /// Nobody knows: the link is up, and nothing was heard of it. The machine
    /// may be about to arrive by a live migration.
    #[default]
    Unknown,
    /// It runs: it has sent a frame while it waited for the port, or the
    /// hypervisor said so.
    Running,
}

/// A machine behind a vNIC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Which one, if the host can tell. During a live migration both hosts
    /// name the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MachineId>,
    /// What it does.
    #[serde(default)]
    pub activity: Activity,
}

/// An interface with a DVPort's id appeared in a host's datapath: the host asks
/// to be the port's. Again and again the same claim has one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRequest {
    /// Version of the message.
    pub v: V1,
    /// Who asks.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// The port.
    pub port: PortId,
    /// The vNIC behind the interface, if the host can tell. A port without a
    /// connection is connected to it; one with another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnic: Option<VnicId>,
    /// The MAC address that the vNIC is configured with, if the host can tell.
    /// A port that is configured with another is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The epoch in which the host holds the port already, as far as it knows.
    /// Refused if that epoch is over and the port is not the host's any more.
    /// Left out: the host holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The machine behind the vNIC.
    #[serde(default)]
    pub machine: Machine,
    /// The newest commits that the host knows of, as in its heartbeats. One
    /// that follows another history than the publisher's ledger is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
}

/// Reply to a claim that is not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimReply {
    /// Version of the message.
    pub v: V1,
    /// Who asked.
    pub host: HostName,
    /// The port.
    pub port: PortId,
    /// What became of it.
    pub outcome: ClaimOutcome,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimOutcome {
    /// The port is the host's. Its final state comes as every final state does,
    /// by a clobber.
    Granted {
        /// The fence of the placement.
        epoch: Epoch,
        /// The commit that last changed the port: the host has its final state
        /// once it holds the port as of this commit or a later one.
        revision: Revision,
    },
    /// Another host holds the port and keeps it. When that one releases it, it
    /// becomes the asker's without another claim, and its final state comes. A
    /// later claim of a third host takes the asker's turn; a restart of the
    /// publisher ends it too, so a host claims again after each hello.
    Waits {
        /// Who holds the port.
        holder: HostName,
        /// The fence of the holder's placement.
        epoch: Epoch,
    },
}

/// Another host waits for a port: sent to the port's holder when a claim begins
/// to wait, and with each repetition of it, so one that is lost is made up for.
/// The holder releases the port to it once its own machine has stopped, or once
/// the very same machine runs there. Nobody answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Yield {
    /// Version of the message.
    pub v: V1,
    /// The port.
    pub port: PortId,
    /// The placement that is to end; about any other this says nothing.
    pub epoch: Epoch,
    /// The host whose claim waits.
    pub to: HostName,
    /// The machine there.
    #[serde(default)]
    pub machine: Machine,
    /// How long that host has waited for this placement to end, in
    /// milliseconds.
    pub waited_ms: u64,
}

/// A DVPort's interface left a host's datapath: the host gives the port back,
/// or its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseRequest {
    /// Version of the message.
    pub v: V1,
    /// Who asks.
    pub host: HostName,
    /// The agent's session.
    pub session: SessionId,
    /// The port.
    pub port: PortId,
    /// The epoch in which the host held the port: this placement ends, and no
    /// other. Left out: the host holds nothing, and its claim waits no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The host that gets the port: nothing ends if its claim does not wait.
    /// Left out: the vNIC was unplugged, and the port goes to who waits, or is
    /// on no host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<HostName>,
    /// The newest commits that the host knows of, as in its heartbeats. A host
    /// that follows another history than the publisher's ledger ends nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<Position>,
}

/// Reply to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseReply {
    /// Version of the message.
    pub v: V1,
    /// Who asked.
    pub host: HostName,
    /// The port.
    pub port: PortId,
    /// What became of it.
    pub outcome: ReleaseOutcome,
}

/// What becomes of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOutcome {
    /// The placement ended.
    Released {
        /// The commit that ended it.
        revision: Revision,
    },
    /// The claim waits no more.
    Withdrawn,
    /// The claim of the host that was to get the port does not wait any more:
    /// the placement goes on.
    Kept,
    /// There was nothing to end: the epoch was over, the port is gone, or no
    /// claim of the host waited.
    Nothing,
}

/// Asks where ports are by the configuration: the collector, before it believes
/// that one has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementsRequest {
    /// Version of the message.
    pub v: V1,
    /// The ports.
    pub ports: Vec<PortId>,
}

/// Reply to [`PlacementsRequest`], as of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementsReply {
    /// Version of the message.
    pub v: V1,
    /// Of the ports that were asked for, those that are there and were ever
    /// placed. One that was made anew has forgotten its earlier life.
    pub placements: Vec<Placement>,
}

/// Where a port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    /// The port.
    pub port: PortId,
    /// Its newest epoch.
    pub epoch: Epoch,
    /// Who holds it in that epoch. Left out: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
}
