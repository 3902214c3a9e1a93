// SPDX-License-Identifier: Apache-2.0
//! The rules by which a bridge forwards, in the switch's own words. What they
//! are on the wire is [`super::wire`]'s; which there are is [`super::pipeline`]'s.

use dvs_schemas::MacAddr;
use ipnet::{Ipv4Net, Ipv6Net};

use super::vlans::{Masked, Vid};

/// Number of a port within its bridge.
pub(super) type OfPort = u32;

/// The tables in the order in which a frame meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    /// A tag that says no VLAN, only a priority, goes: its frame is untagged to
    /// all that follows. One rule for all ports says so.
    Priority,
    /// Where a frame comes from, and its VLAN. What no rule names is dropped:
    /// a port that nobody claimed, a tag that the port may not use.
    Classify,
    /// The VLAN whose address table counts.
    Domain,
    /// May the port send from this MAC address?
    Source,
    /// May the port send from this network address?
    Addresses,
    /// Remembers where a MAC address is, then sends the frame on its way.
    Learn,
    /// Where a MAC address is.
    Lookup,
    /// Copies for ports that see everything.
    Copies,
    /// To the one port.
    Deliver,
    /// To the port that it was found to go to, if that is in its VLAN.
    Member,
    /// The VLAN of a port that is in one alone. Nothing else says it, so another
    /// VLAN is one rule of the port that does something else.
    Own,
    /// To every port of the VLAN.
    Flood,
    /// To where an address may be that nobody knows.
    Unknown,
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
    /// It carries this.
    Carries(Carried),
}

/// What a frame carries, as far as it claims an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Carried {
    /// IPv4 from this network.
    Ipv4(Ipv4Net),
    /// ARP that claims an address of this network, for this MAC address if any.
    Arp(Ipv4Net, Option<MacAddr>),
    /// ARP that claims none, and asks for one of this network (RFC 5227).
    ArpProbe(Ipv4Net),
    /// A DHCP client without an address (RFC 2131).
    DhcpClient,
    /// IPv6 from this network.
    Ipv6(Ipv6Net),
    /// A neighbour advertisement, whatever it says (RFC 4861).
    Advertisement,
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

/// ICMPv6 messages that come before a host has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Icmpv6 {
    /// RFC 4861.
    RouterSolicitation,
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
    /// Its tag goes.
    PopTag,
    /// It gets the tag of its VLAN.
    PushTag,
    /// The address table that counts is this VLAN's.
    SetDomain(Vid),
    /// The address table that counts is its own VLAN's.
    DomainOfVlan,
    /// Its source address is where it came in, until it is silent for long.
    Learn,
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
