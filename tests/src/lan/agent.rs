// SPDX-License-Identifier: Apache-2.0
//! A host as a fleet knows it: an Open vSwitch and an agent that is a process
//! of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use dvs_ovsdb::testing::Ovs;

use super::{Vm, Wire, plug, unplug};
use crate::fleet::Fleet;

/// The bridge that a switch `prod` has where nobody names another.
const OWN_BRIDGE: &str = "dvs-prod";

/// A host with its Open vSwitch and its agent; both end with it. Its one
/// switch is `prod`, with one uplink at most, `uplink1`.
#[derive(Debug)]
pub struct AgentHost {
    agent: Child,
    /// Its Open vSwitch.
    pub ovs: Ovs,
    /// The bridge of the switch.
    pub bridge: String,
    name: &'static str,
    uplink: Option<String>,
    metrics: u16,
}

impl AgentHost {
    /// Starts one, at one end of a wire if there is one.
    ///
    /// # Errors
    /// A program does not start.
    pub fn start(fleet: &Fleet, name: &'static str, wire: Option<(&Wire, usize)>) -> Result<Self> {
        Self::with_bridge(fleet, name, Ovs::unique("e"), wire)
    }

    /// The same, with this bridge for the switch. Its own one, `dvs-prod`, is
    /// not named to the agent.
    ///
    /// # Errors
    /// A program does not start.
    pub fn with_bridge(
        fleet: &Fleet,
        name: &'static str,
        bridge: String,
        wire: Option<(&Wire, usize)>,
    ) -> Result<Self> {
        let ovs = Ovs::start()?;
        let uplink = wire.map(|(wire, end)| wire.end(end, ovs.namespace()).to_owned());
        // A free port, as far as anybody can know beforehand.
        let metrics = std::net::TcpListener::bind("127.0.0.1:0")?;
        let metrics = metrics.local_addr()?.port();
        let agent = command(fleet, name, &ovs, &bridge, uplink.as_deref(), metrics)?.spawn()?;
        Ok(Self {
            agent,
            ovs,
            bridge,
            name,
            uplink,
            metrics,
        })
    }

    /// kill -9, and another agent on the same ledger.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_agent(&mut self, fleet: &Fleet) -> Result<()> {
        self.kill_agent()?;
        self.start_agent(fleet)
    }

    /// kill -9.
    ///
    /// # Errors
    /// It can't be killed.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.kill()?;
        self.agent.wait()?;
        Ok(())
    }

    /// Another agent on the ledger of the one that was killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_agent(&mut self, fleet: &Fleet) -> Result<()> {
        let Self {
            ovs,
            bridge,
            name,
            uplink,
            metrics,
            ..
        } = self;
        let mut command = command(fleet, name, ovs, bridge, uplink.as_deref(), *metrics)?;
        self.agent = command.spawn()?;
        Ok(())
    }

    /// Process id of its agent.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.agent.id()
    }

    /// What its agent answers over HTTP, with its headers.
    ///
    /// # Errors
    /// The agent doesn't answer.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A number of its agent's metrics.
    ///
    /// # Errors
    /// The agent doesn't answer, or has no such number.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        let value = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find_map(|(found, value)| (found == name).then_some(value));
        let value = value.with_context(|| format!("no {name} in the agent's metrics"))?;
        Ok(value.trim().parse()?)
    }

    /// Plugs a machine in as a port, as libvirt does.
    pub fn plug(&self, vm: &Vm, port: &str) {
        plug(&self.ovs, &self.bridge, vm, port, None);
    }

    /// The same, and says which vNIC it is.
    pub fn plug_as(&self, vm: &Vm, port: &str, vnic: &str) {
        plug(&self.ovs, &self.bridge, vm, port, Some(vnic));
    }

    /// Pulls its plug.
    pub fn unplug(&self, vm: &Vm) {
        unplug(&self.ovs, &self.bridge, vm);
    }
}

fn command(
    fleet: &Fleet,
    name: &str,
    ovs: &Ovs,
    bridge: &str,
    uplink: Option<&str>,
    metrics: u16,
) -> Result<Command> {
    let mut command = fleet.agent(name)?;
    command
        .env("DVS_LISTEN", format!("127.0.0.1:{metrics}"))
        .args(["--datapath", "ovs", "--ovs-datapath", "netdev"])
        .args(["--ovs-db", &ovs.endpoint().to_string()])
        .arg("--ovs-run-dir")
        .arg(ovs.run_dir());
    if bridge != OWN_BRIDGE {
        command.args(["--bridge", &format!("prod={bridge}")]);
    }
    if let Some(uplink) = uplink {
        command.args(["--uplink", &format!("prod/uplink1={uplink}")]);
    }
    Ok(command)
}

impl Drop for AgentHost {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}
