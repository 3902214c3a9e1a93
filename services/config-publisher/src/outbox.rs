// SPDX-License-Identifier: Apache-2.0
//! Records whose pushes have not begun, as hosts are still busy with others.
//! What nobody waits for is merged, so that changes which come faster than
//! hosts answer cost room by object, and not by change.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{PushId, Record};

/// Records that are pushed as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Names the push: its oldest record.
    pub push: PushId,
    /// All of its records.
    pub records: BTreeSet<PushId>,
    /// What they owe together.
    pub owed: Record,
}

/// Records whose pushes have not begun.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Records whose askers wait. Each is pushed by itself: its asker is to
    /// hear of its own hosts, and of no others.
    alone: BTreeMap<PushId, Record>,
    /// All others.
    together: Option<Parcel>,
}

impl Outbox {
    /// Records of before the start; whoever waited for them is gone.
    #[must_use]
    pub fn load(records: BTreeMap<PushId, Record>) -> Self {
        let mut outbox = Self::default();
        for (id, record) in records {
            outbox.put(id, record);
        }
        outbox
    }

    /// Adds a record that nobody waits for.
    pub fn put(&mut self, id: PushId, record: Record) {
        match &mut self.together {
            None => self.together = Some(Parcel::of(id, record)),
            Some(parcel) => {
                parcel.push = parcel.push.min(id);
                parcel.records.insert(id);
                parcel.owed.join(record);
            }
        }
    }

    /// Adds a record whose asker waits.
    pub fn put_alone(&mut self, id: PushId, record: Record) {
        self.alone.insert(id, record);
    }

    /// Notes that a record's asker waits no more.
    pub fn join(&mut self, id: PushId) {
        if let Some(record) = self.alone.remove(&id) {
            self.put(id, record);
        }
    }

    /// A record whose asker waits.
    #[must_use]
    pub fn alone(&self, id: PushId) -> Option<&Record> {
        self.alone.get(&id)
    }

    /// Whether a record is in here.
    #[must_use]
    pub fn holds(&self, id: PushId) -> bool {
        let together = self.together.as_ref();
        self.alone.contains_key(&id) || together.is_some_and(|parcel| parcel.records.contains(&id))
    }

    /// Takes out what has waited longest.
    pub fn take(&mut self) -> Option<Parcel> {
        let alone = self.alone.first_key_value().map(|(id, _)| *id);
        let together = self.together.as_ref().map(|parcel| parcel.push);
        match (alone, together) {
            (Some(alone), Some(together)) if together < alone => self.together.take(),
            (Some(_), _) => {
                let (id, record) = self.alone.pop_first()?;
                Some(Parcel::of(id, record))
            }
            (None, _) => self.together.take(),
        }
    }
}

impl Parcel {
    fn of(id: PushId, record: Record) -> Self {
        Self {
            push: id,
            records: BTreeSet::from([id]),
            owed: record,
        }
    }
}
