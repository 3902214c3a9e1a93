// SPDX-License-Identifier: Apache-2.0
//! What passed through a port counts once, whatever becomes of its interface's
//! row, of its device and of what Open vSwitch says of it.
#![allow(clippy::unwrap_used)]

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::{Counters, Link};
use dvs_tests::lan::{Host, Vm, access, id, reaches, run, switch};
use host_agent::datapath::{Datapath, Extent};

async fn counted(host: &Host) -> Counters {
    let ports = vec![(switch(), id("a"))];
    host.datapath.counters(ports).await.unwrap()[0].1.counters
}

/// A machine sends so many frames that another one hears.
fn send(from: &mut Vm, to: &mut Vm, frames: u64) {
    for number in 0..frames {
        assert!(reaches(from, to, number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_outlives_its_row_counts_once() {
    if skipped("a_device_that_outlives_its_row_counts_once") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    send(&mut a, &mut b, 9);
    let mut sent = 9;
    assert_eq!(counted(&host).await.ingress_packets, sent);
    // It goes and comes, and so do the bus and the publisher, of which nothing
    // is seen here: the port stays this host's.
    for _ in 0..3 {
        host.unplug(&a);
        host.linked("a", Link::Down).await;
        assert_eq!(counted(&host).await.ingress_packets, sent);
        host.plug(&a, "a");
        host.linked("a", Link::Up).await;
        send(&mut a, &mut b, 2);
        sent += 2;
        assert_eq!(counted(&host).await.ingress_packets, sent);
    }
    // In one transaction, before anybody has read what it sent last.
    for _ in 0..3 {
        send(&mut a, &mut b, 2);
        let (bridge, name) = (host.bridge(), a.interface());
        let del = ["del-port", &bridge, name, "--", "add-port", &bridge, name];
        let id = ["--", "set", "Interface", name, "external_ids:iface-id=a"];
        host.ovs.vsctl(&[&del[..], &id].concat()).unwrap();
        host.linked("a", Link::Up).await;
        send(&mut a, &mut b, 2);
        sent += 4;
        assert_eq!(counted(&host).await.ingress_packets, sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_are_absent_for_a_while_are_not_zero() {
    if skipped("counters_that_are_absent_for_a_while_are_not_zero") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    send(&mut a, &mut b, 9);
    let before = counted(&host).await;
    assert_eq!(before.ingress_packets, 9);
    let ip = |words: &str| {
        let here = ["-n", host.ovs.namespace(), "link", "set"].into_iter();
        run("ip", &here.chain(words.split(' ')).collect::<Vec<_>>());
    };
    // The device has another name for a while, and nobody can ask it.
    let name = a.interface().to_owned();
    ip(&format!("{name} down"));
    ip(&format!("{name} name away"));
    host.linked("a", Link::Down).await;
    assert_eq!(counted(&host).await, before);
    ip(&format!("away name {name}"));
    ip(&format!("{name} up"));
    host.linked("a", Link::Up).await;
    assert_eq!(counted(&host).await, before);
    send(&mut a, &mut b, 2);
    assert_eq!(counted(&host).await.ingress_packets, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_a_plug_is_no_write_after_a_restart() {
    if skipped("a_port_without_a_plug_is_no_write_after_a_restart") {
        return;
    }
    let mut host = Host::start().await;
    let _a = host.vm(1, "a", access(10)).await;
    let extent = async |host: &Host, port: &str| {
        let set = host.port(port, access(10), None).await;
        set.unwrap().extent
    };
    assert_eq!(extent(&host, "a").await, Extent::Written);
    assert_eq!(extent(&host, "nowhere").await, Extent::Kept);
    host.restart_agent().await;
    host.datapath.read().await.unwrap();
    assert_eq!(extent(&host, "nowhere").await, Extent::Kept);
    let written = (host.counts.transactions(), host.counts.programmes());
    assert_eq!(written, (0, 0));
}
