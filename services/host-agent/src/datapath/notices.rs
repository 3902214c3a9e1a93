// SPDX-License-Identifier: Apache-2.0
//! What a datapath has to tell, until somebody listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dvs_schemas::v1::ConditionKind;
use tokio::sync::Notify;

use super::{ConditionsNow, Notice};

/// Notices that wait. At most one of each kind and port does, so they are as
/// many as there are ports, whoever sleeps.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Notice>,
    /// The conditions of each kind as they were told last.
    conditions: BTreeMap<ConditionKind, ConditionsNow>,
}

impl Queue {
    fn push(&mut self, notice: Notice) {
        self.waiting.retain(|older| !notice.replaces(older));
        self.waiting.push_back(notice);
    }
}

impl Notices {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of the queue is whole, so a panic elsewhere while it
        // was locked left it whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a notice in place of an older one of the same kind and port.
    pub(super) fn tell(&self, notice: Notice) {
        self.queue().push(notice);
        self.bell.notify_one();
    }

    /// Tells all conditions of a kind as they are now, unless they are as they
    /// were.
    pub(super) fn conditions(&self, kind: ConditionKind, now: ConditionsNow) {
        let mut queue = self.queue();
        let before = queue.conditions.entry(kind).or_default();
        if *before == now {
            return;
        }
        before.clone_from(&now);
        queue.push(Notice::Conditions { kind, now });
        drop(queue);
        self.bell.notify_one();
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&self) -> Notice {
        loop {
            if let Some(notice) = self.queue().waiting.pop_front() {
                return notice;
            }
            // A bell rung meanwhile is kept, so none is missed.
            self.bell.notified().await;
        }
    }
}
