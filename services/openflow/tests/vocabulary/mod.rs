// SPDX-License-Identifier: Apache-2.0
//! Flows as the host agent makes them, in any combination that a switch takes.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use dvs_openflow::{
    Action, Constant, Field, FieldValue, Flow, FlowKey, Learn, Learnt, Masked, Match, Meter,
    MeterId, Part, Port, Reg, Subfield, Transfer, Vlan, VlanType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Meters that flows may name: a switch refuses flows that name none of its.
pub const METERS: u32 = 4;

/// Flows that differ in what makes them this flow.
pub fn flows(most: usize) -> impl Strategy<Value = Vec<Flow>> {
    vec(flow(), 1..=most).prop_map(|flows| {
        let flows: BTreeMap<FlowKey, Flow> =
            flows.into_iter().map(|flow| (flow.key(), flow)).collect();
        flows.into_values().collect()
    })
}

pub fn flow() -> impl Strategy<Value = Flow> {
    let fixed = (0..253_u8, any::<u16>(), cookie(), timeout(), timeout());
    (fixed, fields()).prop_flat_map(|(fixed, fields)| {
        let (table, priority, cookie, idle_timeout, hard_timeout) = fixed;
        let goto = option::of(table + 1..=253);
        (actions(tags(&fields)), goto).prop_map(move |(actions, goto)| Flow {
            table,
            priority,
            fields: fields.clone(),
            cookie,
            idle_timeout,
            hard_timeout,
            actions,
            goto,
            others: Vec::new(),
        })
    })
}

/// Long enough that no flow ends while a test looks at it.
fn timeout() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 600..=u16::MAX]
}

/// Cookies with this bit are those of learnt flows. When a flow goes whose
/// learnt flows go with it, so does everything with that cookie, and nothing
/// of what a test put there is to go.
const LEARNT: u64 = 1 << 63;

fn cookie() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 0..LEARNT]
}

pub fn port() -> impl Strategy<Value = Port> {
    let number = (1..=0xfeff_u32).prop_map(|number| Port::try_from(number).unwrap());
    prop_oneof![4 => number, 1 => Just(Port::LOCAL)]
}

pub fn reg() -> impl Strategy<Value = Reg> {
    select(Reg::ALL.as_slice())
}

fn masked32() -> impl Strategy<Value = Masked<u32>> {
    prop_oneof![
        any::<u32>().prop_map(Masked::from),
        (any::<u32>(), any::<u32>()).prop_map(|(value, mask)| Masked { value, mask }),
        // Nothing under the mask.
        any::<u32>().prop_map(|value| Masked { value, mask: 0 }),
    ]
}

fn masked16() -> impl Strategy<Value = Masked<u16>> {
    prop_oneof![
        any::<u16>().prop_map(Masked::from),
        (any::<u16>(), any::<u16>()).prop_map(|(value, mask)| Masked { value, mask }),
    ]
}

fn mac() -> impl Strategy<Value = Masked<[u8; 6]>> {
    let group = [1, 0, 0, 0, 0, 0];
    let bit = |value| Masked { value, mask: group };
    prop_oneof![
        any::<[u8; 6]>().prop_map(Masked::from),
        (any::<[u8; 6]>(), any::<[u8; 6]>()).prop_map(|(value, mask)| Masked { value, mask }),
        Just(bit(group)),
        Just(bit([0; 6])),
    ]
}

fn ipv4() -> impl Strategy<Value = Masked<Ipv4Addr>> {
    (any::<u32>(), 0..=32_u32).prop_map(|(address, prefix)| Masked {
        value: Ipv4Addr::from(address),
        mask: Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix).unwrap_or(0)),
    })
}

fn ipv6() -> impl Strategy<Value = Masked<Ipv6Addr>> {
    (any::<u128>(), 0..=128_u32).prop_map(|(address, prefix)| Masked {
        value: Ipv6Addr::from(address),
        mask: Ipv6Addr::from(u128::MAX.checked_shl(128 - prefix).unwrap_or(0)),
    })
}

fn vlan() -> impl Strategy<Value = Vlan> {
    prop_oneof![Just(Vlan::Untagged), masked16().prop_map(Vlan::Tagged)]
}

/// Maybe narrows a match by a value.
fn maybe<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
    narrow: fn(Match, T) -> Match,
) -> BoxedStrategy<Match> {
    let none = Just(Match::any());
    let some = value.prop_map(move |value| narrow(Match::any(), value));
    prop_oneof![none, some].boxed()
}

fn all(parts: Vec<BoxedStrategy<Match>>) -> impl Strategy<Value = Match> {
    parts.prop_map(|parts| {
        let fields = parts.into_iter().flat_map(|part| part.fields().to_vec());
        fields.fold(Match::any(), Match::with)
    })
}

/// What a switch takes: fields of a protocol come with what says that it is
/// that protocol.
pub fn fields() -> impl Strategy<Value = Match> {
    let regs = vec((reg(), masked32()), 0..4).prop_map(|regs| {
        let narrow = |fields: Match, (reg, value)| fields.reg(reg, value);
        regs.into_iter().fold(Match::any(), narrow)
    });
    all(vec![
        maybe(port(), Match::in_port),
        maybe(mac(), Match::eth_src),
        maybe(mac(), Match::eth_dst),
        maybe(vlan(), Match::vlan),
        maybe((any::<u64>(), any::<u64>()), |fields, (value, mask)| {
            fields.metadata(Masked { value, mask })
        }),
        regs.boxed(),
        prop_oneof![
            Just(Match::any()).boxed(),
            arp(),
            over_ipv4(),
            over_ipv6(),
            other()
        ]
        .boxed(),
    ])
}

fn other() -> BoxedStrategy<Match> {
    (0x0600..=u16::MAX)
        .prop_map(|number| Match::any().eth_type(number))
        .boxed()
}

fn is(fields: Match) -> BoxedStrategy<Match> {
    Just(fields).boxed()
}

fn arp() -> BoxedStrategy<Match> {
    all(vec![
        is(Match::any().eth_type(0x0806)),
        maybe(any::<u8>(), Match::arp_op),
        maybe(ipv4(), Match::arp_spa),
        maybe(ipv4(), Match::arp_tpa),
        maybe(mac(), Match::arp_sha),
        maybe(mac(), Match::arp_tha),
    ])
    .boxed()
}

fn over_ip() -> BoxedStrategy<Match> {
    let udp = all(vec![
        is(Match::any().ip_proto(17)),
        maybe(masked16(), Match::udp_src),
        maybe(masked16(), Match::udp_dst),
    ]);
    let tcp = all(vec![
        is(Match::any().ip_proto(6)),
        maybe(masked16(), Match::tcp_src),
        maybe(masked16(), Match::tcp_dst),
    ]);
    prop_oneof![maybe(any::<u8>(), Match::ip_proto), udp, tcp].boxed()
}

fn over_ipv4() -> BoxedStrategy<Match> {
    all(vec![
        is(Match::any().eth_type(0x0800)),
        maybe(ipv4(), Match::ipv4_src),
        maybe(ipv4(), Match::ipv4_dst),
        over_ip(),
    ])
    .boxed()
}

fn over_ipv6() -> BoxedStrategy<Match> {
    let icmp = |kind: u8| is(Match::any().ip_proto(58).icmpv6_type(kind));
    let code_0 = || is(Match::any().icmpv6_code(0));
    let message = all(vec![
        is(Match::any().ip_proto(58)),
        maybe(any::<u8>(), Match::icmpv6_type),
        maybe(any::<u8>(), Match::icmpv6_code),
    ]);
    let solicitation = all(vec![
        icmp(135),
        code_0(),
        maybe(ipv6(), Match::nd_target),
        maybe(mac(), Match::nd_sll),
    ]);
    let advertisement = all(vec![
        icmp(136),
        code_0(),
        maybe(ipv6(), Match::nd_target),
        maybe(mac(), Match::nd_tll),
    ]);
    all(vec![
        is(Match::any().eth_type(0x86dd)),
        maybe(ipv6(), Match::ipv6_src),
        maybe(ipv6(), Match::ipv6_dst),
        prop_oneof![
            over_ip(),
            message.boxed(),
            solicitation.boxed(),
            advertisement.boxed()
        ]
        .boxed(),
    ])
    .boxed()
}

/// Tags that frames of a match have for sure.
fn tags(fields: &Match) -> usize {
    let vlan = fields
        .fields()
        .iter()
        .find(|value| value.field() == Field::VlanVid);
    usize::from(vlan.is_some_and(|value| value.value() & 0x1000 != 0))
}

/// How many tags Open vSwitch looks at.
const MOST_TAGS: usize = 2;

fn actions(tags: usize) -> impl Strategy<Value = Vec<Action>> {
    vec(step(), 0..8).prop_map(move |steps| {
        // What has to do with a tag is only there while there is one.
        let mut tags = tags;
        let mut actions = Vec::new();
        for step in steps {
            match step {
                Step::Plain(action) => actions.push(action),
                Step::Push(kind) if tags < MOST_TAGS => {
                    tags += 1;
                    actions.push(Action::PushVlan(kind));
                }
                Step::Pop if tags > 0 => {
                    tags -= 1;
                    actions.push(Action::PopVlan);
                }
                Step::OfTag(action) if tags > 0 => actions.push(action),
                Step::Push(_) | Step::Pop | Step::OfTag(_) => {}
            }
        }
        actions
    })
}

#[derive(Debug, Clone)]
enum Step {
    Plain(Action),
    Push(VlanType),
    Pop,
    OfTag(Action),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = select([VlanType::Customer, VlanType::Service].as_slice());
    prop_oneof![
        10 => plain().prop_map(Step::Plain),
        2 => kind.prop_map(Step::Push),
        2 => Just(Step::Pop),
        3 => of_tag().prop_map(Step::OfTag),
    ]
}

fn bits_of(reg: Reg, offset: u16, bits: u16) -> Subfield {
    Subfield::new(Field::Reg(reg), offset, bits).unwrap()
}

fn copy(from: impl Into<Subfield>, to: impl Into<Subfield>) -> Action {
    Action::Copy(Transfer::new(from, to).unwrap())
}

fn of_tag() -> impl Strategy<Value = Action> {
    let vid = Subfield::new(Field::VlanVid, 0, 12).unwrap();
    prop_oneof![
        any::<u16>().prop_map(|vid| Action::set_vlan(vid).unwrap()),
        (reg(), 0..=20_u16).prop_map(move |(reg, at)| copy(vid, bits_of(reg, at, 12))),
        (reg(), 0..=20_u16).prop_map(move |(reg, at)| copy(bits_of(reg, at, 12), vid)),
        (reg(), 0..=29_u16).prop_map(|(reg, at)| copy(Field::VlanPcp, bits_of(reg, at, 3))),
        (reg(), 0..=29_u16).prop_map(|(reg, at)| copy(bits_of(reg, at, 3), Field::VlanPcp)),
    ]
}

fn meter_id() -> impl Strategy<Value = MeterId> {
    (1..=METERS).prop_map(|number| MeterId::try_from(number).unwrap())
}

fn plain() -> impl Strategy<Value = Action> {
    prop_oneof![
        flat(),
        vec(flat(), 0..3).prop_map(Action::Clone),
        learn().prop_map(|learn| Action::Learn(Box::new(learn))),
    ]
}

fn flat() -> impl Strategy<Value = Action> {
    let out = prop_oneof![
        4 => port(),
        1 => select([Port::IN_PORT, Port::NORMAL, Port::FLOOD, Port::ALL].as_slice()),
    ];
    let set = prop_oneof![
        3 => (reg(), masked32()).prop_filter_map("something is set", |(reg, value)| {
            Action::set_reg(reg, value)
        }),
        1 => (select([Field::EthSrc, Field::EthDst].as_slice()), any::<u64>(), any::<u64>())
            .prop_filter_map("something is set", |(field, value, mask)| {
                let (value, mask) = (u128::from(value), u128::from(mask));
                FieldValue::new(field, value & field.ones(), mask & field.ones()).map(Action::Set)
            }),
    ];
    let bits = (1..=32_u16).prop_flat_map(|bits| (Just(bits), 0..=32 - bits, 0..=32 - bits));
    let between = (reg(), reg(), bits).prop_filter_map(
        "bits are copied to others",
        |(from, to, (bits, at, there))| {
            (from != to).then(|| copy(bits_of(from, at, bits), bits_of(to, there, bits)))
        },
    );
    let at = prop_oneof![port(), Just(Port::IN_PORT)];
    prop_oneof![
        out.prop_map(Action::Output),
        reg().prop_map(Action::OutputReg),
        set,
        between,
        reg().prop_map(|reg| copy(Field::InPort, Field::Reg(reg))),
        (at, 0..=253_u8).prop_map(|(port, table)| Action::Resubmit { port, table }),
        port().prop_map(|port| Action::Resubmit { port, table: 255 }),
        meter_id().prop_map(Action::Meter),
    ]
}

pub fn learn() -> impl Strategy<Value = Learn> {
    let fixed = (
        0..=253_u8,
        any::<u16>(),
        cookie(),
        any::<u16>(),
        any::<u16>(),
    );
    let learnt = select([Learnt::Stays, Learnt::Goes].as_slice());
    let limit = option::of((1..=u32::MAX).prop_map(|limit| NonZeroU32::new(limit).unwrap()));
    (fixed, learnt, limit, vec(part(), 0..6)).prop_map(|(fixed, learnt, limit, parts)| {
        let (table, priority, cookie, idle_timeout, hard_timeout) = fixed;
        Learn {
            table,
            priority,
            cookie: cookie | LEARNT,
            idle_timeout,
            hard_timeout,
            learnt,
            limit,
            parts,
        }
    })
}

fn part() -> impl Strategy<Value = Part> {
    let some = (reg(), 1..=32_u16)
        .prop_flat_map(|(reg, bits)| (Just(reg), Just(bits), 0..=32 - bits))
        .prop_map(|(reg, bits, at)| bits_of(reg, at, bits))
        .boxed();
    let constant = (some.clone(), any::<u32>()).prop_map(|(to, value)| {
        let value = u128::from(value) & (u128::MAX >> (128 - u32::from(to.bits())));
        Constant::new(to, value).unwrap()
    });
    let constant = constant.boxed();
    let same = some
        .clone()
        .prop_map(|bits| Transfer::new(bits, bits).unwrap());
    let between = (some.clone(), reg())
        .prop_map(|(from, reg)| Transfer::new(from, bits_of(reg, 0, from.bits())).unwrap());
    prop_oneof![
        same.prop_map(Part::Match),
        Just(Part::Match(
            Transfer::new(Field::EthSrc, Field::EthDst).unwrap()
        )),
        constant.clone().prop_map(Part::MatchConstant),
        reg().prop_map(|reg| Part::Load(Transfer::new(Field::InPort, Field::Reg(reg)).unwrap())),
        between.prop_map(Part::Load),
        constant.prop_map(Part::LoadConstant),
        reg().prop_map(|reg| Part::Output(Field::Reg(reg).into())),
    ]
}

pub fn meter() -> impl Strategy<Value = Meter> {
    let id = (1..=METERS * 4).prop_map(|number| MeterId::try_from(number).unwrap());
    (id, 1..=u32::MAX, any::<u32>()).prop_map(|(id, rate_kbps, burst_kbits)| Meter {
        id,
        rate_kbps,
        burst_kbits,
    })
}
