// SPDX-License-Identifier: Apache-2.0
//! What a host's packet forwarding looks like to the agent: what it has, what
//! can be done to it, and what it tells by itself. The agent decides against
//! these types alone, so a datapath is exchanged by implementing [`Datapath`].

mod emulated;
mod notices;
mod ovs;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::{ConditionKind, ConditionTarget, CountersOf, Link, Machine};
use dvs_schemas::{
    Epoch, MacAddr, MirrorDestination, MirrorName, MirrorPort, Mtu, PolicyField, PortId,
    PrivateVlans, SwitchName, UplinkName, Verdict, VlanId, VnicId,
};

use crate::merge::EffectivePolicy;

pub use emulated::{Behaviour, Device, Emulated, Mishap};
pub use ovs::{
    BadBridgeName, BadPattern, BridgeName, DatapathKind, DriftPolicy, Learning, Ovs, OvsConfig,
    OvsCounts, PlugPattern,
};

/// All conditions of one kind: what is wrong with what, and what to do about it.
pub type ConditionsNow = BTreeMap<ConditionTarget, String>;

/// All that a datapath has of ours, by switch.
pub type Picture = BTreeMap<SwitchName, Bridge>;

/// One switch in the datapath of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// What concerns the bridge as a whole.
    pub settings: Arc<BridgeSettings>,
    /// Its virtual ports.
    pub ports: BTreeMap<PortId, PluggedPort>,
    /// Its mirror sessions.
    pub mirrors: BTreeMap<MirrorName, Arc<Mirror>>,
    /// Parts of it that are there in an unknown shape: what is said of them
    /// above is what they were to be, and could not be made true wholly. They
    /// are to be set again, or removed if nobody wants them.
    pub failing: BTreeSet<Part>,
}

impl Bridge {
    /// True if the part is as it is said to be.
    #[must_use]
    pub fn is_whole(&self, part: &Part) -> bool {
        !self.failing.contains(part)
    }
}

/// What concerns a bridge as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Largest frame payload.
    pub mtu: Mtu,
    /// Physical interfaces that carry the traffic.
    pub uplinks: Vec<UplinkName>,
    /// How they share it.
    pub teaming: Teaming,
    /// Private VLANs, whose roles the bridge forwards by.
    pub private_vlans: PrivateVlans,
}

/// A virtual port and its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluggedPort {
    /// How it is set.
    pub port: Arc<VirtualPort>,
    /// Whether it carries frames.
    pub link: Link,
}

/// How a virtual port is set: what a DVPort comes to on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualPort {
    /// The placement that it counts for: with another epoch its counters
    /// begin anew.
    pub epoch: Epoch,
    /// The connected vNIC.
    pub vnic: Option<VnicId>,
    /// The vNIC's configured MAC address.
    pub mac: Option<MacAddr>,
    /// Its policy, merged.
    pub policy: EffectivePolicy,
}

impl VirtualPort {
    /// The rules that need the vNIC's MAC address where none is configured. A
    /// port can't be held to them and pass frames; of one that is blocked there
    /// is nothing to be checked.
    pub(crate) fn unchecked(&self) -> impl Iterator<Item = PolicyField> {
        let checks = [
            (PolicyField::ForgedTransmits, self.policy.forged_transmits),
            (PolicyField::MacChanges, self.policy.mac_changes),
        ];
        let can_check = self.mac.is_some() || self.policy.blocked;
        let unchecked = checks.into_iter();
        unchecked
            .filter(move |(_, verdict)| !can_check && *verdict == Verdict::Reject)
            .map(|(field, _)| field)
    }
}

/// A mirror session as far as it concerns one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Ports of this host whose frames are copied.
    pub ports: Vec<MirrorPort>,
    /// VLANs whose frames are copied.
    pub vlans: Vec<VlanId>,
    /// Where the copies go.
    pub destination: MirrorDestination,
}

/// A part of a bridge, as the unit of planning and of failing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The bridge itself.
    Bridge,
    /// A virtual port.
    Port(PortId),
    /// A mirror session.
    Mirror(MirrorName),
}

/// One write to a datapath. A step says what is to be and what was there when
/// it was planned, so a datapath can write only what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The switch concerned.
    pub switch: SwitchName,
    /// What is written.
    pub write: Write,
}

/// What a [`Step`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The bridge comes or changes.
    SetBridge {
        /// What it is; none if it comes.
        from: Option<Arc<BridgeSettings>>,
        /// What it is to be.
        to: Arc<BridgeSettings>,
    },
    /// A virtual port comes or changes.
    SetPort {
        /// The port.
        port: PortId,
        /// What it is; none if it comes.
        from: Option<Arc<VirtualPort>>,
        /// What it is to be.
        to: Arc<VirtualPort>,
    },
    /// A mirror session comes or changes.
    SetMirror {
        /// The session.
        mirror: MirrorName,
        /// What it is; none if it comes.
        from: Option<Arc<Mirror>>,
        /// What it is to be.
        to: Arc<Mirror>,
    },
    /// A mirror session goes.
    RemoveMirror {
        /// The session.
        mirror: MirrorName,
        /// What it is.
        from: Arc<Mirror>,
    },
    /// A virtual port goes.
    RemovePort {
        /// The port.
        port: PortId,
        /// What it is.
        from: Arc<VirtualPort>,
    },
    /// The bridge goes, after all that was on it.
    RemoveBridge {
        /// What it is.
        from: Arc<BridgeSettings>,
    },
}

impl Write {
    /// The part of the bridge that is written.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            Self::SetBridge { .. } | Self::RemoveBridge { .. } => Part::Bridge,
            Self::SetPort { port, .. } | Self::RemovePort { port, .. } => Part::Port(port.clone()),
            Self::SetMirror { mirror, .. } | Self::RemoveMirror { mirror, .. } => {
                Part::Mirror(mirror.clone())
            }
        }
    }
}

/// A step that was carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The link of a port that was set.
    pub link: Option<Link>,
    /// Who is behind the interface of a port that was set.
    pub behind: Behind,
    /// How far it went.
    pub extent: Extent,
}

/// Who is behind a port's interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behind {
    /// Nobody that the datapath knows of: a machine, or nothing.
    #[default]
    Machine,
    /// The host itself: one of its addresses or routes is there.
    Host,
}

/// How far a step went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// It is in the datapath.
    #[default]
    Written,
    /// It is of a port where nothing is plugged in: kept for when something is,
    /// and nothing was written.
    Kept,
}

/// Ports of switches.
pub type Ports = BTreeSet<(SwitchName, PortId)>;

/// What came of an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of each step, in order; or why there is nothing to be said of each.
    pub steps: Result<Vec<Result<Done, StepFailure>>, NotApplied>,
    /// What placements came to that ended, whatever became of the steps that
    /// ended them: it is counted, and told nowhere else.
    pub ended: Vec<(SwitchName, CountersOf)>,
}

impl From<DatapathError> for Applied {
    /// Nothing was reached.
    fn from(error: DatapathError) -> Self {
        Self {
            steps: Err(error.into()),
            ended: Vec::new(),
        }
    }
}

/// Why there is nothing to be said of each step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// Nobody knows which of them were carried out.
    #[error(transparent)]
    Unknown(#[from] DatapathError),
    /// None was: some change ports that the host itself lives behind, and nobody
    /// would undo that if it cuts the host off.
    #[error("the host itself lives behind {}", names(.0))]
    Unguarded(Ports),
}

fn names(ports: &Ports) -> String {
    let names = ports
        .iter()
        .map(|(switch, port)| format!("port {port} of switch {switch}"));
    names.collect::<Vec<_>>().join(", ")
}

/// A step that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepFailure {
    /// The field that the datapath can't make true, if it is one in
    /// particular; policy fields by their path, like `security.promiscuous`.
    pub field: Option<String>,
    /// What the datapath says.
    pub message: String,
    /// What it says of other fields of the same step, each by itself.
    pub others: Vec<Self>,
    /// Who is behind the interface of a port that may have been set in part.
    pub behind: Behind,
}

impl StepFailure {
    /// What concerns this field alone, or no field in particular.
    #[must_use]
    pub fn new(field: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            field: field.map(str::to_owned),
            message: message.into(),
            others: Vec::new(),
            behind: Behind::Machine,
        }
    }

    /// One for each field.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }
}

/// The datapath as a whole did not answer; nothing is known of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the datapath can't be {doing}: {reason}")]
pub struct DatapathError {
    /// `read` or `changed`.
    pub doing: &'static str,
    /// Why not, in its own words.
    pub reason: String,
}

/// What a datapath tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A port's link is now this.
    Link {
        /// The switch of the port.
        switch: SwitchName,
        /// The port.
        port: PortId,
        /// Its link.
        link: Link,
    },
    /// A port's counters moved for the first time since they were last read.
    Busy {
        /// The switch of the port.
        switch: SwitchName,
        /// The port.
        port: PortId,
    },
    /// An interface that says whose it is is there. A port has one on all
    /// bridges of the host: what was told of it before is over.
    Plugged {
        /// The switch of its bridge.
        switch: SwitchName,
        /// The port that it says.
        port: PortId,
        /// Which vNIC it is, if whoever plugged it says so.
        vnic: Option<VnicId>,
        /// Its address, if whoever plugged it says so.
        mac: Option<MacAddr>,
        /// The machine behind it.
        machine: Machine,
    },
    /// The machine behind such an interface does something else by now, or is
    /// another one.
    Machine {
        /// The switch of its bridge.
        switch: SwitchName,
        /// The port that it says.
        port: PortId,
        /// The machine.
        machine: Machine,
    },
    /// These are all conditions of a kind now: what is not among them any more
    /// is over.
    Conditions {
        /// The kind.
        kind: ConditionKind,
        /// Each with what is wrong and what to do about it.
        now: ConditionsNow,
    },
    /// Such an interface is there no more. Its counters were read as far as
    /// that was still possible.
    Unplugged {
        /// The switch of its bridge.
        switch: SwitchName,
        /// The port that it was.
        port: PortId,
        /// What it was called.
        interface: String,
        /// What became of it.
        why: Pulled,
    },
    /// Somebody else changed what is ours.
    Drift(Drift),
    /// Somebody else wrote: what was read of it no longer holds.
    Disturbed,
}

/// What became of an interface that is a port's no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Pulled {
    /// It was taken off the bridge.
    #[error("it was taken off its bridge")]
    Off,
    /// It is on the bridge still, and can't be the port's any more.
    #[error("{0}")]
    Unusable(String),
    /// It says another port now, or none.
    #[error("it doesn't say this port any more")]
    Renamed,
}

/// What somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The switch concerned.
    pub switch: SwitchName,
    /// Which part of it.
    pub part: Part,
    /// What was changed, as the datapath calls it.
    pub row: String,
    /// Its field; none for what is missing or too many.
    pub column: Option<&'static str>,
    /// What should be there.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it is undone.
    pub repaired: bool,
}

impl Notice {
    /// True if nobody needs the older one any more once this is told.
    fn replaces(&self, older: &Self) -> bool {
        match (older, self) {
            (
                Self::Link { switch, port, .. },
                Self::Link {
                    switch: s, port: p, ..
                },
            )
            | (Self::Busy { switch, port }, Self::Busy { switch: s, port: p }) => {
                (switch, port) == (s, p)
            }
            (
                Self::Plugged { switch, port, .. }
                | Self::Unplugged { switch, port, .. }
                | Self::Machine { switch, port, .. },
                Self::Plugged {
                    switch: s, port: p, ..
                }
                | Self::Unplugged {
                    switch: s, port: p, ..
                },
            ) => (switch, port) == (s, p),
            (
                Self::Machine { switch, port, .. },
                Self::Machine {
                    switch: s, port: p, ..
                },
            ) => (switch, port) == (s, p),
            (Self::Conditions { kind, .. }, Self::Conditions { kind: k, .. }) => kind == k,
            (Self::Drift(drift), Self::Drift(other)) => {
                (&drift.row, drift.column) == (&other.row, other.column)
            }
            (Self::Disturbed, Self::Disturbed) => true,
            (
                Self::Link { .. }
                | Self::Busy { .. }
                | Self::Plugged { .. }
                | Self::Unplugged { .. }
                | Self::Machine { .. }
                | Self::Conditions { .. }
                | Self::Drift(_)
                | Self::Disturbed,
                _,
            ) => false,
        }
    }
}

/// What the ledger of an agent that starts says of its datapath.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// What placements had come to, as far as anybody was told.
    pub counters: Vec<(SwitchName, CountersOf)>,
    /// What is to be, as steps from nothing.
    pub wanted: Vec<Step>,
}

/// Packet forwarding on one host. Every call ends in bounded time, with an
/// error if need be: a host has one call to [`Datapath::apply`] under way at
/// most, and waits for it.
pub trait Datapath: Send + Sync + 'static {
    /// Hands over what the ledger says, before all else. What placements count
    /// goes on from there, whatever their interfaces have forgotten since; and
    /// what is to be stands there where a datapath can't read what it was given.
    fn resume(&self, known: Remembered) -> impl Future<Output = ()> + Send;

    /// Reads all that is ours. Never a part of it: half a picture is an error.
    fn read(&self) -> impl Future<Output = Result<Picture, DatapathError>> + Send;

    /// Carries out a whole delta, in order, as one transaction as far as the
    /// datapath can. A failed step doesn't
    /// keep the others from being carried out, unless they need it. Of a delta
    /// that changes ports which the host itself lives behind, and which aren't
    /// guarded, nothing is: see [`NotApplied::Unguarded`].
    fn apply(&self, steps: Arc<[Step]>, guarded: Ports) -> impl Future<Output = Applied> + Send;

    /// Reads counters now; ports that are not there are left out.
    fn counters(
        &self,
        ports: Vec<(SwitchName, PortId)>,
    ) -> impl Future<Output = Result<Vec<(SwitchName, CountersOf)>, DatapathError>> + Send;

    /// Sends frames that announce ports out of them, as if their vNICs did, so
    /// that the switches beyond this host learn where they are. Writes nothing.
    /// Ports that are not there, or whose addresses nobody knows, are left out.
    fn announce(&self, ports: Vec<(SwitchName, PortId)>) -> impl Future<Output = ()> + Send;

    /// Waits for the next thing to tell. Cancel-safe; one waits at a time.
    fn next_notice(&self) -> impl Future<Output = Notice> + Send;
}
