// SPDX-License-Identifier: Apache-2.0
//! What is written to Open vSwitch and what is not: others' columns stay,
//! a converged host writes nothing, and a change is one transaction.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::{Direction, MirrorDestination, MirrorPort};
use dvs_tests::lan::{Host, Mac, QUICK, access, id, missing, reaches, run, switch, until};
use host_agent::datapath::{
    Datapath, Drift, DriftPolicy, Mirror, Notice, Part, Ports, Remembered, Step, Write,
};
use serde_json::json;

fn column(host: &Host, table: &str, row: &str, column: &str) -> String {
    let value = host.ovs.vsctl(&["get", table, row, column]).unwrap();
    value.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_stays() {
    if skipped("what_others_wrote_stays") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let (name, bridge) = (a.interface(), host.bridge());
    let theirs = [
        ("Port", name, "external_ids:theirs=1"),
        ("Port", name, "other_config:rstp-enable=false"),
        ("Interface", name, "external_ids:vm-uuid=5"),
        ("Interface", name, "ingress_policing_rate=0"),
        ("Bridge", bridge.as_str(), "external_ids:owner=libvirt"),
        (
            "Bridge",
            bridge.as_str(),
            "other_config:hwaddr=\"02:00:00:00:00:01\"",
        ),
    ];
    for (table, row, set) in theirs {
        host.ovs.vsctl(&["set", table, row, set]).unwrap();
    }
    let foreign = ["--", "--id=@q", "create", "QoS", "type=linux-noop"];
    host.ovs.vsctl(&foreign[1..]).unwrap();
    host.port("a", access(20), Some(a.mac())).await.unwrap();
    let from = host.there("a").await.unwrap().port;
    host.write(Write::RemovePort {
        port: id("a"),
        from,
    })
    .await
    .unwrap();
    assert_eq!(
        column(&host, "Port", name, "external_ids"),
        "{theirs=\"1\"}"
    );
    assert_eq!(
        column(&host, "Port", name, "other_config"),
        "{rstp-enable=\"false\"}"
    );
    assert_eq!(column(&host, "Port", name, "tag"), "[]");
    assert_eq!(
        column(&host, "Interface", name, "external_ids:vm-uuid"),
        "\"5\""
    );
    assert_eq!(
        column(&host, "Interface", name, "external_ids:iface-id"),
        "a"
    );
    assert_eq!(
        column(&host, "Bridge", &bridge, "external_ids:owner"),
        "libvirt"
    );
    let qos = host.ovs.vsctl(&["--columns=type", "list", "QoS"]).unwrap();
    assert!(qos.contains("linux-noop"), "{qos}");
    // The switch goes; the bridge stays for whoever is plugged in there, and
    // says that it was made for the switch.
    let from = Arc::new(host.settings());
    host.write(Write::RemoveBridge { from }).await.unwrap();
    assert_eq!(
        column(&host, "Bridge", &bridge, "external_ids"),
        "{dvs-made-for=prod, owner=libvirt}"
    );
    assert_eq!(host.counts.drifts(), 0);
}

/// Limits what a port receives, as the agent does: not every kernel can, but
/// the rows can stand everywhere. `more` is changed along with that.
fn limit(host: &Host, interface: &str, port: &str, more: &[&str]) {
    let port = format!("external_ids:dvs-port={port}");
    let marks = ["external_ids:dvs-switch=prod", &port];
    let queue = ["--id=@queue", "create", "Queue"];
    let qos = ["--", "--id=@qos", "create", "QoS", "queues:0=@queue"];
    let set = ["--", "set", "Port", interface, "qos=@qos"];
    let parts: [&[&str]; 6] = [&queue, &marks, &qos, &marks, &set, more];
    host.ovs.vsctl(&parts.concat()).unwrap();
}

fn limits(host: &Host) -> usize {
    let rows = |table| host.ovs.vsctl(&["--columns=_uuid", "list", table]);
    let rows = ["QoS", "Queue"].map(|table| rows(table).unwrap());
    rows.concat().matches("_uuid").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_port_whose_device_is_gone_keeps_no_other_from_changing() {
    if skipped("a_limited_port_whose_device_is_gone_keeps_no_other_from_changing") {
        return;
    }
    let host = Host::start().await;
    let b = host.vm(2, "b", access(10)).await;
    host.port("a", access(10), None).await.unwrap();
    let (bridge, name) = (host.bridge(), "nodevice0");
    let add = ["--no-wait", "add-port", &bridge, name];
    let id = "external_ids:iface-id=a";
    let set = ["--", "set", "Interface", name, id];
    host.ovs
        .vsctl(&[add.as_slice(), set.as_slice()].concat())
        .unwrap();
    until("the device is missed", async || {
        column(&host, "Interface", name, "ofport") == "-1"
    })
    .await;
    limit(&host, name, "a", &[]);
    host.port("b", access(20), Some(b.mac())).await.unwrap();
    assert_eq!(column(&host, "Port", b.interface(), "tag"), "20");
    assert_eq!(limits(&host), 2, "the port still names its limit");
    host.ovs.vsctl(&["del-port", &host.bridge(), name]).unwrap();
    until("the limit goes with its port", async || limits(&host) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_port_of_a_bridge_that_is_refused_keeps_nothing_from_being_read() {
    if skipped("a_limited_port_of_a_bridge_that_is_refused_keeps_nothing_from_being_read") {
        return;
    }
    let mut host = Host::with(|_, config, _| config.bridges.clear()).await;
    let a = host.vm(1, "a", access(10)).await;
    let to = Arc::new(host.settings());
    let set = Write::SetBridge { from: None, to };
    let wanted = [set, host.set("a", host.spec(access(10), Some(a.mac())))];
    let wanted = wanted.map(|write| Step {
        switch: switch(),
        write,
    });
    host.kill_agent().await;
    // Without any mark it is somebody else's by now.
    let bridge = host.bridge();
    let unmarked = ["--", "clear", "Bridge", &bridge, "external_ids"];
    let port = ["--", "clear", "Port", a.interface(), "external_ids"];
    limit(&host, a.interface(), "a", &[unmarked, port].concat());
    host.start_agent();
    let known = Remembered {
        counters: Vec::new(),
        wanted: wanted.to_vec(),
    };
    host.datapath.resume(known).await;
    let there = host.datapath.read().await.unwrap();
    let failing = [Part::Bridge, Part::Port(id("a"))];
    assert_eq!(there[&switch()].failing, BTreeSet::from(failing));
    assert_eq!(limits(&host), 2, "the port still names its limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_is_one_transaction_and_none_when_converged() {
    if skipped("a_delta_is_one_transaction_and_none_when_converged") {
        return;
    }
    let mut host = Host::start().await;
    let before = host.counts.transactions();
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    assert_eq!(host.counts.transactions() - before, 2, "one per plug");
    let specs = |vlan| {
        [("a", a.mac()), ("b", b.mac())]
            .map(|(port, mac)| host.set(port, host.spec(access(vlan), Some(mac))))
    };
    let before = host.counts.transactions();
    for outcome in host.writes(specs(30)).await {
        outcome.unwrap();
    }
    assert_eq!(host.counts.transactions() - before, 1);
    let programmes = host.counts.programmes();
    for outcome in host.writes(specs(30)).await {
        outcome.unwrap();
    }
    assert_eq!(
        host.counts.transactions() - before,
        1,
        "nothing was left to do"
    );
    assert_eq!(host.counts.programmes(), programmes);
    assert!(reaches(&mut a, &mut b, 1));
    // Nor after a restart of the agent.
    let picture = host.datapath.read().await.unwrap();
    host.restart_agent().await;
    assert_eq!(host.datapath.read().await.unwrap(), picture);
    assert!(reaches(&mut b, &mut a, 2));
    assert_eq!(host.counts.transactions(), 0);
    assert_eq!(host.counts.programmes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_told_and_undone() {
    if skipped("drift_is_told_and_undone") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let name = a.interface();
    host.ovs.vsctl(&["set", "Port", name, "tag=99"]).unwrap();
    until("the tag is set right", async || {
        column(&host, "Port", name, "tag") == "10"
    })
    .await;
    let told = loop {
        if let Notice::Drift(drift) = host.datapath.next_notice().await {
            break drift;
        }
    };
    let expected = Drift {
        switch: switch(),
        part: Part::Port(id("a")),
        row: format!("Port {name}"),
        column: Some("tag"),
        wanted: "10".to_owned(),
        found: "99".to_owned(),
        repaired: true,
    };
    assert_eq!(told, expected);
    assert_eq!(host.counts.drifts(), 1);
    host.ovs
        .vsctl(&["remove", "Port", name, "external_ids", "dvs-policy"])
        .unwrap();
    let marked = async || column(&host, "Port", name, "external_ids").contains("dvs-policy");
    until("the mark is there again", marked).await;
    until("it is told", async || host.counts.drifts() == 2).await;
    let rules = |host: &Host| {
        let dump = host.ovs.ofctl("dump-flows", &host.bridge(), &[]).unwrap();
        dump.matches("actions=").count()
    };
    let before = rules(&host);
    host.ovs
        .vsctl(&["set-fail-mode", &host.bridge(), "standalone"])
        .unwrap();
    let secure = async || column(&host, "Bridge", &host.bridge(), "fail_mode") == "secure";
    until("the bridge is safe again", secure).await;
    // With the mode Open vSwitch drops all rules, if it sees it in time.
    until("the bridge has its rules again", async || {
        rules(&host) == before && host.counts.drifts() >= 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_that_could_not_be_undone_is_not_told_as_undone() {
    if skipped("drift_that_could_not_be_undone_is_not_told_as_undone") {
        return;
    }
    let host = Host::with(|_, config, _| config.patience = Duration::from_secs(2)).await;
    let a = host.vm(1, "a", access(10)).await;
    let pid = std::fs::read_to_string(host.ovs.run_dir().join("ovs-vswitchd.pid")).unwrap();
    run("kill", &["-STOP", pid.trim()]);
    let set = ["--no-wait", "set", "Port", a.interface(), "tag=99"];
    host.ovs.vsctl(&set).unwrap();
    let told = async || loop {
        if let Notice::Drift(drift) = host.datapath.next_notice().await {
            break drift;
        }
    };
    let first = told().await;
    // Whoever looks meanwhile tells nothing anew.
    host.datapath.read().await.unwrap_err();
    run("kill", &["-CONT", pid.trim()]);
    assert_eq!((first.found.as_str(), first.repaired), ("99", false));
    host.datapath.read().await.unwrap();
    let undone = Drift {
        repaired: true,
        ..first
    };
    assert_eq!(told().await, undone);
    assert_eq!(host.counts.drifts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_only_told_where_that_is_the_policy() {
    if skipped("drift_is_only_told_where_that_is_the_policy") {
        return;
    }
    let host = Host::with(|_, config, _| config.drift = DriftPolicy::Report).await;
    let a = host.vm(1, "a", access(10)).await;
    let name = a.interface();
    host.ovs.vsctl(&["set", "Port", name, "tag=99"]).unwrap();
    until("it is told", async || host.counts.drifts() == 1).await;
    // What is plugged is taken in all the same.
    let b = host.vm(2, "b", access(10)).await;
    assert_eq!(column(&host, "Port", name, "tag"), "99");
    assert_eq!(host.counts.drifts(), 1, "once for as long as it stays");
    host.port("b", access(20), Some(b.mac())).await.unwrap();
    assert_eq!(
        column(&host, "Port", name, "tag"),
        "99",
        "the change is another port's"
    );
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    assert_eq!(column(&host, "Port", name, "tag"), "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_bridge_is_not_taken() {
    if skipped("a_foreign_bridge_is_not_taken") {
        return;
    }
    let mut host = Host::start().await;
    let from = Arc::new(host.settings());
    host.write(Write::RemoveBridge { from }).await.unwrap();
    assert_eq!(host.ovs.vsctl(&["list-br"]).unwrap(), "");
    // By its own name a bridge may stand already, but not another switch's.
    let bridge = host.bridge();
    host.ovs
        .vsctl(&[
            "--no-wait",
            "add-br",
            &bridge,
            "--",
            "set",
            "Bridge",
            &bridge,
            "datapath_type=netdev",
        ])
        .unwrap();
    let mark = "external_ids:dvs-switch=other";
    host.ovs
        .vsctl(&["--no-wait", "set", "Bridge", &bridge, mark])
        .unwrap();
    let failure = host.change(host.settings()).await.unwrap_err();
    assert!(failure.message.contains("other"), "{failure}");
    let ids = column(&host, "Bridge", &bridge, "external_ids");
    assert_eq!(ids, "{dvs-switch=other}");
    host.ovs
        .vsctl(&["clear", "Bridge", &bridge, "external_ids"])
        .unwrap();
    host.change(host.settings()).await.unwrap();
    let ids = column(&host, "Bridge", &bridge, "external_ids:dvs-switch");
    assert_eq!(ids, "prod");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_mark_somebody_takes_away_stays_the_switchs() {
    if skipped("a_bridge_whose_mark_somebody_takes_away_stays_the_switchs") {
        return;
    }
    for policy in [DriftPolicy::Repair, DriftPolicy::Report] {
        let mut host = Host::with(|_, config, _| {
            // Of one that was not named the mark alone says whose it is.
            config.bridges.clear();
            config.drift = policy;
        })
        .await;
        let mut a = host.vm(1, "a", access(10)).await;
        let mut b = host.vm(2, "b", access(10)).await;
        let bridge = host.bridge();
        let ids = |host: &Host| column(host, "Bridge", &bridge, "external_ids");
        let unmark = ["remove", "Bridge", &bridge, "external_ids", "dvs-switch"];
        host.ovs.vsctl(&unmark).unwrap();
        until("it is told", async || host.counts.drifts() == 1).await;
        host.port("a", access(20), Some(a.mac())).await.unwrap();
        host.port("b", access(20), Some(b.mac())).await.unwrap();
        assert!(reaches(&mut a, &mut b, 1));
        let marked = ids(&host).contains("dvs-switch=prod");
        assert_eq!(marked, policy == DriftPolicy::Repair);
        // One that was never marked is somebody else's, also by that name.
        let words = format!("--no-wait del-br {bridge} -- add-br {bridge}");
        let words: Vec<&str> = words.split(' ').collect();
        host.ovs.vsctl(&words).unwrap();
        let failure = host.change(host.settings()).await.unwrap_err();
        assert!(failure.message.contains("somebody else"), "{failure}");
        assert_eq!(ids(&host), "{}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_changes_under_traffic_without_a_leak() {
    if skipped("a_vlan_changes_under_traffic_without_a_leak") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let b = host.vm(2, "b", access(10)).await;
    let mut spy = host.vm(3, "spy", access(20)).await;
    let specs = |vlan| {
        [(1, "a"), (2, "b")].map(|(number, port)| {
            host.set(port, host.spec(access(vlan), Some(Mac::numbered(number))))
        })
    };
    let (lost, _, _a, _b) = missing(a, b, QUICK, async || {
        for vlan in [30, 40, 50, 10] {
            for outcome in host.writes(specs(vlan)).await {
                outcome.unwrap();
            }
        }
    })
    .await;
    // Both ports change at once, so there is no moment between.
    assert_eq!(lost, [0_u64; 0]);
    assert_eq!(spy.next(Duration::from_millis(100)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_ports_are_one_transaction() {
    if skipped("a_thousand_ports_are_one_transaction") {
        return;
    }
    let host = Host::start().await;
    let names: Vec<String> = (0..1_000).map(|number| format!("p{number}")).collect();
    // Without devices: of kind internal they would each be one of the kernel's.
    let mut add: Vec<String> = Vec::new();
    for name in &names {
        let id = format!("external_ids:iface-id={name}");
        let interface = format!("x{name}");
        for word in [
            "--",
            "add-port",
            &host.bridge(),
            &interface,
            "--",
            "set",
            "Interface",
            &interface,
            "type=dummy",
            &id,
        ] {
            add.push(word.to_owned());
        }
    }
    let all: Vec<&str> = add.iter().skip(1).map(String::as_str).collect();
    host.ovs.vsctl(&all).unwrap();
    let set = |vlan| {
        names
            .iter()
            .map(move |name| (name, vlan))
            .collect::<Vec<_>>()
    };
    let before = host.counts.transactions();
    for (round, vlan) in (1..).zip([10, 20]) {
        let writes: Vec<Write> = set(vlan)
            .into_iter()
            .map(|(name, vlan)| host.set(name, host.spec(access(vlan), None)))
            .collect();
        for outcome in host.writes(writes).await {
            outcome.unwrap();
        }
        assert_eq!(host.counts.transactions() - before, round);
    }
    let tags = host
        .ovs
        .vsctl(&["--columns=tag", "find", "Port", "tag=20"])
        .unwrap();
    assert_eq!(tags.matches("tag").count(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_meter_is_no_obstacle_to_the_next_try() {
    if skipped("a_refused_meter_is_no_obstacle_to_the_next_try") {
        return;
    }
    let host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let meters = || {
        let dump = host.ovs.ofctl("dump-meters", &host.bridge(), &[]).unwrap();
        dump.matches("meter=").count()
    };
    // The second of the two that the port is to have.
    let ofport: u32 = column(&host, "Interface", a.interface(), "ofport")
        .parse()
        .unwrap();
    let theirs = format!("meter={},kbps,band=type=drop,rate=1", 2 * ofport + 1);
    host.ovs
        .ofctl("add-meter", &host.bridge(), &[&theirs])
        .unwrap();
    let rate = json!({"average_kbps": 500, "peak_kbps": 900, "burst_kib": 8});
    let limited = json!({"vlan": {"access": 10}, "shaping": {"ingress": rate}});
    // The number is taken at the first try. The next one comes by itself, as
    // the rules are given again once the rows are written.
    host.port("a", limited, Some(a.mac())).await.unwrap();
    assert_eq!(meters(), 2);
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    assert_eq!(meters(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_open_vswitch_has_not_carried_out_is_not_said_to_be_done() {
    if skipped("what_open_vswitch_has_not_carried_out_is_not_said_to_be_done") {
        return;
    }
    let host = Host::with(|_, config, _| config.patience = Duration::from_secs(2)).await;
    let _a = host.vm(1, "a", access(10)).await;
    let pid = std::fs::read_to_string(host.ovs.run_dir().join("ovs-vswitchd.pid")).unwrap();
    let signal = |signal| run("kill", &[signal, pid.trim()]);
    let mirror = Mirror {
        ports: vec![MirrorPort {
            port: id("a"),
            direction: Direction::Both,
        }],
        vlans: Vec::new(),
        destination: MirrorDestination::Vlan(99.try_into().unwrap()),
    };
    let steps: Arc<[Step]> = Arc::new([Step {
        switch: switch(),
        write: Write::SetMirror {
            mirror: "m".parse().unwrap(),
            from: None,
            to: Arc::new(mirror),
        },
    }]);
    signal("-STOP");
    for _again in 0..2 {
        let applied = host.datapath.apply(Arc::clone(&steps), Ports::new()).await;
        let error = applied.steps.unwrap_err();
        assert!(error.to_string().contains("carried out"), "{error}");
    }
    signal("-CONT");
    until("it is carried out", async || {
        let outcomes = host
            .datapath
            .apply(Arc::clone(&steps), Ports::new())
            .await
            .steps;
        outcomes.is_ok_and(|steps| steps.iter().all(Result::is_ok))
    })
    .await;
}
