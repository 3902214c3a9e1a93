// SPDX-License-Identifier: Apache-2.0
//! Why a host doesn't take a message.

use dvs_schemas::{Revision, StoreId, SwitchName};

/// Why a message is not admitted; the state held is what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender's ledger is not the one that is followed, and no operator
    /// said that it replaces that one.
    #[error(
        "switch {switch}: the message is of store {store}, and this host follows store {held}; \
         dvsctl store continue makes the configuration of the publisher that runs hold here"
    )]
    OtherStore {
        /// The switch.
        switch: SwitchName,
        /// The message's store.
        store: StoreId,
        /// The store that is followed.
        held: StoreId,
    },
    /// The sender's ledger replaces the one that is followed, whose revisions
    /// can't be compared with those of the message.
    #[error(
        "switch {switch}: store {store} replaces store {held}, which this host still follows; \
         full state needed"
    )]
    ReplacingStore {
        /// The switch.
        switch: SwitchName,
        /// The message's store.
        store: StoreId,
        /// The store that is followed.
        held: StoreId,
    },
    /// The sender's ledger fell back and went on with other commits.
    #[error(
        "switch {switch}: this host holds revision {held}, which is another commit in the \
         publisher's ledger; was that restored from a backup? dvsctl store continue makes its \
         configuration hold here"
    )]
    OtherCommits {
        /// The switch.
        switch: SwitchName,
        /// The newest revision held.
        held: Revision,
    },
    /// What is sent to all hosts of a switch came to one that holds nothing of
    /// it: the word that it is no part of the switch overtook the message, or
    /// the first full state is still on its way.
    #[error(
        "switch {switch}: this host has no settings of the switch that a change could build on, \
         full state needed"
    )]
    NotAMember {
        /// The switch.
        switch: SwitchName,
    },
    /// Two contents claim the same commit.
    #[error(
        "switch {switch}: {object} differs from what this host holds of the same revision \
         {revision}; was the publisher's ledger restored from a backup? dvsctl store continue \
         numbers all of it anew"
    )]
    Conflict {
        /// The switch.
        switch: SwitchName,
        /// `settings`, or the object.
        object: String,
        /// The revision that both carry.
        revision: Revision,
    },
}
