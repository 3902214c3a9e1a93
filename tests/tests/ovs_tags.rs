// SPDX-License-Identifier: Apache-2.0
//! Tags on real frames: between ports of a host, of two hosts, and from the
//! physical network, whatever number of tags Open vSwitch looks at.
#![allow(clippy::unwrap_used)]

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{Frame, LAST, Mac, Path, VLAN_LIMITS, access, in_order};
use serde_json::json;

/// A tag of 802.1ad, and one of 802.1Q, as bytes of a frame.
const SERVICE: u16 = 0x88a8;
const CUSTOMER: u16 = 0x8100;

fn tag(kind: u16, tci: u16) -> Vec<u8> {
    [kind.to_be_bytes(), tci.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_tag_beneath_a_priority_tag_reaches_nobody() {
    if skipped("what_has_a_tag_beneath_a_priority_tag_reaches_nobody") {
        return;
    }
    let trunk = json!({"vlan": {"trunk": {"vlans": [10, 20]}}});
    let untagged = json!({"vlan": "untagged"});
    for vlan_limit in VLAN_LIMITS {
        for path in Path::ALL {
            for (from, to, vlan) in [
                (access(10), &trunk, Some(10)),
                (untagged.clone(), &untagged, None),
                (trunk.clone(), &trunk, Some(20)),
            ] {
                let tags = from["vlan"].get("trunk").is_some() || path == Path::FromWire;
                let mut segment = path.lay(vlan_limit, from, std::slice::from_ref(to)).await;
                let mac = segment.from.mac();
                let to_all = |number| Frame::number(mac, Mac::ALL, number);
                let mut last = to_all(LAST);
                last.tag = vlan.filter(|_| tags);
                let beneath = [
                    to_all(1).behind(&tag(CUSTOMER, 20)).tagged(0),
                    to_all(2).behind(&tag(CUSTOMER, 10)).tagged(0),
                    to_all(3).behind(&tag(CUSTOMER, 0)).tagged(0),
                    to_all(4).behind(&tag(SERVICE, 20)).tagged(0),
                    to_all(5)
                        .behind(&tag(CUSTOMER, 20))
                        .behind(&tag(CUSTOMER, 0))
                        .tagged(0),
                    to_all(6)
                        .behind(&tag(CUSTOMER, 20))
                        .behind(&tag(SERVICE, 0)),
                    // A tag in an envelope of IEEE 802.2, with and without one.
                    to_all(7).behind(&snap(CUSTOMER, 20)),
                    to_all(8).behind(&snap(CUSTOMER, 20)).tagged(0),
                    to_all(9).behind(&snap(SERVICE, 20)),
                ];
                let heard = segment.heard(&beneath, &last);
                assert_eq!(heard, [vec![]], "{path:?}, limit {vlan_limit}, {vlan:?}");
            }
        }
    }
}

/// The length of IEEE 802.3, and the header of IEEE 802.2 that says the Ethernet
/// type of what follows.
fn snap(kind: u16, tci: u16) -> Vec<u8> {
    let mut bytes = vec![0, 60, 0xaa, 0xaa, 0x03, 0, 0, 0];
    bytes.extend(tag(kind, tci));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_stays_leaves_as_it_came_and_what_is_beneath_leaves_only_with_it() {
    if skipped("a_tag_that_stays_leaves_as_it_came_and_what_is_beneath_leaves_only_with_it") {
        return;
    }
    let trunk = json!({"vlan": {"trunk": {"vlans": [100]}}});
    let native = json!({"vlan": {"trunk": {"vlans": [200], "native": 100}}});
    for vlan_limit in VLAN_LIMITS {
        for path in Path::ALL {
            // The second and third get the VLAN without its tag, one of them
            // before the trunk: order must not decide.
            let to = [access(100), trunk.clone(), native.clone()];
            let mut segment = path.lay(vlan_limit, trunk.clone(), &to).await;
            let mac = segment.from.mac();
            let to_all = |number| Frame::number(mac, Mac::ALL, number);
            // Priority 5. In user space Open vSwitch loses the bit of drop
            // eligibility when it receives a frame.
            let plain = to_all(1).tagged(0xa064);
            let service = to_all(2).behind(&tag(SERVICE, 0xa064));
            let nested = [
                to_all(3).behind(&tag(CUSTOMER, 200)).tagged(100),
                to_all(4).behind(&tag(SERVICE, 200)).tagged(100),
                to_all(5).behind(&tag(CUSTOMER, 0)).tagged(100),
                to_all(6)
                    .behind(&tag(CUSTOMER, 200))
                    .behind(&tag(SERVICE, 100)),
                to_all(7).behind(&snap(CUSTOMER, 200)).tagged(100),
            ];
            let mut sent = vec![plain, service];
            sent.extend(nested);
            // Another VLAN's tag, whatever is beneath it.
            let others = [
                to_all(8).tagged(300),
                to_all(9).behind(&tag(CUSTOMER, 100)).tagged(300),
            ];
            let last = to_all(LAST).tagged(100);
            let heard = segment.heard(&[sent.as_slice(), &others].concat(), &last);
            let bare = in_order(vec![to_all(1), to_all(2)]);
            assert_eq!(
                heard,
                [bare.clone(), in_order(sent), bare],
                "{path:?}, limit {vlan_limit}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_priority_of_a_frame_without_a_vlan_stands_in_the_tag_of_its_vlan() {
    if skipped("the_priority_of_a_frame_without_a_vlan_stands_in_the_tag_of_its_vlan") {
        return;
    }
    let trunk = json!({"vlan": {"trunk": {"vlans": [100]}}});
    for vlan_limit in VLAN_LIMITS {
        for path in [Path::OneHost, Path::TwoHosts] {
            let to = [trunk.clone(), access(100)];
            let mut segment = path.lay(vlan_limit, access(100), &to).await;
            let mac = segment.from.mac();
            let to_all = |number| Frame::number(mac, Mac::ALL, number);
            let sent = [
                to_all(1),
                to_all(2).tagged(0xa000),
                to_all(3).behind(&tag(SERVICE, 0xa000)),
                // An access port has no tags of its own.
                to_all(4).tagged(100),
            ];
            let heard = segment.heard(&sent, &to_all(LAST));
            let with = vec![
                to_all(1).tagged(100),
                to_all(2).tagged(0xa064),
                to_all(3).tagged(0xa064),
            ];
            let without = vec![to_all(1), to_all(2), to_all(3)];
            assert_eq!(
                heard,
                [in_order(with), in_order(without)],
                "{path:?}, limit {vlan_limit}"
            );
        }
    }
}

/// A list judges what it can look at, under any limit.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_address_list_nothing_hides_beneath_a_second_tag() {
    if skipped("with_an_address_list_nothing_hides_beneath_a_second_tag") {
        return;
    }
    let lists = json!({
        "vlan": {"trunk": {"vlans": [100]}},
        "security": {"allowed_addresses": ["10.0.0.5/32"]},
    });
    let trunk = json!({"vlan": {"trunk": {"vlans": [100]}}});
    for vlan_limit in VLAN_LIMITS {
        for path in [Path::OneHost, Path::TwoHosts] {
            let mut segment = path
                .lay(vlan_limit, lists.clone(), std::slice::from_ref(&trunk))
                .await;
            let mac = segment.from.mac();
            let from = |last: u8| {
                let udp = dvs_tests::lan::Payload::Ipv4 {
                    from: [10, 0, 0, last].into(),
                    to: std::net::Ipv4Addr::BROADCAST,
                    ports: (1, 2),
                };
                Frame::number(mac, Mac::ALL, 0).carrying(udp)
            };
            let allowed = from(5).tagged(0xa064);
            let sent = [
                allowed.clone(),
                from(6).tagged(100),
                from(5).behind(&tag(CUSTOMER, 200)).tagged(100),
                from(6).behind(&tag(CUSTOMER, 200)).tagged(100),
            ];
            for frame in &sent {
                segment.from.send(frame);
            }
            let last = from(5).tagged(100);
            segment.from.send(&last);
            let heard = segment.to[0].until(|frame| *frame == last.as_heard());
            assert_eq!(
                heard.unwrap(),
                [allowed.as_heard()],
                "{path:?}, limit {vlan_limit}"
            );
        }
    }
}
