// SPDX-License-Identifier: Apache-2.0
//! A service as a process: signals, exit codes, logs. The test program starts
//! itself as the service; `child` is that service's main.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use dvs_daemon::{Daemon, LogFormat, Settings, healthcheck, run};
use serde_json::Value;

/// What the child does.
const BEHAVIOUR: &str = "DVS_TEST_CHILD";

#[test]
#[ignore = "the service that the other tests start"]
fn child() {
    let behaviour = std::env::var(BEHAVIOUR).unwrap();
    let settings = Settings {
        data: "unused".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        log: "debug".into(),
        log_format: LogFormat::Json,
    };
    let code = run("retry", "0.1.0", settings, None, |daemon| {
        serve(daemon, behaviour)
    });
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

async fn serve(daemon: Daemon, behaviour: String) -> anyhow::Result<()> {
    let stop = daemon.stop_token();
    daemon.spawn("requests", async move {
        stop.cancelled().await;
        Ok(())
    });
    match behaviour.as_str() {
        "fails" => daemon.spawn("events", async { anyhow::bail!("the disk is full") }),
        "panics" => daemon.spawn("events", async { panic!("a fault") }),
        "ends" => daemon.spawn("events", async { Ok(()) }),
        // One part's failure ends another, which may be seen first.
        "drags" => {
            let (failing, failed) = tokio::sync::oneshot::channel::<()>();
            daemon.spawn("effects", async move {
                let _gone = failed.await;
                Ok(())
            });
            let stop = daemon.stop_token();
            daemon.spawn("loop", async move {
                drop(failing);
                stop.cancelled().await;
                anyhow::bail!("the disk is full")
            });
        }
        _ => {}
    }
    daemon.started();
    daemon.stopping().await;
    if behaviour == "hangs" {
        daemon.step("bus", std::future::pending::<()>()).await;
    }
    daemon.step("ledger", async {}).await;
    daemon.parts_ended().await;
    Ok(())
}

struct Service {
    process: Child,
    logs: Lines<BufReader<ChildStderr>>,
}

impl Service {
    fn start(behaviour: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(BEHAVIOUR, behaviour)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let logs = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, logs }
    }

    /// Reads the log up to a message.
    fn until(&mut self, message: &str) -> Value {
        let mut seen = Vec::new();
        for line in self.logs.by_ref() {
            let line = line.unwrap();
            match serde_json::from_str::<Value>(&line) {
                Ok(entry) if entry["message"] == message => return entry,
                Ok(_) | Err(_) => seen.push(line),
            }
        }
        panic!("no {message:?} in\n{}", seen.join("\n"));
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    fn exit_code(mut self) -> Option<i32> {
        // Draining the log lets the process write on.
        self.logs.by_ref().for_each(drop);
        self.process.wait().unwrap().code()
    }
}

#[test]
fn asked_to_stop_it_stops_in_order_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let mut service = Service::start("obeys");
        let listen = service.until("starting")["listen"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        service.until("started");
        healthcheck(listen).unwrap();
        service.signal(signal);
        service.until("asked to stop");
        assert_eq!(service.until("stopping")["step"], "ledger");
        assert_eq!(service.until("stopping")["step"], "parts");
        service.until("stopped");
        assert_eq!(service.exit_code(), Some(0));
    }
}

#[test]
fn asked_twice_it_exits_at_once() {
    let mut service = Service::start("hangs");
    service.until("started");
    service.signal("TERM");
    service.until("asked to stop");
    service.signal("INT");
    assert_eq!(service.exit_code(), Some(128 + 2));
}

#[test]
fn a_part_that_dies_ends_the_service_with_its_reason() {
    for (behaviour, reason) in [
        ("fails", "events: the disk is full"),
        ("panics", "a fault"),
        ("ends", "events: ended, and nobody had asked it to"),
        ("drags", "loop: the disk is full"),
    ] {
        let mut service = Service::start(behaviour);
        let error = service.until("stopped on an error")["error"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(error.contains(reason), "{error}");
        assert_eq!(service.exit_code(), Some(1));
    }
}
