// SPDX-License-Identifier: Apache-2.0
//! What a datapath has to tell, until somebody listens.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Notice;

/// Notices that wait. At most one of each kind and port does, so they are as
/// many as there are ports, whoever sleeps.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: Mutex<VecDeque<Notice>>,
    bell: Notify,
}

impl Notices {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        // Every change of the queue is whole, so a panic elsewhere while it
        // was locked left it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a notice in place of an older one of the same kind and port.
    pub(super) fn tell(&self, notice: Notice) {
        let mut waiting = self.waiting();
        waiting.retain(|older| !notice.replaces(older));
        waiting.push_back(notice);
        drop(waiting);
        self.bell.notify_one();
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&self) -> Notice {
        loop {
            if let Some(notice) = self.waiting().pop_front() {
                return notice;
            }
            // A bell rung meanwhile is kept, so none is missed.
            self.bell.notified().await;
        }
    }
}
