// SPDX-License-Identifier: Apache-2.0
//! The publisher as a process.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_nats::Message;
use dvs_transport::{Bus, BusError};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running publisher; killed with its handle.
pub(crate) struct Publisher {
    process: Child,
    listening: String,
    log: mpsc::Receiver<Value>,
}

fn command(url: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_config-publisher"));
    command
        .args(["--server", url, "--listen", "127.0.0.1:0"])
        .args(["--log-format", "json", "--data"])
        .arg(data)
        .env_remove("NATS_CONTEXT")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Publisher {
    /// Starts it and waits until it serves.
    pub(crate) fn start(url: &str, data: &Path, flags: &[&str]) -> Self {
        let mut process = command(url, data).args(flags).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut listening = None;
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "it ended at the start"
            );
            let entry: Value = serde_json::from_str(&line).unwrap();
            if let Some(listen) = entry["listen"].as_str() {
                listening = Some(listen.to_owned());
            }
            if entry["message"] == "started" {
                break;
            }
        }
        // Somebody has to read the log from here on, or a full pipe stops it.
        let (entries, kept) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                // Nobody may read on.
                let _ = entries.send(serde_json::from_str(&line).unwrap_or_default());
            }
        });
        Self {
            process,
            listening: listening.unwrap(),
            log: kept,
        }
    }

    /// Starts it where it can't start, and returns what it says.
    pub(crate) fn fail(url: &str, data: &Path) -> (ExitStatus, String) {
        let mut process = command(url, data).spawn().unwrap();
        let mut log = String::new();
        process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (process.wait().unwrap(), log)
    }

    /// The next entry of its log with this message.
    pub(crate) fn logs(&self, message: &str) -> Value {
        loop {
            let entry = self.log.recv_timeout(PATIENCE).expect(message);
            if entry["message"] == message {
                return entry;
            }
        }
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap()
    }

    /// What it serves under a path.
    pub(crate) async fn http(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(&self.listening)
            .await
            .unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks as the `nats` command line does: text in, text out. A service that is
/// about to subscribe is asked again.
pub(crate) async fn ask(bus: &Bus, subject: &str, text: &str) -> Value {
    let began = Instant::now();
    loop {
        let asked = bus.request(subject.to_owned(), text.to_owned().into(), PATIENCE);
        match asked.await {
            Ok(message) => {
                let reply: Value = serde_json::from_slice(&message.payload).unwrap();
                assert!(reply.get("error").is_none(), "{text}: {reply}");
                return reply;
            }
            Err(BusError::NoResponder { .. }) if began.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The number and the words that a refusal carries in its headers.
pub(crate) fn headers(message: &Message) -> (String, String) {
    let headers = message.headers.as_ref().unwrap();
    let text = |name| headers.get(name).unwrap().as_str().to_owned();
    (text("Nats-Service-Error-Code"), text("Nats-Service-Error"))
}
