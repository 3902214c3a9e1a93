// SPDX-License-Identifier: Apache-2.0
//! Batches against hosts on a real nats-server: each host ends in exactly one
//! outcome, whatever becomes of the host, the message or the server.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvs_schemas::ids::HostName;
use dvs_transport::testing::NatsServer;
use dvs_transport::{
    Batch, Bus, Call, CallResult, Identity, Outcome, Transport, answer_subject, connect,
};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; only failures wait for it.
const LONG: Duration = Duration::from_secs(30);
/// For what must run into its end.
const SHORT: Duration = Duration::from_millis(200);

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn hosts(names: &[&str]) -> Arc<[HostName]> {
    names.iter().map(|name| host(name)).collect()
}

fn fan_out(names: &[&str]) -> Call {
    Call::FanOut {
        subject: "all".into(),
        payload: "ping".into(),
        hosts: hosts(names),
    }
}

fn direct(name: &str) -> Call {
    Call::Direct {
        host: host(name),
        subject: format!("one.{name}"),
        payload: "ping".into(),
    }
}

fn answered() -> CallResult {
    CallResult::Answered(Bytes::from_static(b"pong"))
}

async fn bus(server: &NatsServer) -> Bus {
    let bus = connect(&server.args(), Identity::service("publisher"))
        .await
        .unwrap();
    bus.reach(LONG).await.unwrap();
    bus
}

async fn transport(server: &NatsServer) -> (Bus, Transport) {
    let bus = bus(server).await;
    let (transport, invoking) = Transport::start(bus.clone(), "pub7").await.unwrap();
    tokio::spawn(invoking.watch(CancellationToken::new()));
    (bus, transport)
}

/// Hosts on one connection, each answering everything `times` over.
async fn answer(server: &NatsServer, names: &[&str], times: usize) -> Bus {
    let bus = bus(server).await;
    for name in names {
        let host = host(name);
        let all = bus.subscribe("all", LONG).await.unwrap();
        let one = bus.subscribe(format!("one.{name}"), LONG).await.unwrap();
        let client = bus.client().clone();
        tokio::spawn(async move {
            let mut requests = futures_util::stream::select(all, one);
            while let Some(request) = requests.next().await {
                let subject = answer_subject(&request.reply.unwrap(), &host).unwrap();
                for _ in 0..times {
                    client
                        .publish(subject.clone(), "pong".into())
                        .await
                        .unwrap();
                }
            }
        });
    }
    bus
}

async fn send(
    transport: &Transport,
    deadline: Duration,
    calls: Vec<Call>,
) -> BTreeMap<(usize, String), CallResult> {
    let outcomes = transport.send(Batch { deadline, calls }).all().await;
    let count = outcomes.len();
    let by_host: BTreeMap<_, _> = outcomes
        .into_iter()
        .map(|Outcome { host, call, result }| ((call, host.to_string()), result))
        .collect();
    assert_eq!(by_host.len(), count, "two outcomes for one host");
    by_host
}

fn expect<const N: usize>(
    outcomes: [(usize, &str, CallResult); N],
) -> BTreeMap<(usize, String), CallResult> {
    outcomes
        .into_iter()
        .map(|(call, name, result)| ((call, name.to_owned()), result))
        .collect()
}

#[tokio::test]
async fn hosts_answer_to_one_message_or_to_their_own() {
    let server = NatsServer::start().unwrap();
    let (_bus, transport) = transport(&server).await;
    let _hosts = answer(&server, &["h1", "h2"], 1).await;
    let outcomes = send(
        &transport,
        LONG,
        vec![fan_out(&["h1", "h2"]), direct("h2"), fan_out(&[])],
    )
    .await;
    assert_eq!(
        outcomes,
        expect([
            (0, "h1", answered()),
            (0, "h2", answered()),
            (1, "h2", answered())
        ])
    );
}

#[tokio::test]
async fn absent_hosts_end_at_once_where_the_server_knows_and_at_the_deadline_where_not() {
    let server = NatsServer::start().unwrap();
    let (_bus, transport) = transport(&server).await;
    let nobody = send(&transport, LONG, vec![fan_out(&["h1", "h2"]), direct("h1")]).await;
    let none = || CallResult::NoResponder;
    assert_eq!(
        nobody,
        expect([(0, "h1", none()), (0, "h2", none()), (1, "h1", none())])
    );

    let _hosts = answer(&server, &["h1"], 1).await;
    let some = send(&transport, SHORT, vec![fan_out(&["h1", "h2"])]).await;
    assert_eq!(
        some,
        expect([(0, "h1", answered()), (0, "h2", CallResult::TimedOut)])
    );
}

#[tokio::test]
async fn replies_that_nobody_waits_for_change_nothing_and_are_counted() {
    let server = NatsServer::start().unwrap();
    let (bus, transport) = transport(&server).await;
    let hosts = answer(&server, &["h1", "h2"], 3).await;
    let outcomes = send(&transport, SHORT, vec![fan_out(&["h1", "h3"])]).await;
    assert_eq!(
        outcomes,
        expect([(0, "h1", answered()), (0, "h3", CallResult::TimedOut)])
    );
    // Of three from h1 one counts; h2 wasn't asked; and no host is called all.
    hosts
        .publish("dvs.v1.reply.all.pub7.0", "forged".into())
        .await
        .unwrap();
    hosts
        .publish("dvs.v1.reply.h1.pub7.99", "foreign".into())
        .await
        .unwrap();
    hosts
        .publish("dvs.v1.reply.h1.pub7.x", "no number".into())
        .await
        .unwrap();
    hosts.round_trip(LONG).await.unwrap();
    send(&transport, LONG, vec![direct("h1")]).await;
    assert!(
        bus.counters().ignored_replies() >= 8,
        "{}",
        bus.counters().ignored_replies()
    );
}

#[tokio::test]
async fn without_a_server_nothing_is_sent_and_with_it_back_all_is() {
    let mut server = NatsServer::start().unwrap();
    let (bus, transport) = transport(&server).await;
    server.stop().unwrap();
    let mut connected = bus.connected();
    connected.wait_for(|is| !*is).await.unwrap();
    let outcomes = send(&transport, LONG, vec![fan_out(&["h1"]), direct("h2")]).await;
    assert_eq!(outcomes.len(), 2);
    for result in outcomes.values() {
        assert!(
            matches!(result, CallResult::NotSent(reason) if reason.contains("no connection")),
            "{result:?}"
        );
    }

    server.restart().unwrap();
    bus.reach(LONG).await.unwrap();
    let _hosts = answer(&server, &["h1", "h2"], 1).await;
    let outcomes = send(&transport, LONG, vec![fan_out(&["h1"]), direct("h2")]).await;
    assert_eq!(
        outcomes,
        expect([(0, "h1", answered()), (1, "h2", answered())])
    );
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_leaves_no_host_without_an_outcome() {
    let mut server = NatsServer::start().unwrap();
    let (_bus, transport) = transport(&server).await;
    let _hosts = answer(&server, &["h1"], 1).await;
    let silent = bus(&server).await;
    let mut heard = silent.subscribe("all", LONG).await.unwrap();
    let mut outcomes = transport.send(Batch {
        deadline: Duration::from_secs(1),
        calls: vec![fan_out(&["h1", "h2"])],
    });
    heard.next().await.unwrap();
    assert_eq!(outcomes.next().await.unwrap().len(), 1);
    server.stop().unwrap();
    let last = Outcome {
        host: host("h2"),
        call: 0,
        result: CallResult::TimedOut,
    };
    assert_eq!(outcomes.all().await, [last]);
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_not_sent_and_the_rest_is() {
    let server = NatsServer::with_config("max_payload: 1000").unwrap();
    let (_bus, transport) = transport(&server).await;
    let _hosts = answer(&server, &["h1", "h2"], 1).await;
    let large = Call::Direct {
        host: host("h1"),
        subject: "one.h1".into(),
        payload: vec![0; 2000].into(),
    };
    let outcomes = send(&transport, LONG, vec![large, direct("h2")]).await;
    assert!(
        matches!(&outcomes[&(0, "h1".into())], CallResult::NotSent(reason) if reason.contains("max_payload of 1000"))
    );
    assert_eq!(outcomes[&(1, "h2".into())], answered());
}

#[tokio::test]
async fn a_batch_is_finished_after_its_sender_is_gone() {
    let server = NatsServer::start().unwrap();
    let (bus, transport) = transport(&server).await;
    let _hosts = answer(&server, &["h1"], 1).await;
    let outcomes = transport.send(Batch {
        deadline: LONG,
        calls: vec![direct("h1")],
    });
    drop((transport, bus));
    assert_eq!(outcomes.all().await.len(), 1);
}

#[tokio::test]
async fn who_stops_listening_disturbs_nobody() {
    let server = NatsServer::start().unwrap();
    let (_bus, transport) = transport(&server).await;
    let _hosts = answer(&server, &["h1"], 1).await;
    drop(transport.send(Batch {
        deadline: LONG,
        calls: vec![fan_out(&["h1", "h2"])],
    }));
    let outcomes = send(&transport, LONG, vec![direct("h1")]).await;
    assert_eq!(outcomes, expect([(0, "h1", answered())]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_answers_in_a_burst_all_arrive() {
    let server = NatsServer::start().unwrap();
    let (bus, transport) = transport(&server).await;
    let names: Arc<[HostName]> = (0..10_000).map(|n| host(&format!("h{n}"))).collect();
    let hosts = self::bus(&server).await;
    let mut heard = hosts.subscribe("all", LONG).await.unwrap();
    let call = Call::FanOut {
        subject: "all".into(),
        payload: "ping".into(),
        hosts: names.clone(),
    };
    let outcomes = transport.send(Batch {
        deadline: LONG,
        calls: vec![call],
    });
    let reply = heard.next().await.unwrap().reply.unwrap();
    for name in names.iter() {
        hosts
            .publish(answer_subject(&reply, name).unwrap(), "pong".into())
            .await
            .unwrap();
    }
    let outcomes = outcomes.all().await;
    assert_eq!(outcomes.len(), names.len());
    assert!(outcomes.iter().all(|outcome| outcome.result == answered()));
    assert_eq!(
        (
            bus.counters().slow_consumers(),
            bus.counters().ignored_replies()
        ),
        (0, 0)
    );
}
