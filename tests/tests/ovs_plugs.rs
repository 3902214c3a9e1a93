// SPDX-License-Identifier: Apache-2.0
//! Interfaces that come and go, and the ports that they are.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::{CountersOf, Link};
use dvs_schemas::{Epoch, SwitchName};
use dvs_tests::lan::{Frame, Host, Mac, Vm, id, run, switch};
use host_agent::datapath::{Datapath, Notice, VirtualPort};
use serde_json::{Value, json};

fn access(vlan: u16) -> Value {
    json!({"vlan": {"access": vlan}})
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn reaches(from: &mut Vm, to: &mut Vm, number: u64) -> bool {
    to.drain();
    let frame = Frame::number(from.mac(), to.mac(), number);
    from.send(&frame);
    to.until(|heard| *heard == frame).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_counts_goes_on_when_its_interface_is_made_anew_without_the_agent() {
    if skipped("what_a_port_counts_goes_on_when_its_interface_is_made_anew_without_the_agent") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    host.plug(&a, "a");
    // What it sends before it is a port is nobody's.
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    assert_eq!(host.there("a").await, None);
    let set = host.set("a", host.spec(access(10), Some(a.mac())));
    host.write(set.clone()).await.unwrap();
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 2) && reaches(&mut a, &mut b, 3));
    let told = host
        .datapath
        .counters(vec![(switch(), id("a"))])
        .await
        .unwrap();
    host.kill_agent().await;
    host.unplug(&a);
    host.plug(&a, "a");
    host.start_agent();
    host.datapath.resume(told.clone()).await;
    // The agent has it in its ledger, and finds nothing of it here.
    assert_eq!(host.there("a").await, None);
    host.write(set).await.unwrap();
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 4));
    let now = host
        .datapath
        .counters(vec![(switch(), id("a"))])
        .await
        .unwrap();
    let packets = |of: &[(SwitchName, CountersOf)]| of[0].1.counters.ingress_packets;
    assert_eq!((packets(&told), packets(&now)), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_waits_for_its_vnic_and_outlives_it() {
    if skipped("a_port_waits_for_its_vnic_and_outlives_it") {
        return;
    }
    let host = Host::start().await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    // Plugged and nobody's: no frame passes.
    host.plug(&a, "a");
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    assert_eq!(host.there("a").await, None);
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    assert_eq!(host.there("a").await.unwrap().link, Link::Up);
    assert!(reaches(&mut a, &mut b, 2) && reaches(&mut b, &mut a, 3));
    let counters = async || {
        let counted = host
            .datapath
            .counters(vec![(switch(), id("a"))])
            .await
            .unwrap();
        counted[0].1.counters
    };
    let before = counters().await;
    assert_eq!(
        before.ingress_packets, 1,
        "what it sent before it was a port doesn't count"
    );
    assert!(before.egress_packets >= 1, "{before:?}");
    // The guest takes its interface down, and up.
    a.link(false);
    host.linked("a", Link::Down).await;
    a.link(true);
    host.linked("a", Link::Up).await;
    host.unplug(&a);
    host.linked("a", Link::Down).await;
    let at_rest = counters().await;
    assert!(
        at_rest.ingress_packets >= before.ingress_packets,
        "{at_rest:?}"
    );
    assert_eq!(counters().await, at_rest);
    host.plug(&a, "a");
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 4));
    let after = counters().await;
    assert!(
        after.ingress_packets > at_rest.ingress_packets,
        "{at_rest:?} {after:?}"
    );
    // Another placement begins at nothing, and ends this one.
    let mut spec: VirtualPort = host.spec(access(10), Some(a.mac()));
    spec.epoch = Epoch(2);
    let ended = host.end(host.set("a", spec)).await;
    assert_eq!((ended.epoch, ended.counters), (Epoch(1), after));
    assert_eq!(counters().await.ingress_packets, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_interface_is_no_port() {
    if skipped("a_broken_interface_is_no_port") {
        return;
    }
    let host = Host::start().await;
    let add = ["--no-wait", "add-port", &host.bridge(), "nodevice0"];
    let set = [
        "--",
        "set",
        "Interface",
        "nodevice0",
        "external_ids:iface-id=a",
    ];
    host.ovs
        .vsctl(&[add.as_slice(), set.as_slice()].concat())
        .unwrap();
    let broken = async || {
        let failed = host.port("a", access(10), None).await;
        failed.is_err_and(|failure| failure.message.contains("nodevice0"))
    };
    until("the port fails, and the device is named", broken).await;
    assert_eq!(host.there("a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_is_a_port_by_its_name() {
    if skipped("an_interface_is_a_port_by_its_name") {
        return;
    }
    let host = Host::with(|_, config, _| {
        // As Proxmox names them.
        config.patterns = vec!["tap<vm>i<n>=vm-<vm>-<n>".parse().unwrap()];
    })
    .await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    a.wire_to(host.ovs.namespace());
    let ip = |words: &str| {
        let words: Vec<&str> = ["-n", host.ovs.namespace(), "link", "set"]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run("ip", &words);
    };
    ip(&format!("{} down name tap100i0", a.interface()));
    ip("tap100i0 up");
    // One of another name beside it is nobody's.
    let plug = |interface: &str| {
        let add = [
            "add-port",
            &host.bridge(),
            interface,
            "--",
            "set",
            "Interface",
            interface,
        ];
        let kind = if interface == "tap100i0" {
            "type=system"
        } else {
            "type=dummy"
        };
        host.ovs.vsctl(&[add.as_slice(), &[kind]].concat()).unwrap();
    };
    plug("fwln100i1");
    plug("tap100i0");
    let told = loop {
        match host.datapath.next_notice().await {
            Notice::Plugged { port, .. } if port == id("b") => {}
            Notice::Plugged {
                switch,
                port,
                vnic,
                mac,
            } => break (switch, port, vnic, mac),
            _ => {}
        }
    };
    assert_eq!(told, (switch(), id("vm-100-0"), None, None));
    host.port("vm-100-0", access(10), Some(a.mac()))
        .await
        .unwrap();
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    host.ovs.vsctl(&["del-port", "tap100i0"]).unwrap();
    host.linked("vm-100-0", Link::Down).await;
}
