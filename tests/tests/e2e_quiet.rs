// SPDX-License-Identifier: Apache-2.0
//! Quiet means quiet: what a thousand hosts say on the bus while nothing
//! changes. Counted on the wire, message by message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use dvs_tests::fleet::{Fleet, Settings};
use futures_util::StreamExt;
use serde_json::json;

/// How long nothing changes. Six heartbeats of each host, and longer than any
/// back-off or time to settle of the services.
const STILL: Duration = Duration::from_secs(60);

const HOSTS: u32 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_in_which_nothing_changes_sends_heartbeats_and_nothing_else() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: HOSTS,
        open_bus: true,
        heartbeat: "10s",
        ..Settings::default()
    })
    .await?;
    let ports = (1..=HOSTS).map(|n| {
        json!({"kind": "Port", "name": format!("p-{n}"), "switch": "prod", "group": "web",
               "host": format!("host-{n}"), "vnic": format!("vm-{n}/eth0")})
    });
    let mut documents = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod"}),
    ];
    documents.extend(ports);
    let reply = fleet
        .operator()
        .apply_and_wait(json!(documents), "60s")
        .await?;
    assert_eq!(reply["applied"]["applied"], HOSTS, "{reply}");
    fleet
        .until(
            "the collector's knowledge of every port",
            async |operator| operator.runtime().await,
            |known| known.len() == HOSTS as usize,
        )
        .await?;
    // What was told is acknowledged, and each run of an agent is known by a
    // snapshot at its heartbeat.
    tokio::time::sleep(Duration::from_secs(25)).await;

    let mut bus = fleet.operator().client().subscribe(">").await?;
    fleet.operator().client().flush().await?;
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let listening = async {
        while let Some(message) = bus.next().await {
            let mut tokens: Vec<&str> = message.subject.split('.').collect();
            let is_beat = tokens.last() == Some(&"heartbeat");
            let kind = if is_beat {
                tokens[3] = "*";
                tokens.join(".")
            } else {
                message.subject.to_string()
            };
            *heard.entry(kind).or_default() += 1;
        }
    };
    let _ = tokio::time::timeout(STILL, listening).await;
    let beats = heard.remove("dvs.v1.event.*.heartbeat").unwrap_or(0);
    assert_eq!(heard, BTreeMap::new(), "beside {beats} heartbeats");
    // At most one per interval: they come a little early, never late.
    assert!(beats >= 5 * HOSTS as usize, "{beats} heartbeats");
    Ok(())
}
