// SPDX-License-Identifier: Apache-2.0
//! What a port may claim to be: the MAC and network addresses in its ARP, RARP
//! and neighbour discovery, and what passes with a list of addresses.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{Arp, Frame, Mac, Path, Payload, Segment, VLAN_LIMITS, access, in_order};
use serde_json::{Value, json};

const OTHER: Mac = Mac([0x52, 0x54, 0, 0xd5, 0, 99]);

/// RARP of a MAC address (RFC 903); 3 asks, 4 answers.
fn rarp(operation: u8, mac: Mac, of: Ipv4Addr) -> Payload {
    let mut bytes = vec![0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, operation];
    bytes.extend(mac.0);
    bytes.extend(of.octets());
    bytes.extend(mac.0);
    bytes.extend([0; 22]);
    Payload::Other(bytes)
}

fn arp(mac: Mac, ip: Ipv4Addr) -> Payload {
    Payload::Arp(Arp {
        operation: 2,
        mac,
        ip,
        asks: ip,
    })
}

/// ICMPv6 of a type about a target, with options of one MAC address each.
fn discovery(from: &str, kind: u8, about: &str, options: &[(u8, Mac)]) -> Payload {
    let target: Ipv6Addr = about.parse().unwrap();
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    for (option, mac) in options {
        message.extend([*option, 1]);
        message.extend(mac.0);
    }
    ipv6(from, 58, &message)
}

fn ipv6(from: &str, next: u8, message: &[u8]) -> Payload {
    let from: Ipv6Addr = from.parse().unwrap();
    let to: Ipv6Addr = "ff02::1".parse().unwrap();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    let mut bytes = vec![0x86, 0xdd, 0x60, 0, 0, 0];
    bytes.extend(length);
    bytes.extend([next, 255]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(message);
    Payload::Other(bytes)
}

/// UDP from port to port.
fn udp6(from: &str, ports: (u16, u16)) -> Payload {
    let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    datagram.extend([0, 8, 0, 0]);
    ipv6(from, 17, &datagram)
}

fn ipv4(from: Ipv4Addr) -> Payload {
    Payload::Ipv4 {
        from,
        to: Ipv4Addr::BROADCAST,
        ports: (1, 2),
    }
}

/// An IGMP report of a host without an address.
fn igmp() -> Payload {
    let mut bytes = vec![0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0];
    bytes.extend([0, 0, 0, 0, 224, 0, 0, 22]);
    bytes.extend([0x22, 0, 0, 0, 0, 0, 0, 0]);
    Payload::Other(bytes)
}

/// EAP over LAN: a start.
fn eapol() -> Payload {
    let mut bytes = vec![0x88, 0x8e, 1, 1, 0, 0];
    bytes.resize(48, 0);
    Payload::Other(bytes)
}

/// Sends all of them to everybody; the last one is one that passes, and answers
/// what was heard before.
fn sends(segment: &mut Segment, payloads: &[Payload], last: &Payload) -> Vec<Frame> {
    let mac = segment.from.mac();
    let frame = |payload: &Payload| Frame::number(mac, Mac::ALL, 0).carrying(payload.clone());
    // Frames that are read together may change places.
    let before = Frame::number(mac, Mac::ALL, 1).carrying(last.clone());
    for payload in payloads {
        segment.from.send(&frame(payload));
    }
    let mut heard = Vec::new();
    for _ in 0..2 {
        segment.from.send(&before);
        let frames = segment.to[0].until(|heard| *heard == before.as_heard());
        heard.extend(frames.unwrap());
    }
    in_order(heard)
}

fn as_heard(segment: &Segment, payloads: &[Payload]) -> Vec<Frame> {
    let mac = segment.from.mac();
    let frame = |payload: &Payload| Frame::number(mac, Mac::ALL, 0).carrying(payload.clone());
    in_order(
        payloads
            .iter()
            .map(|payload| frame(payload).as_heard())
            .collect(),
    )
}

async fn each_path(policy: Value, passes: &[Payload], dropped: &[Payload], last: &Payload) {
    for vlan_limit in VLAN_LIMITS {
        for path in [Path::OneHost, Path::TwoHosts] {
            let to = [access(10)];
            let mut segment = path.lay(vlan_limit, policy.clone(), &to).await;
            let sent = [dropped, passes].concat();
            let heard = sends(&mut segment, &sent, last);
            let expected = as_heard(&segment, passes);
            assert_eq!(heard, expected, "{path:?}, limit {vlan_limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_list_limits_addresses_and_lets_a_host_come_to_its_own() {
    if skipped("an_address_list_limits_addresses_and_lets_a_host_come_to_its_own") {
        return;
    }
    let own = Mac::numbered(1);
    let v4 = |last| Ipv4Addr::new(10, 0, 0, last);
    let nobody = Ipv4Addr::UNSPECIFIED;
    let passes = [
        rarp(3, own, nobody),
        eapol(),
        igmp(),
        arp(own, v4(5)),
        // Link-local addresses of its own choosing (RFC 7217).
        discovery("::", 135, "fe80::1234:5678", &[]),
        discovery("fe80::1234:5678", 135, "fe80::1", &[(1, own)]),
        discovery("fe80::1234:5678", 136, "fe80::1234:5678", &[(2, own)]),
        discovery("fe80::1234:5678", 133, "::", &[(1, own)]),
        discovery("::", 133, "::", &[]),
        discovery("::", 131, "ff02::1:ff00:1", &[]),
        discovery("::", 143, "::", &[]),
        discovery("fe80::1234:5678", 143, "::", &[]),
        udp6("fe80::1234:5678", (546, 547)),
        discovery("fd00::5", 136, "fd00::5", &[(2, own)]),
    ];
    let dropped = [
        rarp(3, own, v4(5)),
        rarp(4, own, nobody),
        rarp(3, OTHER, nobody),
        arp(OTHER, v4(5)),
        arp(own, v4(6)),
        ipv4(v4(6)),
        discovery("::", 135, "fd00::6", &[]),
        discovery("fd00::6", 135, "fd00::1", &[(1, own)]),
        discovery("fd00::5", 136, "fd00::6", &[(2, own)]),
        discovery("fd00::5", 136, "fd00::5", &[(2, OTHER)]),
        // What can't be read claims nothing, and receivers take the first.
        discovery("fd00::5", 136, "fd00::5", &[(2, OTHER), (2, own)]),
        discovery("fe80::1", 135, "fe80::2", &[(1, OTHER)]),
        discovery("fe80::1", 135, "fe80::2", &[(1, OTHER), (1, own)]),
        udp6("fd00::6", (546, 547)),
        // What the switch can't look into.
        Payload::Number(1, 46),
    ];
    let policy = json!({
        "vlan": {"access": 10},
        "security": {
            "forged_transmits": "reject",
            "allowed_addresses": ["10.0.0.5/32", "fd00::5/128"],
        },
    });
    each_path(policy, &passes, &dropped, &ipv4(v4(5))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_names_link_local_addresses_allows_those_alone() {
    if skipped("a_list_that_names_link_local_addresses_allows_those_alone") {
        return;
    }
    let own = Mac::numbered(1);
    let policy = json!({
        "vlan": {"access": 10},
        "security": {"allowed_addresses": ["fd00::5/128", "fe80::5/128"]},
    });
    let passes = [
        discovery("fe80::5", 136, "fe80::5", &[(2, own)]),
        discovery("::", 135, "fe80::5", &[]),
        // Its MAC addresses are nobody's business.
        discovery("fd00::5", 136, "fd00::5", &[(2, OTHER)]),
        rarp(3, OTHER, Ipv4Addr::UNSPECIFIED),
    ];
    let dropped = [
        discovery("fe80::1", 136, "fe80::1", &[(2, own)]),
        discovery("::", 135, "fe80::1", &[]),
        // No network of IPv4 is in the list.
        arp(own, Ipv4Addr::new(10, 0, 0, 5)),
        igmp(),
    ];
    each_path(policy, &passes, &dropped, &udp6("fe80::5", (1, 2))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_not_forge_its_mac_address_does_not_claim_another_either() {
    if skipped("who_must_not_forge_its_mac_address_does_not_claim_another_either") {
        return;
    }
    let own = Mac::numbered(1);
    let ip = Ipv4Addr::new(10, 0, 0, 5);
    let policy = json!({"vlan": {"access": 10}, "security": {"forged_transmits": "reject"}});
    let passes = [
        arp(own, ip),
        rarp(3, own, Ipv4Addr::UNSPECIFIED),
        discovery("fd00::5", 135, "fd00::6", &[(1, own)]),
        discovery("fd00::5", 135, "fd00::6", &[]),
        discovery("::", 135, "fd00::6", &[]),
        discovery("fd00::5", 136, "fd00::5", &[(2, own)]),
        discovery("fd00::5", 136, "fd00::5", &[]),
        Payload::Number(1, 46),
    ];
    let dropped = [
        arp(OTHER, ip),
        arp(Mac([0; 6]), ip),
        rarp(3, OTHER, Ipv4Addr::UNSPECIFIED),
        discovery("fd00::5", 135, "fd00::6", &[(1, OTHER)]),
        discovery("fd00::5", 136, "fd00::5", &[(2, OTHER)]),
        discovery("fd00::5", 136, "fd00::5", &[(2, OTHER), (2, own)]),
    ];
    each_path(policy, &passes, &dropped, &ipv4(ip)).await;
}
