// SPDX-License-Identifier: Apache-2.0
//! What a port with an address list may send.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Book, Wired};
use crate::datapath::ovs::rules::{Carried, Icmpv6, Neighbour, Table, Then, When};

/// Link-local addresses (RFC 4291, 2.5.6).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

impl Book {
    /// Of IPv4, ARP, IPv6 and neighbour discovery only what claims an allowed
    /// address or none, and of all else what can't carry an address.
    pub(super) fn addresses(&mut self, port: &Wired, nets: &[IpNet]) {
        let then = vec![Then::Goto(port.after_addresses())];
        let mut allow = |priority: u16, carried: Carried| {
            let when = vec![When::InPort(port.ofport), When::Carries(carried)];
            self.rule(Table::Addresses, priority, when, then.clone());
        };
        let (mut v4, mut v6): (Vec<Ipv4Net>, Vec<Ipv6Net>) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push(*net),
                IpNet::V6(net) => v6.push(*net),
            }
        }
        allow(100, Carried::Rarp);
        for net in &v4 {
            allow(100, Carried::Ipv4(*net));
            allow(100, Carried::Arp(*net));
            allow(90, Carried::ArpProbe(*net));
        }
        if !v4.is_empty() {
            allow(100, Carried::DhcpClient);
            allow(100, Carried::IgmpUnspecified);
        }
        if v6.is_empty() {
            return;
        }
        // A host can't do without a link-local address, and chooses it by
        // itself (RFC 7217), unless the list says which it may have.
        if !v6.iter().any(|net| LINK_LOCAL.contains(net)) {
            v6.push(LINK_LOCAL);
        }
        for net in &v6 {
            allow(100, Carried::Ipv6(*net));
            allow(120, Carried::AdvertisementOf(*net));
            allow(100, Carried::DuplicateCheck(*net));
        }
        for message in [
            Icmpv6::RouterSolicitation,
            Icmpv6::ListenerReportV1,
            Icmpv6::ListenerReport,
        ] {
            allow(100, Carried::Ipv6Unspecified(message));
        }
        // An allowed source does not make another's address its own.
        let advertisement = Carried::Neighbour(Neighbour::Advertisement);
        let from = When::InPort(port.ofport);
        let when = vec![from, When::Carries(advertisement)];
        self.rule(Table::Addresses, 110, when, Vec::new());
    }
}
