// SPDX-License-Identifier: Apache-2.0
//! From the ports of a bridge to its rules. Pure: the same ports give the same
//! rules, and a change of the ports is a difference of two sets of rules.

#[cfg(test)]
mod frames;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use dvs_schemas::{AddressList, MacAddr, PrivateVlans, Verdict, VlanRole};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rules::{Carried, Icmpv6, OfPort, Rule, Table, Then, When};
use super::vlans::{self, LAST, Masked, Segment, Span, Tag, Vid};
use crate::merge::{EffectivePolicy, EffectiveVlan};

/// A DVPort whose vNIC is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wired {
    /// Its number in the bridge; never 0.
    pub(super) ofport: OfPort,
    /// The configured address of its vNIC, if that is known.
    pub(super) mac: Option<MacAddr>,
    pub(super) policy: EffectivePolicy,
    /// Meters that what it sends passes, one after the other.
    pub(super) meters: Vec<u32>,
}

/// What a bridge forwards between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ports: Vec<Wired>,
    /// The way to other hosts, which carries every VLAN with its tag.
    pub(super) uplink: Option<OfPort>,
    pub(super) private: PrivateVlans,
    /// VLANs of copies that mirror sessions make, and where they enter.
    pub(super) copies: BTreeMap<Vid, Option<OfPort>>,
}

/// Most actions of one rule. A message of OpenFlow ends at 65,535 bytes, and
/// an output takes 16; longer lists go in pieces.
const PIECE: usize = 1_500;

/// Every VLAN.
const ANY: Masked = Masked { value: 0, mask: 0 };

/// A tag that says no VLAN, only a priority (IEEE 802.1Q, 9.6).
const PRIORITY_TAG: Masked = Masked {
    value: 0,
    mask: 0xfff,
};

impl Wired {
    /// True if its frames pass at all. A rule that needs the configured
    /// address of the vNIC can't let anything pass without it.
    fn forwards(&self) -> bool {
        !self.policy.blocked && (self.mac.is_some() || !self.needs_mac())
    }

    /// True if its policy says something about its configured address.
    pub(super) fn needs_mac(&self) -> bool {
        self.policy.forged_transmits == Verdict::Reject
            || self.policy.mac_changes == Verdict::Reject
    }

    /// The address that it must keep to when it sends.
    fn must_send_from(&self) -> Option<MacAddr> {
        match self.policy.forged_transmits {
            Verdict::Accept => None,
            Verdict::Reject => self.mac,
        }
    }

    /// The address that it must keep to when it receives.
    fn must_receive_as(&self) -> Option<MacAddr> {
        match self.policy.mac_changes {
            Verdict::Accept => None,
            Verdict::Reject => self.mac,
        }
    }

    fn sees_everything(&self) -> bool {
        self.policy.promiscuous == Verdict::Accept
    }

    /// The VLAN in whose address table its configured address stands, if that
    /// is one. A port may be in a VLAN that others use as a private one.
    fn domain(&self, private: &PrivateVlans) -> Option<Vid> {
        match &self.policy.vlan {
            EffectiveVlan::Untagged => Some(0),
            EffectiveVlan::Access(vlan) => {
                let primary = private.role_of(*vlan).map(|(_, primary)| primary);
                Some(primary.unwrap_or(*vlan).get())
            }
            EffectiveVlan::Private { primary, .. } => Some(primary.get()),
            EffectiveVlan::Trunk(_) => None,
        }
    }
}

/// All rules of a bridge.
pub(super) fn rules(layout: &Layout) -> BTreeSet<Rule> {
    let mut book = Book::default();
    let ports: Vec<&Wired> = layout.ports.iter().filter(|port| port.forwards()).collect();
    for table in [Table::Copies, Table::Deliver] {
        let then = match table {
            Table::Deliver => vec![Then::Goto(Table::Flood)],
            _ => Vec::new(),
        };
        book.rule(table, 100, vec![When::DestinationIsGroup], then);
    }
    let on = Then::Goto(Table::Classify);
    let when = vec![When::Tagged(PRIORITY_TAG)];
    book.rule(Table::Priority, 100, when, vec![Then::PopTag, on]);
    book.rule(Table::Priority, 0, Vec::new(), vec![on]);
    book.rule(Table::Classify, 200, vec![When::SourceIsGroup], Vec::new());
    book.domains(&layout.private);
    for port in &ports {
        book.entry(port);
        book.source(port);
        book.learning(port, &layout.private);
        book.delivery(port, &layout.private);
    }
    if let Some(uplink) = layout.uplink {
        book.uplink(uplink);
    }
    book.copies(&layout.copies);
    book.lists(&ports, layout);
    book.rules
}

#[derive(Debug, Default)]
struct Book {
    rules: BTreeSet<Rule>,
}

impl Book {
    fn rule(&mut self, table: Table, priority: u16, when: Vec<When>, then: Vec<Then>) {
        self.rules.insert(Rule {
            table,
            priority,
            when,
            then,
        });
    }

    /// Private VLANs have one address table, that of their primary: what was
    /// learnt from an isolated port must be found by a promiscuous one.
    fn domains(&mut self, private: &PrivateVlans) {
        let then = vec![Then::DomainOfVlan, Then::Goto(Table::Source)];
        self.rule(Table::Domain, 0, Vec::new(), then);
        for (vlan, role, primary) in private.roles() {
            match role {
                VlanRole::Promiscuous => {}
                VlanRole::Isolated | VlanRole::Community => self.rule(
                    Table::Domain,
                    10,
                    vec![When::Vlan(exactly(vlan.get()))],
                    vec![Then::SetDomain(primary.get()), Then::Goto(Table::Source)],
                ),
            }
        }
    }

    /// What a port may send, by its tags.
    fn entry(&mut self, port: &Wired) {
        let from = When::InPort(port.ofport);
        let metered = |then: &[Then]| -> Vec<Then> {
            let first = port.meters.first().copied().map(Then::Meter);
            first.into_iter().chain(then.iter().copied()).collect()
        };
        let untagged = vec![from, When::Untagged];
        let on = Then::Goto(Table::Domain);
        if let Some(vid) = vlans::only(&port.policy.vlan) {
            let [ask, look] = asks(port);
            let then = metered(&[ask, look, Then::VlanOfMember, on]);
            self.rule(Table::Classify, 100, untagged, then);
            let when = vec![When::Asked(port.ofport)];
            self.rule(Table::Own, 50, when, vec![Then::SetMember(vid)]);
        } else if let Some(vid) = vlans::sends_untagged(&port.policy.vlan) {
            let then = metered(&[Then::SetVlan(vid), on]);
            self.rule(Table::Classify, 100, untagged, then);
        }
        for masked in masks(vlans::sends_tagged(&port.policy.vlan)) {
            let then = metered(&[Then::VlanOfTag, Then::PopTag, on]);
            let when = vec![from, When::Tagged(masked)];
            self.rule(Table::Classify, 100, when, then);
        }
    }

    /// Copies of mirror sessions go to all of their VLAN: whom they are of and
    /// for is elsewhere, and nothing is learnt of them.
    fn copies(&mut self, copies: &BTreeMap<Vid, Option<OfPort>>) {
        for (vid, enter) in copies {
            let vlan = When::Vlan(exactly(*vid));
            self.rule(
                Table::Learn,
                200,
                vec![vlan],
                vec![Then::Goto(Table::Flood)],
            );
            if let Some(port) = enter {
                let then = vec![Then::SetVlan(*vid), Then::Goto(Table::Flood)];
                self.rule(Table::Classify, 150, vec![When::InPort(*port)], then);
            }
        }
    }

    fn uplink(&mut self, uplink: OfPort) {
        let from = When::InPort(uplink);
        let on = Then::Goto(Table::Domain);
        let when = vec![from, When::Untagged];
        let then = vec![Then::SetVlan(0), on];
        self.rule(Table::Classify, 100, when, then);
        let when = vec![from, When::Tagged(ANY)];
        let then = vec![Then::VlanOfTag, Then::PopTag, on];
        self.rule(Table::Classify, 90, when, then);
        // Other hosts have judged what comes from there.
        let then = vec![Then::Goto(Table::Learn)];
        self.rule(Table::Source, 100, vec![from], then);
        self.rule(Table::Learn, 100, vec![from], onward(true));
        let out = When::Out(uplink);
        let when = vec![out, When::Vlan(exactly(0))];
        self.rule(Table::Deliver, 60, when, vec![Then::Output(uplink)]);
        let then = vec![Then::PushTag, Then::Output(uplink)];
        self.rule(Table::Deliver, 50, vec![out], then);
    }

    fn source(&mut self, port: &Wired) {
        let from = When::InPort(port.ofport);
        let meter = port.meters.get(1).copied().map(Then::Meter);
        let next = match &port.policy.allowed_addresses {
            AddressList::Any => Table::Learn,
            AddressList::Only(_) => Table::Addresses,
        };
        let then = meter.into_iter().chain([Then::Goto(next)]).collect();
        let own = port.must_send_from().map(When::Source);
        let when = [from].into_iter().chain(own).collect();
        self.rule(Table::Source, 100, when, then);
        match &port.policy.allowed_addresses {
            AddressList::Any => {}
            AddressList::Only(nets) => self.addresses(port, nets),
        }
    }

    /// Of IPv4, ARP, IPv6 and neighbour discovery only what claims an allowed
    /// address or none; nothing else passes.
    fn addresses(&mut self, port: &Wired, nets: &[IpNet]) {
        let mut allow = |priority: u16, carried: Carried| {
            let when = vec![When::InPort(port.ofport), When::Carries(carried)];
            let then = vec![Then::Goto(Table::Learn)];
            self.rule(Table::Addresses, priority, when, then);
        };
        let (mut v4, mut v6): (Vec<Ipv4Net>, Vec<Ipv6Net>) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push(*net),
                IpNet::V6(net) => v6.push(*net),
            }
        }
        for net in &v4 {
            allow(100, Carried::Ipv4(*net));
            allow(100, Carried::Arp(*net, port.must_send_from()));
            allow(90, Carried::ArpProbe(*net));
        }
        if !v4.is_empty() {
            allow(100, Carried::DhcpClient);
        }
        if v6.is_empty() {
            return;
        }
        // Without its link-local address a host can't discover neighbours.
        v6.extend(port.mac.map(link_local));
        for net in &v6 {
            allow(100, Carried::Ipv6(*net));
            allow(120, Carried::AdvertisementOf(*net));
            allow(100, Carried::DuplicateCheck(*net));
        }
        allow(100, Carried::Ipv6Unspecified(Icmpv6::RouterSolicitation));
        allow(100, Carried::Ipv6Unspecified(Icmpv6::ListenerReport));
        // An allowed source does not make another's address its own.
        let from = When::InPort(port.ofport);
        let when = vec![from, When::Carries(Carried::Advertisement)];
        self.rule(Table::Addresses, 110, when, Vec::new());
    }

    fn learning(&mut self, port: &Wired, private: &PrivateVlans) {
        let from = When::InPort(port.ofport);
        match port.must_receive_as() {
            None => self.rule(Table::Learn, 100, vec![from], onward(true)),
            Some(mac) => {
                let when = vec![from, When::Source(mac)];
                self.rule(Table::Learn, 110, when, onward(true));
                self.rule(Table::Learn, 100, vec![from], onward(false));
            }
        }
        let Some(mac) = port.mac else {
            return;
        };
        let (to, then) = (When::Destination(mac), vec![Then::SetOut(port.ofport)]);
        if let Some(domain) = port.domain(private) {
            let when = vec![When::Domain(domain), to];
            self.rule(Table::Lookup, 200, when, then);
            return;
        }
        // A trunk is there in each VLAN that it carries, unless a port that is
        // in that VLAN alone has the same address.
        for (span, _) in vlans::receives(&port.policy.vlan, private) {
            for masked in span.masks() {
                let when = vec![When::Vlan(masked), to];
                self.rule(Table::Lookup, 190, when, then.clone());
            }
        }
    }

    /// To the port alone; one that sees everything has its copy already.
    fn delivery(&mut self, port: &Wired, private: &PrivateVlans) {
        if port.sees_everything() {
            return;
        }
        let own = port.must_receive_as().map(When::Destination);
        let to = |when: Option<When>| {
            let when = [Some(When::Out(port.ofport)), when, own];
            when.into_iter().flatten().collect()
        };
        if let Some(vid) = vlans::only(&port.policy.vlan) {
            let [ask, look] = asks(port);
            let then = vec![ask, look, Then::Goto(Table::Member)];
            self.rule(Table::Deliver, 50, to(None), then);
            let when = vec![When::Vlan(exactly(vid)), When::Member(vid)];
            self.rule(Table::Member, 50, when, vec![Then::OutputThere]);
            return;
        }
        for (span, tag) in vlans::receives(&port.policy.vlan, private) {
            for masked in span.masks() {
                let when = to(Some(When::Vlan(masked)));
                let push = match tag {
                    Tag::Off => None,
                    Tag::On => Some(Then::PushTag),
                };
                let out = Then::Output(port.ofport);
                let then = push.into_iter().chain([out]).collect();
                self.rule(Table::Deliver, 50, when, then);
            }
        }
    }

    /// Lists of ports by VLAN.
    fn lists(&mut self, ports: &[&Wired], layout: &Layout) {
        let receives = |port: &Wired| vlans::receives(&port.policy.vlan, &layout.private);
        let uplink = layout.uplink.map(|uplink| {
            let tagged = Span {
                first: 1,
                last: LAST,
            };
            (uplink, vec![(Span::only(0), Tag::Off), (tagged, Tag::On)])
        });
        let of = |wanted: &dyn Fn(&Wired) -> bool| -> Vec<(OfPort, Vec<(Span, Tag)>)> {
            let ports = ports.iter().filter(|port| wanted(port));
            ports.map(|port| (port.ofport, receives(port))).collect()
        };
        let mut everybody = of(&|_| true);
        everybody.extend(uplink.clone());
        self.list(Table::Flood, &everybody);
        self.list(Table::Copies, &of(&Wired::sees_everything));
        // Who has a known address is found there, and is not behind an unknown
        // one.
        let mut maybe = of(&|port| port.mac.is_none() && !port.sees_everything());
        maybe.extend(uplink);
        self.list(Table::Unknown, &maybe);
        let then = vec![Then::Goto(Table::Unknown)];
        self.rule(Table::Deliver, 40, vec![When::Out(0)], then);
    }

    fn list(&mut self, table: Table, members: &[(OfPort, Vec<(Span, Tag)>)]) {
        for Segment { span, members } in vlans::segments(members) {
            let out = |tag: Tag| {
                let with = members.iter().filter(move |(_, of)| *of == tag);
                with.map(|(port, _)| Then::Output(*port))
            };
            let mut then: Vec<Then> = out(Tag::Off).collect();
            if out(Tag::On).next().is_some() {
                then.push(Then::PushTag);
                then.extend(out(Tag::On));
                // The frame is looked at again after its copies.
                then.push(Then::PopTag);
            }
            for masked in span.masks() {
                self.pieces(table, masked, &then);
            }
        }
    }

    fn pieces(&mut self, table: Table, masked: Masked, then: &[Then]) {
        let pieces = then.chunks(PIECE);
        let last = pieces.len().saturating_sub(1);
        for (number, piece) in (0_u32..).zip(pieces) {
            let when = vec![When::Vlan(masked), When::Piece(number)];
            let mut then = piece.to_vec();
            if usize::try_from(number).is_ok_and(|number| number < last) {
                then.extend([Then::SetPiece(number + 1), Then::Through(table)]);
            } else if number > 0 {
                then.push(Then::SetPiece(0));
            }
            self.rule(table, 50, when, then);
        }
    }
}

/// Looks up the VLAN of a port that is in one alone.
fn asks(port: &Wired) -> [Then; 2] {
    [Then::SetAsked(port.ofport), Then::Through(Table::Own)]
}

/// What follows once a frame may pass.
fn onward(learns: bool) -> Vec<Then> {
    let learn = learns.then_some(Then::Learn);
    let on = [Table::Lookup, Table::Copies, Table::Deliver].map(Then::Through);
    learn.into_iter().chain(on).collect()
}

fn exactly(vid: Vid) -> Masked {
    Masked {
        value: vid,
        mask: 0xfff,
    }
}

fn masks(spans: Vec<Span>) -> impl Iterator<Item = Masked> {
    spans.into_iter().flat_map(Span::masks)
}

/// The link-local address that a host makes of its MAC address (RFC 4291,
/// appendix A).
fn link_local(mac: MacAddr) -> Ipv6Net {
    let [a, b, c, d, e, f] = mac.octets();
    let octets = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    Ipv6Net::from(std::net::Ipv6Addr::from(octets))
}
