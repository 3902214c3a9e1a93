// SPDX-License-Identifier: Apache-2.0
//! The whole system under a real libvirt: a guest is started, put into another
//! VLAN and back, migrated back and forth and destroyed, and a client beyond
//! the physical switch says what comes of it. The guest has a second interface
//! on plain Open vSwitch bridges, which tells what the same migrations are
//! without dvswitch.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dvs_schemas::subjects;
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::hypervisor::{Answers, Echo, Guest, Hypervisor, Network, Site, skipped};
use serde_json::{Value, json};
use uuid::Uuid;

/// QEMU translates every instruction, beside whatever else the machine does.
const BOOT: Duration = Duration::from_secs(120);

/// How long it may take until answers come again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Migrations whose outages are compared, there and back.
const ROUNDS: usize = 6;

/// What a guest says in this test beside its answers, frames at most: the
/// announcements of its kernel and of QEMU.
const UNASKED: u64 = 500;

/// Where the publisher has the port.
async fn placed(fleet: &Fleet, port: &str, host: Option<&str>) -> Result<()> {
    let of = |objects: &Vec<Value>| {
        let mut documents = objects.iter().map(|object| &object["document"]);
        documents
            .find(|document| document["kind"] == "Port" && document["name"] == *port)
            .is_some_and(|document| document["host"].as_str() == host)
    };
    let what = format!("port {port} on {host:?}");
    fleet
        .until(&what, async |operator| operator.objects().await, of)
        .await?;
    Ok(())
}

/// Frames from the port's guest, over all its placements, as the collector has
/// them.
async fn counted(fleet: &Fleet, port: &str) -> Result<u64> {
    let question = json!({"port": port});
    let question = fleet.operator().ask(subjects::RUNTIME_GET, &question);
    let packets = &question.await?.body["total"]["ingress_packets"];
    Ok(packets.as_u64().unwrap_or(0))
}

fn group(vlan: u16) -> Value {
    let policy = json!({"vlan": {"access": vlan}});
    json!({"kind": "PortGroup", "name": "web", "switch": "prod", "policy": policy})
}

/// Two hypervisors at a site, and a guest's port in the VLAN of its client.
async fn started(guest: &Guest) -> Result<(Fleet, Site, [Hypervisor; 2])> {
    let fleet = Fleet::start(Settings {
        hosts: 1,
        agent: ["--settle", "1s"].map(str::to_owned).into(),
        ..Settings::default()
    })
    .await?;
    let site = Site::new()?;
    let hosts = [
        Hypervisor::start(&fleet, &site, "one")?,
        Hypervisor::start(&fleet, &site, "two")?,
    ];
    let mac = Network::Switched.mac().to_string();
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["one", "two"], "uplinks": ["uplink1"]},
        group(Site::VLAN),
        {"kind": "Port", "name": guest.port, "switch": "prod", "group": "web", "mac": mac},
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;
    Ok((fleet, site, hosts))
}

/// The guest has booted and its frames pass.
fn answers(site: &Site, guest: &Guest) -> Result<()> {
    let plain = Echo::start(site, Network::Plain, BOOT);
    plain.with_context(|| format!("console:\n{}", site.console(&guest.name)))?;
    Echo::start(site, Network::Switched, PATIENCE)?;
    Ok(())
}

/// How long a migration interrupted each network, and what the client sent and
/// heard meanwhile.
fn migrated(
    site: &Site,
    guest: &Guest,
    from: &Hypervisor,
    to: &Hypervisor,
) -> Result<[Answers; 2]> {
    let mut plain = Echo::start(site, Network::Plain, PATIENCE)?;
    let mut switched = Echo::start(site, Network::Switched, PATIENCE)?;
    from.migrate(site, guest, to)?;
    for echo in [&mut plain, &mut switched] {
        echo.await_answers(50, PATIENCE)?;
    }
    Ok([plain.stop()?, switched.stop()?])
}

fn median(mut outages: Vec<Duration>) -> Duration {
    outages.sort_unstable();
    outages[outages.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_keeps_its_port_its_vlan_and_its_counters_through_live_migrations() -> Result<()> {
    let name = "a_guest_keeps_its_port_its_vlan_and_its_counters_through_live_migrations";
    if skipped(name) {
        return Ok(());
    }
    let guest = Guest {
        name: "guest".to_owned(),
        port: Uuid::new_v4(),
        wishes: "",
    };
    let port = guest.port.to_string();
    let (fleet, site, [one, two]) = started(&guest).await?;

    // Started, claimed, granted, wired.
    one.boot(&site, &guest)?;
    answers(&site, &guest)?;
    placed(&fleet, &port, Some("one")).await?;

    // In another VLAN the client doesn't reach it; in its own it does again.
    let operator = fleet.operator();
    let other = json!([group(Site::VLAN + 1)]);
    let reply = operator.apply_and_wait(other, "20s").await?;
    assert_eq!(reply["applied"]["applied"], 2, "{reply}");
    let silent = Echo::start(&site, Network::Switched, Duration::from_secs(1));
    assert!(silent.is_err(), "{silent:?}");
    let own = json!([group(Site::VLAN)]);
    operator.apply_and_wait(own, "20s").await?;
    answers(&site, &guest)?;

    // There and back again.
    let mut outages = [Vec::new(), Vec::new()];
    let (mut heard, mut asked, mut known) = (0, 0, 0);
    let [mut from, mut to] = [(&one, "one"), (&two, "two")];
    for round in 1..=ROUNDS {
        let both = migrated(&site, &guest, from.0, to.0)?;
        placed(&fleet, &port, Some(to.1)).await?;
        let [plain, switched] = both.each_ref().map(Answers::outage);
        eprintln!("migration {round}: plain Open vSwitch {plain:.3?}, dvswitch {switched:.3?}");
        outages[0].push(plain);
        outages[1].push(switched);
        heard += both[1].heard();
        asked += both[1].asked();
        let now = counted(&fleet, &port).await?;
        ensure!(now >= known, "the total went from {known} to {now}");
        known = now;
        std::mem::swap(&mut from, &mut to);
    }
    let [plain, switched] = outages.map(median);
    eprintln!("median: plain Open vSwitch {plain:.3?}, dvswitch {switched:.3?}");

    // Powered off: the port is nowhere, and what its placements counted is all
    // that passed and no more.
    from.0.destroy(&guest)?;
    placed(&fleet, &port, None).await?;
    let what = format!("{heard} frames counted over {} placements", ROUNDS + 1);
    let total = fleet
        .until(
            &what,
            async |_| counted(&fleet, &port).await,
            |total| *total >= heard,
        )
        .await?;
    assert!(total <= asked + UNASKED, "{total} counted, {asked} asked");
    Ok(())
}
