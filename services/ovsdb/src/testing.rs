// SPDX-License-Identifier: Apache-2.0
//! A real Open vSwitch for tests: an `ovsdb-server` and an `ovs-vswitchd` of
//! their own, in a temporary directory, forwarding in user space. Each switch is
//! in a network namespace of its own, as hosts are: in one it would share the
//! names of devices, of which one is its own, with all others.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::session::{Options, Wanted};

/// Where Debian has the programs that users' paths lack.
const PLACES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Where the schema is, by distribution.
const SCHEMAS: [&str; 2] = [
    "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/local/share/openvswitch/vswitch.ovsschema",
];

/// How long programs may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a private Open vSwitch can't run here, if so.
///
/// # Errors
/// What is missing.
pub fn available() -> Result<(), String> {
    let uid = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = uid.lines().any(|line| {
        line.strip_prefix("Uid:")
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
    });
    if !root {
        return Err("only root may make network devices".to_owned());
    }
    for name in [
        "ip",
        "ovsdb-server",
        "ovsdb-tool",
        "ovs-vswitchd",
        "ovs-vsctl",
        "ovs-ofctl",
    ] {
        if program(name).is_none() {
            return Err(format!(
                "{name} is not installed (Debian: openvswitch-switch, iproute2)"
            ));
        }
    }
    schema().map(drop)
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

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = path.into_iter().chain(PLACES.map(PathBuf::from));
    places
        .map(|place| place.join(name))
        .find(|file| file.is_file())
}

/// One of Open vSwitch's programs, wherever this machine has it; what it starts
/// itself is found as well.
///
/// # Errors
/// It is nowhere.
pub fn command(name: &str) -> io::Result<Command> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"));
    let mut command = Command::new(program(name).ok_or_else(missing)?);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    let path = std::env::join_paths(path).map_err(io::Error::other)?;
    command.env("PATH", path).stdin(Stdio::null());
    Ok(command)
}

fn schema() -> Result<PathBuf, String> {
    // Open vSwitch's own variable, where it was not installed in its place.
    let given = std::env::var_os("OVS_PKGDATADIR").map(PathBuf::from);
    let given = given.map(|directory| directory.join("vswitch.ovsschema"));
    let mut files = given.into_iter().chain(SCHEMAS.map(PathBuf::from));
    let missing = || "vswitch.ovsschema is not installed (Debian: openvswitch-switch)";
    files
        .find(|file| file.is_file())
        .ok_or_else(|| missing().to_owned())
}

/// A private Open vSwitch. Ends, with all of its devices, when dropped.
#[derive(Debug)]
pub struct Ovs {
    directory: tempfile::TempDir,
    database: Option<Child>,
    vswitchd: Option<Child>,
    tcp: u16,
    namespace: String,
}

impl Ovs {
    /// Starts one.
    ///
    /// # Errors
    /// A program can't be started, or doesn't come up.
    pub fn start() -> io::Result<Self> {
        let schema = schema().map_err(io::Error::other)?;
        // A free port, as far as anybody can know beforehand.
        let tcp = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut ovs = Self {
            directory: tempfile::Builder::new().prefix("ovs-").tempdir()?,
            database: None,
            vswitchd: None,
            tcp,
            namespace: Self::unique("ovs-"),
        };
        ovs.run("ip", &["netns", "add", &ovs.namespace])?;
        ovs.run("ip", &["-n", &ovs.namespace, "link", "set", "lo", "up"])?;
        let file = ovs.file("conf.db");
        ovs.run("ovsdb-tool", &["create", &text(&file), &text(&schema)])?;
        ovs.start_db()?;
        ovs.vsctl(&["--no-wait", "init"])?;
        ovs.start_vswitchd()?;
        Ok(ovs)
    }

    /// The network namespace where its devices are.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where its sockets are.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its database.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.file("db.sock"))
    }

    /// Its database, over TCP.
    #[must_use]
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp("127.0.0.1".to_owned(), self.tcp)
    }

    /// Options for a session with its database.
    #[must_use]
    pub fn options(&self, wanted: Wanted) -> Options {
        Options {
            endpoint: self.endpoint(),
            tls: None,
            database: "Open_vSwitch".to_owned(),
            wanted,
            patience: PATIENCE,
            probe: Duration::from_secs(5),
        }
    }

    /// A name for a device that no other test has, of 12 bytes at most.
    #[must_use]
    pub fn unique(prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id() % 1_000_000;
        let mut name = format!("{prefix}{process:x}-{number:x}");
        name.truncate(12);
        name
    }

    fn command(&self, name: &str) -> io::Result<Command> {
        let mut command = command(name)?;
        let directory = self.directory.path();
        command
            .env("OVS_RUNDIR", directory)
            .env("OVS_LOGDIR", directory)
            .env("OVS_DBDIR", directory);
        Ok(command)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> io::Result<String> {
        let mut command = self.command(name)?;
        let Output {
            status,
            stdout,
            stderr,
        } = command.args(arguments).output()?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&stderr);
        Err(io::Error::other(format!("{name} {arguments:?}: {said}")))
    }

    /// `ovs-vsctl` on its database.
    ///
    /// # Errors
    /// What it says.
    pub fn vsctl(&self, arguments: &[&str]) -> io::Result<String> {
        let db = format!("--db={}", self.endpoint());
        let arguments: Vec<&str> = [db.as_str(), "--timeout=20"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        self.run("ovs-vsctl", &arguments)
    }

    /// `ovs-ofctl -O OpenFlow15`; bridges are named by their sockets.
    ///
    /// # Errors
    /// What it says.
    pub fn ofctl(&self, command: &str, bridge: &str, more: &[&str]) -> io::Result<String> {
        let socket = format!("unix:{}", self.file(&format!("{bridge}.mgmt")).display());
        let arguments: Vec<&str> = ["-O", "OpenFlow15", command, socket.as_str()]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        self.run("ovs-ofctl", &arguments)
    }

    /// `ovs-appctl` to its `ovs-vswitchd`.
    ///
    /// # Errors
    /// What it says.
    pub fn appctl(&self, arguments: &[&str]) -> io::Result<String> {
        let target = text(&self.vswitchd_socket());
        let arguments: Vec<&str> = ["-t", target.as_str()]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        self.run("ovs-appctl", &arguments)
    }

    /// The control socket of its `ovs-vswitchd`.
    #[must_use]
    pub fn vswitchd_socket(&self) -> PathBuf {
        let pid = self.vswitchd.as_ref().map_or(0, Child::id);
        self.file(&format!("ovs-vswitchd.{pid}.ctl"))
    }

    /// Starts the database server.
    ///
    /// # Errors
    /// It doesn't come up.
    pub fn start_db(&mut self) -> io::Result<()> {
        let socket = self.file("db.sock");
        let mut command = self.command("ovsdb-server")?;
        command
            // First, or it says on the console where its log is.
            .arg("-vconsole:off")
            .arg(self.file("conf.db"))
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(format!("--remote=ptcp:{}:127.0.0.1", self.tcp))
            .arg(format!(
                "--pidfile={}",
                self.file("ovsdb-server.pid").display()
            ))
            .arg(format!(
                "--log-file={}",
                self.file("ovsdb-server.log").display()
            ));
        self.database = Some(command.spawn()?);
        until(|| socket.exists() && std::os::unix::net::UnixStream::connect(&socket).is_ok())
    }

    /// Starts the switch.
    ///
    /// # Errors
    /// It doesn't come up.
    pub fn start_vswitchd(&mut self) -> io::Result<()> {
        let mut command = self.command("ip")?;
        command
            .args(["netns", "exec", &self.namespace, "ovs-vswitchd"])
            .arg("-vconsole:off")
            .arg(self.endpoint().to_string())
            .arg(format!(
                "--pidfile={}",
                self.file("ovs-vswitchd.pid").display()
            ))
            .arg(format!(
                "--log-file={}",
                self.file("ovs-vswitchd.log").display()
            ))
            // The kernel's module, where there is one, is not for tests. Of type
            // dummy are interfaces without device.
            .args(["--disable-system", "--enable-dummy"]);
        self.vswitchd = Some(command.spawn()?);
        let socket = self.vswitchd_socket();
        until(|| std::os::unix::net::UnixStream::connect(&socket).is_ok())
    }

    /// Ends the switch as an upgrade does: its devices stay.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn stop_vswitchd(&mut self) -> io::Result<()> {
        self.appctl(&["exit"])?;
        ended(&mut self.vswitchd)
    }

    /// Kills the switch.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn kill_vswitchd(&mut self) -> io::Result<()> {
        killed(&mut self.vswitchd)
    }

    /// Kills the database server.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn kill_db(&mut self) -> io::Result<()> {
        killed(&mut self.database)
    }

    /// What the switch has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("ovs-vswitchd.log")).unwrap_or_default()
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        if self.vswitchd.is_some() && self.appctl(&["exit", "--cleanup"]).is_ok() {
            drop(ended(&mut self.vswitchd));
        }
        drop(killed(&mut self.vswitchd));
        drop(killed(&mut self.database));
        drop(self.run("ip", &["netns", "del", &self.namespace]));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn until(mut holds: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ended(child: &mut Option<Child>) -> io::Result<()> {
    if let Some(mut child) = child.take() {
        let end = until(|| matches!(child.try_wait(), Ok(Some(_))));
        if end.is_err() {
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(())
}

fn killed(child: &mut Option<Child>) -> io::Result<()> {
    if let Some(mut child) = child.take() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
