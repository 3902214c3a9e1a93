// SPDX-License-Identifier: Apache-2.0
//! Rules in the words of OpenFlow, as Open vSwitch extends it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use dvs_openflow::{
    Action, Cookies, Field, Flow, Learn, Learnt, Masked, Match, MeterId, Part, Port, Reg, Subfield,
    Transfer, Vlan, VlanType,
};
use ipnet::{Ipv4Net, Ipv6Net};

use super::rules::{
    Carried, Control, Icmpv6, Neighbour, OfPort, Reserved, Rule, Table, TagType, Then, When,
};

/// The VLAN of the frame.
const VLAN: Reg = Reg::R0;
/// The VLAN whose address table counts.
const DOMAIN: Reg = Reg::R1;
/// The port where the frame goes; 0 is not known.
const OUT: Reg = Reg::R2;
/// Pieces of a long list that were done.
const PIECE: Reg = Reg::R3;
/// The one VLAN of the port that is asked about.
const MEMBER: Reg = Reg::R5;
/// That port.
const ASKED: Reg = Reg::R6;
/// Priority of the tag that was taken off (IEEE 802.1Q, 6.9), for the tag that
/// is put on.
const PRIORITY: Reg = Reg::R4;
/// The MAC address that the frame claims: its first four bytes...
const CLAIM_HIGH: Reg = Reg::R7;
/// ...and its last two.
const CLAIM_LOW: Reg = Reg::R8;
/// 1 if the frame's destination is a reserved group.
const RESERVED: Reg = Reg::R9;

/// Marks the flows that follow from rules; "dvs" and a number.
pub(super) const COOKIE: u64 = 0x6476_7301_0000_0000;

/// Marks what was learnt; the port stands in the lower half.
const LEARNT: u64 = 0x6476_7302_0000_0000;

/// What is not heard of for so long is forgotten: the ageing time of IEEE
/// 802.1Q, table 8-6.
const AGEING_SECONDS: u16 = 300;

/// Marks what keeps a port that has just been reported from being so again; the
/// port stands in the lower half. It counts as learnt.
const REPORTED: u64 = 0x6476_7303_0000_0000;

/// How long that is: longer than it takes to hear of it and hand a port over,
/// and short enough that a report that was lost is made up for.
const REPORTED_SECONDS: u16 = 5;

/// What is learnt counts less than configured addresses, which have 170 and
/// more.
const LEARNT_PRIORITY: u16 = 100;

const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const EAPOL: u16 = 0x888e;
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const IGMP: u8 = 2;
const UDP: u8 = 17;
/// The bit of an Ethernet address that says that it is a group's.
const GROUP: [u8; 6] = [1, 0, 0, 0, 0, 0];

/// A rule has no form in OpenFlow. Ports and meters are numbered by Open
/// vSwitch within its own bounds, so this is a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rule can't be said in OpenFlow, which is a fault of this program: {0:?}")]
pub(super) struct NoForm(Rule);

/// The flows of some rules.
pub(super) fn flows<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Result<Vec<Flow>, NoForm> {
    let flow = |rule: &'a Rule| flow(rule).ok_or_else(|| NoForm(rule.clone()));
    rules.into_iter().map(flow).collect()
}

/// What was learnt from a port.
pub(super) fn learnt_from(port: OfPort) -> Cookies {
    Cookies::only(LEARNT | u64::from(port))
}

/// All that was learnt.
pub(super) fn learnt() -> Cookies {
    Cookies {
        value: LEARNT,
        mask: LEARNT,
    }
}

/// The port that a flow reports, by the flow's cookie.
pub(super) fn reported(cookie: u64) -> Option<OfPort> {
    let port = OfPort::try_from(cookie & u64::from(OfPort::MAX)).ok()?;
    (cookie == COOKIE | u64::from(port) && port > 0).then_some(port)
}

fn flow(rule: &Rule) -> Option<Flow> {
    let fields = rule.when.iter().try_fold(Match::any(), fields)?;
    let mut flow = Flow {
        table: rule.table.number(),
        priority: rule.priority,
        fields,
        cookie: match in_port(rule) {
            Some(port) if rule.then.contains(&Then::Report) => COOKIE | u64::from(port),
            Some(_) | None => COOKIE,
        },
        ..Flow::default()
    };
    for then in &rule.then {
        match then {
            Then::Goto(table) => flow.goto = Some(table.number()),
            then => flow.actions.extend(actions(*then, rule)?),
        }
    }
    Some(flow)
}

fn fields(fields: Match, when: &When) -> Option<Match> {
    let masked = |masked: super::vlans::Masked| Masked {
        value: masked.value,
        mask: masked.mask,
    };
    let vlans = |of: super::vlans::Masked| Masked {
        value: u32::from(of.value),
        mask: u32::from(of.mask),
    };
    let group = Masked {
        value: GROUP,
        mask: GROUP,
    };
    Some(match when {
        When::InPort(port) => fields.in_port(Port::try_from(*port).ok()?),
        When::Untagged => fields.vlan(Vlan::Untagged),
        When::Tagged(of) => fields.vlan(Vlan::Tagged(masked(*of))),
        When::Source(mac) => fields.eth_src(mac.octets()),
        When::SourceIsGroup => fields.eth_src(group),
        When::Destination(mac) => fields.eth_dst(mac.octets()),
        When::DestinationIsGroup => fields.eth_dst(group),
        When::DestinationIsReserved(of) => fields.eth_dst(reserved(*of)),
        When::Reserved => fields.reg(RESERVED, 1),
        When::Vlan(of) => fields.reg(VLAN, vlans(*of)),
        When::Domain(vid) => fields.reg(DOMAIN, u32::from(*vid)),
        When::Out(port) => fields.reg(OUT, *port),
        When::Asked(port) => fields.reg(ASKED, *port),
        When::Member(vid) => fields.reg(MEMBER, u32::from(*vid)),
        When::Piece(piece) => fields.reg(PIECE, *piece),
        When::Claims(mac) => {
            let [a, b, c, d, e, f] = mac.octets();
            let high = u32::from_be_bytes([a, b, c, d]);
            let low = u32::from_be_bytes([0, 0, e, f]);
            fields.reg(CLAIM_HIGH, high).reg(CLAIM_LOW, low)
        }
        When::Carries(carried) => carries(fields, *carried),
    })
}

/// Its Ethernet type; OpenFlow has a number for what has none.
fn control(of: Control) -> u16 {
    match of {
        Control::Llc => 0x05ff,
        Control::Mac => 0x8808,
        Control::Slow => 0x8809,
        Control::Lldp => 0x88cc,
    }
}

fn reserved(of: Reserved) -> Masked<[u8; 6]> {
    let (value, mask) = match of {
        Reserved::Ieee => ([0x01, 0x80, 0xc2, 0, 0, 0x00], 0xf0),
        Reserved::Cisco => ([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc], 0xfe),
        Reserved::CiscoFaults => ([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xc0], 0xf8),
        Reserved::CiscoUplinks => ([0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd], 0xff),
        Reserved::CiscoIsl => ([0x01, 0x00, 0x0c, 0, 0, 0], 0xff),
        Reserved::Extreme => ([0x00, 0xe0, 0x2b, 0, 0, 0], 0xf9),
    };
    Masked {
        value,
        mask: [0xff, 0xff, 0xff, 0xff, 0xff, mask],
    }
}

fn carries(fields: Match, carried: Carried) -> Match {
    let arp = |fields: Match| fields.eth_type(ARP);
    let ipv4 = |fields: Match| fields.eth_type(IPV4);
    let ipv6 = |fields: Match| fields.eth_type(IPV6);
    let icmpv6 = |fields: Match, kind| ipv6(fields).ip_proto(ICMPV6).icmpv6_type(kind);
    // Neighbour discovery's messages all have code 0 (RFC 4861, 4).
    let neighbour = |fields: Match, kind| icmpv6(fields, kind).icmpv6_code(0);
    let discovery = |fields: Match, of| match of {
        Neighbour::Solicitation => neighbour(fields, 135),
        Neighbour::Advertisement => neighbour(fields, 136),
    };
    match carried {
        Carried::Tag(TagType::Customer) => fields.eth_type(CUSTOMER_TAG),
        Carried::Tag(TagType::Service) => fields.eth_type(SERVICE_TAG),
        Carried::Ipv4(net) => ipv4(fields).ipv4_src(net4(net)),
        Carried::AnyArp => arp(fields),
        Carried::Arp(net) => arp(fields).arp_spa(net4(net)),
        Carried::AnyRarp => fields.eth_type(RARP),
        Carried::Rarp => fields
            .eth_type(RARP)
            .arp_op(3)
            .arp_spa(Ipv4Addr::UNSPECIFIED),
        Carried::Control(of) => fields.eth_type(control(of)),
        Carried::Eapol => fields.eth_type(EAPOL),
        Carried::IgmpUnspecified => ipv4(fields).ipv4_src(Ipv4Addr::UNSPECIFIED).ip_proto(IGMP),
        Carried::ArpProbe(net) => arp(fields)
            .arp_op(1)
            .arp_spa(Ipv4Addr::UNSPECIFIED)
            .arp_tpa(net4(net)),
        Carried::DhcpClient => ipv4(fields)
            .ipv4_src(Ipv4Addr::UNSPECIFIED)
            .ipv4_dst(Ipv4Addr::BROADCAST)
            .ip_proto(UDP)
            .udp_src(68)
            .udp_dst(67),
        Carried::Ipv6(net) => ipv6(fields).ipv6_src(net6(net)),
        Carried::Neighbour(of) => discovery(fields, of),
        Carried::NeighbourWithoutMac(of) => match of {
            Neighbour::Solicitation => discovery(fields, of).nd_sll([0; 6]),
            Neighbour::Advertisement => discovery(fields, of).nd_tll([0; 6]),
        },
        Carried::NeighbourMalformed(of) => discovery(fields, of).nd_target(Ipv6Addr::UNSPECIFIED),
        Carried::AdvertisementOf(net) => neighbour(fields, 136).nd_target(net6(net)),
        Carried::DuplicateCheck(net) => neighbour(fields, 135)
            .ipv6_src(Ipv6Addr::UNSPECIFIED)
            .nd_target(net6(net)),
        Carried::Ipv6Unspecified(message) => {
            let kind = match message {
                Icmpv6::RouterSolicitation => 133,
                Icmpv6::ListenerReportV1 => 131,
                Icmpv6::ListenerReport => 143,
            };
            icmpv6(fields, kind).ipv6_src(Ipv6Addr::UNSPECIFIED)
        }
    }
}

fn net4(net: Ipv4Net) -> Masked<Ipv4Addr> {
    Masked {
        value: net.network(),
        mask: net.netmask(),
    }
}

fn net6(net: Ipv6Net) -> Masked<Ipv6Addr> {
    Masked {
        value: net.network(),
        mask: net.netmask(),
    }
}

fn actions(then: Then, rule: &Rule) -> Option<Vec<Action>> {
    Some(match then {
        Then::Meter(id) => vec![Action::Meter(MeterId::try_from(id).ok()?)],
        Then::SetVlan(vid) => vec![Action::set_reg(VLAN, u32::from(vid))?],
        Then::VlanOfTag => vec![Action::Copy(Transfer::new(vid_of_tag()?, vid_of(VLAN)?)?)],
        Then::PopTag => {
            let keep = Transfer::new(Field::VlanPcp, priority()?)?;
            vec![Action::Copy(keep), Action::PopVlan]
        }
        Then::PushTag => {
            let vlan = Transfer::new(vid_of(VLAN)?, vid_of_tag()?)?;
            let kept = Transfer::new(priority()?, Field::VlanPcp)?;
            let push = Action::PushVlan(VlanType::Customer);
            vec![push, Action::Copy(vlan), Action::Copy(kept)]
        }
        Then::SetDomain(vid) => vec![Action::set_reg(DOMAIN, u32::from(vid))?],
        Then::DomainOfVlan => {
            let copy = Transfer::new(Field::Reg(VLAN), Field::Reg(DOMAIN))?;
            vec![Action::Copy(copy)]
        }
        Then::Reserve => vec![Action::set_reg(RESERVED, 1_u32)?],
        Then::ClaimOfArp => claim_of(Field::ArpSha)?,
        Then::ClaimOf(Neighbour::Solicitation) => claim_of(Field::NdSll)?,
        Then::ClaimOf(Neighbour::Advertisement) => claim_of(Field::NdTll)?,
        Then::Learn(limit) => vec![Action::Learn(Box::new(learn(rule, limit)?))],
        Then::Report => {
            let quiet = Action::Learn(Box::new(reports_no_more(rule)?));
            vec![quiet, Action::Output(Port::CONTROLLER)]
        }
        Then::SetOut(port) => vec![Action::set_reg(OUT, port)?],
        Then::SetMember(vid) => vec![Action::set_reg(MEMBER, u32::from(vid))?],
        Then::VlanOfMember => {
            let copy = Transfer::new(Field::Reg(MEMBER), Field::Reg(VLAN))?;
            vec![Action::Copy(copy)]
        }
        Then::SetAsked(port) => vec![Action::set_reg(ASKED, port)?],
        Then::SetPiece(piece) => vec![Action::set_reg(PIECE, piece)?],
        Then::Output(port) => vec![Action::Output(Port::try_from(port).ok()?)],
        Then::OutputThere => vec![Action::OutputReg(OUT)],
        Then::Through(table) => vec![Action::Resubmit {
            port: Port::IN_PORT,
            table: table.number(),
        }],
        // The flow says it by itself.
        Then::Goto(_) => Vec::new(),
    })
}

/// Puts a MAC address that the frame claims to where it is looked at.
fn claim_of(field: Field) -> Option<Vec<Action>> {
    let high = Transfer::new(Subfield::new(field, 16, 32)?, Field::Reg(CLAIM_HIGH))?;
    let low = Subfield::new(Field::Reg(CLAIM_LOW), 0, 16)?;
    let low = Transfer::new(Subfield::new(field, 0, 16)?, low)?;
    Some(vec![Action::Copy(high), Action::Copy(low)])
}

/// Where the source address is, and from which port that was learnt. A frame
/// from the address renews it, one to the address does not.
fn learn(rule: &Rule, limit: NonZeroU32) -> Option<Learn> {
    let port = in_port(rule)?;
    let domain = Transfer::new(Field::Reg(DOMAIN), Field::Reg(DOMAIN))?;
    let address = Transfer::new(Field::EthSrc, Field::EthDst)?;
    let out = Transfer::new(Field::InPort, Field::Reg(OUT))?;
    Some(Learn {
        table: Table::Lookup.number(),
        priority: LEARNT_PRIORITY,
        cookie: LEARNT | u64::from(port),
        hard_timeout: AGEING_SECONDS,
        limit: Some(limit),
        learnt: Learnt::Stays,
        parts: vec![Part::Match(domain), Part::Match(address), Part::Load(out)],
        ..Learn::default()
    })
}

/// Drops what follows on a frame that was reported, for a while.
fn reports_no_more(rule: &Rule) -> Option<Learn> {
    Some(Learn {
        table: rule.table.number(),
        priority: rule.priority + 1,
        cookie: REPORTED | u64::from(in_port(rule)?),
        hard_timeout: REPORTED_SECONDS,
        learnt: Learnt::Stays,
        parts: vec![Part::Match(Transfer::new(Field::InPort, Field::InPort)?)],
        ..Learn::default()
    })
}

/// The port whose frames a rule is for.
fn in_port(rule: &Rule) -> Option<OfPort> {
    rule.when.iter().find_map(|when| {
        let When::InPort(port) = when else {
            return None;
        };
        Some(*port)
    })
}

/// The VLAN in the tag, without the bit that says that there is a tag.
fn vid_of_tag() -> Option<Subfield> {
    Subfield::new(Field::VlanVid, 0, 12)
}

fn vid_of(reg: Reg) -> Option<Subfield> {
    Subfield::new(Field::Reg(reg), 0, 12)
}

fn priority() -> Option<Subfield> {
    Subfield::new(Field::Reg(PRIORITY), 0, 3)
}
