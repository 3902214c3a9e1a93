// SPDX-License-Identifier: Apache-2.0
//! Subscriptions that a real nats-server refuses, at first or after its
//! configuration was loaded anew, and gives back.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, ConnectArgs, Identity, connect};
use futures_util::StreamExt;

/// Far longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

const SUBJECT: &str = "dvs.v1.agent.h1.*";

/// A user who may do all, but for hearing this.
fn config(deny: &str) -> String {
    format!(
        r#"authorization {{ users: [ {{
            user: agent, password: secret,
            permissions: {{ publish: ">", subscribe: {{ allow: ">", deny: [{deny}] }} }}
        }} ] }}"#
    )
}

async fn connected(server: &NatsServer) -> Bus {
    let args = ConnectArgs {
        server: Some(format!("nats://agent:secret@127.0.0.1:{}", server.port())),
        ..ConnectArgs::default()
    };
    let bus = connect(&args, Identity::service("agent")).await.unwrap();
    bus.reach(PATIENCE).await.unwrap();
    bus
}

/// Waits until exactly this is refused.
async fn refused(bus: &Bus, wanted: &[&str]) {
    let mut denied = bus.denied();
    let is_so = denied.wait_for(|denied| denied.subjects().eq(wanted.iter().copied()));
    let waited = tokio::time::timeout(PATIENCE, is_so).await;
    assert!(waited.is_ok(), "{:?}", bus.denied().borrow());
}

#[tokio::test]
async fn what_is_refused_is_named_and_heard_once_the_permission_is_there() {
    let server = NatsServer::with_config(&config(&format!("{SUBJECT:?}"))).unwrap();
    let bus = connected(&server).await;
    let mut heard = bus.client().subscribe(SUBJECT).await.unwrap();
    refused(&bus, &[SUBJECT]).await;
    server.reload(&config("")).unwrap();
    refused(&bus, &[]).await;
    hears(&bus, &mut heard).await;
}

#[tokio::test]
async fn what_is_taken_away_and_given_back_is_heard_again() {
    let server = NatsServer::with_config(&config("")).unwrap();
    let bus = connected(&server).await;
    let mut heard = bus.subscribe(SUBJECT, PATIENCE).await.unwrap();
    hears(&bus, &mut heard).await;
    server.reload(&config(&format!("{SUBJECT:?}"))).unwrap();
    refused(&bus, &[SUBJECT]).await;
    server.reload(&config("")).unwrap();
    refused(&bus, &[]).await;
    hears(&bus, &mut heard).await;
}

#[tokio::test]
async fn a_queue_s_subscription_is_named_too() {
    let server = NatsServer::with_config(&config(r#""dvs.v1.config.*""#)).unwrap();
    let bus = connected(&server).await;
    let queue = "q".to_owned();
    let asked = bus.client().queue_subscribe("dvs.v1.config.*", queue).await;
    let _heard = asked.unwrap();
    refused(&bus, &["dvs.v1.config.*"]).await;
}

/// The subscription hears what is said from now on.
async fn hears(bus: &Bus, heard: &mut async_nats::Subscriber) {
    bus.reach(PATIENCE).await.unwrap();
    bus.publish("dvs.v1.agent.h1.live", Bytes::from_static(b"hear"))
        .await
        .unwrap();
    let message = tokio::time::timeout(PATIENCE, heard.next()).await;
    assert_eq!(&*message.unwrap().unwrap().payload, b"hear");
}
