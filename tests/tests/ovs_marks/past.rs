// SPDX-License-Identifier: Apache-2.0
//! What was there before the switch, and which of it is known once marks are
//! lost: what others had they get back, and what the agent wrote is not theirs.

use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::ConditionKind;
use dvs_tests::lan::{Host, Mac, Vm, access, id, switch, until};
use host_agent::datapath::{Datapath, DriftPolicy, Notice, Remembered, Step, Write};
use serde_json::json;
use tokio::time::timeout;

use super::{DAMAGES, UNMARK, damage};

/// What the ledger of an agent says of its switch and of these ports.
fn ledger(host: &Host, ports: impl IntoIterator<Item = Write>) -> Remembered {
    let to = Arc::new(host.settings());
    let bridge = Write::SetBridge { from: None, to };
    let wanted = [bridge].into_iter().chain(ports).map(|write| Step {
        switch: switch(),
        write,
    });
    Remembered {
        counters: Vec::new(),
        wanted: wanted.collect(),
    }
}

/// The fields of all conditions of a kind, as they were told last.
async fn fields(host: &Host, of: ConditionKind) -> Vec<String> {
    host.datapath.read().await.unwrap();
    let mut last = Vec::new();
    while let Ok(notice) = timeout(Duration::ZERO, host.datapath.next_notice()).await {
        if let Notice::Conditions { kind, now } = notice
            && kind == of
        {
            let fields = now.into_keys().map(|on| on.field.unwrap_or_default());
            last = fields.collect();
        }
    }
    last
}

fn column(host: &Host, table: &str, row: &str, column: &str) -> String {
    let value = host.ovs.vsctl(&["get", table, row, column]).unwrap();
    value.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_nobody_knows_the_past_of_goes_only_as_somebody_says() {
    if skipped("a_bridge_that_nobody_knows_the_past_of_goes_only_as_somebody_says") {
        return;
    }
    let removed = [
        DAMAGES[2],
        &["remove", "Bridge", "BRIDGE", "external_ids", "dvs-taken"],
    ];
    let words = [("dvs-taken=standalone", true), ("dvs-made-for=prod", false)];
    for damaged in removed {
        for (word, stays) in words {
            let mut host = Host::with(|_, config, ovs| {
                let bridge = config.bridges[&switch()].to_string();
                let words = format!(
                    "--no-wait add-br {bridge} -- set Bridge {bridge} datapath_type=netdev"
                );
                let words: Vec<&str> = words.split(' ').collect();
                ovs.vsctl(&words).unwrap();
            })
            .await;
            let bridge = host.bridge();
            let known = ledger(&host, []);
            host.kill_agent().await;
            damage(&host, damaged, "");
            host.start_agent();
            host.datapath.resume(known).await;
            let word_of = ["external_ids:dvs-taken"];
            assert_eq!(fields(&host, ConditionKind::UnreadableWord).await, word_of);
            let from = Arc::new(host.settings());
            let remove = Write::RemoveBridge { from };
            let failure = host.write(remove.clone()).await.unwrap_err();
            assert!(failure.message.contains("dvs-made-for=prod"), "{failure}");
            assert_eq!(column(&host, "Bridge", &bridge, "fail_mode"), "secure");
            let word = format!("external_ids:{word}");
            host.ovs.vsctl(&["set", "Bridge", &bridge, &word]).unwrap();
            host.write(remove).await.unwrap();
            let bridges = host.ovs.vsctl(&["list-br"]).unwrap();
            assert_eq!(bridges.contains(&bridge), stays, "{word}");
            if stays {
                assert_eq!(column(&host, "Bridge", &bridge, "fail_mode"), "standalone");
                assert_eq!(column(&host, "Bridge", &bridge, "external_ids"), "{}");
            }
        }
    }
}

/// Words for ovs-vsctl.
fn vsctl(host: &Host, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    host.ovs.vsctl(&words).unwrap()
}

/// A host whose switch is on a bridge that somebody made, and that forwarded by
/// itself.
async fn on_taken(policy: DriftPolicy) -> Host {
    Host::with(|_, config, ovs| {
        config.drift = policy;
        let bridge = config.bridges[&switch()].to_string();
        let words = format!(
            "--no-wait add-br {bridge} -- set Bridge {bridge} datapath_type=netdev \
             fail_mode=standalone"
        );
        let words: Vec<&str> = words.split(' ').collect();
        ovs.vsctl(&words).unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_is_given_back_whatever_somebody_makes_of_its_marks() {
    if skipped("what_was_taken_is_given_back_whatever_somebody_makes_of_its_marks") {
        return;
    }
    let damages = [
        "clear Bridge BRIDGE external_ids",
        "remove Bridge BRIDGE external_ids dvs-taken",
        "set Bridge BRIDGE external_ids:dvs-taken=secure",
    ];
    for policy in [DriftPolicy::Repair, DriftPolicy::Report] {
        for words in damages {
            let host = on_taken(policy).await;
            let bridge = host.bridge();
            let shown = |of: &str| column(&host, "Bridge", &bridge, of);
            let marks = shown("external_ids");
            assert!(marks.contains("dvs-taken=standalone"), "{marks}");
            vsctl(&host, &words.replace("BRIDGE", &bridge));
            until("it is told", async || host.counts.drifts() == 1).await;
            host.datapath.read().await.unwrap();
            match policy {
                DriftPolicy::Repair => assert_eq!(shown("external_ids"), marks, "{words}"),
                DriftPolicy::Report => assert_ne!(shown("external_ids"), marks, "{words}"),
            }
            let from = Arc::new(host.settings());
            host.write(Write::RemoveBridge { from }).await.unwrap();
            assert_eq!(shown("fail_mode"), "standalone", "{words}");
            assert_eq!(shown("external_ids"), "{}", "{words}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_is_given_back_whatever_somebody_makes_of_its_marks() {
    if skipped("what_was_replaced_is_given_back_whatever_somebody_makes_of_its_marks") {
        return;
    }
    let damages = [
        "clear Port PORT external_ids",
        "remove Port PORT external_ids dvs-replaced",
        "set Port PORT external_ids:dvs-replaced=lost",
        "set Port PORT external_ids:dvs-replaced={}",
    ];
    for policy in [DriftPolicy::Repair, DriftPolicy::Report] {
        let host = Host::with(|_, config, _| config.drift = policy).await;
        for (number, words) in (1..).zip(damages) {
            let vm = Vm::start(Mac::numbered(number));
            let name = vm.interface();
            host.plug(&vm, "a");
            let theirs = format!("set Port {name} tag=5 -- set Interface {name}");
            vsctl(&host, &format!("{theirs} ingress_policing_rate=1000"));
            let rate = json!({"average_kbps": 500, "peak_kbps": 900, "burst_kib": 64});
            let limited = json!({"vlan": {"access": 10}, "shaping": {"ingress": rate}});
            host.port("a", limited, Some(vm.mac())).await.unwrap();
            let marks = column(&host, "Port", name, "external_ids");
            assert!(marks.contains("dvs-replaced"), "{marks}");
            let drifts = host.counts.drifts();
            vsctl(&host, &words.replace("PORT", name));
            until("it is told", async || host.counts.drifts() > drifts).await;
            host.datapath.read().await.unwrap();
            let now = column(&host, "Port", name, "external_ids");
            assert_eq!(
                now == marks,
                policy == DriftPolicy::Repair,
                "{words}: {now}"
            );
            let from = host.there("a").await.unwrap().port;
            let port = id("a");
            host.write(Write::RemovePort { port, from }).await.unwrap();
            assert_eq!(column(&host, "Port", name, "tag"), "5", "{words}");
            let rate = column(&host, "Interface", name, "ingress_policing_rate");
            assert_eq!(rate, "1000", "{words}");
            assert_eq!(column(&host, "Port", name, "external_ids"), "{}", "{words}");
            host.unplug(&vm);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_wrote_is_nobody_elses_after_a_start_without_marks() {
    if skipped("what_the_agent_wrote_is_nobody_elses_after_a_start_without_marks") {
        return;
    }
    let mut host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let b = host.vm(2, "b", access(10)).await;
    let set = |host: &Host, vlan| {
        [("a", a.mac()), ("b", b.mac())]
            .map(|(port, mac)| host.set(port, host.spec(access(vlan), Some(mac))))
    };
    let known = ledger(&host, set(&host, 10));
    host.kill_agent().await;
    damage(&host, UNMARK, a.interface());
    // The other is made anew by whoever runs it, and says its VLAN.
    host.unplug(&b);
    host.plug(&b, "b");
    let theirs = ["--no-wait", "set", "Port", b.interface(), "tag=10"];
    host.ovs.vsctl(&theirs).unwrap();
    host.start_agent();
    host.datapath.resume(known).await;
    host.datapath.read().await.unwrap();
    for outcome in host.writes(set(&host, 20)).await {
        outcome.unwrap();
    }
    assert_eq!(fields(&host, ConditionKind::ForeignSettings).await, ["tag"]);
    for port in ["a", "b"] {
        let from = host.there(port).await.unwrap().port;
        let port = id(port);
        host.write(Write::RemovePort { port, from }).await.unwrap();
    }
    let tags = [&a, &b].map(|vm| column(&host, "Port", vm.interface(), "tag"));
    assert_eq!(tags, ["[]", "10"]);
}
