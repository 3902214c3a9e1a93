// SPDX-License-Identifier: Apache-2.0
//! Against a real Open vSwitch: what changes all at once or not at all, what is
//! refused, what is counted and learnt.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod vocabulary;

use std::collections::BTreeSet;

use bench::{BRIDGE, Bench, by_key, meter, open};
use dvs_openflow::{
    Action, ApplyError, Cookies, Fault, Field, Flow, FlowMod, HeldMeter, Learn, Match, MeterId,
    MeterMod, OpenError, Part, Port, PortStats, Reg, Selection, SessionError, Transfer,
};

/// A flow for each number.
fn numbered(number: u32) -> Flow {
    Flow {
        priority: 1,
        fields: Match::any().reg(Reg::R1, number),
        actions: vec![Action::Output(Port::try_from(1).unwrap())],
        ..Flow::default()
    }
}

#[test]
fn a_selection_means_cookies_table_output_and_what_the_match_covers() {
    let name = "a_selection_means_cookies_table_output_and_what_the_match_covers";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    let flow = |table, cookie, port| Flow {
        table,
        cookie,
        fields: Match::any()
            .in_port(Port::try_from(7).unwrap())
            .reg(Reg::R0, cookie as u32),
        actions: vec![Action::Output(Port::try_from(port).unwrap())],
        ..Flow::default()
    };
    let flows = vec![
        flow(0, 0x10, 1),
        flow(0, 0x11, 2),
        flow(1, 0x12, 1),
        flow(1, 0x20, 2),
    ];
    bench.replace(&flows).unwrap();
    let selections = [
        (Selection::default(), vec![0, 1, 2, 3]),
        (
            Selection {
                table: Some(1),
                ..Selection::default()
            },
            vec![2, 3],
        ),
        (
            Selection {
                cookies: Cookies::only(0x11),
                ..Selection::default()
            },
            vec![1],
        ),
        (
            Selection {
                cookies: Cookies {
                    value: 0x10,
                    mask: 0xf0,
                },
                ..Selection::default()
            },
            vec![0, 1, 2],
        ),
        (
            Selection {
                out_port: Port::try_from(2).ok(),
                ..Selection::default()
            },
            vec![1, 3],
        ),
        (
            Selection {
                fields: Match::any().reg(Reg::R0, 0x12),
                ..Selection::default()
            },
            vec![2],
        ),
        (
            Selection {
                fields: Match::any().reg(Reg::R9, 1),
                ..Selection::default()
            },
            vec![],
        ),
    ];
    for (selection, places) in selections {
        let these: Vec<_> = places.iter().map(|place| flows[*place].clone()).collect();
        let held = bench
            .run(async |session| session.flows(&selection).await)
            .unwrap();
        let held = by_key(held.into_iter().map(|held| held.flow));
        assert_eq!(held, by_key(these.clone()), "{selection}");
        let delete = [FlowMod::DeleteAll(selection.clone())];
        bench
            .run(async |session| session.apply(&delete).await)
            .unwrap();
        let rest = flows.iter().filter(|flow| !these.contains(flow)).cloned();
        assert_eq!(bench.flows(), by_key(rest), "{selection}");
        bench.replace(&flows).unwrap();
    }
}

#[test]
fn a_flow_that_is_refused_keeps_all_of_its_bundle_away() {
    let name = "a_flow_that_is_refused_keeps_all_of_its_bundle_away";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    let before = vec![numbered(1_000_000)];
    bench.replace(&before).unwrap();
    // One can't be read, which shows as it comes; the other names no meter,
    // which shows when the bundle is carried out.
    let unreadable = Flow {
        fields: Match::any().ip_proto(17),
        ..numbered(0)
    };
    let no_meter = Flow {
        actions: vec![Action::Meter(MeterId::try_from(99).unwrap())],
        ..numbered(0)
    };
    let nowhere = Flow {
        goto: Some(3),
        table: 7,
        ..numbered(0)
    };
    let refusals = [
        (unreadable, Fault::Standard { kind: 4, code: 9 }),
        (no_meter, Fault::Standard { kind: 12, code: 2 }),
        (nowhere, Fault::Standard { kind: 3, code: 2 }),
    ];
    for (bad, fault) in refusals {
        for place in [0, 500, 999] {
            let mut changes: Vec<_> = (0..999).map(|n| FlowMod::Add(numbered(n))).collect();
            changes.insert(place, FlowMod::Add(bad.clone()));
            changes.insert(0, FlowMod::DeleteAll(Selection::default()));
            let refused = bench
                .run(async |session| session.apply(&changes).await)
                .unwrap_err();
            let ApplyError::Refused { change, refusal } = &refused else {
                panic!("{refused:?}");
            };
            assert_eq!((change, refusal.fault), (&format!("add {bad}"), fault));
            assert_eq!(refused.to_string(), format!("add {bad}: {fault}"));
            assert_eq!(bench.flows(), before);
        }
    }
    // The session is as good as before.
    let after = vec![numbered(1), numbered(2)];
    bench.replace(&after).unwrap();
    assert_eq!(bench.flows(), after);
}

#[test]
fn a_flow_that_fits_no_message_is_refused_before_anything_is_sent() {
    let name = "a_flow_that_fits_no_message_is_refused_before_anything_is_sent";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    let long = |actions: usize| Flow {
        actions: vec![Action::OutputReg(Reg::R0); actions],
        ..numbered(0)
    };
    // 24 bytes each; all else of the message has less than 200.
    let fits = (65_535 - 200) / 24;
    bench.replace(&[long(fits)]).unwrap();
    assert_eq!(bench.flows(), [long(fits)]);
    let refused = bench.replace(&[numbered(1), long(fits + 10)]).unwrap_err();
    let ApplyError::TooLong(change) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(change, FlowMod::Add(long(fits + 10)).to_string());
    assert_eq!(bench.flows(), [long(fits)]);
}

#[test]
fn ten_thousand_flows_change_in_one_bundle() {
    let Some(bench) = Bench::start("ten_thousand_flows_change_in_one_bundle") else {
        return;
    };
    let flows = by_key((0..10_000).map(numbered));
    bench.replace(&flows).unwrap();
    assert_eq!(bench.flows(), flows);
    // As many refusals don't get in the way of what is still to be written.
    let bad: Vec<_> = (0..10_000)
        .map(|number| {
            FlowMod::Add(Flow {
                table: 255,
                ..numbered(number)
            })
        })
        .collect();
    let refused = bench
        .run(async |session| session.apply(&bad).await)
        .unwrap_err();
    let ApplyError::Refused { change, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(change, bad[0].to_string());
    assert_eq!(bench.flows(), flows);
}

#[test]
fn a_meter_that_is_refused_is_named_and_the_others_are_made() {
    let name = "a_meter_that_is_refused_is_named_and_the_others_are_made";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    let changes = [
        MeterMod::Add(meter(1)),
        MeterMod::Add(meter(1)),
        MeterMod::Modify(meter(9)),
        MeterMod::Add(meter(2)),
        MeterMod::Delete(meter(8).id),
    ];
    let refused = bench
        .run(async |session| session.change_meters(&changes).await)
        .unwrap_err();
    let exists = Fault::Standard { kind: 12, code: 1 };
    assert_eq!(refused.to_string(), format!("{}: {exists}", changes[1]));
    assert_eq!(bench.meters(), [meter(1), meter(2)].map(HeldMeter::Known));
    // A flow goes with the meter that it names.
    let limited = Flow {
        actions: vec![Action::Meter(meter(2).id)],
        ..numbered(1)
    };
    bench.replace(&[limited, numbered(2)]).unwrap();
    let gone = [MeterMod::Delete(meter(2).id)];
    bench
        .run(async |session| session.change_meters(&gone).await)
        .unwrap();
    assert_eq!(bench.flows(), [numbered(2)]);
}

#[test]
fn what_the_switch_learns_is_read_as_a_flow() {
    let Some(bench) = Bench::start("what_the_switch_learns_is_read_as_a_flow") else {
        return;
    };
    let source = Field::EthSrc;
    let to = Field::EthDst;
    let same = |from, to| Transfer::new(from, to).unwrap();
    let domain = Field::Reg(Reg::R1);
    let out = Field::Reg(Reg::R2);
    let learn = Learn {
        table: 9,
        priority: 100,
        cookie: 0x77,
        idle_timeout: 300,
        parts: vec![
            Part::Match(same(domain, domain)),
            Part::Match(same(source, to)),
            Part::Load(same(Field::InPort, out)),
        ],
        ..Learn::default()
    };
    let flow = Flow {
        actions: vec![
            Action::set_reg(Reg::R1, 5).unwrap(),
            Action::Learn(Box::new(learn)),
        ],
        ..Flow::default()
    };
    bench.replace(&[flow]).unwrap();
    let frame = "in_port=LOCAL,dl_src=02:00:00:00:00:99,dl_dst=02:00:00:00:00:01,dl_type=0x1234";
    bench
        .ovs
        .appctl(&["ofproto/trace", BRIDGE, frame, "-generate"])
        .unwrap();
    let learnt = Flow {
        table: 9,
        priority: 100,
        cookie: 0x77,
        idle_timeout: 300,
        fields: Match::any().eth_dst([2, 0, 0, 0, 0, 0x99]).reg(Reg::R1, 5),
        actions: vec![Action::set_reg(Reg::R2, Port::LOCAL.number()).unwrap()],
        ..Flow::default()
    };
    let these = Selection {
        cookies: Cookies::only(0x77),
        ..Selection::default()
    };
    let held = bench
        .run(async |session| session.flows(&these).await)
        .unwrap();
    assert_eq!(by_key(held.into_iter().map(|held| held.flow)), [learnt]);
}

#[test]
fn counters_are_those_of_the_ports_that_are_there() {
    let name = "counters_are_those_of_the_ports_that_are_there";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    bench.add_port("tap0", 5);
    let five = Port::try_from(5).unwrap();
    let all = bench
        .run(async |session| session.port_stats(None).await)
        .unwrap();
    let ports: BTreeSet<Port> = all.iter().map(|stats| stats.port).collect();
    assert_eq!(ports, BTreeSet::from([five, Port::LOCAL]));
    let one = bench
        .run(async |session| session.port_stats(Some(five)).await)
        .unwrap();
    let counts = |stats: &PortStats| (stats.port, stats.rx_packets.is_some());
    assert_eq!(one.iter().map(counts).collect::<Vec<_>>(), [(five, true)]);
    bench.ovs.vsctl(&["del-port", "tap0"]).unwrap();
    let gone = bench.run(async |session| session.port_stats(Some(five)).await);
    assert_eq!(gone.unwrap(), []);
}

#[test]
fn a_bridge_that_does_not_speak_this_version_says_so() {
    let name = "a_bridge_that_does_not_speak_this_version_says_so";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    bench
        .ovs
        .vsctl(&["set", "bridge", BRIDGE, "protocols=OpenFlow10,OpenFlow13"])
        .unwrap();
    let refused = bench.runtime.block_on(open(&bench.ovs)).unwrap_err();
    let OpenError::Refused(refusal) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.fault, Fault::INCOMPATIBLE);
    assert!(refused.to_string().contains("OpenFlow15"), "{refused}");
}

#[test]
fn a_switch_that_goes_away_ends_the_session() {
    let Some(mut bench) = Bench::start("a_switch_that_goes_away_ends_the_session") else {
        return;
    };
    bench.ovs.kill_vswitchd().unwrap();
    let end = bench.run(async |session| session.ended().await);
    assert!(
        matches!(end, SessionError::Closed | SessionError::Io(_)),
        "{end:?}"
    );
    let call = bench.run(async |session| session.flows(&Selection::default()).await);
    assert!(
        matches!(call, Err(SessionError::Closed | SessionError::Io(_))),
        "{call:?}"
    );
    let open = bench.runtime.block_on(open(&bench.ovs));
    assert!(matches!(open, Err(OpenError::Connect { .. })), "{open:?}");
}

#[test]
fn a_register_names_ports_by_16_bits() {
    let Some(bench) = Bench::start("a_register_names_ports_by_16_bits") else {
        return;
    };
    bench.add_port("tap0", 5);
    let local = Port::LOCAL.number();
    for (number, goes) in [
        (0, false),
        (5, false),
        (local & 0xffff, true),
        (local, false),
    ] {
        let flow = Flow {
            actions: vec![
                Action::set_reg(Reg::R2, number).unwrap(),
                Action::OutputReg(Reg::R2),
            ],
            ..Flow::default()
        };
        bench.replace(&[flow]).unwrap();
        let frame = "in_port=5,dl_type=0x1234";
        let trace = bench.ovs.appctl(&["ofproto/trace", BRIDGE, frame]).unwrap();
        assert_eq!(
            !trace.contains("Datapath actions: drop"),
            goes,
            "{number}: {trace}"
        );
    }
}

#[test]
fn what_somebody_else_changes_of_watched_flows_is_told_and_what_the_watcher_does_is_not() {
    let name = "what_somebody_else_changes_of_watched_flows_is_told";
    let Some(bench) = Bench::start(name) else {
        return;
    };
    let theirs = Cookies {
        value: 0x70,
        mask: 0xf0,
    };
    bench
        .run(async |session| session.watch(theirs).await)
        .unwrap();
    let told = || {
        bench.run(async |session| {
            // What an answer follows has come before it.
            session.flows(&Selection::default()).await.unwrap();
            let moment = std::time::Duration::ZERO;
            let changed = tokio::time::timeout(moment, session.told()).await;
            changed.is_ok()
        })
    };
    bench.replace(&[numbered(1), numbered(2)]).unwrap();
    bench.replace(&[numbered(2)]).unwrap();
    assert!(!told(), "by its own change");
    let (flow, other) = ("priority=1,reg1=2", "priority=1,reg1=3");
    for (command, flow) in [
        ("add-flow", format!("{other},actions=drop")),
        ("mod-flows", format!("{other},actions=output:3")),
        ("--strict del-flows", other.to_owned()),
        ("add-flow", format!("{flow},actions=drop")),
        ("del-flows", String::new()),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let (command, options) = words.split_last().unwrap();
        let flow = Some(flow.as_str()).filter(|flow| !flow.is_empty());
        let more: Vec<&str> = flow.into_iter().chain(options.iter().copied()).collect();
        bench.ovs.ofctl(command, BRIDGE, &more).unwrap();
        assert!(told(), "{command} {flow:?}");
        assert!(!told(), "once");
    }
    let unwatched = format!("cookie=0x7f,{other},actions=drop");
    bench.ovs.ofctl("add-flow", BRIDGE, &[&unwatched]).unwrap();
    assert!(!told());
}
