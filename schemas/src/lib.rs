// SPDX-License-Identifier: Apache-2.0
//! The contract of dvswitch: identifiers, configuration documents, messages,
//! subjects and the codec. Every service and tool speaks through these types;
//! nothing in here does IO.
//!
//! Reading order: [`ids`] and [`vlan`] (values that can't be wrong once they
//! exist), [`policy`] and [`documents`] (what users write), [`v1`] (what
//! travels on the bus), [`subjects`] (where it travels), [`codec`] (how).

pub mod address;
#[cfg(feature = "arbitrary")]
pub mod arbitrary;
pub mod codec;
pub mod documents;
pub mod ids;
pub mod policy;
pub mod problem;
mod shortened;
pub mod subjects;
pub mod telling;
pub mod time;
pub mod tree;
pub mod v1;
pub mod vlan;

pub use address::{AddressList, MacAddr};
pub use codec::Format;
pub use documents::{
    Document, Hosts, Kind, MirrorDestination, MirrorPort, MirrorSessionDoc, MirrorSource,
    ObjectKey, PortDoc, PortGroupDoc, SwitchDoc,
};
pub use ids::{
    Epoch, HostName, InvalidName, MachineId, MirrorName, PortGroupName, PortId, Revision,
    SessionId, StoreId, SwitchName, UplinkName, VnicId,
};
pub use policy::{Direction, Policy, PolicyField, Rate, Security, Shaping, ShapingLimit, Verdict};
pub use problem::{Problem, ProblemCode};
pub use shortened::shortened;
pub use telling::{RuntimeClass, RuntimeField, RuntimeSettings, TellMode};
pub use time::Timestamp;
pub use vlan::{Mtu, PrivateVlan, PrivateVlans, Trunk, Vlan, VlanId, VlanRange, VlanRole, VlanSet};
