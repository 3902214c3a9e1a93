// SPDX-License-Identifier: Apache-2.0
//! The connection against a real nats-server: a server that comes late, goes
//! and comes back; credentials; calls that end in time whatever happens.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, BusError, ConnectArgs, Error, Identity, connect};
use futures_util::StreamExt;

/// Longer than anything here takes; only failures wait for it.
const LONG: Duration = Duration::from_secs(30);
/// For what must run into its end.
const SHORT: Duration = Duration::from_millis(50);

async fn bus(server: &NatsServer) -> Bus {
    let bus = connect(&server.args(), Identity::service("publisher"))
        .await
        .unwrap();
    bus.reach(LONG).await.unwrap();
    bus
}

async fn wait_for(bus: &Bus, state: bool) {
    let mut connected = bus.connected();
    tokio::time::timeout(LONG, connected.wait_for(|is| *is == state))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let bus = connect(&server.args(), Identity::service("publisher"))
        .await
        .unwrap();
    assert!(!bus.is_connected());
    let error = bus.publish("a", Bytes::new()).await.unwrap_err();
    assert_eq!(
        error,
        BusError::Offline {
            subject: "a".into()
        }
    );
    let error = bus.reach(SHORT).await.unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");

    server.restart().unwrap();
    bus.reach(LONG).await.unwrap();
    bus.round_trip(LONG).await.unwrap();
    assert_eq!(bus.counters().reconnects(), 0);
}

#[tokio::test]
async fn a_lost_server_is_noticed_and_found_again_with_all_subscriptions() {
    let mut server = NatsServer::start().unwrap();
    let (here, there) = (bus(&server).await, bus(&server).await);
    let mut heard = here.subscribe("a.*", LONG).await.unwrap();

    server.stop().unwrap();
    wait_for(&here, false).await;
    let error = here.request("b", Bytes::new(), LONG).await.unwrap_err();
    assert_eq!(
        error,
        BusError::Offline {
            subject: "b".into()
        }
    );

    server.restart().unwrap();
    wait_for(&here, true).await;
    wait_for(&there, true).await;
    here.round_trip(LONG).await.unwrap();
    there.publish("a.1", "x".into()).await.unwrap();
    assert_eq!(heard.next().await.unwrap().payload, "x");
    assert_eq!(here.counters().reconnects(), 1);
}

#[tokio::test]
async fn nothing_published_after_subscribe_returned_is_missed() {
    let server = NatsServer::start().unwrap();
    let (here, there) = (bus(&server).await, bus(&server).await);
    for n in 0..50 {
        let subject = format!("a.{n}");
        let mut heard = here.subscribe(subject.as_str(), LONG).await.unwrap();
        there.publish(subject, "x".into()).await.unwrap();
        assert_eq!(
            tokio::time::timeout(LONG, heard.next())
                .await
                .unwrap()
                .unwrap()
                .payload,
            "x"
        );
    }
}

#[tokio::test]
async fn a_request_ends_in_its_answer_or_says_why_not() {
    let server = NatsServer::with_config("max_payload: 1000").unwrap();
    let (here, there) = (bus(&server).await, bus(&server).await);
    let mut asked = there.subscribe("answers", LONG).await.unwrap();
    let _silent = there.subscribe("silent", LONG).await.unwrap();
    let answering = async {
        let request = asked.next().await.unwrap();
        there
            .publish(request.reply.unwrap(), "yes".into())
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(here.request("answers", Bytes::new(), LONG), answering);
    assert_eq!(answer.unwrap().payload, "yes");

    let silent = here
        .request("silent", Bytes::new(), SHORT)
        .await
        .unwrap_err();
    assert_eq!(
        silent,
        BusError::TimedOut {
            subject: "silent".into(),
            waited: SHORT
        }
    );
    let nobody = here
        .request("nobody", Bytes::new(), LONG)
        .await
        .unwrap_err();
    assert_eq!(
        nobody,
        BusError::NoResponder {
            subject: "nobody".into()
        }
    );
    assert_eq!(here.max_payload(), 1000);
    let large = here
        .request("answers", vec![0; 1001].into(), LONG)
        .await
        .unwrap_err();
    assert_eq!(
        large,
        BusError::TooLarge {
            subject: "answers".into(),
            size: 1001,
            max: 1000
        }
    );
}

#[tokio::test]
async fn closing_sends_what_is_queued() {
    let server = NatsServer::start().unwrap();
    let (here, there) = (bus(&server).await, bus(&server).await);
    let mut heard = there.subscribe("a", LONG).await.unwrap();
    for n in 0..1_000_u32 {
        here.publish("a", n.to_string().into()).await.unwrap();
    }
    here.close(LONG).await;
    assert!(!here.is_connected());
    for n in 0..1_000_u32 {
        assert_eq!(heard.next().await.unwrap().payload, n.to_string());
    }
}

fn key() -> (String, String) {
    let pair = nkeys::KeyPair::new_user();
    (pair.seed().unwrap(), pair.public_key())
}

/// The agent's permissions as shipped, a key for it, and a key of nobody.
fn guarded() -> (NatsServer, ConnectArgs, ConnectArgs) {
    let ((seed, public), (stranger, _)) = (key(), key());
    let server = NatsServer::with_config(&format!(
        r#"authorization {{ users: [ {{ nkey: {public}, permissions: {{
            publish: ["dvs.v1.reply.>"], subscribe: ["dvs.v1.agent.>", "_INBOX.agent.>"] }} }} ] }}"#
    ))
    .unwrap();
    let args = |name: &str, seed: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, seed).unwrap();
        ConnectArgs {
            nkey: Some(path),
            ..server.args()
        }
    };
    let (known, unknown) = (args("agent.nk", &seed), args("stranger.nk", &stranger));
    (server, known, unknown)
}

#[tokio::test]
async fn an_agent_proves_its_subscriptions_within_its_permissions() {
    let (_server, args, _) = guarded();
    let host = "h1".parse().unwrap();
    let agent = connect(&args, Identity::agent(&host)).await.unwrap();
    agent.reach(LONG).await.unwrap();
    agent.subscribe("dvs.v1.agent.h1.*", LONG).await.unwrap();
    assert_eq!(agent.counters().errors(), 0, "{:?}", agent.last_error());
}

#[tokio::test]
async fn a_stranger_is_told_why_it_stays_outside() {
    let (_server, _, args) = guarded();
    let bus = connect(&args, Identity::operator("dvsctl")).await.unwrap();
    let error = bus
        .reach(Duration::from_secs(2))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("authorization violation") && error.contains("credentials"),
        "{error}"
    );
}

#[tokio::test]
async fn user_and_password_in_the_address_are_used() {
    let server = NatsServer::with_config(r#"authorization { user: u, password: "p@ss" }"#).unwrap();
    let url = format!("nats://u:p%40ss@127.0.0.1:{}", server.port());
    let args = ConnectArgs {
        server: Some(url),
        ..ConnectArgs::default()
    };
    let bus = connect(&args, Identity::operator("dvsctl")).await.unwrap();
    bus.reach(LONG).await.unwrap();
    assert!(!bus.servers().contains("p%40ss"), "{}", bus.servers());
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let args = ConnectArgs {
        server: Some("nats://a b:x".into()),
        ..ConnectArgs::default()
    };
    let error = connect(&args, Identity::operator("dvsctl"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error}");
}
