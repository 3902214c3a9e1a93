// SPDX-License-Identifier: Apache-2.0
//! The real binary on a real nats-server, with hosts and the retry service
//! played by the test.
#![allow(clippy::unwrap_used)]

mod asking;
mod peers;
mod plugging;
mod twins;

use asking::{ask, headers};
use dvs_daemon::testing::{PATIENCE, Service, bus};
use dvs_schemas::codec::Format;
use dvs_schemas::subjects;
use dvs_transport::testing::NatsServer;
use peers::{Host, Retry};
use serde_json::{Value, json};

const PUBLISHER: &str = env!("CARGO_BIN_EXE_config-publisher");

const SWITCH: &str = r#"[{"kind":"Switch","name":"prod"},
    {"kind":"PortGroup","name":"web","switch":"prod","policy":{"vlan":{"access":100}}}]"#;
const WEB: &str = r#"{"kind":"PortGroup","name":"web","switch":"prod","policy":{"vlan":{"access":200}},
    "wait":"applied"}"#;

#[tokio::test]
async fn requests_are_answered_in_kind() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _publisher = Service::start(PUBLISHER, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;

    let reply = ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    assert_eq!(reply["revision"], 1);
    assert_eq!(reply["changed"][1]["operation"], "created");

    let tree: Value = serde_json::from_str(SWITCH).unwrap();
    let packed = rmp_serde::to_vec_named(&tree).unwrap();
    let reply = bus
        .request(subjects::CONFIG_APPLY, packed.into(), PATIENCE)
        .await
        .unwrap();
    assert_eq!(Format::of(&reply.payload).unwrap(), Format::MessagePack);
    let reply: Value = rmp_serde::from_slice(&reply.payload).unwrap();
    assert_eq!(
        (&reply["revision"], &reply["changed"]),
        (&json!(1), &json!([]))
    );

    // What lists everything may be asked with nothing at all.
    for empty in ["", "{}"] {
        let reply = ask(&bus, subjects::CONFIG_GET, empty).await;
        assert_eq!(reply["items"].as_array().unwrap().len(), 2);
        assert_eq!(reply["items"][0]["document"]["kind"], "Switch");
        let reply = ask(&bus, subjects::HOST_LIST, empty).await;
        assert_eq!(reply["hosts"], json!([]));
    }
}

#[tokio::test]
async fn what_is_refused_says_where_and_changes_nothing() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _publisher = Service::start(PUBLISHER, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    for (text, code, field) in [
        (
            r#"{"kind":"PortGroup","name":"web","switch":"nowhere"}"#,
            404,
            json!("switch"),
        ),
        (
            r#"{"kind":"Port","name":"p","switch":"prod","group":"web","host":"h1"}"#,
            400,
            json!("host"),
        ),
        (
            r#"{"kind":"PortGroup","name":"a.b","switch":"prod"}"#,
            400,
            json!("name"),
        ),
        (
            r#"{"kind":"PortGroup","name":"a","switch":"prod","policy":{"vlan":{"access":4095}}}"#,
            400,
            json!("policy.vlan.access"),
        ),
        (r#"{"kind":"Bridge","name":"a"}"#, 400, json!("kind")),
        (r#"{"kind":"Switch","name":"#, 400, Value::Null),
        ("", 400, Value::Null),
        ("hello", 400, Value::Null),
    ] {
        let message = bus
            .request(subjects::CONFIG_APPLY, text.to_owned().into(), PATIENCE)
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["error"]["field"], field, "{text}: {body}");
        let (number, words) = headers(&message);
        assert_eq!(number, code.to_string(), "{text}");
        assert!(!words.is_empty());
    }
    let reply = ask(&bus, subjects::CONFIG_GET, "{}").await;
    assert_eq!(
        (&reply["revision"], reply["items"].as_array().unwrap().len()),
        (&json!(1), 2)
    );
}

#[tokio::test]
async fn the_service_is_listed_with_its_endpoints() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _publisher = Service::start(PUBLISHER, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    let info = ask(&bus, "$SRV.INFO.config-publisher", "").await;
    assert_eq!(info["name"], "config-publisher");
    let endpoints = info["endpoints"].as_array().unwrap();
    let served: Vec<_> = endpoints
        .iter()
        .filter_map(|e| e["subject"].as_str())
        .collect();
    for subject in [
        subjects::CONFIG_APPLY,
        subjects::CONFIG_DELETE,
        subjects::CONFIG_GET,
        subjects::CONFIG_RENDER,
        subjects::CONFIG_RESYNC,
        subjects::PORT_DISCONNECT,
        subjects::PORT_CLAIM,
        subjects::PORT_RELEASE,
        subjects::PORT_PLACEMENTS,
        subjects::HOST_HELLO,
        subjects::HOST_LIST,
    ] {
        assert!(served.contains(&subject), "{subject} is not in {served:?}");
    }
}

#[tokio::test]
async fn hosts_hear_of_changes_and_the_asker_of_hosts() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let publisher = Service::start(
        PUBLISHER,
        &server,
        data.path(),
        &["--push-timeout", "200ms"],
    );
    let bus = bus(&server, "test").await;
    let retry = Retry::start(&server).await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    let first = Host::start(&server, "h1").await;
    let second = Host::start(&server, "h2").await;
    first.hello(&bus).await;
    second.hello(&bus).await;

    let reply = ask(&bus, subjects::CONFIG_APPLY, WEB).await;
    assert_eq!(
        (&reply["applied"]["hosts"], &reply["applied"]["applied"]),
        (&json!(2), &json!(2))
    );

    let dry = WEB
        .replace("\"wait\":\"applied\"", "\"dry_run\":true")
        .replace("200", "300");
    let reply = ask(&bus, subjects::CONFIG_APPLY, &dry).await;
    assert_eq!(reply["plans"].as_array().unwrap().len(), 2, "{reply}");
    assert_eq!(reply["plans"][0]["changes"][0]["object"], "switch");

    second.fall_silent();
    let reply = ask(&bus, subjects::CONFIG_APPLY, &WEB.replace("200", "300")).await;
    let lagging = json!({"host": "h2", "outcome": "timed_out", "why": "no answer in time"});
    assert_eq!(
        (
            &reply["applied"]["applied"],
            &reply["applied"]["outcomes"][0]
        ),
        (&json!(1), &lagging)
    );
    let put = retry.until(|put| !put.repush.is_empty()).await;
    assert_eq!(put.repush[0].key.host.as_str(), "h2");
    let entry = publisher.says("out of sync");
    assert_eq!(
        [
            &entry["host"],
            &entry["switch"],
            &entry["revision"],
            &entry["why"]
        ],
        [
            &json!("h2"),
            &json!("prod"),
            &json!(3),
            &json!("no answer in time")
        ]
    );

    let hosts = ask(&bus, subjects::HOST_LIST, "").await;
    let observed: Vec<_> = hosts["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| {
            (
                &host["switches"][0]["wanted"],
                &host["switches"][0]["observed"],
            )
        })
        .collect();
    assert_eq!(observed, [(&json!(3), &json!(3)), (&json!(3), &json!(2))]);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_push_loses_nothing() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let publisher = Service::start(PUBLISHER, &server, data.path(), &["--push-timeout", "60s"]);
    let bus = bus(&server, "test").await;
    let retry = Retry::start(&server).await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    let host = Host::start(&server, "h1").await;
    host.hello(&bus).await;
    host.fall_silent();
    let seen = host.seen();
    let text = WEB.replace("\"wait\":\"applied\"", "\"wait\":\"committed\"");
    ask(&bus, subjects::CONFIG_APPLY, &text).await;
    host.seen_more_than(seen).await;
    publisher.kill();
    // The push comes again; that the host fails now must reach retry.
    host.fail();
    let _publisher = Service::start(PUBLISHER, &server, data.path(), &["--push-timeout", "60s"]);
    let put = retry.until(|put| !put.repush.is_empty()).await;
    assert_eq!(put.repush[0].error, "played");
}

#[tokio::test]
async fn it_is_healthy_and_stops_in_order() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let publisher = Service::start(PUBLISHER, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    let metrics = publisher.http("/metrics").await;
    for family in [
        "dvs_revision 1",
        "dvs_pending_pushes 0",
        "dvs_push_outcomes",
        "dvs_publish_to_applied_seconds",
    ] {
        assert!(metrics.contains(family), "no {family} in\n{metrics}");
    }
    assert!(publisher.http("/readyz").await.contains("ok bus"));
    assert!(publisher.terminate().success());
}

#[tokio::test]
async fn whoever_waits_for_hosts_hears_of_the_stop() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let publisher = Service::start(PUBLISHER, &server, data.path(), &["--push-timeout", "60s"]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    let host = Host::start(&server, "h1").await;
    host.hello(&bus).await;
    host.fall_silent();
    let seen = host.seen();
    let text = WEB.replacen('{', r#"{"timeout":"60s","#, 1);
    let asked = bus.request(subjects::CONFIG_APPLY, text.into(), PATIENCE);
    let stop = async {
        host.seen_more_than(seen).await;
        publisher.terminate()
    };
    let (answer, status) = tokio::join!(asked, stop);
    assert!(status.success());
    assert_eq!(headers(&answer.unwrap()).0, "503");
}

#[test]
fn a_ledger_that_is_none_is_refused_and_left_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("config-publisher.redb");
    let content = b"not a ledger".repeat(1_000);
    std::fs::write(&path, &content).unwrap();
    let service = Service::spawn(PUBLISHER, "nats://127.0.0.1:1", data.path(), &[]);
    let error = service.says("stopped on an error")["error"].to_string();
    assert!(
        error.contains("config-publisher.redb") && error.contains("left untouched"),
        "{error}"
    );
    assert_eq!(service.end().code(), Some(1));
    assert_eq!(std::fs::read(&path).unwrap(), content);
}
