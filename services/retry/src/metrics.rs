// SPDX-License-Identifier: Apache-2.0
//! What the queues look like from outside: their lengths, and how tries end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dvs_daemon::Metrics;
use dvs_ledger::{Core, Decision};
use dvs_schemas::Timestamp;
use dvs_schemas::v1::{ApplyOutcome, RemoveOutcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::core::{Effect, Event, Retry};
use crate::key::Answer;

/// The core, with its numbers readable while the loop owns it.
#[derive(Debug)]
pub struct Shown {
    core: Retry,
    repush: Arc<AtomicUsize>,
    rip: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
}

impl Shown {
    /// Shows a core's numbers.
    #[must_use]
    pub fn new(core: Retry, metrics: &Metrics) -> Self {
        let gauge = |name, help| {
            let value = Arc::new(AtomicUsize::new(0));
            let read = Arc::clone(&value);
            metrics.gauge(name, help, move || read.load(Ordering::Relaxed));
            value
        };
        let shown = Self {
            core,
            repush: gauge("dvs_repush_entries", "Hosts out of sync, per switch"),
            rip: gauge("dvs_rip_entries", "Virtual ports that are to go"),
            in_flight: gauge("dvs_retry_in_flight", "Tries under way"),
        };
        shown.update();
        shown
    }

    fn update(&self) {
        let Self {
            core,
            repush,
            rip,
            in_flight,
        } = self;
        repush.store(core.repush_entries(), Ordering::Relaxed);
        rip.store(core.rip_entries(), Ordering::Relaxed);
        in_flight.store(core.in_flight(), Ordering::Relaxed);
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

/// Counts tries by how they ended.
#[derive(Debug, Clone, Default)]
pub struct Tries(Family<[(&'static str, &'static str); 1], Counter>);

impl Tries {
    /// Adds the counter to the metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let tries = Self::default();
        metrics.register(|registry| {
            let help = "Tries to bring a host in sync or to remove a virtual port";
            registry.register("dvs_retry_attempts", help, tries.0.clone());
        });
        tries
    }

    pub(crate) fn not_rendered(&self) {
        self.count("not_rendered");
    }

    pub(crate) fn ended(&self, answer: &Answer) {
        self.count(match answer {
            Answer::Clobber(report) => match report.outcome {
                ApplyOutcome::Applied { .. } => "applied",
                ApplyOutcome::Failed { .. } => "failed",
            },
            Answer::Remove(report) => match report.outcome {
                RemoveOutcome::Removed => "removed",
                RemoveOutcome::Failed { .. } => "failed",
            },
            Answer::TimedOut => "timed_out",
            Answer::NoResponder => "no_responder",
            Answer::NotSent(_) => "not_sent",
            Answer::Unreadable(_) => "unreadable",
        });
    }

    fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&[("outcome", outcome)]).inc();
    }
}
