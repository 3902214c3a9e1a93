// SPDX-License-Identifier: Apache-2.0
//! Claims and releases as plain JSON.

use dvs_daemon::testing::{PATIENCE, Service, bus};
use dvs_schemas::subjects;
use dvs_transport::testing::NatsServer;
use serde_json::{Value, json};

use crate::asking::{ask, headers};
use crate::peers::{Host, Retry};
use crate::{PUBLISHER, SWITCH};

const PORT: &str = r#"{"kind":"Port","name":"web-1","switch":"prod","group":"web"}"#;

#[tokio::test]
async fn a_port_goes_from_host_to_host_by_claim_and_release() {
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
    ask(&bus, subjects::CONFIG_APPLY, PORT).await;
    let first = Host::start(&server, "h1").await;
    let second = Host::start(&server, "h2").await;
    first.hello(&bus).await;
    second.hello(&bus).await;

    let seen = first.seen();
    let claim = r#"{"v":1,"host":"h1","session":1,"port":"web-1","vnic":"vm-1/eth0"}"#;
    let reply = ask(&bus, subjects::PORT_CLAIM, claim).await;
    let epoch = reply["outcome"]["granted"]["epoch"].as_u64().unwrap();
    // Counted on from when this ledger was made, which is after September 2001.
    assert!(epoch > 1_000_000_000_000, "{epoch}");
    let granted = json!({"v": 1, "host": "h1", "port": "web-1",
        "outcome": {"granted": {"epoch": epoch, "revision": 3}}});
    assert_eq!(reply, granted);
    assert_eq!(ask(&bus, subjects::PORT_CLAIM, claim).await, granted);
    first.seen_more_than(seen).await;
    let line = publisher.says("port granted");
    assert_eq!(
        [&line["host"], &line["port"], &line["epoch"]],
        [&json!("h1"), &json!("web-1"), &json!(epoch.to_string())]
    );

    let seen = second.seen();
    let claim = r#"{"v":1,"host":"h2","session":1,"port":"web-1"}"#;
    let reply = ask(&bus, subjects::PORT_CLAIM, claim).await;
    assert_eq!(
        reply["outcome"],
        json!({"waits": {"holder": "h1", "epoch": epoch}})
    );
    let release =
        json!({"v": 1, "host": "h1", "session": 1, "port": "web-1", "epoch": epoch}).to_string();
    let reply = ask(&bus, subjects::PORT_RELEASE, &release).await;
    let released = json!({"v": 1, "host": "h1", "port": "web-1",
        "outcome": {"released": {"revision": 4}}});
    assert_eq!(reply, released);
    second.seen_more_than(seen).await;
    let reply = ask(&bus, subjects::PORT_RELEASE, &release).await;
    assert_eq!(reply["outcome"], "nothing");
    let reply = ask(&bus, subjects::CONFIG_GET, r#"{"name":"web-1"}"#).await;
    assert_eq!(
        [
            &reply["items"][0]["document"]["host"],
            &reply["items"][0]["document"]["vnic"],
            &reply["items"][0]["epoch"]
        ],
        [&json!("h2"), &json!("vm-1/eth0"), &json!(epoch + 1)]
    );

    // The played h1 hears of no removal, so it is retry's.
    let put = retry.until(|put| !put.rip.is_empty()).await;
    assert_eq!(put.rip[0].key.host.as_str(), "h1");
}

#[tokio::test]
async fn a_claim_that_is_refused_says_why_and_changes_nothing() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _publisher = Service::start(PUBLISHER, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::CONFIG_APPLY, SWITCH).await;
    ask(&bus, subjects::CONFIG_APPLY, PORT).await;
    for (subject, text, code, field) in [
        (
            subjects::PORT_CLAIM,
            r#"{"v":1,"host":"h1","session":1,"port":"web-9"}"#,
            404,
            json!("port"),
        ),
        (
            subjects::PORT_CLAIM,
            r#"{"v":1,"host":"h9","session":1,"port":"web-1"}"#,
            400,
            json!("host"),
        ),
        (
            subjects::PORT_CLAIM,
            r#"{"v":1,"host":"h1","session":1,"port":"a.b"}"#,
            400,
            json!("port"),
        ),
        (
            subjects::PORT_CLAIM,
            r#"{"v":1,"host":"h1","session":1,"port":"web-1","epoch":-1}"#,
            400,
            json!("epoch"),
        ),
        (
            subjects::PORT_RELEASE,
            r#"{"v":1,"host":"*","session":1,"port":"web-1"}"#,
            400,
            json!("host"),
        ),
        (
            subjects::PORT_RELEASE,
            r#"{"v":2,"host":"h1","session":1,"port":"web-1"}"#,
            400,
            json!("v"),
        ),
        (subjects::PORT_CLAIM, "", 400, Value::Null),
        (subjects::PORT_RELEASE, "hello", 400, Value::Null),
    ] {
        let message = bus.request(subject, text.into(), PATIENCE).await.unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["error"]["field"], field, "{text}: {body}");
        assert_eq!(headers(&message).0, code.to_string(), "{text}");
    }
    let reply = ask(&bus, subjects::CONFIG_GET, r#"{"name":"web-1"}"#).await;
    assert_eq!(reply["revision"], 2);
}
