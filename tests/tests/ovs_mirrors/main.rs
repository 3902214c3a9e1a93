// SPDX-License-Identifier: Apache-2.0
//! Mirror sessions, judged by frames: what is copied, where the copies come
//! out, how many there are, and who hears none.
#![allow(clippy::unwrap_used)]

mod others;
mod rounds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::ConditionKind;
use dvs_schemas::{Direction, MirrorDestination, MirrorPort, VlanId};
use dvs_tests::lan::{Frame, Host, Mac, Vm, Wire, access, id, is_heard, switch, uplink};
use host_agent::datapath::{Datapath, DriftPolicy, Mirror, Notice, Write};
use serde_json::json;

/// The number of a frame that is sent when the one before it has arrived, so
/// it comes behind all of its copies.
const LAST: u64 = u64::MAX;

fn vlan(number: u16) -> VlanId {
    serde_json::from_value(json!(number)).unwrap()
}

/// A host with one end of a wire as its uplink.
async fn on_wire(wire: &Wire, end: usize) -> Host {
    on_wire_with(wire, end, DriftPolicy::Repair).await
}

/// The same, with what is done about drift there.
async fn on_wire_with(wire: &Wire, end: usize, policy: DriftPolicy) -> Host {
    Host::with(|settings, config, ovs| {
        config.drift = policy;
        let name = uplink("uplink0");
        settings.uplinks.push(name.clone());
        let interface = wire.end(end, ovs.namespace()).to_owned();
        config.uplinks.insert((switch(), name), interface);
    })
    .await
}

/// A session that copies VLANs.
fn of_vlan(from: u16, destination: MirrorDestination) -> Mirror {
    Mirror {
        ports: Vec::new(),
        vlans: vec![vlan(from)],
        destination,
    }
}

fn into(to: u16) -> MirrorDestination {
    MirrorDestination::Vlan(vlan(to))
}

/// The copies of a frame that come to probes: all of them are on their way once
/// the frame was heard, and what is sent then is copied behind them.
fn copies<const N: usize>(
    frame: &Frame,
    from: &mut Vm,
    to: &mut Vm,
    mut probes: [&mut Vm; N],
) -> [Vec<Frame>; N] {
    for vm in &mut probes {
        vm.drain();
    }
    to.drain();
    let last = Frame::number(from.mac(), frame.to, LAST);
    for sent in [frame, &last] {
        from.send(sent);
        assert!(to.until(|heard| heard == sent).is_some());
    }
    probes.map(|probe| {
        let copies = probe.until(|heard| *heard == last);
        copies.expect("the copy of the last frame")
    })
}

/// Frames to all, and what machines hear of them, up to the last one. Each is
/// sent when the first machine has heard the one before it, so what goes round
/// has many turns to show up again.
fn behind_each_other<const N: usize>(
    from: &mut Vm,
    mut to: [&mut Vm; N],
) -> (Vec<Frame>, [Vec<Frame>; N]) {
    for vm in &mut to {
        vm.drain();
    }
    let numbers = (1..=20).chain([LAST]);
    let sent: Vec<Frame> = numbers
        .map(|number| Frame::number(from.mac(), Mac::ALL, number))
        .collect();
    let mut heard = [(); N].map(|()| Vec::new());
    for frame in &sent {
        from.send(frame);
        for (vm, heard) in to.iter_mut().zip(&mut heard) {
            let before = vm.until(|heard| heard == frame);
            heard.extend(before.expect("a frame to all"));
            heard.push(frame.clone());
        }
    }
    (sent, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_session_copies_what_its_ports_send_and_receive() {
    if skipped("a_mirror_session_copies_what_its_ports_send_and_receive") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut probe = host.vm(3, "probe", access(10)).await;
    let of = |direction| Mirror {
        ports: vec![MirrorPort {
            port: id("a"),
            direction,
        }],
        vlans: Vec::new(),
        destination: MirrorDestination::Port(id("probe")),
    };
    // Addresses are known, so nothing floods.
    let to_b = Frame::number(a.mac(), b.mac(), 1);
    let to_a = Frame::number(b.mac(), a.mac(), 2);
    let last = Frame::number(a.mac(), b.mac(), LAST);
    let last_to_a = Frame::number(b.mac(), a.mac(), LAST);
    let copies = |a: &mut Vm, b: &mut Vm, probe: &mut Vm| -> Vec<Frame> {
        probe.drain();
        a.send(&to_b);
        assert!(b.until(|frame| *frame == to_b).is_some());
        b.send(&to_a);
        assert!(a.until(|frame| *frame == to_a).is_some());
        // One of the two is copied whatever the direction.
        a.send(&last);
        assert!(b.until(|frame| *frame == last).is_some());
        b.send(&last_to_a);
        assert!(a.until(|frame| *frame == last_to_a).is_some());
        probe.until(|frame| frame.carried() == Some(LAST)).unwrap()
    };
    host.mirror("m", of(Direction::Ingress)).await.unwrap();
    assert_eq!(
        copies(&mut a, &mut b, &mut probe),
        std::slice::from_ref(&to_b)
    );
    host.mirror("m", of(Direction::Egress)).await.unwrap();
    assert_eq!(
        copies(&mut a, &mut b, &mut probe),
        std::slice::from_ref(&to_a)
    );
    host.mirror("m", of(Direction::Both)).await.unwrap();
    assert_eq!(
        copies(&mut a, &mut b, &mut probe),
        [to_b.clone(), to_a.clone()]
    );
    // What is copied to a port is all that it gets, and it sends nothing.
    probe.send(&Frame::number(probe.mac(), Mac::ALL, 5));
    let everybody = Frame::number(b.mac(), Mac::ALL, 6);
    let last = Frame::number(b.mac(), Mac::ALL, LAST);
    a.drain();
    b.send(&everybody);
    b.send(&last);
    assert_eq!(a.until(|heard| *heard == last), Some(vec![everybody]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_session_copies_a_vlan_and_into_a_vlan() {
    if skipped("a_mirror_session_copies_a_vlan_and_into_a_vlan") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let b = host.vm(2, "b", access(10)).await;
    let mut c = host.vm(3, "c", access(20)).await;
    let mut probe = host.vm(4, "probe", access(10)).await;
    let mut remote = host.vm(5, "remote", access(999)).await;
    let mirror = |destination| Mirror {
        ports: Vec::new(),
        vlans: vec![vlan(10)],
        destination,
    };
    let to_b = Frame::number(a.mac(), b.mac(), 1);
    let last = Frame::number(a.mac(), b.mac(), LAST);
    let to_port = mirror(MirrorDestination::Port(id("probe")));
    host.mirror("m", to_port).await.unwrap();
    c.send(&Frame::number(c.mac(), Mac::ALL, 2));
    probe.drain();
    a.send(&to_b);
    a.send(&last);
    let copied = probe.until(|frame| *frame == last).unwrap();
    assert_eq!(copied, std::slice::from_ref(&to_b));
    let to_vlan = mirror(MirrorDestination::Vlan(vlan(999)));
    host.mirror("m", to_vlan).await.unwrap();
    remote.drain();
    a.send(&to_b);
    a.send(&last);
    let copied = remote.until(|frame| *frame == last).unwrap();
    assert_eq!(copied, [to_b]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_gives_one_copy_in_a_vlan_however_many_hosts_it_passes() {
    if skipped("a_frame_gives_one_copy_in_a_vlan_however_many_hosts_it_passes") {
        return;
    }
    let wire = Wire::new();
    let [left, right] = [on_wire(&wire, 0).await, on_wire(&wire, 1).await];
    let mut a = left.vm(1, "a", access(100)).await;
    let mut b = right.vm(2, "b", access(100)).await;
    let mut here = left.vm(3, "here", access(999)).await;
    let mut there = right.vm(4, "there", access(999)).await;
    // Who is in no VLAN of copies, passes nothing, or is nobody's hears none.
    let mut untagged = left.vm(5, "untagged", json!({"vlan": "untagged"})).await;
    let blocked = json!({"vlan": {"access": 999}, "blocked": true});
    let mut blocked = left.vm(6, "blocked", blocked).await;
    let mut unclaimed = Vm::start(Mac::numbered(7));
    left.plug(&unclaimed, "nobodys");
    assert!(is_heard(&mut a, &mut b, Duration::from_secs(20)));
    for host in [&left, &right] {
        host.mirror("m", of_vlan(100, into(999))).await.unwrap();
    }
    for vm in [&mut untagged, &mut blocked, &mut unclaimed] {
        vm.drain();
    }
    for (number, to) in [(1, Mac::ALL), (2, b.mac())] {
        let frame = Frame::number(a.mac(), to, number);
        let copies = copies(&frame, &mut a, &mut b, [&mut here, &mut there]);
        assert_eq!(copies, [vec![frame.clone()], vec![frame]]);
    }
    // The way back, where every sender is known by now.
    let frame = Frame::number(b.mac(), a.mac(), 3);
    let copies = copies(&frame, &mut b, &mut a, [&mut here, &mut there]);
    assert_eq!(copies, [vec![frame.clone()], vec![frame]]);
    // What follows comes behind all that they could have heard before.
    let last = Frame::number(a.mac(), Mac::ALL, LAST);
    let all = json!({"vlan": {"access": 100}});
    for (port, vm) in [("untagged", &mut untagged), ("blocked", &mut blocked)] {
        left.port(port, all.clone(), Some(vm.mac())).await.unwrap();
        a.send(&last);
        assert_eq!(vm.until(|heard| *heard == last), Some(Vec::new()));
    }
    left.port("nobodys", all, Some(unclaimed.mac()))
        .await
        .unwrap();
    a.send(&last);
    assert_eq!(unclaimed.until(|heard| *heard == last), Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_port_gets_no_copies() {
    if skipped("a_blocked_port_gets_no_copies") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut probe = host.vm(3, "probe", access(10)).await;
    let to_probe = MirrorDestination::Port(id("probe"));
    host.mirror("m", of_vlan(10, to_probe)).await.unwrap();
    let frame = Frame::number(a.mac(), b.mac(), 1);
    let copied = copies(&frame, &mut a, &mut b, [&mut probe]);
    assert_eq!(copied, [vec![frame]]);
    let mut blocked = access(10);
    blocked["blocked"] = json!(true);
    host.port("probe", blocked, Some(probe.mac()))
        .await
        .unwrap();
    probe.drain();
    let (sent, [heard]) = behind_each_other(&mut a, [&mut b]);
    assert_eq!(heard, sent);
    // Behind all of that comes what is copied once it is unblocked.
    host.port("probe", access(10), Some(probe.mac()))
        .await
        .unwrap();
    let last = Frame::number(a.mac(), b.mac(), LAST);
    a.send(&last);
    assert_eq!(probe.until(|heard| *heard == last), Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_others_on_a_bridge_of_ours_is_told_and_stays() {
    if skipped("a_mirror_of_others_on_a_bridge_of_ours_is_told_and_stays") {
        return;
    }
    let wire = Wire::new();
    let host = on_wire(&wire, 0).await;
    let a = host.vm(1, "a", access(10)).await;
    let bridges = [host.bridge(), format!("{}-u", host.bridge())];
    for bridge in &bridges {
        let words = format!(
            "--id=@p get Port {} -- --id=@m create Mirror name=theirs select_all=true {} -- add \
             Bridge {bridge} mirrors @m",
            a.interface(),
            if *bridge == bridges[0] {
                "output_port=@p"
            } else {
                "output_vlan=7"
            },
        );
        let words: Vec<&str> = words.split_whitespace().collect();
        host.ovs.vsctl(&words).unwrap();
    }
    let told = loop {
        let told = foreign(&host).await;
        if told.len() == 2 {
            break told;
        }
    };
    let on = |bridge: &String| ("mirror theirs".to_owned(), bridge.clone());
    assert_eq!(
        told.keys().cloned().collect::<Vec<_>>(),
        bridges.each_ref().map(on)
    );
    let said: Vec<&String> = told.values().collect();
    assert!(
        said[0].contains(&format!("to interface {}", a.interface())),
        "{said:?}"
    );
    assert!(said[1].contains("into VLAN 7"), "{said:?}");
    // A change of the switch leaves them alone.
    host.mirror("m", of_vlan(10, into(999))).await.unwrap();
    for bridge in &bridges {
        let mirrors = host
            .ovs
            .vsctl(&["get", "Bridge", bridge, "mirrors"])
            .unwrap();
        assert_ne!(mirrors.trim(), "[]");
        let gone = ["clear", "Bridge", bridge, "mirrors"];
        host.ovs.vsctl(&gone).unwrap();
    }
    while !foreign(&host).await.is_empty() {}
}

/// What others have set, as it was told last: by what it is and where, with
/// what is said of it.
async fn foreign(host: &Host) -> BTreeMap<(String, String), String> {
    loop {
        if let Notice::Conditions { kind, now } = host.datapath.next_notice().await
            && kind == ConditionKind::ForeignSettings
        {
            let each = now.into_iter();
            let named = each.map(|(on, why)| ((on.field.unwrap(), on.interface.unwrap()), why));
            return named.collect();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_a_vlan_of_copies_is_not_copied_from_into_a_vlan_and_that_is_said() {
    if skipped("a_port_in_a_vlan_of_copies_is_not_copied_from_into_a_vlan_and_that_is_said") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(100)).await;
    let of_a = |to| Mirror {
        ports: vec![MirrorPort {
            port: id("a"),
            direction: Direction::Both,
        }],
        vlans: Vec::new(),
        destination: into(to),
    };
    host.mirror("first", of_a(200)).await.unwrap();
    host.mirror("second", of_vlan(300, into(100)))
        .await
        .unwrap();
    let failure = host.mirror("first", of_a(200)).await.unwrap_err();
    assert_eq!(failure.field.as_deref(), Some("source.ports"));
    assert!(failure.message.contains("port a"), "{failure}");
    host.port("a", access(101), Some(a.mac())).await.unwrap();
    host.mirror("first", of_a(200)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_to_a_port_copies_what_its_host_hears_of_a_vlan_once() {
    if skipped("a_session_to_a_port_copies_what_its_host_hears_of_a_vlan_once") {
        return;
    }
    let wire = Wire::new();
    let [left, right] = [on_wire(&wire, 0).await, on_wire(&wire, 1).await];
    let mut a = left.vm(1, "a", access(100)).await;
    let mut b = right.vm(2, "b", access(100)).await;
    let _c = right.vm(3, "c", access(100)).await;
    let mut probe = right.vm(4, "probe", access(1)).await;
    let mut unclaimed = Vm::start(Mac::numbered(5));
    right.plug(&unclaimed, "nobodys");
    let mut untagged = right.vm(6, "untagged", json!({"vlan": "untagged"})).await;
    assert!(is_heard(&mut a, &mut b, Duration::from_secs(20)));
    let to_probe = MirrorDestination::Port(id("probe"));
    right.mirror("m", of_vlan(100, to_probe)).await.unwrap();
    probe.drain();
    // Nobody gets a frame into the VLAN, or to the probe, who isn't in it.
    for stranger in [&mut unclaimed, &mut untagged] {
        let frame = Frame::number(stranger.mac(), Mac::ALL, 9);
        stranger.send(&frame.tagged(100));
    }
    for (number, to) in [(1, Mac::ALL), (2, b.mac())] {
        let frame = Frame::number(a.mac(), to, number);
        let heard = copies(&frame, &mut a, &mut b, [&mut probe]);
        assert_eq!(heard, [vec![frame]]);
    }
    let frame = Frame::number(b.mac(), a.mac(), 3);
    let heard = copies(&frame, &mut b, &mut a, [&mut probe]);
    assert_eq!(heard, [vec![frame]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_session_that_is_gone() {
    if skipped("nothing_is_left_of_a_session_that_is_gone") {
        return;
    }
    for policy in [DriftPolicy::Repair, DriftPolicy::Report] {
        let wire = Wire::new();
        let mut host = on_wire_with(&wire, 0, policy).await;
        let _a = host.vm(1, "a", access(100)).await;
        let (ports, uplinks) = (host.bridge(), format!("{}-u", host.bridge()));
        let ports = |host: &Host| host.ovs.vsctl(&["list-ports", &ports]).unwrap();
        let flooded = |host: &Host| {
            let flooded = host.ovs.vsctl(&["get", "Bridge", &uplinks, "flood_vlans"]);
            flooded.unwrap().trim().to_owned()
        };
        let before = ports(&host);
        host.mirror("m", of_vlan(100, into(999))).await.unwrap();
        assert_eq!(flooded(&host), "[999]");
        let there = host.datapath.read().await.unwrap();
        host.restart_agent().await;
        assert_eq!(host.datapath.read().await.unwrap(), there);
        let written = (host.counts.transactions(), host.counts.programmes());
        assert_eq!(written, (0, 0));
        // One that comes is copied from, whatever is done about drift.
        let _b = host.vm(2, "b", access(100)).await;
        let sources = host
            .ovs
            .vsctl(&["--columns=select_src_port", "list", "Mirror"]);
        assert_eq!(sources.unwrap().matches('-').count(), 2 * 4, "two UUIDs");
        let mirror = "m".parse().unwrap();
        let from = Arc::new(of_vlan(100, into(999)));
        host.write(Write::RemoveMirror { mirror, from })
            .await
            .unwrap();
        assert_eq!(
            ports(&host).matches("-c").count(),
            before.matches("-c").count()
        );
        assert_eq!(flooded(&host), "[]");
        assert_eq!(
            host.ovs
                .vsctl(&["--columns=_uuid", "list", "Mirror"])
                .unwrap(),
            ""
        );
        assert_eq!(host.counts.drifts(), 0);
    }
}
