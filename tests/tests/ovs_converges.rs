// SPDX-License-Identifier: Apache-2.0
//! Whatever stands in Open vSwitch, one delta makes of it what is to be, and
//! the second is empty. Found by chance instead of by example, on a real one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::arbitrary::{direction, mac, policy, vlan_id};
use dvs_schemas::v1::Link;
use dvs_schemas::{
    Epoch, MacAddr, MirrorDestination, MirrorName, MirrorPort, Policy, PortId, PrivateVlans, VlanId,
};
use dvs_tests::lan::{Host, id};
use host_agent::datapath::{
    BridgeSettings, Datapath, Mirror, OvsCounts, Part, Picture, VirtualPort, Write,
};
use host_agent::merge::merge;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

/// Deltas that are tried. One takes some hundredths of a second.
const ROUNDS: usize = 60;

const PORTS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What is to be, beside the settings of the switch.
#[derive(Debug, Clone, Default)]
struct Wish {
    ports: BTreeMap<PortId, Arc<VirtualPort>>,
    mirrors: BTreeMap<MirrorName, Arc<Mirror>>,
}

/// What the agent is told, or somebody does beside it.
#[derive(Debug, Clone)]
enum Event {
    Set(PortId, Policy, Option<MacAddr>, u64),
    Remove(PortId),
    Mirror(MirrorName, Mirror),
    Unmirror(MirrorName),
    Mtu(u16),
    Plug(&'static str),
    Unplug(&'static str),
    Tamper(&'static str, &'static str),
    RestartAgent,
}

fn port() -> impl Strategy<Value = PortId> {
    select(PORTS.to_vec()).prop_map(id)
}

/// Any policy, and those of private VLANs, which need their switch. None limits
/// what a port receives: interfaces without device can't.
fn any_policy() -> impl Strategy<Value = Policy> {
    let policy = || {
        policy().prop_map(|mut policy| {
            policy.shaping.egress = None;
            policy
        })
    };
    let private = select(vec![100, 101, 102]).prop_map(|vlan: u16| {
        serde_json::from_value(json!({"vlan": {"private": vlan}})).expect("a policy")
    });
    prop_oneof![4 => policy(), 1 => private]
}

fn private_vlans() -> PrivateVlans {
    let one = json!([{"primary": 100, "isolated": 101, "communities": [102]}]);
    serde_json::from_value(one).expect("private VLANs")
}

fn mirror() -> impl Strategy<Value = Mirror> {
    let source = (port(), direction()).prop_map(|(port, direction)| MirrorPort { port, direction });
    let vlan = vlan_id().prop_map(MirrorDestination::Vlan);
    let destination = prop_oneof![Just(MirrorDestination::Port(id("e"))), vlan];
    let some: fn() -> VlanId = || 7.try_into().expect("a VLAN");
    (vec(source, 0..3), any::<bool>(), destination).prop_map(move |(ports, vlan, destination)| {
        let ports: BTreeMap<PortId, MirrorPort> = ports
            .into_iter()
            .filter(|source| source.port != id("e"))
            .map(|source| (source.port.clone(), source))
            .collect();
        let vlans = if vlan || ports.is_empty() {
            vec![some()]
        } else {
            Vec::new()
        };
        Mirror {
            ports: ports.into_values().collect(),
            vlans,
            destination,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let name = || select(vec!["m", "n"]).prop_map(|name| name.parse().expect("a name"));
    let set = (port(), any_policy(), option::weighted(0.9, mac()), 1..4_u64)
        .prop_map(|(port, policy, mac, epoch)| Event::Set(port, policy, mac, epoch));
    let set_mirror = (name(), mirror()).prop_map(|(name, mirror)| Event::Mirror(name, mirror));
    let columns = vec![
        "tag=99",
        "vlan_mode=access",
        "trunks=5,6",
        "external_ids:dvs-policy=x",
        "external_ids:dvs-epoch=9",
        "external_ids:dvs-port=z",
    ];
    let tamper = (select(PORTS.to_vec()), select(columns))
        .prop_map(|(port, column)| Event::Tamper(port, column));
    prop_oneof![
        8 => set,
        2 => port().prop_map(Event::Remove),
        2 => set_mirror,
        1 => name().prop_map(Event::Unmirror),
        1 => select(vec![1_500, 9_000]).prop_map(Event::Mtu),
        3 => select(PORTS.to_vec()).prop_map(Event::Plug),
        2 => select(PORTS.to_vec()).prop_map(Event::Unplug),
        2 => tamper,
        1 => Just(Event::RestartAgent),
    ]
}

fn interface(port: &str) -> String {
    format!("x{port}")
}

async fn take(host: &mut Host, wish: &mut Wish, settings: &mut BridgeSettings, event: Event) {
    match event {
        Event::Set(port, policy, mac, epoch) => {
            let nothing = Policy::default();
            // Not every policy is one of this switch.
            if let Ok(policy) = merge(&policy, &nothing, &nothing, &settings.private_vlans) {
                let port_is = VirtualPort {
                    epoch: Epoch(epoch),
                    vnic: None,
                    mac,
                    policy,
                };
                wish.ports.insert(port, Arc::new(port_is));
            }
        }
        Event::Remove(port) => drop(wish.ports.remove(&port)),
        Event::Mirror(name, mirror) => drop(wish.mirrors.insert(name, Arc::new(mirror))),
        Event::Unmirror(name) => drop(wish.mirrors.remove(&name)),
        Event::Mtu(mtu) => settings.mtu = serde_json::from_value(json!(mtu)).unwrap(),
        Event::Plug(port) => {
            let (name, id) = (interface(port), format!("external_ids:iface-id={port}"));
            let (bridge, kind) = (host.bridge(), "type=dummy");
            let add = ["--may-exist", "add-port", &bridge, &name];
            let set = ["--", "set", "Interface", &name, kind, &id];
            host.ovs.vsctl(&[add.as_slice(), &set].concat()).unwrap();
        }
        Event::Unplug(port) => {
            let delete = ["--if-exists", "del-port", &interface(port)];
            host.ovs.vsctl(&delete).unwrap();
        }
        Event::Tamper(port, column) => {
            let name = interface(port);
            let set = ["--if-exists", "set", "Port", &name, column];
            host.ovs.vsctl(&set).unwrap();
        }
        Event::RestartAgent => host.restart_agent().await,
    }
}

/// The delta from what is there, as the agent would plan it.
fn delta(there: &Picture, wish: &Wish, settings: &BridgeSettings) -> Vec<Write> {
    let bridge = there.get(&dvs_tests::lan::switch());
    let mut writes = Vec::new();
    let is = bridge.map(|bridge| bridge.settings.clone());
    if is.as_deref() != Some(settings) {
        let to = Arc::new(settings.clone());
        writes.push(Write::SetBridge { from: is, to });
    }
    let mirrors = bridge
        .map(|bridge| bridge.mirrors.clone())
        .unwrap_or_default();
    let ports = bridge
        .map(|bridge| bridge.ports.clone())
        .unwrap_or_default();
    for (mirror, from) in &mirrors {
        if !wish.mirrors.contains_key(mirror) {
            let (mirror, from) = (mirror.clone(), from.clone());
            writes.push(Write::RemoveMirror { mirror, from });
        }
    }
    for (port, plugged) in &ports {
        if !wish.ports.contains_key(port) {
            let (port, from) = (port.clone(), plugged.port.clone());
            writes.push(Write::RemovePort { port, from });
        }
    }
    for (port, to) in &wish.ports {
        let from = ports.get(port).map(|plugged| plugged.port.clone());
        if from.as_ref() != Some(to) {
            let (port, to) = (port.clone(), to.clone());
            writes.push(Write::SetPort { port, from, to });
        }
    }
    for (mirror, to) in &wish.mirrors {
        let from = mirrors.get(mirror).cloned();
        if from.as_ref() != Some(to) {
            let (mirror, to) = (mirror.clone(), to.clone());
            writes.push(Write::SetMirror { mirror, from, to });
        }
    }
    writes
}

/// What is there, but for links: those come up in their own time.
async fn read(host: &Host) -> Picture {
    let mut picture = host.datapath.read().await.unwrap();
    let ports = picture.values_mut().flat_map(|bridge| &mut bridge.ports);
    for (_, port) in ports {
        port.link = Link::Down;
    }
    picture
}

/// Applies what differs; answers the ports that can't be as they are to be. A
/// session is spoilt by ports, too, whether or not a step is about it: that is
/// in the picture.
async fn apply(host: &Host, wish: &Wish, settings: &BridgeSettings) -> Vec<(Part, String)> {
    let there = read(host).await;
    let writes = delta(&there, wish, settings);
    if writes.is_empty() {
        return Vec::new();
    }
    let parts: Vec<Part> = writes.iter().map(Write::part).collect();
    let outcomes = host.writes(writes).await;
    let failures = parts.into_iter().zip(outcomes);
    failures
        .filter_map(|(part, outcome)| Some((part, outcome.err()?.to_string())))
        .filter(|(part, _)| match part {
            Part::Bridge | Part::Port(_) => true,
            Part::Mirror(_) => false,
        })
        .collect()
}

fn written(counts: &OvsCounts) -> [u64; 2] {
    [counts.transactions(), counts.programmes()]
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_state_the_second_delta_is_empty() {
    if skipped("from_any_state_the_second_delta_is_empty") {
        return;
    }
    let mut host = Host::with(|settings, _, _| settings.private_vlans = private_vlans()).await;
    let mut runner = TestRunner::default();
    let events = vec(event(), 1..6);
    let (mut wish, mut settings) = (Wish::default(), host.settings());
    let mut history = Vec::new();
    for round in 0..ROUNDS {
        let drawn = events.new_tree(&mut runner).unwrap().current();
        history.push(drawn.clone());
        for event in drawn {
            take(&mut host, &mut wish, &mut settings, event).await;
        }
        let failures = apply(&host, &wish, &settings).await;
        let there = read(&host).await;
        let before = written(&host.counts);
        // What can't be stays what it was, and nothing else is tried.
        assert_eq!(
            apply(&host, &wish, &settings).await,
            failures,
            "round {round} of {history:#?}"
        );
        assert_eq!(
            written(&host.counts),
            before,
            "round {round} of {history:#?}"
        );
        assert_eq!(read(&host).await, there);
        if failures.is_empty() {
            assert_eq!(delta(&there, &wish, &settings), [], "{history:#?}");
        }
        // Nor by an agent that knows nothing but what stands there.
        host.restart_agent().await;
        assert_eq!(
            apply(&host, &wish, &settings).await,
            failures,
            "round {round} of {history:#?}"
        );
        assert_eq!(
            written(&host.counts),
            [0, 0],
            "round {round} of {history:#?}"
        );
        assert_eq!(read(&host).await, there);
    }
}
