// SPDX-License-Identifier: Apache-2.0
//! The whole system on Open vSwitch: documents go in over NATS, machines are
//! plugged in as a hypervisor does, and frames say what comes of it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::Subscriber;
use dvs_ovsdb::testing::skipped;
use dvs_schemas::subjects;
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::lan::{AgentHost, Frame, Mac, Vm, Wire, is_heard};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

/// A plug takes a moment, and so does a commit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until one hears the other.
fn reaches(from: &mut Vm, to: &mut Vm) -> bool {
    is_heard(from, to, PATIENCE)
}

async fn host_of(fleet: &Fleet, port: &str, host: Option<&str>) -> Result<()> {
    let of = |objects: &Vec<Value>| {
        let mut ports = objects.iter().map(|object| &object["document"]);
        ports
            .find(|document| document["kind"] == "Port" && document["name"] == *port)
            .is_some_and(|document| document["host"].as_str() == host)
    };
    let what = format!("port {port} on {host:?}");
    fleet
        .until(&what, async |operator| operator.objects().await, of)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_follow_their_machines_and_frames_their_ports() -> Result<()> {
    if skipped("ports_follow_their_machines_and_frames_their_ports") {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    let wire = Wire::new();
    let mut left = AgentHost::start(&fleet, "left", Some((&wire, 0)))?;
    let right = AgentHost::start(&fleet, "right", Some((&wire, 1)))?;
    let group = |vlan: u16| {
        json!({
            "kind": "PortGroup", "name": "web", "switch": "prod",
            "policy": {"vlan": {"access": vlan}},
        })
    };
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left", "right"], "uplinks": ["uplink1"]},
        group(10), port("a"), port("b"),
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;

    // Plugged in, claimed, granted, wired.
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug(&a, "a");
    right.plug(&b, "b");
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    host_of(&fleet, "a", Some("left")).await?;
    host_of(&fleet, "b", Some("right")).await?;

    // A change of the group, told to be applied, is.
    let reply = fleet
        .operator()
        .apply_and_wait(json!([group(20)]), "20s")
        .await?;
    assert_eq!(reply["applied"]["applied"], 2, "{reply}");
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    let live = json!({"host": "left"});
    let live = fleet
        .operator()
        .ask(subjects::RUNTIME_LIVE, &live)
        .await?
        .ok()?;
    assert_eq!(live["ports"][0]["vlan"], json!({"access": 20}), "{live}");

    // An agent that dies and comes back is not noticed by frames.
    let before = left
        .ovs
        .ofctl("dump-flows", &left.bridge, &["--no-stats"])?;
    left.restart_agent(&fleet)?;
    for number in 0..100 {
        let frame = Frame::number(a.mac(), b.mac(), 1_000 + number);
        a.send(&frame);
        assert!(b.until(|heard| *heard == frame).is_some(), "frame {number}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.in_sync().await?;
    let learnt = |flows: &str| {
        flows
            .lines()
            .filter(|line| !line.contains("idle_timeout"))
            .count()
    };
    let after = left
        .ovs
        .ofctl("dump-flows", &left.bridge, &["--no-stats"])?;
    assert_eq!(learnt(&after), learnt(&before));

    // The machine moves: unplugged there, plugged in here.
    right.unplug(&b);
    host_of(&fleet, "b", None).await?;
    left.plug(&b, "b");
    assert!(reaches(&mut b, &mut a) && reaches(&mut a, &mut b));
    host_of(&fleet, "b", Some("left")).await?;
    let at_right = json!({"host": "right"});
    let live = fleet
        .operator()
        .ask(subjects::RUNTIME_LIVE, &at_right)
        .await?
        .ok()?;
    assert_eq!(live["ports"], json!([]), "{live}");

    // Deleted: it is plugged in still, and nothing passes.
    fleet
        .operator()
        .ask(
            subjects::CONFIG_DELETE,
            &json!({"kind": "Port", "name": "b"}),
        )
        .await?
        .ok()?;
    fleet.in_sync().await?;
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    b.drain();
    assert_eq!(b.next(Duration::from_millis(300)), None);
    Ok(())
}

/// Waits until the agent of a host has logged a line with all of these words.
async fn logged(fleet: &Fleet, host: &str, words: &[&str]) -> Result<()> {
    let has = |log: &String| {
        log.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    let what = format!("{words:?} in the log of {host}");
    fleet
        .until(&what, async |_| Ok(fleet.agent_log(host)), has)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vnic_with_a_ports_name_is_refused_told_who_holds_it_and_passes_no_frame()
-> Result<()> {
    let name = "another_vnic_with_a_ports_name_is_refused_told_who_holds_it_and_passes_no_frame";
    if skipped(name) {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    let wire = Wire::new();
    let left = AgentHost::start(&fleet, "left", Some((&wire, 0)))?;
    let right = AgentHost::start(&fleet, "right", Some((&wire, 1)))?;
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left", "right"], "uplinks": ["uplink1"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod",
         "policy": {"vlan": {"access": 10}}},
        port("a"), port("b"),
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug_as(&a, "a", "vm-1/eth0");
    right.plug(&b, "b");
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    let silent = |stranger: &mut Vm, b: &mut Vm| {
        b.drain();
        stranger.send(&Frame::number(stranger.mac(), Mac::ALL, 7));
        assert_eq!(b.next(Duration::from_millis(500)), None);
    };

    // Elsewhere, while the machine runs and when it is off.
    let mut c = Vm::start(Mac::numbered(3));
    right.plug_as(&c, "a", "vm-2/eth0");
    let who = "vNIC vm-1/eth0 is connected to the port on host left";
    logged(&fleet, "right", &["host=right", "port=a", who]).await?;
    silent(&mut c, &mut b);
    // Beside it, on its own host.
    let mut d = Vm::start(Mac::numbered(4));
    left.plug_as(&d, "a", "vm-3/eth0");
    let who = "vNIC vm-1/eth0 is connected to port a";
    let interface = format!("interface={:?}", d.interface());
    logged(&fleet, "left", &["host=left", &interface, who]).await?;
    silent(&mut d, &mut b);
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    left.unplug(&a);
    host_of(&fleet, "a", None).await?;
    logged(&fleet, "left", &["host=left", "port=a", "vNIC vm-1/eth0"]).await?;
    silent(&mut c, &mut b);
    silent(&mut d, &mut b);
    host_of(&fleet, "a", None).await?;

    // One that can't be read is nobody's.
    let mut e = Vm::start(Mac::numbered(5));
    left.plug_as(&e, "b", "vm 4");
    let interface = format!("interface={:?}", e.interface());
    let allowed = "1 to 128 printable ASCII characters without spaces";
    logged(&fleet, "left", &["host=left", &interface, "vm 4", allowed]).await?;
    silent(&mut e, &mut b);
    host_of(&fleet, "b", Some("right")).await?;
    Ok(())
}

/// Events of a kind that came since this was last asked.
fn events(subscriber: &mut Subscriber, kind: &str) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(Some(message)) = subscriber.next().now_or_never() {
        if message.subject.ends_with(kind) {
            events.push(serde_json::from_slice(&message.payload).unwrap());
        }
    }
    events
}

/// Frames from the machine as the bridge counts them.
fn counted(host: &AgentHost, vm: &Vm) -> Result<u64> {
    let text = host
        .ovs
        .ofctl("dump-ports", &host.bridge, &[vm.interface()])?;
    let rx = text.split("rx pkts=").nth(1).context("no rx")?;
    let digits: String = rx.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// What the collector has of a port.
async fn known(fleet: &Fleet, port: &str) -> Result<Value> {
    let question = json!({"port": port});
    let answer = fleet
        .operator()
        .ask(subjects::RUNTIME_GET, &question)
        .await?;
    Ok(answer.body)
}

fn total(record: &Value) -> u64 {
    record["total"]["ingress_packets"].as_u64().unwrap_or(0)
}

/// A live read, and how far it is from what the bridge counts, which nothing
/// changed meanwhile.
async fn live(fleet: &Fleet, host: &AgentHost, vm: &Vm, port: &str) -> Result<(u64, u64)> {
    loop {
        let before = counted(host, vm)?;
        let question = json!({"port": port});
        let live = fleet
            .operator()
            .ask(subjects::RUNTIME_LIVE, &question)
            .await?
            .ok()?;
        if counted(host, vm)? == before {
            let packets = &live["counters"][0]["counters"]["ingress_packets"];
            let packets = packets.as_u64().with_context(|| live.to_string())?;
            return Ok((packets, before - packets));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_told_once_counters_when_they_settle_and_both_follow_their_port() -> Result<()> {
    if skipped("states_are_told_once_counters_when_they_settle_and_both_follow_their_port") {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        agent: ["--settle", "1s"].map(str::to_owned).into(),
        ..Settings::default()
    })
    .await?;
    let wire = Wire::new();
    let left = AgentHost::start(&fleet, "left", Some((&wire, 0)))?;
    let right = AgentHost::start(&fleet, "right", Some((&wire, 1)))?;
    let group = |vlan: u16| {
        json!({"kind": "PortGroup", "name": "web", "switch": "prod",
               "policy": {"vlan": {"access": vlan}}})
    };
    let port = |name: &str| {
        json!({"kind": "Port", "name": name, "switch": "prod", "group": "web",
               "vnic": format!("{name}/eth0")})
    };
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left", "right"], "uplinks": ["uplink1"]},
        group(10), port("a"), port("b"),
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug(&a, "a");
    left.plug(&b, "b");
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    let first = json!({"link": "up", "vlan": {"access": 10}});
    let shown =
        |record: &Value| json!({"link": record["state"]["link"], "vlan": record["state"]["vlan"]});
    fleet
        .until(
            "the first word of a",
            async |_| known(&fleet, "a").await,
            |record| shown(record) == first,
        )
        .await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut heard = fleet
        .operator()
        .client()
        .subscribe("dvs.v1.event.left.*")
        .await?;
    fleet.operator().client().flush().await?;

    // A rare state, once per change: one event for both ports.
    fleet
        .operator()
        .apply_and_wait(json!([group(20)]), "20s")
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let changed = events(&mut heard, "changed");
    let told: Vec<&Value> = changed
        .iter()
        .flat_map(|event| event["ports"].as_array().unwrap())
        .collect();
    assert_eq!((changed.len(), told.len()), (1, 2), "{changed:?}");
    assert!(
        told.iter()
            .all(|state| state["vlan"] == json!({"access": 20}))
    );

    // Somebody else's edit, told once and undone.
    left.ovs.vsctl(&["set", "Port", a.interface(), "tag=99"])?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let drift = events(&mut heard, "drift");
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert_eq!(
        (&drift[0]["found"], &drift[0]["repaired"]),
        (&json!("99"), &json!(true))
    );
    assert_eq!(
        left.ovs
            .vsctl(&["get", "Port", a.interface(), "tag"])?
            .trim(),
        "20"
    );

    // Counters: none is told while frames pass; who asks is told what the
    // bridge says; the store stays as it was.
    let stored = known(&fleet, "a").await?;
    let (start, offset) = live(&fleet, &left, &a, "a").await?;
    for number in 0..250 {
        a.send(&Frame::number(a.mac(), b.mac(), 10_000 + number));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (end, same_offset) = live(&fleet, &left, &a, "a").await?;
    assert_eq!(same_offset, offset);
    assert!(end >= start + 250, "{start} {end}");
    assert_eq!(events(&mut heard, "settled"), Vec::<Value>::new());
    assert_eq!(known(&fleet, "a").await?, stored);
    // And one that is what it came to, when they have settled.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let settled = events(&mut heard, "settled");
    let of_a: Vec<u64> = settled
        .iter()
        .flat_map(|event| event["counters"].as_array().unwrap())
        .filter(|of| of["port"] == "a")
        .map(|of| of["counters"]["ingress_packets"].as_u64().unwrap())
        .collect();
    assert_eq!(of_a, [live(&fleet, &left, &a, "a").await?.0]);
    let before = total(&known(&fleet, "a").await?);
    assert_eq!(before, of_a[0]);

    // Powered off, and on at the other host: its own part is added.
    left.unplug(&a);
    host_of(&fleet, "a", None).await?;
    let off = known(&fleet, "a").await?;
    assert!(total(&off) >= before, "{off}");
    right.plug(&a, "a");
    assert!(reaches(&mut a, &mut b));
    host_of(&fleet, "a", Some("right")).await?;
    for number in 0..20 {
        a.send(&Frame::number(a.mac(), b.mac(), 20_000 + number));
    }
    let record = fleet
        .until(
            "the sum over both placements",
            async |_| known(&fleet, "a").await,
            |record| record["host"] == "right" && total(record) >= before + 20,
        )
        .await?;
    let of_this = record["counters"]["ingress_packets"].as_u64().unwrap();
    assert_eq!(total(&record), total(&off) + of_this);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_goes_while_its_agent_is_dead_frees_its_port() -> Result<()> {
    if skipped("a_machine_that_goes_while_its_agent_is_dead_frees_its_port") {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    let mut left = AgentHost::start(&fleet, "left", None)?;
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod"},
        port("a"), port("b"),
    ]);
    fleet.operator().apply(&documents).await?;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug(&a, "a");
    left.plug(&b, "b");
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    host_of(&fleet, "a", Some("left")).await?;
    host_of(&fleet, "b", Some("left")).await?;
    left.kill_agent()?;
    left.unplug(&a);
    left.start_agent(&fleet)?;
    host_of(&fleet, "a", None).await?;
    // What is plugged in still stays.
    host_of(&fleet, "b", Some("left")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converged_host_shows_no_write_after_a_start_of_its_agent() -> Result<()> {
    if skipped("a_converged_host_shows_no_write_after_a_start_of_its_agent") {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    let mut left = AgentHost::start(&fleet, "left", None)?;
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web", "host": "left"});
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod"},
        port("a"), port("b"), port("empty"),
    ]);
    fleet.operator().apply(&documents).await?;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug(&a, "a");
    left.plug(&b, "b");
    assert!(reaches(&mut a, &mut b));
    fleet.in_sync().await?;
    assert!(left.metric("dvs_datapath_writes_total")? > 0);
    left.restart_agent(&fleet)?;
    // What has no row is set again, and kept.
    let applies = async |_: &_| left.metric("dvs_applies_total{outcome=\"applied\"}");
    fleet
        .until("the agent is back", applies, |applies| *applies > 0)
        .await?;
    fleet.in_sync().await?;
    for name in [
        "dvs_datapath_writes_total",
        "dvs_ovsdb_transactions_total",
        "dvs_drift_total",
    ] {
        assert_eq!(left.metric(name)?, 0, "{name}");
    }
    Ok(())
}
