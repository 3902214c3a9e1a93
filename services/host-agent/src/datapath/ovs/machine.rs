// SPDX-License-Identifier: Apache-2.0
//! Which machine is behind an interface, and whether it runs, as far as that can
//! be seen here: by the words of its hypervisor, by the link, and by frames that
//! it sends while it waits for its port.

use dvs_ovsdb::Row;
use dvs_schemas::v1::{Activity, Link};
use dvs_schemas::{InvalidName, MachineId};

/// Where hypervisors write which machine it is, libvirt and Nova, and how that
/// is called.
const IDS: [(&str, &str); 2] = [
    ("vm-id", "external_ids:vm-id"),
    ("vm-uuid", "external_ids:vm-uuid"),
];

/// Where whoever runs the machine may write whether it runs.
const STATE: &str = "dvs-state";

/// What whoever runs a machine says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It is stopped.
    Stopped,
    /// It runs.
    Running,
}

/// Whether a machine has sent a frame while it waits for its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has.
    Yes,
    /// It has not, or has its port.
    No,
}

/// A word for what a machine does that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} says nothing of the machine; allowed: stopped, running, or no such key")]
pub(super) struct NoState(String);

/// The machine behind an interface, if its hypervisor says which it is.
///
/// # Errors
/// What it says can't be read: where, and what is allowed.
pub(super) fn said_machine(
    interface: &Row,
) -> Result<Option<MachineId>, (&'static str, InvalidName)> {
    let said = IDS.into_iter().find_map(|(key, word)| {
        let id = interface.map_get("external_ids", key)?;
        Some(id.parse().map_err(|error| (word, error)))
    });
    said.transpose()
}

/// What whoever runs the machine behind an interface says of it.
pub(super) fn said_state(interface: &Row) -> Result<Option<Said>, NoState> {
    match interface.map_get("external_ids", STATE) {
        None => Ok(None),
        Some("stopped") => Ok(Some(Said::Stopped)),
        Some("running") => Ok(Some(Said::Running)),
        Some(other) => Err(NoState(other.to_owned())),
    }
}

/// What a machine does. Without a link it can't do anything.
pub(super) fn activity(link: Link, said: Option<Said>, heard: Heard) -> Activity {
    match (link, said, heard) {
        (Link::Down, _, Heard::Yes | Heard::No) => Activity::Stopped,
        (Link::Up, Some(Said::Stopped), Heard::Yes | Heard::No) => Activity::Stopped,
        (Link::Up, Some(Said::Running), Heard::Yes | Heard::No) => Activity::Running,
        (Link::Up, None, Heard::Yes) => Activity::Running,
        (Link::Up, None, Heard::No) => Activity::Unknown,
    }
}
