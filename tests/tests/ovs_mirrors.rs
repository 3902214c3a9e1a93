// SPDX-License-Identifier: Apache-2.0
//! Mirror sessions, judged by frames: what is copied, where the copies come
//! out, how many there are, and who hears none.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::{Direction, MirrorDestination, MirrorPort, VlanId};
use dvs_tests::lan::{Frame, Host, Mac, Vm, Wire, access, id, is_heard, switch, uplink};
use host_agent::datapath::{Datapath, DriftPolicy, Mirror, Write};
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
    for vm in [&mut untagged, &mut blocked, &mut unclaimed] {
        assert_eq!(vm.next(Duration::from_millis(50)), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_copy_into_each_other_make_no_loop() {
    if skipped("sessions_that_copy_into_each_other_make_no_loop") {
        return;
    }
    let wire = Wire::new();
    let [left, right] = [on_wire(&wire, 0).await, on_wire(&wire, 1).await];
    let mut a = left.vm(1, "a", access(100)).await;
    let mut b = right.vm(2, "b", access(100)).await;
    let mut probe = right.vm(3, "probe", access(200)).await;
    assert!(is_heard(&mut a, &mut b, Duration::from_secs(20)));
    // Hosts may hold sessions that the publisher would not admit together: of
    // different times, each of a part.
    for host in [&left, &right] {
        host.mirror("to-200", of_vlan(100, into(200)))
            .await
            .unwrap();
        host.mirror("to-100", of_vlan(200, into(100)))
            .await
            .unwrap();
    }
    let frame = Frame::number(a.mac(), Mac::ALL, 1);
    b.drain();
    let last = Frame::number(a.mac(), Mac::ALL, LAST);
    a.send(&frame);
    a.send(&last);
    assert_eq!(b.until(|heard| *heard == last), Some(vec![frame.clone()]));
    drop(probe.next(Duration::from_millis(200)));
    probe.drain();
    b.drain();
    assert_eq!(b.next(Duration::from_millis(200)), None, "it goes round");
    assert_eq!(
        probe.next(Duration::from_millis(200)),
        None,
        "it goes round"
    );
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
