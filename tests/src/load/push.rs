// SPDX-License-Identifier: Apache-2.0
//! `bench push`: the figures of the main job.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dvs_schemas::codec;
use dvs_schemas::subjects::{CONFIG_APPLY, CONFIG_RESYNC};
use dvs_schemas::v1::ApplyReport;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::floor::{RawCommit, RawHosts};
use super::report::{Figure, Samples};
use crate::fleet::{Fleet, Program, Settings};

/// Sizes of a run. The targets hold for the defaults; smaller ones are for a
/// look in between.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Hosts of the fan-out.
    pub fan_out_hosts: u32,
    /// Hosts of the full state.
    pub full_hosts: u32,
    /// Ports per host of the full state.
    pub ports_per_host: u32,
    /// Times that each thing is done.
    pub rounds: u32,
}

/// Documents per request while a fleet is filled: far below 1 MiB.
const FILL: usize = 2_000;

fn say(text: &str) {
    eprintln!("bench: {text}");
}

async fn start(hosts: u32) -> Result<Fleet> {
    say(&format!("starting {hosts} hosts"));
    Fleet::start(Settings {
        hosts,
        push_timeout: "30s",
        heartbeat: "30s",
        open_bus: true,
        ..Settings::default()
    })
    .await
}

/// Fills a fleet: a switch, a group, and ports on every host.
async fn fill(fleet: &Fleet, hosts: u32, ports_per_host: u32) -> Result<()> {
    say(&format!("placing {} ports", hosts * ports_per_host));
    fleet
        .operator()
        .apply(&json!([
            {"kind": "Switch", "name": "prod"},
            {"kind": "PortGroup", "name": "web", "switch": "prod", "overridable": ["vlan"],
             "policy": {"vlan": {"access": 100}}},
        ]))
        .await?;
    let ports: Vec<Value> = (1..=hosts)
        .flat_map(|host| (0..ports_per_host).map(move |port| port_document(host, port, None)))
        .collect();
    for chunk in ports.chunks(FILL) {
        fleet
            .operator()
            .apply(&json!({"documents": chunk, "wait": "applied", "timeout": "60s"}))
            .await?;
    }
    fleet.in_sync().await
}

fn port_document(host: u32, port: u32, vlan: Option<u16>) -> Value {
    let mut document = json!({"kind": "Port", "name": format!("p-{host}-{port}"),
        "switch": "prod", "group": "web", "host": format!("host-{host}")});
    if let Some(vlan) = vlan {
        document["policy"] = json!({"vlan": {"access": vlan}});
    }
    document
}

/// How long the bus must be without runtime events to count as quiet.
const QUIET: Duration = Duration::from_millis(300);

/// Waits until the hosts have told what a push changed in their ports. A round
/// that began before would be measured together with the one before it.
async fn quiet(fleet: &Fleet) -> Result<()> {
    let mut events = fleet
        .operator()
        .client()
        .subscribe("dvs.v1.event.*.changed")
        .await?;
    while let Ok(Some(_)) = tokio::time::timeout(QUIET, events.next()).await {}
    events.unsubscribe().await?;
    Ok(())
}

/// Sends a request and holds its reply against the number of hosts that must
/// have applied it.
async fn timed(fleet: &Fleet, subject: &str, request: &Value, hosts: u32) -> Result<Duration> {
    let bytes = request.to_string();
    let began = Instant::now();
    let answer = fleet.operator().send(subject, bytes).await?;
    let took = began.elapsed();
    let reply = answer.ok()?;
    if reply["applied"]["applied"] != json!(hosts) {
        bail!("not all of {hosts} hosts applied it: {}", reply["applied"]);
    }
    Ok(took)
}

/// The sizes in bytes of a request to a subject and of one host's answer, as
/// they cross the bus.
async fn sizes(
    fleet: &Fleet,
    subject: &str,
    change: impl AsyncFnOnce() -> Result<()>,
) -> Result<(usize, usize)> {
    let client = fleet.operator().client();
    let mut asked = client.subscribe(subject.to_owned()).await?;
    let mut answered = client.subscribe("dvs.v1.reply.>").await?;
    client.flush().await?;
    change().await?;
    let question = asked.next().await.context("the bus is gone")?;
    // The collector's live reads are answered on such subjects, too.
    let answer = loop {
        let answer = answered.next().await.context("the bus is gone")?;
        if codec::decode::<ApplyReport>(&answer.payload).is_ok() {
            break answer;
        }
    };
    asked.unsubscribe().await?;
    answered.unsubscribe().await?;
    Ok((question.payload.len(), answer.payload.len()))
}

/// A port group's VLAN changed on many hosts.
async fn fan_out(sizes_of_run: Sizes) -> Result<Vec<Figure>> {
    let hosts = sizes_of_run.fan_out_hosts;
    let fleet = start(hosts).await?;
    fill(&fleet, hosts, 1).await?;
    let change = |vlan: u16| {
        json!({"kind": "PortGroup", "name": "web", "switch": "prod", "overridable": ["vlan"],
            "policy": {"vlan": {"access": vlan}}, "wait": "applied", "timeout": "60s"})
    };
    let (question, answer) = sizes(&fleet, "dvs.v1.switch.prod.clobber", async || {
        timed(&fleet, CONFIG_APPLY, &change(101), hosts)
            .await
            .map(|_| ())
    })
    .await?;
    let mut raw = RawHosts::start(&fleet.nats.url(), hosts, answer).await?;
    raw.pipelined(hosts, question).await?;
    say(&format!(
        "VLAN of a port group on {hosts} hosts ({question} bytes out, {answer} back), {} rounds",
        sizes_of_run.rounds
    ));
    let (mut ours, mut scatter, mut pipelined) = Default::default();
    for round in 0..sizes_of_run.rounds {
        let vlan = 200 + u16::try_from(round % 1_000)?;
        Samples::push(
            &mut ours,
            timed(&fleet, CONFIG_APPLY, &change(vlan), hosts).await?,
        );
        quiet(&fleet).await?;
        Samples::push(&mut scatter, raw.scatter(&vec![b's'; question]).await?);
        Samples::push(&mut pipelined, raw.pipelined(hosts, question).await?);
    }
    let what = format!("port group's VLAN on {hosts} hosts");
    Ok(vec![
        Figure::times(&what, &ours, "raw scatter, same bytes", &scatter, 2.0),
        Figure::times(&what, &ours, "raw pipelined requests", &pipelined, 1.0),
    ])
}

/// Full state to many hosts, and one port among all.
async fn full_state(sizes_of_run: Sizes) -> Result<Vec<Figure>> {
    let Sizes {
        full_hosts: hosts,
        ports_per_host,
        rounds,
        fan_out_hosts: _,
    } = sizes_of_run;
    let fleet = start(hosts).await?;
    fill(&fleet, hosts, ports_per_host).await?;
    let resync = json!({"wait": "applied", "timeout": "60s"});
    let (question, answer) = sizes(&fleet, "dvs.v1.agent.*.clobber", async || {
        timed(&fleet, CONFIG_RESYNC, &resync, hosts)
            .await
            .map(|_| ())
    })
    .await?;
    let mut raw = RawHosts::start(&fleet.nats.url(), hosts, answer).await?;
    say(&format!(
        "full state to {hosts} hosts of {ports_per_host} ports ({question} bytes each), {rounds} rounds"
    ));
    let (mut ours, mut pipelined) = Default::default();
    for _ in 0..rounds {
        Samples::push(
            &mut ours,
            timed(&fleet, CONFIG_RESYNC, &resync, hosts).await?,
        );
        Samples::push(&mut pipelined, raw.pipelined(hosts, question).await?);
    }
    let what = format!("full state to {hosts} hosts x {ports_per_host} ports");
    let mut figures = vec![Figure::times(
        &what,
        &ours,
        "raw pipelined requests, same bytes",
        &pipelined,
        2.5,
    )];
    figures.push(one_port(&fleet, &mut raw, sizes_of_run).await?);
    Ok(figures)
}

async fn one_port(fleet: &Fleet, raw: &mut RawHosts, sizes_of_run: Sizes) -> Result<Figure> {
    let Sizes {
        full_hosts: hosts,
        ports_per_host,
        rounds,
        fan_out_hosts: _,
    } = sizes_of_run;
    let times = rounds * 10;
    say(&format!(
        "one port among {}, {times} times",
        hosts * ports_per_host
    ));
    // The floor commits where the fleet's ledgers are.
    let mut commit = RawCommit::start(&fleet.data(Program::Publisher))?;
    let (mut ours, mut floor) = Default::default();
    for n in 0..times {
        let vlan = 300 + u16::try_from(n % 1_000)?;
        let host = n % hosts + 1;
        let mut request = port_document(host, 0, Some(vlan));
        request["wait"] = json!("applied");
        Samples::push(&mut ours, timed(fleet, CONFIG_APPLY, &request, 1).await?);
        let round_trips = raw.round_trip(256).await? + raw.round_trip(256).await?;
        Samples::push(&mut floor, commit.commit()? + round_trips);
    }
    Ok(Figure::times(
        &format!("one port among {}", hosts * ports_per_host),
        &ours,
        "one durable commit + two round trips",
        &floor,
        3.0,
    ))
}

/// Resident memory of one agent with 60 ports, in MB of 10^6 bytes.
async fn memory() -> Result<Figure> {
    let fleet = start(1).await?;
    fill(&fleet, 1, 60).await?;
    let pid = fleet.pid(Program::Agent).context("no agent")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    let megabytes = kib * 1_024.0 / 1_000_000.0;
    Ok(Figure::new(
        "one agent with 60 ports, resident",
        megabytes,
        "15 MB",
        15.0,
        "MB",
        1.0,
    ))
}

/// Measures everything.
///
/// # Errors
/// A fleet did not start, or hosts did not apply what they should.
pub async fn run(sizes: Sizes) -> Result<Vec<Figure>> {
    let mut figures = fan_out(sizes).await?;
    figures.extend(full_state(sizes).await?);
    figures.push(memory().await?);
    Ok(figures)
}
