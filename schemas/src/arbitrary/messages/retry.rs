// SPDX-License-Identifier: Apache-2.0
//! What goes into the queues and how they are shown.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{cursor, few, v1, words};
use crate::arbitrary::{name, record, revision, store, timestamp};
use crate::v1::{
    Attempt, EntrySelection, EntryState, Forgotten, PutReply, Queue, RepushEntry, RepushKey,
    RetryListReply, RetryListRequest, RetryPut, RipEntry, RipKey, SelectionReply, Settlement,
};

record!(
    /// A re-push entry's key.
    repush_key: RepushKey {
        host: name(),
        switch: name(),
    }
);
record!(
    /// A rip entry's key.
    rip_key: RipKey {
        host: name(),
        switch: name(),
        port: name(),
    }
);

fn attempt<S: Strategy>(key: S) -> impl Strategy<Value = Attempt<S::Value>> {
    (key, revision(), words()).prop_map(|(key, revision, error)| Attempt {
        key,
        revision,
        error,
    })
}

record!(
    /// A full state that a host has applied.
    settlement: Settlement {
        host: name(),
        switch: name(),
        revision: revision(),
    }
);
record!(
    /// A host that is forgotten.
    forgotten: Forgotten {
        host: name(),
        revision: revision(),
    }
);
record!(
    /// Any hand-over to retry.
    retry_put: RetryPut {
        v: v1(),
        store: store(),
        repush: few(attempt(repush_key())),
        rip: few(attempt(rip_key())),
        settled: few(settlement()),
        forgotten: few(forgotten()),
    }
);
record!(
    /// Any acknowledgement of retry's.
    put_reply: PutReply {
        v: v1(),
        entries: any::<u64>(),
    }
);

fn queue() -> impl Strategy<Value = Queue> {
    select(vec![Queue::Repush, Queue::Rip])
}

record!(
    /// Any question for entries.
    retry_list_request: RetryListRequest {
        queue: option::of(queue()),
        host: option::of(name()),
        switch: option::of(name()),
        after: cursor(),
    }
);
record!(
    /// How an entry may stand.
    entry_state: EntryState {
        revision: revision(),
        since: timestamp(),
        attempts: any::<u32>(),
        last_error: words(),
        not_tried: option::of(words()),
        next_try: option::of(timestamp()),
    }
);
record!(
    /// A host out of sync.
    repush_entry: RepushEntry {
        key: repush_key(),
        state: entry_state(),
    }
);
record!(
    /// A virtual port that is to go.
    rip_entry: RipEntry {
        key: rip_key(),
        state: entry_state(),
    }
);
record!(
    /// Any page of entries.
    retry_list_reply: RetryListReply {
        v: v1(),
        now: timestamp(),
        repush_total: any::<u64>(),
        rip_total: any::<u64>(),
        out_of_sync: few(repush_entry()),
        rip: few(rip_entry()),
        next: cursor(),
    }
);
record!(
    /// Any selection of entries.
    entry_selection: EntrySelection {
        queue: option::of(queue()),
        host: option::of(name()),
        switch: option::of(name()),
        port: option::of(name()),
    }
);
record!(
    /// Any reply to a selection.
    selection_reply: SelectionReply {
        v: v1(),
        entries: any::<u64>(),
    }
);
