// SPDX-License-Identifier: Apache-2.0
//! Two agents with the name of one host, as real processes on a real bus: a
//! clone that starts beside it, the host's own agent frozen and thawed, and the
//! end of the clone.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use anyhow::Result;
use dvs_tests::fleet::{Fleet, Program, Settings};
use dvs_tests::operator::Operator;
use serde_json::{Value, json};

/// An agent with a ledger and a datapath of its own; ends with the handle.
struct Clone {
    child: Child,
    listens: u16,
    _data: tempfile::TempDir,
}

impl Clone {
    /// Starts one with the name of the fleet's host.
    fn start(fleet: &Fleet) -> Result<Self> {
        let data = tempfile::tempdir()?;
        // A free port, as far as anybody can know beforehand.
        let listens = std::net::TcpListener::bind("127.0.0.1:0")?;
        let listens = listens.local_addr()?.port();
        let child = fleet
            .command_in(Program::Agent, data.path())?
            .env("DVS_LISTEN", format!("127.0.0.1:{listens}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            listens,
            _data: data,
        })
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listens))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Steps that its datapath carried out.
    fn writes(&self) -> Result<u64> {
        let text = self.get("/metrics")?;
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("dvs_datapath_writes_total "));
        Ok(count.unwrap_or("0").trim().parse()?)
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    anyhow::ensure!(sent?.success(), "{name} could not be sent");
    Ok(())
}

fn site(vlan: u16) -> Value {
    json!([
        {"kind": "Switch", "name": "prod"},
        {"kind": "PortGroup", "name": "web", "switch": "prod", "policy": {"vlan": {"access": vlan}}},
        {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "host-1"},
    ])
}

async fn host(operator: &Operator) -> Result<Value> {
    Ok(operator.hosts().await?.remove(0))
}

/// Waits until the host's agent is in a session after this one, with so many
/// namesakes. Returns the session.
async fn session(fleet: &Fleet, after: u64, namesakes: usize) -> Result<u64> {
    let named = |host: &Value| host["namesakes"].as_array().map_or(0, Vec::len);
    let found = fleet
        .until(
            &format!("a session after {after} with {namesakes} namesakes"),
            host,
            |host| host["session"].as_u64() > Some(after) && named(host) == namesakes,
        )
        .await?;
    Ok(found["session"].as_u64().unwrap_or_default())
}

async fn applied(fleet: &Fleet, vlan: u16) -> Result<Value> {
    let reply = fleet.operator().apply_and_wait(site(vlan), "20s").await?;
    Ok(reply["applied"]["applied"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_of_one_name_one_is_the_host_s_whoever_is_frozen_and_thawed() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 1,
        push_timeout: "2s",
        heartbeat: "200ms",
        ..Settings::default()
    })
    .await?;
    assert_eq!(applied(&fleet, 10).await?, 1);
    fleet.in_sync().await?;
    let first = host(fleet.operator()).await?;
    let first = first["session"].as_u64().unwrap();

    // The clone is refused, says why, and does nothing, while the host goes on.
    let clone = Clone::start(&fleet)?;
    assert_eq!(session(&fleet, first - 1, 1).await?, first);
    let named = host(fleet.operator()).await?;
    assert_eq!(named["namesakes"][0]["address"], "127.0.0.1");
    let ready = clone.get("/readyz")?;
    for says in [
        "no namesake: host host-1: another agent is host host-1",
        "--host",
    ] {
        assert!(ready.contains(says), "{ready}");
    }
    let shown = fleet.dvsctl()?.args(["get", "hosts"]).output()?;
    let shown = String::from_utf8(shown.stdout)?;
    assert!(shown.contains("Several agents have one name"), "{shown}");
    assert_eq!(applied(&fleet, 20).await?, 1);
    fleet.in_sync().await?;
    assert_eq!(clone.writes()?, 0);
    fleet.stored_vlan(&json!({"access": 20})).await?;

    // The host's agent freezes: the clone becomes the host's, and what it has
    // counts from then on.
    let pid = fleet.pid(Program::Agent).unwrap();
    signal(pid, "-STOP")?;
    let second = session(&fleet, first, 0).await?;
    fleet.in_sync().await?;
    assert!(clone.writes()? > 0);
    assert!(clone.get("/readyz")?.contains("ok namesake"));

    // It thaws with its old session: nothing that it says counts, and it is the
    // newcomer by now.
    signal(pid, "-CONT")?;
    assert_eq!(session(&fleet, second - 1, 1).await?, second);
    assert_eq!(applied(&fleet, 30).await?, 1);
    fleet.stored_vlan(&json!({"access": 30})).await?;
    assert_eq!(session(&fleet, second - 1, 1).await?, second);

    // The clone is stopped, and the host's own agent takes over by itself.
    let pid = clone.child.id();
    signal(pid, "-TERM")?;
    session(&fleet, second, 0).await?;
    fleet.in_sync().await?;
    assert_eq!(applied(&fleet, 40).await?, 1);
    fleet.stored_vlan(&json!({"access": 40})).await?;
    Ok(())
}
