// SPDX-License-Identifier: Apache-2.0
//! A real nats-server for tests: started on a free port, stopped and restarted
//! on the same port, gone with its handle.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ConnectArgs;

/// Far longer than a start takes on a loaded machine.
const START: Duration = Duration::from_secs(30);

/// Where a server listens unless others are to reach it.
const LOOPBACK: &str = "127.0.0.1";

/// A nats-server process.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    folder: tempfile::TempDir,
    config: Option<PathBuf>,
    address: &'static str,
    port: u16,
}

impl NatsServer {
    /// Starts a server on a free port of 127.0.0.1, open to everybody.
    ///
    /// # Errors
    /// There is no nats-server, or it doesn't start; the text says more.
    pub fn start() -> io::Result<Self> {
        Self::launch(None, LOOPBACK)
    }

    /// Starts a server with a configuration, given as text; address and port
    /// are set by the command line.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_config(text: &str) -> io::Result<Self> {
        Self::launch(Some(text), LOOPBACK)
    }

    /// The same, for clients of other network namespaces as well.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn for_others(text: &str) -> io::Result<Self> {
        Self::launch(Some(text), "0.0.0.0")
    }

    fn launch(text: Option<&str>, address: &'static str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = text.map(|_| folder.path().join("nats.conf"));
        if let (Some(path), Some(text)) = (&config, text) {
            std::fs::write(path, text)?;
        }
        let mut server = Self {
            child: None,
            folder,
            config,
            address,
            port: 0,
        };
        server.run()?;
        Ok(server)
    }

    /// The server's port; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Folder of the server's files, for more of them.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Connection settings for the server, without credentials.
    #[must_use]
    pub fn args(&self) -> ConnectArgs {
        ConnectArgs {
            server: Some(self.url()),
            ..ConnectArgs::default()
        }
    }

    /// Kills the server, as a crash would.
    ///
    /// # Errors
    /// The process can't be killed.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the server again, on its port.
    ///
    /// # Errors
    /// As [`Self::start`]; also when another process took the port meanwhile.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.run()
    }

    /// Gives a server that has a configuration another one, while it runs.
    ///
    /// # Errors
    /// It was started without, or can't be told.
    pub fn reload(&self, text: &str) -> io::Result<()> {
        let (Some(config), Some(child)) = (&self.config, &self.child) else {
            return Err(io::Error::other("a server that runs by a configuration"));
        };
        std::fs::write(config, text)?;
        let told = Command::new(binary())
            .arg("--signal")
            .arg(format!("reload={}", child.id()))
            .status()?;
        if told.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("nats-server --signal: {told}")))
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let port = if self.port == 0 {
            "-1".to_owned()
        } else {
            self.port.to_string()
        };
        let binary = binary();
        let log = self.folder.path().join("nats.log");
        let mut command = Command::new(&binary);
        command
            .args(["--addr", self.address, "--port", &port, "--ports_file_dir"])
            .arg(self.folder.path());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        let child = command.spawn().map_err(|error| {
            io::Error::other(format!(
                "{} can't be started ({error}); set DVS_NATS_SERVER to a nats-server",
                binary.display()
            ))
        })?;
        let child = self.child.insert(child);
        let ports = self
            .folder
            .path()
            .join(format!("nats-server_{}.ports", child.id()));
        let started = Instant::now();
        while started.elapsed() < START {
            if let Some(port) = read_port(&ports) {
                self.port = port;
                return Ok(());
            }
            if child.try_wait()?.is_some() {
                break;
            }
            // A file that another process writes can't be awaited portably.
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        Err(io::Error::other(format!(
            "nats-server did not start:\n{log}"
        )))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // Nothing is left to do about a process that can't be killed.
        let _ = self.stop();
    }
}

/// The port in a ports file; none while it isn't (wholly) written.
fn read_port(path: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(path).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// `DVS_NATS_SERVER`, else the one that `ops/test` installs, else the path's.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DVS_NATS_SERVER").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/nats-server");
    if installed.exists() {
        installed
    } else {
        "nats-server".into()
    }
}
