// SPDX-License-Identifier: Apache-2.0
//! The frames that announce a port: they look as if its vNIC had sent them, and
//! pass the rules of its port like all that it sends.

use std::iter::once;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};
use dvs_schemas::{AddressList, MacAddr};
use ipnet::IpNet;

use super::vlans::{self, Vid};
use crate::merge::EffectivePolicy;

/// Most frames of one announcement. A trunk of all VLANs with a list of
/// addresses would flood the fabric; switches learn the others from what the
/// machine sends.
const FRAMES_MAX: usize = 64;

const ALL: [u8; 6] = [0xff; 6];
/// The shortest frame, without its checksum.
const SHORTEST: usize = 60;

/// The frames, untagged or with the tag of a VLAN that the port carries.
pub(super) fn frames(mac: MacAddr, policy: &EffectivePolicy) -> Vec<Bytes> {
    let untagged = vlans::sends_untagged(&policy.vlan).map(|_| None);
    let spans = vlans::sends_tagged(&policy.vlan).into_iter();
    let tagged = spans.flat_map(|span| span.first..=span.last).map(Some);
    let mac = mac.octets();
    let bodies: Vec<Body> = once(rarp(mac))
        .chain(addresses(&policy.allowed_addresses).filter_map(|net| of_address(mac, net)))
        .collect();
    let tags = untagged.into_iter().chain(tagged);
    let all = tags.flat_map(|tag| bodies.iter().map(move |body| body.frame(mac, tag)));
    all.take(FRAMES_MAX).collect()
}

/// Where a frame goes, and what it is from the Ethernet type on.
struct Body {
    to: [u8; 6],
    rest: BytesMut,
}

impl Body {
    fn frame(&self, from: [u8; 6], tag: Option<Vid>) -> Bytes {
        let mut frame = BytesMut::with_capacity(128);
        frame.put_slice(&self.to);
        frame.put_slice(&from);
        if let Some(vid) = tag {
            frame.put_u16(0x8100);
            frame.put_u16(vid);
        }
        frame.put_slice(&self.rest);
        if frame.len() < SHORTEST {
            frame.resize(SHORTEST, 0);
        }
        frame.freeze()
    }
}

/// The networks of a list.
fn addresses(list: &AddressList) -> impl Iterator<Item = &IpNet> {
    match list {
        AddressList::Any => [].iter(),
        AddressList::Only(nets) => nets.iter(),
    }
}

/// What announces an address; of a whole network nobody knows which is used.
fn of_address(mac: [u8; 6], net: &IpNet) -> Option<Body> {
    match net {
        IpNet::V4(net) if net.prefix_len() == 32 => Some(arp(mac, net.addr())),
        // By its link-local address a router is known, and an advertisement
        // without the flag of routers would take it off everybody's list
        // (RFC 4861, 7.2.5).
        IpNet::V6(net) if net.prefix_len() == 128 && !net.addr().is_unicast_link_local() => {
            Some(advertisement(mac, net.addr()))
        }
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

/// A reverse ARP request for the own address (RFC 903), as QEMU sends it: it
/// needs no IP address, and every switch on its way learns where it is from.
fn rarp(mac: [u8; 6]) -> Body {
    let nobody = Ipv4Addr::UNSPECIFIED;
    arp_of(0x8035, 3, (mac, nobody), (mac, nobody))
}

/// An ARP announcement (RFC 5227, 3): a request, which all take in, also those
/// who don't take in answers that they have not asked for.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Body {
    arp_of(0x0806, 1, (mac, address), ([0; 6], address))
}

fn arp_of(
    kind: u16,
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Body {
    let mut rest = BytesMut::new();
    rest.put_u16(kind);
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    rest.put_slice(&[0, 1, 8, 0, 6, 4]);
    rest.put_u16(operation);
    for (mac, address) in [sender, target] {
        rest.put_slice(&mac);
        rest.put_slice(&address.octets());
    }
    Body { to: ALL, rest }
}

/// An unsolicited neighbour advertisement to all nodes that overrides what they
/// have (RFC 4861, 7.2.6).
fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Body {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = BytesMut::new();
    message.put_slice(&[136, 0, 0, 0]);
    message.put_u32(0x2000_0000);
    message.put_slice(&address.octets());
    // The target's link-layer address.
    message.put_slice(&[2, 1]);
    message.put_slice(&mac);
    let sum = checksum(address, all_nodes, &message);
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let mut rest = BytesMut::new();
    rest.put_u16(0x86dd);
    rest.put_u32(0x6000_0000);
    rest.put_u16(u16::try_from(message.len()).unwrap_or(u16::MAX));
    rest.put_slice(&[58, 255]);
    rest.put_slice(&address.octets());
    rest.put_slice(&all_nodes.octets());
    rest.put_slice(&message);
    let to = [0x33, 0x33, 0, 0, 0, 1];
    Body { to, rest }
}

/// The checksum of an ICMPv6 message (RFC 4443, 2.3).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let tail = [length.to_be_bytes(), [0, 0, 0, 58]].concat();
    let (from, to) = (from.octets(), to.octets());
    let words = [from.as_slice(), &to, &tail, message].into_iter();
    let words = words.flat_map(|bytes| bytes.chunks(2));
    let sum: u32 = words
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dvs_schemas::{Policy, PrivateVlans};
    use serde_json::{Value, json};

    use super::*;
    use crate::merge::merge;

    fn told(policy: Value) -> Vec<String> {
        let layer: Policy = serde_json::from_value(policy).unwrap();
        let nothing = Policy::default();
        let policy = merge(&layer, &nothing, &nothing, &PrivateVlans::default()).unwrap();
        let frames = frames("52:54:00:00:00:01".parse().unwrap(), &policy);
        let hex = |frame: &Bytes| frame.iter().map(|byte| format!("{byte:02x}")).collect();
        frames.iter().map(hex).collect()
    }

    const RARP: &str = "803500010800060400035254000000010000000052540000000100000000";
    const HEAD: &str = "ffffffffffff525400000001";

    #[test]
    fn a_machine_without_known_addresses_is_announced_by_its_mac_address() {
        let padding = "0".repeat(36);
        let expected = [format!("{HEAD}{RARP}{padding}")];
        assert_eq!(told(json!({"vlan": {"access": 10}})), expected);
        assert_eq!(
            told(json!({"security": {"allowed_addresses": ["10.0.0.0/24"]}})),
            expected
        );
    }

    #[test]
    fn known_addresses_are_announced_too_but_for_link_local_ones() {
        let told = told(json!({"security": {"allowed_addresses":
            ["192.0.2.7", "2001:db8::7", "fe80::7", "2001:db8:1::/64"]}}));
        let padding = "0".repeat(36);
        let arp =
            format!("{HEAD}08060001080006040001525400000001c0000207000000000000c0000207{padding}");
        let address = "20010db8000000000000000000000007";
        let all = "ff020000000000000000000000000001";
        let advertisement = format!(
            "33330000000152540000000186dd6000000000203aff{address}{all}\
             8800a8ca20000000{address}0201525400000001"
        );
        assert_eq!(told, [format!("{HEAD}{RARP}{padding}"), arp, advertisement]);
    }

    #[test]
    fn a_trunk_is_announced_in_each_of_its_vlans_up_to_a_bound() {
        let told = |vlans: &str| told(json!({"vlan": {"trunk": {"vlans": [vlans], "native": 9}}}));
        let tags: Vec<String> = told("11-12")
            .iter()
            .map(|frame| frame[24..32].to_owned())
            .collect();
        assert_eq!(tags, ["80350001", "8100000b", "8100000c"]);
        assert_eq!(told("10-4000").len(), FRAMES_MAX);
    }
}
