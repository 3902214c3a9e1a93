// SPDX-License-Identifier: Apache-2.0
//! The rules against the policies themselves: whatever ports there are, a frame
//! comes out where the policies say, as they say, and nowhere else.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dvs_schemas::{AddressList, Policy, Verdict, VlanRole, arbitrary};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::frames::{
    Frame, Octets, Output, Payload, Switch, Tags, address, first, is_group, learn, payload, tagged,
};
use super::*;
use crate::datapath::ovs::rules::{Neighbour, Reserved, TagType};
use crate::merge::merge;

const UPLINK: OfPort = 100;

/// So few that a test comes to the end of them.
const FEW: Learning = Learning {
    per_port: NonZeroU32::new(2).unwrap(),
    per_uplink: NonZeroU32::new(3).unwrap(),
};

fn mac(number: u8) -> MacAddr {
    format!("52:54:00:00:00:{number:02x}").parse().unwrap()
}

fn private_vlans() -> PrivateVlans {
    serde_json::from_str(r#"[{"primary": 10, "isolated": 11, "communities": [12, 13]}]"#).unwrap()
}

/// VLANs of few numbers, so that ports meet.
fn vlan() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""untagged""#.to_owned()),
        (10..16).prop_map(|vid| format!(r#"{{"access": {vid}}}"#)),
        (10..14).prop_map(|vid| format!(r#"{{"private": {vid}}}"#)),
        (10..13, 0..5, proptest::option::of(9..16)).prop_map(|(first, more, native)| {
            let native = native.map(|native| format!(r#", "native": {native}"#));
            format!(
                r#"{{"trunk": {{"vlans": ["{first}-{}"]{}}}}}"#,
                first + more,
                native.unwrap_or_default()
            )
        }),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Accept), Just(Verdict::Reject)]
}

fn addresses() -> impl Strategy<Value = AddressList> {
    let net = prop_oneof![
        (0..4).prop_map(|n| format!("10.0.0.{n}/32")),
        Just("10.0.0.2/31".to_owned()),
        (0..4).prop_map(|n| format!("fd00::{n}/128")),
        (0..4).prop_map(|n| format!("fe80::{n}/128")),
    ];
    prop_oneof![
        3 => Just(AddressList::Any),
        2 => vec(net, 0..3).prop_map(|nets| {
            let mut nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
            nets.sort();
            nets.dedup();
            AddressList::Only(nets)
        }),
    ]
}

fn policy() -> impl Strategy<Value = EffectivePolicy> {
    let flags = (verdict(), verdict(), verdict(), verdict(), 0..8_u8);
    (vlan(), flags, addresses()).prop_map(|(vlan, flags, allowed_addresses)| {
        let (promiscuous, mac_changes, forged_transmits, reserved_multicast, blocked) = flags;
        let vlan: Policy = serde_json::from_str(&format!(r#"{{"vlan": {vlan}}}"#)).unwrap();
        let nothing = Policy::default();
        EffectivePolicy {
            promiscuous,
            mac_changes,
            forged_transmits,
            reserved_multicast,
            allowed_addresses,
            blocked: blocked == 0,
            ..merge(&vlan, &nothing, &nothing, &private_vlans()).unwrap()
        }
    })
}

fn layout() -> impl Strategy<Value = Layout> {
    let port = (policy(), any::<bool>(), any::<bool>());
    (vec(port, 1..6), any::<bool>()).prop_map(|(ports, uplink)| {
        let wired =
            |(number, (policy, known, metered)): (u8, (EffectivePolicy, bool, bool))| Wired {
                ofport: u32::from(number),
                mac: known.then(|| mac(number)),
                policy,
                meters: if metered { vec![7, 8] } else { Vec::new() },
            };
        Layout {
            ports: (1..).zip(ports).map(wired).collect(),
            uplink: uplink.then_some(UPLINK),
            waiting: Vec::new(),
            private: private_vlans(),
            copies: BTreeMap::new(),
            learning: FEW,
        }
    })
}

fn frame() -> impl Strategy<Value = (usize, Frame)> {
    let tag = prop_oneof![1 => Just(0), 3 => 9..17_u16];
    let kind = prop_oneof![3 => Just(TagType::Customer), 1 => Just(TagType::Service)];
    let one = (kind, tag).boxed();
    let tags = prop_oneof![
        4 => Just([None, None]),
        6 => one.clone().prop_map(|outer| [Some(outer), None]),
        3 => (one.clone(), one).prop_map(|(outer, inner)| [Some(outer), Some(inner)]),
    ];
    let from = prop_oneof![9 => (1..8_u8).prop_map(address), 1 => Just([0xff; 6])];
    let to = prop_oneof![
        3 => (1..8_u8).prop_map(address),
        1 => Just([0xff; 6]),
        1 => Just([0x33, 0x33, 0, 0, 0, 1]),
        1 => select(&Reserved::ALL[..]).prop_map(first),
    ];
    (any::<usize>(), tags, from, to, payload()).prop_map(|(port, tags, from, to, carries)| {
        let frame = Frame {
            tags,
            from,
            to,
            carries,
        };
        (port, frame)
    })
}

/// What the policies say, frame by frame.
struct Judge<'a> {
    layout: &'a Layout,
    /// Tags that the switch looks beneath.
    vlan_limit: usize,
    learnt: BTreeMap<(Vid, Octets), OfPort>,
}

fn is_reserved(frame: Frame) -> bool {
    Reserved::ALL.iter().any(|of| first(*of) == frame.to)
}

impl Judge<'_> {
    fn port(&self, number: OfPort) -> Option<&Wired> {
        self.layout.ports.iter().find(|port| port.ofport == number)
    }

    fn domain(vid: Vid) -> Vid {
        match vid {
            11..=13 => 10,
            other => other,
        }
    }

    /// The VLAN of a frame that may enter.
    fn admits(&self, from: OfPort, frame: Frame) -> Option<Vid> {
        if is_group(frame.from) {
            return None;
        }
        let [outer, inner] = frame.tags;
        let tag = outer.map(|(_, vid)| vid).filter(|vid| *vid != 0);
        if tag.is_none() && inner.is_some() {
            return None;
        }
        let Some(port) = self.port(from) else {
            return (!is_reserved(frame)).then_some(tag.unwrap_or(0));
        };
        if is_reserved(frame) && port.policy.reserved_multicast == Verdict::Reject {
            return None;
        }
        if port.policy.blocked || port.needs_mac() && port.mac.is_none() {
            return None;
        }
        if port.policy.forged_transmits == Verdict::Reject
            && (port.mac.unwrap().octets() != frame.from
                || !self.claims_own(port.mac.unwrap(), frame))
        {
            return None;
        }
        if let AddressList::Only(nets) = &port.policy.allowed_addresses
            && (inner.is_some() || !Self::claims_allowed(nets, frame))
        {
            return None;
        }
        match (&port.policy.vlan, tag) {
            (EffectiveVlan::Untagged, None) => Some(0),
            (EffectiveVlan::Access(vlan) | EffectiveVlan::Private { vlan, .. }, None) => {
                Some(vlan.get())
            }
            (EffectiveVlan::Trunk(trunk), None) => trunk.native.map(|native| native.get()),
            (EffectiveVlan::Trunk(trunk), Some(vid)) => {
                let in_range = |range: &dvs_schemas::VlanRange| {
                    range.first().get() <= vid && vid <= range.last().get()
                };
                trunk.vlans.ranges().iter().any(in_range).then_some(vid)
            }
            (_, Some(_)) => None,
        }
    }

    /// True if the MAC addresses in what a frame carries are its sender's. What
    /// is beneath more tags than the switch looks beneath is nobody's business.
    fn claims_own(&self, own: MacAddr, frame: Frame) -> bool {
        frame.tags.iter().flatten().count() > self.vlan_limit
            || match frame.carries {
                Payload::Arp { at, .. } | Payload::Rarp { at, .. } => at == own.octets(),
                Payload::Discovery(_, _, about, at) => {
                    !about.is_unspecified() && at.is_none_or(|at| at == own.octets())
                }
                Payload::Ipv4(_)
                | Payload::Dhcp
                | Payload::Ipv6(_)
                | Payload::Eapol
                | Payload::Control(_)
                | Payload::Before(_)
                | Payload::Other => true,
            }
    }

    fn claims_allowed(nets: &[IpNet], frame: Frame) -> bool {
        let v4 = |address: Ipv4Addr| nets.iter().any(|net| net.contains(&IpAddr::V4(address)));
        let some_v6 = nets.iter().any(|net| matches!(net, IpNet::V6(_)));
        let is_local = |address: Ipv6Addr| address.segments()[0] == 0xfe80;
        let says_local = nets
            .iter()
            .any(|net| matches!(net, IpNet::V6(net) if is_local(net.addr())));
        let v6 = |address: Ipv6Addr| {
            nets.iter().any(|net| net.contains(&IpAddr::V6(address)))
                || some_v6 && !says_local && is_local(address)
        };
        match frame.carries {
            Payload::Ipv4(from) => v4(from),
            Payload::Dhcp => nets.iter().any(|net| matches!(net, IpNet::V4(_))),
            Payload::Arp { of, asks, .. } => v4(of) || of.is_unspecified() && v4(asks),
            Payload::Rarp { of, .. } => of.is_unspecified(),
            Payload::Ipv6(from) => v6(from),
            Payload::Discovery(Neighbour::Advertisement, _, about, _) => v6(about),
            Payload::Discovery(Neighbour::Solicitation, from, about, _) => {
                v6(from) || from.is_unspecified() && v6(about)
            }
            Payload::Before(_) => some_v6,
            Payload::Eapol => true,
            Payload::Control(_) => is_reserved(frame),
            Payload::Other => false,
        }
    }

    /// How a port sees a frame of a VLAN, if it does.
    fn receives(&self, number: OfPort, vid: Vid) -> Option<Option<Vid>> {
        let Some(port) = self.port(number) else {
            return Some(Some(vid).filter(|vid| *vid != 0));
        };
        if port.policy.blocked || port.needs_mac() && port.mac.is_none() {
            return None;
        }
        Self::sees(port, vid)
    }

    /// How a port that passes frames would see one of a VLAN, if it did.
    fn sees(port: &Wired, vid: Vid) -> Option<Option<Vid>> {
        match &port.policy.vlan {
            EffectiveVlan::Untagged => (vid == 0).then_some(None),
            EffectiveVlan::Access(vlan) => (vid == vlan.get()).then_some(None),
            EffectiveVlan::Private { vlan, role, .. } => match role {
                VlanRole::Promiscuous => (10..=13).contains(&vid).then_some(None),
                VlanRole::Isolated => (vid == 10).then_some(None),
                VlanRole::Community => (vid == 10 || vid == vlan.get()).then_some(None),
            },
            EffectiveVlan::Trunk(trunk) if trunk.native.is_some_and(|n| n.get() == vid) => {
                Some(None)
            }
            EffectiveVlan::Trunk(trunk) => {
                let in_range = |range: &dvs_schemas::VlanRange| {
                    range.first().get() <= vid && vid <= range.last().get()
                };
                let tagged = trunk.vlans.ranges().iter().any(in_range);
                tagged.then_some(Some(vid))
            }
        }
    }

    /// The tags with which a frame comes out where it gets the tag of its VLAN,
    /// or none. A tag that came in stays, but for what an address list looks
    /// behind; another beneath it comes out with it only.
    fn tags(&self, from: OfPort, frame: Frame, tag: Option<Vid>) -> Option<Tags> {
        let [outer, inner] = frame.tags;
        let came = outer.filter(|(_, vid)| *vid != 0);
        let lists = self
            .port(from)
            .is_some_and(|port| port.policy.allowed_addresses != AddressList::Any);
        match (tag, came) {
            (Some(_), Some(_)) if !lists => Some(frame.tags),
            (Some(vid), _) => Some(tagged(vid)),
            (None, _) => inner.is_none().then_some([None, None]),
        }
    }

    fn outputs(&mut self, from: OfPort, frame: Frame) -> Vec<Output> {
        let Some(vid) = self.admits(from, frame) else {
            return Vec::new();
        };
        let domain = Self::domain(vid);
        let keeps = self.port(from).is_none_or(|port| {
            port.policy.mac_changes == Verdict::Accept || port.mac.unwrap().octets() == frame.from
        });
        if keeps {
            let limit = match self.port(from) {
                Some(_) => self.layout.learning.per_port,
                None => self.layout.learning.per_uplink,
            };
            learn(&mut self.learnt, (domain, frame.from), from, limit);
        }
        let is_in = |port: &Wired| match port.policy.vlan {
            EffectiveVlan::Untagged | EffectiveVlan::Access(_) | EffectiveVlan::Private { .. } => {
                port.domain(&self.layout.private) == Some(domain)
            }
            EffectiveVlan::Trunk(_) => Self::sees(port, vid).is_some(),
        };
        let known = self
            .layout
            .ports
            .iter()
            .find(|port| port.mac.is_some_and(|mac| mac.octets() == frame.to) && is_in(port));
        let target = known
            .map(|port| port.ofport)
            .or_else(|| self.learnt.get(&(domain, frame.to)).copied());
        let all = self.layout.ports.iter().map(|port| port.ofport);
        let all = all.chain(self.layout.uplink);
        let gets = |number: &OfPort| {
            let port = self.port(*number);
            if is_reserved(frame) {
                return port.is_some_and(|port| port.policy.reserved_multicast == Verdict::Accept);
            }
            if is_group(frame.to) {
                return true;
            }
            if port.is_some_and(|port| port.policy.promiscuous == Verdict::Accept) {
                return true;
            }
            match target {
                Some(target) if target == *number => port.is_none_or(|port| {
                    port.policy.mac_changes == Verdict::Accept
                        || port.mac.unwrap().octets() == frame.to
                }),
                Some(_) => false,
                None => port.is_none_or(|port| port.policy.mac_changes == Verdict::Accept),
            }
        };
        let mut outputs: Vec<Output> = all
            .filter(|number| *number != from)
            .filter(gets)
            .filter_map(|number| {
                let tag = self.receives(number, vid)?;
                Some((number, self.tags(from, frame, tag)?))
            })
            .collect();
        outputs.sort_unstable();
        outputs
    }
}

use std::net::{IpAddr, Ipv6Addr};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn frames_come_out_where_the_policies_say(
        layout in layout(),
        vlan_limit in 1..3_usize,
        frames in vec(frame(), 1..30),
    ) {
        let mut switch = Switch::new(rules(&layout), vlan_limit);
        let mut judge = Judge { layout: &layout, vlan_limit, learnt: BTreeMap::new() };
        let mut entries: Vec<OfPort> = layout.ports.iter().map(|port| port.ofport).collect();
        entries.extend(layout.uplink);
        for (port, frame) in frames {
            let from = entries[port % entries.len()];
            prop_assert_eq!(
                switch.forward(from, frame),
                judge.outputs(from, frame),
                "{:?} into port {}", frame, from
            );
        }
    }

    /// Also of one that has not sent yet, and whatever VLANs it has.
    #[test]
    fn what_is_for_a_configured_address_comes_out_of_its_port(
        layout in layout(),
        vlan_limit in 1..3_usize,
        frames in vec(frame(), 1..30),
    ) {
        let judge = Judge { layout: &layout, vlan_limit, learnt: BTreeMap::new() };
        for (port, frame) in frames {
            let from = layout.ports[port % layout.ports.len()].ofport;
            let heard = Switch::new(rules(&layout), vlan_limit).forward(from, frame);
            let own = |to: &&Wired| to.mac.is_some_and(|mac| mac.octets() == frame.to);
            let to = layout.ports.iter().filter(own).find(|to| to.ofport != from);
            let vid = judge.admits(from, frame);
            let of = to.zip(vid).and_then(|(to, vid)| {
                let tag = judge.receives(to.ofport, vid)?;
                Some((to.ofport, judge.tags(from, frame, tag)?))
            });
            prop_assert!(of.is_none_or(|of| heard.contains(&of)), "{frame:?} into port {from}");
        }
    }

    #[test]
    fn what_comes_from_a_port_that_nobody_claimed_goes_nowhere(
        layout in layout(),
        (_, frame) in frame(),
    ) {
        let mut switch = Switch::new(rules(&layout), 1);
        prop_assert_eq!(switch.forward(99, frame), Vec::new());
    }

    /// Ports come and go without touching the rules of others, but for lists and
    /// what a VLAN has once.
    #[test]
    fn a_port_that_comes_changes_no_rule_that_is_not_a_list(
        layout in layout(),
        policy in arbitrary::policy(),
    ) {
        let _ = policy;
        let mut fewer = layout.clone();
        let last = fewer.ports.pop().unwrap();
        let (fewer, all) = (rules(&fewer), rules(&layout));
        let is_list = |table| match table {
            Table::Flood(_)
            | Table::Copies(_)
            | Table::Unknown(_)
            | Table::Local(_)
            | Table::Member => true,
            Table::Reserved
            | Table::Permit
            | Table::Priority
            | Table::Beneath
            | Table::Classify
            | Table::Domain
            | Table::Source
            | Table::Addresses
            | Table::Claims
            | Table::Claimed
            | Table::Learn
            | Table::Lookup
            | Table::Leave
            | Table::Bare
            | Table::Deliver(_)
            | Table::Own => false,
        };
        for rule in fewer.symmetric_difference(&all) {
            let own = rule.when.contains(&When::InPort(last.ofport))
                || rule.when.contains(&When::Out(last.ofport))
                || rule.when.contains(&When::Asked(last.ofport))
                || rule.then.contains(&Then::SetOut(last.ofport));
            prop_assert!(own || is_list(rule.table), "{rule:?}");
        }
    }
}

/// Of thousands of ports whose VLAN is another each has one rule that does
/// something else, and none that comes or goes: what that costs is the time
/// that the switch takes.
#[test]
fn another_vlan_changes_one_rule_of_a_port_and_its_match_stays() {
    const PORTS: OfPort = 20;
    let nothing = Policy::default();
    let of = |vid: Vid| {
        let access: Policy =
            serde_json::from_str(&format!(r#"{{"vlan": {{"access": {vid}}}}}"#)).unwrap();
        let policy = merge(&access, &nothing, &nothing, &PrivateVlans::default()).unwrap();
        let wired = |ofport| Wired {
            ofport,
            mac: None,
            policy: policy.clone(),
            meters: Vec::new(),
        };
        let layout = Layout {
            ports: (1..=PORTS).map(wired).collect(),
            uplink: Some(UPLINK),
            waiting: Vec::new(),
            private: PrivateVlans::default(),
            copies: BTreeMap::new(),
            learning: Learning::default(),
        };
        let rules = rules(&layout).into_iter();
        let rules = rules.map(|rule| ((rule.table, rule.priority, rule.when), rule.then));
        rules.collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (of(10), of(20));
    let differing: Vec<Table> = before
        .iter()
        .filter(|(key, then)| after.get(key).is_some_and(|after| after != *then))
        .map(|((table, ..), _)| *table)
        .collect();
    let ports = usize::try_from(PORTS).unwrap();
    assert_eq!(differing, vec![Table::Own; ports]);
    // What else is the VLAN's own: its members, and the lists of them.
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone: BTreeSet<Table> = gone.map(|(table, ..)| *table).collect();
    assert_eq!(
        gone,
        BTreeSet::from([
            Table::Member,
            Table::Flood(Tag::Off),
            Table::Unknown(Tag::Off)
        ])
    );
}

#[test]
fn a_list_too_long_for_a_message_goes_in_pieces() {
    let nothing = Policy::default();
    let access: Policy = serde_json::from_str(r#"{"vlan": {"access": 10}}"#).unwrap();
    let policy = merge(&access, &nothing, &nothing, &PrivateVlans::default()).unwrap();
    let wired = |ofport| Wired {
        ofport,
        mac: None,
        policy: policy.clone(),
        meters: Vec::new(),
    };
    let layout = Layout {
        ports: (1..=4_096).map(wired).collect(),
        uplink: Some(5_000),
        waiting: Vec::new(),
        private: PrivateVlans::default(),
        copies: BTreeMap::new(),
        learning: Learning::default(),
    };
    let rules = rules(&layout);
    assert!(rules.iter().all(|rule| rule.then.len() <= PIECE + 2));
    let frame = Frame {
        tags: [None, None],
        from: address(1),
        to: [0xff; 6],
        carries: Payload::Other,
    };
    let outputs = Switch::new(rules, 1).forward(1, frame);
    let expected: Vec<Output> = (2..=4_096)
        .map(|port| (port, [None, None]))
        .chain([(5_000, tagged(10))])
        .collect();
    assert_eq!(outputs, expected);
}

#[test]
fn of_a_machine_that_waits_nothing_passes_and_its_first_frame_is_reported() {
    let layout = Layout {
        ports: Vec::new(),
        uplink: Some(UPLINK),
        waiting: vec![(7, Some(mac(7))), (8, None)],
        private: PrivateVlans::default(),
        copies: BTreeMap::new(),
        learning: Learning::default(),
    };
    let reports = |port: OfPort, from: u8| -> Vec<OfPort> {
        let mut switch = Switch::new(rules(&layout), 1);
        let frame = Frame {
            tags: [None; 2],
            from: address(from),
            to: [0xff; 6],
            carries: Payload::Other,
        };
        assert_eq!(switch.forward(port, frame), []);
        switch.reported
    };
    assert_eq!(reports(7, 7), [7]);
    assert_eq!(
        reports(7, 6),
        Vec::<OfPort>::new(),
        "not from its own address"
    );
    assert_eq!(reports(8, 6), [8]);
    assert_eq!(
        reports(9, 6),
        Vec::<OfPort>::new(),
        "nobody said that it is a port"
    );
}
