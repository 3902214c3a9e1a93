// SPDX-License-Identifier: Apache-2.0
//! From the ports of a bridge to its rules. Pure: the same ports give the same
//! rules, and a change of the ports is a difference of two sets of rules.

mod addresses;
mod bridge;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use dvs_schemas::{AddressList, MacAddr, PrivateVlans, Verdict};

use super::config::Learning;
use super::rules::{OfPort, Rule, Table, Then, When};
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
    /// Interfaces of machines that wait for their ports, with their addresses,
    /// if those are known.
    pub(super) waiting: Vec<(OfPort, Option<MacAddr>)>,
    pub(super) private: PrivateVlans,
    /// VLANs of copies that mirror sessions make, and where they enter.
    pub(super) copies: BTreeMap<Vid, Option<OfPort>>,
    /// How many addresses it learns.
    pub(super) learning: Learning,
}

/// Most actions of one rule. A message of OpenFlow ends at 65,535 bytes, and
/// an output takes 16; longer lists go in pieces.
const PIECE: usize = 1_500;

/// Priority of what tells that a machine speaks. One more has what keeps it
/// from being told again.
pub(super) const REPORTS: u16 = 80;

/// Every VLAN.
const ANY: Masked = Masked { value: 0, mask: 0 };

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

    /// True if it may be where an address is that nobody knows. One that keeps
    /// to a known address is found there alone; one that sees everything has its
    /// copy already.
    fn may_have_others(&self) -> bool {
        self.must_receive_as().is_none() && !self.sees_everything()
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

    /// True if it may send and receive frames to reserved groups.
    fn takes_reserved(&self) -> bool {
        self.policy.reserved_multicast == Verdict::Accept
    }

    /// Where frames go whose network addresses were looked at.
    fn after_addresses(&self) -> Table {
        match self.policy.forged_transmits {
            Verdict::Accept => Table::Learn,
            Verdict::Reject => Table::Claims,
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
    book.reserved(&ports);
    book.tags();
    book.groups();
    book.claims();
    book.domains(&layout.private);
    for port in &ports {
        book.entry(port);
        book.source(port);
        book.learning(port, layout.learning);
        book.delivery(port, &layout.private);
    }
    for port in &layout.ports {
        book.known(port, &layout.private);
    }
    if let Some(uplink) = layout.uplink {
        book.uplink(uplink, layout.learning);
    }
    book.copies(&layout.copies);
    for (waiting, mac) in &layout.waiting {
        book.report(*waiting, *mac);
    }
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
            let then = match &port.policy.allowed_addresses {
                AddressList::Any => metered(&[Then::VlanOfTag, on]),
                // What it carries is looked at, which a tag may hide.
                AddressList::Only(_) => metered(&[Then::VlanOfTag, Then::PopTag, on]),
            };
            let when = vec![from, When::Tagged(masked)];
            self.rule(Table::Classify, 100, when, then);
        }
    }

    /// Copies of mirror sessions go to all of their VLAN as they are: whom they
    /// are of and for is elsewhere, and nothing is learnt of them.
    fn copies(&mut self, copies: &BTreeMap<Vid, Option<OfPort>>) {
        let on = Then::Goto(Table::Leave);
        for (vid, enter) in copies {
            let vlan = vec![When::Vlan(exactly(*vid))];
            self.rule(Table::Learn, 200, vlan.clone(), vec![on]);
            // What is beneath the tag of their VLAN is the copy's own.
            let bare = bridge::leave(Tag::Off).to_vec();
            self.rule(Table::Bare, 110, vlan.clone(), bare);
            for tag in [Tag::On, Tag::Off] {
                self.rule(Table::Copies(tag), 120, vlan.clone(), Vec::new());
                let flood = vec![Then::Goto(Table::Flood(tag))];
                self.rule(Table::Deliver(tag), 120, vlan.clone(), flood);
            }
            if let Some(port) = enter {
                let then = vec![Then::SetVlan(*vid), Then::PushTag, on];
                self.rule(Table::Reserved, 200, vec![When::InPort(*port)], then);
            }
        }
    }

    /// Nothing passes of a machine that waits for its port, but that it speaks is
    /// told. Below all that a port's own rules say, should it have some by now.
    fn report(&mut self, waiting: OfPort, mac: Option<MacAddr>) {
        let when = [When::InPort(waiting)].into_iter();
        let when = when.chain(mac.map(When::Source)).collect();
        self.rule(Table::Classify, REPORTS, when, vec![Then::Report]);
    }

    fn uplink(&mut self, uplink: OfPort, learning: Learning) {
        let from = When::InPort(uplink);
        let on = Then::Goto(Table::Domain);
        let when = vec![from, When::Untagged];
        let then = vec![Then::SetVlan(0), on];
        self.rule(Table::Classify, 100, when, then);
        let when = vec![from, When::Tagged(ANY)];
        let then = vec![Then::VlanOfTag, on];
        self.rule(Table::Classify, 90, when, then);
        // Other hosts have judged what comes from there.
        let then = vec![Then::Goto(Table::Learn)];
        self.rule(Table::Source, 100, vec![from], then);
        let then = onward(Some(learning.per_uplink));
        self.rule(Table::Learn, 100, vec![from], then);
        let (out, output) = (When::Out(uplink), Then::Output(uplink));
        self.rule(Table::Deliver(Tag::On), 50, vec![out], vec![output]);
        let untagged = vec![out, When::Vlan(exactly(0))];
        self.rule(Table::Deliver(Tag::Off), 50, untagged, vec![output]);
    }

    fn source(&mut self, port: &Wired) {
        let from = When::InPort(port.ofport);
        let meter = port.meters.get(1).copied().map(Then::Meter);
        let next = match &port.policy.allowed_addresses {
            AddressList::Any => port.after_addresses(),
            AddressList::Only(_) => Table::Addresses,
        };
        let then = meter.into_iter().chain([Then::Goto(next)]).collect();
        let own = port.must_send_from();
        let source = own.map(When::Source);
        let when = [from].into_iter().chain(source).collect();
        self.rule(Table::Source, 100, when, then);
        if let Some(mac) = own {
            let when = vec![from, When::Claims(mac)];
            let then = vec![Then::Goto(Table::Learn)];
            self.rule(Table::Claimed, 100, when, then);
        }
        match &port.policy.allowed_addresses {
            AddressList::Any => {}
            AddressList::Only(nets) => self.addresses(port, nets),
        }
    }

    fn learning(&mut self, port: &Wired, learning: Learning) {
        let from = When::InPort(port.ofport);
        let learns = Some(learning.per_port);
        match port.must_receive_as() {
            None => self.rule(Table::Learn, 100, vec![from], onward(learns)),
            Some(mac) => {
                let when = vec![from, When::Source(mac)];
                self.rule(Table::Learn, 110, when, onward(learns));
                self.rule(Table::Learn, 100, vec![from], onward(None));
            }
        }
    }

    /// Where the configured address of a port is. That of one that passes
    /// nothing is known, too, or what is for it would go to everybody; but
    /// another port with the same address comes first.
    fn known(&mut self, port: &Wired, private: &PrivateVlans) {
        let Some(mac) = port.mac else {
            return;
        };
        let (alone, among) = if port.forwards() {
            (200, 190)
        } else {
            (180, 170)
        };
        let (to, then) = (When::Destination(mac), vec![Then::SetOut(port.ofport)]);
        if let Some(domain) = port.domain(private) {
            let when = vec![When::Domain(domain), to];
            self.rule(Table::Lookup, alone, when, then);
            return;
        }
        // A trunk is there in each VLAN that it carries, unless a port that is
        // in that VLAN alone has the same address.
        for (span, _) in vlans::receives(&port.policy.vlan, private) {
            for masked in span.masks() {
                let when = vec![When::Vlan(masked), to];
                self.rule(Table::Lookup, among, when, then.clone());
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
            self.rule(Table::Deliver(Tag::Off), 50, to(None), then);
            let when = vec![When::Vlan(exactly(vid)), When::Member(vid)];
            self.rule(Table::Member, 50, when, vec![Then::OutputThere]);
            return;
        }
        for (span, tag) in vlans::receives(&port.policy.vlan, private) {
            for masked in span.masks() {
                let when = to(Some(When::Vlan(masked)));
                let then = vec![Then::Output(port.ofport)];
                self.rule(Table::Deliver(tag), 50, when, then);
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
        let mut maybe = of(&Wired::may_have_others);
        maybe.extend(uplink);
        let watching = of(&Wired::sees_everything);
        let local = of(&Wired::takes_reserved);
        for tag in [Tag::On, Tag::Off] {
            self.list(Table::Flood(tag), tag, &everybody);
            self.list(Table::Copies(tag), tag, &watching);
            self.list(Table::Unknown(tag), tag, &maybe);
            self.list(Table::Local(tag), tag, &local);
        }
    }

    /// Those of some ports that get frames with a tag, or without.
    fn list(&mut self, table: Table, tag: Tag, ports: &[(OfPort, Vec<(Span, Tag)>)]) {
        let ports: Vec<(OfPort, Vec<(Span, Tag)>)> = ports
            .iter()
            .map(|(port, spans)| {
                let spans = spans.iter().filter(|(_, of)| *of == tag);
                (*port, spans.copied().collect())
            })
            .collect();
        for Segment { span, members } in vlans::segments(&ports) {
            let outputs = members.iter().map(|(port, _)| Then::Output(*port));
            let then: Vec<Then> = outputs.collect();
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

/// What follows once a frame may pass, with so many addresses to be learnt from
/// its port.
fn onward(learns: Option<NonZeroU32>) -> Vec<Then> {
    let learn = learns.map(Then::Learn);
    let on = [Then::Through(Table::Lookup), Then::Goto(Table::Leave)];
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
