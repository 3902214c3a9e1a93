// SPDX-License-Identifier: Apache-2.0
//! What happened on a connection, as numbers: the client's events are too many
//! to log one by one (a slow consumer raises one per lost message), and its
//! event queue drops them under load, so they are counted and never relied on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one connection; all only ever rise.
#[derive(Debug, Default)]
pub struct BusCounters {
    connects: AtomicU64,
    slow_consumers: AtomicU64,
    errors: AtomicU64,
    ignored_replies: AtomicU64,
}

impl BusCounters {
    /// Connections made after the first one.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Messages lost because a subscription's queue was full, as far as the
    /// client told.
    #[must_use]
    pub fn slow_consumers(&self) -> u64 {
        self.slow_consumers.load(Ordering::Relaxed)
    }

    /// Errors that the client or the server reported: failed connection
    /// attempts, violated permissions.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Replies to pushes that came late, twice, or from a host that wasn't asked.
    #[must_use]
    pub fn ignored_replies(&self) -> u64 {
        self.ignored_replies.load(Ordering::Relaxed)
    }

    pub(crate) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn slow_consumer(&self) {
        self.slow_consumers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ignored(&self, replies: u64) {
        self.ignored_replies.fetch_add(replies, Ordering::Relaxed);
    }
}
