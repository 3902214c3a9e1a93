// SPDX-License-Identifier: Apache-2.0
//! Hosts with a real libvirt and QEMU, and a guest that migrates between them
//! under the eyes of a client beyond the physical switch. QEMU translates, so
//! no hardware is needed; the programs are those that `ops/tools libvirt`
//! opened.

mod guest;
mod outage;
mod site;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dvs_ovsdb::testing::available as openvswitch;

use crate::fleet::Fleet;
use crate::lan::{AgentHost, Wire};

pub use guest::{Guest, Network};
pub use outage::{Answers, Echo};
pub use site::Site;

/// The bridge of the switch, on every hypervisor: libvirt takes a guest's
/// interface to a bridge of the same name.
const SWITCHED: &str = "dvs-prod";

/// The bridge beside it, as Open vSwitch is without dvswitch.
const PLAIN: &str = "plain";

/// How long libvirt may take to begin. It asks QEMU what it can do first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where `ops/tools libvirt` opens its packages.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/libvirt")
}

/// Why no hypervisor can run here, if so.
///
/// # Errors
/// What is missing.
pub fn available() -> Result<(), String> {
    openvswitch()?;
    let complete = packages().join("complete");
    if complete.is_file() {
        Ok(())
    } else {
        let what = "libvirt and QEMU are not there; get them with: ops/tools libvirt";
        Err(what.to_owned())
    }
}

/// Says that a test is skipped, and why; true if it is to be. Where CI is set
/// nothing is ever skipped.
///
/// # Panics
/// CI is set.
#[must_use]
pub fn skipped(test: &str) -> bool {
    match available() {
        Ok(()) => false,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{test} can't run: {why}");
            eprintln!("skipped: {test}: {why}");
            true
        }
    }
}

/// A host with libvirt, an Open vSwitch with two bridges, and an agent for one
/// of them. Its guests end with it.
#[derive(Debug)]
pub struct Hypervisor {
    /// First, so that guests end before their switch.
    libvirtd: Libvirtd,
    /// The host as the fleet knows it.
    pub host: AgentHost,
    name: &'static str,
    sockets: PathBuf,
    _wires: [Wire; 2],
}

impl Hypervisor {
    /// Starts one whose bridges reach the fabric of a site by a wire each.
    ///
    /// # Errors
    /// A program doesn't start.
    pub fn start(fleet: &Fleet, site: &Site, name: &'static str) -> Result<Self> {
        let wires = [Wire::new(), Wire::new()];
        let [switched, plain] = &wires;
        let bridge = SWITCHED.to_owned();
        let host = AgentHost::with_bridge(fleet, name, bridge, Some((switched, 0)))?;
        let uplink = plain.end(0, host.ovs.namespace());
        let netdev = ["--", "set", "Bridge", PLAIN, "datapath_type=netdev"];
        let port = ["--", "add-port", PLAIN, uplink];
        let add = ["add-br", PLAIN];
        host.ovs.vsctl(&[&add[..], &netdev, &port].concat())?;
        for wire in &wires {
            site.join(wire, 1, None)?;
        }
        let libvirtd = Libvirtd::start(site, name, &host)?;
        let sockets = site.folder().join(name);
        let mut hypervisor = Self {
            libvirtd,
            host,
            name,
            sockets,
            _wires: wires,
        };
        hypervisor.ready()?;
        Ok(hypervisor)
    }

    /// How other hypervisors and `virsh` reach its libvirt.
    fn uri(&self) -> String {
        let socket = self.sockets.join("libvirt-sock");
        format!("qemu+unix:///system?socket={}", socket.display())
    }

    fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.virsh(&["list"]) {
            let Libvirtd { process, log } = &mut self.libvirtd;
            let runs = process.try_wait()?.is_none() && Instant::now() < deadline;
            ensure!(runs, "{error:#}\n{}", std::fs::read_to_string(log)?);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// `virsh` on its libvirt.
    ///
    /// # Errors
    /// What it says.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String> {
        let packages = packages().join("usr");
        let opened = packages.join("bin/virsh");
        let program = if opened.is_file() {
            opened
        } else {
            PathBuf::from("virsh")
        };
        let output = Command::new(program)
            .env("LD_LIBRARY_PATH", packages.join("lib/x86_64-linux-gnu"))
            .args(["--quiet", "--connect", &self.uri()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("virsh")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("host {}: virsh {arguments:?}: {said}", self.name)
    }

    /// Starts a guest.
    ///
    /// # Errors
    /// libvirt can't.
    pub fn boot(&self, site: &Site, guest: &Guest) -> Result<()> {
        self.create(site, guest, &[])
    }

    /// Plugs a guest in that executes nothing.
    ///
    /// # Errors
    /// libvirt can't.
    pub fn plug(&self, site: &Site, guest: &Guest) -> Result<()> {
        self.create(site, guest, &["--paused"])
    }

    fn create(&self, site: &Site, guest: &Guest, more: &[&str]) -> Result<()> {
        let file = site.folder().join(format!("{}.xml", guest.name));
        std::fs::write(&file, guest.domain(site, [PLAIN, SWITCHED]))?;
        let create = ["create", &file.display().to_string()];
        self.virsh(&[&create[..], more].concat())?;
        Ok(())
    }

    /// Starts a machine that libvirt knows nothing of, with a tap of its own
    /// that is plugged in as a port. It executes nothing.
    ///
    /// # Errors
    /// QEMU doesn't start.
    pub fn bare(&self, tap: &str, port: &str) -> Result<Bare> {
        let packages = packages().join("usr");
        let mut folders = Vec::new();
        for folder in ["qemu", "seabios"] {
            folders.push("-L".into());
            folders.push(packages.join("share").join(folder));
        }
        let network = format!("tap,id=network,ifname={tap},script=no,downscript=no");
        let qemu = Command::new("ip")
            .args(["netns", "exec", self.host.ovs.namespace()])
            .arg(packages.join("bin/qemu-system-x86_64"))
            .env("LD_LIBRARY_PATH", packages.join("lib/x86_64-linux-gnu"))
            .args(["-S", "-nodefaults", "-display", "none", "-netdev", &network])
            .args(["-device", "virtio-net-pci,netdev=network,romfile="])
            .args(folders)
            .stdin(Stdio::null())
            .spawn()
            .context("QEMU")?;
        let mut machine = Bare(qemu);
        let up = ["-n", self.host.ovs.namespace(), "link", "set", tap, "up"];
        let deadline = Instant::now() + PATIENCE;
        while !Command::new("ip").args(up).output()?.status.success() {
            let runs = machine.0.try_wait()?.is_none() && Instant::now() < deadline;
            ensure!(runs, "QEMU makes no {tap}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.row(tap, port)?;
        Ok(machine)
    }

    /// Adds a row for an interface that is to be a port.
    ///
    /// # Errors
    /// The database refuses it.
    pub fn row(&self, interface: &str, port: &str) -> Result<()> {
        let add = ["--no-wait", "add-port", SWITCHED, interface];
        let id = format!("external_ids:iface-id={port}");
        let set = ["--", "set", "Interface", interface, &id];
        self.host.ovs.vsctl(&[&add[..], &set].concat())?;
        Ok(())
    }

    /// Pulls a guest's power plug.
    ///
    /// # Errors
    /// It isn't here.
    pub fn destroy(&self, guest: &Guest) -> Result<()> {
        self.virsh(&["destroy", &guest.name]).map(drop)
    }

    /// Moves a running guest to another hypervisor, as one libvirt asks the
    /// other.
    ///
    /// # Errors
    /// libvirt can't.
    pub fn migrate(&self, site: &Site, guest: &Guest, to: &Self) -> Result<()> {
        self.migration(site, guest, to, &[])
    }

    /// The same, but too slow to end, and given up once the other host has
    /// plugged the guest in.
    ///
    /// # Errors
    /// libvirt can't, or it ends all the same.
    pub fn give_up_migration(&self, site: &Site, guest: &Guest, to: &Self) -> Result<()> {
        // 1 MiB/s: many times longer than it takes to give it up.
        let slow = ["--bandwidth", "1"];
        std::thread::scope(|threads| {
            let migration = threads.spawn(|| self.migration(site, guest, to, &slow));
            let deadline = Instant::now() + PATIENCE;
            let waits = format!(
                "external_ids:vm-id={}",
                self.virsh(&["domuuid", &guest.name])?
            );
            let find = [
                "--bare",
                "--columns=name",
                "find",
                "Interface",
                waits.trim(),
            ];
            while to.host.ovs.vsctl(&find)?.lines().count() < 2 {
                ensure!(Instant::now() < deadline, "the other host plugs nothing in");
                std::thread::sleep(Duration::from_millis(50));
            }
            self.virsh(&["domjobabort", &guest.name])?;
            let end = migration.join();
            ensure!(matches!(end, Ok(Err(_))), "it wasn't given up: {end:?}");
            Ok(())
        })
    }

    fn migration(&self, site: &Site, guest: &Guest, to: &Self, more: &[&str]) -> Result<()> {
        let socket = site.folder().join("migration");
        let data = format!("unix://{}", socket.display());
        let peer_to_peer = ["migrate", "--live", "--p2p"];
        let whom = [&guest.name, &to.uri(), "--migrateuri", &data];
        self.virsh(&[&peer_to_peer[..], &whom, more].concat())?;
        Ok(())
    }
}

/// A QEMU that nobody looks after.
#[derive(Debug)]
pub struct Bare(Child);

impl Bare {
    /// kill -9: its tap goes with it, and what is said of that in databases
    /// stays.
    ///
    /// # Errors
    /// It can't be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// libvirt's daemon, and with it the namespaces where the guests are.
#[derive(Debug)]
struct Libvirtd {
    process: Child,
    log: PathBuf,
}

impl Libvirtd {
    fn start(site: &Site, name: &str, host: &AgentHost) -> Result<Self> {
        let folder = site.folder();
        std::fs::create_dir(folder.join(name))?;
        std::fs::create_dir(folder.join(format!("{name}.root")))?;
        let log = folder.join(format!("{name}.log"));
        let written = std::fs::File::create(&log)?;
        let process = Command::new("ip")
            .args(["netns", "exec", host.ovs.namespace()])
            // When it ends, everything inside does.
            .args(["unshare", "--mount", "--uts", "--pid", "--fork"])
            .args(["--kill-child", "sh", "-c", include_str!("root.sh")])
            .arg("root.sh")
            .args([&packages(), folder])
            .arg(name)
            .arg(host.ovs.run_dir())
            .stdin(Stdio::null())
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()
            .context("ip netns exec unshare")?;
        Ok(Self { process, log })
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // Nothing is left to do about a process that can't be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
