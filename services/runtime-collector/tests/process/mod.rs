// SPDX-License-Identifier: Apache-2.0
//! The service as a process on a real nats-server.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, BusError, Identity, connect};
use serde_json::Value;

/// Far longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running service; killed with its handle.
pub struct Service {
    process: Child,
    log: Option<BufReader<ChildStderr>>,
}

impl Service {
    /// Starts the service and waits until it serves.
    pub fn start(binary: &str, server: &NatsServer, data: &Path, flags: &[&str]) -> Self {
        let mut service = Self::spawn(binary, &server.url(), data, flags);
        service.until("started");
        // Somebody has to read the log from here on, or a full pipe stops the
        // service.
        let log = service.log.take().unwrap();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        service
    }

    pub fn spawn(binary: &str, url: &str, data: &Path, flags: &[&str]) -> Self {
        let mut process = Command::new(binary)
            .args(["--server", url, "--listen", "127.0.0.1:0"])
            .args(["--log-format", "json", "--log", "debug", "--data"])
            .arg(data)
            .args(flags)
            .env_remove("NATS_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = process.stderr.take().map(BufReader::new);
        Self { process, log }
    }

    /// Reads the log up to a message.
    pub fn until(&mut self, message: &str) -> Value {
        let mut seen = Vec::new();
        for line in self.log.as_mut().unwrap().lines() {
            let line = line.unwrap();
            match serde_json::from_str::<Value>(&line) {
                Ok(entry) if entry["message"] == message => return entry,
                Ok(_) | Err(_) => seen.push(line),
            }
        }
        panic!("no {message:?} in\n{}", seen.join("\n"));
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub async fn bus(server: &NatsServer, name: &str) -> Bus {
    let bus = connect(&server.args(), Identity::operator(name))
        .await
        .unwrap();
    bus.reach(PATIENCE).await.unwrap();
    bus
}

/// Asks as the `nats` command line does: text in, text out. A service that is
/// about to subscribe is asked again.
pub async fn ask(bus: &Bus, subject: &str, text: &str) -> Value {
    let began = std::time::Instant::now();
    loop {
        let asked = bus.request(subject.to_owned(), text.to_owned().into(), PATIENCE);
        match asked.await {
            Ok(message) => return serde_json::from_slice(&message.payload).unwrap(),
            Err(BusError::NoResponder { .. }) if began.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}
