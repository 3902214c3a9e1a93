// SPDX-License-Identifier: Apache-2.0
//! Bad input over a plain connection: refused whole, nothing committed, and
//! the reply names the document, the field and what is allowed.
#![allow(clippy::unwrap_used)]

use anyhow::Result;
use dvs_schemas::subjects::{
    CONFIG_APPLY, CONFIG_DELETE, CONFIG_GET, HOST_LIST, PORT_MOVE, RUNTIME_GET,
};
use dvs_schemas::v1::Counters;
use dvs_tests::fleet::{Fleet, Program, Settings};
use serde_json::{Value, json};

/// A refusal: what is sent, and what its reply must name.
struct Bad {
    what: &'static str,
    send: Value,
    document: &'static str,
    field: &'static str,
    says: &'static str,
}

fn bad(
    what: &'static str,
    send: Value,
    document: &'static str,
    field: &'static str,
    says: &'static str,
) -> Bad {
    Bad {
        what,
        send,
        document,
        field,
        says,
    }
}

fn group(policy: Value) -> Value {
    json!({"kind": "PortGroup", "name": "new", "switch": "prod", "policy": policy})
}

fn base() -> Value {
    json!([
        {"kind": "Switch", "name": "prod", "hosts": ["host-1", "host-2"]},
        {"kind": "PortGroup", "name": "web", "switch": "prod",
         "policy": {"vlan": {"access": 100}}, "overridable": ["blocked"]},
        {"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
         "host": "host-1", "vnic": "vm-1/eth0"},
    ])
}

fn refused() -> Vec<Bad> {
    let port = |extra: Value| {
        let mut port = json!({"kind": "Port", "name": "p", "switch": "prod", "group": "web"});
        port.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        port
    };
    let mut all = vec![
        bad(
            "unknown kind",
            json!({"kind": "Router", "name": "r"}),
            "",
            "kind",
            "MirrorSession",
        ),
        bad("no kind", json!({"name": "r"}), "", "kind", "PortGroup"),
        bad(
            "unknown field",
            json!({"kind": "PortGroup", "name": "new", "switch": "prod", "polcy": {}}),
            "PortGroup new",
            "polcy",
            "overridable",
        ),
        bad(
            "unknown field deep inside",
            group(json!({"security": {"promiscous": "accept"}})),
            "PortGroup new",
            "policy.security.promiscous",
            "forged_transmits",
        ),
        bad(
            "reversed range",
            group(json!({"vlan": {"trunk": {"vlans": ["200-100"]}}})),
            "PortGroup new",
            "policy.vlan.trunk.vlans[0]",
            "100-200",
        ),
        bad(
            "overlapping ranges",
            group(json!({"vlan": {"trunk": {"vlans": ["100-200", 150]}}})),
            "PortGroup new",
            "policy.vlan.trunk.vlans",
            "overlap",
        ),
        bad(
            "peak below average",
            group(
                json!({"shaping": {"ingress": {"average_kbps": 10, "peak_kbps": 5, "burst_kib": 1}}}),
            ),
            "PortGroup new",
            "policy.shaping.ingress",
            "10 or more",
        ),
        bad(
            "group of an unknown switch",
            json!({"kind": "PortGroup", "name": "web", "switch": "lab"}),
            "PortGroup lab/web",
            "switch",
            "lab",
        ),
        bad(
            "port of an unknown group",
            json!({"kind": "Port", "name": "p", "switch": "prod", "group": "db"}),
            "Port p",
            "group",
            "db",
        ),
        bad(
            "port on a host outside the switch",
            port(json!({"host": "host-3"})),
            "Port p",
            "host",
            "host-3",
        ),
        bad(
            "override that the group forbids",
            port(json!({"policy": {"vlan": {"access": 7}}})),
            "Port p",
            "policy.vlan",
            "blocked",
        ),
        bad(
            "second vNIC on a connected port",
            json!({"kind": "Port", "name": "web-1", "switch": "prod", "group": "web",
                   "vnic": "vm-2/eth0"}),
            "Port web-1",
            "vnic",
            "vm-1/eth0",
        ),
        bad(
            "private VLAN that the switch does not have",
            group(json!({"vlan": {"private": 100}})),
            "PortGroup prod/new",
            "policy.vlan.private",
            "private_vlans",
        ),
        bad(
            "all or nothing: the second of two",
            json!([{"kind": "Switch", "name": "fine"},
                   {"kind": "PortGroup", "name": "bad", "switch": "prod",
                    "policy": {"vlan": {"access": 0}}}]),
            "[1] PortGroup bad",
            "policy.vlan.access",
            "1 to 4094",
        ),
    ];
    for vlan in [0, 4095, 5000] {
        all.push(bad(
            "VLAN that does not exist",
            group(json!({"vlan": {"access": vlan}})),
            "PortGroup new",
            "policy.vlan.access",
            "1 to 4094",
        ));
    }
    for name in ["a.b", "a b", "*", ">", "a>b", ""] {
        all.push(bad(
            "name that is no token",
            json!({"kind": "Switch", "name": name}),
            "Switch",
            "name",
            "A-Z a-z 0-9 _ and -",
        ));
    }
    all
}

async fn store(fleet: &Fleet) -> Result<Value> {
    fleet.operator().ask(CONFIG_GET, &json!({})).await?.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_are_refused_whole_and_name_their_place() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 3,
        ..Settings::default()
    })
    .await?;
    fleet.operator().apply_and_wait(base(), "20s").await?;
    let before = store(&fleet).await?;
    for Bad {
        what,
        send,
        document,
        field,
        says,
    } in refused()
    {
        let as_json = fleet.operator().ask(CONFIG_APPLY, &send).await?;
        let packed = rmp_serde::to_vec_named(&send)?;
        let as_message_pack = fleet.operator().send(CONFIG_APPLY, packed).await?;
        for answer in [as_json, as_message_pack] {
            let problem = answer.problem()?;
            let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
            assert!(
                text("document").contains(document),
                "{what}: {send} → {problem}"
            );
            assert_eq!(text("field"), field, "{what}: {send} → {problem}");
            assert!(
                problem.to_string().contains(says),
                "{what}: {send} → {problem} does not say {says}"
            );
        }
    }
    assert_eq!(store(&fleet).await?, before);
    assert!(fleet.operator().out_of_sync().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_bytes_are_refused_and_end_no_service() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    fleet
        .operator()
        .apply(&json!({"kind": "Switch", "name": "prod"}))
        .await?;
    let before = store(&fleet).await?;
    let whole = json!({"kind": "Switch", "name": "lab"}).to_string();
    let packed = rmp_serde::to_vec_named(&json!({"kind": "Switch", "name": "lab"}))?;
    let deep_json = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let inputs: Vec<Vec<u8>> = vec![
        whole.as_bytes()[..whole.len() - 5].to_vec(),
        packed[..packed.len() - 3].to_vec(),
        deep_json.into_bytes(),
        b"\x91".repeat(20_000),
        b"\x81\xa1a".repeat(20_000),
        format!("{{\"kind\":{}1{}}}", "[".repeat(40), "]".repeat(40)).into_bytes(),
        vec![],
        b"hello".to_vec(),
        vec![0xc1; 100],
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"{\"documents\": 7}".to_vec(),
        b"{\"v\": 2, \"kind\": \"Switch\", \"name\": \"lab\"}".to_vec(),
        b"\xff\xfe{}".to_vec(),
    ];
    let pids = [Program::Publisher, Program::Retry, Program::Collector].map(|p| fleet.pid(p));
    for subject in [
        CONFIG_APPLY,
        CONFIG_DELETE,
        "dvs.v1.retry.kick",
        "dvs.v1.retry.cancel",
        "dvs.v1.runtime.get",
        "dvs.v1.runtime.live",
        "dvs.v1.port.disconnect",
    ] {
        for input in &inputs {
            let problem = fleet
                .operator()
                .send(subject, input.clone())
                .await?
                .problem()?;
            assert!(
                problem["message"].as_str().is_some_and(|m| !m.is_empty()),
                "{subject}: {problem}"
            );
        }
    }
    assert_eq!(store(&fleet).await?, before);
    let alive = [Program::Publisher, Program::Retry, Program::Collector].map(|p| fleet.pid(p));
    assert_eq!(alive, pids);
    for program in [Program::Publisher, Program::Retry, Program::Collector] {
        assert!(!fleet.log(program).contains("panicked"), "{program:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mebibytes_are_refused() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    let before = store(&fleet).await?;
    let huge = json!({"kind": "Switch", "name": "x".repeat(2 << 20)});
    // The bus itself refuses it: no service ever sees the message.
    let refused = fleet.operator().ask(CONFIG_APPLY, &huge).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(store(&fleet).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_would_not_fit_one_message_is_refused_before_it_is_committed() -> Result<()> {
    let fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    fleet.operator().apply(&json!([
        {"kind": "Switch", "name": "prod"},
        {"kind": "PortGroup", "name": "web", "switch": "prod", "overridable": ["security.allowed_addresses"]},
    ])).await?;
    let addresses: Vec<String> = (0..200).map(|n| format!("2001:db8::{n:x}")).collect();
    let mut refusal = None;
    for batch in 0..10 {
        let before = store(&fleet).await?["revision"].clone();
        let ports: Vec<Value> = (0..200)
            .map(|n| {
                json!({"kind": "Port", "name": format!("p-{batch}-{n}"), "switch": "prod",
                       "group": "web", "host": "host-1",
                       "policy": {"security": {"allowed_addresses": addresses}}})
            })
            .collect();
        let answer = fleet.operator().ask(CONFIG_APPLY, &json!(ports)).await?;
        if answer.error_code.is_some() {
            assert_eq!(store(&fleet).await?["revision"], before);
            refusal = Some(answer);
            break;
        }
    }
    let answer = refusal.expect("some batch is too much for one message");
    assert_eq!(answer.error_code.as_deref(), Some("413"));
    let problem = answer.problem()?.to_string();
    assert!(
        problem.contains("host-1") && problem.contains("prod"),
        "{problem}"
    );
    fleet.in_sync().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_or_foreign_ledger_is_named_refused_and_left_untouched() -> Result<()> {
    let mut fleet = Fleet::start(Settings {
        hosts: 1,
        ..Settings::default()
    })
    .await?;
    for program in Program::ALL {
        fleet.kill(program)?;
    }
    let ledger = |program| -> Result<std::path::PathBuf> {
        let found = std::fs::read_dir(fleet.data(program))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|e| e == "redb"));
        found.ok_or_else(|| anyhow::anyhow!("{program:?} has no ledger"))
    };
    let retrys = std::fs::read(ledger(Program::Retry)?)?;
    for program in Program::ALL {
        let path = ledger(program)?;
        let own = std::fs::read(&path)?;
        let mut cases = vec![b"garbage".repeat(1_000), own[..own.len() / 3].to_vec()];
        if program != Program::Retry {
            cases.push(retrys.clone());
        }
        for content in cases {
            std::fs::write(&path, &content)?;
            let output = fleet.command(program)?.output()?;
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.status.success(), "{program:?} started: {said}");
            assert!(
                said.contains(path.file_name().unwrap().to_str().unwrap())
                    && said.contains("untouched"),
                "{program:?}: {said}"
            );
            assert_eq!(std::fs::read(&path)?, content, "{program:?}");
        }
        std::fs::write(&path, own)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_tells_of_a_placement_it_never_had_changes_nothing_and_is_logged() -> Result<()>
{
    let fleet = Fleet::start(Settings {
        hosts: 2,
        ..Settings::default()
    })
    .await?;
    let placed = fleet.operator().apply_and_wait(base(), "20s").await?;
    let record = async |host: &str, revision: &Value| {
        let question = json!({"port": "web-1"});
        fleet
            .until(
                "what is known of web-1",
                async |operator| Ok(operator.ask(RUNTIME_GET, &question).await?.body),
                |record| record["host"] == host && record["state"]["revision"] == *revision,
            )
            .await
    };
    let before = record("host-1", &placed["revision"]).await?;
    let mut state = before["state"].clone();
    let epoch = state["epoch"].as_u64().unwrap_or_default() + 1_000_000;
    state["epoch"] = json!(epoch);
    // All agents have one key, so whoever runs one of them can say this.
    let forger = fleet.sign_in(Program::Agent).await?;
    let hosts = fleet.operator().ask(HOST_LIST, &json!({})).await?.ok()?;
    let session = hosts["hosts"][1]["session"].clone();
    let forged = |seq: u64, what: &str, told: Value| {
        json!({"v": 1, "host": "host-2", "session": session,
               "seq": seq, "at": "2026-01-01T00:00:00Z", what: told})
    };
    let counted = Counters {
        ingress_packets: 7,
        ..Counters::default()
    };
    let counters = json!({"port": "web-1", "epoch": epoch, "counters": counted});
    for (seq, verb, what, told) in [
        (1_001, "changed", "ports", state),
        (1_002, "settled", "counters", counters),
    ] {
        let event = forged(seq, what, json!([told]));
        let subject = format!("dvs.v1.event.host-2.{verb}");
        let ack = forger.ask(&subject, &event).await?.ok()?;
        assert_eq!(ack, json!({"v": 1, "seq": seq}));
    }
    let after = record("host-1", &placed["revision"]).await?;
    assert_eq!(
        (&after["state"], &after["counters"], &after["total"]),
        (&before["state"], &before["counters"], &before["total"])
    );
    let line = fleet
        .until(
            "a line in the collector's log",
            async |_| {
                let log = fleet.log(Program::Collector);
                let mut lines = log.lines().map(str::to_owned);
                Ok(lines.find(|line| line.contains("a placement that never was")))
            },
            Option::is_some,
        )
        .await?
        .unwrap_or_default();
    for named in ["host-2", "web-1", &epoch.to_string()] {
        assert!(line.contains(named), "{line} does not name {named}");
    }

    // When it does get the port, it is believed.
    let request = json!({"port": "web-1", "host": "host-2", "wait": "applied"});
    let moved = fleet.operator().ask(PORT_MOVE, &request).await?.ok()?;
    record("host-2", &moved["revision"]).await?;
    fleet.in_sync().await
}
