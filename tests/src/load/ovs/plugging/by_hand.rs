// SPDX-License-Identifier: Apache-2.0
//! What plugging comes to for one who knows beforehand which rows and rules it
//! takes and owes nobody a word: the floor of what the agent does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dvs_openflow::{Flow, FlowKey, FlowMod, Selection};
use dvs_ovsdb::{Cache, Datum, Row, Session, Wanted};
use serde_json::json;

use super::{heard, named, plug};
use crate::lan::{Host, Mac, Vm};
use crate::load::ovs::{PATIENCE, say};

/// Columns that the agent writes, or may write.
const PORT: [&str; 6] = [
    "name",
    "tag",
    "trunks",
    "vlan_mode",
    "external_ids",
    "other_config",
];
const INTERFACE: [&str; 5] = [
    "name",
    "external_ids",
    "other_config",
    "mtu_request",
    "ofport_request",
];

/// A switch that was set up by the agent's datapath, and is changed by hand.
pub(super) struct ByHand {
    // Sessions and machines end before the switch.
    hand: Hand,
    vm: Vm,
    hears: Vm,
    sent: u64,
    _host: Host,
}

/// Who changes it.
struct Hand {
    session: Session,
    openflow: dvs_openflow::Session,
    bridge: String,
    port: Row,
    interface: Row,
    /// What the rules of the port are, and how they go again.
    rules: [Vec<FlowMod>; 2],
}

impl ByHand {
    /// Lets the datapath wire a port, and remembers what that came to.
    pub(super) async fn start() -> Result<Self> {
        say("a port is wired once, to be wired by hand");
        let mut host = Host::start().await;
        let policy = || json!({"vlan": {"access": 100}});
        let hears = host.vm(5, "c", policy()).await;
        let vm = Vm::start(Mac::numbered(6));
        vm.wire_to(host.ovs.namespace());
        host.port("d", policy(), None).await?;
        let bridge = host.bridge();
        let socket = host.ovs.run_dir().join(format!("{bridge}.mgmt"));
        let mut openflow = dvs_openflow::Session::open(&socket, PATIENCE).await?;
        let without = flows(&mut openflow).await?;
        let wanted = Wanted::new()
            .table("Open_vSwitch", ["next_cfg", "cur_cfg"])
            .table("Bridge", ["name"])
            .table("Port", PORT)
            .table(
                "Interface",
                [
                    "name",
                    "external_ids",
                    "other_config",
                    "mtu_request",
                    "ofport_request",
                    "ofport",
                ],
            );
        let mut session = Session::open(&host.ovs.options(wanted)).await?;
        let name = vm.interface().to_owned();
        let row = Row::from_iter([("name", Datum::from(name.as_str()))]);
        let mut interface = row.clone();
        interface.set("external_ids", Datum::map([("iface-id", "d")]));
        let transaction = plug(session.cache(), &bridge, row, interface)?;
        session.transact(&transaction).await?;
        host.linked("d", dvs_schemas::v1::Link::Up).await;
        session.catch_up().await?;
        let (_, port) = named(session.cache(), "Port", &name)?;
        let port = Row::from_iter(columns(port, &PORT));
        let (_, row) = named(session.cache(), "Interface", &name)?;
        let mut interface = Row::from_iter(columns(row, &INTERFACE));
        // The rules name it, so it is to have the same number again.
        let number = row.integer("ofport").context("no number")?;
        interface.set("ofport_request", number);
        let with = flows(&mut openflow).await?;
        let rules = [changes(&without, &with), changes(&with, &without)];
        host.kill_agent().await;
        let mut hand = Hand {
            session,
            openflow,
            bridge,
            port,
            interface,
            rules,
        };
        hand.unwire(&host, &vm).await?;
        Ok(Self {
            hand,
            vm,
            hears,
            sent: 0,
            _host: host,
        })
    }

    /// Wires the port and takes it away again; how long the first took until
    /// frames passed.
    pub(super) async fn round(self) -> Result<(Self, Duration)> {
        let Self {
            mut hand,
            mut vm,
            mut hears,
            mut sent,
            _host: host,
        } = self;
        hears.drain();
        let began = Instant::now();
        // Frames are sent and heard meanwhile, as they are beside an agent.
        let wiring = tokio::spawn(async move {
            hand.wire().await?;
            anyhow::Ok(hand)
        });
        let took = heard(began, &mut vm, &mut hears, &mut sent)?;
        hand = wiring.await??;
        hand.unwire(&host, &vm).await?;
        let it = Self {
            hand,
            vm,
            hears,
            sent,
            _host: host,
        };
        Ok((it, took))
    }
}

impl Hand {
    /// Rows, then the rules as soon as the interface has its number.
    async fn wire(&mut self) -> Result<()> {
        let (port, interface) = (self.port.clone(), self.interface.clone());
        let transaction = plug(self.session.cache(), &self.bridge, port, interface)?;
        self.session.transact(&transaction).await?;
        let name = self.interface.str("name").context("no name")?.to_owned();
        let numbered = |cache: &Cache| {
            let interface = named(cache, "Interface", &name);
            interface.is_ok_and(|(_, row)| row.integer("ofport").is_some())
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        if !self.session.wait_until(deadline, numbered).await? {
            bail!("the interface gets no number");
        }
        self.openflow.apply(&self.rules[0]).await?;
        Ok(())
    }

    async fn unwire(&mut self, host: &Host, vm: &Vm) -> Result<()> {
        host.unplug(vm);
        self.session.catch_up().await?;
        self.openflow.apply(&self.rules[1]).await?;
        Ok(())
    }
}

fn columns<'a>(row: &Row, names: &[&'a str]) -> Vec<(&'a str, Datum)> {
    let column = |name: &&'a str| Some((*name, row.get(name)?.clone()));
    names.iter().filter_map(column).collect()
}

/// What a bridge forwards by, without what it learnt.
async fn flows(openflow: &mut dvs_openflow::Session) -> Result<BTreeMap<FlowKey, Flow>> {
    let held = openflow.flows(&Selection::default()).await?;
    let flows = held.into_iter().map(|held| held.flow);
    let flows = flows.filter(|flow| flow.idle_timeout == 0);
    Ok(flows.map(|flow| (flow.key(), flow)).collect())
}

fn changes(from: &BTreeMap<FlowKey, Flow>, to: &BTreeMap<FlowKey, Flow>) -> Vec<FlowMod> {
    let stale = from.keys().filter(|key| !to.contains_key(key));
    let fresh = to.iter().filter(|(key, flow)| from.get(key) != Some(flow));
    stale
        .map(|key| FlowMod::Delete(key.clone()))
        .chain(fresh.map(|(_, flow)| FlowMod::Add(flow.clone())))
        .collect()
}
