// SPDX-License-Identifier: Apache-2.0
//! What a bridge learns of addresses: how many, for how long, and where frames
//! to an address go that nobody knows.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{
    Frame, Host, LAST, Mac, Path, VLAN_LIMITS, Vm, access, heard, reaches, until,
};
use host_agent::datapath::Learning;
use serde_json::json;

/// Learnt flows of a bridge; their cookies begin with "dvs" and 2.
fn learnt(host: &Host) -> Vec<String> {
    let flows = host.ovs.ofctl("dump-flows", &host.bridge(), &[]).unwrap();
    let learnt = flows
        .lines()
        .filter(|line| line.contains("cookie=0x64767302"));
    learnt.map(str::to_owned).collect()
}

/// An address that nobody has.
fn stranger(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0xd5, a, b, c, d])
}

/// Lets time pass for Open vSwitch, which its clock in tests allows.
fn pass(host: &Host, seconds: u64) {
    let warp = [
        "time/warp".to_owned(),
        (seconds * 1_000).to_string(),
        "5000".to_owned(),
    ];
    let warp: Vec<&str> = warp.iter().map(String::as_str).collect();
    host.ovs.appctl(&["time/stop"]).unwrap();
    host.ovs.appctl(&warp).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_address_is_looked_for_where_a_port_may_have_another_than_its_own() {
    if skipped("an_unknown_address_is_looked_for_where_a_port_may_have_another_than_its_own") {
        return;
    }
    let rejects = json!({"vlan": {"access": 10}, "security": {"mac_changes": "reject"}});
    for vlan_limit in VLAN_LIMITS {
        for path in Path::ALL {
            let to = [access(10), rejects.clone()];
            let mut segment = path.lay(vlan_limit, access(10), &to).await;
            let mut frame = Frame::number(segment.from.mac(), stranger(1), 1);
            let mut last = Frame::number(segment.from.mac(), Mac::ALL, LAST);
            if path == Path::FromWire {
                (frame, last) = (frame.tagged(10), last.tagged(10));
            }
            let heard = segment.heard(std::slice::from_ref(&frame), &last);
            let bare = Frame { tag: None, ..frame };
            assert_eq!(heard, [vec![bare], vec![]], "{path:?}, limit {vlan_limit}");
        }
    }
}

/// True if what is for an address goes to `owner` alone, and not to `other`.
fn is_known(from: &mut Vm, address: Mac, owner: &mut Vm, other: &mut Vm, number: u64) -> bool {
    let frame = Frame::number(from.mac(), address, number);
    let heard = heard(from, std::slice::from_ref(&frame), &mut [owner, other]);
    assert_eq!(
        heard[0],
        std::slice::from_ref(&frame),
        "who has it hears it"
    );
    heard[1].is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_from_an_address_keep_it_known_and_frames_to_it_do_not() {
    if skipped("frames_from_an_address_keep_it_known_and_frames_to_it_do_not") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut c = host.vm(3, "c", access(10)).await;
    let second = stranger(2);
    let speaks = |b: &mut Vm, a: &mut Vm, number| {
        let frame = Frame::number(second, a.mac(), number);
        b.send(&frame);
        assert!(a.until(|heard| *heard == frame).is_some());
    };
    speaks(&mut b, &mut a, 1);
    until("its second address is learnt", async || {
        is_known(&mut a, second, &mut b, &mut c, 2)
    })
    .await;
    // 200 seconds and 200 are more than the 300 of ageing; it spoke in between.
    pass(&host, 200);
    speaks(&mut b, &mut a, 3);
    pass(&host, 200);
    assert!(is_known(&mut a, second, &mut b, &mut c, 4));
    pass(&host, 200);
    until(
        "who is spoken to and never speaks is forgotten",
        async || !is_known(&mut a, second, &mut b, &mut c, 5),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_addresses_are_learnt_from_a_port_and_an_uplink_and_those_of_others_stay() {
    if skipped("so_many_addresses_are_learnt_from_a_port_and_an_uplink_and_those_of_others_stay") {
        return;
    }
    let number = |number| NonZeroU32::new(number).unwrap();
    let few = Learning {
        per_port: number(20),
        per_uplink: number(30),
    };
    for path in Path::ALL {
        let to = [access(10), access(10)];
        let mut segment = path.lay_learning(few, 1, access(10), &to).await;
        let tag = (path == Path::FromWire).then_some(10);
        let [one, other] = segment.to.as_mut_slice() else {
            panic!("two machines");
        };
        let before = stranger(1_000_000);
        one.send(&Frame::number(before, Mac::ALL, 1));
        assert!(other.until(|heard| heard.from == before).is_some());
        let mut last = Frame::number(segment.from.mac(), Mac::ALL, LAST);
        last.tag = tag;
        let flood = (0..100).map(|number| {
            let mut frame = Frame::number(stranger(number), Mac::ALL, u64::from(number) + 10);
            frame.tag = tag;
            frame
        });
        let flood: Vec<Frame> = flood.collect();
        // Few at a time: of a burst Open vSwitch drops what it can't look at.
        for few in flood.chunks(20) {
            let heard = segment.heard(few, &last);
            let heard: Vec<usize> = heard.iter().map(Vec::len).collect();
            assert_eq!(heard, [few.len(); 2], "all of them pass, {path:?}");
        }
        let most = match path {
            Path::OneHost => 20,
            Path::TwoHosts | Path::FromWire => 30,
        };
        // All that came in with the flood, the last frames among it.
        let sender = segment.from.mac().to_string();
        let of_flood = |host: &Host| {
            let flows = learnt(host).into_iter();
            let is_one =
                |flow: &String| flow.contains("dl_dst=02:d5:00:00:") || flow.contains(&sender);
            flows.filter(is_one).count()
        };
        let last_host = segment.hosts.last().unwrap();
        assert_eq!(of_flood(last_host), most, "{path:?}");
        let flows = learnt(last_host);
        let kept = flows
            .iter()
            .filter(|flow| flow.contains(&before.to_string()));
        assert_eq!(kept.count(), 1, "{path:?}: {flows:#?}");
        if path == Path::TwoHosts {
            assert_eq!(of_flood(&segment.hosts[0]), 20);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_sends_from_ever_new_addresses_holds_up_nobody() {
    if skipped("a_port_that_sends_from_ever_new_addresses_holds_up_nobody") {
        return;
    }
    let host = Host::start().await;
    let mut hostile = host.vm(1, "hostile", access(10)).await;
    let mut a = host.vm(2, "a", access(10)).await;
    let mut b = host.vm(3, "b", access(10)).await;
    for number in 0..20_000 {
        hostile.send(&Frame::number(stranger(number), stranger(number + 1), 7));
    }
    assert!(reaches(&mut a, &mut b, 1));
    let began = std::time::Instant::now();
    for vlan in [20, 10] {
        host.port("a", access(vlan), Some(a.mac())).await.unwrap();
    }
    let took = began.elapsed();
    assert!(reaches(&mut a, &mut b, 2));
    let flows = learnt(&host);
    let of_flood = flows.iter().filter(|flow| flow.contains("dl_dst=02:d5:"));
    let most = usize::try_from(Learning::PER_PORT.get()).unwrap();
    assert!(of_flood.count() <= most, "{} flows", flows.len());
    assert!(took < Duration::from_secs(10), "two changes took {took:?}");
}
