// SPDX-License-Identifier: Apache-2.0
//! A change must not cut the branch that it sits on: what the host itself needs
//! is not taken, and what was taken is given back as it was.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::Result;
use dvs_ovsdb::testing::{Ovs, skipped};
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::lan::{Mac, RackHost, Vm, is_heard};
use serde_json::{Value, json};

async fn fleet() -> Result<Fleet> {
    Fleet::start(Settings {
        hosts: 1,
        shared_bus: true,
        ..Settings::default()
    })
    .await
}

/// The switch, which host `rack` is on.
fn switch(uplinks: &[&str]) -> Value {
    json!({"kind": "Switch", "name": "prod", "hosts": ["rack"], "uplinks": uplinks})
}

/// Waits until the host is out of sync with this as a part of the reason.
async fn out_of_sync(fleet: &Fleet, reason: &str) -> Result<()> {
    let entries = async |operator: &dvs_tests::operator::Operator| operator.out_of_sync().await;
    let has = |entries: &Vec<Value>| {
        let mut entries = entries.iter();
        entries.any(|entry| entry["host"] == "rack" && entry.to_string().contains(reason))
    };
    let what = format!("rack out of sync: {reason}");
    fleet.until(&what, entries, has).await?;
    Ok(())
}

fn get(ovs: &Ovs, bridge: &str, column: &str) -> String {
    let value = ovs.vsctl(&["get", "Bridge", bridge, column]).unwrap();
    value.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_with_the_hosts_address_is_refused_and_the_host_goes_on() -> Result<()> {
    if skipped("an_uplink_with_the_hosts_address_is_refused_and_the_host_goes_on") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut rack = RackHost::start("rack")?;
    rack.lives_on(rack.nic());
    let uplink = format!("prod/up={}", rack.nic());
    rack.start_agent(&fleet, &["--uplink", &uplink])?;
    fleet.operator().apply(&json!([switch(&["up"])])).await?;
    let reason = format!("the host's address {} is on {}", rack.address(), rack.nic());
    out_of_sync(&fleet, &reason).await?;
    assert!(rack.is_reached()?);
    assert_eq!(rack.ovs.vsctl(&["list-br"])?.trim(), "dvs-prod");
    fleet.operator().apply(&json!([switch(&[])])).await?;
    fleet.in_sync().await?;
    // Without the address the device is there for the switch.
    rack.kill_agent()?;
    rack.leaves(rack.nic());
    Ok(())
}

/// A bridge that somebody made, with the NIC.
fn with_bridge(rack: &RackHost, bridge: &str) -> Result<()> {
    let kind = ["--", "set", "Bridge", bridge, "datapath_type=netdev"];
    let nic = ["--", "add-port", bridge, rack.nic()];
    let add = ["add-br", bridge];
    rack.ovs.vsctl(&[&add[..], &kind, &nic].concat())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_with_the_hosts_address_stays_as_it_is() -> Result<()> {
    if skipped("a_bridge_with_the_hosts_address_stays_as_it_is") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut rack = RackHost::start("rack")?;
    with_bridge(&rack, "vmbr0")?;
    rack.lives_on("vmbr0");
    rack.start_agent(&fleet, &["--bridge", "prod=vmbr0"])?;
    let rules = || rack.ovs.ofctl("dump-flows", "vmbr0", &["--no-stats"]);
    let before = (rules()?, rack.ovs.vsctl(&["list", "Bridge", "vmbr0"])?);
    fleet.operator().apply(&json!([switch(&[])])).await?;
    let reason = format!("the host's address {} is on vmbr0", rack.address());
    out_of_sync(&fleet, &reason).await?;
    let after = (rules()?, rack.ovs.vsctl(&["list", "Bridge", "vmbr0"])?);
    assert_eq!(after, before);
    assert!(rack.is_reached()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_was_taken_is_given_back_as_it_was() -> Result<()> {
    if skipped("a_bridge_that_was_taken_is_given_back_as_it_was") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut rack = RackHost::start("rack")?;
    rack.lives_on(rack.nic());
    let netdev = ["--", "set", "Bridge", "br0", "datapath_type=netdev"];
    rack.ovs
        .vsctl(&[&["add-br", "br0"], &netdev[..]].concat())?;
    let [mut a, mut b] = [1, 2].map(|number| {
        let vm = Vm::start(Mac::numbered(number));
        vm.wire_to(rack.ovs.namespace());
        rack.ovs
            .vsctl(&["add-port", "br0", vm.interface()])
            .unwrap();
        vm
    });
    let patience = Duration::from_secs(20);
    assert!(is_heard(&mut a, &mut b, patience));
    let shown = |column| get(&rack.ovs, "br0", column);
    let columns = ["fail_mode", "datapath_type", "external_ids", "other_config"];
    let before = columns.map(shown);
    rack.start_agent(&fleet, &["--bridge", "prod=br0"])?;
    fleet.operator().apply(&json!([switch(&[])])).await?;
    fleet.in_sync().await?;
    let shown = |column| get(&rack.ovs, "br0", column);
    assert_eq!(shown("fail_mode"), "secure");
    assert!(!is_heard(&mut a, &mut b, Duration::from_millis(500)));
    // A restart of the agent forgets nothing of it.
    rack.kill_agent()?;
    rack.start_agent(&fleet, &["--bridge", "prod=br0"])?;
    let delete = json!({"kind": "Switch", "name": "prod"});
    let operator = fleet.operator();
    operator
        .ask(dvs_schemas::subjects::CONFIG_DELETE, &delete)
        .await?
        .ok()?;
    assert!(is_heard(&mut a, &mut b, patience));
    assert_eq!(columns.map(|column| get(&rack.ovs, "br0", column)), before);
    Ok(())
}
