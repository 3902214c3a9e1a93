// SPDX-License-Identifier: Apache-2.0
//! Frames to reserved group addresses, which are for the next bridge only.
#![allow(clippy::unwrap_used)]

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{Frame, LAST, Mac, Path, VLAN_LIMITS, access, in_order, until};
use host_agent::datapath::{Datapath, Notice};
use serde_json::{Value, json};

/// Spanning tree, PAUSE, LACP, EAPOL and LLDP, CDP and PVST+, Cisco's others,
/// and Extreme's.
const RESERVED: [Mac; 12] = [
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x00]),
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x01]),
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x02]),
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x03]),
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x0f]),
    Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]),
    Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]),
    Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xc7]),
    Mac([0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd]),
    Mac([0x01, 0x00, 0x0c, 0, 0, 0]),
    Mac([0x00, 0xe0, 0x2b, 0, 0, 0x04]),
];

/// Not reserved: the groups of MVRP, of PTP and of IPv4.
const OTHERS: [Mac; 3] = [
    Mac([0x01, 0x80, 0xc2, 0, 0, 0x21]),
    Mac([0x01, 0x1b, 0x19, 0, 0, 0]),
    Mac([0x01, 0x00, 0x5e, 0, 0, 0x01]),
];

fn with(reserved_multicast: &str) -> Value {
    json!({"vlan": {"access": 10}, "security": {"reserved_multicast": reserved_multicast}})
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_to_reserved_groups_pass_between_ports_that_may_and_not_beyond_the_host() {
    if skipped("frames_to_reserved_groups_pass_between_ports_that_may_and_not_beyond_the_host") {
        return;
    }
    let promiscuous = json!({"vlan": {"access": 10}, "security": {"promiscuous": "accept"}});
    for vlan_limit in VLAN_LIMITS {
        for path in Path::ALL {
            for sender in ["accept", "reject"] {
                let to = [access(10), promiscuous.clone(), with("accept")];
                let mut segment = path.lay(vlan_limit, with(sender), &to).await;
                // Whatever the bridges of the uplinks would do by themselves.
                for host in &segment.hosts {
                    let uplinks = format!("{}-u", host.bridge());
                    let forward = ["set", "Bridge", &uplinks, "other_config:forward-bpdu=true"];
                    drop(host.ovs.vsctl(&forward));
                }
                let mac = segment.from.mac();
                let vlan = (path == Path::FromWire).then_some(10);
                let send = |(number, to): (u64, &Mac)| {
                    let mut frame = Frame::number(mac, *to, number);
                    frame.tag = vlan;
                    frame
                };
                let reserved: Vec<Frame> = (0..).zip(&RESERVED).map(send).collect();
                let others: Vec<Frame> = (100..).zip(&OTHERS).map(send).collect();
                let last = send((LAST, &Mac::ALL));
                let heard = segment.heard(&[reserved.clone(), others.clone()].concat(), &last);
                let bare = |frames: &[Frame]| -> Vec<Frame> {
                    let frames = frames.iter().cloned();
                    in_order(frames.map(|frame| Frame { tag: None, ..frame }).collect())
                };
                let all = if path == Path::OneHost && sender == "accept" {
                    bare(&[reserved, others.clone()].concat())
                } else {
                    bare(&others)
                };
                let expected = [bare(&others), bare(&others), all];
                assert_eq!(heard, expected, "{path:?}, limit {vlan_limit}, {sender}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_make_the_bridge_of_the_uplinks_forward_otherwise_is_told_and_undone() {
    if skipped("what_would_make_the_bridge_of_the_uplinks_forward_otherwise_is_told_and_undone") {
        return;
    }
    let segment = Path::FromWire.lay(1, access(10), &[]).await;
    let [host] = segment.hosts.as_slice() else {
        panic!("one host");
    };
    let bridge = host.bridge();
    let uplinks = format!("{bridge}-u");
    let ports = host.ovs.vsctl(&["list-ports", &uplinks]).unwrap();
    let ports: Vec<&str> = ports.lines().collect();
    let mut changes = vec![("Bridge", bridge.as_str(), "stp_enable", "true")];
    changes.push(("Bridge", &bridge, "rstp_enable", "true"));
    for change in [
        ("stp_enable", "true"),
        ("rstp_enable", "true"),
        ("mcast_snooping_enable", "true"),
        ("flood_vlans", "10"),
        ("other_config:forward-bpdu", "true"),
    ] {
        changes.push(("Bridge", &uplinks, change.0, change.1));
    }
    for port in ports {
        for change in [
            ("tag", "20"),
            ("trunks", "20"),
            ("vlan_mode", "access"),
            ("other_config:priority-tags", "never"),
        ] {
            changes.push(("Port", port, change.0, change.1));
        }
    }
    for (table, row, column, value) in changes {
        let get = || host.ovs.vsctl(&["get", table, row, column]).unwrap();
        let before = get();
        let set = format!("{column}={value}");
        host.ovs.vsctl(&["set", table, row, &set]).unwrap();
        let drift = loop {
            if let Notice::Drift(drift) = host.datapath.next_notice().await {
                break drift;
            }
        };
        let (name, _) = column.split_once(':').unwrap_or((column, ""));
        let told = (drift.row.as_str(), drift.column, drift.repaired);
        let row_name = format!("{table} {row}");
        assert_eq!(told, (row_name.as_str(), Some(name), true));
        until("it is as it was", async || get() == before).await;
    }
}
