// SPDX-License-Identifier: Apache-2.0
//! A change must not cut the branch that it sits on: what the host itself needs
//! is not taken, and what was taken is given back as it was.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::Result;
use dvs_ovsdb::testing::{Ovs, skipped};
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::lan::{AgentHost, Mac, RackHost, Vm, Wire, is_heard, until};
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
    let (nic, address) = (rack.cables[0].nic().to_owned(), rack.cables[0].address());
    rack.lives_on(&nic, 0);
    let uplink = format!("prod/up={nic}");
    rack.start_agent(&fleet, &["--ovs-datapath", "netdev", "--uplink", &uplink])?;
    fleet.operator().apply(&json!([switch(&["up"])])).await?;
    let reason = format!("the host's address {address} is on {nic}");
    out_of_sync(&fleet, &reason).await?;
    assert!(rack.cables[0].reaches()?);
    assert_eq!(rack.ovs.vsctl(&["list-br"])?.trim(), "dvs-prod");
    fleet.operator().apply(&json!([switch(&[])])).await?;
    fleet.in_sync().await?;
    Ok(())
}

/// A bridge that somebody made, with the NIC.
fn with_bridge(rack: &RackHost, bridge: &str) -> Result<()> {
    let kind = ["--", "set", "Bridge", bridge, "datapath_type=netdev"];
    let nic = ["--", "add-port", bridge, rack.cables[0].nic()];
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
    rack.lives_on("vmbr0", 0);
    rack.start_agent(
        &fleet,
        &["--ovs-datapath", "netdev", "--bridge", "prod=vmbr0"],
    )?;
    let rules = || rack.ovs.ofctl("dump-flows", "vmbr0", &["--no-stats"]);
    let before = (rules()?, rack.ovs.vsctl(&["list", "Bridge", "vmbr0"])?);
    fleet.operator().apply(&json!([switch(&[])])).await?;
    let reason = format!(
        "the host's address {} is on vmbr0",
        rack.cables[0].address()
    );
    out_of_sync(&fleet, &reason).await?;
    let after = (rules()?, rack.ovs.vsctl(&["list", "Bridge", "vmbr0"])?);
    assert_eq!(after, before);
    assert!(rack.cables[0].reaches()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_was_taken_is_given_back_as_it_was() -> Result<()> {
    if skipped("a_bridge_that_was_taken_is_given_back_as_it_was") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut rack = RackHost::start("rack")?;
    let nic = rack.cables[0].nic().to_owned();
    rack.lives_on(&nic, 0);
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
    rack.start_agent(
        &fleet,
        &["--ovs-datapath", "netdev", "--bridge", "prod=br0"],
    )?;
    fleet.operator().apply(&json!([switch(&[])])).await?;
    fleet.in_sync().await?;
    let shown = |column| get(&rack.ovs, "br0", column);
    assert_eq!(shown("fail_mode"), "secure");
    assert!(!is_heard(&mut a, &mut b, Duration::from_millis(500)));
    // A restart of the agent forgets nothing of it.
    rack.kill_agent()?;
    rack.start_agent(
        &fleet,
        &["--ovs-datapath", "netdev", "--bridge", "prod=br0"],
    )?;
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

/// Machines stay plugged in while their switch is deleted and made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_returns_has_the_bridge_that_was_made_for_it() -> Result<()> {
    if skipped("a_switch_that_returns_has_the_bridge_that_was_made_for_it") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let host = AgentHost::start(&fleet, "rack", None)?;
    let operator = fleet.operator();
    operator.apply(&json!([switch(&[])])).await?;
    let bridges = async |_: &dvs_tests::operator::Operator| Ok(host.ovs.vsctl(&["list-br"])?);
    let has = |bridges: &String| !bridges.is_empty();
    let bridges = fleet.until("the switch's bridge", bridges, has).await?;
    let bridge = bridges.lines().next().unwrap();
    fleet.in_sync().await?;
    let words = format!("add-port {bridge} machine -- set Interface machine type=internal");
    let words: Vec<&str> = words.split_whitespace().collect();
    host.ovs.vsctl(&words)?;
    let delete = json!({"kind": "Switch", "name": "prod", "wait": "applied", "timeout": "20s"});
    let reply = operator.ask(dvs_schemas::subjects::CONFIG_DELETE, &delete);
    assert_eq!(reply.await?.ok()?["applied"]["applied"], 1);
    assert_eq!(
        get(&host.ovs, bridge, "external_ids"),
        "{dvs-made-for=prod}"
    );
    let reply = operator.apply_and_wait(json!([switch(&[])]), "20s").await?;
    assert_eq!(reply["applied"]["applied"], 1, "{reply}");
    assert!(host.ovs.vsctl(&["list-ports", bridge])?.contains("machine"));
    Ok(())
}

/// A host that lives behind its switch: its address is on an internal port,
/// `rack-mgmt`, and its one way to the bus goes by uplink `up`. Uplink `down`
/// leads nowhere. With the arguments of its agent.
async fn behind_its_switch(fleet: &Fleet, dead: &Wire) -> Result<(RackHost, Vec<String>)> {
    let mut rack = RackHost::start("rack")?;
    let [first, second] = [0, 1].map(|number| rack.cables[number].nic().to_owned());
    // Until it lives behind the switch, it has another way to the bus.
    rack.lives_on(&second, 1);
    let up = format!("prod/up={first}");
    let down = format!("prod/down={}", dead.end(0, rack.ovs.namespace()));
    let arguments =
        format!("--ovs-datapath netdev --rollback-after 6s --uplink {up} --uplink {down}");
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    start_agent(&mut rack, fleet, &arguments)?;
    let documents = json!([
        switch(&["up"]),
        {"kind": "PortGroup", "name": "hosts", "switch": "prod"},
        mgmt(json!({})),
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;
    let words = "add-port dvs-prod mgmt0 -- set Interface mgmt0 type=internal \
                 external_ids:iface-id=rack-mgmt";
    let words: Vec<&str> = words.split_whitespace().collect();
    rack.ovs.vsctl(&words)?;
    rack.lives_on("mgmt0", 0);
    until("the host lives behind the switch", async || {
        rack.cables[0].reaches().unwrap()
    })
    .await;
    rack.kill_agent()?;
    rack.ip(&["link", "set", &second, "down"]);
    start_agent(&mut rack, fleet, &arguments)?;
    fleet.in_sync().await?;
    Ok((rack, arguments))
}

fn start_agent(rack: &mut RackHost, fleet: &Fleet, arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    rack.start_agent(fleet, &arguments)
}

/// The port that the host lives behind.
fn mgmt(policy: Value) -> Value {
    json!({"kind": "Port", "name": "rack-mgmt", "switch": "prod", "group": "hosts",
        "policy": policy})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_a_change_of_uplinks_cuts_off_comes_back_by_itself() -> Result<()> {
    if skipped("a_host_that_a_change_of_uplinks_cuts_off_comes_back_by_itself") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let dead = Wire::new();
    let (mut rack, arguments) = behind_its_switch(&fleet, &dead).await?;
    fleet.operator().apply(&json!([switch(&["down"])])).await?;
    let reason = "the bus was not reached for 6s after uplinks changed from [up] to [down]";
    out_of_sync(&fleet, reason).await?;
    assert!(rack.cables[0].reaches()?);

    // An agent that dies on the way comes back to a host that is cut off.
    let mut again = switch(&["down"]);
    again["mtu"] = json!(1400);
    fleet.operator().apply(&json!([again])).await?;
    until("the host is cut off", async || {
        !rack.cables[0].reaches().unwrap()
    })
    .await;
    rack.kill_agent()?;
    start_agent(&mut rack, &fleet, &arguments)?;
    until("the host is back by itself", async || {
        rack.cables[0].reaches().unwrap()
    })
    .await;
    out_of_sync(&fleet, reason).await?;
    fleet.operator().apply(&json!([switch(&["up"])])).await?;
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_vlan_of_its_own_port_cuts_off_comes_back_by_itself() -> Result<()> {
    if skipped("a_host_that_the_vlan_of_its_own_port_cuts_off_comes_back_by_itself") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let dead = Wire::new();
    let (rack, _) = behind_its_switch(&fleet, &dead).await?;
    let group = |vlan: Value| json!({"kind": "PortGroup", "name": "hosts", "switch": "prod", "policy": {"vlan": vlan}});
    let there = json!({"access": 7});
    fleet.operator().apply(&json!([group(there)])).await?;
    until("the host is cut off", async || {
        !rack.cables[0].reaches().unwrap()
    })
    .await;
    let reason = "the bus was not reached for 6s after vlan of port rack-mgmt, which the host \
                  lives behind, changed from";
    out_of_sync(&fleet, reason).await?;
    assert!(rack.cables[0].reaches()?);
    let back = json!("untagged");
    fleet.operator().apply(&json!([group(back)])).await?;
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_host_lives_behind_is_not_taken_from_it() -> Result<()> {
    if skipped("a_port_that_the_host_lives_behind_is_not_taken_from_it") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let dead = Wire::new();
    let (mut rack, arguments) = behind_its_switch(&fleet, &dead).await?;
    let operator = fleet.operator();
    let address = rack.cables[0].address();
    let reason = format!(
        "the host's address {address} is on mgmt0, by which the host lives behind port rack-mgmt"
    );
    // Blocked.
    let group = json!({"kind": "PortGroup", "name": "hosts", "switch": "prod",
        "overridable": ["blocked", "security.forged_transmits"]});
    operator
        .apply(&json!([group, mgmt(json!({"blocked": true}))]))
        .await?;
    out_of_sync(&fleet, &reason).await?;
    assert!(rack.cables[0].reaches()?);
    operator.apply(&json!([mgmt(json!({}))])).await?;
    fleet.in_sync().await?;
    // Blocked, as its frames can't be checked: it has no address of its own.
    let unchecked = mgmt(json!({"security": {"forged_transmits": "reject"}}));
    operator.apply(&json!([unchecked])).await?;
    out_of_sync(&fleet, &reason).await?;
    assert!(rack.cables[0].reaches()?);
    operator.apply(&json!([mgmt(json!({}))])).await?;
    fleet.in_sync().await?;
    // The whole switch goes from the host.
    let mut nobodys = switch(&["up"]);
    nobodys["hosts"] = json!([]);
    let port = json!({"kind": "Port", "name": "rack-mgmt"});
    operator
        .ask(dvs_schemas::subjects::CONFIG_DELETE, &port)
        .await?
        .ok()?;
    operator.apply(&json!([nobodys])).await?;
    out_of_sync(&fleet, "by which the host lives behind port rack-mgmt").await?;
    assert!(rack.cables[0].reaches()?);
    // Once it lives elsewhere, all of it is carried out.
    rack.ip(&["link", "set", rack.cables[1].nic(), "up"]);
    rack.ip(&["addr", "flush", "dev", "mgmt0"]);
    rack.kill_agent()?;
    start_agent(&mut rack, &fleet, &arguments)?;
    let gone = async |_: &dvs_tests::operator::Operator| Ok(rack.ovs.vsctl(&["show"])?);
    fleet
        .until("the bridge is given back", gone, |show| {
            !show.contains("dvs-prod-u")
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_its_switch_is_not_in_sync_and_says_so() -> Result<()> {
    if skipped("a_host_without_its_switch_is_not_in_sync_and_says_so") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut host = AgentHost::start(&fleet, "rack", None)?;
    fleet.operator().apply(&json!([switch(&[])])).await?;
    fleet.in_sync().await?;
    host.ovs.kill_vswitchd()?;
    // Nobody has to ask.
    out_of_sync(&fleet, "is ovs-vswitchd running?").await?;
    host.ovs.start_vswitchd()?;
    fleet.in_sync().await?;
    // Nor if it is away as the agent starts.
    for database in [false, true] {
        // What the agent before said is over.
        fleet
            .until("it is in force", not_in_force, Vec::is_empty)
            .await?;
        host.kill_agent()?;
        host.ovs.kill_vswitchd()?;
        if database {
            host.ovs.kill_db()?;
        }
        host.start_agent(&fleet)?;
        let reason = match database {
            false => "is ovs-vswitchd running?",
            true => "is ovsdb-server running?",
        };
        let has = |why: &Vec<String>| matches!(&why[..], [why] if why.contains(reason));
        fleet.until(reason, not_in_force, has).await?;
        assert!(host.get("/readyz")?.contains(" 503 "));
        out_of_sync(&fleet, "").await?;
        if database {
            host.ovs.start_db()?;
        }
        host.ovs.start_vswitchd()?;
        fleet.in_sync().await?;
    }
    fleet
        .until("it is in force", not_in_force, Vec::is_empty)
        .await?;
    Ok(())
}

/// Why host `rack` says that it is not in force.
async fn not_in_force(operator: &dvs_tests::operator::Operator) -> Result<Vec<String>> {
    let question = json!({"host": "rack", "kind": "not_in_force"});
    let asked = operator.ask(dvs_schemas::subjects::RUNTIME_CONDITIONS, &question);
    let list = asked.await?.ok()?["hosts"][0]["list"]["conditions"].clone();
    let list = list.as_array().into_iter().flatten();
    Ok(list.map(|each| each["message"].to_string()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_waits_is_not_in_sync_until_it_forwards() -> Result<()> {
    if skipped("a_switch_that_waits_is_not_in_sync_until_it_forwards") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut host = AgentHost::start(&fleet, "rack", None)?;
    let group = json!({"kind": "PortGroup", "name": "web", "switch": "prod"});
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    let documents = json!([switch(&[]), group, port("a"), port("b")]);
    fleet.operator().apply(&documents).await?;
    let [mut a, mut b] = [1, 2].map(|number| Vm::start(Mac::numbered(number)));
    host.plug(&a, "a");
    host.plug(&b, "b");
    let patience = Duration::from_secs(20);
    assert!(is_heard(&mut a, &mut b, patience));
    fleet.in_sync().await?;
    let key = "other_config:flow-restore-wait=true";
    host.ovs
        .vsctl(&["--no-wait", "set", "Open_vSwitch", ".", key])?;
    host.ovs.kill_vswitchd()?;
    host.ovs.start_vswitchd()?;
    // Nobody has to ask.
    out_of_sync(
        &fleet,
        "ovs-vsctl remove Open_vSwitch . other_config flow-restore-wait",
    )
    .await?;
    assert!(!is_heard(&mut a, &mut b, Duration::from_millis(500)));
    let policy = json!({
        "kind": "PortGroup", "name": "web", "switch": "prod",
        "policy": {"vlan": {"access": 7}},
    });
    let reply = fleet
        .operator()
        .apply_and_wait(json!([policy]), "3s")
        .await?;
    assert_eq!(reply["applied"]["applied"], 0, "{reply}");
    let began = Instant::now();
    let remove = [
        "remove",
        "Open_vSwitch",
        ".",
        "other_config",
        "flow-restore-wait",
    ];
    host.ovs.vsctl(&remove)?;
    assert!(is_heard(&mut a, &mut b, patience));
    fleet.in_sync().await?;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

/// The kernel of a machine that has the module can make such a datapath.
#[tokio::test(flavor = "multi_thread")]
async fn a_datapath_that_can_not_be_made_is_named_with_the_way_out() -> Result<()> {
    let module = std::path::Path::new("/sys/module/openvswitch").exists();
    if module || skipped("a_datapath_that_can_not_be_made_is_named_with_the_way_out") {
        return Ok(());
    }
    let fleet = fleet().await?;
    let mut rack = RackHost::start("rack")?;
    let nic = rack.cables[0].nic().to_owned();
    rack.lives_on(&nic, 0);
    rack.start_agent(&fleet, &["--ovs-datapath", "system"])?;
    fleet.operator().apply(&json!([switch(&[])])).await?;
    out_of_sync(&fleet, "forward in user space with --ovs-datapath netdev").await?;
    rack.kill_agent()?;
    rack.start_agent(&fleet, &["--ovs-datapath", "netdev"])?;
    fleet.in_sync().await
}
