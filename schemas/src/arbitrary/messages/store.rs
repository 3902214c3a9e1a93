// SPDX-License-Identifier: Apache-2.0
//! Which ledger numbers revisions.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::config::push_summary;
use super::{few, v1};
use crate::arbitrary::{deadline, name, record, revision, store, uuid};
use crate::v1::{
    ContinueReply, ContinueRequest, Diverged, DivergedHost, Divergence, Lineage, Position, Run,
    Wait,
};

record!(
    /// Any run of a publisher.
    run: Run {
        id: uuid(),
        since: revision(),
    }
);
record!(
    /// Any lineage.
    lineage: Lineage {
        runs: few(run()),
        continues: few(store()),
    }
);
record!(
    /// Any position.
    position: Position {
        store: store(),
        run: option::of(uuid()),
        revision: revision(),
    }
);
record!(
    /// Any other history.
    diverged: Diverged {
        position: position(),
        why: select(vec![
            Divergence::Ahead,
            Divergence::OtherCommits,
            Divergence::LaterStore,
            Divergence::EarlierStore,
        ]),
    }
);
record!(
    /// Any host that follows it.
    diverged_host: DivergedHost {
        host: name(),
        diverged: diverged(),
    }
);
record!(
    /// Any word of an operator.
    continue_request: ContinueRequest {
        dry_run: any::<bool>(),
        wait: option::of(select(vec![Wait::Committed, Wait::Applied])),
        timeout: option::of(deadline()),
    }
);
record!(
    /// Any reply to it.
    continue_reply: ContinueReply {
        v: v1(),
        dry_run: any::<bool>(),
        store: option::of(store()),
        revision: revision(),
        continues: few(store()),
        hosts: any::<u64>(),
        objects: any::<u64>(),
        nowhere: any::<u64>(),
        diverged: any::<u64>(),
        examples: few(diverged_host()),
        applied: option::of(push_summary()),
    }
);
