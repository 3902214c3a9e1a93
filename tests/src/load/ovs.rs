// SPDX-License-Identifier: Apache-2.0
//! `bench ovs`: the figures of the datapath, on real Open vSwitches that
//! forward in user space.

mod plugging;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dvs_ovsdb::testing::Ovs;
use dvs_ovsdb::{Datum, Mutator, Row, Session, Transaction, Wanted, next_cfg};
use dvs_schemas::subjects::{CONFIG_APPLY, CONFIG_RESYNC};
use dvs_schemas::v1::ApplyReport;
use dvs_schemas::{codec, subjects};
use futures_util::StreamExt;
use host_agent::datapath::Write;
use serde_json::{Value, json};
use uuid::Uuid;

use super::report::{Figure, Samples};
use crate::fleet::{Fleet, Settings};
use crate::lan::{AgentHost, Host};

/// Sizes of a run. The targets hold for the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Ports whose VLAN is changed at once.
    pub ports: u32,
    /// Ports of the full push.
    pub full_ports: u32,
    /// Times that each thing is done.
    pub rounds: u32,
}

/// Documents, or interfaces, that are made at once.
const FILL: usize = 1_000;

const PATIENCE: Duration = Duration::from_secs(60);

fn say(text: &str) {
    eprintln!("bench: {text}");
}

/// Measures everything.
///
/// # Errors
/// Something did not start, or did not become as it should.
pub async fn run(sizes: Sizes) -> Result<Vec<Figure>> {
    dvs_ovsdb::testing::available().map_err(anyhow::Error::msg)?;
    let mut figures = vec![change(sizes.ports, sizes.rounds).await?];
    figures.extend(full_push(sizes.full_ports, sizes.rounds).await?);
    figures.extend(plugging::run(sizes.rounds).await?);
    Ok(figures)
}

/// A bus and services with a host on Open vSwitch.
async fn start() -> Result<(Fleet, AgentHost)> {
    let fleet = Fleet::start(Settings {
        // One that the switch does not concern: it says that all is up.
        hosts: 1,
        push_timeout: "30s",
        heartbeat: "30s",
        open_bus: true,
        ..Settings::default()
    })
    .await?;
    let host = AgentHost::start(&fleet, "left", None)?;
    let documents = json!([
        {"kind": "Switch", "name": "prod", "hosts": ["left"]}, group(100),
    ]);
    fleet.operator().apply(&documents).await?;
    fleet.in_sync().await?;
    Ok((fleet, host))
}

fn group(vlan: u16) -> Value {
    json!({"kind": "PortGroup", "name": "web", "switch": "prod",
        "policy": {"vlan": {"access": vlan}}})
}

/// Ports with an interface each. They have rows and numbers like all others,
/// and no device behind: thousands of those would be the kernel's affair.
async fn fill(fleet: &Fleet, host: &AgentHost, ports: u32) -> Result<()> {
    say(&format!("placing {ports} ports with their interfaces"));
    let names: Vec<String> = (0..ports).map(|port| format!("p{port}")).collect();
    for chunk in names.chunks(FILL) {
        interfaces(&host.ovs, &host.bridge, chunk)?;
        let documents: Vec<Value> = chunk
            .iter()
            .map(|name| {
                json!({"kind": "Port", "name": name, "switch": "prod", "group": "web",
                    "host": "left"})
            })
            .collect();
        let request = json!({"documents": documents, "wait": "applied", "timeout": "60s"});
        let reply = fleet.operator().apply(&request).await?;
        if reply["applied"]["applied"] != 1 {
            bail!("the host has not applied its ports: {reply}");
        }
    }
    fleet.in_sync().await
}

fn interfaces(ovs: &Ovs, bridge: &str, ports: &[String]) -> Result<()> {
    let mut words: Vec<String> = Vec::new();
    for port in ports {
        let add = format!(
            "-- add-port {bridge} x{port} -- set Interface x{port} type=dummy \
             external_ids:iface-id={port}"
        );
        words.extend(add.split_whitespace().map(str::to_owned));
    }
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    ovs.vsctl(&words)?;
    Ok(())
}

/// How long the agent takes from a change on the bus to its answer there.
async fn through_agent(fleet: &Fleet, vlan: u16) -> Result<Duration> {
    let client = fleet.operator().client();
    let mut asked = client
        .subscribe(subjects::switch_clobber(&"prod".parse()?))
        .await?;
    let mut answered = client.subscribe("dvs.v1.reply.>").await?;
    client.flush().await?;
    let mut request = group(vlan);
    request["wait"] = json!("applied");
    request["timeout"] = json!("60s");
    let watch = async {
        asked.next().await.context("the bus is gone")?;
        let began = Instant::now();
        loop {
            let answer = answered.next().await.context("the bus is gone")?;
            if codec::decode::<ApplyReport>(&answer.payload).is_ok() {
                return anyhow::Ok(began.elapsed());
            }
        }
    };
    let ask = async { fleet.operator().ask(CONFIG_APPLY, &request).await?.ok() };
    let (took, reply) = tokio::try_join!(watch, ask)?;
    if reply["applied"]["applied"] != 1 {
        bail!("the host has not applied it: {reply}");
    }
    Ok(took)
}

/// A switch that was set up as the agent does, and is changed without one: the
/// rows that differ between two VLANs, as they are for either.
struct Bare {
    // The session ends before the server.
    session: Session,
    root: Uuid,
    versions: [BTreeMap<Uuid, Row>; 2],
    turn: usize,
    _ovs: Ovs,
}

impl Bare {
    async fn start(ports: u32) -> Result<Self> {
        say(&format!("the same {ports} ports on a switch without agent"));
        let host = Host::start().await;
        let names: Vec<String> = (0..ports).map(|port| format!("p{port}")).collect();
        for chunk in names.chunks(FILL) {
            interfaces(&host.ovs, &host.bridge(), chunk)?;
        }
        let wanted = Wanted::new()
            .table("Open_vSwitch", ["next_cfg", "cur_cfg"])
            .table("Port", ["tag", "external_ids"]);
        let mut session = Session::open(&host.ovs.options(wanted)).await?;
        let mut versions = Vec::new();
        for vlan in [101, 102] {
            let spec = host.spec(json!({"vlan": {"access": vlan}}), None);
            let writes: Vec<Write> = names
                .iter()
                .map(|name| host.set(name, spec.clone()))
                .collect();
            for outcome in host.writes(writes).await {
                outcome?;
            }
            session.catch_up().await?;
            versions.push(session.cache().table("Port").clone());
        }
        let root = session.cache().table("Open_vSwitch").keys().next().copied();
        let root = root.context("no row in Open_vSwitch")?;
        let versions = versions.try_into();
        let versions: [BTreeMap<Uuid, Row>; 2] = versions.map_err(|_| anyhow::anyhow!("two"))?;
        Ok(Self {
            session,
            root,
            versions,
            turn: 0,
            // The datapath's own work ends here.
            _ovs: host.ovs,
        })
    }

    /// The transaction that the agent would send, and nothing else.
    async fn change(&mut self) -> Result<Duration> {
        let (is, to) = (1 - self.turn, self.turn);
        self.turn = is;
        let mut transaction = Transaction::new();
        for (uuid, row) in &self.versions[to] {
            let held = &self.versions[is][uuid];
            if held == row {
                continue;
            }
            let column = |row: &Row, name| row.get(name).cloned().unwrap_or(Datum::empty());
            let (old, new) = (column(held, "external_ids"), column(row, "external_ids"));
            let differing: Vec<(&str, &str)> = new
                .map_strings()
                .filter(|(key, value)| old.map_get(key) != Some(value))
                .collect();
            let keys = Datum::set(differing.iter().map(|(key, _)| *key));
            let (table, ids) = ("Port", "external_ids");
            transaction.mutate(table, *uuid, ids, Mutator::Delete, keys);
            transaction.mutate(table, *uuid, ids, Mutator::Insert, Datum::map(differing));
            transaction.update(table, *uuid, Row::from_iter([("tag", column(row, "tag"))]));
        }
        if transaction.is_empty() {
            bail!("no row differs between the two VLANs");
        }
        let began = Instant::now();
        commit(&mut self.session, self.root, transaction).await?;
        Ok(began.elapsed())
    }
}

/// Carries out a transaction and waits until `ovs-vswitchd` has done so, too.
async fn commit(session: &mut Session, root: Uuid, mut transaction: Transaction) -> Result<()> {
    transaction.bump_next_cfg(root);
    let outcomes = session.transact(&transaction).await?;
    let wanted = next_cfg(&outcomes).context("no next_cfg")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let done = session.wait_until(deadline, |cache| {
        let row = cache.row("Open_vSwitch", root);
        row.and_then(|row| row.integer("cur_cfg")) >= Some(wanted)
    });
    if !done.await? {
        bail!("ovs-vswitchd has not carried it out");
    }
    Ok(())
}

async fn change(ports: u32, rounds: u32) -> Result<Figure> {
    let (fleet, host) = start().await?;
    fill(&fleet, &host, ports).await?;
    let mut bare = Bare::start(ports).await?;
    bare.change().await?;
    say(&format!("VLAN of {ports} ports, {rounds} rounds"));
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..rounds {
        let vlan = 200 + u16::try_from(round % 1_000)?;
        ours.push(through_agent(&fleet, vlan).await?);
        floor.push(bare.change().await?);
    }
    Ok(Figure::times(
        &format!("VLAN of {ports} ports through the agent"),
        &ours,
        "the same bare transaction, cur_cfg awaited",
        &floor,
        1.2,
    ))
}

/// Time on a processor that all threads of a process have had.
fn processor_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("no schedstat")?;
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

async fn full_push(ports: u32, rounds: u32) -> Result<Vec<Figure>> {
    let (fleet, host) = start().await?;
    fill(&fleet, &host, ports).await?;
    let resync = json!({"wait": "applied", "timeout": "60s"});
    let push = async || -> Result<()> {
        let reply = fleet.operator().ask(CONFIG_RESYNC, &resync).await?.ok()?;
        if reply["applied"]["applied"] != 1 {
            bail!("the host has not applied it: {reply}");
        }
        Ok(())
    };
    push().await?;
    say(&format!(
        "the full state of {ports} ports, {rounds} times, which changes nothing"
    ));
    let transactions = host.metric("dvs_ovsdb_transactions_total")?;
    let before = processor_time(host.pid())?;
    for _ in 0..rounds {
        push().await?;
    }
    let spent = processor_time(host.pid())? - before;
    let transactions = host.metric("dvs_ovsdb_transactions_total")? - transactions;
    let what = format!("unchanged full push of {ports} ports");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let transactions = transactions as f64;
    Ok(vec![
        Figure::new(
            &format!("{what}, processor time of the agent"),
            spent.as_secs_f64() * 1_000.0 / f64::from(rounds),
            "20 ms",
            20.0,
            "ms",
            1.0,
        ),
        Figure::new(
            &format!("{what}, transactions"),
            transactions,
            "none",
            0.0,
            "",
            1.0,
        ),
    ])
}
