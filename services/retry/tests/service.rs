// SPDX-License-Identifier: Apache-2.0
//! The real binary on a real nats-server, with a publisher and a host played
//! by the test.
#![allow(clippy::unwrap_used)]

use dvs_daemon::testing::{PATIENCE, Service, ask, bus};
use dvs_schemas::codec::{self, Format};
use dvs_schemas::subjects::{self, AgentVerb};
use dvs_schemas::v1::{
    ApplyOutcome, ApplyReport, Clobber, FinalState, Lineage, Remove, RemoveOutcome, RemoveReport,
    RemovedPort, RenderReply, RenderRequest, V1,
};
use dvs_schemas::{HostName, Revision, SessionId, StoreId};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, answer_subject};
use futures_util::StreamExt;
use serde_json::{Value, json};

const RETRY: &str = env!("CARGO_BIN_EXE_retry");
const QUICK: [&str; 4] = ["--retry-base", "1ms", "--retry-cap", "20ms"];

/// The session of every host's agent.
const SESSION: SessionId = SessionId(7);

/// A publisher at revision 9 that renders whatever it is asked for.
async fn publisher(bus: Bus) {
    let mut questions = bus
        .subscribe(subjects::CONFIG_RENDER, PATIENCE)
        .await
        .unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let store = StoreId(uuid::Uuid::nil());
            let reply = match codec::decode(&question.payload).unwrap().1 {
                RenderRequest::State { switch, .. } => RenderReply::Clobber {
                    session: SESSION,
                    clobber: Box::new(Clobber {
                        v: V1,
                        store,
                        lineage: Lineage::default(),
                        switch,
                        revision: Revision(9),
                        insist: false,
                        state: FinalState::Absent,
                    }),
                },
                RenderRequest::Removal {
                    switch,
                    port,
                    revision,
                    ..
                } => RenderReply::Remove {
                    session: SESSION,
                    remove: Remove {
                        v: V1,
                        store,
                        lineage: Lineage::default(),
                        switch,
                        ports: vec![RemovedPort { port, revision }],
                    },
                },
            };
            let reply = codec::encode(Format::MessagePack, &reply).unwrap();
            bus.publish(question.reply.unwrap(), reply).await.unwrap();
        }
    });
}

/// A host that does what it is told; ends when it has been told both.
async fn host(bus: &Bus, name: &str) {
    let host: HostName = name.parse().unwrap();
    let subscribe = |verb| bus.subscribe(subjects::agent(&host, verb), PATIENCE);
    let mut clobbers = subscribe(AgentVerb::Clobber).await.unwrap();
    let mut removes = subscribe(AgentVerb::Remove).await.unwrap();

    let call = clobbers.next().await.unwrap();
    let clobber: Clobber = codec::decode(&call.payload).unwrap().1;
    assert_eq!(clobber.revision, Revision(9));
    let report = ApplyReport {
        v: V1,
        host: host.clone(),
        session: SESSION,
        switch: clobber.switch,
        observed: clobber.revision,
        position: None,
        outcome: ApplyOutcome::Applied { writes: 1 },
    };
    let to = answer_subject(&call.reply.unwrap(), &host).unwrap();
    let report = codec::encode(Format::MessagePack, &report).unwrap();
    bus.publish(to, report).await.unwrap();

    let call = removes.next().await.unwrap();
    let remove: Remove = codec::decode(&call.payload).unwrap().1;
    assert_eq!(remove.ports[0].port.as_str(), "web-1");
    let report = RemoveReport {
        v: V1,
        host: host.clone(),
        session: SESSION,
        switch: remove.switch,
        observed: Revision(1),
        position: None,
        outcome: RemoveOutcome::Removed,
    };
    let to = answer_subject(&call.reply.unwrap(), &host).unwrap();
    let report = codec::encode(Format::MessagePack, &report).unwrap();
    bus.publish(to, report).await.unwrap();
}

/// The removal is newer than what the publisher renders: the full state has
/// nothing to say about it.
fn put() -> String {
    json!({
        "v": 1,
        "repush": [{"host": "h1", "switch": "prod", "revision": 7, "error": "h1 is away"}],
        "rip": [{"host": "h1", "switch": "prod", "port": "web-1", "revision": 10, "error": "timed out"}],
    })
    .to_string()
}

async fn list(bus: &Bus) -> Value {
    ask(bus, subjects::RETRY_LIST, "{}").await
}

#[tokio::test]
async fn entries_survive_a_kill_and_end_when_the_host_is_back() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(RETRY, &server, data.path(), &QUICK);
    let bus = bus(&server, "test").await;
    let reply = ask(&bus, subjects::RETRY_PUT, &put()).await;
    assert_eq!(reply, json!({"v": 1, "entries": 2}));

    let listed = list(&bus).await;
    let entry = &listed["out_of_sync"][0];
    assert_eq!(
        (&entry["host"], &entry["switch"], &entry["revision"]),
        (&json!("h1"), &json!("prod"), &json!(7))
    );
    assert_eq!(listed["rip"][0]["port"], "web-1");

    publisher(bus.clone()).await;
    // Tried in vain while the host is away, and said so.
    let mut tried = 1;
    while tried < 3 {
        let entry = &list(&bus).await["out_of_sync"][0];
        tried = entry["attempts"].as_u64().unwrap();
    }
    let since = list(&bus).await["out_of_sync"][0]["since"].clone();
    service.kill();

    let service = Service::start(RETRY, &server, data.path(), &QUICK);
    let entry = list(&bus).await["out_of_sync"][0].clone();
    assert_eq!(entry["since"], since);
    assert!(entry["attempts"].as_u64().unwrap() >= 3, "{entry}");
    tokio::time::timeout(PATIENCE, host(&bus, "h1"))
        .await
        .unwrap();
    loop {
        let left = list(&bus).await;
        if left["repush_total"] == 0 && left["rip_total"] == 0 {
            break;
        }
    }
    assert!(service.terminate().success());
}

#[tokio::test]
async fn bad_input_gets_its_reason_and_ends_nothing() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _service = Service::start(RETRY, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::RETRY_PUT, &put()).await;
    let before = list(&bus).await["repush_total"].clone();
    let deep = "[".repeat(100_000);
    let cases = [
        (subjects::RETRY_PUT, "", "empty"),
        (subjects::RETRY_PUT, "hello", "starts neither"),
        (subjects::RETRY_PUT, "{\"v\":1,", "not readable as JSON"),
        (subjects::RETRY_PUT, &deep, "recursion"),
        (subjects::RETRY_PUT, r#"{"v":2}"#, "version 2"),
        (
            subjects::RETRY_PUT,
            r#"{"v":1,"repush":[{"host":"a.b","switch":"s","revision":1,"error":""}]}"#,
            "host name",
        ),
        (subjects::RETRY_LIST, r#"{"hots":"h1"}"#, "unknown field"),
        (subjects::RETRY_LIST, r#"{"after":"h1"}"#, "no place"),
        (subjects::RETRY_KICK, "{}", "selects nothing"),
        (subjects::RETRY_CANCEL, r#"{"host":"*"}"#, "host name"),
        (
            subjects::RETRY_PARK,
            r#"{"queue":"all"}"#,
            "unknown variant",
        ),
    ];
    for (subject, text, reason) in cases {
        let reply = ask(&bus, subject, text).await;
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{subject} {text:.40}: {reply}");
    }
    assert_eq!(list(&bus).await["repush_total"], before);
}

#[tokio::test]
async fn operators_park_kick_and_cancel() {
    let server = NatsServer::start().unwrap();
    let data = tempfile::tempdir().unwrap();
    let _service = Service::start(RETRY, &server, data.path(), &[]);
    let bus = bus(&server, "test").await;
    ask(&bus, subjects::RETRY_PUT, &put()).await;
    let one = json!({"v": 1, "entries": 1});
    let repush = r#"{"queue":"repush","host":"h1"}"#;
    assert_eq!(ask(&bus, subjects::RETRY_PARK, repush).await, one);
    let entry = list(&bus).await["out_of_sync"][0].clone();
    assert_eq!(entry.get("next_try"), None, "{entry}");
    assert_eq!(ask(&bus, subjects::RETRY_KICK, repush).await, one);
    assert_eq!(ask(&bus, subjects::RETRY_CANCEL, repush).await, one);
    let left = list(&bus).await;
    assert_eq!(
        (&left["repush_total"], &left["rip_total"]),
        (&json!(0), &json!(1))
    );
    let info = ask(&bus, "$SRV.INFO.retry", "").await;
    assert_eq!(info["endpoints"].as_array().unwrap().len(), 5);
}

#[test]
fn a_file_that_is_no_ledger_is_named_and_left_untouched() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("retry.redb");
    let text = b"this is not a ledger\n".repeat(500);
    std::fs::write(&file, &text).unwrap();
    let service = Service::spawn(RETRY, "nats://127.0.0.1:1", data.path(), &[]);
    let error = service.says("stopped on an error")["error"].to_string();
    assert!(error.contains("retry.redb"), "{error}");
    assert_eq!(service.end().code(), Some(1));
    assert_eq!(std::fs::read(&file).unwrap(), text);
}
