// SPDX-License-Identifier: Apache-2.0
//! Hosts that come back: their heartbeats begin again after a silence, and
//! what they missed is tried at once.

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_schemas::{HostName, Timestamp};

/// So many heartbeats may fail to come before a host counts as silent, as for
/// the publisher.
const MISSED: u32 = 3;

/// When the hosts that have entries were heard last. Others are not kept, so
/// these are as many as the entries allow.
#[derive(Debug, Default)]
pub(crate) struct Hearing(BTreeMap<HostName, Heard>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Timestamp,
    interval: Duration,
}

impl Hearing {
    /// A host that has entries lives, and says so again after `interval`. True
    /// if it was silent before, or not heard since its first entry came.
    pub(crate) fn heard(&mut self, now: Timestamp, host: &HostName, interval: Duration) -> bool {
        let heard = Heard { at: now, interval };
        let before = self.0.insert(host.clone(), heard);
        before.is_none_or(|Heard { at, interval }| now > at.after(interval.saturating_mul(MISSED)))
    }

    /// The host has no entries.
    pub(crate) fn forget(&mut self, host: &HostName) {
        self.0.remove(host);
    }
}
