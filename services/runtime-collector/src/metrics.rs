// SPDX-License-Identifier: Apache-2.0
//! What the collector looks like from outside: how much it knows, what it
//! hears, and how its questions end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dvs_daemon::Metrics;
use dvs_ledger::{Core, Decision};
use dvs_schemas::Timestamp;
use dvs_schemas::subjects::EventVerb;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::core::Collector;
use crate::events::{Answer, Effect, Event};

/// The core, with its numbers readable while the loop owns it.
#[derive(Debug)]
pub struct Shown {
    core: Collector,
    ports: Arc<AtomicUsize>,
    hosts: Arc<AtomicUsize>,
}

impl Shown {
    /// Shows a core's numbers.
    #[must_use]
    pub fn new(core: Collector, metrics: &Metrics) -> Self {
        let gauge = |name, help| {
            let value = Arc::new(AtomicUsize::new(0));
            let read = Arc::clone(&value);
            metrics.gauge(name, help, move || read.load(Ordering::Relaxed));
            value
        };
        let shown = Self {
            core,
            ports: gauge("dvs_runtime_ports", "Ports that something is known of"),
            hosts: gauge("dvs_runtime_hosts", "Hosts that were heard"),
        };
        shown.update();
        shown
    }

    fn update(&self) {
        let Self { core, ports, hosts } = self;
        ports.store(core.ports(), Ordering::Relaxed);
        hosts.store(core.hosts(), Ordering::Relaxed);
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

type ByWord = Family<[(&'static str, &'static str); 1], Counter>;

/// Counts what is heard of hosts.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    events: ByWord,
    answers: ByWord,
}

impl Heard {
    /// Adds the counters to the metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let heard = Self::default();
        metrics.register(|registry| {
            registry.register(
                "dvs_runtime_events",
                "Events of hosts",
                heard.events.clone(),
            );
            registry.register(
                "dvs_runtime_live",
                "Questions to hosts, by how they ended",
                heard.answers.clone(),
            );
        });
        heard
    }

    pub(crate) fn heard(&self, verb: EventVerb) {
        let kind = match verb {
            EventVerb::Changed => "changed",
            EventVerb::Settled => "settled",
            EventVerb::Conditions => "conditions",
            EventVerb::Notice => "notice",
            EventVerb::Heartbeat => "heartbeat",
        };
        self.events.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn refused(&self) {
        self.events.get_or_create(&[("kind", "refused")]).inc();
    }

    pub(crate) fn answered(&self, answer: &Answer) {
        let labels = [("outcome", answer.word())];
        self.answers.get_or_create(&labels).inc();
    }
}

impl Answer {
    /// How it ended, in one word, for logs and metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Live(_) | Self::Fetched(_) | Self::Put(_) | Self::Placements(_) => "answered",
            Self::Refused(_) => "refused",
            Self::TimedOut => "timed_out",
            Self::NoResponder => "no_responder",
            Self::NotSent(_) => "not_sent",
        }
    }
}
