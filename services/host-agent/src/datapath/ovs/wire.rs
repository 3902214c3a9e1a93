// SPDX-License-Identifier: Apache-2.0
//! Rules in the words of OpenFlow, as Open vSwitch extends it.

use std::net::{Ipv4Addr, Ipv6Addr};

use dvs_openflow::{
    Action, Cookies, Field, Flow, Learn, Learnt, Masked, Match, MeterId, Part, Port, Reg, Subfield,
    Transfer, Vlan, VlanType,
};
use ipnet::{Ipv4Net, Ipv6Net};

use super::rules::{Carried, Icmpv6, OfPort, Rule, Table, Then, When};

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

/// Marks the flows that follow from rules; "dvs" and a number.
pub(super) const COOKIE: u64 = 0x6476_7301_0000_0000;

/// Marks what was learnt; the port stands in the lower half.
const LEARNT: u64 = 0x6476_7302_0000_0000;

/// What is not heard of for so long is forgotten: the ageing time of IEEE
/// 802.1Q, table 8-6.
const AGEING_SECONDS: u16 = 300;

/// What is learnt counts less than configured addresses, which have 190 and
/// more.
const LEARNT_PRIORITY: u16 = 100;

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
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

/// The number of a table.
pub(super) fn number(table: Table) -> u8 {
    table as u8
}

fn flow(rule: &Rule) -> Option<Flow> {
    let fields = rule.when.iter().try_fold(Match::any(), fields)?;
    let mut flow = Flow {
        table: number(rule.table),
        priority: rule.priority,
        fields,
        cookie: COOKIE,
        ..Flow::default()
    };
    for then in &rule.then {
        match then {
            Then::Goto(table) => flow.goto = Some(number(*table)),
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
        When::Vlan(of) => fields.reg(VLAN, vlans(*of)),
        When::Domain(vid) => fields.reg(DOMAIN, u32::from(*vid)),
        When::Out(port) => fields.reg(OUT, *port),
        When::Asked(port) => fields.reg(ASKED, *port),
        When::Member(vid) => fields.reg(MEMBER, u32::from(*vid)),
        When::Piece(piece) => fields.reg(PIECE, *piece),
        When::Carries(carried) => carries(fields, *carried),
    })
}

fn carries(fields: Match, carried: Carried) -> Match {
    let arp = |fields: Match| fields.eth_type(ARP);
    let ipv4 = |fields: Match| fields.eth_type(IPV4);
    let ipv6 = |fields: Match| fields.eth_type(IPV6);
    let icmpv6 = |fields: Match, kind| ipv6(fields).ip_proto(ICMPV6).icmpv6_type(kind);
    // Neighbour discovery's messages all have code 0 (RFC 4861, 4).
    let neighbour = |fields: Match, kind| icmpv6(fields, kind).icmpv6_code(0);
    match carried {
        Carried::Ipv4(net) => ipv4(fields).ipv4_src(net4(net)),
        Carried::Arp(net, mac) => {
            let fields = arp(fields).arp_spa(net4(net));
            mac.into_iter()
                .fold(fields, |fields, mac| fields.arp_sha(mac.octets()))
        }
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
        Carried::Advertisement => neighbour(fields, 136),
        Carried::AdvertisementOf(net) => neighbour(fields, 136).nd_target(net6(net)),
        Carried::DuplicateCheck(net) => neighbour(fields, 135)
            .ipv6_src(Ipv6Addr::UNSPECIFIED)
            .nd_target(net6(net)),
        Carried::Ipv6Unspecified(message) => {
            let kind = match message {
                Icmpv6::RouterSolicitation => 133,
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
        Then::Learn => vec![Action::Learn(Box::new(learn(rule)?))],
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
            table: number(table),
        }],
        // The flow says it by itself.
        Then::Goto(_) => Vec::new(),
    })
}

/// Where the source address is, and from which port that was learnt.
fn learn(rule: &Rule) -> Option<Learn> {
    let port = rule.when.iter().find_map(|when| {
        let When::InPort(port) = when else {
            return None;
        };
        Some(*port)
    })?;
    let domain = Transfer::new(Field::Reg(DOMAIN), Field::Reg(DOMAIN))?;
    let address = Transfer::new(Field::EthSrc, Field::EthDst)?;
    let out = Transfer::new(Field::InPort, Field::Reg(OUT))?;
    Some(Learn {
        table: number(Table::Lookup),
        priority: LEARNT_PRIORITY,
        cookie: LEARNT | u64::from(port),
        idle_timeout: AGEING_SECONDS,
        learnt: Learnt::Stays,
        parts: vec![Part::Match(domain), Part::Match(address), Part::Load(out)],
        ..Learn::default()
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
