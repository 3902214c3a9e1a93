// SPDX-License-Identifier: Apache-2.0
//! Hosts with emulated datapaths whose VMs the test starts and stops: the real
//! agent, in this process, on a real bus.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dvs_daemon::{Daemon, LogFormat};
use dvs_schemas::v1::{Counters, Link};
use dvs_schemas::{HostName, PortId, SwitchName, TellMode};
use host_agent::datapath::{Behaviour, Device, Emulated, Picture};
use host_agent::host::HostSettings;
use host_agent::service::{Service, serve};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::fleet::Fleet;

/// How long counters stand still to count as settled, here.
///
/// Far longer than the pauses in which a machine that is busy with other tests
/// does nothing, or what moves would seem to stand.
pub const SETTLE: Duration = Duration::from_secs(2);

/// How long a virtual port may take to come, on a machine with much to do.
const WIRED: Duration = Duration::from_secs(30);

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Some hosts of one agent; their ledger goes with the handle.
#[derive(Debug)]
pub struct Machines {
    daemon: Daemon,
    serving: JoinHandle<Result<()>>,
    hosts: BTreeMap<HostName, Arc<Emulated>>,
    data: tempfile::TempDir,
}

/// The switch of these tests.
#[must_use]
pub fn prod() -> SwitchName {
    name("prod")
}

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("tests use valid names")
}

impl Machines {
    /// Starts hosts on a fleet's bus, which is open.
    ///
    /// # Errors
    /// The agent can't be started.
    pub async fn start(fleet: &Fleet, hosts: &[&str]) -> Result<Self> {
        Self::on(fleet, hosts, tempfile::tempdir()?).await
    }

    async fn on(fleet: &Fleet, hosts: &[&str], data: tempfile::TempDir) -> Result<Self> {
        let settings = dvs_daemon::Settings {
            data: data.path().to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            log: "warn".to_owned(),
            log_format: LogFormat::Text,
        };
        let daemon = Daemon::start("host-agent", "test", settings).await?;
        let emulated = hosts.iter().map(|host| {
            let datapath = Emulated::new(Behaviour::default(), 1);
            (name(host), Arc::new(datapath))
        });
        let hosts: BTreeMap<HostName, Arc<Emulated>> = emulated.collect();
        let service = Service {
            data: data.path().to_owned(),
            hosts: hosts.clone().into_iter().collect(),
            settings: HostSettings {
                agent: Uuid::new_v4(),
                node: "test".to_owned(),
                datapath: dvs_schemas::v1::HostDatapath::Emulated,
                heartbeat: HEARTBEAT,
                quiet: SETTLE,
                rollback_after: None,
                mode: TellMode::Push,
            },
            connect: fleet.nats.args(),
        };
        let serving = tokio::spawn(serve(daemon.clone(), service));
        Ok(Self {
            daemon,
            serving,
            hosts,
            data,
        })
    }

    /// Stops the agent and starts it again, with its ledger and with datapaths
    /// that have forgotten everything, as if the machines had rebooted.
    ///
    /// # Errors
    /// It failed, or can't be started.
    pub async fn reboot(self, fleet: &Fleet) -> Result<Self> {
        self.daemon.stop();
        self.serving.await??;
        let hosts: Vec<&str> = self.hosts.keys().map(HostName::as_str).collect();
        Self::on(fleet, &hosts, self.data).await
    }

    /// Stops the agent: its hosts fall silent.
    ///
    /// # Errors
    /// It failed.
    pub async fn stop(self) -> Result<()> {
        self.daemon.stop();
        self.serving.await?
    }

    fn datapath(&self, host: &str) -> Result<&Emulated> {
        let host = self.hosts.get(host);
        Ok(host.context("no such host")?)
    }

    /// A VM with this port starts on a host, or comes there.
    ///
    /// # Errors
    /// There is no such host; nor below.
    pub fn plug(&self, host: &str, port: &str) -> Result<()> {
        self.datapath(host)?
            .plug(&prod(), &name(port), None, Device::default());
        Ok(())
    }

    /// It stops there, or goes.
    ///
    /// # Errors
    /// As above.
    pub fn unplug(&self, host: &str, port: &str) -> Result<()> {
        self.datapath(host)?.unplug(&prod(), &name(port));
        Ok(())
    }

    /// The guest takes its interface up or down.
    ///
    /// # Errors
    /// As above.
    pub fn link(&self, host: &str, port: &str, link: Link) -> Result<()> {
        self.datapath(host)?.link(&prod(), &name(port), link);
        Ok(())
    }

    /// So many frames come from the VM, once it is wired: what it says before
    /// goes nowhere and is not counted.
    ///
    /// # Errors
    /// As above, or it is not wired.
    pub async fn traffic(&self, host: &str, port: &str, packets: u64) -> Result<()> {
        let deadline = Instant::now() + WIRED;
        while !self.has(host, port)? {
            ensure!(Instant::now() < deadline, "{port} is not wired on {host}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let more = Counters {
            ingress_packets: packets,
            ingress_bytes: packets * 100,
            ..Counters::default()
        };
        self.datapath(host)?.traffic(&prod(), &name(port), &more);
        Ok(())
    }

    /// What a host's datapath has.
    ///
    /// # Errors
    /// As above.
    pub fn picture(&self, host: &str) -> Result<Picture> {
        Ok(self.datapath(host)?.picture())
    }

    /// Steps that a host's datapath carried out.
    ///
    /// # Errors
    /// As above.
    pub fn writes(&self, host: &str) -> Result<u64> {
        Ok(self.datapath(host)?.writes())
    }

    /// Whether a host has a virtual port.
    ///
    /// # Errors
    /// As above.
    pub fn has(&self, host: &str, port: &str) -> Result<bool> {
        let port: PortId = name(port);
        let picture = self.datapath(host)?.picture();
        let bridge = picture.get(&prod());
        Ok(bridge.is_some_and(|bridge| bridge.ports.contains_key(&port)))
    }
}
