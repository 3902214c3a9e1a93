// SPDX-License-Identifier: Apache-2.0
//! A service's real binary as a process on a real nats-server, for tests: what
//! goes wrong with it fails the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, BusError, Identity, connect};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running service; killed with its handle.
#[derive(Debug)]
pub struct Service {
    process: Child,
    log: mpsc::Receiver<Value>,
    listening: Option<String>,
}

impl Service {
    /// Starts a service and waits until it serves.
    #[must_use]
    pub fn start(binary: &str, server: &NatsServer, data: &Path, flags: &[&str]) -> Self {
        let mut service = Self::spawn(binary, &server.url(), data, flags);
        let starting = service.says("starting");
        service.listening = starting["listen"].as_str().map(str::to_owned);
        let _serving = service.says("started");
        service
    }

    /// Starts a service that may not get as far as to serve.
    #[must_use]
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
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (entries, log) = mpsc::channel();
        // Somebody has to read the log all the time, or a full pipe stops the
        // service.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
                let _nobody_reads_on =
                    entries.send(serde_json::from_str(&line).unwrap_or_default());
            }
        });
        Self {
            process,
            log,
            listening: None,
        }
    }

    /// The next entry of the log with this message.
    #[must_use]
    pub fn says(&self, message: &str) -> Value {
        loop {
            let entry = self.log.recv_timeout(PATIENCE).expect(message);
            if entry["message"] == message {
                return entry;
            }
        }
    }

    /// The messages of the log that have come since the last look.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        let entries = self.log.try_iter();
        let messages = entries.filter_map(|entry| entry["message"].as_str().map(str::to_owned));
        messages.collect()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// What it serves under a path, with the headers.
    pub async fn http(&self, path: &str) -> String {
        let listening = self.listening.as_deref().unwrap();
        let mut stream = tokio::net::TcpStream::connect(listening).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    #[must_use]
    pub fn terminate(self) -> ExitStatus {
        let sent = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        self.end()
    }

    /// Waits until it ends by itself.
    #[must_use]
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

/// A connection as an operator's.
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
    let began = Instant::now();
    loop {
        let asked = bus.request(subject.to_owned(), text.to_owned().into(), PATIENCE);
        match asked.await {
            Ok(message) => return serde_json::from_slice(&message.payload).unwrap(),
            Err(BusError::NoResponder { .. }) if began.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}
