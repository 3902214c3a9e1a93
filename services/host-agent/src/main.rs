// SPDX-License-Identifier: Apache-2.0
//! The host agent's arguments: who it is, and which datapath it drives.

mod ovs_args;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use dvs_daemon::{Command, Daemon};
use dvs_schemas::v1::HostDatapath;
use dvs_schemas::{HostName, TellMode};
use dvs_transport::ConnectArgs;
use host_agent::datapath::{Behaviour, Emulated, Ovs, OvsCounts};
use host_agent::host::HostSettings;
use host_agent::service::{Service, serve};
use host_agent::slots::{self, Slot};
use uuid::Uuid;

use ovs_args::OvsArgs;

/// Makes the final state of virtual switches true on this host.
#[derive(Debug, Parser)]
#[command(name = "host-agent", version, about)]
struct Cli {
    #[command(flatten)]
    service: dvs_daemon::Args<9402>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    telling: TellingArgs,
    #[command(flatten)]
    datapath: DatapathArgs,
    #[command(flatten)]
    ovs: OvsArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Which hosts the process is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Host")]
struct Who {
    /// Name of the host [default: the machine's, with hyphens for its dots].
    #[arg(long, env = "DVS_HOST", value_name = "NAME")]
    host: Option<String>,
    /// Take the first free directory PREFIX-<n> below --data for host name and ledger; for containers without lasting names.
    #[arg(long, env = "DVS_HOST_SLOTS", value_name = "PREFIX")]
    host_slots: Option<String>,
    /// Be this many hosts, NAME-1 to NAME-<n>, in one process; for load tests.
    #[arg(long, env = "DVS_REPLICAS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    replicas: Option<u32>,
}

/// When the host tells what.
#[derive(Debug, clap::Args)]
struct TellingArgs {
    /// At most this long between two heartbeats; three missed mean absent.
    #[arg(long, env = "DVS_HEARTBEAT", value_name = "DURATION", default_value = "10s", value_parser = interval)]
    heartbeat: Duration,
    /// How long counters, and other states that change often, have to stand
    /// still to count as settled.
    #[arg(long, env = "DVS_SETTLE", value_name = "DURATION", default_value = "10s", value_parser = dvs_daemon::positive)]
    settle: Duration,
    /// Whether events carry what they tell, or say that it is to be fetched. A
    /// switch can say so for all its hosts.
    #[arg(long, env = "DVS_TELL", value_enum, default_value_t = Tell::Push)]
    tell: Tell,
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tell {
    /// With what they tell.
    Push,
    /// Without; the collector fetches it.
    Notify,
}

/// Which datapath, and how it behaves.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Datapath")]
struct DatapathArgs {
    /// What forwards the packets.
    #[arg(long, env = "DVS_DATAPATH", value_name = "KIND", default_value = "ovs")]
    datapath: Kind,
    /// How long the bus may be away after a change of uplinks, teaming, MTU or
    /// private VLANs, or of a port that the host itself lives behind; then the
    /// change is rolled back, and refused until there is a newer one or it is
    /// tried again with dvsctl resync. 0s: never.
    #[arg(long, env = "DVS_ROLLBACK_AFTER", value_name = "DURATION", default_value = "30s", value_parser = rollback_after)]
    rollback_after: Duration,
    /// How long each call to the emulated datapath takes.
    #[arg(long, env = "DVS_EMULATED_LATENCY", value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    emulated_latency: Duration,
    /// Share of the emulated datapath's steps that fail, 0 to 1.
    #[arg(long, env = "DVS_EMULATED_FAILURE_RATE", value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    emulated_failure_rate: f64,
}

/// The datapaths that there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Open vSwitch on this host.
    Ovs,
    /// In memory: nothing is forwarded; for trials and load tests.
    Emulated,
}

fn interval(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|interval| {
            (Duration::from_millis(100)..=Duration::from_secs(600)).contains(interval)
        })
        .ok_or_else(|| "allowed: 100ms to 10m, written like 500ms, 10s, 2m".to_owned())
}

/// Three steps of the shortest time in which the bus can be asked: a shorter
/// bound would roll changes back that only took a moment to take hold.
fn rollback_after(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|bound| {
            let bounds = Duration::from_secs(3)..=Duration::from_secs(600);
            bound.is_zero() || bounds.contains(bound)
        })
        .ok_or_else(|| "allowed: 0s for never, or 3s to 10m, written like 30s, 2m".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "allowed: 0 to 1, like 0.2".to_owned())
}

fn main() -> ExitCode {
    let Cli {
        service,
        connect,
        who,
        telling,
        datapath,
        ovs,
        command,
    } = Cli::parse();
    dvs_daemon::run(
        "host-agent",
        env!("CARGO_PKG_VERSION"),
        service.settings(),
        command,
        |daemon| start(daemon, connect, who, telling, (datapath, ovs)),
    )
}

async fn start(
    daemon: Daemon,
    connect: ConnectArgs,
    who: Who,
    telling: TellingArgs,
    (datapath, ovs): (DatapathArgs, OvsArgs),
) -> anyhow::Result<()> {
    let node = node();
    let Home {
        host,
        data,
        slot: _held,
    } = home(&daemon, &who, node.as_deref())?;
    tracing::info!(%host, replicas = who.replicas, ledger = %data.display(), "this host");
    let TellingArgs {
        heartbeat,
        settle,
        tell,
    } = telling;
    let DatapathArgs {
        datapath,
        rollback_after,
        emulated_latency: latency,
        emulated_failure_rate: failure_rate,
    } = datapath;
    let settings = HostSettings {
        agent: Uuid::new_v4(),
        node: node.unwrap_or_else(|| "unknown".to_owned()),
        heartbeat,
        quiet: settle,
        datapath: match datapath {
            Kind::Emulated => HostDatapath::Emulated,
            Kind::Ovs => HostDatapath::OpenVswitch,
        },
        rollback_after: (!rollback_after.is_zero()).then_some(rollback_after),
        mode: match tell {
            Tell::Push => TellMode::Push,
            Tell::Notify => TellMode::Notify,
        },
    };
    match datapath {
        Kind::Emulated => {
            let behaviour = Behaviour {
                latency,
                failure_rate,
                ..Behaviour::default()
            };
            let emulated = |host| {
                let datapath = Emulated::new(behaviour.clone(), fastrand::u64(..));
                (host, Arc::new(datapath))
            };
            let hosts = hosts(host, who.replicas)?.into_iter().map(emulated);
            let service = Service {
                data,
                hosts: hosts.collect(),
                settings,
                connect,
            };
            serve(daemon, service).await
        }
        Kind::Ovs => {
            ensure!(
                who.replicas.is_none(),
                "--replicas shares one process; an Open vSwitch is one host's. Leave it out, or give \
                 --datapath emulated"
            );
            let config = ovs.config();
            config.learning.show(daemon.metrics());
            let (ovs, task) = Ovs::start(config, OvsCounts::new(daemon.metrics()));
            daemon.spawn("datapath", async move { Ok(task.await?) });
            let service = Service {
                data,
                hosts: vec![(host, Arc::new(ovs))],
                settings,
                connect,
            };
            serve(daemon, service).await
        }
    }
}

/// A host name and the directory of its ledger.
struct Home {
    host: HostName,
    data: PathBuf,
    /// Kept for its lock.
    slot: Option<Slot>,
}

fn home(daemon: &Daemon, who: &Who, node: Option<&str>) -> anyhow::Result<Home> {
    let data = &daemon.settings().data;
    // An empty variable is how compose files and shells say "not set".
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if let Some(prefix) = given(&who.host_slots) {
        ensure!(
            given(&who.host).is_none(),
            "--host-slots names the host; leave --host out"
        );
        let slot = slots::take(data, &prefix)?;
        return Ok(Home {
            host: slot.host.clone(),
            data: slot.directory.clone(),
            slot: Some(slot),
        });
    }
    let name = given(&who.host)
        .or_else(|| node.map(machine))
        .context("the machine's name can't be read; give --host NAME")?;
    let host = name.parse().context("give --host another NAME")?;
    Ok(Home {
        host,
        data: data.clone(),
        slot: None,
    })
}

/// The machine's name as a host name, which has no dots. What follows the
/// first one stays in it: it tells sites apart.
fn machine(node: &str) -> String {
    node.replace('.', "-")
}

fn hosts(host: HostName, replicas: Option<u32>) -> anyhow::Result<Vec<HostName>> {
    let Some(replicas) = replicas else {
        return Ok(vec![host]);
    };
    let name = |number| {
        format!("{host}-{number}")
            .parse()
            .context("give --host a shorter NAME: replicas add their number to it")
    };
    (1..=replicas).map(name).collect()
}

/// The machine's or container's name, as the kernel has it.
fn node() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_default_name_tells_machines_of_two_sites_apart() {
        let names = ["host-1.sitea.example", "host-1.siteb.example"].map(machine);
        assert_eq!(names, ["host-1-sitea-example", "host-1-siteb-example"]);
        assert!(names.iter().all(|name| name.parse::<HostName>().is_ok()));
    }

    #[test]
    fn replicas_are_numbered_from_one() {
        let host: HostName = "load".parse().unwrap();
        let named = |replicas| -> Vec<String> {
            let hosts = hosts(host.clone(), replicas).unwrap();
            hosts.iter().map(ToString::to_string).collect()
        };
        assert_eq!(named(None), ["load"]);
        assert_eq!(named(Some(2)), ["load-1", "load-2"]);
    }

    #[test]
    fn shares_and_intervals_out_of_range_say_what_is_allowed() {
        assert!(share("1.1").unwrap_err().contains("0 to 1"));
        assert!(share("nan").is_err());
        assert!(rollback_after("1s").unwrap_err().contains("3s to 10m"));
        assert_eq!(rollback_after("0s"), Ok(Duration::ZERO));
        assert!(interval("1ms").unwrap_err().contains("100ms"));
    }
}
