// SPDX-License-Identifier: Apache-2.0
//! Rows are not devices: what has none is no plug, two that say one port are
//! not both it, and a device that is made anew works again.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::PortId;
use dvs_schemas::v1::{ConditionKind, Link};
use dvs_tests::lan::{
    Frame, Host, Mac, QUICK, Vm, access, id, is_heard, missing, reaches, run, switch, until,
};
use host_agent::datapath::{Datapath, Notice};

/// How long nothing is to be told, at least.
const QUIET: Duration = Duration::from_millis(500);

/// How long it may take until something is told. Only waited for where
/// something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is told of interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Plugged(PortId),
    Unplugged(PortId),
    /// All that can't be what they say, with the ports that they say.
    Unusable(BTreeMap<String, (Option<PortId>, String)>),
}

/// The next of it.
async fn told(host: &Host) -> Told {
    let told = tokio::time::timeout(PATIENCE, next_told(host)).await;
    told.expect("a plug, or an interface that is none")
}

async fn next_told(host: &Host) -> Told {
    loop {
        match host.datapath.next_notice().await {
            Notice::Plugged { port, .. } => return Told::Plugged(port),
            Notice::Unplugged { port, .. } => return Told::Unplugged(port),
            Notice::Conditions {
                kind: ConditionKind::InterfaceUnusable,
                now,
            } => {
                let unusable = now.into_iter().map(|(on, why)| {
                    assert_eq!(on.switch, Some(switch()));
                    (on.interface.unwrap(), (on.port, why))
                });
                return Told::Unusable(unusable.collect());
            }
            Notice::Conditions { .. }
            | Notice::Machine { .. }
            | Notice::Link { .. }
            | Notice::Busy { .. }
            | Notice::Drift(_)
            | Notice::Disturbed => {}
        }
    }
}

/// Waits until all that was told so far is read.
async fn nothing_more_is_told(host: &Host) {
    let more = tokio::time::timeout(QUIET, next_told(host)).await;
    assert_eq!(more.ok(), None);
}

fn plugged(port: &str) -> Told {
    Told::Plugged(id(port))
}

fn unplugged(port: &str) -> Told {
    Told::Unplugged(id(port))
}

/// One interface that says a port and can't be it.
fn unusable(interface: &str, port: &str, why: &str) -> Told {
    let said = (Some(id(port)), why.to_owned());
    Told::Unusable(BTreeMap::from([(interface.to_owned(), said)]))
}

/// An interface that says port `a` and has no device.
fn without_device(interface: &str) -> Told {
    let why = format!(
        "could not open network device {interface} (No such device); start its machine, or delete \
         its row (ovs-vsctl del-port)"
    );
    unusable(interface, "a", &why)
}

/// A row of a port, with what is to be set on its interface.
fn add(host: &Host, interface: &str, set: &[&str]) {
    let add = ["--no-wait", "add-port", &host.bridge(), interface];
    let set = [&["--", "set", "Interface", interface], set].concat();
    host.ovs.vsctl(&[&add[..], &set].concat()).unwrap();
}

fn set(host: &Host, words: &[&str]) {
    let words = [&["--no-wait"][..], words].concat();
    host.ovs.vsctl(&words).unwrap();
}

fn ip(host: &Host, words: &str) {
    let here = ["-n", host.ovs.namespace()].into_iter();
    run("ip", &here.chain(words.split(' ')).collect::<Vec<_>>());
}

/// A device and the end of its wire, `dev0` and `dev1`.
fn make_device(host: &Host) {
    ip(host, "link add dev0 type veth peer name dev1");
    for device in ["dev0", "dev1"] {
        let quiet = format!("net.ipv6.conf.{device}.disable_ipv6=1");
        let here = ["netns", "exec", host.ovs.namespace()];
        run("ip", &[&here[..], &["sysctl", "-qw", &quiet]].concat());
        ip(host, &format!("link set {device} up"));
    }
}

/// Puts a frame on that wire.
fn put(host: &Host, frame: &Frame) {
    let put = format!(
        "import socket as s; o = s.socket(s.AF_PACKET, s.SOCK_RAW); o.bind(('dev1', 0)); \
         o.send(bytes.fromhex('{}'))",
        frame.to_hex()
    );
    let here = ["netns", "exec", host.ovs.namespace(), "python3", "-c", &put];
    run("ip", &here);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_device_is_no_plug_and_is_named() {
    if skipped("a_row_without_a_device_is_no_plug_and_is_named") {
        return;
    }
    let host = Host::start().await;
    add(&host, "nodevice0", &["external_ids:iface-id=a"]);
    assert_eq!(told(&host).await, without_device("nodevice0"));
    // A machine of that port is plugged in, wired, and goes, beside that row.
    let mut b = host.vm(2, "b", access(10)).await;
    assert_eq!(told(&host).await, plugged("b"));
    let mut a = Vm::start(Mac::numbered(1));
    host.port("a", access(10), Some(a.mac())).await.unwrap_err();
    host.plug(&a, "a");
    host.linked("a", Link::Up).await;
    assert_eq!(told(&host).await, plugged("a"));
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    host.unplug(&a);
    assert_eq!(told(&host).await, unplugged("a"));
    nothing_more_is_told(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rows_of_a_switch_say_that_is_away_is_not_told_before_it_is_back() {
    if skipped("what_the_rows_of_a_switch_say_that_is_away_is_not_told_before_it_is_back") {
        return;
    }
    // As after a host lost its power: its rows are there, its devices are not.
    let mut host = Host::start().await;
    make_device(&host);
    add(&host, "dev0", &["external_ids:iface-id=a"]);
    assert_eq!(told(&host).await, plugged("a"));
    host.kill_agent().await;
    host.ovs.kill_vswitchd().unwrap();
    ip(&host, "link del dev0");
    host.start_agent();
    host.datapath.read().await.unwrap_err();
    nothing_more_is_told(&host).await;
    host.ovs.start_vswitchd().unwrap();
    assert_eq!(told(&host).await, without_device("dev0"));
    nothing_more_is_told(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_vanishes_is_unplugged_and_works_when_it_is_made_anew() {
    if skipped("a_device_that_vanishes_is_unplugged_and_works_when_it_is_made_anew") {
        return;
    }
    let mut host = Host::start().await;
    let mut b = host.vm(2, "b", access(10)).await;
    assert_eq!(told(&host).await, plugged("b"));
    make_device(&host);
    add(&host, "dev0", &["external_ids:iface-id=a"]);
    host.port("a", access(10), None).await.unwrap();
    host.linked("a", Link::Up).await;
    assert_eq!(told(&host).await, plugged("a"));
    let heard = |host: &Host, b: &mut Vm, number| {
        let frame = Frame::number(Mac::numbered(1), Mac::ALL, number);
        b.drain();
        put(host, &frame);
        b.until(|heard| *heard == frame).is_some()
    };
    assert!(heard(&host, &mut b, 1));
    for number in 2..4 {
        ip(&host, "link del dev0");
        until("it is told", async || told(&host).await == unplugged("a")).await;
        until("it is closed", async || {
            told(&host).await == without_device("dev0")
        })
        .await;
        host.linked("a", Link::Down).await;
        if number == 3 {
            // The switch has closed it, whoever makes it anew.
            host.restart_agent().await;
            host.datapath.read().await.unwrap();
            host.port("a", access(10), None).await.unwrap_err();
        }
        make_device(&host);
        host.linked("a", Link::Up).await;
        until("it is told", async || told(&host).await == plugged("a")).await;
        assert!(heard(&host, &mut b, number), "{}", host.ovs.log());
    }
    // In one go, so that nobody sees it gone; with the agent and without.
    for (number, with_agent) in [(4, true), (5, false)] {
        if !with_agent {
            host.kill_agent().await;
        }
        ip(&host, "link del dev0");
        make_device(&host);
        if !with_agent {
            host.start_agent();
        }
        until("the device is opened anew", async || {
            host.datapath.read().await.unwrap();
            let frame = Frame::number(Mac::numbered(1), Mac::ALL, number);
            put(&host, &frame);
            b.next(Duration::from_millis(100))
                .is_some_and(|heard| heard == frame)
        })
        .await;
    }
    assert!(b.next(Duration::ZERO).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_interfaces_with_one_id_the_wired_one_keeps_the_port() {
    if skipped("of_two_interfaces_with_one_id_the_wired_one_keeps_the_port") {
        return;
    }
    let mut host = Host::start().await;
    let b = host.vm(2, "b", access(10)).await;
    assert_eq!(told(&host).await, plugged("b"));
    // A number that is free by the time that the second one comes.
    add(&host, "pad", &["type=internal"]);
    let number = || host.ovs.vsctl(&["get", "Interface", "pad", "ofport"]);
    until("it has a number", async || {
        number().is_ok_and(|n| n.trim() != "[]")
    })
    .await;
    let low = format!("ofport_request={}", number().unwrap().trim());
    let a = host.vm(1, "a", access(10)).await;
    assert_eq!(told(&host).await, plugged("a"));
    host.ovs.vsctl(&["del-port", "pad"]).unwrap();
    let counted = async |host: &Host| {
        let ports = vec![(switch(), id("a"))];
        host.datapath.counters(ports).await.unwrap()[0].1.counters
    };
    let second = Vm::start(Mac::numbered(1));
    let duplicate = |of: &Vm, wired: &Vm| {
        let why = format!(
            "port a is wired to interface {}; it takes over once that is unplugged, or give it an \
             iface-id of its own",
            wired.interface()
        );
        unusable(of.interface(), "a", &why)
    };
    let first = a.interface().to_owned();
    let (lost, _, a, mut b) = missing(a, b, QUICK, async || {
        second.wire_to(host.ovs.namespace());
        add(
            &host,
            second.interface(),
            &["external_ids:iface-id=a", &low],
        );
        assert!(matches!(told(&host).await, Told::Unusable(_)));
        // Nor when the agent starts anew.
        host.restart_agent().await;
        host.datapath.read().await.unwrap();
    })
    .await;
    assert_eq!(lost, [0_u64; 0]);
    let before = counted(&host).await;
    // What takes over is no other plug.
    nothing_but(&host, &[duplicate(&second, &a), plugged("a"), plugged("b")]).await;
    set(
        &host,
        &["remove", "Interface", &first, "external_ids", "iface-id"],
    );
    let mut second = second;
    assert!(is_heard(&mut second, &mut b, Duration::from_secs(10)));
    assert_eq!(told(&host).await, Told::Unusable(BTreeMap::new()));
    set(
        &host,
        &["set", "Interface", &first, "external_ids:iface-id=a"],
    );
    assert_eq!(told(&host).await, duplicate(&a, &second));
    assert!(reaches(&mut second, &mut b, 1_000));
    nothing_more_is_told(&host).await;
    let after = counted(&host).await;
    assert!(after.have_reached(&before), "{before:?} {after:?}");
}

/// These are told, in any order, and no others.
async fn nothing_but(host: &Host, all: &[Told]) {
    let mut left = all.to_vec();
    while !left.is_empty() {
        let told = told(host).await;
        let before = left.len();
        left.retain(|notice| *notice != told);
        assert!(left.len() < before, "{told:?} is none of {left:?}");
    }
    nothing_more_is_told(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_can_not_be_read_is_told_with_what_is_allowed() {
    if skipped("a_word_that_can_not_be_read_is_told_with_what_is_allowed") {
        return;
    }
    let host = Host::with(|_, config, _| {
        config.patterns = vec!["bad<n>=.<n>".parse().unwrap()];
    })
    .await;
    let long = "incus-net123-instance-61405c14-ede8-42b7-921d-8c6a155738da-enp5s0";
    let cases: [(&str, &[&str], &str, &str); 5] = [
        ("x0", &["iface-id=web.ns1"], "iface-id", "web.ns1"),
        ("x1", &[&format!("iface-id={long}")], "iface-id", long),
        (
            "x2",
            &["iface-id=a", "dvs-vnic=\"no vNIC\""],
            "dvs-vnic",
            "no vNIC",
        ),
        (
            "x3",
            &["iface-id=a", "attached-mac=\"52:54:00\""],
            "attached-mac",
            "52:54:00",
        ),
        ("bad5", &[], "--plug", ".5"),
    ];
    for (interface, ids, word, value) in cases {
        let ids = ids.iter().map(|id| format!("external_ids:{id}"));
        let ids: Vec<String> = ids.chain(["type=internal".to_owned()]).collect();
        add(
            &host,
            interface,
            &ids.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let Told::Unusable(unusable) = told(&host).await else {
            panic!("{interface} is a plug");
        };
        let (_, why) = &unusable[interface];
        assert!(
            why.contains(word) && why.contains(value) && why.contains("allowed"),
            "{why}"
        );
    }
    nothing_more_is_told(&host).await;
}
