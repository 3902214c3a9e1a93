// SPDX-License-Identifier: Apache-2.0
//! The real binary on a real nats-server, with a host played by the test.
#![allow(clippy::unwrap_used)]

mod harness;

use dvs_daemon::testing::{PATIENCE, Service, ask, bus};
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb, EventVerb};
use dvs_schemas::v1::{CountersOf, Live, PortRuntime};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, answer_subject};
use futures_util::StreamExt;
use harness::{changed, counters, host, live_reply, settled, state};
use serde::Serialize;
use serde_json::{Value, json};

const COLLECTOR: &str = env!("CARGO_BIN_EXE_runtime-collector");

fn text(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap()
}

async fn tell(bus: &Bus, from: &str, verb: EventVerb, message: &impl Serialize) -> Value {
    ask(bus, &subjects::event(&host(from), verb), &text(message)).await
}

async fn heartbeat(bus: &Bus, from: &str, seq: u64) {
    let heartbeat = json!({"v": 1, "host": from, "session": harness::session(1), "seq": seq, "interval_ms": 10_000});
    let subject = subjects::event(&host(from), EventVerb::Heartbeat);
    bus.publish(subject, text(&heartbeat).into()).await.unwrap();
}

/// A host that has these ports; says so each time it is asked, and that it was.
async fn host_with(
    bus: Bus,
    name: &'static str,
    ports: Vec<PortRuntime>,
    counters: Vec<CountersOf>,
) -> tokio::sync::mpsc::UnboundedReceiver<Live> {
    let subject = subjects::agent(&host(name), AgentVerb::Live);
    let mut questions = bus.subscribe(subject, PATIENCE).await.unwrap();
    let (asked, was_asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let live: Live = codec::decode(&question.payload).unwrap().1;
            let reply = live_reply(name, ports.clone(), counters.clone());
            let reply = codec::encode(Format::MessagePack, &reply).unwrap();
            let to = answer_subject(&question.reply.unwrap(), &host(name)).unwrap();
            bus.publish(to, reply).await.unwrap();
            if asked.send(live).is_err() {
                return;
            }
        }
    });
    was_asked
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(COLLECTOR, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    let event = changed("h1", 1, 1, vec![state("web-1", 3, 8)]);
    let ack = tell(&bus, "h1", EventVerb::Changed, &event).await;
    assert_eq!(ack, json!({"v": 1, "seq": 1}));
    let event = settled("h1", 1, 2, vec![counters("web-1", 3, 50)]);
    let ack = tell(&bus, "h1", EventVerb::Settled, &event).await;
    assert_eq!(ack, json!({"v": 1, "seq": 2}));
    let before = ask(&bus, subjects::RUNTIME_GET, r#"{"port":"web-1"}"#).await;
    assert_eq!(
        (
            &before["host"],
            &before["state"]["link"],
            &before["counters"]["ingress_packets"]
        ),
        (&json!("h1"), &json!("up"), &json!(50))
    );
    service.kill();

    let service = Service::start(COLLECTOR, &server, data.path(), &[]);
    let after = ask(&bus, subjects::RUNTIME_GET, r#"{"port":"web-1"}"#).await;
    assert_eq!(after, before);
    let listed = ask(&bus, subjects::RUNTIME_LIST, r#"{"host":"h1"}"#).await;
    assert_eq!(listed, json!({"v": 1, "ports": [before]}));
    let info = ask(&bus, "$SRV.INFO.runtime-collector", "").await;
    assert_eq!(info["endpoints"].as_array().unwrap().len(), 7);
    assert!(service.terminate().success());
}

#[tokio::test]
async fn a_gap_that_heartbeats_show_is_filled_from_the_host() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _service = Service::start(COLLECTOR, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    let event = changed("h1", 1, 1, vec![state("web-1", 3, 7)]);
    tell(&bus, "h1", EventVerb::Changed, &event).await;
    let mut asked = host_with(bus.clone(), "h1", vec![state("web-1", 3, 8)], vec![]).await;
    // Answered, so what was subscribed to before is heard as well.
    ask(&bus, subjects::RUNTIME_LIST, "{}").await;
    heartbeat(&bus, "h1", 5).await;
    assert_eq!(asked.recv().await.unwrap().port, None);
    loop {
        let record = ask(&bus, subjects::RUNTIME_GET, r#"{"port":"web-1"}"#).await;
        if record["state"]["revision"] == 8 {
            break;
        }
    }
}

#[tokio::test]
async fn a_live_read_reaches_the_host_and_not_the_store() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _service = Service::start(COLLECTOR, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    let event = changed("h1", 1, 1, vec![state("web-1", 3, 7)]);
    tell(&bus, "h1", EventVerb::Changed, &event).await;
    let stored = ask(&bus, subjects::RUNTIME_GET, r#"{"port":"web-1"}"#).await;

    let request = r#"{"port":"web-1"}"#;
    let away = ask(&bus, subjects::RUNTIME_LIVE, request).await;
    assert_eq!(away["error"]["code"], "unavailable", "{away}");
    let _asked = host_with(
        bus.clone(),
        "h1",
        vec![state("web-1", 3, 9)],
        vec![counters("web-1", 3, 99)],
    )
    .await;
    for request in [request, r#"{"host":"h1"}"#] {
        let live = ask(&bus, subjects::RUNTIME_LIVE, request).await;
        assert_eq!(live["ports"][0]["revision"], 9, "{live}");
        assert_eq!(live["counters"][0]["counters"]["ingress_packets"], 99);
    }
    let after = ask(&bus, subjects::RUNTIME_GET, r#"{"port":"web-1"}"#).await;
    assert_eq!(after, stored);
}

#[tokio::test]
async fn bad_input_gets_its_reason_and_ends_nothing() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _service = Service::start(COLLECTOR, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    let of_h2 = text(&changed("h2", 1, 1, vec![state("web-1", 3, 7)]));
    let zeroth = text(&changed("h1", 1, 0, vec![state("web-1", 3, 7)]));
    let deep = "[".repeat(100_000);
    let told = "dvs.v1.event.h1.changed";
    let cases = [
        (told, of_h2.as_str(), "host h1 tells an event of host h2"),
        (told, zeroth.as_str(), "numbered from 1"),
        (told, "", "empty"),
        (told, &deep, "recursion"),
        ("dvs.v1.event.h1.settled", r#"{"v":1}"#, "missing field"),
        (subjects::RUNTIME_GET, "{}", "missing field"),
        (subjects::RUNTIME_GET, r#"{"port":"a.b"}"#, "port name"),
        (
            subjects::RUNTIME_GET,
            r#"{"port":"web-1"}"#,
            "no host has told",
        ),
        (subjects::RUNTIME_LIST, r#"{"hots":"h1"}"#, "unknown field"),
        (subjects::RUNTIME_LIVE, "{}", "neither a port nor a host"),
        (
            subjects::RUNTIME_LIVE,
            r#"{"port":"web-1"}"#,
            "no host has told",
        ),
        (
            subjects::RUNTIME_LIVE,
            r#"{"host":"h9"}"#,
            "nobody answers by that name",
        ),
    ];
    for (subject, text, reason) in cases {
        let reply = ask(&bus, subject, text).await;
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{subject} {text:.40}: {reply}");
    }
    let listed = ask(&bus, subjects::RUNTIME_LIST, "{}").await;
    assert_eq!(listed, json!({"v": 1, "ports": []}));
}

#[test]
fn a_file_that_is_no_ledger_is_named_and_left_untouched() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("runtime-collector.redb");
    let text = b"this is not a ledger\n".repeat(500);
    std::fs::write(&file, &text).unwrap();
    let service = Service::spawn(COLLECTOR, "nats://127.0.0.1:1", data.path(), &[]);
    let error = service.says("stopped on an error")["error"].to_string();
    assert!(error.contains("runtime-collector.redb"), "{error}");
    assert_eq!(service.end().code(), Some(1));
    assert_eq!(std::fs::read(&file).unwrap(), text);
}
