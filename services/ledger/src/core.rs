// SPDX-License-Identifier: Apache-2.0
//! What a service's deciding code looks like: events and the time in, ledger
//! writes and effects out, both as values.

use dvs_schemas::Timestamp;
use serde::Serialize;

/// The deciding code of a service. It awaits nothing, reads no clock, opens no
/// socket; so the same code runs under a simulator.
///
/// The state in memory runs ahead of the ledger for the length of a turn. If
/// the commit fails, the state is worthless: the process ends and starts again
/// from the ledger.
pub trait Core {
    /// What happens to it.
    type Event;
    /// What it wants done, after the commit.
    type Effect;

    /// Decides on one event.
    fn handle(&mut self, now: Timestamp, event: Self::Event, out: &mut Decision<Self::Effect>);

    /// When [`Core::wake`] is wanted next, if ever.
    fn due(&self) -> Option<Timestamp>;

    /// Does what is due by now.
    fn wake(&mut self, now: Timestamp, out: &mut Decision<Self::Effect>);
}

/// A table of the ledger: keys and values are bytes, the values MessagePack
/// with named fields. A name once used is never used for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// One change to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Which entry.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the entry.
    pub value: Option<Vec<u8>>,
}

/// Changes to the ledger in order.
#[derive(Debug, Default)]
pub struct Writes {
    pub(crate) list: Vec<Write>,
    pub(crate) broken: Option<rmp_serde::encode::Error>,
}

impl Writes {
    /// Sets an entry. A value that can't be written makes the commit fail.
    pub fn put<V: Serialize>(&mut self, table: Table, key: impl Into<Vec<u8>>, value: &V) {
        match rmp_serde::to_vec_named(value) {
            Ok(bytes) => self.list.push(Write {
                table,
                key: key.into(),
                value: Some(bytes),
            }),
            Err(error) => self.broken = Some(error),
        }
    }

    /// Deletes an entry; nothing happens if it is not there.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.list.push(Write {
            table,
            key: key.into(),
            value: None,
        });
    }

    /// True if there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.broken.is_none()
    }

    /// The changes so far.
    #[must_use]
    pub fn list(&self) -> &[Write] {
        &self.list
    }
}

/// What a core decided: one list of writes and one of effects, over all events
/// of a turn.
#[derive(Debug)]
pub struct Decision<E> {
    /// To be committed.
    pub writes: Writes,
    /// To be done after the commit, in this order.
    pub effects: Vec<E>,
}

impl<E> Default for Decision<E> {
    fn default() -> Self {
        Self {
            writes: Writes::default(),
            effects: Vec::new(),
        }
    }
}

impl<E> Decision<E> {
    /// Adds an effect.
    pub fn effect(&mut self, effect: E) {
        self.effects.push(effect);
    }
}
