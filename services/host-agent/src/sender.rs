// SPDX-License-Identifier: Apache-2.0
//! Whose messages a host takes: those of the ledger that it follows, and of
//! one that replaces it by an operator's word. Which of two publishers is right
//! a host can't know, so it goes over to another by nothing less.

use dvs_schemas::v1::{Divergence, Lineage, Relation};
use dvs_schemas::{Revision, StoreId, SwitchName};

use crate::held::HeldSwitch;
use crate::refusal::Refusal;

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A publisher's of the ledger that is followed.
    Followed,
    /// A publisher's whose ledger replaces the one that is followed.
    Replacing,
}

/// Whose message about a switch it is, of commit `revision` of the ledger
/// `store`.
///
/// # Errors
/// [`Refusal`]: it is of another history than the one that is followed.
pub fn sender(
    held: &HeldSwitch,
    switch: &SwitchName,
    store: StoreId,
    lineage: &Lineage,
    revision: Revision,
) -> Result<Sender, Refusal> {
    let position = held.position();
    match lineage.relation(store, None, &position) {
        Relation::Same => Ok(Sender::Followed),
        Relation::Replaced => Ok(Sender::Replacing),
        Relation::Diverged(Divergence::LaterStore | Divergence::EarlierStore) => {
            Err(Refusal::OtherStore {
                switch: switch.clone(),
                store,
                held: held.store,
            })
        }
        // A message of before the run that is followed can't name it.
        Relation::Diverged(Divergence::Ahead | Divergence::OtherCommits)
            if held.run.is_some_and(|run| revision < run.since) =>
        {
            Ok(Sender::Followed)
        }
        Relation::Diverged(Divergence::Ahead | Divergence::OtherCommits) => {
            Err(Refusal::OtherCommits {
                switch: switch.clone(),
                held: position.revision,
            })
        }
    }
}

/// Whether a host that follows other stores may take part in a switch of
/// `store` that it knows nothing of: it follows one publisher, not one per
/// switch.
///
/// # Errors
/// [`Refusal`]: it follows another.
pub fn newcomer(
    followed: impl IntoIterator<Item = StoreId>,
    switch: &SwitchName,
    store: StoreId,
    lineage: &Lineage,
) -> Result<(), Refusal> {
    let other = |held: &StoreId| *held != store && !lineage.continues.contains(held);
    match followed.into_iter().find(other) {
        None => Ok(()),
        Some(held) => Err(Refusal::OtherStore {
            switch: switch.clone(),
            store,
            held,
        }),
    }
}

/// Takes note of the run that numbered a message, unless a later one is known.
pub fn follow(held: &mut HeldSwitch, lineage: &Lineage, revision: Revision) {
    let run = lineage.runs.iter().find(|run| run.since <= revision);
    if let Some(run) = run
        && held.run.is_none_or(|known| known.since < run.since)
    {
        held.run = Some(*run);
    }
}
