// SPDX-License-Identifier: Apache-2.0
//! A host as it stands in a rack: its agent lives in the network namespace of
//! its Open vSwitch and reaches the bus over a cable, as an address of its own.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use dvs_ovsdb::testing::Ovs;

use super::{Wire, run};
use crate::fleet::Fleet;

/// Makes a device write the checksums of what it sends (ETHTOOL_STXCSUM of
/// linux/ethtool.h).
const CHECKSUMS: &str = "
import array, fcntl, socket, struct, sys
command = array.array('I', [0x17, 0])
request = struct.pack('16sP16x', sys.argv[1].encode(), command.buffer_info()[0])
fcntl.ioctl(socket.socket(), 0x8946, request)
";

/// A cable between the host and where the bus is, and its network.
#[derive(Debug)]
pub struct Cable {
    wire: Wire,
    network: String,
}

impl Cable {
    /// One whose far end has the first address of its network.
    fn new(ovs: &Ovs, number: u32) -> Self {
        let wire = Wire::new();
        wire.end(0, ovs.namespace());
        // Tests are processes that run side by side.
        let process = std::process::id() % 0x1000 * 2 + number;
        let network = format!("10.{}.{}", 64 + (process >> 8), process & 0xff);
        let address = format!("{network}.1/24");
        run("ip", &["addr", "add", &address, "dev", wire.name(1)]);
        run("ip", &["link", "set", wire.name(1), "up"]);
        // Open vSwitch in user space takes frames as they are on the wire, and
        // a virtual one leaves checksums to whoever reads.
        run("python3", &["-c", CHECKSUMS, wire.name(1)]);
        Self { wire, network }
    }

    /// The device at the host's end.
    #[must_use]
    pub fn nic(&self) -> &str {
        self.wire.name(0)
    }

    /// The host's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}.2", self.network)
    }

    /// True if that is reached from the far end.
    ///
    /// # Errors
    /// There is no `ping`.
    pub fn reaches(&self) -> Result<bool> {
        let mut ping = Command::new("ping");
        ping.args(["-c", "1", "-W", "1", &self.address()]);
        Ok(ping.stdout(Stdio::null()).status()?.success())
    }
}

/// The host; all of it ends with it.
#[derive(Debug)]
pub struct RackHost {
    agent: Option<Child>,
    /// Its Open vSwitch.
    pub ovs: Ovs,
    name: &'static str,
    /// Cables to the bus.
    pub cables: [Cable; 2],
}

impl RackHost {
    /// One without an agent, and without addresses yet.
    ///
    /// # Errors
    /// Open vSwitch does not start.
    pub fn start(name: &'static str) -> Result<Self> {
        let ovs = Ovs::start()?;
        Ok(Self {
            cables: [0, 1].map(|number| Cable::new(&ovs, number)),
            agent: None,
            ovs,
            name,
        })
    }

    /// Runs `ip` there.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run("ip", &[&["-n", self.ovs.namespace()], arguments].concat())
    }

    /// Gives its address in the network of a cable to a device.
    pub fn lives_on(&self, device: &str, cable: usize) {
        let address = format!("{}/24", self.cables[cable].address());
        self.ip(&["addr", "add", &address, "dev", device]);
        self.ip(&["link", "set", device, "up"]);
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
            .args(["--datapath", "ovs"])
            .args(["--ovs-db", &self.ovs.endpoint().to_string()])
            .arg("--ovs-run-dir")
            .arg(self.ovs.run_dir())
            .args(arguments);
        for (key, value) in agent.get_envs() {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        let port = fleet.nats.port();
        let [a, b] = &self.cables;
        let bus = [a, b].map(|cable| format!("nats://{}.1:{port}", cable.network));
        command.env("NATS_URL", bus.join(","));
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
