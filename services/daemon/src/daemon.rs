// SPDX-License-Identifier: Apache-2.0
//! A service's life: start, serve, and stop in order.
//!
//! The order of a stop is: not ready any more, no new requests, what is under
//! way is decided and committed, the bus is drained, the ledger is closed, the
//! process ends. Each part ends because the one before it did, and
//! [`Daemon::parts_ended`] waits for the last; all of it together takes no
//! longer than [`STOP_LIMIT`].

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use dvs_transport::{Bus, Denied};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{Command, Settings};
use crate::health::Health;
use crate::healthcheck::healthcheck;
use crate::metrics::Metrics;
use crate::{http, logs};

/// Container engines kill ten seconds after they asked to stop; this leaves
/// time to end by ourselves.
pub const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Subjects that are named where some are refused: enough to find the rule of
/// the server's configuration that lacks.
const SUBJECTS_SHOWN: usize = 5;

/// Runs a service to its end, or the subcommand given instead, and says how
/// the process is to exit: 0 after an ordered stop, else 1 with the reason in
/// the log. `service` is the body: it opens the ledger, connects, starts its
/// tasks, waits for [`Daemon::stopping`] and takes the steps of the stop.
pub fn run<F, S>(
    name: &'static str,
    version: &'static str,
    settings: Settings,
    command: Option<Command>,
    service: F,
) -> ExitCode
where
    F: FnOnce(Daemon) -> S,
    S: Future<Output = anyhow::Result<()>>,
{
    let outcome = match command {
        Some(Command::Healthcheck) => return report(healthcheck(settings.listen)),
        None => logs::start(&settings.log, settings.log_format),
    };
    if outcome.is_err() {
        return report(outcome);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error).context("the runtime can't be started")),
    };
    let outcome = runtime.block_on(live(name, version, settings, service));
    // Blocking work that outlived the stop's bound must not hold the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => {
            tracing::info!(service = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(
                service = name,
                error = format!("{error:#}"),
                "stopped on an error"
            );
            ExitCode::FAILURE
        }
    }
}

/// For what ends before there are logs.
fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn live<F, S>(
    name: &'static str,
    version: &'static str,
    settings: Settings,
    service: F,
) -> anyhow::Result<()>
where
    F: FnOnce(Daemon) -> S,
    S: Future<Output = anyhow::Result<()>>,
{
    let signals = Signals::catch().context("signals can't be caught")?;
    let daemon = Daemon::start(name, version, settings).await?;
    tokio::spawn(signals.watch(daemon.clone()));
    let stop = daemon.inner.stop.clone();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    let outcome = tokio::select! {
        outcome = service(daemon.clone()) => outcome,
        () = overdue => Err(anyhow::anyhow!(
            "not stopped within {}; what was committed is safe", humantime::format_duration(STOP_LIMIT)
        )),
    };
    // What made the service stop matters more than what went wrong after.
    match daemon.take_failure() {
        Some(failure) => Err(failure),
        None => outcome,
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal's number, as shells count exits by it.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }

    async fn watch(mut self, daemon: Daemon) {
        let number = self.next().await;
        tracing::info!(signal = number, "asked to stop");
        daemon.stop();
        let number = self.next().await;
        tracing::warn!(signal = number, "asked again; exiting at once");
        std::process::exit(128 + number);
    }
}

/// What a service's parts share; clones are the same daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    settings: Settings,
    listening: SocketAddr,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: TaskTracker,
    failure: Mutex<Option<Failure>>,
    stop_by: Mutex<Option<Instant>>,
}

/// Why a service ends that nobody asked to stop.
#[derive(Debug)]
enum Failure {
    /// A part that said why.
    Told(anyhow::Error),
    /// A part that ended without a word. What made it end, if anything did,
    /// may still tell.
    Silent(&'static str),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Told(error) => error,
            Failure::Silent(part) => anyhow::anyhow!("{part}: ended, and nobody had asked it to"),
        }
    }
}

impl Daemon {
    /// Serves health and metrics; for [`run`], and for tests that run services
    /// in their own process.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn start(
        name: &'static str,
        version: &'static str,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let health = Health::default();
        health.starting("its ledger is not loaded yet");
        let metrics = Metrics::new(name, version);
        let listening = http::serve(settings.listen, health.clone(), metrics.clone()).await?;
        tracing::info!(service = name, version, listen = %listening, data = %settings.data.display(), "starting");
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                settings,
                listening,
                health,
                metrics,
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
                failure: Mutex::new(None),
                stop_by: Mutex::new(None),
            }),
        })
    }

    /// The settings of the start.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn listening(&self) -> SocketAddr {
        self.inner.listening
    }

    /// The conditions of readiness.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Cancelled when the stop begins; for loops that end with it.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Runs a part of the service. If it fails, panics, or ends before the stop
    /// begins, the whole service stops and exits with that error: a service of
    /// which a part is dead must be started anew.
    pub fn spawn(
        &self,
        part: &'static str,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let daemon = self.clone();
        let work = tokio::spawn(work);
        self.inner.tasks.spawn(async move {
            match work.await {
                Ok(Ok(())) if daemon.inner.stop.is_cancelled() => tracing::debug!(part, "ended"),
                Ok(Ok(())) => daemon.end_on(Failure::Silent(part)),
                Ok(Err(error)) => daemon.fail(error.context(part)),
                Err(error) => daemon.fail(anyhow::Error::new(error).context(part)),
            }
        });
    }

    /// Follows a connection: the condition `bus`, true while the connection
    /// stands and nothing is refused on it, and its counters as metrics.
    pub fn watch_bus(&self, bus: &Bus) {
        self.inner.metrics.watch_bus(bus);
        let condition = self.inner.health.condition("bus", "connecting");
        let (mut connected, mut denied) = (bus.connected(), bus.denied());
        let (bus, stop) = (bus.clone(), self.stop_token());
        self.inner
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                loop {
                    let stands = *connected.borrow_and_update();
                    let refused = refused(&denied.borrow_and_update());
                    match (stands, refused) {
                        (true, None) => condition.ok(),
                        (true, Some(subjects)) => condition.no(format!(
                            "NATS at {} refuses the subscription to {subjects}: allow it for this \
                             user",
                            bus.servers()
                        )),
                        (false, _) => {
                            let last = bus
                                .last_error()
                                .map(|error| format!(" ({error})"))
                                .unwrap_or_default();
                            condition
                                .no(format!("no connection to NATS at {}{last}", bus.servers()));
                        }
                    }
                    // Both arms are cancel-safe.
                    let changed = tokio::select! {
                        changed = connected.changed() => changed,
                        changed = denied.changed() => changed,
                    };
                    if changed.is_err() {
                        return;
                    }
                }
            }));
    }

    /// Says that the start is over: to the log, and to systemd.
    pub fn started(&self) {
        self.inner.health.serving();
        tracing::info!(service = self.inner.name, "started");
        tell_systemd(&[NotifyState::Ready]);
    }

    /// Begins the stop, as a signal does.
    pub fn stop(&self) {
        let mut stop_by = self
            .inner
            .stop_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if stop_by.is_none() {
            *stop_by = Some(Instant::now() + STOP_LIMIT);
            self.inner.health.stopping();
            tell_systemd(&[NotifyState::Stopping]);
            self.inner.stop.cancel();
        }
    }

    /// Begins the stop because of an error; the first error is the reason that
    /// the process exits with.
    pub fn fail(&self, error: anyhow::Error) {
        tracing::error!(
            service = self.inner.name,
            error = format!("{error:#}"),
            "stopping on an error"
        );
        self.end_on(Failure::Told(error));
    }

    fn end_on(&self, failure: Failure) {
        let mut first = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match (&*first, &failure) {
            (None, Failure::Told(_) | Failure::Silent(_))
            | (Some(Failure::Silent(_)), Failure::Told(_)) => *first = Some(failure),
            (Some(Failure::Told(_) | Failure::Silent(_)), Failure::Silent(_))
            | (Some(Failure::Told(_)), Failure::Told(_)) => {}
        }
        drop(first);
        self.stop();
    }

    /// Returns when the stop begins.
    pub async fn stopping(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Takes one step of the stop, for at most what is left of [`STOP_LIMIT`];
    /// `None` if that wasn't enough, which fails the service.
    pub async fn step<T>(&self, name: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let by = *self
            .inner
            .stop_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A step that hangs leaves the others half a second, each some of it.
        let by = by.unwrap_or_else(|| Instant::now() + STOP_LIMIT) - Duration::from_millis(500);
        let by = by.max(Instant::now() + Duration::from_millis(100));
        let began = Instant::now();
        match timeout_at(by, work).await {
            Ok(done) => {
                tracing::debug!(step = name, took = ?began.elapsed(), "stopping");
                Some(done)
            }
            Err(_) => {
                self.fail(anyhow::anyhow!("the stop hangs at: {name}"));
                None
            }
        }
    }

    /// The last step: waits for all parts that were spawned.
    pub async fn parts_ended(&self) {
        self.inner.tasks.close();
        self.step("parts", self.inner.tasks.wait()).await;
    }

    fn take_failure(&self) -> Option<anyhow::Error> {
        let mut failure = self
            .inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failure.take().map(anyhow::Error::from)
    }
}

/// The subjects that are refused, if there are any.
fn refused(denied: &Denied) -> Option<String> {
    let subjects: Vec<&str> = denied.subjects().take(SUBJECTS_SHOWN).collect();
    let more = denied.subjects().count() - subjects.len();
    let more = (more > 0).then(|| format!(" and {more} more"));
    let shown = subjects.join(", ");
    (!subjects.is_empty()).then(|| format!("{shown}{}", more.unwrap_or_default()))
}

/// A no-op without systemd.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd can't be told");
    }
}
