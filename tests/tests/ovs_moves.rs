// SPDX-License-Identifier: Apache-2.0
//! Machines that move between two hosts, seen by a client beyond the physical
//! switch: who gets the port when, for how long nothing passes, and that the
//! physical switch follows also a machine that never says a word.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::Result;
use dvs_ovsdb::testing::skipped;
use dvs_tests::fleet::{Fleet, Program, Settings};
use dvs_tests::lan::{AgentHost, Fabric, Frame, Mac, Vm, Wire, is_heard, until};
use serde_json::{Value, json};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the outage of a move may be on a machine that does much else besides.
/// The figure itself is printed.
const OUTAGE: Duration = Duration::from_secs(1);

/// A client's frames come at this pace.
const PACE: Duration = Duration::from_millis(10);

/// What a machine says while it waits for its port.
#[derive(Debug, Clone, Copy)]
enum Speaks {
    Never,
    /// A few announcements once it has arrived.
    AsQemu,
}

/// Two hosts on a physical switch, with a client beyond it, and one port.
struct Site {
    fleet: Fleet,
    left: AgentHost,
    right: AgentHost,
    wires: [Wire; 2],
    fabric: Fabric,
    client: Vm,
}

impl Site {
    async fn start() -> Result<Self> {
        let fleet = Fleet::start(Settings {
            hosts: 1,
            ..Settings::default()
        })
        .await?;
        let wires = [Wire::new(), Wire::new()];
        let left = AgentHost::start(&fleet, "left", Some((&wires[0], 0)))?;
        let right = AgentHost::start(&fleet, "right", Some((&wires[1], 0)))?;
        let fabric = Fabric::start();
        for wire in &wires {
            fabric.join(wire, 1);
        }
        let client = Vm::start(Mac::numbered(9));
        fabric.attach(&client);
        let documents = json!([
            {"kind": "Switch", "name": "prod", "hosts": ["left", "right"],
             "uplinks": ["uplink1"]},
            {"kind": "PortGroup", "name": "web", "switch": "prod",
             "policy": {"vlan": "untagged"}},
            {"kind": "Port", "name": "a", "switch": "prod", "group": "web",
             "mac": Mac::numbered(1).to_string()},
        ]);
        fleet.operator().apply(&documents).await?;
        fleet.in_sync().await?;
        Ok(Self {
            fleet,
            left,
            right,
            wires,
            fabric,
            client,
        })
    }

    async fn host_of_a(&self, host: &str) -> Result<()> {
        let is_there = |objects: &Vec<Value>| {
            let mut ports = objects.iter().map(|object| &object["document"]);
            ports.any(|document| document["name"] == "a" && document["host"] == host)
        };
        let what = format!("port a on {host}");
        self.fleet
            .until(&what, async |operator| operator.objects().await, is_there)
            .await?;
        Ok(())
    }

    /// Waits until it is known that the link of the port, the only one, is so.
    async fn link_of_a(&self, link: &str) -> Result<()> {
        let said = format!("\"link\":\"{link}\"");
        let is_so = |ports: &Vec<Value>| {
            let mut ports = ports.iter();
            ports.any(|port| port.to_string().contains(&said))
        };
        let what = format!("the link of port a {link}");
        self.fleet
            .until(&what, async |operator| operator.runtime().await, is_so)
            .await?;
        Ok(())
    }

    /// How often the publisher has said that a host's claim waits.
    fn claims(&self, host: &str) -> usize {
        let waits = format!("claim waits host={host} port=a");
        self.fleet.log(Program::Publisher).matches(&waits).count()
    }

    /// Waits until a host's claim waits.
    async fn waits(&self, host: &str) -> Result<()> {
        self.waits_again(host, 0).await
    }

    /// Waits until a host's claim waits more often than so.
    async fn waits_again(&self, host: &str, before: usize) -> Result<()> {
        let what = format!("{host} waits for port a");
        let claims = async |_: &_| Ok(self.claims(host));
        self.fleet
            .until(&what, claims, |count| *count > before)
            .await?;
        Ok(())
    }

    /// How long it takes from something that happens until the client's frames
    /// arrive at a machine.
    async fn outage(
        &mut self,
        to: &mut Vm,
        speaks: Speaks,
        happening: impl FnOnce(&Self),
    ) -> Duration {
        to.drain();
        let began = Instant::now();
        happening(self);
        let mut ticks = tokio::time::interval(PACE);
        for number in 0.. {
            ticks.tick().await;
            let frame = Frame::number(self.client.mac(), to.mac(), 1_000 + number);
            self.client.send(&frame);
            if let (Speaks::AsQemu, 0) = (speaks, number % 10) {
                to.send(&Frame::number(to.mac(), Mac::ALL, number));
            }
            while let Some(heard) = to.next(Duration::ZERO) {
                if heard.carried().is_some() {
                    return began.elapsed();
                }
            }
            assert!(began.elapsed() < PATIENCE, "nothing arrives");
        }
        unreachable!("frames without end")
    }
}

fn say(host: &AgentHost, vm: &Vm, word: &str) {
    let word = format!("external_ids:{word}");
    let set = ["set", "Interface", vm.interface(), &word];
    host.ovs.vsctl(&set).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_moves_at_once_when_its_machine_goes_and_the_fabric_follows_though_it_is_silent()
-> Result<()> {
    let name = "a_port_moves_at_once_when_its_machine_goes_and_the_fabric_follows";
    if skipped(name) {
        return Ok(());
    }
    let mut site = Site::start().await?;
    let mac = Mac::numbered(1);
    let mut old = Vm::start(mac);
    site.left.plug(&old, "a");
    site.host_of_a("left").await?;
    assert!(is_heard(&mut site.client, &mut old, PATIENCE));
    let behind = |site: &Site| site.fabric.way_to(mac);
    until("the fabric knows where it is", async || {
        behind(&site).as_deref() == Some(site.wires[0].name(1))
    })
    .await;

    // With the collector and without it, to the other host and back.
    let mut new = Vm::start(mac);
    site.right.plug(&new, "a");
    site.waits("right").await?;
    let outage = site
        .outage(&mut new, Speaks::Never, |site| site.left.unplug(&old))
        .await;
    println!("outage of a move: {} ms", outage.as_millis());
    assert!(outage < OUTAGE, "{outage:?}");
    assert_eq!(behind(&site).as_deref(), Some(site.wires[1].name(1)));
    site.fleet.kill(Program::Collector)?;
    drop(old);
    let mut back = Vm::start(mac);
    site.left.plug(&back, "a");
    site.waits("left").await?;
    let outage = site
        .outage(&mut back, Speaks::Never, |site| site.right.unplug(&new))
        .await;
    println!(
        "outage of a move without a collector: {} ms",
        outage.as_millis()
    );
    assert!(outage < OUTAGE, "{outage:?}");
    assert_eq!(behind(&site).as_deref(), Some(site.wires[0].name(1)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_migration_takes_the_port_along_with_its_first_frame_and_no_flap_brings_it_back()
-> Result<()> {
    let name = "a_live_migration_takes_the_port_along_with_its_first_frame";
    if skipped(name) {
        return Ok(());
    }
    let mut site = Site::start().await?;
    let mac = Mac::numbered(1);
    let mut source = Vm::start(mac);
    site.left.plug(&source, "a");
    say(&site.left, &source, "vm-id=vm-1");
    site.host_of_a("left").await?;
    assert!(is_heard(&mut site.client, &mut source, PATIENCE));

    // Another machine of the port's name takes nothing by talking.
    let mut stranger = Vm::start(mac);
    site.right.plug(&stranger, "a");
    say(&site.right, &stranger, "vm-id=vm-2");
    site.waits("right").await?;
    for number in 0..20 {
        stranger.send(&Frame::number(mac, Mac::ALL, number));
        tokio::time::sleep(PACE).await;
    }
    assert!(is_heard(&mut site.client, &mut source, PATIENCE));
    site.right.unplug(&stranger);
    drop(stranger);

    // The destination is silent until it runs; the source's row stays.
    let before = site.claims("right");
    let mut destination = Vm::start(mac);
    let add = ["external_ids:iface-id=a", "external_ids:vm-id=vm-1"];
    plug_with(&site.right, &destination, &add);
    site.waits_again("right", before).await?;
    assert!(is_heard(&mut site.client, &mut source, PATIENCE));
    let outage = site.outage(&mut destination, Speaks::AsQemu, |_| {}).await;
    println!("outage of a live migration: {} ms", outage.as_millis());
    assert!(outage < OUTAGE, "{outage:?}");
    site.host_of_a("right").await?;
    assert_eq!(
        site.fabric.way_to(mac).as_deref(),
        Some(site.wires[1].name(1))
    );

    // It flaps, and what stays at the source gets nothing.
    site.waits("left").await?;
    destination.link(false);
    site.link_of_a("down").await?;
    destination.link(true);
    assert!(is_heard(&mut site.client, &mut destination, PATIENCE));
    site.host_of_a("right").await?;
    site.left.unplug(&source);
    assert!(is_heard(&mut site.client, &mut destination, PATIENCE));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_link_goes_down_or_that_is_said_to_be_stopped_makes_way() -> Result<()> {
    if skipped("a_machine_whose_link_goes_down_or_that_is_said_to_be_stopped_makes_way") {
        return Ok(());
    }
    let mut site = Site::start().await?;
    let mac = Mac::numbered(1);
    let mut one = Vm::start(mac);
    site.left.plug(&one, "a");
    site.host_of_a("left").await?;
    assert!(is_heard(&mut site.client, &mut one, PATIENCE));
    let mut two = Vm::start(mac);
    site.right.plug(&two, "a");
    site.waits("right").await?;
    // Its machine was killed: the device and its row stay, without a link.
    let outage = site
        .outage(&mut two, Speaks::Never, |_| one.link(false))
        .await;
    println!("outage where a link goes down: {} ms", outage.as_millis());
    assert!(outage < OUTAGE, "{outage:?}");
    site.waits("left").await?;
    let before = site.claims("left");
    one.link(true);
    site.waits_again("left", before).await?;
    assert!(is_heard(&mut site.client, &mut two, PATIENCE));
    let interface = two.interface().to_owned();
    let outage = site
        .outage(&mut one, Speaks::Never, |site| {
            let word = "external_ids:dvs-state=stopped";
            let set = ["set", "Interface", &interface, word];
            site.right.ovs.vsctl(&set).unwrap();
        })
        .await;
    println!(
        "outage where a machine is said to be stopped: {} ms",
        outage.as_millis()
    );
    assert!(outage < OUTAGE, "{outage:?}");
    Ok(())
}

/// Plugs a machine in with these words on its interface from the first moment.
fn plug_with(host: &AgentHost, vm: &Vm, words: &[&str]) {
    let interface = vm.interface();
    vm.wire_to(host.ovs.namespace());
    let add = ["--no-wait", "add-port", &host.bridge, interface];
    let set = ["--", "set", "Interface", interface];
    host.ovs.vsctl(&[&add, &set, words].concat()).unwrap();
}
