// SPDX-License-Identifier: Apache-2.0
//! Frames, and a bridge that forwards them by rules: what Open vSwitch does
//! with the same rules, in as few lines as that takes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use dvs_schemas::MacAddr;
use proptest::prelude::*;

use crate::datapath::ovs::rules::{Carried, Icmpv6, OfPort, Rule, Table, Then, When};
use crate::datapath::ovs::vlans::{Masked, Vid};

/// An Ethernet address, also one that no vNIC can have.
pub(super) type Octets = [u8; 6];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// VLAN of the tag, if there is one.
    pub(super) tag: Option<Vid>,
    pub(super) from: Octets,
    pub(super) to: Octets,
    pub(super) carries: Payload,
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Ipv4(Ipv4Addr),
    Dhcp,
    Arp {
        of: Ipv4Addr,
        at: Octets,
        asks: Ipv4Addr,
    },
    Ipv6(Ipv6Addr),
    Advertisement(Ipv6Addr, Ipv6Addr),
    Solicitation(Ipv6Addr, Ipv6Addr),
    Before(Icmpv6),
    Other,
}

pub(super) fn is_group(address: Octets) -> bool {
    address[0] & 1 == 1
}

fn covers(masked: Masked, vid: Vid) -> bool {
    vid & masked.mask == masked.value
}

/// A frame on its way through the tables.
#[derive(Debug, Clone, Copy)]
struct Passing {
    port: OfPort,
    frame: Frame,
    vlan: Vid,
    domain: Vid,
    out: OfPort,
    member: Vid,
    asked: OfPort,
    piece: u32,
}

/// A bridge with its rules, and what it has learnt.
#[derive(Debug)]
pub(super) struct Switch {
    rules: BTreeMap<Table, Vec<Rule>>,
    learnt: BTreeMap<(Vid, Octets), OfPort>,
}

impl Switch {
    pub(super) fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut of: BTreeMap<Table, Vec<Rule>> = BTreeMap::new();
        for rule in rules {
            of.entry(rule.table).or_default().push(rule);
        }
        Self {
            rules: of,
            learnt: BTreeMap::new(),
        }
    }

    /// Where a frame comes out, and with which tag.
    pub(super) fn forward(&mut self, port: OfPort, frame: Frame) -> Vec<(OfPort, Option<Vid>)> {
        let mut passing = Passing {
            port,
            frame,
            vlan: 0,
            domain: 0,
            out: 0,
            member: 0,
            asked: 0,
            piece: 0,
        };
        let mut outputs = Vec::new();
        self.pass(Table::Priority, &mut passing, &mut outputs);
        outputs.sort_unstable();
        outputs
    }

    fn pass(&mut self, table: Table, it: &mut Passing, outputs: &mut Vec<(OfPort, Option<Vid>)>) {
        let fitting = self.rules.get(&table).into_iter().flatten();
        let fitting: Vec<&Rule> = fitting
            .filter(|rule| rule.when.iter().all(|when| fits(*when, it)))
            .collect();
        let best = fitting.iter().map(|rule| rule.priority).max();
        let chosen: Vec<&&Rule> = fitting
            .iter()
            .filter(|rule| Some(rule.priority) == best)
            .collect();
        // Of equals nobody knows which counts.
        let alike = chosen.windows(2).all(|pair| pair[0].then == pair[1].then);
        assert!(alike, "either may count: {chosen:?}");
        let Some(rule) = chosen.first() else {
            // What is learnt counts less than what is known.
            if table == Table::Lookup
                && let Some(port) = self.learnt.get(&(it.domain, it.frame.to))
            {
                it.out = *port;
            }
            return;
        };
        for then in rule.then.clone() {
            match then {
                Then::Meter(_) => {}
                Then::SetVlan(vid) => it.vlan = vid,
                Then::VlanOfTag => it.vlan = it.frame.tag.expect("a tag to read"),
                Then::PopTag => drop(it.frame.tag.take().expect("a tag to take")),
                Then::PushTag => {
                    assert_eq!(it.frame.tag.replace(it.vlan), None, "two tags");
                }
                Then::SetDomain(vid) => it.domain = vid,
                Then::DomainOfVlan => it.domain = it.vlan,
                Then::Learn => {
                    self.learnt.insert((it.domain, it.frame.from), it.port);
                }
                Then::SetOut(port) => it.out = port,
                Then::SetMember(vid) => it.member = vid,
                Then::VlanOfMember => it.vlan = it.member,
                Then::SetAsked(port) => it.asked = port,
                Then::SetPiece(piece) => it.piece = piece,
                Then::Output(port) if port == it.port => {}
                Then::Output(port) => outputs.push((port, it.frame.tag)),
                Then::OutputThere if it.out == it.port => {}
                Then::OutputThere => outputs.push((it.out, it.frame.tag)),
                Then::Through(table) | Then::Goto(table) => self.pass(table, it, outputs),
            }
        }
    }
}

fn fits(when: When, it: &Passing) -> bool {
    match when {
        When::InPort(port) => it.port == port,
        When::Untagged => it.frame.tag.is_none(),
        When::Tagged(masked) => it.frame.tag.is_some_and(|vid| covers(masked, vid)),
        When::Source(mac) => it.frame.from == mac.octets(),
        When::SourceIsGroup => is_group(it.frame.from),
        When::Destination(mac) => it.frame.to == mac.octets(),
        When::DestinationIsGroup => is_group(it.frame.to),
        When::Vlan(masked) => covers(masked, it.vlan),
        When::Domain(vid) => it.domain == vid,
        When::Out(port) => it.out == port,
        When::Asked(port) => it.asked == port,
        When::Member(vid) => it.member == vid,
        When::Piece(piece) => it.piece == piece,
        When::Carries(carried) => is_carried(carried, it.frame.carries),
    }
}

fn is_carried(carried: Carried, payload: Payload) -> bool {
    let nowhere = Ipv6Addr::UNSPECIFIED;
    match (carried, payload) {
        (Carried::Ipv4(net), Payload::Ipv4(from)) => net.contains(&from),
        (Carried::Ipv4(net), Payload::Dhcp) => net.contains(&Ipv4Addr::UNSPECIFIED),
        (Carried::DhcpClient, payload) => payload == Payload::Dhcp,
        (Carried::Arp(net, mac), Payload::Arp { of, at, .. }) => {
            net.contains(&of) && mac.is_none_or(|mac: MacAddr| mac.octets() == at)
        }
        (Carried::ArpProbe(net), Payload::Arp { of, asks, .. }) => {
            of == Ipv4Addr::UNSPECIFIED && net.contains(&asks)
        }
        (
            Carried::Ipv6(net),
            Payload::Ipv6(from) | Payload::Advertisement(from, _) | Payload::Solicitation(from, _),
        ) => net.contains(&from),
        (Carried::Ipv6(net), Payload::Before(_)) => net.contains(&nowhere),
        (Carried::Advertisement, Payload::Advertisement(..)) => true,
        (Carried::AdvertisementOf(net), Payload::Advertisement(_, of)) => net.contains(&of),
        (Carried::DuplicateCheck(net), Payload::Solicitation(from, of)) => {
            from == nowhere && net.contains(&of)
        }
        (Carried::Ipv6Unspecified(message), Payload::Before(sent)) => message == sent,
        (
            Carried::Ipv4(_)
            | Carried::Arp(..)
            | Carried::ArpProbe(_)
            | Carried::Ipv6(_)
            | Carried::Advertisement
            | Carried::AdvertisementOf(_)
            | Carried::DuplicateCheck(_)
            | Carried::Ipv6Unspecified(_),
            _,
        ) => false,
    }
}

/// Any payload, with addresses of few networks.
pub(super) fn payload() -> impl Strategy<Value = Payload> {
    let v4 = || (0..4_u8).prop_map(|n| Ipv4Addr::new(10, 0, 0, n));
    let v6 = || (0..4_u16).prop_map(|n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
    prop_oneof![
        v4().prop_map(Payload::Ipv4),
        Just(Payload::Dhcp),
        (
            prop_oneof![3 => v4(), 1 => Just(Ipv4Addr::UNSPECIFIED)],
            0..6_u8,
            v4()
        )
            .prop_map(|(of, at, asks)| Payload::Arp {
                of,
                at: address(at),
                asks,
            }),
        v6().prop_map(Payload::Ipv6),
        (v6(), v6()).prop_map(|(from, of)| Payload::Advertisement(from, of)),
        (prop_oneof![v6(), Just(Ipv6Addr::UNSPECIFIED)], v6())
            .prop_map(|(from, of)| Payload::Solicitation(from, of)),
        Just(Payload::Before(Icmpv6::RouterSolicitation)),
        Just(Payload::Before(Icmpv6::ListenerReport)),
        Just(Payload::Other),
    ]
}

/// One of few addresses that vNICs can have.
pub(super) fn address(number: u8) -> Octets {
    [0x52, 0x54, 0, 0, 0, number]
}
