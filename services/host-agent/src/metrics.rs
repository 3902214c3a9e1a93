// SPDX-License-Identifier: Apache-2.0
//! What the agent does, as numbers.

use dvs_daemon::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::datapath::{Applied, Extent, NotApplied};

type Outcome = [(&'static str, &'static str); 1];

/// Counts of all hosts of the process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    writes: Counter,
    applies: Family<Outcome, Counter>,
    dropped: Counter,
}

impl Counts {
    /// Counts that the metrics show.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Self::default();
        let Self {
            writes,
            applies,
            dropped,
        } = counts.clone();
        metrics.register(|registry| {
            registry.register(
                "dvs_datapath_writes",
                "Steps that were written to datapaths",
                writes,
            );
            registry.register("dvs_applies", "Deltas given to datapaths", applies);
            registry.register(
                "dvs_dropped_answers",
                "Answers and heartbeats that the connection did not take",
                dropped,
            );
        });
        counts
    }

    pub(crate) fn applied(&self, applied: &Applied) {
        let name = match &applied.steps {
            Err(NotApplied::Unguarded(_)) => "held_back",
            Err(NotApplied::Unknown(_)) => "unreachable",
            Ok(steps) => {
                let written = steps.iter().filter(|result| match result {
                    Ok(done) => done.extent == Extent::Written,
                    Err(_) => false,
                });
                let written = u64::try_from(written.count()).unwrap_or(u64::MAX);
                self.writes.inc_by(written);
                if steps.iter().all(Result::is_ok) {
                    "applied"
                } else {
                    "failed"
                }
            }
        };
        self.applies.get_or_create(&[("outcome", name)]).inc();
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }
}
