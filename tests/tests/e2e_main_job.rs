// SPDX-License-Identifier: Apache-2.0
//! The main job over a plain connection: inject a configuration, every host
//! makes it true, and the replies say so.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use dvs_schemas::subjects::{CONFIG_APPLY, CONFIG_DELETE};
use dvs_tests::fleet::{Fleet, Program, Settings};
use dvs_tests::operator::Operator;
use futures_util::StreamExt;
use serde_json::{Value, json};

fn prod() -> Value {
    json!([
        {"kind": "Switch", "name": "prod", "mtu": 9000, "uplinks": ["eth1"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod",
         "policy": {"vlan": {"access": 100}}, "overridable": ["vlan", "blocked"]},
        {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "host-1"},
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "host-2"},
        {"kind": "Port", "name": "web-3", "switch": "prod", "group": "web", "host": "host-3",
         "policy": {"vlan": {"access": 7}}},
    ])
}

async fn fleet(hosts: u32) -> Result<Fleet> {
    Fleet::start(Settings {
        hosts,
        push_timeout: "2s",
        ..Settings::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_configuration_is_true_on_every_host_and_layers_merge_there() -> Result<()> {
    let fleet = fleet(5).await?;
    let reply = fleet.operator().apply_and_wait(prod(), "20s").await?;
    assert_eq!(reply["revision"], 1);
    assert_eq!(reply["changed"].as_array().unwrap().len(), 5);
    assert_eq!(reply["applied"]["hosts"], 5);
    assert_eq!(reply["applied"]["applied"], 5);

    let changed = json!({"kind": "PortGroup", "name": "web", "switch": "prod",
        "policy": {"vlan": {"access": 200}}, "overridable": ["vlan", "blocked"], "wait": "applied"});
    let reply = fleet.operator().apply(&changed).await?;
    assert_eq!(reply["revision"], 2);
    assert_eq!(
        reply["changed"],
        json!([{"kind": "PortGroup", "name": "web", "switch": "prod",
                "operation": "updated", "fields": ["policy.vlan"]}])
    );
    let vlans = fleet.live_vlans().await?;
    assert_eq!(vlans["web-1"], json!({"access": 200}));
    assert_eq!(vlans["web-2"], json!({"access": 200}));
    assert_eq!(vlans["web-3"], json!({"access": 7}), "its own override");

    // The same again changes nothing and commits nothing.
    let again = fleet.operator().apply(&changed).await?;
    assert_eq!(again["revision"], 2);
    assert_eq!(again["changed"], json!([]));
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn message_pack_is_answered_in_message_pack_and_json_in_json() -> Result<()> {
    let fleet = fleet(1).await?;
    let document = json!({"kind": "Switch", "name": "prod"});
    let answer = fleet
        .operator()
        .send(CONFIG_APPLY, rmp_serde::to_vec_named(&document)?)
        .await?;
    assert!((0x80..=0x8f).contains(&answer.raw[0]), "{:?}", answer.raw);
    assert_eq!(answer.ok()?["revision"], 1);
    let answer = fleet.operator().ask(CONFIG_APPLY, &document).await?;
    assert_eq!(answer.raw[0], b'{');
    assert_eq!(answer.ok()?["revision"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_of_its_own_ports_and_of_nothing_else() -> Result<()> {
    let fleet = fleet(3).await?;
    fleet.operator().apply_and_wait(prod(), "20s").await?;
    let vlans = fleet.live_vlans().await?;
    assert_eq!(
        vlans.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(["web-1", "web-2", "web-3"]),
        "each port on exactly one host"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_the_hosts_and_writes_nothing_anywhere() -> Result<()> {
    let fleet = fleet(3).await?;
    fleet.operator().apply_and_wait(prod(), "20s").await?;
    let before = (fleet.operator().objects().await?, fleet.live_vlans().await?);
    let reply = fleet
        .operator()
        .apply(
            &json!({"kind": "PortGroup", "name": "web", "switch": "prod",
            "policy": {"vlan": {"access": 200}}, "overridable": ["vlan", "blocked"],
            "dry_run": true}),
        )
        .await?;
    assert_eq!(reply["dry_run"], true);
    assert_eq!(reply["revision"], 1);
    assert_eq!(reply["hosts"], 3);
    assert_eq!(reply["unchanged"], 1, "web-3 overrides the VLAN: {reply}");
    let plans = reply["plans"].as_array().unwrap();
    assert_eq!(plans.len(), 2, "{reply}");
    for plan in plans {
        let change = plan["changes"].to_string();
        assert!(change.contains("100") && change.contains("200"), "{plan}");
    }
    let after = (fleet.operator().objects().await?, fleet.live_vlans().await?);
    assert_eq!(after, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_update_is_refused_by_if_revision() -> Result<()> {
    let fleet = fleet(1).await?;
    let group = |vlan: u16, if_revision: u64| {
        json!({"kind": "PortGroup", "name": "web", "switch": "prod",
            "policy": {"vlan": {"access": vlan}}, "if_revision": if_revision})
    };
    fleet
        .operator()
        .apply(&json!({"kind": "Switch", "name": "prod"}))
        .await?;
    fleet.operator().apply(&group(100, 1)).await?;
    let answer = fleet.operator().ask(CONFIG_APPLY, &group(101, 1)).await?;
    assert_eq!(answer.error_code.as_deref(), Some("409"));
    let problem = answer.problem()?;
    assert!(problem.to_string().contains('2'), "{problem}");
    let reply = fleet.operator().apply(&group(101, 2)).await?;
    assert_eq!(reply["revision"], 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_host_is_named_by_the_wait_and_in_sync_by_itself_when_it_comes_back() -> Result<()>
{
    let mut fleet = fleet(2).await?;
    fleet
        .operator()
        .apply_and_wait(prod_for_two(100), "20s")
        .await?;
    fleet.kill(Program::Agent)?;
    let reply = fleet
        .operator()
        .apply_and_wait(prod_for_two(200), "10s")
        .await?;
    assert_eq!(reply["applied"]["applied"], 0, "{reply}");
    let lagging: Vec<&str> = reply["applied"]["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| outcome["host"].as_str().unwrap())
        .collect();
    assert_eq!(lagging, ["host-1", "host-2"], "{reply}");
    let entries = fleet
        .until(
            "both hosts out of sync",
            async |operator| operator.out_of_sync().await,
            |entries| entries.len() == 2,
        )
        .await?;
    for entry in &entries {
        assert_eq!(entry["switch"], "prod", "{entry}");
        for field in ["since", "attempts", "last_error", "next_try", "revision"] {
            assert!(!entry[field].is_null(), "{field} in {entry}");
        }
    }
    // More changes cost no more entries.
    for vlan in 300..305 {
        fleet.operator().apply(&prod_for_two(vlan)).await?;
    }
    assert_eq!(fleet.operator().out_of_sync().await?.len(), 2);
    fleet.launch(Program::Agent)?;
    fleet.in_sync().await?;
    let vlans = fleet.live_vlans().await?;
    assert_eq!(vlans["web-1"], json!({"access": 304}));
    Ok(())
}

fn prod_for_two(vlan: u16) -> Value {
    json!([
        {"kind": "Switch", "name": "prod"},
        {"kind": "PortGroup", "name": "web", "switch": "prod", "policy": {"vlan": {"access": vlan}}},
        {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web", "host": "host-1"},
        {"kind": "Port", "name": "web-2", "switch": "prod", "group": "web", "host": "host-2"},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_is_in_the_rip_queue_until_it_is_done() -> Result<()> {
    let mut fleet = fleet(2).await?;
    fleet
        .operator()
        .apply_and_wait(prod_for_two(100), "20s")
        .await?;
    fleet.kill(Program::Agent)?;
    fleet
        .operator()
        .ask(CONFIG_DELETE, &json!({"kind": "Port", "name": "web-1"}))
        .await?
        .ok()?;
    let entries = fleet
        .until(
            "the removal in the rip queue",
            async |operator| operator.rip_queue().await,
            |entries| entries.len() == 1,
        )
        .await?;
    assert_eq!(entries[0]["host"], "host-1");
    assert_eq!(entries[0]["port"], "web-1");
    fleet.launch(Program::Agent)?;
    fleet.in_sync().await?;
    let vlans = fleet.live_vlans().await?;
    assert_eq!(vlans.keys().collect::<Vec<_>>(), ["web-2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_moves_is_on_its_new_host_alone() -> Result<()> {
    let fleet = fleet(2).await?;
    fleet
        .operator()
        .apply_and_wait(prod_for_two(100), "20s")
        .await?;
    let reply = fleet
        .operator()
        .apply(
            &json!({"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
            "host": "host-2", "wait": "applied"}),
        )
        .await?;
    assert_eq!(reply["applied"]["applied"], 2, "{reply}");
    let on_host_2 = fleet
        .operator()
        .ask(
            dvs_schemas::subjects::RUNTIME_LIVE,
            &json!({"host": "host-2"}),
        )
        .await?
        .ok()?;
    assert_eq!(on_host_2["ports"].as_array().unwrap().len(), 2);
    assert_eq!(fleet.live_vlans().await?.len(), 2);
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_datapath_is_reported_by_port_and_repaired_by_repetition() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 4,
        agent: vec!["--emulated-failure-rate".to_owned(), "0.4".to_owned()],
        ..Settings::default()
    })
    .await?;
    let ports: Vec<Value> = (0..40)
        .map(|n| {
            json!({"kind": "Port", "name": format!("p-{n}"), "switch": "prod", "group": "web",
                   "host": format!("host-{}", n % 4 + 1)})
        })
        .collect();
    let mut documents = vec![
        json!({"kind": "Switch", "name": "prod"}),
        json!({"kind": "PortGroup", "name": "web", "switch": "prod", "policy": {"vlan": {"access": 9}}}),
    ];
    documents.extend(ports);
    fleet.operator().apply(&json!(documents)).await?;
    fleet.in_sync().await?;
    assert_eq!(fleet.live_vlans().await?.len(), 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_are_listed_by_the_micro_protocol() -> Result<()> {
    let fleet = fleet(1).await?;
    let client = fleet.operator().client().clone();
    for (verb, needs) in [
        ("PING", "version"),
        ("INFO", "endpoints"),
        ("STATS", "endpoints"),
    ] {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await?;
        let mut names = BTreeSet::new();
        let complete = async {
            // Asked again, since a service may have begun to listen later than
            // the fleet took its first configuration.
            let mut again = tokio::time::interval(Duration::from_secs(1));
            while names.len() < 3 {
                tokio::select! {
                    _ = again.tick() => {
                        let subject = format!("$SRV.{verb}");
                        client.publish_with_reply(subject, inbox.clone(), "".into()).await?;
                    }
                    message = replies.next() => {
                        let body: Value = serde_json::from_slice(&message.unwrap().payload)?;
                        assert!(!body[needs].is_null(), "{body}");
                        names.insert(body["name"].as_str().unwrap().to_owned());
                    }
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(dvs_tests::fleet::PATIENCE, complete).await??;
        assert_eq!(
            names,
            BTreeSet::from(["config-publisher", "retry", "runtime-collector"].map(str::to_owned))
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_held_to_their_subjects() -> Result<()> {
    let fleet = fleet(1).await?;
    let client = fleet.operator().client().clone();
    fleet
        .operator()
        .apply_and_wait(json!([{"kind": "Switch", "name": "prod"}]), "20s")
        .await?;
    // An operator can't speak for a host: nobody hears it. services/transport
    // tries every role.
    let mut heard = client.subscribe("dvs.v1.event.>").await?;
    client
        .publish("dvs.v1.event.host-1.changed", "{}".into())
        .await?;
    client.flush().await?;
    let next = tokio::time::timeout(dvs_tests::fleet::PATIENCE, heard.next())
        .await?
        .unwrap();
    assert_ne!(next.payload.as_ref(), b"{}", "{next:?}");
    Ok(())
}

/// An agent of twenty hosts; gone with its handle.
struct Rack(Child);

impl Drop for Rack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_site_is_true_on_all_of_its_hosts_as_it_stands() -> Result<()> {
    // One host that neither switch names.
    let fleet = fleet(1).await?;
    let mut racks = Vec::new();
    for rack in ["r1", "r2", "r3"] {
        let mut agent = fleet.agent(rack)?;
        agent.args(["--datapath", "emulated", "--replicas", "20"]);
        racks.push(Rack(agent.spawn()?));
    }
    let present = |hosts: &Vec<Value>| hosts.len() == 61;
    let hosts = async |operator: &Operator| operator.hosts().await;
    fleet.until("61 hosts", hosts, present).await?;
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/examples/site.yaml");
    let apply = |more: &[&str]| -> Result<String> {
        let mut dvsctl = fleet.dvsctl()?;
        let out = dvsctl
            .args(["apply", "-f"])
            .arg(&site)
            .args(more)
            .output()?;
        assert!(out.status.success(), "{out:?}");
        Ok(String::from_utf8(out.stderr)?)
    };
    let said = apply(&["--wait=60s"])?;
    for line in ["revision 1: 1816 objects", "applied on 60 of 60 hosts"] {
        assert!(said.lines().any(|told| told == line), "{said}");
    }
    fleet.in_sync().await?;
    let kinds = fleet.operator().objects().await?;
    let of = |kind: &str| {
        kinds
            .iter()
            .filter(|object| object["document"]["kind"] == kind)
            .count()
    };
    assert_eq!(
        ["Switch", "PortGroup", "Port", "MirrorSession"].map(of),
        [2, 12, 1_800, 2]
    );
    assert_eq!(apply(&[])?.trim(), "unchanged at revision 1");
    Ok(())
}
