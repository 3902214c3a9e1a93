// SPDX-License-Identifier: Apache-2.0
//! Interfaces that come and go, and the ports that they are.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::{ConditionKind, CountersOf, Link};
use dvs_schemas::{Epoch, PortId, SwitchName};
use dvs_tests::lan::{Frame, Host, Mac, Vm, access, id, plug, reaches, run, switch, unplug, until};
use host_agent::datapath::{
    Datapath, DriftPolicy, Notice, Part, Ports, Remembered, Step, VirtualPort, Write,
};

/// Waits until the switch has counted a first frame of a machine.
async fn counted(host: &Host, vm: &Vm) {
    until("a frame is counted", async || {
        let ports = host
            .ovs
            .ofctl("dump-ports", &host.bridge(), &[vm.interface()]);
        ports.is_ok_and(|ports| ports.contains("rx pkts=") && !ports.contains("rx pkts=0,"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_counts_goes_on_when_its_interface_is_made_anew_without_the_agent() {
    if skipped("what_a_port_counts_goes_on_when_its_interface_is_made_anew_without_the_agent") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    host.plug(&a, "a");
    // What it sends before it is a port is nobody's.
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    counted(&host, &a).await;
    assert_eq!(host.there("a").await, None);
    let set = host.set("a", host.spec(access(10), Some(a.mac())));
    host.write(set.clone()).await.unwrap();
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 2) && reaches(&mut a, &mut b, 3));
    let told = host
        .datapath
        .counters(vec![(switch(), id("a"))])
        .await
        .unwrap();
    host.kill_agent().await;
    host.unplug(&a);
    host.plug(&a, "a");
    host.start_agent();
    let known = Remembered {
        counters: told.clone(),
        wanted: Vec::new(),
    };
    host.datapath.resume(known).await;
    // The agent has it in its ledger, and finds nothing of it here.
    assert_eq!(host.there("a").await, None);
    host.write(set).await.unwrap();
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 4));
    let now = host
        .datapath
        .counters(vec![(switch(), id("a"))])
        .await
        .unwrap();
    let packets = |of: &[(SwitchName, CountersOf)]| of[0].1.counters.ingress_packets;
    assert_eq!((packets(&told), packets(&now)), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_waits_for_its_vnic_and_outlives_it() {
    if skipped("a_port_waits_for_its_vnic_and_outlives_it") {
        return;
    }
    let host = Host::start().await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    // Plugged and nobody's: no frame passes.
    host.plug(&a, "a");
    a.send(&Frame::number(a.mac(), Mac::ALL, 1));
    counted(&host, &a).await;
    assert_eq!(host.there("a").await, None);
    host.port("a", access(10), Some(a.mac())).await.unwrap();
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 2) && reaches(&mut b, &mut a, 3));
    let counters = async || {
        let counted = host
            .datapath
            .counters(vec![(switch(), id("a"))])
            .await
            .unwrap();
        counted[0].1.counters
    };
    let before = counters().await;
    assert_eq!(
        before.ingress_packets, 1,
        "what it sent before it was a port doesn't count"
    );
    assert!(before.egress_packets >= 1, "{before:?}");
    // The guest takes its interface down, and up.
    a.link(false);
    host.linked("a", Link::Down).await;
    a.link(true);
    host.linked("a", Link::Up).await;
    host.unplug(&a);
    host.linked("a", Link::Down).await;
    let at_rest = counters().await;
    assert!(
        at_rest.ingress_packets >= before.ingress_packets,
        "{at_rest:?}"
    );
    assert_eq!(counters().await, at_rest);
    host.plug(&a, "a");
    host.linked("a", Link::Up).await;
    assert!(reaches(&mut a, &mut b, 4));
    let after = counters().await;
    assert!(
        after.ingress_packets > at_rest.ingress_packets,
        "{at_rest:?} {after:?}"
    );
    // Another placement begins at nothing, and ends this one.
    let mut spec: VirtualPort = host.spec(access(10), Some(a.mac()));
    spec.epoch = Epoch(2);
    let ended = host.end(host.set("a", spec)).await;
    assert_eq!((ended.epoch, ended.counters), (Epoch(1), after));
    assert_eq!(counters().await.ingress_packets, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_fails_is_shown_as_failing_and_its_removal_takes_its_marks_away() {
    if skipped("a_port_that_fails_is_shown_as_failing_and_its_removal_takes_its_marks_away") {
        return;
    }
    let mut host = Host::start().await;
    let namespace = host.ovs.namespace().to_owned();
    let ip = |words: &str| {
        let namespace = ["-n", &namespace, "link"];
        let words = namespace.into_iter().chain(words.split(' '));
        run("ip", &words.collect::<Vec<_>>());
    };
    ip("add dev0 type veth peer name dev1");
    let add = ["add-port", &host.bridge(), "dev0"];
    let id_is = "external_ids:iface-id=a";
    let set = ["--", "set", "Interface", "dev0", id_is];
    host.ovs.vsctl(&[add.as_slice(), &set].concat()).unwrap();
    host.port("a", access(10), None).await.unwrap();
    let column = |host: &Host, column| {
        let value = host.ovs.vsctl(&["get", "Port", "dev0", column]).unwrap();
        value.trim().to_owned()
    };
    assert_eq!(column(&host, "external_ids:dvs-port"), "a");
    ip("del dev0");
    // In user space nobody notices before.
    host.ovs.stop_vswitchd().unwrap();
    host.ovs.start_vswitchd().unwrap();
    let spec = || host.spec(access(10), None);
    let broken = async || {
        let write = host.set("a", spec());
        let step = [Step {
            switch: switch(),
            write,
        }];
        let applied = host.datapath.apply(Arc::new(step), Ports::new()).await;
        applied.steps.is_ok_and(|steps| match &steps[..] {
            [Err(failure)] => failure.message.contains("dev0"),
            _ => false,
        })
    };
    until("the port fails, and the device is named", broken).await;
    let failing = async || {
        let picture = host.datapath.read().await.unwrap();
        picture[&switch()].failing.clone()
    };
    let a = Part::Port(id("a"));
    assert_eq!(failing().await, BTreeSet::from([a]));
    let from = host.there("a").await.unwrap().port;
    host.write(Write::RemovePort {
        port: id("a"),
        from,
    })
    .await
    .unwrap();
    assert_eq!(failing().await, BTreeSet::new());
    assert_eq!(host.there("a").await, None);
    let left = ["external_ids", "tag"].map(|of| column(&host, of));
    assert_eq!(left, ["{}", "[]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_not_carried_out_is_there_to_be_removed() {
    if skipped("a_removal_that_was_not_carried_out_is_there_to_be_removed") {
        return;
    }
    let host = Host::with(|_, config, _| {
        config.patience = Duration::from_secs(2);
        // Nothing is written but what is asked for.
        config.drift = DriftPolicy::Report;
    })
    .await;
    let a = host.vm(1, "a", access(10)).await;
    let port = host.there("a").await.unwrap().port;
    let removal = || Write::RemovePort {
        port: id("a"),
        from: port.clone(),
    };
    let pid = std::fs::read_to_string(host.ovs.run_dir().join("ovs-vswitchd.pid")).unwrap();
    run("kill", &["-STOP", pid.trim()]);
    let step = Step {
        switch: switch(),
        write: removal(),
    };
    let failed = host.datapath.apply(Arc::new([step]), Ports::new()).await;
    run("kill", &["-CONT", pid.trim()]);
    failed.steps.unwrap_err();
    // Its placement is over all the same, and nobody else tells what it came to.
    let ended = failed.ended.iter().map(|(_, of)| (&of.port, of.epoch));
    assert_eq!(ended.collect::<Vec<_>>(), [(&id("a"), Epoch(1))]);
    let picture = host.datapath.read().await.unwrap();
    let bridge = &picture[&switch()];
    assert_eq!(bridge.ports.get(&id("a")).map(|a| &a.port), Some(&port));
    assert!(bridge.failing.contains(&Part::Port(id("a"))));
    host.write(removal()).await.unwrap();
    assert_eq!(host.there("a").await, None);
    let tag = ["get", "Port", a.interface(), "tag"];
    assert_eq!(host.ovs.vsctl(&tag).unwrap().trim(), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_is_a_port_by_its_name() {
    if skipped("an_interface_is_a_port_by_its_name") {
        return;
    }
    let host = Host::with(|_, config, _| {
        // As Proxmox names them.
        config.patterns = vec!["tap<vm>i<n>=vm-<vm>-<n>".parse().unwrap()];
    })
    .await;
    let mut a = Vm::start(Mac::numbered(1));
    let mut b = host.vm(2, "b", access(10)).await;
    a.wire_to(host.ovs.namespace());
    let ip = |words: &str| {
        let words: Vec<&str> = ["-n", host.ovs.namespace(), "link", "set"]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run("ip", &words);
    };
    ip(&format!("{} down name tap100i0", a.interface()));
    ip("tap100i0 up");
    // One of another name beside it is nobody's.
    let plug = |interface: &str| {
        let add = [
            "add-port",
            &host.bridge(),
            interface,
            "--",
            "set",
            "Interface",
            interface,
        ];
        let kind = if interface == "tap100i0" {
            "type=system"
        } else {
            "type=dummy"
        };
        host.ovs.vsctl(&[add.as_slice(), &[kind]].concat()).unwrap();
    };
    plug("fwln100i1");
    plug("tap100i0");
    let told = loop {
        match host.datapath.next_notice().await {
            Notice::Plugged { port, .. } if port == id("b") => {}
            Notice::Plugged {
                switch,
                port,
                vnic,
                mac,
                machine: _,
            } => break (switch, port, vnic, mac),
            _ => {}
        }
    };
    assert_eq!(told, (switch(), id("vm-100-0"), None, None));
    host.port("vm-100-0", access(10), Some(a.mac()))
        .await
        .unwrap();
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    host.ovs.vsctl(&["del-port", "tap100i0"]).unwrap();
    host.linked("vm-100-0", Link::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_on_another_switchs_bridge_takes_no_port_from_a_machine_that_has_it() {
    if skipped("an_interface_on_another_switchs_bridge_takes_no_port_from_a_machine_that_has_it") {
        return;
    }
    let other: SwitchName = "other".parse().unwrap();
    let bridge = format!("o{}", std::process::id());
    let host = Host::with(|_, config, _| {
        config
            .bridges
            .insert(other.clone(), bridge.parse().unwrap());
    })
    .await;
    let step = Step {
        switch: other.clone(),
        write: Write::SetBridge {
            from: None,
            to: Arc::new(host.settings()),
        },
    };
    let applied = host.datapath.apply(Arc::new([step]), Ports::new()).await;
    assert!(applied.steps.unwrap().iter().all(Result::is_ok));
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let second = Vm::start(Mac::numbered(3));
    plug(&host.ovs, &bridge, &second, "a", None);
    let mut told = Vec::new();
    told_until(&host, &mut told, |notice| {
        matches!(notice, Notice::Conditions { kind: ConditionKind::InterfaceUnusable, now }
            if now.keys().any(|on| on.interface.as_deref() == Some(second.interface())))
    })
    .await;
    unplug(&host.ovs, &bridge, &second);
    told_until(&host, &mut told, |notice| {
        matches!(notice, Notice::Conditions { kind: ConditionKind::InterfaceUnusable, now }
            if now.is_empty())
    })
    .await;
    assert_eq!(told, [(switch(), id("a")), (switch(), id("b"))]);
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));

    // It has its turn once the other one is gone; the port is not given back
    // in between.
    plug(&host.ovs, &bridge, &second, "a", None);
    told_until(&host, &mut told, |notice| {
        matches!(notice, Notice::Conditions { kind: ConditionKind::InterfaceUnusable, now }
            if !now.is_empty())
    })
    .await;
    told.clear();
    host.unplug(&a);
    told_until(&host, &mut told, |notice| {
        matches!(notice, Notice::Conditions { kind: ConditionKind::InterfaceUnusable, now }
            if now.is_empty())
    })
    .await;
    assert_eq!(told, [(other, id("a"))]);
}

/// Reads notices until one is as that; adds whose interfaces came or went.
async fn told_until(
    host: &Host,
    told: &mut Vec<(SwitchName, PortId)>,
    is_last: impl Fn(&Notice) -> bool,
) {
    let read = async {
        loop {
            let notice = host.datapath.next_notice().await;
            if let Notice::Plugged { switch, port, .. } | Notice::Unplugged { switch, port, .. } =
                &notice
            {
                told.push((switch.clone(), port.clone()));
            }
            if is_last(&notice) {
                return;
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(30), read).await;
    read.expect("a condition that comes or goes");
}

/// A device of the switch itself is made anew whenever that starts: its link is
/// down then, so it is read before it counts anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_port_counts_goes_on_when_its_switch_starts_anew_and_it_overtakes_what_it_was() {
    if skipped(
        "what_a_port_counts_goes_on_when_its_switch_starts_anew_and_it_overtakes_what_it_was",
    ) {
        return;
    }
    let mut host = Host::start().await;
    let add = ["add-port", &host.bridge(), "in0"];
    let set = ["--", "set", "Interface", "in0", "type=internal"];
    let id_is = ["external_ids:iface-id=a"];
    host.ovs
        .vsctl(&[add.as_slice(), &set, &id_is].concat())
        .unwrap();
    host.port("a", access(10), None).await.unwrap();
    let namespace = host.ovs.namespace().to_owned();
    let sends = |frames: u32| {
        let quiet = "net.ipv6.conf.in0.disable_ipv6=1";
        let up = ["link", "set", "in0", "up"];
        let put = format!(
            "import socket as s; o = s.socket(s.AF_PACKET, s.SOCK_RAW); o.bind(('in0', 0)); \
             [o.send(bytes(60)) for _ in range({frames})]"
        );
        let here = ["netns", "exec", &namespace];
        run("ip", &[&here[..], &["sysctl", "-qw", quiet]].concat());
        run("ip", &[&["-n", &namespace][..], &up].concat());
        run("ip", &[&here[..], &["python3", "-c", &put]].concat());
    };
    let counted = async |host: &Host| {
        let ports = vec![(switch(), id("a"))];
        let counters = host.datapath.counters(ports).await.unwrap();
        counters[0].1.counters.ingress_packets
    };
    let mut sent = 5;
    sends(sent);
    until("five frames are counted", async || {
        counted(&host).await == 5
    })
    .await;
    for with_database in [false, true] {
        host.ovs.stop_vswitchd().unwrap();
        if with_database {
            host.ovs.kill_db().unwrap();
            host.ovs.start_db().unwrap();
        }
        host.ovs.start_vswitchd().unwrap();
        until("the bridge has its rules again", async || {
            let rules = host.ovs.ofctl("dump-flows", &host.bridge(), &["table=0"]);
            rules.is_ok_and(|rules| rules.contains("actions"))
        })
        .await;
        // What the agent does when a switch is back is done before this.
        host.datapath.read().await.unwrap();
        // More than the device had counted.
        sends(4 * sent);
        sent += 4 * sent;
        let all = u64::from(sent);
        until("the others are, too", async || counted(&host).await == all).await;
    }
}
