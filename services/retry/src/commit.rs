// SPDX-License-Identifier: Apache-2.0
//! When something became so: a commit of one of the publisher's ledgers.

use dvs_schemas::{Revision, StoreId};

/// A commit. Ordered as they came about: any of a later ledger comes after all
/// of an earlier one, whose numbers may be higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// The ledger.
    pub store: StoreId,
    /// The commit's number there.
    pub revision: Revision,
}
