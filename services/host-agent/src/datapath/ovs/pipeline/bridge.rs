// SPDX-License-Identifier: Apache-2.0
//! Rules that a bridge has once, whatever ports there are.

use dvs_schemas::{PrivateVlans, VlanRole};

use super::{ANY, Book, Wired, exactly};
use crate::datapath::ovs::rules::{
    Carried, Control, Neighbour, Reserved, Table, TagType, Then, When,
};
use crate::datapath::ovs::vlans::{Masked, Tag};

/// A tag that says no VLAN, only a priority (IEEE 802.1Q, 9.6).
const PRIORITY_TAG: Masked = Masked {
    value: 0,
    mask: 0xfff,
};

impl Book {
    /// Frames to reserved groups end here, but those of ports that may send
    /// them. The uplink is none of those: they are for the next bridge only.
    pub(super) fn reserved(&mut self, ports: &[&Wired]) {
        let on = vec![Then::Goto(Table::Priority)];
        for reserved in Reserved::ALL {
            let when = vec![When::DestinationIsReserved(reserved)];
            let then = vec![Then::Reserve, Then::Goto(Table::Permit)];
            self.rule(Table::Reserved, 100, when, then);
        }
        self.rule(Table::Reserved, 0, Vec::new(), on.clone());
        for port in ports.iter().filter(|port| port.takes_reserved()) {
            let when = vec![When::InPort(port.ofport)];
            self.rule(Table::Permit, 100, when, on.clone());
        }
        // With an address list, too: these carry no network address.
        for control in Control::ALL {
            let when = vec![When::Reserved, When::Carries(Carried::Control(control))];
            let then = vec![Then::Goto(Table::Learn)];
            self.rule(Table::Addresses, 150, when, then);
        }
        let when = vec![When::Carries(Carried::Eapol)];
        let then = vec![Then::Goto(Table::Learn)];
        self.rule(Table::Addresses, 100, when, then);
    }

    /// Tags, whatever ports there are. What is beneath a tag is seen once that
    /// is off: as a tag, or, by a switch that looks at one tag alone
    /// (`vlan-limit`), as the type of what the frame carries.
    pub(super) fn tags(&mut self) {
        let classify = vec![Then::Goto(Table::Classify)];
        let when = vec![When::Tagged(PRIORITY_TAG)];
        let then = vec![Then::PopTag, Then::Goto(Table::Beneath)];
        self.rule(Table::Priority, 100, when, then);
        self.rule(Table::Priority, 0, Vec::new(), classify.clone());
        let another = vec![When::Tagged(ANY)];
        self.rule(Table::Beneath, 100, another.clone(), Vec::new());
        self.rule(Table::Beneath, 0, Vec::new(), classify);
        self.rule(Table::Addresses, 200, another.clone(), Vec::new());
        self.rule(Table::Bare, 100, another, Vec::new());
        for kind in TagType::ALL {
            let carries = When::Carries(Carried::Tag(kind));
            // Also a tag in an envelope of IEEE 802.2 (SNAP).
            let when = vec![When::Untagged, carries];
            self.rule(Table::Classify, 200, when, Vec::new());
            self.rule(Table::Addresses, 200, vec![carries], Vec::new());
            self.rule(Table::Bare, 100, vec![carries], Vec::new());
        }
        let bare = Then::Goto(Table::Bare);
        let when = vec![When::Vlan(exactly(0))];
        self.rule(Table::Leave, 100, when, vec![bare]);
        let [copies, deliver] = leave(Tag::On);
        let then = vec![copies, deliver, Then::PopTag, bare];
        self.rule(Table::Leave, 50, vec![When::Tagged(ANY)], then.clone());
        let then = [Then::PushTag].into_iter().chain(then).collect();
        self.rule(Table::Leave, 0, Vec::new(), then);
        let then = leave(Tag::Off).to_vec();
        self.rule(Table::Bare, 0, Vec::new(), then);
    }

    /// Where frames to groups go.
    pub(super) fn groups(&mut self) {
        let group = vec![When::SourceIsGroup];
        self.rule(Table::Classify, 200, group, Vec::new());
        for tag in [Tag::On, Tag::Off] {
            let (copies, deliver) = (Table::Copies(tag), Table::Deliver(tag));
            // Who sees everything gets these as everybody does.
            for when in [When::Reserved, When::DestinationIsGroup] {
                self.rule(copies, 100, vec![when], Vec::new());
            }
            let local = vec![Then::Goto(Table::Local(tag))];
            self.rule(deliver, 110, vec![When::Reserved], local);
            let flood = vec![Then::Goto(Table::Flood(tag))];
            self.rule(deliver, 100, vec![When::DestinationIsGroup], flood);
            let unknown = vec![Then::Goto(Table::Unknown(tag))];
            self.rule(deliver, 40, vec![When::Out(0)], unknown);
        }
    }

    /// What ARP, RARP and neighbour discovery say of MAC addresses, for the
    /// ports that must keep to theirs.
    pub(super) fn claims(&mut self) {
        let claimed = Then::Goto(Table::Claimed);
        let learn = vec![Then::Goto(Table::Learn)];
        for carried in [Carried::AnyArp, Carried::AnyRarp] {
            let when = vec![When::Carries(carried)];
            let then = vec![Then::ClaimOfArp, claimed];
            self.rule(Table::Claims, 100, when, then);
        }
        for of in [Neighbour::Solicitation, Neighbour::Advertisement] {
            let carries = |carried| vec![When::Carries(carried)];
            let malformed = carries(Carried::NeighbourMalformed(of));
            self.rule(Table::Claims, 120, malformed, Vec::new());
            let without = carries(Carried::NeighbourWithoutMac(of));
            self.rule(Table::Claims, 110, without, learn.clone());
            let then = vec![Then::ClaimOf(of), claimed];
            self.rule(Table::Claims, 100, carries(Carried::Neighbour(of)), then);
        }
        self.rule(Table::Claims, 0, Vec::new(), learn);
    }

    /// Private VLANs have one address table, that of their primary: what was
    /// learnt from an isolated port must be found by a promiscuous one.
    pub(super) fn domains(&mut self, private: &PrivateVlans) {
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
}

/// To those who get the frame with a tag, or without.
pub(super) fn leave(tag: Tag) -> [Then; 2] {
    [Table::Copies(tag), Table::Deliver(tag)].map(Then::Through)
}
