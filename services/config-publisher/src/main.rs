// SPDX-License-Identifier: Apache-2.0
//! The config-publisher: arguments, connection, and the order of start and
//! stop.

use std::error::Error as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use config_publisher::api::{self, Waiting};
use config_publisher::core::{Publisher, Settings};
use config_publisher::ledger::SPEC;
use config_publisher::metrics::{Pushes, Shown};
use config_publisher::perform::Performer;
use dvs_daemon::{Command, Daemon, Instance, positive};
use dvs_ledger::{Clock, EFFECT_BATCHES, INBOX, Ledger, LoopError, Stop};
use dvs_transport::{ConnectArgs, Identity, Transport, connect};
use tokio::sync::{mpsc, oneshot};

/// How long the connection may take to send what is queued at the stop.
const CLOSE: Duration = Duration::from_secs(2);

/// Owns the configuration and pushes final state to the hosts.
#[derive(Debug, Parser)]
#[command(name = "config-publisher", version, about)]
struct Cli {
    #[command(flatten)]
    service: dvs_daemon::Args<9401>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// How long a host may take to answer a push.
    #[arg(long, env = "DVS_PUSH_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = positive)]
    push_timeout: Duration,
    /// How long a port's host may be absent (that is, three heartbeats missed)
    /// before another host, on which the port is plugged in, gets it. Until
    /// then, and with the old host there, that takes its release or a move.
    #[arg(long, env = "DVS_TAKE_OVER", value_name = "DURATION", default_value = "1m", value_parser = positive)]
    take_over: Duration,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let Cli {
        service,
        connect,
        push_timeout,
        take_over,
        command,
    } = Cli::parse();
    let settings = Settings {
        push_timeout,
        take_over,
        run: uuid::Uuid::new_v4(),
        seed: fastrand::u64(..),
        ..Settings::default()
    };
    dvs_daemon::run(
        "config-publisher",
        env!("CARGO_PKG_VERSION"),
        service.settings(),
        command,
        |daemon| serve(daemon, connect, settings),
    )
}

/// The ledger, and the core as the ledger has it.
fn open(daemon: &Daemon, settings: Settings) -> anyhow::Result<(Ledger, Publisher)> {
    let path = daemon.settings().data.join("config-publisher.redb");
    let ledger = Ledger::open(&path, SPEC)?;
    let core = Publisher::load(&ledger, settings).with_context(|| {
        format!(
            "ledger {} can't be used; restore it from a backup, or move it away to start empty",
            path.display()
        )
    })?;
    tracing::info!(
        revision = core.config().revision().0,
        ports = core.config().ports().len(),
        hosts = core.fleet().names().count(),
        pending = core.pending(),
        "configuration loaded"
    );
    Ok((ledger, core))
}

/// An error with all that led to it.
fn chain(error: &LoopError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Starts from the far end: the ledger, then what answers, then what asks. The
/// stop runs the other way, each part ending because the one before it did.
async fn serve(daemon: Daemon, args: ConnectArgs, settings: Settings) -> anyhow::Result<()> {
    let (ledger, core) = open(&daemon, settings)?;
    let pushes = Pushes::new(daemon.metrics());
    // As it was made: what it goes on as may change while it serves.
    let store = ledger.id();
    let core = Shown::new(core, daemon.metrics(), &pushes);

    let bus = connect(&args, Identity::service("publisher")).await?;
    daemon.watch_bus(&bus);
    let me = Instance::new("config-publisher", store);
    let Some(claim) = me.alone(&daemon, &bus).await? else {
        return Ok(());
    };
    let instance = format!("publisher-{}", uuid::Uuid::new_v4().simple());
    let (transport, invoking) = Transport::start(bus.clone(), &instance).await?;
    let invoking = invoking.watch(daemon.stop_token());
    daemon.spawn("calls", async move { Ok(invoking.await?) });

    let (inbox, events) = mpsc::channel(INBOX);
    let (effects, to_perform) = mpsc::channel(EFFECT_BATCHES);
    daemon.metrics().watch_inbox(&inbox);
    let observer = daemon.metrics().turn_observer();
    let stop = Stop::new();
    let clock = Clock::start();
    let end = dvs_ledger::spawn(core, ledger, events, effects, clock, stop.clone(), observer);
    let (tell, ended) = oneshot::channel();
    daemon.spawn("loop", async move {
        let outcome = end.await?;
        let why = outcome.as_ref().err().map(chain);
        // Nobody is left to be told where the performer is gone.
        let _ = tell.send(why);
        Ok(outcome?)
    });

    let waiting = Waiting::default();
    let performer = Performer {
        bus: bus.clone(),
        transport,
        waiting: waiting.clone(),
        inbox: inbox.clone(),
        pushes,
    };
    let closing = bus.clone();
    daemon.spawn("effects", async move {
        performer.run(to_perform, ended).await;
        closing.close(CLOSE).await;
        Ok(())
    });
    let heartbeats = api::hear(bus.clone(), inbox.clone(), daemon.stop_token());
    daemon.spawn("heartbeats", async move { Ok(heartbeats.await?) });
    let connection = api::watch(bus.clone(), inbox.clone(), daemon.stop_token());
    daemon.spawn("connection", async move {
        connection.await;
        Ok(())
    });

    let (service, requests) = api::start(&bus, me.metadata()).await?;
    drop(claim);
    let stays = me.stays(bus.clone(), daemon.stop_token());
    daemon.spawn("others", async move { Ok(stays.await?) });
    daemon.spawn("requests", async move {
        api::run(requests, waiting, inbox).await;
        stop.cancel();
        Ok(())
    });
    daemon.started();
    daemon.stopping().await;
    service.stop();
    daemon.parts_ended().await;
    Ok(())
}
