// SPDX-License-Identifier: Apache-2.0
//! Two hosts, each with an Open vSwitch of its own, joined by their uplinks.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dvs_ovsdb::testing::{Ovs as Process, skipped};
use dvs_schemas::Epoch;
use dvs_schemas::documents::Teaming;
use dvs_schemas::v1::{ConditionKind, Link};
use dvs_tests::lan::{
    Frame, Host, Mac, Payload, Vm, Wire, access, id, is_heard, run, switch, uplink,
};
use host_agent::datapath::{Datapath, Notice, StepFailure, Write};
use serde_json::json;

/// A host whose uplinks are the ends of these wires.
async fn bonded(teaming: Teaming, wires: &[Wire], end: usize) -> Host {
    Host::with(|settings, config, ovs| {
        settings.teaming = teaming;
        for (number, wire) in wires.iter().enumerate() {
            let name = uplink(&format!("uplink{number}"));
            settings.uplinks.push(name.clone());
            let interface = wire.end(end, ovs.namespace()).to_owned();
            config.uplinks.insert((switch(), name), interface);
        }
    })
    .await
}

/// Two hosts with these wires between them.
async fn joined(teaming: Teaming, wires: &[Wire]) -> [Host; 2] {
    [
        bonded(teaming, wires, 0).await,
        bonded(teaming, wires, 1).await,
    ]
}

/// A bond takes its time to begin, and to go on.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends again and again until it is heard.
fn reaches(from: &mut Vm, to: &mut Vm) -> bool {
    is_heard(from, to, PATIENCE)
}

/// Both are heard, each of them speaking again while the other isn't. After a
/// wire was cut, the switch beyond may account late for what had come by it,
/// and learn that sender's address there once more: only the sender's next
/// frame tells it better.
fn speak(a: &mut Vm, b: &mut Vm) -> bool {
    let turn = Duration::from_millis(200);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_heard(a, b, turn) && is_heard(b, a, turn) {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_spans_hosts_and_another_does_not_leak() {
    if skipped("a_vlan_spans_hosts_and_another_does_not_leak") {
        return;
    }
    let wires = [Wire::new()];
    let [left, right] = joined(Teaming::ActiveBackup, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = right.vm(2, "b", access(10)).await;
    let mut c = right.vm(3, "c", access(20)).await;
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    c.drain();
    a.send(&Frame::number(a.mac(), Mac::ALL, 7));
    assert!(b.until(|frame| frame.carried() == Some(7)).is_some());
    let last = Frame::number(b.mac(), Mac::ALL, 8);
    right.port("c", access(10), Some(c.mac())).await.unwrap();
    b.send(&last);
    assert_eq!(c.until(|frame| *frame == last), Some(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_moves_is_reached_on_its_new_host_and_gone_from_the_old() {
    if skipped("a_port_that_moves_is_reached_on_its_new_host_and_gone_from_the_old") {
        return;
    }
    let wires = [Wire::new()];
    let [left, right] = joined(Teaming::ActiveBackup, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = left.vm(2, "b", access(10)).await;
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    let counted = left.there("b").await.unwrap();
    // It is powered off here and unplugged, as a hypervisor does.
    b.link(false);
    left.linked("b", Link::Down).await;
    left.unplug(&b);
    let from = counted.port.clone();
    let ended = left
        .end(Write::RemovePort {
            port: id("b"),
            from,
        })
        .await;
    assert!(
        ended.counters.ingress_packets > 0 && ended.counters.egress_packets > 0,
        "{ended:?}"
    );
    assert_eq!(left.there("b").await, None);
    let mut spec = right.spec(access(10), Some(b.mac()));
    spec.epoch = Epoch(2);
    right.write(right.set("b", spec)).await.unwrap();
    right.plug(&b, "b");
    b.link(true);
    right.linked("b", Link::Up).await;
    assert!(reaches(&mut b, &mut a) && reaches(&mut a, &mut b));
}

/// Cuts one wire after the other while two machines speak.
fn cut_each(wires: &[Wire], a: &mut Vm, b: &mut Vm, teaming: Teaming) {
    assert!(speak(a, b), "{teaming:?}");
    for wire in wires {
        wire.connected(false);
        assert!(speak(a, b), "{teaming:?}, cut");
        wire.connected(true);
        assert!(speak(a, b), "{teaming:?}, mended");
    }
    // Nothing comes twice.
    for number in [101, 102] {
        b.drain();
        let frame = Frame::number(a.mac(), Mac::ALL, number);
        a.send(&frame);
        assert_eq!(
            b.until(|heard| *heard == frame),
            Some(vec![]),
            "{teaming:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lacp_bond_goes_on_when_a_wire_is_cut() {
    if skipped("a_lacp_bond_goes_on_when_a_wire_is_cut") {
        return;
    }
    let wires = [Wire::new(), Wire::new()];
    let [left, right] = joined(Teaming::Lacp, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = right.vm(2, "b", access(10)).await;
    cut_each(&wires, &mut a, &mut b, Teaming::Lacp);
}

/// These two need no partner, and are made for a switch that knows nothing of
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn a_bond_to_a_plain_switch_goes_on_when_a_wire_is_cut() {
    if skipped("a_bond_to_a_plain_switch_goes_on_when_a_wire_is_cut") {
        return;
    }
    for teaming in [Teaming::ActiveBackup, Teaming::BalanceSlb] {
        let wires = [Wire::new(), Wire::new()];
        let left = bonded(teaming, &wires, 0).await;
        let plain = Process::start().unwrap();
        let bridge = Process::unique("p");
        let netdev = ["--", "set", "Bridge", &bridge, "datapath_type=netdev"];
        plain
            .vsctl(&[["add-br", &bridge].as_slice(), &netdev].concat())
            .unwrap();
        let mut a = left.vm(1, "a", access(10)).await;
        let mut b = Vm::start(Mac::numbered(2));
        b.wire_to(plain.namespace());
        let mut ports: Vec<&str> = vec![b.interface()];
        ports.extend(wires.iter().map(|wire| wire.end(1, plain.namespace())));
        for port in ports {
            let tag = if port == b.interface() {
                "tag=10"
            } else {
                "trunks=10"
            };
            plain.vsctl(&["add-port", &bridge, port, tag]).unwrap();
        }
        cut_each(&wires, &mut a, &mut b, teaming);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uplinks_come_go_and_can_be_missing() {
    if skipped("uplinks_come_go_and_can_be_missing") {
        return;
    }
    let wires = [Wire::new()];
    let [mut left, right] = joined(Teaming::ActiveBackup, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = right.vm(2, "b", access(10)).await;
    assert!(reaches(&mut a, &mut b));
    let with = left.settings();
    let mut without = with.clone();
    without.uplinks.clear();
    left.change(without).await.unwrap();
    let bridges = left.ovs.vsctl(&["list-br"]).unwrap();
    assert_eq!(bridges.trim(), left.bridge());
    let mut missing = with.clone();
    missing.uplinks.push(uplink("nowhere"));
    let failure = left.change(missing).await.unwrap_err();
    assert_eq!(failure.field.as_deref(), Some("uplinks"));
    assert!(failure.message.contains("nowhere"), "{failure}");
    left.change(with.clone()).await.unwrap();
    assert!(reaches(&mut a, &mut b) && reaches(&mut b, &mut a));
    // An interface that is somebody else's stays theirs.
    let taken = Vm::start(Mac::numbered(9));
    left.plug(&taken, "x");
    let mut stolen = with.clone();
    stolen.uplinks = vec![uplink(taken.interface())];
    let failure = left.change(stolen).await.unwrap_err();
    assert_eq!(failure.field.as_deref(), Some("uplinks"));
    assert!(failure.message.contains(&left.bridge()), "{failure}");
    left.change(with).await.unwrap();
    assert!(reaches(&mut a, &mut b));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mtu_holds_on_uplinks_and_ports() {
    if skipped("the_mtu_holds_on_uplinks_and_ports") {
        return;
    }
    let wires = [Wire::new()];
    let [mut left, _right] = joined(Teaming::ActiveBackup, &wires).await;
    let a = left.vm(1, "a", access(10)).await;
    let mut settings = left.settings();
    settings.mtu = serde_json::from_value(json!(9_000)).unwrap();
    left.change(settings).await.unwrap();
    for interface in [wires[0].name(0), a.interface()] {
        let mtu = left
            .ovs
            .vsctl(&["get", "Interface", interface, "mtu"])
            .unwrap();
        assert_eq!(mtu.trim(), "9000", "{interface}");
        let shown = run(
            "ip",
            &["-n", left.ovs.namespace(), "link", "show", interface],
        );
        assert!(shown.contains("mtu 9000"), "{shown}");
    }
    let from = Arc::new(left.settings());
    let failure = left.write(Write::RemoveBridge { from }).await.unwrap_err();
    assert!(failure.message.contains("1 port"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_has_its_number_whatever_restarts() {
    if skipped("a_patch_has_its_number_whatever_restarts") {
        return;
    }
    let wires = [Wire::new()];
    let [mut left, right] = joined(Teaming::ActiveBackup, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = right.vm(2, "b", access(10)).await;
    let numbers = |host: &Host| {
        ["up", "dn"].map(|end| {
            let patch = format!("{}-{end}", host.bridge());
            let get = ["get", "Interface", &patch, "ofport"];
            host.ovs.vsctl(&get).unwrap().trim().to_owned()
        })
    };
    assert_eq!(numbers(&left), ["65279", "65279"]);
    left.ovs.stop_vswitchd().unwrap();
    left.ovs.start_vswitchd().unwrap();
    assert_eq!(numbers(&left), ["65279", "65279"]);
    assert!(speak(&mut a, &mut b));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_of_the_uplink_stays_and_what_is_ours_is_set_right() {
    if skipped("what_others_say_of_the_uplink_stays_and_what_is_ours_is_set_right") {
        return;
    }
    let wires = [Wire::new()];
    let [left, _right] = joined(Teaming::ActiveBackup, &wires).await;
    let port = format!("{}-ul", left.bridge());
    let theirs = "other_config:bond-detect-mode=carrier";
    let ours = "other_config:lacp-time=slow";
    left.ovs
        .vsctl(&["set", "Port", &port, theirs, ours])
        .unwrap();
    let shown = || {
        let get = ["get", "Port", &port, "other_config"];
        left.ovs.vsctl(&get).unwrap().trim().to_owned()
    };
    let right = "{bond-detect-mode=carrier, lacp-time=fast, priority-tags=always}";
    let deadline = Instant::now() + PATIENCE;
    while shown() != right {
        assert!(Instant::now() < deadline, "{}", shown());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left.counts.drifts(), 1);
}

/// A frame with so many bytes behind its Ethernet type.
fn sized(from: &Vm, to: &Vm, number: u64, bytes: usize) -> Frame {
    Frame::number(from.mac(), to.mac(), number).carrying(Payload::Number(number, bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_passes_up_to_the_mtu_and_not_beyond() {
    if skipped("a_frame_passes_up_to_the_mtu_and_not_beyond") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    for vm in [&a, &b] {
        // The guests would send and take more.
        let namespace = ["-n", vm.namespace(), "link", "set", "eth0", "mtu", "9500"];
        run("ip", &namespace);
    }
    // Four bytes beyond are for a tag, wherever an interface has one.
    for (mtu, too_long) in [(1_500, 1_505), (9_000, 9_005)] {
        let mut settings = host.settings();
        settings.mtu = serde_json::from_value(json!(mtu)).unwrap();
        host.change(settings).await.unwrap();
        b.drain();
        a.send(&sized(&a, &b, 1, too_long));
        a.send(&sized(&a, &b, 2, mtu));
        let last = Frame::number(a.mac(), b.mac(), 3);
        a.send(&last);
        let heard = b.until(|frame| *frame == last);
        assert_eq!(heard, Some(vec![sized(&a, &b, 2, mtu)]), "MTU {mtu}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mtu_that_an_interface_does_not_take_is_said() {
    if skipped("an_mtu_that_an_interface_does_not_take_is_said") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    host.port("small", access(10), None).await.unwrap();
    // One on top of another never has more than that one.
    let ip = |words: &str| {
        let namespace = host.ovs.namespace();
        let words: Vec<&str> = ["-n", namespace]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run("ip", &words)
    };
    ip("link add below type veth peer name other");
    ip("link add link below name small type macvlan");
    ip("link set below up");
    let id = "external_ids:iface-id=small";
    let set = ["--", "set", "Interface", "small", id];
    let add = ["add-port", &host.bridge(), "small"];
    host.ovs.vsctl(&[add.as_slice(), &set].concat()).unwrap();
    let mut settings = host.settings();
    settings.mtu = serde_json::from_value(json!(9_000)).unwrap();
    let failure = host.change(settings.clone()).await.unwrap_err();
    assert_eq!(
        failure,
        StepFailure::new(Some("mtu"), "interface small keeps an MTU of 1500 bytes")
    );
    // What is there is told as it is, so that it is tried again.
    let there = host.datapath.read().await.unwrap();
    let bridge = there.get(&switch()).unwrap();
    assert_eq!(bridge.settings.mtu.get(), 1_500);
    assert_eq!(bridge.ports.len(), 3);
    assert!(reaches(&mut a, &mut b));
    host.ovs.vsctl(&["del-port", "small"]).unwrap();
    host.change(settings).await.unwrap();
    let there = host.datapath.read().await.unwrap();
    assert_eq!(there.get(&switch()).unwrap().settings.mtu.get(), 9_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_that_another_bridge_has_takes_none_of_the_others_away() {
    if skipped("an_uplink_that_another_bridge_has_takes_none_of_the_others_away") {
        return;
    }
    let wires = [Wire::new()];
    let [mut left, right] = joined(Teaming::ActiveBackup, &wires).await;
    let mut a = left.vm(1, "a", access(10)).await;
    let mut b = right.vm(2, "b", access(10)).await;
    assert!(speak(&mut a, &mut b));
    let words = "add-br other -- set Bridge other datapath_type=netdev \
                 -- add-port other taken -- set Interface taken type=dummy";
    let words: Vec<&str> = words.split_whitespace().collect();
    left.ovs.vsctl(&words).unwrap();
    let mut settings = left.settings();
    settings.uplinks.push(uplink("taken"));
    let failure = left.change(settings).await.unwrap_err();
    let message = "interface taken is on bridge other already; take it off first, with \
                   ovs-vsctl del-port other taken";
    assert_eq!(failure, StepFailure::new(Some("uplinks"), message));
    assert!(speak(&mut a, &mut b));
}

/// The interfaces that are said to hear no partner, as it was told last.
async fn alone(host: &Host) -> BTreeSet<String> {
    loop {
        if let Notice::Conditions { kind, now } = host.datapath.next_notice().await
            && kind == ConditionKind::LinkAggregation
        {
            return now.into_keys().filter_map(|on| on.interface).collect();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bond_without_a_partner_is_said_until_it_has_one() {
    if skipped("a_bond_without_a_partner_is_said_until_it_has_one") {
        return;
    }
    let wires = [Wire::new(), Wire::new()];
    // Nothing that can be written mends it, so it is no failure of a step.
    let left = bonded(Teaming::Lacp, &wires, 0).await;
    let names = wires.each_ref().map(|wire| wire.name(0).to_owned());
    let names = BTreeSet::from(names);
    // While a bond waits for its first answer it counts as hearing one.
    while alone(&left).await != names {}
    let _right = bonded(Teaming::Lacp, &wires, 1).await;
    while !alone(&left).await.is_empty() {}
}
