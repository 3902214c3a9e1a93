// SPDX-License-Identifier: Apache-2.0
//! Limits of ports against what the kernel says is in force.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::ConditionKind;
use dvs_tests::lan::{Host, Mac, Vm, access, id, run};
use host_agent::datapath::{Datapath, Notice, Write};
use serde_json::{Value, json};

/// A policy that limits what a port receives.
fn received(average: u32, peak: u32, burst: u32) -> Value {
    let rate = json!({"average_kbps": average, "peak_kbps": peak, "burst_kib": burst});
    json!({"vlan": {"access": 10}, "shaping": {"egress": rate}})
}

/// The rates of an interface's classes in the kernel, as `tc` says them.
fn in_force(host: &Host, vm: &Vm) -> BTreeSet<String> {
    let namespace = host.ovs.namespace();
    let tc = ["netns", "exec", namespace, "tc", "class", "show", "dev"];
    let shown = run("ip", &[tc.as_slice(), &[vm.interface()]].concat());
    let rate = |class: &str, of: &str| {
        let mut words = class.split(' ').skip_while(|word| *word != of);
        words.nth(1).unwrap_or_default().to_owned()
    };
    let rates = shown.lines().map(|class| {
        assert_eq!(rate(class, "rate"), rate(class, "ceil"), "{class}");
        rate(class, "rate")
    });
    rates.collect()
}

/// Rates as they are expected.
fn rates<const N: usize>(rates: [&str; N]) -> BTreeSet<String> {
    rates.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_in_force_in_the_kernel_as_written_or_said_not_to_be() {
    if skipped("a_rate_is_in_force_in_the_kernel_as_written_or_said_not_to_be") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let set = async |policy| host.port("a", policy, Some(a.mac())).await;
    if let Err(failure) = set(received(500, 900, 8)).await {
        assert!(failure.message.contains("not supported"), "{failure}");
        return;
    }
    assert_eq!(in_force(&host, &a), rates(["500Kbit", "900Kbit"]));
    set(received(34_000_000, 34_359_738, 65_536)).await.unwrap();
    assert_eq!(in_force(&host, &a), rates(["34Gbit", "34359Mbit"]));
    // Beyond 32 bits, and below a frame a second.
    for (average, peak, held) in [
        (35_000_000, 40_000_000, rates(["34359Mbit"])),
        (1, 500, rates(["12Kbit", "500Kbit"])),
    ] {
        let failure = set(received(average, peak, 64)).await.unwrap_err();
        assert_eq!(failure.field.as_deref(), Some("shaping.egress"));
        assert!(
            failure.message.contains("allowed here: 12 to 34359738"),
            "{failure}"
        );
        assert_eq!(in_force(&host, &a), held);
    }
}

/// What others say that policies speak of, as it was told last: by column,
/// with what is said of it.
async fn foreign(host: &Host) -> BTreeMap<String, String> {
    loop {
        if let Notice::Conditions { kind, now } = host.datapath.next_notice().await
            && kind == ConditionKind::ForeignSettings
        {
            let each = now.into_iter();
            return each.map(|(on, why)| (on.field.unwrap(), why)).collect();
        }
    }
}

fn column(host: &Host, table: &str, vm: &Vm, column: &str) -> String {
    let value = host.ovs.vsctl(&["get", table, vm.interface(), column]);
    value.unwrap().trim().to_owned()
}

fn rows(host: &Host, table: &str) -> usize {
    let rows = host.ovs.vsctl(&["--columns=_uuid", "list", table]).unwrap();
    rows.matches("_uuid").count()
}

/// True if each column is said to be like that.
fn say(told: &BTreeMap<String, String>, columns: &[&str], what: &str) -> bool {
    told.keys().eq(columns) && told.values().all(|why| why.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_others_are_kept_or_replaced_and_given_back_and_always_said() {
    if skipped("limits_of_others_are_kept_or_replaced_and_given_back_and_always_said") {
        return;
    }
    let mut host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    // As libvirt writes `<bandwidth>`.
    let words = format!(
        "--id=@q create QoS type=linux-htb external_ids:vm-id=x other_config:max-rate=5000000 -- \
         set Port {0} qos=@q -- set Interface {0} ingress_policing_rate=1000 \
         ingress_policing_burst=100",
        a.interface()
    );
    let words: Vec<&str> = words.split(' ').collect();
    host.ovs.vsctl(&words).unwrap();
    let theirs = column(&host, "Port", &a, "qos");
    let both = ["ingress_policing_rate", "qos"];
    assert!(say(&foreign(&host).await, &both, "is unlimited"));
    assert_eq!(column(&host, "Port", &a, "qos"), theirs);
    let rate = json!({"average_kbps": 500, "peak_kbps": 900, "burst_kib": 64});
    let shaped = json!({"vlan": {"access": 10}, "shaping": {"ingress": rate, "egress": rate}});
    let set = async |host: &Host, policy| host.port("a", policy, Some(a.mac())).await;
    if let Err(failure) = set(&host, shaped).await {
        assert!(failure.message.contains("not supported"), "{failure}");
        return;
    }
    assert!(say(&foreign(&host).await, &both, "replaces it"));
    assert_eq!(column(&host, "Interface", &a, "ingress_policing_rate"), "0");
    assert_ne!(column(&host, "Port", &a, "qos"), theirs);
    // Who starts anew knows what it owes.
    let there = host.datapath.read().await.unwrap();
    host.restart_agent().await;
    assert_eq!(host.datapath.read().await.unwrap(), there);
    assert!(say(&foreign(&host).await, &both, "replaces it"));
    assert_eq!(host.counts.transactions(), 0);
    set(&host, access(10)).await.unwrap();
    assert!(say(&foreign(&host).await, &both, "is unlimited"));
    assert_eq!(column(&host, "Port", &a, "qos"), theirs);
    assert_eq!(
        column(&host, "Interface", &a, "ingress_policing_rate"),
        "1000"
    );
    assert_eq!((rows(&host, "QoS"), rows(&host, "Queue")), (1, 0));
    let from = host.there("a").await.unwrap().port;
    let port = id("a");
    host.write(Write::RemovePort { port, from }).await.unwrap();
    assert_eq!(column(&host, "Port", &a, "qos"), theirs);
    assert_eq!(column(&host, "Port", &a, "external_ids"), "{}");
    assert_eq!(foreign(&host).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_that_others_set_is_replaced_and_given_back_and_said() {
    if skipped("a_vlan_that_others_set_is_replaced_and_given_back_and_said") {
        return;
    }
    let host = Host::start().await;
    let a = Vm::start(Mac::numbered(1));
    host.plug(&a, "a");
    // As libvirt writes `<vlan>`.
    let set = ["set", "Port", a.interface(), "tag=5"];
    host.ovs.vsctl(&set).unwrap();
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    let told = foreign(&host).await;
    assert!(say(&told, &["tag"], "to 5"), "{told:?}");
    assert_eq!(column(&host, "Port", &a, "tag"), "10");
    let from = host.there("a").await.unwrap().port;
    let port = id("a");
    host.write(Write::RemovePort { port, from }).await.unwrap();
    assert_eq!(foreign(&host).await, BTreeMap::new());
    assert_eq!(column(&host, "Port", &a, "tag"), "5");
    assert_eq!(column(&host, "Port", &a, "external_ids"), "{}");
}
