// SPDX-License-Identifier: Apache-2.0
//! A host as it stands in a rack: its agent lives in the network namespace of
//! its Open vSwitch and reaches the bus over a cable, as an address of its own.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use dvs_ovsdb::testing::Ovs;

use super::{Wire, run};
use crate::fleet::Fleet;

/// The host; all of it ends with it.
#[derive(Debug)]
pub struct RackHost {
    agent: Option<Child>,
    /// Its Open vSwitch.
    pub ovs: Ovs,
    name: &'static str,
    cable: Wire,
    network: String,
}

impl RackHost {
    /// One without an agent, and without an address yet. The cable leads to
    /// where the bus is.
    ///
    /// # Errors
    /// Open vSwitch does not start.
    pub fn start(name: &'static str) -> Result<Self> {
        let ovs = Ovs::start()?;
        let cable = Wire::new();
        cable.end(0, ovs.namespace());
        let outside = cable.name(1);
        // Tests are processes that run side by side.
        let process = std::process::id();
        let network = format!("10.{}.{}", 64 + (process >> 8) % 128, process & 0xff);
        let address = format!("{network}.1/24");
        run("ip", &["addr", "add", &address, "dev", outside]);
        run("ip", &["link", "set", outside, "up"]);
        Ok(Self {
            agent: None,
            ovs,
            name,
            cable,
            network,
        })
    }

    /// The device at its end of the cable.
    #[must_use]
    pub fn nic(&self) -> &str {
        self.cable.name(0)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}.2", self.network)
    }

    /// Runs `ip` there.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run("ip", &[&["-n", self.ovs.namespace()], arguments].concat())
    }

    /// Gives its address to a device.
    pub fn lives_on(&self, device: &str) {
        let address = format!("{}/24", self.address());
        self.ip(&["addr", "add", &address, "dev", device]);
        self.ip(&["link", "set", device, "up"]);
    }

    /// Takes its address from a device.
    pub fn leaves(&self, device: &str) {
        let address = format!("{}/24", self.address());
        self.ip(&["addr", "del", &address, "dev", device]);
    }

    /// True if the outside reaches it.
    ///
    /// # Errors
    /// There is no `ping`.
    pub fn is_reached(&self) -> Result<bool> {
        let mut ping = Command::new("ping");
        ping.args(["-c", "1", "-W", "1", &self.address()]);
        Ok(ping.stdout(Stdio::null()).status()?.success())
    }

    /// Starts its agent, with further arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_agent(&mut self, fleet: &Fleet, arguments: &[&str]) -> Result<()> {
        let agent = fleet.agent(self.name)?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.ovs.namespace()])
            .arg(agent.get_program())
            .args(agent.get_args())
            .args(["--datapath", "ovs", "--ovs-datapath", "netdev"])
            .args(["--ovs-db", &self.ovs.endpoint().to_string()])
            .arg("--ovs-run-dir")
            .arg(self.ovs.run_dir())
            .args(arguments);
        for (key, value) in agent.get_envs() {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        let bus = format!("nats://{}.1:{}", self.network, fleet.nats.port());
        command.env("NATS_URL", bus);
        let log = fleet.agent_log_file(self.name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.agent = Some(command.spawn()?);
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_agent(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("no agent")?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }
}

impl Drop for RackHost {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}
