// SPDX-License-Identifier: Apache-2.0
//! The runtime collector: arguments, connection, and the order of start and
//! stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use dvs_daemon::{Command, Daemon, Instance};
use dvs_ledger::{Clock, EFFECT_BATCHES, INBOX, Ledger, Stop};
use dvs_transport::endpoint::Waiting;
use dvs_transport::{ConnectArgs, Identity, Transport, connect};
use runtime_collector::{Collector, Heard, Performer, SPEC, Settings, Shown, api};
use tokio::sync::mpsc;

/// How long the connection may take to send what is queued at the stop.
const CLOSE: Duration = Duration::from_secs(2);

/// Stores the ports' runtime state and passes live reads through.
#[derive(Debug, Parser)]
#[command(name = "runtime-collector", version, about)]
struct Cli {
    #[command(flatten)]
    service: dvs_daemon::Args<9403>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// How long what is known of a port that is gone is kept, its total counters among it.
    #[arg(long, env = "DVS_KEEP_GONE", value_name = "DURATION", default_value = "30d", value_parser = keep)]
    keep_gone: Duration,
    #[command(subcommand)]
    command: Option<Command>,
}

/// A century is as good as forever, and no clock runs over.
fn keep(text: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(24 * 60 * 60);
    humantime::parse_duration(text)
        .ok()
        .filter(|keep| (Duration::from_secs(1)..=36_500 * day).contains(keep))
        .ok_or_else(|| "allowed: 1s to 36500d, written like 12h, 30d".to_owned())
}

fn main() -> ExitCode {
    let Cli {
        service,
        connect,
        keep_gone,
        command,
    } = Cli::parse();
    let settings = Settings {
        keep_gone,
        ..Settings::default()
    };
    dvs_daemon::run(
        "runtime-collector",
        env!("CARGO_PKG_VERSION"),
        service.settings(),
        command,
        |daemon| serve(daemon, connect, settings),
    )
}

/// Starts from the far end: the ledger, then what answers, then what asks. The
/// stop runs the other way, each part ending because the one before it did.
async fn serve(daemon: Daemon, args: ConnectArgs, settings: Settings) -> anyhow::Result<()> {
    let (core, ledger) = load(&daemon, settings)?;
    let bus = connect(&args, Identity::service("collector")).await?;
    daemon.watch_bus(&bus);
    let me = Instance::new("runtime-collector", ledger.id());
    let Some(claim) = me.alone(&daemon, &bus).await? else {
        return Ok(());
    };
    let instance = format!("collector-{}", uuid::Uuid::new_v4().simple());
    let (transport, invoking) = Transport::start(bus.clone(), &instance).await?;
    let invoking = invoking.watch(daemon.stop_token());
    daemon.spawn("calls", async move { Ok(invoking.await?) });

    let (inbox, to_decide) = mpsc::channel(INBOX);
    let (effects, to_perform) = mpsc::channel(EFFECT_BATCHES);
    daemon.metrics().watch_inbox(&inbox);
    let observer = daemon.metrics().turn_observer();
    let stop = Stop::new();
    let (clock, stopping) = (Clock::start(), stop.clone());
    let end = dvs_ledger::spawn(core, ledger, to_decide, effects, clock, stopping, observer);
    daemon.spawn("loop", async move { Ok(end.await??) });

    let heard = Heard::new(daemon.metrics());
    let waiting = Waiting::default();
    let performer = Performer {
        bus: bus.clone(),
        transport,
        waiting: waiting.clone(),
        inbox: inbox.clone(),
        heard: heard.clone(),
    };
    let closing = bus.clone();
    daemon.spawn("effects", async move {
        performer.run(to_perform).await;
        closing.close(CLOSE).await;
        Ok(())
    });

    let events = api::listen(&bus).await?;
    let hearing = api::hear(
        bus.clone(),
        events,
        waiting.clone(),
        inbox.clone(),
        heard,
        daemon.stop_token(),
    );
    daemon.spawn("events", async move {
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

fn load(daemon: &Daemon, settings: Settings) -> anyhow::Result<(Shown, Ledger)> {
    let path = daemon.settings().data.join("runtime-collector.redb");
    let ledger = Ledger::open(&path, SPEC)?;
    let core = Collector::load(&ledger, settings).context("the ledger can't be loaded")?;
    tracing::info!(
        ports = core.ports(),
        hosts = core.hosts(),
        "runtime state loaded"
    );
    Ok((Shown::new(core, daemon.metrics()), ledger))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent_and_say_what_is_allowed() {
        Cli::command().debug_assert();
        for text in ["0s", "40000d", "soon"] {
            assert!(keep(text).unwrap_err().contains("1s to 36500d"), "{text}");
        }
        assert!(keep("36500d").is_ok());
    }
}
