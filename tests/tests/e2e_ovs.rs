// SPDX-License-Identifier: Apache-2.0
//! The whole system on Open vSwitch: documents go in over NATS, machines are
//! plugged in as a hypervisor does, and frames say what comes of it.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::Result;
use dvs_ovsdb::testing::skipped;
use dvs_schemas::subjects;
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::lan::{AgentHost, Frame, Mac, Vm, Wire};
use serde_json::{Value, json};

/// Waits until one hears the other; plugs take a moment, and so do commits.
fn reaches(from: &mut Vm, to: &mut Vm) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    while Instant::now() < deadline {
        number += 1;
        to.drain();
        let frame = Frame::number(from.mac(), to.mac(), number);
        from.send(&frame);
        while let Some(heard) = to.next(Duration::from_millis(100)) {
            if heard == frame {
                return true;
            }
        }
    }
    false
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
