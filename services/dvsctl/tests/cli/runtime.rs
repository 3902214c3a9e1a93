// SPDX-License-Identifier: Apache-2.0
//! Runtime state of ports, stored and live, its history and its sums.

use crate::fake::Script;
use dvs_schemas::v1::{
    Counters, CountersOf, Link, LiveReply, LiveRequest, PastEvent, PortRuntime, Rollup, RollupBy,
    RollupKey, RuntimeGetRequest, RuntimeHistoryReply, RuntimeHistoryRequest, RuntimeListReply,
    RuntimeListRequest, RuntimeRecord, RuntimeRollupReply, RuntimeRollupRequest, Telling, ToldBy,
    V1,
};
use dvs_schemas::{Epoch, Revision, Timestamp, Vlan, subjects};

fn runtime(port: &str) -> PortRuntime {
    PortRuntime {
        port: port.parse().unwrap(),
        switch: "prod".parse().unwrap(),
        group: "web".parse().unwrap(),
        epoch: Epoch(2),
        revision: Revision(9),
        link: Link::Up,
        vlan: Vlan::Access(100_u16.try_into().unwrap()),
        blocked: true,
        mirrored: vec!["tap".parse().unwrap()],
    }
}

fn counters() -> Counters {
    Counters {
        ingress_packets: 10,
        ingress_bytes: 1_000,
        ingress_drops: 1,
        ingress_errors: 2,
        egress_packets: 20,
        egress_bytes: 2_000,
        egress_drops: 3,
        egress_errors: 4,
    }
}

/// Stored states, of which the second is of a port that has gone.
fn record(port: &str, there: bool) -> RuntimeRecord {
    RuntimeRecord {
        port: port.parse().unwrap(),
        host: "h1".parse().unwrap(),
        updated: std::time::SystemTime::now().into(),
        state: there.then(|| runtime(port)),
        changed: None,
        counters: there.then(counters),
        settled: None,
        total: Some(Counters {
            ingress_packets: 70,
            ..counters()
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runtime_state_is_shown_as_stored_and_as_read_now() {
    let script = Script::default()
        .on(subjects::RUNTIME_GET, |request: RuntimeGetRequest| {
            Ok(record(request.port.as_str(), true))
        })
        .on(subjects::RUNTIME_LIST, |request: RuntimeListRequest| {
            assert_eq!(request.link, Some(Link::Down));
            Ok(RuntimeListReply {
                v: V1,
                ports: vec![record("web-1", true), record("web-2", false)],
                next: None,
            })
        })
        .on(subjects::RUNTIME_LIVE, |request: LiveRequest| {
            assert_eq!(request.host, Some("h1".parse().unwrap()));
            let (port, next) = match &request.after {
                None => ("web-1", Some("web-1".parse().unwrap())),
                Some(_) => ("web-2", None),
            };
            Ok(LiveReply {
                v: V1,
                host: "h1".parse().unwrap(),
                session: dvs_schemas::SessionId(1),
                at: Timestamp(5_000),
                ports: vec![runtime(port)],
                counters: vec![CountersOf {
                    port: port.parse().unwrap(),
                    epoch: Epoch(2),
                    counters: counters(),
                }],
                totals: Vec::new(),
                conditions: None,
                next,
            })
        });
    let fake = script.start().await;
    let ended = fake.ends(0, &["live", "--host", "h1", "-o", "wide"]).await;
    assert_eq!(
        ended.stdout,
        "PORT   HOST  LINK         VLAN        IN-PACKETS  OUT-PACKETS  AGE  SWITCH  GROUP  EPOCH  \
         REVISION  MIRRORED  IN-BYTES  IN-DROPS  OUT-BYTES  OUT-DROPS  ERRORS\n\
         web-1  h1    up, blocked  access 100  10          20           0ms  prod    web    2      \
         9         tap       1000      1         2000       3          6\n\
         web-2  h1    up, blocked  access 100  10          20           0ms  prod    web    2      \
         9         tap       1000      1         2000       3          6\n"
    );
    let ended = fake.ends(0, &["runtime", "web-1", "-o", "name"]).await;
    assert_eq!(ended.stdout, "port/web-1\n");
    let args = ["runtime", "--link", "down", "-o", "json"];
    let ended = fake.ends(0, &args).await;
    let records: Vec<RuntimeRecord> = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].state, None);
    let args = ["runtime", "--link", "down", "--no-headings"];
    let ended = fake.ends(0, &args).await;
    // Its counters over all its placements stay.
    let gone = "web-2  h1  gone         -           70  20  ";
    assert!(
        ended.stdout.lines().nth(1).unwrap().starts_with(gone),
        "{ended:?}"
    );
    fake.ends(2, &["live"]).await;
    fake.ends(2, &["runtime", "web-1", "--host", "h1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ports_history_is_shown_with_what_was_no_news() {
    let at = Timestamp(1_700_000_000_000);
    let event = move |news, told| PastEvent {
        heard: std::time::SystemTime::now().into(),
        at,
        host: "h1".parse().unwrap(),
        epoch: Epoch(3),
        by: ToldBy::Event,
        news,
        told,
    };
    let script = Script::default().on(
        subjects::RUNTIME_HISTORY,
        move |request: RuntimeHistoryRequest| {
            Ok(RuntimeHistoryReply {
                v: V1,
                port: request.port,
                events: vec![
                    event(true, Telling::State(runtime("web-1"))),
                    event(false, Telling::Gone),
                    event(true, Telling::Counters(counters())),
                ],
            })
        },
    );
    let fake = script.start().await;
    let ended = fake.ends(0, &["history", "web-1"]).await;
    let lines: Vec<&str> = ended
        .stdout
        .lines()
        .map(|line| line.split_once("2023").map_or(line, |(_, rest)| rest))
        .collect();
    assert_eq!(lines.len(), 4, "{}", ended.stdout);
    assert!(lines[1].contains("yes   link "), "{}", ended.stdout);
    assert!(
        lines[2].ends_with("no    virtual port gone"),
        "{}",
        ended.stdout
    );
    assert!(lines[3].contains("settled: in "), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_over_ports_have_a_row_each() {
    let script = Script::default().on(subjects::RUNTIME_ROLLUP, |request: RuntimeRollupRequest| {
        assert_eq!(request.by, RollupBy::Group);
        assert_eq!(request.switch.as_ref().unwrap().as_str(), "prod");
        let page = |group: &str, next| RuntimeRollupReply {
            v: V1,
            rows: vec![Rollup {
                key: RollupKey::Group("prod".parse().unwrap(), group.parse().unwrap()),
                ports: 4,
                up: 2,
                down: 1,
                blocked: 1,
                total: Counters {
                    ingress_packets: 70,
                    ..Counters::default()
                },
                oldest: std::time::SystemTime::now().into(),
            }],
            next,
        };
        let first = RollupKey::Group("prod".parse().unwrap(), "db".parse().unwrap());
        Ok(match request.after {
            None => page("db", Some(first)),
            Some(_) => page("web", None),
        })
    });
    let fake = script.start().await;
    let args = ["rollup", "portgroups", "--switch", "prod"];
    let ended = fake.ends(0, &args).await;
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "GROUP     PORTS  UP  DOWN  BLOCKED  IN-PACKETS  OUT-PACKETS  OLDEST"
    );
    assert!(lines[1].starts_with("prod/db   4      2   1     1        70          0  "));
    assert!(lines[2].starts_with("prod/web  4      2   1     1        70          0  "));
}
