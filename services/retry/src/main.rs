// SPDX-License-Identifier: Apache-2.0
//! The retry service: arguments, connection, and the order of start and stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use dvs_daemon::{Command, Daemon, Instance, positive};
use dvs_ledger::{Clock, EFFECT_BATCHES, INBOX, Ledger, Stop};
use dvs_transport::endpoint::Waiting;
use dvs_transport::{ConnectArgs, Identity, Transport, connect};
use retry::{Backoff, Performer, Retry, SPEC, Settings, Shown, Tries, api};
use tokio::sync::mpsc;

/// How long the connection may take to send what is queued at the stop.
const CLOSE: Duration = Duration::from_secs(2);

/// Works off the durable re-push and rip queues.
#[derive(Debug, Parser)]
#[command(name = "retry", version, about)]
struct Cli {
    #[command(flatten)]
    service: dvs_daemon::Args<9404>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// The window of the first repetition; it doubles with every failed try.
    #[arg(long, env = "DVS_RETRY_BASE", value_name = "DURATION", default_value = "1s", value_parser = positive)]
    retry_base: Duration,
    /// The largest window.
    #[arg(long, env = "DVS_RETRY_CAP", value_name = "DURATION", default_value = "5m", value_parser = positive)]
    retry_cap: Duration,
    /// How long a host may take to answer.
    #[arg(long, env = "DVS_PUSH_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = positive)]
    push_timeout: Duration,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let Cli {
        service,
        connect,
        retry_base,
        retry_cap,
        push_timeout,
        command,
    } = Cli::parse();
    let settings = Settings {
        backoff: Backoff {
            base: retry_base,
            cap: retry_cap,
        },
        push_timeout,
    };
    dvs_daemon::run(
        "retry",
        env!("CARGO_PKG_VERSION"),
        service.settings(),
        command,
        |daemon| serve(daemon, connect, settings),
    )
}

/// Starts from the far end: the ledger, then what answers, then what asks. The
/// stop runs the other way, each part ending because the one before it did.
async fn serve(daemon: Daemon, args: ConnectArgs, settings: Settings) -> anyhow::Result<()> {
    let Backoff { base, cap } = settings.backoff;
    ensure!(
        base <= cap,
        "--retry-base {base:?} is more than --retry-cap {cap:?}; allowed: at most as much"
    );
    let ledger = Ledger::open(&daemon.settings().data.join("retry.redb"), SPEC)?;
    let clock = Clock::start();
    let core = Retry::load(&ledger, settings, fastrand::Rng::new(), clock.now())
        .context("the ledger can't be loaded")?;
    tracing::info!(
        repush = core.repush_entries(),
        rip = core.rip_entries(),
        "queues loaded"
    );
    let core = Shown::new(core, daemon.metrics());

    let bus = connect(&args, Identity::service("retry")).await?;
    daemon.watch_bus(&bus);
    let me = Instance::new("retry", ledger.id());
    let Some(claim) = me.alone(&daemon, &bus).await? else {
        return Ok(());
    };
    let instance = format!("retry-{}", uuid::Uuid::new_v4().simple());
    let (transport, invoking) = Transport::start(bus.clone(), &instance).await?;
    let invoking = invoking.watch(daemon.stop_token());
    daemon.spawn("calls", async move { Ok(invoking.await?) });

    let (inbox, events) = mpsc::channel(INBOX);
    let (effects, to_perform) = mpsc::channel(EFFECT_BATCHES);
    daemon.metrics().watch_inbox(&inbox);
    let observer = daemon.metrics().turn_observer();
    let stop = Stop::new();
    let end = dvs_ledger::spawn(core, ledger, events, effects, clock, stop.clone(), observer);
    daemon.spawn("loop", async move { Ok(end.await??) });

    let waiting = Waiting::default();
    let performer = Performer {
        bus: bus.clone(),
        transport,
        waiting: waiting.clone(),
        inbox: inbox.clone(),
        tries: Tries::new(daemon.metrics()),
    };
    let closing = bus.clone();
    daemon.spawn("effects", async move {
        performer.run(to_perform).await?;
        closing.close(CLOSE).await;
        Ok(())
    });

    let hearing = api::hear(api::listen(&bus).await?, inbox.clone(), daemon.stop_token());
    daemon.spawn("heartbeats", async move {
        hearing.await;
        Ok(())
    });
    let (service, requests) = api::start(&bus, me.metadata()).await?;
    drop(claim);
    let stays = me.stays(bus.clone(), daemon.stop_token());
    daemon.spawn("others", async move { Ok(stays.await?) });
    daemon.spawn("requests", async move {
        api::run(requests, bus, waiting, inbox).await;
        stop.cancel();
        Ok(())
    });
    daemon.started();
    daemon.stopping().await;
    service.stop();
    daemon.parts_ended().await;
    Ok(())
}
