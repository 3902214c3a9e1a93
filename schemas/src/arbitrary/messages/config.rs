// SPDX-License-Identifier: Apache-2.0
//! Configuration requests and their replies.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::agent::{change, clobber, remove};
use super::{cursor, few, v1, words};
use crate::arbitrary::{deadline, document, epoch, name, record, revision, session, vnic};
use crate::documents::Kind;
use crate::v1::{
    ApplyReply, ApplyRequest, ChangedObject, DeleteRequest, DisconnectReply, DisconnectRequest,
    DryRunReply, GetReply, GetRequest, HostOutcome, HostPlan, HostVerdict, Item, ObjectRef,
    Operation, Options, PushSummary, RenderReply, RenderRequest, ResyncReply, ResyncRequest, Wait,
};

record!(
    /// Any options of a configuration request.
    options: Options {
        wait: option::of(select(vec![Wait::Committed, Wait::Applied])),
        timeout: option::of(deadline()),
        dry_run: any::<bool>(),
        if_revision: option::of(revision()),
    }
);
record!(
    /// Any apply request.
    apply_request: ApplyRequest {
        documents: vec(document(), 1..4),
        options: options(),
    }
);
record!(
    /// Any name of an object.
    object_ref: ObjectRef {
        kind: select(Kind::ALL.to_vec()),
        name: "[a-z]{1,8}",
        switch: option::of(name()),
    }
);
record!(
    /// Any delete request.
    delete_request: DeleteRequest {
        objects: vec(object_ref(), 1..4),
        options: options(),
    }
);
record!(
    /// An object that a commit changed.
    changed_object: ChangedObject {
        object: object_ref(),
        operation: select(vec![Operation::Created, Operation::Updated, Operation::Deleted]),
        fields: few(words()),
    }
);
record!(
    /// How a push to a host went.
    host_outcome: HostOutcome {
        host: name(),
        outcome: select(vec![
            HostVerdict::Failed,
            HostVerdict::TimedOut,
            HostVerdict::NoResponder,
            HostVerdict::Pending,
            HostVerdict::Applied,
        ]),
        why: option::of(words()),
    }
);
record!(
    /// How a push went.
    push_summary: PushSummary {
        hosts: any::<u64>(),
        applied: any::<u64>(),
        outcomes: few(host_outcome()),
    }
);
record!(
    /// Any reply to an apply or delete request.
    apply_reply: ApplyReply {
        v: v1(),
        revision: revision(),
        changed: few(changed_object()),
        left_out: 0..3_u64,
        applied: option::of(push_summary()),
        warnings: few(words()),
    }
);
record!(
    /// What a host would do.
    host_plan: HostPlan {
        host: name(),
        switch: name(),
        changes: few(change()),
        error: option::of(words()),
    }
);
record!(
    /// Any reply to a dry run.
    dry_run_reply: DryRunReply {
        v: v1(),
        dry_run: Just(true),
        revision: revision(),
        changed: few(changed_object()),
        hosts: any::<u64>(),
        unchanged: any::<u64>(),
        plans: few(host_plan()),
        left_out: 0..3_u64,
        warnings: few(words()),
    }
);
record!(
    /// Any question for objects.
    get_request: GetRequest {
        kind: option::of(select(Kind::ALL.to_vec())),
        name: option::of(words()),
        switch: option::of(name()),
        group: option::of(name()),
        host: option::of(name()),
        after: cursor(),
    }
);
record!(
    /// An object in the store.
    item: Item {
        revision: revision(),
        epoch: option::of(epoch()),
        document: document(),
    }
);
record!(
    /// Any page of objects.
    get_reply: GetReply {
        v: v1(),
        revision: revision(),
        items: few(item()),
        next: cursor(),
    }
);

/// Any question of retry's.
pub fn render_request() -> impl Strategy<Value = RenderRequest> {
    prop_oneof![
        (name(), name()).prop_map(|(host, switch)| RenderRequest::State { host, switch }),
        (name(), name(), name(), revision()).prop_map(|(host, switch, port, revision)| {
            RenderRequest::Removal {
                host,
                switch,
                port,
                revision,
            }
        }),
    ]
}

/// Any answer to retry.
pub fn render_reply() -> impl Strategy<Value = RenderReply> {
    prop_oneof![
        (session(), clobber().boxed()).prop_map(|(session, clobber)| RenderReply::Clobber {
            session,
            clobber: Box::new(clobber),
        }),
        (session(), remove().boxed())
            .prop_map(|(session, remove)| RenderReply::Remove { session, remove }),
        Just(RenderReply::Cancelled {}),
    ]
}

record!(
    /// Any wish for a resync.
    resync_request: ResyncRequest {
        host: option::of(name()),
        switch: option::of(name()),
        wait: option::of(select(vec![Wait::Committed, Wait::Applied])),
        timeout: option::of(deadline()),
    }
);
record!(
    /// Any reply to a resync.
    resync_reply: ResyncReply {
        v: v1(),
        revision: revision(),
        hosts: any::<u64>(),
        applied: option::of(push_summary()),
    }
);
record!(
    /// Any disconnect.
    disconnect_request: DisconnectRequest {
        port: name(),
        vnic: option::of(vnic()),
    }
);
record!(
    /// Any reply to a disconnect.
    disconnect_reply: DisconnectReply {
        v: v1(),
        revision: revision(),
        vnic: option::of(vnic()),
    }
);
