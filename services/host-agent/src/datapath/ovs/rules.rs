// SPDX-License-Identifier: Apache-2.0
//! The rules by which a bridge forwards, in the switch's own words. What they
//! are on the wire is [`super::wire`]'s; which there are is [`super::pipeline`]'s.

use std::num::NonZeroU32;

use dvs_schemas::MacAddr;
use ipnet::{Ipv4Net, Ipv6Net};

use super::vlans::{Masked, Tag, Vid};

/// Number of a port within its bridge.
pub(super) type OfPort = u32;

/// The tables in the order in which a frame meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// Tells frames to reserved groups from the others.
    Reserved,
    /// May the port send to reserved groups?
    Permit,
    /// A tag that says no VLAN, only a priority, goes: its frame is untagged to
    /// all that follows. One rule for all ports says so.
    Priority,
    /// Drops what has another tag beneath its priority tag.
    Beneath,
    /// Where a frame comes from, and its VLAN. What no rule names is dropped:
    /// a port that nobody claimed, a tag that the port may not use.
    Classify,
    /// The VLAN whose address table counts.
    Domain,
    /// May the port send from this MAC address?
    Source,
    /// May the port send from this network address?
    Addresses,
    /// Which MAC address a frame claims in its ARP or neighbour discovery.
    Claims,
    /// May the port claim that?
    Claimed,
    /// Remembers where a MAC address is, then sends the frame on its way.
    Learn,
    /// Where a MAC address is.
    Lookup,
    /// First to those who get the frame with the tag of its VLAN, then to those
    /// who get it without. A tag that came in leaves untouched that way: Open
    /// vSwitch makes a tag that was taken off anew, with the bits that it knows.
    Leave,
    /// Drops what has another tag beneath the one that was taken off.
    Bare,
    /// Copies for ports that see everything.
    Copies(Tag),
    /// To the one port.
    Deliver(Tag),
    /// To the port that it was found to go to, if that is in its VLAN.
    Member,
    /// The VLAN of a port that is in one alone. Nothing else says it, so another
    /// VLAN is one rule of the port that does something else.
    Own,
    /// To every port of the VLAN.
    Flood(Tag),
    /// To where an address may be that nobody knows.
    Unknown(Tag),
    /// To every port of the VLAN that takes frames to reserved groups.
    Local(Tag),
}

impl Table {
    /// Its number in the bridge.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::Permit => 1,
            Self::Priority => 2,
            Self::Beneath => 3,
            Self::Classify => 4,
            Self::Domain => 5,
            Self::Source => 6,
            Self::Addresses => 7,
            Self::Claims => 8,
            Self::Claimed => 9,
            Self::Learn => 10,
            Self::Lookup => 11,
            Self::Leave => 12,
            Self::Copies(Tag::On) => 13,
            Self::Deliver(Tag::On) => 14,
            Self::Flood(Tag::On) => 15,
            Self::Unknown(Tag::On) => 16,
            Self::Local(Tag::On) => 17,
            Self::Bare => 18,
            Self::Copies(Tag::Off) => 19,
            Self::Deliver(Tag::Off) => 20,
            Self::Member => 21,
            Self::Own => 22,
            Self::Flood(Tag::Off) => 23,
            Self::Unknown(Tag::Off) => 24,
            Self::Local(Tag::Off) => 25,
        }
    }
}

/// Group addresses that bridges keep to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reserved {
    /// 01:80:c2:00:00:00 to 0f (IEEE 802.1Q, table 8-1): spanning tree, PAUSE,
    /// LACP, EAPOL, LLDP.
    Ieee,
    /// 01:00:0c:cc:cc:cc and cd: CDP, VTP, DTP, PAgP, UDLD, PVST+.
    Cisco,
    /// 01:00:0c:cc:cc:c0 to c7: Cisco's connectivity fault management.
    CiscoFaults,
    /// 01:00:0c:cd:cd:cd: FlexLink, spanning tree's UplinkFast.
    CiscoUplinks,
    /// 01:00:0c:00:00:00: ISL, which tags frames by itself.
    CiscoIsl,
    /// 00:e0:2b:00:00:00, 02, 04 and 06: EDP and EAPS, of Extreme.
    Extreme,
}

impl Reserved {
    /// All that Open vSwitch's own forwarding keeps to itself as well, so that
    /// it is the same within a host and beyond.
    pub(super) const ALL: [Self; 6] = [
        Self::Ieee,
        Self::Cisco,
        Self::CiscoFaults,
        Self::CiscoUplinks,
        Self::CiscoIsl,
        Self::Extreme,
    ];
}

/// What a frame must be like. All must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum When {
    /// It came in by this port.
    InPort(OfPort),
    /// It has no tag.
    Untagged,
    /// It has a tag of one of these VLANs; VLAN 0 is a priority tag.
    Tagged(Masked),
    /// Its source address is this.
    Source(MacAddr),
    /// Its source address is a group's, which none may be.
    SourceIsGroup,
    /// Its destination is this.
    Destination(MacAddr),
    /// Its destination is a group, or everybody.
    DestinationIsGroup,
    /// Its destination is one of these.
    DestinationIsReserved(Reserved),
    /// Its destination was found to be reserved.
    Reserved,
    /// It was found to belong to one of these VLANs.
    Vlan(Masked),
    /// The address table that counts is this VLAN's.
    Domain(Vid),
    /// It was found to go to this port; 0 is not known.
    Out(OfPort),
    /// The port that is asked about is in this VLAN alone.
    Member(Vid),
    /// This port is asked about.
    Asked(OfPort),
    /// So many pieces of a long list were done.
    Piece(u32),
    /// It was found to claim this MAC address.
    Claims(MacAddr),
    /// It carries this.
    Carries(Carried),
}

/// What a frame carries behind the tags that Open vSwitch sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Carried {
    /// Another tag of this type.
    Tag(TagType),
    /// IPv4 from this network.
    Ipv4(Ipv4Net),
    /// ARP, whatever it says.
    AnyArp,
    /// ARP that claims an address of this network.
    Arp(Ipv4Net),
    /// ARP that claims none, and asks for one of this network (RFC 5227).
    ArpProbe(Ipv4Net),
    /// RARP, whatever it says.
    AnyRarp,
    /// RARP that asks, and claims no network address (RFC 903): by it a
    /// hypervisor says where a machine is now.
    Rarp,
    /// A protocol between neighbours.
    Control(Control),
    /// EAP over LAN (IEEE 802.1X), which carries no network address.
    Eapol,
    /// A DHCP client without an address (RFC 2131).
    DhcpClient,
    /// IGMP of a host without an address (RFC 3376, 4.2.13).
    IgmpUnspecified,
    /// IPv6 from this network.
    Ipv6(Ipv6Net),
    /// A message of neighbour discovery, whatever it says (RFC 4861).
    Neighbour(Neighbour),
    /// One without its sender's MAC address.
    NeighbourWithoutMac(Neighbour),
    /// One that nobody may send, or that Open vSwitch could not read: it is
    /// about no address.
    NeighbourMalformed(Neighbour),
    /// A neighbour advertisement of an address of this network, from any
    /// address.
    AdvertisementOf(Ipv6Net),
    /// From the unspecified address: a neighbour solicitation for an address
    /// of this network (RFC 4862, duplicate address detection).
    DuplicateCheck(Ipv6Net),
    /// From the unspecified address: a router solicitation or a multicast
    /// listener report, which claim no address.
    Ipv6Unspecified(Icmpv6),
}

/// The Ethernet type of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TagType {
    /// 0x8100 (IEEE 802.1Q).
    Customer,
    /// 0x88a8 (IEEE 802.1ad).
    Service,
}

impl TagType {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Customer, Self::Service];
}

/// Protocols between neighbours, which carry no network address that anybody
/// would take for the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Control {
    /// IEEE 802.2: spanning tree, CDP. What has the Ethernet type of another
    /// protocol in a SNAP header counts as that.
    Llc,
    /// 0x8808: PAUSE (IEEE 802.3).
    Mac,
    /// 0x8809: LACP (IEEE 802.3).
    Slow,
    /// 0x88cc (IEEE 802.1AB).
    Lldp,
}

impl Control {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Llc, Self::Mac, Self::Slow, Self::Lldp];
}

/// Messages of neighbour discovery that may say their sender's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Neighbour {
    /// With the source's address in an option.
    Solicitation,
    /// With the target's address in an option.
    Advertisement,
}

/// ICMPv6 messages that come before a host has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Icmpv6 {
    /// RFC 4861.
    RouterSolicitation,
    /// RFC 2710.
    ListenerReportV1,
    /// RFC 3810.
    ListenerReport,
}

/// What is done with a frame, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Then {
    /// It goes on only while this meter has room.
    Meter(u32),
    /// It belongs to this VLAN.
    SetVlan(Vid),
    /// It belongs to the VLAN of its tag.
    VlanOfTag,
    /// Its destination is reserved.
    Reserve,
    /// Its tag goes.
    PopTag,
    /// It gets the tag of its VLAN.
    PushTag,
    /// The address table that counts is this VLAN's.
    SetDomain(Vid),
    /// The address table that counts is its own VLAN's.
    DomainOfVlan,
    /// It claims the MAC address that its ARP or RARP says.
    ClaimOfArp,
    /// It claims the MAC address that its neighbour discovery says.
    ClaimOf(Neighbour),
    /// Its source address is where it came in, until it is silent for long; no
    /// more of them than this are learnt from the port.
    Learn(NonZeroU32),
    /// The agent is told that it came in, and then nothing of that port for some
    /// seconds: who talks without a pause costs nobody anything.
    Report,
    /// It goes to this port.
    SetOut(OfPort),
    /// The port that is asked about is in this VLAN alone.
    SetMember(Vid),
    /// It belongs to the VLAN of the port that is asked about.
    VlanOfMember,
    /// This port is asked about.
    SetAsked(OfPort),
    /// So many pieces of a long list are done.
    SetPiece(u32),
    /// Out of this port, as it is now; never back where it came in.
    Output(OfPort),
    /// Out of the port where it goes; never back where it came in.
    OutputThere,
    /// Through that table, and back here with what changed in it.
    Through(Table),
    /// On to that table.
    Goto(Table),
}

/// One rule. Of those that fit, the one with the highest priority counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rule {
    pub(super) table: Table,
    pub(super) priority: u16,
    pub(super) when: Vec<When>,
    /// Nothing: the frame is dropped.
    pub(super) then: Vec<Then>,
}
