// SPDX-License-Identifier: Apache-2.0
//! The time that cores are given: the wall clock's at the start, then only
//! forward, so that a stepped clock neither fires every timer nor stops them.

use std::time::{Instant, SystemTime};

use dvs_schemas::Timestamp;

/// A clock that never runs back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Timestamp,
    origin: Instant,
}

impl Clock {
    /// Starts at the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: Timestamp::from(SystemTime::now()),
            origin: Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.began.after(self.origin.elapsed())
    }

    /// The moment at which this clock shows `time`; now, if that is over.
    #[must_use]
    pub fn instant_of(&self, time: Timestamp) -> Instant {
        self.origin + time.since(self.began)
    }
}
