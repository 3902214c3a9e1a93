// SPDX-License-Identifier: Apache-2.0
//! Health and metrics over HTTP, with a real bus that goes and comes back.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dvs_daemon::{Daemon, LogFormat, STOP_LIMIT, Settings, healthcheck};
use dvs_transport::testing::NatsServer;
use dvs_transport::{Bus, ConnectArgs, Identity, connect};

fn settings() -> Settings {
    Settings {
        data: "unused".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        log: "info".into(),
        log_format: LogFormat::Text,
    }
}

async fn daemon() -> Daemon {
    Daemon::start("retry", "0.1.0", settings()).await.unwrap()
}

/// Status and body.
async fn get(daemon: &Daemon, path: &'static str) -> (u16, String) {
    let address = daemon.listening();
    let ask = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

async fn check(daemon: &Daemon) -> Result<(), String> {
    let address = daemon.listening();
    let check = move || healthcheck(address).map_err(|error| format!("{error:#}"));
    tokio::task::spawn_blocking(check).await.unwrap()
}

async fn until_ready_is(daemon: &Daemon, ready: bool) {
    let met = async {
        while daemon.health().readiness().ready != ready {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), met)
        .await
        .unwrap();
}

async fn bus(server: &NatsServer) -> Bus {
    connect(&server.args(), Identity::service("retry"))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_service_is_not_ready_before_its_start_is_over() {
    let daemon = daemon().await;
    let (status, text) = get(&daemon, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("no service: starting"), "{text}");
    daemon.started();
    assert_eq!(get(&daemon, "/readyz").await, (200, String::new()));
}

#[tokio::test]
async fn readiness_names_the_subscription_that_is_refused() {
    let server = NatsServer::with_config(
        r#"authorization { users: [ { user: retry, password: secret, permissions: {
            publish: ">", subscribe: { allow: ">", deny: ["dvs.v1.retry.list"] } } } ] }"#,
    )
    .unwrap();
    let daemon = daemon().await;
    let args = ConnectArgs {
        server: Some(format!("nats://retry:secret@127.0.0.1:{}", server.port())),
        ..ConnectArgs::default()
    };
    let bus = connect(&args, Identity::service("retry")).await.unwrap();
    daemon.watch_bus(&bus);
    daemon.started();
    until_ready_is(&daemon, true).await;
    let _heard = bus.client().subscribe("dvs.v1.retry.list").await.unwrap();
    until_ready_is(&daemon, false).await;
    let error = check(&daemon).await.unwrap_err();
    assert!(
        error.contains("refuses the subscription to dvs.v1.retry.list"),
        "{error}"
    );
}

#[tokio::test]
async fn readiness_follows_the_bus_and_says_why_not() {
    let mut server = NatsServer::start().unwrap();
    server.stop().unwrap();
    let daemon = daemon().await;
    let bus = bus(&server).await;
    daemon.watch_bus(&bus);
    daemon.started();
    let (status, text) = get(&daemon, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("no bus: "), "{text}");
    assert_eq!(get(&daemon, "/healthz").await, (200, "ok\n".into()));

    server.restart().unwrap();
    until_ready_is(&daemon, true).await;
    assert_eq!(get(&daemon, "/readyz").await, (200, "ok bus\n".into()));
    assert_eq!(check(&daemon).await, Ok(()));

    server.stop().unwrap();
    until_ready_is(&daemon, false).await;
    let error = check(&daemon).await.unwrap_err();
    assert!(
        error.contains("no connection to NATS at nats://127.0.0.1"),
        "{error}"
    );
}

#[tokio::test]
async fn metrics_show_the_families_of_every_service() {
    let server = NatsServer::start().unwrap();
    let daemon = daemon().await;
    let bus = bus(&server).await;
    bus.reach(Duration::from_secs(30)).await.unwrap();
    daemon.watch_bus(&bus);
    daemon.metrics().gauge("dvs_retry_entries", "Entries", || 7);
    let (status, text) = get(&daemon, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "dvs_bus_connected 1",
        "dvs_bus_reconnects_total 0",
        "dvs_bus_slow_consumers_total 0",
        "dvs_ledger_commits_total 0",
        "dvs_ledger_commit_seconds_count 0",
        "dvs_retry_entries 7",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[tokio::test]
async fn a_stopping_service_says_so() {
    let daemon = daemon().await;
    daemon.started();
    assert_eq!(check(&daemon).await, Ok(()));
    daemon.stop();
    daemon.stopping().await;
    let error = check(&daemon).await.unwrap_err();
    assert!(error.ends_with("no service: stopping"), "{error}");
}

/// Time runs as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn callers_that_say_nothing_are_sent_away_and_keep_nobody_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let daemon = daemon().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let stream = tokio::net::TcpStream::connect(daemon.listening()).await;
        silent.push(stream.unwrap());
    }
    let mut caller = tokio::net::TcpStream::connect(daemon.listening())
        .await
        .unwrap();
    caller
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn without_a_service_the_check_fails() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = format!("{:#}", healthcheck(address).unwrap_err());
    assert!(
        error.contains(&format!("no service answers on {address}")),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = daemon().await;
    let settings = Settings {
        listen: first.listening(),
        ..settings()
    };
    let error = format!(
        "{:#}",
        Daemon::start("retry", "0.1.0", settings).await.unwrap_err()
    );
    assert!(
        error.contains(&first.listening().to_string()) && error.contains("--listen"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_left_and_the_rest_of_the_stop_still_happens() {
    let daemon = daemon().await;
    let began = tokio::time::Instant::now();
    daemon.stop();
    assert_eq!(daemon.step("first", async { 1 }).await, Some(1));
    assert_eq!(
        daemon.step("hangs", std::future::pending::<()>()).await,
        None
    );
    assert_eq!(daemon.step("last", async { 2 }).await, Some(2));
    assert!(began.elapsed() < STOP_LIMIT);
}
