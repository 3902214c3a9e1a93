// SPDX-License-Identifier: Apache-2.0
//! Words in the database that nobody can read, and what is said of them: each
//! by its own condition, and nobody else fails for it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use dvs_tests::lan::{Host, access, id, reaches};
use host_agent::datapath::{Datapath, DriftPolicy, Notice};
use serde_json::json;
use tokio::time::timeout;

type Conditions = BTreeMap<ConditionKind, BTreeMap<ConditionTarget, String>>;

/// Takes in what the datapath tells of conditions until it tells nothing more.
async fn hear(host: &Host, conditions: &mut Conditions) {
    host.datapath.read().await.unwrap();
    let soon = Duration::from_millis(300);
    while let Ok(notice) = timeout(soon, host.datapath.next_notice()).await {
        if let Notice::Conditions { kind, now } = notice {
            conditions.insert(kind, now);
        }
    }
}

/// The fields of the conditions of a kind that are about a port.
fn fields(conditions: &Conditions, kind: ConditionKind, port: &str) -> Vec<String> {
    let all = conditions.get(&kind).into_iter().flatten();
    let of_port = all.filter(|(on, _)| on.port == Some(id(port)));
    of_port
        .map(|(on, _)| on.field.clone().unwrap_or_default())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_what_was_replaced_that_is_spoilt_keeps_nobody_from_changing() {
    if skipped("a_mark_of_what_was_replaced_that_is_spoilt_keeps_nobody_from_changing") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut conditions = Conditions::new();
    for (number, mark) in [
        json!({"tag": 5000}).to_string(),
        json!({"vlan_mode": "none", "trunks": ["set", [1, 9999]]}).to_string(),
        json!({"ingress_policing_rate": -1, "qos": "mine"}).to_string(),
        "what".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let mark = format!("external_ids:dvs-replaced={mark:?}");
        host.ovs
            .vsctl(&["set", "Port", a.interface(), &mark])
            .unwrap();
        hear(&host, &mut conditions).await;
        let named = fields(&conditions, ConditionKind::UnreadableWord, "a");
        assert_eq!(named, ["external_ids:dvs-replaced"], "{mark}");
        // Also for the one whose mark it is, and over a start.
        host.restart_agent().await;
        for (port, vm) in [("a", &a), ("b", &b)] {
            let vlan = if number % 2 == 0 { 20 } else { 10 };
            host.port(port, access(vlan), Some(vm.mac())).await.unwrap();
        }
        assert!(
            reaches(&mut a, &mut b, number.try_into().unwrap()),
            "{mark}"
        );
    }
    // Nothing is given back of what nobody can read.
    let from = host.there("a").await.unwrap().port;
    let port = id("a");
    host.write(host_agent::datapath::Write::RemovePort { port, from })
        .await
        .unwrap();
    let columns = [
        "--columns=tag,trunks,vlan_mode",
        "list",
        "Port",
        a.interface(),
    ];
    let row = host.ovs.vsctl(&columns).unwrap();
    assert_eq!(row.matches("[]").count(), 3, "{row}");
    hear(&host, &mut conditions).await;
    assert!(fields(&conditions, ConditionKind::UnreadableWord, "a").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_can_not_be_read_is_said_as_such_and_the_port_stays_wired() {
    if skipped("a_word_that_can_not_be_read_is_said_as_such_and_the_port_stays_wired") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let mut conditions = Conditions::new();
    let words = [
        "external_ids:dvs-state=asleep",
        "external_ids:vm-id=\"no id\"",
    ];
    for word in words {
        host.ovs
            .vsctl(&["set", "Interface", a.interface(), word])
            .unwrap();
    }
    hear(&host, &mut conditions).await;
    let named = fields(&conditions, ConditionKind::UnreadableWord, "a");
    assert_eq!(named, ["external_ids:dvs-state", "external_ids:vm-id"]);
    assert!(fields(&conditions, ConditionKind::InterfaceUnusable, "a").is_empty());
    assert!(reaches(&mut a, &mut b, 1));
    // Of one that can't be its port's it is said once what is wrong.
    let word = "external_ids:dvs-vnic=\"no id\"";
    host.ovs
        .vsctl(&["set", "Interface", a.interface(), word])
        .unwrap();
    hear(&host, &mut conditions).await;
    assert_eq!(
        fields(&conditions, ConditionKind::InterfaceUnusable, "a").len(),
        1
    );
    assert!(fields(&conditions, ConditionKind::NothingPluggedIn, "a").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_is_given_back_also_where_the_policy_said_the_same() {
    if skipped("what_others_say_is_given_back_also_where_the_policy_said_the_same") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", json!({"vlan": "untagged"})).await;
    let from = host.there("a").await.unwrap().port;
    let port = id("a");
    host.write(host_agent::datapath::Write::RemovePort { port, from })
        .await
        .unwrap();
    let set = ["set", "Port", a.interface(), "tag=10", "vlan_mode=access"];
    host.ovs.vsctl(&set).unwrap();
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    let mut conditions = Conditions::new();
    hear(&host, &mut conditions).await;
    assert!(fields(&conditions, ConditionKind::ForeignSettings, "a").is_empty());
    host.port("a", access(20), Some(a.mac())).await.unwrap();
    hear(&host, &mut conditions).await;
    assert_eq!(
        fields(&conditions, ConditionKind::ForeignSettings, "a"),
        ["tag"]
    );
    let from = host.there("a").await.unwrap().port;
    let port = id("a");
    host.write(host_agent::datapath::Write::RemovePort { port, from })
        .await
        .unwrap();
    let tag = host
        .ovs
        .vsctl(&["get", "Port", a.interface(), "tag"])
        .unwrap();
    assert_eq!(tag.trim(), "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_told_is_not_called_replaced() {
    if skipped("what_is_only_told_is_not_called_replaced") {
        return;
    }
    let host = Host::with(|_, config, _| config.drift = DriftPolicy::Report).await;
    let rate = json!({"average_kbps": 8_000, "peak_kbps": 8_000, "burst_kib": 64});
    let policy = json!({"vlan": {"access": 10}, "shaping": {"ingress": rate}});
    let a = host.vm(1, "a", policy.clone()).await;
    let limit = [
        "set",
        "Interface",
        a.interface(),
        "ingress_policing_rate=500",
    ];
    host.ovs.vsctl(&limit).unwrap();
    let mut conditions = Conditions::new();
    hear(&host, &mut conditions).await;
    assert!(fields(&conditions, ConditionKind::ForeignSettings, "a").is_empty());
    let drifts = fields(&conditions, ConditionKind::Drift, "a");
    let limit = format!("Interface {} ingress_policing_rate", a.interface());
    assert!(drifts.contains(&limit), "{drifts:?}");
    // Once somebody changes the port it is.
    host.port("a", policy, Some(a.mac())).await.unwrap();
    hear(&host, &mut conditions).await;
    let named = fields(&conditions, ConditionKind::ForeignSettings, "a");
    assert_eq!(named, ["ingress_policing_rate"]);
}
