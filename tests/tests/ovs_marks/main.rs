// SPDX-License-Identifier: Apache-2.0
//! Marks in the database that are lost, spoilt or another switch's when the
//! agent starts: nobody is cut off or given away for that.
#![allow(clippy::unwrap_used)]

mod past;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dvs_ovsdb::testing::skipped;
use dvs_schemas::{Direction, MirrorDestination, MirrorPort};
use dvs_tests::fleet::{Fleet, Settings};
use dvs_tests::lan::{
    AgentHost, Frame, Host, Mac, QUICK, Vm, access, id, is_heard, missing, reaches, switch, until,
};
use host_agent::datapath::{Datapath, DriftPolicy, Mirror, Notice, Remembered, Step, Write};
use serde_json::{Value, json};
use tokio::time::timeout;

/// What somebody does to marks, as words for ovs-vsctl: BRIDGE and PORT stand
/// for the bridge and for the port of machine `a`.
const DAMAGES: [&[&str]; 11] = [
    &["remove", "Bridge", "BRIDGE", "external_ids", "dvs-switch"],
    &["remove", "Bridge", "BRIDGE", "external_ids", "dvs-settings"],
    &["clear", "Bridge", "BRIDGE", "external_ids"],
    &[
        "set",
        "Bridge",
        "BRIDGE",
        "external_ids:dvs-switch=\"no name\"",
    ],
    &["set", "Bridge", "BRIDGE", "external_ids:dvs-switch=other"],
    &["set", "Bridge", "BRIDGE", "external_ids:dvs-settings=\"{\""],
    &["remove", "Port", "PORT", "external_ids", "dvs-port"],
    &["remove", "Port", "PORT", "external_ids", "dvs-policy"],
    &["set", "Port", "PORT", "external_ids:dvs-epoch=first"],
    &["set", "Port", "PORT", "external_ids:dvs-policy=\"[]\""],
    &["clear", "Mirror", "m", "external_ids"],
];

/// Words that take all marks off the port of machine `a`.
const UNMARK: &[&str] = &["clear", "Port", "PORT", "external_ids"];

fn damage(host: &Host, words: &[&str], port: &str) {
    let bridge = host.bridge();
    let words = words.iter().map(|word| match *word {
        "BRIDGE" => bridge.as_str(),
        "PORT" => port,
        word => word,
    });
    host.ovs.vsctl(&words.collect::<Vec<_>>()).unwrap();
}

/// All marks, as they stand.
fn marks(host: &Host) -> String {
    let of = |table| {
        host.ovs
            .vsctl(&["--columns=name,external_ids,tag", "list", table])
            .or_else(|_| {
                host.ovs
                    .vsctl(&["--columns=name,external_ids", "list", table])
            })
            .unwrap()
    };
    let rows = ["Bridge", "Port", "Mirror"].map(of).concat();
    let mut rows: Vec<&str> = rows.split("\n\n").collect();
    rows.sort_unstable();
    rows.join("\n\n")
}

/// Marks with what others say of counters.
fn counted_as(marks: &str, others: &str) -> String {
    const KEY: &str = "dvs-counted=";
    let value = |rest: &str| rest.find("\", ").unwrap() + 1;
    let mut counted = others.split(KEY).skip(1);
    let mut parts = marks.split(KEY);
    let mut text = parts.next().unwrap().to_owned();
    for (part, other) in parts.zip(&mut counted) {
        text = [&text, KEY, &other[..value(other)], &part[value(part)..]].concat();
    }
    text
}

/// What is plugged in, and what went, as the datapath tells it.
async fn told(host: &Host) -> (Vec<String>, Vec<String>) {
    let (mut came, mut went) = (Vec::new(), Vec::new());
    // What it has seen by now it has told then.
    host.datapath.read().await.unwrap();
    while let Ok(notice) = timeout(Duration::ZERO, host.datapath.next_notice()).await {
        match notice {
            Notice::Plugged { port, .. } => came.push(port.to_string()),
            Notice::Unplugged { port, .. } => went.push(port.to_string()),
            Notice::Link { .. }
            | Notice::Busy { .. }
            | Notice::Machine { .. }
            | Notice::Conditions { .. }
            | Notice::Drift(_)
            | Notice::Disturbed => {}
        }
    }
    came.sort_unstable();
    (came, went)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_where_marks_are_lost_or_spoilt_cuts_nobody_off() {
    if skipped("an_agent_that_starts_where_marks_are_lost_or_spoilt_cuts_nobody_off") {
        return;
    }
    for named in [true, false] {
        let mut host = Host::with(|_, config, _| {
            if !named {
                config.bridges.clear();
            }
        })
        .await;
        let mut a = host.vm(1, "a", access(10)).await;
        let mut b = host.vm(2, "b", access(10)).await;
        let session = Mirror {
            ports: vec![MirrorPort {
                port: id("a"),
                direction: Direction::Both,
            }],
            vlans: Vec::new(),
            destination: MirrorDestination::Vlan(99.try_into().unwrap()),
        };
        host.mirror("m", session.clone()).await.unwrap();
        let settings = Arc::new(host.settings());
        let wanted = [
            Write::SetBridge {
                from: None,
                to: settings,
            },
            host.set("a", host.spec(access(10), Some(a.mac()))),
            host.set("b", host.spec(access(10), Some(b.mac()))),
            Write::SetMirror {
                mirror: "m".parse().unwrap(),
                from: None,
                to: Arc::new(session),
            },
        ];
        let wanted = wanted.map(|write| Step {
            switch: switch(),
            write,
        });
        let known = Remembered {
            counters: Vec::new(),
            wanted: wanted.to_vec(),
        };
        let before = host.datapath.read().await.unwrap();
        told(&host).await;
        let written = marks(&host);
        for words in DAMAGES.into_iter().chain([UNMARK]) {
            let interface = a.interface().to_owned();
            let lost;
            (lost, _, a, b) = missing(a, b, QUICK, async || {
                host.kill_agent().await;
                damage(&host, words, &interface);
                assert_ne!(marks(&host), written, "{words:?}");
                host.start_agent();
                host.datapath.resume(known.clone()).await;
                assert_eq!(host.datapath.read().await.unwrap(), before, "{words:?}");
            })
            .await;
            assert_eq!(lost, [0_u64; 0], "{words:?}");
            let both = vec!["a".to_owned(), "b".to_owned()];
            assert_eq!(told(&host).await, (both, Vec::new()), "{words:?}");
            if named && words == DAMAGES[2] {
                // Whether it was made for the switch is known by nobody.
                let word = "external_ids:dvs-made-for=prod";
                damage(&host, &["set", "Bridge", "BRIDGE", word], "");
                host.datapath.read().await.unwrap();
            }
            let mut now = marks(&host);
            if words == UNMARK {
                // How much it had counted is known by nobody any more.
                now = counted_as(&now, &written);
            }
            assert_eq!(now, written, "{words:?}");
            assert!(host.counts.drifts() > 0, "{words:?}");
        }
        assert!(reaches(&mut a, &mut b, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_plugged_into_a_bridge_that_is_nobodys_keeps_its_port_over_a_start() {
    if skipped("what_is_plugged_into_a_bridge_that_is_nobodys_keeps_its_port_over_a_start") {
        return;
    }
    let mut host = Host::with(|_, config, _| config.bridges.clear()).await;
    let a = host.vm(1, "a", access(10)).await;
    let to = Arc::new(host.settings());
    let bridge = Write::SetBridge { from: None, to };
    let wanted = [bridge, host.set("a", host.spec(access(10), Some(a.mac())))];
    let wanted = wanted.map(|write| Step {
        switch: switch(),
        write,
    });
    told(&host).await;
    host.kill_agent().await;
    damage(&host, DAMAGES[2], a.interface());
    damage(&host, UNMARK, a.interface());
    host.start_agent();
    let known = Remembered {
        counters: Vec::new(),
        wanted: wanted.to_vec(),
    };
    host.datapath.resume(known).await;
    host.datapath.read().await.unwrap();
    // It may be somebody else's by now, so nothing is written, and nothing given
    // away.
    let failure = host.change(host.settings()).await.unwrap_err();
    assert!(failure.message.contains("somebody else"), "{failure}");
    assert_eq!(told(&host).await, (vec!["a".to_owned()], Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_somebody_changes_while_the_agent_runs_is_written_again() {
    if skipped("a_mark_that_somebody_changes_while_the_agent_runs_is_written_again") {
        return;
    }
    // Of what stays as it is no more is told than that it is there.
    let damages = [
        (DriftPolicy::Repair, &DAMAGES[..10]),
        (DriftPolicy::Report, &DAMAGES[4..5]),
    ];
    for (policy, damages) in damages {
        let host = Host::with(|_, config, _| config.drift = policy).await;
        let mut a = host.vm(1, "a", access(10)).await;
        let mut b = host.vm(2, "b", access(10)).await;
        told(&host).await;
        let written = marks(&host);
        for (number, words) in damages.iter().enumerate() {
            let drifts = host.counts.drifts();
            damage(&host, words, a.interface());
            let what = format!("{words:?}: it is told");
            until(&what, async || host.counts.drifts() > drifts).await;
            let number = u64::try_from(number).unwrap();
            assert!(reaches(&mut a, &mut b, number), "{words:?}");
            assert_eq!(told(&host).await, (Vec::new(), Vec::new()), "{words:?}");
            if policy == DriftPolicy::Repair {
                assert_eq!(marks(&host), written, "{words:?}");
            }
            host.port("b", access(10), Some(b.mac())).await.unwrap();
        }
    }
}

async fn port(fleet: &Fleet, name: &str) -> Result<Value> {
    let objects = fleet.operator().objects().await?;
    let mut ports = objects.into_iter();
    let port = ports.find(|it| it["document"]["kind"] == "Port" && it["document"]["name"] == *name);
    Ok(port.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_without_its_mark_gives_no_port_away_when_its_agent_starts() -> Result<()> {
    if skipped("a_bridge_without_its_mark_gives_no_port_away_when_its_agent_starts") {
        return Ok(());
    }
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    // Of one that nobody named the mark alone says whose it is.
    let mut left = AgentHost::with_bridge(&fleet, "left", "dvs-prod".to_owned(), None)?;
    let document =
        |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod"},
        document("a"), document("b"),
    ]);
    fleet.operator().apply(&documents).await?;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = Vm::start(Mac::numbered(2));
    left.plug(&a, "a");
    left.plug(&b, "b");
    let patience = Duration::from_secs(30);
    assert!(is_heard(&mut a, &mut b, patience));
    fleet.in_sync().await?;
    let before = [port(&fleet, "a").await?, port(&fleet, "b").await?];
    assert_eq!(before[0]["document"]["host"], "left");
    left.kill_agent()?;
    let bridge = left.bridge.clone();
    let unmark = ["remove", "Bridge", &bridge, "external_ids", "dvs-switch"];
    left.ovs.vsctl(&unmark)?;
    left.start_agent(&fleet)?;
    until("it has read its datapath", async || {
        left.metric("dvs_ovsdb_sessions_total")
            .is_ok_and(|sessions| sessions > 0)
    })
    .await;
    // What it takes for gone it gives away two seconds after it has looked.
    for number in 0..60 {
        a.send(&Frame::number(a.mac(), b.mac(), 1_000 + number));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fleet.in_sync().await?;
    assert!(is_heard(&mut a, &mut b, patience));
    let after = [port(&fleet, "a").await?, port(&fleet, "b").await?];
    assert_eq!(after, before);
    let ids = left
        .ovs
        .vsctl(&["get", "Bridge", &bridge, "external_ids"])?;
    assert!(ids.contains("dvs-switch=prod"), "{ids}");
    Ok(())
}
