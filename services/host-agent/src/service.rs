// SPDX-License-Identifier: Apache-2.0
//! Putting the parts together: ledger, connections, loop and performer, and
//! the order of start and stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dvs_daemon::Daemon;
use dvs_ledger::{Clock, EFFECT_BATCHES, INBOX, Ledger, Stop};
use dvs_schemas::HostName;
use dvs_transport::{Bus, ConnectArgs, Identity, connect};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Ears, Event};
use crate::core::Agent;
use crate::datapath::Datapath;
use crate::host::HostSettings;
use crate::ledger::SPEC;
use crate::metrics::Counts;
use crate::perform::{Conditions, Line, Performer, listen};

/// Hosts of one connection. Few enough that a connection's own task is not
/// what 10,000 replicas wait for, and enough that they don't cost a server
/// 10,000 connections.
const HOSTS_PER_LINE: usize = 1_000;

/// How long a connection may take to send what is queued at the stop.
const CLOSE: Duration = Duration::from_secs(2);

/// What the process serves.
#[derive(Debug)]
pub struct Service<D> {
    /// Directory of the ledger.
    pub data: PathBuf,
    /// The hosts, each with its datapath.
    pub hosts: Vec<(HostName, Arc<D>)>,
    /// What they share.
    pub settings: HostSettings,
    /// The bus.
    pub connect: ConnectArgs,
}

/// Events and how the loop is stopped.
#[derive(Debug, Clone)]
struct Inbox {
    events: mpsc::Sender<Event>,
    stop: Stop,
}

/// Serves until the daemon stops. The stop runs from the ears inwards: nothing
/// new is heard, what was heard is decided and committed, answers leave, the
/// connections close.
///
/// # Errors
/// The ledger can't be used, or the settings of the connection.
pub async fn serve<D: Datapath>(daemon: Daemon, service: Service<D>) -> anyhow::Result<()> {
    let Service {
        data,
        hosts,
        settings,
        connect,
    } = service;
    let file = data.join("host-agent.redb");
    let ledger = Ledger::open(&file, SPEC)?;
    let clock = Clock::start();
    let names: BTreeSet<HostName> = hosts.iter().map(|(host, _)| host.clone()).collect();
    let core = Agent::load(&ledger, &names, &settings, fastrand::u64(..))
        .with_context(|| format!("ledger {} can't be loaded", file.display()))?;

    let (events, to_decide) = mpsc::channel(INBOX);
    let (effects, to_perform) = mpsc::channel(EFFECT_BATCHES);
    daemon.metrics().watch_inbox(&events);
    let observer = daemon.metrics().turn_observer();
    let inbox = Inbox {
        events,
        stop: Stop::new(),
    };
    let stop = inbox.stop.clone();
    let counts = Counts::new(daemon.metrics());
    let health = daemon.health();
    let conditions = Conditions {
        read: health.condition("datapath", "not read yet"),
        alone: health.condition("namesake", "nothing was said of it yet"),
    };

    let hearing = CancellationToken::new();
    let mut stations = Vec::new();
    let mut ears = Vec::new();
    for (number, hosts) in hosts.chunks(HOSTS_PER_LINE).enumerate() {
        let bus = line_bus(&daemon, &connect, hosts, number == 0).await?;
        let (line, outbox, wishes) = Line::new(bus.clone(), hosts.len(), counts.clone());
        daemon.spawn("answers", async move {
            outbox.run().await;
            bus.close(CLOSE).await;
            Ok(())
        });
        let names: Arc<[HostName]> = hosts.iter().map(|(host, _)| host.clone()).collect();
        ears.push(Ears::new(line.clone(), names, inbox.events.clone(), wishes));
        for (host, datapath) in hosts {
            if let Some(core) = core.host(host) {
                datapath.resume(core.remembered()).await;
            }
            stations.push((host.clone(), datapath.clone(), line.clone()));
        }
    }
    let performer = Performer::new(stations, inbox.events.clone(), counts, conditions);
    daemon.spawn(
        "effects",
        async move { Ok(performer.run(to_perform).await?) },
    );
    let mut listening = JoinSet::new();
    for (host, datapath) in hosts {
        listening.spawn(listen(host, datapath, inbox.events.clone()));
    }
    daemon.spawn("notices", all_ended(listening));
    let end = dvs_ledger::spawn(core, ledger, to_decide, effects, clock, stop, observer);
    daemon.spawn("loop", async move { Ok(end.await??) });
    hear(&daemon, ears, &hearing, inbox);

    daemon.started();
    daemon.stopping().await;
    hearing.cancel();
    daemon.parts_ended().await;
    Ok(())
}

async fn line_bus<D>(
    daemon: &Daemon,
    args: &ConnectArgs,
    hosts: &[(HostName, Arc<D>)],
    first: bool,
) -> anyhow::Result<Bus> {
    let (host, _) = hosts.first().context("a line without hosts")?;
    let bus = connect(args, Identity::agent(host)).await?;
    // The connections of replicas stand and fall together, and metrics have
    // one family per process: the first speaks for all.
    if first {
        daemon.watch_bus(&bus);
    }
    Ok(bus)
}

/// Lets all ears hear, and stops the loop when the last one has stopped.
fn hear(daemon: &Daemon, ears: Vec<Ears>, hearing: &CancellationToken, inbox: Inbox) {
    let hearing = hearing.clone();
    daemon.spawn("ears", async move {
        let mut tasks = JoinSet::new();
        for ears in ears {
            tasks.spawn(ears.run(hearing.clone()));
        }
        all_ended(tasks).await?;
        inbox.stop.cancel();
        Ok(())
    });
}

/// Waits for tasks; one that panics ends the wait at once.
async fn all_ended(mut tasks: JoinSet<()>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
