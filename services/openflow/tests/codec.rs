// SPDX-License-Identifier: Apache-2.0
//! Messages as bytes: what is written is read the same, whatever is read can
//! be written, and no bytes are too odd to be refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod vocabulary;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dvs_openflow::{
    Action, Answer, Body, BundleStep, Cookies, Fault, Flow, FlowChange, FlowMod, FlowStats,
    FlowUpdate, HeldMeter, Malformed, Match, Message, MeterFeatures, MeterId, MeterMod, PacketIn,
    PacketOut, Port, PortStats, Question, Refusal, Selection,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn data(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
}

fn selection() -> impl Strategy<Value = Selection> {
    let cookies = any::<(u64, u64)>().prop_map(|(value, mask)| Cookies { value, mask });
    let table = option::of(0..=254_u8);
    (
        table,
        cookies,
        option::of(vocabulary::port()),
        vocabulary::fields(),
    )
        .prop_map(|(table, cookies, out_port, fields)| Selection {
            table,
            cookies,
            out_port,
            fields,
        })
}

/// A flow, also with parts that this crate has no words for.
fn flow() -> impl Strategy<Value = Flow> {
    // An action and an instruction of somebody else's, by their lengths.
    let foreign = |kind: u16| {
        vec(any::<u8>(), 4).prop_map(move |body| {
            let head = [kind.to_be_bytes(), 8_u16.to_be_bytes()].concat();
            Bytes::from([head, body].concat())
        })
    };
    let (action, other) = (option::of(foreign(22)), option::of(foreign(3)));
    (vocabulary::flow(), action, other).prop_map(|(mut flow, action, other)| {
        flow.actions.extend(action.map(Action::Unknown));
        flow.others.extend(other);
        flow
    })
}

fn flow_update() -> impl Strategy<Value = FlowUpdate> {
    let changes = vec![
        FlowChange::Was,
        FlowChange::Came,
        FlowChange::Went,
        FlowChange::Changed,
    ];
    let foreign = (select(changes), flow()).prop_map(|(change, flow)| FlowUpdate::Foreign {
        change,
        key: flow.key(),
        cookie: flow.cookie,
    });
    prop_oneof![
        4 => foreign,
        1 => any::<u32>().prop_map(FlowUpdate::Own),
        1 => Just(FlowUpdate::Paused),
        1 => Just(FlowUpdate::Resumed),
    ]
}

fn flow_mod() -> impl Strategy<Value = FlowMod> {
    prop_oneof![
        flow().prop_map(FlowMod::Add),
        flow().prop_map(FlowMod::Modify),
        flow().prop_map(|flow| FlowMod::Delete(flow.key())),
        selection().prop_map(FlowMod::DeleteAll),
    ]
}

fn age() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| Duration::new(u64::from(seconds), nanos))
}

fn flow_stats() -> impl Strategy<Value = FlowStats> {
    let counters = (
        option::of(age()),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
    );
    (flow(), counters).prop_map(|(flow, (age, packets, bytes))| FlowStats {
        flow,
        age,
        packets,
        bytes,
    })
}

fn port_stats() -> impl Strategy<Value = PortStats> {
    // All ones say that the port doesn't count that.
    let counters = prop::array::uniform8(option::of(0..u64::MAX));
    (vocabulary::port(), age(), counters).prop_map(|(port, age, counters)| {
        let [
            rx_packets,
            tx_packets,
            rx_bytes,
            tx_bytes,
            rx_dropped,
            tx_dropped,
            rx_errors,
            tx_errors,
        ] = counters;
        PortStats {
            port,
            age,
            rx_packets,
            tx_packets,
            rx_bytes,
            tx_bytes,
            rx_dropped,
            tx_dropped,
            rx_errors,
            tx_errors,
        }
    })
}

fn meter_id() -> impl Strategy<Value = MeterId> {
    (1..=MeterId::LAST).prop_map(|number| MeterId::try_from(number).unwrap())
}

fn held_meter() -> impl Strategy<Value = HeldMeter> {
    prop_oneof![
        vocabulary::meter().prop_map(HeldMeter::Known),
        meter_id().prop_map(HeldMeter::Foreign),
    ]
}

fn meter_mod() -> impl Strategy<Value = MeterMod> {
    prop_oneof![
        vocabulary::meter().prop_map(MeterMod::Add),
        vocabulary::meter().prop_map(MeterMod::Modify),
        meter_id().prop_map(MeterMod::Delete),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let fault = prop_oneof![
        (0..0xffff_u16, any::<u16>()).prop_map(|(kind, code)| Fault::Standard { kind, code }),
        any::<(u32, u16)>().prop_map(|(vendor, code)| Fault::Extension { vendor, code }),
    ];
    (fault, data(80)).prop_map(|(fault, data)| Refusal { fault, data })
}

fn packet_in() -> impl Strategy<Value = PacketIn> {
    let head = any::<(u8, u64, u8, u16)>();
    (head, vocabulary::fields(), data(80)).prop_map(
        |((table, cookie, reason, length), fields, data)| PacketIn {
            table,
            cookie,
            reason,
            length,
            fields,
            data,
        },
    )
}

fn packet_out() -> impl Strategy<Value = PacketOut> {
    (vocabulary::fields(), flow(), data(80)).prop_map(|(fields, flow, data)| PacketOut {
        fields,
        actions: flow.actions,
        data,
    })
}

fn question() -> impl Strategy<Value = Question> {
    prop_oneof![
        selection().prop_map(Question::Flows),
        option::of(vocabulary::port()).prop_map(Question::PortStats),
        Just(Question::Meters),
        Just(Question::MeterFeatures),
        Just(Question::Watch),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let features = any::<(u32, bool)>().prop_map(|(max_meters, drops_by_bits)| MeterFeatures {
        max_meters,
        drops_by_bits,
    });
    prop_oneof![
        vec(flow_stats(), 0..4).prop_map(Answer::Flows),
        vec(port_stats(), 0..4).prop_map(Answer::PortStats),
        vec(held_meter(), 0..4).prop_map(Answer::Meters),
        features.prop_map(Answer::MeterFeatures),
        vec(flow_update(), 0..4).prop_map(Answer::Updates),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    use BundleStep::{Commit, Committed, Discard, Discarded, Open, Opened};
    let steps = [Open, Opened, Commit, Committed, Discard, Discarded];
    // Kinds that this crate has no words for: port status, barrier.
    let others = [12, 20, 21, 255];
    prop_oneof![
        Just(Body::Hello),
        refusal().prop_map(Body::Error),
        data(80).prop_map(Body::EchoRequest),
        data(80).prop_map(Body::EchoReply),
        Just(Body::FeaturesRequest),
        any::<u64>().prop_map(Body::FeaturesReply),
        any::<u16>().prop_map(Body::SetConfig),
        packet_in().prop_map(Body::PacketIn),
        packet_out().prop_map(Body::PacketOut),
        flow_mod().prop_map(Body::FlowMod),
        meter_mod().prop_map(Body::MeterMod),
        question().prop_map(Body::Question),
        (answer(), any::<bool>()).prop_map(|(answer, more)| Body::Answer { answer, more }),
        (any::<u32>(), select(steps.to_vec()))
            .prop_map(|(bundle, step)| Body::Bundle(bundle, step)),
        (any::<u32>(), flow_mod()).prop_map(|(bundle, change)| Body::BundleAdd(bundle, change)),
        select(others.to_vec()).prop_map(Body::Other),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u32>(), body()).prop_map(|(xid, body)| Message { xid, body })
}

fn encode(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    assert!(message.encode(&mut bytes), "{message:?}");
    bytes
}

/// Puts right what the header says of the length.
fn with_length(mut bytes: Vec<u8>) -> BytesMut {
    let length = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    BytesMut::from(bytes.as_slice())
}

/// Whatever is understood of some bytes is written so that it is understood
/// the same. Of other kinds only the kind is kept.
fn check_what_is_read(mut bytes: BytesMut) -> Result<(), TestCaseError> {
    let read = Message::decode(&mut bytes).ok().flatten();
    if let Some(read) = read.filter(|read| !matches!(read.body, Body::Other(_))) {
        let again = Message::decode(&mut encode(&read));
        prop_assert_eq!(again, Ok(Some(read)));
    }
    Ok(())
}

/// Found by the property below: which of the two was meant, nobody knows.
#[test]
fn a_flow_that_goes_to_two_tables_is_refused() {
    let flow = Flow {
        goto: Some(1),
        others: vec![Bytes::from_static(&[0, 1, 0, 8, 2, 0, 0, 0])],
        ..Flow::default()
    };
    let message = Message {
        xid: 1,
        body: Body::BundleAdd(1, FlowMod::Add(flow)),
    };
    let read = Message::decode(&mut encode(&message));
    assert_eq!(
        read.unwrap_err().to_string(),
        "second table to go to is 0x1, which has no meaning"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_the_same(message in message()) {
        let mut bytes = encode(&message);
        let read = Message::decode(&mut bytes);
        prop_assert_eq!((read, bytes.len()), (Ok(Some(message)), 0));
    }

    #[test]
    fn messages_come_in_pieces_of_any_size(
        messages in vec(message(), 1..6), sizes in vec(1..200_usize, 1..20),
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            stream.extend_from_slice(&encode(message));
        }
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for size in sizes.into_iter().cycle() {
            if stream.is_empty() {
                break;
            }
            buffer.unsplit(stream.split_to(size.min(stream.len())));
            while let Some(message) = Message::decode(&mut buffer).unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!((read, buffer.len()), (messages, 0));
    }

    #[test]
    fn damaged_messages_are_refused_or_mean_something(
        message in message(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&message).to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check_what_is_read(with_length(bytes))?;
    }

    #[test]
    fn cut_messages_are_refused_or_mean_something(
        message in message(), end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&message).to_vec();
        bytes.truncate(8 + end.index(bytes.len() - 7));
        check_what_is_read(with_length(bytes))?;
    }

    #[test]
    fn any_bytes_are_refused_or_mean_something(kind in 0..40_u8, body in vec(any::<u8>(), 0..300)) {
        let head = vec![6, kind, 0, 0, 0, 0, 0, 1];
        check_what_is_read(with_length([head, body].concat()))?;
    }
}

#[test]
fn what_is_no_openflow_is_named() {
    let read =
        |bytes: &[u8]| Message::decode(&mut BytesMut::from(bytes)).map_err(|e| e.to_string());
    let error = |words: &str| Err(words.to_owned());
    assert_eq!(
        read(&[4, 6, 0, 8, 0, 0, 0, 1]),
        error("message is 0x4, which has no meaning")
    );
    assert_eq!(
        read(&[6, 6, 0, 7, 0, 0, 0, 1]),
        error("message says that it has 7 bytes")
    );
    assert_eq!(
        read(&[6, 6, 0, 9, 0, 0, 0, 1, 0]),
        error("message ends too early")
    );
    // The flow of a description says that it is longer than the description.
    let mut flows = vec![6, 19, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 40];
    flows.resize(48, 0);
    let error = Malformed::Length {
        what: "flow",
        length: 40,
    };
    assert_eq!(Message::decode(&mut with_length(flows)), Err(error));
}

#[test]
fn a_hello_of_a_later_version_is_read() {
    let mut hello = BytesMut::from([7_u8, 0, 0, 8, 0, 0, 0, 9].as_slice());
    let message = Message {
        xid: 9,
        body: Body::Hello,
    };
    assert_eq!(Message::decode(&mut hello), Ok(Some(message)));
}

#[test]
fn what_is_too_long_for_a_message_is_not_written() {
    let mut out = BytesMut::from("before".as_bytes());
    let echo = |length| Message {
        xid: 1,
        body: Body::EchoRequest(Bytes::from(vec![0; length])),
    };
    assert!(!echo(65_528).encode(&mut out));
    assert_eq!(out, "before");
    assert!(echo(65_527).encode(&mut out));
    assert_eq!(out.len(), 6 + 65_535);
}

#[test]
fn clones_within_clones_end() {
    // As deep as a message can be: each is an action of 16 bytes that holds
    // the next.
    let mut clone = Vec::new();
    while clone.len() + 16 < 65_000 {
        let length = u16::try_from(clone.len() + 16).unwrap().to_be_bytes();
        let head = [
            0xff, 0xff, length[0], length[1], 0, 0, 0x23, 0x20, 0, 42, 0, 0, 0, 0, 0, 0,
        ];
        clone.splice(0..0, head);
    }
    let flow = Flow {
        actions: vec![Action::Unknown(Bytes::from(clone))],
        fields: Match::any().in_port(Port::LOCAL),
        ..Flow::default()
    };
    let message = Message {
        xid: 1,
        body: Body::FlowMod(FlowMod::Add(flow)),
    };
    let bytes = encode(&message);
    let read = Message::decode(&mut bytes.clone()).unwrap().unwrap();
    assert_ne!(read, message);
    assert_eq!(encode(&read), bytes);
}

/// OpenFlow 1.5.1, 7.3.9.2: both flags, or a frame may meet half a bundle. Open
/// vSwitch does as if they were always there, so only the bytes show it.
#[test]
fn bundles_are_atomic_and_ordered() {
    let message = Message {
        xid: 3,
        body: Body::Bundle(9, BundleStep::Commit),
    };
    let bytes = [6, 33, 0, 16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 4, 0, 3];
    assert_eq!(encode(&message), bytes.as_slice());
}
