// SPDX-License-Identifier: Apache-2.0
//! Interfaces that say a port and can't be it, and words of theirs that nobody
//! can read.

use dvs_schemas::{PortId, SwitchName, VnicId};

/// An interface on a switch's bridge that says which port it is, and is not
/// that port's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    /// The switch of its bridge.
    pub(super) switch: SwitchName,
    /// The port that it says; none if what it says is no port's id.
    pub(super) port: Option<PortId>,
    /// Why it is not that port's.
    pub(super) why: WhyUnusable,
}

/// A word of an interface that can't be read. It counts as not said, and the
/// interface is its port's all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    /// The switch of its bridge.
    pub(super) switch: SwitchName,
    /// The port that it says.
    pub(super) port: PortId,
    /// Its name.
    pub(super) interface: String,
    /// Where the word stands, like `external_ids:dvs-state`.
    pub(super) word: &'static str,
    /// What was found, and what is allowed.
    pub(super) why: String,
}

/// Why an interface is not the port's that it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WhyUnusable {
    /// There is no device that could carry frames.
    #[error("{0}; start its machine, or delete its row (ovs-vsctl del-port)")]
    NoDevice(String),
    /// Another interface says the same port, and has it.
    #[error(
        "port {port} is wired to interface {wired}; it takes over once that is unplugged, or give \
         it an iface-id of its own"
    )]
    Duplicate {
        /// The port that both say.
        port: PortId,
        /// The interface that has it.
        wired: String,
    },
    /// What it says can't be read.
    #[error("{word}: {error}")]
    Unreadable {
        /// Where that stands, like `external_ids:iface-id`.
        word: &'static str,
        /// What was found, and what is allowed.
        error: String,
    },
    /// It says another vNIC than the connected one.
    #[error(
        "external_ids:dvs-vnic is {vnic}, but vNIC {connected} is connected to port {port} \
         (allowed: {connected}, or disconnect it first, dvs.v1.port.disconnect)"
    )]
    OtherVnic {
        /// The port.
        port: PortId,
        /// The vNIC that it says.
        vnic: VnicId,
        /// The vNIC that is connected.
        connected: VnicId,
    },
}
