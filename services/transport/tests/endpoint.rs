// SPDX-License-Identifier: Apache-2.0
//! The edge of a service on a real nats-server, asked as the `nats` command
//! line asks: answers in kind, problems that say what is wrong, statistics,
//! server restarts, and the stop.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use dvs_schemas::codec::{Format, decode};
use dvs_schemas::problem::{Problem, ProblemBody, ProblemCode};
use dvs_transport::endpoint::{Description, Endpoint, Request, Requests, Service};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, BusError, Identity, connect};
use serde_json::{Value, json};

/// Longer than anything here takes; only failures wait for it.
const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Echo,
    Refuse,
    Flood,
}

async fn bus(server: &NatsServer) -> Bus {
    let bus = connect(&server.args(), Identity::service("retry"))
        .await
        .unwrap();
    bus.reach(LONG).await.unwrap();
    bus
}

async fn start(bus: &Bus) -> (Service, Requests<Asked>) {
    let description = Description {
        name: "retry".into(),
        version: "0.1.0".into(),
        description: "queues".into(),
        metadata: HashMap::from([("host".into(), "here".into())]),
    };
    let endpoint = |id, subject| Endpoint {
        id,
        subject,
        description: "for tests",
    };
    let endpoints = vec![
        endpoint(Asked::Echo, "dvs.v1.test.echo"),
        endpoint(Asked::Refuse, "dvs.v1.test.refuse"),
        endpoint(Asked::Flood, "dvs.v1.test.flood"),
    ];
    let started = Service::start(bus, description, endpoints).await.unwrap();
    bus.round_trip(LONG).await.unwrap();
    started
}

async fn answer(request: Request<Asked>) {
    let Request {
        endpoint,
        payload,
        responder,
    } = request;
    let sent = match endpoint {
        Asked::Echo => responder.respond(Ok(payload)).await,
        Asked::Refuse => {
            let problem = Problem::invalid(format!("two\r\nlines {}", "and more ".repeat(200)));
            responder.respond_with::<()>(Err(problem)).await
        }
        Asked::Flood => responder.respond(Ok(vec![b' '; 1_000_000].into())).await,
    };
    sent.unwrap();
}

fn serve(mut requests: Requests<Asked>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            answer(request).await;
        }
    })
}

async fn ask(bus: &Bus, subject: &'static str, payload: &'static [u8]) -> Message {
    bus.request(subject, Bytes::from_static(payload), LONG)
        .await
        .unwrap()
}

fn header(message: &Message, name: &str) -> Option<String> {
    Some(message.headers.as_ref()?.get(name)?.as_str().to_owned())
}

fn problem(message: &Message) -> (Format, Problem) {
    let (format, ProblemBody { error }) = decode(&message.payload).unwrap();
    assert_eq!(
        header(message, "Nats-Service-Error-Code"),
        Some(error.code.number().to_string())
    );
    assert!(header(message, "Nats-Service-Error").is_some_and(|text| text.len() <= 2048));
    (format, error)
}

#[tokio::test]
async fn answers_and_problems_come_in_the_format_of_the_request() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (_service, requests) = start(&bus).await;
    serve(requests);
    let echo = ask(&bus, "dvs.v1.test.echo", b"{}").await;
    assert_eq!((echo.payload.as_ref(), echo.headers), (&b"{}"[..], None));

    for (request, format) in [
        (&b"{}"[..], Format::Json),
        (b"\x80", Format::MessagePack),
        (b"?", Format::Json),
    ] {
        let (got, error) = problem(&ask(&bus, "dvs.v1.test.refuse", request).await);
        assert_eq!((got, error.code), (format, ProblemCode::Invalid));
        assert!(error.message.starts_with("two\r\nlines"));
    }
}

/// Many a client shows the header alone.
#[tokio::test]
async fn the_header_of_a_problem_has_all_that_it_says_on_one_line() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (_service, requests) = start(&bus).await;
    serve(requests);
    let answer = ask(&bus, "dvs.v1.test.refuse", b"{}").await;
    let (_, error) = problem(&answer);
    let said = header(&answer, "Nats-Service-Error").unwrap();
    let expected = error.to_string().replace(char::is_control, " ");
    // The library takes off the blanks at a header's end.
    assert_eq!(said, expected.trim_end());
    assert!(said.len() > 80, "{said}");
}

#[tokio::test]
async fn an_answer_or_problem_too_large_for_the_server_becomes_a_small_problem() {
    let server = NatsServer::with_config("max_payload: 1500").unwrap();
    let bus = bus(&server).await;
    let (_service, requests) = start(&bus).await;
    serve(requests);
    let (_, error) = problem(&ask(&bus, "dvs.v1.test.flood", b"{}").await);
    assert_eq!(error.code, ProblemCode::TooLarge);
    assert!(error.message.contains("1000000 bytes"), "{error}");
    let (_, error) = problem(&ask(&bus, "dvs.v1.test.refuse", b"{}").await);
    assert_eq!(error.code, ProblemCode::Invalid);
}

/// 32 MiB hold 33 of these; none is lost without a word.
#[tokio::test]
async fn requests_that_find_no_room_are_told_so_and_the_others_are_answered() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (_service, requests) = start(&bus).await;
    let large = Bytes::from(vec![b' '; 1_000_000]);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (bus, large) = (bus.clone(), large.clone());
        asked.spawn(async move { bus.request("dvs.v1.test.echo", large, LONG).await.unwrap() });
    }
    for _ in 33..40 {
        let (_, busy) = problem(&asked.join_next().await.unwrap().unwrap());
        assert_eq!(busy.code, ProblemCode::Unavailable);
        assert!(busy.message.contains("32 MiB"), "{busy}");
    }
    serve(requests);
    for answer in asked.join_all().await {
        assert_eq!(answer.payload, large);
    }
    // With the answers, the room is there again.
    let again = bus.request("dvs.v1.test.echo", large.clone(), LONG).await;
    assert_eq!(again.unwrap().payload, large);
}

async fn service_answer(bus: &Bus, verb: &'static str) -> Value {
    serde_json::from_slice(&ask(bus, verb, b"").await.payload).unwrap()
}

#[tokio::test]
async fn a_service_tells_of_itself_and_counts_its_problems() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (_service, requests) = start(&bus).await;
    serve(requests);
    ask(&bus, "dvs.v1.test.echo", b"{}").await;
    ask(&bus, "dvs.v1.test.refuse", b"{}").await;
    // Published, not asked: counted, and answered to nobody.
    bus.publish("dvs.v1.test.echo", "{}".into()).await.unwrap();
    ask(&bus, "dvs.v1.test.echo", b"{}").await;

    let ping = service_answer(&bus, "$SRV.PING.retry").await;
    assert_eq!(
        (&ping["name"], &ping["metadata"]),
        (&json!("retry"), &json!({"host": "here"}))
    );
    let info = service_answer(&bus, "$SRV.INFO").await;
    assert_eq!(info["endpoints"][2]["subject"], "dvs.v1.test.flood");
    let stats = service_answer(&bus, "$SRV.STATS.retry").await;
    let counts: Vec<_> = stats["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| {
            (
                endpoint["num_requests"].as_u64(),
                endpoint["num_errors"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        counts,
        [(Some(3), Some(0)), (Some(1), Some(1)), (Some(0), Some(0))]
    );
}

#[tokio::test]
async fn a_service_started_without_a_server_answers_when_it_comes_and_after_restarts() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let bus = connect(&server.args(), Identity::service("retry"))
        .await
        .unwrap();
    let description = Description {
        name: "retry".into(),
        version: "0.1.0".into(),
        description: String::new(),
        metadata: HashMap::new(),
    };
    let endpoints = vec![Endpoint {
        id: Asked::Echo,
        subject: "dvs.v1.test.echo",
        description: "",
    }];
    let (_service, requests) = Service::start(&bus, description, endpoints).await.unwrap();
    serve(requests);
    for _ in 0..3 {
        server.restart().unwrap();
        // The connection of another program: it sees what the server knows.
        let asker = self::bus(&server).await;
        bus.reach(LONG).await.unwrap();
        bus.round_trip(LONG).await.unwrap();
        assert_eq!(ask(&asker, "dvs.v1.test.echo", b"{}").await.payload, "{}");
        service_answer(&asker, "$SRV.PING").await;
        let mut connected = bus.connected();
        server.stop().unwrap();
        connected.wait_for(|is| !*is).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_service_answers_what_is_on_the_way_and_nothing_more() {
    let server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (service, mut requests) = start(&bus).await;
    let asking = tokio::spawn({
        let bus = bus.clone();
        async move { ask(&bus, "dvs.v1.test.echo", b"{}").await }
    });
    let first = requests.next().await.unwrap();
    service.stop();
    let served = serve(requests);
    answer(first).await;
    assert_eq!(asking.await.unwrap().payload, "{}");
    served.await.unwrap();
    bus.round_trip(LONG).await.unwrap();
    for subject in ["dvs.v1.test.echo", "$SRV.PING", "$SRV.INFO.retry"] {
        let gone = bus.request(subject, Bytes::new(), LONG).await.unwrap_err();
        assert_eq!(
            gone,
            BusError::NoResponder {
                subject: subject.into()
            }
        );
    }
}

#[tokio::test]
async fn a_service_stops_in_bounded_time_without_a_server() {
    let mut server = NatsServer::start().unwrap();
    let bus = bus(&server).await;
    let (service, requests) = start(&bus).await;
    server.stop().unwrap();
    let mut connected = bus.connected();
    connected.wait_for(|is| !*is).await.unwrap();
    service.stop();
    serve(requests).await.unwrap();
    bus.close(Duration::from_secs(1)).await;
}
