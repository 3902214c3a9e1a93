// SPDX-License-Identifier: Apache-2.0
//! The publisher as seen from outside: where it stands, how pushes end, and
//! how long hosts take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dvs_daemon::Metrics;
use dvs_ledger::{Core, Decision};
use dvs_schemas::Timestamp;
use dvs_schemas::v1::{ApplyOutcome, RemoveOutcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use crate::core::Publisher;
use crate::events::{Answer, Effect, Event};

/// The core, with its numbers readable while the loop owns it.
#[derive(Debug)]
pub struct Shown {
    core: Publisher,
    revision: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    away: Counter,
}

impl Shown {
    /// Shows a core's numbers.
    #[must_use]
    pub fn new(core: Publisher, metrics: &Metrics, pushes: &Pushes) -> Self {
        let gauge = |name, help| {
            let value = Arc::new(AtomicUsize::new(0));
            let read = Arc::clone(&value);
            metrics.gauge(name, help, move || read.load(Ordering::Relaxed));
            value
        };
        let shown = Self {
            core,
            revision: gauge("dvs_revision", "The newest commit"),
            pending: gauge(
                "dvs_pending_pushes",
                "Changes that hosts or the retry service have not acknowledged",
            ),
            away: pushes.outcome("absent"),
        };
        shown.update();
        shown
    }

    fn update(&self) {
        let Self {
            core,
            revision,
            pending,
            away,
        } = self;
        let newest = usize::try_from(core.config().revision().0).unwrap_or(usize::MAX);
        revision.store(newest, Ordering::Relaxed);
        pending.store(core.pending(), Ordering::Relaxed);
        away.inc_by(core.away().saturating_sub(away.get()));
    }
}

impl Core for Shown {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Timestamp, event: Event, out: &mut Decision<Effect>) {
        self.core.handle(now, event, out);
        self.update();
    }

    fn due(&self) -> Option<Timestamp> {
        self.core.due()
    }

    fn wake(&mut self, now: Timestamp, out: &mut Decision<Effect>) {
        self.core.wake(now, out);
        self.update();
    }
}

/// Counts pushes and how they end.
#[derive(Debug, Clone)]
pub struct Pushes {
    begun: Counter,
    outcomes: Family<[(&'static str, &'static str); 1], Counter>,
    applied_seconds: Histogram,
}

impl Pushes {
    /// Adds the families to the metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let pushes = Self {
            begun: Counter::default(),
            outcomes: Family::default(),
            // From a round trip on one machine, 0.25 ms, by doubling to 8 s,
            // which is past the push timeout's default.
            applied_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        };
        metrics.register(|registry| {
            registry.register("dvs_pushes", "Pushes that left", pushes.begun.clone());
            registry.register(
                "dvs_push_outcomes",
                "How calls to hosts ended",
                pushes.outcomes.clone(),
            );
            registry.register_with_unit(
                "dvs_publish_to_applied",
                "Time from the start of a push to a host's word that it has applied it",
                Unit::Seconds,
                pushes.applied_seconds.clone(),
            );
        });
        pushes
    }

    fn outcome(&self, outcome: &'static str) -> Counter {
        self.outcomes.get_or_create(&[("outcome", outcome)]).clone()
    }

    pub(crate) fn began(&self) {
        self.begun.inc();
    }

    pub(crate) fn ended(&self, answer: &Answer, took: Duration) {
        let outcome = match answer {
            Answer::Applied(report) => match report.outcome {
                ApplyOutcome::Applied { .. } => {
                    self.applied_seconds.observe(took.as_secs_f64());
                    "applied"
                }
                ApplyOutcome::Failed { .. } => "failed",
            },
            Answer::Removed(report) => match report.outcome {
                RemoveOutcome::Removed => "removed",
                RemoveOutcome::Failed { .. } => "failed",
            },
            Answer::Planned(_) => "planned",
            Answer::Unreadable(_) => "unreadable",
            Answer::Foreign => "foreign",
            Answer::TimedOut => "timed_out",
            Answer::NoResponder => "no_responder",
            Answer::NotSent(_) => "not_sent",
        };
        self.outcome(outcome).inc();
    }
}
