// SPDX-License-Identifier: Apache-2.0
//! Rules of a bridge that somebody else changes: they are told, and undone
//! where that is the policy.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_tests::lan::{Host, access, reaches, switch, until};
use host_agent::datapath::{Datapath, Drift, DriftPolicy, Notice, Part};

/// The rules of the bridge, but for what was learnt.
fn rules(host: &Host) -> BTreeSet<String> {
    let dump = ["--no-names", "--no-stats"];
    let dump = host.ovs.ofctl("dump-flows", &host.bridge(), &dump).unwrap();
    let rules = dump.lines().map(|line| line.trim().to_owned());
    rules
        .filter(|line| line.contains("actions"))
        .filter(|line| !line.starts_with("cookie=0x64767302"))
        .collect()
}

/// The next drift that is told.
async fn told(host: &Host) -> Drift {
    loop {
        if let Notice::Drift(drift) = host.datapath.next_notice().await {
            return drift;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_somebody_changes_are_told_and_written_again() {
    if skipped("rules_that_somebody_changes_are_told_and_written_again") {
        return;
    }
    let host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    let (bridge, before) = (host.bridge(), rules(&host));
    assert_eq!(host.counts.drifts(), 0, "what the agent does is no drift");
    let ofctl = |command, more: &[&str]| host.ovs.ofctl(command, &bridge, more).unwrap();

    let theirs = "table=0,priority=9999,actions=drop";
    ofctl("add-flow", &[theirs]);
    until("what is too many goes", async || rules(&host) == before).await;
    let expected = Drift {
        switch: switch(),
        part: Part::Bridge,
        row: format!("Bridge {bridge}"),
        column: Some("flow"),
        wanted: "none".to_owned(),
        found: "cookie=0x0,table=0,priority=9999 actions=drop".to_owned(),
        repaired: true,
    };
    assert_eq!(told(&host).await, expected);
    assert!(reaches(&mut a, &mut b, 3));

    ofctl("mod-flows", &["actions=drop"]);
    until("what was changed is as it was", async || {
        rules(&host) == before
    })
    .await;
    assert!(told(&host).await.repaired);
    ofctl("del-flows", &[]);
    until("what is missing comes", async || rules(&host) == before).await;
    let drift = told(&host).await;
    let others = before.len() - 1;
    assert_eq!(drift.found, format!("none, and {others} others differ"));
    assert_eq!(host.counts.drifts(), 3);
    assert!(reaches(&mut a, &mut b, 4) && reaches(&mut b, &mut a, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_somebody_changes_are_only_told_where_that_is_the_policy() {
    if skipped("rules_that_somebody_changes_are_only_told_where_that_is_the_policy") {
        return;
    }
    let host = Host::with(|_, config, _| config.drift = DriftPolicy::Report).await;
    let a = host.vm(1, "a", access(10)).await;
    let theirs = "table=0,priority=9999,actions=drop";
    let stands = || rules(&host).iter().any(|rule| rule.contains("9999"));
    let add = ["add-flow", theirs];
    host.ovs.ofctl(add[0], &host.bridge(), &add[1..]).unwrap();
    let drift = tokio::time::timeout(Duration::from_secs(20), told(&host)).await;
    assert!(!drift.unwrap().repaired);
    host.port("a", access(20), Some(a.mac())).await.unwrap();
    host.datapath.read().await.unwrap();
    assert!(stands(), "the change is the port's");
    host.ovs.ofctl(add[0], &host.bridge(), &add[1..]).unwrap();
    host.datapath.read().await.unwrap();
    assert_eq!(host.counts.drifts(), 1, "once for as long as it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_and_the_bridge_do_by_themselves_is_no_drift() {
    if skipped("what_the_agent_and_the_bridge_do_by_themselves_is_no_drift") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    for vlan in 20..40 {
        for (port, vm) in [("a", &a), ("b", &b)] {
            host.port(port, access(vlan), Some(vm.mac())).await.unwrap();
        }
        // The bridge learns where they are.
        assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    }
    host.ovs.stop_vswitchd().unwrap();
    host.ovs.start_vswitchd().unwrap();
    until("the bridge forwards again", async || {
        host.datapath.read().await.is_ok() && !rules(&host).is_empty()
    })
    .await;
    assert!(reaches(&mut a, &mut b, 3));
    host.unplug(&b);
    host.datapath.read().await.unwrap();
    assert_eq!(host.counts.drifts(), 0);
}
