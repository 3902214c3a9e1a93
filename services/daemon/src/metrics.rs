// SPDX-License-Identifier: Apache-2.0
//! Metrics in the OpenMetrics format: the families that every service has, and
//! room for each service's own.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dvs_transport::Bus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::mpsc;

/// The metrics of a service; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    commits: Counter,
    writes: Counter,
    events: Counter,
    commit_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new(service: &'static str, version: &'static str) -> Self {
        let metrics = Self {
            registry: Arc::default(),
            commits: Counter::default(),
            writes: Counter::default(),
            events: Counter::default(),
            // A flush takes from 0.1 ms on a good disk to seconds on one in
            // trouble: 0.1 ms to 6.5 s by doubling.
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 17)),
        };
        metrics.register(|registry| {
            let build = Info::new([("service", service), ("version", version)]);
            registry.register("dvs_build", "The program that runs", build);
            registry.register(
                "dvs_ledger_commits",
                "Durable ledger transactions",
                metrics.commits.clone(),
            );
            registry.register(
                "dvs_ledger_writes",
                "Entries written by them",
                metrics.writes.clone(),
            );
            registry.register(
                "dvs_events",
                "Events that the core decided on",
                metrics.events.clone(),
            );
            let seconds = metrics.commit_seconds.clone();
            registry.register_with_unit(
                "dvs_ledger_commit",
                "Time a ledger transaction took",
                Unit::Seconds,
                seconds,
            );
        });
        metrics
    }

    /// Adds families; names begin with `dvs_` and the subject, and counters
    /// get their `_total` when they are written.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry())
    }

    /// What the ledger's loop is to call after each turn: events, ledger
    /// writes, and the commit's duration if there was one.
    pub fn turn_observer(
        &self,
    ) -> impl FnMut(usize, usize, Option<Duration>) + Clone + Send + Sync + 'static {
        let Self {
            registry: _,
            commits,
            writes,
            events,
            commit_seconds,
        } = self.clone();
        move |handled, written, commit| {
            events.inc_by(count(handled));
            if let Some(duration) = commit {
                commits.inc();
                writes.inc_by(count(written));
                commit_seconds.observe(duration.as_secs_f64());
            }
        }
    }

    /// Shows how full the loop's inbox is, as `dvs_inbox_depth`. Holds nothing
    /// of the channel open.
    pub fn watch_inbox<T: Send + 'static>(&self, inbox: &mpsc::Sender<T>) {
        let inbox = inbox.downgrade();
        self.gauge(
            "dvs_inbox_depth",
            "Events that wait for the core",
            move || {
                inbox
                    .upgrade()
                    .map_or(0, |inbox| inbox.max_capacity() - inbox.capacity())
            },
        );
    }

    /// A gauge whose value is read whenever the metrics are.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        let collector = ReadGauge {
            name,
            help,
            read: Box::new(read),
        };
        self.register(|registry| registry.register_collector(Box::new(collector)));
    }

    /// Shows the counters of a connection.
    pub fn watch_bus(&self, bus: &Bus) {
        self.register(|registry| registry.register_collector(Box::new(BusFamilies(bus.clone()))));
    }

    /// All families as OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry())?;
        Ok(text)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A list of families; whole after any panic.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct ReadGauge {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> usize + Send + Sync>,
}

impl fmt::Debug for ReadGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGauge").field(&self.name).finish()
    }
}

impl Collector for ReadGauge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let value = i64::try_from((self.read)()).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(encoder.encode_descriptor(
            self.name,
            self.help,
            None,
            MetricType::Gauge,
        )?)
    }
}

#[derive(Debug)]
struct BusFamilies(Bus);

impl Collector for BusFamilies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(bus) = self;
        let connected = ConstGauge::new(i64::from(bus.is_connected()));
        let help = "Whether the connection to NATS stands";
        connected.encode(encoder.encode_descriptor(
            "dvs_bus_connected",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let traffic = bus.client().statistics();
        let counters = bus.counters();
        for (name, help, value) in [
            (
                "dvs_bus_reconnects",
                "Connections to NATS after the first",
                counters.reconnects(),
            ),
            (
                "dvs_bus_slow_consumers",
                "Messages lost to full subscription queues",
                counters.slow_consumers(),
            ),
            (
                "dvs_bus_errors",
                "Errors of the connection to NATS",
                counters.errors(),
            ),
            (
                "dvs_bus_ignored_replies",
                "Late, repeated and foreign replies to pushes",
                counters.ignored_replies(),
            ),
            (
                "dvs_bus_messages_in",
                "Messages received",
                traffic.in_messages.load(Ordering::Relaxed),
            ),
            (
                "dvs_bus_messages_out",
                "Messages sent",
                traffic.out_messages.load(Ordering::Relaxed),
            ),
            (
                "dvs_bus_bytes_in",
                "Bytes received in messages",
                traffic.in_bytes.load(Ordering::Relaxed),
            ),
            (
                "dvs_bus_bytes_out",
                "Bytes sent in messages",
                traffic.out_bytes.load(Ordering::Relaxed),
            ),
        ] {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(text: &str, sample: &str) -> Option<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
    }

    #[test]
    fn turns_are_counted_and_commits_timed() {
        let metrics = Metrics::new("retry", "0.1.0");
        let mut observe = metrics.turn_observer();
        observe(3, 5, Some(Duration::from_millis(2)));
        observe(4, 0, None);
        let text = metrics.encode().unwrap();
        assert_eq!(value(&text, "dvs_events_total"), Some(7.0));
        assert_eq!(value(&text, "dvs_ledger_commits_total"), Some(1.0));
        assert_eq!(value(&text, "dvs_ledger_writes_total"), Some(5.0));
        assert_eq!(value(&text, "dvs_ledger_commit_seconds_sum"), Some(0.002));
        assert!(
            text.contains(r#"dvs_build_info{service="retry",version="0.1.0"} 1"#),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_inbox_shows_its_depth_and_is_not_kept_open() {
        let metrics = Metrics::new("retry", "0.1.0");
        let (sender, mut receiver) = mpsc::channel(4);
        metrics.watch_inbox(&sender);
        sender.try_send(()).unwrap();
        assert_eq!(
            value(&metrics.encode().unwrap(), "dvs_inbox_depth"),
            Some(1.0)
        );
        drop(sender);
        assert!(receiver.try_recv().is_ok());
        assert!(matches!(
            receiver.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        ));
        assert_eq!(
            value(&metrics.encode().unwrap(), "dvs_inbox_depth"),
            Some(0.0)
        );
    }
}
