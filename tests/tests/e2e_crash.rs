// SPDX-License-Identifier: Apache-2.0
//! kill -9 of each service in the middle of a push to 200 hosts: all in sync
//! in the end, with nothing lost.
#![allow(clippy::unwrap_used)]

use anyhow::Result;
use dvs_tests::fleet::{Fleet, Program, Settings};
use serde_json::{Value, json};

const HOSTS: u32 = 200;

fn documents(vlan: u16) -> Value {
    let mut all = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod",
               "policy": {"vlan": {"access": vlan}}}),
    ];
    all.extend((1..=HOSTS).map(|n| {
        json!({"kind": "Port", "name": format!("web-{n}"), "switch": "prod", "group": "web",
               "host": format!("host-{n}")})
    }));
    json!(all)
}

/// Pushes revision after revision, kills in the middle of one, starts again.
async fn survives(victims: &[Program]) -> Result<()> {
    let mut fleet = Fleet::start(Settings {
        hosts: HOSTS,
        push_timeout: "1s",
        // Slow enough that a push is under way when the kill comes.
        agent: vec!["--emulated-latency".to_owned(), "100ms".to_owned()],
        ..Settings::default()
    })
    .await?;
    fleet
        .operator()
        .apply_and_wait(documents(100), "30s")
        .await?;
    let mut acknowledged = json!(null);
    for (round, victim) in victims.iter().enumerate() {
        let vlan = 200 + u16::try_from(round)?;
        // The reply means durable: from here on nothing may be lost.
        acknowledged = fleet
            .until(
                "an acknowledged change",
                async |operator| operator.apply(&documents(vlan)).await,
                |_| true,
            )
            .await?["revision"]
            .clone();
        fleet.kill(*victim)?;
        fleet.launch(*victim)?;
    }
    fleet.hosts_present().await?;
    fleet.in_sync().await?;
    let vlan = 200 + u16::try_from(victims.len())? - 1;
    for host in fleet.operator().hosts().await? {
        assert_eq!(host["switches"][0]["wanted"], acknowledged, "{host}");
        assert!(
            host["switches"][0]["observed"].as_u64() >= acknowledged.as_u64(),
            "{host}"
        );
    }
    // What was told makes it true and nothing else, as nobody asks the hosts.
    // The collector may still be starting, so the hosts are asked after.
    fleet.stored_vlan(&json!({"access": vlan})).await?;
    let vlans = fleet.live_vlans().await?;
    assert_eq!(vlans.len(), HOSTS as usize);
    for (port, found) in vlans {
        assert_eq!(found, json!({"access": vlan}), "{port}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_killed_in_the_middle_of_a_push_loses_nothing() -> Result<()> {
    survives(&[Program::Publisher, Program::Publisher]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_agent_killed_in_the_middle_of_a_push_loses_nothing() -> Result<()> {
    survives(&[Program::Agent]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_killed_in_the_middle_of_a_push_loses_nothing() -> Result<()> {
    survives(&[Program::Retry, Program::Agent, Program::Retry]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_in_the_middle_of_a_push_loses_nothing() -> Result<()> {
    survives(&[Program::Collector]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_killed_in_the_middle_of_a_push_loses_nothing() -> Result<()> {
    let mut fleet = Fleet::start(Settings {
        hosts: HOSTS,
        push_timeout: "1s",
        agent: vec!["--emulated-latency".to_owned(), "100ms".to_owned()],
        ..Settings::default()
    })
    .await?;
    fleet
        .operator()
        .apply_and_wait(documents(100), "30s")
        .await?;
    fleet.operator().apply(&documents(200)).await?;
    fleet.nats.restart()?;
    fleet.in_sync().await?;
    fleet.stored_vlan(&json!({"access": 200})).await?;
    for (port, found) in fleet.live_vlans().await? {
        assert_eq!(found, json!({"access": 200}), "{port}");
    }
    Ok(())
}
