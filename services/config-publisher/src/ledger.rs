// SPDX-License-Identifier: Apache-2.0
//! The tables of the publisher's ledger, their keys and values.
//!
//! Names have neither `/` nor any other separator in them, so the keys below
//! are unique and can be taken apart.

use dvs_ledger::{LedgerSpec, Table, Writes};
use dvs_schemas::v1::Versioned;
use dvs_schemas::{Epoch, ObjectKey, PortDoc, Revision};
use serde::{Deserialize, Serialize};

use crate::changes::Object;
use crate::record::PushId;

/// `Versioned<SwitchDoc>` by switch.
pub const SWITCHES: Table = Table("switches");
/// `Versioned<PortGroupDoc>` by `switch/group`.
pub const GROUPS: Table = Table("groups");
/// [`PortEntry`] by port.
pub const PORTS: Table = Table("ports");
/// `Versioned<MirrorSessionDoc>` by `switch/session`.
pub const MIRRORS: Table = Table("mirrors");
/// `Revision` by `switch` (the newest commit that concerned all its hosts) and
/// by `switch/host` (the newest that concerned this host's ports there).
pub const WANTED: Table = Table("wanted");
/// [`crate::fleet::HostEntry`] by host that ever said hello.
pub const HOSTS: Table = Table("hosts");
/// [`crate::record::Record`] by push, big-endian, so that loading keeps their
/// order.
pub const PENDING: Table = Table("pending");
/// The newest `Revision` under the empty key, and the newest that deleted
/// something under [`DELETED`].
pub const REVISION: Table = Table("revision");
/// [`crate::history::StoreEntry`] under the empty key, from the first commit on.
pub const STORE: Table = Table("store");
/// See [`REVISION`].
pub const DELETED: &str = "deleted";

/// The publisher's ledger.
pub const SPEC: LedgerSpec = LedgerSpec {
    service: "config-publisher",
    version: 1,
    tables: &[
        SWITCHES, GROUPS, PORTS, MIRRORS, WANTED, HOSTS, PENDING, REVISION, STORE,
    ],
};

/// A port as it is stored: the present host and vNIC are in the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEntry {
    /// The commit that last changed it.
    pub revision: Revision,
    /// The fence of its placement.
    pub epoch: Epoch,
    /// The port.
    pub document: PortDoc,
}

/// The key of something that is unique within something else.
pub fn within(outer: &impl AsRef<str>, inner: &impl AsRef<str>) -> String {
    format!("{}/{}", outer.as_ref(), inner.as_ref())
}

/// The key of a pending record.
pub fn pending(push: PushId) -> [u8; 8] {
    push.0.to_be_bytes()
}

/// Sets an object as of a revision.
pub(crate) fn put(writes: &mut Writes, revision: Revision, object: &Object) {
    match object {
        Object::Switch(value) => {
            writes.put(
                SWITCHES,
                value.name.as_str(),
                &Versioned { revision, value },
            );
        }
        Object::PortGroup(value) => {
            let key = within(&value.switch, &value.name);
            writes.put(GROUPS, key, &Versioned { revision, value });
        }
        Object::MirrorSession(value) => {
            let key = within(&value.switch, &value.name);
            writes.put(MIRRORS, key, &Versioned { revision, value });
        }
        Object::Port(port) => {
            let entry = PortEntry {
                revision,
                epoch: port.epoch,
                document: port.document.clone(),
            };
            writes.put(PORTS, entry.document.name.as_str(), &entry);
        }
    }
}

/// Deletes an object.
pub(crate) fn delete(writes: &mut Writes, key: &ObjectKey) {
    match key {
        ObjectKey::Switch(name) => writes.delete(SWITCHES, name.as_str()),
        ObjectKey::PortGroup(switch, name) => writes.delete(GROUPS, within(switch, name)),
        ObjectKey::Port(id) => writes.delete(PORTS, id.as_str()),
        ObjectKey::MirrorSession(switch, name) => writes.delete(MIRRORS, within(switch, name)),
    }
}
