// SPDX-License-Identifier: Apache-2.0
//! Ports that live: through power-off, moves and the death of hosts, with what
//! they were told of and counted, on a real bus. The hosts' datapaths are
//! emulated, so that the test is their VMs.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::Subscriber;
use dvs_schemas::subjects;
use dvs_schemas::v1::Link;
use dvs_tests::fleet::{Fleet, Program, Settings};
use dvs_tests::machines::{Machines, SETTLE};
use futures_util::StreamExt;
use serde_json::{Value, json};

/// The services, and no hosts yet.
async fn services() -> Result<Fleet> {
    let mut fleet = Fleet::bus_only(Settings {
        open_bus: true,
        push_timeout: "2s",
        publisher: ["--take-over", "1s"].map(str::to_owned).into(),
        ..Settings::default()
    })
    .await?;
    for program in [Program::Retry, Program::Publisher, Program::Collector] {
        fleet.launch(program)?;
    }
    let hosts = async |operator: &dvs_tests::operator::Operator| {
        operator.out_of_sync().await?;
        operator.runtime().await?;
        operator.hosts().await
    };
    fleet.until("the services", hosts, |_| true).await?;
    Ok(fleet)
}

/// A switch for all hosts, and ports that are on none.
async fn site(fleet: &Fleet, hosts: usize, ports: &[&str]) -> Result<()> {
    let known = async |operator: &dvs_tests::operator::Operator| operator.hosts().await;
    fleet
        .until("the hosts", known, |known| known.len() == hosts)
        .await?;
    let mut documents = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod",
               "policy": {"vlan": {"access": 10}}}),
    ];
    documents.extend(
        ports
            .iter()
            .map(|port| json!({"kind": "Port", "name": port, "switch": "prod", "group": "web"})),
    );
    let reply = fleet
        .operator()
        .apply_and_wait(Value::Array(documents), "20s")
        .await?;
    assert_eq!(reply["applied"]["applied"], hosts, "{reply}");
    Ok(())
}

/// Waits until a port is on that host, or on none; gives its epoch.
async fn on(fleet: &Fleet, port: &str, host: Option<&str>) -> Result<u64> {
    let find = |objects: &Vec<Value>| {
        let mut objects = objects.iter();
        objects
            .find(|object| object["document"]["name"] == port)
            .cloned()
            .unwrap()
    };
    let objects = fleet
        .until(
            &format!("port {port} on {host:?}"),
            async |operator| operator.objects().await,
            |objects| find(objects)["document"]["host"].as_str() == host,
        )
        .await?;
    Ok(find(&objects)["epoch"].as_u64().unwrap())
}

/// Waits until what the collector has of a port is as wanted.
async fn record(fleet: &Fleet, port: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    fleet
        .until(
            &format!("what is known of {port}"),
            async |operator| {
                let question = json!({"port": port});
                let answer = operator.ask(subjects::RUNTIME_GET, &question).await?;
                Ok(answer.body)
            },
            wanted,
        )
        .await
}

fn total(record: &Value) -> u64 {
    record["total"]["ingress_packets"].as_u64().unwrap_or(0)
}

async fn ask(fleet: &Fleet, subject: &str, question: Value) -> Result<Value> {
    fleet.operator().ask(subject, &question).await?.ok()
}

async fn refusal(fleet: &Fleet, subject: &str, question: Value) -> Result<String> {
    let problem = fleet.operator().ask(subject, &question).await?.problem()?;
    Ok(problem["message"].as_str().unwrap().to_owned())
}

/// Events that came since this was last asked, but heartbeats.
fn events(subscriber: &mut Subscriber) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while let Some(Some(message)) = futures_util::FutureExt::now_or_never(subscriber.next()) {
        let verb = message.subject.rsplit('.').next().unwrap().to_owned();
        if verb != "heartbeat" {
            events.push((verb, serde_json::from_slice(&message.payload).unwrap()));
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_keeps_its_vnic_and_its_counters_while_its_vm_is_off_and_elsewhere() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1", "h2"]).await?;
    site(&fleet, 2, &["vm-1"]).await?;
    let connect = |vnic: &str| json!({"port": "vm-1", "vnic": vnic});
    ask(&fleet, subjects::PORT_CONNECT, connect("vm-1/eth0")).await?;

    machines.plug("h1", "vm-1")?;
    let first = on(&fleet, "vm-1", Some("h1")).await?;
    let up = |record: &Value| record["state"]["link"] == "up";
    let before = record(&fleet, "vm-1", up).await?;
    assert_eq!(before["state"]["epoch"], first);
    assert_eq!(before["state"]["vlan"], json!({"access": 10}));

    // Powered off: the port is released at once, and its final counters follow.
    machines.traffic("h1", "vm-1", 100).await?;
    machines.unplug("h1", "vm-1")?;
    on(&fleet, "vm-1", None).await?;
    let is_final = |record: &Value| record["state"].is_null() && total(record) > 0;
    let off = record(&fleet, "vm-1", is_final).await?;
    assert_eq!(total(&off), 100);
    fleet.in_sync().await?;
    assert!(!machines.has("h1", "vm-1")?);
    let held = refusal(&fleet, subjects::PORT_CONNECT, connect("vm-2/eth0")).await?;
    assert!(held.contains("vm-1/eth0"), "{held}");

    // Powered on elsewhere.
    machines.plug("h2", "vm-1")?;
    let second = on(&fleet, "vm-1", Some("h2")).await?;
    assert!(second > first);
    record(&fleet, "vm-1", up).await?;
    machines.traffic("h2", "vm-1", 50).await?;
    let settled = record(&fleet, "vm-1", |record| total(record) >= 150).await?;
    assert_eq!((total(&settled), &settled["host"]), (150, &json!("h2")));

    // Migrated: plugged in there while still here.
    machines.plug("h1", "vm-1")?;
    tokio::time::sleep(SETTLE).await;
    assert_eq!(on(&fleet, "vm-1", Some("h2")).await?, second);
    machines.traffic("h2", "vm-1", 7).await?;
    machines.unplug("h2", "vm-1")?;
    let third = on(&fleet, "vm-1", Some("h1")).await?;
    assert!(third > second);
    record(&fleet, "vm-1", |record| {
        total(record) == 157 && record["host"] == "h1" && up(record)
    })
    .await?;
    fleet.in_sync().await?;
    assert_eq!(
        (machines.has("h1", "vm-1")?, machines.has("h2", "vm-1")?),
        (true, false)
    );

    // Another vNIC, after an explicit disconnect.
    ask(&fleet, subjects::PORT_DISCONNECT, json!({"port": "vm-1"})).await?;
    ask(&fleet, subjects::PORT_CONNECT, connect("vm-2/eth0")).await?;
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_connects_at_once_one_wins_and_the_other_is_told_who() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1"]).await?;
    let connect = async |n: u32| {
        let vnic = format!("vm-{n}/eth0");
        let request = json!({"port": "vm-1", "vnic": vnic});
        let answer = fleet.operator().ask(subjects::PORT_CONNECT, &request).await;
        (vnic, answer.unwrap())
    };
    let tries: Vec<_> = futures_util::future::join_all((0..16).map(connect)).await;
    let (won, lost): (Vec<_>, Vec<_>) = tries
        .into_iter()
        .partition(|(_, answer)| answer.error_code.is_none());
    assert_eq!(won.len(), 1, "{won:?}");
    for (_, answer) in lost {
        let message = answer.problem()?["message"].to_string();
        assert!(message.contains(&won[0].0), "{message}");
    }
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rare_change_is_one_event_and_busy_counters_are_one_when_they_settle() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1", "h2"]).await?;
    site(&fleet, 2, &["vm-1", "vm-2"]).await?;
    ask(
        &fleet,
        subjects::PORT_CONNECT,
        json!({"port": "vm-1", "vnic": "vm-1/eth0", "host": "h1", "wait": "applied"}),
    )
    .await?;
    record(&fleet, "vm-1", |record| record["state"]["link"] == "up").await?;
    tokio::time::sleep(SETTLE * 2).await;
    let mut heard = fleet
        .operator()
        .client()
        .subscribe("dvs.v1.event.>")
        .await?;
    fleet.operator().client().flush().await?;

    // Rare: its VLAN.
    let group = json!([{"kind": "PortGroup", "name": "web", "switch": "prod",
                        "policy": {"vlan": {"access": 20}}}]);
    fleet.operator().apply_and_wait(group, "20s").await?;
    record(&fleet, "vm-1", |record| {
        record["state"]["vlan"]["access"] == 20
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = events(&mut heard);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "changed");
    assert_eq!(told[0].1["ports"][0]["vlan"]["access"], 20);

    // Busy: its counters, while frames pass; the store is as it was, and the
    // host says what is so when it is asked.
    let before = record(&fleet, "vm-1", |_| true).await?;
    let mut live = Vec::new();
    for round in 0..30 {
        machines.traffic("h1", "vm-1", 10).await?;
        tokio::time::sleep(SETTLE / 20).await;
        if round % 10 == 9 {
            let now = ask(&fleet, subjects::RUNTIME_LIVE, json!({"port": "vm-1"})).await?;
            live.push(
                now["counters"][0]["counters"]["ingress_packets"]
                    .as_u64()
                    .unwrap(),
            );
        }
    }
    assert_eq!(events(&mut heard), [], "while it moves");
    assert_eq!(live, [100, 200, 300]);
    assert_eq!(record(&fleet, "vm-1", |_| true).await?, before);
    record(&fleet, "vm-1", |record| total(record) == 300).await?;
    tokio::time::sleep(SETTLE * 2).await;
    let told = events(&mut heard);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, "settled");
    assert_eq!(told[0].1["counters"][0]["counters"]["ingress_packets"], 300);

    // A link that goes down settles at once.
    machines.traffic("h1", "vm-1", 5).await?;
    machines.link("h1", "vm-1", Link::Down)?;
    record(&fleet, "vm-1", |record| {
        total(record) == 305 && record["state"]["link"] == "down"
    })
    .await?;
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_notify_mode_events_carry_no_values_and_the_store_is_the_same() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1", "vm-2"]).await?;
    let live = async |port: &str, packets: u64| -> Result<Value> {
        let vnic = format!("{port}/eth0");
        ask(
            &fleet,
            subjects::PORT_CONNECT,
            json!({"port": port, "vnic": vnic, "host": "h1", "wait": "applied"}),
        )
        .await?;
        record(&fleet, port, |record| record["state"]["link"] == "up").await?;
        machines.traffic("h1", port, packets).await?;
        machines.link("h1", port, Link::Down)?;
        let known = record(&fleet, port, |record| {
            total(record) == packets && record["state"]["link"] == "down"
        })
        .await?;
        Ok(json!([
            known["state"]["vlan"],
            known["state"]["link"],
            known["total"]
        ]))
    };
    let pushed = live("vm-1", 40).await?;
    let settings = json!([{"kind": "Switch", "name": "prod", "runtime": {"mode": "notify"}}]);
    fleet.operator().apply_and_wait(settings, "20s").await?;
    let mut heard = fleet
        .operator()
        .client()
        .subscribe("dvs.v1.event.>")
        .await?;
    fleet.operator().client().flush().await?;
    assert_eq!(live("vm-2", 40).await?, pushed);
    let told = events(&mut heard);
    assert!(!told.is_empty());
    for (verb, event) in told {
        assert_eq!(
            (verb.as_str(), &event["ports"]),
            ("notice", &json!(["vm-2"]))
        );
        let text = event.to_string();
        assert!(
            !text.contains("link") && !text.contains("packets"),
            "{text}"
        );
    }
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_the_collector_was_dead_is_known_when_it_is_back() -> Result<()> {
    let mut fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1"]).await?;
    machines.plug("h1", "vm-1")?;
    on(&fleet, "vm-1", Some("h1")).await?;
    record(&fleet, "vm-1", |record| !record["state"].is_null()).await?;
    fleet.kill(Program::Collector)?;
    machines.traffic("h1", "vm-1", 30).await?;
    machines.unplug("h1", "vm-1")?;
    // A collector that is away keeps no machine from being started elsewhere.
    on(&fleet, "vm-1", None).await?;
    machines.plug("h1", "vm-1")?;
    on(&fleet, "vm-1", Some("h1")).await?;
    machines.traffic("h1", "vm-1", 4).await?;
    fleet.launch(Program::Collector)?;
    record(&fleet, "vm-1", |record| total(record) == 34).await?;
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_hosts_port_is_taken_over_and_the_host_forgotten() -> Result<()> {
    let fleet = services().await?;
    let dies = Machines::start(&fleet, &["h1"]).await?;
    let lives = Machines::start(&fleet, &["h2"]).await?;
    site(&fleet, 2, &["vm-1", "vm-2"]).await?;
    dies.plug("h1", "vm-1")?;
    dies.plug("h1", "vm-2")?;
    let first = on(&fleet, "vm-1", Some("h1")).await?;
    on(&fleet, "vm-2", Some("h1")).await?;
    record(&fleet, "vm-2", |record| !record["state"].is_null()).await?;
    // While it lives it keeps what it holds.
    lives.plug("h2", "vm-1")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(on(&fleet, "vm-1", Some("h1")).await?, first);
    let there = refusal(&fleet, subjects::HOST_FORGET, json!({"host": "h1"})).await?;
    assert!(there.contains("is there"), "{there}");

    dies.traffic("h1", "vm-1", 10).await?;
    record(&fleet, "vm-1", |record| total(record) == 10).await?;
    // It dies without a word: what has not settled yet dies with it, and no
    // more than that.
    dies.traffic("h1", "vm-1", 5).await?;
    dies.stop().await?;
    let second = on(&fleet, "vm-1", Some("h2")).await?;
    assert!(second > first);
    lives.traffic("h2", "vm-1", 7).await?;
    let counted = record(&fleet, "vm-1", |record| {
        record["host"] == "h2" && record["counters"]["ingress_packets"] == 7
    })
    .await?;
    assert_eq!(total(&counted), 17);
    let rips = async |operator: &dvs_tests::operator::Operator| operator.rip_queue().await;
    let rip = fleet
        .until("the removal from the dead host", rips, |rips| {
            !rips.is_empty()
        })
        .await?;
    assert_eq!(
        (&rip[0]["host"], &rip[0]["port"]),
        (&json!("h1"), &json!("vm-1"))
    );

    let reply = ask(&fleet, subjects::HOST_FORGET, json!({"host": "h1"})).await?;
    assert_eq!(reply["ports"], 1, "{reply}");
    on(&fleet, "vm-2", None).await?;
    fleet
        .until("the end of its entries", rips, Vec::is_empty)
        .await?;
    assert_eq!(fleet.operator().out_of_sync().await?, Vec::<Value>::new());
    assert_eq!(fleet.operator().hosts().await?.len(), 1);
    // The collector knows, too.
    let last = record(&fleet, "vm-2", |record| record["state"].is_null()).await?;
    assert_eq!(last["host"], "h1");
    let sums = ask(&fleet, subjects::RUNTIME_ROLLUP, json!({"by": "host"})).await?;
    let keys: Vec<&Value> = sums["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["key"])
        .collect();
    assert_eq!(keys, [&json!({"host": "h2"})]);

    // It comes back all the same, with what it had: that goes.
    let back = Machines::start(&fleet, &["h1"]).await?;
    let known = async |operator: &dvs_tests::operator::Operator| operator.hosts().await;
    fleet
        .until("the host again", known, |known| known.len() == 2)
        .await?;
    fleet.in_sync().await?;
    assert!(!back.has("h1", "vm-1")? && !back.has("h1", "vm-2")?);
    back.stop().await?;
    lives.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_outlives_the_publisher_and_gets_the_port_with_the_release() -> Result<()>
{
    let mut fleet = services().await?;
    let holder = Machines::start(&fleet, &["h1"]).await?;
    let waiting = Machines::start(&fleet, &["h2"]).await?;
    site(&fleet, 2, &["vm-1"]).await?;
    holder.plug("h1", "vm-1")?;
    let first = on(&fleet, "vm-1", Some("h1")).await?;
    waiting.plug("h2", "vm-1")?;
    tokio::time::sleep(SETTLE).await;
    fleet.kill(Program::Publisher)?;
    fleet.launch(Program::Publisher)?;
    // The holder lives and keeps it.
    assert_eq!(on(&fleet, "vm-1", Some("h1")).await?, first);
    holder.unplug("h1", "vm-1")?;
    // The claim is repeated within a minute.
    let second = on(&fleet, "vm-1", Some("h2")).await?;
    assert!(second > first);
    waiting.traffic("h2", "vm-1", 3).await?;
    fleet.in_sync().await?;
    assert!(!holder.has("h1", "vm-1")?);
    holder.stop().await?;
    waiting.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_back_before_the_removal_ran_cancels_it() -> Result<()> {
    let fleet = services().await?;
    let away = Machines::start(&fleet, &["h1"]).await?;
    let here = Machines::start(&fleet, &["h2"]).await?;
    site(&fleet, 2, &["vm-1"]).await?;
    let move_to = async |host: &str, wait: Value| {
        let request = json!({"port": "vm-1", "host": host, "wait": wait});
        ask(&fleet, subjects::PORT_MOVE, request).await
    };
    move_to("h1", json!("applied")).await?;
    assert!(away.has("h1", "vm-1")?);
    away.stop().await?;
    move_to("h2", json!("committed")).await?;
    let rips = async |operator: &dvs_tests::operator::Operator| operator.rip_queue().await;
    fleet
        .until("the removal that can't be", rips, |rips| rips.len() == 1)
        .await?;
    assert!(here.has("h2", "vm-1")?);
    move_to("h1", json!("committed")).await?;
    fleet.until("its end", rips, Vec::is_empty).await?;
    let back = Machines::start(&fleet, &["h1"]).await?;
    fleet.in_sync().await?;
    assert_eq!(
        (back.has("h1", "vm-1")?, here.has("h2", "vm-1")?),
        (true, false)
    );
    back.stop().await?;
    here.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_restores_its_ports_without_a_bus_and_tells_what_happened_meanwhile() -> Result<()> {
    let mut fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1"]).await?;
    ask(
        &fleet,
        subjects::PORT_CONNECT,
        json!({"port": "vm-1", "vnic": "vm-1/eth0", "host": "h1", "wait": "applied"}),
    )
    .await?;
    record(&fleet, "vm-1", |record| record["state"]["link"] == "up").await?;

    fleet.nats.stop()?;
    let machines = machines.reboot(&fleet).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !machines.has("h1", "vm-1")? {
        assert!(Instant::now() < deadline, "not restored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let writes = machines.writes("h1")?;
    machines.traffic("h1", "vm-1", 12).await?;
    machines.link("h1", "vm-1", Link::Down)?;
    fleet.nats.restart()?;
    record(&fleet, "vm-1", |record| {
        record["state"]["link"] == "down" && total(record) == 12
    })
    .await?;
    fleet.in_sync().await?;
    assert_eq!(machines.writes("h1")?, writes, "it was true already");
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_one_switch_writes_nothing_in_another() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1"]).await?;
    let lab = |vlan: u16| {
        json!([
            {"kind": "Switch", "name": "lab", "uplinks": ["eth2"]},
            {"kind": "PortGroup", "name": "web", "switch": "lab",
             "policy": {"vlan": {"access": vlan}}},
            {"kind": "Port", "name": "lab-1", "switch": "lab", "group": "web", "host": "h1"},
            {"kind": "Port", "name": "vm-1", "switch": "prod", "group": "web", "host": "h1"},
        ])
    };
    fleet.operator().apply_and_wait(lab(30), "20s").await?;
    let (writes, before) = (machines.writes("h1")?, machines.picture("h1")?);
    fleet.operator().apply_and_wait(lab(31), "20s").await?;
    assert_eq!(machines.writes("h1")?, writes + 1, "one port of one switch");
    let after = machines.picture("h1")?;
    assert_eq!(after.get("prod"), before.get("prod"));
    assert_ne!(after.get("lab"), before.get("lab"));
    machines.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_user_calls_busy_is_told_when_it_has_stopped_changing() -> Result<()> {
    let fleet = services().await?;
    let machines = Machines::start(&fleet, &["h1"]).await?;
    site(&fleet, 1, &["vm-1"]).await?;
    ask(
        &fleet,
        subjects::PORT_CONNECT,
        json!({"port": "vm-1", "vnic": "vm-1/eth0", "host": "h1", "wait": "applied"}),
    )
    .await?;
    record(&fleet, "vm-1", |record| record["state"]["link"] == "up").await?;
    let classes = json!([{"kind": "Switch", "name": "prod",
                          "runtime": {"classes": {"link": "busy"}}}]);
    fleet.operator().apply_and_wait(classes, "20s").await?;
    tokio::time::sleep(SETTLE * 2).await;
    let mut heard = fleet
        .operator()
        .client()
        .subscribe("dvs.v1.event.*.changed")
        .await?;
    fleet.operator().client().flush().await?;
    for _ in 0..10 {
        for link in [Link::Down, Link::Up] {
            machines.link("h1", "vm-1", link)?;
            tokio::time::sleep(SETTLE / 10).await;
        }
    }
    machines.link("h1", "vm-1", Link::Down)?;
    record(&fleet, "vm-1", |record| record["state"]["link"] == "down").await?;
    let told = events(&mut heard);
    assert_eq!(told.len(), 1, "{told:?}");
    machines.stop().await
}
