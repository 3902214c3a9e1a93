// SPDX-License-Identifier: Apache-2.0
//! Replies that are held until hosts have answered or the asker's bound is
//! over, and the sizes of replies.

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::Timestamp;
use dvs_schemas::v1::{ApplyReply, ChangedObject, ContinueReply, PushSummary, ResyncReply, V1};
use dvs_schemas::{Problem, ProblemCode, Revision};

use crate::changes::{Change, ChangeSet};
use crate::dryrun::DryRun;
use crate::events::{Reply, ReplyToken};
use crate::query::Page;
use crate::record::PushId;

/// Replies that may be held at once. Each is a request that somebody waits
/// for; a thousand operators' tools fit, and memory stays bounded.
const HELD: usize = 1_024;

/// What is held.
#[derive(Debug, Clone)]
pub enum Held {
    /// To an apply or delete: how the push went is still missing.
    Apply(ApplyReply),
    /// To a resync: likewise.
    Resync(ResyncReply),
    /// To a word to go on: likewise.
    Continue(ContinueReply),
    /// To a dry run.
    DryRun(DryRun),
}

/// Who waits, and until when.
#[derive(Debug, Clone)]
struct Waiting {
    to: ReplyToken,
    until: Timestamp,
    held: Held,
}

/// All held replies, by the push that they wait for.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    waiting: BTreeMap<PushId, Waiting>,
    bounds: BTreeSet<(Timestamp, PushId)>,
}

impl Waits {
    /// Whether one more reply may be held.
    ///
    /// # Errors
    /// There are too many already.
    pub fn room(&self) -> Result<(), Problem> {
        if self.waiting.len() < HELD {
            return Ok(());
        }
        Err(Problem::new(
            ProblemCode::Unavailable,
            format!("{HELD} requests wait for hosts already"),
        )
        .allow("the same request without wait or dry_run, or a little later"))
    }

    /// Holds a reply.
    pub fn hold(&mut self, push: PushId, to: ReplyToken, until: Timestamp, held: Held) {
        self.bounds.insert((until, push));
        self.waiting.insert(push, Waiting { to, until, held });
    }

    /// The dry run that a push belongs to.
    pub fn dry_run(&mut self, push: PushId) -> Option<&mut DryRun> {
        match &mut self.waiting.get_mut(&push)?.held {
            Held::DryRun(run) => Some(run),
            Held::Apply(_) | Held::Resync(_) | Held::Continue(_) => None,
        }
    }

    /// Lets a reply go.
    pub fn release(&mut self, push: PushId) -> Option<(ReplyToken, Held)> {
        let Waiting { to, until, held } = self.waiting.remove(&push)?;
        self.bounds.remove(&(until, push));
        Some((to, held))
    }

    /// When the next bound is over.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.bounds.first().map(|(until, _)| *until)
    }

    /// A push whose waiter's bound is over.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<PushId> {
        let (until, push) = self.bounds.first()?;
        (*until <= now).then_some(*push)
    }
}

impl Held {
    /// The reply, with how the push went.
    #[must_use]
    pub fn finish(self, summary: impl FnOnce() -> PushSummary, room: usize) -> Reply {
        // The other half is for what changed.
        let summary = || fitting(summary(), room / 2);
        match self {
            Self::Apply(reply) => Reply::Applied(ApplyReply {
                applied: Some(summary()),
                ..reply
            }),
            Self::Resync(reply) => Reply::Resynced(ResyncReply {
                applied: Some(summary()),
                ..reply
            }),
            Self::Continue(reply) => Reply::Continued(ContinueReply {
                applied: Some(summary()),
                ..reply
            }),
            Self::DryRun(run) => Reply::DryRun(run.finish(room)),
        }
    }
}

/// As many hosts' outcomes as fit, from those that lag on; how many hosts there
/// are is said besides.
fn fitting(mut summary: PushSummary, room: usize) -> PushSummary {
    let mut page = Page::new(room);
    let fitting = summary.outcomes.iter();
    let fitting = fitting.take_while(|outcome| page.takes(outcome)).count();
    summary.outcomes.truncate(fitting);
    summary
}

/// What changed, as far as it fits, and how much did not.
#[must_use]
pub fn told(changes: &ChangeSet, room: usize) -> (Vec<ChangedObject>, u64) {
    let mut page = Page::new(room);
    let all = changes.0.len();
    let fitting: Vec<_> = changes
        .0
        .iter()
        .map(Change::told)
        .take_while(|object| page.takes(object))
        .collect();
    let left_out = (all - fitting.len()) as u64;
    (fitting, left_out)
}

/// The reply to a change that is durable.
#[must_use]
pub fn applied(revision: Revision, changes: &ChangeSet, room: usize) -> ApplyReply {
    let (changed, left_out) = told(changes, room);
    ApplyReply {
        v: V1,
        revision,
        changed,
        left_out,
        applied: None,
        warnings: Vec::new(),
    }
}

/// How a push went that had nobody to go to.
#[must_use]
pub fn nobody() -> PushSummary {
    PushSummary {
        hosts: 0,
        applied: 0,
        outcomes: Vec::new(),
    }
}
