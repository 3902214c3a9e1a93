// SPDX-License-Identifier: Apache-2.0
//! The tables: one entry per key, and never a payload, so that old
//! configuration can't come back.

use dvs_ledger::{Ledger, LedgerSpec, LoadError, Table};
use dvs_schemas::{Revision, StoreId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::key::Key;

/// Hosts that are out of sync.
pub(crate) const REPUSH: Table = Table("repush");
/// Virtual ports that are to go.
pub(crate) const RIP: Table = Table("rip");

/// The ledger of this service.
pub const SPEC: LedgerSpec = LedgerSpec {
    service: "retry",
    version: 1,
    tables: &[REPUSH, RIP],
};

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored<K> {
    pub(crate) key: K,
    /// Whose revision it is; entries kept by versions that did not say so are
    /// of the earliest.
    #[serde(default)]
    pub(crate) store: StoreId,
    pub(crate) revision: Revision,
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) last_error: String,
    #[serde(default)]
    pub(crate) not_tried: Option<String>,
    pub(crate) plan: Plan,
}

/// Whether it is tried. That it is being tried right now is not kept: a start
/// repeats what a crash cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    TryAt(Timestamp),
    Parked,
}

/// Every entry of a queue.
pub(crate) fn load<K: Key>(ledger: &Ledger) -> Result<Vec<Stored<K>>, LoadError> {
    let entries = ledger.load::<Stored<K>>(K::TABLE)?;
    Ok(entries.into_iter().map(|(_, stored)| stored).collect())
}
