// SPDX-License-Identifier: Apache-2.0
//! Frames, and a bridge that forwards them by rules: what Open vSwitch does
//! with the same rules, in as few lines as that takes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::datapath::ovs::rules::{
    Carried, Control, Icmpv6, Neighbour, OfPort, Reserved, Rule, Table, TagType, Then, When,
};
use crate::datapath::ovs::vlans::{Masked, Vid};

/// An Ethernet address, also one that no vNIC can have.
pub(super) type Octets = [u8; 6];

/// Tags from the outermost, as far as there are any.
pub(super) type Tags = [Option<(TagType, Vid)>; 2];

/// Where a frame comes out, and with which tags.
pub(super) type Output = (OfPort, Tags);

/// One tag, as bridges write it.
pub(super) fn tagged(vid: Vid) -> Tags {
    [Some((TagType::Customer, vid)), None]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tags: Tags,
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
    Rarp {
        of: Ipv4Addr,
        at: Octets,
    },
    Ipv6(Ipv6Addr),
    /// Of neighbour discovery: from whom, about whom, and the sender's MAC
    /// address if it says it.
    Discovery(Neighbour, Ipv6Addr, Ipv6Addr, Option<Octets>),
    Eapol,
    Control(Control),
    Before(Icmpv6),
    Other,
}

pub(super) fn is_group(address: Octets) -> bool {
    address[0] & 1 == 1
}

/// The first of a class of reserved groups.
pub(super) fn first(reserved: Reserved) -> Octets {
    match reserved {
        Reserved::Ieee => [0x01, 0x80, 0xc2, 0, 0, 0],
        Reserved::Cisco => [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
        Reserved::CiscoFaults => [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xc0],
        Reserved::CiscoUplinks => [0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd],
        Reserved::CiscoIsl => [0x01, 0x00, 0x0c, 0, 0, 0],
        Reserved::Extreme => [0x00, 0xe0, 0x2b, 0, 0, 0],
    }
}

fn covers(masked: Masked, vid: Vid) -> bool {
    vid & masked.mask == masked.value
}

/// A frame on its way through the tables.
#[derive(Debug, Clone, Copy)]
struct Passing {
    port: OfPort,
    frame: Frame,
    /// How many of its tags the switch has looked at.
    seen: usize,
    reserved: bool,
    claims: Option<Octets>,
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
    /// Most tags that it looks at.
    vlan_limit: usize,
    /// Ports that were reported.
    pub(super) reported: Vec<OfPort>,
}

impl Switch {
    pub(super) fn new(rules: impl IntoIterator<Item = Rule>, vlan_limit: usize) -> Self {
        let mut of: BTreeMap<Table, Vec<Rule>> = BTreeMap::new();
        for rule in rules {
            of.entry(rule.table).or_default().push(rule);
        }
        Self {
            rules: of,
            learnt: BTreeMap::new(),
            vlan_limit,
            reported: Vec::new(),
        }
    }

    /// Where a frame comes out.
    pub(super) fn forward(&mut self, port: OfPort, frame: Frame) -> Vec<Output> {
        let mut passing = Passing {
            port,
            frame,
            seen: frame.tags.iter().flatten().count().min(self.vlan_limit),
            reserved: false,
            claims: None,
            vlan: 0,
            domain: 0,
            out: 0,
            member: 0,
            asked: 0,
            piece: 0,
        };
        let mut outputs = Vec::new();
        self.pass(Table::Reserved, &mut passing, &mut outputs);
        outputs.sort_unstable();
        outputs
    }

    fn pass(&mut self, table: Table, it: &mut Passing, outputs: &mut Vec<Output>) {
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
                Then::VlanOfTag => it.vlan = it.tag().expect("a tag to read"),
                Then::Reserve => it.reserved = true,
                Then::PopTag => {
                    it.tag().expect("a tag to take");
                    it.frame.tags = [it.frame.tags[1], None];
                    it.seen -= 1;
                }
                Then::PushTag => {
                    assert_eq!(it.frame.tags, [None, None], "a tag beneath");
                    it.frame.tags = tagged(it.vlan);
                    it.seen = 1;
                }
                Then::ClaimOfArp => {
                    let (Payload::Arp { at, .. } | Payload::Rarp { at, .. }) = it.frame.carries
                    else {
                        panic!("no ARP");
                    };
                    it.claims = Some(at);
                }
                Then::ClaimOf(_) => {
                    let Payload::Discovery(_, _, _, at) = it.frame.carries else {
                        panic!("no neighbour discovery");
                    };
                    it.claims = at;
                }
                Then::SetDomain(vid) => it.domain = vid,
                Then::DomainOfVlan => it.domain = it.vlan,
                Then::Learn(limit) => {
                    let key = (it.domain, it.frame.from);
                    learn(&mut self.learnt, key, it.port, limit);
                }
                Then::Report => self.reported.push(it.port),
                Then::SetOut(port) => it.out = port,
                Then::SetMember(vid) => it.member = vid,
                Then::VlanOfMember => it.vlan = it.member,
                Then::SetAsked(port) => it.asked = port,
                Then::SetPiece(piece) => it.piece = piece,
                Then::Output(port) if port == it.port => {}
                Then::Output(port) => outputs.push((port, it.frame.tags)),
                Then::OutputThere if it.out == it.port => {}
                Then::OutputThere => outputs.push((it.out, it.frame.tags)),
                Then::Through(table) | Then::Goto(table) => self.pass(table, it, outputs),
            }
        }
    }
}

/// Of those that a port has already, each is renewed; of others no more than so
/// many are learnt from it.
pub(super) fn learn(
    learnt: &mut BTreeMap<(Vid, Octets), OfPort>,
    key: (Vid, Octets),
    port: OfPort,
    limit: NonZeroU32,
) {
    let of_port = learnt.values().filter(|of| **of == port).count();
    if u32::try_from(of_port).is_ok_and(|learnt| learnt < limit.get()) {
        learnt.insert(key, port);
    }
}

impl Passing {
    /// VLAN of the outermost tag that is seen.
    fn tag(&self) -> Option<Vid> {
        let [outer, _] = self.frame.tags;
        outer.filter(|_| self.seen > 0).map(|(_, vid)| vid)
    }

    /// The type of a tag that is not seen as one.
    fn hidden(&self) -> Option<TagType> {
        let hidden = self.frame.tags.get(self.seen).copied().flatten();
        hidden.map(|(kind, _)| kind)
    }
}

fn fits(when: When, it: &Passing) -> bool {
    match when {
        When::InPort(port) => it.port == port,
        When::Untagged => it.tag().is_none(),
        When::Tagged(masked) => it.tag().is_some_and(|vid| covers(masked, vid)),
        When::Source(mac) => it.frame.from == mac.octets(),
        When::SourceIsGroup => is_group(it.frame.from),
        When::Destination(mac) => it.frame.to == mac.octets(),
        When::DestinationIsGroup => is_group(it.frame.to),
        When::DestinationIsReserved(of) => it.frame.to == first(of),
        When::Reserved => it.reserved,
        When::Claims(mac) => it.claims == Some(mac.octets()),
        When::Vlan(masked) => covers(masked, it.vlan),
        When::Domain(vid) => it.domain == vid,
        When::Out(port) => it.out == port,
        When::Asked(port) => it.asked == port,
        When::Member(vid) => it.member == vid,
        When::Piece(piece) => it.piece == piece,
        When::Carries(carried) => match it.hidden() {
            Some(kind) => carried == Carried::Tag(kind),
            None => is_carried(carried, it.frame.carries),
        },
    }
}

fn is_carried(carried: Carried, payload: Payload) -> bool {
    let nowhere = Ipv6Addr::UNSPECIFIED;
    match (carried, payload) {
        (Carried::Ipv4(net), Payload::Ipv4(from)) => net.contains(&from),
        (Carried::Ipv4(net), Payload::Dhcp) => net.contains(&Ipv4Addr::UNSPECIFIED),
        (Carried::DhcpClient, payload) => payload == Payload::Dhcp,
        (Carried::AnyArp, payload) => matches!(payload, Payload::Arp { .. }),
        (Carried::Arp(net), Payload::Arp { of, .. }) => net.contains(&of),
        (Carried::AnyRarp, payload) => matches!(payload, Payload::Rarp { .. }),
        (Carried::Rarp, Payload::Rarp { of, .. }) => of.is_unspecified(),
        (Carried::Eapol, payload) => payload == Payload::Eapol,
        (Carried::Control(of), payload) => payload == Payload::Control(of),
        (Carried::ArpProbe(net), Payload::Arp { of, asks, .. }) => {
            of == Ipv4Addr::UNSPECIFIED && net.contains(&asks)
        }
        (Carried::Ipv6(net), Payload::Ipv6(from) | Payload::Discovery(_, from, ..)) => {
            net.contains(&from)
        }
        (Carried::Ipv6(net), Payload::Before(_)) => net.contains(&nowhere),
        (Carried::Neighbour(of), Payload::Discovery(kind, ..)) => of == kind,
        (Carried::NeighbourWithoutMac(of), Payload::Discovery(kind, _, _, at)) => {
            of == kind && at.is_none()
        }
        (Carried::NeighbourMalformed(of), Payload::Discovery(kind, _, about, _)) => {
            of == kind && about == nowhere
        }
        (
            Carried::AdvertisementOf(net),
            Payload::Discovery(Neighbour::Advertisement, _, about, _),
        ) => net.contains(&about),
        (
            Carried::DuplicateCheck(net),
            Payload::Discovery(Neighbour::Solicitation, from, about, _),
        ) => from == nowhere && net.contains(&about),
        (Carried::Ipv6Unspecified(message), Payload::Before(sent)) => message == sent,
        (
            Carried::Tag(_)
            | Carried::Ipv4(_)
            | Carried::Arp(_)
            | Carried::ArpProbe(_)
            | Carried::Rarp
            | Carried::IgmpUnspecified
            | Carried::Ipv6(_)
            | Carried::Neighbour(_)
            | Carried::NeighbourWithoutMac(_)
            | Carried::NeighbourMalformed(_)
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
    let net = prop_oneof![Just(0xfd00), Just(0xfe80)];
    let v6 = move || {
        let net = net.clone();
        (net, 0..4_u16).prop_map(|(net, n)| Ipv6Addr::new(net, 0, 0, 0, 0, 0, 0, n))
    };
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
        (
            prop_oneof![1 => v4(), 3 => Just(Ipv4Addr::UNSPECIFIED)],
            0..6_u8
        )
            .prop_map(|(of, at)| Payload::Rarp {
                of,
                at: address(at),
            }),
        v6().prop_map(Payload::Ipv6),
        (
            prop_oneof![
                Just(Neighbour::Solicitation),
                Just(Neighbour::Advertisement)
            ],
            prop_oneof![3 => v6(), 1 => Just(Ipv6Addr::UNSPECIFIED)],
            prop_oneof![5 => v6(), 1 => Just(Ipv6Addr::UNSPECIFIED)],
            option::of((0..6_u8).prop_map(address)),
        )
            .prop_map(|(of, from, about, at)| Payload::Discovery(of, from, about, at)),
        Just(Payload::Eapol),
        select(&Control::ALL[..]).prop_map(Payload::Control),
        Just(Payload::Before(Icmpv6::RouterSolicitation)),
        Just(Payload::Before(Icmpv6::ListenerReport)),
        Just(Payload::Other),
    ]
}

/// One of few addresses that vNICs can have.
pub(super) fn address(number: u8) -> Octets {
    [0x52, 0x54, 0, 0, 0, number]
}
