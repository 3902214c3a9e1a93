// SPDX-License-Identifier: Apache-2.0
//! Each field of the policy, judged by frames between network namespaces on a
//! real Open vSwitch: those pass that should, and those don't that shouldn't.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{
    Arp, Frame, Host, LAST, Mac, Payload, Vm, access, heard, heard_before, in_order,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn ports_of_one_vlan_hear_each_other_and_nobody_else() {
    if skipped("ports_of_one_vlan_hear_each_other_and_nobody_else") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut c = host.vm(3, "c", access(20)).await;
    let all = Frame::number(a.mac(), Mac::ALL, 1);
    let one = Frame::number(a.mac(), b.mac(), 2);
    let both = [all, one];
    assert_eq!(
        heard(&mut a, &both, &mut [&mut b]),
        [in_order(both.to_vec())]
    );
    // A port of a VLAN sends without tags: those of others don't pass.
    let tagged = [10, 20].map(|vlan| Frame::number(a.mac(), Mac::ALL, 3).tagged(vlan));
    let last = Frame::number(a.mac(), Mac::ALL, LAST);
    assert_eq!(
        heard_before(&mut a, &tagged, &last, &mut [&mut b]),
        [vec![]]
    );
    // All of that was sent before c could hear it.
    host.port("c", access(10), Some(c.mac())).await.unwrap();
    assert_eq!(heard(&mut a, &[], &mut [&mut c]), [vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_carries_its_vlans_with_tags_and_its_native_one_without() {
    if skipped("a_trunk_carries_its_vlans_with_tags_and_its_native_one_without") {
        return;
    }
    let host = Host::start().await;
    let trunk = json!({"vlan": {"trunk": {"vlans": ["10-12", 30], "native": 30}}});
    let mut trunk = host.vm(1, "trunk", trunk).await;
    let mut ten = host.vm(2, "ten", access(10)).await;
    let mut thirty = host.vm(3, "thirty", access(30)).await;
    let mut forty = host.vm(4, "forty", access(40)).await;
    let from_ten = Frame::number(ten.mac(), Mac::ALL, 1);
    let to_trunk = heard(&mut ten, std::slice::from_ref(&from_ten), &mut [&mut trunk]);
    assert_eq!(to_trunk, [vec![from_ten.tagged(10)]]);
    let native = Frame::number(thirty.mac(), Mac::ALL, 2);
    let to_trunk = heard(
        &mut thirty,
        std::slice::from_ref(&native),
        &mut [&mut trunk],
    );
    assert_eq!(to_trunk, [vec![native]]);
    let to_ten = Frame::number(trunk.mac(), ten.mac(), 3);
    let tagged = to_ten.clone().tagged(10);
    assert_eq!(
        heard(&mut trunk, &[tagged], &mut [&mut ten]),
        [vec![to_ten]]
    );
    let untagged = Frame::number(trunk.mac(), Mac::ALL, 4);
    let to_thirty = heard(
        &mut trunk,
        std::slice::from_ref(&untagged),
        &mut [&mut thirty],
    );
    assert_eq!(to_thirty, [vec![untagged]]);
    // 40 is none of the trunk's VLANs.
    trunk.send(&Frame::number(trunk.mac(), Mac::ALL, 5).tagged(40));
    heard(&mut trunk, &[], &mut [&mut thirty]);
    host.port("forty", access(30), Some(forty.mac()))
        .await
        .unwrap();
    assert_eq!(heard(&mut trunk, &[], &mut [&mut forty]), [vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_private_vlan_everybody_hears_whom_its_role_allows() {
    if skipped("in_a_private_vlan_everybody_hears_whom_its_role_allows") {
        return;
    }
    let private = json!([{"primary": 100, "isolated": 101, "communities": [102, 103]}]);
    let private = serde_json::from_value(private).unwrap();
    let host = Host::with(|settings, _, _| settings.private_vlans = private).await;
    let of = |vlan: u16| json!({"vlan": {"private": vlan}});
    let names = ["router", "alone", "lonely", "x1", "x2", "y"];
    let vlans = [100, 101, 101, 102, 102, 103];
    let mut vms = Vec::new();
    for (number, (name, vlan)) in (1..).zip(names.iter().zip(vlans)) {
        vms.push(host.vm(number, name, of(vlan)).await);
    }
    // Who hears a broadcast of whom, in the order of the names.
    let expected = [
        [false, true, true, true, true, true],
        [true, false, false, false, false, false],
        [true, false, false, false, false, false],
        [true, false, false, false, true, false],
        [true, false, false, true, false, false],
        [true, false, false, false, false, false],
    ];
    for (sender, row) in expected.iter().enumerate() {
        let number = u64::try_from(sender).unwrap();
        let frame = Frame::number(vms[sender].mac(), Mac::ALL, number);
        vms[sender].send(&frame);
        for (hearer, hears) in row.iter().enumerate() {
            if *hears {
                let heard = vms[hearer].until(|heard| *heard == frame);
                assert!(heard.is_some(), "{} hears {}", names[hearer], names[sender]);
            }
        }
    }
    // The router is heard by all, after all that they may have heard before.
    let last = Frame::number(vms[0].mac(), Mac::ALL, LAST);
    vms[0].send(&last);
    for (hearer, vm) in vms.iter_mut().enumerate().skip(1) {
        let heard = vm.until(|frame| frame.carried() == Some(LAST)).unwrap();
        let senders = heard.iter().filter_map(Frame::carried);
        for sender in senders {
            let sender = usize::try_from(sender).unwrap();
            assert!(
                expected[sender][hearer],
                "{} heard {}",
                names[hearer], names[sender]
            );
        }
    }
    // What was learnt from an isolated port is found by the router.
    let one = Frame::number(vms[0].mac(), vms[1].mac(), 7);
    vms[0].send(&one);
    assert_eq!(vms[1].until(|frame| *frame == one), Some(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_port_sends_and_receives_nothing() {
    if skipped("a_blocked_port_sends_and_receives_nothing") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut c = host.vm(3, "c", access(10)).await;
    let blocked = json!({"vlan": {"access": 10}, "blocked": true});
    host.port("b", blocked, Some(b.mac())).await.unwrap();
    let to_b = Frame::number(a.mac(), b.mac(), 1);
    let from_b = Frame::number(b.mac(), Mac::ALL, 2);
    b.send(&from_b);
    assert_eq!(heard(&mut a, &[to_b], &mut [&mut c]), [vec![]]);
    host.port("b", access(10), Some(b.mac())).await.unwrap();
    assert_eq!(heard(&mut a, &[], &mut [&mut b, &mut c]), [vec![], vec![]]);
    let again = Frame::number(b.mac(), c.mac(), 3);
    assert_eq!(
        heard(&mut b, std::slice::from_ref(&again), &mut [&mut c]),
        [vec![again]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_source_addresses_are_dropped_where_they_are_rejected() {
    if skipped("forged_source_addresses_are_dropped_where_they_are_rejected") {
        return;
    }
    let host = Host::start().await;
    let rejects = json!({"vlan": {"access": 10}, "security": {"forged_transmits": "reject"}});
    let mut a = host.vm(1, "a", rejects).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let own = Frame::number(a.mac(), b.mac(), 1);
    let forged = Frame::number(Mac::numbered(99), b.mac(), 2);
    let group = Frame::number(Mac([1, 0, 0x5e, 0, 0, 1]), b.mac(), 3);
    let sent = [own.clone(), forged.clone(), group];
    assert_eq!(heard(&mut a, &sent, &mut [&mut b]), [vec![own.clone()]]);
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    assert_eq!(
        heard(&mut a, &sent, &mut [&mut b]),
        [in_order(vec![own, forged])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_to_check_a_port_is_blocked_and_each_field_named() {
    if skipped("without_an_address_to_check_a_port_is_blocked_and_each_field_named") {
        return;
    }
    let host = Host::start().await;
    let mut a = Vm::start(Mac::numbered(1));
    host.plug(&a, "a");
    let mut b = host.vm(2, "b", access(10)).await;
    let security = json!({"forged_transmits": "reject", "mac_changes": "reject"});
    let rejects = json!({"vlan": {"access": 10}, "security": security});
    let failure = host.port("a", rejects.clone(), None).await.unwrap_err();
    let fields: Vec<_> = failure.each().map(|one| one.field.as_deref()).collect();
    let expected = ["security.forged_transmits", "security.mac_changes"];
    assert_eq!(fields, expected.map(Some));
    for failure in failure.each() {
        assert!(failure.message.contains("MAC address"), "{failure}");
    }
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    host.port("a", rejects, Some(a.mac())).await.unwrap();
    assert_eq!(heard(&mut a, &[], &mut [&mut b]), [vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_address_receives_only_where_that_is_accepted() {
    if skipped("a_changed_address_receives_only_where_that_is_accepted") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let rejects = json!({"vlan": {"access": 10}, "security": {"mac_changes": "reject"}});
    let mut b = host.vm(2, "b", rejects).await;
    let other = Mac::numbered(77);
    // It sends from another address, as a guest that changed it would.
    b.send(&Frame::number(other, a.mac(), 1));
    assert!(a.until(|frame| frame.carried() == Some(1)).is_some());
    let to_other = Frame::number(a.mac(), other, 2);
    let to_own = Frame::number(a.mac(), b.mac(), 3);
    let sent = [to_other.clone(), to_own.clone()];
    assert_eq!(heard(&mut a, &sent, &mut [&mut b]), [vec![to_own.clone()]]);
    host.port("b", access(10), Some(b.mac())).await.unwrap();
    b.send(&Frame::number(other, a.mac(), 4));
    assert!(a.until(|frame| frame.carried() == Some(4)).is_some());
    // What is learnt from frames takes hold when Open vSwitch looks through
    // them, twice a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    while heard(&mut a, std::slice::from_ref(&to_other), &mut [&mut b]) != [vec![to_other.clone()]]
    {
        assert!(Instant::now() < deadline, "its other address is not learnt");
        b.send(&Frame::number(other, a.mac(), 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promiscuous_port_sees_what_is_for_others_of_its_vlan() {
    if skipped("a_promiscuous_port_sees_what_is_for_others_of_its_vlan") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let promiscuous = json!({"vlan": {"access": 10}, "security": {"promiscuous": "accept"}});
    let mut sniffer = host.vm(3, "sniffer", promiscuous).await;
    let mut other = host.vm(4, "other", access(20)).await;
    let frame = Frame::number(a.mac(), b.mac(), 1);
    other.send(&Frame::number(other.mac(), Mac::ALL, 2));
    let both = heard(
        &mut a,
        std::slice::from_ref(&frame),
        &mut [&mut b, &mut sniffer],
    );
    assert_eq!(both, [vec![frame.clone()], vec![frame.clone()]]);
    host.port("sniffer", access(10), Some(sniffer.mac()))
        .await
        .unwrap();
    let one = heard(
        &mut a,
        std::slice::from_ref(&frame),
        &mut [&mut b, &mut sniffer],
    );
    assert_eq!(one, [vec![frame], vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_addresses_are_used_in_ip_arp_and_neighbour_discovery() {
    if skipped("only_allowed_addresses_are_used_in_ip_arp_and_neighbour_discovery") {
        return;
    }
    let host = Host::start().await;
    let allowed = json!({
        "vlan": {"access": 10},
        "security": {
            "forged_transmits": "reject",
            "allowed_addresses": ["10.0.0.5/32", "fd00::5/128"],
        },
    });
    let mut a = host.vm(1, "a", allowed).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut tap = host.vm(3, "tap", access(10)).await;
    let v4 = |last: u8| Ipv4Addr::new(10, 0, 0, last);
    let v6 = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let from_a = |payload| Frame::number(a.mac(), Mac::ALL, 0).carrying(payload);
    let udp = |from, ports| Payload::Ipv4 {
        from,
        to: Ipv4Addr::BROADCAST,
        ports,
    };
    let arp = |mac, ip| {
        Payload::Arp(Arp {
            operation: 1,
            mac,
            ip,
            asks: v4(5),
        })
    };
    let icmp = |from, kind, target| Payload::Icmpv6 { from, kind, target };
    let nobody = Ipv6Addr::UNSPECIFIED;
    // Its link-local address follows from its MAC address.
    let link_local: Ipv6Addr = "fe80::5054:ff:fed5:1".parse().unwrap();
    let passes = [
        udp(v4(5), (1, 2)),
        udp(Ipv4Addr::UNSPECIFIED, (68, 67)),
        arp(a.mac(), v4(5)),
        arp(a.mac(), Ipv4Addr::UNSPECIFIED),
        icmp(v6(5), 135, v6(9)),
        icmp(v6(5), 136, v6(5)),
        icmp(link_local, 135, v6(9)),
        icmp(nobody, 135, v6(5)),
        icmp(nobody, 133, nobody),
    ]
    .map(from_a);
    let dropped = [
        udp(v4(6), (1, 2)),
        udp(Ipv4Addr::UNSPECIFIED, (1, 67)),
        arp(a.mac(), v4(6)),
        arp(Mac::numbered(9), v4(5)),
        icmp(v6(6), 135, v6(9)),
        icmp(v6(5), 136, v6(6)),
        icmp(nobody, 135, v6(6)),
        Payload::Number(1, 46),
    ]
    .map(from_a);
    // The last one has to pass, too.
    let last = [from_a(udp(v4(5), (8, 8))), from_a(udp(v4(5), (9, 9)))];
    for frame in dropped.iter().chain(&passes) {
        a.send(frame);
    }
    let mut heard = Vec::new();
    for last in last {
        a.send(&last);
        heard.extend(b.until(|frame| *frame == last.as_heard()).unwrap());
    }
    let passes = passes.map(|frame| frame.as_heard()).to_vec();
    assert_eq!(in_order(heard), in_order(passes));
    // Nobody's answers are held up.
    let to_a = Frame::number(b.mac(), a.mac(), 3);
    a.drain();
    tap.drain();
    b.send(&to_a);
    assert_eq!(a.until(|frame| *frame == to_a), Some(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_sends_is_held_to_its_rate() {
    if skipped("what_a_port_sends_is_held_to_its_rate") {
        return;
    }
    let host = Host::start().await;
    let rate = json!({"average_kbps": 100, "peak_kbps": 100_000, "burst_kib": 20});
    let shaped = json!({"vlan": {"access": 10}, "shaping": {"ingress": rate}});
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let frame = |number| {
        let payload = Payload::Number(number, 1_400);
        Frame::number(a.mac(), b.mac(), 0).carrying(payload)
    };
    let frames: Vec<Frame> = (0..100).map(frame).collect();
    assert_eq!(
        heard(&mut a, &frames, &mut [&mut b]),
        [in_order(frames.clone())]
    );
    host.port("a", shaped, Some(a.mac())).await.unwrap();
    for frame in &frames {
        a.send(frame);
    }
    let mut passed = 0;
    while b.next(Duration::from_millis(300)).is_some() {
        passed += 1;
    }
    // 20 KiB are 14 of them; the average adds one in 0.1 s.
    assert!((5..50).contains(&passed), "{passed} of 100 frames passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_receives_is_held_to_its_rate_or_said_not_to_be() {
    if skipped("what_a_port_receives_is_held_to_its_rate_or_said_not_to_be") {
        return;
    }
    let host = Host::start().await;
    let rate = json!({"average_kbps": 500, "peak_kbps": 500, "burst_kib": 8});
    let shaped = json!({"vlan": {"access": 10}, "shaping": {"egress": rate}});
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    if let Err(failure) = host.port("b", shaped, Some(b.mac())).await {
        // The kernel can't; then that is said, and the port forwards.
        assert_eq!(failure.field.as_deref(), Some("shaping.egress"));
        assert!(failure.message.contains("not supported"), "{failure}");
        assert_eq!(heard(&mut a, &[], &mut [&mut b]), [vec![]]);
        return;
    }
    let frames = (0..50).map(|number| {
        let payload = Payload::Number(number, 1_400);
        Frame::number(a.mac(), b.mac(), 0).carrying(payload)
    });
    let frames: Vec<Frame> = frames.collect();
    for frame in &frames {
        a.send(frame);
    }
    // 70 kB at 500 kbit/s take more than a second; what comes is in order, and
    // slow. How slow is for a benchmark to say.
    let first = b.next(Duration::from_secs(5)).unwrap();
    let early: Vec<Frame> = std::iter::from_fn(|| b.next(Duration::from_millis(5))).collect();
    assert!(
        early.len() < 40,
        "{} came at once after {first:?}",
        early.len()
    );
    host.port("b", access(10), Some(b.mac())).await.unwrap();
    let rows = host.ovs.vsctl(&["--columns=_uuid", "list", "QoS"]).unwrap();
    assert_eq!(rows, "", "nothing is left of the limit");
}
