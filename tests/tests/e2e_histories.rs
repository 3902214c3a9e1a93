// SPDX-License-Identifier: Apache-2.0
//! A publisher whose ledger fell back or was lost, and two on one bus: hosts
//! keep what they have, nothing that is not so is called applied, and an
//! operator's word ends it.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use anyhow::Result;
use dvs_tests::fleet::{Fleet, Program, Settings};
use serde_json::{Value, json};

const HOSTS: u32 = 2;

fn settings() -> Settings {
    Settings {
        hosts: HOSTS,
        push_timeout: "2s",
        ..Settings::default()
    }
}

fn documents(vlan: u16) -> Value {
    json!([
        {"kind": "Switch", "name": "prod"},
        {"kind": "PortGroup", "name": "web", "switch": "prod",
         "policy": {"vlan": {"access": vlan}}},
        {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "host-1"},
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "host-2"},
    ])
}

async fn apply(fleet: &Fleet, vlan: u16) -> Result<(Value, Value)> {
    let answer = fleet
        .until(
            "an answer to a change",
            async |operator| operator.apply_and_wait(documents(vlan), "10s").await,
            |_| true,
        )
        .await?;
    let applied = &answer["applied"];
    Ok((applied["hosts"].clone(), applied["applied"].clone()))
}

async fn vlans(fleet: &Fleet) -> Result<Vec<Value>> {
    Ok(fleet.live_vlans().await?.into_values().collect())
}

fn ledger(fleet: &Fleet) -> PathBuf {
    fleet.data(Program::Publisher).join("config-publisher.redb")
}

/// Waits until every host is known to follow another history.
async fn diverged(fleet: &Fleet, why: &str) -> Result<()> {
    let all = |hosts: &Vec<Value>| {
        let diverged = hosts.iter().filter(|host| host["diverged"]["why"] == why);
        diverged.count() == HOSTS as usize
    };
    let hosts = async |operator: &dvs_tests::operator::Operator| operator.hosts().await;
    fleet
        .until(&format!("hosts that follow {why}"), hosts, all)
        .await?;
    Ok(())
}

/// The log names the hosts once, with the way on.
async fn named_once(fleet: &Fleet) -> Result<()> {
    let lines = async |_: &dvs_tests::operator::Operator| {
        let log = fleet.log(Program::Publisher);
        let lines = log
            .lines()
            .filter(|line| line.contains("follow another history"));
        Ok(lines.map(str::to_owned).collect::<Vec<_>>())
    };
    let lines = fleet
        .until("a line in the log", lines, |lines| !lines.is_empty())
        .await?;
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["ERROR", "host-1, host-2", "dvsctl store continue"] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    Ok(())
}

/// `dvsctl store continue` with these arguments; its words.
fn go_on(fleet: &Fleet, argument: &str) -> Result<String> {
    let ended = fleet
        .dvsctl()?
        .args(["store", "continue", argument])
        .output()?;
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{words}");
    Ok(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_ledger_calls_nothing_applied_until_it_is_continued() -> Result<()> {
    let mut fleet = Fleet::start(settings()).await?;
    let all = (json!(2), json!(2));
    assert_eq!(apply(&fleet, 100).await?, all);
    fleet.kill(Program::Publisher)?;
    let backup = ledger(&fleet).with_extension("backup");
    std::fs::copy(ledger(&fleet), &backup)?;
    fleet.launch(Program::Publisher)?;
    // Nothing but one commit is lost by the restore, and its number is used
    // again before a heartbeat came.
    assert_eq!(apply(&fleet, 200).await?, all);
    fleet.kill(Program::Publisher)?;
    std::fs::copy(&backup, ledger(&fleet))?;
    fleet.launch(Program::Publisher)?;
    assert_eq!(apply(&fleet, 300).await?, (json!(2), json!(0)));
    assert_eq!(
        vlans(&fleet).await?,
        [json!({"access": 200}), json!({"access": 200})]
    );
    diverged(&fleet, "other_commits").await?;
    named_once(&fleet).await?;

    let words = go_on(&fleet, "--dry-run")?;
    assert!(
        words.contains("host-1: the host follows other commits"),
        "{words}"
    );
    let words = go_on(&fleet, "--wait")?;
    assert!(words.contains("applied on 2 of 2 hosts"), "{words}");
    assert_eq!(
        vlans(&fleet).await?,
        [json!({"access": 300}), json!({"access": 300})]
    );
    assert_eq!(apply(&fleet, 400).await?, all);
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_lost_its_ledger_takes_no_port_away() -> Result<()> {
    let mut fleet = Fleet::start(settings()).await?;
    apply(&fleet, 100).await?;
    apply(&fleet, 200).await?;
    let before = vlans(&fleet).await?;
    fleet.kill(Program::Publisher)?;
    let kept = ledger(&fleet).with_extension("kept");
    std::fs::rename(ledger(&fleet), &kept)?;
    fleet.launch(Program::Publisher)?;
    diverged(&fleet, "earlier_store").await?;
    // An agent that says hello anew is not emptied either.
    fleet.kill(Program::Agent)?;
    fleet.launch(Program::Agent)?;
    fleet.hosts_present().await?;
    diverged(&fleet, "earlier_store").await?;
    assert_eq!(apply(&fleet, 300).await?, (json!(2), json!(0)));
    fleet.kill(Program::Publisher)?;
    let lost = ledger(&fleet).with_extension("lost");
    std::fs::rename(ledger(&fleet), &lost)?;

    // The ledger is found again.
    std::fs::copy(&kept, ledger(&fleet))?;
    fleet.launch(Program::Publisher)?;
    fleet.hosts_present().await?;
    fleet.in_sync().await?;
    assert_eq!(vlans(&fleet).await?, before);

    // And lost for good: an operator says that the other one is to hold, and
    // later that the first is, whose store is the earlier one by then.
    for (ledger_file, vlan) in [(lost, 300), (kept, 200)] {
        fleet.kill(Program::Publisher)?;
        std::fs::copy(ledger_file, ledger(&fleet))?;
        fleet.launch(Program::Publisher)?;
        let why = if vlan == 300 {
            "earlier_store"
        } else {
            "later_store"
        };
        diverged(&fleet, why).await?;
        let words = go_on(&fleet, "--wait")?;
        assert!(words.contains("applied on 2 of 2 hosts"), "{words}");
        let vlan = json!({"access": vlan});
        assert_eq!(vlans(&fleet).await?, [vlan.clone(), vlan]);
    }
    fleet.in_sync().await
}

/// Another publisher with a ledger of its own on the bus of the first.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_services_of_a_kind_the_later_one_does_not_serve() -> Result<()> {
    let fleet = Fleet::start(settings()).await?;
    apply(&fleet, 100).await?;
    let folder = tempfile::tempdir()?;
    let programs = [Program::Publisher, Program::Retry, Program::Collector];
    let seconds = programs.into_iter().map(async |program| {
        let data = folder.path().join(format!("{program:?}"));
        let mut second = fleet.command_in(program, &data)?;
        let ended = tokio::task::spawn_blocking(move || second.output()).await??;
        let log = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{program:?}: {log}");
        for part in ["another", "serves on this bus", "since", "store"] {
            assert!(log.contains(part), "{program:?}: {log}");
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(seconds).await?;
    assert_eq!(apply(&fleet, 200).await?, (json!(2), json!(2)));
    Ok(())
}
