// SPDX-License-Identifier: Apache-2.0
//! How much of a host's runtime state goes into one message. Ports differ by
//! orders of magnitude (a trunk can have two thousand ranges), so messages are
//! filled by bytes.

use dvs_schemas::{Format, codec};
use serde::Serialize;

/// Bytes of state in one message: some 150 ports with their counters, a
/// sixteenth of nats-server's default `max_payload`, so that operators may
/// lower that, and hundreds of messages may wait at a collector.
pub(super) const ROOM: usize = 64 * 1024;

/// The room that a message has left.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    empty: bool,
}

impl Room {
    /// The room of an empty message.
    pub(super) fn new() -> Self {
        Self {
            left: ROOM,
            empty: true,
        }
    }

    /// Takes something in, if it fits. The first thing always does: it goes
    /// alone then, and one port's state is no larger than the configuration
    /// that it comes from, which came in one message too.
    pub(super) fn take(&mut self, state: &impl Serialize) -> bool {
        // JSON is never the shorter format. What can't be encoded here can't
        // be in the message either, and fails there.
        let size = codec::encode(Format::Json, state).map_or(0, |bytes| bytes.len() + 1);
        let fits = self.empty || size <= self.left;
        if fits {
            self.empty = false;
            self.left = self.left.saturating_sub(size);
        }
        fits
    }
}
